//! Segments of an archive: records in a form that any tool reads. docs/format.md specifies them.
//!
//! A segment is a file of its own that is never changed: lines of JSON, compressed with zstd. Each
//! line but the last is a record with all that its leaf is made of; the last one says how much
//! there must be before it, and its hash.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use base64::prelude::*;
use bytes::Bytes;
use rollcall_projections::Seq;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{LogId, Record};
use crate::hashes::{self, Hash};
use crate::notary::{Receipt, ReceiptError};

/// The ending of a segment's name.
const SUFFIX: &str = ".ndjson.zst";

/// The version of the format.
const VERSION: u32 = 1;

/// The level at which segments are compressed.
const COMPRESSION_LEVEL: i32 = 3;

/// The most records of a segment, and the most bytes of bodies in a segment of more than one.
pub(super) const SEGMENT_RECORDS_MAX: usize = 4096;
pub(super) const SEGMENT_BODY_BYTES_MAX: usize = 16 << 20;

/// The most bytes that a segment unpacks to.
const UNPACKED_BYTES_MAX: u64 = 256 << 20;

/// A record with all that its leaf is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ArchivedRecord {
    pub(super) seq: Seq,
    receipt: Vec<u8>,
    salt: [u8; 16],
    pub(super) body: Bytes,
}

impl From<&Record> for ArchivedRecord {
    fn from(record: &Record) -> ArchivedRecord {
        let Record { seq, salt, body, .. } = record;
        ArchivedRecord { seq: *seq, receipt: record.receipt(), salt: *salt, body: body.clone() }
    }
}

impl ArchivedRecord {
    /// Returns its leaf: see [`hashes::leaf`].
    pub(super) fn leaf(&self) -> Hash {
        hashes::leaf(&self.receipt, &self.salt, &self.body)
    }

    /// Returns the log that its receipt names, if the receipt is of this record.
    pub(super) fn log_id(&self) -> Option<LogId> {
        let (version, rest) = self.receipt.split_first()?;
        let (log_id, rest) = rest.split_first_chunk::<16>()?;
        let (seq, _) = rest.split_first_chunk::<8>()?;
        (*version == 1 && u64::from_be_bytes(*seq) == self.seq).then_some(*log_id)
    }
}

impl ArchivedRecord {
    /// Returns what its receipt says.
    pub(super) fn read_receipt(&self) -> Result<Receipt, ReceiptError> {
        Receipt::parse(&self.receipt)
    }

    pub(super) fn salt(&self) -> [u8; 16] {
        self.salt
    }
}

/// A line of a segment, as `GET /rollcall/v1/log/entries/{seq}` gives a record.
#[derive(Serialize, Deserialize)]
struct Line {
    seq: Seq,
    receipt: String,
    salt: String,
    body: String,
}

impl Line {
    fn of(record: &ArchivedRecord) -> Line {
        Line {
            seq: record.seq,
            receipt: BASE64_STANDARD.encode(&record.receipt),
            salt: BASE64_STANDARD.encode(record.salt),
            body: BASE64_STANDARD.encode(&record.body),
        }
    }

    fn record(self) -> Option<ArchivedRecord> {
        let bytes = |text: String| BASE64_STANDARD.decode(text).ok();
        Some(ArchivedRecord {
            seq: self.seq,
            receipt: bytes(self.receipt)?,
            salt: bytes(self.salt)?.try_into().ok()?,
            body: bytes(self.body)?.into(),
        })
    }
}

/// The last line of a segment.
#[derive(Debug, Serialize, Deserialize, PartialEq, Eq)]
struct End {
    object: String,
    version: u32,
    log_id: String,
    first: Seq,
    last: Seq,
    records: usize,
    /// The SHA-256 of the lines before, in hex.
    sha256: String,
    /// A signed checkpoint that covers its records, if there is one.
    checkpoint: Option<String>,
}

const END: &str = "archive_end";

/// A segment that was read and checked.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ArchiveSegment {
    pub(super) log_id: LogId,
    pub(super) records: Vec<ArchivedRecord>,
    pub(super) checkpoint: Option<String>,
}

impl ArchiveSegment {
    /// Encodes the segment. It holds at least one record.
    fn encode(&self) -> io::Result<Vec<u8>> {
        let mut lines = Vec::new();
        for record in &self.records {
            serde_json::to_writer(&mut lines, &Line::of(record))?;
            lines.push(b'\n');
        }
        let seq = |record: Option<&ArchivedRecord>| record.map_or(0, |record| record.seq);
        let end = End {
            object: END.to_owned(),
            version: VERSION,
            log_id: uuid::Uuid::from_bytes(self.log_id).to_string(),
            first: seq(self.records.first()),
            last: seq(self.records.last()),
            records: self.records.len(),
            sha256: hex::encode(Sha256::digest(&lines)),
            checkpoint: self.checkpoint.clone(),
        };
        serde_json::to_writer(&mut lines, &end)?;
        lines.push(b'\n');
        let mut encoder = zstd::Encoder::new(Vec::new(), COMPRESSION_LEVEL)?;
        encoder.include_checksum(true)?;
        encoder.write_all(&lines)?;
        encoder.finish()
    }

    /// Writes and syncs the segment as a new file in `folder`, named after its first and last
    /// record.
    pub(super) fn write(&self, folder: &Path) -> io::Result<PathBuf> {
        let seq = |record: Option<&ArchivedRecord>| record.map_or(0, |record| record.seq);
        let (first, last) = (seq(self.records.first()), seq(self.records.last()));
        let path = folder.join(format!("{first:020}-{last:020}{SUFFIX}"));
        let mut file = File::options().write(true).create_new(true).open(&path)?;
        file.write_all(&self.encode()?)?;
        file.sync_all()?;
        Ok(path)
    }

    /// Reads and checks a segment.
    ///
    /// # Errors
    /// A description of what is wrong with it.
    pub(super) fn read(path: &Path) -> Result<ArchiveSegment, String> {
        let file = File::open(path).map_err(|error| error.to_string())?;
        ArchiveSegment::decode(file)
    }

    fn decode(packed: impl Read) -> Result<ArchiveSegment, String> {
        let unpacked = zstd::Decoder::new(packed).map_err(|error| error.to_string())?;
        let mut lines = BufReader::new(unpacked.take(UNPACKED_BYTES_MAX));
        let (mut records, mut hash, mut line) = (Vec::new(), Sha256::new(), Vec::new());
        let end: End = loop {
            line.clear();
            let read = lines.read_until(b'\n', &mut line).map_err(|error| error.to_string())?;
            if read == 0 {
                return Err("it is cut off: its last line is missing".into());
            }
            let unknown = || format!("line {} is not a record", records.len() + 1);
            match serde_json::from_slice::<Line>(&line) {
                Ok(record) => records.push(record.record().ok_or_else(unknown)?),
                Err(_) => break serde_json::from_slice(&line).map_err(|_| unknown())?,
            }
            hash.update(&line);
        };
        if lines.read_until(b'\n', &mut line).map_err(|error| error.to_string())? > 0 {
            return Err("it goes on after its last line".into());
        }
        end.check(&records, &hash.finalize())?;
        let log_id = uuid::Uuid::parse_str(&end.log_id).map_err(|error| error.to_string())?;
        let log_id = log_id.into_bytes();
        if let Some(other) = records.iter().find(|record| record.log_id() != Some(log_id)) {
            return Err(format!("the receipt of record {} is of another", other.seq));
        }
        Ok(ArchiveSegment { log_id, records, checkpoint: end.checkpoint })
    }
}

impl End {
    fn check(&self, records: &[ArchivedRecord], hash: &[u8]) -> Result<(), String> {
        if self.object != END || self.version != VERSION {
            return Err("it is of another version".into());
        }
        let seq = |record: Option<&ArchivedRecord>| record.map_or(0, |record| record.seq);
        let extent = (seq(records.first()), seq(records.last()), records.len());
        let is_in_order = records.is_sorted_by(|one, next| one.seq < next.seq);
        if (self.first, self.last, self.records) != extent || !is_in_order {
            return Err("it does not hold the records that its last line names".into());
        }
        if self.sha256 != hex::encode(hash) {
            return Err("its lines do not have the hash that the last one names".into());
        }
        Ok(())
    }
}

/// The segments of a folder.
pub(super) struct Archive {
    /// The first and the last seq of each segment, in order, and its file.
    segments: Vec<(std::ops::RangeInclusive<Seq>, PathBuf)>,
    /// The segment that was read last.
    current: Option<(PathBuf, Result<ArchiveSegment, String>)>,
}

impl Archive {
    /// Finds the segments in `folder` by their names.
    pub(super) fn open(folder: &Path) -> io::Result<Archive> {
        let mut segments = Vec::new();
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
            segments.extend(name.as_deref().and_then(seqs_of).map(|seqs| (seqs, path)));
        }
        segments.sort_by_key(|(seqs, _)| (*seqs.start(), *seqs.end()));
        Ok(Archive { segments, current: None })
    }

    /// Returns whether there is no segment in the folder.
    pub(super) fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// Returns the newest record that the names of segments promise.
    pub(super) fn last(&self) -> Seq {
        self.segments.iter().map(|(seqs, _)| *seqs.end()).max().unwrap_or(0)
    }

    /// Returns the log of the first segment.
    ///
    /// # Errors
    /// The damage to it, with its file.
    pub(super) fn log_id(&mut self) -> Result<LogId, (PathBuf, String)> {
        let Some((_, path)) = self.segments.first().cloned() else { return Ok([0; 16]) };
        match self.segment(&path) {
            Ok(segment) => Ok(segment.log_id),
            Err(what) => Err((path, what.clone())),
        }
    }

    /// Reads a record; `None` if no sound segment has it. Consecutive seqs are cheapest.
    pub(super) fn record(&mut self, log_id: LogId, seq: Seq) -> Option<ArchivedRecord> {
        self.checked_record(log_id, seq).ok().flatten()
    }

    /// Reads a record; `None` if no segment has it. Consecutive seqs are cheapest.
    ///
    /// # Errors
    /// The damage to a segment that may have it, with its file.
    pub(super) fn checked_record(
        &mut self,
        log_id: LogId,
        seq: Seq,
    ) -> Result<Option<ArchivedRecord>, (PathBuf, String)> {
        let mut damage = None;
        let holding = self.segments.iter().filter(|(seqs, _)| seqs.contains(&seq));
        let paths: Vec<PathBuf> = holding.map(|(_, path)| path.clone()).collect();
        for path in paths {
            match self.segment(&path) {
                Err(what) => damage = damage.or_else(|| Some((path, what.clone()))),
                Ok(segment) if segment.log_id != log_id => {}
                Ok(segment) => {
                    let at = segment.records.binary_search_by_key(&seq, |record| record.seq);
                    if let Some(record) = at.ok().and_then(|at| segment.records.get(at)) {
                        return Ok(Some(record.clone()));
                    }
                }
            }
        }
        damage.map_or(Ok(None), Err)
    }

    /// Reads a segment, unless it is the one that was read last.
    fn segment(&mut self, path: &Path) -> Result<&ArchiveSegment, &String> {
        let current = self.current.take().filter(|(current, _)| current == path);
        let read = || {
            let segment = ArchiveSegment::read(path);
            if let Err(what) = &segment {
                tracing::warn!(file = %path.display(), what, "a segment of the archive is damaged");
            }
            (path.to_owned(), segment)
        };
        self.current.insert(current.unwrap_or_else(read)).1.as_ref()
    }
}

/// Returns the first and the last seq that the name of a segment promises.
fn seqs_of(name: &str) -> Option<std::ops::RangeInclusive<Seq>> {
    let (first, last) = name.strip_suffix(SUFFIX)?.split_once('-')?;
    Some(first.parse().ok()?..=last.parse().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::{Proof, Source};
    use rollcall_projections::RecordStatus;

    const LOG_ID: LogId = *b"0123456789abcdef";

    fn record(seq: Seq) -> ArchivedRecord {
        let record = Record {
            log_id: LOG_ID,
            seq,
            recorded_at: 1_700_000_000_123,
            source: Source::Workos,
            event_id: Some("event_01".into()),
            event_type: None,
            status: RecordStatus::Counts,
            proof: Proof::Webhook { t: 1_700_000_000_000, v1: [0xab; 32], key_id: *b"KEYKEYKE" },
            salt: *b"salt salt salt s",
            body: Bytes::from_static(b"{}"),
        };
        ArchivedRecord::from(&record)
    }

    fn segment() -> ArchiveSegment {
        let records = [7, 8, 12].map(record).to_vec();
        ArchiveSegment { log_id: LOG_ID, records, checkpoint: Some("a note\n".into()) }
    }

    #[test]
    fn a_segment_is_read_as_it_was_written_and_its_leaves_are_those_of_the_records() {
        let folder = tempfile::tempdir().unwrap();
        let path = segment().write(folder.path()).unwrap();
        assert_eq!(
            path.file_name().unwrap(),
            "00000000000000000007-00000000000000000012.ndjson.zst"
        );
        let read = ArchiveSegment::read(&path).unwrap();
        assert_eq!(read, segment());
        // The example of docs/format.md.
        assert_eq!(
            hex::encode(read.records[0].leaf()),
            "43afa27ebe670f95e7b56318f47053a47bc5b17b765b925a41fedcb93ca85a12"
        );
        let mut archive = Archive::open(folder.path()).unwrap();
        assert_eq!(archive.last(), 12);
        assert_eq!(archive.record(LOG_ID, 8), Some(record(8)));
        assert_eq!([9, 13].map(|seq| archive.record(LOG_ID, seq)), [None, None]);
        assert_eq!(archive.record([7; 16], 8), None);
        assert!(segment().write(folder.path()).is_err(), "a segment is never overwritten");
    }

    #[test]
    fn any_flipped_bit_and_any_cut_of_a_segment_is_noticed() {
        let packed = segment().encode().unwrap();
        for at in 0..packed.len() {
            let mut flipped = packed.clone();
            flipped[at] ^= 1 << (at % 8);
            // Some bits of the frame's head mean nothing to the content.
            match ArchiveSegment::decode(flipped.as_slice()) {
                Ok(read) => assert_eq!(read, segment(), "byte {at}"),
                Err(what) => assert!(!what.is_empty()),
            }
            assert!(ArchiveSegment::decode(&packed[..at]).is_err(), "cut at {at}");
        }
    }
}
