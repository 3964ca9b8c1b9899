//! Reports when the storage below a directory stalls, and when it answers again.
//!
//! A program with its data in that directory can stop writing in time, before its own threads wait
//! for the device. Only memory is read to find out: the directory itself is touched at the start.
//!
//! ```sh
//! cargo run --example guard_directory -- /var/lib/mysql 2
//! ```

#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "an example prints what it finds")]

use std::error::Error;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pathpulse::{Config, Monitor, PathStatus, Settings};

/// How often the status is read. That takes no lock and makes no I/O.
const PERIOD: Duration = Duration::from_millis(50);

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let directory = arguments
        .next()
        .ok_or("usage: guard_directory DIRECTORY [SECONDS]")?;
    let stall_max = Duration::from_secs(arguments.next().map_or(Ok(2), |text| text.parse())?);

    let device = device_below(Path::new(&directory))?;
    println!("{directory} is on {}", device.display());
    let config = Config {
        settings: Settings {
            interval: Duration::from_millis(500),
            timeout: stall_max,
            ..Settings::default()
        },
        ..Config::default()
    };
    let monitor = Monitor::start(config)?;
    let id = monitor.add(&device)?;

    let mut was_stalled = false;
    while let Some(status) = monitor.path(id) {
        let is_stalled = is_stalled(&status, stall_max);
        if is_stalled != was_stalled {
            let state = status.state;
            match is_stalled {
                true => println!("{directory}: stalled, {} is {state}", device.display()),
                false => println!("{directory}: answers again"),
            }
            was_stalled = is_stalled;
        }
        std::thread::sleep(PERIOD);
    }
    Ok(())
}

/// Whether the device owes an answer for too long, or nobody knows.
fn is_stalled(status: &PathStatus, stall_max: Duration) -> bool {
    status.overdue || status.unanswered.is_some_and(|time| time > stall_max)
}

/// The block device that the file system of this directory is on.
fn device_below(directory: &Path) -> Result<PathBuf, Box<dyn Error>> {
    let number = fs::metadata(directory)?.dev();
    let (major, minor) = (rustix::fs::major(number), rustix::fs::minor(number));
    let about = PathBuf::from(format!("/sys/dev/block/{major}:{minor}/uevent"));
    let about = fs::read_to_string(&about).map_err(|_| {
        // tmpfs and NFS are on no block device; btrfs may be on many.
        let directory = directory.display();
        format!("{directory} is on no single block device: watch a file in it instead")
    })?;
    let name = about.lines().find_map(|line| line.strip_prefix("DEVNAME="));
    Ok(Path::new("/dev").join(name.ok_or("the kernel does not name the device")?))
}
