//! What a worker needs of the rest of the monitor to have names looked up and files opened.

use std::path::Path;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, PoisonError, RwLock};

use pathpulse_kernel_compat::{Choice, Waker};

use super::message::{Reopened, WorkerMsg};
use crate::config::BackendInfo;
use crate::device::{Comparison, Device, DeviceId, DeviceInfo, Identity, PendingOpens, Sysfs};
use crate::status::{NameDecision, PathId, SharedRegistry, StatusCell};

/// The backend of a worker as others see it: what it is, and how to wake the worker that waits in
/// it.
pub(crate) struct BackendHandle {
    pub(crate) info: BackendInfo,
    pub(crate) waker: Waker,
}

/// The supervisor of a worker in a reader, as the worker's threads see it. Calls may wait until the
/// supervisor reads what it is sent, so the worker itself makes none.
pub(crate) trait Supervision: Send + Sync {
    /// Asks whether a path is to be read through this device, which its name leads to now. The
    /// answer comes through [`WorkerEnv::answer`].
    fn ask_about(&self, id: PathId, device: Box<Device>);
    /// The name of a path leads to the device that is read, again.
    fn report_same_name(&self, id: PathId);
    /// What is known of the device of a path has changed.
    fn report_details(&self, id: PathId, details: &DeviceInfo);
    /// The worker goes on with another backend.
    fn report_backend(&self, backend: BackendInfo);
}

/// What a worker shares with the threads that look names up for it.
#[derive(Clone)]
pub(crate) struct WorkerEnv {
    pub(crate) choice: Choice,
    pub(crate) handle: Arc<RwLock<BackendHandle>>,
    /// The worker's own queue.
    pub(crate) messages: SyncSender<WorkerMsg>,
    pub(crate) registry: SharedRegistry,
    pub(crate) opens: Arc<PendingOpens>,
    /// In a reader, the process that knows the paths of all readers.
    pub(crate) supervision: Option<Arc<dyn Supervision>>,
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
        let known = self.registry.read().identity(lookup.id);
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
        let is_elsewhere = self.registry.read().leads_elsewhere(id);
        if is_elsewhere {
            self.registry.write().clear_elsewhere(id);
            if let Some(supervision) = &self.supervision {
                supervision.report_same_name(id);
            }
        }
    }

    /// Reads again what may have changed of a block device: its map, its size, its links.
    pub(super) fn refresh_details(&self, id: PathId) {
        let info = self.registry.read().cell(id).map(StatusCell::info);
        let Some(info) = info else {
            return;
        };
        let DeviceId::Block { major, minor } = info.device() else {
            return;
        };
        let details = Sysfs::of(major, minor).map(|sysfs| info.details().refreshed(&sysfs));
        if let Some(details) = details.filter(|details| details != info.details()) {
            if let Some(supervision) = &self.supervision {
                supervision.report_details(id, &details);
            }
            self.registry.read().set_details(id, details);
        }
    }

    /// Records what the look-up found, and sends it to the worker.
    pub(super) fn hand_over(&self, id: PathId, found: Reopened) {
        match (found, &self.supervision) {
            (Reopened::Device(device), Some(supervision)) => supervision.ask_about(id, device),
            (Reopened::Device(device), None) => {
                let decision = self.registry.write().decide_reopened(id, &device.opened());
                self.answer(id, device, decision);
            }
            (Reopened::Same, _) => {
                self.clear_elsewhere(id);
                self.send_reopened(id, Reopened::Same);
            }
            (other, _) => self.send_reopened(id, other),
        }
    }

    /// Carries out the decision about a device that the name of a path leads to.
    pub(crate) fn answer(&self, id: PathId, device: Box<Device>, decision: NameDecision) {
        match decision {
            NameDecision::Follow => self.send_reopened(id, Reopened::Device(device)),
            NameDecision::KeepDevice(news) => self.send_reopened(id, Reopened::Elsewhere(news)),
            NameDecision::NotWatched => {}
        }
    }

    fn send_reopened(&self, id: PathId, found: Reopened) {
        let _ = self.messages.send(WorkerMsg::Reopened(id, found));
        let handle = self.handle.read().unwrap_or_else(PoisonError::into_inner);
        handle.waker.wake();
    }
}
