//! Disks that behave as told: real ones here, made up ones in `scripted`.

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
use crate::lab::PATIENCE;

/// The first argument of a process that serves fault disks.
pub(crate) const RIG_ROLE: &str = "serve-rig";

/// What a disk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A block device that takes RWF_NOWAIT, with 128 tags.
    Loop,
    /// A FUSE file read with O_DIRECT: no RWF_NOWAIT; a read is in flight once the server has it.
    File,
    /// The same, with a FUSE server of its own, which can be frozen.
    Apart,
    /// A block device that takes no RWF_NOWAIT.
    Zram,
}

/// The disks of one scenario, by their numbers.
pub(crate) trait World {
    /// A descriptor to read the disk by.
    fn open(&self, disk: usize) -> OwnedFd;
    /// Where it is.
    fn path(&self, disk: usize) -> PathBuf;
    /// The descriptor was attached as this target.
    fn attached(&self, disk: usize, target: TargetId);
    /// From now on the disk does this.
    fn set(&self, disk: usize, behaviour: Behaviour);
    /// Ends what it holds.
    fn release(&self, disk: usize, how: Release);
    /// Takes all its tags away, until `unsaturate`.
    fn saturate(&self, disk: usize, load: Load);
    /// Ends the load.
    fn unsaturate(&self, disk: usize);
    /// Ends all its troubles, and what it holds with data.
    fn recover(&self, disk: usize);
    /// Pulls it.
    fn vanish(&self, disk: usize);
    /// Waits until it holds so many reads.
    fn wait_held(&self, disk: usize, count: usize);
    /// Stops the server of a disk of the kind `Apart`: it doesn't even read requests any more.
    fn freeze(&self, disk: usize);
    /// Lets it go on.
    fn thaw(&self, disk: usize);
    /// Promises to the kernel that were broken, if somebody watched.
    fn violations(&self) -> Vec<String>;
}

/// Real disks.
pub(crate) struct Real {
    /// One for the disks that share a server, and one for those that don't, if there are any.
    rigs: Vec<Rig>,
    places: Vec<Place>,
    zram: Option<Zram>,
}

#[derive(Clone, Copy)]
enum Place {
    Rig { rig: usize, index: usize },
    Zram,
}

impl Real {
    /// Makes one disk per kind; at most one of them zram.
    pub(crate) fn start(kinds: &[Kind]) -> Real {
        let mut specs = [Spec::loops(0), Spec::loops(0)];
        let mut zram = None;
        let places = kinds
            .iter()
            .map(|kind| {
                if *kind == Kind::Zram {
                    assert!(
                        zram.replace(Zram::create().expect("a zram disk")).is_none(),
                        "one zram disk"
                    );
                    return Place::Zram;
                }
                let rig = usize::from(*kind == Kind::Apart);
                specs[rig].disks.push(DiskSpec {
                    loop_device: *kind == Kind::Loop,
                    ..DiskSpec::default()
                });
                Place::Rig {
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
        Real {
            rigs: rigs.collect(),
            places,
            zram,
        }
    }

    fn place(&self, disk: usize) -> (&Rig, usize) {
        match self.places[disk] {
            Place::Rig { rig, index } => (&self.rigs[rig], index),
            Place::Zram => panic!("a zram disk only answers"),
        }
    }

    fn server(&self, disk: usize) -> u32 {
        self.place(disk).0.pids().server
    }

    fn signal(&self, disk: usize, signal: Signal) {
        let server = self.server(disk);
        let pid = Pid::from_raw(server.cast_signed()).expect("a pid");
        kill_process(pid, signal).expect("a signal to the server");
    }
}

impl World for Real {
    fn open(&self, disk: usize) -> OwnedFd {
        open(&self.path(disk)).expect("open a disk").into()
    }

    fn path(&self, disk: usize) -> PathBuf {
        match (self.places[disk], &self.zram) {
            (Place::Zram, Some(zram)) => zram.path().to_owned(),
            _ => {
                let (rig, index) = self.place(disk);
                rig.disk(index).path().to_owned()
            }
        }
    }

    fn attached(&self, _disk: usize, _target: TargetId) {}

    fn set(&self, disk: usize, behaviour: Behaviour) {
        let (rig, index) = self.place(disk);
        rig.set(index, behaviour).expect("set");
    }

    fn release(&self, disk: usize, how: Release) {
        let (rig, index) = self.place(disk);
        rig.release(index, how).expect("release");
    }

    fn saturate(&self, disk: usize, load: Load) {
        let (rig, index) = self.place(disk);
        rig.saturate(index, load).expect("saturate");
    }

    fn unsaturate(&self, disk: usize) {
        let (rig, index) = self.place(disk);
        rig.unsaturate(index).expect("unsaturate");
    }

    fn recover(&self, disk: usize) {
        let (rig, index) = self.place(disk);
        rig.recover(index).expect("recover");
    }

    fn vanish(&self, disk: usize) {
        let (rig, index) = self.place(disk);
        rig.vanish(index).expect("vanish");
    }

    fn wait_held(&self, disk: usize, count: usize) {
        let (rig, index) = self.place(disk);
        let held = rig.wait_held(index, count, PATIENCE);
        held.expect("the reads reach the disk");
    }

    fn freeze(&self, disk: usize) {
        self.signal(disk, Signal::STOP);
        // A thread that is running stops at its next interrupt only.
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

impl Drop for Real {
    fn drop(&mut self) {
        // A scenario that panicked may have left a server frozen; a rig can't end so.
        for disk in 0..self.places.len() {
            if matches!(self.places[disk], Place::Rig { rig: 1, .. }) {
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
