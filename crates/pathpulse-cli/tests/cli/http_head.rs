//! HEAD requests, which monitors and load balancers make: the head of GET, and no body.

use std::io::Read;
use std::io::Write;
use std::path::Path;

use super::common::{Daemon, PATIENCE, plain_file};
use super::web::Web;

/// Sends HEAD and then a second request on the same connection, and returns both answers: bytes of
/// a body would stand between them.
fn head_then(web: &Web, target: &str) -> String {
    let request = format!(
        "HEAD {target} HTTP/1.1\r\nHost: localhost\r\n\r\n\
         HEAD /the-end HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    );
    let mut text = String::new();
    match web {
        Web::Tcp(address) => {
            let mut stream = std::net::TcpStream::connect(address).expect("connects");
            stream.set_read_timeout(Some(PATIENCE)).expect("set");
            stream.write_all(request.as_bytes()).expect("sent");
            stream.read_to_string(&mut text).expect("ends");
        }
        Web::Socket(socket) => {
            let mut stream = std::os::unix::net::UnixStream::connect(socket).expect("connects");
            stream.set_read_timeout(Some(PATIENCE)).expect("set");
            stream.write_all(request.as_bytes()).expect("sent");
            stream.read_to_string(&mut text).expect("ends");
        }
    }
    text
}

/// The status, and the names of the header fields.
fn shape(head: &str) -> (String, Vec<String>) {
    let mut lines = head.lines();
    let status = lines.next().expect("a status")[9..12].to_owned();
    let names = lines.filter_map(|line| Some(line.split_once(':')?.0.to_lowercase()));
    let names = names.filter(|name| !matches!(name.as_str(), "connection" | "transfer-encoding"));
    (status, names.collect())
}

#[test]
fn head_is_get_without_a_body_on_both_listeners() {
    let file = plain_file(1 << 16);
    let missing = file.path().with_file_name("never");
    let name = file.path().to_str().expect("text");
    let daemon = Daemon::spawn(&[file.path(), &missing], &["--http", "0"]);
    let listeners = [Web::tcp(&daemon), Web::socket(&daemon)];
    daemon.wait_state(file.path(), "up");
    let one = format!("/v1/paths{name}");
    let live = |path: &Path| format!("/livez?path={}", path.display());
    let (up, waiting) = (live(file.path()), live(&missing));
    let targets = [
        ("/", 200),
        ("/?q=a", 200),
        ("/page.js", 200),
        ("/page.css", 200),
        ("/icon.svg", 200),
        ("/v1/status", 200),
        ("/v1/paths", 200),
        (&*one, 200),
        ("/v1/paths/nowhere", 404),
        ("/v1/events", 200),
        ("/healthz", 200),
        (&*up, 200),
        (&*waiting, 503),
        ("/livez", 400),
        ("/metrics", 200),
        ("/openapi.json", 200),
        ("/nowhere", 404),
        ("/v1/stop", 405),
    ];
    for web in &listeners {
        for (target, status) in targets {
            let get = web.get(target);
            let text = head_then(web, target);
            let (head, rest) = text.split_once("\r\n\r\n").expect("a head");
            assert!(rest.starts_with("HTTP/1.1 404"), "{target}: {text}");
            assert!(rest.ends_with("\r\n\r\n"), "{target}: {text}");
            assert_eq!(get.status, status, "{target}: {get:?}");
            assert_eq!(shape(head), shape(&get.head), "{target}");
        }
        // GET would keep this stream open.
        let text = head_then(web, "/v1/events?follow=true");
        assert!(text.starts_with("HTTP/1.1 200"), "{text}");
        assert!(text.contains("content-type: text/event-stream"), "{text}");
        assert!(text.contains("HTTP/1.1 404"), "{text}");
    }
    assert!(
        daemon.run(&["status"]).status.success(),
        "the daemon still answers"
    );
}
