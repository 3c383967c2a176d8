//! The questions: one file for each kind of answer.

pub(crate) mod access;
pub(crate) mod assignments;
pub(crate) mod candidates;
pub(crate) mod causes;
pub(crate) mod changes;
pub(crate) mod deprovisionings;
pub(crate) mod diff;
pub(crate) mod dump;
pub(crate) mod history;
pub(crate) mod holdings;
pub(crate) mod last_heard;
pub(crate) mod last_shown;
pub(crate) mod links;
pub(crate) mod lists;
#[cfg(test)]
mod long_histories;
pub(crate) mod lookups;
pub(crate) mod mappings;
pub(crate) mod membership_periods;
pub(crate) mod memory;
pub(crate) mod names;
pub(crate) mod observations;
pub(crate) mod overtaken;
pub(crate) mod preview;
pub(crate) mod roles_held;
pub(crate) mod runs;
pub(crate) mod same_person;
pub(crate) mod tables;
pub(crate) mod touched;
pub(crate) mod traffic;
pub(crate) mod unmatched;
