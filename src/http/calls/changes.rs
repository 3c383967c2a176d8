//! The feed of changes: `GET /rollcall/v1/changes`.

use std::sync::Arc;
use std::time::Duration;

use actix_web::http::Method;
use actix_web::{HttpRequest, HttpResponse, web};
use rollcall_projections::Sight;

use crate::engine::{CountedUser, Engine, Feed, FeedCursor, FeedPlace, show_change};
use crate::http::wire::answer::{Code, Cursors, Problem, list_in_pieces};
use crate::http::wire::api::{
    Access, Bound, Gives, LIMIT_OWN, Logged, Operation, Parameter, Takes,
};
use crate::http::wire::paging::digits;
use crate::http::wire::question::Question;
use crate::http::wire::state::{Revoked, State};
use crate::http::wire::threads::blocking;
use crate::keys::{Operator, Scope};
use crate::time;

const SHAPES: &str = include_str!("changes.schema.json");

const AFTER_CHANGE: Parameter = Parameter::new(
    "after",
    Takes::Form(PLACE_PATTERN),
    "12.1",
    "Only what follows: the `id` of a change, the cursor `after`, or the number of a record that \
    is dealt with",
);
/// The cursors that [`read_cursor`] reads.
const PLACE_PATTERN: &str =
    r"^[0-9]{1,20}(?:\.[0-9]{1,20}(?:\.[0-9]{1,20}(?:\.(?:[0-9a-fA-F]{2})+)?)?)?$";
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
    access: Access::keyed(Scope::Read, Bound::Own),
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
    let (sight, operator) = (question.sight(), question.operator.clone());
    let engine = question.finish()?;
    let start = || Some(FeedCursor::from(FeedPlace::after(0)));
    let after = after.map_or_else(start, |cursor| read_cursor(&cursor));
    // A place beyond the last record is from another log, or from one that lost its end. Waiting
    // there would miss changes.
    let after = after
        .filter(|after| after.place.seq <= engine.folded_head())
        .ok_or_else(|| Problem::cursor_invalid("after"))?;
    let feed = tokio::select! {
        feed = follow(&state, &engine, &sight, after.clone(), limit, wait) => feed?,
        revoked = state.keys.revoked(&operator) => without_rights(revoked, after)?,
        problem = expiry(&operator) => return Err(problem),
    };
    let items: Vec<Vec<u8>> =
        feed.items.iter().map(|(place, change)| show_change(*place, change)).collect();
    let cursors = Cursors { before: None, after: Some(write_cursor(&feed.next)) };
    Ok(list_in_pieces(items, cursors).response())
}

/// Ends a question whose key has changed meanwhile. A client with other rights asks again from its
/// place, and is judged by them.
///
/// # Errors
/// 401, if the key was removed.
fn without_rights(revoked: Revoked, next: FeedCursor) -> Result<Feed, Problem> {
    match revoked {
        Revoked::Removed => Err(Code::Unauthorized.into()),
        Revoked::Changed => Ok(Feed { items: Vec::new(), next, at_head: true, work: 0 }),
    }
}

/// Waits until the key's time is over, and returns the refusal that its holder gets from then on.
async fn expiry(operator: &Operator) -> Problem {
    let Some(expires_at) = operator.key().expires_at else { return std::future::pending().await };
    // The clock may be set meanwhile, so it is read again.
    while !operator.key().has_expired(time::now_ms()) {
        let left_ms = expires_at.saturating_sub(time::now_ms()).clamp(1, LOOK_AGAIN_MS_MAX);
        tokio::time::sleep(Duration::from_millis(left_ms.unsigned_abs())).await;
    }
    Problem::key_expired(operator.key())
}

/// The longest time after which the clock is read again.
const LOOK_AGAIN_MS_MAX: i64 = 1000;

/// Returns the changes behind a cursor. If there are none, waits for some, at most for `wait`.
///
/// # Errors
/// 429 instead of a wait, if too many others wait.
async fn follow(
    state: &State,
    engine: &Arc<Engine>,
    sight: &Sight,
    after: FeedCursor,
    limit: usize,
    wait: Duration,
) -> Result<Feed, Problem> {
    let read = |after: FeedCursor| {
        let (engine, sight) = (engine.clone(), sight.clone());
        let feed = move || engine.feed(&sight, &after, limit);
        async move { Ok::<Feed, Problem>(blocking(feed).await??) }
    };
    let feed = read(after).await?;
    if !feed.items.is_empty() || !feed.at_head || wait.is_zero() {
        return Ok(feed);
    }
    let Ok(_waiting) = state.long_polls.try_acquire() else {
        state.turns.count_refused();
        return Err(Problem::too_many_long_polls());
    };
    // A record may change nothing: continue until one does, or the time is over.
    let next = std::cell::RefCell::new(feed.next);
    let something = async {
        let seq = next.borrow().place.seq;
        engine.wait_until_folded(seq, wait).await;
        loop {
            let after = next.borrow().clone();
            let feed = read(after).await?;
            if !feed.items.is_empty() || engine.is_shutting_down() {
                return Ok(feed);
            }
            let (seq, at_head) = (feed.next.place.seq, feed.at_head);
            next.replace(feed.next);
            if at_head {
                engine.wait_until_folded(seq, wait).await;
            }
        }
    };
    match tokio::time::timeout(wait, something).await {
        Ok(feed) => feed,
        Err(_) => Ok(Feed { items: Vec::new(), next: next.into_inner(), at_head: true, work: 0 }),
    }
}

/// Reads `seq.n`, or `seq` for the place behind all changes of that record. Behind `seq.n` may
/// follow the number of changes that are counted, and in hexadecimal digits the user up to whom; or
/// the number of pauses alone.
fn read_cursor(cursor: &str) -> Option<FeedCursor> {
    let mut parts = cursor.splitn(3, '.');
    let seq = digits(parts.next()?)?;
    let Some(item) = parts.next() else { return Some(FeedPlace::after(seq).into()) };
    // The highest number is the place behind everything, which is written without one.
    let place = FeedPlace { seq, item: digits(item)?.min(u64::MAX - 1) };
    let (counted, pauses) = match parts.next() {
        Some(counted) if counted.contains('.') => (Some(read_counted(counted)?), 0),
        Some(pauses) => (None, digits(pauses)?),
        None => (None, 0),
    };
    // More than are dealt with cannot be counted: such a cursor would miss some.
    let counted = counted.filter(|counted| counted.changes <= place.item);
    Some(FeedCursor { place, counted, pauses })
}

fn read_counted(text: &str) -> Option<CountedUser> {
    let (changes, user) = text.split_once('.')?;
    // The user need not exist, so any bytes name a place.
    let user = hex::decode(user).ok().filter(|user| !user.is_empty())?;
    let user = String::from_utf8_lossy(&user).into_owned();
    Some(CountedUser { user: Some(user), changes: digits(changes)? })
}

/// The longest id of a user that a cursor holds, in bytes.
const USER_BYTES_MAX: usize = 450;

fn write_cursor(cursor: &FeedCursor) -> String {
    let place = cursor.place;
    match &cursor.counted {
        // With a longer id the cursor would be longer than a parameter may be. The server then goes
        // on from its own mark within the record.
        Some(CountedUser { user: Some(user), changes }) if user.len() <= USER_BYTES_MAX => {
            format!("{place}.{changes}.{}", hex::encode(user))
        }
        _ if cursor.pauses > 0 => format!("{place}.{}", cursor.pauses),
        _ => place.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::wire::patterns::assert_agree;

    #[test]
    fn places_are_those_of_their_pattern() {
        let reads = |text: &str| read_cursor(text).is_some();
        let longest = "99999999999999999999.99999999999999999999";
        let places =
            ["12", "12.1", "0", longest, "01.02", "7.3.2", "7.3.2.757365725f31", "7.3.2.FF"];
        assert_agree(PLACE_PATTERN, reads, &places, "0123456789aF.-+ e");
    }

    #[test]
    fn a_cursor_is_read_as_it_was_written() {
        let place = FeedPlace { seq: 7, item: 3 };
        let counted = Some(CountedUser { user: Some("user_1".into()), changes: 2 });
        for (cursor, text) in [
            (FeedPlace::after(7).into(), "7"),
            (place.into(), "7.3"),
            (FeedCursor { place, counted: None, pauses: 2 }, "7.3.2"),
            (FeedCursor { place, counted, pauses: 0 }, "7.3.2.757365725f31"),
        ] {
            assert_eq!(write_cursor(&cursor), text);
            assert_eq!(read_cursor(text), Some(cursor));
        }
    }
}
