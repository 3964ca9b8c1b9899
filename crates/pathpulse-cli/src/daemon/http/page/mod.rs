//! The status page at `/`: how all is, for people with a browser.
//!
//! The page is made here, whole, each time it is asked for; that needs no script. The script
//! (`page.js`) asks for it again when events tell of a change, and every few seconds, and puts what
//! is new in its place. So there is one place where things become text, and it escapes all of it.
//! Nothing comes from other hosts, and the browser is told to take nothing from there.

mod markup;
mod view;

use axum::Router;
use axum::extract::{Query, State};
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{Html, IntoResponse};
use axum::routing::get;
use pathpulse::parse_name;
use serde::Deserialize;

use crate::api::document::{EventDocument, PathDocument, StatusDocument};
use crate::daemon::events::history::Told;
use crate::daemon::http::routes::Control;
use view::View;

/// Own script, own style, own data, and nobody else's; no script within the page.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
    form-action 'self'; base-uri 'none'; frame-ancestors 'none'";
/// Events that are shown.
const EVENTS: usize = 50;
/// Latencies that a graph shows; the script has as many. The monitor keeps them anyway, in 256 bytes a path.
const GRAPH: usize = 60;
/// A filter is a few words.
const FILTER_MAX: usize = 200;

type Headers = [(HeaderName, &'static str); 4];

/// The page and what belongs to it.
pub(crate) fn routes() -> Router<Control> {
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
    /// Only paths that have this in their name, group, state or cause.
    #[serde(default)]
    q: String,
}

async fn page(State(control): State<Control>, Query(query): Query<PageQuery>) -> impl IntoResponse {
    if query.q.len() > FILTER_MAX {
        let why = format!("a filter has at most {FILTER_MAX} bytes\n");
        return (StatusCode::BAD_REQUEST, why).into_response();
    }
    let status = StatusDocument::new(&control.monitor, &control.roster.waiting());
    let (past, _) = control.history.follow();
    let events = past
        .iter()
        .rev()
        .take(EVENTS)
        .filter_map(|told| match told {
            Told::Event(text) => serde_json::from_str::<EventDocument>(text).ok(),
            Told::Lost(_) | Told::End => None,
        });
    let mut view = View::new(&status, events.collect(), query.q.trim());
    view.fill_graphs(|path| latencies_us(&control, path));
    let page = Html(markup::page(&view).into_string());
    (headers("text/html; charset=utf-8", "no-store"), page).into_response()
}

/// What the graph of a path begins with.
fn latencies_us(control: &Control, path: &PathDocument) -> Vec<u64> {
    let id = parse_name(&path.path).and_then(|name| control.monitor.find(&name));
    id.map_or_else(Vec::new, |id| control.monitor.latencies_us(id, GRAPH))
}

/// One of the files that belong to the page. The browser asks each time whether it is still the same version.
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
