//! `rollcall sink`

mod rebuild;
mod status;

use clap::{Args, Subcommand};
use serde::Deserialize;

use super::Failure;
use super::client::Client;
use super::read::listing::ask;
use super::waiting::Report;

const PATH: &str = "/rollcall/v1/sink";

/// The state of a server without a sink.
const OFF: &str = "off";

/// Look after the tables that the server keeps in PostgreSQL.
///
/// The server must run with a URL of PostgreSQL: ROLLCALL_POSTGRES_URL, or `[postgres]` in its
/// configuration. docs/sink.md describes the tables.
#[derive(Args)]
pub(super) struct SinkArgs {
    #[command(subcommand)]
    command: SinkCommand,
}

#[derive(Subcommand)]
enum SinkCommand {
    Status(status::StatusArgs),
    Rebuild(rebuild::RebuildArgs),
}

impl SinkArgs {
    pub(super) fn run(self) -> Result<(), Failure> {
        match self.command {
            SinkCommand::Status(status) => status.run(),
            SinkCommand::Rebuild(rebuild) => rebuild.run(),
        }
    }
}

/// The sink, as the server reports it.
#[derive(Deserialize)]
struct SinkTold {
    place: Option<String>,
    schema: Option<String>,
    state: String,
    position: Option<u64>,
    lag: u64,
    last_error: Option<ErrorTold>,
    rebuild: Option<RebuildTold>,
}

#[derive(Deserialize)]
struct ErrorTold {
    message: String,
    at: String,
}

#[derive(Deserialize)]
struct RebuildTold {
    id: u64,
    state: String,
    error: Option<String>,
}

/// Asks for the state of the sink.
fn sink_of(client: &Client) -> Result<Report<SinkTold>, Failure> {
    let report: Report<SinkTold> = Report::of(&ask(client, PATH, "")?)?;
    if report.told.state == OFF {
        return Err(Failure::Caller(
            "the server keeps no tables in PostgreSQL: start it with ROLLCALL_POSTGRES_URL".into(),
        ));
    }
    Ok(report)
}

/// Describes the sink in a sentence, and its error in another.
fn sentences(sink: &SinkTold) -> String {
    let SinkTold { state, position, lag, last_error, .. } = sink;
    let [place, schema] = [&sink.place, &sink.schema].map(|text| text.as_deref().unwrap_or("-"));
    let reached = match position {
        Some(seq) if *lag == 0 => format!("at record {seq}, the newest"),
        Some(seq) => format!("at record {seq}, {lag} behind"),
        None => "at no record yet".to_owned(),
    };
    let error = last_error
        .as_ref()
        .map(|error| format!("last error, at {}: {}\n", error.at, error.message));
    format!("{state}: the schema {schema} at {place} is {reached}\n{}", error.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_state_of_the_sink_is_a_sentence() {
        let told = |position: Option<u64>, lag: u64| -> SinkTold {
            serde_json::from_value(json!({
                "place": "db:5432/app", "schema": "rollcall", "state": "retrying",
                "position": position, "lag": lag, "rebuild": null,
                "last_error": { "message": "no answer", "at": "2026-05-01T12:00:00.000Z" },
            }))
            .unwrap()
        };
        let error = "last error, at 2026-05-01T12:00:00.000Z: no answer\n";
        for (position, lag, says) in [
            (None, 7, "at no record yet"),
            (Some(7), 0, "at record 7, the newest"),
            (Some(5), 2, "at record 5, 2 behind"),
        ] {
            let expected =
                format!("retrying: the schema rollcall at db:5432/app is {says}\n{error}");
            assert_eq!(sentences(&told(position, lag)), expected);
        }
    }
}
