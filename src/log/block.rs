//! The codec: one block holds the consecutive records of one commit, or a part of them. docs/format.md says every byte.
//!
//! A block is a head, three sections (index, facts, proofs) and the bodies in frames of at most 16, each compressed and checked on its
//! own, so that a fold unpacks no body and one document unpacks at most its frame.

use std::borrow::Cow;
use std::cell::RefCell;

use bytes::Bytes;
use rollcall_projections::{Entry, Millis, Seq, Standing};
use xxhash_rust::xxh3::xxh3_64;

use super::{LogId, Record};
use crate::verify::{FACTS_VERSION, Facts, KEY_ID_BYTES, Proof, Source, Verified, extract};

/// The version of the format, in each block and in the log's identity.
pub(super) const FORMAT: u8 = 1;

/// No stored value is larger: a larger one could spill into a file that a flush does not make durable.
pub(super) const VALUE_BYTES_MAX: usize = 60 << 10;

const MAGIC: u8 = b'R';
const FRAME_BODIES_MAX: usize = 16;
const FRAME_BYTES_MAX: usize = 64 << 10;
const COMPRESSION_LEVEL: i32 = 1;
/// No section unpacks to more: a damaged length must not allocate.
const SECTION_BYTES_MAX: usize = 16 << 20;

const SCHEME_PLAIN: u8 = 0;
const SCHEME_ZSTD: u8 = 1;

fn encoding() -> impl bincode::config::Config {
    bincode::config::standard().with_limit::<SECTION_BYTES_MAX>()
}

/// A stretch of bytes after the head.
#[derive(Clone, Copy, Debug, PartialEq, bincode::Encode, bincode::Decode)]
struct Section {
    /// How it is stored.
    scheme: u8,
    /// Length as stored.
    stored: u32,
    /// Length unpacked.
    raw: u32,
    /// The low half of the XXH3 of the stored bytes.
    check: [u8; 4],
}

#[derive(Debug, PartialEq, bincode::Encode, bincode::Decode)]
struct Head {
    log_id: LogId,
    first_seq: u64,
    count: u32,
    recorded_at: i64,
    facts_version: u16,
    index: Section,
    facts: Section,
    proofs: Section,
    frames: Vec<FrameSection>,
}

/// Some consecutive bodies, packed together.
#[derive(Clone, Copy, Debug, PartialEq, bincode::Encode, bincode::Decode)]
struct FrameSection {
    bodies: u16,
    section: Section,
}

/// Sections before the frames: index, facts, proofs.
const FIRST_FRAME: usize = 3;

/// A record's line in the index section.
#[derive(Debug, PartialEq, bincode::Encode, bincode::BorrowDecode)]
struct Line<'a> {
    source: u8,
    event_id: Option<Cow<'a, str>>,
    event_type: Option<Cow<'a, str>>,
    /// The record that counts, if this one does not.
    conflicts_with: Option<u64>,
}

/// A record's line in the proofs section.
#[derive(Debug, PartialEq, bincode::Encode, bincode::Decode)]
struct Evidence {
    salt: [u8; 16],
    proof: StoredProof,
}

#[derive(Debug, PartialEq, bincode::Encode, bincode::Decode)]
enum StoredProof {
    Webhook { t: i64, v1: [u8; 32], key_id: [u8; KEY_ID_BYTES] },
}

/// An event about to be written, with its salt and the record it conflicts with.
pub(super) struct Draft {
    pub(super) event: Verified,
    pub(super) salt: [u8; 16],
    pub(super) conflicts_with: Option<Seq>,
}

/// Blocks for consecutive drafts from `first_seq` on, each with its first seq. All but one of a single large event fit one value.
pub(super) fn encode(log_id: LogId, first_seq: Seq, recorded_at: Millis, drafts: &[Draft]) -> std::io::Result<Vec<(Seq, Vec<u8>)>> {
    let mut blocks = Vec::new();
    let mut seq = first_seq;
    let mut rest = drafts;
    while !rest.is_empty() {
        let (mut frames, mut count, mut bytes) = (Vec::new(), 0, 0);
        while let Some(tail) = rest.get(count..).filter(|tail| !tail.is_empty()) {
            let bodies = frame_len(tail);
            let (section, stored) = pack(&frame_bytes(tail.get(..bodies).unwrap_or(tail)))?;
            let beside: usize = tail.iter().take(bodies).map(|draft| draft.event.facts().len() + 160).sum();
            if count > 0 && bytes + stored.len() + beside > VALUE_BYTES_MAX {
                break;
            }
            bytes += stored.len() + beside;
            count += bodies;
            frames.push((FrameSection { bodies: bodies as u16, section }, stored));
        }
        let (now, later) = rest.split_at(count);
        blocks.push((seq, encode_block(log_id, seq, recorded_at, now, frames)?));
        seq += count as Seq;
        rest = later;
    }
    Ok(blocks)
}

/// How many of the next bodies share a frame.
fn frame_len(drafts: &[Draft]) -> usize {
    let mut bytes = 0;
    let fitting = drafts.iter().take(FRAME_BODIES_MAX).take_while(|draft| {
        bytes += draft.event.body().len();
        bytes <= FRAME_BYTES_MAX
    });
    fitting.count().max(1)
}

/// The bodies' lengths, four bytes each, little-endian, then the bodies.
fn frame_bytes(drafts: &[Draft]) -> Vec<u8> {
    let lengths = drafts.iter().flat_map(|draft| (draft.event.body().len() as u32).to_le_bytes());
    lengths.chain(drafts.iter().flat_map(|draft| draft.event.body().iter().copied())).collect()
}

fn encode_block(
    log_id: LogId,
    first_seq: Seq,
    recorded_at: Millis,
    drafts: &[Draft],
    frames: Vec<(FrameSection, Vec<u8>)>,
) -> std::io::Result<Vec<u8>> {
    let (mut index, mut facts, mut proofs) = (Vec::new(), Vec::new(), Vec::new());
    for Draft { event, salt, conflicts_with } in drafts {
        let source = match event.source() {
            Source::Workos => 1,
        };
        let line = Line {
            source,
            event_id: event.event_id().map(Cow::Borrowed),
            event_type: event.event_type().map(Cow::Borrowed),
            conflicts_with: *conflicts_with,
        };
        put(&mut index, &line)?;
        facts.extend_from_slice(event.facts());
        let Proof::Webhook { t, v1, key_id } = *event.proof();
        put(&mut proofs, &Evidence { salt: *salt, proof: StoredProof::Webhook { t, v1, key_id } })?;
    }
    let (index, facts, proofs) = (pack(&index)?, pack(&facts)?, pack(&proofs)?);
    let head = Head {
        log_id,
        first_seq,
        count: drafts.len() as u32,
        recorded_at,
        facts_version: FACTS_VERSION,
        index: index.0,
        facts: facts.0,
        proofs: proofs.0,
        frames: frames.iter().map(|frame| frame.0).collect(),
    };
    let mut encoded = Vec::new();
    put(&mut encoded, &head)?;
    let mut out = vec![MAGIC, FORMAT];
    out.extend((encoded.len() as u32).to_le_bytes());
    out.extend(encoded);
    out.extend(check(&out));
    for bytes in [&index.1, &facts.1, &proofs.1].into_iter().chain(frames.iter().map(|frame| &frame.1)) {
        out.extend_from_slice(bytes);
    }
    Ok(out)
}

fn put(out: &mut Vec<u8>, value: &impl bincode::Encode) -> std::io::Result<()> {
    bincode::encode_into_std_write(value, out, encoding()).map(drop).map_err(std::io::Error::other)
}

fn check(bytes: &[u8]) -> [u8; 4] {
    (xxh3_64(bytes) as u32).to_le_bytes()
}

/// Compresses a section where that helps.
fn pack(raw: &[u8]) -> std::io::Result<(Section, Vec<u8>)> {
    let packed = zstd::bulk::compress(raw, COMPRESSION_LEVEL)?;
    let (scheme, stored) = if packed.len() < raw.len() { (SCHEME_ZSTD, packed) } else { (SCHEME_PLAIN, raw.to_vec()) };
    Ok((Section { scheme, stored: stored.len() as u32, raw: raw.len() as u32, check: check(&stored) }, stored))
}

thread_local! {
    static DECOMPRESSOR: RefCell<Option<zstd::bulk::Decompressor<'static>>> = const { RefCell::new(None) };
}

fn unpack(section: Section, stored: &[u8]) -> Result<Cow<'_, [u8]>, String> {
    if check(stored) != section.check {
        return Err("a checksum does not fit".into());
    }
    let raw = section.raw as usize;
    match section.scheme {
        SCHEME_PLAIN if stored.len() == raw => Ok(Cow::Borrowed(stored)),
        SCHEME_ZSTD if raw <= SECTION_BYTES_MAX => DECOMPRESSOR.with_borrow_mut(|slot| {
            let decompressor = match slot {
                Some(decompressor) => decompressor,
                None => slot.insert(zstd::bulk::Decompressor::new().map_err(|error| error.to_string())?),
            };
            let unpacked = decompressor.decompress(stored, raw).map_err(|error| error.to_string())?;
            if unpacked.len() == raw { Ok(Cow::Owned(unpacked)) } else { Err("a section has another length than its head says".into()) }
        }),
        _ => Err("a section is stored in a way that this version does not know".into()),
    }
}

/// A block, its head read and checked.
pub(super) struct Block<'a> {
    head: Head,
    sections: &'a [u8],
}

impl<'a> Block<'a> {
    /// Reads a head. Sections are checked as they are unpacked.
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Block<'a>, String> {
        let (head, start) = parse_head(bytes)?;
        let sections =
            bytes.get(start..).filter(|rest| rest.len() == head.stored_bytes()).ok_or("the block has another length than its head says")?;
        Ok(Block { head, sections })
    }

    pub(super) fn log_id(&self) -> LogId {
        self.head.log_id
    }

    pub(super) fn first_seq(&self) -> Seq {
        self.head.first_seq
    }

    pub(super) fn last_seq(&self) -> Seq {
        self.head.first_seq + Seq::from(self.head.count) - 1
    }

    pub(super) fn recorded_at(&self) -> Millis {
        self.head.recorded_at
    }

    /// The stored bytes of section `at`: index, facts, proofs, then the frames.
    fn section(&self, at: usize) -> Result<Cow<'a, [u8]>, String> {
        let mut start = 0;
        for (number, section) in self.head.sections().enumerate() {
            let end = start + section.stored as usize;
            if number == at {
                return unpack(section, self.sections.get(start..end).ok_or("a section is cut off")?);
            }
            start = end;
        }
        Err("there is no such frame".into())
    }

    /// Shows each record's id and standing, for the dedupe index.
    pub(super) fn ids(&self, mut each: impl FnMut(Seq, Option<&str>, bool)) -> Result<(), String> {
        let index = self.section(0)?;
        let mut rest = index.as_ref();
        for seq in self.first_seq()..=self.last_seq() {
            let line: Line<'_> = take(&mut rest)?;
            each(seq, line.event_id.as_deref(), line.conflicts_with.is_some());
        }
        Ok(())
    }

    /// Shows what the fold needs of the records after `after`.
    pub(super) fn entries(&self, after: Seq, each: &mut dyn FnMut(&Entry<'_>)) -> Result<(), String> {
        let (index, stored) = (self.section(0)?, self.section(1)?);
        let (mut lines, mut facts) = (index.as_ref(), stored.as_ref());
        let fresh = self.head.facts_version == FACTS_VERSION;
        let records = if fresh { Vec::new() } else { self.records()? };
        for (at, seq) in (self.first_seq()..=self.last_seq()).enumerate() {
            let line: Line<'_> = take(&mut lines)?;
            // What is cached beside the bodies serves only the version that wrote it.
            let facts: Facts<'_> = match records.get(at) {
                Some(record) => {
                    let Proof::Webhook { t, .. } = record.proof;
                    extract(&record.body, Some(t)).facts
                }
                None => take(&mut facts)?,
            };
            if seq > after {
                each(&Entry {
                    seq,
                    recorded_at: self.head.recorded_at,
                    occurred_at: facts.occurred_at.unwrap_or(self.head.recorded_at),
                    updated_at: facts.updated_at,
                    event_id: line.event_id.as_deref().unwrap_or(""),
                    standing: standing(line.conflicts_with),
                    fact: facts.fact(),
                });
            }
        }
        Ok(())
    }

    /// Every record, bodies and all.
    pub(super) fn records(&self) -> Result<Vec<Record>, String> {
        let (index, proofs) = (self.section(0)?, self.section(2)?);
        let (mut lines, mut proofs) = (index.as_ref(), proofs.as_ref());
        let mut bodies = Vec::new();
        for frame in 0..self.head.frames.len() {
            bodies.extend(self.frame(frame)?);
        }
        if bodies.len() != self.head.count as usize {
            return Err("a body is missing".into());
        }
        (self.first_seq()..)
            .zip(bodies)
            .map(|(seq, body)| {
                let line: Line<'_> = take(&mut lines)?;
                let Evidence { salt, proof: StoredProof::Webhook { t, v1, key_id } } = decode(&mut proofs)?;
                Ok(Record {
                    log_id: self.head.log_id,
                    seq,
                    recorded_at: self.head.recorded_at,
                    source: if line.source == 1 { Source::Workos } else { return Err("its source is unknown".into()) },
                    event_id: line.event_id.map(Into::into),
                    event_type: line.event_type.map(Into::into),
                    standing: standing(line.conflicts_with),
                    proof: Proof::Webhook { t, v1, key_id },
                    salt,
                    body,
                })
            })
            .collect()
    }

    /// The bodies of the frame that holds `seq`.
    pub(super) fn frame_of(&self, seq: Seq) -> Result<Frame, String> {
        let mut first = self.first_seq();
        for (number, frame) in self.head.frames.iter().enumerate() {
            let next = first + Seq::from(frame.bodies);
            if (first..next).contains(&seq) {
                return Ok(Frame { first_seq: first, bodies: self.frame(number)? });
            }
            first = next;
        }
        Err("a body is missing".into())
    }

    fn frame(&self, number: usize) -> Result<Vec<Bytes>, String> {
        let bodies = self.head.frames.get(number).map_or(0, |frame| usize::from(frame.bodies));
        let bytes = Bytes::from(self.section(FIRST_FRAME + number)?.into_owned());
        split_frame(&bytes, bodies).ok_or_else(|| "a frame does not hold its bodies".into())
    }
}

/// Some consecutive bodies, unpacked.
pub(super) struct Frame {
    first_seq: Seq,
    bodies: Vec<Bytes>,
}

impl Frame {
    /// The body of record `seq`, if it is here.
    pub(super) fn body(&self, seq: Seq) -> Option<Bytes> {
        self.bodies.get(usize::try_from(seq.checked_sub(self.first_seq)?).ok()?).cloned()
    }
}

fn split_frame(bytes: &Bytes, bodies: usize) -> Option<Vec<Bytes>> {
    let (lengths, _) = bytes.split_at_checked(bodies * 4)?;
    let mut start = lengths.len();
    let mut out = Vec::with_capacity(bodies);
    for length in lengths.as_chunks::<4>().0 {
        let end = start.checked_add(u32::from_le_bytes(*length) as usize).filter(|end| *end <= bytes.len())?;
        out.push(bytes.slice(start..end));
        start = end;
    }
    (start == bytes.len()).then_some(out)
}

/// Reads the head and says where the sections begin.
fn parse_head(bytes: &[u8]) -> Result<(Head, usize), String> {
    let [MAGIC, FORMAT, a, b, c, d, rest @ ..] = bytes else { return Err("the block does not begin like one".into()) };
    let length = u32::from_le_bytes([*a, *b, *c, *d]) as usize;
    let encoded = rest.get(..length).ok_or("the head is cut off")?;
    let end = 6 + length;
    if bytes.get(end..end + 4) != Some(&check(bytes.get(..end).unwrap_or_default())) {
        return Err("the head's checksum does not fit".into());
    }
    let mut encoded = encoded;
    let head: Head = decode(&mut encoded)?;
    if head.count == 0 || head.first_seq == 0 || !encoded.is_empty() {
        return Err("the head is not one".into());
    }
    Ok((head, end + 4))
}

/// How long the block is that begins with `bytes`, its first stored value.
pub(super) fn block_len(bytes: &[u8]) -> Result<usize, String> {
    let (head, start) = parse_head(bytes)?;
    Ok(start + head.stored_bytes())
}

impl Head {
    fn sections(&self) -> impl Iterator<Item = Section> {
        [self.index, self.facts, self.proofs].into_iter().chain(self.frames.iter().map(|frame| frame.section))
    }

    fn stored_bytes(&self) -> usize {
        self.sections().map(|section| section.stored as usize).sum()
    }
}

fn standing(conflicts_with: Option<u64>) -> Standing {
    conflicts_with.map_or(Standing::Counts, |first| Standing::Conflict { first })
}

/// Reads the next value from a section.
fn take<'a, T: bincode::BorrowDecode<'a, ()>>(rest: &mut &'a [u8]) -> Result<T, String> {
    let (value, read) = bincode::borrow_decode_from_slice(rest, encoding()).map_err(|error| error.to_string())?;
    *rest = rest.get(read..).unwrap_or_default();
    Ok(value)
}

fn decode<T: bincode::Decode<()>>(rest: &mut &[u8]) -> Result<T, String> {
    let (value, read) = bincode::decode_from_slice(rest, encoding()).map_err(|error| error.to_string())?;
    *rest = rest.get(read..).unwrap_or_default();
    Ok(value)
}
