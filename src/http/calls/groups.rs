//! `GET /directory_groups` and `GET /directory_groups/{id}`.

use std::sync::Arc;

use actix_web::{HttpRequest, HttpResponse, web};
use rollcall_projections::{Cut, EntityRow, GroupFilter, NESTED_MAX, Nested, Sight};

use crate::documents::{Document, DocumentKey, Shape};
use crate::engine::Engine;
use crate::http::wire::answer::{
    Code, Problem, blocking, list_body, pinned_with_roles, with_documents,
};
use crate::http::wire::api::{
    AFTER, Access, BEFORE, Bound, Gives, IN_DIRECTORY, LIMIT, Logged, MAPPING_VERSION,
    OF_ORGANIZATION, OF_ORGANIZATION_ALIAS, ORDER, Operation, Parameter, Reads, Switch, Takes,
    USER_ID, Word,
};
use crate::http::wire::entity::{NestedList, key, push_open};
use crate::http::wire::question::{Question, id_in_path};
use crate::http::wire::state::State;
use crate::keys::Scope;

const SHAPES: &str = include_str!("groups.schema.json");

const WITH_MEMBER: Parameter = Parameter::text("user", USER_ID, "With this member");
const MEMBERS: Parameter = Parameter::new(
    "members",
    Takes::Words(Switch::WORDS),
    "true",
    "Whether each group holds its members; of more than 1000 it holds the first, and says so",
);

/// The numbers of members that are described, or only counted, under one lock.
const DESCRIBED_STEP: usize = 256;
const COUNTED_STEP: usize = 8192;

const MEMBERS_OF_GROUP: NestedList =
    NestedList { name: "members", call: "/directory_users?group=" };

/// `GET /directory_groups`
pub(crate) const LIST: Operation = Operation {
    path: "/directory_groups",
    name: "listDirectoryGroups",
    about: "Groups, narrowed to a directory, a user or an organization.",
    parameters: &[
        AFTER,
        BEFORE,
        LIMIT,
        ORDER,
        IN_DIRECTORY,
        WITH_MEMBER,
        OF_ORGANIZATION,
        OF_ORGANIZATION_ALIAS,
        MEMBERS,
    ],
    needs_one_of: &["directory", "user", "organization_id", "organization"],
    reads: Reads::AtCut,
    access: Access::keyed(Scope::Read, Bound::Own),
    logged: Logged::AboutThePast,
    gives: Gives::List("DirectoryGroup"),
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
    let (directory, user) = (question.take("directory"), question.take("user"));
    let organization = question.take_either("organization_id", "organization");
    let members = take_members(&mut question);
    let sight = question.sight();
    let (engine, cut) = question.cut().await?;
    let filter = GroupFilter {
        directory: directory.as_deref(),
        user: user.as_deref(),
        organization: organization.as_deref(),
    };
    let (version, page) = {
        let views = engine.views();
        let page = views.seen_by(&sight).groups(&filter, cut, paging.window());
        (views.mapping_version(cut), page)
    };
    let cursors = paging.cursors(&page, |row| row.id.clone());
    let items = write(engine, page.items, members.then_some(sight), cut).await;
    Ok(pinned_with_roles(cut, version, items.map(|items| list_body(&items, cursors))))
}

/// `GET /directory_groups/{id}`
pub(crate) const ITEM: Operation = Operation {
    path: "/directory_groups/{id}",
    name: "getDirectoryGroup",
    about: "One group.",
    parameters: &[MEMBERS],
    reads: Reads::AtCut,
    access: Access::keyed(Scope::Read, Bound::Own),
    logged: Logged::AboutThePast,
    gives: Gives::One("DirectoryGroup"),
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
    let members = take_members(&mut question);
    let id = id_in_path(&request).ok_or(Code::NotFound)?;
    let sight = question.sight();
    let (engine, cut) = question.cut().await?;
    let (version, row) = {
        let views = engine.views();
        (views.mapping_version(cut), views.seen_by(&sight).group(&id, cut))
    };
    let body = match row {
        Some(row) => write(engine, vec![row], members.then_some(sight), cut)
            .await
            .map(|items| items.concat()),
        None => Err(Problem::entity_not_found("Directory Group", &id)),
    };
    Ok(pinned_with_roles(cut, version, body))
}

fn take_members(question: &mut Question) -> bool {
    question.take_word("members") == Some(Switch::On)
}

/// Returns the members of a group that is alive at the cut. The lock on the views is released
/// between steps: a group may have any number of members.
fn members_of(engine: &Engine, sight: &Sight, group: &str, cut: Cut) -> Nested {
    let (mut nested, mut after) = (Nested::default(), None::<String>);
    loop {
        let rows_max = NESTED_MAX - nested.rows.len();
        let limit = if rows_max > 0 { DESCRIBED_STEP } else { COUNTED_STEP };
        let step = {
            let views = engine.views();
            views.seen_by(sight).members_step(group, cut, after.as_deref(), rows_max, limit)
        };
        nested.total += step.count;
        nested.rows.extend(step.rows);
        after = step.next;
        if after.is_none() {
            return nested;
        }
    }
}

/// Writes each row as an object of the API, with the members that are seen by `members_for`.
async fn write(
    engine: Arc<Engine>,
    rows: Vec<EntityRow>,
    members_for: Option<Sight>,
    cut: Cut,
) -> Result<Vec<Vec<u8>>, Problem> {
    let mut nested = Vec::new();
    if let Some(sight) = members_for {
        let groups: Vec<String> = rows.iter().map(|row| row.id.clone()).collect();
        let engine = engine.clone();
        let found = blocking(move || {
            groups
                .iter()
                .map(|group| members_of(&engine, &sight, group, cut))
                .collect::<Vec<Nested>>()
        });
        nested = found.await?;
    }
    let mut keys: Vec<DocumentKey> = Vec::new();
    for (at, row) in rows.iter().enumerate() {
        keys.push(key(row, Shape::Group));
        let members = nested.get(at).into_iter().flat_map(|members| &members.rows);
        keys.extend(members.map(|member| key(member, Shape::User)));
    }
    with_documents(engine, keys, move |documents: &[Document]| {
        let mut documents = documents.iter();
        let write = |(at, row): (usize, &EntityRow)| {
            let mut out = Vec::with_capacity(512);
            push_open(&mut out, &mut documents, row);
            if let Some(members) = nested.get(at) {
                MEMBERS_OF_GROUP.push(&mut out, &mut documents, members, &row.id);
            }
            out.push(b'}');
            out
        };
        rows.iter().enumerate().map(write).collect()
    })
    .await
}
