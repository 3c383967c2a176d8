//! `rollcall link remove`

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use serde_json::Value;
use serde_json::value::RawValue;

use super::super::client::text_field;
use super::super::read::listing::{Output, Query, refused};
use super::super::read::names::{Kind, Names, find_id};
use super::super::read::print::print_object;
use super::super::read::source::ServerArgs;
use super::super::table::harmless;
use super::super::{Failure, print};
use super::PATH;

/// Remove the link of a directory user.
///
/// Earlier answers stay on record: `--known-at` asks for them.
#[derive(Args)]
#[command(after_help = "\
The API key needs the scope `operate`, and `read` as well to find a user by email.

Examples:
  rollcall link remove ana@example.com
  rollcall link remove directory_user_…")]
pub(super) struct RemoveArgs {
    /// The directory user, by id or email
    #[arg(value_name = "ID|EMAIL", value_parser = NonEmptyStringValueParser::new())]
    user: String,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    server: ServerArgs,
}

impl RemoveArgs {
    pub(super) fn run(self) -> Result<(), Failure> {
        let RemoveArgs { user, output, server } = self;
        let client = server.client()?;
        let ever = Names { ever: true, ..Names::default() };
        // Of an id nothing needs to be found: a key that only acts may not look.
        let id = if user.contains('@') {
            find_id(&client, Kind::User, &user, &ever, &Query::default())?
        } else {
            user
        };
        let path = Query::default().with("directory_user_id", Some(id.as_str())).at(PATH);
        let answer = client.delete(&path)?;
        if answer.status != 200 {
            return Err(refused(&answer, &client, ""));
        }
        if output.json {
            return print_object(answer.json::<&RawValue>()?.get());
        }
        print(&format!("{}\n", harmless(&sentence(&answer.json()?))))
    }
}

/// Says which link was removed.
fn sentence(removed: &Value) -> String {
    let user = text_field(removed, "directory_user_id");
    match (removed.get("app_user_id").and_then(Value::as_str), removed.get("seq")) {
        (Some(app_user), Some(seq)) => {
            format!("{user} is no longer linked to {app_user}, record {seq}")
        }
        _ => format!("{user} has no link; nothing was removed"),
    }
}
