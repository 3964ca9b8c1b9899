//! Reading disks in a process that nobody waits for.
//!
//! A process with a read that its device does not answer can't always end, not even when it is
//! killed: never while libaio or a thread made the read, and not with io_uring where the file takes
//! no `RWF_NOWAIT`. Whoever waits for such a process, or for the end of its output, waits for the
//! device. So a command that has to return runs the program once more. That one reads, prints, and
//! says which exit status it means; this one passes on what was printed, and leaves.

use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{Errno, ioctl_fionbio};

use super::{FAILED, Failure, output};

/// Set for the process that reads; its stdin takes the exit status.
const MARK: &str = "PATHPULSE_APART";

/// Does the work in a process of its own, or in this one where there is none to be had.
pub(crate) fn run(work: impl FnOnce() -> Result<i32, Failure>) -> Result<i32, Failure> {
    if std::env::var_os(MARK).is_some() {
        let status = work().unwrap_or_else(|failure| failure.complain());
        let word = [u8::try_from(status).unwrap_or(FAILED as u8)];
        // If nobody listens any more, nobody wants to know.
        let _ = rustix::io::write(io::stdin(), &word);
        return Ok(status);
    }
    match start() {
        Ok((child, said)) => Ok(pass_on(child, said)),
        Err(_) => work(),
    }
}

fn start() -> io::Result<(Child, UnixStream)> {
    let (ours, theirs) = UnixStream::pair()?;
    let child = Command::new("/proc/self/exe")
        .args(std::env::args_os().skip(1))
        .env(MARK, "1")
        .stdin(OwnedFd::from(theirs))
        .stdout(outlet(&io::stdout()))
        .stderr(outlet(&io::stderr()))
        .spawn()?;
    Ok((child, ours))
}

/// A terminal has no end that anybody waits for, and wants colours; all else is passed on.
fn outlet(stream: &impl IsTerminal) -> Stdio {
    if stream.is_terminal() {
        Stdio::inherit()
    } else {
        Stdio::piped()
    }
}

/// Passes on what the child prints until it has said its exit status, or died; returns that.
fn pass_on(child: Child, mut said: UnixStream) -> i32 {
    let mut out = Pipe::new(child.stdout.map(OwnedFd::from), io::stdout(), true);
    let mut err = Pipe::new(child.stderr.map(OwnedFd::from), io::stderr(), false);
    loop {
        let ended = has_ended(&said, &[&out, &err]);
        // All was printed before the end was said.
        out.pass_on();
        err.pass_on();
        if ended {
            break;
        }
    }
    let mut status = [0];
    match said.read_exact(&mut status) {
        Ok(()) => i32::from(status[0]),
        Err(_) => {
            output::complain("the process that reads the disks died; please report that");
            FAILED
        }
    }
}

/// Waits until there is something to pass on or an end, and says whether it is an end.
fn has_ended(said: &UnixStream, pipes: &[&Pipe]) -> bool {
    let open = pipes.iter().filter_map(|pipe| pipe.from.as_ref());
    let mut fds: Vec<PollFd<'_>> = [said.as_fd()]
        .into_iter()
        .chain(open.map(AsFd::as_fd))
        .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN))
        .collect();
    match poll(&mut fds, None) {
        Ok(_) => !fds[0].revents().is_empty(),
        Err(error) => error != Errno::INTR,
    }
}

/// One of the child's streams, and where it goes to.
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

    /// Passes on what there is.
    fn pass_on(&mut self) {
        let mut buffer = [0; 4096];
        while let Some(from) = &self.from {
            match rustix::io::read(from, &mut buffer) {
                Ok(count @ 1..) => {
                    self.keep(|to| to.write_all(&buffer[..count]));
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Ok(_) | Err(_) => self.from = None,
            }
        }
        self.keep(|to| to.flush());
    }

    /// Of a problem of stdout the command is to tell.
    fn keep(&mut self, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) {
        let written = write(&mut *self.to);
        if self.is_stdout {
            output::note(&written);
        }
    }
}
