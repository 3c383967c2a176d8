//! When records were recorded.

use crate::ground::memory;
use crate::ground::moments::Moments;
use crate::ground::order::{Millis, Seq, Seq32, seq32};
use crate::ground::pack::pack_fields;

/// The moments of recording, in ascending order, each with the last record that has it.
#[derive(Default)]
pub(crate) struct Recorded {
    moments: Moments,
    last_seqs: Vec<Seq32>,
}

impl Recorded {
    /// Notes the next record.
    pub(crate) fn note(&mut self, recorded_at: Millis, seq: Seq) {
        match self.last_seqs.last_mut() {
            Some(last) if self.moments.last() == Some(recorded_at) => *last = seq32(seq),
            _ => {
                self.moments.push(recorded_at);
                self.last_seqs.push(seq32(seq));
            }
        }
    }

    /// Returns the last moment.
    pub(crate) fn last(&self) -> Option<Millis> {
        self.moments.last()
    }

    /// Returns the last record that was recorded at or before `moment`; 0 if there is none. O(log
    /// n).
    pub(crate) fn known_at(&self, moment: Millis) -> Seq {
        let until = self.moments.up_to(moment);
        let last = until.checked_sub(1).and_then(|last| self.last_seqs.get(last));
        last.copied().map_or(0, Seq::from)
    }

    /// Iterates over record `first` and all after it, each with the moment of its recording.
    pub(crate) fn from(&self, first: Seq) -> impl Iterator<Item = (Millis, Seq)> {
        let run = self.last_seqs.partition_point(|last| Seq::from(*last) < first);
        let mut next = first.max(1);
        let runs = (run..).zip(self.last_seqs.iter().skip(run));
        runs.flat_map(move |(run, last)| {
            let recorded_at = self.moments.get(run).unwrap_or(Millis::MIN);
            let seqs = next..=Seq::from(*last);
            next = Seq::from(*last) + 1;
            seqs.map(move |seq| (recorded_at, seq))
        })
    }

    /// Returns about the bytes of memory that it takes.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.moments.heap_bytes() + memory::of_vec(&self.last_seqs)
    }
}

pack_fields!(Recorded { moments, last_seqs });
