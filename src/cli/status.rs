//! `pathpulse status`: how the daemon's paths are.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::args::{Format, Socket};
use super::client::Client;
use super::{FAILED, Failure, output, status_table};
use crate::daemon::{PathDocument, StatusDocument};

/// Shows how the paths are that the daemon watches
///
/// A path that is pending and not_open could not be opened yet, or device_gone: its disk was found, is gone,
/// and something still uses it. Why is said below the table.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit status: 0 shown, 1 no daemon, or a path that it does not watch, 3 wrong usage.\n\n\
    Examples:\n  pathpulse status\n  pathpulse status /dev/sda --format json"
)]
pub(crate) struct Args {
    /// Only these
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    socket: Socket,
    /// How to print it
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "table")]
    format: Format,
}

pub(crate) fn run(args: &Args) -> Result<i32, Failure> {
    let mut status: StatusDocument = Client::connect(&args.socket.file)?.get("/v1/status")?;
    let missing = select(&mut status.paths, &args.paths);
    for path in &missing {
        output::complain(&format!(
            "{}: not watched; `pathpulse status` shows what is",
            path.display()
        ));
    }
    match args.format {
        Format::Json => output::print_json(&status),
        Format::Table => {
            let paths = status_table::text(&status.paths);
            output::print(&(headline(&status) + &paths + &remarks(&status.paths)))
        }
    };
    Ok(if missing.is_empty() { 0 } else { FAILED })
}

/// Leaves the paths that were named, and returns the names that none has.
pub(crate) fn select<'a>(paths: &mut Vec<PathDocument>, names: &'a [PathBuf]) -> Vec<&'a Path> {
    if names.is_empty() {
        return Vec::new();
    }
    let wanted: Vec<_> = names
        .iter()
        .map(|name| (name.to_string_lossy(), device_of(name)))
        .collect();
    let fits = |path: &PathDocument, (name, device): &(_, Option<String>)| {
        path.path == *name || device.is_some() && *device == path.device
    };
    let missing = names
        .iter()
        .zip(&wanted)
        .filter(|(_, want)| !paths.iter().any(|path| fits(path, want)))
        .map(|(name, _)| name.as_path())
        .collect();
    paths.retain(|path| wanted.iter().any(|want| fits(path, want)));
    missing
}

/// Whether the daemon's path is what this name stands for.
pub(crate) fn stands_for(name: &Path, path: &PathDocument) -> bool {
    let device = device_of(name);
    path.path == name.to_string_lossy() || (device.is_some() && device == path.device)
}

/// The device that a name leads to: the daemon may know it by another name.
fn device_of(name: &Path) -> Option<String> {
    let meta = fs::metadata(name).ok()?;
    let device = meta.rdev();
    meta.file_type().is_block_device().then(|| {
        format!(
            "{}:{}",
            rustix::fs::major(device),
            rustix::fs::minor(device)
        )
    })
}

fn headline(status: &StatusDocument) -> String {
    let up = status
        .paths
        .iter()
        .filter(|path| path.state == "up")
        .count();
    format!(
        "{up} of {} paths up. {}, {} worker(s), running for {}\n",
        status.paths.len(),
        status.backend,
        status.workers,
        output::age(status.uptime_s as u64)
    )
}

/// Why paths are not open: a line for each, which a terminal has in as many as it needs.
fn remarks(paths: &[PathDocument]) -> String {
    let said = paths.iter().filter_map(|path| {
        let message = output::printable(path.message.as_ref()?);
        Some(format!("{}: {message}", output::printable(&path.path)))
    });
    let columns = output::columns_of_terminal();
    let lines = said.flat_map(|line| match columns {
        Some(columns) => output::wrap(&line, columns.into()),
        None => vec![line],
    });
    lines.map(|line| line + "\n").collect()
}
