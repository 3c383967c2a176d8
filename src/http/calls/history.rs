//! The versions of a user or group: `GET /rollcall/v1/users/{id}/history` and
//! `/rollcall/v1/groups/{id}/history`.

use std::collections::BTreeMap;

use actix_web::{HttpRequest, HttpResponse, web};
use rollcall_projections::{
    Cut, EventPlace, Millis, Named, Seen, Seq, VersionKind, VersionRow, Versions,
};
use serde::Serialize;
use serde_json::Value;

use crate::documents::{
    FieldChange, MissedChange, changed_fields, conceal, conceal_missed, missed_fields,
    stated_previous,
};
use crate::http::wire::answer::{Code, Problem, pinned};
use crate::http::wire::api::{
    Access, Bound, Gives, LIMIT_OWN, Logged, Operation, Reads, after, before, direction,
};
use crate::http::wire::bodies::{BODIES_AT_ONCE, Bodies};
use crate::http::wire::describe::describe_cause;
use crate::http::wire::entity::what_is_seen;
use crate::http::wire::paging::{CursorPart, CursorPlace};
use crate::http::wire::question::{Question, id_within_path};
use crate::http::wire::state::State;
use crate::http::wire::threads::blocking;
use crate::json::into_well_formed;
use crate::keys::Scope;
use crate::verify::Proof;

const SHAPES: &str = include_str!("history.schema.json");

/// `GET /rollcall/v1/users/{id}/history`
pub(crate) const OF_USER: Operation = Operation {
    path: "/rollcall/v1/users/{id}/history",
    name: "listUserHistory",
    about: "Every version of a user in the order of events: what it changed, what was missed \
        before it, and the event that caused it.",
    parameters: &[
        after::<EventPlace>("1768478400000.0..ZXZlbnRfMQ"),
        before::<EventPlace>("1768478400000.0..ZXZlbnRfMQ"),
        LIMIT_OWN,
        direction("By when it happened; without it `asc`"),
    ],
    reads: Reads::AtCut,
    access: Access::keyed(Scope::Audit, Bound::Own),
    logged: Logged::Always,
    gives: Gives::List("UserVersion"),
    shapes: SHAPES,
    problems: &[Code::EntityNotFound, Code::CursorInvalid],
    ..Operation::GET
};

/// `GET /rollcall/v1/groups/{id}/history`
pub(crate) const OF_GROUP: Operation = Operation {
    path: "/rollcall/v1/groups/{id}/history",
    name: "listGroupHistory",
    about: "Every version of a group in the order of events: what it changed, what was missed \
        before it, and the event that caused it.",
    gives: Gives::List("GroupVersion"),
    ..OF_USER
};

/// Returns the versions behind a place in a history.
type VersionsAfter = fn(&Seen<'_>, &str, Cut, Option<&EventPlace>, bool, usize) -> Versions;

/// The parts in which the histories of users and of groups differ.
struct History {
    operation: &'static Operation,
    /// The kind of object in the words of the contract.
    name: &'static str,
    knows: fn(&Seen<'_>, &str, Cut) -> bool,
    versions_after: VersionsAfter,
    describe: for<'a> fn(&'a str, Version<'a>) -> DescribedVersion<'a>,
}

static USERS: History = History {
    operation: &OF_USER,
    name: "Directory User",
    knows: |views, id, cut| views.knows_user(id, cut),
    versions_after: |views, id, cut, start, descending, limit| {
        views.user_history(id, cut, start, descending, limit)
    },
    describe: |user_id, version| DescribedVersion {
        object: "user_version",
        user_id: Some(user_id),
        group_id: None,
        version,
    },
};

static GROUPS: History = History {
    operation: &OF_GROUP,
    name: "Directory Group",
    knows: |views, id, cut| views.knows_group(id, cut),
    versions_after: |views, id, cut, start, descending, limit| {
        views.group_history(id, cut, start, descending, limit)
    },
    describe: |group_id, version| DescribedVersion {
        object: "group_version",
        user_id: None,
        group_id: Some(group_id),
        version,
    },
};

/// Answers [`OF_USER`].
pub(crate) async fn of_user(
    request: HttpRequest,
    state: web::Data<State>,
) -> Result<HttpResponse, Problem> {
    answer(request, state, &USERS).await
}

/// Answers [`OF_GROUP`].
pub(crate) async fn of_group(
    request: HttpRequest,
    state: web::Data<State>,
) -> Result<HttpResponse, Problem> {
    answer(request, state, &GROUPS).await
}

async fn answer(
    request: HttpRequest,
    state: web::Data<State>,
    history: &'static History,
) -> Result<HttpResponse, Problem> {
    let mut question = Question::of(&request, &state, history.operation)?;
    let places = question.take_places();
    let id = id_within_path(&request).ok_or(Code::NotFound)?;
    let sight = question.sight();
    let (engine, cut) = question.cut().await?;
    let body = blocking(move || {
        // An id is known once any event mentions it, even one that has not happened yet.
        if !(history.knows)(&engine.views().seen_by(&sight), &id, cut) {
            return Err(Problem::entity_not_found(history.name, &id));
        }
        let walk = |start: Option<EventPlace>, descending: bool, limit: usize| {
            let views = engine.views();
            let views = views.seen_by(&sight);
            (history.versions_after)(&views, &id, cut, start.as_ref(), descending, limit)
        };
        let seen = what_is_seen(&engine, &sight, cut);
        let place = |row: &VersionRow| row.place.clone();
        places.write(place, walk, BODIES_AT_ONCE, |rows| {
            let bodies = Bodies::load(
                &engine,
                rows.iter().flat_map(|row| row.previous.into_iter().chain([row.version])),
            )?;
            let seqs: Vec<Seq> = rows.iter().map(|row| row.version.seq).collect();
            let proofs = engine.load_proofs(&seqs)?;
            let describe = |(row, proof): (&VersionRow, &Proof)| {
                let version = Version::of(row, proof, &bodies, &seen);
                let described = (history.describe)(&id, version);
                let item = serde_json::to_vec(&described).map_err(|_| Code::Internal)?;
                Ok(into_well_formed(item))
            };
            rows.iter().zip(&proofs).map(describe).collect()
        })
    });
    let body = body.await?;
    Ok(pinned(cut, body))
}

/// A version in the answer.
#[derive(Serialize)]
struct Version<'a> {
    change: &'static str,
    changed: BTreeMap<String, FieldChange<'a>>,
    missed: Option<BTreeMap<String, MissedChange<'a>>>,
    late: bool,
    proof: &'static str,
    cause: Value,
}

/// A version with its user or group.
#[derive(Serialize)]
struct DescribedVersion<'a> {
    object: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    group_id: Option<&'a str>,
    #[serde(flatten)]
    version: Version<'a>,
}

impl<'a> Version<'a> {
    fn of(
        row: &VersionRow,
        proof: &Proof,
        bodies: &'a Bodies,
        seen: &Option<impl Fn(Named<'_>) -> bool>,
    ) -> Version<'a> {
        let VersionRow { version, previous, late, ref cause, .. } = *row;
        let change = match version.kind {
            VersionKind::Tombstone => "deleted",
            VersionKind::Snapshot => "snapshot",
            VersionKind::Explicit if cause.event.ends_with(".created") => "created",
            VersionKind::Explicit => "updated",
        };
        // After a deletion the first version describes everything.
        let previous = previous.filter(|previous| previous.kind != VersionKind::Tombstone);
        let mut changed = match version.kind {
            VersionKind::Tombstone => BTreeMap::new(),
            _ => changed_fields(
                previous.map_or("{}", |previous| bodies.snapshot(previous)),
                bodies.snapshot(version),
            ),
        };
        // A snapshot may be an old copy, so a difference from it does not prove a missed event.
        let known = previous.filter(|previous| {
            previous.kind == VersionKind::Explicit && version.kind == VersionKind::Explicit
        });
        let said = known.zip(stated_previous(bodies.get(version.seq)));
        if let Some(seen) = seen {
            conceal(&mut changed, seen);
        }
        let missed = said
            .map(|(known, said)| {
                let mut missed = missed_fields(bodies.snapshot(known), said);
                if let Some(seen) = seen {
                    conceal_missed(&mut missed, seen);
                }
                missed
            })
            .filter(|missed| !missed.is_empty());
        Version { change, changed, missed, late, proof: proof.word(), cause: describe_cause(cause) }
    }
}

/// Has the parts by which events are ordered. The id is in base64: it may hold any character.
impl CursorPlace for EventPlace {
    const PATTERNS: &'static [&'static str] =
        &[Millis::PATTERN, "[01]", "(?:-?[0-9]{1,20})?", String::PATTERN];

    fn read(cursor: &str) -> Option<EventPlace> {
        let parts: Vec<&str> = cursor.split('.').collect();
        let &[occurred_at, closing, updated_at, event_id] = parts.as_slice() else { return None };
        let updated_at =
            if updated_at.is_empty() { None } else { Some(CursorPart::read(updated_at)?) };
        let closing = ["0", "1"].iter().position(|word| *word == closing)? == 1;
        Some(EventPlace {
            occurred_at: CursorPart::read(occurred_at)?,
            closing,
            updated_at,
            event_id: CursorPart::read(event_id)?,
        })
    }

    fn write(&self) -> String {
        let updated_at = self.updated_at.map_or(String::new(), |updated_at| updated_at.to_string());
        format!(
            "{}.{}.{updated_at}.{}",
            self.occurred_at,
            u8::from(self.closing),
            self.event_id.write()
        )
    }
}
