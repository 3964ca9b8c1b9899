//! Names that are no text, that hang, that are links, that lead elsewhere by now.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use pathpulse_faultdisk::{Behaviour, Spec, report_skip, require};
use serde_json::Value;

use super::common::{
    Daemon, PATIENCE, assert_complaint, pathpulse, plain_file, rig, run, stderr, stdout,
};
use super::web::Web;

/// A name is looked up for a second, and commands take no time to speak of besides.
const LOOK_UP: Duration = Duration::from_secs(10);

/// A folder whose file system answers nothing, not even what is in it: a FUSE server that never reads.
pub(crate) struct HungMount {
    server: Child,
    folder: tempfile::TempDir,
}

impl HungMount {
    pub(crate) fn start() -> HungMount {
        let folder = tempfile::tempdir().expect("a folder");
        let script = r#"exec 9<>/dev/fuse
            mount -i -t fuse -o fd=9,rootmode=40000,user_id=0,group_id=0 hung "$0" && exec sleep 600"#;
        let server = Command::new("sh")
            .args(["-c", script])
            .arg(folder.path())
            .spawn();
        let server = server.expect("starts");
        let begin = Instant::now();
        let name = folder.path().to_str().expect("text").to_owned();
        while !fs::read_to_string("/proc/self/mountinfo")
            .expect("readable")
            .contains(&name)
        {
            assert!(begin.elapsed() < PATIENCE, "not mounted");
            std::thread::sleep(Duration::from_millis(5));
        }
        HungMount { server, folder }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for HungMount {
    fn drop(&mut self) {
        // With the server goes the connection: whoever waits there hears of it.
        let _ = self.server.kill();
        let _ = self.server.wait();
        umount(self.folder.path());
    }
}

fn umount(folder: &Path) {
    let _ = Command::new("umount")
        .arg("-l")
        .arg(folder)
        .stderr(Stdio::null())
        .status();
}

/// A command to the daemon with a name that may be no text.
fn command(daemon: &Daemon, word: &str, name: &Path) -> Output {
    daemon.command(&[word]).arg(name).output().expect("runs")
}

fn documents(daemon: &Daemon) -> Vec<Value> {
    daemon.status()["paths"].as_array().expect("a list").clone()
}

fn names(daemon: &Daemon) -> Vec<String> {
    let all = documents(daemon);
    let names = all
        .iter()
        .map(|path| path["path"].as_str().expect("text").to_owned());
    names.collect()
}

/// Files whose names differ in what is no text only, and how they are shown.
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
fn names_that_are_no_text_are_told_apart_and_obeyed() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let files = odd_files(folder.path());
    let said = folder.path().join("said");
    let hook = folder.path().join("hook");
    fs::write(
        &hook,
        "#!/bin/sh\nprintf '%s\\0%s\\0' \"$PATHPULSE_PATH\" \"$PATHPULSE_PATH_TEXT\" >> \"$1\"\n",
    )
    .expect("written");
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).expect("set");
    let config = folder.path().join("p.toml");
    let text = format!("[[hook]]\nrun = [{hook:?}, {said:?}]\non = ['removed']\n");
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
        // In a label backslashes are doubled once more.
        assert!(
            metrics.contains(&format!("path=\"{}\"", text.replace('\\', r"\\"))),
            "{text}"
        );
        // One by its bytes, and one as it is shown.
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
    let mut told = Vec::new();
    while told.len() < expected {
        assert!(begin.elapsed() < PATIENCE, "{told:?}");
        told = fs::read(&said).unwrap_or_default();
    }
    for (path, text) in &files {
        let pair = [path.as_os_str().as_bytes(), text.as_bytes(), b""].join(&0);
        assert!(told.windows(pair.len()).any(|part| part == pair), "{text}");
    }
    // What is added by its bytes is that file; `check` shows it alike.
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
fn a_name_that_is_watched_is_that_path_and_none_other_wherever_it_leads() {
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
    // Another name is the path to the same device, if there is one.
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
    assert_complaint(&again, &["other", "not watched"]);
}

#[test]
fn a_device_is_watched_once_and_its_other_names_on_the_list_stand_beside_it() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let [first, second, third] = ["z", "b", "a"].map(|name| folder.path().join(name));
    fs::write(&first, vec![0xA5_u8; 1 << 16]).expect("written");
    fs::File::open(&first)
        .and_then(|file| file.sync_all())
        .expect("synced");
    symlink(&first, &second).expect("a link");
    fs::hard_link(&first, &third).expect("a hard link");
    let text = |path: &Path| path.to_str().expect("text").to_owned();
    // Whichever opens first, what was named first stands for it.
    let daemon = Daemon::spawn(&[&first, &second, &first], &[]);
    let counts = daemon.wait_log("paths are watched");
    assert!(counts.ends_with(" 1 paths are watched"), "{counts}");
    let all = documents(&daemon);
    assert_eq!(names(&daemon), [text(&first)]);
    assert_eq!(all[0]["also"], serde_json::json!([text(&second)]));
    let add = command(&daemon, "add", &third);
    assert_eq!(add.status.code(), Some(0));
    assert_complaint(&add, &[&text(&third), "the same device as", &text(&first)]);
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

    // All of them may be used for it; what is removed is the very name.
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
    assert_complaint(&remove, &["is watched as", &text(&second), "now"]);
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
fn a_name_on_a_file_system_that_hangs_holds_no_command_up() {
    require!();
    let file = plain_file(1 << 16);
    let hung = HungMount::start();
    let name = hung.path().join("canary");
    let daemon = Daemon::spawn(&[file.path(), &name], &[]);
    daemon.wait_log("pending -> up");
    daemon.wait_state(file.path(), "up");
    let begin = Instant::now();
    // It is on the list, and nobody looks where it leads.
    for word in ["status", "check-now"] {
        let said = command(&daemon, word, &name);
        assert!(said.status.success(), "{word}: {}", stderr(&said));
    }
    let pause = command(&daemon, "pause", &name);
    assert_complaint(&pause, &["canary", "not watched yet"]);
    let remove = command(&daemon, "remove", &name);
    assert!(remove.status.success(), "{}", stderr(&remove));
    assert_eq!(names(&daemon).len(), 1);
    // It is not, and that is said in time.
    for word in ["status", "remove", "pause", "check-now"] {
        let said = command(&daemon, word, &name);
        assert_eq!(said.status.code(), Some(1), "{word}");
        assert_complaint(&said, &["canary", "not watched", "does not answer"]);
    }
    assert!(begin.elapsed() < LOOK_UP, "{:?}", begin.elapsed());
    let web = Web::socket(&daemon);
    let livez = web.livez(&name, "300ms");
    assert_eq!(livez.status, 503, "{livez:?}");
    assert!(livez.body.contains("could not be looked up"), "{livez:?}");
    assert!(livez.took < LOOK_UP, "{livez:?}");
    // All others are answered meanwhile.
    assert_eq!(web.livez(file.path(), "300ms").status, 200);
    // To check it once takes no longer than its timeout says, and is no word about any device.
    let begin = Instant::now();
    let args = ["check", "--timeout", "300ms"].map(OsString::from);
    let check = run(args.into_iter().chain([name.into_os_string()]));
    assert!(begin.elapsed() < LOOK_UP, "{:?}", begin.elapsed());
    assert!(
        stdout(&check).contains("open did not return in time"),
        "{}",
        stdout(&check)
    );
}

#[test]
fn a_probe_hears_of_the_path_that_is_meant_and_of_one_that_waits() {
    require!();
    let disks = rig(&Spec::loops(1));
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let (link, missing) = (folder.path().join("link"), folder.path().join("missing"));
    symlink(disks.disk(0).path(), &link).expect("a link");
    let daemon = Daemon::spawn(&[disks.disk(0).path(), &missing], &[]);
    daemon.wait_log("pending -> up");
    daemon.wait_state(disks.disk(0).path(), "up");
    let web = Web::socket(&daemon);
    let waiting = web.livez(&missing, "1s");
    assert_eq!(waiting.status, 503, "{waiting:?}");
    assert!(
        waiting.body.contains("is not open: open: ENOENT"),
        "{waiting:?}"
    );
    let other = web.livez(&link, "1s");
    assert_eq!(other.status, 200, "{other:?}");
    let disk = disks.disk(0).path().to_str().expect("text");
    assert!(
        other
            .body
            .contains(&format!("link is {disk}, which answers")),
        "{other:?}"
    );
    assert_eq!(web.livez(&folder.path().join("nothing"), "1s").status, 404);
    disks.set(0, Behaviour::Hang).expect("set");
    let other = web.livez(&link, "300ms");
    assert_eq!(other.status, 503, "{other:?}");
    disks.recover(0).expect("recovers");
}

/// A file system on a disk, mounted until this is dropped.
pub(crate) struct Mounted(tempfile::TempDir);

impl Mounted {
    pub(crate) fn on(disk: &Path) -> Option<Mounted> {
        let folder = tempfile::tempdir().expect("a folder");
        let script = r#"mkfs.ext4 -q -F "$0" >/dev/null 2>&1 && mount "$0" "$1""#;
        let made = Command::new("sh")
            .args(["-c", script])
            .arg(disk)
            .arg(folder.path())
            .status();
        made.is_ok_and(|made| made.success())
            .then_some(Mounted(folder))
    }

    /// A file on it that was written.
    pub(crate) fn file(&self) -> PathBuf {
        let file = self.0.path().join("canary");
        fs::write(&file, vec![0xA5_u8; 1 << 16]).expect("written");
        fs::File::open(&file)
            .and_then(|file| file.sync_all())
            .expect("synced");
        file
    }

    /// Whether it is in nobody's use: it could be unmounted, and is mounted again.
    pub(crate) fn is_free(&self, disk: &Path) -> bool {
        let umount = Command::new("umount").arg(self.0.path()).output();
        let is_free = umount.expect("runs").status.success();
        if is_free {
            let mount = Command::new("mount").arg(disk).arg(self.0.path()).status();
            assert!(mount.expect("runs").success());
        }
        is_free
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        umount(self.0.path());
    }
}

#[test]
fn a_probe_of_a_folder_is_about_the_disk_below_it() {
    require!();
    let disks = rig(&Spec::loops(1));
    let disk = disks.disk(0).path();
    let Some(mounted) = Mounted::on(disk) else {
        return report_skip("needs mkfs.ext4 and the file system");
    };
    let data = mounted.0.path().join("data");
    fs::create_dir(&data).expect("a folder");
    rustix::fs::sync();
    let daemon = Daemon::start(&[disk], &[]);
    daemon.wait_state(disk, "up");
    let web = Web::socket(&daemon);
    for name in [mounted.0.path(), &data] {
        let answer = web.livez(name, "1s");
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    disks.set(0, Behaviour::Hang).expect("set");
    let answer = web.livez(&data, "300ms");
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(
        answer.body.contains(disk.to_str().expect("text")),
        "{answer:?}"
    );
    disks.recover(0).expect("recovers");
}

/// The threads of a daemon that open files, those included that collect what they opened.
fn opening_threads(daemon: &Daemon) -> usize {
    let tasks = fs::read_dir(format!("/proc/{}/task", daemon.pid())).expect("it runs");
    let names = tasks
        .flatten()
        .filter_map(|task| fs::read_to_string(task.path().join("comm")).ok());
    names
        .filter(|name| name.starts_with("pathpulse-open"))
        .count()
}

#[test]
fn an_open_that_hangs_costs_its_thread_once_however_often_it_is_asked_for() {
    require!();
    let file = plain_file(1 << 16);
    let hung = HungMount::start();
    let name = hung.path().join("canary");
    let daemon = Daemon::spawn(&[file.path(), &name], &[]);
    daemon.wait_log("pending -> up");
    let begin = Instant::now();
    while opening_threads(&daemon) == 0 {
        assert!(begin.elapsed() < PATIENCE, "nothing is opened");
    }
    // The one that hangs, the other that was there to begin with, and who waits for them.
    for _ in 0..4 {
        for word in ["remove", "add", "check-now"] {
            let said = command(&daemon, word, &name);
            assert!(said.status.success(), "{word}: {}", stderr(&said));
        }
        assert!(
            opening_threads(&daemon) <= 3,
            "{}",
            opening_threads(&daemon)
        );
    }
    // When it has returned, the name is opened for those who asked last.
    drop(hung);
    fs::create_dir_all(name.parent().expect("a folder")).expect("made");
    daemon.wait_log("open: ENO");
    assert_eq!(names(&daemon).len(), 2);
    let _ = fs::remove_dir(name.parent().expect("a folder"));
}

#[test]
fn a_name_without_a_slash_is_that_of_a_device_unless_it_is_of_something_here() {
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
    // What is here comes first.
    fs::write(here.path().join(short), vec![0xA5_u8; 1 << 16]).expect("written");
    let all = check(&[short]);
    assert_eq!(all[0]["path"], short, "{all}");
    assert!(act("add").status.success());
    daemon.wait_state(&here.path().join(short), "up");
}

#[test]
fn a_folder_stands_for_the_devices_below_it() {
    require!();
    let disks = rig(&Spec::loops(1));
    let disk = disks.disk(0).path();
    let Some(mounted) = Mounted::on(disk) else {
        return report_skip("no mkfs.ext4");
    };
    let folder = mounted.0.path().join("lost+found");
    let folder = folder.to_str().expect("text");
    let check = |names: &[&str]| {
        let output = run(["check", "--format", "json"].iter().chain(names));
        let document: Value = serde_json::from_slice(&output.stdout).expect("a document");
        (output.status.code(), document["paths"].clone())
    };
    let device = disk.to_str().expect("text");
    let (status, all) = check(&[folder, device]);
    assert_eq!(status, Some(0), "{all}");
    assert_eq!(all.as_array().map(Vec::len), Some(1), "{all}");
    assert_eq!(all[0]["path"], device);
    assert_eq!(all[0]["under"], serde_json::json!([folder]));
    disks.set(0, Behaviour::Fail(libc::EIO)).expect("set");
    let (status, all) = check(&[folder]);
    assert_eq!(
        (status, &all[0]["state"]),
        (Some(2), &"down".into()),
        "{all}"
    );
    disks.recover(0).expect("recovered");
    let table = run(["check", folder]);
    assert!(stdout(&table).contains("under /"), "{}", stdout(&table));
    let doctor = run(["doctor", "--format", "json", folder]);
    let doctor: Value = serde_json::from_slice(&doctor.stdout).expect("a document");
    assert_eq!(doctor["paths"][0]["under"], serde_json::json!([folder]));
    // What lies on no device says so.
    let (status, all) = check(&["/sys"]);
    assert_eq!(status, Some(3));
    let message = all[0]["message"].as_str().expect("text");
    assert!(
        message.contains("on sysfs") && message.contains("name a device"),
        "{message}"
    );
}
