//! The feed of changes: what each record changed for somebody, in order of seq.

use std::time::Duration;

use rollcall_projections::{AccessChange, Seq, Touched};

use super::Engine;
use crate::log::ReadError;

/// How many records are read from the log at once.
const RECORDS: usize = 256;

/// One answer looks at no more records, and works out about no more states of users.
const RECORDS_MAX: usize = 8_192;
const STATES_MAX: usize = 65_536;

/// A user's changes by one record stand together: bits of a place for their order.
const ITEM_BITS: u32 = 20;

/// A place in the feed: a record, and how far into what it changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FeedPlace {
    /// The record.
    pub seq: Seq,
    /// The number of the user in the upper bits, that of the change from 1 in the lower.
    pub item: u64,
}

impl FeedPlace {
    /// Behind everything that a record changed.
    pub fn behind(seq: Seq) -> FeedPlace {
        FeedPlace { seq, item: u64::MAX }
    }
}

/// A stretch of the feed.
#[derive(Debug)]
pub struct Feed {
    /// The changes, each with its place.
    pub items: Vec<(FeedPlace, AccessChange)>,
    /// Where to go on.
    pub next: FeedPlace,
    /// Whether everything that is folded has been looked at.
    pub at_head: bool,
}

impl Engine {
    /// What records changed behind a place, at most `limit` changes. It may find none and still
    /// have gone on. Blocks while it reads the log.
    ///
    /// # Errors
    /// The first record that cannot be read.
    pub fn feed(&self, after: FeedPlace, limit: usize) -> Result<Feed, ReadError> {
        let head = self.views().head();
        let mut feed = Feed { items: Vec::new(), next: after, at_head: false };
        let (mut records, mut states) = (0, 0);
        loop {
            // A record that is not done with is read again.
            let behind = if feed.next.item == u64::MAX {
                feed.next.seq
            } else {
                feed.next.seq.saturating_sub(1)
            };
            if behind >= head {
                feed.at_head = true;
                return Ok(feed);
            }
            let mut touched: Vec<Touched> = Vec::new();
            self.log.entries(behind, RECORDS, &mut |entry| touched.push(Touched::by(entry)))?;
            for touched in touched.into_iter().filter(|touched| touched.seq <= head) {
                states += self.feed_of(&touched, limit, &mut feed);
                records += 1;
                if feed.items.len() >= limit || states >= STATES_MAX || records >= RECORDS_MAX {
                    return Ok(feed);
                }
            }
        }
    }

    /// Adds what one record changed, in short locks, up to the limit. Gives how many states of
    /// users that took.
    fn feed_of(&self, touched: &Touched, limit: usize, feed: &mut Feed) -> usize {
        let (seq, mut states) = (touched.seq, 0);
        let begun = Some(feed.next.item).filter(|_| feed.next.seq == seq);
        let user = |item: u64| (item >> ITEM_BITS) as u32;
        // The last user's changes may not all have been given.
        let mut after = begun.and_then(|item| user(item).checked_sub(1));
        let mut last: Option<(u32, u64)> = None;
        loop {
            let changes = self.views().access_changes(touched, after);
            states += changes.states;
            for change in changes.found {
                let nth = last
                    .filter(|(number, _)| *number == change.number)
                    .map_or(1, |(_, nth)| nth + 1);
                last = Some((change.number, nth));
                let place = FeedPlace { seq, item: u64::from(change.number) << ITEM_BITS | nth };
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
                // Behind every change of that user.
                Some(number) => {
                    feed.next = FeedPlace { seq, item: (u64::from(number) + 1) << ITEM_BITS };
                    after = Some(number);
                }
                None => {
                    feed.next = FeedPlace::behind(seq);
                    return states;
                }
            }
            if states >= STATES_MAX {
                return states;
            }
        }
    }

    /// Waits until something behind a record is folded, for at most `timeout`, or until the engine
    /// lets go of those who wait.
    pub async fn folded_behind(&self, seq: Seq, timeout: Duration) {
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
