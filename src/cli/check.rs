//! `rollcall check`

use std::path::PathBuf;

use clap::Args;
use rollcall_projections::{EventEffect, EventSubject, EventType, Millis, RecordStatus, Seq};
use serde_json::{Value, json};

use super::auditor::{read_bounded, read_keys, read_note};
use super::secrets::optional_secrets;
use super::table::{self, harmless};
use super::{Failure, print};
use crate::notary::{Bundle, Note, Proven, Receipt};
use crate::time;
use crate::verify::{Keyring, Proof, SECRETS_MAX, Source, extract_from, key_name, shown_email};

/// The longest bundle, in bytes.
const BUNDLE_BYTES_MAX: usize = 16 << 20;

/// Check a proof that `rollcall prove` made: anywhere, without a server, a store or a network.
///
/// The key must come from elsewhere than the proof: from the operator of the log, once, over a
/// channel that you trust.
#[derive(Args)]
#[command(after_help = "\
Exit codes: 0 if it is proven, 1 if it is not or the input is wrong, 2 if this program failed.

Environment:
  ROLLCALL_WEBHOOK_SECRETS, ROLLCALL_WEBHOOK_SECRET, WORKOS_WEBHOOK_SECRET
          with one of them, the webhook's own signature is checked too

Examples:
  rollcall check proof.json --key rollcall/…+1a2b3c4d+AQ…
  rollcall check proof.json --key log.pub --checkpoint 00000000000000001000.checkpoint")]
pub(super) struct CheckArgs {
    /// The proof; `-` for standard input
    bundle: PathBuf,
    /// The log's public key, or a file with one on each line; may be given several times
    #[arg(long = "key", value_name = "VKEY|FILE")]
    keys: Vec<String>,
    /// A checkpoint that you hold yourself; may be given several times
    #[arg(long, value_name = "FILE")]
    checkpoint: Vec<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// The result of checking the webhook's own signature.
#[derive(Clone, Copy, PartialEq, Eq)]
enum WebhookSignature {
    /// The record is not a webhook and has no signature.
    None,
    /// No secret is set.
    Unchecked,
    /// None of the secrets that are set made it.
    OtherSecret,
    /// It fits.
    Fits,
}

impl WebhookSignature {
    fn name(self) -> &'static str {
        match self {
            WebhookSignature::None => "none",
            WebhookSignature::Unchecked => "unchecked",
            WebhookSignature::OtherSecret => "other_secret",
            WebhookSignature::Fits => "fits",
        }
    }
}

impl CheckArgs {
    pub(super) fn run(self) -> Result<(), Failure> {
        let keys = read_keys(&self.keys)?;
        let held = self
            .checkpoint
            .iter()
            .map(|path| read_note(path).map(|(_, note)| note))
            .collect::<Result<Vec<Note>, _>>()?;
        let bundle = Bundle::parse(&read_bounded(&self.bundle, BUNDLE_BYTES_MAX)?);
        let secrets = optional_secrets(&[
            "ROLLCALL_WEBHOOK_SECRETS",
            "ROLLCALL_WEBHOOK_SECRET",
            "WORKOS_WEBHOOK_SECRET",
        ])?;
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

/// Checks the webhook's signature if a secret is set.
///
/// # Errors
/// If the secret is the right one and the signature does not fit: then nothing else counts.
fn check_signature(proven: &Proven, secrets: &[String]) -> Result<WebhookSignature, String> {
    let Proof::Webhook { t, v1, key_id } = &proven.receipt.proof else {
        return Ok(WebhookSignature::None);
    };
    if secrets.is_empty() {
        return Ok(WebhookSignature::Unchecked);
    }
    if secrets.len() > SECRETS_MAX {
        return Err(format!("at most {SECRETS_MAX} webhook secrets may be given at once"));
    }
    let keyring = Keyring::new(secrets.iter().map(String::as_str), 0);
    match keyring.check_again(*t, v1, key_id, &proven.body) {
        None => Ok(WebhookSignature::OtherSecret),
        Some(true) => Ok(WebhookSignature::Fits),
        Some(false) => {
            Err("the webhook's signature does not fit its body under the given secret".into())
        }
    }
}

/// When an event happened, by rules 2 and 3 of docs/semantics.md.
struct Occurrence {
    occurred_at: Millis,
    /// The time that the sender states, if it is too far ahead to count.
    claimed_at: Option<Millis>,
    /// The one who states the time, in words that follow "by".
    stated_by: &'static str,
}

impl Occurrence {
    fn of(proven: &Proven) -> Occurrence {
        let receipt = &proven.receipt;
        let extracted = extract_from(&receipt.proof, &proven.body);
        let event_type = extracted.event_type.as_deref();
        let (seq, recorded_at) = (receipt.seq, receipt.recorded_at);
        let source = Source::parse(&receipt.source).unwrap_or(Source::Workos);
        let names = [None, event_type];
        let entry = extracted.facts.entry(seq, recorded_at, source, names, RecordStatus::Counts);
        let (occurred_at, claimed_at) = (entry.occurred_at, entry.claimed_at);
        Occurrence { occurred_at, claimed_at, stated_by: stated_by(&receipt.proof) }
    }

    fn for_people(&self) -> String {
        let occurred_at = time::format(self.occurred_at);
        match self.claimed_at {
            None => format!("{occurred_at}, by {}", self.stated_by),
            Some(claimed_at) => {
                let claimed_at = time::format(claimed_at);
                format!("{occurred_at}, when it was recorded; its sender says {claimed_at}")
            }
        }
    }
}

/// Returns the one who states a record and its time, in words that follow "by".
fn stated_by(proof: &Proof) -> &'static str {
    match proof {
        Proof::Webhook { .. } | Proof::Imported { .. } | Proof::Pulled { .. } => "its sender",
        Proof::Operator { .. } => "Rollcall, which wrote the record",
        Proof::Observed { .. } => "Rollcall, which asked the source",
        Proof::Scim { .. } => "Rollcall, which wrote the record",
    }
}

/// Tells if Rollcall wrote a record itself, so that it has no other sender.
fn is_own(proof: &Proof) -> bool {
    matches!(proof, Proof::Operator { .. } | Proof::Observed { .. } | Proof::Scim { .. })
}

fn log_of(proven: &Proven) -> String {
    uuid::Uuid::from_bytes(proven.receipt.log_id).hyphenated().to_string()
}

fn as_json(proven: &Proven, signature: WebhookSignature) -> Value {
    let Proven { checkpoint, receipt, leaf, held, .. } = proven;
    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    json!({
        "proven": true,
        "event_id": text(&receipt.event_id),
        "event": text(&receipt.event_type),
        "occurred_at": time::format(Occurrence::of(proven).occurred_at),
        "recorded_at": time::format(receipt.recorded_at),
        "seq": receipt.seq,
        "log": log_of(proven),
        "source": receipt.source,
        "proof": receipt.proof.word(),
        "claim": claim(&proven.body),
        "leaf": hex::encode(leaf),
        "checkpoint": {
            "origin": checkpoint.origin,
            "size": checkpoint.size,
            "root": hex::encode(checkpoint.root),
        },
        "continues": held,
        "webhook_signature": signature.name(),
    })
}

fn page(proven: &Proven, signature: WebhookSignature) -> String {
    // A checkpoint that is smaller than the record's number says nothing about the record.
    let oldest = proven.held.iter().copied().filter(|size| proven.receipt.seq <= *size).min();
    format!(
        "{}:\n\n{}\n{}\n\nNot proven:\n{}\n",
        headline(proven, oldest),
        description(proven),
        proven_lines(proven, signature).join("\n"),
        unproven_lines(proven, signature, oldest).join("\n")
    )
}

/// `oldest` is the size of the smallest checkpoint in hand that covers the record.
fn headline(proven: &Proven, oldest: Option<Seq>) -> String {
    match oldest {
        None => format!(
            "Proven, assuming the key of {} is not compromised",
            harmless(&proven.checkpoint.origin)
        ),
        Some(size) => format!("Proven against the checkpoint of {size} records that you hold"),
    }
}

fn description(proven: &Proven) -> String {
    let receipt = &proven.receipt;
    let or_none = |text: &str| if text.is_empty() { "none".to_owned() } else { text.to_owned() };
    let rows: Vec<Vec<String>> = [
        ("event", or_none(&receipt.event_id)),
        ("type", or_none(&receipt.event_type)),
        ("claim", claim(&proven.body)),
        ("occurred at", Occurrence::of(proven).for_people()),
        ("recorded at", format!("{}, by the log's clock", time::format(receipt.recorded_at))),
        ("record", format!("{} of the log {}", receipt.seq, log_of(proven))),
        ("from", author(receipt)),
    ]
    .map(|(name, value)| vec![name.to_owned(), value])
    .into();
    let columns = [table::Column::whole(""), table::Column::new("")];
    table::draw_within(None, &columns, false, &rows)
}

fn proven_lines(proven: &Proven, signature: WebhookSignature) -> Vec<String> {
    let Proven { checkpoint, receipt, held, .. } = proven;
    let mut lines = vec![format!(
        "- These exact bytes were record {} of this log when its key signed the checkpoint of {} \
         records.",
        receipt.seq, checkpoint.size
    )];
    lines.extend(held.iter().map(|size| {
        if receipt.seq <= *size {
            format!(
                "- They were already there when the checkpoint of {size} records that you hold was \
                 signed, and none of those {size} records has changed since."
            )
        } else {
            format!(
                "- None of the {size} records of the checkpoint that you hold has changed since. \
                 This record came after them."
            )
        }
    }));
    if signature == WebhookSignature::Fits {
        lines.push("- The sender knew the webhook's secret.".into());
    }
    lines
}

fn unproven_lines(
    proven: &Proven,
    signature: WebhookSignature,
    oldest: Option<Seq>,
) -> Vec<String> {
    let sender = match signature {
        WebhookSignature::None => unsigned(&proven.receipt.proof),
        WebhookSignature::Unchecked => Some(
            "- The sender: the webhook's secret is not set, so the webhook's own signature was not \
             checked.",
        ),
        WebhookSignature::OtherSecret => {
            Some("- The sender: none of the secrets that are set signed the webhook.")
        }
        WebhookSignature::Fits => Some(
            "- That WorkOS sent it: the log knows that secret as well, and so does everyone who \
             was given it.",
        ),
    };
    let past = if proven.held.is_empty() {
        "- That the log has only one past: you gave no checkpoint of your own, and the holder of \
         the log's key can sign another past."
    } else {
        "- That the log had no other past before the oldest checkpoint that others hold."
    };
    let received =
        oldest.map_or("this proof".to_owned(), |size| format!("the checkpoint of {size} records"));
    let is_own = is_own(&proven.receipt.proof);
    let claims = if is_own { "claims of the log" } else { "claims, of its sender and of the log" };
    let times = format!(
        "- When it happened and when it was recorded: both are {claims}. All that is certain is that \
         it existed when you received {received}."
    );
    let truth = if is_own { "Rollcall wrote" } else { "its sender said" };
    let mut lines = vec![
        format!("- That the event's claim is true: it is what {truth}."),
        "- That no other record of the log contradicts it: a proof covers one record. To cover \
         all, verify the log (`rollcall verify`)."
            .to_owned(),
    ];
    lines.extend(sender.map(str::to_owned));
    lines.extend([past.to_owned(), times]);
    lines
}

/// Says what is not proven of the sender of a record without a signature.
fn unsigned(proof: &Proof) -> Option<&'static str> {
    match proof {
        Proof::Webhook { .. } | Proof::Operator { .. } => None,
        Proof::Imported { .. } => Some(
            "- The sender: nothing was signed, and the log knows only which API key imported the \
             file.",
        ),
        Proof::Pulled { .. } | Proof::Observed { .. } => Some(
            "- That the source said so: it signs no answer, and only the holder of the log saw it.",
        ),
        Proof::Scim { .. } => Some(
            "- The sender: a bearer token signs nothing, and only the holder of the log saw it.",
        ),
    }
}

fn author(receipt: &Receipt) -> String {
    match &receipt.proof {
        Proof::Webhook { t, .. } => format!(
            "{}, according to the log; by a webhook that claims to be signed at {}",
            receipt.source,
            time::format(*t)
        ),
        Proof::Operator { key_id } => {
            format!("an operator of Rollcall, {}, according to the log", key_name(*key_id))
        }
        Proof::Imported { key_id } => format!(
            "{}, according to a file that an operator of Rollcall, {}, imported",
            receipt.source,
            key_name(*key_id)
        ),
        Proof::Pulled { url, pulled_at, .. } => format!(
            "{}, according to the log; pulled from {url} at {}",
            receipt.source,
            time::format(*pulled_at)
        ),
        Proof::Observed { url, observed_at, .. } => format!(
            "Rollcall, which asked {url} at {}, according to the log",
            time::format(*observed_at)
        ),
        Proof::Scim { key_id } => format!(
            "an identity provider with the SCIM token {}, according to the log",
            key_name(*key_id)
        ),
    }
}

/// Describes the claim of a body in a sentence.
fn claim(body: &[u8]) -> String {
    let Ok(body) = serde_json::from_slice::<Value>(body) else {
        return "the body is not JSON".into();
    };
    let data = body.get("data").unwrap_or(&Value::Null);
    let event_type = body.get("event").and_then(Value::as_str).and_then(EventType::parse);
    event_type
        .and_then(|event_type| sentence(event_type.subject(), event_type.effect(), data))
        .unwrap_or_else(|| "this type of event has no description".into())
}

/// Describes an effect in a sentence; `None` if it has no description.
fn sentence(subject: EventSubject, effect: EventEffect, data: &Value) -> Option<String> {
    if effect == EventEffect::Observes {
        return observed(subject, data);
    }
    match subject {
        EventSubject::Directory => {
            Some(format!("{} was {}", directory(data), participle("activated", effect)?))
        }
        EventSubject::User => {
            let state = text(data, "state").unwrap_or_else(|| "active".into());
            let ending =
                if effect == EventEffect::Ends { String::new() } else { format!(", {state}") };
            Some(format!("{} was {}{ending}", user(data), participle("created", effect)?))
        }
        EventSubject::Group => {
            Some(format!("{} was {}", group(data), participle("created", effect)?))
        }
        EventSubject::Membership => membership(data, effect),
        EventSubject::Token => None,
        EventSubject::Mapping => Some("a role mapping was set".into()),
        EventSubject::Policy => Some(format!(
            "the treatment of inactive users was set to {}",
            text(data, "inactive_users").unwrap_or_default()
        )),
        EventSubject::Link => {
            let id = |name: &str| text(data, name).unwrap_or_else(|| "without an id".into());
            let (user, app_user) = (id("directory_user_id"), id("app_user_id"));
            let change =
                if effect == EventEffect::Ends { "was unlinked from" } else { "was linked to" };
            Some(format!("user {user} {change} user {app_user} of the application"))
        }
        EventSubject::Reconciliation => Some("a comparison with the source ended".into()),
        EventSubject::ScimResource => {
            let id = |name: &str| text(data, name).unwrap_or_else(|| "without an id".into());
            let directory = id("directory_id");
            Some(format!("an identity provider changed a user or group of directory {directory}"))
        }
        EventSubject::CheckpointKey => {
            Some(format!("the log's key is now {}", text(data, "to").unwrap_or_default()))
        }
    }
}

/// Describes an answer of the source in a sentence.
fn observed(subject: EventSubject, data: &Value) -> Option<String> {
    let is_there = data.get("present").and_then(Value::as_bool)?;
    // An absent thing has only its id.
    let object = data.get("object").unwrap_or(data);
    let thing = match subject {
        EventSubject::Directory => directory(object),
        EventSubject::User => user(object),
        EventSubject::Group => group(object),
        EventSubject::Membership => {
            let id = |name: &str| text(data, name).unwrap_or_else(|| "without an id".into());
            let place = if is_there { "in" } else { "not in" };
            let (user, group) = (id("user_id"), id("group_id"));
            return Some(format!("user {user} was {place} group {group}, said the source"));
        }
        _ => return None,
    };
    let state = text(object, "state").map_or(String::new(), |state| format!(", {state}"));
    Some(match is_there {
        true => format!("{thing} was there{state}, said the source"),
        false => format!("{thing} was not there, said the source"),
    })
}

/// Returns the participle of an effect; `begun` is that of a beginning.
fn participle(begun: &'static str, effect: EventEffect) -> Option<&'static str> {
    match effect {
        EventEffect::Begins => Some(begun),
        EventEffect::Changes => Some("updated"),
        EventEffect::Suspends => Some("deactivated"),
        EventEffect::Ends => Some("deleted"),
        EventEffect::Observes | EventEffect::None => None,
    }
}

fn directory(data: &Value) -> String {
    named("directory", data, text(data, "name"))
}

fn user(data: &Value) -> String {
    named("user", data, email(data))
}

fn group(data: &Value) -> String {
    named("group", data, text(data, "name"))
}

fn membership(data: &Value, effect: EventEffect) -> Option<String> {
    let change = match effect {
        EventEffect::Begins => "was added to",
        EventEffect::Ends => "was removed from",
        EventEffect::Changes
        | EventEffect::Suspends
        | EventEffect::Observes
        | EventEffect::None => return None,
    };
    let part = |name: &str| data.get(name).unwrap_or(&Value::Null);
    Some(format!("{} {change} {}", user(part("user")), group(part("group"))))
}

fn named(kind: &str, data: &Value, name: Option<String>) -> String {
    let id = text(data, "id").unwrap_or_else(|| "without an id".into());
    name.map_or(format!("{kind} {id}"), |name| format!("{kind} {id} ({name})"))
}

/// Returns a text field; `None` if it is missing or empty.
fn text(data: &Value, name: &str) -> Option<String> {
    data.get(name).and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned)
}

/// Returns the address that Rollcall shows for a user.
fn email(user: &Value) -> Option<String> {
    let raw = user.to_string();
    let [email, emails] = crate::json::fields(&raw, ["email", "emails"])?;
    shown_email(email, emails).map(Into::into)
}
