//! Sets of records.

use std::collections::BTreeMap;

use rollcall_projections::Seq;

/// A set of records, as ranges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ranges {
    /// The last record of each range by its first. Between two ranges is at least one record.
    lasts: BTreeMap<Seq, Seq>,
}

impl Ranges {
    /// Adds the records `first` to `last`.
    pub(crate) fn add(&mut self, mut first: Seq, mut last: Seq) {
        // Ranges that overlap or touch become one.
        while let Some((from, to)) = self.up_to(last.saturating_add(1)) {
            if to.saturating_add(1) < first {
                break;
            }
            self.lasts.remove(&from);
            (first, last) = (first.min(from), last.max(to));
        }
        self.lasts.insert(first, last);
    }

    /// Returns the range that begins last, at `seq` or before.
    fn up_to(&self, seq: Seq) -> Option<(Seq, Seq)> {
        self.lasts.range(..=seq).next_back().map(|(first, last)| (*first, *last))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Seq, Seq)> {
        self.lasts.iter().map(|(first, last)| (*first, *last))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lasts.is_empty()
    }

    /// Returns whether all of the records `first` to `last` are in the set.
    pub(crate) fn has(&self, first: Seq, last: Seq) -> bool {
        self.up_to(first).is_some_and(|(_, to)| to >= last)
    }

    /// Returns the first record from `seq` on that is in the set.
    pub(super) fn first_from(&self, seq: Seq) -> Option<Seq> {
        match self.has(seq, seq) {
            true => Some(seq),
            false => self.lasts.range(seq..).next().map(|(first, _)| *first),
        }
    }

    /// Returns the record up to which none is missing.
    pub(crate) fn through(&self) -> Seq {
        self.lasts.get(&1).copied().unwrap_or(0)
    }

    /// Returns the first range of records up to `head` that is missing.
    pub(crate) fn first_gap(&self, head: Seq) -> Option<(Seq, Seq)> {
        self.gaps(1, head).into_iter().next()
    }

    /// Returns which of the records `first` to `last` are not in the set.
    pub(super) fn gaps(&self, first: Seq, last: Seq) -> Vec<(Seq, Seq)> {
        let (mut gaps, mut next) = (Vec::new(), first);
        let later = self.lasts.range(first.saturating_add(1)..).map(|(from, to)| (*from, *to));
        let within = later.take_while(|(from, _)| *from <= last);
        for (from, to) in self.up_to(first).into_iter().chain(within) {
            if from > next {
                gaps.push((next, from - 1));
            }
            next = next.max(to.saturating_add(1));
        }
        if next <= last {
            gaps.push((next, last));
        }
        gaps
    }

    /// Returns the records that are not in the other set.
    pub(super) fn without(&self, other: &Ranges) -> Ranges {
        self.iter().flat_map(|(first, last)| other.gaps(first, last)).collect()
    }

    /// Returns the records that are in both sets.
    pub(super) fn both(&self, other: &Ranges) -> Ranges {
        self.without(&self.without(other))
    }
}

impl FromIterator<(Seq, Seq)> for Ranges {
    fn from_iter<T: IntoIterator<Item = (Seq, Seq)>>(ranges: T) -> Ranges {
        let mut set = Ranges::default();
        ranges.into_iter().for_each(|(first, last)| set.add(first, last));
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(ranges: &[(Seq, Seq)]) -> Ranges {
        ranges.iter().copied().collect()
    }

    #[test]
    fn ranges_that_overlap_or_touch_are_one() {
        let set = of(&[(5, 6), (1, 2), (9, 9), (3, 3), (8, 12), (20, 20)]);
        assert_eq!(set.iter().collect::<Vec<_>>(), [(1, 3), (5, 6), (8, 12), (20, 20)]);
        assert_eq!(of(&[(1, 20), (3, 4)]), of(&[(1, 20)]));
        assert_eq!(of(&[(3, 4), (9, 10), (1, 20)]), of(&[(1, 20)]));
    }

    #[test]
    fn what_is_there_and_the_first_gap_are_found_while_a_set_grows() {
        let mut set = Ranges::default();
        assert_eq!((set.through(), set.first_gap(0), set.first_gap(2)), (0, None, Some((1, 2))));
        for (first, last) in [(20, 30), (5, 6), (1, 3), (8, 9)] {
            set.add(first, last);
        }
        assert_eq!((set.through(), set.first_gap(3), set.first_gap(40)), (3, None, Some((4, 4))));
        let asked = [(1, 3), (2, 3), (20, 30), (4, 4), (3, 4), (6, 8), (31, 31)];
        let has = asked.map(|(first, last)| set.has(first, last));
        assert_eq!(has, [true, true, true, false, false, false, false]);
        set.add(4, 4);
        assert_eq!((set.through(), set.first_gap(40)), (6, Some((7, 7))));
        set.add(7, 25);
        assert_eq!((set.through(), set.first_gap(40)), (30, Some((31, 40))));
        set.add(2, 3);
        set.add(1, 50);
        assert_eq!(
            (set.through(), set.first_gap(50), set.first_gap(51)),
            (50, None, Some((51, 51)))
        );
    }

    #[test]
    fn what_is_missing_and_what_two_sets_share_is_found() {
        let set = of(&[(3, 4), (8, 9)]);
        assert_eq!(set.gaps(1, 10), [(1, 2), (5, 7), (10, 10)]);
        assert_eq!(set.gaps(4, 8), [(5, 7)]);
        assert_eq!(set.gaps(3, 4), []);
        assert_eq!(set.gaps(5, 5), [(5, 5)]);
        assert_eq!(set.gaps(10, 9), []);
        let other = of(&[(4, 8), (20, 30)]);
        assert_eq!(
            (set.without(&other), set.both(&other)),
            (of(&[(3, 3), (9, 9)]), of(&[(4, 4), (8, 8)]))
        );
        assert!(set.without(&of(&[(1, 9)])).is_empty());
    }
}
