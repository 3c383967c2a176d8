//! Folders that get their name once everything is in them.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, flock};
use rustix::io::Errno;

use crate::files;

/// A folder that is being filled. It is removed when it is dropped, unless it was named or is kept
/// for another run.
pub struct UnfinishedFolder {
    path: PathBuf,
    named: PathBuf,
    is_kept: bool,
    /// Locked while this process fills it, so that the next one tells what a kill left behind.
    _lock: File,
}

impl UnfinishedFolder {
    /// Makes the folder `NAMED.unfinished`, with mode 700. From now on the process makes
    /// files and folders for their owner only. What a killed process left behind in it is removed.
    ///
    /// # Errors
    /// If another process fills it, or it cannot be made.
    pub fn make(named: &Path) -> io::Result<UnfinishedFolder> {
        let folder = UnfinishedFolder::resume(named)?;
        folder.clear()?;
        Ok(folder)
    }

    /// Takes over the folder `NAMED.unfinished` with what a killed process left in it, or makes it
    /// as [`UnfinishedFolder::make`] does.
    ///
    /// # Errors
    /// If another process fills it, something else has its name, or it cannot be made.
    pub fn resume(named: &Path) -> io::Result<UnfinishedFolder> {
        let path = unfinished_path(named);
        // All that is made in it is for its owner only, whatever the umask is.
        rustix::process::umask(Mode::RWXG | Mode::RWXO);
        match fs::symlink_metadata(&path) {
            Ok(found) if found.is_dir() => {
                fs::set_permissions(&path, fs::Permissions::from_mode(0o700))?;
            }
            Ok(_) => {
                let what = format!("`{}` is not a folder; remove it", path.display());
                return Err(io::Error::new(io::ErrorKind::AlreadyExists, what));
            }
            Err(_) => fs::DirBuilder::new().mode(0o700).create(&path)?,
        }
        let lock = lock(&path)?;
        Ok(UnfinishedFolder { path, named: named.to_owned(), is_kept: false, _lock: lock })
    }

    /// Returns its path for now.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns whether nothing is in it.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn is_empty(&self) -> io::Result<bool> {
        Ok(fs::read_dir(&self.path)?.next().is_none())
    }

    /// Removes all that is in it.
    ///
    /// # Errors
    /// If something cannot be removed.
    pub fn clear(&self) -> io::Result<()> {
        files::remove_all_but(&self.path, |_| false).map(drop)
    }

    /// Decides if it stays when it is dropped, so that another run goes on with what is in it.
    pub fn keep(&mut self, is_kept: bool) {
        self.is_kept = is_kept;
    }

    /// Syncs it and gives it its name.
    ///
    /// # Errors
    /// If there is a file of that name by now, or a folder with something in it.
    pub fn finish(self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()?;
        fs::rename(&self.path, &self.named)?;
        files::sync_parent(&self.named)
    }
}

impl Drop for UnfinishedFolder {
    fn drop(&mut self) {
        // It is not there if it was named. Otherwise an error was reported that says more.
        if !self.is_kept {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// Returns the path that a folder has until it gets its name.
pub fn unfinished_path(named: &Path) -> PathBuf {
    let mut name = named.as_os_str().to_owned();
    name.push(".unfinished");
    PathBuf::from(name)
}

/// Locks a folder, and sees that it still has its path.
fn lock(path: &Path) -> io::Result<File> {
    let other = || {
        let what = format!("another process fills `{}`; wait for its end", path.display());
        io::Error::new(io::ErrorKind::WouldBlock, what)
    };
    let folder = File::open(path)?;
    match flock(&folder, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => return Err(other()),
        Err(error) => return Err(error.into()),
    }
    let is_there = fs::metadata(path).is_ok_and(|found| {
        folder.metadata().is_ok_and(|held| (held.dev(), held.ino()) == (found.dev(), found.ino()))
    });
    if is_there { Ok(folder) } else { Err(other()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_gets_its_name_at_the_end_and_what_a_kill_left_is_removed_but_not_of_another() {
        let around = tempfile::tempdir().unwrap();
        let named = around.path().join("new");
        let unfinished = UnfinishedFolder::make(&named).unwrap();
        fs::write(unfinished.path().join("x"), "x").unwrap();
        let refused = UnfinishedFolder::make(&named).err().unwrap();
        assert!(refused.to_string().contains("another process"), "{refused}");
        assert!(unfinished.path().join("x").exists() && !named.exists());
        unfinished.finish().unwrap();
        assert!(named.join("x").exists());

        let other = around.path().join("other");
        drop(UnfinishedFolder::make(&other).unwrap());
        assert_eq!(fs::read_dir(around.path()).unwrap().count(), 1, "one that fails is removed");
        // As a kill leaves it.
        fs::create_dir(around.path().join("other.unfinished")).unwrap();
        fs::write(around.path().join("other.unfinished/half"), "x").unwrap();
        let mut unfinished = UnfinishedFolder::make(&other).unwrap();
        assert!(unfinished.is_empty().unwrap());
        fs::write(unfinished.path().join("part"), "x").unwrap();
        unfinished.keep(true);
        drop(unfinished);
        let mut unfinished = UnfinishedFolder::resume(&other).unwrap();
        assert!(unfinished.path().join("part").exists(), "it is there for another run");
        unfinished.keep(false);
        drop(unfinished);
        // A link is never followed.
        std::os::unix::fs::symlink(around.path(), around.path().join("other.unfinished")).unwrap();
        assert!(UnfinishedFolder::resume(&other).is_err());
        assert!(named.join("x").exists());
    }
}
