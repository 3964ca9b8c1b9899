//! The screen of the demo: a table of the disks and the latest events. A terminal is redrawn in
//! place; other output gets one table after another.

use std::collections::VecDeque;
use std::fmt::Write;
use std::io::{IsTerminal, stdout};
use std::time::Duration;

use comfy_table::{Cell, CellAlignment};
use pathpulse::{Event, EventStream, Monitor, Next};

use super::demo_disks::{DemoDisks, SimulatedDisk};
use super::output;
use crate::api::{PathDocument, StatusDocument};

/// Number of events below the table.
const EVENTS: usize = 8;
/// A line that wraps on a terminal would break the count of lines.
const WIDTH: usize = 79;

pub(crate) struct Screen {
    in_place: bool,
    /// Lines to overwrite with the next drawing.
    lines: usize,
    events: VecDeque<String>,
}

impl Screen {
    pub(crate) fn new() -> Screen {
        Screen {
            in_place: stdout().is_terminal() && !output::is_dumb(),
            lines: 0,
            events: VecDeque::new(),
        }
    }

    /// Time between two drawings.
    pub(crate) fn pause(&self) -> Duration {
        Duration::from_millis(if self.in_place { 250 } else { 1_000 })
    }

    pub(crate) fn draw(
        &mut self,
        monitor: &Monitor,
        events: &EventStream,
        disks: &DemoDisks,
        at: Duration,
    ) {
        while let Next::Event(event) = events.next_within(Duration::ZERO) {
            if self.events.len() == EVENTS {
                self.events.pop_front();
            }
            let line = line(&event, disks, at);
            self.events.push_back(match self.in_place {
                true => line.chars().take(WIDTH).collect(),
                false => line,
            });
        }
        let status = StatusDocument::new(monitor, &[]);
        let mut text = String::new();
        let _ = writeln!(
            text,
            "pathpulse {} through {}, {:.0} s",
            status.version,
            status.backend,
            at.as_secs_f64()
        );
        text += &table(&status.paths, disks.all());
        text.push('\n');
        for event in &self.events {
            let _ = writeln!(text, "{event}");
        }
        self.show(&text);
    }

    fn show(&mut self, text: &str) {
        let back = match self.lines {
            0 => String::new(),
            lines if self.in_place => format!("\x1b[{lines}A\x1b[J"),
            _ => "\n".to_owned(),
        };
        self.lines = text.lines().count();
        output::print(&(back + text));
    }
}

fn table(paths: &[PathDocument], disks: &[SimulatedDisk]) -> String {
    let mut table = output::table(&["DISK", "PATH", "FAULT", "STATE", "CAUSE", "LAST", "CHECKS"]);
    for disk in disks {
        let name = disk.path.to_string_lossy();
        let Some(path) = paths.iter().find(|path| path.path == name) else {
            continue;
        };
        let last = path
            .latency_us
            .map_or_else(|| "-".to_owned(), |us| output::latency(us.last));
        table.add_row([
            Cell::new(disk.role),
            Cell::new(file_name(disk)),
            Cell::new(disk.fault()),
            output::state_cell(path.shown_state().as_str()),
            Cell::new(cause(path)),
            Cell::new(last).set_alignment(CellAlignment::Right),
            Cell::new(path.checks.total).set_alignment(CellAlignment::Right),
        ]);
    }
    output::render(&table)
}

fn file_name(disk: &SimulatedDisk) -> String {
    let name = disk.path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

fn cause(path: &PathDocument) -> String {
    match path.stuck_ms {
        Some(ms) => format!("stuck {}", output::age(ms / 1_000)),
        None => path.shown_cause(),
    }
}

fn line(event: &Event, disks: &DemoDisks, at: Duration) -> String {
    let path = event.path.name();
    let disk = disks.all().iter().find(|disk| disk.path == path);
    let change = if event.from == event.to {
        event.to.to_string()
    } else {
        format!("{} -> {}", event.from, event.to)
    };
    let text = format!(
        "{:4.1} s  {:10}  {change:16}  {}",
        at.as_secs_f64(),
        disk.map_or("", |disk| disk.role),
        event.detail
    );
    output::printable(&text)
}
