//! Events arrive and operators act: before the model alone, or before the model and a server.

use std::cell::RefCell;
use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::kit::model::roles::{Act, Deletion};
use crate::kit::model::{Cut, Receipt, World, read_time, rfc3339};
use crate::kit::server::{Answer, Server, now_ms};

/// Every type of event that operators make.
const ACTS: &str = "rollcall.policy.set,rollcall.mapping.set,rollcall.directory.deleted,\
    rollcall.link.set,rollcall.link.removed";

/// Delivers to the model what the server has just taken. The moment of an event that is dated far
/// ahead is that of its record, which the server tells.
pub fn deliver_recorded(world: &mut World, server: &Server, body: &[u8], t_ms: i64) -> Receipt {
    let recorded_ms = World::is_dated_ahead(body, t_ms).then(|| {
        let listed = server.get("/rollcall/v1/quarantine?order=desc&limit=1").json();
        listed["data"][0]["recorded_at"].as_str().and_then(read_time).unwrap_or(t_ms)
    });
    world.deliver_recorded(body, t_ms, recorded_ms.unwrap_or(t_ms))
}

pub struct Stage {
    /// `None` where only the model is asked.
    pub server: Option<Server>,
    pub world: World,
    /// For each record, the times before and after it was sent.
    sent: Vec<(i64, i64)>,
    /// By seq: when the log recorded it, by the server's answers.
    recorded: RefCell<BTreeMap<u64, String>>,
    last_act: Option<String>,
    /// The time of the last act, where only the model is asked.
    clock_ms: i64,
}

impl Stage {
    pub fn new(server: Option<Server>) -> Stage {
        let clock_ms = read_time("2026-11-15T00:00:00Z").unwrap();
        Stage {
            server,
            world: World::new(),
            sent: Vec::new(),
            recorded: RefCell::default(),
            last_act: None,
            clock_ms,
        }
    }

    pub fn server(&self) -> &Server {
        self.server.as_ref().unwrap()
    }

    pub fn deliver(&mut self, body: &[u8], t_ms: i64) {
        let before = now_ms();
        if let Some(server) = &self.server {
            let answer = server.post_at(body, t_ms);
            assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(body));
        }
        let head = self.world.head();
        match &self.server {
            Some(server) => drop(deliver_recorded(&mut self.world, server, body, t_ms)),
            None => drop(self.world.deliver(body, t_ms)),
        }
        if self.world.head() > head {
            self.sent.push((before, now_ms()));
        }
    }

    fn put(&mut self, path: &str, body: Value, before: i64) -> Value {
        let answer = self.server().put(&format!("/rollcall/v1/{path}"), &body);
        assert_eq!(answer.status, 200, "{path} {body}: {}", answer.json());
        let set = answer.json();
        self.sent.push((before, now_ms()));
        assert_eq!(set["seq"], self.world.head() + 1, "{set}");
        set
    }

    /// Returns the event of the last act, as the server lists it.
    fn last_act(&mut self) -> Value {
        let after = self.last_act.as_ref().map_or(String::new(), |id| format!("&after={id}"));
        let listed = self.server().get(&format!("/events?events={ACTS}{after}")).json();
        let [act] = listed["data"].as_array().unwrap().as_slice() else {
            panic!("one act, one event: {listed}")
        };
        self.last_act = Some(act["id"].as_str().unwrap().to_owned());
        act.clone()
    }

    /// Returns an act's event, and the moment at which it takes effect.
    fn done(&mut self, set: Option<&Value>, effective_from_ms: Option<i64>) -> (Act, i64) {
        let act = match set {
            None => {
                self.clock_ms += 10;
                self.sent.push((self.clock_ms, self.clock_ms));
                Act {
                    event_id: format!("op_{:03}", self.world.head()),
                    recorded_at_ms: self.clock_ms,
                }
            }
            Some(set) => {
                let (event, moment) =
                    (self.last_act(), |value: &Value| read_time(value.as_str().unwrap()).unwrap());
                assert_eq!(event["created_at"], set["set_at"]);
                let act = Act {
                    event_id: event["id"].as_str().unwrap().to_owned(),
                    recorded_at_ms: moment(&set["set_at"]),
                };
                assert_eq!(
                    moment(&set["effective_from"]),
                    effective_from_ms.unwrap_or(act.recorded_at_ms),
                    "{set}"
                );
                act
            }
        };
        self.check_recorded(self.world.head() + 1, &rfc3339(act.recorded_at_ms));
        let effective_from_ms = effective_from_ms.unwrap_or(act.recorded_at_ms);
        (act, effective_from_ms)
    }

    pub fn set_policy(&mut self, inactive_users: &str, effective_from_ms: Option<i64>) {
        let body = json!({ "inactive_users": inactive_users,
            "effective_from": effective_from_ms.map(rfc3339), "note": null });
        let set = self.server.is_some().then(|| self.put("policy", body, now_ms()));
        let (act, from) = self.done(set.as_ref(), effective_from_ms);
        self.world.set_policy(act, inactive_users, from, Value::Null);
    }

    /// Sets a mapping. Returns the server's answer, where there is a server.
    pub fn set_mapping(
        &mut self,
        mapping: &Value,
        effective_from_ms: Option<i64>,
        note: Value,
    ) -> Option<Value> {
        let body = json!({ "mapping": mapping, "effective_from": effective_from_ms.map(rfc3339),
            "note": note });
        let set = self.server.is_some().then(|| self.put("role_mapping", body, now_ms()));
        let (act, from) = self.done(set.as_ref(), effective_from_ms);
        self.world.set_mapping(act, mapping.clone(), from, note);
        set
    }

    pub fn delete_directory(&mut self, directory: &str) {
        let path = format!("/directories/{}", crate::kit::histories::percent_encoded(directory));
        let (before, answer) = (now_ms(), self.server.as_ref().map(|server| server.delete(&path)));
        let status = answer.map_or(0, |answer| answer.status);
        let not_before = match self.world.deletion_of(directory) {
            Deletion::Unknown => {
                return assert!([0, 404].contains(&status), "{directory}: {status}");
            }
            Deletion::Done => return assert!([0, 202].contains(&status), "{directory}: {status}"),
            Deletion::NotBefore(moment) => moment,
        };
        if self.server.is_none() {
            let (act, at) = self.done(None, None);
            self.world.delete_directory(
                &act.event_id,
                directory,
                not_before.map_or(at, |moment| moment.max(at)),
            );
            return;
        }
        assert_eq!(status, 202, "{directory}");
        self.sent.push((before, now_ms()));
        let event = self.last_act();
        let at = read_time(event["created_at"].as_str().unwrap()).unwrap();
        match not_before {
            Some(moment) if moment > now_ms() + 1 => assert_eq!(at, moment, "{directory}"),
            _ => assert!(
                (before..=now_ms() + 1).contains(&at) || not_before == Some(at),
                "{directory}: {event}"
            ),
        }
        self.world.delete_directory(event["id"].as_str().unwrap(), directory, at);
    }

    /// Links a user of a directory, which nothing may ever have named.
    pub fn set_link(&mut self, app_user: &str, user: &str) {
        let body = json!({ "app_user_id": app_user, "directory_user_id": user });
        let before = now_ms();
        let answer = self.server.as_ref().map(|server| server.put("/rollcall/v1/links", &body));
        let outcome = answer.as_ref().map(|answer| answer.json()["outcome"].clone());
        if self.world.directory_to_link(user).is_none() {
            let status = answer.map_or(404, |answer| answer.status);
            return assert_eq!(status, 404, "{user}");
        }
        if self.world.is_link_set(app_user, user) {
            return assert_eq!(outcome.unwrap_or(json!("unchanged")), "unchanged", "{user}");
        }
        let act = self.link_act(answer, before);
        self.world.set_link(act, app_user, user);
    }

    /// Removes the link of a user, which may have none.
    pub fn remove_link(&mut self, user: &str) {
        let id = crate::kit::histories::percent_encoded(user);
        let path = format!("/rollcall/v1/links?directory_user_id={id}");
        let before = now_ms();
        let answer = self.server.as_ref().map(|server| server.delete(&path));
        if self.world.links(Cut::default()).iter().all(|link| link.user != user) {
            let nothing = answer.is_none_or(|answer| answer.json()["seq"].is_null());
            return assert!(nothing, "{user} has no link");
        }
        let act = self.link_act(answer, before);
        self.world.remove_link(act, user);
    }

    /// Returns an act about a link that the server has just recorded, or that nothing but the model
    /// takes.
    fn link_act(&mut self, answer: Option<Answer>, before: i64) -> Act {
        let Some(answer) = answer else { return self.done(None, None).0 };
        assert_eq!(answer.json()["seq"], self.world.head() + 1, "{}", answer.json());
        self.sent.push((before, now_ms()));
        let event = self.last_act();
        let created_at = event["created_at"].as_str().unwrap();
        self.check_recorded(self.world.head() + 1, created_at);
        Act {
            event_id: event["id"].as_str().unwrap().to_owned(),
            recorded_at_ms: read_time(created_at).unwrap(),
        }
    }

    fn check_recorded(&self, seq: u64, recorded_at: &str) {
        let (before, after) = self.sent[seq as usize - 1];
        let moment = read_time(recorded_at).unwrap();
        // A question by time may have pushed the next stamp by a millisecond.
        assert!(
            (before..=after + 1).contains(&moment),
            "record {seq} was sent from {before} to {after}, and taken at {moment}"
        );
        let mut recorded = self.recorded.borrow_mut();
        assert_eq!(
            recorded.entry(seq).or_insert_with(|| recorded_at.to_owned()),
            recorded_at,
            "record {seq}"
        );
    }

    /// Checks every `recorded_at` of a cause and removes it: the model cannot know it.
    pub fn without_recorded_at(&self, mut answer: Value) -> Value {
        self.strip(&mut answer);
        answer
    }

    fn strip(&self, value: &mut Value) {
        match value {
            Value::Object(fields) => {
                if let (true, Some(seq), Some(Value::String(at))) = (
                    fields.contains_key("event_id"),
                    fields.get("seq").and_then(Value::as_u64),
                    fields.get("recorded_at"),
                ) {
                    self.check_recorded(seq, at);
                    fields.insert("recorded_at".to_owned(), Value::Null);
                }
                fields.values_mut().for_each(|value| self.strip(value));
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.strip(item)),
            _ => {}
        }
    }
}
