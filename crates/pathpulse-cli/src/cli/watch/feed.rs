//! The threads that talk to the daemon, and reconnect when it was away.

use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use pathpulse::parse_name;
use ratatui::crossterm::event::Event as Input;

use crate::api::{AnswerDocument, EventDocument, Name, PathsDocument, StatusDocument};
use crate::cli::Failure;
use crate::cli::client::Client;

/// Time between two polls of the status.
const POLL: Duration = Duration::from_secs(1);
/// The same after an event.
const SOON: Duration = Duration::from_millis(100);
/// Time between two attempts to connect.
const RETRY: Duration = Duration::from_secs(1);
/// The daemon answers a command within ten seconds.
const COMMAND_LIMIT: Duration = Duration::from_secs(12);
/// Commands in the queue.
const COMMANDS: usize = 16;

/// Updates of the screen.
pub(super) enum UpdateMsg {
    Status(Box<StatusDocument>),
    /// The daemon does not answer, for this reason.
    Disconnected(String),
    /// The stream of events starts again from the oldest one.
    EventsRestarted,
    Event(Box<EventDocument>),
    /// The result of a command, for people.
    CommandResult(String),
    Input(Input),
    /// A signal arrived, or the terminal is gone.
    End,
}

/// A command about a path, for the daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CommandMsg {
    /// The last part of the URL, as in `/v1/pause`.
    pub(super) name: &'static str,
    pub(super) path: String,
}

/// The running threads.
pub(super) struct Feeds {
    commands: SyncSender<CommandMsg>,
}

impl Feeds {
    /// Starts the threads.
    ///
    /// # Errors
    /// There is no daemon, or a thread cannot be started.
    pub(super) fn start(socket: &Path, updates: &SyncSender<UpdateMsg>) -> Result<Feeds, Failure> {
        let client = Client::connect(socket)?;
        let (wake, woken) = sync_channel(1);
        let (commands, queue) = sync_channel(COMMANDS);
        let place = || (socket.to_owned(), updates.clone());
        let (file, to) = place();
        spawn(move || poll_status(client, &file, &to, &woken))?;
        let ((file, to), soon) = (place(), wake.clone());
        spawn(move || follow_events(&file, &to, &soon))?;
        let (file, to) = place();
        spawn(move || send_commands(&file, &to, &queue, &wake))?;
        Ok(Feeds { commands })
    }

    /// Sends a command. When the queue is full, the daemon hangs, and the command is dropped.
    pub(super) fn send(&self, command: CommandMsg) {
        let _ = self.commands.try_send(command);
    }
}

fn spawn(work: impl FnOnce() + Send + 'static) -> Result<(), Failure> {
    let spawned = thread::Builder::new().spawn(work);
    spawned
        .map(drop)
        .map_err(|error| Failure::new(format!("cannot start a thread: {error}")))
}

/// Polls the status until the screen ends.
fn poll_status(
    client: Client,
    socket: &Path,
    updates: &SyncSender<UpdateMsg>,
    woken: &Receiver<()>,
) {
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
                UpdateMsg::Status(Box::new(status))
            }
            Err(failure) => UpdateMsg::Disconnected(failure.message()),
        };
        if updates.send(update).is_err() {
            return;
        }
        if connected.is_some() {
            // A daemon that answers slowly is polled less often.
            thread::sleep(SOON.max(10 * begin.elapsed()));
            let _ = woken.recv_timeout(POLL.saturating_sub(begin.elapsed()));
        } else {
            thread::sleep(RETRY);
        }
    }
}

/// Follows the events until the screen ends.
fn follow_events(socket: &Path, updates: &SyncSender<UpdateMsg>, soon: &SyncSender<()>) {
    let mut is_wanted = true;
    while is_wanted {
        if let Ok(mut client) = Client::connect(socket) {
            is_wanted = updates.send(UpdateMsg::EventsRestarted).is_ok();
            let _ = client.stream("/v1/events?follow=true", |name, data| {
                // The status shows the result of lost events.
                if name.is_empty()
                    && let Ok(event) = serde_json::from_str(data)
                {
                    is_wanted = updates.send(UpdateMsg::Event(Box::new(event))).is_ok();
                    is_wanted &= soon.try_send(()) != Err(TrySendError::Disconnected(()));
                }
                is_wanted
            });
        }
        thread::sleep(RETRY);
    }
}

/// Sends commands, one after the other, and waits for their results.
fn send_commands(
    socket: &Path,
    updates: &SyncSender<UpdateMsg>,
    commands: &Receiver<CommandMsg>,
    soon: &SyncSender<()>,
) {
    for command in commands {
        let result = match send_command(socket, &command) {
            Ok(None) => format!("{}: {} done", command.path, command.name),
            Ok(Some(message)) => format!("{}: {message}", command.path),
            Err(failure) => failure.message(),
        };
        if updates.send(UpdateMsg::CommandResult(result)).is_err() {
            return;
        }
        let _ = soon.try_send(());
    }
}

/// Returns the daemon's remark, if it has one.
fn send_command(socket: &Path, command: &CommandMsg) -> Result<Option<String>, Failure> {
    let name = parse_name(&command.path)
        .ok_or_else(|| Failure::new(format!("{}: not a valid name", command.path)))?;
    let body = PathsDocument {
        paths: vec![Name(name)],
        group: None,
    };
    let mut client = Client::connect(socket)?;
    let resource = format!("/v1/{}", command.name);
    let answers: Vec<AnswerDocument> = client.post(&resource, &body, COMMAND_LIMIT)?;
    Ok(answers.into_iter().find_map(|answer| answer.message))
}
