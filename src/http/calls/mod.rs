//! The calls, one file a resource. They use the plumbing and not each other.

pub(crate) mod changes;
pub(crate) mod deprovisionings;
pub(crate) mod diff;
pub(crate) mod directories;
pub(crate) mod document;
pub(crate) mod events;
pub(crate) mod groups;
pub(crate) mod health;
pub(crate) mod history;
pub(crate) mod ingest;
pub(crate) mod periods;
pub(crate) mod policy;
pub(crate) mod projections;
pub(crate) mod proofs;
pub(crate) mod quarantine;
pub(crate) mod role_mapping;
pub(crate) mod roles;
pub(crate) mod stats;
pub(crate) mod users;
