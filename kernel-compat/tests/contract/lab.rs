//! A backend and disks to read with it.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use pathpulse_faultdisk::{Behaviour, Load, Release};
use pathpulse_kernel_compat::{
    Backend, Completion, Mono, Op, OpId, Outcome, Shutdown, Submission, TargetId,
};

use crate::contenders::{Contender, Open, Tuning};
use crate::ledger::Ledger;
use crate::scripted;
use crate::world::{Kind, Real, World};

/// How long a scenario waits for what is sure to happen; only a defect makes it wait so long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// A deadline for reads that are meant to miss it.
pub(crate) const SHORT: Duration = Duration::from_millis(150);
/// The same for reads that have to be with the kernel by then, also on a busy machine.
pub(crate) const LONGER: Duration = Duration::from_secs(1);
/// Bytes of a read: the largest logical block of the disks.
pub(crate) const BLOCK: u32 = 4096;

/// A backend under test with its disks, all attached.
pub(crate) struct Lab {
    // Declared in the order of the end: the backend first, so that it lets go of the disks.
    backend: Option<Box<dyn Backend>>,
    world: Box<dyn World>,
    pub(crate) contender: &'static Contender,
    pub(crate) disks: Vec<TargetId>,
    kinds: Vec<Kind>,
    ledger: Ledger,
    /// Completed while a scenario waited for something else.
    set_aside: Vec<Completion>,
    tokens: u64,
}

impl Lab {
    /// An open backend and a disk for each of `kinds`.
    pub(crate) fn new(contender: &'static Contender, kinds: &[Kind]) -> Lab {
        Lab::tuned(contender, kinds, Tuning::default())
    }

    /// The same with other sizes.
    pub(crate) fn tuned(contender: &'static Contender, kinds: &[Kind], tuning: Tuning) -> Lab {
        let (backend, world): (Box<dyn Backend>, Box<dyn World>) = match contender.open {
            Open::Real(open) => (
                open(&tuning).expect("the backend opens"),
                Box::new(Real::start(kinds)),
            ),
            Open::Scripted => scripted::lab(kinds),
        };
        let mut lab = Lab {
            backend: Some(backend),
            world,
            contender,
            disks: Vec::new(),
            kinds: kinds.to_vec(),
            ledger: Ledger::default(),
            set_aside: Vec::new(),
            tokens: 0,
        };
        lab.disks = (0..kinds.len()).map(|disk| lab.attach(disk)).collect();
        lab
    }

    pub(crate) fn backend(&mut self) -> &mut dyn Backend {
        self.backend.as_deref_mut().expect("the backend is open")
    }

    /// Attaches a disk once more.
    pub(crate) fn attach(&mut self, disk: usize) -> TargetId {
        self.attach_as(disk, self.contender.submission)
    }

    /// The same, as a disk that does this to who submits.
    pub(crate) fn attach_as(&mut self, disk: usize, submission: Submission) -> TargetId {
        let file = self.world.open(disk);
        let target = self.backend().attach(file, submission);
        self.world.attached(disk, target);
        target
    }

    /// A read of one block that nothing hurries, with nowait where the disk takes it.
    pub(crate) fn op(&mut self, disk: usize) -> Op {
        self.tokens += 1;
        Op {
            target: self.disks[disk],
            offset: 0,
            len: BLOCK,
            deadline: self.backend().now() + PATIENCE,
            nowait: self.kinds[disk] == Kind::Loop,
            token: self.tokens,
        }
    }

    /// The same of a further path to the disk, by its place among `disks`.
    pub(crate) fn op_at(&mut self, path: usize, disk: usize) -> Op {
        Op {
            target: self.disks[path],
            ..self.op(disk)
        }
    }

    /// The same with a deadline after so long.
    pub(crate) fn op_within(&mut self, disk: usize, span: Duration) -> Op {
        Op {
            deadline: self.backend().now() + span,
            ..self.op(disk)
        }
    }

    /// Makes a read that is meant to be stuck, and waits until it is. A machine too busy to start it in time has more
    /// time for another. What else completes meanwhile is for `completions`.
    pub(crate) fn stick(&mut self, op: Op) -> (OpId, Outcome) {
        let mut span = SHORT;
        loop {
            let deadline = self.backend().now() + span;
            let id = self.submit(Op { deadline, ..op });
            match self.end_of(id) {
                Outcome::NotStarted if span < PATIENCE => span *= 4,
                outcome => return (id, outcome),
            }
        }
    }

    pub(crate) fn submit(&mut self, op: Op) -> OpId {
        self.try_submit(op).expect("the backend takes the read")
    }

    pub(crate) fn try_submit(&mut self, op: Op) -> Result<OpId, pathpulse_kernel_compat::Rejected> {
        let id = self.backend().submit(op)?;
        self.ledger.accept(id, op);
        Ok(id)
    }

    /// Hands what is queued to the kernel, and takes what has completed.
    pub(crate) fn flush(&mut self) -> Vec<Completion> {
        let now = self.backend().now();
        self.wait(now)
    }

    /// Leaves completions for `completions`.
    pub(crate) fn set_aside(&mut self, completions: Vec<Completion>) {
        self.set_aside.extend(completions);
    }

    /// One wait.
    pub(crate) fn wait(&mut self, until: Mono) -> Vec<Completion> {
        let mut completions = Vec::new();
        self.backend()
            .wait(Some(until), &mut completions)
            .expect("the backend works");
        for completion in &completions {
            self.ledger.complete(completion);
        }
        completions
    }

    /// Waits for so many completions.
    pub(crate) fn completions(&mut self, count: usize) -> Vec<Completion> {
        let limit = self.backend().now() + PATIENCE * 2;
        let mut completions = std::mem::take(&mut self.set_aside);
        while completions.len() < count {
            let now = self.backend().now();
            assert!(now < limit, "{count} completions: {completions:?}");
            completions.extend(self.wait(limit));
        }
        assert_eq!(completions.len(), count, "{completions:?}");
        completions
    }

    /// Waits until every read has ended; some may be stuck.
    pub(crate) fn all_end(&mut self) {
        self.wait_while(|lab| lab.ledger.open() > 0);
    }

    /// Waits until the kernel owns no read.
    pub(crate) fn settle(&mut self) {
        self.wait_while(|lab| lab.backend().stats().in_flight > 0);
    }

    fn wait_while(&mut self, mut condition: impl FnMut(&mut Lab) -> bool) {
        let limit = self.backend().now() + PATIENCE * 2;
        while condition(self) {
            assert!(self.backend().now() < limit, "this never ends");
            self.wait(limit);
        }
    }

    /// Makes one read and waits for its end. What else completes meanwhile is for `completions`.
    pub(crate) fn read(&mut self, op: Op) -> Outcome {
        let id = self.submit(op);
        self.end_of(id)
    }

    fn end_of(&mut self, id: OpId) -> Outcome {
        let limit = self.backend().now() + PATIENCE * 2;
        loop {
            assert!(self.backend().now() < limit, "{id:?} never ends");
            let mut completions = self.wait(limit);
            let own = completions
                .iter()
                .position(|completion| completion.id == id);
            let own = own.map(|own| completions.remove(own));
            self.set_aside(completions);
            if let Some(own) = own {
                return own.outcome;
            }
        }
    }

    /// Reads a healthy disk: others' troubles must not reach it.
    pub(crate) fn assert_answers(&mut self, disk: usize) {
        let op = self.op(disk);
        assert_eq!(self.read(op), Outcome::Read(BLOCK), "disk {disk}");
    }

    pub(crate) fn set(&self, disk: usize, behaviour: Behaviour) {
        self.world.set(disk, behaviour);
    }

    pub(crate) fn release(&self, disk: usize, how: Release) {
        self.world.release(disk, how);
    }

    pub(crate) fn saturate(&self, disk: usize, load: Load) {
        self.world.saturate(disk, load);
    }

    pub(crate) fn unsaturate(&self, disk: usize) {
        self.world.unsaturate(disk);
    }

    pub(crate) fn vanish(&self, disk: usize) {
        self.world.vanish(disk);
    }

    /// Hands what is queued to the kernel and waits until the disk holds so many reads.
    pub(crate) fn hold(&mut self, disk: usize, count: usize) {
        let completions = self.flush();
        self.set_aside(completions);
        self.wait_held(disk, count);
    }

    /// Waits until the disk holds so many reads, whoever made them.
    pub(crate) fn wait_held(&self, disk: usize, count: usize) {
        self.world.wait_held(disk, count);
    }

    /// Ends all troubles of a disk.
    pub(crate) fn recover(&self, disk: usize) {
        self.world.recover(disk);
    }

    /// Drops the backend, which must not wait for anything; says how long it took.
    pub(crate) fn drop_backend(&mut self) -> Duration {
        let begin = Instant::now();
        drop(self.backend.take());
        begin.elapsed()
    }

    /// Stops the backend as the contract says, with reads that hang.
    pub(crate) fn shut_down(&mut self, within: Duration) -> Shutdown {
        let deadline = self.backend().now() + within;
        let left = self.backend().shutdown(deadline);
        // The time is the promise; a loaded machine may add to it, a device may not.
        assert!(self.backend().now() < deadline + Duration::from_secs(2));
        left
    }

    pub(crate) fn freeze(&self, disk: usize) {
        self.world.freeze(disk);
    }

    pub(crate) fn thaw(&self, disk: usize) {
        self.world.thaw(disk);
    }

    /// Where a real disk is.
    pub(crate) fn path(&self, disk: usize) -> PathBuf {
        self.world.path(disk)
    }

    /// The end of a scenario that leaves reads behind.
    pub(crate) fn abandon(mut self) {
        assert_eq!(self.backend().stats().strays, 0);
        let took = self.drop_backend();
        assert!(took < Duration::from_secs(1), "dropping it took {took:?}");
        assert_eq!(self.world.violations(), [""; 0]);
    }

    /// The end of a scenario in which every read has ended.
    pub(crate) fn finish(mut self) {
        assert_eq!(self.ledger.open(), 0, "reads without an end");
        let stats = self.backend().stats();
        assert_eq!(stats.strays, 0);
        assert_eq!((stats.in_flight, stats.stuck), (0, 0));
        drop(self.backend.take());
        assert_eq!(self.world.violations(), [""; 0]);
    }
}
