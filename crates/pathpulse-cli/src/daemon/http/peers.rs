//! Who asks, what they may do, and how many there are.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use axum::Json;
use axum::extract::{Extension, Request};
use axum::http::{Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use rustix::process::geteuid;
use serde::{Deserialize, Serialize};
use tokio::net::unix::UCred;

use super::commands::RefusalDocument;
use crate::daemon::config::Changes;

/// Someone who is connected.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Visitor {
    /// Over TCP: may look.
    Remote,
    /// Over the socket.
    Local {
        uid: u32,
        gid: u32,
        pid: Option<i32>,
        may_change: bool,
    },
}

impl Visitor {
    /// Who came in by the socket, as the kernel says; `None` is someone it does not know.
    pub(crate) fn local(who: Option<UCred>, changes: Changes) -> Visitor {
        let Some(who) = who else {
            return Visitor::Remote;
        };
        let uid = who.uid();
        Visitor::Local {
            uid,
            gid: who.gid(),
            pid: who.pid(),
            may_change: may_change(uid, geteuid().as_raw(), changes),
        }
    }
}

/// Whoever could open the socket is in its group, or is root or the daemon's user.
fn may_change(uid: u32, own: u32, changes: Changes) -> bool {
    uid == 0 || uid == own || changes == Changes::Group
}

/// Lets those who may only look do nothing else, and writes down who changes something.
pub(crate) async fn gate(
    Extension(visitor): Extension<Visitor>,
    request: Request,
    next: Next,
) -> Response {
    if matches!(*request.method(), Method::GET | Method::HEAD) {
        return next.run(request).await;
    }
    match visitor {
        Visitor::Remote => {
            let why =
                "this address answers GET and HEAD only; commands go to the daemon's socket\n";
            let allow = [(header::ALLOW, "GET, HEAD")];
            (StatusCode::METHOD_NOT_ALLOWED, allow, why).into_response()
        }
        Visitor::Local {
            uid,
            gid,
            pid,
            may_change,
        } => {
            let (method, what) = (request.method(), request.uri().path());
            let who = format!("user {uid}, group {gid}, process {}", pid.unwrap_or(0));
            if may_change {
                tracing::info!("{method} {what} by {who}");
                return next.run(request).await;
            }
            tracing::warn!("{method} {what} refused: {who} may only look");
            let why = format!(
                "user {uid} may only look; ask as root, or let the socket's group: changes = \"group\" in [daemon]"
            );
            let errors = vec![why];
            (StatusCode::FORBIDDEN, Json(RefusalDocument { errors })).into_response()
        }
    }
}

/// How many clients there are and were.
#[derive(Debug, Default)]
pub(crate) struct Clients {
    here: AtomicU64,
    turned_away: AtomicU64,
    too_slow: AtomicU64,
}

/// Of `GET /v1/status`: those who ask.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ClientsDocument {
    /// Connected now.
    pub(crate) here: u64,
    /// For whom there was no room.
    pub(crate) turned_away: u64,
    /// Who did not read their answer in time, and were left.
    pub(crate) too_slow: u64,
}

impl Clients {
    /// One came in, and is here until the answer is dropped.
    pub(crate) fn enter(self: &Arc<Clients>) -> Here {
        self.here.fetch_add(1, Relaxed);
        Here(Arc::clone(self))
    }

    /// Counts one for whom there is no room.
    pub(crate) fn turn_away(&self) {
        self.turned_away.fetch_add(1, Relaxed);
    }

    pub(crate) fn was_too_slow(&self) {
        self.too_slow.fetch_add(1, Relaxed);
    }

    pub(crate) fn document(&self) -> ClientsDocument {
        ClientsDocument {
            here: self.here.load(Relaxed),
            turned_away: self.turned_away.load(Relaxed),
            too_slow: self.too_slow.load(Relaxed),
        }
    }
}

/// Someone is here.
#[derive(Debug)]
pub(crate) struct Here(Arc<Clients>);

impl Drop for Here {
    fn drop(&mut self) {
        self.0.here.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_and_the_daemon_may_change_and_the_group_if_it_is_said() {
        for (uid, changes, may) in [
            (0, Changes::Root, true),
            (7, Changes::Root, true),
            (8, Changes::Root, false),
            (8, Changes::Group, true),
        ] {
            assert_eq!(may_change(uid, 7, changes), may, "{uid} {changes:?}");
        }
    }

    #[test]
    fn those_who_are_here_are_counted_until_they_leave() {
        let clients = Arc::new(Clients::default());
        let (one, two) = (clients.enter(), clients.enter());
        assert_eq!(clients.document().here, 2);
        drop(one);
        drop(two);
        clients.was_too_slow();
        let expected = ClientsDocument {
            here: 0,
            turned_away: 0,
            too_slow: 1,
        };
        assert_eq!(clients.document(), expected);
    }
}
