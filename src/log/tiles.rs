//! The tree on disk: one file for each eighth level, each a row of hashes that only grows.
//! docs/format.md specifies the bytes.
//!
//! Each 256 hashes are a tile in the sense of <https://c2sp.org/tlog-tiles>. The levels between the
//! stored ones are hashed anew when a tile is read. A tile is used only if it leads to the right
//! edge, which is kept in memory, so no proof is made from a damaged tile.
//!
//! All of it is derived from the log: it may be lost, and is rebuilt at the next opening.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::ReadError;
use super::lanes::in_order;
use super::merkle::{Edge, Hash, Nodes, parent};
use crate::files;

/// The number of levels that a tile covers.
const TILE_LEVELS: u32 = 8;
const TILE_HASHES: u64 = 1 << TILE_LEVELS;
const HASH_BYTES: u64 = 32;
/// Enough for more records than a log may hold: a fifth file would take the root of 2^32.
const FILES: usize = 4;

/// The number of bytes compared at once.
const COMPARED_BYTES: usize = 1 << 20;
/// The number of hashes in one piece of work.
const HASHED_AT_ONCE: usize = 64 << TILE_LEVELS;

/// The files of the tree.
pub(super) struct Tiles {
    files: [LevelFile; FILES],
}

struct LevelFile {
    /// `None` if it is missing, or something else is in its place: only where nothing is written.
    file: Option<File>,
    dirty: AtomicBool,
}

impl LevelFile {
    /// Opens or creates the file. What is in its place and is not a file is removed, unless it is a
    /// folder.
    fn open(path: &Path) -> io::Result<LevelFile> {
        let file = files::open_or_create(path).or_else(|error| {
            if !files::is_not_a_file(&error) {
                return Err(error);
            }
            tracing::warn!(path = %path.display(), %error, "a file of the tree is replaced");
            fs::remove_file(path)?;
            files::open_or_create(path)
        })?;
        Ok(LevelFile { file: Some(file), dirty: AtomicBool::new(false) })
    }

    fn open_read_only(path: &Path) -> io::Result<LevelFile> {
        let file = match files::open(path) {
            Ok(file) => Some(file),
            Err(error)
                if error.kind() == io::ErrorKind::NotFound || files::is_not_a_file(&error) =>
            {
                None
            }
            Err(error) => return Err(error),
        };
        Ok(LevelFile { file, dirty: AtomicBool::new(false) })
    }

    fn file(&self) -> io::Result<&File> {
        self.file.as_ref().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Returns its length in bytes.
    fn length(&self) -> io::Result<u64> {
        self.file.as_ref().map_or(Ok(0), |file| Ok(file.metadata()?.len()))
    }

    /// Compares the file with `expected`. Returns the length of their common prefix and of the
    /// file, in bytes.
    fn compare(&self, expected: &[u8]) -> io::Result<(usize, usize)> {
        let length = usize::try_from(self.length()?).unwrap_or(usize::MAX);
        let mut found = vec![0; COMPARED_BYTES];
        let mut common = 0;
        for expected in
            expected.get(..length.min(expected.len())).unwrap_or_default().chunks(COMPARED_BYTES)
        {
            let found = found.get_mut(..expected.len()).unwrap_or_default();
            self.file()?.read_exact_at(found, common as u64)?;
            // A whole comparison is many times as fast as one of each byte.
            if found != expected {
                let at = found.iter().zip(expected).position(|(a, b)| a != b);
                return Ok((common + at.unwrap_or_default(), length));
            }
            common += expected.len();
        }
        Ok((common, length))
    }
}

/// The repair that the files need.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Repair {
    /// None.
    Unneeded,
    /// They end too early or too late.
    Length,
    /// They hold other hashes.
    Content,
}

impl Tiles {
    /// Opens or creates the files in `folder`, without reading them.
    pub(super) fn open(folder: &Path) -> io::Result<Tiles> {
        fs::create_dir_all(folder)?;
        Tiles::open_by(folder, LevelFile::open)
    }

    /// Opens the files in `folder` for reading only; `None` if there is no such folder. A file that
    /// is missing counts as empty.
    pub(super) fn open_read_only(folder: &Path) -> io::Result<Option<Tiles>> {
        match folder.is_dir() {
            true => Tiles::open_by(folder, LevelFile::open_read_only).map(Some),
            false => Ok(None),
        }
    }

    fn open_by(folder: &Path, open: fn(&Path) -> io::Result<LevelFile>) -> io::Result<Tiles> {
        let open = |level: usize| open(&folder.join(level.to_string()));
        Ok(Tiles { files: [open(0)?, open(1)?, open(2)?, open(3)?] })
    }

    /// Adds leaves to the tree that ends in `edge`, with one write for each file that grows.
    /// Overwrites bytes beyond the edge. The write survives a kill.
    pub(super) fn grow(
        &self,
        edge: &mut Edge,
        leaves: impl IntoIterator<Item = Hash>,
    ) -> io::Result<()> {
        let size = edge.size();
        let mut rows: [Vec<u8>; FILES] = Default::default();
        for leaf in leaves {
            edge.push(leaf, |level, _, hash| {
                let row = rows.get_mut((level / TILE_LEVELS) as usize);
                if let Some(row) = row.filter(|_| level % TILE_LEVELS == 0) {
                    row.extend_from_slice(hash);
                }
            });
        }
        for ((level, file), row) in
            (0u32..).zip(&self.files).zip(rows).filter(|(_, row)| !row.is_empty())
        {
            file.file()?.write_all_at(&row, (size >> (TILE_LEVELS * level)) * HASH_BYTES)?;
            file.dirty.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Syncs the files that were written, so that they survive a power cut.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.files
            .iter()
            .filter(|file| file.dirty.swap(false, Ordering::Relaxed))
            .try_for_each(|file| file.file()?.sync_data())
    }

    /// Makes the files equal to the tree that they should hold. Returns the repair that was needed.
    pub(super) fn repair(&self, rows: &Rows) -> io::Result<Repair> {
        let repair = self.compare(rows)?;
        for (file, row) in self.files.iter().zip(&rows.rows).filter(|_| repair != Repair::Unneeded)
        {
            let expected = row.as_flattened();
            let (common, _) = file.compare(expected)?;
            let written = file.file()?;
            written.write_all_at(expected.get(common..).unwrap_or_default(), common as u64)?;
            written.set_len(expected.len() as u64)?;
            file.dirty.store(true, Ordering::Relaxed);
        }
        Ok(repair)
    }

    /// Compares the files with the tree that they should hold. Returns the repair that they need.
    pub(super) fn compare(&self, rows: &Rows) -> io::Result<Repair> {
        let mut repair = Repair::Unneeded;
        for (file, row) in self.files.iter().zip(&rows.rows) {
            let expected = row.as_flattened();
            let (common, length) = file.compare(expected)?;
            repair = repair.max(match () {
                () if common < length.min(expected.len()) => Repair::Content,
                () if length != expected.len() => Repair::Length,
                () => Repair::Unneeded,
            });
        }
        Ok(repair)
    }

    /// Returns the number of leaves in the files. Zeros at their end are none: a power cut leaves
    /// them where leaves were never written.
    pub(super) fn size(&self) -> io::Result<u64> {
        let [leaves, ..] = &self.files;
        let mut size = leaves.length()? / HASH_BYTES;
        let mut found = vec![Hash::default(); COMPARED_BYTES / HASH_BYTES as usize];
        while size > 0 {
            let count = size.min(found.len() as u64);
            let read = found.get_mut(..count as usize).unwrap_or_default();
            leaves.file()?.read_exact_at(read.as_flattened_mut(), (size - count) * HASH_BYTES)?;
            if let Some(last) = read.iter().rposition(|hash| *hash != Hash::default()) {
                return Ok(size - count + last as u64 + 1);
            }
            size -= count;
        }
        Ok(0)
    }

    /// Reads the first `size` leaves from the tiles; `None` if they have fewer.
    pub(super) fn leaves(&self, size: u64) -> io::Result<Option<Vec<Hash>>> {
        let [leaves, ..] = &self.files;
        if self.size()? < size {
            return Ok(None);
        }
        if size == 0 {
            return Ok(Some(Vec::new()));
        }
        let mut found = vec![Hash::default(); size as usize];
        leaves.file()?.read_exact_at(found.as_flattened_mut(), 0)?;
        Ok(Some(found))
    }

    /// Returns the first record after `after` whose leaf in the files is not that of the record.
    /// Leaves of zeros are passed over: a power cut leaves them unwritten.
    pub(super) fn first_mismatch(&self, rows: &Rows, after: u64) -> io::Result<Option<u64>> {
        let [leaves, ..] = &self.files;
        let until = self.size()?.min(rows.leaves().len() as u64);
        let expected = rows.leaves().get(after as usize..until as usize).unwrap_or_default();
        let mut first = after;
        for expected in expected.chunks(COMPARED_BYTES / HASH_BYTES as usize) {
            let mut found = vec![[0; HASH_BYTES as usize]; expected.len()];
            leaves.file()?.read_exact_at(found.as_flattened_mut(), first * HASH_BYTES)?;
            let mismatch = found
                .iter()
                .zip(expected)
                .position(|(found, expected)| found != expected && found != &Hash::default());
            if let Some(at) = mismatch {
                return Ok(Some(first + at as u64 + 1));
            }
            first += expected.len() as u64;
        }
        Ok(None)
    }

    /// Returns the nodes of the tree that ends in `edge`. Tiles that are read are cached in it.
    pub(super) fn nodes(&self, edge: Edge) -> TileNodes<'_> {
        TileNodes { tiles: self, edge, read: RefCell::default() }
    }
}

/// The contents of the files of a whole tree, in memory.
pub(super) struct Rows {
    rows: [Vec<Hash>; FILES],
}

impl Rows {
    /// Hashes the tree over some leaves, on all cores.
    pub(super) fn of(leaves: Vec<Hash>) -> Rows {
        let mut rows: [Vec<Hash>; FILES] = Default::default();
        let mut below = leaves;
        for row in &mut rows {
            let mut above = Vec::with_capacity(below.len() >> TILE_LEVELS);
            let tops = |hashes: &[Hash]| {
                hashes.chunks_exact(1 << TILE_LEVELS).filter_map(top).collect::<Vec<Hash>>()
            };
            in_order(below.chunks(HASHED_AT_ONCE), tops, |tops| {
                above.extend(tops);
                ControlFlow::Continue(())
            });
            *row = std::mem::replace(&mut below, above);
        }
        Rows { rows }
    }

    /// Returns the leaves.
    pub(super) fn leaves(&self) -> &[Hash] {
        let [leaves, ..] = &self.rows;
        leaves
    }
}

impl Nodes for Rows {
    fn node(&self, level: u32, index: u64) -> Result<Hash, ReadError> {
        let low = (index << (level % TILE_LEVELS)) as usize;
        let hashes = self
            .rows
            .get((level / TILE_LEVELS) as usize)
            .and_then(|row| row.get(low..low + (1 << (level % TILE_LEVELS))));
        hashes.and_then(top).ok_or(ReadError::Absent { seq: (index + 1) << level })
    }
}

/// Returns the root over hashes whose number is a power of two.
fn top(hashes: &[Hash]) -> Option<Hash> {
    let mut row = Cow::Borrowed(hashes);
    while row.len() > 1 {
        row = row.as_chunks().0.iter().map(|[left, right]| parent(left, right)).collect();
    }
    row.first().copied()
}

/// A tile with the rows above its hashes. Each row has half as many hashes as the one below; an odd
/// last hash has no parent.
struct Tile {
    rows: Vec<Vec<Hash>>,
}

impl Tile {
    fn new(hashes: Vec<Hash>) -> Tile {
        let mut rows = vec![hashes];
        while let Some(pairs) =
            rows.last().map(|row| row.as_chunks::<2>().0).filter(|pairs| !pairs.is_empty())
        {
            rows.push(pairs.iter().map(|[left, right]| parent(left, right)).collect());
        }
        Tile { rows }
    }

    fn hash(&self, row: u32, at: u64) -> Option<&Hash> {
        self.rows.get(row as usize)?.get(usize::try_from(at).ok()?)
    }
}

/// The nodes of one tree, read from tiles that lead to its edge.
pub(super) struct TileNodes<'a> {
    tiles: &'a Tiles,
    edge: Edge,
    read: RefCell<HashMap<(u32, u64), Rc<Tile>>>,
}

impl TileNodes<'_> {
    /// Reads the part of tile `at` of the file for `level` that belongs to this tree.
    fn tile(&self, level: u32, at: u64) -> Result<Rc<Tile>, ReadError> {
        if let Some(tile) = self.read.borrow().get(&(level, at)) {
            return Ok(tile.clone());
        }
        let damaged =
            |what: &str| ReadError::Store(format!("tile {at} of level {level} of the tree {what}"));
        let width = (self.edge.size() >> (TILE_LEVELS * level))
            .saturating_sub(at * TILE_HASHES)
            .min(TILE_HASHES);
        let mut bytes = vec![0; (width * HASH_BYTES) as usize];
        let file = self.tiles.files.get(level as usize).ok_or_else(|| damaged("is beyond it"))?;
        file.file()
            .and_then(|file| file.read_exact_at(&mut bytes, at * TILE_HASHES * HASH_BYTES))
            .map_err(|error| damaged(&format!("cannot be read: {error}")))?;
        let tile = Tile::new(bytes.as_chunks().0.to_vec());
        if !self.leads_to_the_edge(level, at, width, &tile)? {
            return Err(damaged("does not lead to its root; the next start rebuilds it"));
        }
        let tile = Rc::new(tile);
        self.read.borrow_mut().insert((level, at), tile.clone());
        Ok(tile)
    }

    /// Returns whether each node that ends in the tile is the expected one. A full tile has one
    /// such node, the last of a file one for each bit of its width.
    fn leads_to_the_edge(
        &self,
        level: u32,
        at: u64,
        width: u64,
        tile: &Tile,
    ) -> Result<bool, ReadError> {
        for row in (0..=TILE_LEVELS).filter(|row| (width >> row) % 2 == 1) {
            let in_row = (width >> row) - 1;
            let expected =
                self.node(TILE_LEVELS * level + row, (at << (TILE_LEVELS - row)) + in_row)?;
            if tile.hash(row, in_row) != Some(&expected) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl Nodes for TileNodes<'_> {
    fn node(&self, level: u32, index: u64) -> Result<Hash, ReadError> {
        if let Some(hash) = self.edge.node(level, index) {
            return Ok(*hash);
        }
        let (file, row) = (level / TILE_LEVELS, level % TILE_LEVELS);
        let at = index >> (TILE_LEVELS - row);
        let tile = self.tile(file, at)?;
        tile.hash(row, index - (at << (TILE_LEVELS - row)))
            .copied()
            .ok_or(ReadError::Absent { seq: (index + 1) << level })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::merkle::{consistency, inclusion, root};

    fn leaf(index: u64) -> Hash {
        let mut hash = [7; 32];
        hash[..8].copy_from_slice(&index.to_le_bytes());
        hash
    }

    /// Writes leaves in batches of these sizes, repeated until there are `size`.
    fn grown(folder: &Path, size: u64, batches: &[u64]) -> (Tiles, Edge) {
        let (tiles, mut edge) = (Tiles::open(folder).unwrap(), Edge::default());
        for batch in batches.iter().cycle() {
            let until = size.min(edge.size() + batch);
            let leaves = edge.size()..until;
            tiles.grow(&mut edge, leaves.map(leaf)).unwrap();
            if until == size {
                break;
            }
        }
        (tiles, edge)
    }

    #[test]
    fn the_files_do_not_depend_on_the_batches_and_hold_every_eighth_level() {
        let size = 70_000;
        let files = [&[1][..], &[512], &[255, 1, 257, 3], &[70_000]].map(|batches| {
            let folder = tempfile::tempdir().unwrap();
            let (_, edge) = grown(folder.path(), size, batches);
            (
                ["0", "1", "2", "3"].map(|name| fs::read(folder.path().join(name)).unwrap()),
                edge.root(),
            )
        });
        assert!(files.iter().all(|other| *other == files[0]));
        let ([leaves, roots, upper, none], _) = &files[0];
        assert!(*leaves == (0..size).flat_map(leaf).collect::<Vec<u8>>());
        let root_of = |hashes: &[u8]| {
            *Tile::new(hashes.as_chunks().0.to_vec()).rows.last().unwrap().first().unwrap()
        };
        assert!(*roots == leaves.chunks_exact(8192).flat_map(root_of).collect::<Vec<u8>>());
        assert!(*upper == roots.chunks_exact(8192).flat_map(root_of).collect::<Vec<u8>>());
        assert_eq!((roots.len() / 32, upper.len() / 32, none.len()), (273, 1, 0));
    }

    #[test]
    fn no_proof_is_made_of_a_damaged_tile() {
        let folder = tempfile::tempdir().unwrap();
        let size = 70_000;
        let (tiles, edge) = grown(folder.path(), size, &[512]);
        // Whatever is asked of this part of the tree, the answer is right or an error.
        let ask = || {
            let nodes = tiles.nodes(edge.clone());
            let asked = [300, 65_000, 69_999].map(|index| inclusion(&nodes, index, size));
            (root(&nodes, size - 1), consistency(&nodes, 300, size - 1), asked)
        };
        let right = ask();
        assert!(right.0.is_ok() && right.1.is_ok() && right.2.iter().all(Result::is_ok));
        let mut refused = 0;
        for (name, at) in [
            ("0", 300 * 32 + 5),
            ("0", 65_000 * 32),
            ("0", 69_999 * 32 + 31),
            ("1", 3),
            ("1", 272 * 32),
            ("2", 8),
        ] {
            let path = folder.path().join(name);
            let whole = fs::read(&path).unwrap();
            let mut flipped = whole.clone();
            flipped[at] ^= 1;
            for damaged in [&flipped[..], &whole[..at], &vec![0; whole.len()][..]] {
                fs::write(&path, damaged).unwrap();
                let (now_root, now_consistency, now_inclusion) = ask();
                assert!(now_root.is_err() || now_root == right.0);
                assert!(now_consistency.is_err() || now_consistency == right.1);
                assert!(
                    now_inclusion
                        .iter()
                        .zip(&right.2)
                        .all(|(now, right)| now.is_err() || now == right)
                );
                refused += now_inclusion.iter().filter(|now| now.is_err()).count();
            }
            fs::write(&path, whole).unwrap();
            assert!(ask() == right);
        }
        assert!(refused >= 6 * 3, "{refused}");
    }
}
