//! `rollcall mapping set`

use std::path::PathBuf;

use clap::Args;
use serde_json::Value;
use serde_json::value::RawValue;

use super::super::client::text_field;
use super::super::confirm::ConfirmArgs;
use super::super::moment::moment;
use super::super::read::listing::{Output, Query, refused};
use super::super::read::print::{print_object, width};
use super::super::read::source::ServerArgs;
use super::super::{Failure, print};
use super::document::{MappingFile, number};
use super::preview::{BaseVersion, ask, setting, summary};
use super::{PATH, mapping_refused};

/// Set a mapping, from now on or from a past moment on.
///
/// Prints what would change, and asks for confirmation on a terminal; elsewhere --yes confirms. Only the version that the
/// preview compared with is replaced: if another one was set since, nothing is set. Earlier answers
/// stay on record, and `--known-at` asks for them.
///
/// FILE is the mapping in TOML or JSON, as in `rollcall mapping preview --help`; `-` reads standard
/// input.
#[derive(Args)]
#[command(after_help = "\
Examples:
  rollcall mapping set mapping.toml
  rollcall mapping set mapping.toml --effective-from 2026-02-09T09:00:00Z --note \"after the split\"
  rollcall mapping set mapping.json --yes --if-match 3")]
pub(super) struct SetArgs {
    /// The mapping
    file: PathBuf,
    /// Put the mapping in force from this moment on, such as 2026-03-01 or 30d
    /// [default: now]
    #[arg(long, value_name = "T", value_parser = moment)]
    effective_from: Option<String>,
    /// The reason, kept with the mapping
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
    /// Replace only this version, 0 if none is set [default: the version of the preview]
    #[arg(long, value_name = "VERSION")]
    if_match: Option<u64>,
    #[command(flatten)]
    confirm: ConfirmArgs,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    server: ServerArgs,
}

impl SetArgs {
    pub(super) fn run(self) -> Result<(), Failure> {
        let SetArgs { file, effective_from, note, if_match, confirm, output, server } = self;
        let document = MappingFile::read(&file)?;
        let client = server.client()?;
        let body = setting(&document.mapping, effective_from.as_deref(), note.as_deref());
        let preview = ask(&client, &body, &Query::default(), &document.name)?;
        let change = summary(&preview.json()?, &document.mapping, width());
        if output.json {
            eprint!("{change}")
        } else {
            print(&change)?
        }
        confirm.confirm("Set it?", "nothing was set")?;
        let base = preview.json::<BaseVersion>()?.base_version;
        let answer = client.put(PATH, &body, Some(if_match.unwrap_or(base)))?;
        match answer.status {
            200 if output.json => print_object(answer.json::<&RawValue>()?.get()),
            200 => print(&set_text(&answer.json()?)),
            412 => Err(Failure::Caller(version_refused(base, if_match))),
            _ => Err(mapping_refused(&answer, &document.name)
                .unwrap_or_else(|| refused(&answer, &client, ""))),
        }
    }
}

/// Returns the sentence about a mapping that was set.
pub(in super::super) fn set_text(set: &Value) -> String {
    format!(
        "version {} is set, in force from {}, record {}\n",
        number(set, "version"),
        text_field(set, "effective_from"),
        number(set, "seq")
    )
}

/// Says why nothing was set: the version that the caller gave is not the latest, or the latest
/// changed since the preview.
fn version_refused(base: u64, if_match: Option<u64>) -> String {
    let reason = match if_match.unwrap_or(base) {
        0 => "a mapping is set already".to_owned(),
        version => format!("version {version} is not the latest"),
    };
    let since = if if_match.is_some() { "" } else { ": another one was set since the preview" };
    format!(
        "{reason}{since}; nothing was set. Look at the latest with `rollcall mapping show`, \
         and preview again"
    )
}
