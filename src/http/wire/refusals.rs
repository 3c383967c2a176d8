//! The webhooks that were refused, and the requests without a valid key: counted since the start,
//! and logged at most once a minute for each reason.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rollcall_projections::Millis;

use super::answer::Code;
use crate::personal::WITHHELD;
use crate::time;

/// The shortest time between two warnings for one reason.
const WARN_EVERY: Duration = Duration::from_secs(60);

/// The longest path that a warning repeats, in characters.
const PATH_CHARS_MAX: usize = 200;

/// The most paths that are warned of by name within [`WARN_EVERY`].
const PATHS_MAX: usize = 16;

/// The name of the paths beyond [`PATHS_MAX`] in a warning.
const OTHER_PATHS: &str = "other paths";

/// Returns a path without the segments that may hold an email.
fn without_emails(path: &str) -> String {
    let shown = |segment: &str| if has_at_sign(segment) { WITHHELD } else { segment }.to_owned();
    path.split('/').map(shown).collect::<Vec<String>>().join("/")
}

/// Tells if a text holds an at sign, also one that was percent-encoded, or encoded twice.
fn has_at_sign(text: &str) -> bool {
    let decode = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8_lossy().into();
    let once: String = decode(text);
    let twice: String = decode(&once);
    [text, &once, &twice].iter().any(|text| text.contains(['@', '＠']))
}

/// The counts and warnings of each reason, in the order of [`Code::REFUSALS`], and the warnings of
/// each path that does not exist.
#[derive(Default)]
pub(crate) struct Refusals {
    reasons: [Reason; Code::REFUSALS.len()],
    /// In the order of [`Code::RETRIED`].
    retried: [AtomicU64; Code::RETRIED.len()],
    paths: Mutex<Paths>,
    /// Requests without a valid API key.
    keys: Reason,
}

#[derive(Default)]
struct Reason {
    total: AtomicU64,
    /// The moment of the last; 0 before the first.
    last_at: AtomicI64,
    due: Mutex<Due>,
}

/// The time of the last warning, and the count since then.
#[derive(Default)]
pub(super) struct Due {
    warned_at: Option<Instant>,
    count: u64,
}

impl Due {
    fn is_waiting(&self, now: Instant) -> bool {
        self.warned_at.is_some_and(|last| now.saturating_duration_since(last) < WARN_EVERY)
    }

    /// Counts a refusal, or what else is warned of. If a warning is due, returns how many came since
    /// the last one.
    pub(super) fn count(&mut self, now: Instant) -> Option<u64> {
        self.count += 1;
        if self.is_waiting(now) {
            return None;
        }
        self.warned_at = Some(now);
        Some(std::mem::take(&mut self.count))
    }
}

impl Reason {
    fn count(&self, now: Instant) -> Option<u64> {
        self.note();
        self.due.lock().count(now)
    }

    fn note(&self) {
        self.total.fetch_add(1, Ordering::Relaxed);
        self.last_at.store(time::now_ms(), Ordering::Relaxed);
    }
}

/// The warnings of paths that do not exist. Each of the first [`PATHS_MAX`] has its own; the rest
/// share one, so that a scan of many paths does not fill the log.
#[derive(Default)]
struct Paths {
    named: Vec<(String, Due)>,
    other: Due,
}

impl Paths {
    /// Counts a post to a path. If a warning is due, returns its name of the path and the count.
    fn count(&mut self, path: &str, now: Instant) -> Option<(String, u64)> {
        let path: String = path.chars().take(PATH_CHARS_MAX).collect();
        let known = self.named.iter().position(|(name, _)| *name == path);
        // A path that was warned of long ago gives its place to a new one, and its count to the
        // rest.
        let free = || self.named.iter().position(|(_, due)| !due.is_waiting(now));
        let place = match known.or_else(|| (self.named.len() >= PATHS_MAX).then(free).flatten()) {
            Some(place) => place,
            None if self.named.len() < PATHS_MAX => {
                self.named.push((path.clone(), Due::default()));
                self.named.len() - 1
            }
            None => return self.other.count(now).map(|count| (OTHER_PATHS.to_owned(), count)),
        };
        let (name, due) = self.named.get_mut(place)?;
        if *name != path {
            self.other.count += due.count;
            (*name, *due) = (path.clone(), Due::default());
        }
        due.count(now).map(|count| (path, count))
    }
}

impl Refusals {
    /// Counts a refused webhook, and warns of it if sending it again will not help.
    pub(crate) fn refuse(&self, code: Code) -> Code {
        let retried = Code::RETRIED.iter().zip(&self.retried).find(|(other, _)| **other == code);
        if let Some((_, count)) = retried {
            count.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(count) = self.reason(code).and_then(|reason| reason.count(Instant::now())) {
            let code = code.name();
            tracing::warn!(code, count, "webhooks were refused since the last such warning");
        }
        code
    }

    /// Counts a probe, which is refused on purpose: it is no trouble that is to be looked at.
    pub(crate) fn refuse_probe(&self, code: Code) -> Code {
        if let Some(reason) = self.reason(code) {
            reason.total.fetch_add(1, Ordering::Relaxed);
        }
        code
    }

    /// Counts a post to a path that does not exist and warns of it: it may be a webhook whose URL
    /// is wrong.
    pub(crate) fn refuse_path(&self, path: &str) {
        if let Some(reason) = self.reason(Code::NotFound) {
            reason.note();
        }
        let path = without_emails(path);
        if let Some((path, count)) = self.paths.lock().count(&path, Instant::now()) {
            tracing::warn!(
                ?path,
                count,
                "posts came to a path that does not exist, since the last such warning: if \
                webhooks are meant to come here, name the path with --webhook-path or correct the \
                endpoint's URL; an admin address takes none"
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

    /// Returns each reason's code and the moment of the last refusal since the start.
    pub(crate) fn last_at(&self) -> impl Iterator<Item = (Code, Option<Millis>)> {
        let last_at = |reason: &Reason| {
            Some(reason.last_at.load(Ordering::Relaxed)).filter(|moment| *moment != 0)
        };
        Code::REFUSALS
            .into_iter()
            .zip(&self.reasons)
            .map(move |(code, reason)| (code, last_at(reason)))
    }

    /// Returns each reason's code and its count since the start.
    pub(crate) fn counts(&self) -> impl Iterator<Item = (Code, u64)> {
        Code::REFUSALS
            .into_iter()
            .zip(&self.reasons)
            .map(|(code, reason)| (code, reason.total.load(Ordering::Relaxed)))
    }

    /// Returns every code for which a webhook is refused, and its count since the start.
    pub(crate) fn all(&self) -> impl Iterator<Item = (Code, u64)> {
        let retried = Code::RETRIED.into_iter().zip(&self.retried);
        self.counts().chain(retried.map(|(code, count)| (code, count.load(Ordering::Relaxed))))
    }

    fn reason(&self, code: Code) -> Option<&Reason> {
        let at = Code::REFUSALS.iter().position(|other| *other == code)?;
        self.reasons.get(at)
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

    #[test]
    fn each_of_sixteen_paths_has_its_own_warning_and_the_rest_share_one() {
        let (mut paths, start) = (Paths::default(), Instant::now());
        let mut post = |path: &str, s| paths.count(path, start + Duration::from_secs(s));
        let warned = |path: &str, count| Some((path.to_owned(), count));
        for number in 0..16 {
            let path = format!("/{number}");
            assert_eq!(post(&path, 0), warned(&path, 1));
            assert_eq!(post(&path, 1), None);
        }
        // Two more paths in the same minute are counted together.
        assert_eq!(post("/a", 1), warned(OTHER_PATHS, 1));
        assert_eq!(post("/b", 2), None);
        assert_eq!(post("/a", 3), None);
        // A minute later the first path has its count, and a new path takes the next one's place.
        assert_eq!(post("/0", 60), warned("/0", 2));
        assert_eq!(post("/a", 61), warned("/a", 1));
        assert_eq!(post("/a", 62), None);
        // The one post to /1 that was not warned of is counted with the rest.
        for number in 2..16 {
            assert_eq!(post(&format!("/{number}"), 62), warned(&format!("/{number}"), 2));
        }
        assert_eq!(post("/c", 63), warned(OTHER_PATHS, 4));
    }

    #[test]
    fn a_segment_that_may_hold_an_email_is_withheld() {
        for (path, shown) in [
            ("/webhooks/workos/x", "/webhooks/workos/x"),
            ("/hooks/ana@example.com/x", "/hooks/withheld/x"),
            ("/hooks/ana%40example.com", "/hooks/withheld"),
            ("/ana%2540example.com/", "/withheld/"),
            ("/a%2Fana＠x", "/withheld"),
            ("", ""),
        ] {
            assert_eq!(without_emails(path), shown);
        }
    }

    #[test]
    fn a_long_path_is_cut_off() {
        let mut paths = Paths::default();
        let long = "/é".repeat(PATH_CHARS_MAX);
        let (path, count) = paths.count(&long, Instant::now()).unwrap();
        assert_eq!((path.chars().count(), count), (PATH_CHARS_MAX, 1));
    }
}
