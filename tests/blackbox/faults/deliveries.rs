//! Webhooks that go out, to receivers that work and to receivers that do not.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::full_disk::wait_until;
use crate::kit::receiver::{
    Reaction, Received, Receiver, command, config_with, endpoint, start_sending, state_of,
    wait_for_state, wait_until_delivered,
};
use crate::kit::scale::scale;
use crate::kit::server::{API_KEY, Server, mac, signal, user};

/// Kills in a run at scale 1.
const KILLS: u64 = 5;

fn event(id: &str, number: u64, kind: &str) -> String {
    let (day, hour, minute) = (1 + number / 1440, number / 60 % 24, number % 60);
    let at = format!("2026-01-{day:02}T{hour:02}:{minute:02}:00.000Z");
    user(id, "d", id, &at, &format!("event_{number}"), kind)
}

fn created(number: u64) -> String {
    event(&format!("u{number}"), number, "dsync.user.created")
}

/// Delivers creations of other users from one number to before another.
fn deliver(server: &Server, numbers: std::ops::Range<u64>) {
    for number in numbers {
        server.deliver(&created(number));
    }
}

fn error_of(state: &Value) -> &str {
    state["last_error"].as_str().unwrap_or_default()
}

#[test]
fn a_webhook_carries_the_event_and_then_its_consequences() {
    let folder = tempfile::tempdir().unwrap();
    let (app, std, few) = (Receiver::start(), Receiver::start(), Receiver::start());
    let endpoints = [
        endpoint("app", &app.address, "from = \"start\""),
        endpoint("std", &std.address, "format = \"standard\"\nfrom = 1"),
        endpoint(
            "few",
            &few.address,
            "events = [\"rollcall.access.*\"]\norganizations = [\"org_1\"]",
        ),
    ];
    let server = start_sending(folder.path(), &endpoints);
    server.deliver(&created(1));
    // Rollcall's own records never leave.
    let policy = json!({ "inactive_users": "delete" });
    assert_eq!(server.put("/rollcall/v1/policy", &policy).status, 200);
    // A duplicate, a conflict and one that cannot be used are not sent.
    server.deliver(&created(1));
    assert_eq!(server.post(created(1).replace("\"u1\"", "\"u9\"").as_bytes()).status, 200);
    server.deliver(r#"{"id":"event_odd","event":"dsync.user.created","data":{}}"#);
    let elsewhere = event("u2", 2, "dsync.user.created").replace("org_1", "org_2");
    server.deliver(&elsewhere.replace("\"d\"", "\"d2\""));
    server.deliver(&event("u1", 3, "dsync.user.deleted"));
    let head = server.head();
    for name in ["app", "std", "few"] {
        let state = wait_until_delivered(&server, name);
        let expected = (json!("ok"), json!(head), json!(0), Value::Null);
        let found = ["state", "position", "lag", "last_error"].map(|key| state[key].clone());
        assert_eq!(<[Value; 4]>::from(expected), found);
    }
    let last = head.to_string();
    let before = (head - 1).to_string();
    let sent = ["1".to_owned(), "1.1".into(), before.clone(), format!("{before}.1")];
    let sent = [&sent[..], &[last.clone(), format!("{last}.1")]].concat();
    assert_eq!((app.places(), std.places()), (sent.clone(), sent));
    assert_eq!(few.places(), ["1.1".to_owned(), format!("{last}.1")]);
    for one in app.got().iter().chain(&std.got()) {
        one.check();
    }
    let types = "dsync.user.created,dsync.user.deleted";
    let shown = server.get(&format!("/events?events={types}")).json();
    let changes = server.get("/rollcall/v1/changes").json();
    let ended = &changes["data"][2];
    assert_eq!(app.got()[4].json(), shown["data"][2]);
    assert_eq!(
        app.got()[5].json(),
        json!({
            "object": "event", "id": format!("change_{last}.1"), "event": "rollcall.access.ended",
            "data": ended, "created_at": ended["occurred_at"], "context": {},
        })
    );
    let standard = &std.got()[4];
    assert_eq!(standard.header("webhook-id"), "event_3");
    assert_eq!(
        standard.json(),
        json!({
            "type": "dsync.user.deleted", "timestamp": shown["data"][2]["created_at"],
            "data": shown["data"][2]["data"],
        })
    );
    // What each endpoint has is kept: a restart sends nothing again.
    assert_eq!(server.stop(), 0);
    let server = start_sending(folder.path(), &endpoints);
    server.deliver(&created(4));
    assert_eq!(app.wait_for(8)[6].place(), (head + 1).to_string());
    wait_until_delivered(&server, "std");
    assert_eq!((app.got().len(), std.got().len()), (8, 8));
}

#[test]
fn a_failing_receiver_gets_the_same_webhook_until_it_takes_it() {
    let folder = tempfile::tempdir().unwrap();
    let app = Receiver::start();
    let endpoints = [endpoint("app", &app.address, "events = [\"dsync.*\"]")];
    let server = start_sending(folder.path(), &endpoints);
    let reactions = [
        (Reaction::Answer(500), "status 500"),
        (Reaction::Answer(404), "status 404"),
        (Reaction::Redirect, "status 307"),
        (Reaction::Close, "connection closed"),
        (Reaction::CloseWithin, "connection closed"),
    ];
    for (number, (reaction, says)) in (1..).zip(reactions) {
        let before = app.got().len();
        let failed = state_of(&server, "app")["failures"].as_u64().unwrap();
        app.react_by(move |_| reaction);
        server.deliver(&created(number));
        let state = wait_for_state(&server, "app", |state| {
            error_of(state) == says && state["failures"].as_u64() >= Some(failed + 2)
        });
        assert_eq!((&state["state"], &state["lag"]), (&json!("retrying"), &json!(1)), "{says}");
        assert!(state["failing_since"].is_string());
        app.react_by(|_| Reaction::Answer(204));
        let state = wait_until_delivered(&server, "app");
        assert_eq!((&state["state"], &state["last_error"]), (&json!("ok"), &Value::Null));
        let got = app.got();
        assert!(got.len() >= before + 3, "{says}: it was sent again");
        let tries = &got[before..];
        let place = number.to_string();
        assert!(tries.iter().all(|one| one.place() == place && one.body == tries[0].body));
        tries.iter().for_each(Received::check);
        let apart = tries[1].at - tries[0].at;
        assert!(apart >= Duration::from_millis(50), "{says}: {apart:?}");
    }
}

#[test]
fn a_receiver_that_is_down_loses_nothing_and_delays_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let (app, other) = (Receiver::start(), Receiver::start());
    let address = app.address.clone();
    let more = "events = [\"dsync.*\"]";
    let endpoints = [endpoint("app", &address, more), endpoint("other", &other.address, more)];
    drop(app);
    let server = start_sending(folder.path(), &endpoints);
    deliver(&server, 1..20);
    assert_eq!(other.wait_for(19).len(), 19);
    let state = wait_for_state(&server, "app", |state| !error_of(state).is_empty());
    assert_eq!((error_of(&state), &state["lag"]), ("connection refused", &json!(19)));
    let app = Receiver::at(&address, |_| Reaction::Answer(200));
    // Without it the next try may be some seconds away.
    assert_eq!(command(&server, "app", "retry", None).0, 200);
    wait_until_delivered(&server, "app");
    let expected: Vec<String> = (1..20).map(|seq| seq.to_string()).collect();
    assert_eq!(app.places(), expected);
}

#[test]
fn a_receiver_that_hangs_fails_after_ten_seconds() {
    let folder = tempfile::tempdir().unwrap();
    let app = Receiver::reacting(|_| Reaction::Hang);
    let server = start_sending(folder.path(), &[endpoint("app", &app.address, "")]);
    deliver(&server, 1..2);
    let state = wait_for_state(&server, "app", |state| !error_of(state).is_empty());
    assert_eq!(error_of(&state), "timeout after 10 s");
    app.react_by(|_| Reaction::Late(200, Duration::from_millis(300)));
    wait_until_delivered(&server, "app");
    // A stop does not wait for one that hangs for longer than a moment.
    app.react_by(|_| Reaction::Hang);
    let before = app.got().len();
    deliver(&server, 2..3);
    app.wait_for(before + 1);
    let begun = Instant::now();
    assert_eq!(server.stop(), 0);
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
}

#[test]
fn a_receiver_that_is_gone_gets_nothing_until_it_is_wanted_again() {
    let folder = tempfile::tempdir().unwrap();
    let app = Receiver::reacting(|_| Reaction::Answer(410));
    let endpoints = [endpoint("app", &app.address, "events = [\"dsync.*\"]")];
    let server = start_sending(folder.path(), &endpoints);
    deliver(&server, 1..4);
    let paused = |state: &Value| state["state"] == "paused";
    let state = wait_for_state(&server, "app", paused);
    assert_eq!((error_of(&state), &state["lag"]), ("status 410", &json!(3)));
    assert_eq!(state["paused_by"], "receiver");
    app.react_by(|_| Reaction::Answer(200));
    assert_eq!(server.stop(), 0);
    let server = start_sending(folder.path(), &endpoints);
    deliver(&server, 4..5);
    assert!(paused(&state_of(&server, "app")));
    assert_eq!(app.places(), ["1"], "nothing but the one request was sent");
    let (status, state) = command(&server, "app", "retry", None);
    assert_eq!(
        (status, &state["state"] == "paused", &state["paused_by"]),
        (200, false, &Value::Null)
    );
    wait_until_delivered(&server, "app");
    assert_eq!(app.places(), ["1", "1", "2", "3", "4"]);
}

#[test]
fn a_reload_takes_endpoints_and_their_secrets() {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "before").unwrap();
    let receivers = [Receiver::start(), Receiver::start(), Receiver::start()];
    let [app, gone, fresh] = &receivers;
    let more = "events = [\"dsync.*\"]";
    let of_file = format!("secret_file = \"{}\"", secret.display());
    let changed = |receiver: &Receiver, more: &str| {
        let text = endpoint("app", &receiver.address, more);
        text.replace("secret_env = \"TEST_OUT_SECRET\"", &of_file)
    };
    let endpoints = [changed(app, more), endpoint("gone", &gone.address, more)];
    let server = start_sending(folder.path(), &endpoints);
    deliver(&server, 1..3);
    for name in ["app", "gone"] {
        wait_until_delivered(&server, name);
    }
    std::fs::write(&secret, "after").unwrap();
    let endpoints = [changed(app, more), endpoint("fresh", &fresh.address, "from = \"start\"")];
    config_with(folder.path(), &endpoints);
    signal(server.pid(), "HUP");
    let names = || -> Vec<String> {
        let all = server.get("/rollcall/v1/endpoints").json();
        let all = all["data"].as_array().unwrap().iter();
        all.map(|one| one["name"].as_str().unwrap().to_owned()).collect()
    };
    wait_until("the endpoints are read again", || names() == ["app", "fresh"]);
    deliver(&server, 3..4);
    for name in ["app", "fresh"] {
        wait_until_delivered(&server, name);
    }
    assert_eq!(gone.places(), ["1", "2"]);
    assert_eq!(app.places(), ["1", "2", "3"], "the position stays");
    assert_eq!(fresh.places(), ["1", "1.1", "2", "2.1", "3", "3.1"]);
    for (one, secret) in app.got().iter().zip(["before", "before", "after"]) {
        let (t, v1) = one.header("workos-signature").split_once(", v1=").unwrap();
        assert_eq!(v1, mac(secret, t.strip_prefix("t=").unwrap(), &one.body));
    }
}

#[test]
fn a_reload_takes_the_first_endpoint_and_the_first_after_none() {
    let folder = tempfile::tempdir().unwrap();
    let app = Receiver::start();
    let server = start_sending(folder.path(), &[]);
    let reload = |endpoints: &[String]| {
        config_with(folder.path(), endpoints);
        signal(server.pid(), "HUP");
        wait_until("the endpoints are read again", || {
            let all = server.get("/rollcall/v1/endpoints").json();
            all["data"].as_array().unwrap().len() == endpoints.len()
        });
    };
    let endpoints = [endpoint("app", &app.address, "events = [\"dsync.*\"]\nfrom = \"start\"")];
    deliver(&server, 1..2);
    for (round, expected) in [(1, &["1", "2"][..]), (2, &["1", "2", "3", "4"])] {
        reload(&endpoints);
        deliver(&server, 2 * round..2 * round + 1);
        wait_until_delivered(&server, "app");
        assert_eq!(app.places(), expected);
        reload(&[]);
        deliver(&server, 2 * round + 1..2 * round + 2);
    }
}

#[test]
fn operators_skip_and_replay_and_test() {
    let folder = tempfile::tempdir().unwrap();
    let app = Receiver::reacting(|one| match one.place() {
        "2" => Reaction::Answer(500),
        _ => Reaction::Answer(200),
    });
    let endpoints = [endpoint("app", &app.address, "events = [\"dsync.*\"]")];
    let server = start_sending(folder.path(), &endpoints);
    deliver(&server, 1..6);
    wait_for_state(&server, "app", |state| state["state"] == "retrying");
    let (status, state) = command(&server, "app", "skip", Some(&json!({ "seq": 3 })));
    assert_eq!((status, &state["last_error"]), (200, &Value::Null), "{state}");
    wait_until_delivered(&server, "app");
    let sent = |places: &[String]| -> Vec<String> {
        places.iter().filter(|place| *place != "2").cloned().collect()
    };
    assert_eq!(sent(&app.places()), ["1", "4", "5"]);
    // A position that is further stays.
    let (_, state) = command(&server, "app", "skip", Some(&json!({ "seq": 2 })));
    assert_eq!((&state["position"], &state["state"]), (&json!(5), &json!("ok")));
    let before = app.got().len();
    assert_eq!(command(&server, "app", "replay", Some(&json!({ "from": 3 }))).0, 200);
    app.wait_for(before + 3);
    wait_until_delivered(&server, "app");
    assert_eq!(app.places()[before..], ["3", "4", "5"]);
    // The log has five records, so that a replay may begin with the sixth.
    for (path, field, beyond) in [("skip", "seq", 6), ("replay", "from", 7)] {
        for number in [json!(0), json!(beyond), json!("x"), json!(1.5)] {
            let (status, _) = command(&server, "app", path, Some(&json!({ field: number })));
            assert_eq!(status, 422, "{path} {number}");
        }
    }
    assert_eq!(command(&server, "none", "retry", None).0, 404);
    let before = app.got().len();
    let (status, outcome) = command(&server, "app", "test", None);
    assert_eq!((status, &outcome["delivered"]), (200, &json!(true)));
    let test = app.got()[before].clone();
    test.check();
    assert_eq!((&test.json()["event"], test.place()), (&json!("rollcall.test"), ""));
    assert_eq!(state_of(&server, "app")["position"], 5);
    app.react_by(|_| Reaction::Answer(503));
    let (_, outcome) = command(&server, "app", "test", None);
    assert_eq!((&outcome["delivered"], &outcome["error"]), (&json!(false), &json!("status 503")));
}

#[test]
fn a_position_of_another_log_pauses_the_endpoint_until_one_is_set() {
    let folder = tempfile::tempdir().unwrap();
    let app = Receiver::start();
    let endpoints = [endpoint("app", &app.address, "events = [\"dsync.*\"]\nfrom = \"start\"")];
    let server = start_sending(folder.path(), &endpoints);
    deliver(&server, 1..4);
    wait_until_delivered(&server, "app");
    assert_eq!(server.stop(), 0);
    // The position stays, and another log is in its place.
    let data = folder.path().join("data");
    let kept = folder.path().join("kept");
    std::fs::rename(data.join("deliveries"), &kept).unwrap();
    std::fs::remove_dir_all(&data).unwrap();
    std::fs::create_dir(&data).unwrap();
    std::fs::rename(&kept, data.join("deliveries")).unwrap();
    let server = start_sending(folder.path(), &endpoints);
    deliver(&server, 1..6);
    let state = state_of(&server, "app");
    assert_eq!((&state["state"], &state["position"]), (&json!("paused"), &json!(3)));
    assert_eq!(state["paused_by"], "position");
    assert!(error_of(&state).contains("another log"), "{state}");
    let (status, problem) = command(&server, "app", "retry", None);
    assert_eq!((status, &problem["code"]), (409, &json!("position_mismatch")));
    assert_eq!(command(&server, "app", "replay", Some(&json!({ "from": 4 }))).0, 200);
    wait_until_delivered(&server, "app");
    assert_eq!(app.places(), ["1", "2", "3", "4", "5"]);
    assert_eq!(server.stop(), 0);
    // A file that is damaged is no position either.
    std::fs::write(data.join("deliveries/app"), "nonsense\n").unwrap();
    let server = start_sending(folder.path(), &endpoints);
    let state = state_of(&server, "app");
    assert_eq!(state["state"], "paused");
    assert!(error_of(&state).contains("damaged"), "{state}");
    assert_eq!(command(&server, "app", "skip", Some(&json!({ "seq": 5 }))).0, 200);
    deliver(&server, 6..7);
    wait_until_delivered(&server, "app");
    assert_eq!(app.places().last().unwrap(), "6");
}

/// Exchanges the data folder for `other`, and keeps the positions.
fn exchange(folder: &Path, other: &Path) {
    let (data, kept) = (folder.join("data"), folder.join("kept"));
    std::fs::rename(data.join("deliveries"), &kept).unwrap();
    std::fs::remove_dir_all(&data).unwrap();
    std::fs::rename(other, &data).unwrap();
    std::fs::remove_dir_all(data.join("deliveries")).unwrap();
    std::fs::rename(&kept, data.join("deliveries")).unwrap();
}

fn group(number: u64) -> String {
    let at = format!("2026-02-01T00:{number:02}:00.000Z");
    json!({
        "object": "event", "id": format!("event_g{number}"), "event": "dsync.group.created",
        "created_at": at, "context": {},
        "data": {
            "object": "directory_group", "id": format!("g{number}"), "directory_id": "d",
            "organization_id": "org_1", "idp_id": format!("g{number}"), "name": "group",
            "raw_attributes": {}, "created_at": at, "updated_at": at,
        },
    })
    .to_string()
}

#[test]
fn an_earlier_copy_of_the_log_pauses_also_what_is_far_behind_or_ahead() {
    let folder = tempfile::tempdir().unwrap();
    // One waits with record 9, the only one that it gets after the first. The other waits with
    // record 5, and has got those behind it.
    let few = Receiver::reacting(|one| Reaction::Answer(if one.seq() == 9 { 500 } else { 200 }));
    let many = Receiver::reacting(|one| Reaction::Answer(if one.seq() == 5 { 500 } else { 200 }));
    let endpoints = [
        endpoint("few", &few.address, "events = [\"dsync.group.created\"]"),
        endpoint("many", &many.address, "events = [\"dsync.*\"]\nordered = false"),
    ];
    let server = start_sending(folder.path(), &endpoints);
    server.deliver(&group(1));
    deliver(&server, 2..5);
    for name in ["few", "many"] {
        wait_until_delivered(&server, name);
    }
    assert_eq!(server.stop(), 0);
    let (data, copy) = (folder.path().join("data"), folder.path().join("copy"));
    super::kills::copy(&data, &copy);
    let server = start_sending(folder.path(), &endpoints);
    deliver(&server, 5..9);
    server.deliver(&group(9));
    let fails_at = |position: u64| {
        move |state: &Value| state["state"] == "retrying" && state["position"] == position
    };
    wait_for_state(&server, "few", fails_at(8));
    wait_for_state(&server, "many", |state| fails_at(4)(state) && state["delivered"] == 4);
    assert_eq!(server.stop(), 0);
    exchange(folder.path(), &copy);
    let before = [few.got().len(), many.got().len()];
    few.react_by(|_| Reaction::Answer(200));
    many.react_by(|_| Reaction::Answer(200));
    let server = start_sending(folder.path(), &endpoints);
    for name in ["few", "many"] {
        let state = state_of(&server, name);
        assert_eq!((&state["state"], &state["position"]), (&json!("paused"), &json!(4)), "{state}");
        assert!(error_of(&state).contains("the log ends with record 4"), "{state}");
    }
    // The log goes on in another way: its records are as many, but not the same.
    deliver(&server, 15..19);
    server.deliver(&group(19));
    assert_eq!(server.stop(), 0);
    let server = start_sending(folder.path(), &endpoints);
    for name in ["few", "many"] {
        let state = state_of(&server, name);
        assert_eq!(state["state"], "paused", "{state}");
        assert!(error_of(&state).contains("another record 9"), "{state}");
        assert_eq!(command(&server, name, "replay", Some(&json!({ "from": 5 }))).0, 200);
        wait_until_delivered(&server, name);
    }
    assert_eq!(few.places()[before[0]..], ["9"]);
    let mut places = many.places()[before[1]..].to_vec();
    places.sort();
    assert_eq!(places, ["5", "6", "7", "8", "9"]);
}

/// Checks that each user's webhooks came first in the order of the log.
fn check_order_of_users(got: &[Received]) {
    let mut last: BTreeMap<String, u64> = BTreeMap::new();
    let mut seen = std::collections::BTreeSet::new();
    for one in got.iter().filter(|one| seen.insert(one.place().to_owned())) {
        let id = one.json()["data"]["id"].as_str().unwrap().to_owned();
        let before = last.insert(id.clone(), one.seq()).unwrap_or_default();
        assert!(before < one.seq(), "{id}: {before} before {}", one.seq());
    }
}

#[test]
fn an_unordered_endpoint_keeps_the_order_of_each_user() {
    let folder = tempfile::tempdir().unwrap();
    // The first user's webhooks fail for a while, and others are answered at different speeds.
    let app = Receiver::reacting(|one| {
        let id = one.json()["data"]["id"].as_str().unwrap().to_owned();
        match id.as_str() {
            "u0" => Reaction::Answer(500),
            _ => Reaction::Late(200, Duration::from_millis(one.seq() * 7 % 5)),
        }
    });
    let more = "events = [\"dsync.*\"]\nordered = false\nmax_in_flight = 8";
    let endpoints = [endpoint("app", &app.address, more)];
    let server = start_sending(folder.path(), &endpoints);
    for number in 0..80 {
        let kind = if number < 8 { "dsync.user.created" } else { "dsync.user.updated" };
        server.deliver(&event(&format!("u{}", number % 8), number, kind));
    }
    // All others are delivered, while the first one's first webhook keeps the position.
    let of_others = |got: &[Received]| got.iter().filter(|one| one.seq() % 8 != 1).count();
    app.wait_until("those of others", |got| of_others(got) >= 70);
    let state = wait_for_state(&server, "app", |state| state["delivered"] == 70);
    assert_eq!((&state["position"], &state["state"]), (&json!(0), &json!("retrying")));
    // A kill sends only what was in flight again.
    signal(server.pid(), "KILL");
    drop(server);
    let before = app.got().len();
    app.react_by(|_| Reaction::Answer(200));
    let server = start_sending(folder.path(), &endpoints);
    wait_until_delivered(&server, "app");
    let got = app.got();
    let mut again: Vec<u64> = got[before..].iter().map(Received::seq).collect();
    // The last request before the kill may have come a moment later.
    again.dedup();
    assert_eq!(again, (0..10).map(|round| round * 8 + 1).collect::<Vec<u64>>());
    let delivered: Vec<Received> =
        got[..before].iter().filter(|one| one.seq() % 8 != 1).cloned().collect();
    check_order_of_users(&[&delivered[..], &got[before..]].concat());
}

#[test]
fn a_failing_user_with_many_webhooks_holds_up_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let is_of_first = |one: &Received| one.json()["data"]["id"] == "u0";
    let app = Receiver::reacting(move |one| match is_of_first(one) {
        true => Reaction::Answer(500),
        false => Reaction::Answer(200),
    });
    let more = "events = [\"dsync.*\"]\nordered = false\nmax_in_flight = 4";
    let endpoints = [endpoint("app", &app.address, more)];
    let server = start_sending(folder.path(), &endpoints);
    // More of the first user than are ever read ahead, and then one of each other.
    let (of_first, all) = (700, 740);
    let lines: Vec<String> = (0..all)
        .map(|number| match number {
            0 => event("u0", 0, "dsync.user.created"),
            1..700 => event("u0", number, "dsync.user.updated"),
            _ => created(number),
        })
        .collect();
    for some in lines.chunks(370) {
        let url = format!("{}/rollcall/v1/import", server.url);
        assert_eq!(server.send("post", &url, API_KEY, &some.join("\n")).status, 200);
    }
    let others = |got: &[Received]| got.iter().filter(|one| !is_of_first(one)).count() as u64;
    app.wait_until("those of others", |got| others(got) == all - of_first);
    let state = wait_for_state(&server, "app", |state| state["delivered"] == all - of_first);
    assert_eq!((&state["position"], &state["state"]), (&json!(0), &json!("retrying")));
    // The others could only be read once the first user had been parked.
    assert_eq!(state["parked"], json!(1));
    signal(server.pid(), "KILL");
    drop(server);
    let before = app.got().len();
    app.react_by(|_| Reaction::Answer(200));
    let server = start_sending(folder.path(), &endpoints);
    wait_until_delivered(&server, "app");
    assert_eq!(state_of(&server, "app")["parked"], json!(0));
    let mut again: Vec<u64> = app.got()[before..].iter().map(Received::seq).collect();
    // The last request before the kill may have come a moment later.
    again.dedup();
    assert_eq!(again, (1..=of_first).collect::<Vec<u64>>());
}

#[test]
fn after_a_kill_at_most_what_was_in_flight_comes_again() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (Receiver::start(), Receiver::start());
    let addresses = [first.address.clone(), second.address.clone()];
    let endpoints = [
        endpoint("one", &addresses[0], "from = \"start\""),
        endpoint("many", &addresses[1], "ordered = false\nmax_in_flight = 4\nfrom = \"start\""),
    ];
    let (mut receivers, mut got) = ([first, second], [Vec::new(), Vec::new()]);
    let mut number = 1;
    let rounds = KILLS * scale();
    for round in 0..rounds {
        let server = start_sending(folder.path(), &endpoints);
        let enough = 3 + round as usize * 5 % 17;
        deliver(&server, number..number + 30);
        number += 30;
        receivers[0].wait_until("some", |got| got.len() >= enough);
        signal(server.pid(), "KILL");
        drop(server);
        // A receiver that dies has what it has.
        let kept = receivers.map(|receiver| receiver.got());
        for (all, some) in got.iter_mut().zip(kept) {
            all.extend(some);
        }
        receivers =
            addresses.clone().map(|address| Receiver::at(&address, |_| Reaction::Answer(200)));
    }
    let server = start_sending(folder.path(), &endpoints);
    for name in ["one", "many"] {
        wait_until_delivered(&server, name);
    }
    for (all, receiver) in got.iter_mut().zip(&receivers) {
        all.extend(receiver.got());
    }
    let expected: Vec<String> =
        (1..number).flat_map(|seq| [seq.to_string(), format!("{seq}.1")]).collect();
    let [one, many] = got;
    // In order, each record and its consequence; and each kill repeats one webhook at most.
    let places: Vec<String> = one.iter().map(|one| one.place().to_owned()).collect();
    let mut distinct = places.clone();
    distinct.dedup();
    assert_eq!(distinct, expected);
    assert!(places.len() - expected.len() <= rounds as usize, "{}", places.len());
    let mut places: Vec<String> = many.iter().map(|one| one.place().to_owned()).collect();
    assert!(places.len() - expected.len() <= 4 * rounds as usize, "{}", places.len());
    places.sort();
    places.dedup();
    assert_eq!(places.len(), expected.len());
}

#[test]
fn the_delay_of_a_webhook_is_short_while_another_endpoint_is_dead() {
    let folder = tempfile::tempdir().unwrap();
    let app = Receiver::start();
    let dead = Receiver::start().address.clone();
    let endpoints =
        [endpoint("dead", &dead, ""), endpoint("app", &app.address, "events = [\"dsync.*\"]")];
    let server = start_sending(folder.path(), &endpoints);
    let mut answered = Vec::new();
    for number in 1..200 {
        server.deliver(&created(number));
        answered.push(Instant::now());
    }
    let got = app.wait_for(199);
    let mut delays: Vec<Duration> =
        got.iter().zip(&answered).map(|(one, at)| one.at.saturating_duration_since(*at)).collect();
    delays.sort_unstable();
    println!("delay after 200: median {:?}, p99 {:?}", delays[99], delays[197]);
    assert_eq!(wait_until_delivered(&server, "app")["failures"], 0);
    assert_eq!(state_of(&server, "dead")["delivered"], 0);
}
