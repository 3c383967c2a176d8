//! `rollcall backup`

use std::cell::Cell;
use std::io::{self, IsTerminal, Read, Write};
use std::path::Path;

use clap::Args;
use rollcall_projections::Seq;
use serde_json::json;

use super::archives::{LogProgress, STANDARD, kept_line, unmade, with_beginning};
use super::client::{Client, without_secrets};
use super::read::listing::refused;
use super::read::print::counted;
use super::read::source::ServerArgs;
use super::restore::{failure, losses, records};
use super::{Failure, print, unwritten};
use crate::archive::unpack;
use crate::json;
use crate::log::{
    ArchivePlace, BegunBackup, Progress, Restored, Stage, UnfinishedFolder, check_archive,
};

const PATH: &str = "/rollcall/v1/backup";
const CHECKPOINT_PATH: &str = "/rollcall/v1/log/checkpoint";

/// The bytes that are copied to standard output at once.
const COPIED_BYTES: usize = 64 << 10;

/// Copy the log of a running server, while it goes on.
///
/// The copy has every record that was durable when it began, the public keys, and nothing secret. It
/// is an archive: `rollcall restore` restores it into a new data folder, and any tool reads it. The
/// key needs the scopes `operate` and `audit`, and is bound to no organization. A folder gets its
/// name once all is in it, read back, and checked up to the root of the tree. Until then it is
/// called DIR.unfinished; if the backup breaks off, the same command goes on with what is there. A
/// backup to standard output cannot be gone on with.
#[derive(Args)]
#[command(after_help = "\
Exit codes: 0 if all was copied, 1 if it could not be begun, 2 if it broke off or is damaged.

Examples:
  rollcall backup --out /var/backups/rollcall-2026-11-30
  rollcall backup --out - | ssh backups 'cat > rollcall.tar'")]
pub(super) struct BackupArgs {
    /// The folder to make, or - for one file in the format of tar on standard output
    #[arg(long, value_name = "DIR|-")]
    out: String,
    /// Print one JSON object; not with --out -
    #[arg(long, help_heading = "Output")]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

impl BackupArgs {
    pub(super) fn run(self) -> Result<(), Failure> {
        let BackupArgs { out, json, server } = self;
        if out == STANDARD {
            if json {
                return Err(Failure::Caller("--json: standard output takes the backup".into()));
            }
            return to_standard_output(&server.client()?);
        }
        let path = Path::new(&out);
        let copied = to_folder(&server.client()?, path);
        let copied = copied.map_err(|failure| with_beginning(failure, path))?;
        print(&if json { in_json(&copied) } else { page(&copied, &out) })
    }
}

fn in_json(Restored { seq, root, lost, kept, .. }: &Restored) -> String {
    let mut copied = json!({ "seq": seq, "root": hex::encode(root) });
    if !lost.is_empty() {
        json::set(&mut copied, "lost", json!(lost));
    }
    if *kept > 0 {
        json::set(&mut copied, "kept", json!(kept));
    }
    format!("{copied}\n")
}

/// Describes the outcome for people.
fn page(copied: &Restored, out: &str) -> String {
    let count = counted(records(copied), "record", "records");
    let kept = kept_line(copied.kept).map(|line| line + "\n").unwrap_or_default();
    let (lost, root) = (losses(copied), hex::encode(copied.root));
    format!(
        "{count} in `{out}`\n{kept}{lost}read back and verified: the tree has the root {root}\n"
    )
}

fn to_standard_output(client: &Client) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    if out.is_terminal() {
        let says = "--out -: standard output is a terminal; write it into a file or a pipe";
        return Err(Failure::Caller(says.into()));
    }
    fetch(client, 0, |_, body| {
        let mut bytes = vec![0; COPIED_BYTES];
        loop {
            let count = body.read(&mut bytes).map_err(|error| broke_off(client, &error))?;
            let copied = bytes.get(..count).unwrap_or_default();
            if copied.is_empty() {
                return out.flush().map_err(|error| cut_off(&error));
            }
            out.write_all(copied).map_err(|error| cut_off(&error))?;
        }
    })
}

/// Returns the failure of a write. A reader that has left has not the whole backup.
fn cut_off(error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::BrokenPipe => {
            Failure::Ours("the reader of standard output has left before the end".into())
        }
        _ => unwritten(error),
    }
}

fn to_folder(client: &Client, out: &Path) -> Result<Restored, Failure> {
    let shown = out.display();
    if std::fs::symlink_metadata(out).is_ok() {
        return Err(Failure::Caller(format!("`{shown}` is there already; name a new folder")));
    }
    let unmade = |error: io::Error| unmade(out, &error);
    let mut folder = UnfinishedFolder::resume(out).map_err(unmade)?;
    let progress = LogProgress::new(out);
    let begun = BegunBackup::find(folder.path(), &|at| progress.show(at)).map_err(failure)?;
    let after = begun.seq();
    folder.keep(after > 0);
    if after > 0 {
        must_have(client, &begun, folder.path())?;
    }
    begun.remove_others().map_err(unmade)?;
    let reached = Cell::new(after);
    let fetched = fetch(client, after, |records, body| {
        let unpacked = unpack(body, folder.path(), &mut |seq| {
            reached.set(seq);
            progress.show(Progress::At { stage: Stage::Write, seq, of: records });
        });
        let server = without_secrets(&client.base);
        unpacked.map_err(|error| Failure::Ours(format!("the backup from `{server}` {error}")))
    });
    folder.keep(reached.get() > 0);
    fetched?;
    let place = ArchivePlace::Folder(folder.path().to_owned());
    let checked =
        begun.complete_list().and_then(|()| check_archive(&place, &|at| progress.show(at)));
    let checked = checked.map_err(|error| {
        folder.keep(error.leaves_a_beginning());
        failure(error)
    })?;
    folder.finish().map_err(unmade)?;
    Ok(Restored { kept: after, ..checked })
}

/// Checks that a server's log begins with the records that an earlier run has copied.
fn must_have(client: &Client, begun: &BegunBackup, path: &Path) -> Result<(), Failure> {
    let seq = begun.seq();
    let answer = client.get(&format!("{CHECKPOINT_PATH}?size={seq}"))?;
    let has = match answer.status {
        200 => begun.is_in(&String::from_utf8_lossy(&answer.body)),
        // It has fewer records.
        422 => false,
        _ => return Err(refused(&answer, client, "")),
    };
    if has {
        return Ok(());
    }
    Err(Failure::Caller(format!(
        "`{}` was left by a backup that did not end, and the log of `{}` does not begin with the {} \
         in it; remove it, or name another folder with --out",
        path.display(),
        without_secrets(&client.base),
        counted(seq, "record", "records")
    )))
}

/// Asks for a backup of the records behind `after`, and gives `take` the number of all records and
/// the bytes.
fn fetch(
    client: &Client,
    after: Seq,
    take: impl FnOnce(u64, &mut dyn Read) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let path = if after > 0 { format!("{PATH}?after_seq={after}") } else { PATH.to_owned() };
    let mut answer = client.post_for_body(&path)?;
    if answer.status() != 200 {
        return Err(refused(&client.answer(answer)?, client, ""));
    }
    let records = answer.headers().get("rollcall-backup-records");
    let records = records.and_then(|count| count.to_str().ok()?.parse().ok());
    match records.ok_or_else(Failure::unexpected_answer)? {
        0 => Err(Failure::Caller("the log has no records: there is nothing to copy".into())),
        records => take(records, &mut answer.body_mut().with_config().limit(u64::MAX).reader()),
    }
}

fn broke_off(client: &Client, error: &io::Error) -> Failure {
    let server = without_secrets(&client.base);
    Failure::Ours(format!("the backup from `{server}` broke off: {error}"))
}
