//! A map in memory, and notes by a real process that is stopped, killed, or has no room.

use std::fs;
use std::path::Path;
use std::time::Instant;

use pathpulse::State::{Down, Up};
use rustix::process::{Pid, Signal, kill_process};

use super::*;
use crate::daemon::actions::failed_path_log::tests::{A, B, C, OneMap};
use crate::daemon::actions::failed_path_log::{DeviceMapper, FailedPathLog, Map, Number};
use crate::daemon::events::store::tests::store_of;

const A_DOWN: [(Number, pathpulse::State); 3] = [(A, Down), (B, Up), (C, Up)];
/// Limit for what happens without a delay.
const TEST_LIMIT: Duration = Duration::from_secs(30);

fn signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(pid.cast_signed()).expect("a process");
    kill_process(pid, signal).expect("ours");
}

/// A map that asserts, at each message, that the file has the note about path A.
struct Witness<'a> {
    map: &'a OneMap,
    file: &'a Path,
}

impl DeviceMapper for &Witness<'_> {
    fn maps_above(&self, path: Number) -> Vec<Map> {
        self.map.maps_above(path)
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
    let (state, writer) = store_of(file.clone());
    let map = OneMap::new(&[A, B, C]);
    let witness = Witness {
        map: &map,
        file: &file,
    };
    let mut log = FailedPathLog::new(&witness, StoreNotes::new(state.clone()));
    signal(writer, Signal::STOP);
    for _ in 0..2 {
        let begin = Instant::now();
        assert!(!log.act(&A_DOWN, false));
        assert!(begin.elapsed() >= LIMIT);
        assert!(map.take_messages().is_empty());
    }
    assert!(!file.exists(), "the note is not written yet");
    signal(writer, Signal::CONT);
    let begin = Instant::now();
    while !log.act(&A_DOWN, false) {
        assert!(begin.elapsed() < TEST_LIMIT, "the writer goes on");
    }
    assert_eq!(map.take_messages(), ["fail_path 8:0"]);
    let kept = fs::read_to_string(&file).expect("there");
    assert_eq!(kept.lines().count(), 1, "one note for all tries: {kept}");

    // Without the writer nothing more is taken out, and nothing is waited for.
    signal(writer, Signal::KILL);
    let gone = state.sync().expect("room");
    gone.recv_timeout(TEST_LIMIT).expect_err("never");
    let both = [(A, Down), (B, Down), (C, Up)];
    assert!(!log.act(&both, false));
    assert!(map.take_messages().is_empty());
}

#[test]
fn a_note_that_the_disk_refuses_takes_nothing_out_until_that_is_mended() {
    let folder = tempfile::tempdir().expect("a folder");
    let place = folder.path().join("place");
    // No folder, so there can't be a file in it.
    fs::write(&place, "").expect("a file");
    let file = place.join("events");
    let (state, _writer) = store_of(file.clone());
    let map = OneMap::new(&[A, B, C]);
    let witness = Witness {
        map: &map,
        file: &file,
    };
    let mut log = FailedPathLog::new(&witness, StoreNotes::new(state));
    for _ in 0..2 {
        assert!(!log.act(&A_DOWN, false));
        assert!(map.take_messages().is_empty());
    }
    fs::remove_file(&place).expect("removed");
    let begin = Instant::now();
    while !log.act(&A_DOWN, false) {
        assert!(begin.elapsed() < TEST_LIMIT, "there is room now");
    }
    assert_eq!(map.take_messages(), ["fail_path 8:0"]);
}

#[test]
fn nothing_is_noted_before_the_notes_of_the_daemon_before_are_known() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("events");
    let (state, _writer) = store_of(file.clone());
    let map = OneMap::new(&[A, B, C]);
    let mut log = FailedPathLog::new(&map, StoreNotes::new(state));
    log.notes().hold(true);
    assert!(!log.act(&A_DOWN, false));
    assert!(map.take_messages().is_empty() && !file.exists());
    log.notes().hold(false);
    let begin = Instant::now();
    while !log.act(&A_DOWN, false) {
        assert!(begin.elapsed() < TEST_LIMIT, "it may be noted now");
    }
    assert_eq!(map.take_messages(), ["fail_path 8:0"]);
}

#[test]
fn without_a_file_nothing_is_waited_for() {
    let (nowhere, _) = EventStore::new(None);
    let map = OneMap::new(&[A, B, C]);
    let mut log = FailedPathLog::new(&map, StoreNotes::new(nowhere));
    assert!(log.act(&A_DOWN, false));
    assert_eq!(map.take_messages(), ["fail_path 8:0"]);
}
