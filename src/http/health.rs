//! `GET /healthz`: the process answers. `GET /readyz`: the log is folded, so that questions and webhooks are answered.

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};

use super::State;
use super::answer::{Problem, json};

/// `GET /healthz`
pub(super) async fn alive() -> HttpResponse {
    json(StatusCode::OK).body(r#"{"status":"ok"}"#)
}

/// `GET /readyz`
pub(super) async fn ready(state: web::Data<State>) -> Result<HttpResponse, Problem> {
    let engine = state.engine()?;
    if engine.has_failed() {
        return Err(Problem::log_unavailable());
    }
    let seq = engine.views().head();
    Ok(json(StatusCode::OK).body(format!(r#"{{"status":"ready","seq":{seq}}}"#)))
}
