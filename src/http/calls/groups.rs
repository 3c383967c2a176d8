//! `GET /directory_groups` and `GET /directory_groups/{id}`.

use actix_web::{HttpRequest, HttpResponse, web};
use rollcall_projections::{GroupFilter, GroupRow};

use crate::documents::{DocumentKey, Shape};
use crate::http::wire::answer::{Code, Problem, blocking, pinned_with_roles};
use crate::http::wire::api::{
    AFTER, BEFORE, Gives, IN_DIRECTORY, LIMIT, Logged, OF_ORGANIZATION, OF_ORGANIZATION_ALIAS,
    ORDER, Operation, Parameter, Reads, Switch, Takes, USER_ID, Word,
};
use crate::http::wire::entity::{NestedList, Reading, key, push_open, with_documents};
use crate::http::wire::question::{Question, id_in_path};
use crate::http::wire::state::State;

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
    let (engine, cut) = question.cut().await?;
    let found = blocking(move || {
        let filter = GroupFilter {
            directory: directory.as_deref(),
            user: user.as_deref(),
            organization: organization.as_deref(),
        };
        let (version, page) = {
            let views = engine.views();
            (views.mapping_version(cut), views.groups(&filter, false, cut, paging.window()))
        };
        let id = |row: &GroupRow| row.group.id.clone();
        if members {
            // The members of each group are looked up under a lock of their own.
            let body = paging.write(page, id, |row| {
                let found = engine.views().group(&row.group.id, true, cut);
                let row = found.as_ref().unwrap_or(row);
                write(row, &mut Reading::of(&engine, keys(row)))
            });
            return (version, body);
        }
        let mut documents = Reading::of(&engine, paging.in_order_of_writing(&page, keys));
        (version, paging.write(page, id, |row| write(row, &mut documents)))
    });
    let (version, body) = found.await?;
    Ok(pinned_with_roles(cut, version, body))
}

/// `GET /directory_groups/{id}`
pub(crate) const ITEM: Operation = Operation {
    path: "/directory_groups/{id}",
    name: "getDirectoryGroup",
    about: "One group.",
    parameters: &[MEMBERS],
    reads: Reads::AtCut,
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
    let (engine, cut) = question.cut().await?;
    let (version, row) = {
        let views = engine.views();
        (views.mapping_version(cut), views.group(&id, members, cut))
    };
    let body = match row {
        Some(row) => {
            with_documents(engine, keys(&row), move |documents| write(&row, documents)).await
        }
        None => Err(Problem::entity_not_found("Directory Group", &id)),
    };
    Ok(pinned_with_roles(cut, version, body))
}

fn take_members(question: &mut Question) -> bool {
    question.take_word("members") == Some(Switch::On)
}

/// Returns the keys of a row's documents, in the order in which [`write`] reads them.
fn keys(row: &GroupRow) -> Vec<DocumentKey> {
    let members = row.members.iter().flat_map(|members| &members.rows);
    let members = members.map(|member| key(member, Shape::User));
    [key(&row.group, Shape::Group)].into_iter().chain(members).collect()
}

/// Writes a row as an object of the API, with its members if the question asks for them.
fn write(row: &GroupRow, documents: &mut Reading<'_>) -> Result<Vec<u8>, Problem> {
    let mut out = Vec::with_capacity(512);
    push_open(&mut out, documents, &row.group)?;
    if let Some(members) = &row.members {
        MEMBERS_OF_GROUP.push(&mut out, documents, members, &row.group.id)?;
    }
    out.push(b'}');
    Ok(out)
}
