//! The feed of changes: the changes of users' access and roles by each record, in order of seq.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rollcall_projections::{AccessChange, Seq, Sight, TouchedUsers};

use super::Engine;
use crate::log::ReadError;

/// The number of records that are read from the log at once.
const RECORDS: usize = 256;

/// An answer ends after this time once it has done some work, but not in the middle of a record
/// that has given it nothing yet.
const PAGE_TIME: Duration = Duration::from_millis(8);

/// The longest time for a record that has given nothing yet. Then the answer is cut off, and the
/// next one goes on inside the record.
const RECORD_TIME: Duration = Duration::from_secs(2);

/// The work that an answer does at any rate, in states of users, so that the time of a busy machine
/// does not cut small answers short; a record costs about as much as some states.
const WORK_MIN: usize = 1024;
const RECORD_WORK: usize = 16;

/// The number of places inside records that are remembered.
const BOOKMARKS: usize = 256;

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

/// A user behind whom the counting of a record's changes can go on.
#[derive(Clone, Debug, Default)]
struct CountedUser {
    /// The user's id; `None` before the first.
    user: Option<String>,
    /// The number of changes up to this user.
    changes: u64,
}

/// The users at which the latest answers ended in the middle of a record, so that the next page of
/// a record with many changes does not count them from its first.
///
/// Losing one costs time and changes no answer: the changes of a record never change.
#[derive(Default)]
pub(super) struct Bookmarks(Mutex<VecDeque<(FeedPlace, CountedUser)>>);

impl Bookmarks {
    fn find(&self, place: FeedPlace) -> CountedUser {
        let bookmarks = self.0.lock();
        let found = bookmarks.iter().rev().find(|(other, _)| *other == place);
        found.map(|(_, counted)| counted.clone()).unwrap_or_default()
    }

    fn put(&self, place: FeedPlace, counted: CountedUser) {
        let mut bookmarks = self.0.lock();
        bookmarks.retain(|(other, _)| *other != place);
        if bookmarks.len() >= BOOKMARKS {
            bookmarks.pop_front();
        }
        bookmarks.push_back((place, counted));
    }
}

/// A stretch of the feed.
#[derive(Debug)]
pub struct Feed {
    /// The changes, each with its place.
    pub items: Vec<(FeedPlace, AccessChange)>,
    /// The place from which to go on.
    pub next: FeedPlace,
    /// True if every folded record has been looked at.
    pub at_head: bool,
    /// True if the answer is empty and its place unmoved because a record took too long, or because
    /// of a shutdown. Asking again goes on inside the record.
    pub cut_off: bool,
}

/// Adds the changes behind `place` that are seen, up to the limit, and moves it there. True if that ends the
/// answer; then `counted` is the user before that of the last change.
fn give(
    changes: Vec<AccessChange>,
    place: &mut FeedPlace,
    counted: &mut CountedUser,
    limit: usize,
    feed: &mut Feed,
) -> bool {
    let (mut number, mut last) = (counted.changes, None);
    for change in changes {
        if last.as_ref().is_some_and(|last| *last != change.user) {
            *counted = CountedUser { user: last.take(), changes: number };
        }
        number += 1;
        last = Some(change.user.clone());
        if number > place.item {
            place.item = number;
            feed.next = *place;
            if !change.is_seen {
                continue;
            }
            feed.items.push((*place, change));
            if feed.items.len() >= limit {
                return true;
            }
        }
    }
    false
}

/// The end of an answer.
struct PageEnd {
    /// The most changes.
    limit: usize,
    /// The moment after which nothing more is looked for.
    deadline: Instant,
    /// The moment at which an answer that is still empty is cut off.
    cut_off: Instant,
    /// The work done so far.
    work: usize,
}

impl PageEnd {
    fn is_reached(&self, feed: &Feed) -> bool {
        feed.items.len() >= self.limit || self.work >= WORK_MIN && Instant::now() >= self.deadline
    }
}

impl Engine {
    /// Returns at most `limit` changes behind a place, of the users who are seen. An answer without changes has moved on by
    /// at least a record, unless it is at the head. Blocks while it reads the log.
    ///
    /// # Errors
    /// The first record that cannot be read.
    pub fn feed(&self, sight: &Sight, after: FeedPlace, limit: usize) -> Result<Feed, ReadError> {
        let head = self.views().head();
        let mut feed = Feed { items: Vec::new(), next: after, at_head: false, cut_off: false };
        let now = Instant::now();
        let (deadline, cut_off) = (now + PAGE_TIME, now + RECORD_TIME);
        let mut end = PageEnd { limit, deadline, cut_off, work: 0 };
        loop {
            // A record whose changes are not all given yet is read again.
            let behind = if feed.next.item == u64::MAX {
                feed.next.seq
            } else {
                feed.next.seq.saturating_sub(1)
            };
            if behind >= head {
                feed.at_head = true;
                return Ok(feed);
            }
            let mut touched: Vec<TouchedUsers> = Vec::new();
            self.log
                .entries(behind, RECORDS, &mut |entry| touched.push(TouchedUsers::by(entry)))?;
            for touched in touched.into_iter().filter(|touched| touched.seq <= head) {
                let place = feed.next.within(touched.seq);
                let counted =
                    if end.work == 0 { self.bookmarks.find(place) } else { CountedUser::default() };
                self.add_changes(sight, &touched, counted, &mut end, &mut feed);
                end.work += RECORD_WORK;
                if feed.cut_off {
                    // Records before this one were dealt with: their place is an answer, and the
                    // next one begins at the bookmark.
                    feed.cut_off = feed.next == after;
                    return Ok(feed);
                }
                if end.is_reached(&feed) {
                    return Ok(feed);
                }
            }
        }
    }

    /// Adds the changes by one record, in short locks, up to the end of the answer; at least one if
    /// the answer has none yet and the record has any behind the place, unless it is cut off.
    fn add_changes(
        &self,
        sight: &Sight,
        touched: &TouchedUsers,
        mut counted: CountedUser,
        end: &mut PageEnd,
        feed: &mut Feed,
    ) {
        let seq = touched.seq;
        let mut place = feed.next.within(seq);
        loop {
            let changes = {
                let views = self.views();
                views.seen_by(sight).access_changes(touched, counted.user.as_deref())
            };
            let number = counted.changes + changes.found.len() as u64;
            end.work += changes.states;
            if give(changes.found, &mut place, &mut counted, end.limit, feed) {
                return self.bookmarks.put(place, counted);
            }
            counted = match changes.next {
                Some(user) => CountedUser { user: Some(user), changes: number },
                // The place is not one of this record's: an older version made it.
                None if number < place.item => {
                    place.item = 0;
                    CountedUser::default()
                }
                None => {
                    feed.next = FeedPlace::after(seq);
                    return;
                }
            };
            if !feed.items.is_empty() && end.is_reached(feed) {
                return self.bookmarks.put(place, counted);
            }
            if feed.items.is_empty() && (self.is_shutting_down() || Instant::now() >= end.cut_off) {
                feed.cut_off = true;
                return self.bookmarks.put(place, counted);
            }
        }
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
