//! The bodies of records, loaded for answers that compare snapshots.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use rollcall_projections::{Seq, VersionRef};

use crate::documents::snapshot;
use crate::engine::Engine;
use crate::log::ReadError;

/// The number of versions that are compared at once. Their bodies, and those of the versions before
/// them, are held in memory.
pub(crate) const BODIES_AT_ONCE: usize = 8;

/// The bodies of some records.
pub(crate) struct Bodies(BTreeMap<Seq, Bytes>);

impl Bodies {
    /// Reads the bodies that have these versions. Blocks.
    ///
    /// # Errors
    /// If the log cannot be read.
    pub(crate) fn load(
        engine: &Engine,
        versions: impl Iterator<Item = VersionRef>,
    ) -> Result<Bodies, ReadError> {
        let seqs: BTreeSet<Seq> = versions.map(|version| version.seq).collect();
        Bodies::of(engine, seqs)
    }

    /// Reads the bodies of these records. Blocks.
    ///
    /// # Errors
    /// If the log cannot be read.
    pub(crate) fn of(engine: &Engine, seqs: BTreeSet<Seq>) -> Result<Bodies, ReadError> {
        let seqs: Vec<Seq> = seqs.into_iter().collect();
        let bodies = engine.load_bodies(&seqs)?;
        Ok(Bodies(seqs.into_iter().zip(bodies).collect()))
    }

    /// Returns a record's body; empty if it was not read.
    pub(crate) fn get(&self, seq: Seq) -> &[u8] {
        self.0.get(&seq).map_or(&[], |body| body)
    }

    pub(crate) fn snapshot(&self, version: VersionRef) -> &str {
        snapshot(self.get(version.seq), version.part)
    }
}
