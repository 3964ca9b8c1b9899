//! The contents of a disk: written blocks are in memory, and the rest reads as `FILL`.

use std::collections::HashMap;

use crate::spec::FILL;

const BLOCK: usize = 4096;

/// A sparse disk content.
#[derive(Debug, Default)]
pub(super) struct Store {
    blocks: HashMap<u64, Box<[u8; BLOCK]>>,
}

impl Store {
    pub(super) fn write(&mut self, offset: u64, data: &[u8]) {
        each_block(offset, data.len(), |index, within, range| {
            let block = self
                .blocks
                .entry(index)
                .or_insert_with(|| Box::new([FILL; BLOCK]));
            block[within..within + range.len()].copy_from_slice(&data[range]);
        });
    }

    pub(super) fn read(&self, offset: u64, len: usize) -> Vec<u8> {
        let mut data = vec![FILL; len];
        if !self.blocks.is_empty() {
            each_block(offset, len, |index, within, range| {
                if let Some(block) = self.blocks.get(&index) {
                    let end = within + range.len();
                    data[range].copy_from_slice(&block[within..end]);
                }
            });
        }
        data
    }
}

/// Calls `visit(block index, offset within the block, range of the data)` for every block in the
/// range.
fn each_block(offset: u64, len: usize, mut visit: impl FnMut(u64, usize, std::ops::Range<usize>)) {
    let mut done = 0;
    while done < len {
        let at = offset + done as u64;
        let within = (at % BLOCK as u64) as usize;
        let part = (BLOCK - within).min(len - done);
        visit(at / BLOCK as u64, within, done..done + part);
        done += part;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_data_is_read_back_and_the_rest_is_fill() {
        let mut store = Store::default();
        let data: Vec<u8> = (0..6000_u32).map(|i| i as u8).collect();
        store.write(3584, &data);
        assert_eq!(store.read(3584, 6000), data);
        assert_eq!(store.read(3583, 2), [FILL, 0]);
        assert_eq!(store.read(9584, 1), [FILL]);
    }
}
