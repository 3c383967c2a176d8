//! `/rollcall/v1/reconciliations`: what the source lists, compared with what the log holds.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::rt::time::timeout;
use actix_web::{HttpRequest, HttpResponse, web};
use rollcall_projections::Cut;
use serde_json::{Value, json};

use crate::engine::Engine;
use crate::http::wire::answer::{Code, Cursors, Problem, list_in_pieces, respond};
use crate::http::wire::api::{Access, Bound, Gives, Logged, Operation, after};
use crate::http::wire::body::Body;
use crate::http::wire::paging::{ItemNumber, read_place};
use crate::http::wire::question::{Question, id_in_path, may_read_known_at};
use crate::http::wire::state::State;
use crate::http::wire::threads::blocking;
use crate::keys::{Operator, Scope};
use crate::sources::Source;
use crate::sources::reconcile::{
    DIFFERENCES_KEPT, FoundDifference, Guard, Label, Run, RunRefused, Scope as RunScope, label_of,
};
use crate::time;

const SHAPES: &str = include_str!("reconciliations.schema.json");

/// The longest that a caller waits for the source.
const LOOK_WITHIN: Duration = Duration::from_secs(5);

/// The differences that a run shows in the list of runs.
const DIFFERENCES_LISTED: usize = 10;

/// `GET /rollcall/v1/reconciliations`
pub(crate) const LIST: Operation = Operation {
    path: "/rollcall/v1/reconciliations",
    name: "listReconciliations",
    about: "The last 100 reconciliations since the start, the newest first, each with its first \
        10 differences.",
    access: Access::keyed(Scope::Operate, Bound::Refused),
    logged: Logged::Always,
    gives: Gives::List("Reconciliation"),
    shapes: SHAPES,
    ..Operation::GET
};

/// `POST /rollcall/v1/reconciliations`
pub(crate) const BEGIN: Operation = Operation {
    path: "/rollcall/v1/reconciliations",
    name: "reconcile",
    about: "Compares what the source lists with what the log holds, and records what differs.",
    access: Access::keyed(Scope::Operate, Bound::Refused),
    takes: Some("ReconciliationRequest"),
    needs_body: false,
    gives: Gives::Begun("Reconciliation"),
    shapes: SHAPES,
    problems: &[
        Code::BodyTooLarge,
        Code::EntityNotFound,
        Code::NoSource,
        Code::ReconciliationRunning,
        Code::QueueFull,
    ],
    ..Operation::POST
};

/// `GET /rollcall/v1/reconciliations/{id}`
pub(crate) const ITEM: Operation = Operation {
    path: "/rollcall/v1/reconciliations/{id}",
    name: "getReconciliation",
    about: "One reconciliation: its progress, and 1000 of its differences in the order in which \
        they were decided. Emails, names and values are shown to a key that has the scope `read` \
        as well, or `audit` for a reconciliation that began more than an hour ago.",
    parameters: &[after::<ItemNumber>("1000")],
    access: Access::keyed(Scope::Operate, Bound::Refused),
    logged: Logged::Always,
    gives: Gives::One("Reconciliation"),
    shapes: SHAPES,
    problems: &[Code::NotFound, Code::CursorInvalid],
    ..Operation::GET
};

/// Answers [`LIST`].
pub(crate) async fn list(
    request: HttpRequest,
    state: web::Data<State>,
) -> Result<HttpResponse, Problem> {
    let question = Question::of(&request, &state, &LIST)?;
    let operator = question.operator.clone();
    let engine = question.finish()?;
    let runs = state.source.as_ref().map(|source| source.reconciliations()).unwrap_or_default();
    let items = blocking(move || {
        let page = |run| DifferencePage::of(run, &operator, 0, DIFFERENCES_LISTED);
        let described = runs.iter().map(|run| describe(run, &engine, &page(run)));
        described.map(|item| item.map(|item| item.to_string().into_bytes())).collect()
    });
    let items: Result<Vec<Vec<u8>>, Problem> = items.await?;
    Ok(list_in_pieces(items?, Cursors::default()).response())
}

/// Answers [`ITEM`].
pub(crate) async fn item(
    request: HttpRequest,
    state: web::Data<State>,
) -> Result<HttpResponse, Problem> {
    let mut question = Question::of(&request, &state, &ITEM)?;
    let after = read_place::<ItemNumber>("after", question.take("after"))?;
    let operator = question.operator.clone();
    let engine = question.finish()?;
    let id = id_in_path(&request).ok_or(Code::NotFound)?;
    let source = state.source.as_ref().ok_or(Code::NotFound)?;
    let run = source.reconciliation(&id).ok_or(Code::NotFound)?;
    let first = after.map_or(0, |after| after.number());
    let page = DifferencePage::of(&run, &operator, first, DIFFERENCES_KEPT);
    let body = blocking(move || describe(&run, &engine, &page)).await??;
    Ok(respond(StatusCode::OK).json(body))
}

/// Answers [`BEGIN`].
pub(crate) async fn begin(
    request: HttpRequest,
    payload: web::Payload,
    state: web::Data<State>,
) -> Result<HttpResponse, Problem> {
    let question = Question::of(&request, &state, &BEGIN)?;
    let operator = question.operator.clone();
    let engine = question.finish()?;
    let mut body = Body::of_or_empty(payload, &state.operator_bodies).await?;
    let directory = body.take_text("directory");
    let dry = body.take_flag("dry_run");
    let guard = body.take_word_if_given("guard", &[("off", Guard::Off)]);
    body.finish()?;
    let source = state.source.clone().ok_or(Code::NoSource)?;
    let guard = guard.unwrap_or_else(|| source.configured_guard());
    let scope = RunScope { directory, dry, guard };
    if let Some(id) = &scope.directory
        && !may_exist(&source, &engine, id).await?
    {
        return Err(Problem::entity_not_found("Directory", id));
    }
    let begun = blocking(move || {
        let run = begin_run(&source, &engine, scope)?;
        describe(&run, &engine, &DifferencePage::of(&run, &operator, 0, DIFFERENCES_KEPT))
    });
    Ok(respond(StatusCode::ACCEPTED).json(begun.await??))
}

/// Returns false if neither the log nor the source has a directory. Where the source does not say
/// so at once, the run finds it out.
async fn may_exist(source: &Arc<Source>, engine: &Arc<Engine>, id: &str) -> Result<bool, Problem> {
    let (engine, id) = (engine.clone(), id.to_owned());
    let known = id.clone();
    let held = move || engine.views().held_directory(&known, Cut::LATEST).is_some();
    if source.is_reconciling() || blocking(held).await? {
        return Ok(true);
    }
    let Some(answer) = source.look_for_directory(&id) else { return Ok(true) };
    Ok(timeout(LOOK_WITHIN, answer).await.ok().and_then(Result::ok).unwrap_or(true))
}

/// Begins a run.
fn begin_run(
    source: &Arc<Source>,
    engine: &Arc<Engine>,
    scope: RunScope,
) -> Result<Arc<Run>, Problem> {
    source.reconcile(engine, scope).map_err(|refused| match refused {
        RunRefused::Running => Code::ReconciliationRunning.into(),
        RunRefused::Unavailable => Code::Internal.into(),
    })
}

/// A part of the differences of a run.
struct DifferencePage {
    first: usize,
    limit: usize,
    /// True if the operator may read what the log knew when the run began.
    has_details: bool,
}

impl DifferencePage {
    fn of(run: &Run, operator: &Operator, first: usize, limit: usize) -> DifferencePage {
        let has_details = may_read_known_at(operator, run.started_at);
        DifferencePage { first, limit, has_details }
    }
}

/// Describes a run with some of its differences. Blocks while it reads the log.
fn describe(run: &Run, engine: &Engine, page: &DifferencePage) -> Result<Value, Problem> {
    let now = run.progress.now();
    let directories: Vec<Value> = now
        .directories
        .iter()
        .map(|(id, directory)| {
            json!({
                "id": id,
                "state": directory.state,
                "error": directory.error,
                "exceeds": now.excess_in(id),
            })
        })
        .collect();
    Ok(json!({
        "object": "reconciliation",
        "id": run.id,
        "state": now.state,
        "step": now.step,
        "started_at": time::format(run.started_at),
        "finished_at": now.finished_at.map(time::format),
        "directory": run.scope.directory,
        "dry_run": run.scope.dry,
        "guard": run.scope.guard.to_string(),
        "error": now.error,
        "directories": directories,
        "compared": now.compared,
        "recorded": now.recorded,
        "held": now.held,
        "differences": differences(run, engine, page)?,
    }))
}

fn differences(run: &Run, engine: &Engine, page: &DifferencePage) -> Result<Value, Problem> {
    let (some, all) = run.progress.differences(page.first, page.limit).map_err(unreadable)?;
    let next = page.first.saturating_add(some.len());
    let found = some.iter().filter_map(|text| serde_json::from_str(text).ok());
    let data: Result<Vec<Value>, Problem> =
        found.map(|found| describe_difference(&found, engine, page.has_details)).collect();
    let data = data?;
    let after = (next < all && !data.is_empty()).then(|| next.to_string());
    Ok(json!({ "data": data, "list_metadata": { "before": null, "after": after } }))
}

fn describe_difference(
    found: &FoundDifference,
    engine: &Engine,
    has_details: bool,
) -> Result<Value, Problem> {
    let mut item = json!(found);
    if let Some(fields) = item.as_object_mut() {
        fields.remove("details");
        if has_details {
            let Label { email, name } = label_of(engine, found)?;
            fields.insert("email".into(), email.into());
            fields.insert("name".into(), name.into());
            fields.insert("changed".into(), json!(found.details.changed));
        }
    }
    Ok(item)
}

fn unreadable(error: io::Error) -> Problem {
    tracing::error!(%error, "the differences of a reconciliation cannot be read");
    Code::Internal.into()
}
