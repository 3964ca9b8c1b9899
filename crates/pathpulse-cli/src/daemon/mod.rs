//! The daemon: what a process needs beside the engine to watch paths for as long as it lives.
//!
//! ```text
//! main thread   starts all others, then waits until it is told to stop
//! signals       signal-hook; tells `main`, and arms the watchdog
//! watchdog      ends the process when a stop takes too long
//! watchlist     owns the list of paths and handles commands; threads of its own open paths
//! events        takes the engine's events to the log, the history and the actions
//! control       tokio: HTTP on the socket; reads status and history, never touches a device
//! endpoints     restores the socket when it is removed, and takes the TCP address when it is free
//! log           writes log lines to stderr, whose pipe may be full, or to journald
//! notify        reports to systemd, and feeds its watchdog while all workers are responsive
//! store, recall exchange events with the process that owns the state file
//! workers       the engine's own
//! ```
//! No thread waits for another one without a limit, and only the engine's threads touch devices.
//!
//! Each folder is a room. A room imports only rooms below it:
//!
//! ```text
//! daemon     starts and connects the rooms
//! http       answers requests
//! metrics    what Prometheus reads
//! watchlist  which paths are watched; actions  what happens on events
//! events, discovery, config, process, log
//! api        the documents (crate::api)
//! ```

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
use std::time::{Duration, Instant};

use pathpulse::{Monitor, Settings};

pub(crate) use events::keep_events;
pub(crate) use log::{Filter, Log};

use actions::Actions;
use config::{CommandLine, Configuration};
use events::{EventCounters, EventHistory, EventLog, EventStore};
use http::{Endpoints, HttpState, SocketLock};
use process::{MainMsg, Notifier, Stopper, spawn_vital};
use watchlist::{Watchlist, WatchlistMsg, WatchlistTask};

/// Capacity of the engine's event queue: more events than a large host has paths.
const EVENT_QUEUE_LEN: usize = 16_384;
/// A stop may take one second; the engine gets half of it.
const SHUTDOWN_LIMIT: Duration = Duration::from_millis(500);

/// Exit status: the command failed, and nothing is known about any device.
pub(crate) const FAILED: i32 = 1;

/// Watches until it is told to stop. Stores the last events in the file `state`.
///
/// # Errors
/// Why it can't watch at all, in one line.
pub(crate) fn run(
    configuration: Configuration,
    line: CommandLine,
    state: Option<PathBuf>,
    log: &Log,
) -> Result<(), String> {
    let (stopper, inbox) = process::prepare().map_err(|error| format!("signals: {error}"))?;
    // A failure has a time limit, too: its log line may meet a stderr that nobody reads.
    watch(configuration, line, state, &stopper, &inbox, log).inspect_err(|_| stopper.arm(FAILED))
}

fn watch(
    configuration: Configuration,
    line: CommandLine,
    state: Option<PathBuf>,
    stopper: &Stopper,
    inbox: &Receiver<MainMsg>,
    log: &Log,
) -> Result<(), String> {
    let lock = SocketLock::take(
        &configuration.socket.value,
        configuration.socket_group.value.as_deref(),
    )?;
    let (endpoints, listeners) = Endpoints::new(lock, configuration.http.value)?;
    let allowed = configuration.changes.value;
    let monitor = Monitor::start(configuration.engine())
        .map_err(|error| format!("no way to check paths: {error}"))?;
    let monitor = Arc::new(monitor);
    log_start(&monitor, &configuration);
    let history = Arc::new(EventHistory::default());
    let notifier = Notifier::start(&monitor)?;
    let counters = Arc::new(EventCounters::default());
    let (store, actions) = start_actions(state, &monitor, &configuration, (&counters, &history))?;
    let stream = monitor.events(EVENT_QUEUE_LEN);
    let on_event = actions.clone();
    let event_log = EventLog::new(
        &history,
        &store,
        move |event| on_event.notify(event),
        &counters,
        stream.backlog(),
    );
    let (watchlist, messages) = Watchlist::new();
    let task = WatchlistTask::new(
        watchlist.clone(),
        (Arc::clone(&monitor), event_log.clone(), actions),
        stopper.clone(),
        configuration,
        line,
    );
    let shared = (counters, endpoints.predecessors());
    let http = HttpState::new(&monitor, &history, &watchlist, stopper, shared);
    let serve = move || http::serve(listeners, allowed, http);
    let result = spawn_vital("events", stopper, move || event_log.run(&stream))
        .and_then(|()| spawn_vital("control", stopper, serve))
        .and_then(|()| endpoints.start_upkeep(&monitor))
        .and_then(|()| spawn_vital("watchlist", stopper, move || task.run(&messages)))
        .and_then(|()| wait(inbox, stopper, &notifier, &watchlist));
    notifier.stopping();
    history.end();
    store.flush();
    shut_down(&monitor, &endpoints, log);
    result
}

/// Starts the store process and the actions; what the state file has goes to the history and to
/// the actions.
fn start_actions(
    state: Option<PathBuf>,
    monitor: &Arc<Monitor>,
    configuration: &Configuration,
    (counters, history): (&Arc<EventCounters>, &Arc<EventHistory>),
) -> Result<(EventStore, Actions), String> {
    let (store, inbox) = EventStore::new(state);
    let actions = Actions::new(monitor, configuration, counters, &store);
    let (past, restored) = (Arc::clone(history), actions.clone());
    inbox.start(move |events, failed_paths| {
        past.restore(events);
        restored.restore(failed_paths);
    })?;
    Ok((store, actions))
}

/// Logs the backend and the settings once, and a warning for each better backend that can't be
/// used.
fn log_start(monitor: &Monitor, configuration: &Configuration) {
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
    for unavailable in &monitor.backend().unavailable {
        tracing::warn!("{unavailable}");
    }
    tracing::debug!(features = ?monitor.backend().features);
}

/// Handles messages until the daemon has to stop.
fn wait(
    inbox: &Receiver<MainMsg>,
    stopper: &Stopper,
    notifier: &Notifier,
    watchlist: &Watchlist,
) -> Result<(), String> {
    loop {
        match inbox.recv() {
            Ok(MainMsg::Stop { by }) => {
                tracing::info!("stopping: {by}");
                return Ok(());
            }
            Ok(MainMsg::Opened { hopeless: true, .. }) if !stopper.is_armed() => {
                return Err("none of the paths can be watched; the log says why".to_owned());
            }
            Ok(MainMsg::Opened {
                watched, unopened, ..
            }) => {
                if unopened == 0 {
                    tracing::info!("{watched} paths are watched");
                } else {
                    tracing::warn!("{watched} paths are watched, {unopened} are waited for");
                }
                notifier.ready();
            }
            Ok(MainMsg::Reload) => {
                tracing::info!("SIGHUP: reloading");
                notifier.reloading();
                watchlist.send(WatchlistMsg::Reload(None));
            }
            Ok(MainMsg::Reloaded) => notifier.ready(),
            Ok(MainMsg::Panicked { what }) => {
                return Err(format!(
                    "the thread `{what}` panicked; the log has the message"
                ));
            }
            Err(_) => return Err("all threads that could stop it are gone".to_owned()),
        }
    }
}

/// Ends the engine, logs what the kernel still holds, and removes the socket. The watchdog ends the
/// process if this takes too long.
fn shut_down(monitor: &Monitor, endpoints: &Endpoints, log: &Log) {
    let start = Instant::now();
    let left = monitor.shutdown(SHUTDOWN_LIMIT);
    endpoints.close();
    let took_ms = start.elapsed().as_millis();
    // What the kernel holds for a worker that does not answer is unknown.
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
