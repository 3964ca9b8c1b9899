//! The packaged unit: its exposure, and the daemon with its user, groups and filters.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use pathpulse_faultdisk::{Behaviour, Release, Spec, report_skip, require};
use rustix::process::Signal;
use seccompiler::{BpfProgram, apply_filter, compile_from_json};
use serde_json::json;

use super::common::{Daemon, backend, plain_file, public_binary, rig, root, stderr, stdout};
use super::web::Web;

/// The daemon's user, a user in `GROUP`, and a user outside of it; none of them exists.
const USER: u32 = 61_184;
const MEMBER: u32 = 61_185;
const STRANGER: u32 = 61_186;
/// The group of the socket.
const GROUP: u32 = 61_187;
/// System calls that change the user, which systemd makes before it applies the filter. Without
/// capabilities and with no-new-privs, they have no effect afterwards.
const BEFORE: [&str; 2] = ["@setuid", "capset"];

fn unit() -> PathBuf {
    root().join("packaging/systemd/pathpulse.service")
}

/// The values of a setting of the unit, in their order.
fn settings(name: &str) -> Vec<String> {
    let text = fs::read_to_string(unit()).expect("there");
    let lines = text.lines().filter_map(|line| line.strip_prefix(name));
    let values = lines.filter_map(|line| line.strip_prefix('='));
    values.map(str::to_owned).collect()
}

#[test]
fn the_exposure_of_the_unit_is_low() {
    let command = Command::new("systemd-analyze")
        .args(["security", "--offline=true", "--no-pager", "--threshold=20"])
        .arg(unit())
        .output();
    let Ok(output) = command else {
        return report_skip("needs systemd-analyze (Debian's package systemd)");
    };
    let said = stdout(&output);
    assert!(output.status.success(), "{said}{}", stderr(&output));
    assert!(said.contains("Overall exposure level"), "{said}");
}

#[test]
fn systemd_accepts_all_settings_of_the_unit() {
    let folder = tempfile::tempdir().expect("a folder");
    let copy = folder.path().join("pathpulse.service");
    let text = fs::read_to_string(unit()).expect("there");
    let installed = "/usr/bin/pathpulse";
    assert!(text.contains(installed), "{text}");
    let here = text.replace(installed, env!("CARGO_BIN_EXE_pathpulse"));
    fs::write(&copy, here).expect("written");
    let command = Command::new("systemd-analyze")
        .args(["verify", "--man=no"])
        .arg(&copy)
        .output();
    let Ok(output) = command else {
        return report_skip("needs systemd-analyze (Debian's package systemd)");
    };
    // It only warns about unknown settings, and may warn about other units.
    let said = stderr(&output);
    let ours = said.lines().find(|line| line.contains("pathpulse"));
    assert_eq!((output.status.code(), ours), (Some(0), None), "{said}");
}

#[test]
fn the_changelog_of_the_package_has_this_version() {
    let folder = root().join("packaging");
    let changelog = fs::read_to_string(folder.join("changelog")).expect("there");
    let version = concat!("pathpulse (", env!("CARGO_PKG_VERSION"), "-");
    assert!(changelog.starts_with(version), "{changelog}");
}

/// The system calls of a set such as `@aio`, or a single one.
fn expand(name: &str, into: &mut BTreeSet<String>) {
    if !name.starts_with('@') {
        into.insert(name.to_owned());
        return;
    }
    let output = Command::new("systemd-analyze")
        .args(["syscall-filter", "--no-pager", name])
        .output()
        .expect("it was there before");
    let text = stdout(&output);
    let members = text.lines().skip(1).map(str::trim);
    for member in members.filter(|member| !member.is_empty() && !member.starts_with('#')) {
        expand(member, into);
    }
}

/// The system calls that the unit's filter allows, and those of `BEFORE`.
fn allowed() -> BTreeSet<String> {
    let mut allowed = BTreeSet::new();
    for line in settings("SystemCallFilter") {
        let (names, denied) = match line.strip_prefix('~') {
            Some(names) => (names, true),
            None => (line.as_str(), false),
        };
        let mut calls = BTreeSet::new();
        for name in names.split(' ') {
            expand(name, &mut calls);
        }
        if denied {
            allowed.retain(|call| !calls.contains(call));
        } else {
            allowed.append(&mut calls);
        }
    }
    for name in BEFORE {
        expand(name, &mut allowed);
    }
    allowed
}

/// A filter that allows these, as far as this architecture has them, and answers EPERM to others.
fn filter(calls: &BTreeSet<String>) -> BpfProgram {
    let compile = |calls: &[&str]| {
        let rules: Vec<_> = calls.iter().map(|call| json!({"syscall": call})).collect();
        let text = json!({"all": {
            "mismatch_action": {"errno": libc::EPERM}, "match_action": "allow", "filter": rules
        }});
        let arch = std::env::consts::ARCH.try_into().expect("known to it");
        compile_from_json(text.to_string().as_bytes(), arch)
    };
    let known: Vec<&str> = calls
        .iter()
        .map(String::as_str)
        .filter(|call| compile(&[call]).is_ok())
        .collect();
    let mut programs = compile(&known).expect("a filter");
    programs.remove("all").expect("the one")
}

/// The ID of the group `disk`.
fn disk_group() -> u32 {
    let groups = fs::read_to_string("/etc/group").expect("there");
    let disk = groups.lines().find_map(|line| line.strip_prefix("disk:"));
    let number = disk.and_then(|line| line.split(':').nth(1));
    number.expect("Debian has it").parse().expect("a number")
}

#[test]
fn the_daemon_works_under_the_unit() {
    require!();
    if Command::new("systemd-analyze").output().is_err() {
        return report_skip("needs systemd-analyze (Debian's package systemd)");
    }
    for name in ["CapabilityBoundingSet", "AmbientCapabilities"] {
        assert_eq!(settings(name), [""], "as below");
    }
    assert_eq!(settings("SupplementaryGroups"), ["disk"], "as below");
    let disks = rig(&Spec::loops(2));
    let group = disk_group();
    for disk in disks.disks() {
        chown(disk.path(), Some(0), Some(group)).expect("root may");
        fs::set_permissions(disk.path(), Permissions::from_mode(0o640)).expect("root may");
    }
    let paths = [
        disks.disk(0).path().to_owned(),
        disks.disk(1).path().to_owned(),
    ];
    let folder = tempfile::tempdir().expect("a folder");
    chown(folder.path(), Some(USER), Some(USER)).expect("root may");
    let (_binary_folder, binary) = public_binary();
    let mut command = run_as(USER, &[group], &binary);
    command
        .env("STATE_DIRECTORY", folder.path())
        .env_remove("RUST_LOG");
    let filter = filter(&allowed());
    let own = folder.path().join("p.sock");
    let start = move || {
        apply_filter(&filter).expect("installed");
        Daemon::spawn_at(command, own, &paths, &["--http", "0"])
    };
    let mut daemon = thread::spawn(start).join().expect("no panic");
    daemon.wait_log(&format!("through {}", backend()));
    let web = Web::socket(&daemon);
    daemon.wait_log("2 paths are watched");
    daemon.wait_state(disks.disk(0).path(), "up");
    assert_is_nobody(daemon.pid(), &[group]);

    disks.set(1, Behaviour::Hang).expect("set");
    daemon.wait_state(disks.disk(1).path(), "down");
    assert_eq!(web.get("/healthz").status, 200);
    disks.set(1, Behaviour::Answer).expect("set");
    disks.release(1, Release::Data).expect("released");
    daemon.wait_state(disks.disk(1).path(), "up");
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.wait_end().0.code(), Some(0));
    let kept = fs::read_to_string(folder.path().join("events")).expect("kept");
    assert!(kept.lines().count() >= 4, "{kept}");
}

/// Runs the binary as a user with these groups and without any privilege.
fn run_as(user: u32, groups: &[u32], binary: &Path) -> Command {
    let groups: Vec<String> = groups.iter().map(u32::to_string).collect();
    let mut command = Command::new("setpriv");
    command
        .arg(format!("--reuid={user}"))
        .arg(format!("--regid={user}"))
        .arg(if groups.is_empty() {
            "--clear-groups".to_owned()
        } else {
            format!("--groups={}", groups.join(","))
        })
        .args([
            "--bounding-set=-all",
            "--inh-caps=-all",
            "--no-new-privs",
            "--",
        ])
        .arg(binary);
    command
}

/// The runtime directory as systemd makes it for the unit, in a directory that everybody can enter.
fn runtime_directory() -> (tempfile::TempDir, PathBuf) {
    let outer = tempfile::tempdir().expect("a folder");
    fs::set_permissions(outer.path(), Permissions::from_mode(0o755)).expect("ours");
    let folder = outer.path().join("pathpulse");
    fs::create_dir(&folder).expect("ours");
    let mode = &settings("RuntimeDirectoryMode")[0];
    let mode = u32::from_str_radix(mode, 8).expect("a mode");
    fs::set_permissions(&folder, Permissions::from_mode(mode)).expect("ours");
    chown(&folder, Some(USER), Some(USER)).expect("root may");
    (outer, folder)
}

#[test]
fn only_the_group_of_the_socket_can_query_the_daemon() {
    if Command::new("systemd-analyze").output().is_err() {
        return report_skip("needs systemd-analyze (Debian's package systemd)");
    }
    let file = plain_file(1 << 16);
    chown(file.path(), Some(USER), Some(USER)).expect("root may");
    let (_outer, folder) = runtime_directory();
    let config = folder.join("p.toml");
    let said = format!("[daemon]\nsocket_group = '{GROUP}'\n");
    fs::write(&config, said).expect("written");
    let (_binary_folder, binary) = public_binary();
    // As with SupplementaryGroups=.
    let mut command = run_as(USER, &[disk_group(), GROUP], &binary);
    command.env_remove("RUST_LOG");
    let filter = filter(&allowed());
    let socket = folder.join("p.sock");
    let paths = [file.path().to_owned()];
    let start = move || {
        apply_filter(&filter).expect("installed");
        let config = config.to_str().expect("text");
        Daemon::spawn_at(command, socket, &paths, &["--config", config])
    };
    let daemon = thread::spawn(start).join().expect("no panic");
    daemon.wait_log("paths are watched");
    assert_is_nobody(daemon.pid(), &[disk_group(), GROUP]);
    let socket = fs::metadata(&daemon.socket).expect("there");
    assert_eq!((socket.uid(), socket.gid()), (USER, GROUP));
    assert_eq!(socket.mode() & 0o777, 0o660);
    let lock = daemon.socket.with_extension("sock.lock");
    assert_eq!(fs::metadata(lock).expect("there").mode() & 0o777, 0o600);

    let status = |user: u32, groups: &[u32]| {
        let mut command = run_as(user, groups, &binary);
        command.args(["status", "--socket"]).arg(&daemon.socket);
        command.output().expect("runs")
    };
    let member = status(MEMBER, &[GROUP]);
    assert!(member.status.success(), "{}", stderr(&member));
    for groups in [&[][..], &[disk_group()], &[USER]] {
        // The last one is the daemon's own group, which is not the group of the socket.
        let stranger = status(STRANGER, groups);
        assert!(!stranger.status.success(), "{}", stdout(&stranger));
        let said = stderr(&stranger);
        assert!(
            said.contains("no access") && said.contains("in its group"),
            "{said}"
        );
    }
}

#[test]
fn purge_removes_the_daemons_files_and_remove_does_not() {
    let script = unit().with_file_name("postrm");
    let text = fs::read_to_string(&script).expect("there");
    assert!(
        text.contains("\n#DEBHELPER#\n"),
        "for cargo-deb's own lines"
    );
    let root = tempfile::tempdir().expect("a folder");
    let file = |folder: &str| root.path().join(folder).join("file");
    let folders = ["StateDirectory", "RuntimeDirectory"].map(|name| settings(name).remove(0));
    let ours = [
        file(&format!("var/lib/{}", folders[0])),
        file(&format!("run/{}", folders[1])),
    ];
    let others = [file("var/lib/pathpulse-other"), file("etc"), file("run")];
    for file in ours.iter().chain(&others) {
        fs::create_dir_all(file.parent().expect("a folder")).expect("made");
        fs::write(file, "").expect("written");
    }
    let run = |what: &str| {
        let mut command = Command::new("sh");
        command.arg("-e").arg(&script).arg(what);
        let status = command.env("DPKG_ROOT", root.path()).status();
        assert!(status.expect("runs").success(), "{what}");
    };
    for what in ["remove", "upgrade", "failed-upgrade", "abort-install"] {
        run(what);
        assert!(ours.iter().all(|file| file.exists()), "{what}");
    }
    // The second time, nothing is left to remove.
    for _ in 0..2 {
        run("purge");
        let left = |file: &PathBuf| file.parent().is_some_and(Path::exists);
        assert!(!ours.iter().any(left), "all of both folders");
        assert!(others.iter().all(|file| file.exists()), "nothing else");
    }
}

/// Fails unless the process has these groups, no other privilege, and a filter.
fn assert_is_nobody(pid: u32, groups: &[u32]) {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
    let of = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.expect("it is there").trim().to_owned()
    };
    assert!(of("Uid:").starts_with(&USER.to_string()), "{status}");
    let has: Vec<u32> = of("Groups:")
        .split_whitespace()
        .map(|group| group.parse().expect("a number"))
        .collect();
    assert_eq!(has, groups);
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
        assert_eq!(of(set), "0000000000000000", "{set}");
    }
    assert_eq!(
        (of("NoNewPrivs:"), of("Seccomp:")),
        ("1".into(), "2".into())
    );
}
