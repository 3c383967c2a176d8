//! `GET /rollcall/v1/quarantine`.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use rollcall_projections::Quarantined;
use serde_json::json;

use crate::http::wire::answer::{Code, Problem, blocking, list_body, respond};
use crate::http::wire::api::{
    Access, Bound, Gives, LIMIT_OWN, Logged, ORDER_OWN, Operation, after, before,
};
use crate::http::wire::question::Question;
use crate::http::wire::state::State;
use crate::keys::Scope;
use crate::time;

const SHAPES: &str = include_str!("quarantine.schema.json");

/// `GET /rollcall/v1/quarantine`
pub(crate) const QUARANTINE: Operation = Operation {
    path: "/rollcall/v1/quarantine",
    name: "listQuarantine",
    about: "Records that could not be used, or were used with a remark, in order of seq.",
    parameters: &[after("1"), before("1"), LIMIT_OWN, ORDER_OWN],
    access: Access::keyed(Scope::Audit, Bound::Own),
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
    let sight = question.sight();
    let engine = question.finish()?;
    let (page, entries) = {
        let views = engine.views();
        let views = views.seen_by(&sight);
        let all = views.quarantine();
        let page = paging.numbers(all.len())?;
        let entries: Vec<Quarantined> =
            page.items.iter().filter_map(|number| all.get(number - 1)).copied().collect();
        (page, entries)
    };
    let cursors = paging.cursors(&page, usize::to_string);
    let items = blocking(move || {
        entries.into_iter().map(|entry| describe(&engine, entry)).collect::<Result<Vec<_>, _>>()
    });
    Ok(respond(StatusCode::OK).body(list_body(&items.await??, cursors)))
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
