//! `rollcall health`

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde_json::Value;

use super::client::{agent, text_field, without_secrets};
use super::read::source::{http_url, url_of_environment};
use super::table::harmless;
use super::{Failure, print};

/// The longest wait for an answer: a server that takes longer is not healthy.
const WITHIN: Duration = Duration::from_secs(5);

/// Ask a server whether it is ready, for health checks of containers and load balancers.
///
/// Asks /readyz: the log is folded, and events are taken. Needs no API key. Prints how each part of
/// the server is.
#[derive(Args)]
#[command(after_help = "\
Exit codes: 0 if the server is ready, 1 if it is not, does not answer within five seconds, or the
URL cannot be used.

Examples:
  rollcall health
  rollcall health --alive --url http://127.0.0.1:9090

In a container file:
  HEALTHCHECK --start-period=60s CMD [\"rollcall\", \"health\"]")]
pub(super) struct HealthArgs {
    /// Ask only if the process answers (/healthz), also while it folds its log
    #[arg(long)]
    alive: bool,
    /// Print the answer as the server sent it, for programs
    #[arg(long)]
    json: bool,
    /// The server's URL [env: ROLLCALL_URL] [default: http://127.0.0.1:8080]
    #[arg(long, value_parser = http_url, help_heading = "Server")]
    url: Option<String>,
    /// Trust the authorities of this PEM file over https, instead of the system's or those of
    /// SSL_CERT_FILE
    #[arg(long, value_name = "FILE", help_heading = "Server")]
    ca_cert: Option<PathBuf>,
}

impl HealthArgs {
    pub(super) fn run(self) -> Result<(), Failure> {
        let base = match &self.url {
            Some(url) => url.clone(),
            None => url_of_environment()?,
        };
        let base = base.trim_end_matches('/');
        let path = if self.alive { "/healthz" } else { "/readyz" };
        let (status, answer) = self.ask(base, path)?;
        if self.json {
            print(&format!("{answer}\n"))?;
        } else {
            print(&described(&answer))?;
        }
        if status == 200 {
            return Ok(());
        }
        let shown = without_secrets(base);
        Err(Failure::Caller(format!("`{shown}{path}` answered {status}: {}", reason(&answer))))
    }

    /// Asks once. A container's health check knows only two exit codes, so that a server that does
    /// not answer is reported like one that is not ready.
    fn ask(&self, base: &str, path: &str) -> Result<(u16, Value), Failure> {
        let unhealthy = |reason: String| {
            Failure::Caller(format!("`{}` does not answer: {reason}", without_secrets(base)))
        };
        let agent = agent(base, self.ca_cert.as_deref())?;
        let request = agent.get(format!("{base}{path}"));
        let request = request.config().timeout_global(Some(WITHIN)).build();
        let mut response = request.call().map_err(|error| unhealthy(error.to_string()))?;
        let status = response.status().as_u16();
        Ok((status, response.body_mut().read_json().unwrap_or_default()))
    }
}

fn reason(answer: &Value) -> String {
    match text_field(answer, "message") {
        "" => "this is not a Rollcall".into(),
        message => harmless(message),
    }
}

/// Returns a line for the whole, and one for each part.
fn described(answer: &Value) -> String {
    let whole = match (text_field(answer, "status"), text_field(answer, "code")) {
        ("", code) => code.replace('_', " "),
        (status, _) => status.to_owned(),
    };
    let parts = answer.get("parts").and_then(Value::as_object).into_iter().flatten();
    let parts = parts.map(|(name, part)| {
        format!("{name}: {} since {}\n", text_field(part, "state"), text_field(part, "since"))
    });
    harmless_lines(&format!("{whole}\n{}", parts.collect::<String>()))
}

/// Makes each line harmless for a terminal.
fn harmless_lines(text: &str) -> String {
    text.lines().map(|line| format!("{}\n", harmless(line))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_part_has_a_line_and_an_answer_of_another_program_has_none() {
        let since = "2026-05-01T12:00:00.000Z";
        let parts = json!({
            "log": { "state": "blocked", "since": since },
            "fold": { "state": "cur\u{1b}rent", "since": since },
        });
        let answer = json!({ "message": "no", "code": "log_unavailable", "parts": parts });
        assert_eq!(
            described(&answer),
            "log unavailable\nfold: cur\\u{1b}rent since 2026-05-01T12:00:00.000Z\n\
             log: blocked since 2026-05-01T12:00:00.000Z\n"
        );
        assert_eq!(described(&json!({ "status": "ok" })), "ok\n");
        assert_eq!(
            (described(&Value::Null), reason(&Value::Null).as_str()),
            ("\n".into(), "this is not a Rollcall")
        );
    }
}
