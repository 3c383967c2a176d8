//! A source of the size that organizations have: what a fresh server makes of it, how long that
//! takes, and in how much memory. Only `tests/long source` measures times and memory: other tests
//! must not depend on how fast a machine is.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::kit::server::{Server, agent, get};
use crate::kit::source::past::{self, Ending};
use crate::kit::source::prepared::{Prepared, Sizes};
use crate::kit::source::pulling::{Puller, source_of};
use crate::kit::source::reconciling::{assert_in_step, begin, reconcile, whole};
use crate::kit::source::stand_in::{SOURCE_KEY, StandIn};

/// Only a hang takes so long.
const PATIENCE: Duration = Duration::from_secs(1800);

/// The memory that a reconciliation may take above that of the idle server.
const MEMORY_MIB_MAX: u64 = 256;

fn measures() -> bool {
    std::env::var_os("ROLLCALL_SOURCE_FIGURES").is_some()
}

/// Waits for the end of the newest run.
fn newest_ended(server: &Server) -> Value {
    let begun = Instant::now();
    loop {
        let run = server.get("/rollcall/v1/reconciliations").json()["data"][0].clone();
        if run["state"].as_str().is_some_and(|state| state != "running") {
            return run;
        }
        assert!(begun.elapsed() < PATIENCE, "{run}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// One command: the server pulls, compares by itself, and says that it is in step.
fn start_alone(data: &Path, url: &str) -> Server {
    Puller { options: &["--reconcile-every", "24h"], ..Puller::of(data, url) }.start()
}

fn ends_equal_to_its_source(ending: Ending, seed: u64) {
    let (source, data) = (StandIn::start(), tempfile::tempdir().unwrap());
    past::write(&source, ending, seed);
    let contents = source.contents();
    assert_eq!(contents.directories.len(), ending.directories);
    assert_eq!(contents.users.len(), ending.users);
    assert_eq!(contents.members.len(), ending.memberships);
    let listed = contents.events.len();
    drop(contents);
    let begun = Instant::now();
    let server = start_alone(data.path(), &source.url);
    let run = newest_ended(&server);
    let took = begun.elapsed();
    assert_eq!(
        (&run["state"], &run["held"]),
        (&json!("completed"), &json!(0)),
        "seed {seed}: {run}"
    );
    assert_in_step(&server, &source.url, SOURCE_KEY);
    let compared = &run["compared"];
    assert_eq!(compared["users"], ending.users);
    assert_eq!(compared["memberships"], ending.memberships);
    let pulled = source_of(&server)["pulled"].clone();
    println!(
        "seed {seed}: in step after {took:.1?}; {listed} events at the source, {pulled} pulled, {} \
         observations",
        run["recorded"]
    );
    assert!(run["recorded"].as_u64() > Some(0), "something was lost");
    assert_eq!(reconcile(&server, &whole())["differences"]["data"], json!([]));
    let log = server.stop_and_say();
    assert_eq!(log.matches("in step with the source").count(), 2, "{log}");
}

#[test]
fn a_fresh_server_ends_equal_to_a_source_of_which_events_were_lost() {
    if measures() {
        return ends_equal_to_its_source(
            Ending { directories: 50, users: 20_000, memberships: 90_000, lost: 1 },
            1,
        );
    }
    for seed in 1..=2 {
        ends_equal_to_its_source(
            Ending { directories: 5, users: 300, memberships: 1200, lost: 1 },
            seed,
        );
    }
}

/// A field of the memory of a server's process, in MiB.
fn memory_mib(server: &Server, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

/// Returns the memory of the idle server, from which on its peak is counted.
fn idle_mib(server: &Server) -> u64 {
    thread::sleep(Duration::from_secs(3));
    std::fs::write(format!("/proc/{}/clear_refs", server.pid()), "5").unwrap();
    memory_mib(server, "VmRSS")
}

/// The seconds of each step of a run.
type Steps = Vec<(String, f64)>;

/// Runs a reconciliation, and returns it with the time that each step took.
fn timed(server: &Server, body: &Value) -> (Value, Steps) {
    let id = begin(server, body)["id"].clone();
    let (mut steps, mut since): (Steps, _) = (Vec::new(), Instant::now());
    let path = "/rollcall/v1/reconciliations";
    loop {
        let answer = server.get(path);
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
        let run = answer.json()["data"][0].clone();
        assert_eq!(run["id"], id);
        let step = run["step"].as_str().unwrap_or("-").to_owned();
        let seconds = since.elapsed().as_secs_f64();
        since = Instant::now();
        match steps.last_mut() {
            Some((last, sum)) if *last == step => *sum += seconds,
            _ => steps.push((step, seconds)),
        }
        if run["state"] != "running" {
            return (run, steps);
        }
        thread::sleep(Duration::from_millis(20));
    }
}

fn show(steps: &Steps) -> String {
    let shown = steps.iter().map(|(step, seconds)| format!("{step} {seconds:.1} s"));
    shown.collect::<Vec<_>>().join(", ")
}

/// Sends the same requests one after the other, and returns the time that they take.
fn by_themselves(source: &Prepared, targets: &[String]) -> Duration {
    let (agent, authorization) = (agent(), format!("Bearer {SOURCE_KEY}"));
    let begun = Instant::now();
    for target in targets {
        let answer = get(&agent, &source.url, target, &[("Authorization", &authorization)]);
        assert_eq!(answer.status, 200);
    }
    begun.elapsed()
}

#[test]
fn an_import_takes_little_longer_than_its_requests() {
    if !measures() {
        return;
    }
    let sizes = Sizes { users: 100_000, groups: 1000, memberships: 300_000 };
    let source = Prepared::start(sizes, Duration::from_millis(5));
    let data = tempfile::tempdir().unwrap();
    let server =
        Puller { options: &["--pull-every", "1h"], ..Puller::of(data.path(), &source.url) }.start();
    let idle = idle_mib(&server);
    source.take_targets();
    let begun = Instant::now();
    let (run, steps) = timed(&server, &whole());
    let took = begun.elapsed();
    let targets = source.take_targets();
    let peak = memory_mib(&server, "VmHWM");
    assert_eq!(run["state"], "completed", "{run}");
    assert_eq!(run["recorded"], 1 + 1000 + 100_000 + 300_000);
    let bare = by_themselves(&source, &targets);
    let after = idle_mib(&server);
    let ratio = took.as_secs_f64() / bare.as_secs_f64();
    println!("import: {took:.1?} ({}); {} requests", show(&steps), targets.len());
    println!("import: the same requests by themselves {bare:.1?}; {ratio:.2} times that");
    println!("import: {idle} MiB idle before, {peak} MiB at most, {after} MiB idle after");
    assert_eq!(server.stop(), 0);
    let server = Puller::of(data.path(), &source.url).start();
    println!("import: {} MiB idle after a restart", idle_mib(&server));
    assert_eq!(server.stop(), 0);
    assert!(ratio <= 1.3, "{ratio:.2}");
    assert!(peak <= idle.max(after) + MEMORY_MIB_MAX);
}

#[test]
fn a_directory_of_a_million_users_is_compared_in_little_memory() {
    if !measures() {
        return;
    }
    let sizes = Sizes { users: 1_000_000, groups: 1, memberships: 100 };
    let source = Prepared::start(sizes, Duration::ZERO);
    let data = tempfile::tempdir().unwrap();
    let options = &["--pull-every", "1h"];
    let start = || Puller { options, ..Puller::of(data.path(), &source.url) }.start();
    let server = start();
    let (run, steps) = timed(&server, &whole());
    assert_eq!(run["recorded"], 1_000_102, "{run}");
    println!("a million users: imported ({})", show(&steps));
    assert_eq!(server.stop(), 0);
    let server = start();
    let idle = idle_mib(&server);
    let begun = Instant::now();
    let (run, steps) = timed(&server, &whole());
    let (took, peak) = (begun.elapsed(), memory_mib(&server, "VmHWM"));
    assert_eq!((&run["state"], &run["recorded"]), (&json!("completed"), &json!(0)), "{run}");
    println!("a million users: compared in {took:.1?} ({})", show(&steps));
    println!("a million users: {idle} MiB idle, {peak} MiB at most");
    assert!(peak <= idle + MEMORY_MIB_MAX);
    assert_eq!(server.stop(), 0);
}
