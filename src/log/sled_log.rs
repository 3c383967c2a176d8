//! The log on one machine's disk: a sled store, with the steps that sled itself leaves out.
//!
//! The order of writes is the design:
//! 1. the blocks of a batch go into the store in one sled batch, all or nothing;
//! 2. sled's flush hands every page to the kernel;
//! 3. `fdatasync` of sled's `db` file, through a handle of our own: on Linux sled's flush ends in
//!    `sync_file_range`, which syncs neither the file's size nor the device's cache;
//! 4. sled's `blobs/` folder is checked to be unchanged, since step 3 does not cover it;
//! 5. the leaves of the batch, and the nodes that they complete, go into the tiles of the tree,
//!    which are derived and not synced here;
//! 6. the older slot of the file `checkpoint` is overwritten.
//!
//! Only then is the batch acknowledged. If a step fails the log takes nothing more until it is
//! reopened, because after a failed sync the kernel may call lost pages clean. The records of the
//! failed batch are then all there or all missing, since step 1 is atomic; from step 4 on they are
//! there. A disk that is full or read-only fails a step like any other, but leaves no doubt about
//! what was synced before.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use rollcall_projections::{Entry, Millis, Seq};

use super::acknowledgement::{Acknowledgement, AcknowledgementFile};
use super::block::{self, Block, Draft, FORMAT};
use super::dedupe::{
    Candidate, Dedupe, DedupeKey, EventContent, FINGERPRINT_BYTES, JudgedBatch, PendingEvent,
    find_among, find_repeated, judge_batch,
};
use super::disk::DiskFault;
use super::kept::KeptBytes;
use super::lost_leaves::LostLeaves;
use super::merkle::{self, Edge, Hash, Nodes};
use super::recent::{REMEMBERED, Recent};
use super::recovery::Recovered;
use super::store::{Blocks, Store};
use super::tiles::{TileNodes, Tiles};
use super::{
    AppendError, DurableHead, History, Identity, Log, Outcome, ReadError, Record, check_batch,
    check_in_tree,
};
use crate::verify::{Proof, Verified};

/// A log on disk.
pub struct SledLog {
    store: Arc<Store>,
    writer: Mutex<Writer>,
    /// Not part of the writer, so that finding an event does not wait for a commit. It may know
    /// records past the head: those being written.
    dedupe: RwLock<Dedupe>,
    recent: RwLock<Recent>,
    lost: Vec<(Seq, Seq)>,
    /// The last record that the start took from a snapshot, until all of them are found to be what
    /// their leaves say; 0 then.
    unchecked: AtomicU64,
    /// The damaged records that are in the index no more, by their fingerprints.
    forgotten: RwLock<BTreeMap<u64, Seq>>,
    tiles: Tiles,
    /// Moves just before the head and is never behind it.
    tip: Mutex<Tip>,
    head: Arc<DurableHead>,
    #[cfg(test)]
    pub(super) step_fault: Mutex<Option<StepFault>>,
    /// The errors of the operating system with which the next blocks of the deferred check or of the
    /// scrub are read.
    #[cfg(test)]
    pub(super) read_faults: Mutex<Vec<i32>>,
    /// The errors with which it reads the records with which the next conflicts are compared.
    #[cfg(test)]
    pub(super) earlier_faults: Mutex<Vec<i32>>,
}

/// The state of the log after its newest durable record.
#[derive(Clone)]
struct Tip {
    /// The right edge of the tree.
    edge: Edge,
    /// The digest of all metadata: see `Block::chained_metadata`.
    metadata: Hash,
}

/// A step of a commit that writes or syncs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Put,
    Flush,
    Sync,
    RefuseBlobs,
    GrowTiles,
    SyncTiles,
    Acknowledge,
}

/// A fault that a test puts into a step.
#[cfg(test)]
#[derive(Clone, Copy)]
pub(super) struct StepFault {
    pub(super) step: Step,
    /// True if the step is done before it reports the error.
    pub(super) is_done: bool,
    pub(super) error: io::ErrorKind,
}

struct Writer {
    /// The stamp of the newest record.
    recorded_at: Millis,
    acknowledgements: AcknowledgementFile,
    /// Latched by the first step that fails after writing began.
    poisoned: Option<Poison>,
}

/// The first failure of a commit.
struct Poison {
    cause: String,
    /// The fault of the disk, if that was the reason.
    fault: Option<DiskFault>,
}

impl SledLog {
    /// Makes a log out of a recovered store.
    pub(super) fn new(
        store: Store,
        tiles: Tiles,
        acknowledgements: AcknowledgementFile,
        recovered: Recovered,
        head: Arc<DurableHead>,
    ) -> SledLog {
        let Recovered { dedupe, recorded_at, lost, metadata, edge, .. } = recovered;
        head.set(edge.size());
        let writer = Writer { recorded_at, acknowledgements, poisoned: None };
        SledLog {
            store: Arc::new(store),
            writer: Mutex::new(writer),
            dedupe: RwLock::new(dedupe),
            recent: RwLock::new(Recent::new(REMEMBERED)),
            lost,
            unchecked: AtomicU64::new(0),
            forgotten: RwLock::default(),
            tiles,
            tip: Mutex::new(Tip { edge, metadata }),
            head,
            #[cfg(test)]
            step_fault: Mutex::default(),
            #[cfg(test)]
            read_faults: Mutex::default(),
            #[cfg(test)]
            earlier_faults: Mutex::default(),
        }
    }

    /// Returns the head, whose moves others may wait for.
    pub(super) fn shared_head(&self) -> Arc<DurableHead> {
        self.head.clone()
    }

    /// Returns true if the log takes nothing more until it is opened again.
    pub(super) fn is_poisoned(&self) -> bool {
        self.writer.lock().poisoned.is_some()
    }

    /// Takes disk blocks for a commit of `bytes`: see [`Store::allocate`].
    pub(super) fn allocate(&self, bytes: u64) -> io::Result<()> {
        self.store.allocate(bytes)
    }

    /// Makes sure that sled can be dropped. If sled itself has failed, it writes nothing at its
    /// end; otherwise it syncs, and panics if it cannot.
    ///
    /// # Errors
    /// If the sync fails: then the store must stay open.
    pub(super) fn prepare_to_close(&self) -> io::Result<()> {
        if self.store.flush().is_ok() { self.store.sync() } else { Ok(()) }
    }

    /// Refuses every later append: after a failed sync the next one may succeed over pages that the
    /// kernel has dropped.
    fn poison(&self, writer: &mut Writer, error: &io::Error) -> AppendError {
        let (cause, fault) = (error.to_string(), DiskFault::of(error));
        writer.poisoned = Some(Poison { cause: cause.clone(), fault });
        match fault {
            Some(fault) => {
                AppendError::Blocked { cause: self.store.message(fault), in_doubt: true }
            }
            None => AppendError::Unknown(cause),
        }
    }

    /// Returns the error of an append after one that failed.
    fn refusal(&self, poison: &Poison) -> AppendError {
        match poison.fault {
            Some(fault) => {
                AppendError::Blocked { cause: self.store.message(fault), in_doubt: false }
            }
            None => AppendError::Rejected(format!(
                "the log must be reopened, because an earlier commit failed: {}",
                poison.cause
            )),
        }
    }

    /// Takes a step of a commit.
    #[cfg(not(test))]
    fn take<T>(&self, _: Step, step: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        step()
    }

    /// Takes a step of a commit, or fails it before or after it is done.
    #[cfg(test)]
    fn take<T>(&self, at: Step, step: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let fault = self.step_fault.lock().take_if(|fault| fault.step == at);
        match fault {
            None => step(),
            Some(fault) => {
                if fault.is_done {
                    step()?;
                }
                Err(fault.error.into())
            }
        }
    }

    /// Takes the steps that the head of this file lists, in that order.
    fn commit(&self, writer: &mut Writer, drafts: &[Draft], recorded_at: Millis) -> io::Result<()> {
        let log_id = self.store.log_id;
        let first_seq = self.head.get() + 1;
        let blocks = block::encode(log_id, first_seq, recorded_at, drafts)?;
        self.take(Step::Put, || self.store.put(&blocks))?; // 1
        self.take(Step::Flush, || self.store.flush())?; // 2
        self.take(Step::Sync, || self.store.sync())?; // 3
        self.take(Step::RefuseBlobs, || self.store.refuse_blobs())?; // 4
        let leaves = block::leaves(self.store.log_id, first_seq, recorded_at, drafts);
        let leaf = *leaves.last().ok_or_else(|| other("there is nothing to commit"))?;
        let Tip { mut edge, mut metadata } = self.tip.lock().clone();
        self.take(Step::GrowTiles, || self.tiles.grow(&mut edge, leaves))?; // 5
        if writer.acknowledgements.sync_is_due() {
            self.take(Step::SyncTiles, || self.tiles.sync())?;
        }
        for (_, bytes) in &blocks {
            metadata = Block::parse(bytes).map_err(other)?.chained_metadata(&metadata);
        }
        let size = edge.size();
        let (root, metadata_digest) = (Some(edge.root()), Some(metadata));
        let acknowledgement =
            Acknowledgement { log_id, size, leaf, root, metadata: metadata_digest };
        self.take(Step::Acknowledge, || writer.acknowledgements.write(&acknowledgement))?; // 6
        *self.tip.lock() = Tip { edge, metadata };
        self.head.set(size);
        Ok(())
    }

    /// Returns the store.
    pub(super) fn store(&self) -> &Store {
        &self.store
    }

    /// Returns the newest durable record.
    pub(super) fn durable_head(&self) -> Seq {
        self.head.get()
    }

    /// Returns the nodes of the tree as it is now.
    pub(super) fn nodes(&self) -> TileNodes<'_> {
        self.tiles.nodes(self.tip.lock().edge.clone())
    }

    /// Returns the index. It may know records past the head.
    pub(super) fn dedupe(&self) -> &RwLock<Dedupe> {
        &self.dedupe
    }

    /// Sets the last record that is not compared with its leaf yet; 0 if all are.
    pub(super) fn set_unchecked(&self, until: Seq) {
        self.unchecked.store(until, Ordering::Relaxed);
    }

    /// Reads of a record what decides if an event is the same; `None` if what is there is not the
    /// record that was acknowledged. Where the tree cannot be read, what is there counts: an error
    /// would refuse every batch that repeats an event.
    fn candidate(&self, seq: Seq) -> Result<Option<Candidate>, ReadError> {
        if seq > self.unchecked.load(Ordering::Relaxed) {
            return self.store.candidate(seq).map(Some);
        }
        let record = self.store.record(seq)?;
        let is_acknowledged =
            self.nodes().node(0, seq - 1).map_or(true, |leaf| leaf == record.leaf());
        Ok(is_acknowledged.then(|| Candidate::from(record)))
    }

    /// Takes records out of the index, because they are damaged: an event is compared with none of
    /// them, as with none that is lost.
    pub(super) fn forget(&self, damaged: &[(Seq, Seq)]) {
        for (first, last) in damaged {
            // The lock is released again and again, so that no batch waits for long.
            for seq in *first..=*last {
                let mut dedupe = self.dedupe.write();
                let known = dedupe.indexed(seq, seq).into_iter().flatten();
                self.forgotten.write().extend(known.map(|fingerprint| (fingerprint, seq)));
                dedupe.put_right(seq, None);
            }
        }
    }

    /// Fails as a test wants it.
    #[cfg(test)]
    pub(super) fn take_read_fault(&self) -> Result<(), ReadError> {
        self.read_faults.lock().pop().map_or(Ok(()), |code| Err(ReadError::Disk { code }))
    }

    /// Returns whether a record is among those that are lost.
    pub(super) fn knows_as_lost(&self, seq: Seq) -> bool {
        let at = self.lost.partition_point(|(_, last)| *last < seq);
        self.lost.get(at).is_some_and(|(first, _)| *first <= seq)
    }
}

impl History for SledLog {
    fn read(
        &self,
        after: Seq,
        events_max: usize,
        bytes_max: usize,
    ) -> Result<Vec<Record>, ReadError> {
        // sled shows blocks that it has not flushed yet. The durable head bounds what is read; it
        // moves only between blocks.
        self.store.read(after, self.head.get(), events_max, bytes_max)
    }

    fn head(&self) -> Seq {
        self.head.get()
    }

    fn identity(&self) -> Identity {
        Identity { log_id: self.store.log_id, format: u32::from(FORMAT) }
    }

    fn root(&self, size: Seq) -> Result<[u8; 32], ReadError> {
        check_in_tree(0, size, self.head.get())?;
        let tip = self.tip.lock();
        if tip.edge.size() == size {
            return Ok(tip.edge.root());
        }
        drop(tip);
        merkle::root(&self.nodes(), size)
    }

    fn lost_leaves(&self) -> Result<LostLeaves, ReadError> {
        self.store.lost_leaves(&self.lost)
    }
}

impl Log for SledLog {
    fn append(
        &self,
        mut batch: Vec<Verified>,
        recorded_at: Millis,
    ) -> Result<Vec<Outcome>, AppendError> {
        let mut writer = self.writer.lock();
        if let Some(poison) = &writer.poisoned {
            return Err(self.refusal(poison));
        }
        let head = self.head.get();
        check_batch(&batch, head)?;
        if batch.is_empty() {
            let synced = self.tiles.sync().and_then(|()| writer.acknowledgements.sync());
            return synced.map(|()| Vec::new()).map_err(|error| self.poison(&mut writer, &error));
        }
        salt_all(&mut batch).map_err(|error| AppendError::Rejected(error.to_string()))?;
        let load = |seq| self.candidate(seq);
        let JudgedBatch { outcomes, pending } =
            judge_batch(&mut self.dedupe.write(), batch, head, &load)
                .map_err(|error| AppendError::Rejected(error.to_string()))?;
        if pending.is_empty() {
            return Ok(outcomes);
        }
        let recorded_at = recorded_at.max(writer.recorded_at);
        let drafts = drafts(pending)
            .and_then(|drafts| {
                self.commit(&mut writer, &drafts, recorded_at)?;
                Ok(drafts)
            })
            .map_err(|error| self.poison(&mut writer, &error))?;
        self.recent.write().remember(head + 1, &drafts);
        writer.recorded_at = recorded_at;
        Ok(outcomes)
    }

    fn entries(
        &self,
        after: Seq,
        events_max: usize,
        each: &mut dyn FnMut(&Entry<'_>),
    ) -> Result<Seq, ReadError> {
        self.store.entries(after, self.head.get(), events_max, each)
    }

    fn bodies(&self, seqs: &[Seq]) -> Result<Vec<Bytes>, ReadError> {
        self.store.bodies(seqs, self.head())
    }

    fn proofs(&self, seqs: &[Seq]) -> Result<Vec<Proof>, ReadError> {
        let head = self.head.get();
        if let Some(seq) = seqs.iter().copied().find(|seq| *seq == 0 || *seq > head) {
            return Err(ReadError::Absent { seq });
        }
        let mut out = Vec::with_capacity(seqs.len());
        // Consecutive seqs of one block are read from it at once.
        while let Some(first) = seqs.get(out.len()).copied() {
            self.store.with_block(first, |block| {
                let proofs = block.proofs()?;
                while let Some(proof) = seqs
                    .get(out.len())
                    .and_then(|seq| proofs.get(seq.checked_sub(block.first_seq())? as usize))
                {
                    out.push(proof.clone());
                }
                Ok(())
            })?;
        }
        Ok(out)
    }

    fn find(&self, event_id: &str) -> Result<Option<Seq>, ReadError> {
        let dedupe = self.dedupe.read();
        let candidates = dedupe.candidates(event_id, self.head.get());
        let own = dedupe.fingerprinter()(DedupeKey::Id(event_id));
        drop(dedupe);
        let load = |seq| self.candidate(seq)?.ok_or_else(|| not_acknowledged(seq)).map(Some);
        let found = find_among(candidates, event_id, &load)?;
        // Its record may be one that is damaged.
        let forgotten = self.forgotten.read().get(&own).copied().filter(|_| found.is_none());
        forgotten.map_or(Ok(found), |seq| Err(not_acknowledged(seq)))
    }

    fn may_repeat(&self, event: &Verified, head: Seq) -> Vec<Seq> {
        self.dedupe.read().may_repeat(&EventContent::of(event), head)
    }

    fn repeats_recent(&self, event: &Verified, among: &[Seq]) -> Option<Outcome> {
        self.recent.read().repeats(event, among)
    }

    fn repeats(&self, event: &Verified, among: &[Seq]) -> Result<Option<Outcome>, ReadError> {
        // One may have left the index since it was looked up.
        let dedupe = self.dedupe.read();
        let indexed = among.iter().copied().filter(|seq| !dedupe.is_indexed(*seq, None));
        let among: Vec<Seq> = indexed.collect();
        drop(dedupe);
        find_repeated(&among, &EventContent::of(event), &|seq| self.candidate(seq))
    }

    fn lost(&self) -> Vec<(Seq, Seq)> {
        self.lost.clone()
    }

    fn keep(&self) -> Option<KeptBytes> {
        let Tip { edge, metadata } = self.tip.lock().clone();
        let (seq, key) = (edge.size(), self.dedupe.read().key());
        let mut kept = KeptBytes::begin(seq, &metadata, &key, &self.lost);
        let mut fingerprints = Vec::with_capacity(seq as usize * FINGERPRINT_BYTES);
        // The lock is released again and again, so that no batch waits for long.
        while !self.dedupe.read().keep(&mut fingerprints, seq) {}
        kept.bytes.extend(fingerprints);
        Some(kept)
    }

    fn wait(&self, after: Seq, timeout: Duration) -> Seq {
        self.head.wait(after, timeout)
    }

    fn inclusion(&self, seq: Seq, size: Seq) -> Result<Vec<[u8; 32]>, ReadError> {
        check_in_tree(seq, size, self.head.get())?;
        merkle::inclusion(&self.nodes(), seq.checked_sub(1).ok_or(ReadError::Absent { seq })?, size)
    }

    fn consistency(&self, from: Seq, to: Seq) -> Result<Vec<[u8; 32]>, ReadError> {
        check_in_tree(from, to, self.head.get())?;
        merkle::consistency(&self.nodes(), from, to)
    }
}

/// Returns the error of a record that is not the one that was acknowledged.
pub(super) fn not_acknowledged(seq: Seq) -> ReadError {
    let what = "it is not the record that was acknowledged, as the check behind the start found";
    ReadError::Damaged { seq, what: what.into() }
}

/// Makes an error of what is wrong with a batch.
fn other(what: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::other(what)
}

/// Draws the salts that events do not have yet.
fn salt_all(batch: &mut [Verified]) -> Result<(), getrandom::Error> {
    batch.iter_mut().filter(|event| event.salted().is_none()).try_for_each(Verified::salt)
}

/// Makes the drafts of a batch whose events have their salts.
fn drafts(pending: Vec<PendingEvent>) -> io::Result<Vec<Draft>> {
    let draft = |PendingEvent { event, status }| {
        let salted = event.salted().ok_or_else(|| other("an event has no salt"))?;
        Ok(Draft { salt: salted.salt, event, status })
    };
    pending.into_iter().map(draft).collect()
}

impl Drop for SledLog {
    /// Syncs everything, so that the next opening trusts the kernel's cache.
    fn drop(&mut self) {
        if self.prepare_to_close().is_err() {
            // sled would panic at its end. Its lock goes with the process.
            std::mem::forget(self.store.clone());
            return;
        }
        let mut writer = self.writer.lock();
        let synced = writer.poisoned.is_none()
            && self.tiles.sync().is_ok()
            && writer.acknowledgements.sync().is_ok();
        if synced {
            self.store.mark_clean();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io;
    use std::os::unix::fs::MetadataExt;
    use std::path::Path;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::super::Unrecovered;
    use super::super::block::VALUE_BYTES_MAX;
    use super::*;
    use crate::verify::Keyring;
    use rollcall_generator::sign;

    const NOW: Millis = 1_760_000_000_000;

    fn event(id: &str, filling: &[u8]) -> Verified {
        let filling: String = filling
            .iter()
            .map(|byte| char::from(b' ' + byte % 90))
            .filter(|c| !"\\\"".contains(*c))
            .collect();
        let body = format!(
            concat!(
                r#"{{"id":"{id}","event":"x.y","data":{{"filling":"{filling}"}},"#,
                r#""created_at":"2025-01-01T00:00:00Z"}}"#,
            ),
            id = id,
            filling = filling
        );
        let header = sign("s", NOW, body.as_bytes());
        Verified::webhook(&Keyring::new(["s"], 0), Some(header.as_bytes()), body.into(), NOW)
            .unwrap()
    }

    /// Makes a body that does not compress. It is not an event, but kept like any other.
    fn noise(bytes: usize) -> Verified {
        let mut body = vec![0; bytes];
        getrandom::fill(&mut body).unwrap();
        let header = sign("s", NOW, &body);
        Verified::webhook(&Keyring::new(["s"], 0), Some(header.as_bytes()), body.into(), NOW)
            .unwrap()
    }

    fn open(folder: &Path) -> SledLog {
        Unrecovered::open(folder, 64 << 20).unwrap().recover(&|_| {}).unwrap()
    }

    #[test]
    fn every_append_syncs_the_data_file_before_it_returns() {
        let folder = tempfile::tempdir().unwrap();
        let syncs = Arc::new(AtomicU64::new(0));
        let (counted, data) = (syncs.clone(), folder.path().to_owned());
        let log = Unrecovered::open(folder.path(), 64 << 20)
            .unwrap()
            .syncing_by(move |file| {
                let round = counted.fetch_add(1, Ordering::SeqCst) + 1;
                // The synced file is the one that sled writes, and the event is in it by now.
                let path = data.join("store/db");
                assert_eq!(file.metadata()?.ino(), fs::metadata(&path)?.ino());
                let marker = format!("marker-{round}-of-20");
                assert!(
                    round > 20
                        || fs::read(&path)?
                            .windows(marker.len())
                            .any(|bytes| bytes == marker.as_bytes()),
                    "{round}"
                );
                file.sync_data()
            })
            .recover(&|_| {})
            .unwrap();
        for round in 1..=20 {
            log.append(vec![event(&format!("marker-{round}-of-20"), b"x")], NOW).unwrap();
            assert_eq!(syncs.load(Ordering::SeqCst), round);
        }
        // A duplicate is durable already.
        log.append(vec![event("marker-1-of-20", b"x")], NOW).unwrap();
        assert_eq!(syncs.load(Ordering::SeqCst), 20);
    }

    #[test]
    fn what_repeats_a_record_is_known_without_an_append() {
        let folder = tempfile::tempdir().unwrap();
        let log = open(folder.path());
        let plain = noise(40);
        let first = vec![event("a", b"x"), event("a", b"y"), plain.clone(), event("b", b"x")];
        log.append(first, NOW).unwrap();
        let outcome = |event: &Verified, head: Seq| {
            let among = log.may_repeat(event, head);
            assert!(among.iter().all(|seq| *seq <= head));
            let outcome = log.repeats(event, &among).unwrap();
            // What repeats a record that counts is known without a look into the store as well.
            let known = outcome.filter(|outcome| matches!(outcome, Outcome::Duplicate { .. }));
            assert_eq!(log.repeats_recent(event, &among), known);
            outcome
        };
        let duplicate = |seq| Some(Outcome::Duplicate { seq, differs: false });
        assert_eq!(outcome(&event("a", b"x"), 4), duplicate(1));
        assert_eq!(outcome(&plain, 4), duplicate(3));
        assert_eq!(outcome(&event("b", b"x"), 4), duplicate(4));
        let conflict = Outcome::Conflict { seq: 2, first: 1, duplicate: true };
        assert_eq!(outcome(&event("a", b"y"), 4), Some(conflict));
        // Others have to be appended: of a new id, of another content, and what is not folded yet.
        for event in [event("c", b"x"), event("a", b"z"), noise(40)] {
            assert_eq!(outcome(&event, 4), None);
        }
        assert_eq!(outcome(&event("b", b"x"), 3), None);
        assert_eq!(outcome(&event("a", b"y"), 1), None);
        assert_eq!(log.head(), 4);
    }

    #[test]
    fn after_a_failed_sync_the_log_takes_nothing_until_it_is_reopened_and_a_retry_is_safe() {
        let folder = tempfile::tempdir().unwrap();
        let syncs = AtomicU64::new(0);
        let log = Unrecovered::open(folder.path(), 64 << 20)
            .unwrap()
            .syncing_by(move |file| match syncs.fetch_add(1, Ordering::SeqCst) {
                2 => Err(io::Error::other("the disk is gone")),
                _ => file.sync_data(),
            })
            .recover(&|_| {})
            .unwrap();
        for id in ["a", "b"] {
            log.append(vec![event(id, b"")], NOW).unwrap();
        }
        assert!(matches!(log.append(vec![event("c", b"")], NOW), Err(AppendError::Unknown(_))));
        assert_eq!(log.head(), 2, "records that are not durable are not shown");
        assert_eq!(log.read(0, 10, 1 << 20).unwrap().len(), 2);
        assert!(matches!(log.append(vec![event("d", b"")], NOW), Err(AppendError::Rejected(_))));
        drop(log);
        let log = open(folder.path());
        let outcomes =
            log.append(["a", "b", "c", "d"].map(|id| event(id, b"")).into(), NOW).unwrap();
        // The third may have reached the disk or not; nothing else may differ.
        assert!(matches!(
            outcomes[..2],
            [
                Outcome::Duplicate { seq: 1, differs: false },
                Outcome::Duplicate { seq: 2, differs: false }
            ]
        ));
        assert!(matches!(
            outcomes[2..],
            [Outcome::Duplicate { seq: 3, differs: false } | Outcome::New(3), Outcome::New(4)]
        ));
    }

    /// Every step of a commit.
    const STEPS: [Step; 7] = [
        Step::Put,
        Step::Flush,
        Step::Sync,
        Step::RefuseBlobs,
        Step::GrowTiles,
        Step::SyncTiles,
        Step::Acknowledge,
    ];

    /// Fails the third commit at a step and checks the answer, the log as it is then, and the log
    /// after it was opened again.
    fn fail_at(fault: StepFault) {
        let case = format!("{:?}, done: {}, {:?}", fault.step, fault.is_done, fault.error);
        let folder = tempfile::tempdir().unwrap();
        let log = open(folder.path());
        // The tiles are synced with the first two commits, and once a second.
        let before: &[&str] = if fault.step == Step::SyncTiles { &["a"] } else { &["a", "b"] };
        for id in before {
            log.append(vec![event(id, b"")], NOW).unwrap();
        }
        let head = before.len() as Seq;
        let root = log.root(head).unwrap();
        *log.step_fault.lock() = Some(fault);
        let batch = || ["c", "d"].map(|id| event(id, b"")).to_vec();
        let error = log.append(batch(), NOW).unwrap_err();
        let is_blocked = fault.error != io::ErrorKind::Other;
        assert_eq!(matches!(error, AppendError::Unknown(_)), !is_blocked, "{case}");
        assert_eq!(
            matches!(error, AppendError::Blocked { in_doubt: true, .. }),
            is_blocked,
            "{case}"
        );
        // Nothing of the batch is shown, and nothing more is taken, not even a duplicate.
        assert_eq!((log.head(), log.root(head).unwrap()), (head, root), "{case}");
        assert_eq!(log.read(0, 10, 1 << 20).unwrap().len() as Seq, head, "{case}");
        assert_eq!(log.find("c"), Ok(None), "{case}");
        for id in ["a", "c", "e"] {
            let refused = log.append(vec![event(id, b"")], NOW).unwrap_err();
            let expected = match refused {
                AppendError::Rejected(_) => !is_blocked,
                AppendError::Blocked { in_doubt, .. } => is_blocked && !in_doubt,
                AppendError::Unknown(_) => false,
            };
            assert!(expected, "{case}: {refused}");
        }
        drop(log);
        // The first step makes the batch part of the store, whatever is reported about it.
        let is_kept = fault.step != Step::Put || fault.is_done;
        let log = open(folder.path());
        assert_eq!(log.head(), head + if is_kept { 2 } else { 0 }, "{case}");
        assert_eq!(log.root(head).unwrap(), root, "{case}");
        let outcomes = log.append(batch(), NOW).unwrap();
        let duplicate = |seq| Outcome::Duplicate { seq, differs: false };
        let outcome = if is_kept { duplicate } else { Outcome::New };
        assert_eq!(outcomes, [outcome(head + 1), outcome(head + 2)], "{case}");
        assert_eq!(log.append(vec![event("e", b"")], NOW).unwrap(), [Outcome::New(head + 3)]);
    }

    #[test]
    fn a_commit_that_fails_at_any_step_is_kept_whole_or_not_at_all_and_is_not_acknowledged() {
        for step in STEPS {
            for is_done in [false, true] {
                for error in [
                    io::ErrorKind::StorageFull,
                    io::ErrorKind::ReadOnlyFilesystem,
                    io::ErrorKind::Other,
                ] {
                    fail_at(StepFault { step, is_done, error });
                }
            }
        }
    }

    #[test]
    fn the_largest_incompressible_values_never_spill_and_come_back_whole() {
        let folder = tempfile::tempdir().unwrap();
        let log = open(folder.path());
        let mut bodies = Vec::new();
        for round in 0..24 {
            // One event of 1 MiB and once the largest that is taken, a batch of nearly 4 MiB, and single events just below and
            // above a value's size.
            let sizes: Vec<usize> = match round % 4 {
                0 if round == 4 => vec![12_000_000],
                0 => vec![1 << 20],
                1 => vec![100_000; 41],
                2 => vec![VALUE_BYTES_MAX - 700],
                _ => vec![VALUE_BYTES_MAX + 1, 16, 65_000],
            };
            let events: Vec<Verified> = sizes.iter().map(|size| noise(*size)).collect();
            bodies.extend(events.iter().map(|event| event.body().clone()));
            log.append(events, NOW).unwrap();
            assert_eq!(
                fs::read_dir(folder.path().join("store/blobs")).unwrap().count(),
                0,
                "round {round}"
            );
        }
        drop(log);
        let log = open(folder.path());
        let seqs: Vec<Seq> = (1..=bodies.len() as Seq).collect();
        assert!(log.bodies(&seqs).unwrap() == bodies);
        let read: Vec<Bytes> = log
            .read(0, usize::MAX, usize::MAX)
            .unwrap()
            .into_iter()
            .map(|record| record.body)
            .collect();
        assert!(read == bodies);
    }
}
