//! The page as HTML. `maud` escapes all text; control characters are made visible before.

use maud::{DOCTYPE, Markup, html};

use super::view::{PathGroup, View};
use crate::api::{EventDocument, PathDocument, PathState};
use crate::human;

/// Columns of the table.
const COLUMNS: usize = 9;

pub(super) fn page(view: &View) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (verdict(view)) " · " (view.host) " · pathpulse" }
                link rel="icon" type="image/svg+xml" href="icon.svg";
                link rel="stylesheet" href="page.css";
                script src="page.js" defer {}
            }
            body {
                (header(view))
                main {
                    (summary(view))
                    (search(view))
                    (table(view))
                    (missing_rows(view))
                    (events(&view.events))
                }
                (footer(view))
            }
        }
    }
}

fn header(view: &View) -> Markup {
    html! {
        header {
            h1 { "pathpulse" span.host { (view.host) } }
            p #pulse {
                span.dot {}
                span #liveness { "as of " (clock(&view.now.to_string())) }
            }
        }
    }
}

/// The state of all paths in one sentence.
fn verdict(view: &View) -> String {
    let all = view.status.paths.len();
    for state in &PathState::FROM_WORST[..4] {
        match view.count(state) {
            0 => {}
            1 => return format!("1 of {all} paths is {state}"),
            count => return format!("{count} of {all} paths are {state}"),
        }
    }
    match (all, view.count(&PathState::Up)) {
        (0, _) => "no path is watched".to_owned(),
        (1, 1) => "the one path is up".to_owned(),
        (_, up) if up == all => format!("all {all} paths are up"),
        (_, up) => format!("{up} of {all} paths are up"),
    }
}

fn summary(view: &View) -> Markup {
    let worst = view.counts.first();
    let worst = worst.map_or(&PathState::Pending, |(state, _)| state);
    html! {
        section #summary aria-label="Summary" {
            p #verdict role="status" class=(worst) { (sign(worst)) (verdict(view)) }
            ul #counts {
                @for (state, count) in &view.counts {
                    li class=(state) { b { (count) } " " (state) }
                }
            }
        }
    }
}

/// A sign beside the word and the colour, for people who see no colours.
fn sign(state: &PathState) -> Markup {
    let sign = match state {
        PathState::Up => "✓",
        PathState::Down => "✕",
        PathState::Marginal => "!",
        PathState::Standby => "–",
        PathState::Paused => "‖",
        PathState::Removed => "×",
        PathState::Overdue | PathState::Pending | PathState::Other(_) => "?",
    };
    html! { span.sign aria-hidden="true" { (sign) } }
}

fn search(view: &View) -> Markup {
    html! {
        form #search role="search" method="get" {
            label for="q" { "Filter" }
            input #q name="q" type="search" value=(view.filter) maxlength="100" autocomplete="off" spellcheck="false"
                placeholder="name, group, state or cause";
            button { "Filter" }
        }
    }
}

fn table(view: &View) -> Markup {
    let has_groups = view.groups.iter().any(|group| group.name.is_some());
    html! {
        div.scroll role="region" aria-label="Paths" tabindex="0" {
            table #paths {
                caption { "Paths, the worst first" }
                thead {
                    tr {
                        th scope="col" { "Path" }
                        th scope="col" { "State" }
                        th scope="col" { "Cause" }
                        th scope="col" { "For" }
                        th scope="col" { "Known" }
                        th.number scope="col" { "Last" }
                        th.number scope="col" { "p99" }
                        th.spark scope="col" { "Latency" }
                        th.number scope="col" { "Checks" }
                    }
                }
                @for group in &view.groups { (rows(view, group, has_groups)) }
            }
        }
    }
}

/// A group with its paths. `data-key` is empty for paths without a group; no group has an empty
/// name.
fn rows(view: &View, group: &PathGroup, has_groups: bool) -> Markup {
    let name = group.name.map(human::printable);
    let trouble = match (group.name, group.usable, group.all) {
        (Some(_), 0, _) => Some("no usable path"),
        (Some(_), 1, 2..) => Some("no redundancy"),
        _ => None,
    };
    html! {
        tbody data-key=(group.name.unwrap_or_default()) {
            @if has_groups {
                tr.group {
                    th scope="rowgroup" colspan=(COLUMNS) {
                        (name.as_deref().unwrap_or("without a group"))
                        span.usable { (group.usable) " of " (group.all) " usable" }
                        @if let Some(trouble) = trouble { span.trouble { (trouble) } }
                    }
                }
            }
            @for path in &group.paths { (row(view, path)) }
        }
    }
}

fn row(view: &View, path: &PathDocument) -> Markup {
    let latency = |us: Option<u64>| us.map_or_else(|| "–".to_owned(), human::latency);
    let (us, state) = (path.latency_us, path.shown_state());
    html! {
        // The script draws a graph from the values of these attributes over time.
        tr data-key=(path.path) data-state=(state) data-total=(path.checks.total)
            data-answered=(path.checks.good + path.checks.busy) data-us=[recent(view, path)] {
            th scope="row" {
                span.name { (human::printable(&path.path)) }
                @if let Some(device) = &path.device { span.device { (device) } }
                @if let Some(details) = details(path) { span.details { (details) } }
            }
            td data-label="State" {
                span class={ "state " (state) } title=[known(path)] { (sign(state)) (state) }
            }
            td.cause data-label="Cause" {
                (path.shown_cause())
                @if let Some(errno) = &path.errno { span.more.whole { (errno) } }
                @if let Some(ms) = path.stuck_ms { span.more { "stuck " (human::age(ms / 1_000)) } }
                @if let Some(message) = &path.message { span.more { (human::printable(message)) } }
            }
            td data-label="For" { (since(&path.since)) }
            td data-label="Known" class=[path.overdue.then_some("late")] title=[known(path)] { (age(path)) }
            td.number data-label="Last" { (latency(us.map(|us| us.last))) }
            td.number data-label="p99" { (latency(us.map(|us| us.p99))) }
            td.spark data-label="Latency" {}
            td.number data-label="Checks" { (path.checks.total) }
        }
    }
}

/// What the device is and where it is attached, as far as that is known.
fn details(path: &PathDocument) -> Option<String> {
    let of = &path.details;
    let size = of.size_bytes.map(human::size);
    let attached = [
        &of.transport,
        &of.topology.adapter,
        &of.topology.target_port,
    ];
    let words = [&of.hctl, &of.map, &of.vendor, &of.model, &size];
    let parts = words.into_iter().chain(attached).flatten();
    let parts: Vec<String> = parts.map(|part| human::printable(part)).collect();
    (!parts.is_empty()).then(|| parts.join(" · "))
}

/// The latencies that the graph begins with, in microseconds.
fn recent(view: &View, path: &PathDocument) -> Option<String> {
    let latencies_us = view.latencies_us.get(&*path.path)?;
    let texts: Vec<String> = latencies_us.iter().map(u64::to_string).collect();
    (!texts.is_empty()).then(|| texts.join(" "))
}

/// The age of the last verdict.
fn age(path: &PathDocument) -> String {
    path.verdict_age_ms.map_or_else(
        || "–".to_owned(),
        |ms| format!("{} ago", human::age(ms / 1_000)),
    )
}

/// The time of the last verdict.
fn known(path: &PathDocument) -> Option<String> {
    Some(format!("last known {}", path.checked_at.as_ref()?))
}

/// The age of the state, with the time when it began.
fn since(time: &str) -> Markup {
    let age = human::since(time).map_or_else(|| "–".to_owned(), human::age);
    html! { time datetime=(time) title=(time) { (age) } }
}

/// Why some paths have no row.
fn missing_rows(view: &View) -> Markup {
    html! {
        p #rest {
            @if view.left_out > 0 {
                (view.left_out) " more paths are not shown, none worse than these; the filter finds them, and "
                a href="v1/status" { "/v1/status" } " has all."
            } @else if view.matching == 0 && !view.filter.is_empty() {
                "No path has this in its name, group, state or cause."
            }
        }
    }
}

fn events(events: &[EventDocument]) -> Markup {
    html! {
        section #events aria-labelledby="events-title" {
            h2 #events-title { "Events" }
            ol {
                @for event in events { (line(event)) }
            }
            @if events.is_empty() { p { "None yet." } }
        }
    }
}

fn line(event: &EventDocument) -> Markup {
    html! {
        li {
            time datetime=(event.time) title=(event.time) { (clock(&event.time)) }
            span class={ "state " (event.to) } { (sign(&event.to)) (event.to) }
            span.what {
                span.name { (human::printable(&event.path)) }
                " "
                @if event.from == event.to { "still " (event.to) } @else { "was " (event.from) }
                ", " (event.cause)
                @if !event.detail.is_empty() { span.more { (human::printable(&event.detail)) } }
            }
        }
    }
}

/// The time of day in UTC, after the date if that is not today.
fn clock(time: &str) -> String {
    let (day, rest) = time.split_once('T').unwrap_or(("", time));
    let seconds = rest.get(..8).unwrap_or(rest);
    let today = jiff::Timestamp::now().to_string();
    if today.starts_with(day) {
        format!("{seconds} UTC")
    } else {
        format!("{day} {seconds} UTC")
    }
}

fn footer(view: &View) -> Markup {
    let status = view.status;
    html! {
        footer {
            p #daemon {
                "pathpulse " (status.version) " · " (status.backend) " · " (status.workers)
                (if status.workers == 1 { " worker" } else { " workers" })
                " · running for " (human::age(status.uptime_s as u64))
            }
            nav aria-label="Data" {
                a href="v1/status" { "status" } " " a href="v1/events" { "events" } " " a href="metrics" { "metrics" }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::ErrnoName;
    use crate::api::examples::{event, overdue, path, status};

    #[test]
    fn nothing_in_a_name_becomes_markup() {
        let nasty = "/tmp/\"><script>alert(1)</script>'&\u{1b}[31m\u{202e}\n";
        let mut one = path(nasty, "down");
        one.group = Some(nasty.to_owned());
        one.errno = Some(ErrnoName(nasty.to_owned()));
        one.message = Some(nasty.to_owned());
        let mut shown = event(nasty);
        shown.detail = nasty.to_owned();
        let status = status(vec![one]);
        let text = page(&View::new(&status, vec![shown], "\"><b>")).into_string();
        assert!(
            !text.contains("<script>") && !text.contains("<b>\""),
            "{text}"
        );
        assert_eq!(text.matches("<script").count(), 1, "its own");
        assert!(text.contains("value=\"&quot;&gt;&lt;b&gt;\""), "{text}");
        assert!(text.contains("&lt;script&gt;alert(1)&lt;/script&gt;"));
    }

    #[test]
    fn a_path_shows_what_its_device_is() {
        let mut one = path("/dev/sdb", "up");
        assert_eq!(details(&one), None);
        one.details.hctl = Some("3:0:0:1".to_owned());
        one.details.size_bytes = Some(1 << 40);
        one.details.topology.adapter = Some("host3".to_owned());
        let status = status(vec![one]);
        let text = page(&View::new(&status, Vec::new(), "")).into_string();
        assert!(text.contains("3:0:0:1 · 1.0 TiB · host3"), "{text}");
    }

    #[test]
    fn the_verdict_says_the_worst() {
        let said = |states: &[&str]| {
            let paths = states.iter().map(|state| path("/dev/sda", state)).collect();
            verdict(&View::new(&status(paths), Vec::new(), ""))
        };
        assert_eq!(said(&[]), "no path is watched");
        assert_eq!(said(&["up"]), "the one path is up");
        assert_eq!(said(&["up", "up"]), "all 2 paths are up");
        assert_eq!(said(&["up", "paused"]), "1 of 2 paths are up");
        assert_eq!(said(&["up", "marginal", "down"]), "1 of 3 paths is down");
        assert_eq!(
            said(&["up", "marginal", "marginal"]),
            "2 of 3 paths are marginal"
        );
    }

    #[test]
    fn a_path_that_is_not_known_any_more_is_shown_so() {
        let mut late = overdue("/dev/sda", "up");
        late.group = Some("database".to_owned());
        let status = status(vec![late]);
        let text = page(&View::new(&status, Vec::new(), "")).into_string();
        for part in [
            "1 of 1 paths is overdue",
            "no usable path",
            "class=\"state overdue\" title=\"last known 2026-11-22T14:00:01.500Z\"",
            "up 1m00s ago",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn a_group_that_is_in_danger_says_so() {
        let text = |states: &[&str]| {
            let mut paths: Vec<_> = states.iter().map(|state| path("/dev/sda", state)).collect();
            paths
                .iter_mut()
                .for_each(|path| path.group = Some("database".to_owned()));
            page(&View::new(&status(paths), Vec::new(), "")).into_string()
        };
        assert!(text(&["down", "down"]).contains("no usable path"));
        assert!(text(&["down", "marginal"]).contains("no redundancy"));
        let healthy = text(&["up", "up"]);
        assert!(!healthy.contains("no redundancy") && healthy.contains("2 of 2 usable"));
        assert!(!text(&["up"]).contains("no redundancy"), "it never had any");
    }
}
