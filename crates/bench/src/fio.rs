//! `fio-io_uring`: the speed of fio on the same devices, with registered files and fixed buffers.
//! It keeps as many reads in flight as there are paths, at random offsets, and makes no verdicts.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::process::ContenderError;

/// fio's own recommended limit. More reads are not faster.
const DEPTH_MAX: usize = 1024;
/// The length of a read in bytes.
const BLOCK: u64 = 512;
/// How long it reads, in seconds.
const SECONDS: u64 = 1;

/// The result of a run of fio.
pub(crate) struct FioResult {
    pub(crate) reads_per_s: f64,
    pub(crate) cpu_ns_per_read: f64,
}

/// Whether fio is installed.
pub(crate) fn is_installed() -> Result<(), ContenderError> {
    let quiet = Command::new("fio")
        .arg("--version")
        .stdout(Stdio::null())
        .status();
    match quiet {
        Ok(status) if status.success() => Ok(()),
        _ => Err(ContenderError::Failed(
            "fio is not installed (Debian: apt install fio)".to_owned(),
        )),
    }
}

/// fio over these devices, with as many reads at a time as there are paths. It is fastest with
/// these batches; without batches it enters the kernel for every read.
fn command(devices: &[PathBuf], paths: usize) -> Command {
    let names: Vec<String> = devices.iter().map(|d| d.display().to_string()).collect();
    let depth = paths.min(DEPTH_MAX);
    let batch = depth.min(64);
    let mut command = Command::new("fio");
    command.args([
        "--name=fio",
        "--ioengine=io_uring",
        "--registerfiles",
        "--fixedbufs",
        "--rw=randread",
        "--norandommap",
        "--direct=1",
        "--readonly",
        "--gtod_reduce=1",
        "--file_service_type=roundrobin:1",
        "--output-format=json",
    ]);
    // A colon ends a name, unless it is escaped.
    let names: Vec<String> = names.iter().map(|name| name.replace(':', "\\:")).collect();
    command
        .arg(format!("--filename={}", names.join(":")))
        .arg(format!("--bs={BLOCK}"))
        .arg(format!("--iodepth={depth}"))
        .arg(format!("--iodepth_batch_submit={batch}"))
        .arg(format!(
            "--iodepth_batch_complete_min={}",
            batch.div_ceil(2)
        ))
        .arg(format!("--iodepth_batch_complete_max={}", batch * 2));
    command
}

/// fio that ends after this many reads.
pub(crate) fn command_with_reads(devices: &[PathBuf], paths: usize, reads: u64) -> Command {
    let mut command = command(devices, paths);
    command.arg(format!("--io_size={}", reads * BLOCK));
    command
}

/// Runs fio for a second.
pub(crate) fn run(devices: &[PathBuf], paths: usize) -> Result<FioResult, ContenderError> {
    is_installed()?;
    let mut command = command(devices, paths);
    command.args(["--time_based", &format!("--runtime={SECONDS}")]);
    let output = command
        .output()
        .map_err(|error| ContenderError::Failed(format!("fio: {error}")))?;
    read(&output.stdout).ok_or_else(|| {
        let said = String::from_utf8_lossy(&output.stderr);
        let first = said.lines().next().unwrap_or("it failed").to_owned();
        ContenderError::Failed(format!("fio: {first}"))
    })
}

fn read(report: &[u8]) -> Option<FioResult> {
    // Warnings may precede the document.
    let start = report.iter().position(|byte| *byte == b'{')?;
    let report: Value = serde_json::from_slice(&report[start..]).ok()?;
    let job = &report["jobs"][0];
    if job["error"] != 0 {
        return None;
    }
    let reads = job["read"]["total_ios"].as_f64()?;
    let ms = job["job_runtime"].as_f64()?;
    let busy_percent = job["usr_cpu"].as_f64()? + job["sys_cpu"].as_f64()?;
    Some(FioResult {
        reads_per_s: job["read"]["iops"].as_f64()?,
        cpu_ns_per_read: busy_percent / 100.0 * ms * 1e6 / reads,
    })
}
