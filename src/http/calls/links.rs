//! Links of directory users to the application's own users: `/rollcall/v1/links`.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use rollcall_projections::{Cut, Link, LinkFilter, Named, Sight};
use serde_json::{Value, json};

use crate::engine::{ActError, Engine, LINKS_AT_ONCE, LinkOutcome, LinkPair, LinkResult};
use crate::http::wire::answer::{Code, Problem, done_in_time, pinned, respond};
use crate::http::wire::api::{
    Access, Bound, Cost, DIRECTORY_ID, Gives, LIMIT_OWN, Logged, Operation, Parameter, Reads,
    Switch, Takes, USER_ID, Word, after, before, direction,
};
use crate::http::wire::body::Body;
use crate::http::wire::entity::must_be_named;
use crate::http::wire::paging::{AT_ONCE, Places, in_steps};
use crate::http::wire::pieces::Pieces;
use crate::http::wire::question::Question;
use crate::http::wire::state::State;
use crate::http::wire::threads::blocking;
use crate::http::wire::turns::walk_in_turn;
use crate::keys::Scope;
use crate::time;

/// The number of links that are found under one lock.
const STEP: usize = 256;

/// The most links that one request sets.
const LINKS_MAX: usize = 1000;

const SHAPES: &str = include_str!("links.schema.json");

const OF_APP_USER: Parameter =
    Parameter::text("app_user_id", "1842", "Of this user of the application");
const OF_DIRECTORY_USER: Parameter =
    Parameter::text("directory_user_id", USER_ID, "Of this directory user");
const OF_DIRECTORY: Parameter =
    Parameter::text("directory", DIRECTORY_ID, "Of users who are, or were last, in this directory");
const DRY_RUN: Parameter = Parameter::new(
    "dry_run",
    Takes::Words(Switch::WORDS),
    "true",
    "`true`: nothing is set, and the answer says what would be",
);

/// `GET /rollcall/v1/links`
pub(crate) const LIST: Operation = Operation {
    path: "/rollcall/v1/links",
    name: "listLinks",
    about: "Links of directory users to users of the application; by the id of the directory user.",
    parameters: &[
        OF_APP_USER,
        OF_DIRECTORY_USER,
        OF_DIRECTORY,
        after::<(String, String)>("dXNlcl8x."),
        before::<(String, String)>("dXNlcl8x."),
        LIMIT_OWN,
        direction("By the id of the directory user; without it `asc`"),
    ],
    reads: Reads::AtCut,
    access: Access::keyed(Scope::Read, Bound::Own),
    logged: Logged::Always,
    cost: Cost::High,
    gives: Gives::List("Link"),
    shapes: SHAPES,
    problems: &[Code::EntityNotFound, Code::CursorInvalid],
    ..Operation::GET
};

/// `PUT /rollcall/v1/links`
pub(crate) const SET: Operation = Operation {
    path: "/rollcall/v1/links",
    name: "setLinks",
    about: "Links a directory user to a user of the application, or several, one after the other. \
        A link ends the other link of the directory user, and the other links of the \
        application user with users who are in the same directory then. One that is there already is recorded \
        again only if it ends another one, of a user who has moved. Of a list, \
        those of unknown users are left out, and the answer says so.",
    parameters: &[DRY_RUN],
    access: Access::keyed(Scope::Operate, Bound::Own),
    takes: Some("LinkSetting"),
    gives: Gives::One("LinkAnswer"),
    shapes: SHAPES,
    problems: &[Code::EntityNotFound, Code::BodyTooLarge, Code::QueueFull, Code::LogUnavailable],
    ..Operation::PUT
};

/// `DELETE /rollcall/v1/links`
pub(crate) const REMOVAL: Operation = Operation {
    path: "/rollcall/v1/links",
    name: "removeLink",
    about: "Removes the link of a directory user. One that is not there is not an error.",
    parameters: &[OF_DIRECTORY_USER.required()],
    access: Access::keyed(Scope::Operate, Bound::Own),
    gives: Gives::One("LinkRemoved"),
    shapes: SHAPES,
    problems: &[Code::EntityNotFound, Code::QueueFull, Code::LogUnavailable],
    ..Operation::DELETE
};

/// The links that a question asks for.
struct Asked {
    app_user: Option<String>,
    user: Option<String>,
    directory: Option<String>,
    sight: Sight,
    cut: Cut,
}

impl Asked {
    /// Returns true if the links that may fit are few: those of one user.
    fn names_a_user(&self) -> bool {
        self.app_user.is_some() || self.user.is_some()
    }

    /// Returns some links behind a place, as [`in_steps`] takes them.
    fn step(
        &self,
        engine: &Engine,
        start: Option<&(String, String)>,
        descending: bool,
        limit: usize,
    ) -> (Vec<Link>, Option<(String, String)>) {
        let filter = LinkFilter {
            app_user: self.app_user.as_deref(),
            user: self.user.as_deref(),
            directory: self.directory.as_deref(),
        };
        let start = start.map(|(user, _)| user.as_str());
        let views = engine.views();
        let views = views.seen_by(&self.sight);
        let (links, next) = views.links(&filter, self.cut, start, descending, limit.min(STEP));
        (links, next.map(|user| (user, String::new())))
    }
}

/// Answers [`LIST`].
pub(crate) async fn list(
    request: HttpRequest,
    state: web::Data<State>,
) -> Result<HttpResponse, Problem> {
    let mut question = Question::of(&request, &state, &LIST)?;
    let places = question.take_places();
    let (app_user, user) = (question.take("app_user_id"), question.take("directory_user_id"));
    let directory = question.take("directory");
    let sight = question.sight();
    let (engine, cut) = question.cut().await?;
    let named = [user.as_deref().map(Named::User), directory.as_deref().map(Named::Directory)];
    if let Err(problem) = must_be_named(&engine, &sight, cut, named) {
        return Ok(pinned(cut, Err::<Vec<u8>, _>(problem)));
    }
    let asked = Asked { app_user, user, directory, sight, cut };
    let asking = engine.clone();
    if asked.names_a_user() {
        let found = blocking(move || page_of_user(&asking, &asked, places));
        return Ok(pinned(cut, found.await?));
    }
    let found = walk_in_turn(&state.turns, &engine, &LIST, move |turn| {
        let walk = |start: Option<(String, String)>, descending: bool, limit: usize| {
            in_steps(turn, start, limit, |start, limit| {
                asked.step(&asking, start, descending, limit)
            })
        };
        places.write(place, walk, AT_ONCE, write)
    });
    Ok(pinned(cut, found.await?))
}

/// Writes a page of the links of one user, at once: an application asks so at each login, and must
/// not wait for a turn.
fn page_of_user(engine: &Engine, asked: &Asked, places: Places) -> Result<Pieces, Problem> {
    let walk = |mut start: Option<(String, String)>, descending: bool, limit: usize| {
        let mut links = Vec::new();
        loop {
            let wanted = limit + 1 - links.len();
            let (found, next) = asked.step(engine, start.as_ref(), descending, wanted);
            links.extend(found);
            start = next;
            if start.is_none() || links.len() > limit {
                break;
            }
        }
        let more = links.len() > limit;
        links.truncate(limit);
        (links, more)
    };
    places.write(place, walk, AT_ONCE, write)
}

fn place(link: &Link) -> (String, String) {
    (link.user.clone(), String::new())
}

fn write(links: &[Link]) -> Result<Vec<Vec<u8>>, Problem> {
    let describe = |link: &Link| {
        let Link { app_user, user, directory, set_at, seq } = link;
        let link = json!({
            "object": "link",
            "app_user_id": app_user,
            "directory_user_id": user,
            "directory_id": directory,
            "set_at": time::format(*set_at),
            "seq": seq,
        });
        link.to_string().into_bytes()
    };
    Ok(links.iter().map(describe).collect())
}

/// Answers [`SET`].
pub(crate) async fn set(
    request: HttpRequest,
    payload: web::Payload,
    state: web::Data<State>,
) -> Result<HttpResponse, Problem> {
    let mut question = Question::of(&request, &state, &SET)?;
    let dry_run = question.take_word::<Switch>("dry_run") == Some(Switch::On);
    let (sight, operator) = (question.sight(), question.operator.clone());
    let engine = question.finish()?;
    let mut body = Body::of(payload, &state.operator_bodies).await?;
    let is_list = body.has("links");
    let pairs = if is_list {
        body.take_objects("links", LINKS_MAX, take_pair)
    } else {
        vec![take_pair(&mut body)]
    };
    let note = body.take_note();
    body.finish()?;
    let mut results = Vec::with_capacity(pairs.len());
    // A dry run sees nothing set between the parts, so it takes all at once.
    let at_once = if dry_run { LINKS_MAX } else { LINKS_AT_ONCE };
    for pairs in pairs.chunks(at_once).map(<[LinkPair]>::to_vec) {
        results.extend(if dry_run {
            engine.try_links(&sight, pairs)
        } else {
            let set = engine.set_links(operator.clone(), sight.clone(), pairs, note.clone());
            done_in_time(set).await?
        });
    }
    match (is_list, results.as_slice()) {
        (false, [LinkResult { outcome: LinkOutcome::UnknownUser, pair, .. }]) => {
            Err(Problem::entity_not_found("Directory User", &pair.user))
        }
        (false, [result]) => Ok(respond(StatusCode::OK).json(describe_result(result))),
        _ => Ok(respond(StatusCode::OK).json(describe_results(&results))),
    }
}

/// Takes the two ids of a link.
fn take_pair(body: &mut Body) -> LinkPair {
    let (app_user, user) = (body.take_own_id("app_user_id"), body.take_id("directory_user_id"));
    LinkPair { app_user: app_user.unwrap_or_default(), user: user.unwrap_or_default() }
}

fn describe_results(results: &[LinkResult]) -> Value {
    let count = |outcome| results.iter().filter(|result| result.outcome == outcome).count();
    json!({
        "object": "link_results",
        "set": count(LinkOutcome::Set),
        "unchanged": count(LinkOutcome::Unchanged),
        "unknown_users": count(LinkOutcome::UnknownUser),
        "data": results.iter().map(describe_result).collect::<Vec<Value>>(),
    })
}

fn describe_result(result: &LinkResult) -> Value {
    let pair = |LinkPair { app_user, user }: &LinkPair| json!({ "app_user_id": app_user, "directory_user_id": user });
    let outcome = match result.outcome {
        LinkOutcome::Set => "set",
        LinkOutcome::Unchanged => "unchanged",
        LinkOutcome::UnknownUser => "unknown_user",
    };
    json!({
        "object": "link_result",
        "outcome": outcome,
        "app_user_id": result.pair.app_user,
        "directory_user_id": result.pair.user,
        "directory_id": result.directory,
        "set_at": result.set_at.map(time::format),
        "seq": result.seq,
        "ended": result.ended.iter().map(pair).collect::<Vec<Value>>(),
    })
}

/// Answers [`REMOVAL`].
pub(crate) async fn remove(
    request: HttpRequest,
    state: web::Data<State>,
) -> Result<HttpResponse, Problem> {
    let mut question = Question::of(&request, &state, &REMOVAL)?;
    let user = question.take("directory_user_id");
    let (sight, operator) = (question.sight(), question.operator.clone());
    let engine = question.finish()?;
    let user = user.unwrap_or_default();
    let removed = match done_in_time(engine.remove_link(operator, sight, user.clone())).await {
        Err(ActError::UnknownUser) => {
            return Err(Problem::entity_not_found("Directory User", &user));
        }
        removed => removed?,
    };
    Ok(respond(StatusCode::OK).json(json!({
        "object": "link_removed",
        "directory_user_id": user,
        "app_user_id": removed.as_ref().map(|(pair, _)| &pair.app_user),
        "seq": removed.as_ref().map(|(_, seq)| seq),
    })))
}
