//! Threads for calls that may block for as long as a device is silent.
//!
//! There are as many as are needed, up to a bound: a few at first, and twice as many each time that
//! none of these takes a waiting read any more. A thread that is blocked with a read past its deadline is
//! abandoned: it counts against the bound until its call returns, and is of use again then. So many
//! threads end as were idle at every moment of some seconds, however the work is spread. Nobody
//! ever waits for a thread, also not when the owner is dropped.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::errno::KernelResult;
use crate::{Errno, KernelError, Key, Mono, Waker};

/// Room for a system call and its wrappers. Only touched pages cost memory.
const STACK_BYTES: usize = 64 * 1024;
/// Threads that are started without looking whether fewer would do.
const FEW: usize = 16;
/// When no thread has taken a waiting read for so long, all are taken to be blocked. Hanging devices
/// can add this to the latency of a healthy one, a few times over when many begin to hang at once.
const STALL: Duration = Duration::from_millis(2);
/// A thread without work ends after this, and so many do as were not needed for so long.
const IDLE: Duration = Duration::from_secs(10);

/// A call that may block.
pub(crate) trait Call: Send + 'static {
    /// Makes it. The result is reported; `None` is not.
    fn run(self) -> Option<KernelResult>;
}

/// Something that is to be done once, by a thread that nobody waits for.
pub(crate) type Chore = Box<dyn FnOnce() + Send>;

enum Task<C> {
    Read(Key, C),
    Chore(Chore),
}

/// Where a read is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whereabouts {
    /// It was waiting for a thread, and does so no more.
    TakenBack,
    /// A thread is making its call; that thread is abandoned.
    Running,
    /// Its call has returned.
    Returned,
}

struct State<C> {
    queue: VecDeque<Task<C>>,
    running: HashSet<Key>,
    abandoned: HashSet<Key>,
    results: Vec<(Key, KernelResult)>,
    live: usize,
    idle: usize,
    surplus: Surplus,
    last_start: Mono,
    closed: bool,
}

/// Threads that are not needed, however the work is spread over all.
#[derive(Default)]
struct Surplus {
    since: Mono,
    /// The fewest that were idle since then.
    idle_least: usize,
    /// So many are to end.
    ending: usize,
}

impl Surplus {
    fn saw(&mut self, idle: usize) {
        self.idle_least = self.idle_least.min(idle);
    }

    /// Whether a thread that has nothing to do is to end now, beside so many that are idle.
    fn ends_one(&mut self, idle: usize, now: Mono) -> bool {
        if now.since(self.since) >= IDLE {
            self.ending = self.idle_least;
            self.idle_least = idle;
            self.since = now;
        }
        let ends = self.ending > 0;
        self.ending -= usize::from(ends);
        ends
    }
}

struct Shared<C> {
    state: Mutex<State<C>>,
    work: Condvar,
    done: Waker,
}

/// The owner's end.
pub(crate) struct Threads<C: Call> {
    shared: Arc<Shared<C>>,
    max: usize,
    /// See [`STALL`].
    stall: Duration,
}

impl<C: Call> Threads<C> {
    /// No thread yet, and never more than `max`. `done` is rung when there are results.
    pub(crate) fn new(max: usize, done: Waker) -> Threads<C> {
        let state = State {
            queue: VecDeque::new(),
            running: HashSet::new(),
            abandoned: HashSet::new(),
            results: Vec::new(),
            live: 0,
            idle: 0,
            surplus: Surplus::default(),
            last_start: Mono::ZERO,
            closed: false,
        };
        let shared = Shared {
            state: Mutex::new(state),
            work: Condvar::new(),
            done,
        };
        Threads {
            shared: Arc::new(shared),
            max,
            stall: STALL,
        }
    }

    /// For work without haste: all threads are taken to be blocked only after so long. A machine that is
    /// busy would get threads by the hundred otherwise.
    pub(crate) fn patient(mut self, stall: Duration) -> Threads<C> {
        self.stall = stall;
        self
    }

    /// Proves that a thread can be had.
    ///
    /// # Errors
    /// `clone`, with the limits that may be in the way.
    pub(crate) fn probe(&self) -> Result<(), KernelError> {
        let thread = std::thread::Builder::new().stack_size(STACK_BYTES);
        // It is not waited for: its end could be late.
        thread.spawn(|| ()).map(drop).map_err(|error| {
            KernelError::new("clone", Errno::of(&error)).hint(
                "no thread can be had; look at RLIMIT_NPROC (ulimit -u), kernel.threads-max and the cgroup's pids.max (TasksMax= in the unit)",
            )
        })
    }

    /// Raises the bound.
    pub(crate) fn allow(&mut self, max: usize) {
        self.max = self.max.max(max);
    }

    /// Whether all threads that there may be are abandoned.
    pub(crate) fn are_exhausted(&self) -> bool {
        self.shared.lock().abandoned.len() >= self.max
    }

    /// Threads that are blocked with reads which were given up.
    pub(crate) fn abandoned(&self) -> usize {
        self.shared.lock().abandoned.len()
    }

    /// Queues a read for the next `dispatch`.
    pub(crate) fn read(&self, key: Key, call: C) {
        self.shared.push(Task::Read(key, call));
    }

    /// Has something else done, as soon as a thread is free.
    pub(crate) fn chore(&self, chore: Chore) {
        self.shared.push(Task::Chore(chore));
        self.dispatch();
    }

    /// Gets the queue to threads, starting some if need be. Returns when to call it again.
    pub(crate) fn dispatch(&self) -> Option<Mono> {
        let mut state = self.shared.lock();
        if state.queue.is_empty() {
            return None;
        }
        let now = Mono::now();
        let start = to_start(&Load {
            queued: state.queue.len(),
            idle: state.idle,
            live: state.live,
            abandoned: state.abandoned.len(),
            max: self.max,
            stalled: now.since(state.last_start) >= self.stall,
        });
        let wake = state.queue.len().min(state.idle);
        state.live += start;
        assert!(state.live <= self.max, "more threads than there may be");
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

    /// Takes the results that there are.
    pub(crate) fn results(&self, results: &mut Vec<(Key, KernelResult)>) {
        results.append(&mut self.shared.lock().results);
    }

    /// Withdraws a read if it is waiting for a thread, and else abandons it.
    pub(crate) fn give_up(&self, key: Key) -> Whereabouts {
        let mut state = self.shared.lock();
        if state.take_back(key) {
            return Whereabouts::TakenBack;
        }
        if state.running.contains(&key) {
            let is_new = state.abandoned.insert(key);
            debug_assert!(is_new, "a read is given up once");
            return Whereabouts::Running;
        }
        Whereabouts::Returned
    }

    /// Withdraws a read if it is waiting for a thread.
    pub(crate) fn take_back(&self, key: Key) -> bool {
        self.shared.lock().take_back(key)
    }
}

impl<C: Call> Drop for Threads<C> {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.closed = true;
        // A chore may block, so none waits for another. Without a thread it is not done: its
        // descriptors and the like are leaked, as everything else here may be.
        for task in std::mem::take(&mut state.queue) {
            if let Task::Chore(chore) = task {
                let _ = std::thread::Builder::new()
                    .name("pathpulse-chore".into())
                    .stack_size(STACK_BYTES)
                    .spawn(chore);
            }
        }
        drop(state);
        self.shared.work.notify_all();
    }
}

/// What the number of threads is decided on.
struct Load {
    queued: usize,
    idle: usize,
    live: usize,
    abandoned: usize,
    max: usize,
    stalled: bool,
}

fn to_start(load: &Load) -> usize {
    let lacking = load.queued.saturating_sub(load.idle);
    let allowed = load.max.saturating_sub(load.live);
    let more = match load.stalled {
        true => FEW.max(load.live),
        false => FEW.saturating_sub(load.live - load.abandoned),
    };
    lacking.min(more).min(allowed)
}

impl<C> State<C> {
    fn take_back(&mut self, key: Key) -> bool {
        let is_it = |task: &Task<C>| matches!(task, Task::Read(of, _) if *of == key);
        let place = self.queue.iter().position(is_it);
        place.and_then(|place| self.queue.remove(place)).is_some()
    }
}

impl<C: Call> Shared<C> {
    fn lock(&self) -> MutexGuard<'_, State<C>> {
        // Nothing panics while it holds the lock; if something did, the state would be good enough.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, task: Task<C>) {
        let mut state = self.lock();
        if state.queue.is_empty() {
            state.last_start = Mono::now();
        }
        state.queue.push_back(task);
    }

    fn start(shared: &Arc<Self>) -> bool {
        let shared = Arc::clone(shared);
        std::thread::Builder::new()
            .name("pathpulse-read".into())
            .stack_size(STACK_BYTES)
            .spawn(move || shared.work())
            .is_ok()
    }

    /// A thread's life.
    fn work(&self) {
        let mut state = self.lock();
        while !state.closed {
            let Some(task) = state.queue.pop_front() else {
                let idle = state.idle;
                if state.surplus.ends_one(idle, Mono::now()) {
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
                state.surplus.saw(idle);
                if timeout.timed_out() && state.queue.is_empty() {
                    break;
                }
                continue;
            };
            state.last_start = Mono::now();
            state = self.perform(task, state);
        }
        assert!(state.live > 0, "a thread that was not counted");
        state.live -= 1;
    }

    fn perform<'a>(
        &'a self,
        task: Task<C>,
        mut state: MutexGuard<'a, State<C>>,
    ) -> MutexGuard<'a, State<C>> {
        let (key, call) = match task {
            Task::Read(key, call) => (key, call),
            Task::Chore(chore) => {
                drop(state);
                chore();
                return self.lock();
            }
        };
        let is_new = state.running.insert(key);
        debug_assert!(is_new, "two threads make one read");
        drop(state);
        let result = call.run();
        let mut state = self.lock();
        let was_running = state.running.remove(&key);
        debug_assert!(was_running);
        state.abandoned.remove(&key);
        if let Some(result) = result {
            if state.results.is_empty() {
                self.done.ring();
            }
            state.results.push((key, result));
        }
        state
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, Sender, channel};

    /// Blocks until it is told the result.
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

    #[test]
    fn as_many_end_as_were_idle_all_the_time() {
        let at = |seconds| Mono::ZERO + Duration::from_secs(seconds);
        let mut surplus = Surplus::default();
        assert!(!surplus.ends_one(9, at(11)), "nothing is known yet");
        for idle in [9, 4, 7] {
            surplus.saw(idle);
        }
        assert!(!surplus.ends_one(8, at(20)));
        let ended = (0..20).filter(|_| surplus.ends_one(8, at(21))).count();
        assert_eq!(ended, 4);
        surplus.saw(0);
        assert!(!surplus.ends_one(8, at(40)), "all were needed at a moment");
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
            threads.results(&mut results);
            std::thread::yield_now();
        }
        results
    }

    #[test]
    fn blocked_reads_do_not_keep_others_waiting() {
        let threads = threads(100);
        let mut held = Vec::new();
        for n in 0..50 {
            let (sender, call) = blocked();
            held.push(sender);
            threads.read(key(n), call);
        }
        dispatch_until(&threads, 50);
        let (sender, call) = blocked();
        sender.send(Ok(1)).expect("it listens");
        threads.read(key(50), call);
        assert_eq!(results(&threads, 1), [(key(50), Ok(1))]);
    }

    #[test]
    fn the_bound_holds_and_abandoned_threads_are_of_use_again() {
        let threads = threads(2);
        let mut held = Vec::new();
        for n in 0..3 {
            let (sender, call) = blocked();
            held.push(sender);
            threads.read(key(n), call);
        }
        dispatch_until(&threads, 2);
        assert_eq!(threads.give_up(key(0)), Whereabouts::Running);
        assert!(!threads.are_exhausted());
        assert_eq!(threads.give_up(key(1)), Whereabouts::Running);
        assert!(threads.are_exhausted());
        std::thread::sleep(STALL);
        assert_eq!(threads.dispatch(), None, "no thread can be started");
        assert_eq!(threads.shared.lock().live, 2);
        held[0].send(Ok(7)).expect("it listens");
        held[2].send(Ok(9)).expect("it listens");
        let ended = results(&threads, 2);
        assert_eq!(ended, [(key(0), Ok(7)), (key(2), Ok(9))]);
        assert!(!threads.are_exhausted());
        assert_eq!(threads.give_up(key(0)), Whereabouts::Returned);
    }

    #[test]
    fn a_waiting_read_can_be_taken_back_and_a_running_one_not() {
        let threads = threads(1);
        let (sender, call) = blocked();
        threads.read(key(0), call);
        dispatch_until(&threads, 1);
        let (_unused, call) = blocked();
        threads.read(key(1), call);
        assert!(!threads.take_back(key(0)));
        assert!(threads.take_back(key(1)) && !threads.take_back(key(1)));
        sender.send(Ok(0)).expect("it listens");
        assert_eq!(results(&threads, 1).len(), 1);
    }

    #[test]
    fn dropping_waits_for_nothing_and_does_the_chores() {
        let threads = threads(1);
        let (_held, call) = blocked();
        threads.read(key(0), call);
        dispatch_until(&threads, 1);
        let (sender, done) = channel();
        threads.chore(Box::new(move || sender.send(()).expect("it listens")));
        drop(threads);
        done.recv().expect("the chore was done");
    }

    #[test]
    fn few_threads_are_started_until_they_stall() {
        let load = |queued, idle, live, abandoned, stalled| Load {
            queued,
            idle,
            live,
            abandoned,
            max: 100,
            stalled,
        };
        assert_eq!(to_start(&load(1, 0, 0, 0, false)), 1);
        assert_eq!(to_start(&load(1000, 0, 0, 0, false)), FEW);
        assert_eq!(to_start(&load(1000, 0, FEW, 0, false)), 0);
        assert_eq!(to_start(&load(1000, 0, FEW, 0, true)), FEW);
        assert_eq!(to_start(&load(1000, 0, 2 * FEW, 0, true)), 2 * FEW);
        assert_eq!(to_start(&load(1000, 0, 80, 0, true)), 20);
        assert_eq!(to_start(&load(1000, 0, 90, 90, false)), 10);
        assert_eq!(to_start(&load(5, 5, 5, 0, true)), 0);
        assert_eq!(to_start(&load(5, 0, 100, 100, true)), 0);
    }
}
