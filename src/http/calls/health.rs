//! `GET /healthz`: the process answers. `GET /readyz`: the log is folded, so that questions and
//! webhooks are answered.

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};

use crate::http::wire::answer::{Code, Problem, json};
use crate::http::wire::api::{Gives, Method, Operation};
use crate::http::wire::state::State;

/// `GET /healthz`
pub(crate) const ALIVE: Operation = Operation {
    method: Method::Get,
    path: "/healthz",
    name: "health",
    about: "Whether the process answers.",
    parameters: &[],
    cut: false,
    keyed: false,
    sensitive: false,
    takes: None,
    gives: Gives::One("Health"),
    problems: &[],
};

/// Answers [`ALIVE`].
pub(crate) async fn alive() -> HttpResponse {
    json(StatusCode::OK).body(r#"{"status":"ok"}"#)
}

/// `GET /readyz`
pub(crate) const READY: Operation = Operation {
    method: Method::Get,
    path: "/readyz",
    name: "readiness",
    about: "Whether the log is folded and taken, so that questions and webhooks are answered.",
    parameters: &[],
    cut: false,
    keyed: false,
    sensitive: false,
    takes: None,
    gives: Gives::One("Readiness"),
    problems: &[Code::LogUnavailable, Code::NotReady],
};

/// Answers [`READY`].
pub(crate) async fn ready(state: web::Data<State>) -> Result<HttpResponse, Problem> {
    let engine = state.engine()?;
    if engine.has_failed() {
        return Err(Code::LogUnavailable.into());
    }
    let seq = engine.views().head();
    Ok(json(StatusCode::OK).body(format!(r#"{{"status":"ready","seq":{seq}}}"#)))
}
