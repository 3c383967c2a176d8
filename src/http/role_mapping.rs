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
    Comparison, Cut, Ground, Mapping, MappingSet, Millis, Page, Proposal, RoleChange, RoleCounts,
    UnmatchedGroup,
};
use serde_json::{Map, Value, json as object};
use tokio::sync::mpsc;

use super::State;
use super::answer::{Code, FieldError, Problem, json, list as list_of, pin};
use super::api::{
    AFTER_OWN, AFTER_USER, BEFORE_OWN, Gives, LIMIT_OWN, Method, ORDER_OWN, Operation,
};
use super::body::Body;
use super::policy::author;
use super::question::{Question, done_in_time, pinned_with_roles};
use crate::documents::Shape;
use crate::engine::{ActError, Engine, Expect, not_in_future};
use crate::time;
use crate::verify::mapping_json;

/// Groups without a rule that a preview shows.
const GROUPS_SHOWN: usize = 100;

/// Parts of a preview, of up to some thousand lines, that may wait for a slow reader.
const TEXTS_WAITING: usize = 4;

/// How often a mapping is prepared anew because another one was set meanwhile.
const TRIES_MAX: usize = 32;

/// `GET /rollcall/v1/role_mapping`
pub(super) const SHOW: Operation = Operation {
    method: Method::Get,
    path: "/rollcall/v1/role_mapping",
    name: "getRoleMapping",
    about: "The role mapping in force, with its version as `ETag`.",
    parameters: &[],
    cut: true,
    keyed: true,
    sensitive: false,
    takes: None,
    gives: Gives::One("RoleMapping"),
    problems: &[],
};

/// `GET /rollcall/v1/role_mapping/versions`
pub(super) const VERSIONS: Operation = Operation {
    method: Method::Get,
    path: "/rollcall/v1/role_mapping/versions",
    name: "listRoleMappings",
    about: "Every role mapping that was set, in order of version.",
    parameters: &[AFTER_OWN, BEFORE_OWN, LIMIT_OWN, ORDER_OWN],
    cut: false,
    keyed: true,
    sensitive: false,
    takes: None,
    gives: Gives::List("RoleMapping"),
    problems: &[Code::CursorInvalid],
};

/// `PUT /rollcall/v1/role_mapping`
pub(super) const SET: Operation = Operation {
    method: Method::Put,
    path: "/rollcall/v1/role_mapping",
    name: "setRoleMapping",
    about: "Sets the role mapping, from now on or from a past moment on. With `If-Match` only if that version is still the latest.",
    parameters: &[],
    cut: false,
    keyed: true,
    sensitive: false,
    takes: Some("RoleMappingSetting"),
    gives: Gives::One("RoleMapping"),
    problems: &[
        Code::VersionConflict,
        Code::MappingInvalid,
        Code::BodyTooLarge,
        Code::QueueFull,
        Code::LogUnavailable,
    ],
};

/// `POST /rollcall/v1/role_mapping/preview`
pub(super) const PREVIEW: Operation = Operation {
    method: Method::Post,
    path: "/rollcall/v1/role_mapping/preview",
    name: "previewRoleMapping",
    about: "What setting a mapping would change, without changing anything. With `Accept: application/x-ndjson` every change, one a line.",
    parameters: &[AFTER_USER, LIMIT_OWN],
    cut: true,
    keyed: true,
    sensitive: false,
    takes: Some("RoleMappingSetting"),
    gives: Gives::One("RoleMappingPreview"),
    problems: &[Code::MappingInvalid, Code::BodyTooLarge],
};

/// Answers [`SHOW`].
pub(super) async fn show(
    request: HttpRequest,
    state: web::Data<State>,
) -> Result<HttpResponse, Problem> {
    let (engine, cut) = Question::of(&request, &state, &SHOW)?.cut().await?;
    let set = engine.views().mapping(cut);
    let version = set.as_ref().map_or(0, |set| set.version);
    let body = web::block(move || describe(&engine, set))
        .await
        .unwrap_or_else(|_| Err(Code::Internal.into()));
    let mut response =
        pinned_with_roles(cut, version, body.map(|body| body.to_string().into_bytes()));
    tag(&mut response, version);
    Ok(response)
}

/// Answers [`VERSIONS`].
pub(super) async fn versions(
    request: HttpRequest,
    state: web::Data<State>,
) -> Result<HttpResponse, Problem> {
    let mut question = Question::of(&request, &state, &VERSIONS)?;
    let paging = question.take_paging(100, 1000, false);
    let engine = question.finish()?;
    let all = engine.views().mapping_versions();
    let (places, more_before, more_after) = paging.numbers(all)?;
    let sets: Vec<MappingSet> = {
        let views = engine.views();
        places.filter_map(|number| views.mapping_of_version(number)).collect()
    };
    let page = Page {
        items: sets.iter().map(|set| set.version.to_string()).collect(),
        more_before,
        more_after,
    };
    let cursors = paging.cursors(&page, |number| number);
    let items = web::block(move || {
        sets.into_iter()
            .map(|set| Ok(describe(&engine, Some(set))?.to_string().into_bytes()))
            .collect()
    });
    let items: Result<Vec<Vec<u8>>, Problem> = items.await.map_err(|_| Code::Internal)?;
    Ok(json(StatusCode::OK).body(list_of(&items?, cursors)))
}

/// Answers [`SET`].
pub(super) async fn set(
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
        let prepared =
            web::block(move || beside.prepare(&wanted)).await.map_err(|_| Code::Internal)??;
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
    let body = web::block(move || {
        let cut = Cut { known_at: engine.views().head(), ..Cut::LATEST };
        let proposal = engine.propose(without_attributes(&set.mapping), None, cut)?;
        let mut body = describe(&engine, Some(set))?;
        let unmatched = engine.views().unmatched(&proposal, cut, 0).rules;
        if let Some(body) = body.as_object_mut() {
            body.insert("warnings".into(), warnings(&unmatched));
        }
        Ok::<_, Problem>(body)
    });
    let mut response = json(StatusCode::OK).json(body.await.map_err(|_| Code::Internal)??);
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
pub(super) async fn preview(
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
        if lines { (None, 0) } else { (question.take("after"), question.take_limit(100, 1000)) };
    let (engine, cut) = question.cut().await?;
    let Setting { mapping, effective_from, .. } = Setting::of(payload).await?;
    not_in_future(effective_from, time::now_ms())?;
    let beside = engine.clone();
    let proposal = web::block(move || beside.propose(mapping, effective_from, cut))
        .await
        .map_err(|_| Code::Internal)??;
    if lines {
        return Ok(stream(engine, proposal, cut));
    }
    let body = web::block(move || whole(&engine, &proposal, cut, after.as_deref(), limit));
    let (version, body) = body.await.map_err(|_| Code::Internal)??;
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
        return Ok(object!({
            "object": "role_mapping", "version": 0, "seq": null, "effective_from": null, "set_at": null, "set_by": null, "note": null,
            "mapping": null,
        }));
    };
    let (set_by, note) = author(engine, set.seq)?;
    Ok(object!({
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
    unmatched.iter().map(|rule| object!({ "field": format!("mapping.rules[{rule}]"), "code": "no group matches" })).collect()
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
    let (version, unmatched) = {
        let views = engine.views();
        (views.mapping_version(cut), views.unmatched(proposal, cut, GROUPS_SHOWN))
    };
    let next = shown.last().filter(|_| more).map(|change| change.user.clone());
    let changes = describe_changes(engine, &shown)?;
    let Comparison { users, changed, gaining, losing, default_only, roles } = comparison;
    let roles: Vec<Value> = roles
        .into_iter()
        .map(|(role, RoleCounts { gaining, losing, before, after })| {
            object!({ "role": role, "gaining": gaining, "losing": losing, "before": before, "after": after })
        })
        .collect();
    let groups: Vec<Value> = unmatched
        .first_groups
        .into_iter()
        .map(|UnmatchedGroup { id, name, directory }| {
            object!({ "id": id, "name": name, "directory_id": directory })
        })
        .collect();
    let preview = object!({
        "object": "role_mapping_preview",
        "base_version": version,
        "totals": { "users": users, "changed": changed, "gaining": gaining, "losing": losing, "default_only": default_only },
        "roles": roles,
        "warnings": warnings(&unmatched.rules),
        "groups_without_rule": { "count": unmatched.groups, "data": groups },
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
        object!({
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
        .map(|(role, grounds)| object!({ "role": role, "because": because(grounds) }))
        .collect()
}

/// The rule, group and attribute of a reason.
pub(super) fn describe_ground(ground: &Ground) -> Map<String, Value> {
    let (group_id, group_name) =
        ground.group.as_ref().map_or((None, None), |(id, name)| (Some(id), Some(name)));
    let fields = [
        ("rule", object!(ground.rule)),
        ("group_id", object!(group_id)),
        ("group_name", object!(group_name)),
        ("attribute", object!(ground.attribute)),
    ];
    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
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
    let mut response = json(StatusCode::OK);
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
