//! `/rollcall/v1/sink`: the state of the PostgreSQL sink, and its rebuilds.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::{Value, json};

use crate::engine::Engine;
use crate::http::wire::answer::{Code, Problem, respond};
use crate::http::wire::api::{Access, Bound, Gives, Operation};
use crate::http::wire::question::Question;
use crate::http::wire::state::State;
use crate::keys::Scope;
use crate::sink::{Sink, SinkRebuild, SinkReport};
use crate::time;

const SHAPES: &str = include_str!("sink.schema.json");

/// `GET /rollcall/v1/sink`
pub(crate) const SHOW: Operation = Operation {
    path: "/rollcall/v1/sink",
    name: "getSink",
    about: "The state of the PostgreSQL sink: the record at which its tables are, how far they are \
        behind, the last error, and the last rebuild since the start.",
    access: Access::keyed(Scope::Operate, Bound::Refused),
    gives: Gives::One("Sink"),
    shapes: SHAPES,
    ..Operation::GET
};

/// `POST /rollcall/v1/sink/rebuild`
pub(crate) const REBUILD: Operation = Operation {
    path: "/rollcall/v1/sink/rebuild",
    name: "rebuildSink",
    about: "Computes every row of the PostgreSQL sink again, while the tables serve, and exchanges \
        the rows in one transaction. Joins a rebuild that waits or runs.",
    access: Access::keyed(Scope::Operate, Bound::Refused),
    gives: Gives::Begun("Sink"),
    shapes: SHAPES,
    problems: &[Code::NoSink],
    ..Operation::POST
};

/// Answers [`SHOW`].
pub(crate) async fn show(
    request: HttpRequest,
    state: web::Data<State>,
) -> Result<HttpResponse, Problem> {
    let engine = Question::of(&request, &state, &SHOW)?.finish()?;
    Ok(respond(StatusCode::OK).json(describe(state.sink.as_deref(), &engine)))
}

/// Answers [`REBUILD`].
pub(crate) async fn rebuild(
    request: HttpRequest,
    state: web::Data<State>,
) -> Result<HttpResponse, Problem> {
    let engine = Question::of(&request, &state, &REBUILD)?.finish()?;
    let sink = state.sink.as_ref().ok_or(Code::NoSink)?;
    sink.request_rebuild();
    Ok(respond(StatusCode::ACCEPTED).json(describe(Some(sink), &engine)))
}

/// Describes the sink, also if there is none.
fn describe(sink: Option<&Sink>, engine: &Engine) -> Value {
    let report = sink.map_or_else(SinkReport::off, |sink| sink.report(engine.folded_head()));
    let SinkReport { state, position, lag_records, lag_ms, applied, failures, .. } = report;
    let SinkReport { last_error, rebuild, .. } = report;
    json!({
        "object": "sink",
        "place": sink.map(Sink::place),
        "schema": sink.map(Sink::schema),
        "state": state.word(),
        "position": position,
        "lag": lag_records,
        "lag_ms": lag_ms,
        "applied": applied,
        "failures": failures,
        "last_error": last_error.map(|error| json!({
            "message": error.message,
            "at": time::format(error.at),
        })),
        "rebuild": rebuild.as_ref().map(describe_rebuild),
    })
}

fn describe_rebuild(rebuild: &SinkRebuild) -> Value {
    let state = match (rebuild.finished_at, &rebuild.error) {
        (None, _) => "running",
        (Some(_), Some(_)) => "failed",
        (Some(_), None) => "done",
    };
    json!({
        "id": rebuild.number,
        "state": state,
        "requested_at": time::format(rebuild.requested_at),
        "finished_at": rebuild.finished_at.map(time::format),
        "error": rebuild.error,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::SinkState;

    #[test]
    fn the_schema_lists_every_state() {
        let shapes: Value = serde_json::from_str(SHAPES).unwrap();
        let listed = shapes["Sink"]["properties"]["state"]["enum"].as_array().unwrap();
        assert_eq!(listed, &SinkState::ALL.map(|state| Value::from(state.word())));
    }
}
