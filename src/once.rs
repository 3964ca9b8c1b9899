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
    monitor.open_and_watch(&specs, end, Some(&once), |index, answer| {
        answers[index] = Some(answer);
    });
    drop(sender);
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
                nowait: status.and_then(|status| status.nowait),
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
        },
    }
}
