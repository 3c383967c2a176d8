//! `rollcall import`

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use clap::Args;
use indicatif::ProgressBar;
use serde::{Deserialize, Serialize};

use super::client::{Answer, Client};
use super::input::{Input, each_event};
use super::read::listing::{Output, refused};
use super::read::print::counted;
use super::read::source::ServerArgs;
use super::send::progress_bar;
use super::signals::on_interrupt;
use super::table::{self, harmless};
use super::{Failure, print};
use crate::log::{BATCH_BYTES_MAX, BATCH_EVENTS_MAX};

/// Record events that were kept elsewhere, such as in the files of another consumer.
///
/// Reads one event a line, as `rollcall send` does; a line may also be a list of events or a page of
/// `/events`. No signature proves them: their records say `imported` for ever. An event whose id is
/// in the log is a duplicate, whatever it says, so that an import that broke off is begun again with
/// the same file. A file is checked whole before anything is sent; standard input is sent up to the
/// first line that is wrong. An event may have 4 MiB. One whose id is unusable, such as an id of more
/// than 255 bytes, is recorded, counted as new and listed in the quarantine.
#[derive(Args)]
#[command(after_help = "\
Exit codes: 0 if every event is in the log, 1 if there is none, a line is not an event or the server
refused some, 2 if the server was unreachable, 130 after Ctrl-C.

The API key needs the scope `ingest`.

Examples:
  rollcall import events.jsonl
  zcat events.jsonl.gz | rollcall import")]
pub(super) struct ImportArgs {
    /// File with one event a line; by default standard input
    file: Option<PathBuf>,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    server: ServerArgs,
}

const PATH: &str = "/rollcall/v1/import";

/// The number of tries of one request, while the server answers 429 or 503.
const TRIES_MAX: u32 = 8;

/// The time after which the command looks again if it was interrupted.
const LOOK_UP: Duration = Duration::from_millis(100);

/// The time after an interrupt in which a request may still be answered.
const GRACE: Duration = Duration::from_secs(1);

/// The outcomes of the events so far, as the server counts them.
#[derive(Clone, Copy, Default, Deserialize, Serialize)]
struct Counts {
    new: u64,
    duplicate: u64,
    differs: u64,
    conflict: u64,
}

impl Counts {
    fn add(&mut self, other: Counts) {
        self.new += other.new;
        self.duplicate += other.duplicate;
        self.differs += other.differs;
        self.conflict += other.conflict;
    }

    fn is_empty(&self) -> bool {
        self.new + self.duplicate + self.conflict == 0
    }

    fn table(&self) -> String {
        let Counts { new, duplicate, differs, conflict } = *self;
        let rows = [
            ("new", new),
            ("duplicate", duplicate - differs.min(duplicate)),
            ("duplicate, with another content", differs),
            ("conflict", conflict),
        ];
        let rows = rows.into_iter().filter(|(_, count)| *count > 0);
        let rows: Vec<Vec<String>> =
            rows.map(|(outcome, count)| vec![outcome.to_owned(), count.to_string()]).collect();
        table::draw(&["outcome", "events"], &rows)
    }

    fn told(&self) -> String {
        let Counts { new, duplicate, conflict, .. } = *self;
        match new + duplicate + conflict {
            0 => "nothing was recorded".into(),
            count => counted(count, "event is in the log", "events are in the log"),
        }
    }
}

/// The state of an import, which the command shows also when it is interrupted.
#[derive(Default)]
struct Progress {
    counts: Mutex<Counts>,
    interrupted: AtomicBool,
}

impl Progress {
    fn counts(&self) -> Counts {
        *self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, counts: Counts) {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).add(counts);
    }

    fn is_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }
}

impl ImportArgs {
    pub(super) fn run(self) -> Result<(), Failure> {
        let ImportArgs { file, output, server } = self;
        let client = server.client()?;
        let input = Input::open(file.as_deref(), BATCH_BYTES_MAX)?;
        let progress = Arc::new(Progress::default());
        let noted = progress.clone();
        on_interrupt(move || noted.interrupted.store(true, Ordering::Relaxed))?;
        let result = import_within(client, input, progress.clone());
        let counts = progress.counts();
        let printed = if output.json {
            print(&format!("{}\n", serde_json::to_string(&counts).map_err(Failure::ours)?))
        } else if counts.is_empty() {
            Ok(())
        } else {
            print(&counts.table())
        };
        let told = counts.told();
        result.map_err(|failure| failure.with(&told)).and(printed)
    }
}

/// Imports on a thread of its own: one that waits for standard input cannot be interrupted.
fn import_within(client: Client, input: Input, progress: Arc<Progress>) -> Result<(), Failure> {
    let (done, ended) = channel();
    let shared = progress.clone();
    thread::spawn(move || {
        let bar = progress_bar(input.bytes);
        let result = Import { client, progress: &shared, bar: &bar }.pour(input);
        bar.finish_and_clear();
        let _ = done.send(result);
    });
    let mut grace = GRACE;
    let interrupted = || Failure::Interrupted(format!("interrupted; {}", progress.counts().told()));
    loop {
        match ended.recv_timeout(LOOK_UP) {
            Ok(_) if progress.is_interrupted() => return Err(interrupted()),
            Ok(result) => return result,
            Err(RecvTimeoutError::Disconnected) => {
                return Err(Failure::Ours("the import panicked".into()));
            }
            Err(RecvTimeoutError::Timeout) if progress.is_interrupted() => {
                grace = grace.saturating_sub(LOOK_UP);
                if grace.is_zero() {
                    return Err(interrupted());
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
}

/// An import that runs.
struct Import<'a> {
    client: Client,
    progress: &'a Progress,
    bar: &'a ProgressBar,
}

impl Import<'_> {
    /// Sends every event, as many in one request as it takes.
    fn pour(&self, input: Input) -> Result<(), Failure> {
        let Input { name, reader, bytes } = input;
        let mut batch = Batch::default();
        let (mut failure, mut is_empty) = (None, true);
        let read = each_event(reader, BATCH_BYTES_MAX, |event| {
            is_empty = false;
            let sent = self.take(&mut batch, event);
            self.bar.inc(if bytes.is_some() { event.len() as u64 + 1 } else { 1 });
            failure = sent.err();
            failure.is_none() && !self.progress.is_interrupted()
        });
        let wrong = read.err().and_then(|stop| stop.failure(&name));
        match (failure, wrong) {
            (Some(failure), _) => Err(failure),
            _ if self.progress.is_interrupted() => Ok(()),
            // What comes before the wrong line is sent.
            (None, Some(wrong)) => self.send(&mut batch).and(Err(wrong)),
            (None, None) if is_empty => {
                Err(Failure::Caller(harmless(&format!("no events in {name}"))))
            }
            (None, None) => self.send(&mut batch),
        }
    }

    /// Adds an event to the batch, which is sent first if it is full.
    fn take(&self, batch: &mut Batch, event: &[u8]) -> Result<(), Failure> {
        if !batch.has_room_for(event) {
            self.send(batch)?;
        }
        batch.push(event);
        Ok(())
    }

    /// Sends the batch, again and again while the server has no room.
    fn send(&self, batch: &mut Batch) -> Result<(), Failure> {
        let Batch { lines, events } = std::mem::take(batch);
        if events == 0 {
            return Ok(());
        }
        for attempt in 1.. {
            let answer = self.client.post_lines(PATH, &lines)?;
            match answer.status {
                200 => {
                    self.progress.add(answer.json()?);
                    break;
                }
                429 | 503 if attempt < TRIES_MAX && !self.progress.is_interrupted() => {
                    thread::sleep(pause(&answer));
                }
                _ => return Err(refused(&answer, &self.client, "")),
            }
        }
        Ok(())
    }
}

/// Returns the time after which the server may take the request.
fn pause(answer: &Answer) -> Duration {
    Duration::from_secs(answer.retry_after_s.unwrap_or(1).clamp(1, 60))
}

/// The lines of one request.
#[derive(Default)]
struct Batch {
    lines: Vec<u8>,
    events: usize,
}

impl Batch {
    /// Tells if an event fits in, with a line break before it. One alone always does: the largest
    /// fills a request.
    fn has_room_for(&self, event: &[u8]) -> bool {
        let is_short = self.lines.len() + event.len() < BATCH_BYTES_MAX;
        self.events == 0 || self.events < BATCH_EVENTS_MAX && is_short
    }

    /// Adds an event. In JSON a line break can only be white space, so that a blank takes its place.
    fn push(&mut self, event: &[u8]) {
        if self.events > 0 {
            self.lines.push(b'\n');
        }
        let blank = |byte: &u8| if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte };
        self.lines.extend(event.iter().map(blank));
        self.events += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_at_most_512_lines_and_4_mib_and_an_event_is_one_line() {
        let mut batch = Batch::default();
        batch.push(b"{\r\n\"id\":\n\"a\"}");
        assert_eq!(batch.lines, b"{  \"id\": \"a\"}");
        for _ in 1..512 {
            assert!(batch.has_room_for(b"{}"));
            batch.push(b"{}");
        }
        assert!(!batch.has_room_for(b"{}"));
        let half = vec![b' '; 2 << 20];
        let mut batch = Batch::default();
        batch.push(&half);
        assert!(!batch.has_room_for(&half), "two halves and the line break are too long");
        assert!(batch.has_room_for(&half[1..]));
        batch.push(&half[1..]);
        assert_eq!(batch.lines.len(), BATCH_BYTES_MAX);
        let mut batch = Batch::default();
        let whole = vec![b' '; BATCH_BYTES_MAX];
        assert!(batch.has_room_for(&whole));
        batch.push(&whole);
        assert_eq!(batch.lines.len(), BATCH_BYTES_MAX);
        assert!(!batch.has_room_for(b""));
    }
}
