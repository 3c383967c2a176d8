//! Random histories in which every rule of semantics.md matters often, and random questions about
//! them.
//!
//! The world is tiny, so that its events collide: a few people and groups, a handful of distinct
//! milliseconds, ids in every form that a source may send. Events are made roughly in the order of
//! their time, then delivered in another.

#![allow(dead_code, unreachable_pub, clippy::expect_used, clippy::indexing_slicing)]

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, RngExt, SeedableRng};
use serde_json::{Map, Value, json};

use crate::kit::model::{Cut, Ids, World, civil, read_time, rfc3339};

/// One webhook. `body` is signed with a time of now + `shift_ms`, at most a minute either way.
#[derive(Debug, Clone)]
pub struct Delivery {
    pub body: Vec<u8>,
    pub shift_ms: i64,
}

/// 50 to 500 deliveries, in the order in which they arrive.
#[derive(Debug, Clone)]
pub struct History {
    pub deliveries: Vec<Delivery>,
}

/// A GET: path and query decoded (all after the second slash of the path is the id), the cut beside
/// them.
#[derive(Debug, Clone)]
pub struct Question {
    pub path: String,
    pub query: Vec<(String, String)>,
    pub cut: Cut,
}

/// No question looks past this, and no event but those of 2099 or without any time happens after
/// it.
pub const HORIZON: &str = "2026-11-01T00:00:00.000Z";

/// The date of the few events ahead of the clock. None of them is spoiled or contradicted, so that
/// each is listed for one reason only.
const AHEAD: &str = "2099-03-04T05:06:07.008Z";

type Object = Map<String, Value>;

/// Returns the history of a seed, always the same one.
pub fn history(seed: u64) -> History {
    told(seed, Theme::Everything)
}

/// Returns a shorter history, in which rules can match the names of groups and the attributes of
/// users.
pub fn history_of_roles(seed: u64) -> History {
    told(seed, Theme::Roles)
}

/// Returns a short history in which people come, go and move, and directories do not change; most
/// updates say correctly what was before.
pub fn history_of_audit(seed: u64) -> History {
    told(seed, Theme::Audit)
}

fn told(seed: u64, theme: Theme) -> History {
    let mut rng = StdRng::seed_from_u64(seed);
    let cast = Cast::draw(&mut rng);
    let moments = draw_moments(&mut rng);
    let mood =
        *[Mood::Calm, Mood::Calm, Mood::Stormy, Mood::Stubs].choose(&mut rng).expect("moods");
    let (budget_ahead, budget_timeless) = (rng.random_range(0..=1), rng.random_range(0..=2));
    let forward = rng.random_bool(0.75);
    let size = match theme {
        Theme::Roles => rng.random_range(20..=70),
        Theme::Audit => rng.random_range(15..=55),
        Theme::Everything if rng.random_bool(0.7) => rng.random_range(50..=160),
        Theme::Everything => rng.random_range(50..=500),
    };
    let mut teller = Teller {
        rng,
        cast,
        moments,
        mood,
        theme,
        forward,
        budget_ahead,
        budget_timeless,
        told: 0,
        size,
        bodies: Vec::new(),
        said: BTreeMap::new(),
    };
    while teller.bodies.len() < size {
        teller.tell();
    }
    let Teller { mut rng, mut bodies, .. } = teller;
    bodies.truncate(size);
    reorder(&mut rng, &mut bodies);
    let sign = |body| Delivery { body, shift_ms: rng.random_range(-60_000..=60_000) };
    History { deliveries: bodies.into_iter().map(sign).collect() }
}

fn reorder(rng: &mut StdRng, bodies: &mut Vec<Vec<u8>>) {
    match rng.random_range(0..10) {
        0 => {}
        1 => bodies.reverse(),
        2..5 => {
            for index in 0..bodies.len() {
                let other = (index + rng.random_range(0..5)).min(bodies.len() - 1);
                bodies.swap(index, other);
            }
        }
        5..7 => {
            for _ in 0..bodies.len() / 8 {
                let late = bodies.remove(rng.random_range(0..bodies.len()));
                bodies.push(late);
            }
        }
        _ => bodies.shuffle(rng),
    }
}

/// Returns whether a valid event of this type may change an answer.
fn has_effect(event: &str) -> bool {
    event.starts_with("dsync.")
        && !["dsync.user.promoted", "dsync.group.user_moved"].contains(&event)
        && !event.starts_with("dsync.token.")
}

// --- The cast: who and when ---

/// Every id that an event may name.
struct Cast {
    organizations: Vec<String>,
    /// Each with the organization it usually belongs to.
    directories: Vec<(String, String)>,
    /// Users and groups with the directory they usually live in.
    users: Vec<(String, String)>,
    groups: Vec<(String, String)>,
    emails: Vec<String>,
    idp_ids: Vec<String>,
}

impl Cast {
    fn draw(rng: &mut StdRng) -> Cast {
        let count = rng.random_range(1..=2);
        let organizations = draw_ids(rng, "org", "o", count);
        let count = rng.random_range(1..=3);
        let directories: Vec<_> = draw_ids(rng, "directory", "d", count)
            .into_iter()
            .map(|id| (id, organizations.choose(rng).cloned().unwrap_or_default()))
            .collect();
        let (user_count, group_count) = (rng.random_range(3..=8), rng.random_range(2..=4));
        let mut users = draw_ids(rng, "directory_user", "u", user_count);
        let mut groups = draw_ids(rng, "directory_group", "g", group_count);
        if rng.random_bool(0.2) {
            // One id for a user and a group.
            users[0] = "x1".to_owned();
            groups[0] = "x1".to_owned();
        }
        if rng.random_bool(0.1) {
            // Two pairs that a key made by joining ids would take for one.
            let joint = *["\0", "/", ":", "|", "\u{1f}"].choose(rng).expect("joints");
            groups.truncate(2);
            groups.extend(["a".to_owned(), format!("a{joint}b")]);
            users.truncate(3);
            users.extend([format!("b{joint}c"), "c".to_owned()]);
        }
        let mut at_home = |ids: Vec<String>| -> Vec<(String, String)> {
            ids.into_iter()
                .map(|id| (id, directories.choose(rng).expect("a directory").0.clone()))
                .collect()
        };
        let (users, groups) = (at_home(users), at_home(groups));
        let emails = [
            "ada@a.example",
            "Ada@A.example",
            "bo@a.example",
            "éva@b.example",
            "ÉVA@b.example",
            " e\u{301}va@b.example",
            "cy+x@b.example",
            "Cy+x@b.example\t",
        ];
        let idp_ids = ["1001", "1002", "00u1", "É", ""];
        let own = |texts: &[&str]| texts.iter().map(|text| text.to_string()).collect();
        Cast {
            organizations,
            directories,
            users,
            groups,
            emails: own(&emails),
            idp_ids: own(&idp_ids),
        }
    }
}

/// Distinct ids, whose order as bytes says nothing of the order of creation.
fn draw_ids(rng: &mut StdRng, prefix: &str, short: &str, count: usize) -> Vec<String> {
    let mut ids = Vec::new();
    for number in 1..=count {
        let id = match rng.random_range(0..100) {
            0..50 => format!("{prefix}_01{}", crockford(rng, 24)),
            50..80 => format!("{short}{number}"),
            80..83 => format!("{short}/{number}"),
            83..86 => format!("{short} {number}"),
            86..89 => format!("{short}%2F{number}%"),
            89..92 => format!("{short}ü日{number}😀"),
            92..94 => format!("{short}+{number}&a=b?#"),
            94..96 => format!("{}{number}", short.to_uppercase()),
            96..98 => format!("'{short}\"\\{number}"),
            _ => format!("{short}{number}{}", "y".repeat(255 - 2 * short.len()))
                .chars()
                .take(255)
                .collect(),
        };
        ids.push(id);
    }
    ids.shuffle(rng);
    ids
}

fn crockford(rng: &mut StdRng, length: usize) -> String {
    (0..length)
        .map(|_| *b"0123456789ABCDEFGHJKMNPQRSTVWXYZ".choose(rng).expect("digits") as char)
        .collect()
}

/// Draws the few milliseconds at which anything happens, ascending: some are neighbours, some days
/// apart.
fn draw_moments(rng: &mut StdRng) -> Vec<i64> {
    let from = read_time("2020-01-01T00:00:00Z").expect("a time");
    let until = read_time("2026-10-20T00:00:00Z").expect("a time");
    let mut moment = rng.random_range(from..until - 200 * 86_400_000);
    if rng.random_bool(0.5) {
        moment -= moment.rem_euclid(1000);
    }
    let mut moments = vec![moment];
    for _ in 0..rng.random_range(4..=18) {
        moment += match rng.random_range(0..10) {
            0..4 => 1,
            4..6 => rng.random_range(2..=999),
            6..8 => 1000 * rng.random_range(1..=3600),
            _ => rng.random_range(1..=20 * 86_400_000),
        };
        moments.push(moment.min(until));
    }
    moments
}

// --- The teller: what happens ---

#[derive(Clone, Copy, PartialEq)]
enum Mood {
    Calm,
    /// Deletions and returns all the time.
    Stormy,
    /// Almost only memberships are announced.
    Stubs,
}

#[derive(Clone, Copy, PartialEq)]
enum Theme {
    Everything,
    /// Few names and attributes, so that rules often match.
    Roles,
    /// The same, and access ends in every way.
    Audit,
}

/// Names of groups that rules can match.
pub const GROUP_NAMES: [&str; 8] =
    ["Eng", "Engineering", "Ops", "eng", "E*", "Éng", "E\u{301}ng", "日本"];

/// Paths of attributes for rules, some of which no user has.
pub const ATTRIBUTES: [&str; 12] = [
    "custom_attributes.\"a.b\"",
    "custom_attributes.\"a\".b",
    "\"custom_attributes\".n",
    "job_title",
    "custom_attributes.role",
    "custom_attributes.n",
    "custom_attributes.a.b",
    "state",
    "directory_id",
    "emails",
    "x",
    "id.x",
];

struct Teller {
    rng: StdRng,
    cast: Cast,
    moments: Vec<i64>,
    mood: Mood,
    theme: Theme,
    /// True if the moments advance as the history goes on.
    forward: bool,
    /// The number of events that may be dated in 2099, or carry no time at all: each of them hides
    /// all that others say.
    budget_ahead: u32,
    budget_timeless: u32,
    told: usize,
    size: usize,
    bodies: Vec<Vec<u8>>,
    /// The last snapshot of each user and group.
    said: BTreeMap<String, Object>,
}

impl Teller {
    fn chance(&mut self, percent: u32) -> bool {
        self.rng.random_range(0..100) < percent
    }

    fn any_moment(&mut self) -> i64 {
        *self.moments.choose(&mut self.rng).expect("moments")
    }

    fn next_moment(&mut self) -> i64 {
        if !self.forward || self.chance(10) {
            return self.any_moment();
        }
        let last = self.moments.len() - 1;
        let index =
            self.bodies.len() * self.moments.len() / self.size + self.rng.random_range(0..3);
        self.moments[index.saturating_sub(1).min(last)]
    }

    /// Adds one event, with its repetitions and contradictions.
    fn tell(&mut self) {
        self.told += 1;
        if self.chance(4) {
            let body = self.unusable_body();
            self.bodies.push(body.clone());
            if self.chance(30) {
                self.bodies.push(body);
            }
            return;
        }
        let (event, data) = self.happening();
        let has_effect = has_effect(&event);
        let mut body = self.envelope(&event, data, has_effect);
        let ahead = body["created_at"] == AHEAD;
        if has_effect && !ahead && self.chance(4) {
            self.spoil(&event, &mut body);
        }
        if !has_effect && self.chance(15) {
            let data =
                [Value::Null, json!([{ "organization_id": "o1" }]), json!("data"), json!({})];
            body["data"] = data.choose(&mut self.rng).expect("data").clone();
        }
        let bytes = self.written(&body);
        self.bodies.push(bytes.clone());
        if self.chance(5) {
            self.bodies.push(bytes);
        }
        if self.chance(5) {
            let mut again = body.clone();
            if self.chance(40) {
                again["context"] = json!({ "actor": { "id": "a", "source": "api", "name": null } });
            }
            let again = write_loosely(&mut self.rng, &again);
            self.bodies.push(again);
        }
        if !ahead && self.chance(4) {
            self.contradict(&body);
        }
    }

    /// Draws a type and its data.
    fn happening(&mut self) -> (String, Object) {
        let (ends, names) = match self.mood {
            Mood::Calm => (1, 3),
            Mood::Stormy => (3, 3),
            Mood::Stubs => (1, 1),
        };
        let weighted = [
            ("dsync.user.created", 5 * names),
            ("dsync.user.updated", 6 * names),
            ("dsync.user.deleted", 4 * ends),
            ("dsync.group.created", 3 * names),
            ("dsync.group.updated", 3 * names),
            ("dsync.group.deleted", 2 * ends),
            ("dsync.group.user_added", 30),
            ("dsync.group.user_removed", 5 * ends),
            ("dsync.activated", if self.mood == Mood::Stubs { 2 } else { 6 }),
            ("dsync.deactivated", if self.theme == Theme::Audit { 4 * ends } else { 2 * ends }),
            ("dsync.deleted", ends),
            ("dsync.user.promoted", 1),
            ("dsync.group.user_moved", 1),
            ("dsync.token.created", 2),
            ("dsync.token.revoked", 1),
            ("connection.activated", 2),
            ("user.created", 1),
            ("user.updated", 1),
            ("rollcall.directory.deleted", 1),
            ("rollcall.user.deleted", 1),
        ];
        let (event, _) =
            *weighted.choose_weighted(&mut self.rng, |(_, weight)| *weight).expect("weights");
        let data = match event {
            "dsync.activated"
            | "dsync.deactivated"
            | "dsync.deleted"
            | "rollcall.directory.deleted" => self.directory(),
            "dsync.group.user_added" | "dsync.group.user_removed" => self.membership(),
            "dsync.token.created" | "dsync.token.revoked" => self.token(),
            _ if event.contains("group.") => {
                let (id, home) = self.cast.groups.choose(&mut self.rng).cloned().expect("groups");
                self.group(&id, &home, event)
            }
            _ => {
                let (id, home) = self.cast.users.choose(&mut self.rng).cloned().expect("users");
                self.user(&id, &home, event)
            }
        };
        (event.to_owned(), data)
    }

    fn directory(&mut self) -> Object {
        let (id, organization) =
            self.cast.directories.choose(&mut self.rng).cloned().expect("directories");
        let mut data = Object::new();
        data.insert("id".into(), json!(id));
        self.maybe(&mut data, 85, "object", json!("directory"));
        self.organization(&mut data, &organization);
        let told = self.told;
        let types = ["okta scim v2.0", "workday", "gusto", "rippling", "generic scim v2.0", "S3"];
        let kind = *types.choose(&mut self.rng).expect("types");
        let states = [
            "active",
            "inactive",
            "deleting",
            "validating",
            "invalid_credentials",
            "linked",
            "unlinked",
            "suspended",
            "",
        ];
        let state = *states.choose(&mut self.rng).expect("states");
        let name = *["Foo Corp", "foo", "Bar GmbH", "ÉTÉ"].choose(&mut self.rng).expect("names");
        self.maybe(&mut data, 85, "type", json!(kind));
        self.maybe(&mut data, 80, "state", json!(state));
        self.maybe(&mut data, 85, "name", json!(format!("{name} {told}")));
        self.maybe(&mut data, 70, "external_key", json!(format!("key{told}")));
        let domain = *["foo.example", "bar.example"].choose(&mut self.rng).expect("domains");
        let listed = [
            json!([{ "object": "organization_domain", "id": "od_1", "domain": domain }]),
            json!([{ "domain": "" }, { "domain": 4 }, "x", { "domain": domain },
                { "domain": "second.example" }]),
            json!([{ "id": 5, "organization_id": "", "domain": domain, "extra": 1 },
                { "id": "od_2", "organization_id": "o9", "domain": "x.example" }]),
            json!([]),
            json!({ "domain": domain }),
            Value::Null,
        ];
        let listed = listed.choose(&mut self.rng).expect("domains").clone();
        self.maybe(&mut data, 60, "domains", listed);
        self.maybe(&mut data, 20, "domain", json!(domain));
        self.odd(&mut data, &["name", "external_key", "type", "domain", "state", "domains"]);
        self.maybe(
            &mut data,
            10,
            "unheard_of",
            json!({ "users": { "active": told }, "x": [0.5, null] }),
        );
        self.maybe(&mut data, 5, "metadata", json!({ "groups": told }));
        self.previous_attributes(&mut data, 5);
        self.times(&mut data);
        data
    }

    fn user(&mut self, id: &str, home: &str, event: &str) -> Object {
        let mut data = self.entity(id, home, "directory_user", event);
        let told = self.told;
        let email = self.cast.emails.choose(&mut self.rng).cloned().expect("emails");
        let other = self.cast.emails.choose(&mut self.rng).cloned().expect("emails");
        let emails = [
            json!([]),
            json!([{ "primary": true, "type": "work", "value": email }]),
            json!([{ "value": other }, { "primary": true, "value": email },
                { "primary": true, "value": other }]),
            json!([{ "value": other }, { "primary": "true", "value": email },
                { "primary": 1, "value": email }]),
            json!([{ "primary": true, "value": null }, { "value": email }]),
            json!([{ "primary": true }]),
            json!([{ "primary": true, "value": email }, "x"]),
            json!({ "value": email }),
        ];
        let emails = emails.choose(&mut self.rng).expect("emails").clone();
        self.maybe(&mut data, 60, "emails", emails);
        match self.rng.random_range(0..100) {
            0..60 => drop(data.insert("email".into(), json!(email))),
            60..68 => drop(data.insert("email".into(), Value::Null)),
            68..70 => drop(data.insert("email".into(), json!(7))),
            _ => {}
        }
        let first_name =
            *["Ada", "Bo", "Éva", "日本", "O\"Neil\\"].choose(&mut self.rng).expect("names");
        self.maybe(&mut data, 80, "first_name", json!(first_name));
        self.maybe(&mut data, 80, "last_name", json!(format!("Nr {told}")));
        self.maybe(&mut data, 50, "name", json!(format!("{first_name} {told}")));
        self.maybe(&mut data, 30, "job_title", json!("Engineer"));
        self.maybe(&mut data, 30, "username", json!(format!("user{told}")));
        match self.rng.random_range(0..100) {
            0..65 => drop(data.insert("state".into(), json!("active"))),
            65..80 => drop(data.insert("state".into(), json!("inactive"))),
            80..84 => drop(data.insert("state".into(), json!("suspended"))),
            84..87 => drop(data.insert("state".into(), Value::Null)),
            87..88 => drop(data.insert("state".into(), json!("Active"))),
            88..89 => drop(data.insert("state".into(), json!(1))),
            _ => {}
        }
        let attributes = [
            json!({}),
            json!({ "department": "R&D", "nested": { "a": [1, 2.5, null, "\u{1}"], "b": -0.125 },
                "n": told }),
            json!([]),
            Value::Null,
        ];
        let attributes = attributes.choose(&mut self.rng).expect("attributes").clone();
        self.maybe(&mut data, 60, "custom_attributes", attributes);
        let roles = [
            json!([{ "slug": "admin" }, { "slug": 3 }, "member",
                { "slug": "member", "name": "M" }]),
            json!([]),
            Value::Null,
            json!({ "slug": "a" }),
        ];
        let roles = roles.choose(&mut self.rng).expect("roles").clone();
        self.maybe(&mut data, 20, "roles", roles);
        let role =
            [json!({ "slug": "admin", "extra": true }), json!("admin"), Value::Null, json!({})]
                .choose(&mut self.rng)
                .expect("roles")
                .clone();
        self.maybe(&mut data, 20, "role", role);
        self.odd(
            &mut data,
            &[
                "first_name",
                "last_name",
                "name",
                "job_title",
                "username",
                "idp_id",
                "raw_attributes",
            ],
        );
        if self.theme != Theme::Everything {
            self.attributes(&mut data);
        }
        self.follow_what_was_said(&mut data, "user", event);
        data
    }

    fn group(&mut self, id: &str, home: &str, event: &str) -> Object {
        let mut data = self.entity(id, home, "directory_group", event);
        let name = match self.theme {
            Theme::Everything => format!("Group {}", self.told),
            Theme::Roles | Theme::Audit => {
                GROUP_NAMES.choose(&mut self.rng).expect("names").to_string()
            }
        };
        self.maybe(&mut data, 85, "name", json!(name));
        self.odd(&mut data, &["name", "idp_id", "raw_attributes"]);
        self.follow_what_was_said(&mut data, "group", event);
        data
    }

    /// Draws a version that differs from the last one in a few fields, and says which.
    fn follow_what_was_said(&mut self, data: &mut Object, kind: &str, event: &str) {
        if self.theme != Theme::Audit || event.ends_with("deleted") || self.chance(15) {
            return;
        }
        let id = format!("{kind} {}", data["id"]);
        let last = self.said.get(&id).cloned().unwrap_or_default();
        data.remove("previous_attributes");
        let always = ["id", "directory_id", "created_at", "updated_at", "state"];
        for (key, value) in &last {
            if !always.contains(&key.as_str()) && self.chance(75) {
                data.insert(key.clone(), value.clone());
            }
        }
        if self.chance(60) && data.get("custom_attributes").is_none_or(Value::is_object) {
            let number = *NUMBERS.choose(&mut self.rng).expect("numbers");
            let attributes = data.entry("custom_attributes").or_insert_with(|| json!({}));
            attributes["n"] = json!(format!("@{number}@"));
        }
        if event == "snapshot" {
            return;
        }
        self.said.insert(id, data.clone());
        if self.chance(75) {
            let mut previous = self.what_was_before(&last, data);
            if self.chance(30) {
                let missed = [
                    ("name", json!("Never heard")),
                    ("state", json!("inactive")),
                    ("email", Value::Null),
                    ("custom_attributes", json!({ "role": "admin", "n": null })),
                    ("custom_attributes", json!("none")),
                    ("custom_attributes", Value::Null),
                    ("updated_at", json!("2001-01-01T00:00:00Z")),
                ];
                let (key, value) = missed.choose(&mut self.rng).expect("fields").clone();
                previous.insert(key.to_owned(), value);
            }
            data.insert("previous_attributes".into(), json!(previous));
        }
    }

    /// Returns the fields of `last` that differ in `data`; of attributes mostly only the keys that
    /// differ.
    fn what_was_before(&mut self, last: &Object, data: &Object) -> Object {
        let mut previous = Object::new();
        for key in last.keys().chain(data.keys()) {
            let (old, new) = (
                last.get(key).cloned().unwrap_or_default(),
                data.get(key).cloned().unwrap_or_default(),
            );
            match (&old, &new) {
                _ if old == new => {}
                (Value::Object(olds), Value::Object(news)) if self.chance(80) => {
                    let keys = olds
                        .keys()
                        .chain(news.keys())
                        .filter(|key| olds.get(*key) != news.get(*key));
                    let keys =
                        keys.map(|key| (key.clone(), olds.get(key).cloned().unwrap_or_default()));
                    previous.insert(key.clone(), Value::Object(keys.collect()));
                }
                _ => drop(previous.insert(key.clone(), old)),
            }
        }
        previous
    }

    fn attributes(&mut self, data: &mut Object) {
        let title = *["Engineer", "Manager", "3"].choose(&mut self.rng).expect("titles");
        self.maybe(data, 60, "job_title", json!(title));
        let attributes = [
            json!({ "role": "admin" }),
            json!({ "role": ["dev", "admin", null, 7] }),
            json!({ "role": true, "n": 7, "a": { "b": "x" } }),
            json!({ "role": [["admin"]], "n": "7", "a": [{ "b": "x" }] }),
            json!({ "role": { "role": "admin" }, "n": 2.5, "a": { "b": [false, "y"] } }),
            json!({ "n": -1, "a": null }),
            json!({ "a.b": "x", "a": { "b": "y" } }),
            json!({ "a.b": null, "a": { "b": true } }),
        ];
        let attributes = attributes.choose(&mut self.rng).expect("attributes").clone();
        self.maybe(data, 70, "custom_attributes", attributes);
    }

    fn token(&mut self) -> Object {
        let (directory, organization) =
            self.cast.directories.choose(&mut self.rng).cloned().expect("directories");
        let mut data = Object::new();
        self.maybe(&mut data, 85, "object", json!("directory_token"));
        let told = self.told;
        self.maybe(&mut data, 85, "id", json!(format!("directory_token_{told}")));
        self.maybe(&mut data, 85, "directory_id", json!(directory));
        self.organization(&mut data, &organization);
        self.maybe(&mut data, 85, "token_suffix", json!("k7Qe"));
        self.maybe(&mut data, 20, "unheard_of", json!([told]));
        self.odd(&mut data, &["id", "directory_id", "token_suffix", "object"]);
        self.times(&mut data);
        data
    }

    /// Draws `previous_attributes`, mostly an object.
    fn previous_attributes(&mut self, data: &mut Object, percent: u32) {
        let directories = &self.cast.directories;
        let (directory, organization) = directories[self.told % directories.len()].clone();
        let previous = [
            json!({ "name": "Before", "state": "inactive", "email": "old@a.example" }),
            json!({ "directory_id": directory }),
            json!({ "organization_id": organization }),
            json!({ "custom_attributes": { "department": null } }),
            json!({}),
            Value::Null,
            json!(["name"]),
        ];
        let previous = previous.choose(&mut self.rng).expect("previous attributes").clone();
        self.maybe(data, percent, "previous_attributes", previous);
    }

    /// Draws the fields that users and groups share. A deletion or snapshot may lack its directory.
    fn entity(&mut self, id: &str, home: &str, object: &str, event: &str) -> Object {
        let mut data = Object::new();
        data.insert("id".into(), json!(id));
        let need_not_say = event.ends_with("deleted") || event == "snapshot";
        let directory = self.somewhere(home);
        if !need_not_say || self.chance(75) {
            data.insert("directory_id".into(), json!(directory));
        } else if self.chance(20) {
            let bad = [Value::Null, json!(""), json!(5), json!("z".repeat(256))];
            data.insert("directory_id".into(), bad.choose(&mut self.rng).expect("bad ids").clone());
        }
        if event == "snapshot" && self.chance(15) {
            return data;
        }
        self.maybe(&mut data, 85, "object", json!(object));
        let organization = self.usual_organization(&directory);
        self.organization(&mut data, &organization);
        let idp_id = self.cast.idp_ids.choose(&mut self.rng).cloned().expect("idp ids");
        self.maybe(&mut data, 80, "idp_id", json!(idp_id));
        let told = self.told;
        self.maybe(&mut data, 30, "raw_attributes", json!({ "raw": told, "": {} }));
        self.maybe(&mut data, 10, "groups", json!([{ "id": "not a group" }]));
        self.maybe(&mut data, 10, "unheard_of", json!({ "id": "z", "directory_id": "z" }));
        let percent = if event.ends_with("updated") { 60 } else { 4 };
        self.previous_attributes(&mut data, percent);
        self.times(&mut data);
        data
    }

    fn membership(&mut self) -> Object {
        let (group, group_home) = self.cast.groups.choose(&mut self.rng).cloned().expect("groups");
        let (user, user_home) = self.cast.users.choose(&mut self.rng).cloned().expect("users");
        let mut data = Object::new();
        let directory = self.somewhere(&group_home);
        let own = if self.chance(85) {
            json!(directory)
        } else {
            [Value::Null, json!("")].choose(&mut self.rng).expect("bad ids").clone()
        };
        self.maybe(&mut data, 92, "directory_id", own);
        if self.chance(15) {
            let organization = self.usual_organization(&directory);
            self.organization(&mut data, &organization);
        }
        let group = self.group(&group, &group_home, "snapshot");
        data.insert("group".into(), Value::Object(group));
        let user = self.user(&user, &user_home, "snapshot");
        data.insert("user".into(), Value::Object(user));
        self.maybe(&mut data, 5, "object", json!("directory_membership"));
        self.maybe(&mut data, 5, "unheard_of", json!({ "role": "owner" }));
        if self.chance(20) {
            self.times(&mut data);
        }
        data
    }

    fn somewhere(&mut self, home: &str) -> String {
        if self.chance(if self.theme == Theme::Audit { 78 } else { 88 }) {
            return home.to_owned();
        }
        self.cast.directories.choose(&mut self.rng).expect("directories").0.clone()
    }

    fn usual_organization(&self, directory: &str) -> String {
        let found = self.cast.directories.iter().find(|(id, _)| id == directory);
        found.map(|(_, organization)| organization.clone()).unwrap_or_default()
    }

    fn organization(&mut self, data: &mut Object, usual: &str) {
        let other = self.cast.organizations.choose(&mut self.rng).cloned().expect("organizations");
        let value = match self.rng.random_range(0..100) {
            0..65 => json!(usual),
            65..75 => json!(other),
            75..79 => json!(""),
            79..82 => Value::Null,
            82..84 => json!(12),
            _ => return,
        };
        data.insert("organization_id".into(), value);
    }

    fn times(&mut self, data: &mut Object) {
        for key in ["created_at", "updated_at"] {
            let moment = self.any_moment();
            match self.rng.random_range(0..100) {
                0..60 => drop(data.insert(key.into(), json!(write_time(&mut self.rng, moment)))),
                60..68 => drop(data.insert(key.into(), bad_time(&mut self.rng))),
                _ => {}
            }
        }
    }

    fn maybe(&mut self, data: &mut Object, percent: u32, key: &str, value: Value) {
        if self.chance(percent) {
            data.insert(key.to_owned(), value);
        }
    }

    /// Sometimes gives a field another type than it should have.
    fn odd(&mut self, data: &mut Object, keys: &[&str]) {
        if self.chance(8) {
            let key = *keys.choose(&mut self.rng).expect("keys");
            let values = [
                Value::Null,
                json!(""),
                json!(0),
                json!(false),
                json!(["x"]),
                json!({ "value": "x" }),
            ];
            data.insert(key.to_owned(), values.choose(&mut self.rng).expect("values").clone());
        }
    }

    // --- The envelope: id and time ---

    fn envelope(&mut self, event: &str, mut data: Object, has_effect: bool) -> Value {
        let at = self.next_moment();
        let by_data = matches!(
            event,
            "dsync.user.created"
                | "dsync.user.updated"
                | "dsync.group.created"
                | "dsync.group.updated"
                | "dsync.activated"
                | "user.updated"
        );
        let mut body = Object::new();
        let roll = self.rng.random_range(0..100);
        let id = match roll {
            _ if has_effect && self.budget_ahead > 0 && self.told.is_multiple_of(40) => {
                self.budget_ahead -= 1;
                body.insert("created_at".into(), json!(AHEAD));
                self.any_event_id(at)
            }
            _ if has_effect && self.budget_timeless > 0 && self.told.is_multiple_of(31) => {
                self.budget_timeless -= 1;
                if by_data {
                    data.remove("updated_at");
                }
                self.event_id_without_time()
            }
            0..60 => {
                body.insert("created_at".into(), json!(rfc3339(at)));
                self.any_event_id(at)
            }
            60..76 => {
                body.insert("created_at".into(), json!(write_time(&mut self.rng, at)));
                self.any_event_id(at)
            }
            76..82 if by_data => {
                data.insert("updated_at".into(), json!(write_time(&mut self.rng, at)));
                self.event_id_without_time()
            }
            82..88 => {
                body.insert("created_at".into(), bad_time(&mut self.rng));
                self.event_id_with_time(at)
            }
            _ => self.event_id_with_time(at),
        };
        body.insert("id".into(), json!(id));
        body.insert("event".into(), json!(event));
        body.insert("data".into(), Value::Object(data));
        self.maybe(&mut body, 60, "object", json!("event"));
        let contexts = [
            json!({}),
            json!({ "previous_attributes": { "name": "Before, in the context" },
                "actor": { "id": "a", "source": "api", "name": null } }),
            json!({ "previous_attributes": null }),
            json!("context"),
            Value::Null,
        ];
        let context = contexts
            .choose_weighted(&mut self.rng, |context| if *context == json!({}) { 6 } else { 1 })
            .expect("contexts")
            .clone();
        self.maybe(&mut body, 60, "context", context);
        Value::Object(body)
    }

    fn any_event_id(&mut self, at: i64) -> String {
        let elsewhere = self.any_moment();
        match self.rng.random_range(0..10) {
            0..6 => self.event_id_with_time(at),
            6..8 => self.event_id_with_time(elsewhere),
            _ => self.event_id_without_time(),
        }
    }

    fn event_id_with_time(&mut self, at: i64) -> String {
        let ulid = self.ulid(at);
        let ulid = if self.chance(25) { ulid.to_lowercase() } else { ulid };
        let prefix = *["event_", "event_", "event_", "wh_", "", "a_b_", "é_"]
            .choose(&mut self.rng)
            .expect("prefixes");
        format!("{prefix}{ulid}")
    }

    fn event_id_without_time(&mut self) -> String {
        let unique = crockford(&mut self.rng, 8);
        let before_2015 = read_time("2014-12-31T23:59:59.999Z").expect("a time");
        let after_2099 = read_time("2100-01-01T00:00:00Z").expect("a time");
        let at = self.any_moment();
        match self.rng.random_range(0..11) {
            0..2 => format!("event_{unique}"),
            2 => unique,
            3 => format!("événement {unique}/%?"),
            4 => format!("e{unique}{}", "q".repeat(246)),
            5 => format!("event_{}", self.ulid(before_2015)),
            6 => format!("event_{}", self.ulid(after_2099)),
            7 => format!("event_8{}", crockford(&mut self.rng, 25)),
            8 => format!("event_{}U", &self.ulid(at)[..25]),
            9 => format!("event_{}_", self.ulid(at)),
            _ => format!("event_{}0", self.ulid(at)),
        }
    }

    fn ulid(&mut self, ms: i64) -> String {
        let digit = |index: u32| {
            b"0123456789ABCDEFGHJKMNPQRSTVWXYZ"[(ms >> (5 * (9 - index)) & 31) as usize] as char
        };
        let time: String = (0..10).map(digit).collect();
        time + &crockford(&mut self.rng, 16)
    }

    // --- What should not arrive ---

    /// Removes a required field of an event, or makes it another kind than its type says.
    fn spoil(&mut self, event: &str, body: &mut Value) {
        let membership = event.starts_with("dsync.group.user_");
        if self.chance(15) {
            let data = [Value::Null, json!([]), json!("data"), json!({})];
            body["data"] = data.choose(&mut self.rng).expect("data").clone();
            return;
        }
        if membership && self.chance(20) {
            let end = *["user", "group"].choose(&mut self.rng).expect("ends");
            body["data"][end] =
                [Value::Null, json!([]), json!("x")].choose(&mut self.rng).expect("ends").clone();
            return;
        }
        let spoiled = if membership {
            &mut body["data"][*["user", "group"].choose(&mut self.rng).expect("ends")]
        } else {
            &mut body["data"]
        };
        let Some(data) = spoiled.as_object_mut() else { return };
        let bad_ids = [
            Value::Null,
            json!(""),
            json!(9),
            json!("w".repeat(256)),
            json!(format!("{}é", "w".repeat(254))),
        ];
        let other_kinds = ["directory_user_01X", "directory_group_01X"];
        match self.rng.random_range(0..6) {
            0 => drop(data.remove("id")),
            1 => drop(
                data.insert("id".into(), bad_ids.choose(&mut self.rng).expect("bad ids").clone()),
            ),
            2 => drop(data.insert(
                "directory_id".into(),
                bad_ids.choose(&mut self.rng).expect("bad ids").clone(),
            )),
            3 => drop(data.insert(
                "directory_id".into(),
                json!(other_kinds.choose(&mut self.rng).expect("kinds")),
            )),
            4 => drop(
                data.insert("id".into(), json!(other_kinds.choose(&mut self.rng).expect("kinds"))),
            ),
            _ => {
                let objects = ["directory", "directory_user", "directory_group", "event", ""];
                data.insert(
                    "object".into(),
                    json!(objects.choose(&mut self.rng).expect("objects")),
                );
            }
        }
    }

    /// Draws a body that is not an event by rule 7.
    fn unusable_body(&mut self) -> Vec<u8> {
        let at = self.any_moment();
        let id = self.event_id_with_time(at);
        let (user, home) = self.cast.users.choose(&mut self.rng).cloned().expect("users");
        let data = json!({ "id": user, "directory_id": home, "name": "Nobody" });
        let event = "dsync.user.updated";
        let control = *["a\u{0}", "event_\n1", "\u{7f}"].choose(&mut self.rng).expect("controls");
        let whole = json!({ "id": id, "event": event, "data": data, "created_at": rfc3339(at) })
            .to_string();
        let body = match self.rng.random_range(0..16) {
            0 => json!({ "event": event, "data": data }).to_string(),
            1 => json!({ "id": 17, "event": event, "data": data }).to_string(),
            2 => json!({ "id": "", "event": event, "data": data }).to_string(),
            3 => {
                let own = ["op_", "obs_", "run_"].choose(&mut self.rng).expect("prefixes");
                json!({ "id": format!("{own}{id}"), "event": event, "data": data }).to_string()
            }
            4 => json!({ "id": control, "event": event, "data": data }).to_string(),
            5 => json!({ "id": "i".repeat(256), "event": event, "data": data }).to_string(),
            6 => json!({ "id": self.known_event_id(), "data": data }).to_string(),
            7 => json!({ "id": self.known_event_id(), "event": "", "data": data }).to_string(),
            8 => json!({ "id": self.known_event_id(), "event": ["x"], "data": data }).to_string(),
            9 => format!("[{whole}]"),
            10 => ["", "null", "17", "\"event\"", "{}", "not json", "\u{feff}{}"]
                .choose(&mut self.rng)
                .expect("bodies")
                .to_string(),
            11 => whole[..whole.len() - 1].to_owned(),
            12 => format!("{whole}{{}}"),
            13 => whole.replace(",\"data\"", ",,\"data\""),
            14 => whole.replacen(&json!(id).to_string(), "\"good\",\"id\":null", 1),
            _ => {
                let mut bytes = whole.into_bytes();
                let place = bytes.windows(6).position(|window| window == b"Nobody").unwrap_or(0);
                bytes[place] = 0xff;
                return bytes;
            }
        };
        body.into_bytes()
    }

    /// Draws the id of an earlier event, if there is one: an unusable body does not occupy it.
    fn known_event_id(&mut self) -> String {
        let known = self
            .bodies
            .choose(&mut self.rng)
            .and_then(|body| serde_json::from_slice::<Value>(body).ok());
        let id = known.and_then(|body| Some(body.get("id")?.as_str()?.to_owned()));
        id.unwrap_or_else(|| "event_unknown".to_owned())
    }

    /// Adds other contents under the id of `body`, some of them more than once.
    fn contradict(&mut self, body: &Value) {
        let mut other = body.clone();
        let at = self.any_moment();
        match self.rng.random_range(0..5) {
            0 => other["created_at"] = json!(rfc3339(at - 1)),
            1 => other["event"] = json!("dsync.user.deleted"),
            _ if !other["data"].is_object() => other["data"] = json!({ "id": "x1" }),
            2 => other["data"] = json!({}),
            3 => other["data"]["name"] = json!("Contradiction"),
            _ => other["data"]["directory_id"] = json!("directory_elsewhere"),
        }
        let bytes = self.written(&other);
        self.bodies.push(bytes.clone());
        if self.chance(50) {
            self.bodies.push(bytes);
        }
        if self.chance(30) {
            let again = write_loosely(&mut self.rng, &other);
            self.bodies.push(again);
        }
    }

    /// Writes a body, mostly as a source would.
    fn written(&mut self, body: &Value) -> Vec<u8> {
        if self.chance(70) {
            return with_numbers(body.to_string()).into_bytes();
        }
        write_loosely(&mut self.rng, body)
    }
}

/// Numbers of different texts, some of them of equal value.
const NUMBERS: [&str; 6] = ["1", "1.0", "1.00", "1e2", "100", "12345678901234567890123"];

/// Strings that are replaced by these numbers.
fn with_numbers(text: String) -> String {
    NUMBERS.iter().fold(text, |text, number| text.replace(&format!("\"@{number}@\""), number))
}

// --- Writing times and JSON in every way that means the same ---

/// Writes a moment in one of the forms that old and new sources use.
fn write_time(rng: &mut StdRng, ms: i64) -> String {
    let canonical = rfc3339(ms);
    let (date, clock) = (&canonical[..10], &canonical[11..23]);
    match rng.random_range(0..13) {
        0..3 => canonical,
        3 => format!("{date}T{clock}+0000"),
        4 => format!("{date} {clock}"),
        5 => format!("{date}T{clock}"),
        6 => format!("{date} {clock}+00:00"),
        7 => format!("{date}T{clock}{:03}Z", rng.random_range(0..1000)),
        8 => format!("{date}t{clock}{:06}z", rng.random_range(0..1_000_000)),
        9 => in_zone(ms, 120, "+02:00"),
        10 => in_zone(ms, -90, "-0130"),
        11 => in_zone(ms, 23 * 60 + 59, "+23:59"),
        _ => {
            let (.., milli) = civil(ms);
            let short = if milli == 0 { &clock[..8] } else { clock.trim_end_matches('0') };
            format!("{date}T{short}Z")
        }
    }
}

fn in_zone(ms: i64, minutes: i64, zone: &str) -> String {
    let local = rfc3339(ms + minutes * 60_000);
    format!("{}{zone}", &local[..23])
}

/// Draws a value that is not a time.
fn bad_time(rng: &mut StdRng) -> Value {
    let bad = [
        Value::Null,
        json!(1_700_000_000_000_i64),
        json!(true),
        json!(["2025-01-01T00:00:00Z"]),
        json!(""),
        json!("yesterday"),
        json!("2025-01-01"),
        json!("2025-01-01T10:00Z"),
        json!("2025-01-01T10:00:60Z"),
        json!("2025-01-01T24:00:00Z"),
        json!("2025-02-29T10:00:00Z"),
        json!("2025-1-01T10:00:00Z"),
        json!(" 2025-01-01T10:00:00Z"),
        json!("2025-01-01T10:00:00Z "),
        json!("2025-01-01T10:00:00 Z"),
        json!("2025-01-01T10:00:00.Z"),
        json!("2025-01-01T10:00:00,5Z"),
        json!("2025-01-01T10:00:00+01"),
        json!("2025-01-01T10:00:00+24:00"),
        json!("2025-01-01T10:00:00+01:60"),
        json!("2025-01-01_10:00:00Z"),
        json!("20250101T100000Z"),
        json!("+2025-01-01T10:00:00Z"),
        json!("２025-01-01T10:00:00Z"),
    ];
    bad.choose(rng).expect("bad times").clone()
}

/// Writes the same JSON value in other bytes: keys in another order or twice, white space, escapes.
fn write_loosely(rng: &mut StdRng, value: &Value) -> Vec<u8> {
    let style = Style {
        space: rng.random_bool(0.5),
        escape: rng.random_bool(0.3),
        double: rng.random_bool(0.3),
    };
    let mut out = String::new();
    write_value(rng, value, &style, &mut out);
    if style.space {
        out.push('\n');
    }
    out.into_bytes()
}

struct Style {
    space: bool,
    escape: bool,
    double: bool,
}

fn write_value(rng: &mut StdRng, value: &Value, style: &Style, out: &mut String) {
    match value {
        Value::Object(object) => write_object(rng, object, style, out),
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                write_separator(rng, index > 0, style, out);
                write_value(rng, item, style, out);
            }
            out.push(']');
        }
        Value::String(text) => write_string(rng, text, style, out),
        _ => out.push_str(&value.to_string()),
    }
}

fn write_object(rng: &mut StdRng, object: &Object, style: &Style, out: &mut String) {
    let mut entries: Vec<(&String, Value)> =
        object.iter().map(|(key, value)| (key, value.clone())).collect();
    entries.shuffle(rng);
    if style.double && !entries.is_empty() && rng.random_bool(0.4) {
        let index = rng.random_range(0..entries.len());
        let decoys = [Value::Null, json!("decoy"), json!(3), json!({ "id": "decoy" })];
        let decoy = (entries[index].0, decoys.choose(rng).expect("decoys").clone());
        entries.insert(rng.random_range(0..=index), decoy);
    }
    out.push('{');
    for (index, (key, value)) in entries.iter().enumerate() {
        write_separator(rng, index > 0, style, out);
        write_string(rng, key, style, out);
        out.push(':');
        write_value(rng, value, style, out);
    }
    out.push('}');
}

fn write_separator(rng: &mut StdRng, comma: bool, style: &Style, out: &mut String) {
    if comma {
        out.push(',');
    }
    if style.space {
        out.push_str(["", " ", "\n  ", "\t", "\r\n"].choose(rng).expect("spaces"));
    }
}

fn write_string(rng: &mut StdRng, text: &str, style: &Style, out: &mut String) {
    out.push('"');
    for char in text.chars() {
        if style.escape && rng.random_bool(0.2) {
            for unit in char.encode_utf16(&mut [0; 2]) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            let quoted = json!(char).to_string();
            out.push_str(&quoted[1..quoted.len() - 1]);
        }
    }
    out.push('"');
}

// --- Questions ---

/// Draws a question, mostly about something that exists.
pub fn question(rng: &mut impl Rng, world: &World) -> Question {
    let ids = world.ids();
    let moments = world.moments();
    for _ in 0..2 {
        let question = draw_question(rng, &ids, &moments, world.head());
        let (status, body) = world.get(&question.path, &question.query, question.cut);
        let found = status == 200 && body["data"] != json!([]);
        if found || rng.random_bool(0.3) {
            return question;
        }
    }
    draw_question(rng, &ids, &moments, world.head())
}

impl Question {
    /// Returns path and query as they are sent, with `as_of` and `known_at`.
    pub fn url(&self) -> String {
        let (resource, id) = match self.path[1..].split_once('/') {
            Some((resource, id)) => (resource, Some(id)),
            None => (&self.path[1..], None),
        };
        let mut url = format!("/{resource}");
        if let Some(id) = id {
            url += &format!("/{}", percent_encoded(id));
        }
        // Client libraries send brackets both ways.
        let name =
            |key: &str| if key.ends_with("[]") { key.to_owned() } else { percent_encoded(key) };
        let mut pairs: Vec<String> = self
            .query
            .iter()
            .map(|(key, value)| format!("{}={}", name(key), percent_encoded(value)))
            .collect();
        pairs.extend(self.cut.as_of_ms.map(|ms| format!("as_of={}", rfc3339(ms))));
        pairs.extend(self.cut.known_at.map(|seq| format!("known_at={seq}")));
        if !pairs.is_empty() {
            url += &format!("?{}", pairs.join("&"));
        }
        url
    }
}

pub fn percent_encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(byte as char);
        } else {
            encoded += &format!("%{byte:02X}");
        }
    }
    encoded
}

fn draw_question(rng: &mut impl Rng, ids: &Ids, moments: &[i64], head: u64) -> Question {
    let mut query = Vec::new();
    let path = match rng.random_range(0..125) {
        100.. => {
            event_filters(rng, ids, moments, &mut query);
            "/events".to_owned()
        }
        0..12 => {
            directory_filters(rng, ids, &mut query);
            paging(rng, &ids.directories, &mut query);
            "/directories".to_owned()
        }
        12..22 => format!("/directories/{}", one_of(rng, &ids.directories, "directory_nowhere")),
        22..50 => {
            user_filters(rng, ids, &mut query);
            paging(rng, &ids.users, &mut query);
            "/directory_users".to_owned()
        }
        50..66 => {
            maybe_ask(rng, 0.1, "groups", "true", &mut query);
            format!("/directory_users/{}", one_of(rng, &ids.users, "u"))
        }
        66..85 => {
            group_filters(rng, ids, &mut query);
            paging(rng, &ids.groups, &mut query);
            "/directory_groups".to_owned()
        }
        _ => {
            maybe_ask(rng, 0.5, "members", "true", &mut query);
            format!("/directory_groups/{}", one_of(rng, &ids.groups, "g"))
        }
    };
    Question { path, query, cut: draw_cut(rng, moments, head) }
}

/// Every type of event that histories have, and some that they have not.
pub const EVENT_TYPES: [&str; 38] = [
    "dsync.user.created",
    "dsync.user.updated",
    "dsync.user.deleted",
    "dsync.group.created",
    "dsync.group.updated",
    "dsync.group.deleted",
    "dsync.group.user_added",
    "dsync.group.user_removed",
    "dsync.activated",
    "dsync.deactivated",
    "dsync.deleted",
    "dsync.token.created",
    "dsync.token.revoked",
    "connection.activated",
    "user.created",
    "user.updated",
    // Kept and listed in the quarantine, so in no list of events.
    "dsync.user.promoted",
    "dsync.group.user_moved",
    "rollcall.directory.deleted",
    "rollcall.user.deleted",
    // Rollcall's own, which no list of events has.
    "rollcall.mapping.set",
    "rollcall.policy.set",
    "rollcall.link.set",
    "rollcall.link.removed",
    "rollcall.directory.observed",
    "rollcall.user.observed",
    "rollcall.group.observed",
    "rollcall.membership.observed",
    "rollcall.reconciliation.completed",
    "rollcall.checkpoint_key.changed",
    "rollcall.directory.created",
    "rollcall.directory_token.created",
    "rollcall.directory_token.revoked",
    "rollcall.scim.request",
    "rollcall.scim.members",
    // Never told.
    "dsync.user",
    "Dsync.user.created",
    "session.revoked",
];

/// Writes the parameter `events` for these types, in one of the forms that client libraries send.
pub fn ask_for_types(rng: &mut impl Rng, types: &[&str], query: &mut Vec<(String, String)>) {
    let form = rng.random_range(0..5);
    if form == 0 {
        query.push(("events".to_owned(), types.join(",")));
        return;
    }
    for (index, name) in types.iter().enumerate() {
        let key = match (form, index % 2) {
            (1, _) | (4, 0) => "events".to_owned(),
            (2, _) => "events[]".to_owned(),
            _ => format!("events[{index}]"),
        };
        query.push((key, name.to_string()));
    }
}

fn event_filters(
    rng: &mut impl Rng,
    ids: &Ids,
    moments: &[i64],
    query: &mut Vec<(String, String)>,
) {
    let count = match rng.random_range(0..100) {
        0..2 => 0,
        2..40 => rng.random_range(1..=3),
        40..80 => rng.random_range(4..=10),
        _ => EVENT_TYPES.len(),
    };
    let types: Vec<&str> = EVENT_TYPES.sample(rng, count).copied().collect();
    ask_for_types(rng, &types, query);
    maybe_ask(rng, 0.02, "events", "", query);
    if rng.random_bool(0.01) {
        query.extend((0..65).map(|number| ("events".to_owned(), format!("x{number}"))));
    }
    if rng.random_bool(0.4) {
        organization_filter(rng, ids, query);
    }
    let limit = match rng.random_range(0..100) {
        0..60 => rng.random_range(1..=8).to_string(),
        60..80 => rng.random_range(9..=100).to_string(),
        80..83 => ["0", "101", "x", "-1"].choose(rng).expect("limits").to_string(),
        _ => String::new(),
    };
    maybe_ask(rng, if limit.is_empty() { 0.0 } else { 1.0 }, "limit", &limit, query);
    let order = *["asc", "desc", "desc", "normal", "newest"].choose(rng).expect("orders");
    maybe_ask(rng, if order == "newest" { 0.05 } else { 0.4 }, "order", order, query);
    let ranged = rng.random_bool(0.3);
    if ranged {
        for key in ["range_start", "range_end"] {
            let moment = write_range(rng, moments);
            maybe_ask(rng, 0.6, key, &moment, query);
        }
    }
    if rng.random_bool(if ranged { 0.05 } else { 0.4 }) {
        let cursor = one_of(rng, &ids.events, "event_nowhere");
        let key = *["after", "after", "after", "before"].choose(rng).expect("cursors");
        query.push((key.to_owned(), cursor));
        maybe_ask(
            rng,
            0.02,
            if key == "before" { "after" } else { "before" },
            "event_nowhere",
            query,
        );
    }
    query.shuffle(rng);
}

fn write_range(rng: &mut impl Rng, moments: &[i64]) -> String {
    let moment =
        moments.choose(rng).copied().unwrap_or_default().min(read_time(HORIZON).expect("a time"))
            + rng.random_range(-1..=1);
    match rng.random_range(0..10) {
        0..7 => rfc3339(moment),
        7 => in_zone(moment, 120, "+02:00"),
        8 => in_zone(moment, -90, "-01:30"),
        _ => ["yesterday", "2025-01-01", "2025-02-30T00:00:00Z"]
            .choose(rng)
            .expect("bad times")
            .to_string(),
    }
}

fn maybe_ask(
    rng: &mut impl Rng,
    chance: f64,
    key: &str,
    value: &str,
    query: &mut Vec<(String, String)>,
) {
    if rng.random_bool(chance) {
        query.push((key.to_owned(), value.to_owned()));
    }
}

/// Draws mostly something known, sometimes something close to it, or made up.
fn one_of(rng: &mut impl Rng, known: &[String], made_up: &str) -> String {
    let Some(some) = known.choose(rng) else { return made_up.to_owned() };
    match rng.random_range(0..100) {
        0..95 => some.clone(),
        95..97 => format!("{some}x"),
        _ => made_up.to_owned(),
    }
}

fn directory_filters(rng: &mut impl Rng, ids: &Ids, query: &mut Vec<(String, String)>) {
    if rng.random_bool(0.3) {
        organization_filter(rng, ids, query);
    }
    if rng.random_bool(0.25) {
        let name: Vec<char> = one_of(rng, &ids.directory_names, "Nowhere").chars().collect();
        let start = rng.random_range(0..name.len());
        let end = rng.random_range(start + 1..=name.len());
        let part: String = name[start..end].iter().collect();
        query.push(("search".to_owned(), other_case(rng, &part)));
    }
    let domain = one_of(rng, &ids.domains, "nowhere.example");
    maybe_ask(rng, 0.15, "domain", &domain, query);
}

fn user_filters(rng: &mut impl Rng, ids: &Ids, query: &mut Vec<(String, String)>) {
    scope(rng, ids, "group", &ids.groups, query);
    let state = *["active", "active", "inactive"].choose(rng).expect("states");
    maybe_ask(rng, 0.15, "state", state, query);
    let email = one_of(rng, &ids.emails, "nobody@a.example");
    let email = other_case(rng, &email);
    // A `+` that was not encoded arrives as a space.
    let email = if rng.random_bool(0.3) { email.replace('+', " ") } else { email };
    maybe_ask(rng, 0.12, "email", &email, query);
    let idp_id = one_of(rng, &ids.idp_ids, "9999");
    maybe_ask(rng, 0.08, "idp_id", &idp_id, query);
    maybe_ask(rng, 0.1, "groups", "true", query);
}

fn group_filters(rng: &mut impl Rng, ids: &Ids, query: &mut Vec<(String, String)>) {
    scope(rng, ids, "user", &ids.users, query);
    maybe_ask(rng, 0.3, "members", "true", query);
}

/// Draws at least one of the filters that a list requires, or rarely none, which is refused.
fn scope(
    rng: &mut impl Rng,
    ids: &Ids,
    other: &str,
    others: &[String],
    query: &mut Vec<(String, String)>,
) {
    if rng.random_bool(0.03) {
        return;
    }
    while query.is_empty() {
        let directory = one_of(rng, &ids.directories, "directory_nowhere");
        maybe_ask(rng, 0.4, "directory", &directory, query);
        let id = one_of(rng, others, "nobody");
        maybe_ask(rng, 0.3, other, &id, query);
        if rng.random_bool(0.3) {
            organization_filter(rng, ids, query);
        }
    }
}

fn organization_filter(rng: &mut impl Rng, ids: &Ids, query: &mut Vec<(String, String)>) {
    let key = if rng.random_bool(0.7) { "organization_id" } else { "organization" };
    query.push((key.to_owned(), one_of(rng, &ids.organizations, "org_nowhere")));
}

fn other_case(rng: &mut impl Rng, text: &str) -> String {
    match rng.random_range(0..3) {
        0 => text.to_owned(),
        1 => text.to_lowercase(),
        _ => text.to_uppercase(),
    }
}

fn paging(rng: &mut impl Rng, known: &[String], query: &mut Vec<(String, String)>) {
    match rng.random_range(0..100) {
        0..75 => query.push((
            "limit".to_owned(),
            rng.random_range(1..=5).min(rng.random_range(1..=5)).to_string(),
        )),
        75..85 => query.push(("limit".to_owned(), rng.random_range(6..=100).to_string())),
        _ => {}
    }
    if let Some(order) =
        [None, None, Some("asc"), Some("desc"), Some("normal")].choose(rng).expect("orders")
    {
        query.push(("order".to_owned(), order.to_string()));
    }
    if rng.random_bool(0.35) {
        let cursor = match rng.random_range(0..10) {
            0 => "m".to_owned(),
            1 => "directory_user_01M".to_owned(),
            _ => one_of(rng, known, "directory_group_01M"),
        };
        let key = *["after", "before"].choose(rng).expect("cursors");
        query.push((key.to_owned(), cursor));
    }
    query.shuffle(rng);
}

fn draw_cut(rng: &mut impl Rng, moments: &[i64], head: u64) -> Cut {
    let (by_time, by_knowledge) = match rng.random_range(0..100) {
        0..30 => (false, false),
        30..60 => (true, false),
        60..75 => (false, true),
        _ => (true, true),
    };
    Cut {
        as_of_ms: by_time.then(|| draw_as_of(rng, moments)),
        known_at: by_knowledge.then(|| draw_known_at(rng, head)),
    }
}

fn draw_known_at(rng: &mut impl Rng, head: u64) -> u64 {
    rng.random_range(0..=head).max(rng.random_range(0..=head))
}

fn draw_as_of(rng: &mut impl Rng, moments: &[i64]) -> i64 {
    let horizon = read_time(HORIZON).expect("a time");
    let past: Vec<i64> = moments.iter().copied().filter(|moment| *moment < horizon).collect();
    let (Some(first), Some(last)) = (past.first(), past.last()) else { return horizon };
    let as_of = match rng.random_range(0..10) {
        0..7 => {
            let index = rng.random_range(0..past.len()).max(rng.random_range(0..past.len()));
            past[index] + rng.random_range(-1..=1)
        }
        7..9 => rng.random_range(first - 1000..=last + 1000),
        _ => rng.random_range(*last..=horizon),
    };
    as_of.min(horizon)
}
