//! `pathpulse demo`.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use pathpulse_faultdisk::require;

use super::common::{lines, next_with, pathpulse, public_binary, run, stderr, stdout};

/// Loop devices that the demo left behind.
fn loop_devices_of(text: &str) -> Vec<PathBuf> {
    let names = text.split_whitespace().filter(|word| {
        word.strip_prefix("loop")
            .is_some_and(|rest| rest.parse::<u32>().is_ok())
    });
    let backing = names.map(|name| PathBuf::from(format!("/sys/block/{name}/loop/backing_file")));
    backing.filter(|file| file.exists()).collect()
}

#[test]
fn all_faults_are_shown_and_nothing_is_left_behind() {
    require!();
    let output = run(["demo", "--seconds", "8"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let text = stdout(&output);
    let last = text.rsplit("pathpulse ").next().expect("a screen");
    let row = |role: &str| {
        let row = last.lines().find(|line| line.starts_with(role));
        row.unwrap_or_else(|| panic!("no {role}: {last}"))
    };
    assert!(row("healthy").contains(" up "), "{last}");
    assert!(
        row("slow").contains(" up ") && row("slow").contains("ms"),
        "{last}"
    );
    assert!(
        row("failing").contains(" down ") && row("failing").contains("io_error"),
        "{last}"
    );
    assert!(
        row("hanging").contains(" down ") && row("hanging").contains("stuck"),
        "{last}"
    );
    assert!(row("saturated").contains("saturated"), "{last}");
    assert!(row("recovering").contains(" up "), "{last}");
    assert!(text.contains("flapping    up -> down"), "{text}");
    assert!(text.contains("recovering  down -> up"), "{text}");
    assert_eq!(loop_devices_of(&text), Vec::<PathBuf>::new());
}

#[test]
fn ctrl_c_removes_all_devices() {
    require!();
    let mut demo = pathpulse()
        .args(["demo", "--seconds", "600"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts");
    let screen = lines(demo.stdout.take().expect("piped"));
    let healthy = next_with(&screen, "healthy ");
    let pid = rustix::process::Pid::from_child(&demo);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("it is there");
    assert!(demo.wait().expect("ends").success());
    assert_eq!(loop_devices_of(&healthy), Vec::<PathBuf>::new());
}

#[test]
fn without_root_the_demo_checks_plain_files() {
    let (_folder, binary) = public_binary();
    let mut command = Command::new(&binary);
    if rustix::process::geteuid().is_root() {
        command.uid(65_534);
    }
    let output = command
        .args(["demo", "--seconds", "5"])
        .output()
        .expect("runs");
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stderr(&output).contains("root") && stderr(&output).contains("temporary files"));
    let text = stdout(&output);
    assert!(
        text.contains("plain file") && text.contains(" up "),
        "{text}"
    );
}
