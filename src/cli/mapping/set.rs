//! `rollcall mapping set`

use std::io::{self, BufRead, IsTerminal, Write};
use std::path::PathBuf;

use clap::Args;
use serde_json::Value;
use serde_json::value::RawValue;

use super::super::read::listing::{Output, Query, refused};
use super::super::read::print::{one_line, width};
use super::super::read::source::Server;
use super::super::{Failure, print, unwritten};
use super::document::Document;
use super::preview::{Base, ask, setting, summary};
use super::{PATH, mistakes};

/// Set a mapping, from now on or from a past moment on.
///
/// Says first what would change, and on a terminal asks. It replaces only the version with which it
/// was compared: where somebody else has set another one meanwhile, nothing is set. What was
/// believed before stays on record, and `--known-at` asks for it.
///
/// FILE is the mapping in TOML or JSON, as `rollcall mapping preview --help` shows it; `-` reads
/// standard input.
#[derive(Args)]
#[command(after_help = "\
Examples:
  rollcall mapping set mapping.toml
  rollcall mapping set mapping.toml --effective-from 2026-02-09T09:00:00Z --note \"after the split\"
  rollcall mapping set mapping.json --yes --if-match 3")]
pub(super) struct Set {
    /// The mapping
    file: PathBuf,
    /// In force from then on, an RFC 3339 time; without it, from now on
    #[arg(long, value_name = "T")]
    effective_from: Option<String>,
    /// Why, for those who come later
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
    /// Replace this version only, 0 for none; without it, the one with which it was compared
    #[arg(long, value_name = "VERSION")]
    if_match: Option<u64>,
    /// Do not ask. Without a terminal nobody is asked
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    server: Server,
}

impl Set {
    pub(super) fn run(self) -> Result<(), Failure> {
        let Set { file, effective_from, note, if_match, yes, output, server } = self;
        let document = Document::read(&file)?;
        let client = server.client()?;
        let body = setting(&document.mapping, effective_from.as_deref(), note.as_deref());
        let preview = ask(&client, &body, &Query::default(), &document.name)?;
        let change = summary(&preview.json()?, &document.mapping, width());
        if output.json {
            eprint!("{change}")
        } else {
            print(&change)?
        }
        if !yes && io::stdin().is_terminal() && io::stderr().is_terminal() && !agreed()? {
            return Err(Failure::Caller("nothing was set".into()));
        }
        let base = preview.json::<Base>()?.base_version;
        let version = if_match.unwrap_or(base);
        let answer = client.put(PATH, &body, Some(version))?;
        match answer.status {
            200 => {}
            412 => return Err(Failure::Caller(lost(version, if_match.is_some()))),
            _ => {
                return Err(mistakes(&answer, &document.name)
                    .unwrap_or_else(|| refused(&answer, &client, "")));
            }
        }
        if output.json {
            return print(&format!("{}\n", one_line(answer.json::<&RawValue>()?.get())));
        }
        print(&told(&answer.json()?))
    }
}

/// What was set, in a sentence.
pub(in super::super) fn told(set: &Value) -> String {
    let number = |name: &str| set.get(name).and_then(Value::as_u64).unwrap_or(0);
    let from = set.get("effective_from").and_then(Value::as_str).unwrap_or("");
    format!(
        "version {} is set, in force from {from}, record {}\n",
        number("version"),
        number("seq")
    )
}

/// Why nothing was set: somebody else was faster, or the caller spoke of another version.
fn lost(version: u64, was_given: bool) -> String {
    let what = match version {
        0 => "a mapping is set already".to_owned(),
        _ => format!("version {version} is not the latest"),
    };
    let meanwhile =
        if was_given { "" } else { " any more: somebody has set another one since the preview" };
    format!(
        "{what}{meanwhile}; nothing was set. Look at the latest with `rollcall mapping show`, and preview again"
    )
}

/// Asks on the terminal.
fn agreed() -> Result<bool, Failure> {
    let mut terminal = io::stderr().lock();
    write!(terminal, "Set it? [y/N] ")
        .and_then(|()| terminal.flush())
        .map_err(|error| unwritten(&error))?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer).map_err(Failure::ours)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
