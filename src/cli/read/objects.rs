//! Objects of the API that several commands read.

use rollcall_projections::EventType;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::super::Failure;
use crate::{json, time};

/// Parses an object that the server sent.
///
/// # Errors
/// Ours, if it does not have the expected fields.
pub(super) fn parse<'a, T: Deserialize<'a>>(object: &'a RawValue) -> Result<T, Failure> {
    serde_json::from_str(object.get()).map_err(|_| Failure::unexpected_answer())
}

/// A group and its name at some moment.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct NamedGroup {
    pub(super) id: String,
    pub(super) name: String,
}

impl NamedGroup {
    /// Returns the name, or the id of a group without one.
    pub(super) fn label(&self) -> &str {
        if self.name.is_empty() { &self.id } else { &self.name }
    }
}

/// Reads a text; empty for null.
fn text_or_null<'de, D: Deserializer<'de>>(value: D) -> Result<String, D::Error> {
    Ok(Option::deserialize(value)?.unwrap_or_default())
}

/// The event that began or ended something.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct EventCause {
    /// Its id; empty if the key does not see the event.
    #[serde(deserialize_with = "text_or_null")]
    pub(super) event_id: String,
    pub(super) event: String,
    pub(super) occurred_at: String,
    pub(super) recorded_at: String,
    pub(super) seq: u64,
}

impl EventCause {
    /// Returns the milliseconds from the event to its record; negative if the source's clock is
    /// ahead.
    pub(super) fn delay_ms(&self) -> i64 {
        between_ms(&self.occurred_at, &self.recorded_at)
    }

    /// Returns the event's type; `None` for one that this program does not know.
    pub(super) fn event_type(&self) -> Option<EventType> {
        EventType::parse(&self.event)
    }
}

/// Returns the milliseconds between two moments of the API; negative if `to` is the earlier one.
pub(super) fn between_ms(from: &str, to: &str) -> i64 {
    let moment = |text: &str| time::parse(text).unwrap_or(0);
    moment(to).saturating_sub(moment(from))
}

/// A field and its two values, each in JSON as it was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ChangedField {
    pub(super) name: String,
    pub(super) from: String,
    pub(super) to: String,
}

/// Returns the person's name, as it is given or joined from its parts.
pub(super) fn person_name(user: &RawValue) -> String {
    let [name, first, last] = super::print::texts(user, ["name", "first_name", "last_name"]);
    if name.is_empty() { joined([first, last]) } else { name }
}

/// Joins the texts that are not empty with spaces.
pub(super) fn joined<const N: usize>(texts: [String; N]) -> String {
    texts.into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join(" ")
}

/// Returns the object under `name`.
pub(super) fn nested<'a>(object: &'a RawValue, name: &str) -> Option<&'a RawValue> {
    json::fields(object.get(), [name]).and_then(|[value]| value)
}
