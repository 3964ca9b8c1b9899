//! Replaces a reader.

use std::sync::Arc;
use std::time::SystemTime;

use super::{Corpse, Readers, Shared, group_cell};
use crate::reader::message::CommandMsg;
use crate::reader::process::{PathRecord, ReaderProcess};
use crate::reader::segment::Segment;
use crate::status::{Event, PathId, StatusCell};

impl Shared {
    /// Puts a fresh reader in the place of one that is of no use any more.
    pub(super) fn replace(&self, state: &mut Readers, index: usize) {
        let mut fresh = match ReaderProcess::start(&self.program, &self.config) {
            Ok(fresh) => fresh,
            // It is tried again at the next round. The first failure is logged.
            Err(error) => {
                if !std::mem::replace(&mut state.cannot_start, true) {
                    tracing::error!(%error, "no reader could be started");
                }
                return;
            }
        };
        state.cannot_start = false;
        if let Err(error) = state.readers[index].child.kill() {
            tracing::error!(%error, "a reader could not be killed");
        }
        // What it reported before its end counts.
        let mut reports = Vec::new();
        let _ = state.readers[index].receive(&mut reports);
        for report in reports {
            self.handle(state, index, report);
        }
        let old = &mut state.readers[index];
        fresh.inherit(old);
        let mut missed = Vec::new();
        for (id, record) in old.paths.drain() {
            missed.extend(self.move_path(id, record, &old.segment, index, &mut fresh));
        }
        let old = std::mem::replace(old, fresh);
        state.corpses.push(Corpse {
            child: old.child,
            requests: old.requests,
        });
        for event in missed {
            state
                .subscribers
                .retain(|subscriber| subscriber.send(&event));
        }
    }

    /// Moves a path to a fresh reader. Returns the event that the old one had no time to report.
    fn move_path(
        &self,
        id: PathId,
        mut record: PathRecord,
        old: &Segment,
        worker: usize,
        fresh: &mut ReaderProcess,
    ) -> Option<Event> {
        let (slot, group) = (record.slot, fresh.slots.group(record.group.as_deref()));
        let mut registry = self.registry.write();
        let info = registry.cell(id)?.info();
        let before = StatusCell::over(Arc::clone(&info), old.cell(slot)?);
        let cell = StatusCell::over(Arc::clone(&info), fresh.segment.cell(slot)?);
        cell.copy_from(&before);
        let status = cell.snapshot();
        let cell = Arc::new(cell);
        record.cell = Arc::downgrade(&cell);
        registry.replace_cell(id, cell);
        let latencies = group_cell(fresh, group.as_ref());
        registry.set_group_cell(record.group.as_deref(), worker, latencies);
        drop(registry);
        fresh.send(&CommandMsg::Adopt {
            id: id.number(),
            name: record.name.clone(),
            slot,
            group,
            settings: record.settings,
            device: record.device.clone(),
        });
        let from = std::mem::replace(&mut record.shown, status.state);
        fresh.paths.insert(id, record);
        (from != status.state).then(|| Event {
            time: SystemTime::now(),
            id,
            path: info,
            from,
            to: status.state,
            cause: status.cause,
            detail: "found in the status of a reader that ended before it reported it".to_owned(),
        })
    }
}
