//! `pathpulse doctor`.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output};

use pathpulse_faultdisk::{Behaviour, Load, Rig, Spec, Zram, report_skip, require};
use serde_json::Value;

use super::common::{
    assert_error_line, pathpulse, plain_file, public_binary, rig, run, stderr, stdout,
};
use super::seccomp::{IO_URING, output_under};

const NOBODY: u32 = 65_534;
const FIELDS: [&str; 12] = [
    "version",
    "kernel",
    "backend",
    "reason",
    "backends",
    "io_uring",
    "limits",
    "io_uring_disabled",
    "seccomp",
    "paths",
    "held_processes",
    "hints",
];
const PATH_FIELDS: [&str; 18] = [
    "path",
    "also",
    "under",
    "device",
    "verdict",
    "state",
    "errno",
    "latency_us",
    "message",
    "readable",
    "nowait",
    "submission",
    "size_bytes",
    "block_bytes",
    "device_state",
    "access_state",
    "group",
    "iostats",
];

fn name(path: &Path) -> &str {
    path.to_str().expect("text")
}

fn document(output: &Output) -> Value {
    let text = stdout(output);
    assert_eq!(text.lines().count(), 1, "{text} {}", stderr(output));
    serde_json::from_str(&text).expect("a document")
}

fn assert_fields(document: &Value, fields: &[&str]) {
    let has: BTreeSet<&str> = document
        .as_object()
        .expect("an object")
        .keys()
        .map(String::as_str)
        .collect();
    assert_eq!(has, fields.iter().copied().collect(), "{document}");
}

fn doctor(paths: &[&str]) -> Output {
    let args = ["doctor", "--timeout", "700ms", "--format", "json"];
    run(args.iter().chain(paths))
}

/// Runs `doctor` while the kernel answers some calls with errnos.
fn filtered(answers: &[(&[i64], i32)], paths: &[&str]) -> Output {
    let mut command = pathpulse();
    let args = ["doctor", "--timeout", "700ms", "--format", "json"];
    command.args(args).args(paths);
    output_under(answers, command)
}

fn backend<'a>(document: &'a Value, name: &str) -> &'a Value {
    let list = document["backends"].as_array().expect("a list");
    list.iter().find(|row| row["name"] == name).expect("listed")
}

/// Fails unless a hint about this has all parts.
fn assert_hint(document: &Value, about: &str, says: &[&str]) {
    let hints = document["hints"].as_array().expect("a list");
    let fits = |hint: &&Value| {
        let text = hint["hint"].as_str().expect("text");
        hint["about"] == about && says.iter().all(|part| text.contains(part))
    };
    assert!(hints.iter().any(|hint| fits(&hint)), "{says:?}: {hints:#?}");
}

fn assert_unavailable(document: &Value, name: &str, call: &str, errno: &str) {
    let row = backend(document, name);
    assert_eq!(row["available"], false, "{row}");
    assert_eq!((&row["call"], &row["errno"]), (&call.into(), &errno.into()));
    let reason = document["reason"].as_str().expect("text");
    assert!(
        reason.contains(&format!("{name} ({call}: {errno})")),
        "{reason}"
    );
}

fn in_proc(file: &str) -> Option<Value> {
    let text = fs::read_to_string(format!("/proc/sys/{file}")).ok()?;
    serde_json::from_str(text.trim()).ok()
}

#[test]
fn doctor_shows_backends_limits_and_switches() {
    let output = doctor(&[]);
    let document = document(&output);
    assert_fields(&document, &FIELDS);
    assert_eq!((output.status.code(), &*stderr(&output)), (Some(0), ""));
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").expect("proc");
    assert_eq!(document["kernel"]["release"], release.trim());
    assert_eq!(document["paths"], Value::Array(Vec::new()));
    let names = ["io_uring", "aio", "sync"];
    for (row, name) in document["backends"]
        .as_array()
        .expect("a list")
        .iter()
        .zip(names)
    {
        assert_fields(row, &["name", "available", "call", "errno", "hint"]);
        assert_eq!(row["name"], name);
        assert_eq!(row["errno"].is_null(), row["available"] == true, "{row}");
    }
    let first = names
        .iter()
        .find(|name| backend(&document, name)["available"] == true);
    assert_eq!(document["backend"], *first.expect("one works"));
    let limits = &document["limits"];
    assert_eq!(
        limits["aio_max_nr"],
        in_proc("fs/aio-max-nr").unwrap_or_default()
    );
    assert!(
        limits["open_files"].get("soft").is_some() && limits["memlock_bytes"].get("hard").is_some()
    );
    let disabled = in_proc("kernel/io_uring_disabled").unwrap_or_default();
    assert_eq!(document["io_uring_disabled"], disabled);
}

#[test]
fn features_are_shown_with_state_and_benefit() {
    let document = document(&doctor(&[]));
    if backend(&document, "io_uring")["available"] == false {
        assert!(document["io_uring"].is_null());
        return report_skip("needs io_uring");
    }
    let features = document["io_uring"]["features"].as_array().expect("a list");
    assert!(features.len() >= 7);
    for feature in features {
        assert_fields(feature, &["name", "state", "since", "brings"]);
        let state = feature["state"].as_str().expect("text");
        assert!(["in_use", "missing", "not_needed"].contains(&state));
        assert!(!feature["brings"].as_str().expect("text").is_empty());
    }
    assert!(document["io_uring"]["sq_entries"].as_u64() >= Some(2));
}

/// The document of the only path, and its fields `readable` and `nowait`.
fn assert_path(document: &Value, index: usize, verdict: &str, readable: bool, nowait: bool) {
    let path = &document["paths"][index];
    assert_fields(path, &PATH_FIELDS);
    assert_eq!(path["verdict"], verdict, "{path}");
    assert_eq!(path["readable"], readable, "{path}");
    assert_eq!(path["nowait"], nowait, "{path}");
    assert_eq!(path["submission"], "shared", "{path}");
    if !readable {
        let message = path["message"].as_str().expect("text");
        assert_hint(document, path["path"].as_str().expect("text"), &[message]);
    }
}

#[test]
fn good_hanging_and_saturated_paths_are_distinguished() {
    require!();
    let disks = rig(&Spec::loops(4));
    disks.set(1, Behaviour::Hang).expect("set");
    disks.saturate(2, Load::Dead).expect("saturated");
    disks.set(3, Behaviour::Fail(libc::EIO)).expect("set");
    let paths: Vec<&str> = disks.disks().iter().map(|disk| name(disk.path())).collect();
    // No read is released before the command returns.
    let output = doctor(&paths);
    assert_eq!((output.status.code(), &*stderr(&output)), (Some(1), ""));
    let document = document(&output);
    assert_path(&document, 0, "good", true, true);
    assert_path(&document, 1, "timed_out", false, true);
    assert_path(&document, 2, "saturated", false, true);
    assert_path(&document, 3, "failed", false, true);
    let (major, minor) = disks.disk(0).major_minor();
    let path = &document["paths"][0];
    assert_eq!(path["device"], format!("{major}:{minor}"));
    assert_eq!(
        (&path["size_bytes"], &path["block_bytes"]),
        (&(64 << 20).into(), &512.into())
    );
    assert_eq!(
        (&path["iostats"], &path["group"]),
        (&true.into(), &Value::Null)
    );
    assert_tables(
        &paths,
        &["no: timed_out", "no: saturated", "no: EIO", "64 MiB"],
    );
    disks.recover(1).expect("released");
}

/// The table has no colours in a pipe, and a line for each hint.
fn assert_tables(paths: &[&str], says: &[&str]) {
    let text = stdout(&run(["doctor", "--timeout", "700ms"].iter().chain(paths)));
    assert!(!text.contains('\x1b'), "{text}");
    let always = [
        "Linux ",
        "io_uring",
        "aio",
        "sync",
        "fs.aio-max-nr",
        "RLIMIT_MEMLOCK",
    ];
    for part in always.iter().chain(says) {
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
}

#[test]
fn a_path_without_nowait_gets_a_hint() {
    require!();
    let files = rig(&Spec::files(1));
    let path = name(files.disk(0).path());
    let found = document(&doctor(&[path]));
    assert_path(&found, 0, "good", true, false);
    assert_hint(&found, path, &["RWF_NOWAIT"]);
    if let Some(missing) = Zram::missing() {
        return report_skip(&missing);
    }
    let zram = Zram::create().expect("a zram disk");
    let found = document(&doctor(&[name(zram.path())]));
    assert_path(&found, 0, "good", true, false);
    assert_eq!(found["paths"][0]["size_bytes"], 16 << 20);
    assert_eq!(found["paths"][0]["block_bytes"], 4096);
}

/// The directory of a simulated disk in sysfs.
fn sysfs_of(disks: &Rig, index: usize) -> String {
    let (major, minor) = disks.disk(index).major_minor();
    format!("/sys/dev/block/{major}:{minor}")
}

#[test]
fn a_disk_without_statistics_gets_a_hint() {
    require!();
    let disks = rig(&Spec::loops(1));
    let path = name(disks.disk(0).path());
    fs::write(sysfs_of(&disks, 0) + "/queue/iostats", "0").expect("switched off");
    let output = doctor(&[path]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let document = document(&output);
    assert_eq!(document["paths"][0]["iostats"], false);
    assert_hint(&document, path, &["busy", "echo 1 >", "queue/iostats"]);
}

#[test]
fn a_path_that_does_not_open_is_named_and_sets_the_exit_status() {
    let good = plain_file(1 << 16);
    let output = doctor(&[name(good.path()), "/nowhere", "/dev/null"]);
    assert_eq!(output.status.code(), Some(1));
    let document = document(&output);
    assert_eq!(document["paths"][0]["readable"], true);
    assert_eq!(document["paths"][0]["size_bytes"], 1 << 16);
    assert_eq!(document["paths"][1]["errno"], "ENOENT");
    assert_hint(&document, "/nowhere", &["no such file"]);
    assert_hint(&document, "/dev/null", &["neither a block device"]);
    assert_eq!(doctor(&[name(good.path())]).status.code(), Some(0));
    let refused = run(["doctor", "--timeout", "soon"]);
    assert_eq!(refused.status.code(), Some(3));
    assert_error_line(&refused, &["--timeout", "doctor --help"]);
}

#[test]
fn without_io_uring_doctor_shows_the_reason_and_the_next_choice() {
    let file = plain_file(1 << 16);
    let cases = [
        (libc::ENOSYS, "ENOSYS", "podman"),
        (libc::EPERM, "EPERM", "Docker"),
    ];
    for (errno, text, culprit) in cases {
        let output = filtered(&[(&IO_URING, errno)], &[name(file.path())]);
        let document = document(&output);
        assert_eq!(output.status.code(), Some(0), "{document}");
        assert_eq!(document["seccomp"], "filter");
        assert_eq!(document["io_uring"], Value::Null);
        assert_unavailable(&document, "io_uring", "io_uring_setup", text);
        assert_hint(&document, "io_uring", &["seccomp", culprit]);
        assert_eq!(document["backend"], "aio");
        assert_eq!(document["paths"][0]["readable"], true, "{document}");
    }
}

#[test]
fn without_slots_for_aio_doctor_names_the_sysctl() {
    let file = plain_file(1 << 16);
    let no_slots: (&[i64], i32) = (&[libc::SYS_io_setup], libc::EAGAIN);
    let document = document(&filtered(
        &[no_slots, (&IO_URING, libc::ENOSYS)],
        &[name(file.path())],
    ));
    assert_unavailable(&document, "io_uring", "io_uring_setup", "ENOSYS");
    assert_unavailable(&document, "aio", "io_setup", "EAGAIN");
    let max = document["limits"]["aio_max_nr"].to_string();
    let says = [
        "fs.aio-max-nr is",
        &max,
        "taken",
        "sysctl -w fs.aio-max-nr=",
    ];
    assert_hint(&document, "aio", &says);
    assert_eq!(document["backend"], "sync");
    assert_eq!(document["paths"][0]["readable"], true, "{document}");
}

#[test]
fn without_any_backend_doctor_still_shows_the_rest() {
    let file = plain_file(1 << 16);
    let all: (&[i64], i32) = (&[libc::SYS_eventfd2], libc::EPERM);
    let output = filtered(&[all], &[name(file.path())]);
    assert_eq!((output.status.code(), &*stderr(&output)), (Some(1), ""));
    let document = document(&output);
    assert_eq!(
        (&document["backend"], &document["io_uring"]),
        (&Value::Null, &Value::Null)
    );
    let path = &document["paths"][0];
    assert_fields(path, &PATH_FIELDS);
    assert_eq!(
        (&path["verdict"], &path["readable"]),
        (&"unknown".into(), &false.into())
    );
    assert_eq!(path["size_bytes"], 1 << 16, "that needs no read");
    let message = path["message"].as_str().expect("text");
    assert!(message.contains("eventfd: EPERM"), "{message}");
}

#[test]
fn without_locked_memory_doctor_falls_back_or_names_the_limit() {
    if !rustix::process::geteuid().is_root() {
        return report_skip("needs root to become somebody else");
    }
    let (_folder, binary) = public_binary();
    let output = Command::new("sh")
        .uid(NOBODY)
        .args(["-c", "ulimit -l 0; exec \"$0\" doctor --format json"])
        .arg(&binary)
        .output()
        .expect("runs");
    let document = document(&output);
    assert_eq!(output.status.code(), Some(0), "{document}");
    let limit = &document["limits"]["memlock_bytes"];
    assert_eq!((&limit["soft"], &limit["hard"]), (&0.into(), &0.into()));
    // Some kernels do not count rings against this limit.
    match document["io_uring"]["sq_entries"].as_u64() {
        Some(1024..) => {}
        Some(_) => assert_hint(&document, "RLIMIT_MEMLOCK", &["ulimit -l"]),
        None => {
            assert_unavailable(&document, "io_uring", "io_uring_setup", "ENOMEM");
            assert_hint(&document, "io_uring", &["RLIMIT_MEMLOCK", "ulimit -l"]);
            assert_eq!(document["backend"], "aio");
        }
    }
}

#[test]
fn doctor_ends_before_the_device_answers_with_every_backend() {
    require!();
    let (disks, files) = (rig(&Spec::loops(2)), rig(&Spec::files(1)));
    let no_ring: (&[i64], i32) = (&IO_URING, libc::ENOSYS);
    let no_aio: (&[i64], i32) = (&[libc::SYS_io_setup], libc::ENOSYS);
    let hangs = |disks: &Rig, disk: usize, backend: &str, answers: &[_]| {
        disks.set(disk, Behaviour::Hang).expect("set");
        // The caller waits for the end of the output and of the process.
        let output = filtered(answers, &[name(disks.disk(disk).path())]);
        let document = document(&output);
        assert_eq!(document["backend"], backend);
        assert_eq!(document["paths"][0]["verdict"], "timed_out", "{document}");
        assert_eq!(output.status.code(), Some(1), "{document}");
        disks.recover(disk).expect("released");
    };
    hangs(&disks, 0, "aio", &[no_ring]);
    hangs(&disks, 1, "sync", &[no_ring, no_aio]);
    if backend(&document(&doctor(&[])), "io_uring")["available"] == true {
        hangs(&files, 0, "io_uring", &[]);
    }
}

#[test]
fn a_closed_pipe_does_not_change_the_exit_status() {
    let good = plain_file(1 << 16);
    for format in ["table", "json"] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let output = pathpulse()
            .args(["doctor", "--format", format, name(good.path())])
            .stdout(writer)
            .output()
            .expect("runs");
        assert_eq!((output.status.code(), &*stderr(&output)), (Some(0), ""));
    }
}
