//! Taking paths out of multipath maps, and giving them back, by messages to device-mapper.

use std::fs;
use std::mem;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pathpulse::{DeviceId, Monitor, State};
use pathpulse_kernel_compat::{dm_message, dm_status};

use super::failed_path_log::{Ledger, Map, Mapper, Number};
use super::notes::StateNotes;
use crate::daemon::config::Multipath;
use crate::daemon::events::store::Keeper;
use crate::daemon::events::store_file::Taken;

/// How soon is tried again what could not be noted.
const AGAIN: Duration = Duration::from_secs(1);

/// The way to the thread that acts. Clones are the same.
#[derive(Clone)]
pub(super) struct Maps(Arc<Mutex<Inner>>);

struct Inner {
    monitor: Arc<Monitor>,
    /// Keeps what we took over a restart.
    state: Keeper,
    /// What we took before this start, and nobody looked at yet.
    recalled: Vec<Taken>,
    /// The file that says what we took before this start is not read yet.
    recalls: bool,
    policy: Option<Multipath>,
    /// To the thread, once there is one. It looks at all maps at each word, so one word is enough.
    words: Option<SyncSender<()>>,
}

impl Maps {
    pub(super) fn new(monitor: Arc<Monitor>, state: Keeper) -> Maps {
        Maps(Arc::new(Mutex::new(Inner {
            recalls: state.has_file(),
            monitor,
            state,
            recalled: Vec::new(),
            policy: None,
            words: None,
        })))
    }

    /// Acts by these rules from now on; `None`: does nothing more, and gives nothing back.
    pub(super) fn set(&self, policy: Option<Multipath>) {
        let mut inner = self.lock();
        inner.policy = policy;
        if inner.policy.is_none() || inner.words.is_some() {
            return;
        }
        let (words, inbox) = sync_channel(1);
        // What is down already is to be seen, too.
        let _ = words.try_send(());
        let (maps, monitor) = (self.clone(), Arc::clone(&inner.monitor));
        let notes = StateNotes::new(inner.state.clone());
        let started = crate::daemon::spawn("maps", move || {
            let mut ledger = Ledger::new(Host, notes);
            keep_acting(&inbox, || maps.act(&mut ledger, &monitor));
        });
        match started {
            Ok(()) => inner.words = Some(words),
            Err(why) => tracing::error!("no path is taken out of its map: {why}"),
        }
    }

    /// Does what there is to do; returns whether all of it was tried.
    fn act(&self, ledger: &mut Ledger<Host, StateNotes>, monitor: &Monitor) -> bool {
        let (policy, recalled, recalls) = {
            let mut inner = self.lock();
            (inner.policy, mem::take(&mut inner.recalled), inner.recalls)
        };
        ledger.recall(recalled);
        // A note about a map takes the place of the one before.
        ledger.notes().hold(recalls);
        let Some(policy) = policy else {
            ledger.rest();
            return true;
        };
        ledger.act(&legs_of(monitor), policy.last_too)
    }

    /// These were taken out by us before this daemon's start.
    pub(super) fn recall(&self, taken: Vec<Taken>) {
        let mut inner = self.lock();
        inner.recalled.extend(taken);
        inner.recalls = false;
        drop(inner);
        self.tell();
    }

    /// Something changed.
    pub(super) fn tell(&self) {
        if let Some(words) = &self.lock().words {
            // A word that waits already will see this change, too.
            let (Ok(()) | Err(TrySendError::Full(()) | TrySendError::Disconnected(()))) =
                words.try_send(());
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Acts at each word, and from time to time while there is something left to do.
fn keep_acting(words: &Receiver<()>, mut act: impl FnMut() -> bool) {
    let mut is_done = true;
    loop {
        let word = if is_done {
            words.recv().map_err(RecvTimeoutError::from)
        } else {
            words.recv_timeout(AGAIN)
        };
        match word {
            Ok(()) | Err(RecvTimeoutError::Timeout) => is_done = act(),
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// What is watched of devices.
fn legs_of(monitor: &Monitor) -> Vec<(Number, State)> {
    let all = monitor.status().into_iter();
    let device = all.map(|(_, path)| {
        // What was known of it is too old to act on.
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

/// The kernel of this host.
struct Host;

impl Mapper for Host {
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

/// The multipath maps that hold the device with this folder.
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
    fn what_was_put_off_is_tried_again_without_a_word() {
        let (words, inbox) = sync_channel(1);
        words.send(()).expect("room");
        let mut words = Some(words);
        let mut tries = 0;
        keep_acting(&inbox, || {
            tries += 1;
            if tries == 2 {
                words = None;
            }
            tries == 2
        });
        assert_eq!(tries, 2);
    }

    #[test]
    fn only_multipath_maps_hold_legs() {
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
