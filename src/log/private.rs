//! Permissions of the data folder: 700 for folders and 600 for files, whatever the umask is.

use std::ffi::CStr;
use std::fs::{self, File, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use rustix::fs::{Dir, Mode, OFlags};
use rustix::io::Errno;

use super::store::StoreError;

/// The entries of a data folder that Rollcall makes. Others in the same folder are left alone.
const OWN_ENTRIES: [&str; 9] = [
    "store",
    "tree",
    "checkpoint",
    "answered",
    "lock",
    "unclean",
    "pull-cursor",
    "snapshot",
    "snapshot.new",
];
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
/// If the folder cannot be created or read, or its owner could not read what this process creates
/// in it. Permissions that cannot be changed, because another user owns the folder, are logged.
pub(super) fn create_or_tighten(folder: &Path) -> Result<(), StoreError> {
    create(folder)?;
    refuse_folder_of_another(folder)?;
    let opened = File::open(folder)?;
    let found = opened.metadata()?;
    if found.permissions().mode() & STICKY != 0 {
        tracing::warn!(
            folder = %folder.display(),
            "the data folder is shared by several users and keeps its permissions: give Rollcall a \
            folder of its own with mode 700"
        );
        return Ok(());
    }
    let mut tightened = Tightened::default();
    tightened.take(&opened, &found);
    tightened.take_entries(&opened, |name| {
        OWN_ENTRIES.contains(&name) || name.starts_with(KEY_ENTRIES)
    })?;
    tightened.log(folder);
    Ok(())
}

/// Refuses a folder whose owner could not read what this process creates in it. One that is missing
/// is not refused.
///
/// # Errors
/// If the folder cannot be looked at, or as said.
pub(super) fn refuse_folder_of_another(folder: &Path) -> Result<(), StoreError> {
    let found = match fs::metadata(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found?,
    };
    // A store that root has always used stays usable for root in the folder of another user.
    let owner = fs::symlink_metadata(folder.join("store")).map_or(found.uid(), |store| store.uid());
    if is_locked_out(owner, rustix::process::geteuid().as_raw()) {
        return Err(StoreError::OfUser(owner));
    }
    Ok(())
}

/// Creates the data folder for its owner only, and missing folders around it as the umask says:
/// they are not Rollcall's.
fn create(folder: &Path) -> io::Result<()> {
    if let Some(around) = folder.parent() {
        fs::create_dir_all(around)?;
    }
    rustix::process::umask(Mode::RWXG | Mode::RWXO);
    fs::create_dir_all(folder)
}

/// Returns whether the user `owner` could not read files that a process of the user `user` creates
/// for itself. Only root can create files in a folder that is another user's alone.
fn is_locked_out(owner: u32, user: u32) -> bool {
    user == 0 && owner != 0
}

/// Opens an entry of a folder, whatever kind of file it is. A link is not followed, also if it
/// takes the place of a file in this moment.
fn open_entry(folder: &File, name: &CStr) -> Result<File, Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    rustix::fs::openat(folder, name, flags, Mode::empty()).map(File::from)
}

/// The changes of permissions, for the log.
#[derive(Default)]
struct Tightened {
    changed: usize,
    failed: Option<io::Error>,
}

impl Tightened {
    fn take(&mut self, opened: &File, found: &Metadata) {
        let mode = found.permissions().mode() & 0o7777;
        if mode & OTHERS == 0 {
            return;
        }
        match opened.set_permissions(Permissions::from_mode(mode & !OTHERS)) {
            Ok(()) => self.changed += 1,
            Err(error) => self.failed = Some(error),
        }
    }

    /// Tightens the entries of a folder whose names are `wanted`, and all that is in them. Links
    /// are not followed: they may lead to what is not Rollcall's.
    fn take_entries(&mut self, folder: &File, wanted: fn(&str) -> bool) -> io::Result<()> {
        for entry in Dir::read_from(folder)? {
            let entry = entry?;
            let name = entry.file_name();
            if [c".", c".."].contains(&name) || !wanted(&name.to_string_lossy()) {
                continue;
            }
            let opened = match open_entry(folder, name) {
                // The entry is a link, or the store of another process has removed it.
                Err(Errno::LOOP | Errno::NOENT) => continue,
                Err(error) => {
                    self.failed = Some(error.into());
                    continue;
                }
                Ok(opened) => opened,
            };
            let found = opened.metadata()?;
            self.take(&opened, &found);
            if found.is_dir() {
                self.take_entries(&opened, |_| true)?;
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

    #[test]
    fn only_root_in_the_folder_of_another_user_locks_its_owner_out() {
        for (owner, user, expected) in
            [(0, 0, false), (1000, 1000, false), (1000, 0, true), (0, 1000, false), (1, 2, false)]
        {
            assert_eq!(is_locked_out(owner, user), expected, "{owner} {user}");
        }
    }

    #[test]
    fn root_changes_nothing_in_the_folder_of_another_user() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let [data, store] = ["data", "data/store"].map(|name| folder.path().join(name));
        fs::create_dir_all(&store).unwrap();
        set(&data, 0o755);
        for [of_data, of_store] in [[1000, 1000], [0, 1000]] {
            std::os::unix::fs::chown(&data, Some(of_data), None).unwrap();
            std::os::unix::fs::chown(&store, Some(of_store), None).unwrap();
            assert!(matches!(create_or_tighten(&data), Err(StoreError::OfUser(1000))));
            assert_eq!(mode(&data), 0o755);
        }
        std::os::unix::fs::chown(&data, Some(1000), None).unwrap();
        std::os::unix::fs::chown(&store, Some(0), None).unwrap();
        create_or_tighten(&data).unwrap();
        fs::remove_dir(&store).unwrap();
        assert!(matches!(create_or_tighten(&data), Err(StoreError::OfUser(1000))));
    }

    #[test]
    fn a_link_that_takes_the_place_of_a_file_leads_to_no_other_file() {
        let folder = tempfile::tempdir().unwrap();
        let [own, other, link] =
            ["checkpoint", "notes.txt", "link"].map(|name| folder.path().join(name));
        for path in [&own, &other] {
            fs::write(path, "x").unwrap();
            set(path, 0o664);
        }
        let around = File::open(folder.path()).unwrap();
        let opened = open_entry(&around, c"checkpoint").unwrap();
        std::os::unix::fs::symlink(&other, &link).unwrap();
        fs::rename(&link, &own).unwrap();
        let mut tightened = Tightened::default();
        tightened.take(&opened, &opened.metadata().unwrap());
        assert_eq!([opened.metadata().unwrap().mode() & 0o7777, mode(&other)], [0o600, 0o664]);
        assert_eq!(open_entry(&around, c"checkpoint").unwrap_err(), Errno::LOOP);
        assert_eq!(tightened.changed, 1);
    }
}
