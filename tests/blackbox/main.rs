//! Black-box tests: the real binary, the real store in a temporary folder, real HTTP. Where a law
//! speaks of the fold alone, or a fault must be made, the same road is walked in this process.

#![allow(unreachable_pub, reason = "the modules of a test binary are its own")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod access_log;
mod acting;
mod audit_command_line;
mod audit_equals_model;
mod command_line;
mod comparing;
mod conformance;
mod diffing;
mod durability;
mod events;
mod faults;
mod feed;
mod generating;
mod histories;
mod history;
mod house;
mod indexes;
mod kit;
mod large_story;
mod laws;
mod model;
mod model_equals_server;
mod openapi;
mod operators;
mod orders;
mod paging;
mod performing;
mod proofs;
mod reading;
mod reading_events;
mod rebuilding;
mod road;
mod roles;
mod roles_command_line;
mod roles_equal_model;
mod shapes;
mod shrinking;
mod signatures;
mod stats;
mod stories;
mod verifying;
