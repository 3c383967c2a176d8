//! Permissions of the data folder: 700 for folders and 600 for files, whatever the umask is.

use std::fs::{self, Metadata, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::fs::Mode;

/// The entries of a data folder that Rollcall makes. Others in the same folder are left alone.
const OWN_ENTRIES: [&str; 5] = ["store", "tree", "checkpoint", "lock", "unclean"];
/// The beginning of the names of the key's files.
const KEY_ENTRIES: &str = "checkpoint-key";

const OTHERS: u32 = 0o077;
/// The bit of a folder that many users share, such as `/tmp`.
const STICKY: u32 = 0o1000;

/// Creates `folder` if it is missing, and takes the permissions of other users from it and from
/// the files of Rollcall in it. From now on the process creates files for its owner only: the
/// store creates files at any time and does not set their mode.
///
/// # Errors
/// If the folder cannot be created or read. Permissions that cannot be changed, because another
/// user owns the folder, are logged.
pub(super) fn create_or_tighten(folder: &Path) -> io::Result<()> {
    rustix::process::umask(Mode::RWXG | Mode::RWXO);
    fs::create_dir_all(folder)?;
    let found = fs::metadata(folder)?;
    if found.permissions().mode() & STICKY != 0 {
        tracing::warn!(
            folder = %folder.display(),
            "the data folder is shared by several users and keeps its permissions: give Rollcall a \
            folder of its own with mode 700"
        );
        return Ok(());
    }
    let mut tightened = Tightened::default();
    tightened.take(folder, &found);
    tightened.take_entries(folder, |name| {
        OWN_ENTRIES.contains(&name) || name.starts_with(KEY_ENTRIES)
    })?;
    tightened.log(folder);
    Ok(())
}

/// The changes of permissions, for the log.
#[derive(Default)]
struct Tightened {
    changed: usize,
    failed: Option<io::Error>,
}

impl Tightened {
    fn take(&mut self, path: &Path, found: &Metadata) {
        let mode = found.permissions().mode() & 0o7777;
        if mode & OTHERS == 0 {
            return;
        }
        match fs::set_permissions(path, Permissions::from_mode(mode & !OTHERS)) {
            Ok(()) => self.changed += 1,
            Err(error) => self.failed = Some(error),
        }
    }

    /// Tightens the entries of a folder whose names are `wanted`, and all that is in them. Links
    /// are not followed: they may lead to what is not Rollcall's.
    fn take_entries(&mut self, folder: &Path, wanted: fn(&str) -> bool) -> io::Result<()> {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let path = entry.path();
            let found = match entry.metadata() {
                // The store of another process that uses the folder may remove its files.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                found => found?,
            };
            if found.is_symlink() || !wanted(&entry.file_name().to_string_lossy()) {
                continue;
            }
            self.take(&path, &found);
            if found.is_dir() {
                self.take_entries(&path, |_| true)?;
            }
        }
        Ok(())
    }

    fn log(self, folder: &Path) {
        if self.changed > 0 {
            tracing::warn!(
                folder = %folder.display(),
                changed = self.changed,
                "other users could read the data folder: it has mode 700 now, and its files 600"
            );
        }
        if let Some(error) = self.failed {
            tracing::warn!(
                folder = %folder.display(),
                %error,
                "other users may read the data folder, and its permissions cannot be changed: give \
                the folder to the user of this process, with mode 700"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    fn set(path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn files_that_are_not_rollcalls_and_shared_folders_keep_their_permissions() {
        let folder = tempfile::tempdir().unwrap();
        let (own, other) = (folder.path().join("checkpoint"), folder.path().join("notes.txt"));
        let link = folder.path().join("tree");
        for path in [&own, &other] {
            fs::write(path, "x").unwrap();
            set(path, 0o664);
        }
        std::os::unix::fs::symlink(&other, &link).unwrap();
        set(folder.path(), 0o1777);
        create_or_tighten(folder.path()).unwrap();
        assert_eq!([mode(folder.path()), mode(&own), mode(&other)], [0o1777, 0o664, 0o664]);
        set(folder.path(), 0o2775);
        create_or_tighten(folder.path()).unwrap();
        assert_eq!([mode(folder.path()), mode(&own), mode(&other)], [0o2700, 0o600, 0o664]);
    }
}
