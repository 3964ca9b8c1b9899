//! Keeps the daemon reachable: by the socket and by the TCP address.
//!
//! A thread examines every [`INTERVAL`] whether the socket or its lock file was removed, and makes
//! them again. It also takes the TCP address as soon as a dead daemon gives it up: the kernel
//! closes the listening socket of a process only when the process ends, and a process with a read
//! at a silent device can't end. A daemon that stops closes its own socket before.

use std::io::{Error, ErrorKind};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use pathpulse::Monitor;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use super::server::{Listeners, NewListener};
use super::socket::{SocketLock, close_for_all};
use crate::daemon::process::{Predecessors, spawn};

/// Interval of the upkeep.
const INTERVAL: Duration = Duration::from_secs(2);
/// Interval while a dead daemon holds something that this one wants.
const SHORT_INTERVAL: Duration = Duration::from_secs(1);
/// The number of devices that are noted for a successor.
const DEVICES_MAX: usize = 64;

/// The socket and the TCP address of this process. Clones are the same endpoints.
#[derive(Clone, Debug)]
pub(crate) struct Endpoints {
    /// `None` once they are closed.
    state: Arc<Mutex<Option<EndpointsState>>>,
    predecessors: Predecessors,
}

#[derive(Debug)]
struct EndpointsState {
    lock: SocketLock,
    http: Http,
    listeners: UnboundedSender<NewListener>,
    /// Why the socket can't be made again, as it was logged last.
    failure: Option<String>,
}

#[derive(Debug)]
enum Http {
    /// No TCP address is configured.
    None,
    Wanted(SocketAddr),
    Listening(TcpListener),
}

impl Endpoints {
    /// Listens, and returns what the server is to serve.
    ///
    /// # Errors
    /// Why it can't listen. A TCP address that a dead daemon holds is no error.
    pub(crate) fn new(
        lock: SocketLock,
        http: Option<SocketAddr>,
    ) -> Result<(Endpoints, Listeners), String> {
        let predecessors = lock.predecessors().clone();
        predecessors.update();
        let (listeners, inbox) = unbounded_channel();
        let _ = listeners.send(NewListener::Socket(lock.listener()?));
        let mut state = EndpointsState {
            lock,
            http: http.map_or(Http::None, Http::Wanted),
            listeners,
            failure: None,
        };
        match state.listen() {
            Ok(()) => {}
            Err((address, error)) if is_held(&error, &predecessors) => tracing::warn!(
                "--http {address}: a dead daemon that the kernel holds has it; trying again every second"
            ),
            Err((address, error)) => {
                return Err(format!("--http {address}: {error}; name another address"));
            }
        }
        let endpoints = Endpoints {
            state: Arc::new(Mutex::new(Some(state))),
            predecessors,
        };
        Ok((endpoints, inbox))
    }

    /// Dead daemons of this socket.
    pub(crate) fn predecessors(&self) -> Predecessors {
        self.predecessors.clone()
    }

    /// Starts the upkeep thread.
    ///
    /// # Errors
    /// Why there is no thread.
    pub(crate) fn start_upkeep(&self, monitor: &Arc<Monitor>) -> Result<(), String> {
        let (endpoints, monitor) = (self.clone(), Arc::clone(monitor));
        spawn("endpoints", move || {
            while let Some(pause) = endpoints.maintain(&monitor) {
                thread::sleep(pause);
            }
        })
    }

    /// One round of the upkeep. Returns the pause before the next one; `None` after
    /// [`Endpoints::close`].
    fn maintain(&self, monitor: &Monitor) -> Option<Duration> {
        self.predecessors.update();
        let stuck_devices = stuck_devices(monitor);
        let mut state = self.lock();
        let state = state.as_mut()?;
        state.restore();
        state.lock.note(&stuck_devices, &self.predecessors.known());
        // The error was logged at the start.
        let _ = state.listen();
        let is_waiting = matches!(state.http, Http::Wanted(_)) || self.predecessors.are_known();
        Some(if is_waiting { SHORT_INTERVAL } else { INTERVAL })
    }

    /// Removes the socket and closes the TCP address.
    pub(crate) fn close(&self) {
        let Some(state) = self.lock().take() else {
            return;
        };
        state.lock.remove();
        if let Http::Listening(listener) = state.http {
            close_for_all(&listener);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<EndpointsState>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl EndpointsState {
    /// Makes a removed socket or lock file again.
    fn restore(&mut self) {
        match self.lock.restore() {
            Ok(None) => self.failure = None,
            Ok(Some(socket)) => {
                tracing::warn!("somebody removed the socket; it is there again");
                let _ = self.listeners.send(NewListener::Socket(socket));
                self.failure = None;
            }
            Err(why) if self.failure.as_ref() != Some(&why) => {
                tracing::error!("somebody removed the socket, and it can't be made again: {why}");
                self.failure = Some(why);
            }
            Err(_) => {}
        }
    }

    /// Listens on the TCP address if that is wanted and not done yet.
    fn listen(&mut self) -> Result<(), (SocketAddr, Error)> {
        let Http::Wanted(address) = self.http else {
            return Ok(());
        };
        let (ours, servers) = listen(address).map_err(|error| (address, error))?;
        let _ = self.listeners.send(NewListener::Http(servers));
        self.http = Http::Listening(ours);
        Ok(())
    }
}

fn is_held(error: &Error, predecessors: &Predecessors) -> bool {
    error.kind() == ErrorKind::AddrInUse && predecessors.count() > 0
}

/// Listens on a TCP address; returns two descriptors of the same socket.
fn listen(address: SocketAddr) -> Result<(TcpListener, TcpListener), Error> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    tracing::info!("metrics and status at http://{address}/metrics and /v1/status");
    if !address.ip().is_loopback() {
        tracing::warn!("{address} is reachable from other hosts: each client may read the status");
    }
    let same = listener.try_clone()?;
    Ok((listener, same))
}

/// The devices with an unanswered read of this process.
fn stuck_devices(monitor: &Monitor) -> Vec<String> {
    // Without a stuck read, the status of thousands of paths need not be read.
    if monitor
        .workers()
        .iter()
        .all(|worker| worker.stats.stuck == 0)
    {
        return Vec::new();
    }
    let all = monitor.status().into_iter().map(|(_, path)| path);
    let stuck = all.filter(|path| path.stuck.is_some());
    let devices = stuck.map(|path| path.path.device().to_string());
    devices.take(DEVICES_MAX).collect()
}
