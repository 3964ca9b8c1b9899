//! Which bytes of a device a check reads: [`Geometry`] (pure: no clock, no I/O).

use pathpulse_kernel_compat::MAX_READ_LEN;

use crate::schedule::spread;
use crate::settings::{Place, Region};

/// The part of a device that checks read, in logical blocks, the unit of `O_DIRECT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Geometry {
    /// Size of a logical block in bytes, a power of two.
    pub(crate) block: u32,
    /// Number of whole blocks on the device, at least 1.
    pub(crate) blocks: u64,
    /// Length of a read in bytes: one block or more.
    pub(crate) len: u32,
    region: Region,
}

impl Geometry {
    /// Reads one block at the beginning.
    pub(crate) fn new(block: u32, blocks: u64) -> Geometry {
        Geometry {
            block,
            blocks,
            len: block,
            region: Region::default(),
        }
    }

    /// The same device with another region to read.
    pub(crate) fn with_region(self, region: Region) -> Geometry {
        let most = MAX_READ_LEN.min(
            u32::try_from(self.blocks)
                .map_or(MAX_READ_LEN, |blocks| blocks.saturating_mul(self.block)),
        );
        let whole = region
            .len_bytes
            .min(MAX_READ_LEN)
            .next_multiple_of(self.block);
        Geometry {
            len: whole.clamp(self.block, most / self.block * self.block),
            region,
            ..self
        }
    }

    /// The region that is read.
    pub(crate) fn region(&self) -> Region {
        self.region
    }

    /// The offset of the first read of the check with this number.
    pub(crate) fn offset(&self, number: u32) -> u64 {
        match self.region.place {
            Place::First => 0,
            Place::Last => (self.start_blocks() - 1) * u64::from(self.block),
            Place::Rotating => self.spread_offset(number),
        }
    }

    /// An offset that differs from number to number, spread over the whole device.
    pub(crate) fn spread_offset(&self, number: u32) -> u64 {
        spread(number.into(), self.start_blocks()) * u64::from(self.block)
    }

    /// Number of blocks at which a read can begin.
    fn start_blocks(&self) -> u64 {
        self.blocks - u64::from(self.len / self.block) + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_are_whole_blocks_within_the_device() {
        let places = [Place::First, Place::Last, Place::Rotating];
        for (blocks, len_bytes, len) in [
            (1, 0, 512),
            (1, 4096, 512),
            (2, 1, 512),
            (1000, 4097, 4608),
            (1 << 40, u32::MAX, MAX_READ_LEN),
        ] {
            for place in places {
                let geometry = Geometry::new(512, blocks).with_region(Region { place, len_bytes });
                assert_eq!(geometry.len, len);
                for number in 0..100 {
                    for offset in [geometry.offset(number), geometry.spread_offset(number)] {
                        assert!(offset.is_multiple_of(512));
                        assert!(offset + u64::from(len) <= blocks * 512);
                    }
                }
            }
        }
    }

    #[test]
    fn the_places_are_the_beginning_the_end_and_the_whole_device() {
        let reading = |place| {
            let geometry = Geometry::new(4096, 1000).with_region(Region {
                place,
                len_bytes: 8192,
            });
            (0..100)
                .map(move |number| geometry.offset(number))
                .collect()
        };
        let first: Vec<u64> = reading(Place::First);
        assert!(first.iter().all(|offset| *offset == 0));
        let last: Vec<u64> = reading(Place::Last);
        assert!(last.iter().all(|offset| *offset == 998 * 4096));
        let mut tenths: Vec<u64> = reading(Place::Rotating);
        for offset in &mut tenths {
            *offset = *offset * 10 / (999 * 4096);
        }
        tenths.sort_unstable();
        tenths.dedup();
        assert_eq!(tenths.len(), 10, "every tenth of the device is visited");
    }
}
