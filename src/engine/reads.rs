//! Reads for answers: documents, events and records from the log, digests of the views.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rollcall_projections::{DirectoryRow, EventRow, Part, Seq, Sight, SnapshotRef, View};
use sha2::{Digest, Sha256};

use super::Engine;
use crate::archive::{ArchiveReport, ArchiveStatus};
use crate::documents::{Document, DocumentKey, Shape, ShownEvent, show_event, state_of};
use crate::log::{Log, ReadError, Record};
use crate::verify::Proof;

/// The number of items of a view that are dumped under one lock.
const DUMP_ITEMS: usize = 2048;

/// The state of a view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ViewState {
    /// The view.
    pub view: View,
    /// The latest version of the role mappings; for other views the version of their rules.
    pub version: usize,
    /// The last record that it holds.
    pub seq: Seq,
    /// The number of its items at that record.
    pub items: usize,
    /// SHA-256 of its canonical dump; `None` while it is computed.
    pub sha256: Option<[u8; 32]>,
}

impl ViewState {
    /// Describes a view with so many items at a record, without its digest.
    fn bare(view: View, seq: Seq, items: usize) -> ViewState {
        let version = if view == View::Mappings { items } else { 1 };
        ViewState { view, version, seq, items, sha256: None }
    }
}

/// Views with no more items than this are digested at once: it takes some milliseconds.
const DIGESTED_AT_ONCE: usize = 20_000;

/// The time for which digests are shown although the log has gone on.
const DIGESTS_SHOWN: Duration = Duration::from_secs(60);

/// The digests that were computed last.
#[derive(Default)]
pub(super) struct Digests {
    last: Option<KeptDigests>,
    is_computing: bool,
    /// Counts the replacements of the views.
    generation: u64,
}

struct KeptDigests {
    seq: Seq,
    states: Vec<ViewState>,
    computed: Instant,
}

impl Digests {
    /// Returns the digests at a record, if they are those that are kept.
    fn at(&self, seq: Seq) -> Option<&[ViewState]> {
        self.last.as_ref().filter(|last| last.seq == seq).map(|last| &last.states[..])
    }

    /// Returns the digests that were computed a short time ago.
    fn recent(&self) -> Option<&[ViewState]> {
        let recent = self.last.as_ref().filter(|last| last.computed.elapsed() < DIGESTS_SHOWN);
        recent.map(|last| &last.states[..])
    }

    fn keep(&mut self, seq: Seq, states: Vec<ViewState>) {
        self.last = Some(KeptDigests { seq, states, computed: Instant::now() });
    }

    /// Forgets what was computed from views that were replaced.
    pub(super) fn forget(&mut self) {
        self.last = None;
        self.generation += 1;
    }
}

impl Engine {
    /// Returns the documents if all of them are cached.
    pub fn cached_documents(&self, keys: &[DocumentKey]) -> Option<Vec<Document>> {
        self.documents.cached(keys)
    }

    /// Returns the documents. Blocks while it reads the log.
    ///
    /// # Errors
    /// If the log cannot be read.
    pub fn load_documents(&self, keys: &[DocumentKey]) -> Result<Vec<Document>, ReadError> {
        self.documents.load(&*self.log, keys)
    }

    /// Returns the bodies of records, in the order of `seqs`. Blocks while it reads the log; not
    /// cached.
    ///
    /// # Errors
    /// If the log cannot be read.
    pub fn load_bodies(&self, seqs: &[Seq]) -> Result<Vec<Bytes>, ReadError> {
        self.log.bodies(seqs)
    }

    /// Returns the proofs of records, in the order of `seqs`. Blocks while it reads the log; not
    /// cached.
    ///
    /// # Errors
    /// If the log cannot be read.
    pub fn load_proofs(&self, seqs: &[Seq]) -> Result<Vec<Proof>, ReadError> {
        self.log.proofs(seqs)
    }

    /// Returns the record that counts under an event id, if it is seen. Blocks while it reads the
    /// log.
    ///
    /// # Errors
    /// If the log cannot be read.
    pub fn find_event(&self, sight: &Sight, event_id: &str) -> Result<Option<Seq>, ReadError> {
        let found = self.log.find(event_id)?;
        Ok(found.filter(|seq| self.views().seen_by(sight).sees_event(*seq)))
    }

    /// Returns events as the Events API shows them. Blocks while it reads the log; not cached,
    /// because a follower reads each event once.
    ///
    /// # Errors
    /// If the log cannot be read.
    pub fn load_events(&self, rows: &[EventRow]) -> Result<Vec<ShownEvent>, ReadError> {
        let seqs: Vec<Seq> = rows.iter().map(|row| row.seq).collect();
        let bodies = self.log.bodies(&seqs)?;
        Ok(rows
            .iter()
            .zip(bodies)
            .map(|(row, body)| show_event(&body, *row, &self.views))
            .collect())
    }

    /// Returns the state of each directory. Only an observation has one of its own. Blocks while it
    /// reads the documents of those from the log.
    ///
    /// # Errors
    /// If the log cannot be read.
    pub fn directory_states(&self, rows: &[DirectoryRow]) -> Result<Vec<String>, ReadError> {
        let key = |row: &DirectoryRow| {
            let SnapshotRef { seq, part } = row.version?;
            (part == Part::Object).then_some(DocumentKey { seq, part, shape: Shape::Directory })
        };
        let keys: Vec<Option<DocumentKey>> = rows.iter().map(key).collect();
        let observed: Vec<DocumentKey> = keys.iter().copied().flatten().collect();
        let mut documents = self.load_documents(&observed)?.into_iter();
        let state = |(row, key): (&DirectoryRow, &Option<DocumentKey>)| {
            let document = key.and_then(|_| documents.next());
            state_of(document.as_ref(), row).to_owned()
        };
        Ok(rows.iter().zip(&keys).map(state).collect())
    }

    /// Empties the document cache. No answer changes.
    pub fn clear_documents(&self) {
        self.documents.clear();
    }

    /// Lets answers show the state of an archive. Further calls have no effect.
    pub fn set_archive(&self, status: Arc<ArchiveStatus>) {
        let _ = self.archive.set(status);
    }

    /// Returns the state of the archive; `None` if there is none. Reads no file.
    pub fn archive(&self) -> Option<ArchiveReport> {
        self.archive.get().map(|status| status.report(self.head()))
    }

    /// Returns the log, to copy it: nothing is appended to it but by the writer.
    pub(crate) fn log(&self) -> &dyn Log {
        &*self.log
    }

    /// Returns one whole record.
    ///
    /// # Errors
    /// If the record does not exist, is lost or is damaged.
    pub fn record(&self, seq: Seq) -> Result<Record, ReadError> {
        let records = self.log.read(seq.saturating_sub(1), 1, 0)?;
        let record = records.into_iter().next().filter(|record| record.seq == seq);
        record.ok_or(match (1..=self.log.head()).contains(&seq) {
            true => ReadError::Lost { seq },
            false => ReadError::Absent { seq },
        })
    }

    /// Returns every view with the digest of its dump, all at one seq. Costs a pass over all
    /// timelines, in short locks; the last answer is kept until the head moves.
    pub fn view_states(&self) -> Vec<ViewState> {
        let mut kept = self.digests.lock();
        let seq = self.views.read().head();
        if let Some(states) = kept.at(seq) {
            return states.to_vec();
        }
        let states = self.compute_view_states(seq);
        kept.keep(seq, states.clone());
        states
    }

    /// Returns every view, without a digest while that is computed in the background. Views with
    /// few items are digested at once. Once a large log goes on, shows the digests of the record at
    /// which they were computed, for as long as they are no older than a minute.
    pub fn view_states_at_hand(self: &Arc<Self>) -> Vec<ViewState> {
        let bare = self.bare_view_states();
        if bare.iter().map(|state| state.items).sum::<usize>() <= DIGESTED_AT_ONCE {
            return self.view_states();
        }
        let seq = bare.first().map_or(0, |state| state.seq);
        let mut kept = self.digests.lock();
        if let Some(states) = kept.at(seq) {
            return states.to_vec();
        }
        if !kept.is_computing {
            kept.is_computing = true;
            let (engine, generation) = (self.clone(), kept.generation);
            let thread = thread::Builder::new().name("digests".into());
            let begun = thread.spawn(move || engine.digest(seq, generation));
            kept.is_computing = begun.is_ok();
        }
        kept.recent().map_or(bare, <[ViewState]>::to_vec)
    }

    /// Computes the digests at a record and keeps them, unless the views were replaced meanwhile.
    fn digest(&self, seq: Seq, generation: u64) {
        let states = self.compute_view_states(seq);
        let mut kept = self.digests.lock();
        kept.is_computing = false;
        if kept.generation == generation && !self.is_shutting_down() {
            kept.keep(seq, states);
        }
    }

    fn compute_view_states(&self, seq: Seq) -> Vec<ViewState> {
        View::ALL.into_iter().map(|view| self.view_state(view, seq)).collect()
    }

    /// Returns every view at the head without its digest.
    fn bare_view_states(&self) -> Vec<ViewState> {
        let views = self.views.read();
        let state = |view| ViewState::bare(view, views.head(), views.size(view));
        View::ALL.into_iter().map(state).collect()
    }

    fn view_state(&self, view: View, seq: Seq) -> ViewState {
        let (mut digest, mut first, mut items, mut text) = (Sha256::new(), 0, 0, String::new());
        loop {
            let views = self.views.read();
            let size = views.size(view);
            // Writing to a string cannot fail.
            items += views.dump(view, seq, first, DUMP_ITEMS, &mut text).unwrap_or(0);
            drop(views);
            digest.update(&text);
            text.clear();
            first += DUMP_ITEMS;
            if first >= size || self.is_shutting_down() {
                let sha256 = Some(digest.finalize().into());
                return ViewState { sha256, ..ViewState::bare(view, seq, items) };
            }
        }
    }
}
