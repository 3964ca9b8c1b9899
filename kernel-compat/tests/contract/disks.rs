//! Disks with configurable behaviour: real ones here, simulated ones in `scripted`.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use pathpulse_faultdisk::{Behaviour, DiskSpec, Load, Release, Rig, Spec, Zram};
use pathpulse_kernel_compat::TargetId;
use rustix::process::{Pid, Signal, kill_process};

use crate::child::states;
use crate::fixture::TIMEOUT;

/// The first argument of a process that serves fault disks.
pub(crate) const RIG_ROLE: &str = "serve-rig";

/// The kind of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DiskKind {
    /// A block device that supports RWF_NOWAIT, with 128 tags.
    Loop,
    /// A FUSE file read with O_DIRECT. It does not support RWF_NOWAIT. A read is in flight once the
    /// server has it.
    File,
    /// The same with its own FUSE server, which can be frozen.
    OwnServer,
    /// A block device that does not support RWF_NOWAIT.
    Zram,
}

/// The disks of one scenario, by index.
pub(crate) trait TestDisks {
    /// Opens the disk for reading.
    fn open(&self, disk: usize) -> OwnedFd;
    /// Its path.
    fn path(&self, disk: usize) -> PathBuf;
    /// The descriptor was attached as this target.
    fn attached(&self, disk: usize, target: TargetId);
    /// Sets the behaviour of the disk.
    fn set(&self, disk: usize, behaviour: Behaviour);
    /// Ends the reads that it holds.
    fn release(&self, disk: usize, how: Release);
    /// Takes all its tags, until `unsaturate`.
    fn saturate(&self, disk: usize, load: Load);
    /// Ends the load.
    fn unsaturate(&self, disk: usize);
    /// Ends all its faults, and completes the reads that it holds with data.
    fn recover(&self, disk: usize);
    /// Removes the disk, like a pulled cable.
    fn vanish(&self, disk: usize);
    /// Waits until it holds this many reads.
    fn wait_held(&self, disk: usize, count: usize);
    /// Stops the server of a disk of the kind `OwnServer`, so that it does not even read requests.
    fn freeze(&self, disk: usize);
    /// Continues the server.
    fn thaw(&self, disk: usize);
    /// Violated guarantees to the kernel, if they are checked.
    fn violations(&self) -> Vec<String>;
}

/// Real disks.
pub(crate) struct RealDisks {
    /// One for the disks that share a server, and one for the others, if there are any.
    rigs: Vec<Rig>,
    locations: Vec<DiskLocation>,
    zram: Option<Zram>,
}

#[derive(Clone, Copy)]
enum DiskLocation {
    Rig { rig: usize, index: usize },
    Zram,
}

impl RealDisks {
    /// Creates one disk per kind, at most one of them zram.
    pub(crate) fn start(kinds: &[DiskKind]) -> RealDisks {
        let mut specs = [Spec::loops(0), Spec::loops(0)];
        let mut zram = None;
        let locations = kinds
            .iter()
            .map(|kind| {
                if *kind == DiskKind::Zram {
                    assert!(
                        zram.replace(Zram::create().expect("a zram disk")).is_none(),
                        "one zram disk"
                    );
                    return DiskLocation::Zram;
                }
                let rig = usize::from(*kind == DiskKind::OwnServer);
                specs[rig].disks.push(DiskSpec {
                    loop_device: *kind == DiskKind::Loop,
                    ..DiskSpec::default()
                });
                DiskLocation::Rig {
                    rig,
                    index: specs[rig].disks.len() - 1,
                }
            })
            .collect();
        let used = specs.iter().rposition(|spec| !spec.disks.is_empty());
        let rigs = specs[..used.map_or(0, |last| last + 1)].iter().map(|spec| {
            let mut command = Command::new("/proc/self/exe");
            command.arg(RIG_ROLE);
            Rig::start_with(command, spec).expect("the fault disks start")
        });
        RealDisks {
            rigs: rigs.collect(),
            locations,
            zram,
        }
    }

    fn location(&self, disk: usize) -> (&Rig, usize) {
        match self.locations[disk] {
            DiskLocation::Rig { rig, index } => (&self.rigs[rig], index),
            DiskLocation::Zram => panic!("a zram disk has no faults"),
        }
    }

    fn server(&self, disk: usize) -> u32 {
        self.location(disk).0.pids().server
    }

    fn signal(&self, disk: usize, signal: Signal) {
        let server = self.server(disk);
        let pid = Pid::from_raw(server.cast_signed()).expect("a pid");
        kill_process(pid, signal).expect("a signal to the server");
    }
}

impl TestDisks for RealDisks {
    fn open(&self, disk: usize) -> OwnedFd {
        open(&self.path(disk)).expect("open a disk").into()
    }

    fn path(&self, disk: usize) -> PathBuf {
        match (self.locations[disk], &self.zram) {
            (DiskLocation::Zram, Some(zram)) => zram.path().to_owned(),
            _ => {
                let (rig, index) = self.location(disk);
                rig.disk(index).path().to_owned()
            }
        }
    }

    fn attached(&self, _disk: usize, _target: TargetId) {}

    fn set(&self, disk: usize, behaviour: Behaviour) {
        let (rig, index) = self.location(disk);
        rig.set(index, behaviour).expect("set");
    }

    fn release(&self, disk: usize, how: Release) {
        let (rig, index) = self.location(disk);
        rig.release(index, how).expect("release");
    }

    fn saturate(&self, disk: usize, load: Load) {
        let (rig, index) = self.location(disk);
        rig.saturate(index, load).expect("saturate");
    }

    fn unsaturate(&self, disk: usize) {
        let (rig, index) = self.location(disk);
        rig.unsaturate(index).expect("unsaturate");
    }

    fn recover(&self, disk: usize) {
        let (rig, index) = self.location(disk);
        rig.recover(index).expect("recover");
    }

    fn vanish(&self, disk: usize) {
        let (rig, index) = self.location(disk);
        rig.vanish(index).expect("vanish");
    }

    fn wait_held(&self, disk: usize, count: usize) {
        let (rig, index) = self.location(disk);
        let held = rig.wait_held(index, count, TIMEOUT);
        held.expect("the reads reach the disk");
    }

    fn freeze(&self, disk: usize) {
        self.signal(disk, Signal::STOP);
        // A running thread stops only at its next interrupt.
        while states(self.server(disk)).iter().any(|state| *state != 'T') {
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn thaw(&self, disk: usize) {
        self.signal(disk, Signal::CONT);
    }

    fn violations(&self) -> Vec<String> {
        Vec::new()
    }
}

impl Drop for RealDisks {
    fn drop(&mut self) {
        // A scenario that panicked may have left a server frozen. Then its rig can't end.
        for disk in 0..self.locations.len() {
            if matches!(self.locations[disk], DiskLocation::Rig { rig: 1, .. }) {
                self.thaw(disk);
            }
        }
    }
}

/// Opens a disk as pathpulse does.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    let direct = libc::O_DIRECT;
    OpenOptions::new()
        .read(true)
        .custom_flags(direct)
        .open(path)
}
