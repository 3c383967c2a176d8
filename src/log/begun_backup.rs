//! What a backup that was interrupted has left in its folder, for another run to go on with.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rollcall_projections::Seq;

use super::LogId;
use super::archive::{ArchiveSegment, ListedSegment, segments_in};
use super::lost_leaves::{self, LostLeaves};
use super::manifest::{BACKUP_MANIFEST, Checksums, Manifest, checksum};
use super::merkle::{Edge, Hash};
use super::place::ArchivePlace;
use super::progress::{Progress, Report, Stage};
use super::restore::RestoreError;
use crate::files;
use crate::notary::is_claimed;

/// The whole segments in the folder of a backup, up to the first record that is in none of them.
pub struct BegunBackup {
    folder: PathBuf,
    log_id: Option<LogId>,
    edge: Edge,
    files: Checksums,
}

impl BegunBackup {
    /// Reads and checks every segment in `folder`. `report` gets the progress.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn find(folder: &Path, report: Report<'_>) -> Result<BegunBackup, RestoreError> {
        let place = ArchivePlace::Folder(folder.to_owned());
        // They are sent again. Without them a gap ends what is kept.
        let lost = lost_leaves::read(&place).unwrap_or_default();
        let mut listed = segments_in(&place)?;
        listed.sort_by_key(|segment| *segment.seqs.start());
        let of = listed.last().map_or(0, |segment| *segment.seqs.end());
        let (edge, files) = (Edge::default(), Checksums::new());
        let mut begun = BegunBackup { folder: folder.to_owned(), log_id: None, edge, files };
        for ListedSegment { name, .. } in listed {
            let Some(bytes) = place.read(&name)? else { break };
            let taken = ArchiveSegment::decode(bytes.as_slice())
                .is_ok_and(|segment| segment.name() == name && begun.take(&segment, &lost));
            if !taken {
                break;
            }
            begun.files.insert(name, checksum(&bytes));
            report(Progress::At { stage: Stage::Kept, seq: begun.seq(), of });
        }
        Ok(begun)
    }

    /// Takes a segment, if it is the next one of the log.
    fn take(&mut self, segment: &ArchiveSegment, lost: &LostLeaves) -> bool {
        let is_of_log = self.log_id.is_none_or(|log_id| log_id == segment.log_id);
        if !is_of_log || segment.needs.as_deref() != Some(BACKUP_MANIFEST) {
            return false;
        }
        let mut edge = self.edge.clone();
        for record in &segment.records {
            while edge.size() + 1 < record.seq {
                let Some(leaf) = lost.get(&(edge.size() + 1)) else { return false };
                edge.push(*leaf, |_, _, _| {});
            }
            if edge.size() + 1 != record.seq {
                return false;
            }
            edge.push(record.leaf(), |_, _, _| {});
        }
        (self.log_id, self.edge) = (Some(segment.log_id), edge);
        true
    }

    /// Returns the last record that is there, all before it included; 0 if there is none.
    pub fn seq(&self) -> Seq {
        self.edge.size()
    }

    /// Returns whether `note` is a checkpoint of exactly the records that are there.
    pub fn is_in(&self, note: &str) -> bool {
        let root: Hash = self.edge.root();
        self.log_id.is_some_and(|log_id| is_claimed(note, log_id, self.seq(), root))
    }

    /// Removes every file that is not one of the segments: each is sent again.
    ///
    /// # Errors
    /// If one cannot be removed.
    pub fn remove_others(&self) -> io::Result<()> {
        files::remove_all_but(&self.folder, |name| self.files.contains_key(name)).map(drop)
    }

    /// Adds the segments that were there to the list of the backup, which names only those that
    /// were sent.
    ///
    /// # Errors
    /// If the list cannot be read or written.
    pub fn complete_list(self) -> Result<(), RestoreError> {
        if self.files.is_empty() {
            return Ok(());
        }
        let io_error = |error| RestoreError::Io { path: self.folder.clone(), error };
        let place = ArchivePlace::Folder(self.folder.clone());
        let Some(mut list) = Manifest::read(&place)? else {
            return Err(RestoreError::Lacking(place.located(BACKUP_MANIFEST)));
        };
        list.files.extend(self.files.clone());
        let text = list.text().map_err(io_error)?;
        // A kill in between leaves a backup without a list, which another run goes on with.
        fs::remove_file(self.folder.join(BACKUP_MANIFEST)).map_err(io_error)?;
        place.create(BACKUP_MANIFEST, &text)?;
        Ok(())
    }
}
