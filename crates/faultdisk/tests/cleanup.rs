//! Nothing is left behind, whichever process dies and however many reads hang.

mod common;

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use common::{EIO, TIMEOUT, eventually, open, outcome, read, read_in_thread};
use pathpulse_faultdisk::{Behaviour, Load, Rig, Spec, require};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, pidfd_open, pidfd_send_signal, waitid,
};

/// A process of a rig, identified by a pidfd, so that a reused pid does no harm.
struct Pinned(OwnedFd);

impl Pinned {
    fn new(pid: u32) -> Self {
        let pid = i32::try_from(pid)
            .ok()
            .and_then(Pid::from_raw)
            .expect("a pid");
        Self(pidfd_open(pid, PidfdFlags::empty()).expect("the process lives"))
    }

    fn send(&self, signal: Signal) {
        pidfd_send_signal(&self.0, signal).expect("the process lives");
    }

    /// Stops all threads of a child of this process.
    fn stop(&self) {
        self.send(Signal::STOP);
        waitid(WaitId::PidFd(self.0.as_fd()), WaitIdOptions::STOPPED).expect("it stops");
    }

    /// Waits until the process and all its threads have ended: none is left in D state.
    fn wait_end(&self) {
        let timeout = Timespec {
            tv_sec: TIMEOUT.as_secs().cast_signed(),
            tv_nsec: 0,
        };
        let ended = poll(&mut [PollFd::new(&self.0, PollFlags::IN)], Some(&timeout)).expect("poll");
        assert_eq!(ended, 1, "the process still runs, or hangs");
    }
}

/// Everything that a rig has on the system.
struct RigRemains {
    supervisor: Pinned,
    server: Pinned,
    loads: Vec<Pinned>,
    folder: PathBuf,
    devices: Vec<PathBuf>,
}

impl RigRemains {
    fn of(supervisor: u32, server: u32, folder: PathBuf, devices: Vec<PathBuf>) -> Self {
        let loads = devices
            .iter()
            .flat_map(|device| loads_of(device))
            .map(Pinned::new)
            .collect();
        let remains = Self {
            supervisor: Pinned::new(supervisor),
            server: Pinned::new(server),
            loads,
            folder,
            devices,
        };
        assert!(
            remains.mounted() && remains.folder.exists(),
            "the rig exists at first"
        );
        assert!(remains.devices.iter().all(|device| sysfs(device).exists()));
        remains
    }

    fn of_rig(rig: &Rig) -> Self {
        let devices = rig
            .disks()
            .iter()
            .map(|disk| disk.path().to_path_buf())
            .collect();
        Self::of(
            rig.pids().supervisor,
            rig.pids().server,
            rig.folder().to_path_buf(),
            devices,
        )
    }

    fn mounted(&self) -> bool {
        let folder = self.folder.to_str().expect("text");
        std::fs::read_to_string("/proc/self/mounts")
            .expect("mounts")
            .contains(&format!(" {folder}/"))
    }

    /// Waits until all processes have ended. The last one has cleaned up.
    fn assert_gone(&self) {
        [&self.supervisor, &self.server]
            .into_iter()
            .chain(&self.loads)
            .for_each(Pinned::wait_end);
        assert!(!self.mounted());
        assert!(!self.folder.exists());
        for device in &self.devices {
            // Not at once: a rig of another test may have got the number in the meantime.
            let gone = eventually(|| !sysfs(device).exists() && !device.exists());
            assert!(gone, "{} is left", device.display());
        }
    }
}

fn sysfs(device: &Path) -> PathBuf {
    Path::new("/sys/block").join(device.file_name().expect("a name"))
}

/// The processes with this device among their arguments.
fn loads_of(device: &Path) -> Vec<u32> {
    let device = device.to_str().expect("text").as_bytes().to_vec();
    let processes = std::fs::read_dir("/proc").expect("/proc").flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let has_it = |pid: &u32| {
        let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        command.split(|byte| *byte == 0).any(|arg| arg == device)
    };
    pids.filter(has_it).collect()
}

/// Set in the environment of a process that runs `the_user`.
const AS_USER: &str = "FAULTDISK_TEST_AS_USER";

/// A process like those of pathpulse's tests. Its rig has a dead, a busy and a hanging disk, and
/// its own threads wait, in D state, for reads that will not end.
#[test]
fn the_user() {
    if std::env::var_os(AS_USER).is_none() {
        return; // Run as an ordinary test, nobody would end it.
    }
    let rig = Rig::start(&Spec::loops(3)).expect("start a rig");
    rig.saturate(0, Load::Dead).expect("saturate");
    rig.saturate(
        1,
        Load::Busy {
            answer_every: Duration::from_millis(5),
        },
    )
    .expect("saturate");
    rig.set(2, Behaviour::Hang).expect("set");
    let file = open(rig.disk(2).path());
    let reads: Vec<_> = (0..4).map(|block| read_in_thread(&file, block)).collect();
    rig.wait_held(2, 4, TIMEOUT).expect("held");
    let mut line = format!(
        "rig {} {} {}",
        rig.pids().supervisor,
        rig.pids().server,
        rig.folder().display()
    );
    rig.disks()
        .iter()
        .for_each(|disk| line = format!("{line} {}", disk.path().display()));
    writeln!(std::io::stdout(), "\n{line}").expect("write to the other test");
    let _ = read(&file, 5);
    drop(reads);
}

/// Starts `the_user` and waits until its rig is complete.
fn start_user() -> (Child, RigRemains) {
    let mut command = Command::new(std::env::current_exe().expect("own path"));
    command
        .args(["--exact", "the_user", "--nocapture"])
        .env(AS_USER, "1")
        .stdout(Stdio::piped());
    let mut user = command.spawn().expect("start the user");
    let mut output = BufReader::new(user.stdout.take().expect("a pipe"));
    let line = output
        .by_ref()
        .lines()
        .map(|line| line.expect("text"))
        .find(|line| line.starts_with("rig "));
    user.stdout = Some(output.into_inner()); // It may write more.
    let line = line.expect("the user's rig");
    let words: Vec<&str> = line.split(' ').skip(1).collect();
    let [supervisor, server, folder, devices @ ..] = words.as_slice() else {
        panic!("unexpected {line}")
    };
    let pid = |text: &str| text.parse().expect("a pid");
    let devices = devices.iter().map(PathBuf::from).collect();
    let remains = RigRemains::of(pid(supervisor), pid(server), folder.into(), devices);
    assert_eq!(remains.loads.len(), 2);
    (user, remains)
}

#[test]
fn a_killed_user_with_hanging_threads_leaves_nothing() {
    require!();
    let (mut user, remains) = start_user();
    let pinned = Pinned::new(user.id());
    pinned.send(Signal::KILL);
    pinned.wait_end();
    user.wait().expect("reap it");
    remains.assert_gone();
}

#[test]
fn a_killed_server_leaves_nothing() {
    require!();
    let (mut user, remains) = start_user();
    remains.server.send(Signal::KILL);
    user.wait().expect("its reads end, so it ends");
    remains.assert_gone();
}

#[test]
fn a_killed_supervisor_leaves_nothing() {
    require!();
    let (mut user, remains) = start_user();
    remains.supervisor.send(Signal::KILL);
    user.wait().expect("its reads end, so it ends");
    remains.assert_gone();
}

#[test]
fn a_killed_load_process_breaks_nothing() {
    require!();
    let rig = Rig::start(&Spec::loops(1)).expect("start a rig");
    rig.saturate(0, Load::Dead).expect("saturate");
    let remains = RigRemains::of_rig(&rig);
    remains.loads[0].send(Signal::KILL);
    rig.unsaturate(0).expect("its reads are released");
    read(&open(rig.disk(0).path()), 0).expect("the disk answers");
    rig.shutdown().expect("shut down");
    remains.assert_gone();
}

#[test]
fn held_reads_and_commands_fail_when_the_server_is_killed() {
    require!();
    let rig = Rig::start(&Spec::loops(1)).expect("start a rig");
    let remains = RigRemains::of_rig(&rig);
    rig.set(0, Behaviour::Hang).expect("set");
    let held = read_in_thread(&open(rig.disk(0).path()), 0);
    rig.wait_held(0, 1, TIMEOUT).expect("held");
    remains.server.send(Signal::KILL);
    assert_eq!(
        outcome(&held)
            .expect_err("the server is dead")
            .raw_os_error(),
        Some(EIO)
    );
    remains.assert_gone();
    assert_eq!(
        rig.held(0).expect_err("no rig").kind(),
        std::io::ErrorKind::BrokenPipe
    );
}

#[test]
fn a_shutdown_fails_held_reads_and_leaves_nothing() {
    require!();
    let rig = Rig::start(&Spec::loops(2)).expect("start a rig");
    rig.set(0, Behaviour::Hang).expect("set");
    rig.set(1, Behaviour::Delay(Duration::from_secs(3600)))
        .expect("set");
    let reads = [0, 1].map(|i| read_in_thread(&open(rig.disk(i).path()), 0));
    rig.wait_held(0, 1, TIMEOUT).expect("held");
    rig.wait_arrived(1, 1, TIMEOUT).expect("delayed");
    let remains = RigRemains::of_rig(&rig);
    drop(rig);
    for read in &reads {
        assert_eq!(
            outcome(read).expect_err("the rig is gone").raw_os_error(),
            Some(EIO)
        );
    }
    remains.assert_gone();
}

#[test]
fn a_device_that_outlives_its_rig_is_empty_and_removed_when_closed() {
    require!();
    let rig = Rig::start(&Spec::loops(1)).expect("start a rig");
    let remains = RigRemains::of_rig(&rig);
    let file = open(rig.disk(0).path());
    rig.shutdown().expect("shut down");
    assert!(read(&file, 0).is_err(), "the backing file is gone");
    drop::<File>(file);
    remains.assert_gone();
}

#[test]
fn sweep_removes_a_rig_whose_processes_were_all_killed() {
    require!();
    let rig = Rig::start(&Spec::loops(1)).expect("start a rig");
    let remains = RigRemains::of_rig(&rig);
    remains.supervisor.stop(); // It must not clean up.
    remains.server.send(Signal::KILL);
    remains.server.wait_end();
    remains.supervisor.send(Signal::KILL);
    remains.supervisor.wait_end();
    assert!(remains.mounted(), "the rig is still mounted");
    assert!(
        pathpulse_faultdisk::sweep()
            .expect("sweep")
            .contains(&remains.folder)
    );
    remains.assert_gone();
}

#[test]
fn a_rig_that_cannot_be_built_leaves_nothing() {
    require!();
    let mut spec = Spec::loops(2);
    spec.disks[1].logical_block = 1000;
    let error = Rig::start(&spec).expect_err("no such block size");
    assert!(error.to_string().contains("attaching"), "{error}");
    let folder = error.to_string();
    let folder = folder
        .split(' ')
        .find(|word| word.contains("/mnt/"))
        .expect("a path")
        .to_string();
    assert!(
        !Path::new(folder.trim_end_matches(':'))
            .ancestors()
            .nth(2)
            .expect("the folder")
            .exists()
    );
}
