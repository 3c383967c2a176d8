//! `/rollcall/v1/projections`: the state of the views and their rebuilds.

use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::json;

use crate::engine::Rebuild;
use crate::http::wire::answer::{Code, Cursors, Problem, list_in_pieces, respond};
use crate::http::wire::api::{Access, Bound, Cost, Gives, Operation};
use crate::http::wire::question::Question;
use crate::http::wire::state::State;
use crate::http::wire::turns::in_turn;
use crate::keys::Scope;
use crate::time;

const SHAPES: &str = include_str!("projections.schema.json");

/// `GET /rollcall/v1/projections`
pub(crate) const PROJECTIONS: Operation = Operation {
    path: "/rollcall/v1/projections",
    name: "listProjections",
    about: "Each view: its newest record, its number of items, the digest of its dump, and the \
        last rebuild. Of a large log the digests are computed in the background: they are `null` \
        until then.",
    access: Access::keyed(Scope::Operate, Bound::Refused),
    cost: Cost::High,
    gives: Gives::List("Projection"),
    shapes: SHAPES,
    ..Operation::GET
};

/// `POST /rollcall/v1/projections/rebuild`
pub(crate) const REBUILD: Operation = Operation {
    path: "/rollcall/v1/projections/rebuild",
    name: "rebuildProjections",
    about: "Folds the whole log again, then replaces the serving views in one step. Joins a \
        rebuild that is already running.",
    access: Access::keyed(Scope::Operate, Bound::Refused),
    gives: Gives::Begun("Rebuild"),
    shapes: SHAPES,
    ..Operation::POST
};

/// `GET /rollcall/v1/projections/rebuild`
pub(crate) const LAST_REBUILD: Operation = Operation {
    path: "/rollcall/v1/projections/rebuild",
    name: "getRebuild",
    about: "The progress of the last rebuild since the start.",
    access: Access::keyed(Scope::Operate, Bound::Refused),
    gives: Gives::One("Rebuild"),
    shapes: SHAPES,
    problems: &[Code::NotFound],
    ..Operation::GET
};

/// Answers [`LAST_REBUILD`].
pub(crate) async fn last_rebuild(
    request: HttpRequest,
    state: web::Data<State>,
) -> Result<HttpResponse, Problem> {
    let engine = Question::of(&request, &state, &LAST_REBUILD)?.finish()?;
    let last = engine.last_rebuild().ok_or(Code::NotFound)?;
    Ok(respond(StatusCode::OK).json(describe_rebuild(&last)))
}

/// Answers [`PROJECTIONS`].
pub(crate) async fn projections(
    request: HttpRequest,
    state: web::Data<State>,
) -> Result<HttpResponse, Problem> {
    let engine = Question::of(&request, &state, &PROJECTIONS)?.finish()?;
    if request.method() == Method::HEAD {
        // Without a length: only the digests of all views would tell it.
        return Ok(respond(StatusCode::OK).body(actix_web::body::None::new()));
    }
    let asking = engine.clone();
    let body = in_turn(&state.turns, &engine, &PROJECTIONS, move |_| {
        let rebuild = asking.last_rebuild().map(|rebuild| describe_rebuild(&rebuild));
        let items: Vec<Vec<u8>> = asking
            .view_states_at_hand()
            .into_iter()
            .map(|state| {
                let view = json!({
                    "object": "projection",
                    "name": state.view.name(),
                    "version": state.version,
                    "seq": state.seq,
                    "items": state.items,
                    "sha256": state.sha256.map(hex::encode),
                    "rebuild": rebuild,
                });
                view.to_string().into_bytes()
            })
            .collect();
        list_in_pieces(items, Cursors::default())
    });
    Ok(body.await?.response())
}

/// Answers [`REBUILD`].
pub(crate) async fn rebuild(
    request: HttpRequest,
    state: web::Data<State>,
) -> Result<HttpResponse, Problem> {
    let engine = Question::of(&request, &state, &REBUILD)?.finish()?;
    Ok(respond(StatusCode::ACCEPTED).json(describe_rebuild(&engine.rebuild())))
}

/// Describes the progress of a rebuild, by the records that it has read.
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
    json!({
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
