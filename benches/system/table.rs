//! The table of docs/performance.md.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::Options;
use crate::kit::{BUSY_GROUP, Company, DIRECTORY, Dice, build, group_id, time, user_id};
use crate::limits::{Limits, appends_per_s, handovers_per_s, sled_commits_per_s};
use crate::load::{Events, Outcome, Plan, WEBHOOK_BYTES, Work};
use crate::report::{Row, print};
use crate::scim;
use crate::server::{Server, Target, built};

/// The parts of the table.
const PARTS: [&str; 3] = ["webhooks and reads", "long log", "scim"];

/// The records of the large log.
const RECORDS: u64 = 3_200_000;
const QUICK_RECORDS: u64 = 6_000;

/// The time of one turn, and the turns of each work; the best counts.
const TURN_MS: u64 = 2_000;
const TURNS: usize = 2;
const QUICK_TURN_MS: u64 = 200;

/// The time after which the memory that a comparison took is given back.
const GIVEN_BACK: Duration = Duration::from_secs(3);

/// The number of moments of which few are asked for twice in a turn.
const FRESH: usize = 100_000;

/// The most events that one connection, and all, send in a second.
const EVENTS_PER_S_MAX: [u64; 2] = [10_000, 60_000];

/// The most time in which events of a file are sent.
const SEND_MS_MAX: u64 = 3_600_000;

/// Caches as for the measure of memory, and what is taken off: the caches themselves.
const SMALL_CACHES: [&str; 4] = ["--store-cache-mib", "16", "--document-cache-mib", "16"];
const SMALL_CACHES_BYTES: u64 = 32 << 20;

/// A measurement in the making.
pub(crate) struct Table {
    turn_ms: u64,
    turns: usize,
    pub(crate) limits: Limits,
    /// The number of the next event.
    next: u64,
    /// The events that the real server took.
    taken: u64,
    pub(crate) rows: Vec<Row>,
}

/// The share of events that are not new, in a hundred.
#[derive(Clone, Copy, Default)]
struct Mix {
    duplicates: u64,
    bad: u64,
}

/// Measures the table and prints it.
pub(crate) fn measure(options: &Options) {
    let folder = tempfile::tempdir().unwrap();
    let mut table = Table {
        turn_ms: if options.quick { QUICK_TURN_MS } else { TURN_MS },
        turns: if options.quick { 1 } else { TURNS },
        limits: Limits::start(),
        next: 1 << 32,
        taken: 0,
        rows: Vec::new(),
    };
    let records = options.records.first().copied();
    let records = records.unwrap_or(if options.quick { QUICK_RECORDS } else { RECORDS });
    let is_wanted = |part: &str| part.contains(&options.only);
    assert!(PARTS.into_iter().any(is_wanted), "no part of the table is `{}`", options.only);
    let [webhooks, long_log, of_scim] = PARTS.map(is_wanted);
    if webhooks {
        table.small_log(&folder.path().join("small"));
    }
    if long_log {
        table.large_log(&folder.path().join("large"), records);
    }
    if of_scim {
        scim::measure(&mut table, &folder.path().join("scim"), options.quick);
    }
    print(&table.rows, options.json);
}

impl Table {
    /// Measures what needs no long log: the intake of webhooks, and reads.
    fn small_log(&mut self, data: &Path) {
        std::fs::create_dir(data).unwrap();
        let (log, company, settled) = build(data, 5_000);
        drop(log);
        let server = Server::start(built(), data, &[]);
        self.ingest(&server, data);
        self.reads(&server, &company);
        server.stop();
        // With this cache a page is too long to be kept: each is worked out, of cached documents.
        let server = Server::start(built(), data, &["--document-cache-mib", "32"]);
        self.page(&server, "100 members, not kept");
        server.stop();
        self.past(data, &company, settled);
    }

    fn ingest(&mut self, server: &Server, data: &Path) {
        let time = Duration::from_millis(self.turn_ms);
        let appends = appends_per_s(data, WEBHOOK_BYTES, time);
        let empty = self.limits.target();
        let goals = [(1, 0.65), (8, 0.2), (64, 0.5), (256, 0.55)];
        for (connections, goal) in goals {
            let ours = self.events(server.target(), connections, Mix::default());
            let nothing = self.events(empty, connections, Mix::default());
            let limit = match connections {
                1 => ("fdatasync of an appended file", appends),
                _ => ("empty handler", nothing.per_s),
            };
            let work = format!("ingest, {connections} connections");
            self.rows.push(Row::of_load(work, &ours, limit, goal));
            let work = format!("an empty handler, {connections} connections");
            self.rows.push(Row {
                limit: None,
                ratio: None,
                ..Row::of_load(work, &nothing, limit, 0.0)
            });
        }
        let handovers = handovers_per_s(time);
        self.rows.push(Row::of_value("two threads that wake each other", handovers, "/s", ""));
        for events in [1, 8, 64] {
            let work = format!("sled alone, commits of {events} events");
            let per_s = sled_commits_per_s(data, events, time);
            self.rows.push(Row::of_value(&work, per_s, "/s", ""));
        }
        let (clean, mix) = (Mix::default(), Mix { duplicates: 20, bad: 5 });
        let (mixed, alone) =
            (self.events(server.target(), 64, mix), self.events(server.target(), 64, clean));
        let work = "ingest, 64 connections, a quarter not new".to_owned();
        self.rows.push(Row::of_load(work, &mixed, ("rate without them", alone.per_s), 0.95));
    }

    fn reads(&mut self, server: &Server, company: &Company) {
        let people = company.present.iter().step_by(7);
        let users: Vec<String> =
            people.map(|person| format!("/directory_users/{}", user_id(*person))).collect();
        self.read(server, "user by id", users, 0.7);
        self.page(server, "100 members");
    }

    fn page(&mut self, server: &Server, name: &str) {
        let path = format!("/directory_users?group={}&limit=100", group_id(BUSY_GROUP));
        self.read(server, name, vec![path], 0.6);
    }

    fn read(&mut self, server: &Server, name: &str, paths: Vec<String>, goal: f64) {
        for connections in [8, 64] {
            let ours = self.best(server.address, connections, Work::Get(paths.clone()));
            let fixed = Work::Get(vec![format!("/fixed/{}", ours.bytes)]);
            let limit = self.best(self.limits.address, connections, fixed);
            let work = format!("{name}, {} B, {connections} connections", ours.bytes);
            let limit = ("fixed body of that size", limit.per_s);
            self.rows.push(Row::of_load(work, &ours, limit, goal));
        }
    }

    /// Measures the past next to the present, with the documents cached and nearly uncached.
    fn past(&mut self, data: &Path, company: &Company, settled: i64) {
        let mut dice = Dice(3);
        let mut moment = || time(settled + dice.below((company.at - settled).max(1) as u64) as i64);
        let page = format!("/directory_users?directory={DIRECTORY}&limit=100");
        let user = format!("/directory_users/{}?", user_id(company.present[0]));
        let asked = |path: &str, count: usize, moment: &mut dyn FnMut() -> String| -> Vec<String> {
            (0..count).map(|_| format!("{path}&as_of={}", moment())).collect()
        };
        let works = [
            ("user by id", asked(&user, 64, &mut moment), user.clone()),
            ("page of 100", asked(&page, 64, &mut moment), page),
            // Hardly any is asked twice, so that no answer is kept.
            ("user by id, fresh moments", asked(&user, FRESH, &mut moment), user),
        ];
        for (caches, mib, goal) in [("cached", "256", 1.2), ("not cached", "1", 2.0)] {
            let server = Server::start(built(), data, &["--document-cache-mib", mib]);
            for (name, past, now) in &works {
                let then = self.best(server.address, 8, Work::Get(past.clone()));
                let now = self.best(server.address, 8, Work::Get(vec![now.clone()]));
                let work = format!("{name}, past / now, documents {caches}");
                let ratio = now.per_s / then.per_s;
                self.rows.push(Row::of_value(&work, ratio, "times", &format!("{goal}")));
            }
            server.stop();
        }
    }

    /// Measures what a long log costs.
    fn large_log(&mut self, data: &Path, records: u64) {
        let events = data.with_extension("jsonl");
        let generated_bytes = generate(&events, records);
        let taken_before = self.taken;
        let server = Server::start(built(), data, &SMALL_CACHES);
        let small = self.events(server.target(), 256, Mix::default());
        self.send(&server, events);
        let large = self.events(server.target(), 256, Mix::default());
        let head = head(&server);
        let sent_bytes = (self.taken - taken_before) * WEBHOOK_BYTES as u64;
        server.stop();
        let rate = Row::of_load(
            format!("ingest at {head} records, 256 connections"),
            &large,
            ("rate at the beginning", small.per_s),
            0.97,
        );
        self.rows.push(rate);
        let bodies = (generated_bytes + sent_bytes) as f64;
        let snapshot = data.join("snapshot");
        let snapshot_bytes = std::fs::metadata(&snapshot).unwrap().len() as f64;
        let disk = disk_bytes(data) as f64;
        let work = "disk / bodies, with a snapshot";
        self.rows.push(Row::of_value(work, disk / bodies, "times", "0.40"));
        let without = (disk - snapshot_bytes) / bodies;
        self.rows.push(Row::of_value("disk / bodies, without it", without, "times", "0.33"));
        self.start(data, head);
        std::fs::remove_file(&snapshot).unwrap();
        let server = self.started(data, head, "without one", "4");
        server.stop();
    }

    /// Starts the server, and measures that.
    fn started(&mut self, data: &Path, head: u64, how: &str, goal: &str) -> Server {
        // The kernel may have dropped parts of the file meanwhile.
        let mut file = File::open(data.join("store/db")).unwrap();
        std::io::copy(&mut file, &mut std::io::sink()).unwrap();
        let server = Server::start(built(), data, &SMALL_CACHES);
        let start = server.start.as_secs_f64();
        let work = format!("start with {head} records, {how}");
        self.rows.push(Row::of_value(&work, start, "s", goal));
        self.memory(&server, head, &format!("memory after that start, {how}"));
        server
    }

    fn memory(&mut self, server: &Server, head: u64, work: &str) {
        let memory = server.memory().saturating_sub(SMALL_CACHES_BYTES) as f64 / head as f64;
        self.rows.push(Row::of_value(work, memory, "bytes an event", "160"));
    }

    fn start(&mut self, data: &Path, head: u64) {
        let server = self.started(data, head, "with a snapshot", "1.5");
        while server.get("/rollcall/v1/stats")["snapshot"]["comparison"] == "pending" {
            std::thread::sleep(Duration::from_millis(100));
        }
        std::thread::sleep(GIVEN_BACK);
        self.memory(&server, head, "memory once the snapshot is compared");
        let places = [("the start", 0), ("the middle", head / 2), ("the end", head - head / 20)];
        for (place, after) in places {
            let work = format!("100 changes from {place}");
            let ms = first_changes(&server, after).as_secs_f64() * 1e3;
            self.rows.push(Row::of_value(&work, ms, "ms", "20"));
        }
        for call in ["stats", "projections"] {
            let begun = Instant::now();
            server.get(&format!("/rollcall/v1/{call}"));
            let first = begun.elapsed().as_secs_f64() * 1e3;
            let path = format!("/rollcall/v1/{call}");
            let later = self.best(server.address, 1, Work::Get(vec![path])).p50_us / 1e3;
            self.rows.push(Row::of_value(&format!("{call}, first"), first, "ms", ""));
            self.rows.push(Row::of_value(&format!("{call}, p50"), later, "ms", "5"));
        }
        server.stop();
    }

    /// Sends signed events in turns. Returns the best, and checks that each answer is the right
    /// one.
    fn events(&mut self, target: Target, connections: usize, mix: Mix) -> Outcome {
        let address = target.address;
        let Mix { duplicates, bad } = mix;
        let per_s = EVENTS_PER_S_MAX[usize::from(connections > 1)];
        let count = per_s * self.turn_ms * 11 / 10_000;
        let mut best = Outcome::default();
        for _ in 0..self.turns {
            let events = Events { first: self.next, count, duplicates, bad };
            self.next += count;
            let before = target.cpu_us();
            let mut outcome = self.run(address, connections, Work::Events(events));
            let answers: u64 = outcome.statuses.values().sum();
            outcome.cpu_us = (target.cpu_us() - before) / answers as f64;
            let taken = outcome.statuses.get(&200).copied().unwrap_or(0);
            let refused = outcome.statuses.get(&401).copied().unwrap_or(0);
            if address != self.limits.address {
                self.taken += taken;
            }
            assert_eq!(taken + refused, outcome.statuses.values().sum::<u64>(), "{outcome:?}");
            assert_eq!(refused > 0, bad > 0, "{outcome:?}");
            if outcome.per_s > best.per_s {
                best = outcome;
            }
        }
        best
    }

    /// Sends the events of a file over 64 connections.
    fn send(&self, server: &Server, events: PathBuf) {
        let work = Work::File(events);
        let plan = Plan { address: server.address, connections: 64, ms: SEND_MS_MAX, work };
        let outcome = plan.run();
        assert!(outcome.statuses.keys().eq([&200]), "{:?}", outcome.statuses);
    }

    /// Asks in turns. Returns the best.
    pub(crate) fn best(&self, address: SocketAddr, connections: usize, work: Work) -> Outcome {
        let outcomes = (0..self.turns).map(|_| self.run(address, connections, work.clone()));
        let best = outcomes.max_by(|a, b| a.per_s.total_cmp(&b.per_s)).unwrap();
        assert!(best.statuses.keys().eq([&200]), "{:?}", best.statuses);
        best
    }

    pub(crate) fn run(&self, address: SocketAddr, connections: usize, work: Work) -> Outcome {
        Plan { address, connections, ms: self.turn_ms, work }.run()
    }
}

/// Generates a history of about `records` events. Returns the bytes of their bodies.
fn generate(events: &Path, records: u64) -> u64 {
    let people = (records / 8).max(10).to_string();
    let mut generate = Command::new(built());
    generate.args(["generate", "--people", &people, "--directories", "3", "--duplicates", "0"]);
    assert!(generate.stdout(File::create(events).unwrap()).status().unwrap().success());
    std::fs::metadata(events).unwrap().len()
}

fn head(server: &Server) -> u64 {
    server.get("/rollcall/v1/stats")["seq"].as_u64().unwrap()
}

/// Returns the time until 100 changes have come, or all there are.
fn first_changes(server: &Server, after: u64) -> Duration {
    let (begun, mut after, mut found) = (Instant::now(), after.to_string(), 0);
    loop {
        let page = server.get(&format!("/rollcall/v1/changes?limit=100&wait=0&after={after}"));
        found += page["data"].as_array().unwrap().len();
        let next = page["list_metadata"]["after"].as_str().unwrap().to_owned();
        if found >= 100 || next == after {
            return begun.elapsed();
        }
        after = next;
    }
}

fn disk_bytes(folder: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    entries
        .map(|entry| {
            let metadata = entry.metadata().unwrap();
            if metadata.is_dir() { disk_bytes(&entry.path()) } else { metadata.blocks() * 512 }
        })
        .sum()
}
