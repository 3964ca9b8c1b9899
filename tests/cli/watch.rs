//! `pathpulse watch` in a terminal.

use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::thread;

use pathpulse_faultdisk::report_skip;

use super::common::{Daemon, PATIENCE, assert_complaint, plain_file};

#[test]
fn a_screen_is_drawn_in_a_terminal_and_the_terminal_is_given_back() {
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
    // The alternate screen, words that are on it (blanks may not be sent), and the way back.
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

#[test]
fn it_says_what_to_use_where_there_is_no_terminal() {
    let file = plain_file(1 << 16);
    let daemon = Daemon::start(&[&file], &[]);
    let refused = daemon.run(&["watch"]);
    assert_eq!(refused.status.code(), Some(1));
    assert_complaint(&refused, &["terminal", "pathpulse status"]);
}
