//! A roster: things in the order of their ids, each with the span of time in which it may be seen.

use core::cmp::Ordering;

use crate::ground::memory;
use crate::ground::order::{Cut, Millis, Seq32};
use crate::ground::pack::{Pack, Packer, Unpacker, pack_fields};
use crate::ground::room;

/// A moment in six bytes. One that lies more than 4459 years from 1970 counts as the nearest that
/// does not. Of two moments the later one is never the smaller, which is all that a span needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Short {
    high: i16,
    middle: u16,
    low: u16,
}

/// The end of a span whose thing is there: later than any other moment.
const LASTING: Short = Short { high: i16::MAX, middle: u16::MAX, low: u16::MAX };

/// The bits of a moment in six bytes.
const SHORT_BITS: u32 = 48;

fn short(moment: Millis) -> Short {
    if moment == Millis::MAX {
        return LASTING;
    }
    let most = 1 << (SHORT_BITS - 1);
    let moment = moment.clamp(-most, most - 2);
    Short { high: (moment >> 32) as i16, middle: (moment >> 16) as u16, low: moment as u16 }
}

/// Bounds on the cuts at which a thing can be seen, in 20 bytes. Conservative: outside them it is
/// certainly absent, inside it may be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    first_occurred: Short,
    /// Absent at every cut with a later `as_of` whose `known_at` is at least `gone_seq`;
    /// [`LASTING`] while it is there.
    last_occurred: Short,
    first_seq: Seq32,
    gone_seq: Seq32,
}

/// The moment from which a thing is certainly absent: at cuts with `as_of >= occurred_at` and
/// `known_at >= seq`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gone {
    pub(crate) occurred_at: Millis,
    pub(crate) seq: Seq32,
}

impl Span {
    fn from(occurred_at: Millis, seq: Seq32) -> Span {
        Span {
            first_occurred: short(occurred_at),
            last_occurred: LASTING,
            first_seq: seq,
            gone_seq: 0,
        }
    }

    fn may_hold(&self, cut: Cut) -> bool {
        let (as_of, known_at) = (short(cut.as_of), cut.known_at32());
        self.first_occurred <= as_of
            && self.first_seq <= known_at
            && (as_of <= self.last_occurred || known_at < self.gone_seq)
    }

    fn may_hold_since(&self, from: Millis, seq: Seq32) -> bool {
        self.first_seq <= seq && (short(from) <= self.last_occurred || seq <= self.gone_seq)
    }

    fn cover(self, other: Span) -> Span {
        Span {
            first_occurred: self.first_occurred.min(other.first_occurred),
            last_occurred: self.last_occurred.max(other.last_occurred),
            first_seq: self.first_seq.min(other.first_seq),
            gone_seq: self.gone_seq.max(other.gone_seq),
        }
    }

    fn widen(&mut self, occurred_at: Millis, seq: Seq32) {
        self.first_occurred = self.first_occurred.min(short(occurred_at));
        self.first_seq = self.first_seq.min(seq);
    }

    /// Sets since when the thing is gone. One that was gone already stays gone from the first such
    /// record on: since then it was absent at every cut with an `as_of` after both moments.
    fn set_gone(&mut self, gone: Option<Gone>) {
        let Some(Gone { occurred_at, seq }) = gone else {
            (self.last_occurred, self.gone_seq) = (LASTING, 0);
            return;
        };
        let last = short(occurred_at.saturating_sub(1));
        if self.last_occurred == LASTING {
            (self.last_occurred, self.gone_seq) = (last, seq);
        } else {
            self.last_occurred = self.last_occurred.max(last);
        }
    }
}

/// Things in the order of their ids, in chunks that are skipped whole when nothing in them can be
/// seen.
///
/// Ids end in ULIDs, so that things created together are together and tend to leave together: a
/// question about the distant past skips nearly everything created since, and one about now nearly
/// everyone who left.
#[derive(Default)]
pub(crate) struct Roster {
    chunks: Vec<Chunk>,
}

struct Chunk {
    cover: Span,
    /// A bit for each entry, from the lowest: true while its thing is there.
    lasting: u64,
    entries: Vec<(u32, Span)>,
}

/// The most entries of a chunk: a bit of a word for each.
const CHUNK: usize = u64::BITS as usize;

/// The things that a walk looks for.
#[derive(Clone, Copy)]
enum Wanted {
    /// All.
    All,
    /// Those that may be there at a cut.
    At(Cut),
    /// Those that may be there at a cut with an `as_of` of this moment or later and a `known_at` of
    /// this record or the one before.
    Since(Millis, Seq32),
}

impl Wanted {
    /// Tells if a span may have what is looked for. True for the cover of every span for which it
    /// is true.
    fn may_be_in(self, span: &Span) -> bool {
        match self {
            Wanted::All => true,
            Wanted::At(cut) => span.may_hold(cut),
            Wanted::Since(from, seq) => span.may_hold_since(from, seq),
        }
    }

    /// Tells if of all things under a cover only those can be meant that are there to the end.
    fn is_of_lasting(self, cover: &Span) -> bool {
        match self {
            Wanted::At(cut) => cut.as_of == Millis::MAX && cover.gone_seq <= cut.known_at32(),
            Wanted::All | Wanted::Since(..) => false,
        }
    }
}

/// Inserts a bit that is set at a position of a word, and moves the higher ones up.
fn with_bit_inserted(word: u64, at: usize) -> u64 {
    let below = lowest_bits(at);
    word & below | 1 << at | (word & !below) << 1
}

/// Returns a word whose lowest bits are set.
fn lowest_bits(count: usize) -> u64 {
    !u64::MAX.checked_shl(count as u32).unwrap_or(0)
}

impl Chunk {
    fn new(entries: Vec<(u32, Span)>) -> Chunk {
        let cover = Span::from(Millis::MAX, Seq32::MAX);
        let mut chunk = Chunk { cover, lasting: 0, entries };
        chunk.refresh();
        chunk
    }

    /// Inserts an entry into a full chunk, and returns the upper part of it as another.
    fn split(&mut self, at: usize, entry: (u32, Span)) -> Chunk {
        // At the end of the roster a new chunk begins, so that ids in order of creation fill chunks
        // whole.
        let split = if at == CHUNK { CHUNK } else { CHUNK / 2 };
        let mut upper = self.entries.split_off(split);
        self.entries.shrink_to_fit();
        let (half, at) =
            if at < split { (&mut self.entries, at) } else { (&mut upper, at - split) };
        room::make(half);
        half.insert(at, entry);
        self.refresh();
        Chunk::new(upper)
    }

    /// Finds the item that `order` compares with, or the place where it would be.
    fn place_of(&self, order: &impl Fn(u32) -> Ordering) -> Result<usize, usize> {
        match self.entries.last() {
            Some((last, _)) if order(*last).is_lt() => Err(self.entries.len()),
            _ => self.entries.binary_search_by(|(other, _)| order(*other)),
        }
    }

    fn refresh(&mut self) {
        if let Some(cover) = self.entries.iter().map(|(_, span)| *span).reduce(Span::cover) {
            self.cover = cover;
        }
        self.note_lasting();
    }

    fn note_lasting(&mut self) {
        let bit =
            |(at, (_, span)): (usize, &(u32, Span))| u64::from(span.last_occurred == LASTING) << at;
        self.lasting =
            self.entries.iter().take(CHUNK).enumerate().map(bit).fold(0, |all, bit| all | bit);
    }

    /// Iterates over the wanted items among those at some positions, given as bits.
    fn items(&self, positions: u64, wanted: Wanted, descending: bool) -> impl Iterator<Item = u32> {
        let all = lowest_bits(self.entries.len());
        let may_be = if wanted.is_of_lasting(&self.cover) { self.lasting } else { all };
        let mut left = positions & may_be & all;
        core::iter::from_fn(move || {
            while left != 0 {
                let at = if descending { left.ilog2() } else { left.trailing_zeros() };
                left &= !(1 << at);
                let (item, span) = self.entries.get(at as usize)?;
                if wanted.may_be_in(span) {
                    return Some(*item);
                }
            }
            None
        })
    }
}

impl Roster {
    /// Returns the first chunk whose last item is not before the one that `order` compares with; else
    /// the last chunk, which takes what comes in order.
    fn chunk_of(&self, order: &impl Fn(u32) -> Ordering) -> usize {
        let last = self.chunks.len().saturating_sub(1);
        let is_before = |(item, _): &(u32, Span)| order(*item).is_lt();
        // Most items that are new are among the last.
        match self.chunks.last().and_then(|chunk| chunk.entries.first()).is_some_and(is_before) {
            true => last,
            false => self
                .chunks
                .partition_point(|chunk| chunk.entries.last().is_some_and(is_before))
                .min(last),
        }
    }

    /// Adds `item`, seen from an event at `(occurred_at, seq)` on, or widens its span to that
    /// event. Returns false if it is set to be gone since some moment.
    ///
    /// `order` compares the id of another item with that of `item`.
    pub(crate) fn see(
        &mut self,
        item: u32,
        occurred_at: Millis,
        seq: Seq32,
        order: impl Fn(u32) -> Ordering,
    ) -> bool {
        let index = self.chunk_of(&order);
        let span = Span::from(occurred_at, seq);
        let Some(chunk) = self.chunks.get_mut(index) else {
            room::make(&mut self.chunks);
            self.chunks.push(Chunk::new(vec![(item, span)]));
            return true;
        };
        match chunk.place_of(&order) {
            Ok(at) => {
                let Some((_, known)) = chunk.entries.get_mut(at) else { return true };
                known.widen(occurred_at, seq);
                chunk.cover.widen(occurred_at, seq);
                return known.last_occurred == LASTING;
            }
            Err(at) if chunk.entries.len() < CHUNK => {
                room::make(&mut chunk.entries);
                chunk.entries.insert(at, (item, span));
                chunk.cover = chunk.cover.cover(span);
                chunk.lasting = with_bit_inserted(chunk.lasting, at);
            }
            Err(at) => {
                let upper = chunk.split(at, (item, span));
                room::make(&mut self.chunks);
                self.chunks.insert(index + 1, upper);
            }
        }
        true
    }

    /// Sets since when `item` is gone; `None` while it is there.
    pub(crate) fn set_gone(&mut self, gone: Option<Gone>, order: impl Fn(u32) -> Ordering) {
        let index = self.chunk_of(&order);
        let Some(chunk) = self.chunks.get_mut(index) else { return };
        let Ok(at) = chunk.place_of(&order) else { return };
        let Some((_, span)) = chunk.entries.get_mut(at) else { return };
        let before = *span;
        span.set_gone(gone);
        if *span != before {
            chunk.refresh();
        }
    }

    /// Iterates over the items that may be there at `cut`, in ascending order of id: those for
    /// which `start` is `Greater`.
    pub(crate) fn ascending<'a>(
        &'a self,
        cut: Cut,
        start: &dyn Fn(u32) -> Ordering,
    ) -> impl Iterator<Item = u32> + use<'a> {
        self.ascending_where(start, Wanted::At(cut))
    }

    /// Iterates over the items that may be there at a cut with an `as_of` of `from` or later and a
    /// `known_at` of `seq` or the one before, in ascending order of id: those for which `start` is
    /// `Greater`.
    pub(crate) fn since<'a>(
        &'a self,
        from: Millis,
        seq: Seq32,
        start: &dyn Fn(u32) -> Ordering,
    ) -> impl Iterator<Item = u32> + use<'a> {
        self.ascending_where(start, Wanted::Since(from, seq))
    }

    fn ascending_where<'a>(
        &'a self,
        start: &dyn Fn(u32) -> Ordering,
        wanted: Wanted,
    ) -> impl Iterator<Item = u32> + use<'a> {
        let first = self.chunks.partition_point(|chunk| {
            chunk.entries.last().is_some_and(|(last, _)| start(*last).is_le())
        });
        let before = self
            .chunks
            .get(first)
            .map_or(0, |chunk| chunk.entries.partition_point(|(item, _)| start(*item).is_le()));
        let mut positions = !lowest_bits(before);
        let chunks = self.chunks.get(first..).unwrap_or_default().iter();
        let chunks = chunks.map(move |chunk| (chunk, core::mem::replace(&mut positions, u64::MAX)));
        chunks
            .filter(move |(chunk, _)| wanted.may_be_in(&chunk.cover))
            .flat_map(move |(chunk, positions)| chunk.items(positions, wanted, false))
    }

    /// Iterates over all items in ascending order of id: those for which `start` is `Greater`.
    pub(crate) fn all_ascending<'a>(
        &'a self,
        start: &dyn Fn(u32) -> Ordering,
    ) -> impl Iterator<Item = u32> + use<'a> {
        self.ascending_where(start, Wanted::All)
    }

    /// Iterates over all items in descending order of id: those for which `start` is `Less`.
    pub(crate) fn all_descending<'a>(
        &'a self,
        start: &dyn Fn(u32) -> Ordering,
    ) -> impl Iterator<Item = u32> + use<'a> {
        self.descending_where(start, Wanted::All)
    }

    /// Iterates over the items that may be there at `cut`, in descending order of id: those for
    /// which `start` is `Less`.
    pub(crate) fn descending<'a>(
        &'a self,
        cut: Cut,
        start: &dyn Fn(u32) -> Ordering,
    ) -> impl Iterator<Item = u32> + use<'a> {
        self.descending_where(start, Wanted::At(cut))
    }

    fn descending_where<'a>(
        &'a self,
        start: &dyn Fn(u32) -> Ordering,
        wanted: Wanted,
    ) -> impl Iterator<Item = u32> + use<'a> {
        let end = self.chunks.partition_point(|chunk| {
            chunk.entries.first().is_some_and(|(first, _)| start(*first).is_lt())
        });
        let chunks = self.chunks.get(..end).unwrap_or_default();
        let before = chunks
            .last()
            .map_or(0, |chunk| chunk.entries.partition_point(|(item, _)| start(*item).is_lt()));
        let mut positions = lowest_bits(before);
        let chunks = chunks.iter().rev();
        let chunks = chunks.map(move |chunk| (chunk, core::mem::replace(&mut positions, u64::MAX)));
        chunks
            .filter(move |(chunk, _)| wanted.may_be_in(&chunk.cover))
            .flat_map(move |(chunk, positions)| chunk.items(positions, wanted, true))
    }

    /// Returns about the bytes of memory that it takes outside of itself.
    pub(crate) fn heap_bytes(&self) -> usize {
        let of_entries = self.chunks.iter().map(|chunk| memory::of_vec(&chunk.entries));
        memory::of_vec(&self.chunks) + of_entries.sum::<usize>()
    }

    /// Iterates over all items, in ascending order of id.
    pub(crate) fn items(&self) -> impl Iterator<Item = u32> {
        self.chunks.iter().flat_map(|chunk| chunk.entries.iter().map(|(item, _)| *item))
    }
}

pack_fields!(Roster { chunks });

impl Pack for Chunk {
    fn pack(&self, to: &mut Packer<'_>) {
        // The bits are made anew from the entries.
        let Chunk { cover, lasting: _, entries } = self;
        cover.pack(to);
        entries.pack(to);
    }

    fn unpack(from: &mut Unpacker<'_>) -> Option<Self> {
        let mut chunk =
            Chunk { cover: Pack::unpack(from)?, lasting: 0, entries: Pack::unpack(from)? };
        chunk.note_lasting();
        Some(chunk)
    }
}

pack_fields!(Span { first_occurred, last_occurred, first_seq, gone_seq });
pack_fields!(Short { high, middle, low });

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn check(numbers: impl Iterator<Item = u32>) {
        let (mut roster, mut plain) = (Roster::default(), BTreeMap::new());
        for (index, item) in numbers.enumerate() {
            let seq = index as u32 + 1;
            roster.see(item, i64::from(seq), seq, |other| other.cmp(&item));
            plain.entry(item).or_insert((i64::from(seq), i64::MAX));
            if item % 3 == 0 {
                roster.set_gone(Some(Gone { occurred_at: i64::from(seq) + 10, seq }), |other| {
                    other.cmp(&item)
                });
                plain.entry(item).and_modify(|times| times.1 = i64::from(seq) + 9);
            }
        }
        assert!(roster.items().eq(plain.keys().copied()));
        for start in [0, 1, 77, 500, 1001] {
            let order = |other: u32| other.cmp(&start);
            let up = plain.keys().copied().filter(|item| *item > start);
            assert!(roster.all_ascending(&order).eq(up), "above {start}");
            let down = plain.keys().rev().copied().filter(|item| *item < start);
            assert!(roster.all_descending(&order).eq(down), "below {start}");
        }
        for as_of in [0, 1, 40, 300, i64::MAX] {
            for start in [0, 1, 77, 500, 1001] {
                let cut = Cut { as_of, ..Cut::LATEST };
                let seen = |item: &u32| plain[item].0 <= as_of && as_of <= plain[item].1;
                let up: Vec<u32> =
                    plain.keys().copied().filter(|item| *item > start && seen(item)).collect();
                assert_eq!(
                    roster.ascending(cut, &|other| other.cmp(&start)).collect::<Vec<_>>(),
                    up
                );
                let down: Vec<u32> = plain
                    .keys()
                    .rev()
                    .copied()
                    .filter(|item| *item < start && seen(item))
                    .collect();
                assert_eq!(
                    roster.descending(cut, &|other| other.cmp(&start)).collect::<Vec<_>>(),
                    down
                );
            }
        }
    }

    #[test]
    fn items_come_back_in_order_from_any_cursor_and_only_while_they_may_be_there() {
        check(1..1000);
        check((1..1000).rev());
        check((1..1000).map(|n| n * 617 % 1000));
        check([5, 5, 5, 6, 5].into_iter());
    }

    #[test]
    fn a_question_about_now_is_proposed_those_who_are_there_and_no_other() {
        for count in [1, 63, 64, 65, 1000] {
            let mut roster = Roster::default();
            for item in 0..count {
                let order = |other: u32| other.cmp(&item);
                roster.see(item, i64::from(item), item + 1, order);
                if !item.is_multiple_of(5) {
                    roster.set_gone(Some(Gone { occurred_at: 5000, seq: count + item }), order);
                }
            }
            let there = |known_at: u32| {
                let is_gone = move |item: u32| !item.is_multiple_of(5) && count + item <= known_at;
                (0..count).filter(move |item| !is_gone(*item))
            };
            for known_at in [count, count + 70, 2 * count, 9999] {
                let cut = Cut { as_of: Millis::MAX, known_at: u64::from(known_at) };
                let up = roster.ascending(cut, &|_| Ordering::Greater);
                assert!(up.eq(there(known_at)), "{count} {known_at}");
                let down: Vec<u32> = roster.descending(cut, &|_| Ordering::Less).collect();
                assert!(there(known_at).eq(down.into_iter().rev()), "{count} {known_at}");
            }
        }
    }

    #[test]
    fn an_item_not_yet_known_to_be_gone_is_still_proposed() {
        let mut roster = Roster::default();
        roster.see(1, 10, 1, |other| other.cmp(&1));
        roster.set_gone(Some(Gone { occurred_at: 20, seq: 7 }), |other| other.cmp(&1));
        let proposed = |as_of, known_at| {
            roster.ascending(Cut { as_of, known_at }, &|_| Ordering::Greater).count()
        };
        assert_eq!(
            [proposed(9, 9), proposed(19, 9), proposed(20, 6), proposed(20, 7), proposed(10, 0)],
            [0, 1, 1, 0, 0]
        );
    }

    #[test]
    fn an_item_that_ends_twice_is_gone_from_the_first_record_and_the_later_moment_on() {
        let mut roster = Roster::default();
        roster.see(1, 10, 1, |other| other.cmp(&1));
        let proposed = |roster: &Roster, as_of, known_at| {
            roster.ascending(Cut { as_of, known_at }, &|_| Ordering::Greater).count()
        };
        let since =
            |roster: &Roster, from, seq| roster.since(from, seq, &|_| Ordering::Greater).count();
        let end = |occurred_at, seq| Some(Gone { occurred_at, seq });
        roster.set_gone(end(30, 7), |other| other.cmp(&1));
        roster.set_gone(end(20, 9), |other| other.cmp(&1));
        assert_eq!([29, 30].map(|as_of| proposed(&roster, as_of, 7)), [1, 0]);
        assert_eq!([6, 7, 9].map(|known_at| proposed(&roster, 30, known_at)), [1, 0, 0]);
        // With record 7 and without it, up to the end and after it; and with record 8.
        assert_eq!(
            [(29, 8), (30, 7), (30, 8)].map(|(from, seq)| since(&roster, from, seq)),
            [1, 1, 0]
        );
        roster.set_gone(None, |other| other.cmp(&1));
        assert_eq!(since(&roster, 30, 10), 1);
    }

    #[test]
    fn an_item_that_comes_back_is_proposed_although_its_neighbours_are_gone() {
        let mut roster = Roster::default();
        for item in 1..=192 {
            roster.see(item, 1, item, |other| other.cmp(&item));
        }
        for item in 65..=128 {
            roster.set_gone(Some(Gone { occurred_at: 2, seq: 200 }), |other| other.cmp(&item));
        }
        assert_eq!(roster.ascending(Cut::LATEST, &|_| Ordering::Greater).count(), 128);
        roster.set_gone(None, |other| other.cmp(&100));
        assert!(roster.ascending(Cut::LATEST, &|_| Ordering::Greater).any(|item| item == 100));
        assert!(roster.descending(Cut::LATEST, &|_| Ordering::Less).any(|item| item == 100));
    }

    #[test]
    fn an_item_is_proposed_at_every_millisecond_of_its_life() {
        for first in [Millis::MIN, -(1 << 50), -(1 << 32), -1, 1_790_000_000_123, 1 << 50] {
            let gone_at = first + 70_000;
            let mut roster = Roster::default();
            roster.see(1, first, 1, |other| other.cmp(&1));
            roster.set_gone(Some(Gone { occurred_at: gone_at, seq: 1 }), |other| other.cmp(&1));
            let proposed = |as_of| {
                roster.ascending(Cut { as_of, known_at: 1 }, &|_| Ordering::Greater).count()
            };
            for as_of in first..gone_at {
                assert_eq!(proposed(as_of), 1, "{first} {as_of}");
            }
            assert_eq!(proposed(Millis::MAX), 0, "{first}");
            // Moments as near as those of people are told apart.
            if first.unsigned_abs() < 1 << 46 {
                assert_eq!([first - 1, gone_at].map(proposed), [0, 0], "{first}");
            }
        }
    }
}
