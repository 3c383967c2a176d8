//! A key that is bound to an organization sees nothing of another in any answer: random histories
//! of two organizations with mixed groups, and every call of `/openapi.json`.
//!
//! Everything of an organization has its word in each id, name and email. What changes hands has
//! neither word.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use actix_web::http::Method;
use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use rollcall::engine::Engine;
use rollcall::http::{Settings, WEBHOOK_PATH};
use rollcall::keys::{ApiKey, ApiKeys};
use serde_json::{Value, json};

use crate::kit::histories::{EVENT_TYPES, percent_encoded};
use crate::kit::model::rfc3339;
use crate::kit::road::{Reply, Routes, engine, memory_log, operate, post, settings};
use crate::kit::scale::{check_each, histories};
use crate::kit::server::{API_KEY, now_ms};

const HISTORIES: u64 = 8;
const EVENTS: usize = 90;

/// Questions of each call with each key, in each history.
const QUESTIONS: usize = 10;

/// The words of the two organizations, and one of the same length that is in nothing.
const WORDS: [&str; 2] = ["alfa", "brav"];
const UNKNOWN: &str = "nonw";

/// The first moment of a history; one event a second follows.
const START_MS: i64 = 1_767_225_600_000;

type Tally = Mutex<BTreeMap<String, u64>>;

#[test]
fn no_call_shows_a_key_anything_of_another_organization() {
    let tally = Tally::default();
    check_each(histories(HISTORIES), 2, |seed| {
        actix_web::rt::System::new().block_on(check(seed, &tally));
    });
    let tally = tally.into_inner().unwrap();
    println!("answers with something of the own organization: {tally:?}");
    for call in [
        "/directories",
        "/directories/{id}",
        "/directory_groups",
        "/directory_groups/{id}",
        "/directory_users",
        "/directory_users/{id}",
        "/events",
        "/rollcall/v1/changes",
        "/rollcall/v1/deprovisionings",
        "/rollcall/v1/diff",
        "/rollcall/v1/groups/{id}/history",
        "/rollcall/v1/groups/{id}/members",
        "/rollcall/v1/log/entries/{seq}",
        "/rollcall/v1/quarantine",
        "/rollcall/v1/role_assignments",
        "/rollcall/v1/stats",
        "/rollcall/v1/users",
        "/rollcall/v1/users/{id}/access",
        "/rollcall/v1/users/{id}/groups",
        "/rollcall/v1/users/{id}/history",
        "/rollcall/v1/users/{id}/roles",
    ] {
        assert!(tally.get(call).is_some_and(|seen| *seen >= HISTORIES), "{call}: {tally:?}");
    }
}

// --- The history ---

/// Tells a history, one event a second.
struct Teller {
    rng: StdRng,
    bodies: Vec<Vec<u8>>,
    /// The word of each user's home; `None` for one in the directory that changes hands.
    homes: BTreeMap<String, Option<usize>>,
    /// The present organization of the directory that changes hands.
    holder: usize,
    /// The organization that it had by its last event; `None` before the first.
    held_by: Option<usize>,
    /// The events that have no effect.
    unusable: BTreeSet<String>,
    /// True if the events come in the order in which they happened.
    in_order: bool,
}

/// A directory, and its organization where it says one.
fn directory_of(word: Option<usize>, number: u32) -> String {
    match word {
        Some(word) => format!("directory_{}{number}", WORDS[word]),
        None => "directory_shared".to_owned(),
    }
}

fn organization(word: usize) -> String {
    format!("org_{}", WORDS[word])
}

/// The word of an organization's id.
fn word_of(organization: &Value) -> Option<usize> {
    WORDS.iter().position(|word| *organization == format!("org_{word}"))
}

/// The owner, if there is only one.
fn only(owners: &BTreeSet<Option<usize>>) -> Option<usize> {
    if owners.len() == 1 { owners.first().copied().flatten() } else { None }
}

impl Teller {
    fn tell(seed: u64) -> Teller {
        let mut rng = StdRng::seed_from_u64(seed ^ 0x51647);
        let in_order = rng.random_bool(0.5);
        let mut teller = Teller {
            rng,
            bodies: Vec::new(),
            homes: BTreeMap::new(),
            holder: 0,
            held_by: None,
            unusable: BTreeSet::new(),
            in_order,
        };
        for word in [0, 1] {
            for number in [1, 2] {
                teller.directory("dsync.activated", Some(word), number);
            }
            teller.group(Some(word), 1);
            for number in [1, 2, 3] {
                teller.user("created", &format!("user_{}{number}", WORDS[word]), Some(word), true);
            }
        }
        teller.directory("dsync.activated", None, 1);
        teller.user("created", "user_shared", None, true);
        teller.user("created", "user_mover", Some(0), true);
        while teller.bodies.len() < EVENTS {
            teller.anything();
        }
        if !in_order {
            let (at, count) = (teller.rng.random_range(8..20), teller.rng.random_range(5..30));
            teller.bodies[at..at + count].reverse();
        }
        teller
    }

    /// The organization of the directory that changes hands, if it is surely known when an event of
    /// now is recorded.
    fn known_holder(&self) -> Option<usize> {
        self.in_order.then_some(self.holder)
    }

    fn word(&mut self) -> usize {
        self.rng.random_range(0..2)
    }

    /// Adds an event, whose id has the word of its organization.
    fn push(&mut self, event: &str, word: Option<usize>, data: Value) -> String {
        let number = self.bodies.len();
        let word = word.map_or("both", |word| WORDS[word]);
        let (id, at) = (format!("event_{word}_{number:03}"), START_MS + 1000 * number as i64);
        let event = json!({ "object": "event", "id": id, "event": event,
            "created_at": rfc3339(at), "context": {}, "data": data });
        self.bodies.push(event.to_string().into_bytes());
        id
    }

    fn directory(&mut self, event: &str, word: Option<usize>, number: u32) {
        let id = directory_of(word, number);
        let holder = word.unwrap_or(self.holder);
        // The event by which a directory changes hands tells of both its organizations.
        let before = if word.is_none() { self.held_by.replace(holder) } else { None };
        let owner = Some(holder).filter(|holder| before.is_none_or(|before| before == *holder));
        let mut data = json!({ "object": "directory", "id": id, "state": "active",
            "name": format!("Directory {}", word.map_or("shared", |word| WORDS[word])),
            "type": "okta scim v2.0" });
        if event == "dsync.activated" || self.rng.random_bool(0.5) {
            data["organization_id"] = json!(organization(holder));
        }
        self.push(event, owner, data);
    }

    fn snapshot(&mut self, id: &str, word: Option<usize>, active: bool) -> Value {
        let shown = word.map_or("shared", |word| WORDS[word]);
        let number = if word.is_some() && id.ends_with('2') { 2 } else { 1 };
        let mut data = json!({
            "object": "directory_user", "id": id, "directory_id": directory_of(word, number),
            "idp_id": format!("idp_{shown}"), "first_name": format!("First {shown}"),
            "email": format!("{id}@{shown}.example"),
            "state": if active { "active" } else { "inactive" },
            "raw_attributes": { "n": self.rng.random_range(0..3) },
            "custom_attributes": { "team": format!("Team {shown}") },
        });
        match word {
            // What the source says may contradict itself.
            Some(word) if self.rng.random_bool(0.05) => {
                data["organization_id"] = json!(organization(1 - word));
            }
            Some(word) if self.rng.random_bool(0.8) => {
                data["organization_id"] = json!(organization(word));
            }
            // What the source says of a directory that changed hands may be out of date.
            None if self.rng.random_bool(0.5) => {
                data["organization_id"] = json!(organization(self.word()));
            }
            _ => {}
        }
        data
    }

    fn user(&mut self, change: &str, id: &str, word: Option<usize>, active: bool) {
        let mut data = self.snapshot(id, word, active);
        // An event is of all organizations of which it tells: the one that it carries, those of the
        // user's directories before and after, and that of the former values in it.
        let carried = word_of(&data["organization_id"]);
        let former = self.rng.random_bool(0.2).then(|| self.word());
        if let Some(former) = former {
            let shown = WORDS[former];
            data["previous_attributes"] = match self.rng.random_range(0..3) {
                0 => json!({ "organization_id": organization(former), "email": shown }),
                1 => json!({ "directory_id": directory_of(Some(former), 1), "email": shown }),
                _ => json!({ "directory_id": directory_of(Some(former), 2),
                    "organization_id": organization(former) }),
            };
        }
        let before = self.homes.get(id).copied();
        let homes = [Some(word), before].into_iter().flatten();
        let mut owners: BTreeSet<Option<usize>> =
            homes.map(|home| home.or(self.known_holder())).collect();
        owners.extend([carried, former].into_iter().flatten().map(Some));
        if change != "deleted" {
            self.homes.insert(id.to_owned(), word);
        }
        self.push(&format!("dsync.user.{change}"), only(&owners), data);
    }

    fn group_snapshot(&mut self, word: Option<usize>, number: u32) -> Value {
        let shown = word.map_or("shared", |word| WORDS[word]);
        json!({ "object": "directory_group", "id": format!("group_{shown}{number}"),
            "directory_id": directory_of(word, 1), "idp_id": format!("idp_{shown}"),
            "name": format!("Group {shown}"), "raw_attributes": {} })
    }

    fn group(&mut self, word: Option<usize>, number: u32) {
        let data = self.group_snapshot(word, number);
        self.push("dsync.group.created", word.or(self.known_holder()), data);
    }

    /// Adds a user to a group or removes it. The event is about both organizations if they differ.
    fn membership(&mut self) {
        let users: Vec<String> = self.homes.keys().cloned().collect();
        let user = users.choose(&mut self.rng).unwrap().clone();
        let home = self.homes[&user];
        let word = match home {
            Some(home) if self.rng.random_bool(0.6) => Some(home),
            _ if self.rng.random_bool(0.3) => None,
            _ => Some(self.word()),
        };
        let user = self.snapshot(&user, home, true);
        let group = self.group_snapshot(word, 1);
        let event = if self.rng.random_bool(0.7) { "user_added" } else { "user_removed" };
        let owners: BTreeSet<Option<usize>> =
            [home, word].map(|word| word.or(self.known_holder())).into();
        let carried = word_of(&user["organization_id"]);
        let owners: BTreeSet<Option<usize>> = owners.into_iter().chain(carried.map(Some)).collect();
        let directory = group["directory_id"].clone();
        let data = json!({ "directory_id": directory, "user": user, "group": group });
        self.push(&format!("dsync.group.{event}"), only(&owners), data);
    }

    fn anything(&mut self) {
        let users: Vec<String> = self.homes.keys().cloned().collect();
        let user = users.choose(&mut self.rng).unwrap().clone();
        let home = self.homes[&user];
        let word = self.word();
        match self.rng.random_range(0..100) {
            0..35 => self.membership(),
            35..55 => {
                let active = self.rng.random_bool(0.7);
                self.user("updated", &user, home, active);
            }
            55..59 => self.user("deleted", &user, home, true),
            59..62 => self.user("deleted", &user, Some(word), true),
            62..70 => self.user("updated", "user_mover", Some(word), true),
            70..76 => {
                self.holder = 1 - self.holder;
                self.directory("dsync.activated", None, 1);
            }
            76..82 => self.group(Some(word), 1),
            82..84 => self.group(None, 1),
            84..88 => self.directory("dsync.deactivated", Some(word), 2),
            88..92 => self.directory("dsync.activated", Some(word), 2),
            92..94 => self.directory("dsync.deleted", Some(word), 2),
            _ => self.unusable(word),
        }
    }

    /// Adds a record for the quarantine.
    fn unusable(&mut self, word: usize) {
        match self.rng.random_range(0..3) {
            0 => {
                let data = json!({ "id": format!("user_{}1", WORDS[word]) });
                let id = self.push("dsync.user.created", Some(word), data);
                self.unusable.insert(id);
            }
            1 => {
                let data = json!({ "name": WORDS[word], "organization_id": organization(word) });
                let id = self.push("dsync.unheard_of", Some(word), data);
                self.unusable.insert(id);
            }
            // Dated a year ahead: usable, with a remark.
            _ => {
                let mut data = self.snapshot(&format!("user_{}3", WORDS[word]), Some(word), true);
                data["organization_id"] = json!(organization(word));
                self.push("dsync.user.updated", Some(word), data);
                let last = self.bodies.pop().unwrap();
                let mut event: Value = serde_json::from_slice(&last).unwrap();
                event["created_at"] = json!(rfc3339(now_ms() + 365 * 86_400_000));
                self.bodies.push(event.to_string().into_bytes());
            }
        }
    }
}

// --- The server and its keys ---

fn key_of(word: usize) -> String {
    format!("sk_bound_to_{}", WORDS[word])
}

/// Returns the reply without the things of nearly the name that was asked for. Their distances
/// depend on the letters of that name alone, so one word is nearer to them than another.
fn without_near(mut reply: Reply, hidden: &str) -> Reply {
    if !reply.body.contains("\"names_found\"") {
        return reply;
    }
    let mut body = reply.json();
    let near = body["near"].take();
    assert!(!near.to_string().contains(hidden), "{near} names {hidden}");
    reply.headers.retain(|(name, _)| name != "content-length");
    reply.body = body.to_string();
    reply
}

fn settings_with_keys() -> Settings {
    let bound = [0, 1].map(|word| ApiKey {
        name: Some(WORDS[word].to_owned()),
        organizations: Some(vec![organization(word)]),
        ..ApiKey::unrestricted(&key_of(word))
    });
    let keys = bound.into_iter().chain([ApiKey::unrestricted(API_KEY)]);
    Settings { api_keys: ApiKeys::new(keys).unwrap(), ..settings() }
}

async fn check(seed: u64, tally: &Tally) {
    let teller = Teller::tell(seed);
    let engine: Arc<Engine> = engine(memory_log([]));
    let service = Routes::of(engine.clone(), settings_with_keys()).await;
    let mut rng = StdRng::seed_from_u64(seed);
    for (number, body) in teller.bodies.iter().enumerate() {
        if number % 30 == 10 {
            set_mapping(&service, &mut rng).await;
        }
        let reply = service.send(post(body)).await;
        assert_eq!(reply.status, 200, "{}", reply.body);
    }
    let told = Told { seed, ids: Ids::of(&teller.bodies), head: engine.views().head(), teller };
    let document = service.get("/openapi.json", API_KEY).await.json();
    for (path, methods) in document["paths"].as_object().unwrap() {
        // No API key opens those of SCIM.
        if path.starts_with("/scim/") {
            continue;
        }
        for (method, call) in methods.as_object().unwrap() {
            let of_path = methods.get("parameters").and_then(Value::as_array);
            let parameters: Vec<Value> = [call["parameters"].as_array(), of_path]
                .into_iter()
                .flatten()
                .flatten()
                .cloned()
                .collect();
            if method == "parameters" {
                continue;
            }
            for word in [0, 1].repeat(QUESTIONS) {
                let url = told.draw(&mut rng, path, &parameters);
                told.check_call(&service, method, path, &url, word, tally).await;
            }
        }
    }
    for word in [0, 1] {
        told.check_entries(&service, word, tally).await;
        told.check_pages(&service, word).await;
        told.check_filtered(&service, word).await;
        told.check_histories(&service, word).await;
    }
    engine.close();
}

async fn set_mapping(service: &Routes, rng: &mut StdRng) {
    let rule = |word: &&str| {
        let role = format!("of {}", rng.random_range(0..3));
        json!({ "group": { "name": format!("Group {word}") }, "roles": [role] })
    };
    let rules: Vec<Value> = ["alfa", "brav", "shared"].iter().map(rule).collect();
    let mapping = json!({ "default_roles": ["member"], "rules": rules });
    let from = rfc3339(START_MS + 1000 * rng.random_range(0..EVENTS as i64));
    let body = json!({ "mapping": mapping, "effective_from": from });
    let reply = service.send(operate(Method::PUT, "/rollcall/v1/role_mapping", &body)).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
}

/// The ids and other texts from which questions are drawn.
struct Ids(BTreeMap<&'static str, Vec<String>>);

impl Ids {
    fn of(bodies: &[Vec<u8>]) -> Ids {
        let mut ids: BTreeMap<&'static str, BTreeSet<String>> = BTreeMap::new();
        for body in bodies {
            let event: Value = serde_json::from_slice(body).unwrap();
            let data = &event["data"];
            let mut note = |name, value: &Value| {
                ids.entry(name).or_default().extend(value.as_str().map(str::to_owned));
            };
            note("event", &event["id"]);
            for part in [data, &data["user"], &data["group"]] {
                let kind = match part["object"].as_str() {
                    Some("directory_user") => "user",
                    Some("directory_group") => "group",
                    Some("directory") => "directory",
                    _ => continue,
                };
                note(kind, &part["id"]);
                note("email", &part["email"]);
                note("organization_id", &part["organization_id"]);
                note("idp_id", &part["idp_id"]);
            }
        }
        Ids(ids.into_iter().map(|(name, ids)| (name, ids.into_iter().collect())).collect())
    }

    fn pick(&self, rng: &mut StdRng, name: &str) -> String {
        percent_encoded(self.0[name].choose(rng).unwrap())
    }
}

/// A history that was told to the server.
struct Told {
    seed: u64,
    ids: Ids,
    head: u64,
    teller: Teller,
}

impl Told {
    /// Draws a question of a call.
    fn draw(&self, rng: &mut StdRng, path: &str, parameters: &[Value]) -> String {
        let mut segments: Vec<String> = Vec::new();
        for segment in path.split('/') {
            segments.push(match segment {
                "{id}" if path.contains("user") => self.ids.pick(rng, "user"),
                "{id}" if path.contains("group") => self.ids.pick(rng, "group"),
                "{id}" => self.ids.pick(rng, "directory"),
                "{token_id}" => "directory_token_1".to_owned(),
                "{seq}" if rng.random_bool(0.5) => self.ids.pick(rng, "event"),
                "{seq}" => rng.random_range(1..=self.head).to_string(),
                segment => {
                    assert!(!segment.contains('{'), "teach this test the path {path}");
                    segment.to_owned()
                }
            });
        }
        let mut query = Vec::new();
        for parameter in parameters.iter().filter(|parameter| parameter["in"] == "query") {
            let name = parameter["name"].as_str().unwrap();
            let is_required = parameter["required"] == true;
            let wanted = match name {
                "wait" => true,
                "limit" => rng.random_bool(0.7),
                _ => is_required || rng.random_bool(0.3),
            };
            match self.value(rng, name) {
                Some(value) if wanted => query.push(format!("{name}={value}")),
                None => assert!(!is_required, "teach this test the parameter `{name}` of {path}"),
                Some(_) => {}
            }
        }
        format!("{}?{}", segments.join("/"), query.join("&"))
    }

    fn value(&self, rng: &mut StdRng, name: &str) -> Option<String> {
        let moment = rfc3339(START_MS + 1000 * rng.random_range(0..EVENTS as i64 + 9));
        Some(match name {
            "directory_user_id" => self.ids.pick(rng, "user"),
            "user" | "group" | "directory" | "email" | "idp_id" | "organization_id" => {
                self.ids.pick(rng, name)
            }
            "as_of" | "from" | "to" | "since" | "until" | "range_start" | "range_end" => {
                percent_encoded(&moment)
            }
            "known_at" | "from_known_at" | "to_known_at" | "seq" | "size" => {
                rng.random_range(1..=self.head).to_string()
            }
            "role" => percent_encoded(&format!("of {}", rng.random_range(0..3))),
            "state" => "active".to_owned(),
            "search" => "direc".to_owned(),
            "members" | "groups" => "true".to_owned(),
            "events" => EVENT_TYPES.join(","),
            "limit" => ["1", "3", "100"].choose(rng).unwrap().to_string(),
            "wait" => "0".to_owned(),
            "kind" => {
                ["user", "group", "directory", "organization"].choose(rng).unwrap().to_string()
            }
            "text" => {
                let kinds = ["user", "group", "directory", "email", "organization_id"];
                let kind = *kinds.choose(rng).unwrap();
                self.ids.pick(rng, kind)
            }
            _ => return None,
        })
    }

    /// Asks once with a key, and checks that nothing of the other organization appears, and that
    /// its ids are answered like unknown ones.
    async fn check_call(
        &self,
        service: &Routes,
        method: &str,
        path: &str,
        url: &str,
        word: usize,
        tally: &Tally,
    ) {
        let (own, other) = (WORDS[word], WORDS[1 - word]);
        let about = format!("history {}, {method} {url} with the key of {own}", self.seed);
        let is_deletion = (method, path) == ("delete", "/directories/{id}");
        if is_deletion && !url.contains(other) {
            return;
        }
        let reply = service.ask(method, url, &key_of(word)).await;
        // Without a body these set nothing, and there is no link to remove.
        let is_link = path == "/rollcall/v1/links";
        // Nor are these directories those of an identity provider.
        let is_hosted = path.starts_with("/rollcall/v1/directories");
        if method != "get" && !is_deletion && !is_link && !is_hosted && path != WEBHOOK_PATH {
            return assert_eq!(reply.status, 403, "{about}: teach this test the call");
        }
        let unknown = url.replace(other, UNKNOWN);
        if unknown == url {
            assert_hides(&reply, other, &about);
        } else {
            let to_unknown = service.ask(method, &unknown, &key_of(word)).await;
            assert_hides(&to_unknown, other, &about);
            let [reply, to_unknown] =
                [reply.without_clock(), to_unknown.with(UNKNOWN, other).without_clock()];
            let [reply, to_unknown] = [reply, to_unknown].map(|reply| without_near(reply, other));
            return assert_eq!(reply, to_unknown, "{about}");
        }
        if reply.status == 200 && reply.body.contains(own) {
            *tally.lock().unwrap().entry(path.to_owned()).or_default() += 1;
        }
    }

    /// Checks that a key reads exactly the records of its organization.
    async fn check_entries(&self, service: &Routes, word: usize, tally: &Tally) {
        let (own, other, key) = (WORDS[word], WORDS[1 - word], key_of(word));
        for seq in 1..=self.head {
            let about = format!("history {}, record {seq} with the key of {own}", self.seed);
            let reply = service.get(&format!("/rollcall/v1/log/entries/{seq}"), &key).await;
            assert_hides(&reply, other, &about);
            if reply.status == 200 {
                *tally
                    .lock()
                    .unwrap()
                    .entry("/rollcall/v1/log/entries/{seq}".into())
                    .or_default() += 1;
                continue;
            }
            let beyond = self.head + seq;
            let unknown = service.get(&format!("/rollcall/v1/log/entries/{beyond}"), &key).await;
            let named = |number: u64, text: &str| text.replace(&number.to_string(), "N");
            assert_eq!(
                (reply.status, named(seq, &reply.body)),
                (unknown.status, named(beyond, &unknown.body)),
                "{about}"
            );
        }
        if self.teller.in_order {
            for event in &self.ids.0["event"] {
                let reply = service.get(&format!("/rollcall/v1/log/entries/{event}"), &key).await;
                let is_own = event.contains(own) && !self.teller.unusable.contains(event);
                assert_eq!(reply.status == 200, is_own, "history {}: {event}", self.seed);
            }
        }
    }

    /// Checks that no page comes back short, and that all pages are the list.
    async fn check_pages(&self, service: &Routes, word: usize) {
        let key = key_of(word);
        let types = EVENT_TYPES.join(",");
        let directory = directory_of(Some(word), 1);
        let from = rfc3339(START_MS + 1000 * (EVENTS as i64 / 2));
        for path in [
            "/directories?order=asc".to_owned(),
            format!("/directory_users?order=asc&directory={directory}"),
            format!("/directory_groups?order=asc&organization_id={}", organization(word)),
            format!("/events?events={types}"),
            "/rollcall/v1/quarantine?order=asc".to_owned(),
            "/rollcall/v1/role_assignments?".to_owned(),
            "/rollcall/v1/role_assignments?role=member".to_owned(),
            "/rollcall/v1/deprovisionings?".to_owned(),
            "/rollcall/v1/changes?wait=0".to_owned(),
            format!("/rollcall/v1/diff?from={from}"),
            format!("/rollcall/v1/groups/group_{}1/members?", WORDS[word]),
        ] {
            let about = format!("history {}, {path} with the key of {}", self.seed, WORDS[word]);
            let (whole, _) = walk(service, &format!("{path}&limit=100"), &key).await;
            let (walked, sizes) = walk(service, &format!("{path}&limit=2"), &key).await;
            // A page of changes also ends after some time.
            if !path.contains("/changes") {
                let full = sizes.iter().rev().skip(1).all(|size| *size == 2);
                assert!(full, "{about}: {sizes:?}");
            }
            assert!(walked == whole, "{about}");
        }
    }

    /// Checks that the present is what all see of the own directories.
    async fn check_filtered(&self, service: &Routes, word: usize) {
        let (own, key) = (WORDS[word], key_of(word));
        let is_own = |id: &Value| {
            let id = id.as_str().unwrap();
            id.contains(own) || id.contains("shared") && self.teller.holder == word
        };
        let all = service.list("/directories?limit=100", API_KEY).await;
        let all: Vec<Value> =
            all.into_iter().filter(|directory| is_own(&directory["id"])).collect();
        assert_eq!(service.list("/directories?limit=100", &key).await, all);
        for path in ["/directory_users?limit=100", "/directory_groups?limit=100&members=true"] {
            for directory in &self.ids.0["directory"] {
                let path = format!("{path}&directory={directory}");
                let mut all = service.list(&path, API_KEY).await;
                all.retain(|item| is_own(&item["directory_id"]));
                all.iter_mut().for_each(|item| see(item, word, &is_own));
                let about = format!("history {}: {path} for {own}", self.seed);
                assert_eq!(service.list(&path, &key).await, all, "{about}");
            }
        }
        for path in
            ["/rollcall/v1/role_assignments?limit=1000", "/rollcall/v1/deprovisionings?limit=1000"]
        {
            let mut all = service.list(path, API_KEY).await;
            all.retain(|item| is_own(&item["directory_id"]));
            // The one who moves between the two is seen only by the one where it is.
            let mover = "/rollcall/v1/users/user_mover/access";
            let is_here = service.get(mover, &key).await.status == 200;
            all.retain(|item| is_here || item["user_id"] != "user_mover");
            all.iter_mut().for_each(|item| see(item, word, &is_own));
            let mut seen = service.list(path, &key).await;
            seen.iter_mut().for_each(|item| see(item, word, &is_own));
            assert_eq!(seen, all, "history {}: {path} for {own}", self.seed);
        }
        if self.teller.in_order {
            let path = format!("/events?limit=100&events={}", EVENT_TYPES.join(","));
            let of_own = format!("{path}&organization_id={}", organization(word));
            let mut all = service.list(&of_own, API_KEY).await;
            all.retain(|event| event["id"].as_str().unwrap().contains(own));
            assert_eq!(service.list(&path, &key).await, all, "history {}: {path}", self.seed);
        }
    }
}

impl Told {
    /// Checks that the periods, changes and differences of users who never moved are those that all
    /// see, each change with the same number.
    async fn check_histories(&self, service: &Routes, word: usize) {
        let (own, key) = (WORDS[word], key_of(word));
        let is_own = |id: &Value| {
            let id = id.as_str().unwrap_or(own);
            id.contains(own) || id == "group_shared1" && self.teller.holder == word
        };
        let from = rfc3339(START_MS + 1000 * (EVENTS as i64 / 2));
        let mut paths = vec![
            "/rollcall/v1/changes?wait=0&limit=1000".to_owned(),
            format!("/rollcall/v1/diff?from={from}&limit=1000"),
        ];
        for user in self.ids.0["user"].iter().filter(|id| id.contains(own)) {
            let call = |call| format!("/rollcall/v1/users/{user}/{call}?limit=1000");
            paths.extend(["access", "roles", "groups"].map(call));
        }
        for path in paths {
            let is_diff = path.contains("diff");
            let prepare = |mut items: Vec<Value>| {
                // Where the directory that changes hands is at the other cut is another matter.
                items.retain(|item| {
                    is_own(&item["user_id"])
                        && is_own(&item["group_id"])
                        && !(is_diff && item["group_id"] == "group_shared1")
                });
                for item in &mut items {
                    see(item, word, &is_own);
                    // A deletion may name another's directory; the own one is then shown.
                    if path.contains("/changes") {
                        item["directory_id"] = Value::Null;
                    }
                }
                items
            };
            let all = prepare(walk(service, &path, API_KEY).await.0);
            let seen = prepare(walk(service, &path, &key).await.0);
            assert!(seen == all, "history {}: {path} for {own}\n{seen:?}\n{all:?}", self.seed);
        }
    }
}

/// Returns all items of a list, page by page, and the number of items of each page.
async fn walk(service: &Routes, path: &str, key: &str) -> (Vec<Value>, Vec<usize>) {
    let (mut walked, mut sizes, mut after) = (Vec::new(), Vec::new(), String::new());
    loop {
        let reply = service.get(&format!("{path}{after}"), key).await;
        assert_eq!(reply.status, 200, "{path}: {}", reply.body);
        let list = reply.json();
        let items = list["data"].as_array().unwrap();
        walked.extend(items.iter().cloned());
        sizes.push(items.len());
        let next = list["list_metadata"]["after"].as_str().map(percent_encoded);
        let next = next.map(|cursor| format!("&after={cursor}"));
        // The feed of changes always has a cursor: at its end the same again.
        match next {
            Some(next) if next != after => after = next,
            _ => return (walked, sizes),
        }
    }
}

/// Leaves out of an item what its own organization does not see, and the ids of causes.
fn see(item: &mut Value, word: usize, is_own: &impl Fn(&Value) -> bool) {
    match item {
        Value::Array(items) => {
            items.retain(|item| {
                let by_group = item.get("group_id").is_none_or(|id| id.is_null() || is_own(id));
                let by_directory = item.get("directory_id").is_none_or(is_own);
                let is_group = item.get("id").and_then(Value::as_str);
                let lost = is_group
                    .filter(|id| id.starts_with("group_") && item.get("directory_id").is_none());
                by_group && by_directory && lost.is_none_or(|id| is_own(&json!(id)))
            });
            items.iter_mut().for_each(|item| see(item, word, is_own));
        }
        Value::Object(fields) => {
            if fields.contains_key("event_id") && fields.contains_key("seq") {
                fields.insert("event_id".to_owned(), Value::Null);
            }
            for (name, value) in fields.iter_mut() {
                match name.as_str() {
                    "organization_id" => *value = json!(organization(word)),
                    // When access began again may be a matter of the other's, and so may be who the
                    // same person is.
                    "restored_at" | "succeeded_by" | "preceded_by" => *value = Value::Null,
                    _ => see(value, word, is_own),
                }
            }
        }
        _ => {}
    }
}

/// Checks that a word appears nowhere, nor in anything that is encoded.
fn assert_hides(reply: &Reply, word: &str, about: &str) {
    let mut texts: Vec<String> = reply.headers.iter().map(|(_, value)| value.clone()).collect();
    texts.push(reply.body.clone());
    let mut strings = Vec::new();
    collect_strings(&reply.json(), &mut strings);
    for text in strings.iter().flat_map(|text| text.split('.')) {
        let decoded = BASE64_STANDARD.decode(text).or_else(|_| BASE64_URL_SAFE_NO_PAD.decode(text));
        texts.extend(decoded.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()));
    }
    for text in texts {
        let Some(at) = text.find(word) else { continue };
        let around: String = text.chars().skip(at.saturating_sub(300)).take(400).collect();
        panic!("{about}: {around}");
    }
}

fn collect_strings(value: &Value, strings: &mut Vec<String>) {
    match value {
        Value::String(text) => strings.push(text.clone()),
        Value::Array(items) => items.iter().for_each(|item| collect_strings(item, strings)),
        Value::Object(fields) => fields.values().for_each(|item| collect_strings(item, strings)),
        _ => {}
    }
}
