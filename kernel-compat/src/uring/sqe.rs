//! The entries of a ring's submission queue, and what their completions are known by.

use std::os::fd::RawFd;

use io_uring::types::{TimeoutFlags, Timespec};
use io_uring::{opcode, squeue, types};

use crate::Mono;
use crate::backend::Op;
use crate::table::Key;

/// What a completion is about: the upper two bits of its user data. No key is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub(crate) enum Kind {
    /// A read.
    Read,
    /// The deadline that a read is linked to.
    Timer,
    /// The cancellation of a read.
    Cancel,
    /// The waker; of no flight.
    Wake,
    /// A descriptor for a file of the ring's table; its key is the target's. Has the bits of the waker,
    /// which has no key.
    Install,
}

impl Kind {
    const SHIFT: u32 = 62;

    /// The user data of this, without a flight.
    pub(crate) fn bits(self) -> u64 {
        let bits = match self {
            Kind::Install => Kind::Wake,
            other => other,
        };
        (bits as u64) << Self::SHIFT
    }

    /// The user data of this, of the flight with this key.
    pub(crate) fn of(self, key: Key) -> u64 {
        self.bits() | key.to_bits()
    }

    /// The way back.
    pub(crate) fn split(user_data: u64) -> (Kind, Key) {
        let kind = match user_data >> Self::SHIFT {
            0 => Kind::Read,
            1 => Kind::Timer,
            2 => Kind::Cancel,
            _ if user_data == Kind::Wake.bits() => Kind::Wake,
            _ => Kind::Install,
        };
        (kind, Key::from_bits(user_data))
    }
}

/// Where a read goes.
#[derive(Clone, Copy)]
pub(crate) struct ReadMemory {
    pub(crate) address: *mut u8,
    /// The number that the memory is registered by.
    pub(crate) registered: Option<u16>,
}

/// What a read reads.
#[derive(Clone, Copy)]
pub(crate) enum File {
    /// A place in the ring's file table.
    Place(u32),
    /// A descriptor.
    Descriptor(RawFd),
}

/// The entry of a read, without its user data.
pub(crate) fn read(file: File, op: &Op, memory: ReadMemory) -> squeue::Entry {
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
        File::Place(place) => read!(types::Fixed(place)),
        File::Descriptor(fd) => read!(types::Fd(fd)),
    }
}

/// Deadlines as the kernel reads them when it takes an entry. There is one per entry of the
/// submission queue, and all entries queued are taken before this goes round. Reads that begin
/// together share one.
pub(crate) struct Timespecs {
    slots: Box<[Timespec]>,
    current: usize,
    deadline: Mono,
}

impl Timespecs {
    /// For a queue of so many entries.
    pub(crate) fn new(entries: u32) -> Timespecs {
        Timespecs {
            slots: vec![Timespec::new(); entries as usize].into_boxed_slice(),
            current: 0,
            deadline: Mono::ZERO,
        }
    }

    /// The entry of a linked timeout, without its user data.
    pub(crate) fn entry(&mut self, deadline: Mono) -> squeue::Entry {
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
    fn user_data_leads_back_to_kind_and_key() {
        let key = Key::from_bits((1 << 62) - 1);
        for kind in [Kind::Read, Kind::Timer, Kind::Cancel, Kind::Install] {
            assert_eq!(Kind::split(kind.of(key)), (kind, key));
        }
        assert_eq!(Kind::split(Kind::Wake.bits()).0, Kind::Wake);
    }
}
