//! The client of the daemon: HTTP over its socket. Every request has a time limit.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::runtime::Runtime;
use tokio::time::timeout;

use super::Failure;
use crate::api::RefusalDocument;
use crate::daemon::process::{Life, ProcessId};

/// The daemon answers from memory, so this is plenty.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// On an idle stream of events, the daemon sends a comment every 5 s.
const SILENCE_LIMIT: Duration = Duration::from_secs(16);

/// A connection to the daemon.
pub(crate) struct Client {
    runtime: Runtime,
    sender: SendRequest<Full<Bytes>>,
    socket: PathBuf,
    daemon: Option<DaemonProcess>,
}

/// The daemon's process, if it is visible here (it is not from another PID namespace).
struct DaemonProcess {
    pid: Pid,
    fd: OwnedFd,
}

impl Client {
    /// Connects to the daemon at this socket.
    ///
    /// # Errors
    /// There is no daemon, or it does not answer.
    pub(crate) fn connect(socket: &Path) -> Result<Client, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()
            .map_err(|error| Failure::new(format!("cannot start the client: {error}")))?;
        let (sender, daemon) = runtime.block_on(async {
            timeout(ANSWER_LIMIT, open(socket))
                .await
                .unwrap_or_else(|_| Err(no_answer(socket)))
        })?;
        Ok(Client {
            runtime,
            sender,
            socket: socket.to_owned(),
            daemon,
        })
    }

    /// GETs a document.
    pub(crate) fn get<T: DeserializeOwned>(&mut self, resource: &str) -> Result<T, Failure> {
        let text = self.request(Method::GET, resource, Bytes::new(), ANSWER_LIMIT)?;
        self.parse(resource, &text)
    }

    /// POSTs this document, and waits for the answer for at most `limit`.
    pub(crate) fn post<T: DeserializeOwned>(
        &mut self,
        resource: &str,
        body: &impl Serialize,
        limit: Duration,
    ) -> Result<T, Failure> {
        let body = serde_json::to_vec(body)
            .map_err(|error| Failure::new(format!("{resource}: {error}")))?;
        let text = self.request(Method::POST, resource, body.into(), limit)?;
        self.parse(resource, &text)
    }

    fn parse<T: DeserializeOwned>(&self, resource: &str, text: &[u8]) -> Result<T, Failure> {
        serde_json::from_slice(text).map_err(|error| {
            self.protocol_failure(&format!("cannot parse the document of {resource}: {error}"))
        })
    }

    fn request(
        &mut self,
        method: Method,
        resource: &str,
        body: Bytes,
        limit: Duration,
    ) -> Result<Bytes, Failure> {
        let answer = async {
            let body = send(&mut self.sender, method, resource, body).await?;
            Ok(body.collect().await?.to_bytes())
        };
        let answered = self
            .runtime
            .block_on(async { timeout(limit, answer).await });
        match answered {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(self.failure(error)),
            Err(_) => Err(no_answer(&self.socket)),
        }
    }

    /// GETs server-sent events, and calls `each` with the name (mostly empty) and the data of each
    /// event, until the stream ends or `each` returns `false`.
    pub(crate) fn stream(
        &mut self,
        resource: &str,
        mut each: impl FnMut(&str, &str) -> bool,
    ) -> Result<(), Failure> {
        let streamed = self.runtime.block_on(async {
            let body = send(&mut self.sender, Method::GET, resource, Bytes::new());
            let mut body = match timeout(ANSWER_LIMIT, body).await {
                Ok(body) => body?,
                Err(_) => return Ok(Err(no_answer(&self.socket))),
            };
            let mut events = EventParser::default();
            loop {
                match timeout(SILENCE_LIMIT, body.frame()).await {
                    Err(_) => return Ok(Err(no_answer(&self.socket))),
                    Ok(None) => return Ok(Ok(())),
                    Ok(Some(frame)) => {
                        let data = frame?.into_data().unwrap_or_default();
                        if !events.feed(&data, &mut each) {
                            return Ok(Ok(()));
                        }
                    }
                }
            }
        });
        streamed.unwrap_or_else(|error| Err(self.failure(error)))
    }

    /// Waits until the daemon's process has ended; `false` if it has not after `limit`.
    pub(crate) fn wait_ended(&mut self, limit: Duration) -> bool {
        if let Some(daemon) = &self.daemon {
            let limit = Timespec::try_from(limit).ok();
            let mut fds = [PollFd::new(&daemon.fd, PollFlags::IN)];
            return matches!(poll(&mut fds, limit.as_ref()), Ok(1..));
        }
        // Its process is not visible here, but its end of the connection closes when it ends.
        let closed = async {
            while self.sender.ready().await.is_ok() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        self.runtime
            .block_on(async { timeout(limit, closed).await.is_ok() })
    }

    /// The daemon's process, if it is visible here.
    pub(crate) fn pid(&self) -> Option<Pid> {
        self.daemon.as_ref().map(|daemon| daemon.pid)
    }

    fn failure(&self, error: RequestError) -> Failure {
        match error {
            RequestError::Protocol(problem) => self.protocol_failure(&problem),
            RequestError::Rejected(problems) => Failure::of_all(problems),
        }
    }

    fn protocol_failure(&self, problem: &str) -> Failure {
        Failure::new(format!(
            "the daemon at {}: {problem}; it may have another version, or be stopping",
            self.socket.display()
        ))
    }
}

async fn open(socket: &Path) -> Result<(SendRequest<Full<Bytes>>, Option<DaemonProcess>), Failure> {
    let stream = UnixStream::connect(socket)
        .await
        .map_err(|error| unreachable(socket, &error))?;
    let pid = stream.peer_cred().ok().and_then(|peer| peer.pid());
    // While the kernel holds a dead process, clients can still connect to its socket.
    if let Some(dead) = pid
        .and_then(ProcessId::of)
        .filter(|id| id.life() == Life::Held)
    {
        return Err(Failure::new(format!(
            "the daemon at {} (pid {}) is dead, but the kernel holds its process until its devices \
             answer; start another one with `pathpulse run`",
            socket.display(),
            dead.pid
        )));
    }
    let daemon = pid
        .and_then(Pid::from_raw)
        .and_then(|pid| Some((pid, pidfd_open(pid, PidfdFlags::empty()).ok()?)))
        .map(|(pid, fd)| DaemonProcess { pid, fd });
    let (sender, connection) = handshake(TokioIo::new(stream))
        .await
        .map_err(|error| Failure::new(format!("the daemon at {}: {error}", socket.display())))?;
    // Requests report its errors, too.
    tokio::spawn(async { drop(connection.await) });
    Ok((sender, daemon))
}

/// Why a request failed.
enum RequestError {
    /// There is no answer of the expected form.
    Protocol(String),
    /// The daemon answers with these problems.
    Rejected(Vec<String>),
}

impl From<hyper::Error> for RequestError {
    fn from(error: hyper::Error) -> RequestError {
        RequestError::Protocol(error.to_string())
    }
}

async fn send(
    sender: &mut SendRequest<Full<Bytes>>,
    method: Method,
    resource: &str,
    body: Bytes,
) -> Result<Incoming, RequestError> {
    let request = Request::builder()
        .method(method)
        .uri(resource)
        .header(hyper::header::HOST, "pathpulse")
        .body(Full::new(body))
        .map_err(|error| RequestError::Protocol(error.to_string()))?;
    let response: Response<Incoming> = sender.send_request(request).await?;
    match response.status() {
        StatusCode::OK => Ok(response.into_body()),
        status => {
            let body = response.into_body().collect().await?.to_bytes();
            match serde_json::from_slice::<RefusalDocument>(&body) {
                Ok(refusal) => Err(RequestError::Rejected(refusal.errors)),
                Err(_) => Err(RequestError::Protocol(format!("{resource}: {status}"))),
            }
        }
    }
}

fn unreachable(socket: &Path, error: &io::Error) -> Failure {
    let what = match error.kind() {
        io::ErrorKind::PermissionDenied => {
            format!(
                "no access to {}: run as root or as a user in its group",
                socket.display()
            )
        }
        io::ErrorKind::WouldBlock => return no_answer(socket),
        _ => format!(
            "no daemon at {}: {error}; start one with `pathpulse run`",
            socket.display()
        ),
    };
    Failure::new(what)
}

fn no_answer(socket: &Path) -> Failure {
    Failure::new(format!(
        "the daemon at {} does not answer; see its log, or stop it with SIGTERM",
        socket.display()
    ))
}

/// Parses server-sent events of the daemon, each of which has its data on one line.
#[derive(Default)]
struct EventParser {
    line: Vec<u8>,
    name: String,
}

impl EventParser {
    fn feed(&mut self, bytes: &[u8], each: &mut impl FnMut(&str, &str) -> bool) -> bool {
        for byte in bytes {
            if *byte != b'\n' {
                self.line.push(*byte);
                continue;
            }
            let line = std::mem::take(&mut self.line);
            let line = String::from_utf8_lossy(&line);
            if let Some(name) = line.strip_prefix("event: ") {
                name.clone_into(&mut self.name);
            } else if let Some(data) = line.strip_prefix("data: ") {
                if !each(&self.name, data) {
                    return false;
                }
            } else if line.is_empty() {
                self.name.clear();
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_parsed_from_pieces_of_any_size() {
        let text = b": alive\n\ndata: {\"a\":1}\n\nevent: lost\ndata: {\"lost\":2}\n\ndata: 3\n\n";
        for size in [1, 2, 7, text.len()] {
            let mut parser = EventParser::default();
            let mut seen = Vec::new();
            for piece in text.chunks(size) {
                parser.feed(piece, &mut |name, data| {
                    seen.push(format!("{name}|{data}"));
                    true
                });
            }
            assert_eq!(seen, ["|{\"a\":1}", "lost|{\"lost\":2}", "|3"]);
        }
    }
}
