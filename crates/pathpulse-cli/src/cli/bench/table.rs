//! The result of a benchmark as tables.

use comfy_table::{Cell, CellAlignment, ContentArrangement};
use pathpulse_bench::{Report, Row, Spread};

use super::BenchDocument;
use crate::cli::output::{render, table};

type Field = (&'static str, &'static str, fn(&Row) -> Option<f64>);

const FIELDS: [Field; 9] = [
    ("checks/s", "checks_per_s", |row| row.checks_per_s),
    ("CPU ns", "cpu_ns_per_check", |row| row.cpu_ns_per_check),
    ("p50 ms", "sweep_ms_p50", |row| row.sweep_ms_p50),
    ("p99 ms", "sweep_ms_p99", |row| row.sweep_ms_p99),
    ("set up", "setup_ms", |row| row.setup_ms),
    ("down", "teardown_ms", |row| row.teardown_ms),
    ("stuck", "teardown_stuck_ms", |row| row.teardown_stuck_ms),
    ("reload", "reload_ms", |row| row.reload_ms),
    ("calls", "syscalls_per_check", |row| row.syscalls_per_check),
];

/// The contenders, and the reasons of missing measurements.
pub(crate) fn tables(report: &Report) -> String {
    let headings: Vec<&str> = std::iter::once("contender")
        .chain(FIELDS.iter().map(|field| field.0))
        .collect();
    let mut all = table(&headings);
    all.set_content_arrangement(ContentArrangement::Disabled);
    for column in all.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    for row in &report.contenders {
        let figures = FIELDS.iter().map(|field| Cell::new(cell(row, field)));
        all.add_row(std::iter::once(Cell::new(row.name)).chain(figures));
    }
    format!(
        "{} paths on {}, medians of {} rounds\n\n{}\n{}{}{}",
        report.paths,
        report.device,
        report.rounds,
        render(&all),
        LEGEND,
        spreads(report),
        notes(report)
    )
}

const LEGEND: &str = "\
CPU ns: CPU time of the contender's process for one check. p50, p99: time of a sweep over all
paths. set up: time from the start to a verdict on every path, ms. down: time to release all
resources, ms. stuck: the same with reads stuck at a silent device. reload: down and set up
again. calls: system calls for one check.
";

fn cell(row: &Row, (_, field, figure): &Field) -> String {
    match (figure(row), row.reasons.get(field)) {
        (Some(figure), _) => number(figure),
        // A reason that starts so has the exceeded limit.
        (None, Some(reason)) if reason.starts_with('>') => {
            reason.split(" ms").next().unwrap_or("-").to_owned()
        }
        (None, _) => "-".to_owned(),
    }
}

/// Three digits, in thousands where there are many.
fn number(figure: f64) -> String {
    match figure {
        1e6.. => format!("{:.2}M", figure / 1e6),
        1e4.. => format!("{:.0}k", figure / 1e3),
        100.0.. => format!("{figure:.0}"),
        10.0.. => format!("{figure:.1}"),
        _ => format!("{figure:.3}"),
    }
}

fn spreads(report: &Report) -> String {
    let spread = |row: &Row| {
        let cpu = row.spread.get("cpu_ns_per_check")?;
        let (least, greatest) = (number(cpu.least), number(cpu.greatest));
        Some(format!("{} {least}..{greatest}", row.name))
    };
    let all: Vec<String> = report.contenders.iter().filter_map(spread).collect();
    match all.as_slice() {
        [] => String::new(),
        all => format!("\nCPU ns, best to worst round:\n  {}\n", all.join("\n  ")),
    }
}

fn notes(report: &Report) -> String {
    let mut text = String::new();
    for row in &report.contenders {
        if let Some(bad) = row.bad_paths.filter(|bad| *bad > 0) {
            text += &format!("{}: {bad} paths were not good\n", row.name);
        }
        // Fields with the same reason share a line.
        let mut reasons: Vec<(&str, Vec<&str>)> = Vec::new();
        for (field, reason) in &row.reasons {
            match reasons.iter_mut().find(|(other, _)| other == reason) {
                Some((_, fields)) => fields.push(field),
                None => reasons.push((reason, vec![field])),
            }
        }
        for (reason, fields) in reasons {
            text += &format!("{} {}: {reason}\n", row.name, fields.join(", "));
        }
    }
    if text.is_empty() {
        text
    } else {
        format!("\nNot measured:\n{text}")
    }
}

/// A table of figures, aligned.
fn figures(headings: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut all = table(headings);
    all.set_content_arrangement(ContentArrangement::Disabled);
    for column in all.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    for row in rows {
        all.add_row(row);
    }
    render(&all)
}

fn or_dash(figure: Option<f64>) -> String {
    figure.map_or_else(|| "-".to_owned(), number)
}

/// The measurements that only a full run makes.
pub(crate) fn full_tables(document: &BenchDocument) -> String {
    let Some(full) = &document.report.full else {
        return String::new();
    };
    let mut counts: Vec<usize> = full.cost.iter().map(|point| point.paths).collect();
    counts.dedup();
    let heads: Vec<String> = counts.iter().map(ToString::to_string).collect();
    let mut headings = vec!["CPU ns, paths:"];
    headings.extend(heads.iter().map(String::as_str));
    let cost = document.report.contenders.iter().map(|row| {
        let of_row = full.cost.iter().filter(|point| point.name == row.name);
        let figures = of_row.map(|point| or_dash(point.cpu_ns_per_check));
        std::iter::once(row.name.to_owned())
            .chain(figures)
            .collect()
    });
    let faults = full.faults.iter().map(|row| {
        let ends = |figure: Option<f64>| match figure {
            None if row.healthy_ms_p99.is_some() => "never".to_owned(),
            figure => or_dash(figure),
        };
        vec![
            row.name.to_owned(),
            or_dash(row.healthy_ms_p50),
            or_dash(row.healthy_ms_p99),
            ends(row.hanging_ms_p99),
            ends(row.saturated_ms_p99),
        ]
    });
    let deadlines = full.deadlines.iter().map(|row| {
        let (last, each) = (row.last_verdict_late_ms, row.verdict_late_ms_p99);
        vec![
            row.name.to_owned(),
            or_dash(each.map(|late| late.median)),
            or_dash(each.map(|late| late.greatest)),
            or_dash(last.map(|late| late.median)),
            or_dash(last.map(|late| late.greatest)),
            row.reason.clone().unwrap_or_default(),
        ]
    });
    [
        "\nCPU time of a check by number of paths\n\n".to_owned(),
        figures(&headings, cost),
        "\nLatency of checks of healthy paths, ms: alone, with 100 of 1,000 paths hanging, and with 50 more\nsaturated\n\n".to_owned(),
        figures(&["contender", "p50", "p99", "p99 hanging", "p99 saturated"], faults),
        "\nDelay of the verdicts on 1,000 silent paths, ms: p99 after the deadline of each path, and the last\nverdict after the first deadline; median and worst round\n\n".to_owned(),
        figures(&["contender", "p99", "worst", "last", "worst", ""], deadlines),
        memory(full),
        daemon(document),
        small_hosts(document),
        aims(document),
    ]
    .concat()
}

fn memory(full: &pathpulse_bench::Full) -> String {
    let figure = match (full.idle_path_bytes, &full.idle_path_reason) {
        (Some(bytes), _) => format!("{bytes:.0} bytes each"),
        (None, reason) => reason.clone().unwrap_or_default(),
    };
    format!("\nMemory of {} idle paths: {figure}\n", full.idle_paths)
}

fn daemon(document: &BenchDocument) -> String {
    let Some(more) = &document.more else {
        return String::new();
    };
    let Some(daemon) = &more.daemon else {
        let reason = more.daemon_reason.clone().unwrap_or_default();
        return format!("\nThe daemon: {reason}\n");
    };
    let calls = match (daemon.syscalls_per_check, &daemon.syscalls_reason) {
        (Some(calls), _) => format!("{calls} system calls per check"),
        (None, reason) => reason.clone().unwrap_or_default(),
    };
    let detection = spread(daemon.detection_ms, 0, daemon.detection_reason.as_ref());
    let reload = spread(daemon.reload_ms, 2, daemon.reload_reason.as_ref());
    let stuck = spread(daemon.reload_stuck_ms, 2, daemon.reload_reason.as_ref());
    format!(
        "\nThe idle daemon, {} paths every {}: {} % of a CPU (yardstick with the same batches: {};\nwith one batch per slot: {}), {} wake-ups/s, {} checks/s, {calls},\n{} KiB of memory. A silent path is down after {detection}.\nA reload without changes takes {reload}, with a stuck read {stuck}.\n",
        daemon.paths,
        daemon.interval,
        daemon.cpu_percent,
        or_dash(daemon.lean_cpu_percent),
        or_dash(daemon.lean_at_once_cpu_percent),
        daemon.wakeups_per_s,
        daemon.checks_per_s,
        daemon.memory_kib,
    )
}

fn small_hosts(document: &BenchDocument) -> String {
    let Some(more) = &document.more else {
        return String::new();
    };
    if let Some(reason) = &more.small_hosts_reason {
        return format!("\nThe daemon on small hosts: {reason}\n");
    }
    let rows = more.small_hosts.iter().map(|host| {
        vec![
            format!("{} paths every {}", host.paths, host.interval),
            number(host.cpu_percent),
            number(host.wakeups_per_s),
            number(host.worker_wakeups_per_s),
            number(host.checks_per_s),
        ]
    });
    let headings = [
        "idle daemon",
        "CPU %",
        "wake-ups/s",
        "of worker",
        "checks/s",
    ];
    format!("\n{}", figures(&headings, rows))
}

/// The median with the extremes in brackets, or the reason of their absence.
fn spread(ms: Option<Spread>, digits: usize, reason: Option<&String>) -> String {
    match ms {
        Some(ms) => format!(
            "{:.digits$} ms ({:.digits$}..{:.digits$})",
            ms.median, ms.least, ms.greatest
        ),
        None => reason.cloned().unwrap_or_default(),
    }
}

fn aims(document: &BenchDocument) -> String {
    let Some(more) = &document.more else {
        return String::new();
    };
    let rows = more.aims.iter().map(|aim| {
        let bound = if aim.is_least { "at least" } else { "at most" };
        let reached = match aim.is_reached() {
            Some(true) => "yes",
            Some(false) => "NO",
            None => "-",
        };
        vec![
            aim.what.to_owned(),
            or_dash(aim.measured),
            format!("{bound} {}", aim.bound),
            reached.to_owned(),
        ]
    });
    let headings = ["goal", "measured", "bound", "reached"];
    format!("\n{}", figures(&headings, rows))
}
