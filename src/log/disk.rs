//! A disk that takes no writes for now: it is full or read-only. Nothing is lost by that, so it is
//! told apart from damage.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rustix::fs::{StatVfs, StatVfsMountFlags};

use super::ReadError;
use crate::files;

/// The free space that is left on the disk by default, in bytes: events are refused before it is
/// used up.
pub const DISK_RESERVE_BYTES: u64 = 16 << 20;

/// A warning is logged while the free space is less than this many times the reserve.
const WARNING_RESERVES: u64 = 4;

/// The disk space that a commit may take for each byte of its bodies: sled writes a page again
/// when it has changed a few times.
pub(super) const WRITTEN_FOR_EACH_BYTE: u64 = 4;

/// The number of bytes that are written to see if the disk takes writes.
const PROBE_BYTES: usize = 4096;

/// The number of tries to read, and the pause after each: an error of the operating system may pass.
const READ_TRIES: u32 = 3;
const READ_PAUSE: Duration = Duration::from_millis(20);

/// Reads, and reads again if the operating system reports an error.
///
/// # Errors
/// That of the last try.
pub(super) fn read_again<T>(
    mut read: impl FnMut() -> Result<T, ReadError>,
) -> Result<T, ReadError> {
    for _ in 1..READ_TRIES {
        match read() {
            Err(ReadError::Disk { .. }) => thread::sleep(READ_PAUSE),
            done => return done,
        }
    }
    read()
}

/// Why a disk takes no writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskFault {
    /// It is full, or the quota of its user is used up.
    NoSpace,
    /// It is mounted read-only.
    ReadOnly,
}

impl DiskFault {
    /// Returns the fault that an error reports; `None` for an error that leaves doubt.
    pub(super) fn of(error: &io::Error) -> Option<DiskFault> {
        match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Some(DiskFault::NoSpace),
            ErrorKind::ReadOnlyFilesystem => Some(DiskFault::ReadOnly),
            _ => None,
        }
    }

    /// Says what is wrong with the disk of `folder`, and what to do.
    pub(super) fn message(self, folder: &Path) -> String {
        let folder = folder.display();
        match self {
            DiskFault::NoSpace => {
                format!("no space left in `{folder}`: nothing is lost; free some")
            }
            DiskFault::ReadOnly => {
                format!("`{folder}` is read-only: nothing is lost; mount it writable again")
            }
        }
    }
}

/// The space on the disk of a data folder, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskSpace {
    /// The space that is free.
    pub free: u64,
    /// The space below which events are refused.
    pub reserve: u64,
}

impl DiskSpace {
    /// Returns true while so little is free that it must be looked at.
    pub fn is_low(self) -> bool {
        self.free < self.reserve.saturating_mul(WARNING_RESERVES)
    }
}

/// The disk of a data folder, and the space on it that is kept free.
pub(super) struct Disk {
    folder: PathBuf,
    opened: File,
    reserve_bytes: u64,
    /// Set while little space is left, so that the warning is logged once.
    is_low: AtomicBool,
}

impl Disk {
    /// Watches the disk of `folder`. With a reserve of 0 only a read-only disk is noticed before a
    /// write fails.
    pub(super) fn of(folder: &Path, reserve_bytes: u64) -> io::Result<Disk> {
        let opened = File::open(folder)?;
        Ok(Disk {
            folder: folder.to_owned(),
            opened,
            reserve_bytes,
            is_low: AtomicBool::new(false),
        })
    }

    pub(super) fn message(&self, fault: DiskFault) -> String {
        fault.message(&self.folder)
    }

    /// Returns why the disk cannot take a batch of `bytes`; `None` if it can. Opens no file.
    pub(super) fn fault(&self, bytes: u64) -> Option<DiskFault> {
        // A file system that does not say how full it is gets every batch.
        let stat = rustix::fs::fstatvfs(&self.opened).ok()?;
        if stat.f_flag.contains(StatVfsMountFlags::RDONLY) {
            return Some(DiskFault::ReadOnly);
        }
        let free = free_bytes(&stat)?;
        self.warn_of_little(free);
        let needed = self.reserve_bytes.saturating_add(bytes * WRITTEN_FOR_EACH_BYTE);
        (self.reserve_bytes > 0 && free < needed).then_some(DiskFault::NoSpace)
    }

    /// Returns the space that is free; `None` if the file system does not say. Opens no file.
    pub(super) fn space(&self) -> Option<DiskSpace> {
        let free = free_bytes(&rustix::fs::fstatvfs(&self.opened).ok()?)?;
        Some(DiskSpace { free, reserve: self.reserve_bytes })
    }

    /// Logs once that little space is left, and again after there was more.
    fn warn_of_little(&self, free: u64) {
        let is_low = DiskSpace { free, reserve: self.reserve_bytes }.is_low();
        if self.is_low.swap(is_low, Ordering::Relaxed) || !is_low {
            return;
        }
        tracing::warn!(
            folder = %self.folder.display(),
            free_mib = free >> 20,
            "little disk space is left: events are refused once less than {} MiB are free; free \
            some",
            self.reserve_bytes >> 20
        );
    }

    /// Writes and syncs a few bytes, and takes them away again.
    pub(super) fn probe(&self) -> io::Result<()> {
        // The file says by being there that the store is open; its content means nothing.
        let file = files::open_or_create(&self.folder.join("unclean"))?;
        let length = file.metadata()?.len();
        file.write_all_at(&[0; PROBE_BYTES], length)?;
        file.sync_all()?;
        file.set_len(length)
    }
}

/// Returns the bytes that a user other than root may still write; `None` if the file system does
/// not say.
fn free_bytes(stat: &StatVfs) -> Option<u64> {
    (stat.f_blocks > 0).then(|| stat.f_bavail.saturating_mul(stat.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_gone_is_no_passing_error() {
        let of = |code| ReadError::of_disk(&io::Error::from_raw_os_error(code));
        for code in [4, 5, 12, 24] {
            assert_eq!(of(code), ReadError::Disk { code });
        }
        for code in [2, 20] {
            assert!(matches!(of(code), ReadError::Store(_)), "{code}");
        }
    }

    #[test]
    fn what_the_operating_system_refuses_is_read_again_and_damage_is_not() {
        let disk = ReadError::Disk { code: 5 };
        let damaged = ReadError::Damaged { seq: 1, what: "its bytes".into() };
        let cases = [
            (vec![Ok(7)], Ok(7), 1),
            (vec![Err(&disk), Err(&disk), Ok(7)], Ok(7), 3),
            (vec![Err(&disk), Err(&disk), Err(&disk), Ok(7)], Err(&disk), 3),
            (vec![Err(&damaged), Ok(7)], Err(&damaged), 1),
        ];
        for (answers, expected, tries) in cases {
            let mut tried = 0;
            let read = read_again(|| {
                tried += 1;
                match answers[tried - 1] {
                    Ok(read) => Ok(read),
                    Err(ReadError::Disk { code }) => Err(ReadError::Disk { code: *code }),
                    Err(_) => Err(ReadError::Damaged { seq: 1, what: "its bytes".into() }),
                }
            });
            assert_eq!((read.as_ref(), tried), (expected.as_ref().map_err(|error| *error), tries));
        }
    }
}
