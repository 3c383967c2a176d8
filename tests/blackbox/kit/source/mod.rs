//! Sources to pull from: a stand-in that is written from the API's documentation alone, and a proxy
//! that makes any source fail. Neither shares code with the server, so that a misreading there
//! cannot be shared here.

#![allow(dead_code, reason = "each test uses the faults that it needs")]

pub mod faulty;
pub mod http;
pub mod objects;
pub mod past;
pub mod prepared;
pub mod pulling;
pub mod reconciling;
pub mod stand_in;

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::faulty::{Fault, Faulty};
    use super::objects::{directory, event, group, membership, user};
    use super::stand_in::{SOURCE_KEY, StandIn};
    use crate::kit::server::{Answer, agent, get, now_ms};

    fn ask(url: &str, path: &str) -> Answer {
        get(&agent(), url, path, &[("Authorization", &format!("Bearer {SOURCE_KEY}"))])
    }

    fn ids(url: &str, path: &str) -> (Vec<String>, Value) {
        let answer = ask(url, path);
        assert_eq!(answer.status, 200, "{path}: {}", String::from_utf8_lossy(&answer.body));
        (answer.ids(), answer.json()["list_metadata"].clone())
    }

    /// A directory with users `b`, `a` and `c`, in the order of their creation, of which the first
    /// and the last are in a group.
    fn stand_in() -> StandIn {
        let source = StandIn::start();
        let now = now_ms();
        let mut contents = source.contents();
        let (crew, mut n) = (group("g", "d", "Crew", now), 0);
        let mut happen = |kind: &str, data: &Value| {
            n += 1;
            contents.happen(&event(&format!("event_{n}"), kind, now - 10_000 + n, data));
        };
        happen("dsync.activated", &directory("d", "Halden", now));
        happen("dsync.group.created", &crew);
        for (at, id) in ["b", "a", "c"].into_iter().enumerate() {
            happen("dsync.user.created", &user(id, "d", id, now + at as i64));
        }
        for id in ["b", "c"] {
            happen("dsync.group.user_added", &membership(&crew, &user(id, "d", id, now)));
        }
        drop(contents);
        source
    }

    #[test]
    fn the_stand_in_pages_as_the_contract_says() {
        let source = stand_in();
        let url = &*source.url;
        let (first, metadata) = ids(url, "/directory_users?directory=d&limit=2");
        assert_eq!((first, metadata["after"].as_str()), (vec!["c".into(), "a".into()], Some("a")));
        let (last, metadata) = ids(url, "/directory_users?directory=d&limit=2&after=a");
        assert_eq!((last, &metadata["after"]), (vec!["b".into()], &Value::Null));
        assert_eq!(metadata["before"], "b");
        let (before, _) = ids(url, "/directory_users?directory=d&limit=1&before=b");
        assert_eq!(before, ["a"]);
        assert_eq!(ids(url, "/directory_users?group=g&order=asc").0, ["b", "c"]);
        assert_eq!(ids(url, "/directory_groups?user=a").0, [""; 0]);
        assert_eq!(ask(url, "/directory_users/a").json()["groups"], serde_json::json!([]));
        assert_eq!(ask(url, "/directory_users").status, 422);
        assert_eq!(ask(url, "/directory_users/x").code(), "entity_not_found");
        assert_eq!(ids(url, "/directories").0, ["d"]);
    }

    #[test]
    fn the_stand_in_lists_events_as_the_contract_says() {
        let source = stand_in();
        let url = &*source.url;
        assert_eq!(ask(url, "/events").code(), "invalid_events_request");
        let users = "/events?events=dsync.user.created&limit=2&order=desc";
        let (first, metadata) = ids(url, users);
        assert_eq!(first, ["event_3", "event_4"]);
        assert_eq!(metadata["after"], "event_4");
        assert_eq!(ids(url, &format!("{users}&after=event_4")).0, ["event_5"]);
        assert_eq!(ask(url, &format!("{users}&after=event_0")).status, 404);
        let ranged = format!("{users}&range_start=2026-01-01T00:00:00Z");
        assert_eq!(ask(url, &format!("{ranged}&after=event_4")).status, 422);
        assert_eq!(ask(url, &format!("{ranged}&range_end=2026-03-01T00:00:00Z")).status, 422);
        assert_eq!(ids(url, &ranged).0, [""; 0]);
    }

    #[test]
    fn the_proxy_fails_as_often_as_it_should() {
        let source = stand_in();
        let proxy = Faulty::before(&source.url);
        proxy.fail_later("/directories", 1, 1, Fault::Status(500));
        proxy.fail("/directory_users", 1, Fault::EmptyList);
        proxy.fail("/directory_groups", 1, Fault::TooMany("7".into()));
        let statuses = [(); 3].map(|()| ask(&proxy.url, "/directories").status);
        assert_eq!(statuses, [200, 500, 200]);
        assert_eq!(ids(&proxy.url, "/directory_users?directory=d").0, [""; 0]);
        assert_eq!(ids(&proxy.url, "/directory_users?directory=d").0.len(), 3);
        let refused = ask(&proxy.url, "/directory_groups?directory=d");
        assert_eq!((refused.status, refused.header("Retry-After")), (429, Some("7")));
        assert_eq!(proxy.requests().len(), 6);
    }
}
