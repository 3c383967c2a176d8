//! `rollcall sink rebuild`

use clap::Args;

use super::super::client::Client;
use super::super::read::listing::refused;
use super::super::table::harmless;
use super::super::waiting::{Pauses, Report, WaitArgs};
use super::super::{Failure, print};
use super::{PATH, SinkTold, sentences, sink_of};

/// The state of a sink whose database does not answer.
const WAITING: &str = "retrying";

/// Compute every row again, and exchange the rows in one transaction.
///
/// The tables serve meanwhile, and rows that were changed by others are mended. Tables of another
/// log are replaced too. While the database does not answer, the rebuild waits for it, and the
/// command says why on standard error. If the database answers and refuses, the rebuild fails.
#[derive(Args)]
#[command(after_help = "\
Exit codes: 0 if the rows are exchanged, 1 if it could not be started, 2 if it failed.

The API key needs the scope `operate`.

Examples:
  rollcall sink rebuild
  rollcall sink rebuild --no-wait")]
pub(super) struct RebuildArgs {
    #[command(flatten)]
    wait: WaitArgs,
}

impl RebuildArgs {
    pub(super) fn run(self) -> Result<(), Failure> {
        let WaitArgs { no_wait, output, server } = self.wait;
        let client = server.client()?;
        let begun = client.post(&format!("{PATH}/rebuild"), None)?;
        if begun.status != 202 {
            return Err(refused(&begun, &client, ""));
        }
        let mut report: Report<SinkTold> = Report::of(&begun)?;
        if !no_wait {
            report = watch(&client, report)?;
        }
        if output.json {
            report.print_json()?;
        } else {
            print(&sentences(&report.told))?;
        }
        verdict(&report.told)
    }
}

/// Waits for the end of the rebuild that was begun.
fn watch(client: &Client, mut report: Report<SinkTold>) -> Result<Report<SinkTold>, Failure> {
    let id = report.told.rebuild.as_ref().map(|rebuild| rebuild.id);
    let (mut pauses, mut said) = (Pauses::new(), None);
    while is_running(&report.told) {
        pauses.rest();
        report = sink_of(client)?;
        if report.told.rebuild.as_ref().map(|rebuild| rebuild.id) != id {
            return Err(Failure::Ours(
                "the server was restarted, which ended the rebuild, or another was begun: the \
                 outcome of this one is not known"
                    .into(),
            ));
        }
        say_why_it_waits(&report.told, &mut said);
    }
    Ok(report)
}

fn is_running(told: &SinkTold) -> bool {
    told.rebuild.as_ref().is_some_and(|rebuild| rebuild.state == "running")
}

/// Says why the rebuild waits. The same reason in a row is said once.
fn say_why_it_waits(told: &SinkTold, said: &mut Option<String>) {
    if !is_running(told) || told.state != WAITING {
        return;
    }
    let message = told.last_error.as_ref().map(|error| error.message.clone());
    if let Some(reason) = message.as_ref().filter(|_| message != *said) {
        let line = format!(
            "rollcall: {reason}; the rebuild begins once the database answers, also after an \
             interrupt of this command"
        );
        eprintln!("{}", harmless(&line));
        *said = message;
    }
}

fn verdict(told: &SinkTold) -> Result<(), Failure> {
    match told.rebuild.as_ref().and_then(|rebuild| rebuild.error.as_ref()) {
        Some(error) => Err(Failure::Ours(format!("the rebuild failed: {error}"))),
        None => Ok(()),
    }
}
