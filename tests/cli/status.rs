//! What `pathpulse status` shows to people.

use std::path::Path;
use std::process::{Command, Stdio};

use pathpulse_faultdisk::report_skip;

use super::common::{Daemon, plain_file, stderr, stdout};
use super::looks::files;

const GREEN_UP: &str = "\x1b[38;5;10mup";

/// What `status` writes to a terminal; `None` where there is no program that makes one.
fn on_a_terminal(daemon: &Daemon, no_color: Option<&str>) -> Option<String> {
    let command = format!(
        "{} status --socket {}",
        env!("CARGO_BIN_EXE_pathpulse"),
        daemon.socket.display()
    );
    let mut script = Command::new("script");
    script
        .args(["-qec", &command, "/dev/null"])
        .env("TERM", "xterm")
        .stdin(Stdio::null());
    script.env_remove("NO_COLOR");
    if let Some(value) = no_color {
        script.env("NO_COLOR", value);
    }
    match script.output() {
        Ok(output) => Some(stdout(&output)),
        Err(error) => {
            report_skip(&format!("script: {error}"));
            None
        }
    }
}

#[test]
fn colours_are_for_terminals_that_want_them() {
    let file = plain_file(1 << 16);
    let daemon = Daemon::start(&[&file], &[]);
    daemon.wait_state(file.path(), "up");
    let piped = daemon.run(&["status"]);
    assert!(piped.status.success(), "{}", stderr(&piped));
    assert!(!stdout(&piped).contains('\x1b'), "{}", stdout(&piped));
    let Some(coloured) = on_a_terminal(&daemon, None) else {
        return;
    };
    assert!(coloured.contains(GREEN_UP), "{coloured:?}");
    let plain = on_a_terminal(&daemon, Some("1")).expect("as before");
    assert!(plain.contains("up"), "{plain:?}");
    // Escape sequences that begin so set a colour.
    assert!(!plain.contains("\x1b[3"), "{plain:?}");
}

#[test]
fn why_a_path_is_not_open_is_a_line_in_a_pipe_and_fits_a_terminal() {
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
    let why = ": open: ENOENT: no such file or device; see lsblk for those there are";
    for missing in &paths[1..] {
        let line = format!("{}{why}", missing.display());
        assert!(piped.lines().any(|said| said == line), "{piped}");
    }
    let Some(shown) = on_a_terminal(&daemon, Some("1")) else {
        return;
    };
    let columns = |line: &str| line.trim_end().chars().filter(|c| !c.is_control()).count();
    // Bold headings are the only escape sequences without colours.
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
fn long_names_are_cut_in_the_middle_and_groups_are_shown() {
    let file = plain_file(1 << 16);
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let long = folder.path().join(format!("begin-{}-end", "x".repeat(200)));
    std::fs::copy(file.path(), &long).expect("copied");
    std::fs::File::open(&long)
        .and_then(|copy| copy.sync_all())
        .expect("synced");
    let config = folder.path().join("p.toml");
    let text = format!(
        "[[path]]\nname = {:?}\ngroup = \"database\"\n[[path]]\nname = {:?}\n",
        long,
        file.path()
    );
    std::fs::write(&config, text).expect("written");
    let none: [&str; 0] = [];
    let daemon = Daemon::start(&none, &["--config", config.to_str().expect("text")]);
    daemon.wait_state(&long, "up");
    daemon.wait_state(file.path(), "up");
    let table = stdout(&daemon.run(&["status"]));
    assert!(
        table.lines().all(|line| line.chars().count() <= 80),
        "{table}"
    );
    let row = |part: &str| {
        table
            .lines()
            .find(|line| line.contains(part))
            .unwrap_or_else(|| panic!("{part}: {table}"))
    };
    assert!(
        row("…").contains("-end ") && row("…").contains(" up "),
        "{table}"
    );
    row("database: 1 of 1 up");
    row("without a group: 1 of 1 up");
}

#[test]
fn a_path_that_is_asked_for_is_shown_with_the_count_of_its_whole_group() {
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
