//! The keys and their actions.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::feed::CommandMsg;
use super::model::{Mode, Model};
use crate::api::PathState;

/// What the main thread does because of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Quit,
    Send(CommandMsg),
}

/// Each key with its purpose, for the help.
pub(super) const KEYS: [(&str, &str); 8] = [
    ("q", "quit"),
    ("?", "help"),
    ("/", "filter"),
    ("s", "sort"),
    ("p", "pause or resume the path"),
    ("c", "check the path now"),
    ("up, down, page up, page down, home, end", "select a path"),
    ("esc", "clear the filter"),
];

impl Model {
    /// Handles a key.
    pub(super) fn press(&mut self, key: KeyEvent) -> Option<Action> {
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return (key.code == KeyCode::Char('c')).then_some(Action::Quit);
        }
        match self.mode {
            Mode::Help => {
                self.mode = Mode::Table;
                None
            }
            Mode::Filter => {
                self.edit_filter(key.code);
                None
            }
            Mode::Table => self.press_at_table(key.code),
        }
    }

    fn press_at_table(&mut self, key: KeyCode) -> Option<Action> {
        let page = isize::try_from(self.page.max(1)).unwrap_or(1);
        match key {
            KeyCode::Char('q') => return Some(Action::Quit),
            KeyCode::Char('?' | 'h') => self.mode = Mode::Help,
            KeyCode::Char('/') => self.mode = Mode::Filter,
            KeyCode::Esc => self.set_filter(String::new()),
            KeyCode::Char('s') => {
                self.sort = self.sort.next();
                self.arrange();
            }
            KeyCode::Char('p') => {
                let is_paused = self.selected_path()?.state == PathState::Paused;
                return self.command(if is_paused { "resume" } else { "pause" });
            }
            KeyCode::Char('c') => return self.command("check-now"),
            KeyCode::Up | KeyCode::Char('k') => self.select(-1),
            KeyCode::Down | KeyCode::Char('j') => self.select(1),
            KeyCode::PageUp => self.select(-page),
            KeyCode::PageDown => self.select(page),
            KeyCode::Home | KeyCode::Char('g') => self.select(isize::MIN),
            KeyCode::End | KeyCode::Char('G') => self.select(isize::MAX),
            _ => {}
        }
        None
    }

    fn edit_filter(&mut self, key: KeyCode) {
        let mut filter = self.filter.clone();
        match key {
            KeyCode::Enter => self.mode = Mode::Table,
            KeyCode::Esc => {
                self.mode = Mode::Table;
                filter.clear();
            }
            KeyCode::Backspace => drop(filter.pop()),
            KeyCode::Char(c) => filter.push(c),
            _ => {}
        }
        self.set_filter(filter);
    }

    /// A command about the selected path.
    fn command(&mut self, name: &'static str) -> Option<Action> {
        let path = self.selected_path()?.path.clone();
        self.show_message(format!("{path}: {name} ..."));
        Some(Action::Send(CommandMsg { name, path }))
    }
}
