//! Roles from groups over a million events: 100,000 people in 1,000 groups, 200 rules of which 30
//! are globs and 20 look at attributes.
//!
//! A preview, what a mapping needs before it is set, and a whole rebuild while a reader asks a
//! thousand times a second; each beside what it is made of, measured in the same run.
//! `ROLLCALL_BENCH_EVENTS=100000` measures a company of a tenth.

#![allow(clippy::panic, clippy::indexing_slicing, reason = "a benchmark that cannot go on stops")]

mod kit;

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use kit::{DIRECTORY, Dice, NOW, SECRET, START, event, open, receive, settings, verified};
use rollcall::engine::{Engine, Expect};
use rollcall::http::{ListenOn, serve};
use rollcall::keys::ApiKeys;
use rollcall::log::{BATCH_EVENTS_MAX, Log};
use rollcall::verify::{Keyring, parse_mapping};
use rollcall_projections::{Cut, Mapping, Sight};
use serde_json::{Value, json};

/// Between two questions of the reader.
const PACE: Duration = Duration::from_millis(1);

/// A company in which each person is in four groups, and people change and move until there are
/// enough events.
fn build(log: &dyn Log, people: u64, groups: u64, events: usize) {
    let keyring = Keyring::new([SECRET], u64::MAX);
    let (mut dice, mut number, mut batch) = (Dice(11), 0u64, Vec::new());
    let mut tell = |kind: &str, data: &Value| {
        number += 1;
        batch.push(verified(&keyring, event(number, kind, START + number as i64, data)));
        if batch.len() == BATCH_EVENTS_MAX {
            let Ok(_) = log.append(std::mem::take(&mut batch), NOW) else {
                panic!("the log does not take it")
            };
        }
        number as usize
    };
    tell("dsync.activated", &kit::directory());
    for group in 0..groups {
        tell("dsync.group.created", &named_group(group));
    }
    let user = |person: u64, version: u64| {
        let mut user = kit::user(person, START);
        user["custom_attributes"]["level"] = json!(version % 7);
        user["custom_attributes"]["department_name"] =
            json!(format!("Department {}", (person + version) % 40));
        user
    };
    let membership = |person: u64, group: u64| {
        json!({
            "directory_id": DIRECTORY, "user": user(person, 0), "group": named_group(group),
        })
    };
    let mut seats: Vec<[u64; 4]> = Vec::new();
    for person in 0..people {
        tell("dsync.user.created", &user(person, 0));
        let mine = [0, 1, 2, 3].map(|seat| (person * 7 + seat * 251) % groups);
        for group in mine {
            tell("dsync.group.user_added", &membership(person, group));
        }
        seats.push(mine);
    }
    loop {
        let person = dice.below(people);
        let told = if dice.below(2) == 0 {
            tell("dsync.user.updated", &user(person, dice.below(1000)))
        } else {
            let (seat, new) = (dice.below(4) as usize, dice.below(groups));
            let old = std::mem::replace(&mut seats[person as usize][seat], new);
            tell("dsync.group.user_removed", &membership(person, old));
            tell("dsync.group.user_added", &membership(person, new))
        };
        if told >= events {
            break;
        }
    }
    let Ok(_) = log.append(batch, NOW) else { panic!("the log does not take it") };
}

fn named_group(number: u64) -> Value {
    let mut group = kit::group(number);
    group["name"] = json!(format!("Team {number} of area {}", number % 50));
    group
}

/// 150 rules by name, 30 by glob, 20 by attribute.
fn mapping(mode: &str, shift: u64) -> Mapping {
    let role = |number: u64| format!("role-{:03}", (number + shift) % 60);
    let mut rules: Vec<Value> = (0..150)
        .map(|number| {
            let name = format!("Team {} of area {}", number * 5, number * 5 % 50);
            json!({"group": {"name": name}, "roles": [role(number)]})
        })
        .collect();
    rules.extend((0..30).map(|number| {
        let glob = format!("*{number}? of area *{}", number % 10);
        json!({"group": {"name_glob": glob}, "roles": [role(number + 7)]})
    }));
    rules.extend((0..19).map(|number| {
        // Each mode asks for values of its own, so that its index is built anew.
        let value = format!("Department {}", number * 2 + u64::from(mode == "all"));
        json!({
            "attribute": "custom_attributes.department_name",
            "values": {value: [role(number + 13)]},
        })
    }));
    rules.push(json!({
        "attribute": "custom_attributes.level",
        "values": {"6": ["senior"], "5": ["senior", "mentor"]},
    }));
    let mut priority: Vec<String> = (0..60).map(|number| format!("role-{number:03}")).collect();
    priority.extend(["senior", "mentor", "member"].map(String::from));
    match parse_mapping(
        &json!({"mode": mode, "default_roles": ["member"], "priority": priority, "rules": rules}),
    ) {
        Ok(mapping) => mapping,
        Err(errors) => panic!("{errors:?}"),
    }
}

/// Asks for a user by id once a millisecond until told to stop; how long the answers took,
/// ascending.
fn read_along(address: SocketAddr, people: u64, stop: &AtomicBool) -> Vec<Duration> {
    let Ok(mut stream) = TcpStream::connect(address) else { panic!("no connection") };
    let _ = stream.set_nodelay(true);
    let (mut dice, mut answer, mut times) = (Dice(5), vec![0; 1 << 20], Vec::new());
    let began = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        let due = began + PACE * times.len() as u32;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        // From when the question was due: a server that stops is not asked less for it.
        let id = kit::user_id(dice.below(people));
        let _ = write!(
            stream,
            "GET /directory_users/{id} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer k\r\n\r\n"
        );
        receive(&mut stream, &mut answer);
        times.push(due.max(began).elapsed());
    }
    times.sort();
    times
}

fn latencies(what: &str, times: &[Duration], seconds: f64) {
    let at = |part: f64| {
        times
            .get(((times.len() as f64 * part) as usize).min(times.len().saturating_sub(1)))
            .copied()
            .unwrap_or_default()
    };
    println!(
        "  read meanwhile, {what:<18} {:>6.0}/s   p50 {:>8.2?}   p99 {:>8.2?}   slowest {:>8.2?}",
        times.len() as f64 / seconds,
        at(0.5),
        at(0.99),
        at(1.0)
    );
}

fn main() {
    let events: usize = std::env::var("ROLLCALL_BENCH_EVENTS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(1_000_000);
    let (people, groups) = (events as u64 / 10, (events as u64 / 1000).max(10));
    let Ok(folder) = tempfile::tempdir() else { panic!("no temporary folder") };
    let log = open(folder.path());
    build(&*log, people, groups, events);
    let began = Instant::now();
    let Ok(engine) = Engine::start(log.clone(), 256 << 20, rollcall::time::now_ms, |_| {}) else {
        panic!("the log does not fold")
    };
    let fold = began.elapsed();
    println!(
        "{} events, {people} people, {groups} groups; folded at the start in {fold:.2?}",
        log.head()
    );

    // The least that every preview must do: look at each person's groups once, and read the
    // attributes of their latest snapshots.
    let cut = Cut { known_at: log.head(), ..Cut::LATEST };
    let began = Instant::now();
    for person in 0..people {
        std::hint::black_box(engine.views().seen_by(&Sight::All).user(&kit::user_id(person), cut));
    }
    let everybody = began.elapsed();
    println!("everybody asked for by id once, without documents: {everybody:.2?}");
    for mode in ["all", "highest_priority"] {
        for round in 0..3 {
            let began = Instant::now();
            let Ok(proposal) = engine.propose(mapping(mode, round), None, cut, &|| true) else {
                panic!("the log cannot be read")
            };
            let read = began.elapsed();
            let mut changes = 0;
            let compared = engine.compare(&proposal, cut, &|| true, |some| changes += some.len());
            let Ok(comparison) = compared else { panic!("the log cannot be read") };
            let whole = began.elapsed();
            println!(
                "preview, {mode:<16} {whole:>8.2?} ({read:.2?} of it reading attributes): \
                 {:.2} x everybody by id; {changes} of {} people change",
                whole.as_secs_f64() / everybody.as_secs_f64(),
                comparison.users
            );
        }
    }

    let slot: Arc<OnceLock<Arc<Engine>>> = Arc::default();
    let _ = slot.set(engine.clone());
    let settings = settings(u64::MAX);
    let (sent, addresses) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        actix_web::rt::System::new().block_on(async move {
            let listen = [ListenOn::Tcp("127.0.0.1:0".into())];
            let Ok(server) = serve(&listen, None, settings, slot) else { panic!("no address") };
            let Some(address) = server.address() else { panic!("no address") };
            let _ = sent.send(address);
            let _ = server.run().await;
        });
    });
    let Ok(address) = addresses.recv() else { panic!("no server") };
    // `work` while a reader asks; how long it took.
    let beside = |what: &str, work: &dyn Fn()| {
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| read_along(address, people, &stop));
            std::thread::sleep(Duration::from_millis(200));
            let began = Instant::now();
            work();
            let took = began.elapsed();
            let reading = took + Duration::from_millis(200);
            stop.store(true, Ordering::Relaxed);
            if let Ok(times) = reader.join() {
                latencies(what, &times, reading.as_secs_f64());
            }
            took
        })
    };
    beside("nothing else", &|| std::thread::sleep(Duration::from_secs(2)));
    let Some(operator) = ApiKeys::unrestricted(["k"]).identify("k") else {
        panic!("the key is not known")
    };
    for mode in ["all", "highest_priority"] {
        let wanted = mapping(mode, if mode == "all" { 0 } else { 1 });
        let began = Instant::now();
        let Ok(bodies) = log.bodies(&(1..=log.head()).collect::<Vec<_>>()) else {
            panic!("the log cannot be read")
        };
        let limit = began.elapsed();
        drop(bodies);
        let took = beside("the role index", &|| {
            let Ok(prepared) = engine.prepare(&wanted, &|| true) else {
                panic!("the log cannot be read")
            };
            let set = engine.set_mapping(
                operator.clone(),
                wanted.clone(),
                prepared,
                Expect::NoMatter,
                None,
                None,
            );
            let Ok(_) = actix_web::rt::System::new().block_on(set) else {
                panic!("the mapping was not set")
            };
        });
        println!(
            "role index built and mapping set, {mode:<16} {took:>8.2?}: {:.2} x reading every body",
            took.as_secs_f64() / limit.as_secs_f64()
        );
    }
    let took = beside("the whole rebuild", &|| {
        let rebuild = engine.rebuild();
        while rebuild.finished_at().is_none() {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(!rebuild.has_failed(), "the rebuild failed");
    });
    println!(
        "every view rebuilt {took:>8.2?}: {:.2} x the fold at the start",
        took.as_secs_f64() / fold.as_secs_f64()
    );
    engine.close();
}
