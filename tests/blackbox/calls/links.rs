//! Links of directory users to the application's own users: set, replaced, removed, and shown
//! wherever a user is looked up.

use rollcall::http::WEBHOOK_PATH;
use rollcall::keys::KeyEntry;
use serde_json::{Value, json};

use crate::kit::keyed::{Keyed, entry};
use crate::kit::model::{read_time, rfc3339};
use crate::kit::server::{API_KEY, Answer, SECRET, agent, now_ms, post, signature};

const LINKS: &str = "/rollcall/v1/links";
const START_MS: i64 = 1_767_225_600_000;

/// The moment of a second.
fn at(second: i64) -> String {
    rfc3339(START_MS + 1000 * second)
}

/// A record of an event that arrived at once.
fn event(kind: &str, second: i64, data: Value) -> (i64, String) {
    let body = json!({ "object": "event", "id": format!("e{second}"), "context": {},
        "event": format!("dsync.{kind}"), "created_at": at(second), "data": data });
    (START_MS + 1000 * second, body.to_string())
}

fn directory(id: &str, organization: &str, second: i64) -> (i64, String) {
    event("activated", second, json!({ "id": id, "name": id, "organization_id": organization }))
}

fn user(kind: &str, id: &str, directory: &str, second: i64) -> (i64, String) {
    let data = json!({ "id": id, "directory_id": directory, "email": format!("{id}@x.example"),
        "state": "active" });
    event(&format!("user.{kind}"), second, data)
}

/// Two directories of two organizations, with two users each: records 1 to 6.
fn companies() -> Vec<(i64, String)> {
    vec![
        directory("da", "a", 1),
        directory("db", "b", 2),
        user("created", "a1", "da", 3),
        user("created", "a2", "da", 4),
        user("created", "b1", "db", 5),
        user("created", "b2", "db", 6),
    ]
}

fn keys() -> [KeyEntry; 4] {
    let own = |name: &str, scopes: &[&str]| KeyEntry {
        organizations: Some(vec!["a".into()]),
        ..entry(name, scopes)
    };
    [
        entry("reader", &["read"]),
        entry("operator", &["operate"]),
        own("own_reader", &["read", "audit"]),
        own("own_operator", &["operate"]),
    ]
}

fn get(server: &Keyed, path: &str) -> Answer {
    server.ask_as(API_KEY, "get", path, None)
}

fn put(server: &Keyed, path: &str, body: &Value) -> Answer {
    server.ask_as(API_KEY, "put", path, Some(body))
}

fn pair(app_user: &str, user: &str) -> Value {
    json!({ "app_user_id": app_user, "directory_user_id": user })
}

/// Sets a link, and returns the result.
fn set(server: &Keyed, app_user: &str, user: &str) -> Value {
    let answer = put(server, LINKS, &pair(app_user, user));
    assert_eq!(answer.status, 200, "{}", answer.json());
    answer.json()
}

fn remove(server: &Keyed, user: &str) -> Answer {
    server.ask_as(API_KEY, "delete", &format!("{LINKS}?directory_user_id={user}"), None)
}

/// Returns the links of a list as `APP_USER=USER`, in its order.
fn listed(answer: &Value) -> Vec<String> {
    let link = |link: &Value| {
        let text = |field: &str| link[field].as_str().unwrap_or("none").to_owned();
        format!("{}={}", text("app_user_id"), text("directory_user_id"))
    };
    answer["data"].as_array().unwrap().iter().map(link).collect()
}

fn links(server: &Keyed, query: &str) -> Vec<String> {
    let answer = get(server, &format!("{LINKS}?{query}"));
    assert_eq!(answer.status, 200, "{query}: {}", answer.json());
    listed(&answer.json())
}

fn head(server: &Keyed) -> u64 {
    get(server, LINKS).header("rollcall-known-at").unwrap().parse().unwrap()
}

#[test]
fn a_link_takes_effect_when_it_is_recorded_and_lasts_until_its_removal() {
    let server = Keyed::start(&[], &companies());
    let result = set(&server, "1842", "a1");
    let set_at = read_time(result["set_at"].as_str().unwrap()).unwrap();
    let expected = json!({ "object": "link_result", "outcome": "set", "app_user_id": "1842",
        "directory_user_id": "a1", "directory_id": "da", "set_at": rfc3339(set_at), "seq": 7,
        "ended": [] });
    assert_eq!(result, expected);
    let removed = remove(&server, "a1").json();
    let expected = json!({ "object": "link_removed", "directory_user_id": "a1",
        "app_user_id": "1842", "seq": 8 });
    assert_eq!(removed, expected);
    let link = json!({ "object": "link", "app_user_id": "1842", "directory_user_id": "a1",
        "directory_id": "da", "set_at": rfc3339(set_at), "seq": 7 });
    for (cut, is_there) in [
        ("".to_owned(), false),
        ("&known_at=6".to_owned(), false),
        ("&known_at=7".to_owned(), true),
        ("&known_at=8".to_owned(), false),
        (format!("&as_of={}", rfc3339(set_at - 1)), false),
        (format!("&as_of={}&known_at=7", rfc3339(set_at)), true),
        (format!("&as_of={}&known_at=7", rfc3339(set_at - 1)), false),
    ] {
        for filter in ["app_user_id=1842", "directory_user_id=a1", "directory=da", "limit=10"] {
            let answer = get(&server, &format!("{LINKS}?{filter}{cut}")).json();
            let expected = if is_there { json!([link]) } else { json!([]) };
            assert_eq!(answer["data"], expected, "{filter}{cut}");
        }
    }
}

#[test]
fn a_link_ends_those_of_the_same_directory_that_contradict_it_and_no_other() {
    let server = Keyed::start(&[], &companies());
    set(&server, "ann", "a1");
    set(&server, "ann", "b1");
    set(&server, "bob", "a2");
    assert_eq!(links(&server, ""), ["ann=a1", "bob=a2", "ann=b1"]);
    // Ann is now the second user of the first directory, and nothing else changes.
    let result = set(&server, "ann", "a2");
    assert_eq!(result["ended"], json!([pair("ann", "a1"), pair("bob", "a2")]));
    assert_eq!(links(&server, ""), ["ann=a2", "ann=b1"]);
    assert_eq!(links(&server, "app_user_id=ann"), ["ann=a2", "ann=b1"]);
    assert_eq!(links(&server, "app_user_id=bob"), [""; 0]);
    assert_eq!(links(&server, "known_at=9"), ["ann=a1", "bob=a2", "ann=b1"]);
}

#[test]
fn what_is_there_already_is_not_recorded_again() {
    let server = Keyed::start(&[], &companies());
    let first = set(&server, "ann", "a1");
    let again = set(&server, "ann", "a1");
    assert_eq!(again["outcome"], "unchanged");
    assert_eq!((&again["seq"], &again["set_at"]), (&first["seq"], &first["set_at"]));
    remove(&server, "a1");
    let head = head(&server);
    let again = remove(&server, "a1");
    let nothing = json!({ "object": "link_removed", "directory_user_id": "a1",
        "app_user_id": null, "seq": null });
    assert_eq!((again.status, again.json()), (200, nothing));
    assert_eq!(self::head(&server), head);
}

#[test]
fn a_link_set_again_after_a_move_ends_the_other_one_of_the_directory() {
    let folder = tempfile::tempdir().unwrap();
    let server = crate::kit::server::Server::start(folder.path());
    for (_, body) in companies() {
        server.deliver(&body);
    }
    let set = |app_user: &str, user: &str| server.put(LINKS, &pair(app_user, user)).json();
    assert_eq!(set("ann", "a1")["directory_id"], "da");
    assert_eq!(set("ann", "b1")["directory_id"], "db");
    server.deliver(&user("updated", "a1", "db", 7).1);
    // The move itself ends no link.
    assert_eq!(listed(&server.get(LINKS).json()), ["ann=a1", "ann=b1"]);
    // Both are in the directory of B1 now: its link ends the other one, which takes a record.
    let again = |answer: &Value| {
        ["outcome", "ended", "seq", "directory_id"].map(|field| answer[field].clone())
    };
    let ended = json!([pair("ann", "a1")]);
    let dry = server.put(&format!("{LINKS}?dry_run=true"), &pair("ann", "b1")).json();
    assert_eq!(again(&dry), [json!("set"), ended.clone(), Value::Null, json!("db")]);
    assert_eq!(again(&set("ann", "b1")), [json!("set"), ended, json!(10), json!("db")]);
    // Once more it ends nothing, and is not recorded.
    assert_eq!(again(&set("ann", "b1")), [json!("unchanged"), json!([]), json!(10), json!("db")]);
    for (query, links) in [
        ("", vec!["ann=b1"]),
        ("?app_user_id=ann", vec!["ann=b1"]),
        ("?directory_user_id=a1", vec![]),
        ("?known_at=9", vec!["ann=a1", "ann=b1"]),
        ("?known_at=10", vec!["ann=b1"]),
    ] {
        assert_eq!(listed(&server.get(&format!("{LINKS}{query}")).json()), links, "{query}");
    }
    let events = server.get("/events?events=rollcall.link.set").json();
    assert_eq!(events["data"].as_array().unwrap().len(), 3);
    // A list that names both is set one after the other, so that the last one stays.
    let both = json!({ "links": [pair("ann", "a1"), pair("ann", "b1")] });
    let results = server.put(LINKS, &both).json();
    assert_eq!(results["data"][0]["ended"], json!([pair("ann", "b1")]));
    assert_eq!(results["data"][1]["ended"], json!([pair("ann", "a1")]));
    assert_eq!(listed(&server.get(LINKS).json()), ["ann=b1"]);
}

#[test]
fn a_deleted_user_keeps_its_link_and_can_be_linked() {
    let mut events = companies();
    events.push(user("deleted", "a1", "da", 7));
    let server = Keyed::start(&[], &events);
    set(&server, "ann", "a1");
    assert_eq!(links(&server, ""), ["ann=a1"]);
}

#[test]
fn a_user_is_linked_whatever_its_source_calls_it() {
    let server = Keyed::start(&[], &[user("created", "u\u{7}\u{1f600}", "d", 1)]);
    assert_eq!(set(&server, "ann", "u\u{7}\u{1f600}")["outcome"], "set");
    assert_eq!(links(&server, ""), ["ann=u\u{7}\u{1f600}"]);
}

#[test]
fn a_list_of_links_is_set_one_after_the_other() {
    let server = Keyed::start(&[], &companies());
    set(&server, "ann", "a1");
    let list = json!({ "links": [pair("ann", "a2"), pair("cat", "nowhere"), pair("ann", "a1"),
        pair("ann", "a1"), pair("bob", "b1")], "note": "by email" });
    let outcomes = ["set", "unknown_user", "set", "unchanged", "set"];
    let ended = json!([[pair("ann", "a1")], [], [pair("ann", "a2")], [], []]);
    let check = |answer: Answer, seqs: Value, when: &str| {
        let answer_json = answer.json();
        assert_eq!(answer.status, 200, "{answer_json}");
        let counts =
            ["object", "set", "unchanged", "unknown_users"].map(|field| &answer_json[field]);
        assert_eq!(counts, [&json!("link_results"), &json!(3), &json!(1), &json!(1)], "{when}");
        let field = |name: &str| -> Value {
            answer_json["data"].as_array().unwrap().iter().map(|one| one[name].clone()).collect()
        };
        assert_eq!(field("outcome"), json!(outcomes), "{when}");
        assert_eq!(field("ended"), ended, "{when}");
        assert_eq!(field("seq"), seqs, "{when}");
    };
    let nulls = json!([null, null, null, null, null]);
    check(put(&server, &format!("{LINKS}?dry_run=true"), &list), nulls, "dry run");
    assert_eq!((head(&server), links(&server, "")), (7, vec!["ann=a1".to_owned()]));
    check(put(&server, LINKS, &list), json!([8, null, 9, null, 10]), "set");
    assert_eq!(links(&server, ""), ["ann=a1", "bob=b1"]);
    let events = get(&server, "/events?events=rollcall.link.set").json();
    assert_eq!(events["data"][0]["data"]["note"], Value::Null);
    let data = json!({ "object": "link", "app_user_id": "bob", "directory_user_id": "b1",
        "directory_id": "db", "note": "by email" });
    assert_eq!(events["data"][3]["data"], data);
}

#[test]
fn as_many_links_as_a_request_takes_are_set_at_once() {
    let mut events = vec![directory("d", "a", 1)];
    events.extend((0..1001).map(|n| user("created", &format!("u{n:04}"), "d", 2 + n)));
    let server = Keyed::start(&[], &events);
    let all: Vec<Value> = (0..1001).map(|n| pair(&format!("{n}"), &format!("u{n:04}"))).collect();
    let answer = put(&server, LINKS, &json!({ "links": all }));
    assert_eq!((answer.status, answer.code()), (422, "validation_failed".into()));
    let answer = put(&server, LINKS, &json!({ "links": all[..1000] }));
    assert_eq!((answer.status, &answer.json()["set"]), (200, &json!(1000)));
    let (mut found, mut after) = (Vec::new(), String::new());
    loop {
        let page = get(&server, &format!("{LINKS}?limit=300{after}")).json();
        found.extend(listed(&page));
        match page["list_metadata"]["after"].as_str() {
            Some(cursor) => after = format!("&after={cursor}"),
            None => break,
        }
    }
    let expected: Vec<String> = (0..1000).map(|n| format!("{n}=u{n:04}")).collect();
    assert_eq!(found, expected);
    let last = links(&server, "limit=2&order=desc");
    assert_eq!(last, ["999=u0999", "998=u0998"]);
}

#[test]
fn a_body_that_is_not_one_or_a_list_of_links_is_refused() {
    let server = Keyed::start(&[], &companies());
    let long = "x".repeat(256);
    let errors = |answer: &Answer| -> Vec<(String, String)> {
        let text = |error: &Value, field: &str| error[field].as_str().unwrap_or("").to_owned();
        let json = answer.json();
        let errors = json["errors"].as_array().cloned().unwrap_or_default();
        errors.iter().map(|error| (text(error, "field"), text(error, "code"))).collect()
    };
    for (body, expected) in [
        (json!({}), vec![("app_user_id", "required"), ("directory_user_id", "required")]),
        (pair("", "a1"), vec![("app_user_id", "invalid")]),
        (pair("a\u{7}b", "a1"), vec![("app_user_id", "invalid")]),
        (pair(&long, "a1"), vec![("app_user_id", "too_long")]),
        (json!({ "app_user_id": 7, "directory_user_id": "a1" }), vec![("app_user_id", "invalid")]),
        (json!({ "links": [] }), vec![("links", "invalid")]),
        (json!({ "links": {} }), vec![("links", "invalid")]),
        (json!({ "links": [7] }), vec![("links[0]", "invalid")]),
        (
            json!({ "links": [pair("x", "a1"), pair("y", &long)] }),
            vec![("links[1].directory_user_id", "too_long")],
        ),
        (
            json!({ "links": [{ "app_user_id": "x", "directory_user_id": "a1", "note": "n" }] }),
            vec![("links[0].note", "unknown_parameter")],
        ),
        (
            json!({ "links": [pair("x", "a1")], "app_user_id": "x" }),
            vec![("app_user_id", "unknown_parameter")],
        ),
    ] {
        let answer = put(&server, LINKS, &body);
        let expected: Vec<(String, String)> =
            expected.into_iter().map(|(field, code)| (field.into(), code.into())).collect();
        assert_eq!((answer.status, errors(&answer)), (422, expected), "{body}");
    }
    for (path, status) in [
        (format!("{LINKS}?directory_user_id=nowhere"), 404),
        (format!("{LINKS}?directory=nowhere"), 404),
        (format!("{LINKS}?app_user_id=nowhere"), 200),
        (format!("{LINKS}?after=x"), 422),
        (format!("{LINKS}?user=a1"), 422),
    ] {
        assert_eq!(get(&server, &path).status, status, "{path}");
    }
    let unknown = put(&server, LINKS, &pair("x", "nowhere"));
    assert_eq!((unknown.status, unknown.code()), (404, "entity_not_found".into()));
    assert_eq!(remove(&server, "nowhere").status, 404);
    let without_user = server.ask_as(API_KEY, "delete", LINKS, None);
    assert_eq!(without_user.status, 422);
    assert_eq!(head(&server), 6);
}

#[test]
fn links_need_the_scope_of_a_reader_or_an_operator() {
    let server = Keyed::start(&keys(), &companies());
    let removal = format!("{LINKS}?directory_user_id=a1");
    let body = pair("ann", "a1");
    for (key, statuses) in [("reader", [403, 200, 403]), ("operator", [200, 403, 200])] {
        let put = server.ask(key, "put", LINKS, Some(&body)).status;
        let got = server.get(key, LINKS).status;
        let removed = server.ask(key, "delete", &removal, None).status;
        assert_eq!([put, got, removed], statuses, "{key}");
    }
    assert_eq!(server.get("reader", &format!("{LINKS}?as_of={}", at(9))).status, 403);
}

#[test]
fn a_bound_key_sees_and_sets_links_of_users_that_it_sees() {
    let server = Keyed::start(&keys(), &companies());
    set(&server, "ann", "a1");
    set(&server, "ann", "b1");
    for query in ["", "?app_user_id=ann", "?directory_user_id=a1", "?directory=da"] {
        let seen = server.get("own_reader", &format!("{LINKS}{query}"));
        assert_eq!(listed(&seen.json()), ["ann=a1"], "{query}");
    }
    for query in ["directory_user_id=b1", "directory=db"] {
        assert_eq!(server.get("own_reader", &format!("{LINKS}?{query}")).status, 404, "{query}");
    }
    let ask = |method: &str, path: &str, body: Option<&Value>| {
        server.ask("own_operator", method, path, body)
    };
    assert_eq!(ask("put", LINKS, Some(&pair("bob", "a2"))).status, 200);
    assert_eq!(ask("put", LINKS, Some(&pair("bob", "b2"))).status, 404);
    let list = json!({ "links": [pair("bob", "b2"), pair("bob", "a2")] });
    let results = ask("put", LINKS, Some(&list)).json();
    assert_eq!(results["data"][0]["outcome"], "unknown_user");
    assert_eq!(results["data"][0]["directory_id"], Value::Null);
    assert_eq!(results["data"][1]["outcome"], "unchanged");
    assert_eq!(ask("delete", &format!("{LINKS}?directory_user_id=b1"), None).status, 404);
    assert_eq!(ask("delete", &format!("{LINKS}?directory_user_id=a2"), None).status, 200);
    assert_eq!(links(&server, ""), ["ann=a1", "ann=b1"]);
    // The events belong to the directory of the user.
    let events = "/events?events=rollcall.link.set&events=rollcall.link.removed&limit=100";
    let count = |answer: Answer| answer.json()["data"].as_array().unwrap().len();
    assert_eq!(count(server.get("own_reader", events)), 3);
    assert_eq!(count(get(&server, events)), 4);
}

#[test]
fn a_link_ends_those_of_users_who_are_in_its_directory_when_it_is_set() {
    let folder = tempfile::tempdir().unwrap();
    let server = crate::kit::server::Server::start(folder.path());
    for (_, body) in companies() {
        server.deliver(&body);
    }
    let ended = |app_user: &str, user: &str| {
        let result = server.put(LINKS, &pair(app_user, user)).json();
        assert_eq!(result["outcome"], "set", "{result}");
        result["ended"].clone()
    };
    let found = |query: &str| listed(&server.get(&format!("{LINKS}?{query}")).json());
    assert_eq!(ended("ann", "a1"), json!([]));
    assert_eq!(server.deliver(&user("updated", "a1", "db", 8).1), 8);
    // A1 has left the directory of A2, and its link with it.
    assert_eq!(ended("ann", "a2"), json!([]));
    assert_eq!(found(""), ["ann=a1", "ann=a2"]);
    assert_eq!(
        (found("directory=da"), found("directory=db")),
        (vec!["ann=a2".to_owned()], vec!["ann=a1".to_owned()])
    );
    assert_eq!(found("directory=da&known_at=7"), ["ann=a1"]);
    assert_eq!(found("directory=db&known_at=7"), [""; 0]);
    let moved = server.get(&format!("{LINKS}?directory_user_id=a1")).json()["data"][0].clone();
    assert_eq!((&moved["directory_id"], &moved["seq"]), (&json!("db"), &json!(7)));
    // It is in the directory of B1 now.
    assert_eq!(ended("ann", "b1"), json!([pair("ann", "a1")]));
    assert_eq!(found(""), ["ann=a2", "ann=b1"]);
    // What is learned later ends no link, even if it happened before the link was set.
    assert_eq!(server.deliver(&user("updated", "a2", "db", 9).1), 11);
    assert_eq!(found("directory=db"), ["ann=a2", "ann=b1"]);
    assert_eq!(ended("ann", "b2"), json!([pair("ann", "a2"), pair("ann", "b1")]));
    for (known_at, links) in [(9, vec!["ann=a1", "ann=a2"]), (11, vec!["ann=a2", "ann=b1"])] {
        assert_eq!(found(&format!("app_user_id=ann&known_at={known_at}")), links, "{known_at}");
    }
    // The link that is removed is listed with the directory in which its user is.
    server.deliver(&user("updated", "b2", "da", 10).1);
    assert_eq!(server.delete(&format!("{LINKS}?directory_user_id=b2")).status, 200);
    let removed = server.get("/events?events=rollcall.link.removed").json();
    assert_eq!(removed["data"][0]["data"]["directory_id"], "da");
}

#[test]
fn a_dry_run_sees_what_a_link_before_it_in_the_list_would_do() {
    let mut events = companies();
    events.push(user("updated", "a1", "db", 7));
    let server = Keyed::start(&[], &events);
    set(&server, "ann", "a1");
    let list = json!({ "links": [pair("ann", "a2"), pair("ann", "b1"), pair("ann", "a1"),
        pair("bob", "a2")] });
    let expected = json!([[], [pair("ann", "a1")], [pair("ann", "b1")], [pair("ann", "a2")]]);
    for path in [format!("{LINKS}?dry_run=true"), LINKS.to_owned()] {
        let results = put(&server, &path, &list).json();
        let ended: Value =
            results["data"].as_array().unwrap().iter().map(|one| one["ended"].clone()).collect();
        assert_eq!(ended, expected, "{path}");
    }
    assert_eq!(links(&server, ""), ["ann=a1", "bob=a2"]);
}

#[test]
fn a_link_of_a_user_who_moved_away_is_left_alone_by_a_bound_key() {
    let server = Keyed::start(&keys(), &companies());
    set(&server, "ann", "a1");
    let moved = user("updated", "a1", "db", 7).1;
    let header = signature(SECRET, &now_ms().to_string(), moved.as_bytes());
    let url = format!("{}{WEBHOOK_PATH}", server.url);
    let headers = [("WorkOS-Signature", &*header)];
    assert_eq!(post(&agent(), &url, moved.as_bytes(), &headers).unwrap().status, 200);
    let (dry, wanted) = (format!("{LINKS}?dry_run=true"), pair("ann", "a2"));
    for path in [&*dry, LINKS] {
        let answer = server.ask("own_operator", "put", path, Some(&wanted)).json();
        assert_eq!((&answer["outcome"], &answer["ended"]), (&json!("set"), &json!([])), "{path}");
    }
    assert_eq!(listed(&server.get("own_reader", LINKS).json()), ["ann=a2"]);
    assert_eq!(links(&server, ""), ["ann=a1", "ann=a2"]);
}

#[test]
fn an_event_of_a_source_makes_no_link() {
    let mut events = companies();
    for (second, kind) in [(7, "rollcall.link.set"), (8, "rollcall.link.removed")] {
        let data = json!({ "object": "link", "app_user_id": "ann", "directory_user_id": "a1",
            "directory_id": "da" });
        let body = json!({ "id": format!("e{second}"), "event": kind, "created_at": at(second),
            "data": data });
        events.push((START_MS + 1000 * second, body.to_string()));
    }
    let server = Keyed::start(&[], &events);
    assert_eq!(links(&server, ""), [""; 0]);
    let listed = get(&server, "/rollcall/v1/quarantine").json();
    let reasons: Value =
        listed["data"].as_array().unwrap().iter().map(|entry| entry["reason"].clone()).collect();
    assert_eq!(reasons, json!(["reserved_type", "reserved_type"]));
}

#[test]
fn the_application_user_is_named_wherever_a_user_is_looked_up() {
    let mut events = companies();
    events.push(user("deleted", "a2", "da", 7));
    let server = Keyed::start(&keys(), &events);
    set(&server, "1842", "a1");
    set(&server, "1843", "a2");
    for (path, field, expected) in [
        ("/rollcall/v1/users?email=a1@x.example", "/data/0/app_user_id", json!("1842")),
        ("/rollcall/v1/users?email=b1@x.example", "/data/0/app_user_id", Value::Null),
        ("/rollcall/v1/users?email=a1@x.example&known_at=7", "/data/0/app_user_id", Value::Null),
        ("/rollcall/v1/names?kind=user&text=a1", "/data/0/app_user_id", json!("1842")),
        ("/rollcall/v1/names?kind=user&text=a1@x.example", "/data/0/app_user_id", json!("1842")),
        ("/rollcall/v1/names?kind=directory&text=da", "/data/0/app_user_id", Value::Null),
        ("/rollcall/v1/users/a1/access", "/data/0/app_user_id", json!("1842")),
        ("/rollcall/v1/users/b1/access", "/data/0/app_user_id", Value::Null),
        ("/rollcall/v1/deprovisionings?user=a2", "/data/0/app_user_id", json!("1843")),
        ("/rollcall/v1/deprovisionings?user=a2&known_at=8", "/data/0/app_user_id", Value::Null),
    ] {
        let answer = get(&server, path).json();
        assert_eq!(answer.pointer(field), Some(&expected), "{path}: {answer}");
    }
    // The shapes of the API stay as they are.
    assert_eq!(get(&server, "/directory_users/a1").json().get("app_user_id"), None);
}

#[test]
fn the_feed_names_the_application_user_of_the_time_of_the_record() {
    let folder = tempfile::tempdir().unwrap();
    let server = crate::kit::server::Server::start(folder.path());
    let deliver = |(_, body): (i64, String)| server.deliver(&body);
    for record in companies() {
        deliver(record);
    }
    assert_eq!(server.put(LINKS, &pair("1842", "a1")).status, 200);
    assert_eq!(deliver(user("deleted", "a1", "da", 7)), 8);
    assert_eq!(server.put(LINKS, &pair("1842", "a2")).status, 200);
    let feed = server.get("/rollcall/v1/changes?after=2&wait=0").json();
    let shown: Value = feed["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|change| json!([change["seq"], change["change"], change["app_user_id"]]))
        .collect();
    let expected = json!([
        [3, "access_granted", null],
        [4, "access_granted", null],
        [5, "access_granted", null],
        [6, "access_granted", null],
        [8, "access_ended", "1842"],
    ]);
    assert_eq!(shown, expected);
    let loss = server.get("/rollcall/v1/deprovisionings").json();
    assert_eq!(loss["data"][0]["app_user_id"], Value::Null, "the link has moved on");
}

#[test]
fn links_are_the_same_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let server = crate::kit::server::Server::start(folder.path());
    for (_, body) in companies() {
        server.deliver(&body);
    }
    assert_eq!(server.put(LINKS, &pair("1842", "a1")).status, 200);
    assert_eq!(server.put(LINKS, &pair("1842", "a2")).status, 200);
    assert_eq!(server.delete(&format!("{LINKS}?directory_user_id=a2")).status, 200);
    let cuts = ["", "?known_at=7", "?known_at=8"];
    let all = |server: &crate::kit::server::Server| {
        let views = server.get("/rollcall/v1/projections").json();
        (cuts.map(|cut| server.get(&format!("{LINKS}{cut}")).json()), views)
    };
    let before = all(&server);
    assert_eq!(listed(&before.0[2]), ["1842=a2"]);
    assert_eq!(server.stop(), 0);
    assert_eq!(all(&crate::kit::server::Server::start(folder.path())), before);
}
