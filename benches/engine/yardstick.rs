//! The yardstick: the least that a loop over io_uring with linked timeouts can do. Registered files
//! and buffers, the same ring flags as the engine, one read of a sector from every file at once; no
//! verdicts, no status, no path that could be slow: it waits until all have answered.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use io_uring::types::{Fixed, SubmitArgs, TimeoutFlags, Timespec};
use io_uring::{IoUring, opcode, squeue};

const SECTOR: usize = 512;
const ENTRIES: u32 = 1024;

/// See the module.
pub(crate) struct Yardstick {
    ring: IoUring,
    files: u32,
    buffers: Vec<Sector>,
    deadline: Box<Timespec>,
}

#[derive(Clone)]
#[repr(align(512))]
struct Sector([u8; SECTOR]);

impl Yardstick {
    /// Opens the paths.
    pub(crate) fn new(paths: &[PathBuf]) -> io::Result<Yardstick> {
        let mut builder = IoUring::builder();
        builder
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_cqsize(ENTRIES * 8);
        let ring = builder.build(ENTRIES)?;
        let mut buffers = vec![Sector([0; SECTOR]); paths.len()];
        let all = libc_iovec(&mut buffers);
        // SAFETY: the buffers are owned by the yardstick and never grow; every sweep ends with all
        // reads completed, so they outlive what the kernel writes.
        unsafe { ring.submitter().register_buffers(&[all]) }?;
        let direct = rustix::fs::OFlags::DIRECT.bits().cast_signed();
        let files = paths
            .iter()
            .map(|path| {
                OpenOptions::new()
                    .read(true)
                    .custom_flags(direct)
                    .open(path)
            })
            .collect::<io::Result<Vec<_>>>()?;
        let descriptors: Vec<i32> = files.iter().map(AsRawFd::as_raw_fd).collect();
        ring.submitter().register_files(&descriptors)?;
        Ok(Yardstick {
            ring,
            files: paths.len() as u32,
            buffers,
            deadline: Box::new(Timespec::new()),
        })
    }

    /// Reads once from every file and waits for all.
    pub(crate) fn sweep(&mut self) -> io::Result<()> {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        *self.deadline = Timespec::new()
            .sec(now.tv_sec.cast_unsigned() + 2)
            .nsec(now.tv_nsec as u32);
        for file in 0..self.files {
            let queue = self.ring.submission();
            let room = queue.capacity() - queue.len();
            drop(queue);
            if room < 2 {
                self.ring.submit()?;
            }
            let address = self.buffers[file as usize].0.as_mut_ptr();
            let read = opcode::ReadFixed::new(Fixed(file), address, SECTOR as u32, 0)
                .rw_flags(libc::RWF_NOWAIT)
                .build()
                .flags(squeue::Flags::IO_LINK);
            let timeout = opcode::LinkTimeout::new(&raw const *self.deadline)
                .flags(TimeoutFlags::ABS)
                .build();
            // SAFETY: buffers and deadline are owned by the yardstick and outlive the sweep, which
            // ends when all completions have come.
            unsafe { self.ring.submission().push_multiple(&[read, timeout]) }
                .map_err(io::Error::other)?;
        }
        let mut left = self.files * 2;
        while left > 0 {
            let want = left.min(128) as usize;
            let args = SubmitArgs::new();
            self.ring.submitter().submit_with_args(want, &args)?;
            let failed = self
                .ring
                .completion()
                .inspect(|_| left -= 1)
                .find(|cqe| cqe.result() < 0 && cqe.result() != -libc::ECANCELED);
            if let Some(cqe) = failed {
                return Err(io::Error::from_raw_os_error(-cqe.result()));
            }
        }
        Ok(())
    }
}

fn libc_iovec(buffers: &mut [Sector]) -> libc::iovec {
    libc::iovec {
        iov_base: buffers.as_mut_ptr().cast(),
        iov_len: size_of_val(buffers),
    }
}
