//! Maps in memory that obey as the kernel's do, and a real file over restarts.

use std::cell::RefCell;
use std::path::Path;

use super::*;
use crate::daemon::state_file::{Book, Said};

const A: Number = (8, 0);
const B: Number = (8, 16);
const C: Number = (8, 32);

/// One map of three legs.
struct OneMap {
    /// Those that it uses.
    active: RefCell<BTreeSet<Number>>,
    said: RefCell<Vec<String>>,
    refuses: bool,
}

impl OneMap {
    fn new(active: &[Number]) -> OneMap {
        OneMap {
            active: RefCell::new(active.iter().copied().collect()),
            said: RefCell::default(),
            refuses: false,
        }
    }

    /// What it was told since this was asked last.
    fn told(&self) -> Vec<String> {
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
    let mut ledger = Ledger::new(map);
    ledger.recall(recalled);
    let mut lines = String::new();
    for states in rows {
        let legs: Vec<(Number, State)> = [A, B, C].into_iter().zip(*states).collect();
        ledger.act(&legs, false, |taken| {
            lines += &taken.line();
            lines.push('\n');
            true
        });
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
    let mut ledger = Ledger::new(&map);
    let mut notes = Vec::new();
    let states = [(A, Down), (B, Up), (C, Up)];
    ledger.act(&states, false, |taken| {
        notes.push((taken.legs.clone(), map.told().len()));
        true
    });
    assert_eq!(notes, [([A].into(), 0), ([].into(), 1)]);
}

#[test]
fn a_note_that_found_no_room_is_made_again_and_one_that_did_is_not() {
    use State::{Down, Up};
    let map = OneMap::new(&[A, B, C]);
    let mut ledger = Ledger::new(&map);
    let states = [(A, Down), (B, Up), (C, Up)];
    let mut tries = 0;
    for _ in 0..5 {
        ledger.act(&states, false, |taken| {
            assert_eq!(taken.legs, [A].into());
            tries += 1;
            tries == 3
        });
    }
    assert_eq!(tries, 3);
}

#[test]
fn a_note_of_another_boot_says_nothing() {
    let map = OneMap::new(&[B, C]);
    let mut ledger = Ledger::new(&map);
    ledger.recall(vec![Taken {
        boot: "another".to_owned(),
        map: "mpath-3600a \"x\"".to_owned(),
        legs: [A].into(),
    }]);
    let states = [(A, State::Up), (B, State::Up), (C, State::Up)];
    ledger.act(&states, false, |taken| panic!("{taken:?}"));
    assert!(map.told().is_empty());
}
