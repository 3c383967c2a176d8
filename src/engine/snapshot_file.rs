//! The file `snapshot`: the views at one record, so that a start need not fold the records up to it.
//!
//! It is a cache. It is bound to the log, to the tree over the records that it covers, and to the
//! versions of the fold and of its own form, and each of its blocks has a checksum. One that is
//! missing, of something else, or damaged costs the time of folding. docs/format.md describes it.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

use rollcall_projections::{FOLD_VERSION, Seq, VIEWS_LAYOUT, Views};
use rustix::io::Errno;
use sha2::{Digest, Sha256};
use xxhash_rust::xxh3::xxh3_64;
use zstd::bulk::{Compressor, Decompressor};

use crate::files;
use crate::log::{History, Kept, LogId, ReadError};

/// The name of the file in the data folder, and its name while it is written.
const FILE: &str = "snapshot";
const NEW_FILE: &str = "snapshot.new";

const MAGIC: &[u8; 8] = b"RCVIEWS2";
/// The part of the magic that every version has.
const MAGIC_OF_ALL: &[u8] = b"RCVIEWS";
const HEADER_BYTES: usize = 192;

/// The most bytes of what is kept of the log besides the views: a little more than 6 a record, and
/// the ranges of those that are lost.
const KEPT_BYTES_MAX: u64 = 32 << 30;

/// The most bytes of a block before it is compressed.
const BLOCK_BYTES: usize = 1 << 20;

/// The most bytes that compression may add to a block.
const EXPANSION_MAX: usize = 1 << 13;

const COMPRESSION_LEVEL: i32 = 1;

/// The number of unpacked blocks that wait to be read.
const BLOCKS_AHEAD: usize = 4;

/// A SHA-256.
pub(super) type Digest32 = [u8; 32];

/// The records that a snapshot covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Binding {
    pub(super) log_id: LogId,
    /// The last of them.
    pub(super) seq: Seq,
    /// The tree hash over them.
    pub(super) root: Digest32,
    /// A digest of the seqs of those that are lost.
    lost: Digest32,
}

impl Binding {
    /// Returns the binding to the first `seq` records of a log.
    pub(super) fn of(history: &dyn History, seq: Seq) -> Result<Binding, ReadError> {
        let log_id = history.identity().log_id;
        Ok(Binding { log_id, seq, root: history.root(seq)?, lost: lost_digest(history, seq)? })
    }
}

/// Returns a digest of the seqs up to one of the records that are lost.
fn lost_digest(history: &dyn History, seq: Seq) -> Result<Digest32, ReadError> {
    Ok(digest_of_seqs(history.lost_leaves()?.range(..=seq).map(|(lost, _)| *lost)))
}

fn digest_of_seqs(seqs: impl Iterator<Item = Seq>) -> Digest32 {
    let mut hasher = Sha256::new();
    seqs.for_each(|seq| hasher.update(seq.to_le_bytes()));
    hasher.finalize().into()
}

/// Returns a digest of what the views of the first `seq` records of a log depend on besides the
/// records: the version of the fold, and the records that are lost.
pub(super) fn basis(history: &dyn History, seq: Seq) -> Result<Digest32, ReadError> {
    let lost = lost_digest(history, seq)?;
    Ok(Sha256::new().chain_update(FOLD_VERSION.to_le_bytes()).chain_update(lost).finalize().into())
}

/// The first bytes of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    layout: u32,
    fold: u32,
    pub(super) binding: Binding,
    /// The number of bytes of the packed views.
    bytes: u64,
    /// The digest of the packed views.
    pub(super) digest: Digest32,
    /// The number of bytes of what is kept of the log besides, behind the views; 0 if nothing is.
    kept_bytes: u64,
    /// The digest of those bytes.
    kept_digest: Digest32,
}

/// The reason why a snapshot is not used.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unusable {
    /// There is none.
    #[error("there is none")]
    Missing,
    /// It is whole, as far as is known, and of something else.
    #[error("{0}")]
    Other(&'static str),
    /// It is not what was written.
    #[error("it is damaged: {0}")]
    Damaged(String),
    /// It was not read, for a reason that may pass and says nothing of what it is.
    #[error("it cannot be read: {0}")]
    Unread(io::Error),
}

impl From<io::Error> for Unusable {
    fn from(error: io::Error) -> Unusable {
        match error.kind() {
            io::ErrorKind::NotFound => Unusable::Missing,
            io::ErrorKind::UnexpectedEof => Unusable::Damaged("it ends too soon".into()),
            _ if may_pass(&error) => Unusable::Unread(error),
            _ => Unusable::Damaged(error.to_string()),
        }
    }
}

/// Returns whether the disk reports an error, or the process lacks something in order to read.
fn may_pass(error: &io::Error) -> bool {
    let passing = [Errno::IO, Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::AGAIN, Errno::INTR];
    Errno::from_io_error(error).is_some_and(|errno| passing.contains(&errno))
}

const OTHER_VERSION: &str = "another version of Rollcall wrote it";

fn damaged(what: &str) -> Unusable {
    Unusable::Damaged(what.to_owned())
}

impl Header {
    fn encode(&self) -> [u8; HEADER_BYTES] {
        let Header { layout, fold, binding, bytes, digest, kept_bytes, kept_digest } = self;
        let Binding { log_id, seq, root, lost } = binding;
        let parts: [&[u8]; 11] = [
            MAGIC,
            &layout.to_le_bytes(),
            &fold.to_le_bytes(),
            log_id,
            &seq.to_le_bytes(),
            root,
            lost,
            &bytes.to_le_bytes(),
            digest,
            &kept_bytes.to_le_bytes(),
            kept_digest,
        ];
        let mut encoded = parts.concat();
        encoded.extend_from_slice(&xxh3_64(&encoded).to_le_bytes());
        let mut header = [0; HEADER_BYTES];
        header.iter_mut().zip(encoded).for_each(|(to, from)| *to = from);
        header
    }

    fn decode(bytes: &[u8; HEADER_BYTES]) -> Result<Header, Unusable> {
        let mut rest = &bytes[..];
        let magic = take::<8>(&mut rest);
        if magic != *MAGIC {
            return Err(match magic.starts_with(MAGIC_OF_ALL) {
                true => Unusable::Other(OTHER_VERSION),
                false => damaged("it does not begin like one"),
            });
        }
        let layout = u32::from_le_bytes(take(&mut rest));
        let fold = u32::from_le_bytes(take(&mut rest));
        let binding = Binding {
            log_id: take(&mut rest),
            seq: u64::from_le_bytes(take(&mut rest)),
            root: take(&mut rest),
            lost: take(&mut rest),
        };
        let header = Header {
            layout,
            fold,
            binding,
            bytes: u64::from_le_bytes(take(&mut rest)),
            digest: take(&mut rest),
            kept_bytes: u64::from_le_bytes(take(&mut rest)),
            kept_digest: take(&mut rest),
        };
        if header.encode() != *bytes {
            return Err(damaged("its header is not whole"));
        }
        if layout != VIEWS_LAYOUT || fold != FOLD_VERSION {
            return Err(Unusable::Other(OTHER_VERSION));
        }
        Ok(header)
    }

    /// Checks that it covers the first records of a log.
    pub(super) fn check(&self, history: &dyn History) -> Result<(), Unusable> {
        if self.binding.log_id != history.identity().log_id {
            return Err(Unusable::Other("it is of another log"));
        }
        if self.binding.seq > history.head() {
            return Err(Unusable::Other("it covers more records than the log has"));
        }
        match Binding::of(history, self.binding.seq) {
            Ok(binding) if binding == self.binding => Ok(()),
            _ => Err(Unusable::Other("it covers other records than those of the log")),
        }
    }
}

/// Takes the first bytes of a header, which is long enough.
fn take<const N: usize>(rest: &mut &[u8]) -> [u8; N] {
    let (taken, behind) = rest.split_first_chunk().unwrap_or((&[0; N], &[]));
    *rest = behind;
    *taken
}

/// Returns the digest of views: the same for all views of the same records.
pub(super) fn digest_of(views: &Views, goes_on: &dyn Fn() -> bool) -> Digest32 {
    let mut hasher = Sha256::new();
    views.pack(&mut |piece| {
        if goes_on() {
            hasher.update(piece);
        }
    });
    hasher.finalize().into()
}

/// Writes the views of the records of `binding`, and what is kept of the log besides, in place of the
/// snapshot before. After a crash either of both is there. `goes_on` is asked from time to time; if
/// it is false nothing is written. Returns the length of the file.
///
/// # Errors
/// If the file cannot be written; or if it was to end, with [`io::ErrorKind::Interrupted`].
pub(super) fn write(
    folder: &Path,
    binding: Binding,
    (views, kept): (&Views, &[u8]),
    goes_on: &dyn Fn() -> bool,
) -> io::Result<u64> {
    let new = folder.join(NEW_FILE);
    remove(&new)?;
    remove_folder(&folder.join(FILE))?;
    let written = write_new(&new, binding, (views, kept), goes_on).and_then(|written| {
        fs::rename(&new, folder.join(FILE))?;
        files::sync_parent(&new)?;
        Ok(written)
    });
    if written.is_err() {
        remove(&new)?;
    }
    written
}

/// Removes a folder that has taken the place of a file, if nothing is in it.
fn remove_folder(path: &Path) -> io::Result<()> {
    if !fs::symlink_metadata(path).is_ok_and(|found| found.is_dir()) {
        return Ok(());
    }
    fs::remove_dir(path).map_err(|error| {
        let what = format!("`{}` is a folder with something in it: remove it", path.display());
        io::Error::new(error.kind(), what)
    })
}

fn remove(path: &Path) -> io::Result<()> {
    remove_folder(path)?;
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Removes the snapshot, if there is one.
///
/// # Errors
/// If it cannot be removed.
pub(super) fn drop_snapshot(folder: &Path) -> io::Result<()> {
    remove(&folder.join(FILE))?;
    files::sync_parent(&folder.join(FILE))
}

fn write_new(
    path: &Path,
    binding: Binding,
    (views, kept): (&Views, &[u8]),
    goes_on: &dyn Fn() -> bool,
) -> io::Result<u64> {
    let mut blocks = Blocks {
        file: BufWriter::new(files::open_or_create(path)?),
        compressor: Compressor::new(COMPRESSION_LEVEL)?,
        hasher: Sha256::new(),
        bytes: 0,
    };
    // The place of the header, which is written last.
    blocks.file.write_all(&[0; HEADER_BYTES])?;
    let mut written = Ok(());
    views.pack(&mut |piece| {
        if written.is_ok() {
            written = match goes_on() {
                true => piece.chunks(BLOCK_BYTES).try_for_each(|block| blocks.add(block)),
                false => Err(io::ErrorKind::Interrupted.into()),
            };
        }
    });
    written?;
    let (bytes, digest) = blocks.end();
    kept.chunks(BLOCK_BYTES).try_for_each(|block| blocks.add(block))?;
    let (kept_bytes, kept_digest) = blocks.end();
    let (layout, fold) = (VIEWS_LAYOUT, FOLD_VERSION);
    let header = Header { layout, fold, binding, bytes, digest, kept_bytes, kept_digest };
    let Blocks { file, .. } = blocks;
    let mut file = file.into_inner().map_err(|error| error.into_error())?;
    file.seek(SeekFrom::Start(0))?;
    file.write_all(&header.encode())?;
    file.sync_all()?;
    Ok(file.metadata()?.len())
}

/// The blocks of a file that is being written.
struct Blocks {
    file: BufWriter<File>,
    compressor: Compressor<'static>,
    hasher: Sha256,
    bytes: u64,
}

impl Blocks {
    /// Ends a part of the file. Returns the number of its bytes before they were compressed, and
    /// their digest.
    fn end(&mut self) -> (u64, Digest32) {
        (std::mem::take(&mut self.bytes), std::mem::take(&mut self.hasher).finalize().into())
    }

    fn add(&mut self, block: &[u8]) -> io::Result<()> {
        self.hasher.update(block);
        self.bytes += block.len() as u64;
        let packed = self.compressor.compress(block)?;
        self.file.write_all(&(block.len() as u32).to_le_bytes())?;
        self.file.write_all(&(packed.len() as u32).to_le_bytes())?;
        self.file.write_all(&xxh3_64(&packed).to_le_bytes())?;
        self.file.write_all(&packed)
    }
}

/// Reads the header of the snapshot in a folder.
pub(super) fn read_header(folder: &Path) -> Result<Header, Unusable> {
    open(folder).map(|(header, _)| header)
}

fn open(folder: &Path) -> Result<(Header, File), Unusable> {
    let mut file = files::open(&folder.join(FILE))?;
    let mut bytes = [0; HEADER_BYTES];
    file.read_exact(&mut bytes)?;
    Ok((Header::decode(&bytes)?, file))
}

/// A snapshot that is whole. Whether it is of a log, the log decides.
pub(super) struct Snapshot {
    pub(super) header: Header,
    pub(super) views: Views,
    /// What it keeps of the log besides.
    pub(super) kept: Option<Kept>,
}

/// Reads the snapshot in a folder.
pub(super) fn read(folder: &Path) -> Result<Snapshot, Unusable> {
    let (header, file) = open(folder)?;
    let (views, kept) = thread::scope(|scope| {
        let (blocks, received) = sync_channel(BLOCKS_AHEAD);
        let reader = scope.spawn(move || read_parts(file, &header, &blocks));
        // Views that a checksum does not protect may be anything.
        let views = catch_unwind(AssertUnwindSafe(|| {
            Views::unpack(&mut |into| match received.recv() {
                Ok(block) => {
                    into.extend_from_slice(&block);
                    true
                }
                Err(_) => false,
            })
        }));
        drop(received);
        let kept = reader.join().unwrap_or_else(|_| Err(damaged("it panicked while reading")));
        (views.ok().flatten(), kept)
    });
    let (kept, seq) = (kept?, header.binding.seq);
    match views {
        Some(views) if views.head() == seq => Ok(Snapshot { header, views, kept }),
        _ => Err(damaged("it holds no views")),
    }
}

/// Reads the views, sends their blocks, and returns what is kept besides.
fn read_parts(
    file: File,
    header: &Header,
    blocks: &SyncSender<Vec<u8>>,
) -> Result<Option<Kept>, Unusable> {
    let Header { bytes, digest, kept_bytes, kept_digest, .. } = *header;
    let mut file = BufReader::with_capacity(BLOCK_BYTES, file);
    let more = "it holds more than views";
    let sent = read_blocks(&mut file, bytes, |block| blocks.send(block).is_ok());
    // `digest` is that of the views, so that what differs is known before the rest is read.
    if sent?.ok_or_else(|| damaged(more))? != digest {
        return Err(damaged(DIFFERS));
    }
    if kept_bytes > KEPT_BYTES_MAX {
        return Err(damaged("it has another length"));
    }
    let mut kept = Vec::new();
    let read = read_blocks(&mut file, kept_bytes, |block| {
        kept.extend_from_slice(&block);
        true
    });
    if read? != Some(kept_digest) {
        return Err(damaged(DIFFERS));
    }
    if file.read(&mut [0])? != 0 {
        return Err(damaged("it has another length"));
    }
    if kept.is_empty() {
        return Ok(None);
    }
    let Binding { seq, lost, .. } = header.binding;
    match Kept::decode(seq, &kept) {
        Some(kept) if digest_of_seqs(kept.lost()) == lost => Ok(Some(kept)),
        _ => Err(damaged("what it keeps of the log contradicts its header")),
    }
}

const DIFFERS: &str = "it is not what its header says";

/// Reads blocks up to a number of bytes. Returns the digest of what they hold; `None` if `take` has
/// refused one.
fn read_blocks(
    file: &mut impl Read,
    bytes: u64,
    mut take_block: impl FnMut(Vec<u8>) -> bool,
) -> Result<Option<Digest32>, Unusable> {
    let mut unpacker = Decompressor::new()?;
    let (mut hasher, mut read, mut packed) = (Sha256::new(), 0, Vec::new());
    while read < bytes {
        let mut head = [0; 16];
        file.read_exact(&mut head)?;
        let mut rest = &head[..];
        let length = u32::from_le_bytes(take(&mut rest)) as usize;
        let packed_length = u32::from_le_bytes(take(&mut rest)) as usize;
        if length > BLOCK_BYTES || packed_length > BLOCK_BYTES + EXPANSION_MAX {
            return Err(damaged("a block is too long"));
        }
        packed.resize(packed_length, 0);
        file.read_exact(&mut packed)?;
        if xxh3_64(&packed).to_le_bytes() != *rest {
            return Err(damaged("a block has another checksum"));
        }
        let block = unpacker.decompress(&packed, length)?;
        if block.len() != length || length == 0 {
            return Err(damaged("a block has another length"));
        }
        hasher.update(&block);
        read += length as u64;
        if !take_block(block) {
            return Ok(None);
        }
    }
    match read == bytes {
        true => Ok(Some(hasher.finalize().into())),
        false => Err(damaged("it has another length")),
    }
}
