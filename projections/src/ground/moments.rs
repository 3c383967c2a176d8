//! A long list of moments, most of them near the ones before: four bytes each.

use crate::ground::memory;
use crate::ground::order::Millis;
use crate::ground::pack::{pack_fields, pack_variants};

/// The number of moments that are kept together, with their bounds.
pub(crate) const BLOCK: usize = 1024;

/// Moments by number, from 0.
#[derive(Default)]
pub(crate) struct Moments {
    len: usize,
    blocks: Vec<Block>,
}

struct Block {
    first: Millis,
    earliest: Millis,
    latest: Millis,
    /// The moments, the first included.
    moments: Offsets,
}

/// The moments of a block.
enum Offsets {
    /// By their distance from the first, if all are within 24 days of it.
    Near(Vec<i32>),
    Any(Vec<Millis>),
}

impl Block {
    fn new(first: Millis) -> Block {
        Block { first, earliest: first, latest: first, moments: Offsets::Near(Vec::new()) }
    }

    fn push(&mut self, moment: Millis) {
        self.earliest = self.earliest.min(moment);
        self.latest = self.latest.max(moment);
        let offset = moment.checked_sub(self.first).and_then(|offset| i32::try_from(offset).ok());
        match (&mut self.moments, offset) {
            (Offsets::Near(offsets), Some(offset)) => offsets.push(offset),
            (Offsets::Any(moments), _) => moments.push(moment),
            (Offsets::Near(offsets), None) => {
                let known = offsets.iter().map(|offset| self.first + Millis::from(*offset));
                self.moments = Offsets::Any(known.chain([moment]).collect());
            }
        }
    }

    /// Returns the number of its moments up to a moment, if they are in ascending order.
    fn up_to(&self, moment: Millis) -> usize {
        match &self.moments {
            Offsets::Near(offsets) => {
                offsets.partition_point(|offset| self.first + Millis::from(*offset) <= moment)
            }
            Offsets::Any(moments) => moments.partition_point(|other| *other <= moment),
        }
    }

    fn get(&self, at: usize) -> Option<Millis> {
        match &self.moments {
            Offsets::Near(offsets) => {
                offsets.get(at).map(|offset| self.first + Millis::from(*offset))
            }
            Offsets::Any(moments) => moments.get(at).copied(),
        }
    }
}

impl Moments {
    pub(crate) fn push(&mut self, moment: Millis) {
        if self.len.is_multiple_of(BLOCK) {
            self.blocks.push(Block::new(moment));
        }
        if let Some(block) = self.blocks.last_mut() {
            block.push(moment);
        }
        self.len += 1;
    }

    /// Returns the moment of a number. O(1).
    pub(crate) fn get(&self, number: usize) -> Option<Millis> {
        self.blocks.get(number / BLOCK)?.get(number % BLOCK)
    }

    /// Returns the moment that was added last. O(1).
    pub(crate) fn last(&self) -> Option<Millis> {
        self.get(self.len.checked_sub(1)?)
    }

    /// Returns the number of moments up to a moment, of a list in ascending order. O(log n).
    pub(crate) fn up_to(&self, moment: Millis) -> usize {
        let blocks = self.blocks.partition_point(|block| block.earliest <= moment);
        let Some(last) = blocks.checked_sub(1) else { return 0 };
        last * BLOCK + self.blocks.get(last).map_or(0, |block| block.up_to(moment))
    }

    /// Tells if a block holds any moment from `from` to `until`.
    pub(crate) fn overlaps(&self, block: usize, from: Millis, until: Millis) -> bool {
        let block = self.blocks.get(block);
        block.is_some_and(|block| block.earliest <= until && block.latest >= from)
    }

    /// Returns the nearest block from one on, or back from it if `backward`, that holds any moment
    /// from `from` to `until`.
    pub(crate) fn nearest_overlapping(
        &self,
        block: usize,
        backward: bool,
        from: Millis,
        until: Millis,
    ) -> Option<usize> {
        let overlaps = |block: &usize| self.overlaps(*block, from, until);
        if backward {
            (0..(block + 1).min(self.blocks.len())).rev().find(overlaps)
        } else {
            (block..self.blocks.len()).find(overlaps)
        }
    }

    /// Returns about the bytes of memory that they take.
    pub(crate) fn heap_bytes(&self) -> usize {
        let of_blocks = self.blocks.iter().map(|block| match &block.moments {
            Offsets::Near(offsets) => memory::of_vec(offsets),
            Offsets::Any(moments) => memory::of_vec(moments),
        });
        memory::of_vec(&self.blocks) + of_blocks.sum::<usize>()
    }
}

pack_fields!(Moments { len, blocks });
pack_fields!(Block { first, earliest, latest, moments });

pack_variants!(Offsets { Any(moments) = 0, Near(offsets) = 1 });

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_moment_comes_back_near_the_others_or_not() {
        let mut all: Vec<Millis> = (0..3000).map(|n| 1_790_000_000_000 + 997 * n % 5000).collect();
        // The second block has moments of any distance, before and after those near each other.
        all[1500] = Millis::MIN;
        all[1501] = Millis::MAX;
        all[2047] = 0;
        all[2048] = -1;
        all[2049] = i64::from(i32::MAX) - 1;
        all[2050] = i64::from(i32::MIN) - 1;
        let mut moments = Moments::default();
        all.iter().for_each(|moment| moments.push(*moment));
        let got: Vec<Millis> = (0..3000).filter_map(|number| moments.get(number)).collect();
        assert_eq!(got, all);
        assert_eq!((moments.get(3000), moments.get(usize::MAX)), (None, None));
        let [first, rest] = [&all[..BLOCK], &all[2 * BLOCK..]];
        for (block, of_block) in [(0, first), (2, rest)] {
            let [low, high] = [of_block.iter().min(), of_block.iter().max()].map(|m| *m.unwrap());
            assert!(moments.overlaps(block, high, high) && moments.overlaps(block, low, low));
            assert!(!moments.overlaps(block, high + 1, high + 1));
            assert!(!moments.overlaps(block, low - 1, low - 1));
        }
        assert!(!moments.overlaps(3, Millis::MIN, Millis::MAX));
        let any = |block, backward| {
            moments.nearest_overlapping(block, backward, Millis::MIN, Millis::MAX)
        };
        assert_eq!([0, 2, 3].map(|block| any(block, false)), [Some(0), Some(2), None]);
        assert_eq!([0, 2, 3].map(|block| any(block, true)), [Some(0), Some(2), Some(2)]);
        // Only the second block has the first of all moments.
        let far = |block, backward| {
            moments.nearest_overlapping(block, backward, Millis::MIN, Millis::MIN)
        };
        assert_eq!([0, 1, 2].map(|block| far(block, false)), [Some(1), Some(1), None]);
        assert_eq!([0, 1, 2].map(|block| far(block, true)), [None, Some(1), Some(1)]);
    }

    #[test]
    fn the_number_of_moments_up_to_one_equals_a_scan() {
        let mut all: Vec<Millis> = (0..2500).map(|n| 1_790_000_000_000 + n / 3 * 40).collect();
        // The last block has moments far from each other.
        all.extend([i64::MAX - 2, i64::MAX - 1, i64::MAX - 1]);
        all.insert(0, Millis::MIN);
        let mut moments = Moments::default();
        for (number, moment) in all.iter().enumerate() {
            moments.push(*moment);
            assert_eq!(moments.last(), Some(*moment));
            let known = &all[..=number];
            if number % 100 == 0 || number > 2490 {
                for asked in [
                    Millis::MIN,
                    0,
                    moment.saturating_sub(1),
                    *moment,
                    known[number / 2],
                    Millis::MAX,
                ] {
                    let expected = known.iter().filter(|other| **other <= asked).count();
                    assert_eq!(moments.up_to(asked), expected, "{number} {asked}");
                }
            }
        }
        assert_eq!((Moments::default().last(), Moments::default().up_to(0)), (None, 0));
    }
}
