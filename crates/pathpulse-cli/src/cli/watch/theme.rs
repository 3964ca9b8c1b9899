//! Styles: colours only where the terminal has them and the user wants them, so that no information
//! depends on a colour.

use std::env;
use std::io;

use ratatui::style::{Color, Modifier, Style};

use crate::cli::output;

/// The styles of the screen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Theme {
    has_colours: bool,
}

impl Theme {
    /// The styles for this process's terminal.
    pub(super) fn of_terminal() -> Theme {
        let is_vt100 = env::var_os("TERM").is_some_and(|term| term == "vt100");
        Theme {
            has_colours: output::is_styled(&io::stdout()) && !is_vt100,
        }
    }

    #[cfg(test)]
    pub(super) fn new(has_colours: bool) -> Theme {
        Theme { has_colours }
    }

    fn colour(self, colour: Color) -> Style {
        if self.has_colours {
            Style::new().fg(colour)
        } else {
            Style::new()
        }
    }

    /// A state, or a remark of the same severity.
    pub(super) fn state(self, state: &str) -> Style {
        match state {
            "up" => self.colour(Color::Green),
            "down" => self.colour(Color::Red).add_modifier(Modifier::BOLD),
            "marginal" | "overdue" => self.colour(Color::Yellow).add_modifier(Modifier::BOLD),
            _ => self.colour(Color::Cyan),
        }
    }

    /// A problem that the user must see.
    pub(super) fn alarm(self) -> Style {
        self.colour(Color::Red)
            .add_modifier(Modifier::BOLD | Modifier::REVERSED)
    }

    pub(super) fn heading(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    pub(super) fn dim(self) -> Style {
        self.colour(Color::DarkGray)
    }

    pub(super) fn bars(self) -> Style {
        self.colour(Color::Blue)
    }

    pub(super) fn selected(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }
}
