//! Asking the kernel what it can do, by trying.
//!
//! No version is parsed: a distribution may have backported a feature, a filter may have taken it
//! away. A ring is set up with the flags that will be used, the kernel is asked for the operations,
//! and one read has to come back.

use std::time::Duration;

use io_uring::{Probe, opcode};
use rustix::fs::{MemfdFlags, memfd_create};

use crate::backend::{Backend, Op, Outcome};
use crate::ring::{Ring, RingFeatures};
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

/// One read with a deadline, as every check makes it, from a file in memory.
pub(crate) fn self_test(uring: &mut Uring) -> Result<(), KernelError> {
    let failed = |errno| {
        KernelError::new("IORING_OP_READ", errno)
            .hint("a ring could be set up, but a read through it does not work")
    };
    let file = memfd_create("pathpulse-probe", MemfdFlags::CLOEXEC)
        .map_err(|errno| KernelError::new("memfd_create", errno.into()))?;
    rustix::fs::ftruncate(&file, 512).map_err(|errno| failed(errno.into()))?;
    let target = uring.attach(file)?;
    let deadline = Mono::now() + READ_LIMIT;
    let op = Op {
        target,
        offset: 0,
        len: 512,
        deadline,
        nowait: false,
        token: 0,
    };
    uring.submit(op).map_err(|_| failed(Errno::EAGAIN))?;
    let mut completions = Vec::new();
    while completions.is_empty() && Mono::now() < deadline {
        uring.wait(Some(deadline), &mut completions)?;
    }
    uring.detach(target);
    match completions.first().map(|completion| completion.outcome) {
        Some(Outcome::Read(512)) => Ok(()),
        Some(Outcome::Failed(errno)) => Err(failed(errno)),
        _ => Err(failed(Errno::ETIME)),
    }
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
