//! What an auditor holds: checkpoints that a key signs, proofs over them, and bundles that prove
//! one record on another machine.
//!
//! It knows neither the engine nor the store: which records there are, and what the tree over them
//! is, it is told.

mod bundle;
mod handover;
mod key;
mod note;
mod publish;
mod tree;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub use bundle::{Bundle, BundleError, Older, Proven, Receipt, ReceiptError};
pub use handover::{KeyEvent, KeyHistory};
use key::Key;
pub use key::KeyError;
pub use note::{Checkpoint, NOTE_BYTES_MAX, Note, NoteError, Verifier, VerifierError};
use parking_lot::{Mutex, MutexGuard};
pub use publish::{Place, PublishError};
use rollcall_projections::Seq;
pub use tree::{includes, is_consistent};

/// At most so many signed notes are kept.
const NOTES_MAX: usize = 64;

/// The name under which a log signs: `rollcall/` and its id as a UUID, in lower case.
pub fn origin(log_id: [u8; 16]) -> String {
    format!("rollcall/{}", uuid::Uuid::from_bytes(log_id).hyphenated())
}

/// Where the files are.
#[derive(Clone, Debug)]
pub struct KeyFiles {
    /// The private key. Beside it, while the key changes, the next one: `<file>.next`.
    pub private: PathBuf,
    /// The public key that the log had first, written once.
    pub public: PathBuf,
    /// The folder of the checkpoints that end with a change of the key.
    pub handovers: PathBuf,
}

impl KeyFiles {
    /// `DATA/checkpoint-key.pub`, `DATA/checkpoint-key.handovers`, and the private key where it is
    /// told to be, or else in `DATA/checkpoint-key`. Where that is a link, the file is where the
    /// link leads.
    pub fn of(data: &Path, private: Option<PathBuf>) -> KeyFiles {
        KeyFiles {
            private: key::resolved(private.unwrap_or_else(|| data.join("checkpoint-key"))),
            public: data.join("checkpoint-key.pub"),
            handovers: data.join("checkpoint-key.handovers"),
        }
    }

    fn next(&self) -> PathBuf {
        key::beside(&self.private, ".next")
    }
}

/// Signs checkpoints of one log.
pub struct Notary {
    origin: String,
    files: KeyFiles,
    signer: Mutex<Signer>,
    /// Held while the key changes.
    changing: Mutex<()>,
}

struct Signer {
    key: Key,
    /// Signed by that key, by size.
    notes: BTreeMap<Seq, String>,
    /// The checkpoints that end with a change of the key, signed by both, by size: none is ever
    /// forgotten.
    handovers: BTreeMap<Seq, String>,
    /// The last of them could not be written, or the key file not renamed: until both are done no
    /// other change may begin.
    unsettled: Option<Seq>,
}

/// A key that is to take the place of another, on the disk and not yet in the log.
pub struct Change<'a> {
    notary: &'a Notary,
    next: Key,
    /// The public key that signs until now.
    pub from: String,
    /// The public key that will.
    pub to: String,
    _changing: MutexGuard<'a, ()>,
}

impl Notary {
    /// Opens the key of the log `log_id`, whose keys' history is `history`.
    ///
    /// A log without any key gets one. What a crash in the middle of a change left is brought to
    /// its end, or taken back.
    ///
    /// # Errors
    /// [`KeyError::Lost`] and [`KeyError::Exchanged`] where the file is not the log's own.
    pub fn open(
        files: KeyFiles,
        log_id: [u8; 16],
        history: &KeyHistory,
    ) -> Result<Notary, KeyError> {
        let origin = origin(log_id);
        settle_next(&files, &origin, history)?;
        let expected = expected(&files, &origin, history.key())?;
        let key = match (fit(&files.private, &origin, expected.as_deref())?, &expected) {
            (Some(key), _) => key,
            (None, Some(expected)) => {
                return Err(KeyError::Lost { path: files.private, expected: expected.clone() });
            }
            (None, None) => {
                let key = Key::make()?;
                key.write(&files.private)?;
                tracing::info!(key = %key.verifier(&origin), "made a key for checkpoints");
                key
            }
        };
        let handovers = handover::read_all(&files.handovers, &origin, history)?;
        let notary = Notary::signing_with(key, origin, files, handovers);
        if expected.is_none() {
            notary.remember()?;
        }
        Ok(notary)
    }

    /// Opens the key as [`Notary::open`] does, and writes nothing: `None` where there is no key of
    /// this log, or none that can be read.
    pub fn look(files: KeyFiles, log_id: [u8; 16], history: &KeyHistory) -> Option<Notary> {
        let origin = origin(log_id);
        let expected = expected(&files, &origin, history.key()).ok()??;
        // In the middle of a change the log may name the key that has not taken its place yet.
        let found = [files.private.clone(), files.next()]
            .iter()
            .find_map(|path| fit(path, &origin, Some(&expected)).ok()?);
        let mut handovers =
            handover::read_all(&files.handovers, &origin, history).unwrap_or_default();
        handovers.extend(unsettled(&files, &origin, history));
        found.map(|key| Notary::signing_with(key, origin, files, handovers))
    }

    fn signing_with(
        key: Key,
        origin: String,
        files: KeyFiles,
        handovers: BTreeMap<Seq, String>,
    ) -> Notary {
        let signer = Signer { key, notes: BTreeMap::new(), handovers, unsettled: None };
        Notary { origin, files, signer: Mutex::new(signer), changing: Mutex::default() }
    }

    /// The name under which it signs.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The public key with which it signs.
    pub fn verifier(&self) -> Verifier {
        self.signer.lock().key.verifier(&self.origin)
    }

    /// The signed checkpoint of the first `size` records, whose tree hash `root` is asked for
    /// unless the note was signed before. Where they end with a change of the key, both keys have
    /// signed it. Waits for a change of the key in progress.
    ///
    /// # Errors
    /// Those of `root`.
    pub fn checkpoint<E>(
        &self,
        size: Seq,
        root: impl FnOnce() -> Result<[u8; 32], E>,
    ) -> Result<String, E> {
        if let Some(note) = self.signer.lock().kept(size) {
            return Ok(note);
        }
        // No key signs alone what holds the event of its own end: while the key changes, this
        // waits, and may then find both signatures.
        let _settled = self.changing.lock();
        if let Some(note) = self.signer.lock().kept(size) {
            return Ok(note);
        }
        let checkpoint = Checkpoint { origin: self.origin.clone(), size, root: root()? };
        let mut signer = self.signer.lock();
        let note = note::sign(&checkpoint, &[&signer.key.signing]);
        signer.keep(size, note.clone());
        Ok(note)
    }

    /// The checkpoints of more than `after` and at most `until` records that end with a change of
    /// the key, signed by both keys, the smallest first, with their sizes. Waits for a change of
    /// the key in progress.
    pub fn handovers(&self, after: Seq, until: Seq) -> Vec<(Seq, String)> {
        let _settled = self.changing.lock();
        let signer = self.signer.lock();
        signer
            .handovers
            .iter()
            .filter(|(size, _)| (after + 1..=until).contains(*size))
            .map(|(size, note)| (*size, note.clone()))
            .collect()
    }

    /// Makes the key that is to come, and writes it beside the one that signs. Waits for another
    /// change in progress.
    ///
    /// # Errors
    /// If it cannot be made or written, the change before could not be written and still cannot, or
    /// nobody knows what became of it.
    pub fn change(&self) -> Result<Change<'_>, KeyError> {
        let changing = self.changing.lock();
        // In the `.next` file is still the key that signs: it must not be overwritten.
        self.settle()?;
        // The log may name that key, and this file is its only copy.
        if self.files.next().exists() {
            return Err(KeyError::Pending(self.files.next()));
        }
        let next = Key::make()?;
        next.write(&self.files.next())?;
        let (from, to) = (self.verifier().to_string(), next.verifier(&self.origin).to_string());
        Ok(Change { notary: self, next, from, to, _changing: changing })
    }

    /// Writes the last hand-over, and only then puts the key that signs in the place of the one
    /// before.
    fn settle(&self) -> Result<(), KeyError> {
        let mut signer = self.signer.lock();
        let Some(size) = signer.unsettled else { return Ok(()) };
        if let Some(note) = signer.handovers.get(&size) {
            handover::write(&self.files.handovers, size, note)?;
        }
        put_in_place(&self.files)?;
        signer.unsettled = None;
        Ok(())
    }

    /// Writes down which public key is this log's own.
    fn remember(&self) -> Result<(), KeyError> {
        let line = format!("{}\n", self.verifier());
        let path = &self.files.public;
        key::write_synced(path, line.as_bytes(), 0o644)
            .map_err(|error| KeyError::Io { path: path.clone(), error })
    }
}

impl Signer {
    fn kept(&self, size: Seq) -> Option<String> {
        self.handovers.get(&size).or_else(|| self.notes.get(&size)).cloned()
    }

    fn keep(&mut self, size: Seq, note: String) {
        self.notes.insert(size, note);
        if self.notes.len() > NOTES_MAX {
            self.notes.pop_first();
        }
    }
}

impl Change<'_> {
    /// The log has it: from now on the new key signs. What comes back is the checkpoint of the
    /// first `size` records, the event of the change the last of them, signed by both keys: whoever
    /// trusts the old one learns the new one from it.
    pub fn adopt(self, size: Seq, root: [u8; 32]) -> String {
        let Change { notary, next, .. } = self;
        let checkpoint = Checkpoint { origin: notary.origin.clone(), size, root };
        let note = {
            let mut signer = notary.signer.lock();
            let old = std::mem::replace(&mut signer.key, next);
            let note = note::sign(&checkpoint, &[&old.signing, &signer.key.signing]);
            signer.notes.clear();
            signer.handovers.insert(size, note.clone());
            signer.unsettled = Some(size);
            note
        };
        if let Err(error) = notary.settle() {
            // Both private keys are on the disk and the log names the new one, so that the next
            // start, or the next change, brings this to its end.
            tracing::error!(%error, "the change of the checkpoint key is not written to its end: the new key is still in its `.next` file");
        }
        note
    }

    /// The log certainly does not have it: the old key goes on signing.
    pub fn take_back(self) {
        if let Err(error) = key::remove(&self.notary.files.next()) {
            tracing::error!(%error, "a checkpoint key that never counted could not be removed");
        }
    }
}

/// Makes a key in the place of one that is lost. `record` has the log take the event that names the
/// new public key, and it counts from then on: open the key again, with a history that ends with
/// it. What comes back is the new public key.
///
/// # Errors
/// If the key cannot be made or written, or was not recorded.
pub fn replace_key(
    files: &KeyFiles,
    log_id: [u8; 16],
    record: impl FnOnce(&str) -> bool,
) -> Result<String, KeyError> {
    let key = Key::make()?;
    key.write(&files.next())?;
    let to = key.verifier(&origin(log_id)).to_string();
    // Whether or not the log has it, the next start knows what to do with the file.
    if record(&to) { Ok(to) } else { Err(KeyError::Unrecorded) }
}

/// The public key that the key file must have: that of the log's last change, or before any the one
/// that was written down first.
fn expected(
    files: &KeyFiles,
    origin: &str,
    changed_to: Option<&str>,
) -> Result<Option<String>, KeyError> {
    if let Some(changed_to) = changed_to {
        return Ok(Some(changed_to.to_owned()));
    }
    let public = key::read_public(&files.public)?;
    if let Some(other) = public.as_ref().filter(|public| public.name() != origin) {
        let what = format!("it is of `{}`, and this log is `{origin}`", other.name());
        return Err(KeyError::Public { path: files.public.clone(), what });
    }
    Ok(public.map(|public| public.to_string()))
}

/// The key in a file; `None` if there is no file.
fn fit(path: &Path, origin: &str, expected: Option<&str>) -> Result<Option<Key>, KeyError> {
    let Some(key) = Key::read(path)? else { return Ok(None) };
    let found = key.verifier(origin).to_string();
    match expected {
        Some(expected) if expected != found => {
            Err(KeyError::Exchanged { path: path.to_owned(), found, expected: expected.to_owned() })
        }
        _ => Ok(Some(key)),
    }
}

/// Brings a change that a crash broke off to its end, if the log names the next key, and else takes
/// it back.
fn settle_next(files: &KeyFiles, origin: &str, history: &KeyHistory) -> Result<(), KeyError> {
    let next = files.next();
    key::remove_part(&next)?;
    key::remove_part(&files.private)?;
    let named = match Key::read(&next) {
        Ok(None) => return Ok(()),
        Ok(Some(key)) => history.key() == Some(&key.verifier(origin).to_string()),
        // A whole file is put in its place at once: what is no key was never named.
        Err(KeyError::Malformed(_)) => false,
        Err(error) => return Err(error),
    };
    if !named {
        tracing::info!("a checkpoint key that the log never named is removed");
        return key::remove(&next).map_err(|error| KeyError::Io { path: next, error });
    }
    match unsettled(files, origin, history) {
        Some((size, note)) => handover::write(&files.handovers, size, &note)?,
        None => tracing::warn!(
            "the checkpoint key before is not there: no checkpoint of the change is signed by both"
        ),
    }
    tracing::info!("the checkpoint key that the log names takes its place");
    put_in_place(files)
}

/// The hand-over of a change that a crash broke off after the log took it: both private keys are
/// there still. `None` if it was not so, or the key before is lost.
fn unsettled(files: &KeyFiles, origin: &str, history: &KeyHistory) -> Option<(Seq, String)> {
    let event = history.events.last()?;
    let old = fit(&files.private, origin, Some(&event.from)).ok()??;
    let new = fit(&files.next(), origin, Some(&event.to)).ok()??;
    let checkpoint = Checkpoint { origin: origin.to_owned(), size: event.size, root: history.root };
    Some((event.size, note::sign(&checkpoint, &[&old.signing, &new.signing])))
}

/// Puts the next key in the place of the one before, and syncs that; also where it was put there
/// and only the sync is owed.
fn put_in_place(files: &KeyFiles) -> Result<(), KeyError> {
    let next = files.next();
    let put = if next.exists() {
        key::rename(&next, &files.private)
    } else {
        key::sync_parent(&files.private)
    };
    put.map_err(|error| KeyError::Io { path: next, error })
}

#[cfg(test)]
mod tests;
