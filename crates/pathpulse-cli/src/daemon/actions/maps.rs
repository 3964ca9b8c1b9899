//! The thread that takes failed paths out of multipath maps and reinstates them, by messages to
//! device-mapper.

use std::fs;
use std::mem;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pathpulse::{DeviceId, Monitor, State};
use pathpulse_kernel_compat::{dm_message, dm_status};

use super::failed_path_log::{DeviceMapper, FailedPathLog, Map, Number};
use super::store_notes::StoreNotes;
use crate::daemon::config::Multipath;
use crate::daemon::events::{EventStore, FailedPaths};
use crate::daemon::process::spawn;

/// Pause before another try when a note could not be written.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// A handle of the thread. Clones are handles of the same thread.
#[derive(Clone)]
pub(super) struct Maps(Arc<Mutex<MapsState>>);

struct MapsState {
    monitor: Arc<Monitor>,
    /// Stores across restarts which paths we took out.
    store: EventStore,
    /// What earlier daemons took out and the thread has not seen yet.
    restored: Vec<FailedPaths>,
    /// The state file has not been read yet.
    is_restoring: bool,
    policy: Option<Multipath>,
    /// Wakes the thread, once there is one. The thread examines all maps each time, so one waiting
    /// message is enough.
    wakeups: Option<SyncSender<()>>,
}

impl Maps {
    pub(super) fn new(monitor: Arc<Monitor>, store: EventStore) -> Maps {
        Maps(Arc::new(Mutex::new(MapsState {
            is_restoring: store.has_file(),
            monitor,
            store,
            restored: Vec::new(),
            policy: None,
            wakeups: None,
        })))
    }

    /// Sets the policy. With `None` nothing more is taken out and nothing is reinstated.
    pub(super) fn set(&self, policy: Option<Multipath>) {
        let mut state = self.lock();
        state.policy = policy;
        if state.policy.is_none() || state.wakeups.is_some() {
            return;
        }
        let (wakeups, inbox) = sync_channel(1);
        // The first pass handles paths that are down already.
        let _ = wakeups.try_send(());
        let (maps, monitor) = (self.clone(), Arc::clone(&state.monitor));
        let notes = StoreNotes::new(state.store.clone());
        let started = spawn("maps", move || {
            let mut log = FailedPathLog::new(Host, notes);
            run(&inbox, || maps.act(&mut log, &monitor));
        });
        match started {
            Ok(()) => state.wakeups = Some(wakeups),
            Err(why) => tracing::error!("no path is taken out of its map: {why}"),
        }
    }

    /// Does what is to be done; returns whether all of it was tried.
    fn act(&self, log: &mut FailedPathLog<Host, StoreNotes>, monitor: &Monitor) -> bool {
        let (policy, restored, is_restoring) = {
            let mut state = self.lock();
            let restored = mem::take(&mut state.restored);
            (state.policy, restored, state.is_restoring)
        };
        log.restore(restored);
        // A new note about a map replaces the old one, which must have been read before.
        log.notes().hold(is_restoring);
        let Some(policy) = policy else {
            log.stop_failing();
            return true;
        };
        log.act(&watched_devices(monitor), policy.last_too)
    }

    /// Adds what earlier daemons took out.
    pub(super) fn restore(&self, failed_paths: Vec<FailedPaths>) {
        let mut state = self.lock();
        state.restored.extend(failed_paths);
        state.is_restoring = false;
        drop(state);
        self.notify();
    }

    /// Something changed: wakes the thread.
    pub(super) fn notify(&self) {
        if let Some(wakeups) = &self.lock().wakeups {
            // A message that waits already covers this change, too.
            let (Ok(()) | Err(TrySendError::Full(()) | TrySendError::Disconnected(()))) =
                wakeups.try_send(());
        }
    }

    fn lock(&self) -> MutexGuard<'_, MapsState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Acts at each message, and every [`RETRY_INTERVAL`] while something is left to do.
fn run(inbox: &Receiver<()>, mut act: impl FnMut() -> bool) {
    let mut is_done = true;
    loop {
        let message = if is_done {
            inbox.recv().map_err(RecvTimeoutError::from)
        } else {
            inbox.recv_timeout(RETRY_INTERVAL)
        };
        match message {
            Ok(()) | Err(RecvTimeoutError::Timeout) => is_done = act(),
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// The block devices of all watched paths, with the state of their paths.
fn watched_devices(monitor: &Monitor) -> Vec<(Number, State)> {
    let all = monitor.status().into_iter();
    let device = all.map(|(_, path)| {
        // An overdue state is too old to act on.
        let state = if path.overdue {
            State::Pending
        } else {
            path.state
        };
        (path.path.device(), state)
    });
    let block = device.filter_map(|(device, state)| match device {
        DeviceId::Block { major, minor } => Some(((major, minor), state)),
        DeviceId::File { .. } => None,
    });
    block.collect()
}

/// device-mapper of this host.
struct Host;

impl DeviceMapper for Host {
    fn maps_above(&self, (major, minor): Number) -> Vec<Map> {
        maps_above(Path::new(&format!("/sys/dev/block/{major}:{minor}")))
    }

    fn status(&self, map: Number) -> Result<String, String> {
        dm_status(map).map_err(|error| error.to_string())
    }

    fn message(&self, map: Number, message: &str) -> Result<(), String> {
        dm_message(map, message).map_err(|error| error.to_string())
    }
}

/// The multipath maps above the device with this folder in sysfs.
fn maps_above(device: &Path) -> Vec<Map> {
    let holders = fs::read_dir(device.join("holders"));
    let holders = holders.into_iter().flatten().flatten();
    let map = |holder: &Path| {
        let uuid = fs::read_to_string(holder.join("dm/uuid")).ok()?;
        let dev = fs::read_to_string(holder.join("dev")).ok()?;
        let (major, minor) = dev.trim().split_once(':')?;
        let number = (major.parse().ok()?, minor.parse().ok()?);
        let uuid = uuid.trim_end().to_owned();
        uuid.starts_with("mpath-").then_some(Map { uuid, number })
    };
    holders.filter_map(|holder| map(&holder.path())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_off_is_tried_again_without_a_message() {
        let (wakeups, inbox) = sync_channel(1);
        wakeups.send(()).expect("room");
        let mut wakeups = Some(wakeups);
        let mut tries = 0;
        run(&inbox, || {
            tries += 1;
            if tries == 2 {
                wakeups = None;
            }
            tries == 2
        });
        assert_eq!(tries, 2);
    }

    #[test]
    fn only_multipath_maps_are_found() {
        let root = tempfile::tempdir().expect("a folder");
        for (holder, uuid, dev) in [
            ("dm-0", "mpath-3600a\n", "253:0\n"),
            ("dm-1", "LVM-x\n", "253:1\n"),
            ("dm-2", "mpath-3600b\n", "?\n"),
        ] {
            let folder = root.path().join("holders").join(holder);
            fs::create_dir_all(folder.join("dm")).expect("folders");
            fs::write(folder.join("dm/uuid"), uuid).expect("a file");
            fs::write(folder.join("dev"), dev).expect("a file");
        }
        let expected = Map {
            uuid: "mpath-3600a".to_owned(),
            number: (253, 0),
        };
        assert_eq!(maps_above(root.path()), [expected]);
        assert_eq!(maps_above(Path::new("/nowhere")), []);
    }
}
