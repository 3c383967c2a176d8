//! A log that goes on as another one. A copy of it has records that it lacks, so that its next ones
//! must not get their numbers under the same id: every record is written anew under another id, and
//! the store before is kept.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rollcall_projections::{Millis, Seq};

use super::archive::ArchivedRecord;
use super::filling::Filling;
use super::open::OpenError;
use super::receipt::lost_leaf;
use super::stopped::StoppedFolder;
use super::store::{self, StoreError};
use super::unfinished::UnfinishedFolder;
use super::{BATCH_BYTES_MAX, BATCH_EVENTS_MAX, History, Record};

/// The folder in the data folder that holds the new store until it has replaced the one before.
const FORK: &str = "fork";
/// The file in it that names the log before.
const FORMER: &str = "former-log-id";

/// What the log before had and the new one has anew. The store is the last to move.
const MOVED: [&str; 8] = [
    "checkpoint-key",
    "checkpoint-key.next",
    "checkpoint-key.pub",
    "checkpoint-key.handovers",
    "unclean",
    "tree",
    "checkpoint",
    "store",
];

/// Why a log does not go on as another one. Nothing was changed, or the next start finishes it.
#[derive(Debug, thiserror::Error)]
pub enum ForkError {
    /// The folder, or the new one in it, does not open.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A record cannot be kept as its receipt says.
    #[error("record {seq} cannot be written under another id: {what}")]
    Unfit {
        /// The record.
        seq: Seq,
        /// A description of the fault.
        what: String,
    },
    /// A file cannot be read or written.
    #[error("`{path}`: {error}")]
    Io {
        /// The folder.
        path: PathBuf,
        /// The error of the operating system.
        error: io::Error,
    },
}

/// Writes every record of the log in `data` anew, under another id. The store, the tree and the keys
/// before are kept in `data/forked-ID`. Needs as much space as the store has. Returns the name of
/// that folder. `progress` gets the last seq seen, from time to time.
///
/// # Errors
/// [`ForkError`].
pub fn fork(data: &Path, progress: &dyn Fn(Seq)) -> Result<PathBuf, ForkError> {
    let io_error = |error| ForkError::Io { path: data.to_owned(), error };
    let log = StoppedFolder::open(data)?.recover(progress)?;
    let former = uuid::Uuid::from_bytes(log.identity().log_id).to_string();
    let unfinished = UnfinishedFolder::make(&data.join(FORK)).map_err(io_error)?;
    let store_error = |error: StoreError| ForkError::Open(OpenError::of(error, unfinished.path()));
    let log_id = uuid::Uuid::new_v4().into_bytes();
    let first =
        log.read(0, 1, 0).map_err(|error| ForkError::Unfit { seq: 1, what: error.to_string() })?;
    let recorded_at = first.first().map_or(Millis::MIN, |first| first.recorded_at);
    let filling = Filling::begin(unfinished.path(), log_id, recorded_at);
    let mut filling = filling.map_err(store_error)?;
    let mut last = 0;
    while last < log.head() {
        let unfit = |seq| move |what| ForkError::Unfit { seq, what };
        let records = log
            .read(last, BATCH_EVENTS_MAX, BATCH_BYTES_MAX)
            .map_err(|error| unfit(last + 1)(error.to_string()))?;
        // Lost records are left out of what is read.
        let until = records.last().map_or(log.head(), |record| record.seq);
        let mut records = records.into_iter().peekable();
        for seq in last + 1..=until {
            let put = match records.next_if(|record| record.seq == seq) {
                Some(record) => filling.put(ArchivedRecord::from(&Record { log_id, ..record })),
                None => filling.put_lost(lost_leaf(log_id, seq)),
            };
            put.map_err(|error| unfit(seq)(error.to_string()))?;
        }
        last = until;
        progress(last);
    }
    let unfit = |what| ForkError::Unfit { seq: last, what };
    filling.write().map_err(|error| unfit(error.to_string()))?;
    filling.write_lost().map_err(|error| unfit(error.to_string()))?;
    filling.finish(unfinished.path()).map_err(store_error)?;
    let written = StoppedFolder::open(unfinished.path())?.recover(progress)?;
    if written.head() != log.head() {
        return Err(unfit("it is not read back".into()));
    }
    drop(written);
    write_synced(&unfinished.path().join(FORMER), &former).map_err(io_error)?;
    unfinished.finish().map_err(io_error)?;
    // The lock is held until all is in place.
    let kept = move_into_place(data).map_err(io_error)?;
    drop(log);
    Ok(kept.unwrap_or_else(|| data.to_owned()))
}

/// Finishes what [`fork`] began and a crash broke off.
///
/// # Errors
/// If the folder is in use, or a file cannot be moved.
pub fn finish_fork(data: &Path) -> Result<(), OpenError> {
    if !data.join(FORK).join(FORMER).exists() {
        return Ok(());
    }
    let lock = store::take_existing_lock(data).map_err(|error| OpenError::of(error, data))?;
    let moved = move_into_place(data).map_err(|error| OpenError::io(data.to_owned(), error));
    drop(lock);
    moved.map(drop)
}

/// Moves the store before out of the way, and then the new one to its place. Each half may be broken
/// off and begun again.
fn move_into_place(data: &Path) -> io::Result<Option<PathBuf>> {
    let fork = data.join(FORK);
    let former = match fs::read_to_string(fork.join(FORMER)) {
        Ok(former) => former,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let kept = data.join(format!("forked-{}", former.trim()));
    if !kept.join("store").exists() {
        fs::create_dir_all(&kept)?;
        move_all(data, &kept)?;
    }
    if fork.join("store").exists() {
        move_all(&fork, data)?;
    }
    fs::remove_dir_all(&fork)?;
    Ok(Some(kept))
}

fn move_all(from: &Path, to: &Path) -> io::Result<()> {
    for name in MOVED {
        match fs::rename(from.join(name), to.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    File::open(to)?.sync_all()?;
    File::open(from)?.sync_all()
}

fn write_synced(path: &Path, text: &str) -> io::Result<()> {
    fs::write(path, text)?;
    File::open(path)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::{Log, Unrecovered};
    use crate::verify::{Keyring, Verified};
    use rollcall_generator::sign;

    const NOW: rollcall_projections::Millis = 1_760_000_000_000;

    fn event(id: u32) -> Verified {
        let body = format!(r#"{{"id":"e{id}","event":"x.y","data":{{}}}}"#);
        let header = sign("s", NOW, body.as_bytes());
        Verified::webhook(&Keyring::new(["s"], 0), Some(header.as_bytes()), body.into(), NOW)
            .unwrap()
    }

    fn open(folder: &Path) -> impl Log + use<> {
        finish_fork(folder).unwrap();
        Unrecovered::open(folder, 64 << 20).unwrap().recover(&|_| {}).unwrap()
    }

    fn filled() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let log = open(folder.path());
        for id in 0..5 {
            log.append(vec![event(id)], NOW).unwrap();
        }
        fs::write(folder.path().join("checkpoint-key"), "a key").unwrap();
        folder
    }

    fn check(folder: &Path, former: [u8; 16], bodies: &[bytes::Bytes]) {
        let log = open(folder);
        assert_ne!(log.identity().log_id, former);
        assert_eq!(log.bodies(&[1, 2, 3, 4, 5]).unwrap(), bodies);
        assert_eq!(log.head(), 5);
        let kept = folder.join(format!("forked-{}", uuid::Uuid::from_bytes(former)));
        assert!(kept.join("checkpoint-key").exists() && !folder.join("checkpoint-key").exists());
        drop(log);
        let log = Unrecovered::open(&kept, 64 << 20).unwrap().recover(&|_| {}).unwrap();
        assert_eq!((log.identity().log_id, log.head()), (former, 5));
    }

    #[test]
    fn every_record_goes_on_under_another_id_and_the_log_before_is_kept() {
        let folder = filled();
        let log = open(folder.path());
        let (former, bodies) = (log.identity().log_id, log.bodies(&[1, 2, 3, 4, 5]).unwrap());
        drop(log);
        fork(folder.path(), &|_| {}).unwrap();
        check(folder.path(), former, &bodies);
    }

    #[test]
    fn a_fork_that_breaks_off_anywhere_is_finished_by_the_next_start() {
        // The renames of both halves, in order, after which the process ends.
        for stop in 0..2 * MOVED.len() {
            let folder = filled();
            let data = folder.path();
            let log = open(data);
            let (former, bodies) = (log.identity().log_id, log.bodies(&[1, 2, 3, 4, 5]).unwrap());
            drop(log);
            let copied = tempfile::tempdir().unwrap();
            fork(data, &|_| {}).unwrap();
            // Both logs side by side, as they are before the first rename.
            let kept = data.join(format!("forked-{}", uuid::Uuid::from_bytes(former)));
            let (before, new) = (copied.path(), copied.path().join(FORK));
            fs::create_dir(&new).unwrap();
            move_all(&kept, before).unwrap();
            move_all(data, &new).unwrap();
            fs::rename(data.join("lock"), before.join("lock")).unwrap();
            let id = uuid::Uuid::from_bytes(former).to_string();
            write_synced(&new.join(FORMER), &id).unwrap();
            let kept = before.join(format!("forked-{id}"));
            let moves = MOVED.map(|name| (before.join(name), kept.join(name))).into_iter();
            let moves = moves.chain(MOVED.map(|name| (new.join(name), before.join(name))));
            fs::create_dir(&kept).unwrap();
            for (from, to) in moves.take(stop) {
                let _ = fs::rename(from, to);
            }
            check(before, former, &bodies);
        }
    }
}
