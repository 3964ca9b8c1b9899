//! Taking paths out of multipath maps, and giving them back, by messages to device-mapper.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pathpulse::{DeviceId, Monitor, State};
use pathpulse_kernel_compat::{dm_message, dm_status};

use super::rules::{Deed, Leg, decide, legs_of_status};
use crate::daemon::config::Multipath;

type Number = (u32, u32);

/// The way to the thread that acts. Clones are the same.
#[derive(Clone)]
pub(super) struct Maps(Arc<Mutex<Inner>>);

struct Inner {
    monitor: Arc<Monitor>,
    policy: Option<Multipath>,
    /// To the thread, once there is one. It looks at all maps at each word, so one word is enough.
    words: Option<SyncSender<()>>,
}

impl Maps {
    pub(super) fn new(monitor: Arc<Monitor>) -> Maps {
        Maps(Arc::new(Mutex::new(Inner {
            monitor,
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
        let (maps, monitor) = (self.clone(), Arc::clone(&inner.monitor));
        let started = crate::daemon::spawn("maps", move || {
            let mut taken = BTreeSet::new();
            for () in inbox {
                if let Some(policy) = maps.policy() {
                    act(&monitor, policy, &mut taken);
                }
            }
        });
        match started {
            Ok(()) => inner.words = Some(words),
            Err(why) => tracing::error!("no path is taken out of its map: {why}"),
        }
    }

    /// Something changed.
    pub(super) fn tell(&self) {
        if let Some(words) = &self.lock().words {
            // A word that waits already will see this change, too.
            let (Ok(()) | Err(TrySendError::Full(()) | TrySendError::Disconnected(()))) =
                words.try_send(());
        }
    }

    fn policy(&self) -> Option<Multipath> {
        self.lock().policy
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Looks at all maps that have watched legs, and does what there is to do. `taken` has the legs that we
/// took out, each with its map.
fn act(monitor: &Monitor, policy: Multipath, taken: &mut BTreeSet<(Number, Number)>) {
    let maps = maps_of(monitor);
    taken.retain(|(map, leg)| {
        let legs = maps.get(map);
        legs.is_some_and(|legs| legs.iter().any(|(device, _)| device == leg))
    });
    for (map, legs) in maps {
        let status = match dm_status(map) {
            Ok(status) => legs_of_status(&status),
            Err(error) => {
                tracing::error!("map {}:{}: {error}", map.0, map.1);
                continue;
            }
        };
        let active = |device: Number| status.contains(&(device, true));
        // What others have given back meanwhile is no longer ours.
        taken.retain(|(its, leg)| *its != map || !active(*leg));
        let legs = legs.into_iter().map(|(device, state)| Leg {
            device,
            state,
            taken: taken.contains(&(map, device)),
            active: active(device),
        });
        for (leg, deed) in decide(&legs.collect::<Vec<_>>(), policy.last_too) {
            perform(map, leg, deed, taken);
        }
    }
}

fn perform(map: Number, leg: Number, deed: Deed, taken: &mut BTreeSet<(Number, Number)>) {
    let message = format!("{deed} {}:{}", leg.0, leg.1);
    match dm_message(map, &message) {
        Ok(()) => {
            tracing::warn!("map {}:{}: {message}", map.0, map.1);
            match deed {
                Deed::TakeOut => taken.insert((map, leg)),
                Deed::GiveBack => taken.remove(&(map, leg)),
            };
        }
        Err(error) => tracing::error!("map {}:{}: {message}: {error}", map.0, map.1),
    }
}

/// The maps, and those of their legs that are watched, each with its state.
fn maps_of(monitor: &Monitor) -> BTreeMap<Number, Vec<(Number, State)>> {
    let mut maps: BTreeMap<Number, Vec<(Number, State)>> = BTreeMap::new();
    for (_, path) in monitor.status() {
        if let DeviceId::Block { major, minor } = path.path.device() {
            let folder = format!("/sys/dev/block/{major}:{minor}");
            for map in maps_above(Path::new(&folder)) {
                maps.entry(map)
                    .or_default()
                    .push(((major, minor), path.state));
            }
        }
    }
    maps
}

/// The multipath maps that hold the device with this folder.
fn maps_above(device: &Path) -> Vec<Number> {
    let holders = fs::read_dir(device.join("holders"));
    let holders = holders.into_iter().flatten().flatten();
    let number = |holder: &Path| {
        let uuid = fs::read_to_string(holder.join("dm/uuid")).ok()?;
        let dev = fs::read_to_string(holder.join("dev")).ok()?;
        let (major, minor) = dev.trim().split_once(':')?;
        let number = (major.parse().ok()?, minor.parse().ok()?);
        uuid.starts_with("mpath-").then_some(number)
    };
    holders
        .filter_map(|holder| number(&holder.path()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(maps_above(root.path()), [(253, 0)]);
        assert_eq!(maps_above(Path::new("/nowhere")), []);
    }
}
