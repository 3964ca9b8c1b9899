//! The commands that change something: each is a message to the watchlist and waits for the result,
//! but not without a limit.

use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Json, Router, routing};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::state::HttpState;
use crate::api::{AnswerDocument, PathAction, PathsDocument, RefusalDocument, ReloadDocument};
use crate::daemon::watchlist::{Watchlist, WatchlistMsg};

/// A command with all paths of a large host fits in.
const BODY_BYTES_MAX: usize = 4 << 20;
/// How long a client may take to send the body.
const BODY_LIMIT: Duration = Duration::from_secs(10);
/// How long the watchlist may take; opening paths has a shorter limit.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

type CommandRefusal = (StatusCode, Json<RefusalDocument>);

fn refuse(status: StatusCode, errors: Vec<String>) -> CommandRefusal {
    (status, Json(RefusalDocument { errors }))
}

/// The routes of commands.
pub(crate) fn routes() -> Router<HttpState> {
    let act = |action| {
        routing::post(async move |State(state): State<HttpState>, body: Body| {
            act(&state.watchlist, action, body).await
        })
    };
    Router::new()
        .route("/v1/add", act(PathAction::Add))
        .route("/v1/remove", act(PathAction::Remove))
        .route("/v1/pause", act(PathAction::Pause))
        .route("/v1/resume", act(PathAction::Resume))
        .route("/v1/check-now", act(PathAction::CheckNow))
        .route("/v1/reload", routing::post(reload))
}

async fn act(
    watchlist: &Watchlist,
    action: PathAction,
    body: Body,
) -> Result<Json<Vec<AnswerDocument>>, CommandRefusal> {
    let paths = read_paths(body).await?;
    let (reply, answers) = oneshot::channel();
    watchlist.send(WatchlistMsg::Apply(action, paths, reply));
    receive(answers).await.map(Json)
}

async fn reload(State(state): State<HttpState>) -> Response {
    let (reply, reloaded) = oneshot::channel();
    state.watchlist.send(WatchlistMsg::Reload(Some(reply)));
    match receive(reloaded).await {
        Ok(Ok(done)) => Json::<ReloadDocument>(done).into_response(),
        Ok(Err(errors)) => refuse(StatusCode::UNPROCESSABLE_ENTITY, errors).into_response(),
        Err(refusal) => refusal.into_response(),
    }
}

/// Reads the paths of a command.
async fn read_paths(body: Body) -> Result<PathsDocument, CommandRefusal> {
    let bad = |why: String| refuse(StatusCode::BAD_REQUEST, vec![why]);
    let bytes = match timeout(BODY_LIMIT, to_bytes(body, BODY_BYTES_MAX)).await {
        Ok(Ok(bytes)) => bytes,
        Ok(Err(error)) => {
            let why = format!("the body: {error}; it may have {BODY_BYTES_MAX} bytes");
            return Err(refuse(StatusCode::PAYLOAD_TOO_LARGE, vec![why]));
        }
        Err(_) => {
            let why = format!("the body did not come within {BODY_LIMIT:?}");
            return Err(refuse(StatusCode::REQUEST_TIMEOUT, vec![why]));
        }
    };
    let paths: PathsDocument = serde_json::from_slice(&bytes).map_err(|error| {
        bad(format!(
            "the body: {error}; send {{\"paths\": [\"/dev/sda\"]}}"
        ))
    })?;
    if paths.paths.is_empty() {
        return Err(bad("no paths; send {\"paths\": [\"/dev/sda\"]}".to_owned()));
    }
    Ok(paths)
}

/// Waits for a result from the watchlist.
async fn receive<T>(result: oneshot::Receiver<T>) -> Result<T, CommandRefusal> {
    match timeout(ANSWER_LIMIT, result).await {
        Ok(Ok(result)) => Ok(result),
        _ => {
            let why = "no answer within 10 s; the file may be on a disk that hangs: see the log";
            Err(refuse(StatusCode::GATEWAY_TIMEOUT, vec![why.to_owned()]))
        }
    }
}
