//! `GET` and `PUT /rollcall/v1/policy`: the treatment of inactive users.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use rollcall_projections::{InactiveUsers, Policy};
use serde_json::{Value, json};

use crate::engine::Engine;
use crate::http::wire::answer::{Code, Problem, done_in_time, pinned, respond};
use crate::http::wire::api::{Access, Bound, Gives, Operation, Reads};
use crate::http::wire::body::Body;
use crate::http::wire::describe::author;
use crate::http::wire::question::Question;
use crate::http::wire::state::State;
use crate::http::wire::threads::blocking;
use crate::keys::Scope;
use crate::time;

const SHAPES: &str = include_str!("policy.schema.json");

/// `GET /rollcall/v1/policy`
pub(crate) const SHOW: Operation = Operation {
    path: "/rollcall/v1/policy",
    name: "getPolicy",
    about: "The policy in force.",
    reads: Reads::AtCut,
    access: Access::keyed(Scope::Read, Bound::Refused),
    gives: Gives::One("Policy"),
    shapes: SHAPES,
    ..Operation::GET
};

/// `PUT /rollcall/v1/policy`
pub(crate) const SET: Operation = Operation {
    path: "/rollcall/v1/policy",
    name: "setPolicy",
    about: "Sets the policy, from now on or from a past moment on. By `known_at`, answers from \
        before it was set stay as they were.",
    access: Access::keyed(Scope::Operate, Bound::Refused),
    takes: Some("PolicySetting"),
    gives: Gives::One("Policy"),
    shapes: SHAPES,
    problems: &[Code::BodyTooLarge, Code::QueueFull, Code::LogUnavailable],
    ..Operation::PUT
};

/// Answers [`SHOW`].
pub(crate) async fn show(
    request: HttpRequest,
    state: web::Data<State>,
) -> Result<HttpResponse, Problem> {
    let question = Question::of(&request, &state, &SHOW)?;
    let (engine, cut) = question.cut().await?;
    let policy = engine.views().policy(cut);
    let body = blocking(move || describe(&engine, policy)).await.flatten();
    Ok(pinned(cut, body.map(|policy| policy.to_string().into_bytes())))
}

/// Answers [`SET`].
pub(crate) async fn set(
    request: HttpRequest,
    payload: web::Payload,
    state: web::Data<State>,
) -> Result<HttpResponse, Problem> {
    let question = Question::of(&request, &state, &SET)?;
    let operator = question.operator.clone();
    let engine = question.finish()?;
    let mut body = Body::of(payload, &state.operator_bodies).await?;
    let inactive_users = body.take_word(
        "inactive_users",
        &InactiveUsers::ALL.map(|treatment| (treatment.word(), treatment)),
    );
    let (effective_from, note) = (body.take_moment("effective_from"), body.take_note());
    body.finish()?;
    let set = engine.set_policy(operator, inactive_users.unwrap_or_default(), effective_from, note);
    let policy = done_in_time(set).await?;
    let body = blocking(move || describe(&engine, Some(policy))).await??;
    Ok(respond(StatusCode::OK).json(body))
}

/// Describes a policy and the key that set it; before the first, the default. Blocks while it reads
/// the log.
fn describe(engine: &Engine, policy: Option<Policy>) -> Result<Value, Problem> {
    let Some(policy) = policy else {
        let inactive_users = InactiveUsers::default().word();
        return Ok(json!({
            "object": "policy", "version": 0, "inactive_users": inactive_users, "seq": null,
            "effective_from": null, "set_at": null, "set_by": null, "note": null,
        }));
    };
    let (set_by, note) = author(engine, policy.seq)?;
    Ok(json!({
        "object": "policy",
        "version": policy.version,
        "inactive_users": policy.inactive_users.word(),
        "seq": policy.seq,
        "effective_from": time::format(policy.effective_from),
        "set_at": time::format(policy.set_at),
        "set_by": set_by,
        "note": note,
    }))
}
