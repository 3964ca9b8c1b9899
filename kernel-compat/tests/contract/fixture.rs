//! A backend, and disks to read with it.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use pathpulse_faultdisk::{Behaviour, Load, Release};
use pathpulse_kernel_compat::{
    Backend, Completion, Mono, Op, OpId, Outcome, Shutdown, Submission, TargetId,
};

use crate::backends::{Open, Sizes, TestedBackend};
use crate::disks::{DiskKind, RealDisks, TestDisks};
use crate::end_checker::EndChecker;
use crate::scripted;

/// How long a scenario waits for an event that is certain. Only a bug makes it wait this long.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(30);
/// A deadline for reads that should miss it.
pub(crate) const SHORT_DEADLINE: Duration = Duration::from_millis(150);
/// The same for reads that must have reached the kernel by then, also on a busy machine.
pub(crate) const LONG_DEADLINE: Duration = Duration::from_secs(1);
/// The length of a read in bytes: the largest logical block of the disks.
pub(crate) const BLOCK: u32 = 4096;

/// A backend under test with its disks, all attached.
pub(crate) struct Fixture {
    // The backend is dropped first, so that it releases the disks.
    backend: Option<Box<dyn Backend>>,
    test_disks: Box<dyn TestDisks>,
    pub(crate) tested: &'static TestedBackend,
    pub(crate) disks: Vec<TargetId>,
    kinds: Vec<DiskKind>,
    end_checker: EndChecker,
    /// Completions that arrived while a scenario waited for something else.
    keep_for_later: Vec<Completion>,
    tokens: u64,
}

impl Fixture {
    /// Opens a backend, and creates a disk for each of `kinds`.
    pub(crate) fn new(tested: &'static TestedBackend, kinds: &[DiskKind]) -> Fixture {
        Fixture::with_sizes(tested, kinds, Sizes::default())
    }

    /// The same with other sizes.
    pub(crate) fn with_sizes(
        tested: &'static TestedBackend,
        kinds: &[DiskKind],
        sizes: Sizes,
    ) -> Fixture {
        let (backend, test_disks): (Box<dyn Backend>, Box<dyn TestDisks>) = match tested.open {
            Open::Real(open) => (
                open(&sizes).expect("the backend opens"),
                Box::new(RealDisks::start(kinds)),
            ),
            Open::Scripted => scripted::fixture(kinds),
        };
        let mut fixture = Fixture {
            backend: Some(backend),
            test_disks,
            tested,
            disks: Vec::new(),
            kinds: kinds.to_vec(),
            end_checker: EndChecker::default(),
            keep_for_later: Vec::new(),
            tokens: 0,
        };
        fixture.disks = (0..kinds.len()).map(|disk| fixture.attach(disk)).collect();
        fixture
    }

    pub(crate) fn backend(&mut self) -> &mut dyn Backend {
        self.backend.as_deref_mut().expect("the backend is open")
    }

    /// Attaches a disk once more.
    pub(crate) fn attach(&mut self, disk: usize) -> TargetId {
        self.attach_as(disk, self.tested.submission)
    }

    /// The same with the given submission behaviour.
    pub(crate) fn attach_as(&mut self, disk: usize, submission: Submission) -> TargetId {
        let file = self.test_disks.open(disk);
        let target = self.backend().attach(file, submission);
        self.test_disks.attached(disk, target);
        target
    }

    /// A read of one block with a late deadline, with nowait if the disk supports it.
    pub(crate) fn op(&mut self, disk: usize) -> Op {
        self.tokens += 1;
        Op {
            target: self.disks[disk],
            offset: 0,
            len: BLOCK,
            deadline: self.backend().now() + TIMEOUT,
            nowait: self.kinds[disk] == DiskKind::Loop,
            token: self.tokens,
        }
    }

    /// The same for another path to the disk, by its index in `disks`.
    pub(crate) fn op_on_path(&mut self, path: usize, disk: usize) -> Op {
        Op {
            target: self.disks[path],
            ..self.op(disk)
        }
    }

    /// The same with a deadline after `span`.
    pub(crate) fn op_within(&mut self, disk: usize, span: Duration) -> Op {
        Op {
            deadline: self.backend().now() + span,
            ..self.op(disk)
        }
    }

    /// Submits a read that should get stuck, and waits until it is stuck. If the machine is too
    /// busy to start it in time, it is retried with a later deadline. Other completions are kept
    /// for `completions`.
    pub(crate) fn submit_until_stuck(&mut self, op: Op) -> (OpId, Outcome) {
        let mut span = SHORT_DEADLINE;
        loop {
            let deadline = self.backend().now() + span;
            let id = self.submit(Op { deadline, ..op });
            match self.wait_end_of(id) {
                Outcome::NotStarted if span < TIMEOUT => span *= 4,
                outcome => return (id, outcome),
            }
        }
    }

    pub(crate) fn submit(&mut self, op: Op) -> OpId {
        self.try_submit(op).expect("the backend accepts the read")
    }

    pub(crate) fn try_submit(&mut self, op: Op) -> Result<OpId, pathpulse_kernel_compat::Rejected> {
        let id = self.backend().submit(op)?;
        self.end_checker.accept(id, op);
        Ok(id)
    }

    /// Submits queued reads, and returns what has completed.
    pub(crate) fn flush(&mut self) -> Vec<Completion> {
        let now = self.backend().now();
        self.wait(now)
    }

    /// Keeps completions for `completions`.
    pub(crate) fn keep_for_later(&mut self, completions: Vec<Completion>) {
        self.keep_for_later.extend(completions);
    }

    /// Waits once.
    pub(crate) fn wait(&mut self, until: Mono) -> Vec<Completion> {
        let mut completions = Vec::new();
        self.backend()
            .wait(Some(until), &mut completions)
            .expect("the backend works");
        for completion in &completions {
            self.end_checker.complete(completion);
        }
        completions
    }

    /// Waits for this many completions.
    pub(crate) fn completions(&mut self, count: usize) -> Vec<Completion> {
        let limit = self.backend().now() + TIMEOUT * 2;
        let mut completions = std::mem::take(&mut self.keep_for_later);
        while completions.len() < count {
            let now = self.backend().now();
            assert!(now < limit, "{count} completions: {completions:?}");
            completions.extend(self.wait(limit));
        }
        assert_eq!(completions.len(), count, "{completions:?}");
        completions
    }

    /// Waits until every read has ended. Some may be stuck.
    pub(crate) fn wait_all_ended(&mut self) {
        self.wait_while(|fixture| fixture.end_checker.open_count() > 0);
    }

    /// Waits until the kernel owns no read.
    pub(crate) fn wait_none_in_flight(&mut self) {
        self.wait_while(|fixture| fixture.backend().stats().in_flight > 0);
    }

    fn wait_while(&mut self, mut condition: impl FnMut(&mut Fixture) -> bool) {
        let limit = self.backend().now() + TIMEOUT * 2;
        while condition(self) {
            assert!(self.backend().now() < limit, "the condition is never met");
            self.wait(limit);
        }
    }

    /// Makes one read and waits for its end. Other completions are kept for `completions`.
    pub(crate) fn read(&mut self, op: Op) -> Outcome {
        let id = self.submit(op);
        self.wait_end_of(id)
    }

    fn wait_end_of(&mut self, id: OpId) -> Outcome {
        let limit = self.backend().now() + TIMEOUT * 2;
        loop {
            assert!(self.backend().now() < limit, "{id:?} never ends");
            let mut completions = self.wait(limit);
            let own = completions
                .iter()
                .position(|completion| completion.id == id);
            let own = own.map(|own| completions.remove(own));
            self.keep_for_later(completions);
            if let Some(own) = own {
                return own.outcome;
            }
        }
    }

    /// Reads a healthy disk. The faults of other disks must not affect it.
    pub(crate) fn assert_answers(&mut self, disk: usize) {
        let op = self.op(disk);
        assert_eq!(self.read(op), Outcome::Read(BLOCK), "disk {disk}");
    }

    pub(crate) fn set(&self, disk: usize, behaviour: Behaviour) {
        self.test_disks.set(disk, behaviour);
    }

    pub(crate) fn release(&self, disk: usize, how: Release) {
        self.test_disks.release(disk, how);
    }

    pub(crate) fn saturate(&self, disk: usize, load: Load) {
        self.test_disks.saturate(disk, load);
    }

    pub(crate) fn unsaturate(&self, disk: usize) {
        self.test_disks.unsaturate(disk);
    }

    pub(crate) fn vanish(&self, disk: usize) {
        self.test_disks.vanish(disk);
    }

    /// Submits queued reads and waits until the disk holds this many reads.
    pub(crate) fn hold(&mut self, disk: usize, count: usize) {
        let completions = self.flush();
        self.keep_for_later(completions);
        self.wait_held(disk, count);
    }

    /// Waits until the disk holds this many reads of any process.
    pub(crate) fn wait_held(&self, disk: usize, count: usize) {
        self.test_disks.wait_held(disk, count);
    }

    /// Ends all faults of a disk.
    pub(crate) fn recover(&self, disk: usize) {
        self.test_disks.recover(disk);
    }

    /// Drops the backend, which must not wait for anything. Returns how long it took.
    pub(crate) fn drop_backend(&mut self) -> Duration {
        let begin = Instant::now();
        drop(self.backend.take());
        begin.elapsed()
    }

    /// Shuts down the backend and checks that it ends in time.
    pub(crate) fn shut_down(&mut self, within: Duration) -> Shutdown {
        let deadline = self.backend().now() + within;
        let left = self.backend().shutdown(deadline);
        // The contract limits the time. A loaded machine may add to it, but a device may not.
        assert!(self.backend().now() < deadline + Duration::from_secs(2));
        left
    }

    pub(crate) fn freeze(&self, disk: usize) {
        self.test_disks.freeze(disk);
    }

    pub(crate) fn thaw(&self, disk: usize) {
        self.test_disks.thaw(disk);
    }

    /// The path of a real disk.
    pub(crate) fn path(&self, disk: usize) -> PathBuf {
        self.test_disks.path(disk)
    }

    /// Ends a scenario that leaves stuck reads.
    pub(crate) fn finish_with_stuck_reads(mut self) {
        assert_eq!(self.backend().stats().unknown_completions, 0);
        let took = self.drop_backend();
        assert!(took < Duration::from_secs(1), "dropping it took {took:?}");
        assert_eq!(self.test_disks.violations(), [""; 0]);
    }

    /// Ends a scenario in which every read has ended.
    pub(crate) fn finish(mut self) {
        assert_eq!(self.end_checker.open_count(), 0, "reads without an end");
        let stats = self.backend().stats();
        assert_eq!(stats.unknown_completions, 0);
        assert_eq!((stats.in_flight, stats.stuck), (0, 0));
        drop(self.backend.take());
        assert_eq!(self.test_disks.violations(), [""; 0]);
    }
}
