//! The file, buffer and read of one checker.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::atomic::{
    AtomicI64, AtomicU64, Ordering::Acquire, Ordering::Relaxed, Ordering::Release,
};
use std::time::Instant;

use super::aio::{Context, Event};
use crate::files::{block_size, open_direct};

/// The results of a read in flight, and of a read that was never started.
const RUNNING: i64 = i64::MIN;
const NEVER: i64 = i64::MIN + 1;

/// A read and its result. It is shared with the kernel while the read is in flight, so it must live
/// until then.
pub(super) struct Request {
    file: File,
    buffer: *mut u8,
    layout: Layout,
    result: AtomicI64,
    started_ns: AtomicU64,
    took_ns: AtomicU64,
    timed: bool,
}

// SAFETY: only the kernel writes the buffer, and nothing reads it. All other fields are Send.
unsafe impl Send for Request {}
// SAFETY: as above, and the fields that change are atomic.
unsafe impl Sync for Request {}

impl Request {
    pub(super) fn open(path: &Path, timed: bool) -> Result<Request, String> {
        let file = open_direct(path)?;
        let block = block_size(&file);
        let layout = Layout::from_size_align(block, block)
            .map_err(|_| format!("{}: a block of {block} bytes", path.display()))?;
        // SAFETY: the layout is not empty, because no block is.
        let buffer = unsafe { alloc_zeroed(layout) };
        if buffer.is_null() {
            handle_alloc_error(layout);
        }
        Ok(Request {
            file,
            buffer,
            layout,
            result: AtomicI64::new(NEVER),
            started_ns: AtomicU64::new(0),
            took_ns: AtomicU64::new(0),
            timed,
        })
    }

    /// Starts a read, unless the last one is still in flight.
    pub(super) fn begin(&self, context: &Context, clock: &Clock) {
        if self.is_running() {
            return;
        }
        if self.timed {
            self.started_ns.store(clock.now(), Relaxed);
        }
        self.result.store(RUNNING, Relaxed);
        let user_data = (&raw const *self).expose_provenance() as u64;
        // SAFETY: this request owns the buffer and lives until the read has ended: its owner drops
        // the context first, which waits for that.
        let taken = unsafe {
            context.read(
                self.file.as_raw_fd(),
                self.buffer,
                self.layout.size(),
                user_data,
            )
        };
        if !taken {
            self.result.store(NEVER, Relaxed);
        }
    }

    /// Stores the result of a read.
    ///
    /// # Safety
    /// The event must belong to a read started by [`Request::begin`] whose request still exists.
    pub(super) unsafe fn complete(event: &Event, clock: &Clock) {
        let request = std::ptr::with_exposed_provenance::<Request>(event.data as usize);
        // SAFETY: the user data is the address of the request, which still exists as the caller
        // guarantees.
        let request = unsafe { &*request };
        if request.timed {
            let took = clock.now() - request.started_ns.load(Relaxed);
            request.took_ns.store(took, Relaxed);
        }
        request.result.store(event.result, Release);
    }

    pub(super) fn is_running(&self) -> bool {
        self.result.load(Acquire) == RUNNING
    }

    /// Whether the kernel refused the last read.
    pub(super) fn was_refused(&self) -> bool {
        self.result.load(Relaxed) == NEVER
    }

    /// Whether the last read returned a whole block.
    pub(super) fn is_good(&self) -> bool {
        self.result.load(Acquire) == self.layout.size() as i64
    }

    /// How long it took. `None` if it was not good, or not timed.
    pub(super) fn latency_us(&self) -> Option<u64> {
        (self.timed && self.is_good()).then(|| self.took_ns.load(Relaxed) / 1000)
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        // SAFETY: it was allocated with this layout, and no read is in flight: see `begin`.
        unsafe { dealloc(self.buffer, self.layout) };
    }
}

/// The time since the contender was opened.
pub(super) struct Clock(Instant);

impl Clock {
    pub(super) fn start() -> Clock {
        Clock(Instant::now())
    }

    pub(super) fn now(&self) -> u64 {
        self.0.elapsed().as_nanos() as u64
    }
}
