//! A small disk that a test can fill: a tmpfs of its own.

use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;

/// A mounted file system of a few MiB. Unmounted when dropped.
pub struct SmallDisk {
    folder: tempfile::TempDir,
}

impl SmallDisk {
    /// Mounts one; `None`, with a line on standard error, where this process may not mount.
    pub fn mount(mib: u32) -> Option<SmallDisk> {
        let folder = tempfile::tempdir().unwrap();
        let size = format!("size={mib}m");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "rollcall-test"])
            .arg(folder.path())
            .output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(SmallDisk { folder });
        }
        eprintln!("skipped: mounting a small disk needs root, with CAP_SYS_ADMIN");
        None
    }

    /// The folder at which it is mounted.
    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// A data folder on it.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn filler(&self) -> PathBuf {
        self.folder.path().join("filler")
    }

    /// Takes all the space that is left.
    pub fn fill(&self) {
        let mut filler = File::create(self.filler()).unwrap();
        for bytes in [1 << 20, 4096] {
            while filler.write_all(&vec![1; bytes]).is_ok() {}
        }
    }

    /// Gives the space back.
    pub fn free(&self) {
        fs::remove_file(self.filler()).unwrap();
    }

    /// Mounts it again with other options. Fails while files are open for writing.
    pub fn remount(&self, options: &str) {
        let options = format!("remount,{options}");
        let status =
            Command::new("mount").args(["-o", &options]).arg(self.folder.path()).status().unwrap();
        assert!(status.success());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.folder.path()).status();
    }
}
