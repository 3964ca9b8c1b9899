//! What a benchmark's result looks like to people.

use comfy_table::{Cell, CellAlignment, ContentArrangement};
use pathpulse_bench::{Report, Row};

use super::output::{render, table};

type Field = (&'static str, &'static str, fn(&Row) -> Option<f64>);

const FIELDS: [Field; 8] = [
    ("checks/s", "checks_per_s", |row| row.checks_per_s),
    ("CPU ns", "cpu_ns_per_check", |row| row.cpu_ns_per_check),
    ("p50 ms", "sweep_ms_p50", |row| row.sweep_ms_p50),
    ("p99 ms", "sweep_ms_p99", |row| row.sweep_ms_p99),
    ("set up", "setup_ms", |row| row.setup_ms),
    ("down", "teardown_ms", |row| row.teardown_ms),
    ("stuck", "teardown_stuck_ms", |row| row.teardown_stuck_ms),
    ("calls", "syscalls_per_check", |row| row.syscalls_per_check),
];

/// The contenders, and why something of them is missing.
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
        "{} paths on {}, {} rounds in turns, medians\n\n{}\n{}{}{}",
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
CPU ns: of the contender's process, for one check. p50, p99: of a sweep over all paths.
set up: from nothing to a verdict on every path, ms. down: everything given back to the
kernel, ms. stuck: the same while reads are stuck at a silent device. calls: system calls
for one check.
";

fn cell(row: &Row, (_, field, figure): &Field) -> String {
    match (figure(row), row.reasons.get(field)) {
        (Some(figure), _) => number(figure),
        // Such a reason begins with the limit.
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
        all => format!(
            "\nCPU ns from the best round to the worst:\n  {}\n",
            all.join("\n  ")
        ),
    }
}

fn notes(report: &Report) -> String {
    let mut text = String::new();
    for row in &report.contenders {
        if let Some(bad) = row.bad_paths.filter(|bad| *bad > 0) {
            text += &format!("{}: {bad} paths did not answer well\n", row.name);
        }
        // Fields with the same reason share a line.
        let mut said: Vec<(&str, Vec<&str>)> = Vec::new();
        for (field, reason) in &row.reasons {
            match said.iter_mut().find(|(other, _)| other == reason) {
                Some((_, fields)) => fields.push(field),
                None => said.push((reason, vec![field])),
            }
        }
        for (reason, fields) in said {
            text += &format!("{} {}: {reason}\n", row.name, fields.join(", "));
        }
    }
    if text.is_empty() {
        text
    } else {
        format!("\nNot measured, and why:\n{text}")
    }
}
