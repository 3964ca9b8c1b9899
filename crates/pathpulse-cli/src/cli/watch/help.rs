//! The help: a box over the table with all keys.

use ratatui::Frame;
use ratatui::layout::{Constraint, Rect};
use ratatui::text::Line;
use ratatui::widgets::{Block, Clear, Padding, Paragraph};

use super::keys::KEYS;
use super::theme::Theme;

const WIDTH: u16 = 76;

/// Draws the help in the middle of the screen.
pub(super) fn draw(frame: &mut Frame, area: Rect, theme: &Theme) {
    let mut lines: Vec<Line> = KEYS
        .iter()
        .map(|(key, what)| Line::from(format!("{key:<40}  {what}")))
        .collect();
    lines.push(Line::default());
    lines.push(Line::from(
        "Bars show the latencies since this screen was started.",
    ));
    lines.push(Line::from(
        "The tallest bar is the largest latency. × is no answer.",
    ));
    let height = u16::try_from(lines.len())
        .unwrap_or(u16::MAX)
        .saturating_add(2);
    let place = area.centered(Constraint::Max(WIDTH), Constraint::Max(height));
    let block = Block::bordered()
        .title(" Keys ")
        .title_style(theme.heading())
        .padding(Padding::horizontal(2));
    frame.render_widget(Clear, place);
    frame.render_widget(Paragraph::new(lines).block(block), place);
}
