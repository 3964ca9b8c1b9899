//! Any method, address and body to the daemon's router: it answers, and never with an error of its own.
//!
//! The input is `METHOD ADDRESS`, a line break, and the body.
#![no_main]
#![allow(dead_code, unused_imports)]

#[path = "../../src/daemon/mod.rs"]
mod daemon;
#[path = "../../src/human.rs"]
mod human;
#[path = "../../src/lookup.rs"]
mod lookup;

use std::sync::{Arc, OnceLock};
use std::thread;

use axum::body::Body;
use axum::extract::Extension;
use axum::http::Request;
use axum::Router;
use daemon::config::Changes;
use daemon::control::{Control, router};
use daemon::roster::{Order, Roster};
use daemon::stop;
use daemon::visitor::Visitor;
use libfuzzer_sys::fuzz_target;
use pathpulse::{Config, Monitor};
use tower::ServiceExt;

static ROUTER: OnceLock<Router> = OnceLock::new();

/// The daemon's router, over an engine without paths and a list that does nothing.
fn daemon_router() -> Router {
    let monitor = Arc::new(Monitor::start(Config::default()).expect("a backend"));
    let (stopper, _notices) = stop::prepare().expect("signals");
    let (roster, orders) = Roster::new();
    thread::spawn(move || {
        for order in orders {
            match order {
                Order::Do(_, _, reply) => drop(reply.send(Vec::new())),
                Order::Reload(Some(reply)) => drop(reply.send(Err(Vec::new()))),
                _ => {}
            }
        }
    });
    let control = Control::new(&monitor, &Arc::default(), &roster, &stopper, Default::default());
    let visitor = Visitor::Local {
        uid: 0,
        gid: 0,
        pid: None,
        may_change: true,
    };
    router(control).layer(Extension(visitor))
}

fuzz_target!(|input: &[u8]| {
    let end = input.iter().position(|byte| *byte == b'\n').unwrap_or(input.len());
    let Some((method, address)) = std::str::from_utf8(&input[..end]).ok().and_then(|line| line.split_once(' ')) else {
        return;
    };
    let body = input.get(end + 1..).unwrap_or_default().to_vec();
    let request = Request::builder().method(method).uri(address);
    let Ok(request) = request.body(Body::from(body)) else {
        return;
    };
    if request.uri().path() == "/v1/stop" {
        return;
    }
    let router = ROUTER.get_or_init(daemon_router).clone();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let answer = runtime.expect("a runtime").block_on(router.oneshot(request));
    // 503 is an answer of the probes.
    let status = answer.expect("it never fails").status().as_u16();
    assert!(status < 500 || status == 503, "{status}");
});
