//! Opening many paths without waiting for any of them.
//!
//! open(2) of a block device runs the driver's own code, which may wait for the device (SCSI error
//! recovery does). So paths are opened on threads that nobody waits for: a path that does not open
//! in time is reported as such, and its thread ends whenever the kernel lets it. Until then there is no
//! other open of that name: a device that hangs costs one thread, however often it is asked for.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

const THREADS_AT_FIRST: usize = 2;
const THREADS_MAX: usize = 1024;
/// When nothing opens for so long, the threads are presumed stuck, and as many again are started.
const STALL: Duration = Duration::from_millis(10);
const STACK_BYTES: usize = 128 * 1024;

/// The names that are being opened. Of each there is one open at a time, however long it takes: what asks
/// for another one gets it when that has returned.
#[derive(Default)]
pub(crate) struct Opens(Mutex<HashMap<PathBuf, Vec<Freed>>>);

/// Tells who waits for a name that it is free.
type Freed = Box<dyn FnOnce() + Send>;

/// A name that is being opened, until this is dropped.
struct Mark<'a> {
    opens: &'a Opens,
    name: &'a Path,
}

impl Opens {
    /// Marks a name, or has whoever asks be told when it is free.
    fn begin<'a>(&'a self, name: &'a Path, freed: impl FnOnce() -> Freed) -> Option<Mark<'a>> {
        match self.lock().entry(name.to_owned()) {
            Entry::Occupied(mut others) => {
                others.get_mut().push(freed());
                None
            }
            Entry::Vacant(place) => {
                place.insert(Vec::new());
                Some(Mark { opens: self, name })
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<PathBuf, Vec<Freed>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Mark<'_> {
    fn drop(&mut self) {
        let waiting = self.opens.lock().remove(self.name);
        for freed in waiting.into_iter().flatten() {
            freed();
        }
    }
}

struct Queue<T, F> {
    paths: Vec<PathBuf>,
    /// The places of those that no thread has taken.
    left: Mutex<VecDeque<usize>>,
    opens: Arc<Opens>,
    open: F,
    results: Sender<Told<T>>,
}

enum Told<T> {
    Opened(usize, T),
    /// Somebody else has it no longer: it is to be opened.
    Freed(usize),
}

impl<T: Send + 'static, F: Fn(usize, &Path) -> T> Queue<T, F> {
    fn work(&self) {
        while let Some(index) = self.take() {
            let path = &self.paths[index];
            let mark = self.opens.begin(path, || {
                let results = self.results.clone();
                Box::new(move || drop(results.send(Told::Freed(index))))
            });
            let Some(mark) = mark else {
                continue;
            };
            let opened = (self.open)(index, path);
            drop(mark);
            // What opens too late is closed again with the message that nobody takes.
            if self.results.send(Told::Opened(index, opened)).is_err() {
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

/// Calls `open` for all paths on threads, and `each` here with the place of every path in the list
/// and what it opened as, in the order in which they open. What has not opened at `deadline`, if there is
/// one, comes as `None`.
pub(crate) fn open_all<T: Send + 'static>(
    paths: Vec<PathBuf>,
    deadline: Option<Instant>,
    opens: &Arc<Opens>,
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
        // More threads would help only while paths wait for one.
        let untried = queue.left().len();
        let left_time = deadline.map(|end| end.saturating_duration_since(Instant::now()));
        let wait = match (untried > 0 && threads < THREADS_MAX, left_time) {
            (true, left_time) => Some(left_time.map_or(STALL, |left| left.min(STALL))),
            (false, left_time) => left_time,
        };
        let told = match wait {
            Some(wait) => receiver.recv_timeout(wait),
            None => receiver.recv().map_err(RecvTimeoutError::from),
        };
        match told {
            Ok(Told::Opened(index, opened)) => {
                missing[index] = false;
                left -= 1;
                each(index, Some(opened));
            }
            Ok(Told::Freed(index)) => {
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
    // Whatever no thread has taken by now none is to take.
    queue.left().clear();
    let blocked = missing.iter().enumerate().filter(|(_, missing)| **missing);
    for (index, _) in blocked {
        each(index, None);
    }
}

/// Calls `look` for each of these names, and returns what it returned, in their order. That may take as long as
/// the file systems like on which the names lie, so it is done on threads that nobody waits for longer than
/// `limit`: what is not there by then is `None`.
pub fn look_up_all<T: Send + 'static>(
    names: &[PathBuf],
    limit: Duration,
    look: impl Fn(&Path) -> T + Send + Sync + 'static,
) -> Vec<Option<T>> {
    let mut all: Vec<Option<T>> = names.iter().map(|_| None).collect();
    let end = Instant::now() + limit;
    let look = move |_: usize, name: &Path| look(name);
    open_all(
        names.to_vec(),
        Some(end),
        &Arc::default(),
        look,
        |index, found| {
            all[index] = found;
        },
    );
    all
}

/// Starts up to `count` threads and returns how many there are of them.
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
    fn every_path_is_answered_for_once() {
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
    fn what_hangs_delays_no_other_and_is_reported_at_the_deadline() {
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
    fn a_name_is_opened_once_at_a_time_and_who_asks_meanwhile_gets_it_afterwards() {
        let opens = Arc::new(Opens::default());
        let gate = Arc::new((Mutex::new(false), Condvar::new()));
        let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let ask = |deadline: Option<Instant>| {
            let (gate, opens) = (Arc::clone(&gate), Arc::clone(&opens));
            let (running, most) = (Arc::clone(&running), Arc::clone(&most));
            thread::spawn(move || {
                let mut said = None;
                let open = move |_: usize, _: &Path| {
                    most.fetch_max(running.fetch_add(1, Relaxed) + 1, Relaxed);
                    let (lock, opened) = &*gate;
                    let closed = lock.lock().expect("not poisoned");
                    drop(opened.wait_while(closed, |open| !*open));
                    running.fetch_sub(1, Relaxed);
                };
                open_all(paths(1), deadline, &opens, open, |_, opened| said = opened);
                said
            })
        };
        let soon = || Some(Instant::now() + Duration::from_millis(50));
        // As often as it may: none of them opens it besides, and each has its limit.
        let first = ask(None);
        for _ in 0..20 {
            assert_eq!(ask(soon()).join().expect("no panic"), None);
        }
        let patient = ask(None);
        *gate.0.lock().expect("not poisoned") = true;
        gate.1.notify_all();
        assert_eq!(first.join().expect("no panic"), Some(()));
        assert_eq!(patient.join().expect("no panic"), Some(()));
        assert_eq!((running.load(Relaxed), most.load(Relaxed)), (0, 1));
    }
}
