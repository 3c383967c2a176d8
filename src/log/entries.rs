//! The entries of a data folder, as far as the kind of each matters: where a link, a pipe or a
//! folder has taken the place of a file, nothing must be read, written or waited for through it.

use std::fs::{self, FileType};
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use super::store::{StoreError, snapshots};

/// Files that a start does not make again if something else is in their place.
const FILES: [&str; 5] = ["lock", "unclean", "checkpoint", "answered", "store/db"];
/// The file whose presence says that the store was not closed. Nothing is in it.
const MARKER: &str = "unclean";
/// Files that a start makes again, or that it does without.
const DERIVED: [&str; 5] = ["store/conf", "tree/0", "tree/1", "tree/2", "tree/3"];
/// Folders. Each may be a link to one.
const FOLDERS: [&str; 3] = ["store", "store/blobs", "tree"];

/// Something in the place of a file or folder of Rollcall.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OddEntry {
    /// A sentence that names it.
    pub(super) what: String,
    pub(super) remedy: Remedy,
}

/// The way in which the right entry gets back to its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Remedy {
    /// The next start makes it again.
    Start,
    /// The operator removes the odd one. Nothing is lost.
    Removal,
    /// The operator puts back what was there, or removes the odd one.
    Copy,
}

/// Returns every entry of the data folder `folder` that is something else than it should be.
pub(super) fn odd_entries(folder: &Path) -> io::Result<Vec<OddEntry>> {
    let mut odd = Vec::new();
    for name in FOLDERS {
        if fs::symlink_metadata(folder.join(name)).is_ok() && !folder.join(name).is_dir() {
            let what = format!("`{name}` is not a folder");
            odd.push(OddEntry { what, remedy: Remedy::Copy });
        }
    }
    let snapshots = match fs::exists(folder.join("store"))? && folder.join("store").is_dir() {
        true => snapshots(&folder.join("store"))?,
        false => Vec::new(),
    };
    let derived = DERIVED.iter().map(|name| folder.join(name)).chain(snapshots);
    let files = FILES.iter().map(|name| (folder.join(name), false));
    for (path, is_derived) in files.chain(derived.map(|path| (path, true))) {
        let Ok(found) = fs::symlink_metadata(&path) else { continue };
        if !found.is_file() {
            let name = path.strip_prefix(folder).unwrap_or(&path).display();
            let what = format!("`{name}` is {}, and not a file", kind(found.file_type()));
            let remedy = match is_derived && !found.is_dir() {
                true => Remedy::Start,
                false if path == folder.join(MARKER) => Remedy::Removal,
                false => Remedy::Copy,
            };
            odd.push(OddEntry { what, remedy });
        }
    }
    Ok(odd)
}

fn kind(found: FileType) -> &'static str {
    match () {
        () if found.is_symlink() => "a link",
        () if found.is_dir() => "a folder",
        () if found.is_fifo() => "a pipe",
        () if found.is_socket() => "a socket",
        () => "a device",
    }
}

/// Refuses a folder with an entry that a start cannot replace.
pub(super) fn refuse_odd_entries(folder: &Path) -> Result<(), StoreError> {
    for OddEntry { what, remedy } in odd_entries(folder)? {
        let helps = match remedy {
            Remedy::Start => continue,
            Remedy::Removal => "remove it",
            Remedy::Copy => "put back what was there, or remove it",
        };
        let what = format!("{what}: {helps}");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, what).into());
    }
    Ok(())
}
