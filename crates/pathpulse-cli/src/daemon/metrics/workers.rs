//! The metrics of workers, and of what they have in common.

use std::fmt;
use std::time::Duration;

use pathpulse::WorkerStatus;

use super::writer::Sheet;

/// A worker, and the number that its series have.
type Numbered<'a> = (String, &'a WorkerStatus);

/// Writes what there is to say about all workers, and each.
pub(crate) fn write(sheet: &mut Sheet<'_>, workers: &[WorkerStatus]) -> fmt::Result {
    let all = workers.iter().enumerate();
    let all: Vec<Numbered<'_>> = all.map(|(n, worker)| (n.to_string(), worker)).collect();
    backends(sheet, &all)?;
    progress(sheet, &all)?;
    lag(sheet, &all)?;
    reads(sheet, workers)
}

fn backends(sheet: &mut Sheet<'_>, all: &[Numbered<'_>]) -> fmt::Result {
    let kinds = all.iter().map(|(number, worker)| {
        let kind = worker.backend.kind.to_string();
        ([("worker", number.clone()), ("backend", kind)], 1_u64)
    });
    let help = "What carries the checks of a worker to the kernel";
    sheet.gauges("backend_info", help, kinds)?;
    let is_worse = |(_, worker): &Numbered<'_>| !worker.backend.unavailable.is_empty();
    let help = "1 when a better backend was tried and can't be used here";
    let fallback = u64::from(all.iter().any(is_worse));
    sheet.gauge("backend_fallback", help, fallback)
}

fn progress(sheet: &mut Sheet<'_>, all: &[Numbered<'_>]) -> fmt::Result {
    let paths = all
        .iter()
        .map(|(number, worker)| (of(number), worker.paths as u64));
    sheet.gauges("worker_paths", "Paths that a worker has", paths)?;
    let overdue = all
        .iter()
        .map(|(number, worker)| (of(number), worker.overdue));
    let help =
        "How long a worker has been busy, or asleep beyond the time at which it meant to wake";
    sheet.all_seconds("worker_overdue", help, overdue)?;
    let ended = all
        .iter()
        .map(|(number, worker)| (of(number), u64::from(worker.ended)));
    let help = "1 when the thread of a worker has ended, though nobody stopped it";
    sheet.gauges("worker_ended", help, ended)
}

fn lag(sheet: &mut Sheet<'_>, all: &[Numbered<'_>]) -> fmt::Result {
    let checks = all
        .iter()
        .map(|(number, worker)| (of(number), worker.lag.checks));
    let help = "Checks that a worker began when they were due";
    sheet.counters("scheduled_checks", help, checks)?;
    let late = all.iter().map(|(number, worker)| {
        let late = Duration::from_micros(worker.lag.sum_us);
        (of(number), late)
    });
    let help = "How late those began, added up";
    sheet.seconds_counters("scheduler_lag", help, late)?;
    let most = all.iter().map(|(number, worker)| {
        let most = Duration::from_micros(worker.lag.max_us);
        (of(number), most)
    });
    let help = "How late the latest of those began";
    sheet.all_seconds("scheduler_lag_max", help, most)
}

fn reads(sheet: &mut Sheet<'_>, workers: &[WorkerStatus]) -> fmt::Result {
    let sum = |part: fn(&WorkerStatus) -> u64| workers.iter().map(part).sum::<u64>();
    let outcomes = [
        ("answered", sum(|worker| worker.outcomes.answered)),
        ("stuck", sum(|worker| worker.outcomes.stuck)),
        ("given_back", sum(|worker| worker.outcomes.given_back)),
        ("late", sum(|worker| worker.outcomes.late)),
    ];
    let ends = outcomes.map(|(outcome, count)| ([("outcome", outcome)], count));
    let help =
        "Reads by their end: answered, stuck at their deadline, given back unbegun, ended late";
    sheet.counters("reads", help, ends)?;
    let held = sum(|worker| worker.stats.in_flight as u64);
    sheet.gauge("reads_in_flight", "Reads that the kernel owns", held)?;
    let stuck = sum(|worker| worker.stats.stuck as u64);
    let help = "Reads past their deadline that the kernel still owns";
    sheet.gauge("stuck_reads", help, stuck)?;
    let calls = sum(|worker| worker.stats.syscalls);
    let help = "System calls made to submit reads and to wait";
    sheet.counter("syscalls", help, calls)?;
    let strays = sum(|worker| worker.stats.unknown_completions);
    let help = "Completions that fitted no read; anything but 0 is a defect";
    sheet.counter("stray_completions", help, strays)
}

fn of(number: &str) -> [(&str, &str); 1] {
    [("worker", number)]
}
