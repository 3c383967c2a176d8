//! `/rollcall/v1/sources` and `/rollcall/v1/pull`: the server that events are pulled from.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::json;

use crate::http::wire::answer::{Code, Cursors, Problem, list_in_pieces, respond};
use crate::http::wire::api::{Access, Bound, Gives, Operation};
use crate::http::wire::describe::describe_source;
use crate::http::wire::question::Question;
use crate::http::wire::state::State;
use crate::keys::Scope;
use crate::time;

const SHAPES: &str = include_str!("sources.schema.json");

/// `GET /rollcall/v1/sources`
pub(crate) const LIST: Operation = Operation {
    path: "/rollcall/v1/sources",
    name: "listSources",
    about: "The servers that events are pulled from: how far, how old, and the last error. The \
        counts begin with the server's start.",
    access: Access::keyed(Scope::Operate, Bound::Refused),
    gives: Gives::List("Source"),
    shapes: SHAPES,
    ..Operation::GET
};

/// `POST /rollcall/v1/pull`
pub(crate) const PULL: Operation = Operation {
    path: "/rollcall/v1/pull",
    name: "pull",
    about: "Asks the source for new events now. The pull has reached the end once the source's \
        `caught_up_at` is `requested_at` or later.",
    access: Access::keyed(Scope::Operate, Bound::Refused),
    gives: Gives::Begun("PullRequest"),
    shapes: SHAPES,
    problems: &[Code::NoSource],
    ..Operation::POST
};

/// Answers [`LIST`].
pub(crate) async fn list(
    request: HttpRequest,
    state: web::Data<State>,
) -> Result<HttpResponse, Problem> {
    let engine = Question::of(&request, &state, &LIST)?.finish()?;
    let described = |source| describe_source(source, &engine).to_string().into_bytes();
    let items: Vec<Vec<u8>> = state.source.iter().map(|source| described(source)).collect();
    Ok(list_in_pieces(items, Cursors::default()).response())
}

/// Answers [`PULL`].
pub(crate) async fn pull(
    request: HttpRequest,
    state: web::Data<State>,
) -> Result<HttpResponse, Problem> {
    let engine = Question::of(&request, &state, &PULL)?.finish()?;
    let source = state.source.as_ref().ok_or(Code::NoSource)?;
    let requested_at = source.request_pull();
    Ok(respond(StatusCode::ACCEPTED).json(json!({
        "object": "pull_request",
        "requested_at": time::format(requested_at),
        "source": describe_source(source, &engine),
    })))
}
