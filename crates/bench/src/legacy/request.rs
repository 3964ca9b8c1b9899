//! One checker's file, its buffer, and its read.

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

/// The result of a read that goes on, and of one that there never was.
const RUNNING: i64 = i64::MIN;
const NEVER: i64 = i64::MIN + 1;

/// What is read, and how that went. Shared with the kernel while the read goes on, so it has to be
/// kept until then.
pub(super) struct Request {
    file: File,
    buffer: *mut u8,
    layout: Layout,
    result: AtomicI64,
    started_ns: AtomicU64,
    took_ns: AtomicU64,
    timed: bool,
}

// SAFETY: the buffer is written by the kernel alone and read by nobody; all else is Send.
unsafe impl Send for Request {}
// SAFETY: as above, and what changes is atomic.
unsafe impl Sync for Request {}

impl Request {
    pub(super) fn open(path: &Path, timed: bool) -> Result<Request, String> {
        let file = open_direct(path)?;
        let block = block_size(&file);
        let layout = Layout::from_size_align(block, block)
            .map_err(|_| format!("{}: a block of {block} bytes", path.display()))?;
        // SAFETY: the layout is not empty: no block is.
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

    /// Begins a read, unless the last one goes on.
    pub(super) fn begin(&self, context: &Context, clock: &Clock) {
        if self.is_running() {
            return;
        }
        if self.timed {
            self.started_ns.store(clock.now(), Relaxed);
        }
        self.result.store(RUNNING, Relaxed);
        let mark = (&raw const *self).expose_provenance() as u64;
        // SAFETY: the buffer is this request's, which is kept until the read has ended: whoever
        // owns a request drops its context, which waits for that, first.
        let taken =
            unsafe { context.read(self.file.as_raw_fd(), self.buffer, self.layout.size(), mark) };
        if !taken {
            self.result.store(NEVER, Relaxed);
        }
    }

    /// Writes down how a read went.
    ///
    /// # Safety
    /// The event has to be of a read that [`Request::begin`] began, whose request is still there.
    pub(super) unsafe fn complete(event: &Event, clock: &Clock) {
        let request = std::ptr::with_exposed_provenance::<Request>(event.data as usize);
        // SAFETY: the mark is the address of the request, which the caller says is still there.
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

    /// Whether the kernel did not take the last read.
    pub(super) fn was_refused(&self) -> bool {
        self.result.load(Relaxed) == NEVER
    }

    /// Whether the last read brought a whole block.
    pub(super) fn is_good(&self) -> bool {
        self.result.load(Acquire) == self.layout.size() as i64
    }

    /// How long it took; `None` if it was not good, or not timed.
    pub(super) fn latency_us(&self) -> Option<u64> {
        (self.timed && self.is_good()).then(|| self.took_ns.load(Relaxed) / 1000)
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        // SAFETY: it was allocated with this layout, and no read goes on: see `begin`.
        unsafe { dealloc(self.buffer, self.layout) };
    }
}

/// Time since the contender was opened.
pub(super) struct Clock(Instant);

impl Clock {
    pub(super) fn start() -> Clock {
        Clock(Instant::now())
    }

    pub(super) fn now(&self) -> u64 {
        self.0.elapsed().as_nanos() as u64
    }
}
