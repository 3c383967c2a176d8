//! Role assignments and their reasons: `GET /rollcall/v1/role_assignments`.

use actix_web::{HttpRequest, HttpResponse, web};
use rollcall_projections::{Assignment, AssignmentFilter, Because, Named, Sight};
use serde_json::{Value, json};

use crate::http::wire::answer::{Code, Problem, pinned_with_roles};
use crate::http::wire::api::{
    Access, Bound, Cost, GROUP_ID, Gives, IN_DIRECTORY, LIMIT_OWN, Logged, MAPPING_VERSION,
    OF_ORGANIZATION, OF_ORGANIZATION_ALIAS, OF_USER, Operation, Parameter, Reads, after, before,
    direction,
};
use crate::http::wire::describe::{describe_cause, describe_ground};
use crate::http::wire::entity::refused_with_roles;
use crate::http::wire::paging::{AT_ONCE, in_steps};
use crate::http::wire::question::Question;
use crate::http::wire::state::State;
use crate::http::wire::turns::walk_in_turn;
use crate::keys::Scope;
use crate::time;

/// The number of assignments that are computed under one lock.
const STEP: usize = 16;

const SHAPES: &str = include_str!("roles.schema.json");

const OF_ROLE: Parameter = Parameter::text("role", "developer", "Of this role");
const THROUGH_GROUP: Parameter =
    Parameter::text("group", GROUP_ID, "For which this group is a reason");

/// `GET /rollcall/v1/role_assignments`
pub(crate) const ASSIGNMENTS: Operation = Operation {
    path: "/rollcall/v1/role_assignments",
    name: "listRoleAssignments",
    about: "Users' roles, each since when and because of which rule, group or attribute and which \
        event; by user and role.",
    parameters: &[
        OF_USER,
        OF_ROLE,
        THROUGH_GROUP,
        IN_DIRECTORY,
        OF_ORGANIZATION,
        OF_ORGANIZATION_ALIAS,
        after::<Holding>("dXNlcl8x.bWVtYmVy"),
        before::<Holding>("dXNlcl8x.bWVtYmVy"),
        LIMIT_OWN,
        direction("By user and role; without it `asc`"),
    ],
    reads: Reads::AtCut,
    access: Access::keyed(Scope::Read, Bound::Own),
    logged: Logged::Always,
    cost: Cost::High,
    gives: Gives::List("RoleAssignment"),
    answer_headers: &[MAPPING_VERSION],
    shapes: SHAPES,
    problems: &[Code::EntityNotFound, Code::CursorInvalid],
    ..Operation::GET
};

/// Answers [`ASSIGNMENTS`].
pub(crate) async fn assignments(
    request: HttpRequest,
    state: web::Data<State>,
) -> Result<HttpResponse, Problem> {
    let mut question = Question::of(&request, &state, &ASSIGNMENTS)?;
    let places = question.take_places();
    let (user, role, group) =
        (question.take("user"), question.take("role"), question.take("group"));
    let directory = question.take("directory");
    let organization = question.take_either("organization_id", "organization");
    let sight = question.sight();
    let (engine, cut) = question.cut().await?;
    let filters = [
        user.as_deref().map(Named::User),
        group.as_deref().map(Named::Group),
        // A mapping is not of an organization: an error would tell a bound key of its roles.
        role.as_deref().filter(|_| sight == Sight::All).map(Named::Role),
        directory.as_deref().map(Named::Directory),
        organization.as_deref().map(Named::Organization),
    ];
    if let Some(refusal) = refused_with_roles(&engine, &sight, cut, filters) {
        return Ok(refusal);
    }
    let asking = engine.clone();
    let found = walk_in_turn(&state.turns, &engine, &ASSIGNMENTS, move |turn| {
        let filter = AssignmentFilter {
            user: user.as_deref(),
            role: role.as_deref(),
            group: group.as_deref(),
            directory: directory.as_deref(),
            organization: organization.as_deref(),
        };
        let version = asking.views().mapping_version(cut);
        let walk = |start: Option<Holding>, descending: bool, limit: usize| {
            // Each one costs a history of roles, so the lock is released between steps: a long page
            // must not delay the writer.
            in_steps(turn, start, limit, |start, limit| {
                let behind = start.map(|(user, role)| (user.as_str(), role.as_str()));
                let views = asking.views();
                let views = views.seen_by(&sight);
                views.assignments(&filter, cut, behind, descending, STEP.min(limit))
            })
        };
        let body = places.write(holding, walk, AT_ONCE, |items| {
            Ok(items.iter().map(|item| describe(item).to_string().into_bytes()).collect())
        })?;
        Ok((version, body))
    });
    let (version, body) = found.await??;
    Ok(pinned_with_roles(cut, version, Ok(body)))
}

/// A place in the list of assignments: a user and a role.
type Holding = (String, String);

fn holding(assignment: &Assignment) -> Holding {
    (assignment.user.clone(), assignment.role.clone())
}

fn describe(assignment: &Assignment) -> Value {
    let because = assignment.because.iter().map(|Because { ground, since, cause }| {
        let mut because = describe_ground(ground);
        because.insert("since".into(), time::format(*since).into());
        because.insert("cause".into(), describe_cause(cause));
        Value::from(because)
    });
    json!({
        "object": "role_assignment",
        "user_id": assignment.user,
        "directory_id": assignment.directory,
        "organization_id": assignment.organization,
        "role": assignment.role,
        "since": time::format(assignment.since),
        "because": because.collect::<Vec<_>>(),
    })
}
