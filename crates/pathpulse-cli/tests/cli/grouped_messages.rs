//! A message about many paths is shown once, and each problem of a file on its own line.

use std::path::{Path, PathBuf};

use super::common::{Daemon, plain_file, run, stderr, stdout};

const WHY: &str = "ENOENT";

/// Paths that cannot be opened, all for the same reason.
fn missing() -> Vec<PathBuf> {
    let names = 10..35;
    names
        .map(|n| PathBuf::from(format!("/nowhere/{n}")))
        .collect()
}

/// Fails unless one message has the reason and the number of paths.
fn assert_shown_once(text: &str) {
    assert_eq!(text.matches(WHY).count(), 1, "{text}");
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(text.contains("/nowhere/10"), "{text}");
    assert!(text.contains("22 more"), "{text}");
}

#[test]
fn commands_show_once_why_many_paths_do_not_open() {
    let missing = missing();
    for command in ["check", "doctor"] {
        let mut args = vec![command];
        args.extend(missing.iter().filter_map(|path| path.to_str()));
        let output = run(args);
        let text = stdout(&output);
        // The table of `doctor` has a row for each path.
        let (_, hints) = text.split_once("HINT").unwrap_or(("", &text));
        assert_shown_once(hints);
    }
    let mut args = vec!["check", "--format", "nagios"];
    args.extend(missing.iter().filter_map(|path| path.to_str()));
    let text = stdout(&run(args));
    assert_eq!(text.lines().count(), 2, "{text}");
    assert_shown_once(&text);
}

#[test]
fn the_daemon_logs_once_why_many_paths_do_not_open() {
    let file = plain_file(1 << 16);
    let mut paths = missing();
    paths.push(file.path().to_owned());
    let daemon = Daemon::spawn(&paths, &[]);
    let mut log = String::new();
    while !log.contains("25 are waited for") {
        log += &daemon.wait_log("");
        log.push('\n');
    }
    assert_shown_once(&log);
    let text = stdout(&daemon.run(&["status"]));
    let (_, after_table) = text.rsplit_once("not_open").expect("a table");
    assert_shown_once(after_table);
    let added: Vec<String> = (10..35).map(|n| format!("/nowhere/{n}/more")).collect();
    let mut args = vec!["add"];
    args.extend(added.iter().map(String::as_str));
    let output = daemon.run(&args);
    assert!(output.status.success(), "they are waited for");
    assert_shown_once(&stderr(&output));
    assert_shown_once(&daemon.wait_log("/more and 22 more"));
}

#[test]
fn reload_prints_a_line_for_each_problem_of_the_file() {
    let file = plain_file(1 << 16);
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("p.toml");
    let good = format!("[[path]]\nname = {:?}\n", file.path());
    std::fs::write(&config, &good).expect("written");
    let name = config.to_str().expect("text");
    let daemon = Daemon::start::<&Path>(&[], &["--config", name]);
    let wrong = "[defaults]\nintervall = '1s'\nfal = 2\n";
    std::fs::write(&config, wrong).expect("written");
    let reload = daemon.run(&["reload"]);
    assert_eq!(reload.status.code(), Some(1));
    let text = stderr(&reload);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 2, "{text}");
    for (line, part) in lines.iter().zip([":2:", ":3:"]) {
        assert!(line.starts_with("pathpulse: "), "{line}");
        assert!(line.contains(part) && !line.contains(r"\n"), "{line}");
    }
}
