//! The metrics of the daemon itself, and the collector of all metrics.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use pathpulse::Monitor;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

use super::clients::ClientCounters;
use super::writer::MetricsWriter;
use super::{paths as metrics_paths, workers as metrics_workers};
use crate::daemon::events::EventCounters;
use crate::daemon::process::Predecessors;
use crate::daemon::watchlist::Watchlist;

/// The sources of all values.
pub(crate) struct MetricsSource {
    pub(crate) monitor: Arc<Monitor>,
    pub(crate) watchlist: Watchlist,
    pub(crate) clients: Arc<ClientCounters>,
    pub(crate) counters: Arc<EventCounters>,
    pub(crate) predecessors: Predecessors,
    /// When the daemon started.
    pub(crate) started: SystemTime,
}

impl fmt::Debug for MetricsSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MetricsSource").finish_non_exhaustive()
    }
}

impl Collector for MetricsSource {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut writer = MetricsWriter::new(encoder);
        self.daemon(&mut writer)?;
        self.clients(&mut writer)?;
        metrics_workers::write(&mut writer, &self.monitor.workers())?;
        metrics_paths::write(&mut writer, &self.monitor, &self.watchlist.unopened())
    }
}

impl MetricsSource {
    fn daemon(&self, writer: &mut MetricsWriter<'_>) -> fmt::Result {
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        writer.gauges(
            "build_info",
            "Always 1; the version of pathpulse",
            [(version, 1_u64)],
        )?;
        let started = self.started.duration_since(SystemTime::UNIX_EPOCH);
        let started = started.unwrap_or(Duration::ZERO);
        let help = "When the daemon started, by the wall clock, in seconds since 1970";
        writer.seconds("start_time", help, started)?;
        let settings = self.monitor.config().settings;
        let help = "Time between two checks of a path without its own interval";
        writer.seconds("interval", help, settings.interval)?;
        let help = "Time limit of a check of a path without its own timeout";
        writer.seconds("timeout", help, settings.timeout)?;
        let help = "Dead daemons of this socket that the kernel holds until their devices answer";
        writer.gauge("held_processes", help, self.predecessors.count())?;
        let help = "Events that were lost because too many came at once; the states are right";
        writer.counter("events_lost", help, self.counters.lost())?;
        let help = "Programs that were not run on an event because the queue was full";
        let lost = self.counters.hooks_lost();
        writer.counter("hooks_lost", help, lost)
    }

    fn clients(&self, writer: &mut MetricsWriter<'_>) -> fmt::Result {
        let clients = self.clients.document();
        writer.gauge("clients", "Connected clients", clients.here)?;
        let reasons = [
            ("no_room", clients.turned_away),
            ("too_slow", clients.too_slow),
        ];
        let dropped = reasons.map(|(reason, count)| ([("reason", reason)], count));
        let help =
            "Clients that were dropped: the limit was reached, or they did not read their answer";
        writer.counters("clients_dropped", help, dropped)
    }
}
