//! Directories that identity providers push into, and their tokens: `/rollcall/v1/directories`.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use rollcall_projections::{Cut, Deactivation, Named, ScimToken};
use serde_json::{Value, json};

use crate::engine::{ActError, Engine, NewDirectory, NewToken};
use crate::http::wire::answer::{Code, Problem, done_in_time, list_in_pieces, respond};
use crate::http::wire::api::{
    Access, Bound, Gives, LIMIT_OWN, ORDER_OWN, Operation, after, before,
};
use crate::http::wire::body::Body;
use crate::http::wire::entity::{directory_written, must_be_named};
use crate::http::wire::paging::ItemNumber;
use crate::http::wire::question::{Question, id_in_path, id_within_path};
use crate::http::wire::state::State;
use crate::json;
use crate::keys::Scope;
use crate::time;

const SHAPES: &str = include_str!("hosted.schema.json");

/// The type of a directory if none is given.
const GENERIC: &str = "generic scim v2.0";

/// The types of directories that identity providers push into.
const TYPES: [&str; 9] = [
    GENERIC,
    "azure scim v2.0",
    "okta scim v2.0",
    "onelogin scim v2.0",
    "jump cloud scim v2.0",
    "pingfederate scim v2.0",
    "rippling scim v2.0",
    "cyberark scim v2.0",
    "sailpoint scim v2.0",
];

/// `POST /rollcall/v1/directories`
pub(crate) const CREATION: Operation = Operation {
    path: "/rollcall/v1/directories",
    name: "createDirectory",
    about: "Creates a directory that an identity provider pushes into over SCIM, and its first \
        token. The answer alone shows the token.",
    access: Access::keyed(Scope::Operate, Bound::Own),
    takes: Some("NewDirectory"),
    gives: Gives::Created("HostedDirectory"),
    shapes: SHAPES,
    problems: &[Code::LogUnavailable],
    ..Operation::POST
};

/// `GET /rollcall/v1/directories/{id}/tokens`
pub(crate) const TOKENS: Operation = Operation {
    path: "/rollcall/v1/directories/{id}/tokens",
    name: "listDirectoryTokens",
    about: "The tokens that a directory ever had, in the order in which they were created, without \
        their secrets. A directory into which no identity provider pushes has none.",
    parameters: &[after::<ItemNumber>("1"), before::<ItemNumber>("1"), LIMIT_OWN, ORDER_OWN],
    access: Access::keyed(Scope::Operate, Bound::Own),
    gives: Gives::List("DirectoryToken"),
    shapes: SHAPES,
    problems: &[Code::EntityNotFound, Code::CursorInvalid],
    ..Operation::GET
};

/// `POST /rollcall/v1/directories/{id}/tokens`
pub(crate) const TOKEN_CREATION: Operation = Operation {
    path: "/rollcall/v1/directories/{id}/tokens",
    name: "createDirectoryToken",
    about: "Creates another token of a directory. At most two are live at once. The answer alone \
        shows the token.",
    access: Access::keyed(Scope::Operate, Bound::Own),
    takes: Some("NewDirectoryToken"),
    needs_body: false,
    gives: Gives::Created("CreatedDirectoryToken"),
    shapes: SHAPES,
    problems: &[Code::EntityNotFound, Code::Conflict, Code::LogUnavailable],
    ..Operation::POST
};

/// `DELETE /rollcall/v1/directories/{id}/tokens/{token_id}`
pub(crate) const TOKEN_DELETION: Operation = Operation {
    path: "/rollcall/v1/directories/{id}/tokens/{token_id}",
    name: "deleteDirectoryToken",
    about: "Revokes a token at once and for ever. One that is revoked already is not an error.",
    access: Access::keyed(Scope::Operate, Bound::Own),
    gives: Gives::Nothing,
    problems: &[Code::EntityNotFound, Code::QueueFull, Code::LogUnavailable],
    ..Operation::DELETE
};

/// Answers [`CREATION`].
pub(crate) async fn create(
    request: HttpRequest,
    payload: web::Payload,
    state: web::Data<State>,
) -> Result<HttpResponse, Problem> {
    let mut question = Question::of(&request, &state, &CREATION)?;
    let (sight, operator) = (question.sight(), question.operator.clone());
    let engine = question.finish()?;
    let mut body = Body::of(payload, &state.operator_bodies).await?;
    let (name, organization) = (body.take_own_id("name"), body.take_own_id("organization_id"));
    let types = TYPES.map(|name| (name, name));
    let directory_type = body.take_word_if_given("type", &types).unwrap_or(GENERIC);
    let treatments = Deactivation::ALL.map(|treatment| (treatment.word(), treatment));
    let deactivation = body.take_word_if_given("deactivation", &treatments).unwrap_or_default();
    let note = body.take_note();
    body.finish()?;
    let new = NewDirectory {
        name: name.unwrap_or_default(),
        organization: organization.unwrap_or_default(),
        directory_type: directory_type.to_owned(),
        deactivation,
    };
    let token = done_in_time(engine.create_directory(operator, sight.clone(), new, note)).await?;
    let id = token.directory.clone();
    let row = engine.views().seen_by(&sight).directory(&id, Cut::LATEST);
    let row = row.ok_or_else(|| Problem::entity_not_found("Directory", &id))?;
    let directory = directory_written(engine, row).await?;
    let mut directory: Value = serde_json::from_slice(&directory).map_err(|_| Code::Internal)?;
    let url = state.scim_url(&request, &id);
    let scim = json!({
        "url": url,
        "deactivation": deactivation.word(),
        "token": {
            "id": token.id,
            "token": token.token,
            "token_suffix": token.suffix,
            "created_at": time::format(token.created_at),
        },
    });
    json::set(&mut directory, "scim", scim);
    Ok(respond(StatusCode::CREATED).json(directory))
}

/// Answers [`TOKENS`].
pub(crate) async fn tokens(
    request: HttpRequest,
    state: web::Data<State>,
) -> Result<HttpResponse, Problem> {
    let mut question = Question::of(&request, &state, &TOKENS)?;
    let paging = question.take_paging();
    let sight = question.sight();
    let engine = question.finish()?;
    let id = id_within_path(&request).ok_or(Code::NotFound)?;
    must_be_named(&engine, &sight, Cut::LATEST, [Some(Named::Directory(&id))])?;
    let views = engine.views();
    let tokens = views.scim().directory(&id).map_or(&[][..], |directory| &directory.tokens);
    let page = paging.numbers(tokens.len())?;
    let shown = page.items.iter().filter_map(|number| tokens.get(number - 1));
    let items = shown.map(|token| describe(token, &engine).to_string().into_bytes());
    let items: Vec<Vec<u8>> = items.collect();
    Ok(list_in_pieces(items, paging.cursors(&page, usize::to_string)).response())
}

/// Answers [`TOKEN_CREATION`].
pub(crate) async fn create_token(
    request: HttpRequest,
    payload: web::Payload,
    state: web::Data<State>,
) -> Result<HttpResponse, Problem> {
    let mut question = Question::of(&request, &state, &TOKEN_CREATION)?;
    let (sight, operator) = (question.sight(), question.operator.clone());
    let engine = question.finish()?;
    let id = id_within_path(&request).ok_or(Code::NotFound)?;
    let mut body = Body::of_or_empty(payload, &state.operator_bodies).await?;
    let (expires_at, note) = (body.take_moment("expires_at"), body.take_note());
    body.finish()?;
    let created = engine.create_token(operator, sight, id.clone(), expires_at, note);
    match done_in_time(created).await {
        Ok(token) => Ok(respond(StatusCode::CREATED).json(describe_new(&token))),
        Err(error) => Err(refused(error, &id, "")),
    }
}

/// Answers [`TOKEN_DELETION`].
pub(crate) async fn delete_token(
    request: HttpRequest,
    state: web::Data<State>,
) -> Result<HttpResponse, Problem> {
    let mut question = Question::of(&request, &state, &TOKEN_DELETION)?;
    let (sight, operator) = (question.sight(), question.operator.clone());
    let engine = question.finish()?;
    let id = id_within_path(&request).ok_or(Code::NotFound)?;
    let token = id_in_path(&request).ok_or(Code::NotFound)?;
    match done_in_time(engine.revoke_token(operator, sight, id.clone(), token.clone())).await {
        Ok(_) => Ok(respond(StatusCode::NO_CONTENT).finish()),
        Err(error) => Err(refused(error, &id, &token)),
    }
}

/// Returns the problem of an act about a directory and a token.
fn refused(error: ActError, directory: &str, token: &str) -> Problem {
    match error {
        ActError::UnknownDirectory => Problem::entity_not_found("Directory", directory),
        ActError::UnknownToken => Problem::entity_not_found("Directory Token", token),
        other => other.into(),
    }
}

/// Describes a token that was just created, with its secret.
fn describe_new(token: &NewToken) -> Value {
    json!({
        "object": "directory_token",
        "id": token.id,
        "token": token.token,
        "token_suffix": token.suffix,
        "created_at": time::format(token.created_at),
        "expires_at": token.expires_at.map(time::format),
    })
}

/// Describes a token without its secret.
fn describe(token: &ScimToken, engine: &Engine) -> Value {
    json!({
        "object": "directory_token",
        "id": token.id,
        "token_suffix": token.suffix,
        "created_at": time::format(token.created_at),
        "expires_at": token.expires_at.map(time::format),
        "revoked_at": token.revoked_at.map(time::format),
        "last_used_at": engine.token_used_at(&token.id).map(time::format),
    })
}
