//! Opens paths, and hands them to the workers.

use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use pathpulse_kernel_compat::{Errno, Mono};

use super::Monitor;
use super::workers::Workers;
use crate::device::{Device, OpenError, OpenProblem, open_all};
use crate::settings::PathSpec;
use crate::status::{PathId, PathInfo, StatusCell};
use crate::worker::{NameWatch, NewPath, OnceChecks, WorkerMsg};

/// How long workers may take to handle their messages, when free descriptors are needed.
const SETTLE_LIMIT: Duration = Duration::from_secs(10);

/// How long [`Monitor::add`] waits for a reader to open a path.
const READER_OPEN_LIMIT: Duration = Duration::from_secs(60);

/// Paths that are opened together.
struct Batch<'a> {
    specs: &'a [PathSpec],
    /// The id of the first path; the others follow.
    first: PathId,
    deadline: Option<Instant>,
    once: Option<&'a OnceChecks>,
}

impl Batch<'_> {
    fn error(&self, index: usize, problem: OpenProblem) -> OpenError {
        OpenError::new(&self.specs[index].path, problem)
    }
}

impl Monitor {
    /// Starts watching a path.
    ///
    /// Opens the path on this thread, which blocks as long as the driver's open(2) does. For
    /// devices that may hang, use [`Monitor::add_all`], which has a time limit.
    ///
    /// # Errors
    /// Why the path can't be watched.
    pub fn add(&self, spec: impl Into<PathSpec>) -> Result<PathId, OpenError> {
        let spec = spec.into();
        if let Workers::Processes(_) = &self.workers {
            let mut answers = self.add_all([spec.clone()], READER_OPEN_LIMIT).into_iter();
            return answers.next().expect("an answer for each path");
        }
        Device::open(&spec.path)
            .and_then(|device| self.watch(PathId::allocate(1), &spec, device, None))
            .map_err(|problem| OpenError::new(&spec.path, problem))
    }

    /// Starts watching many paths, and waits at most `limit` for them to open. The answers are in
    /// the order of the paths.
    pub fn add_all(
        &self,
        specs: impl IntoIterator<Item = impl Into<PathSpec>>,
        limit: Duration,
    ) -> Vec<Result<PathId, OpenError>> {
        let deadline = Instant::now() + limit;
        let specs: Vec<PathSpec> = specs.into_iter().map(Into::into).collect();
        let mut answers: Vec<_> = specs.iter().map(|_| None).collect();
        self.open_and_watch(&specs, Some(deadline), None, |index, answer| {
            answers[index] = Some(answer);
        });
        answers.into_iter().flatten().collect()
    }

    /// Like [`Monitor::add_all`], but calls `each` with the index and the answer of each path as
    /// soon as it is known. Paths that do not open in time delay no other. With [`Duration::MAX`]
    /// there is no limit, and the function returns when all paths have opened or failed to.
    pub fn add_each(
        &self,
        specs: &[PathSpec],
        limit: Duration,
        each: impl FnMut(usize, Result<PathId, OpenError>),
    ) {
        self.open_and_watch(specs, Instant::now().checked_add(limit), None, each);
    }

    /// Opens paths on separate threads, watches them, and calls `each` with their answers.
    ///
    /// The file descriptor of a path is needed only until its worker has taken it over. Paths that
    /// found no free descriptor are retried as long as that makes progress.
    pub(crate) fn open_and_watch(
        &self,
        specs: &[PathSpec],
        deadline: Option<Instant>,
        once: Option<&OnceChecks>,
        mut each: impl FnMut(usize, Result<PathId, OpenError>),
    ) {
        if let Workers::Processes(supervisor) = &self.workers {
            return self.open_by_readers(supervisor, specs, deadline, each);
        }
        let batch = Batch {
            specs,
            first: PathId::allocate(specs.len() as u64),
            deadline,
            once,
        };
        let mut left: Vec<usize> = (0..specs.len()).collect();
        loop {
            let without = self.open_pass(&batch, &left, &mut each);
            let is_over = deadline.is_some_and(|deadline| Instant::now() >= deadline);
            if without.len() == left.len() || is_over {
                for index in without {
                    let problem = OpenProblem::Open(Errno::EMFILE);
                    each(index, Err(batch.error(index, problem)));
                }
                return;
            }
            left = without;
            let soon = Instant::now() + SETTLE_LIMIT;
            self.settle_until(deadline.map_or(soon, |deadline| deadline.min(soon)));
        }
    }

    /// Opens the paths with these indices. Returns those that found no free file descriptor.
    fn open_pass(
        &self,
        batch: &Batch<'_>,
        indices: &[usize],
        each: &mut impl FnMut(usize, Result<PathId, OpenError>),
    ) -> Vec<usize> {
        let mut without = Vec::new();
        let names = indices.iter().map(|index| batch.specs[*index].path.clone());
        let devices = batch.once.map(|once| Arc::clone(&once.devices));
        let open = move |_: usize, name: &Path| {
            Device::open_reporting(name, |device| {
                if let Some(devices) = &devices {
                    let mut devices = devices.lock().unwrap_or_else(PoisonError::into_inner);
                    devices.insert(name.to_owned(), device);
                }
            })
        };
        let watch = |place: usize, opened: Option<Result<Device, OpenProblem>>| {
            let index = indices[place];
            let id = PathId::from_number(batch.first.number() + index as u64);
            let answer = opened
                .unwrap_or(Err(OpenProblem::Blocked))
                .and_then(|device| self.watch(id, &batch.specs[index], device, batch.once));
            match answer {
                Err(OpenProblem::Open(Errno::EMFILE | Errno::ENFILE)) => without.push(index),
                answer => each(index, answer.map_err(|problem| batch.error(index, problem))),
            }
        };
        open_all(names.collect(), batch.deadline, &self.opens, open, watch);
        without
    }

    /// Adds an open path to the registry and hands it to its worker.
    fn watch(
        &self,
        id: PathId,
        spec: &PathSpec,
        device: Device,
        once: Option<&OnceChecks>,
    ) -> Result<PathId, OpenProblem> {
        // A path that is checked once does not depend on peers.
        let group = match once {
            Some(_) => None,
            None => spec.group.clone().or_else(|| device.storage.clone()),
        };
        let info = PathInfo::new(spec.path.clone(), device.identity.device, group.as_deref())
            .with_details(device.details.clone());
        let cell = Arc::new(StatusCell::new(Arc::new(info)));
        let settings = spec.settings.unwrap_or(self.config.settings);
        let settings = settings.within_limits();
        // Set before the worker gets the path, in case the worker never handles it.
        cell.expect_verdict(Mono::now(), settings.timeout);
        let any_worker = self.any_worker();
        let (worker, group) = self.registry.write().insert(
            id,
            &cell,
            (device.storage.clone(), device.identity),
            any_worker,
        )?;
        if once.is_none() {
            self.names.get_or_init(|| self.watch_names());
        }
        let new = NewPath {
            id,
            device,
            cell,
            settings,
            group,
            once: once.map(|once| Box::new(once.one())),
        };
        if self.workers.send(worker, WorkerMsg::Add(Box::new(new))) {
            Ok(id)
        } else {
            Err(OpenProblem::Closed)
        }
    }

    /// The worker of the next path, unless its group has one.
    pub(super) fn any_worker(&self) -> usize {
        self.added.fetch_add(1, Relaxed) % self.workers.count()
    }

    fn watch_names(&self) -> NameWatch {
        let workers = match &self.workers {
            Workers::Threads(workers) => &workers[..],
            Workers::Processes(_) => unreachable!("readers look names up themselves"),
        };
        let workers = workers.iter().map(|worker| worker.env.clone());
        NameWatch::start(self.config.settings.interval, workers.collect())
    }
}
