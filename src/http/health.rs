//! `GET /healthz`: the process answers. `GET /readyz`: the log is folded, so that questions and webhooks are answered.

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};

use super::State;
use super::answer::json;

/// `GET /healthz`
pub(super) async fn alive() -> HttpResponse {
    json(StatusCode::OK).body(r#"{"status":"ok"}"#)
}

/// `GET /readyz`
pub(super) async fn ready(state: web::Data<State>) -> HttpResponse {
    match state.engine() {
        Ok(engine) => json(StatusCode::OK).body(format!(r#"{{"status":"ready","seq":{}}}"#, engine.views().head())),
        Err(problem) => problem.response(),
    }
}
