//! A small history that is played before the naive model and before the server's routes. Every
//! question is put to both, and the answers must be equal.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use actix_web::http::Method;
use actix_web::test::TestRequest;
use rollcall::engine::{Discovery, Engine, ObservationOutcome};
use rollcall::log::{Log, MemoryLog, Outcome};
use rollcall::verify::{Observation, Observed, Origin};
use rollcall_projections::ObservedThing;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::kit::compare::cut_query;
use crate::kit::histories::{Question, percent_encoded};
use crate::kit::model::audit::{change_key, exact};
use crate::kit::model::observations::{Expected, Thing};
use crate::kit::model::roles::Act;
use crate::kit::model::{Cut, Ids, Receipt, World, read_time, rfc3339};
use crate::kit::road::{answer, engine, get, memory_log, operate, verified_at};
use crate::kit::server::holds;

pub const LATEST: Cut = Cut { as_of_ms: None, known_at: None };

/// Events happen at given seconds of one minute; their ids are e01, e02 … unless said otherwise.
pub struct Case {
    world: World,
    log: Arc<MemoryLog>,
    /// The types of all events, by which the list of events is asked for.
    types: BTreeSet<String>,
    count: u32,
}

pub fn second(second: u32) -> String {
    format!("2026-03-02T00:00:{second:02}.000Z")
}

pub fn ms(at: u32) -> i64 {
    read_time(&second(at)).expect("a time")
}

pub fn at(second: u32) -> Cut {
    Cut { as_of_ms: Some(ms(second)), known_at: None }
}

pub fn known(seq: u64) -> Cut {
    Cut { as_of_ms: None, known_at: Some(seq) }
}

/// Returns the ids of a list's items.
pub fn ids_of(body: &Value) -> Vec<String> {
    let data = body["data"].as_array().expect("a list");
    data.iter().map(|item| item["id"].as_str().expect("an id").to_owned()).collect()
}

impl Default for Case {
    fn default() -> Case {
        Case { world: World::new(), log: memory_log([]), types: BTreeSet::new(), count: 0 }
    }
}

// --- What happens ---

impl Case {
    pub fn tell(&mut self, event: &str, at: u32, data: Value) -> &mut Case {
        self.count += 1;
        let id = format!("e{:02}", self.count);
        self.tell_as(&id, event, at, data)
    }

    pub fn tell_as(&mut self, id: &str, event: &str, at: u32, data: Value) -> &mut Case {
        self.deliver(json!({ "id": id, "event": event, "created_at": second(at), "data": data }));
        self
    }

    pub fn deliver(&mut self, body: Value) -> Receipt {
        self.deliver_bytes(body.to_string().as_bytes(), ms(59))
    }

    /// Delivers a body that was signed and recorded at `t_ms`.
    pub fn deliver_bytes(&mut self, body: &[u8], t_ms: i64) -> Receipt {
        self.deliver_recorded(body, t_ms, t_ms)
    }

    /// Delivers a body that was signed at `t_ms`.
    pub fn deliver_recorded(&mut self, body: &[u8], t_ms: i64, recorded_ms: i64) -> Receipt {
        let receipt = self.world.deliver_recorded(body, t_ms, recorded_ms);
        let outcomes = self.log.append(vec![verified_at(body, t_ms)], recorded_ms).unwrap();
        let recorded = match outcomes[..] {
            [Outcome::New(seq)] => (seq, false, false),
            [Outcome::Duplicate { seq, .. }] => (seq, true, false),
            [Outcome::Conflict { seq, duplicate, .. }] => (seq, duplicate, true),
            _ => panic!("one body, one outcome"),
        };
        assert_eq!(recorded, (receipt.seq, receipt.duplicate, receipt.conflict));
        let read: Value = serde_json::from_slice(body).unwrap_or_default();
        self.types.extend(read["event"].as_str().map(str::to_owned));
        receipt
    }

    pub fn user(&mut self, event: &str, at: u32, id: &str) -> &mut Case {
        self.tell(&format!("dsync.user.{event}"), at, json!({ "id": id, "directory_id": "D" }))
    }

    pub fn group(&mut self, event: &str, at: u32, id: &str) -> &mut Case {
        self.tell(&format!("dsync.group.{event}"), at, json!({ "id": id, "directory_id": "D" }))
    }

    pub fn directory(&mut self, event: &str, at: u32) -> &mut Case {
        self.tell(&format!("dsync.{event}"), at, json!({ "id": "D" }))
    }

    pub fn member(&mut self, event: &str, at: u32) -> &mut Case {
        let data = json!({ "directory_id": "D", "user": { "id": "U" }, "group": { "id": "G" } });
        self.tell(&format!("dsync.group.user_{event}"), at, data)
    }

    /// Sets the policy from a second on, and returns the record's seq.
    pub fn policy(&mut self, inactive_users: &str, from: u32) -> u64 {
        let body = json!({
            "inactive_users": inactive_users, "effective_from": second(from), "note": null,
        });
        let act = self.act("policy", "rollcall.policy.set", &body);
        self.world.set_policy(act, inactive_users, ms(from), Value::Null)
    }

    /// Sets a mapping of `rules` from a second on, and returns the record's seq.
    pub fn mapping(&mut self, rules: Value, from: u32) -> u64 {
        let mapping = json!({ "mode": "all", "default_roles": [], "priority": [], "rules": rules });
        let body = json!({ "mapping": mapping, "effective_from": second(from), "note": null });
        let act = self.act("role_mapping", "rollcall.mapping.set", &body);
        self.world.set_mapping(act, mapping, ms(from), Value::Null)
    }

    /// Deletes a directory here, and returns when that occurred.
    pub fn delete_directory(&mut self, id: &str) -> i64 {
        let path = format!("/directories/{id}");
        let (status, _) = self.server(operate(Method::DELETE, &path, &json!({})));
        assert_eq!(status, 202, "{id}");
        let event = "rollcall.directory.deleted";
        let (_, listed) = self.server_json(get(&format!("/events?events={event}&limit=100")));
        let act = listed["data"].as_array().unwrap().last().unwrap();
        let at = read_time(act["created_at"].as_str().unwrap()).unwrap();
        self.world.delete_directory(act["id"].as_str().unwrap(), id, at);
        at
    }

    fn act(&mut self, path: &str, event: &str, body: &Value) -> Act {
        let (status, set) =
            self.server_json(operate(Method::PUT, &format!("/rollcall/v1/{path}"), body));
        assert_eq!((status, &set["seq"]), (200, &json!(self.head() + 1)), "{set}");
        let (_, listed) = self.server_json(get(&format!("/events?events={event}&limit=100")));
        let act = listed["data"].as_array().unwrap().last().unwrap();
        Act {
            event_id: act["id"].as_str().unwrap().to_owned(),
            recorded_at_ms: read_time(set["set_at"].as_str().unwrap()).unwrap(),
        }
    }
}

// --- What the source says when it is asked ---

impl Case {
    /// Tells the engine what the source said of a thing when it was asked: an object, or that the
    /// thing is not there. The model says what must become of it, and reads what was recorded.
    pub fn observe(&mut self, thing: &Thing, said: Option<Value>, asked: u32) -> Expected {
        self.observe_at(thing, said, ms(asked))
    }

    /// Does the same for any moment.
    pub fn observe_at(&mut self, thing: &Thing, said: Option<Value>, asked: i64) -> Expected {
        let object = said.as_ref().filter(|said| said.is_object());
        let updated_at = object.and_then(|said| said["updated_at"].as_str()).and_then(read_time);
        let expected = self.world.expected(thing, said.is_some(), updated_at, asked);
        let engine = engine(self.log.clone());
        let compared_with = described_by(&engine, thing);
        let observed = observed(thing, said.map(|said| said.to_string()));
        let observation = Observation { observed, observed_at: asked, run: "run_1".to_owned() };
        let discovery = Discovery { observation, compared_with };
        let found = engine.begin_to_observe(&source(), vec![discovery]).unwrap().wait().unwrap();
        engine.close();
        let (Expected::Recorded(effective), [ObservationOutcome::Recorded(seq)]) =
            (expected, &found[..])
        else {
            assert_eq!(outcome(expected), found[..], "{thing:?}");
            return expected;
        };
        let body = self.log.bodies(&[*seq]).unwrap().remove(0);
        assert_eq!(self.world.observe(&body), *seq);
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["created_at"], rfc3339(effective), "{thing:?}");
        expected
    }

    pub fn observe_user(&mut self, id: &str, said: Option<Value>, asked: u32) -> Expected {
        self.observe(&Thing::User(id.to_owned(), "D".to_owned()), said, asked)
    }

    pub fn observe_directory(&mut self, id: &str, said: Option<Value>, asked: u32) -> Expected {
        self.observe(&Thing::Directory(id.to_owned()), said, asked)
    }

    pub fn observe_member(&mut self, present: bool, asked: u32) -> Expected {
        let thing = Thing::Membership("U".to_owned(), "G".to_owned(), "D".to_owned());
        self.observe(&thing, present.then_some(Value::Bool(true)), asked)
    }

    /// Ends a comparison with the source that began at a second.
    pub fn compare(&mut self, started: u32, clean: &[&str]) -> u64 {
        self.compare_at(ms(started), clean)
    }

    /// Ends a comparison with the source that began at any moment.
    pub fn compare_at(&mut self, started: i64, clean: &[&str]) -> u64 {
        let engine = engine(self.log.clone());
        let data = json!({ "clean_directories": clean });
        let run = format!("run_{started}_{}", self.head());
        let seq = engine.end_reconciliation(&source(), &run, started, data).unwrap();
        engine.close();
        let body = self.log.bodies(&[seq]).unwrap().remove(0);
        assert_eq!(self.world.observe(&body), seq);
        seq
    }
}

/// Returns the source that is asked.
pub fn source() -> Origin {
    Origin::new("https://source.example", "sk_source")
}

/// Returns the record that describes a thing, if it is there.
pub fn described_by(engine: &Engine, thing: &Thing) -> Option<u64> {
    let thing = match thing {
        Thing::Directory(id) => ObservedThing::Directory(id),
        Thing::User(id, directory) => ObservedThing::User(id, directory),
        Thing::Group(id, directory) => ObservedThing::Group(id, directory),
        Thing::Membership(user, group, directory) => {
            ObservedThing::Membership(user, group, directory)
        }
    };
    engine.views().described_by(thing)
}

/// Returns what the source said, in the form in which the engine takes it.
pub fn observed(thing: &Thing, object: Option<String>) -> Observed {
    match thing.clone() {
        Thing::Directory(id) => Observed::Directory { id, object },
        Thing::User(id, directory) => Observed::User { id, directory, object },
        Thing::Group(id, directory) => Observed::Group { id, directory, object },
        Thing::Membership(user, group, directory) => {
            Observed::Membership { user, group, directory, present: object.is_some() }
        }
    }
}

/// Returns the engine's words for what is not recorded.
fn outcome(expected: Expected) -> [ObservationOutcome; 1] {
    [match expected {
        Expected::Recorded(_) => ObservationOutcome::Recorded(0),
        Expected::Unchanged => ObservationOutcome::Unchanged,
        Expected::NewerEvent => ObservationOutcome::NewerEvent,
        Expected::UnknownUser => ObservationOutcome::UnknownUser,
        Expected::DeletedHere => ObservationOutcome::DeletedHere,
    }]
}

// --- What is asked ---

impl Case {
    fn server(&self, request: TestRequest) -> (u16, Vec<u8>) {
        answer(engine(self.log.clone()), request)
    }

    fn server_json(&self, request: TestRequest) -> (u16, Value) {
        let (status, body) = self.server(request);
        (status, serde_json::from_slice(&body).unwrap())
    }

    pub fn world(&self) -> &World {
        &self.world
    }

    pub fn ids(&self) -> Ids {
        self.world.ids()
    }

    pub fn head(&self) -> u64 {
        self.world.head()
    }

    pub fn ask(&self, path: &str, query: &[(&str, &str)], cut: Cut) -> (u16, Value) {
        let query: Vec<_> =
            query.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
        let (status, expected) = self.world.get(path, &query, cut);
        let url = Question { path: path.to_owned(), query, cut }.url();
        let (served, found) = self.server_json(get(&url));
        // The model knows only the code of a refusal.
        let same = if status == 422 { holds(&expected, &found) } else { expected == found };
        assert!(
            served == status && same,
            "{url}\n server {served} {found}\n model  {status} {expected}"
        );
        (status, expected)
    }

    pub fn item(&self, path: &str, cut: Cut) -> Option<Value> {
        let (status, body) = self.ask(path, &[], cut);
        (status == 200).then_some(body)
    }

    pub fn has(&self, path: &str, cut: Cut) -> bool {
        self.item(path, cut).is_some()
    }

    pub fn list(&self, path: &str, query: &[(&str, &str)], cut: Cut) -> Vec<String> {
        let (status, body) = self.ask(path, query, cut);
        assert_eq!(status, 200, "{body}");
        ids_of(&body)
    }

    pub fn is_member(&self, cut: Cut) -> bool {
        let of_group = self.list("/directory_users", &[("group", "G")], cut) == ["U"];
        let of_user = self.list("/directory_groups", &[("user", "U")], cut) == ["G"];
        assert_eq!(of_group, of_user);
        of_group
    }

    /// Returns the moments of all events, and checks that the server lists the same times.
    pub fn moments(&self) -> Vec<i64> {
        let types: Vec<&str> = self.types.iter().map(String::as_str).collect();
        self.ask("/events", &[("events", &types.join(","))], LATEST);
        self.world.moments()
    }

    fn quarantine(&self) -> Vec<Value> {
        let (_, body) = self.server_json(get("/rollcall/v1/quarantine?limit=1000"));
        body["data"].as_array().unwrap().clone()
    }

    /// Returns the detail of each entry of the quarantine.
    pub fn details(&self) -> Vec<String> {
        let of = |entry: &Value| entry["detail"].as_str().unwrap().to_owned();
        self.quarantine().iter().map(of).collect()
    }

    /// Returns seq and reason of each entry of the quarantine.
    pub fn reasons(&self) -> Vec<(u64, String)> {
        let found: Vec<(u64, String)> = self
            .quarantine()
            .iter()
            .map(|item| {
                (item["seq"].as_u64().unwrap(), item["reason"].as_str().unwrap().to_owned())
            })
            .collect();
        let quarantined = self.world.quarantine().into_iter();
        let expected: Vec<_> = quarantined.map(|(seq, _, _, reason)| (seq, reason)).collect();
        assert_eq!(found, expected);
        found
    }
}

// --- The audit calls ---

impl Case {
    pub fn access_periods(&self, user: &str, cut: Cut) -> Option<Vec<Value>> {
        let expected = self.world.access_periods(user, cut);
        self.same(&format!("users/{}/access", percent_encoded(user)), &cut_query(cut), expected)
    }

    pub fn groups_over_time(&self, user: &str, cut: Cut) -> Option<Vec<Value>> {
        let expected = self.world.groups_over_time(user, cut);
        self.same(&format!("users/{}/groups", percent_encoded(user)), &cut_query(cut), expected)
    }

    pub fn members_over_time(&self, group: &str, cut: Cut) -> Option<Vec<Value>> {
        let expected = self.world.members_over_time(group, cut);
        self.same(&format!("groups/{}/members", percent_encoded(group)), &cut_query(cut), expected)
    }

    /// Returns the versions of a `user` or a `group`.
    pub fn history(&self, what: &str, id: &str, cut: Cut) -> Option<Vec<Value>> {
        let expected = self.world.history(what, id, cut);
        self.same(&format!("{what}s/{}/history", percent_encoded(id)), &cut_query(cut), expected)
    }

    pub fn deprovisionings(&self, query: &[(String, String)], cut: Cut) -> Vec<Value> {
        let asked: String =
            query.iter().map(|(key, value)| format!("&{key}={}", percent_encoded(value))).collect();
        let heard = self.world.has_heard_of_all(query, cut);
        let expected = heard.then(|| self.world.deprovisionings(query, cut));
        self.same("deprovisionings", &(cut_query(cut) + &asked), expected).unwrap_or_default()
    }

    pub fn diff(&self, from: Cut, to: Cut, directory: Option<&str>) -> Vec<Value> {
        let side = |name: &str, cut: Cut| {
            let known = cut.known_at.map(|seq| format!("&{name}_known_at={seq}"));
            let moment = cut.as_of_ms.map_or("latest".to_owned(), rfc3339);
            format!("&{name}={moment}{}", known.unwrap_or_default())
        };
        let mut query = side("from", from);
        if to != LATEST {
            query += &side("to", to);
        }
        query += &directory.map(|id| format!("&directory={id}")).unwrap_or_default();
        let heard = self.world.has_heard_of_directory(directory, [from, to]);
        let expected = heard.then(|| self.world.diff(from, to, directory));
        self.same("diff", &query, expected).unwrap_or_default()
    }

    /// Returns what a record changed.
    pub fn changes(&self, seq: u64) -> Vec<Value> {
        let (expected, mut found) = (self.world.changes(seq), self.served_changes());
        found.retain(|change| change["seq"] == seq);
        assert_eq!(found, expected, "record {seq}");
        expected
    }

    pub fn all_changes(&self) -> Vec<Value> {
        let expected = self.world.all_changes();
        assert_eq!(self.served_changes(), expected);
        expected
    }

    fn served_changes(&self) -> Vec<Value> {
        let mut changes = self.served("changes", "&wait=0").unwrap();
        for change in &mut changes {
            change.as_object_mut().unwrap().remove("id");
        }
        changes.sort_by_key(change_key);
        changes
    }

    fn same(&self, path: &str, query: &str, expected: Option<Vec<Value>>) -> Option<Vec<Value>> {
        let found = self.served(path, query);
        assert_eq!(json!(found), json!(expected), "{path} {query}");
        expected
    }

    /// Returns a list of the server as it is compared, or `None` for a 404.
    fn served(&self, path: &str, query: &str) -> Option<Vec<Value>> {
        let url = format!("/rollcall/v1/{path}?limit=1000{query}");
        let (status, body) = self.server(get(&url));
        if status == 404 {
            return None;
        }
        assert_eq!(status, 200, "{url}: {}", String::from_utf8_lossy(&body));
        let body: BTreeMap<String, Box<RawValue>> = serde_json::from_slice(&body).unwrap();
        let items: Vec<Box<RawValue>> = serde_json::from_str(body["data"].get()).unwrap();
        Some(items.iter().map(|item| comparable(item)).collect())
    }
}

/// Returns an item with the source's numbers as text, and without the times of records.
fn comparable(raw: &RawValue) -> Value {
    let mut item: Value = serde_json::from_str(raw.get()).unwrap();
    let exactly = exact(raw);
    for key in ["changed", "missed"] {
        if item.get(key).is_some() {
            item[key] = exactly[key].clone();
        }
    }
    for key in ["recorded_at", "delay_ms"] {
        if item.get(key).is_some() {
            item[key] = Value::Null;
        }
    }
    strip(&mut item);
    item
}

/// Removes `recorded_at` from every cause: the model does not know it.
fn strip(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            if fields.contains_key("event_id") && fields.contains_key("recorded_at") {
                fields.insert("recorded_at".to_owned(), Value::Null);
            }
            fields.values_mut().for_each(strip);
        }
        Value::Array(items) => items.iter_mut().for_each(strip),
        _ => {}
    }
}
