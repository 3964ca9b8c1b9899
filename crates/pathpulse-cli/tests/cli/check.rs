//! `pathpulse check`.

use std::fs::File;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use pathpulse_faultdisk::{Behaviour, Load, Spec, require};
use serde_json::Value;

use super::common::{
    Daemon, assert_error_line, backend, on_terminal, pathpulse, plain_file, public_binary, rig,
    run, stderr, stdout,
};

const EIO: i32 = 5;

fn name(path: &Path) -> &str {
    path.to_str().expect("text")
}

fn json(output: &std::process::Output) -> Value {
    let text = stdout(output);
    assert_eq!(text.lines().count(), 1, "one document: {text}");
    serde_json::from_str(&text).expect("a document")
}

#[test]
fn all_formats_show_the_verdicts_within_the_time_limit() {
    require!();
    let disks = rig(&Spec::loops(5));
    disks.set(1, Behaviour::Fail(EIO)).expect("set");
    disks.set(2, Behaviour::Hang).expect("set");
    disks.saturate(3, Load::Dead).expect("saturated");
    disks
        .set(4, Behaviour::Delay(Duration::from_millis(50)))
        .expect("set");
    let paths: Vec<&str> = disks.disks().iter().map(|disk| name(disk.path())).collect();
    let check = |format: &str| {
        let begin = Instant::now();
        let args = ["check", "--timeout", "700ms", "--format", format];
        let output = run(args.iter().chain(&paths));
        let took = begin.elapsed();
        assert!(took < Duration::from_millis(900), "the promise: {took:?}");
        assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
        assert_eq!(stderr(&output), "");
        output
    };

    let document = json(&check("json"));
    assert_eq!(document["backend"], backend());
    let expected = [
        ("good", "up", Value::Null),
        ("failed", "down", "EIO".into()),
        ("timed_out", "down", Value::Null),
        ("saturated", "down", Value::Null),
        ("good", "up", Value::Null),
    ];
    for (index, (verdict, state, errno)) in expected.into_iter().enumerate() {
        let path = &document["paths"][index];
        let (major, minor) = disks.disk(index).major_minor();
        assert_eq!(path["path"], paths[index]);
        assert_eq!(path["device"], format!("{major}:{minor}"));
        assert_eq!(
            (&path["verdict"], &path["state"]),
            (&verdict.into(), &state.into()),
            "{path}"
        );
        assert_eq!(path["errno"], errno, "{path}");
        assert_eq!(path["latency_us"].is_u64(), verdict == "good", "{path}");
        let message = path["message"].as_str().expect("text");
        assert_eq!(message.contains("I/O error"), index == 1, "{path}");
        assert_eq!(path.as_object().expect("an object").len(), 9);
    }
    assert!(document["paths"][4]["latency_us"].as_u64() >= Some(50_000));

    // The disk still holds the read that hung; a new process makes a new read.
    let table = stdout(&check("table"));
    assert!(!table.contains('\x1b'), "no colours in a pipe: {table}");
    assert!(
        table.lines().count() >= 6 && table.contains("EIO"),
        "{table}"
    );

    let nagios = stdout(&check("nagios"));
    let first = nagios.lines().next().expect("a line");
    assert!(
        first.starts_with("PATHPULSE CRITICAL - 2 paths up, 3 down | up=2 down=3 marginal=0"),
        "{nagios}"
    );
    assert_eq!(nagios.lines().count(), 4, "{nagios}");
    disks.recover(2).expect("released");
}

#[test]
fn each_bad_path_is_explained_and_the_others_are_checked() {
    let folder = tempfile::tempdir().expect("a folder");
    let good = plain_file(1 << 16);
    let empty = plain_file(0);
    let missing = folder.path().join("missing");
    let paths = [
        good.path(),
        &missing,
        Path::new("/proc"),
        empty.path(),
        Path::new("/proc/version"),
        Path::new("/dev/null"),
    ];
    let output = run(["check", "--format", "json"]
        .iter()
        .copied()
        .chain(paths.map(name)));
    assert_eq!(output.status.code(), Some(1), "some unknown");
    let document = json(&output);
    let said = |index: usize, errno: Option<&str>, part: &str| {
        let path = &document["paths"][index];
        assert_eq!(path["verdict"], "unknown", "{path}");
        assert_eq!(path["errno"].as_str(), errno, "{path}");
        let message = path["message"].as_str().expect("text");
        assert!(message.contains(part), "{path}");
    };
    assert_eq!(document["paths"][0]["verdict"], "good");
    said(1, Some("ENOENT"), "no such file");
    said(2, None, "empty");
    said(3, Some("EINVAL"), "O_DIRECT");
    said(4, None, "neither a block device nor a regular file");
    // Directories come last.
    said(
        5,
        None,
        "is a directory on proc, and the kernel shows no block device",
    );
    let alone = run(["check", name(&missing)]);
    assert_eq!(alone.status.code(), Some(3), "nothing could be checked");
    assert!(stdout(&alone).contains("ENOENT"));
}

/// The page cache would answer for such a file even if its disk is dead.
#[test]
fn a_file_without_blocks_on_disk_is_refused_until_it_is_written() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let path = folder.path().join("canary");
    let file = File::create(&path).expect("a file");
    file.set_len(1 << 20).expect("sized");
    let refused = || {
        let output = run(["check", "--format", "json", name(&path)]);
        assert_eq!(output.status.code(), Some(3), "{}", stdout(&output));
        let path = &json(&output)["paths"][0];
        assert_eq!(path["verdict"], "unknown", "{path}");
        path["message"].as_str().expect("text").to_owned()
    };
    let message = refused();
    assert!(message.contains("would not reach its disk"), "{message}");
    assert!(message.contains("hole"), "{message}");
    let daemon = Daemon::spawn(&[&path], &[]);
    daemon.wait_log("not watched yet: ");
    if rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, 1 << 20).is_ok() {
        assert!(refused().contains("never written"));
    }
    let (_, advice) = message.split_once("rewrite it: ").expect("an advice");
    let command = advice.replace("FILE", name(&path));
    let written = std::process::Command::new("sh")
        .args(["-c", &command])
        .output();
    assert!(written.expect("runs").status.success(), "{command}");
    let output = run(["check", name(&path)]);
    assert_eq!(output.status.code(), Some(0), "{}", stdout(&output));
    assert!(daemon.run(&["check-now", name(&path)]).status.success());
    daemon.wait_state(&path, "up");
}

#[test]
fn a_device_with_several_names_is_checked_once() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let (good, missing) = (plain_file(1 << 16), folder.path().join("missing"));
    let [link, hard] = ["link", "hard"].map(|name| folder.path().join(name));
    symlink(good.path(), &link).expect("a link");
    std::fs::hard_link(good.path(), &hard).expect("a hard link");
    let parent = folder.path().file_name().and_then(|name| name.to_str());
    let dotted = format!("{}/../{}/link", name(folder.path()), parent.expect("text"));
    let paths = [
        name(good.path()),
        name(&link),
        name(good.path()),
        &dotted,
        name(&hard),
    ];
    let check =
        |format: &str, paths: &[&str]| run(["check", "--format", format].iter().chain(paths));
    let output = check("json", &paths);
    assert_eq!(output.status.code(), Some(0), "{}", stdout(&output));
    let document = json(&output);
    let all = document["paths"].as_array().expect("a list");
    assert_eq!(all.len(), 1, "{document}");
    assert_eq!(all[0]["path"], paths[0]);
    assert_eq!(
        all[0]["also"],
        serde_json::json!([paths[1], paths[3], paths[4]])
    );
    let output = check("nagios", &paths);
    let text = stdout(&output);
    assert!(text.starts_with("PATHPULSE OK - 1 path up |"), "{text}");
    assert!(text.contains(&format!("also {}", paths[1])), "{text}");
    let table = stdout(&check("table", &paths));
    assert!(table.contains("also "), "{table}");
    // A name that leads nowhere is not a name of another device.
    let output = check(
        "json",
        &[name(&missing), paths[0], name(&missing), "/nowhere"],
    );
    assert_eq!(output.status.code(), Some(1));
    let document = json(&output);
    let named: Vec<&Value> = document["paths"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|path| &path["path"])
        .collect();
    assert_eq!(named, [name(&missing), paths[0], "/nowhere"]);
}

/// For example an offline disk with all of its names.
#[test]
fn a_device_that_does_not_open_is_reported_once() {
    require!();
    let disks = rig(&Spec::files(1));
    let folder = disks.disk(0).file().parent().expect("a folder");
    let path = folder.join(format!("open{}", libc::ENXIO));
    let links = tempfile::tempdir().expect("a folder");
    let link = links.path().join("link");
    symlink(&path, &link).expect("a link");
    let output = run(["check", "--format", "json", name(&link), name(&path)]);
    assert_eq!(output.status.code(), Some(2));
    let document = json(&output);
    assert_eq!(
        document["paths"].as_array().map(Vec::len),
        Some(1),
        "{document}"
    );
    assert_eq!(
        document["paths"][0]["also"],
        serde_json::json!([name(&path)])
    );
}

/// For example an empty drive (ENOMEDIUM) or a DRBD secondary (EMEDIUMTYPE).
#[test]
fn an_open_error_takes_a_path_down_only_if_the_path_is_its_cause() {
    require!();
    let disks = rig(&Spec::files(1));
    let folder = disks.disk(0).file().parent().expect("a folder");
    let check = |errno: i32| {
        let path = folder.join(format!("open{errno}"));
        let output = run(["check", "--format", "json", name(&path)]);
        let path = json(&output)["paths"][0].clone();
        (output.status.code(), path)
    };
    for errno in 1..=133 {
        // Not errors of a device, or the answer of a FUSE server without open, or errnos without a
        // name.
        if [libc::EINTR, libc::ENOSYS, 41, 58].contains(&errno) {
            continue;
        }
        let (status, path) = check(errno);
        let shown = path["errno"].as_str().expect("a name");
        assert!(shown.starts_with('E'), "{errno} has no name: {path}");
        let message = path["message"].as_str().expect("text");
        assert!(message.starts_with("open: E"), "{path}");
        assert_eq!(path["state"] == "down", status == Some(2), "{path}");
    }
    let conditions = [
        (libc::ENOMEDIUM, "ENOMEDIUM", "insert"),
        (libc::EMEDIUMTYPE, "EMEDIUMTYPE", "primary"),
        (libc::EBUSY, "EBUSY", "lsblk"),
        (libc::EROFS, "EROFS", "read-only"),
        (libc::EAGAIN, "EAGAIN", "try again"),
        (libc::ETXTBSY, "ETXTBSY", "specify another"),
        (libc::EUCLEAN, "EUCLEAN", "fsck"),
    ];
    for (errno, shown, says) in conditions {
        let (status, path) = check(errno);
        assert_eq!((status, &path["errno"]), (Some(1), &shown.into()), "{path}");
        assert_eq!(path["verdict"], "unknown", "{path}");
        assert!(
            path["message"].as_str().expect("text").contains(says),
            "{path}"
        );
    }
    for errno in [libc::ENXIO, libc::EIO, libc::ETIMEDOUT, libc::EREMOTEIO] {
        let (status, path) = check(errno);
        assert_eq!(
            (status, &path["state"]),
            (Some(2), &"down".into()),
            "{path}"
        );
    }
}

#[test]
fn a_write_error_fails_the_command_and_a_closed_pipe_does_not() {
    let file = plain_file(1 << 20);
    let path = name(file.path());
    for (args, status) in [
        (&["check", path][..], 3),
        (&["check", path, "--format", "json"], 3),
        (&["doctor"], 1),
        (&["config", "show"], 1),
        (&["completions", "bash"], 1),
        (&["--help"], 1),
    ] {
        let full = File::options().write(true).open("/dev/full");
        let output = pathpulse()
            .args(args)
            .stdout(full.expect("opens"))
            .output()
            .expect("runs");
        assert_eq!(output.status.code(), Some(status), "{args:?}");
        let said = stderr(&output);
        assert!(said.contains("stdout: No space left"), "{args:?}: {said}");

        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let output = pathpulse().args(args).stdout(writer).output();
        let output = output.expect("runs");
        assert_eq!(output.status.code(), Some(0), "{args:?}");
        let said = stderr(&output);
        assert!(!said.contains("stdout"), "{args:?}: {said}");
    }
}

#[test]
fn without_arguments_the_default_disks_of_discovery_are_checked() {
    require!();
    let _skipped = rig(&Spec::loops(1));
    let output = run(["check", "--format", "json"]);
    if output.status.code() == Some(3) && output.stdout.is_empty() {
        return assert!(stderr(&output).contains("name a path"), "{output:?}");
    }
    let document = json(&output);
    let paths = document["paths"].as_array().expect("a list");
    assert!(!paths.is_empty());
    for path in paths {
        let path = path["path"].as_str().expect("a name");
        assert!(path.starts_with("/dev/"), "{path}");
        let skipped = ["/dev/loop", "/dev/ram", "/dev/zram", "/dev/dm-", "/dev/md"];
        assert!(
            !skipped.iter().any(|start| path.starts_with(start)),
            "{path}"
        );
    }
}

#[test]
fn an_unreadable_path_blames_permissions_and_not_the_device() {
    if !rustix::process::geteuid().is_root() {
        return pathpulse_faultdisk::report_skip("needs root to become somebody else");
    }
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("secret");
    std::fs::write(&file, vec![0; 4096]).expect("written");
    let set_mode = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("set");
    };
    set_mode(&file, 0o600);
    set_mode(folder.path(), 0o755);
    let (_public, binary) = public_binary();
    let mut command = std::process::Command::new(&binary);
    std::os::unix::process::CommandExt::uid(&mut command, 65_534);
    let output = command
        .args(["check", "--format", "json", name(&file)])
        .output()
        .expect("runs");
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    let path = &json(&output)["paths"][0];
    assert_eq!(
        (&path["errno"], &path["verdict"]),
        (&"EACCES".into(), &"unknown".into())
    );
    assert!(
        path["message"].as_str().expect("text").contains("root"),
        "{path}"
    );
}

#[test]
fn wrong_usage_prints_one_line_and_exits_with_3() {
    let refused = |args: &[&str], says: &[&str]| {
        let output = run(args);
        assert_eq!(output.status.code(), Some(3), "{args:?}");
        assert_error_line(&output, says);
        assert_eq!(stdout(&output), "");
    };
    refused(
        &["check", "--timeout", "2", "/dev/null"],
        &["--timeout", "500ms", "check --help"],
    );
    refused(
        &["check", "--timeout", "0s", "/dev/null"],
        &["from 1ms to 24h"],
    );
    refused(&["check", "--format", "xml"], &["xml", "nagios"]);
    refused(
        &["check", "--backend", "threads", "/dev/null"],
        &["threads", "sync"],
    );
    refused(&["check", "--frobnicate"], &["--frobnicate"]);
    refused(&["run"], &["name paths", "run --help"]);
    refused(&["run", "--workers", "0", "/dev/null"], &["--workers"]);
    refused(&["chekc"], &["chekc", "pathpulse --help"]);
    refused(&[], &["--help"]);
}

#[test]
fn nagios_format_reports_unknown_on_stdout() {
    let output = run(["check", "--format", "nagios", "/nowhere"]);
    assert_eq!(output.status.code(), Some(3));
    let text = stdout(&output);
    assert!(
        text.starts_with("PATHPULSE UNKNOWN - 1 path unknown | up=0 down=0"),
        "{text}"
    );
}

#[test]
fn help_has_an_example_for_every_command() {
    for command in ["check", "run", "status", "events", "stop", "demo", "doctor"] {
        let output = run([command, "--help"]);
        assert!(output.status.success());
        let text = stdout(&output);
        assert!(
            text.contains("Example") && text.contains(&format!("pathpulse {command}")),
            "{text}"
        );
    }
    assert!(stdout(&run(["--version"])).starts_with("pathpulse 0."));
}

#[test]
fn a_closed_pipe_does_not_change_the_exit_status() {
    let good = plain_file(1 << 16);
    for format in ["table", "json", "nagios"] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let output = pathpulse()
            .args(["check", "--format", format, name(good.path())])
            .stdout(Stdio::from(writer))
            .output()
            .expect("runs");
        assert_eq!(
            (output.status.code(), stderr(&output).as_str()),
            (Some(0), "")
        );
    }
}

#[test]
fn read_place_and_read_length_are_obeyed() {
    let file = plain_file(1 << 20);
    let path = file.path().to_str().expect("a name");
    for place in ["first", "last", "rotating"] {
        let output = run([
            "check",
            path,
            "--read-place",
            place,
            "--read-length",
            "128KiB",
        ]);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    }
    for (option, value) in [("--read-place", "middle"), ("--read-length", "1MiB")] {
        let output = run(["check", path, option, value]);
        assert_eq!(output.status.code(), Some(3));
        assert!(stderr(&output).contains(value), "{}", stderr(&output));
    }
}

#[test]
fn tables_fit_a_terminal_and_pipes_get_complete_names() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let long = folder.path().join("x".repeat(200));
    let copied = std::fs::copy(plain_file(1 << 16).path(), &long);
    copied.expect("copied");
    let name = long.to_str().expect("text");
    for command in ["check", "doctor"] {
        let args = [command, name, "/nowhere/at/all"];
        let table = stdout(&run(args));
        assert!(table.lines().any(|line| line.starts_with(name)), "{table}");
        let Some(shown) = on_terminal(&args, &[("NO_COLOR", "1")]) else {
            return;
        };
        // Headings can be bold.
        for line in shown.lines().filter(|line| !line.contains('\x1b')) {
            assert!(line.trim_end().chars().count() <= 80, "{shown}");
        }
        let text: String = shown.split_ascii_whitespace().collect();
        assert!(text.contains("/nowhere/at/all"), "{shown}");
    }
}
