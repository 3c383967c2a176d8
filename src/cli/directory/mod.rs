//! `rollcall directory`: one file a command.

mod new;
mod token;

use clap::{Args, Subcommand};
use serde_json::Value;

use super::Failure;
use super::client::Client;
use super::read::listing::Query;
use super::read::names::{Kind, Names, find_id};
use super::table;

/// The path of directories of identity providers in the API.
const PATH: &str = "/rollcall/v1/directories";

/// Create directories that identity providers push into over SCIM, and their tokens.
#[derive(Args)]
#[command(after_help = "\
Examples:
  rollcall directory new --name \"Halden Robotics\" --organization org_… --type okta
  rollcall directory token list directory_…
  rollcall directory token new directory_…
  rollcall directory token revoke directory_… directory_token_…")]
pub(super) struct DirectoryArgs {
    #[command(subcommand)]
    command: DirectoryCommand,
}

#[derive(Subcommand)]
enum DirectoryCommand {
    New(new::NewArgs),
    Token(token::TokenArgs),
}

impl DirectoryArgs {
    pub(super) fn run(self) -> Result<(), Failure> {
        match self.command {
            DirectoryCommand::New(new) => new.run(),
            DirectoryCommand::Token(token) => token.run(),
        }
    }
}

/// Returns the id of a directory. An id is taken as it is, because a key that has only the scope
/// `operate` may not look names up.
fn directory_id(client: &Client, text: String) -> Result<String, Failure> {
    if text.starts_with("directory_") {
        return Ok(text);
    }
    let ever = Names { ever: true, ..Names::default() };
    find_id(client, Kind::Directory, &text, &ever, &Query::default())
}

/// Draws the lines of an answer that names one thing.
fn lines(rows: &[(&str, &str)]) -> String {
    let rows: Vec<Vec<String>> =
        rows.iter().map(|(name, value)| vec![(*name).to_owned(), (*value).to_owned()]).collect();
    table::draw_within(None, &[table::Column::whole(""), table::Column::whole("")], false, &rows)
}

/// Returns a text at a place of an answer.
fn at<'a>(answer: &'a Value, pointer: &str) -> &'a str {
    answer.pointer(pointer).and_then(Value::as_str).unwrap_or("")
}
