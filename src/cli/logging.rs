//! The log on standard error.

use tracing_subscriber::EnvFilter;

use super::config::closest;
use super::read::print::coloured;
use crate::stderr::Lines;

/// Leaves out the error that actix logs for each request that is not HTTP, which anyone can send.
const UNPARSED: &str = "actix_http::h1::dispatcher=off";

/// The log of this process, whose filter can be replaced.
pub(super) struct Logging {
    replace: Box<dyn Fn(EnvFilter) -> bool + Send>,
}

/// Reads a filter of log lines.
///
/// # Errors
/// A sentence that says what it must be.
pub(super) fn filter(text: &str) -> Result<EnvFilter, String> {
    let parts: Vec<&str> = text.split(',').map(str::trim).collect();
    if parts.iter().all(|part| part.is_empty()) {
        return Err(format!("it is empty: {FORM}"));
    }
    if let Some(word) = parts.iter().find(|part| is_word(part) && !is_level(part)) {
        let word = word.to_lowercase();
        let longer = || LEVELS.into_iter().find(|level| word.starts_with(level));
        let meant = closest(&word, LEVELS.into_iter()).or_else(longer);
        let meant = meant.map(|level| format!("; did you mean `{level}`?")).unwrap_or_default();
        return Err(format!("{FORM}{meant}"));
    }
    EnvFilter::try_new(format!("{UNPARSED},{}", parts.join(","))).map_err(|_| FORM.into())
}

/// The levels, each of which may be given alone.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

const FORM: &str = "it must be one of off, error, warn, info, debug, trace, or a filter such as \
                    info,rollcall::access=error";

/// Returns true for a part without a target. The library takes any such word for a target, and
/// then silences all others.
fn is_word(part: &str) -> bool {
    !part.is_empty() && !part.contains(['=', '[', ']', '{', '}', ':', '"'])
}

fn is_level(word: &str) -> bool {
    LEVELS.iter().any(|level| level.eq_ignore_ascii_case(word))
}

impl Logging {
    /// Begins to log: one object a line for programs if `json` is set, and lines for people
    /// otherwise.
    ///
    /// # Errors
    /// A sentence, if the filter cannot be read.
    pub(super) fn begin(text: &str, json: bool) -> Result<Logging, String> {
        // A closed stderr must not stop the server: lines that cannot be written are dropped, and
        // the subscriber must not complain about them on stderr.
        let fmt = tracing_subscriber::fmt()
            .with_env_filter(filter(text)?)
            .with_writer(Lines)
            .log_internal_errors(false);
        // Setting a subscriber fails if one is set already, which then stays.
        let replace: Box<dyn Fn(EnvFilter) -> bool + Send> = if json {
            let fmt = fmt.json().flatten_event(true).with_current_span(false).with_span_list(false);
            let fmt = fmt.with_filter_reloading();
            let handle = fmt.reload_handle();
            let _ = fmt.try_init();
            Box::new(move |filter| handle.reload(filter).is_ok())
        } else {
            let fmt = fmt.with_ansi(coloured(&std::io::stderr())).with_filter_reloading();
            let handle = fmt.reload_handle();
            let _ = fmt.try_init();
            Box::new(move |filter| handle.reload(filter).is_ok())
        };
        Ok(Logging { replace })
    }

    /// Replaces the filter. Returns false if that failed, and the one before stays.
    pub(super) fn set_filter(&self, text: &str) -> bool {
        filter(text).is_ok_and(|filter| (self.replace)(filter))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_that_is_no_level_is_refused_with_the_closest_level() {
        for (text, advice) in [
            ("inof", "did you mean `info`?"),
            ("warning", "did you mean `warn`?"),
            ("info,eror", "did you mean `error`?"),
            ("rollcall", "off, error, warn, info, debug, trace"),
            ("3", "off, error"),
            ("", "it is empty"),
            (" , ", "it is empty"),
        ] {
            let fault = filter(text).err();
            assert!(fault.as_ref().is_some_and(|fault| fault.contains(advice)), "{fault:?}");
        }
        for text in ["off", "INFO", "trace", "info, rollcall::access=error", "warn,sled=off"] {
            assert!(filter(text).is_ok(), "{text}");
        }
    }
}
