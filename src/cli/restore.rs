//! `rollcall restore`

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::read::print::counted;
use super::verify::progress_bar;
use super::{Failure, print};
use crate::log::{RestoreError, Restored, restore};

/// Make a data folder from what `rollcall salvage` has taken out.
///
/// Reads every record of the archive and checks that none is missing and that they lead to the root
/// that was acknowledged; writes them into a new data folder, which keeps the log's name; reads
/// that back, and prints the newest record and the root of the tree. If a record is missing, names
/// it and makes no folder. The private key that signs checkpoints is not in an archive: put it into
/// the new folder, or start with `--checkpoint-key`.
#[derive(Args)]
#[command(after_help = "\
Exit codes: 0 if every record was restored, 1 if it could not start, 2 if records are missing or \
a file is damaged.

Examples:
  rollcall restore --from /var/lib/rollcall.salvaged --data /var/lib/rollcall.restored
  rollcall restore --from /mnt/salvaged --data /mnt/restored --json")]
pub(super) struct RestoreArgs {
    /// The folder with the segments of an archive
    #[arg(long, value_name = "FOLDER")]
    from: PathBuf,
    /// The data folder to make
    #[arg(long, value_name = "NEW")]
    data: PathBuf,
    /// Print one JSON object
    #[arg(long, help_heading = "Output")]
    json: bool,
}

impl RestoreArgs {
    pub(super) fn run(self) -> Result<(), Failure> {
        let bar = progress_bar(0);
        let restored = restore(&self.from, &self.data, &|seq| {
            bar.set_length(seq.max(bar.length().unwrap_or(0)));
            bar.set_position(seq);
        });
        bar.finish_and_clear();
        let restored = restored.map_err(failure)?;
        print(&if self.json {
            format!("{}\n", json!({ "seq": restored.seq, "root": hex::encode(restored.root) }))
        } else {
            page(&restored, &self)
        })
    }
}

fn failure(error: RestoreError) -> Failure {
    match error {
        RestoreError::Exists(_) | RestoreError::NotAnArchive(_) => {
            Failure::Caller(error.to_string())
        }
        RestoreError::Missing { .. }
        | RestoreError::Damaged { .. }
        | RestoreError::Differs(_)
        | RestoreError::Unfit { .. }
        | RestoreError::NotReadBack(_)
        | RestoreError::Io { .. } => Failure::ours(error),
    }
}

/// Describes the outcome for people.
fn page(restored: &Restored, RestoreArgs { from, data, .. }: &RestoreArgs) -> String {
    let Restored { seq, root, acknowledged } = restored;
    let count = counted(*seq, "record", "records");
    let compared = match acknowledged {
        Some(acknowledged) => format!("{acknowledged} were acknowledged"),
        None => format!("nothing in `{}` says how many there were", from.display()),
    };
    format!(
        "{count} in `{}`; {compared}\nread back and verified: the tree has the root {}\n",
        data.display(),
        hex::encode(root)
    )
}
