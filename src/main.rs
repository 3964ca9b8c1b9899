//! The `pathpulse` command: the tool, the daemon, and the client of the daemon.
//!
//! Each command is a file in `cli`; what makes a process a daemon is in `daemon`. Both use the
//! engine through the library's public API, as any program would.

#![forbid(unsafe_code)]

mod cli;
mod daemon;
mod human;
mod lookup;

fn main() {
    let status = cli::main();
    // Returning from `main` would run exit handlers; nothing here needs any, and a thread that waits
    // for a device must not be able to keep them waiting.
    pathpulse_kernel_compat::exit_now(status);
}
