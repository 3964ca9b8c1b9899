//! A map in memory, and notes by a real process that is stopped, killed, or has no room.

use std::fs;
use std::path::Path;
use std::time::Instant;

use pathpulse::State::{Down, Up};
use rustix::process::{Pid, Signal, kill_process};

use super::*;
use crate::daemon::actions::failed_path_log::tests::{A, B, C, OneMap};
use crate::daemon::actions::failed_path_log::{Ledger, Map, Mapper, Number};
use crate::daemon::events::store::tests::keeper_of;

const A_DOWN: [(Number, pathpulse::State); 3] = [(A, Down), (B, Up), (C, Up)];
/// For what comes as soon as it can.
const PATIENCE: Duration = Duration::from_secs(30);

fn signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(pid.cast_signed()).expect("a process");
    kill_process(pid, signal).expect("ours");
}

/// A map that looks, at each message, whether the file has the note about leg A.
struct Witness<'a> {
    map: &'a OneMap,
    file: &'a Path,
}

impl Mapper for &Witness<'_> {
    fn maps_above(&self, leg: Number) -> Vec<Map> {
        self.map.maps_above(leg)
    }

    fn status(&self, map: Number) -> Result<String, String> {
        self.map.status(map)
    }

    fn message(&self, map: Number, message: &str) -> Result<(), String> {
        let file = fs::read_to_string(self.file).expect("there");
        assert!(file.contains(r#""legs":[[8,0]]"#), "{message}: {file}");
        self.map.message(map, message)
    }
}

#[test]
fn while_the_writer_is_stopped_nothing_is_taken_out() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("events");
    let (state, writer) = keeper_of(file.clone());
    let map = OneMap::new(&[A, B, C]);
    let witness = Witness {
        map: &map,
        file: &file,
    };
    let mut ledger = Ledger::new(&witness, StateNotes::new(state.clone()));
    signal(writer, Signal::STOP);
    for _ in 0..2 {
        let begin = Instant::now();
        assert!(!ledger.act(&A_DOWN, false));
        assert!(begin.elapsed() >= LIMIT);
        assert!(map.told().is_empty());
    }
    assert!(!file.exists(), "the note is not written yet");
    signal(writer, Signal::CONT);
    let begin = Instant::now();
    while !ledger.act(&A_DOWN, false) {
        assert!(begin.elapsed() < PATIENCE, "the writer goes on");
    }
    assert_eq!(map.told(), ["fail_path 8:0"]);
    let kept = fs::read_to_string(&file).expect("there");
    assert_eq!(kept.lines().count(), 1, "one note for all tries: {kept}");

    // Without the writer nothing more is taken out, and nothing is waited for.
    signal(writer, Signal::KILL);
    let gone = state.sync().expect("room");
    gone.recv_timeout(PATIENCE).expect_err("never");
    let both = [(A, Down), (B, Down), (C, Up)];
    assert!(!ledger.act(&both, false));
    assert!(map.told().is_empty());
}

#[test]
fn a_note_that_the_disk_refuses_takes_nothing_out_until_that_is_mended() {
    let folder = tempfile::tempdir().expect("a folder");
    let place = folder.path().join("place");
    // No folder, so there can't be a file in it.
    fs::write(&place, "").expect("a file");
    let file = place.join("events");
    let (state, _writer) = keeper_of(file.clone());
    let map = OneMap::new(&[A, B, C]);
    let witness = Witness {
        map: &map,
        file: &file,
    };
    let mut ledger = Ledger::new(&witness, StateNotes::new(state));
    for _ in 0..2 {
        assert!(!ledger.act(&A_DOWN, false));
        assert!(map.told().is_empty());
    }
    fs::remove_file(&place).expect("removed");
    let begin = Instant::now();
    while !ledger.act(&A_DOWN, false) {
        assert!(begin.elapsed() < PATIENCE, "there is room now");
    }
    assert_eq!(map.told(), ["fail_path 8:0"]);
}

#[test]
fn nothing_is_noted_before_the_notes_of_the_daemon_before_are_known() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("events");
    let (state, _writer) = keeper_of(file.clone());
    let map = OneMap::new(&[A, B, C]);
    let mut ledger = Ledger::new(&map, StateNotes::new(state));
    ledger.notes().hold(true);
    assert!(!ledger.act(&A_DOWN, false));
    assert!(map.told().is_empty() && !file.exists());
    ledger.notes().hold(false);
    let begin = Instant::now();
    while !ledger.act(&A_DOWN, false) {
        assert!(begin.elapsed() < PATIENCE, "it may be noted now");
    }
    assert_eq!(map.told(), ["fail_path 8:0"]);
}

#[test]
fn without_a_file_nothing_is_waited_for() {
    let (nowhere, _) = Keeper::new(None);
    let map = OneMap::new(&[A, B, C]);
    let mut ledger = Ledger::new(&map, StateNotes::new(nowhere));
    assert!(ledger.act(&A_DOWN, false));
    assert_eq!(map.told(), ["fail_path 8:0"]);
}
