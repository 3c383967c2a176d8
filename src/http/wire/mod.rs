//! The plumbing of the calls: declarations, questions, answers, paging. It knows no call.

pub(crate) mod access_log;
pub(crate) mod answer;
pub(crate) mod api;
pub(crate) mod bodies;
pub(crate) mod body;
pub(crate) mod condition;
pub(crate) mod connections;
pub(crate) mod describe;
pub(crate) mod entity;
pub(crate) mod kept;
pub(crate) mod large;
pub(crate) mod limits;
pub(crate) mod metrics;
pub(crate) mod openapi;
pub(crate) mod paging;
#[cfg(test)]
pub(crate) mod patterns;
pub(crate) mod pieces;
pub(crate) mod question;
pub(crate) mod refusals;
pub(crate) mod state;
pub(crate) mod stream;
pub(crate) mod threads;
pub(crate) mod turns;
