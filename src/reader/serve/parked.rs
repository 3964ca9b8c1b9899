//! Devices that were opened, and wait for the decision of the supervisor.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::config::BackendInfo;
use crate::device::{Device, DeviceInfo};
use crate::reader::link::Link;
use crate::reader::message::ReportMsg;
use crate::status::PathId;
use crate::worker::Supervision;

/// Devices that were opened and wait for the supervisor's decision.
pub(super) struct Parked {
    link: Arc<Link>,
    opened: Mutex<HashMap<u64, (PathBuf, Box<Device>)>>,
    leads_to: Mutex<HashMap<u64, Box<Device>>>,
}

impl Parked {
    pub(super) fn new(link: &Arc<Link>) -> Parked {
        Parked {
            link: Arc::clone(link),
            opened: Mutex::default(),
            leads_to: Mutex::default(),
        }
    }

    pub(super) fn opened(&self) -> MutexGuard<'_, HashMap<u64, (PathBuf, Box<Device>)>> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn leads_to(&self) -> MutexGuard<'_, HashMap<u64, Box<Device>>> {
        self.leads_to.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Supervision for Parked {
    fn ask_about(&self, id: PathId, device: Box<Device>) {
        let (id, opened) = (id.number(), device.opened());
        self.leads_to().insert(id, device);
        self.link.send(&ReportMsg::LeadsTo { id, device: opened });
    }

    fn report_same_name(&self, id: PathId) {
        self.link.send(&ReportMsg::NameSame { id: id.number() });
    }

    fn report_details(&self, id: PathId, details: &DeviceInfo) {
        self.link.send(&ReportMsg::Details {
            id: id.number(),
            details: details.clone(),
        });
    }

    fn report_backend(&self, backend: BackendInfo) {
        self.link.send(&ReportMsg::BackendChanged(backend));
    }
}
