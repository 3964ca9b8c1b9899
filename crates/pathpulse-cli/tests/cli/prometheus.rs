//! A real Prometheus scrapes a real daemon, with the packaged rules and dashboard.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use pathpulse_faultdisk::{Behaviour, Release, Spec, report_skip, require};
use serde_json::Value;

use super::common::{Daemon, PATIENCE, lines, next_with, rig, root};
use super::web::Web;

fn packaged(file: &str) -> PathBuf {
    let folder = root().join("packaging/prometheus");
    folder.join(file)
}

/// Prometheus with the packaged rules; it is killed when dropped.
struct Prometheus {
    child: Child,
    web: Web,
    _folder: tempfile::TempDir,
}

impl Prometheus {
    /// Starts one that scrapes this daemon; `None` if it is not installed.
    fn start(daemon: &Web) -> Option<Prometheus> {
        let Web::Tcp(address) = daemon else {
            panic!("Prometheus needs TCP")
        };
        let folder = tempfile::tempdir().expect("a folder");
        let config = folder.path().join("prometheus.yml");
        let rules = packaged("pathpulse-alerts.yml");
        let text = format!(
            "global: {{scrape_interval: 100ms, scrape_timeout: 100ms, evaluation_interval: 100ms}}\n\
            rule_files: [{rules:?}]\n\
            scrape_configs: [{{job_name: pathpulse, static_configs: [{{targets: ['{address}']}}]}}]\n"
        );
        std::fs::write(&config, text).expect("written");
        let mut child = Command::new("prometheus")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().display()))
            .arg("--web.listen-address=127.0.0.1:0")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .ok()?;
        let log = lines(child.stderr.take().expect("piped"));
        let line = next_with(&log, "msg=\"Listening on\"");
        let address = line.rsplit("address=").next().expect("an address");
        // Its log must be read, or a full pipe would block it.
        std::thread::spawn(move || log.iter().for_each(drop));
        let prometheus = Prometheus {
            child,
            web: Web::Tcp(address.trim().to_owned()),
            _folder: folder,
        };
        prometheus.wait_ready();
        Some(prometheus)
    }

    /// It can be ready before or after it logs that it listens.
    fn wait_ready(&self) {
        let begin = Instant::now();
        while self.web.get("/-/ready").status != 200 {
            assert!(begin.elapsed() < PATIENCE, "it does not get ready");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn api(&self, resource: &str) -> Value {
        let answer = self.web.get(&format!("/api/v1/{resource}"));
        let document = serde_json::from_str(&answer.body);
        document.unwrap_or_else(|error| panic!("{error}: {answer:?}"))
    }

    /// Queries until the answer is as wanted.
    fn wait(&self, resource: &str, is_right: impl Fn(&Value) -> bool) -> Value {
        let begin = Instant::now();
        loop {
            let document = self.api(resource);
            if is_right(&document["data"]) {
                return document["data"].clone();
            }
            assert!(begin.elapsed() < PATIENCE, "{resource}: {document}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until it has a sample of this, and no error of scraping.
    fn wait_scraped(&self) {
        let targets = self.wait("targets", |data| data["activeTargets"][0]["health"] == "up");
        assert_eq!(targets["activeTargets"][0]["lastError"], "");
        self.wait("query?query=pathpulse_paths", |data| {
            data["result"][0]["value"][1] == "2"
        });
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The firing alerts about a path, or without a path.
fn firing<'a>(data: &'a Value, path: Option<&str>) -> Vec<&'a str> {
    let alerts = data["alerts"].as_array().into_iter().flatten();
    alerts
        .filter(|alert| alert["state"] == "firing")
        .map(|alert| &alert["labels"])
        .filter(|labels| labels["path"].as_str() == path)
        .filter_map(|labels| labels["alertname"].as_str())
        .collect()
}

#[test]
fn a_rule_fires_when_a_disk_hangs_and_resolves_when_it_answers() {
    require!();
    let disks = rig(&Spec::loops(2));
    let paths = [disks.disk(0).path(), disks.disk(1).path()];
    let missing = Path::new("/nowhere/at/all");
    let daemon = Daemon::spawn(&[paths[0], paths[1], missing], &["--http", "0"]);
    let web = Web::tcp(&daemon);
    for path in paths {
        daemon.wait_log("-> up");
        daemon.wait_state(path, "up");
    }
    let Some(prometheus) = Prometheus::start(&web) else {
        return report_skip("needs prometheus (Debian's package prometheus)");
    };
    prometheus.wait_scraped();
    let [sick, healthy] = paths.map(|path| path.to_str().expect("text"));
    assert_eq!(
        firing(&prometheus.api("alerts")["data"], Some(sick)),
        [""; 0]
    );

    disks.set(0, Behaviour::Hang).expect("set");
    prometheus.wait("alerts", |data| {
        firing(data, Some(sick)) == ["PathpulsePathDown"]
    });
    assert_eq!(
        firing(&prometheus.api("alerts")["data"], Some(healthy)),
        [""; 0]
    );

    disks.set(0, Behaviour::Answer).expect("set");
    disks.release(0, Release::Data).expect("released");
    prometheus.wait("alerts", |data| firing(data, Some(sick)).is_empty());
    let rules = prometheus.api("rules");
    let rules = rules["data"]["groups"][0]["rules"].as_array();
    for rule in rules.expect("a list") {
        assert_eq!(rule["health"], "ok", "{rule}");
    }
    let waiting = "query?query=pathpulse_path_waiting_seconds";
    let waiting = prometheus.api(waiting)["data"]["result"].take();
    let waiting = waiting.as_array().expect("a list");
    assert_eq!(waiting.len(), 1, "{waiting:?}");
    assert_eq!(waiting[0]["metric"]["path"], "/nowhere/at/all");
    ask_all_of_the_dashboard(&prometheus);
}

/// Runs the queries of the dashboard: each is valid, and its metrics exist.
fn ask_all_of_the_dashboard(prometheus: &Prometheus) {
    let text = std::fs::read(packaged("pathpulse-dashboard.json")).expect("there");
    let dashboard: Value = serde_json::from_slice(&text).expect("JSON");
    let known = prometheus.api("label/__name__/values");
    let known: Vec<&str> = known["data"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    let panels = dashboard["panels"].as_array().expect("a list");
    let targets = panels.iter().flat_map(|panel| {
        let targets = panel["targets"].as_array().expect("a list");
        assert!(!targets.is_empty(), "{panel}");
        targets
    });
    for target in targets {
        let asked = target["expr"].as_str().expect("text");
        let asked = asked
            .replace("$job", "pathpulse")
            .replace("$instance", ".*")
            .replace("$__rate_interval", "1m");
        let is_of_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let words = asked.split(|c| !is_of_name(c));
        for name in words.filter(|word| word.starts_with("pathpulse_")) {
            assert!(known.contains(&name), "{name} of {asked} is not known");
        }
        let query: String = asked.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let answer = prometheus.api(&format!("query?query={query}"));
        assert_eq!(answer["status"], "success", "{asked}: {answer}");
    }
}

#[test]
fn the_packaged_rules_pass_their_own_tests() {
    for (command, file) in [
        (["check", "rules"], "pathpulse-alerts.yml"),
        (["test", "rules"], "pathpulse-alerts.test.yml"),
    ] {
        let Ok(output) = Command::new("promtool")
            .args(command)
            .arg(packaged(file))
            .output()
        else {
            return report_skip("needs promtool (Debian's package prometheus)");
        };
        let said = String::from_utf8_lossy(&output.stderr);
        let more = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{said}{more}");
    }
}
