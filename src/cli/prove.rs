//! `rollcall prove`

use std::path::PathBuf;

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use serde::Deserialize;

use super::auditor::{keys_of, read_note};
use super::client::Client;
use super::log_key;
use super::read::listing::{Query, ask};
use super::read::source::SourceArgs;
use super::{Failure, print};
use crate::notary::{Bundle, Checkpoint, Note, OlderCheckpoint};
use crate::percent::encoded;

/// Write a proof of one record for `rollcall check`.
///
/// The proof holds the record's exact bytes, personal data included, and a freshly signed
/// checkpoint.
#[derive(Args)]
#[command(after_help = "\
Examples:
  rollcall prove event_… > proof.json
  rollcall prove 42 --checkpoint published/00000000000000001000.checkpoint > proof.json
  rollcall prove 42 --data ./rollcall-data > proof.json")]
pub(super) struct ProveArgs {
    /// The record's number, or its event's id. Digits alone are a number; `id:123` is an id
    #[arg(value_name = "EVENT_ID|SEQ", value_parser = NonEmptyStringValueParser::new())]
    record: String,
    /// Also prove that the log continues this earlier checkpoint; may be given several times
    #[arg(long, value_name = "FILE")]
    checkpoint: Vec<PathBuf>,
    #[command(flatten)]
    source: SourceArgs,
}

#[derive(Deserialize)]
struct LogEntry {
    seq: u64,
    receipt: String,
    salt: String,
    body: String,
}

#[derive(Deserialize)]
struct Hashes {
    hashes: Vec<String>,
}

impl ProveArgs {
    pub(super) fn run(self) -> Result<(), Failure> {
        let ProveArgs { record, checkpoint, source } = self;
        let published =
            checkpoint.iter().map(|path| read_note(path)).collect::<Result<Vec<_>, _>>()?;
        source.ask(move |client| {
            let bundle = gather(client, &record, &published)?;
            let keys = keys_of(&ask(client, log_key::PATH, "")?.json()?);
            // A proof that would fail, or contradicts a checkpoint in hand, is not written.
            let held: Vec<Note> = published.into_iter().map(|(_, note)| note).collect();
            bundle.prove(&keys, &held).map_err(|error| Failure::Caller(error.to_string()))?;
            print(&format!("{}\n", serde_json::to_string_pretty(&bundle).map_err(Failure::ours)?))
        })
    }
}

fn gather(client: &Client, record: &str, published: &[(String, Note)]) -> Result<Bundle, Failure> {
    let path = format!("/rollcall/v1/log/entries/{}", encoded(record));
    let answer = ask(client, &path, "")?;
    let entry: LogEntry = answer.json()?;
    // Asked for after the entry, so that the checkpoint covers the record.
    let checkpoint = ask_checkpoint(client)?;
    let claims = Note::parse(checkpoint.as_bytes()).map_err(Failure::ours)?.claims().clone();
    let query = Query::default()
        .with("seq", Some(entry.seq.to_string()))
        .with("size", Some(claims.size.to_string()));
    let answer = ask(client, &query.at("/rollcall/v1/log/proof/inclusion"), "")?;
    let inclusion = answer.json::<Hashes>()?.hashes;
    let older = published
        .iter()
        .map(|(checkpoint, note)| link(client, checkpoint, note.claims(), &claims))
        .collect::<Result<_, _>>()?;
    let texts = [entry.receipt, entry.salt, entry.body];
    Ok(Bundle::new(checkpoint, entry.seq, texts, inclusion, older))
}

/// Asks for the proof that the log continues an earlier checkpoint.
fn link(
    client: &Client,
    checkpoint: &str,
    from: &Checkpoint,
    to: &Checkpoint,
) -> Result<OlderCheckpoint, Failure> {
    if from.origin != to.origin {
        return Err(Failure::Caller(format!(
            "a checkpoint belongs to the log `{}`, but this log is `{}`",
            from.origin, to.origin
        )));
    }
    if from.size > to.size {
        return Err(Failure::Caller(format!(
            "a checkpoint covers {} records, but the log has {}: it lost some, or is an older copy",
            from.size, to.size
        )));
    }
    // Every log continues the empty one, without a proof.
    let consistency = if from.size == 0 {
        Vec::new()
    } else {
        let query = Query::default()
            .with("from", Some(from.size.to_string()))
            .with("to", Some(to.size.to_string()));
        let answer = ask(client, &query.at("/rollcall/v1/log/proof/consistency"), "")?;
        answer.json::<Hashes>()?.hashes
    };
    Ok(OlderCheckpoint { checkpoint: checkpoint.to_owned(), consistency })
}

fn ask_checkpoint(client: &Client) -> Result<String, Failure> {
    let answer = client.get("/rollcall/v1/log/checkpoint")?;
    match answer.status {
        200 => String::from_utf8(answer.body).map_err(|_| Failure::unexpected_answer()),
        404 => Err(Failure::Caller(
            "there is no checkpoint key to sign with: set ROLLCALL_CHECKPOINT_KEY to its file, or \
             ask the server"
                .into(),
        )),
        _ => Err(super::read::listing::refused(&answer, client, "")),
    }
}
