//! `GET /rollcall/v1/quarantine`.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use rollcall_projections::{Page, Quarantined};
use serde_json::json as object;

use crate::http::wire::answer::{Code, Problem, json, list as list_of};
use crate::http::wire::api::{
    AFTER_OWN, BEFORE_OWN, Gives, LIMIT_OWN, Method, ORDER_OWN, Operation,
};
use crate::http::wire::question::Question;
use crate::http::wire::state::State;
use crate::time;

/// `GET /rollcall/v1/quarantine`
pub(crate) const QUARANTINE: Operation = Operation {
    method: Method::Get,
    path: "/rollcall/v1/quarantine",
    name: "listQuarantine",
    about: "What was kept and could not be used, or was used with a remark, in order of seq.",
    parameters: &[AFTER_OWN, BEFORE_OWN, LIMIT_OWN, ORDER_OWN],
    cut: false,
    keyed: true,
    sensitive: true,
    takes: None,
    gives: Gives::List("QuarantineEntry"),
    problems: &[Code::CursorInvalid],
};

/// Answers [`QUARANTINE`].
pub(crate) async fn quarantine(
    request: HttpRequest,
    state: web::Data<State>,
) -> Result<HttpResponse, Problem> {
    let mut question = Question::of(&request, &state, &QUARANTINE)?;
    let paging = question.take_paging(100, 1000, false);
    let engine = question.finish()?;
    let page = {
        let views = engine.views();
        let all = views.quarantine();
        let (numbers, more_before, more_after) = paging.numbers(all.len())?;
        let items: Vec<(String, Quarantined)> = numbers
            .filter_map(|number| Some((number.to_string(), *all.get(number - 1)?)))
            .collect();
        Page { items, more_before, more_after }
    };
    let cursors = paging.cursors(&page, |(number, _)| number);
    let items = web::block(move || {
        page.items
            .into_iter()
            .map(|(_, entry)| describe(&engine, entry))
            .collect::<Result<Vec<_>, _>>()
    });
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
