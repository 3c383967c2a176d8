//! `GET /rollcall/v1/quarantine`.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use rollcall_projections::Quarantined;
use serde_json::json;

use crate::http::wire::answer::{Code, Problem, blocking, respond};
use crate::http::wire::api::{Gives, LIMIT_OWN, Logged, ORDER_OWN, Operation, after, before};
use crate::http::wire::question::Question;
use crate::http::wire::state::State;
use crate::time;

const SHAPES: &str = include_str!("quarantine.schema.json");

/// `GET /rollcall/v1/quarantine`
pub(crate) const QUARANTINE: Operation = Operation {
    path: "/rollcall/v1/quarantine",
    name: "listQuarantine",
    about: "Records that could not be used, or were used with a remark, in order of seq.",
    parameters: &[after("1"), before("1"), LIMIT_OWN, ORDER_OWN],
    logged: Logged::Always,
    gives: Gives::List("QuarantineEntry"),
    shapes: SHAPES,
    problems: &[Code::CursorInvalid],
    ..Operation::GET
};

/// Answers [`QUARANTINE`].
pub(crate) async fn quarantine(
    request: HttpRequest,
    state: web::Data<State>,
) -> Result<HttpResponse, Problem> {
    let mut question = Question::of(&request, &state, &QUARANTINE)?;
    let paging = question.take_paging();
    let engine = question.finish()?;
    let page = paging.numbers(engine.views().quarantine().len())?;
    let body = blocking(move || {
        paging.write(page, usize::to_string, |number| {
            let entry = engine.views().quarantine().get(number - 1).copied();
            describe(&engine, entry.ok_or(Code::Internal)?)
        })
    });
    Ok(respond(StatusCode::OK).body(body.await??))
}

fn describe(engine: &crate::engine::Engine, entry: Quarantined) -> Result<Vec<u8>, Problem> {
    let record = engine.record(entry.seq)?;
    let entry = json!({
        "object": "quarantine_entry",
        "seq": entry.seq,
        "event_id": record.event_id,
        "event": record.event_type,
        "reason": entry.reason.code(),
        "detail": entry.reason.detail(time::format),
        "recorded_at": time::format(record.recorded_at),
    });
    Ok(entry.to_string().into_bytes())
}
