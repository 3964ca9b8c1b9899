//! The program `pathpulse`, as a library for its own binary, its tests and its fuzz targets: no
//! API.
//!
//! Each command is a file in `cli`; what makes a process a daemon is in `daemon`. Both use the
//! engine through the public API of the library `pathpulse`, as any program would.

#![forbid(unsafe_code)]

mod api;
mod cli;
mod daemon;
#[doc(hidden)]
pub mod fuzzing;
mod human;
mod lookup;

pub use cli::main;
