//! Rollcall: an event-sourced directory engine.
//!
//! One road: bytes -> [`verify`] -> [`log`] -> [`engine`] (fold and query) -> [`http`]. ARCHITECTURE.md draws the map.

pub mod cli;
pub mod documents;
pub mod engine;
pub mod http;
pub mod json;
pub mod log;
pub mod time;
pub mod verify;
