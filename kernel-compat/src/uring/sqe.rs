//! The SQEs of a ring, and the user data that identifies their completions.

use std::os::fd::RawFd;

use io_uring::types::{TimeoutFlags, Timespec};
use io_uring::{opcode, squeue, types};

use crate::Mono;
use crate::backend::Op;
use crate::table::Key;

/// The kind of a completion: the upper two bits of its user data. No key is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub(crate) enum CompletionKind {
    /// A read.
    Read,
    /// The linked timeout of a read.
    Timeout,
    /// The cancellation of a read.
    Cancel,
    /// The waker. It belongs to no flight.
    Wake,
    /// The installation of a descriptor for a registered file. Its key is the target's. It has the
    /// bits of the waker, which has no key.
    Install,
}

impl CompletionKind {
    const SHIFT: u32 = 62;

    /// The user data of this kind, without a key.
    pub(crate) fn bits(self) -> u64 {
        let bits = match self {
            CompletionKind::Install => CompletionKind::Wake,
            other => other,
        };
        (bits as u64) << Self::SHIFT
    }

    /// The user data of this kind with this key.
    pub(crate) fn of(self, key: Key) -> u64 {
        self.bits() | key.to_bits()
    }

    /// Splits user data into kind and key.
    pub(crate) fn split(user_data: u64) -> (CompletionKind, Key) {
        let kind = match user_data >> Self::SHIFT {
            0 => CompletionKind::Read,
            1 => CompletionKind::Timeout,
            2 => CompletionKind::Cancel,
            _ if user_data == CompletionKind::Wake.bits() => CompletionKind::Wake,
            _ => CompletionKind::Install,
        };
        (kind, Key::from_bits(user_data))
    }
}

/// The memory that a read writes into.
#[derive(Clone, Copy)]
pub(crate) struct ReadMemory {
    pub(crate) address: *mut u8,
    /// The index of the registered buffer.
    pub(crate) registered: Option<u16>,
}

/// The file that a read reads from.
#[derive(Clone, Copy)]
pub(crate) enum ReadFile {
    /// An index in the ring's file table.
    Registered(u32),
    /// A descriptor.
    Descriptor(RawFd),
}

/// The SQE of a read, without its user data.
pub(crate) fn read(file: ReadFile, op: &Op, memory: ReadMemory) -> squeue::Entry {
    // preadv2(2): fail with EAGAIN instead of waiting.
    let flags = if op.nowait { libc::RWF_NOWAIT } else { 0 };
    let address = memory.address;
    macro_rules! read {
        ($file:expr) => {
            match memory.registered {
                Some(index) => opcode::ReadFixed::new($file, address, op.len, index)
                    .offset(op.offset)
                    .rw_flags(flags)
                    .build(),
                None => opcode::Read::new($file, address, op.len)
                    .offset(op.offset)
                    .rw_flags(flags)
                    .build(),
            }
        };
    }
    match file {
        ReadFile::Registered(index) => read!(types::Fixed(index)),
        ReadFile::Descriptor(fd) => read!(types::Fd(fd)),
    }
}

/// Deadlines in memory that the kernel reads when it takes an SQE. There is one slot per SQE of the
/// submission queue, and the kernel takes all queued SQEs before a slot is reused. Consecutive
/// reads with the same deadline share one slot.
pub(crate) struct Timespecs {
    slots: Box<[Timespec]>,
    current: usize,
    deadline: Mono,
}

impl Timespecs {
    /// For a queue of this many SQEs.
    pub(crate) fn new(entries: u32) -> Timespecs {
        Timespecs {
            slots: vec![Timespec::new(); entries as usize].into_boxed_slice(),
            current: 0,
            deadline: Mono::ZERO,
        }
    }

    /// The SQE of a linked timeout, without its user data.
    pub(crate) fn timeout_sqe(&mut self, deadline: Mono) -> squeue::Entry {
        if deadline != self.deadline {
            let nanos = deadline.as_nanos();
            self.deadline = deadline;
            self.current = (self.current + 1) % self.slots.len();
            self.slots[self.current] = Timespec::new()
                .sec(nanos / 1_000_000_000)
                .nsec((nanos % 1_000_000_000) as u32);
        }
        opcode::LinkTimeout::new(&raw const self.slots[self.current])
            .flags(TimeoutFlags::ABS)
            .build()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_data_round_trips() {
        let key = Key::from_bits((1 << 62) - 1);
        for kind in [
            CompletionKind::Read,
            CompletionKind::Timeout,
            CompletionKind::Cancel,
            CompletionKind::Install,
        ] {
            assert_eq!(CompletionKind::split(kind.of(key)), (kind, key));
        }
        assert_eq!(
            CompletionKind::split(CompletionKind::Wake.bits()).0,
            CompletionKind::Wake
        );
    }
}
