//! The baseline: a minimal loop over io_uring with linked timeouts. It has registered files and
//! buffers, the same ring flags as the engine, and reads one sector from every file at once. It has
//! no verdicts, no status and no slow paths: it waits until all reads have completed, and counts
//! the answers.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::time::Duration;

use io_uring::types::{Fixed, SubmitArgs, TimeoutFlags, Timespec};
use io_uring::{IoUring, opcode, squeue};
use rustix::time::ClockId;

use crate::clock::read_clock;
use crate::contender::{Contender, Job, PathCounts};
use crate::files::{block_size, open_direct};

const ENTRIES: u32 = 1024;

/// See the module documentation.
pub struct Baseline {
    // Dropped first: the ring must be closed before its buffers are freed.
    ring: IoUring,
    files: u32,
    blocks: Vec<usize>,
    buffers: Vec<Page>,
    timeout: Duration,
    deadline: Box<Timespec>,
    answered: u64,
    syscalls: u64,
}

/// The largest supported logical block.
const PAGE: usize = 4096;

#[derive(Clone)]
#[repr(align(4096))]
struct Page([u8; PAGE]);

pub(crate) fn open(job: &Job) -> Result<Box<dyn Contender>, String> {
    Ok(Box::new(Baseline::new(&job.paths, job.timeout)?))
}

impl Baseline {
    /// Opens the paths, on the thread that sweeps.
    ///
    /// # Errors
    /// What can't be opened, or why there is no ring.
    pub fn new(paths: &[PathBuf], timeout: Duration) -> Result<Baseline, String> {
        let failed = |error: io::Error| format!("io_uring: {error}");
        let mut builder = IoUring::builder();
        builder
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_cqsize(ENTRIES * 8);
        let ring = builder.build(ENTRIES).map_err(failed)?;
        let files = paths.iter().map(|path| open_direct(path));
        let files = files.collect::<Result<Vec<File>, _>>()?;
        let blocks: Vec<usize> = files.iter().map(block_size).collect();
        if blocks.iter().any(|block| *block > PAGE) {
            return Err(format!("blocks of more than {PAGE} bytes"));
        }
        let mut buffers = vec![Page([0; PAGE]); paths.len()];
        let all = libc::iovec {
            iov_base: buffers.as_mut_ptr().cast(),
            iov_len: size_of_val(&*buffers),
        };
        // SAFETY: the baseline owns the buffers, which never grow. Every sweep ends with all reads
        // completed, so the buffers outlive the kernel's writes.
        unsafe { ring.submitter().register_buffers(&[all]) }.map_err(failed)?;
        let descriptors: Vec<i32> = files.iter().map(AsRawFd::as_raw_fd).collect();
        ring.submitter()
            .register_files(&descriptors)
            .map_err(failed)?;
        Ok(Baseline {
            ring,
            files: paths.len() as u32,
            blocks,
            buffers,
            timeout,
            deadline: Box::new(Timespec::new()),
            answered: 0,
            syscalls: 0,
        })
    }

    /// Reads once from every file and waits for all reads. Returns how many answered.
    ///
    /// # Errors
    /// The ring no longer works.
    pub fn sweep(&mut self) -> io::Result<u64> {
        let now = read_clock(ClockId::Monotonic);
        *self.deadline = Timespec::from(now + self.timeout);
        for file in 0..self.files {
            let queue = self.ring.submission();
            let free_sqes = queue.capacity() - queue.len();
            drop(queue);
            if free_sqes < 2 {
                self.syscalls += 1;
                self.ring.submit()?;
            }
            let address = self.buffers[file as usize].0.as_mut_ptr();
            let length = self.blocks[file as usize] as u32;
            let read = opcode::ReadFixed::new(Fixed(file), address, length, 0)
                .rw_flags(libc::RWF_NOWAIT)
                .build()
                .flags(squeue::Flags::IO_LINK)
                .user_data(u64::from(length));
            let timeout = opcode::LinkTimeout::new(&raw const *self.deadline)
                .flags(TimeoutFlags::ABS)
                .build();
            // SAFETY: the baseline owns the buffers and the deadline. They outlive the sweep, which
            // ends when all completions have arrived.
            unsafe { self.ring.submission().push_multiple(&[read, timeout]) }
                .map_err(io::Error::other)?;
        }
        let (mut left, mut answered) = (self.files * 2, 0);
        while left > 0 {
            let want = left.min(128) as usize;
            self.syscalls += 1;
            self.ring
                .submitter()
                .submit_with_args(want, &SubmitArgs::new())?;
            for cqe in self.ring.completion() {
                left -= 1;
                // A timeout has user data 0 and never returns a length.
                answered += u64::from(cqe.result() > 0 && cqe.user_data() > 0);
            }
        }
        Ok(answered)
    }
}

impl Contender for Baseline {
    fn sweep(&mut self) {
        self.answered = Baseline::sweep(self).unwrap_or(0);
    }

    fn path_counts(&self) -> PathCounts {
        PathCounts {
            good: self.answered,
            bad: u64::from(self.files) - self.answered,
        }
    }

    /// It does not know which completion belongs to which read.
    fn latencies_us(&self) -> Vec<Option<u64>> {
        Vec::new()
    }

    fn syscalls(&self) -> Option<u64> {
        Some(self.syscalls)
    }
}
