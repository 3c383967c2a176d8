//! `GET /directory_groups` and `GET /directory_groups/{id}`.

use actix_web::{HttpRequest, HttpResponse, web};
use rollcall_projections::{Cut, EntityRow, GroupFilter, ListStep, NESTED_MAX, Nested, Sight};

use crate::documents::Shape;
use crate::engine::Engine;
use crate::http::wire::answer::{Code, Problem};
use crate::http::wire::api::{
    AFTER, Access, BEFORE, Bound, Cost, Gives, IN_DIRECTORY, LIMIT, Logged, MAPPING_VERSION,
    OF_ORGANIZATION, OF_ORGANIZATION_ALIAS, ORDER, Operation, Parameter, Reads, Switch, Takes,
    USER_ID, Word,
};
use crate::http::wire::entity::{NestedList, Reading, key, push_open, with_documents};
use crate::http::wire::kept::Keepable;
use crate::http::wire::question::{Question, id_in_path};
use crate::http::wire::state::State;
use crate::http::wire::threads::blocking;
use crate::http::wire::turns::walk_for;
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
    cost: Cost::Walk,
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
    let keepable = Keepable::of(&request, &engine, &sight, cut);
    if let Some(kept) = keepable.kept() {
        return Ok(kept);
    }
    let asking = engine.clone();
    let found = walk_for(&engine, &LIST, move |asker| {
        let filter = GroupFilter {
            directory: directory.as_deref(),
            user: user.as_deref(),
            organization: organization.as_deref(),
        };
        let version = asking.views().mapping_version(cut);
        let step =
            |step: ListStep<'_>| asking.views().seen_by(&sight).groups_step(&filter, cut, step);
        let page = paging.walk(asker, step, |row| &row.id);
        let id = |row: &EntityRow| row.id.clone();
        if members {
            return (
                version,
                paging
                    .write(page, id, |out, row| write_with_members(out, &asking, &sight, row, cut)),
            );
        }
        let key = |row: &EntityRow| [key(row, Shape::Group)];
        let mut documents = Reading::of(&asking, paging.in_order_of_writing(&page, key));
        (version, paging.write(page, id, |out, row| write(out, row, None, &mut documents)))
    });
    let (version, body) = found.await?;
    Ok(keepable.answer(version, body))
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
    let keepable = Keepable::of(&request, &engine, &sight, cut);
    if let Some(kept) = keepable.kept() {
        return Ok(kept);
    }
    let (version, row) = {
        let views = engine.views();
        (views.mapping_version(cut), views.seen_by(&sight).group(&id, cut))
    };
    let body = match row {
        Some(row) if members => {
            let write = move || {
                let mut out = Vec::new();
                write_with_members(&mut out, &engine, &sight, &row, cut)?;
                Ok(out)
            };
            blocking(write).await.flatten()
        }
        Some(row) => {
            let keys = vec![key(&row, Shape::Group)];
            let write = move |documents: &mut Reading<'_>| {
                let mut out = Vec::with_capacity(512);
                write(&mut out, &row, None, documents)?;
                Ok(out)
            };
            with_documents(engine, keys, write).await
        }
        None => Err(Problem::entity_not_found("Directory Group", &id)),
    };
    Ok(keepable.answer(version, body))
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

/// Appends a row as an object of the API, with its members. Blocks while it reads the log.
fn write_with_members(
    out: &mut Vec<u8>,
    engine: &Engine,
    sight: &Sight,
    row: &EntityRow,
    cut: Cut,
) -> Result<(), Problem> {
    let members = members_of(engine, sight, &row.id, cut);
    let group = [key(row, Shape::Group)].into_iter();
    let keys = group.chain(members.rows.iter().map(|member| key(member, Shape::User))).collect();
    write(out, row, Some(&members), &mut Reading::of(engine, keys))
}

/// Appends a row as an object of the API, with its members if there are any to be written.
fn write(
    out: &mut Vec<u8>,
    row: &EntityRow,
    members: Option<&Nested>,
    documents: &mut Reading<'_>,
) -> Result<(), Problem> {
    let object_at = out.len();
    push_open(out, documents, row)?;
    if let Some(members) = members {
        MEMBERS_OF_GROUP.push(out, documents, members, &row.id, object_at)?;
    }
    out.push(b'}');
    Ok(())
}
