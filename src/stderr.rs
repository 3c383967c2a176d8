//! Standard error, written by a thread of its own: a reader that stalls must not stop the server.
//! Lines wait in a queue that is bounded in lines and bytes. Those that do not fit are dropped and
//! counted.

use std::cell::Cell;
use std::io::{self, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::timeout;
use tracing_subscriber::fmt::MakeWriter;

/// The most lines that wait, and the most bytes of them.
const LINES_MAX: usize = 2048;
const BYTES_MAX: usize = 2 << 20;

/// The longest wait for a line that must be written before an answer leaves.
const WRITTEN_WITHIN: Duration = Duration::from_secs(1);

/// The pause between two looks at the queue while it is flushed.
const FLUSH_PAUSE: Duration = Duration::from_millis(2);

static QUEUE: OnceLock<Queue> = OnceLock::new();

thread_local! {
    static LAST: Cell<Kept> = const { Cell::new(Kept::NotLogged) };
}

struct Queue {
    lines: SyncSender<Vec<u8>>,
    /// The number of lines queued since the start. Locked while one is queued, so that a line's
    /// number is its place.
    queued: Mutex<u64>,
    /// The number of lines written since the start.
    written: watch::Sender<u64>,
    waiting_bytes: AtomicUsize,
    dropped: AtomicU64,
    /// Set when a line was waited for in vain, until one is written.
    stalls: AtomicBool,
}

/// What became of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// No line was logged, because the filter leaves it out.
    NotLogged,
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
        written: watch::Sender::new(0),
        waiting_bytes: AtomicUsize::new(0),
        dropped: AtomicU64::new(0),
        stalls: AtomicBool::new(false),
    };
    if QUEUE.set(queue).is_ok() {
        thread::Builder::new().name("stderr".into()).spawn(move || write_all(&waiting))?;
    }
    Ok(())
}

fn write_all(lines: &Receiver<Vec<u8>>) {
    while let Ok(line) = lines.recv() {
        // A closed standard error must not stop the server: the line is lost.
        let _ = io::stderr().write_all(&line);
        if let Some(queue) = QUEUE.get() {
            queue.waiting_bytes.fetch_sub(line.len(), Ordering::Relaxed);
            queue.stalls.store(false, Ordering::Relaxed);
            queue.written.send_modify(|written| *written += 1);
        }
    }
}

/// Waits until the lines so far are written, at most for `within`.
pub fn flush(within: Duration) {
    let begun = Instant::now();
    while QUEUE.get().is_some_and(|queue| *queue.written.borrow() < *queue.queued.lock())
        && begun.elapsed() < within
    {
        thread::sleep(FLUSH_PAUSE);
    }
}

/// Returns the number of lines dropped since the start.
pub fn dropped() -> u64 {
    QUEUE.get().map_or(0, |queue| queue.dropped.load(Ordering::Relaxed))
}

/// Logs a line by `log`, and returns what became of it.
pub fn keep(log: impl FnOnce()) -> Kept {
    LAST.set(Kept::NotLogged);
    log();
    LAST.get()
}

/// Waits until a line is written, so that a crash cannot take it back. While the reader stalls it
/// does not wait: the line stays in the queue.
pub async fn written(kept: Kept) {
    let (Kept::Queued(number), Some(queue)) = (kept, QUEUE.get()) else { return };
    if queue.stalls.load(Ordering::Relaxed) {
        return;
    }
    let mut written = queue.written.subscribe();
    let waited = timeout(WRITTEN_WITHIN, written.wait_for(|written| *written >= number)).await;
    if waited.is_err() {
        queue.stalls.store(true, Ordering::Relaxed);
    }
}

impl Queue {
    /// Queues a line, if there is room.
    fn push(&self, line: &[u8]) -> Kept {
        let mut queued = self.queued.lock();
        let bytes = self.waiting_bytes.fetch_add(line.len(), Ordering::Relaxed) + line.len();
        if bytes <= BYTES_MAX && self.lines.try_send(line.to_vec()).is_ok() {
            *queued += 1;
            return Kept::Queued(*queued);
        }
        self.waiting_bytes.fetch_sub(line.len(), Ordering::Relaxed);
        self.dropped.fetch_add(1, Ordering::Relaxed);
        Kept::Dropped
    }
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
