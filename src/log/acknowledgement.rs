//! The file `checkpoint`: how many records were acknowledged, and which.
//!
//! The store itself cannot tell that an acknowledged record is missing from its end. Two
//! checksummed slots are overwritten in turn before each acknowledgement, so a kill at any moment
//! leaves at least one whole. They are synced once a second and at a clean stop, so a power cut
//! together with a damaged tail goes unnoticed for at most that second.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rollcall_projections::Seq;
use xxhash_rust::xxh3::xxh3_64;

use super::LogId;
use crate::files;

const MAGIC: &[u8; 8] = b"RCCHECK2";
const SLOT_BYTES: usize = 144;
/// Marks slots written before the tree existed. They have no root and are read, never written.
const MAGIC_ROOTLESS: &[u8; 8] = b"RCCHECK1";
const ROOTLESS_BYTES: usize = SLOT_BYTES - 64;
/// The slots are in different pages, so one torn write damages one slot.
const SLOT_DISTANCE: u64 = 4096;
const SYNC_EVERY: Duration = Duration::from_secs(1);

/// An acknowledgement: the first `size` records are durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Acknowledgement {
    pub(super) log_id: LogId,
    /// The number of acknowledged records.
    pub(super) size: Seq,
    /// The leaf of the last one.
    pub(super) leaf: [u8; 32],
    /// The tree hash over all of them; none in a slot written before the tree existed.
    pub(super) root: Option<[u8; 32]>,
    /// The digest of all metadata, which no leaf covers: see `Block::chained_metadata`. Present
    /// where `root` is.
    pub(super) metadata: Option<[u8; 32]>,
}

/// The contents of the file when it was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Slots {
    /// The intact slot of the higher generation.
    pub(super) newest: Option<Acknowledgement>,
    /// The numbers of slots that were written and are no longer intact. One of them may have held
    /// the last acknowledgement.
    pub(super) damaged: Vec<u64>,
}

/// The file with its two slots.
pub(super) struct AcknowledgementFile {
    file: File,
    generation: u64,
    synced: Instant,
    dirty: bool,
}

impl AcknowledgementFile {
    /// Opens or creates the file and reads its slots.
    pub(super) fn open(path: &Path) -> io::Result<(AcknowledgementFile, Slots)> {
        let file = files::open_or_create(path)?;
        if file.metadata()?.len() < 2 * SLOT_DISTANCE {
            file.set_len(2 * SLOT_DISTANCE)?;
            file.sync_all()?;
        }
        let (generation, slots) = read_slots(&file)?;
        Ok((AcknowledgementFile { file, generation, synced: Instant::now(), dirty: false }, slots))
    }

    /// Overwrites the older slot. The write survives a kill at once, a power cut once synced.
    pub(super) fn write(&mut self, acknowledgement: &Acknowledgement) -> io::Result<()> {
        let due = self.sync_is_due();
        self.generation += 1;
        self.file.write_all_at(
            &encode(self.generation, acknowledgement),
            self.generation % 2 * SLOT_DISTANCE,
        )?;
        self.dirty = true;
        if due { self.sync() } else { Ok(()) }
    }

    /// Returns whether the next write syncs as well. The first write of each slot always does, so
    /// that an empty slot is evidence of damage.
    pub(super) fn sync_is_due(&self) -> bool {
        self.generation < 2 || self.synced.elapsed() >= SYNC_EVERY
    }

    /// Makes the last write survive a power cut.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        if self.dirty {
            self.file.sync_data()?;
            self.synced = Instant::now();
            self.dirty = false;
        }
        Ok(())
    }
}

impl Slots {
    /// Reads the file at `path` without changing it. A file that is missing has no slots; if
    /// something else is in its place, both are damaged.
    pub(super) fn read(path: &Path) -> io::Result<Slots> {
        match files::open(path) {
            Ok(file) => read_slots(&file).map(|(_, slots)| slots),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Slots::default()),
            Err(error) if files::is_not_a_file(&error) => {
                Ok(Slots { newest: None, damaged: vec![0, 1] })
            }
            Err(error) => Err(error),
        }
    }

    /// Returns whether nothing was ever acknowledged.
    pub(super) fn is_unused(&self) -> bool {
        self.newest.is_none() && self.damaged.is_empty()
    }
}

/// Reads both slots, and the generation of the newest one. Bytes behind the end of the file count as
/// zeros.
fn read_slots(file: &File) -> io::Result<(u64, Slots)> {
    let mut newest = None::<(u64, Acknowledgement)>;
    let (mut torn, mut empty) = (Vec::new(), Vec::new());
    for slot in 0..2 {
        let mut bytes = [0; SLOT_BYTES];
        match file.read_exact_at(&mut bytes, slot * SLOT_DISTANCE) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {}
            read => read?,
        }
        match decode(&bytes) {
            Some(found) if newest.is_none_or(|newest| newest.0 <= found.0) => {
                newest = Some(found);
            }
            Some(_) => {}
            None if bytes == [0; SLOT_BYTES] => empty.push(slot),
            None => torn.push(slot),
        }
    }
    let generation = newest.map_or(0, |(generation, _)| generation);
    // The second generation is synced before the third is written, so from then on an empty slot is
    // a damaged one.
    let emptied = empty.into_iter().filter(|_| generation > 1);
    let slots = Slots {
        newest: newest.map(|(_, acknowledgement)| acknowledgement),
        damaged: torn.into_iter().chain(emptied).collect(),
    };
    Ok((generation, slots))
}

/// Encodes a slot: magic, generation, log id, size, leaf, root, metadata, XXH3 of all that.
/// Integers are little-endian.
fn encode(generation: u64, acknowledgement: &Acknowledgement) -> Vec<u8> {
    let mut out = if acknowledgement.root.is_some() { MAGIC } else { MAGIC_ROOTLESS }.to_vec();
    out.extend(generation.to_le_bytes());
    out.extend(acknowledgement.log_id);
    out.extend(acknowledgement.size.to_le_bytes());
    out.extend(acknowledgement.leaf);
    if let (Some(root), Some(metadata)) = (acknowledgement.root, acknowledgement.metadata) {
        out.extend([root, metadata].as_flattened());
    }
    out.extend(xxh3_64(&out).to_le_bytes());
    out
}

fn decode(bytes: &[u8; SLOT_BYTES]) -> Option<(u64, Acknowledgement)> {
    let bytes = if bytes.starts_with(MAGIC) { &bytes[..] } else { bytes.get(..ROOTLESS_BYTES)? };
    let (signed, check) = bytes.split_last_chunk::<8>()?;
    let (magic, rest) = signed.split_first_chunk::<8>()?;
    let (generation, rest) = rest.split_first_chunk::<8>()?;
    let (log_id, rest) = rest.split_first_chunk::<16>()?;
    let (size, rest) = rest.split_first_chunk::<8>()?;
    let (leaf, rest) = rest.split_first_chunk::<32>()?;
    let whole = rest.split_first_chunk::<32>();
    if ![MAGIC, MAGIC_ROOTLESS].contains(&magic) || u64::from_le_bytes(*check) != xxh3_64(signed) {
        return None;
    }
    let (root, metadata) =
        (whole.map(|whole| *whole.0), whole.and_then(|whole| whole.1.try_into().ok()));
    let acknowledgement = Acknowledgement {
        log_id: *log_id,
        size: u64::from_le_bytes(*size),
        leaf: *leaf,
        root,
        metadata,
    };
    Some((u64::from_le_bytes(*generation), acknowledgement))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acknowledgement(size: Seq) -> Acknowledgement {
        Acknowledgement {
            log_id: [7; 16],
            size,
            leaf: [size as u8; 32],
            root: Some([!(size as u8); 32]),
            metadata: Some([5; 32]),
        }
    }

    #[test]
    fn a_slot_from_before_the_tree_is_read_and_has_no_root() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("checkpoint");
        // Generation 5, a log id, size 9, a leaf; the check was computed by python3's
        // xxhash.xxh3_64_intdigest over the 72 bytes before.
        let slot = [&b"RCCHECK1"[..], &5u64.to_le_bytes(), &[7; 16], &9u64.to_le_bytes(), &[9; 32]]
            .concat();
        let mut bytes = vec![0; 2 * SLOT_DISTANCE as usize];
        bytes[4096..4168].copy_from_slice(&slot);
        bytes[4168..4176].copy_from_slice(&hex::decode("5be5853dd9b224cd").unwrap());
        std::fs::write(&path, bytes).unwrap();
        let (mut file, found) = AcknowledgementFile::open(&path).unwrap();
        assert_eq!(
            found.newest,
            Some(Acknowledgement { root: None, metadata: None, ..acknowledgement(9) })
        );
        // The next slot is of the new kind and is the newest from then on.
        file.write(&acknowledgement(10)).unwrap();
        assert_eq!(AcknowledgementFile::open(&path).unwrap().1.newest, Some(acknowledgement(10)));
    }

    #[test]
    fn the_newest_intact_slot_is_used_when_the_other_is_torn() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("checkpoint");
        let (mut file, none) = AcknowledgementFile::open(&path).unwrap();
        assert_eq!(none, Slots::default());
        for size in 1..=5 {
            file.write(&acknowledgement(size)).unwrap();
            assert_eq!(
                AcknowledgementFile::open(&path).unwrap().1.newest,
                Some(acknowledgement(size))
            );
        }
        // Generation 5 is in slot 1: tear it, and 4 in slot 0 is left.
        let raw = File::options().write(true).open(&path).unwrap();
        raw.write_all_at(&[0xff; 9], SLOT_DISTANCE + 40).unwrap();
        let (mut file, found) = AcknowledgementFile::open(&path).unwrap();
        assert_eq!(found, Slots { newest: Some(acknowledgement(4)), damaged: vec![1] });
        file.write(&acknowledgement(6)).unwrap();
        // The torn slot is overwritten.
        assert_eq!(
            AcknowledgementFile::open(&path).unwrap().1,
            Slots { newest: Some(acknowledgement(6)), damaged: vec![] }
        );
    }

    #[test]
    fn an_emptied_slot_is_told_apart_from_one_that_was_never_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("checkpoint");
        let (mut file, _) = AcknowledgementFile::open(&path).unwrap();
        for (size, empty_one, damaged) in [(1, 0, vec![]), (2, 1, vec![1]), (3, 0, vec![0])] {
            file.write(&acknowledgement(size)).unwrap();
            let whole = std::fs::read(&path).unwrap();
            let mut emptied = whole.clone();
            emptied[4096 * empty_one..][..SLOT_BYTES].fill(0);
            std::fs::write(&path, emptied).unwrap();
            assert_eq!(
                AcknowledgementFile::open(&path).unwrap().1,
                Slots { newest: Some(acknowledgement(size)), damaged }
            );
            std::fs::write(&path, whole).unwrap();
        }
    }
}
