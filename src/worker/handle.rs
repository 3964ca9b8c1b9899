//! A worker's thread: starting it, and sending it messages.

use std::sync::mpsc::{SyncSender, TrySendError, channel, sync_channel};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::thread;
use std::time::{Duration, Instant};

use pathpulse_kernel_compat::{Errno, KernelError, open_backend};

use super::{BackendHandle, Supervision, Worker, WorkerEnv};
use crate::config::{BackendInfo, Config, StartError};
use crate::device::PendingOpens;
use crate::status::{Progress, SharedRegistry, WorkerStatus};
use crate::worker::message::WorkerMsg;

/// Messages that may be queued for a worker; the sender of another one waits, usually not for long.
const QUEUED_MAX: usize = 256;
/// Paths that a backend of fixed size makes room for at first.
const EXPECTED_PATHS: u32 = 64;
/// How long a worker may take to open its backend, which does no I/O to any device.
const START_LIMIT: Duration = Duration::from_secs(10);

/// A running worker, as other threads see it.
pub(crate) struct WorkerHandle {
    pub(crate) env: WorkerEnv,
    messages: SyncSender<WorkerMsg>,
    handle: Arc<RwLock<BackendHandle>>,
    progress: Arc<Progress>,
}

struct End(Arc<Progress>);

impl Drop for End {
    fn drop(&mut self) {
        self.0.set_ended();
    }
}

impl WorkerHandle {
    /// Sends a message; returns `false` if the worker is gone.
    pub(crate) fn send(&self, message: WorkerMsg) -> bool {
        let sent = self.messages.send(message).is_ok();
        self.wake();
        sent
    }

    /// Sends a message if the queue has room; drops it otherwise.
    pub(crate) fn try_send(&self, message: WorkerMsg) {
        if self.messages.try_send(message).is_ok() {
            self.wake();
        }
    }

    fn wake(&self) {
        self.handle().waker.wake();
    }

    /// How the worker is.
    pub(crate) fn status(&self) -> WorkerStatus {
        self.progress.snapshot(self.handle().info.clone())
    }

    pub(crate) fn handle(&self) -> RwLockReadGuard<'_, BackendHandle> {
        self.handle.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// As [`WorkerHandle::send`], but waits for room in the queue until `end` at most.
    pub(crate) fn send_until(&self, mut message: WorkerMsg, end: Instant) -> bool {
        loop {
            match self.messages.try_send(message) {
                Ok(()) => {
                    self.wake();
                    return true;
                }
                Err(TrySendError::Full(back)) if Instant::now() < end => message = back,
                Err(_) => return false,
            }
            // The standard channel has no send with a timeout.
            self.wake();
            thread::sleep(Duration::from_millis(1));
        }
    }
}

/// What a worker shares with others from its start on.
pub(crate) struct Surroundings {
    pub(crate) registry: SharedRegistry,
    pub(crate) opens: Arc<PendingOpens>,
    /// Where it writes its own status.
    pub(crate) progress: Progress,
    pub(crate) supervision: Option<Arc<dyn Supervision>>,
}

/// Starts a thread that opens a backend, which must stay on that thread, and runs the worker. The
/// thread is never joined: its end may take as long as a device takes.
pub(crate) fn start_worker(
    config: &Config,
    surroundings: Surroundings,
) -> Result<WorkerHandle, StartError> {
    let (choice, settings) = (config.backend, config.settings);
    let Surroundings {
        registry,
        opens,
        progress,
        supervision,
    } = surroundings;
    let progress = Arc::new(progress);
    let (messages, inbox) = sync_channel(QUEUED_MAX);
    let (ready, opened) = channel();
    let own_queue = messages.clone();
    let theirs = Arc::clone(&progress);
    let work = move || {
        let opened = match open_backend(choice, EXPECTED_PATHS) {
            Ok(opened) => opened,
            Err(tried) => return drop(ready.send(Err(StartError::NoBackend(tried)))),
        };
        let env = WorkerEnv {
            choice,
            handle: Arc::new(RwLock::new(BackendHandle {
                info: BackendInfo::of(&opened),
                waker: opened.backend.waker(),
            })),
            messages: own_queue,
            registry,
            opens,
            supervision,
        };
        // Recorded when the thread ends, also by a panic.
        let _end = End(Arc::clone(&theirs));
        if ready.send(Ok(env.clone())).is_ok() {
            Worker::new(opened.backend, settings, inbox, Some(env)).run(theirs);
        }
    };
    thread::Builder::new()
        .name("pathpulse-worker".to_owned())
        .spawn(work)
        .map_err(|error| StartError::NoThread(KernelError::of("clone")(error)))?;
    let env = opened
        .recv_timeout(START_LIMIT)
        .map_err(|_| no_thread())??;
    Ok(WorkerHandle {
        handle: Arc::clone(&env.handle),
        env,
        messages,
        progress,
    })
}

fn no_thread() -> StartError {
    let error = KernelError::new("clone", Errno::EAGAIN).hint("a worker thread did not start");
    StartError::NoThread(error)
}
