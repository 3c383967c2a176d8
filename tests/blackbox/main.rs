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

mod calls;
mod cli;
mod faults;
mod house;
mod kit;
mod laws;
mod packages;
mod scim;
mod sink;
