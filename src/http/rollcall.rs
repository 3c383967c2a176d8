//! Rollcall's own calls, under `/rollcall/v1/`.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use rollcall_projections::{Page, Quarantined};
use serde_json::json as object;

use super::State;
use super::answer::{Code, Problem, json, list as list_of};
use super::api::{AFTER_OWN, BEFORE_OWN, Gives, LIMIT_OWN, Method, ORDER_OWN, Operation};
use super::question::Question;
use crate::engine::Rebuild;
use crate::time;

/// `GET /rollcall/v1/quarantine`
pub(super) const QUARANTINE: Operation = Operation {
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
pub(super) async fn quarantine(
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

/// `GET /rollcall/v1/projections`
pub(super) const PROJECTIONS: Operation = Operation {
    method: Method::Get,
    path: "/rollcall/v1/projections",
    name: "listProjections",
    about: "Each view: how far it is, how many items it has, the digest of its dump, and the last rebuild.",
    parameters: &[],
    cut: false,
    keyed: true,
    sensitive: false,
    takes: None,
    gives: Gives::List("Projection"),
    problems: &[],
};

/// `POST /rollcall/v1/projections/rebuild`
pub(super) const REBUILD: Operation = Operation {
    method: Method::Post,
    path: "/rollcall/v1/projections/rebuild",
    name: "rebuildProjections",
    about: "Folds the whole log beside the serving views, which it then replaces in one step. Joins a rebuild that runs already.",
    parameters: &[],
    cut: false,
    keyed: true,
    sensitive: false,
    takes: None,
    gives: Gives::Begun("Rebuild"),
    problems: &[],
};

/// `GET /rollcall/v1/projections/rebuild`
pub(super) const LAST_REBUILD: Operation = Operation {
    method: Method::Get,
    path: "/rollcall/v1/projections/rebuild",
    name: "getRebuild",
    about: "How far the last rebuild since the start is.",
    parameters: &[],
    cut: false,
    keyed: true,
    sensitive: false,
    takes: None,
    gives: Gives::One("Rebuild"),
    problems: &[Code::NotFound],
};

/// Answers [`LAST_REBUILD`].
pub(super) async fn last_rebuild(
    request: HttpRequest,
    state: web::Data<State>,
) -> Result<HttpResponse, Problem> {
    let engine = Question::of(&request, &state, &LAST_REBUILD)?.finish()?;
    let last = engine.last_rebuild().ok_or(Code::NotFound)?;
    Ok(json(StatusCode::OK).json(describe_rebuild(&last)))
}

/// Answers [`PROJECTIONS`].
pub(super) async fn projections(
    request: HttpRequest,
    state: web::Data<State>,
) -> Result<HttpResponse, Problem> {
    let engine = Question::of(&request, &state, &PROJECTIONS)?.finish()?;
    let body = web::block(move || {
        let rebuild = engine.last_rebuild().map(|rebuild| describe_rebuild(&rebuild));
        let items: Vec<Vec<u8>> = engine
            .view_states()
            .into_iter()
            .map(|state| {
                let view = object!({
                    "object": "projection",
                    "name": state.view.name(),
                    "version": state.version,
                    "seq": state.seq,
                    "items": state.items,
                    "sha256": hex::encode(state.sha256),
                    "rebuild": rebuild,
                });
                view.to_string().into_bytes()
            })
            .collect();
        list_of(&items, [None, None])
    });
    Ok(json(StatusCode::OK).body(body.await.map_err(|_| Code::Internal)?))
}

/// Answers [`REBUILD`].
pub(super) async fn rebuild(
    request: HttpRequest,
    state: web::Data<State>,
) -> Result<HttpResponse, Problem> {
    let engine = Question::of(&request, &state, &REBUILD)?.finish()?;
    Ok(json(StatusCode::ACCEPTED).json(describe_rebuild(&engine.rebuild())))
}

/// How far a rebuild is, by what it has really read.
fn describe_rebuild(rebuild: &Rebuild) -> serde_json::Value {
    let (read, total) = rebuild.progress();
    let finished_at = rebuild.finished_at();
    let elapsed_ms = (finished_at.unwrap_or_else(time::now_ms) - rebuild.started_at).max(1);
    let rate_per_s = read.saturating_mul(1000) / elapsed_ms.unsigned_abs();
    let left_ms = if finished_at.is_some() {
        Some(0)
    } else {
        (total.saturating_sub(read)).saturating_mul(1000).checked_div(rate_per_s)
    };
    let state = match (finished_at, rebuild.has_failed()) {
        (None, _) => "running",
        (Some(_), true) => "failed",
        (Some(_), false) => "done",
    };
    object!({
        "object": "rebuild",
        "id": rebuild.number,
        "state": state,
        "started_at": time::format(rebuild.started_at),
        "finished_at": finished_at.map(time::format),
        "head": rebuild.head,
        "read": read,
        "total": total,
        "rate_per_s": rate_per_s,
        "left_ms": left_ms,
    })
}
