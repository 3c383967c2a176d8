//! `POST /webhooks/workos`: bytes -> verify -> append -> fold, and only then 200.

use actix_web::http::StatusCode;
use actix_web::http::header::CONTENT_ENCODING;
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use serde_json::json;
use tokio::time::{Instant, timeout_at};

use crate::engine::IngestError;
use crate::http::wire::answer::{ANSWER_WITHIN, Code, Problem, respond};
use crate::http::wire::body;
use crate::http::wire::state::State;
use crate::log::Outcome;
use crate::verify::Verified;

/// Takes a webhook, and answers within five seconds in any case.
pub(crate) async fn webhook(
    request: HttpRequest,
    payload: web::Payload,
    state: web::Data<State>,
) -> Result<HttpResponse, Problem> {
    let deadline = Instant::now() + ANSWER_WITHIN;
    let answer = timeout_at(deadline, take(&request, payload, &state, deadline)).await;
    let answer = answer.unwrap_or(Err(Code::LogUnavailable));
    Ok(answer.map_err(|code| state.refusals.refuse(code))?)
}

async fn take(
    request: &HttpRequest,
    payload: web::Payload,
    state: &web::Data<State>,
    deadline: Instant,
) -> Result<HttpResponse, Code> {
    let encodings = request.headers().get_all(CONTENT_ENCODING);
    if encodings.into_iter().any(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity"))
    {
        return Err(Code::UnsupportedEncoding);
    }
    // Inside, so that a slow sender is not taken for a log that cannot be written: at the deadline
    // this is the first that is polled.
    let bytes_max = state.keys.now().body_bytes_max;
    let body = timeout_at(deadline, body::read(payload, bytes_max)).await;
    let body = body.map_err(|_| Code::BodyTimeout)??;
    let engine = state.engine.get().ok_or(Code::NotReady)?;
    let now = engine.now().map_err(refused)?;
    let signature = signature(request);
    let event = Verified::webhook(&state.keys.now().keyring, signature.as_deref(), body, now)?;
    let event_id = event.event_id().map(str::to_owned);
    let answer = engine.submit(event).map_err(refused)?;
    let outcome = answer.await.map_err(|_| Code::LogUnavailable)?.map_err(refused)?;
    let (seq, duplicate, conflict) = match outcome {
        Outcome::New(seq) => (seq, false, false),
        Outcome::Duplicate(seq) => (seq, true, false),
        Outcome::Conflict { seq, duplicate, .. } => (seq, duplicate, true),
    };
    let body =
        json!({"seq": seq, "event_id": event_id, "duplicate": duplicate, "conflict": conflict});
    Ok(respond(StatusCode::OK).json(body))
}

/// Returns the signature's header; the values of several are joined.
fn signature(request: &HttpRequest) -> Option<Bytes> {
    let values: Vec<&[u8]> =
        request.headers().get_all("WorkOS-Signature").map(|value| value.as_bytes()).collect();
    (!values.is_empty()).then(|| values.join(&b',').into())
}

fn refused(error: IngestError) -> Code {
    match error {
        IngestError::QueueFull => Code::QueueFull,
        IngestError::Unavailable => Code::LogUnavailable,
    }
}
