//! Files at places where something else may be: a link, a pipe, a folder. They are opened so that
//! nothing else is read or written, and no other process is waited for.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;
use rustix::io::Errno;

/// Opens a file for reading. A link is not followed.
///
/// # Errors
/// If there is none, or something else is in its place.
pub fn open(path: &Path) -> io::Result<File> {
    open_as(path, File::options().read(true), OFlags::NOFOLLOW)
}

/// Opens a file for reading at a path that may be a link.
///
/// # Errors
/// If there is none, or something else is in its place.
pub fn open_linked(path: &Path) -> io::Result<File> {
    open_as(path, File::options().read(true), OFlags::empty())
}

/// Opens or creates a file for reading and writing. A link is not followed, since it may lead to a
/// file of others, and nothing is truncated. A new file is for its owner only.
///
/// # Errors
/// If something else is in its place.
pub fn open_or_create(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    open_as(path, &mut options, OFlags::NOFOLLOW)
}

/// Removes all that is in a folder but the files whose names `is_kept` chooses. Returns the names of
/// those. Links are removed and not followed.
///
/// # Errors
/// If the folder cannot be read, or something in it not be removed.
pub fn remove_all_but(
    folder: &Path,
    is_kept: impl Fn(&str) -> bool,
) -> io::Result<BTreeSet<String>> {
    let mut kept = BTreeSet::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let (name, kind) = (entry.file_name(), entry.file_type()?);
        match name.to_str().filter(|name| kind.is_file() && is_kept(name)) {
            Some(name) => {
                kept.insert(name.to_owned());
            }
            None if kind.is_dir() => fs::remove_dir_all(entry.path())?,
            None => fs::remove_file(entry.path())?,
        }
    }
    Ok(kept)
}

fn open_as(path: &Path, options: &mut OpenOptions, more: OFlags) -> io::Result<File> {
    let flags = OFlags::NONBLOCK | more;
    let opened = options.custom_flags(flags.bits().cast_signed()).open(path);
    let file =
        opened.map_err(|error| match error.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::LOOP) => not_a_file("a link"),
            // A pipe that no process reads, or a socket.
            Some(Errno::NXIO) => not_a_file("a pipe or a socket"),
            Some(Errno::ISDIR) => not_a_file("a folder"),
            _ => error,
        })?;
    let kind = file.metadata()?.file_type();
    match (kind.is_file(), kind.is_dir()) {
        (true, _) => Ok(file),
        (_, true) => Err(not_a_file("a folder")),
        _ => Err(not_a_file("a pipe or a device")),
    }
}

fn not_a_file(kind: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("it is {kind}, and not a file"))
}

/// Returns whether an error says that something else is in the place of a file.
pub fn is_not_a_file(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::InvalidInput && error.raw_os_error().is_none()
}

/// Syncs the folder in which a file or folder was created, renamed or removed.
///
/// # Errors
/// If it cannot be opened or synced.
pub(crate) fn sync_parent(path: &Path) -> io::Result<()> {
    File::open(folder_of(path))?.sync_all()
}

/// Returns the folder of a file or folder; that of a name alone is the current one.
pub(crate) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn only_files_are_opened_and_nothing_is_waited_for_or_written_through_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("file"), "x").unwrap();
        std::os::unix::fs::symlink(at("file"), at("link")).unwrap();
        std::os::unix::fs::symlink(at("missing"), at("dangling")).unwrap();
        fs::create_dir(at("folder")).unwrap();
        let _listener = UnixListener::bind(at("socket")).unwrap();
        let pipe = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, at("pipe"), pipe, 0o600.into(), 0).unwrap();
        for name in ["link", "dangling", "folder", "socket", "pipe"] {
            for opened in [open(&at(name)), open_or_create(&at(name))] {
                let error = opened.unwrap_err();
                assert!(is_not_a_file(&error), "{name}: {error}");
            }
        }
        assert!(!at("missing").exists(), "no file is made through a link");
        assert!(open_linked(&at("link")).is_ok());
        assert!(is_not_a_file(&open_linked(&at("pipe")).unwrap_err()));
        assert!(!is_not_a_file(&open(&at("missing")).unwrap_err()));
        assert!(open(&at("file")).is_ok() && open_or_create(&at("new")).is_ok());
        assert_eq!(fs::read(at("file")).unwrap(), b"x");
    }
}
