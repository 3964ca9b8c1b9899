//! HTTP on the control socket and on the optional TCP address.
//!
//! Here: the listeners, who may do what, the routes, the status page, the liveness probes. All
//! answers are computed from memory; no request waits for a device. Requests that change something
//! go to the watchlist as messages. Not here: the documents (`crate::api`) and the metrics
//! (`daemon::metrics`).

mod commands;
mod openapi;
mod page;
pub(crate) mod peers;
pub(crate) mod place;
pub(crate) mod probes;
pub(crate) mod routes;
pub(crate) mod server;
pub(crate) mod socket;

pub(crate) use commands::RefusalDocument;
