//! `GET /healthz` and `GET /readyz`: the process answers; questions and webhooks are answered.

use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use rollcall_projections::Millis;
use serde_json::{Map, Value, json};

use crate::archive::ArchiveReport;
use crate::engine::{Engine, LogState, Since, SnapshotState};
use crate::http::wire::answer::{Code, Problem, respond};
use crate::http::wire::api::{Access, Gives, Operation};
use crate::http::wire::state::State;
use crate::log::ScrubState;
use crate::sources::SourceState;
use crate::stderr::{self, Taking};
use crate::time;

const SHAPES: &str = include_str!("health.schema.json");

/// `GET /healthz`
pub(crate) const ALIVE: Operation = Operation {
    path: "/healthz",
    name: "health",
    about: "Says that the process answers.",
    access: Access::Open,
    gives: Gives::One("Health"),
    shapes: SHAPES,
    ..Operation::GET
};

/// Answers [`ALIVE`].
pub(crate) async fn alive() -> HttpResponse {
    respond(StatusCode::OK).body(r#"{"status":"ok"}"#)
}

/// `GET /readyz`
pub(crate) const READY: Operation = Operation {
    path: "/readyz",
    name: "readiness",
    about: "Says whether the log is folded and open, so that questions and webhooks are answered. \
        `parts`, which an error has too, says how each part is and since when. A source that does \
        not answer is shown there and is no error: questions are answered from what is known.",
    access: Access::Open,
    gives: Gives::One("Readiness"),
    shapes: SHAPES,
    problems: &[Code::LogUnavailable, Code::NotReady],
    ..Operation::GET
};

/// Answers [`READY`].
pub(crate) async fn ready(state: web::Data<State>) -> Result<HttpResponse, Problem> {
    let engine = state.engine.get();
    let parts = parts(&state, engine);
    match engine.map(|engine| (engine.refuses_events(), engine.folded_head())) {
        None => Err(Problem::with_parts(Code::NotReady, parts)),
        Some((true, _)) => Err(Problem::with_parts(Code::LogUnavailable, parts)),
        Some((false, seq)) => {
            let body = json!({ "status": "ready", "seq": seq, "parts": parts });
            Ok(respond(StatusCode::OK).body(body.to_string()))
        }
    }
}

/// Describes each part that the server has.
fn parts(state: &State, engine: Option<&Arc<Engine>>) -> Value {
    let mut parts = Map::new();
    match engine {
        Some(engine) => {
            parts.extend(of_engine(engine));
            let scrub = engine.scrub().map(|scrub| of_scrub(engine, &scrub));
            parts.extend(scrub.map(|part| ("scrub".to_owned(), part)));
            let snapshot = engine.snapshot().map(|state| of_snapshot(engine, &state));
            parts.extend(snapshot.map(|part| ("snapshot".to_owned(), part)));
        }
        None => parts.extend([
            ("log".to_owned(), part("opening", state.started_at)),
            ("fold".to_owned(), part("folding", state.started_at)),
        ]),
    }
    parts.insert("access_log".to_owned(), of_access_log(state));
    if let Some(source) = &state.source {
        let described = match source.status().state() {
            None => part("waiting", state.started_at),
            Some((SourceState::Answering, since)) => part("answering", since),
            Some((SourceState::Failing, since)) => part("failing", since),
        };
        parts.insert("source".to_owned(), described);
    }
    if let Some(archive) = engine.and_then(|engine| engine.archive()) {
        parts.insert("archive".to_owned(), of_archive(&archive));
    }
    parts.into()
}

fn of_engine(engine: &Engine) -> [(String, Value); 3] {
    let Since { state, since } = engine.log_state();
    let log = match state {
        LogState::Open => "open",
        LogState::Blocked => "blocked",
        LogState::Failed => "failed",
    };
    let clock = engine.clock_believed();
    [
        ("log".to_owned(), part(log, since)),
        ("fold".to_owned(), part("current", engine.started_at())),
        ("clock".to_owned(), part(if clock.state { "believed" } else { "jumped" }, clock.since)),
    ]
}

/// Describes standard error, to which lines of the access log are written.
fn of_access_log(state: &State) -> Value {
    let Taking { is_blocked, since } = stderr::taking();
    part(if is_blocked { "blocked" } else { "open" }, since.unwrap_or(state.started_at))
}

fn of_archive(archive: &ArchiveReport) -> Value {
    let damaged_at = archive.damaged_at.filter(|_| !archive.damaged.is_empty());
    match (&archive.last_error, damaged_at) {
        (Some(_), _) => part("failing", archive.since),
        (None, Some(found_at)) => part("damaged", found_at),
        (None, None) => part("working", archive.since),
    }
}

fn of_scrub(engine: &Engine, scrub: &ScrubState) -> Value {
    match (scrub.found_at, scrub.last_pass) {
        (Some(found_at), _) => part("damaged", found_at),
        (None, None) => match scrub.deferred.and_then(|deferred| deferred.finished_at) {
            Some(finished_at) => part("sound", finished_at),
            None => part("waiting", engine.started_at()),
        },
        (None, Some(pass)) if scrub.doubtful > 0 => part("doubtful", pass.finished_at),
        (None, Some(pass)) => part("sound", pass.finished_at),
    }
}

fn of_snapshot(engine: &Engine, snapshot: &SnapshotState) -> Value {
    let since = snapshot.compared_at.unwrap_or(engine.started_at());
    part(snapshot.comparison.word(), since)
}

fn part(state: &str, since: Millis) -> Value {
    json!({ "state": state, "since": time::format(since) })
}
