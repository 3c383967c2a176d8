//! `/rollcall/v1/role_mapping`: the rules from groups and attributes to roles, set and previewed.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use actix_web::body::{BodySize, MessageBody};
use actix_web::http::StatusCode;
use actix_web::http::header::{ACCEPT, CONTENT_TYPE, ETAG, HeaderValue, IF_MATCH};
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use rollcall_projections::{
    Comparison, Cut, Ground, Mapping, MappingSet, Millis, Proposal, RoleChange,
};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::documents::Shape;
use crate::engine::{ActError, Engine, Expect, not_in_future};
use crate::http::wire::answer::{Code, FieldError, Problem, blocking, list_body, pin, respond};
use crate::http::wire::answer::{done_in_time, pinned_with_roles};
use crate::http::wire::api::{
    Gives, LIMIT_OWN, ORDER_OWN, Operation, Parameter, Reads, USER_ID, after, before,
};
use crate::http::wire::body::Body;
use crate::http::wire::describe::{author, describe_ground};
use crate::http::wire::question::Question;
use crate::http::wire::state::State;
use crate::time;
use crate::verify::mapping_json;

/// Groups without a rule that a preview shows.
const GROUPS_SHOWN: usize = 100;

/// Parts of a preview, of up to some thousand lines, that may wait for a slow reader.
const TEXTS_WAITING: usize = 4;

/// How often a mapping is prepared anew because another one was set meanwhile.
const TRIES_MAX: usize = 32;

const SHAPES: &str = include_str!("role_mapping.schema.json");

const AFTER_USER: Parameter = Parameter::text("after", USER_ID, "Only what follows this user");

/// `GET /rollcall/v1/role_mapping`
pub(crate) const SHOW: Operation = Operation {
    path: "/rollcall/v1/role_mapping",
    name: "getRoleMapping",
    about: "The role mapping in force, with its version as `ETag`.",
    reads: Reads::AtCut,
    gives: Gives::One("RoleMapping"),
    shapes: SHAPES,
    ..Operation::GET
};

/// `GET /rollcall/v1/role_mapping/versions`
pub(crate) const VERSIONS: Operation = Operation {
    path: "/rollcall/v1/role_mapping/versions",
    name: "listRoleMappings",
    about: "Every role mapping that was set, in order of version.",
    parameters: &[after("1"), before("1"), LIMIT_OWN, ORDER_OWN],
    gives: Gives::List("RoleMapping"),
    shapes: SHAPES,
    problems: &[Code::CursorInvalid],
    ..Operation::GET
};

/// `PUT /rollcall/v1/role_mapping`
pub(crate) const SET: Operation = Operation {
    path: "/rollcall/v1/role_mapping",
    name: "setRoleMapping",
    about: "Sets the role mapping, from now on or from a past moment on. With `If-Match` only if that version is still the latest.",
    takes: Some("RoleMappingSetting"),
    gives: Gives::One("RoleMapping"),
    shapes: SHAPES,
    problems: &[
        Code::VersionConflict,
        Code::MappingInvalid,
        Code::BodyTooLarge,
        Code::QueueFull,
        Code::LogUnavailable,
    ],
    ..Operation::PUT
};

/// `POST /rollcall/v1/role_mapping/preview`
pub(crate) const PREVIEW: Operation = Operation {
    path: "/rollcall/v1/role_mapping/preview",
    name: "previewRoleMapping",
    about: "What setting a mapping would change, without changing anything. With `Accept: application/x-ndjson` every change, one a line.",
    parameters: &[AFTER_USER, LIMIT_OWN],
    reads: Reads::AtCut,
    takes: Some("RoleMappingSetting"),
    gives: Gives::One("RoleMappingPreview"),
    shapes: SHAPES,
    problems: &[Code::MappingInvalid, Code::BodyTooLarge],
    ..Operation::POST
};

/// Answers [`SHOW`].
pub(crate) async fn show(
    request: HttpRequest,
    state: web::Data<State>,
) -> Result<HttpResponse, Problem> {
    let (engine, cut) = Question::of(&request, &state, &SHOW)?.cut().await?;
    let set = engine.views().mapping(cut);
    let version = set.as_ref().map_or(0, |set| set.version);
    let body = blocking(move || describe(&engine, set)).await.flatten();
    let mut response =
        pinned_with_roles(cut, version, body.map(|body| body.to_string().into_bytes()));
    tag(&mut response, version);
    Ok(response)
}

/// Answers [`VERSIONS`].
pub(crate) async fn versions(
    request: HttpRequest,
    state: web::Data<State>,
) -> Result<HttpResponse, Problem> {
    let mut question = Question::of(&request, &state, &VERSIONS)?;
    let paging = question.take_paging();
    let engine = question.finish()?;
    let (page, sets) = {
        let views = engine.views();
        let page = paging.numbers(views.mapping_versions())?;
        let sets: Vec<MappingSet> =
            page.items.iter().filter_map(|number| views.mapping_of_version(*number)).collect();
        (page, sets)
    };
    let cursors = paging.cursors(&page, usize::to_string);
    let items = blocking(move || {
        sets.into_iter()
            .map(|set| Ok(describe(&engine, Some(set))?.to_string().into_bytes()))
            .collect()
    });
    let items: Result<Vec<Vec<u8>>, Problem> = items.await?;
    Ok(respond(StatusCode::OK).body(list_body(&items?, cursors)))
}

/// Answers [`SET`].
pub(crate) async fn set(
    request: HttpRequest,
    payload: web::Payload,
    state: web::Data<State>,
) -> Result<HttpResponse, Problem> {
    let question = Question::of(&request, &state, &SET)?;
    let operator = question.operator;
    let engine = question.finish()?;
    let replaces = replaces(&request)?;
    let Setting { mapping, effective_from, note } = Setting::of(payload).await?;
    // What nobody could set anyway is refused before anything is built.
    not_in_future(effective_from, time::now_ms())?;
    let latest = engine.views().mapping_versions();
    if let Expect::Version(version) = replaces
        && version != latest
    {
        return Err(ActError::VersionConflict.into());
    }
    let mut tries = 0;
    let set = loop {
        tries += 1;
        let (beside, wanted) = (engine.clone(), mapping.clone());
        let prepared = blocking(move || beside.prepare(&wanted)).await??;
        let set = engine.set_mapping(
            operator,
            mapping.clone(),
            prepared,
            replaces,
            effective_from,
            note.clone(),
        );
        match done_in_time(set).await {
            Err(ActError::Overtaken) if tries < TRIES_MAX => {}
            set => break set?,
        }
    };
    let version = set.version;
    let body = blocking(move || {
        let cut = Cut { known_at: engine.views().head(), ..Cut::LATEST };
        let proposal = engine.propose(without_attributes(&set.mapping), None, cut)?;
        let mut body = describe(&engine, Some(set))?;
        let (unmatched, ..) = engine.views().unmatched(&proposal, cut, 0);
        if let Some(body) = body.as_object_mut() {
            body.insert("warnings".into(), warnings(&unmatched));
        }
        Ok::<_, Problem>(body)
    });
    let mut response = respond(StatusCode::OK).json(body.await??);
    tag(&mut response, version);
    Ok(response)
}

/// Only the rules' groups matter to warnings: nothing must be read from the log for them.
fn without_attributes(mapping: &Mapping) -> Mapping {
    let mut mapping = mapping.clone();
    for rule in &mut mapping.rules {
        if let rollcall_projections::Matches::Attribute { values, .. } = &mut rule.matches {
            values.clear();
        }
    }
    mapping
}

/// Answers [`PREVIEW`].
pub(crate) async fn preview(
    request: HttpRequest,
    payload: web::Payload,
    state: web::Data<State>,
) -> Result<HttpResponse, Problem> {
    let mut question = Question::of(&request, &state, &PREVIEW)?;
    let lines = request
        .headers()
        .get(ACCEPT)
        .is_some_and(|accept| accept.as_bytes().starts_with(b"application/x-ndjson"));
    // Lines are all of it: what would be only a part is refused.
    let (after, limit) =
        if lines { (None, 0) } else { (question.take("after"), question.take_limit()) };
    let (engine, cut) = question.cut().await?;
    let Setting { mapping, effective_from, .. } = Setting::of(payload).await?;
    not_in_future(effective_from, time::now_ms())?;
    let beside = engine.clone();
    let proposal = blocking(move || beside.propose(mapping, effective_from, cut)).await??;
    if lines {
        return Ok(stream(engine, proposal, cut));
    }
    let body = blocking(move || whole(&engine, &proposal, cut, after.as_deref(), limit));
    let (version, body) = body.await??;
    Ok(pinned_with_roles(cut, version, Ok(body.to_string().into_bytes())))
}

/// A mapping as it is sent.
struct Setting {
    mapping: Mapping,
    effective_from: Option<Millis>,
    note: Option<String>,
}

impl Setting {
    async fn of(payload: web::Payload) -> Result<Setting, Problem> {
        let mut body = Body::of(payload).await?;
        let (effective_from, note) = (body.take_moment("effective_from"), body.take_note());
        let mapping = body.take_mapping();
        body.finish()?;
        Ok(Setting { mapping: mapping?, effective_from, note })
    }
}

/// What `If-Match` asks for (<https://www.rfc-editor.org/rfc/rfc9110#section-13.1.1>): one version,
/// or any.
fn replaces(request: &HttpRequest) -> Result<Expect, Problem> {
    let Some(value) = request.headers().get(IF_MATCH) else { return Ok(Expect::NoMatter) };
    let value = value.to_str().unwrap_or("").trim();
    if value == "*" {
        return Ok(Expect::Exists);
    }
    let version = value
        .strip_prefix('"')
        .and_then(|value| value.strip_suffix('"'))
        .and_then(|value| value.parse().ok());
    version.map(Expect::Version).ok_or_else(|| {
        Problem::validation(vec![FieldError::new(
            "If-Match",
            "it must be one version in double quotes, as `ETag` gives it, or `*`",
        )])
    })
}

fn tag(response: &mut HttpResponse, version: usize) {
    if let Ok(tag) = HeaderValue::from_str(&format!("\"{version}\"")) {
        response.headers_mut().insert(ETAG, tag);
    }
}

/// A mapping with who set it; before the first, none. Blocks while it reads the log.
fn describe(engine: &Engine, set: Option<MappingSet>) -> Result<Value, Problem> {
    let Some(set) = set else {
        return Ok(json!({
            "object": "role_mapping", "version": 0, "seq": null, "effective_from": null, "set_at": null, "set_by": null, "note": null,
            "mapping": null,
        }));
    };
    let (set_by, note) = author(engine, set.seq)?;
    Ok(json!({
        "object": "role_mapping",
        "version": set.version,
        "seq": set.seq,
        "effective_from": time::format(set.effective_from),
        "set_at": time::format(set.set_at),
        "set_by": set_by,
        "note": note,
        "mapping": mapping_json(&set.mapping),
    }))
}

fn warnings(unmatched: &[usize]) -> Value {
    unmatched
        .iter()
        .map(
            |rule| json!({ "field": format!("mapping.rules[{rule}]"), "code": "no group matches" }),
        )
        .collect()
}

/// The whole preview, with one page of its changes.
fn whole(
    engine: &Engine,
    proposal: &Proposal,
    cut: Cut,
    after: Option<&str>,
    limit: usize,
) -> Result<(usize, Value), Problem> {
    let mut shown: Vec<RoleChange> = Vec::new();
    let comparison = engine.compare(proposal, cut, |changes| {
        let wanted = changes
            .into_iter()
            .filter(|change| after.is_none_or(|after| change.user.as_str() > after));
        shown.extend(wanted.take(limit + 1 - shown.len()));
        true
    });
    let more = shown.len() > limit;
    shown.truncate(limit);
    let (version, (unmatched, count, groups)) = {
        let views = engine.views();
        (views.mapping_version(cut), views.unmatched(proposal, cut, GROUPS_SHOWN))
    };
    let next = shown.last().filter(|_| more).map(|change| change.user.clone());
    let changes = describe_changes(engine, &shown)?;
    let Comparison { users, changed, gaining, losing, default_only, roles } = comparison;
    let roles: Vec<Value> = roles
        .into_iter()
        .map(|(role, [gaining, losing, before, after])| {
            json!({ "role": role, "gaining": gaining, "losing": losing, "before": before, "after": after })
        })
        .collect();
    let groups: Vec<Value> = groups
        .into_iter()
        .map(|[id, name, directory]| json!({ "id": id, "name": name, "directory_id": directory }))
        .collect();
    let preview = json!({
        "object": "role_mapping_preview",
        "base_version": version,
        "totals": { "users": users, "changed": changed, "gaining": gaining, "losing": losing, "default_only": default_only },
        "roles": roles,
        "warnings": warnings(&unmatched),
        "groups_without_rule": { "count": count, "data": groups },
        "changes": { "object": "list", "data": changes, "list_metadata": { "before": null, "after": next } },
    });
    Ok((version, preview))
}

/// Changes with the emails that people know each other by. Blocks while it reads the log.
fn describe_changes(engine: &Engine, changes: &[RoleChange]) -> Result<Vec<Value>, Problem> {
    let keys: Vec<_> =
        changes.iter().map(|change| (change.snapshot.0, change.snapshot.1, Shape::User)).collect();
    let documents = engine.load_documents(&keys)?;
    let described = changes.iter().zip(documents).map(|(change, document)| {
        json!({
            "object": "role_change",
            "user_id": change.user,
            "email": document.email(),
            "directory_id": change.directory,
            "gained": describe_roles(&change.gained),
            "lost": describe_roles(&change.lost),
            "default_only": change.default_only,
        })
    });
    Ok(described.collect())
}

fn describe_roles(roles: &[(String, Vec<Ground>)]) -> Vec<Value> {
    let because = |grounds: &[Ground]| {
        grounds.iter().map(|ground| Value::from(describe_ground(ground))).collect::<Vec<_>>()
    };
    roles
        .iter()
        .map(|(role, grounds)| json!({ "role": role, "because": because(grounds) }))
        .collect()
}

/// Every change, one a line, as fast as it is read.
fn stream(engine: Arc<Engine>, proposal: Proposal, cut: Cut) -> HttpResponse {
    let version = engine.views().mapping_version(cut);
    let (lines, waiting) = mpsc::channel(TEXTS_WAITING);
    // Dropped by a reader that leaves, which ends the work.
    tokio::task::spawn_blocking(move || {
        engine.compare(&proposal, cut, |changes| {
            let text = describe_changes(&engine, &changes).map(|described| {
                described.iter().map(|change| format!("{change}\n")).collect::<String>()
            });
            match text {
                Ok(text) => text.is_empty() || lines.blocking_send(Ok(text.into())).is_ok(),
                // Broken off, not ended: what was sent is not all.
                Err(_) => {
                    let _ = lines.blocking_send(Err(io::ErrorKind::Other.into()));
                    false
                }
            }
        });
    });
    let mut response = respond(StatusCode::OK);
    response
        .insert_header((CONTENT_TYPE, "application/x-ndjson"))
        .insert_header(("Rollcall-Mapping-Version", version));
    let mut response = response.body(Lines(waiting));
    pin(&mut response, cut);
    response
}

/// A body that is written while it is sent.
struct Lines(mpsc::Receiver<io::Result<Bytes>>);

impl MessageBody for Lines {
    type Error = io::Error;

    fn size(&self) -> BodySize {
        BodySize::Stream
    }

    fn poll_next(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Bytes>>> {
        self.get_mut().0.poll_recv(context)
    }
}
