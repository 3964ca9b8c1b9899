//! Tests the kernel behaviour that `linked_timeout.rs` relies on, directly with io_uring: the
//! result of a linked timeout, depending on where the read is at its deadline. The table there is
//! the one tested here.

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::time::Duration;

use io_uring::types::{Fd, Timespec};
use io_uring::{IoUring, opcode, squeue};
use libtest_mimic::Trial;
use pathpulse_faultdisk::{Behaviour, Load, Release};
use pathpulse_kernel_compat::{Backend, Uring, UringConfig};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, apply_filter,
};

use crate::disks::{DiskKind, RealDisks, TestDisks, open};
use crate::fixture::{BLOCK, TIMEOUT};

pub(crate) fn trials() -> Vec<Trial> {
    let facts: [(&str, fn()); 6] = [
        ("in_time", in_time),
        ("with_a_broken_link", with_a_broken_link),
        ("at_the_device", at_the_device),
        ("in_a_kernel_thread", in_a_kernel_thread),
        ("waiting_for_a_kernel_thread", waiting_for_a_kernel_thread),
        (
            "an_unknown_registration_is_tried_once",
            an_unknown_registration_is_tried_once,
        ),
    ];
    let trial = |(name, fact): (&str, fn())| {
        crate::on_a_new_thread(format!("uring_facts::{name}"), missing, fact)
    };
    facts.map(trial).into()
}

fn missing() -> Option<String> {
    let no_ring = || IoUring::new(8).err().map(|error| error.to_string());
    pathpulse_faultdisk::available().err().or_else(no_ring)
}

// The user data of a cancellation.
const CANCEL_USER_DATA: u64 = 1000;

/// A ring and the memory of its reads, dropped in the order of the fields. Each test waits for the
/// completions of all its reads before the ring is closed.
struct Reads {
    ring: IoUring,
    memory: Vec<Box<Memory>>,
}

/// The memory that the kernel reads and writes for one read.
#[repr(align(4096))]
struct Memory {
    buffer: [u8; BLOCK as usize],
    deadline: Timespec,
}

const SOON: Duration = Duration::from_millis(100);

impl Reads {
    fn new() -> Reads {
        Reads {
            ring: IoUring::new(64).expect("a ring"),
            memory: Vec::new(),
        }
    }

    /// Queues a read with a deadline. Its user data is `2 * n`, that of its timeout `2 * n + 1`.
    fn push(&mut self, file: &File, deadline: Duration) -> u64 {
        let number = 2 * self.memory.len() as u64;
        self.memory.push(Box::new(Memory {
            buffer: [0; BLOCK as usize],
            deadline: deadline.into(),
        }));
        let memory = self.memory.last_mut().expect("it was pushed");
        let link = [
            opcode::Read::new(Fd(file.as_raw_fd()), memory.buffer.as_mut_ptr(), BLOCK)
                .build()
                .flags(squeue::Flags::IO_LINK)
                .user_data(number),
            opcode::LinkTimeout::new(&raw const memory.deadline)
                .build()
                .user_data(number + 1),
        ];
        // SAFETY: this value owns the memory, which is on the heap and never moves. It is freed
        // with this value, after the completions of all reads.
        unsafe { self.ring.submission().push_multiple(&link) }.expect("space in the queue");
        number
    }

    /// The result of an ASYNC_CANCEL of a read.
    fn cancel_result(&mut self, read: u64) -> i32 {
        let cancel = opcode::AsyncCancel::new(read)
            .build()
            .user_data(CANCEL_USER_DATA);
        // SAFETY: the SQE names no memory.
        unsafe { self.ring.submission().push(&cancel) }.expect("space in the queue");
        self.results(1)[&CANCEL_USER_DATA]
    }

    /// Submits, waits for this many completions and returns their results by user data.
    fn results(&mut self, count: usize) -> HashMap<u64, i32> {
        let limit = Timespec::from(TIMEOUT);
        let args = io_uring::types::SubmitArgs::new().timespec(&limit);
        let submitter = self.ring.submitter();
        submitter
            .submit_with_args(count, &args)
            .expect("enough completions");
        let completions = self.ring.completion();
        completions
            .map(|cqe| (cqe.user_data(), cqe.result()))
            .collect()
    }
}

fn in_time() {
    let disks = RealDisks::start(&[DiskKind::Loop]);
    let file = open(&disks.path(0)).expect("open");
    let mut reads = Reads::new();
    let read = reads.push(&file, TIMEOUT);
    let expected = [(read, BLOCK.cast_signed()), (read + 1, -libc::ECANCELED)];
    assert_eq!(reads.results(2), HashMap::from(expected));
}

/// The kernel takes only the read, as it may when it is short of memory, and the timeout later.
fn with_a_broken_link() {
    let disks = RealDisks::start(&[DiskKind::Loop]);
    let file = open(&disks.path(0)).expect("open");
    let mut reads = Reads::new();
    let read = reads.push(&file, TIMEOUT);
    // SAFETY: the memory of the SQEs is owned as described in `push`. The call has no argument of
    // its own.
    let taken = unsafe { reads.ring.submitter().enter::<()>(1, 0, 0, None) };
    assert_eq!(taken.expect("the read is submitted"), 1);
    let expected = [(read, BLOCK.cast_signed()), (read + 1, -libc::EINVAL)];
    assert_eq!(reads.results(2), HashMap::from(expected));
}

fn at_the_device() {
    let disks = RealDisks::start(&[DiskKind::Loop]);
    disks.set(0, Behaviour::Hang);
    let file = open(&disks.path(0)).expect("open");
    let mut reads = Reads::new();
    let read = reads.push(&file, SOON);
    assert_eq!(reads.results(1), HashMap::from([(read + 1, -libc::ENOENT)]));
    assert_eq!(reads.cancel_result(read), -libc::ENOENT);
    disks.release(0, Release::Data);
    assert_eq!(
        reads.results(1),
        HashMap::from([(read, BLOCK.cast_signed())])
    );
}

fn in_a_kernel_thread() {
    let disks = RealDisks::start(&[DiskKind::Loop]);
    disks.saturate(0, Load::Dead);
    let file = open(&disks.path(0)).expect("open");
    let mut reads = Reads::new();
    let read = reads.push(&file, SOON);
    let timeout = reads.results(1)[&(read + 1)];
    assert!(
        [-libc::ENOENT, -libc::EALREADY].contains(&timeout),
        "{timeout}"
    );
    assert_eq!(reads.cancel_result(read), -libc::EALREADY);
    disks.unsaturate(0);
    assert_eq!(
        reads.results(1),
        HashMap::from([(read, BLOCK.cast_signed())])
    );
}

fn waiting_for_a_kernel_thread() {
    let disks = RealDisks::start(&[DiskKind::Loop]);
    disks.saturate(0, Load::Dead);
    let file = open(&disks.path(0)).expect("open");
    let mut reads = Reads::new();
    let bounded_and_not = &mut [1, 1];
    let submitter = reads.ring.submitter();
    submitter
        .register_iowq_max_workers(bounded_and_not)
        .expect("one worker");
    let running = reads.push(&file, TIMEOUT);
    let waiting = reads.push(&file, SOON);
    let expected = [(waiting, -libc::ECANCELED), (waiting + 1, -libc::ETIME)];
    assert_eq!(reads.results(2), HashMap::from(expected));
    disks.unsaturate(0);
    let expected = [
        (running, BLOCK.cast_signed()),
        (running + 1, -libc::ECANCELED),
    ];
    assert_eq!(reads.results(2), HashMap::from(expected));
}

/// Linux 5.11 to 5.14 does not know IORING_REGISTER_IOWQ_MAX_WORKERS, and waits until the ring is
/// idle before it reports that. So the backend tries it when the ring is set up, and never again.
/// The second filter kills the thread that tries it.
fn an_unknown_registration_is_tried_once() {
    const MAX_WORKERS: u64 = 19;
    let answer_with = |action| {
        let opcode =
            SeccompCondition::new(1, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, MAX_WORKERS);
        let rule = SeccompRule::new(vec![opcode.expect("a condition")]).expect("a rule");
        let rules = [(libc::SYS_io_uring_register, vec![rule])].into();
        let arch = std::env::consts::ARCH.try_into().expect("a known machine");
        let filter = SeccompFilter::new(rules, SeccompAction::Allow, action, arch);
        let program: BpfProgram = filter.expect("a filter").try_into().expect("a program");
        apply_filter(&program).expect("the filter is in force");
    };
    answer_with(SeccompAction::Errno(libc::EINVAL.cast_unsigned()));
    let mut uring = Uring::open(UringConfig::default()).expect("the ring opens anyway");
    assert!(!uring.features().bounded_workers);
    answer_with(SeccompAction::KillThread);
    uring.expect_blocking(100);
}
