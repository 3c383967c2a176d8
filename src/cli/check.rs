//! `rollcall check`

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use clap::Args;
use rollcall_projections::Millis;
use serde_json::{Value, json};

use super::log_key::read_note;
use super::serve::secrets;
use super::table::{self, harmless};
use super::{Failure, print};
use crate::notary::{Bundle, Note, Proven, Verifier};
use crate::time;
use crate::verify::{Keyring, Proof, SECRETS_MAX, extract_from, key_name, shown_email};

/// No bundle is longer, in bytes.
const BUNDLE_BYTES_MAX: usize = 16 << 20;
const KEY_BYTES_MAX: usize = 64 << 10;

/// Check a proof that `rollcall prove` made: anywhere, without a server, a store or a network.
///
/// The key must come from somewhere else than the proof: from whoever runs the log, once, over a
/// way that you trust.
#[derive(Args)]
#[command(after_help = "\
Exit codes: 0 if it is proven, 1 if it is not or something is wrong with what was given, 2 if this program failed.

Environment:
  ROLLCALL_WEBHOOK_SECRETS, ROLLCALL_WEBHOOK_SECRET, WORKOS_WEBHOOK_SECRET  with one of them, the webhook's own signature is checked too

Examples:
  rollcall check proof.json --key rollcall/…+1a2b3c4d+AQ…
  rollcall check proof.json --key log.pub --checkpoint 00000000000000001000.checkpoint")]
pub(super) struct Check {
    /// The proof; `-` for standard input
    bundle: PathBuf,
    /// The log's public key, or a file with one on each line; may be given several times
    #[arg(long = "key", value_name = "VKEY|FILE")]
    keys: Vec<String>,
    /// A checkpoint that you hold yourself; may be given several times
    #[arg(long, value_name = "FILE")]
    checkpoint: Vec<PathBuf>,
    /// One object, for programs
    #[arg(long)]
    json: bool,
}

/// What became of the webhook's own signature.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Signature {
    /// There is none: an operator's act.
    None,
    /// Nobody here has a secret.
    Unchecked,
    /// None of the secrets at hand is the one.
    OtherSecret,
    /// It fits.
    Fits,
}

impl Check {
    pub(super) fn run(self) -> Result<(), Failure> {
        let keys = read_keys(&self.keys)?;
        let held = self
            .checkpoint
            .iter()
            .map(|path| read_note(path).map(|(_, note)| note))
            .collect::<Result<Vec<Note>, _>>()?;
        let bundle = Bundle::parse(&read_bounded(&self.bundle, BUNDLE_BYTES_MAX)?);
        let secrets = secrets(&[
            "ROLLCALL_WEBHOOK_SECRETS",
            "ROLLCALL_WEBHOOK_SECRET",
            "WORKOS_WEBHOOK_SECRET",
        ]);
        let proven =
            bundle.and_then(|bundle| bundle.prove(&keys, &held)).map_err(|error| error.to_string());
        let proven = proven.and_then(|proven| {
            check_signature(&proven, &secrets).map(|signature| (proven, signature))
        });
        match proven {
            Ok((proven, signature)) if self.json => {
                print(&format!("{}\n", as_json(&proven, signature)))
            }
            Ok((proven, signature)) => print(&page(&proven, signature)),
            Err(reason) => {
                if self.json {
                    print(&format!("{}\n", json!({ "proven": false, "reason": reason })))?;
                }
                Err(Failure::Caller(format!("not proven: {}", harmless(&reason))))
            }
        }
    }
}

/// The public keys that were given, as texts or as files.
///
/// # Errors
/// The caller's; without any key nothing can be checked.
pub(super) fn read_keys(given: &[String]) -> Result<Vec<Verifier>, Failure> {
    if given.is_empty() {
        return Err(Failure::Caller(
            "no key is given: give --key with the log's public key, from whoever runs the log; a key that came with the proof would prove nothing".into(),
        ));
    }
    let mut keys = Vec::new();
    for text in given {
        match Verifier::parse(text.trim()) {
            Ok(key) => keys.push(key),
            Err(error) => keys.extend(read_key_file(Path::new(text), &error.to_string())?),
        }
    }
    Ok(keys)
}

fn read_key_file(path: &Path, why: &str) -> Result<Vec<Verifier>, Failure> {
    if !path.exists() {
        let text = harmless(&path.display().to_string());
        return Err(Failure::Caller(format!("`{text}` is no public key ({why}), and no file")));
    }
    let bytes = read_bounded(path, KEY_BYTES_MAX)?;
    let lines = String::from_utf8_lossy(&bytes);
    let keys = lines
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .map(Verifier::parse)
        .collect::<Result<Vec<_>, _>>();
    let wrong = |why: String| {
        let path = path.display();
        Failure::Caller(format!(
            "`{path}` holds no public key: {why}; `rollcall log-key show --vkey > log.pub` writes a file that does"
        ))
    };
    let keys = keys.map_err(|error| wrong(error.to_string()))?;
    if keys.is_empty() { Err(wrong("it is empty".into())) } else { Ok(keys) }
}

/// Reads a file that is not longer than `bytes_max`; `-` is standard input.
///
/// # Errors
/// The caller's: it names the file.
pub(super) fn read_bounded(path: &Path, bytes_max: usize) -> Result<Vec<u8>, Failure> {
    let refused =
        |what: String| Failure::Caller(format!("cannot read `{}`: {what}", path.display()));
    let source: Box<dyn Read> = match path.to_str() {
        Some("-") => Box::new(std::io::stdin()),
        _ => Box::new(File::open(path).map_err(|error| refused(error.to_string()))?),
    };
    let mut bytes = Vec::new();
    source
        .take(bytes_max as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| refused(error.to_string()))?;
    if bytes.len() > bytes_max {
        Err(refused(format!("it is longer than {bytes_max} bytes")))
    } else {
        Ok(bytes)
    }
}

/// Checks the webhook's signature, if a secret is at hand.
///
/// # Errors
/// If the secret is the one and the signature does not fit: then nothing else counts.
fn check_signature(proven: &Proven, secrets: &[String]) -> Result<Signature, String> {
    let Proof::Webhook { t, v1, key_id } = &proven.receipt.proof else {
        return Ok(Signature::None);
    };
    if secrets.is_empty() {
        return Ok(Signature::Unchecked);
    }
    if secrets.len() > SECRETS_MAX {
        return Err(format!("at most {SECRETS_MAX} webhook secrets may be given at once"));
    }
    let keyring = Keyring::new(secrets.iter().map(String::as_str), 0);
    match keyring.check_again(*t, v1, key_id, &proven.body) {
        None => Ok(Signature::OtherSecret),
        Some(true) => Ok(Signature::Fits),
        Some(false) => {
            Err("the webhook's signature does not fit its body under the secret at hand".into())
        }
    }
}

/// When it happened, as docs/semantics.md says in rule 3.
fn occurred_at(proven: &Proven) -> Millis {
    extract_from(&proven.receipt.proof, &proven.body)
        .facts
        .occurred_at
        .unwrap_or(proven.receipt.recorded_at)
}

fn log_of(proven: &Proven) -> String {
    uuid::Uuid::from_bytes(proven.receipt.log_id).hyphenated().to_string()
}

fn as_json(proven: &Proven, signature: Signature) -> Value {
    let Proven { checkpoint, receipt, leaf, held, .. } = proven;
    let signature = match signature {
        Signature::None => "none",
        Signature::Unchecked => "unchecked",
        Signature::OtherSecret => "other_secret",
        Signature::Fits => "fits",
    };
    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    json!({
        "proven": true,
        "event_id": text(&receipt.event_id),
        "event": text(&receipt.event_type),
        "occurred_at": time::format(occurred_at(proven)),
        "recorded_at": time::format(receipt.recorded_at),
        "seq": receipt.seq,
        "log": log_of(proven),
        "source": receipt.source,
        "claim": claim(&proven.body),
        "leaf": hex::encode(leaf),
        "checkpoint": { "origin": checkpoint.origin, "size": checkpoint.size, "root": hex::encode(checkpoint.root) },
        "continues": held,
        "webhook_signature": signature,
    })
}

fn page(proven: &Proven, signature: Signature) -> String {
    let Proven { checkpoint, receipt, held, .. } = proven;
    let or_none = |text: &str| if text.is_empty() { "none".to_owned() } else { text.to_owned() };
    let rows: Vec<Vec<String>> = [
        ("event", or_none(&receipt.event_id)),
        ("type", or_none(&receipt.event_type)),
        ("claim", claim(&proven.body)),
        ("occurred at", format!("{}, by its sender", time::format(occurred_at(proven)))),
        ("recorded at", format!("{}, by the log's clock", time::format(receipt.recorded_at))),
        ("record", format!("{} of the log {}", receipt.seq, log_of(proven))),
        ("from", author(receipt)),
    ]
    .map(|(name, value)| vec![name.to_owned(), value])
    .into();
    let columns = [table::Column::whole(""), table::Column::new("")];
    let mut lines = vec![format!(
        "- These exact bytes were record {} of this log when its key signed the checkpoint of {} records.",
        receipt.seq, checkpoint.size
    )];
    for size in held {
        lines.push(if receipt.seq <= *size {
            format!("- They were so when the checkpoint of {size} records that you hold was signed, and nothing among those {size} was changed since.")
        } else {
            format!("- Nothing among the {size} records of the checkpoint that you hold was changed since. This record came after them.")
        });
    }
    let mut unproven = vec![
        "- That what the event claims is true: it is what its sender said.".to_owned(),
        "- That no other record of the log says otherwise: a proof is of one record. For the whole answer verify the log (`rollcall verify`)."
            .to_owned(),
    ];
    match signature {
        Signature::None => {}
        Signature::Fits => lines.push("- Whoever sent it knew the webhook's secret.".into()),
        Signature::Unchecked => {
            unproven.push("- Who sent it: the webhook's secret was not at hand, so its own signature was not checked.".into())
        }
        Signature::OtherSecret => unproven.push("- Who sent it: none of the secrets at hand is the one that signed it.".into()),
    }
    if signature == Signature::Fits {
        unproven.push("- That WorkOS sent it: the log knows that secret as well, and so does everybody who was ever told it.".into());
    }
    if held.is_empty() {
        unproven.push(
            "- That the log has only one past: you gave no checkpoint of your own, and whoever has the log's key can sign another past."
                .into(),
        );
    } else {
        unproven.push("- That the log had no other past before the oldest checkpoint that somebody else holds.".into());
    }
    // A checkpoint of less than the record's number says nothing about the record.
    let oldest = held.iter().filter(|size| receipt.seq <= **size).min();
    let received =
        oldest.map_or("this proof".to_owned(), |size| format!("the checkpoint of {size} records"));
    unproven.push(format!(
        "- When it happened and when it was recorded: both are claims, of its sender and of the log. Sure is only that it was there when you \
         received {received}."
    ));
    let headline = oldest.map_or_else(
        || {
            format!(
                "Proven, as far as the key of {} is not in wrong hands",
                harmless(&checkpoint.origin)
            )
        },
        |size| format!("Proven against the checkpoint of {size} records that you hold"),
    );
    format!(
        "{headline}:\n\n{}\n{}\n\nNot proven:\n{}\n",
        table::draw_within(None, &columns, false, &rows),
        lines.join("\n"),
        unproven.join("\n")
    )
}

fn author(receipt: &crate::notary::Receipt) -> String {
    match receipt.proof {
        Proof::Webhook { t, .. } => format!(
            "{}, so the log says; by a webhook said to be signed at {}",
            receipt.source,
            time::format(t)
        ),
        Proof::Operator { key_id } => {
            format!("an operator of Rollcall, {}, so the log says", key_name(key_id))
        }
    }
}

/// What a body claims, in a sentence: whose it is, and what.
fn claim(body: &[u8]) -> String {
    let Ok(body) = serde_json::from_slice::<Value>(body) else { return "it is no JSON".into() };
    let data = body.get("data").unwrap_or(&Value::Null);
    let text = |value: &Value, name: &str| {
        value.get(name).and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned)
    };
    let named = |kind: &str, value: &Value, name: Option<String>| {
        let id = text(value, "id").unwrap_or_else(|| "without an id".into());
        name.map_or(format!("{kind} {id}"), |name| format!("{kind} {id} ({name})"))
    };
    let user = |value: &Value| named("user", value, email(value));
    let group = |value: &Value| named("group", value, text(value, "name"));
    let state = text(data, "state").unwrap_or_else(|| "active".into());
    match body.get("event").and_then(Value::as_str).unwrap_or("") {
        "dsync.activated" => {
            format!("{} was activated", named("directory", data, text(data, "name")))
        }
        "dsync.deactivated" => {
            format!("{} was deactivated", named("directory", data, text(data, "name")))
        }
        "dsync.deleted" | "rollcall.directory.deleted" => {
            format!("{} was deleted", named("directory", data, text(data, "name")))
        }
        "dsync.user.created" => format!("{} was created, {state}", user(data)),
        "dsync.user.updated" => format!("{} was updated, {state}", user(data)),
        "dsync.user.deleted" => format!("{} was deleted", user(data)),
        "dsync.group.created" => format!("{} was created", group(data)),
        "dsync.group.updated" => format!("{} was updated", group(data)),
        "dsync.group.deleted" => format!("{} was deleted", group(data)),
        kind @ ("dsync.group.user_added" | "dsync.group.user_removed") => {
            let (user, group) = (
                user(data.get("user").unwrap_or(&Value::Null)),
                group(data.get("group").unwrap_or(&Value::Null)),
            );
            let how = if kind.ends_with("added") { "was added to" } else { "was removed from" };
            format!("{user} {how} {group}")
        }
        "rollcall.policy.set" => format!(
            "inactive users are treated so: {}",
            text(data, "inactive_users").unwrap_or_default()
        ),
        "rollcall.mapping.set" => "a role mapping was set".into(),
        "rollcall.checkpoint_key.changed" => {
            format!("the log's key is now {}", text(data, "to").unwrap_or_default())
        }
        _ => "nothing that this program can put into words".into(),
    }
}

/// The address that a user shows.
fn email(user: &Value) -> Option<String> {
    let raw = user.to_string();
    let [email, emails] = crate::json::fields(&raw, ["email", "emails"])?;
    shown_email(email, emails).map(Into::into)
}
