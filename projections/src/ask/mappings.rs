//! The mappings that were set, and the snapshots that their rules look at.

use crate::ground::mapping::Mapping;
use crate::ground::order::{Cut, Millis, Seq};
use crate::state::attributes::Attributes;
use crate::state::compiled_mapping::Compiled;
use crate::state::entities::Part;
use crate::views::Views;

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

    /// Returns the snapshots of all users with access at the cut, each with the user's number.
    pub fn snapshots(&self, cut: Cut) -> Vec<(Seq, Part, u32)> {
        let mut snapshots = Vec::new();
        self.each_with_access(cut, None, usize::MAX, |user, version| {
            snapshots.push((Seq::from(version.place.seq), version.part, user))
        });
        snapshots
    }

    /// Returns every snapshot of every user after record `after`, in order of seq.
    pub fn all_snapshots(&self, after: Seq) -> Vec<(Seq, Part, u32)> {
        let mut snapshots = Vec::new();
        for (user, entity) in self.users.iter() {
            let new = entity
                .versions()
                .filter(|version| !version.deleted && Seq::from(version.place.seq) > after);
            snapshots.extend(new.map(|version| (Seq::from(version.place.seq), version.part, user)));
        }
        snapshots.sort_unstable_by_key(|(seq, ..)| *seq);
        snapshots
    }

    /// Returns the values that the rules of every mapping set, and of another one, ask of
    /// snapshots.
    pub fn attributes_wanted(&self, proposed: Option<&Mapping>) -> Attributes {
        Attributes::of(self.roles.iter().map(|mapping| &mapping.mapping).chain(proposed))
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
