//! The file `deliveries/NAME` in the data folder: how far an endpoint is.
//!
//! It is a journal of lines, each with its checksum. Its last whole line counts, so that a cut
//! costs no more than webhooks that are sent again. A line is written for each delivery: it
//! survives the end of the process. It is synced about every second, and at each command.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rollcall_projections::{Millis, Seq};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::engine::FeedPlace;
use crate::files;
use crate::hashes::Hash;

/// The folder of these files in the data folder.
const FOLDER: &str = "deliveries";

/// The bytes by which the file may grow before it is written anew; that of what is kept is added
/// twice.
const GROWTH: u64 = 4 << 20;

/// The most bytes that are read: what is kept takes about 5 MiB at most.
const READ_MAX: u64 = 24 << 20;

/// The last record of which anything was delivered, tried or passed over, by which the log is known
/// again. It may be behind the position: then webhooks were delivered before earlier ones.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Anchor {
    pub(super) seq: Seq,
    /// Its leaf in the tree, in hexadecimal digits.
    leaf: String,
}

impl Anchor {
    pub(super) fn new(seq: Seq, leaf: &Hash) -> Anchor {
        Anchor { seq, leaf: hex::encode(leaf) }
    }
}

/// What the file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kept {
    /// The id of the log.
    pub(super) log: String,
    /// The place up to which everything is delivered, but for what parked subjects wait for.
    pub(super) place: FeedPlace,
    /// `None` before the first record.
    pub(super) anchor: Option<Anchor>,
    /// What is delivered behind that place.
    pub(super) ahead: BTreeSet<FeedPlace>,
    /// For each parked subject, by its fingerprint, the place up to which its webhooks are
    /// delivered. Those behind it are not.
    pub(super) parked: BTreeMap<u64, FeedPlace>,
    /// The webhooks that fail, and since when.
    pub(super) failing: BTreeMap<FeedPlace, Millis>,
    /// The reason why the receiver wants no more.
    pub(super) gone: Option<String>,
}

/// A line of the file. A place is the seq and the item, which is left out behind the whole record.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Line {
    /// Everything up to here is delivered or parked. Lines before count no more if it is of another
    /// log.
    At { log: String, place: LinePlace, anchor: Option<Anchor> },
    /// Everything up to here is delivered or parked, in the log of the line before. Its anchor
    /// counts.
    Up { place: LinePlace, anchor: Option<Anchor> },
    /// Something of this record, behind the position, is delivered or was tried. The lines that
    /// say what come after it.
    Reached(Anchor),
    /// One webhook is delivered before others, or after it has failed.
    Done(LinePlace),
    /// The webhooks of these subjects are delivered up to here, and none behind it.
    Past(Vec<u64>, LinePlace),
    /// These subjects are parked no more.
    Free(Vec<u64>),
    /// A webhook fails since a moment.
    Failing(LinePlace, Millis),
    /// The receiver wants no more, or again.
    Gone(Option<String>),
}

/// A place as it is written.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct LinePlace(Seq, Option<u64>);

impl From<FeedPlace> for LinePlace {
    fn from(place: FeedPlace) -> LinePlace {
        LinePlace(place.seq, Some(place.item).filter(|item| *item != u64::MAX))
    }
}

impl From<LinePlace> for FeedPlace {
    fn from(LinePlace(seq, item): LinePlace) -> FeedPlace {
        FeedPlace { seq, item: item.unwrap_or(u64::MAX) }
    }
}

impl Kept {
    /// Begins in a log at a place.
    pub(super) fn at(log: String, place: FeedPlace, anchor: Option<Anchor>) -> Kept {
        let (ahead, parked, failing) = Default::default();
        Kept { log, place, anchor, ahead, parked, failing, gone: None }
    }

    /// Returns the place up to which everything is delivered.
    pub(super) fn delivered(&self) -> FeedPlace {
        self.parked.values().copied().min().map_or(self.place, |parked| parked.min(self.place))
    }

    /// Returns the record up to which everything is delivered.
    pub(super) fn seq(&self) -> Seq {
        whole_seq(self.delivered())
    }

    /// Returns the record up to which everything is delivered or parked.
    pub(super) fn settled_seq(&self) -> Seq {
        whole_seq(self.place)
    }

    /// Returns true if a webhook at a place waits for an earlier one of a parked subject, or is the
    /// first for which one waits.
    pub(super) fn is_parked_before(&self, place: FeedPlace, subjects: &[u64]) -> bool {
        subjects.iter().any(|one| self.parked.get(one).is_some_and(|parked| *parked < place))
    }

    pub(super) fn take(&mut self, line: Line) {
        match line {
            Line::At { log, place, anchor } => {
                *self = Kept { gone: self.gone.take(), ..Kept::at(log, place.into(), anchor) };
            }
            Line::Up { place, anchor } => {
                self.move_to(place.into());
                self.anchor = anchor;
            }
            Line::Reached(anchor) => self.anchor = Some(anchor),
            Line::Done(place) => {
                self.failing.remove(&place.into());
                if FeedPlace::from(place) > self.place {
                    self.ahead.insert(place.into());
                }
            }
            Line::Past(subjects, place) => {
                self.parked.extend(subjects.into_iter().map(|one| (one, place.into())));
            }
            Line::Free(subjects) => {
                for subject in subjects {
                    self.parked.remove(&subject);
                }
            }
            Line::Failing(place, since) => drop(self.failing.insert(place.into(), since)),
            Line::Gone(reason) => self.gone = reason,
        }
    }

    /// Takes an anchor, unless the one that it has is as far. Returns true if it was taken.
    pub(super) fn reach(&mut self, anchor: Anchor) -> bool {
        let is_further = self.anchor.as_ref().is_none_or(|kept| kept.seq < anchor.seq);
        if is_further {
            self.anchor = Some(anchor);
        }
        is_further
    }

    /// Returns the last record of which anything was delivered, tried or passed over.
    pub(super) fn last_seq(&self) -> Seq {
        let failing = self.failing.last_key_value().map(|(place, _)| place);
        let known = [self.ahead.last(), failing, self.parked.values().max()];
        let known = known.into_iter().flatten().map(|place| place.seq);
        known.chain(self.anchor.as_ref().map(|anchor| anchor.seq)).max().unwrap_or_default()
    }

    /// Moves to a place, and forgets what is delivered before it. A webhook that fails there is of
    /// parked subjects.
    pub(super) fn move_to(&mut self, place: FeedPlace) {
        self.place = place;
        self.ahead = self.ahead.split_off(&place);
        self.ahead.remove(&place);
        if self.parked.is_empty() {
            self.forget_failing(place);
        }
    }

    /// Forgets what fails up to a place.
    pub(super) fn forget_failing(&mut self, place: FeedPlace) {
        self.failing = self.failing.split_off(&place);
        self.failing.remove(&place);
    }

    fn lines(&self) -> Vec<Line> {
        let (log, anchor) = (self.log.clone(), self.anchor.clone());
        let mut lines = vec![Line::At { log, place: self.place.into(), anchor }];
        lines.extend(self.ahead.iter().map(|place| Line::Done((*place).into())));
        let parked = self.parked.iter();
        lines.extend(parked.map(|(one, place)| Line::Past(vec![*one], (*place).into())));
        let failing = self.failing.iter();
        lines.extend(failing.map(|(place, since)| Line::Failing((*place).into(), *since)));
        lines.extend(self.gone.is_some().then(|| Line::Gone(self.gone.clone())));
        lines
    }
}

/// Returns the place before that of a webhook.
pub(super) fn before(place: FeedPlace) -> FeedPlace {
    match place.item {
        0 => FeedPlace::after(place.seq.saturating_sub(1)),
        item => FeedPlace { item: item - 1, ..place },
    }
}

/// Returns the last record all of which is up to a place.
fn whole_seq(place: FeedPlace) -> Seq {
    if place.item == u64::MAX { place.seq } else { place.seq.saturating_sub(1) }
}

/// The file of an endpoint.
pub(super) struct PositionFile {
    path: PathBuf,
    /// `None` until something is written.
    file: Option<Arc<File>>,
    bytes: u64,
    /// The length from which on the file is written anew.
    bytes_max: u64,
}

/// What was found in the place of the file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// There is none: the endpoint is new.
    Nothing,
    /// A position.
    Position(Kept),
    /// It cannot be read, or holds no position.
    Damaged(String),
}

impl PositionFile {
    /// Names the file of an endpoint in a data folder.
    pub(super) fn of(data: &Path, name: &str) -> PositionFile {
        PositionFile { path: data.join(FOLDER).join(name), file: None, bytes: 0, bytes_max: 0 }
    }

    /// Reads the file.
    pub(super) fn read(&self) -> Found {
        let mut bytes = Vec::new();
        let read = files::open(&self.path).and_then(|file| {
            file.take(READ_MAX).read_to_end(&mut bytes)?;
            Ok(())
        });
        match read {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Found::Nothing,
            Err(error) => return Found::Damaged(format!("its position cannot be read: {error}")),
            Ok(()) => {}
        }
        let mut kept: Option<Kept> = None;
        for line in bytes.split_inclusive(|byte| *byte == b'\n').map_while(parsed) {
            match (&mut kept, line) {
                (Some(kept), line) => kept.take(line),
                (none, Line::At { log, place, anchor }) => {
                    *none = Some(Kept::at(log, place.into(), anchor));
                }
                (None, _) => break,
            }
        }
        let damaged = || Found::Damaged("its position is damaged".into());
        kept.map_or_else(damaged, Found::Position)
    }

    /// Replaces the file by what is kept, in one step. When it returns, that is synced.
    ///
    /// # Errors
    /// Those of the disk.
    pub(super) fn replace(&mut self, kept: &Kept) -> io::Result<()> {
        let text: Vec<u8> = kept.lines().iter().flat_map(written).collect();
        let folder = files::folder_of(&self.path);
        match DirBuilder::new().mode(0o700).create(folder) {
            Ok(()) => files::sync_parent(folder)?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        // Its mode is 600: other users cannot read it.
        let mut file = tempfile::Builder::new().prefix(".").tempfile_in(folder)?;
        file.write_all(&text)?;
        file.as_file().sync_all()?;
        let file = file.persist(&self.path).map_err(|error| error.error)?;
        files::sync_parent(&self.path)?;
        (self.file, self.bytes) = (Some(Arc::new(file)), text.len() as u64);
        self.bytes_max = 3 * self.bytes + GROWTH;
        Ok(())
    }

    /// Appends lines that `kept` has taken already. Writes the file anew once it is long.
    ///
    /// # Errors
    /// Those of the disk.
    pub(super) fn append(&mut self, lines: &[Line], kept: &Kept) -> io::Result<()> {
        let Some(file) = self.file.as_deref().filter(|_| self.bytes < self.bytes_max) else {
            return self.replace(kept);
        };
        let text: Vec<u8> = lines.iter().flat_map(written).collect();
        let mut file = file;
        if let Err(error) = file.write_all(&text) {
            // A part of the line may be there: nothing must be appended behind it.
            self.file = None;
            return Err(error);
        }
        self.bytes += text.len() as u64;
        Ok(())
    }

    /// Returns the file, to be synced without a lock.
    pub(super) fn to_sync(&self) -> Option<Arc<File>> {
        self.file.clone()
    }
}

fn written(line: &Line) -> Vec<u8> {
    // Texts and numbers always serialize.
    let json = serde_json::to_string(line).unwrap_or_default();
    format!("{:016x} {json}\n", xxh3_64(json.as_bytes())).into_bytes()
}

fn parsed(line: &[u8]) -> Option<Line> {
    let (checksum, json) = std::str::from_utf8(line).ok()?.strip_suffix('\n')?.split_once(' ')?;
    let fits = u64::from_str_radix(checksum, 16).ok()? == xxh3_64(json.as_bytes());
    if fits { serde_json::from_str(json).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(seq: Seq, item: u64) -> FeedPlace {
        FeedPlace { seq, item }
    }

    fn kept() -> Kept {
        let mut kept = Kept::at("ab".into(), place(7, 2), Some(Anchor::new(6, &[7; 32])));
        kept.ahead.insert(place(9, 0));
        kept.failing.insert(place(8, 0), 5);
        kept
    }

    #[test]
    fn what_is_appended_is_found_again_and_a_torn_line_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = PositionFile::of(folder.path(), "app");
        assert_eq!(file.read(), Found::Nothing);
        let mut kept = kept();
        file.replace(&kept).unwrap();
        assert_eq!(PositionFile::of(folder.path(), "app").read(), Found::Position(kept.clone()));
        kept.move_to(FeedPlace::after(8));
        let line = Line::Up { place: kept.place.into(), anchor: kept.anchor.clone() };
        file.append(&[line], &kept).unwrap();
        assert_eq!(file.read(), Found::Position(kept.clone()));
        assert!(!kept.reach(Anchor::new(6, &[8; 32])) && kept.reach(Anchor::new(9, &[9; 32])));
        file.append(&[Line::Reached(Anchor::new(9, &[9; 32]))], &kept).unwrap();
        assert_eq!(file.read(), Found::Position(kept.clone()));
        assert_eq!(kept.last_seq(), 9);
        assert!(kept.failing.is_empty() && kept.ahead.len() == 1 && kept.seq() == 8);
        let path = folder.path().join(FOLDER).join("app");
        let whole = std::fs::read(&path).unwrap();
        file.append(&[Line::Done(place(10, 1).into())], &kept).unwrap();
        let longer = std::fs::read(&path).unwrap();
        // Wherever the last line is cut, the lines before it count.
        for end in whole.len()..longer.len() {
            std::fs::write(&path, &longer[..end]).unwrap();
            assert_eq!(file.read(), Found::Position(kept.clone()), "cut at {end}");
        }
        std::fs::write(&path, &whole[1..]).unwrap();
        assert!(matches!(file.read(), Found::Damaged(_)));
    }

    #[test]
    fn a_parked_subject_holds_the_position_until_it_is_free() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = PositionFile::of(folder.path(), "app");
        let mut kept = Kept::at("ab".into(), FeedPlace::after(9), None);
        file.replace(&kept).unwrap();
        for (line, seq) in [
            (Line::Past(vec![1, 2], place(4, 0).into()), 3),
            (Line::Past(vec![2], place(7, 1).into()), 3),
            (Line::Free(vec![1]), 6),
            (Line::Past(vec![2], FeedPlace::after(8).into()), 8),
        ] {
            let text = vec![line];
            file.append(&text, &kept).unwrap();
            text.into_iter().for_each(|line| kept.take(line));
            assert_eq!((kept.seq(), kept.settled_seq()), (seq, 9));
            assert_eq!(file.read(), Found::Position(kept.clone()));
        }
        assert!(kept.is_parked_before(place(9, 0), &[1, 2]));
        assert!(!kept.is_parked_before(place(9, 0), &[1]));
        assert!(!kept.is_parked_before(place(8, 7), &[2]));
        // What is written anew holds the same.
        file.replace(&kept).unwrap();
        assert_eq!(file.read(), Found::Position(kept));
    }

    #[test]
    fn a_long_file_is_written_anew() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = PositionFile::of(folder.path(), "app");
        let mut kept = kept();
        for seq in 20..40_000 {
            kept.move_to(FeedPlace::after(seq));
            let line = Line::Up { place: kept.place.into(), anchor: kept.anchor.clone() };
            file.append(&[line], &kept).unwrap();
        }
        assert_eq!(file.read(), Found::Position(kept));
        let length = std::fs::metadata(folder.path().join(FOLDER).join("app")).unwrap().len();
        assert!(length < GROWTH + 3000, "{length}");
    }
}
