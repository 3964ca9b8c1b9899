//! The text of a configuration file.
//!
//! The file may lie on a disk that hangs, and a process that reads there can't end, not even when it is killed.
//! So the daemon has another process read it, and waits for that one's word only.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

/// More than any configuration needs.
const BYTES_MAX: u64 = 4 << 20;

/// Reads a file.
///
/// # Errors
/// Why it can't be read, or is no text of a fitting size.
pub(crate) fn read(path: &Path) -> Result<String, String> {
    let file = File::open(path).map_err(|error| unreadable(&error))?;
    let mut bytes = Vec::new();
    let limit = BYTES_MAX + 1;
    let read = file.take(limit).read_to_end(&mut bytes);
    read.map_err(|error| unreadable(&error))?;
    if bytes.len() as u64 == limit {
        return Err(format!("is longer than {BYTES_MAX} bytes"));
    }
    text(bytes)
}

/// Has a file read by another process, which says on its stdout what [`read`] returns there, and by its exit
/// status which of both that is. Where there is no process to be had, this one reads.
pub(super) fn read_apart(path: &Path) -> Result<String, String> {
    let child = Command::new("/proc/self/exe")
        .arg("read-config")
        .arg(path)
        .env_clear()
        // What a terminal or a service manager sends to us is for us.
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let Ok(child) = child else {
        return read(path);
    };
    let output = child.wait_with_output();
    let output = output.map_err(|error| unreadable(&error))?;
    let said = text(output.stdout)?;
    match output.status.code() {
        Some(0) => Ok(said),
        Some(_) if !said.is_empty() => Err(said),
        _ => Err(format!("the process that reads it: {}", output.status)),
    }
}

fn unreadable(error: &io::Error) -> String {
    format!("{error}; name a file with --config")
}

fn text(bytes: Vec<u8>) -> Result<String, String> {
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        format!("is no UTF-8 text: see the byte at offset {at}")
    })
}
