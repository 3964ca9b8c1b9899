//! The model of the screen, and how updates and keys change it.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use ratatui::crossterm::event::{Event as Input, KeyEventKind};

use super::feed::UpdateMsg;
use super::history::History;
use super::keys::Action;
use super::rows::{Row, Sort, rows};
use crate::api::{EventDocument, PathDocument, StatusDocument};

/// Number of kept events: more than a screen shows.
const EVENTS: usize = 200;
/// How long a message stays on the screen.
const MESSAGE_TIME: Duration = Duration::from_secs(6);

/// The current meaning of keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Mode {
    #[default]
    Table,
    Filter,
    Help,
}

/// Everything that the screen shows.
#[derive(Default)]
pub(super) struct Model {
    pub(super) status: Option<StatusDocument>,
    /// Since when the daemon has not answered, and why.
    pub(super) disconnected: Option<(Instant, String)>,
    /// The latest event is the first.
    pub(super) events: VecDeque<EventDocument>,
    pub(super) mode: Mode,
    pub(super) filter: String,
    pub(super) sort: Sort,
    pub(super) rows: Vec<Row>,
    /// The selected line, and the first line on the screen. Drawing keeps them within a page of
    /// each other.
    pub(super) selected: usize,
    pub(super) first: usize,
    pub(super) page: usize,
    histories: HashMap<String, History>,
    message: Option<(Instant, String)>,
}

impl Model {
    /// Applies an update, and returns the action of a key.
    pub(super) fn update(&mut self, update: UpdateMsg) -> Option<Action> {
        match update {
            UpdateMsg::Status(status) => self.update_status(*status),
            UpdateMsg::Disconnected(why) => {
                let since = self
                    .disconnected
                    .as_ref()
                    .map_or_else(Instant::now, |(since, _)| *since);
                self.disconnected = Some((since, why));
            }
            UpdateMsg::EventsRestarted => self.events.clear(),
            UpdateMsg::Event(event) => {
                self.events.truncate(EVENTS - 1);
                self.events.push_front(*event);
            }
            UpdateMsg::CommandResult(text) => self.show_message(text),
            // Some terminals report releases of keys, too.
            UpdateMsg::Input(Input::Key(key)) if key.kind != KeyEventKind::Release => {
                return self.press(key);
            }
            // The screen is drawn after every update, in its current size.
            UpdateMsg::Input(_) => {}
            UpdateMsg::End => return Some(Action::Quit),
        }
        None
    }

    fn update_status(&mut self, status: StatusDocument) {
        self.disconnected = None;
        let mut before = std::mem::take(&mut self.histories);
        for path in &status.paths {
            let mut history = before.remove(&path.path).unwrap_or_default();
            history.add(path);
            self.histories.insert(path.path.clone(), history);
        }
        let selected = self.selected_path().map(|path| path.path.clone());
        self.status = Some(status);
        self.arrange_around(selected.as_deref());
    }

    pub(super) fn paths(&self) -> &[PathDocument] {
        self.status.as_ref().map_or(&[], |status| &status.paths)
    }

    /// The latencies of a path.
    pub(super) fn bars(&self, path: &PathDocument, columns: usize) -> String {
        let history = self.histories.get(&path.path);
        history
            .map(|history| history.bars(columns))
            .unwrap_or_default()
    }

    /// The selected path.
    pub(super) fn selected_path(&self) -> Option<&PathDocument> {
        match self.rows.get(self.selected)? {
            Row::Path(index) => self.paths().get(*index),
            Row::Group { .. } => None,
        }
    }

    pub(super) fn set_filter(&mut self, filter: String) {
        if filter != self.filter {
            self.filter = filter;
            self.arrange();
        }
    }

    /// Builds the rows again, and keeps the selected path.
    pub(super) fn arrange(&mut self) {
        let selected = self.selected_path().map(|path| path.path.clone());
        self.arrange_around(selected.as_deref());
    }

    fn arrange_around(&mut self, selected: Option<&str>) {
        self.rows = rows(self.paths(), self.sort, self.filter.trim());
        let is_selected = |row: &Row| match row {
            Row::Path(index) => Some(self.paths()[*index].path.as_str()) == selected,
            Row::Group { .. } => false,
        };
        if let Some(line) = self.rows.iter().position(is_selected) {
            self.selected = line;
        }
        self.select(0);
    }

    /// Selects the path this many lines further down, or the nearest one.
    pub(super) fn select(&mut self, lines: isize) {
        let last = self.rows.len().saturating_sub(1);
        let line = self.selected.saturating_add_signed(lines).min(last);
        let is_path = |line: &usize| matches!(self.rows.get(*line), Some(Row::Path(_)));
        let above = (0..=line).rev().find(is_path);
        let below = (line..=last).find(is_path);
        let found = if lines < 0 {
            above.or(below)
        } else {
            below.or(above)
        };
        self.selected = found.unwrap_or(0);
    }

    pub(super) fn show_message(&mut self, text: String) {
        self.message = Some((Instant::now(), text));
    }

    /// The last message, unless it is old.
    pub(super) fn message(&self) -> Option<&str> {
        let (when, text) = self.message.as_ref()?;
        (when.elapsed() < MESSAGE_TIME).then_some(text)
    }
}

#[cfg(test)]
mod tests {
    use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

    use super::*;
    use crate::api::examples::{path, status};
    use crate::cli::watch::feed::CommandMsg;

    fn press(model: &mut Model, keys: &str) -> Option<Action> {
        let mut action = None;
        for key in keys.chars() {
            let code = match key {
                '\n' => KeyCode::Enter,
                '\x1b' => KeyCode::Esc,
                '\x08' => KeyCode::Backspace,
                '↑' => KeyCode::Up,
                '↓' => KeyCode::Down,
                key => KeyCode::Char(key),
            };
            action = model.update(UpdateMsg::Input(Input::Key(code.into())));
        }
        action
    }

    fn watching(states: &[(&str, &str)]) -> Model {
        let mut model = Model::default();
        let mut paths: Vec<_> = states
            .iter()
            .map(|(name, state)| path(name, state))
            .collect();
        paths[0].group = Some("g".to_owned());
        model.update(UpdateMsg::Status(Box::new(status(paths))));
        model
    }

    fn selected(model: &Model) -> &str {
        model.selected_path().map_or("", |path| &path.path)
    }

    #[test]
    fn keys_select_paths_and_never_groups() {
        let mut model = watching(&[("a", "up"), ("b", "up"), ("c", "down")]);
        let mut seen = vec![selected(&model).to_owned()];
        for key in ["↓", "↓", "↓", "↑", "↑", "↑", "G", "g"] {
            press(&mut model, key);
            seen.push(selected(&model).to_owned());
        }
        assert_eq!(seen, ["a", "b", "c", "c", "b", "a", "a", "c", "a"]);
    }

    #[test]
    fn the_selected_path_stays_selected_when_rows_move() {
        let mut model = watching(&[("a", "up"), ("b", "up"), ("c", "down")]);
        press(&mut model, "Gss");
        assert_eq!(selected(&model), "c");
        press(&mut model, "/b\n");
        assert_eq!((selected(&model), model.rows.len()), ("b", 1));
        press(&mut model, "\x1b");
        assert_eq!((selected(&model), model.filter.as_str()), ("b", ""));
        press(&mut model, "/nothing");
        assert_eq!(selected(&model), "");
        assert_eq!(press(&mut model, "\n p"), None, "there is nothing to pause");
        press(&mut model, "/\x08\x08\x08\x08\x08\x08\x08\n");
        assert_eq!(model.rows.len(), 3);
    }

    #[test]
    fn commands_are_about_the_selected_path() {
        let mut model = watching(&[("a", "up"), ("b", "paused")]);
        let command = |name, path: &str| {
            Some(Action::Send(CommandMsg {
                name,
                path: path.to_owned(),
            }))
        };
        assert_eq!(press(&mut model, "p"), command("pause", "a"));
        assert_eq!(press(&mut model, "↓p"), command("resume", "b"));
        assert_eq!(press(&mut model, "c"), command("check-now", "b"));
        assert!(
            model
                .message()
                .is_some_and(|text| text.contains("check-now"))
        );
    }

    #[test]
    fn keys_edit_the_filter_and_ctrl_c_always_quits() {
        let mut model = watching(&[("a", "up"), ("b", "up")]);
        assert_eq!(press(&mut model, "/q"), None);
        let ctrl_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(model.press(ctrl_c), Some(Action::Quit));
        press(&mut model, "\x1b?");
        assert_eq!((model.mode, press(&mut model, "q")), (Mode::Help, None));
        assert_eq!(press(&mut model, "q"), Some(Action::Quit));
        assert_eq!(model.update(UpdateMsg::End), Some(Action::Quit));
    }

    #[test]
    fn the_history_of_a_removed_path_is_dropped() {
        let mut model = watching(&[("a", "up"), ("b", "up")]);
        press(&mut model, "↓");
        model.update(UpdateMsg::Disconnected("no daemon".to_owned()));
        assert!(model.disconnected.is_some());
        model.update(UpdateMsg::Status(Box::new(status(vec![path("a", "up")]))));
        assert_eq!((selected(&model), model.histories.len()), ("a", 1));
        assert!(model.disconnected.is_none());
        model.update(UpdateMsg::Status(Box::new(status(Vec::new()))));
        assert_eq!((selected(&model), model.histories.len()), ("", 0));
    }
}
