//! Runs the `pathpulse` binary on simulated disks that fail on command.

#![forbid(unsafe_code)]

mod backend_fallback;
mod bench;
mod browser;
mod check;
mod client_load;
mod common;
mod config;
mod control;
mod daemon;
mod daemon_replacement;
mod demo;
mod device_release;
mod discovery;
mod doctor;
mod documentation;
mod grouped_messages;
mod held_worker;
mod hooks;
mod http_head;
mod livez;
mod metrics;
mod missing_disks;
mod mounts;
mod name_lookup;
mod names;
mod openapi;
mod prometheus;
mod reloads;
mod resource_limits;
mod seccomp;
mod slow_input;
mod socket_lock;
mod state_file;
mod status;
mod status_page;
mod status_snapshots;
mod stopping;
mod systemd;
mod systemd_unit;
mod terminal;
mod uevents;
mod watch;
mod web;
