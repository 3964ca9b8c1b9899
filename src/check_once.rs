//! Checking paths once: [`check_once`].

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::mpsc::channel;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use pathpulse_kernel_compat::Mono;

use crate::config::{BackendInfo, Config, StartError};
use crate::device::{DeviceId, OpenError, OpenProblem};
use crate::health::{State, UnknownReason, Verdict};
use crate::monitor::Monitor;
use crate::settings::PathSpec;
use crate::status::PathId;
use crate::worker::OnceChecks;

/// Beyond the deadline of the checks: for their verdicts to come here.
const DELIVERY: Duration = Duration::from_millis(50);
/// How long the devices may take to be free again: for whoever waits for the checks to have them next.
const RELEASE: Duration = Duration::from_millis(50);

/// What one check of one path showed.
#[derive(Clone, Debug)]
pub struct CheckReport {
    /// As it was named first.
    pub path: PathBuf,
    /// Other names of the same device that were given, in their order.
    pub also: Vec<PathBuf>,
    /// What it leads to; `None` if that is not known.
    pub device: Option<DeviceId>,
    /// The verdict, or why there could be none.
    pub verdict: Result<Verdict, OpenError>,
    /// What this one verdict makes of it.
    pub state: State,
    /// Whether it takes reads with `RWF_NOWAIT`; `None` if no read has shown.
    pub nowait: Option<bool>,
    /// Whether a thread of its own reads it ([`PathStatus::isolated`](crate::PathStatus::isolated));
    /// `None` if it could not be opened.
    pub isolated: Option<bool>,
}

/// The reports of [`check_once`], in the order of the paths.
#[derive(Clone, Debug)]
pub struct Checked {
    /// What carried the checks to the kernel.
    pub backend: BackendInfo,
    /// One for each device, in the order of their first names.
    pub reports: Vec<CheckReport>,
}

type Answer = Result<PathId, OpenError>;

/// Checks each device once, by whatever names it is given, with the backend, the timeout and the rules of
/// `config`. Returns within the timeout and a little for its own work, whatever the devices do. All are
/// closed then, but for those that still have a read.
///
/// # Errors
/// When the kernel offers no way to check. A path that can't be checked is no error of the whole:
/// its report says why.
pub fn check_once(paths: &[PathBuf], config: &Config) -> Result<Checked, StartError> {
    let end = Instant::now() + config.settings.timeout;
    let deadline = Mono::now() + config.settings.timeout;
    let monitor = Monitor::start(*config)?;
    let (report, verdicts) = channel();
    let once = OnceChecks {
        deadline,
        report,
        devices: Arc::default(),
    };
    let names = without_repetitions(paths);
    let blocked = |name: &PathBuf| {
        Err(OpenError {
            path: name.clone(),
            problem: OpenProblem::Blocked,
        })
    };
    let mut answers: Vec<Answer> = names.iter().map(blocked).collect();
    let specs: Vec<PathSpec> = names.iter().map(PathSpec::from).collect();
    monitor.open_and_watch(&specs, Some(end), Some(&once), |index, answer| {
        answers[index] = answer;
    });
    let OnceChecks {
        report, devices, ..
    } = once;
    drop(report);
    let mut missing = answers.iter().filter(|answer| answer.is_ok()).count();
    let mut shown = HashMap::new();
    while missing > 0 {
        let left = end.saturating_duration_since(Instant::now()) + DELIVERY;
        let Ok((id, verdict, state)) = verdicts.recv_timeout(left) else {
            break;
        };
        shown.insert(id, (verdict, state));
        missing -= 1;
    }
    let devices = devices.lock().unwrap_or_else(PoisonError::into_inner);
    let opened = |id: PathId| Some(monitor.info(id)?.device());
    let devices = devices_of(&names, &answers, &devices, opened);
    let reports = by_device(&devices).into_iter().map(|places| {
        let answer = telling(&places, &answers);
        CheckReport {
            also: places[1..].iter().map(|p| names[*p].clone()).collect(),
            device: devices[places[0]],
            ..report_of(&monitor, names[places[0]].clone(), answer, &shown)
        }
    });
    let checked = Checked {
        backend: monitor.backend(),
        reports: reports.collect(),
    };
    monitor.shutdown(RELEASE);
    Ok(checked)
}

/// The names in their order, each once.
fn without_repetitions(paths: &[PathBuf]) -> Vec<PathBuf> {
    let mut known = HashSet::new();
    let first = paths.iter().filter(|path| known.insert(*path));
    first.cloned().collect()
}

/// What each of the names leads to: what was opened by it, or is by another name, or would have been.
fn devices_of(
    names: &[PathBuf],
    answers: &[Answer],
    led_to: &HashMap<PathBuf, DeviceId>,
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
        Err(_) => led_to.get(name).copied(),
    };
    names.iter().map(device_of).collect()
}

/// The places of the names of each device, in the order of their first ones. What leads to nothing known
/// is alone.
fn by_device(devices: &[Option<DeviceId>]) -> Vec<Vec<usize>> {
    let mut groups: Vec<Vec<usize>> = Vec::new();
    let mut known: HashMap<DeviceId, usize> = HashMap::new();
    for (place, device) in devices.iter().enumerate() {
        let next = groups.len();
        match device.map(|device| *known.entry(device).or_insert(next)) {
            Some(group) if group < next => groups[group].push(place),
            _ => groups.push(vec![place]),
        }
    }
    groups
}

/// What came of a device by that of its names which opened, if one did.
fn telling(places: &[usize], answers: &[Answer]) -> Answer {
    let mut all = places.iter().map(|place| &answers[*place]);
    let opened = all.find(|answer| answer.is_ok());
    opened.unwrap_or(&answers[places[0]]).clone()
}

fn report_of(
    monitor: &Monitor,
    path: PathBuf,
    answer: Answer,
    shown: &HashMap<PathId, (Verdict, State)>,
) -> CheckReport {
    let nothing_more = CheckReport {
        path,
        also: Vec::new(),
        device: None,
        // A worker that gave no verdict in time says nothing about the device.
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
            let shown = shown.get(&id).copied();
            CheckReport {
                verdict: shown.map_or(nothing_more.verdict, |(verdict, _)| Ok(verdict)),
                state: shown.map_or(nothing_more.state, |(_, state)| state),
                nowait: status.as_ref().and_then(|status| status.nowait),
                isolated: status.map(|status| status.isolated),
                ..nothing_more
            }
        }
        Err(error) => CheckReport {
            state: if error.problem.blames_device() {
                State::Down
            } else {
                State::Pending
            },
            verdict: Err(error),
            ..nothing_more
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_told_of_once_by_its_first_name_whichever_opened() {
        let names = ["a", "other", "b", "gone", "c"].map(PathBuf::from);
        let block = |minor| DeviceId::Block { major: 8, minor };
        let ids = PathId::allocate(2);
        let (one, other) = (ids, PathId::from_number(ids.number() + 1));
        let failed = |name: usize, problem| {
            Err(OpenError {
                path: names[name].clone(),
                problem,
            })
        };
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
            assert_eq!(telling(&groups[0], &answers), Ok(one));
        }
        // None of them opens.
        let answers = [0, 1, 2, 3, 4].map(|name| failed(name, gone()));
        let led_to = [("a", 0), ("b", 0), ("c", 1)];
        let led_to = led_to.map(|(name, minor)| (name.into(), block(minor)));
        let devices = devices_of(&names, &answers, &led_to.into(), |_| None);
        let groups = by_device(&devices);
        assert_eq!(groups, [vec![0, 2], vec![1], vec![3], vec![4]]);
        assert_eq!(telling(&groups[0], &answers), answers[0]);
    }
}
