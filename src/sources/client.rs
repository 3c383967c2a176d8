//! The client of a source: every request to it, with one pace, retries, and the state of each.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rollcall_projections::Millis;
use serde::Deserialize;
use serde_json::value::RawValue;
use ureq::tls::{RootCerts, TlsConfig};

use super::bell::{Bell, Woken};
use super::bucket::Bucket;
use super::circle::Circle;
use super::status::SourceStatus;
use crate::percent::encoded;
use crate::time;
use crate::trust::{TrustError, authorities};
use crate::verify::Origin;

/// The time within which an answer is there as a whole.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// The largest answer that is read, in bytes.
const BODY_BYTES_MAX: u64 = 16 << 20;

/// The longest pause that the source may ask for.
const PAUSE_MAX: Duration = Duration::from_secs(300);

/// The time within which a caller who waits has an answer, or none.
const LOOK_WITHIN: Duration = Duration::from_secs(5);

/// The longest wait for the turn of a question whose caller waits.
const LOOK_TURN: Duration = Duration::from_secs(1);

/// The pause after the first failure. It doubles with each further one.
const BACKOFF: Duration = Duration::from_millis(500);

/// The longest pause between two tries.
const BACKOFF_MAX: Duration = Duration::from_secs(60);

/// The number of tries for one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tries {
    /// Until it succeeds.
    Endless,
    /// At most this number.
    AtMost(u32),
}

/// The reason why a question has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// 401: the key is not taken.
    #[error("the source does not take the key (401)")]
    Unauthorized,
    /// 403: the key may not ask this.
    #[error("the key may not ask the source for this (403)")]
    Forbidden,
    /// 404: there is no such thing.
    #[error("the source knows no such thing (404)")]
    NotFound,
    /// Any other 4xx: the request itself is wrong.
    #[error("the source refused the request with {0}")]
    Refused(u16),
    /// No usable answer in all tries.
    #[error("{0}")]
    Unavailable(Breakage),
    /// The server stops.
    #[error("the server stops")]
    Stopped,
}

/// A failure after which a retry may succeed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Breakage {
    /// An answer of 5xx, or one that no source gives.
    #[error("the source answered with {0}")]
    Status(u16),
    /// A redirect. None is followed: another server could answer then.
    #[error("the source answered with a redirect ({0}), which is not followed")]
    Redirect(u16),
    /// The source wants a pause.
    #[error("the source limits the rate of requests")]
    TooMany,
    /// No answer in time.
    #[error("the source did not answer within 30 s")]
    Late,
    /// More bytes than are read.
    #[error("the answer of the source is larger than 16 MiB")]
    TooLarge,
    /// An answer of another form.
    #[error("the answer of the source is not what was asked for")]
    Unreadable,
    /// The pages of a list lead round in a circle.
    #[error("a list of the source has no end: its pages lead round in a circle")]
    Circle,
    /// The connection failed, or ended within the answer.
    #[error("the source cannot be reached: {0}")]
    Connection(String),
}

impl SourceError {
    /// Returns a stable word for it.
    pub fn code(&self) -> &'static str {
        match self {
            SourceError::Unauthorized => "unauthorized",
            SourceError::Forbidden => "forbidden",
            SourceError::NotFound => "not_found",
            SourceError::Refused(_) => "refused",
            SourceError::Unavailable(Breakage::TooMany) => "rate_limited",
            SourceError::Unavailable(Breakage::Circle) => "endless_list",
            SourceError::Unavailable(_) => "unavailable",
            SourceError::Stopped => "stopped",
        }
    }
}

/// The body of an answer, and when it was asked for.
#[derive(Clone, Debug)]
pub struct SourceAnswer {
    /// Our clock, just before the request was sent.
    pub asked_at: Millis,
    /// The exact bytes.
    pub body: Bytes,
    /// True if another Rollcall answered.
    pub is_rollcall: bool,
}

/// A page of a list.
#[derive(Clone, Debug)]
pub struct SourcePage {
    /// Our clock, just before the request was sent.
    pub asked_at: Millis,
    /// Each item in its exact bytes. It may be any JSON value.
    pub items: Vec<Bytes>,
    /// The cursor of the next page; `None` at the end of the list.
    pub after: Option<String>,
    /// True if another Rollcall answered.
    pub is_rollcall: bool,
}

/// The end of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ListEnd {
    /// It came to its end.
    Ended,
    /// The source knows no such list.
    Unknown,
}

/// A source as it is configured.
pub struct SourceClient {
    agent: ureq::Agent,
    /// Without a slash at its end.
    base: String,
    authorization: String,
    origin: Origin,
    bucket: Bucket,
    bell: Arc<Bell>,
    status: Arc<SourceStatus>,
    /// The time within which an answer is there as a whole.
    within: Duration,
}

impl SourceClient {
    /// Makes a client for the source at `url`, at `rate` requests a second. Over https it trusts
    /// the authorities of the system.
    ///
    /// # Errors
    /// If there is no certificate where one must be.
    pub(super) fn new(
        url: &str,
        key: &str,
        rate: u32,
        bell: Arc<Bell>,
        status: Arc<SourceStatus>,
    ) -> Result<SourceClient, TrustError> {
        let base = plain_url(url);
        Ok(SourceClient {
            agent: agent(&base)?,
            authorization: format!("Bearer {key}"),
            origin: Origin::new(&base, key),
            base,
            bucket: Bucket::new(rate),
            bell,
            status,
            within: ANSWER_WITHIN,
        })
    }

    /// Returns the source as proofs name it.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Asks for one object. `path` begins with a slash and may have a query.
    ///
    /// # Errors
    /// [`SourceError`]
    pub fn object(&self, path: &str, tries: Tries) -> Result<SourceAnswer, SourceError> {
        self.ask(path, tries, |answer| is_object(&answer.body).then(|| answer.clone()))
    }

    /// Asks for a page of a list. `path` begins with a slash and has a query.
    ///
    /// # Errors
    /// [`SourceError`]
    pub fn page(&self, path: &str, tries: Tries) -> Result<SourcePage, SourceError> {
        self.ask(path, tries, read_page)
    }

    /// Asks for the pages of a list one after the other, to its end or until `take` fails. `path`
    /// begins with a slash and has a query.
    ///
    /// # Errors
    /// [`SourceError`], and those of `take`.
    pub(super) fn pages<E: From<SourceError>>(
        &self,
        path: &str,
        tries: Tries,
        take: &mut dyn FnMut(SourcePage) -> Result<(), E>,
    ) -> Result<ListEnd, E> {
        let (mut after, mut circle) = (None::<String>, Circle::default());
        loop {
            let next = after.as_deref().map(|id| format!("&after={}", encoded(id)));
            let asked = format!("{path}{}", next.unwrap_or_default());
            let mut page = match self.page(&asked, tries) {
                Err(SourceError::NotFound) if after.is_none() => return Ok(ListEnd::Unknown),
                page => page?,
            };
            let cursor = page.after.take();
            take(page)?;
            let Some(cursor) = cursor else { return Ok(ListEnd::Ended) };
            if circle.closes(&cursor) {
                return Err(SourceError::Unavailable(Breakage::Circle).into());
            }
            after = Some(cursor);
        }
    }

    /// Asks a source that is a Rollcall for something that concerns all organizations. Returns
    /// false if it refuses that: the key is bound to some of them, and sees only their part of the
    /// log. Returns true also if that is not known, because the source did not answer or a proxy
    /// did not pass the question on.
    pub fn shows_all(&self, tries: Tries) -> bool {
        !matches!(self.object("/rollcall/v1/policy", tries), Err(SourceError::Forbidden))
    }

    /// Asks for one object once, while a caller waits: it ends within some seconds, and is not sent
    /// while the source wants a pause.
    ///
    /// # Errors
    /// [`SourceError`]
    pub(super) fn look(&self, path: &str) -> Result<SourceAnswer, SourceError> {
        let now = Instant::now();
        let is_paused = self.bucket.pause_left(now).is_some();
        let Some(wait) = (!is_paused).then(|| self.bucket.take_within(now, LOOK_TURN)).flatten()
        else {
            return Err(SourceError::Unavailable(Breakage::TooMany));
        };
        if self.bell.sleep(wait) == Woken::Stopped {
            return Err(SourceError::Stopped);
        }
        let tried = self.try_once(path, LOOK_WITHIN - LOOK_TURN).and_then(|answer| {
            let is_read = is_object(&answer.body);
            is_read.then_some(answer).ok_or(Tried::Broken(Breakage::Unreadable))
        });
        match tried {
            Ok(answer) => {
                self.status.note_success();
                Ok(answer)
            }
            Err(Tried::Final(error)) => {
                self.note_refusal(&error);
                Err(error)
            }
            Err(Tried::Pause(pause)) => {
                self.pause(pause.max(BACKOFF));
                self.note_breakage(&Breakage::TooMany, "");
                Err(SourceError::Unavailable(Breakage::TooMany))
            }
            // A question that waits so shortly tells little of the source.
            Err(Tried::Broken(breakage)) => Err(SourceError::Unavailable(breakage)),
        }
    }

    /// Asks, and reads the answer. An answer from which `read` makes nothing is asked for again.
    ///
    /// # Errors
    /// [`SourceError`]
    pub(super) fn ask<T>(
        &self,
        path: &str,
        tries: Tries,
        read: impl Fn(&SourceAnswer) -> Option<T>,
    ) -> Result<T, SourceError> {
        let mut failures = 0;
        loop {
            self.await_turn()?;
            let heard = self.bell.rings();
            let mut detail = String::new();
            let tried = self.try_once(path, self.within).and_then(|answer| {
                read(&answer).ok_or_else(|| {
                    detail = unreadable(path, &answer.body);
                    Tried::Broken(Breakage::Unreadable)
                })
            });
            let breakage = match tried {
                Ok(read) => {
                    self.status.note_success();
                    return Ok(read);
                }
                Err(Tried::Final(error)) => {
                    self.note_refusal(&error);
                    return Err(error);
                }
                Err(Tried::Pause(pause)) => {
                    // All questions wait, until the next turn.
                    self.pause(pause.max(backoff(failures + 1)));
                    Breakage::TooMany
                }
                Err(Tried::Broken(breakage)) => breakage,
            };
            self.note_breakage(&breakage, &detail);
            failures += 1;
            if matches!(tries, Tries::AtMost(tries_max) if failures >= tries_max) {
                return Err(SourceError::Unavailable(breakage));
            }
            let is_paused = breakage == Breakage::TooMany;
            if !is_paused && self.back_off(tries, failures, heard) == Woken::Stopped {
                return Err(SourceError::Stopped);
            }
        }
    }

    /// Pauses after a failure. The bell is a request for a pull: a reconciliation, whose tries are
    /// counted, sleeps through it.
    fn back_off(&self, tries: Tries, failures: u32, heard: u64) -> Woken {
        let pause = backoff(failures);
        let next_try_at = self.note_next_try(pause);
        let woken = match tries {
            Tries::Endless => self.bell.rest(pause, heard),
            Tries::AtMost(_) => self.bell.sleep(pause),
        };
        self.status.end_pause(next_try_at);
        woken
    }

    /// Lets all requests wait, at least until the pauses before are over.
    fn pause(&self, pause: Duration) {
        let now = Instant::now();
        self.bucket.pause(now + pause);
        let left = self.bucket.pause_left(now).unwrap_or_default();
        self.note_next_try(left);
    }

    /// Notes that a request is sent again after a pause, and returns when.
    fn note_next_try(&self, pause: Duration) -> Millis {
        let pause_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
        let at = time::now_ms().saturating_add_unsigned(pause_ms);
        self.status.note_next_try(at);
        at
    }

    /// Waits until a request may be sent.
    fn await_turn(&self) -> Result<(), SourceError> {
        let mut wait = self.bucket.take(Instant::now());
        loop {
            if self.bell.sleep(wait) == Woken::Stopped {
                return Err(SourceError::Stopped);
            }
            match self.bucket.pause_left(Instant::now()) {
                Some(left) => wait = left,
                None => return Ok(()),
            }
        }
    }

    fn try_once(&self, path: &str, within: Duration) -> Result<SourceAnswer, Tried> {
        let request = self
            .agent
            .get(format!("{}{path}", self.base))
            .header("Authorization", &self.authorization)
            .header("Accept", "application/json")
            .header("User-Agent", concat!("rollcall/", env!("CARGO_PKG_VERSION")))
            .config()
            .timeout_global(Some(within))
            .build();
        let asked_at = time::now_ms();
        let mut response = request.call().map_err(|error| Tried::Broken(breakage(&error)))?;
        match response.status().as_u16() {
            200 => {}
            status => return Err(refusal(status, retry_after(&response))),
        }
        let is_rollcall = response.headers().contains_key("rollcall-known-at");
        let body = response.body_mut().with_config().limit(BODY_BYTES_MAX).read_to_vec();
        let body = body.map_err(|error| Tried::Broken(breakage(&error)))?;
        Ok(SourceAnswer { asked_at, body: body.into(), is_rollcall })
    }

    /// Notes an answer that is a refusal. That a thing does not exist is an answer like any other.
    fn note_refusal(&self, error: &SourceError) {
        if *error != SourceError::Unauthorized {
            self.status.note_success();
            return;
        }
        if self.status.note_fault(error.code(), error.to_string()) {
            tracing::error!(
                source = self.origin.url(),
                "the source does not take the key: set WORKOS_API_KEY to a key of its environment; \
                 it is tried again every 5 minutes"
            );
        }
    }

    /// Notes a failure after which the source is asked again; `detail` follows its sentence.
    fn note_breakage(&self, breakage: &Breakage, detail: &str) {
        let code = SourceError::Unavailable(breakage.clone()).code();
        if self.status.note_fault(code, format!("{breakage}{detail}")) {
            tracing::warn!(source = self.origin.url(), "{breakage}{detail}; it is asked again");
        }
    }
}

/// The outcome of one try that has no answer.
enum Tried {
    Final(SourceError),
    Broken(Breakage),
    /// The source wants a pause: as long as it says, or none that it names.
    Pause(Duration),
}

fn agent(base: &str) -> Result<ureq::Agent, TrustError> {
    let is_https = base.get(..6).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https:"));
    let trusted = if is_https { authorities(None)? } else { RootCerts::WebPki };
    let config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .tls_config(TlsConfig::builder().root_certs(trusted).build());
    // Without TLS the source is this machine, which a proxy of the environment cannot reach.
    let config = if is_https { config } else { config.proxy(None) };
    Ok(config.build().into())
}

/// Returns a URL without user information, query, fragment, and slashes at its end.
pub fn plain_url(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let rest = rest.split(['?', '#']).next().unwrap_or("");
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    format!("{}://{host}{}", scheme.to_ascii_lowercase(), path.trim_end_matches('/'))
}

fn refusal(status: u16, retry_after: Option<Duration>) -> Tried {
    match status {
        401 => Tried::Final(SourceError::Unauthorized),
        403 => Tried::Final(SourceError::Forbidden),
        404 => Tried::Final(SourceError::NotFound),
        429 => Tried::Pause(retry_after.unwrap_or_default().min(PAUSE_MAX)),
        300..400 => Tried::Broken(Breakage::Redirect(status)),
        // The server between us and the source was too slow.
        408 | 425 => Tried::Broken(Breakage::Status(status)),
        400..500 => Tried::Final(SourceError::Refused(status)),
        _ => Tried::Broken(Breakage::Status(status)),
    }
}

/// Reads `Retry-After`: seconds, or a date.
fn retry_after(response: &ureq::http::Response<ureq::Body>) -> Option<Duration> {
    let text = response.headers().get("retry-after")?.to_str().ok()?.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // More than a number can hold is the longest pause as well.
        return Some(text.parse().map_or(PAUSE_MAX, Duration::from_secs));
    }
    let until = time::parse_http_date(text)?;
    Some(Duration::from_millis(until.saturating_sub(time::now_ms()).max(0).unsigned_abs()))
}

fn breakage(error: &ureq::Error) -> Breakage {
    match error {
        ureq::Error::Timeout(_) => Breakage::Late,
        ureq::Error::BodyExceedsLimit(_) => Breakage::TooLarge,
        error => Breakage::Connection(error.to_string()),
    }
}

/// Returns the pause after a failure: between half and the whole of a time that doubles, so that
/// servers which failed together do not come back together.
fn backoff(failures: u32) -> Duration {
    let whole = BACKOFF.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(BACKOFF_MAX);
    let mut random = [0; 2];
    // Without randomness the pause is the longest.
    let part = getrandom::fill(&mut random).map_or(u16::MAX, |()| u16::from_le_bytes(random));
    whole / 2 + (whole / 2).mul_f64(f64::from(part) / f64::from(u16::MAX))
}

/// Says what came instead of what was asked for, without a word of the answer itself.
fn unreadable(path: &str, body: &[u8]) -> String {
    let path = path.split('?').next().unwrap_or_default();
    let what = match body.trim_ascii_start().first() {
        None => "without a body",
        Some(b'<') => "with HTML or XML",
        Some(b'{' | b'[') => "with JSON that is cut off or has another form",
        Some(_) => "with something else than JSON",
    };
    format!(": `{path}` was answered {what}; if it stays so, look at --pull")
}

fn is_object(body: &[u8]) -> bool {
    serde_json::from_slice::<&RawValue>(body).is_ok_and(|value| value.get().starts_with('{'))
}

#[derive(Deserialize)]
struct ApiPage<'a> {
    #[serde(borrow)]
    data: Vec<&'a RawValue>,
    list_metadata: ApiPageMetadata,
}

#[derive(Deserialize)]
struct ApiPageMetadata {
    /// Required: a list without it could end too early.
    #[serde(deserialize_with = "cursor")]
    after: Option<String>,
}

/// Reads a cursor. Old servers end lists with an empty one.
fn cursor<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let cursor: Option<String> = Option::deserialize(deserializer)?;
    Ok(cursor.filter(|cursor| !cursor.is_empty()))
}

/// Reads a page; `None` if it is not a list.
pub(super) fn read_page(answer: &SourceAnswer) -> Option<SourcePage> {
    let page: ApiPage<'_> = serde_json::from_slice(&answer.body).ok()?;
    let items = page.data.iter().map(|item| answer.body.slice_ref(item.get().as_bytes()));
    let items = items.collect();
    let after = page.list_metadata.after;
    let SourceAnswer { asked_at, is_rollcall, .. } = *answer;
    Some(SourcePage { asked_at, items, after, is_rollcall })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(body: &str) -> Option<SourcePage> {
        let body = Bytes::copy_from_slice(body.as_bytes());
        read_page(&SourceAnswer { asked_at: 7, body, is_rollcall: false })
    }

    #[test]
    fn the_items_of_a_page_keep_their_exact_bytes() {
        let read = page(
            r#"{"object":"list","data":[ {"id": "a", "n":1.00}, {"id":"b"}],
                "list_metadata":{"before":null,"after":"b"}}"#,
        );
        let read = read.unwrap();
        assert_eq!(read.items, [&br#"{"id": "a", "n":1.00}"#[..], br#"{"id":"b"}"#]);
        assert_eq!((read.asked_at, read.after.as_deref()), (7, Some("b")));
        let odd = page(r#"{"data":[1,null,{"id":"a"}],"list_metadata":{"after":null}}"#).unwrap();
        assert_eq!(odd.items, [&b"1"[..], b"null", b"{\"id\":\"a\"}"]);
        for end in ["null", "\"\""] {
            let text = format!(r#"{{"data":[],"list_metadata":{{"after":{end}}}}}"#);
            assert_eq!(page(&text).unwrap().after, None);
        }
    }

    #[test]
    fn what_is_not_a_whole_list_is_no_page() {
        for body in [
            "",
            "null",
            "{}",
            r#"{"data":[]}"#,
            r#"{"data":[],"list_metadata":{}}"#,
            r#"{"data":[],"list_metadata":{"after":7}}"#,
            r#"{"data":[{"id":"a"}],"list_metadata":{"after":nul"#,
            r#"{"data":{},"list_metadata":{"after":null}}"#,
            r#"{"message":"Unauthorized"}"#,
        ] {
            assert!(page(body).is_none(), "{body}");
        }
        assert!(is_object(b" {\"a\":1}\n") && !is_object(b"[]") && !is_object(b"{"));
    }

    #[test]
    fn a_url_is_kept_without_what_may_be_secret() {
        for (url, plain) in [
            ("https://api.workos.com", "https://api.workos.com"),
            ("HTTPS://me:s@ecret@h:1/p/?token=x#y", "https://h:1/p"),
            ("http://127.0.0.1:8080/", "http://127.0.0.1:8080"),
        ] {
            assert_eq!(plain_url(url), plain);
        }
    }

    /// Answers each connection with the next of `answers`; one that is empty is never answered.
    fn serve(answers: Vec<String>) -> String {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            let mut kept = Vec::new();
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let mut bytes = [0; 4096];
                let _ = std::io::Read::read(&mut stream, &mut bytes);
                std::io::Write::write_all(&mut stream, answer.as_bytes()).unwrap();
                if answer.is_empty() {
                    kept.push(stream);
                }
            }
            // Until the client leaves.
            for mut stream in kept {
                let _ = std::io::copy(&mut stream, &mut std::io::sink());
            }
        });
        url
    }

    fn answer(status: u16, more: &str, body: &str) -> String {
        let length = body.len();
        let close = "Connection: close";
        format!("HTTP/1.1 {status} X\r\n{close}\r\n{more}Content-Length: {length}\r\n\r\n{body}")
    }

    fn client(url: &str) -> SourceClient {
        let client = SourceClient::new(url, "sk", 1000, Arc::default(), Arc::default()).unwrap();
        SourceClient { within: Duration::from_millis(300), ..client }
    }

    #[test]
    fn each_failure_has_its_kind() {
        let broken = |breakage| SourceError::Unavailable(breakage);
        for (answered, expected) in [
            (answer(401, "", "{}"), SourceError::Unauthorized),
            (answer(403, "", "{}"), SourceError::Forbidden),
            (answer(404, "", "{}"), SourceError::NotFound),
            (answer(422, "", "{}"), SourceError::Refused(422)),
            (answer(500, "", "{}"), broken(Breakage::Status(500))),
            (answer(408, "", "{}"), broken(Breakage::Status(408))),
            (answer(204, "", ""), broken(Breakage::Status(204))),
            (answer(302, "Location: http://127.0.0.1:9/\r\n", ""), broken(Breakage::Redirect(302))),
            (answer(429, "", "{}"), broken(Breakage::TooMany)),
            (answer(200, "", "[]"), broken(Breakage::Unreadable)),
            (String::new(), broken(Breakage::Late)),
        ] {
            let client = client(&serve(vec![answered]));
            let error = client.object("/directories/d", Tries::AtMost(1)).unwrap_err();
            assert_eq!(error, expected);
            let is_answer = matches!(
                error,
                SourceError::Forbidden | SourceError::NotFound | SourceError::Refused(_)
            );
            assert_eq!(client.status.moments().last_error.is_none(), is_answer, "{error}");
        }
        let cut = "HTTP/1.1 200 X\r\nConnection: close\r\nContent-Length: 9\r\n\r\n{".to_owned();
        let error = client(&serve(vec![cut])).object("/x", Tries::AtMost(1)).unwrap_err();
        assert!(matches!(error, SourceError::Unavailable(Breakage::Connection(_))), "{error:?}");
    }

    #[test]
    fn tries_are_counted_and_a_refusal_with_a_pause_is_one() {
        let now = time::now_ms();
        let failing = || answer(503, "", "{}");
        let limited = answer(429, "Retry-After: 0\r\n", "{}");
        let good = answer(200, "", "{\"id\":\"d\"}");
        let url = serve(vec![failing(), limited, good]);
        let answered = client(&url).object("/directories/d", Tries::AtMost(3)).unwrap();
        assert_eq!(answered.body, &b"{\"id\":\"d\"}"[..]);
        // The moment of the try that was answered: after 250 ms and 500 ms at least, though the
        // source named a pause of 0.
        assert!(answered.asked_at >= now + 740, "{}", answered.asked_at - now);
        let limited = || answer(429, "Retry-After: 0\r\n", "{}");
        let client_limited = client(&serve(vec![limited(), failing(), limited()]));
        let error = client_limited.object("/x", Tries::AtMost(3)).unwrap_err();
        assert_eq!(error, SourceError::Unavailable(Breakage::TooMany));
        let error = client(&serve(vec![failing(), failing()])).object("/x", Tries::AtMost(2));
        assert_eq!(error.unwrap_err(), SourceError::Unavailable(Breakage::Status(503)));
    }

    #[test]
    fn a_pause_is_at_least_the_backoff_and_at_most_5_minutes() {
        let tried = |more: &str| {
            let client = client(&serve(vec![answer(429, more, "{}")]));
            client.object("/x", Tries::AtMost(1)).unwrap_err();
            assert!(client.status.moments().next_try_at.is_some(), "{more}");
            client.bucket.pause_left(Instant::now()).map_or(0, |left| left.as_millis())
        };
        let huge = format!("Retry-After: {}\r\n", "9".repeat(23));
        for (more, range) in [
            ("", 1..=500),
            ("Retry-After: 0\r\n", 1..=500),
            ("Retry-After: -5\r\n", 1..=500),
            ("Retry-After: abc\r\n", 1..=500),
            ("Retry-After: Thu, 01 Jan 1970 00:00:00 GMT\r\n", 1..=500),
            ("Retry-After: 2\r\n", 1_001..=2_000),
            ("Retry-After: 301\r\n", 290_000..=300_000),
            (huge.as_str(), 290_000..=300_000),
        ] {
            let pause_ms = tried(more);
            assert!(range.contains(&pause_ms), "{more}: {pause_ms}");
        }
    }

    #[test]
    fn a_ring_wakes_the_puller_and_no_reconciliation() {
        for (tries, is_woken) in [(Tries::Endless, true), (Tries::AtMost(8), false)] {
            let client = client("http://127.0.0.1:9");
            let heard = client.bell.rings();
            client.bell.ring();
            let begun = Instant::now();
            let woken = client.back_off(tries, 1, heard);
            assert_eq!(woken == Woken::Rung, is_woken, "{tries:?}");
            assert_eq!(begun.elapsed() < Duration::from_millis(200), is_woken, "{tries:?}");
            assert_eq!(client.status.moments().next_try_at, None, "{tries:?}");
        }
    }

    #[test]
    fn an_answer_of_another_form_is_described_without_its_words() {
        for (body, expected) in [
            ("", "without a body"),
            ("\n<html>sk_secret", "with HTML or XML"),
            ("{\"message\":\"sk_secret\"}", "with JSON that is cut off or has another form"),
            ("sk_secret", "with something else than JSON"),
        ] {
            let client = client(&serve(vec![answer(200, "", body)]));
            client.page("/events?limit=100", Tries::AtMost(1)).unwrap_err();
            let message = client.status.moments().last_error.unwrap().message;
            let told = format!(
                "the answer of the source is not what was asked for: `/events` was answered \
                 {expected}; if it stays so, look at --pull"
            );
            assert_eq!(message, told);
        }
    }

    #[test]
    fn a_look_waits_for_no_pause() {
        let client = client(&serve(vec![answer(404, "", "{}"), answer(429, "", "{}")]));
        assert_eq!(client.look("/directories/d").unwrap_err(), SourceError::NotFound);
        let limited = SourceError::Unavailable(Breakage::TooMany);
        assert_eq!(client.look("/directories/d").unwrap_err(), limited);
        // Nothing answers any more: the pause has ended it.
        let begun = Instant::now();
        client.bucket.pause(begun + Duration::from_secs(60));
        assert_eq!(client.look("/directories/d").unwrap_err(), limited);
        assert!(begun.elapsed() < Duration::from_secs(1));
    }

    #[test]
    fn a_stop_ends_every_wait() {
        let client = client("http://127.0.0.1:9");
        client.bucket.pause(Instant::now() + Duration::from_secs(60));
        let bell = client.bell.clone();
        let waiting = std::thread::spawn(move || client.object("/x", Tries::Endless));
        bell.ring();
        bell.stop();
        assert_eq!(waiting.join().unwrap().unwrap_err(), SourceError::Stopped);
    }

    #[test]
    fn pauses_double_up_to_a_minute_and_differ() {
        for (failures, whole_ms) in [(1, 500), (2, 1_000), (5, 8_000), (8, 60_000), (900, 60_000)] {
            let pause = backoff(failures).as_millis();
            assert!((whole_ms / 2..=whole_ms).contains(&pause), "{failures}: {pause}");
        }
    }
}
