//! The key that signs checkpoints, and the files that hold it.
//!
//! The order of writes is the design. A key is written to `<file>.next` and synced; then the log
//! takes the event that names it; then the checkpoint that ends with the event is signed by both
//! keys, written and synced; then the file is renamed. Whatever a crash leaves, the log's last
//! event of a key says which of the two files counts, and as long as the second signature is not on
//! the disk both private keys are.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use ed25519_dalek::SigningKey;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{DecodePrivateKey, EncodePrivateKey, KeypairBytes};
use zeroize::{Zeroize, Zeroizing};

use super::note::{Verifier, VerifierError};

/// A key file and a public key are much shorter.
const FILE_BYTES_MAX: u64 = 16 << 10;

/// Why there is no key to sign with.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The disk refuses.
    #[error("the checkpoint key `{path}` cannot be used: {error}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// The file holds something else.
    #[error("`{0}` is no Ed25519 key in PEM (PKCS#8); put the right file back")]
    Malformed(PathBuf),
    /// The public key beside the store is none.
    #[error("`{path}` is no public key of this log: {what}; put the right file back")]
    Public {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The file is gone.
    #[error(
        "the checkpoint key `{path}` is missing, and this log's checkpoints are signed by `{expected}`; put the file back, or give its place with \
         --checkpoint-key, or, if it is lost, start once with --replace-checkpoint-key: auditors will have to be told the new key"
    )]
    Lost {
        /// Where it should be.
        path: PathBuf,
        /// The public key that it should have.
        expected: String,
    },
    /// The file holds another key.
    #[error(
        "the checkpoint key `{path}` is `{found}`, and this log's checkpoints are signed by `{expected}`; put the right file back, or, if it is lost, \
         move this one away and start once with --replace-checkpoint-key: auditors will have to be told the new key"
    )]
    Exchanged {
        /// The file.
        path: PathBuf,
        /// The public key that it has.
        found: String,
        /// The public key that it should have.
        expected: String,
    },
    /// The operating system gives no random bytes.
    #[error("no key can be made: {0}")]
    Random(getrandom::Error),
    /// The key was to be replaced, and the log did not take the event that says so.
    #[error(
        "the checkpoint key could not be replaced, because the log did not record it: try again"
    )]
    Unrecorded,
    /// Nobody knows whether the log names the key of the last change.
    #[error(
        "the key of an earlier change waits in `{0}`, and the log may name it: start the server again first"
    )]
    Pending(PathBuf),
}

/// A private key, wiped when it is dropped.
pub(super) struct Key {
    pub(super) signing: SigningKey,
}

impl Key {
    /// A new key, from the operating system's random bytes.
    pub(super) fn make() -> Result<Key, KeyError> {
        let mut seed = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *seed).map_err(KeyError::Random)?;
        Ok(Key { signing: SigningKey::from_bytes(&seed) })
    }

    /// Its public key, under a log's name.
    pub(super) fn verifier(&self, origin: &str) -> Verifier {
        Verifier::new(origin, self.signing.verifying_key())
    }

    /// Reads a key file; `None` if there is none. Whoever else may read it is told of in the log.
    pub(super) fn read(path: &Path) -> Result<Option<Key>, KeyError> {
        let io_error = |error| KeyError::Io { path: path.to_owned(), error };
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io_error(error)),
        };
        let mode = file.metadata().map_err(io_error)?.permissions().mode();
        if mode & 0o077 != 0 {
            tracing::warn!(path = %path.display(), mode = format!("{:o}", mode & 0o777), "others may read the checkpoint key: chmod 600 it");
        }
        let mut pem = Zeroizing::new(String::new());
        file.take(FILE_BYTES_MAX).read_to_string(&mut pem).map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData => KeyError::Malformed(path.to_owned()),
            _ => io_error(error),
        })?;
        let signing =
            SigningKey::from_pkcs8_pem(&pem).map_err(|_| KeyError::Malformed(path.to_owned()))?;
        Ok(Some(Key { signing }))
    }

    /// Writes a key file for its owner alone, in the place of whatever is there, and syncs it.
    pub(super) fn write(&self, path: &Path) -> Result<(), KeyError> {
        let io_error = |error| KeyError::Io { path: path.to_owned(), error };
        // Without the public key: with it the file would be of the second version of PKCS#8, which
        // OpenSSL does not read.
        let mut pair = KeypairBytes { secret_key: self.signing.to_bytes(), public_key: None };
        let pem =
            pair.to_pkcs8_pem(LineEnding::LF).map_err(|_| KeyError::Malformed(path.to_owned()));
        pair.secret_key.zeroize();
        write_synced(path, pem?.as_bytes(), 0o600).map_err(io_error)
    }
}

/// Writes a file beside its place, syncs it, and moves it there: whoever finds it finds all of it.
pub(super) fn write_synced(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let part = beside(path, ".part");
    // What a crash left there may be readable for others.
    remove(&part)?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&part)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    rename(&part, path)
}

/// The path with something behind its name.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut path = path.to_owned().into_os_string();
    path.push(suffix);
    path.into()
}

/// Removes what a crash left of a file that was being written.
pub(super) fn remove_part(path: &Path) -> Result<(), KeyError> {
    let part = beside(path, ".part");
    remove(&part).map_err(|error| KeyError::Io { path: part, error })
}

/// Moves a file, and syncs that it moved.
pub(super) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    sync_parent(to)
}

/// Syncs the folder in which something was made, moved or removed.
pub(super) fn sync_parent(path: &Path) -> io::Result<()> {
    let folder =
        path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

/// Where a file is once links are followed, also where the link leads to a file that is not there
/// yet: what is renamed to its place must not take the place of the link.
pub(super) fn resolved(path: PathBuf) -> PathBuf {
    match (fs::canonicalize(&path), fs::read_link(&path)) {
        (Ok(found), _) => found,
        (Err(_), Ok(target)) => {
            path.parent().map_or_else(|| target.clone(), |folder| folder.join(&target))
        }
        (Err(_), Err(_)) => path,
    }
}

/// Removes a file, if it is there.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Reads a public key, `name+hash+key` on the first line of a file; `None` if there is none.
pub(super) fn read_public(path: &Path) -> Result<Option<Verifier>, KeyError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(KeyError::Io { path: path.to_owned(), error }),
    };
    let mut text = String::new();
    let wrong = |what: String| KeyError::Public { path: path.to_owned(), what };
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
    fn a_key_file_is_its_owners_alone_and_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        assert!(Key::read(&path).unwrap().is_none());
        let key = Key::make().unwrap();
        key.write(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(Key::read(&path).unwrap().unwrap().verifier("a"), key.verifier("a"));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn a_key_of_openssl_is_read() {
        // RFC 8410, section 10.3, as `openssl genpkey -algorithm ed25519` writes it too.
        let pem = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n-----END PRIVATE KEY-----\n";
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        fs::write(&path, pem).unwrap();
        let key = Key::read(&path).unwrap().unwrap();
        // The same section's public key.
        assert_eq!(
            hex::encode(key.signing.verifying_key()),
            "19bf44096984cdfe8541bac167dc3b96c85086aa30b6b6cb0c5c38ad703166e1"
        );
        key.write(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), pem);
        fs::write(&path, "-----BEGIN PRIVATE KEY-----\n").unwrap();
        assert!(matches!(Key::read(&path), Err(KeyError::Malformed(_))));
    }
}
