//! `pathpulse watch`: a live screen.
//!
//! ```text
//! status    polls the status of the daemon          ─┐
//! events    follows the events of the daemon         ├─> UpdateMsg ─> main thread: model, screen
//! commands  sends the user's commands to the daemon  │
//! input     reads keys and changes of size          ─┘
//! ```
//! The main thread never waits for the daemon, so keys always work. `model.rs` handles keys and
//! updates, `draw.rs` draws the model; neither depends on a terminal.

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

use super::args::SocketOption;
use super::{FAILED, Failure, output};
use feed::{Feeds, UpdateMsg};
use keys::Action;
use model::Model;
use theme::Theme;

/// Ages on the screen grow even without updates.
const TICK: Duration = Duration::from_secs(1);
/// Updates in the queue; a thread that has more of them waits for the screen.
const UPDATES: usize = 256;

/// Shows the watched paths and their events on a live screen
///
/// Keys: up and down select a path, p pauses or resumes it, c checks it now, / filters the paths, s
/// sorts them, ? shows all keys, q quits. If the connection to the daemon is lost, the screen keeps
/// the last states, and reconnects when the daemon is back. NO_COLOR turns colours off.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit status: 0 quit, 1 no terminal, or no daemon at the start, 3 wrong usage.\n\n\
    Example:\n  pathpulse watch"
)]
pub(crate) struct Args {
    #[command(flatten)]
    socket: SocketOption,
}

pub(crate) fn run(args: &Args) -> Result<i32, Failure> {
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        return Err(Failure::new(
            "watch needs a terminal; `pathpulse status` and `pathpulse events --follow` do not",
        ));
    }
    if output::is_dumb() {
        return Err(Failure::new(
            "watch needs a terminal with control sequences, but TERM says dumb; set TERM, \
             or use `pathpulse status` or `pathpulse events --follow`",
        ));
    }
    let (sender, updates) = sync_channel(UPDATES);
    let feeds = Feeds::start(args.socket.file(), &sender)?;
    let failed = |error: io::Error| Failure::new(format!("the terminal: {error}"));
    end_on_signals(sender.clone()).map_err(failed)?;
    let mut terminal = ratatui::try_init().map_err(failed)?;
    end_on_panic();
    thread::spawn(move || read_input(&sender));
    let shown = show(&mut terminal, &updates, &feeds);
    let restored = ratatui::try_restore();
    shown.and(restored).map_err(failed)?;
    Ok(0)
}

/// Draws updates until the user quits, a signal arrives or the terminal is gone.
fn show(
    terminal: &mut DefaultTerminal,
    updates: &Receiver<UpdateMsg>,
    feeds: &Feeds,
) -> io::Result<()> {
    let theme = Theme::of_terminal();
    let mut model = Model::default();
    loop {
        terminal.draw(|frame| draw::screen(frame, &mut model, &theme))?;
        let first = match updates.recv_timeout(TICK) {
            Ok(update) => Some(update),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        };
        // All updates in the queue are drawn together, but not those that arrive meanwhile.
        for update in first.into_iter().chain(updates.try_iter().take(UPDATES)) {
            match model.update(update) {
                Some(Action::Quit) => return Ok(()),
                Some(Action::Send(command)) => feeds.send(command),
                None => {}
            }
        }
    }
}

/// Reads keys and changes of size until the terminal is gone.
fn read_input(updates: &SyncSender<UpdateMsg>) {
    while let Ok(event) = event::read() {
        if updates.send(UpdateMsg::Input(event)).is_err() {
            return;
        }
    }
    let _ = updates.send(UpdateMsg::End);
}

fn end_on_signals(updates: SyncSender<UpdateMsg>) -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    let wait = move || {
        for _ in signals.forever() {
            let _ = updates.send(UpdateMsg::End);
        }
    };
    thread::Builder::new().spawn(wait).map(drop)
}

/// A panic of any thread ends the program, after ratatui's hook has restored the terminal.
fn end_on_panic() {
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        before(info);
        exit_now(FAILED);
    }));
}
