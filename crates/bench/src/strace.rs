//! System calls of contenders that can't count their own. strace counts those of two runs with
//! different numbers of sweeps. The difference belongs to the additional sweeps.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::FIO;
use crate::child::RequestMsg;
use crate::comparison::TIMEOUT;
use crate::fio;
use crate::plan::{Plan, open_request};

/// The sweeps of the two runs.
const FEW: u64 = 2;
const MANY: u64 = 10;
/// The reads of the two runs of fio.
const FEW_READS: u64 = 50_000;
const MANY_READS: u64 = 250_000;
/// How long each run may take.
const LIMIT: Duration = Duration::from_secs(60);

/// System calls of a contender per check.
pub(crate) fn syscalls_per_check(
    plan: &Plan,
    name: &str,
    devices: &[PathBuf],
    paths: usize,
) -> Result<f64, String> {
    if name == FIO {
        let count = |reads: u64| trace(&fio::command_with_reads(devices, paths, reads), &[]);
        return per_check(
            count(FEW_READS)?,
            count(MANY_READS)?,
            MANY_READS - FEW_READS,
        );
    }
    let count = |sweeps| trace(&plan.child_command(name), &input(devices, paths, sweeps)?);
    per_check(count(FEW)?, count(MANY)?, (MANY - FEW) * paths as u64)
}

/// System calls per check, from two runs that differ by this many checks. On a busy machine the
/// threads wait for each other more or less often, and with few paths that may hide the difference.
fn per_check(few: u64, many: u64, checks: u64) -> Result<f64, String> {
    if many <= few {
        return Err(format!(
            "strace counted {few} system calls in a short run and {many} in a long one; use more paths"
        ));
    }
    Ok((many - few) as f64 / checks as f64)
}

/// The input for a contender's process.
fn input(devices: &[PathBuf], paths: usize, sweeps: u64) -> Result<Vec<u8>, String> {
    let min_ms = 0;
    let requests = [
        open_request(devices, paths, TIMEOUT, false),
        RequestMsg::Sweep { sweeps, min_ms },
    ];
    let mut input = Vec::new();
    for request in &requests {
        serde_json::to_writer(&mut input, request).map_err(|error| error.to_string())?;
        input.push(b'\n');
    }
    Ok(input)
}

/// Runs a command under strace and returns how many system calls it made.
fn trace(command: &Command, input: &[u8]) -> Result<u64, String> {
    let summary = std::env::temp_dir().join(format!("pathpulse-strace-{}", std::process::id()));
    let counted = trace_into(&summary, command, input);
    let text = std::fs::read_to_string(&summary).unwrap_or_default();
    let _ = std::fs::remove_file(&summary);
    counted?;
    total(&text).ok_or_else(|| "the summary of strace has no total".to_owned())
}

fn trace_into(summary: &Path, command: &Command, input: &[u8]) -> Result<(), String> {
    let mut strace = Command::new("strace");
    strace
        .args(["-f", "-qq", "-c", "-U", "calls,name", "-o"])
        .arg(summary)
        .arg(command.get_program())
        .args(command.get_args())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut child = strace
        .spawn()
        .map_err(|error| format!("strace: {error} (Debian: apt install strace)"))?;
    if let Some(mut stdin) = child.stdin.take() {
        let _ = stdin.write_all(input);
    }
    let end = Instant::now() + LIMIT;
    loop {
        match child.try_wait() {
            Ok(Some(_)) => return Ok(()),
            Ok(None) if Instant::now() < end => thread::sleep(Duration::from_millis(5)),
            Ok(None) => {
                let _ = child.kill();
                return Err(format!("> {} s under strace", LIMIT.as_secs()));
            }
            Err(error) => return Err(format!("strace: {error}")),
        }
    }
}

/// The number in strace's last line.
fn total(summary: &str) -> Option<u64> {
    let line = summary.lines().rfind(|line| line.ends_with("total"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_difference_of_two_runs_is_counted() {
        assert_eq!(per_check(100, 148, 48), Ok(1.0));
        assert!(per_check(148, 148, 48).is_err_and(|why| why.contains("148")));
        assert!(per_check(150, 148, 48).is_err());
    }

    #[test]
    fn the_total_is_read() {
        let text =
            "    calls syscall\n--------- ----------------\n        8 read\n       73 total\n";
        assert_eq!(total(text), Some(73));
        assert_eq!(total("nothing"), None);
    }
}
