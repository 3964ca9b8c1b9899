//! The results of a run.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::oracle::Finding;
use crate::usage::Usage;

/// See the module documentation.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Injected faults, by kind.
    pub faults: BTreeMap<&'static str, u64>,
    /// The times until faults were detected, by kind.
    pub detected: BTreeMap<&'static str, Vec<Duration>>,
    /// The times until disks were found healthy again.
    pub recovered: Vec<Duration>,
    /// The times from the daemon's event timestamps to their arrival.
    pub delivery: Vec<Duration>,
    /// Number of the daemon's events.
    pub events: u64,
    /// Number of its checks.
    pub checks: u64,
    /// Number of its checks with an unknown result.
    pub unknown: u64,
    /// Its backend.
    pub backend: String,
    /// The daemon's usage before the first fault.
    pub usage_first: Usage,
    /// The maximum of its usage.
    pub usage_max: Usage,
    /// Its usage at the end.
    pub usage_last: Usage,
    /// How long the machine stalled, according to the control disk.
    pub stalled: Duration,
    /// Violations that are excused by stalls of the machine.
    pub excused: Vec<String>,
    /// Violations, with seed, disk and time.
    pub violations: Vec<String>,
}

impl Report {
    /// The number of injected faults.
    pub fn injected(&self) -> u64 {
        self.faults.values().sum()
    }

    pub(crate) fn record_fault(&mut self, kind: &'static str) {
        *self.faults.entry(kind).or_default() += 1;
    }

    pub(crate) fn record_times(&mut self, finding: &Finding) {
        if let Some((kind, time)) = finding.detected {
            self.detected.entry(kind).or_default().push(time);
        }
        self.recovered.extend(finding.recovered);
    }
}

/// Percentiles of the times, in milliseconds.
fn times(f: &mut fmt::Formatter<'_>, name: &str, times: &[Duration]) -> fmt::Result {
    let mut sorted = times.to_vec();
    sorted.sort();
    let Some(longest) = sorted.last() else {
        return Ok(());
    };
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    let part = |per_cent: usize| ms(sorted[(sorted.len() - 1) * per_cent / 100]);
    writeln!(
        f,
        "{name:>10}  {:>7}  {:>8.1}  {:>8.1}  {:>8.1}",
        sorted.len(),
        part(50),
        part(99),
        ms(*longest)
    )
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds = self.faults.iter();
        let kinds: Vec<String> = kinds
            .map(|(kind, count)| format!("{kind} {count}"))
            .collect();
        writeln!(f, "faults: {}", kinds.join(", "))?;
        writeln!(
            f,
            "{} events and {} checks ({} unknown), backend {}",
            self.events, self.checks, self.unknown, self.backend
        )?;
        writeln!(f, "detected      count    p50 ms    p99 ms    max ms")?;
        for (kind, all) in &self.detected {
            times(f, kind, all)?;
        }
        let all: Vec<Duration> = self.detected.values().flatten().copied().collect();
        times(f, "all", &all)?;
        times(f, " recovered", &self.recovered)?;
        times(f, "  delivery", &self.delivery)?;
        let (stalled, excused) = (self.stalled.as_secs_f64(), self.excused.len());
        writeln!(
            f,
            "the machine stalled for {stalled:.1} s in total, which excused {excused}"
        )?;
        for excused in &self.excused {
            writeln!(f, "EXCUSED: {excused}")?;
        }
        writeln!(f, "usage, first: {}", self.usage_first)?;
        writeln!(f, "usage, max:   {}", self.usage_max)?;
        writeln!(f, "usage, last:  {}", self.usage_last)?;
        for violation in &self.violations {
            writeln!(f, "VIOLATION: {violation}")?;
        }
        let (faults, violations) = (self.injected(), self.violations.len());
        writeln!(f, "{faults} faults, {violations} violations")
    }
}
