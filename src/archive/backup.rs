//! Backups: an archive as one stream, in the format of tar. Its last file says how many records
//! there must be, and their root, so that a backup that is cut off is never taken for a whole one.

use std::cell::Cell;
use std::io::{self, Read, Write};
use std::path::Path;

use rollcall_projections::Seq;

use super::{SegmentBounds, first_public_key, handovers, read_records};
use crate::engine::Engine;
use crate::log::{
    ArchivePlace, ArchiveSegment, BACKUP_MANIFEST, Checksums, FILE_BYTES_MAX, HANDOVERS, Manifest,
    PUBLIC_KEY, ReadError, SEGMENT_RECORDS_MAX, checksum, encode_lost_leaves, is_of_leaves, ranges,
    seqs_of,
};
use crate::notary::is_checkpoint;
use crate::time;

/// The most bytes of bodies in a segment of a backup of more than one record.
const BODY_BYTES_MAX: usize = 4 << 20;

/// The bytes of a block of tar. Two blocks of zeros end a file.
const BLOCK_BYTES: usize = 512;

/// The most bytes of zeros after the first block of them. Some tools write more than one.
const END_BYTES_MAX: usize = 64 << 10;

/// Why a backup was not written to its end.
#[derive(Debug, thiserror::Error)]
pub enum BackupFault {
    /// The log cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The reader has left, or the stream cannot be written.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Its key was revoked, or the server stops.
    #[error("it was ended")]
    Ended,
}

/// The records of a backup.
#[derive(Clone, Copy, Debug)]
pub struct BackupExtent {
    /// The last record that its reader has already: no segment has it or one before it.
    pub after: Seq,
    /// The last record.
    pub seq: Seq,
}

/// Writes a backup of the first `seq` records, without segments of those up to `after`. Holds a few
/// megabytes at a time, and nothing of the engine while it writes. Blocks while it reads the log.
///
/// # Errors
/// [`BackupFault`]: then the stream must break off.
pub fn write_backup(
    out: impl Write,
    engine: &Engine,
    BackupExtent { after, seq }: BackupExtent,
    goes_on: &dyn Fn() -> bool,
) -> Result<(), BackupFault> {
    let mut backup = Backup { tar: tar::Builder::new(out), files: Checksums::new() };
    if let Some(key) = first_public_key(engine)? {
        backup.put(PUBLIC_KEY, key.as_bytes())?;
    }
    for (name, note) in handovers(engine, 0, seq) {
        backup.put(&format!("{HANDOVERS}/{name}"), note.as_bytes())?;
    }
    let mut lost = engine.log().lost_leaves()?;
    lost.retain(|lost, _| *lost <= seq);
    for (name, lines) in encode_lost_leaves(&lost, &[])? {
        backup.put(&name, &lines)?;
    }
    let mut first = after + 1;
    while first <= seq {
        if !goes_on() {
            return Err(BackupFault::Ended);
        }
        let last = seq.min(first + SEGMENT_RECORDS_MAX as Seq - 1);
        let bounds = SegmentBounds { first, last, body_bytes_max: BODY_BYTES_MAX };
        first = last + 1;
        if let Some(segment) = read_records(engine, bounds)? {
            let segment = ArchiveSegment { needs: Some(BACKUP_MANIFEST.to_owned()), ..segment };
            first = segment.seqs().end() + 1;
            backup.put(&segment.name(), &segment.encode()?)?;
        }
    }
    let lost = ranges(lost.into_keys());
    let Backup { mut tar, files } = backup;
    let manifest = Manifest::of_backup(engine.log_id(), seq, engine.root(seq)?, lost, files);
    put(&mut tar, BACKUP_MANIFEST, &manifest.text()?)?;
    tar.into_inner()?.flush()?;
    Ok(())
}

/// A backup that is being written, with the checksums of its files so far.
struct Backup<W: Write> {
    tar: tar::Builder<W>,
    files: Checksums,
}

impl<W: Write> Backup<W> {
    fn put(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        put(&mut self.tar, name, bytes)?;
        self.files.insert(name.to_owned(), checksum(bytes));
        Ok(())
    }
}

fn put(backup: &mut tar::Builder<impl Write>, name: &str, bytes: &[u8]) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o600);
    header.set_mtime(u64::try_from(time::now_ms() / 1000).unwrap_or(0));
    backup.append_data(&mut header, name, bytes)
}

/// Why a backup cannot be unpacked. Each is the end of a sentence that begins with the backup.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// It ends too early.
    #[error("is cut off {}", place(.after))]
    CutOff {
        /// The last whole file.
        after: Option<String>,
    },
    /// It cannot be read as a backup.
    #[error("is damaged {}: {what}", place(.after))]
    Damaged {
        /// The last whole file.
        after: Option<String>,
        /// What is wrong.
        what: String,
    },
    /// There is more after it.
    #[error("goes on after its end")]
    GoesOn,
    /// It has something that no backup has.
    #[error("holds `{0}`, which no backup of Rollcall has")]
    Foreign(String),
    /// It has a file more than once.
    #[error("holds `{0}` twice")]
    Repeated(String),
    /// A file cannot be written.
    #[error("cannot be unpacked: {0}")]
    Unwritten(String),
}

fn place(after: &Option<String>) -> String {
    after.as_ref().map_or("at its beginning".into(), |name| format!("after its file `{name}`"))
}

/// Unpacks a backup into the folder `to`, which has none of its files. It may have been packed anew,
/// with its files in another order. `progress` gets the last record of each segment.
///
/// # Errors
/// [`UnpackError`].
pub fn unpack(
    from: impl Read,
    to: &Path,
    progress: &mut dyn FnMut(Seq),
) -> Result<(), UnpackError> {
    let mut after: Option<String> = None;
    let (mut has_manifest, is_at_end) = (false, Cell::new(false));
    let damaged = |after: &Option<String>, error: io::Error| match is_at_end.get() {
        true => UnpackError::CutOff { after: after.clone() },
        false => UnpackError::Damaged { after: after.clone(), what: error.to_string() },
    };
    let mut backup = tar::Archive::new(Watched { from, is_at_end: &is_at_end });
    for entry in backup.entries().map_err(|error| damaged(&after, error))? {
        let entry = entry.map_err(|error| damaged(&after, error))?;
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let name = within_backup(&path);
        match entry.header().entry_type() {
            tar::EntryType::Directory if is_folder_of_backup(name) => continue,
            tar::EntryType::Regular if is_of_backup(name) => {}
            _ => return Err(UnpackError::Foreign(path.chars().take(100).collect())),
        }
        let (name, size) = (name.to_owned(), entry.size());
        if size > FILE_BYTES_MAX {
            return Err(UnpackError::Foreign(name));
        }
        let mut bytes = Vec::new();
        entry.take(size).read_to_end(&mut bytes).map_err(|error| damaged(&after, error))?;
        if bytes.len() as u64 != size {
            return Err(UnpackError::CutOff { after });
        }
        write(to, &name, &bytes)?;
        has_manifest |= name == BACKUP_MANIFEST;
        if let Some(seqs) = seqs_of(&name) {
            progress(*seqs.end());
        }
        after = Some(name);
    }
    if !has_manifest {
        return Err(UnpackError::CutOff { after });
    }
    let (mut end, rest) = (Vec::new(), backup.into_inner());
    let read = rest.take(END_BYTES_MAX as u64 + 1).read_to_end(&mut end);
    read.map_err(|error| damaged(&after, error))?;
    match end.len() {
        _ if end.iter().any(|byte| *byte != 0) => Err(UnpackError::GoesOn),
        ..BLOCK_BYTES => Err(UnpackError::CutOff { after }),
        BLOCK_BYTES..=END_BYTES_MAX => Ok(()),
        _ => Err(UnpackError::GoesOn),
    }
}

/// A stream that notes that its end was reached.
struct Watched<'a, R> {
    from: R,
    is_at_end: &'a Cell<bool>,
}

impl<R: Read> Read for Watched<'_, R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let read = self.from.read(bytes);
        if let Ok(0) = read {
            self.is_at_end.set(true);
        }
        read
    }
}

fn write(to: &Path, name: &str, bytes: &[u8]) -> Result<(), UnpackError> {
    let place = ArchivePlace::Folder(to.to_owned());
    let written = match name.split_once('/') {
        Some((folder, name)) => place.within(folder).create(name, bytes),
        None => place.create(name, bytes),
    };
    match written {
        Ok(true) => Ok(()),
        Ok(false) => Err(UnpackError::Repeated(name.to_owned())),
        Err(error) => Err(UnpackError::Unwritten(error.to_string())),
    }
}

/// Returns the name of a file within the backup. Tools that pack its folder anew write `./` in front.
fn within_backup(mut path: &str) -> &str {
    while let Some(rest) = path.strip_prefix("./") {
        path = rest.trim_start_matches('/');
    }
    path
}

/// Returns whether a backup that was packed anew may hold a folder of this name.
fn is_folder_of_backup(name: &str) -> bool {
    ["", ".", HANDOVERS].contains(&name.trim_end_matches('/')) && !name.starts_with('/')
}

/// Returns whether a backup may hold a file of this name.
fn is_of_backup(name: &str) -> bool {
    match name.split_once('/') {
        Some((folder, name)) => {
            folder == HANDOVERS && !name.contains('/') && is_checkpoint(Path::new(name))
        }
        None => {
            [PUBLIC_KEY, BACKUP_MANIFEST].contains(&name)
                || seqs_of(name).is_some()
                || is_of_leaves(name)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_of_a_backup_are_unpacked() {
        for name in [
            "checkpoint-key.pub",
            "backup.json",
            "00000000000000000001-00000000000000000009.ndjson.zst",
            "checkpoint-key.handovers/00000000000000000009.checkpoint",
            "lost-leaves.ndjson",
        ] {
            assert!(is_of_backup(name), "{name}");
        }
        for name in [
            "",
            "checkpoint-key",
            "/etc/passwd",
            "../backup.json",
            "checkpoint-key.handovers/../x.checkpoint",
            "checkpoint-key.handovers/a/00000000000000000009.checkpoint",
            "x/00000000000000000009.checkpoint",
        ] {
            assert!(!is_of_backup(name), "{name}");
        }
    }

    fn packed(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut backup = tar::Builder::new(Vec::new());
        for (name, bytes) in files {
            put(&mut backup, name, bytes).unwrap();
        }
        backup.into_inner().unwrap()
    }

    fn unpacked(bytes: &[u8]) -> Result<usize, UnpackError> {
        let folder = tempfile::tempdir().unwrap();
        unpack(bytes, folder.path(), &mut |_| {})?;
        Ok(std::fs::read_dir(folder.path()).unwrap().count())
    }

    #[test]
    fn a_backup_that_is_cut_off_anywhere_is_not_taken_for_a_whole_one() {
        let whole = packed(&[("checkpoint-key.pub", b"key\n"), ("backup.json", b"{}\n")]);
        assert_eq!(unpacked(&whole).unwrap(), 2);
        // Around each border of a block of tar, and in between.
        for at in (0..whole.len()).filter(|at| at % 64 < 2 || at % 512 == 511) {
            let error = unpacked(&whole[..at]).unwrap_err().to_string();
            assert!(error.starts_with("is cut off "), "{at}: {error}");
        }
        // Some tools write more zeros; nothing else follows.
        assert_eq!(unpacked(&[&whole[..], &[0; 8192]].concat()).unwrap(), 2);
        for more in [&whole[..], b"x", &[0; END_BYTES_MAX]] {
            let error = unpacked(&[&whole[..], more].concat()).unwrap_err().to_string();
            assert_eq!(error, "goes on after its end");
        }
        let error = unpacked(&whole[..1024]).unwrap_err().to_string();
        assert_eq!(error, "is cut off after its file `checkpoint-key.pub`");
        let key = ("checkpoint-key.pub", b"key".as_slice());
        for (files, says) in [
            (&[key][..], "is cut off after its file `checkpoint-key.pub`"),
            (&[key, key][..], "holds `checkpoint-key.pub` twice"),
            (&[("checkpoint-key", b"secret".as_slice())][..], "holds `checkpoint-key`, which no"),
        ] {
            let error = unpacked(&packed(files)).unwrap_err().to_string();
            assert!(error.starts_with(says), "{error}");
        }
    }

    /// Packs entries whose names no library would write.
    fn packed_raw(entries: &[(&str, tar::EntryType, &[u8])]) -> Vec<u8> {
        let mut backup = tar::Builder::new(Vec::new());
        for (name, entry_type, bytes) in entries {
            let mut header = tar::Header::new_gnu();
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_entry_type(*entry_type);
            header.set_size(bytes.len() as u64);
            header.set_mode(0o600);
            header.set_cksum();
            backup.append(&header, *bytes).unwrap();
        }
        backup.into_inner().unwrap()
    }

    #[test]
    fn a_backup_that_was_packed_anew_is_unpacked_and_nothing_gets_out_of_its_folder() {
        use tar::EntryType::{Directory, Link, Regular, Symlink};
        let handover = "./checkpoint-key.handovers/00000000000000000009.checkpoint";
        let whole = packed_raw(&[
            ("./", Directory, b""),
            ("./backup.json", Regular, b"{}"),
            ("./checkpoint-key.handovers/", Directory, b""),
            (handover, Regular, b"note"),
            ("./checkpoint-key.pub", Regular, b"key"),
        ]);
        let folder = tempfile::tempdir().unwrap();
        unpack(whole.as_slice(), folder.path(), &mut |_| {}).unwrap();
        for name in ["backup.json", &handover[2..], "checkpoint-key.pub"] {
            assert!(folder.path().join(name).is_file(), "{name}");
        }
        for (name, entry_type) in [
            ("../backup.json", Regular),
            (".//../backup.json", Regular),
            ("./../backup.json", Regular),
            ("/backup.json", Regular),
            ("./x/backup.json", Regular),
            ("./backup.json", Symlink),
            ("./backup.json", Link),
            ("./checkpoint-key.handovers/../", Directory),
            ("../", Directory),
            ("/", Directory),
            ("./store/", Directory),
        ] {
            let error = unpacked(&packed_raw(&[(name, entry_type, b"")])).unwrap_err();
            assert!(matches!(error, UnpackError::Foreign(_)), "{name}: {error}");
        }
    }

    #[test]
    fn progress_names_the_last_record_of_each_segment() {
        let whole = packed(&[
            ("checkpoint-key.pub", b"key\n"),
            ("00000000000000000001-00000000000000004096.ndjson.zst", b"x"),
            ("00000000000000004097-00000000000000004100.ndjson.zst", b"x"),
            ("backup.json", b"{}\n"),
        ]);
        let (folder, mut seen) = (tempfile::tempdir().unwrap(), Vec::new());
        unpack(whole.as_slice(), folder.path(), &mut |seq| seen.push(seq)).unwrap();
        assert_eq!(seen, [4096, 4100]);
    }
}
