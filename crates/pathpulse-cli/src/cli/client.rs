//! Asking the daemon, over HTTP on its socket, and never waiting for ever.

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
use crate::daemon::RefusalDocument;
use crate::daemon::process::{Life, ProcessId};

/// How long the daemon may take to answer; it answers from memory.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// A daemon with nothing to say sends a sign of life every 5 s.
const SILENCE_LIMIT: Duration = Duration::from_secs(16);

/// A connection to the daemon.
pub(crate) struct Client {
    runtime: Runtime,
    sender: SendRequest<Full<Bytes>>,
    socket: PathBuf,
    daemon: Option<Process>,
}

/// The daemon's process, if it can be seen from here (it can't from another PID namespace).
struct Process {
    pid: Pid,
    fd: OwnedFd,
}

impl Client {
    /// Connects to the daemon at this socket.
    ///
    /// # Errors
    /// Says what to do when there is none.
    pub(crate) fn connect(socket: &Path) -> Result<Client, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()
            .map_err(|error| Failure::new(format!("starting: {error}")))?;
        let (sender, daemon) = runtime.block_on(async {
            timeout(ANSWER_LIMIT, open(socket))
                .await
                .unwrap_or_else(|_| Err(silent(socket)))
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
        let text = self.ask(Method::GET, resource, Bytes::new(), ANSWER_LIMIT)?;
        self.understand(resource, &text)
    }

    /// POSTs an order with this as its body, and waits so long for the answer.
    pub(crate) fn post<T: DeserializeOwned>(
        &mut self,
        resource: &str,
        order: &impl Serialize,
        limit: Duration,
    ) -> Result<T, Failure> {
        let order = serde_json::to_vec(order)
            .map_err(|error| Failure::new(format!("{resource}: {error}")))?;
        let text = self.ask(Method::POST, resource, order.into(), limit)?;
        self.understand(resource, &text)
    }

    fn understand<T: DeserializeOwned>(&self, resource: &str, text: &[u8]) -> Result<T, Failure> {
        serde_json::from_slice(text)
            .map_err(|error| self.strange(&format!("{resource} is no such document: {error}")))
    }

    fn ask(
        &mut self,
        method: Method,
        resource: &str,
        body: Bytes,
        limit: Duration,
    ) -> Result<Bytes, Failure> {
        let answer = async {
            let body = request(&mut self.sender, method, resource, body).await?;
            Ok(body.collect().await?.to_bytes())
        };
        let answered = self
            .runtime
            .block_on(async { timeout(limit, answer).await });
        match answered {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(Refusal::Strange(what))) => Err(self.strange(&what)),
            Ok(Err(Refusal::Said(errors))) => Err(Failure::of_all(errors)),
            Err(_) => Err(silent(&self.socket)),
        }
    }

    /// GETs server-sent events, and hands on the name (empty for most) and the data of each, until
    /// there are no more or `each` returns `false`.
    pub(crate) fn stream(
        &mut self,
        resource: &str,
        mut each: impl FnMut(&str, &str) -> bool,
    ) -> Result<(), Failure> {
        let streamed = self.runtime.block_on(async {
            let body = request(&mut self.sender, Method::GET, resource, Bytes::new());
            let mut body = match timeout(ANSWER_LIMIT, body).await {
                Ok(body) => body?,
                Err(_) => return Ok(Err(silent(&self.socket))),
            };
            let mut events = EventParser::default();
            loop {
                match timeout(SILENCE_LIMIT, body.frame()).await {
                    Err(_) => return Ok(Err(silent(&self.socket))),
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
        streamed.unwrap_or_else(|refusal| match refusal {
            Refusal::Strange(what) => Err(self.strange(&what)),
            Refusal::Said(errors) => Err(Failure::of_all(errors)),
        })
    }

    /// Waits until the daemon's process is gone; `false` if it is still there after `limit`.
    pub(crate) fn wait_gone(&mut self, limit: Duration) -> bool {
        if let Some(daemon) = &self.daemon {
            let limit = Timespec::try_from(limit).ok();
            let mut fds = [PollFd::new(&daemon.fd, PollFlags::IN)];
            return matches!(poll(&mut fds, limit.as_ref()), Ok(1..));
        }
        // It can't be watched from here: its end of the connection closes when it ends.
        let closed = async {
            while self.sender.ready().await.is_ok() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        self.runtime
            .block_on(async { timeout(limit, closed).await.is_ok() })
    }

    /// The daemon's process, if it can be seen from here.
    pub(crate) fn pid(&self) -> Option<Pid> {
        self.daemon.as_ref().map(|daemon| daemon.pid)
    }

    fn strange(&self, what: &str) -> Failure {
        Failure::new(format!(
            "the daemon at {}: {what}; is it of another version, or stopping?",
            self.socket.display()
        ))
    }
}

async fn open(socket: &Path) -> Result<(SendRequest<Full<Bytes>>, Option<Process>), Failure> {
    let stream = UnixStream::connect(socket)
        .await
        .map_err(|error| unreachable(socket, &error))?;
    let pid = stream.peer_cred().ok().and_then(|peer| peer.pid());
    // The kernel takes clients in for a dead process, too, as long as it holds that.
    if let Some(dead) = pid
        .and_then(ProcessId::of)
        .filter(|id| id.life() == Life::Held)
    {
        return Err(Failure::new(format!(
            "the daemon at {} (pid {}) is dead, and the kernel holds it until its devices answer; start another with `pathpulse run`",
            socket.display(),
            dead.pid
        )));
    }
    let daemon = pid
        .and_then(Pid::from_raw)
        .and_then(|pid| Some((pid, pidfd_open(pid, PidfdFlags::empty()).ok()?)))
        .map(|(pid, fd)| Process { pid, fd });
    let (sender, connection) = handshake(TokioIo::new(stream))
        .await
        .map_err(|error| Failure::new(format!("the daemon at {}: {error}", socket.display())))?;
    // Its errors come to whoever waits for the answer as well.
    tokio::spawn(async { drop(connection.await) });
    Ok((sender, daemon))
}

/// Why there is no good answer.
enum Refusal {
    /// Something between us and the daemon is wrong.
    Strange(String),
    /// The daemon says why it won't.
    Said(Vec<String>),
}

impl From<hyper::Error> for Refusal {
    fn from(error: hyper::Error) -> Refusal {
        Refusal::Strange(error.to_string())
    }
}

async fn request(
    sender: &mut SendRequest<Full<Bytes>>,
    method: Method,
    resource: &str,
    body: Bytes,
) -> Result<Incoming, Refusal> {
    let request = Request::builder()
        .method(method)
        .uri(resource)
        .header(hyper::header::HOST, "pathpulse")
        .body(Full::new(body))
        .map_err(|error| Refusal::Strange(error.to_string()))?;
    let response: Response<Incoming> = sender.send_request(request).await?;
    match response.status() {
        StatusCode::OK => Ok(response.into_body()),
        status => {
            let said = response.into_body().collect().await?.to_bytes();
            match serde_json::from_slice::<RefusalDocument>(&said) {
                Ok(refusal) => Err(Refusal::Said(refusal.errors)),
                Err(_) => Err(Refusal::Strange(format!("{resource}: {status}"))),
            }
        }
    }
}

fn unreachable(socket: &Path, error: &io::Error) -> Failure {
    let what = match error.kind() {
        io::ErrorKind::PermissionDenied => {
            format!(
                "no access to {}: run as root or in its group",
                socket.display()
            )
        }
        io::ErrorKind::WouldBlock => return silent(socket),
        _ => format!(
            "no daemon at {}: {error}; start one with `pathpulse run`",
            socket.display()
        ),
    };
    Failure::new(what)
}

fn silent(socket: &Path) -> Failure {
    Failure::new(format!(
        "the daemon at {} does not answer; its log may say why, and SIGTERM ends it",
        socket.display()
    ))
}

/// Takes server-sent events apart, as far as the daemon uses them: each has its data on one line.
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
    fn events_come_in_any_pieces() {
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
