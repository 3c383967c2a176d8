//! A stand-in for WorkOS: the Events API and the state API, whose clock and contents a test
//! controls. It lists by creation, as WorkOS does, and its users have no `groups`, as those of teams
//! created since May 2026.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use serde_json::{Value, json};

use super::http::{Listening, Reply, Request};
use crate::kit::server::now_ms;

/// The key that the stand-in takes.
pub const SOURCE_KEY: &str = "sk_source_secret";

const DAY_MS: i64 = 86_400_000;
const RETENTION_MS: i64 = 90 * DAY_MS;
const WINDOW_MS_MAX: i64 = 30 * DAY_MS;

/// A running stand-in.
pub struct StandIn {
    pub url: String,
    shared: Arc<Mutex<Contents>>,
    _listening: Listening,
}

/// A request that arrived, and when.
#[derive(Clone, Debug)]
pub struct Arrived {
    pub at: Instant,
    pub target: String,
}

/// An event as it is listed: the text is sent byte for byte.
#[derive(Clone, Debug)]
pub struct Listed {
    pub id: String,
    pub event: String,
    pub at_ms: i64,
    pub text: String,
}

/// All that the stand-in knows.
pub struct Contents {
    /// Added to the machine's clock.
    pub clock_offset_ms: i64,
    /// In the order in which they are listed: the oldest first.
    pub events: Vec<Listed>,
    pub directories: BTreeMap<String, Value>,
    pub users: BTreeMap<String, Value>,
    pub groups: BTreeMap<String, Value>,
    /// Pairs of a group and a user.
    pub members: BTreeSet<(String, String)>,
    /// The answer to an `after` that names no event which is kept.
    pub unknown_cursor_status: u16,
    /// The key that is taken.
    pub key: String,
    /// Directories about which the key may not ask.
    pub forbidden: BTreeSet<String>,
    /// The most items of a page, whatever `limit` says.
    pub page_max: usize,
    /// False for a source without the Events API: 404.
    pub has_events: bool,
    /// The places in lists of all that was ever listed, so that a cursor outlives its object.
    places: BTreeMap<String, (String, String)>,
    requests: Vec<Arrived>,
}

impl StandIn {
    pub fn start() -> StandIn {
        let contents = Contents {
            clock_offset_ms: 0,
            events: Vec::new(),
            directories: BTreeMap::new(),
            users: BTreeMap::new(),
            groups: BTreeMap::new(),
            members: BTreeSet::new(),
            unknown_cursor_status: 404,
            key: SOURCE_KEY.to_owned(),
            forbidden: BTreeSet::new(),
            page_max: 100,
            has_events: true,
            places: BTreeMap::new(),
            requests: Vec::new(),
        };
        let shared = Arc::new(Mutex::new(contents));
        let answering = shared.clone();
        let listening = Listening::start(move |request| {
            let mut contents = lock(&answering);
            let arrived = Arrived { at: Instant::now(), target: request.target() };
            contents.requests.push(arrived);
            contents.answer(request).unwrap_or_else(|refusal| refusal)
        });
        StandIn { url: listening.url.clone(), shared, _listening: listening }
    }

    /// The contents, to read or to change. Requests wait meanwhile.
    pub fn contents(&self) -> MutexGuard<'_, Contents> {
        lock(&self.shared)
    }

    /// The contents, for threads of a test that change them.
    pub fn shared(&self) -> Arc<Mutex<Contents>> {
        self.shared.clone()
    }

    /// The requests that arrived so far.
    pub fn requests(&self) -> Vec<Arrived> {
        self.contents().requests.clone()
    }
}

/// A test that panics while it holds the contents must not hide its own message.
fn lock(shared: &Mutex<Contents>) -> MutexGuard<'_, Contents> {
    shared.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl Contents {
    pub fn now_ms(&self) -> i64 {
        now_ms() + self.clock_offset_ms
    }

    /// Lists an event, and changes nothing else.
    pub fn list_event(&mut self, text: &str) {
        let event: Value = serde_json::from_str(text).unwrap();
        let member = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
        let at_ms = rollcall::time::parse(&member("created_at")).unwrap_or_default();
        let (id, kind) = (member("id"), member("event"));
        self.events.push(Listed { id, event: kind, at_ms, text: text.to_owned() });
    }

    /// Changes the state as an event says, and lists nothing.
    pub fn apply(&mut self, text: &str) {
        let event: Value = serde_json::from_str(text).unwrap();
        let (kind, mut data) = (event["event"].as_str().unwrap(), event["data"].clone());
        data.as_object_mut().unwrap().remove("previous_attributes");
        let id = data["id"].as_str().unwrap_or_default().to_owned();
        let pair = || {
            let of = |name: &str| data[name]["id"].as_str().unwrap_or_default().to_owned();
            (of("group"), of("user"))
        };
        match kind {
            "dsync.activated" => {
                data.as_object_mut().unwrap().remove("domains");
                data["state"] = "linked".into();
                self.put_directory(data);
            }
            "dsync.deleted" => self.remove_directory(&id),
            "dsync.user.created" | "dsync.user.updated" => self.put_user(data),
            "dsync.user.deleted" => self.remove_user(&id),
            "dsync.group.created" | "dsync.group.updated" => self.put_group(data),
            "dsync.group.deleted" => self.remove_group(&id),
            "dsync.group.user_added" => drop(self.members.insert(pair())),
            "dsync.group.user_removed" => drop(self.members.remove(&pair())),
            _ => {}
        }
    }

    /// Lists an event and changes the state as it says.
    pub fn happen(&mut self, text: &str) {
        self.list_event(text);
        self.apply(text);
    }

    pub fn put_directory(&mut self, directory: Value) {
        let id = self.placed(&directory);
        self.directories.insert(id, directory);
    }

    pub fn put_user(&mut self, user: Value) {
        let id = self.placed(&user);
        self.users.insert(id, user);
    }

    pub fn put_group(&mut self, group: Value) {
        let id = self.placed(&group);
        self.groups.insert(id, group);
    }

    pub fn remove_user(&mut self, id: &str) {
        self.users.remove(id);
        self.members.retain(|(_, user)| user != id);
    }

    pub fn remove_group(&mut self, id: &str) {
        self.groups.remove(id);
        self.members.retain(|(group, _)| group != id);
    }

    /// Removes a directory with all in it.
    pub fn remove_directory(&mut self, id: &str) {
        self.directories.remove(id);
        self.users.retain(|_, user| user["directory_id"] != id);
        self.groups.retain(|_, group| group["directory_id"] != id);
        let Contents { members, users, groups, .. } = self;
        members.retain(|(group, user)| groups.contains_key(group) && users.contains_key(user));
    }

    /// Keeps the place of an object in lists: by creation, then by id. Returns its id.
    fn placed(&mut self, object: &Value) -> String {
        let id = object["id"].as_str().unwrap().to_owned();
        let created_at = object["created_at"].as_str().unwrap_or_default().to_owned();
        self.places.entry(id.clone()).or_insert((created_at, id.clone()));
        id
    }

    fn answer(&self, request: &Request) -> Result<Reply, Reply> {
        let expected = format!("Bearer {}", self.key);
        if request.header("Authorization") != Some(&expected) {
            return Err(problem(401, &json!({ "message": "Unauthorized" })));
        }
        if request.method != "GET" {
            return Err(not_found(request));
        }
        let segments: Vec<&str> = request.path.split('/').skip(1).collect();
        match segments[..] {
            ["events"] if self.has_events => self.events(request),
            ["directories"] => self.list_directories(request),
            ["directory_users"] => self.list_users(request),
            ["directory_groups"] => self.list_groups(request),
            ["directories", id] => self.one(&self.directories, "Directory", id),
            ["directory_users", id] => self.one(&self.users, "Directory User", id),
            ["directory_groups", id] => self.one(&self.groups, "Directory Group", id),
            _ => Err(not_found(request)),
        }
    }

    fn one(&self, of: &BTreeMap<String, Value>, kind: &str, id: &str) -> Result<Reply, Reply> {
        let object = of.get(id).ok_or_else(|| {
            let message = format!("{kind} not found: '{id}'.");
            problem(
                404,
                &json!({
                    "message": message, "code": "entity_not_found", "entity_id": id,
                }),
            )
        })?;
        let directory = object["directory_id"].as_str().unwrap_or(id);
        self.allow(directory)?;
        Ok(Reply::json(200, served(object)))
    }

    fn allow(&self, directory: &str) -> Result<(), Reply> {
        if self.forbidden.contains(directory) {
            return Err(problem(403, &json!({ "message": "Forbidden" })));
        }
        Ok(())
    }

    fn list_directories(&self, request: &Request) -> Result<Reply, Reply> {
        only(request, &["organization_id", "search", "domain"])?;
        let organization = request.parameter("organization_id");
        let fits = |directory: &&Value| {
            organization.as_ref().is_none_or(|id| directory["organization_id"] == **id)
        };
        self.page(request, self.directories.values().filter(fits))
    }

    fn list_users(&self, request: &Request) -> Result<Reply, Reply> {
        only(request, &["directory", "group", "idp_id", "email"])?;
        let (directory, group) = (request.parameter("directory"), request.parameter("group"));
        if directory.is_none() && group.is_none() {
            return Err(scope_missing("group"));
        }
        let of_group = group.as_ref().and_then(|id| self.groups.get(id));
        let asked = of_group.and_then(|group| group["directory_id"].as_str());
        self.allow(directory.as_deref().or(asked).unwrap_or_default())?;
        let fits = |user: &&Value| {
            let id = user["id"].as_str().unwrap().to_owned();
            directory.as_ref().is_none_or(|directory| user["directory_id"] == **directory)
                && group.clone().is_none_or(|group| self.members.contains(&(group, id)))
        };
        self.page(request, self.users.values().filter(fits))
    }

    fn list_groups(&self, request: &Request) -> Result<Reply, Reply> {
        only(request, &["directory", "user"])?;
        let (directory, user) = (request.parameter("directory"), request.parameter("user"));
        if directory.is_none() && user.is_none() {
            return Err(scope_missing("user"));
        }
        self.allow(directory.as_deref().unwrap_or_default())?;
        let fits = |group: &&Value| {
            let id = group["id"].as_str().unwrap().to_owned();
            directory.as_ref().is_none_or(|directory| group["directory_id"] == **directory)
                && user.clone().is_none_or(|user| self.members.contains(&(id, user)))
        };
        self.page(request, self.groups.values().filter(fits))
    }

    /// A page in the order of creation, the newest first unless `order=asc`.
    fn page<'a>(
        &self,
        request: &Request,
        objects: impl Iterator<Item = &'a Value>,
    ) -> Result<Reply, Reply> {
        let limit = limit(request)?.min(self.page_max);
        let order = request.parameter("order").unwrap_or_else(|| "desc".into());
        if !["asc", "desc"].contains(&order.as_str()) {
            return Err(invalid("order", "order must be one of: asc, desc"));
        }
        let (after, before) = (request.parameter("after"), request.parameter("before"));
        if after.is_some() && before.is_some() {
            return Err(invalid("after", "Please provide either \"after\" or \"before\"."));
        }
        let mut placed: Vec<_> =
            objects.map(|object| (&self.places[id_of(object)], object)).collect();
        placed.sort_by_key(|(place, _)| *place);
        let ascends = order == "asc";
        if !ascends {
            placed.reverse();
        }
        let precedes = |one: &(String, String), other: &(String, String)| {
            if ascends { one < other } else { one > other }
        };
        let place = |id: &String| {
            self.places.get(id).ok_or_else(|| invalid("after", "the cursor is not known"))
        };
        let from = match &after {
            Some(id) => {
                let cursor = place(id)?;
                placed.iter().filter(|(at, _)| !precedes(cursor, at)).count()
            }
            None => 0,
        };
        let (from, to) = match &before {
            Some(id) => {
                let cursor = place(id)?;
                let to = placed.iter().filter(|(at, _)| precedes(at, cursor)).count();
                (to.saturating_sub(limit), to)
            }
            None => (from, (from + limit).min(placed.len())),
        };
        let page = &placed[from..to];
        let first = page.first().filter(|_| from > 0).map(|(_, object)| id_of(object));
        let last = page.last().filter(|_| to < placed.len()).map(|(_, object)| id_of(object));
        let items: Vec<String> = page.iter().map(|(_, object)| served(object)).collect();
        Ok(list(&items, first, last))
    }

    fn events(&self, request: &Request) -> Result<Reply, Reply> {
        only(request, &["events", "range_start", "range_end", "organization_id"])?;
        let limit = limit(request)?.min(self.page_max);
        let types: BTreeSet<String> = request
            .parameters()
            .into_iter()
            .filter(|(name, _)| name == "events")
            .flat_map(|(_, value)| value.split(',').map(str::to_owned).collect::<Vec<_>>())
            .filter(|name| !name.is_empty())
            .collect();
        if types.is_empty() {
            let message = "One or more event names (e.g. dsync.user.created) must be provided \
                           using the events parameter.";
            return Err(problem(
                400,
                &json!({
                    "message": message, "code": "invalid_events_request",
                }),
            ));
        }
        let (after, range) = (request.parameter("after"), range(request)?);
        let has_range = range.0.is_some() || range.1.is_some();
        if after.is_some() && has_range {
            return Err(invalid("after", "\"after\" and a range exclude each other."));
        }
        let now = self.now_ms();
        let kept = |event: &&Listed| event.at_ms >= now - RETENTION_MS;
        let (from, to) = self.window(range, now)?;
        let position = match &after {
            Some(id) => {
                let found = self.events.iter().position(|event| event.id == *id && kept(&event));
                found.map(|at| at + 1).ok_or_else(|| self.unknown_cursor(id))?
            }
            None => 0,
        };
        let in_window =
            |event: &&Listed| after.is_some() || (event.at_ms >= from && event.at_ms < to);
        let fitting: Vec<&Listed> = self.events[position..]
            .iter()
            .filter(kept)
            .filter(in_window)
            .filter(|event| types.contains(&event.event))
            .collect();
        let page = &fitting[..limit.min(fitting.len())];
        let last = page.last().filter(|_| fitting.len() > limit).map(|event| event.id.as_str());
        let items: Vec<String> = page.iter().map(|event| event.text.clone()).collect();
        Ok(list(&items, None, last))
    }

    /// The window of a range: at most 30 days; without one the last 30.
    fn window(&self, range: (Option<i64>, Option<i64>), now: i64) -> Result<(i64, i64), Reply> {
        let (from, to) = match range {
            (None, None) => (now - WINDOW_MS_MAX, i64::MAX),
            (Some(from), None) => (from, from.saturating_add(WINDOW_MS_MAX)),
            (None, Some(to)) => (to - WINDOW_MS_MAX, to),
            (Some(from), Some(to)) => (from, to),
        };
        if range.0.is_some() && to.saturating_sub(from) > WINDOW_MS_MAX {
            return Err(invalid("range_end", "the range must be at most 30 days"));
        }
        Ok((from, to))
    }

    fn unknown_cursor(&self, id: &str) -> Reply {
        let message = format!("Event not found: '{id}'.");
        problem(self.unknown_cursor_status, &json!({ "message": message }))
    }
}

fn id_of(object: &Value) -> &str {
    object["id"].as_str().unwrap()
}

/// The text of an object. Users have `groups`, which are empty.
fn served(object: &Value) -> String {
    let text = object.to_string();
    if object["object"] == "directory_user" {
        return format!("{},\"groups\":[]}}", text.strip_suffix('}').unwrap());
    }
    text
}

fn list(items: &[String], before: Option<&str>, after: Option<&str>) -> Reply {
    let metadata = json!({ "before": before, "after": after });
    let data = items.join(",");
    let body = format!("{{\"object\":\"list\",\"data\":[{data}],\"list_metadata\":{metadata}}}");
    Reply::json(200, body)
}

fn problem(status: u16, body: &Value) -> Reply {
    Reply::json(status, body.to_string())
}

fn not_found(request: &Request) -> Reply {
    problem(404, &json!({ "message": "Not Found", "path": request.path }))
}

fn invalid(field: &str, code: &str) -> Reply {
    let errors = json!([{ "field": field, "code": code }]);
    problem(422, &json!({ "message": "Validation failed", "errors": errors }))
}

fn scope_missing(other: &str) -> Reply {
    let code = format!("Please provide either \"directory\" or \"{other}\" parameters.");
    let errors = json!([{ "field": "directory", "code": code }, { "field": other, "code": code }]);
    problem(422, &json!({ "message": "Validation failed", "errors": errors }))
}

/// Refuses parameters that are not `allowed` or about paging.
fn only(request: &Request, allowed: &[&str]) -> Result<(), Reply> {
    for (name, _) in request.parameters() {
        let pages = ["limit", "order", "after", "before"].contains(&name.as_str());
        if !pages && !allowed.contains(&name.as_str()) {
            return Err(invalid(&name, "the parameter is not known"));
        }
    }
    Ok(())
}

fn limit(request: &Request) -> Result<usize, Reply> {
    let limit = request.parameter("limit").map_or(Ok(10), |text| text.parse());
    match limit {
        Ok(limit) if (1..=100).contains(&limit) => Ok(limit),
        _ => Err(invalid("limit", "limit must be from 1 to 100")),
    }
}

/// Reads the range. Moments are UTC with `Z`: offsets are refused.
fn range(request: &Request) -> Result<(Option<i64>, Option<i64>), Reply> {
    let read = |name: &str| {
        request
            .parameter(name)
            .map(|text| {
                let is_utc = text.ends_with('Z');
                let ms = rollcall::time::parse(&text).filter(|_| is_utc);
                ms.ok_or_else(|| invalid(name, "the moment must be ISO 8601 in UTC"))
            })
            .transpose()
    };
    Ok((read("range_start")?, read("range_end")?))
}
