//! The named paths: whether they are readable, and details of their devices.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use pathpulse::{CheckReport, Config, PathFacts, Settings, State, check_once};
use serde::Serialize;

use crate::cli::check_report;
use crate::cli::targets::{NAMES_SHARE, Targets};
use crate::human;

/// A path with the result of its check and the kernel's details of its device.
#[derive(Debug, Serialize)]
pub(super) struct ExaminedPath {
    #[serde(flatten)]
    pub(super) checked: check_report::PathResult,
    /// It answered this check, or reads of others.
    pub(super) readable: bool,
    pub(super) nowait: Option<bool>,
    pub(super) submission: Option<&'static str>,
    pub(super) size_bytes: Option<u64>,
    pub(super) block_bytes: Option<u32>,
    pub(super) device_state: Option<String>,
    pub(super) access_state: Option<String>,
    pub(super) group: Option<String>,
    pub(super) iostats: Option<bool>,
    /// The disks below a multipath map; `None` if it is not one.
    #[serde(skip)]
    pub(super) map_of: Option<Vec<String>>,
}

/// Reads each path once, as `check` does, and collects the details at the same time.
pub(super) fn examine(paths: &[PathBuf], timeout: Duration) -> Vec<ExaminedPath> {
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
    let mut reports: Vec<ExaminedPath> = match &checked {
        Ok(checked) => {
            let reports = checked.reports.iter();
            reports
                .map(|report| ExaminedPath::new(report, &targets, facts_of(&report.path)))
                .collect()
        }
        Err(error) => {
            let why = format!("no path was checked: {error}");
            let paths = paths.iter();
            paths
                .map(|path| ExaminedPath::unchecked(path, &why, facts_of(path)))
                .collect()
        }
    };
    let directories = targets.without.iter();
    reports.extend(directories.map(|(name, why)| ExaminedPath::unchecked(name, why, None)));
    reports
}

impl ExaminedPath {
    fn new(report: &CheckReport, targets: &Targets, facts: Option<PathFacts>) -> ExaminedPath {
        let mut path = ExaminedPath::with(check_report::PathResult::new(report, targets), facts);
        path.readable = report.state == State::Up;
        path.nowait = report.nowait;
        path.submission = report.isolated.map(human::submission);
        path
    }

    fn unchecked(path: &Path, why: &str, facts: Option<PathFacts>) -> ExaminedPath {
        ExaminedPath::with(check_report::PathResult::unchecked(path, why), facts)
    }

    pub(super) fn with(
        checked: check_report::PathResult,
        facts: Option<PathFacts>,
    ) -> ExaminedPath {
        let mut path = ExaminedPath {
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
            // The kernel knows the device of a path even if it does not open.
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
