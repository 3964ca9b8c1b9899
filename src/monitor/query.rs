//! Reads the status of paths, groups and workers, without waiting for a device.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::Monitor;
use crate::config::{BackendInfo, Config};
use crate::device::DeviceId;
use crate::status::{EventStream, GroupStatus, PathId, PathInfo, PathStatus, WorkerStatus};

impl Monitor {
    /// The status of a path now; `None` if it is not watched.
    pub fn path(&self, id: PathId) -> Option<PathStatus> {
        Some(self.registry.read().cell(id)?.snapshot())
    }

    /// The identity of a path; `None` if it is not watched. Costs less than its status.
    pub fn info(&self, id: PathId) -> Option<Arc<PathInfo>> {
        Some(self.registry.read().cell(id)?.info())
    }

    /// The latencies of the last answered checks of a path in microseconds, in the order of the
    /// checks: at most `count`, and at most 128. Empty if the path is not watched or never
    /// answered.
    pub fn latencies_us(&self, id: PathId, count: usize) -> Vec<u64> {
        let registry = self.registry.read();
        let cell = registry.cell(id);
        cell.map_or_else(Vec::new, |cell| cell.window().last(count))
    }

    /// The status of all paths now, in the order in which they were added.
    pub fn status(&self) -> Vec<(PathId, PathStatus)> {
        let registry = self.registry.read();
        let all = registry.cells();
        all.map(|(id, cell)| (id, cell.snapshot())).collect()
    }

    /// The status of all groups now, in the order of their names.
    pub fn groups(&self) -> Vec<GroupStatus> {
        self.registry.read().groups()
    }

    /// The watched path with this name.
    pub fn find(&self, name: &Path) -> Option<PathId> {
        let registry = self.registry.read();
        let found = registry
            .cells()
            .find(|(_, cell)| cell.info().name() == name);
        found.map(|(id, _)| id)
    }

    /// Paths whose names now lead to something else than the watched device: see
    /// [`PathInfo::leads_elsewhere`].
    pub fn paths_elsewhere(&self) -> Vec<PathId> {
        self.registry.read().paths_elsewhere().collect()
    }

    /// The former name of [`Monitor::paths_elsewhere`].
    #[doc(hidden)]
    pub fn astray(&self) -> Vec<PathId> {
        self.paths_elsewhere()
    }

    /// The path that watches this device.
    pub fn find_device(&self, device: DeviceId) -> Option<PathId> {
        self.registry.read().find_device(device)
    }

    /// A stream of all events from now on, with room for `capacity` events.
    pub fn events(&self, capacity: usize) -> EventStream {
        let (subscriber, stream) = EventStream::new(capacity);
        self.workers.subscribe(&subscriber);
        stream
    }

    /// The backend in use now. A worker whose backend breaks falls back to the best one that still
    /// works.
    pub fn backend(&self) -> BackendInfo {
        self.workers.backend()
    }

    /// The status of all workers.
    pub fn workers(&self) -> Vec<WorkerStatus> {
        self.workers.status()
    }

    /// The configuration that the monitor was started with.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// How long the monitor has been running.
    pub fn uptime(&self) -> Duration {
        self.started.elapsed()
    }
}
