//! All keys, over the table.

use ratatui::Frame;
use ratatui::layout::{Constraint, Rect};
use ratatui::text::Line;
use ratatui::widgets::{Block, Clear, Padding, Paragraph};

use super::keys::KEYS;
use super::theme::Theme;

const WIDTH: u16 = 76;

/// Draws them in the middle.
pub(super) fn draw(frame: &mut Frame, area: Rect, theme: &Theme) {
    let mut lines: Vec<Line> = KEYS
        .iter()
        .map(|(key, what)| Line::from(format!("{key:<40}  {what}")))
        .collect();
    lines.push(Line::default());
    lines.push(Line::from(
        "Bars are the latencies since this screen is up, the tallest",
    ));
    lines.push(Line::from(
        "being the largest shown; × stands for no answer.",
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
