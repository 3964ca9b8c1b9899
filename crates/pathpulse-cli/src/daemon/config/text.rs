//! Reading the text of a configuration file.
//!
//! The file may be on a disk that hangs, and a process that reads there can't end, not even by
//! SIGKILL. So the daemon reads the file from the page cache if all of it is there, which is usual
//! after a change. Otherwise another process reads the file, and the daemon waits only for its
//! answer.

use std::fs::File;
use std::io::{self, IoSliceMut, Read};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, openat2};
use rustix::io::{ReadWriteFlags, preadv2};

/// The size limit of a file.
const BYTES_MAX: u64 = 4 << 20;

/// Reads a file.
///
/// # Errors
/// Why it can't be read, or that it is too long or not UTF-8.
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

/// Reads a file without waiting for a disk. `None` if a part of it is not in memory, or the kernel
/// or the file system does not support that.
fn read_cached(path: &Path) -> Option<Result<String, String>> {
    let open = |flags| openat2(CWD, path, flags, Mode::empty(), ResolveFlags::CACHED).ok();
    // Only opening a regular file is known to need no disk.
    let kind = fstat(open(OFlags::PATH | OFlags::CLOEXEC)?).ok()?.st_mode;
    if FileType::from_raw_mode(kind) != FileType::RegularFile {
        return None;
    }
    // Without `NOATIME`, the time of the access would have to be written to the disk.
    let file = open(OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOATIME)?;
    let mut bytes = Vec::new();
    let mut piece = [0; 16 << 10];
    loop {
        let into = &mut [IoSliceMut::new(&mut piece)];
        let at = bytes.len() as u64;
        match preadv2(&file, into, at, ReadWriteFlags::NOWAIT).ok()? {
            0 => return Some(text(bytes)),
            read => bytes.extend_from_slice(&piece[..read]),
        }
        if bytes.len() as u64 > BYTES_MAX {
            return None;
        }
    }
}

/// Reads a file in another process, if it is not in memory. The process writes the result of
/// [`read`] to stdout, and its exit status says whether that is the text or the error. If no
/// process can be started, this one reads.
pub(super) fn read_in_subprocess(path: &Path) -> Result<String, String> {
    if let Some(read) = read_cached(path) {
        return read;
    }
    let child = Command::new("/proc/self/exe")
        .arg("read-config")
        .arg(path)
        .env_clear()
        // Signals of a terminal or a service manager are for the daemon only.
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
        format!("is not UTF-8 text: invalid byte at offset {at}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn what_was_just_written_needs_no_other_process() {
        let mut file = tempfile::NamedTempFile::new_in(".").expect("a file");
        let text = "paths = []\n".repeat(5_000);
        file.write_all(text.as_bytes()).expect("written");
        assert_eq!(read_cached(file.path()), Some(Ok(text)));
        file.write_all(b"\xff").expect("written");
        assert!(read_cached(file.path()).is_some_and(|read| read.is_err()));
    }

    #[test]
    fn what_is_missing_or_no_file_is_for_another_process() {
        assert_eq!(read_cached(Path::new("/nowhere")), None);
        assert_eq!(read_cached(Path::new("/dev/null")), None);
        assert_eq!(read_cached(Path::new("/dev")), None);
    }
}
