//! Rollcall's own calls, under `/rollcall/v1/`.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use rollcall_projections::{Page, Quarantined};
use serde_json::json as object;

use super::State;
use super::answer::{Code, Problem, json, list as list_of};
use super::api::{AFTER_OWN, BEFORE_OWN, Gives, LIMIT_OWN, ORDER_OWN, Operation};
use super::question::Question;
use crate::time;

/// `GET /rollcall/v1/quarantine`
pub(super) const QUARANTINE: Operation = Operation {
    path: "/rollcall/v1/quarantine",
    name: "listQuarantine",
    about: "What was kept and could not be used, or was used with a remark, in order of seq.",
    parameters: &[AFTER_OWN, BEFORE_OWN, LIMIT_OWN, ORDER_OWN],
    cut: false,
    keyed: true,
    gives: Gives::List("QuarantineEntry"),
    problems: &[Code::CursorInvalid],
};

/// Answers [`QUARANTINE`].
pub(super) async fn quarantine(request: HttpRequest, state: web::Data<State>) -> Result<HttpResponse, Problem> {
    let mut question = Question::of(&request, &state, &QUARANTINE)?;
    let paging = question.take_paging(100, 1000, false);
    let engine = question.finish()?;
    let window = paging.window();
    // A cursor is an entry's number, counted from 1 in order of seq: nothing is ever taken out of the list. It need not exist yet.
    let number = |field: &str, cursor: Option<&str>| match cursor.map(|cursor| cursor.parse::<usize>()) {
        None => Ok(None),
        Some(Ok(number @ 1..)) => Ok(Some(number)),
        Some(_) => Err(Problem::cursor_invalid(field)),
    };
    let (after, before) = (number("after", window.after)?, number("before", window.before)?);
    let page = {
        let views = engine.views();
        let all = views.quarantine();
        // Places count from 0 in the list's own order: entry n stands at n - 1, or in descending order at the length less n.
        let at = |number: usize| if window.descending { all.len().saturating_sub(number) } else { (number - 1).min(all.len()) };
        let behind = |number: usize| if window.descending { (all.len() + 1).saturating_sub(number) } else { number.min(all.len()) };
        let (start, end) = match (after.map(behind), before.map(at)) {
            (None, Some(end)) => (end.saturating_sub(window.limit), end),
            (start, _) => (start.unwrap_or(0), (start.unwrap_or(0) + window.limit).min(all.len())),
        };
        let numbers = (start..end).map(|place| if window.descending { all.len() - place } else { place + 1 });
        let items: Vec<(String, Quarantined)> = numbers.filter_map(|number| Some((number.to_string(), *all.get(number - 1)?))).collect();
        Page { items, more_before: start > 0, more_after: end < all.len() }
    };
    let cursors = paging.cursors(&page, |(number, _)| number);
    let items = web::block(move || page.items.into_iter().map(|(_, entry)| describe(&engine, entry)).collect::<Result<Vec<_>, _>>());
    let items = items.await.map_err(|_| Code::Internal)??;
    Ok(json(StatusCode::OK).body(list_of(&items, cursors)))
}

fn describe(engine: &crate::engine::Engine, entry: Quarantined) -> Result<Vec<u8>, Problem> {
    let record = engine.record(entry.seq)?;
    let entry = object!({
        "object": "quarantine_entry",
        "seq": entry.seq,
        "event_id": record.event_id,
        "event": record.event_type,
        "reason": entry.reason.code(),
        "detail": entry.reason.detail(),
        "recorded_at": time::format(record.recorded_at),
    });
    Ok(entry.to_string().into_bytes())
}

/// `GET /rollcall/v1/projections`
pub(super) const PROJECTIONS: Operation = Operation {
    path: "/rollcall/v1/projections",
    name: "listProjections",
    about: "Each view: how far it is, how many items it has, and the digest of its dump.",
    parameters: &[],
    cut: false,
    keyed: true,
    gives: Gives::List("Projection"),
    problems: &[],
};

/// Answers [`PROJECTIONS`].
pub(super) async fn projections(request: HttpRequest, state: web::Data<State>) -> Result<HttpResponse, Problem> {
    let engine = Question::of(&request, &state, &PROJECTIONS)?.finish()?;
    let states = web::block(move || engine.view_states()).await.map_err(|_| Code::Internal)?;
    let items: Vec<Vec<u8>> = states
        .into_iter()
        .map(|state| {
            let view = object!({
                "object": "projection",
                "name": state.view.name(),
                "seq": state.seq,
                "items": state.items,
                "sha256": hex::encode(state.sha256),
            });
            view.to_string().into_bytes()
        })
        .collect();
    Ok(json(StatusCode::OK).body(list_of(&items, [None, None])))
}
