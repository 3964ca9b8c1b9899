//! The results of `check`, as a table, as JSON, and for Nagios.

use std::collections::HashMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use comfy_table::Cell;
use pathpulse::{
    CheckReport, Checked, OpenError, OpenProblem, State, Verdict, VerdictKind, display_name,
};
use serde::Serialize;

use super::targets::Targets;
use super::{USAGE, output};
use crate::human::{is_many, some_of};

/// The JSON document.
#[derive(Debug, Serialize)]
pub(crate) struct CheckResults {
    backend: String,
    paths: Vec<PathResult>,
}

#[derive(Debug, Serialize)]
pub(super) struct PathResult {
    pub(super) path: String,
    /// The other given names of the device.
    pub(super) also: Vec<String>,
    /// The given directories whose file systems use the device.
    pub(super) under: Vec<String>,
    pub(super) device: Option<String>,
    verdict: &'static str,
    state: &'static str,
    errno: Option<String>,
    latency_us: Option<u64>,
    pub(super) message: String,
    /// The kernel answered a request about the device.
    #[serde(skip)]
    is_reached: bool,
}

impl PathResult {
    pub(super) fn new(report: &CheckReport, targets: &Targets) -> PathResult {
        let (verdict, errno, latency, message) = match &report.verdict {
            Ok(verdict) => {
                let latency = match verdict {
                    Verdict::Good { latency } => u64::try_from(latency.as_micros()).ok(),
                    _ => None,
                };
                let hint = verdict.hint().map(|hint| format!("; {hint}"));
                let message = verdict.to_string() + &hint.unwrap_or_default();
                (verdict.kind(), verdict.errno(), latency, message)
            }
            Err(OpenError { problem, .. }) => {
                (kind_of(problem), problem.errno(), None, problem.to_string())
            }
        };
        PathResult {
            path: display_name(&report.path).to_string(),
            also: texts(report.also.iter()),
            under: texts(targets.directories(std::iter::once(&report.path).chain(&report.also))),
            device: report.device.map(|device| device.to_string()),
            verdict: verdict.name(),
            state: report.state.name(),
            errno: errno.map(|errno| errno.to_string()),
            latency_us: latency,
            message,
            is_reached: match &report.verdict {
                Ok(verdict) => verdict.kind() != VerdictKind::Unknown,
                Err(error) => error.problem.reached_device(),
            },
        }
    }

    /// The result of a path that could not be checked.
    pub(super) fn unchecked(path: &Path, message: &str) -> PathResult {
        PathResult {
            path: display_name(path).to_string(),
            also: Vec::new(),
            under: Vec::new(),
            device: None,
            verdict: VerdictKind::Unknown.name(),
            state: State::Pending.name(),
            errno: None,
            latency_us: None,
            message: message.to_owned(),
            is_reached: false,
        }
    }

    /// What is wrong, in one word: the errno if there is one, because it is more exact.
    pub(super) fn problem(&self) -> &str {
        self.errno.as_deref().unwrap_or(self.verdict)
    }

    /// The message column of the table.
    fn remark(&self) -> String {
        // A good path has no message: its latency has its own column.
        let message = Some(&self.message).filter(|_| self.latency_us.is_none());
        let parts = message.cloned().into_iter().chain(self.other_names());
        parts.collect::<Vec<_>>().join("; ")
    }

    /// Its other names and directories, if some were given.
    fn other_names(&self) -> Option<String> {
        let lists = [("also", &self.also), ("under", &self.under)];
        let lists = lists.iter().filter(|(_, names)| !names.is_empty());
        let parts: Vec<String> = lists
            .map(|(word, names)| format!("{word} {}", names.join(", ")))
            .collect();
        (!parts.is_empty()).then(|| parts.join("; "))
    }

    /// Verdict and message of a path that can share a row: nothing but its name is known about it.
    fn shared(&self) -> Option<(&str, &str)> {
        let has_own = self.is_reached || !self.also.is_empty() || !self.under.is_empty();
        let is_unknown = self.is(State::Pending) && !has_own;
        is_unknown.then_some((self.verdict, &*self.message))
    }

    fn is(&self, state: State) -> bool {
        self.state == state.name()
    }
}

fn texts<'a>(names: impl Iterator<Item = &'a PathBuf>) -> Vec<String> {
    names.map(|name| display_name(name).to_string()).collect()
}

/// The verdict on a path that cannot be opened: the device's fault, or ours.
fn kind_of(problem: &OpenProblem) -> VerdictKind {
    match problem {
        OpenProblem::Blocked => VerdictKind::TimedOut,
        problem if problem.blames_device() => VerdictKind::Failed,
        _ => VerdictKind::Unknown,
    }
}

impl CheckResults {
    pub(crate) fn new(checked: &Checked, targets: &Targets) -> CheckResults {
        let checked_paths = checked.reports.iter();
        let checked_paths = checked_paths.map(|report| PathResult::new(report, targets));
        let others = targets.without.iter();
        let others = others.map(|(folder, why)| PathResult::unchecked(folder, why));
        CheckResults {
            backend: checked.backend.kind.to_string(),
            paths: checked_paths.chain(others).collect(),
        }
    }

    fn count(&self, state: State) -> usize {
        self.paths.iter().filter(|path| path.is(state)).count()
    }

    /// 0 all up or in standby, 1 some marginal or unknown, 2 some down, 3 no path could be checked.
    pub(crate) fn exit_status(&self) -> i32 {
        if self.count(State::Down) > 0 {
            2
        } else if !self.paths.iter().any(|path| path.is_reached) {
            USAGE
        } else if self.count(State::Marginal) + self.count(State::Pending) > 0 {
            1
        } else {
            0
        }
    }

    /// A row for each path, or for many paths that cannot be checked for the same reason.
    fn rows(&self) -> Vec<(String, &PathResult)> {
        let mut counts: HashMap<_, usize> = HashMap::new();
        for shared in self.paths.iter().filter_map(PathResult::shared) {
            *counts.entry(shared).or_default() += 1;
        }
        let mut places = HashMap::new();
        let mut rows: Vec<(Vec<&str>, &PathResult)> = Vec::new();
        for path in &self.paths {
            let shared = path.shared().filter(|shared| is_many(counts[shared]));
            let place = match shared {
                Some(shared) => *places.entry(shared).or_insert(rows.len()),
                None => rows.len(),
            };
            if place == rows.len() {
                rows.push((Vec::new(), path));
            }
            rows[place].0.push(&path.path);
        }
        let rows = rows.into_iter();
        rows.map(|(names, path)| (some_of(&names), path)).collect()
    }

    /// The table, with these rows.
    pub(crate) fn table(&self) -> String {
        let mut table = output::table(&["PATH", "STATE", "VERDICT", "LATENCY", "MESSAGE"]);
        for (name, path) in self.rows() {
            table.add_row([
                Cell::new(output::printable(&name)),
                output::state_cell(if path.is(State::Pending) {
                    "unknown"
                } else {
                    path.state
                }),
                Cell::new(path.verdict),
                Cell::new(
                    path.latency_us
                        .map_or_else(|| "-".to_owned(), output::latency),
                ),
                Cell::new(path.remark()),
            ]);
        }
        output::render(&table)
    }

    /// For Nagios: a line with performance data, and a line for each row of a path that is not up
    /// or has other names.
    pub(crate) fn nagios(&self) -> String {
        let word = match self.exit_status() {
            0 => "OK",
            1 => "WARNING",
            2 => "CRITICAL",
            _ => "UNKNOWN",
        };
        let states = [
            ("up", State::Up),
            ("down", State::Down),
            ("marginal", State::Marginal),
            ("standby", State::Standby),
            ("unknown", State::Pending),
        ];
        let mut summary = Vec::new();
        let mut data = String::new();
        for (name, state) in states {
            let count = self.count(state);
            let _ = write!(data, "{name}={count} ");
            if count > 0 {
                let noun = if summary.is_empty() {
                    plural(count)
                } else {
                    ""
                };
                summary.push(format!("{count}{noun} {name}"));
            }
        }
        if let Some(us) = self.paths.iter().filter_map(|path| path.latency_us).max() {
            let _ = write!(data, "latency_max={us}us ");
        }
        let mut text = format!(
            "PATHPULSE {word} - {} | {}\n",
            summary.join(", "),
            data.trim_end()
        );
        for (name, path) in self.rows() {
            let problem = || format!("{}: {}", path.verdict, path.message);
            let problem = (!path.is(State::Up)).then(problem);
            let parts: Vec<String> = problem.into_iter().chain(path.other_names()).collect();
            if parts.is_empty() {
                continue;
            }
            let line = format!("{name}: {}", parts.join("; "));
            // Nagios takes text after a bar for performance data.
            text += &output::printable(&line).replace('|', "/");
            text.push('\n');
        }
        text
    }
}

fn plural(count: usize) -> &'static str {
    if count == 1 { " path" } else { " paths" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(path: &str, kind: VerdictKind, state: State) -> PathResult {
        PathResult {
            path: path.to_owned(),
            also: Vec::new(),
            under: Vec::new(),
            device: None,
            verdict: kind.name(),
            state: state.name(),
            errno: None,
            latency_us: (kind == VerdictKind::Good).then_some(85),
            message: "a | message".to_owned(),
            is_reached: kind != VerdictKind::Unknown,
        }
    }

    fn report(paths: Vec<PathResult>) -> CheckResults {
        CheckResults {
            backend: "io_uring".to_owned(),
            paths,
        }
    }

    #[test]
    fn the_worst_path_decides_the_exit_status() {
        let good = || path("/dev/a", VerdictKind::Good, State::Up);
        let unknown = || path("/dev/b", VerdictKind::Unknown, State::Pending);
        let down = || path("/dev/c", VerdictKind::Failed, State::Down);
        let standby = || path("/dev/d", VerdictKind::Standby, State::Standby);
        assert_eq!(report(vec![good(), standby()]).exit_status(), 0);
        assert_eq!(report(vec![good(), unknown()]).exit_status(), 1);
        assert_eq!(report(vec![good(), unknown(), down()]).exit_status(), 2);
        assert_eq!(report(vec![down()]).exit_status(), 2);
        assert_eq!(report(vec![unknown()]).exit_status(), 3);
        // For example an empty drive: it answers that it is empty.
        let mut empty = unknown();
        empty.is_reached = true;
        assert_eq!(report(vec![empty]).exit_status(), 1);
    }

    #[test]
    fn nagios_gets_one_bar_only() {
        let text = report(vec![
            path("/dev/a", VerdictKind::Good, State::Up),
            path("/dev/b", VerdictKind::Good, State::Up),
            path("/dev/c", VerdictKind::TimedOut, State::Down),
        ])
        .nagios();
        let expected = "PATHPULSE CRITICAL - 2 paths up, 1 down | \
                        up=2 down=1 marginal=0 standby=0 unknown=0 latency_max=85us\n\
                        /dev/c: timed_out: a / message\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn many_paths_that_cannot_be_checked_share_a_row() {
        let mut paths: Vec<PathResult> = (0..25)
            .map(|n| path(&format!("/dev/sd{n}"), VerdictKind::Unknown, State::Pending))
            .collect();
        // A path with an answer, and one with another reason, have their own rows.
        paths[3] = path("/dev/down", VerdictKind::Failed, State::Down);
        paths[5].message = "something else".to_owned();
        let report = report(paths);
        let names: Vec<String> = report.rows().into_iter().map(|(name, _)| name).collect();
        let many = "/dev/sd0, /dev/sd1, /dev/sd2 and 20 more";
        assert_eq!(names, [many, "/dev/down", "/dev/sd5"]);
        assert_eq!(report.table().matches("message").count(), 2);
        let text = report.nagios();
        let lines: Vec<&str> = text.lines().skip(1).collect();
        assert_eq!(lines[0], format!("{many}: unknown: a / message"));
        assert_eq!(lines.len(), 3);
    }

    #[test]
    fn other_names_are_shown_but_not_counted() {
        let named = |kind, state| {
            let mut path = path("/dev/a", kind, state);
            path.also = vec![
                "/dev/disk/by-id/a".to_owned(),
                "/dev/disk/by-path/a".to_owned(),
            ];
            report(vec![path])
        };
        let good = named(VerdictKind::Good, State::Up);
        let names = "also /dev/disk/by-id/a, /dev/disk/by-path/a";
        assert_eq!(good.paths[0].remark(), names);
        let lines: Vec<String> = good.nagios().lines().map(str::to_owned).collect();
        assert!(
            lines[0].starts_with("PATHPULSE OK - 1 path up |"),
            "{lines:?}"
        );
        assert_eq!(lines[1..], [format!("/dev/a: {names}")]);
        let mut folder = named(VerdictKind::Good, State::Up);
        folder.paths[0].under = vec!["/data".to_owned()];
        assert_eq!(folder.paths[0].remark(), format!("{names}; under /data"));
        let down = named(VerdictKind::TimedOut, State::Down);
        let remark = format!("a | message; {names}");
        assert_eq!(down.paths[0].remark(), remark);
        let lines = down.nagios();
        let line = format!("/dev/a: timed_out: {}", remark.replace('|', "/"));
        assert!(lines.contains(&line), "{lines}");
    }
}
