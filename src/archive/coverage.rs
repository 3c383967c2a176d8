//! A set of records: those that are in an archive.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use rollcall_projections::Seq;

/// A set of seqs.
#[derive(Debug, Default)]
pub(super) struct Coverage {
    /// The last seq of each span by its first. Between two of them is at least one seq.
    spans: BTreeMap<Seq, Seq>,
}

impl Coverage {
    pub(super) fn add(&mut self, seqs: &RangeInclusive<Seq>) {
        let (mut first, mut last) = (*seqs.start(), *seqs.end());
        // Spans that overlap or touch become one.
        while let Some((from, to)) = self.spans.range(..=last.saturating_add(1)).next_back() {
            let (from, to) = (*from, *to);
            if to.saturating_add(1) < first {
                break;
            }
            self.spans.remove(&from);
            (first, last) = (first.min(from), last.max(to));
        }
        self.spans.insert(first, last);
    }

    /// Returns whether all of these are in it.
    pub(super) fn has(&self, seqs: &RangeInclusive<Seq>) -> bool {
        let before = self.spans.range(..=*seqs.start()).next_back();
        before.is_some_and(|(_, last)| last >= seqs.end())
    }

    /// Returns the record up to which none is missing.
    pub(super) fn through(&self) -> Seq {
        self.spans.get(&1).copied().unwrap_or(0)
    }

    /// Returns the first span up to `head` that is missing.
    pub(super) fn gap(&self, head: Seq) -> Option<RangeInclusive<Seq>> {
        let first = self.through() + 1;
        let next = self.spans.range(first..).next().map_or(Seq::MAX, |(next, _)| *next);
        let gap = first..=head.min(next - 1);
        (!gap.is_empty()).then_some(gap)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_that_overlap_or_touch_are_one_and_the_first_gap_is_found() {
        let mut coverage = Coverage::default();
        assert_eq!((coverage.through(), coverage.gap(0), coverage.gap(2)), (0, None, Some(1..=2)));
        for seqs in [20..=30, 5..=6, 1..=3, 8..=9] {
            coverage.add(&seqs);
        }
        assert_eq!((coverage.through(), coverage.gap(3), coverage.gap(40)), (3, None, Some(4..=4)));
        let asked = [1..=3, 2..=3, 20..=30, 4..=4, 3..=4, 6..=8, 31..=31];
        let has = asked.map(|seqs| coverage.has(&seqs));
        assert_eq!(has, [true, true, true, false, false, false, false]);
        coverage.add(&(4..=4));
        assert_eq!((coverage.through(), coverage.gap(40)), (6, Some(7..=7)));
        coverage.add(&(7..=25));
        assert_eq!((coverage.through(), coverage.gap(40)), (30, Some(31..=40)));
        coverage.add(&(2..=3));
        coverage.add(&(1..=50));
        assert_eq!(
            (coverage.through(), coverage.gap(50), coverage.gap(51)),
            (50, None, Some(51..=51))
        );
    }
}
