//! The records that may change the access or the roles of a user, as far as was known with them.

use crate::ground::order::Seq;
use crate::ground::pack::pack_fields;

/// The records in one word.
const WORD: usize = u64::BITS as usize;

/// A bit for each record: true if it may change access or roles. A feed of changes passes over the
/// others without reading them.
#[derive(Default)]
pub(crate) struct TurningRecords {
    /// Record `n` is bit `n - 1`.
    words: Vec<u64>,
    count: usize,
}

impl TurningRecords {
    /// Adds the next record.
    pub(crate) fn push(&mut self, turns: bool) {
        if self.count.is_multiple_of(WORD) {
            self.words.push(0);
        }
        if let (Some(word), true) = (self.words.last_mut(), turns) {
            *word |= 1 << (self.count % WORD);
        }
        self.count += 1;
    }

    /// Returns the first record after another that may change something.
    pub(crate) fn next_after(&self, seq: Seq) -> Option<Seq> {
        let first = usize::try_from(seq).ok()?;
        let begun = self.words.get(first / WORD)? & (u64::MAX << (first % WORD));
        let later = self.words.iter().enumerate().skip(first / WORD + 1);
        let mut words = core::iter::once((first / WORD, begun))
            .chain(later.map(|(number, word)| (number, *word)));
        let (number, word) = words.find(|(_, word)| *word != 0)?;
        Some((number * WORD) as Seq + Seq::from(word.trailing_zeros()) + 1)
    }
}

pack_fields!(TurningRecords { words, count });

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_record_is_found_across_words() {
        let mut records = TurningRecords::default();
        let turning = [1, 63, 64, 65, 200, 640];
        (1..=700).for_each(|seq| records.push(turning.contains(&seq)));
        for seq in 0..=700 {
            let next = turning.iter().copied().find(|turning| *turning > seq);
            assert_eq!(records.next_after(seq), next, "{seq}");
        }
        assert_eq!(records.next_after(701), None);
        assert_eq!(TurningRecords::default().next_after(0), None);
    }
}
