//! Webhooks for trying Rollcall: generated histories of companies, single events, and the
//! signatures that a sender puts on them.
//!
//! The crate has no clock and no source of randomness: moments, seeds and entropy are arguments, so
//! the same arguments always give the same bytes.

mod company;
mod delivery;
mod dice;
mod forge;
mod history;
mod signing;
mod webhook;
mod words;

pub use forge::{EventPlan, ExtraField, ForgeError, Forged};
pub use history::HistoryPlan;
pub use signing::sign;

use chrono::{DateTime, SecondsFormat};
use rollcall_projections::Millis;

/// Writes a moment as a body has it: `2026-01-15T12:00:00.000Z`.
fn timestamp(moment: Millis) -> String {
    let moment = DateTime::from_timestamp_millis(moment).unwrap_or_default();
    moment.to_rfc3339_opts(SecondsFormat::Millis, true)
}
