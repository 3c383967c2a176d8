//! The logs of `--calls`: the same company with the same present state after a short and after a
//! long past, so that answers are of one size.

use std::path::Path;

use rollcall::log::BATCH_EVENTS_MAX;
use rollcall::verify::Keyring;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::kit::{
    BUSY_USER, Company, DIRECTORY, GROUPS, REVOLVING_GROUP, SEATS, SECRET, START, STEP_MS, event,
    group, group_id, membership, open, time, user, user_id, verified,
};
use crate::pushed::{Pushed, link, push};
use crate::server::{Server, built};

pub(crate) const QUIET_DIRECTORY: &str = "directory_01QU1ETNTJ3PYMAY79DYV0F0P0";
pub(crate) const QUIET_ORGANIZATION: &str = "org_01QU1ETNTJ3PYMAY79DYV0F0P0";

/// The user who leaves and returns all the time, and the group in which it does.
pub(crate) const COMEBACK_USER: u64 = BUSY_USER + 1;
const COMEBACK_GROUP: u64 = 5;

/// The user who is in one group all the time, and joins and leaves another.
pub(crate) const JOINER: u64 = BUSY_USER + 2;
const STEADY_GROUP: u64 = 6;
const JOINED_GROUP: u64 = 8;

/// The user who is deleted and created again all the time, and its group.
pub(crate) const REBORN_USER: u64 = BUSY_USER + 3;
const REBORN_GROUP: u64 = 9;

/// A user who left early, and is the same person as the busy one.
const PREDECESSOR: u64 = BUSY_USER + 4;

/// The group with a great many versions that say the same, and one that is renamed all the time.
pub(crate) const BUSY_HISTORY_GROUP: u64 = 3;
pub(crate) const RENAMED_GROUP: u64 = REVOLVING_GROUP + 1;

/// The records that cannot be used.
const UNUSABLE: u64 = 30;

/// Those users come or go once in this many changes of the company.
const COMEBACK_EVERY: usize = 25;

/// The last records, after which all logs have the same present state.
const LAST_RECORDS: u64 = 6;

/// The identity provider changes one user once for this many records.
const RECORDS_A_PUSH: u64 = 1000;

/// Holds the facts of a log from which the calls are made.
#[derive(Serialize, Deserialize)]
pub(crate) struct Known {
    pub(crate) records: u64,
    /// Some of the people who are there.
    pub(crate) people: Vec<u64>,
    /// The moment after the first synchronization, one in the middle, and one a little later.
    pub(crate) early: String,
    pub(crate) middle: String,
    pub(crate) after_middle: String,
    pub(crate) pushed: Pushed,
}

/// The events between the moment in the middle and the one a little later.
const EVENTS_BETWEEN: i64 = 20;

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
    begun.extend(regulars(&mut company));
    begun.extend(quiet(&company));
    begun.extend(unusable(&company));
    let early = company.at;
    append(folder, begun.into_iter());
    let server = Server::start(built(), folder, &[]);
    server.map(&mapping(), &time(START));
    link(&server);
    let pushed = push(&server, records / RECORDS_A_PUSH);
    server.stop();
    let past = Past { company: &mut company, waiting: Vec::new(), happened: 0 };
    // What came over HTTP are records, too.
    let before = open(folder).head() + LAST_RECORDS;
    assert!(records > before, "a log needs more than {before} records");
    append(folder, past.take((records - before) as usize));
    append(folder, last_records(&mut company).into_iter());
    let sample = company.present.iter().step_by(31).copied().collect();
    let middle = START + (company.at - START) / 2;
    let made = Known {
        records,
        people: sample,
        early: time(early),
        middle: time(middle),
        after_middle: time(middle + EVENTS_BETWEEN * STEP_MS),
        pushed,
    };
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

/// Returns the events by which those users leave or return, and those that describe groups again.
fn comeback(company: &mut Company, turn: usize) -> Vec<Vec<u8>> {
    let (is_back, at) = (turn.is_multiple_of(2), company.at);
    let mut data = user(COMEBACK_USER, at);
    data["state"] = if is_back { "active" } else { "inactive" }.into();
    let mut promoted = user(JOINER, at);
    promoted["job_title"] = format!("Engineer {turn}").into();
    let moved = if is_back { "dsync.group.user_added" } else { "dsync.group.user_removed" };
    let reborn = if is_back { "dsync.user.created" } else { "dsync.user.deleted" };
    let mut told = vec![
        company.tell("dsync.user.updated", &data),
        company.tell(moved, &membership(COMEBACK_USER, COMEBACK_GROUP, at)),
        company.tell("dsync.group.updated", &group(BUSY_HISTORY_GROUP)),
        company.tell("dsync.user.updated", &promoted),
        company.tell(moved, &membership(JOINER, JOINED_GROUP, at)),
        company.tell("dsync.group.updated", &renamed(turn)),
        company.tell(reborn, &user(REBORN_USER, at)),
    ];
    if is_back {
        told.push(added(company, REBORN_USER, REBORN_GROUP));
    }
    told
}

/// Returns the group that is renamed, with its name at a turn.
fn renamed(turn: usize) -> Value {
    let mut data = group(RENAMED_GROUP);
    data["name"] = format!("Team {}", turn % 50).into();
    data
}

fn added(company: &mut Company, user: u64, group: u64) -> Vec<u8> {
    let member = membership(user, group, company.at);
    company.tell("dsync.group.user_added", &member)
}

/// Returns the events by which those users and the group that is renamed begin.
fn regulars(company: &mut Company) -> Vec<Vec<u8>> {
    let mut told = vec![company.tell("dsync.group.created", &renamed(0))];
    for person in [COMEBACK_USER, JOINER, REBORN_USER] {
        let data = user(person, company.at);
        told.push(company.tell("dsync.user.created", &data));
    }
    let joined = [
        (COMEBACK_USER, COMEBACK_GROUP),
        (JOINER, STEADY_GROUP),
        (JOINER, RENAMED_GROUP),
        (REBORN_USER, REBORN_GROUP),
    ];
    told.extend(joined.map(|(person, group)| added(company, person, group)));
    let mut data = user(PREDECESSOR, company.at);
    data["idp_id"] = user(BUSY_USER, company.at)["idp_id"].clone();
    told.push(company.tell("dsync.user.created", &data));
    told.push(company.tell("dsync.user.deleted", &data));
    // From here on the busy user shows itself after the other one left.
    let data = user(BUSY_USER, company.at);
    told.push(company.tell("dsync.user.updated", &data));
    told
}

/// Returns the last events of a log: all those users are there.
fn last_records(company: &mut Company) -> [Vec<u8>; LAST_RECORDS as usize] {
    let (back, reborn) = (user(COMEBACK_USER, company.at), user(REBORN_USER, company.at));
    [
        company.tell("dsync.user.updated", &back),
        added(company, COMEBACK_USER, COMEBACK_GROUP),
        added(company, JOINER, JOINED_GROUP),
        company.tell("dsync.user.created", &reborn),
        added(company, REBORN_USER, REBORN_GROUP),
        company.tell("dsync.group.updated", &renamed(0)),
    ]
}

/// Returns events about users without an id.
fn unusable(company: &Company) -> Vec<Vec<u8>> {
    let data = json!({ "object": "directory_user", "directory_id": DIRECTORY });
    let number = |number: u64| (1 << 41) + number;
    (0..UNUSABLE).map(|at| event(number(at), "dsync.user.updated", company.at, &data)).collect()
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

/// Returns the id of a user of the quiet directory who is there.
pub(crate) fn quiet_user() -> String {
    user_id((1 << 40) + 1)
}
