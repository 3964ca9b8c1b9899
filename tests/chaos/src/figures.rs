//! What a run came to.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::judge::Finding;
use crate::usage::Usage;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// Faults injected, by kind.
    pub faults: BTreeMap<&'static str, u64>,
    /// How long it took until each was noticed that had to be, by kind.
    pub detected: BTreeMap<&'static str, Vec<Duration>>,
    /// How long it took until each disk was found to be well again.
    pub recovered: Vec<Duration>,
    /// How long events took from the daemon's stamp to their reader.
    pub on_the_way: Vec<Duration>,
    /// Events of the daemon.
    pub events: u64,
    /// Its checks.
    pub checks: u64,
    /// Its checks that said nothing.
    pub unknown: u64,
    /// What carried them.
    pub backend: String,
    /// What the daemon used before the first fault.
    pub usage_first: Usage,
    /// The most that it used.
    pub usage_max: Usage,
    /// What it used at the end.
    pub usage_last: Usage,
    /// For how long the machine did not get on, as the disk knows that nothing is done to.
    pub stalled: Duration,
    /// What would have been wrong, had the machine got on.
    pub excused: Vec<String>,
    /// What was wrong, with seed, disk and time.
    pub wrong: Vec<String>,
}

impl Figures {
    /// Faults injected.
    pub fn injected(&self) -> u64 {
        self.faults.values().sum()
    }

    pub(crate) fn note_fault(&mut self, kind: &'static str) {
        *self.faults.entry(kind).or_default() += 1;
    }

    pub(crate) fn note_times(&mut self, finding: &Finding) {
        if let Some((kind, time)) = finding.detected {
            self.detected.entry(kind).or_default().push(time);
        }
        self.recovered.extend(finding.recovered);
    }
}

/// Some of the times, in milliseconds.
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

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds = self.faults.iter();
        let kinds: Vec<String> = kinds
            .map(|(kind, count)| format!("{kind} {count}"))
            .collect();
        writeln!(f, "faults: {}", kinds.join(", "))?;
        writeln!(
            f,
            "{} events and {} checks ({} unknown) through {}",
            self.events, self.checks, self.unknown, self.backend
        )?;
        writeln!(f, " noticed      times    p50 ms    p99 ms    max ms")?;
        for (kind, all) in &self.detected {
            times(f, kind, all)?;
        }
        let all: Vec<Duration> = self.detected.values().flatten().copied().collect();
        times(f, "all", &all)?;
        times(f, "well again", &self.recovered)?;
        times(f, "on the way", &self.on_the_way)?;
        let (stalled, excused) = (self.stalled.as_secs_f64(), self.excused.len());
        writeln!(
            f,
            "the machine stalled for {stalled:.1} s in all, which excused {excused}"
        )?;
        for excused in &self.excused {
            writeln!(f, "EXCUSED: {excused}")?;
        }
        writeln!(f, "daemon, first: {}", self.usage_first)?;
        writeln!(f, "daemon, most:  {}", self.usage_max)?;
        writeln!(f, "daemon, last:  {}", self.usage_last)?;
        for wrong in &self.wrong {
            writeln!(f, "WRONG: {wrong}")?;
        }
        let (faults, wrong) = (self.injected(), self.wrong.len());
        writeln!(f, "{faults} faults, {wrong} wrong")
    }
}
