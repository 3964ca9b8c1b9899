//! Who sends a request, and what that client may do.

use axum::Json;
use axum::extract::{Extension, Request};
use axum::http::{Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use rustix::process::geteuid;
use tokio::net::unix::UCred;

use crate::api::RefusalDocument;
use crate::daemon::config::ChangeRights;

/// A connected client.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Peer {
    /// Connected by TCP. It may read.
    Remote,
    /// Connected by the socket.
    Local {
        uid: u32,
        gid: u32,
        pid: Option<i32>,
        may_change: bool,
    },
}

impl Peer {
    /// A client of the socket, by the credentials that the kernel gives; a client without
    /// credentials may only read.
    pub(crate) fn local(credentials: Option<UCred>, rights: ChangeRights) -> Peer {
        let Some(credentials) = credentials else {
            return Peer::Remote;
        };
        let uid = credentials.uid();
        Peer::Local {
            uid,
            gid: credentials.gid(),
            pid: credentials.pid(),
            may_change: may_change(uid, geteuid().as_raw(), rights),
        }
    }
}

/// The permissions of the socket admit root, the daemon's user and the socket's group. So a client
/// that is neither of the first two is in the group.
fn may_change(uid: u32, own: u32, rights: ChangeRights) -> bool {
    uid == 0 || uid == own || rights == ChangeRights::Group
}

/// Rejects requests that the client may not make, and logs requests that change something.
pub(crate) async fn authorize(
    Extension(peer): Extension<Peer>,
    request: Request,
    next: Next,
) -> Response {
    if matches!(*request.method(), Method::GET | Method::HEAD) {
        return next.run(request).await;
    }
    match peer {
        Peer::Remote => {
            let why =
                "this address answers GET and HEAD only; commands go to the daemon's socket\n";
            let allow = [(header::ALLOW, "GET, HEAD")];
            (StatusCode::METHOD_NOT_ALLOWED, allow, why).into_response()
        }
        Peer::Local {
            uid,
            gid,
            pid,
            may_change,
        } => {
            let (method, what) = (request.method(), request.uri().path());
            let client = format!("user {uid}, group {gid}, process {}", pid.unwrap_or(0));
            if may_change {
                tracing::info!("{method} {what} by {client}");
                return next.run(request).await;
            }
            tracing::warn!("{method} {what} refused: {client} may only look");
            let why = format!(
                "user {uid} may only look; ask as root, or let the socket's group: changes = \"group\" in [daemon]"
            );
            let errors = vec![why];
            (StatusCode::FORBIDDEN, Json(RefusalDocument { errors })).into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_and_the_daemon_may_change_and_the_group_if_configured() {
        for (uid, rights, may) in [
            (0, ChangeRights::Root, true),
            (7, ChangeRights::Root, true),
            (8, ChangeRights::Root, false),
            (8, ChangeRights::Group, true),
        ] {
            assert_eq!(may_change(uid, 7, rights), may, "{uid} {rights:?}");
        }
    }
}
