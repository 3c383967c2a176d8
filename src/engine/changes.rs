//! The feed of changes: the changes of users' access and roles by each record, in order of seq.

use std::time::Duration;

use rollcall_projections::{AccessChange, Seq, TouchedUsers};

use super::Engine;
use crate::log::ReadError;

/// The number of records that are read from the log at once.
const RECORDS: usize = 256;

/// The most records that one answer looks at, and about the most states of users that it computes.
const RECORDS_MAX: usize = 8_192;
const STATES_MAX: usize = 65_536;

/// The bits of [`FeedPlace::item`] that count the changes of one user.
const ITEM_BITS: u32 = 20;

/// Returns the user's number in [`FeedPlace::item`].
fn user_of(item: u64) -> u32 {
    (item >> ITEM_BITS) as u32
}

/// A place in the feed: a record, and a position among its changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FeedPlace {
    /// The record.
    pub seq: Seq,
    /// The user's number in the upper bits; in the lower the number of the change, from 1.
    pub item: u64,
}

impl FeedPlace {
    /// Returns the place behind all changes of a record.
    pub fn after(seq: Seq) -> FeedPlace {
        FeedPlace { seq, item: u64::MAX }
    }
}

/// Counts the changes of each user, whose changes follow one another.
#[derive(Default)]
struct ChangeCounter {
    user: Option<u32>,
    changes: u64,
}

impl ChangeCounter {
    /// Counts a change of a user, and returns its [`FeedPlace::item`].
    fn item_of(&mut self, user: u32) -> u64 {
        self.changes = if self.user == Some(user) { self.changes + 1 } else { 1 };
        self.user = Some(user);
        u64::from(user) << ITEM_BITS | self.changes
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
}

impl Engine {
    /// Returns at most `limit` changes behind a place. An answer without changes may still have
    /// moved on. Blocks while it reads the log.
    ///
    /// # Errors
    /// The first record that cannot be read.
    pub fn feed(&self, after: FeedPlace, limit: usize) -> Result<Feed, ReadError> {
        let head = self.views().head();
        let mut feed = Feed { items: Vec::new(), next: after, at_head: false };
        let (mut records, mut states) = (0, 0);
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
                states += self.feed_of(&touched, limit, &mut feed);
                records += 1;
                if feed.items.len() >= limit || states >= STATES_MAX || records >= RECORDS_MAX {
                    return Ok(feed);
                }
            }
        }
    }

    /// Adds the changes by one record, in short locks, up to the limit. Returns the number of
    /// states of users that it computed.
    fn feed_of(&self, touched: &TouchedUsers, limit: usize, feed: &mut Feed) -> usize {
        let (seq, mut states) = (touched.seq, 0);
        let begun = Some(feed.next.item).filter(|_| feed.next.seq == seq);
        // Some changes of the last user may not be given yet.
        let mut after = begun.and_then(|item| user_of(item).checked_sub(1));
        let mut counter = ChangeCounter::default();
        loop {
            let changes = self.views().access_changes(touched, after);
            states += changes.states;
            for change in changes.found {
                let place = FeedPlace { seq, item: counter.item_of(change.number) };
                if begun.is_some_and(|begun| place.item <= begun) {
                    continue;
                }
                feed.items.push((place, change));
                if feed.items.len() >= limit {
                    feed.next = place;
                    return states;
                }
            }
            match changes.next {
                // The place behind all changes of that user.
                Some(number) => {
                    feed.next = FeedPlace { seq, item: (u64::from(number) + 1) << ITEM_BITS };
                    after = Some(number);
                }
                None => {
                    feed.next = FeedPlace::after(seq);
                    return states;
                }
            }
            if states >= STATES_MAX {
                return states;
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
