//! What an auditor holds: checkpoints that a key signs, proofs over them, and bundles that prove one record on another machine.
//!
//! It knows neither the engine nor the store: which records there are, and what the tree over them is, it is told.

mod bundle;
mod key;
mod note;
mod publish;
mod tree;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub use bundle::{Bundle, BundleError, Older, Proven, Receipt, ReceiptError};
use ed25519_dalek::SigningKey;
use key::Key;
pub use key::KeyError;
pub use note::{Checkpoint, NOTE_BYTES_MAX, Note, NoteError, Verifier, VerifierError};
use parking_lot::{Mutex, MutexGuard};
pub use publish::{Place, PublishError};
use rollcall_projections::Seq;
pub use tree::{empty_root, includes, is_consistent};

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
}

impl KeyFiles {
    /// `DATA/checkpoint-key.pub`, and the private key where it is told to be, or else in `DATA/checkpoint-key`.
    pub fn of(data: &Path, private: Option<PathBuf>) -> KeyFiles {
        KeyFiles { private: private.unwrap_or_else(|| data.join("checkpoint-key")), public: data.join("checkpoint-key.pub") }
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
    /// The checkpoint that ends with the last change since the start, signed by both keys, and its size.
    handover: Option<(Seq, String)>,
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
    /// Opens the key of the log `log_id`. `changed_to` is the public key that the log's last event of a key names.
    ///
    /// A log without any key gets one. What a crash in the middle of a change left is brought to its end, or taken back.
    ///
    /// # Errors
    /// [`KeyError::Lost`] and [`KeyError::Exchanged`] where the file is not the log's own.
    pub fn open(files: KeyFiles, log_id: [u8; 16], changed_to: Option<&str>) -> Result<Notary, KeyError> {
        let origin = origin(log_id);
        settle_next(&files, &origin, changed_to)?;
        let expected = expected(&files, &origin, changed_to)?;
        let key = match (fit(&files.private, &origin, expected.as_deref())?, &expected) {
            (Some(key), _) => key,
            (None, Some(expected)) => return Err(KeyError::Lost { path: files.private, expected: expected.clone() }),
            (None, None) => {
                let key = Key::make()?;
                key.write(&files.private)?;
                tracing::info!(key = %key.verifier(&origin), "made a key for checkpoints");
                key
            }
        };
        let notary = Notary::signing_with(key, origin, files);
        if expected.is_none() {
            notary.remember()?;
        }
        Ok(notary)
    }

    /// Opens the key as [`Notary::open`] does, and writes nothing: `None` where there is no key of this log, or none that can be read.
    pub fn look(files: KeyFiles, log_id: [u8; 16], changed_to: Option<&str>) -> Option<Notary> {
        let origin = origin(log_id);
        let expected = expected(&files, &origin, changed_to).ok()??;
        // In the middle of a change the log may name the key that has not taken its place yet.
        let found = [files.private.clone(), files.next()].iter().find_map(|path| fit(path, &origin, Some(&expected)).ok()?);
        found.map(|key| Notary::signing_with(key, origin, files))
    }

    fn signing_with(key: Key, origin: String, files: KeyFiles) -> Notary {
        Notary { origin, files, signer: Mutex::new(Signer { key, notes: BTreeMap::new(), handover: None }), changing: Mutex::default() }
    }

    /// The name under which it signs.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The public key with which it signs.
    pub fn verifier(&self) -> Verifier {
        self.signer.lock().key.verifier(&self.origin)
    }

    /// The signed checkpoint of the first `size` records, whose tree hash `root` is asked for unless the note was signed before. Waits for a
    /// change of the key in progress.
    ///
    /// # Errors
    /// Those of `root`.
    pub fn checkpoint<E>(&self, size: Seq, root: impl FnOnce() -> Result<[u8; 32], E>) -> Result<String, E> {
        if let Some(note) = self.signer.lock().notes.get(&size) {
            return Ok(note.clone());
        }
        // No key signs alone what holds the event of its own end: while the key changes, this waits, and may then find both signatures.
        let _settled = self.changing.lock();
        if let Some(note) = self.signer.lock().notes.get(&size) {
            return Ok(note.clone());
        }
        let checkpoint = Checkpoint { origin: self.origin.clone(), size, root: root()? };
        let mut signer = self.signer.lock();
        let note = note::sign(&checkpoint, &[&signer.key.signing]);
        signer.keep(size, note.clone());
        Ok(note)
    }

    /// The checkpoint that ends with the last change of the key since the start, signed by both keys, with its size.
    pub fn handover(&self) -> Option<(Seq, String)> {
        self.signer.lock().handover.clone()
    }

    /// Makes the key that is to come, and writes it beside the one that signs. Waits for another change in progress.
    ///
    /// # Errors
    /// If it cannot be made or written.
    pub fn change(&self) -> Result<Change<'_>, KeyError> {
        let changing = self.changing.lock();
        let next = Key::make()?;
        next.write(&self.files.next())?;
        let (from, to) = (self.verifier().to_string(), next.verifier(&self.origin).to_string());
        Ok(Change { notary: self, next, from, to, _changing: changing })
    }

    /// Writes down which public key is this log's own.
    fn remember(&self) -> Result<(), KeyError> {
        let line = format!("{}\n", self.verifier());
        let path = &self.files.public;
        key::write_synced(path, line.as_bytes(), 0o644).map_err(|error| KeyError::Io { path: path.clone(), error })
    }
}

impl Signer {
    fn keep(&mut self, size: Seq, note: String) {
        self.notes.insert(size, note);
        if self.notes.len() > NOTES_MAX {
            self.notes.pop_first();
        }
    }
}

impl Change<'_> {
    /// The log has it: from now on the new key signs. What comes back is the checkpoint of the first `size` records, the event of the change the last
    /// of them, signed by both keys: whoever trusts the old one learns the new one from it.
    pub fn adopt(self, size: Seq, root: [u8; 32]) -> String {
        let Change { notary, next, .. } = self;
        let checkpoint = Checkpoint { origin: notary.origin.clone(), size, root };
        if let Err(error) = key::rename(&notary.files.next(), &notary.files.private) {
            // The log names the new key, so that the next start brings this to its end.
            tracing::error!(%error, "the new checkpoint key is still in its `.next` file");
        }
        let mut signer = notary.signer.lock();
        let old: SigningKey = std::mem::replace(&mut signer.key, next).signing;
        let note = note::sign(&checkpoint, &[&old, &signer.key.signing]);
        signer.notes.clear();
        signer.keep(size, note.clone());
        signer.handover = Some((size, note.clone()));
        note
    }

    /// The log certainly does not have it: the old key goes on signing.
    pub fn take_back(self) {
        if let Err(error) = key::remove(&self.notary.files.next()) {
            tracing::error!(%error, "a checkpoint key that never counted could not be removed");
        }
    }
}

/// Makes a key in the place of one that is lost. `record` has the log take the event that names the new public key, and it counts from then on:
/// open the key again, as changed to what comes back.
///
/// # Errors
/// If the key cannot be made or written, or was not recorded.
pub fn replace_key(files: &KeyFiles, log_id: [u8; 16], record: impl FnOnce(&str) -> bool) -> Result<String, KeyError> {
    let key = Key::make()?;
    key.write(&files.next())?;
    let to = key.verifier(&origin(log_id)).to_string();
    // Whether or not the log has it, the next start knows what to do with the file.
    if record(&to) { Ok(to) } else { Err(KeyError::Unrecorded) }
}

/// The public key that the key file must have: that of the log's last change, or before any the one that was written down first.
fn expected(files: &KeyFiles, origin: &str, changed_to: Option<&str>) -> Result<Option<String>, KeyError> {
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
        Some(expected) if expected != found => Err(KeyError::Exchanged { path: path.to_owned(), found, expected: expected.to_owned() }),
        _ => Ok(Some(key)),
    }
}

/// Brings a change that a crash broke off to its end, if the log names the next key, and else takes it back.
fn settle_next(files: &KeyFiles, origin: &str, changed_to: Option<&str>) -> Result<(), KeyError> {
    let next = files.next();
    let io_error = |error| KeyError::Io { path: next.clone(), error };
    key::remove_part(&next)?;
    key::remove_part(&files.private)?;
    let named = match Key::read(&next) {
        Ok(None) => return Ok(()),
        Ok(Some(key)) => changed_to == Some(&key.verifier(origin).to_string()),
        // A whole file is put in its place at once: what is no key was never named.
        Err(KeyError::Malformed(_)) => false,
        Err(error) => return Err(error),
    };
    if named {
        tracing::info!("the checkpoint key that the log names takes its place");
        return key::rename(&next, &files.private).map_err(io_error);
    }
    tracing::info!("a checkpoint key that the log never named is removed");
    key::remove(&next).map_err(io_error)
}

#[cfg(test)]
mod tests;
