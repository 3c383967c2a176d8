//! Archives as arguments of commands: a folder, a bucket, or a backup in one file.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use indicatif::ProgressBar;

use super::Failure;
use super::config::{ACCESS_KEY_ID, ENDPOINT_URL, REGION, SECRET_ACCESS_KEY, SESSION_TOKEN};
use super::read::print::counted;
use super::secrets::first_secret;
use super::table::harmless;
use super::waiting::drawn;
use crate::archive::unpack;
use crate::log::{
    ArchivePlace, PlaceError, Progress, S3Access, Stage, UnfinishedFolder, unfinished_path,
};

/// The argument that means standard input or output.
pub(super) const STANDARD: &str = "-";

/// Returns what it takes to ask for a bucket, from the environment.
///
/// # Errors
/// The caller's, if a variable or its file cannot be used.
pub(super) fn s3_access() -> Result<S3Access, Failure> {
    Ok(S3Access {
        access_key_id: first_secret(&ACCESS_KEY_ID)?,
        secret_access_key: first_secret(&SECRET_ACCESS_KEY)?,
        session_token: first_secret(&SESSION_TOKEN)?,
        endpoint_url: first_secret(&ENDPOINT_URL)?,
        region: first_secret(&REGION)?,
    })
}

/// The progress of work on the records of a log.
pub(super) struct LogProgress {
    bar: ProgressBar,
    /// The folder that is made.
    folder: PathBuf,
}

impl LogProgress {
    /// Shows it on standard error, if that is a terminal. `folder` is made.
    pub(super) fn new(folder: &Path) -> LogProgress {
        let template = "{msg} {bar:40} {pos}/{len} records, {per_sec}, {eta} left";
        LogProgress { bar: drawn(ProgressBar::new(0), template), folder: folder.to_owned() }
    }

    pub(super) fn show(&self, progress: Progress<'_>) {
        match progress {
            Progress::At { stage, seq, of } => {
                let word = word(stage);
                if self.bar.message() != word {
                    self.bar.reset();
                    self.bar.set_message(word);
                }
                self.bar.set_length(of);
                self.bar.set_position(seq);
            }
            Progress::Removed { why } => {
                let path = unfinished_path(&self.folder);
                let line = format!(
                    "rollcall: what a run that did not end has left in `{}` was removed, and this \
                     one begins anew: {why}",
                    path.display()
                );
                self.bar.suspend(|| eprintln!("{}", harmless(&line)));
            }
        }
    }
}

impl Drop for LogProgress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

fn word(stage: Stage) -> &'static str {
    match stage {
        Stage::Kept => "checking what is there",
        Stage::Check => "checking",
        Stage::Write => "writing",
        Stage::ReadBack => "reading back",
    }
}

/// Says how many records were there already, if there were some.
pub(super) fn kept_line(kept: u64) -> Option<String> {
    let count = counted(kept, "record was", "records were");
    (kept > 0).then(|| format!("{count} there already from a run that did not end"))
}

/// Returns the failure for a file or a folder that cannot be read or made: the caller's if another
/// process makes it.
pub(super) fn unmade(path: &Path, error: &io::Error) -> Failure {
    let says = format!("`{}`: {error}", path.display());
    match error.kind() {
        io::ErrorKind::WouldBlock => Failure::Caller(says),
        _ => Failure::Ours(says),
    }
}

/// Says in a failure that a run of the same command goes on, if `folder` is there unfinished.
pub(super) fn with_beginning(failure: Failure, folder: &Path) -> Failure {
    let path = unfinished_path(folder);
    match failure {
        Failure::Ours(text) if path.is_dir() => Failure::Ours(format!(
            "{text}; `{}` keeps what was written, and the same command goes on with it",
            path.display()
        )),
        other => other,
    }
}

/// Names damaged files of archives on standard error, and what became of their records.
pub(super) fn warn_of(damaged: &[PlaceError], archives: &[OpenArchive], outcome: &str) {
    for PlaceError { at, what } in damaged {
        let line = format!("rollcall: `{at}` is damaged: {what}; {outcome}");
        eprintln!("{}", harmless(&as_given(line, archives)));
    }
}

/// Names the archives in a failure as the caller has given them.
pub(super) fn failure_as_given(failure: Failure, archives: &[OpenArchive]) -> Failure {
    match failure {
        Failure::Caller(text) => Failure::Caller(as_given(text, archives)),
        Failure::Ours(text) => Failure::Ours(as_given(text, archives)),
        other @ (Failure::Interrupted(_) | Failure::Unread) => other,
    }
}

fn as_given(text: String, archives: &[OpenArchive]) -> String {
    archives.iter().filter_map(|archive| archive.unpacked.as_ref()).fold(text, Unpacked::rename)
}

/// An archive that a command reads.
pub(super) struct OpenArchive {
    pub(super) place: ArchivePlace,
    unpacked: Option<Unpacked>,
}

/// The files of a backup that came as one file; removed at the end.
struct Unpacked {
    folder: UnfinishedFolder,
    /// What it came as, for messages.
    name: String,
}

impl Unpacked {
    /// Names the backup, and its files within it, in a text that names the folder.
    fn rename(text: String, Unpacked { folder, name }: &Unpacked) -> String {
        let folder = folder.path().display();
        let text = text.replace(&format!("`{folder}`"), name);
        let within = format!("`{folder}/");
        let mut parts = text.split(&within);
        let mut renamed = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let (file, rest) = part.split_once('`').unwrap_or((part, ""));
            renamed += &format!("`{file}` in {name}{rest}");
        }
        renamed.replace("another copy of the archive", "another copy of the backup")
    }
}

impl OpenArchive {
    /// Opens a folder, a bucket, a backup in a file, or one on standard input. The files of a backup
    /// are put next to `data`, which is to be made of them.
    ///
    /// # Errors
    /// The caller's, if there is nothing; ours, if a backup is cut off or damaged.
    pub(super) fn open(from: &str, data: &Path) -> Result<OpenArchive, Failure> {
        if from == STANDARD {
            return OpenArchive::unpacked(io::stdin().lock(), "standard input", data);
        }
        let place = ArchivePlace::parse(from, &s3_access()?)
            .map_err(|says| Failure::Caller(format!("--from: `{from}` {says}")))?;
        let ArchivePlace::Folder(path) = &place else {
            return Ok(OpenArchive { place, unpacked: None });
        };
        let unreadable = |error| Failure::Caller(format!("cannot read `{from}`: {error}"));
        if fs::metadata(path).map_err(unreadable)?.is_dir() {
            return Ok(OpenArchive { place, unpacked: None });
        }
        OpenArchive::unpacked(File::open(path).map_err(unreadable)?, &format!("`{from}`"), data)
    }

    fn unpacked(from: impl Read, name: &str, data: &Path) -> Result<OpenArchive, Failure> {
        let mut around = data.as_os_str().to_owned();
        around.push(".from");
        let folder = UnfinishedFolder::make(Path::new(&around))
            .map_err(|error| Failure::ours(format_args!("cannot unpack the backup: {error}")))?;
        unpack(from, folder.path(), &mut |_| {})
            .map_err(|error| Failure::Ours(format!("the backup in {name} {error}")))?;
        let place = ArchivePlace::Folder(folder.path().to_owned());
        Ok(OpenArchive { place, unpacked: Some(Unpacked { folder, name: name.to_owned() }) })
    }
}
