//! The codec: one block holds the consecutive records of one commit, or a part of them.
//! docs/format.md specifies every byte.
//!
//! A block is a head, three sections (index, facts, proofs) and the bodies in frames of at most 16,
//! each compressed and checked on its own. So a fold unpacks no body, and one document unpacks at
//! most its frame.

use std::borrow::Cow;
use std::cell::RefCell;

use bytes::Bytes;
use rollcall_projections::{Entry, Fact, Millis, Provenance, Reason, RecordStatus, Seq};
use sha2::{Digest, Sha256};
use xxhash_rust::xxh3::xxh3_64;
use zstd::bulk::{Compressor, Decompressor};

use super::merkle::Hash;
use super::receipt::Receipt;
use super::{BATCH_EVENTS_MAX, LogId, Record};
use crate::hashes::{leaf_of_digest, salted_digest};
use crate::verify::{
    FACTS_SINCE, FACTS_VERSION, Facts, KEY_ID_BYTES, Proof, Source, Unusable, Verified,
    extract_from,
};

/// The version of the format, in each block and in the log's identity.
pub(crate) const FORMAT: u8 = 1;

/// The largest stored value. A larger one could spill into a file that a flush does not make
/// durable.
pub(super) const VALUE_BYTES_MAX: usize = 60 << 10;

/// The first byte of a block of records, and of a block that has only the leaves of lost ones.
const MAGIC: u8 = b'R';
const MAGIC_LOST: u8 = b'L';
const FRAME_BODIES_MAX: usize = 16;
const FRAME_BYTES_MAX: usize = 64 << 10;
const COMPRESSION_LEVEL: i32 = 1;
/// The most that a section unpacks to, so that a damaged length cannot allocate more.
const SECTION_BYTES_MAX: usize = 16 << 20;

const SOURCE_WORKOS: u8 = 1;
const SOURCE_ROLLCALL: u8 = 2;
const SOURCE_SCIM: u8 = 3;

const SCHEME_PLAIN: u8 = 0;
const SCHEME_ZSTD: u8 = 1;

fn encoding() -> impl bincode::config::Config {
    bincode::config::standard().with_limit::<SECTION_BYTES_MAX>()
}

/// The description, in the head, of a stretch of bytes after it.
#[derive(Clone, Copy, Debug, PartialEq, bincode::Encode, bincode::Decode)]
struct Section {
    /// Plain or compressed.
    scheme: u8,
    /// The length as stored.
    stored: u32,
    /// The length unpacked.
    raw: u32,
    /// The low half of the XXH3 of the stored bytes.
    check: [u8; 4],
}

#[derive(Debug, PartialEq, bincode::Encode, bincode::Decode)]
struct BlockHead {
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

/// The description, in the head, of consecutive bodies that are packed together.
#[derive(Clone, Copy, Debug, PartialEq, bincode::Encode, bincode::Decode)]
struct FrameSection {
    bodies: u16,
    section: Section,
}

/// The number of the section that has the facts, and of the one that has the proofs.
const FACTS: usize = 1;
const PROOFS: usize = 2;

/// The version of facts from which on a section of them begins with first verdicts. Every later
/// version begins so too.
const VERDICTS_SINCE: u16 = 8;

/// The number of sections before the frames: index, facts, proofs.
const FIRST_FRAME: usize = 3;

/// A record in the index section.
#[derive(Debug, PartialEq, bincode::Encode, bincode::BorrowDecode)]
struct IndexLine<'a> {
    source: u8,
    event_id: Option<Cow<'a, str>>,
    event_type: Option<Cow<'a, str>>,
    status: StoredStatus,
}

/// Tells if a record counts. The first two were once stored as an option, which has the same bytes.
#[derive(Clone, Copy, Debug, PartialEq, bincode::Encode, bincode::Decode)]
enum StoredStatus {
    Counts,
    Conflict { first: u64 },
    Repeat { of: u64 },
}

impl From<RecordStatus> for StoredStatus {
    fn from(status: RecordStatus) -> StoredStatus {
        match status {
            RecordStatus::Counts => StoredStatus::Counts,
            RecordStatus::Conflict { first } => StoredStatus::Conflict { first },
            RecordStatus::Repeat { of } => StoredStatus::Repeat { of },
        }
    }
}

impl From<StoredStatus> for RecordStatus {
    fn from(status: StoredStatus) -> RecordStatus {
        match status {
            StoredStatus::Counts => RecordStatus::Counts,
            StoredStatus::Conflict { first } => RecordStatus::Conflict { first },
            StoredStatus::Repeat { of } => RecordStatus::Repeat { of },
        }
    }
}

/// A record that could not be used when it was recorded, at the beginning of the facts section.
/// Later versions read the body anew, and keep this.
#[derive(Clone, Copy, Debug, PartialEq, bincode::Encode, bincode::Decode)]
struct FirstVerdict {
    /// Its place in the block, from 0.
    at: u16,
    unusable: Unusable,
}

/// A record in the proofs section.
#[derive(Debug, PartialEq, bincode::Encode, bincode::Decode)]
struct Evidence {
    salt: [u8; 16],
    proof: StoredProof,
}

#[derive(Debug, PartialEq, bincode::Encode, bincode::Decode)]
enum StoredProof {
    Webhook { t: i64, v1: [u8; 32], key_id: [u8; KEY_ID_BYTES] },
    Operator { key_id: [u8; KEY_ID_BYTES] },
    Pulled { url: Box<str>, key_id: [u8; KEY_ID_BYTES], pulled_at: i64 },
    Observed { url: Box<str>, key_id: [u8; KEY_ID_BYTES], observed_at: i64, run: Box<str> },
    Imported { key_id: [u8; KEY_ID_BYTES] },
    Scim { key_id: [u8; KEY_ID_BYTES] },
}

impl From<&Proof> for StoredProof {
    fn from(proof: &Proof) -> StoredProof {
        match proof.clone() {
            Proof::Webhook { t, v1, key_id } => StoredProof::Webhook { t, v1, key_id },
            Proof::Operator { key_id } => StoredProof::Operator { key_id },
            Proof::Pulled { url, key_id, pulled_at } => {
                StoredProof::Pulled { url, key_id, pulled_at }
            }
            Proof::Observed { url, key_id, observed_at, run } => {
                StoredProof::Observed { url, key_id, observed_at, run }
            }
            Proof::Imported { key_id } => StoredProof::Imported { key_id },
            Proof::Scim { key_id } => StoredProof::Scim { key_id },
        }
    }
}

impl From<StoredProof> for Proof {
    fn from(proof: StoredProof) -> Proof {
        match proof {
            StoredProof::Webhook { t, v1, key_id } => Proof::Webhook { t, v1, key_id },
            StoredProof::Operator { key_id } => Proof::Operator { key_id },
            StoredProof::Pulled { url, key_id, pulled_at } => {
                Proof::Pulled { url, key_id, pulled_at }
            }
            StoredProof::Observed { url, key_id, observed_at, run } => {
                Proof::Observed { url, key_id, observed_at, run }
            }
            StoredProof::Imported { key_id } => Proof::Imported { key_id },
            StoredProof::Scim { key_id } => Proof::Scim { key_id },
        }
    }
}

/// Returns the source with a stored code.
fn source_of(code: u8) -> Result<Source, String> {
    match code {
        SOURCE_WORKOS => Ok(Source::Workos),
        SOURCE_ROLLCALL => Ok(Source::Rollcall),
        SOURCE_SCIM => Ok(Source::Scim),
        _ => Err("its source is unknown".into()),
    }
}

/// An event about to be written, with its salt.
pub(super) struct Draft {
    pub(super) event: Verified,
    pub(super) salt: [u8; 16],
    pub(super) status: RecordStatus,
}

impl Draft {
    /// Returns the leaf of the record that it becomes.
    fn leaf(&self, log_id: LogId, seq: Seq, recorded_at: Millis) -> Hash {
        let receipt = Receipt {
            log_id,
            seq,
            recorded_at,
            source: self.event.source(),
            event_id: self.event.event_id(),
            event_type: self.event.event_type(),
            proof: self.event.proof(),
        };
        let salted = self.event.salted().filter(|salted| salted.salt == self.salt);
        let digest = match salted {
            Some(salted) => salted.digest,
            None => salted_digest(&self.salt, self.event.body()),
        };
        leaf_of_digest(&receipt.encode(), &digest)
    }

    fn index_line(&self) -> IndexLine<'_> {
        IndexLine {
            source: match self.event.source() {
                Source::Workos => SOURCE_WORKOS,
                Source::Rollcall => SOURCE_ROLLCALL,
                Source::Scim => SOURCE_SCIM,
            },
            event_id: self.event.event_id().map(Cow::Borrowed),
            event_type: self.event.event_type().map(Cow::Borrowed),
            status: self.status.into(),
        }
    }
}

/// Returns the leaves of consecutive drafts from `first_seq` on.
pub(super) fn leaves(
    log_id: LogId,
    first_seq: Seq,
    recorded_at: Millis,
    drafts: &[Draft],
) -> Vec<Hash> {
    (first_seq..).zip(drafts).map(|(seq, draft)| draft.leaf(log_id, seq, recorded_at)).collect()
}

/// Encodes consecutive drafts from `first_seq` on as blocks, each with its first seq. Nearly every
/// block fits one value: a larger one holds a single large event, or events with very long types.
pub(super) fn encode(
    log_id: LogId,
    first_seq: Seq,
    recorded_at: Millis,
    drafts: &[Draft],
) -> std::io::Result<Vec<(Seq, Vec<u8>)>> {
    let mut blocks = Vec::new();
    let mut seq = first_seq;
    let mut rest = drafts;
    while !rest.is_empty() {
        let frames = pack_frames(rest)?;
        let count: usize = frames.iter().map(|frame| usize::from(frame.bodies)).sum();
        let (now, later) = rest.split_at(count);
        blocks.push((seq, encode_block(log_id, seq, recorded_at, now, &frames)?));
        seq += count as Seq;
        rest = later;
    }
    Ok(blocks)
}

/// Consecutive bodies, packed.
struct PackedFrame {
    bodies: u16,
    packed: Packed,
}

/// Packs the bodies of the next drafts into frames, as many as fit one value, at least one.
fn pack_frames(drafts: &[Draft]) -> std::io::Result<Vec<PackedFrame>> {
    let (mut frames, mut count, mut bytes) = (Vec::new(), 0, 0);
    while let Some(tail) = drafts.get(count..).filter(|tail| !tail.is_empty()) {
        let bodies = frame_len(tail);
        let packed = pack(&frame_bytes(tail.get(..bodies).unwrap_or(tail)))?;
        let metadata: usize =
            tail.iter().take(bodies).map(|draft| draft.event.facts().len() + 160).sum();
        if count > 0 && bytes + packed.stored.len() + metadata > VALUE_BYTES_MAX {
            break;
        }
        bytes += packed.stored.len() + metadata;
        count += bodies;
        frames.push(PackedFrame { bodies: bodies as u16, packed });
    }
    Ok(frames)
}

/// Returns the number of the next bodies that share a frame.
fn frame_len(drafts: &[Draft]) -> usize {
    let mut bytes = 0;
    let fitting = drafts.iter().take(FRAME_BODIES_MAX).take_while(|draft| {
        bytes += draft.event.body().len();
        bytes <= FRAME_BYTES_MAX
    });
    fitting.count().max(1)
}

/// Encodes a frame: the bodies' lengths, four bytes each, little-endian, then the bodies.
fn frame_bytes(drafts: &[Draft]) -> Vec<u8> {
    let bytes: usize = drafts.iter().map(|draft| 4 + draft.event.body().len()).sum();
    let mut out = Vec::with_capacity(bytes);
    for draft in drafts {
        out.extend_from_slice(&(draft.event.body().len() as u32).to_le_bytes());
    }
    for draft in drafts {
        out.extend_from_slice(draft.event.body());
    }
    out
}

fn encode_block(
    log_id: LogId,
    first_seq: Seq,
    recorded_at: Millis,
    drafts: &[Draft],
    frames: &[PackedFrame],
) -> std::io::Result<Vec<u8>> {
    let (mut index, mut facts, mut proofs) = (Vec::new(), Vec::new(), Vec::new());
    let verdict = |(draft, at): (&Draft, u16)| {
        Some(FirstVerdict { at, unusable: draft.event.unusable_at_first()? })
    };
    let verdicts: Vec<FirstVerdict> = drafts.iter().zip(0..).filter_map(verdict).collect();
    put(&mut facts, &verdicts)?;
    for draft in drafts {
        put(&mut index, &draft.index_line())?;
        facts.extend_from_slice(draft.event.facts());
        put(&mut proofs, &Evidence { salt: draft.salt, proof: draft.event.proof().into() })?;
    }
    let (index, facts, proofs) = (pack(&index)?, pack(&facts)?, pack(&proofs)?);
    let head = BlockHead {
        log_id,
        first_seq,
        count: drafts.len() as u32,
        recorded_at,
        facts_version: FACTS_VERSION,
        index: index.section,
        facts: facts.section,
        proofs: proofs.section,
        frames: frames.iter().map(PackedFrame::section).collect(),
    };
    put_together(MAGIC, &head, &[index, facts, proofs], frames)
}

impl PackedFrame {
    fn section(&self) -> FrameSection {
        FrameSection { bodies: self.bodies, section: self.packed.section }
    }
}

/// Encodes a stretch of lost records, of which only the leaves are known, as blocks, each with its
/// first seq.
pub(super) fn encode_lost(
    log_id: LogId,
    first_seq: Seq,
    recorded_at: Millis,
    leaves: &[Hash],
) -> std::io::Result<Vec<(Seq, Vec<u8>)>> {
    let mut seq = first_seq;
    let mut blocks = Vec::new();
    for leaves in leaves.chunks(BATCH_EVENTS_MAX) {
        let (leaves_packed, facts, proofs) = (pack(leaves.as_flattened())?, pack(&[])?, pack(&[])?);
        let head = BlockHead {
            log_id,
            first_seq: seq,
            count: leaves.len() as u32,
            recorded_at,
            facts_version: 0,
            index: leaves_packed.section,
            facts: facts.section,
            proofs: proofs.section,
            frames: Vec::new(),
        };
        blocks.push((seq, put_together(MAGIC_LOST, &head, &[leaves_packed, facts, proofs], &[])?));
        seq += leaves.len() as Seq;
    }
    Ok(blocks)
}

/// Encodes the head and appends the stored bytes of all sections.
fn put_together(
    magic: u8,
    head: &BlockHead,
    sections: &[Packed; FIRST_FRAME],
    frames: &[PackedFrame],
) -> std::io::Result<Vec<u8>> {
    let mut encoded = Vec::new();
    put(&mut encoded, head)?;
    let mut out = vec![magic, FORMAT];
    out.extend((encoded.len() as u32).to_le_bytes());
    out.extend(encoded);
    out.extend(check(&out));
    for packed in sections.iter().chain(frames.iter().map(|frame| &frame.packed)) {
        out.extend_from_slice(&packed.stored);
    }
    Ok(out)
}

fn put(out: &mut Vec<u8>, value: &impl bincode::Encode) -> std::io::Result<()> {
    bincode::encode_into_std_write(value, out, encoding()).map(drop).map_err(std::io::Error::other)
}

fn check(bytes: &[u8]) -> [u8; 4] {
    (xxh3_64(bytes) as u32).to_le_bytes()
}

/// A section and its bytes as stored.
struct Packed {
    section: Section,
    stored: Vec<u8>,
}

/// Compresses a section where that helps.
fn pack(raw: &[u8]) -> std::io::Result<Packed> {
    let packed = compress(raw)?;
    let (scheme, stored) =
        if packed.len() < raw.len() { (SCHEME_ZSTD, packed) } else { (SCHEME_PLAIN, raw.to_vec()) };
    let section = Section {
        scheme,
        stored: stored.len() as u32,
        raw: raw.len() as u32,
        check: check(&stored),
    };
    Ok(Packed { section, stored })
}

/// Compresses with the context of this thread: making one costs as much as compressing a frame.
fn compress(raw: &[u8]) -> std::io::Result<Vec<u8>> {
    COMPRESSOR.with_borrow_mut(|slot| {
        let compressor = match slot {
            Some(compressor) => compressor,
            None => slot.insert(Compressor::new(COMPRESSION_LEVEL)?),
        };
        compressor.compress(raw)
    })
}

thread_local! {
    static COMPRESSOR: RefCell<Option<Compressor<'static>>> = const { RefCell::new(None) };
    static DECOMPRESSOR: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
}

fn unpack(section: Section, stored: &[u8]) -> Result<Cow<'_, [u8]>, String> {
    if check(stored) != section.check {
        return Err("a checksum does not match".into());
    }
    let raw = section.raw as usize;
    match section.scheme {
        SCHEME_PLAIN if stored.len() == raw => Ok(Cow::Borrowed(stored)),
        SCHEME_ZSTD if raw <= SECTION_BYTES_MAX => DECOMPRESSOR.with_borrow_mut(|slot| {
            let decompressor = match slot {
                Some(decompressor) => decompressor,
                None => slot.insert(Decompressor::new().map_err(|error| error.to_string())?),
            };
            let unpacked =
                decompressor.decompress(stored, raw).map_err(|error| error.to_string())?;
            if unpacked.len() == raw {
                Ok(Cow::Owned(unpacked))
            } else {
                Err("a section has another length than its head says".into())
            }
        }),
        _ => Err("a section is stored in a way unknown to this version".into()),
    }
}

/// A block whose head is read and checked.
pub(super) struct Block<'a> {
    head: BlockHead,
    /// True if it has only the leaves of lost records.
    is_lost: bool,
    head_bytes: &'a [u8],
    sections: &'a [u8],
}

impl<'a> Block<'a> {
    /// Reads the head. Sections are checked when they are unpacked.
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Block<'a>, String> {
        let (head, start) = parse_head(bytes)?;
        let is_lost = bytes.first() == Some(&MAGIC_LOST);
        let sections = bytes
            .get(start..)
            .filter(|rest| rest.len() == head.stored_bytes())
            .ok_or("the block has another length than its head says")?;
        let head_bytes = bytes.get(..start).unwrap_or_default();
        Ok(Block { head, is_lost, head_bytes, sections })
    }

    /// Returns the digest of all metadata up to this block: the SHA-256 over `before`, which is
    /// that of the block before, and the SHA-256 of the head and the stored index and facts. No
    /// leaf covers them, and views are folded from them alone.
    pub(super) fn chained_metadata(&self, before: &[u8; 32]) -> [u8; 32] {
        chain_metadata(before, &self.own_metadata())
    }

    /// Returns the part of [`Block::chained_metadata`] that needs no other block.
    pub(super) fn own_metadata(&self) -> [u8; 32] {
        let length = self.head.index.stored as usize + self.head.facts.stored as usize;
        let sections = self.sections.get(..length).unwrap_or_default();
        Sha256::new().chain_update(self.head_bytes).chain_update(sections).finalize().into()
    }

    /// Returns whether the sections that [`Block::own_metadata`] covers are as they were written, by
    /// their checks.
    pub(super) fn has_whole_metadata(&self) -> bool {
        (0..PROOFS).all(|at| self.section(at).is_ok())
    }

    pub(super) fn log_id(&self) -> LogId {
        self.head.log_id
    }

    /// Returns the number of bytes of its sections as they are stored.
    pub(super) fn stored_bytes(&self) -> usize {
        self.head.stored_bytes()
    }

    /// Returns whether its records are lost: then it has nothing but their leaves.
    pub(super) fn is_lost(&self) -> bool {
        self.is_lost
    }

    /// Returns the leaves of its records, if they are lost.
    ///
    /// # Errors
    /// If the leaves are damaged.
    pub(super) fn lost_leaves(&self) -> Result<Option<Vec<Hash>>, String> {
        if !self.is_lost {
            return Ok(None);
        }
        let section = self.section(0)?;
        match section.as_chunks() {
            (leaves, []) if leaves.len() == self.head.count as usize => Ok(Some(leaves.to_vec())),
            _ => Err("it does not have a leaf for each record".into()),
        }
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

    /// Unpacks section `at`: index, facts, proofs, then the frames.
    fn section(&self, at: usize) -> Result<Cow<'a, [u8]>, String> {
        let mut start = 0;
        for (number, section) in self.head.sections().enumerate() {
            let end = start + section.stored as usize;
            if number == at {
                return unpack(
                    section,
                    self.sections.get(start..end).ok_or("a section is cut off")?,
                );
            }
            start = end;
        }
        Err("there is no such frame".into())
    }

    /// Returns the damaged sections. A frame covers its own records; index, facts and proofs cover
    /// all records of the block.
    pub(super) fn damage(&self) -> Vec<Damage> {
        let (first, last) = (self.first_seq(), self.last_seq());
        let whole = (0..FIRST_FRAME)
            .filter_map(|at| Some(Damage { first, last, what: self.section(at).err()? }));
        let mut next = first;
        let frames = self.head.frames.iter().enumerate().filter_map(|(number, frame)| {
            let first = next;
            next += Seq::from(frame.bodies);
            let last = next.saturating_sub(1);
            Some(Damage { first, last, what: self.frame(number).err()? })
        });
        whole.chain(frames).collect()
    }

    /// Shows `each` an entry for the fold from each record after `after`.
    pub(super) fn entries(
        &self,
        after: Seq,
        each: &mut dyn FnMut(&Entry<'_>),
    ) -> Result<(), String> {
        if self.is_lost {
            let seqs = self.first_seq().max(after + 1)..=self.last_seq();
            seqs.for_each(|seq| each(&lost_entry(seq, self.head.recorded_at)));
            return Ok(());
        }
        let (index, stored) = (self.section(0)?, self.section(FACTS)?);
        let mut lines = index.as_ref();
        let StoredFacts { verdicts, lines: mut facts } = self.split_facts(&stored)?;
        let records = if facts.is_some() { Vec::new() } else { self.records()? };
        let mut verdicts = verdicts.into_iter().peekable();
        for (at, seq) in (self.first_seq()..=self.last_seq()).enumerate() {
            let line: IndexLine<'_> = take(&mut lines)?;
            // Stored facts are valid only for the versions that state the same.
            let facts: Facts<'_> = match (records.get(at), &mut facts) {
                (Some(record), _) => extracted_again(record),
                (None, Some(facts)) => take(facts)?,
                (None, None) => return Err("a body is missing".into()),
            };
            let verdict = verdicts.next_if(|verdict| usize::from(verdict.at) == at);
            if seq > after {
                let entry = facts.entry(
                    seq,
                    self.head.recorded_at,
                    source_of(line.source)?,
                    [line.event_id.as_deref(), line.event_type.as_deref()],
                    line.status.into(),
                );
                let first = verdict.map(|verdict| verdict.unusable.reason());
                each(&Entry { unusable_at_first: first.or(entry.unusable_at_first), ..entry });
            }
        }
        Ok(())
    }

    /// Takes the facts section apart.
    fn split_facts<'s>(&self, stored: &'s [u8]) -> Result<StoredFacts<'s>, String> {
        let version = self.head.facts_version;
        let mut rest = stored;
        let verdicts: Vec<FirstVerdict> =
            if version >= VERDICTS_SINCE { decode(&mut rest)? } else { Vec::new() };
        let is_in_order = verdicts.is_sorted_by(|one, next| one.at < next.at)
            && verdicts.last().is_none_or(|last| u32::from(last.at) < self.head.count);
        if !is_in_order {
            return Err("the first verdicts are not in the order of the records".into());
        }
        let lines = (FACTS_SINCE..=FACTS_VERSION).contains(&version).then_some(rest);
        Ok(StoredFacts { verdicts, lines })
    }

    /// Returns the records that could not be used when they were recorded, in order, as far as the
    /// block says it.
    fn first_verdicts(&self) -> Result<Vec<FirstVerdict>, String> {
        let stored = self.section(FACTS)?;
        let StoredFacts { mut verdicts, lines } = self.split_facts(&stored)?;
        if let Some(mut lines) = lines.filter(|_| self.head.facts_version < VERDICTS_SINCE) {
            for at in 0..self.head.count as u16 {
                let facts: Facts<'_> = take(&mut lines)?;
                verdicts.extend(facts.unusable().map(|unusable| FirstVerdict { at, unusable }));
            }
        }
        Ok(verdicts)
    }

    /// Unpacks the proof of every record.
    pub(super) fn proofs(&self) -> Result<Vec<Proof>, String> {
        let section = self.section(PROOFS)?;
        let mut lines = section.as_ref();
        let proof = |_| decode(&mut lines).map(|Evidence { proof, .. }| proof.into());
        let proofs = (0..self.head.count).map(proof).collect::<Result<_, String>>()?;
        if lines.is_empty() {
            Ok(proofs)
        } else {
            Err("a section holds more than its records".into())
        }
    }

    /// Unpacks every record with its body; none if they are lost.
    pub(super) fn records(&self) -> Result<Vec<Record>, String> {
        let mut bodies = Vec::new();
        for frame in 0..self.head.frames.len() {
            bodies.extend(self.frame(frame)?.into_iter().map(Some));
        }
        Ok(self.records_of(bodies)?.into_iter().flatten().collect())
    }

    /// Unpacks one record, and of the bodies only those that share its frame; `None` if it is not in
    /// this block, or lost.
    pub(super) fn record(&self, seq: Seq) -> Result<Option<Record>, String> {
        let mut bodies = Vec::with_capacity(self.head.count as usize);
        for (number, frame) in self.head.frames.iter().enumerate() {
            let first = self.first_seq() + bodies.len() as Seq;
            let count = usize::from(frame.bodies);
            if (first..first + count as Seq).contains(&seq) {
                let own = |(at, body)| (first + at == seq).then_some(body);
                bodies.extend((0..).zip(self.frame(number)?).map(own));
            } else {
                bodies.extend(std::iter::repeat_n(None, count));
            }
        }
        Ok(self.records_of(bodies)?.into_iter().flatten().next())
    }

    /// Unpacks the records whose frames are sound, each in its place.
    ///
    /// # Errors
    /// If the index or the proofs cannot be unpacked.
    pub(super) fn salvage(&self) -> Result<Vec<Option<Record>>, String> {
        let frames = self.head.frames.iter().enumerate();
        let bodies = frames.flat_map(|(number, frame)| match self.frame(number) {
            Ok(bodies) => bodies.into_iter().map(Some).collect(),
            Err(_) => vec![None; usize::from(frame.bodies)],
        });
        self.records_of(bodies.collect())
    }

    /// Makes the records of all bodies that are given.
    fn records_of(&self, bodies: Vec<Option<Bytes>>) -> Result<Vec<Option<Record>>, String> {
        if self.is_lost {
            return Ok(Vec::new());
        }
        let (index, proofs) = (self.section(0)?, self.section(PROOFS)?);
        let (mut lines, mut proofs) = (index.as_ref(), proofs.as_ref());
        // Damaged facts cost no record.
        let mut verdicts = self.first_verdicts().unwrap_or_default().into_iter().peekable();
        if bodies.len() != self.head.count as usize {
            return Err("a body is missing".into());
        }
        let records = (self.first_seq()..).zip(0..).zip(bodies).map(|((seq, at), body)| {
            let verdict = verdicts.next_if(|verdict| verdict.at == at);
            let (line, Evidence { salt, proof }): (IndexLine<'_>, _) =
                (take(&mut lines)?, decode(&mut proofs)?);
            let source = source_of(line.source)?;
            Ok(body.map(|body| Record {
                log_id: self.head.log_id,
                seq,
                recorded_at: self.head.recorded_at,
                source,
                event_id: line.event_id.map(Into::into),
                event_type: line.event_type.map(Into::into),
                status: line.status.into(),
                proof: proof.into(),
                salt,
                unusable_at_first: verdict.map(|verdict| verdict.unusable),
                body,
            }))
        });
        let records = records.collect::<Result<_, String>>()?;
        if lines.is_empty() && proofs.is_empty() {
            Ok(records)
        } else {
            Err("a section holds more than its records".into())
        }
    }

    /// Shows the stored facts of each record, if they mean the same in this version.
    pub(super) fn stored_facts(&self, mut each: impl FnMut(Seq, &Facts<'_>)) -> Result<(), String> {
        if self.is_lost {
            return Ok(());
        }
        let stored = self.section(FACTS)?;
        let StoredFacts { verdicts, lines } = self.split_facts(&stored)?;
        let Some(mut lines) = lines else { return Ok(()) };
        let has_verdicts = self.head.facts_version >= VERDICTS_SINCE;
        let mut verdicts = verdicts.into_iter().peekable();
        for (seq, at) in (self.first_seq()..=self.last_seq()).zip(0..) {
            let facts: Facts<'_> = take(&mut lines)?;
            let verdict = verdicts.next_if(|verdict| verdict.at == at);
            if has_verdicts && verdict.is_none() && facts.unusable().is_some() {
                return Err(format!("record {seq} cannot be used, and has no first verdict"));
            }
            each(seq, &facts);
        }
        if lines.is_empty() {
            Ok(())
        } else {
            Err("the facts section holds more than its records".into())
        }
    }

    /// Unpacks the frame that holds `seq`.
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

/// Chains the metadata digest of one block to that of all blocks before.
pub(super) fn chain_metadata(before: &[u8; 32], own: &[u8; 32]) -> [u8; 32] {
    Sha256::new().chain_update(before).chain_update(own).finalize().into()
}

/// The facts section, taken apart.
struct StoredFacts<'a> {
    /// In the order of the records.
    verdicts: Vec<FirstVerdict>,
    /// The facts of each record; `None` if those of the version that wrote them mean something else.
    lines: Option<&'a [u8]>,
}

/// Damage to some records.
pub(super) struct Damage {
    pub(super) first: Seq,
    pub(super) last: Seq,
    pub(super) what: String,
}

/// Consecutive bodies, unpacked.
pub(super) struct Frame {
    first_seq: Seq,
    bodies: Vec<Bytes>,
}

impl Frame {
    /// Returns the body of record `seq`, if it is in this frame.
    pub(super) fn body(&self, seq: Seq) -> Option<Bytes> {
        self.bodies.get(usize::try_from(seq.checked_sub(self.first_seq)?).ok()?).cloned()
    }
}

fn split_frame(bytes: &Bytes, bodies: usize) -> Option<Vec<Bytes>> {
    let (lengths, _) = bytes.split_at_checked(bodies * 4)?;
    let mut start = lengths.len();
    let mut out = Vec::with_capacity(bodies);
    for length in lengths.as_chunks::<4>().0 {
        let end = start
            .checked_add(u32::from_le_bytes(*length) as usize)
            .filter(|end| *end <= bytes.len())?;
        out.push(bytes.slice(start..end));
        start = end;
    }
    (start == bytes.len()).then_some(out)
}

/// Reads the head and returns it with the offset of the sections.
fn parse_head(bytes: &[u8]) -> Result<(BlockHead, usize), String> {
    let [magic @ (MAGIC | MAGIC_LOST), FORMAT, a, b, c, d, rest @ ..] = bytes else {
        return Err("the block does not begin with its magic and format".into());
    };
    let length = u32::from_le_bytes([*a, *b, *c, *d]) as usize;
    let encoded = rest.get(..length).ok_or("the head is cut off")?;
    let end = 6 + length;
    if bytes.get(end..end + 4) != Some(&check(bytes.get(..end).unwrap_or_default())) {
        return Err("the head's checksum does not match".into());
    }
    let mut encoded = encoded;
    let head: BlockHead = decode(&mut encoded)?;
    // No batch and no log is larger. Code that reads on relies on it.
    let counted = (1..=BATCH_EVENTS_MAX).contains(&(head.count as usize))
        && (1..=u64::from(u32::MAX)).contains(&head.first_seq);
    let in_frames: u64 = head.frames.iter().map(|frame| u64::from(frame.bodies)).sum();
    let expected = if *magic == MAGIC_LOST { 0 } else { u64::from(head.count) };
    if !counted || in_frames != expected || !encoded.is_empty() {
        return Err("the head contradicts itself".into());
    }
    Ok((head, end + 4))
}

/// The extent of a block, as its head gives it.
pub(super) struct Extent {
    pub(super) log_id: LogId,
    pub(super) first_seq: Seq,
    /// The number of its records.
    pub(super) count: u32,
    /// Its length.
    pub(super) bytes: usize,
}

/// Returns the extent of the block whose first stored value is `bytes`.
pub(super) fn extent(bytes: &[u8]) -> Result<Extent, String> {
    let (head, start) = parse_head(bytes)?;
    let BlockHead { log_id, first_seq, count, .. } = head;
    Ok(Extent { log_id, first_seq, count, bytes: start + head.stored_bytes() })
}

/// Returns the offset of the first bytes that look like the beginning of a block.
pub(super) fn find_head(bytes: &[u8]) -> Option<usize> {
    let mut beginnings = memchr::memchr2_iter(MAGIC, MAGIC_LOST, bytes);
    beginnings.find(|at| bytes.get(at + 1) == Some(&FORMAT))
}

impl BlockHead {
    /// Returns the sections in the order in which they are stored.
    fn sections(&self) -> impl Iterator<Item = Section> {
        [self.index, self.facts, self.proofs]
            .into_iter()
            .chain(self.frames.iter().map(|frame| frame.section))
    }

    fn stored_bytes(&self) -> usize {
        self.sections().map(|section| section.stored as usize).sum()
    }
}

/// Returns the entry of a record of which nothing is known.
fn lost_entry(seq: Seq, recorded_at: Millis) -> Entry<'static> {
    Entry {
        seq,
        recorded_at,
        occurred_at: recorded_at,
        claimed_at: None,
        updated_at: None,
        observed_at: None,
        event_id: "",
        event_type: "",
        status: RecordStatus::Counts,
        former_directories: &[],
        former_organizations: &[],
        provenance: Provenance::Source,
        unusable_at_first: None,
        fact: Fact::Unusable(Reason::Lost),
    }
}

/// Extracts the facts of a record again. A body that was recorded without an event id stays so, even
/// if this version could read one: the log knows it by the hash of its body.
fn extracted_again(record: &Record) -> Facts<'_> {
    let mut facts = extract_from(&record.proof, &record.body).facts;
    if record.event_id.is_none() {
        facts.statement = Reason::NotAnEvent.into();
    }
    facts
}

/// Reads the next value from a section.
fn take<'a, T: bincode::BorrowDecode<'a, ()>>(rest: &mut &'a [u8]) -> Result<T, String> {
    let (value, read) =
        bincode::borrow_decode_from_slice(rest, encoding()).map_err(|error| error.to_string())?;
    *rest = rest.get(read..).unwrap_or_default();
    Ok(value)
}

fn decode<T: bincode::Decode<()>>(rest: &mut &[u8]) -> Result<T, String> {
    let (value, read) =
        bincode::decode_from_slice(rest, encoding()).map_err(|error| error.to_string())?;
    *rest = rest.get(read..).unwrap_or_default();
    Ok(value)
}

/// Makes the check of a block's head fit whatever the head says.
#[cfg(test)]
pub(super) fn fix_checks(bytes: &mut [u8]) {
    let Some(length) = bytes.get(2..6) else { return };
    let length = u32::from_le_bytes(length.try_into().unwrap()) as usize;
    let end = length.saturating_add(6);
    let fitting = bytes.get(..end).map(check);
    if let (Some(fitting), Some(place)) = (fitting, bytes.get_mut(end..end.saturating_add(4))) {
        place.copy_from_slice(&fitting);
    }
}

/// A block taken apart, so that tests can change it and put it together with valid checksums.
#[cfg(test)]
pub(super) struct Parts {
    head: BlockHead,
    pub(super) recorded_at: Millis,
    /// If it is not that of this version, the facts of each record are bytes without a meaning.
    pub(super) facts_version: u16,
    pub(super) records: Vec<RecordParts>,
}

/// A record, taken apart.
#[cfg(test)]
#[derive(Clone)]
pub(super) struct RecordParts {
    pub(super) source: u8,
    pub(super) event_id: Option<String>,
    pub(super) event_type: Option<String>,
    pub(super) status: RecordStatus,
    pub(super) occurred_at: Option<Millis>,
    /// The rest of its facts.
    facts: Vec<u8>,
    pub(super) unusable_at_first: Option<Unusable>,
    pub(super) salt: [u8; 16],
    pub(super) proof: Proof,
    pub(super) body: Vec<u8>,
}

#[cfg(test)]
impl Parts {
    pub(super) fn of(bytes: &[u8]) -> Parts {
        let block = Block::parse(bytes).unwrap();
        let (index, stored) = (block.section(0).unwrap(), block.section(FACTS).unwrap());
        let (mut lines, mut facts) =
            (index.as_ref(), block.split_facts(&stored).unwrap().lines.unwrap());
        let parts = |record: Record| {
            let line: IndexLine<'_> = take(&mut lines).unwrap();
            let mut rest = facts;
            let _: crate::verify::Facts<'_> = take(&mut facts).unwrap();
            // The facts of a record begin with the time; the rest is kept as it is.
            let occurred_at = take(&mut rest).unwrap();
            RecordParts {
                source: line.source,
                event_id: record.event_id,
                event_type: record.event_type,
                status: line.status.into(),
                occurred_at,
                facts: rest[..rest.len() - facts.len()].to_vec(),
                unusable_at_first: record.unusable_at_first,
                salt: record.salt,
                proof: record.proof,
                body: record.body.to_vec(),
            }
        };
        let records = block.records().unwrap().into_iter().map(parts).collect();
        let head = block.head;
        Parts { recorded_at: head.recorded_at, facts_version: head.facts_version, records, head }
    }

    /// Encodes the block as a log would, with `first_seq` and in frames of 16.
    pub(super) fn put_together(self, first_seq: Seq) -> Vec<u8> {
        let (mut index, mut facts, mut proofs) = (Vec::new(), Vec::new(), Vec::new());
        let verdict = |(record, at): (&RecordParts, u16)| {
            Some(FirstVerdict { at, unusable: record.unusable_at_first? })
        };
        let verdicts: Vec<FirstVerdict> =
            self.records.iter().zip(0..).filter_map(verdict).collect();
        put(&mut facts, &verdicts).unwrap();
        let verdicts_end = facts.len();
        for record in &self.records {
            let RecordParts { source, event_id, event_type, status, .. } = record.clone();
            let line = IndexLine {
                source,
                event_id: event_id.map(Into::into),
                event_type: event_type.map(Into::into),
                status: status.into(),
            };
            put(&mut index, &line).unwrap();
            put(&mut facts, &record.occurred_at).unwrap();
            facts.extend_from_slice(&record.facts);
            put(&mut proofs, &Evidence { salt: record.salt, proof: (&record.proof).into() })
                .unwrap();
        }
        if self.facts_version != FACTS_VERSION {
            facts[verdicts_end..].fill(0xee);
        }
        let frames: Vec<PackedFrame> = self
            .records
            .chunks(FRAME_BODIES_MAX)
            .map(|records| {
                let lengths =
                    records.iter().flat_map(|record| (record.body.len() as u32).to_le_bytes());
                let raw: Vec<u8> =
                    lengths.chain(records.iter().flat_map(|record| record.body.clone())).collect();
                PackedFrame { bodies: records.len() as u16, packed: pack(&raw).unwrap() }
            })
            .collect();
        let [index, facts, proofs] = [index, facts, proofs].map(|raw| pack(&raw).unwrap());
        let head = BlockHead {
            first_seq,
            count: self.records.len() as u32,
            recorded_at: self.recorded_at,
            facts_version: self.facts_version,
            index: index.section,
            facts: facts.section,
            proofs: proofs.section,
            frames: frames.iter().map(PackedFrame::section).collect(),
            ..self.head
        };
        put_together(MAGIC, &head, &[index, facts, proofs], &frames).unwrap()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::Keyring;
    use rollcall_generator::sign;
    use rollcall_projections::{Fact, Field};

    const NOW: Millis = 1_700_000_000_000;
    const LOG_ID: LogId = *b"0123456789abcdef";

    fn draft(body: &str, conflicts_with: Option<Seq>) -> Draft {
        let status =
            conflicts_with.map_or(RecordStatus::Counts, |first| RecordStatus::Conflict { first });
        let header = sign("whsec_test", NOW, body.as_bytes());
        let event = Verified::webhook(
            &Keyring::new(["whsec_test"], 0),
            Some(header.as_bytes()),
            body.to_owned().into(),
            NOW,
        )
        .unwrap();
        Draft { event, salt: *b"salt salt salt s", status }
    }

    const FIRST: &str = concat!(
        r#"{"id":"e1","event":"dsync.deleted","data":{"id":"d"},"#,
        r#""created_at":"2025-01-01T00:00:00Z"}"#,
    );

    fn two_drafts() -> [Draft; 2] {
        [draft(FIRST, None), draft("[]", None)]
    }

    /// One record, short enough that nothing is compressed.
    const GOLDEN: &str = "52013a0000003031323334353637383961626364656607\
        01fd0ad0ca9f17030000090015150afaf41a0015151910da08004242825d41de0101002727629b4fcaa918f880\
        0101026531010d6473796e632e64656c65746564000100030001fd00d0ca9f1703000000000000080300306631\
        6532643363346235613639373800fd00d0ca9f1703000024d55cc6c9cc10826194dac13fd311370593489385ee\
        f799b17ed303c948979569d4009a95259fec230000007b226964223a226531222c226576656e74223a22647379\
        6e632e64656c65746564227d";

    /// The same with the facts of version 8. These bytes must stay readable for ever.
    const GOLDEN_FACTS_8: &str = "52013a0000003031323334353637383961626364656607\
        01fd0ad0ca9f17030000080015150afaf41a0015151910da08004242825d41de0101002727629b4fca26540fe6\
        0101026531010d6473796e632e64656c65746564000100030001fd00d0ca9f1703000000000000080300306631\
        6532643363346235613639373800fd00d0ca9f1703000024d55cc6c9cc10826194dac13fd311370593489385ee\
        f799b17ed303c948979569d4009a95259fec230000007b226964223a226531222c226576656e74223a22647379\
        6e632e64656c65746564227d";

    /// The same with the facts of version 7. These bytes must stay readable for ever.
    const GOLDEN_FACTS_7: &str = "52013a000000303132333435363738396162636465660701fd\
        0ad0ca9f17030000070015150afaf41a001111f5f7e887004242825d41de0101002727629b4fcaee6c4f6401010\
        26531010d6473796e632e64656c657465640001fd00d0ca9f170300000000000008030030663165326433633462\
        35613639373800fd00d0ca9f1703000024d55cc6c9cc10826194dac13fd311370593489385eef799b17ed303c94\
        8979569d4009a95259fec230000007b226964223a226531222c226576656e74223a226473796e632e64656c6574\
        6564227d";

    /// The same with the facts of version 6. These bytes must stay readable for ever.
    const GOLDEN_FACTS_6: &str = "52013a000000303132333435363738396162636465660701fd\
        0ad0ca9f17030000060015150afaf41a0010100527f8ad004242825d41de0101002727629b4fca3572874f01010\
        26531010d6473796e632e64656c657465640001fd00d0ca9f170300000000000503003066316532643363346235\
        613639373800fd00d0ca9f1703000024d55cc6c9cc10826194dac13fd311370593489385eef799b17ed303c9489\
        79569d4009a95259fec230000007b226964223a226531222c226576656e74223a226473796e632e64656c657465\
        64227d";

    /// The same with the facts of version 5. These bytes must stay readable for ever.
    const GOLDEN_FACTS_5: &str = "52013a000000303132333435363738396162636465660701fd0ad0ca9f170300000500151\
        50afaf41a000e0e15d125a1004242825d41de0101002727629b4fcaf675362a0101026531010d6473796e632e64\
        656c657465640001fd00d0ca9f17030000000503003066316532643363346235613639373800fd00d0ca9f17030\
        00024d55cc6c9cc10826194dac13fd311370593489385eef799b17ed303c948979569d4009a95259fec23000000\
        7b226964223a226531222c226576656e74223a226473796e632e64656c65746564227d";

    /// The same with the facts of version 4. These bytes must stay readable for ever.
    const GOLDEN_FACTS_4: &str = "52013a000000303132333435363738396162636465660701fd0ad0ca9f1703000\
        0040015150afaf41a000e0e15d125a1004242825d41de0101002727629b4fca1b4ca12b0101026531010d647379\
        6e632e64656c657465640001fd00d0ca9f17030000000503003066316532643363346235613639373800fd00d0c\
        a9f1703000024d55cc6c9cc10826194dac13fd311370593489385eef799b17ed303c948979569d4009a95259fec\
        230000007b226964223a226531222c226576656e74223a226473796e632e64656c65746564227d";

    /// The same with the facts of version 3. These bytes must stay readable for ever.
    const GOLDEN_FACTS_3: &str = "52013a000000303132333435363738396162636465660701fd0ad0ca9f1703000\
        0030015150afaf41a000e0e15d125a1004242825d41de0101002727629b4fca9388ee500101026531010d647379\
        6e632e64656c657465640001fd00d0ca9f17030000000503003066316532643363346235613639373800fd00d0c\
        a9f1703000024d55cc6c9cc10826194dac13fd311370593489385eef799b17ed303c948979569d4009a95259fec\
        230000007b226964223a226531222c226576656e74223a226473796e632e64656c65746564227d";

    /// The same with the facts of version 2. These bytes must stay readable for ever.
    const GOLDEN_FACTS_2: &str = "52013a000000303132333435363738396162636465660701fd0ad0ca9f1703000\
        0020015150afaf41a000e0e15d125a1004242825d41de0101002727629b4fcad601987f0101026531010d64737\
        96e632e64656c657465640001fd00d0ca9f17030000000503003066316532643363346235613639373800fd00d\
        0ca9f1703000024d55cc6c9cc10826194dac13fd311370593489385eef799b17ed303c948979569d4009a95259\
        fec230000007b226964223a226531222c226576656e74223a226473796e632e64656c65746564227d";

    /// The same with the facts of version 1. These bytes must stay readable for ever.
    const GOLDEN_FACTS_1: &str = "52013a000000303132333435363738396162636465660701fd0ad0ca9f1703000\
        0010015150afaf41a000e0e15d125a1004242825d41de0101002727629b4fcac97b88ba0101026531010d64737\
        96e632e64656c657465640001fd00d0ca9f17030000000503003066316532643363346235613639373800fd00d\
        0ca9f1703000024d55cc6c9cc10826194dac13fd311370593489385eef799b17ed303c948979569d4009a95259\
        fec230000007b226964223a226531222c226576656e74223a226473796e632e64656c65746564227d";

    /// Two records, their proofs and bodies compressed. These bytes must stay readable as well,
    /// though another zstd may compress them otherwise.
    const GOLDEN_COMPRESSED: &str = "52013a000000303132333435363738396162636465660702fd0ad0ca9f1703\
        000001001919856d40ec0020200a23be9501768423cc78ed0102015e6356045d74af5b2b550101026531010d64\
        73796e632e64656c65746564000100000001fd00f8523e28030000000002016400000001fd00d0ca9f17030000\
        0005000028b52ffd20846d0300f40573616c742000fd00d0ca9f17030000382b8fe9330c4bb5a00110d3d4baa5\
        0d1bd0608fa8d40f6466ebd214e7475cfe69d4009a95259fec8016d4d9370e655467d8d32cb0a18f595ac24b4f\
        ec483aa2d2bbdfb1acac096569d4009a95259fec040045588006040811222e5a28b52ffd2063ad0200c2051318\
        902b1d887f39d8954bb6ccb6d24e147aec31ed99b15b9b320743d2826db6d98363736c04c8a8d63c043eef8bd4\
        9214ad97872dc5e715c740421c0cac359137ded2f35a31d1475501aa8a100100d2320505";

    const SHORT: &str = r#"{"id":"e1","event":"dsync.deleted"}"#;

    #[test]
    fn a_block_is_written_byte_for_byte_as_the_format_specifies() {
        let draft = Draft { salt: *b"0f1e2d3c4b5a6978", ..draft(SHORT, None) };
        let blocks = encode(LOG_ID, 7, NOW + 5, &[draft]).unwrap();
        assert_eq!(
            blocks.iter().map(|(seq, bytes)| (*seq, hex::encode(bytes))).collect::<Vec<_>>(),
            [(7, GOLDEN.to_owned())]
        );
        let older = [
            GOLDEN_FACTS_8,
            GOLDEN_FACTS_7,
            GOLDEN_FACTS_6,
            GOLDEN_FACTS_5,
            GOLDEN_FACTS_4,
            GOLDEN_FACTS_3,
            GOLDEN_FACTS_2,
            GOLDEN_FACTS_1,
        ];
        for golden in [GOLDEN].into_iter().chain(older) {
            let bytes = hex::decode(golden).unwrap();
            let block = Block::parse(&bytes).unwrap();
            let record = block.records().unwrap().remove(0);
            assert_eq!(
                (record.seq, record.recorded_at, record.salt),
                (7, NOW + 5, *b"0f1e2d3c4b5a6978")
            );
            assert_eq!(record.body, SHORT.as_bytes());
            let unusable = record.unusable_at_first.map(Unusable::reason);
            let expected = Some(Reason::MissingField(Field::Data));
            let is_kept = [GOLDEN, GOLDEN_FACTS_8, GOLDEN_FACTS_7].contains(&golden);
            assert_eq!(unusable, expected.filter(|_| is_kept));
            assert_eq!(shown(&block), [(7, NOW, "Unusable".to_owned())]);
        }
    }

    #[test]
    fn a_status_is_stored_in_the_bytes_that_the_format_specifies() {
        for (status, expected) in [
            (RecordStatus::Counts, &[0][..]),
            (RecordStatus::Conflict { first: 3 }, &[1, 3]),
            (RecordStatus::Repeat { of: 250 }, &[2, 250]),
        ] {
            let mut stored = Vec::new();
            put(&mut stored, &StoredStatus::from(status)).unwrap();
            assert_eq!(stored, expected);
            let draft = Draft { status, ..draft(FIRST, None) };
            let (_, bytes) = encode(LOG_ID, 7, NOW, &[draft]).unwrap().remove(0);
            let records = Block::parse(&bytes).unwrap().records().unwrap();
            assert_eq!(records[0].status, status);
        }
    }

    #[test]
    fn a_compressed_block_of_this_version_stays_readable() {
        let bytes = hex::decode(GOLDEN_COMPRESSED).unwrap();
        let block = Block::parse(&bytes).unwrap();
        let records = block.records().unwrap();
        assert_eq!(records.iter().map(|record| record.seq).collect::<Vec<_>>(), [7, 8]);
        assert_eq!(
            records.iter().map(|record| &record.body[..]).collect::<Vec<_>>(),
            [FIRST.as_bytes(), b"[]"]
        );
        assert_eq!(
            (records[0].event_id.as_deref(), records[1].event_id.as_deref()),
            (Some("e1"), None)
        );
        assert_eq!((records[0].recorded_at, records[0].salt), (NOW + 5, *b"salt salt salt s"));
        // The event is dated far ahead of its recording, and so occurs then.
        assert_eq!(
            shown(&block),
            [(7, NOW + 5, "Directory".to_owned()), (8, NOW, "Unusable".to_owned())]
        );
    }

    #[test]
    fn the_proofs_of_records_without_a_signature_are_stored_as_the_format_specifies() {
        let (url, key_id) = ("https://source.example".into(), *b"KEYKEYKE");
        let run = "run_0190f1e2-0000-7000-8000-000000000001".into();
        let pulled = Proof::Pulled { url, key_id, pulled_at: NOW };
        let url = "https://source.example".into();
        let observed = Proof::Observed { url, key_id, observed_at: NOW, run };
        // python3: the varints of bincode, by the table of docs/format.md.
        let address = "1668747470733a2f2f736f757263652e6578616d706c65";
        let (key, moment) = ("4b45594b45594b45", "fd00d0ca9f17030000");
        let named =
            "2872756e5f30313930663165322d303030302d373030302d383030302d303030303030303030303031";
        for (proof, expected) in [
            (pulled, ["02", address, key, moment, ""]),
            (observed, ["03", address, key, moment, named]),
            (Proof::Imported { key_id }, ["04", key, "", "", ""]),
            (Proof::Scim { key_id }, ["05", key, "", "", ""]),
        ] {
            let mut bytes = Vec::new();
            put(&mut bytes, &Evidence { salt: *b"salt salt salt s", proof: (&proof).into() })
                .unwrap();
            let salt = hex::encode(b"salt salt salt s");
            assert_eq!(hex::encode(&bytes), salt + &expected.concat());
            let read: Evidence = decode(&mut bytes.as_slice()).unwrap();
            assert_eq!(Proof::from(read.proof), proof);
        }
    }

    /// Returns seq, time and kind of each entry.
    fn shown(block: &Block<'_>) -> Vec<(Seq, Millis, String)> {
        let mut shown = Vec::new();
        let mut show = |entry: &Entry<'_>| {
            let kind = match entry.fact {
                Fact::Directory { .. } => "Directory",
                Fact::Unusable(_) => "Unusable",
                _ => "another",
            };
            shown.push((entry.seq, entry.occurred_at, kind.to_owned()));
        };
        block.entries(0, &mut show).unwrap();
        shown
    }

    #[test]
    fn a_body_that_was_recorded_without_an_id_stays_without_effect() {
        let (_, bytes) = encode(LOG_ID, 7, NOW, &two_drafts()).unwrap().remove(0);
        let mut record = Block::parse(&bytes).unwrap().records().unwrap().remove(0);
        assert_ne!(extracted_again(&record).statement, Reason::NotAnEvent.into());
        record.event_id = None;
        assert_eq!(extracted_again(&record).statement, Reason::NotAnEvent.into());
    }

    #[test]
    fn facts_of_another_version_are_extracted_from_the_bodies_again() {
        let (_, bytes) = encode(LOG_ID, 7, NOW, &two_drafts()).unwrap().remove(0);
        let expected = shown(&Block::parse(&bytes).unwrap());
        for version in [1, FACTS_SINCE - 1, FACTS_VERSION + 1] {
            let mut parts = Parts::of(&bytes);
            // Facts of a version that means something else are not even decoded.
            parts.facts_version = version;
            assert_eq!(shown(&Block::parse(&parts.put_together(7)).unwrap()), expected);
        }
    }

    /// Returns why each record could not be used when it was recorded, for the fold and as kept.
    fn first_verdicts(bytes: &[u8]) -> [Vec<Option<Reason>>; 2] {
        let block = Block::parse(bytes).unwrap();
        let mut folded = Vec::new();
        block.entries(0, &mut |entry| folded.push(entry.unusable_at_first)).unwrap();
        let records = block.records().unwrap().into_iter();
        let kept = records.map(|record| record.unusable_at_first.map(Unusable::reason));
        [folded, kept.collect()]
    }

    #[test]
    fn what_could_not_be_used_when_it_was_recorded_is_known_to_every_later_version() {
        let (_, bytes) = encode(LOG_ID, 7, NOW, &two_drafts()).unwrap().remove(0);
        let now = vec![None, Some(Reason::NotAnEvent)];
        assert_eq!(first_verdicts(&bytes), [now.clone(), now.clone()]);
        let unknown = draft(r#"{"id":"e","event":"dsync.unheard_of"}"#, None);
        // The version that wrote the block did not know the type of the first record.
        for version in [FACTS_VERSION, FACTS_VERSION + 1] {
            let mut parts = Parts::of(&bytes);
            parts.facts_version = version;
            parts.records[0].unusable_at_first = unknown.event.unusable_at_first();
            let older = parts.put_together(7);
            let then = vec![Some(Reason::UnknownType), Some(Reason::NotAnEvent)];
            assert_eq!(first_verdicts(&older), [then.clone(), then], "{version}");
            let (shown_now, shown_then) =
                (shown(&Block::parse(&bytes).unwrap()), shown(&Block::parse(&older).unwrap()));
            assert_eq!(shown_then, shown_now, "it is used as it is understood now");
        }
        // Versions before kept nothing of the kind.
        let mut parts = Parts::of(&bytes);
        parts.facts_version = FACTS_SINCE - 1;
        assert_eq!(first_verdicts(&parts.put_together(7)), [now, vec![None, None]]);
        let mut parts = Parts::of(&bytes);
        parts.records[1].unusable_at_first = None;
        let lacking = parts.put_together(7);
        let read = Block::parse(&lacking).unwrap().stored_facts(|_, _| {});
        assert!(read.is_err_and(|what| what.contains("record 8")));
    }

    #[test]
    fn bodies_of_every_size_share_frames_of_at_most_sixteen_and_come_back() {
        let sizes = [2, 60_000, 3, 70_000, 1_000_000]
            .into_iter()
            .chain((0..100).map(|n| n * 40))
            .collect::<Vec<usize>>();
        let bodies: Vec<String> = sizes.iter().map(|size| " ".repeat(*size)).collect();
        let drafts: Vec<Draft> = bodies.iter().map(|body| draft(body, Some(3))).collect();
        let mut seq = 41;
        for (first, bytes) in encode(LOG_ID, 41, NOW, &drafts).unwrap() {
            let block = Block::parse(&bytes).unwrap();
            assert_eq!(
                (block.first_seq(), first, extent(&bytes).map(|extent| extent.bytes)),
                (seq, seq, Ok(bytes.len()))
            );
            assert!(
                block.head.frames.iter().all(|frame| usize::from(frame.bodies) <= FRAME_BODIES_MAX)
            );
            for record in block.records().unwrap() {
                assert_eq!(
                    (record.seq, &record.body[..]),
                    (seq, bodies[seq as usize - 41].as_bytes())
                );
                assert_eq!(record.status, RecordStatus::Conflict { first: 3 });
                assert_eq!(block.frame_of(seq).unwrap().body(seq).unwrap(), record.body);
                seq += 1;
            }
        }
        assert_eq!(seq as usize, 41 + bodies.len());
    }

    #[test]
    fn no_prefix_and_no_flipped_byte_of_a_block_panics_or_is_read_as_sound() {
        let (_, bytes) = encode(LOG_ID, 7, NOW, &two_drafts()).unwrap().remove(0);
        for length in 0..bytes.len() {
            assert!(Block::parse(&bytes[..length]).is_err());
        }
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            let read = Block::parse(&damaged)
                .and_then(|block| Ok((block.records()?, block.entries(0, &mut |_| {})?)));
            assert!(read.is_err(), "byte {at}");
        }
    }
}
