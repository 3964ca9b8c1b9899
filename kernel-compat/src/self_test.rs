//! Verifies with real reads that a backend works.

use std::time::Duration;

use rustix::fs::{MemfdFlags, memfd_create};

use crate::backend::{Backend, Op, Outcome, Submission, TargetId};
use crate::{Errno, KernelError, Mono};

/// How long a read may take. It reads from memory; a kernel that needs longer is not usable.
const READ_LIMIT: Duration = Duration::from_secs(1);

/// Makes the two kinds of reads that checks make, from a file in memory. `call` is the system call
/// or operation of the backend's reads, for the error.
pub(crate) fn self_test(backend: &mut impl Backend, call: &'static str) -> Result<(), KernelError> {
    let file = memfd_create("pathpulse-probe", MemfdFlags::CLOEXEC)
        .map_err(|errno| KernelError::new("memfd_create", errno.into()))?;
    rustix::fs::ftruncate(&file, 512)
        .map_err(|errno| KernelError::new("ftruncate", errno.into()))?;
    let target = backend.attach(file, Submission::Prompt);
    // Some kernels do not support nowait for files in memory. They have to report that.
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
    KernelError::new(call, errno).hint("the setup succeeded, but a read does not work")
}
