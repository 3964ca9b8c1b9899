//! A table with unambiguous keys: each key is an index and a generation.

use std::num::NonZeroU32;

use slab::Slab;

/// Generations have 30 bits, so that a key leaves the upper two of 64 bits to its user. A stale key
/// could match another entry only after its index was reused 2^30 times. The kernel holds no stale
/// keys, because a flight leaves the table only at its last completion.
const GENERATION_MASK: u32 = u32::MAX >> 2;

/// The bit that marks a key. Indexes are below it.
const MARK: u32 = 1 << 31;

/// Identifies an entry of one [`Table`]. It never identifies another entry, even after this one was
/// removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    index: u32,
    /// Never 0, so that `Option<Key>` needs no extra space.
    generation: NonZeroU32,
}

impl Key {
    /// The key as a number below 2^62.
    pub const fn to_bits(self) -> u64 {
        ((self.generation.get() as u64) << 32) | self.index as u64
    }

    /// The key with this number. The upper two bits are ignored.
    pub const fn from_bits(bits: u64) -> Key {
        Key {
            index: bits as u32,
            generation: generation((bits >> 32) as u32),
        }
    }

    /// The same key with a mark that no table sets. It allows combining the keys of two tables.
    pub(crate) const fn marked(self) -> Key {
        Key {
            index: self.index | MARK,
            ..self
        }
    }

    /// The key without its mark. `None` if it has no mark.
    pub(crate) const fn unmarked(self) -> Option<Key> {
        match self.index & MARK {
            0 => None,
            _ => Some(Key {
                index: self.index & !MARK,
                ..self
            }),
        }
    }

    /// The index in the table: small, and reused after the entry was removed.
    pub const fn index(self) -> u32 {
        self.index
    }
}

/// The generation with this number. 0 counts as the first generation.
const fn generation(number: u32) -> NonZeroU32 {
    match NonZeroU32::new(number & GENERATION_MASK) {
        Some(generation) => generation,
        None => NonZeroU32::MIN,
    }
}

/// Entries of `T` by [`Key`].
#[derive(Debug)]
pub struct Table<T> {
    entries: Slab<(NonZeroU32, T)>,
    last_generation: u32,
}

impl<T> Default for Table<T> {
    fn default() -> Table<T> {
        Table {
            entries: Slab::new(),
            last_generation: 0,
        }
    }
}

impl<T> Table<T> {
    /// Inserts an entry. The table holds at most 2^31.
    ///
    /// # Panics
    /// Panics when the table is full.
    pub fn insert(&mut self, entry: T) -> Key {
        let generation = generation(self.last_generation.wrapping_add(1));
        self.last_generation = generation.get();
        let index = self.entries.insert((generation, entry));
        assert!(index < MARK as usize, "the table is full");
        Key {
            index: index as u32,
            generation,
        }
    }

    /// The entry with this key, if it still exists.
    pub fn get(&self, key: Key) -> Option<&T> {
        let (generation, entry) = self.entries.get(key.index as usize)?;
        (*generation == key.generation).then_some(entry)
    }

    /// The entry with this key, if it still exists.
    pub fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let (generation, entry) = self.entries.get_mut(key.index as usize)?;
        (*generation == key.generation).then_some(entry)
    }

    /// Removes the entry with this key.
    pub fn remove(&mut self, key: Key) -> Option<T> {
        self.get(key)?;
        Some(self.entries.remove(key.index as usize).1)
    }

    /// The number of entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether the table is empty.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// All entries with their keys, in the order of their indexes.
    pub fn iter(&self) -> impl Iterator<Item = (Key, &T)> {
        self.entries.iter().map(|(index, (generation, entry))| {
            let key = Key {
                index: index as u32,
                generation: *generation,
            };
            (key, entry)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reused_index_has_a_new_key() {
        let mut table = Table::default();
        let first = table.insert('a');
        assert_eq!(table.remove(first), Some('a'));
        let second = table.insert('b');
        assert_eq!(first.index(), second.index());
        assert_ne!(first, second);
        assert_eq!(table.get(first), None);
        assert_eq!(table.get_mut(first), None);
        assert_eq!(table.remove(first), None);
        assert_eq!(table.iter().collect::<Vec<_>>(), [(second, &'b')]);
    }

    #[test]
    fn keys_round_trip_through_numbers() {
        let mut table = Table::default();
        table.insert(0);
        let key = table.insert(1);
        assert!(key.to_bits() < 1 << 62);
        assert_eq!(Key::from_bits(key.to_bits() | 0b11 << 62), key);
    }

    #[test]
    fn a_marked_key_matches_no_entry() {
        let mut table = Table::default();
        let key = table.insert('a');
        assert_eq!(key.unmarked(), None);
        assert_eq!(table.get(key.marked()), None);
        assert_eq!(key.marked().unmarked(), Some(key));
        assert!(key.marked().to_bits() < 1 << 62);
    }
}
