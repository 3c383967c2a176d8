//! The load generator: a closed loop over kept-alive connections, in a process of its own. All
//! requests are written, and all events signed, before the clock starts.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rollcall_generator::sign;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::kit::{Dice, PEOPLE, SECRET, event, ulid, user};
use crate::server::API_KEY;

/// Tells a load generator what to send, where, and for how long.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub(crate) address: SocketAddr,
    pub(crate) connections: usize,
    /// The time that is measured, after a tenth of it that is not.
    pub(crate) ms: u64,
    pub(crate) work: Work,
}

/// The requests.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) enum Work {
    /// Paths that are asked in turns.
    Get(Vec<String>),
    /// The same with another bearer token than the operator's key.
    GetAs(String, Vec<String>),
    /// Signed webhooks, each sent once.
    Events(Events),
    /// The events of a file, a line each, as signed webhooks. All are sent, however long it takes.
    File(PathBuf),
    /// Requests, each sent once, or in turns.
    Send { requests: Vec<Request>, once: bool },
}

/// A request.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) token: String,
    pub(crate) body: Option<String>,
}

impl Request {
    pub(crate) fn new(method: &str, path: &str, token: &str, body: Option<&Value>) -> Request {
        let (method, path, token) = (method.to_owned(), path.to_owned(), token.to_owned());
        Request { method, path, token, body: body.map(Value::to_string) }
    }

    /// Writes it for a connection that stays open.
    fn bytes(&self) -> Vec<u8> {
        let Request { method, path, token, body } = self;
        let mut head =
            format!("{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n");
        if let Some(body) = body {
            let length = body.len();
            head.push_str("Content-Type: application/json\r\n");
            head.push_str(&format!("Content-Length: {length}\r\n\r\n{body}"));
        } else {
            head.push_str("\r\n");
        }
        head.into_bytes()
    }
}

/// Webhooks with ids of their own.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Events {
    /// The number of the first.
    pub(crate) first: u64,
    pub(crate) count: u64,
    /// The percentage that repeats one that was sent before.
    pub(crate) duplicates: u64,
    /// The percentage that has a bad signature.
    pub(crate) bad: u64,
}

/// The outcome of a load.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub(crate) per_s: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    /// The bytes of the last answer's body.
    pub(crate) bytes: usize,
    /// The CPU time that the server took for each request, where that is measured.
    pub(crate) cpu_us: f64,
    /// The answers by status, warming up included.
    pub(crate) statuses: BTreeMap<u16, u64>,
}

impl Plan {
    /// Runs the load in a process of its own.
    pub(crate) fn run(&self) -> Outcome {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg("--as-load").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        serde_json::to_writer(child.stdin.take().unwrap(), self).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "the load generator failed");
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

/// Works as a load generator by the plan on the standard input.
pub(crate) fn work() {
    let plan: Plan = serde_json::from_reader(std::io::stdin()).unwrap();
    let requests = match &plan.work {
        Work::Get(paths) => paths.iter().map(|path| get(path, API_KEY)).collect(),
        Work::GetAs(token, paths) => paths.iter().map(|path| get(path, token)).collect(),
        Work::Events(events) => webhooks(events),
        Work::Send { requests, .. } => requests.iter().map(Request::bytes).collect(),
        Work::File(_) => Vec::new(),
    };
    let once =
        !matches!(plan.work, Work::Get(_) | Work::GetAs(..) | Work::Send { once: false, .. });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let run =
        |requests| tokio::task::LocalSet::new().block_on(&runtime, send(&plan, requests, once));
    let outcome = match &plan.work {
        Work::File(path) => of_parts(path, run),
        _ => run(requests),
    };
    serde_json::to_writer(std::io::stdout(), &outcome).unwrap();
}

/// The number of events of a file that are read, signed and sent at once.
const PART: usize = 50_000;

/// Sends the events of a file in parts. The outcome is that of the last, with the statuses of all.
fn of_parts(path: &Path, run: impl Fn(Vec<Vec<u8>>) -> Outcome) -> Outcome {
    let mut lines = BufReader::new(File::open(path).unwrap()).lines().map(Result::unwrap);
    let mut outcome = Outcome::default();
    loop {
        let now = rollcall::time::now_ms();
        let part = lines.by_ref().take(PART);
        let requests: Vec<_> = part.map(|body| signed(&body, SECRET, now)).collect();
        if requests.is_empty() {
            return outcome;
        }
        let mut next = run(requests);
        for (status, count) in outcome.statuses {
            *next.statuses.entry(status).or_default() += count;
        }
        outcome = next;
    }
}

fn get(path: &str, token: &str) -> Vec<u8> {
    Request::new("GET", path, token, None).bytes()
}

/// Writes and signs the webhooks: users of 1.8 KB that change.
fn webhooks(events: &Events) -> Vec<Vec<u8>> {
    let now = rollcall::time::now_ms();
    let mut dice = Dice(events.first);
    let bodies: Vec<String> = (0..64).map(|person| padded(person * PEOPLE / 64, now)).collect();
    let mut requests: Vec<Vec<u8>> = Vec::new();
    for number in events.first..events.first + events.count {
        let is_repeated = dice.below(100) < events.duplicates && !requests.is_empty();
        if is_repeated {
            let again = dice.below(requests.len() as u64) as usize;
            requests.push(requests[again].clone());
            continue;
        }
        let id = format!("event_{}", ulid(now, number));
        let body = bodies[dice.below(64) as usize].replacen("EVENT_ID", &id, 1);
        let is_bad = dice.below(100) < events.bad;
        requests.push(signed(&body, if is_bad { "whsec_other" } else { SECRET }, now));
    }
    requests
}

/// Writes a signed webhook.
fn signed(body: &str, secret: &str, now: i64) -> Vec<u8> {
    let (signature, length) = (sign(secret, now, body.as_bytes()), body.len());
    let head = format!(
        "POST /webhooks/workos HTTP/1.1\r\nHost: x\r\nWorkOS-Signature: {signature}\r\n\
         Content-Length: {length}\r\n\r\n"
    );
    [head.as_bytes(), body.as_bytes()].concat()
}

/// The bytes of a webhook.
pub(crate) const WEBHOOK_BYTES: usize = 1800;

fn padded(person: u64, now: i64) -> String {
    let mut data = user(person, now);
    let write = |data: &serde_json::Value| {
        let body = String::from_utf8(event(0, "dsync.user.updated", now, data)).unwrap();
        let id = format!("event_{}", ulid(now, 0));
        body.replacen(&id, "EVENT_ID", 1)
    };
    let missing = WEBHOOK_BYTES.saturating_sub(write(&data).len() + 30);
    data["raw_attributes"]["note"] = "x".repeat(missing).into();
    write(&data)
}

/// Holds the requests, the clock and the counts that all connections share.
struct Shared {
    requests: Vec<Vec<u8>>,
    next: Cell<usize>,
    /// True if each request is sent once.
    once: bool,
    /// The beginning and the end of the measured time.
    begin: Instant,
    end: Instant,
    latencies: RefCell<Histogram<u64>>,
    last: Cell<Instant>,
    outcome: RefCell<Outcome>,
}

impl Shared {
    fn next(&self) -> Option<&[u8]> {
        let at = self.next.replace(self.next.get() + 1);
        let at = if self.once { at } else { at % self.requests.len() };
        self.requests.get(at).map(|request| &request[..])
    }

    fn note(&self, begun: Instant, answer: Answer) {
        let now = Instant::now();
        let mut outcome = self.outcome.borrow_mut();
        *outcome.statuses.entry(answer.status).or_default() += 1;
        outcome.bytes = answer.bytes;
        if begun >= self.begin {
            let ns = now.duration_since(begun).as_nanos() as u64;
            let _ = self.latencies.borrow_mut().record(ns);
            self.last.set(now);
        }
    }
}

async fn send(plan: &Plan, requests: Vec<Vec<u8>>, once: bool) -> Outcome {
    let begin = Instant::now() + Duration::from_millis(plan.ms / 10);
    let shared = Rc::new(Shared {
        requests,
        next: Cell::new(0),
        once,
        begin,
        end: begin + Duration::from_millis(plan.ms),
        latencies: RefCell::new(Histogram::new(3).unwrap()),
        last: Cell::new(begin),
        outcome: RefCell::default(),
    });
    let address = plan.address;
    let tasks: Vec<_> = (0..plan.connections)
        .map(|_| tokio::task::spawn_local(converse(address, shared.clone())))
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let latencies = shared.latencies.borrow();
    let measured = shared.last.get().duration_since(shared.begin).as_secs_f64();
    let us = |quantile| latencies.value_at_quantile(quantile) as f64 / 1e3;
    Outcome {
        per_s: if measured > 0.0 { latencies.len() as f64 / measured } else { 0.0 },
        p50_us: us(0.5),
        p99_us: us(0.99),
        ..shared.outcome.borrow().clone()
    }
}

/// Sends requests over one connection until the time is over or none is left, but at least one.
async fn converse(address: SocketAddr, shared: Rc<Shared>) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let mut buffer = Vec::with_capacity(1 << 16);
    while let Some(request) = shared.next() {
        let begun = Instant::now();
        stream.write_all(request).await.unwrap();
        let answer = receive(&mut stream, &mut buffer).await;
        shared.note(begun, answer);
        if Instant::now() >= shared.end {
            return;
        }
    }
}

struct Answer {
    status: u16,
    bytes: usize,
}

async fn receive(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Answer {
    buffer.clear();
    let mut whole = None;
    loop {
        let read = stream.read_buf(buffer).await.unwrap();
        assert!(read > 0, "the server closed a connection");
        if whole.is_none()
            && let Some(head) = memchr::memmem::find(buffer, b"\r\n\r\n")
        {
            let text = std::str::from_utf8(&buffer[..head]).unwrap().to_ascii_lowercase();
            let status = text[9..12].parse().unwrap();
            let length = text.split("content-length: ").nth(1);
            let length = length.and_then(|rest| rest.split("\r\n").next()?.parse().ok());
            let bytes: usize = length.unwrap_or(0);
            whole = Some((head + 4 + bytes, Answer { status, bytes }));
        }
        if whole.as_ref().is_some_and(|(end, _)| buffer.len() >= *end) {
            return whole.unwrap().1;
        }
    }
}
