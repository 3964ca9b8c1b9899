//! Maps in memory that obey as the kernel's do, and a real file over restarts.

use std::cell::{Cell, RefCell};
use std::path::Path;

use super::*;
use crate::daemon::events::store_file::{Book, Said};

pub(in crate::daemon::actions) const A: Number = (8, 0);
pub(in crate::daemon::actions) const B: Number = (8, 16);
pub(in crate::daemon::actions) const C: Number = (8, 32);

/// Notes that are on the disk at once.
impl<F: FnMut(&Taken) -> bool> Notes for F {
    fn keep(&mut self, taken: &Taken) -> bool {
        self(taken)
    }

    fn are_on_disk(&mut self) -> bool {
        true
    }
}

/// One map of three legs.
pub(in crate::daemon::actions) struct OneMap {
    /// Those that it uses.
    active: RefCell<BTreeSet<Number>>,
    said: RefCell<Vec<String>>,
    refuses: bool,
}

impl OneMap {
    pub(in crate::daemon::actions) fn new(active: &[Number]) -> OneMap {
        OneMap {
            active: RefCell::new(active.iter().copied().collect()),
            said: RefCell::default(),
            refuses: false,
        }
    }

    /// What it was told since this was asked last.
    pub(in crate::daemon::actions) fn told(&self) -> Vec<String> {
        self.said.take()
    }
}

impl Mapper for &OneMap {
    fn maps_above(&self, leg: Number) -> Vec<Map> {
        let map = Map {
            uuid: "mpath-3600a \"x\"".to_owned(),
            number: (253, 0),
        };
        [A, B, C]
            .contains(&leg)
            .then_some(map)
            .into_iter()
            .collect()
    }

    fn status(&self, _: Number) -> Result<String, String> {
        let leg = |leg: Number| {
            let word = if self.active.borrow().contains(&leg) {
                "A"
            } else {
                "F"
            };
            format!("{}:{} {word} 0 ", leg.0, leg.1)
        };
        Ok(["2 0 1 0 1 1 A 0 3 0 ".to_owned(), leg(A), leg(B), leg(C)].concat())
    }

    fn message(&self, _: Number, message: &str) -> Result<(), String> {
        self.said.borrow_mut().push(message.to_owned());
        if self.refuses {
            return Err("EINVAL".to_owned());
        }
        let (deed, leg) = message.split_once(' ').expect("two words");
        let leg = [A, B, C]
            .into_iter()
            .find(|(_, minor)| leg == format!("8:{minor}"));
        let leg = leg.expect("a leg");
        match deed {
            "fail_path" => self.active.borrow_mut().remove(&leg),
            "reinstate_path" => self.active.borrow_mut().insert(leg),
            other => panic!("{other}"),
        };
        Ok(())
    }
}

/// A daemon over a map, with this file: a ledger that recalls what is in it, and acts on each row of states
/// in turn.
fn daemon(map: &OneMap, file: &Path, rows: &[[State; 3]]) {
    let mut recalled = Vec::new();
    let book = Book::open(file.to_owned(), |said| {
        if let Said::Taken(text) = said {
            recalled.push(serde_json::from_str(text).expect("a note"));
        }
    });
    drop(book);
    let mut lines = String::new();
    let mut ledger = Ledger::new(map, |taken: &Taken| {
        lines += &taken.line().expect("short");
        lines.push('\n');
        true
    });
    ledger.recall(recalled);
    for states in rows {
        let legs: Vec<(Number, State)> = [A, B, C].into_iter().zip(*states).collect();
        assert!(ledger.act(&legs, false));
    }
    Book::open(file.to_owned(), |_| ()).keep(lines.as_bytes());
}

#[test]
fn what_we_took_is_given_back_after_a_restart_and_what_others_took_is_not() {
    use State::{Down, Pending, Up};
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("events");
    // C was taken out by somebody else.
    let map = OneMap::new(&[A, B]);
    daemon(&map, &file, &[[Up, Up, Up], [Down, Up, Up]]);
    assert_eq!(map.told(), ["fail_path 8:0"]);
    // A new daemon knows nothing of its paths at first; that changes nothing.
    daemon(&map, &file, &[[Pending; 3], [Down, Up, Up]]);
    assert!(map.told().is_empty());
    daemon(&map, &file, &[[Pending; 3], [Pending, Up, Up], [Up; 3]]);
    assert_eq!(map.told(), ["reinstate_path 8:0"]);
    // From then on somebody else takes it out, and that stays his.
    map.active.borrow_mut().remove(&A);
    daemon(&map, &file, &[[Up; 3]]);
    assert!(map.told().is_empty());
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
    map.told();
    daemon(&map, &file, &[[Up; 3]]);
    assert!(map.told().is_empty());
}

#[test]
fn a_leg_is_noted_before_it_is_taken_out_and_struck_off_if_that_fails() {
    use State::{Down, Up};
    let mut map = OneMap::new(&[A, B, C]);
    map.refuses = true;
    let mut notes = Vec::new();
    let mut ledger = Ledger::new(&map, |taken: &Taken| {
        notes.push((taken.legs.clone(), map.told().len()));
        true
    });
    ledger.act(&[(A, Down), (B, Up), (C, Up)], false);
    assert_eq!(notes, [([A].into(), 0), ([].into(), 1)]);
}

#[test]
fn a_note_that_found_no_room_is_made_again_and_one_that_did_is_not() {
    use State::{Down, Up};
    let map = OneMap::new(&[A, B, C]);
    let tries = Cell::new(0);
    let mut ledger = Ledger::new(&map, |taken: &Taken| {
        assert_eq!(taken.legs, [A].into());
        tries.set(tries.get() + 1);
        tries.get() == 3
    });
    for _ in 0..5 {
        let done = ledger.act(&[(A, Down), (B, Up), (C, Up)], false);
        // What is not noted is not done.
        assert_eq!(done, tries.get() == 3);
        assert_eq!(map.active.borrow().contains(&A), !done);
    }
    assert_eq!((tries.get(), map.told().len()), (3, 1));
}

/// Notes that are on the disk when that is said.
#[derive(Default)]
struct SlowNotes<'a> {
    kept: RefCell<Vec<BTreeSet<Number>>>,
    on_disk: Cell<bool>,
    /// Each time that was asked, how many were kept, and how much the map was told by then.
    asked: RefCell<Vec<(usize, usize)>>,
    map: Option<&'a OneMap>,
}

impl Notes for &SlowNotes<'_> {
    fn keep(&mut self, taken: &Taken) -> bool {
        self.kept.borrow_mut().push(taken.legs.clone());
        true
    }

    fn are_on_disk(&mut self) -> bool {
        let told = self.map.map_or(0, |map| map.said.borrow().len());
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
    let mut ledger = Ledger::new(&map, &notes);
    let down = [(A, Down), (B, Up), (C, Up)];
    for _ in 0..3 {
        assert!(!ledger.act(&down, false));
    }
    // A path that is up again meanwhile is struck off, since it never was taken out.
    assert!(ledger.act(&[(A, Up), (B, Up), (C, Up)], false));
    assert_eq!(*notes.kept.borrow(), [[A].into(), [].into()]);
    assert!(!ledger.act(&down, false));
    assert!(map.told().is_empty());
    notes.on_disk.set(true);
    assert!(ledger.act(&down, false));
    assert_eq!(map.told(), ["fail_path 8:0"]);
    assert_eq!(*notes.kept.borrow(), [[A].into(), [].into(), [A].into()]);
    // One note for three tries, another for two; and the map was told nothing before any of them.
    let asked = notes.asked.take();
    assert_eq!(asked, [(1, 0), (1, 0), (1, 0), (3, 0), (3, 0)]);
    // To give it back nothing is waited for.
    notes.on_disk.set(false);
    assert!(ledger.act(&[(A, Up), (B, Up), (C, Up)], false));
    assert_eq!(map.told(), ["reinstate_path 8:0"]);
    assert!(notes.asked.take().is_empty());
}

#[test]
fn who_stops_acting_strikes_off_what_was_put_off() {
    use State::{Down, Up};
    let map = OneMap::new(&[A, B, C]);
    let notes = SlowNotes::default();
    let mut ledger = Ledger::new(&map, &notes);
    assert!(!ledger.act(&[(A, Down), (B, Up), (C, Up)], false));
    ledger.rest();
    assert_eq!(*notes.kept.borrow(), [[A].into(), [].into()]);
}

#[test]
fn a_note_of_another_boot_says_nothing() {
    let map = OneMap::new(&[B, C]);
    let mut ledger = Ledger::new(&map, |taken: &Taken| panic!("{taken:?}"));
    ledger.recall(vec![Taken {
        boot: "another".to_owned(),
        map: "mpath-3600a \"x\"".to_owned(),
        legs: [A].into(),
    }]);
    let states = [(A, State::Up), (B, State::Up), (C, State::Up)];
    ledger.act(&states, false);
    assert!(map.told().is_empty());
}
