//! Simulated disks for the scripted backend: the same behaviours on a virtual clock.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use pathpulse_faultdisk::{Behaviour, Load, Release};
use pathpulse_kernel_compat::{
    Answer, Backend, BackendKind, Closing, Completion, Errno, KernelError, Mono, Op, OpId,
    Rejected, Scripted, Shutdown, Stage, Stats, Submission, TargetId, Waker,
};

use crate::disks::{DiskKind, TestDisks};

/// How long a healthy simulated disk takes.
const PROMPT: Duration = Duration::from_micros(50);
/// How long a busy one takes for a read that waits for a tag.
const QUEUED: Duration = Duration::from_millis(3);

type Script = Box<dyn FnMut(&Op, Mono) -> Answer>;

/// A scripted backend and its disks.
pub(crate) fn fixture(kinds: &[DiskKind]) -> (Box<dyn Backend>, Box<dyn TestDisks>) {
    let disks = kinds.iter().map(|kind| Disk::new(*kind)).collect();
    let state = Rc::new(RefCell::new(ScriptState {
        disks,
        ..ScriptState::default()
    }));
    let seen = Rc::clone(&state);
    let script: Script = Box::new(move |op, _now| seen.borrow_mut().answer(op));
    let backend = Scripted::new(1, script).expect("an eventfd");
    let shared = SharedBackend {
        backend,
        state: Rc::clone(&state),
    };
    (Box::new(shared), Box::new(ScriptedDisks(state)))
}

/// The state shared by the script of the disks and the scenario.
#[derive(Default)]
struct ScriptState {
    disks: Vec<Disk>,
    targets: HashMap<TargetId, usize>,
    /// Releases that the backend has not seen yet.
    releases: Vec<(usize, Result<u32, Errno>)>,
    violations: Vec<String>,
}

struct Disk {
    kind: DiskKind,
    behaviour: Behaviour,
    load: Option<Load>,
    vanished: bool,
    attempts: u64,
}

impl Disk {
    fn new(kind: DiskKind) -> Disk {
        Disk {
            kind,
            behaviour: Behaviour::Answer,
            load: None,
            vanished: false,
            attempts: 0,
        }
    }

    fn answer(&mut self, op: &Op) -> Answer {
        let soon = |result| Answer::After(PROMPT, result, Stage::Device);
        if self.vanished {
            return soon(Err(Errno::EIO));
        }
        if op.nowait && self.kind != DiskKind::Loop {
            return soon(Err(Errno::EOPNOTSUPP));
        }
        self.attempts += 1;
        match (self.load, op.nowait) {
            (Some(Load::Dead), true) => return soon(Err(Errno::EAGAIN)),
            (Some(Load::Dead), false) => return Answer::Never(Stage::Submission),
            (Some(Load::Busy { .. } | Load::Failing { .. }), true)
                if !self.attempts.is_multiple_of(3) =>
            {
                return soon(Err(Errno::EAGAIN));
            }
            (Some(Load::Failing { errno, .. }), _) => {
                let error = Errno::from_raw(errno);
                return Answer::After(QUEUED, Err(error), Stage::Submission);
            }
            (Some(Load::Busy { .. }), _) => {
                return Answer::After(QUEUED, Ok(op.len), Stage::Submission);
            }
            (None, _) => {}
        }
        match self.behaviour {
            Behaviour::Answer => soon(Ok(op.len)),
            Behaviour::Delay(span) => Answer::After(span, Ok(op.len), Stage::Device),
            Behaviour::Fail(errno) => soon(Err(Errno::from_raw(errno))),
            Behaviour::Hang => Answer::Never(Stage::Device),
            Behaviour::Short(bytes) => soon(Ok(op.len.min(bytes))),
            ref other => panic!("no scenario needs {other:?}"),
        }
    }
}

impl ScriptState {
    fn answer(&mut self, op: &Op) -> Answer {
        let disk = self.targets[&op.target];
        self.disks[disk].answer(op)
    }
}

/// The disks as the scenario sees them.
struct ScriptedDisks(Rc<RefCell<ScriptState>>);

impl TestDisks for ScriptedDisks {
    fn open(&self, _disk: usize) -> OwnedFd {
        File::open("/dev/null").expect("/dev/null").into()
    }

    fn path(&self, _disk: usize) -> PathBuf {
        "/dev/null".into()
    }

    fn attached(&self, disk: usize, target: TargetId) {
        self.0.borrow_mut().targets.insert(target, disk);
    }

    fn set(&self, disk: usize, behaviour: Behaviour) {
        self.0.borrow_mut().disks[disk].behaviour = behaviour;
    }

    fn release(&self, disk: usize, how: Release) {
        let result = match how {
            Release::Data => Ok(crate::fixture::BLOCK),
            Release::Error(errno) => Err(Errno::from_raw(errno)),
        };
        self.0.borrow_mut().releases.push((disk, result));
    }

    fn saturate(&self, disk: usize, load: Load) {
        self.0.borrow_mut().disks[disk].load = Some(load);
    }

    fn unsaturate(&self, disk: usize) {
        self.0.borrow_mut().disks[disk].load = None;
        self.release(disk, Release::Data);
    }

    fn recover(&self, disk: usize) {
        self.set(disk, Behaviour::Answer);
        self.unsaturate(disk);
    }

    fn vanish(&self, disk: usize) {
        self.0.borrow_mut().disks[disk].vanished = true;
        self.release(disk, Release::Error(Errno::EIO.raw()));
    }

    fn wait_held(&self, _disk: usize, _count: usize) {}

    fn freeze(&self, disk: usize) {
        self.set(disk, Behaviour::Hang);
    }

    fn thaw(&self, disk: usize) {
        self.recover(disk);
    }

    fn violations(&self) -> Vec<String> {
        self.0.borrow().violations.clone()
    }
}

/// The scripted backend. It handles releases when it waits.
struct SharedBackend {
    backend: Scripted<Script>,
    state: Rc<RefCell<ScriptState>>,
}

impl Backend for SharedBackend {
    fn kind(&self) -> BackendKind {
        self.backend.kind()
    }

    fn now(&self) -> Mono {
        self.backend.now()
    }

    fn attach(&mut self, file: OwnedFd, submission: Submission) -> TargetId {
        self.backend.attach(file, submission)
    }

    fn detach(&mut self, target: TargetId) -> Closing {
        self.backend.detach(target)
    }

    fn submit(&mut self, op: Op) -> Result<OpId, Rejected> {
        self.backend.submit(op)
    }

    fn cancel(&mut self, id: OpId) {
        self.backend.cancel(id);
    }

    fn wait(
        &mut self,
        until: Option<Mono>,
        completions: &mut Vec<Completion>,
    ) -> Result<(), KernelError> {
        let mut state = self.state.borrow_mut();
        for (disk, result) in std::mem::take(&mut state.releases) {
            let of_disk = state.targets.iter().filter(|(_, owner)| **owner == disk);
            for (target, _) in of_disk {
                self.backend.release(*target, result);
            }
        }
        drop(state);
        self.backend.wait(until, completions)
    }

    fn waker(&self) -> Waker {
        self.backend.waker()
    }

    fn expect_blocking(&mut self, targets: usize) {
        self.backend.expect_blocking(targets);
    }

    fn stats(&self) -> Stats {
        self.backend.stats()
    }

    fn shutdown(&mut self, deadline: Mono) -> Shutdown {
        self.backend.shutdown(deadline)
    }
}

impl Drop for SharedBackend {
    fn drop(&mut self) {
        // The engine, not the backend, avoids several reads of one target at once.
        let of_backend = |violation: &&String| violation.starts_with("memory");
        let audit = self.backend.audit();
        let audit = audit.borrow();
        let violations = audit.violations.iter().filter(of_backend);
        self.state
            .borrow_mut()
            .violations
            .extend(violations.cloned());
    }
}
