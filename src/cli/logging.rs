//! The log on standard error.

use tracing_subscriber::EnvFilter;

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
    EnvFilter::try_new(format!("{UNPARSED},{text}")).map_err(|_| {
        "it must be one of error, warn, info, debug, or a filter such as \
         info,rollcall::access=error"
            .into()
    })
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
