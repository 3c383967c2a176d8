//! Who lost access: `GET /rollcall/v1/deprovisionings`.

use actix_web::{HttpRequest, HttpResponse, web};
use rollcall_projections::{Cut, Deprovisioning, DeprovisioningFilter, Millis};
use serde_json::{Value, json as object};

use crate::documents::{Document, DocumentKey, Shape};
use crate::engine::Engine;
use crate::http::wire::answer::{Code, Problem, list as list_of, pinned_with_roles};
use crate::http::wire::api::{
    AFTER_PLACE, BEFORE_PLACE, FOR_USER, FROM_DIRECTORY, Gives, LIMIT_OWN, Method, OF_ORGANIZATION,
    OF_ORGANIZATION_ALIAS, ORDER_TIME, Operation, SHOWED_EMAIL, SINCE, UNTIL,
};
use crate::http::wire::describe::describe_cause;
use crate::http::wire::paging::in_steps;
use crate::http::wire::question::Question;
use crate::http::wire::state::State;
use crate::time;
use crate::verify::email_fingerprint;

/// How many are worked out under one lock.
const STEP: usize = 64;

/// `GET /rollcall/v1/deprovisionings`
pub(crate) const LIST: Operation = Operation {
    method: Method::Get,
    path: "/rollcall/v1/deprovisionings",
    name: "listDeprovisionings",
    about: "Who lost access, exactly when, when that was learnt, why, by which event, with which roles and groups; by moment and user.",
    parameters: &[
        FOR_USER,
        SHOWED_EMAIL,
        FROM_DIRECTORY,
        OF_ORGANIZATION,
        OF_ORGANIZATION_ALIAS,
        SINCE,
        UNTIL,
        AFTER_PLACE,
        BEFORE_PLACE,
        LIMIT_OWN,
        ORDER_TIME,
    ],
    cut: true,
    keyed: true,
    sensitive: true,
    takes: None,
    gives: Gives::List("Deprovisioning"),
    problems: &[Code::CursorInvalid],
};

/// Answers [`LIST`].
pub(crate) async fn list(
    request: HttpRequest,
    state: web::Data<State>,
) -> Result<HttpResponse, Problem> {
    let mut question = Question::of(&request, &state, &LIST)?;
    let places = question.take_places(100, 1000);
    let (user, directory) = (question.take("user"), question.take("directory"));
    let email = question.take("email").map(|email| email_fingerprint(&email));
    let organization = question.take_either("organization_id", "organization");
    let (since, until) = (question.take_moment("since"), question.take_moment("until"));
    let (engine, cut) = question.cut().await?;
    let found = web::block(move || {
        let filter = DeprovisioningFilter {
            user: user.as_deref(),
            email,
            directory: directory.as_deref(),
            organization: organization.as_deref(),
            since,
            until,
        };
        let version = engine.views().mapping_version(cut);
        let walk = |start: Option<(Millis, String)>, descending: bool, limit: usize| {
            walk(&engine, &filter, cut, start, descending, limit)
        };
        let (items, cursors) =
            places.page(|item: &Deprovisioning| (item.end.at, item.user.clone()), walk)?;
        let keys: Vec<DocumentKey> =
            items.iter().map(|item| (item.snapshot.0, item.snapshot.1, Shape::User)).collect();
        let documents = engine.load_documents(&keys)?;
        let items: Vec<Vec<u8>> = items
            .iter()
            .zip(&documents)
            .map(|(item, document)| describe(item, document).to_string().into())
            .collect();
        Ok::<_, Problem>((version, list_of(&items, cursors)))
    });
    let (version, body) = found.await.map_err(|_| Code::Internal)??;
    Ok(pinned_with_roles(cut, version, Ok(body)))
}

fn walk(
    engine: &Engine,
    filter: &DeprovisioningFilter<'_>,
    cut: Cut,
    start: Option<(Millis, String)>,
    descending: bool,
    limit: usize,
) -> (Vec<Deprovisioning>, bool) {
    in_steps(start, limit, |start, limit| {
        let start = start.map(|(moment, user)| (*moment, user.as_str()));
        engine.views().deprovisionings(filter, cut, start, descending, limit.min(STEP))
    })
}

fn describe(item: &Deprovisioning, document: &Document) -> Value {
    let Deprovisioning { user, directory, organization, end, roles, groups, restored_at, .. } =
        item;
    let groups = groups.iter().map(|(id, name)| object!({ "id": id, "name": name }));
    object!({
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
        "proof": format!("/rollcall/v1/log/proof/inclusion?seq={}", end.cause.seq),
    })
}
