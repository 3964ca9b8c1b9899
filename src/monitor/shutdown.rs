//! Ends the workers of a monitor, with a time limit.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{MutexGuard, TryLockError};
use std::thread;
use std::time::{Duration, Instant};

use pathpulse_kernel_compat::Mono;

use super::Monitor;
use super::workers::Workers;
use crate::config::ShutdownReport;
use crate::worker::WorkerMsg;

/// How long dropping a monitor waits for room in a worker's message queue.
const DROP_LIMIT: Duration = Duration::from_millis(100);
/// How long a worker waits for its reads after its monitor was dropped. A healthy device answers
/// within this time, and nothing of the monitor remains. The memory of other reads is leaked,
/// because the kernel may still write to it.
const DROP_GRACE: Duration = Duration::from_millis(100);
/// Extra time for the answer of a worker that used all of its time limit.
const REPLY_GRACE: Duration = Duration::from_millis(20);

/// Progress of a shutdown.
#[derive(Default)]
pub(super) struct ShutdownProgress {
    /// Which workers got the message; each gets it once.
    asked: Vec<bool>,
    /// The channel for the workers' answers.
    replies: Option<(Sender<usize>, Receiver<usize>)>,
    /// Number of workers that have answered.
    answered: usize,
    held_reads: usize,
}

impl Monitor {
    /// Stops all checks, cancels what can be cancelled, and returns within `limit`, whatever the
    /// devices do. No path can be added afterwards.
    ///
    /// Another call returns the same report, with later answers of workers included. Of two
    /// concurrent calls one waits for the other, up to its own limit.
    pub fn shutdown(&self, limit: Duration) -> ShutdownReport {
        self.registry.write().close();
        let (deadline, end) = (Mono::now() + limit, Instant::now() + limit);
        let workers = match &self.workers {
            Workers::Threads(workers) => workers,
            Workers::Processes(supervisor) => return supervisor.stop(deadline, end),
        };
        let Some(mut progress) = self.lock_progress(end) else {
            // The other call is still busy: no answer is known here.
            return ShutdownReport {
                held_reads: 0,
                silent_workers: workers.len(),
            };
        };
        progress.asked.resize(workers.len(), false);
        let ShutdownProgress {
            asked,
            replies,
            answered,
            held_reads,
        } = &mut *progress;
        let (reply, replies) = replies.get_or_insert_with(channel);
        for (worker, asked) in workers.iter().zip(&mut *asked) {
            *asked = *asked || worker.send_until(WorkerMsg::Stop(deadline, reply.clone()), end);
        }
        let mut waiting = asked.iter().filter(|asked| **asked).count() - *answered;
        while waiting > 0 {
            let left = end.saturating_duration_since(Instant::now()) + REPLY_GRACE;
            let Ok(held) = replies.recv_timeout(left) else {
                break;
            };
            *held_reads += held;
            *answered += 1;
            waiting -= 1;
        }
        ShutdownReport {
            held_reads: *held_reads,
            silent_workers: workers.len() - *answered,
        }
    }

    /// Locks the progress; `None` if another call of [`Monitor::shutdown`] holds it until `end`.
    fn lock_progress(&self, end: Instant) -> Option<MutexGuard<'_, ShutdownProgress>> {
        loop {
            match self.shutdown_progress.try_lock() {
                Ok(progress) => return Some(progress),
                Err(TryLockError::Poisoned(poisoned)) => return Some(poisoned.into_inner()),
                Err(TryLockError::WouldBlock) if Instant::now() < end => {
                    thread::sleep(Duration::from_millis(1));
                }
                Err(TryLockError::WouldBlock) => return None,
            }
        }
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        let end = Instant::now() + DROP_LIMIT;
        // A supervisor ends its readers when it is dropped.
        if let Workers::Threads(workers) = &self.workers {
            for worker in workers {
                let stop = WorkerMsg::Stop(Mono::now() + DROP_GRACE, channel().0);
                worker.send_until(stop, end);
            }
        }
    }
}
