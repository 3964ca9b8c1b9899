//! The state that a pool shares with its threads, and the main loop of a thread.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::errno::KernelResult;
use crate::threads::sizing::{IDLE, IdleSurplus};
use crate::{Key, Mono, Waker};

/// Enough for a system call and its wrappers. Only touched pages cost memory.
pub(super) const STACK_BYTES: usize = 64 * 1024;

/// A call that may block.
pub(crate) trait Call: Send + 'static {
    /// Makes the call. `Some` is reported as a result, `None` is not.
    fn run(self) -> Option<KernelResult>;
}

/// For a pool that makes no calls, only background tasks.
pub(crate) enum NoCall {}

impl Call for NoCall {
    fn run(self) -> Option<KernelResult> {
        match self {}
    }
}

/// A task for a thread. Nobody waits for its end.
pub(crate) type BackgroundTask = Box<dyn FnOnce() + Send>;

/// One entry of the queue.
pub(super) enum Job<C> {
    Read(Key, C),
    Background(BackgroundTask),
}

/// What the lock protects.
pub(super) struct State<C> {
    pub(super) queue: VecDeque<Job<C>>,
    pub(super) running: HashSet<Key>,
    pub(super) abandoned: HashSet<Key>,
    pub(super) results: Vec<(Key, KernelResult)>,
    pub(super) live: usize,
    pub(super) idle: usize,
    pub(super) surplus: IdleSurplus,
    pub(super) last_start: Mono,
    pub(super) closed: bool,
}

/// What the owner and the threads share.
pub(super) struct Shared<C> {
    pub(super) state: Mutex<State<C>>,
    pub(super) work: Condvar,
    pub(super) done: Waker,
}

impl<C> State<C> {
    pub(super) fn remove_queued(&mut self, key: Key) -> bool {
        let is_it = |job: &Job<C>| matches!(job, Job::Read(of, _) if *of == key);
        let place = self.queue.iter().position(is_it);
        place.and_then(|place| self.queue.remove(place)).is_some()
    }
}

impl<C: Call> Shared<C> {
    pub(super) fn new(done: Waker) -> Shared<C> {
        let state = State {
            queue: VecDeque::new(),
            running: HashSet::new(),
            abandoned: HashSet::new(),
            results: Vec::new(),
            live: 0,
            idle: 0,
            surplus: IdleSurplus::default(),
            last_start: Mono::ZERO,
            closed: false,
        };
        Shared {
            state: Mutex::new(state),
            work: Condvar::new(),
            done,
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State<C>> {
        // No thread panics while it holds the lock. If one did, the state would still be usable.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn push(&self, job: Job<C>) {
        let mut state = self.lock();
        if state.queue.is_empty() {
            state.last_start = Mono::now();
        }
        state.queue.push_back(job);
    }

    pub(super) fn start(shared: &Arc<Self>) -> bool {
        let shared = Arc::clone(shared);
        std::thread::Builder::new()
            .name("pathpulse-read".into())
            .stack_size(STACK_BYTES)
            .spawn(move || shared.work())
            .is_ok()
    }

    /// The main loop of a thread.
    fn work(&self) {
        let mut state = self.lock();
        while !state.closed {
            let Some(job) = state.queue.pop_front() else {
                let idle = state.idle;
                if state.surplus.take_one(idle, Mono::now()) {
                    break;
                }
                state.idle += 1;
                let (woken, timeout) = self
                    .work
                    .wait_timeout(state, IDLE)
                    .unwrap_or_else(PoisonError::into_inner);
                state = woken;
                state.idle -= 1;
                let idle = state.idle;
                state.surplus.observe(idle);
                if timeout.timed_out() && state.queue.is_empty() {
                    break;
                }
                continue;
            };
            state.last_start = Mono::now();
            state = self.run_job(job, state);
        }
        assert!(state.live > 0, "the thread was not counted");
        state.live -= 1;
    }

    fn run_job<'a>(
        &'a self,
        job: Job<C>,
        mut state: MutexGuard<'a, State<C>>,
    ) -> MutexGuard<'a, State<C>> {
        let (key, call) = match job {
            Job::Read(key, call) => (key, call),
            Job::Background(task) => {
                drop(state);
                task();
                return self.lock();
            }
        };
        let is_new = state.running.insert(key);
        debug_assert!(is_new, "two threads run one read");
        drop(state);
        let result = call.run();
        let mut state = self.lock();
        let was_running = state.running.remove(&key);
        debug_assert!(was_running);
        state.abandoned.remove(&key);
        if let Some(result) = result {
            if state.results.is_empty() {
                self.done.notify();
            }
            state.results.push((key, result));
        }
        state
    }
}
