//! The checkpoint beside the store: how far the log was acknowledged.
//!
//! The store itself cannot tell that something acknowledged is missing from its end. Two
//! checksummed slots are overwritten in turn before each acknowledgement: a kill at any moment
//! leaves at least one whole. They are synced once a second and at a clean stop, so that a power
//! cut together with a damaged tail goes unnoticed for at most that second.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rollcall_projections::Seq;
use xxhash_rust::xxh3::xxh3_64;

use super::LogId;

const MAGIC: &[u8; 8] = b"RCCHECK2";
const SLOT_BYTES: usize = 144;
/// Before there was a tree slots had no root: they are still read, never written.
const MAGIC_ROOTLESS: &[u8; 8] = b"RCCHECK1";
const ROOTLESS_BYTES: usize = SLOT_BYTES - 64;
/// The slots stand in different pages, so that one torn write damages one slot.
const SLOT_DISTANCE: u64 = 4096;
const SYNC_EVERY: Duration = Duration::from_secs(1);

/// What was acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Checkpoint {
    pub(super) log_id: LogId,
    /// How many records.
    pub(super) size: Seq,
    /// The leaf of the last.
    pub(super) leaf: [u8; 32],
    /// The tree hash over all of them; none in a slot of a version that had no tree.
    pub(super) root: Option<[u8; 32]>,
    /// What stood beside the bodies, which no leaf covers: see `Block::beside`. Together with the
    /// root.
    pub(super) beside: Option<[u8; 32]>,
}

/// What stood in the file when it was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Slots {
    /// The whole slot of the higher generation.
    pub(super) newest: Option<Checkpoint>,
    /// The numbers of slots that were written once and are not whole any more: another one than the
    /// newest may have been acknowledged last.
    pub(super) damaged: Vec<u64>,
}

/// The file with its two slots.
pub(super) struct CheckpointFile {
    file: File,
    generation: u64,
    synced: Instant,
    dirty: bool,
}

impl CheckpointFile {
    /// Opens or creates the file, and reads its slots.
    pub(super) fn open(path: &Path) -> io::Result<(CheckpointFile, Slots)> {
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        if file.metadata()?.len() < 2 * SLOT_DISTANCE {
            file.set_len(2 * SLOT_DISTANCE)?;
            file.sync_all()?;
        }
        let (mut newest, mut torn, mut empty) = (None::<(u64, Checkpoint)>, Vec::new(), Vec::new());
        for slot in 0..2 {
            let mut bytes = [0; SLOT_BYTES];
            file.read_exact_at(&mut bytes, slot * SLOT_DISTANCE)?;
            match decode(&bytes) {
                Some(found) => {
                    newest =
                        newest.into_iter().chain([found]).max_by_key(|(generation, _)| *generation)
                }
                None if bytes == [0; SLOT_BYTES] => empty.push(slot),
                None => torn.push(slot),
            }
        }
        let generation = newest.map_or(0, |(generation, _)| generation);
        // The second generation is synced before the third is written: from then on no slot is
        // empty.
        let emptied = empty.into_iter().filter(|_| generation > 1);
        let slots = Slots {
            newest: newest.map(|(_, checkpoint)| checkpoint),
            damaged: torn.into_iter().chain(emptied).collect(),
        };
        Ok((CheckpointFile { file, generation, synced: Instant::now(), dirty: false }, slots))
    }

    /// Overwrites the older slot. Survives a kill at once, a power cut once synced.
    pub(super) fn write(&mut self, checkpoint: &Checkpoint) -> io::Result<()> {
        let due = self.sync_is_due();
        self.generation += 1;
        self.file.write_all_at(
            &encode(self.generation, checkpoint),
            self.generation % 2 * SLOT_DISTANCE,
        )?;
        self.dirty = true;
        if due { self.sync() } else { Ok(()) }
    }

    /// Whether the next write will be followed by a sync: the first of each slot at once, so that
    /// an empty one tells of damage.
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

/// Magic, generation, log id, size, leaf, root, what is beside the bodies, XXH3 of all that;
/// integers little-endian.
fn encode(generation: u64, checkpoint: &Checkpoint) -> Vec<u8> {
    let mut out = if checkpoint.root.is_some() { MAGIC } else { MAGIC_ROOTLESS }.to_vec();
    out.extend(generation.to_le_bytes());
    out.extend(checkpoint.log_id);
    out.extend(checkpoint.size.to_le_bytes());
    out.extend(checkpoint.leaf);
    if let (Some(root), Some(beside)) = (checkpoint.root, checkpoint.beside) {
        out.extend([root, beside].as_flattened());
    }
    out.extend(xxh3_64(&out).to_le_bytes());
    out
}

fn decode(bytes: &[u8; SLOT_BYTES]) -> Option<(u64, Checkpoint)> {
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
    let (root, beside) =
        (whole.map(|whole| *whole.0), whole.and_then(|whole| whole.1.try_into().ok()));
    let checkpoint =
        Checkpoint { log_id: *log_id, size: u64::from_le_bytes(*size), leaf: *leaf, root, beside };
    Some((u64::from_le_bytes(*generation), checkpoint))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoint(size: Seq) -> Checkpoint {
        Checkpoint {
            log_id: [7; 16],
            size,
            leaf: [size as u8; 32],
            root: Some([!(size as u8); 32]),
            beside: Some([5; 32]),
        }
    }

    #[test]
    fn a_slot_from_before_the_tree_is_read_and_says_no_root() {
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
        let (mut file, found) = CheckpointFile::open(&path).unwrap();
        assert_eq!(found.newest, Some(Checkpoint { root: None, beside: None, ..checkpoint(9) }));
        // The next slot is of the new kind, and counts from then on.
        file.write(&checkpoint(10)).unwrap();
        assert_eq!(CheckpointFile::open(&path).unwrap().1.newest, Some(checkpoint(10)));
    }

    #[test]
    fn the_newest_whole_slot_counts_when_the_other_is_torn() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("checkpoint");
        let (mut file, none) = CheckpointFile::open(&path).unwrap();
        assert_eq!(none, Slots::default());
        for size in 1..=5 {
            file.write(&checkpoint(size)).unwrap();
            assert_eq!(CheckpointFile::open(&path).unwrap().1.newest, Some(checkpoint(size)));
        }
        // Generation 5 stands in slot 1: tear it, and 4 in slot 0 is left.
        let raw = OpenOptions::new().write(true).open(&path).unwrap();
        raw.write_all_at(&[0xff; 9], SLOT_DISTANCE + 40).unwrap();
        let (mut file, found) = CheckpointFile::open(&path).unwrap();
        assert_eq!(found, Slots { newest: Some(checkpoint(4)), damaged: vec![1] });
        file.write(&checkpoint(6)).unwrap();
        // It takes the place of what was torn.
        assert_eq!(
            CheckpointFile::open(&path).unwrap().1,
            Slots { newest: Some(checkpoint(6)), damaged: vec![] }
        );
    }

    #[test]
    fn a_slot_that_was_emptied_is_told_from_one_that_was_never_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("checkpoint");
        let (mut file, _) = CheckpointFile::open(&path).unwrap();
        for (size, empty_one, damaged) in [(1, 0, vec![]), (2, 1, vec![1]), (3, 0, vec![0])] {
            file.write(&checkpoint(size)).unwrap();
            let whole = std::fs::read(&path).unwrap();
            let mut emptied = whole.clone();
            emptied[4096 * empty_one..][..SLOT_BYTES].fill(0);
            std::fs::write(&path, emptied).unwrap();
            assert_eq!(
                CheckpointFile::open(&path).unwrap().1,
                Slots { newest: Some(checkpoint(size)), damaged }
            );
            std::fs::write(&path, whole).unwrap();
        }
    }
}
