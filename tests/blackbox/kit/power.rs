//! A disk whose power can be cut: an ext4 file system in a file.

use std::fs::File;
use std::path::PathBuf;
use std::process::Command;

/// The size of the disk. The file has holes.
const DISK_BYTES: u64 = 512 << 20;

/// A mounted file system. Unmounted when dropped.
pub struct PoweredDisk {
    around: tempfile::TempDir,
}

fn succeeds(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}

impl PoweredDisk {
    /// Makes one; `None`, with a line on standard error, where this process may not mount files or
    /// has no C compiler.
    pub fn new() -> Option<PoweredDisk> {
        let disk = PoweredDisk { around: tempfile::tempdir().unwrap() };
        std::fs::create_dir(disk.folder()).unwrap();
        File::create(disk.image()).unwrap().set_len(DISK_BYTES).unwrap();
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/blackbox/kit/shutdown.c");
        let made = succeeds(Command::new("cc").arg(source).arg("-o").arg(disk.switch()))
            && succeeds(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(disk.image()))
            && disk.mount();
        if !made {
            eprintln!("skipped: a disk whose power can be cut needs root, mkfs.ext4 and `cc`");
        }
        made.then_some(disk)
    }

    fn image(&self) -> PathBuf {
        self.around.path().join("image")
    }

    fn switch(&self) -> PathBuf {
        self.around.path().join("switch")
    }

    fn folder(&self) -> PathBuf {
        self.around.path().join("disk")
    }

    /// A data folder on it.
    pub fn data(&self) -> PathBuf {
        self.folder().join("data")
    }

    fn mount(&self) -> bool {
        succeeds(Command::new("mount").args(["-o", "loop"]).args([self.image(), self.folder()]))
    }

    /// Cuts the power: what has not reached the disk never will.
    pub fn cut(&self) {
        assert!(succeeds(Command::new(self.switch()).arg(self.folder())));
    }

    /// Gives the power back. No process may use the disk.
    pub fn restore(&self) {
        assert!(succeeds(Command::new("umount").arg(self.folder())), "it is in use");
        assert!(self.mount());
    }
}

impl Drop for PoweredDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.folder()).output();
    }
}
