//! `rollcall mapping`: one file a command.

mod document;
mod preview;
mod set;
mod show;
mod versions;

use clap::{Args, Subcommand};

use super::Failure;
use super::client::Answer;
use super::read::listing::{ApiFieldError, field_errors, flag};
use super::table::harmless;
pub(super) use preview::{preview_text, reason};
pub(super) use set::set_text;

/// The path of the mapping in the API.
const PATH: &str = "/rollcall/v1/role_mapping";

/// Show, preview and set the rules that map groups and attributes to roles.
#[derive(Args)]
#[command(after_help = "\
Examples:
  rollcall mapping show --json | jq .mapping > mapping.json
  rollcall mapping preview mapping.json
  rollcall mapping set mapping.json --note \"Support is a department of its own\"")]
pub(super) struct MappingArgs {
    #[command(subcommand)]
    command: MappingCommand,
}

#[derive(Subcommand)]
enum MappingCommand {
    Show(show::ShowArgs),
    Versions(versions::VersionsArgs),
    Preview(preview::PreviewArgs),
    Set(set::SetArgs),
}

impl MappingArgs {
    pub(super) fn run(self) -> Result<(), Failure> {
        match self.command {
            MappingCommand::Show(show) => show.run(),
            MappingCommand::Versions(versions) => versions.run(),
            MappingCommand::Preview(preview) => preview.run(),
            MappingCommand::Set(set) => set.run(),
        }
    }
}

/// Says why a mapping was refused, with each error in it on a line of its own; `document` is its
/// name. Returns `None` if the error is not in the mapping.
fn mapping_refused(answer: &Answer, document: &str) -> Option<Failure> {
    let errors = if answer.status == 422 { field_errors(answer) } else { Vec::new() };
    if errors.is_empty() {
        return None;
    }
    let lines: String = errors.iter().map(error_line).collect();
    Some(Failure::Caller(format!("{document} cannot be set:{lines}")))
}

fn error_line(error: &ApiFieldError) -> String {
    let field = match error.field.as_str() {
        field @ ("effective_from" | "note" | "as_of" | "known_at") => flag(field),
        field => field.to_owned(),
    };
    format!("\n  {}: {}", harmless(&field), harmless(error.sentence()))
}
