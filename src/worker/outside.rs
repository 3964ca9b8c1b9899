//! What a worker has others do for it: opening files, which may take as long as a device likes.
//!
//! The files of all paths are opened anew when a backend broke that had them; the file of one path,
//! when its device says that it is gone: its name may stand for a new device by now. Both is done on
//! threads that nobody waits for, and comes back as a command.

use std::path::PathBuf;
use std::sync::mpsc::SyncSender;
use std::sync::{PoisonError, RwLock};
use std::time::Instant;

use pathpulse_kernel_compat::{Choice, Waker};

use super::*;
use crate::config::BackendInfo;
use crate::device::Device;
use crate::opener::open_all;
use crate::registry::Registry;

/// How long a path may take to be opened anew.
const REOPEN_LIMIT: Duration = Duration::from_secs(60);

/// The backend of a worker as others see it: what it is, and how to wake who waits in it.
pub(crate) struct Carrier {
    pub(crate) info: BackendInfo,
    pub(crate) waker: Waker,
}

/// What a worker knows of the world outside.
#[derive(Clone)]
pub(crate) struct Outside {
    pub(crate) choice: Choice,
    pub(crate) carrier: Arc<RwLock<Carrier>>,
    /// The worker's own queue.
    pub(crate) commands: SyncSender<Command>,
    /// Only for the threads that open: the worker waits for no lock.
    pub(crate) registry: Arc<RwLock<Registry>>,
}

impl Outside {
    /// Opens a path, or not, and says so to the worker.
    fn hand_over(&self, id: PathId, opened: Option<Device>) {
        let device = opened.filter(|device| {
            let mut registry = self
                .registry
                .write()
                .unwrap_or_else(PoisonError::into_inner);
            registry.now_leads_to(id, device)
        });
        let _ = self
            .commands
            .send(Command::Reopened(id, device.map(Box::new)));
        let carrier = self.carrier.read().unwrap_or_else(PoisonError::into_inner);
        carrier.waker.wake();
    }
}

impl Worker {
    /// Has those paths opened anew whose devices are gone.
    pub(super) fn reopen_gone(&mut self) {
        if self.gone.is_empty() {
            return;
        }
        let gone = std::mem::take(&mut self.gone);
        self.open_anew(&gone);
    }

    /// Has paths opened by threads, which send the files here.
    pub(super) fn open_anew(&mut self, keys: &[Key]) {
        let Some(outside) = self.outside.clone() else {
            return;
        };
        let (mut ids, mut names): (Vec<PathId>, Vec<PathBuf>) = Default::default();
        for key in keys {
            if let Some(path) = self.paths.get_mut(*key)
                && !std::mem::replace(&mut path.reopening, true)
            {
                ids.push(path.id);
                names.push(path.cell.info().name().to_owned());
            }
        }
        let tried = ids.clone();
        let work = move || {
            let end = Instant::now() + REOPEN_LIMIT;
            open_all(names, end, Device::open, |place, opened| {
                outside.hand_over(ids[place], opened.and_then(Result::ok));
            });
        };
        let thread = std::thread::Builder::new().name("pathpulse-reopen".to_owned());
        if let Err(error) = thread.spawn(work) {
            tracing::error!(%error, "no thread to open paths anew");
            for id in tried {
                self.reopened(id, None);
            }
        }
    }

    /// Reads a path through this file from now on, if it could be opened.
    pub(super) fn reopened(&mut self, id: PathId, device: Option<Box<Device>>) {
        let Some(&key) = self.keys.get(&id) else {
            return;
        };
        let Some(path) = self.paths.get_mut(key) else {
            return;
        };
        path.reopening = false;
        let Some(device) = device else {
            if path.target.is_none() {
                tracing::error!(device = %path.cell.info().device(), "could not be opened anew; it keeps its state");
            }
            return;
        };
        // A read that is stuck belongs to the old file; nobody waits for it any more.
        path.stuck = None;
        path.standstill = None;
        path.cell.set_stuck(None);
        let (old, read) = (path.target.take(), path.read.take());
        if let Some(read) = read {
            self.backend.cancel(read);
        }
        if let Some(old) = old {
            self.backend.detach(old);
        }
        match self.backend.attach(path.take_device(*device)) {
            Ok(target) => path.target = Some(target),
            Err(error) => tracing::error!(%error, "a path can't be read any more"),
        }
        self.learn_nowait(key, Nowait::Untried);
        let Some(path) = self.paths.get_mut(key) else {
            return;
        };
        let now = self.backend.now();
        if path.check.is_some() {
            self.running -= 1;
            let why = Why::Cancelled;
            self.conclude(key, Verdict::Unknown { why }, now);
        }
        if let Some(path) = self.paths.get_mut(key) {
            path.reopened = true;
        }
        self.begin(key, now);
    }
}
