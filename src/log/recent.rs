//! The digests of the newest records, which tell without a look into the store that an event repeats
//! one of them. Senders repeat mostly what they have just sent.

use std::collections::VecDeque;

use rollcall_projections::{RecordStatus, Seq};

use super::Outcome;
use super::block::Draft;
use crate::hashes::salted_digest;
use crate::verify::{Salted, Verified};

/// The number of records that a log remembers, with 48 bytes of each.
pub(super) const REMEMBERED: usize = 1 << 16;

/// The digests of the newest records of a log, up to some number of them.
pub(super) struct Recent {
    capacity: usize,
    /// The record after the newest.
    next: Seq,
    /// Those of the records before `next`, in order.
    digests: VecDeque<Remembered>,
}

/// What is remembered of a record.
#[derive(Clone, Copy)]
enum Remembered {
    /// It counts.
    Counting { has_id: bool, salted: Salted },
    /// It does not: an event that repeats it is compared with what is stored.
    Other,
}

impl Recent {
    /// Remembers nothing yet, and later at most `capacity` records.
    pub(super) fn new(capacity: usize) -> Recent {
        Recent { capacity, next: 0, digests: VecDeque::new() }
    }

    /// Remembers the records of a batch, which is durable.
    pub(super) fn remember(&mut self, first_seq: Seq, drafts: &[Draft]) {
        if first_seq != self.next {
            self.digests.clear();
        }
        let excess = (self.digests.len() + drafts.len()).saturating_sub(self.capacity);
        self.digests.drain(..excess.min(self.digests.len()));
        let newest = drafts.len().saturating_sub(self.capacity);
        self.digests.extend(drafts.iter().skip(newest).map(Remembered::of));
        self.next = first_seq + drafts.len() as Seq;
    }

    /// Returns the outcome of an event that has the very body of one of the records in `among`, if
    /// that is remembered and counts. Hashes the body once for each.
    pub(super) fn repeats(&self, event: &Verified, among: &[Seq]) -> Option<Outcome> {
        let begin = self.next - self.digests.len() as Seq;
        let is_same = |seq: &&Seq| {
            let at = seq.checked_sub(begin).and_then(|at| usize::try_from(at).ok());
            match at.and_then(|at| self.digests.get(at)) {
                Some(Remembered::Counting { has_id, salted: Salted { salt, digest } }) => {
                    *has_id == event.event_id().is_some()
                        && salted_digest(salt, event.body()) == *digest
                }
                Some(Remembered::Other) | None => false,
            }
        };
        let seq = *among.iter().find(is_same)?;
        Some(Outcome::Duplicate { seq, differs: false })
    }
}

impl Remembered {
    fn of(draft: &Draft) -> Remembered {
        match (draft.status, draft.event.salted()) {
            (RecordStatus::Counts, Some(salted)) => {
                Remembered::Counting { has_id: draft.event.event_id().is_some(), salted }
            }
            _ => Remembered::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use rollcall_generator::sign;

    use super::*;
    use crate::verify::Keyring;

    const NOW: i64 = 1_760_000_000_000;

    fn event(id: u32) -> Verified {
        let body = format!(r#"{{"id":"event_{id}","event":"dsync.user.created"}}"#);
        let header = sign("s", NOW, body.as_bytes());
        let keyring = Keyring::new(["s"], 0);
        Verified::webhook(&keyring, Some(header.as_bytes()), body.into(), NOW).unwrap()
    }

    fn drafts(ids: impl IntoIterator<Item = u32>, status: RecordStatus) -> Vec<Draft> {
        let draft = |id| {
            let mut event = event(id);
            event.salt().unwrap();
            Draft { salt: event.salted().unwrap().salt, event, status }
        };
        ids.into_iter().map(draft).collect()
    }

    #[test]
    fn only_the_newest_records_that_count_are_remembered() {
        let mut recent = Recent::new(4);
        let counts = RecordStatus::Counts;
        let all: Vec<Seq> = (0..=100).collect();
        let known = |recent: &Recent, ids: std::ops::RangeInclusive<u32>| -> Vec<(u32, Seq)> {
            let seq = |id| match recent.repeats(&event(id), &all)? {
                Outcome::Duplicate { seq, differs: false } => Some((id, seq)),
                other => panic!("{other:?}"),
            };
            ids.filter_map(seq).collect()
        };
        assert_eq!(known(&recent, 0..=20), []);
        recent.remember(1, &drafts([10, 11, 12], counts));
        assert_eq!(known(&recent, 0..=20), [(10, 1), (11, 2), (12, 3)]);
        assert_eq!(recent.repeats(&event(10), &[2, 3]), None, "it repeats none of these");
        recent.remember(4, &drafts([13, 14], counts));
        assert_eq!(known(&recent, 0..=20), [(11, 2), (12, 3), (13, 4), (14, 5)]);
        // A batch that is larger than what is remembered.
        recent.remember(6, &drafts(1..=6, counts));
        assert_eq!(known(&recent, 0..=20), [(3, 8), (4, 9), (5, 10), (6, 11)]);
        // A further content under an id that is taken is left to a look into the store.
        recent.remember(12, &drafts([7], RecordStatus::Conflict { first: 1 }));
        assert_eq!(known(&recent, 0..=20), [(4, 9), (5, 10), (6, 11)]);
        // Records that were appended without notice.
        recent.remember(20, &drafts([8], counts));
        assert_eq!(known(&recent, 0..=20), [(8, 20)]);
    }
}
