//! The daemon: what a process needs beside the engine to watch paths for as long as it lives.
//!
//! ```text
//! main thread   starts all others, then waits to be told to stop
//! signals       signal-hook; tells `main`, and arms the watchdog
//! watchdog      ends the process when a stop takes too long, whatever holds it up
//! keeper        has the list of what is to be watched, and obeys commands; threads of its own open paths
//! journal       takes the engine's events: log, history
//! control       tokio: HTTP on the socket; reads status and history, never touches a device
//! place         sees to it that the socket is there, and that the TCP address is as soon as it can be
//! log           writes log lines to stderr, which may be a pipe that nobody reads, or to journald
//! notify        tells systemd how things are, and feeds its watchdog while each worker gets on
//! state, recall pass events to a process that has the state file, which may be on a disk that hangs
//! workers       the engine's own
//! ```
//! No thread waits for another one without a limit, and only the engine's touch devices.

mod actions;
pub(crate) mod config;
pub(crate) mod discovery;
mod events;
pub(crate) mod http;
mod log;
mod metrics;
pub(crate) mod process;
pub(crate) mod watchlist;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::thread;
use std::time::{Duration, Instant};

use pathpulse::{EventStream, Monitor, Settings};

pub(crate) use crate::api::{
    EventDocument, Name, PathDocument, StatusDocument, by_group, count_states,
};
pub(crate) use events::history::LostDocument;
pub(crate) use events::keep_events;
pub(crate) use http::RefusalDocument;
pub(crate) use log::{Filter, Log};
pub(crate) use process::HeldProcessDocument;
pub(crate) use watchlist::{AnswerDocument, PathsDocument, ReloadDocument};

use actions::Actions;
use config::{CommandLine, Configuration};
use events::event_log::{self, Journal};
use events::history::History;
use events::store::Keeper;
use http::place::Place;
use http::routes::Control;
use http::server;
use http::socket::Claim;
use metrics::daemon::Tally;
use process::notify::Notifier;
use process::stop::{self, Notice, Stopper, Vital};
use watchlist::{Order, Roster};

/// Events on their way from the workers to the journal: more than a large host has paths.
const EVENTS_ON_THE_WAY: usize = 16_384;
/// Of the second that a stop may take, the engine gets half.
const SHUTDOWN_LIMIT: Duration = Duration::from_millis(500);

/// Exit status: something went wrong, and nothing is known about any device.
pub(crate) const FAILED: i32 = 1;

/// Watches until it is told to stop, and keeps the last events in the file `state`.
///
/// # Errors
/// Why it can't watch at all, in one line.
pub(crate) fn run(
    configuration: Configuration,
    line: CommandLine,
    state: Option<PathBuf>,
    log: &Log,
) -> Result<(), String> {
    let (stopper, notices) = stop::prepare().map_err(|error| format!("signals: {error}"))?;
    // A failure has its limit too: its one line may meet a stderr that nobody reads.
    watch(configuration, line, state, &stopper, &notices, log).inspect_err(|_| stopper.arm(FAILED))
}

fn watch(
    configuration: Configuration,
    line: CommandLine,
    state: Option<PathBuf>,
    stopper: &Stopper,
    notices: &Receiver<Notice>,
    log: &Log,
) -> Result<(), String> {
    let claim = Claim::take(
        &configuration.socket.value,
        configuration.socket_group.value.as_deref(),
    )?;
    let (place, doors) = Place::new(claim, configuration.http.value)?;
    let changes = configuration.changes.value;
    let monitor = Monitor::start(configuration.engine())
        .map_err(|error| format!("no way to check paths: {error}"))?;
    let monitor = Arc::new(monitor);
    announce(&monitor, &configuration);
    let history = Arc::new(History::default());
    let notifier = Notifier::start(&monitor)?;
    let (state, keeping) = Keeper::new(state);
    let tally = Arc::new(Tally::default());
    let actions = Actions::new(&monitor, &configuration, &tally, &state);
    let (past, acting) = (Arc::clone(&history), actions.clone());
    keeping.start(move |events, taken| {
        past.recall(events);
        acting.recall(taken);
    })?;
    let events = monitor.events(EVENTS_ON_THE_WAY);
    let journal = Journal::new(&history, &state, actions, &tally, events.backlog());
    let (roster, orders) = Roster::new();
    let keeper = watchlist::Keeper::new(
        roster.clone(),
        (Arc::clone(&monitor), journal.clone()),
        stopper.clone(),
        configuration,
        line,
    );
    let predecessors = place.predecessors();
    let control = Control::new(&monitor, &history, &roster, stopper, (tally, predecessors));
    let serve = move || server::serve(doors, changes, control);
    let result = start(events, journal, serve, stopper)
        .and_then(|()| place.look_after(&monitor))
        .and_then(|()| spawn_vital("keeper", stopper, move || keeper.run(&orders)))
        .and_then(|()| wait(notices, stopper, &notifier, &roster));
    notifier.stopping();
    history.end();
    state.flush();
    leave(&monitor, &place, log);
    result
}

/// Starts the threads.
fn start(
    events: EventStream,
    journal: Journal,
    serve: impl FnOnce() + Send + 'static,
    stopper: &Stopper,
) -> Result<(), String> {
    spawn_vital("journal", stopper, move || {
        event_log::keep(&events, &journal)
    })?;
    spawn_vital("control", stopper, serve)
}

/// Starts a thread whose panic ends the daemon: whoever restarts it has one that does all of its work.
fn spawn_vital(
    what: &'static str,
    stopper: &Stopper,
    work: impl FnOnce() + Send + 'static,
) -> Result<(), String> {
    let stopper = stopper.clone();
    let vital = Vital { stopper, what };
    spawn(what, move || {
        let _vital = vital;
        work();
    })
}

pub(crate) fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), String> {
    let thread = thread::Builder::new().name(format!("pathpulse-{name}"));
    let spawned = thread.spawn(work).map(drop);
    spawned.map_err(|error| format!("starting a thread: {error}; raise the limit of processes"))
}

/// Says once, loudly, what carries the checks.
fn announce(monitor: &Monitor, configuration: &Configuration) {
    let Settings {
        interval, timeout, ..
    } = configuration.engine().settings;
    tracing::info!(
        "watching {} paths through {}: every {interval:?}, {timeout:?} to answer, {} worker(s), socket {}",
        configuration.named().len(),
        monitor.backend().kind,
        configuration.workers.value,
        configuration.socket.value.display(),
    );
    for worse in &monitor.backend().unavailable {
        tracing::warn!("{worse}");
    }
    tracing::debug!(features = ?monitor.backend().features);
}

/// Waits to be told to stop.
fn wait(
    notices: &Receiver<Notice>,
    stopper: &Stopper,
    notifier: &Notifier,
    roster: &Roster,
) -> Result<(), String> {
    loop {
        match notices.recv() {
            Ok(Notice::Stop { by }) => {
                tracing::info!("stopping: {by}");
                return Ok(());
            }
            Ok(Notice::Opened { hopeless: true, .. }) if !stopper.is_armed() => {
                return Err("none of the paths can be watched; the log says why".to_owned());
            }
            Ok(Notice::Opened {
                watched, waiting, ..
            }) => {
                if waiting == 0 {
                    tracing::info!("{watched} paths are watched");
                } else {
                    tracing::warn!("{watched} paths are watched, {waiting} are waited for");
                }
                notifier.ready();
            }
            Ok(Notice::Reload) => {
                tracing::info!("SIGHUP: reloading");
                notifier.reloading();
                roster.tell(Order::Reload(None));
            }
            Ok(Notice::Reloaded) => notifier.ready(),
            Ok(Notice::Broken { what }) => {
                return Err(format!("a bug ended its {what}: the log says which"));
            }
            Err(_) => return Err("all threads that could stop it are gone".to_owned()),
        }
    }
}

/// Ends the engine, says what is left, and clears up. Whatever takes too long here is cut short by
/// the watchdog.
fn leave(monitor: &Monitor, place: &Place, log: &Log) {
    let start = Instant::now();
    let left = monitor.shutdown(SHUTDOWN_LIMIT);
    place.leave();
    let took_ms = start.elapsed().as_millis();
    // Of a worker that does not answer nobody knows what the kernel holds for it.
    match (left.silent_workers, left.held_reads) {
        (0, 0) => tracing::info!("stopped in {took_ms} ms; the kernel holds no read"),
        (0, held) => tracing::warn!(
            "stopped in {took_ms} ms; the kernel still holds {held} read(s) that devices did not answer"
        ),
        (silent, held) => tracing::warn!(
            "stopped in {took_ms} ms; what the kernel holds for {silent} worker(s) that did not answer is not known, and for others {held} read(s)"
        ),
    }
    log.flush();
}
