//! Where news come from: threads that ask the daemon, and ask again when it was away.

use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use pathpulse::parse_name;
use ratatui::crossterm::event::Event as Input;

use crate::cli::Failure;
use crate::cli::client::Client;
use crate::daemon::{AnswerDocument, EventDocument, Name, PathsDocument, StatusDocument};

/// From one question how all is to the next.
const PACE: Duration = Duration::from_secs(1);
/// The same after an event.
const SOON: Duration = Duration::from_millis(100);
/// Before the daemon is looked for again.
const RETRY: Duration = Duration::from_secs(1);
/// How long a command may take.
const COMMAND_LIMIT: Duration = Duration::from_secs(12);
/// Commands on their way.
const COMMANDS: usize = 16;

/// What the screen is told.
pub(super) enum Update {
    Status(Box<StatusDocument>),
    /// The daemon does not answer: why, in one line.
    Away(String),
    /// Events come from the beginning.
    Afresh,
    Event(Box<EventDocument>),
    /// What became of a command.
    Said(String),
    Input(Input),
    /// There is nobody to show anything to.
    End,
}

/// What the daemon is to do to a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Command {
    /// As in `/v1/pause`.
    pub(super) name: &'static str,
    pub(super) path: String,
}

/// The threads, and how to reach them.
pub(super) struct Feeds {
    commands: SyncSender<Command>,
}

impl Feeds {
    /// Starts them.
    ///
    /// # Errors
    /// There is no daemon; or no thread.
    pub(super) fn start(socket: &Path, updates: &SyncSender<Update>) -> Result<Feeds, Failure> {
        let client = Client::connect(socket)?;
        let (wake, woken) = sync_channel(1);
        let (commands, orders) = sync_channel(COMMANDS);
        let place = || (socket.to_owned(), updates.clone());
        let (file, to) = place();
        spawn(move || ask(client, &file, &to, &woken))?;
        let ((file, to), soon) = (place(), wake.clone());
        spawn(move || follow(&file, &to, &soon))?;
        let (file, to) = place();
        spawn(move || obey(&file, &to, &orders, &wake))?;
        Ok(Feeds { commands })
    }

    /// Has the daemon told. A command more than are on their way already is dropped: its daemon hangs.
    pub(super) fn order(&self, command: Command) {
        let _ = self.commands.try_send(command);
    }
}

fn spawn(work: impl FnOnce() + Send + 'static) -> Result<(), Failure> {
    let spawned = thread::Builder::new().spawn(work);
    spawned
        .map(drop)
        .map_err(|error| Failure::new(format!("starting a thread: {error}")))
}

/// Asks how all is until nobody wants to know.
fn ask(client: Client, socket: &Path, updates: &SyncSender<Update>, woken: &Receiver<()>) {
    let mut connected = Some(client);
    loop {
        let begin = Instant::now();
        let answer = match connected.take() {
            Some(client) => Ok(client),
            None => Client::connect(socket),
        };
        let answer = answer.and_then(|mut client| Ok((client.get("/v1/status")?, client)));
        let update = match answer {
            Ok((status, client)) => {
                connected = Some(client);
                Update::Status(Box::new(status))
            }
            Err(failure) => Update::Away(failure.message()),
        };
        if updates.send(update).is_err() {
            return;
        }
        if connected.is_some() {
            // What takes long is not asked for all the time.
            thread::sleep(SOON.max(10 * begin.elapsed()));
            let _ = woken.recv_timeout(PACE.saturating_sub(begin.elapsed()));
        } else {
            thread::sleep(RETRY);
        }
    }
}

/// Follows the events until nobody wants to know.
fn follow(socket: &Path, updates: &SyncSender<Update>, soon: &SyncSender<()>) {
    let mut is_wanted = true;
    while is_wanted {
        if let Ok(mut client) = Client::connect(socket) {
            is_wanted = updates.send(Update::Afresh).is_ok();
            let _ = client.stream("/v1/events?follow=true", |name, data| {
                // Losses show in the status.
                if name.is_empty()
                    && let Ok(event) = serde_json::from_str(data)
                {
                    is_wanted = updates.send(Update::Event(Box::new(event))).is_ok();
                    is_wanted &= soon.try_send(()) != Err(TrySendError::Disconnected(()));
                }
                is_wanted
            });
        }
        thread::sleep(RETRY);
    }
}

/// Carries out commands, one after the other.
fn obey(
    socket: &Path,
    updates: &SyncSender<Update>,
    orders: &Receiver<Command>,
    soon: &SyncSender<()>,
) {
    for order in orders {
        let said = match carry_out(socket, &order) {
            Ok(None) => format!("{}: {} done", order.path, order.name),
            Ok(Some(message)) => format!("{}: {message}", order.path),
            Err(failure) => failure.message(),
        };
        if updates.send(Update::Said(said)).is_err() {
            return;
        }
        let _ = soon.try_send(());
    }
}

/// Returns what the daemon has to say of it.
fn carry_out(socket: &Path, order: &Command) -> Result<Option<String>, Failure> {
    let name = parse_name(&order.path)
        .ok_or_else(|| Failure::new(format!("{}: is no name", order.path)))?;
    let body = PathsDocument {
        paths: vec![Name(name)],
        group: None,
    };
    let mut client = Client::connect(socket)?;
    let resource = format!("/v1/{}", order.name);
    let answers: Vec<AnswerDocument> = client.post(&resource, &body, COMMAND_LIMIT)?;
    Ok(answers.into_iter().find_map(|answer| answer.message))
}
