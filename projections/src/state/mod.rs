//! The state that the fold keeps: the timelines of each thing, and the indexes over them.

pub(crate) mod attributes;
pub(crate) mod compiled_mapping;
pub(crate) mod directories;
pub(crate) mod entities;
pub(crate) mod events;
pub(crate) mod intake;
pub(crate) mod links;
pub(crate) mod living;
pub(crate) mod loss_index;
pub(crate) mod memberships;
pub(crate) mod name_matches;
pub(crate) mod observations;
pub(crate) mod policies;
pub(crate) mod roles;
pub(crate) mod scim;
pub(crate) mod turning_records;
