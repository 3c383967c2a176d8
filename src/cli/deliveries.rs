//! `rollcall deliveries`

use clap::{Args, Subcommand, value_parser};
use rollcall_projections::Seq;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::client::{Answer, Client, text_field};
use super::read::listing::{Output, ask, refused};
use super::read::print::{one_line, print_object, width};
use super::read::source::ServerArgs;
use super::table::{Column, draw_within, harmless};
use super::{Failure, print};
use crate::percent::encoded;

const PATH: &str = "/rollcall/v1/endpoints";

/// Show the receivers of webhooks, and how far each is.
///
/// `position` is the record up to which everything that is owed is delivered, and `lag` the number
/// of records behind it.
#[derive(Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Exit codes: 0 if it was done, 1 if it was refused, 2 if the server cannot be reached or a test was
not delivered.

The API key needs the scope `operate`.

Examples:
  rollcall deliveries
  rollcall deliveries --json
  rollcall deliveries test app
  rollcall deliveries retry app
  rollcall deliveries replay app --from 1200"
)]
pub(super) struct DeliveriesArgs {
    #[command(subcommand)]
    command: Option<DeliveriesCommand>,
    #[command(flatten)]
    common: Common,
}

#[derive(Args)]
struct Common {
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Subcommand)]
enum DeliveriesCommand {
    Retry(RetryArgs),
    Skip(SkipArgs),
    Replay(ReplayArgs),
    Test(TestArgs),
}

/// Send at once what waits to be sent again.
///
/// Ends the pause of an endpoint that has answered with 410.
#[derive(Args)]
#[command(after_help = "\
The API key needs the scope `operate`.")]
struct RetryArgs {
    /// The endpoint's name
    name: String,
    #[command(flatten)]
    common: Common,
}

/// Move the position to a record, unless it is further.
///
/// What is owed up to there is not sent.
#[derive(Args)]
#[command(after_help = "\
The API key needs the scope `operate`.

Example:
  rollcall deliveries skip app 1200")]
struct SkipArgs {
    /// The endpoint's name
    name: String,
    /// The record's number
    #[arg(value_parser = value_parser!(u32).range(1..))]
    seq: u32,
    #[command(flatten)]
    common: Common,
}

/// Send everything again from a record on.
#[derive(Args)]
#[command(after_help = "\
The API key needs the scope `operate`.

Example:
  rollcall deliveries replay app --from 1200")]
struct ReplayArgs {
    /// The endpoint's name
    name: String,
    /// The first record that is sent again
    #[arg(long, value_name = "SEQ", value_parser = value_parser!(u32).range(1..))]
    from: u32,
    #[command(flatten)]
    common: Common,
}

/// Send one webhook of the type `rollcall.test`, which is not in the log.
#[derive(Args)]
#[command(after_help = "\
Exit codes: 0 if it was delivered, 1 if there is no such endpoint, 2 if it was not delivered.

The API key needs the scope `operate`.")]
struct TestArgs {
    /// The endpoint's name
    name: String,
    #[command(flatten)]
    common: Common,
}

impl DeliveriesArgs {
    pub(super) fn run(self) -> Result<(), Failure> {
        match self.command {
            None => list(self.common),
            Some(DeliveriesCommand::Retry(RetryArgs { name, common })) => {
                act(&name, "retry", None, common)
            }
            Some(DeliveriesCommand::Skip(SkipArgs { name, seq, common })) => {
                act(&name, "skip", Some(json!({ "seq": Seq::from(seq) })), common)
            }
            Some(DeliveriesCommand::Replay(ReplayArgs { name, from, common })) => {
                act(&name, "replay", Some(json!({ "from": Seq::from(from) })), common)
            }
            Some(DeliveriesCommand::Test(TestArgs { name, common })) => test(&name, common),
        }
    }
}

fn list(common: Common) -> Result<(), Failure> {
    let client = common.server.client()?;
    let answer = ask(&client, PATH, "")?;
    if common.output.json {
        #[derive(serde::Deserialize)]
        struct Page<'a> {
            #[serde(borrow)]
            data: Vec<&'a RawValue>,
        }
        let page: Page<'_> = answer.json()?;
        let lines = page.data.iter().map(|item| format!("{}\n", one_line(item.get())));
        return print(&lines.collect::<String>());
    }
    let page: Value = answer.json()?;
    let endpoints = page.get("data").and_then(Value::as_array).cloned().unwrap_or_default();
    if endpoints.is_empty() {
        return print("there are no endpoints: add [[endpoints]] to rollcall.toml\n");
    }
    let columns = [
        Column::key("endpoint"),
        Column::whole("state"),
        Column::whole("position"),
        Column::whole("lag"),
        Column::new("last error"),
        Column::new("url"),
    ];
    let rows: Vec<Vec<String>> = endpoints.iter().map(row).collect();
    print(&draw_within(width(), &columns, true, &rows))
}

fn row(endpoint: &Value) -> Vec<String> {
    let text = |name| harmless(text_field(endpoint, name));
    let number =
        |name: &str| endpoint.get(name).and_then(Value::as_u64).unwrap_or_default().to_string();
    let error = text("last_error");
    vec![
        text("name"),
        text("state"),
        number("position"),
        number("lag"),
        if error.is_empty() { "-".into() } else { error },
        text("url"),
    ]
}

fn post(
    name: &str,
    command: &str,
    body: Option<&Value>,
    client: &Client,
) -> Result<Answer, Failure> {
    let answer = client.post(&format!("{PATH}/{}/{command}", encoded(name)), body)?;
    match answer.status {
        200 => Ok(answer),
        404 => Err(Failure::Caller(format!(
            "there is no endpoint `{}`: `rollcall deliveries` lists those that there are",
            harmless(name)
        ))),
        _ => Err(refused(&answer, client, "")),
    }
}

fn act(name: &str, command: &str, body: Option<Value>, common: Common) -> Result<(), Failure> {
    let client = common.server.client()?;
    let answer = post(name, command, body.as_ref(), &client)?;
    if common.output.json {
        return print_object(answer.json::<&RawValue>()?.get());
    }
    let endpoint: Value = answer.json()?;
    let number = |name: &str| endpoint.get(name).and_then(Value::as_u64).unwrap_or_default();
    let (name, state) = (text_field(&endpoint, "name"), text_field(&endpoint, "state"));
    print(&format!(
        "`{}` is {state} at record {}, and {} behind\n",
        harmless(name),
        number("position"),
        number("lag")
    ))
}

fn test(name: &str, common: Common) -> Result<(), Failure> {
    let client = common.server.client()?;
    let answer = post(name, "test", None, &client)?;
    let outcome: Value = answer.json()?;
    if common.output.json {
        print_object(answer.json::<&RawValue>()?.get())?;
    }
    if outcome.get("delivered").and_then(Value::as_bool) == Some(true) {
        return if common.output.json { Ok(()) } else { print("delivered\n") };
    }
    let error = harmless(text_field(&outcome, "error"));
    Err(Failure::Ours(format!("the test was not delivered: {error}")))
}
