//! What goes out: JSON objects, the two clocks in headers, and one table of errors.

use std::borrow::Cow;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{ALLOW, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use actix_web::{HttpResponse, HttpResponseBuilder, ResponseError, web};
use rollcall_projections::{Cut, Millis};
use serde::Serialize;

use crate::documents::{Document, DocumentKey};
use crate::engine::{ActError, ChangeError, CutError, Engine};
use crate::log::ReadError;
use crate::time;
use crate::verify::{MappingError, Rejection};

/// Every request is answered within this time; how long a stop waits for requests in flight.
pub(crate) const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// A response of JSON, with the request's id.
pub(crate) fn json(status: StatusCode) -> HttpResponseBuilder {
    let mut response = HttpResponse::build(status);
    response
        .insert_header((CONTENT_TYPE, "application/json; charset=utf-8"))
        .insert_header(("X-Request-ID", request_id()));
    response
}

/// Sixteen hex digits: unlike any other of this process, and most likely of any other.
fn request_id() -> String {
    static SEED: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("req_{:016x}", SEED.hash_one(NEXT.fetch_add(1, Ordering::Relaxed)))
}

/// Says at which cut an answer holds: sent back, the two headers repeat it for ever.
pub(crate) fn pin(response: &mut HttpResponse, cut: Cut) {
    for (name, value) in ["rollcall-as-of", "rollcall-known-at"].into_iter().zip(told(cut)) {
        if let Ok(value) = HeaderValue::from_str(&value) {
            response.headers_mut().insert(HeaderName::from_static(name), value);
        }
    }
}

/// A cut as parameters take it: when things happened, and when they were known.
pub(crate) fn told(cut: Cut) -> [String; 2] {
    let as_of =
        if cut.as_of == Millis::MAX { "latest".to_owned() } else { time::format(cut.as_of) };
    [as_of, cut.known_at.to_string()]
}

/// A list's page in the contract's envelope. `cursors` are before and after.
pub(crate) fn list(items: &[Vec<u8>], [before, after]: [Option<String>; 2]) -> Vec<u8> {
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

/// Every error, with its stable code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    InvalidEventsRequest,
    SignatureMissing,
    SignatureMalformed,
    SignatureMismatch,
    TimestampOutsideTolerance,
    Unauthorized,
    EntityNotFound,
    NotFound,
    MethodNotAllowed,
    VersionConflict,
    BodyTooLarge,
    UnsupportedEncoding,
    ValidationFailed,
    AsOfInFuture,
    KnownAtOutOfRange,
    CursorInvalid,
    MappingInvalid,
    QueueFull,
    LogUnavailable,
    NotReady,
    Internal,
}

impl Code {
    /// Every code, in order of status.
    pub(crate) const ALL: [Code; 21] = [
        Code::InvalidEventsRequest,
        Code::SignatureMissing,
        Code::SignatureMalformed,
        Code::SignatureMismatch,
        Code::TimestampOutsideTolerance,
        Code::Unauthorized,
        Code::EntityNotFound,
        Code::NotFound,
        Code::MethodNotAllowed,
        Code::VersionConflict,
        Code::BodyTooLarge,
        Code::UnsupportedEncoding,
        Code::ValidationFailed,
        Code::AsOfInFuture,
        Code::KnownAtOutOfRange,
        Code::CursorInvalid,
        Code::MappingInvalid,
        Code::QueueFull,
        Code::LogUnavailable,
        Code::NotReady,
        Code::Internal,
    ];

    /// Those of a webhook that was not proven, in the order in which they are looked for.
    pub(crate) const SIGNATURES: [Code; 4] = [
        Code::SignatureMissing,
        Code::SignatureMalformed,
        Code::SignatureMismatch,
        Code::TimestampOutsideTolerance,
    ];

    /// The one table: code, status, and the message unless there is more to say.
    fn row(self) -> (&'static str, StatusCode, &'static str) {
        let rejected =
            |code, rejection: Rejection| (code, StatusCode::UNAUTHORIZED, rejection.message());
        match self {
            Code::InvalidEventsRequest => (
                "invalid_events_request",
                StatusCode::BAD_REQUEST,
                "One or more event names (e.g. dsync.user.created) must be provided using the events parameter.",
            ),
            Code::SignatureMissing => rejected("signature_missing", Rejection::Missing),
            Code::SignatureMalformed => rejected("signature_malformed", Rejection::Malformed),
            Code::SignatureMismatch => rejected("signature_mismatch", Rejection::Mismatch),
            Code::TimestampOutsideTolerance => {
                rejected("timestamp_outside_tolerance", Rejection::OutsideTolerance)
            }
            Code::Unauthorized => ("unauthorized", StatusCode::UNAUTHORIZED, "Unauthorized"),
            Code::EntityNotFound => {
                ("entity_not_found", StatusCode::NOT_FOUND, "Directory not found: 'directory_1'.")
            }
            Code::NotFound => ("not_found", StatusCode::NOT_FOUND, "Not Found"),
            Code::MethodNotAllowed => (
                "method_not_allowed",
                StatusCode::METHOD_NOT_ALLOWED,
                "this path does not know that method",
            ),
            Code::VersionConflict => (
                "version_conflict",
                StatusCode::PRECONDITION_FAILED,
                "the version in `If-Match` is not the latest: read the mapping again",
            ),
            Code::BodyTooLarge => {
                ("body_too_large", StatusCode::PAYLOAD_TOO_LARGE, "the body is larger than 1 MiB")
            }
            Code::UnsupportedEncoding => (
                "unsupported_encoding",
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "the signature covers the raw body: send it without a content encoding",
            ),
            Code::ValidationFailed => {
                ("validation_failed", StatusCode::UNPROCESSABLE_ENTITY, VALIDATION)
            }
            Code::AsOfInFuture => ("as_of_in_future", StatusCode::UNPROCESSABLE_ENTITY, VALIDATION),
            Code::KnownAtOutOfRange => {
                ("known_at_out_of_range", StatusCode::UNPROCESSABLE_ENTITY, VALIDATION)
            }
            Code::CursorInvalid => ("cursor_invalid", StatusCode::UNPROCESSABLE_ENTITY, VALIDATION),
            Code::MappingInvalid => {
                ("mapping_invalid", StatusCode::UNPROCESSABLE_ENTITY, VALIDATION)
            }
            Code::QueueFull => (
                "queue_full",
                StatusCode::SERVICE_UNAVAILABLE,
                "too many events are waiting to be written",
            ),
            Code::LogUnavailable => (
                "log_unavailable",
                StatusCode::SERVICE_UNAVAILABLE,
                "the log cannot be written or be sure of its last records; try again",
            ),
            Code::NotReady => {
                ("not_ready", StatusCode::SERVICE_UNAVAILABLE, "the log is still being folded")
            }
            Code::Internal => {
                ("internal", StatusCode::INTERNAL_SERVER_ERROR, "something went wrong here")
            }
        }
    }

    /// As it stands in an answer.
    pub(crate) fn name(self) -> &'static str {
        self.row().0
    }

    pub(crate) fn status(self) -> StatusCode {
        self.row().1
    }

    pub(crate) fn message(self) -> &'static str {
        self.row().2
    }
}

const VALIDATION: &str = "Validation failed";

/// After a 503 the same request is worth another try so many seconds later.
const RETRY_AFTER_S: u32 = 1;

/// An error as it goes out: status, stable code, a sentence, and nothing of ours.
#[derive(Debug, Serialize)]
pub(crate) struct Problem {
    message: Cow<'static, str>,
    #[serde(serialize_with = "by_name")]
    code: Code,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<FieldError>,
    #[serde(skip_serializing_if = "Option::is_none")]
    entity_id: Option<String>,
}

fn by_name<S: serde::Serializer>(code: &Code, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(code.name())
}

/// What is wrong with one parameter.
#[derive(Debug, Serialize)]
pub(crate) struct FieldError {
    field: String,
    code: String,
}

impl FieldError {
    pub(crate) fn new(field: &str, code: impl Into<String>) -> FieldError {
        FieldError { field: field.into(), code: code.into() }
    }
}

impl From<Code> for Problem {
    fn from(code: Code) -> Problem {
        Problem { message: code.message().into(), code, errors: Vec::new(), entity_id: None }
    }
}

impl Problem {
    /// `kind` in the words of the contract: `Directory User`.
    pub(crate) fn entity_not_found(kind: &str, id: &str) -> Problem {
        let message = format!("{kind} not found: '{id}'.").into();
        Problem { message, entity_id: Some(id.to_owned()), ..Code::EntityNotFound.into() }
    }

    pub(crate) fn method_not_allowed(allowed: &str) -> HttpResponse {
        let mut response = Problem::from(Code::MethodNotAllowed).response();
        if let Ok(allowed) = HeaderValue::from_str(allowed) {
            response.headers_mut().insert(ALLOW, allowed);
        }
        response
    }

    pub(crate) fn validation(errors: Vec<FieldError>) -> Problem {
        Problem { errors, ..Code::ValidationFailed.into() }
    }

    pub(crate) fn mapping_invalid(errors: Vec<MappingError>) -> Problem {
        let errors =
            errors.into_iter().map(|(field, what)| FieldError::new(&field, what)).collect();
        Problem { errors, ..Code::MappingInvalid.into() }
    }

    pub(crate) fn cursor_invalid(field: &str) -> Problem {
        let errors = vec![FieldError::new(field, "this is not a cursor of this list")];
        Problem { errors, ..Code::CursorInvalid.into() }
    }

    /// What is wrong with a cut that goes by these parameters.
    pub(crate) fn of_cut(error: CutError, as_of: &str, known_at: &str) -> Problem {
        let (field, code, what) = match error {
            CutError::AsOfInFuture => {
                (as_of, Code::AsOfInFuture, "is later than this server's clock")
            }
            CutError::Unsettled => return Code::LogUnavailable.into(),
            CutError::KnownAtOutOfRange => {
                (known_at, Code::KnownAtOutOfRange, "is above the last record, or in the future")
            }
        };
        Problem { errors: vec![FieldError::new(field, format!("`{field}` {what}"))], ..code.into() }
    }

    pub(crate) fn response(&self) -> HttpResponse {
        let mut response = json(self.code.status());
        if self.code.status() == StatusCode::SERVICE_UNAVAILABLE {
            response.insert_header((RETRY_AFTER, RETRY_AFTER_S.to_string()));
        }
        response.json(self)
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.code.name())
    }
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        self.code.status()
    }

    fn error_response(&self) -> HttpResponse {
        self.response()
    }
}

impl From<Rejection> for Code {
    fn from(rejection: Rejection) -> Code {
        match rejection {
            Rejection::Missing => Code::SignatureMissing,
            Rejection::Malformed => Code::SignatureMalformed,
            Rejection::Mismatch => Code::SignatureMismatch,
            Rejection::OutsideTolerance => Code::TimestampOutsideTolerance,
        }
    }
}

impl From<ActError> for Problem {
    fn from(error: ActError) -> Problem {
        match error {
            ActError::UnknownDirectory => Code::EntityNotFound.into(),
            ActError::EffectiveFromInFuture => Problem::validation(vec![FieldError::new(
                "effective_from",
                "it is later than this server's clock",
            )]),
            ActError::VersionConflict => Code::VersionConflict.into(),
            // Others act so fast that this one never came up: as with a full queue, it is worth
            // another try.
            ActError::QueueFull | ActError::Overtaken => Code::QueueFull.into(),
            ActError::Unavailable => Code::LogUnavailable.into(),
        }
    }
}

impl From<CutError> for Problem {
    fn from(error: CutError) -> Problem {
        Problem::of_cut(error, "as_of", "known_at")
    }
}

impl From<ChangeError> for Problem {
    fn from(error: ChangeError) -> Problem {
        match error {
            ChangeError::NoKey => Code::NotFound.into(),
            ChangeError::Act(error) => error.into(),
            ChangeError::Read(error) => error.into(),
            ChangeError::Key(error) => {
                tracing::error!(%error, "the checkpoint key could not be changed");
                Code::Internal.into()
            }
        }
    }
}

impl From<ReadError> for Problem {
    fn from(error: ReadError) -> Problem {
        tracing::error!(%error, "the log could not be read");
        Code::Internal.into()
    }
}

/// What became of an act, or, if it takes too long, that nobody knows.
pub(crate) async fn done_in_time<T>(
    act: impl Future<Output = Result<T, ActError>>,
) -> Result<T, ActError> {
    tokio::time::timeout(ANSWER_WITHIN, act).await.unwrap_or(Err(ActError::Unavailable))
}

/// Fetches documents and writes them out: at once if all are cached, else where reading the log may
/// block.
pub(crate) async fn with_documents<T: Send + 'static>(
    engine: Arc<Engine>,
    keys: Vec<DocumentKey>,
    write: impl FnOnce(&[Document]) -> T + Send + 'static,
) -> Result<T, Problem> {
    if let Some(documents) = engine.cached_documents(&keys) {
        return Ok(write(&documents));
    }
    let loaded =
        web::block(move || engine.load_documents(&keys).map(|documents| write(&documents))).await;
    Ok(loaded.map_err(|_| Code::Internal)??)
}

/// As [`pinned`], for what shows roles: also by which version of the mapping they are; 0 before the
/// first.
pub(crate) fn pinned_with_roles(
    cut: Cut,
    mapping_version: usize,
    body: Result<Vec<u8>, Problem>,
) -> HttpResponse {
    let mut response = pinned(cut, body);
    response
        .headers_mut()
        .insert(HeaderName::from_static("rollcall-mapping-version"), mapping_version.into());
    response
}

/// The answer to a question of state: its body, or what is wrong, with the cut in the headers.
pub(crate) fn pinned(cut: Cut, body: Result<Vec<u8>, Problem>) -> HttpResponse {
    let mut response = match body {
        Ok(body) => json(StatusCode::OK).body(body),
        Err(problem) => problem.response(),
    };
    pin(&mut response, cut);
    response
}
