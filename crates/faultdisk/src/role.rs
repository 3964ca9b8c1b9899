//! The role of this process in its rig. All processes of a rig run the same binary with different
//! arguments.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::Path;
use std::process::{Command, ExitCode};

use crate::{load, server, supervisor};

/// Runs one of a rig's processes until it ends. Call it from a hidden subcommand of a binary that
/// starts rigs with [`Rig::start_with`](crate::Rig::start_with). `args` are the arguments after
/// that subcommand, and must be the last ones of the command line: the rig's other processes are
/// started with the same command line and a role appended.
pub fn serve_main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    let prefix_len = std::env::args_os().count().saturating_sub(args.len());
    let prefix: Vec<OsString> = std::env::args_os().take(prefix_len).skip(1).collect();
    let result = match args.first().and_then(|role| role.to_str()) {
        None => supervisor::run(&ProcessStarter { prefix }),
        Some("server") => server::run(args.get(1).map_or(Path::new(""), Path::new)),
        Some("load") => load::run(&args[1..]),
        Some(other) => Err(io::Error::other(format!("unknown role: {other}"))),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "faultdisk: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Starts further processes of this process's rig.
#[derive(Debug, Clone)]
pub(crate) struct ProcessStarter {
    prefix: Vec<OsString>,
}

impl ProcessStarter {
    /// The command for a process with this role.
    pub(crate) fn command(&self, role: &str) -> Command {
        // Not the path, because a newer build may have replaced the file.
        let mut command = Command::new("/proc/self/exe");
        command.args(&self.prefix).arg(role);
        command
    }
}
