//! The resource usage of a process, from `/proc`.

use std::fmt;
use std::io;

/// The daemon's resource usage at one time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Resident memory in KiB.
    pub rss_kib: u64,
    /// Open file descriptors.
    pub descriptors: u64,
    /// Threads, including kernel threads that work for the process.
    pub threads: u64,
    /// Paths with a stuck read.
    pub stuck: u64,
}

impl Usage {
    /// The usage of a process that has this many stuck reads.
    ///
    /// # Errors
    /// The process has ended.
    pub fn of(pid: u32, stuck: u64) -> io::Result<Usage> {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse().ok()
        };
        let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd"))?.count();
        Ok(Usage {
            rss_kib: field("VmRSS:").unwrap_or(0),
            descriptors: descriptors as u64,
            threads: field("Threads:").unwrap_or(0),
            stuck,
        })
    }

    /// The maximum of each field.
    pub fn max(self, other: Usage) -> Usage {
        Usage {
            rss_kib: self.rss_kib.max(other.rss_kib),
            descriptors: self.descriptors.max(other.descriptors),
            threads: self.threads.max(other.threads),
            stuck: self.stuck.max(other.stuck),
        }
    }
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Usage {
            rss_kib,
            descriptors,
            threads,
            stuck,
        } = self;
        write!(
            f,
            "{rss_kib} KiB, {descriptors} descriptors, {threads} threads, {stuck} stuck reads"
        )
    }
}
