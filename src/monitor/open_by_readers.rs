//! Has readers open paths, and watch them.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use super::Monitor;
use crate::device::{OpenError, OpenProblem};
use crate::reader::{NewRecord, OpenReport, OpenedBy, Supervisor};
use crate::settings::PathSpec;
use crate::status::{PathId, PathInfo, StatusCell};

/// The names that a call has opened.
struct Batch<'a> {
    specs: &'a [PathSpec],
    first: PathId,
    /// The reader of each.
    workers: Vec<usize>,
    sender: Sender<(PathId, OpenReport)>,
    reports: Receiver<(PathId, OpenReport)>,
}

impl Monitor {
    /// Has paths opened by readers, and calls `each` with their answers.
    pub(super) fn open_by_readers(
        &self,
        supervisor: &Supervisor,
        specs: &[PathSpec],
        deadline: Option<Instant>,
        mut each: impl FnMut(usize, Result<PathId, OpenError>),
    ) {
        let mut batch = self.begin_opening(supervisor, specs);
        let mut waiting = vec![true; specs.len()];
        let mut left = specs.len();
        while left > 0 {
            let limit = deadline.map_or(Duration::MAX, |end| {
                end.saturating_duration_since(Instant::now())
            });
            let Ok((id, report)) = batch.reports.recv_timeout(limit) else {
                break;
            };
            let index = (id.number() - batch.first.number()) as usize;
            let answer = match report {
                OpenReport::Failed(problem) => Err(problem),
                OpenReport::Opened(opened) => {
                    match self.watch_opened(supervisor, &mut batch, index, opened) {
                        Some(answer) => answer,
                        // Another reader opens it, since that has its group.
                        None => continue,
                    }
                }
            };
            left -= 1;
            waiting[index] = false;
            each(
                index,
                answer.map_err(|problem| OpenError::new(&specs[index].path, problem)),
            );
        }
        for (index, _) in waiting.iter().enumerate().filter(|(_, waiting)| **waiting) {
            let error = OpenError::new(&specs[index].path, OpenProblem::Blocked);
            each(index, Err(error));
        }
    }

    fn begin_opening<'a>(&self, supervisor: &Supervisor, specs: &'a [PathSpec]) -> Batch<'a> {
        let first = PathId::allocate(specs.len() as u64);
        let (sender, reports) = channel();
        let mut names: HashMap<usize, Vec<(PathId, PathBuf)>> = HashMap::new();
        let mut workers = Vec::with_capacity(specs.len());
        for (index, spec) in specs.iter().enumerate() {
            let group = spec.group.as_deref();
            let known = group.and_then(|group| self.registry.read().worker_of_group(group));
            let worker = known.unwrap_or_else(|| self.any_worker());
            let id = PathId::from_number(first.number() + index as u64);
            workers.push(worker);
            names
                .entry(worker)
                .or_default()
                .push((id, spec.path.clone()));
        }
        for (worker, names) in names {
            supervisor.open(worker, names, &sender);
        }
        Batch {
            specs,
            first,
            workers,
            sender,
            reports,
        }
    }

    /// Watches a path that a reader has opened. `None` if another reader opens it now.
    fn watch_opened(
        &self,
        supervisor: &Supervisor,
        batch: &mut Batch<'_>,
        index: usize,
        opened: OpenedBy,
    ) -> Option<Result<PathId, OpenProblem>> {
        let device = *opened.device;
        let (spec, worker) = (&batch.specs[index], batch.workers[index]);
        let id = PathId::from_number(batch.first.number() + index as u64);
        let group = spec.group.clone().or_else(|| device.storage.clone());
        let of_group = group
            .as_deref()
            .and_then(|group| self.registry.read().worker_of_group(group));
        if let Some(other) = of_group.filter(|other| *other != worker) {
            supervisor.discard(worker, id);
            batch.workers[index] = other;
            supervisor.open(other, vec![(id, spec.path.clone())], &batch.sender);
            return None;
        }
        let settings = spec
            .settings
            .unwrap_or(self.config.settings)
            .within_limits();
        let identity = device.identity.device;
        let info = PathInfo::new(spec.path.clone(), identity, group.as_deref());
        let info = Arc::new(info.with_details(device.details.clone()));
        let known = (device.storage.clone(), device.identity);
        let path = NewRecord {
            name: spec.path.clone(),
            group,
            settings,
            device,
            opened_by: opened.reader,
        };
        let watched = supervisor.watch(worker, id, path, |words| {
            let cell = Arc::new(StatusCell::over(info, words));
            self.registry
                .write()
                .insert(id, &cell, known, worker)
                .map(|_| cell)
        });
        if watched.is_err() {
            supervisor.discard(worker, id);
        }
        Some(watched.map(|()| id))
    }
}
