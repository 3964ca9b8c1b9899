//! A plain HTTP client, like a probe or Prometheus.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use super::common::{Daemon, PATIENCE};

/// An answer of the daemon.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
    pub(crate) took: Duration,
}

/// A listener of the daemon.
#[derive(Clone, Debug)]
pub(crate) enum Web {
    Tcp(String),
    Socket(std::path::PathBuf),
}

impl Web {
    /// The TCP address of a daemon with `--http 0`, from its log.
    pub(crate) fn tcp(daemon: &Daemon) -> Web {
        Web::of_log(&daemon.wait_log("http://"))
    }

    /// The TCP address in a line of the log.
    pub(crate) fn of_log(line: &str) -> Web {
        let address = line.split("http://").nth(1).expect("an address");
        let address = address.split('/').next().expect("an address");
        Web::Tcp(address.to_owned())
    }

    pub(crate) fn socket(daemon: &Daemon) -> Web {
        Web::Socket(daemon.socket.clone())
    }

    pub(crate) fn get(&self, target: &str) -> Answer {
        self.ask("GET", target, "")
    }

    /// One request and its answer; `more` are header lines.
    pub(crate) fn ask(&self, method: &str, target: &str, more: &str) -> Answer {
        self.send(&format!(
            "{method} {target} HTTP/1.0\r\nHost: p\r\n{more}\r\n"
        ))
    }

    /// One request and its answer with a server that needs HTTP/1.1 and sends a Content-Length.
    pub(crate) fn order(&self, method: &str, target: &str, body: &str) -> Answer {
        self.send(&format!(
            "{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        ))
    }

    fn send(&self, request: &str) -> Answer {
        let begin = Instant::now();
        let text = match self {
            Web::Tcp(address) => {
                let stream = TcpStream::connect(address).expect("connects");
                stream.set_read_timeout(Some(PATIENCE)).expect("set");
                exchange(stream, request)
            }
            Web::Socket(socket) => {
                let stream = UnixStream::connect(socket).expect("connects");
                stream.set_read_timeout(Some(PATIENCE)).expect("set");
                exchange(stream, request)
            }
        };
        let (head, body) = text.split_once("\r\n\r\n").expect("a head");
        let status = head.split(' ').nth(1).expect("a status");
        Answer {
            status: status.parse().expect("a number"),
            head: head.to_owned(),
            body: body.to_owned(),
            took: begin.elapsed(),
        }
    }

    /// The answer of `/livez` about a path.
    pub(crate) fn livez(&self, path: &Path, max_stall: &str) -> Answer {
        let path = path.to_str().expect("text");
        self.get(&format!("/livez?path={path}&max_stall={max_stall}"))
    }
}

/// Sends a request, and reads the answer to the end of its Content-Length, or of the stream.
fn exchange(mut stream: impl Read + Write, request: &str) -> String {
    stream.write_all(request.as_bytes()).expect("sent");
    let mut reader = BufReader::new(stream);
    let mut answer = String::new();
    while !answer.ends_with("\r\n\r\n") {
        let read = reader.read_line(&mut answer).expect("answered");
        assert!(read > 0, "a head: {answer}");
    }
    let length = answer.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        let is_it = name.eq_ignore_ascii_case("content-length");
        is_it.then(|| value.trim().parse().expect("a number"))
    });
    let mut body = reader.take(length.unwrap_or(u64::MAX));
    body.read_to_string(&mut answer).expect("answered");
    answer
}
