//! `GET /directory_groups` and `GET /directory_groups/{id}`.

use std::sync::Arc;

use actix_web::{HttpRequest, HttpResponse, web};
use rollcall_projections::{GroupFilter, GroupRow};

use crate::documents::{Document, DocumentKey, Shape};
use crate::engine::Engine;
use crate::http::wire::answer::{Code, Problem, list_body, pinned_with_roles, with_documents};
use crate::http::wire::api::{
    AFTER, Access, BEFORE, Bound, Gives, IN_DIRECTORY, LIMIT, Logged, OF_ORGANIZATION,
    OF_ORGANIZATION_ALIAS, ORDER, Operation, Parameter, Reads, Switch, Takes, USER_ID, Word,
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
    reads: Reads::AtCut,
    access: Access::keyed(Scope::Read, Bound::Own),
    logged: Logged::AboutThePast,
    gives: Gives::List("DirectoryGroup"),
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
    question.need_scope(
        directory.is_some() || user.is_some() || organization.is_some(),
        "directory",
        "user",
    );
    let sight = question.sight();
    let (engine, cut) = question.cut().await?;
    let filter = GroupFilter {
        directory: directory.as_deref(),
        user: user.as_deref(),
        organization: organization.as_deref(),
    };
    let (version, page) = {
        let views = engine.views();
        let page = views.seen_by(&sight).groups(&filter, members, cut, paging.window());
        (views.mapping_version(cut), page)
    };
    let cursors = paging.cursors(&page, |row| row.group.id.clone());
    let items = write(engine, page.items).await;
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
        (views.mapping_version(cut), views.seen_by(&sight).group(&id, members, cut))
    };
    let body = match row {
        Some(row) => write(engine, vec![row]).await.map(|items| items.concat()),
        None => Err(Problem::entity_not_found("Directory Group", &id)),
    };
    Ok(pinned_with_roles(cut, version, body))
}

fn take_members(question: &mut Question) -> bool {
    question.take_word("members") == Some(Switch::On)
}

/// Writes each row as an object of the API, with its members if the question asks for them.
async fn write(engine: Arc<Engine>, rows: Vec<GroupRow>) -> Result<Vec<Vec<u8>>, Problem> {
    let mut keys: Vec<DocumentKey> = Vec::new();
    for GroupRow { group, members } in &rows {
        keys.push(key(group, Shape::Group));
        let members = members.iter().flat_map(|members| &members.rows);
        keys.extend(members.map(|member| key(member, Shape::User)));
    }
    with_documents(engine, keys, move |documents: &[Document]| {
        let mut documents = documents.iter();
        rows.iter()
            .map(|GroupRow { group, members }| {
                let mut out = Vec::with_capacity(512);
                push_open(&mut out, &mut documents, group);
                if let Some(members) = members {
                    MEMBERS_OF_GROUP.push(&mut out, &mut documents, members, &group.id);
                }
                out.push(b'}');
                out
            })
            .collect()
    })
    .await
}
