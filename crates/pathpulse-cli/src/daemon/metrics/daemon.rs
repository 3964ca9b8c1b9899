//! The metrics of the daemon itself, and where all metrics come from.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime};

use pathpulse::Monitor;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

use super::writer::Sheet;
use super::{paths as metrics_paths, workers as metrics_workers};
use crate::daemon::http::peers::Clients;
use crate::daemon::process::Predecessors;
use crate::daemon::watchlist::Roster;

/// What is counted for the metrics, since nobody else remembers it.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    lost: AtomicU64,
    lost_to_hooks: AtomicU64,
}

impl Tally {
    /// Counts events that nobody took in time.
    pub(crate) fn count_lost(&self, lost: u64) {
        self.lost.fetch_add(lost, Relaxed);
    }

    /// Counts a program that was not run on an event.
    pub(crate) fn count_lost_to_hooks(&self) {
        self.lost_to_hooks.fetch_add(1, Relaxed);
    }
}

/// Where the numbers come from.
pub(crate) struct Source {
    pub(crate) monitor: Arc<Monitor>,
    pub(crate) roster: Roster,
    pub(crate) clients: Arc<Clients>,
    pub(crate) tally: Arc<Tally>,
    pub(crate) predecessors: Predecessors,
    /// When the daemon did.
    pub(crate) started: SystemTime,
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").finish_non_exhaustive()
    }
}

impl Collector for Source {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut sheet = Sheet::new(encoder);
        self.daemon(&mut sheet)?;
        self.clients(&mut sheet)?;
        metrics_workers::write(&mut sheet, &self.monitor.workers())?;
        metrics_paths::write(&mut sheet, &self.monitor, &self.roster.waiting())
    }
}

impl Source {
    fn daemon(&self, sheet: &mut Sheet<'_>) -> fmt::Result {
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        sheet.gauges("build_info", "Which pathpulse this is", [(version, 1_u64)])?;
        let started = self.started.duration_since(SystemTime::UNIX_EPOCH);
        let started = started.unwrap_or(Duration::ZERO);
        let help = "When the daemon started, by the wall clock, in seconds since 1970";
        sheet.seconds("start_time", help, started)?;
        let settings = self.monitor.config().settings;
        let help = "From check to check of a path without an interval of its own";
        sheet.seconds("interval", help, settings.interval)?;
        let help = "How long a check of a path without a timeout of its own may take";
        sheet.seconds("timeout", help, settings.timeout)?;
        let help = "Dead daemons of this socket that the kernel holds until devices answer them";
        sheet.gauge("held_processes", help, self.predecessors.count())?;
        let help = "Events that nobody heard of because too many came at once; states are right";
        sheet.counter("events_lost", help, self.tally.lost.load(Relaxed))?;
        let help = "Programs that were not run on an event because too many waited already";
        let lost = self.tally.lost_to_hooks.load(Relaxed);
        sheet.counter("hooks_lost", help, lost)
    }

    fn clients(&self, sheet: &mut Sheet<'_>) -> fmt::Result {
        let clients = self.clients.document();
        sheet.gauge("clients", "Clients that are connected", clients.here)?;
        let reasons = [
            ("no_room", clients.turned_away),
            ("too_slow", clients.too_slow),
        ];
        let dropped = reasons.map(|(reason, count)| ([("reason", reason)], count));
        let help = "Clients that were left: there was no room for them, or they did not read";
        sheet.counters("clients_dropped", help, dropped)
    }
}
