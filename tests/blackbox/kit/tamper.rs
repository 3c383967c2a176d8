//! Changes of a stopped log by a program that knows the store: every check of the store's own file
//! fits, so that only the checks of the records can find them.

use std::fs;
use std::path::{Path, PathBuf};

use crate::faults::kills::copy;

/// The length of a segment of the store's file.
const SEGMENT_BYTES: usize = 8 << 20;

/// Flips a bit of the last byte of the block that begins with a record: it is in a body.
pub fn flip_in_block(data: &Path, first: u64) {
    let config = sled::Config::new().path(data.join("store")).segment_size(SEGMENT_BYTES);
    let db = config.mode(sled::Mode::HighThroughput).flush_every_ms(None).open().unwrap();
    let blocks = db.open_tree("blocks").unwrap();
    let key = [&first.to_be_bytes()[..], &0_u16.to_be_bytes()].concat();
    let mut block = blocks.get(&key).unwrap().unwrap().to_vec();
    *block.last_mut().unwrap() ^= 1;
    blocks.insert(&key, block).unwrap();
    db.flush().unwrap();
}

/// A stopped log whose last records were written after an old snapshot was.
pub struct Snapshots {
    /// It has a current snapshot.
    pub data: PathBuf,
    /// The file of an old one.
    pub old: PathBuf,
}

/// The snapshot that a start finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotAge {
    None,
    Old,
    Current,
}

impl SnapshotAge {
    pub const ALL: [SnapshotAge; 3] = [SnapshotAge::None, SnapshotAge::Old, SnapshotAge::Current];
}

impl Snapshots {
    /// Copies the folder to a new place, where a start finds this snapshot.
    pub fn copy(&self, to: &Path, found: SnapshotAge) {
        copy(&self.data, to);
        match found {
            SnapshotAge::None => fs::remove_file(to.join("snapshot")).unwrap(),
            SnapshotAge::Old => drop(fs::copy(&self.old, to.join("snapshot")).unwrap()),
            SnapshotAge::Current => {}
        }
    }
}
