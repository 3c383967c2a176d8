//! The bodies of records, loaded for answers that compare snapshots.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use rollcall_projections::{Seq, VersionRef};

use crate::documents::snapshot;
use crate::engine::Engine;
use crate::log::ReadError;

/// How many versions are compared at once: the bodies of so many, and of those before them, are
/// held in memory.
pub(crate) const BODIES_AT_ONCE: usize = 32;

/// The bodies that some versions stand in.
pub(crate) struct Bodies(BTreeMap<Seq, Bytes>);

impl Bodies {
    /// Reads them. Blocks.
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

    /// Reads those of records. Blocks.
    ///
    /// # Errors
    /// If the log cannot be read.
    pub(crate) fn of(engine: &Engine, seqs: BTreeSet<Seq>) -> Result<Bodies, ReadError> {
        let seqs: Vec<Seq> = seqs.into_iter().collect();
        let bodies = engine.load_bodies(&seqs)?;
        Ok(Bodies(seqs.into_iter().zip(bodies).collect()))
    }

    /// A record's body; empty if it was not read.
    pub(crate) fn get(&self, seq: Seq) -> &[u8] {
        self.0.get(&seq).map_or(&[], |body| body)
    }

    pub(crate) fn snapshot(&self, version: VersionRef) -> &str {
        snapshot(self.get(version.seq), version.part)
    }
}
