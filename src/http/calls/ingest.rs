//! `POST /webhooks/workos`: bytes -> verify -> append -> fold, and only then 200.

use std::cell::Cell;
use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_LENGTH, HeaderName, HeaderValue};
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use rollcall_projections::{Millis, Seq};
use serde::Serialize;
use tokio::time::timeout;

use crate::engine::Engine;
use crate::http::wire::answer::{ANSWER_WITHIN, Code, Problem, respond};
use crate::http::wire::body::must_be_plain;
use crate::http::wire::connections::{UnprovenBody, place_of};
use crate::http::wire::state::{KeySet, State};
use crate::http::wire::threads::{comparing, verifying};
use crate::log::Outcome;
use crate::verify::{Rejection, SignatureHeader, Verified};

/// The header of a webhook's signature.
static SIGNATURE: HeaderName = HeaderName::from_static("workos-signature");

/// The bytes from which on a body is verified on a thread of its own.
const LARGE_BYTES: usize = 256 << 10;

/// The bytes up to which the body of a probe is read.
const PROBE_BYTES_MAX: usize = 4096;

/// The answer to an event that is recorded.
#[derive(Serialize)]
struct Taken<'a> {
    conflict: bool,
    duplicate: bool,
    event_id: Option<&'a str>,
    seq: Seq,
}

/// Takes a webhook, and answers within five seconds in any case.
pub(crate) async fn webhook(
    request: HttpRequest,
    payload: web::Payload,
    state: web::Data<State>,
) -> Result<HttpResponse, Problem> {
    // A slow sender must not be taken for a log that cannot be written.
    let too_late = Cell::new(Code::BodyTimeout);
    let answer = timeout(ANSWER_WITHIN, take(&request, payload, &state, &too_late)).await;
    let answer = answer.unwrap_or_else(|_| Err(too_late.get()));
    let is_probe = || signature(&request).is_ok_and(|signature| signature.is_probe());
    Ok(answer.map_err(|code| match code {
        Code::TimestampOutsideTolerance if is_probe() => state.refusals.refuse_probe(code),
        code => state.refusals.refuse(code),
    })?)
}

/// Takes a webhook. `too_late` becomes the answer where this takes too long.
async fn take(
    request: &HttpRequest,
    payload: web::Payload,
    state: &web::Data<State>,
    too_late: &Cell<Code>,
) -> Result<HttpResponse, Code> {
    must_be_plain(request)?;
    let engine = state.engine.get().ok_or(Code::NotReady)?;
    let (signature, bytes_max) = admit(request, state, engine.now().map_err(Code::from)?)?;
    let unproven = UnprovenBody::of(request);
    let body = state.bodies.read(payload, bytes_max).await;
    drop(unproven);
    too_late.set(Code::LogUnavailable);
    let mut body = body?;
    let now_ms = engine.now().map_err(Code::from)?;
    let event = verify(state.keys.now(), signature, body.take(), now_ms).await??;
    drop(body);
    place_of(request).iter().for_each(|place| place.prove());
    let event_id = event.event_id().map(str::to_owned);
    let outcome = record(engine, event).await?;
    let (seq, duplicate, conflict) = match outcome {
        Outcome::New(seq) => (seq, false, false),
        Outcome::Duplicate { seq, .. } => (seq, true, false),
        Outcome::Conflict { seq, duplicate, .. } => (seq, duplicate, true),
    };
    let event_id = event_id.as_deref();
    Ok(respond(StatusCode::OK).json(Taken { conflict, duplicate, event_id, seq }))
}

/// Checks what can be checked before the body is there. Returns the signature, and the most bytes
/// that the body may have.
fn admit(
    request: &HttpRequest,
    state: &State,
    now_ms: Millis,
) -> Result<(SignatureHeader, usize), Code> {
    let (signature, keys) = (signature(request)?, state.keys.now());
    // A body that cannot become authentic is not read, but that of a probe: its signature is judged
    // first.
    if !(signature.is_probe() && is_small(request)) {
        keys.keyring.admit(&signature, now_ms)?;
    }
    Ok((signature, keys.body_bytes_max))
}

/// Records an event, unless it repeats one that is recorded and folded: then nothing is to be
/// written, and the writer need not see it.
async fn record(engine: &Arc<Engine>, event: Verified) -> Result<Outcome, Code> {
    let among = engine.may_repeat(&event);
    let lately = engine.repeated_lately(&event, &among);
    let (event, repeated) = if among.is_empty() || lately.is_some() {
        (event, lately)
    } else {
        let engine = engine.clone();
        let compare = move || {
            let repeated = engine.repeated(&event, &among);
            (event, repeated)
        };
        comparing(compare).await?
    };
    if let Some(outcome) = repeated {
        return Ok(outcome);
    }
    let answer = engine.submit(event).map_err(Code::from)?;
    answer.await.map_err(|_| Code::LogUnavailable)?.map_err(Code::from)
}

/// Tells if a request says that its body is as small as that of a probe.
fn is_small(request: &HttpRequest) -> bool {
    let length = request.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    length
        .and_then(|length| length.parse().ok())
        .is_some_and(|length: usize| length <= PROBE_BYTES_MAX)
}

/// Verifies a body; a large one on a thread of its own.
async fn verify(
    keys: Arc<KeySet>,
    signature: SignatureHeader,
    body: Bytes,
    now_ms: Millis,
) -> Result<Result<Verified, Rejection>, Code> {
    let large = body.len() > LARGE_BYTES;
    let work = move || Verified::signed(&keys.keyring, &signature, body, now_ms);
    if large { verifying(work).await } else { Ok(work()) }
}

/// Reads the signature's header.
fn signature(request: &HttpRequest) -> Result<SignatureHeader, Rejection> {
    SignatureHeader::read(request.headers().get_all(&SIGNATURE).map(HeaderValue::as_bytes))
}
