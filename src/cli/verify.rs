//! `rollcall verify`

use std::io::IsTerminal;
use std::panic;
use std::path::{Path, PathBuf};

use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;

use super::auditor::{read_keys, read_note};
use super::read::print::counted;
use super::running::open_failure;
use super::serve::secrets;
use super::{Failure, print};
use crate::log::{
    Acknowledged, Audit, Finding, OpenError, Part, Signatures, Unrecovered, is_data_folder,
};
use crate::notary::{Checkpoint, origin};
use crate::verify::{Keyring, SECRETS_MAX};

/// Memory for pages of the store, in bytes. Each is read once.
const STORE_CACHE_BYTES: u64 = 128 << 20;

/// Look at a whole log again, its server being stopped: is every record the one that was taken?
///
/// Each record is unpacked and hashed again; what is kept beside the bodies is made again from them
/// and compared: ids, types, facts, which records count, the tree and its tiles, the root that was
/// acknowledged last. Signatures of webhooks are verified again with the secrets that are set. It
/// goes on after the first damage, and says which records are concerned. Against somebody who can
/// write into the folder only a checkpoint helps that is kept elsewhere.
///
/// It changes nothing. But the store under it, when it is opened, cuts a damaged file off at the
/// first damage that it finds: copy a folder that you suspect, and verify the copy.
#[derive(Args)]
#[command(after_help = "\
Environment:
  ROLLCALL_WEBHOOK_SECRETS  comma-separated secrets that signed webhooks, also those that were replaced since
  WORKOS_WEBHOOK_SECRET     one more such secret

Exit codes: 0 if nothing is wrong, 1 if it could not begin, 2 if the log is damaged.

Examples:
  rollcall verify --data /var/lib/rollcall
  rollcall verify --data /var/lib/rollcall --key log.pub --checkpoint 00000000000000001000.checkpoint
  cp -a /var/lib/rollcall /tmp/suspect && rollcall verify --data /tmp/suspect --json")]
pub(super) struct Verify {
    /// Data folder
    #[arg(long, default_value = "./rollcall-data")]
    data: PathBuf,
    /// Compare with this checkpoint, which somebody else has kept; may be given several times
    #[arg(long, value_name = "FILE", requires = "keys")]
    checkpoint: Vec<PathBuf>,
    /// The public key that signed it, or a file with one on each line; may be given several times
    #[arg(long = "key", id = "keys", value_name = "VKEY|FILE", requires = "checkpoint")]
    keys: Vec<String>,
    /// One object, for programs
    #[arg(long, help_heading = "Output")]
    json: bool,
}

impl Verify {
    pub(super) fn run(self) -> Result<(), Failure> {
        let held = read_held(&self.checkpoint, &self.keys)?;
        let mut audit = without_traces(|| audit(&self.data))?;
        let fitting = compare(&mut audit, held);
        let told = if self.json {
            format!(
                "{}
",
                in_json(&audit, &fitting)
            )
        } else {
            told(&audit, &fitting)
        };
        print(&told)?;
        verdict(&audit, &self.data)
    }
}

/// The checkpoints that somebody else has kept, the smallest first.
///
/// # Errors
/// The caller's: a checkpoint that none of the keys has signed says nothing.
fn read_held(files: &[PathBuf], keys: &[String]) -> Result<Vec<Checkpoint>, Failure> {
    if files.is_empty() {
        return Ok(Vec::new());
    }
    let keys = read_keys(keys)?;
    let open = |path: &PathBuf| {
        let (_, note) = read_note(path)?;
        note.open(&keys).cloned().map_err(|error| {
            Failure::Caller(format!("`{}` is not believed: {error}", path.display()))
        })
    };
    let mut held = files.iter().map(open).collect::<Result<Vec<_>, _>>()?;
    held.sort_by_key(|checkpoint| checkpoint.size);
    Ok(held)
}

/// Compares the records that were read with checkpoints, the smallest first. What differs is a
/// finding; the sizes of those that fit come back.
fn compare(audit: &mut Audit, held: Vec<Checkpoint>) -> Vec<u64> {
    let (own, mut fitting) = (origin(audit.identity.log_id), Vec::new());
    for Checkpoint { origin, size, root } in held {
        // All up to the checkpoint before are as they were.
        let after = fitting.last().map_or(1, |size| size + 1);
        let (first, last, what) = if origin != own {
            (
                0,
                0,
                format!(
                    "the checkpoint of {size} records is of the log `{origin}`, and this log is `{own}`"
                ),
            )
        } else if size > audit.size() {
            (
                audit.size() + 1,
                size,
                format!(
                    "the checkpoint of {size} records was signed, and {} can be read",
                    audit.size()
                ),
            )
        } else if audit.root(size) != Some(root) {
            (
                after,
                size,
                format!("the checkpoint of {size} records was signed over others than these"),
            )
        } else {
            fitting.push(size);
            continue;
        };
        audit.add(Finding { first, last, part: Part::Checkpoint, what });
    }
    fitting
}

fn audit(folder: &Path) -> Result<Audit, Failure> {
    // Opening would make an empty log of a folder that is none.
    match is_data_folder(folder) {
        Ok(true) => {}
        Ok(false) => {
            return Err(Failure::Caller(format!(
                "`{}` is no data folder of Rollcall",
                folder.display()
            )));
        }
        Err(error) => {
            return Err(Failure::Ours(format!("cannot look into `{}`: {error}", folder.display())));
        }
    }
    let secrets = secrets(&["ROLLCALL_WEBHOOK_SECRETS", "WORKOS_WEBHOOK_SECRET"]);
    if secrets.len() > SECRETS_MAX {
        return Err(Failure::Caller(format!(
            "at most {SECRETS_MAX} webhook secrets may be given at once"
        )));
    }
    let keyring = Keyring::new(secrets.iter().map(String::as_str), 0);
    let unrecovered = Unrecovered::open(folder, STORE_CACHE_BYTES).map_err(|error| match error {
        OpenError::InUse(folder) => Failure::Caller(format!(
            "the data folder `{}` is in use by another process: stop the server, or verify a copy of a stopped one's",
            folder.display()
        )),
        error => open_failure(error),
    })?;
    let bar = ProgressBar::new(unrecovered.last_key());
    if !std::io::stderr().is_terminal() {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} records, {per_sec}, {eta} left");
    let bar = bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    let audit = unrecovered.audit(&keyring, &|seq| bar.set_position(seq));
    bar.finish_and_clear();
    audit.map_err(open_failure)
}

/// A damaged store may panic where it is read, which is told as what is wrong with the log: a trace
/// says nothing more to whoever asked.
fn without_traces<T>(work: impl FnOnce() -> T) -> T {
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    let done = work();
    panic::set_hook(hook);
    done
}

fn verdict(audit: &Audit, folder: &Path) -> Result<(), Failure> {
    let folder = folder.display();
    let findings = counted(audit.findings_count, "finding", "findings");
    match (audit.findings_count, audit.first_bad()) {
        (0, _) => Ok(()),
        (_, Some(seq)) => Err(Failure::Ours(format!(
            "the log in `{folder}` is damaged: {findings}, the first at record {seq}"
        ))),
        (_, None) => Err(Failure::Ours(format!("the log in `{folder}` is damaged: {findings}"))),
    }
}

fn in_json(audit: &Audit, fitting: &[u64]) -> serde_json::Value {
    let Signatures { verified, key_not_at_hand, wrong } = audit.signatures;
    let acknowledged = match audit.acknowledged {
        Acknowledged::Same(size) => json!({ "state": "same", "size": size }),
        Acknowledged::SameLast(size) => json!({ "state": "same_last", "size": size }),
        Acknowledged::Different => json!({ "state": "different", "size": null }),
        Acknowledged::Unknown => json!({ "state": "unknown", "size": null }),
    };
    let finding = |Finding { first, last, part, what }: &Finding| {
        let seq = |seq: u64| Some(seq).filter(|seq| *seq > 0);
        json!({ "first": seq(*first), "last": seq(*last), "part": part.name(), "what": what })
    };
    json!({
        "object": "verification",
        "log_id": uuid::Uuid::from_bytes(audit.identity.log_id).to_string(),
        "records": audit.records,
        "sound": audit.findings_count == 0,
        "first_bad": audit.first_bad(),
        "findings_count": audit.findings_count,
        "findings": audit.findings.iter().map(finding).collect::<Vec<_>>(),
        "signatures": { "verified": verified, "key_not_at_hand": key_not_at_hand, "wrong": wrong },
        "operator_acts": audit.acts,
        "tree": { "size": audit.size(), "root": audit.root(audit.size()).map(hex::encode), "tiles_complete": audit.tiles_complete },
        "acknowledged": acknowledged,
        "checkpoints": fitting,
    })
}

/// All of it for people. `fitting` are the sizes of checkpoints that the records were compared
/// with, and that they fit.
fn told(audit: &Audit, fitting: &[u64]) -> String {
    let Signatures { verified, key_not_at_hand, wrong } = audit.signatures;
    let mut lines = vec![
        format!(
            "log {}: {}",
            uuid::Uuid::from_bytes(audit.identity.log_id),
            counted(audit.records, "record", "records")
        ),
        format!(
            "{}: {verified} verified, {key_not_at_hand} whose secret is not at hand, {wrong} wrong; {}",
            counted(verified + key_not_at_hand + wrong, "signature", "signatures"),
            counted(audit.acts, "act of an operator", "acts of operators"),
        ),
    ];
    if let Some(root) = audit.root(audit.size()) {
        lines.push(format!(
            "the tree over the first {} has the root {}",
            counted(audit.size(), "record", "records"),
            hex::encode(root)
        ));
    }
    let slot_is_damaged =
        audit.findings.iter().any(|finding| finding.part == Part::Acknowledgement);
    lines.push(match audit.acknowledged {
        Acknowledged::Same(size) if slot_is_damaged => format!("the log begins with the {size} of the acknowledgement that is left"),
        Acknowledged::Same(size) => format!("the log begins with the {size} that were acknowledged last"),
        Acknowledged::SameLast(size) => format!("record {size} is the one that was acknowledged last; no root was kept of those before it"),
        Acknowledged::Different => "the log is not the one that was acknowledged last".into(),
        Acknowledged::Unknown => "no acknowledgement is kept with which the log could be compared".into(),
    });
    lines.extend(fitting.iter().map(|size| {
        format!(
            "the first {} are those of the checkpoint given",
            counted(*size, "record", "records")
        )
    }));
    if !audit.tiles_complete {
        lines.push(
            "the tree's tiles are not complete: the next start makes them from the log".into(),
        );
    }
    lines.extend(audit.findings.iter().map(|finding| match (finding.first, finding.last) {
        (0, _) => format!("{}: {}", finding.part.name(), finding.what),
        (first, last) if last > first => {
            format!("records {first} to {last}: {}: {}", finding.part.name(), finding.what)
        }
        (first, _) => format!("record {first}: {}: {}", finding.part.name(), finding.what),
    }));
    let more = audit.findings_count - audit.findings.len() as u64;
    lines.extend((more > 0).then(|| format!("and {more} more")));
    lines.push(match audit.findings_count {
        0 => "nothing is wrong".into(),
        count => counted(count, "finding", "findings"),
    });
    lines.join("\n") + "\n"
}
