//! `rollcall sink status`

use clap::Args;

use super::super::read::listing::Output;
use super::super::read::source::ServerArgs;
use super::super::{Failure, print};
use super::{sentences, sink_of};

/// Say at which record the tables are, how far behind, and what failed last.
#[derive(Args)]
#[command(after_help = "\
Exit codes: 0 if the server answers, whatever the state is; 1 if the server has no sink; 2 if it
cannot be reached.

The API key needs the scope `operate`.

Examples:
  rollcall sink status
  rollcall sink status --json")]
pub(super) struct StatusArgs {
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    server: ServerArgs,
}

impl StatusArgs {
    pub(super) fn run(self) -> Result<(), Failure> {
        let report = sink_of(&self.server.client()?)?;
        if self.output.json { report.print_json() } else { print(&sentences(&report.told)) }
    }
}
