//! What healthy paths feel of sick ones: how long their checks take while a tenth of all paths
//! hangs, and while half a tenth is saturated on top.

use std::path::PathBuf;
use std::time::Duration;

use pathpulse_faultdisk::{Behaviour, Load, Rig, Spec};
use serde::Serialize;

use crate::FIO;
use crate::contest::LIMIT;
use crate::devices::Bed;
use crate::figures::{percentile, rounded};
use crate::plan::{Plan, Refusal, open_ask};
use crate::progress::Progress;
use crate::remote::{Remote, Trouble};

/// Devices, each with as many paths.
const HEALTHY: usize = 34;
const HANGING: usize = 4;
const SATURATED: usize = 2;
const PATHS_EACH: usize = 25;
const PATHS: usize = (HEALTHY + HANGING + SATURATED) * PATHS_EACH;
/// The plugin knows seconds only.
const TIMEOUT: Duration = Duration::from_secs(1);
/// A sweep that takes longer waits for a sick device.
const SWEEP_LIMIT: Duration = Duration::from_secs(5);
/// Sweeps whose latencies are put together.
const SWEEPS: usize = 10;
const SICK_SWEEPS: usize = 4;

/// Latencies of the healthy paths' checks, in milliseconds. `None`: the sweep did not end, or there
/// is a reason that says more.
#[derive(Clone, Debug, Default, Serialize)]
pub struct FaultRow {
    /// Its name.
    pub name: &'static str,
    /// Half of the checks, without faults.
    pub healthy_ms_p50: Option<f64>,
    /// 99 of 100 checks, without faults.
    pub healthy_ms_p99: Option<f64>,
    /// 99 of 100 checks, while a tenth of the paths hangs.
    pub hanging_ms_p99: Option<f64>,
    /// The same with half a tenth saturated.
    pub saturated_ms_p99: Option<f64>,
    /// Why a figure is missing.
    pub reason: Option<String>,
}

pub(crate) fn run(
    plan: &Plan,
    names: &[&'static str],
    progress: &Progress,
) -> Result<Vec<FaultRow>, Refusal> {
    let bed = Bed::of(HEALTHY)?;
    let rig = Rig::start_with(plan.rig_command(), &Spec::loops(HANGING + SATURATED))
        .map_err(|error| Refusal(format!("no devices that hang: {error}")))?;
    let mut rows = Vec::new();
    for &name in names {
        progress.step(&format!("{name}: healthy paths beside sick ones"))?;
        let mut row = FaultRow {
            name,
            ..FaultRow::default()
        };
        if name == FIO {
            row.reason = Some("fio has no paths that could be told apart".to_owned());
        } else if let Err(reason) = measure(plan, &bed, &rig, &mut row) {
            row.reason = Some(reason);
        }
        for disk in 0..HANGING + SATURATED {
            let _ = rig.recover(disk);
        }
        rows.push(row);
    }
    Ok(rows)
}

fn measure(plan: &Plan, bed: &Bed, rig: &Rig, row: &mut FaultRow) -> Result<(), String> {
    let failed = |trouble: Trouble| trouble.reason("its sweep waits for a sick device");
    let rig_failed = |error: std::io::Error| format!("the devices that hang: {error}");
    let sick = rig.disks().iter().map(|disk| disk.path().to_owned());
    let devices: Vec<PathBuf> = bed.paths().iter().cloned().chain(sick).collect();
    let mut remote = Remote::start(plan.child_command(row.name)).map_err(failed)?;
    let open = open_ask(&devices, PATHS, TIMEOUT, true);
    remote.open(&open, LIMIT).map_err(failed)?;
    let calm = latencies_ms(&mut remote, SWEEPS).map_err(failed)?;
    if calm.is_empty() {
        return Err("it does not know which of its checks took how long".to_owned());
    }
    row.healthy_ms_p50 = percentile(&calm, 50.0).map(rounded);
    row.healthy_ms_p99 = percentile(&calm, 99.0).map(rounded);
    let hang: Vec<_> = (0..HANGING).map(|disk| (disk, Behaviour::Hang)).collect();
    rig.set_many(&hang).map_err(rig_failed)?;
    let hanging = latencies_ms(&mut remote, SICK_SWEEPS).map_err(failed)?;
    row.hanging_ms_p99 = percentile(&hanging, 99.0).map(rounded);
    for disk in HANGING..HANGING + SATURATED {
        rig.saturate(disk, Load::Dead).map_err(rig_failed)?;
    }
    let saturated = latencies_ms(&mut remote, SICK_SWEEPS).map_err(failed)?;
    row.saturated_ms_p99 = percentile(&saturated, 99.0).map(rounded);
    Ok(())
}

/// Of all checks of the paths on healthy devices. One that was not good took for ever.
fn latencies_ms(remote: &mut Remote, sweeps: usize) -> Result<Vec<f64>, Trouble> {
    let mut all = Vec::new();
    for _ in 0..sweeps {
        remote.sweep(1, Duration::ZERO, SWEEP_LIMIT)?;
        let paths = remote.latencies_us(LIMIT)?;
        let devices = paths.iter().enumerate();
        let healthy = devices.filter(|(path, _)| path % (PATHS / PATHS_EACH) < HEALTHY);
        all.extend(healthy.map(|(_, us)| us.map_or(f64::INFINITY, |us| us as f64 / 1e3)));
    }
    Ok(all)
}
