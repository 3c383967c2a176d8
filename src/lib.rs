//! Rollcall: an event-sourced directory engine.
//!
//! One road: bytes -> [`verify`] -> [`log`] -> [`engine`], which folds and answers -> [`documents`]
//! -> [`http`]. ARCHITECTURE.md draws the map, docs/semantics.md says what an answer means,
//! docs/format.md what a stored byte means.

pub mod allocator;
pub mod archive;
pub mod cli;
pub mod delivery;
pub mod documents;
pub mod engine;
pub mod files;
pub mod hashes;
pub mod http;
pub mod json;
pub mod keys;
pub mod log;
pub mod metrics;
pub mod notary;
pub mod percent;
pub mod personal;
pub mod scim;
pub mod sink;
pub mod sources;
pub mod stderr;
pub mod time;
pub mod trust;
pub mod ulid;
pub mod verify;
