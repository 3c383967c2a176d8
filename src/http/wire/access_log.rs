//! The access log: one line for each question about what was kept about people over time.
//!
//! A call's [`Logged`] says which of its questions are logged. The others pass none of this code,
//! so that a login pays nothing for it. A request without a known key gets 401 and no line.
//!
//! A line names the operator, the call, and the id that the question is about. It never holds the
//! key, an email, or another personal attribute.

use std::time::Instant;

use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::{Error, HttpMessage, HttpRequest};

use super::answer::{Code, Problem};
use super::api::{Logged, Operation, Takes};
use super::{large, limits};
use crate::keys::Operator;
use crate::personal::{WITHHELD, may_be_personal};
use crate::stderr;
use crate::time;

/// The longest id that is written, in characters. The views take ids of at most as many bytes.
const SUBJECT_CHARS_MAX: usize = 255;

/// A question to be logged, with the operator who asks.
struct Asked {
    operator: Operator,
    operation: &'static Operation,
}

/// Returns whether a query has one of the two clocks, however it is encoded. Their values do not
/// matter, since refusals are logged as well.
fn asks_about_the_past(query: Option<&str>) -> bool {
    query.is_some_and(|query| {
        form_urlencoded::parse(query.as_bytes())
            .any(|(name, _)| matches!(&*name, "as_of" | "known_at"))
    })
}

/// Tells if a question with this query is logged.
fn is_logged(logged: Logged, query: Option<&str>) -> bool {
    match logged {
        Logged::Never => false,
        Logged::AboutThePast => asks_about_the_past(query),
        Logged::Always => true,
    }
}

/// Notes a question for [`note`], if it is to be logged.
pub(crate) fn asked(request: &HttpRequest, operator: Operator, operation: &'static Operation) {
    if is_logged(operation.logged, request.uri().query()) {
        request.extensions_mut().insert(Asked { operator, operation });
    }
}

/// The questions of a path whose answers pass [`note`]. All do while some key has a limit.
#[derive(Clone, Copy)]
pub(crate) struct Noting(Logged);

impl Noting {
    /// Takes the questions of some calls of one path.
    pub(crate) fn of(calls: &[&Operation]) -> Noting {
        let has = |logged: Logged| calls.iter().any(|call| call.logged == logged);
        let logged = [Logged::Always, Logged::AboutThePast].into_iter().find(|one| has(*one));
        Noting(logged.unwrap_or(Logged::Never))
    }

    /// Tells if the answer to a request passes [`note`].
    pub(crate) fn is_of(self, request: &ServiceRequest) -> bool {
        is_logged(self.0, request.uri().query()) || limits::are_set(request)
    }
}

/// Logs a question before its answer leaves, and adds the headers of its key's limit. Refusals are logged as well, once the operator is
/// known.
///
/// # Errors
/// 503 if the line cannot be kept, because the reader of the log stalls, or the line cannot be
/// written.
pub(crate) async fn note(
    begun: Instant,
    response: ServiceResponse,
) -> Result<ServiceResponse, Error> {
    // The line says what is answered.
    let refusal = |_: &HttpRequest| Problem::too_many_large_answers().response();
    let mut response = large::bounded(response, refusal);
    let request = response.request().clone();
    limits::note(&request, response.headers_mut());
    let asked = response.request().extensions_mut().remove::<Asked>();
    if let Some(asked) = asked {
        let duration_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        let kept = stderr::keep(|| write(&asked, &response, duration_ms));
        if !stderr::is_written(kept).await {
            return Err(Problem::from(Code::AccessLogUnavailable).into());
        }
    }
    Ok(response)
}

fn write(asked: &Asked, response: &ServiceResponse, duration_ms: u64) {
    let Asked { operator, operation } = asked;
    let request = response.request();
    let parameters: Vec<(String, String)> =
        form_urlencoded::parse(request.query_string().as_bytes()).into_owned().collect();
    let subject =
        subject(request.match_info().get("id").or(request.match_info().get("seq")), &parameters);
    let subject = kind(operation, &parameters).into_iter().map(str::to_owned).chain(subject);
    let subject = subject.reduce(|kind, ids| format!("{kind} {ids}"));
    let Clocks { as_of, known_at } = clocks(&parameters);
    let known_at = known_at.or_else(|| {
        let header =
            |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
        known_at_of(header("rollcall-from-known-at"), header("rollcall-known-at"))
    });
    tracing::info!(
        target: "rollcall::access",
        api_key = operator.key().name(),
        fingerprint = operator.key().name.as_ref().map(|_| operator.key().fingerprint()),
        method = request.method().as_str(),
        route = operation.path,
        subject,
        as_of,
        known_at,
        status = response.status().as_u16(),
        request_id = response.headers().get("x-request-id").and_then(|id| id.to_str().ok()),
        duration_ms,
        "read"
    );
}

/// Returns the subject of a question: the id or record in the path, else the ids of the user, group
/// and directory that the list is narrowed to.
fn subject(id: Option<&str>, parameters: &[(String, String)]) -> Option<String> {
    if let Some(id) = id {
        return Some(opaque(&percent_encoding::percent_decode_str(id).decode_utf8_lossy()));
    }
    let given = |name: &&str| {
        parameters.iter().find(|(other, _)| other == name).map(|(_, value)| opaque(value))
    };
    let ids: Vec<String> = ["user", "group", "directory"].iter().filter_map(given).collect();
    Some(ids.join(" ")).filter(|ids| !ids.is_empty())
}

/// Returns the kind of things that a question by name is about. The name itself may be personal.
fn kind<'a>(operation: &Operation, parameters: &'a [(String, String)]) -> Option<&'a str> {
    let Takes::Words(words) = operation.parameter("kind")?.takes else { return None };
    let (_, kind) = parameters.iter().find(|(name, _)| name == "kind")?;
    Some(kind.as_str()).filter(|kind| words.contains(kind))
}

/// Returns an id as it is written. Callers do pass emails and names as ids; what may be one is
/// withheld.
fn opaque(id: &str) -> String {
    if may_be_personal(id) {
        return WITHHELD.to_owned();
    }
    let mut out = String::with_capacity(id.len());
    for c in id.chars().take(SUBJECT_CHARS_MAX) {
        if c.is_control() { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}

/// The two clocks of a question, as the request has them.
#[derive(Debug, PartialEq, Eq)]
struct Clocks {
    as_of: Option<String>,
    known_at: Option<String>,
}

/// Reads the clocks of a question; of a comparison those of both sides. What is not a moment is
/// left out.
fn clocks(parameters: &[(String, String)]) -> Clocks {
    let given = |name: &str| {
        let value =
            parameters.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str());
        value.filter(|value| is_moment(value)).map(str::to_owned)
    };
    let both = |one: &str, other: &str| match (given(one), given(other)) {
        (None, None) => None,
        (from, to) => {
            Some([from, to].map(|moment| moment.unwrap_or_else(|| "latest".into())).join(" to "))
        }
    };
    Clocks {
        as_of: given("as_of").or_else(|| both("from", "to")),
        known_at: given("known_at").or_else(|| both("from_known_at", "to_known_at")),
    }
}

/// Returns the last record that the answer counts, from its headers. A question without `known_at`
/// needs it, or the line would not say what was seen.
fn known_at_of(from: Option<&str>, to: Option<&str>) -> Option<String> {
    match (from, to) {
        (Some(from), Some(to)) => Some(format!("{from} to {to}")),
        (_, to) => to.map(str::to_owned),
    }
}

fn is_moment(text: &str) -> bool {
    let number =
        text.len() <= 20 && !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text == "latest"
        || number
        || (text.len() <= 64
            && time::parse(&text.replace(' ', "+")).or_else(|| time::parse(text)).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_person_is_written_for_an_id() {
        let long = "x".repeat(300);
        for (id, expected) in [
            ("directory_user_01", "directory_user_01"),
            ("ana@example.com", WITHHELD),
            ("ana%40example.com", WITHHELD),
            ("ana%2540example.com", WITHHELD),
            ("Ana Li", WITHHELD),
            ("a\nb", WITHHELD),
            ("a\u{1b}[2J", "a\\u{1b}[2J"),
            (&long, &long[..255]),
            ("", ""),
        ] {
            assert_eq!(opaque(id), expected, "{id}");
        }
        let parameters =
            |query: &str| form_urlencoded::parse(query.as_bytes()).into_owned().collect::<Vec<_>>();
        for (id, query, expected) in [
            (Some("u%201"), "", Some(WITHHELD)),
            (Some("u1"), "user=u2", Some("u1")),
            (None, "directory=d&user=u&email=a@x", Some("u d")),
            (None, "email=a@x", None),
            (None, "user=a%40x", Some(WITHHELD)),
        ] {
            assert_eq!(subject(id, &parameters(query)).as_deref(), expected, "{id:?} {query}");
        }
    }

    #[test]
    fn a_question_about_the_past_is_known_however_it_is_written() {
        for (query, expected) in [
            ("as_of=latest", true),
            ("limit=1&known_at=3", true),
            ("as%5Fof=x", true),
            ("%6Bnown_at", true),
            ("directory=as_of&email=known_at", false),
            ("", false),
        ] {
            assert_eq!(asks_about_the_past(Some(query)), expected, "{query}");
        }
        assert!(!asks_about_the_past(None));
    }

    #[test]
    fn clocks_are_written_as_they_were_asked_for() {
        let parameters =
            |query: &str| form_urlencoded::parse(query.as_bytes()).into_owned().collect::<Vec<_>>();
        for (query, expected) in [
            ("", [None, None]),
            ("as_of=latest&known_at=12", [Some("latest"), Some("12")]),
            ("as_of=2026-01-01T00:00:00%2B01:00", [Some("2026-01-01T00:00:00+01:00"), None]),
            ("as_of=ana@example.com&known_at=ana", [None, None]),
            ("from=2026-01-01T00:00:00Z", [Some("2026-01-01T00:00:00Z to latest"), None]),
            ("from=latest&to_known_at=3", [Some("latest to latest"), Some("latest to 3")]),
        ] {
            let [as_of, known_at] = expected.map(|text| text.map(str::to_owned));
            assert_eq!(clocks(&parameters(query)), Clocks { as_of, known_at }, "{query}");
        }
    }
}
