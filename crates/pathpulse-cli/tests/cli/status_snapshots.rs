//! Snapshots of all paths of a daemon, and the pace of checks between two of them.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::common::{Daemon, PATIENCE};
use super::web::Web;

/// All paths at a moment between `begin` and `end`.
pub(crate) struct Snapshot {
    pub(crate) begin: Instant,
    pub(crate) end: Instant,
    paths: HashMap<PathBuf, Value>,
}

impl Snapshot {
    pub(crate) fn take(web: &Web) -> Snapshot {
        let begin = Instant::now();
        let answer = web.get("/v1/paths");
        let end = Instant::now();
        assert_eq!(answer.status, 200, "{answer:?}");
        let paths: Vec<Value> = serde_json::from_str(&answer.body).expect("a list");
        let named = paths.into_iter().map(|path| {
            let name = path["path"].as_str().expect("text").into();
            (name, path)
        });
        Snapshot {
            begin,
            end,
            paths: named.collect(),
        }
    }

    pub(crate) fn path(&self, path: &Path) -> &Value {
        let found = self.paths.get(path);
        found.unwrap_or_else(|| panic!("{} is not watched", path.display()))
    }

    /// Number of checks of a path so far.
    pub(crate) fn checks(&self, path: &Path) -> u64 {
        self.path(path)["checks"]["total"]
            .as_u64()
            .expect("a number")
    }

    /// Whether each of these paths had one check in each interval since `before`. A check can end
    /// just before or after a snapshot.
    ///
    /// # Errors
    /// A path had another number of checks.
    pub(crate) fn holds_pace(
        &self,
        before: &Snapshot,
        paths: &[PathBuf],
        interval: Duration,
    ) -> Result<(), String> {
        let intervals = |time: Duration| (time.as_nanos() / interval.as_nanos()) as u64;
        let fewest = intervals(self.begin - before.end) - 1;
        let most = intervals(self.end - before.begin) + 1;
        for path in paths {
            let checks = self.checks(path) - before.checks(path);
            if !(fewest..=most).contains(&checks) {
                let path = path.display();
                return Err(format!("{path}: {checks} checks, not {fewest} to {most}"));
            }
        }
        Ok(())
    }
}

/// A client that follows the events.
pub(crate) struct Follower(BufReader<UnixStream>);

impl Follower {
    /// Returns when the daemon has started to answer, so that it has accepted the connection.
    pub(crate) fn start(daemon: &Daemon) -> Follower {
        let mut stream = UnixStream::connect(&daemon.socket).expect("connects");
        stream.set_read_timeout(Some(PATIENCE)).expect("set");
        let request = b"GET /v1/events?follow=true HTTP/1.0\r\n\r\n";
        stream.write_all(request).expect("sent");
        let mut stream = BufReader::new(stream);
        let mut line = String::new();
        stream.read_line(&mut line).expect("it answers");
        assert!(line.contains(" 200 "), "{line:?}");
        Follower(stream)
    }

    /// Reads until the event that this path is paused, and returns the data of all events, those of
    /// lost events included. `None` if the stream is idle although `is_over`.
    pub(crate) fn until_paused(self, path: &Path, is_over: &AtomicBool) -> Option<Vec<String>> {
        let path = format!("\"path\":{path:?}");
        let mut events = Vec::new();
        for line in self.0.lines() {
            let line = line.expect("more comes");
            if let Some(data) = line.strip_prefix("data: ") {
                events.push(data.to_owned());
                if data.contains(&path) && data.contains("\"to\":\"paused\"") {
                    return Some(events);
                }
            }
            if line.starts_with(':') && is_over.load(Relaxed) {
                return None;
            }
        }
        panic!("the daemon ended the stream after {} events", events.len());
    }
}

/// Stops other threads when it is dropped, also by a panic.
pub(crate) struct StopOnDrop<'a>(pub(crate) &'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// Files that support O_DIRECT, in one directory.
pub(crate) fn files(count: usize) -> (tempfile::TempDir, Vec<PathBuf>) {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let paths: Vec<PathBuf> = (0..count)
        .map(|number| folder.path().join(format!("{number:03}")))
        .collect();
    for path in &paths {
        let file = std::fs::File::create(path).expect("made");
        (&file).write_all(&[0xA5; 8192]).expect("written");
        // Dirty pages make the kernel answer EAGAIN.
        file.sync_all().expect("synced");
    }
    (folder, paths)
}
