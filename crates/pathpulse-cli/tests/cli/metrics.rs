//! `/metrics`, and the TCP address that serves it.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use pathpulse_faultdisk::{Behaviour, Release, Spec, report_skip, require};

use super::common::{Daemon, PATIENCE, backend, plain_file, rig, root};
use super::web::Web;

const OPEN_METRICS: &str = "Accept: application/openmetrics-text;version=1.0.0\r\n";
/// Numbers of series that `docs/METRICS.md` promises.
const SERIES_PER_PATH: usize = 27;
/// Series of a group, a worker and the daemon.
const OTHER_SERIES: usize = 22 + 7 + 22;
/// Series of a path that is not open yet.
const SERIES_PER_WAITING_PATH: usize = 1;

/// The value of one series.
pub(crate) fn value(text: &str, series: &str) -> f64 {
    let line = text.lines().find_map(|line| {
        let value = line.strip_prefix(series)?.strip_prefix(' ')?;
        value.parse().ok()
    });
    line.unwrap_or_else(|| panic!("no {series} in {text}"))
}

fn samples(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| !line.starts_with('#'))
}

#[test]
fn the_metrics_show_a_hanging_disk() {
    require!();
    let disks = rig(&Spec::loops(2));
    let paths = [disks.disk(0).path(), disks.disk(1).path()];
    let daemon = Daemon::start(&paths, &[]);
    let web = Web::socket(&daemon);
    let of = |name: &str, disk: usize, more: &str| {
        let path = paths[disk].display();
        format!(r#"pathpulse_{name}{{path="{path}"{more}}}"#)
    };
    for path in paths {
        daemon.wait_state(path, "up");
    }
    let before = web.get("/metrics").body;
    assert_eq!(
        value(&before, &of("path_state", 0, r#",group="",state="up""#)),
        1.0
    );
    assert_eq!(
        value(&before, &of("path_state", 0, r#",group="",state="down""#)),
        0.0
    );
    assert!(value(&before, &of("checks_total", 0, r#",verdict="good""#)) > 0.0);
    assert!(
        value(
            &before,
            &of("last_latency_seconds", 0, "").replace("last", "path_last")
        ) > 0.0
    );
    // The disk's name in /proc/diskstats, which is also a label of node_exporter.
    let name = paths[0].file_name().expect("a name").to_string_lossy();
    let none =
        r#"map="",wwid="",hctl="",vendor="",model="",transport="",adapter="",target_port="""#;
    let details = format!(r#",device="{name}",{none}"#);
    assert_eq!(value(&before, &of("path_info", 0, &details)), 1.0);
    assert_eq!(value(&before, "pathpulse_stuck_reads"), 0.0);
    assert_eq!(value(&before, "pathpulse_backend_fallback"), 0.0);
    let info = format!(
        r#"pathpulse_backend_info{{worker="0",backend="{}"}}"#,
        backend()
    );
    assert_eq!(value(&before, &info), 1.0);

    disks.set(0, Behaviour::Hang).expect("set");
    daemon.wait_state(paths[0], "down");
    // A worker publishes its reads in flight at the end of a tick, but states at once.
    let begin = Instant::now();
    let down = loop {
        let down = web.get("/metrics").body;
        if value(&down, "pathpulse_stuck_reads") == 1.0 {
            break down;
        }
        assert!(begin.elapsed() < PATIENCE, "one read is stuck: {down}");
    };
    assert_eq!(
        value(&down, &of("path_state", 0, r#",group="",state="down""#)),
        1.0
    );
    assert_eq!(
        value(&down, &of("path_state", 1, r#",group="",state="up""#)),
        1.0
    );
    assert!(value(&down, &of("path_stuck_seconds", 0, "")) > 0.0);
    assert_eq!(value(&down, &of("path_stuck_seconds", 1, "")), 0.0);
    // The deadline is 300 ms after the start of the read.
    assert!(value(&down, "pathpulse_oldest_read_in_flight_seconds") > 0.3);
    assert!(value(&down, &of("checks_total", 0, r#",verdict="timed_out""#)) > 0.0);

    disks.set(0, Behaviour::Answer).expect("set");
    disks.release(0, Release::Data).expect("released");
    daemon.wait_state(paths[0], "up");
    let after = web.get("/metrics").body;
    let changes = value(&after, &of("path_transitions_total", 0, ""));
    assert_eq!(changes, 3.0, "to up, down, up");
    assert_eq!(
        value(&after, r#"pathpulse_reads_total{outcome="stuck"}"#),
        1.0
    );
    assert_eq!(
        value(&after, r#"pathpulse_reads_total{outcome="late"}"#),
        1.0
    );
    assert_eq!(value(&after, &of("path_unanswered_seconds", 0, "")), 0.0);
    // Both paths are without a group, and so in the same histogram.
    let good = |disk| value(&after, &of("checks_total", disk, r#",verdict="good""#));
    let all = value(&after, r#"pathpulse_latency_seconds_count{group=""}"#);
    let inf = value(
        &after,
        r#"pathpulse_latency_seconds_bucket{le="+Inf",group=""}"#,
    );
    assert_eq!(all, inf);
    assert!(all >= 2.0 && (all - good(0) - good(1)).abs() < 5.0, "{all}");
    assert_eq!(value(&after, "pathpulse_stuck_reads"), 0.0);
}

#[test]
fn both_formats_have_their_content_type_and_syntax() {
    let file = plain_file(1 << 16);
    let daemon = Daemon::start(&[&file], &[]);
    daemon.wait_state(file.path(), "up");
    let web = Web::socket(&daemon);
    let open = web.ask("GET", "/metrics", OPEN_METRICS);
    assert!(
        open.head
            .contains("application/openmetrics-text; version=1.0.0"),
        "{}",
        open.head
    );
    assert!(open.body.ends_with("# EOF\n"), "{}", open.body);
    let plain = web.get("/metrics");
    assert!(
        plain.head.contains("text/plain; version=0.0.4"),
        "{}",
        plain.head
    );
    let Ok(mut promtool) = Command::new("promtool")
        .args(["check", "metrics", "--extended"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
    else {
        return report_skip("needs promtool (Debian's package prometheus)");
    };
    let mut stdin = promtool.stdin.take().expect("piped");
    stdin.write_all(plain.body.as_bytes()).expect("read");
    drop(stdin);
    let output = promtool.wait_with_output().expect("ends");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{said}");
}

#[test]
fn every_metric_is_documented_and_numbers_of_series_are_kept() {
    let files = [plain_file(1 << 16), plain_file(1 << 16)];
    let missing = Path::new("/nowhere/at/all");
    let metrics = |files: &[tempfile::NamedTempFile]| {
        let names = files.iter().map(tempfile::NamedTempFile::path);
        let names: Vec<&Path> = names.chain([missing]).collect();
        let daemon = Daemon::start(&names, &[]);
        for file in files {
            daemon.wait_state(file.path(), "up");
        }
        Web::socket(&daemon).get("/metrics").body
    };
    let two = metrics(&files);
    let one = metrics(&files[..1]);
    let per_path = samples(&two).count() - samples(&one).count();
    assert_eq!(per_path, SERIES_PER_PATH, "{two}");
    assert_eq!(
        samples(&one).count(),
        SERIES_PER_PATH + OTHER_SERIES + SERIES_PER_WAITING_PATH,
        "{one}"
    );
    let document = root().join("docs/METRICS.md");
    let document = fs::read_to_string(document).expect("there");
    assert!(document.contains(&format!("**{SERIES_PER_PATH} series for each path**")));
    let told: BTreeSet<&str> = samples(&two)
        .filter_map(|line| line.split(['{', ' ']).next())
        .map(|name| {
            name.strip_prefix("pathpulse_latency_seconds")
                .map_or(name, |_| "pathpulse_latency_seconds")
        })
        .collect();
    for name in &told {
        assert!(
            document.contains(&format!("`{name}`")),
            "{name} is not documented"
        );
    }
    let documented = document.split('`').skip(1).step_by(2);
    for name in documented.filter(|word| word.starts_with("pathpulse_") && !word.contains('{')) {
        assert!(
            told.contains(name),
            "{name} is documented, and is not there"
        );
    }
}

#[test]
fn a_path_that_is_not_open_has_metrics_until_it_opens() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let late = folder.path().join("late");
    let config = folder.path().join("p.toml");
    let text = format!("[[path]]\nname = {late:?}\ngroup = 'mine'\n");
    fs::write(&config, text).expect("written");
    let there = plain_file(1 << 16);
    let config = config.to_str().expect("text");
    let daemon = Daemon::start(&[&there], &["--config", config]);
    let web = Web::socket(&daemon);
    let series = format!(
        r#"pathpulse_path_waiting_seconds{{path="{}",group="mine"}}"#,
        late.display()
    );
    let before = web.get("/metrics").body;
    let waited = value(&before, &series);
    assert!(waited > 0.0, "{before}");
    assert!(value(&web.get("/metrics").body, &series) > waited);
    assert_eq!(value(&before, "pathpulse_paths_waiting"), 1.0);
    assert_eq!(value(&before, "pathpulse_paths"), 1.0);

    plain_file(1 << 16).persist(&late).expect("renamed");
    let name = late.to_str().expect("text");
    assert!(daemon.run(&["check-now", name]).status.success());
    daemon.wait_state(&late, "up");
    let after = web.get("/metrics").body;
    assert!(!after.contains("path_waiting_seconds{"), "{after}");
    assert_eq!(value(&after, "pathpulse_paths_waiting"), 0.0);
    assert_eq!(value(&after, "pathpulse_paths"), 2.0);
}

#[test]
fn clients_and_refused_clients_are_counted() {
    let file = plain_file(1 << 16);
    let daemon = Daemon::spawn(&[&file], &["--http", "0"]);
    let web = Web::tcp(&daemon);
    let dropped = |reason: &str| {
        let series = format!(r#"pathpulse_clients_dropped_total{{reason="{reason}"}}"#);
        value(&web.get("/metrics").body, &series)
    };
    assert_eq!((dropped("no_room"), dropped("too_slow")), (0.0, 0.0));
    let crowd: Vec<UnixStream> = (0..260)
        .map(|_| UnixStream::connect(&daemon.socket).expect("connects"))
        .collect();
    let begin = Instant::now();
    while dropped("no_room") < 4.0 {
        assert!(begin.elapsed() < PATIENCE, "260 came, and 4 have no room");
    }
    drop(crowd);
    assert_eq!(dropped("no_room"), 4.0);
    // The client of this request counts as one.
    while value(&web.get("/metrics").body, "pathpulse_clients") != 1.0 {
        assert!(begin.elapsed() < PATIENCE, "they left");
    }
}

#[test]
fn over_tcp_everything_is_read_only() {
    let file = plain_file(1 << 16);
    let daemon = Daemon::spawn(&[&file], &["--http", "0"]);
    let line = daemon.wait_log("http://");
    assert!(line.contains("http://127.0.0.1:"), "{line}");
    let web = Web::of_log(&line);
    daemon.wait_log("paths are watched");
    for target in [
        "/v1/status",
        "/v1/paths",
        "/v1/events",
        "/metrics",
        "/healthz",
    ] {
        assert_eq!(web.get(target).status, 200, "{target}");
    }
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "STOP"] {
        for target in ["/v1/stop", "/v1/status", "/nowhere"] {
            let answer = web.ask(method, target, "");
            assert_eq!(answer.status, 405, "{method} {target}: {answer:?}");
            assert!(
                answer.head.to_lowercase().contains("allow: get, head"),
                "{answer:?}"
            );
        }
    }
    assert_eq!(web.get("/v1/stop").status, 405);
    daemon.wait_state(file.path(), "up");
}

#[test]
fn an_address_in_use_is_reported() {
    let file = plain_file(1 << 16);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
    let address = taken.local_addr().expect("bound").to_string();
    let mut daemon = Daemon::spawn(&[&file], &["--http", &address]);
    let line = daemon.wait_log(&address);
    assert!(
        line.contains("--http") && line.contains("name another"),
        "{line}"
    );
    assert_eq!(daemon.wait_end().0.code(), Some(1));
}
