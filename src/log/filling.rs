//! A store that is being filled with records of another one.

use std::io;
use std::path::Path;

use rollcall_projections::{Millis, Seq};

use super::acknowledgement::{Acknowledgement, AcknowledgementFile};
use super::archive::ArchivedRecord;
use super::block::{self, Block, Draft};
use super::dedupe::{Dedupe, PendingEvent, judge_recorded};
use super::merkle::{Edge, Hash};
use super::open::OpenParts;
use super::recovery::Recovered;
use super::store::{Blocks, Store, StoreError};
use super::tiles::Tiles;
use super::{BATCH_BYTES_MAX, BATCH_EVENTS_MAX, LogId};
use crate::verify::{Source, Verified};

/// The bytes of bodies, and the number of records, after which what was written is acknowledged.
const UNACKNOWLEDGED_BYTES_MAX: usize = 2 << 20;
const UNACKNOWLEDGED_RECORDS_MAX: usize = 16 << 10;

/// The bound of sled's cache of pages.
pub(super) const CACHE_BYTES: u64 = 64 << 20;

/// Why a record is not written.
#[derive(Debug, thiserror::Error)]
pub(super) enum FillError {
    /// It cannot be kept as its receipt says.
    #[error("{0}")]
    Unfit(String),
    /// A file cannot be read or written.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl FillError {
    fn unfit(error: impl ToString) -> FillError {
        FillError::Unfit(error.to_string())
    }
}

/// A record on its way into the store.
struct Waiting {
    event: Verified,
    salt: [u8; 16],
}

/// A store that is being filled. From time to time what was written is synced and acknowledged, in
/// the order of a commit, so that the folder is that of a shorter log after a kill or a power cut.
pub(super) struct Filling {
    store: Store,
    tiles: Tiles,
    acknowledgements: AcknowledgementFile,
    dedupe: Dedupe,
    /// The tree over the records that are acknowledged.
    edge: Edge,
    metadata: Hash,
    /// The leaves of records that are written and not yet acknowledged.
    leaves: Vec<Hash>,
    unacknowledged_bytes: usize,
    /// Records of one moment, which share blocks.
    waiting: Vec<Waiting>,
    waiting_bytes: usize,
    recorded_at: Millis,
    /// The leaves of lost records that come next.
    lost: Vec<Hash>,
}

impl Filling {
    pub(super) fn begin(
        folder: &Path,
        log_id: LogId,
        recorded_at: Millis,
    ) -> Result<Filling, StoreError> {
        let parts = OpenParts {
            store: Store::create(folder, CACHE_BYTES, log_id)?,
            tiles: Tiles::open(&folder.join("tree"))?,
            acknowledgements: AcknowledgementFile::open(&folder.join("checkpoint"))?.0,
            recovered: Recovered { recorded_at, ..Recovered::nothing() },
        };
        Ok(Filling::go_on(parts))
    }

    /// Goes on behind the last record of a log.
    pub(super) fn go_on(log: OpenParts) -> Filling {
        let OpenParts { store, tiles, acknowledgements, recovered } = log;
        let Recovered { dedupe, recorded_at, metadata, edge, .. } = recovered;
        Filling {
            store,
            tiles,
            acknowledgements,
            dedupe,
            edge,
            metadata,
            leaves: Vec::new(),
            unacknowledged_bytes: 0,
            waiting: Vec::new(),
            waiting_bytes: 0,
            recorded_at,
            lost: Vec::new(),
        }
    }

    /// Returns the number of records that are written.
    fn size(&self) -> Seq {
        self.edge.size() + self.leaves.len() as Seq
    }

    /// Takes the next record.
    pub(super) fn put(&mut self, record: ArchivedRecord) -> Result<(), FillError> {
        let receipt = record.read_receipt().map_err(FillError::unfit)?;
        let source = Source::parse(&receipt.source);
        let source = source.ok_or_else(|| FillError::unfit("its source is unknown"))?;
        let bytes = record.body.len();
        self.write_lost()?;
        if receipt.recorded_at != self.recorded_at
            || self.waiting.len() == BATCH_EVENTS_MAX
            || self.waiting_bytes + bytes > BATCH_BYTES_MAX
        {
            self.write()?;
        }
        let (salt, unusable) = (record.salt(), record.unusable_at_first());
        let (event_id, event_type) = (receipt.event_id, receipt.event_type);
        let event =
            Verified::recorded(source, receipt.proof, event_id, event_type, unusable, record.body);
        self.recorded_at = receipt.recorded_at;
        self.waiting_bytes += bytes;
        self.waiting.push(Waiting { event, salt });
        Ok(())
    }

    /// Takes the next record, of which only a leaf is known.
    pub(super) fn put_lost(&mut self, leaf: Hash) -> Result<(), FillError> {
        self.write()?;
        self.lost.push(leaf);
        Ok(())
    }

    /// Writes the waiting leaves of lost records into blocks.
    pub(super) fn write_lost(&mut self) -> io::Result<()> {
        let leaves = std::mem::take(&mut self.lost);
        if leaves.is_empty() {
            return Ok(());
        }
        let (log_id, first) = (self.store.log_id(), self.size() + 1);
        let blocks = block::encode_lost(log_id, first, self.recorded_at, &leaves)?;
        self.write_blocks(&blocks, leaves)
    }

    /// Writes the waiting records into blocks.
    pub(super) fn write(&mut self) -> Result<(), FillError> {
        let waiting = std::mem::take(&mut self.waiting);
        if waiting.is_empty() {
            return Ok(());
        }
        let (log_id, recorded_at, head) = (self.store.log_id(), self.recorded_at, self.size());
        let (batch, salts): (Vec<Verified>, Vec<[u8; 16]>) =
            waiting.into_iter().map(|Waiting { event, salt }| (event, salt)).unzip();
        let load = |seq| self.store.candidate(seq).map(Some);
        let judged = judge_recorded(&mut self.dedupe, batch, head, &load);
        let pending = judged.map_err(FillError::unfit)?;
        let salted = pending.into_iter().zip(salts);
        let drafts: Vec<Draft> = salted
            .map(|(PendingEvent { event, status }, salt)| Draft { event, salt, status })
            .collect();
        let leaves = block::leaves(log_id, head + 1, recorded_at, &drafts);
        let blocks = block::encode(log_id, head + 1, recorded_at, &drafts)?;
        Ok(self.write_blocks(&blocks, leaves)?)
    }

    fn write_blocks(&mut self, blocks: &[(Seq, Vec<u8>)], leaves: Vec<Hash>) -> io::Result<()> {
        for (_, bytes) in blocks {
            let block = Block::parse(bytes).map_err(io::Error::other)?;
            self.metadata = block.chained_metadata(&self.metadata);
        }
        self.store.put(blocks)?;
        self.leaves.extend(leaves);
        self.unacknowledged_bytes += std::mem::take(&mut self.waiting_bytes);
        match self.unacknowledged_bytes > UNACKNOWLEDGED_BYTES_MAX
            || self.leaves.len() > UNACKNOWLEDGED_RECORDS_MAX
        {
            true => self.acknowledge(),
            false => Ok(()),
        }
    }

    /// Makes what was written durable, and acknowledges it: no tile and no acknowledgement covers a
    /// record that a crash could take back.
    fn acknowledge(&mut self) -> io::Result<()> {
        let leaves = std::mem::take(&mut self.leaves);
        self.unacknowledged_bytes = 0;
        let Some(leaf) = leaves.last().copied() else { return Ok(()) };
        self.store.flush()?;
        self.store.sync()?;
        self.tiles.grow(&mut self.edge, leaves)?;
        self.acknowledgements.write(&Acknowledgement {
            log_id: self.store.log_id(),
            size: self.edge.size(),
            leaf,
            root: Some(self.edge.root()),
            metadata: Some(self.metadata),
        })
    }

    /// Makes everything durable. Returns the tree hash over all records.
    pub(super) fn finish(mut self, folder: &Path) -> Result<Hash, StoreError> {
        self.acknowledge()?;
        self.store.sync_all(folder)?;
        self.tiles.sync()?;
        self.acknowledgements.sync()?;
        self.store.mark_clean();
        Ok(self.edge.root())
    }
}
