//! The list in a salvaged folder: how many records the log had, and what is missing. docs/format.md
//! specifies it.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use rollcall_projections::Seq;
use serde::{Deserialize, Serialize};

use super::LogId;
use super::acknowledgement::Acknowledgement;
use super::merkle::Hash;

/// The name of the file.
pub(super) const MANIFEST: &str = "salvage.json";
/// The leaves of records that are missing, for which the acknowledged root vouches.
const LOST_LEAVES: &str = "lost-leaves.ndjson";

const OBJECT: &str = "salvage";
const VERSION: u32 = 1;

/// The most bytes of the file that are read.
const BYTES_MAX: u64 = 64 << 20;

/// What a salvage knew of the log.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Manifest {
    object: String,
    version: u32,
    log_id: String,
    /// The number of records that were acknowledged, if that is known.
    pub(super) acknowledged: Option<Seq>,
    /// The tree hash over them, in hex.
    acknowledged_root: Option<String>,
    recovered: u64,
    pub(super) missing: Vec<(Seq, Seq)>,
}

impl Manifest {
    pub(super) fn new(
        log_id: LogId,
        newest: Option<Acknowledgement>,
        recovered: u64,
        missing: &[(Seq, Seq)],
    ) -> Manifest {
        Manifest {
            object: OBJECT.to_owned(),
            version: VERSION,
            log_id: uuid::Uuid::from_bytes(log_id).to_string(),
            acknowledged: newest.map(|newest| newest.size),
            acknowledged_root: newest.and_then(|newest| newest.root).map(hex::encode),
            recovered,
            missing: missing.to_vec(),
        }
    }

    /// Writes and syncs it, and the leaves of missing records, into `folder`.
    pub(super) fn write(&self, folder: &Path, lost: &[(Seq, Hash)]) -> io::Result<()> {
        let mut text = serde_json::to_vec(self)?;
        text.push(b'\n');
        write_new(&folder.join(MANIFEST), &text)?;
        if lost.is_empty() {
            return Ok(());
        }
        let lines = lost.iter().map(|(seq, leaf)| {
            format!("{}\n", serde_json::json!({ "seq": seq, "leaf": hex::encode(leaf) }))
        });
        write_new(&folder.join(LOST_LEAVES), lines.collect::<String>().as_bytes())
    }

    /// Reads the one in `folder`; `None` if there is none.
    ///
    /// # Errors
    /// A description of what is wrong with it.
    pub(super) fn read(folder: &Path) -> Result<Option<Manifest>, String> {
        let file = match File::open(folder.join(MANIFEST)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.to_string()),
        };
        let read: Result<Manifest, _> = serde_json::from_reader(io::Read::take(file, BYTES_MAX));
        let manifest = read.map_err(|error| error.to_string())?;
        match manifest.object == OBJECT && manifest.version == VERSION {
            true => Ok(Some(manifest)),
            false => Err("it is of another version".into()),
        }
    }

    /// Returns whether it is about the log `log_id`.
    pub(super) fn is_of(&self, log_id: LogId) -> bool {
        self.log_id == uuid::Uuid::from_bytes(log_id).to_string()
    }

    /// Returns the acknowledged root, if one is known.
    ///
    /// # Errors
    /// A description, if it is not one.
    pub(super) fn acknowledged_root(&self) -> Result<Option<Hash>, String> {
        let Some(text) = &self.acknowledged_root else { return Ok(None) };
        let bytes = hex::decode(text).ok().and_then(|bytes| bytes.try_into().ok());
        bytes.map(Some).ok_or_else(|| "its root is not 64 digits of hex".into())
    }
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::options().write(true).create_new(true).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}
