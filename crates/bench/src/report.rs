//! The results. The names of the fields are a contract with readers of the JSON.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::full::Full;
use crate::stats::{Spread, rounded};

/// The results of a benchmark.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// A description of the devices.
    pub device: String,
    /// The number of paths.
    pub paths: usize,
    /// The number of rounds.
    pub rounds: usize,
    /// One row for each contender.
    pub contenders: Vec<Row>,
    /// The other workloads, if they were requested.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub full: Option<Full>,
}

/// The results of one contender: medians over the rounds. `None` if it was not measured; then
/// [`Row::reasons`] has the reason.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Row {
    /// The contender's name.
    pub name: &'static str,
    /// Checks per second, with one sweep after the other.
    pub checks_per_s: Option<f64>,
    /// CPU time of its process per check, all threads, in nanoseconds.
    pub cpu_ns_per_check: Option<f64>,
    /// The median time of a sweep, in milliseconds.
    pub sweep_ms_p50: Option<f64>,
    /// The 99th percentile of the time of a sweep, in milliseconds.
    pub sweep_ms_p99: Option<f64>,
    /// From the start to a verdict on every path, in milliseconds.
    pub setup_ms: Option<f64>,
    /// The time to release everything to the kernel, in milliseconds.
    pub teardown_ms: Option<f64>,
    /// The same while some reads are stuck at a device that does not answer.
    pub teardown_stuck_ms: Option<f64>,
    /// A teardown and another setup, as in a reload, in milliseconds.
    pub reload_ms: Option<f64>,
    /// System calls per check in a sweep.
    pub syscalls_per_check: Option<f64>,
    /// Paths that did not answer correctly in the last sweep.
    pub bad_paths: Option<u64>,
    /// Minimum and maximum of the rounds, by field.
    pub spread: BTreeMap<&'static str, Spread>,
    /// The values of the rounds, by field. Those of one round were measured within a second or two.
    #[serde(skip)]
    pub rounds: BTreeMap<&'static str, Vec<f64>>,
    /// Why a field is null, by field.
    pub reasons: BTreeMap<&'static str, String>,
}

/// All fields that may be missing.
const FIELDS: [&str; 10] = [
    "checks_per_s",
    "cpu_ns_per_check",
    "sweep_ms_p50",
    "sweep_ms_p99",
    "setup_ms",
    "teardown_ms",
    "teardown_stuck_ms",
    "reload_ms",
    "syscalls_per_check",
    "bad_paths",
];

impl Row {
    pub(crate) fn new(name: &'static str) -> Row {
        Row {
            name,
            ..Row::default()
        }
    }

    /// The factor between this row's value and that of `other`: the median of the factors of the
    /// rounds, because the speed of the machine varies between rounds. `None` if a value is
    /// missing.
    pub fn ratio(&self, field: &str, other: &Row) -> Option<f64> {
        let (mine, theirs) = (self.rounds.get(field)?, other.rounds.get(field)?);
        if mine.len() != theirs.len() {
            return None;
        }
        let ratios: Vec<f64> = mine.iter().zip(theirs).map(|(a, b)| a / b).collect();
        Some(Spread::of(&ratios)?.median)
    }

    fn slot(&mut self, field: &'static str) -> Option<&mut Option<f64>> {
        Some(match field {
            "checks_per_s" => &mut self.checks_per_s,
            "cpu_ns_per_check" => &mut self.cpu_ns_per_check,
            "sweep_ms_p50" => &mut self.sweep_ms_p50,
            "sweep_ms_p99" => &mut self.sweep_ms_p99,
            "setup_ms" => &mut self.setup_ms,
            "teardown_ms" => &mut self.teardown_ms,
            "teardown_stuck_ms" => &mut self.teardown_stuck_ms,
            "reload_ms" => &mut self.reload_ms,
            "syscalls_per_check" => &mut self.syscalls_per_check,
            _ => return None,
        })
    }

    /// Records the values of the rounds.
    pub(crate) fn record(&mut self, field: &'static str, rounds: &[f64]) {
        let Some(spread) = Spread::of(rounds) else {
            return;
        };
        if let Some(slot) = self.slot(field) {
            *slot = Some(spread.median);
        }
        self.rounds.insert(field, rounds.to_vec());
        if rounds.len() > 1 {
            self.spread.insert(field, spread);
        }
    }

    /// Records a value that was measured once.
    pub(crate) fn record_once(&mut self, field: &'static str, figure: f64) {
        if let Some(slot) = self.slot(field) {
            *slot = Some(rounded(figure));
        }
    }

    /// Sets the reason why a field has no value.
    pub(crate) fn set_reason(&mut self, field: &'static str, reason: impl Into<String>) {
        self.reasons.entry(field).or_insert_with(|| reason.into());
    }

    /// Sets the reason for all fields with neither a value nor a reason.
    pub(crate) fn set_missing_reasons(&mut self, reason: &str) {
        for field in FIELDS {
            let has = match self.slot(field) {
                Some(slot) => slot.is_some(),
                None => self.bad_paths.is_some(),
            };
            if !has {
                self.set_reason(field, reason);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_compares_values_of_the_same_round() {
        let mut rows = [Row::new("a"), Row::new("b"), Row::new("c")];
        rows[0].record("cpu_ns_per_check", &[20.0, 4000.0, 60.0]);
        rows[1].record("cpu_ns_per_check", &[10.0, 1000.0, 30.0]);
        rows[2].record("cpu_ns_per_check", &[10.0, 1000.0]);
        assert_eq!(rows[0].ratio("cpu_ns_per_check", &rows[1]), Some(2.0));
        assert_eq!(rows[0].ratio("cpu_ns_per_check", &rows[2]), None);
        assert_eq!(rows[0].ratio("checks_per_s", &rows[1]), None);
    }
}
