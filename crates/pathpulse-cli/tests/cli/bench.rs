//! `pathpulse bench`.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use pathpulse_faultdisk::{Behaviour, Spec, report_skip, require};
use rustix::process::Signal;
use serde_json::Value;

use super::common::{PATIENCE, assert_error_line, pathpulse, rig, run, stderr, stdout};

const EIO: i32 = 5;

/// All contenders, except those of packages that may not be installed.
const OURS: [&str; 9] = [
    "pathpulse-io_uring",
    "pathpulse-unlinked",
    "pathpulse-aio",
    "pathpulse-sync",
    "lean-io_uring",
    "aio-per-path",
    "aio-group",
    "aio-thread",
    "sync",
];

const FIELDS: [&str; 8] = [
    "checks_per_s",
    "cpu_ns_per_check",
    "sweep_ms_p50",
    "sweep_ms_p99",
    "setup_ms",
    "teardown_ms",
    "teardown_stuck_ms",
    "syscalls_per_check",
];

fn bench(args: &[&str]) -> Value {
    let fixed = ["bench", "--rounds", "1", "--format", "json"];
    let output = run(fixed.iter().chain(args));
    assert!(output.status.success(), "{}", stderr(&output));
    serde_json::from_str(&stdout(&output)).expect("a document")
}

fn rows(report: &Value) -> Vec<&Value> {
    report["contenders"]
        .as_array()
        .expect("a list")
        .iter()
        .collect()
}

/// Fails unless every field is a number above 0, or null with a reason.
fn assert_complete(row: &Value) {
    for field in FIELDS {
        let figure = row
            .get(field)
            .unwrap_or_else(|| panic!("no {field}: {row}"));
        match figure.as_f64() {
            Some(figure) => assert!(figure > 0.0, "{field}: {row}"),
            None => assert!(row["reasons"][field].is_string(), "{field}: {row}"),
        }
    }
}

#[test]
fn contenders_are_compared_over_loop_devices() {
    require!();
    let report = bench(&[
        "--paths",
        "4",
        "--only",
        "pathpulse-io_uring,aio-group,lean-io_uring",
    ]);
    assert_eq!(report["paths"], 4);
    assert!(report["device"].as_str().expect("text").contains("4 loop"));
    let rows = rows(&report);
    let names: Vec<&Value> = rows.iter().map(|row| &row["name"]).collect();
    assert_eq!(names, ["pathpulse-io_uring", "lean-io_uring", "aio-group"]);
    for row in &rows {
        assert_complete(row);
        assert_eq!(row["bad_paths"], 0, "{row}");
        assert!(row["cpu_ns_per_check"].is_number(), "{row}");
    }
    // The aim of the one, and the weakness of the other.
    assert!(rows[0]["teardown_stuck_ms"].is_number(), "{}", rows[0]);
    let reason = rows[2]["reasons"]["teardown_stuck_ms"].as_str();
    assert!(reason.expect("it waits").starts_with("> "), "{}", rows[2]);
}

#[test]
fn each_contender_counts_a_disk_that_fails_as_bad() {
    require!();
    let rig = rig(&Spec::loops(3));
    rig.set(1, Behaviour::Fail(EIO)).expect("set");
    let mut devices = rig.disks().iter().map(|disk| disk.path().to_str());
    let mut args: Vec<&str> = devices.by_ref().map(|path| path.expect("text")).collect();
    let mut only = OURS.to_vec();
    if Path::new("/lib/multipath/libcheckdirectio.so").exists() {
        only.push("libcheckdirectio");
    } else {
        report_skip("libcheckdirectio: multipath-tools is not installed");
    }
    let names = only.join(",");
    args.extend(["--paths", "6", "--only", &names]);
    let report = bench(&args);
    for row in rows(&report) {
        assert_complete(row);
        assert_eq!(row["bad_paths"], 2, "{row}");
        // A benchmark does not make given devices hang.
        assert!(row["reasons"]["teardown_stuck_ms"].is_string(), "{row}");
    }
    assert_eq!(rows(&report).len(), only.len());
}

#[test]
fn the_table_shows_all_measurements() {
    require!();
    let output = run([
        "bench",
        "--paths",
        "2",
        "--rounds",
        "1",
        "--only",
        "sync,aio-thread",
    ]);
    assert!(output.status.success(), "{}", stderr(&output));
    let text = stdout(&output);
    for part in ["contender", "CPU ns", "stuck", "aio-thread", "> 4000"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn wrong_arguments_are_refused_in_one_line() {
    let unknown = run(["bench", "--only", "aio-group,tur"]);
    assert_eq!(unknown.status.code(), Some(3));
    assert_error_line(&unknown, &["tur", "aio-per-path"]);
    let missing = run(["bench", "/dev/there-is-none"]);
    assert_eq!(missing.status.code(), Some(3));
    assert_error_line(&missing, &["/dev/there-is-none", "O_DIRECT"]);
    let nothing = run(["bench", "--paths", "0"]);
    assert_eq!(nothing.status.code(), Some(3));
    assert_error_line(&nothing, &["--paths"]);
}

/// The loop devices of a process.
fn devices_of(pid: u32) -> Vec<PathBuf> {
    let mark = format!("pathpulse-plain-{pid}-");
    let all = std::fs::read_dir("/sys/block").expect("sysfs").flatten();
    all.map(|device| device.path())
        .filter(|device| {
            std::fs::read_to_string(device.join("loop/backing_file"))
                .is_ok_and(|file| file.contains(&mark))
        })
        .collect()
}

#[test]
fn a_signal_ends_the_benchmark_and_removes_its_devices() {
    require!();
    let mut bench = pathpulse()
        .args([
            "bench", "--paths", "2", "--rounds", "1000", "--only", "sync",
        ])
        .stdout(Stdio::null())
        .spawn()
        .expect("starts");
    let begin = Instant::now();
    let devices = loop {
        let devices = devices_of(bench.id());
        if devices.len() == 2 {
            break devices;
        }
        assert!(begin.elapsed() < PATIENCE, "{devices:?}");
        thread::sleep(Duration::from_millis(1));
    };
    let pid = rustix::process::Pid::from_child(&bench);
    rustix::process::kill_process(pid, Signal::TERM).expect("it is there");
    assert_eq!(bench.wait().expect("ends").code(), Some(3));
    let left: Vec<_> = devices.iter().filter(|device| device.exists()).collect();
    assert!(left.is_empty(), "{left:?}");
}
