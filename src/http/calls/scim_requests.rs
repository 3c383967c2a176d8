//! The requests of identity providers that changed something: `/rollcall/v1/scim_requests`.

use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use rollcall_projections::{
    Cause, Cut, Named, ScimId, ScimKind, ScimRequest, ScimResource, Seq, Sight, Views,
};
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::engine::Engine;
use crate::http::wire::answer::{Code, Problem, respond};
use crate::http::wire::api::{
    Access, Bound, DIRECTORY_ID, GROUP_ID, Gives, LIMIT_OWN, Logged, Operation, Parameter, USER_ID,
    after, before, direction, since, until,
};
use crate::http::wire::describe::describe_cause;
use crate::http::wire::entity::must_be_named;
use crate::http::wire::paging::ItemNumber;
use crate::http::wire::question::{Question, id_in_path};
use crate::http::wire::state::State;
use crate::http::wire::threads::blocking;
use crate::json;
use crate::json::into_well_formed;
use crate::keys::Scope;
use crate::time;

const SHAPES: &str = include_str!("scim_requests.schema.json");

/// The most events of a request that are shown.
const EVENTS_MAX: usize = 1000;

/// The requests that are looked at under one lock.
const STEP: usize = 512;

/// The requests whose records are read at once: a body may have 12 MB.
const AT_ONCE: usize = 1;

const OF_DIRECTORY: Parameter =
    Parameter::text("directory", DIRECTORY_ID, "Of the identity provider of this directory");
const OF_USER: Parameter = Parameter::text(
    "user",
    USER_ID,
    "Those that changed this user: the id of the directory user, or of the user in SCIM",
);
const OF_GROUP: Parameter = Parameter::text(
    "group",
    GROUP_ID,
    "Those that changed this group: the id of the directory group, or of the group in SCIM",
);

/// `GET /rollcall/v1/scim_requests`
pub(crate) const LIST: Operation = Operation {
    path: "/rollcall/v1/scim_requests",
    name: "listScimRequests",
    about: "The requests of identity providers that changed a user or group, and the events that \
        each became; in order of seq. Requests that were refused, or changed nothing, are not \
        recorded.",
    parameters: &[
        OF_DIRECTORY,
        OF_USER,
        OF_GROUP,
        since("since"),
        until("until"),
        after::<ItemNumber>("31"),
        before::<ItemNumber>("31"),
        LIMIT_OWN,
        direction("By when it was recorded; without it `asc`"),
    ],
    access: Access::keyed(Scope::Audit, Bound::Own),
    logged: Logged::Always,
    gives: Gives::List("ScimRequest"),
    shapes: SHAPES,
    problems: &[Code::EntityNotFound, Code::CursorInvalid],
    ..Operation::GET
};

/// `GET /rollcall/v1/scim_requests/{id}`
pub(crate) const ITEM: Operation = Operation {
    path: "/rollcall/v1/scim_requests/{id}",
    name: "getScimRequest",
    about: "One request of an identity provider: its body byte for byte but for passwords, which \
        are never stored, and the user or group as SCIM knows it after the request.",
    access: Access::keyed(Scope::Audit, Bound::Own),
    logged: Logged::Always,
    gives: Gives::One("ScimRequestWithBody"),
    shapes: SHAPES,
    problems: &[Code::EntityNotFound],
    ..Operation::GET
};

/// The requests that a question asks for.
struct Asked {
    directory: Option<String>,
    resource: Option<ScimId>,
    sight: Sight,
    first: Seq,
    last: Seq,
}

impl Asked {
    /// Returns at most `limit` requests behind a place, and whether there are more.
    fn walk(
        &self,
        engine: &Engine,
        start: Option<Seq>,
        descending: bool,
        limit: usize,
    ) -> (Vec<ScimRequest>, bool) {
        let (mut first, mut last) = (self.first, self.last);
        match (start, descending) {
            (None, _) => {}
            (Some(seq), false) => first = first.max(seq.saturating_add(1)),
            (Some(seq), true) => last = last.min(seq.saturating_sub(1)),
        }
        let mut found = Vec::new();
        while found.len() <= limit && first <= last {
            let views = engine.views();
            let scim = views.scim();
            let resource = self.resource.and_then(|id| scim.resource_by_id(id));
            let directory = self.directory.as_deref();
            let step = scim.requests(directory, resource, first..=last, descending, STEP);
            let Some(end) = step.last().map(|request| request.seq) else { break };
            if descending {
                last = end.saturating_sub(1)
            } else {
                first = end.saturating_add(1)
            }
            found.extend(step.into_iter().filter(|request| self.sees(&views, request)));
        }
        let more = found.len() > limit;
        found.truncate(limit);
        (found, more)
    }

    fn sees(&self, views: &Views, request: &ScimRequest) -> bool {
        let directory = views.scim().directory_of_request(request);
        // Those of a user or group are of its directory, whichever was asked for.
        let is_asked = self.directory.as_ref().is_none_or(|asked| asked == directory);
        is_asked && sees_directory(views, &self.sight, directory)
    }
}

fn sees_directory(views: &Views, sight: &Sight, directory: &str) -> bool {
    *sight == Sight::All
        || views.seen_by(sight).ever_named(Named::Directory(directory), Cut::LATEST)
}

/// Answers [`LIST`].
pub(crate) async fn list(
    request: HttpRequest,
    state: web::Data<State>,
) -> Result<HttpResponse, Problem> {
    let mut question = Question::of(&request, &state, &LIST)?;
    let places = question.take_places();
    let directory = question.take("directory");
    let (user, group) = (question.take("user"), question.take("group"));
    let (since, until) = (question.take_moment("since"), question.take_moment("until"));
    let sight = question.sight();
    let engine = question.finish()?;
    must_be_named(&engine, &sight, Cut::LATEST, [directory.as_deref().map(Named::Directory)])?;
    let user = user.map(|id| named(&engine, &sight, ScimKind::User, &id)).transpose()?;
    let group = group.map(|id| named(&engine, &sight, ScimKind::Group, &id)).transpose()?;
    let asked = {
        let views = engine.views();
        Asked {
            // No request changes a user and a group at once, or what no provider pushed.
            first: match (user, group) {
                (Some(_), Some(_)) | (Some(None), _) | (_, Some(None)) => Seq::MAX,
                _ => since.map_or(1, |since| views.known_at(since.saturating_sub(1)) + 1),
            },
            last: until.map_or(views.head(), |until| views.known_at(until)),
            directory,
            resource: user.or(group).flatten(),
            sight,
        }
    };
    let body = blocking(move || {
        let place = |request: &ScimRequest| ItemNumber::of(request.seq as usize);
        let walk = |start: Option<ItemNumber>, descending: bool, limit: usize| {
            let start = start.map(|place| place.number() as Seq);
            asked.walk(&engine, start, descending, limit)
        };
        places.write(place, walk, AT_ONCE, |requests| {
            requests.iter().map(|request| describe(&engine, request, false)).collect()
        })
    });
    Ok(body.await??.response())
}

/// Answers [`ITEM`].
pub(crate) async fn item(
    request: HttpRequest,
    state: web::Data<State>,
) -> Result<HttpResponse, Problem> {
    let mut question = Question::of(&request, &state, &ITEM)?;
    let sight = question.sight();
    let engine = question.finish()?;
    let id = id_in_path(&request).ok_or(Code::NotFound)?;
    let body = blocking(move || {
        let unknown = || Problem::entity_not_found("SCIM Request", &id);
        let seq = engine.find_event(&sight, &id)?.ok_or_else(unknown)?;
        let request = engine.views().scim().request(seq).copied().ok_or_else(unknown)?;
        describe(&engine, &request, true)
    });
    Ok(respond(StatusCode::OK).body(body.await??))
}

/// Returns the resource that an id names: that of a directory user or group, or its own in SCIM.
/// `None` for a user or group that no identity provider pushed.
///
/// # Errors
/// 404 if none is seen that ever had it.
fn named(
    engine: &Arc<Engine>,
    sight: &Sight,
    kind: ScimKind,
    id: &str,
) -> Result<Option<ScimId>, Problem> {
    let views = engine.views();
    let scim = views.scim();
    let of_scim = || scim.resource_by_id(ScimId::parse(id)?);
    let is_seen = |resource: &&ScimResource| {
        resource.kind == kind && sees_directory(&views, sight, scim.directory_of(resource))
    };
    let resource = scim.resource_of_object(id).or_else(of_scim).filter(is_seen);
    if let Some(resource) = resource {
        return Ok(Some(resource.id));
    }
    let (word, name) = match kind {
        ScimKind::User => ("Directory User", Named::User(id)),
        ScimKind::Group => ("Directory Group", Named::Group(id)),
    };
    match views.seen_by(sight).ever_named(name, Cut::LATEST) {
        true => Ok(None),
        false => Err(Problem::entity_not_found(word, id)),
    }
}

/// A request as it is shown.
#[derive(Serialize)]
struct Shown<'a> {
    object: &'static str,
    request_id: Option<&'a RawValue>,
    seq: Seq,
    recorded_at: String,
    directory_id: Option<&'a RawValue>,
    token_id: Option<&'a RawValue>,
    method: Option<&'a RawValue>,
    path: Option<&'a RawValue>,
    user_agent: Option<&'a RawValue>,
    status: Option<&'a RawValue>,
    resource: ShownResource<'a>,
    events: Vec<Value>,
    /// The number of all events, also of those that are not shown.
    event_count: usize,
    #[serde(flatten)]
    content: Option<Content<'a>>,
}

#[derive(Serialize)]
struct ShownResource<'a> {
    #[serde(rename = "type")]
    kind: Option<&'a RawValue>,
    id: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    directory_user_id: Option<Option<&'a str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    directory_group_id: Option<Option<&'a str>>,
}

/// The part of a request that only its own call shows.
#[derive(Serialize)]
struct Content<'a> {
    body: Option<&'a RawValue>,
    redacted: Option<&'a RawValue>,
    document: Option<&'a RawValue>,
}

/// Describes a request, with its content if that is asked for. Blocks while it reads the log.
fn describe(engine: &Engine, request: &ScimRequest, whole: bool) -> Result<Vec<u8>, Problem> {
    let record = engine.record(request.seq)?;
    let text = std::str::from_utf8(&record.body).map_err(|_| Code::Internal)?;
    let [request_id, data] = json::present_fields(text, ["id", "data"]).unwrap_or_default();
    let names = [
        "directory_id",
        "token_id",
        "method",
        "path",
        "user_agent",
        "status",
        "resource",
        "body",
        "redacted",
    ];
    let [directory_id, token_id, method, path, user_agent, status, resource, body, redacted] =
        json::present_fields_of(data, names).unwrap_or_default();
    let [kind, id, document] =
        json::present_fields_of(resource, ["type", "id", "document"]).unwrap_or_default();
    let (object, event_count, causes, is_user) = {
        let views = engine.views();
        let scim = views.scim();
        let (count, seqs) = scim.events_of_request(request, EVENTS_MAX);
        let causes: Vec<Cause> = seqs.iter().map(|seq| views.cause_of_record(*seq)).collect();
        let resource = scim.resource_of_request(request);
        let is_user = resource.is_some_and(|resource| resource.kind == ScimKind::User);
        (scim.object_of_request(request).map(str::to_owned), count, causes, is_user)
    };
    let object = Some(object.as_deref());
    let shown = Shown {
        object: "scim_request",
        request_id,
        seq: request.seq,
        recorded_at: time::format(record.recorded_at),
        directory_id,
        token_id,
        method,
        path,
        user_agent,
        status,
        resource: ShownResource {
            kind,
            id,
            directory_user_id: object.filter(|_| is_user),
            directory_group_id: object.filter(|_| !is_user),
        },
        events: causes.iter().map(describe_cause).collect(),
        event_count,
        content: whole.then_some(Content { body, redacted, document }),
    };
    let shown = serde_json::to_vec(&shown).map_err(|_| Code::Internal)?;
    Ok(into_well_formed(shown))
}
