//! Teardown while reads are stuck at a device that does not answer.

use std::path::PathBuf;
use std::time::Duration;

use pathpulse_faultdisk::{Behaviour, Rig, Spec};

use crate::FIO;
use crate::devices::TestDevices;
use crate::plan::{BenchError, Plan, open_request};
use crate::process::{ContenderError, ContenderProcess};
use crate::progress::Progress;
use crate::report::Report;

const FIELD: &str = "teardown_stuck_ms";
/// Deadline of the checks. The plugin supports only whole seconds.
const TIMEOUT: Duration = Duration::from_secs(1);
/// A step that takes longer ends only when the device answers.
const LIMIT: Duration = Duration::from_secs(4);

/// Adds the teardowns to the report. The paths of one device hang.
pub(crate) fn stuck_teardowns(
    plan: &Plan,
    devices: &TestDevices,
    report: &mut Report,
    progress: &Progress,
) -> Result<(), BenchError> {
    let rig = if devices.are_temporary() {
        Rig::start_with(plan.rig_command(), &Spec::loops(1)).map_err(|error| error.to_string())
    } else {
        Err("needs a device that hangs; do not specify devices".to_owned())
    };
    for row in &mut report.contenders {
        if row.reasons.contains_key(FIELD) || row.name == FIO {
            continue;
        }
        progress.step(&format!("{}: tearing down with stuck reads", row.name))?;
        let torn = match &rig {
            Ok(rig) => stuck_teardown(plan, row.name, devices, rig, report.paths),
            Err(reason) => Err(reason.clone()),
        };
        match torn {
            Ok(took) => row.record_once(FIELD, took.as_secs_f64() * 1e3),
            Err(reason) => row.set_reason(FIELD, reason),
        }
    }
    Ok(())
}

fn stuck_teardown(
    plan: &Plan,
    name: &str,
    devices: &TestDevices,
    rig: &Rig,
    paths: usize,
) -> Result<Duration, String> {
    let failed = |error: ContenderError| error.reason("the setup did not end");
    let rig_failed =
        |error: std::io::Error| format!("cannot control the device that hangs: {error}");
    let mut devices: Vec<PathBuf> = devices.paths().to_vec();
    devices.pop();
    devices.push(rig.disk(0).path().to_owned());
    let mut process = ContenderProcess::start(plan.child_command(name)).map_err(failed)?;
    let open = open_request(&devices, paths, TIMEOUT, false);
    process
        .open(&open, crate::comparison::LIMIT)
        .map_err(failed)?;
    rig.set(0, Behaviour::Hang).map_err(rig_failed)?;
    let torn = process
        .sweep(1, Duration::ZERO, LIMIT)
        .map_err(|error| error.reason("the sweep waits for the silent device"))
        .and_then(|swept| {
            if swept.path_counts.bad == 0 {
                return Err("no read was stuck".to_owned());
            }
            process
                .tear_down(LIMIT)
                .map_err(|error| error.reason("the teardown waits for the silent device"))
        });
    // A process that waits for the device is left behind. It ends when the device answers.
    drop(process);
    rig.recover(0).map_err(rig_failed)?;
    torn
}
