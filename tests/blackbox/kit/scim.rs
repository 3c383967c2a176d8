//! A directory that identity providers push into: requests to it, and a consumer that folds its
//! events without knowing anything else.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::server::{API_KEY, Answer, Server, agent, ask, try_answer};

/// The types of events that SCIM causes.
const TYPES: [&str; 8] = [
    "dsync.user.created",
    "dsync.user.updated",
    "dsync.user.deleted",
    "dsync.group.created",
    "dsync.group.updated",
    "dsync.group.deleted",
    "dsync.group.user_added",
    "dsync.group.user_removed",
];

/// A directory with one token.
#[derive(Clone)]
pub struct Directory {
    pub id: String,
    pub organization: String,
    /// The address of the server.
    pub url: String,
    pub token: String,
    pub deactivation: String,
    agent: ureq::Agent,
}

/// A request that is not sent yet.
pub struct Request<'a> {
    pub method: &'a str,
    pub path: &'a str,
    pub headers: Vec<(&'a str, &'a str)>,
    pub body: Option<String>,
}

impl Directory {
    /// Has an operator create a directory in an organization of its own.
    pub fn create(server: &Server, organization: &str, deactivation: &str) -> Directory {
        let body = json!({
            "name": "Acme", "organization_id": organization, "deactivation": deactivation,
        });
        let answer = server.act("POST", "/rollcall/v1/directories", Some(&body));
        assert_eq!(answer.status, 201, "{}", String::from_utf8_lossy(&answer.body));
        let made = answer.json();
        Directory {
            id: made["id"].as_str().unwrap().to_owned(),
            organization: organization.to_owned(),
            url: server.url.clone(),
            token: made["scim"]["token"]["token"].as_str().unwrap().to_owned(),
            deactivation: deactivation.to_owned(),
            agent: agent(),
        }
    }

    /// The same directory on a server that was started again.
    pub fn on(&self, server: &Server) -> Directory {
        Directory { url: server.url.clone(), agent: agent(), ..self.clone() }
    }

    /// The address under which its resources are.
    pub fn base(&self) -> String {
        format!("{}/scim/v2/{}", self.url, self.id)
    }

    /// Sends a request; `None` if the connection broke.
    pub fn try_send(&self, request: &Request<'_>) -> Option<Answer> {
        let method = request.method.parse::<ureq::http::Method>().unwrap();
        let mut built = ureq::http::Request::builder().method(method).uri(format!(
            "{}{}",
            self.base(),
            request.path
        ));
        let own = format!("Bearer {}", self.token);
        if !request.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("authorization")) {
            built = built.header("Authorization", &own);
        }
        for (name, value) in &request.headers {
            built = built.header(*name, *value);
        }
        let sent = match &request.body {
            Some(body) => self.agent.run(built.body(body.clone()).unwrap()),
            None => self.agent.run(built.body(()).unwrap()),
        };
        try_answer(sent.ok()?).ok()
    }

    pub fn send(&self, request: &Request<'_>) -> Answer {
        let sent = self.try_send(request);
        sent.unwrap_or_else(|| panic!("{} {}: the connection broke", request.method, request.path))
    }

    /// Sends a request with more headers, and a body of SCIM if there is one.
    pub fn call_with(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Answer {
        let mut headers = headers.to_vec();
        if body.is_some() && !headers.iter().any(|(name, _)| *name == "Content-Type") {
            headers.push(("Content-Type", "application/scim+json"));
        }
        self.send(&Request { method, path, headers, body: body.map(Value::to_string) })
    }

    pub fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        self.call_with(method, path, &[], body)
    }

    pub fn get(&self, path: &str) -> Value {
        let answer = self.call("GET", path, None);
        assert_eq!(answer.status, 200, "{path}: {}", String::from_utf8_lossy(&answer.body));
        answer.json()
    }

    /// Creates a resource, and returns its id.
    pub fn post(&self, path: &str, body: &Value) -> String {
        let answer = self.call("POST", path, Some(body));
        assert_eq!(answer.status, 201, "{path}: {}", String::from_utf8_lossy(&answer.body));
        answer.json()["id"].as_str().unwrap().to_owned()
    }

    /// Creates a user of a name, and returns its id.
    pub fn user(&self, name: &str) -> String {
        self.post("/Users", &user(name))
    }

    /// Creates a group with members, and returns its id.
    pub fn group(&self, name: &str, members: &[&str]) -> String {
        let members: Vec<Value> = members.iter().map(|id| json!({ "value": id })).collect();
        let schemas = ["urn:ietf:params:scim:schemas:core:2.0:Group"];
        let body = json!({ "schemas": schemas, "displayName": name, "members": members });
        self.post("/Groups", &body)
    }

    /// Sends operations of a PATCH, expects 200, and returns the resource.
    pub fn patch(&self, path: &str, operations: Value) -> Value {
        let answer = self.call("PATCH", path, Some(&patch(operations)));
        assert_eq!(answer.status, 200, "{path}: {}", String::from_utf8_lossy(&answer.body));
        answer.json()
    }

    pub fn delete(&self, path: &str) {
        assert_eq!(self.call("DELETE", path, None).status, 204, "{path}");
    }

    /// Every resource of a list.
    pub fn all(&self, path: &str) -> Vec<Value> {
        let mut all = Vec::new();
        loop {
            let page = self.get(&format!("{path}?startIndex={}&count=100", all.len() + 1));
            let resources = page["Resources"].as_array().unwrap();
            all.extend(resources.iter().cloned());
            if all.len() >= page["totalResults"].as_u64().unwrap() as usize || resources.is_empty()
            {
                return all;
            }
        }
    }

    /// Every event that the directory's requests caused, in order.
    pub fn events(&self) -> Vec<Value> {
        let types: Vec<String> = TYPES.iter().map(|name| format!("events={name}")).collect();
        let list = format!(
            "{}/events?organization_id={}&limit=100&{}",
            self.url,
            self.organization,
            types.join("&")
        );
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let url = match &after {
                Some(after) => format!("{list}&after={after}"),
                None => list.clone(),
            };
            let answer = ask(&self.agent, "GET", &url, API_KEY, "");
            assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
            let page = answer.json();
            all.extend(page["data"].as_array().unwrap().iter().cloned());
            match page["list_metadata"]["after"].as_str() {
                Some(cursor) => after = Some(cursor.to_owned()),
                None => return all,
            }
        }
    }

    /// The types of the events after the first `seen`, without their prefix.
    pub fn event_types(&self, seen: usize) -> Vec<String> {
        let type_of = |event: &Value| event["event"].as_str().unwrap()[6..].to_owned();
        self.events().iter().skip(seen).map(type_of).collect()
    }

    /// Folds the events as a consumer would that knows nothing else, and expects the users, groups
    /// and memberships that SCIM shows.
    pub fn expect_events_to_tell_all(&self) {
        let told = Told::of(&self.events());
        let users = self.all("/Users");
        let is_shown = |user: &&Value| self.deactivation == "update" || user["active"] == true;
        let names: BTreeMap<String, String> = users
            .iter()
            .filter(is_shown)
            .map(|user| (text(&user["id"]), text(&user["userName"])))
            .collect();
        let by_scim: BTreeSet<String> = names.values().cloned().collect();
        let by_events: BTreeSet<String> = told.users.values().map(username).collect();
        assert_eq!(by_events, by_scim, "the users");
        assert_eq!(told.users.len(), names.len(), "the users");
        let groups = self.all("/Groups").into_iter().map(|group| {
            let members = group["members"].as_array().cloned().unwrap_or_default();
            let members = members.iter().filter_map(|member| names.get(&text(&member["value"])));
            (text(&group["displayName"]), members.cloned().collect())
        });
        let by_scim: BTreeMap<String, BTreeSet<String>> = groups.collect();
        assert_eq!(told.groups_with_members(), by_scim, "the groups and memberships");
    }
}

/// What a consumer knows who has folded all events.
#[derive(Default)]
struct Told {
    users: BTreeMap<String, Value>,
    groups: BTreeMap<String, Value>,
    /// Pairs of a group and a user.
    members: BTreeSet<(String, String)>,
}

impl Told {
    fn of(events: &[Value]) -> Told {
        let (mut told, mut ids, mut ended) = (Told::default(), BTreeSet::new(), BTreeSet::new());
        let mut last = String::new();
        for event in events {
            assert!(ids.insert(text(&event["id"])), "an id is used twice: {event}");
            let created_at = text(&event["created_at"]);
            assert!(created_at >= last, "time goes back: {event}");
            last = created_at;
            told.apply(event, &mut ended);
        }
        told
    }

    fn apply(&mut self, event: &Value, ended: &mut BTreeSet<String>) {
        let (name, data) = (event["event"].as_str().unwrap(), &event["data"]);
        if let "dsync.group.user_added" | "dsync.group.user_removed" = name {
            let pair = (text(&data["group"]["id"]), text(&data["user"]["id"]));
            let is_known = self.groups.contains_key(&pair.0) && self.users.contains_key(&pair.1);
            assert!(is_known, "the user or group is not alive: {event}");
            let changed = match name.ends_with("added") {
                true => self.members.insert(pair),
                false => self.members.remove(&pair),
            };
            assert!(changed, "the membership was so before: {event}");
            return;
        }
        let id = text(&data["id"]);
        let things = if name.contains(".user.") { &mut self.users } else { &mut self.groups };
        match name.rsplit('.').next().unwrap() {
            "created" => {
                assert!(!ended.contains(&id), "the id was used before: {event}");
                assert!(things.insert(id, data.clone()).is_none(), "it is there: {event}");
            }
            "updated" => {
                let before = things.get(&id).unwrap_or_else(|| panic!("not alive: {event}"));
                expect_previous(before, data);
                let mut data = data.clone();
                data.as_object_mut().unwrap().remove("previous_attributes");
                things.insert(id, data);
            }
            "deleted" => {
                assert!(things.remove(&id).is_some(), "not alive: {event}");
                self.members.retain(|(group, user)| *group != id && *user != id);
                ended.insert(id);
            }
            other => panic!("unknown type {other}"),
        }
    }

    fn groups_with_members(&self) -> BTreeMap<String, BTreeSet<String>> {
        let members = |id: &str| {
            let pairs = self.members.iter().filter(|(group, _)| group == id);
            pairs.map(|(_, user)| username(&self.users[user])).collect()
        };
        self.groups.iter().map(|(id, group)| (text(&group["name"]), members(id))).collect()
    }
}

/// Expects that `previous_attributes` of an event say what was before, and all that differs.
fn expect_previous(before: &Value, data: &Value) {
    let previous = data["previous_attributes"].as_object().unwrap();
    let (own, custom) = ("custom_attributes", |value: &Value| {
        value["custom_attributes"].as_object().cloned().unwrap_or_default()
    });
    for (key, value) in previous.iter().filter(|(key, _)| *key != own) {
        assert_eq!(before.get(key).unwrap_or(&Value::Null), value, "{key} of {data}");
        assert_ne!(data.get(key).unwrap_or(&Value::Null), value, "{key} of {data}");
    }
    let previous_custom = previous.get(own).and_then(Value::as_object).cloned().unwrap_or_default();
    let (old, new) = (custom(before), custom(data));
    for key in old.keys().chain(new.keys()) {
        if old.get(key) != new.get(key) {
            let was = old.get(key).unwrap_or(&Value::Null);
            assert_eq!(previous_custom.get(key), Some(was), "{key} of {data}");
        } else {
            assert!(!previous_custom.contains_key(key), "{key} of {data} did not change");
        }
    }
    let moments = ["updated_at", "created_at", "previous_attributes", own];
    for (key, value) in before.as_object().unwrap() {
        if data.get(key) != Some(value) && !moments.contains(&key.as_str()) {
            assert_eq!(previous.get(key), Some(value), "{key} of {data}");
        }
    }
    assert_eq!(before["created_at"], data["created_at"], "{data}");
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is not a text")).to_owned()
}

fn username(user: &Value) -> String {
    text(&user["custom_attributes"]["username"])
}

/// The body that creates a user.
pub fn user(name: &str) -> Value {
    json!({
        "schemas": ["urn:ietf:params:scim:schemas:core:2.0:User"],
        "userName": name,
        "name": { "givenName": "Ana", "familyName": "Li" },
        "emails": [{ "primary": true, "type": "work", "value": format!("{name}@acme.test") }],
        "active": true,
    })
}

/// The body of a PATCH.
pub fn patch(operations: Value) -> Value {
    json!({
        "schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"],
        "Operations": operations,
    })
}
