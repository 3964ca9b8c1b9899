//! Runs the work of a command that reads disks in a subprocess, and does not wait for its end.
//!
//! A process with a pending read cannot always end, not even by SIGKILL, until the device answers:
//! never if libaio or a thread made the read, nor with io_uring if the file does not support
//! `RWF_NOWAIT`. A caller that waits for the process, or for the end of its output, waits for the
//! device. So a command that must return in time runs this program a second time. The subprocess
//! reads the disks, prints, and sends its exit status; this process forwards the output and exits.

use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{Errno, ioctl_fionbio};

use super::{FAILED, Failure, output};

/// Set in the subprocess, which writes its exit status to its stdin: a socket of the parent.
const MARK: &str = "PATHPULSE_SUBPROCESS";

/// Does the work in a subprocess, or in this process if no subprocess can be started.
pub(crate) fn run(work: impl FnOnce() -> Result<i32, Failure>) -> Result<i32, Failure> {
    if std::env::var_os(MARK).is_some() {
        let status = work().unwrap_or_else(|failure| failure.report());
        let byte = [u8::try_from(status).unwrap_or(FAILED as u8)];
        // The parent may be gone, and then nobody needs the status.
        let _ = rustix::io::write(io::stdin(), &byte);
        return Ok(status);
    }
    match start() {
        Ok((child, status)) => Ok(forward(child, status)),
        Err(_) => work(),
    }
}

fn start() -> io::Result<(Child, UnixStream)> {
    let (ours, theirs) = UnixStream::pair()?;
    let child = Command::new("/proc/self/exe")
        .args(std::env::args_os().skip(1))
        .env(MARK, "1")
        .stdin(OwnedFd::from(theirs))
        .stdout(output_of(&io::stdout()))
        .stderr(output_of(&io::stderr()))
        .spawn()?;
    Ok((child, ours))
}

/// The subprocess writes to a terminal itself, with colours, because nobody waits for the end of a
/// terminal. Other output is forwarded.
fn output_of(stream: &impl IsTerminal) -> Stdio {
    if stream.is_terminal() {
        Stdio::inherit()
    } else {
        Stdio::piped()
    }
}

/// Forwards the output of the child until it has sent its exit status, or died.
fn forward(child: Child, mut status: UnixStream) -> i32 {
    let mut out = Pipe::new(child.stdout.map(OwnedFd::from), io::stdout(), true);
    let mut err = Pipe::new(child.stderr.map(OwnedFd::from), io::stderr(), false);
    loop {
        let ended = wait(&status, &[&out, &err]);
        // The child prints everything before it sends its status.
        out.forward();
        err.forward();
        if ended {
            break;
        }
    }
    let mut byte = [0];
    match status.read_exact(&mut byte) {
        Ok(()) => i32::from(byte[0]),
        Err(_) => {
            output::print_error("the process that reads the disks died; please report this bug");
            FAILED
        }
    }
}

/// Waits for output, for the status or for the child's death; `true` if it is not just output.
fn wait(status: &UnixStream, pipes: &[&Pipe]) -> bool {
    let open = pipes.iter().filter_map(|pipe| pipe.from.as_ref());
    let mut fds: Vec<PollFd<'_>> = [status.as_fd()]
        .into_iter()
        .chain(open.map(AsFd::as_fd))
        .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN))
        .collect();
    match poll(&mut fds, None) {
        Ok(_) => !fds[0].revents().is_empty(),
        Err(error) => error != Errno::INTR,
    }
}

/// One of the child's streams, and its destination.
struct Pipe {
    from: Option<OwnedFd>,
    to: Box<dyn Write>,
    is_stdout: bool,
}

impl Pipe {
    fn new(from: Option<OwnedFd>, to: impl Write + 'static, is_stdout: bool) -> Pipe {
        Pipe {
            from: from.filter(|from| ioctl_fionbio(from, true).is_ok()),
            to: Box::new(to),
            is_stdout,
        }
    }

    /// Forwards what can be read now.
    fn forward(&mut self) {
        let mut buffer = [0; 4096];
        while let Some(from) = &self.from {
            match rustix::io::read(from, &mut buffer) {
                Ok(count @ 1..) => {
                    self.write(|to| to.write_all(&buffer[..count]));
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Ok(_) | Err(_) => self.from = None,
            }
        }
        self.write(|to| to.flush());
    }

    /// A failure to write to stdout counts as a failure of the command.
    fn write(&mut self, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) {
        let written = write(&mut *self.to);
        if self.is_stdout {
            output::record_write(&written);
        }
    }
}
