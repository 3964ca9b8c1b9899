//! Opens many paths in parallel, without waiting for a path that hangs.
//!
//! open(2) of a block device runs code of the driver, which may wait for the device (SCSI error
//! recovery does). So paths are opened on separate threads. A path that does not open in time is
//! reported as such, and its thread ends when the kernel lets it. Until then nobody else opens that
//! name: a hung device costs one thread, however often it is opened.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Number of threads at the start of [`open_all`], and its limit.
const THREADS_AT_FIRST: usize = 2;
const THREADS_MAX: usize = 1024;
/// If nothing opens for this long, the threads are presumed stuck and their number is doubled.
const STALL: Duration = Duration::from_millis(10);
const STACK_BYTES: usize = 128 * 1024;

/// The names that are being opened, each by at most one thread at a time. Another request for the
/// same name runs after that open has returned.
#[derive(Default)]
pub(crate) struct PendingOpens(Mutex<HashMap<PathBuf, Vec<OnFree>>>);

/// Called when a name is free again.
type OnFree = Box<dyn FnOnce() + Send>;

/// Marks a name as being opened until it is dropped.
struct Reservation<'a> {
    opens: &'a PendingOpens,
    name: &'a Path,
}

impl PendingOpens {
    /// Reserves a name. If it is taken, registers `on_free` to be called when the name is free.
    fn reserve<'a>(
        &'a self,
        name: &'a Path,
        on_free: impl FnOnce() -> OnFree,
    ) -> Option<Reservation<'a>> {
        match self.lock().entry(name.to_owned()) {
            Entry::Occupied(mut others) => {
                others.get_mut().push(on_free());
                None
            }
            Entry::Vacant(place) => {
                place.insert(Vec::new());
                Some(Reservation { opens: self, name })
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<PathBuf, Vec<OnFree>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        let waiting = self.opens.lock().remove(self.name);
        for on_free in waiting.into_iter().flatten() {
            on_free();
        }
    }
}

/// The work of one call of [`open_all`], shared by its threads.
struct Queue<T, F> {
    paths: Vec<PathBuf>,
    /// Indices of the paths that no thread has taken.
    left: Mutex<VecDeque<usize>>,
    opens: Arc<PendingOpens>,
    open: F,
    results: Sender<OpenMsg<T>>,
}

/// What a thread reports. Both messages have the index of a path.
enum OpenMsg<T> {
    Opened(usize, T),
    /// Another thread has released the name: it can be opened now.
    NameFree(usize),
}

impl<T: Send + 'static, F: Fn(usize, &Path) -> T> Queue<T, F> {
    fn work(&self) {
        while let Some(index) = self.take() {
            let path = &self.paths[index];
            let reservation = self.opens.reserve(path, || {
                let results = self.results.clone();
                Box::new(move || drop(results.send(OpenMsg::NameFree(index))))
            });
            let Some(reservation) = reservation else {
                continue;
            };
            let opened = (self.open)(index, path);
            drop(reservation);
            // If the receiver is gone, the message is dropped, and with it the file that opened too
            // late.
            if self.results.send(OpenMsg::Opened(index, opened)).is_err() {
                return;
            }
        }
    }
}

impl<T, F> Queue<T, F> {
    fn take(&self) -> Option<usize> {
        self.left().pop_front()
    }

    fn left(&self) -> MutexGuard<'_, VecDeque<usize>> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Calls `open` for all paths on separate threads, and `each` on this thread with the index of each
/// path and its result, in the order of completion. A path that has not opened by `deadline` has
/// the result `None`.
pub(crate) fn open_all<T: Send + 'static>(
    paths: Vec<PathBuf>,
    deadline: Option<Instant>,
    opens: &Arc<PendingOpens>,
    open: impl Fn(usize, &Path) -> T + Send + Sync + 'static,
    mut each: impl FnMut(usize, Option<T>),
) {
    let count = paths.len();
    let (results, receiver) = channel();
    let queue = Arc::new(Queue {
        paths,
        left: Mutex::new((0..count).collect()),
        opens: Arc::clone(opens),
        open,
        results,
    });
    let mut threads = start(&queue, THREADS_AT_FIRST.min(count));
    let mut missing = vec![true; count];
    let mut left = count;
    while left > 0 {
        // More threads help only while paths wait for one.
        let untried = queue.left().len();
        let may_start_more = untried > 0 && threads < THREADS_MAX;
        let left_time = deadline.map(|end| end.saturating_duration_since(Instant::now()));
        let message = match wait_time(left_time, may_start_more) {
            Some(wait) => receiver.recv_timeout(wait),
            None => receiver.recv().map_err(RecvTimeoutError::from),
        };
        match message {
            Ok(OpenMsg::Opened(index, opened)) => {
                missing[index] = false;
                left -= 1;
                each(index, Some(opened));
            }
            Ok(OpenMsg::NameFree(index)) => {
                queue.left().push_back(index);
                start(&queue, 1);
            }
            Err(_) if left_time == Some(Duration::ZERO) => break,
            Err(RecvTimeoutError::Timeout) => {
                let more = threads.max(1).min(untried).min(THREADS_MAX - threads);
                threads += start(&queue, more);
            }
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    // No thread takes any of the remaining paths from here on.
    queue.left().clear();
    let blocked = missing.iter().enumerate().filter(|(_, missing)| **missing);
    for (index, _) in blocked {
        each(index, None);
    }
}

/// How long to wait for a result: not beyond the deadline, and not long if more threads may help.
fn wait_time(left_time: Option<Duration>, may_start_more: bool) -> Option<Duration> {
    match may_start_more {
        true => Some(left_time.map_or(STALL, |left| left.min(STALL))),
        false => left_time,
    }
}

/// Calls `query` for each of these names on separate threads, and returns the results in the order
/// of the names. A call may block as long as the file system of its name does. This function waits
/// at most `limit`; a result that is not there by then is `None`.
pub fn query_all<T: Send + 'static>(
    names: &[PathBuf],
    limit: Duration,
    query: impl Fn(&Path) -> T + Send + Sync + 'static,
) -> Vec<Option<T>> {
    let mut all: Vec<Option<T>> = names.iter().map(|_| None).collect();
    let end = Instant::now() + limit;
    let query = move |_: usize, name: &Path| query(name);
    open_all(
        names.to_vec(),
        Some(end),
        &Arc::default(),
        query,
        |index, found| {
            all[index] = found;
        },
    );
    all
}

/// Starts up to `count` threads. Returns how many were started.
fn start<T, F>(queue: &Arc<Queue<T, F>>, count: usize) -> usize
where
    T: Send + 'static,
    F: Fn(usize, &Path) -> T + Send + Sync + 'static,
{
    let started = (0..count).map_while(|_| {
        let queue = Arc::clone(queue);
        thread::Builder::new()
            .name("pathpulse-open".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(move || queue.work())
            .ok()
    });
    started.count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Condvar;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    fn paths(count: usize) -> Vec<PathBuf> {
        (0..count).map(|n| PathBuf::from(n.to_string())).collect()
    }

    fn number(_: usize, path: &Path) -> usize {
        path.to_str()
            .and_then(|name| name.parse().ok())
            .expect("a number")
    }

    #[test]
    fn every_path_gets_one_answer() {
        let mut answers = vec![0; 300];
        let deadline = Instant::now() + Duration::from_secs(600);
        open_all(
            paths(300),
            Some(deadline),
            &Arc::default(),
            number,
            |index, opened| {
                assert_eq!(opened, Some(index));
                answers[index] += 1;
            },
        );
        assert!(answers.iter().all(|times| *times == 1));
        open_all(paths(0), None, &Arc::default(), number, |_, _| {
            panic!("there is none")
        });
    }

    #[test]
    fn a_hung_open_delays_no_other_and_is_reported_at_the_deadline() {
        let gate = Arc::new((Mutex::new(false), Condvar::new()));
        let hung = Arc::clone(&gate);
        let open = move |place: usize, path: &Path| {
            if number(place, path) < 100 {
                let (lock, opened) = &*hung;
                let closed = lock.lock().expect("not poisoned");
                drop(opened.wait_while(closed, |open| !*open));
            }
        };
        let (mut opened, mut blocked) = (0, 0);
        let deadline = Instant::now() + Duration::from_secs(3);
        open_all(
            paths(120),
            Some(deadline),
            &Arc::default(),
            open,
            |index, result| {
                assert_eq!(result.is_none(), index < 100, "{index}");
                match result {
                    Some(()) => opened += 1,
                    None => blocked += 1,
                }
            },
        );
        assert_eq!((opened, blocked), (20, 100));
        *gate.0.lock().expect("not poisoned") = true;
        gate.1.notify_all();
    }

    #[test]
    fn a_name_is_opened_by_one_thread_at_a_time_and_requests_wait() {
        let opens = Arc::new(PendingOpens::default());
        let gate = Arc::new((Mutex::new(false), Condvar::new()));
        let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let ask = |deadline: Option<Instant>| {
            let (gate, opens) = (Arc::clone(&gate), Arc::clone(&opens));
            let (running, most) = (Arc::clone(&running), Arc::clone(&most));
            thread::spawn(move || {
                let mut result = None;
                let open = move |_: usize, _: &Path| {
                    most.fetch_max(running.fetch_add(1, Relaxed) + 1, Relaxed);
                    let (lock, opened) = &*gate;
                    let closed = lock.lock().expect("not poisoned");
                    drop(opened.wait_while(closed, |open| !*open));
                    running.fetch_sub(1, Relaxed);
                };
                open_all(paths(1), deadline, &opens, open, |_, opened| {
                    result = opened;
                });
                result
            })
        };
        let soon = || Some(Instant::now() + Duration::from_millis(50));
        // No further request opens the name meanwhile, and each keeps its own limit.
        let first = ask(None);
        for _ in 0..20 {
            assert_eq!(ask(soon()).join().expect("no panic"), None);
        }
        let waiting = ask(None);
        *gate.0.lock().expect("not poisoned") = true;
        gate.1.notify_all();
        assert_eq!(first.join().expect("no panic"), Some(()));
        assert_eq!(waiting.join().expect("no panic"), Some(()));
        assert_eq!((running.load(Relaxed), most.load(Relaxed)), (0, 1));
    }
}
