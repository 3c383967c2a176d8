//! The mappings that were set, and the snapshots that their rules look at.

use crate::ground::mapping::Mapping;
use crate::ground::order::{Cut, Millis, Seq};
use crate::state::attributes::Attributes;
use crate::state::compiled_mapping::Compiled;
use crate::state::entities::Part;
use crate::views::Views;

/// The most users, and about the most versions of users, that one step looks at.
const USERS_A_STEP: usize = 2048;
const VERSIONS_A_STEP: usize = 16_384;

/// A mapping as it was set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MappingSet {
    /// The number of mappings set up to it: the first is 1.
    pub version: usize,
    /// The record that sets it.
    pub seq: Seq,
    /// When it was set.
    pub set_at: Millis,
    /// From when on it counts.
    pub effective_from: Millis,
    /// The rules.
    pub mapping: Mapping,
}

impl Views {
    /// Returns the mapping in force; `None` before the first.
    pub fn mapping(&self, cut: Cut) -> Option<MappingSet> {
        self.roles.in_force(cut).map(mapping_set)
    }

    /// Returns the version of the mapping in force; 0 before the first.
    pub fn mapping_version(&self, cut: Cut) -> usize {
        self.roles.in_force(cut).map_or(0, |mapping| mapping.version)
    }

    /// Returns the mapping of a version, counted from 1.
    pub fn mapping_of_version(&self, version: usize) -> Option<MappingSet> {
        self.roles.iter().nth(version.checked_sub(1)?).map(mapping_set)
    }

    /// Returns the mapping that a record set.
    pub fn mapping_set_by(&self, seq: Seq) -> Option<MappingSet> {
        self.roles.iter().rev().find(|mapping| mapping.seq == seq).map(mapping_set)
    }

    /// Returns the number of mappings set: the version of the last.
    pub fn mapping_versions(&self) -> usize {
        self.roles.iter().len()
    }

    /// Returns about the bytes of memory that all mappings set take.
    pub fn mappings_bytes(&self) -> usize {
        self.roles.bytes()
    }

    /// Returns about the bytes of memory that another mapping would add.
    pub fn bytes_of_mapping(&self, another: &Mapping) -> usize {
        self.roles.bytes_of(another)
    }

    /// Adds the snapshots of the next users with access at the cut, each with the user's number, of
    /// those whose ids follow `after`. Returns the id after which to continue, if there may be more.
    pub fn snapshots_step(
        &self,
        cut: Cut,
        after: Option<&str>,
        snapshots: &mut Vec<(Seq, Part, u32)>,
    ) -> Option<String> {
        self.each_with_access(cut, after, USERS_A_STEP, |user, version| {
            snapshots.push((Seq::from(version.place.seq), version.part, user))
        })
    }

    /// Adds every snapshot that records `after` + 1 to `until` brought of the users from number
    /// `first` on, some at a time. Returns the number at which to continue, if there may be more.
    pub fn all_snapshots_step(
        &self,
        after: Seq,
        until: Seq,
        first: u32,
        snapshots: &mut Vec<(Seq, Part, u32)>,
    ) -> Option<u32> {
        let mut looked_at = 0;
        for (user, entity) in self.users.iter().skip(first as usize) {
            if looked_at >= VERSIONS_A_STEP {
                return Some(user);
            }
            for version in entity.versions() {
                looked_at += 1;
                let seq = Seq::from(version.place.seq);
                if !version.deleted && seq > after && seq <= until {
                    snapshots.push((seq, version.part, user));
                }
            }
        }
        None
    }

    /// Returns the values that the rules of every mapping set ask of snapshots, without any
    /// snapshot noted.
    pub fn attributes_wanted(&self) -> Attributes {
        self.roles.attributes().without_notes()
    }

    /// Returns the attributes noted so far.
    pub fn attributes(&self) -> &Attributes {
        self.roles.attributes()
    }
}

fn mapping_set(mapping: &Compiled) -> MappingSet {
    let Compiled { version, seq, set_at, effective_from, .. } = *mapping;
    MappingSet { version, seq, set_at, effective_from, mapping: mapping.mapping.clone() }
}
