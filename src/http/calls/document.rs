//! `GET /openapi.json`: describes every call for programs.

use std::sync::OnceLock;

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};

use crate::http::wire::answer::respond;
use crate::http::wire::api::{Access, Gives, Operation};
use crate::http::wire::openapi::describe;
use crate::http::wire::state::State;

/// `GET /openapi.json`
pub(crate) const SHOW: Operation = Operation {
    path: "/openapi.json",
    name: "describe",
    about: "This document.",
    access: Access::Open,
    gives: Gives::Document,
    ..Operation::GET
};

/// Answers [`SHOW`].
pub(crate) async fn show(state: web::Data<State>) -> HttpResponse {
    static TEXT: OnceLock<String> = OnceLock::new();
    let text = TEXT.get_or_init(|| {
        let mut document = describe(state.operations);
        (state.describe_more)(&mut document);
        document.to_string()
    });
    respond(StatusCode::OK).body(text.as_str())
}
