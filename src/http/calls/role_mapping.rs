//! `/rollcall/v1/role_mapping`: the rules from groups and attributes to roles, set and previewed.

use std::io;
use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::http::header::{ACCEPT, CONTENT_TYPE, ETAG, HeaderValue, IF_MATCH};
use actix_web::{HttpRequest, HttpResponse, web};
use rollcall_projections::{
    Comparison, Cut, Ground, Judged, Mapping, MappingSet, Millis, Proposal, RoleChange, RoleCounts,
    RuleWarning, SnapshotRef, UnmatchedGroup, WarningReason,
};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::documents::{DocumentKey, Shape};
use crate::engine::{ActError, Engine, Expect, not_in_future};
use crate::http::wire::answer::{
    Code, FieldError, Problem, done_in_time, pin, pinned_with_roles, respond,
};
use crate::http::wire::api::{
    Access, AnswerHeader, Bound, Cost, Gives, LIMIT_OWN, MAPPING_VERSION, ORDER_OWN, Operation,
    Parameter, Reads, Takes, USER_ID, after, before,
};
use crate::http::wire::body::{BodiesInFlight, Body};
use crate::http::wire::describe::{author, describe_ground};
use crate::http::wire::paging::{AT_ONCE, Fitted, ItemNumber, digits, fit};
use crate::http::wire::question::Question;
use crate::http::wire::state::State;
use crate::http::wire::stream::Streamed;
use crate::http::wire::threads::{self, blocking};
use crate::http::wire::turns::{Turn, Turns, in_turn, long_turn};
use crate::keys::{Operator, Scope};
use crate::time;
use crate::verify::{FieldCode, mapping_json};

/// The most groups without a rule that a preview shows.
const GROUPS_SHOWN: usize = 100;

/// The most parts of a preview, each of up to some thousand lines, that wait for a slow reader.
const TEXTS_WAITING: usize = 4;

/// The most times that a mapping is prepared, since another one may be set meanwhile.
const TRIES_MAX: usize = 32;

const SHAPES: &str = include_str!("role_mapping.schema.json");

const AFTER_USER: Parameter = Parameter::text("after", USER_ID, "Only what follows this user");

const VERSION_TAG: AnswerHeader = AnswerHeader {
    name: "ETag",
    about: "The version in double quotes, which `If-Match` takes.",
    pattern: "^\"[0-9]+\"$",
};

/// The precondition that any version meets, and the regular expression of those that one meets.
const ANY_VERSION: &str = "*";
const ONE_VERSION: &str = "^\"[0-9]{1,20}\"$";
const IF_VERSION: Parameter = Parameter::new(
    "If-Match",
    Takes::WordOrForm(ANY_VERSION, ONE_VERSION),
    "*",
    "One version in double quotes, as `ETag` gives it: set the mapping only if that one is still \
    the latest, 0 being none. `*`: only if there is one",
);

/// `GET /rollcall/v1/role_mapping`
pub(crate) const SHOW: Operation = Operation {
    path: "/rollcall/v1/role_mapping",
    name: "getRoleMapping",
    about: "The role mapping in force, with its version as `ETag`.",
    reads: Reads::AtCut,
    access: Access::keyed(Scope::Read, Bound::Refused),
    gives: Gives::One("RoleMapping"),
    answer_headers: &[MAPPING_VERSION, VERSION_TAG],
    shapes: SHAPES,
    ..Operation::GET
};

/// `GET /rollcall/v1/role_mapping/versions`
pub(crate) const VERSIONS: Operation = Operation {
    path: "/rollcall/v1/role_mapping/versions",
    name: "listRoleMappings",
    about: "Every role mapping that was set, in order of version.",
    parameters: &[after::<ItemNumber>("1"), before::<ItemNumber>("1"), LIMIT_OWN, ORDER_OWN],
    access: Access::keyed(Scope::Audit, Bound::Refused),
    gives: Gives::List("RoleMapping"),
    shapes: SHAPES,
    problems: &[Code::CursorInvalid],
    ..Operation::GET
};

/// `PUT /rollcall/v1/role_mapping`
pub(crate) const SET: Operation = Operation {
    path: "/rollcall/v1/role_mapping",
    name: "setRoleMapping",
    about: "Sets the role mapping, from now on or from a past moment on. With `If-Match` only if \
        that version is still the latest.",
    headers: &[IF_VERSION],
    access: Access::keyed(Scope::Operate, Bound::Refused),
    cost: Cost::High,
    takes: Some("RoleMappingSetting"),
    gives: Gives::One("RoleMapping"),
    answer_headers: &[VERSION_TAG],
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
    about: "Previews a mapping without setting it. With `Accept: application/x-ndjson` every \
        change, one a line; then `after` and `limit` are refused.",
    parameters: &[AFTER_USER, LIMIT_OWN],
    reads: Reads::AtCut,
    access: Access::keyed(Scope::Operate, Bound::Refused),
    cost: Cost::High,
    takes: Some("RoleMappingSetting"),
    gives: Gives::OneOrLines { one: "RoleMappingPreview", lines: "RoleChange" },
    answer_headers: &[MAPPING_VERSION],
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
    let body = blocking(move || Ok(describe(&engine, set)?.to_string().into_bytes()));
    let mut response = pinned_with_roles(cut, version, body.await.flatten());
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
    let page = paging.numbers(engine.views().mapping_versions())?;
    let body = blocking(move || {
        paging.write(page, usize::to_string, |out, number| {
            let set = engine.views().mapping_of_version(*number);
            out.extend_from_slice(describe(&engine, set)?.to_string().as_bytes());
            Ok(())
        })
    });
    Ok(body.await??.response())
}

/// Answers [`SET`].
pub(crate) async fn set(
    request: HttpRequest,
    payload: web::Payload,
    state: web::Data<State>,
) -> Result<HttpResponse, Problem> {
    let question = Question::of(&request, &state, &SET)?;
    let operator = question.operator.clone();
    let engine = question.finish()?;
    let expect = precondition(&request)?;
    let setting = Setting::of(payload, &state.operator_bodies).await?;
    // What the writer would refuse anyway is refused before the mapping is prepared.
    not_in_future(setting.effective_from, time::now_ms())?;
    if let Expect::Version(version) = expect
        && version != engine.views().mapping_versions()
    {
        return Err(ActError::VersionConflict.into());
    }
    let set = record(&state.turns, &engine, operator, setting, expect).await?;
    let version = set.version;
    let describing = engine.clone();
    let described = in_turn(&state.turns, &engine, &SET, move |turn| {
        Ok::<_, Problem>(describe_with_warnings(&describing, set, turn)?.to_string())
    });
    let mut response = respond(StatusCode::OK).body(described.await??);
    tag(&mut response, version);
    Ok(response)
}

/// Has the writer set a mapping. It is prepared again if another one is set meanwhile.
async fn record(
    turns: &Turns,
    engine: &Arc<Engine>,
    operator: Operator,
    setting: Setting,
    expect: Expect,
) -> Result<MappingSet, Problem> {
    let Setting { mapping, effective_from, note } = setting;
    let mut tries = 0;
    loop {
        tries += 1;
        let (preparing, wanted) = (engine.clone(), mapping.clone());
        let prepared = in_turn(turns, engine, &SET, move |turn| {
            let prepared = preparing.prepare(&wanted, &|| turn.is_wanted());
            prepared.map_err(|error| turn.problem(error))
        });
        let prepared = prepared.await??;
        let (mapping, note) = (mapping.clone(), note.clone());
        let set =
            engine.set_mapping(operator.clone(), mapping, prepared, expect, effective_from, note);
        match done_in_time(set).await {
            Err(ActError::Overtaken) if tries < TRIES_MAX => {}
            set => return Ok(set?),
        }
    }
}

/// Describes a mapping just set, with the warnings about its rules. Blocks while it reads the log.
fn describe_with_warnings(engine: &Engine, set: MappingSet, turn: &Turn) -> Result<Value, Problem> {
    let cut = Cut { known_at: engine.folded_head(), ..Cut::LATEST };
    let judged = Judged::Set(set.version);
    let found = engine.unmatched(judged, &set.mapping, cut, 0, &|| turn.is_wanted());
    let found = found.map_err(|error| turn.problem(error))?;
    let mut body = describe(engine, Some(set))?;
    if let Some(body) = body.as_object_mut() {
        body.insert("warnings".into(), found.warnings.iter().map(describe_warning).collect());
    }
    Ok(body)
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
    // Lines are the whole preview, so the parameters of a page stay untaken and are refused.
    let (after, limit) =
        if lines { (None, 0) } else { (question.take("after"), question.take_limit()) };
    let (engine, cut) = question.cut().await?;
    let Setting { mapping, effective_from, .. } =
        Setting::of(payload, &state.operator_bodies).await?;
    not_in_future(effective_from, time::now_ms())?;
    let asking = engine.clone();
    if lines {
        let turn = long_turn(&state.turns, &engine, &PREVIEW).await?;
        let proposed = blocking(move || {
            let proposal = asking.propose(mapping, effective_from, cut, &|| turn.is_wanted());
            proposal.map(|proposal| (turn, proposal))
        });
        let (turn, proposal) = proposed.await?.map_err(|error| Problem::of_work(error, &engine))?;
        return Ok(stream(engine, turn, proposal, cut));
    }
    let body = in_turn(&state.turns, &engine, &PREVIEW, move |turn| {
        let proposal = asking
            .propose(mapping, effective_from, cut, &|| turn.goes_on())
            .map_err(|error| turn.problem(error))?;
        let (version, body) = whole(&asking, &proposal, cut, after.as_deref(), limit, turn)?;
        Ok::<_, Problem>((version, body.to_string().into_bytes()))
    });
    let (version, body) = body.await??;
    Ok(pinned_with_roles(cut, version, Ok(body)))
}

/// The body that sets a mapping.
struct Setting {
    mapping: Mapping,
    effective_from: Option<Millis>,
    note: Option<String>,
}

impl Setting {
    async fn of(payload: web::Payload, bodies: &BodiesInFlight) -> Result<Setting, Problem> {
        let mut body = Body::of(payload, bodies).await?;
        let (effective_from, note) = (body.take_moment("effective_from"), body.take_note());
        // A mapping may be large.
        let taken = blocking(move || {
            let mapping = body.take_mapping();
            (body, mapping)
        });
        let (body, mapping) = taken.await?;
        body.finish()?;
        Ok(Setting { mapping: mapping?, effective_from, note })
    }
}

/// Reads the precondition in `If-Match`
/// (<https://www.rfc-editor.org/rfc/rfc9110#section-13.1.1>): one version, or any.
fn precondition(request: &HttpRequest) -> Result<Expect, Problem> {
    let Some(value) = request.headers().get(IF_MATCH) else { return Ok(Expect::NoMatter) };
    read_precondition(value.to_str().unwrap_or("").trim()).ok_or_else(|| {
        Problem::validation(vec![FieldError::new(
            "If-Match",
            FieldCode::Invalid,
            "it must be one version in double quotes, as `ETag` gives it, or `*`",
        )])
    })
}

/// Reads one version in double quotes, or `*`.
fn read_precondition(value: &str) -> Option<Expect> {
    if value == ANY_VERSION {
        return Some(Expect::Exists);
    }
    let version = digits(value.strip_prefix('"')?.strip_suffix('"')?)?;
    Some(Expect::Version(version.try_into().unwrap_or(usize::MAX)))
}

fn tag(response: &mut HttpResponse, version: usize) {
    if let Ok(tag) = HeaderValue::from_str(&format!("\"{version}\"")) {
        response.headers_mut().insert(ETAG, tag);
    }
}

/// Describes a mapping and the key that set it; before the first, none. Blocks while it reads the
/// log.
fn describe(engine: &Engine, set: Option<MappingSet>) -> Result<Value, Problem> {
    let Some(set) = set else {
        return Ok(json!({
            "object": "role_mapping", "version": 0, "seq": null, "effective_from": null,
            "set_at": null, "set_by": null, "note": null, "mapping": null,
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

fn describe_warning(warning: &RuleWarning) -> Value {
    let (code, message) = match &warning.reason {
        WarningReason::NoGroup => ("no_group_matches", "no group matches".to_owned()),
        WarningReason::NoUser { path } => (
            "no_user_matches",
            format!(
                "nobody has this attribute: no user with access has one of the values of `{path}`"
            ),
        ),
        WarningReason::NamesAlike { name } => (
            "names_alike",
            format!(
                "names differ only in Unicode normalization: `{name}` is written in two ways, \
                 which this rule takes for one name"
            ),
        ),
    };
    let field = format!("mapping.rules[{}]", warning.rule);
    json!({ "field": field, "code": code, "message": message })
}

/// Describes the whole preview, with one page of its changes, and returns the version of the
/// mapping in force.
fn whole(
    engine: &Engine,
    proposal: &Proposal,
    cut: Cut,
    after: Option<&str>,
    limit: usize,
    turn: &Turn,
) -> Result<(usize, Value), Problem> {
    let mut shown: Vec<RoleChange> = Vec::new();
    let comparison = engine.compare(proposal, cut, &|| turn.goes_on(), |changes| {
        let wanted = changes
            .into_iter()
            .filter(|change| after.is_none_or(|after| change.user.as_str() > after));
        shown.extend(wanted.take(limit + 1 - shown.len()));
    });
    let comparison = comparison.map_err(|error| turn.problem(error))?;
    let more = shown.len() > limit;
    shown.truncate(limit);
    let bytes = |change: &Value| change.to_string().len();
    let write = |changes: &[RoleChange]| describe_changes(engine, changes);
    let Fitted { written, kept } = fit(&shown, false, AT_ONCE, bytes, write)?;
    let more = more || kept.end < shown.len();
    let shown = shown.get(kept).unwrap_or(&[]);
    let next = shown.last().filter(|_| more).map(|change| change.user.clone());
    let version = engine.views().mapping_version(cut);
    let (judged, mapping) = (Judged::Proposed(proposal), proposal.mapping());
    let unmatched = engine
        .unmatched(judged, mapping, cut, GROUPS_SHOWN, &|| turn.goes_on())
        .map_err(|error| turn.problem(error))?;
    let groups = unmatched.first_groups.into_iter().map(|group| {
        let UnmatchedGroup { id, name, directory } = group;
        json!({ "id": id, "name": name, "directory_id": directory })
    });
    let preview = json!({
        "object": "role_mapping_preview",
        "base_version": version,
        "totals": totals(&comparison),
        "roles": count_roles(comparison),
        "warnings": unmatched.warnings.iter().map(describe_warning).collect::<Vec<Value>>(),
        "groups_without_rule": {
            "count": unmatched.groups,
            "data": groups.collect::<Vec<Value>>(),
        },
        "changes": {
            "object": "list",
            "data": written,
            "list_metadata": { "before": null, "after": next },
        },
    });
    Ok((version, preview))
}

fn totals(comparison: &Comparison) -> Value {
    json!({
        "users": comparison.users,
        "changed": comparison.changed,
        "gaining": comparison.gaining,
        "losing": comparison.losing,
        "default_only": comparison.default_only,
    })
}

fn count_roles(comparison: Comparison) -> Vec<Value> {
    let roles = comparison.roles.into_iter().map(|(role, counts)| {
        let RoleCounts { gaining, losing, before, after } = counts;
        json!({
            "role": role,
            "gaining": gaining,
            "losing": losing,
            "before": before,
            "after": after,
        })
    });
    roles.collect()
}

/// Describes changes, with the users' emails. Blocks while it reads the log.
fn describe_changes(engine: &Engine, changes: &[RoleChange]) -> Result<Vec<Value>, Problem> {
    let keys: Vec<_> = changes
        .iter()
        .map(|RoleChange { snapshot: SnapshotRef { seq, part }, .. }| DocumentKey {
            seq: *seq,
            part: *part,
            shape: Shape::User,
        })
        .collect();
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

/// Streams every change, one a line, as fast as it is read.
fn stream(engine: Arc<Engine>, turn: Turn, proposal: Proposal, cut: Cut) -> HttpResponse {
    let version = engine.views().mapping_version(cut);
    let (lines, waiting) = mpsc::channel(TEXTS_WAITING);
    threads::begin(move || {
        // A reader that leaves drops the channel, which ends the work.
        let goes_on = || turn.is_wanted() && !lines.is_closed();
        let mut is_whole = true;
        let compared = engine.compare(&proposal, cut, &goes_on, |changes| {
            let described = describe_changes(&engine, &changes);
            is_whole &= described.is_ok();
            let text: String =
                described.iter().flatten().map(|change| format!("{change}\n")).collect();
            if is_whole && !text.is_empty() {
                let _ = lines.blocking_send(Ok(text.into()));
            }
        });
        // The stream must break off, since an ordinary end would look complete.
        if compared.is_err() || !is_whole {
            let _ = lines.blocking_send(Err(io::ErrorKind::Other.into()));
        }
    });
    let mut response = respond(StatusCode::OK);
    response
        .insert_header((CONTENT_TYPE, "application/x-ndjson"))
        .insert_header(("Rollcall-Mapping-Version", version));
    let mut response = response.body(Streamed(waiting));
    pin(&mut response, cut);
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::wire::patterns::assert_agree;

    #[test]
    fn preconditions_are_those_of_their_pattern() {
        let reads = |text: &str| matches!(read_precondition(text), Some(Expect::Version(_)));
        let values = ["\"0\"", "\"31\"", "\"99999999999999999999\""];
        assert_agree(ONE_VERSION, reads, &values, "0123456789\"*W/ ");
        assert!(matches!(read_precondition(ANY_VERSION), Some(Expect::Exists)));
    }
}
