//! What was measured. The names of the fields are a contract with whoever reads the JSON.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::figures::{Spread, rounded};
use crate::full::Full;

/// A whole benchmark.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// What was checked, in words.
    pub device: String,
    /// How many paths.
    pub paths: usize,
    /// How often the contenders took turns.
    pub rounds: usize,
    /// One for each contender.
    pub contenders: Vec<Row>,
    /// The other workloads, if they were asked for.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub full: Option<Full>,
}

/// What one contender did. Medians over the rounds; `None`: not measured, and [`Row::reasons`] says
/// why.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Row {
    /// Its name.
    pub name: &'static str,
    /// Checks in a second, one sweep after the other.
    pub checks_per_s: Option<f64>,
    /// CPU time of its process, all threads, in nanoseconds.
    pub cpu_ns_per_check: Option<f64>,
    /// How long a sweep took, in milliseconds: half of them at most.
    pub sweep_ms_p50: Option<f64>,
    /// How long a sweep took, in milliseconds: 99 of 100 at most.
    pub sweep_ms_p99: Option<f64>,
    /// From nothing to a verdict on every path, in milliseconds.
    pub setup_ms: Option<f64>,
    /// To give everything back to the kernel, in milliseconds.
    pub teardown_ms: Option<f64>,
    /// The same while some reads are stuck at a device that does not answer.
    pub teardown_stuck_ms: Option<f64>,
    /// A teardown and setting it up again, as a reload would, in milliseconds.
    pub reload_ms: Option<f64>,
    /// System calls for one check, in a sweep.
    pub syscalls_per_check: Option<f64>,
    /// Paths that did not answer well in the last sweep.
    pub bad_paths: Option<u64>,
    /// The least and the greatest of the rounds' figures, by field.
    pub spread: BTreeMap<&'static str, Spread>,
    /// The rounds' figures, by field: those of one round were measured within a second or two.
    #[serde(skip)]
    pub rounds: BTreeMap<&'static str, Vec<f64>>,
    /// Why a field is null, by field.
    pub reasons: BTreeMap<&'static str, String>,
}

/// All that may be missing.
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

    /// How many times another one's figure this one's is: the median of what it is in each round, since the
    /// machine may be faster in one than in another. `None` if either was not measured in all.
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

    /// Enters the figures of the rounds.
    pub(crate) fn enter(&mut self, field: &'static str, rounds: &[f64]) {
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

    /// Enters a figure that was measured once.
    pub(crate) fn enter_once(&mut self, field: &'static str, figure: f64) {
        if let Some(slot) = self.slot(field) {
            *slot = Some(rounded(figure));
        }
    }

    /// Says why a field has no figure.
    pub(crate) fn lacks(&mut self, field: &'static str, reason: impl Into<String>) {
        self.reasons.entry(field).or_insert_with(|| reason.into());
    }

    /// Says of all fields that have neither figure nor reason why.
    pub(crate) fn lacks_the_rest(&mut self, reason: &str) {
        for field in FIELDS {
            let has = match self.slot(field) {
                Some(slot) => slot.is_some(),
                None => self.bad_paths.is_some(),
            };
            if !has {
                self.lacks(field, reason);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_of_figures_of_the_same_round() {
        let mut rows = [Row::new("a"), Row::new("b"), Row::new("c")];
        rows[0].enter("cpu_ns_per_check", &[20.0, 4000.0, 60.0]);
        rows[1].enter("cpu_ns_per_check", &[10.0, 1000.0, 30.0]);
        rows[2].enter("cpu_ns_per_check", &[10.0, 1000.0]);
        assert_eq!(rows[0].ratio("cpu_ns_per_check", &rows[1]), Some(2.0));
        assert_eq!(rows[0].ratio("cpu_ns_per_check", &rows[2]), None);
        assert_eq!(rows[0].ratio("checks_per_s", &rows[1]), None);
    }
}
