//! The handover checkpoints: each ends with a change of the key and is signed by both keys. An
//! auditor who trusts the old key learns the new one from it. They are kept as long as the log,
//! since they cannot be signed again once the old private key is gone.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use rollcall_projections::Seq;

use super::key::{self, KeyError};
use super::note::{NOTE_BYTES_MAX, Note, Verifier};
use super::publish::{file_name, is_checkpoint};
use crate::files;

/// A change of the key, as the log records it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyEvent {
    /// The record of the change, which is also the size of the checkpoint that ends with it.
    pub size: Seq,
    /// The public key that signed before.
    pub from: String,
    /// The public key that signs after.
    pub to: String,
}

/// The changes of the key that the log has recorded.
#[derive(Clone, Debug, Default)]
pub struct KeyHistory {
    /// Every change, in order.
    pub events: Vec<KeyEvent>,
    /// The tree hash of the records up to the last change; zeros if there is none.
    pub root: [u8; 32],
}

impl KeyHistory {
    /// Returns the current public key, if it ever changed.
    pub(super) fn key(&self) -> Option<&str> {
        self.events.last().map(|event| event.to.as_str())
    }

    fn at(&self, size: Seq) -> Option<&KeyEvent> {
        self.events.iter().find(|event| event.size == size)
    }
}

/// Writes a handover checkpoint into the folder, which is created if it is missing, and syncs it.
/// Overwrites a file of the same name.
pub(super) fn write(folder: &Path, size: Seq, note: &str) -> Result<(), KeyError> {
    let path = folder.join(file_name(size));
    create_folder(folder)
        .and_then(|()| key::write_synced(&path, note.as_bytes(), 0o600))
        .map_err(|error| KeyError::Io { path: path.clone(), error })
}

fn create_folder(folder: &Path) -> io::Result<()> {
    if !folder.is_dir() {
        fs::create_dir(folder)?;
        files::sync_parent(folder)?;
    }
    Ok(())
}

/// Lists the files in the folder, in no order. A folder that is missing has none.
///
/// # Errors
/// If the folder cannot be read.
pub(super) fn paths(folder: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(folder) {
        Ok(entries) => entries.map(|entry| entry.map(|entry| entry.path())).collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Reads the checkpoints in the folder that both keys of a recorded change have signed, by size.
/// Warns of other files and skips them.
///
/// # Errors
/// If the folder cannot be read.
pub(super) fn read_all(
    folder: &Path,
    origin: &str,
    history: &KeyHistory,
) -> Result<BTreeMap<Seq, String>, KeyError> {
    let paths = paths(folder).map_err(|error| KeyError::Io { path: folder.to_owned(), error })?;
    let mut notes = BTreeMap::new();
    for path in paths {
        match read(&path, origin, history) {
            Ok((size, note)) => drop(notes.insert(size, note)),
            Err(why) => {
                tracing::warn!(
                    path = %path.display(),
                    "skipping a file that is not a handover of this log's key: {why}"
                );
            }
        }
    }
    Ok(notes)
}

/// Returns what is wrong with the files in the folder that have names of checkpoints, and the number
/// of those that are right.
///
/// # Errors
/// If the folder cannot be read.
pub(super) fn inspect(
    folder: &Path,
    origin: &str,
    history: &KeyHistory,
    is_lost: &dyn Fn(Seq) -> bool,
) -> io::Result<(Vec<String>, usize)> {
    let (mut faults, mut right) = (Vec::new(), 0);
    for path in paths(folder)? {
        match read(&path, origin, history) {
            Ok(_) => right += 1,
            Err(_) if !is_checkpoint(&path) => {}
            Err(_) if size_of(&path).is_some_and(is_lost) => {}
            Err(why) => {
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                faults.push(format!("`checkpoint-key.handovers/{name}`: {why}"));
            }
        }
    }
    Ok((faults, right))
}

/// Returns the size that the name of a checkpoint says; `None` for any other name.
pub(crate) fn size_of(path: &Path) -> Option<Seq> {
    path.file_stem().filter(|_| is_checkpoint(path))?.to_str()?.parse().ok()
}

fn read(path: &Path, origin: &str, history: &KeyHistory) -> Result<(Seq, String), String> {
    if !is_checkpoint(path) {
        return Err("its name is not a size in 20 digits and `.checkpoint`".into());
    }
    let mut text = String::new();
    let file = files::open_linked(path).map_err(|error| error.to_string())?;
    file.take(NOTE_BYTES_MAX as u64 + 1)
        .read_to_string(&mut text)
        .map_err(|error| error.to_string())?;
    let note = Note::parse(text.as_bytes()).map_err(|error| error.to_string())?;
    let claims = note.claims();
    if claims.origin != origin {
        return Err(format!("it is of `{}`", claims.origin));
    }
    if path.file_name() != Some(file_name(claims.size).as_ref()) {
        return Err(format!("it is of {} records", claims.size));
    }
    let event = history.at(claims.size).ok_or("the log has no change of the key at that record")?;
    for key in [&event.from, &event.to] {
        let key = Verifier::parse(key).map_err(|error| error.to_string())?;
        note.open(&[key]).map_err(|error| error.to_string())?;
    }
    Ok((claims.size, text))
}
