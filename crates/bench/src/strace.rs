//! System calls of those that can't count their own: strace counts all of two runs that differ by
//! some sweeps, so that the difference is theirs.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::FIO;
use crate::child::Ask;
use crate::contest::TIMEOUT;
use crate::fio;
use crate::plan::{Plan, open_ask};

/// Sweeps of the two runs.
const FEW: u64 = 2;
const MANY: u64 = 10;
/// Reads of fio's two runs.
const FEW_READS: u64 = 50_000;
const MANY_READS: u64 = 250_000;
/// How long each may take.
const LIMIT: Duration = Duration::from_secs(60);

/// System calls of a contender for one check.
pub(crate) fn syscalls_per_check(
    plan: &Plan,
    name: &str,
    devices: &[PathBuf],
    paths: usize,
) -> Result<f64, String> {
    if name == FIO {
        let count = |reads: u64| trace(&fio::some(devices, paths, reads), &[]);
        return apart(
            count(FEW_READS)?,
            count(MANY_READS)?,
            MANY_READS - FEW_READS,
        );
    }
    let count = |sweeps| trace(&plan.child_command(name), &input(devices, paths, sweeps)?);
    apart(count(FEW)?, count(MANY)?, (MANY - FEW) * paths as u64)
}

/// System calls of two runs that differ by so many checks, for one of these. On a busy machine threads wait for
/// each other now more and now less often, and over few paths that may be all that is seen.
fn apart(few: u64, many: u64, checks: u64) -> Result<f64, String> {
    if many <= few {
        return Err(format!(
            "strace counted {few} system calls in a short run and {many} in a long one; take more paths"
        ));
    }
    Ok((many - few) as f64 / checks as f64)
}

/// What a contender's process is asked.
fn input(devices: &[PathBuf], paths: usize, sweeps: u64) -> Result<Vec<u8>, String> {
    let least_ms = 0;
    let asks = [
        open_ask(devices, paths, TIMEOUT, false),
        Ask::Sweep { sweeps, least_ms },
    ];
    let mut input = Vec::new();
    for ask in &asks {
        serde_json::to_writer(&mut input, ask).map_err(|error| error.to_string())?;
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
    total(&text).ok_or_else(|| "strace's summary has no total".to_owned())
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
    fn what_two_runs_have_in_common_is_not_counted() {
        assert_eq!(apart(100, 148, 48), Ok(1.0));
        assert!(apart(148, 148, 48).is_err_and(|why| why.contains("148")));
        assert!(apart(150, 148, 48).is_err());
    }

    #[test]
    fn the_total_is_read() {
        let text =
            "    calls syscall\n--------- ----------------\n        8 read\n       73 total\n";
        assert_eq!(total(text), Some(73));
        assert_eq!(total("nothing"), None);
    }
}
