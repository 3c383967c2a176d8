//! The checkpoints that end with a change of the key, signed by both keys. Whoever trusts the old
//! key learns the new one from them, so they are kept for as long as the log is: once the old
//! private key is gone, nobody can sign them again.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use rollcall_projections::Seq;

use super::key::{self, KeyError};
use super::note::{NOTE_BYTES_MAX, Note, Verifier};
use super::publish::{file_name, is_checkpoint};

/// A change of the key, as the log tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyEvent {
    /// The record that says so: the checkpoint of so many records ends with it.
    pub size: Seq,
    /// The public key that signed until then.
    pub from: String,
    /// The public key that signs from then on.
    pub to: String,
}

/// What the log knows about its keys.
#[derive(Clone, Debug, Default)]
pub struct KeyHistory {
    /// Every change, in order.
    pub events: Vec<KeyEvent>,
    /// The tree hash of the records up to the last change; nothing before the first.
    pub root: [u8; 32],
}

impl KeyHistory {
    /// The public key that counts, if it ever changed.
    pub(super) fn key(&self) -> Option<&str> {
        self.events.last().map(|event| event.to.as_str())
    }

    fn at(&self, size: Seq) -> Option<&KeyEvent> {
        self.events.iter().find(|event| event.size == size)
    }
}

/// Writes one into the folder, which is made if it is not there, and syncs it. What is there under
/// its name already is written again.
pub(super) fn write(folder: &Path, size: Seq, note: &str) -> Result<(), KeyError> {
    let path = folder.join(file_name(size));
    let written = (|| {
        if !folder.is_dir() {
            fs::create_dir(folder)?;
            key::sync_parent(folder)?;
        }
        key::write_synced(&path, note.as_bytes(), 0o644)
    })();
    written.map_err(|error| KeyError::Io { path: path.clone(), error })
}

/// Reads those in the folder that both keys of a change in the log have signed, by size. What else
/// lies there is told of and passed over.
///
/// # Errors
/// If the folder cannot be read.
pub(super) fn read_all(
    folder: &Path,
    origin: &str,
    history: &KeyHistory,
) -> Result<BTreeMap<Seq, String>, KeyError> {
    let io_error = |error| KeyError::Io { path: folder.to_owned(), error };
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(io_error(error)),
    };
    let mut notes = BTreeMap::new();
    for entry in entries {
        let path = entry.map_err(io_error)?.path();
        match read(&path, origin, history) {
            Ok((size, note)) => drop(notes.insert(size, note)),
            Err(why) => {
                tracing::warn!(path = %path.display(), "this is no hand-over of this log's key, and is passed over: {why}")
            }
        }
    }
    Ok(notes)
}

fn read(path: &PathBuf, origin: &str, history: &KeyHistory) -> Result<(Seq, String), String> {
    if !is_checkpoint(path) {
        return Err("its name is not a size in 20 digits and `.checkpoint`".into());
    }
    let mut text = String::new();
    let file = File::open(path).map_err(|error| error.to_string())?;
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
    let event = history.at(claims.size).ok_or("the log has no change of the key there")?;
    for key in [&event.from, &event.to] {
        let key = Verifier::parse(key).map_err(|error| error.to_string())?;
        note.open(&[key]).map_err(|error| error.to_string())?;
    }
    Ok((claims.size, text))
}
