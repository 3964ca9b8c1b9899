//! The aio contexts of one worker: the current one, and older ones that were too small and are
//! draining.

use std::sync::Arc;
use std::time::Duration;

use crate::aio::sys::{BATCH, Context, Event};
use crate::{Errno, KernelError, Mono};

/// The pause after the kernel refused a larger context.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// A context, its capacity and the number of its reads.
pub(crate) struct ContextSlots {
    pub(crate) context: Arc<Context>,
    /// Identifies the context.
    pub(crate) serial: u32,
    pub(crate) capacity: usize,
    pub(crate) held: usize,
}

/// All contexts. Dropping this leaks them.
pub(crate) struct Contexts {
    current: ContextSlots,
    draining: Vec<ContextSlots>,
    next_attempt: Mono,
}

/// How many slots to request for this many paths. The margin avoids a new context for each new
/// path. It stays within the 10% above the need that this project allows itself of fs.aio-max-nr.
fn slots(paths: usize) -> usize {
    paths + paths / 16 + 8
}

fn setup(paths: usize, serial: u32) -> Result<ContextSlots, KernelError> {
    let capacity = slots(paths);
    let events = u32::try_from(capacity).unwrap_or(u32::MAX);
    Ok(ContextSlots {
        context: Arc::new(Context::setup(events)?),
        serial,
        capacity,
        held: 0,
    })
}

impl Contexts {
    /// Opens one context for this many paths.
    pub(crate) fn open(paths: usize) -> Result<Contexts, KernelError> {
        Ok(Contexts {
            current: setup(paths, 0)?,
            draining: Vec::new(),
            next_attempt: Mono::ZERO,
        })
    }

    /// The context for new reads.
    pub(crate) fn current(&self) -> &ContextSlots {
        &self.current
    }

    /// The context with this serial number.
    pub(crate) fn get(&self, serial: u32) -> Option<&ContextSlots> {
        self.all().find(|slots| slots.serial == serial)
    }

    /// Takes a slot of the current context for a read. Returns `false` if there is none. If the
    /// context is full and too small for `paths`, a larger one replaces it.
    pub(crate) fn take_slot(&mut self, paths: usize) -> bool {
        if self.current.held >= self.current.capacity {
            self.grow(paths);
        }
        let free = self.current.held < self.current.capacity;
        self.current.held += usize::from(free);
        free
    }

    /// Releases the slot of a read.
    pub(crate) fn release_slot(&mut self, serial: u32) {
        let mut all = std::iter::once(&mut self.current).chain(&mut self.draining);
        if let Some(slots) = all.find(|slots| slots.serial == serial) {
            assert!(slots.held > 0, "a slot was released twice");
            slots.held -= 1;
        }
    }

    /// Moves the slot of a read that the kernel has not seen to the current context, which will get
    /// the read. Returns that context's serial number.
    pub(crate) fn move_slot(&mut self, serial: u32) -> u32 {
        if serial != self.current.serial {
            self.release_slot(serial);
            self.current.held += 1;
        }
        self.current.serial
    }

    /// The number of slots in use, in all contexts.
    pub(crate) fn held(&self) -> usize {
        self.all().map(|slots| slots.held).sum()
    }

    fn grow(&mut self, paths: usize) {
        let now = Mono::now();
        if slots(paths) <= self.current.capacity || now < self.next_attempt {
            return;
        }
        match setup(paths, self.current.serial.wrapping_add(1)) {
            Ok(larger) => self
                .draining
                .push(std::mem::replace(&mut self.current, larger)),
            Err(error) => {
                tracing::warn!(%error, paths, "cannot open a larger aio context: some paths can't be checked");
                self.next_attempt = now + RETRY_DELAY;
            }
        }
    }

    /// Fetches completions from all contexts: at least `least` from the current one, unless that
    /// takes longer than `limit`. Returns the number of system calls.
    pub(crate) fn completions(
        &self,
        least: u32,
        limit: Duration,
        events: &mut Vec<Event>,
    ) -> Result<u64, Errno> {
        let mut calls = 0;
        let mut wait = (least, limit);
        for ContextSlots { context, .. } in self.all() {
            loop {
                calls += 1;
                let (least, limit) = std::mem::take(&mut wait);
                if context.events(least, Some(limit), events)? < BATCH {
                    break;
                }
            }
        }
        Ok(calls)
    }

    /// Removes the contexts that have drained. Each has to be destroyed in a background thread.
    pub(crate) fn drained(&mut self) -> impl Iterator<Item = Arc<Context>> {
        self.draining
            .extract_if(.., |slots| slots.held == 0)
            .map(|slots| slots.context)
    }

    /// All contexts.
    pub(crate) fn all(&self) -> impl Iterator<Item = &ContextSlots> {
        std::iter::once(&self.current).chain(&self.draining)
    }
}

/// Waits until the kernel has returned this many reads, then destroys the context. The wait is
/// killable, except within io_destroy.
pub(crate) fn destroy_when_drained(context: &Context, mut held: usize) {
    let mut events = Vec::with_capacity(BATCH);
    while held > 0 {
        events.clear();
        match context.events(1, None, &mut events) {
            Ok(count) => held = held.saturating_sub(count),
            Err(_) => return,
        }
    }
    context.destroy();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_most_ten_percent_more_slots_than_paths() {
        for paths in [300, 2_000, 60_000] {
            assert!(
                (paths..=paths + paths / 10).contains(&slots(paths)),
                "{paths}"
            );
        }
    }
}
