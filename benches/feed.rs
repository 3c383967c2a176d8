//! Measures the feed of changes as an application reads it from the real server: live, while an
//! initial sync is sent, and whole, next to the fold of a start.
//!
//! `ROLLCALL_BENCH_PEOPLE=5000` measures less.

#![allow(clippy::panic, clippy::unwrap_used, reason = "a benchmark that cannot go on stops")]

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rollcall::time::{now_ms, parse};
use serde_json::{Value, json};

const SECRET: &str = "whsec_bench_bench_bench_bench";
const API_KEY: &str = "sk_bench_bench_bench_bench_bench";

/// The number of times that the whole feed is read, each after a start.
const ROUNDS: usize = 3;

/// A log line of the server, and when it came.
type LogLine = (Instant, String);

/// A running `rollcall serve`. Killed when dropped.
struct Server {
    child: Child,
    url: String,
    log: Receiver<LogLine>,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    fn start(data: &Path) -> Server {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rollcall"));
        command.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(data);
        command.env("ROLLCALL_WEBHOOK_SECRETS", SECRET).env("ROLLCALL_API_KEYS", API_KEY);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let errors = BufReader::new(child.stderr.take().unwrap());
        let (lines, log) = channel();
        std::thread::spawn(move || {
            for line in errors.lines().map_while(Result::ok) {
                let _ = lines.send((Instant::now(), line));
            }
        });
        let mut url = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut url).unwrap();
        Server { child, url: url.trim().to_owned(), log }
    }

    /// Waits for a log line with some words. Returns when it came.
    fn logged(&self, words: &str) -> Instant {
        loop {
            let (at, line) = self.log.recv().unwrap();
            if line.contains(words) {
                return at;
            }
        }
    }

    /// Returns the time between the two log lines between which the log is folded, once the server
    /// answers.
    fn fold(&self) -> Duration {
        let begun = self.logged("folding the log");
        let fold = self.logged("ready").duration_since(begun);
        self.wait_until_ready();
        fold
    }

    fn wait_until_ready(&self) {
        while ureq::get(format!("{}/readyz", self.url)).call().is_err() {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn map(&self, mapping: &Value) {
        let agent = ureq::Agent::new_with_defaults();
        let request = agent.put(format!("{}/rollcall/v1/role_mapping", self.url));
        let request = request.header("Authorization", format!("Bearer {API_KEY}"));
        request.send_json(json!({ "mapping": mapping })).unwrap();
    }

    fn send(&self, events: &Path) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rollcall"));
        command.arg("send").arg(events).arg("--url").arg(format!("{}/webhooks/workos", self.url));
        command.env("ROLLCALL_WEBHOOK_SECRET", SECRET).stdout(Stdio::null()).stderr(Stdio::null());
        assert!(command.status().unwrap().success(), "`rollcall send` failed");
    }
}

/// A reader of the feed.
struct Reader<'a> {
    url: &'a str,
    agent: ureq::Agent,
    after: String,
    wait_s: u64,
}

impl Reader<'_> {
    fn new(url: &str, wait_s: u64) -> Reader<'_> {
        Reader { url, agent: ureq::Agent::new_with_defaults(), after: "0".into(), wait_s }
    }

    /// Reads the next page. Returns its changes; `None` if it is empty and the cursor unmoved.
    fn page(&mut self) -> Option<Vec<Value>> {
        let Reader { url, after, wait_s, .. } = self;
        let path = format!("rollcall/v1/changes?limit=1000&wait={wait_s}&after={after}");
        let request = self.agent.get(format!("{url}/{path}"));
        let request = request.header("Authorization", format!("Bearer {API_KEY}"));
        let mut page: Value = request.call().unwrap().body_mut().read_json().unwrap();
        let next = page.pointer("/list_metadata/after").unwrap().as_str().unwrap().to_owned();
        let Some(Value::Array(changes)) = page.get_mut("data").map(Value::take) else {
            panic!("a page without data")
        };
        let moved = std::mem::replace(&mut self.after, next) != self.after;
        (moved || !changes.is_empty()).then_some(changes)
    }
}

fn main() {
    let people = std::env::var("ROLLCALL_BENCH_PEOPLE").unwrap_or_else(|_| "50000".into());
    let folder = tempfile::tempdir().unwrap();
    let events = folder.path().join("events.jsonl");
    let mut generate = Command::new(env!("CARGO_BIN_EXE_rollcall"));
    generate.args(["generate", "--people", &people, "--directories", "3"]);
    assert!(generate.stdout(File::create(&events).unwrap()).status().unwrap().success());
    for mappings in [0, 4] {
        measure(&folder.path().join(format!("data-{mappings}")), &events, mappings);
    }
}

/// Measures the feed of a log in which some mappings were set before the events came.
fn measure(data: &Path, events: &Path, mappings: usize) {
    println!("{mappings} mappings");
    let server = Server::start(data);
    // An empty log is not folded.
    server.wait_until_ready();
    for mapping in four_mappings().iter().take(mappings) {
        server.map(mapping);
    }
    follow(&server, events);
    drop(server);
    for _ in 0..ROUNDS {
        let server = Server::start(data);
        let fold = server.fold();
        read_whole(&server, fold);
    }
}

/// Sends the events while a reader follows the feed, and prints the time from the record of each
/// change to its arrival.
fn follow(server: &Server, events: &Path) {
    let (url, sent) = (server.url.as_str(), AtomicBool::new(false));
    let began = Instant::now();
    let mut lags_ms = std::thread::scope(|scope| {
        let follower = scope.spawn(|| {
            let (mut reader, mut lags_ms) = (Reader::new(url, 1), Vec::new());
            loop {
                let last = sent.load(Ordering::SeqCst);
                let page = reader.page();
                let now = now_ms();
                for change in page.iter().flatten() {
                    lags_ms.push(now - parse(change["recorded_at"].as_str().unwrap()).unwrap());
                }
                if last && page.is_none() {
                    return lags_ms;
                }
            }
        });
        server.send(events);
        sent.store(true, Ordering::SeqCst);
        follower.join().unwrap()
    });
    lags_ms.sort_unstable();
    let lag = |of_1000: usize| lags_ms.get(lags_ms.len() * of_1000 / 1001).copied().unwrap_or(0);
    println!(
        "  sent in {:.1?}; {} changes followed live, lag p50 {} ms, p99 {} ms, max {} ms",
        began.elapsed(),
        lags_ms.len(),
        lag(500),
        lag(990),
        lag(1000)
    );
}

/// Reads the whole feed, and prints its time next to that of the fold.
fn read_whole(server: &Server, fold: Duration) {
    let mut reader = Reader::new(&server.url, 0);
    let (began, mut changes, mut pages_ms) = (Instant::now(), 0, Vec::new());
    loop {
        let page = Instant::now();
        let found = reader.page();
        pages_ms.push(page.elapsed().as_secs_f64() * 1e3);
        let Some(found) = found else { break };
        changes += found.len();
    }
    let took = began.elapsed();
    pages_ms.sort_by(f64::total_cmp);
    let page = |of_1000: usize| pages_ms.get(pages_ms.len() * of_1000 / 1001).unwrap_or(&0.0);
    println!(
        "  fold {fold:.2?}; whole feed of {changes} changes {took:.2?}, {:.2} x the fold; {} pages, \
         p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms",
        took.as_secs_f64() / fold.as_secs_f64(),
        pages_ms.len(),
        page(500),
        page(990),
        page(1000)
    );
}

/// Four mappings, each in force until the next.
fn four_mappings() -> [Value; 4] {
    let rule = |glob: &str, role: &str| json!({ "group": { "name_glob": glob }, "roles": [role] });
    let mapping = |rules: &[Value]| json!({ "mode": "all", "default_roles": ["member"], "priority": [], "rules": rules });
    let (sales, operations) = (rule("*Sales*", "seller"), rule("Operations *", "operator"));
    [
        mapping(&[rule("*", "grouped")]),
        mapping(&[rule("Project *", "builder")]),
        mapping(&[operations.clone(), sales.clone()]),
        mapping(&[operations, sales, rule("Product *", "maker")]),
    ]
}
