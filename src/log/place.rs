//! The place of an archive: a folder, or a part of a bucket of S3. Files appear there whole, and none
//! is ever overwritten.

use std::fmt;
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::frame;
pub use super::s3::S3Access;
use super::s3::{S3_SCHEME, S3Folder};
use crate::files;

/// The most bytes of a file that are read.
pub(crate) const FILE_BYTES_MAX: u64 = 128 << 20;

/// The beginning of the names of files that are being written.
const UNFINISHED: &str = ".unfinished-";

/// The name of a file in a listing, and its size in bytes if the listing has it, as that of a bucket
/// does.
pub(crate) type ListedFile = (String, Option<u64>);

/// A folder on a disk, or in a bucket of S3.
#[derive(Clone)]
pub enum ArchivePlace {
    /// On a disk.
    Folder(PathBuf),
    /// In a bucket.
    S3(Box<S3Folder>),
}

/// A place that cannot be read or written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{at}`: {what}")]
pub struct PlaceError {
    /// The file or folder.
    pub at: String,
    /// What is wrong, without secrets.
    pub what: String,
}

impl ArchivePlace {
    /// Reads a place: a text that begins with `s3://` is a bucket and a prefix, any other a folder.
    ///
    /// # Errors
    /// A sentence that says what it must be, or what is missing to ask for it.
    pub fn parse(text: &str, access: &S3Access) -> Result<ArchivePlace, String> {
        match text.strip_prefix(S3_SCHEME) {
            Some(rest) => {
                S3Folder::parse(rest, access).map(|folder| ArchivePlace::S3(Box::new(folder)))
            }
            None => Ok(ArchivePlace::Folder(text.into())),
        }
    }

    /// Returns what is wrong with the form of a place, and with a folder that is not there.
    pub fn fault(text: &str) -> Option<&'static str> {
        match text.strip_prefix(S3_SCHEME) {
            Some(rest) => S3Folder::split(rest).err(),
            None if Path::new(text).is_dir() => None,
            None => Some("is not a folder"),
        }
    }

    /// Returns the folder of this name in it. Nothing is made.
    pub fn within(&self, name: &str) -> ArchivePlace {
        match self {
            ArchivePlace::Folder(folder) => ArchivePlace::Folder(folder.join(name)),
            ArchivePlace::S3(folder) => ArchivePlace::S3(Box::new(folder.within(name))),
        }
    }

    /// Returns the place of a file in it, for messages.
    pub fn located(&self, name: &str) -> String {
        match self {
            ArchivePlace::Folder(folder) => folder.join(name).display().to_string(),
            ArchivePlace::S3(folder) => format!("{folder}/{name}"),
        }
    }

    /// Returns the last part of its path.
    pub(crate) fn name(&self) -> String {
        let text = self.to_string();
        text.rsplit('/').next().unwrap_or_default().to_owned()
    }

    fn failed(&self, name: &str, error: impl fmt::Display) -> PlaceError {
        let at = if name.is_empty() { self.to_string() } else { self.located(name) };
        PlaceError { at, what: error.to_string() }
    }

    /// Lists the names of the files in it, in no order. A folder that is missing has none.
    ///
    /// # Errors
    /// If it cannot be listed.
    pub fn files(&self) -> Result<Vec<String>, PlaceError> {
        Ok(self.list()?.into_iter().map(|(name, _)| name).collect())
    }

    /// Lists the files in it, in no order.
    ///
    /// # Errors
    /// If it cannot be listed.
    pub(crate) fn list(&self) -> Result<Vec<ListedFile>, PlaceError> {
        match self {
            ArchivePlace::Folder(folder) => {
                let names = entries(folder, fs::FileType::is_file);
                let names = names.map_err(|error| self.failed("", error))?;
                Ok(names.into_iter().map(|name| (name, None)).collect())
            }
            ArchivePlace::S3(folder) => match folder.list() {
                Ok(listed) => Ok(listed.files),
                Err(error) => Err(self.failed("", error)),
            },
        }
    }

    /// Returns what is wrong with a file of one frame of zstd, as far as its size and its head tell.
    /// In a bucket a file is never in part, and only one that is empty by its listing is wrong.
    ///
    /// # Errors
    /// If it cannot be read.
    pub(crate) fn frame_fault(
        &self,
        name: &str,
        listed_bytes: Option<u64>,
    ) -> Result<Option<&'static str>, PlaceError> {
        let ArchivePlace::Folder(folder) = self else {
            return Ok((listed_bytes == Some(0)).then_some(frame::EMPTY));
        };
        let file = match files::open_linked(&folder.join(name)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Some("it is gone")),
            Err(error) => return Err(self.failed(name, error)),
        };
        frame::fault(&file).map_err(|error| self.failed(name, error))
    }

    /// Lists the names of the folders in it, in no order. A folder that is missing has none.
    ///
    /// # Errors
    /// If it cannot be listed.
    pub fn folders(&self) -> Result<Vec<String>, PlaceError> {
        match self {
            ArchivePlace::Folder(folder) => {
                entries(folder, fs::FileType::is_dir).map_err(|error| self.failed("", error))
            }
            ArchivePlace::S3(folder) => match folder.list() {
                Ok(listed) => Ok(listed.folders),
                Err(error) => Err(self.failed("", error)),
            },
        }
    }

    /// Reads a file; `None` if there is none.
    ///
    /// # Errors
    /// If it cannot be read, or is larger than any file of an archive.
    pub fn read(&self, name: &str) -> Result<Option<Vec<u8>>, PlaceError> {
        match self {
            ArchivePlace::Folder(folder) => {
                read_file(&folder.join(name)).map_err(|error| self.failed(name, error))
            }
            ArchivePlace::S3(folder) => folder.read(name).map_err(|error| self.failed(name, error)),
        }
    }

    /// Makes a file that is synced and has all of `bytes`, and the folder if only that is missing.
    /// Returns false, and changes nothing, if there is a file of that name.
    ///
    /// # Errors
    /// If it cannot be written. A bucket may have it all the same.
    pub fn create(&self, name: &str, bytes: &[u8]) -> Result<bool, PlaceError> {
        match self {
            ArchivePlace::Folder(folder) => {
                create_file(folder, name, bytes).map_err(|error| self.failed(name, error))
            }
            ArchivePlace::S3(folder) => {
                folder.create(name, bytes).map_err(|error| self.failed(name, error))
            }
        }
    }

    /// Removes what a process that was killed left unfinished in it. No other process may write
    /// there.
    ///
    /// # Errors
    /// If the folder cannot be read or written.
    pub fn remove_unfinished(&self) -> Result<(), PlaceError> {
        let ArchivePlace::Folder(folder) = self else { return Ok(()) };
        for name in self.files()?.iter().filter(|name| name.starts_with(UNFINISHED)) {
            fs::remove_file(folder.join(name)).map_err(|error| self.failed(name, error))?;
        }
        Ok(())
    }
}

/// Shows it without secrets.
impl fmt::Display for ArchivePlace {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ArchivePlace::Folder(folder) => write!(formatter, "{}", folder.display()),
            ArchivePlace::S3(folder) => write!(formatter, "{folder}"),
        }
    }
}

fn entries(folder: &Path, is_wanted: impl Fn(&fs::FileType) -> bool) -> io::Result<Vec<String>> {
    let listed = match fs::read_dir(folder) {
        Ok(listed) => listed,
        Err(error)
            if [io::ErrorKind::NotFound, io::ErrorKind::NotADirectory].contains(&error.kind()) =>
        {
            return Ok(Vec::new());
        }
        Err(error) => return Err(error),
    };
    let mut names = Vec::new();
    for entry in listed {
        let entry = entry?;
        if is_wanted(&entry.file_type()?) {
            names.extend(entry.file_name().into_string());
        }
    }
    Ok(names)
}

fn read_file(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = match files::open_linked(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(io::Error::other("it is larger than any file of an archive"));
    }
    Ok(Some(bytes))
}

fn create_file(folder: &Path, name: &str, bytes: &[u8]) -> io::Result<bool> {
    match fs::DirBuilder::new().mode(0o700).create(folder) {
        Ok(()) => files::sync_parent(folder)?,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error),
    }
    let mut file = tempfile::Builder::new().prefix(UNFINISHED).tempfile_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    let path = folder.join(name);
    match file.persist_noclobber(&path) {
        Ok(_) => files::sync_parent(&path).map(|()| true),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error.error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(mut names: Vec<String>) -> Vec<String> {
        names.sort();
        names
    }

    #[test]
    fn a_file_is_made_whole_and_never_overwritten_and_what_is_unfinished_goes() {
        let root = tempfile::tempdir().unwrap();
        let place = ArchivePlace::Folder(root.path().to_owned());
        let part = place.within("a");
        assert_eq!((part.files(), part.read("x")), (Ok(Vec::new()), Ok(None)));
        assert_eq!(part.create("x", b"one"), Ok(true));
        assert_eq!(part.create("x", b"two"), Ok(false));
        assert_eq!(part.read("x"), Ok(Some(b"one".to_vec())));
        fs::write(root.path().join("a/.unfinished-7"), "half").unwrap();
        part.remove_unfinished().unwrap();
        assert_eq!(part.files(), Ok(vec!["x".to_owned()]));
        assert_eq!(part.within("b").create("y", b""), Ok(true));
        assert_eq!(place.within("c").create("y", b""), Ok(true));
        assert_eq!(sorted(place.folders().unwrap()), ["a", "c"]);
        assert_eq!(part.folders(), Ok(vec!["b".to_owned()]));
        let error = place.within("no").within("such").create("y", b"").unwrap_err();
        assert!(error.to_string().contains("no/such/y"), "{error}");
    }
}
