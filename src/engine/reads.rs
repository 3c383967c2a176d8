//! Reads for answers: documents, events and records from the log, digests of the views.

use std::sync::Arc;

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
    /// SHA-256 of its canonical dump.
    pub sha256: [u8; 32],
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
        match &*kept {
            Some((at, states)) if *at == seq => states.clone(),
            _ => {
                let states: Vec<ViewState> =
                    View::ALL.into_iter().map(|view| self.view_state(view, seq)).collect();
                *kept = Some((seq, states.clone()));
                states
            }
        }
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
            if first >= size {
                let version = if view == View::Mappings { items } else { 1 };
                return ViewState { view, version, seq, items, sha256: digest.finalize().into() };
            }
        }
    }
}
