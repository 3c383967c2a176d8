//! What a snapshot of the views keeps of the log, so that a start need not read the records that it
//! covers. docs/format.md describes it.

use std::ops::Range;

use rollcall_projections::{Millis, Seq};

use super::dedupe::{Dedupe, FINGERPRINT_BYTES, FingerprintKey};
use super::merkle::Hash;
use super::recovery::dedupe_key;
use super::{BATCH_BYTES_MAX, BATCH_EVENTS_MAX, History, LogId, ReadError};

/// What is kept of the first records of a log besides the views over them and their tree.
pub struct Kept {
    /// The last of them.
    pub(super) seq: Seq,
    /// The digest of their metadata: see `Block::chained_metadata`.
    pub(super) metadata: Hash,
    /// Those of them that are lost.
    pub(super) lost: Vec<(Seq, Seq)>,
    /// The index over them.
    pub(super) dedupe: Dedupe,
}

/// What is kept, as bytes.
pub struct KeptBytes {
    /// The last record that they cover.
    pub seq: Seq,
    /// The bytes.
    pub bytes: Vec<u8>,
}

impl Kept {
    /// Reads what is kept of the records up to `seq`; `None` if the bytes are not that.
    pub fn decode(seq: Seq, mut bytes: &[u8]) -> Option<Kept> {
        let metadata = *bytes.split_off(..32)?.first_chunk()?;
        let key: FingerprintKey = *bytes.split_off(..16)?.first_chunk()?;
        let count = take_number(&mut bytes)?;
        let mut lost: Vec<(Seq, Seq)> = Vec::new();
        for _ in 0..count {
            let (first, last) = (take_number(&mut bytes)?, take_number(&mut bytes)?);
            let before = lost.last().map_or(0, |(_, last)| *last);
            if first <= before || last < first || last > seq {
                return None;
            }
            lost.push((first, last));
        }
        let length = usize::try_from(seq).ok()?.checked_mul(FINGERPRINT_BYTES)?;
        let dedupe = (bytes.len() == length).then(|| Dedupe::of_kept(key, bytes))?;
        Some(Kept { seq, metadata, lost, dedupe })
    }

    /// Returns whether its index is that of the first records of a log. Reads all of them.
    ///
    /// # Errors
    /// The first bad record.
    pub fn is_index_of(&self, history: &dyn History) -> Result<bool, ReadError> {
        let fingerprint = self.dedupe.fingerprinter();
        let is_left_out = |mut seqs: Range<Seq>| seqs.all(|seq| self.dedupe.is_indexed(seq, None));
        let mut next = 1;
        while next <= self.seq {
            let before = next;
            let records = history.read(next - 1, BATCH_EVENTS_MAX, BATCH_BYTES_MAX)?;
            for record in records.iter().take_while(|record| record.seq <= self.seq) {
                let own = dedupe_key(record).map(&fingerprint);
                // Those in between are lost.
                let fits = is_left_out(next..record.seq) && self.dedupe.is_indexed(record.seq, own);
                if !fits {
                    return Ok(false);
                }
                next = record.seq + 1;
            }
            if next == before {
                return Ok(is_left_out(next..self.seq + 1));
            }
        }
        Ok(true)
    }

    /// Returns the seqs of the records that are lost, in order.
    pub fn lost(&self) -> impl Iterator<Item = Seq> {
        self.lost.iter().flat_map(|(first, last)| *first..=*last)
    }
}

impl KeptBytes {
    /// Begins with all but the fingerprints, which must follow.
    pub(super) fn begin(
        seq: Seq,
        metadata: &Hash,
        key: &FingerprintKey,
        lost: &[(Seq, Seq)],
    ) -> KeptBytes {
        let mut bytes = [&metadata[..], key, &(lost.len() as u64).to_le_bytes()].concat();
        let ends = lost.iter().flat_map(|(first, last)| [*first, *last]);
        bytes.extend(ends.flat_map(u64::to_le_bytes));
        KeptBytes { seq, bytes }
    }
}

fn take_number(bytes: &mut &[u8]) -> Option<u64> {
    bytes.split_off(..8)?.first_chunk().map(|number| u64::from_le_bytes(*number))
}

/// The first records of a log, as a snapshot knows them.
pub struct Prefix {
    /// The name of the log.
    pub log_id: LogId,
    /// The tree hash over them.
    pub root: Hash,
    /// The stamp of the last of them.
    pub recorded_at: Millis,
    /// Those of them that name another key for checkpoints.
    pub key_changes: Vec<Seq>,
    /// The rest.
    pub kept: Kept,
}
