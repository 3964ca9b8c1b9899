//! The HTTP server: one thread, with a limit to everything that a client can hold.

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

use super::peers::Peer;
use super::routes::router;
use super::state::HttpState;
use crate::daemon::config::ChangeRights;
use crate::daemon::metrics::ClientCounters;

/// The number of clients per listener; more are rejected.
const CLIENTS_MAX: usize = 256;
/// How long a client may take to send a request, and to accept a part of its answer.
const CLIENT_LIMIT: Duration = Duration::from_secs(10);
/// Threads that write metrics. With more scrapes at the same time, some wait.
const METRICS_THREADS: usize = 2;
/// Pause after a failed accept, which happens when there are no file descriptors left.
const PAUSE: Duration = Duration::from_millis(100);

/// A socket to accept clients on. A later one of the same kind replaces it.
#[derive(Debug)]
pub(crate) enum NewListener {
    /// The daemon's socket.
    Socket(StdUnixListener),
    /// The TCP address. All clients that reach it may read.
    Http(StdTcpListener),
}

/// The sockets that the server is to serve, as they come up.
pub(crate) type Listeners = UnboundedReceiver<NewListener>;

/// Serves until the process ends. `rights` says which clients may change something.
pub(crate) fn serve(listeners: Listeners, rights: ChangeRights, state: HttpState) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .max_blocking_threads(METRICS_THREADS)
        .build();
    match runtime {
        Ok(runtime) => runtime.block_on(accept_all(listeners, rights, state)),
        Err(error) => {
            tracing::error!("the socket is not served: {error}; paths are watched all the same");
        }
    }
}

async fn accept_all(mut listeners: Listeners, rights: ChangeRights, state: HttpState) {
    let clients = Arc::clone(&state.clients);
    let router = router(state);
    // One of each kind; `closed` stands for a listener that is not there.
    let (mut local, mut http) = (closed(), closed());
    loop {
        let next = {
            let serving = future::join(&mut local, &mut http);
            match future::select(pin!(listeners.recv()), serving).await {
                Either::Left((Some(listener), _)) => listener,
                // All senders are gone: no other listener comes, the current ones stay.
                Either::Left((None, serving)) => {
                    serving.await;
                    return;
                }
                Either::Right(_) => return,
            }
        };
        let (router, clients) = (router.clone(), Arc::clone(&clients));
        match to_async(next, rights) {
            Ok(AsyncListener::Local(socket)) => {
                local = accept(socket, router, clients).boxed_local();
            }
            Ok(AsyncListener::Http(listener)) => {
                http = accept(listener, router, clients).boxed_local();
            }
            Err(error) => {
                tracing::error!("clients can't connect: {error}; paths are watched all the same");
            }
        }
    }
}

fn closed() -> LocalBoxFuture<'static, ()> {
    future::pending().boxed_local()
}

/// A listener of the runtime.
enum AsyncListener {
    Local(LocalListener),
    Http(TcpListener),
}

fn to_async(listener: NewListener, rights: ChangeRights) -> io::Result<AsyncListener> {
    Ok(match listener {
        NewListener::Socket(socket) => AsyncListener::Local(LocalListener {
            listener: UnixListener::from_std(socket)?,
            rights,
        }),
        NewListener::Http(listener) => AsyncListener::Http(TcpListener::from_std(listener)?),
    })
}

/// Something that clients connect to.
trait Accept {
    type Stream: AsyncRead + AsyncWrite + Send + 'static;

    async fn next(&self) -> io::Result<(Self::Stream, Peer)>;
}

struct LocalListener {
    listener: UnixListener,
    rights: ChangeRights,
}

impl Accept for LocalListener {
    type Stream = UnixStream;

    async fn next(&self) -> io::Result<(UnixStream, Peer)> {
        let (stream, _) = self.listener.accept().await?;
        let peer = Peer::local(stream.peer_cred().ok(), self.rights);
        Ok((stream, peer))
    }
}

impl Accept for TcpListener {
    type Stream = TcpStream;

    async fn next(&self) -> io::Result<(TcpStream, Peer)> {
        let (stream, _) = self.accept().await?;
        Ok((stream, Peer::Remote))
    }
}

async fn accept(listener: impl Accept, router: Router, clients: Arc<ClientCounters>) {
    let room = Arc::new(Semaphore::new(CLIENTS_MAX));
    let mut is_full = false;
    loop {
        let (stream, peer) = match listener.next().await {
            Ok(next) => next,
            Err(error) => {
                tracing::warn!("accepting a client: {error}");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let permit = Arc::clone(&room).try_acquire_owned().ok();
        if permit.is_none() && !is_full {
            tracing::warn!("clients are turned away: {CLIENTS_MAX} are connected already");
        }
        is_full = permit.is_none();
        let Some(permit) = permit else {
            clients.count_turned_away();
            continue;
        };
        tracing::debug!("a client: {peer:?}");
        let router = router.clone().layer(Extension(peer));
        let clients = Arc::clone(&clients);
        tokio::spawn(async move {
            let _connected = (clients.connect(), permit);
            serve_client(stream, router, &clients).await;
        });
    }
}

async fn serve_client(
    stream: impl AsyncRead + AsyncWrite + Send + 'static,
    router: Router,
    clients: &ClientCounters,
) {
    let stream = TokioIo::new(Box::pin(with_write_timeout(stream)));
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(CLIENT_LIMIT)
        .serve_connection(stream, TowerToHyperService::new(router));
    if let Err(error) = served.await {
        if is_timeout(&error) {
            clients.count_too_slow();
        }
        tracing::debug!("a client: {error}");
    }
}

/// Whether a client did not read its answer in time.
fn is_timeout(error: &hyper::Error) -> bool {
    let cause = std::error::Error::source(error);
    let cause = cause.and_then(|cause| cause.downcast_ref::<io::Error>());
    cause.is_some_and(|cause| cause.kind() == io::ErrorKind::TimedOut)
}

/// The connection; a write fails when the client stops reading.
fn with_write_timeout<S: AsyncRead + AsyncWrite>(stream: S) -> TimeoutStream<S> {
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(CLIENT_LIMIT));
    stream
}
