//! The aio contexts of one worker: one that reads go to, and older ones that were too small and
//! drain.

use std::sync::Arc;
use std::time::Duration;

use crate::aio::sys::{BATCH, Context, Event};
use crate::{Errno, KernelError, Mono};

/// After the kernel refused a larger context, this long passes before the next try.
const PATIENCE: Duration = Duration::from_secs(1);

/// A context and how many reads it holds.
pub(crate) struct Room {
    pub(crate) context: Arc<Context>,
    /// Tells contexts apart.
    pub(crate) serial: u32,
    pub(crate) capacity: usize,
    pub(crate) held: usize,
}

/// All contexts. Dropping it leaks them.
pub(crate) struct Contexts {
    current: Room,
    draining: Vec<Room>,
    not_before: Mono,
}

/// How many slots to ask for, for so many paths: a little more, lest each new path asks anew; within
/// the tenth above that this project allows itself of fs.aio-max-nr.
fn slots(paths: usize) -> usize {
    paths + paths / 16 + 8
}

fn setup(paths: usize, serial: u32) -> Result<Room, KernelError> {
    let capacity = slots(paths);
    let events = u32::try_from(capacity).unwrap_or(u32::MAX);
    Ok(Room {
        context: Arc::new(Context::setup(events)?),
        serial,
        capacity,
        held: 0,
    })
}

impl Contexts {
    /// One context for so many paths.
    pub(crate) fn open(paths: usize) -> Result<Contexts, KernelError> {
        Ok(Contexts {
            current: setup(paths, 0)?,
            draining: Vec::new(),
            not_before: Mono::ZERO,
        })
    }

    /// Where reads go.
    pub(crate) fn current(&self) -> &Room {
        &self.current
    }

    /// The context with this serial number.
    pub(crate) fn get(&self, serial: u32) -> Option<&Room> {
        self.all().find(|room| room.serial == serial)
    }

    /// Takes a slot of the current context for a read; `false` if there is none. `paths` is what the
    /// context should be sized for; if it is not, a larger one takes its place.
    pub(crate) fn take_slot(&mut self, paths: usize) -> bool {
        if self.current.held >= self.current.capacity {
            self.grow(paths);
        }
        let free = self.current.held < self.current.capacity;
        self.current.held += usize::from(free);
        free
    }

    /// Gives the slot of a read back.
    pub(crate) fn give_slot(&mut self, serial: u32) {
        let mut all = std::iter::once(&mut self.current).chain(&mut self.draining);
        if let Some(room) = all.find(|room| room.serial == serial) {
            assert!(room.held > 0, "a slot came back twice");
            room.held -= 1;
        }
    }

    /// Moves the slot of a read that the kernel has not seen to the current context, where it will
    /// go; returns that context's serial number.
    pub(crate) fn move_slot(&mut self, serial: u32) -> u32 {
        if serial != self.current.serial {
            self.give_slot(serial);
            self.current.held += 1;
        }
        self.current.serial
    }

    /// How many slots reads have, in all contexts.
    pub(crate) fn held(&self) -> usize {
        self.all().map(|room| room.held).sum()
    }

    fn grow(&mut self, paths: usize) {
        let now = Mono::now();
        if slots(paths) <= self.current.capacity || now < self.not_before {
            return;
        }
        match setup(paths, self.current.serial.wrapping_add(1)) {
            Ok(larger) => self
                .draining
                .push(std::mem::replace(&mut self.current, larger)),
            Err(error) => {
                tracing::warn!(%error, paths, "no larger aio context: some paths can't be checked");
                self.not_before = now + PATIENCE;
            }
        }
    }

    /// Takes what has completed out of all contexts, at least `least` of the current one if that
    /// takes no longer than `limit`. Returns the system calls that it took.
    pub(crate) fn completions(
        &self,
        least: u32,
        limit: Duration,
        events: &mut Vec<Event>,
    ) -> Result<u64, Errno> {
        let mut calls = 0;
        let mut wait = (least, limit);
        for Room { context, .. } in self.all() {
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

    /// The contexts that have drained, each to be given back by a thread that nobody waits for.
    pub(crate) fn drained(&mut self) -> impl Iterator<Item = Arc<Context>> {
        self.draining
            .extract_if(.., |room| room.held == 0)
            .map(|room| room.context)
    }

    /// All contexts.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Room> {
        std::iter::once(&self.current).chain(&self.draining)
    }
}

/// Waits until the kernel has given so many reads back, and then gives the context back. While it
/// waits it can be killed, other than within io_destroy.
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
    fn two_thousand_paths_take_no_more_than_a_tenth_above() {
        for paths in [300, 2_000, 60_000] {
            assert!(
                (paths..=paths + paths / 10).contains(&slots(paths)),
                "{paths}"
            );
        }
    }
}
