//! Which slots of the shared memory are in use.
//!
//! The table belongs to the supervisor. If a reader is replaced, it goes to the next one, whose
//! memory is laid out in the same way: each path and each group keeps its slot.

use std::collections::HashMap;
use std::sync::Weak;

use super::message::GroupSlot;
use super::segment::{GROUPS_MAX, NO_GROUP, PATHS_MAX, Segment};
use crate::status::StatusCell;

/// The slots of the paths of a reader, and of their groups.
pub(super) struct SlotTable {
    cells: Slots,
    group_slots: Slots,
    /// The slot of each group, and the number of its paths.
    groups: HashMap<String, (u32, usize)>,
    /// Cells that the reader does not use any more, but others may read.
    resting: Vec<(u32, Weak<StatusCell>)>,
}

impl Default for SlotTable {
    fn default() -> SlotTable {
        let mut group_slots = Slots::default();
        let without = group_slots.take(GROUPS_MAX);
        debug_assert_eq!(without, Some(NO_GROUP));
        SlotTable {
            cells: Slots::default(),
            group_slots,
            groups: HashMap::new(),
            resting: Vec::new(),
        }
    }
}

impl SlotTable {
    /// A slot for a path, and that of its group; `None` if the reader is full. The latencies of a
    /// new group start at zero.
    pub(super) fn allocate(
        &mut self,
        group: Option<&str>,
        segment: &Segment,
    ) -> Option<(u32, Option<GroupSlot>)> {
        let cell = self.cells.take(PATHS_MAX)?;
        let Some(name) = group else {
            return Some((cell, None));
        };
        if !self.groups.contains_key(name) {
            let Some(slot) = self.group_slots.take(GROUPS_MAX) else {
                self.cells.release(cell);
                return None;
            };
            segment.group(slot)?.clear();
            self.groups.insert(name.to_owned(), (slot, 0));
        }
        let (_, members) = self.groups.get_mut(name)?;
        *members += 1;
        Some((cell, self.group(group)))
    }

    /// The slot of a group.
    pub(super) fn group(&self, name: Option<&str>) -> Option<GroupSlot> {
        let name = name?;
        let (slot, _) = *self.groups.get(name)?;
        let name = name.to_owned();
        Some(GroupSlot { name, slot })
    }

    /// A path is no longer in its group.
    pub(super) fn leave_group(&mut self, name: Option<&str>) {
        if let Some(name) = name
            && let Some((slot, members)) = self.groups.get_mut(name)
        {
            *members -= 1;
            if *members == 0 {
                self.group_slots.release(*slot);
                self.groups.remove(name);
            }
        }
    }

    /// Nobody uses this cell any more.
    pub(super) fn release(&mut self, cell: u32) {
        self.cells.release(cell);
    }

    /// The reader no longer writes to this cell. It is used again when nobody reads it any more.
    pub(super) fn rest(&mut self, slot: u32, cell: Weak<StatusCell>) {
        self.resting.push((slot, cell));
    }

    /// Gives cells back that nobody reads any more.
    pub(super) fn release_rested(&mut self) {
        let cells = &mut self.cells;
        self.resting.retain(|(slot, cell)| {
            let is_read = cell.strong_count() > 0;
            if !is_read {
                cells.release(*slot);
            }
            is_read
        });
    }

    /// The table belongs to another memory from now on: nobody reads a resting cell there. The
    /// latencies of all groups continue there.
    pub(super) fn move_to(&mut self, segment: &Segment, before: &Segment) {
        for (slot, _) in std::mem::take(&mut self.resting) {
            self.cells.release(slot);
        }
        let groups = self.groups.values().map(|(slot, _)| *slot);
        for slot in groups.chain([NO_GROUP]) {
            if let (Some(to), Some(from)) = (segment.group(slot), before.group(slot)) {
                to.copy_from(&from);
            }
        }
    }
}

/// The numbers of free slots.
#[derive(Debug, Default)]
struct Slots {
    released: Vec<u32>,
    /// All numbers from here on were never used.
    unused: u32,
}

impl Slots {
    /// A free slot below `limit`.
    fn take(&mut self, limit: u32) -> Option<u32> {
        self.released.pop().or_else(|| {
            let slot = self.unused;
            (slot < limit).then(|| {
                self.unused += 1;
                slot
            })
        })
    }

    fn release(&mut self, slot: u32) {
        debug_assert!(!self.released.contains(&slot) && slot < self.unused);
        self.released.push(slot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_used_again() {
        let mut slots = Slots::default();
        assert_eq!(
            [slots.take(2), slots.take(2), slots.take(2)],
            [Some(0), Some(1), None]
        );
        slots.release(0);
        assert_eq!([slots.take(2), slots.take(2)], [Some(0), None]);
    }

    #[test]
    fn paths_and_groups_keep_their_slots_in_another_memory() {
        let (before, now) = (Segment::create(), Segment::create());
        let (before, now) = (before.expect("memory"), now.expect("memory"));
        let mut table = SlotTable::default();
        let mut allocate = |group| table.allocate(group, &before).expect("a slot");
        let (first, database) = allocate(Some("database"));
        let (second, same) = allocate(Some("database"));
        let (third, none) = allocate(None);
        assert_eq!((first, second, third), (0, 1, 2));
        assert_eq!((&database, none), (&same, None));
        let slot = database.expect("a group").slot;
        before.group(slot).expect("a slot").count(5);
        before.group(NO_GROUP).expect("a slot").count(7);
        table.rest(second, Weak::new());
        table.leave_group(Some("database"));

        table.move_to(&now, &before);
        let sum_us = |slot| now.group(slot).expect("a slot").snapshot().sum_us();
        assert_eq!((sum_us(slot), sum_us(NO_GROUP)), (5, 7));
        assert_eq!(table.group(Some("database")), same);
        // The cell of the path that was removed is free there.
        let again = table.allocate(None, &now).expect("a slot");
        assert_eq!(again, (second, None));
        // A group that ends and comes again starts at zero.
        table.leave_group(Some("database"));
        let (_, anew) = table.allocate(Some("database"), &now).expect("a slot");
        assert_eq!((anew.expect("a group").slot, sum_us(slot)), (slot, 0));
    }
}
