//! Where the daemon can be reached, kept up: the socket, and the TCP address.
//!
//! A thread looks every [`EVERY`] whether somebody removed the socket or its lock, and makes them again. It
//! also takes a TCP address as soon as it can that a dead daemon has: the kernel closes the listening
//! socket of a process only when it ends that, and a process with a read at a silent device can't end. A
//! daemon that stops closes its own before.

use std::io::{Error, ErrorKind};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use pathpulse::Monitor;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use super::server::{Door, Doors};
use super::socket::{Claim, close_for_all};
use crate::daemon::process::Predecessors;

/// How often the socket is looked for.
const EVERY: Duration = Duration::from_secs(2);
/// The same, while a dead daemon has something that this one wants.
const SOON: Duration = Duration::from_secs(1);
/// Devices that are noted for a successor.
const DEVICES_MAX: usize = 64;

/// The socket and the TCP address of this process. Clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// `None` once they are given up.
    inner: Arc<Mutex<Option<Inner>>>,
    predecessors: Predecessors,
}

#[derive(Debug)]
struct Inner {
    claim: Claim,
    http: Http,
    doors: UnboundedSender<Door>,
    /// Why the socket can't be made again, as it was said last.
    failed: Option<String>,
}

#[derive(Debug)]
enum Http {
    /// Not wanted.
    None,
    Wanted(SocketAddr),
    Has(TcpListener),
}

impl Place {
    /// Listens, and returns what the server is to serve.
    ///
    /// # Errors
    /// When there is no listening, unless a dead daemon is in the way that the kernel holds.
    pub(crate) fn new(claim: Claim, http: Option<SocketAddr>) -> Result<(Place, Doors), String> {
        let predecessors = claim.predecessors().clone();
        predecessors.look();
        let (doors, opened) = unbounded_channel();
        let _ = doors.send(Door::Socket(claim.listener()?));
        let mut inner = Inner {
            claim,
            http: http.map_or(Http::None, Http::Wanted),
            doors,
            failed: None,
        };
        match inner.listen() {
            Ok(()) => {}
            Err((address, error)) if is_held(&error, &predecessors) => tracing::warn!(
                "--http {address}: a dead daemon that the kernel holds has it; trying again every second"
            ),
            Err((address, error)) => {
                return Err(format!("--http {address}: {error}; name another address"));
            }
        }
        let inner = Arc::new(Mutex::new(Some(inner)));
        let place = Place {
            inner,
            predecessors,
        };
        Ok((place, opened))
    }

    /// Dead daemons of this socket.
    pub(crate) fn predecessors(&self) -> Predecessors {
        self.predecessors.clone()
    }

    /// Starts the thread that keeps it up.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub(crate) fn look_after(&self, monitor: &Arc<Monitor>) -> Result<(), String> {
        let (place, monitor) = (self.clone(), Arc::clone(monitor));
        crate::daemon::spawn("place", move || {
            while let Some(pause) = place.look(&monitor) {
                thread::sleep(pause);
            }
        })
    }

    /// Does what there is to do; returns how long to wait then, or `None` when the place is given up.
    fn look(&self, monitor: &Monitor) -> Option<Duration> {
        self.predecessors.look();
        let stuck_devices = stuck_devices(monitor);
        let mut inner = self.lock();
        let inner = inner.as_mut()?;
        inner.restore();
        inner.claim.note(&stuck_devices, &self.predecessors.known());
        // What is wrong was said at the start.
        let _ = inner.listen();
        let waits = matches!(inner.http, Http::Wanted(_)) || self.predecessors.are_known();
        Some(if waits { SOON } else { EVERY })
    }

    /// Gives all of it up.
    pub(crate) fn leave(&self) {
        let Some(inner) = self.lock().take() else {
            return;
        };
        inner.claim.remove();
        if let Http::Has(listener) = inner.http {
            close_for_all(&listener);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Inner>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Makes what was removed again.
    fn restore(&mut self) {
        match self.claim.restore() {
            Ok(None) => self.failed = None,
            Ok(Some(socket)) => {
                tracing::warn!("somebody removed the socket; it is there again");
                let _ = self.doors.send(Door::Socket(socket));
                self.failed = None;
            }
            Err(why) if self.failed.as_ref() != Some(&why) => {
                tracing::error!("somebody removed the socket, and it can't be made again: {why}");
                self.failed = Some(why);
            }
            Err(_) => {}
        }
    }

    /// Listens on the TCP address, if that is wanted still.
    fn listen(&mut self) -> Result<(), (SocketAddr, Error)> {
        let Http::Wanted(address) = self.http else {
            return Ok(());
        };
        let (ours, servers) = listen(address).map_err(|error| (address, error))?;
        let _ = self.doors.send(Door::Http(servers));
        self.http = Http::Has(ours);
        Ok(())
    }
}

fn is_held(error: &Error, predecessors: &Predecessors) -> bool {
    error.kind() == ErrorKind::AddrInUse && predecessors.count() > 0
}

/// Listens on a TCP address; returns the same socket twice.
fn listen(address: SocketAddr) -> Result<(TcpListener, TcpListener), Error> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    tracing::info!("metrics and status at http://{address}/metrics and /v1/status");
    if !address.ip().is_loopback() {
        tracing::warn!("{address} is not of this host alone: whoever reaches it may look");
    }
    let same = listener.try_clone()?;
    Ok((listener, same))
}

/// Devices that owe this process a read.
fn stuck_devices(monitor: &Monitor) -> Vec<String> {
    // Of thousands of paths that are well there is nothing to look at.
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
