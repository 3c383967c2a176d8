//! Evidence for an auditor: checkpoints signed by a key, proofs over them, and bundles that prove
//! one record on another machine.
//!
//! This module knows neither the engine nor the store. Its callers pass in sizes and tree hashes.

mod bundle;
mod handover;
mod key;
mod note;
mod publish;
mod tree;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

pub use bundle::{Bundle, BundleError, OlderCheckpoint, Proven, Receipt, ReceiptError};
pub(crate) use handover::size_of as handover_size;
pub use handover::{KeyEvent, KeyHistory};
pub use key::KeyError;
use key::PrivateKey;
pub use note::{Checkpoint, NOTE_BYTES_MAX, Note, NoteError, Verifier, VerifierError};
use parking_lot::{Mutex, MutexGuard};
pub use publish::{PublishError, PublishTarget};
pub(crate) use publish::{file_name, is_checkpoint};
use rollcall_projections::Seq;
use rustix::fs::Access;
pub use tree::{includes, is_consistent};

/// The largest number of signed notes that are cached.
const NOTES_MAX: usize = 64;

/// Returns the name under which a log signs: `rollcall/` and its id as a UUID, in lower case.
pub fn origin(log_id: [u8; 16]) -> String {
    format!("rollcall/{}", uuid::Uuid::from_bytes(log_id).hyphenated())
}

/// Returns the checkpoint of a note whose signatures are not verified; `None` if it is not one.
pub(crate) fn claims(note: &[u8]) -> Option<Checkpoint> {
    Note::parse(note).ok().map(|note| note.claims().clone())
}

/// Returns whether a note is a checkpoint of the first `size` records of a log, with the tree hash
/// `root`. Its signatures are not verified.
pub(crate) fn is_claimed(note: &str, log_id: [u8; 16], size: Seq, root: [u8; 32]) -> bool {
    claims(note.as_bytes()) == Some(Checkpoint { origin: origin(log_id), size, root })
}

/// Returns what is wrong with the content of a file `checkpoint-key.pub` of a log.
pub(crate) fn public_key_fault(content: &[u8], log_id: [u8; 16]) -> Option<String> {
    let text = String::from_utf8_lossy(content);
    match Verifier::parse(text.trim_end()) {
        Ok(key) if key.name() == origin(log_id) => None,
        Ok(key) => Some(format!("it is a key of `{}`", key.name())),
        Err(error) => Some(error.to_string()),
    }
}

/// The paths of the key's files.
#[derive(Clone, Debug)]
pub struct KeyFiles {
    /// The private key. While the key changes, the next one is in `<file>.next`.
    pub private: PathBuf,
    /// The first public key of the log, written once.
    pub public: PathBuf,
    /// The folder of the handover checkpoints, each of which ends with a change of the key.
    pub handovers: PathBuf,
}

impl KeyFiles {
    /// Returns `DATA/checkpoint-key.pub`, `DATA/checkpoint-key.handovers`, and the given private
    /// key or else `DATA/checkpoint-key`. If the private key is a link, the link is followed.
    pub fn of(data: &Path, private: Option<PathBuf>) -> KeyFiles {
        KeyFiles {
            private: key::resolved(private.unwrap_or_else(|| data.join("checkpoint-key"))),
            public: data.join("checkpoint-key.pub"),
            handovers: data.join("checkpoint-key.handovers"),
        }
    }

    fn next(&self) -> PathBuf {
        key::with_suffix(&self.private, ".next")
    }

    /// Refuses a place in which no private key can be made. The data folder may be missing yet.
    fn refuse_place(&self) -> Result<(), KeyError> {
        let around = self.private.parent().unwrap_or(Path::new(""));
        if self.public.parent() == Some(around) && !around.exists() {
            return Ok(());
        }
        let around = if around.as_os_str().is_empty() { Path::new(".") } else { around };
        let writable = rustix::fs::access(around, Access::WRITE_OK | Access::EXEC_OK);
        writable.map_err(|error| KeyError::Io { path: self.private.clone(), error: error.into() })
    }
}

/// What is wrong with a file of the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyFault {
    /// A sentence that names the file.
    pub what: String,
    /// True if the next start writes it anew.
    pub is_repaired: bool,
}

/// What a look at the files of the key found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InspectedKey {
    /// The public key with which the log signs, if it is known.
    pub public: Option<String>,
    /// True if there is a private key that can be read.
    pub has_private: bool,
    /// The number of changes of the key that the log has recorded.
    pub changes: usize,
    /// The number of them with a checkpoint that both keys have signed.
    pub handovers: usize,
    /// What is wrong.
    pub faults: Vec<KeyFault>,
}

/// The signer of one log's checkpoints.
pub struct Notary {
    origin: String,
    files: KeyFiles,
    signer: Mutex<Signer>,
    /// Held while the key changes.
    changing: Mutex<()>,
}

struct Signer {
    key: PrivateKey,
    /// Notes signed by that key, by size.
    notes: BTreeMap<Seq, String>,
    /// The handover checkpoints, signed by both keys, by size. None is ever dropped.
    handovers: BTreeMap<Seq, String>,
    /// The last handover, if it could not be written or the key file not renamed. Until both are
    /// done no other change may begin.
    unsettled: Option<Seq>,
}

/// A change of the key in progress: the next key is on the disk and not yet in the log.
pub struct KeyHandover<'a> {
    notary: &'a Notary,
    next: PrivateKey,
    /// The public key that signs now.
    pub from: String,
    /// The public key that will sign.
    pub to: String,
    _changing: MutexGuard<'a, ()>,
}

impl Notary {
    /// Opens the key of the log `log_id`, whose keys' history is `history`.
    ///
    /// A log without any key gets one. A change of the key that a crash broke off is finished or
    /// taken back.
    ///
    /// # Errors
    /// [`KeyError::Lost`] and [`KeyError::Exchanged`] if the file does not hold the log's key.
    pub fn open(
        files: KeyFiles,
        log_id: [u8; 16],
        history: &KeyHistory,
    ) -> Result<Notary, KeyError> {
        let origin = origin(log_id);
        resolve_change(&files, &origin, history)?;
        remove_damaged_public(&files, history)?;
        let expected = expected(&files, &origin, history.key())?;
        let key = match (read_expected(&files.private, &origin, expected.as_deref())?, &expected) {
            (Some(key), _) => key,
            (None, Some(expected)) => {
                return Err(KeyError::Lost { path: files.private, expected: expected.clone() });
            }
            (None, None) => {
                let key = PrivateKey::make()?;
                key.write(&files.private)?;
                tracing::info!(key = %key.verifier(&origin), "made a key for checkpoints");
                key
            }
        };
        let handovers = handover::read_all(&files.handovers, &origin, history)?;
        let notary = Notary::signing_with(key, origin, files, handovers);
        key::warn_of_readers(&notary.files.private);
        if !notary.files.public.exists() {
            notary.remember(history)?;
        }
        Ok(notary)
    }

    /// Checks that [`Notary::open`] will find the key of the log, or can make one, and changes nothing.
    /// Returns the public key; `None` if one will be made.
    ///
    /// # Errors
    /// Those of [`Notary::open`].
    pub fn check(
        files: &KeyFiles,
        log_id: [u8; 16],
        history: &KeyHistory,
    ) -> Result<Option<String>, KeyError> {
        let origin = origin(log_id);
        let path = &files.handovers;
        let listed = handover::paths(path);
        listed.map_err(|error| KeyError::Io { path: path.clone(), error })?;
        if next_is_named(files, &origin, history)? == Some(true) {
            return Ok(history.key().map(str::to_owned));
        }
        let expected = match damaged_public(files, history)? {
            Some(_) if history.key().is_none() => None,
            _ => expected(files, &origin, history.key())?,
        };
        match (read_expected(&files.private, &origin, expected.as_deref())?, expected) {
            (Some(key), _) => Ok(Some(key.verifier(&origin).to_string())),
            (None, Some(expected)) => Err(KeyError::Lost { path: files.private.clone(), expected }),
            (None, None) => files.refuse_place().map(|()| None),
        }
    }

    /// Looks at the files of the key of the log `log_id`, and changes nothing. `is_lost` tells of the
    /// records without which the log was restored: one may be a change of the key.
    pub fn inspect(
        files: &KeyFiles,
        log_id: [u8; 16],
        history: &KeyHistory,
        is_lost: &dyn Fn(Seq) -> bool,
    ) -> InspectedKey {
        let origin = origin(log_id);
        let mut inspected = InspectedKey { changes: history.events.len(), ..Default::default() };
        let mut find = |is_repaired, what| inspected.faults.push(KeyFault { what, is_repaired });
        let private = PrivateKey::read(&files.private);
        let expected = expected(files, &origin, history.key());
        match (damaged_public(files, history), key::read_public(&files.public), &expected) {
            (Ok(Some(what)), ..) => {
                find(
                    true,
                    format!("`checkpoint-key.pub` is not the log's first public key: {what}"),
                );
            }
            (_, Err(error), _) => find(false, error.to_string()),
            (_, _, Err(error @ KeyError::Public { .. })) => find(false, error.to_string()),
            (_, Ok(None), _) if matches!(private, Ok(Some(_))) => {
                find(true, "`checkpoint-key.pub` is missing".to_owned());
            }
            _ => {}
        }
        match handover::inspect(&files.handovers, &origin, history, is_lost) {
            Ok((faults, right)) => {
                faults.into_iter().for_each(|what| find(false, what));
                inspected.handovers = right;
            }
            Err(error) => find(false, format!("`checkpoint-key.handovers`: {error}")),
        }
        let mut find = |what| inspected.faults.push(KeyFault { what, is_repaired: false });
        let named_next = next_is_named(files, &origin, history).ok().flatten() == Some(true);
        match (&private, &expected) {
            (Err(error), _) => find(error.to_string()),
            (Ok(Some(key)), Ok(Some(expected)))
                if !named_next && key.verifier(&origin).to_string() != *expected =>
            {
                find(format!("the private key is not that of `{expected}`"));
            }
            _ => {}
        }
        inspected.has_private = matches!(private, Ok(Some(_)));
        inspected.public = expected.ok().flatten();
        inspected
    }

    /// Opens the key as [`Notary::open`] does, but writes nothing. Returns `None` if there is no
    /// key of this log or it cannot be read.
    pub fn open_read_only(
        files: KeyFiles,
        log_id: [u8; 16],
        history: &KeyHistory,
    ) -> Option<Notary> {
        let origin = origin(log_id);
        let expected = expected(&files, &origin, history.key()).ok()??;
        // During a change the log may name the key that is still in the `.next` file.
        let found = [files.private.clone(), files.next()]
            .iter()
            .find_map(|path| read_expected(path, &origin, Some(&expected)).ok()?);
        key::warn_of_readers(&files.private);
        let mut handovers =
            handover::read_all(&files.handovers, &origin, history).unwrap_or_default();
        handovers.extend(broken_off_handover(&files, &origin, history));
        found.map(|key| Notary::signing_with(key, origin, files, handovers))
    }

    fn signing_with(
        key: PrivateKey,
        origin: String,
        files: KeyFiles,
        handovers: BTreeMap<Seq, String>,
    ) -> Notary {
        let signer = Signer { key, notes: BTreeMap::new(), handovers, unsettled: None };
        Notary { origin, files, signer: Mutex::new(signer), changing: Mutex::default() }
    }

    /// Returns the name under which it signs.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Returns the public key with which it signs.
    pub fn verifier(&self) -> Verifier {
        self.signer.lock().key.verifier(&self.origin)
    }

    /// Returns the signed checkpoint of the first `size` records. Calls `root` for their tree hash
    /// unless the note is cached. If they end with a change of the key, both keys have signed it.
    /// Waits for a change of the key in progress.
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
        // A key must not sign alone a tree that contains the event of its own end. While the key
        // changes this waits, and may then find both signatures.
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

    /// Returns the handover checkpoints of more than `after` and at most `until` records, signed by
    /// both keys, with their sizes, the smallest first. Waits for a change of the key in progress.
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

    /// Begins a change of the key: makes the next key and writes it to the `.next` file. Waits for
    /// another change in progress.
    ///
    /// # Errors
    /// If the key cannot be made or written, if the change before still cannot be written, or if
    /// its outcome is unknown.
    pub fn change(&self) -> Result<KeyHandover<'_>, KeyError> {
        let changing = self.changing.lock();
        // The `.next` file may still hold the key that signs: it must not be overwritten.
        self.settle()?;
        // The log may name the key in this file, its only copy.
        if self.files.next().exists() {
            return Err(KeyError::Pending(self.files.next()));
        }
        let next = PrivateKey::make()?;
        next.write(&self.files.next())?;
        let (from, to) = (self.verifier().to_string(), next.verifier(&self.origin).to_string());
        Ok(KeyHandover { notary: self, next, from, to, _changing: changing })
    }

    /// Writes the last handover, and only then renames the key that signs over the one before.
    fn settle(&self) -> Result<(), KeyError> {
        let mut signer = self.signer.lock();
        let Some(size) = signer.unsettled else { return Ok(()) };
        if let Some(note) = signer.handovers.get(&size) {
            handover::write(&self.files.handovers, size, note)?;
        }
        install_next(&self.files)?;
        signer.unsettled = None;
        Ok(())
    }

    /// Writes the first public key of this log to its file.
    fn remember(&self, history: &KeyHistory) -> Result<(), KeyError> {
        let first = history.events.first().map(|event| event.from.clone());
        let line = format!("{}\n", first.unwrap_or_else(|| self.verifier().to_string()));
        let path = &self.files.public;
        key::write_synced(path, line.as_bytes(), 0o600)
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

impl KeyHandover<'_> {
    /// Finishes the change after the log has recorded it: from now on the new key signs. Returns
    /// the handover checkpoint, signed by both keys. It covers the first `size` records, the last
    /// of which is the event of the change.
    pub fn adopt(self, size: Seq, root: [u8; 32]) -> String {
        let KeyHandover { notary, next, .. } = self;
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
            // Both private keys are on the disk and the log names the new one, so the next start or
            // the next change finishes this one.
            tracing::error!(
                %error,
                "the change of the checkpoint key is unfinished: the new key is still in its \
                `.next` file; the next start or change finishes it"
            );
        }
        note
    }

    /// Takes the change back, if it is certain that the log did not record it. The old key goes on
    /// signing.
    pub fn take_back(self) {
        if let Err(error) = key::remove(&self.notary.files.next()) {
            tracing::error!(%error, "the unused next checkpoint key could not be removed");
        }
    }
}

/// Replaces a lost key. `record` makes the log record the event that names the new public key and
/// returns whether it did. The new key counts from then on: open the key again, with a history that
/// ends with the event. Returns the new public key.
///
/// # Errors
/// If the key cannot be made or written, or was not recorded.
pub fn replace_key(
    files: &KeyFiles,
    log_id: [u8; 16],
    record: impl FnOnce(&str) -> bool,
) -> Result<String, KeyError> {
    let key = PrivateKey::make()?;
    key.write(&files.next())?;
    let to = key.verifier(&origin(log_id)).to_string();
    // The next start resolves the file, whether or not the log has the event.
    if record(&to) { Ok(to) } else { Err(KeyError::Unrecorded) }
}

/// Returns the public key that the key file must have: that of the log's last change, or before any
/// change the one in the public key's file.
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

/// Returns what is wrong with the file of the public key if its text is not a public key any more,
/// or not the one that the log names as its first, while the private key is there: then it is written
/// anew.
///
/// # Errors
/// If it cannot be written anew, and the log does not name the key itself.
fn damaged_public(files: &KeyFiles, history: &KeyHistory) -> Result<Option<String>, KeyError> {
    let path = files.public.clone();
    let what = match (key::read_public(&path), history.events.first()) {
        (Ok(Some(found)), Some(first)) if found.to_string() != first.from => {
            format!("it is `{found}`, and the log's first key was `{}`", first.from)
        }
        (Err(KeyError::Public { what, .. }), _) => what,
        _ => return Ok(None),
    };
    if path.is_dir() {
        let error = io::ErrorKind::IsADirectory.into();
        return Err(KeyError::Io { path, error });
    }
    match (PrivateKey::read(&files.private)?, history.key()) {
        (Some(_), _) => Ok(Some(what)),
        (None, Some(_)) => Ok(None),
        (None, None) => Err(KeyError::Public { path, what }),
    }
}

/// Removes the file of the public key if it is damaged and can be written anew.
fn remove_damaged_public(files: &KeyFiles, history: &KeyHistory) -> Result<(), KeyError> {
    let Some(what) = damaged_public(files, history)? else { return Ok(()) };
    let path = files.public.clone();
    tracing::warn!(path = %path.display(), what, "the file of the public key is damaged: written anew");
    key::remove(&path).map_err(|error| KeyError::Io { path, error })
}

/// Reads a key file and checks that it holds the expected key; `None` if there is no file.
fn read_expected(
    path: &Path,
    origin: &str,
    expected: Option<&str>,
) -> Result<Option<PrivateKey>, KeyError> {
    let Some(key) = PrivateKey::read(path)? else { return Ok(None) };
    let found = key.verifier(origin).to_string();
    match expected {
        Some(expected) if expected != found => {
            Err(KeyError::Exchanged { path: path.to_owned(), found, expected: expected.to_owned() })
        }
        _ => Ok(Some(key)),
    }
}

/// Returns whether the log names the next key; `None` if there is no file of it.
fn next_is_named(
    files: &KeyFiles,
    origin: &str,
    history: &KeyHistory,
) -> Result<Option<bool>, KeyError> {
    match PrivateKey::read(&files.next()) {
        Ok(None) => Ok(None),
        Ok(Some(key)) => Ok(Some(history.key() == Some(&key.verifier(origin).to_string()))),
        // Key files are renamed into place whole, so an unreadable one was never named.
        Err(KeyError::Malformed(_)) => Ok(Some(false)),
        Err(error) => Err(error),
    }
}

/// Finishes a change that a crash broke off if the log names the next key, or else takes it back.
fn resolve_change(files: &KeyFiles, origin: &str, history: &KeyHistory) -> Result<(), KeyError> {
    let next = files.next();
    key::remove_part(&next)?;
    key::remove_part(&files.private)?;
    let Some(named) = next_is_named(files, origin, history)? else { return Ok(()) };
    if !named {
        tracing::info!("removing a checkpoint key that the log never named");
        return key::remove(&next).map_err(|error| KeyError::Io { path: next, error });
    }
    match broken_off_handover(files, origin, history) {
        Some((size, note)) => handover::write(&files.handovers, size, &note)?,
        None => tracing::warn!(
            "the former checkpoint key is missing: no checkpoint is signed by both keys"
        ),
    }
    tracing::info!("finishing a change of the checkpoint key that the log recorded");
    install_next(files)
}

/// Signs the handover checkpoint of a change that a crash broke off after the log recorded it, when
/// both private keys are still there. Returns `None` if there is no such change, or the former key
/// is lost.
fn broken_off_handover(
    files: &KeyFiles,
    origin: &str,
    history: &KeyHistory,
) -> Option<(Seq, String)> {
    let event = history.events.last()?;
    let old = read_expected(&files.private, origin, Some(&event.from)).ok()??;
    let new = read_expected(&files.next(), origin, Some(&event.to)).ok()??;
    let checkpoint = Checkpoint { origin: origin.to_owned(), size: event.size, root: history.root };
    Some((event.size, note::sign(&checkpoint, &[&old.signing, &new.signing])))
}

/// Renames the next key over the one before and syncs that. If it was renamed already, only syncs.
fn install_next(files: &KeyFiles) -> Result<(), KeyError> {
    let next = files.next();
    let installed = if next.exists() {
        key::rename(&next, &files.private)
    } else {
        crate::files::sync_parent(&files.private)
    };
    installed.map_err(|error| KeyError::Io { path: next, error })
}

#[cfg(test)]
mod tests;
