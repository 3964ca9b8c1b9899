//! HTTP over the socket, on one thread, with a limit to everything a client can hold on to.

use std::io;
use std::net::TcpListener as StdTcpListener;
use std::os::unix::net::UnixListener as StdUnixListener;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use futures_util::future;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio_io_timeout::TimeoutStream;

use super::control::{Control, read_only_router, router};

/// Clients at a time, at each door; one more is turned away.
const CLIENTS_MAX: usize = 256;
/// How long a client may take to ask, and to take up a part of its answer.
const CLIENT_LIMIT: Duration = Duration::from_secs(10);
/// Before accepting is tried again that failed, as it does without file descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// Where clients come in.
#[derive(Debug)]
pub(crate) struct Doors {
    /// Whoever may open the socket may ask for everything.
    pub(crate) socket: StdUnixListener,
    /// Anyone who reaches the address may look.
    pub(crate) http: Option<StdTcpListener>,
}

/// Serves until the process ends.
pub(crate) fn serve(doors: Doors, control: Control) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build();
    let served = runtime.and_then(|runtime| runtime.block_on(accept_all(doors, control)));
    if let Err(error) = served {
        tracing::error!("the socket is not served: {error}; paths are watched all the same");
    }
}

async fn accept_all(doors: Doors, control: Control) -> io::Result<()> {
    let socket = UnixListener::from_std(doors.socket)?;
    let all = accept(socket, router(control.clone()));
    let Some(http) = doors.http else {
        all.await;
        return Ok(());
    };
    let http = TcpListener::from_std(http)?;
    future::join(all, accept(http, read_only_router(control))).await;
    Ok(())
}

/// Something that clients connect to.
trait Door {
    type Stream: AsyncRead + AsyncWrite + Send + 'static;

    async fn next(&self) -> io::Result<Self::Stream>;
}

impl Door for UnixListener {
    type Stream = UnixStream;

    async fn next(&self) -> io::Result<UnixStream> {
        self.accept().await.map(|(stream, _)| stream)
    }
}

impl Door for TcpListener {
    type Stream = TcpStream;

    async fn next(&self) -> io::Result<TcpStream> {
        self.accept().await.map(|(stream, _)| stream)
    }
}

async fn accept(door: impl Door, router: Router) {
    let service = TowerToHyperService::new(router);
    let room = Arc::new(Semaphore::new(CLIENTS_MAX));
    loop {
        let stream = match door.next().await {
            Ok(stream) => stream,
            Err(error) => {
                tracing::warn!("accepting a client: {error}");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&room).try_acquire_owned() else {
            tracing::warn!("a client was turned away: {CLIENTS_MAX} are here already");
            continue;
        };
        let service = service.clone();
        tokio::spawn(async move {
            let served = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(CLIENT_LIMIT)
                .serve_connection(TokioIo::new(Box::pin(patient(stream))), service);
            if let Err(error) = served.await {
                tracing::debug!("a client: {error}");
            }
            drop(place);
        });
    }
}

/// The connection, but not for clients that stop reading.
fn patient<S: AsyncRead + AsyncWrite>(stream: S) -> TimeoutStream<S> {
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(CLIENT_LIMIT));
    stream
}
