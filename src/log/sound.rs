//! An archive that is read and checked before a log is made of it.

use std::collections::BTreeSet;

use rollcall_projections::{Millis, Seq};

use super::archive::{Archive, ArchivedRecord, FileDamage};
use super::lost_leaves::{self, LostLeaves};
use super::manifest::{Checksums, Manifest, checksum};
use super::merkle::{Edge, Hash};
use super::open::is_data_folder;
use super::place::ArchivePlace;
use super::progress::{Report, Stage, report_at};
use super::public_files::{PUBLIC_KEY, PublicFiles};
use super::ranges::Ranges;
use super::restore::{Missing, RestoreError};
use super::{LogId, add_range};
use crate::notary::is_claimed;

/// An archive that was read and checked.
pub(super) struct Sound {
    pub(super) archive: Archive,
    pub(super) log_id: LogId,
    pub(super) size: Seq,
    /// The tree hash over all records; `None` if a leaf is not known, or nothing proves a record.
    pub(super) root: Option<Hash>,
    pub(super) acknowledged: Option<Seq>,
    accepted: Missing,
    pub(super) missing: Vec<(Seq, Seq)>,
    /// Records of damaged segments that can be read, and that nothing proves.
    pub(super) unproven: Ranges,
    /// Records of damaged segments that are not what they were, or among which one is not.
    unused: Ranges,
    /// The leaves of missing records, as far as they are known.
    pub(super) lost_leaves: LostLeaves,
    pub(super) public: PublicFiles,
    /// The tree hash over the records that a run before has written.
    pub(super) begun_root: Option<Hash>,
}

/// An archive whose files other than segments were read.
struct Listed {
    archive: Archive,
    log_id: LogId,
    manifest: Option<Manifest>,
    lost_leaves: LostLeaves,
    public: PublicFiles,
}

impl Listed {
    /// Reads every file in `from` but the segments, and checks that none is missing.
    fn read(from: &ArchivePlace, accepted: Missing) -> Result<Listed, RestoreError> {
        let mut archive = Archive::open(from)?;
        if archive.is_empty() {
            if let ArchivePlace::Folder(path) = from
                && is_data_folder(path).unwrap_or(false)
            {
                return Err(RestoreError::DataFolder(path.clone()));
            }
            let none = || RestoreError::NotAnArchive(from.to_string());
            return Err(Manifest::missing_segment(from).map_or_else(none, RestoreError::from));
        }
        let log_id = archive.log_id()?;
        let place = archive.place().clone();
        let damaged = |name: &str, what| FileDamage { at: place.located(name), what };
        let manifest = Manifest::read(&place)?;
        if let Some(needed) = archive.needs()?
            && manifest.as_ref().is_none_or(|manifest| manifest.name() != needed)
            && accepted == Missing::Refused
        {
            return Err(RestoreError::Lacking(place.located(&needed)));
        }
        if let Some(manifest) = &manifest {
            if !manifest.is_of(log_id) {
                let what = "it is of another log than the segments".into();
                return Err(damaged(manifest.name(), what).into());
            }
            check_files(&archive, &manifest.files, accepted)?;
            archive.expect(manifest.files.clone());
        }
        let lost_leaves = lost_leaves::read(&place)?;
        let public = PublicFiles::read(&place)?;
        public.check_key(log_id).map_err(|what| damaged(PUBLIC_KEY, what))?;
        Ok(Listed { archive, log_id, manifest, lost_leaves, public })
    }

    /// Returns the newest record that there must be.
    fn promised(&self) -> Seq {
        let missing = self.manifest.as_ref().and_then(|manifest| manifest.missing.last());
        let missing = missing.map_or(0, |(_, last)| *last);
        let acknowledged = self.acknowledged().unwrap_or(0);
        let mut last = self.archive.last().max(missing).max(acknowledged);
        // Those that follow the last segment are of the log too.
        while self.lost_leaves.contains_key(&last.saturating_add(1)) {
            last += 1;
        }
        // No log is larger, so a damaged number makes no endless loop.
        last.min(Seq::from(u32::MAX))
    }

    fn acknowledged(&self) -> Option<Seq> {
        self.manifest.as_ref().and_then(|manifest| manifest.acknowledged)
    }

    /// Returns whether the log itself was without a record, so that it is not missing here.
    fn was_lost(&self, seq: Seq) -> bool {
        let is_of_salvage = self.manifest.as_ref().is_some_and(|manifest| !manifest.is_of_backup());
        !is_of_salvage && self.lost_leaves.contains_key(&seq)
    }

    /// Returns the leaf of a record, if it is there or lost with its leaf.
    fn leaf(&self, seq: Seq, record: Option<&ArchivedRecord>) -> Result<Option<Hash>, FileDamage> {
        let kept = self.lost_leaves.get(&seq).copied();
        match (record.map(ArchivedRecord::leaf), kept) {
            (Some(leaf), Some(kept)) if leaf != kept => Err(FileDamage {
                at: self.archive.place().to_string(),
                what: format!("record {seq} has another leaf than the one that was lost"),
            }),
            (leaf, kept) => Ok(leaf.or(kept)),
        }
    }

    /// Compares the checkpoint of a segment that ends with `seq`, and the handover of that size, if
    /// there are some, with the tree so far. Signatures are left to an auditor, who has the key from
    /// elsewhere. Returns whether there is one of a segment, which fits.
    fn check_checkpoints(&self, seq: Seq, edge: &Edge) -> Result<bool, FileDamage> {
        let (archive, log_id) = (&self.archive, self.log_id);
        let of_segment = archive.checkpoint_at(seq);
        if let Some((checkpoint, at)) = &of_segment
            && !is_claimed(checkpoint, log_id, seq, edge.root())
        {
            let what = "its checkpoint is not that of the records up to it".into();
            return Err(FileDamage { at: at.clone(), what });
        }
        match self.public.damaged_handover(log_id, seq, || edge.root()) {
            Some(name) => {
                let what = "it is not a checkpoint of the records up to it".into();
                Err(FileDamage { at: archive.place().located(&name), what })
            }
            None => Ok(of_segment.is_some()),
        }
    }
}

/// Checks that the files of a list are in the place of an archive, and that those that are not
/// segments are as they were written: a segment is compared when it is read.
fn check_files(archive: &Archive, files: &Checksums, missing: Missing) -> Result<(), RestoreError> {
    let (place, segments) = (archive.place(), archive.names().collect::<BTreeSet<&str>>());
    for (name, expected) in files.iter().filter(|(name, _)| !segments.contains(name.as_str())) {
        let (folder, file) = match name.split_once('/') {
            Some((folder, file)) => (place.within(folder), file),
            None => (place.clone(), name.as_str()),
        };
        match folder.read(file)? {
            None if missing == Missing::Accepted => {}
            None => return Err(RestoreError::Lacking(place.located(name))),
            Some(bytes) if checksum(&bytes) != *expected => {
                let what = "it is not as it was written".into();
                return Err(RestoreError::Damaged { path: place.located(name), what });
            }
            Some(_) => {}
        }
    }
    Ok(())
}

/// A record that is found in an archive.
struct FoundRecord {
    record: ArchivedRecord,
    /// True if it is in a damaged segment and no leaf of its own proves it.
    is_unproven: bool,
}

/// Finds the next record. Consecutive seqs are cheapest. Where records may be missing, one in a
/// damaged segment is found if it has its leaf, or, where that is not known and `unused` does not
/// have it, if its parts say the same of it.
///
/// # Errors
/// The damage to a segment that may have the record, if none may be missing.
fn find_record(
    archive: &mut Archive,
    (log_id, seq): (LogId, Seq),
    accepted: Missing,
    lost_leaf: Option<&Hash>,
    unused: &Ranges,
) -> Result<Option<FoundRecord>, FileDamage> {
    let proven = |record| Some(FoundRecord { record, is_unproven: false });
    if accepted == Missing::Refused {
        return Ok(archive.checked_record(log_id, seq)?.and_then(proven));
    }
    if let Some(record) = archive.record(log_id, seq) {
        return Ok(proven(record));
    }
    let mut remaining = archive.remaining_records(log_id, seq).into_iter();
    Ok(match lost_leaf {
        Some(leaf) => remaining.find(|record| record.leaf() == *leaf).and_then(proven),
        None if unused.has(seq, seq) => None,
        None => remaining
            .find(ArchivedRecord::agrees_with_itself)
            .map(|record| FoundRecord { record, is_unproven: true }),
    })
}

/// A pass over an archive.
#[derive(Default)]
struct Pass {
    /// The tree over the records so far; `None` from the first one on whose leaf is not known.
    edge: Option<Edge>,
    missing: Vec<(Seq, Seq)>,
    /// Those of them without which nothing is restored.
    refused: Vec<(Seq, Seq)>,
    /// Records of damaged segments for which no root vouches yet.
    unproven: Ranges,
    /// The stamp of the newest record.
    recorded_at: Millis,
    /// The tree hash over the records that were acknowledged, and over those written already.
    root_then: Option<Hash>,
    begun_root: Option<Hash>,
}

/// What ends a pass.
enum PassEnd {
    Failed(RestoreError),
    /// A record of those that nothing proves is not what it was.
    Refuted(Ranges),
}

impl<E: Into<RestoreError>> From<E> for PassEnd {
    fn from(error: E) -> PassEnd {
        PassEnd::Failed(error.into())
    }
}

impl Pass {
    /// Reads every record. The first `begun` are written already; `unused` are not taken from
    /// damaged segments.
    fn run(
        listed: &mut Listed,
        accepted: Missing,
        unused: &Ranges,
        begun: Seq,
        report: Report<'_>,
    ) -> Result<Pass, PassEnd> {
        let (size, acknowledged) = (listed.promised(), listed.acknowledged());
        let mut pass =
            Pass { edge: Some(Edge::default()), recorded_at: Millis::MIN, ..Pass::default() };
        for seq in 1..=size {
            let lost_leaf = listed.lost_leaves.get(&seq);
            let archive = &mut listed.archive;
            let found = find_record(archive, (listed.log_id, seq), accepted, lost_leaf, unused)?;
            pass.take(listed, accepted, seq, found)?;
            pass.compare(listed, seq)?;
            let root = || pass.edge.as_ref().map(Edge::root);
            if acknowledged == Some(seq) {
                pass.root_then = root();
            }
            if begun == seq {
                pass.begun_root = root();
            }
            report_at(report, Stage::Check, seq, size);
        }
        pass.compare_acknowledged(listed)?;
        Ok(pass)
    }

    /// Takes a record, or notes that there is none.
    fn take(
        &mut self,
        listed: &Listed,
        accepted: Missing,
        seq: Seq,
        found: Option<FoundRecord>,
    ) -> Result<(), PassEnd> {
        match &found {
            Some(FoundRecord { record, is_unproven }) => {
                if *is_unproven {
                    self.unproven.add(seq, seq);
                }
                if let Ok(receipt) = record.read_receipt() {
                    if receipt.recorded_at < self.recorded_at {
                        self.refute()?;
                    }
                    self.recorded_at = receipt.recorded_at;
                }
            }
            None => {
                add_range(&mut self.missing, (seq, seq));
                if accepted == Missing::Refused && !listed.was_lost(seq) {
                    add_range(&mut self.refused, (seq, seq));
                }
            }
        }
        let leaf = listed.leaf(seq, found.as_ref().map(|found| &found.record))?;
        self.edge = self.edge.take().zip(leaf).map(|(mut edge, leaf)| {
            edge.push(leaf, |_, _, _| {});
            edge
        });
        Ok(())
    }

    /// Ends the pass, if there are records that nothing proves: one of them must be another.
    fn refute(&mut self) -> Result<(), PassEnd> {
        match self.unproven.is_empty() {
            true => Ok(()),
            false => Err(PassEnd::Refuted(std::mem::take(&mut self.unproven))),
        }
    }

    /// Compares the tree with the checkpoints of this size. One that fits proves all up to it.
    fn compare(&mut self, listed: &mut Listed, seq: Seq) -> Result<(), PassEnd> {
        let Some(edge) = &self.edge else { return Ok(()) };
        match listed.check_checkpoints(seq, edge) {
            Ok(true) => self.unproven = Ranges::default(),
            Ok(false) => {}
            Err(damage) => {
                self.refute()?;
                return Err(damage.into());
            }
        }
        if self.unproven.is_empty() {
            return Ok(());
        }
        let (log_id, root) = (listed.log_id, edge.root());
        let remaining = listed.archive.remaining_checkpoints(seq);
        if remaining.iter().any(|checkpoint| is_claimed(checkpoint, log_id, seq, root)) {
            self.unproven = Ranges::default();
        }
        Ok(())
    }

    /// Compares the tree with the root that was acknowledged.
    fn compare_acknowledged(&mut self, listed: &Listed) -> Result<(), PassEnd> {
        let place = listed.archive.place();
        let expected = listed.manifest.as_ref().map(|list| list.acknowledged_root(place));
        let (Some(expected), Some(found)) = (expected.transpose()?.flatten(), self.root_then)
        else {
            return Ok(());
        };
        if expected != found {
            self.refute()?;
            return Err(RestoreError::Differs(place.to_string()).into());
        }
        let proven: Ranges = listed.acknowledged().map(|last| (1, last)).into_iter().collect();
        self.unproven = self.unproven.without(&proven);
        Ok(())
    }
}

impl Sound {
    /// Reads the whole archive in `from`. The first `begun` records are written already.
    pub(super) fn check(
        from: &ArchivePlace,
        accepted: Missing,
        begun: Seq,
        report: Report<'_>,
    ) -> Result<Sound, RestoreError> {
        let mut listed = Listed::read(from, accepted)?;
        let mut unused = Ranges::default();
        // Each pass but the last leaves out more of the records that nothing proves.
        let pass = loop {
            match Pass::run(&mut listed, accepted, &unused, begun, report) {
                Ok(pass) => break pass,
                Err(PassEnd::Failed(error)) => return Err(error),
                Err(PassEnd::Refuted(more)) => {
                    more.iter().for_each(|(first, last)| unused.add(first, last));
                }
            }
        };
        let Pass { edge, missing, refused, unproven, begun_root, .. } = pass;
        if !refused.is_empty() {
            return Err(RestoreError::Missing { path: from.to_string(), missing: refused });
        }
        let (size, acknowledged) = (listed.promised(), listed.acknowledged());
        let Listed { archive, log_id, lost_leaves, public, .. } = listed;
        let root = edge.filter(|_| unproven.is_empty()).map(|edge| edge.root());
        Ok(Sound {
            archive,
            log_id,
            size,
            root,
            acknowledged,
            accepted,
            missing,
            unproven,
            unused,
            lost_leaves,
            public,
            begun_root,
        })
    }

    /// Finds a record as the check has found it.
    pub(super) fn record(&mut self, seq: Seq) -> Result<Option<ArchivedRecord>, FileDamage> {
        let (log_id, lost_leaf) = (self.log_id, self.lost_leaves.get(&seq));
        let found =
            find_record(&mut self.archive, (log_id, seq), self.accepted, lost_leaf, &self.unused)?;
        Ok(found.map(|found| found.record))
    }

    /// Returns the stamp of the first record that is there.
    pub(super) fn first_recorded_at(&mut self) -> Result<Millis, String> {
        let first = match self.missing.first() {
            Some((1, last)) => last + 1,
            _ => 1,
        };
        let record = self.record(first).map_err(|damage| damage.what)?;
        let record = record.ok_or("no record is left")?;
        Ok(record.read_receipt().map_err(|error| error.to_string())?.recorded_at)
    }
}
