//! The commands, as people and programs run them.

pub mod audit;
pub mod commands;
pub mod config;
mod confirm;
mod deliveries;
mod describe;
mod freshness;
pub mod generate;
pub mod hosted;
mod import;
mod key;
pub mod large_sync;
pub mod links;
mod moments;
mod names;
mod quarantine;
mod reach;
pub mod read;
pub mod read_events;
pub mod roles;
mod send;
pub mod serving;
mod sources;
mod status;
