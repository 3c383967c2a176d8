//! `rollcall send`

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, IsTerminal};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use rollcall_generator::Forged;

use super::client::{agent, deliver};
use super::forge::ForgeArgs;
use super::secrets::secrets;
use super::{Failure, print, table};

/// Sign events and post them to a webhook endpoint, as WorkOS would.
///
/// Reads one event a line and signs it byte for byte. With a concurrency above 1, events arrive in
/// another order than the lines; every order gives the same directory. With `--forge` it makes one
/// event itself.
#[derive(Args)]
#[command(after_help = "\
Exit codes: 0 if every event was accepted, 1 if one was refused, 2 if the server was unreachable.

Examples, with ROLLCALL_WEBHOOK_SECRET=whsec_… in the environment:
  rollcall send fixtures/0001-reorganisation/events.jsonl
  rollcall generate --people 10000 | rollcall send
  rollcall send --forge dsync.user.deleted --user directory_user_…")]
pub(super) struct SendArgs {
    /// URL to post to, including the path
    #[arg(
        long,
        env = "ROLLCALL_WEBHOOK_URL",
        default_value = "http://127.0.0.1:8080/webhooks/workos"
    )]
    url: String,
    /// The secret to sign with [env: ROLLCALL_WEBHOOK_SECRET, or a file in
    /// ROLLCALL_WEBHOOK_SECRET_FILE]; by default the first of ROLLCALL_WEBHOOK_SECRETS
    // Not read by clap, which would not know the file.
    #[arg(long)]
    secret: Option<String>,
    /// Number of events posted at the same time
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=256))]
    concurrency: u16,
    /// File with one event a line; by default standard input
    #[arg(conflicts_with = "event")]
    file: Option<PathBuf>,
    #[command(flatten)]
    forge: ForgeArgs,
}

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
    fn target(&self) -> Result<(&str, String), Failure> {
        let url = self
            .url
            .parse::<ureq::http::Uri>()
            .ok()
            .filter(|url| matches!(url.scheme_str(), Some("http" | "https")));
        if url.is_none() {
            return Err(Failure::Caller(format!("`{}` is not an http or https URL", self.url)));
        }
        let given = self.secret.clone().filter(|secret| !secret.is_empty());
        let secret = match given {
            Some(secret) => Some(secret),
            None => secrets(&["ROLLCALL_WEBHOOK_SECRET", "ROLLCALL_WEBHOOK_SECRETS"])?
                .into_iter()
                .next(),
        };
        match secret {
            Some(secret) => Ok((&self.url, secret)),
            None => Err(Failure::Caller(
                "no secret to sign with: set ROLLCALL_WEBHOOK_SECRET to the server's webhook secret"
                    .into(),
            )),
        }
    }

    /// Posts one event, and prints the seq of its record.
    fn post(&self, Forged { id, body }: &Forged) -> Result<(), Failure> {
        let (url, secret) = self.target()?;
        let delivered = deliver(&agent(), url, &secret, body.as_bytes())?;
        let summary = Summary::from([(class(&delivered.answer, delivered.status), 1)]);
        let seq = delivered.answer.get("seq").and_then(serde_json::Value::as_u64);
        let seq_line = seq.map_or(String::new(), |seq| format!("{id} has seq {seq}\n"));
        let printed = print(&(counted(&summary) + &seq_line));
        verdict(&summary).and(printed)
    }

    /// Posts every line of the file, or of standard input.
    fn pour(&self) -> Result<(), Failure> {
        let (url, secret) = self.target()?;
        let input = Input::open(self.file.as_deref())?;
        let tally = Tally {
            summary: Mutex::default(),
            failure: Mutex::default(),
            bar: progress_bar(input.bytes),
            by_bytes: input.bytes.is_some(),
        };
        let (lines, queue) = sync_channel::<Vec<u8>>(usize::from(self.concurrency) * 2);
        let queue = Mutex::new(queue);
        thread::scope(|scope| {
            for _ in 0..self.concurrency {
                scope.spawn(|| post_lines(&queue, url, &secret, &tally));
            }
            read_lines(input.reader, &lines, &tally);
            drop(lines);
        });
        tally.bar.finish_and_clear();
        let summary = tally.summary.into_inner().unwrap_or_default();
        let failure = tally.failure.into_inner().unwrap_or_default();
        let printed = print(&counted(&summary));
        failure.map_or_else(|| verdict(&summary), Err).and(printed)
    }
}

/// The lines to post, and their total length if it is known.
struct Input {
    reader: Box<dyn BufRead>,
    bytes: Option<u64>,
}

impl Input {
    fn open(file: Option<&Path>) -> Result<Input, Failure> {
        let Some(path) = file else {
            return Ok(Input { reader: Box::new(std::io::stdin().lock()), bytes: None });
        };
        let unreadable =
            |error| Failure::Caller(format!("cannot read `{}`: {error}", path.display()));
        let file = File::open(path).map_err(unreadable)?;
        let bytes = file.metadata().map_err(unreadable)?.len();
        Ok(Input { reader: Box::new(BufReader::new(file)), bytes: Some(bytes) })
    }
}

/// The results of all threads.
struct Tally {
    summary: Mutex<Summary>,
    /// The first failure. It ends the reading of further lines.
    failure: Mutex<Option<Failure>>,
    bar: ProgressBar,
    /// True if the bar counts bytes, false if it counts events.
    by_bytes: bool,
}

impl Tally {
    fn fail(&self, failure: Failure) {
        locked(&self.failure).get_or_insert(failure);
    }
}

fn post_lines(queue: &Mutex<Receiver<Vec<u8>>>, url: &str, secret: &str, tally: &Tally) {
    let agent = agent();
    loop {
        let next = locked(queue).recv();
        let Ok(line) = next else { return };
        match deliver(&agent, url, secret, &line) {
            Ok(delivered) => {
                let class = class(&delivered.answer, delivered.status);
                *locked(&tally.summary).entry(class).or_default() += 1;
            }
            Err(failure) => tally.fail(failure),
        }
        tally.bar.inc(if tally.by_bytes { line.len() as u64 + 1 } else { 1 });
    }
}

/// Queues every line that is not empty, until the input ends or a thread has failed.
fn read_lines(input: impl BufRead, lines: &SyncSender<Vec<u8>>, tally: &Tally) {
    for line in input.split(b'\n') {
        let mut line = match line {
            Ok(line) => line,
            Err(error) => {
                tally.fail(Failure::Caller(format!("cannot read the events: {error}")));
                return;
            }
        };
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        if !line.is_empty() && (locked(&tally.failure).is_some() || lines.send(line).is_err()) {
            return;
        }
    }
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
    match (count("failed"), count("refused")) {
        (0, 0) => Ok(()),
        (0, refused) => Err(Failure::Caller(format!("{refused} events were refused"))),
        (failed, _) => {
            Err(Failure::Ours(format!("{failed} events were not accepted by the server")))
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Returns the line of the summary in which an answer is counted.
fn class(answer: &serde_json::Value, status: u16) -> &'static str {
    let is = |key: &str| answer.get(key).and_then(serde_json::Value::as_bool).unwrap_or(false);
    match status {
        200 if is("conflict") => "200 conflict",
        200 if is("duplicate") => "200 duplicate",
        200..=299 => "200 new",
        401 => "refused: 401, the signature was not accepted",
        413 => "refused: 413, the event is too large",
        503 => "failed: 503, the server could not take it",
        500..=599 => "failed: the server has an error",
        _ => "refused: another status",
    }
}

fn progress_bar(bytes: Option<u64>) -> ProgressBar {
    let (bar, template) = match bytes {
        Some(bytes) => (ProgressBar::new(bytes), "{bar:40} {bytes}/{total_bytes}, {eta} left"),
        None => (ProgressBar::new_spinner(), "{spinner} {pos} events, {per_sec}"),
    };
    if !std::io::stderr().is_terminal() {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    bar.with_style(
        ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()),
    )
}
