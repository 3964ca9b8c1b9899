//! The `pathpulse` binary, run as its users run it, on disks that fail on command.

#![forbid(unsafe_code)]

mod bench;
mod browser;
mod check;
mod common;
mod config;
mod control;
mod daemon;
mod demo;
mod discovery;
mod doctor;
mod documentation;
mod forbidden;
mod head;
mod held;
mod hooks;
mod limits;
mod livez;
mod load;
mod lock;
mod looks;
mod lost;
mod metrics;
mod names;
mod openapi;
mod page;
mod prometheus;
mod released;
mod reloads;
mod seccomp;
mod slow;
mod state;
mod status;
mod stopping;
mod successor;
mod systemd;
mod terminal;
mod told_once;
mod uevents;
mod unit;
mod watch;
mod web;
