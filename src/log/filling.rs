//! A store that is being filled with records of another one.

use std::io;
use std::path::Path;

use rollcall_projections::{Millis, RecordStatus, Seq};

use super::acknowledgement::{Acknowledgement, AcknowledgementFile};
use super::archive::ArchivedRecord;
use super::block::{self, Block, Draft};
use super::dedupe::{Dedupe, PendingEvent, judge_recorded};
use super::merkle::{Edge, Hash};
use super::store::{Blocks, Store, StoreError};
use super::tiles::Tiles;
use super::{BATCH_BYTES_MAX, BATCH_EVENTS_MAX, LogId, Record};
use crate::verify::{Source, Verified};

/// The bytes of bodies after which sled hands its pages to the kernel.
const FLUSH_BYTES: usize = 8 << 20;

/// The bound of sled's cache of pages.
pub(super) const CACHE_BYTES: u64 = 64 << 20;

/// A record with its moment, on its way into the store.
struct Waiting {
    event: Verified,
    salt: [u8; 16],
    leaf: Hash,
}

/// A store that is being filled.
pub(super) struct Filling {
    store: Store,
    tiles: Tiles,
    dedupe: Dedupe,
    pub(super) edge: Edge,
    metadata: Hash,
    last_leaf: Hash,
    /// Records of one moment, which share blocks.
    waiting: Vec<Waiting>,
    waiting_bytes: usize,
    recorded_at: Millis,
    /// The leaves of lost records that come next.
    lost: Vec<Hash>,
    unflushed_bytes: usize,
}

impl Filling {
    pub(super) fn begin(
        folder: &Path,
        log_id: LogId,
        recorded_at: Millis,
    ) -> Result<Filling, StoreError> {
        Ok(Filling {
            store: Store::create(folder, CACHE_BYTES, log_id)?,
            tiles: Tiles::open(&folder.join("tree"))?,
            dedupe: Dedupe::default(),
            edge: Edge::default(),
            metadata: [0; 32],
            last_leaf: [0; 32],
            waiting: Vec::new(),
            waiting_bytes: 0,
            recorded_at,
            lost: Vec::new(),
            unflushed_bytes: 0,
        })
    }

    /// Takes the next record.
    pub(super) fn put(&mut self, record: ArchivedRecord) -> Result<(), String> {
        let receipt = record.read_receipt().map_err(|error| error.to_string())?;
        let source = Source::parse(&receipt.source).ok_or("its source is unknown")?;
        let bytes = record.body.len();
        self.write_lost().map_err(|error| error.to_string())?;
        if receipt.recorded_at != self.recorded_at
            || self.waiting.len() == BATCH_EVENTS_MAX
            || self.waiting_bytes + bytes > BATCH_BYTES_MAX
        {
            self.write()?;
        }
        let (salt, seq, recorded_at) = (record.salt(), record.seq, receipt.recorded_at);
        let (event_id, event_type) = (receipt.event_id, receipt.event_type);
        let unusable = record.unusable_at_first();
        let event =
            Verified::recorded(source, receipt.proof, event_id, event_type, unusable, record.body);
        let leaf =
            Record::of(self.store.log_id(), seq, recorded_at, &event, salt, RecordStatus::Counts);
        let leaf = leaf.leaf();
        self.recorded_at = receipt.recorded_at;
        self.waiting_bytes += bytes;
        self.waiting.push(Waiting { event, salt, leaf });
        Ok(())
    }

    /// Takes the next record, of which only a leaf is known.
    pub(super) fn put_lost(&mut self, leaf: Hash) -> Result<(), String> {
        self.write()?;
        self.lost.push(leaf);
        Ok(())
    }

    /// Writes the waiting leaves of lost records into blocks.
    pub(super) fn write_lost(&mut self) -> io::Result<()> {
        let leaves = std::mem::take(&mut self.lost);
        let Some(last) = leaves.last() else { return Ok(()) };
        self.last_leaf = *last;
        let (log_id, first) = (self.store.log_id(), self.edge.size() + 1);
        self.write_blocks(&block::encode_lost(log_id, first, self.recorded_at, &leaves)?)?;
        self.tiles.grow(&mut self.edge, leaves)
    }

    /// Writes the waiting records into blocks.
    pub(super) fn write(&mut self) -> Result<(), String> {
        let waiting = std::mem::take(&mut self.waiting);
        let head = self.edge.size();
        let leaves: Vec<Hash> = waiting.iter().map(|waiting| waiting.leaf).collect();
        let salts: Vec<[u8; 16]> = waiting.iter().map(|waiting| waiting.salt).collect();
        let Some(last) = leaves.last() else { return Ok(()) };
        self.last_leaf = *last;
        let batch = waiting.into_iter().map(|waiting| waiting.event).collect();
        let load = |seq| self.store.candidate(seq);
        let judged = judge_recorded(&mut self.dedupe, batch, head, &load);
        let pending = judged.map_err(|error| error.to_string())?;
        let salted = pending.into_iter().zip(salts);
        let drafts: Vec<Draft> = salted
            .map(|(PendingEvent { event, status }, salt)| Draft { event, salt, status })
            .collect();
        let first = self.edge.size() + 1;
        let blocks = block::encode(self.store.log_id(), first, self.recorded_at, &drafts);
        let written = blocks.and_then(|blocks| self.write_blocks(&blocks));
        written.map_err(|error| error.to_string())?;
        self.tiles.grow(&mut self.edge, leaves).map_err(|error| error.to_string())
    }

    fn write_blocks(&mut self, blocks: &[(Seq, Vec<u8>)]) -> io::Result<()> {
        for (_, bytes) in blocks {
            let block = Block::parse(bytes).map_err(io::Error::other)?;
            self.metadata = block.chained_metadata(&self.metadata);
        }
        self.store.put(blocks)?;
        self.unflushed_bytes += std::mem::take(&mut self.waiting_bytes);
        if self.unflushed_bytes > FLUSH_BYTES {
            self.unflushed_bytes = 0;
            self.store.flush()?;
        }
        Ok(())
    }

    /// Makes everything durable.
    pub(super) fn finish(mut self, folder: &Path) -> Result<(), StoreError> {
        let (size, leaf) = (self.edge.size(), self.last_leaf);
        self.store.sync_all(folder)?;
        self.tiles.sync()?;
        let (mut file, _) = AcknowledgementFile::open(&folder.join("checkpoint"))?;
        file.write(&Acknowledgement {
            log_id: self.store.log_id(),
            size,
            leaf,
            root: Some(self.edge.root()),
            metadata: Some(self.metadata),
        })?;
        file.sync()?;
        self.store.mark_clean();
        Ok(())
    }
}
