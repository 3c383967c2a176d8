//! Who looked: a line in the log for each question that tells what was kept about people over time.
//!
//! Some calls always do. The lists and items of directories, users and groups do where they are
//! asked with `as_of` or `known_at`; asked about now, as at each login, they leave no line and pass
//! none of this. Whoever shows no known key is not known, and gets 401 and no line.
//!
//! A line names who asked, what, and about which id; never the key, and never an email or another
//! attribute of somebody.

use std::time::Instant;

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::middleware::Next;
use actix_web::{Error, HttpMessage, HttpRequest};

use super::api::Operation;
use crate::time;
use crate::verify::Operator;

/// At most so many characters of an id are written: as many bytes as the longest that the views
/// take.
const SUBJECT_CHARS_MAX: usize = 255;

/// What is written for a subject that is no opaque id.
const WITHHELD: &str = "withheld";

/// A question whose asker is known.
struct Asked {
    operator: Operator,
    operation: &'static Operation,
}

/// The calls that applications ask about now, and that are logged where they are asked about the
/// past.
const OF_THE_PAST: [&str; 6] = [
    "/directories",
    "/directories/{id}",
    "/directory_groups",
    "/directory_groups/{id}",
    "/directory_users",
    "/directory_users/{id}",
];

/// Whether a call that is not always logged is where it is asked about the past.
pub(crate) fn tells_of_the_past(operation: &Operation) -> bool {
    operation.cut && OF_THE_PAST.contains(&operation.path)
}

/// Whether a query has one of the two clocks, however it is written. Whatever they say: also a
/// refusal is logged.
pub(crate) fn asks_about_the_past(query: Option<&str>) -> bool {
    query.is_some_and(|query| {
        form_urlencoded::parse(query.as_bytes())
            .any(|(name, _)| matches!(&*name, "as_of" | "known_at"))
    })
}

/// Remembers who asks what, if that is to be logged.
pub(crate) fn asked(request: &HttpRequest, operator: Operator, operation: &'static Operation) {
    if operation.sensitive
        || tells_of_the_past(operation) && asks_about_the_past(request.uri().query())
    {
        request.extensions_mut().insert(Asked { operator, operation });
    }
}

/// Answers, and logs it before the answer leaves: also a refusal, once it is known who asks.
///
/// # Errors
/// Those of what answers.
pub(crate) async fn note<B: MessageBody>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<B>, Error> {
    let begun = Instant::now();
    let response = next.call(request).await?;
    let asked = response.request().extensions_mut().remove::<Asked>();
    if let Some(asked) = asked {
        let duration_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        write(&asked, &response, duration_ms);
    }
    Ok(response)
}

fn write<B>(asked: &Asked, response: &ServiceResponse<B>, duration_ms: u64) {
    let Asked { operator, operation } = asked;
    let request = response.request();
    let parameters: Vec<(String, String)> =
        form_urlencoded::parse(request.query_string().as_bytes()).into_owned().collect();
    let subject =
        subject(request.match_info().get("id").or(request.match_info().get("seq")), &parameters);
    let [as_of, known_at] = cut(&parameters);
    let known_at = known_at.or_else(|| {
        let header =
            |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
        known_at_of(header("rollcall-from-known-at"), header("rollcall-known-at"))
    });
    tracing::info!(
        target: "rollcall::access",
        api_key = operator.name(),
        method = operation.method.name(),
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

/// About whom or what: the id or record in the path, else those of the user, group and directory
/// that the list is narrowed to.
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

/// An id as it is written. People give emails and names where an id is wanted: what may be one is
/// not written.
fn opaque(id: &str) -> String {
    // A percent sign may hide a sign that was encoded twice.
    let personal = id.contains(['@', '＠', '%']) || id.chars().any(char::is_whitespace);
    if personal {
        return WITHHELD.to_owned();
    }
    let mut out = String::with_capacity(id.len());
    for c in id.chars().take(SUBJECT_CHARS_MAX) {
        if c.is_control() { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}

/// The two clocks as they were asked for; of two moments that are compared both. What is no moment
/// is not written.
fn cut(parameters: &[(String, String)]) -> [Option<String>; 2] {
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
    [
        given("as_of").or_else(|| both("from", "to")),
        given("known_at").or_else(|| both("from_known_at", "to_known_at")),
    ]
}

/// The last record that was counted, as the answer says it, where the question did not: else nobody
/// knew later what had been seen.
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
            assert_eq!(
                cut(&parameters(query)),
                expected.map(|text| text.map(str::to_owned)),
                "{query}"
            );
        }
    }
}
