//! Draws the screen: title, table, latest events, and keys.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span};
use unicode_width::UnicodeWidthStr;

use super::help;
use super::history::NO_ANSWER;
use super::model::{Mode, Model};
use super::rows::Row;
use super::theme::Theme;
use crate::api::{EventDocument, PathCause, PathDocument, count_states};
use crate::human;

/// Widths of the longest state, cause, age and latency.
const STATE: usize = 8;
const CAUSE: usize = 20;
const AGE: usize = 6;
const LATENCY: usize = 5;
const GAP: &str = "  ";
/// A smaller screen shows only a message.
const SMALLEST: (u16, u16) = (40, 10);

/// Draws the whole screen.
pub(super) fn screen(frame: &mut Frame, model: &mut Model, theme: &Theme) {
    let area = frame.area();
    if area.width < SMALLEST.0 || area.height < SMALLEST.1 {
        frame.render_widget("too small: needs 40 columns and 10 lines", area);
        return;
    }
    let events = if area.height < 16 { 0 } else { area.height / 4 };
    let parts = Layout::vertical([
        Constraint::Length(2),
        Constraint::Length(1),
        Constraint::Fill(1),
        Constraint::Length(events),
        Constraint::Length(1),
    ]);
    let [top, headings, table, below, bottom] = parts.areas(area);
    let columns = Columns::of_width(area.width);
    frame.render_widget(title(model, theme), Rect { height: 1, ..top });
    let second = Rect {
        y: top.y + 1,
        height: 1,
        ..top
    };
    frame.render_widget(subtitle(model, theme, area.width), second);
    frame.render_widget(columns.headings(theme), headings);
    draw_table(frame, table, model, &columns, theme);
    if events > 0 {
        draw_events(frame, below, model, theme);
    }
    frame.render_widget(footer(model, theme, area.width), bottom);
    if model.mode == Mode::Help {
        help::draw(frame, area, theme);
    }
}

fn title(model: &Model, theme: &Theme) -> Line<'static> {
    let mut spans = vec![Span::styled("pathpulse", theme.heading())];
    let Some(status) = &model.status else {
        return Line::from(spans);
    };
    for (state, count) in count_states(&status.paths) {
        spans.push(Span::raw(GAP));
        spans.push(Span::styled(
            format!("{count} {state}"),
            theme.state(state.as_str()),
        ));
    }
    let workers = if status.workers == 1 {
        "worker"
    } else {
        "workers"
    };
    let about = format!(
        "{GAP}{}, {} {workers}, running for {}",
        status.backend,
        status.workers,
        human::age(status.uptime_s as u64)
    );
    spans.push(Span::styled(about, theme.dim()));
    Line::from(spans)
}

/// The lost connection; or else the order and the filter of the paths.
fn subtitle(model: &Model, theme: &Theme, width: u16) -> Line<'static> {
    if let Some((since, why)) = &model.disconnected {
        let age = human::age(since.elapsed().as_secs());
        let text = format!(
            "NOT CONNECTED for {age}, reconnecting: {}",
            human::printable(why)
        );
        let text = human::clip(&text, usize::from(width));
        return Line::styled(text, theme.alarm());
    }
    let mut text = format!("sorted by {}", model.sort.name());
    if !model.filter.trim().is_empty() {
        let shown = model.rows.iter().filter(|row| matches!(row, Row::Path(_)));
        let filter = human::printable(model.filter.trim());
        text += &format!(
            "; {} of {} match /{filter}",
            shown.count(),
            model.paths().len()
        );
    }
    Line::styled(human::clip(&text, usize::from(width)), theme.dim())
}

/// The widths of the flexible columns.
struct Columns {
    name: usize,
    cause: usize,
    bars: usize,
}

impl Columns {
    fn of_width(width: u16) -> Columns {
        let width = usize::from(width);
        // On a narrow screen, causes are cut before names.
        let cause = if width < 70 { CAUSE / 2 } else { CAUSE };
        let fixed = STATE + cause + AGE + LATENCY + 5 * GAP.len();
        let rest = width.saturating_sub(fixed);
        let bars = (rest / 3).min(60);
        Columns {
            name: rest - bars,
            cause,
            bars,
        }
    }

    fn headings(&self, theme: &Theme) -> Line<'static> {
        let text = format!(
            "{}{GAP}{:STATE$}{GAP}{:cause$}{GAP}{:AGE$}{GAP}{:>LATENCY$}{GAP}{}",
            pad("PATH", self.name),
            "STATE",
            "CAUSE",
            "FOR",
            "LAST",
            if self.bars > 7 { "LATENCY" } else { "" },
            cause = self.cause,
        );
        Line::styled(text, theme.heading())
    }
}

/// Draws the page of the table with the selected path.
fn draw_table(frame: &mut Frame, area: Rect, model: &mut Model, columns: &Columns, theme: &Theme) {
    let height = usize::from(area.height);
    model.page = height;
    let furthest = model.rows.len().saturating_sub(height);
    let least = (model.selected + 1).saturating_sub(height);
    // The heading of the first group stays visible above the first path.
    let most = if model.selected <= 1 {
        0
    } else {
        model.selected
    };
    model.first = model.first.clamp(least, most.max(least)).min(furthest);
    if model.rows.is_empty() {
        let text = match (&model.status, model.paths().is_empty()) {
            (None, _) => "waiting for the daemon ...",
            (_, true) => "no paths are watched; `pathpulse add PATH` adds one",
            _ => "no path matches the filter; Esc clears it",
        };
        frame.render_widget(Line::styled(text, theme.dim()), area);
        return;
    }
    let shown = model.rows.iter().enumerate().skip(model.first).take(height);
    let rows: Vec<&Row> = shown.clone().map(|(_, row)| row).collect();
    let names = names_of_rows(&rows, model, columns, area.width);
    for (((number, row), name), area) in shown.zip(names).zip(area.rows()) {
        let line = match row {
            Row::Group { .. } => group_line(row, name, theme),
            Row::Path(index) => path_line(&model.paths()[*index], &name, model, columns, theme),
        };
        frame.render_widget(line, area);
        if number == model.selected {
            frame.buffer_mut().set_style(area, theme.selected());
        }
    }
}

/// The names of the groups and paths in these rows, shortened to fit.
fn names_of_rows(rows: &[&Row], model: &Model, columns: &Columns, width: u16) -> Vec<String> {
    let group = |row: &Row| match row {
        Row::Group {
            name: Some(name), ..
        } => human::printable(name),
        Row::Group { name: None, .. } => "without a group".to_owned(),
        Row::Path(_) => String::new(),
    };
    let path = |row: &Row| match row {
        Row::Path(index) => human::printable(&model.paths()[*index].path),
        Row::Group { .. } => String::new(),
    };
    let short = |name: &dyn Fn(&Row) -> String, room| {
        let names: Vec<String> = rows.iter().map(|row| name(row)).collect();
        human::shorten_all(names.iter().map(String::as_str), room)
    };
    let suffixes = rows.iter().map(|row| {
        let (count, danger, _) = group_state(row);
        count.width() + danger.width()
    });
    let groups = short(
        &group,
        usize::from(width).saturating_sub(suffixes.max().unwrap_or(0)),
    );
    let paths = short(&path, columns.name.saturating_sub(indent(model).len()));
    groups
        .into_iter()
        .zip(paths)
        .map(|(group, path)| group + &path)
        .collect()
}

/// The indent of paths below the heading of their group.
fn indent(model: &Model) -> &'static str {
    match model.rows.first() {
        Some(Row::Group { .. }) => GAP,
        _ => "",
    }
}

/// How many paths of a group are usable, its danger, and the state that has the style of the
/// danger.
fn group_state(row: &Row) -> (String, &'static str, &'static str) {
    let Row::Group { name, usable, all } = row else {
        return (String::new(), "", "");
    };
    let (danger, state) = match (usable, all) {
        _ if name.is_none() => ("", ""),
        (0, _) => (", no usable path", "down"),
        (1, 2..) => (", no redundancy", "marginal"),
        _ => ("", ""),
    };
    (format!(": {usable} of {all} usable"), danger, state)
}

fn group_line(row: &Row, name: String, theme: &Theme) -> Line<'static> {
    let (count, danger, state) = group_state(row);
    let mut spans = vec![Span::styled(name, theme.heading()), Span::raw(count)];
    if !danger.is_empty() {
        spans.push(Span::styled(danger, theme.state(state)));
    }
    Line::from(spans)
}

fn path_line(
    path: &PathDocument,
    name: &str,
    model: &Model,
    columns: &Columns,
    theme: &Theme,
) -> Line<'static> {
    let indent = indent(model);
    let shown = path.shown_state().as_str();
    let state = theme.state(shown);
    let age = human::since(&path.since).map_or_else(|| "-".to_owned(), human::age);
    let last = path
        .latency_us
        .map_or_else(|| "-".to_owned(), |us| human::latency(us.last));
    let mut spans = vec![
        Span::raw(pad(&format!("{indent}{name}"), columns.name)),
        Span::raw(GAP),
        Span::styled(pad(shown, STATE), state),
        Span::raw(GAP),
        Span::raw(pad(&cause(path), columns.cause)),
        Span::raw(format!("{GAP}{age:AGE$}{GAP}{last:>LATENCY$}{GAP}")),
    ];
    // A missing answer is as red as the state down.
    let bars = model.bars(path, columns.bars);
    spans.extend(bars.split_inclusive(NO_ANSWER).flat_map(|part| {
        let (bars, none) = part.split_at(part.find(NO_ANSWER).unwrap_or(part.len()));
        [
            Span::styled(bars.to_owned(), theme.bars()),
            Span::styled(none.to_owned(), theme.state("down")),
        ]
    }));
    Line::from(spans)
}

fn cause(path: &PathDocument) -> String {
    match path.stuck_ms {
        _ if path.overdue => path.shown_cause(),
        Some(ms) if path.cause == PathCause::TimedOut => {
            format!("stuck {}", human::age(ms / 1_000))
        }
        _ => path.cause.to_string(),
    }
}

fn draw_events(frame: &mut Frame, area: Rect, model: &Model, theme: &Theme) {
    let width = usize::from(area.width);
    let title = format!("Events (UTC) {}", "─".repeat(width.saturating_sub(13)));
    let title = Line::styled(title, theme.heading());
    let events = || model.events.iter().take(usize::from(area.height));
    let names: Vec<String> = events()
        .map(|event| human::printable(&event.path))
        .collect();
    let names = human::shorten_all(names.iter().map(String::as_str), (width / 3).max(12));
    let lines = events().zip(names);
    let lines = lines.map(|(event, name)| event_line(event, &name, width, theme));
    for (line, place) in std::iter::once(title).chain(lines).zip(area.rows()) {
        frame.render_widget(line, place);
    }
}

fn event_line(event: &EventDocument, name: &str, width: usize, theme: &Theme) -> Line<'static> {
    // The time of day in UTC, as in all other outputs.
    let time = event.time.get(11..19).unwrap_or(&event.time).to_owned();
    let change = if event.from == event.to {
        "still ".to_owned()
    } else {
        format!("{} -> ", event.from)
    };
    let mut text = format!("{GAP}{}", event.cause);
    if !event.detail.is_empty() {
        text += &format!(": {}", human::printable(&event.detail));
    }
    let taken = time.len() + 2 * GAP.len() + name.width() + change.len() + event.to.as_str().len();
    Line::from(vec![
        Span::styled(time, theme.dim()),
        Span::raw(format!("{GAP}{name}{GAP}{change}")),
        Span::styled(event.to.to_string(), theme.state(event.to.as_str())),
        Span::raw(human::clip(&text, width.saturating_sub(taken))),
    ])
}

fn footer(model: &Model, theme: &Theme, width: u16) -> Line<'static> {
    let width = usize::from(width);
    if model.mode == Mode::Filter {
        let filter = human::printable(&model.filter);
        return Line::from(human::clip(
            &format!("filter: {filter}▏  Enter applies it, Esc clears it"),
            width,
        ));
    }
    match model.message() {
        Some(text) => Line::styled(human::clip(&human::printable(text), width), theme.heading()),
        None => Line::styled(
            "q quit  ? help  / filter  s sort  p pause/resume  c check now",
            theme.dim(),
        ),
    }
}

/// Shortens or pads a text to exactly this many columns.
fn pad(text: &str, columns: usize) -> String {
    let text = human::shorten(text, columns);
    let blanks = columns.saturating_sub(text.width());
    text + &" ".repeat(blanks)
}

#[cfg(test)]
mod tests;
