//! `GET /rollcall/v1/users/{id}/last_heard`: the newest records about a user and its directory.

use actix_web::{HttpRequest, HttpResponse, web};
use rollcall_projections::{LastHeard, LastHeardStep};
use serde_json::json;

use crate::http::wire::answer::{Code, Problem, pinned};
use crate::http::wire::api::{Access, Bound, Gives, Logged, Operation, Reads};
use crate::http::wire::describe::describe_cause;
use crate::http::wire::question::{Question, id_within_path};
use crate::http::wire::state::State;
use crate::http::wire::threads::blocking;
use crate::keys::Scope;

/// `GET /rollcall/v1/users/{id}/last_heard`
pub(crate) const OF_USER: Operation = Operation {
    path: "/rollcall/v1/users/{id}/last_heard",
    name: "getUserLastHeard",
    about: "The newest record about a user, and the newest of its directory: how fresh the answers \
        about the user are.",
    reads: Reads::AtCut,
    access: Access::keyed(Scope::Audit, Bound::Own),
    logged: Logged::Always,
    gives: Gives::One("LastHeard"),
    shapes: include_str!("last_heard.schema.json"),
    problems: &[Code::EntityNotFound],
    ..Operation::GET
};

/// Answers [`OF_USER`].
pub(crate) async fn of_user(
    request: HttpRequest,
    state: web::Data<State>,
) -> Result<HttpResponse, Problem> {
    let mut question = Question::of(&request, &state, &OF_USER)?;
    let sight = question.sight();
    let id = id_within_path(&request).ok_or(Code::NotFound)?;
    let (engine, cut) = question.cut().await?;
    let found = blocking(move || {
        let mut before = None;
        loop {
            let step = engine.views().seen_by(&sight).last_heard(&id, cut, before);
            match step.ok_or_else(|| Problem::entity_not_found("Directory User", &id))? {
                LastHeardStep::Found(heard) => return Ok(describe(&id, &heard)),
                LastHeardStep::Before(seq) => before = Some(seq),
            }
        }
    });
    Ok(pinned(cut, found.await?))
}

fn describe(id: &str, heard: &LastHeard) -> Vec<u8> {
    let directory = Some(&heard.directory).filter(|directory| !directory.is_empty());
    json!({
        "object": "last_heard",
        "user_id": id,
        "user": heard.user.as_ref().map(describe_cause),
        "directory_id": directory,
        "directory": heard.of_directory.as_ref().map(describe_cause),
    })
    .to_string()
    .into_bytes()
}
