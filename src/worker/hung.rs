//! What readers see of a worker that hangs: the age of what it said last, without a word of its
//! own.

use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, channel, sync_channel};
use std::thread;
use std::time::{Instant, SystemTime};

use pathpulse_kernel_compat::{
    BackendKind, Choice, Closing, KernelError, Op, OpId, Rejected, Submission, TargetId, Waker,
    open_backend,
};

use super::*;
use crate::device::Device;
use crate::health::State;
use crate::status::{PathInfo, StatusCell};

/// A real backend whose `wait` never returns once there is something in its way, as with a driver
/// that sleeps on the thread that submits.
struct Wedged {
    inner: Box<dyn Backend>,
    in_the_way: Receiver<Receiver<()>>,
}

impl Backend for Wedged {
    fn kind(&self) -> BackendKind {
        self.inner.kind()
    }

    fn now(&self) -> Mono {
        self.inner.now()
    }

    fn attach(&mut self, file: OwnedFd, submission: Submission) -> TargetId {
        self.inner.attach(file, submission)
    }

    fn detach(&mut self, target: TargetId) -> Closing {
        self.inner.detach(target)
    }

    fn submit(&mut self, op: Op) -> Result<OpId, Rejected> {
        self.inner.submit(op)
    }

    fn cancel(&mut self, id: OpId) {
        self.inner.cancel(id);
    }

    fn wait(
        &mut self,
        until: Option<Mono>,
        completions: &mut Vec<Completion>,
    ) -> Result<(), KernelError> {
        if let Ok(released) = self.in_the_way.try_recv() {
            let _ = released.recv();
        }
        self.inner.wait(until, completions)
    }

    fn waker(&self) -> Waker {
        self.inner.waker()
    }

    fn expect_blocking(&mut self, targets: usize) {
        self.inner.expect_blocking(targets);
    }

    fn stats(&self) -> Stats {
        self.inner.stats()
    }

    fn shutdown(&mut self, deadline: Mono) -> Shutdown {
        self.inner.shutdown(deadline)
    }
}

/// Looks until it is so, or panics after half a minute.
fn wait_for(what: &str, is_so: impl Fn() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < Duration::from_secs(30), "never {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn the_paths_of_a_worker_that_hangs_are_overdue_until_it_goes_on() {
    let file = tempfile::NamedTempFile::new_in(".").expect("a file");
    file.as_file().set_len(1 << 16).expect("sized");
    std::fs::write(file.path(), vec![1; 1 << 16]).expect("written");
    let device = Device::open(file.path()).expect("opens");
    let info = PathInfo::new(file.path().to_owned(), device.identity.device, None);
    let cell = Arc::new(StatusCell::new(Arc::new(info)));
    let settings = Settings {
        interval: Duration::from_millis(100),
        timeout: Duration::from_millis(500),
        ..Settings::default()
    };
    let (commands, inbox) = sync_channel(8);
    let (wedge, in_the_way) = channel();
    let theirs = Arc::clone(&cell);
    let work = move || {
        let inner = open_backend(Choice::Auto, 1).expect("some backend").backend;
        let backend = Box::new(Wedged { inner, in_the_way });
        let mut worker = Worker::new(backend, settings, inbox, None);
        let new = NewPath {
            id: PathId::from_number(1),
            device,
            cell: theirs,
            settings,
            group: Arc::default(),
            once: None,
        };
        worker.add(new);
        worker.run(Arc::default());
    };
    let worker = thread::spawn(work);
    wait_for("up", || cell.snapshot().state == State::Up);
    assert!(!cell.snapshot().overdue);

    let (step, released) = channel();
    wedge.send(released).expect("it lives");
    wait_for("overdue", || cell.snapshot().overdue);
    let hung = cell.snapshot();
    // What was known last is still said, with its age.
    assert_eq!(hung.state, State::Up);
    let age = hung.verdict_age.expect("it was checked");
    assert!(age > settings.timeout + crate::OVERDUE_GRACE, "{age:?}");
    let checked_at = hung.checked_at.expect("it was checked");
    let ago = SystemTime::now().duration_since(checked_at);
    assert!(ago.expect("before now") >= age);
    wait_for("older", || cell.snapshot().verdict_age > Some(age));

    drop(step);
    // The first check after the gap may be Unknown; it is planned anew before a verdict is there.
    wait_for("known again", || {
        let status = cell.snapshot();
        !status.overdue && status.verdict_age < Some(age)
    });
    let (reply, replies) = channel();
    let stop = WorkerMsg::Stop(Mono::now() + Duration::from_secs(1), reply);
    commands.send(stop).expect("it lives");
    drop(commands);
    assert_eq!(replies.recv(), Ok(0));
    worker.join().expect("it ends");
}
