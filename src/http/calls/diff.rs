//! The differences between two moments: `GET /rollcall/v1/diff`.

use std::collections::BTreeMap;

use actix_web::{HttpRequest, HttpResponse, web};
use rollcall_projections::{
    Cut, Difference, DifferenceKind, DifferencePlace, Named, Part, Seq, Sight, Subject,
};
use serde::Serialize;

use crate::documents::{FieldChange, changed_fields, conceal, snapshot};
use crate::engine::{CutError, Engine, KnownAt};
use crate::http::wire::answer::{Code, Cursors, Problem, list_in_pieces, pin_from, pinned};
use crate::http::wire::api::{
    Access, Bound, Cost, Gives, IN_DIRECTORY, LIMIT_OWN, Logged, Operation, Parameter, Takes, after,
};
use crate::http::wire::bodies::{BODIES_AT_ONCE, Bodies};
use crate::http::wire::entity::{must_be_named, what_is_seen};
use crate::http::wire::paging::CursorPart as _;
use crate::http::wire::paging::{CursorPlace, PAGE_BYTES_MAX, read_place};
use crate::http::wire::pieces::Pieces;
use crate::http::wire::question::{Question, fix};
use crate::http::wire::state::State;
use crate::http::wire::turns::{Turn, walk_in_turn};
use crate::json::into_well_formed;
use crate::keys::Scope;

const SHAPES: &str = include_str!("diff.schema.json");

const FROM: Parameter = Parameter::new(
    "from",
    Takes::AsOf,
    "2026-03-02T09:00:00.000Z",
    "The first moment: an RFC 3339 time, included, or `latest`",
)
.required();
const TO: Parameter = Parameter::new(
    "to",
    Takes::AsOf,
    "latest",
    "The second moment: an RFC 3339 time, included, or `latest`, as without it",
);
const FROM_KNOWN_AT: Parameter = Parameter::new(
    "from_known_at",
    Takes::KnownAt,
    "12",
    "What had been received by then counts at the first moment: a record's number or an RFC 3339 \
    time",
);
const TO_KNOWN_AT: Parameter = Parameter::new(
    "to_known_at",
    Takes::KnownAt,
    "12",
    "What had been received by then counts at the second moment: a record's number or an RFC 3339 \
    time",
);

/// `GET /rollcall/v1/diff`
pub(crate) const DIFF: Operation = Operation {
    path: "/rollcall/v1/diff",
    name: "listDifferences",
    about: "The differences between two moments, or between the knowledge at two: users, groups, \
        memberships and roles.",
    parameters: &[
        FROM,
        TO,
        FROM_KNOWN_AT,
        TO_KNOWN_AT,
        IN_DIRECTORY,
        after::<DifferencePlace>("user.dXNlcl8x."),
        LIMIT_OWN,
    ],
    access: Access::keyed(Scope::Audit, Bound::Own),
    logged: Logged::Always,
    cost: Cost::High,
    gives: Gives::List("Difference"),
    shapes: SHAPES,
    problems: &[
        Code::AsOfInFuture,
        Code::KnownAtOutOfRange,
        Code::EntityNotFound,
        Code::CursorInvalid,
        Code::LogUnavailable,
    ],
    ..Operation::GET
};

/// Answers [`DIFF`].
pub(crate) async fn diff(
    request: HttpRequest,
    state: web::Data<State>,
) -> Result<HttpResponse, Problem> {
    let mut question = Question::of(&request, &state, &DIFF)?;
    let limit = question.take_limit();
    let (after, directory) = (question.take("after"), question.take("directory"));
    let (from, to) = (question.take_as_of("from"), question.take_as_of("to"));
    let (from_known_at, to_known_at) =
        (question.take_known_at("from_known_at"), question.take_known_at("to_known_at"));
    let sight = question.sight();
    let engine = question.finish()?;
    // Both sides default to the same head.
    let head = KnownAt::Seq(engine.folded_head());
    let refused = |as_of: &'static str, known_at: &'static str| {
        move |error: CutError| Problem::of_cut(error, as_of, known_at)
    };
    let from = fix(&engine, from, from_known_at.or(Some(head)))
        .await
        .map_err(refused("from", "from_known_at"))?;
    let to =
        fix(&engine, to, to_known_at.or(Some(head))).await.map_err(refused("to", "to_known_at"))?;
    let after = read_place("after", after)?;
    let asking = engine.clone();
    let body = walk_in_turn(&state.turns, &engine, &DIFF, move |turn| {
        let scope = DiffScope { sight, directory, cuts: [from, to] };
        page(&asking, turn, &scope, after, limit)
    });
    let mut response = pinned(to, body.await?);
    pin_from(&mut response, from);
    Ok(response)
}

/// The two cuts, and what is compared at them.
struct DiffScope {
    sight: Sight,
    directory: Option<String>,
    cuts: [Cut; 2],
}

/// Returns the differences behind a place. Blocks while it reads the log.
fn page(
    engine: &Engine,
    turn: &Turn,
    scope: &DiffScope,
    mut after: Option<DifferencePlace>,
    limit: usize,
) -> Result<Pieces, Problem> {
    let DiffScope { sight, directory, cuts: [from, to] } = scope;
    let directory = directory.as_deref();
    let named = [directory.map(Named::Directory)];
    must_be_named(engine, sight, *from, named)
        .or_else(|_| must_be_named(engine, sight, *to, named))?;
    let among = engine.diff_candidates(sight, [*from, *to])?;
    let mut shown: Vec<(DifferencePlace, Vec<u8>)> = Vec::new();
    // One more than wanted shows whether there are more.
    while shown.len() <= limit {
        let wanted = BODIES_AT_ONCE.min(limit + 1 - shown.len());
        let (found, next) = {
            let views = engine.views();
            let views = views.seen_by(sight);
            views.differences(directory, among.as_ref(), [*from, *to], after.as_ref(), wanted)
        };
        describe_all(engine, scope, found, &mut shown)?;
        after = next;
        if after.is_none() || !turn.goes_on() || fitting(&shown) < shown.len() {
            break;
        }
    }
    // A page that ends for lack of time goes on behind the place that was reached.
    let mut next = after.map(|place| place.write());
    let kept = fitting(&shown).min(limit);
    if shown.len() > kept {
        shown.truncate(kept);
        next = shown.last().map(|(place, _)| place.write());
    }
    let items: Vec<Vec<u8>> = shown.into_iter().map(|(_, item)| item).collect();
    Ok(list_in_pieces(items, Cursors { before: None, after: next }))
}

/// Returns how many of the differences fit into a page; at least one.
fn fitting(shown: &[(DifferencePlace, Vec<u8>)]) -> usize {
    let mut bytes = 0;
    let fits = |(_, item): &&(DifferencePlace, Vec<u8>)| {
        bytes += item.len();
        bytes <= PAGE_BYTES_MAX
    };
    shown.iter().take_while(fits).count().max(1)
}

/// Writes differences out. Two snapshots that say the same are not a difference.
fn describe_all(
    engine: &Engine,
    scope: &DiffScope,
    found: Vec<Difference>,
    shown: &mut Vec<(DifferencePlace, Vec<u8>)>,
) -> Result<(), Problem> {
    let described = |difference: &Difference| match difference.differs {
        DifferenceKind::Described(snapshots) => Some(snapshots),
        DifferenceKind::Added | DifferenceKind::Removed => None,
    };
    let seqs = found.iter().filter_map(described).flatten().map(|(seq, _)| seq).collect();
    let bodies = Bodies::of(engine, seqs)?;
    let seen = scope.cuts.map(|cut| what_is_seen(engine, &scope.sight, cut));
    for Difference { place, differs } in found {
        let snapshot = |(seq, part): (Seq, Part)| snapshot(bodies.get(seq), part);
        let (change, changed) = match differs {
            DifferenceKind::Added => ("added", BTreeMap::new()),
            DifferenceKind::Removed => ("removed", BTreeMap::new()),
            DifferenceKind::Described([from, to]) => {
                let mut changed = changed_fields(snapshot(from), snapshot(to));
                if let [Some(at_first), Some(at_second)] = &seen {
                    conceal(&mut changed, |named| at_first(named) || at_second(named));
                }
                ("changed", changed)
            }
        };
        if change == "changed" && changed.is_empty() {
            continue;
        }
        let item = serde_json::to_vec(&DescribedDifference::of(&place, change, changed))
            .map_err(|_| Code::Internal)?;
        shown.push((place, into_well_formed(item)));
    }
    Ok(())
}

/// A difference in the answer.
#[derive(Serialize)]
struct DescribedDifference<'a> {
    object: &'static str,
    kind: &'static str,
    change: &'static str,
    user_id: Option<&'a str>,
    group_id: Option<&'a str>,
    role: Option<&'a str>,
    changed: BTreeMap<String, FieldChange<'a>>,
}

impl<'a> DescribedDifference<'a> {
    fn of(
        place: &'a DifferencePlace,
        change: &'static str,
        changed: BTreeMap<String, FieldChange<'a>>,
    ) -> DescribedDifference<'a> {
        let (id, of) = (Some(place.id.as_str()), Some(place.of.as_str()));
        let (user_id, group_id, role) = match place.subject {
            Subject::User => (id, None, None),
            Subject::Group => (None, id, None),
            Subject::Membership => (id, of, None),
            Subject::Role => (id, None, of),
        };
        DescribedDifference {
            object: "difference",
            kind: word(place.subject),
            change,
            user_id,
            group_id,
            role,
            changed,
        }
    }
}

fn word(subject: Subject) -> &'static str {
    match subject {
        Subject::User => "user",
        Subject::Group => "group",
        Subject::Membership => "membership",
        Subject::Role => "role",
    }
}

/// Has the kind and both ids; the ids are in base64, since they may hold any character.
impl CursorPlace for DifferencePlace {
    const PATTERNS: &'static [&'static str] =
        &["(?:user|group|membership|role)", String::PATTERN, String::PATTERN];

    fn read(cursor: &str) -> Option<DifferencePlace> {
        let parts: Vec<&str> = cursor.split('.').collect();
        let &[kind, id, of] = parts.as_slice() else { return None };
        let subject = Subject::ALL.into_iter().find(|subject| word(*subject) == kind)?;
        Some(DifferencePlace { subject, id: String::read(id)?, of: String::read(of)? })
    }

    fn write(&self) -> String {
        format!("{}.{}.{}", word(self.subject), self.id.write(), self.of.write())
    }
}
