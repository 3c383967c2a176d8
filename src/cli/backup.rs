//! `rollcall backup`

use std::io::{self, IsTerminal, Read, Write};
use std::path::Path;

use clap::Args;
use serde_json::json;

use super::archives::STANDARD;
use super::client::{Client, without_secrets};
use super::read::listing::refused;
use super::read::print::counted;
use super::read::source::ServerArgs;
use super::restore::{failure, losses, records};
use super::verify::progress_bar;
use super::{Failure, print, unwritten};
use crate::archive::unpack;
use crate::log::{ArchivePlace, Restored, UnfinishedFolder, check_archive};

const PATH: &str = "/rollcall/v1/backup";

/// The bytes that are copied to standard output at once.
const COPIED_BYTES: usize = 64 << 10;

/// Copy the log of a running server, while it goes on.
///
/// The copy has every record that was durable when it began, the public keys, and nothing secret. It
/// is an archive: `rollcall restore` restores it into a new data folder, and any tool reads it. The
/// key needs the scopes `operate` and `audit`, and is bound to no organization. A folder gets its
/// name once all is in it, read back, and checked up to the root of the tree.
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
        let copied = to_folder(&server.client()?, Path::new(&out))?;
        print(&if json { in_json(&copied) } else { page(&copied, &out) })
    }
}

fn in_json(Restored { seq, root, lost, .. }: &Restored) -> String {
    let root = hex::encode(root);
    let copied = match lost.is_empty() {
        true => json!({ "seq": seq, "root": root }),
        false => json!({ "seq": seq, "root": root, "lost": lost }),
    };
    format!("{copied}\n")
}

/// Describes the outcome for people.
fn page(copied: &Restored, out: &str) -> String {
    let count = counted(records(copied), "record", "records");
    let (lost, root) = (losses(copied), hex::encode(copied.root));
    format!("{count} in `{out}`\n{lost}read back and verified: the tree has the root {root}\n")
}

fn to_standard_output(client: &Client) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    if out.is_terminal() {
        let says = "--out -: standard output is a terminal; write it into a file or a pipe";
        return Err(Failure::Caller(says.into()));
    }
    fetch(client, |_, body| {
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
    let unmade = |error: io::Error| Failure::Ours(format!("cannot make `{shown}`: {error}"));
    let folder = UnfinishedFolder::make(out).map_err(unmade)?;
    fetch(client, |records, body| {
        let bar = progress_bar(records);
        let unpacked = unpack(body, folder.path(), &mut |seq| bar.set_position(seq));
        bar.finish_and_clear();
        let server = without_secrets(&client.base);
        unpacked.map_err(|error| Failure::Ours(format!("the backup from `{server}` {error}")))
    })?;
    let place = ArchivePlace::Folder(folder.path().to_owned());
    let checked = check_archive(&place, &|_| {}).map_err(failure)?;
    folder.finish().map_err(unmade)?;
    Ok(checked)
}

/// Asks for a backup, and gives `take` the number of its records and its bytes.
fn fetch(
    client: &Client,
    take: impl FnOnce(u64, &mut dyn Read) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut answer = client.post_for_body(PATH)?;
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
