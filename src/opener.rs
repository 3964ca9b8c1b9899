//! Opening many paths without waiting for any of them.
//!
//! open(2) of a block device runs the driver's own code, which may wait for the device (SCSI error
//! recovery does). So paths are opened on threads that nobody waits for: a path that does not open
//! in time is reported as such, and its thread ends whenever the kernel lets it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

const THREADS_AT_FIRST: usize = 2;
const THREADS_MAX: usize = 1024;
/// When nothing opens for so long, the threads are presumed stuck, and as many again are started.
const STALL: Duration = Duration::from_millis(10);
const STACK_BYTES: usize = 128 * 1024;

struct Queue<T, F> {
    paths: Vec<PathBuf>,
    next: AtomicUsize,
    open: F,
    results: Sender<(usize, T)>,
}

impl<T, F: Fn(&Path) -> T> Queue<T, F> {
    fn work(&self) {
        loop {
            let index = self.next.fetch_add(1, Relaxed);
            let Some(path) = self.paths.get(index) else {
                return;
            };
            // What opens too late is closed again with the message that nobody takes.
            if self.results.send((index, (self.open)(path))).is_err() {
                return;
            }
        }
    }
}

/// Calls `open` for all paths on threads, and `each` here with the place of every path in the list
/// and what it opened as, in the order in which they open. What has not opened at `deadline` comes
/// as `None`.
pub(crate) fn open_all<T: Send + 'static>(
    paths: Vec<PathBuf>,
    deadline: Instant,
    open: impl Fn(&Path) -> T + Send + Sync + 'static,
    mut each: impl FnMut(usize, Option<T>),
) {
    let count = paths.len();
    let (results, receiver) = channel();
    let queue = Arc::new(Queue {
        paths,
        next: AtomicUsize::new(0),
        open,
        results,
    });
    let mut threads = start(&queue, THREADS_AT_FIRST.min(count));
    let mut missing = vec![true; count];
    let mut left = count;
    while left > 0 {
        let now = Instant::now();
        let left_time = deadline.saturating_duration_since(now);
        // More threads would help only while paths wait for one.
        let all_tried = queue.next.load(Relaxed) >= count || threads >= THREADS_MAX;
        let wait = if all_tried {
            left_time
        } else {
            left_time.min(STALL)
        };
        match receiver.recv_timeout(wait) {
            Ok((index, opened)) => {
                missing[index] = false;
                left -= 1;
                each(index, Some(opened));
            }
            Err(RecvTimeoutError::Timeout) if now < deadline => {
                let waiting = count.saturating_sub(queue.next.load(Relaxed));
                let more = threads.max(1).min(waiting).min(THREADS_MAX - threads);
                threads += start(&queue, more);
            }
            Err(_) => break,
        }
    }
    let blocked = missing.iter().enumerate().filter(|(_, missing)| **missing);
    for (index, _) in blocked {
        each(index, None);
    }
}

/// Starts up to `count` threads and returns how many there are of them.
fn start<T, F>(queue: &Arc<Queue<T, F>>, count: usize) -> usize
where
    T: Send + 'static,
    F: Fn(&Path) -> T + Send + Sync + 'static,
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
    use std::sync::{Condvar, Mutex};

    fn paths(count: usize) -> Vec<PathBuf> {
        (0..count).map(|n| PathBuf::from(n.to_string())).collect()
    }

    fn number(path: &Path) -> usize {
        path.to_str()
            .and_then(|name| name.parse().ok())
            .expect("a number")
    }

    #[test]
    fn every_path_is_answered_for_once() {
        let mut answers = vec![0; 300];
        let deadline = Instant::now() + Duration::from_secs(600);
        open_all(paths(300), deadline, number, |index, opened| {
            assert_eq!(opened, Some(index));
            answers[index] += 1;
        });
        assert!(answers.iter().all(|times| *times == 1));
        open_all(paths(0), deadline, number, |_, _| panic!("there is none"));
    }

    #[test]
    fn what_hangs_delays_no_other_and_is_reported_at_the_deadline() {
        let gate = Arc::new((Mutex::new(false), Condvar::new()));
        let hung = Arc::clone(&gate);
        let open = move |path: &Path| {
            if number(path) < 100 {
                let (lock, opened) = &*hung;
                let closed = lock.lock().expect("not poisoned");
                drop(opened.wait_while(closed, |open| !*open));
            }
        };
        let (mut opened, mut blocked) = (0, 0);
        let deadline = Instant::now() + Duration::from_secs(3);
        open_all(paths(120), deadline, open, |index, result| {
            assert_eq!(result.is_none(), index < 100, "{index}");
            match result {
                Some(()) => opened += 1,
                None => blocked += 1,
            }
        });
        assert_eq!((opened, blocked), (20, 100));
        *gate.0.lock().expect("not poisoned") = true;
        gate.1.notify_all();
    }
}
