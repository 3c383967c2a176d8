//! The targets to which checkpoints are published, so that a third party holds them.

use std::fmt;
use std::fs::{self, File, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rollcall_projections::Seq;
use ureq::tls::{RootCerts, TlsConfig};

use super::note::{NOTE_BYTES_MAX, Note, NoteError};
use crate::files;

/// The time within which a receiver must answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);

const EXTENSION: &str = "checkpoint";

/// A target: a folder or a URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PublishTarget {
    /// A folder with one file for each checkpoint, named by its size in 20 digits.
    Folder(PathBuf),
    /// A URL to which each checkpoint is posted.
    Url(String),
}

/// Why a checkpoint was not published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The folder cannot be read or written.
    #[error("`{path}`: {error}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The error of the operating system.
        error: io::Error,
    },
    /// The latest file there is not a checkpoint that this log's keys have signed.
    #[error("`{path}` is not a checkpoint of this log: {error}")]
    Foreign {
        /// The file.
        path: PathBuf,
        /// Why it is refused.
        error: NoteError,
    },
    /// The receiver did not take it.
    #[error("{0}")]
    Refused(String),
}

impl PublishTarget {
    /// Reads a target. A text that begins with `http://` or `https://` is a URL, any other a
    /// folder.
    pub fn parse(text: &str) -> PublishTarget {
        let is_url = ["http://", "https://"].iter().any(|scheme| text.starts_with(scheme));
        if is_url {
            PublishTarget::Url(text.to_owned())
        } else {
            PublishTarget::Folder(text.into())
        }
    }

    /// Returns the last checkpoint published there, with its file. From a URL it cannot be read
    /// back.
    ///
    /// # Errors
    /// If the folder or the file cannot be read, or holds something else.
    pub fn last(&self) -> Result<Option<(PathBuf, Note)>, PublishError> {
        let PublishTarget::Folder(folder) = self else { return Ok(None) };
        let names = fs::read_dir(folder).map_err(|error| io_error(folder, error))?;
        let mut last: Option<PathBuf> = None;
        for entry in names {
            let entry = entry.map_err(|error| io_error(folder, error))?;
            let path = entry.path();
            // Only a regular file is one: opening a pipe would wait for its writer.
            let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
            if is_file && is_checkpoint(&path) && last.as_ref().is_none_or(|last| *last < path) {
                last = Some(path);
            }
        }
        let Some(path) = last else { return Ok(None) };
        let mut bytes = Vec::new();
        let file = files::open(&path).map_err(|error| io_error(&path, error))?;
        file.take(NOTE_BYTES_MAX as u64 + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| io_error(&path, error))?;
        match Note::parse(&bytes) {
            Ok(note) => Ok(Some((path, note))),
            Err(error) => Err(PublishError::Foreign { path, error }),
        }
    }

    /// Returns true if checkpoints are posted to it over TLS.
    pub fn is_https(&self) -> bool {
        matches!(self, PublishTarget::Url(url) if url.starts_with("https://"))
    }

    /// Publishes a checkpoint. In a folder it appears whole, and never replaces another file. A
    /// receiver over https must have a certificate that one of `authorities` signed.
    ///
    /// # Errors
    /// If the file cannot be written, or the receiver does not answer with 2xx in time.
    pub fn put(&self, size: Seq, note: &str, authorities: &RootCerts) -> Result<(), PublishError> {
        match self {
            PublishTarget::Folder(folder) => write_once(folder, &file_name(size), note),
            PublishTarget::Url(url) => post(url, note, authorities),
        }
    }
}

/// Leaves out what may be secret: user, password and query.
impl fmt::Display for PublishTarget {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PublishTarget::Folder(folder) => write!(formatter, "{}", folder.display()),
            PublishTarget::Url(url) => {
                let url = url.parse::<ureq::http::Uri>().unwrap_or_default();
                let authority = url
                    .authority()
                    .map_or("", |authority| authority.as_str().rsplit('@').next().unwrap_or(""));
                write!(
                    formatter,
                    "{}://{authority}{}",
                    url.scheme_str().unwrap_or("http"),
                    url.path()
                )
            }
        }
    }
}

fn io_error(path: &Path, error: io::Error) -> PublishError {
    PublishError::Io { path: path.to_owned(), error }
}

/// Returns the name of a checkpoint's file: its size in 20 digits, so that names sort by size.
pub(crate) fn file_name(size: Seq) -> String {
    format!("{size:020}.{EXTENSION}")
}

/// Returns whether a file has the name of a checkpoint.
pub(crate) fn is_checkpoint(path: &Path) -> bool {
    let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or("");
    path.extension().is_some_and(|extension| extension == EXTENSION)
        && stem.len() == 20
        && stem.bytes().all(|byte| byte.is_ascii_digit())
}

fn write_once(folder: &Path, name: &str, note: &str) -> Result<(), PublishError> {
    let path = folder.join(name);
    write_synced(folder, &path, note).map_err(|error| io_error(&path, error))
}

fn write_synced(folder: &Path, path: &Path, note: &str) -> io::Result<()> {
    let mut file = tempfile::Builder::new().prefix(".").tempfile_in(folder)?;
    // Published checkpoints are for others to read, whatever the umask is.
    file.as_file().set_permissions(Permissions::from_mode(0o644))?;
    file.write_all(note.as_bytes())?;
    file.as_file().sync_all()?;
    file.persist_noclobber(path).map_err(|error| error.error)?;
    File::open(folder)?.sync_all()
}

fn post(url: &str, note: &str, authorities: &RootCerts) -> Result<(), PublishError> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(ANSWER_WITHIN))
        .tls_config(TlsConfig::builder().root_certs(authorities.clone()).build())
        .build()
        .into();
    let sent = agent.post(url).header("Content-Type", "text/plain; charset=utf-8").send(note);
    match sent {
        Ok(response) if response.status().is_success() => Ok(()),
        Ok(response) => Err(PublishError::Refused(format!(
            "the receiver answered with {}",
            response.status().as_u16()
        ))),
        Err(error) => Err(PublishError::Refused(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_never_overwritten_and_the_latest_checkpoint_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let place = PublishTarget::parse(folder.path().to_str().unwrap());
        assert!(place.last().unwrap().is_none());
        let key = ed25519_dalek::SigningKey::from_bytes(&[1; 32]);
        let note = |size| {
            let checkpoint =
                super::super::note::Checkpoint { origin: "rollcall/a".into(), size, root: [7; 32] };
            super::super::note::sign(&checkpoint, &[&key])
        };
        for size in [9, 10, 100] {
            place.put(size, &note(size), &RootCerts::WebPki).unwrap();
            assert_eq!(place.last().unwrap().unwrap().1.claims().size, size);
        }
        assert!(
            matches!(place.put(10, &note(11), &RootCerts::WebPki), Err(PublishError::Io { .. })),
            "nothing is overwritten"
        );
        // Other files there are ignored.
        for name in [
            "README",
            "99999999999999999999.txt",
            "999.checkpoint",
            "9999999999999999999x.checkpoint",
            ".00000000000000000999.checkpoint",
        ] {
            fs::write(folder.path().join(name), "x").unwrap();
        }
        assert_eq!(place.last().unwrap().unwrap().1.claims().size, 100);
        fs::write(folder.path().join("00000000000000000101.checkpoint"), "x").unwrap();
        assert!(matches!(place.last(), Err(PublishError::Foreign { .. })));
    }

    #[test]
    fn a_pipe_in_the_folder_is_ignored_and_never_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join(file_name(7));
        let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
        assert!(made.success());
        let place = PublishTarget::parse(folder.path().to_str().unwrap());
        assert!(place.last().unwrap().is_none());
        assert!(files::open(&pipe).is_err());
    }

    #[test]
    fn a_url_is_shown_without_what_may_be_secret() {
        let shown = PublishTarget::parse(
            "https://user:secret@auditor.example:8443/checkpoints?token=secret",
        )
        .to_string();
        assert_eq!(shown, "https://auditor.example:8443/checkpoints");
    }
}
