//! Whether colours and styles are wanted.

use std::env;
use std::io::IsTerminal;
use std::sync::OnceLock;

/// What the command line says, if it does.
static WANTED: OnceLock<bool> = OnceLock::new();

/// Takes what the command line says, for the rest of the process.
pub(crate) fn want_styles(wanted: bool) {
    let _ = WANTED.set(wanted);
}

/// Whether what is written to this stream may have colours and styles: as the command line says;
/// else on a terminal, unless `TERM` is `dumb` or `NO_COLOR` is set (no-color.org).
pub(crate) fn is_styled(stream: &impl IsTerminal) -> bool {
    let by_itself = || {
        let no_color = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        stream.is_terminal() && !is_dumb() && !no_color
    };
    WANTED.get().copied().unwrap_or_else(by_itself)
}

/// Whether the terminal knows no control sequences.
pub(crate) fn is_dumb() -> bool {
    env::var_os("TERM").is_some_and(|term| term == "dumb")
}
