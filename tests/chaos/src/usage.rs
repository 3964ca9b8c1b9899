//! What a process uses, from `/proc`.

use std::fmt;
use std::io;

/// What the daemon uses at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Memory that is its own or mapped and present, in KiB.
    pub rss_kib: u64,
    /// Open descriptors.
    pub descriptors: u64,
    /// Threads, those of the kernel for it included.
    pub threads: u64,
    /// Paths with a stuck read.
    pub stuck: u64,
}

impl Usage {
    /// Of this process, which has so many stuck reads.
    ///
    /// # Errors
    /// It is gone.
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

    /// The most of each.
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
