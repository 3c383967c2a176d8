//! Causes, grounds and authors, described alike by every call that shows them.

use rollcall_projections::{Cause, Ground, OtherUser, SamePerson, Seq};
use serde_json::{Map, Value, json};

use super::answer::Problem;
use crate::delivery::{EndpointReport, PausedBy};
use crate::engine::Engine;
use crate::sources::reconcile::{DirectoryState, Run, RunDirectory};
use crate::sources::{Source, SourceMoments};
use crate::time;
use crate::verify::{Proof, author_name};

/// Describes the event that caused something. Its id is null if the operator does not see it.
pub(crate) fn describe_cause(cause: &Cause) -> Value {
    let event_id = Some(&cause.event_id).filter(|id| !id.is_empty());
    json!({
        "event_id": event_id,
        "event": cause.event,
        "occurred_at": time::format(cause.occurred_at),
        "recorded_at": time::format(cause.recorded_at),
        "seq": cause.seq,
    })
}

/// Describes the rule, group and attribute that give a role.
pub(crate) fn describe_ground(ground: &Ground) -> Map<String, Value> {
    let (group_id, group_name) =
        ground.group.as_ref().map_or((None, None), |(id, name)| (Some(id), Some(name)));
    let fields = [
        ("rule", json!(ground.rule)),
        ("group_id", json!(group_id)),
        ("group_name", json!(group_name)),
        ("attribute", json!(ground.attribute)),
    ];
    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Describes the user who is the same person after a user's end.
pub(crate) fn describe_successor(same_person: &SamePerson) -> Value {
    let successor = same_person.succeeded_by.as_ref();
    json!(
        successor.map(|OtherUser { user, at }| {
            json!({ "user_id": user, "since": time::format(*at) })
        })
    )
}

/// Describes the user who was the same person before its end.
pub(crate) fn describe_predecessor(same_person: &SamePerson) -> Value {
    let predecessor = same_person.preceded_by.as_ref();
    json!(
        predecessor.map(|OtherUser { user, at }| {
            json!({ "user_id": user, "until": time::format(*at) })
        })
    )
}

/// Describes a receiver of webhooks.
pub(crate) fn describe_endpoint(report: &EndpointReport) -> Value {
    json!({
        "object": "endpoint",
        "name": report.name,
        "url": report.url,
        "state": report.state.word(),
        "paused_by": report.paused_by.map(PausedBy::word),
        "position": report.position,
        "lag": report.lag,
        "parked": report.parked,
        "last_error": report.last_error,
        "failing_since": report.failing_since.map(time::format),
        "delivered": report.delivered,
        "failures": report.failures,
    })
}

/// Describes a source. A webhook that was dropped for its pulled or imported copy is counted with
/// the pulled copies.
pub(crate) fn describe_source(source: &Source, engine: &Engine) -> Value {
    let SourceMoments { cursor, caught_up_at, last_success_at, last_error, next_try_at } =
        source.status().moments();
    let next_try_at = next_try_at.filter(|at| *at > time::now_ms());
    let counts = source.status().counts();
    json!({
        "object": "source",
        "url": source.url(),
        "cursor": cursor,
        "caught_up_at": caught_up_at.map(time::format),
        "last_success_at": last_success_at.map(time::format),
        "last_error": last_error.map(|fault| json!({
            "code": fault.code,
            "message": fault.message,
            "at": time::format(fault.at),
        })),
        "next_try_at": next_try_at.map(time::format),
        "pulled": counts.new + counts.duplicates,
        "new": counts.new,
        "duplicates": counts.duplicates,
        "differs": counts.differs + engine.differing_webhooks(),
        "held": counts.held,
        "left_to_webhooks": counts.left,
        "reconciliation": source.reconciliations().first().map(|run| outline(run)),
    })
}

/// Describes a reconciliation without its differences, and its directories by their number.
fn outline(run: &Run) -> Value {
    let now = run.progress.now();
    let compares = |directory: &&RunDirectory| directory.state != DirectoryState::NotCompared;
    json!({
        "id": run.id,
        "state": now.state,
        "step": now.step,
        "directories": now.directories.values().filter(compares).count(),
        "compared": now.compared,
        "started_at": time::format(run.started_at),
        "finished_at": now.finished_at.map(time::format),
        "directory": run.scope.directory,
        "dry_run": run.scope.dry,
        "differences": run.progress.difference_count(),
        "recorded": now.recorded,
        "held": now.held,
    })
}

/// Returns the author of an operator's record, by [`author_name`], and the note in it. Blocks while
/// it reads the log.
pub(crate) fn author(
    engine: &Engine,
    seq: Seq,
) -> Result<(Option<String>, Option<Value>), Problem> {
    let record = engine.record(seq)?;
    let body: Value = serde_json::from_slice(&record.body).unwrap_or_default();
    let name = match record.proof {
        Proof::Operator { key_id } => Some(author_name(key_id, &record.body)),
        Proof::Webhook { .. }
        | Proof::Imported { .. }
        | Proof::Pulled { .. }
        | Proof::Observed { .. }
        | Proof::Scim { .. } => None,
    };
    Ok((name, body.pointer("/data/note").cloned()))
}
