//! `rollcall scim`

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand};
use serde_json::Value;
use serde_json::value::RawValue;

use super::Failure;
use super::moment::moment;
use super::read::listing::{Output, Query, Resource, ask, path_of};
use super::read::names::Names;
use super::read::print::{print_object, texts};
use super::read::source::SourceArgs;
use super::table::Column;

/// Show what identity providers sent over SCIM.
#[derive(Args)]
pub(super) struct ScimArgs {
    #[command(subcommand)]
    command: ScimCommand,
}

#[derive(Subcommand)]
enum ScimCommand {
    Requests(RequestsArgs),
}

/// List the requests that changed something, or show one with its body and the events that it
/// became.
///
/// Requests that were refused, or changed nothing, are not recorded. Passwords are never stored.
#[derive(Args)]
#[command(after_help = "\
The API key needs the scope `audit`, and `read` as well to find things by name.

Examples:
  rollcall scim requests --directory \"Halden Robotics\" --since 2026-03-01T09:00Z
  rollcall scim requests --user ana@example.com
  rollcall scim requests op_…")]
struct RequestsArgs {
    /// Show this request as JSON
    #[arg(
        value_name = "REQUEST_ID",
        value_parser = NonEmptyStringValueParser::new(),
        conflicts_with_all = ["directory", "user", "group", "since", "until", "limit"]
    )]
    request: Option<String>,
    /// Only those of the identity provider of this directory, by id or name
    #[arg(long, value_name = "ID|NAME")]
    directory: Option<String>,
    /// Only those that changed this user, by id or email
    #[arg(long, value_name = "ID|EMAIL", conflicts_with = "group")]
    user: Option<String>,
    /// Only those that changed this group, by id or name
    #[arg(long, value_name = "ID|NAME")]
    group: Option<String>,
    /// Only those from this moment on, such as 2026-03-01 or 2h
    #[arg(long, value_name = "T", value_parser = moment)]
    since: Option<String>,
    /// Only those until this moment
    #[arg(long, value_name = "T", value_parser = moment)]
    until: Option<String>,
    /// Print at most N
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    source: SourceArgs,
}

const REQUESTS: Resource = Resource {
    path: "/rollcall/v1/scim_requests",
    nouns: ["request", "requests"],
    scope: "",
    columns: &[
        Column::whole("recorded (UTC)"),
        Column::key("request"),
        Column::whole("method"),
        Column::new("path"),
        Column::new("became"),
        Column::new("client"),
    ],
    row,
};

fn row(request: &RawValue) -> Vec<String> {
    let names = ["recorded_at", "request_id", "method", "path", "user_agent"];
    let [recorded_at, id, method, path, client] = texts(request, names);
    let shown: Value = serde_json::from_str(request.get()).unwrap_or_default();
    vec![recorded_at, id, method, path, became(&shown), client]
}

/// Says which events a request became: the type of one, or the number of several.
fn became(request: &Value) -> String {
    let count = request.get("event_count").and_then(Value::as_u64).unwrap_or(0);
    let first = request.pointer("/events/0/event").and_then(Value::as_str).unwrap_or("");
    match count {
        0 => "no event".into(),
        1 => first.into(),
        _ => format!("{first} and {} more", count - 1),
    }
}

impl ScimArgs {
    pub(super) fn run(self) -> Result<(), Failure> {
        let ScimCommand::Requests(requests) = self.command;
        requests.run()
    }
}

impl RequestsArgs {
    fn run(self) -> Result<(), Failure> {
        let RequestsArgs { request, directory, user, group, since, until, limit, output, source } =
            self;
        let names = Names { directory, user, group, ever: true, of_scim: true, ..Names::default() };
        source.ask(move |client| {
            if let Some(request) = request {
                let answer = ask(client, &path_of(REQUESTS.path, &request), "")?;
                return print_object(answer.json::<&RawValue>()?.get());
            }
            let names = names.resolve(client, &Query::default())?;
            let filters = Query::default()
                .with("directory", names.directory)
                .with("user", names.user)
                .with("group", names.group)
                .with("since", since)
                .with("until", until);
            REQUESTS.print_list(&REQUESTS.list(filters, Query::default(), limit), client, &output)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_row_names_the_first_event_and_counts_the_others() {
        let of = |count: u64| json!({ "event_count": count, "events": [{ "event": "dsync.user.created" }] });
        assert_eq!(became(&json!({ "event_count": 0, "events": [] })), "no event");
        assert_eq!(became(&of(1)), "dsync.user.created");
        assert_eq!(became(&of(3)), "dsync.user.created and 2 more");
    }
}
