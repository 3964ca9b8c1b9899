//! Names of paths: not UTF-8, links, several names of one device, names without a slash.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Instant;

use pathpulse_faultdisk::{Spec, require};
use serde_json::Value;

use super::common::{
    Daemon, PATIENCE, assert_error_line, pathpulse, plain_file, rig, run, stderr, stdout,
};
use super::web::Web;

/// A command to the daemon with a name that may not be UTF-8.
pub(crate) fn command(daemon: &Daemon, word: &str, name: &Path) -> Output {
    daemon.command(&[word]).arg(name).output().expect("runs")
}

fn documents(daemon: &Daemon) -> Vec<Value> {
    daemon.status()["paths"].as_array().expect("a list").clone()
}

pub(crate) fn names(daemon: &Daemon) -> Vec<String> {
    let all = documents(daemon);
    let names = all
        .iter()
        .map(|path| path["path"].as_str().expect("text").to_owned());
    names.collect()
}

/// Files whose names differ only in bytes that are not UTF-8, and the names as they are shown.
fn odd_files(folder: &Path) -> Vec<(PathBuf, String)> {
    let shown = folder.to_str().expect("text");
    [
        (&b"a\xff"[..], r"a\xff"),
        (b"a\xfe", r"a\xfe"),
        (b"new\nline \x1b[31mred", r"new\nline \x1b[31mred"),
        (br"back\x20slash", r"back\\x20slash"),
    ]
    .map(|(name, text)| {
        let path = folder.join(OsStr::from_bytes(name));
        fs::write(&path, vec![0xA5_u8; 1 << 16]).expect("written");
        fs::File::open(&path)
            .and_then(|file| file.sync_all())
            .expect("synced");
        (path, format!("{shown}/{text}"))
    })
    .into()
}

#[test]
fn names_that_are_not_utf8_work_in_all_commands_and_answers() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let files = odd_files(folder.path());
    let output = folder.path().join("output");
    let hook = folder.path().join("hook");
    fs::write(
        &hook,
        "#!/bin/sh\nprintf '%s\\0%s\\0' \"$PATHPULSE_PATH\" \"$PATHPULSE_PATH_TEXT\" >> \"$1\"\n",
    )
    .expect("written");
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).expect("set");
    let config = folder.path().join("p.toml");
    let text = format!("[[hook]]\nrun = [{hook:?}, {output:?}]\non = ['removed']\n");
    fs::write(&config, text).expect("written");
    let paths: Vec<&Path> = files.iter().map(|(path, _)| path.as_path()).collect();
    let daemon = Daemon::spawn(&paths, &["--config", config.to_str().expect("text")]);
    let mut logged = Vec::new();
    while logged.len() < files.len() {
        logged.push(daemon.wait_log("pending -> up"));
    }
    for (_, text) in &files {
        assert!(
            logged
                .iter()
                .any(|line| line.contains(&format!("{text} pending"))),
            "{logged:?}"
        );
    }
    assert!(
        logged.iter().all(|line| !line.contains('\x1b')),
        "{logged:?}"
    );
    let mut shown: Vec<String> = files.iter().map(|(_, text)| text.clone()).collect();
    let mut all = names(&daemon);
    all.sort();
    shown.sort();
    assert_eq!(all, shown);

    let web = Web::socket(&daemon);
    let metrics = web.get("/metrics").body;
    for (path, text) in &files {
        let query: String = text.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let answer = web.get(&format!("/livez?path={query}"));
        assert_eq!(answer.status, 200, "{answer:?}");
        assert!(answer.body.starts_with(text), "{answer:?}");
        assert_eq!(web.get(&format!("/v1/paths/{query}")).status, 200, "{text}");
        // In a label, backslashes are doubled once more.
        assert!(
            metrics.contains(&format!("path=\"{}\"", text.replace('\\', r"\\"))),
            "{text}"
        );
        // One command gets the bytes, the other ones the name as it is shown.
        let pause = command(&daemon, "pause", path);
        assert!(pause.status.success(), "{}", stderr(&pause));
        let one = command(&daemon, "status", Path::new(text));
        assert!(stdout(&one).contains("paused"), "{}", stdout(&one));
        let remove = command(&daemon, "remove", Path::new(text));
        assert!(remove.status.success(), "{}", stderr(&remove));
    }
    assert!(names(&daemon).is_empty());
    let expected: usize = files
        .iter()
        .map(|(path, text)| path.as_os_str().len() + text.len() + 2)
        .sum();
    let begin = Instant::now();
    let mut written = Vec::new();
    while written.len() < expected {
        assert!(begin.elapsed() < PATIENCE, "{written:?}");
        written = fs::read(&output).unwrap_or_default();
    }
    for (path, text) in &files {
        let pair = [path.as_os_str().as_bytes(), text.as_bytes(), b""].join(&0);
        assert!(
            written.windows(pair.len()).any(|part| part == pair),
            "{text}"
        );
    }
    // Adding a name by its bytes adds that file, and `check` shows the same name.
    for (path, text) in &files {
        let add = command(&daemon, "add", path);
        assert!(add.status.success(), "{}", stderr(&add));
        let check = run([
            OsString::from("check"),
            "--format".into(),
            "json".into(),
            path.into(),
        ]);
        let check: Value = serde_json::from_slice(&check.stdout).expect("a document");
        assert_eq!(check["paths"][0]["path"], text.as_str());
    }
    assert_eq!(names(&daemon).len(), files.len());
}

#[test]
fn a_watched_name_means_its_path_even_if_it_leads_elsewhere() {
    let files = [plain_file(1 << 16), plain_file(1 << 16)];
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let link = folder.path().join("link");
    symlink(files[0].path(), &link).expect("a link");
    let daemon = Daemon::start(&[link.as_path(), files[1].path()], &["--interval", "1h"]);
    daemon.wait_state(&link, "up");
    daemon.wait_state(files[1].path(), "up");
    fs::remove_file(&link).expect("removed");
    symlink(files[1].path(), &link).expect("a link");
    let pause = command(&daemon, "pause", &link);
    assert!(pause.status.success(), "{}", stderr(&pause));
    daemon.wait_state(&link, "paused");
    daemon.wait_state(files[1].path(), "up");
    // A name that is not watched means the path to the same device.
    let other = folder.path().join("other");
    symlink(files[1].path(), &other).expect("a link");
    let status = command(&daemon, "status", &other);
    let shown = stdout(&status);
    assert!(shown.starts_with("1 of 2 paths up, 1 shown"), "{shown}");
    let remove = command(&daemon, "remove", &link);
    assert!(remove.status.success(), "{}", stderr(&remove));
    assert_eq!(names(&daemon), [files[1].path().to_str().expect("text")]);
    let remove = command(&daemon, "remove", &other);
    assert!(remove.status.success(), "{}", stderr(&remove));
    assert!(names(&daemon).is_empty());
    let again = command(&daemon, "remove", &other);
    assert_error_line(&again, &["other", "not watched"]);
}

#[test]
fn a_device_is_watched_once_and_shows_its_other_names() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let [first, second, third] = ["z", "b", "a"].map(|name| folder.path().join(name));
    fs::write(&first, vec![0xA5_u8; 1 << 16]).expect("written");
    fs::File::open(&first)
        .and_then(|file| file.sync_all())
        .expect("synced");
    symlink(&first, &second).expect("a link");
    fs::hard_link(&first, &third).expect("a hard link");
    let text = |path: &Path| path.to_str().expect("text").to_owned();
    // The first name on the command line is the main name, whichever opens first.
    let daemon = Daemon::spawn(&[&first, &second, &first], &[]);
    let counts = daemon.wait_log("paths are watched");
    assert!(counts.ends_with(" 1 paths are watched"), "{counts}");
    let all = documents(&daemon);
    assert_eq!(names(&daemon), [text(&first)]);
    assert_eq!(all[0]["also"], serde_json::json!([text(&second)]));
    let add = command(&daemon, "add", &third);
    assert_eq!(add.status.code(), Some(0));
    assert_error_line(&add, &[&text(&third), "the same device as", &text(&first)]);
    let all = documents(&daemon);
    assert_eq!(
        all[0]["also"],
        serde_json::json!([text(&third), text(&second)])
    );
    let web = Web::socket(&daemon);
    let metrics = web.get("/metrics").body;
    assert!(metrics.contains("pathpulse_paths_waiting 0"), "{metrics}");
    let escaped = text(&second).replace('/', "%2F");
    let one: Value =
        serde_json::from_str(&web.get(&format!("/v1/paths/{escaped}")).body).expect("JSON");
    assert_eq!(one["path"], text(&first));
    assert_eq!(one["also"], all[0]["also"]);
    daemon.wait_state(&first, "up");
    let alive = web.get(&format!("/livez?path={escaped}"));
    assert_eq!(alive.status, 200, "{alive:?}");

    // Any of the names can be used in commands, but `remove` removes only the given name.
    for (word, state) in [("pause", "paused"), ("resume", "up")] {
        let done = command(&daemon, word, &second);
        assert!(done.status.success(), "{}", stderr(&done));
        daemon.wait_state(&first, state);
    }
    let remove = command(&daemon, "remove", &third);
    assert_eq!(
        (remove.status.code(), stderr(&remove)),
        (Some(0), String::new())
    );
    assert_eq!(
        documents(&daemon)[0]["also"],
        serde_json::json!([text(&second)])
    );
    let remove = command(&daemon, "remove", &first);
    assert_eq!(remove.status.code(), Some(0));
    assert_error_line(&remove, &["is watched as", &text(&second), "now"]);
    let heir = daemon.wait_state(&second, "up");
    assert_eq!(
        (names(&daemon), &heir["also"]),
        (vec![text(&second)], &serde_json::json!([]))
    );
    let remove = command(&daemon, "remove", &second);
    assert_eq!(stderr(&remove), "");
    assert!(names(&daemon).is_empty());
}

#[test]
fn a_name_without_a_slash_means_a_device_unless_a_file_here_has_it() {
    require!();
    let disks = rig(&Spec::loops(1));
    let disk = disks.disk(0).path();
    let short = disk.file_name().and_then(OsStr::to_str).expect("text");
    let here = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let from_here = |command: &mut Command| {
        command.current_dir(here.path());
        command.output().expect("runs")
    };
    let check = |names: &[&str]| {
        let mut command = pathpulse();
        command.args(["check", "--format", "json"]).args(names);
        let output = from_here(&mut command);
        let document: Value = serde_json::from_slice(&output.stdout).expect("a document");
        document["paths"].clone()
    };
    let all = check(&[short]);
    assert_eq!(
        (&all[0]["path"], &all[0]["state"]),
        (&disk.to_str().into(), &"up".into()),
        "{all}"
    );
    let daemon = Daemon::start(&[plain_file(1 << 16).path()], &[]);
    let act = |word: &str| from_here(&mut daemon.command(&[word, short]));
    let add = act("add");
    assert!(add.status.success(), "{}", stderr(&add));
    daemon.wait_state(disk, "up");
    assert!(stdout(&act("status")).contains(short));
    assert!(act("pause").status.success());
    daemon.wait_state(disk, "paused");
    assert!(act("remove").status.success());
    assert!(!names(&daemon).contains(&disk.to_str().expect("text").to_owned()));
    // A file in the working directory comes first.
    fs::write(here.path().join(short), vec![0xA5_u8; 1 << 16]).expect("written");
    let all = check(&[short]);
    assert_eq!(all[0]["path"], short, "{all}");
    assert!(act("add").status.success());
    daemon.wait_state(&here.path().join(short), "up");
}
