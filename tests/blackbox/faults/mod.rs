//! Tests of durability, and of failures of the log and of the process.

pub mod archives;
pub mod backups;
pub mod clocks;
pub mod conformance;
pub mod connections;
pub mod damage;
pub mod descriptors;
pub mod flood_figures;
pub mod floods;
pub mod full_disk;
pub mod fuzzing;
pub mod hangs;
mod interrupted;
pub mod kills;
pub mod log_faults;
pub mod log_lines;
mod lost;
mod metrics_figures;
pub mod pulling;
pub mod reconciling;
pub mod reconciling_guard;
pub mod reconciling_model;
pub mod reconciling_random;
pub mod reconciling_undecided;
pub mod source_figures;
pub mod starts;
pub mod verify;
