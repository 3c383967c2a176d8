//! `GET /directory_users` and `GET /directory_users/{id}`; and, of every directory, `GET
//! /rollcall/v1/users`.

use std::sync::Arc;

use actix_web::{HttpRequest, HttpResponse, web};
use rollcall_projections::{UserFilter, UserRow};

use crate::documents::{Document, DocumentKey, Shape};
use crate::engine::Engine;
use crate::hashes::fingerprint;
use crate::http::wire::answer::{
    Code, Problem, list as list_of, pinned, pinned_with_roles, with_documents,
};
use crate::http::wire::api::{
    AFTER, AFTER_HOLDER, BEFORE, BEFORE_HOLDER, EMAIL, GROUPS, Gives, IDP_ID, LIMIT, LIMIT_OWN,
    Method, NEEDED_EMAIL, OF_DIRECTORY, OF_GROUP, OF_ORGANIZATION, OF_ORGANIZATION_ALIAS, ORDER,
    ORDER_HOLDERS, Operation, ROLE, STATE,
};
use crate::http::wire::entity::{key, push_nested, push_open};
use crate::http::wire::paging::of_all;
use crate::http::wire::question::{Question, id_in_path};
use crate::http::wire::state::State;
use crate::verify::email_fingerprint;

/// `GET /directory_users`
pub(crate) const LIST: Operation = Operation {
    method: Method::Get,
    path: "/directory_users",
    name: "listDirectoryUsers",
    about: "Users with their groups, narrowed to a directory, a group or an organization.",
    parameters: &[
        AFTER,
        BEFORE,
        LIMIT,
        ORDER,
        OF_DIRECTORY,
        OF_GROUP,
        OF_ORGANIZATION,
        OF_ORGANIZATION_ALIAS,
        EMAIL,
        IDP_ID,
        STATE,
        ROLE,
        GROUPS,
    ],
    cut: true,
    keyed: true,
    sensitive: false,
    takes: None,
    gives: Gives::List("DirectoryUser"),
    problems: &[],
};

/// Answers [`LIST`].
pub(crate) async fn list(
    request: HttpRequest,
    state: web::Data<State>,
) -> Result<HttpResponse, Problem> {
    let mut question = Question::of(&request, &state, &LIST)?;
    let paging = question.take_paging(10, 100, true);
    let (directory, group) = (question.take("directory"), question.take("group"));
    let organization = question.take_either("organization_id", "organization");
    let (email, idp_id) = (question.take("email"), question.take("idp_id"));
    let active = question.take_word("state", &[("active", true), ("inactive", false)]);
    let role = question.take("role");
    // Groups are always there.
    question.take_word("groups", &[("true", ()), ("false", ())]);
    question.need_scope(
        directory.is_some() || group.is_some() || organization.is_some(),
        "directory",
        "group",
    );
    let (engine, cut) = question.cut().await?;
    let filter = UserFilter {
        directory: directory.as_deref(),
        group: group.as_deref(),
        organization: organization.as_deref(),
        email: email.map(|email| email_fingerprint(&email)),
        idp_id: idp_id.map(|idp_id| fingerprint(&idp_id)),
        active,
        role: role.as_deref(),
    };
    let (version, page) = {
        let views = engine.views();
        (views.mapping_version(cut), views.users(&filter, cut, paging.window()))
    };
    let cursors = paging.cursors(&page, |row| &row.user.id);
    let items = write(engine, page.items).await;
    Ok(pinned_with_roles(cut, version, items.map(|items| list_of(&items, cursors))))
}

/// `GET /rollcall/v1/users`
pub(crate) const WITH_EMAIL: Operation = Operation {
    method: Method::Get,
    path: "/rollcall/v1/users",
    name: "listEmailHolders",
    about: "Users of any directory and organization who show an email or ever showed it, and whether they do still; by id.",
    parameters: &[NEEDED_EMAIL, AFTER_HOLDER, BEFORE_HOLDER, LIMIT_OWN, ORDER_HOLDERS],
    cut: true,
    keyed: true,
    sensitive: true,
    takes: None,
    gives: Gives::List("EmailHolder"),
    problems: &[Code::CursorInvalid],
};

/// Answers [`WITH_EMAIL`].
pub(crate) async fn with_email(
    request: HttpRequest,
    state: web::Data<State>,
) -> Result<HttpResponse, Problem> {
    let mut question = Question::of(&request, &state, &WITH_EMAIL)?;
    let places = question.take_places(100, 1000);
    if !question.is_given("email") {
        question.error("email", "it is needed");
    }
    let email = question.take("email").unwrap_or_default();
    let (engine, cut) = question.cut().await?;
    let holders = engine.views().email_holders(email_fingerprint(&email), cut);
    let place = |(user, _): &(String, bool)| (user.clone(), String::new());
    let (items, cursors) = places.page(place, |start, descending, limit| {
        of_all(&holders, place, start, descending, limit)
    })?;
    let holder = |(user, shows): &(String, bool)| serde_json::json!({ "object": "email_holder", "user_id": user, "shows": shows });
    let items: Vec<Vec<u8>> =
        items.iter().map(|item| holder(item).to_string().into_bytes()).collect();
    Ok(pinned(cut, Ok(list_of(&items, cursors))))
}

/// `GET /directory_users/{id}`
pub(crate) const ITEM: Operation = Operation {
    method: Method::Get,
    path: "/directory_users/{id}",
    name: "getDirectoryUser",
    about: "One user with its groups.",
    parameters: &[GROUPS],
    cut: true,
    keyed: true,
    sensitive: false,
    takes: None,
    gives: Gives::One("DirectoryUser"),
    problems: &[Code::EntityNotFound],
};

/// Answers [`ITEM`].
pub(crate) async fn item(
    request: HttpRequest,
    state: web::Data<State>,
) -> Result<HttpResponse, Problem> {
    let mut question = Question::of(&request, &state, &ITEM)?;
    question.take_word("groups", &[("true", ()), ("false", ())]);
    let id = id_in_path(&request).ok_or(Code::NotFound)?;
    let (engine, cut) = question.cut().await?;
    let (version, row) = {
        let views = engine.views();
        (views.mapping_version(cut), views.user(&id, cut))
    };
    let body = match row {
        Some(row) => write(engine, vec![row]).await.map(|items| items.concat()),
        None => Err(Problem::entity_not_found("Directory User", &id)),
    };
    Ok(pinned_with_roles(cut, version, body))
}

/// Each row as an object of the API, its groups in it.
async fn write(engine: Arc<Engine>, rows: Vec<UserRow>) -> Result<Vec<Vec<u8>>, Problem> {
    let mut keys: Vec<DocumentKey> = Vec::new();
    for UserRow { user, groups } in &rows {
        keys.push(key(user, Shape::User));
        keys.extend(groups.iter().map(|group| key(group, Shape::Group)));
    }
    with_documents(engine, keys, move |documents: &[Document]| {
        let mut documents = documents.iter();
        rows.iter()
            .map(|UserRow { user, groups }| {
                let mut out = Vec::with_capacity(1024);
                push_open(&mut out, &mut documents, user);
                push_nested(&mut out, "groups", &mut documents, groups);
                out.push(b'}');
                out
            })
            .collect()
    })
    .await
}
