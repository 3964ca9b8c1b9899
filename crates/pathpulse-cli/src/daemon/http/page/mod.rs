//! The status page at `/`, for people with a browser.
//!
//! Each request gets the complete page, which works without the script. The script (`page.js`)
//! fetches the page again when an event arrives and every few seconds, and replaces what is new. So
//! data become text in one place only, and all of it is escaped there. Nothing is loaded from other
//! hosts, and the policy of the page forbids it.

mod markup;
mod view;

use axum::Router;
use axum::extract::{Query, State};
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{Html, IntoResponse};
use axum::routing::get;
use pathpulse::parse_name;
use serde::Deserialize;

use crate::api::{EventDocument, PathDocument, StatusDocument};
use crate::daemon::events::HistoryMsg;
use crate::daemon::http::state::HttpState;
use view::View;

/// Script, style and data from this daemon only; no script within the page.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
    form-action 'self'; base-uri 'none'; frame-ancestors 'none'";
/// The number of events on the page.
const EVENTS: usize = 50;
/// The number of latencies in a graph; the script uses the same number. The monitor keeps them
/// anyway, in 256 bytes per path.
const GRAPH: usize = 60;
/// Bytes in a filter.
const FILTER_MAX: usize = 200;

type Headers = [(HeaderName, &'static str); 4];

/// The page and its files.
pub(crate) fn routes() -> Router<HttpState> {
    let script = || asset("text/javascript; charset=utf-8", include_str!("page.js"));
    let style = || asset("text/css; charset=utf-8", include_str!("page.css"));
    let icon = || asset("image/svg+xml", include_str!("icon.svg"));
    Router::new()
        .route("/", get(page))
        .route("/page.js", get(async move || script()))
        .route("/page.css", get(async move || style()))
        .route("/icon.svg", get(async move || icon()))
}

#[derive(Debug, Deserialize)]
struct PageQuery {
    /// Only paths with this text in their name, group, state or cause.
    #[serde(default)]
    q: String,
}

async fn page(State(state): State<HttpState>, Query(query): Query<PageQuery>) -> impl IntoResponse {
    if query.q.len() > FILTER_MAX {
        let why = format!("a filter has at most {FILTER_MAX} bytes\n");
        return (StatusCode::BAD_REQUEST, why).into_response();
    }
    let status = StatusDocument::new(&state.monitor, &state.watchlist.unopened());
    let (past, _) = state.history.follow();
    let events = past
        .iter()
        .rev()
        .take(EVENTS)
        .filter_map(|message| match message {
            HistoryMsg::Event(text) => serde_json::from_str::<EventDocument>(text).ok(),
            HistoryMsg::Lost(_) | HistoryMsg::End => None,
        });
    let mut view = View::new(&status, events.collect(), query.q.trim());
    view.fill_graphs(|path| latencies_us(&state, path));
    let page = Html(markup::page(&view).into_string());
    (headers("text/html; charset=utf-8", "no-store"), page).into_response()
}

/// The latencies that the graph of a path begins with.
fn latencies_us(state: &HttpState, path: &PathDocument) -> Vec<u64> {
    let id = parse_name(&path.path).and_then(|name| state.monitor.find(&name));
    id.map_or_else(Vec::new, |id| state.monitor.latencies_us(id, GRAPH))
}

/// A file of the page. The browser revalidates it each time.
fn asset(kind: &'static str, text: &'static str) -> impl IntoResponse {
    (headers(kind, "no-cache"), text)
}

fn headers(kind: &'static str, cache: &'static str) -> Headers {
    [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, cache),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ]
}
