//! The workers of a monitor: threads of this process, or readers.

use std::time::Instant;

use crate::config::BackendInfo;
use crate::reader::Supervisor;
use crate::status::{Subscriber, WorkerStatus};
use crate::worker::{WorkerHandle, WorkerMsg};

pub(super) enum Workers {
    Threads(Vec<WorkerHandle>),
    Processes(Supervisor),
}

impl Workers {
    /// Sends a message; returns `false` if the worker is gone.
    pub(super) fn send(&self, worker: usize, message: WorkerMsg) -> bool {
        match self {
            Workers::Threads(workers) => workers[worker].send(message),
            Workers::Processes(supervisor) => supervisor.send(worker, message),
        }
    }

    /// Sends a message if the queue has room; drops it otherwise.
    pub(super) fn try_send(&self, worker: usize, message: WorkerMsg) {
        match self {
            Workers::Threads(workers) => workers[worker].try_send(message),
            Workers::Processes(supervisor) => drop(supervisor.send(worker, message)),
        }
    }

    /// Sends a message to all workers that take it until `end`.
    pub(super) fn send_to_all(&self, message: impl Fn() -> WorkerMsg, end: Instant) {
        for worker in 0..self.count() {
            match self {
                Workers::Threads(workers) => drop(workers[worker].send_until(message(), end)),
                Workers::Processes(supervisor) => drop(supervisor.send(worker, message())),
            }
        }
    }

    /// Sends the events of all workers to this subscriber.
    pub(super) fn subscribe(&self, subscriber: &Subscriber) {
        match self {
            Workers::Threads(workers) => {
                for worker in workers {
                    worker.send(WorkerMsg::Subscribe(subscriber.clone()));
                }
            }
            Workers::Processes(supervisor) => supervisor.subscribe(subscriber.clone()),
        }
    }

    pub(super) fn count(&self) -> usize {
        match self {
            Workers::Threads(workers) => workers.len(),
            Workers::Processes(supervisor) => supervisor.count(),
        }
    }

    pub(super) fn status(&self) -> Vec<WorkerStatus> {
        match self {
            Workers::Threads(workers) => workers.iter().map(WorkerHandle::status).collect(),
            Workers::Processes(supervisor) => supervisor.workers(),
        }
    }

    pub(super) fn backend(&self) -> BackendInfo {
        match self {
            Workers::Threads(workers) => workers[0].handle().info.clone(),
            Workers::Processes(supervisor) => supervisor.backend(),
        }
    }
}
