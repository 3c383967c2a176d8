//! Previews of mappings, and what setting one needs beforehand: long work, done in steps. Names are
//! matched while no lock is held, and each lock is held for one step.

use std::sync::atomic::Ordering;

use rollcall_projections::{
    Attributes, Comparison, Cut, Judged, Mapping, Millis, NameMatches, Proposal, RoleChange, Seq,
    Unmatched, UnmatchedSearch,
};

use super::Engine;
use super::attributes::{Snapshot, all_snapshots, read_attributes};
use crate::log::ReadError;

/// The number of names that are matched between two looks at whether the work should go on.
const NAMES_A_STEP: usize = 16;

/// About the nanoseconds that matching the names of all groups with one mapping may take.
const MATCH_WORK_MAX: u64 = 2_000_000_000;

/// The reason why long work ended without a result.
#[derive(Debug, thiserror::Error)]
pub enum WorkError {
    /// The log cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// It was told to end.
    #[error("the work was ended before it was done")]
    Halted,
    /// The globs and names of the mapping take too long to match.
    #[error("the rules of the mapping take too long to match with the names of all groups")]
    TooManyNames,
    /// The mapping and all that were set before it would take too much memory.
    #[error(
        "with it the mappings that were set would take more than {mib_max} MiB of memory: use \
         rules of the mappings before it, which are kept once, or set `mapping_memory_mib` higher"
    )]
    TooManyMappings {
        /// The limit.
        mib_max: u64,
    },
    /// A user has too many grounds for roles.
    #[error("a user has too many grounds for roles by the rules of the mapping")]
    TooManyGrounds,
}

/// Is asked after each step of long work if it goes on.
pub type GoesOn<'a> = &'a (dyn Fn() -> bool + Sync);

/// The index of a mapping that is not set yet, kept apart from the one that serves.
pub struct Prepared {
    /// `None` if the serving index of attributes covers the mapping.
    pub(super) attributes: Option<Attributes>,
    pub(super) until: Seq,
    pub(super) matches: NameMatches,
}

/// The memory that role mappings take, about, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MappingMemory {
    /// The memory of all that were set.
    pub taken: u64,
    /// The most that all may take.
    pub max: u64,
}

impl Engine {
    /// Returns the memory that role mappings take.
    pub fn mapping_memory(&self) -> MappingMemory {
        let max = self.mapping_bytes_max.load(Ordering::Relaxed);
        MappingMemory { taken: self.views().mappings_bytes() as u64, max }
    }

    /// Builds the indexes that a mapping needs. Blocks: it matches the names of all groups, and
    /// reads every snapshot of every user from the log if the mapping has a rule about an attribute
    /// that is new to the serving index.
    ///
    /// # Errors
    /// [`WorkError`].
    pub fn prepare(&self, mapping: &Mapping, goes_on: GoesOn<'_>) -> Result<Prepared, WorkError> {
        let (taken, more) = {
            let views = self.views();
            (views.mappings_bytes(), views.bytes_of_mapping(mapping))
        };
        let bytes_max = self.mapping_bytes_max.load(Ordering::Relaxed);
        if (taken + more) as u64 > bytes_max {
            return Err(WorkError::TooManyMappings { mib_max: bytes_max >> 20 });
        }
        let matches = self.match_names(mapping, goes_on)?;
        let asked = Attributes::of([mapping]);
        let (mut wanted, until) = {
            let views = self.views();
            if views.attributes().covers(&asked) {
                return Ok(Prepared { attributes: None, until: 0, matches });
            }
            (views.attributes_wanted(), views.head())
        };
        wanted.want(mapping);
        let snapshots = all_snapshots(|| self.views(), 0, until);
        if !read_attributes(&*self.log, &mut wanted, &snapshots, goes_on)? {
            return Err(WorkError::Halted);
        }
        Ok(Prepared { attributes: Some(wanted), until, matches })
    }

    /// Makes a mapping ready to be compared, at a cut, with the one in force. Blocks: it matches
    /// the names of all groups, and reads the log if the mapping has rules about attributes.
    ///
    /// # Errors
    /// [`WorkError`].
    pub fn propose(
        &self,
        mapping: Mapping,
        effective_from: Option<Millis>,
        cut: Cut,
        goes_on: GoesOn<'_>,
    ) -> Result<Proposal, WorkError> {
        let matches = self.match_names(&mapping, goes_on)?;
        let mut attributes = Attributes::of([&mapping]);
        if !attributes.is_empty() {
            let mut snapshots = self.snapshots(cut, goes_on)?;
            snapshots.sort_unstable_by_key(|(seq, ..)| *seq);
            if !read_attributes(&*self.log, &mut attributes, &snapshots, goes_on)? {
                return Err(WorkError::Halted);
            }
        }
        let mut proposal = Proposal::new(mapping, attributes, matches, effective_from);
        self.views().catch_up(&mut proposal);
        Ok(proposal)
    }

    /// Returns the snapshots of all users with access at the cut.
    fn snapshots(&self, cut: Cut, goes_on: GoesOn<'_>) -> Result<Vec<Snapshot>, WorkError> {
        let (mut snapshots, mut after) = (Vec::new(), None);
        loop {
            after = self.views().snapshots_step(cut, after.as_deref(), &mut snapshots);
            if after.is_none() {
                return Ok(snapshots);
            }
            if !goes_on() {
                return Err(WorkError::Halted);
            }
        }
    }

    fn match_names(
        &self,
        mapping: &Mapping,
        goes_on: GoesOn<'_>,
    ) -> Result<NameMatches, WorkError> {
        let (mut matches, mut work) = (NameMatches::default(), 0);
        loop {
            let names = self.views().group_names(matches.seen());
            if names.is_empty() {
                return Ok(matches);
            }
            for names in names.chunks(NAMES_A_STEP) {
                work += matches.add(mapping, names);
                if work > MATCH_WORK_MAX {
                    return Err(WorkError::TooManyNames);
                }
                if !goes_on() {
                    return Err(WorkError::Halted);
                }
            }
        }
    }

    /// Compares a proposal with the mapping in force for all users. Hands the changes to `each` in
    /// batches, in order of the users' ids.
    ///
    /// # Errors
    /// [`WorkError`].
    pub fn compare(
        &self,
        proposal: &Proposal,
        cut: Cut,
        goes_on: GoesOn<'_>,
        mut each: impl FnMut(Vec<RoleChange>),
    ) -> Result<Comparison, WorkError> {
        let (mut comparison, mut after) = (Comparison::default(), None);
        loop {
            let step = self.views().compare(proposal, cut, after.as_deref(), &mut comparison);
            if step.too_many_grounds {
                return Err(WorkError::TooManyGrounds);
            }
            each(step.changes);
            after = step.next;
            if after.is_none() {
                return Ok(comparison);
            }
            if !goes_on() {
                return Err(WorkError::Halted);
            }
        }
    }

    /// Returns the warnings about a mapping, which is the one that is judged; and the groups that
    /// no rule fits, of which the first `groups_shown` by id are described.
    ///
    /// # Errors
    /// [`WorkError::Halted`].
    pub fn unmatched(
        &self,
        judged: Judged<'_>,
        mapping: &Mapping,
        cut: Cut,
        groups_shown: usize,
        goes_on: GoesOn<'_>,
    ) -> Result<Unmatched, WorkError> {
        let mut search = UnmatchedSearch::new(cut, groups_shown);
        while !self.views().search_unmatched(judged, &mut search) {
            if !goes_on() {
                return Err(WorkError::Halted);
            }
        }
        Ok(search.finish(mapping))
    }
}
