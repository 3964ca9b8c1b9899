//! `pathpulse watch` in a terminal.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::thread;

use pathpulse_faultdisk::{Behaviour, Release, Spec, report_skip, require};

use super::common::{
    Daemon, PATIENCE, assert_error_line, backend, on_terminal, pathpulse, plain_file, rig,
};
use super::terminal::Terminal;

#[test]
fn the_screen_is_drawn_and_the_terminal_restored() {
    let file = plain_file(1 << 16);
    let daemon = Daemon::start(&[&file], &[]);
    daemon.wait_state(file.path(), "up");
    let watch = format!(
        "stty cols 80 rows 24; {} watch --socket {}; echo status $?",
        env!("CARGO_BIN_EXE_pathpulse"),
        daemon.socket.display()
    );
    let script = Command::new("script")
        .args(["-qec", &watch, "/dev/null"])
        .env("TERM", "xterm")
        .env("NO_COLOR", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let mut script = match script {
        Ok(script) => script,
        Err(error) => return report_skip(&format!("script: {error}")),
    };
    let mut output = script.stdout.take().expect("piped");
    let mut keys = script.stdin.take().expect("piped");
    let (sender, pieces) = channel();
    thread::spawn(move || {
        let mut piece = [0; 4_096];
        while let Ok(read @ 1..) = output.read(&mut piece) {
            let _ = sender.send(String::from_utf8_lossy(&piece[..read]).into_owned());
        }
    });
    let mut seen = String::new();
    let mut wait = |part: &str| {
        while !seen.contains(part) {
            let piece = pieces.recv_timeout(PATIENCE);
            seen += &piece.unwrap_or_else(|error| panic!("{part:?}: {error}: {seen:?}"));
        }
    };
    // The alternate screen, words on it (blanks may not be sent), and the end of it.
    wait("\x1b[?1049h");
    wait("worker");
    wait("(UTC)");
    keys.write_all(b"?").expect("typed");
    wait("tallest");
    keys.write_all(b"xq").expect("typed");
    wait("\x1b[?1049l");
    wait("status 0");
    drop(keys);
    assert!(script.wait().expect("ends").success());
}

/// The words of a path's row in the table.
fn row<'s>(screen: &'s str, path: &Path) -> Option<Vec<&'s str>> {
    let lines = screen.lines().map(|line| line.split_whitespace().collect());
    let mut lines = lines.filter(|words: &Vec<&str>| words.first().copied() == path.to_str());
    lines.next()
}

/// Waits until the screen shows a path in this state.
fn wait_row(terminal: &Terminal, path: &Path, state: &str) -> String {
    let is_so = |screen: &str| row(screen, path).is_some_and(|row| row[1] == state);
    terminal.wait(&format!("{} {state}", path.display()), is_so)
}

#[test]
fn the_screen_shows_changes_and_obeys_keys() {
    require!();
    let disks = rig(&Spec::loops(2));
    let paths = [disks.disk(0).path(), disks.disk(1).path()];
    let mut daemon = Daemon::start(&paths, &["--rise", "1"]);
    let line = format!(
        "{} watch --socket {}; echo status $?",
        env!("CARGO_BIN_EXE_pathpulse"),
        daemon.socket.display()
    );
    let Some(terminal) = Terminal::start(&line) else {
        return report_skip("needs tmux");
    };
    for path in paths {
        wait_row(&terminal, path, "up");
    }
    let workers = format!("2 up  {}, 1 worker, running for", backend());
    terminal.wait_text(&workers);
    let bars = |row: Vec<&str>| row.last().is_some_and(|bars| bars.chars().count() >= 5);
    terminal.wait("bars", |screen| row(screen, paths[0]).is_some_and(bars));

    disks.set(1, Behaviour::Hang).expect("set");
    wait_row(&terminal, paths[1], "down");
    terminal.wait_text("1 down");
    terminal.wait_text("stuck ");
    terminal.wait_text(&format!("{}  up -> down  timed_out", paths[1].display()));
    disks.set(1, Behaviour::Answer).expect("set");
    disks.release(1, Release::Data).expect("released");
    wait_row(&terminal, paths[1], "up");

    // Keys pause and resume the first path of the table.
    terminal.press(&["g", "p"]);
    let screen = terminal.wait_text("1 paused");
    let is_paused = |path: &&&Path| row(&screen, path).is_some_and(|row| row[1] == "paused");
    let paused = paths.iter().find(is_paused).expect("one of them");
    daemon.wait_state(paused, "paused");
    terminal.press(&["p"]);
    wait_row(&terminal, paused, "up");
    terminal.press(&["c"]);
    terminal.wait_text("check-now");
    terminal.press(&["s"]);
    terminal.wait_text("sorted by state, worst first");
    let name = paths[1].to_str().expect("text");
    terminal.press(&["/", name, "Enter"]);
    terminal.wait_text(&format!("1 of 2 match /{name}"));
    assert_eq!(row(&terminal.screen(), paths[0]), None);
    terminal.press(&["Escape"]);
    wait_row(&terminal, paths[0], "up");

    // The screen survives the daemon, and connects to the next one.
    assert!(daemon.run(&["stop"]).status.success());
    daemon.wait_end();
    terminal.wait_text("NOT CONNECTED for");
    let next = Daemon::spawn_at(pathpulse(), daemon.socket.clone(), &paths, &[]);
    terminal.wait("the next one", |screen| !screen.contains("NOT CONNECTED"));
    wait_row(&terminal, paths[1], "up");
    drop(next);
    terminal.press(&["q"]);
    let screen = terminal.wait_text("status 0");
    assert!(
        !screen.contains("PATH"),
        "the terminal is as it was: {screen}"
    );
}

#[test]
fn without_a_terminal_watch_names_the_alternatives() {
    let file = plain_file(1 << 16);
    let daemon = Daemon::start(&[&file], &[]);
    let refused = daemon.run(&["watch"]);
    assert_eq!(refused.status.code(), Some(1));
    assert_error_line(&refused, &["terminal", "pathpulse status"]);
    let socket = daemon.socket.to_str().expect("text");
    let dumb = on_terminal(&["watch", "--socket", socket], &[("TERM", "dumb")]);
    let Some(dumb) = dumb else { return };
    assert!(dumb.contains("TERM says"), "{dumb:?}");
    assert!(!dumb.contains('\x1b'), "{dumb:?}");
}
