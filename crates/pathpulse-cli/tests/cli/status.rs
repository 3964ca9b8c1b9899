//! The texts of `pathpulse status` and `pathpulse events`.

use std::path::Path;

use super::common::{Daemon, on_terminal, plain_file, stderr, stdout};
use super::status_snapshots::files;

const GREEN_UP: &str = "\x1b[38;5;10mup";

/// The output of `status` on a terminal; `None` without the program `script`.
fn on_a_terminal(daemon: &Daemon, more: &[&str], no_color: Option<&str>) -> Option<String> {
    let socket = daemon.socket.to_str().expect("text");
    let args = [&["status", "--socket", socket], more].concat();
    let no_color = no_color.map(|value| ("NO_COLOR", value));
    on_terminal(&args, no_color.as_slice())
}

/// The columns of a line, without control sequences, all of which end with `m` here.
fn columns(line: &str) -> usize {
    let mut parts = line.split("\x1b[");
    let first = parts.next().unwrap_or_default().to_owned();
    let rest = parts.filter_map(|part| part.split_once('m'));
    let text = first + &rest.map(|(_, text)| text).collect::<String>();
    text.trim_end().chars().count()
}

#[test]
fn colours_are_used_only_where_they_are_wanted() {
    let file = plain_file(1 << 16);
    let daemon = Daemon::start(&[&file], &[]);
    daemon.wait_state(file.path(), "up");
    let piped = daemon.run(&["status"]);
    assert!(piped.status.success(), "{}", stderr(&piped));
    assert!(!stdout(&piped).contains('\x1b'), "{}", stdout(&piped));
    let Some(coloured) = on_a_terminal(&daemon, &[], None) else {
        return;
    };
    assert!(coloured.contains(GREEN_UP), "{coloured:?}");
    let plain = on_a_terminal(&daemon, &[], Some("1")).expect("as before");
    assert!(plain.contains("up"), "{plain:?}");
    // Escape sequences that start like this set a colour.
    assert!(!plain.contains("\x1b[3"), "{plain:?}");
    for (more, set) in [
        (&[][..], ("TERM", "dumb")),
        (&["--color", "never"], ("TERM", "xterm")),
    ] {
        let socket = daemon.socket.to_str().expect("text");
        let args = [&["status", "--socket", socket], more].concat();
        let plain = on_terminal(&args, &[set]).expect("as before");
        assert!(plain.contains("up") && !plain.contains('\x1b'), "{plain:?}");
    }
    let mut piped = daemon.command(&["status", "--color", "always"]);
    let piped = piped.env("NO_COLOR", "1").output().expect("runs");
    assert!(stdout(&piped).contains(GREEN_UP), "{}", stdout(&piped));
}

#[test]
fn the_reason_of_a_path_that_is_not_open_is_wrapped_on_a_terminal_only() {
    let file = plain_file(1 << 16);
    let missing = format!("/nowhere/{}", "x".repeat(100));
    let paths = [
        file.path(),
        Path::new(&missing),
        Path::new("/nowhere/at/all"),
    ];
    let daemon = Daemon::start(&paths, &[]);
    daemon.wait_state(file.path(), "up");
    let piped = stdout(&daemon.run(&["status"]));
    let why = ": open: ENOENT: no such file or device; see lsblk for the existing devices";
    for missing in &paths[1..] {
        let line = format!("{}{why}", missing.display());
        assert!(piped.lines().any(|said| said == line), "{piped}");
    }
    let Some(shown) = on_a_terminal(&daemon, &[], Some("1")) else {
        return;
    };
    // Without colours, bold headings are the only escape sequences.
    for line in shown.lines().filter(|line| !line.contains('\x1b')) {
        assert!(columns(line) <= 80, "{line:?}");
    }
    let text: String = shown.split_ascii_whitespace().collect();
    for missing in &paths[1..] {
        let said = format!("{}{why}", missing.display()).replace(' ', "");
        assert!(text.contains(&said), "{shown}");
    }
}

#[test]
fn long_names_are_shortened_on_a_terminal_only() {
    let file = plain_file(1 << 16);
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let name = |leg: &str| format!("begin-{leg}-{}-end", "x".repeat(200));
    let legs = ["one", "two"].map(|leg| folder.path().join(name(leg)));
    for leg in &legs {
        std::fs::copy(file.path(), leg).expect("copied");
        let copy = std::fs::File::open(leg);
        copy.and_then(|copy| copy.sync_all()).expect("synced");
    }
    let config = folder.path().join("p.toml");
    let text = format!(
        "paths = [{:?}]\n[[path]]\nname = {:?}\ngroup = \"database\"\n[[path]]\nname = {:?}\ngroup = \"database\"\n",
        file.path(),
        legs[0],
        legs[1]
    );
    std::fs::write(&config, text).expect("written");
    let none: [&str; 0] = [];
    let daemon = Daemon::start(&none, &["--config", config.to_str().expect("text")]);
    for path in [&legs[0], &legs[1], file.path()] {
        daemon.wait_state(path, "up");
    }
    let piped = stdout(&daemon.run(&["status"]));
    for leg in &legs {
        let whole = format!("  {}  up ", leg.display());
        assert!(piped.contains(&whole), "{piped}");
    }
    assert!(piped.contains(" CHECKS\n") && piped.contains("database: 2 of 2 up\n"));
    assert!(piped.contains("without a group: 1 of 1 up\n"), "{piped}");

    let Some(shown) = on_a_terminal(&daemon, &[], Some("1")) else {
        return;
    };
    let rows: Vec<&str> = shown
        .lines()
        .filter(|line| line.contains("-end "))
        .collect();
    assert_eq!(rows.len(), 2, "{shown}");
    for (row, leg) in rows.iter().zip(["one", "two"]) {
        assert!(
            row.contains(leg) && row.contains('…') && row.contains("up "),
            "{row}"
        );
        assert!(columns(row) <= 80, "{row}");
    }
    let wide = on_a_terminal(&daemon, &["--wide"], Some("1")).expect("as before");
    for leg in &legs {
        assert!(wide.contains(&leg.display().to_string()), "{wide}");
    }
    assert!(wide.contains("CHECKS"), "{wide}");
}

#[test]
fn a_named_path_is_shown_with_the_counts_of_its_whole_group() {
    let (folder, paths) = files(3);
    let names = paths
        .iter()
        .map(|path| format!("[[path]]\nname = {path:?}\ngroup = \"database\"\n"));
    let config = folder.path().join("p.toml");
    std::fs::write(&config, names.collect::<String>()).expect("written");
    let none: [&str; 0] = [];
    let daemon = Daemon::start(&none, &["--config", config.to_str().expect("text")]);
    for path in &paths {
        daemon.wait_state(path, "up");
    }
    let asked = paths[0].to_str().expect("text");
    assert!(daemon.run(&["pause", asked]).status.success());
    daemon.wait_state(&paths[0], "paused");
    let said = stdout(&daemon.run(&["status", asked]));
    assert!(said.starts_with("2 of 3 paths up, 1 shown. "), "{said}");
    assert!(said.contains("database: 2 of 3 up\n"), "{said}");
    assert_eq!(said.lines().count(), 4, "{said}");
}

#[test]
fn exit_code_sets_the_exit_status_by_the_states() {
    let file = plain_file(1 << 16);
    let daemon = Daemon::start(&[file.path(), Path::new("/nowhere")], &[]);
    daemon.wait_state(file.path(), "up");
    let name = file.path().to_str().expect("text");
    let code = |args: &[&str]| daemon.run(&[&["status"], args].concat()).status.code();
    assert_eq!(code(&["--exit-code", name]), Some(0));
    assert_eq!(code(&["--exit-code"]), Some(1), "one is pending");
    assert_eq!(code(&[]), Some(0));
    let mut nobody = super::common::pathpulse();
    nobody.args(["status", "--exit-code", "--socket", "/nowhere/p.sock"]);
    assert_eq!(nobody.output().expect("runs").status.code(), Some(3));
}

#[test]
fn events_can_be_limited_by_number_and_time() {
    let file = plain_file(1 << 16);
    let daemon = Daemon::start(&[&file], &[]);
    daemon.wait_state(file.path(), "up");
    let name = file.path().to_str().expect("text");
    for order in ["pause", "resume"] {
        assert!(daemon.run(&[order, name]).status.success());
    }
    daemon.wait_state(file.path(), "up");
    let events = |args: &[&str]| stdout(&daemon.run(&[&["events"], args].concat()));
    let all = events(&[]);
    let count = all.lines().count();
    assert!(count >= 4, "{all}");
    let last: Vec<&str> = all.lines().skip(count - 2).collect();
    assert_eq!(events(&["-n", "2"]).lines().collect::<Vec<_>>(), last);
    assert_eq!(events(&["-n", "0"]), "");
    assert_eq!(events(&["--since", "1h"]), all);
    let second = all.lines().nth(1).expect("some").split("  ").next();
    let since = events(&["--since", second.expect("a time")]);
    assert_eq!(since, all.split_once('\n').expect("lines").1);
    let refused = daemon.run(&["events", "--since", "yesterday"]);
    assert_eq!(refused.status.code(), Some(3));
    assert!(
        stderr(&refused).contains("or an age"),
        "{}",
        stderr(&refused)
    );
}
