//! Finds out by trying what the kernel's io_uring supports.
//!
//! It never looks at a version: a distribution may have backported a feature, and a filter may have
//! removed one. The ring is set up with the flags that will be used, and the kernel reports the
//! operations that it supports.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

use io_uring::{Probe, opcode, types};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::uring::ring::Ring;
use crate::{Errno, KernelError, Mono};

/// The time limit for a completion. A kernel that needs longer is not usable.
const COMPLETION_LIMIT: Duration = Duration::from_secs(1);

/// Checks that the kernel supports all operations that the io_uring backend uses.
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
            .hint("this kernel's io_uring is too old (Linux 5.11 is new enough)")),
    }
}

/// Whether the kernel releases a file at once when it is removed from the ring's table, although
/// another file of the table is in use, and whether it can install a descriptor for a registered
/// file. Linux 6.13 and later do both. Earlier kernels released files in the order of the table
/// updates, and only after the requests in flight at that time had ended (io_uring/rsrc.c,
/// io_rsrc_node_ref_zero). There, one stuck read would keep all devices that are given up later in
/// use.
pub(crate) fn releases_files_promptly(ring: &mut Ring) -> io::Result<bool> {
    const IN_USE: u32 = 0;
    const RELEASED: u32 = 1;
    let (in_use, end_of_use) = io::pipe()?;
    let (release_event, released) = io::pipe()?;
    let files = [in_use.as_raw_fd(), released.as_raw_fd()];
    ring.registrar().register_files_update(IN_USE, &files)?;
    drop((in_use, released));
    let file = types::Fixed(RELEASED);
    let install = opcode::FixedFdInstall::new(file, 0).build().user_data(1);
    let poll_in_use = opcode::PollAdd::new(types::Fixed(IN_USE), libc::POLLIN as u32);
    // SAFETY: the SQEs name no memory.
    let queued = unsafe { ring.push(&[install, poll_in_use.build()]) };
    let installed = completion(ring, 1)?;
    let is_prompt = installed.is_some_and(|fd| fd >= 0) && {
        let fd = installed.unwrap_or_default();
        // SAFETY: the kernel has just made this descriptor for us, and nobody else uses it.
        drop(unsafe { OwnedFd::from_raw_fd(fd) });
        ring.registrar().register_files_update(RELEASED, &[-1])?;
        let mut fds = [PollFd::new(&release_event, PollFlags::IN)];
        poll(&mut fds, Some(&Timespec::default()))?;
        fds[0].revents().contains(PollFlags::HUP)
    };
    // This ends the poll of the file in use.
    drop(end_of_use);
    let ended = completion(ring, 0)?;
    ring.registrar().register_files_update(IN_USE, &[-1, -1])?;
    Ok(queued && is_prompt && ended.is_some())
}

/// Submits queued SQEs and waits for the next completion. Returns its result if it has this user
/// data.
fn completion(ring: &mut Ring, user_data: u64) -> io::Result<Option<i32>> {
    let until = Some(Mono::now() + COMPLETION_LIMIT);
    ring.submit_and_wait(1, 0, until)
        .map_err(|errno| io::Error::from_raw_os_error(errno.raw()))?;
    let cqe = ring.pop().filter(|cqe| cqe.user_data() == user_data);
    Ok(cqe.map(|cqe| cqe.result()))
}
