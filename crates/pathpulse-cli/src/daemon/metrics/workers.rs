//! The metrics of workers.

use std::fmt;
use std::time::Duration;

use pathpulse::WorkerStatus;

use super::writer::MetricsWriter;

/// A worker, and its number in labels.
type Numbered<'a> = (String, &'a WorkerStatus);

/// Writes the metrics of all workers.
pub(crate) fn write(writer: &mut MetricsWriter<'_>, workers: &[WorkerStatus]) -> fmt::Result {
    let all = workers.iter().enumerate();
    let all: Vec<Numbered<'_>> = all.map(|(n, worker)| (n.to_string(), worker)).collect();
    backends(writer, &all)?;
    progress(writer, &all)?;
    lag(writer, &all)?;
    reads(writer, workers)
}

fn backends(writer: &mut MetricsWriter<'_>, all: &[Numbered<'_>]) -> fmt::Result {
    let kinds = all.iter().map(|(number, worker)| {
        let kind = worker.backend.kind.to_string();
        ([("worker", number.clone()), ("backend", kind)], 1_u64)
    });
    let help = "Always 1; the backend that submits the checks of a worker to the kernel";
    writer.gauges("backend_info", help, kinds)?;
    let is_worse = |(_, worker): &Numbered<'_>| !worker.backend.unavailable.is_empty();
    let help = "1 if a better backend was tried and can't be used on this host";
    let fallback = u64::from(all.iter().any(is_worse));
    writer.gauge("backend_fallback", help, fallback)
}

fn progress(writer: &mut MetricsWriter<'_>, all: &[Numbered<'_>]) -> fmt::Result {
    let paths = all
        .iter()
        .map(|(number, worker)| (of(number), worker.paths as u64));
    writer.gauges("worker_paths", "Paths of a worker", paths)?;
    let overdue = all
        .iter()
        .map(|(number, worker)| (of(number), worker.overdue));
    let help = "How long a worker has been busy, or asleep after it was due to wake";
    writer.all_seconds("worker_overdue", help, overdue)?;
    let ended = all
        .iter()
        .map(|(number, worker)| (of(number), u64::from(worker.ended)));
    let help = "1 if the thread of a worker has ended without being stopped";
    writer.gauges("worker_ended", help, ended)
}

fn lag(writer: &mut MetricsWriter<'_>, all: &[Numbered<'_>]) -> fmt::Result {
    let checks = all
        .iter()
        .map(|(number, worker)| (of(number), worker.lag.checks));
    let help = "Checks that a worker started because they were due";
    writer.counters("scheduled_checks", help, checks)?;
    let late = all.iter().map(|(number, worker)| {
        let late = Duration::from_micros(worker.lag.sum_us);
        (of(number), late)
    });
    let help = "Sum of the delays of the starts of due checks";
    writer.seconds_counters("scheduler_lag", help, late)?;
    let most = all.iter().map(|(number, worker)| {
        let most = Duration::from_micros(worker.lag.max_us);
        (of(number), most)
    });
    let help = "Longest delay of the start of a due check";
    writer.all_seconds("scheduler_lag_max", help, most)
}

fn reads(writer: &mut MetricsWriter<'_>, workers: &[WorkerStatus]) -> fmt::Result {
    let sum = |part: fn(&WorkerStatus) -> u64| workers.iter().map(part).sum::<u64>();
    let outcomes = [
        ("answered", sum(|worker| worker.outcomes.answered)),
        ("stuck", sum(|worker| worker.outcomes.stuck)),
        ("given_back", sum(|worker| worker.outcomes.given_back)),
        ("late", sum(|worker| worker.outcomes.late)),
    ];
    let ends = outcomes.map(|(outcome, count)| ([("outcome", outcome)], count));
    let help =
        "Reads by outcome: answered, stuck at the deadline, given back unread, or ended late";
    writer.counters("reads", help, ends)?;
    let held = sum(|worker| worker.stats.in_flight as u64);
    writer.gauge("reads_in_flight", "Reads that the kernel owns", held)?;
    let stuck = sum(|worker| worker.stats.stuck as u64);
    let help = "Reads past their deadline that the kernel still owns";
    writer.gauge("stuck_reads", help, stuck)?;
    let calls = sum(|worker| worker.stats.syscalls);
    let help = "System calls made to submit reads and to wait";
    writer.counter("syscalls", help, calls)?;
    let unknown = sum(|worker| worker.stats.unknown_completions);
    let help = "Completions without a matching read; a value other than 0 is a bug";
    writer.counter("stray_completions", help, unknown)
}

fn of(number: &str) -> [(&str, &str); 1] {
    [("worker", number)]
}
