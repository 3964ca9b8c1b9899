//! HTTP over the socket, on one thread, with a limit to everything a client can hold on to.

use std::io;
use std::net::TcpListener as StdTcpListener;
use std::os::unix::net::UnixListener as StdUnixListener;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::{Extension, Router};
use futures_util::FutureExt;
use futures_util::future::{self, Either, LocalBoxFuture};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio_io_timeout::TimeoutStream;

use super::peers::{Clients, Visitor};
use super::routes::{Control, router};
use crate::daemon::config::Changes;

/// Clients at a time, at each door; one more is turned away.
const CLIENTS_MAX: usize = 256;
/// How long a client may take to ask, and to take up a part of its answer.
const CLIENT_LIMIT: Duration = Duration::from_secs(10);
/// Threads that write metrics; more scrapes than that at a time wait for each other.
const METRICS_THREADS: usize = 2;
/// Before accepting is tried again that failed, as it does without file descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// Where clients come in.
#[derive(Debug)]
pub(crate) enum Door {
    /// Whoever may open the socket may look. A later one replaces it.
    Socket(StdUnixListener),
    /// Anyone who reaches the address may look.
    Http(StdTcpListener),
}

/// The way of doors to the server: it opens those that come.
pub(crate) type Doors = UnboundedReceiver<Door>;

/// Serves until the process ends. `changes` says who may do more than look.
pub(crate) fn serve(doors: Doors, changes: Changes, control: Control) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .max_blocking_threads(METRICS_THREADS)
        .build();
    match runtime {
        Ok(runtime) => runtime.block_on(accept_all(doors, changes, control)),
        Err(error) => {
            tracing::error!("the socket is not served: {error}; paths are watched all the same");
        }
    }
}

async fn accept_all(mut doors: Doors, changes: Changes, control: Control) {
    let clients = Arc::clone(&control.clients);
    let router = router(control);
    // Of each kind there is one; a closed one is never ready.
    let (mut local, mut http) = (closed(), closed());
    loop {
        let next = {
            let open = future::join(&mut local, &mut http);
            match future::select(pin!(doors.recv()), open).await {
                Either::Left((Some(door), _)) => door,
                // All who could send one are gone: those that are open stay.
                Either::Left((None, open)) => {
                    open.await;
                    return;
                }
                Either::Right(_) => return,
            }
        };
        let (router, clients) = (router.clone(), Arc::clone(&clients));
        match open(next, changes) {
            Ok(Open::Local(socket)) => local = accept(socket, router, clients).boxed_local(),
            Ok(Open::Http(listener)) => http = accept(listener, router, clients).boxed_local(),
            Err(error) => {
                tracing::error!("clients can't come in: {error}; paths are watched all the same");
            }
        }
    }
}

fn closed() -> LocalBoxFuture<'static, ()> {
    future::pending().boxed_local()
}

/// A door as this thread serves it.
enum Open {
    Local(LocalDoor),
    Http(TcpListener),
}

fn open(door: Door, changes: Changes) -> io::Result<Open> {
    Ok(match door {
        Door::Socket(socket) => Open::Local(LocalDoor {
            listener: UnixListener::from_std(socket)?,
            changes,
        }),
        Door::Http(listener) => Open::Http(TcpListener::from_std(listener)?),
    })
}

/// Something that clients connect to.
trait Listen {
    type Stream: AsyncRead + AsyncWrite + Send + 'static;

    async fn next(&self) -> io::Result<(Self::Stream, Visitor)>;
}

struct LocalDoor {
    listener: UnixListener,
    changes: Changes,
}

impl Listen for LocalDoor {
    type Stream = UnixStream;

    async fn next(&self) -> io::Result<(UnixStream, Visitor)> {
        let (stream, _) = self.listener.accept().await?;
        let visitor = Visitor::local(stream.peer_cred().ok(), self.changes);
        Ok((stream, visitor))
    }
}

impl Listen for TcpListener {
    type Stream = TcpStream;

    async fn next(&self) -> io::Result<(TcpStream, Visitor)> {
        let (stream, _) = self.accept().await?;
        Ok((stream, Visitor::Remote))
    }
}

async fn accept(door: impl Listen, router: Router, clients: Arc<Clients>) {
    let room = Arc::new(Semaphore::new(CLIENTS_MAX));
    let mut full = false;
    loop {
        let (stream, visitor) = match door.next().await {
            Ok(next) => next,
            Err(error) => {
                tracing::warn!("accepting a client: {error}");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let place = Arc::clone(&room).try_acquire_owned().ok();
        if place.is_none() && !full {
            tracing::warn!("clients are turned away: {CLIENTS_MAX} are here already");
        }
        full = place.is_none();
        let Some(place) = place else {
            clients.turn_away();
            continue;
        };
        tracing::debug!("a client: {visitor:?}");
        let service = TowerToHyperService::new(router.clone().layer(Extension(visitor)));
        let clients = Arc::clone(&clients);
        tokio::spawn(async move {
            let _here = (clients.enter(), place);
            let served = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(CLIENT_LIMIT)
                .serve_connection(TokioIo::new(Box::pin(patient(stream))), service);
            if let Err(error) = served.await {
                if is_slowness(&error) {
                    clients.was_too_slow();
                }
                tracing::debug!("a client: {error}");
            }
        });
    }
}

/// Whether a client did not read its answer in time.
fn is_slowness(error: &hyper::Error) -> bool {
    let cause = std::error::Error::source(error);
    let cause = cause.and_then(|cause| cause.downcast_ref::<io::Error>());
    cause.is_some_and(|cause| cause.kind() == io::ErrorKind::TimedOut)
}

/// The connection, but not for clients that stop reading.
fn patient<S: AsyncRead + AsyncWrite>(stream: S) -> TimeoutStream<S> {
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(CLIENT_LIMIT));
    stream
}
