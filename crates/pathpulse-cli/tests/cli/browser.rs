//! A headless Chromium, controlled with the WebDriver protocol.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::common::{PATIENCE, lines, next_with};
use super::web::Web;

/// Time between two evaluations of an expression.
const PAUSE: Duration = Duration::from_millis(20);

/// A browser with one page; it ends when dropped.
pub(crate) struct Browser {
    driver: Child,
    web: Web,
    session: String,
    profile: tempfile::TempDir,
}

impl Browser {
    /// Starts a browser.
    ///
    /// # Errors
    /// A program is not installed.
    pub(crate) fn start() -> Result<Browser, String> {
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("chromedriver: {error}"))?;
        let log = lines(driver.stdout.take().expect("piped"));
        let line = next_with(&log, "successfully on port ");
        let port = line.rsplit("port ").next().expect("a port");
        let web = Web::Tcp(format!("127.0.0.1:{}", port.trim_end_matches('.')));
        let mut browser = Browser {
            driver,
            web,
            session: String::new(),
            profile: tempfile::tempdir().expect("a folder"),
        };
        let profile = format!("--user-data-dir={}", browser.profile.path().display());
        let arguments = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-dev-shm-usage",
            "--window-size=1280,900",
            &profile,
        ];
        let capabilities = json!({"capabilities": {"alwaysMatch": {
            "goog:chromeOptions": {"args": arguments},
            "goog:loggingPrefs": {"browser": "ALL"},
        }}});
        let session = browser.order("/session", &capabilities)?;
        let id = session["sessionId"].as_str().expect("an id");
        browser.session = format!("/session/{id}");
        Ok(browser)
    }

    pub(crate) fn open(&self, address: &str) {
        self.tell("url", &json!({"url": address}));
    }

    /// Sets the size of the page in pixels.
    pub(crate) fn resize(&self, width: u32, height: u32) {
        let screen =
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        let order = json!({"cmd": "Emulation.setDeviceMetricsOverride", "params": screen});
        self.tell("goog/cdp/execute", &order);
    }

    /// Runs a script in the page, and returns its result.
    pub(crate) fn script(&self, script: &str) -> Value {
        self.tell("execute/sync", &json!({"script": script, "args": []}))
    }

    /// Waits until an expression is true in the page.
    pub(crate) fn wait(&self, expression: &str) {
        let begin = Instant::now();
        while self.script(&format!("return Boolean({expression})")) != true {
            if begin.elapsed() > PATIENCE {
                let text = self.script("return document.body.innerText");
                panic!("{expression}: {}", text.as_str().unwrap_or_default());
            }
            thread::sleep(PAUSE);
        }
    }

    /// Errors of the page, such as violations of its content policy.
    pub(crate) fn complaints(&self) -> Vec<String> {
        let log = self.tell("se/log", &json!({"type": "browser"}));
        let entries = log.as_array().expect("a list").iter();
        entries.map(|entry| entry["message"].to_string()).collect()
    }

    /// Draws the page as a PNG.
    pub(crate) fn screenshot(&self, file: &Path) {
        let answer = self
            .web
            .order("GET", &format!("{}/screenshot", self.session), "");
        let document: Value = serde_json::from_str(&answer.body).expect("a document");
        let text = document["value"].as_str().expect("a picture");
        let picture = base64::prelude::BASE64_STANDARD.decode(text);
        std::fs::write(file, picture.expect("base64")).expect("written");
    }

    fn tell(&self, order: &str, body: &Value) -> Value {
        let resource = format!("{}/{order}", self.session);
        self.order(&resource, body).expect("obeyed")
    }

    fn order(&self, resource: &str, body: &Value) -> Result<Value, String> {
        let answer = self.web.order("POST", resource, &body.to_string());
        let document: Value = serde_json::from_str(&answer.body).expect("a document");
        match answer.status {
            200 => Ok(document["value"].clone()),
            _ => Err(document["value"]["message"].to_string()),
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if !self.session.is_empty() && !thread::panicking() {
            self.web.order("DELETE", &self.session, "");
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
        // Killing the driver does not end its browser.
        for pid in processes_with(self.profile.path()) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

/// Processes with this text in their command line.
fn processes_with(part: &Path) -> Vec<Pid> {
    let part = part.to_str().expect("text");
    let processes = std::fs::read_dir("/proc").expect("mounted").flatten();
    let pids = processes.filter_map(|entry| {
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        let line = std::fs::read(entry.path().join("cmdline")).ok()?;
        String::from_utf8_lossy(&line)
            .contains(part)
            .then(|| Pid::from_raw(pid))?
    });
    pids.collect()
}
