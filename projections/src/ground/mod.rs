//! The ground: clocks and the order of events, facts, and the containers that hold them.

pub(crate) mod event_type;
pub(crate) mod fact;
pub(crate) mod glob;
pub(crate) mod holders;
pub(crate) mod likeness;
pub(crate) mod looks;
pub(crate) mod mapping;
pub(crate) mod memory;
pub(crate) mod moments;
pub(crate) mod order;
pub(crate) mod pack;
pub(crate) mod page;
pub(crate) mod quarantine;
pub(crate) mod recorded;
pub(crate) mod room;
pub(crate) mod roster;
pub(crate) mod seqs;
pub(crate) mod symbols;
pub(crate) mod table;
pub(crate) mod timeline;
pub(crate) mod walks;
