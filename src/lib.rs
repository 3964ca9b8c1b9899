//! x
#![forbid(unsafe_code)]
pub mod check;
pub mod health;
mod latency;
mod schedule;
