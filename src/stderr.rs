//! Standard error: a reader that stalls must not stop the server.
//!
//! A line that standard error takes at once is written at once. Otherwise a thread of its own
//! writes it, and meanwhile all that follow, so that lines stay in order. They wait in a queue that
//! is bounded in lines and bytes. Those that do not fit, or that cannot be written, are dropped and
//! counted.

use std::cell::Cell;
use std::io::{self, IoSlice, Write};
use std::os::fd::AsFd;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rollcall_projections::Millis;
use rustix::io::{Errno, ReadWriteFlags, pwritev2};
use tokio::sync::watch;
use tokio::time::timeout;
use tracing_subscriber::fmt::MakeWriter;

use crate::time;

/// The most lines that wait, and the most bytes of them.
const LINES_MAX: usize = 2048;
const BYTES_MAX: usize = 2 << 20;

/// The bytes of waiting lines that are written at once, about.
const BYTES_AT_ONCE: usize = 16 << 10;

/// The longest wait for a line that must be written before an answer leaves.
const WRITTEN_WITHIN: Duration = Duration::from_secs(1);

/// The pause between two looks at the queue while it is flushed.
const FLUSH_PAUSE: Duration = Duration::from_millis(2);

/// The longest that a stop writes what waits, and how much of it without any progress.
const FLUSH_MAX: Duration = Duration::from_secs(10);
const FLUSH_STALL_MAX: Duration = Duration::from_secs(1);

/// The flag goes the way of the line that it is about, through the channel.
const ORDER: Ordering = Ordering::Relaxed;

static QUEUE: OnceLock<Queue> = OnceLock::new();

thread_local! {
    static LAST: Cell<Kept> = const { Cell::new(Kept::NotLogged) };
}

struct Queue {
    lines: SyncSender<Vec<u8>>,
    /// The number of lines queued since the start. Locked while one is queued, so that a line's
    /// number is its place.
    queued: Mutex<u64>,
    /// How far the writing has come.
    progress: watch::Sender<Progress>,
    waiting_bytes: AtomicUsize,
    dropped: AtomicU64,
    /// Set when a line was waited for in vain, until one is written.
    stalls: AtomicBool,
    taking: Mutex<Taking>,
    /// Set once standard error turns out to be of a kind that may block on each write.
    may_block: AtomicBool,
    /// Set while the next line in the queue is the rest of one that was begun.
    is_rest_next: AtomicBool,
}

/// The state of standard error, which may take no lines for a while.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taking {
    /// True from a line that was dropped or lost until another is written and half of the queue is
    /// free.
    pub is_blocked: bool,
    /// Since when, in milliseconds; `None` since the start.
    pub since: Option<Millis>,
}

impl Taking {
    fn note(&mut self, is_blocked: bool) {
        if self.is_blocked != is_blocked {
            *self = Taking { is_blocked, since: Some(time::now_ms()) };
        }
    }
}

/// The lines that are dealt with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Progress {
    /// The number of the last line that was written or lost.
    last: u64,
    /// The number of the last line that was lost; 0 if none was.
    lost: u64,
}

/// What became of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// No line was logged, because the filter leaves it out.
    NotLogged,
    /// It is written.
    Written,
    /// It is in the queue, under this number, and will be written.
    Queued(u64),
    /// It was dropped.
    Dropped,
}

/// Starts the thread. Until then, lines are written at once.
///
/// # Errors
/// If no thread can be started.
pub fn start() -> io::Result<()> {
    let (lines, waiting) = sync_channel(LINES_MAX);
    let queue = Queue {
        lines,
        queued: Mutex::new(0),
        progress: watch::Sender::default(),
        waiting_bytes: AtomicUsize::new(0),
        dropped: AtomicU64::new(0),
        stalls: AtomicBool::new(false),
        taking: Mutex::default(),
        may_block: AtomicBool::new(false),
        is_rest_next: AtomicBool::new(false),
    };
    if QUEUE.set(queue).is_ok() {
        thread::Builder::new().name("stderr".into()).spawn(move || write_all(&waiting))?;
    }
    Ok(())
}

fn write_all(lines: &Receiver<Vec<u8>>) {
    let mut writer = LineWriter { out: io::stderr(), is_cut: false };
    while let Ok(first) = lines.recv() {
        // Each write wakes all who wait for a line, so the lines that wait are written together.
        let (mut bytes, mut ends) = (first, Vec::new());
        ends.push(bytes.len());
        while bytes.len() < BYTES_AT_ONCE
            && let Ok(line) = lines.try_recv()
        {
            bytes.extend_from_slice(&line);
            ends.push(bytes.len());
        }
        let is_rest = QUEUE.get().is_some_and(|queue| queue.is_rest_next.swap(false, ORDER));
        // A full disk or a closed standard error must not stop the server: the lines are lost.
        let written = writer.write(&bytes);
        writer.is_cut |= is_rest && written == 0;
        let is_lost = |end: &usize| *end > written;
        let lost = ends.iter().filter(|end| is_lost(end)).count();
        if let Some(queue) = QUEUE.get() {
            queue.waiting_bytes.fetch_sub(bytes.len(), Ordering::Relaxed);
            queue.stalls.store(false, Ordering::Relaxed);
            queue.dropped.fetch_add(lost as u64, Ordering::Relaxed);
            queue.note_taking(lost > 0);
            queue.progress.send_modify(|progress| {
                ends.iter().for_each(|end| progress.add(is_lost(end)));
            });
        }
    }
}

impl Progress {
    fn add(&mut self, is_lost: bool) {
        self.last += 1;
        if is_lost {
            self.lost = self.last;
        }
    }

    /// Tells if a line that is dealt with was written. Where a later one was lost meanwhile, that is
    /// in doubt.
    fn has_written(&self, number: u64) -> bool {
        self.lost < number
    }
}

/// Writes whole lines, also after a part of one was written when the disk became full.
struct LineWriter<W> {
    out: W,
    is_cut: bool,
}

impl<W: Write> LineWriter<W> {
    /// Writes lines. Returns the number of their bytes that were written before an error.
    fn write(&mut self, lines: &[u8]) -> usize {
        if self.is_cut && self.out.write_all(b"\n").is_err() {
            return 0;
        }
        self.is_cut = false;
        let mut written = 0;
        while let Some(rest) = lines.get(written..).filter(|rest| !rest.is_empty()) {
            match self.out.write(rest) {
                Ok(more) if more > 0 => written += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                _ => break,
            }
        }
        let done = lines.get(..written).unwrap_or_default();
        self.is_cut = done.last().is_some_and(|last| *last != b'\n');
        written
    }
}

/// Waits until the lines so far are written, for as long as some are, and for a limited time.
pub fn flush() {
    let Some(queue) = QUEUE.get() else { return };
    let (begun, until) = (Instant::now(), *queue.queued.lock());
    let (mut last, mut moved) = (0, begun);
    while last < until && begun.elapsed() < FLUSH_MAX && moved.elapsed() < FLUSH_STALL_MAX {
        let now = queue.progress.borrow().last;
        if now > last {
            (last, moved) = (now, Instant::now());
        }
        thread::sleep(FLUSH_PAUSE);
    }
}

/// Returns the number of lines dropped or lost since the start.
pub fn dropped() -> u64 {
    QUEUE.get().map_or(0, |queue| queue.dropped.load(Ordering::Relaxed))
}

/// Tells whether standard error takes lines, and since when. Without the thread it does.
pub fn taking() -> Taking {
    QUEUE.get().map_or_else(Taking::default, |queue| *queue.taking.lock())
}

/// Logs a line by `log`, and returns what became of it.
pub fn keep(log: impl FnOnce()) -> Kept {
    LAST.set(Kept::NotLogged);
    log();
    LAST.get()
}

/// Waits until a line is written, so that a crash cannot take it back. Returns false if it was
/// dropped, or cannot be written.
///
/// While the reader stalls it does not wait: the line stays in the queue.
pub async fn is_written(kept: Kept) -> bool {
    let (number, queue) = match (kept, QUEUE.get()) {
        (Kept::Queued(number), Some(queue)) => (number, queue),
        _ => return kept != Kept::Dropped,
    };
    if queue.stalls.load(Ordering::Relaxed) {
        return true;
    }
    let mut progress = queue.progress.subscribe();
    let waited = timeout(WRITTEN_WITHIN, progress.wait_for(|now| now.last >= number)).await;
    match waited {
        Ok(progress) => progress.is_ok_and(|progress| progress.has_written(number)),
        Err(_) => {
            queue.stalls.store(true, Ordering::Relaxed);
            true
        }
    }
}

impl Queue {
    /// Writes a line if that can be done at once, else queues it, if there is room.
    fn push(&self, line: &[u8]) -> Kept {
        let mut queued = self.queued.lock();
        let written = self.write_at_once(line, *queued);
        self.is_rest_next.fetch_or(written > 0 && written < line.len(), ORDER);
        let line = line.get(written..).unwrap_or_default();
        if line.is_empty() {
            *queued += 1;
            self.progress.send_modify(|progress| progress.add(false));
            return Kept::Written;
        }
        let bytes = self.waiting_bytes.fetch_add(line.len(), Ordering::Relaxed) + line.len();
        if bytes <= BYTES_MAX && self.lines.try_send(line.to_vec()).is_ok() {
            *queued += 1;
            return Kept::Queued(*queued);
        }
        self.waiting_bytes.fetch_sub(line.len(), Ordering::Relaxed);
        self.dropped.fetch_add(1, Ordering::Relaxed);
        self.taking.lock().note(true);
        Kept::Dropped
    }

    /// Writes what standard error takes of a line without blocking, while no other line waits, and
    /// none was lost of which a part may have been written. Returns the number of bytes written.
    /// `queued` is locked, so that no other line comes between.
    fn write_at_once(&self, line: &[u8], queued: u64) -> usize {
        let waits = self.progress.borrow().last < queued;
        if waits || self.is_blocked() || self.may_block.load(Ordering::Relaxed) {
            return 0;
        }
        match write_without_blocking(io::stderr(), line) {
            Ok(written) => written,
            Err(error) => {
                // The thread finds out what is wrong, if anything is.
                let may_block = matches!(error, Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL);
                self.may_block.fetch_or(may_block, Ordering::Relaxed);
                0
            }
        }
    }

    /// Notes whether lines are taken, after one was written or lost.
    fn note_taking(&self, is_lost: bool) {
        if is_lost {
            self.taking.lock().note(true);
        } else if self.is_blocked() && self.is_half_free() {
            self.taking.lock().note(false);
        }
    }

    fn is_blocked(&self) -> bool {
        self.taking.lock().is_blocked
    }

    fn is_half_free(&self) -> bool {
        let queued = *self.queued.lock();
        let waiting = queued.saturating_sub(self.progress.borrow().last);
        let bytes = self.waiting_bytes.load(Ordering::Relaxed);
        waiting <= LINES_MAX as u64 / 2 && bytes <= BYTES_MAX / 2
    }
}

/// Writes what a file takes without blocking, and returns the number of bytes.
///
/// # Errors
/// `AGAIN` if that is nothing; `OPNOTSUPP` for a file that may block on any write.
fn write_without_blocking(file: impl AsFd, bytes: &[u8]) -> rustix::io::Result<usize> {
    // The flag is of this write alone: others may share the file, and expect it to block.
    const AT_THE_END: u64 = u64::MAX;
    pwritev2(file, &[IoSlice::new(bytes)], AT_THE_END, ReadWriteFlags::NOWAIT)
}

/// Makes writers of lines for the log.
pub struct Lines;

/// Writes one line.
pub struct Line;

impl MakeWriter<'_> for Lines {
    type Writer = Line;

    fn make_writer(&self) -> Line {
        Line
    }
}

impl Write for Line {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match QUEUE.get() {
            Some(queue) => LAST.set(queue.push(line)),
            None => io::stderr().write_all(line)?,
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    /// Takes some bytes, and then fails until it is given more room.
    struct Room {
        bytes: Vec<u8>,
        left: usize,
    }

    impl Write for Room {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let length = bytes.len().min(self.left);
            if length == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.bytes.extend_from_slice(&bytes[..length]);
            self.left -= length;
            Ok(length)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_after_one_that_was_cut_off_begins_on_a_line_of_its_own() {
        let out = Room { bytes: Vec::new(), left: 9 };
        let mut writer = LineWriter { out, is_cut: false };
        assert_eq!(writer.write(b"first\n"), 6);
        assert_eq!(writer.write(b"second\n"), 3);
        assert_eq!(writer.write(b"third\n"), 0);
        writer.out.left = 100;
        assert_eq!(writer.write(b"fourth\n"), 7);
        assert_eq!(writer.out.bytes, b"first\nsec\nfourth\n");
    }

    #[test]
    fn of_lines_written_at_once_those_before_an_error_are_whole() {
        let out = Room { bytes: Vec::new(), left: 13 };
        let mut writer = LineWriter { out, is_cut: false };
        assert_eq!(writer.write(b"first\nsecond\nthird\n"), 13);
        writer.out.left = 100;
        assert_eq!(writer.write(b"fourth\n"), 7);
        assert_eq!(writer.out.bytes, b"first\nsecond\nfourth\n");
    }

    #[test]
    fn a_full_pipe_takes_no_line_and_blocks_nothing() {
        let (mut reader, writer) = io::pipe().unwrap();
        let line = [b'x'; 1000];
        let mut taken = 0;
        let error = loop {
            match write_without_blocking(&writer, &line) {
                Ok(written) => taken += written,
                Err(error) => break error,
            }
        };
        // A kernel whose pipes may always block takes nothing.
        if error == Errno::OPNOTSUPP {
            return;
        }
        assert_eq!(error, Errno::AGAIN);
        assert!(taken > 0);
        reader.read_exact(&mut vec![0; taken]).unwrap();
        assert_eq!(write_without_blocking(&writer, &line), Ok(line.len()));
    }

    #[test]
    fn a_line_that_was_lost_is_not_taken_for_a_written_one() {
        let mut progress = Progress::default();
        for is_lost in [false, true, false] {
            progress.add(is_lost);
        }
        assert_eq!(progress.last, 3);
        assert!(!progress.has_written(2));
        assert!(progress.has_written(3));
    }
}
