//! Replaces a reader.

use std::sync::Arc;
use std::time::SystemTime;

use super::{Corpse, Readers, Shared, group_cell};
use crate::reader::message::CommandMsg;
use crate::reader::process::{PathRecord, ReaderProcess, Request};
use crate::reader::segment::{NO_GROUP, Segment};
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
        // Who waits for an answer goes on; who waits for a file waits for the end of the process.
        old.requests
            .retain(|_, request| matches!(request, Request::Closed(_)));
        copy_latencies(&old.segment, NO_GROUP, &fresh.segment, NO_GROUP);
        for (id, opening) in old.opening.drain() {
            let name = opening.name.clone();
            fresh.send(&CommandMsg::Open {
                id: id.number(),
                name,
            });
            fresh.opening.insert(id, opening);
        }
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
        let (slot, group) = fresh.allocate(record.group.as_deref())?;
        let mut registry = self.registry_mut();
        let info = registry.cell(id)?.info();
        let before = StatusCell::over(Arc::clone(&info), old.cell(record.slot)?);
        let cell = StatusCell::over(Arc::clone(&info), fresh.segment.cell(slot)?);
        cell.copy_from(&before);
        if let Some(group) = group.as_ref().filter(|_| fresh.is_first_of_group(&record)) {
            copy_latencies(old, record.group_slot, &fresh.segment, group.slot);
        }
        record.group_slot = group.as_ref().map_or(NO_GROUP, |group| group.slot);
        let latencies = group_cell(fresh, group.as_ref());
        let status = cell.snapshot();
        let cell = Arc::new(cell);
        record.cell = Arc::downgrade(&cell);
        registry.replace_cell(id, cell);
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
        record.slot = slot;
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

/// Goes on with the latencies of a group.
fn copy_latencies(from: &Segment, old_slot: u32, to: &Segment, new_slot: u32) {
    if let (Some(from), Some(to)) = (from.group(old_slot), to.group(new_slot)) {
        to.copy_from(&from);
    }
}
