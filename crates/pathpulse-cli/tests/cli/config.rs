//! `pathpulse config`, and `pathpulse run` with a configuration file.

use std::fs;

use super::common::{Daemon, assert_error_line, pathpulse, plain_file, run, stderr, stdout};

#[test]
fn config_check_and_show_report_the_places_of_values() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("p.toml");
    let name = file.to_str().expect("text");
    let check = || run(["config", "check", name]);
    fs::write(&file, "[defaults]\nfall = 3\n").expect("written");
    let good = check();
    assert!(good.status.success() && good.stderr.is_empty() && good.stdout.is_empty());
    let shown = stdout(&run(["config", "show", "--config", name, "--rise", "5"]));
    for (value, place) in [
        ("fall = 3 ", format!("{name}:2")),
        ("rise = 5 ", "command line".to_owned()),
        ("timeout = \"2s\" ", "default".to_owned()),
    ] {
        let found = |line: &str| line.starts_with(value) && line.ends_with(&place);
        assert!(shown.lines().any(found), "{value}{place}: {shown}");
    }
    fs::write(&file, "[defaults]\nfal = 3\nrise = 0\n").expect("written");
    let bad = check();
    assert_eq!(bad.status.code(), Some(1));
    let said = stderr(&bad);
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), 2, "{said}");
    assert!(lines[0].contains(":2:1: unknown key `fal` in [defaults]; did you mean `fall`?"));
    assert!(lines[1].contains(":3:8: rise: expected 1 to 1000"));
    let refused = run(["run", "--config", name]);
    assert_eq!(refused.status.code(), Some(1));
    assert_error_line(&refused, &[":2:1: ", "and 1 more", "config check"]);
    assert_eq!(run(["run"]).status.code(), Some(3));
}

#[test]
fn the_daemon_obeys_the_configuration_file() {
    let (one, two) = (plain_file(1 << 16), plain_file(1 << 16));
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("p.toml");
    let text = format!(
        "[daemon]\nworkers = 2\n[[path]]\nname = {:?}\ngroup = 'mine'\n",
        one.path()
    );
    fs::write(&file, text).expect("written");
    let config = file.to_str().expect("text");
    let daemon = Daemon::start(&[two.path()], &["--config", config]);
    let path = daemon.wait_state(one.path(), "up");
    assert_eq!(path["group"], "mine");
    daemon.wait_state(two.path(), "up");
    assert_eq!(daemon.status()["workers"], 2);
}

#[test]
fn values_of_the_environment_and_of_the_command_line_are_distinguished() {
    let shown = |args: &[&str]| {
        let mut command = pathpulse();
        command.env("PATHPULSE_SOCKET", "/tmp/of-environment");
        command.env_remove("PATHPULSE_BACKEND");
        command.args(["config", "show"]).args(args);
        stdout(&command.output().expect("it runs"))
    };
    let line = |text: &str| {
        let line = text.lines().find(|line| line.starts_with("socket = "));
        line.expect("a socket").to_owned()
    };
    let given = line(&shown(&[]));
    assert!(given.contains("/tmp/of-environment"), "{given}");
    assert!(
        given.ends_with("# environment (PATHPULSE_SOCKET)"),
        "{given}"
    );
    let given = line(&shown(&["--socket", "/tmp/of-line"]));
    assert!(given.ends_with("# command line"), "{given}");
}
