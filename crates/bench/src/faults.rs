//! The effect of faulty paths on healthy ones: how long the checks of healthy paths take while 10 %
//! of all paths hang, and while 5 % are saturated in addition.

use std::path::PathBuf;
use std::time::Duration;

use pathpulse_faultdisk::{Behaviour, Load, Rig, Spec};
use serde::Serialize;

use crate::FIO;
use crate::comparison::LIMIT;
use crate::devices::TestDevices;
use crate::plan::{BenchError, Plan, open_request};
use crate::process::{ContenderError, ContenderProcess};
use crate::progress::Progress;
use crate::stats::{percentile, rounded};

/// The numbers of devices. Each has the same number of paths.
const HEALTHY: usize = 34;
const HANGING: usize = 4;
const SATURATED: usize = 2;
const PATHS_EACH: usize = 25;
const PATHS: usize = (HEALTHY + HANGING + SATURATED) * PATHS_EACH;
/// The plugin supports only whole seconds.
const TIMEOUT: Duration = Duration::from_secs(1);
/// A sweep that takes longer waits for a faulty device.
const SWEEP_LIMIT: Duration = Duration::from_secs(5);
/// Sweeps whose latencies are combined.
const SWEEPS: usize = 10;
const FAULTY_SWEEPS: usize = 4;

/// Latencies of the healthy paths' checks, in milliseconds. `None` if the sweep did not end, or for
/// another reason.
#[derive(Clone, Debug, Default, Serialize)]
pub struct FaultRow {
    /// The contender's name.
    pub name: &'static str,
    /// The median, without faults.
    pub healthy_ms_p50: Option<f64>,
    /// The 99th percentile, without faults.
    pub healthy_ms_p99: Option<f64>,
    /// The 99th percentile while 10 % of the paths hang.
    pub hanging_ms_p99: Option<f64>,
    /// The same with another 5 % saturated.
    pub saturated_ms_p99: Option<f64>,
    /// Why a value is missing.
    pub reason: Option<String>,
}

pub(crate) fn run(
    plan: &Plan,
    names: &[&'static str],
    progress: &Progress,
) -> Result<Vec<FaultRow>, BenchError> {
    let devices = TestDevices::of(HEALTHY)?;
    let rig = Rig::start_with(plan.rig_command(), &Spec::loops(HANGING + SATURATED))
        .map_err(|error| BenchError(format!("cannot create devices that hang: {error}")))?;
    let mut rows = Vec::new();
    for &name in names {
        progress.step(&format!(
            "{name}: sweeping healthy paths next to faulty ones"
        ))?;
        let mut row = FaultRow {
            name,
            ..FaultRow::default()
        };
        if name == FIO {
            row.reason = Some("fio does not report single paths".to_owned());
        } else if let Err(reason) = measure(plan, &devices, &rig, &mut row) {
            row.reason = Some(reason);
        }
        for disk in 0..HANGING + SATURATED {
            let _ = rig.recover(disk);
        }
        rows.push(row);
    }
    Ok(rows)
}

fn measure(
    plan: &Plan,
    devices: &TestDevices,
    rig: &Rig,
    row: &mut FaultRow,
) -> Result<(), String> {
    let failed = |error: ContenderError| error.reason("the sweep waits for a faulty device");
    let rig_failed =
        |error: std::io::Error| format!("cannot control the devices that hang: {error}");
    let faulty = rig.disks().iter().map(|disk| disk.path().to_owned());
    let devices: Vec<PathBuf> = devices.paths().iter().cloned().chain(faulty).collect();
    let mut process = ContenderProcess::start(plan.child_command(row.name)).map_err(failed)?;
    let open = open_request(&devices, PATHS, TIMEOUT, true);
    process.open(&open, LIMIT).map_err(failed)?;
    let healthy = latencies_ms(&mut process, SWEEPS).map_err(failed)?;
    if healthy.is_empty() {
        return Err("it does not measure single checks".to_owned());
    }
    row.healthy_ms_p50 = percentile(&healthy, 50.0).map(rounded);
    row.healthy_ms_p99 = percentile(&healthy, 99.0).map(rounded);
    let hang: Vec<_> = (0..HANGING).map(|disk| (disk, Behaviour::Hang)).collect();
    rig.set_many(&hang).map_err(rig_failed)?;
    let hanging = latencies_ms(&mut process, FAULTY_SWEEPS).map_err(failed)?;
    row.hanging_ms_p99 = percentile(&hanging, 99.0).map(rounded);
    for disk in HANGING..HANGING + SATURATED {
        rig.saturate(disk, Load::Dead).map_err(rig_failed)?;
    }
    let saturated = latencies_ms(&mut process, FAULTY_SWEEPS).map_err(failed)?;
    row.saturated_ms_p99 = percentile(&saturated, 99.0).map(rounded);
    Ok(())
}

/// Latencies of all checks of paths on healthy devices. A check that was not good counts as
/// endless.
fn latencies_ms(process: &mut ContenderProcess, sweeps: usize) -> Result<Vec<f64>, ContenderError> {
    let mut all = Vec::new();
    for _ in 0..sweeps {
        process.sweep(1, Duration::ZERO, SWEEP_LIMIT)?;
        let paths = process.latencies_us(LIMIT)?;
        let devices = paths.iter().enumerate();
        let healthy = devices.filter(|(path, _)| path % (PATHS / PATHS_EACH) < HEALTHY);
        all.extend(healthy.map(|(_, us)| us.map_or(f64::INFINITY, |us| us as f64 / 1e3)));
    }
    Ok(all)
}
