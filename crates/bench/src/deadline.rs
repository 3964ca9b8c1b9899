//! How punctual the verdicts on silent devices are: a sweep over a thousand paths that all hang ends
//! with the last verdict, which ought to be at its deadline. The checks begin one after the other, so the
//! deadline of the last one is later than that of the first.

use std::path::PathBuf;
use std::time::Duration;

use pathpulse_faultdisk::{Behaviour, Release, Rig, Spec};
use serde::Serialize;

use crate::FIO;
use crate::contest::LIMIT;
use crate::figures::{Spread, percentile};
use crate::plan::{Plan, Refusal, open_ask};
use crate::progress::Progress;
use crate::remote::{Remote, Trouble};

const DEVICES: usize = 10;
/// As many to each device; fewer than it has tags.
const PATHS: usize = 1000;
/// The plugin knows seconds only.
const TIMEOUT: Duration = Duration::from_secs(1);
const SWEEP_LIMIT: Duration = Duration::from_secs(5);
const ROUNDS: usize = 5;

/// How late the verdicts of a sweep were.
#[derive(Clone, Debug, Serialize)]
pub struct DeadlineRow {
    /// Its name.
    pub name: &'static str,
    /// The last of all, in milliseconds after the deadline of what was begun first.
    pub last_verdict_late_ms: Option<Spread>,
    /// In milliseconds after its own deadline each: 99 of 100 at most. `None` of a contender that does not
    /// know when it began each check.
    pub verdict_late_ms_p99: Option<Spread>,
    /// Why that is not known.
    pub reason: Option<String>,
}

pub(crate) fn run(
    plan: &Plan,
    names: &[&'static str],
    progress: &Progress,
) -> Result<Vec<DeadlineRow>, Refusal> {
    let rig = Rig::start_with(plan.rig_command(), &Spec::loops(DEVICES))
        .map_err(|error| Refusal(format!("no devices that hang: {error}")))?;
    let mut rows = Vec::new();
    for &name in names {
        progress.step(&format!("{name}: a thousand silent paths"))?;
        let late = if name == FIO {
            Err("fio has no deadlines".to_owned())
        } else {
            measure(plan, &rig, name)
        };
        for disk in 0..DEVICES {
            let _ = rig.recover(disk);
        }
        let of_each = |figure: fn(&Late) -> Option<f64>| {
            let rounds = late.as_ref().ok()?.iter().map(figure);
            Spread::of(&rounds.collect::<Option<Vec<f64>>>()?)
        };
        rows.push(DeadlineRow {
            name,
            last_verdict_late_ms: of_each(|late| Some(late.last_ms)),
            verdict_late_ms_p99: of_each(|late| late.p99_ms),
            reason: late.err(),
        });
    }
    Ok(rows)
}

/// Of one sweep.
struct Late {
    last_ms: f64,
    p99_ms: Option<f64>,
}

fn measure(plan: &Plan, rig: &Rig, name: &str) -> Result<Vec<Late>, String> {
    let failed = |trouble: Trouble| trouble.reason("its sweep waits for a silent device");
    let rig_failed = |error: std::io::Error| format!("the devices that hang: {error}");
    let devices: Vec<PathBuf> = rig.disks().iter().map(|d| d.path().to_owned()).collect();
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        // A new process each time: what was stuck is not to be checked again.
        let mut remote = Remote::start(plan.child_command(name)).map_err(failed)?;
        let open = open_ask(&devices, PATHS, TIMEOUT, false);
        remote.open(&open, LIMIT).map_err(failed)?;
        let silent: Vec<_> = (0..DEVICES).map(|disk| (disk, Behaviour::Hang)).collect();
        rig.set_many(&silent).map_err(rig_failed)?;
        let swept = remote
            .sweep(1, Duration::ZERO, SWEEP_LIMIT)
            .map_err(failed)?;
        if swept.tally.good > 0 {
            return Err("silent paths were called good".to_owned());
        }
        let ns: u64 = swept.sweep_ns.iter().sum();
        let each = remote.lateness_us(SWEEP_LIMIT).map_err(failed)?;
        let each_ms: Vec<f64> = each.iter().map(|us| *us as f64 / 1e3).collect();
        rounds.push(Late {
            last_ms: (ns as f64 - TIMEOUT.as_nanos() as f64) / 1e6,
            p99_ms: percentile(&each_ms, 99.0),
        });
        drop(remote);
        for disk in 0..DEVICES {
            rig.set(disk, Behaviour::Answer).map_err(rig_failed)?;
            rig.release(disk, Release::Data).map_err(rig_failed)?;
        }
    }
    Ok(rounds)
}
