//! Whoever dies, however much hangs: nothing is left.

mod common;

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use common::{EIO, PATIENCE, eventually, open, outcome, read, read_elsewhere};
use pathpulse_faultdisk::{Behaviour, Load, Rig, Spec, require};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, pidfd_open, pidfd_send_signal, waitid,
};

/// A process of a rig, pinned: its pid cannot come to mean another one.
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

    /// Waits until the process has ended, all of its threads included: none of them is left in D state then.
    fn wait_end(&self) {
        let timeout = Timespec {
            tv_sec: PATIENCE.as_secs().cast_signed(),
            tv_nsec: 0,
        };
        let ended = poll(&mut [PollFd::new(&self.0, PollFlags::IN)], Some(&timeout)).expect("poll");
        assert_eq!(ended, 1, "the process still runs, or hangs");
    }
}

/// All that a rig has on the system.
struct Traces {
    janitor: Pinned,
    server: Pinned,
    loads: Vec<Pinned>,
    folder: PathBuf,
    devices: Vec<PathBuf>,
}

impl Traces {
    fn of(janitor: u32, server: u32, folder: PathBuf, devices: Vec<PathBuf>) -> Self {
        let loads = devices
            .iter()
            .flat_map(|device| loads_of(device))
            .map(Pinned::new)
            .collect();
        let traces = Self {
            janitor: Pinned::new(janitor),
            server: Pinned::new(server),
            loads,
            folder,
            devices,
        };
        assert!(
            traces.mounted() && traces.folder.exists(),
            "the rig was there to begin with"
        );
        assert!(traces.devices.iter().all(|device| sysfs(device).exists()));
        traces
    }

    fn of_rig(rig: &Rig) -> Self {
        let devices = rig
            .disks()
            .iter()
            .map(|disk| disk.path().to_path_buf())
            .collect();
        Self::of(
            rig.pids().janitor,
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

    /// Waits until all processes have ended, the last of which has cleaned up.
    fn assert_gone(&self) {
        [&self.janitor, &self.server]
            .into_iter()
            .chain(&self.loads)
            .for_each(Pinned::wait_end);
        assert!(!self.mounted());
        assert!(!self.folder.exists());
        for device in &self.devices {
            // Not at once: meanwhile a rig of another test may have been given the number.
            let gone = eventually(|| !sysfs(device).exists() && !device.exists());
            assert!(gone, "{} is left", device.display());
        }
    }
}

fn sysfs(device: &Path) -> PathBuf {
    Path::new("/sys/block").join(device.file_name().expect("a name"))
}

/// The processes that have this device among their arguments.
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

/// Set in the environment of a process that is started to be `the_user`.
const AS_USER: &str = "FAULTDISK_TEST_AS_USER";

/// A process like one that pathpulse's tests run in: its rig has a dead, a busy and a hanging disk, and its own threads
/// wait, in D state, for reads that will not end.
#[test]
fn the_user() {
    if std::env::var_os(AS_USER).is_none() {
        return; // run as a test among the others: nobody would end it
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
    let reads: Vec<_> = (0..4).map(|block| read_elsewhere(&file, block)).collect();
    rig.wait_held(2, 4, PATIENCE).expect("held");
    let mut line = format!(
        "rig {} {} {}",
        rig.pids().janitor,
        rig.pids().server,
        rig.folder().display()
    );
    rig.disks()
        .iter()
        .for_each(|disk| line = format!("{line} {}", disk.path().display()));
    writeln!(std::io::stdout(), "\n{line}").expect("tell the other test");
    let _ = read(&file, 5);
    drop(reads);
}

/// Starts `the_user` and waits until it has all it wants.
fn start_user() -> (Child, Traces) {
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
    user.stdout = Some(output.into_inner()); // it may want to say more
    let line = line.expect("the user's rig");
    let words: Vec<&str> = line.split(' ').skip(1).collect();
    let [janitor, server, folder, devices @ ..] = words.as_slice() else {
        panic!("unexpected {line}")
    };
    let pid = |text: &str| text.parse().expect("a pid");
    let devices = devices.iter().map(PathBuf::from).collect();
    let traces = Traces::of(pid(janitor), pid(server), folder.into(), devices);
    assert_eq!(traces.loads.len(), 2);
    (user, traces)
}

#[test]
fn a_killed_user_leaves_nothing_though_its_threads_hang() {
    require!();
    let (mut user, traces) = start_user();
    let pinned = Pinned::new(user.id());
    pinned.send(Signal::KILL);
    pinned.wait_end();
    user.wait().expect("reap it");
    traces.assert_gone();
}

#[test]
fn a_killed_server_leaves_nothing() {
    require!();
    let (mut user, traces) = start_user();
    traces.server.send(Signal::KILL);
    user.wait().expect("its reads end, and so does it");
    traces.assert_gone();
}

#[test]
fn a_killed_janitor_leaves_nothing() {
    require!();
    let (mut user, traces) = start_user();
    traces.janitor.send(Signal::KILL);
    user.wait().expect("its reads end, and so does it");
    traces.assert_gone();
}

#[test]
fn a_killed_load_process_does_no_harm() {
    require!();
    let rig = Rig::start(&Spec::loops(1)).expect("start a rig");
    rig.saturate(0, Load::Dead).expect("saturate");
    let traces = Traces::of_rig(&rig);
    traces.loads[0].send(Signal::KILL);
    rig.unsaturate(0).expect("its reads are released");
    read(&open(rig.disk(0).path()), 0).expect("the disk answers");
    rig.shutdown().expect("shut down");
    traces.assert_gone();
}

#[test]
fn held_reads_fail_when_the_server_is_killed_and_so_do_commands() {
    require!();
    let rig = Rig::start(&Spec::loops(1)).expect("start a rig");
    let traces = Traces::of_rig(&rig);
    rig.set(0, Behaviour::Hang).expect("set");
    let held = read_elsewhere(&open(rig.disk(0).path()), 0);
    rig.wait_held(0, 1, PATIENCE).expect("held");
    traces.server.send(Signal::KILL);
    assert_eq!(
        outcome(&held)
            .expect_err("the server is dead")
            .raw_os_error(),
        Some(EIO)
    );
    traces.assert_gone();
    assert_eq!(
        rig.held(0).expect_err("no rig").kind(),
        std::io::ErrorKind::BrokenPipe
    );
}

#[test]
fn shutting_down_fails_what_is_held_and_leaves_nothing() {
    require!();
    let rig = Rig::start(&Spec::loops(2)).expect("start a rig");
    rig.set(0, Behaviour::Hang).expect("set");
    rig.set(1, Behaviour::Delay(Duration::from_secs(3600)))
        .expect("set");
    let reads = [0, 1].map(|i| read_elsewhere(&open(rig.disk(i).path()), 0));
    rig.wait_held(0, 1, PATIENCE).expect("held");
    rig.wait_arrived(1, 1, PATIENCE).expect("delayed");
    let traces = Traces::of_rig(&rig);
    drop(rig);
    for read in &reads {
        assert_eq!(
            outcome(read).expect_err("the rig is gone").raw_os_error(),
            Some(EIO)
        );
    }
    traces.assert_gone();
}

#[test]
fn a_device_that_outlives_its_rig_is_empty_and_removed_when_closed() {
    require!();
    let rig = Rig::start(&Spec::loops(1)).expect("start a rig");
    let traces = Traces::of_rig(&rig);
    let file = open(rig.disk(0).path());
    rig.shutdown().expect("shut down");
    assert!(
        read(&file, 0).is_err(),
        "there is nothing below it any more"
    );
    drop::<File>(file);
    traces.assert_gone();
}

#[test]
fn what_is_left_when_all_processes_are_killed_can_be_swept() {
    require!();
    let rig = Rig::start(&Spec::loops(1)).expect("start a rig");
    let traces = Traces::of_rig(&rig);
    traces.janitor.stop(); // lest it cleans up
    traces.server.send(Signal::KILL);
    traces.server.wait_end();
    traces.janitor.send(Signal::KILL);
    traces.janitor.wait_end();
    assert!(traces.mounted(), "there is something to sweep");
    assert!(
        pathpulse_faultdisk::sweep()
            .expect("sweep")
            .contains(&traces.folder)
    );
    traces.assert_gone();
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
