//! Teardown while reads are stuck at a device that does not answer.

use std::path::PathBuf;
use std::time::Duration;

use pathpulse_faultdisk::{Behaviour, Rig, Spec};

use crate::FIO;
use crate::devices::Bed;
use crate::plan::{Plan, Refusal, open_ask};
use crate::progress::Progress;
use crate::remote::{Remote, Trouble};
use crate::report::Report;

const FIELD: &str = "teardown_stuck_ms";
/// Deadline of the checks; the plugin knows seconds only.
const TIMEOUT: Duration = Duration::from_secs(1);
/// What takes longer will take as long as the device likes.
const LIMIT: Duration = Duration::from_secs(4);

/// Adds the teardowns to the report. Of the paths, those of one device hang.
pub(crate) fn stuck_teardowns(
    plan: &Plan,
    bed: &Bed,
    report: &mut Report,
    progress: &Progress,
) -> Result<(), Refusal> {
    let rig = if bed.is_ours() {
        Rig::start_with(plan.rig_command(), &Spec::loops(1)).map_err(|error| error.to_string())
    } else {
        Err("needs a device that hangs; run it without naming devices".to_owned())
    };
    for row in &mut report.contenders {
        if row.reasons.contains_key(FIELD) || row.name == FIO {
            continue;
        }
        progress.step(&format!("{}: is torn down while reads are stuck", row.name))?;
        let torn = match &rig {
            Ok(rig) => stuck_teardown(plan, row.name, bed, rig, report.paths),
            Err(reason) => Err(reason.clone()),
        };
        match torn {
            Ok(took) => row.enter_once(FIELD, took.as_secs_f64() * 1e3),
            Err(reason) => row.lacks(FIELD, reason),
        }
    }
    Ok(())
}

fn stuck_teardown(
    plan: &Plan,
    name: &str,
    bed: &Bed,
    rig: &Rig,
    paths: usize,
) -> Result<Duration, String> {
    let failed = |trouble: Trouble| trouble.reason("it did not even begin");
    let rig_failed = |error: std::io::Error| format!("the device that hangs: {error}");
    let mut devices: Vec<PathBuf> = bed.paths().to_vec();
    devices.pop();
    devices.push(rig.disk(0).path().to_owned());
    let mut remote = Remote::start(plan.child_command(name)).map_err(failed)?;
    let open = open_ask(&devices, paths, TIMEOUT, false);
    remote.open(&open, crate::contest::LIMIT).map_err(failed)?;
    rig.set(0, Behaviour::Hang).map_err(rig_failed)?;
    let torn = remote
        .sweep(1, Duration::ZERO, LIMIT)
        .map_err(|trouble| trouble.reason("its sweep waits for the silent device"))
        .and_then(|swept| {
            if swept.tally.bad == 0 {
                return Err("no read was stuck".to_owned());
            }
            remote
                .tear_down(LIMIT)
                .map_err(|trouble| trouble.reason("its teardown waits for the silent device"))
        });
    // A process that waits for the device is left; it ends when the device answers.
    drop(remote);
    rig.recover(0).map_err(rig_failed)?;
    torn
}
