//! `rollcall mapping`: one file a command.

mod document;
mod preview;
mod set;
mod show;
mod versions;

use clap::{Args, Subcommand};

use super::Failure;
use super::client::Answer;
pub(super) use preview::{reason, told as preview_told};
pub(super) use set::told as set_told;

/// The path of the mapping in the API.
const PATH: &str = "/rollcall/v1/role_mapping";

/// The rules from groups and attributes to roles: show them, preview others, set them.
#[derive(Args)]
#[command(after_help = "\
Examples:
  rollcall mapping show --json | jq .mapping > mapping.json
  rollcall mapping preview mapping.json
  rollcall mapping set mapping.json --note \"Support is a department of its own\"")]
pub(super) struct Mapping {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Show(show::Show),
    Versions(versions::Versions),
    Preview(preview::Preview),
    Set(set::Set),
}

impl Mapping {
    pub(super) fn run(self) -> Result<(), Failure> {
        match self.command {
            Command::Show(show) => show.run(),
            Command::Versions(versions) => versions.run(),
            Command::Preview(preview) => preview.run(),
            Command::Set(set) => set.run(),
        }
    }
}

/// Why a mapping was not taken: every mistake in it on a line of its own. `None`, where something
/// else than the document is wrong.
fn mistakes(answer: &Answer, document: &str) -> Option<Failure> {
    use super::read::listing::{field_errors, flag};
    use super::table::harmless;
    let errors = if answer.status == 422 { field_errors(answer) } else { Vec::new() };
    if errors.is_empty() {
        return None;
    }
    let lines = errors.iter().map(|error| {
        let is_parameter =
            matches!(error.field.as_str(), "effective_from" | "note" | "as_of" | "known_at");
        let field = if is_parameter { flag(&error.field) } else { error.field.clone() };
        format!("\n  {}: {}", harmless(&field), harmless(&error.code))
    });
    Some(Failure::Caller(format!("{document} cannot be set so:{}", lines.collect::<String>())))
}
