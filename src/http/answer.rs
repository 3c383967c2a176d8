//! What goes out: JSON objects, the two clocks in headers, and one table of errors.

use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use actix_web::http::StatusCode;
use actix_web::http::header::{ALLOW, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use actix_web::{HttpResponse, HttpResponseBuilder, ResponseError};
use rollcall_projections::{Cut, Millis};
use serde::Serialize;

use crate::engine::CutError;
use crate::log::ReadError;
use crate::time;
use crate::verify::Rejection;

/// A response of JSON, with the request's id.
pub(super) fn json(status: StatusCode) -> HttpResponseBuilder {
    let mut response = HttpResponse::build(status);
    response.insert_header((CONTENT_TYPE, "application/json; charset=utf-8")).insert_header(("X-Request-ID", request_id()));
    response
}

/// Sixteen hex digits: unlike any other of this process, and most likely of any other.
fn request_id() -> String {
    static SEED: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("req_{:016x}", SEED.hash_one(NEXT.fetch_add(1, Ordering::Relaxed)))
}

/// Says at which cut an answer holds: sent back, the two headers repeat it for ever.
pub(super) fn pin(response: &mut HttpResponse, cut: Cut) {
    let as_of = if cut.as_of == Millis::MAX { "latest".to_owned() } else { time::format(cut.as_of) };
    for (name, value) in [("rollcall-as-of", as_of), ("rollcall-known-at", cut.known_at.to_string())] {
        if let Ok(value) = HeaderValue::from_str(&value) {
            response.headers_mut().insert(HeaderName::from_static(name), value);
        }
    }
}

/// A list's page in the contract's envelope. `cursors` are before and after.
pub(super) fn list(items: &[Vec<u8>], [before, after]: [Option<String>; 2]) -> Vec<u8> {
    let mut out = br#"{"object":"list","data":["#.to_vec();
    out.extend(items.join(&b','));
    out.extend_from_slice(br#"],"list_metadata":{"before":"#);
    push_cursor(&mut out, before);
    out.extend_from_slice(br#","after":"#);
    push_cursor(&mut out, after);
    out.extend_from_slice(b"}}");
    out
}

fn push_cursor(out: &mut Vec<u8>, cursor: Option<String>) {
    match cursor {
        Some(cursor) => crate::json::push_string(out, &cursor),
        None => out.extend_from_slice(b"null"),
    }
}

/// An error as it goes out: status, stable code, a sentence, and nothing of ours.
#[derive(Debug, Serialize)]
pub(super) struct Problem {
    #[serde(skip)]
    status: StatusCode,
    #[serde(skip)]
    retry_after_s: Option<u32>,
    message: String,
    code: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<FieldError>,
    #[serde(skip_serializing_if = "Option::is_none")]
    entity_id: Option<String>,
}

/// What is wrong with one parameter.
#[derive(Debug, Serialize)]
pub(super) struct FieldError {
    field: String,
    code: String,
}

impl FieldError {
    pub(super) fn new(field: &str, code: impl Into<String>) -> FieldError {
        FieldError { field: field.into(), code: code.into() }
    }
}

impl Problem {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Problem {
        Problem { status, retry_after_s: None, message: message.into(), code, errors: Vec::new(), entity_id: None }
    }

    fn retry(self) -> Problem {
        Problem { retry_after_s: Some(1), ..self }
    }

    pub(super) fn not_found() -> Problem {
        Problem::new(StatusCode::NOT_FOUND, "not_found", "Not Found")
    }

    /// `kind` in the words of the contract: `Directory User`.
    pub(super) fn entity_not_found(kind: &str, id: &str) -> Problem {
        let message = format!("{kind} not found: '{id}'.");
        Problem { entity_id: Some(id.to_owned()), ..Problem::new(StatusCode::NOT_FOUND, "entity_not_found", message) }
    }

    pub(super) fn method_not_allowed(allowed: &'static str) -> HttpResponse {
        let problem = Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "this path does not know that method");
        let mut response = problem.response();
        response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
        response
    }

    pub(super) fn unauthorized() -> Problem {
        Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", "Unauthorized")
    }

    pub(super) fn validation(errors: Vec<FieldError>) -> Problem {
        Problem { errors, ..Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "validation_failed", "Validation failed") }
    }

    pub(super) fn cursor_invalid(field: &str) -> Problem {
        let errors = vec![FieldError::new(field, "this is not a cursor of this list")];
        Problem { errors, ..Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "cursor_invalid", "Validation failed") }
    }

    pub(super) fn body_too_large() -> Problem {
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", "the body is larger than 1 MiB")
    }

    pub(super) fn unsupported_encoding() -> Problem {
        let message = "the signature covers the raw body: send it without a content encoding";
        Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_encoding", message)
    }

    pub(super) fn queue_full() -> Problem {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "queue_full", "too many events are waiting to be written").retry()
    }

    pub(super) fn log_unavailable() -> Problem {
        Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "log_unavailable",
            "the log cannot be written or be sure of its last records; try again",
        )
        .retry()
    }

    pub(super) fn not_ready() -> Problem {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "not_ready", "the log is still being folded").retry()
    }

    pub(super) fn internal() -> Problem {
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "something went wrong here")
    }

    pub(super) fn response(&self) -> HttpResponse {
        let mut response = json(self.status);
        if let Some(seconds) = self.retry_after_s {
            response.insert_header((RETRY_AFTER, seconds.to_string()));
        }
        response.json(self)
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.code)
    }
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        self.status
    }

    fn error_response(&self) -> HttpResponse {
        self.response()
    }
}

impl From<Rejection> for Problem {
    fn from(rejection: Rejection) -> Problem {
        let code = match rejection {
            Rejection::Missing => "signature_missing",
            Rejection::Malformed => "signature_malformed",
            Rejection::Mismatch => "signature_mismatch",
            Rejection::OutsideTolerance => "timestamp_outside_tolerance",
        };
        Problem::new(StatusCode::UNAUTHORIZED, code, rejection.to_string())
    }
}

impl From<CutError> for Problem {
    fn from(error: CutError) -> Problem {
        let (field, code, message) = match error {
            CutError::AsOfInFuture => ("as_of", "as_of_in_future", "`as_of` is later than this server's clock"),
            CutError::Unsettled => return Problem::log_unavailable(),
            CutError::KnownAtOutOfRange => ("known_at", "known_at_out_of_range", "`known_at` is above the last record, or in the future"),
        };
        let errors = vec![FieldError::new(field, message)];
        Problem { errors, ..Problem::new(StatusCode::UNPROCESSABLE_ENTITY, code, "Validation failed") }
    }
}

impl From<ReadError> for Problem {
    fn from(error: ReadError) -> Problem {
        tracing::error!(%error, "the log could not be read");
        Problem::internal()
    }
}
