//! What the named paths are, and whether they can be read.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use pathpulse::{CheckReport, Config, PathFacts, Settings, State, check_once};
use serde::Serialize;

use crate::cli::check_report;
use crate::cli::targets::{NAMES_SHARE, Targets};
use crate::human;

/// A path: what `check` says of it, and what the kernel knows.
#[derive(Debug, Serialize)]
pub(super) struct PathReport {
    #[serde(flatten)]
    pub(super) checked: check_report::PathReport,
    /// It answered, or answers others.
    pub(super) readable: bool,
    pub(super) nowait: Option<bool>,
    pub(super) submission: Option<&'static str>,
    pub(super) size_bytes: Option<u64>,
    pub(super) block_bytes: Option<u32>,
    pub(super) device_state: Option<String>,
    pub(super) access_state: Option<String>,
    pub(super) group: Option<String>,
    pub(super) iostats: Option<bool>,
    /// If it is a multipath map: the disks below it.
    #[serde(skip)]
    pub(super) map_of: Option<Vec<String>>,
}

/// Reads each path once, as `check` does, and asks the kernel about it meanwhile.
pub(super) fn examine(paths: &[PathBuf], timeout: Duration) -> Vec<PathReport> {
    if paths.is_empty() {
        return Vec::new();
    }
    let begin = Instant::now();
    let targets = Targets::of(paths, timeout / NAMES_SHARE);
    let paths = &targets.paths;
    let timeout = timeout.saturating_sub(begin.elapsed());
    let config = Config {
        settings: Settings {
            timeout,
            ..Settings::default()
        },
        ..Config::default()
    };
    let (checked, facts) = thread::scope(|scope| {
        let facts = scope.spawn(|| PathFacts::of(paths, timeout));
        (check_once(paths, &config), facts.join())
    });
    let facts = facts.unwrap_or_default().into_iter();
    let facts: HashMap<&Path, Option<PathFacts>> =
        paths.iter().map(PathBuf::as_path).zip(facts).collect();
    let facts_of = |path: &Path| facts.get(path).cloned().flatten();
    let mut reports: Vec<PathReport> = match &checked {
        Ok(checked) => {
            let reports = checked.reports.iter();
            reports
                .map(|report| PathReport::new(report, &targets, facts_of(&report.path)))
                .collect()
        }
        Err(error) => {
            let why = format!("nothing was checked: {error}");
            let paths = paths.iter();
            paths
                .map(|path| PathReport::unchecked(path, &why, facts_of(path)))
                .collect()
        }
    };
    let folders = targets.without.iter();
    reports.extend(folders.map(|(folder, why)| PathReport::unchecked(folder, why, None)));
    reports
}

impl PathReport {
    fn new(report: &CheckReport, targets: &Targets, facts: Option<PathFacts>) -> PathReport {
        let mut path = PathReport::with(check_report::PathReport::new(report, targets), facts);
        path.readable = report.state == State::Up;
        path.nowait = report.nowait;
        path.submission = report.isolated.map(human::submission);
        path
    }

    fn unchecked(path: &Path, why: &str, facts: Option<PathFacts>) -> PathReport {
        PathReport::with(check_report::PathReport::unchecked(path, why), facts)
    }

    pub(super) fn with(checked: check_report::PathReport, facts: Option<PathFacts>) -> PathReport {
        let mut path = PathReport {
            checked,
            readable: false,
            nowait: None,
            submission: None,
            size_bytes: None,
            block_bytes: None,
            device_state: None,
            access_state: None,
            group: None,
            iostats: None,
            map_of: None,
        };
        if let Some(facts) = facts {
            // What can't be opened can still be named.
            path.checked
                .device
                .get_or_insert_with(|| facts.device.to_string());
            path.size_bytes = facts.size_bytes;
            path.block_bytes = facts.block_bytes;
            path.device_state = facts.device_state;
            path.access_state = facts.access_state;
            path.group = facts.group;
            path.iostats = facts.iostats;
            path.map_of = facts.map_of;
        }
        path
    }
}
