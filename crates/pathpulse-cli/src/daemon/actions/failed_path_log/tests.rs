//! A map in memory that behaves as the kernel's maps, and a real file across restarts.

use std::cell::{Cell, RefCell};
use std::path::Path;

use super::*;
use crate::daemon::events::{EventFile, StoreReply};

pub(in crate::daemon::actions) const A: Number = (8, 0);
pub(in crate::daemon::actions) const B: Number = (8, 16);
pub(in crate::daemon::actions) const C: Number = (8, 32);

/// Notes that are on the disk at once.
impl<F: FnMut(&FailedPaths) -> bool> FailedPathNotes for F {
    fn keep(&mut self, taken: &FailedPaths) -> bool {
        self(taken)
    }

    fn are_on_disk(&mut self) -> bool {
        true
    }
}

/// One map of three paths.
pub(in crate::daemon::actions) struct OneMap {
    /// The paths that it uses.
    active: RefCell<BTreeSet<Number>>,
    messages: RefCell<Vec<String>>,
    refuses: bool,
}

impl OneMap {
    pub(in crate::daemon::actions) fn new(active: &[Number]) -> OneMap {
        OneMap {
            active: RefCell::new(active.iter().copied().collect()),
            messages: RefCell::default(),
            refuses: false,
        }
    }

    /// The messages since the last call.
    pub(in crate::daemon::actions) fn take_messages(&self) -> Vec<String> {
        self.messages.take()
    }
}

impl DeviceMapper for &OneMap {
    fn maps_above(&self, path: Number) -> Vec<Map> {
        let map = Map {
            uuid: "mpath-3600a \"x\"".to_owned(),
            number: (253, 0),
        };
        [A, B, C]
            .contains(&path)
            .then_some(map)
            .into_iter()
            .collect()
    }

    fn status(&self, _: Number) -> Result<String, String> {
        let path = |path: Number| {
            let word = if self.active.borrow().contains(&path) {
                "A"
            } else {
                "F"
            };
            format!("{}:{} {word} 0 ", path.0, path.1)
        };
        Ok(["2 0 1 0 1 1 A 0 3 0 ".to_owned(), path(A), path(B), path(C)].concat())
    }

    fn message(&self, _: Number, message: &str) -> Result<(), String> {
        self.messages.borrow_mut().push(message.to_owned());
        if self.refuses {
            return Err("EINVAL".to_owned());
        }
        let (action, path) = message.split_once(' ').expect("two words");
        let path = [A, B, C]
            .into_iter()
            .find(|(_, minor)| path == format!("8:{minor}"));
        let path = path.expect("a path");
        match action {
            "fail_path" => self.active.borrow_mut().remove(&path),
            "reinstate_path" => self.active.borrow_mut().insert(path),
            other => panic!("{other}"),
        };
        Ok(())
    }
}

/// A daemon over a map, with this file: a log that recalls what is in it, and acts on each row of
/// states in turn.
fn daemon(map: &OneMap, file: &Path, rows: &[[State; 3]]) {
    let mut restored = Vec::new();
    let book = EventFile::open(file.to_owned(), |said| {
        if let StoreReply::FailedPaths(text) = said {
            restored.push(serde_json::from_str(text).expect("a note"));
        }
    });
    drop(book);
    let mut lines = String::new();
    let mut log = FailedPathLog::new(map, |taken: &FailedPaths| {
        lines += &taken.line().expect("short");
        lines.push('\n');
        true
    });
    log.restore(restored);
    for states in rows {
        let paths: Vec<(Number, State)> = [A, B, C].into_iter().zip(*states).collect();
        assert!(log.act(&paths, false));
    }
    EventFile::open(file.to_owned(), |_| ()).keep(lines.as_bytes());
}

#[test]
fn what_we_took_is_given_back_after_a_restart_and_what_others_took_is_not() {
    use State::{Down, Pending, Up};
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("events");
    // Another program took C out.
    let map = OneMap::new(&[A, B]);
    daemon(&map, &file, &[[Up, Up, Up], [Down, Up, Up]]);
    assert_eq!(map.take_messages(), ["fail_path 8:0"]);
    // A new daemon knows nothing of its paths at first; that changes nothing.
    daemon(&map, &file, &[[Pending; 3], [Down, Up, Up]]);
    assert!(map.take_messages().is_empty());
    daemon(&map, &file, &[[Pending; 3], [Pending, Up, Up], [Up; 3]]);
    assert_eq!(map.take_messages(), ["reinstate_path 8:0"]);
    // Then another program takes it out, and that is left to it.
    map.active.borrow_mut().remove(&A);
    daemon(&map, &file, &[[Up; 3]]);
    assert!(map.take_messages().is_empty());
}

#[test]
fn what_was_given_back_while_no_daemon_ran_is_no_longer_ours() {
    use State::{Down, Up};
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("events");
    let map = OneMap::new(&[A, B, C]);
    daemon(&map, &file, &[[Down, Up, Up]]);
    map.active.borrow_mut().insert(A);
    daemon(&map, &file, &[[Up; 3]]);
    map.active.borrow_mut().remove(&A);
    map.take_messages();
    daemon(&map, &file, &[[Up; 3]]);
    assert!(map.take_messages().is_empty());
}

#[test]
fn a_leg_is_noted_before_it_is_taken_out_and_struck_off_if_that_fails() {
    use State::{Down, Up};
    let mut map = OneMap::new(&[A, B, C]);
    map.refuses = true;
    let mut notes = Vec::new();
    let mut log = FailedPathLog::new(&map, |taken: &FailedPaths| {
        notes.push((taken.paths.clone(), map.take_messages().len()));
        true
    });
    log.act(&[(A, Down), (B, Up), (C, Up)], false);
    assert_eq!(notes, [([A].into(), 0), ([].into(), 1)]);
}

#[test]
fn a_note_that_found_no_room_is_made_again_and_one_that_did_is_not() {
    use State::{Down, Up};
    let map = OneMap::new(&[A, B, C]);
    let tries = Cell::new(0);
    let mut log = FailedPathLog::new(&map, |taken: &FailedPaths| {
        assert_eq!(taken.paths, [A].into());
        tries.set(tries.get() + 1);
        tries.get() == 3
    });
    for _ in 0..5 {
        let done = log.act(&[(A, Down), (B, Up), (C, Up)], false);
        // Without a note nothing is done.
        assert_eq!(done, tries.get() == 3);
        assert_eq!(map.active.borrow().contains(&A), !done);
    }
    assert_eq!((tries.get(), map.take_messages().len()), (3, 1));
}

/// Notes that are on the disk when `on_disk` is set.
#[derive(Default)]
struct SlowNotes<'a> {
    kept: RefCell<Vec<BTreeSet<Number>>>,
    on_disk: Cell<bool>,
    /// For each call of `are_on_disk`: the number of notes, and the number of messages to the map.
    asked: RefCell<Vec<(usize, usize)>>,
    map: Option<&'a OneMap>,
}

impl FailedPathNotes for &SlowNotes<'_> {
    fn keep(&mut self, taken: &FailedPaths) -> bool {
        self.kept.borrow_mut().push(taken.paths.clone());
        true
    }

    fn are_on_disk(&mut self) -> bool {
        let told = self.map.map_or(0, |map| map.messages.borrow().len());
        self.asked
            .borrow_mut()
            .push((self.kept.borrow().len(), told));
        self.on_disk.get()
    }
}

#[test]
fn nothing_is_taken_out_before_the_disk_has_the_note() {
    use State::{Down, Up};
    let map = OneMap::new(&[A, B, C]);
    let notes = SlowNotes {
        map: Some(&map),
        ..SlowNotes::default()
    };
    let mut log = FailedPathLog::new(&map, &notes);
    let down = [(A, Down), (B, Up), (C, Up)];
    for _ in 0..3 {
        assert!(!log.act(&down, false));
    }
    // The note about a path that is up again is removed, since the path never was taken out.
    assert!(log.act(&[(A, Up), (B, Up), (C, Up)], false));
    assert_eq!(*notes.kept.borrow(), [[A].into(), [].into()]);
    assert!(!log.act(&down, false));
    assert!(map.take_messages().is_empty());
    notes.on_disk.set(true);
    assert!(log.act(&down, false));
    assert_eq!(map.take_messages(), ["fail_path 8:0"]);
    assert_eq!(*notes.kept.borrow(), [[A].into(), [].into(), [A].into()]);
    // One note for three tries, another for two, and no message to the map before any of them.
    let asked = notes.asked.take();
    assert_eq!(asked, [(1, 0), (1, 0), (1, 0), (3, 0), (3, 0)]);
    // Reinstating waits for nothing.
    notes.on_disk.set(false);
    assert!(log.act(&[(A, Up), (B, Up), (C, Up)], false));
    assert_eq!(map.take_messages(), ["reinstate_path 8:0"]);
    assert!(notes.asked.take().is_empty());
}

#[test]
fn who_stops_acting_strikes_off_what_was_put_off() {
    use State::{Down, Up};
    let map = OneMap::new(&[A, B, C]);
    let notes = SlowNotes::default();
    let mut log = FailedPathLog::new(&map, &notes);
    assert!(!log.act(&[(A, Down), (B, Up), (C, Up)], false));
    log.stop_failing();
    assert_eq!(*notes.kept.borrow(), [[A].into(), [].into()]);
}

#[test]
fn a_note_of_another_boot_says_nothing() {
    let map = OneMap::new(&[B, C]);
    let mut log = FailedPathLog::new(&map, |taken: &FailedPaths| panic!("{taken:?}"));
    log.restore(vec![FailedPaths {
        boot: "another".to_owned(),
        map: "mpath-3600a \"x\"".to_owned(),
        paths: [A].into(),
    }]);
    let states = [(A, State::Up), (B, State::Up), (C, State::Up)];
    log.act(&states, false);
    assert!(map.take_messages().is_empty());
}
