//! A clock that a test sets for one process: a small library in front of the system's.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::LazyLock;

use super::server::{Server, binary, now_ms};

/// The library, compiled by the C compiler that also links these tests.
static LIBRARY: LazyLock<Option<(tempfile::TempDir, PathBuf)>> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let library = folder.path().join("clock.so");
    let compiled = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .arg(&library)
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/blackbox/kit/clock.c"))
        .status();
    compiled.is_ok_and(|status| status.success()).then_some((folder, library))
});

/// A clock that can be set while processes run with it.
pub struct TestClock {
    ahead_ms: tempfile::NamedTempFile,
    library: PathBuf,
}

impl TestClock {
    /// Makes a clock that is right; `None`, with a line on standard error, without a C compiler.
    pub fn new() -> Option<TestClock> {
        let Some((_, library)) = &*LIBRARY else {
            eprintln!("skipped: setting the clock of a process needs the C compiler `cc`");
            return None;
        };
        let clock = TestClock {
            ahead_ms: tempfile::NamedTempFile::new().unwrap(),
            library: library.clone(),
        };
        clock.set_ahead_by(0);
        Some(clock)
    }

    /// Sets the clock ahead of the system's, or back.
    pub fn set_ahead_by(&self, ms: i64) {
        let file: &File = self.ahead_ms.as_file();
        file.write_all_at(&ms.to_ne_bytes(), 0).unwrap();
    }

    /// Reads the clock.
    pub fn now_ms(&self) -> i64 {
        let mut ms = [0; 8];
        self.ahead_ms.as_file().read_exact_at(&mut ms, 0).unwrap();
        now_ms() + i64::from_ne_bytes(ms)
    }

    /// Returns the command that runs the binary with this clock.
    pub fn command(&self) -> Command {
        let mut command = Command::new(binary());
        command.env("LD_PRELOAD", &self.library).env("TEST_CLOCK_AHEAD_MS", self.ahead_ms.path());
        command
    }

    /// Posts an event that is signed by this clock. Returns the status.
    pub fn post(&self, server: &Server, body: &str) -> super::server::Answer {
        server.post_at(body.as_bytes(), self.now_ms())
    }
}
