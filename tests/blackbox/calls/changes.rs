//! The feed of changes as a service that revokes sessions reads it: nothing missed, nothing twice,
//! and no waiting longer than needed.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::kit::server::{Server, user};

const CREATED: &str = "dsync.user.created";
const DELETED: &str = "dsync.user.deleted";

fn created(id: &str, second: u32) -> String {
    user(
        id,
        "directory_1",
        id,
        &format!("2026-01-01T00:00:{second:02}.000Z"),
        &format!("event_{id}_{second:02}"),
        CREATED,
    )
}

fn deleted(id: &str, second: u32) -> String {
    user(
        id,
        "directory_1",
        id,
        &format!("2026-01-01T00:00:{second:02}.000Z"),
        &format!("event_{id}_{second:02}"),
        DELETED,
    )
}

fn feed(server: &Server, query: &str) -> Value {
    let answer = server.get(&format!("/rollcall/v1/changes?{query}"));
    assert_eq!(answer.status, 200, "{query}: {}", answer.json());
    answer.json()
}

/// Record, change, user and moment of each item.
fn said(page: &Value) -> Vec<(u64, String, String, String)> {
    let text = |item: &Value, key: &str| item[key].as_str().unwrap().to_owned();
    let item = |item: &Value| {
        (
            item["seq"].as_u64().unwrap(),
            text(item, "change"),
            text(item, "user_id"),
            text(item, "occurred_at"),
        )
    };
    page["data"].as_array().unwrap().iter().map(item).collect()
}

fn after(page: &Value) -> String {
    page["list_metadata"]["after"].as_str().unwrap().to_owned()
}

#[test]
fn each_record_says_what_it_changed_and_a_late_one_when_that_was() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let rename = created("u", 20).replace(CREATED, "dsync.user.updated");
    for event in [created("u", 10), rename, deleted("u", 15), created("u", 40)] {
        server.deliver(&event);
    }
    let page = feed(&server, "");
    let at = |second: u32| format!("2026-01-01T00:00:{second:02}.000Z");
    let item =
        |seq: u64, change: &str, second: u32| (seq, change.to_owned(), "u".to_owned(), at(second));
    // 2 is an update that changes nothing; 3 came late: the update after it had brought the user
    // back, so that only the past is another. 4 is one more version of somebody who is there.
    assert_eq!(said(&page), [item(1, "access_granted", 10), item(3, "history_changed", 15)]);
    let late = &page["data"][1];
    assert_eq!(
        (late["cause"]["seq"].as_u64(), late["cause"]["event"].as_str()),
        (Some(3), Some(DELETED))
    );
    assert_eq!(late["recorded_at"], late["cause"]["recorded_at"]);
    server.deliver(&deleted("u", 50));
    server.deliver(&created("u", 55));
    let page = feed(&server, "after=4&wait=0");
    assert_eq!(said(&page), [item(5, "access_ended", 50), item(6, "access_restored", 55)]);
    assert_eq!(page["data"][0]["reason"], "user_deleted");
}

#[test]
fn pages_of_any_size_are_the_same_feed_also_after_a_restart_and_a_rebuild() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    for number in 0..9 {
        server.deliver(&created(&format!("u{number}"), number));
    }
    // One record that changes three things for each of nine users, and one that ends it all.
    let mapping =
        json!({ "mode": "all", "default_roles": ["a", "b", "c"], "priority": [], "rules": [] });
    assert_eq!(server.put("/rollcall/v1/role_mapping", &json!({ "mapping": mapping })).status, 200);
    assert_eq!(server.delete("/directories/directory_1").status, 202);
    let walk = |server: &Server, limit: usize| {
        let (mut items, mut cursor): (Vec<Value>, String) = (Vec::new(), "0".into());
        loop {
            let page = feed(server, &format!("wait=0&limit={limit}&after={cursor}"));
            let data = page["data"].as_array().unwrap();
            assert!(data.len() <= limit);
            if data.is_empty() && after(&page) == cursor {
                return items;
            }
            items.extend(data.iter().cloned());
            cursor = after(&page);
        }
    };
    let whole = walk(&server, 1000);
    // The directory's end takes access and the three roles.
    assert_eq!(whole.len(), 9 + 9 * 3 + 9 * 4, "{whole:#?}");
    for limit in [1, 2, 5] {
        assert_eq!(walk(&server, limit), whole, "limit {limit}");
    }
    // Any item's id is a cursor.
    for (at, item) in whole.iter().enumerate() {
        let page = feed(&server, &format!("wait=0&limit=1&after={}", item["id"].as_str().unwrap()));
        assert_eq!(page["data"].get(0), whole.get(at + 1));
    }
    assert_eq!(server.ask_with("/rollcall/v1/projections/rebuild", &json!({}), &[]).status, 202);
    while server.get("/rollcall/v1/projections/rebuild").json()["state"] == "running" {
        std::thread::yield_now();
    }
    assert_eq!(walk(&server, 7), whole);
    assert_eq!(server.stop(), 0);
    assert_eq!(walk(&Server::start(folder.path()), 7), whole);
}

#[test]
fn changes_are_numbered_within_their_record_by_user_id_and_kind() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    for (user, second) in [("u2", 1), ("u3", 2), ("u1", 3)] {
        server.deliver(&created(user, second));
    }
    let mapping =
        json!({ "mode": "all", "default_roles": ["b", "a"], "priority": [], "rules": [] });
    assert_eq!(server.put("/rollcall/v1/role_mapping", &json!({ "mapping": mapping })).status, 200);
    assert_eq!(server.delete("/directories/directory_1").status, 202);
    let page = feed(&server, "wait=0&after=3");
    let item = |item: &Value| {
        let text = |key: &str| item[key].as_str().unwrap_or("-").to_owned();
        [text("id"), text("user_id"), text("change"), text("role")].join(" ")
    };
    let said: Vec<String> = page["data"].as_array().unwrap().iter().map(item).collect();
    let mut expected = Vec::new();
    for (at, user) in ["u1", "u2", "u3"].into_iter().enumerate() {
        expected.push(format!("4.{} {user} role_gained a", 2 * at + 1));
        expected.push(format!("4.{} {user} role_gained b", 2 * at + 2));
    }
    for (at, user) in ["u1", "u2", "u3"].into_iter().enumerate() {
        expected.push(format!("5.{} {user} access_ended -", 3 * at + 1));
        expected.push(format!("5.{} {user} role_lost a", 3 * at + 2));
        expected.push(format!("5.{} {user} role_lost b", 3 * at + 3));
    }
    assert_eq!(said, expected);
}

#[test]
fn a_cursor_that_no_change_of_its_record_has_resumes_at_the_records_start() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    for number in 0..3 {
        server.deliver(&created(&format!("u{number}"), number));
    }
    assert_eq!(server.delete("/directories/directory_1").status, 202);
    server.deliver(&created("u9", 9).replace("directory_1", "directory_2"));
    let ids = |page: &Value| -> Vec<String> {
        let items = page["data"].as_array().unwrap();
        items.iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect()
    };
    for (cursor, rest) in [
        ("4.0", &["4.1", "4.2", "4.3", "5.1"][..]),
        ("4.2", &["4.3", "5.1"]),
        ("4.3", &["5.1"]),
        // Older versions wrote the number of a user, shifted, into the place.
        ("4.1048577", &["4.1", "4.2", "4.3", "5.1"]),
        ("4.29360129", &["4.1", "4.2", "4.3", "5.1"]),
        ("4.4", &["4.1", "4.2", "4.3", "5.1"]),
        ("4.18446744073709551615", &["4.1", "4.2", "4.3", "5.1"]),
        ("2.29360129", &["2.1", "3.1", "4.1", "4.2", "4.3", "5.1"]),
        ("4", &["5.1"]),
        // Counted up to the user `u0`, who has the first.
        ("4.1.1.7530", &["4.2", "4.3", "5.1"]),
        // Not those of an answer: more are counted than are dealt with.
        ("4.0.1.7530", &["4.1", "4.2", "4.3", "5.1"]),
    ] {
        for limit in [1, 2, 1000] {
            let (mut read, mut next) = (Vec::new(), cursor.to_owned());
            loop {
                let page = feed(&server, &format!("wait=0&limit={limit}&after={next}"));
                read.extend(ids(&page));
                let before = std::mem::replace(&mut next, after(&page));
                if ids(&page).is_empty() && next == before {
                    break;
                }
            }
            assert_eq!(read, rest, "after {cursor}, {limit} at a time");
        }
    }
}

#[test]
fn whoever_waits_is_told_as_soon_as_something_changes() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    server.deliver(&created("u", 10));
    let behind = after(&feed(&server, "wait=0"));
    let page = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| feed(&server, &format!("after={behind}&wait=30")));
        // The first of these changes nothing for anybody: it must not end the waiting.
        server.deliver(&created("u", 20).replace(CREATED, "dsync.user.updated"));
        server.deliver(&deleted("u", 30));
        waiting.join().unwrap()
    });
    assert_eq!(
        said(&page),
        [(3, "access_ended".into(), "u".into(), "2026-01-01T00:00:30.000Z".into())]
    );
    // Nothing comes: an empty page, and where to go on.
    let page = feed(&server, &format!("after={}&wait=1", after(&page)));
    assert_eq!((said(&page), after(&page)), (vec![], "3".into()));
}

#[test]
fn head_does_not_wait_for_changes() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let url = format!("{}/rollcall/v1/changes?wait=30", server.url);
    let began = Instant::now();
    let answer = server.send("head", &url, crate::kit::server::API_KEY, "");
    assert_eq!((answer.status, &answer.body[..]), (200, &b""[..]));
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}

#[test]
fn a_stop_does_not_wait_for_those_who_wait() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    server.deliver(&created("u", 10));
    let mut waiting = TcpStream::connect(server.url.strip_prefix("http://").unwrap()).unwrap();
    let request = format!(
        "GET /rollcall/v1/changes?after=1&wait=30 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer \
         {}\r\n\r\n",
        crate::kit::server::API_KEY
    );
    waiting.write_all(request.as_bytes()).unwrap();
    // Others are answered meanwhile, and with them time goes by in which the request must have been
    // read.
    for _ in 0..50 {
        feed(&server, "wait=0");
    }
    assert_eq!(server.stop(), 0);
    // A stop that waited in vain would have broken the connection after some seconds.
    let mut answer = String::new();
    waiting.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains(r#""data":[]"#), "{answer}");
}

#[test]
fn whoever_has_left_is_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    server.deliver(&created("u", 10));
    let is_socket = |entry: std::io::Result<std::fs::DirEntry>| {
        let target = std::fs::read_link(entry.unwrap().path()).unwrap_or_default();
        target.to_string_lossy().starts_with("socket:")
    };
    // Files come and go: the scrub opens some.
    let sockets = || {
        let opened = std::fs::read_dir(format!("/proc/{}/fd", server.pid())).unwrap();
        opened.map(is_socket).filter(|is_socket| *is_socket).count()
    };
    let before = sockets();
    let request = format!(
        "GET /rollcall/v1/changes?after=1&wait=30 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer \
         {}\r\n\r\n",
        crate::kit::server::API_KEY
    );
    let waiting: Vec<TcpStream> = (0..40)
        .map(|_| {
            let mut stream =
                TcpStream::connect(server.url.strip_prefix("http://").unwrap()).unwrap();
            stream.write_all(request.as_bytes()).unwrap();
            stream
        })
        .collect();
    while sockets() < before + 40 {
        feed(&server, "wait=0");
    }
    drop(waiting);
    // Each of them would wait for half a minute.
    let mut asked = 0;
    while sockets() >= before + 20 {
        feed(&server, "wait=0");
        asked += 1;
        assert!(asked < 5000, "{} sockets are open, and {before} were", sockets());
    }
}

#[test]
fn what_cannot_be_asked_of_the_feed_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    for (query, code) in [
        ("as_of=latest", "validation_failed"),
        ("known_at=0", "validation_failed"),
        ("before=1.1", "validation_failed"),
        ("wait=31", "validation_failed"),
        ("wait=-1", "validation_failed"),
        ("limit=0", "validation_failed"),
        ("after=x", "cursor_invalid"),
        ("after=1.x", "cursor_invalid"),
        ("after=-1", "cursor_invalid"),
        ("after=%2B0", "cursor_invalid"),
        ("after=0.1.", "cursor_invalid"),
        ("after=0.1.1.", "cursor_invalid"),
        ("after=0.1.1.xy", "cursor_invalid"),
        ("after=1", "cursor_invalid"),
        ("after=1.1", "cursor_invalid"),
        ("after=18446744073709551615", "cursor_invalid"),
    ] {
        let answer = server.get(&format!("/rollcall/v1/changes?{query}"));
        assert_eq!((answer.status, answer.code().as_str()), (422, code), "{query}");
    }
}
