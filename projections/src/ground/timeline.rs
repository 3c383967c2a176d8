//! A timeline: the versions of one thing in the order of events, cut by both clocks in logarithmic
//! time.

use core::ops::Range;

use smallvec::SmallVec;

use crate::ground::looks;
use crate::ground::memory;
use crate::ground::order::{Cut, EventIds, Millis, Place, Seq, Seq32};
use crate::ground::pack::{Pack, Packer, Unpacker};
use crate::ground::room;

/// Moments in order, or in the opposite order.
pub(crate) type MomentWalk<'a> = Box<dyn Iterator<Item = Millis> + 'a>;

/// Respects in which two versions may be alike, a bit for each. Only a kind of version knows what
/// its bits mean.
pub(crate) type Respects = u8;

/// A thing with a place in the order of events.
pub(crate) trait Placed: Copy {
    fn place(&self) -> Place;

    /// Returns the respects in which it is like another version; none for a kind of version that
    /// is not compared.
    fn alike(&self, _other: &Self) -> Respects {
        0
    }

    /// Tells if it is like another version in all of some respects.
    fn is_alike_in(&self, other: &Self, respects: Respects) -> bool {
        self.alike(other) & respects == respects
    }
}

impl Placed for Place {
    fn place(&self) -> Place {
        *self
    }
}

/// Versions in the order of events.
///
/// The newest is held apart from the others, so that a question about now reads nothing else; most
/// timelines hold one version anyway, and take no more than it and a pointer.
pub(crate) struct Timeline<V> {
    newest: Option<V>,
    /// `None` while there is at most one version.
    older: Option<Box<Older<V>>>,
}

/// All versions but the newest, in the order of events.
///
/// Past [`BLOCK`] of them a two-level index of the lowest seq in each block is kept, so that a
/// question with an early `known_at` does not walk over everything learnt since. It also tells in
/// which respects the versions of a block are all alike, so that a search for the next change
/// passes over what repeats.
struct Older<V> {
    versions: SmallVec<[V; 1]>,
    index: Option<Box<Index>>,
    /// True if the version that was added last is one of these.
    is_last_late: bool,
}

/// Versions in a block, and blocks in a group of blocks.
const BLOCK: usize = 64;
/// Versions in a group of blocks.
const GROUP: usize = BLOCK * BLOCK;

#[derive(Default)]
struct Index {
    /// When each block's first version occurred.
    starts: Vec<Millis>,
    /// The lowest and the highest seq in each block.
    lowest: Vec<Seq32>,
    highest: Vec<Seq32>,
    /// The respects in which all versions of each block are alike.
    alike: Vec<Respects>,
    /// The lowest seq in each group of [`BLOCK`] blocks.
    group_lowest: Vec<Seq32>,
    /// The respects in which all versions of each group of blocks are alike.
    group_alike: Vec<Respects>,
}

impl<V> Default for Timeline<V> {
    fn default() -> Self {
        Timeline { newest: None, older: None }
    }
}

impl<V> Default for Older<V> {
    fn default() -> Self {
        Older { versions: SmallVec::new(), index: None, is_last_late: false }
    }
}

impl<V: Placed> Timeline<V> {
    /// Inserts `version` at its place; true if it is now the newest. O(1) for the newest, O(n)
    /// moves for a late one.
    pub(crate) fn insert(&mut self, version: V, ids: &EventIds) -> bool {
        let place = version.place();
        let Some(newest) = self.newest else {
            self.newest = Some(version);
            return true;
        };
        let older = self.older.get_or_insert_default();
        older.is_last_late = false;
        if ids.is_later(place, newest.place()) {
            self.newest = Some(version);
            older.insert(older.versions.len(), newest);
            return true;
        }
        let at = older.versions.partition_point(|v| !ids.is_later(v.place(), place));
        older.insert(at, version);
        older.is_last_late = true;
        newest.place().seq == place.seq
    }

    pub(crate) fn newest(&self) -> Option<&V> {
        self.newest.as_ref()
    }

    /// Returns the number of versions.
    pub(crate) fn len(&self) -> usize {
        self.older().len() + usize::from(self.newest.is_some())
    }

    fn older(&self) -> &[V] {
        self.older.as_ref().map_or(&[], |older| &older.versions)
    }

    /// Returns the latest version that `cut` sees.
    pub(crate) fn latest(&self, cut: Cut) -> Option<&V> {
        let newest = self.newest.as_ref()?;
        if cut.sees(newest.place()) {
            return Some(newest);
        }
        self.older.as_ref()?.latest(cut)
    }

    /// Iterates over the versions that `cut` sees, the latest first. What is not known at the cut is
    /// passed over in blocks.
    pub(crate) fn latest_first(&self, cut: Cut) -> impl Iterator<Item = &V> {
        let (mut end, known_at) = (self.count_until(cut.as_of), cut.known_at32());
        core::iter::from_fn(move || {
            end = self.last_known(end, known_at)?;
            self.get(end)
        })
    }

    /// Iterates over the versions from a moment on that a cut sees. What is not known at the cut is
    /// passed over in blocks.
    pub(crate) fn seen_since(&self, moment: Millis, cut: Cut) -> impl Iterator<Item = &V> {
        let (older, index) = (self.older(), self.index());
        let mut at = self.first_since(moment);
        let known_at = cut.known_at32();
        let is_late = move |version: &&V| version.place().occurred_at >= moment;
        let newest =
            self.newest.iter().filter(is_late).filter(move |newest| cut.sees(newest.place()));
        let seen = core::iter::from_fn(move || {
            loop {
                let version = older.get(at)?;
                looks::count();
                let place = version.place();
                if place.occurred_at > cut.as_of {
                    return None;
                }
                at += 1;
                if place.seq <= known_at {
                    return Some(version);
                }
                at = index.map_or(at, |index| index.skip(at, known_at));
            }
        });
        seen.chain(newest)
    }

    /// Walks over the moments of the versions that a cut sees, from one on or back from it, without
    /// those that are like the seen one before them in all of some respects. A block of versions
    /// that are all alike costs one look.
    pub(crate) fn changes(
        &self,
        respects: Respects,
        from: Millis,
        descending: bool,
        cut: Cut,
    ) -> MomentWalk<'_> {
        if descending {
            let then = Cut { as_of: from.min(cut.as_of), ..cut };
            self.changes_back(respects, then)
        } else {
            self.changes_since(respects, from, cut)
        }
    }

    fn changes_since(&self, respects: Respects, from: Millis, cut: Cut) -> MomentWalk<'_> {
        let mut at = self.partition_point(|version| version.place().occurred_at < from);
        let (known_at, mut before) = (cut.known_at32(), None::<&V>);
        Box::new(core::iter::from_fn(move || {
            loop {
                at = self.next_known(at, known_at)?;
                let version = self.get(at)?;
                let occurred_at = version.place().occurred_at;
                if occurred_at > cut.as_of {
                    return None;
                }
                at = self.alike_around(at, respects).end;
                let before = before.replace(version);
                if before.is_none_or(|before| !before.is_alike_in(version, respects)) {
                    return Some(occurred_at);
                }
            }
        }))
    }

    fn changes_back(&self, respects: Respects, cut: Cut) -> MomentWalk<'_> {
        let (mut end, known_at) = (self.count_until(cut.as_of), cut.known_at32());
        Box::new(core::iter::from_fn(move || {
            let mut first = self.last_known(end, known_at)?;
            let version = self.get(first)?;
            end = loop {
                first = self.next_known(self.alike_around(first, respects).start, known_at)?;
                let Some(before) = self.last_known(first, known_at) else { break 0 };
                if !self.get(before)?.is_alike_in(version, respects) {
                    break before + 1;
                }
                first = before;
            };
            self.get(first).map(|version| version.place().occurred_at)
        }))
    }

    /// Returns the positions of the largest block around a version in which all are alike in all of
    /// some respects: of the version alone, if there is none.
    fn alike_around(&self, at: usize, respects: Respects) -> Range<usize> {
        let older = self.older().len();
        let block = self.index().filter(|_| at < older);
        let block = block.and_then(|index| index.alike_around(at, respects));
        block.map_or(at..at + 1, |block| block.start..block.end.min(older))
    }

    /// Walks over the moments of the versions that a cut sees: from one on, or back from it.
    pub(crate) fn moments(&self, from: Millis, descending: bool, cut: Cut) -> MomentWalk<'_> {
        let occurred_at = |version: &V| version.place().occurred_at;
        if descending {
            let then = Cut { as_of: from.min(cut.as_of), ..cut };
            Box::new(self.latest_first(then).map(occurred_at))
        } else {
            Box::new(self.seen_since(from, cut).map(occurred_at))
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &V> {
        self.older().iter().chain(&self.newest).inspect(|_| looks::count())
    }

    /// Iterates over the versions of a moment and all later ones. O(log n), plus the versions
    /// returned.
    pub(crate) fn since(&self, moment: Millis) -> impl Iterator<Item = &V> {
        let first = self.first_since(moment);
        self.older()
            .iter()
            .skip(first)
            .chain(&self.newest)
            .inspect(|_| looks::count())
            .filter(move |version| version.place().occurred_at >= moment)
    }

    /// Iterates over the versions of one millisecond. O(log n).
    pub(crate) fn at(&self, moment: Millis) -> impl Iterator<Item = &V> {
        let older = self
            .older()
            .iter()
            .skip(self.first_since(moment))
            .take_while(move |version| version.place().occurred_at == moment);
        older.chain(self.newest.iter().filter(move |version| version.place().occurred_at == moment))
    }

    /// Returns the versions right before and right after the one of record `seq` at `moment`.
    /// O(log n), plus the versions of that millisecond.
    pub(crate) fn neighbours(&self, moment: Millis, seq: Seq) -> (Option<&V>, Option<&V>) {
        let is_it = |version: &V| Seq::from(version.place().seq) == seq;
        let first = self.first_since(moment);
        let Some(at) = self.at(moment).position(is_it).map(|at| first + at) else {
            return (None, None);
        };
        let older = self.older();
        let before = at.checked_sub(1).and_then(|before| older.get(before));
        (before, older.get(at + 1).or(self.newest.as_ref()).filter(|next| !is_it(next)))
    }

    /// Returns the version at a position, from 0 in order.
    pub(crate) fn get(&self, at: usize) -> Option<&V> {
        looks::count();
        self.older().get(at).or_else(|| self.newest.as_ref().filter(|_| at == self.older().len()))
    }

    /// Returns the number of versions up to a moment. O(log n).
    pub(crate) fn count_until(&self, as_of: Millis) -> usize {
        let newest = self.newest.iter().filter(|newest| newest.place().occurred_at <= as_of);
        self.older_until(as_of) + newest.count()
    }

    /// Returns the number of versions of which `is_before` is true. It must be true of the first
    /// ones and false of all others. O(log n).
    pub(crate) fn partition_point(&self, is_before: impl Fn(&V) -> bool) -> usize {
        match &self.newest {
            Some(newest) if is_before(newest) => self.older().len() + 1,
            _ => self.older().partition_point(is_before),
        }
    }

    /// Returns the first position from one on whose version was recorded up to a record. What was
    /// recorded later is passed over in blocks.
    pub(crate) fn next_known(&self, mut at: usize, known_at: Seq32) -> Option<usize> {
        while self.get(at)?.place().seq > known_at {
            at += 1;
            if let (Some(index), older) = (self.index(), self.older().len())
                && at < older
            {
                // The last block may be a part of one, and the newest version is in none.
                at = index.skip(at, known_at).min(older);
            }
        }
        Some(at)
    }

    /// Returns the last position before one whose version was recorded up to a record. What was
    /// recorded later is passed over in blocks.
    pub(crate) fn last_known(&self, before: usize, known_at: Seq32) -> Option<usize> {
        let mut at = before.min(self.len()).checked_sub(1)?;
        while self.get(at)?.place().seq > known_at {
            at = self.index().map_or(at, |index| index.skip_back(at, known_at)).checked_sub(1)?;
        }
        Some(at)
    }

    /// Returns the place of the newest record among the versions that a cut sees. O(log n), plus
    /// a look at each block of versions up to the cut's moment, and at the versions of those
    /// blocks that hold a newer record than the ones behind them.
    pub(crate) fn newest_record(&self, cut: Cut) -> Option<Place> {
        let mut newest =
            self.newest.map(|version| version.place()).filter(|place| cut.sees(*place));
        let (older, known_at) = (self.older(), cut.known_at32());
        let mut end = self.older_until(cut.as_of);
        while end > 0 {
            let first = (end - 1) / BLOCK * BLOCK;
            let has_newer = self.index().is_none_or(|index| {
                let found = newest.map_or(0, |place| place.seq);
                index.may_have_between(first / BLOCK, found, known_at)
            });
            if has_newer {
                let block = older.get(first..end).unwrap_or_default();
                let places = block.iter().map(Placed::place);
                let known = places.filter(|place| place.seq <= known_at);
                newest = known.chain(newest).max_by_key(|place| place.seq);
            }
            end = first;
        }
        newest
    }

    /// Returns the lowest seq among the versions from one position up to another.
    pub(crate) fn lowest_seq(&self, first: usize, end: usize) -> Seq32 {
        let (mut at, mut lowest) = (first, Seq32::MAX);
        while at < end {
            let whole = self.index().and_then(|index| index.lowest_of_block(at, end));
            let (seq, width) = whole.unwrap_or_else(|| {
                (self.get(at).map_or(Seq32::MAX, |version| version.place().seq), 1)
            });
            lowest = lowest.min(seq);
            at += width;
        }
        lowest
    }

    /// Returns the newest version if it is the one that was added last.
    pub(crate) fn last_added(&self) -> Option<&V> {
        let has_late = self.older.as_ref().is_some_and(|older| older.is_last_late);
        self.newest.as_ref().filter(|_| !has_late)
    }

    fn index(&self) -> Option<&Index> {
        self.older.as_ref()?.index.as_deref()
    }

    /// Returns the number of older versions that occurred at or before `as_of`.
    fn older_until(&self, as_of: Millis) -> usize {
        self.older.as_ref().map_or(0, |older| older.until(as_of))
    }

    /// Returns the number of older versions that occurred before a moment.
    fn first_since(&self, moment: Millis) -> usize {
        self.older().partition_point(|version| version.place().occurred_at < moment)
    }

    /// Returns about the bytes of memory that it takes outside of itself.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.older.as_ref().map_or(0, |older| older.heap_bytes())
    }
}

impl<V: Placed> Older<V> {
    fn insert(&mut self, at: usize, version: V) {
        room::make_in_small(&mut self.versions);
        self.versions.insert(at, version);
        if self.versions.len() > BLOCK {
            let index = self.index.get_or_insert_default();
            let is_last = at + 1 == self.versions.len();
            if !(is_last && index.add_last(&self.versions)) {
                index.refresh(&self.versions, at);
            }
        }
    }

    /// Returns the latest version that `cut` sees.
    fn latest(&self, cut: Cut) -> Option<&V> {
        let known_at = cut.known_at32();
        let mut end = self.until(cut.as_of);
        while let Some(at) = end.checked_sub(1) {
            let version = self.versions.get(at)?;
            looks::count();
            if version.place().seq <= known_at {
                return Some(version);
            }
            end = self.index.as_ref().map_or(at, |index| index.skip_back(at, known_at));
        }
        None
    }

    /// Returns the number of versions that occurred at or before `as_of`.
    fn until(&self, as_of: Millis) -> usize {
        let versions = &self.versions[..];
        if versions.last().is_none_or(|last| last.place().occurred_at <= as_of) {
            return versions.len();
        }
        let Some(index) = &self.index else {
            return versions.partition_point(|v| v.place().occurred_at <= as_of);
        };
        let blocks = index.starts.partition_point(|start| *start <= as_of);
        let Some(first) = blocks.checked_sub(1).map(|block| block * BLOCK) else { return 0 };
        let block = versions.get(first..versions.len().min(first + BLOCK)).unwrap_or_default();
        first + block.partition_point(|v| v.place().occurred_at <= as_of)
    }

    fn heap_bytes(&self) -> usize {
        let index = self.index.as_ref().map_or(0, |index| {
            memory::of_box::<Index>()
                + memory::of_vec(&index.starts)
                + memory::of_vec(&index.lowest)
                + memory::of_vec(&index.highest)
                + memory::of_vec(&index.alike)
                + memory::of_vec(&index.group_lowest)
                + memory::of_vec(&index.group_alike)
        });
        memory::of_box::<Older<V>>() + memory::of_small_vec(&self.versions) + index
    }
}

impl Index {
    /// Returns the first position from one on that is not in a block of versions that are all
    /// unknown.
    fn skip(&self, mut at: usize, known_at: Seq32) -> usize {
        while let Some(width) = self.unknown_around(at, known_at) {
            at = (at / width + 1) * width;
        }
        at
    }

    /// Returns a position up to another, such that the one before it is in no block of versions
    /// that are all unknown; 0 if there is none.
    fn skip_back(&self, mut end: usize, known_at: Seq32) -> usize {
        while let Some(last) = end.checked_sub(1)
            && let Some(width) = self.unknown_around(last, known_at)
        {
            end = last / width * width;
        }
        end
    }

    /// Returns the width of the largest block around a position whose versions are all unknown, if
    /// there is one.
    fn unknown_around(&self, at: usize, known_at: Seq32) -> Option<usize> {
        let is_unknown = |lowest: &[Seq32], width: usize| {
            lowest.get(at / width).is_some_and(|lowest| *lowest > known_at)
        };
        if is_unknown(&self.group_lowest, GROUP) {
            Some(GROUP)
        } else {
            is_unknown(&self.lowest, BLOCK).then_some(BLOCK)
        }
    }

    /// Returns the positions of the largest block around one whose versions are all alike in all of
    /// some respects, if there is one. The last block may end later than the versions do.
    fn alike_around(&self, at: usize, respects: Respects) -> Option<Range<usize>> {
        let is_alike = |alike: &[Respects], width: usize| {
            alike.get(at / width).is_some_and(|alike| alike & respects == respects)
        };
        let width = if is_alike(&self.group_alike, GROUP) {
            GROUP
        } else if is_alike(&self.alike, BLOCK) {
            BLOCK
        } else {
            return None;
        };
        let first = at / width * width;
        Some(first..first + width)
    }

    /// Returns the lowest seq of the largest block that begins at a position and ends before
    /// another, and the number of its versions.
    fn lowest_of_block(&self, at: usize, end: usize) -> Option<(Seq32, usize)> {
        let of = |lowest: &[Seq32], width: usize| {
            let fits = at.is_multiple_of(width) && at + width <= end;
            lowest.get(at / width).filter(|_| fits).map(|lowest| (*lowest, width))
        };
        of(&self.group_lowest, GROUP).or_else(|| of(&self.lowest, BLOCK))
    }

    /// Tells if a block may have a record after one and up to another.
    fn may_have_between(&self, block: usize, after: Seq32, up_to: Seq32) -> bool {
        let lowest = self.lowest.get(block).is_none_or(|lowest| *lowest <= up_to);
        lowest && self.highest.get(block).is_none_or(|highest| *highest > after)
    }

    /// Adds the last of some versions to the last block, if it is not the first one there. O(1).
    fn add_last<V: Placed>(&mut self, versions: &[V]) -> bool {
        let Some((last, before)) = versions.split_last() else { return false };
        let (block, group) = (before.len() / BLOCK * BLOCK, before.len() / GROUP * GROUP);
        let (Some(first), Some(first_of_group)) = (before.get(block), before.get(group)) else {
            return false;
        };
        let Some(highest) = self.highest.last_mut() else { return false };
        let lowest = (self.lowest.last_mut(), self.group_lowest.last_mut());
        let alike = (self.alike.last_mut(), self.group_alike.last_mut());
        let (Some(lowest), Some(group_lowest)) = lowest else { return false };
        let (Some(alike), Some(group_alike)) = alike else { return false };
        let seq = last.place().seq;
        *lowest = seq.min(*lowest);
        *highest = seq.max(*highest);
        *group_lowest = seq.min(*group_lowest);
        *alike &= first.alike(last);
        *group_alike &= first_of_group.alike(last);
        true
    }

    /// Recomputes every block from the one that holds version `at`.
    fn refresh<V: Placed>(&mut self, versions: &[V], at: usize) {
        let block = (at / BLOCK).min(self.starts.len());
        self.starts.truncate(block);
        self.lowest.truncate(block);
        self.highest.truncate(block);
        self.alike.truncate(block);
        for versions in versions.chunks(BLOCK).skip(block) {
            self.starts.push(versions.first().map_or(Millis::MAX, |v| v.place().occurred_at));
            self.lowest.push(versions.iter().map(|v| v.place().seq).min().unwrap_or(Seq32::MAX));
            self.highest.push(versions.iter().map(|v| v.place().seq).max().unwrap_or(0));
            self.alike.push(alike_in_all(versions.iter()));
        }
        let group = (block / BLOCK).min(self.group_lowest.len());
        self.group_lowest.truncate(group);
        self.group_alike.truncate(group);
        let blocks = self.lowest.chunks(BLOCK).zip(self.alike.chunks(BLOCK));
        for ((lowest, alike), versions) in blocks.zip(versions.chunks(GROUP)).skip(group) {
            self.group_lowest.push(lowest.iter().copied().min().unwrap_or(Seq32::MAX));
            let firsts = alike_in_all(versions.iter().step_by(BLOCK));
            self.group_alike.push(alike.iter().fold(firsts, |all, alike| all & alike));
        }
    }
}

/// Returns the respects in which some versions are all alike.
fn alike_in_all<'v, V: Placed + 'v>(mut versions: impl Iterator<Item = &'v V>) -> Respects {
    let Some(first) = versions.next() else { return Respects::MAX };
    versions.fold(Respects::MAX, |alike, version| alike & first.alike(version))
}

/// A timeline that is empty for most things; an empty one takes the room of one pointer.
pub(crate) struct Rare<V>(Option<Box<Timeline<V>>>);

impl<V> Rare<V> {
    /// One without any version.
    pub(crate) const EMPTY: Rare<V> = Rare(None);
}

impl<V> Default for Rare<V> {
    fn default() -> Self {
        Rare(None)
    }
}

impl<V: Placed> Rare<V> {
    pub(crate) fn insert(&mut self, version: V, ids: &EventIds) {
        self.0.get_or_insert_default().insert(version, ids);
    }

    /// Returns about the bytes of memory that it takes outside of itself.
    pub(crate) fn heap_bytes(&self) -> usize {
        let of_timeline =
            |timeline: &Timeline<V>| memory::of_box::<Timeline<V>>() + timeline.heap_bytes();
        self.0.as_deref().map_or(0, of_timeline)
    }

    pub(crate) fn newest(&self) -> Option<&V> {
        self.0.as_ref()?.newest()
    }

    /// Returns the number of versions.
    pub(crate) fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |timeline| timeline.len())
    }

    pub(crate) fn latest(&self, cut: Cut) -> Option<&V> {
        self.0.as_ref()?.latest(cut)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &V> {
        self.0.iter().flat_map(|timeline| timeline.iter())
    }

    pub(crate) fn since(&self, moment: Millis) -> impl Iterator<Item = &V> {
        self.0.iter().flat_map(move |timeline| timeline.since(moment))
    }

    pub(crate) fn at(&self, moment: Millis) -> impl Iterator<Item = &V> {
        self.0.iter().flat_map(move |timeline| timeline.at(moment))
    }

    /// Returns the versions right before and right after the one of record `seq` at `moment`.
    pub(crate) fn neighbours(&self, moment: Millis, seq: Seq) -> (Option<&V>, Option<&V>) {
        self.0.as_ref().map_or((None, None), |timeline| timeline.neighbours(moment, seq))
    }

    /// Iterates over the versions from a moment on that a cut sees.
    pub(crate) fn seen_since(&self, moment: Millis, cut: Cut) -> impl Iterator<Item = &V> {
        self.0.iter().flat_map(move |timeline| timeline.seen_since(moment, cut))
    }

    /// Walks over the moments of the versions that a cut sees: from one on, or back from it.
    pub(crate) fn moments(&self, from: Millis, descending: bool, cut: Cut) -> MomentWalk<'_> {
        match &self.0 {
            Some(timeline) => timeline.moments(from, descending, cut),
            None => Box::new(core::iter::empty()),
        }
    }

    /// Walks over the moments at which what a cut sees changes in some respects, as for a timeline.
    pub(crate) fn changes(
        &self,
        respects: Respects,
        from: Millis,
        descending: bool,
        cut: Cut,
    ) -> MomentWalk<'_> {
        match &self.0 {
            Some(timeline) => timeline.changes(respects, from, descending, cut),
            None => Box::new(core::iter::empty()),
        }
    }

    /// Returns the version at a position, from 0 in order.
    pub(crate) fn get(&self, at: usize) -> Option<&V> {
        self.0.as_ref()?.get(at)
    }

    /// Returns the number of versions up to a moment. O(log n).
    pub(crate) fn count_until(&self, as_of: Millis) -> usize {
        self.0.as_ref().map_or(0, |timeline| timeline.count_until(as_of))
    }

    /// Returns the number of versions of which `is_before` is true, as for a timeline.
    pub(crate) fn partition_point(&self, is_before: impl Fn(&V) -> bool) -> usize {
        self.0.as_ref().map_or(0, |timeline| timeline.partition_point(is_before))
    }

    /// Returns the first position from one on that is known, as for a timeline.
    pub(crate) fn next_known(&self, at: usize, known_at: Seq32) -> Option<usize> {
        self.0.as_ref()?.next_known(at, known_at)
    }

    /// Returns the last position before one that is known, as for a timeline.
    pub(crate) fn last_known(&self, before: usize, known_at: Seq32) -> Option<usize> {
        self.0.as_ref()?.last_known(before, known_at)
    }

    /// Returns the place of the newest record among the versions that a cut sees, as for a
    /// timeline.
    pub(crate) fn newest_record(&self, cut: Cut) -> Option<Place> {
        self.0.as_ref()?.newest_record(cut)
    }

    /// Returns the lowest seq among the versions from one position up to another.
    pub(crate) fn lowest_seq(&self, first: usize, end: usize) -> Seq32 {
        self.0.as_ref().map_or(Seq32::MAX, |timeline| timeline.lowest_seq(first, end))
    }

    /// Iterates backward over the versions that a cut sees, from the latest on.
    pub(crate) fn latest_first(&self, cut: Cut) -> impl Iterator<Item = &V> {
        self.0.iter().flat_map(move |timeline| timeline.latest_first(cut))
    }
}

/// The first of some events in their order, at any `known_at`: each step is earlier than all that
/// was known before it.
pub(crate) struct Earliest<V>(SmallVec<[V; 1]>);

impl<V> Default for Earliest<V> {
    fn default() -> Self {
        Earliest(SmallVec::new())
    }
}

impl<V: Placed> Earliest<V> {
    /// Notes an event, in order of seq; true if it is earlier than all before it.
    pub(crate) fn note(&mut self, version: V, ids: &EventIds) -> bool {
        let earlier = self.0.last().is_none_or(|last| ids.is_later(last.place(), version.place()));
        if earlier {
            self.0.push(version);
        }
        earlier
    }

    /// Tells if record `seq` was earlier than all before it. O(log n).
    pub(crate) fn has(&self, seq: Seq) -> bool {
        self.0.binary_search_by_key(&seq, |version| Seq::from(version.place().seq)).is_ok()
    }

    /// Returns the first event that `cut` sees.
    pub(crate) fn at(&self, cut: Cut) -> Option<&V> {
        let known_at = cut.known_at32();
        let until = self.0.partition_point(|v| v.place().seq <= known_at);
        let known = self.0.get(until.checked_sub(1)?)?;
        (known.place().occurred_at <= cut.as_of).then_some(known)
    }
}

impl<V: Placed + Pack> Pack for Timeline<V> {
    fn pack(&self, to: &mut Packer<'_>) {
        let Timeline { newest, older } = self;
        newest.pack(to);
        older.pack(to);
    }

    fn unpack(from: &mut Unpacker<'_>) -> Option<Self> {
        Some(Timeline { newest: Pack::unpack(from)?, older: Pack::unpack(from)? })
    }
}

impl<V: Placed + Pack> Pack for Older<V> {
    fn pack(&self, to: &mut Packer<'_>) {
        // The index is made anew from the versions.
        let Older { versions, index: _, is_last_late } = self;
        versions.pack(to);
        is_last_late.pack(to);
    }

    fn unpack(from: &mut Unpacker<'_>) -> Option<Self> {
        let versions: SmallVec<[V; 1]> = Pack::unpack(from)?;
        let is_last_late = Pack::unpack(from)?;
        let index = (versions.len() > BLOCK).then(|| {
            let mut index = Box::<Index>::default();
            index.refresh(&versions, 0);
            index
        });
        Some(Older { versions, index, is_last_late })
    }
}

impl<V: Placed + Pack> Pack for Rare<V> {
    fn pack(&self, to: &mut Packer<'_>) {
        let Rare(timeline) = self;
        timeline.pack(to);
    }

    fn unpack(from: &mut Unpacker<'_>) -> Option<Self> {
        Pack::unpack(from).map(Rare)
    }
}

impl<V: Placed + Pack> Pack for Earliest<V> {
    fn pack(&self, to: &mut Packer<'_>) {
        let Earliest(steps) = self;
        steps.pack(to);
    }

    fn unpack(from: &mut Unpacker<'_>) -> Option<Self> {
        Pack::unpack(from).map(Earliest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ground::order::NO_UPDATED_AT;

    /// A small generator, so that the pure crate needs no dependency for its tests.
    struct Dice(u64);

    impl Dice {
        fn below(&mut self, bound: u64) -> u64 {
            self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (self.0 >> 33) % bound
        }
    }

    #[test]
    fn the_latest_version_equals_a_scan_at_every_cut_and_length() {
        for (length, late_in_100) in [(1, 0), (63, 5), (65, 5), (500, 5), (500, 100), (9000, 2)] {
            let mut dice = Dice(length);
            let (mut timeline, mut plain, mut earliest) =
                (Timeline::default(), Vec::new(), Earliest::default());
            let mut ids = EventIds::default();
            for seq in 1..=length as u32 {
                let occurred_at = if dice.below(100) < late_in_100 {
                    dice.below(u64::from(seq) + 1) as i64
                } else {
                    i64::from(seq)
                };
                let place = Place {
                    occurred_at,
                    updated_at: NO_UPDATED_AT,
                    seq,
                    closing: dice.below(2) == 0,
                };
                ids.push(seq, &format!("e{:03}", dice.below(1000)));
                timeline.insert(place, &ids);
                earliest.note(place, &ids);
                plain.push(place);
            }
            plain.sort_by(|a, b| ids.compare(*a, *b));
            let ordered: Vec<Place> = timeline.iter().copied().collect();
            for _ in 0..2000 {
                let cut =
                    Cut { as_of: dice.below(length + 2) as i64, known_at: dice.below(length + 2) };
                let seen = || {
                    plain
                        .iter()
                        .filter(|v| v.occurred_at <= cut.as_of && u64::from(v.seq) <= cut.known_at)
                };
                let occurred = |place: Option<&Place>| place.map(|p| (p.occurred_at, p.closing));
                assert_eq!(
                    occurred(timeline.latest(cut)),
                    occurred(seen().next_back()),
                    "{length} {cut:?}"
                );
                assert_eq!(occurred(earliest.at(cut)), occurred(seen().next()), "{length} {cut:?}");
                assert_eq!(timeline.latest_first(cut).count(), seen().count());
                let newest = timeline.newest_record(cut).map(|place| place.seq);
                assert_eq!(newest, seen().map(|v| v.seq).max(), "{length} {cut:?}");
                let at = dice.below(length + 2) as usize;
                let is_known = |at: &usize| u64::from(ordered[*at].seq) <= cut.known_at;
                let known_at = cut.known_at32();
                assert_eq!(timeline.next_known(at, known_at), (at..ordered.len()).find(is_known));
                let before = 0..at.min(ordered.len());
                assert_eq!(timeline.last_known(at, known_at), before.rev().find(is_known));
            }
        }
    }

    /// A version that says something in each of three respects.
    #[derive(Clone, Copy, Debug)]
    struct Said {
        place: Place,
        said: Respects,
    }

    impl Placed for Said {
        fn place(&self) -> Place {
            self.place
        }

        fn alike(&self, other: &Said) -> Respects {
            !(self.said ^ other.said)
        }
    }

    /// Returns versions, some in a hundred late, of which some in a thousand say something else
    /// than the one recorded before them.
    fn said(length: u32, changes_in_1000: u64, late_in_100: u64) -> Timeline<Said> {
        let (mut dice, mut ids) = (Dice(u64::from(length)), EventIds::default());
        let (mut timeline, mut said) = (Timeline::default(), 0);
        for seq in 1..=length {
            let is_late = dice.below(100) < late_in_100;
            let latest = if is_late { dice.below(u64::from(seq) + 1) } else { u64::from(seq) };
            let occurred_at = latest as Millis;
            if dice.below(1000) < changes_in_1000 {
                said ^= 1 << dice.below(3);
            }
            ids.push(seq, &format!("e{:03}", dice.below(1000)));
            let place = Place { occurred_at, updated_at: NO_UPDATED_AT, seq, closing: false };
            timeline.insert(Said { place, said }, &ids);
        }
        timeline
    }

    #[test]
    fn changes_are_the_versions_unlike_the_seen_ones_before_them() {
        let forms = [(1, 500, 0), (64, 30, 5), (66, 30, 0), (500, 20, 5), (500, 3, 100)];
        for (length, changes, late) in forms.into_iter().chain([(9000, 1, 2), (9000, 400, 0)]) {
            let timeline = said(length, changes, late);
            let all: Vec<Said> = timeline.iter().copied().collect();
            let mut dice = Dice(7);
            let mut moment = || dice.below(u64::from(length) + 2) as Millis;
            for respects in [1, 2, 3, 7].into_iter().cycle().take(60) {
                let cut = Cut { as_of: moment(), known_at: moment() as Seq };
                let from = moment();
                let changes = |seen: &[Said]| -> Vec<Millis> {
                    let before = core::iter::once(None).chain(seen.iter().map(Some));
                    let changes = before.zip(seen).filter(|(before, version)| {
                        before.is_none_or(|before| (before.said ^ version.said) & respects != 0)
                    });
                    changes.map(|(_, version)| version.place.occurred_at).collect()
                };
                let seen = all.iter().filter(|version| cut.sees(version.place));
                let (earlier, later): (Vec<Said>, Vec<Said>) =
                    seen.partition(|version| version.place.occurred_at < from);
                let found: Vec<Millis> = timeline.changes(respects, from, false, cut).collect();
                assert_eq!(found, changes(&later), "{length} {respects} from {from} {cut:?}");
                let at_from = later.iter().filter(|version| version.place.occurred_at == from);
                let mut wanted =
                    changes(&earlier.iter().chain(at_from).copied().collect::<Vec<_>>());
                wanted.reverse();
                let found: Vec<Millis> = timeline.changes(respects, from, true, cut).collect();
                assert_eq!(found, wanted, "{length} {respects} back from {from} {cut:?}");
            }
        }
    }

    #[test]
    fn versions_that_say_the_same_are_passed_over_in_blocks() {
        for (length, late) in [(9000, 0), (9000, 2)] {
            let timeline = said(length, 0, late);
            for descending in [false, true] {
                let from = if descending { Millis::MAX } else { Millis::MIN };
                let walk = || timeline.changes(7, from, descending, Cut::LATEST).count();
                let (changes, looks) = looks::during(walk);
                assert_eq!(changes, 1);
                // Three groups of blocks, and the newest version.
                assert!(looks <= 20, "{looks} looks, back: {descending}");
            }
            // What was recorded later is passed over, too.
            let known_before = Cut { known_at: 10, ..Cut::LATEST };
            let (latest, looks) = looks::during(|| timeline.latest(known_before).is_some());
            assert!(latest && looks <= 2 * BLOCK, "{looks} looks");
        }
    }

    #[test]
    fn a_late_version_that_begins_a_block_is_found_at_its_own_moment() {
        let mut ids = EventIds::default();
        let mut timeline = Timeline::default();
        let mut insert = |seq: u32, occurred_at: i64| {
            ids.push(seq, &format!("e{seq}"));
            timeline.insert(
                Place { occurred_at, updated_at: NO_UPDATED_AT, seq, closing: false },
                &ids,
            );
        };
        for seq in 1..=200 {
            insert(seq, 2 * i64::from(seq));
        }
        insert(201, 129);
        insert(202, 257);
        for (as_of, found) in
            [(128, 128), (129, 129), (130, 130), (256, 256), (257, 257), (258, 258)]
        {
            let latest =
                timeline.latest(Cut { as_of, ..Cut::LATEST }).map(|place| place.occurred_at);
            assert_eq!(latest, Some(found));
        }
    }
}
