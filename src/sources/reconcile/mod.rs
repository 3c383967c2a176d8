//! Reconciliation: what the source lists, compared with what the log holds. It repairs Rollcall and
//! never the source.

#![allow(dead_code, reason = "the run that uses all of it follows")]

mod compare;
mod door;
mod guard;
mod sort;

pub use door::{Answer, NoAnswer, Source};
pub use guard::{Earlier, Ends, Guard, Tally, run_ends_too_much};
