//! The parts that benchmarks share: a made company with a long past, and measuring in turns.
//!
//! Absolute figures differ from machine to machine and from minute to minute, so what is compared
//! is measured in the same run, in turns, and printed as a ratio.

#![allow(dead_code, unreachable_pub, reason = "each benchmark uses a part")]

use std::io::Read;
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Instant;

use rollcall::http::Settings;
use rollcall::keys::ApiKeys;
use rollcall::log::{BATCH_EVENTS_MAX, Log, Unrecovered};
use rollcall::verify::{Keyring, Verified};
use rollcall_generator::sign;
use serde_json::{Value, json};

pub const SECRET: &str = "whsec_bench";
pub const NOW: i64 = 1_790_000_000_000;
pub const START: i64 = 1_600_000_000_000;
/// Between one event and the next.
pub const STEP_MS: i64 = 60_000;

/// A generator that is the same everywhere.
pub struct Dice(pub u64);

impl Dice {
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound.max(1)
    }
}

/// A ULID whose time is `ms` and whose rest is `number`.
pub fn ulid(ms: i64, number: u64) -> String {
    const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    let bits = (ms as u128) << 80 | u128::from(number);
    (0..26).rev().map(|n| char::from(DIGITS[(bits >> (5 * n)) as usize & 31])).collect()
}

pub fn time(ms: i64) -> String {
    rollcall::time::format(ms)
}

pub const DIRECTORY: &str = "directory_01E1X194NTJ3PYMAY79DYV0F0P";

/// Ids of users do not follow their creation, so that those who left stand between those who
/// stayed.
pub fn user_id(number: u64) -> String {
    format!("directory_user_{}", ulid(START, number.wrapping_mul(0x9E37_79B9_7F4A_7C15)))
}

pub fn group_id(number: u64) -> String {
    format!("directory_group_{}", ulid(START, number))
}

pub const ORGANIZATION: &str = "org_01E1X194NTJ3PYMAY79DYV0F0P";

pub fn email(number: u64) -> String {
    format!("person{number}@bench.example")
}

/// About 1.2 KB, like a user of a real directory.
pub fn user(number: u64, at: i64) -> Value {
    json!({
        "object": "directory_user", "id": user_id(number), "directory_id": DIRECTORY,
        "organization_id": ORGANIZATION, "idp_id": format!("00u{number:017}"),
        "email": email(number), "first_name": format!("First{number}"),
        "last_name": format!("Last{}", number % 977),
        "name": format!("First{number} Last{}", number % 977),
        "emails": [{"primary": true, "type": "work", "value": email(number)}],
        "job_title": "Engineer", "username": format!("person{number}"), "state": "active",
        "raw_attributes": {},
        "custom_attributes": {
            "department_name": format!("Department {}", number % 40),
            "cost_center_name": format!("CC-{}", number % 300),
            "employee_type": "full time", "manager_email": email(number / 8),
            "employee_number": format!("{number:08}"),
            "addresses": [{
                "type": "work", "locality": "Example City", "region": "EX",
                "postal_code": format!("{:05}", number % 99_999), "country": "XX", "primary": true,
                "street_address": format!("{} Example Street", number % 1200),
            }],
            "employment_start_date": "2021-06-27T12:00:00.000Z",
        },
        "created_at": time(START), "updated_at": time(at),
    })
}

pub fn directory() -> Value {
    json!({
        "object": "directory", "id": DIRECTORY, "organization_id": ORGANIZATION,
        "external_key": "k", "type": "okta scim v2.0", "state": "active", "name": "Bench",
        "domains": [], "created_at": time(START), "updated_at": time(START),
    })
}

pub fn group(number: u64) -> Value {
    json!({
        "object": "directory_group", "id": group_id(number), "idp_id": format!("g{number}"),
        "directory_id": DIRECTORY, "organization_id": ORGANIZATION,
        "name": format!("Group {number}"), "raw_attributes": {},
        "created_at": time(START), "updated_at": time(START),
    })
}

pub fn event(number: u64, kind: &str, at: i64, data: &Value) -> Vec<u8> {
    let id = format!("event_{}", ulid(at, number));
    let event = json!({
        "object": "event", "id": id, "event": kind, "data": data, "created_at": time(at),
        "context": {},
    });
    event.to_string().into_bytes()
}

pub fn membership(user_number: u64, group_number: u64, at: i64) -> Value {
    json!({"directory_id": DIRECTORY, "user": user(user_number, at), "group": group(group_number)})
}

/// The number of people at any time after the first sync; below, that of their groups.
pub const PEOPLE: u64 = 2000;
pub const GROUPS: u64 = 20;
/// The group with ten times more former members than members, once the past is long enough. Nobody
/// comes back to it.
pub const BUSY_GROUP: u64 = GROUPS;
/// The group whose seats change hands all the time, among the same people.
pub const REVOLVING_GROUP: u64 = GROUPS + 1;
/// Members of each of these two.
pub const SEATS: u64 = 200;
/// The user with a great many versions.
pub const BUSY_USER: u64 = 1_000_000;

/// A company of constant size: everyone who leaves is replaced. Each group keeps its size as well,
/// so that a question about any moment after the first sync finds as much as one about now.
pub struct Company {
    pub dice: Dice,
    next_person: u64,
    /// The people of now.
    pub present: Vec<u64>,
    /// All people ever, each with the time of its arrival and its departure.
    pub lives: Vec<(u64, i64, i64)>,
    /// The members of the busy group; below, all that it ever had.
    busy: Vec<u64>,
    ever_busy: std::collections::HashSet<u64>,
    /// The members of the revolving group.
    revolving: Vec<u64>,
    number: u64,
    pub at: i64,
    /// One in so many changes of seats concerns the busy group, so that its past fills the whole of
    /// time.
    pub busy_every: u64,
}

impl Company {
    pub fn new() -> Company {
        Company {
            dice: Dice(7),
            next_person: 0,
            present: Vec::new(),
            lives: Vec::new(),
            busy: Vec::new(),
            ever_busy: Default::default(),
            revolving: Vec::new(),
            number: 0,
            at: START,
            busy_every: 1,
        }
    }

    pub fn tell(&mut self, kind: &str, data: &Value) -> Vec<u8> {
        self.number += 1;
        self.at += STEP_MS;
        event(self.number, kind, self.at, data)
    }

    /// A seat changes hands.
    fn swap(&mut self, group: u64, left: u64, new: u64) -> [Vec<u8>; 2] {
        let (left, new) = (membership(left, group, self.at), membership(new, group, self.at));
        [self.tell("dsync.group.user_removed", &left), self.tell("dsync.group.user_added", &new)]
    }

    fn hire(&mut self, out: &mut Vec<Vec<u8>>) -> u64 {
        let person = self.next_person;
        self.next_person += 1;
        let at = self.at;
        out.push(self.tell("dsync.user.created", &user(person, at)));
        out.push(self.tell("dsync.group.user_added", &membership(person, person % GROUPS, at)));
        self.lives.push((person, self.at, i64::MAX));
        person
    }

    /// The directory, its groups, everybody, and the busy user.
    pub fn sync(&mut self) -> Vec<Vec<u8>> {
        let mut out = Vec::new();
        out.push(self.tell("dsync.activated", &directory()));
        for number in 0..=REVOLVING_GROUP {
            out.push(self.tell("dsync.group.created", &group(number)));
        }
        for _ in 0..PEOPLE {
            let person = self.hire(&mut out);
            self.present.push(person);
        }
        for at in 0..SEATS {
            let (busy, revolving) =
                (self.present[at as usize], self.present[(at + SEATS) as usize]);
            for (person, group) in [(busy, BUSY_GROUP), (revolving, REVOLVING_GROUP)] {
                let data = membership(person, group, self.at);
                out.push(self.tell("dsync.group.user_added", &data));
            }
            self.busy.push(busy);
            self.ever_busy.insert(busy);
            self.revolving.push(revolving);
        }
        let data = user(BUSY_USER, self.at);
        out.push(self.tell("dsync.user.created", &data));
        out
    }

    /// One thing that happens, as one to four events.
    pub fn happen(&mut self) -> Vec<Vec<u8>> {
        let mut out = Vec::new();
        match self.dice.below(10) {
            0 => {
                // Somebody leaves, somebody with the same group comes.
                let at = self.dice.below(PEOPLE) as usize;
                let left = self.present[at];
                let data = user(left, self.at);
                out.push(self.tell("dsync.user.deleted", &data));
                let new = loop {
                    let mut hired = Vec::new();
                    if self.next_person % GROUPS == left % GROUPS {
                        let person = self.hire(&mut hired);
                        out.append(&mut hired);
                        break person;
                    }
                    self.next_person += 1;
                };
                self.present[at] = new;
                if let Some(life) = self.lives.iter_mut().rev().find(|life| life.0 == left) {
                    life.2 = self.at;
                }
                for (group, seats) in [(BUSY_GROUP, true), (REVOLVING_GROUP, false)] {
                    let members = if seats { &self.busy } else { &self.revolving };
                    if let Some(seat) = members.iter().position(|person| *person == left) {
                        let data = membership(new, group, self.at);
                        out.push(self.tell("dsync.group.user_added", &data));
                        if seats {
                            self.busy[seat] = new;
                            self.ever_busy.insert(new);
                        } else {
                            self.revolving[seat] = new;
                        }
                    }
                }
            }
            1 | 2 => {
                // A seat of the revolving group changes hands; of the busy group only as long as it
                // has too few former members.
                let seat = self.dice.below(SEATS) as usize;
                let new = self.present[self.dice.below(PEOPLE) as usize];
                if !self.revolving.contains(&new) {
                    let left = std::mem::replace(&mut self.revolving[seat], new);
                    out.extend(self.swap(REVOLVING_GROUP, left, new));
                }
                let wanted = (self.ever_busy.len() as u64) < 11 * SEATS
                    && self.dice.below(self.busy_every) == 0;
                if wanted && self.ever_busy.insert(new) {
                    let left = std::mem::replace(&mut self.busy[seat], new);
                    out.extend(self.swap(BUSY_GROUP, left, new));
                }
            }
            3 | 4 => {
                let data = user(BUSY_USER, self.at);
                out.push(self.tell("dsync.user.updated", &data));
            }
            _ => {
                let person = self.present[self.dice.below(PEOPLE) as usize];
                let data = user(person, self.at);
                out.push(self.tell("dsync.user.updated", &data));
            }
        }
        out
    }
}

/// A body, proven.
pub fn verified(keyring: &Keyring, body: Vec<u8>) -> Verified {
    let header = sign(SECRET, NOW, &body);
    match Verified::webhook(keyring, Some(header.as_bytes()), body.into(), NOW) {
        Ok(verified) => verified,
        Err(error) => panic!("{error}"),
    }
}

/// Returns the settings of a server that takes the key `k`, and webhooks signed at most
/// `tolerance_ms` away from its clock.
pub fn settings(tolerance_ms: u64) -> Settings {
    Settings::new(Keyring::new([SECRET], tolerance_ms), ApiKeys::unrestricted(["k"]))
}

/// Opens the log in a folder; a new one if there is none.
pub fn open(folder: &std::path::Path) -> Arc<dyn Log> {
    match Unrecovered::open(folder, 512 << 20).and_then(|log| log.recover(&|_| {})) {
        Ok(log) => Arc::new(log),
        Err(error) => panic!("{error}"),
    }
}

/// Builds a log of `events` events, 5 % of which come late, and says from which time on the company
/// has its size.
pub fn build(folder: &std::path::Path, events: usize) -> (Arc<dyn Log>, Company, i64) {
    let log = open(folder);
    let keyring = Keyring::new([SECRET], u64::MAX);
    let mut company = Company::new();
    company.busy_every = (events / 20_000).max(1) as u64;
    let mut batch = Vec::new();
    let mut late: Vec<(usize, Vec<u8>)> = Vec::new();
    let mut dice = Dice(99);
    let mut told = 0;
    let first = company.sync();
    let settled = company.at;
    let mut waiting: std::collections::VecDeque<Vec<u8>> = first.into();
    let commit = |batch: &mut Vec<_>, at: i64| match log.append(std::mem::take(batch), at) {
        Ok(_) => {}
        Err(error) => panic!("{error}"),
    };
    while told < events {
        let body = match waiting.pop_front() {
            Some(body) => body,
            None => {
                waiting.extend(company.happen());
                continue;
            }
        };
        told += 1;
        if company.at > settled && dice.below(20) == 0 {
            late.push((told + 1 + dice.below(2000) as usize, body));
        } else {
            batch.push(verified(&keyring, body));
        }
        while let Some(at) = late.iter().position(|(due, _)| *due <= told) {
            batch.push(verified(&keyring, late.swap_remove(at).1));
        }
        if batch.len() >= BATCH_EVENTS_MAX - 64 {
            let more = batch.split_off(batch.len().min(BATCH_EVENTS_MAX));
            commit(&mut batch, company.at);
            batch = more;
        }
    }
    batch.extend(late.into_iter().map(|(_, body)| verified(&keyring, body)));
    while !batch.is_empty() {
        let more = batch.split_off(batch.len().min(BATCH_EVENTS_MAX));
        commit(&mut batch, company.at);
        batch = more;
    }
    (log, company, settled)
}

/// Nanoseconds per call of each, the median over rounds taken in turns.
pub fn in_turns(rounds: usize, calls: usize, works: &mut [&mut dyn FnMut()]) -> Vec<f64> {
    let mut times: Vec<Vec<f64>> = vec![Vec::new(); works.len()];
    for round in 0..=rounds {
        for (work, times) in works.iter_mut().zip(&mut times) {
            let started = Instant::now();
            for _ in 0..calls {
                work();
            }
            // The first round warms up.
            if round > 0 {
                times.push(started.elapsed().as_nanos() as f64 / calls as f64);
            }
        }
    }
    times
        .iter_mut()
        .map(|times| {
            times.sort_by(f64::total_cmp);
            times[times.len() / 2]
        })
        .collect()
}

/// A line: what, its cost, and its ratio to what it is compared with.
pub fn line(what: &str, ns: f64, compared_with: &str, other_ns: f64) {
    println!("{what:<58} {:>10}   {:>6.2} x {compared_with}", cost(ns), ns / other_ns);
}

pub fn cost(ns: f64) -> String {
    match ns {
        ns if ns < 1e3 => format!("{ns:.0} ns"),
        ns if ns < 1e6 => format!("{:.2} µs", ns / 1e3),
        ns => format!("{:.2} ms", ns / 1e6),
    }
}

/// Reads one whole answer, which must be a 200.
pub fn receive(stream: &mut TcpStream, answer: &mut [u8]) {
    let mut read = 0;
    loop {
        match stream.read(&mut answer[read..]) {
            Ok(bytes) if bytes > 0 => read += bytes,
            _ => panic!("the connection broke"),
        }
        let text = &answer[..read];
        if let Some(end) = text.windows(4).position(|window| window == b"\r\n\r\n") {
            assert!(text.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(text));
            let head = String::from_utf8_lossy(&text[..end]).to_ascii_lowercase();
            let length = head
                .split("content-length: ")
                .nth(1)
                .and_then(|rest| rest.split("\r\n").next()?.parse::<usize>().ok());
            if read >= end + 4 + length.unwrap_or(0) {
                return;
            }
        }
    }
}
