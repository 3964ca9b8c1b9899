//! HTTP over the socket, on one thread, with a limit to everything a client can hold on to.

use std::os::unix::net::UnixListener as StdListener;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio_io_timeout::TimeoutStream;

use super::control::{Control, router};

/// Clients at a time; one more is turned away.
const CLIENTS_MAX: usize = 256;
/// How long a client may take to ask, and to take up a part of its answer.
const CLIENT_LIMIT: Duration = Duration::from_secs(10);
/// Before accepting is tried again that failed, as it does without file descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves until the process ends.
pub(crate) fn serve(listener: StdListener, control: Control) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build();
    let served = runtime.and_then(|runtime| runtime.block_on(accept(listener, control)));
    if let Err(error) = served {
        tracing::error!("the socket is not served: {error}; paths are watched all the same");
    }
}

async fn accept(listener: StdListener, control: Control) -> std::io::Result<()> {
    let listener = UnixListener::from_std(listener)?;
    let service = TowerToHyperService::new(router(control));
    let room = Arc::new(Semaphore::new(CLIENTS_MAX));
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
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
fn patient(stream: UnixStream) -> TimeoutStream<UnixStream> {
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(CLIENT_LIMIT));
    stream
}
