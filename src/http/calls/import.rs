//! `POST /rollcall/v1/import`: events that were kept elsewhere, one a line.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use serde::Serialize;
use tokio::time::timeout;

use crate::engine::Engine;
use crate::http::wire::answer::{ANSWER_WITHIN, Code, FieldError, Problem, respond};
use crate::http::wire::api::{Access, Bound, Gives, Operation};
use crate::http::wire::body::must_be_plain;
use crate::http::wire::question::Question;
use crate::http::wire::state::State;
use crate::http::wire::threads::blocking;
use crate::keys::{Operator, Scope};
use crate::log::{BATCH_BYTES_MAX, BATCH_EVENTS_MAX, Outcome};
use crate::verify::{FieldCode, Verified, fault_of_line};

const SHAPES: &str = include_str!("import.schema.json");

/// The bytes of the line break after the last event, which are no part of it.
const LINE_BREAK_BYTES: usize = 2;

/// The number of wrong lines that an error names.
const FAULTS_MAX: usize = 20;

/// `POST /rollcall/v1/import`
pub(crate) const IMPORT: Operation = Operation {
    path: "/rollcall/v1/import",
    name: "importEvents",
    about: "Records events that were kept elsewhere, such as in the files of another consumer, one \
        a line: at most 512 lines and 4 MiB. No signature proves them, and their records say \
        `imported` for ever. An event whose id is in the log is a duplicate, whatever it says, so \
        that the same file may be sent again. One whose id is unusable is recorded all the same: it \
        counts as new, has no effect, and is listed in the quarantine.",
    access: Access::keyed(Scope::Ingest, Bound::Refused),
    takes: Some("ImportedEvents"),
    takes_as: "application/x-ndjson",
    gives: Gives::One("Import"),
    shapes: SHAPES,
    problems: &[Code::UnsupportedEncoding, Code::LogUnavailable],
    ..Operation::POST
};

/// The outcomes of the events of one request.
#[derive(Serialize)]
struct Counts {
    object: &'static str,
    new: u64,
    duplicate: u64,
    differs: u64,
    conflict: u64,
}

impl Counts {
    fn of(outcomes: impl IntoIterator<Item = Outcome>) -> Counts {
        let mut counts = Counts { object: "import", new: 0, duplicate: 0, differs: 0, conflict: 0 };
        for outcome in outcomes {
            match outcome {
                Outcome::New(_) => counts.new += 1,
                Outcome::Duplicate { differs, .. } => {
                    counts.duplicate += 1;
                    counts.differs += u64::from(differs);
                }
                Outcome::Conflict { .. } => counts.conflict += 1,
            }
        }
        counts
    }
}

/// Answers [`IMPORT`].
pub(crate) async fn import(
    request: HttpRequest,
    payload: web::Payload,
    state: web::Data<State>,
) -> Result<HttpResponse, Problem> {
    let question = Question::of(&request, &state, &IMPORT)?;
    let operator = question.operator.clone();
    let engine = question.finish()?;
    must_be_plain(&request)?;
    let read = state.operator_bodies.read(payload, BATCH_BYTES_MAX + LINE_BREAK_BYTES);
    let mut body = timeout(ANSWER_WITHIN, read).await.map_err(|_| Code::BodyTimeout)??;
    let text = body.take();
    if text.trim_ascii_end().len() > BATCH_BYTES_MAX {
        return Err(Code::BodyTooLarge.into());
    }
    let events = blocking(move || events(&operator, &text)).await??;
    let recorded = timeout(ANSWER_WITHIN, record(&engine, events)).await;
    drop(body);
    let counts = recorded.map_err(|_| Code::LogUnavailable)??;
    Ok(respond(StatusCode::OK).json(counts))
}

/// Reads the events, one a line. Lines of white space are skipped.
///
/// # Errors
/// 422 with the wrong lines, or if there are too many or none.
fn events(operator: &Operator, text: &Bytes) -> Result<Vec<Verified>, Problem> {
    let (mut events, mut faults) = (Vec::new(), Vec::new());
    for (line, number) in text.split(|byte| *byte == b'\n').zip(1..) {
        let line = line.trim_ascii();
        if line.is_empty() {
            continue;
        }
        match fault_of_line(line) {
            Some(fault) if faults.len() < FAULTS_MAX => {
                faults.push(FieldError::new(&format!("line {number}"), FieldCode::Invalid, fault));
            }
            Some(_) => {}
            None if events.len() == BATCH_EVENTS_MAX => {
                return Err(refused("it has more than 512 lines: send them in several requests"));
            }
            None => events.push(Verified::imported(operator, text.slice_ref(line))),
        }
    }
    match (faults.is_empty(), events.is_empty()) {
        (false, _) => Err(Problem::validation(faults)),
        (true, true) => Err(refused("it has no event: send one a line")),
        (true, false) => Ok(events),
    }
}

fn refused(message: &'static str) -> Problem {
    Problem::validation(vec![FieldError::new("body", FieldCode::Invalid, message)])
}

/// Records the events. Those before one that finds the queue full may be recorded all the same: the
/// same request may be sent again.
async fn record(engine: &Engine, events: Vec<Verified>) -> Result<Counts, Problem> {
    let mut outcomes = Vec::with_capacity(events.len());
    for answer in events.into_iter().map(|event| engine.submit(event)).collect::<Vec<_>>() {
        let outcome = answer.map_err(Code::from)?.await.map_err(|_| Code::LogUnavailable)?;
        outcomes.push(outcome.map_err(Code::from)?);
    }
    Ok(Counts::of(outcomes))
}
