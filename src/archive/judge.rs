//! Compares an archive with the log: at a start, and whenever the archive is reached again.

use rollcall_projections::Seq;

use super::part_of;
use super::survey::DamagedSegment;
use crate::log::{
    Archive, ArchivePlace, ArchiveSegment, ArchivedRecord, BATCH_BYTES_MAX, BATCH_EVENTS_MAX,
    FileDamage, History, ListedFile, ListedSegment, LostLeaves, PlaceError, ReadError, Record,
    logs_in, lost_leaves_among, segments_among, segments_in,
};
use crate::notary::is_claimed;

/// The number of lost records that are looked for in the archive, each in a segment or two.
const LOST_LOOKED_FOR: usize = 100;

/// Why the log is not archived, or why a server must not start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ArchiveFault {
    /// The place cannot be read or written.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// The log cannot be read.
    #[error("the log cannot be read: {0}")]
    Read(String),
    /// A file is damaged.
    #[error("`{at}` is damaged: {what}; move it away, and it is written anew")]
    Damaged {
        /// The file.
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
    /// A damaged segment has the name of records that the log lacks.
    #[error(
        "`{at}` is damaged, and by its name it held records of this log up to {last}, which has only \
        {head}; if it never did, move it away"
    )]
    DamagedAhead {
        /// The segment.
        at: String,
        /// The last record that its name promises.
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

impl From<FileDamage> for ArchiveFault {
    fn from(FileDamage { at, what }: FileDamage) -> ArchiveFault {
        ArchiveFault::Damaged { at, what }
    }
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
            | ArchiveFault::DamagedAhead { .. }
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
        let files = own.list()?;
        if !files.is_empty() {
            judge_newest(own, &segments_among(&files), log)?;
            return judge_lost(own, &files, log).map(drop);
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

/// The newest segments of a log's part of the archive.
#[derive(Default)]
pub(super) struct Newest {
    /// The name of the newest that is whole. It is of this log's history.
    pub(super) whole: Option<String>,
    /// Those after it, which are damaged.
    pub(super) damaged: Vec<DamagedSegment>,
}

/// Compares the newest whole one of the segments in a log's part of the archive with the log. It and
/// those after it are read whole.
///
/// # Errors
/// A contradiction, or what cannot be read.
pub(super) fn judge_newest(
    part: &ArchivePlace,
    segments: &[ListedSegment],
    log: &dyn History,
) -> Result<Newest, ArchiveFault> {
    let (mut newest, mut ahead, head) = (Newest::default(), None, log.head());
    let mut segments: Vec<&ListedSegment> = segments.iter().collect();
    segments.sort_by_key(|segment| std::cmp::Reverse(*segment.seqs.end()));
    for ListedSegment { seqs, name, .. } in segments {
        let last = *seqs.end();
        match read_segment(part, name)? {
            Ok(_) if last > head => {
                return Err(ArchiveFault::Ahead { place: part.to_string(), last, head });
            }
            // A segment was whole once, so the log was longer.
            Err(_) if last > head => {
                let fault = ArchiveFault::DamagedAhead { at: part.located(name), last, head };
                ahead = ahead.or(Some(fault));
            }
            Ok(segment) => {
                judge_segment(&segment, &part.located(name), log)?;
                newest.whole = Some(name.clone());
                break;
            }
            Err(what) => {
                let (seqs, name) = (seqs.clone(), name.clone());
                newest.damaged.push(DamagedSegment { seqs, name, what });
            }
        }
    }
    ahead.map_or(Ok(newest), Err)
}

/// Reads a segment, or what is wrong with it if it is damaged.
fn read_segment(
    part: &ArchivePlace,
    name: &str,
) -> Result<Result<ArchiveSegment, String>, PlaceError> {
    let bytes = part.read(name)?.ok_or_else(|| "it is gone".to_owned());
    Ok(bytes.and_then(|bytes| ArchiveSegment::decode(bytes.as_slice())))
}

/// Compares a segment with the log: its records, and the tree up to its end.
///
/// # Errors
/// A contradiction, or what cannot be read.
fn judge_segment(
    segment: &ArchiveSegment,
    at: &str,
    log: &dyn History,
) -> Result<(), ArchiveFault> {
    let differs = |seq| ArchiveFault::Differs { at: at.to_owned(), seq };
    let (log_id, lost) = (log.identity().log_id, log.lost_leaves()?);
    let (mut last, mut read) = (0, Vec::new().into_iter().peekable());
    for archived in &segment.records {
        last = archived.seq;
        while read.next_if(|record: &Record| record.seq < last).is_some() {}
        if read.peek().is_none() {
            read = log.read(last - 1, BATCH_EVENTS_MAX, BATCH_BYTES_MAX)?.into_iter().peekable();
        }
        let record = read.next_if(|record| record.seq == last);
        let leaf = record.map(|record| ArchivedRecord::from(&record).leaf());
        let leaf = leaf.or_else(|| lost.get(&last).copied());
        if segment.log_id != log_id || leaf != Some(archived.leaf()) {
            return Err(differs(last));
        }
    }
    let Some(checkpoint) = &segment.checkpoint else { return Ok(()) };
    let root = log.root(last)?;
    if is_claimed(checkpoint, log_id, last, root) { Ok(()) } else { Err(differs(last)) }
}

/// Compares the lost records of which a log's part of the archive has the leaves with those of the
/// log. `files` are all of that part. Returns the archived ones.
///
/// # Errors
/// A contradiction, or what cannot be read.
pub(super) fn judge_lost(
    part: &ArchivePlace,
    files: &[ListedFile],
    log: &dyn History,
) -> Result<LostLeaves, ArchiveFault> {
    let archived = lost_leaves_among(part, files)?;
    let (head, own) = (log.head(), log.lost_leaves()?);
    if let Some(last) = archived.keys().copied().next_back().filter(|last| *last > head) {
        return Err(ArchiveFault::Ahead { place: part.to_string(), last, head });
    }
    let differs = |(seq, leaf): (&Seq, &_)| own.get(seq).is_some_and(|own| own != leaf);
    match archived.iter().find(|found| differs(*found)) {
        Some((seq, _)) => Err(ArchiveFault::Differs { at: part.to_string(), seq: *seq }),
        None => Ok(archived),
    }
}

/// Returns one of the first lost records of a log that the segments in its part of the archive still
/// have.
///
/// # Errors
/// If the log cannot be read.
pub(super) fn still_archived(
    part: &ArchivePlace,
    segments: &[ListedSegment],
    log: &dyn History,
) -> Result<Option<Seq>, ReadError> {
    let (log_id, lost) = (log.identity().log_id, log.lost_leaves()?);
    let mut archive = Archive::of(part.clone(), segments.to_vec());
    Ok(lost.into_keys().take(LOST_LOOKED_FOR).find(|seq| archive.record(log_id, *seq).is_some()))
}

/// Compares a segment that is there already with one that was to be written. Returns what is wrong
/// with it if it is damaged.
///
/// # Errors
/// If they differ, or it cannot be read.
pub(super) fn damage_to(
    part: &ArchivePlace,
    name: &str,
    wanted: &ArchiveSegment,
) -> Result<Option<String>, ArchiveFault> {
    let found = match read_segment(part, name)? {
        Ok(found) => found,
        Err(what) => return Ok(Some(what)),
    };
    let leaves = |segment: &ArchiveSegment| -> Vec<_> {
        segment.records.iter().map(|record| (record.seq, record.leaf())).collect()
    };
    match leaves(&found) == leaves(wanted) {
        true => Ok(None),
        false => Err(ArchiveFault::Differs { at: part.located(name), seq: *wanted.seqs().start() }),
    }
}
