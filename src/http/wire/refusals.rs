//! The webhooks that were refused, and the requests without a valid key: counted since the start,
//! and logged at most once a minute for each reason.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::answer::Code;

/// The shortest time between two warnings for one reason.
const WARN_EVERY: Duration = Duration::from_secs(60);

/// The longest path that a warning repeats, in characters.
const PATH_CHARS_MAX: usize = 200;

/// The counts and warnings of each reason, in the order of [`Code::REFUSALS`].
#[derive(Default)]
pub(crate) struct Refusals {
    reasons: [Reason; Code::REFUSALS.len()],
    /// Requests without a valid API key.
    keys: Reason,
}

#[derive(Default)]
struct Reason {
    total: AtomicU64,
    warned: Mutex<Option<Warned>>,
}

/// The last warning.
struct Warned {
    at: Instant,
    total: u64,
}

impl Reason {
    /// Counts a refusal. If a warning is due, returns how many came since the last one.
    fn count(&self, now: Instant) -> Option<u64> {
        let total = self.total.fetch_add(1, Ordering::Relaxed) + 1;
        let mut warned = self.warned.lock();
        let before = match &*warned {
            Some(last) if now.saturating_duration_since(last.at) < WARN_EVERY => return None,
            Some(last) => last.total,
            None => 0,
        };
        *warned = Some(Warned { at: now, total });
        Some(total.saturating_sub(before))
    }
}

impl Refusals {
    /// Counts a refused webhook and warns of it. Other errors are passed through.
    pub(crate) fn refuse(&self, code: Code) -> Code {
        if let Some(count) = self.count(code) {
            let code = code.name();
            tracing::warn!(code, count, "webhooks were refused since the last such warning");
        }
        code
    }

    /// Counts a post to a path that does not exist and warns of it: it may be a webhook whose URL
    /// is wrong.
    pub(crate) fn refuse_path(&self, path: &str) {
        if let Some(count) = self.count(Code::NotFound) {
            let path: String = path.chars().take(PATH_CHARS_MAX).collect();
            tracing::warn!(
                ?path,
                count,
                "posts came to paths that do not exist, the last to this one: if webhooks are \
                meant to come here, name the path with --webhook-path or correct the endpoint's URL"
            );
        }
    }

    /// Counts a request without a valid API key and warns of it. `route` is the path of the call.
    pub(crate) fn refuse_key(&self, route: &'static str) {
        if let Some(count) = self.keys.count(Instant::now()) {
            tracing::warn!(
                route,
                count,
                "requests without a valid API key were refused since the last such warning, the \
                last to this route"
            );
        }
    }

    /// Returns the number of requests without a valid API key.
    pub(crate) fn unauthorized(&self) -> u64 {
        self.keys.total.load(Ordering::Relaxed)
    }

    /// Returns each reason's code and its count since the start.
    pub(crate) fn counts(&self) -> impl Iterator<Item = (Code, u64)> {
        Code::REFUSALS
            .into_iter()
            .zip(&self.reasons)
            .map(|(code, reason)| (code, reason.total.load(Ordering::Relaxed)))
    }

    fn count(&self, code: Code) -> Option<u64> {
        let at = Code::REFUSALS.iter().position(|other| *other == code)?;
        self.reasons.get(at)?.count(Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_warned_of_at_most_once_a_minute_with_the_count_since_then() {
        let (reason, start) = (Reason::default(), Instant::now());
        let after = |ms| reason.count(start + Duration::from_millis(ms));
        let answers = [0, 1, 59_999, 60_000, 60_001, 200_000].map(after);
        assert_eq!(answers, [Some(1), None, None, Some(3), None, Some(2)]);
        assert_eq!(reason.total.load(Ordering::Relaxed), 6);
    }
}
