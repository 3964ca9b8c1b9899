//! The report as tables, which fit in 80 columns.

use comfy_table::{Cell, Color};

use super::environment::{Environment, Limit};
use super::features::{FeatureState, RingReport};
use super::held_processes::HeldProcess;
use super::hints::{Hint, grouped};
use super::paths::ExaminedPath;
use super::{Backends, DoctorReport};
use crate::cli::output;

pub(super) fn text(report: &DoctorReport) -> String {
    let kernel = &report.environment.kernel;
    let mut parts = vec![
        format!(
            "{} {} ({})\n",
            kernel.system, kernel.release, kernel.machine
        ),
        backends(&report.backends),
    ];
    parts.extend(report.io_uring.as_ref().map(ring));
    parts.push(limits(&report.environment));
    if !report.paths.is_empty() {
        parts.push(paths(&report.paths));
    }
    if !report.held_processes.is_empty() {
        parts.push(held_processes(&report.held_processes));
    }
    if !report.hints.is_empty() {
        parts.push(hints(&report.hints));
    }
    parts.join("\n")
}

fn good(word: &str) -> Cell {
    Cell::new(word).fg(Color::Green)
}

fn bad(word: &str) -> Cell {
    Cell::new(word).fg(Color::Red)
}

fn backends(found: &Backends) -> String {
    let mut table = output::table(&["BACKEND", "WORKS", "WHY"]);
    for row in &found.backends {
        let chosen = found.backend.as_ref() == Some(&row.name);
        let why = match row.failure() {
            None if chosen => format!("auto chooses it: {}", found.reason),
            None => String::new(),
            Some(failure) => failure,
        };
        let works = if row.available {
            good("yes")
        } else {
            bad("no")
        };
        table.add_row([Cell::new(&row.name), works, Cell::new(why)]);
    }
    let mut text = output::render(&table);
    if found.backend.is_none() {
        text += "No backend works, so no path can be checked.\n";
    }
    text
}

fn ring(ring: &RingReport) -> String {
    let mut table = output::table(&["IO_URING FEATURE", "STATE", "LINUX", "BENEFIT"]);
    for feature in &ring.features {
        let state = Cell::new(feature.state.text());
        let state = match feature.state {
            FeatureState::InUse => state.fg(Color::Green),
            FeatureState::Missing => state.fg(Color::Yellow),
            FeatureState::NotNeeded => state,
        };
        table.add_row([
            Cell::new(feature.name),
            state,
            Cell::new(feature.since),
            Cell::new(feature.brings),
        ]);
    }
    output::render(&table)
}

fn limits(environment: &Environment) -> String {
    let limits = &environment.limits;
    let known = |number: Option<u64>| number.map_or("unknown".to_owned(), |n| n.to_string());
    let disabled = match environment.io_uring_disabled {
        None => "missing (Linux 6.6 and later have it)",
        Some(0) => "0: io_uring is allowed",
        Some(1) => "1: allowed for CAP_SYS_ADMIN and kernel.io_uring_group only",
        Some(_) => "2: io_uring is disabled",
    };
    let seccomp = match environment.seccomp {
        None => "not supported by this kernel",
        Some("off") => "no filter",
        Some(_) => "this process has a filter",
    };
    let rows = [
        ("fs.aio-nr", known(limits.aio_nr)),
        ("fs.aio-max-nr", known(limits.aio_max_nr)),
        ("RLIMIT_MEMLOCK", limit(limits.memlock_bytes, " bytes")),
        ("RLIMIT_NOFILE", limit(limits.open_files, "")),
        ("kernel.io_uring_disabled", disabled.to_owned()),
        ("seccomp", seccomp.to_owned()),
    ];
    let mut table = output::table(&["LIMIT", "VALUE"]);
    for (name, value) in rows {
        table.add_row([name, &value]);
    }
    output::render(&table)
}

fn limit(limit: Limit, unit: &str) -> String {
    let value = |value: Option<u64>| match value {
        Some(value) => format!("{value}{unit}"),
        None => "unlimited".to_owned(),
    };
    format!("{} (hard: {})", value(limit.soft), value(limit.hard))
}

fn paths(paths: &[ExaminedPath]) -> String {
    let mut table = output::table(&[
        "PATH", "READABLE", "NOWAIT", "SIZE", "BLOCK", "STATE", "GROUP",
    ]);
    for path in paths {
        let text = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
        let states: Vec<&str> = [&path.device_state, &path.access_state]
            .into_iter()
            .filter_map(|state| state.as_deref())
            .collect();
        table.add_row([
            Cell::new(output::printable(&path.checked.path)),
            match path.readable {
                true => good("yes"),
                false => bad(&format!("no: {}", path.checked.problem())),
            },
            Cell::new(match path.nowait {
                Some(true) => "yes",
                Some(false) => "no",
                None => "-",
            }),
            Cell::new(text(path.size_bytes.map(output::size))),
            Cell::new(text(path.block_bytes.map(|block| block.to_string()))),
            Cell::new(text((!states.is_empty()).then(|| states.join(", ")))),
            Cell::new(text(path.group.as_deref().map(output::printable))),
        ]);
    }
    output::render(&table)
}

fn held_processes(all: &[HeldProcess]) -> String {
    let mut table = output::table(&["HELD PROCESS", "DEAD SINCE", "UNTIL THESE DEVICES ANSWER"]);
    for held in all {
        let devices = match held.devices.as_slice() {
            [] => "unknown".to_owned(),
            devices => devices.join(", "),
        };
        let since = held.since.as_deref().unwrap_or("unknown");
        table.add_row([held.pid.to_string(), since.to_owned(), devices]);
    }
    output::render(&table)
}

fn hints(hints: &[Hint]) -> String {
    let mut table = output::table(&["ABOUT", "HINT"]);
    for (about, hint) in grouped(hints) {
        table.add_row([output::printable(&about), output::printable(hint)]);
    }
    output::render(&table)
}
