//! The key that signs checkpoints, and the files that hold it.
//!
//! The order of writes is the design:
//! 1. the next key is written to `<file>.next` and synced;
//! 2. the log records the event that names it;
//! 3. the checkpoint that ends with the event is signed by both keys, written and synced;
//! 4. `<file>.next` is renamed to `<file>`.
//!
//! Whatever a crash leaves, the log's last event of a key decides which of the two files counts,
//! and until the checkpoint with both signatures is on the disk both private keys are.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use ed25519_dalek::SigningKey;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{DecodePrivateKey, EncodePrivateKey, KeypairBytes};
use zeroize::{Zeroize, Zeroizing};

use super::note::{Verifier, VerifierError};
use crate::files;

/// The most that is read of a key file or a public key. Both are much shorter.
const FILE_BYTES_MAX: u64 = 16 << 10;

/// Why the checkpoint key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The disk reports an error.
    #[error("the checkpoint key `{path}` cannot be used: {error}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        error: io::Error,
    },
    /// The file does not hold a key.
    #[error("`{0}` is not an Ed25519 key in PEM (PKCS#8); put the right file back")]
    Malformed(PathBuf),
    /// The file of the public key does not hold a public key of this log.
    #[error(
        "`{path}` is not a public key of this log: {what}; put the right file back, or, if the \
        private key is this log's own, remove this file: the next start writes it anew"
    )]
    Public {
        /// The file.
        path: PathBuf,
        /// A description of the fault.
        what: String,
    },
    /// The file is missing.
    #[error(
        "the checkpoint key `{path}` is missing, and this log's checkpoints are signed by \
        `{expected}`; put the file back, or give its path with --checkpoint-key, or, if it is \
        lost, start once with --replace-checkpoint-key: auditors must then get the new key"
    )]
    Lost {
        /// The file.
        path: PathBuf,
        /// The public key of the log.
        expected: String,
    },
    /// The file holds another key.
    #[error(
        "the checkpoint key `{path}` is `{found}`, and this log's checkpoints are signed by \
        `{expected}`; put the right file back, or, if it is lost, move this one away and start \
        once with --replace-checkpoint-key: auditors must then get the new key"
    )]
    Exchanged {
        /// The file.
        path: PathBuf,
        /// The public key of the file.
        found: String,
        /// The public key of the log.
        expected: String,
    },
    /// The operating system gives no random bytes.
    #[error("a checkpoint key cannot be made: {0}")]
    Random(getrandom::Error),
    /// The log did not record that the key is replaced.
    #[error("the checkpoint key was not replaced, because the log did not record it; try again")]
    Unrecorded,
    /// The log may or may not name the key of the last change.
    #[error(
        "an earlier change left its key in `{0}`, and the log may name it; restart the server first"
    )]
    Pending(PathBuf),
}

/// A private key, wiped when it is dropped.
pub(super) struct PrivateKey {
    pub(super) signing: SigningKey,
}

impl PrivateKey {
    /// Makes a new key from the operating system's random bytes.
    pub(super) fn make() -> Result<PrivateKey, KeyError> {
        let mut seed = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *seed).map_err(KeyError::Random)?;
        Ok(PrivateKey { signing: SigningKey::from_bytes(&seed) })
    }

    /// Returns its public key, under a log's name.
    pub(super) fn verifier(&self, origin: &str) -> Verifier {
        Verifier::new(origin, self.signing.verifying_key())
    }

    /// Reads a key file; `None` if there is none.
    pub(super) fn read(path: &Path) -> Result<Option<PrivateKey>, KeyError> {
        let io_error = |error| KeyError::Io { path: path.to_owned(), error };
        let file = match files::open_linked(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io_error(error)),
        };
        let mut pem = Zeroizing::new(String::new());
        file.take(FILE_BYTES_MAX).read_to_string(&mut pem).map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData => KeyError::Malformed(path.to_owned()),
            _ => io_error(error),
        })?;
        let signing =
            SigningKey::from_pkcs8_pem(&pem).map_err(|_| KeyError::Malformed(path.to_owned()))?;
        Ok(Some(PrivateKey { signing }))
    }

    /// Writes a key file that only its owner may read, over any other, and syncs it.
    pub(super) fn write(&self, path: &Path) -> Result<(), KeyError> {
        let io_error = |error| KeyError::Io { path: path.to_owned(), error };
        // With the public key the file would be of the second version of PKCS#8, which OpenSSL does
        // not read.
        let mut pair = KeypairBytes { secret_key: self.signing.to_bytes(), public_key: None };
        let pem =
            pair.to_pkcs8_pem(LineEnding::LF).map_err(|_| KeyError::Malformed(path.to_owned()));
        pair.secret_key.zeroize();
        write_synced(path, pem?.as_bytes(), 0o600).map_err(io_error)
    }
}

/// Warns if others than its owner may read a key file. A start reads it several times, and warns once.
pub(super) fn warn_of_readers(path: &Path) {
    let Ok(found) = fs::metadata(path) else { return };
    let mode = found.permissions().mode();
    if mode & 0o077 != 0 {
        tracing::warn!(
            path = %path.display(),
            mode = format!("{:o}", mode & 0o777),
            "others may read the checkpoint key; run chmod 600 on it"
        );
    }
}

/// Writes a file under another name, syncs it, and renames it, so that it is never found in part.
pub(super) fn write_synced(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let part = with_suffix(path, ".part");
    // A file left by a crash may be readable for others.
    remove(&part)?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&part)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    rename(&part, path)
}

/// Appends a suffix to the name of a file.
pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut path = path.to_owned().into_os_string();
    path.push(suffix);
    path.into()
}

/// Removes the partial file that a crash left.
pub(super) fn remove_part(path: &Path) -> Result<(), KeyError> {
    let part = with_suffix(path, ".part");
    remove(&part).map_err(|error| KeyError::Io { path: part, error })
}

/// Renames a file and syncs its folder.
pub(super) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    files::sync_parent(to)
}

/// Follows links, also to a file that does not exist yet: a file renamed to this path must not
/// replace the link.
pub(super) fn resolved(path: PathBuf) -> PathBuf {
    match (fs::canonicalize(&path), fs::read_link(&path)) {
        (Ok(found), _) => found,
        (Err(_), Ok(target)) => {
            path.parent().map_or_else(|| target.clone(), |folder| folder.join(&target))
        }
        (Err(_), Err(_)) => path,
    }
}

/// Removes a file if it exists.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Reads a public key, `name+hash+key` on the first line of a file; `None` if there is none.
pub(super) fn read_public(path: &Path) -> Result<Option<Verifier>, KeyError> {
    let wrong = |what: String| KeyError::Public { path: path.to_owned(), what };
    let file = match files::open_linked(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) if files::is_not_a_file(&error) => return Err(wrong(error.to_string())),
        Err(error) => return Err(KeyError::Io { path: path.to_owned(), error }),
    };
    let mut text = String::new();
    file.take(FILE_BYTES_MAX)
        .read_to_string(&mut text)
        .map_err(|error| wrong(error.to_string()))?;
    Verifier::parse(text.trim_end())
        .map(Some)
        .map_err(|error: VerifierError| wrong(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_file_is_readable_by_its_owner_only_and_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        assert!(PrivateKey::read(&path).unwrap().is_none());
        let key = PrivateKey::make().unwrap();
        key.write(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(PrivateKey::read(&path).unwrap().unwrap().verifier("a"), key.verifier("a"));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no other file is left");
    }

    #[test]
    fn a_key_of_openssl_is_read() {
        // RFC 8410, section 10.3, as `openssl genpkey -algorithm ed25519` writes it too.
        let pem = "-----BEGIN PRIVATE KEY-----\n\
            MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n\
            -----END PRIVATE KEY-----\n";
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        fs::write(&path, pem).unwrap();
        let key = PrivateKey::read(&path).unwrap().unwrap();
        // The same section's public key.
        assert_eq!(
            hex::encode(key.signing.verifying_key()),
            "19bf44096984cdfe8541bac167dc3b96c85086aa30b6b6cb0c5c38ad703166e1"
        );
        key.write(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), pem);
        fs::write(&path, "-----BEGIN PRIVATE KEY-----\n").unwrap();
        assert!(matches!(PrivateKey::read(&path), Err(KeyError::Malformed(_))));
    }
}
