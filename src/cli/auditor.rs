//! Files and keys that an auditor holds: public keys and signed notes.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use serde_json::Value;

use super::Failure;
use super::table::harmless;
use crate::notary::{NOTE_BYTES_MAX, Note, Verifier};

/// The longest file of public keys, in bytes.
const KEYS_BYTES_MAX: usize = 64 << 10;

/// Parses public keys that are given as texts or as files.
///
/// # Errors
/// The caller's, also if no key is given.
pub(super) fn read_keys(given: &[String]) -> Result<Vec<Verifier>, Failure> {
    if given.is_empty() {
        return Err(Failure::Caller(
            "no key is given: give --key with the log's public key, from the operator of the log; \
             a key that came with the proof would prove nothing"
                .into(),
        ));
    }
    let mut keys = Vec::new();
    for text in given {
        match Verifier::parse(text.trim()) {
            Ok(key) => keys.push(key),
            Err(error) => keys.extend(read_key_file(Path::new(text), &error.to_string())?),
        }
    }
    Ok(keys)
}

fn read_key_file(path: &Path, why: &str) -> Result<Vec<Verifier>, Failure> {
    if !path.exists() {
        let text = harmless(&path.display().to_string());
        return Err(Failure::Caller(format!(
            "`{text}` is neither a public key ({why}) nor a file"
        )));
    }
    let bytes = read_bounded(path, KEYS_BYTES_MAX)?;
    let lines = String::from_utf8_lossy(&bytes);
    let keys = lines
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .map(Verifier::parse)
        .collect::<Result<Vec<_>, _>>();
    match keys {
        Ok(keys) if keys.is_empty() => Err(not_a_key_file(path, "it is empty")),
        Ok(keys) => Ok(keys),
        Err(error) => Err(not_a_key_file(path, &error.to_string())),
    }
}

fn not_a_key_file(path: &Path, why: &str) -> Failure {
    Failure::Caller(format!(
        "`{}` is not a file of public keys: {why}; `rollcall log-key show --vkey > log.pub` writes \
         one",
        path.display()
    ))
}

/// Reads a file that is not longer than `bytes_max`; `-` is standard input.
///
/// # Errors
/// The caller's; they name the file.
pub(super) fn read_bounded(path: &Path, bytes_max: usize) -> Result<Vec<u8>, Failure> {
    match read_at_most(path, bytes_max) {
        Ok(bytes) if bytes.len() > bytes_max => Err(Failure::Caller(format!(
            "cannot read `{}`: it is longer than {bytes_max} bytes",
            path.display()
        ))),
        Ok(bytes) => Ok(bytes),
        Err(error) => Err(Failure::Caller(format!("cannot read `{}`: {error}", path.display()))),
    }
}

/// Reads the first `bytes_max` bytes and, if there is one, the byte after them.
fn read_at_most(path: &Path, bytes_max: usize) -> io::Result<Vec<u8>> {
    let source: Box<dyn Read> = match path.to_str() {
        Some("-") => Box::new(io::stdin()),
        _ => Box::new(File::open(path)?),
    };
    let mut bytes = Vec::new();
    source.take(bytes_max as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Returns the public keys in an answer of `GET /rollcall/v1/log/key`: all that the log ever had.
pub(super) fn keys_of(answer: &Value) -> Vec<Verifier> {
    let former = answer.get("former").and_then(Value::as_array).into_iter().flatten();
    let keys = former.chain([answer]).filter_map(|key| key.get("key").and_then(Value::as_str));
    keys.filter_map(|key| Verifier::parse(key).ok()).collect()
}

/// Reads a signed note from a file. Returns its text and the parsed note.
///
/// # Errors
/// The caller's; they name the file.
pub(super) fn read_note(path: &Path) -> Result<(String, Note), Failure> {
    let bytes = read_bounded(path, NOTE_BYTES_MAX)?;
    let note = Note::parse(&bytes)
        .map_err(|error| Failure::Caller(format!("`{}`: {error}", path.display())))?;
    Ok((String::from_utf8_lossy(&bytes).into_owned(), note))
}
