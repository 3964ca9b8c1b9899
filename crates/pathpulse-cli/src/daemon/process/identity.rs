//! Whether a process is alive, gone, or dead and still held by the kernel, as proc(5) shows it.
//!
//! A process with a read at a silent device can't end, not even by SIGKILL: the kernel keeps it
//! with all that it has open. It never runs its own code again, so another process may take over
//! what it owns. That is so once each of its threads has ended (`Z`, `X`), is ending
//! (`PF_EXITING`), or has SIGKILL pending, which no thread can block or handle (signal(7)). A
//! stopped process has none of these: it is alive.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};
use serde::{Deserialize, Serialize};

/// `PF_EXITING` of the kernel's include/linux/sched.h: field `flags` of proc_pid_stat(5).
const EXITING: u64 = 0x4;
/// SIGKILL is number 9, and signal n is bit n - 1 in the masks of proc_pid_status(5).
const SIGKILL_BIT: u64 = 1 << 8;

/// A process, distinct from later processes with the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProcessId {
    pub(crate) pid: i32,
    /// When it started, in clock ticks since boot: field `starttime` of proc_pid_stat(5).
    pub(crate) start_ticks: u64,
}

/// Whether a process is alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    /// It runs, or may run again.
    Lives,
    /// It never runs again, but the kernel can't end it yet.
    Held,
    /// It does not exist any more, or only its exit status is left.
    Gone,
    /// It exists, but /proc does not show it: it belongs to another user.
    Hidden,
}

impl ProcessId {
    /// This process; `None` without /proc.
    pub(crate) fn own() -> Option<ProcessId> {
        ProcessId::of(std::process::id().cast_signed())
    }

    /// The process with this number now; `None` if /proc shows none.
    pub(crate) fn of(pid: i32) -> Option<ProcessId> {
        let start_ticks = Stat::of(Path::new(&format!("/proc/{pid}")))?.start_ticks;
        Some(ProcessId { pid, start_ticks })
    }

    /// Processes of this name that the kernel holds.
    pub(crate) fn all_held(name: &str) -> Vec<ProcessId> {
        let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
        let of_name = processes.filter_map(|process| {
            let pid = process.file_name().to_str()?.parse().ok()?;
            let comm = fs::read(process.path().join("comm")).ok()?;
            (comm.trim_ascii() == name.as_bytes()).then(|| ProcessId::of(pid))?
        });
        of_name.filter(|id| id.life() == Life::Held).collect()
    }

    /// Whether it is alive now. Reads only /proc, which waits for no device.
    pub(crate) fn life(self) -> Life {
        self.life_below(Path::new("/proc"))
    }

    fn life_below(self, proc: &Path) -> Life {
        let folder = proc.join(self.pid.to_string());
        let Some(leader) = Stat::of(&folder) else {
            return match Pid::from_raw(self.pid).map(test_kill_process) {
                Some(Err(Errno::SRCH)) => Life::Gone,
                _ => Life::Hidden,
            };
        };
        if leader.start_ticks != self.start_ticks {
            return Life::Gone;
        }
        let threads = match fs::read_dir(folder.join("task")) {
            Ok(threads) => threads,
            Err(error) if error.kind() == ErrorKind::NotFound => return Life::Gone,
            Err(_) => return Life::Hidden,
        };
        let mut left = false;
        for thread in threads.flatten() {
            let thread = thread.path();
            // A thread that has ended since the folder was read does not matter.
            let Some(stat) = Stat::of(&thread) else {
                continue;
            };
            if stat.has_ended() {
                continue;
            }
            if !stat.is_exiting() && !is_killed(&thread) {
                return Life::Lives;
            }
            left = true;
        }
        if left { Life::Held } else { Life::Gone }
    }
}

/// Some fields of proc_pid_stat(5).
#[derive(Debug, PartialEq)]
struct Stat {
    state: char,
    flags: u64,
    start_ticks: u64,
}

impl Stat {
    fn of(folder: &Path) -> Option<Stat> {
        // A name may contain any bytes.
        let stat = fs::read(folder.join("stat")).ok()?;
        Stat::parse(&String::from_utf8_lossy(&stat))
    }

    fn parse(stat: &str) -> Option<Stat> {
        // The second field is a name in parentheses, and the name may contain parentheses, too.
        let mut fields = stat.rsplit_once(") ")?.1.split(' ');
        Some(Stat {
            state: fields.next()?.chars().next()?,
            flags: fields.nth(5)?.parse().ok()?,
            start_ticks: fields.nth(12)?.parse().ok()?,
        })
    }

    fn has_ended(&self) -> bool {
        matches!(self.state, 'Z' | 'X')
    }

    fn is_exiting(&self) -> bool {
        self.flags & EXITING != 0
    }
}

/// Whether SIGKILL is pending for a thread or for its whole process.
fn is_killed(thread: &Path) -> bool {
    let status = fs::read_to_string(thread.join("status")).unwrap_or_default();
    let masks = status.lines().filter_map(|line| {
        let mask = line
            .strip_prefix("SigPnd:")
            .or_else(|| line.strip_prefix("ShdPnd:"))?;
        u64::from_str_radix(mask.trim(), 16).ok()
    });
    masks.into_iter().any(|mask| mask & SIGKILL_BIT != 0)
}

/// The kernel's name for this boot; empty where it can't be read.
pub(crate) fn boot_id() -> String {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    use rustix::process::{Signal, WaitOptions, kill_process, waitpid};

    /// A process below a folder that stands for /proc, and its threads: state, flags, pending
    /// signals.
    fn process(threads: &[(char, u64, u64)]) -> (tempfile::TempDir, ProcessId) {
        let proc = tempfile::tempdir().expect("a folder");
        let folder = proc.path().join("42");
        for (number, (state, flags, pending)) in threads.iter().enumerate() {
            let stat =
                format!("42 (a) b (c) {state} 1 1 1 0 -1 {flags} 0 0 0 0 0 0 0 0 20 0 1 0 777 0 0");
            let thread = folder.join("task").join(number.to_string());
            fs::create_dir_all(&thread).expect("folders");
            fs::write(thread.join("stat"), &stat).expect("written");
            let status = format!("Name:\ta\nSigPnd:\t{pending:016x}\nShdPnd:\t0000000000000000\n");
            fs::write(thread.join("status"), status).expect("written");
            if number == 0 {
                fs::write(folder.join("stat"), stat).expect("written");
            }
        }
        let id = ProcessId {
            pid: 42,
            start_ticks: 777,
        };
        (proc, id)
    }

    #[test]
    fn only_what_never_runs_again_is_held() {
        for (threads, life) in [
            (&[('S', 0, 0)][..], Life::Lives),
            // Stopped, or waiting for a device: it runs again later.
            (&[('T', 0x40_0040, 0)], Life::Lives),
            (&[('D', 0, 0)], Life::Lives),
            // SIGTERM is pending.
            (&[('D', 0, 1 << 14)], Life::Lives),
            (&[('D', 0, SIGKILL_BIT)], Life::Held),
            (&[('D', EXITING, 0)], Life::Held),
            (&[('Z', EXITING, 0), ('D', 0, SIGKILL_BIT)], Life::Held),
            // A leader that ended by itself is no sign that the others do.
            (&[('Z', EXITING, 0), ('S', 0, 0)], Life::Lives),
            (&[('D', EXITING, 0), ('S', 0, 0)], Life::Lives),
            (&[('Z', EXITING, 0)], Life::Gone),
            (&[('Z', EXITING, 0), ('X', EXITING, 0)], Life::Gone),
        ] {
            let (proc, id) = process(threads);
            assert_eq!(id.life_below(proc.path()), life, "{threads:?}");
            let later = ProcessId {
                start_ticks: 778,
                ..id
            };
            assert_eq!(later.life_below(proc.path()), Life::Gone, "{threads:?}");
        }
    }

    #[test]
    fn real_processes_live_are_stopped_and_end() {
        assert_eq!(ProcessId::own().expect("/proc").life(), Life::Lives);
        let mut child = Command::new("cat")
            .stdin(Stdio::piped())
            .spawn()
            .expect("starts");
        let pid = Pid::from_child(&child);
        let id = ProcessId::of(pid.as_raw_pid()).expect("/proc");
        assert_eq!(id.life(), Life::Lives);
        kill_process(pid, Signal::STOP).expect("it is there");
        waitpid(Some(pid), WaitOptions::UNTRACED).expect("stopped");
        assert_eq!(id.life(), Life::Lives);
        child.kill().expect("it is there");
        child.wait().expect("ends");
        assert_eq!(id.life(), Life::Gone);
    }
}
