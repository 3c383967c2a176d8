//! `rollcall restore`

use std::path::{Path, PathBuf};
use std::slice;

use clap::Args;
use serde_json::{Value, json};

use super::archives::{
    LogProgress, OpenArchive, failure_as_given, kept_line, unmade, warn_of, with_beginning,
};
use super::read::print::counted;
use super::{Failure, print};
use crate::json;
use crate::log::{Missing, RestoreError, Restored, restore, seq_ranges, seqs_in};

/// Make a data folder from an archive, a backup, or what `rollcall salvage` has taken out.
///
/// Reads every record and checks that none is missing and that they lead to the roots that are in
/// the archive; writes them into a new data folder, which keeps the log's name; reads that back,
/// and prints the newest record and the root of the tree. If a record is missing or a file damaged,
/// names it and makes no folder; --accept-missing restores without records that are missing. The
/// folder is called NEW.unfinished until it is complete; if the restore breaks off, the same
/// command goes on with what is there. The private key that signs checkpoints is not in an archive:
/// put it into the new folder, or start with `--checkpoint-key`.
#[derive(Args)]
#[command(after_help = "\
Exit codes: 0 if every record was restored, 1 if it could not start, 2 if records are missing or \
a file is damaged or cut off.

Environment, for s3:// only; each may be in a file that the variable with _FILE names:
  AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_ENDPOINT_URL, AWS_REGION

Examples:
  rollcall restore --from /var/backups/rollcall --data /var/lib/rollcall.restored
  rollcall restore --from s3://backups/rollcall --data /var/lib/rollcall.restored --json
  rollcall restore --from /mnt/salvaged --data /var/lib/rollcall.restored --accept-missing
  ssh backups cat rollcall.tar | rollcall restore --from - --data /var/lib/rollcall.restored")]
pub(super) struct RestoreArgs {
    /// The archive: a folder, s3://BUCKET/PREFIX, a file of `rollcall backup --out -`, or - for such
    /// a file on standard input
    #[arg(long, value_name = "ARCHIVE")]
    from: String,
    /// The data folder to make
    #[arg(long, value_name = "NEW")]
    data: PathBuf,
    /// Restore without the records that are missing: each keeps its seq and its leaf, and the root
    /// stays the same. If a leaf is missing too, the records get a new log with a new key. Of a
    /// damaged file each record is taken that can be read, if its leaf or a root proves it, or, where
    /// there is neither, if its parts agree: those are named
    #[arg(long)]
    accept_missing: bool,
    /// Print one JSON object
    #[arg(long, help_heading = "Output")]
    json: bool,
}

impl RestoreArgs {
    pub(super) fn run(self) -> Result<(), Failure> {
        refuse_existing(&self.data)?;
        let from = OpenArchive::open(&self.from, &self.data)?;
        let progress = LogProgress::new(&self.data);
        let missing = if self.accept_missing { Missing::Accepted } else { Missing::Refused };
        let restored = restore(&from.place, &self.data, missing, &|at| progress.show(at));
        drop(progress);
        let archives = slice::from_ref(&from);
        let restored = restored.map_err(|error| {
            with_beginning(failure_as_given(failure(error), archives), &self.data)
        })?;
        let lost = "of the records that only it has, those were taken that can be read and that \
                    nothing refutes: `rollcall salvage --from` takes those out that fit their \
                    leaves in a data folder of the log";
        warn_of(&restored.damaged, archives, lost);
        print(&if self.json {
            format!("{}\n", in_json(&restored, self.accept_missing))
        } else {
            page(&restored, &self)
        })
    }
}

/// Refuses a folder that is there, before anything is unpacked.
fn refuse_existing(data: &Path) -> Result<(), Failure> {
    match std::fs::symlink_metadata(data) {
        Ok(_) => Err(failure(RestoreError::Exists(data.to_owned()))),
        Err(_) => Ok(()),
    }
}

pub(super) fn failure(error: RestoreError) -> Failure {
    match error {
        RestoreError::Exists(_)
        | RestoreError::NotAnArchive(_)
        | RestoreError::DataFolder(_)
        | RestoreError::OtherBegun { .. } => Failure::Caller(error.to_string()),
        RestoreError::Missing { .. }
        | RestoreError::Lacking(_)
        | RestoreError::Damaged { .. }
        | RestoreError::Differs(_)
        | RestoreError::Unfit { .. }
        | RestoreError::NotReadBack(_)
        | RestoreError::Place(_) => Failure::ours(error),
        RestoreError::Io { path, error } => unmade(&path, &error),
    }
}

fn in_json(restored: &Restored, accept_missing: bool) -> Value {
    let Restored { seq, root, lost, unproven, new_log_id, kept, .. } = restored;
    let mut printed = json!({ "seq": seq, "root": hex::encode(root) });
    if accept_missing || !lost.is_empty() {
        json::set(&mut printed, "lost", json!(lost));
        json::set(
            &mut printed,
            "new_log_id",
            json!(new_log_id.map(|id| uuid::Uuid::from_bytes(id).to_string())),
        );
    }
    if !unproven.is_empty() {
        json::set(&mut printed, "unproven", json!(unproven));
    }
    if *kept > 0 {
        json::set(&mut printed, "kept", json!(kept));
    }
    printed
}

/// Returns the number of records that are there.
pub(super) fn records(Restored { seq, lost, .. }: &Restored) -> u64 {
    seq - seqs_in(lost)
}

/// Says which records are lost, and what that means for those who hold proofs.
pub(super) fn losses(Restored { lost, unproven, new_log_id, .. }: &Restored) -> String {
    let mut lines: Vec<String> = lost
        .iter()
        .map(|(first, last)| match first == last {
            true => format!("record {first} is lost"),
            false => format!("records {first} to {last} are lost"),
        })
        .collect();
    lines.extend((!unproven.is_empty()).then(|| {
        format!(
            "{}: read from a damaged file, and nothing proves that they are what they were",
            seq_ranges(unproven)
        )
    }));
    lines.extend(new_log_id.map(|id| {
        format!(
            "THIS IS ANOTHER LOG: a lost record has no leaf either, or nothing proves a record, so \
             that the root could not stay. Its name is {}. Checkpoints and proofs of the log before \
             do not hold for it, and the next start makes a new key: give its public key to your \
             auditors",
            uuid::Uuid::from_bytes(id)
        )
    }));
    lines.iter().map(|line| format!("{line}\n")).collect()
}

/// Describes the outcome for people.
fn page(restored: &Restored, RestoreArgs { from, data, .. }: &RestoreArgs) -> String {
    let Restored { root, acknowledged, .. } = restored;
    let count = counted(records(restored), "record", "records");
    let compared = match acknowledged {
        Some(acknowledged) => format!("{acknowledged} were acknowledged"),
        None => format!("nothing in `{from}` says how many there were"),
    };
    format!(
        "{count} in `{}`; {compared}\n{}{}read back and verified: the tree has the root {}\n",
        data.display(),
        kept_line(restored.kept).map(|line| line + "\n").unwrap_or_default(),
        losses(restored),
        hex::encode(root)
    )
}
