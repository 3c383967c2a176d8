//! The archive: a second copy of the log in segments that any tool reads, written while the server
//! runs; and backups, which are an archive as one stream.
//!
//! Each log has a part of its own in the archive, named by its id, so that two logs never overwrite
//! each other.

mod backup;
mod judge;
mod status;
mod survey;
mod writer;

pub use backup::{BackupExtent, BackupFault, UnpackError, unpack, write_backup};
pub use judge::{ArchiveFault, judge_start};
pub use status::{ArchiveError, ArchiveReport, ArchiveStatus};
pub use writer::{Archiver, Archiving};

use rollcall_projections::Seq;

use crate::engine::Engine;
use crate::log::{ArchivePlace, ArchiveSegment, ArchivedRecord, LogId, ReadError};
use crate::notary::{Notary, file_name, origin};

/// Returns the part of a log.
fn part_of(place: &ArchivePlace, log_id: LogId) -> ArchivePlace {
    place.within(&uuid::Uuid::from_bytes(log_id).to_string())
}

/// The bounds of a segment.
#[derive(Clone, Copy, Debug)]
struct SegmentBounds {
    first: Seq,
    /// The last record that may be in it.
    last: Seq,
    /// The most bytes of bodies in a segment of more than one record.
    body_bytes_max: usize,
}

/// Reads the next records, and the signed checkpoint that ends with them; `None` if the log has none
/// of them any more.
fn read_records(
    engine: &Engine,
    bounds: SegmentBounds,
) -> Result<Option<ArchiveSegment>, ReadError> {
    let SegmentBounds { first, last, body_bytes_max } = bounds;
    let count = usize::try_from(last.saturating_sub(first) + 1).unwrap_or(usize::MAX);
    let mut records = engine.log().read(first.saturating_sub(1), count, body_bytes_max)?;
    records.retain(|record| record.seq <= last);
    let Some(last) = records.last().map(|record| record.seq) else { return Ok(None) };
    Ok(Some(ArchiveSegment {
        log_id: engine.log_id(),
        records: records.iter().map(ArchivedRecord::from).collect(),
        checkpoint: engine.checkpoint(last)?,
        needs: None,
    }))
}

/// Returns the public key that the log had first, as the file `checkpoint-key.pub` holds it; `None`
/// without a notary.
fn first_public_key(engine: &Engine) -> Result<Option<String>, ReadError> {
    // The changes of a log that became this one name keys of that log.
    let own = format!("{}+", origin(engine.log_id()));
    let mut keys = engine.key_changes()?.into_iter().map(|change| change.from);
    let first = keys.find(|key| key.starts_with(&own));
    let key = first.or_else(|| engine.notary().map(|notary| notary.verifier().to_string()));
    Ok(key.map(|key| format!("{key}\n")))
}

/// Returns the handovers of the key after `after` and up to `until`, with the names of their files.
fn handovers(engine: &Engine, after: Seq, until: Seq) -> Vec<(String, String)> {
    let of_notary = |notary: &Notary| notary.handovers(after, until);
    let handovers = engine.notary().map(of_notary).unwrap_or_default();
    handovers.into_iter().map(|(size, note)| (file_name(size), note)).collect()
}
