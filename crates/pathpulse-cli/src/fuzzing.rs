//! What the fuzz targets call: each takes any input, and panics where a promise is broken.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::thread;

use axum::Router;
use axum::body::Body;
use axum::extract::Extension;
use axum::http::Request;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use pathpulse::{Config, Monitor};

use crate::daemon::config::{CommandLine, Configuration};
use crate::daemon::discovery::uevent;
use crate::daemon::http::{HttpState, Peer, router};
use crate::daemon::process;
use crate::daemon::watchlist::{Watchlist, WatchlistMsg};

/// Any text as a configuration file: a valid one has the same meaning after it is shown and parsed
/// again.
pub fn config(text: &str) {
    let line = CommandLine::default();
    let Ok(configuration) = Configuration::parse(text, &line) else {
        return;
    };
    let shown = configuration.show();
    let again = Configuration::parse(&shown, &line);
    let again = again.unwrap_or_else(|problems| panic!("{problems:?}: {shown}"));
    let names = |configuration: &Configuration| -> Vec<PathBuf> {
        let named = configuration.named();
        named.iter().map(|(name, _)| name.to_path_buf()).collect()
    };
    assert_eq!(names(&configuration), names(&again));
    for name in names(&configuration) {
        assert_eq!(configuration.spec(&name), again.spec(&name));
    }
    let other = Path::new("/dev/sda");
    assert_eq!(configuration.spec(other), again.spec(other));
}

/// Any bytes as a message of the kernel.
pub fn uevent(message: &[u8]) {
    if let Some(event) = uevent::parse(message) {
        assert!(message.windows(5).any(|part| part == b"block"));
        assert!(event.name.len() < message.len());
    }
}

/// Any method, address and body to the daemon's router: it answers, and never with an error of its
/// own.
///
/// The input is `METHOD ADDRESS`, a line break, and the body.
pub fn http(input: &[u8]) {
    static ROUTER: OnceLock<Router> = OnceLock::new();
    let mut parts = input.splitn(2, |byte| *byte == b'\n');
    let line = std::str::from_utf8(parts.next().unwrap_or_default()).ok();
    let Some((method, address)) = line.and_then(|line| line.split_once(' ')) else {
        return;
    };
    let body = Body::from(parts.next().unwrap_or_default().to_vec());
    let Ok(request) = Request::builder().method(method).uri(address).body(body) else {
        return;
    };
    if request.uri().path() == "/v1/stop" {
        return;
    }
    let router = ROUTER.get_or_init(daemon_router).clone();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let answer = runtime
        .expect("a runtime")
        .block_on(TowerToHyperService::new(router).call(request));
    // 503 is an answer of the probes.
    let status = answer.expect("it never fails").status().as_u16();
    assert!(status < 500 || status == 503, "{status}");
}

/// The daemon's router, over an engine without paths and a list that does nothing.
fn daemon_router() -> Router {
    let monitor = Arc::new(Monitor::start(Config::default()).expect("a backend"));
    let (stopper, _messages) = process::prepare().expect("signals");
    let (watchlist, inbox) = Watchlist::new();
    thread::spawn(move || {
        for message in inbox {
            match message {
                WatchlistMsg::Apply(_, _, reply) => drop(reply.send(Vec::new())),
                WatchlistMsg::Reload(Some(reply)) => drop(reply.send(Err(Vec::new()))),
                _ => {}
            }
        }
    });
    let state = HttpState::new(
        &monitor,
        &Arc::default(),
        &watchlist,
        &stopper,
        Default::default(),
    );
    let peer = Peer::Local {
        uid: 0,
        gid: 0,
        pid: None,
        may_change: true,
    };
    router(state).layer(Extension(peer))
}
