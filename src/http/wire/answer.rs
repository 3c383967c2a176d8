//! The answering side: JSON responses, the cut in their headers, and the one table of errors.

use std::borrow::Cow;
use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{
    ALLOW, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE,
};
use actix_web::{HttpResponse, HttpResponseBuilder, ResponseError};
use bytes::Bytes;
use rollcall_projections::{Cut, Millis};
use serde::Serialize;
use serde_json::Value;

use super::api::Operation;
use super::pieces::Pieces;
use crate::engine::{ActError, ChangeError, CutError, IngestError};
use crate::keys::{ApiKey, Scope};
use crate::log::ReadError;
use crate::time;
use crate::verify::{FieldCode, MappingError, Rejection};

/// The time in which every request is answered, and for which shutdown waits for requests in
/// flight.
pub(crate) const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// The media type of nearly all answers.
static JSON: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");

// Names that are made once: a name is checked byte for byte each time that it is made.
static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
static AS_OF: HeaderName = HeaderName::from_static("rollcall-as-of");
static KNOWN_AT: HeaderName = HeaderName::from_static("rollcall-known-at");
static FROM_AS_OF: HeaderName = HeaderName::from_static("rollcall-from-as-of");
static FROM_KNOWN_AT: HeaderName = HeaderName::from_static("rollcall-from-known-at");
static MAPPING_VERSION: HeaderName = HeaderName::from_static("rollcall-mapping-version");

/// Begins a response of JSON, with an id of the request.
pub(crate) fn respond(status: StatusCode) -> HttpResponseBuilder {
    let mut response = HttpResponse::build(status);
    response
        .insert_header((CONTENT_TYPE, JSON.clone()))
        .insert_header((REQUEST_ID.clone(), request_id()));
    response
}

/// Returns an id that no other request to this process has, nor, most likely, one to another.
fn request_id() -> HeaderValue {
    const PREFIX: [u8; 4] = *b"req_";
    static SEED: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = SEED.hash_one(NEXT.fetch_add(1, Ordering::Relaxed));
    let mut id = [b'0'; PREFIX.len() + 2 * size_of::<u64>()];
    let (prefix, digits) = id.split_at_mut(PREFIX.len());
    prefix.copy_from_slice(&PREFIX);
    let _ = hex::encode_to_slice(number.to_be_bytes(), digits);
    HeaderValue::from_bytes(&id).unwrap_or(HeaderValue::from_static("req_"))
}

/// Adds the headers that say at which cut an answer holds. Sent back as parameters, they repeat the
/// answer.
pub(crate) fn pin(response: &mut HttpResponse, cut: Cut) {
    insert_cut(response, cut, &AS_OF, &KNOWN_AT);
}

/// Adds the headers that say at which cut the first side of a comparison is.
pub(crate) fn pin_from(response: &mut HttpResponse, from: Cut) {
    insert_cut(response, from, &FROM_AS_OF, &FROM_KNOWN_AT);
}

fn insert_cut(
    response: &mut HttpResponse,
    cut: Cut,
    as_of_name: &HeaderName,
    known_at_name: &HeaderName,
) {
    let as_of = if cut.as_of == Millis::MAX {
        Ok(HeaderValue::from_static("latest"))
    } else {
        HeaderValue::from_str(&time::format(cut.as_of))
    };
    if let Ok(as_of) = as_of {
        response.headers_mut().insert(as_of_name.clone(), as_of);
    }
    response.headers_mut().insert(known_at_name.clone(), cut.known_at.into());
}

/// The cursors of a page.
#[derive(Default)]
pub(crate) struct Cursors {
    pub(crate) before: Option<String>,
    pub(crate) after: Option<String>,
}

/// What a list's page begins with, in the contract's envelope.
pub(super) const LIST_BEGIN: &[u8] = br#"{"object":"list","data":["#;

/// Appends what a list's page ends with.
pub(super) fn push_list_end(out: &mut Vec<u8>, cursors: Cursors) {
    let Cursors { before, after } = cursors;
    out.extend_from_slice(br#"],"list_metadata":{"before":"#);
    push_cursor(out, before);
    out.extend_from_slice(br#","after":"#);
    push_cursor(out, after);
    out.extend_from_slice(b"}}");
}

/// Writes a list's page in the contract's envelope, without copying its items.
pub(crate) fn list_in_pieces(items: Vec<Vec<u8>>, cursors: Cursors) -> Pieces {
    let mut end = Vec::new();
    push_list_end(&mut end, cursors);
    let items = items.into_iter().enumerate().flat_map(|(at, item)| {
        let separator: &'static [u8] = if at > 0 { b"," } else { b"" };
        [Bytes::from_static(separator), item.into()]
    });
    [Bytes::from_static(LIST_BEGIN)].into_iter().chain(items).chain([end.into()]).collect()
}

fn push_cursor(out: &mut Vec<u8>, cursor: Option<String>) {
    match cursor {
        Some(cursor) => crate::json::push_string(out, &cursor),
        None => out.extend_from_slice(b"null"),
    }
}

/// Declares the errors, each with its stable code, its status, and its message unless there is
/// more to say.
macro_rules! codes {
    ($($variant:ident = $name:literal, $status:ident, $message:expr;)*) => {
        /// Every error.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Code {
            $($variant,)*
        }

        impl Code {
            /// Every error, in order of status.
            pub(crate) const ALL: &'static [Code] = &[$(Code::$variant,)*];

            /// Returns the stable code.
            pub(crate) fn name(self) -> &'static str {
                match self {
                    $(Code::$variant => $name,)*
                }
            }

            pub(crate) fn status(self) -> StatusCode {
                match self {
                    $(Code::$variant => StatusCode::$status,)*
                }
            }

            pub(crate) fn message(self) -> &'static str {
                match self {
                    $(Code::$variant => $message,)*
                }
            }
        }
    };
}

codes! {
    InvalidEventsRequest = "invalid_events_request", BAD_REQUEST,
        "One or more event names (e.g. dsync.user.created) must be provided using the events \
         parameter.";
    SignatureMissing = "signature_missing", UNAUTHORIZED, Rejection::Missing.message();
    SignatureMalformed = "signature_malformed", UNAUTHORIZED, Rejection::Malformed.message();
    SignatureMismatch = "signature_mismatch", UNAUTHORIZED, Rejection::Mismatch.message();
    TimestampOutsideTolerance = "timestamp_outside_tolerance", UNAUTHORIZED,
        Rejection::OutsideTolerance.message();
    Unauthorized = "unauthorized", UNAUTHORIZED, "Unauthorized";
    Forbidden = "forbidden", FORBIDDEN,
        "the key does not have the scope `audit`: this call needs it";
    EntityNotFound = "entity_not_found", NOT_FOUND, "Directory not found: 'directory_1'.";
    NotFound = "not_found", NOT_FOUND, "Not Found";
    MethodNotAllowed = "method_not_allowed", METHOD_NOT_ALLOWED, "method not allowed";
    BodyTimeout = "body_timeout", REQUEST_TIMEOUT,
        "the body did not arrive within five seconds: send it faster";
    Conflict = "conflict", CONFLICT,
        "two tokens of the directory are live: delete one of them first";
    NoSource = "no_source", CONFLICT,
        "the server has no source to ask: start it with --pull";
    NoSink = "no_sink", CONFLICT,
        "the server keeps no tables in PostgreSQL: start it with ROLLCALL_POSTGRES_URL";
    LogEmpty = "log_empty", CONFLICT, "the log has no records: there is nothing to copy";
    ReconciliationRunning = "reconciliation_running", CONFLICT,
        "a reconciliation is running: wait for its end, then ask again";
    PositionMismatch = "position_mismatch", CONFLICT,
        "the position of the endpoint is not one of this log: set another one with `skip` or \
         `replay`";
    RecordLost = "record_lost", GONE,
        "this record is lost, and only its leaf is left: the log was restored without it, or its \
         bytes cannot be read";
    VersionConflict = "version_conflict", PRECONDITION_FAILED,
        "the version in `If-Match` is not the latest: read the mapping again";
    BodyTooLarge = "body_too_large", PAYLOAD_TOO_LARGE,
        "the body is too large: a webhook may have as many bytes as the server's \
         `--body-bytes-max` says, an import 4 MiB, another body 1 MiB";
    UnsupportedEncoding = "unsupported_encoding", UNSUPPORTED_MEDIA_TYPE,
        "the body has a content encoding, and is taken as it is: send it without one";
    ValidationFailed = "validation_failed", UNPROCESSABLE_ENTITY, VALIDATION;
    AsOfInFuture = "as_of_in_future", UNPROCESSABLE_ENTITY, VALIDATION;
    KnownAtOutOfRange = "known_at_out_of_range", UNPROCESSABLE_ENTITY, VALIDATION;
    CursorInvalid = "cursor_invalid", UNPROCESSABLE_ENTITY, VALIDATION;
    MappingInvalid = "mapping_invalid", UNPROCESSABLE_ENTITY, VALIDATION;
    TooMuchWork = "too_much_work", UNPROCESSABLE_ENTITY,
        "the answer would take too long to work out: narrow the question or ask for a smaller page";
    RateLimited = "rate_limited", TOO_MANY_REQUESTS,
        "the key has made as many requests in a minute as it may: try again after `Retry-After`";
    TooManyRequests = "too_many_requests", TOO_MANY_REQUESTS,
        "too many questions like this one are being worked out: ask again in a moment";
    QueueFull = "queue_full", SERVICE_UNAVAILABLE,
        "too many bodies are being read, or too many events wait to be written: send it again";
    LogUnavailable = "log_unavailable", SERVICE_UNAVAILABLE,
        "the log cannot be written, or its last records are in doubt; try again";
    AccessLogUnavailable = "access_log_unavailable", SERVICE_UNAVAILABLE,
        "the access log cannot be written, and this question must leave a line in it; try again";
    Stopping = "stopping", SERVICE_UNAVAILABLE,
        "the server is stopping: ask again once it runs";
    NotReady = "not_ready", SERVICE_UNAVAILABLE, "the log is still being folded";
    Internal = "internal", INTERNAL_SERVER_ERROR, "internal error";
}

impl Code {
    /// The errors of a webhook that is not authentic, in the order in which they are checked.
    pub(crate) const SIGNATURES: [Code; 4] = [
        Code::SignatureMissing,
        Code::SignatureMalformed,
        Code::SignatureMismatch,
        Code::TimestampOutsideTolerance,
    ];

    /// The errors for which webhooks are refused as often as they are sent again. A post to a path that does not exist
    /// may be one.
    pub(crate) const REFUSALS: [Code; 8] = [
        Code::SignatureMissing,
        Code::SignatureMalformed,
        Code::SignatureMismatch,
        Code::TimestampOutsideTolerance,
        Code::BodyTimeout,
        Code::BodyTooLarge,
        Code::UnsupportedEncoding,
        Code::NotFound,
    ];

    /// The errors for which webhooks are refused until they are sent again.
    pub(crate) const RETRIED: [Code; 3] = [Code::QueueFull, Code::LogUnavailable, Code::NotReady];
}

const VALIDATION: &str = "Validation failed";

/// The `WWW-Authenticate` of a 401 (<https://www.rfc-editor.org/rfc/rfc9110#section-11.6.1>).
pub(crate) const CHALLENGE: &str = "Bearer";

/// The `Retry-After` of a 429 or 503, in seconds.
pub(crate) const RETRY_AFTER_S: u64 = 1;

/// An error as it goes out: status, stable code, a sentence, and nothing internal.
#[derive(Debug, Serialize)]
pub(crate) struct Problem {
    message: Cow<'static, str>,
    #[serde(serialize_with = "by_name")]
    code: Code,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<FieldError>,
    #[serde(skip_serializing_if = "Option::is_none")]
    entity_id: Option<String>,
    /// The state of each part of the server, of `/readyz`.
    #[serde(skip_serializing_if = "Option::is_none")]
    parts: Option<Box<Value>>,
    /// The seconds after which a retry may succeed, if that is known.
    #[serde(skip)]
    retry_after_s: Option<u64>,
}

fn by_name<S: serde::Serializer>(code: &Code, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(code.name())
}

/// A mistake in one parameter or field: a code for programs and a sentence for people. On the paths
/// of WorkOS `code` holds the sentence, since client libraries show that field to people.
#[derive(Debug, Serialize)]
pub(crate) struct FieldError {
    field: String,
    code: Cow<'static, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<Cow<'static, str>>,
}

impl FieldError {
    pub(crate) fn new(
        field: &str,
        code: FieldCode,
        message: impl Into<Cow<'static, str>>,
    ) -> FieldError {
        FieldError { field: field.into(), code: code.name().into(), message: Some(message.into()) }
    }

    /// Returns the mistake as one of a part of the body, whose name is put in front.
    pub(crate) fn within(self, part: &str) -> FieldError {
        FieldError { field: format!("{part}.{}", self.field), ..self }
    }

    /// Returns the mistake as WorkOS words it.
    fn into_words_of_workos(self) -> FieldError {
        let FieldError { field, code, message } = self;
        FieldError { field, code: message.unwrap_or(code), message: None }
    }

    /// Says which words the value of a field may be.
    pub(crate) fn not_one_of(field: &str, words: &[&str]) -> FieldError {
        let words: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
        let message = format!("it must be {}", words.join(" or "));
        FieldError::new(field, FieldCode::Invalid, message)
    }
}

impl From<Code> for Problem {
    fn from(code: Code) -> Problem {
        Problem {
            message: code.message().into(),
            code,
            errors: Vec::new(),
            entity_id: None,
            parts: None,
            retry_after_s: None,
        }
    }
}

impl Problem {
    /// Refuses an unknown id. `kind` is in the words of the contract: `Directory User`.
    pub(crate) fn entity_not_found(kind: &str, id: &str) -> Problem {
        let message = format!("{kind} not found: '{id}'.").into();
        Problem { message, entity_id: Some(id.to_owned()), ..Code::EntityNotFound.into() }
    }

    /// Returns its stable code.
    pub(crate) fn code(&self) -> Code {
        self.code
    }

    /// Returns its sentence.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// Refuses what a part of the server cannot do now, and says how each part is.
    pub(crate) fn with_parts(code: Code, parts: Value) -> Problem {
        Problem { parts: Some(Box::new(parts)), ..code.into() }
    }

    /// Refuses what may succeed later.
    pub(crate) fn after(code: Code, seconds: u64) -> Problem {
        Problem { retry_after_s: Some(seconds), ..code.into() }
    }

    /// Refuses a key whose time is over. Its holder has the key, so this reveals nothing.
    pub(crate) fn key_expired(key: &ApiKey) -> Problem {
        let at = key.expires_at.map(time::format).unwrap_or_default();
        let message = format!("Unauthorized: the key `{}` expired at {at}", key.name());
        Problem { message: message.into(), ..Code::Unauthorized.into() }
    }

    /// Refuses a key that lacks a scope.
    pub(crate) fn scope_missing(scope: Scope, why: &str) -> Problem {
        let message = format!("the key does not have the scope `{}`: {why}", scope.word());
        Problem { message: message.into(), ..Code::Forbidden.into() }
    }

    /// Refuses a key that is bound to organizations.
    pub(crate) fn bound_to_organizations() -> Problem {
        let message = "the key is bound to organizations, and this call is about all of them: use a \
            key without `organizations`";
        Problem { message: message.into(), ..Code::Forbidden.into() }
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
        let errors = errors
            .into_iter()
            .map(|MappingError { field, code, message }| FieldError::new(&field, code, message));
        Problem { errors: errors.collect(), ..Code::MappingInvalid.into() }
    }

    /// Refuses a large answer while too many others are being read.
    pub(crate) fn too_many_large_answers() -> Problem {
        let message = "too many large answers are being read: ask again in a moment, or for less";
        Problem { message: message.into(), ..Code::TooManyRequests.into() }
    }

    /// Refuses to wait for a change while too many others wait.
    pub(crate) fn too_many_long_polls() -> Problem {
        let message =
            "too many questions wait for a change: ask again in a moment, or with `wait=0`";
        Problem { message: message.into(), ..Code::TooManyRequests.into() }
    }

    /// Refuses to work out what takes too long; `reason` names it.
    pub(crate) fn too_much_work(reason: &dyn std::fmt::Display) -> Problem {
        let message = format!("{reason}: use fewer or simpler rules").into();
        Problem { message, ..Code::TooMuchWork.into() }
    }

    pub(crate) fn cursor_invalid(field: &str) -> Problem {
        let message = "this is not a cursor of this list";
        let errors = vec![FieldError::new(field, FieldCode::Invalid, message)];
        Problem { errors, ..Code::CursorInvalid.into() }
    }

    /// Refuses the cut that these parameters ask for.
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
        let error = FieldError::new(field, FieldCode::OutOfRange, format!("`{field}` {what}"));
        Problem { errors: vec![error], ..code.into() }
    }

    /// Returns the problem as a call words it: on the paths of WorkOS as WorkOS would.
    pub(crate) fn in_words_of(self, operation: &Operation) -> Problem {
        if operation.is_own() {
            return self;
        }
        let errors = self.errors.into_iter().map(FieldError::into_words_of_workos).collect();
        Problem { errors, ..self }
    }

    pub(crate) fn response(&self) -> HttpResponse {
        let mut response = respond(self.code.status());
        let later = [StatusCode::SERVICE_UNAVAILABLE, StatusCode::TOO_MANY_REQUESTS];
        let later = later.contains(&self.code.status());
        if let Some(seconds) = self.retry_after_s.or(later.then_some(RETRY_AFTER_S)) {
            response.insert_header((RETRY_AFTER, seconds.to_string()));
        }
        if self.code.status() == StatusCode::UNAUTHORIZED {
            response.insert_header((WWW_AUTHENTICATE, CHALLENGE));
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

impl From<IngestError> for Code {
    fn from(error: IngestError) -> Code {
        match error {
            IngestError::QueueFull => Code::QueueFull,
            IngestError::Unavailable => Code::LogUnavailable,
        }
    }
}

impl From<ActError> for Problem {
    fn from(error: ActError) -> Problem {
        match error {
            ActError::UnknownDirectory | ActError::UnknownUser | ActError::UnknownToken => {
                Code::EntityNotFound.into()
            }
            ActError::ForeignOrganization => {
                let message = "the key is bound to other organizations: name one of its own";
                Problem { message: message.into(), ..Code::Forbidden.into() }
            }
            ActError::TooManyTokens => Code::Conflict.into(),
            ActError::EffectiveFromInFuture => Problem::validation(vec![FieldError::new(
                "effective_from",
                FieldCode::OutOfRange,
                "it is later than this server's clock",
            )]),
            ActError::VersionConflict => Code::VersionConflict.into(),
            // Other acts kept coming first. As with a full queue, a retry may succeed.
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
        if let ReadError::Lost { .. } = error {
            return Code::RecordLost.into();
        }
        tracing::error!(%error, "the log could not be read");
        Code::Internal.into()
    }
}

/// Waits for the outcome of an act. One that takes too long is in doubt: `Unavailable`.
pub(crate) async fn done_in_time<T>(
    act: impl Future<Output = Result<T, ActError>>,
) -> Result<T, ActError> {
    tokio::time::timeout(ANSWER_WITHIN, act).await.unwrap_or(Err(ActError::Unavailable))
}

/// Answers like [`pinned`], and adds the version of the role mapping; 0 before the first.
pub(crate) fn pinned_with_roles(
    cut: Cut,
    mapping_version: usize,
    body: Result<impl Into<Pieces>, Problem>,
) -> HttpResponse {
    let mut response = pinned(cut, body);
    response.headers_mut().insert(MAPPING_VERSION.clone(), mapping_version.into());
    response
}

/// Answers with a body or an error, and with the cut in the headers.
pub(crate) fn pinned(cut: Cut, body: Result<impl Into<Pieces>, Problem>) -> HttpResponse {
    let mut response = match body {
        Ok(body) => body.into().response(),
        Err(problem) => problem.response(),
    };
    pin(&mut response, cut);
    response
}
