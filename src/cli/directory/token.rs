//! `rollcall directory token`

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::super::confirm::ConfirmArgs;
use super::super::key::lifetime;
use super::super::read::listing::{List, Output, Query, Resource, path_of, refused};
use super::super::read::print::{print_object, texts};
use super::super::read::source::ServerArgs;
use super::super::table::{Column, harmless};
use super::super::{Failure, print};
use super::{PATH, at, directory_id, lines};
use crate::time;

/// Create, list and revoke the tokens of a directory.
///
/// To replace one: create the next, give it to the identity provider, and revoke the old one. At
/// most two are live at once.
#[derive(Args)]
pub(super) struct TokenArgs {
    #[command(subcommand)]
    command: TokenCommand,
}

#[derive(Subcommand)]
enum TokenCommand {
    New(NewTokenArgs),
    List(ListTokensArgs),
    Revoke(RevokeArgs),
}

/// Create another token, and print it.
///
/// It is shown only now, and kept nowhere.
#[derive(Args)]
#[command(after_help = "\
The API key needs the scope `operate`, and `read` as well to find a directory by name.

Examples:
  rollcall directory token new directory_…
  rollcall directory token new \"Halden Robotics\" --expires 365d --note rotation")]
struct NewTokenArgs {
    /// The directory, by id or name
    #[arg(value_name = "ID|NAME", value_parser = NonEmptyStringValueParser::new())]
    directory: String,
    /// Refuse it this long from now: a number and s, m, h or d, such as 365d [default: never]
    #[arg(long, value_name = "TIME", value_parser = lifetime)]
    expires: Option<i64>,
    /// A reason for the record
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    server: ServerArgs,
}

/// List the tokens of a directory, without their secrets.
#[derive(Args)]
#[command(after_help = "\
The API key needs the scope `operate`, and `read` as well to find a directory by name.

Examples:
  rollcall directory token list directory_…")]
struct ListTokensArgs {
    /// The directory, by id or name
    #[arg(value_name = "ID|NAME", value_parser = NonEmptyStringValueParser::new())]
    directory: String,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    server: ServerArgs,
}

/// Revoke a token at once and for ever.
#[derive(Args)]
#[command(after_help = "\
The API key needs the scope `operate`, and `read` as well to find a directory by name.

Examples:
  rollcall directory token revoke directory_… directory_token_… --yes")]
struct RevokeArgs {
    /// The directory, by id or name
    #[arg(value_name = "ID|NAME", value_parser = NonEmptyStringValueParser::new())]
    directory: String,
    /// The token's id
    #[arg(value_name = "TOKEN_ID", value_parser = NonEmptyStringValueParser::new())]
    token: String,
    #[command(flatten)]
    confirm: ConfirmArgs,
    #[command(flatten)]
    server: ServerArgs,
}

const TOKENS: Resource = Resource {
    path: PATH,
    nouns: ["token", "tokens"],
    scope: "",
    columns: &[
        Column::key("token"),
        Column::whole("ends in"),
        Column::whole("created (UTC)"),
        Column::whole("expires (UTC)"),
        Column::whole("revoked (UTC)"),
        Column::whole("last used (UTC)"),
    ],
    row: |token: &RawValue| {
        let names =
            ["id", "token_suffix", "created_at", "expires_at", "revoked_at", "last_used_at"];
        texts(token, names).to_vec()
    },
};

/// Returns the path of a directory's tokens.
fn tokens_of(directory: &str) -> String {
    format!("{}/tokens", path_of(PATH, directory))
}

impl TokenArgs {
    pub(super) fn run(self) -> Result<(), Failure> {
        match self.command {
            TokenCommand::New(new) => new.run(),
            TokenCommand::List(list) => list.run(),
            TokenCommand::Revoke(revoke) => revoke.run(),
        }
    }
}

impl NewTokenArgs {
    fn run(self) -> Result<(), Failure> {
        let NewTokenArgs { directory, expires, note, output, server } = self;
        let client = server.client()?;
        let directory = directory_id(&client, directory)?;
        let expires_at = expires.map(|ms| time::format(time::now_ms().saturating_add(ms)));
        let body = json!({ "expires_at": expires_at, "note": note });
        let answer = client.post(&tokens_of(&directory), Some(&body))?;
        if answer.status != 201 {
            return Err(refused(&answer, &client, ""));
        }
        if output.json {
            return print_object(answer.json::<&RawValue>()?.get());
        }
        let made: Value = answer.json()?;
        let id_and_token = [("id", at(&made, "/id")), ("token", at(&made, "/token"))];
        let expires = Some(("expires", at(&made, "/expires_at"))).filter(|(_, at)| !at.is_empty());
        print(&lines(&id_and_token.into_iter().chain(expires).collect::<Vec<_>>()))
    }
}

impl ListTokensArgs {
    fn run(self) -> Result<(), Failure> {
        let ListTokensArgs { directory, output, server } = self;
        let client = server.client()?;
        let directory = directory_id(&client, directory)?;
        let list = List::all(tokens_of(&directory), Query::default());
        TOKENS.print_list(&list, &client, &output)
    }
}

impl RevokeArgs {
    fn run(self) -> Result<(), Failure> {
        let RevokeArgs { directory, token, confirm, server } = self;
        let question = format!("Revoke {}, at once and for ever?", harmless(&token));
        confirm.confirm(&question, "nothing was revoked")?;
        let client = server.client()?;
        let directory = directory_id(&client, directory)?;
        let answer = client.delete(&path_of(&tokens_of(&directory), &token))?;
        if answer.status != 204 {
            return Err(refused(&answer, &client, ""));
        }
        print(&format!("{} is revoked\n", harmless(&token)))
    }
}
