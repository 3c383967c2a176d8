//! A source of one large directory that answers by arithmetic, so that it costs a measurement next
//! to nothing. Its lists are in the order of creation, which is far from the order of ids.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::http::{Listening, Reply, Request};

const DIRECTORY: &str = "directory_01K4240000000000000000000";
const TIME: &str = "2026-01-05T09:00:00.000Z";

/// The things in the directory. Each group has as many users as the others.
#[derive(Clone, Copy)]
pub struct Sizes {
    pub users: usize,
    pub groups: usize,
    pub memberships: usize,
}

/// A running one.
pub struct Prepared {
    pub url: String,
    targets: Arc<Mutex<Vec<String>>>,
    _listening: Listening,
}

impl Prepared {
    /// Starts one that answers each request after `after`.
    pub fn start(sizes: Sizes, after: Duration) -> Prepared {
        let targets: Arc<Mutex<Vec<String>>> = Arc::default();
        let arrived = targets.clone();
        let listening = Listening::start(move |request| {
            let begun = Instant::now();
            arrived.lock().unwrap_or_else(PoisonError::into_inner).push(request.target());
            let reply = sizes.answer(request);
            std::thread::sleep(after.saturating_sub(begun.elapsed()));
            reply
        });
        Prepared { url: listening.url.clone(), targets, _listening: listening }
    }

    /// Takes the requests that arrived since they were taken last.
    pub fn take_targets(&self) -> Vec<String> {
        std::mem::take(&mut self.targets.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Sizes {
    fn answer(self, request: &Request) -> Reply {
        let group = request.parameter("group").map(|id| place(&id));
        let after = request.parameter("after").map(|id| place(&id));
        let next = after.map_or(0, |at| at + 1);
        match (&*request.path, group) {
            ("/directories", _) => list(0..1, 1, |_| directory()),
            ("/directory_groups", _) => list(next..self.groups, self.groups, |at| self.group(at)),
            ("/directory_users", None) => list(next..self.users, self.users, |at| self.user(at)),
            ("/directory_users", Some(group)) => {
                let count = self.memberships / self.groups;
                let first = group * count % self.users;
                let from = after.map_or(0, |at| (at + self.users - first) % self.users + 1);
                list(from..count, count, |at| self.user((first + at) % self.users))
            }
            ("/events", _) => list(0..0, 0, |_| String::new()),
            _ => Reply::json(404, "{}"),
        }
    }

    fn group(self, at: usize) -> String {
        let id = id("directory_group", at, self.groups);
        format!(
            r#"{{"object":"directory_group","id":"{id}","idp_id":"idp-{at}","directory_id":"{DIRECTORY}","organization_id":"org_1","name":"Crew {at}","raw_attributes":{{}},"created_at":"{TIME}","updated_at":"{TIME}"}}"#
        )
    }

    fn user(self, at: usize) -> String {
        let id = id("directory_user", at, self.users);
        format!(
            r#"{{"object":"directory_user","id":"{id}","directory_id":"{DIRECTORY}","organization_id":"org_1","idp_id":"idp-{at}","email":"ada.{at}@foo.example","first_name":"Ada","last_name":"Roe {at}","name":"Ada Roe {at}","emails":[],"job_title":"Pilot","username":"ada.{at}","state":"active","raw_attributes":{{}},"custom_attributes":{{"department":"Sales","division":"North"}},"created_at":"{TIME}","updated_at":"{TIME}","groups":[]}}"#
        )
    }
}

fn directory() -> String {
    format!(
        r#"{{"object":"directory","id":"{DIRECTORY}","organization_id":"org_1","external_key":"key","type":"okta scim v2.0","state":"linked","name":"Halden","created_at":"{TIME}","updated_at":"{TIME}"}}"#
    )
}

/// Returns an id that ends with the place in the list.
fn id(kind: &str, at: usize, count: usize) -> String {
    format!("{kind}_01K424{:012}{at:08}", at.wrapping_mul(7919) % count)
}

fn place(id: &str) -> usize {
    id[id.len() - 8..].parse().unwrap()
}

/// A page of up to 100 things of a list of `count`.
fn list(rest: std::ops::Range<usize>, count: usize, object: impl Fn(usize) -> String) -> Reply {
    let to = rest.end.min(rest.start + 100);
    let mut body = String::with_capacity(64 << 10);
    body.push_str(r#"{"object":"list","data":["#);
    let mut last = String::new();
    for at in rest.start..to {
        last = object(at);
        let comma = if at > rest.start { "," } else { "" };
        write!(body, "{comma}{last}").unwrap();
    }
    let after = (to < count).then(|| {
        let (_, id) = last.split_once(r#""id":""#).unwrap();
        id.split('"').next().unwrap()
    });
    let after = after.map_or("null".to_owned(), |id| format!("\"{id}\""));
    write!(body, r#"],"list_metadata":{{"before":null,"after":{after}}}}}"#).unwrap();
    Reply::json(200, body)
}
