//! Asking the kernel what it can do, by trying.
//!
//! No version is parsed: a distribution may have backported a feature, a filter may have taken it
//! away. A ring is set up with the flags that will be used, the kernel is asked for the operations,
//! and one read has to come back.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

use io_uring::{Probe, opcode, types};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, memfd_create};

use crate::backend::{Backend, Op, Outcome, Submission, TargetId};
use crate::uring::ring::{Ring, RingFeatures};
use crate::{Errno, KernelError, Mono, Uring, UringConfig};

/// How long the one read may take. It reads from memory; a kernel that needs longer is not usable.
const READ_LIMIT: Duration = Duration::from_secs(1);

/// Says which features io_uring would use here, or why it can't be used.
///
/// # Errors
/// The call that the kernel refused, with its errno and the likely cause.
pub fn probe_uring() -> Result<RingFeatures, KernelError> {
    Uring::open(UringConfig::default()).map(|uring| uring.features())
}

/// Whether the kernel has all operations that the ring backend uses.
pub(crate) fn check_opcodes(ring: &Ring) -> Result<(), KernelError> {
    let mut probe = Probe::new();
    ring.registrar()
        .register_probe(&mut probe)
        .map_err(KernelError::of("io_uring_register(IORING_REGISTER_PROBE)"))?;
    let needed = [
        ("IORING_OP_READ", opcode::Read::CODE),
        ("IORING_OP_READ_FIXED", opcode::ReadFixed::CODE),
        ("IORING_OP_LINK_TIMEOUT", opcode::LinkTimeout::CODE),
        ("IORING_OP_ASYNC_CANCEL", opcode::AsyncCancel::CODE),
        ("IORING_OP_POLL_ADD", opcode::PollAdd::CODE),
    ];
    match needed.iter().find(|(_, code)| !probe.is_supported(*code)) {
        None => Ok(()),
        Some((name, _)) => Err(KernelError::new(name, Errno::EOPNOTSUPP)
            .hint("this kernel's io_uring is too old (Linux 5.11 has all that is needed)")),
    }
}

/// Whether a file that is taken out of the ring's table is released then, though another file of the table
/// is in use, and whether the table gives a descriptor for one. Linux 6.13 and later do. Before, files were
/// released in the order in which the table was changed, and none before the requests had ended that
/// were in flight then (io_uring/rsrc.c, io_rsrc_node_ref_zero): a read that is stuck would keep all
/// devices that are given up after it from being free.
pub(crate) fn gives_files_back(ring: &mut Ring) -> io::Result<bool> {
    const IN_USE: u32 = 0;
    const GIVEN_UP: u32 = 1;
    let (in_use, end_of_use) = io::pipe()?;
    let (is_released, given_up) = io::pipe()?;
    let files = [in_use.as_raw_fd(), given_up.as_raw_fd()];
    ring.registrar().register_files_update(IN_USE, &files)?;
    drop((in_use, given_up));
    let file = types::Fixed(GIVEN_UP);
    let install = opcode::FixedFdInstall::new(file, 0).build().user_data(1);
    let poll_in_use = opcode::PollAdd::new(types::Fixed(IN_USE), libc::POLLIN as u32);
    // SAFETY: the entries name no memory.
    let queued = unsafe { ring.push(&[install, poll_in_use.build()]) };
    let installed = completion(ring, 1)?;
    let is_prompt = installed.is_some_and(|fd| fd >= 0) && {
        let fd = installed.unwrap_or_default();
        // SAFETY: the kernel made this descriptor for us just now, and nobody else knows it.
        drop(unsafe { OwnedFd::from_raw_fd(fd) });
        ring.registrar().register_files_update(GIVEN_UP, &[-1])?;
        let mut fds = [PollFd::new(&is_released, PollFlags::IN)];
        poll(&mut fds, Some(&Timespec::default()))?;
        fds[0].revents().contains(PollFlags::HUP)
    };
    // The one in use hears that its other end is closed.
    drop(end_of_use);
    let ended = completion(ring, 0)?;
    ring.registrar().register_files_update(IN_USE, &[-1, -1])?;
    Ok(queued && is_prompt && ended.is_some())
}

/// Submits what is queued, and waits for the next completion; its result, if it has this user data.
fn completion(ring: &mut Ring, user_data: u64) -> io::Result<Option<i32>> {
    let until = Some(Mono::now() + READ_LIMIT);
    ring.submit_and_wait(1, 0, until)
        .map_err(|errno| io::Error::from_raw_os_error(errno.raw()))?;
    let entry = ring.pop().filter(|entry| entry.user_data() == user_data);
    Ok(entry.map(|entry| entry.result()))
}

/// One read of each kind with a deadline, as checks make them, from a file in memory. `call` is
/// what carries the backend's reads.
pub(crate) fn self_test(backend: &mut impl Backend, call: &'static str) -> Result<(), KernelError> {
    let file = memfd_create("pathpulse-probe", MemfdFlags::CLOEXEC)
        .map_err(|errno| KernelError::new("memfd_create", errno.into()))?;
    rustix::fs::ftruncate(&file, 512)
        .map_err(|errno| KernelError::new("ftruncate", errno.into()))?;
    let target = backend.attach(file, Submission::Prompt);
    // Files in memory don't take nowait on every kernel; what counts is that the kernel says so.
    let plain = self_read(backend, target, false)?;
    let nowait = self_read(backend, target, true)?;
    backend.detach(target);
    match (plain, nowait) {
        (Outcome::Read(512), Outcome::Read(512) | Outcome::Failed(Errno::EOPNOTSUPP)) => Ok(()),
        (Outcome::Failed(errno), _) | (Outcome::Read(512), Outcome::Failed(errno)) => {
            Err(not_working(call, errno))
        }
        _ => Err(not_working(call, Errno::ETIME)),
    }
}

fn self_read(
    backend: &mut impl Backend,
    target: TargetId,
    nowait: bool,
) -> Result<Outcome, KernelError> {
    let deadline = Mono::now() + READ_LIMIT;
    let op = Op {
        target,
        offset: 0,
        len: 512,
        deadline,
        nowait,
        token: 0,
    };
    if backend.submit(op).is_err() {
        return Ok(Outcome::NotStarted);
    }
    let mut completions = Vec::new();
    while completions.is_empty() && Mono::now() < deadline + READ_LIMIT {
        backend.wait(Some(deadline + READ_LIMIT), &mut completions)?;
    }
    let end = completions.first().map(|completion| completion.outcome);
    Ok(end.unwrap_or(Outcome::NotStarted))
}

fn not_working(call: &'static str, errno: Errno) -> KernelError {
    KernelError::new(call, errno).hint("it could be set up, but a read through it does not work")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_probe_answers_with_features_or_a_reason() {
        match probe_uring() {
            Ok(features) => assert!(features.sq_entries >= 2),
            Err(error) => assert!(!error.hint.is_empty(), "{error}"),
        }
    }
}
