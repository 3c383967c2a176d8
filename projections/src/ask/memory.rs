//! The memory that the views take, by index.

use crate::ground::memory;
use crate::views::Views;

/// A part of the views, and about the bytes of memory that it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryPart {
    /// The part, in a few words.
    pub name: &'static str,
    /// About the bytes that it takes, as an allocator rounds them.
    pub bytes: usize,
}

impl Views {
    /// Returns about the memory that each part of the views takes. Walks over everything. Leaves out
    /// what does not grow with the log: mappings, policies, links and what rules ask for.
    pub fn memory(&self) -> Vec<MemoryPart> {
        let [lines, times, seqs, others] = self.events.heap_bytes();
        let [user_ids, user_versions, user_rosters] = self.users.heap_bytes();
        let [group_ids, group_versions, group_rosters] = self.groups.heap_bytes();
        let [pairs, numbers, by_group, by_user] = self.memberships.heap_bytes();
        let parts = [
            ("event ids", self.ids.heap_bytes()),
            ("events: type, organization, directory", lines),
            ("events: when they occurred", times),
            ("events: by type, by organization", seqs),
            ("events: others", others),
            ("when records were recorded", self.recorded.heap_bytes()),
            ("quarantine", memory::of_vec(&self.quarantine)),
            ("user ids", user_ids),
            ("users: versions", user_versions),
            ("users: by directory", user_rosters),
            ("users: by email", self.emails.heap_bytes()),
            ("users: by id at the identity provider", self.idp_ids.heap_bytes()),
            ("group ids", group_ids),
            ("groups: versions", group_versions),
            ("groups: by directory", group_rosters),
            ("memberships: grants", pairs),
            ("memberships: by user and group", numbers),
            ("memberships: by group", by_group),
            ("memberships: by user", by_user),
            ("moments at which access may end", self.loss_index.heap_bytes()),
            ("names and organizations", self.texts.heap_bytes()),
            ("users and groups of identity providers", self.scim.heap_bytes()),
        ];
        parts.into_iter().map(|(name, bytes)| MemoryPart { name, bytes }).collect()
    }
}
