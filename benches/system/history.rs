//! The logs of `--calls`: the same company with the same present state after a short and after a
//! long past, so that answers are of one size.

use std::path::Path;

use rollcall::log::BATCH_EVENTS_MAX;
use rollcall::verify::Keyring;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::kit::{
    BUSY_USER, Company, GROUPS, SEATS, SECRET, START, event, group, group_id, membership, open,
    time, user, user_id, verified,
};
use crate::server::{Server, built};

pub(crate) const QUIET_DIRECTORY: &str = "directory_01QU1ETNTJ3PYMAY79DYV0F0P0";
pub(crate) const QUIET_ORGANIZATION: &str = "org_01QU1ETNTJ3PYMAY79DYV0F0P0";

/// The user who leaves and returns all the time, and the group in which it does.
pub(crate) const COMEBACK_USER: u64 = BUSY_USER + 1;
const COMEBACK_GROUP: u64 = 5;

/// The group with a great many versions.
pub(crate) const BUSY_HISTORY_GROUP: u64 = 3;

/// The user comes or goes once in this many changes of the company.
const COMEBACK_EVERY: usize = 25;

/// Holds the facts of a log from which the calls are made.
#[derive(Serialize, Deserialize)]
pub(crate) struct Known {
    pub(crate) records: u64,
    /// Some of the people who are there.
    pub(crate) people: Vec<u64>,
    /// A moment in the middle.
    pub(crate) middle: String,
}

/// Builds a log in a folder, unless it is there.
pub(crate) fn build(folder: &Path, records: u64) -> Known {
    let known = folder.join("known.json");
    if let Ok(text) = std::fs::read(&known) {
        return serde_json::from_slice(&text).unwrap();
    }
    std::fs::create_dir_all(folder).unwrap();
    let mut company = Company::new();
    company.busy_every = (records / 20_000).max(1);
    let mut begun = company.sync();
    begun.extend(quiet(&company));
    append(folder, begun.into_iter());
    let server = Server::start(built(), folder, &[]);
    server.map(&mapping(), &time(START));
    server.stop();
    let past = Past { company: &mut company, waiting: Vec::new(), happened: 0 };
    // The mapping is a record.
    let before = open(folder).head();
    assert!(records > before, "a log needs more than {before} records");
    append(folder, past.take((records - before) as usize));
    let sample = company.present.iter().step_by(31).copied().collect();
    let middle = START + (company.at - START) / 2;
    let made = Known { records, people: sample, middle: time(middle) };
    std::fs::write(known, serde_json::to_vec(&made).unwrap()).unwrap();
    made
}

/// Iterates over the events after the first synchronization of a company.
struct Past<'c> {
    company: &'c mut Company,
    waiting: Vec<Vec<u8>>,
    happened: usize,
}

impl Iterator for Past<'_> {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        while self.waiting.is_empty() {
            self.happened += 1;
            self.waiting = if self.happened.is_multiple_of(COMEBACK_EVERY) {
                comeback(self.company, self.happened / COMEBACK_EVERY)
            } else {
                self.company.happen()
            };
            self.waiting.reverse();
        }
        self.waiting.pop()
    }
}

/// Returns the events by which that user leaves or returns, and one that describes a group again.
fn comeback(company: &mut Company, turn: usize) -> Vec<Vec<u8>> {
    let is_back = turn.is_multiple_of(2);
    let mut data = user(COMEBACK_USER, company.at);
    data["state"] = if is_back { "active" } else { "inactive" }.into();
    let member = membership(COMEBACK_USER, COMEBACK_GROUP, company.at);
    let moved = if is_back { "dsync.group.user_added" } else { "dsync.group.user_removed" };
    let described = group(BUSY_HISTORY_GROUP);
    vec![
        company.tell("dsync.user.updated", &data),
        company.tell(moved, &member),
        company.tell("dsync.group.updated", &described),
    ]
}

/// Returns the events of a directory in which nothing happens later: of 40 people, a quarter left.
fn quiet(company: &Company) -> Vec<Vec<u8>> {
    let at = company.at;
    let directory = json!({
        "object": "directory", "id": QUIET_DIRECTORY, "organization_id": QUIET_ORGANIZATION,
        "external_key": "q", "type": "okta scim v2.0", "state": "active", "name": "Quiet",
        "domains": [], "created_at": time(START), "updated_at": time(START),
    });
    let mut number = 1 << 40;
    let mut tell = |kind: &str, data: &Value| {
        number += 1;
        event(number, kind, at, data)
    };
    let mut told = vec![tell("dsync.activated", &directory)];
    for person in 0..40 {
        let mut data = user((1 << 40) + person, at);
        data["directory_id"] = QUIET_DIRECTORY.into();
        data["organization_id"] = QUIET_ORGANIZATION.into();
        told.push(tell("dsync.user.created", &data));
        if person % 4 == 0 {
            told.push(tell("dsync.user.deleted", &data));
        }
    }
    told
}

/// Returns a mapping that gives roles by groups alone, as most do.
fn mapping() -> Value {
    let rule = |number: u64| json!({"group": {"name": format!("Group {number}")}, "roles": [format!("role-{}", number % 7)]});
    let rules: Vec<Value> = (0..GROUPS).map(rule).collect();
    json!({ "mode": "all", "default_roles": ["member"], "priority": [], "rules": rules })
}

/// Appends events, recorded now.
fn append(folder: &Path, bodies: impl Iterator<Item = Vec<u8>>) {
    let (log, keyring) = (open(folder), Keyring::new([SECRET], u64::MAX));
    let mut bodies = bodies.peekable();
    while bodies.peek().is_some() {
        let batch = bodies.by_ref().take(BATCH_EVENTS_MAX - 64);
        let batch = batch.map(|body| verified(&keyring, body)).collect();
        if let Err(error) = log.append(batch, rollcall::time::now_ms()) {
            panic!("{error}");
        }
    }
}

/// Returns the id of the group with many former members.
pub(crate) fn group_of_seats() -> String {
    const { assert!(SEATS >= 100) };
    group_id(GROUPS)
}

pub(crate) fn busy_user() -> String {
    user_id(BUSY_USER)
}
