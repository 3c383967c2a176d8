//! Who has which role, and why: `GET /rollcall/v1/role_assignments` and `/rollcall/v1/users/{id}/roles`.

use actix_web::{HttpRequest, HttpResponse, web};
use rollcall_projections::{Assignment, AssignmentFilter, Because, Cause, Cut, Ground, Page, RolePeriod};
use serde_json::{Value, json as object};

use super::State;
use super::answer::{Code, Problem, list as list_of};
use super::api::{
    AFTER_ASSIGNMENT, AFTER_OWN, BEFORE_ASSIGNMENT, FOR_USER, Gives, LIMIT_OWN, Method, OF_DIRECTORY, OF_ORGANIZATION,
    OF_ORGANIZATION_ALIAS, OF_ROLE, ORDER_OWN, ORDER_PLAIN, Operation, THROUGH_GROUP,
};
use super::question::{Place, Question, id_within_path, pinned_with_roles};
use super::role_mapping::describe_ground;
use crate::engine::Engine;
use crate::time;

/// How many assignments are worked out under one lock.
const STEP: usize = 16;

/// `GET /rollcall/v1/role_assignments`
pub(super) const ASSIGNMENTS: Operation = Operation {
    method: Method::Get,
    path: "/rollcall/v1/role_assignments",
    name: "listRoleAssignments",
    about: "Who has which role, since when, and because of which rule, group or attribute and which event; by user and role.",
    parameters: &[
        FOR_USER,
        OF_ROLE,
        THROUGH_GROUP,
        OF_DIRECTORY,
        OF_ORGANIZATION,
        OF_ORGANIZATION_ALIAS,
        AFTER_ASSIGNMENT,
        BEFORE_ASSIGNMENT,
        LIMIT_OWN,
        ORDER_PLAIN,
    ],
    cut: true,
    keyed: true,
    takes: None,
    gives: Gives::List("RoleAssignment"),
    problems: &[Code::CursorInvalid],
};

/// `GET /rollcall/v1/users/{id}/roles`
pub(super) const PERIODS: Operation = Operation {
    method: Method::Get,
    path: "/rollcall/v1/users/{id}/roles",
    name: "listUserRoles",
    about: "Every time in which a user had a role, with what began and what ended it.",
    parameters: &[AFTER_OWN, LIMIT_OWN, ORDER_OWN],
    cut: true,
    keyed: true,
    takes: None,
    gives: Gives::List("RolePeriod"),
    problems: &[Code::EntityNotFound, Code::CursorInvalid],
};

/// Answers [`ASSIGNMENTS`].
pub(super) async fn assignments(request: HttpRequest, state: web::Data<State>) -> Result<HttpResponse, Problem> {
    let mut question = Question::of(&request, &state, &ASSIGNMENTS)?;
    let places = question.take_places(100, 1000);
    let (user, role, group) = (question.take("user"), question.take("role"), question.take("group"));
    let directory = question.take("directory");
    let organization = question.take_either("organization_id", "organization");
    let (engine, cut) = question.cut().await?;
    let found = web::block(move || {
        let filter = AssignmentFilter {
            user: user.as_deref(),
            role: role.as_deref(),
            group: group.as_deref(),
            directory: directory.as_deref(),
            organization: organization.as_deref(),
        };
        let version = engine.views().mapping_version(cut);
        let walk = |start: Option<Holding>, descending: bool, limit: usize| walk(&engine, &filter, cut, start, descending, limit);
        let (items, cursors) = places.page(holding, walk)?;
        let items: Vec<Vec<u8>> = items.iter().map(|assignment| describe(assignment).to_string().into_bytes()).collect();
        Ok::<_, Problem>((version, list_of(&items, cursors)))
    });
    let (version, body) = found.await.map_err(|_| Code::Internal)??;
    Ok(pinned_with_roles(cut, version, Ok(body)))
}

/// A user and a role: a place in the list of assignments.
struct Holding(String, String);

fn holding(assignment: &Assignment) -> Holding {
    Holding(assignment.user.clone(), assignment.role.clone())
}

/// Both parts in hex, since each may hold any character.
impl Place for Holding {
    fn read(cursor: &str) -> Option<Holding> {
        let (user, role) = cursor.split_once('.')?;
        let text = |part: &str| String::from_utf8(hex::decode(part).ok()?).ok();
        Some(Holding(text(user)?, text(role)?))
    }

    fn write(&self) -> String {
        format!("{}.{}", hex::encode(&self.0), hex::encode(&self.1))
    }
}

/// The assignments behind a place, and whether there are more. Each one costs a history of roles: a long page must not keep the writer waiting.
fn walk(
    engine: &Engine,
    filter: &AssignmentFilter<'_>,
    cut: Cut,
    start: Option<Holding>,
    descending: bool,
    limit: usize,
) -> (Vec<Assignment>, bool) {
    let mut start = start.map(|Holding(user, role)| (user, role));
    let mut items = Vec::new();
    // One more than wanted, to know whether there are more.
    while items.len() <= limit {
        let behind = start.as_ref().map(|(user, role)| (user.as_str(), role.as_str()));
        let (found, next) = engine.views().assignments(filter, cut, behind, descending, STEP.min(limit + 1 - items.len()));
        items.extend(found);
        start = next;
        if start.is_none() {
            break;
        }
    }
    let more = items.len() > limit;
    items.truncate(limit);
    (items, more)
}

/// Answers [`PERIODS`].
pub(super) async fn periods(request: HttpRequest, state: web::Data<State>) -> Result<HttpResponse, Problem> {
    let mut question = Question::of(&request, &state, &PERIODS)?;
    let paging = question.take_paging(100, 1000, false);
    let id = id_within_path(&request).ok_or(Code::NotFound)?;
    let (engine, cut) = question.cut().await?;
    let found = web::block(move || {
        let (version, periods) = {
            let views = engine.views();
            (views.mapping_version(cut), views.role_periods(&id, cut))
        };
        let Some(periods) = periods else { return Ok((version, Err(Problem::entity_not_found("Directory User", &id)))) };
        let (numbers, more_before, more_after) = paging.numbers(periods.len())?;
        let items: Vec<(String, &RolePeriod)> = numbers.filter_map(|number| Some((number.to_string(), periods.get(number - 1)?))).collect();
        let page = Page { items, more_before, more_after };
        let cursors = paging.cursors(&page, |(number, _)| number);
        let items: Vec<Vec<u8>> = page.items.iter().map(|(_, period)| describe_period(&id, period).to_string().into_bytes()).collect();
        Ok::<_, Problem>((version, Ok(list_of(&items, cursors))))
    });
    let (version, body) = found.await.map_err(|_| Code::Internal)??;
    Ok(pinned_with_roles(cut, version, body))
}

fn describe(assignment: &Assignment) -> Value {
    let because = assignment.because.iter().map(|Because { rule, group, attribute, since, cause }| {
        let mut because = describe_ground(&Ground { rule: *rule, group: group.clone(), attribute: attribute.clone() });
        because.insert("since".into(), time::format(*since).into());
        because.insert("cause".into(), describe_cause(cause));
        Value::from(because)
    });
    object!({
        "object": "role_assignment",
        "user_id": assignment.user,
        "directory_id": assignment.directory,
        "organization_id": assignment.organization,
        "role": assignment.role,
        "since": time::format(assignment.since),
        "because": because.collect::<Vec<_>>(),
    })
}

fn describe_period(user: &str, period: &RolePeriod) -> Value {
    object!({
        "object": "role_period",
        "user_id": user,
        "role": period.role,
        "from": time::format(period.from),
        "until": period.until.map(time::format),
        "start": describe_cause(&period.start),
        "end": period.end.as_ref().map(describe_cause),
    })
}

/// The event that made something so.
pub(super) fn describe_cause(cause: &Cause) -> Value {
    object!({
        "event_id": cause.event_id,
        "event": cause.event,
        "occurred_at": time::format(cause.occurred_at),
        "recorded_at": time::format(cause.recorded_at),
        "seq": cause.seq,
    })
}
