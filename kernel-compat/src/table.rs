//! A table whose keys are never confused: a place and a generation.

use std::num::NonZeroU32;

use slab::Slab;

/// Generations have 30 bits, so that a key leaves the two upper bits of 64 to its user. A place
/// would have to be reused 2^30 times within the life of one stale key to be mistaken; and the
/// kernel holds no stale keys, since a flight leaves the table only at its last completion.
const GENERATION_MASK: u32 = u32::MAX >> 2;

/// Places are below this.
const MARK: u32 = 1 << 31;

/// Names an entry of one [`Table`]; never names another entry, even after this one is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    index: u32,
    /// Never 0, so that the absence of a key takes no room.
    generation: NonZeroU32,
}

impl Key {
    /// The key as a number below 2^62.
    pub const fn to_bits(self) -> u64 {
        ((self.generation.get() as u64) << 32) | self.index as u64
    }

    /// The key whose number this is; the two upper bits don't count.
    pub const fn from_bits(bits: u64) -> Key {
        Key {
            index: bits as u32,
            generation: generation((bits >> 32) as u32),
        }
    }

    /// The same key with a mark that no table gives out: for who joins the keys of two tables.
    pub(crate) const fn marked(self) -> Key {
        Key {
            index: self.index | MARK,
            ..self
        }
    }

    /// The key that was marked; `None` if this one is not.
    pub(crate) const fn unmarked(self) -> Option<Key> {
        match self.index & MARK {
            0 => None,
            _ => Some(Key {
                index: self.index & !MARK,
                ..self
            }),
        }
    }

    /// The place in the table: small, and reused after the entry is gone.
    pub const fn index(self) -> u32 {
        self.index
    }
}

/// The generation of this number; the number of no entry counts as that of the first.
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
    /// Puts an entry in; the table holds at most 2^31.
    ///
    /// # Panics
    /// When it is full.
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

    /// The entry of this key, if it is still there.
    pub fn get(&self, key: Key) -> Option<&T> {
        let (generation, entry) = self.entries.get(key.index as usize)?;
        (*generation == key.generation).then_some(entry)
    }

    /// The entry of this key, if it is still there.
    pub fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let (generation, entry) = self.entries.get_mut(key.index as usize)?;
        (*generation == key.generation).then_some(entry)
    }

    /// Takes the entry of this key out.
    pub fn remove(&mut self, key: Key) -> Option<T> {
        self.get(key)?;
        Some(self.entries.remove(key.index as usize).1)
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// All entries with their keys, in the order of their places.
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
    fn a_reused_place_has_a_new_key() {
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
    fn keys_survive_the_way_through_a_number() {
        let mut table = Table::default();
        table.insert(0);
        let key = table.insert(1);
        assert!(key.to_bits() < 1 << 62);
        assert_eq!(Key::from_bits(key.to_bits() | 0b11 << 62), key);
    }

    #[test]
    fn a_marked_key_names_no_entry_until_the_mark_is_gone() {
        let mut table = Table::default();
        let key = table.insert('a');
        assert_eq!(key.unmarked(), None);
        assert_eq!(table.get(key.marked()), None);
        assert_eq!(key.marked().unmarked(), Some(key));
        assert!(key.marked().to_bits() < 1 << 62);
    }
}
