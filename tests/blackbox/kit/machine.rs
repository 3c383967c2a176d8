//! The clock and the disk of one process, which a test sets: a small library in front of the
//! system's.

use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::LazyLock;

use super::server::{Answer, Server, binary, now_ms};

/// The library, compiled by the C compiler that also links these tests.
static LIBRARY: LazyLock<Option<(tempfile::TempDir, PathBuf)>> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let library = folder.path().join("machine.so");
    let compiled = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .arg(&library)
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/blackbox/kit/machine.c"))
        .status();
    compiled.is_ok_and(|status| status.success()).then_some((folder, library))
});

/// What the machine does for the processes that run with it. It can be changed meanwhile.
pub struct TestMachine {
    /// Three numbers: see machine.c.
    state: tempfile::NamedTempFile,
    library: PathBuf,
}

impl TestMachine {
    /// Makes a machine like any other; `None`, with a line on standard error, without a C compiler.
    pub fn new() -> Option<TestMachine> {
        let Some((_, library)) = &*LIBRARY else {
            eprintln!("skipped: setting the clock of a process needs the C compiler `cc`");
            return None;
        };
        let (state, library) = (tempfile::NamedTempFile::new().unwrap(), library.clone());
        let machine = TestMachine { state, library };
        machine.set_clock_ahead_by(0);
        machine.set_write_error(0);
        machine.let_writes_hang(false);
        Some(machine)
    }

    /// Sets the clock ahead of the system's, or back.
    pub fn set_clock_ahead_by(&self, ms: i64) {
        self.state.as_file().write_all_at(&ms.to_ne_bytes(), 0).unwrap();
    }

    /// Makes writes and syncs fail with an error of the system, or succeed again: 0.
    pub fn set_write_error(&self, errno: i64) {
        self.state.as_file().write_all_at(&errno.to_ne_bytes(), 8).unwrap();
    }

    /// Makes writes and syncs wait until this is called with `false`.
    pub fn let_writes_hang(&self, hang: bool) {
        self.state.as_file().write_all_at(&i64::from(hang).to_ne_bytes(), 16).unwrap();
    }

    /// Reads the clock.
    pub fn now_ms(&self) -> i64 {
        let mut ms = [0; 8];
        self.state.as_file().read_exact_at(&mut ms, 0).unwrap();
        now_ms() + i64::from_ne_bytes(ms)
    }

    /// Returns the command that runs the binary on this machine.
    pub fn command(&self) -> Command {
        let mut command = Command::new(binary());
        command.env("LD_PRELOAD", &self.library).env("TEST_MACHINE", self.state.path());
        command
    }

    /// Posts an event that is signed by this clock.
    pub fn post(&self, server: &Server, body: &str) -> Answer {
        server.post_at(body.as_bytes(), self.now_ms())
    }
}
