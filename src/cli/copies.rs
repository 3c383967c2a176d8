//! The places outside of the data folder that get copies of the log or of its checkpoints, and what
//! they say at a start.

use std::path::Path;
use std::sync::Arc;

use super::Failure;
use super::publish::Publish;
use super::running::open_failure;
use crate::archive::{self, ArchiveFault, Archiver};
use crate::log::{ArchivePlace, History, OpenError};
use crate::notary::Verifier;

/// The places that get copies.
pub(super) struct Copies {
    pub(super) publish: Publish,
    pub(super) archive: Option<Arc<Archiver>>,
}

impl Copies {
    /// Returns no places.
    pub(super) fn nowhere() -> Copies {
        Copies { publish: Publish::nowhere(), archive: None }
    }

    fn place(&self) -> Option<&ArchivePlace> {
        self.archive.as_ref().map(|archive| archive.place())
    }

    /// Reports that a data folder does not open. Names the archive if there is one, and the records
    /// in the folder are in question.
    pub(super) fn open_failure(&self, error: OpenError) -> Failure {
        match self.place().filter(|_| error.is_damage()) {
            Some(place) => Failure::Ours(format!("{error}; {}", restore_from(place))),
            None => open_failure(error),
        }
    }

    fn refuse_published(&self, says: &str, data: &Path) -> Failure {
        let other =
            "put back the folder that has them, or `rollcall restore --from` a copy that has";
        let way = self.place().map_or_else(|| other.to_owned(), restore_from);
        Failure::Ours(format!("the data folder `{}` {says}; {way}, {FORK}", data.display()))
    }
}

/// The advice to go on in spite of a copy.
const FORK: &str = "or start once with --accept-fork, which goes on without those records as \
                    another log, with another id and key";

/// Compares the log, or a folder without one, with what its archive holds. A folder that is set back
/// to an older copy, or made anew after its disk was lost, would otherwise give other records the
/// numbers of those that were acknowledged.
///
/// # Errors
/// Ours, if the archive has records that the log lacks, or other ones; and if that cannot be told
/// before a log is begun.
pub(super) fn judge_start(
    copies: &Copies,
    log: Option<&dyn History>,
    data: &Path,
) -> Result<(), Failure> {
    if let Some(place) = copies.place()
        && let Err(fault) = archive::judge_start(place, log)
    {
        refuse(&fault, log.is_some(), data, &restore_from(place))?;
    }
    let published = copies.publish.of_a_log().filter(|_| log.is_none());
    published.map_or(Ok(()), |says| Err(copies.refuse_published(&says, data)))
}

/// Compares the log with the checkpoints that were published and that one of `keys` has signed.
///
/// # Errors
/// Ours, if the log lacks records that were published, or has others.
pub(super) fn judge_published(
    copies: &Copies,
    log: &dyn History,
    keys: &[Verifier],
    data: &Path,
) -> Result<(), Failure> {
    let judged = copies.publish.judge_start(log, keys);
    judged.map_err(|says| copies.refuse_published(&says, data))
}

/// Returns true if the log contradicts what its archive or a published checkpoint says of it, so
/// that it must become another log to go on.
pub(super) fn contradicts(copies: &Copies, log: &dyn History) -> bool {
    let judged = copies.place().map(|place| archive::judge_start(place, Some(log)));
    let by_archive = matches!(judged, Some(Err(fault)) if fault.needs_another_id());
    by_archive || copies.publish.contradicts(log)
}

fn restore_from(place: impl std::fmt::Display) -> String {
    format!("`rollcall restore --from {place} --data NEW` restores what is archived there")
}

fn refuse(fault: &ArchiveFault, has_log: bool, data: &Path, restore: &str) -> Result<(), Failure> {
    let data = data.display();
    Err(Failure::Ours(match fault {
        ArchiveFault::OtherLog { .. } if has_log => format!(
            "{fault}, and none of the log in `{data}`: name another archive with --archive, or \
             start once with --accept-fork to keep both there"
        ),
        ArchiveFault::OtherLog { .. } => {
            format!("there is no log in `{data}` yet, and {fault}; {restore}, {FORK}")
        }
        ArchiveFault::Ahead { .. }
        | ArchiveFault::DamagedAhead { .. }
        | ArchiveFault::Differs { .. } => {
            format!("{fault}; `{data}` is an older copy, or was changed; {restore}, {FORK}")
        }
        // The log that is there goes on, and the archive is tried again.
        fault if has_log => {
            tracing::warn!(%fault, "the archive cannot be compared with the log");
            return Ok(());
        }
        fault => format!(
            "there is no log in `{data}` yet, and whether the archive has one cannot be told: \
             {fault}; mend that, or start once with --accept-fork"
        ),
    }))
}
