//! Draws screens into memory, and checks their text and styles.

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;
use ratatui::crossterm::event::{Event as Input, KeyCode};
use ratatui::style::{Color, Modifier};

use super::*;
use crate::api::examples::{event, overdue, path, status};
use crate::cli::watch::feed::UpdateMsg;

fn drawn(model: &mut Model, width: u16, height: u16, has_colours: bool) -> Buffer {
    let backend = TestBackend::new(width, height);
    let mut terminal = Terminal::new(backend).expect("in memory");
    let theme = Theme::new(has_colours);
    terminal
        .draw(|frame| screen(frame, model, &theme))
        .expect("in memory");
    terminal.backend().buffer().clone()
}

fn lines(buffer: &Buffer) -> Vec<String> {
    let cells = buffer.content.chunks(usize::from(buffer.area.width));
    let text = cells.map(|row| {
        row.iter()
            .map(ratatui::buffer::Cell::symbol)
            .collect::<String>()
    });
    text.map(|line| line.trim_end().to_owned()).collect()
}

/// Two groups of two paths; one path of the first group hangs.
fn model() -> Model {
    let long = format!("/dev/disk/by-id/wwn-0x{}-end", "5000c5".repeat(20));
    let names = ["/dev/sda", "/dev/sdb", "/dev/sdc", &long];
    let mut paths = names.map(|name| path(name, "up"));
    for (n, path) in paths.iter_mut().enumerate() {
        path.group = Some(if n < 2 { "database" } else { "backup" }.to_owned());
    }
    paths[1].state = "down".into();
    paths[1].cause = "timed_out".into();
    paths[1].stuck_ms = Some(303_000);
    paths[3].state = "marginal".into();
    paths[3].cause = "reservation_conflict".into();
    let mut model = Model::default();
    for total in 11..=20 {
        for path in &mut paths {
            path.checks.total = total;
        }
        for n in [0, 2, 3] {
            paths[n].checks.good = total;
            paths[n].latency_us.as_mut().expect("some").last = 10 * total;
        }
        model.update(UpdateMsg::Status(Box::new(status(paths.to_vec()))));
    }
    model.update(UpdateMsg::Event(Box::new(event("/dev/sdb"))));
    model
}

fn key(model: &mut Model, code: KeyCode) {
    model.update(UpdateMsg::Input(Input::Key(code.into())));
}

#[test]
fn a_terminal_of_80_columns_shows_states_causes_bars_and_events() {
    let lines = lines(&drawn(&mut model(), 80, 24, true));
    let text = lines.join("\n");
    assert_eq!(
        lines[0],
        "pathpulse  1 down  1 marginal  2 up  io_uring, 1 worker, running for 1h01m"
    );
    assert_eq!(lines[3], "database: 1 of 2 usable, no redundancy");
    assert_eq!(lines[6], "backup: 2 of 2 usable");
    for (line, parts) in [
        (4, ["  /dev/sda ", " up ", " good ", "▆▆▆▇▇█"]),
        (5, ["  /dev/sdb ", " down ", " stuck 5m03s ", "█×××××××××"]),
        (8, ["…", " marginal  ", " reservation_conflict ", "5-end  "]),
    ] {
        for part in parts {
            assert!(lines[line].contains(part), "{part:?}: {text}");
        }
    }
    assert!(lines[4].contains('█') && !lines[4].contains('×'), "{text}");
    assert!(
        lines.iter().any(|line| line.starts_with("Events (UTC) ──")),
        "{text}"
    );
    assert!(
        text.contains("14:00:00  /dev/sdb  up -> down  timed_out: no answer within 300ms"),
        "{text}"
    );
    assert!(lines[23].contains("q quit"), "{text}");
}

#[test]
fn the_text_is_the_same_without_colours() {
    let mut model = model();
    let plain = drawn(&mut model, 80, 24, false);
    let is_plain =
        |cell: &ratatui::buffer::Cell| (cell.fg, cell.bg) == (Color::Reset, Color::Reset);
    assert!(plain.content.iter().all(is_plain));
    let coloured = drawn(&mut model, 80, 24, true);
    assert_eq!(lines(&plain), lines(&coloured));
    let red = coloured.content.iter().filter(|cell| cell.fg == Color::Red);
    assert!(red.count() >= "down".len());
}

#[test]
fn the_selected_path_is_always_on_the_page() {
    let mut model = Model::default();
    let mut paths: Vec<_> = (0..500)
        .map(|n| path(&format!("/dev/path{n}"), "up"))
        .collect();
    for (n, path) in paths.iter_mut().enumerate() {
        path.group = Some(format!("group{}", n / 7));
    }
    model.update(UpdateMsg::Status(Box::new(status(paths))));
    let assert_shown = |model: &mut Model, height: u16| {
        let buffer = drawn(model, 80, height, true);
        let name = model.selected_path().expect("one").path.clone();
        let selected: Vec<String> = lines(&buffer)
            .into_iter()
            .zip(buffer.content.chunks(80))
            .filter(|(_, cells)| cells[40].modifier.contains(Modifier::REVERSED))
            .map(|(line, _)| line)
            .collect();
        assert_eq!(selected.len(), 1, "{selected:?}");
        assert!(
            selected[0].contains(&format!("{name} ")),
            "{selected:?} {name}"
        );
    };
    for code in [
        KeyCode::Down,
        KeyCode::PageDown,
        KeyCode::End,
        KeyCode::Up,
        KeyCode::PageUp,
        KeyCode::PageUp,
        KeyCode::Home,
    ] {
        key(&mut model, code);
        for height in [24, 10, 60, 15] {
            assert_shown(&mut model, height);
        }
    }
    let buffer = drawn(&mut model, 80, 24, true);
    assert_eq!(
        lines(&buffer)[3],
        "group0: 7 of 7 usable",
        "the heading is visible, too"
    );
}

#[test]
fn a_lost_connection_is_shown_and_the_last_states_stay() {
    let mut model = model();
    model.update(UpdateMsg::Disconnected(
        "no daemon at /run/p.sock\x1b[31m".to_owned(),
    ));
    let shown = lines(&drawn(&mut model, 80, 24, true));
    assert!(
        shown[1].starts_with("NOT CONNECTED for 0s, reconnecting: no daemon at /run/p.sock"),
        "{shown:#?}"
    );
    assert!(shown.iter().any(|line| line.contains("/dev/sdb")) && !shown.join("").contains('\x1b'));
}

#[test]
fn filter_help_and_results_of_commands_are_shown() {
    let mut model = model();
    key(&mut model, KeyCode::Char('/'));
    for c in "sdb".chars() {
        key(&mut model, KeyCode::Char(c));
    }
    let shown = lines(&drawn(&mut model, 80, 24, true));
    assert!(shown[23].starts_with("filter: sdb"), "{shown:#?}");
    assert!(shown[1].contains("1 of 4 match /sdb"), "{shown:#?}");
    assert!(!shown.join("\n").contains("/dev/sda"), "{shown:#?}");
    key(&mut model, KeyCode::Enter);
    model.update(UpdateMsg::CommandResult("/dev/sdb: pause done".to_owned()));
    assert_eq!(
        lines(&drawn(&mut model, 80, 24, true))[23],
        "/dev/sdb: pause done"
    );
    key(&mut model, KeyCode::Char('?'));
    let help = lines(&drawn(&mut model, 80, 24, true)).join("\n");
    for (key, what) in super::super::keys::KEYS {
        assert!(help.contains(key) && help.contains(what), "{key}: {help}");
    }
}

#[test]
fn screens_of_any_size_and_state_can_be_drawn() {
    let empty = Model::default();
    let mut none = Model::default();
    none.update(UpdateMsg::Status(Box::new(status(Vec::new()))));
    let mut odd = model();
    let mut document = status(vec![path("/tmp/磁盘\n\x1b[2J", "pending")]);
    document.paths[0].latency_us = None;
    document.paths[0].since = "not a time".to_owned();
    odd.update(UpdateMsg::Status(Box::new(document)));
    for mut model in [empty, none, odd, model()] {
        for width in [1, 39, 40, 69, 70, 80, 81, 300] {
            for height in [1, 9, 10, 15, 16, 24, 100] {
                let shown = lines(&drawn(&mut model, width, height, true));
                assert_eq!(shown.len(), usize::from(height));
                assert!(shown.iter().all(|line| !line.contains(char::is_control)));
            }
        }
    }
}

#[test]
fn an_overdue_path_is_shown_with_its_last_state() {
    let mut model = Model::default();
    let paths = vec![overdue("/dev/sda", "up"), path("/dev/sdb", "up")];
    model.update(UpdateMsg::Status(Box::new(status(paths))));
    let text = lines(&drawn(&mut model, 100, 20, false));
    assert!(text[0].contains("1 overdue  1 up"), "{text:#?}");
    let line = text.iter().find(|line| line.starts_with("/dev/sda"));
    let line = line.expect("it is shown");
    assert!(line.contains(" overdue   up 1m00s ago "), "{line}");
}
