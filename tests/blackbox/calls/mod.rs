//! One file for each HTTP resource.

pub mod access_log;
pub mod changes;
pub mod diff;
pub mod emails;
pub mod events;
mod feed_pages;
pub mod history;
pub mod hosted;
mod import;
pub mod keys;
pub mod last_heard;
pub mod links;
pub mod metrics;
pub mod names;
pub mod openapi;
pub mod operators;
pub mod proofs;
pub mod rebuild;
pub mod roles;
pub mod same_person;
pub mod shapes;
pub mod stats;
pub mod unknown;
pub mod webhooks;
