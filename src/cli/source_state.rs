//! The state of the server's source, for the commands that wait for it.

use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::Failure;
use super::client::Client;
use super::read::listing::ask;
use super::read::print::human;
use super::table::harmless;
use super::waiting::Report;
use crate::time;

/// The time without an answer after which the commands say so. The server itself waits longer.
const SILENCE: Duration = Duration::from_secs(5);

/// A source, as the server reports it.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct SourceReport {
    pub(super) url: String,
    pub(super) caught_up_at: Option<String>,
    pub(super) last_success_at: Option<String>,
    pub(super) last_error: Option<SourceFaultReport>,
    pub(super) next_try_at: Option<String>,
    pub(super) new: u64,
    pub(super) duplicates: u64,
    pub(super) differs: u64,
    pub(super) left_to_webhooks: u64,
}

/// The last error of a source, until what failed has succeeded.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct SourceFaultReport {
    pub(super) code: String,
    pub(super) message: String,
    pub(super) at: String,
}

#[derive(Deserialize)]
struct ApiSources<'a> {
    #[serde(borrow)]
    data: Vec<&'a RawValue>,
}

/// Asks for the state of the source.
///
/// # Errors
/// If the server does not answer, or has no source any more.
pub(super) fn source_of(client: &Client) -> Result<Report<SourceReport>, Failure> {
    let answer = ask(client, "/rollcall/v1/sources", "")?;
    let sources: ApiSources<'_> = answer.json()?;
    let source = sources.data.first().ok_or_else(|| {
        Failure::Ours("the server was restarted without a source: start it with --pull".into())
    })?;
    Report::of_json(source)
}

/// Returns true for an error that only an operator can end. The server retries any other.
pub(super) fn is_lasting(code: &str) -> bool {
    !matches!(code, "unavailable" | "rate_limited" | "log_unavailable")
}

/// Says what an operator can do about an error of a source, or what the server does; empty if the
/// error itself says it.
pub(super) fn advice(code: &str) -> &'static str {
    match code {
        "unauthorized" => {
            "start the server with a key of the right environment in WORKOS_API_KEY; it tries the \
             present one again every 5 minutes"
        }
        "forbidden" => {
            "give the server a key that may read events and directories; of another Rollcall, one \
             with the scopes `read` and `audit` that is bound to no organization"
        }
        "not_found" | "refused" => "--pull must be the URL of WorkOS, or of a server with its API",
        "rate_limited" => {
            "the server asks again after the pause that the source wants, at most 5 minutes; no \
             command shortens it"
        }
        "unavailable" => "the server asks again, at pauses of up to a minute, until it answers",
        "endless_list" => {
            "the server begins again with the next pull; tell those who run the source"
        }
        "source_mismatch" => "the server looks again every 5 minutes",
        "log_unavailable" => "the server tries again with the next pull",
        _ => "",
    }
}

/// Says what is wrong with a source, and what to do.
pub(super) fn complaint(url: &str, code: &str, message: &str) -> String {
    let advice = advice(code);
    let separator = if advice.is_empty() { "" } else { "; " };
    harmless(&format!("`{url}`: {message}{separator}{advice}"))
}

/// Says how long it is until a request is sent again; empty if none waits.
pub(super) fn next_try(next_try_at: Option<&str>, now: i64) -> String {
    let left = next_try_at.and_then(time::parse).map(|at| at - now).filter(|left| *left > 0);
    left.map_or_else(String::new, |left| format!("; next try in {}", human(left)))
}

/// Says on standard error what a command waits for, once for each reason.
pub(super) struct Waiting {
    /// The last answer of the source, and when it was first seen here.
    last_success: (Option<String>, Instant),
    told: String,
}

impl Waiting {
    /// Begins to wait.
    pub(super) fn new() -> Waiting {
        Waiting { last_success: (None, Instant::now()), told: String::new() }
    }

    /// Looks at the state of a source that is asked just now. `how_long` says how long it is asked
    /// in vain.
    pub(super) fn look(&mut self, source: &SourceReport, how_long: &str, bar: &ProgressBar) {
        let reason = self.reason(source, Instant::now());
        let told = format!("{reason}; {how_long}");
        if reason.is_empty() || told == self.told {
            return;
        }
        let next = next_try(source.next_try_at.as_deref(), time::now_ms());
        bar.suspend(|| eprintln!("rollcall: waiting for the source {reason}{next}; {how_long}"));
        self.told = told;
    }

    /// Returns what keeps the source from answering; empty if it answers.
    fn reason(&mut self, source: &SourceReport, now: Instant) -> String {
        let SourceReport { url, last_error, last_success_at, .. } = source;
        if let Some(SourceFaultReport { code, message, .. }) = last_error {
            return complaint(url, code, message);
        }
        let (last, since) = &self.last_success;
        if last != last_success_at {
            self.last_success = (last_success_at.clone(), now);
        } else if now.duration_since(*since) >= SILENCE {
            if source.next_try_at.is_some() {
                return harmless(&format!("`{url}`: a request to it failed and is sent again"));
            }
            return harmless(&format!(
                "`{url}`: it has not answered for {} s; the server waits 30 s for an answer and \
                 then asks again",
                SILENCE.as_secs()
            ));
        }
        String::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(error: Option<(&str, &str)>, last_success_at: Option<&str>) -> SourceReport {
        let last_error = error.map(|(code, message)| SourceFaultReport {
            code: code.into(),
            message: message.into(),
            at: "1970-01-01T00:00:05.000Z".into(),
        });
        SourceReport {
            url: "https://s".into(),
            caught_up_at: None,
            last_success_at: last_success_at.map(str::to_owned),
            last_error,
            next_try_at: None,
            new: 0,
            duplicates: 0,
            differs: 0,
            left_to_webhooks: 0,
        }
    }

    #[test]
    fn a_fault_is_told_with_what_happens_next() {
        let mut waiting = Waiting::new();
        let down = source(Some(("unavailable", "the source cannot be reached: refused")), None);
        assert_eq!(
            waiting.reason(&down, Instant::now()),
            "`https://s`: the source cannot be reached: refused; the server asks again, at pauses \
             of up to a minute, until it answers"
        );
        assert_eq!(
            complaint("https://s", "source_mismatch", "another one"),
            "`https://s`: another one; the server looks again every 5 minutes"
        );
    }

    #[test]
    fn a_source_that_is_silent_is_told_after_some_seconds() {
        let mut waiting = Waiting::new();
        let begun = waiting.last_success.1;
        let at = |seconds| begun + Duration::from_secs(seconds);
        assert_eq!(waiting.reason(&source(None, None), at(4)), "");
        assert!(waiting.reason(&source(None, None), at(5)).contains("not answered for 5 s"));
        // Between two tries nothing is asked that could be answered.
        let next_try_at = Some("1970-01-01T00:00:20.500Z".to_owned());
        let pausing = SourceReport { next_try_at, ..source(None, None) };
        let says = "`https://s`: a request to it failed and is sent again";
        assert_eq!(waiting.reason(&pausing, at(5)), says);
        // Each answer begins the time anew.
        let answered = source(None, Some("1970-01-01T00:00:09.000Z"));
        assert_eq!(waiting.reason(&answered, at(9)), "");
        assert_eq!(waiting.reason(&answered, at(13)), "");
        assert!(!waiting.reason(&answered, at(14)).is_empty());
    }

    #[test]
    fn the_next_try_is_told_while_it_is_ahead() {
        let at = Some("1970-01-01T00:00:20.500Z");
        assert_eq!(next_try(at, 9_400), "; next try in 11 s");
        assert_eq!((next_try(at, 20_500), next_try(None, 0)), Default::default());
    }

    #[test]
    fn only_what_the_server_retries_by_itself_does_not_last() {
        for code in ["unavailable", "rate_limited", "log_unavailable"] {
            assert!(!is_lasting(code), "{code}");
        }
        for code in
            ["unauthorized", "source_mismatch", "forbidden", "not_found", "refused", "endless_list"]
        {
            assert!(is_lasting(code), "{code}");
        }
    }
}
