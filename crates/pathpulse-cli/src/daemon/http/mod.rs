//! HTTP on the control socket and on the optional TCP address.
//!
//! Here: the listeners, who may do what, the routes, the status page, the liveness probes. All
//! answers are computed from memory; no request waits for a device. Requests that change something
//! go to the watchlist as messages. Not here: the documents (`crate::api`) and the metrics
//! (`daemon::metrics`).

mod commands;
mod endpoints;
mod event_stream;
mod liveness;
mod openapi;
mod page;
mod peers;
mod probes;
mod routes;
mod server;
mod socket;
mod state;

pub(crate) use endpoints::Endpoints;
pub(crate) use peers::Peer;
pub(crate) use routes::router;
pub(crate) use server::serve;
pub(crate) use socket::SocketLock;
pub(crate) use state::HttpState;
