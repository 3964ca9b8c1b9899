//! The commands that change something, over HTTP: each is handed to the keeper of the list, and waits
//! for its word, but not for ever.

use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Json, Router, routing};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::routes::Control;
use crate::daemon::watchlist::{
    Action, AnswerDocument, Order, PathsDocument, ReloadDocument, Roster,
};

/// A command with all of a large host's paths fits in.
const BODY_BYTES_MAX: usize = 4 << 20;
/// How long a client may take to say what it wants.
const BODY_LIMIT: Duration = Duration::from_secs(10);
/// How long the keeper may take; opening paths has a shorter limit.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// Why a command was not carried out.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct RefusalDocument {
    /// One line or more: what, where, what to do.
    pub(crate) errors: Vec<String>,
}

type Refusal = (StatusCode, Json<RefusalDocument>);

fn refuse(status: StatusCode, errors: Vec<String>) -> Refusal {
    (status, Json(RefusalDocument { errors }))
}

/// What those may ask who may change something.
pub(crate) fn routes() -> Router<Control> {
    let act = |action| {
        routing::post(async move |State(control): State<Control>, body: Body| {
            act(&control.roster, action, body).await
        })
    };
    Router::new()
        .route("/v1/add", act(Action::Add))
        .route("/v1/remove", act(Action::Remove))
        .route("/v1/pause", act(Action::Pause))
        .route("/v1/resume", act(Action::Resume))
        .route("/v1/check-now", act(Action::CheckNow))
        .route("/v1/reload", routing::post(reload))
}

async fn act(
    roster: &Roster,
    action: Action,
    body: Body,
) -> Result<Json<Vec<AnswerDocument>>, Refusal> {
    let paths = read(body).await?;
    let (reply, answers) = oneshot::channel();
    roster.tell(Order::Do(action, paths, reply));
    heard(answers).await.map(Json)
}

async fn reload(State(control): State<Control>) -> Response {
    let (reply, reloaded) = oneshot::channel();
    control.roster.tell(Order::Reload(Some(reply)));
    match heard(reloaded).await {
        Ok(Ok(done)) => Json::<ReloadDocument>(done).into_response(),
        Ok(Err(errors)) => refuse(StatusCode::UNPROCESSABLE_ENTITY, errors).into_response(),
        Err(refusal) => refusal.into_response(),
    }
}

/// Reads what a command is about.
async fn read(body: Body) -> Result<PathsDocument, Refusal> {
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

/// Waits for the keeper's word.
async fn heard<T>(answer: oneshot::Receiver<T>) -> Result<T, Refusal> {
    match timeout(ANSWER_LIMIT, answer).await {
        Ok(Ok(answer)) => Ok(answer),
        _ => {
            let why = "no word within 10 s; the file may lie on a disk that hangs: see the log";
            Err(refuse(StatusCode::GATEWAY_TIMEOUT, vec![why.to_owned()]))
        }
    }
}
