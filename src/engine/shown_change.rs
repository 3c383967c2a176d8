//! Changes of access and roles, as the feed shows them.

use rollcall_projections::{AccessChange, Effect, Seq};
use serde::Serialize;

use super::FeedPlace;
use crate::time;

/// A change as it is sent: a feed is long, and this is written at once.
#[derive(Serialize)]
struct SentChange<'a> {
    app_user_id: Option<&'a str>,
    cause: SentCause<'a>,
    change: &'a str,
    directory_id: &'a str,
    id: String,
    object: &'a str,
    observed: bool,
    occurred_at: String,
    organization_id: &'a str,
    reason: Option<&'a str>,
    recorded_at: &'a str,
    role: Option<&'a str>,
    seq: Seq,
    user_id: &'a str,
}

#[derive(Serialize)]
struct SentCause<'a> {
    event: &'a str,
    event_id: Option<&'a str>,
    occurred_at: String,
    recorded_at: &'a str,
    seq: Seq,
}

/// Writes a change as one object of JSON.
pub fn show_change(place: FeedPlace, change: &AccessChange) -> Vec<u8> {
    let (word, role, reason) = match &change.became {
        Effect::AccessGranted => ("access_granted", None, None),
        Effect::AccessRestored => ("access_restored", None, None),
        Effect::AccessEnded(reason) => ("access_ended", None, Some(reason.word())),
        Effect::RoleGained(role) => ("role_gained", Some(role.as_str()), None),
        Effect::RoleLost(role) => ("role_lost", Some(role.as_str()), None),
        Effect::HistoryChanged => ("history_changed", None, None),
    };
    let recorded_at = time::format(change.cause.recorded_at);
    let cause = SentCause {
        event: &change.cause.event,
        event_id: Some(change.cause.event_id.as_str()).filter(|id| !id.is_empty()),
        occurred_at: time::format(change.cause.occurred_at),
        recorded_at: &recorded_at,
        seq: change.cause.seq,
    };
    let sent = SentChange {
        app_user_id: change.app_user.as_deref(),
        cause,
        change: word,
        directory_id: &change.directory,
        id: place.to_string(),
        object: "change",
        observed: change.cause.is_observation(),
        occurred_at: time::format(change.occurred_at),
        organization_id: &change.organization,
        reason,
        recorded_at: &recorded_at,
        role,
        seq: place.seq,
        user_id: &change.user,
    };
    // Texts and numbers always serialize.
    serde_json::to_vec(&sent).unwrap_or_default()
}
