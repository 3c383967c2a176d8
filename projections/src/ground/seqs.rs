//! Long ascending lists of seqs: two bytes each where they are dense.

use core::ops::Range;

use crate::ground::memory;
use crate::ground::order::Seq32;
use crate::ground::pack::{pack_fields, pack_variants};

/// A list of this length is looked at once: if it is dense, it is kept by halves from then on.
const LONG: usize = 4096;

/// The seqs in a block of those that share their upper half.
const BLOCK_BITS: u32 = 16;

/// Seqs in ascending order, each once.
#[derive(Debug)]
pub(crate) enum Seqs {
    Plain(Vec<Seq32>),
    Halves(Halves),
}

/// Seqs by their halves.
#[derive(Debug, Default)]
pub(crate) struct Halves {
    /// The upper half of each block's seqs, and the number of the first of them.
    blocks: Vec<(u16, u32)>,
    lower: Vec<u16>,
}

impl Default for Seqs {
    fn default() -> Self {
        Seqs::Plain(Vec::new())
    }
}

impl Halves {
    fn push(&mut self, seq: Seq32) {
        let upper = (seq >> BLOCK_BITS) as u16;
        if self.blocks.last().is_none_or(|(last, _)| *last != upper) {
            self.blocks.push((upper, self.lower.len() as u32));
        }
        self.lower.push(seq as u16);
    }

    fn get(&self, number: usize) -> Option<Seq32> {
        let lower = *self.lower.get(number)?;
        let block = self.blocks.partition_point(|(_, first)| *first as usize <= number);
        let (upper, _) = self.blocks.get(block.checked_sub(1)?)?;
        Some(Seq32::from(*upper) << BLOCK_BITS | Seq32::from(lower))
    }
}

impl Seqs {
    /// Adds a seq, which must be greater than all before it.
    pub(crate) fn push(&mut self, seq: Seq32) {
        match self {
            Seqs::Halves(halves) => halves.push(seq),
            Seqs::Plain(seqs) => {
                seqs.push(seq);
                let first = seqs.first().copied().unwrap_or(seq);
                // From then on the list is halved for good, though it may become sparse.
                if seqs.len() == LONG && (seq - first) >> BLOCK_BITS <= (LONG / 16) as Seq32 {
                    let mut halves = Halves::default();
                    seqs.iter().for_each(|seq| halves.push(*seq));
                    *self = Seqs::Halves(halves);
                }
            }
        }
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Seqs::Plain(seqs) => seqs.len(),
            Seqs::Halves(halves) => halves.lower.len(),
        }
    }

    /// Returns a seq by its number, from 0. O(log n).
    pub(crate) fn get(&self, number: usize) -> Option<Seq32> {
        match self {
            Seqs::Plain(seqs) => seqs.get(number).copied(),
            Seqs::Halves(halves) => halves.get(number),
        }
    }

    /// Returns the number of seqs up to a seq. O(log n).
    pub(crate) fn up_to(&self, seq: Seq32) -> usize {
        let halves = match self {
            Seqs::Plain(seqs) => return seqs.partition_point(|other| *other <= seq),
            Seqs::Halves(halves) => halves,
        };
        let upper = (seq >> BLOCK_BITS) as u16;
        let block = halves.blocks.partition_point(|(other, _)| *other < upper);
        let start = |block: usize| {
            halves.blocks.get(block).map_or(halves.lower.len(), |(_, first)| *first as usize)
        };
        let first = start(block);
        if halves.blocks.get(block).is_none_or(|(other, _)| *other != upper) {
            return first;
        }
        let lower = halves.lower.get(first..start(block + 1)).unwrap_or_default();
        first + lower.partition_point(|other| *other <= seq as u16)
    }

    /// Returns the part of the list with these numbers.
    pub(crate) fn part(&self, numbers: Range<usize>) -> SeqsPart<'_> {
        SeqsPart { seqs: self, numbers }
    }

    /// Returns about the bytes of memory that it takes outside of itself.
    pub(crate) fn heap_bytes(&self) -> usize {
        match self {
            Seqs::Plain(seqs) => memory::of_vec(seqs),
            Seqs::Halves(halves) => memory::of_vec(&halves.blocks) + memory::of_vec(&halves.lower),
        }
    }
}

/// A part of a list, from which seqs are taken at either end.
#[derive(Debug)]
pub(crate) struct SeqsPart<'a> {
    seqs: &'a Seqs,
    numbers: Range<usize>,
}

impl SeqsPart<'_> {
    pub(crate) fn first(&self) -> Option<Seq32> {
        self.seqs.get(self.numbers.start).filter(|_| !self.numbers.is_empty())
    }

    pub(crate) fn last(&self) -> Option<Seq32> {
        self.seqs.get(self.numbers.end.checked_sub(1)?).filter(|_| !self.numbers.is_empty())
    }

    /// Takes a seq from the end of the part, or from its beginning, if it is there.
    pub(crate) fn leave(&mut self, seq: Seq32, at_end: bool) {
        match at_end {
            true if self.last() == Some(seq) => self.numbers.end -= 1,
            false if self.first() == Some(seq) => self.numbers.start += 1,
            _ => {}
        }
    }

    /// Leaves out the seqs up to a seq.
    pub(crate) fn skip_up_to(&mut self, seq: Seq32) {
        self.numbers.start = self.numbers.start.max(self.seqs.up_to(seq));
    }

    /// Leaves out the seqs after a seq.
    pub(crate) fn cut_after(&mut self, seq: Seq32) {
        self.numbers.end = self.numbers.end.min(self.seqs.up_to(seq));
    }
}

pack_fields!(Halves { blocks, lower });

pack_variants!(Seqs { Halves(halves) = 0, Plain(seqs) = 1 });

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_the_same_however_it_is_kept() {
        for (step, length) in [(1, 3000), (1, 200_000), (7, 50_000), (7919, 20_000)] {
            let all: Vec<Seq32> = (1..=length).map(|n| n * step).collect();
            let mut seqs = Seqs::default();
            all.iter().for_each(|seq| seqs.push(*seq));
            let is_halved = matches!(seqs, Seqs::Halves(_));
            assert_eq!(is_halved, length > 4096 && step < 4096, "{step} {length}");
            assert_eq!(seqs.len(), all.len());
            for number in (0..all.len()).step_by(97) {
                assert_eq!(seqs.get(number), all.get(number).copied());
            }
            assert_eq!(seqs.get(all.len()), None);
            for seq in (0..=length * step + 1).step_by(6151).chain([65_535, 65_536, Seq32::MAX]) {
                let known = all.partition_point(|other| *other <= seq);
                assert_eq!(seqs.up_to(seq), known, "{step} {length} {seq}");
                let mut part = seqs.part(0..seqs.len());
                part.skip_up_to(seq);
                assert_eq!(part.first(), all.get(known).copied());
                let mut part = seqs.part(0..seqs.len());
                part.cut_after(seq);
                assert_eq!(part.last(), all[..known].last().copied());
            }
        }
    }
}
