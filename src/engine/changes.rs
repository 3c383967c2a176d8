//! The feed of changes: the changes of users' access and roles by each record, in order of seq.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rollcall_projections::{AccessChange, Cut, DiffCandidates, Seq, Sight, TouchedUsers};

use super::Engine;
use crate::log::ReadError;

/// The number of records that are read from the log at once.
const RECORDS: usize = 256;

/// The reads of the log that are done at any rate. Where few records change anything, the reads
/// take most of the time.
const READS_MIN: usize = 16;

/// The most records that are read to see which users and groups differ between two cuts.
const RECORDS_BETWEEN: Seq = 1024;

/// The longest way between two records that are read in one stretch, and the most stretches that are
/// read.
const GAP_MAX: Seq = 64;
const STRETCHES_MAX: usize = 32;

/// The cost of a record that changes nothing, in work of [`rollcall_projections::AccessChanges`].
const RECORD_WORK: usize = 4;

/// The bounds of one answer.
#[derive(Clone, Copy, Debug)]
pub struct PageBounds {
    /// The time after which nothing more is looked for.
    pub time: Duration,
    /// The work that is done at any rate, so that a busy machine does not cut small answers short.
    pub work_min: usize,
    /// The work after which the views are unlocked and the time is looked at.
    pub step_work: usize,
}

impl PageBounds {
    /// The bounds of answers over HTTP. A step takes a millisecond or two, and reading the records
    /// and writing the answer some more, so that an answer takes less than 20 ms.
    pub const HTTP: PageBounds =
        PageBounds { time: Duration::from_millis(8), work_min: 4096, step_work: 4096 };
}

/// The number of changes between two marks, and the most marks that are remembered.
const MARK_EVERY: u64 = 256;
const MARKS_MAX: usize = 16_384;

/// A place in the feed: a record, and the number of its changes that are dealt with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FeedPlace {
    /// The record.
    pub seq: Seq,
    /// The number of a change, from 1, in order of user id and kind.
    pub item: u64,
}

impl FeedPlace {
    /// Returns the place behind all changes of a record.
    pub fn after(seq: Seq) -> FeedPlace {
        FeedPlace { seq, item: u64::MAX }
    }

    /// Returns the same place, or the one before all changes of a later record.
    fn within(self, seq: Seq) -> FeedPlace {
        if self.seq == seq { self } else { FeedPlace { seq, item: 0 } }
    }
}

/// Writes `seq.n`, or `seq` for the place behind all changes of that record.
impl fmt::Display for FeedPlace {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == FeedPlace::after(self.seq) {
            write!(formatter, "{}", self.seq)
        } else {
            write!(formatter, "{}.{}", self.seq, self.item)
        }
    }
}

/// A user behind whom the counting of a record's changes can go on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CountedUser {
    /// The user's id; `None` before the first.
    pub user: Option<String>,
    /// The number of changes up to this user.
    pub changes: u64,
}

/// A place in the feed from which to go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedCursor {
    /// The place.
    pub place: FeedPlace,
    /// The user up to whom the changes of the place's record are counted: only where an answer
    /// ended without having found the next one.
    pub counted: Option<CountedUser>,
    /// The number of answers in a row that stayed at the place, because the caller does not see the
    /// user up to whom they counted. The server goes on from its own mark; the number tells the
    /// cursors apart.
    pub pauses: u64,
}

impl FeedCursor {
    /// Returns the cursor of an answer that ends at a place without a user to name.
    fn paused(&self, place: FeedPlace) -> FeedCursor {
        let pauses = if self.place == place { self.pauses.saturating_add(1) } else { 0 };
        FeedCursor { place, counted: None, pauses }
    }
}

impl From<FeedPlace> for FeedCursor {
    fn from(place: FeedPlace) -> FeedCursor {
        FeedCursor { place, counted: None, pauses: 0 }
    }
}

/// Users at some distance from each other in the records with many changes, so that a page in the
/// middle of such a record does not count its changes from the first.
///
/// The marks of a record are the same for all readers, so that one reader does not take another's,
/// however small its pages are. Losing them costs time and changes no answer: the changes of a
/// record never change.
#[derive(Default)]
pub(super) struct Marks(Mutex<MarkedRecords>);

#[derive(Default)]
struct MarkedRecords {
    records: HashMap<Seq, MarkedRecord>,
    marks: usize,
    /// The number of look-ups so far.
    uses: u64,
}

#[derive(Default)]
struct MarkedRecord {
    /// By the number of changes up to the user.
    users: BTreeMap<u64, String>,
    used: u64,
}

impl Marks {
    /// Returns the last mark at or before a place.
    fn find(&self, place: FeedPlace) -> CountedUser {
        let mut marked = self.0.lock();
        marked.uses += 1;
        let used = marked.uses;
        let Some(record) = marked.records.get_mut(&place.seq) else {
            return CountedUser::default();
        };
        record.used = used;
        let last = record.users.range(..=place.item).next_back();
        last.map_or_else(CountedUser::default, |(changes, user)| CountedUser {
            user: Some(user.clone()),
            changes: *changes,
        })
    }

    /// Notes a user of a record, unless there is a mark nearby. Forgets the marks of the records
    /// that were not looked up for the longest time if there are too many.
    fn note(&self, seq: Seq, counted: &CountedUser) {
        let Some(user) = &counted.user else { return };
        let mut marked = self.0.lock();
        let marked = &mut *marked;
        let nearby = counted.changes.saturating_sub(MARK_EVERY - 1)..counted.changes + MARK_EVERY;
        let known = marked.records.get(&seq);
        if counted.changes < MARK_EVERY
            || known.is_some_and(|record| record.users.range(nearby).next().is_some())
        {
            return;
        }
        marked.insert(seq, counted.changes, user);
    }

    /// Notes a user of a record in any case, also before its first change: a caller goes on from
    /// there with a cursor that does not name the user. Among users with as many changes before
    /// them the last counts.
    fn keep(&self, seq: Seq, counted: &CountedUser) {
        let Some(user) = &counted.user else { return };
        let mut marked = self.0.lock();
        let record = marked.records.get(&seq);
        let known = record.and_then(|record| record.users.get(&counted.changes));
        if known.is_none_or(|known| known < user) {
            marked.insert(seq, counted.changes, user);
        }
    }
}

impl MarkedRecords {
    fn insert(&mut self, seq: Seq, changes: u64, user: &str) {
        if self.marks >= MARKS_MAX {
            self.make_room();
        }
        let record = self.records.entry(seq).or_default();
        record.used = self.uses;
        if record.users.insert(changes, user.to_owned()).is_none() {
            self.marks += 1;
        }
    }

    /// Forgets the records that were not looked up for the longest time, up to a quarter of the
    /// marks and at least one record.
    fn make_room(&mut self) {
        let mut by_use: Vec<(u64, Seq)> =
            self.records.iter().map(|(seq, record)| (record.used, *seq)).collect();
        by_use.sort_unstable();
        for (_, seq) in by_use {
            let forgotten = self.records.remove(&seq);
            self.marks -= forgotten.map_or(0, |record| record.users.len());
            if self.marks <= MARKS_MAX / 4 * 3 {
                return;
            }
        }
    }
}

/// A stretch of the feed.
#[derive(Debug)]
pub struct Feed {
    /// The changes, each with its place.
    pub items: Vec<(FeedPlace, AccessChange)>,
    /// The cursor from which to go on. It has moved unless every record has been looked at.
    pub next: FeedCursor,
    /// True if every folded record has been looked at.
    pub at_head: bool,
    /// The work done, which bounds the time that the answer took.
    pub work: usize,
}

/// An answer in the making.
struct Page<'b> {
    /// The most changes.
    limit: usize,
    bounds: &'b PageBounds,
    deadline: Instant,
    /// The cursor behind which the answer begins.
    came_from: &'b FeedCursor,
    feed: Feed,
    /// The number of reads of the log.
    reads: usize,
}

impl Page<'_> {
    fn is_full(&self) -> bool {
        self.feed.items.len() >= self.limit
    }

    fn is_over(&self) -> bool {
        let is_enough = self.feed.work >= self.bounds.work_min || self.reads >= READS_MIN;
        self.is_full() || is_enough && Instant::now() >= self.deadline
    }

    /// Gives the changes of one record behind `place` up to the limit. Moves `place` to the last of
    /// them, and `counted` to the last user whose changes are all dealt with.
    fn give(
        &mut self,
        changes: Vec<AccessChange>,
        place: &mut FeedPlace,
        counted: &mut CountedUser,
    ) {
        let (mut number, mut last) = (counted.changes, None);
        for change in changes {
            if last.as_ref().is_some_and(|last| *last != change.user) {
                *counted = CountedUser { user: last.take(), changes: number };
            }
            number += 1;
            last = Some(change.user.clone());
            if number > place.item {
                place.item = number;
                self.feed.next = FeedCursor::from(*place);
                if !change.is_seen {
                    continue;
                }
                self.feed.items.push((*place, change));
                if self.is_full() {
                    return;
                }
            }
        }
    }
}

impl Engine {
    /// Returns at most `limit` changes behind a cursor, of users who are seen. An answer without
    /// changes has moved on, unless it is at the head. Blocks while it reads the log, for less than
    /// 20 ms.
    ///
    /// # Errors
    /// The first record that cannot be read.
    pub fn feed(&self, sight: &Sight, after: &FeedCursor, limit: usize) -> Result<Feed, ReadError> {
        self.feed_within(sight, after, limit, &PageBounds::HTTP)
    }

    /// Does the same within other bounds.
    ///
    /// # Errors
    /// The first record that cannot be read.
    pub fn feed_within(
        &self,
        sight: &Sight,
        after: &FeedCursor,
        limit: usize,
        bounds: &PageBounds,
    ) -> Result<Feed, ReadError> {
        let head = self.views().head();
        let feed = Feed { items: Vec::new(), next: after.clone(), at_head: false, work: 0 };
        let deadline = Instant::now() + bounds.time;
        let mut page = Page { limit, bounds, deadline, came_from: after, feed, reads: 0 };
        loop {
            let place = page.feed.next.place;
            // A record whose changes are not all given yet is read again.
            let is_done = place.item == u64::MAX;
            let behind = if is_done { place.seq } else { place.seq.saturating_sub(1) };
            if behind >= head {
                page.feed.at_head = true;
                return Ok(page.feed);
            }
            let Some(touched) = self.next_touched(behind, head)? else {
                page.feed.next = FeedPlace::after(head).into();
                continue;
            };
            page.reads += 1;
            for touched in touched {
                page.feed.work += RECORD_WORK;
                self.add_changes(sight, &touched, &mut page);
                let is_dealt_with = page.feed.next.place == FeedPlace::after(touched.seq);
                if !is_dealt_with || page.is_over() || self.is_shutting_down() {
                    return Ok(page.feed);
                }
            }
        }
    }

    /// Returns the next few records up to the head that may change something; `None` if there are
    /// no more. A record that changes nothing may be read with them, and is left out.
    fn next_touched(&self, behind: Seq, head: Seq) -> Result<Option<Vec<TouchedUsers>>, ReadError> {
        let turning: Vec<Seq> = {
            let views = self.views();
            let Some(first) = views.turning_between(behind, head).next() else { return Ok(None) };
            let last = head.min(first.saturating_add(RECORDS as Seq - 1));
            views.turning_between(first - 1, last).collect()
        };
        let (Some(first), Some(last)) = (turning.first(), turning.last()) else { return Ok(None) };
        let mut touched: Vec<TouchedUsers> = Vec::new();
        self.log.entries(first - 1, (last + 1 - first) as usize, &mut |entry| {
            if turning.binary_search(&entry.seq).is_ok() {
                touched.push(TouchedUsers::by(entry));
            }
        })?;
        Ok(Some(touched))
    }

    /// Adds the changes by one record, in short locks, up to the end of the answer, and moves the
    /// cursor behind them. If the answer is over before any is found, the cursor moves on inside
    /// the record.
    fn add_changes(&self, sight: &Sight, touched: &TouchedUsers, page: &mut Page<'_>) {
        let seq = touched.seq;
        let mut place = page.feed.next.place.within(seq);
        let known = page.feed.next.counted.take().filter(|_| page.feed.next.place.seq == seq);
        let mut counted = known.unwrap_or_else(|| self.marks.find(place));
        loop {
            let after = counted.user.as_deref();
            let changes = {
                let views = self.views();
                views.seen_by(sight).access_changes(touched, after, page.bounds.step_work)
            };
            let number = counted.changes + changes.found.len() as u64;
            page.feed.work += changes.work;
            page.give(changes.found, &mut place, &mut counted);
            if page.is_full() {
                return self.marks.note(seq, &counted);
            }
            counted = match changes.next {
                Some(user) => CountedUser { user: Some(user), changes: number },
                // The place is not one of this record's: an older version made it.
                None if number < place.item => {
                    place.item = 0;
                    CountedUser::default()
                }
                None => {
                    page.feed.next = FeedPlace::after(seq).into();
                    return;
                }
            };
            self.marks.note(seq, &counted);
            if page.is_over() {
                return self.pause(sight, place, counted, page);
            }
            if self.is_shutting_down() {
                if page.feed.items.is_empty() {
                    page.feed.next = place.into();
                }
                return;
            }
        }
    }

    /// Ends an answer inside a record, so that the next one goes on behind the counted user. A
    /// caller who does not see this user gets a cursor without it, and the server keeps a mark.
    fn pause(&self, sight: &Sight, place: FeedPlace, counted: CountedUser, page: &mut Page<'_>) {
        let may_name = self.may_name(sight, &counted);
        if !may_name {
            self.marks.keep(place.seq, &counted);
        }
        if page.feed.items.is_empty() {
            page.feed.next = if may_name {
                FeedCursor { place, counted: Some(counted), pauses: 0 }
            } else {
                page.came_from.paused(place)
            };
        }
    }

    /// Tells if a cursor may hold a user.
    fn may_name(&self, sight: &Sight, counted: &CountedUser) -> bool {
        let views = self.views();
        let views = views.seen_by(sight);
        counted.user.as_deref().is_none_or(|user| views.knows_user(user, Cut::LATEST))
    }

    /// Returns the users and groups that may differ between two cuts, if the cuts are of one moment
    /// or of one state of knowledge, and few records lie between them. Blocks while it reads these.
    ///
    /// # Errors
    /// The first record that cannot be read.
    pub fn diff_candidates(
        &self,
        sight: &Sight,
        cuts: [Cut; 2],
    ) -> Result<Option<DiffCandidates>, ReadError> {
        if *sight != Sight::All {
            return Ok(None);
        }
        let Some(stretches) = self.stretches_between(cuts) else { return Ok(None) };
        let mut touched: Vec<TouchedUsers> = Vec::new();
        for stretch in stretches {
            let (mut read, last) = (stretch.start().saturating_sub(1), *stretch.end());
            while read < last {
                read = self.log.entries(read, (last - read) as usize, &mut |entry| {
                    if entry.seq <= last {
                        touched.push(TouchedUsers::by_effect(entry));
                    }
                })?;
            }
        }
        Ok(self.views().seen_by(sight).diff_candidates(cuts, &touched))
    }

    /// Returns stretches of the log that have every record which only one of two cuts sees, and
    /// perhaps a few others. `None` if that is much to read.
    fn stretches_between(&self, cuts: [Cut; 2]) -> Option<Vec<RangeInclusive<Seq>>> {
        let [from, to] = cuts;
        let (first, last) = (from.known_at.min(to.known_at), from.known_at.max(to.known_at));
        if from.as_of == to.as_of {
            let is_short = last - first <= RECORDS_BETWEEN;
            return is_short.then(|| vec![first + 1..=last]);
        }
        if first != last {
            return None;
        }
        let (after, until) = (from.as_of.min(to.as_of), from.as_of.max(to.as_of));
        let limit = RECORDS_BETWEEN as usize;
        let records = self.views().records_between(after, until, first, limit)?;
        let stretches: Vec<RangeInclusive<Seq>> = records
            .chunk_by(|one, next| next - one <= GAP_MAX)
            .filter_map(|stretch| Some(*stretch.first()?..=*stretch.last()?))
            .collect();
        (stretches.len() <= STRETCHES_MAX).then_some(stretches)
    }

    /// Waits until a record after `seq` is folded, the timeout is over, or shutdown begins.
    pub async fn wait_until_folded(&self, seq: Seq, timeout: Duration) {
        let mut folded = self.folded.subscribe();
        let moved = async {
            while !self.is_shutting_down() && *folded.borrow_and_update() <= seq {
                if folded.changed().await.is_err() {
                    break;
                }
            }
        };
        let _ = tokio::time::timeout(timeout, moved).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(changes: u64) -> CountedUser {
        CountedUser { user: Some(format!("u{changes:09}")), changes }
    }

    fn place(seq: Seq, item: u64) -> FeedPlace {
        FeedPlace { seq, item }
    }

    #[test]
    fn a_reader_of_single_changes_leaves_no_more_marks_than_one_of_whole_pages() {
        for step in [1, 7, 1000] {
            let marks = Marks::default();
            (0..20_000).step_by(step).for_each(|changes| marks.note(1, &counted(changes)));
            let kept = marks.0.lock().marks as u64;
            assert!(kept <= 20_000 / MARK_EVERY, "{kept} marks in steps of {step}");
            let found = marks.find(place(1, 15_000));
            let within = 15_000 - 2 * MARK_EVERY.max(step as u64)..=15_000;
            assert!(within.contains(&found.changes), "{found:?} in steps of {step}");
        }
    }

    #[test]
    fn a_mark_before_the_first_change_moves_on_and_not_back() {
        let (marks, at) =
            (Marks::default(), |id: &str| CountedUser { user: Some(id.to_owned()), changes: 0 });
        for (kept, last) in [("u2", "u2"), ("u5", "u5"), ("u3", "u5")] {
            marks.keep(1, &at(kept));
            assert_eq!(marks.find(place(1, 0)), at(last));
        }
        assert_eq!(marks.find(place(2, 0)), CountedUser::default());
        assert_eq!(marks.0.lock().marks, 1);
    }

    #[test]
    fn a_reader_of_many_records_takes_no_marks_of_one_that_is_read() {
        let marks = Marks::default();
        marks.note(1, &counted(1000));
        for seq in 2..2 + 2 * MARKS_MAX as Seq {
            marks.find(place(seq, 1));
            marks.note(seq, &counted(1000));
            if seq % 1000 == 0 {
                assert_eq!(marks.find(place(1, 1500)), counted(1000));
            }
        }
        let marked = marks.0.lock();
        assert_eq!(marked.marks, marked.records.len());
        assert!((MARKS_MAX / 2..=MARKS_MAX).contains(&marked.marks), "{}", marked.marks);
    }
}
