//! `GET /healthz`: the process answers. `GET /readyz`: the log is folded, so that questions and
//! webhooks are answered.

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};

use super::State;
use super::answer::{Code, Problem, json};
use super::api::{Gives, Method, Operation};

/// `GET /healthz`
pub(super) const ALIVE: Operation = Operation {
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
pub(super) async fn alive() -> HttpResponse {
    json(StatusCode::OK).body(r#"{"status":"ok"}"#)
}

/// `GET /readyz`
pub(super) const READY: Operation = Operation {
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
pub(super) async fn ready(state: web::Data<State>) -> Result<HttpResponse, Problem> {
    let engine = state.engine()?;
    if engine.has_failed() {
        return Err(Code::LogUnavailable.into());
    }
    let seq = engine.views().head();
    Ok(json(StatusCode::OK).body(format!(r#"{{"status":"ready","seq":{seq}}}"#)))
}
