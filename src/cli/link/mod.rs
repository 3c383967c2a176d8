//! `rollcall link`: one file a command.

mod file;
mod list;
mod propose;
mod remove;
mod set;

use clap::{Args, Subcommand};

use super::Failure;

/// The path of links in the API.
const PATH: &str = "/rollcall/v1/links";

/// Say which of the application's users each directory user is.
///
/// Answers then name the application's user as `app_user_id`: lookups, losses of access, and the
/// feed of changes. A directory user has at most one link, and a user of the application at most
/// one in each directory.
#[derive(Args)]
#[command(after_help = "\
Examples:
  rollcall link match users.csv > links.csv
  rollcall link set links.csv --dry-run
  rollcall link set links.csv --note \"by email\"
  rollcall link list --app-user 1842")]
pub(super) struct LinkArgs {
    #[command(subcommand)]
    command: LinkCommand,
}

#[derive(Subcommand)]
enum LinkCommand {
    Match(propose::MatchArgs),
    Set(set::SetArgs),
    List(list::ListArgs),
    Remove(remove::RemoveArgs),
}

impl LinkArgs {
    pub(super) fn run(self) -> Result<(), Failure> {
        match self.command {
            LinkCommand::Match(propose) => propose.run(),
            LinkCommand::Set(set) => set.run(),
            LinkCommand::List(list) => list.run(),
            LinkCommand::Remove(remove) => remove.run(),
        }
    }
}
