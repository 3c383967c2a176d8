//! `rollcall send`

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use clap::Args;
use indicatif::ProgressBar;
use rollcall_generator::Forged;

use super::client::{agent, deliver};
use super::forge::ForgeArgs;
use super::input::{Input, each_event};
use super::read::print::counted as number;
use super::read::source::url_of_environment;
use super::secrets::{first_secret, variable};
use super::signals::on_interrupt;
use super::waiting::drawn;
use super::{Failure, print, table};

/// Sign events and post them to a webhook endpoint, as WorkOS would.
///
/// Reads one event a line and signs it byte for byte. A line may also be a list of events or a page
/// of `/events`. A file is checked whole before anything is sent; standard input is sent line by
/// line, up to the first that is wrong. With a concurrency above 1, events arrive in another order
/// than the lines; every order gives the same directory. With `--forge` it makes one event itself.
#[derive(Args)]
#[command(after_help = "\
Exit codes: 0 if every event was accepted, 1 if one was refused or a line is not an event, 2 if the
server was unreachable, or does not say that it recorded an event, as Rollcall does, 130 after
Ctrl-C.

Examples, with ROLLCALL_WEBHOOK_SECRET=whsec_… in the environment:
  rollcall send fixtures/0001-reorganisation/events.jsonl
  rollcall generate --people 10000 | rollcall send
  rollcall send --forge dsync.user.deleted --user directory_user_…")]
pub(super) struct SendArgs {
    /// URL to post to, including the path [env: ROLLCALL_WEBHOOK_URL]; by default ROLLCALL_URL with
    /// /webhooks/workos, and without that http://127.0.0.1:8080/webhooks/workos
    // Not read from the environment by clap: an empty variable counts as one that is not set.
    #[arg(long)]
    url: Option<String>,
    /// The secret to sign with [env: ROLLCALL_WEBHOOK_SECRET, or a file in
    /// ROLLCALL_WEBHOOK_SECRET_FILE]; by default the first of ROLLCALL_WEBHOOK_SECRETS
    // Not read by clap, which would not know the file.
    #[arg(long)]
    secret: Option<String>,
    /// Trust the authorities of this PEM file over https, instead of the system's or those of
    /// SSL_CERT_FILE
    #[arg(long, value_name = "FILE")]
    ca_cert: Option<PathBuf>,
    /// Number of events posted at the same time
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=256))]
    concurrency: u16,
    /// File with one event a line; by default standard input
    #[arg(conflicts_with = "event")]
    file: Option<PathBuf>,
    #[command(flatten)]
    forge: ForgeArgs,
}

/// The time after which an idle thread looks whether the process was interrupted.
const LOOK_UP: Duration = Duration::from_millis(100);

/// The time after an interrupt in which the events in flight may still be answered.
const GRACE: Duration = Duration::from_secs(1);

/// The number of events by answer.
type Summary = BTreeMap<&'static str, u64>;

impl SendArgs {
    pub(super) fn run(self) -> Result<(), Failure> {
        match self.forge.forged()? {
            Some(forged) if self.forge.print => print(&format!("{}\n", forged.body)),
            Some(forged) => self.post(&forged),
            None => self.pour(),
        }
    }

    /// Returns the URL to post to and the secret to sign with.
    fn target(&self) -> Result<(String, String), Failure> {
        let url = match &self.url {
            Some(url) => url.clone(),
            None => url_of_webhooks()?,
        };
        let parsed = url.parse::<ureq::http::Uri>().ok();
        if !parsed.is_some_and(|parsed| matches!(parsed.scheme_str(), Some("http" | "https"))) {
            return Err(Failure::Caller(format!("`{url}` is not an http or https URL")));
        }
        let given = self.secret.clone().filter(|secret| !secret.is_empty());
        let secret = match given {
            Some(secret) => Some(secret),
            None => first_secret(&["ROLLCALL_WEBHOOK_SECRET", "ROLLCALL_WEBHOOK_SECRETS"])?,
        };
        match secret {
            Some(secret) => Ok((url, secret)),
            None => Err(Failure::Caller(
                "no secret to sign with: set ROLLCALL_WEBHOOK_SECRET to the server's webhook secret"
                    .into(),
            )),
        }
    }

    /// Posts one event, and prints the seq of its record.
    fn post(&self, Forged { id, body }: &Forged) -> Result<(), Failure> {
        let (url, secret) = self.target()?;
        let agent = agent(&url, self.ca_cert.as_deref())?;
        let delivered = deliver(&agent, &url, &secret, body.as_bytes(), || false)?;
        let summary = Summary::from([(class(&delivered.answer, delivered.status), 1)]);
        let seq = delivered.answer.get("seq").and_then(serde_json::Value::as_u64);
        let seq_line = seq.map_or(String::new(), |seq| format!("{id} has seq {seq}\n"));
        let printed = print(&(counted(&summary) + &seq_line));
        verdict(&summary).and(printed)
    }

    /// Posts every event of the file, or of standard input.
    fn pour(&self) -> Result<(), Failure> {
        let (url, secret) = self.target()?;
        let agent = agent(&url, self.ca_cert.as_deref())?;
        let input = Input::open(self.file.as_deref(), usize::MAX)?;
        let tally = Arc::new(Tally::of(&input));
        let interrupted = tally.clone();
        on_interrupt(move || interrupted.interrupted.store(true, Ordering::Relaxed))?;
        let (events, queue) = sync_channel::<Vec<u8>>(usize::from(self.concurrency) * 2);
        let reader_tally = tally.clone();
        let reader = thread::spawn(move || queue_events(input, &events, &reader_tally));
        let poster = Poster { queue: Mutex::new(queue), agent, url, secret };
        let poster = Arc::new(poster);
        let (working, ended) = channel::<Infallible>();
        for _ in 0..self.concurrency {
            let (poster, tally, working) = (poster.clone(), tally.clone(), working.clone());
            thread::spawn(move || {
                poster.post_events(&tally);
                drop(working);
            });
        }
        drop(working);
        await_end(&ended, &tally);
        // A reader that is stopped may still wait for standard input.
        if !tally.is_stopped() && reader.join().is_err() {
            tally.fail(Failure::Ours("the reader of the events panicked".into()));
        }
        tally.bar.finish_and_clear();
        let summary = std::mem::take(&mut *locked(&tally.summary));
        let printed = print(&counted(&summary));
        tally.verdict(&summary).and(printed)
    }
}

/// Returns the URL to post to by `ROLLCALL_WEBHOOK_URL`, else by `ROLLCALL_URL`, or the default.
///
/// # Errors
/// The caller's, if a variable is not UTF-8, or `ROLLCALL_URL` is not an http or https URL.
fn url_of_webhooks() -> Result<String, Failure> {
    match variable("ROLLCALL_WEBHOOK_URL")? {
        Some(url) => Ok(url),
        None => {
            let base = url_of_environment()?;
            Ok(format!("{}/webhooks/workos", base.trim_end_matches('/')))
        }
    }
}

/// The results of all threads.
struct Tally {
    summary: Mutex<Summary>,
    /// The first failure. It ends the reading of further events.
    failure: Mutex<Option<Failure>>,
    /// The error in the input, at which the reading ended. The events before it are posted.
    wrong: Mutex<Option<Failure>>,
    interrupted: AtomicBool,
    /// The number of events that were posted without an answer so far.
    in_flight: AtomicU64,
    bar: ProgressBar,
    /// True if the bar counts bytes, false if it counts events.
    by_bytes: bool,
}

impl Tally {
    fn of(input: &Input) -> Tally {
        Tally {
            summary: Mutex::default(),
            failure: Mutex::default(),
            wrong: Mutex::default(),
            interrupted: AtomicBool::new(false),
            in_flight: AtomicU64::new(0),
            bar: progress_bar(input.bytes),
            by_bytes: input.bytes.is_some(),
        }
    }

    fn fail(&self, failure: Failure) {
        locked(&self.failure).get_or_insert(failure);
    }

    /// Returns true if no further event may be sent.
    fn is_stopped(&self) -> bool {
        self.is_interrupted() || locked(&self.failure).is_some()
    }

    fn is_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }

    /// Returns the worst that happened.
    fn verdict(&self, summary: &Summary) -> Result<(), Failure> {
        let taken = number(taken(summary), "event was taken", "events were taken");
        if self.is_interrupted() {
            let unanswered = match self.in_flight.load(Ordering::Relaxed) {
                0 => String::new(),
                1 => "; 1 event without an answer may have been taken".into(),
                count => format!("; {count} events without an answer may have been taken"),
            };
            return Err(Failure::Interrupted(format!("interrupted; {taken}{unanswered}")));
        }
        if let Some(failure) = locked(&self.failure).take() {
            return Err(failure);
        }
        if let Some(Failure::Caller(message)) = locked(&self.wrong).take() {
            return Err(Failure::Caller(format!("{message}; {taken}")));
        }
        verdict(summary)
    }
}

/// Waits until all threads have ended. After an interrupt it waits [`GRACE`] for the events in
/// flight, since a server that does not answer would hold up the counts.
fn await_end(ended: &Receiver<Infallible>, tally: &Tally) {
    let mut grace = GRACE;
    while let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(LOOK_UP) {
        if tally.is_interrupted() {
            grace = grace.saturating_sub(LOOK_UP);
            if grace.is_zero() {
                return;
            }
        }
    }
}

/// Queues every event, until the input ends or is wrong, or a thread has failed.
fn queue_events(input: Input, events: &SyncSender<Vec<u8>>, tally: &Tally) {
    let Input { name, reader, .. } = input;
    let ended = each_event(reader, usize::MAX, |event| {
        !tally.is_stopped() && events.send(event.to_owned()).is_ok()
    });
    *locked(&tally.wrong) = ended.err().and_then(|stop| stop.failure(&name));
}

/// The queue of events, and the endpoint to which they are posted.
struct Poster {
    queue: Mutex<Receiver<Vec<u8>>>,
    agent: ureq::Agent,
    url: String,
    secret: String,
}

impl Poster {
    /// Posts the events of the queue, until it ends or no further event may be sent.
    fn post_events(&self, tally: &Tally) {
        // Agents that share one pool would keep three connections between them.
        let agent = self.agent.config().new_agent();
        while let Some(event) = next_event(&self.queue, tally) {
            tally.in_flight.fetch_add(1, Ordering::Relaxed);
            let stopped = || tally.is_interrupted();
            match deliver(&agent, &self.url, &self.secret, &event, stopped) {
                Ok(delivered) => {
                    let class = class(&delivered.answer, delivered.status);
                    *locked(&tally.summary).entry(class).or_default() += 1;
                    tally.in_flight.fetch_sub(1, Ordering::Relaxed);
                }
                // Whether it arrived is unknown: it stays in flight.
                Err(failure) => tally.fail(failure),
            }
            tally.bar.inc(if tally.by_bytes { event.len() as u64 + 1 } else { 1 });
        }
    }
}

/// Waits for the next event; `None` if the queue has ended, or no further event may be sent.
fn next_event(queue: &Mutex<Receiver<Vec<u8>>>, tally: &Tally) -> Option<Vec<u8>> {
    let queue = locked(queue);
    while !tally.is_stopped() {
        match queue.recv_timeout(LOOK_UP) {
            Ok(event) => return Some(event),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return None,
        }
    }
    None
}

/// Returns the number of events that the server has.
fn taken(summary: &Summary) -> u64 {
    summary.iter().filter(|(class, _)| class.starts_with("200")).map(|(_, count)| count).sum()
}

fn counted(summary: &Summary) -> String {
    let rows: Vec<Vec<String>> =
        summary.iter().map(|(class, count)| vec![(*class).to_owned(), count.to_string()]).collect();
    table::draw(&["answer", "events"], &rows)
}

fn verdict(summary: &Summary) -> Result<(), Failure> {
    let count = |prefix: &str| {
        summary
            .iter()
            .filter(|(class, _)| class.starts_with(prefix))
            .map(|(_, count)| count)
            .sum::<u64>()
    };
    let (failed, unconfirmed) = (count("failed"), count("unconfirmed"));
    if failed == 0 && unconfirmed > 0 {
        let events = number(unconfirmed, "event was", "events were");
        return Err(Failure::Ours(format!(
            "{events} answered with 2xx by a program that does not say that it recorded them: if \
             `rollcall serve` is meant to receive them, correct --url"
        )));
    }
    match (failed, count("refused")) {
        (0, 0) => Ok(()),
        (0, refused) => {
            Err(Failure::Caller(number(refused, "event was refused", "events were refused")))
        }
        (failed, _) => {
            Err(Failure::Ours(format!("{failed} events were not accepted by the server")))
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// The line of the summary for the answers of receivers that are not Rollcall.
const UNCONFIRMED: &str = "unconfirmed: 2xx, but the answer does not name a record";

/// Returns the line of the summary in which an answer is counted.
fn class(answer: &serde_json::Value, status: u16) -> &'static str {
    let is = |key: &str| answer.get(key).and_then(serde_json::Value::as_bool).unwrap_or(false);
    // Any other program may answer 200: only the number of a record says that Rollcall has it.
    let is_recorded = answer.get("seq").is_some_and(serde_json::Value::is_u64);
    match status {
        200 if is_recorded && is("conflict") => "200 conflict",
        200 if is_recorded && is("duplicate") => "200 duplicate",
        200 if is_recorded => "200 new",
        200..=299 => UNCONFIRMED,
        300..=399 => "refused: the URL redirects, which is not followed",
        401 => "refused: 401, the signature was not accepted",
        413 => "refused: 413, the event is too large",
        503 => "failed: 503, the server could not take it",
        500..=599 => "failed: the server has an error",
        _ => "refused: another status",
    }
}

pub(super) fn progress_bar(bytes: Option<u64>) -> ProgressBar {
    let (bar, template) = match bytes {
        Some(bytes) => (ProgressBar::new(bytes), "{bar:40} {bytes}/{total_bytes}, {eta} left"),
        None => (ProgressBar::new_spinner(), "{spinner} {pos} events, {per_sec}"),
    };
    drawn(bar, template)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_the_number_of_a_record_says_that_an_event_was_taken() {
        let new = json!({ "seq": 7, "duplicate": false, "conflict": false });
        let foreign = UNCONFIRMED;
        for (status, answer, expected) in [
            (200, new.clone(), "200 new"),
            (200, json!({ "seq": 7, "duplicate": true, "conflict": false }), "200 duplicate"),
            (200, json!({ "seq": 7, "duplicate": true, "conflict": true }), "200 conflict"),
            (200, json!({ "duplicate": true }), foreign),
            (200, json!({ "seq": "7" }), foreign),
            (200, json!({}), foreign),
            (200, serde_json::Value::Null, foreign),
            (202, new.clone(), foreign),
            (302, new, "refused: the URL redirects, which is not followed"),
        ] {
            assert_eq!(class(&answer, status), expected, "{status} {answer}");
        }
    }
}
