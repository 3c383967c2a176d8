//! What is durable, and what happens when the log or the process fails.

pub mod conformance;
pub mod kills;
pub mod log_faults;
pub mod verify;
