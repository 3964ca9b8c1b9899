//! A pool of threads for calls that may block for as long as a device does not answer.
//!
//! The pool starts a few threads first, and doubles their number each time that all of them are
//! blocked while reads are waiting, up to a limit. A thread that is blocked in a read past its
//! deadline is abandoned: it counts against the limit until its call returns, and is then used
//! again. At intervals of some seconds, as many threads end as were always idle since the last
//! time. Nobody ever waits for a thread, not even when the owner is dropped.

use std::sync::Arc;
use std::time::Duration;

use crate::errno::KernelResult;
use crate::threads::sizing::{Load, threads_to_start};
use crate::threads::worker::{BackgroundTask, Job, STACK_BYTES, Shared};
pub(crate) use crate::threads::worker::{Call, NoCall};
use crate::{Errno, KernelError, Key, Mono, Waker};

/// If no thread has taken a waiting read for this long, all threads count as blocked. Hanging
/// devices can add this to the latency of a healthy one, several times if many start to hang at
/// once.
const STALL: Duration = Duration::from_millis(2);
/// What happened to a read that was cancelled or abandoned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CancelResult {
    /// It was waiting for a thread and was removed from the queue.
    Removed,
    /// A thread is making its call. That thread is abandoned.
    Running,
    /// Its call has returned.
    Completed,
}

/// The owner's side of the pool.
pub(crate) struct Threads<C: Call> {
    shared: Arc<Shared<C>>,
    max: usize,
    /// See [`STALL`].
    stall: Duration,
}

impl<C: Call> Threads<C> {
    /// Starts without threads, and never has more than `max`. Threads signal `done` when there are
    /// results.
    pub(crate) fn new(max: usize, done: Waker) -> Threads<C> {
        Threads {
            shared: Arc::new(Shared::new(done)),
            max,
            stall: STALL,
        }
    }

    /// Sets the time after which all threads count as blocked. For work that is not urgent, a
    /// longer time avoids hundreds of threads on a busy machine.
    pub(crate) fn with_stall(mut self, stall: Duration) -> Threads<C> {
        self.stall = stall;
        self
    }

    /// Verifies that a thread can be started.
    ///
    /// # Errors
    /// `clone`, with the limits that may be the cause.
    pub(crate) fn probe(&self) -> Result<(), KernelError> {
        let thread = std::thread::Builder::new().stack_size(STACK_BYTES);
        // Nobody joins it: it could end late.
        thread.spawn(|| ()).map(drop).map_err(|error| {
            KernelError::new("clone", Errno::of(&error)).hint(
                "no thread can be started; check RLIMIT_NPROC (ulimit -u), kernel.threads-max and the cgroup's pids.max (TasksMax= in the unit)",
            )
        })
    }

    /// Raises the limit of threads, if `max` is higher.
    pub(crate) fn raise_limit(&mut self, max: usize) {
        self.max = self.max.max(max);
    }

    /// Whether the limit is reached and all threads are abandoned.
    pub(crate) fn are_exhausted(&self) -> bool {
        self.shared.lock().abandoned.len() >= self.max
    }

    /// The number of abandoned threads.
    pub(crate) fn abandoned(&self) -> usize {
        self.shared.lock().abandoned.len()
    }

    /// Queues a read for the next `dispatch`.
    pub(crate) fn queue_read(&self, key: Key, call: C) {
        self.shared.push(Job::Read(key, call));
    }

    /// Runs a task as soon as a thread is free.
    pub(crate) fn run_in_background(&self, task: BackgroundTask) {
        self.shared.push(Job::Background(task));
        self.dispatch();
    }

    /// Wakes or starts threads for the queue. Returns when to call it again.
    pub(crate) fn dispatch(&self) -> Option<Mono> {
        let mut state = self.shared.lock();
        if state.queue.is_empty() {
            return None;
        }
        let now = Mono::now();
        let start = threads_to_start(&Load {
            queued: state.queue.len(),
            idle: state.idle,
            live: state.live,
            abandoned: state.abandoned.len(),
            max: self.max,
            stalled: now.since(state.last_start) >= self.stall,
        });
        let wake = state.queue.len().min(state.idle);
        state.live += start;
        assert!(state.live <= self.max, "more threads than allowed");
        debug_assert!(state.idle <= state.live && state.abandoned.len() <= state.running.len());
        drop(state);
        for _ in 0..wake {
            self.shared.work.notify_one();
        }
        let failed = (0..start).filter(|_| !Shared::start(&self.shared)).count();
        let mut state = self.shared.lock();
        state.live -= failed;
        (state.live < self.max).then(|| now + self.stall)
    }

    /// Moves the available results to `results`.
    pub(crate) fn take_results(&self, results: &mut Vec<(Key, KernelResult)>) {
        results.append(&mut self.shared.lock().results);
    }

    /// Removes a read from the queue, or abandons its thread if it is running.
    pub(crate) fn abandon(&self, key: Key) -> CancelResult {
        let mut state = self.shared.lock();
        if state.remove_queued(key) {
            return CancelResult::Removed;
        }
        if state.running.contains(&key) {
            let is_new = state.abandoned.insert(key);
            debug_assert!(is_new, "a read is abandoned once");
            return CancelResult::Running;
        }
        CancelResult::Completed
    }

    /// Removes a read from the queue. Returns whether it was waiting there.
    pub(crate) fn remove_queued(&self, key: Key) -> bool {
        self.shared.lock().remove_queued(key)
    }
}

impl<C: Call> Drop for Threads<C> {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.closed = true;
        // A task may block, so each gets its own thread. If no thread can be started, the task is
        // not run: its descriptors are leaked, as everything else here may be.
        for job in std::mem::take(&mut state.queue) {
            if let Job::Background(task) = job {
                let _ = std::thread::Builder::new()
                    .name("pathpulse-task".into())
                    .stack_size(STACK_BYTES)
                    .spawn(task);
            }
        }
        drop(state);
        self.shared.work.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, Sender, channel};

    /// Blocks until the test sends the result.
    struct Blocked(Receiver<KernelResult>);

    impl Call for Blocked {
        fn run(self) -> Option<KernelResult> {
            self.0.recv().ok()
        }
    }

    fn blocked() -> (Sender<KernelResult>, Blocked) {
        let (sender, receiver) = channel();
        (sender, Blocked(receiver))
    }

    fn threads(max: usize) -> Threads<Blocked> {
        Threads::new(max, Waker::new().expect("an eventfd"))
    }

    fn key(n: u64) -> Key {
        Key::from_bits(n)
    }

    fn dispatch_until(threads: &Threads<Blocked>, running: usize) {
        while threads.shared.lock().running.len() < running {
            threads.dispatch();
            std::thread::yield_now();
        }
    }

    fn results(threads: &Threads<Blocked>, count: usize) -> Vec<(Key, KernelResult)> {
        let mut results = Vec::new();
        while results.len() < count {
            threads.dispatch();
            threads.take_results(&mut results);
            std::thread::yield_now();
        }
        results
    }

    #[test]
    fn blocked_reads_do_not_delay_others() {
        let threads = threads(100);
        let mut held = Vec::new();
        for n in 0..50 {
            let (sender, call) = blocked();
            held.push(sender);
            threads.queue_read(key(n), call);
        }
        dispatch_until(&threads, 50);
        let (sender, call) = blocked();
        sender.send(Ok(1)).expect("the receiver exists");
        threads.queue_read(key(50), call);
        assert_eq!(results(&threads, 1), [(key(50), Ok(1))]);
    }

    #[test]
    fn the_limit_holds_and_abandoned_threads_are_reused() {
        let threads = threads(2);
        let mut held = Vec::new();
        for n in 0..3 {
            let (sender, call) = blocked();
            held.push(sender);
            threads.queue_read(key(n), call);
        }
        dispatch_until(&threads, 2);
        assert_eq!(threads.abandon(key(0)), CancelResult::Running);
        assert!(!threads.are_exhausted());
        assert_eq!(threads.abandon(key(1)), CancelResult::Running);
        assert!(threads.are_exhausted());
        std::thread::sleep(STALL);
        assert_eq!(threads.dispatch(), None, "no thread can be started");
        assert_eq!(threads.shared.lock().live, 2);
        held[0].send(Ok(7)).expect("the receiver exists");
        held[2].send(Ok(9)).expect("the receiver exists");
        let ended = results(&threads, 2);
        assert_eq!(ended, [(key(0), Ok(7)), (key(2), Ok(9))]);
        assert!(!threads.are_exhausted());
        assert_eq!(threads.abandon(key(0)), CancelResult::Completed);
    }

    #[test]
    fn a_queued_read_can_be_removed_and_a_running_one_cannot() {
        let threads = threads(1);
        let (sender, call) = blocked();
        threads.queue_read(key(0), call);
        dispatch_until(&threads, 1);
        let (_unused, call) = blocked();
        threads.queue_read(key(1), call);
        assert!(!threads.remove_queued(key(0)));
        assert!(threads.remove_queued(key(1)) && !threads.remove_queued(key(1)));
        sender.send(Ok(0)).expect("the receiver exists");
        assert_eq!(results(&threads, 1).len(), 1);
    }

    #[test]
    fn dropping_does_not_wait_and_runs_background_tasks() {
        let threads = threads(1);
        let (_held, call) = blocked();
        threads.queue_read(key(0), call);
        dispatch_until(&threads, 1);
        let (sender, done) = channel();
        threads.run_in_background(Box::new(move || {
            sender.send(()).expect("the receiver exists");
        }));
        drop(threads);
        done.recv().expect("the task ran");
    }
}
