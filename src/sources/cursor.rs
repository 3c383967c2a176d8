//! The file `pull-cursor`: the last event that was taken. It may be lost, or be of another log or
//! source: then pulling begins a day before the newest record that was pulled.

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use rollcall_projections::Seq;
use serde::{Deserialize, Serialize};

use crate::files;

/// The name of the file in the data folder.
const NAME: &str = "pull-cursor";

/// The most bytes of the file that are read.
const BYTES_MAX: u64 = 64 << 10;

/// The content of the file.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct KeptCursor {
    /// The log that has the event.
    pub(super) log: String,
    /// The head of the log then. A log that ends before is an older copy: it may lack the event.
    pub(super) head: Seq,
    /// The source.
    pub(super) url: String,
    /// The fingerprint of the key with which it was asked. Another key may be of another
    /// environment.
    pub(super) key: String,
    /// The id of the event.
    pub(super) cursor: String,
}

/// The place of the file.
pub(super) struct CursorFile(PathBuf);

impl CursorFile {
    /// Names the file in a data folder.
    pub(super) fn in_folder(data: &Path) -> CursorFile {
        CursorFile(data.join(NAME))
    }

    /// Reads the cursor of this log and source; `None` if there is none.
    pub(super) fn read(&self, log: &str, head: Seq, url: &str) -> Option<KeptCursor> {
        let file = files::open(&self.0).ok()?.take(BYTES_MAX);
        let kept: KeptCursor = serde_json::from_reader(file).ok()?;
        let fits = kept.log == log && kept.url == url && kept.head <= head;
        fits.then_some(kept)
    }

    /// Replaces the file in one step. It is not synced: a lost one costs a day of duplicates.
    ///
    /// # Errors
    /// Those of the disk.
    pub(super) fn write(&self, kept: &KeptCursor) -> io::Result<()> {
        let folder = self.0.parent().unwrap_or(Path::new("."));
        // Its mode is 600: other users cannot read it.
        let mut file = tempfile::Builder::new().prefix(NAME).tempfile_in(folder)?;
        file.write_all(&serde_json::to_vec(kept)?)?;
        file.persist(&self.0).map(drop).map_err(|error| error.error)
    }

    /// Removes the file: the source does not know the cursor.
    pub(super) fn remove(&self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_of_another_log_or_source_or_of_a_longer_log_is_lost() {
        let folder = tempfile::tempdir().unwrap();
        let file = CursorFile::in_folder(folder.path());
        assert_eq!(file.read("a", 9, "https://s"), None);
        let kept = KeptCursor {
            log: "a".into(),
            head: 7,
            url: "https://s".into(),
            key: "01".into(),
            cursor: "event_1".into(),
        };
        file.write(&kept).unwrap();
        for (log, head, url, found) in [
            ("a", 7, "https://s", true),
            ("a", 8, "https://s", true),
            ("a", 6, "https://s", false),
            ("b", 9, "https://s", false),
            ("a", 9, "https://t", false),
        ] {
            assert_eq!(file.read(log, head, url).is_some(), found, "{log} {head} {url}");
        }
        file.remove();
        assert_eq!(file.read("a", 9, "https://s"), None);
        fs::write(folder.path().join(NAME), "{").unwrap();
        assert_eq!(file.read("a", 9, "https://s"), None);
    }
}
