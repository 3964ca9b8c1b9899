//! Finds the next deadline, for backends that watch deadlines themselves (pure).

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::Mono;
use crate::table::Key;

/// With fewer entries than this, removing dead ones is not worthwhile.
const MIN_SWEEP_LEN: usize = 64;

/// Deadlines of operations. The entry of an operation that has ended stays in the heap. It is
/// skipped when its deadline passes, or removed when most entries are dead.
#[derive(Default)]
pub(crate) struct Deadlines {
    heap: BinaryHeap<Reverse<(Mono, Key)>>,
}

impl Deadlines {
    /// Adds a deadline. `live` tells whether an operation has not ended; `count` operations are
    /// live.
    pub(crate) fn push(
        &mut self,
        deadline: Mono,
        key: Key,
        count: usize,
        live: impl Fn(Key) -> bool,
    ) {
        if self.heap.len() > MIN_SWEEP_LEN.max(2 * count) {
            self.heap.retain(|Reverse((_, key))| live(*key));
        }
        self.heap.push(Reverse((deadline, key)));
    }

    /// The next deadline of a live operation.
    pub(crate) fn next(&mut self, live: impl Fn(Key) -> bool) -> Option<Mono> {
        while let Some(Reverse((deadline, key))) = self.heap.peek() {
            if live(*key) {
                return Some(*deadline);
            }
            self.heap.pop();
        }
        None
    }

    /// Whether a deadline has passed. It may belong to an operation that has ended.
    pub(crate) fn is_due(&self, now: Mono) -> bool {
        (self.heap.peek()).is_some_and(|Reverse((deadline, _))| *deadline <= now)
    }

    /// Removes an operation whose deadline is not after `now`. It may have ended.
    pub(crate) fn pop(&mut self, now: Mono) -> Option<Key> {
        let Reverse((deadline, key)) = *self.heap.peek()?;
        if deadline > now {
            return None;
        }
        self.heap.pop();
        Some(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u64) -> Key {
        Key::from_bits(n)
    }

    #[test]
    fn deadlines_are_ordered_and_dead_ones_skipped() {
        let mut deadlines = Deadlines::default();
        for n in [3, 1, 2] {
            deadlines.push(Mono::from_nanos(n), key(n), 3, |_| true);
        }
        let live = |k| k != key(1);
        assert_eq!(deadlines.next(live), Some(Mono::from_nanos(2)));
        assert_eq!(deadlines.pop(Mono::from_nanos(1)), None);
        assert_eq!(deadlines.pop(Mono::from_nanos(2)), Some(key(2)));
        assert_eq!(deadlines.pop(Mono::from_nanos(9)), Some(key(3)));
        assert_eq!(deadlines.next(live), None);
    }

    #[test]
    fn dead_entries_do_not_accumulate() {
        let mut deadlines = Deadlines::default();
        for n in 0..10_000 {
            // One operation at a time, each with a deadline far away.
            deadlines.push(Mono::from_nanos(1_000_000 + n), key(n), 1, |k| k == key(n));
            assert!(deadlines.heap.len() <= MIN_SWEEP_LEN + 2);
        }
    }
}
