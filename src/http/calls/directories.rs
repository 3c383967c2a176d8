//! `GET /directories` and `GET /directories/{id}`.

use actix_web::http::StatusCode;
use actix_web::http::header::CONTENT_TYPE;
use actix_web::{HttpRequest, HttpResponse, web};
use rollcall_projections::{DirectoryFilter, DirectoryRow, ListStep};

use crate::engine::ActError;
use crate::http::wire::answer::{Code, Problem, done_in_time, pinned, respond};
use crate::http::wire::api::{
    AFTER, Access, BEFORE, Bound, Cost, Gives, LIMIT, Logged, OF_ORGANIZATION,
    OF_ORGANIZATION_ALIAS, ORDER, Operation, Parameter, Reads,
};
use crate::http::wire::entity::{Reading, directory_key, directory_written, write_directory};
use crate::http::wire::question::{Question, id_in_path};
use crate::http::wire::state::State;
use crate::http::wire::turns::walk_for;
use crate::keys::Scope;

const SHAPES: &str = include_str!("directories.schema.json");

const SEARCH: Parameter =
    Parameter::text("search", "robotics", "With this text in its name; case does not matter");
const DOMAIN: Parameter = Parameter::text("domain", "halden-robotics.example", "With this domain");

/// `GET /directories`
pub(crate) const LIST: Operation = Operation {
    path: "/directories",
    name: "listDirectories",
    about: "Directories.",
    parameters: &[
        AFTER,
        BEFORE,
        LIMIT,
        ORDER,
        OF_ORGANIZATION,
        OF_ORGANIZATION_ALIAS,
        SEARCH,
        DOMAIN,
    ],
    reads: Reads::AtCut,
    access: Access::keyed(Scope::Read, Bound::Own),
    logged: Logged::AboutThePast,
    cost: Cost::Walk,
    gives: Gives::List("Directory"),
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
    let organization = question.take_either("organization_id", "organization");
    let (search, domain) = (question.take("search"), question.take("domain"));
    let sight = question.sight();
    let (engine, cut) = question.cut().await?;
    let asking = engine.clone();
    let body = walk_for(&engine, &LIST, move |asker| {
        let filter = DirectoryFilter {
            organization: organization.as_deref(),
            search: search.as_deref(),
            domain: domain.as_deref(),
        };
        let step = |step: ListStep<'_>| {
            asking.views().seen_by(&sight).directories_step(&filter, cut, step)
        };
        let page = paging.walk(asker, step, |row| &row.id);
        let mut documents = Reading::of(&asking, paging.in_order_of_writing(&page, directory_key));
        let id = |row: &DirectoryRow| row.id.clone();
        paging.write(page, id, |out, row| write_directory(out, row, &mut documents))
    });
    Ok(pinned(cut, body.await?))
}

/// `GET /directories/{id}`
pub(crate) const ITEM: Operation = Operation {
    path: "/directories/{id}",
    name: "getDirectory",
    about: "One directory.",
    reads: Reads::AtCut,
    access: Access::keyed(Scope::Read, Bound::Own),
    logged: Logged::AboutThePast,
    gives: Gives::One("Directory"),
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
    let sight = question.sight();
    let id = id_in_path(&request).ok_or(Code::NotFound)?;
    let (engine, cut) = question.cut().await?;
    let row = engine.views().seen_by(&sight).directory(&id, cut);
    let body = match row {
        Some(row) => directory_written(engine, row).await,
        None => Err(Problem::entity_not_found("Directory", &id)),
    };
    Ok(pinned(cut, body))
}

/// `DELETE /directories/{id}`
pub(crate) const DELETION: Operation = Operation {
    path: "/directories/{id}",
    name: "deleteDirectory",
    about: "Ends a directory with everything in it, in Rollcall and not at the source. Deleting \
        it again is accepted as well.",
    access: Access::keyed(Scope::Operate, Bound::Own),
    gives: Gives::Accepted,
    problems: &[Code::EntityNotFound, Code::QueueFull, Code::LogUnavailable],
    ..Operation::DELETE
};

/// Answers [`DELETION`]. The body is the word that WorkOS sends, not JSON.
pub(crate) async fn delete(
    request: HttpRequest,
    state: web::Data<State>,
) -> Result<HttpResponse, Problem> {
    let mut question = Question::of(&request, &state, &DELETION)?;
    let sight = question.sight();
    let operator = question.operator.clone();
    let id = id_in_path(&request).ok_or(Code::NotFound)?;
    let engine = question.finish()?;
    match done_in_time(engine.delete_directory(operator, sight, id.clone())).await {
        Err(ActError::UnknownDirectory) => Err(Problem::entity_not_found("Directory", &id)),
        Err(error) => Err(error.into()),
        Ok(_) => {
            let mut response = respond(StatusCode::ACCEPTED);
            response.insert_header((CONTENT_TYPE, "text/plain; charset=utf-8"));
            Ok(response.body("Accepted"))
        }
    }
}
