//! The routes, and the handlers of the status. All answers come from memory: no handler waits for
//! a device.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::middleware;
use axum::routing::{get, post};
use axum::{Json, Router};

use super::peers::authorize;
use super::state::HttpState;
use super::{commands, event_stream, openapi, page, probes};
use crate::api::{PathDocument, StatusDocument, StopDocument, path_document, path_documents};
use crate::daemon::metrics;
use crate::daemon::watchlist::{self, ListedPath};

/// All routes; each request is authorized first.
pub(crate) fn router(state: HttpState) -> Router {
    Router::new()
        .route("/v1/status", get(status))
        .route("/v1/paths", get(paths))
        .route("/v1/paths/{*name}", get(path))
        .route("/v1/events", get(event_stream::answer))
        .route("/v1/stop", post(stop))
        .merge(commands::routes())
        .route("/healthz", get(probes::health))
        .route("/livez", get(probes::answer))
        .route("/metrics", get(metrics::answer))
        .route("/openapi.json", get(openapi::answer))
        .merge(page::routes())
        .fallback(async || (StatusCode::NOT_FOUND, "there is no such resource\n"))
        .layer(middleware::from_fn(authorize))
        .with_state(state)
}

async fn status(State(state): State<HttpState>) -> Json<StatusDocument> {
    let status = StatusDocument::new(&state.monitor, &state.watchlist.unopened());
    Json(StatusDocument {
        clients: state.clients.document(),
        held_processes: state.predecessors.documents(),
        ..status
    })
}

async fn paths(State(state): State<HttpState>) -> Json<Vec<PathDocument>> {
    Json(path_documents(&state.monitor, &state.watchlist.unopened()))
}

/// One path by its name, as in documents or as bytes. A slash may be written as `%2F`, and the
/// first slash may be left out.
async fn path(
    State(state): State<HttpState>,
    Path(name): Path<String>,
) -> Result<Json<PathDocument>, (StatusCode, &'static str)> {
    let name = format!("/{}", name.trim_start_matches('/'));
    let unopened = state.watchlist.unopened();
    let document = match watchlist::find(&state.monitor, &unopened, &name) {
        Some(ListedPath::Open(id)) => state
            .monitor
            .path(id)
            .map(|path| path_document(&path, &unopened)),
        Some(ListedPath::Unopened(path)) => Some(PathDocument::unopened(path)),
        None => None,
    };
    document
        .map(Json)
        .ok_or((StatusCode::NOT_FOUND, "this path is not watched\n"))
}

async fn stop(State(state): State<HttpState>) -> Json<StopDocument> {
    // This task runs on the same thread, so it runs after the answer is written.
    tokio::spawn(async move { state.stopper.stop("asked over the socket") });
    Json(StopDocument {
        stopping: true,
        pid: std::process::id(),
    })
}
