//! What a worker needs of the rest of the monitor to have names looked up and files opened.

use std::path::Path;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use pathpulse_kernel_compat::{Choice, Waker};

use super::message::{Reopened, WorkerMsg};
use crate::config::BackendInfo;
use crate::device::{Comparison, Device, DeviceId, Identity, PendingOpens, Sysfs};
use crate::status::{NameDecision, PathId, Registry, StatusCell};

/// The backend of a worker as others see it: what it is, and how to wake the worker that waits in
/// it.
pub(crate) struct BackendHandle {
    pub(crate) info: BackendInfo,
    pub(crate) waker: Waker,
}

/// What a worker shares with the threads that look names up for it.
#[derive(Clone)]
pub(crate) struct WorkerEnv {
    pub(crate) choice: Choice,
    pub(crate) handle: Arc<RwLock<BackendHandle>>,
    /// The worker's own queue.
    pub(crate) messages: SyncSender<WorkerMsg>,
    /// Locked by the threads that open files only: the worker itself waits for no lock.
    pub(crate) registry: Arc<RwLock<Registry>>,
    pub(crate) opens: Arc<PendingOpens>,
}

/// How the name of a path is looked up again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lookup {
    pub(crate) id: PathId,
    /// Open it in any case: its device reported that it is gone, or its file was closed.
    pub(crate) always_opens: bool,
    /// Keep the open file if the name may lead to the same object: the path works, or a read of it
    /// is stuck, and another read there would be stuck, too.
    pub(crate) keeps_if_alike: bool,
}

impl WorkerEnv {
    /// Looks up what a name leads to, and opens that if it is another object than the one that is
    /// read. May take as long as the file system or the device takes: call it on threads that
    /// nobody waits for.
    pub(super) fn look_up(&self, lookup: &Lookup, name: &Path) -> Reopened {
        let known = self.registry().identity(lookup.id);
        if let (false, Some(known), Ok(now)) = (lookup.always_opens, known, Identity::of_name(name))
        {
            match now.compare(&known) {
                Comparison::Same => return Reopened::Same,
                Comparison::SameNumber if lookup.keeps_if_alike => return Reopened::Same,
                Comparison::SameNumber | Comparison::Different => {}
            }
        }
        match Device::open(name) {
            Ok(device) => Reopened::Device(Box::new(device)),
            Err(_) => Reopened::Nothing,
        }
    }

    /// The name of a path leads to the device that is read. Usually the registry knows.
    pub(super) fn clear_elsewhere(&self, id: PathId) {
        let is_elsewhere = self.registry().leads_elsewhere(id);
        if is_elsewhere {
            self.registry_mut().clear_elsewhere(id);
        }
    }

    /// Reads again what may have changed of a block device: its map, its size, its links.
    pub(super) fn refresh_details(&self, id: PathId) {
        let info = self.registry().cell(id).map(StatusCell::info);
        let Some(info) = info else {
            return;
        };
        let DeviceId::Block { major, minor } = info.device() else {
            return;
        };
        let details = Sysfs::of(major, minor).map(|sysfs| info.details().refreshed(&sysfs));
        if let Some(details) = details.filter(|details| details != info.details()) {
            self.registry().set_details(id, details);
        }
    }

    /// Records what the look-up found, and sends it to the worker.
    pub(super) fn hand_over(&self, id: PathId, found: Reopened) {
        let found = match found {
            Reopened::Device(device) => match self.registry_mut().decide_reopened(id, &device) {
                NameDecision::Follow => Reopened::Device(device),
                NameDecision::KeepDevice(news) => Reopened::Elsewhere(news),
                NameDecision::NotWatched => return,
            },
            Reopened::Same => {
                self.clear_elsewhere(id);
                Reopened::Same
            }
            other => other,
        };
        let _ = self.messages.send(WorkerMsg::Reopened(id, found));
        let handle = self.handle.read().unwrap_or_else(PoisonError::into_inner);
        handle.waker.wake();
    }

    fn registry(&self) -> RwLockReadGuard<'_, Registry> {
        self.registry.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn registry_mut(&self) -> RwLockWriteGuard<'_, Registry> {
        self.registry
            .write()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
