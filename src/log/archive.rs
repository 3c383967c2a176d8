//! Segments of an archive: records in a form that any tool reads. docs/format.md specifies them.
//!
//! A segment is a file of its own that is never changed: lines of JSON, compressed with zstd. Each
//! line but the last is a record with all that its leaf is made of; the last one says how much
//! there must be before it, and its hash.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::ops::RangeInclusive;

use base64::prelude::*;
use bytes::Bytes;
use rollcall_projections::Seq;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zstd::stream::raw::{self, Operation};

use super::manifest::{Checksums, checksum};
use super::place::{ArchivePlace, ListedFile, PlaceError};
use super::{LogId, Record};
use crate::hashes::{self, Hash};
use crate::notary::{Receipt, ReceiptError};
use crate::verify::{Unusable, extract_from};

/// The ending of a segment's name.
const SUFFIX: &str = ".ndjson.zst";

/// The version of the format.
const VERSION: u32 = 1;

/// The level at which segments are compressed.
const COMPRESSION_LEVEL: i32 = 3;

/// The most records of a segment, and the most bytes of bodies in a segment of more than one.
pub(crate) const SEGMENT_RECORDS_MAX: usize = 4096;
pub(crate) const SEGMENT_BODY_BYTES_MAX: usize = 16 << 20;

/// The most bytes that a segment unpacks to.
const UNPACKED_BYTES_MAX: u64 = 256 << 20;

/// The most bytes that a block of zstd unpacks to.
const BLOCK_BYTES_MAX: usize = 128 << 10;

/// A record with all that its leaf is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ArchivedRecord {
    pub(crate) seq: Seq,
    receipt: Vec<u8>,
    salt: [u8; 16],
    unusable_at_first: Option<Unusable>,
    pub(crate) body: Bytes,
}

impl From<&Record> for ArchivedRecord {
    fn from(record: &Record) -> ArchivedRecord {
        let Record { seq, salt, unusable_at_first, body, .. } = record;
        ArchivedRecord {
            seq: *seq,
            receipt: record.receipt(),
            salt: *salt,
            unusable_at_first: *unusable_at_first,
            body: body.clone(),
        }
    }
}

impl ArchivedRecord {
    /// Returns its leaf: see [`hashes::leaf`].
    pub(crate) fn leaf(&self) -> Hash {
        hashes::leaf(&self.receipt, &self.salt, &self.body)
    }

    /// Returns the log that its receipt names, if the receipt is of this record.
    pub(crate) fn log_id(&self) -> Option<LogId> {
        let (version, rest) = self.receipt.split_first()?;
        let (log_id, rest) = rest.split_first_chunk::<16>()?;
        let (seq, _) = rest.split_first_chunk::<8>()?;
        (*version == 1 && u64::from_be_bytes(*seq) == self.seq).then_some(*log_id)
    }
}

impl ArchivedRecord {
    /// Returns what its receipt says.
    pub(crate) fn read_receipt(&self) -> Result<Receipt, ReceiptError> {
        Receipt::parse(&self.receipt)
    }

    /// Returns whether its parts say the same of it: the id and the type of its receipt are those of
    /// its body. That is no proof, which only its leaf is.
    pub(super) fn agrees_with_itself(&self) -> bool {
        let Ok(receipt) = self.read_receipt() else { return false };
        let extracted = extract_from(&receipt.proof, &self.body);
        extracted.event_id.unwrap_or_default() == receipt.event_id
            && extracted.event_type.unwrap_or_default() == receipt.event_type
    }

    pub(crate) fn salt(&self) -> [u8; 16] {
        self.salt
    }

    /// Returns why it could not be used when it was recorded, if that is known. No leaf covers it.
    pub(crate) fn unusable_at_first(&self) -> Option<Unusable> {
        self.unusable_at_first
    }
}

/// A line of a segment, as `GET /rollcall/v1/log/entries/{seq}` gives a record.
#[derive(Serialize, Deserialize)]
struct Line {
    seq: Seq,
    receipt: String,
    salt: String,
    body: String,
    /// Why it could not be used when it was recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    unusable: Option<Unusable>,
}

impl Line {
    fn of(record: &ArchivedRecord) -> Line {
        Line {
            seq: record.seq,
            receipt: BASE64_STANDARD.encode(&record.receipt),
            salt: BASE64_STANDARD.encode(record.salt),
            body: BASE64_STANDARD.encode(&record.body),
            unusable: record.unusable_at_first,
        }
    }

    fn record(self) -> Option<ArchivedRecord> {
        let bytes = |text: String| BASE64_STANDARD.decode(text).ok();
        Some(ArchivedRecord {
            seq: self.seq,
            receipt: bytes(self.receipt)?,
            salt: bytes(self.salt)?.try_into().ok()?,
            unusable_at_first: self.unusable,
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
    /// The file without which the segment is only a part of what was written, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    needs: Option<String>,
}

const END: &str = "archive_end";

/// A segment that was read and checked.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ArchiveSegment {
    pub(crate) log_id: LogId,
    pub(crate) records: Vec<ArchivedRecord>,
    pub(crate) checkpoint: Option<String>,
    /// The file without which the segment is only a part of what was written: the list of a backup
    /// or of a salvaged folder. None of an archive.
    pub(crate) needs: Option<String>,
}

impl ArchiveSegment {
    /// Encodes the segment. It holds at least one record.
    pub(crate) fn encode(&self) -> io::Result<Vec<u8>> {
        let mut lines = Vec::new();
        for record in &self.records {
            serde_json::to_writer(&mut lines, &Line::of(record))?;
            lines.push(b'\n');
        }
        let (first, last) = self.seqs().into_inner();
        let end = End {
            object: END.to_owned(),
            version: VERSION,
            log_id: uuid::Uuid::from_bytes(self.log_id).to_string(),
            first,
            last,
            records: self.records.len(),
            sha256: hex::encode(Sha256::digest(&lines)),
            checkpoint: self.checkpoint.clone(),
            needs: self.needs.clone(),
        };
        serde_json::to_writer(&mut lines, &end)?;
        lines.push(b'\n');
        let mut encoder = zstd::Encoder::new(Vec::new(), COMPRESSION_LEVEL)?;
        encoder.include_checksum(true)?;
        encoder.write_all(&lines)?;
        encoder.finish()
    }

    /// Returns its first and its last record.
    pub(crate) fn seqs(&self) -> RangeInclusive<Seq> {
        let seq = |record: Option<&ArchivedRecord>| record.map_or(0, |record| record.seq);
        seq(self.records.first())..=seq(self.records.last())
    }

    /// Returns its name: its first and its last record.
    pub(crate) fn name(&self) -> String {
        let (first, last) = self.seqs().into_inner();
        format!("{first:020}-{last:020}{SUFFIX}")
    }

    /// Writes the segment as a new file.
    ///
    /// # Errors
    /// If it cannot be written, or there is one of its name.
    pub(super) fn write(&self, place: &ArchivePlace) -> Result<(), PlaceError> {
        match self.create(place)? {
            true => Ok(()),
            false => Err(self.failed(place, "it is there already".into())),
        }
    }

    /// Writes the segment as a new file. Returns false if there is one of its name.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(crate) fn create(&self, place: &ArchivePlace) -> Result<bool, PlaceError> {
        let bytes = self.encode().map_err(|error| self.failed(place, error.to_string()))?;
        place.create(&self.name(), &bytes)
    }

    fn failed(&self, place: &ArchivePlace, what: String) -> PlaceError {
        PlaceError { at: place.located(&self.name()), what }
    }

    /// Reads and checks a segment.
    ///
    /// # Errors
    /// A description of what is wrong with it.
    pub(crate) fn decode(packed: impl Read) -> Result<ArchiveSegment, String> {
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
        Ok(ArchiveSegment { log_id, records, checkpoint: end.checkpoint, needs: end.needs })
    }
}

/// What can still be read of a damaged segment. Nothing says that it is what it was: each record must
/// be compared with its leaf, or with a root that covers it.
#[derive(Default)]
struct SegmentRemains {
    records: BTreeMap<Seq, ArchivedRecord>,
    checkpoint: Option<String>,
}

impl SegmentRemains {
    fn of(packed: &[u8]) -> SegmentRemains {
        let (unpacked, mut remains) = (unpack_up_to_damage(packed), SegmentRemains::default());
        for line in unpacked.split(|byte| *byte == b'\n') {
            let record = serde_json::from_slice::<Line>(line).ok().and_then(Line::record);
            remains.records.extend(record.map(|record| (record.seq, record)));
            let end = serde_json::from_slice::<End>(line).ok();
            remains.checkpoint = end.and_then(|end| end.checkpoint).or(remains.checkpoint);
        }
        remains
    }
}

/// Unpacks as much as can be. An error takes with it all that the same step has unpacked, so each
/// step gets a single byte.
fn unpack_up_to_damage(packed: &[u8]) -> Vec<u8> {
    let Ok(mut decoder) = raw::Decoder::new() else { return Vec::new() };
    let (mut unpacked, mut block) = (Vec::new(), vec![0; BLOCK_BYTES_MAX]);
    let mut rest = packed;
    while let Some(next) = rest.get(..1) {
        let Ok(done) = decoder.run_on_buffers(next, &mut block) else { break };
        unpacked.extend_from_slice(block.get(..done.bytes_written).unwrap_or_default());
        if unpacked.len() as u64 > UNPACKED_BYTES_MAX || done.bytes_read + done.bytes_written == 0 {
            break;
        }
        rest = rest.get(done.bytes_read..).unwrap_or_default();
    }
    unpacked
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

/// The segments of one log.
pub(crate) struct Archive {
    place: ArchivePlace,
    /// By their first record, and the longer ones first.
    segments: Vec<SegmentName>,
    /// The checksums of segments, as far as a list has them.
    checksums: Checksums,
    /// The segment that was read last, and its number.
    current: Option<(usize, Result<ArchiveSegment, String>)>,
    /// The number of the damaged segment that was looked through last, and what is left in it.
    remains: Option<(usize, SegmentRemains)>,
    /// What is wrong with each segment that was found damaged, by its name.
    damaged: BTreeMap<String, String>,
}

/// A segment as its name tells it.
struct SegmentName {
    seqs: RangeInclusive<Seq>,
    name: String,
    /// The newest record that it, or one before it, promises.
    last_so_far: Seq,
}

/// Damage to a file of an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FileDamage {
    /// Its place.
    pub(crate) at: String,
    /// What is wrong with it.
    pub(crate) what: String,
}

impl From<PlaceError> for FileDamage {
    fn from(PlaceError { at, what }: PlaceError) -> FileDamage {
        FileDamage { at, what }
    }
}

impl From<FileDamage> for PlaceError {
    fn from(FileDamage { at, what }: FileDamage) -> PlaceError {
        PlaceError { at, what }
    }
}

impl Archive {
    /// Finds the segments in `place` by their names; those of the only log below it if there are
    /// none.
    ///
    /// # Errors
    /// If it cannot be listed, or there are several logs below it.
    pub(crate) fn open(place: &ArchivePlace) -> Result<Archive, PlaceError> {
        let mut found = Archive::all_in(place)?;
        if found.len() > 1 {
            let name = |archive: &Archive| archive.place.name();
            let names: Vec<String> = found.iter().map(name).collect();
            let what = format!("it holds several logs, name one: {}", names.join(", "));
            return Err(PlaceError { at: place.to_string(), what });
        }
        Ok(found.pop().unwrap_or_else(|| Archive::of(place.clone(), Vec::new())))
    }

    /// Finds the segments in `place` by their names; those of each log below it if there are none.
    ///
    /// # Errors
    /// If it cannot be listed.
    pub(crate) fn all_in(place: &ArchivePlace) -> Result<Vec<Archive>, PlaceError> {
        let segments = segments_in(place)?;
        if !segments.is_empty() {
            return Ok(vec![Archive::of(place.clone(), segments)]);
        }
        let mut found = Vec::new();
        for name in logs_in(place)? {
            let within = place.within(&name);
            let segments = segments_in(&within)?;
            if !segments.is_empty() {
                found.push(Archive::of(within, segments));
            }
        }
        Ok(found)
    }

    /// Takes the segments that were found in `place`.
    pub(crate) fn of(place: ArchivePlace, mut listed: Vec<ListedSegment>) -> Archive {
        listed.sort_by_key(|ListedSegment { seqs, .. }| {
            (*seqs.start(), std::cmp::Reverse(*seqs.end()))
        });
        let mut last_so_far = 0;
        let segments = listed.into_iter().map(|ListedSegment { seqs, name, .. }| {
            last_so_far = last_so_far.max(*seqs.end());
            SegmentName { seqs, name, last_so_far }
        });
        Archive {
            place,
            segments: segments.collect(),
            checksums: Checksums::new(),
            current: None,
            remains: None,
            damaged: BTreeMap::new(),
        }
    }

    /// Returns the place of the segments.
    pub(crate) fn place(&self) -> &ArchivePlace {
        &self.place
    }

    /// Returns the names of the segments.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.segments.iter().map(|segment| segment.name.as_str())
    }

    /// Returns whether there is no segment in the place.
    pub(crate) fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// Returns the newest record that the names of segments promise.
    pub(crate) fn last(&self) -> Seq {
        self.segments.last().map_or(0, |segment| segment.last_so_far)
    }

    /// Takes the checksums of a list: a segment with another is damaged.
    pub(super) fn expect(&mut self, checksums: Checksums) {
        self.checksums = checksums;
        self.current = None;
    }

    /// Returns the log of the first sound segment.
    ///
    /// # Errors
    /// The damage to the first segment, if none is sound.
    pub(crate) fn log_id(&mut self) -> Result<LogId, FileDamage> {
        self.first_sound().map(|segment| segment.log_id)
    }

    /// Returns the file without which the segments are only a part of what was written, if there is
    /// one.
    ///
    /// # Errors
    /// Those of [`Archive::log_id`].
    pub(super) fn needs(&mut self) -> Result<Option<String>, FileDamage> {
        self.first_sound().map(|segment| segment.needs.clone())
    }

    fn first_sound(&mut self) -> Result<&ArchiveSegment, FileDamage> {
        let sound = (0..self.segments.len()).find(|number| self.segment(*number).is_ok());
        self.segment(sound.unwrap_or(0))
    }

    /// Reads a record; `None` if no sound segment has it. Consecutive seqs are cheapest.
    pub(crate) fn record(&mut self, log_id: LogId, seq: Seq) -> Option<ArchivedRecord> {
        self.checked_record(log_id, seq).ok().flatten()
    }

    /// Reads a record; `None` if no segment has it. Consecutive seqs are cheapest.
    ///
    /// # Errors
    /// The damage to a segment that may have it.
    pub(crate) fn checked_record(
        &mut self,
        log_id: LogId,
        seq: Seq,
    ) -> Result<Option<ArchivedRecord>, FileDamage> {
        let mut damage = None;
        let current = self.current.as_ref().filter(|(_, segment)| segment.is_ok());
        if let Some(number) = current.map(|(number, _)| *number)
            && let Some(found) = self.record_in(number, log_id, seq)?
        {
            return Ok(Some(found));
        }
        for number in self.holding(seq) {
            match self.record_in(number, log_id, seq) {
                Ok(Some(found)) => return Ok(Some(found)),
                Ok(None) => {}
                Err(found) => damage = damage.or(Some(found)),
            }
        }
        damage.map_or(Ok(None), Err)
    }

    /// Returns each record of this seq that can be read in a damaged segment. Nothing says that it is
    /// what it was: see [`SegmentRemains`]. Consecutive seqs are cheapest.
    pub(super) fn remaining_records(&mut self, log_id: LogId, seq: Seq) -> Vec<ArchivedRecord> {
        let mut found = Vec::new();
        for number in self.holding(seq) {
            if self.segment(number).is_err() {
                found.extend(self.remains(number).records.get(&seq).cloned());
            }
        }
        found.retain(|record| record.log_id() == Some(log_id));
        found
    }

    /// Returns whether a damaged segment still has a record whose receipt is of this log.
    pub(super) fn has_remains_of(&mut self, log_id: LogId) -> bool {
        (0..self.segments.len()).any(|number| {
            self.segment(number).is_err()
                && self
                    .remains(number)
                    .records
                    .values()
                    .any(|record| record.log_id() == Some(log_id))
        })
    }

    /// Returns the checkpoints that can be read in damaged segments that end with `seq`.
    pub(super) fn remaining_checkpoints(&mut self, seq: Seq) -> Vec<String> {
        let mut found = Vec::new();
        for number in self.holding(seq) {
            let ends = self.segments.get(number).is_some_and(|found| *found.seqs.end() == seq);
            if ends && self.segment(number).is_err() {
                found.extend(self.remains(number).checkpoint.clone());
            }
        }
        found
    }

    /// Looks through a damaged segment, unless it is the one that was looked through last.
    fn remains(&mut self, number: usize) -> &SegmentRemains {
        let name = self.segments.get(number).map_or("", |segment| segment.name.as_str());
        let last = self.remains.take().filter(|(last, _)| *last == number);
        let place = &self.place;
        let look = || {
            let packed = place.read(name).ok().flatten().unwrap_or_default();
            (number, SegmentRemains::of(&packed))
        };
        let (_, remains) = self.remains.insert(last.unwrap_or_else(look));
        remains
    }

    /// Returns the segments that were read so far and are damaged, in the order of their names.
    pub(super) fn damaged(&self) -> Vec<PlaceError> {
        let damage = |(name, what): (&String, &String)| PlaceError {
            at: self.place.located(name),
            what: what.clone(),
        };
        self.damaged.iter().map(damage).collect()
    }

    /// Returns the numbers of the segments that may have a record, the longest first.
    fn holding(&self, seq: Seq) -> Vec<usize> {
        let end = self.segments.partition_point(|segment| *segment.seqs.start() <= seq);
        let before = self.segments.iter().enumerate().take(end).rev();
        let holding = before
            .take_while(|(_, segment)| segment.last_so_far >= seq)
            .filter(|(_, segment)| segment.seqs.contains(&seq));
        let mut numbers: Vec<(usize, Seq)> = holding
            .map(|(number, segment)| (number, segment.seqs.end() - segment.seqs.start()))
            .collect();
        numbers.sort_by_key(|(_, length)| std::cmp::Reverse(*length));
        numbers.into_iter().map(|(number, _)| number).collect()
    }

    fn record_in(
        &mut self,
        number: usize,
        log_id: LogId,
        seq: Seq,
    ) -> Result<Option<ArchivedRecord>, FileDamage> {
        let segment = self.segment(number)?;
        if segment.log_id != log_id {
            return Ok(None);
        }
        let at = segment.records.binary_search_by_key(&seq, |record| record.seq);
        Ok(at.ok().and_then(|at| segment.records.get(at)).cloned())
    }

    /// Returns the checkpoint of the segment that was read last, and its place, if it ends with
    /// `seq`.
    pub(crate) fn checkpoint_at(&self, seq: Seq) -> Option<(&str, String)> {
        let (number, segment) = self.current.as_ref()?;
        let checkpoint = segment.as_ref().ok()?.checkpoint.as_deref()?;
        let name = self.segments.get(*number).filter(|segment| *segment.seqs.end() == seq)?;
        Some((checkpoint, self.place.located(&name.name)))
    }

    /// Reads a segment, unless it is the one that was read last.
    fn segment(&mut self, number: usize) -> Result<&ArchiveSegment, FileDamage> {
        let name = self.segments.get(number).map_or("", |segment| segment.name.as_str());
        let current = self.current.take().filter(|(current, _)| *current == number);
        let damaged = &mut self.damaged;
        let read = || {
            let segment = read_segment_as(&self.place, name, self.checksums.get(name));
            if let Err(what) = &segment {
                let at = self.place.located(name);
                tracing::warn!(file = at, what, "a segment of the archive is damaged");
                damaged.insert(name.to_owned(), what.clone());
            }
            (number, segment)
        };
        let (_, segment) = self.current.insert(current.unwrap_or_else(read));
        let damage =
            |what: &String| FileDamage { at: self.place.located(name), what: what.clone() };
        segment.as_ref().map_err(damage)
    }
}

/// Reads and checks a segment, which must have this checksum if one is known.
///
/// # Errors
/// A description of what is wrong with it.
fn read_segment_as(
    place: &ArchivePlace,
    name: &str,
    expected: Option<&String>,
) -> Result<ArchiveSegment, String> {
    let bytes = place.read(name).map_err(|error| error.what)?.ok_or("it is gone")?;
    let segment = ArchiveSegment::decode(bytes.as_slice())?;
    match expected.is_some_and(|expected| *expected != checksum(&bytes)) {
        true => Err("it has another checksum than the list of files names".into()),
        false => Ok(segment),
    }
}

/// A segment in the listing of a place. It may be damaged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ListedSegment {
    /// The records that its name promises.
    pub(crate) seqs: RangeInclusive<Seq>,
    pub(crate) name: String,
    /// Its size, if the listing has it.
    bytes: Option<u64>,
}

impl ListedSegment {
    /// Returns the number of records that its name promises, at most.
    pub(crate) fn length(&self) -> Seq {
        self.seqs.end() - self.seqs.start() + 1
    }

    /// Returns what is wrong with it: see [`ArchivePlace::frame_fault`].
    ///
    /// # Errors
    /// If it cannot be read.
    pub(crate) fn fault(&self, place: &ArchivePlace) -> Result<Option<&'static str>, PlaceError> {
        place.frame_fault(&self.name, self.bytes)
    }
}

/// Lists the segments in a place, in no order.
///
/// # Errors
/// If it cannot be listed.
pub(crate) fn segments_in(place: &ArchivePlace) -> Result<Vec<ListedSegment>, PlaceError> {
    Ok(segments_among(&place.list()?))
}

/// Returns the segments among the files of a place.
pub(crate) fn segments_among(files: &[ListedFile]) -> Vec<ListedSegment> {
    let segment = |(name, bytes): &ListedFile| {
        Some(ListedSegment { seqs: seqs_of(name)?, name: name.clone(), bytes: *bytes })
    };
    files.iter().filter_map(segment).collect()
}

/// Lists the logs that have a part of the archive, in order.
///
/// # Errors
/// If it cannot be listed.
pub(crate) fn logs_in(place: &ArchivePlace) -> Result<Vec<String>, PlaceError> {
    let mut names = place.folders()?;
    names.retain(|name| uuid::Uuid::parse_str(name).is_ok());
    names.sort();
    Ok(names)
}

/// Returns the first and the last seq that the name of a segment promises.
pub(crate) fn seqs_of(name: &str) -> Option<RangeInclusive<Seq>> {
    let (first, last) = name.strip_suffix(SUFFIX)?.split_once('-')?;
    let seq = |digits: &str| -> Option<Seq> {
        let is_one = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
        digits.parse().ok().filter(|_| is_one)
    };
    Some(seq(first)?..=seq(last)?).filter(|seqs| *seqs.start() >= 1 && !seqs.is_empty())
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
            unusable_at_first: None,
            body: Bytes::from_static(b"{}"),
        };
        ArchivedRecord::from(&record)
    }

    fn segment() -> ArchiveSegment {
        let records = [7, 8, 12].map(record).to_vec();
        ArchiveSegment { log_id: LOG_ID, records, checkpoint: Some("a note\n".into()), needs: None }
    }

    #[test]
    fn what_is_left_of_a_damaged_segment_is_read_up_to_the_damage() {
        // Bodies that cannot be packed, so that the segment has several blocks.
        let digests =
            |seq: Seq| (0..320u64).map(move |n| Sha256::digest(((seq << 32) + n).to_le_bytes()));
        let body = |seq| digests(seq).flat_map(|digest| digest.to_vec()).collect::<Vec<u8>>();
        let records: Vec<ArchivedRecord> =
            (1..=60).map(|seq| ArchivedRecord { body: body(seq).into(), ..record(seq) }).collect();
        let segment = ArchiveSegment { records: records.clone(), ..segment() };
        let whole = segment.encode().unwrap();
        let sound = |packed: &[u8]| -> Vec<Seq> {
            assert!(ArchiveSegment::decode(packed).is_err());
            let found = SegmentRemains::of(packed).records;
            let is_sound = |record: &&ArchivedRecord| found.get(&record.seq) == Some(*record);
            records.iter().filter(is_sound).map(|record| record.seq).collect()
        };
        let flipped = |at: usize| {
            let mut flipped = whole.clone();
            flipped[at] ^= 1;
            flipped
        };
        let all: Vec<Seq> = (1..=60).collect();
        assert_eq!(sound(&flipped(whole.len() - 1)), all, "only the checksum differs");
        // Half of the lines, but for those of the block that is cut.
        let half = sound(&whole[..whole.len() / 2]);
        assert!((18..=31).contains(&half.len()) && all.starts_with(&half), "{half:?}");
        assert!(sound(&flipped(whole.len() / 2)).starts_with(&all[..18]));
        assert_eq!(sound(&flipped(0)), Vec::<Seq>::new());
    }

    #[test]
    fn a_segment_is_read_as_it_was_written_and_its_leaves_are_those_of_the_records() {
        let folder = tempfile::tempdir().unwrap();
        let place = ArchivePlace::Folder(folder.path().to_owned());
        segment().write(&place).unwrap();
        let name = "00000000000000000007-00000000000000000012.ndjson.zst";
        assert_eq!(place.files(), Ok(vec![name.to_owned()]));
        let read = read_segment_as(&place, name, None).unwrap();
        assert_eq!(read, segment());
        // The example of docs/format.md.
        assert_eq!(
            hex::encode(read.records[0].leaf()),
            "43afa27ebe670f95e7b56318f47053a47bc5b17b765b925a41fedcb93ca85a12"
        );
        let mut archive = Archive::open(&place).unwrap();
        assert_eq!(archive.last(), 12);
        assert_eq!(archive.record(LOG_ID, 8), Some(record(8)));
        assert_eq!([9, 13].map(|seq| archive.record(LOG_ID, seq)), [None, None]);
        assert_eq!(archive.record([7; 16], 8), None);
        assert!(segment().write(&place).is_err(), "a segment is never overwritten");
    }

    fn of(seqs: impl IntoIterator<Item = Seq>) -> ArchiveSegment {
        let records = seqs.into_iter().map(record).collect();
        ArchiveSegment { log_id: LOG_ID, records, checkpoint: None, needs: None }
    }

    #[test]
    fn a_record_is_found_in_any_segment_that_has_it() {
        let folder = tempfile::tempdir().unwrap();
        let root = ArchivePlace::Folder(folder.path().to_owned());
        let place = root.within("30313233-3435-3637-3839-616263646566");
        for seqs in [vec![1, 2], vec![1, 2, 3, 9], vec![3], vec![4, 5], vec![6], vec![8, 10]] {
            of(seqs).write(&place).unwrap();
        }
        // The only log below the root is found.
        let mut archive = Archive::open(&root).unwrap();
        assert_eq!((archive.last(), archive.log_id()), (10, Ok(LOG_ID)));
        for seq in [10, 1, 2, 9, 3, 4, 6, 5, 8, 4] {
            assert_eq!(archive.record(LOG_ID, seq), Some(record(seq)), "{seq}");
        }
        assert_eq!([0, 7, 11].map(|seq| archive.record(LOG_ID, seq)), [None, None, None]);
        // Where the longer one is damaged, the shorter ones still have their records.
        let long = "00000000000000000001-00000000000000000009.ndjson.zst";
        let ArchivePlace::Folder(folder) = &place else { unreachable!() };
        std::fs::write(folder.join(long), b"x").unwrap();
        let mut archive = Archive::open(&place).unwrap();
        assert_eq!(archive.log_id(), Ok(LOG_ID), "another segment names the log");
        assert_eq!([3, 9].map(|seq| archive.record(LOG_ID, seq)), [Some(record(3)), None]);
        let damage = archive.checked_record(LOG_ID, 9).unwrap_err();
        assert!(damage.at.ends_with(long), "{}", damage.at);
        // Two logs must be told apart.
        of([1]).write(&root.within("30313233-3435-3637-3839-616263646567")).unwrap();
        let error = Archive::open(&root).err().unwrap();
        assert!(error.what.contains("several logs"), "{error}");
    }

    #[test]
    fn only_the_names_of_segments_are_read_as_such() {
        let name = "00000000000000000001-00000000000000000009.ndjson.zst";
        assert_eq!(seqs_of(name), Some(1..=9));
        for other in [
            "1-9.ndjson.zst",
            "00000000000000000000-00000000000000000009.ndjson.zst",
            "00000000000000000009-00000000000000000001.ndjson.zst",
            "+0000000000000000001-00000000000000000009.ndjson.zst",
            ".unfinished-x",
            "salvage.json",
        ] {
            assert_eq!(seqs_of(other), None, "{other}");
        }
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
