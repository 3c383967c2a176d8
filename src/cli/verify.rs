//! `rollcall verify`

use std::path::{Path, PathBuf};

use clap::Args;
use indicatif::ProgressBar;
use rollcall_projections::Seq;
use serde_json::json;

use super::auditor::{read_keys, read_note};
use super::config::WEBHOOK_SECRETS;
use super::read::print::counted;
use super::running::open_failure;
use super::secrets::{self, optional_secrets};
use super::waiting::drawn;
use super::{Failure, print};
use crate::engine::{KeyChange, StoppedSnapshot, compare_snapshot, unusable_snapshot};
use crate::json;
use crate::log::{
    Acknowledged, Audit, Finding, LogPart, OpenError, Signatures, StoppedFolder, Unsigned,
    is_data_folder,
};
use crate::notary::{
    Checkpoint, InspectedKey, KeyFault, KeyFiles, KeyHistory, Notary, Verifier, origin,
};
use crate::verify::{Keyring, SECRETS_MAX};

/// Verify every record of a stopped server's log.
///
/// Unpacks and hashes each record. Recomputes from the bodies the ids, the types, the facts, and
/// which records count, and compares them with what is stored; compares the tree and its tiles with
/// the records, and the records with the root that was acknowledged last. Verifies the signatures
/// of webhooks with the secrets that are set. Folds the log, and compares the snapshot of the views
/// with that. Continues after the first damage, and names the damaged records. Against an attacker
/// who can write to the folder, only a checkpoint that is kept elsewhere helps.
///
/// Changes nothing in the folder, and works on a read-only disk.
#[derive(Args)]
#[command(after_help = "\
Environment:
  ROLLCALL_WEBHOOK_SECRETS  comma-separated secrets that signed webhooks, including former ones
  WORKOS_WEBHOOK_SECRET     one more such secret

Exit codes: 0 if nothing is wrong, 1 if it could not start, 2 if the log is damaged.

Examples:
  rollcall verify --data /var/lib/rollcall
  rollcall verify --data /var/lib/rollcall --key log.pub \\
      --checkpoint 00000000000000001000.checkpoint
  rollcall verify --data /var/lib/rollcall --json")]
pub(super) struct VerifyArgs {
    /// Data folder
    #[arg(long, default_value = "./rollcall-data")]
    data: PathBuf,
    /// Compare with this checkpoint that was kept elsewhere; may be given several times
    #[arg(long, value_name = "FILE", requires = "keys")]
    checkpoint: Vec<PathBuf>,
    /// The public key that signed it, or a file with one on each line; may be given several times
    #[arg(long = "key", id = "keys", value_name = "VKEY|FILE", requires = "checkpoint")]
    keys: Vec<String>,
    /// Print one JSON object
    #[arg(long, help_heading = "Output")]
    json: bool,
}

impl VerifyArgs {
    pub(super) fn run(self) -> Result<(), Failure> {
        let held = read_held(&self.checkpoint, &self.keys)?;
        let (stopped, mut audit) = audit(&self.data)?;
        let fitting = compare(&mut audit, held);
        let key = inspect_key(&mut audit, &self.data);
        let snapshot = inspect_snapshot(&mut audit, &self.data)?;
        let remarks = stopped.remarks().map_err(Failure::ours)?;
        print(&if self.json {
            let mut found = in_json(&audit, &fitting, &key, snapshot.as_ref());
            json::set(&mut found, "remarks", json!(remarks));
            format!("{found}\n")
        } else {
            let lines = remarks.iter().map(|remark| format!("{remark}\n"));
            page(&audit, &fitting, &key, snapshot.as_ref()) + &lines.collect::<String>()
        })?;
        verdict(&audit, &stopped, &self.data)
    }
}

/// Reads checkpoints that were kept elsewhere. Returns them with the smallest first.
///
/// # Errors
/// The caller's, also if none of the keys has signed a checkpoint: it would prove nothing.
fn read_held(files: &[PathBuf], keys: &[String]) -> Result<Vec<Checkpoint>, Failure> {
    if files.is_empty() {
        return Ok(Vec::new());
    }
    let keys = read_keys(keys)?;
    let mut held =
        files.iter().map(|file| read_checkpoint(file, &keys)).collect::<Result<Vec<_>, _>>()?;
    held.sort_by_key(|checkpoint| checkpoint.size);
    Ok(held)
}

fn read_checkpoint(file: &Path, keys: &[Verifier]) -> Result<Checkpoint, Failure> {
    let (_, note) = read_note(file)?;
    note.open(keys)
        .cloned()
        .map_err(|error| Failure::Caller(format!("`{}` is not believed: {error}", file.display())))
}

/// Compares the records that were read with checkpoints, the smallest first. Adds a finding for
/// each difference. Returns the sizes of the checkpoints that fit.
fn compare(audit: &mut Audit, held: Vec<Checkpoint>) -> Vec<u64> {
    let mut fitting = Vec::new();
    for checkpoint in held {
        // The records of the last checkpoint that fits are unchanged.
        let unchanged = fitting.last().copied().unwrap_or(0);
        match difference(audit, &checkpoint, unchanged) {
            Some(finding) => audit.add(finding),
            None => fitting.push(checkpoint.size),
        }
    }
    fitting
}

/// Returns how the log differs from a checkpoint, if it does. The first `unchanged` records are
/// known to be intact.
fn difference(audit: &Audit, checkpoint: &Checkpoint, unchanged: u64) -> Option<Finding> {
    let Checkpoint { origin: signed_origin, size, root } = checkpoint;
    let own = origin(audit.identity.log_id);
    let (first, last, what) = if *signed_origin != own {
        (0, 0, format!("belongs to the log `{signed_origin}`, but this log is `{own}`"))
    } else if *size > audit.size() {
        (audit.size() + 1, *size, format!("was signed, but only {} can be read", audit.size()))
    } else if audit.root(*size) != Some(*root) {
        (unchanged + 1, *size, "was signed over other records than these".to_owned())
    } else {
        return None;
    };
    let what = format!("the checkpoint of {size} records {what}");
    Some(Finding { first, last, part: LogPart::Checkpoint, what })
}

/// Looks at the files of the key that signs checkpoints. Adds a finding for each that is damaged.
fn inspect_key(audit: &mut Audit, data: &Path) -> InspectedKey {
    let log_id = audit.identity.log_id;
    let changes = audit.key_changes.iter().filter_map(KeyChange::of);
    let history = KeyChange::history(log_id, changes, |size| audit.root(size).ok_or(()));
    let key = inspect_files(data, log_id, &history.unwrap_or_default(), &audit.lost);
    key_findings(&key).into_iter().for_each(|finding| audit.add(finding));
    key
}

/// Looks at the files of the key of a log that has lost some records.
pub(super) fn inspect_files(
    data: &Path,
    log_id: [u8; 16],
    history: &KeyHistory,
    lost: &[(Seq, Seq)],
) -> InspectedKey {
    let is_lost = |seq: Seq| lost.iter().any(|(first, last)| (*first..=*last).contains(&seq));
    Notary::inspect(&key_files(data), log_id, history, &is_lost)
}

/// Returns the files of the key of a folder that is only read.
pub(super) fn key_files(data: &Path) -> KeyFiles {
    KeyFiles::of(data, secrets::set("ROLLCALL_CHECKPOINT_KEY").map(PathBuf::from))
}

/// Returns a finding for each damaged file of the key.
pub(super) fn key_findings(key: &InspectedKey) -> Vec<Finding> {
    let finding = |fault: &KeyFault| {
        let part = if fault.is_repaired { LogPart::Derived } else { LogPart::Key };
        Finding { first: 0, last: 0, part, what: fault.what.clone() }
    };
    key.faults.iter().map(finding).collect()
}

/// Compares the snapshot of the views with a fold of the log. Adds a finding if it is whole and not
/// what the log folds to. Returns `None` if the log is damaged, so that it cannot be folded.
fn inspect_snapshot(audit: &mut Audit, data: &Path) -> Result<Option<StoppedSnapshot>, Failure> {
    if audit.findings_count > 0 {
        return Ok(None);
    }
    // Only a snapshot that a start would use is worth reading the log again.
    let snapshot = match unusable_snapshot(data) {
        Some(unused) => unused,
        None => {
            let log = StoppedFolder::open(data).and_then(|stopped| stopped.recover(&|_| {}));
            compare_snapshot(data, &log.map_err(open_failure)?).map_err(Failure::ours)?
        }
    };
    match &snapshot {
        StoppedSnapshot::Different(_) => {
            let what = "`snapshot` is not what the log folds to, or does not know its events";
            let what = what.to_owned();
            audit.add(Finding { first: 0, last: 0, part: LogPart::Snapshot, what });
        }
        // One that is damaged costs the next start its time, and nothing else.
        StoppedSnapshot::Missing
        | StoppedSnapshot::Unused(_)
        | StoppedSnapshot::Damaged(_)
        | StoppedSnapshot::Equal(_) => {}
    }
    Ok(Some(snapshot))
}

fn snapshot_line(snapshot: &StoppedSnapshot) -> Option<String> {
    match snapshot {
        StoppedSnapshot::Missing | StoppedSnapshot::Different(_) => None,
        StoppedSnapshot::Damaged(what) => Some(format!(
            "the snapshot of the views is damaged, which only makes the next start slower: {what}"
        )),
        StoppedSnapshot::Unused(why) => {
            Some(format!("a start does not use the snapshot of the views: {why}"))
        }
        StoppedSnapshot::Equal(seq) => {
            Some(format!("the snapshot of the views is what the log folds to up to record {seq}"))
        }
    }
}

fn key_line(key: &InspectedKey) -> Option<String> {
    let InspectedKey { public, has_private, changes, handovers, .. } = key;
    let public = public.as_ref()?;
    let private = match has_private {
        true => "its private key is there",
        false => "its private key is not there: start with --checkpoint-key",
    };
    let changes = counted(*changes as u64, "change", "changes");
    Some(format!(
        "checkpoints are signed by {public}; {private}; {handovers} of {changes} of the key signed by both"
    ))
}

fn audit(folder: &Path) -> Result<(StoppedFolder, Audit), Failure> {
    check_folder(folder)?;
    let secrets = optional_secrets(&WEBHOOK_SECRETS)?;
    if secrets.len() > SECRETS_MAX {
        return Err(Failure::Caller(format!(
            "at most {SECRETS_MAX} webhook secrets may be given at once"
        )));
    }
    let keyring = Keyring::new(secrets.iter().map(String::as_str), 0);
    let stopped = StoppedFolder::open(folder).map_err(|error| match error {
        OpenError::InUse(folder) => Failure::Caller(format!(
            "the data folder `{}` is in use by another process: stop the server, or verify a copy \
             that was made while it was stopped",
            folder.display()
        )),
        error => open_failure(error),
    })?;
    let bar = progress_bar(stopped.last_key());
    let audit = stopped.audit(&keyring, &|seq| bar.set_position(seq));
    bar.finish_and_clear();
    Ok((stopped, audit))
}

/// Checks that the folder holds a log.
fn check_folder(folder: &Path) -> Result<(), Failure> {
    let shown = folder.display();
    match is_data_folder(folder) {
        Ok(true) => Ok(()),
        Ok(false) => Err(Failure::Caller(format!("`{shown}` is not a Rollcall data folder"))),
        Err(error) => Err(Failure::Ours(format!("cannot look into `{shown}`: {error}"))),
    }
}

pub(super) fn progress_bar(records: u64) -> ProgressBar {
    let template = "{bar:40} {pos}/{len} records, {per_sec}, {eta} left";
    drawn(ProgressBar::new(records), template)
}

fn verdict(audit: &Audit, stopped: &StoppedFolder, folder: &Path) -> Result<(), Failure> {
    let folder = folder.display();
    let findings = counted(audit.findings_count, "finding", "findings");
    let first = audit.first_bad().map(|seq| format!(", the first at record {seq}"));
    let first = first.unwrap_or_default();
    match audit.findings_count {
        0 => Ok(()),
        _ => Err(Failure::Ours(format!(
            "the log in `{folder}` is damaged: {findings}{first}; {}",
            way_out(audit, stopped.refusal().as_ref(), &folder.to_string())
        ))),
    }
}

/// Says what helps. `refusal` is why a start would be refused because of the records.
fn way_out(audit: &Audit, refusal: Option<&OpenError>, folder: &str) -> String {
    let of_records = |found: &Finding| {
        !matches!(
            found.part,
            LogPart::Tiles
                | LogPart::Acknowledgement
                | LogPart::Derived
                | LogPart::Key
                | LogPart::Files
                | LogPart::Marker
                | LogPart::Snapshot
        )
    };
    match refusal {
        Some(OpenError::Disputed { .. }) => {
            "compare with a folder that `rollcall restore --from` makes of an archive or a backup, \
             if there is one, or, if you trust the records, remove its folder `tree`"
                .to_owned()
        }
        Some(_) => {
            format!("`rollcall salvage --data {folder} --out NEW` takes out what can be read")
        }
        None if audit.findings.iter().any(of_records) => {
            "a start does not refuse it: compare those records with a folder that `rollcall restore \
             --from` makes of an archive or a backup, and keep this one as evidence"
                .to_owned()
        }
        None => repair(&audit.findings, audit.end_is_unknown, folder),
    }
}

/// Says what helps against damage to files around the store, with which a server starts.
pub(super) fn repair(findings: &[Finding], end_is_unknown: bool, folder: &str) -> String {
    let is_kept = |found: &Finding| matches!(found.part, LogPart::Key | LogPart::Files);
    if end_is_unknown {
        return format!(
            "records missing from the end cannot be noticed, since neither `checkpoint` nor `tree` \
             says how many there were: start with `--archive`, which refuses a log that lacks what \
             the archive has, or run `rollcall salvage --data {folder} --out NEW --from COPY` with \
             another copy of the log"
        );
    }
    let has_marker = findings.iter().any(|found| found.part == LogPart::Marker);
    if findings.iter().any(|found| found.part == LogPart::Snapshot) {
        return "every record can be read; remove `snapshot`, and find out what has written it: a \
            start would answer from it until it has compared it with the log"
            .to_owned();
    }
    let helps = match (findings.iter().any(is_kept), has_marker) {
        (true, true) => "; remove `unclean`, and put the other files back from a copy",
        (true, false) => "; put those files back from a copy",
        (false, true) => "; remove `unclean`: nothing is in it",
        (false, false) => ", and the next start repairs it",
    };
    format!("every record can be read{helps}")
}

fn in_json(
    audit: &Audit,
    fitting: &[u64],
    key: &InspectedKey,
    snapshot: Option<&StoppedSnapshot>,
) -> serde_json::Value {
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
        "operator_acts": audit.unsigned.acts,
        "pulled": audit.unsigned.pulled,
        "observed": audit.unsigned.observed,
        "imported": audit.unsigned.imported,
        "scim": audit.unsigned.scim,
        "tree": {
            "size": audit.size(),
            "root": audit.root(audit.size()).map(hex::encode),
            "tiles_complete": audit.tiles_complete,
        },
        "acknowledged": acknowledged,
        "lost": audit.lost,
        "key": {
            "public": key.public,
            "has_private": key.has_private,
            "changes": key.changes,
            "handovers": key.handovers,
        },
        "checkpoints": fitting,
        "snapshot": snapshot.map(snapshot_in_json),
    })
}

fn snapshot_in_json(snapshot: &StoppedSnapshot) -> serde_json::Value {
    let (state, seq) = match snapshot {
        StoppedSnapshot::Missing => ("missing", None),
        StoppedSnapshot::Unused(_) => ("unused", None),
        StoppedSnapshot::Damaged(_) => ("damaged", None),
        StoppedSnapshot::Equal(seq) => ("equal", Some(seq)),
        StoppedSnapshot::Different(seq) => ("different", Some(seq)),
    };
    json!({ "state": state, "seq": seq })
}

/// Describes the audit for people. `fitting` are the sizes of the checkpoints that fit the records.
fn page(
    audit: &Audit,
    fitting: &[u64],
    key: &InspectedKey,
    snapshot: Option<&StoppedSnapshot>,
) -> String {
    let mut lines = summary(audit);
    lines.push(acknowledgement(audit));
    lines.extend(fitting.iter().map(|size| {
        format!("the first {} fit the given checkpoint", counted(*size, "record", "records"))
    }));
    lines.extend(key_line(key));
    lines.extend(snapshot.and_then(snapshot_line));
    if !audit.tiles_complete {
        lines
            .push("the tree's tiles are incomplete: the next start makes them from the log".into());
    }
    lines.extend(audit.lost.iter().map(|(first, last)| match first == last {
        true => format!("record {first} is lost: the log was restored without it"),
        false => format!("records {first} to {last} are lost: the log was restored without them"),
    }));
    lines.extend(audit.findings.iter().map(finding_line));
    let more = audit.findings_count - audit.findings.len() as u64;
    lines.extend((more > 0).then(|| format!("and {more} more")));
    lines.push(match audit.findings_count {
        0 => "nothing is wrong".into(),
        count => counted(count, "finding", "findings"),
    });
    lines.join("\n") + "\n"
}

fn summary(audit: &Audit) -> Vec<String> {
    let Signatures { verified, key_not_at_hand, wrong } = audit.signatures;
    let mut lines = vec![
        format!(
            "log {}: {}",
            uuid::Uuid::from_bytes(audit.identity.log_id),
            counted(audit.records, "record", "records")
        ),
        format!(
            "{}: {verified} verified, {key_not_at_hand} whose secret is not at hand, {wrong} \
             wrong; {}",
            counted(verified + key_not_at_hand + wrong, "signature", "signatures"),
            unsigned(audit.unsigned),
        ),
    ];
    if let Some(root) = audit.root(audit.size()) {
        lines.push(format!(
            "the tree over the first {} has the root {}",
            counted(audit.size(), "record", "records"),
            hex::encode(root)
        ));
    }
    lines
}

/// Counts the records that no signature proves.
fn unsigned(Unsigned { acts, pulled, observed, imported, scim }: Unsigned) -> String {
    let acts = counted(acts, "act of an operator", "acts of operators");
    let others = [
        (pulled, "pulled"),
        (observed, "observed"),
        (imported, "imported"),
        (scim, "pushed by identity providers"),
    ];
    let others = others.into_iter().filter(|(count, _)| *count > 0);
    let others = others.map(|(count, how)| format!("{count} {how}"));
    std::iter::once(acts).chain(others).collect::<Vec<_>>().join(", ")
}

/// Compares the log with the last acknowledgement, in a sentence.
fn acknowledgement(audit: &Audit) -> String {
    let slot_is_damaged =
        audit.findings.iter().any(|finding| finding.part == LogPart::Acknowledgement);
    match audit.acknowledged {
        Acknowledged::Same(size) if slot_is_damaged => {
            format!("the log begins with the {size} records of the acknowledgement that is left")
        }
        Acknowledged::Same(size) => {
            format!("the log begins with the {size} records that were acknowledged last")
        }
        Acknowledged::SameLast(size) => format!(
            "record {size} is the one that was acknowledged last; no root of the records before it \
             was kept"
        ),
        Acknowledged::Different => "the log is not the one that was acknowledged last".into(),
        Acknowledged::Unknown => "there is no acknowledgement to compare the log with".into(),
    }
}

fn finding_line(Finding { first, last, part, what }: &Finding) -> String {
    let part = part.name();
    match (*first, *last) {
        (0, _) => format!("{part}: {what}"),
        (first, last) if last > first => format!("records {first} to {last}: {part}: {what}"),
        (first, _) => format!("record {first}: {part}: {what}"),
    }
}
