//! Compares an archive with the log: at a start, and whenever the archive is reached again.

use std::ops::RangeInclusive;

use rollcall_projections::Seq;

use super::part_of;
use crate::log::{
    ArchivePlace, ArchiveSegment, ArchivedRecord, BATCH_BYTES_MAX, BATCH_EVENTS_MAX, History,
    PlaceError, ReadError, Record, logs_in, read_segment, segments_among, segments_in,
};
use crate::notary::is_claimed;

/// Why the log is not archived, or why a server must not start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ArchiveFault {
    /// The place cannot be read or written.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// The log cannot be read.
    #[error("the log cannot be read: {0}")]
    Read(String),
    /// A segment is damaged.
    #[error("`{at}` is damaged: {what}; move it away, and it is written anew")]
    Damaged {
        /// The segment.
        at: String,
        /// What is wrong with it.
        what: String,
    },
    /// The archive has records that the log lacks.
    #[error("`{place}` holds {last} records of this log, and the log has only {head}")]
    Ahead {
        /// The log's part of the archive.
        place: String,
        /// The last record there.
        last: Seq,
        /// The last record of the log.
        head: Seq,
    },
    /// The archive has other records than the log.
    #[error("`{at}` has another record {seq} than the log: the two went apart")]
    Differs {
        /// The segment.
        at: String,
        /// The first record that differs, or the last of the segment if only its checkpoint does.
        seq: Seq,
    },
    /// The archive is that of another log, and the log has no part in it.
    #[error("`{place}` holds records of another log")]
    OtherLog {
        /// The other log's part of the archive.
        place: String,
    },
}

impl From<ReadError> for ArchiveFault {
    fn from(error: ReadError) -> ArchiveFault {
        ArchiveFault::Read(error.to_string())
    }
}

impl ArchiveFault {
    /// Returns true if the archive and the log contradict each other, which no retry mends.
    pub fn is_contradiction(&self) -> bool {
        match self {
            ArchiveFault::Ahead { .. }
            | ArchiveFault::Differs { .. }
            | ArchiveFault::OtherLog { .. } => true,
            ArchiveFault::Place(_) | ArchiveFault::Read(_) | ArchiveFault::Damaged { .. } => false,
        }
    }

    /// Returns true if the log must get another id before it may go on next to the archive.
    pub fn needs_another_id(&self) -> bool {
        self.is_contradiction() && !matches!(self, ArchiveFault::OtherLog { .. })
    }
}

/// Judges whether a server may begin with `log`, or with a new one, next to the archive in `place`.
///
/// # Errors
/// A contradiction; or a fault of the archive, which does not keep a log from going on, but leaves
/// open whether a new one is the right one.
pub fn judge_start(place: &ArchivePlace, log: Option<&dyn History>) -> Result<(), ArchiveFault> {
    let own = log.map(|log| part_of(place, log.identity().log_id));
    if let (Some(log), Some(own)) = (log, &own) {
        let names = own.files()?;
        if !names.is_empty() {
            return judge_newest(own, &segments_among(names), log).map(drop);
        }
    }
    for name in logs_in(place)? {
        let part = place.within(&name);
        if !segments_in(&part)?.is_empty() {
            return Err(ArchiveFault::OtherLog { place: part.to_string() });
        }
    }
    Ok(())
}

/// The newest segment of a log's part of the archive.
pub(super) enum Newest {
    /// There is none.
    Nothing,
    /// It is of this log's history.
    Good,
    /// It is damaged: the records that its name promises.
    Damaged(RangeInclusive<Seq>),
}

/// Compares the newest of the segments in a log's part of the archive with the log.
///
/// # Errors
/// A contradiction, or what cannot be read.
pub(super) fn judge_newest(
    part: &ArchivePlace,
    segments: &[(RangeInclusive<Seq>, String)],
    log: &dyn History,
) -> Result<Newest, ArchiveFault> {
    let newest = segments.iter().max_by_key(|(seqs, _)| *seqs.end());
    let Some((seqs, name)) = newest else { return Ok(Newest::Nothing) };
    let (last, head) = (*seqs.end(), log.head());
    if last > head {
        return Err(ArchiveFault::Ahead { place: part.to_string(), last, head });
    }
    let Some(bytes) = part.read(name)? else { return Ok(Newest::Damaged(seqs.clone())) };
    match ArchiveSegment::decode(bytes.as_slice()) {
        Ok(segment) => {
            judge_segment(&segment, &part.located(name), log)?;
            Ok(Newest::Good)
        }
        Err(_) => Ok(Newest::Damaged(seqs.clone())),
    }
}

/// Compares a segment with the log: its records, and the tree up to its end.
///
/// # Errors
/// A contradiction, or what cannot be read.
pub(super) fn judge_segment(
    segment: &ArchiveSegment,
    at: &str,
    log: &dyn History,
) -> Result<(), ArchiveFault> {
    let differs = |seq| ArchiveFault::Differs { at: at.to_owned(), seq };
    let log_id = log.identity().log_id;
    let (mut last, mut read) = (0, Vec::new().into_iter());
    for archived in &segment.records {
        last = archived.seq;
        let mut record = read.find(|record: &Record| record.seq >= last);
        if record.is_none() {
            read = log.read(last - 1, BATCH_EVENTS_MAX, BATCH_BYTES_MAX)?.into_iter();
            record = read.next();
        }
        let leaf = record.as_ref().map(|record| ArchivedRecord::from(record).leaf());
        if segment.log_id != log_id || leaf != Some(archived.leaf()) {
            return Err(differs(last));
        }
    }
    let Some(checkpoint) = &segment.checkpoint else { return Ok(()) };
    let root = log.root(last)?;
    if is_claimed(checkpoint, log_id, last, root) { Ok(()) } else { Err(differs(last)) }
}

/// Compares a segment that is there already with one that was to be written.
///
/// # Errors
/// If they differ or it cannot be read; `Ok(false)` if it is damaged.
pub(super) fn is_there(
    part: &ArchivePlace,
    name: &str,
    wanted: &ArchiveSegment,
) -> Result<bool, ArchiveFault> {
    let Ok(found) = read_segment(part, name) else { return Ok(false) };
    let leaves = |segment: &ArchiveSegment| -> Vec<_> {
        segment.records.iter().map(|record| (record.seq, record.leaf())).collect()
    };
    match leaves(&found) == leaves(wanted) {
        true => Ok(true),
        false => Err(ArchiveFault::Differs { at: part.located(name), seq: *wanted.seqs().start() }),
    }
}
