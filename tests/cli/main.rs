//! The `pathpulse` binary, run as its users run it, on disks that fail on command.

#![forbid(unsafe_code)]

mod bench;
mod check;
mod common;
mod config;
mod control;
mod daemon;
mod demo;
mod doctor;
mod forbidden;
mod held;
mod limits;
mod livez;
mod metrics;
mod prometheus;
mod seccomp;
mod stopping;
mod web;
#[path = "../../kernel-compat/tests/contract/zram.rs"]
mod zram;
