//! The feed of changes: `GET /rollcall/v1/changes`.

use std::sync::Arc;
use std::time::Duration;

use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, HttpResponse, web};
use rollcall_projections::{AccessChange, Effect};
use serde_json::{Value, json};

use crate::engine::{Engine, Feed, FeedPlace};
use crate::http::wire::answer::{Code, Cursors, Problem, blocking, list_body, respond};
use crate::http::wire::api::{Gives, LIMIT_OWN, Logged, Operation, Parameter, Takes};
use crate::http::wire::describe::describe_cause;
use crate::http::wire::paging::digits;
use crate::http::wire::question::Question;
use crate::http::wire::state::State;
use crate::time;

const SHAPES: &str = include_str!("changes.schema.json");

const AFTER_CHANGE: Parameter = Parameter::new(
    "after",
    Takes::Form(PLACE_PATTERN),
    "12.1",
    "Only what follows: the `id` of a change, the cursor `after`, or the number of a record that \
    is dealt with",
);
/// The cursors that [`read_place`] reads.
const PLACE_PATTERN: &str = r"^[0-9]{1,20}(?:\.[0-9]{1,20})?$";
const WAIT: Parameter = Parameter::new(
    "wait",
    Takes::Number { min: 0, max: 30, default: 5 },
    "0",
    "How many seconds to wait for a change, if there is none yet",
);

/// `GET /rollcall/v1/changes`
pub(crate) const LIST: Operation = Operation {
    path: "/rollcall/v1/changes",
    name: "listChanges",
    about: "Changes of access and roles, in order of record. Waits if there is none yet. Continue \
        with the cursor `after`, also after an empty page.",
    parameters: &[AFTER_CHANGE, LIMIT_OWN, WAIT],
    logged: Logged::Always,
    gives: Gives::List("Change"),
    shapes: SHAPES,
    problems: &[Code::CursorInvalid, Code::LogUnavailable],
    ..Operation::GET
};

/// Answers [`LIST`].
pub(crate) async fn list(
    request: HttpRequest,
    state: web::Data<State>,
) -> Result<HttpResponse, Problem> {
    let mut question = Question::of(&request, &state, &LIST)?;
    let limit = question.take_limit();
    let after = question.take("after");
    let wait = Duration::from_secs(question.take_number("wait") as u64);
    // The changes are not sent to HEAD, so waiting for them would only hold the connection.
    let wait = if request.method() == Method::HEAD { Duration::ZERO } else { wait };
    let engine = question.finish()?;
    let after = after.map_or(Some(FeedPlace::after(0)), |cursor| read_place(&cursor));
    // A place beyond the last record is from another log, or from one that lost its end. Waiting
    // there would miss changes.
    let after = after
        .filter(|after| after.seq <= engine.views().head())
        .ok_or_else(|| Problem::cursor_invalid("after"))?;
    let feed = follow(&engine, after, limit, wait).await?;
    let items: Vec<Vec<u8>> = feed
        .items
        .iter()
        .map(|(place, change)| describe(*place, change).to_string().into_bytes())
        .collect();
    Ok(respond(StatusCode::OK)
        .body(list_body(&items, Cursors { before: None, after: Some(write_place(feed.next)) })))
}

/// Returns the changes behind a place. If there are none, waits for some, at most for `wait`.
async fn follow(
    engine: &Arc<Engine>,
    after: FeedPlace,
    limit: usize,
    wait: Duration,
) -> Result<Feed, Problem> {
    let read = |after: FeedPlace| {
        let engine = engine.clone();
        async move { finished(blocking(move || engine.feed(after, limit)).await??) }
    };
    let feed = read(after).await?;
    if !feed.items.is_empty() || !feed.at_head || wait.is_zero() {
        return Ok(feed);
    }
    // A record may change nothing: continue until one does, or the time is over.
    let place = std::cell::Cell::new(feed.next);
    let something = async {
        loop {
            engine.wait_until_folded(place.get().seq, wait).await;
            let feed = read(place.get()).await?;
            if !feed.items.is_empty() || engine.is_shutting_down() {
                return Ok(feed);
            }
            place.set(feed.next);
        }
    };
    match tokio::time::timeout(wait, something).await {
        Ok(feed) => feed,
        Err(_) => Ok(Feed { items: Vec::new(), next: place.get(), at_head: true, cut_off: false }),
    }
}

/// Refuses an answer that was cut off: without changes and with its place unmoved it would read as
/// the end of the feed.
///
/// # Errors
/// 503: asking again goes on inside the record.
fn finished(feed: Feed) -> Result<Feed, Problem> {
    if feed.cut_off { Err(Code::LogUnavailable.into()) } else { Ok(feed) }
}

/// Reads `seq.n`, or `seq` for the place behind all changes of that record.
fn read_place(cursor: &str) -> Option<FeedPlace> {
    match cursor.split_once('.') {
        // The highest number is the place behind everything, which is written without one.
        Some((seq, item)) => {
            Some(FeedPlace { seq: digits(seq)?, item: digits(item)?.min(u64::MAX - 1) })
        }
        None => Some(FeedPlace::after(digits(cursor)?)),
    }
}

fn write_place(place: FeedPlace) -> String {
    if place == FeedPlace::after(place.seq) {
        place.seq.to_string()
    } else {
        format!("{}.{}", place.seq, place.item)
    }
}

fn describe(place: FeedPlace, change: &AccessChange) -> Value {
    let (word, role, reason) = match &change.became {
        Effect::AccessGranted => ("access_granted", None, None),
        Effect::AccessRestored => ("access_restored", None, None),
        Effect::AccessEnded(reason) => ("access_ended", None, Some(reason.word())),
        Effect::RoleGained(role) => ("role_gained", Some(role), None),
        Effect::RoleLost(role) => ("role_lost", Some(role), None),
        Effect::HistoryChanged => ("history_changed", None, None),
    };
    json!({
        "object": "change",
        "id": write_place(place),
        "seq": place.seq,
        "change": word,
        "user_id": change.user,
        "directory_id": change.directory,
        "organization_id": change.organization,
        "role": role,
        "reason": reason,
        "occurred_at": time::format(change.occurred_at),
        "recorded_at": time::format(change.cause.recorded_at),
        "cause": describe_cause(&change.cause),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::wire::patterns::assert_agree;

    #[test]
    fn places_are_those_of_their_pattern() {
        let reads = |text: &str| read_place(text).is_some();
        let places = ["12", "12.1", "0", "99999999999999999999.99999999999999999999", "01.02"];
        assert_agree(PLACE_PATTERN, reads, &places, "0123456789.-+ e");
    }
}
