//! What the screen shows, and what becomes of it by news and keys.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use ratatui::crossterm::event::{Event as Input, KeyEventKind};

use super::feed::Update;
use super::history::History;
use super::keys::Action;
use super::rows::{Row, Sort, rows};
use crate::daemon::{EventDocument, PathDocument, StatusDocument};

/// Events that are kept: more than a screen shows.
const EVENTS: usize = 200;
/// How long an answer to a command is shown.
const SAID: Duration = Duration::from_secs(6);

/// What keys are for at the moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Mode {
    #[default]
    Table,
    Filter,
    Help,
}

/// All that is shown.
#[derive(Default)]
pub(super) struct Model {
    pub(super) status: Option<StatusDocument>,
    /// Since when the daemon has not answered, and why.
    pub(super) away: Option<(Instant, String)>,
    /// The latest first.
    pub(super) events: VecDeque<EventDocument>,
    pub(super) mode: Mode,
    pub(super) filter: String,
    pub(super) sort: Sort,
    pub(super) rows: Vec<Row>,
    /// The line that is chosen, and the first that is shown. The one who draws sees to it that the
    /// one is within a page from the other.
    pub(super) chosen: usize,
    pub(super) first: usize,
    pub(super) page: usize,
    histories: HashMap<String, History>,
    said: Option<(Instant, String)>,
}

impl Model {
    /// Takes what is new.
    pub(super) fn take(&mut self, update: Update) -> Option<Action> {
        match update {
            Update::Status(status) => self.take_status(*status),
            Update::Away(why) => {
                let since = self
                    .away
                    .as_ref()
                    .map_or_else(Instant::now, |(since, _)| *since);
                self.away = Some((since, why));
            }
            Update::Afresh => self.events.clear(),
            Update::Event(event) => {
                self.events.truncate(EVENTS - 1);
                self.events.push_front(*event);
            }
            Update::Said(text) => self.say(text),
            // A terminal may tell of releases, too.
            Update::Input(Input::Key(key)) if key.kind != KeyEventKind::Release => {
                return self.press(key);
            }
            // A new size shows when it is drawn next, which is now.
            Update::Input(_) => {}
            Update::End => return Some(Action::Quit),
        }
        None
    }

    fn take_status(&mut self, status: StatusDocument) {
        self.away = None;
        let mut before = std::mem::take(&mut self.histories);
        for path in &status.paths {
            let mut history = before.remove(&path.path).unwrap_or_default();
            history.see(path);
            self.histories.insert(path.path.clone(), history);
        }
        let chosen = self.selected().map(|path| path.path.clone());
        self.status = Some(status);
        self.arrange_around(chosen.as_deref());
    }

    pub(super) fn paths(&self) -> &[PathDocument] {
        self.status.as_ref().map_or(&[], |status| &status.paths)
    }

    /// What was seen of a path.
    pub(super) fn bars(&self, path: &PathDocument, columns: usize) -> String {
        let history = self.histories.get(&path.path);
        history
            .map(|history| history.bars(columns))
            .unwrap_or_default()
    }

    /// The path that is chosen.
    pub(super) fn selected(&self) -> Option<&PathDocument> {
        match self.rows.get(self.chosen)? {
            Row::Path(place) => self.paths().get(*place),
            Row::Group { .. } => None,
        }
    }

    pub(super) fn set_filter(&mut self, filter: String) {
        if filter != self.filter {
            self.filter = filter;
            self.arrange();
        }
    }

    /// Makes the rows anew; the path that is chosen stays so.
    pub(super) fn arrange(&mut self) {
        let chosen = self.selected().map(|path| path.path.clone());
        self.arrange_around(chosen.as_deref());
    }

    fn arrange_around(&mut self, chosen: Option<&str>) {
        self.rows = rows(self.paths(), self.sort, self.filter.trim());
        let is_chosen = |row: &Row| match row {
            Row::Path(place) => Some(self.paths()[*place].path.as_str()) == chosen,
            Row::Group { .. } => false,
        };
        if let Some(line) = self.rows.iter().position(is_chosen) {
            self.chosen = line;
        }
        self.choose(0);
    }

    /// Chooses a path so many lines further down; the nearest if there is none.
    pub(super) fn choose(&mut self, lines: isize) {
        let last = self.rows.len().saturating_sub(1);
        let line = self.chosen.saturating_add_signed(lines).min(last);
        let is_path = |line: &usize| matches!(self.rows.get(*line), Some(Row::Path(_)));
        let above = (0..=line).rev().find(is_path);
        let below = (line..=last).find(is_path);
        let found = if lines < 0 {
            above.or(below)
        } else {
            below.or(above)
        };
        self.chosen = found.unwrap_or(0);
    }

    pub(super) fn say(&mut self, text: String) {
        self.said = Some((Instant::now(), text));
    }

    /// What there was to say, if that is not long ago.
    pub(super) fn said(&self) -> Option<&str> {
        let (when, text) = self.said.as_ref()?;
        (when.elapsed() < SAID).then_some(text)
    }
}

#[cfg(test)]
mod tests {
    use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

    use super::*;
    use crate::api::examples::{path, status};
    use crate::cli::watch::feed::Command;

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
            action = model.take(Update::Input(Input::Key(code.into())));
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
        model.take(Update::Status(Box::new(status(paths))));
        model
    }

    fn selected(model: &Model) -> &str {
        model.selected().map_or("", |path| &path.path)
    }

    #[test]
    fn keys_choose_paths_and_never_groups() {
        let mut model = watching(&[("a", "up"), ("b", "up"), ("c", "down")]);
        let mut seen = vec![selected(&model).to_owned()];
        for key in ["↓", "↓", "↓", "↑", "↑", "↑", "G", "g"] {
            press(&mut model, key);
            seen.push(selected(&model).to_owned());
        }
        assert_eq!(seen, ["a", "b", "c", "c", "b", "a", "a", "c", "a"]);
    }

    #[test]
    fn the_chosen_path_stays_chosen_wherever_it_goes() {
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
    fn commands_are_about_the_chosen_path() {
        let mut model = watching(&[("a", "up"), ("b", "paused")]);
        let command = |name, path: &str| {
            Some(Action::Do(Command {
                name,
                path: path.to_owned(),
            }))
        };
        assert_eq!(press(&mut model, "p"), command("pause", "a"));
        assert_eq!(press(&mut model, "↓p"), command("resume", "b"));
        assert_eq!(press(&mut model, "c"), command("check-now", "b"));
        assert!(model.said().is_some_and(|said| said.contains("check-now")));
    }

    #[test]
    fn letters_of_a_filter_are_no_commands_and_ctrl_c_always_quits() {
        let mut model = watching(&[("a", "up"), ("b", "up")]);
        assert_eq!(press(&mut model, "/q"), None);
        let ctrl_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(model.press(ctrl_c), Some(Action::Quit));
        press(&mut model, "\x1b?");
        assert_eq!((model.mode, press(&mut model, "q")), (Mode::Help, None));
        assert_eq!(press(&mut model, "q"), Some(Action::Quit));
        assert_eq!(model.take(Update::End), Some(Action::Quit));
    }

    #[test]
    fn paths_that_go_take_what_was_seen_of_them_along() {
        let mut model = watching(&[("a", "up"), ("b", "up")]);
        press(&mut model, "↓");
        model.take(Update::Away("no daemon".to_owned()));
        assert!(model.away.is_some());
        model.take(Update::Status(Box::new(status(vec![path("a", "up")]))));
        assert_eq!((selected(&model), model.histories.len()), ("a", 1));
        assert!(model.away.is_none());
        model.take(Update::Status(Box::new(status(Vec::new()))));
        assert_eq!((selected(&model), model.histories.len()), ("", 0));
    }
}
