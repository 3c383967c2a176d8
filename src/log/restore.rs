//! Restore: builds a data folder from the segments of an archive, and reads it back.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rollcall_projections::Seq;

use super::archive::FileDamage;
use super::filling::{CACHE_BYTES, FillError, Filling};
use super::open::{Checked, OpenError, Unrecovered};
use super::place::{ArchivePlace, PlaceError};
use super::progress::{Progress, Report, Stage, report_at};
use super::ranges::Ranges;
use super::raw::records;
use super::receipt::lost_leaf;
use super::sound::Sound;
use super::stopped::StoppedFolder;
use super::store::StoreError;
use super::unfinished::UnfinishedFolder;
use super::{History, LogId};

/// The outcome of a restore.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// The newest record.
    pub seq: Seq,
    /// The tree hash over all records, as read back from the new folder.
    pub root: [u8; 32],
    /// The number of records that had been acknowledged, if the archive says it.
    pub acknowledged: Option<Seq>,
    /// The records without which it was restored, as pairs of the first and the last.
    pub lost: Vec<(Seq, Seq)>,
    /// The records that are from damaged segments and that no leaf and no root proves, as pairs of the
    /// first and the last.
    pub unproven: Vec<(Seq, Seq)>,
    /// The name of the new log, if it could not be the one before: a leaf is lost as well, or nothing
    /// proves a record.
    pub new_log_id: Option<LogId>,
    /// The segments that are damaged. Those of their records that cannot be read were taken as
    /// missing.
    pub damaged: Vec<PlaceError>,
    /// The number of records that a run before, which was interrupted, had written.
    pub kept: Seq,
}

/// What a restore does about records that are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// Nothing is restored.
    Refused,
    /// The log is restored without them: each keeps its seq, and its leaf if that is known. If one
    /// is not, the records get another log.
    Accepted,
}

/// Why nothing was restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// There is a file or a folder at the place for the outcome.
    #[error("`{0}` is there already; name a new folder")]
    Exists(PathBuf),
    /// There are no segments in the place.
    #[error(
        "`{0}` has no segments of an archive; `rollcall backup`, `serve --archive` and `rollcall \
        salvage` make some"
    )]
    NotAnArchive(String),
    /// It is a data folder.
    #[error(
        "`{0}` is a data folder, and no archive; stop its server, and `rollcall salvage --data {0} \
        --out ARCHIVE` makes an archive of it"
    )]
    DataFolder(PathBuf),
    /// Records are missing.
    #[error(
        "{} {} missing in `{path}`; run `rollcall salvage` with another copy as `--from` and this \
         folder as one more, and restore what it makes; if there is no copy, restore without them \
         with `--accept-missing`",
        records(missing),
        if is_one(missing) { "is" } else { "are" }
    )]
    Missing {
        /// The archive.
        path: String,
        /// The records, as pairs of the first and the last.
        missing: Vec<(Seq, Seq)>,
    },
    /// A file is missing without which the others are only a part of what was written.
    #[error(
        "`{0}` is missing: this is only a part of what was written; copy all of it, or restore what \
        is there with `--accept-missing`"
    )]
    Lacking(String),
    /// A file of the archive is damaged.
    #[error("`{path}` is damaged: {what}; take it from another copy of the archive")]
    Damaged {
        /// The file.
        path: String,
        /// A description of the damage.
        what: String,
    },
    /// The records are not those that were acknowledged.
    #[error(
        "the records in `{0}` have another root than the one acknowledged: some are not what they \
         were; run `rollcall salvage` with another copy as `--from`"
    )]
    Differs(String),
    /// A run before left the beginning of another log.
    #[error(
        "`{}` was left by a restore that did not end, and {what}; remove it, or name another folder \
        with --data",
        path.display()
    )]
    OtherBegun {
        /// The folder.
        path: PathBuf,
        /// What is in it that does not fit.
        what: String,
    },
    /// A record cannot be kept as its receipt says.
    #[error("record {seq} cannot be restored: {what}")]
    Unfit {
        /// The record.
        seq: Seq,
        /// A description of the fault.
        what: String,
    },
    /// The new folder does not read back.
    #[error("the restored folder does not read back: {0}")]
    NotReadBack(#[source] OpenError),
    /// The archive cannot be read, or its public files not be copied.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// A file cannot be read or written.
    #[error("`{path}`: {error}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The error of the operating system.
        error: io::Error,
    },
}

impl RestoreError {
    /// Returns whether another run may succeed, and goes on with what is written.
    pub fn leaves_a_beginning(&self) -> bool {
        match self {
            RestoreError::Io { .. } | RestoreError::Place(_) | RestoreError::Damaged { .. } => true,
            RestoreError::NotReadBack(error) => !error.is_damage(),
            _ => false,
        }
    }
}

impl From<FileDamage> for RestoreError {
    fn from(FileDamage { at, what }: FileDamage) -> RestoreError {
        RestoreError::Damaged { path: at, what }
    }
}

fn is_one(missing: &[(Seq, Seq)]) -> bool {
    matches!(missing, [(first, last)] if first == last)
}

/// Builds the data folder `data`, which must not be there, from the segments in `from`, and reads
/// it back. `missing` says what happens if a record is not there. `report` gets the progress, from
/// time to time: of what is there already, while the archive is checked, while it is written, and
/// while it is read back. It is built in the folder `data.unfinished`; one that a run before left
/// there is gone on with, if its records are those of the archive.
///
/// # Errors
/// If a record is missing or not what it was, or if a file cannot be read or written. Then there is
/// no folder `data`; `data.unfinished` is there if something was written into it and another run can
/// go on with that.
pub fn restore(
    from: &ArchivePlace,
    data: &Path,
    missing: Missing,
    report: Report<'_>,
) -> Result<Restored, RestoreError> {
    if fs::symlink_metadata(data).is_ok() {
        return Err(RestoreError::Exists(data.to_owned()));
    }
    let io_error = |error| RestoreError::Io { path: data.to_owned(), error };
    let mut unfinished = UnfinishedFolder::resume(data).map_err(io_error)?;
    let begun = begun_in(&unfinished, report).map_err(io_error)?;
    // What is there stays whatever is wrong with the archive.
    unfinished.keep(begun.is_some());
    let head = begun.as_ref().map_or(0, History::head);
    let sound = Sound::check(from, missing, head, report)?;
    let begun = match begun.map(|begun| fitting(begun, &sound, unfinished.path())).transpose()? {
        Some(Err(why)) => {
            report(Progress::Removed { why });
            unfinished.clear().map_err(io_error)?;
            None
        }
        fitting => fitting.and_then(Result::ok),
    };
    unfinished.keep(true);
    let filled = fill(sound, begun, unfinished.path(), report);
    unfinished.keep(filled.as_ref().err().is_some_and(RestoreError::leaves_a_beginning));
    let restored = filled?;
    unfinished.finish().map_err(io_error)?;
    Ok(restored)
}

/// Checks the records that a run before has written, and removes them if they are of no use. They
/// are locked.
fn begun_in(unfinished: &UnfinishedFolder, report: Report<'_>) -> io::Result<Option<Checked>> {
    if unfinished.is_empty()? {
        return Ok(None);
    }
    let found = Unrecovered::open(unfinished.path(), CACHE_BYTES).and_then(|folder| {
        let of = folder.last_key();
        folder.check(&|seq| report(Progress::At { stage: Stage::Kept, seq, of }))
    });
    let why = match found {
        Ok(begun) if begun.head() > 0 => return Ok(Some(begun)),
        Ok(_) => "no record is in it".to_owned(),
        Err(OpenError::InUse(path)) => {
            let what = format!("`{}` is in use by another process", path.display());
            return Err(io::Error::new(io::ErrorKind::WouldBlock, what));
        }
        Err(error) => error.to_string(),
    };
    report(Progress::Removed { why: &why });
    unfinished.clear()?;
    Ok(None)
}

/// Compares the records that a run before has written with the archive. Returns why they are of no
/// use, if they are not.
///
/// # Errors
/// If they are those of another log, or records that the archive lacks.
fn fitting(
    begun: Checked,
    sound: &Sound,
    path: &Path,
) -> Result<Result<Checked, &'static str>, RestoreError> {
    let (head, log_id) = (begun.head(), begun.identity().log_id);
    let other = |what: String| RestoreError::OtherBegun { path: path.to_owned(), what };
    let has_more = |what: &str| {
        other(format!(
            "{what}: `rollcall salvage --data {} --from ARCHIVE --out OUT` takes the records of \
             both; to go on without those in it",
            path.display()
        ))
    };
    if log_id != sound.log_id && sound.root.is_some() {
        let name = |log_id| uuid::Uuid::from_bytes(log_id).to_string();
        let (found, wanted) = (name(log_id), name(sound.log_id));
        return Err(other(format!("it is of log {found}, and the archive of log {wanted}")));
    }
    if sound.root.is_none() {
        let why = "a log that gets another name is always restored from its first record";
        return match log_id == sound.log_id {
            true => {
                Err(has_more("it has the name of the log, which the records of the archive lose"))
            }
            false => Ok(Err(why)),
        };
    }
    if begun.root(head).ok() != sound.begun_root {
        return Err(other(format!(
            "its first {head} records are not those of the archive, which has {}",
            sound.size
        )));
    }
    let lost: Ranges = begun.lost().iter().copied().collect();
    let within: Ranges = [(1, head)].into_iter().collect();
    let missing = sound.missing.iter().copied().collect::<Ranges>().both(&within);
    if !missing.without(&lost).is_empty() {
        return Err(has_more("it has records that the archive lacks"));
    }
    match lost == missing {
        true => Ok(Ok(begun)),
        false => Ok(Err("records were missing then that are there now")),
    }
}

/// Checks that an archive has every record, as [`restore`] does, and makes nothing.
///
/// # Errors
/// Those of [`restore`].
pub fn check_archive(from: &ArchivePlace, report: Report<'_>) -> Result<Restored, RestoreError> {
    let Sound { archive, size, root, acknowledged, missing, .. } =
        Sound::check(from, Missing::Refused, 0, report)?;
    // Without a missing record every leaf is known.
    let root = root.unwrap_or_default();
    let damaged = archive.damaged();
    let (lost, unproven, new_log_id, kept) = (missing, Vec::new(), None, 0);
    Ok(Restored { seq: size, root, acknowledged, lost, unproven, new_log_id, damaged, kept })
}

/// Writes every record into the folder `folder`, behind those that are there, and reads it back. The
/// public files of the key come last.
fn fill(
    mut sound: Sound,
    begun: Option<Checked>,
    folder: &Path,
    report: Report<'_>,
) -> Result<Restored, RestoreError> {
    let unfit = |seq, what: &str| RestoreError::Unfit { seq, what: what.to_owned() };
    let unwritten = |seq, error| match error {
        FillError::Unfit(what) => RestoreError::Unfit { seq, what },
        FillError::Io(error) => RestoreError::Io { path: folder.to_owned(), error },
    };
    let store_error = |error| RestoreError::NotReadBack(OpenError::of(error, folder));
    let new_log_id = sound.root.is_none().then(|| uuid::Uuid::new_v4().into_bytes());
    let own_id = new_log_id.unwrap_or(sound.log_id);
    let kept = begun.as_ref().map_or(0, History::head);
    let mut filling = match begun {
        Some(begun) => Filling::go_on(begun.open_parts().map_err(RestoreError::NotReadBack)?),
        None => {
            let recorded_at = sound.first_recorded_at().map_err(|what| unfit(1, &what))?;
            Filling::begin(folder, own_id, recorded_at).map_err(store_error)?
        }
    };
    let (size, root) = (sound.size, sound.root);
    let lost = std::mem::take(&mut sound.missing);
    let mut gaps = lost.iter().copied().peekable();
    for seq in kept + 1..=size {
        while gaps.next_if(|(_, last)| *last < seq).is_some() {}
        let put = if gaps.peek().is_some_and(|(first, _)| *first <= seq) {
            let leaf = sound.lost_leaves.get(&seq).filter(|_| new_log_id.is_none()).copied();
            filling.put_lost(leaf.unwrap_or_else(|| lost_leaf(own_id, seq)))
        } else {
            let record = sound.record(seq)?;
            filling.put(record.ok_or_else(|| unfit(seq, "it is gone"))?)
        };
        put.map_err(|error| unwritten(seq, error))?;
        report_at(report, Stage::Write, seq, size);
    }
    filling.write().map_err(|error| unwritten(size, error))?;
    filling.write_lost().map_err(|error| unwritten(size, error.into()))?;
    let filled_root = filling.finish(folder).map_err(store_error)?;
    let root = root.unwrap_or(filled_root);
    let stopped = StoppedFolder::open(folder).map_err(RestoreError::NotReadBack)?;
    let read_back = |seq| report(Progress::At { stage: Stage::ReadBack, seq, of: size });
    let log = stopped.recover(&read_back).map_err(RestoreError::NotReadBack)?;
    if (log.head(), log.root(size)) != (size, Ok(root)) {
        let what = "its root is not that of the archive".to_owned();
        return Err(store_error(StoreError::Damaged(what)));
    }
    // Another log has another key.
    if new_log_id.is_none() {
        sound.public.write(folder, size)?;
    }
    let (acknowledged, damaged) = (sound.acknowledged, sound.archive.damaged());
    let unproven = sound.unproven.iter().collect();
    Ok(Restored { seq: size, root, acknowledged, lost, unproven, new_log_id, damaged, kept })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::archive::{ArchiveSegment, ArchivedRecord};
    use crate::log::lost_leaves::{self, LostLeaves};
    use crate::log::merkle::{Edge, Hash};
    use crate::log::tiles::Rows;
    use crate::log::{Log, Outcome, Record, Unrecovered};
    use crate::verify::{Keyring, Verified};
    use rollcall_generator::sign;
    use rollcall_projections::{Millis, RecordStatus};

    const NOW: Millis = 1_760_000_000_000;
    const LOG_ID: LogId = *b"0123456789abcdef";

    fn event(body: &str) -> Verified {
        let header = sign("s", NOW, body.as_bytes());
        let body = body.to_owned().into();
        Verified::webhook(&Keyring::new(["s"], 0), Some(header.as_bytes()), body, NOW).unwrap()
    }

    fn user(id: &str, name: &str) -> String {
        format!(r#"{{"id":"{id}","event":"x.y","data":{{"name":"{name}"}}}}"#)
    }

    /// Makes a record of each body, in batches of three.
    fn records(bodies: &[String]) -> Vec<ArchivedRecord> {
        let record = |(seq, body): (Seq, &String)| {
            let (recorded_at, salt) = (NOW + seq as Millis / 3, [seq as u8; 16]);
            let status = RecordStatus::Counts;
            let record = Record::of(LOG_ID, seq, recorded_at, &event(body), salt, status);
            ArchivedRecord::from(&record)
        };
        (1..).zip(bodies).map(record).collect()
    }

    #[test]
    fn records_of_an_event_that_came_again_are_all_restored_and_repeat_the_first() {
        let around = tempfile::tempdir().unwrap();
        let (place, data) = (around.path().join("archive"), around.path().join("data"));
        let place = ArchivePlace::Folder(place);
        let (a, other_a, no_id) = (user("a", "x"), user("a", "y"), "[]".to_owned());
        let bodies = [
            (a.clone(), RecordStatus::Counts),
            (user("b", "x"), RecordStatus::Counts),
            (a.clone(), RecordStatus::Repeat { of: 1 }),
            (other_a.clone(), RecordStatus::Conflict { first: 1 }),
            (no_id.clone(), RecordStatus::Counts),
            (other_a.clone(), RecordStatus::Repeat { of: 4 }),
            (no_id.clone(), RecordStatus::Repeat { of: 5 }),
            (a.clone(), RecordStatus::Repeat { of: 1 }),
        ];
        let (bodies, expected): (Vec<String>, Vec<RecordStatus>) = bodies.into_iter().unzip();
        let records = records(&bodies);
        let leaves = records.iter().map(ArchivedRecord::leaf).collect();
        let (checkpoint, needs) = (None, None);
        ArchiveSegment { log_id: LOG_ID, records, checkpoint, needs }.write(&place).unwrap();
        let restored = restore(&place, &data, Missing::Refused, &|_| {}).unwrap();
        let root = Edge::of(&Rows::of(leaves), 8).unwrap().root();
        assert_eq!((restored.seq, restored.root), (8, root));

        let stopped = StoppedFolder::open(&data).unwrap();
        let audit = stopped.audit(&Keyring::new(["s"], 0), &|_| {});
        assert_eq!(audit.findings_count, 0, "{:?}", audit.findings);
        drop(stopped);
        let log = Unrecovered::open(&data, CACHE_BYTES).unwrap().recover(&|_| {}).unwrap();
        let statuses = log.read(0, 10, 1 << 20).unwrap().into_iter().map(|record| record.status);
        assert_eq!(statuses.collect::<Vec<_>>(), expected);
        // They are known by their first records.
        let again = log.append([a, other_a, no_id].map(|body| event(&body)).to_vec(), NOW);
        let expected = [
            Outcome::Duplicate { seq: 1, differs: false },
            Outcome::Conflict { seq: 4, first: 1, duplicate: true },
            Outcome::Duplicate { seq: 5, differs: false },
        ];
        assert_eq!((again.as_deref(), log.head()), (Ok(&expected[..]), 8));
    }

    /// Two segments of six and of three records, in a folder of their own.
    struct TwoSegments {
        around: tempfile::TempDir,
        records: Vec<ArchivedRecord>,
    }

    impl TwoSegments {
        /// The second ends with a checkpoint of all if `has_checkpoint` is set.
        fn new(has_checkpoint: bool) -> TwoSegments {
            let around = tempfile::tempdir().unwrap();
            let bodies: Vec<String> = (1..10).map(|n| user(&format!("event{n}"), "ana")).collect();
            let records = records(&bodies);
            let two = TwoSegments { around, records };
            let (first, second) = two.records.split_at(6);
            let checkpoint = has_checkpoint.then(|| note(9, two.root()));
            two.write(first, None);
            two.write(second, checkpoint);
            two
        }

        fn write(&self, records: &[ArchivedRecord], checkpoint: Option<String>) {
            let records = records.to_vec();
            let segment = ArchiveSegment { log_id: LOG_ID, records, checkpoint, needs: None };
            segment.write(&self.place()).unwrap();
        }

        fn place(&self) -> ArchivePlace {
            ArchivePlace::Folder(self.around.path().join("archive"))
        }

        fn root(&self) -> Hash {
            let leaves = self.records.iter().map(ArchivedRecord::leaf).collect();
            Edge::of(&Rows::of(leaves), 9).unwrap().root()
        }

        /// Changes the lines of the first segment, whose hash at the end then is another one.
        fn damage(&self, change: impl Fn(&mut Vec<String>)) {
            let name = "00000000000000000001-00000000000000000006.ndjson.zst";
            let path = self.around.path().join("archive").join(name);
            let unpacked = zstd::decode_all(fs::read(&path).unwrap().as_slice()).unwrap();
            let text = String::from_utf8(unpacked).unwrap();
            let mut lines: Vec<String> = text.lines().map(|line| format!("{line}\n")).collect();
            change(&mut lines);
            fs::write(&path, zstd::encode_all(lines.concat().as_bytes(), 3).unwrap()).unwrap();
        }

        fn restore(&self) -> Restored {
            let data = self.around.path().join("data");
            let refused = restore(&self.place(), &data, Missing::Refused, &|_| {}).unwrap_err();
            assert!(matches!(refused, RestoreError::Damaged { .. }), "{refused}");
            let restored = restore(&self.place(), &data, Missing::Accepted, &|_| {}).unwrap();
            // Each record that is not lost has its body.
            let log = StoppedFolder::open(&data).unwrap().recover(&|_| {}).unwrap();
            let read = log.read(0, 10, 1 << 20).unwrap();
            let lost = |seq: Seq| restored.lost.iter().any(|(a, b)| (*a..=*b).contains(&seq));
            let left: Vec<_> = self.records.iter().filter(|one| !lost(one.seq)).collect();
            assert_eq!(
                read.iter().map(|record| (record.seq, &record.body)).collect::<Vec<_>>(),
                left.iter().map(|record| (record.seq, &record.body)).collect::<Vec<_>>()
            );
            restored
        }
    }

    /// A checkpoint, with a signature that this module does not look at.
    fn note(size: Seq, root: Hash) -> String {
        use base64::prelude::*;
        let (origin, root) = (crate::notary::origin(LOG_ID), BASE64_STANDARD.encode(root));
        let signature = BASE64_STANDARD.encode([7; 68]);
        format!("{origin}\n{size}\n{root}\n\n\u{2014} {origin} {signature}\n")
    }

    fn cut(lines: &mut [String], number: usize) {
        lines[number].truncate(20);
        lines[number].push('\n');
    }

    #[test]
    fn all_records_of_a_damaged_segment_are_restored_if_a_root_proves_them() {
        let archive = TwoSegments::new(true);
        archive.damage(|lines| lines[6] = lines[6].replace("\"sha256\":\"", "\"sha256\":\"x"));
        let Restored { root, lost, unproven, new_log_id, damaged, .. } = archive.restore();
        assert_eq!((root, lost, unproven), (archive.root(), vec![], vec![]));
        assert_eq!((new_log_id, damaged.len()), (None, 1));
    }

    #[test]
    fn records_of_a_damaged_segment_that_nothing_proves_are_kept_and_named() {
        for has_checkpoint in [true, false] {
            let archive = TwoSegments::new(has_checkpoint);
            archive.damage(|lines| cut(lines, 3));
            let Restored { lost, unproven, new_log_id, .. } = archive.restore();
            assert_eq!((lost, unproven), (vec![(4, 4)], vec![(1, 3), (5, 6)]));
            assert!(new_log_id.is_some(), "the leaf of record 4 is lost");
        }
        // With the leaf of the record that is lost, the root proves the others.
        let archive = TwoSegments::new(true);
        let leaves = LostLeaves::from([(4, archive.records[3].leaf())]);
        lost_leaves::write(&archive.place(), &leaves).unwrap();
        archive.damage(|lines| cut(lines, 3));
        let Restored { root, lost, unproven, new_log_id, .. } = archive.restore();
        assert_eq!((root, lost, unproven), (archive.root(), vec![(4, 4)], vec![]));
        assert_eq!(new_log_id, None);
    }

    #[test]
    fn no_record_of_a_damaged_segment_is_kept_that_a_root_or_its_own_receipt_refutes() {
        let body = |name: &str| {
            use base64::prelude::*;
            BASE64_STANDARD.encode(user("event2", name))
        };
        let change = |name: &str, by: &str| {
            let (from, to) = (body(name), body(by));
            move |lines: &mut Vec<String>| {
                assert!(lines[1].contains(&from));
                lines[1] = lines[1].replace(&from, &to);
            }
        };
        // One of them is another: nothing says which.
        let archive = TwoSegments::new(true);
        archive.damage(change("ana", "bob"));
        let Restored { lost, unproven, .. } = archive.restore();
        assert_eq!((lost, unproven), (vec![(1, 6)], vec![]));
        // The body has another id than the receipt.
        let archive = TwoSegments::new(false);
        archive.damage(|lines| lines[1] = lines[1].replace(&body("ana"), "e30="));
        let Restored { lost, unproven, .. } = archive.restore();
        assert_eq!((lost, unproven), (vec![(2, 2)], vec![(1, 1), (3, 6)]));
    }

    #[test]
    fn a_restore_goes_on_behind_the_records_that_are_there_and_shows_the_number_of_all() {
        let archive = TwoSegments::new(true);
        let at = |name: &str| archive.around.path().join(name);
        // What a restore of the first segment alone makes is the beginning of one of both.
        let first = ArchivePlace::Folder(at("first"));
        let records = archive.records[..6].to_vec();
        let segment = ArchiveSegment { log_id: LOG_ID, records, checkpoint: None, needs: None };
        segment.write(&first).unwrap();
        restore(&first, &at("data"), Missing::Refused, &|_| {}).unwrap();
        let begin = || fs::rename(at("data"), at("data.unfinished")).unwrap();
        begin();
        let seen = std::cell::RefCell::new(Vec::new());
        let report = |progress: Progress<'_>| match progress {
            Progress::At { stage, seq, of } => seen.borrow_mut().push((stage, seq, of)),
            Progress::Removed { why } => panic!("{why}"),
        };
        let restored = restore(&archive.place(), &at("data"), Missing::Refused, &report).unwrap();
        assert_eq!((restored.root, restored.seq, restored.kept), (archive.root(), 9, 6));
        let steps = [Stage::Check, Stage::Write, Stage::ReadBack].map(|stage| (stage, 9, 9));
        let seen = seen.into_inner();
        let (kept, others) = seen.split_first().unwrap();
        assert_eq!((kept.0, kept.1, others), (Stage::Kept, 6, &steps[..]));

        // All of it is there: it is read back once more, and gets its name.
        begin();
        let restored = restore(&archive.place(), &at("data"), Missing::Refused, &|_| {}).unwrap();
        assert_eq!((restored.root, restored.kept), (archive.root(), 9));
        // It is longer than the source, which may be an older copy.
        begin();
        let refused = restore(&first, &at("data"), Missing::Refused, &|_| {}).unwrap_err();
        assert!(matches!(refused, RestoreError::OtherBegun { .. }), "{refused}");
        assert!(at("data.unfinished").exists() && !at("data").exists(), "it is left as it was");
    }

    #[test]
    fn a_beginning_without_records_that_are_there_now_is_removed() {
        let archive = TwoSegments::new(true);
        let at = |name: &str| archive.around.path().join(name);
        let lacking = ArchivePlace::Folder(at("lacking"));
        let records = archive.records[1..].to_vec();
        let segment = ArchiveSegment { log_id: LOG_ID, records, checkpoint: None, needs: None };
        segment.write(&lacking).unwrap();
        let leaves = LostLeaves::from([(1, archive.records[0].leaf())]);
        lost_leaves::write(&lacking, &leaves).unwrap();
        let restored = restore(&lacking, &at("data"), Missing::Accepted, &|_| {}).unwrap();
        assert_eq!((restored.root, restored.lost), (archive.root(), vec![(1, 1)]));
        fs::rename(at("data"), at("data.unfinished")).unwrap();
        let removed = std::cell::Cell::new(0);
        let report = |progress: Progress<'_>| {
            if let Progress::Removed { .. } = progress {
                removed.set(removed.get() + 1);
            }
        };
        let restored = restore(&archive.place(), &at("data"), Missing::Accepted, &report).unwrap();
        assert_eq!((restored.root, restored.lost, restored.kept), (archive.root(), vec![], 0));
        assert_eq!(removed.get(), 1);
        // The other way round, the beginning has a record that the source lacks.
        fs::rename(at("data"), at("data.unfinished")).unwrap();
        let try_again = || restore(&lacking, &at("data"), Missing::Accepted, &|_| {}).unwrap_err();
        assert!(try_again().to_string().contains("`rollcall salvage"), "{}", try_again());
        fs::remove_file(at("lacking").join("lost-leaves.ndjson")).unwrap();
        assert!(try_again().to_string().contains("`rollcall salvage"), "{}", try_again());
        assert!(at("data.unfinished").exists() && !at("data").exists(), "it is left as it was");
    }
}
