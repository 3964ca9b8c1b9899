//! Checks paths a single time: [`check_once`].
//!
//! It uses a [`Monitor`] whose paths are checked once, and groups the results by device.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use pathpulse_kernel_compat::Mono;

use crate::config::{BackendInfo, Config, Isolation, StartError};
use crate::device::{DeviceId, OpenError, OpenProblem};
use crate::health::{State, UnknownReason, Verdict};
use crate::monitor::Monitor;
use crate::settings::PathSpec;
use crate::status::PathId;
use crate::worker::OnceChecks;

/// Extra time after the deadline of the checks, for the next verdict to arrive here.
const DELIVERY_GRACE: Duration = Duration::from_millis(50);
/// Time limit for closing the devices, so that the caller may use them next.
const RELEASE_LIMIT: Duration = Duration::from_millis(50);

/// Result of the single check of a device.
#[derive(Clone, Debug)]
pub struct CheckReport {
    /// The first name that was given.
    pub path: PathBuf,
    /// The other names of the same device that were given, in their order.
    pub also: Vec<PathBuf>,
    /// The device; `None` if it is unknown.
    pub device: Option<DeviceId>,
    /// The verdict, or why there is none.
    pub verdict: Result<Verdict, OpenError>,
    /// The state after this one verdict.
    pub state: State,
    /// Whether reads use `RWF_NOWAIT`; `None` if no read has shown it.
    pub nowait: Option<bool>,
    /// Whether a thread of its own reads it
    /// ([`PathStatus::isolated`](crate::PathStatus::isolated)); `None` if it could not be opened.
    pub isolated: Option<bool>,
}

/// The results of [`check_once`].
#[derive(Clone, Debug)]
pub struct Checked {
    /// The backend that submitted the reads to the kernel.
    pub backend: BackendInfo,
    /// One report per device, in the order of the first names.
    pub reports: Vec<CheckReport>,
}

type Answer = Result<PathId, OpenError>;

/// Verdict and state of each path that was checked.
type Verdicts = HashMap<PathId, (Verdict, State)>;

/// Checks each device once, by all names that are given, with the backend, the timeout and the
/// rules of `config`. Returns within the timeout plus a little time of its own, whatever the
/// devices do. All devices are closed then, except those with a read that the kernel still holds.
///
/// # Errors
/// If no backend is available. A path that can't be checked is no error here: its report has the
/// reason.
pub fn check_once(paths: &[PathBuf], config: &Config) -> Result<Checked, StartError> {
    let end = Instant::now() + config.settings.timeout;
    let deadline = Mono::now() + config.settings.timeout;
    let monitor = Monitor::start(Config {
        // The callers have a process for that.
        isolation: Isolation::Threads,
        ..config.clone()
    })?;
    let (report, reported) = channel();
    let once = OnceChecks {
        deadline,
        report,
        devices: Arc::default(),
    };
    let names = deduplicated(paths);
    let blocked = |name: &PathBuf| Err(OpenError::new(name, OpenProblem::Blocked));
    let mut answers: Vec<Answer> = names.iter().map(blocked).collect();
    let specs: Vec<PathSpec> = names.iter().map(PathSpec::from).collect();
    monitor.open_and_watch(&specs, Some(end), Some(&once), |index, answer| {
        answers[index] = answer;
    });
    let OnceChecks {
        report, devices, ..
    } = once;
    drop(report);
    let expected = answers.iter().filter(|answer| answer.is_ok()).count();
    let verdicts = receive(&reported, expected, end);
    let devices = devices.lock().unwrap_or_else(PoisonError::into_inner);
    let opened = |id: PathId| Some(monitor.info(id)?.device());
    let devices = devices_of(&names, &answers, &devices, opened);
    let reports = by_device(&devices).into_iter().map(|indices| {
        let answer = answer_for(&indices, &answers);
        CheckReport {
            also: indices[1..].iter().map(|p| names[*p].clone()).collect(),
            device: devices[indices[0]],
            ..report_of(&monitor, names[indices[0]].clone(), answer, &verdicts)
        }
    });
    let checked = Checked {
        backend: monitor.backend(),
        reports: reports.collect(),
    };
    monitor.shutdown(RELEASE_LIMIT);
    Ok(checked)
}

/// Receives this many verdicts. Gives up when none arrives for [`DELIVERY_GRACE`] after `end`.
fn receive(
    reported: &Receiver<(PathId, Verdict, State)>,
    expected: usize,
    end: Instant,
) -> Verdicts {
    let mut verdicts = Verdicts::new();
    while verdicts.len() < expected {
        let left = end.saturating_duration_since(Instant::now()) + DELIVERY_GRACE;
        let Ok((id, verdict, state)) = reported.recv_timeout(left) else {
            break;
        };
        verdicts.insert(id, (verdict, state));
    }
    verdicts
}

/// The names in their order, without repetitions.
fn deduplicated(paths: &[PathBuf]) -> Vec<PathBuf> {
    let mut known = HashSet::new();
    let first = paths.iter().filter(|path| known.insert(*path));
    first.cloned().collect()
}

/// The device of each name: of the path that was opened, of the other name of the same path, or as
/// found before an open that failed.
fn devices_of(
    names: &[PathBuf],
    answers: &[Answer],
    devices_by_name: &HashMap<PathBuf, DeviceId>,
    opened: impl Fn(PathId) -> Option<DeviceId>,
) -> Vec<Option<DeviceId>> {
    let answers: HashMap<&PathBuf, &Answer> = names.iter().zip(answers).collect();
    let device_of = |name: &PathBuf| match answers[name] {
        Ok(id) => opened(*id),
        Err(OpenError {
            problem: OpenProblem::Twice { first },
            ..
        }) => match answers.get(first) {
            Some(Ok(id)) => opened(*id),
            _ => None,
        },
        Err(_) => devices_by_name.get(name).copied(),
    };
    names.iter().map(device_of).collect()
}

/// The indices of the names of each device, in the order of the first names. A name without a known
/// device is on its own.
fn by_device(devices: &[Option<DeviceId>]) -> Vec<Vec<usize>> {
    let mut groups: Vec<Vec<usize>> = Vec::new();
    let mut known: HashMap<DeviceId, usize> = HashMap::new();
    for (index, device) in devices.iter().enumerate() {
        let next = groups.len();
        match device.map(|device| *known.entry(device).or_insert(next)) {
            Some(group) if group < next => groups[group].push(index),
            _ => groups.push(vec![index]),
        }
    }
    groups
}

/// The answer for a device: that of the name which opened, if one did.
fn answer_for(indices: &[usize], answers: &[Answer]) -> Answer {
    let mut all = indices.iter().map(|index| &answers[*index]);
    let opened = all.find(|answer| answer.is_ok());
    opened.unwrap_or(&answers[indices[0]]).clone()
}

fn report_of(monitor: &Monitor, path: PathBuf, answer: Answer, verdicts: &Verdicts) -> CheckReport {
    let unknown = CheckReport {
        path,
        also: Vec::new(),
        device: None,
        // Without a verdict in time nothing is known about the device.
        verdict: Ok(Verdict::Unknown {
            why: UnknownReason::NotStarted,
        }),
        state: State::Pending,
        nowait: None,
        isolated: None,
    };
    match answer {
        Ok(id) => {
            let status = monitor.path(id);
            let shown = verdicts.get(&id).copied();
            CheckReport {
                verdict: shown.map_or(unknown.verdict, |(verdict, _)| Ok(verdict)),
                state: shown.map_or(unknown.state, |(_, state)| state),
                nowait: status.as_ref().and_then(|status| status.nowait),
                isolated: status.map(|status| status.isolated),
                ..unknown
            }
        }
        Err(error) => CheckReport {
            state: if error.problem.blames_device() {
                State::Down
            } else {
                State::Pending
            },
            verdict: Err(error),
            ..unknown
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_device_has_one_report_under_its_first_name() {
        let names = ["a", "other", "b", "gone", "c"].map(PathBuf::from);
        let block = |minor| DeviceId::Block { major: 8, minor };
        let ids = PathId::allocate(2);
        let (one, other) = (ids, PathId::from_number(ids.number() + 1));
        let failed = |name: usize, problem| Err(OpenError::new(&names[name], problem));
        let gone = || OpenProblem::Open(pathpulse_kernel_compat::Errno::ENXIO);
        for opened_first in [0, 2, 4] {
            let twice = |name: usize| {
                let first = names[opened_first].clone();
                failed(name, OpenProblem::Twice { first })
            };
            let mut answers = [twice(0), Ok(other), twice(2), failed(3, gone()), twice(4)];
            answers[opened_first] = Ok(one);
            let opened = |id| Some(block(u32::from(id == other)));
            let devices = devices_of(&names, &answers, &HashMap::new(), opened);
            let groups = by_device(&devices);
            assert_eq!(groups, [vec![0, 2, 4], vec![1], vec![3]]);
            assert_eq!(answer_for(&groups[0], &answers), Ok(one));
        }
        // No name opens.
        let answers = [0, 1, 2, 3, 4].map(|name| failed(name, gone()));
        let devices_by_name = [("a", 0), ("b", 0), ("c", 1)];
        let devices_by_name = devices_by_name.map(|(name, minor)| (name.into(), block(minor)));
        let devices = devices_of(&names, &answers, &devices_by_name.into(), |_| None);
        let groups = by_device(&devices);
        assert_eq!(groups, [vec![0, 2], vec![1], vec![3], vec![4]]);
        assert_eq!(answer_for(&groups[0], &answers), answers[0]);
    }
}
