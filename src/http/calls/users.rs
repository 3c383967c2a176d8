//! `GET /directory_users` and `GET /directory_users/{id}`; and `GET /rollcall/v1/users`, over all
//! directories.

use actix_web::{HttpRequest, HttpResponse, web};
use rollcall_projections::{ListStep, UserFilter, UserRow};
use serde_json::json;

use crate::documents::{DocumentKey, Shape};
use crate::hashes::fingerprint;
use crate::http::wire::answer::{Code, Problem, pinned};
use crate::http::wire::api::{
    AFTER, Access, BEFORE, Bound, Cost, GROUP_ID, Gives, IN_DIRECTORY, LIMIT, LIMIT_OWN, Logged,
    MAPPING_VERSION, OF_ORGANIZATION, OF_ORGANIZATION_ALIAS, ORDER, Operation, Parameter, Reads,
    Switch, Takes, Word, after, before, direction, email, words,
};
use crate::http::wire::entity::{NestedList, Reading, key, push_open, with_documents};
use crate::http::wire::kept::Keepable;
use crate::http::wire::paging::{AT_ONCE, of_all};
use crate::http::wire::question::{Question, id_in_path};
use crate::http::wire::state::State;
use crate::http::wire::threads::blocking;
use crate::http::wire::turns::walk_for;
use crate::keys::Scope;
use crate::verify::email_fingerprint;

const SHAPES: &str = include_str!("users.schema.json");

words! {
    /// The states of a user that a list can be narrowed to.
    UserState { Active = "active", Inactive = "inactive" }
}

const OF_GROUP: Parameter = Parameter::text("group", GROUP_ID, "Member of this group");
const EMAIL: Parameter = email("With this email; case and white space around it do not matter");
const IDP_ID: Parameter =
    Parameter::text("idp_id", "00gb7Clu3RY9lmy4bgF8", "With this id at the identity provider");
const STATE: Parameter =
    Parameter::new("state", Takes::Words(UserState::WORDS), "active", "In this state");
const ROLE: Parameter = Parameter::text(
    "role",
    "developer",
    "With this role: by the mapping in force, before the first as the source says",
);
const GROUPS: Parameter = Parameter::new(
    "groups",
    Takes::Words(Switch::WORDS),
    "true",
    "Changes nothing: groups are always there",
);

const GROUPS_OF_USER: NestedList = NestedList { name: "groups", call: "/directory_groups?user=" };

/// `GET /directory_users`
pub(crate) const LIST: Operation = Operation {
    path: "/directory_users",
    name: "listDirectoryUsers",
    about: "Users with their groups, narrowed to a directory, a group or an organization.",
    parameters: &[
        AFTER,
        BEFORE,
        LIMIT,
        ORDER,
        IN_DIRECTORY,
        OF_GROUP,
        OF_ORGANIZATION,
        OF_ORGANIZATION_ALIAS,
        EMAIL,
        IDP_ID,
        STATE,
        ROLE,
        GROUPS,
    ],
    needs_one_of: &["directory", "group", "organization_id", "organization"],
    reads: Reads::AtCut,
    access: Access::keyed(Scope::Read, Bound::Own),
    logged: Logged::AboutThePast,
    cost: Cost::Walk,
    gives: Gives::List("DirectoryUser"),
    answer_headers: &[MAPPING_VERSION],
    shapes: SHAPES,
    ..Operation::GET
};

/// Answers [`LIST`].
pub(crate) async fn list(
    request: HttpRequest,
    state: web::Data<State>,
) -> Result<HttpResponse, Problem> {
    let mut question = Question::of(&request, &state, &LIST)?;
    let paging = question.take_paging();
    let (directory, group) = (question.take("directory"), question.take("group"));
    let organization = question.take_either("organization_id", "organization");
    let (email, idp_id) = (question.take("email"), question.take("idp_id"));
    let state = question.take_word::<UserState>("state");
    let role = question.take("role");
    // The answer always has the groups.
    question.take_word::<Switch>("groups");
    let sight = question.sight();
    let (engine, cut) = question.cut().await?;
    let keepable = Keepable::of(&request, &engine, &sight, cut);
    if let Some(kept) = keepable.kept() {
        return Ok(kept);
    }
    let is_active = state.map(|state| state == UserState::Active);
    let asking = engine.clone();
    let found = walk_for(&engine, &LIST, move |asker| {
        let filter = UserFilter {
            directory: directory.as_deref(),
            group: group.as_deref(),
            organization: organization.as_deref(),
            email: email.map(|email| email_fingerprint(&email)),
            idp_id: idp_id.map(|idp_id| fingerprint(&idp_id)),
            active: is_active,
            role: role.as_deref(),
        };
        let version = asking.views().mapping_version(cut);
        let step =
            |step: ListStep<'_>| asking.views().seen_by(&sight).users_step(&filter, cut, step);
        let page = paging.walk(asker, step, |row| &row.user.id);
        let mut documents = Reading::of(&asking, paging.in_order_of_writing(&page, keys));
        let id = |row: &UserRow| row.user.id.clone();
        (version, paging.write(page, id, |out, row| write(out, row, &mut documents)))
    });
    let (version, body) = found.await?;
    Ok(keepable.answer(version, body))
}

/// `GET /rollcall/v1/users`
pub(crate) const WITH_EMAIL: Operation = Operation {
    path: "/rollcall/v1/users",
    name: "listEmailHolders",
    about: "Users of any directory and organization who have or ever had an email, and whether \
        they still have it; by id.",
    parameters: &[
        EMAIL.required(),
        after::<(String, String)>("dXNlcl8x."),
        before::<(String, String)>("dXNlcl8x."),
        LIMIT_OWN,
        direction("By id; without it `asc`"),
    ],
    reads: Reads::AtCut,
    access: Access::keyed(Scope::Read, Bound::Own),
    logged: Logged::Always,
    gives: Gives::List("EmailHolder"),
    shapes: SHAPES,
    problems: &[Code::CursorInvalid],
    ..Operation::GET
};

/// Answers [`WITH_EMAIL`].
pub(crate) async fn with_email(
    request: HttpRequest,
    state: web::Data<State>,
) -> Result<HttpResponse, Problem> {
    let mut question = Question::of(&request, &state, &WITH_EMAIL)?;
    let places = question.take_places();
    let email = question.take("email").unwrap_or_default();
    let sight = question.sight();
    let (engine, cut) = question.cut().await?;
    let body = blocking(move || {
        let holders = {
            let views = engine.views();
            views.seen_by(&sight).email_holders(email_fingerprint(&email), cut)
        };
        let place = |(user, _): &(String, bool)| (user.clone(), String::new());
        let walk = |start: Option<(String, String)>, descending: bool, limit: usize| {
            of_all(&holders, place, start, descending, limit)
        };
        let describe = |(user, shows): &(String, bool)| {
            let holder = json!({
                "object": "email_holder",
                "user_id": user,
                "shows": shows,
                "app_user_id": engine.views().app_user(user, cut),
            });
            holder.to_string().into_bytes()
        };
        let write = |items: &[(String, bool)]| Ok(items.iter().map(describe).collect());
        places.write(place, walk, AT_ONCE, write)
    });
    Ok(pinned(cut, Ok(body.await??)))
}

/// `GET /directory_users/{id}`
pub(crate) const ITEM: Operation = Operation {
    path: "/directory_users/{id}",
    name: "getDirectoryUser",
    about: "One user with its groups.",
    parameters: &[GROUPS],
    reads: Reads::AtCut,
    access: Access::keyed(Scope::Read, Bound::Own),
    logged: Logged::AboutThePast,
    gives: Gives::One("DirectoryUser"),
    answer_headers: &[MAPPING_VERSION],
    shapes: SHAPES,
    problems: &[Code::EntityNotFound],
    ..Operation::GET
};

/// Answers [`ITEM`].
pub(crate) async fn item(
    request: HttpRequest,
    state: web::Data<State>,
) -> Result<HttpResponse, Problem> {
    let mut question = Question::of(&request, &state, &ITEM)?;
    question.take_word::<Switch>("groups");
    let id = id_in_path(&request).ok_or(Code::NotFound)?;
    let sight = question.sight();
    let (engine, cut) = question.cut().await?;
    let keepable = Keepable::of(&request, &engine, &sight, cut);
    if let Some(kept) = keepable.kept() {
        return Ok(kept);
    }
    let (version, row) = {
        let views = engine.views();
        (views.mapping_version(cut), views.seen_by(&sight).user(&id, cut))
    };
    let body = match row {
        Some(row) => {
            let keys = keys(&row).collect();
            let write = move |documents: &mut Reading<'_>| {
                let mut out = Vec::new();
                write(&mut out, &row, documents)?;
                Ok(out)
            };
            with_documents(engine, keys, write).await
        }
        None => Err(Problem::entity_not_found("Directory User", &id)),
    };
    Ok(keepable.answer(version, body))
}

/// Returns the keys of a row's documents, in the order in which [`write()`] reads them.
fn keys(row: &UserRow) -> impl Iterator<Item = DocumentKey> {
    let groups = row.groups.rows.iter().map(|group| key(group, Shape::Group));
    [key(&row.user, Shape::User)].into_iter().chain(groups)
}

/// The bytes that complete a document, about.
const COMPLETED_BYTES: usize = 128;

/// Appends a row as an object of the API, with its groups.
fn write(out: &mut Vec<u8>, row: &UserRow, documents: &mut Reading<'_>) -> Result<(), Problem> {
    let (groups, object_at) = (row.groups.rows.len(), out.len());
    out.reserve(documents.bytes_ahead(1 + groups)? + COMPLETED_BYTES * groups);
    push_open(out, documents, &row.user)?;
    GROUPS_OF_USER.push(out, documents, &row.groups, &row.user.id, object_at)?;
    out.push(b'}');
    Ok(())
}
