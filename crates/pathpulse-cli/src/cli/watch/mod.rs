//! `pathpulse watch`: a live screen.
//!
//! ```text
//! status   asks the daemon how all is, again and again      ─┐
//! events   follows what happens                              ├─> updates ─> main thread: model, screen
//! commands tells the daemon what the user wants done         │
//! input    reads keys and changes of size                   ─┘
//! ```
//! The main thread never waits for the daemon, so keys work whatever that does. What becomes of keys
//! and news is in `model.rs`, what is seen of it in `draw.rs`; both know nothing of terminals.

mod draw;
mod feed;
mod help;
mod history;
mod keys;
mod model;
mod rows;
mod theme;

use std::io::{self, IsTerminal};
use std::panic;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use pathpulse_kernel_compat::exit_now;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::args::Socket;
use super::{FAILED, Failure, output};
use feed::{Feeds, Update};
use keys::Action;
use model::Model;
use theme::Theme;

/// Ages on the screen grow while nothing else happens.
const TICK: Duration = Duration::from_secs(1);
/// Updates that wait for the screen; who has more waits for it.
const UPDATES: usize = 256;

/// Shows how the paths are that the daemon watches, and what happens to them, on a live screen
///
/// Keys: up and down choose a path, p pauses or resumes it, c has it checked now, / filters, s sorts,
/// ? shows all keys, q quits. Colours are left out where NO_COLOR is set. If the daemon goes away,
/// the screen says so, keeps what it last knew, and goes on when the daemon is back.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit status: 0 quit, 1 no terminal, or no daemon to begin with, 3 wrong usage.\n\n\
    Example:\n  pathpulse watch"
)]
pub(crate) struct Args {
    #[command(flatten)]
    socket: Socket,
}

pub(crate) fn run(args: &Args) -> Result<i32, Failure> {
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        return Err(Failure::new(
            "watch needs a terminal; `pathpulse status` and `pathpulse events --follow` do not",
        ));
    }
    if output::is_dumb() {
        return Err(Failure::new(
            "watch needs a terminal that can be drawn on, and TERM says that this one can't; \
             `pathpulse status` and `pathpulse events --follow` need none",
        ));
    }
    let (updates, news) = sync_channel(UPDATES);
    let feeds = Feeds::start(&args.socket.file, &updates)?;
    let failed = |error: io::Error| Failure::new(format!("the terminal: {error}"));
    end_on_signals(updates.clone()).map_err(failed)?;
    let mut terminal = ratatui::try_init().map_err(failed)?;
    end_on_panic();
    thread::spawn(move || read_input(&updates));
    let shown = show(&mut terminal, &news, &feeds);
    let restored = ratatui::try_restore();
    shown.and(restored).map_err(failed)?;
    Ok(0)
}

/// Draws what is new until the user, a signal or the end of the terminal says that it is enough.
fn show(terminal: &mut DefaultTerminal, news: &Receiver<Update>, feeds: &Feeds) -> io::Result<()> {
    let theme = Theme::of_terminal();
    let mut model = Model::default();
    loop {
        terminal.draw(|frame| draw::screen(frame, &mut model, &theme))?;
        let first = match news.recv_timeout(TICK) {
            Ok(update) => Some(update),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        };
        // What has gathered is drawn at once, but not more than that.
        for update in first.into_iter().chain(news.try_iter().take(UPDATES)) {
            match model.take(update) {
                Some(Action::Quit) => return Ok(()),
                Some(Action::Do(command)) => feeds.order(command),
                None => {}
            }
        }
    }
}

/// Keys, for as long as there is a terminal.
fn read_input(updates: &SyncSender<Update>) {
    while let Ok(event) = event::read() {
        if updates.send(Update::Input(event)).is_err() {
            return;
        }
    }
    let _ = updates.send(Update::End);
}

fn end_on_signals(updates: SyncSender<Update>) -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    let wait = move || {
        for _ in signals.forever() {
            let _ = updates.send(Update::End);
        }
    };
    thread::Builder::new().spawn(wait).map(drop)
}

/// A panic of any thread ends the program, after ratatui's hook has given the terminal back.
fn end_on_panic() {
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        before(info);
        exit_now(FAILED);
    }));
}
