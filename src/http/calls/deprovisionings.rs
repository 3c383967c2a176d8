//! Losses of access: `GET /rollcall/v1/deprovisionings`.

use actix_web::{HttpRequest, HttpResponse, web};
use rollcall_projections::{Deprovisioning, DeprovisioningFilter, Millis, Named, SnapshotRef};
use serde_json::{Value, json};

use crate::documents::{Document, DocumentKey, Shape};
use crate::http::wire::answer::{Code, Problem, pinned_with_roles};
use crate::http::wire::api::{
    Access, Bound, Cost, DIRECTORY_ID, Gives, LIMIT_OWN, Logged, MAPPING_VERSION, OF_ORGANIZATION,
    OF_ORGANIZATION_ALIAS, OF_USER, Operation, Parameter, Reads, after, before, direction, email,
    since, until,
};
use crate::http::wire::describe::{describe_cause, describe_predecessor, describe_successor};
use crate::http::wire::entity::refused_with_roles;
use crate::http::wire::paging::{AT_ONCE, in_steps};
use crate::http::wire::question::Question;
use crate::http::wire::state::State;
use crate::http::wire::turns::walk_in_turn;
use crate::keys::Scope;
use crate::time;
use crate::verify::email_fingerprint;

/// The number of losses that are computed under one lock.
const STEP: usize = 64;

const SHAPES: &str = include_str!("deprovisionings.schema.json");

const FROM_DIRECTORY: Parameter =
    Parameter::text("directory", DIRECTORY_ID, "Of users who were in this directory");

/// `GET /rollcall/v1/deprovisionings`
pub(crate) const LIST: Operation = Operation {
    path: "/rollcall/v1/deprovisionings",
    name: "listDeprovisionings",
    about: "Losses of access: the user, when it ended and when that was learnt, the reason, the \
        event, and the roles and groups until then; by moment and user.",
    parameters: &[
        OF_USER,
        email("Of users who had this email then; case and white space around it do not matter"),
        FROM_DIRECTORY,
        OF_ORGANIZATION,
        OF_ORGANIZATION_ALIAS,
        since("since"),
        until("until"),
        after::<(Millis, String)>("1772442000000.dXNlcl8x"),
        before::<(Millis, String)>("1772442000000.dXNlcl8x"),
        LIMIT_OWN,
        direction("Without it `asc`"),
    ],
    reads: Reads::AtCut,
    access: Access::keyed(Scope::Audit, Bound::Own),
    logged: Logged::Always,
    cost: Cost::High,
    gives: Gives::List("Deprovisioning"),
    answer_headers: &[MAPPING_VERSION],
    shapes: SHAPES,
    problems: &[Code::EntityNotFound, Code::CursorInvalid],
    ..Operation::GET
};

/// Answers [`LIST`].
pub(crate) async fn list(
    request: HttpRequest,
    state: web::Data<State>,
) -> Result<HttpResponse, Problem> {
    let mut question = Question::of(&request, &state, &LIST)?;
    let places = question.take_places();
    let (user, directory) = (question.take("user"), question.take("directory"));
    let email = question.take("email").map(|email| email_fingerprint(&email));
    let organization = question.take_either("organization_id", "organization");
    let (since, until) = (question.take_moment("since"), question.take_moment("until"));
    let sight = question.sight();
    let (engine, cut) = question.cut().await?;
    let filters = [
        user.as_deref().map(Named::User),
        directory.as_deref().map(Named::Directory),
        organization.as_deref().map(Named::Organization),
    ];
    if let Some(refusal) = refused_with_roles(&engine, &sight, cut, filters) {
        return Ok(refusal);
    }
    let asking = engine.clone();
    let found = walk_in_turn(&state.turns, &engine, &LIST, move |turn| {
        let filter = DeprovisioningFilter {
            user: user.as_deref(),
            email,
            directory: directory.as_deref(),
            organization: organization.as_deref(),
            since,
            until,
        };
        let version = asking.views().mapping_version(cut);
        let walk = |start: Option<(Millis, String)>, descending: bool, limit: usize| {
            in_steps(turn, start, limit, |start, limit| {
                let start = start.map(|(moment, user)| (*moment, user.as_str()));
                let views = asking.views();
                let views = views.seen_by(&sight);
                views.deprovisionings(&filter, cut, start, descending, limit.min(STEP))
            })
        };
        let place = |item: &Deprovisioning| (item.end.at, item.user.clone());
        let body = places.write(place, walk, AT_ONCE, |items| {
            let keys: Vec<DocumentKey> = items.iter().map(document_key).collect();
            let described = items.iter().zip(asking.load_documents(&keys)?);
            Ok(described
                .map(|(item, document)| describe(item, &document).to_string().into())
                .collect())
        })?;
        Ok((version, body))
    });
    let (version, body) = found.await??;
    Ok(pinned_with_roles(cut, version, Ok(body)))
}

/// Returns the key of the user's last document before the end.
fn document_key(item: &Deprovisioning) -> DocumentKey {
    let SnapshotRef { seq, part } = item.snapshot;
    DocumentKey { seq, part, shape: Shape::User }
}

fn describe(item: &Deprovisioning, document: &Document) -> Value {
    let Deprovisioning { user, directory, organization, end, roles, groups, restored_at, .. } =
        item;
    let groups = groups.iter().map(|(id, name)| json!({ "id": id, "name": name }));
    json!({
        "object": "deprovisioning",
        "user_id": user,
        "email": document.email(),
        "directory_id": directory,
        "organization_id": organization,
        "reason": end.reason.word(),
        "occurred_at": time::format(end.at),
        "recorded_at": time::format(end.cause.recorded_at),
        "delay_ms": end.cause.recorded_at.saturating_sub(end.cause.occurred_at),
        "cause": describe_cause(&end.cause),
        "roles": roles,
        "groups": groups.collect::<Vec<_>>(),
        "restored_at": restored_at.map(time::format),
        "observed": end.cause.is_observation(),
        "not_before": end.not_before.map(time::format),
        "app_user_id": item.app_user,
        "succeeded_by": describe_successor(&item.same_person),
        "preceded_by": describe_predecessor(&item.same_person),
        "proof": format!("/rollcall/v1/log/proof/inclusion?seq={}", end.cause.seq),
    })
}
