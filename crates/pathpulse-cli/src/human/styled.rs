//! Whether colours and styles are wanted.

use std::env;
use std::io::IsTerminal;
use std::sync::OnceLock;

/// The choice on the command line, if there is one.
static WANTED: OnceLock<bool> = OnceLock::new();

/// Sets the choice of the command line for the rest of the process.
pub(crate) fn want_styles(wanted: bool) {
    let _ = WANTED.set(wanted);
}

/// Whether output to this stream may have colours and styles: the choice of the command line; else
/// on a terminal, unless `TERM` is `dumb` or `NO_COLOR` is set (no-color.org).
pub(crate) fn is_styled(stream: &impl IsTerminal) -> bool {
    let by_itself = || {
        let no_color = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        stream.is_terminal() && !is_dumb() && !no_color
    };
    WANTED.get().copied().unwrap_or_else(by_itself)
}

/// Whether the terminal supports no control sequences.
pub(crate) fn is_dumb() -> bool {
    env::var_os("TERM").is_some_and(|term| term == "dumb")
}
