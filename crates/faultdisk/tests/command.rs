//! `faultdisk up`, as a user runs it.

mod common;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use common::{BLOCK, EIO, open, read, read_errno};
use pathpulse_faultdisk::require;

const FAULTDISK: &str = env!("CARGO_BIN_EXE_faultdisk");

#[test]
fn up_prints_disks_executes_commands_and_removes_the_disks() {
    require!();
    let mut command = Command::new(FAULTDISK);
    command.args(["up", "--disks", "2", "--size", "1", "--block", "4096"]);
    let mut faultdisk = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("start it");
    let mut input = faultdisk.stdin.take().expect("a pipe");
    let mut lines = BufReader::new(faultdisk.stdout.take().expect("a pipe"))
        .lines()
        .map(|line| line.expect("text"));
    let names = [0, 1].map(|i| {
        lines
            .next()
            .expect("a disk")
            .strip_prefix(&format!("{i} "))
            .expect("a name")
            .to_string()
    });
    let files = names.each_ref().map(|name| open(Path::new(name)));
    assert!(lines.next().expect("a hint").contains("help"));

    let mut send = |command: &str| {
        writeln!(input, "{command}").expect("it reads");
        lines.next().expect("an answer")
    };
    assert_eq!(send("fail 1 EIO"), "ok");
    assert_eq!(read(&files[0], 255).expect("read").len(), BLOCK);
    assert_eq!(read_errno(&files[1]), Some(EIO));
    assert_eq!(send("nth 1 2 fail 5"), "ok");
    read(&files[1], 0).expect("the first");
    assert_eq!(read_errno(&files[1]), Some(EIO));
    assert!(send("counts 1").contains("failed: 2"));
    assert_eq!(send("release 0"), "released 0");
    assert!(send("fail 1 ENONSENSE").starts_with("error: "));
    assert!(send("hang 2").starts_with("error: there is no disk 2"));

    drop(files);
    drop(input);
    assert!(faultdisk.wait().expect("it ends").success());
    assert!(common::eventually(|| names
        .iter()
        .all(|name| !Path::new(name).exists())));
}

#[test]
fn help_is_printed_and_unknown_arguments_are_refused() {
    let help = Command::new(FAULTDISK)
        .arg("--help")
        .output()
        .expect("run it");
    assert!(
        help.status.success() && String::from_utf8_lossy(&help.stdout).contains("faultdisk up")
    );
    for args in [&["down"][..], &["up", "--disks", "many"]] {
        let refused = Command::new(FAULTDISK).args(args).output().expect("run it");
        assert!(!refused.status.success() && !refused.stderr.is_empty());
    }
}
