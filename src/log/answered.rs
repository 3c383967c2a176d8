//! The file `answered`: the moment up to which `known_at=<time>` may have been answered. No later
//! record is stamped so early, also after a start with the clock set back.
//!
//! A question about the present moves the moment on. So that it is not synced for each of them, a
//! moment one second later is kept in advance. The next start waits until that has passed.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rollcall_projections::Millis;
use xxhash_rust::xxh3::xxh3_64;

use crate::files;

const MAGIC: &[u8; 8] = b"RCANSWR1";
const SLOT_BYTES: usize = 24;
/// The slots are in different pages, so one torn write damages one slot.
const SLOT_DISTANCE: u64 = 4096;
const SLOTS: u64 = 2;

/// How far ahead of a question the kept moment is.
const KEPT_AHEAD_MS: Millis = 1000;

/// The file, and what is in it.
pub(super) struct AnsweredFile {
    file: File,
    /// The moment that is synced: no earlier than any that was answered.
    kept: Millis,
    /// The slot to write next.
    slot: u64,
}

impl AnsweredFile {
    /// Opens or creates the file. A slot that is not whole counts for nothing.
    pub(super) fn open(path: &Path) -> io::Result<AnsweredFile> {
        let file = files::open_or_create(path)?;
        if lacks_its_moment(&file)? {
            // Not a hole: a later write must succeed on a full disk.
            file.write_all_at(&[0; (SLOTS * SLOT_DISTANCE) as usize], 0)?;
            file.sync_all()?;
        }
        let (mut kept, mut slot) = (Millis::MIN, 0);
        for at in 0..SLOTS {
            let mut bytes = [0; SLOT_BYTES];
            file.read_exact_at(&mut bytes, at * SLOT_DISTANCE)?;
            if let Some(moment) = decode(&bytes).filter(|moment| *moment > kept) {
                (kept, slot) = (moment, 1 - at);
            }
        }
        Ok(AnsweredFile { file, kept, slot })
    }

    /// Returns the moment that is kept; [`Millis::MIN`] if there is none.
    pub(super) fn kept(&self) -> Millis {
        self.kept
    }

    /// Makes sure that a moment is kept. Returns the latest moment that is.
    pub(super) fn answer(&mut self, moment: Millis) -> io::Result<Millis> {
        if moment > self.kept {
            let kept = moment.saturating_add(KEPT_AHEAD_MS);
            self.file.write_all_at(&encode(kept), self.slot * SLOT_DISTANCE)?;
            self.file.sync_data()?;
            (self.kept, self.slot) = (kept, 1 - self.slot);
        }
        Ok(self.kept)
    }
}

/// Returns whether the file at `path` has lost its moment. One that is missing has none: a restored
/// folder begins without it.
pub(super) fn is_damaged(path: &Path) -> io::Result<bool> {
    match files::open(path) {
        Ok(file) => lacks_its_moment(&file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        // That is named as something else than a file.
        Err(error) if files::is_not_a_file(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Returns whether a file is shorter than a new one, or has bytes in its slots and none of them is
/// whole.
fn lacks_its_moment(file: &File) -> io::Result<bool> {
    if file.metadata()?.len() < SLOTS * SLOT_DISTANCE {
        return Ok(true);
    }
    let mut has_bytes = false;
    for at in 0..SLOTS {
        let mut bytes = [0; SLOT_BYTES];
        file.read_exact_at(&mut bytes, at * SLOT_DISTANCE)?;
        if decode(&bytes).is_some() {
            return Ok(false);
        }
        has_bytes |= bytes != [0; SLOT_BYTES];
    }
    Ok(has_bytes)
}

/// Encodes a slot: magic, the moment, XXH3 of both. Integers are little-endian.
fn encode(moment: Millis) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    out.extend(moment.to_le_bytes());
    out.extend(xxh3_64(&out).to_le_bytes());
    out
}

fn decode(bytes: &[u8; SLOT_BYTES]) -> Option<Millis> {
    let (signed, check) = bytes.split_last_chunk::<8>()?;
    let (magic, moment) = signed.split_first_chunk::<8>()?;
    let is_whole = magic == MAGIC && u64::from_le_bytes(*check) == xxh3_64(signed);
    is_whole.then_some(Millis::from_le_bytes(moment.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(path: &Path) -> AnsweredFile {
        AnsweredFile::open(path).unwrap()
    }

    #[test]
    fn at_most_a_second_more_is_kept_than_was_answered() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("answered");
        let mut file = open(&path);
        assert_eq!(file.kept(), Millis::MIN);
        assert_eq!(file.answer(5000).unwrap(), 6000);
        assert_eq!(file.answer(6000).unwrap(), 6000, "nothing is written");
        assert_eq!(file.answer(100).unwrap(), 6000);
        assert_eq!(open(&path).kept(), 6000);
        assert_eq!(file.answer(6001).unwrap(), 7001);
        assert_eq!(open(&path).kept(), 7001);
    }

    #[test]
    fn a_file_that_lost_its_moment_is_damaged_until_it_is_opened() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("answered");
        assert!(!is_damaged(&path).unwrap(), "it is missing");
        open(&path);
        assert!(!is_damaged(&path).unwrap(), "it is new");
        open(&path).answer(5000).unwrap();
        assert!(!is_damaged(&path).unwrap());
        for damaged in [vec![], vec![0; 100], vec![7_u8; 8192]] {
            std::fs::write(&path, damaged).unwrap();
            assert!(is_damaged(&path).unwrap());
            open(&path);
            assert!(!is_damaged(&path).unwrap());
        }
    }

    #[test]
    fn a_torn_slot_leaves_the_moment_of_the_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("answered");
        let mut file = open(&path);
        file.answer(5000).unwrap();
        file.answer(9000).unwrap();
        let raw = File::options().write(true).open(&path).unwrap();
        raw.write_all_at(&[0xff; 3], SLOT_DISTANCE + 9).unwrap();
        let mut file = open(&path);
        assert_eq!(file.kept(), 6000);
        // The torn slot is written next.
        file.answer(7000).unwrap();
        assert_eq!(open(&path).kept(), 8000);
    }
}
