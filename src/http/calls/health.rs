//! `GET /healthz` and `GET /readyz`: the process answers; questions and webhooks are answered.

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};

use crate::http::wire::answer::{Code, Problem, respond};
use crate::http::wire::api::{Access, Gives, Operation};
use crate::http::wire::state::State;

const SHAPES: &str = include_str!("health.schema.json");

/// `GET /healthz`
pub(crate) const ALIVE: Operation = Operation {
    path: "/healthz",
    name: "health",
    about: "Says that the process answers.",
    access: Access::Open,
    gives: Gives::One("Health"),
    shapes: SHAPES,
    ..Operation::GET
};

/// Answers [`ALIVE`].
pub(crate) async fn alive() -> HttpResponse {
    respond(StatusCode::OK).body(r#"{"status":"ok"}"#)
}

/// `GET /readyz`
pub(crate) const READY: Operation = Operation {
    path: "/readyz",
    name: "readiness",
    about: "Says whether the log is folded and open, so that questions and webhooks are answered.",
    access: Access::Open,
    gives: Gives::One("Readiness"),
    shapes: SHAPES,
    problems: &[Code::LogUnavailable, Code::NotReady],
    ..Operation::GET
};

/// Answers [`READY`].
pub(crate) async fn ready(state: web::Data<State>) -> Result<HttpResponse, Problem> {
    let engine = state.engine()?;
    if engine.refuses_events() {
        return Err(Code::LogUnavailable.into());
    }
    let seq = engine.folded_head();
    Ok(respond(StatusCode::OK).body(format!(r#"{{"status":"ready","seq":{seq}}}"#)))
}
