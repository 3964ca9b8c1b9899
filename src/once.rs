//! Checking paths once: [`check_once`].

use std::path::PathBuf;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use pathpulse_kernel_compat::Mono;

use crate::command::Once;
use crate::config::{BackendInfo, Config, StartError};
use crate::device::{DeviceId, OpenError, OpenProblem};
use crate::health::State;
use crate::monitor::Monitor;
use crate::path::PathId;
use crate::settings::PathSpec;
use crate::verdict::{Verdict, Why};

/// Beyond the deadline of the checks: for their verdicts to come here.
const DELIVERY: Duration = Duration::from_millis(50);

/// What one check of one path showed.
#[derive(Clone, Debug)]
pub struct CheckReport {
    /// As it was named.
    pub path: PathBuf,
    /// What it leads to; `None` if it could not be opened.
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
    /// One for each path.
    pub reports: Vec<CheckReport>,
}

/// Checks each path once, with the backend, the timeout and the rules of `config`. Returns within the
/// timeout and a little for its own work, whatever the devices do.
///
/// # Errors
/// When the kernel offers no way to check. A path that can't be checked is no error of the whole:
/// its report says why.
pub fn check_once(paths: &[PathBuf], config: &Config) -> Result<Checked, StartError> {
    let end = Instant::now() + config.settings.timeout;
    let deadline = Mono::now() + config.settings.timeout;
    let monitor = Monitor::start(*config)?;
    let (sender, verdicts) = channel();
    let once = || Once {
        deadline,
        report: sender.clone(),
    };
    let mut answers: Vec<Option<Result<PathId, OpenError>>> = vec![None; paths.len()];
    let specs: Vec<PathSpec> = paths.iter().map(PathSpec::from).collect();
    monitor.open_and_watch(&specs, Some(end), Some(&once), |index, answer| {
        answers[index] = Some(answer);
    });
    drop(sender);
    give_to_first_names(paths, &mut answers);
    let mut missing = answers
        .iter()
        .flatten()
        .filter(|answer| answer.is_ok())
        .count();
    let mut shown = std::collections::HashMap::new();
    while missing > 0 {
        let left = end.saturating_duration_since(Instant::now()) + DELIVERY;
        let Ok((id, verdict, state)) = verdicts.recv_timeout(left) else {
            break;
        };
        shown.insert(id, (verdict, state));
        missing -= 1;
    }
    let reports = paths.iter().zip(answers).map(|(path, answer)| {
        let answer = answer.unwrap_or_else(|| {
            Err(OpenError {
                path: path.clone(),
                problem: OpenProblem::Blocked,
            })
        });
        report(&monitor, path.clone(), answer, &shown)
    });
    Ok(Checked {
        backend: monitor.backend(),
        reports: reports.collect(),
    })
}

/// Of several names of one device the first is the one that is checked, whichever opened first.
fn give_to_first_names(paths: &[PathBuf], answers: &mut [Option<Result<PathId, OpenError>>]) {
    for early in 0..paths.len() {
        let opened_first = match &answers[early] {
            Some(Err(OpenError {
                problem: OpenProblem::Twice { first },
                ..
            })) => first.clone(),
            _ => continue,
        };
        let is_it =
            |late: &usize| paths[*late] == opened_first && matches!(answers[*late], Some(Ok(_)));
        let Some(late) = (early + 1..paths.len()).find(is_it) else {
            continue;
        };
        answers.swap(early, late);
        for (path, answer) in paths.iter().zip(answers.iter_mut()) {
            if let Some(Err(error)) = answer
                && let OpenProblem::Twice { first } = &mut error.problem
                && *first == opened_first
            {
                error.path.clone_from(path);
                first.clone_from(&paths[early]);
            }
        }
    }
}

fn report(
    monitor: &Monitor,
    path: PathBuf,
    answer: Result<PathId, OpenError>,
    shown: &std::collections::HashMap<PathId, (Verdict, State)>,
) -> CheckReport {
    match answer {
        Ok(id) => {
            // A worker that gave no verdict in time says nothing about the device.
            let why = Why::NotStarted;
            let nothing = (Verdict::Unknown { why }, State::Pending);
            let (verdict, state) = shown.get(&id).copied().unwrap_or(nothing);
            let status = monitor.path(id);
            CheckReport {
                path,
                device: status.as_ref().map(|status| status.path.device()),
                verdict: Ok(verdict),
                state,
                nowait: status.as_ref().and_then(|status| status.nowait),
                isolated: status.map(|status| status.isolated),
            }
        }
        Err(error) => CheckReport {
            path,
            device: None,
            state: if error.problem.blames_device() {
                State::Down
            } else {
                State::Pending
            },
            verdict: Err(error),
            nowait: None,
            isolated: None,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_name_of_a_device_is_checked_whichever_opened_first() {
        let paths = ["a", "other", "b", "c"].map(PathBuf::from);
        let id = PathId::from_number;
        for opened_first in [0, 2, 3] {
            let twice = |name: usize| {
                let first = paths[opened_first].clone();
                Some(Err(OpenError {
                    path: paths[name].clone(),
                    problem: OpenProblem::Twice { first },
                }))
            };
            let mut answers = [twice(0), Some(Ok(id(1))), twice(2), twice(3)];
            answers[opened_first] = Some(Ok(id(7)));
            give_to_first_names(&paths, &mut answers);
            assert_eq!(answers[..2], [Some(Ok(id(7))), Some(Ok(id(1)))]);
            for name in [2, 3] {
                let expected = OpenError {
                    path: paths[name].clone(),
                    problem: OpenProblem::Twice { first: "a".into() },
                };
                assert_eq!(answers[name], Some(Err(expected)));
            }
        }
    }
}
