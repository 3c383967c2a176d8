//! Reconciliations with a source that is right, wrong, failing, and changing meanwhile.

use std::path::Path;

use serde_json::{Value, json};

use crate::calls::shapes::check;
use crate::kit::server::{API_KEY, Server, now_ms, signal};
use crate::kit::source::faulty::{Fault, Faulty};
use crate::kit::source::http::Reply;
use crate::kit::source::objects::{directory, event, group, membership, user};
use crate::kit::source::pulling::{Puller, pull, source_of};
use crate::kit::source::reconciling::{
    assert_in_step, begin, differences, ended, head, observations, reconcile, whole,
};
use crate::kit::source::stand_in::{SOURCE_KEY, StandIn};

pub(super) const MINUTE_MS: i64 = 60_000;
pub(super) const D: &str = "directory_1";

/// A stand-in whose events are long gone: a directory with users, and a group of all of them.
pub fn source_with_users(count: usize) -> StandIn {
    let source = StandIn::start();
    add_directory(&source, D, count);
    source
}

pub fn add_directory(source: &StandIn, id: &str, users: usize) {
    let at = now_ms() - 30 * MINUTE_MS;
    let mut contents = source.contents();
    contents.put_directory(directory(id, "Halden", at));
    let crew = format!("directory_group_{id}");
    contents.put_group(group(&crew, id, "Crew", at));
    for number in 0..users {
        let user_id = format!("directory_user_{id}_{number:04}");
        contents.put_user(user(&user_id, id, "Ada", at + number as i64));
        contents.members.insert((crew.clone(), user_id));
    }
}

pub fn user_id(number: usize) -> String {
    format!("directory_user_{D}_{number:04}")
}

pub(super) fn start(data: &Path, url: &str) -> Server {
    Puller::of(data, url).start()
}

/// A server that is in step with a source.
pub(super) fn imported(data: &Path, url: &str) -> Server {
    let server = start(data, url);
    let run = reconcile(&server, &whole());
    assert_eq!(run["state"], "completed", "{run}");
    server
}

#[test]
fn an_import_is_the_first_reconciliation_and_a_second_records_nothing() {
    let (source, data) = (source_with_users(250), tempfile::tempdir().unwrap());
    add_directory(&source, "directory_2", 3);
    let server = start(data.path(), &source.url);
    let run = reconcile(&server, &whole());
    assert_eq!(run["state"], "completed", "{run}");
    assert_eq!(
        run["compared"],
        json!({ "directories": 2, "groups": 2, "users": 253, "memberships": 253 })
    );
    assert_eq!(run["recorded"], 2 + 2 + 253 + 253);
    let expected = json!({ "id": D, "state": "clean", "error": null, "exceeds": null });
    assert_eq!(run["directories"][0], expected);
    assert_in_step(&server, &source.url, SOURCE_KEY);
    let observed = observations(&server);
    let kinds: Vec<&str> = observed.iter().map(|event| event["event"].as_str().unwrap()).collect();
    let order = ["directory", "group", "user", "membership"];
    let of = |kind: &str| order.iter().position(|word| kind.contains(&format!(".{word}.")));
    assert!(kinds.is_sorted_by_key(|kind| of(kind)), "{kinds:?}");
    // One record ends it.
    let before = head(&server);
    let again = reconcile(&server, &whole());
    assert_eq!((&again["state"], &again["recorded"]), (&json!("completed"), &json!(0)));
    assert_eq!(again["differences"]["data"], json!([]));
    assert_eq!(head(&server), before + 1, "only the record of the run");
    let ends = server.get("/events?events=rollcall.reconciliation.completed").json();
    let last = &ends["data"][1]["data"];
    assert_eq!(last["clean_directories"], json!([D, "directory_2"]));
    assert_eq!(
        (&last["recorded"], &last["held"], &last["failed_directories"]),
        (&json!(0), &json!(0), &json!([]))
    );
    assert_eq!(server.stop(), 0);
}

#[test]
fn a_reconciliation_without_a_body_is_of_everything() {
    let (source, data) = (source_with_users(3), tempfile::tempdir().unwrap());
    let server = start(data.path(), &source.url);
    let begun = server.act("post", "/rollcall/v1/reconciliations", None);
    assert_eq!(begun.status, 202, "{}", String::from_utf8_lossy(&begun.body));
    let run = ended(&server, begun.json()["id"].as_str().unwrap());
    let fields = ["state", "directory", "dry_run", "guard"].map(|name| run[name].clone());
    assert_eq!(fields, [json!("completed"), Value::Null, json!(false), json!("10%")], "{run}");
    assert_eq!(run["compared"]["users"], 3);
    // A body that is there must be an object.
    let url = format!("{}/rollcall/v1/reconciliations", server.url);
    assert_eq!(server.send("post", &url, API_KEY, " ").status, 422);
    let document = server.get_with("/openapi.json", &[]).json();
    let body = |path: &str, method: &str| {
        document["paths"][path][method]["requestBody"]["required"].clone()
    };
    assert_eq!(body("/rollcall/v1/reconciliations", "post"), json!(false));
    assert_eq!(body("/rollcall/v1/links", "put"), json!(true));
}

#[test]
fn an_import_asks_for_each_thing_once() {
    let (source, data) = (source_with_users(30), tempfile::tempdir().unwrap());
    let server = imported(data.path(), &source.url);
    let singly = ["/directory_users/", "/directory_groups/", "/directories/"];
    let asked = source.requests();
    let again: Vec<_> = asked
        .iter()
        .filter(|request| singly.iter().any(|path| request.target.starts_with(path)))
        .collect();
    assert!(again.is_empty(), "{again:?}");
    drop(server);
}

#[test]
fn what_differs_is_recorded_once_and_says_which_fields() {
    let (source, data) = (source_with_users(30), tempfile::tempdir().unwrap());
    let server = imported(data.path(), &source.url);
    let at = now_ms() - MINUTE_MS;
    {
        let mut contents = source.contents();
        let changed = contents.users.get_mut(&user_id(3)).unwrap();
        changed["email"] = "new@foo.example".into();
        changed["custom_attributes"]["department"] = Value::Null;
        // Another version is no difference, and neither are keys that are not served.
        contents.users.get_mut(&user_id(4)).unwrap()["updated_at"] = "2026-11-30T00:00:00Z".into();
        contents.users.get_mut(&user_id(5)).unwrap()["new_key"] = json!([1]);
        contents.remove_user(&user_id(6));
        contents.put_user(user("directory_user_new", D, "Grace", at));
        contents.members.remove(&("directory_group_directory_1".into(), user_id(7)));
        let member = ("directory_group_directory_1".into(), "directory_user_new".into());
        contents.members.insert(member);
        contents.groups.get_mut("directory_group_directory_1").unwrap()["name"] = "Team".into();
        contents.directories.get_mut(D).unwrap()["state"] = "invalid_credentials".into();
    }
    let expected = |ended: &str| -> Vec<String> {
        [
            "directory differs directory_1 [state]",
            "group differs directory_group_directory_1 [name]",
            "user differs directory_user_directory_1_0003 [custom_attributes.department email]",
            "user missing_there directory_user_directory_1_0006 []",
            "user missing_here directory_user_new []",
            "membership missing_there directory_group_directory_1+directory_user_directory_1_0007 []",
            "membership missing_here directory_group_directory_1+directory_user_new []",
        ]
        .map(|line| format!("{line} {ended}"))
        .into()
    };
    let before = head(&server);
    let dry = reconcile(&server, &json!({ "dry_run": true }));
    assert_eq!(differences(&dry), expected("open"));
    assert_eq!((&dry["dry_run"], &dry["state"]), (&json!(true), &json!("completed")));
    assert_eq!(head(&server), before, "a dry run records nothing");
    let run = reconcile(&server, &whole());
    assert_eq!(differences(&run), expected("recorded"));
    for run in [&dry, &run] {
        check("rollcall.json#/$defs/reconciliation", run, "a run");
    }
    let shown = source_of(&server);
    check("rollcall.json#/$defs/source", &shown, "the source");
    let outline = &shown["reconciliation"];
    let found = ["id", "differences", "recorded", "held"].map(|field| outline[field].clone());
    assert_eq!(found, [run["id"].clone(), json!(7), json!(7), json!(0)]);
    assert_in_step(&server, &source.url, SOURCE_KEY);
    assert_eq!(differences(&reconcile(&server, &whole())), [""; 0]);
}

#[test]
fn a_source_that_answers_empty_lists_empties_nothing() {
    let (source, data) = (source_with_users(12), tempfile::tempdir().unwrap());
    let faulty = Faulty::before(&source.url);
    let server = imported(data.path(), &faulty.url);
    faulty.fail("/directory_users?", 100, Fault::EmptyList);
    let run = reconcile(&server, &whole());
    // Each of the users answers for itself, and the memberships are held.
    assert_eq!(
        (&run["state"], &run["recorded"], &run["held"]),
        (&json!("held"), &json!(0), &json!(12))
    );
    faulty.heal();
    // Now they are really gone, and that is too much.
    (0..12).for_each(|number| source.contents().remove_user(&user_id(number)));
    let run = reconcile(&server, &whole());
    assert_eq!(run["state"], "held", "{run}");
    assert_eq!((&run["recorded"], &run["held"]), (&json!(0), &json!(24)));
    assert!(differences(&run).iter().all(|line| line.ends_with(" guard")), "{run}");
    assert_eq!(server.get("/directory_users?directory=directory_1&limit=100").ids().len(), 12);
    let dry = json!({ "directory": D, "guard": "off", "dry_run": true });
    assert_eq!(reconcile(&server, &dry)["held"], 0);
    let off = reconcile(&server, &json!({ "directory": D, "guard": "off" }));
    assert_eq!((&off["state"], &off["recorded"]), (&json!("completed"), &json!(12)));
    assert_in_step(&server, &source.url, SOURCE_KEY);
}

#[test]
fn what_is_present_is_recorded_where_the_guard_holds_the_ends() {
    let (source, data) = (source_with_users(20), tempfile::tempdir().unwrap());
    let server = imported(data.path(), &source.url);
    let at = now_ms() - MINUTE_MS;
    {
        let mut contents = source.contents();
        for number in 0..11 {
            contents.users.get_mut(&user_id(number)).unwrap()["state"] = "inactive".into();
        }
        contents.users.get_mut(&user_id(15)).unwrap()["email"] = "new@foo.example".into();
        contents.put_user(user("directory_user_new", D, "Grace", at));
    }
    let run = reconcile(&server, &whole());
    let lines = differences(&run);
    assert_eq!(lines.iter().filter(|line| line.ends_with("[state] guard")).count(), 11);
    assert_eq!((lines.len(), &run["recorded"], &run["held"]), (13, &json!(2), &json!(11)));
    let ends = server.get("/events?events=rollcall.reconciliation.completed").json();
    assert_eq!(ends["data"][1]["data"]["held"], 11);
    // Ten may always end.
    source.contents().users.get_mut(&user_id(10)).unwrap()["state"] = "active".into();
    assert_eq!(reconcile(&server, &whole())["recorded"], 10);
    // They count for seven days.
    source.contents().users.get_mut(&user_id(12)).unwrap()["state"] = "inactive".into();
    let run = reconcile(&server, &whole());
    assert_eq!(differences(&run), [format!("user differs {} [state] guard", user_id(12))]);
}

#[test]
fn a_change_under_way_is_not_taken_for_a_difference() {
    let (source, data) = (source_with_users(20), tempfile::tempdir().unwrap());
    let faulty = Faulty::before(&source.url);
    let server = imported(data.path(), &faulty.url);
    let before = observations(&server).len();
    // When the users are listed, one is missing for a moment, and another is about to be created.
    let shared = source.shared();
    let lost = shared.lock().unwrap().users[&user_id(2)].clone();
    let crew = "directory_group_directory_1".to_owned();
    faulty.fail(
        "/directory_users?directory=",
        1,
        Fault::Before(Box::new(move || {
            let mut contents = shared.lock().unwrap();
            contents.remove_user(&user_id(2));
            let at = now_ms();
            let new = user("directory_user_new", D, "Grace", at);
            contents.happen(&event("event_new", "dsync.user.created", at, &new));
        })),
    );
    let shared = source.shared();
    faulty.fail(
        "/directory_users/",
        1,
        Fault::Before(Box::new(move || {
            let mut contents = shared.lock().unwrap();
            contents.put_user(lost.clone());
            contents.members.insert((crew.clone(), user_id(2)));
        })),
    );
    let run = reconcile(&server, &whole());
    assert_eq!((&run["state"], differences(&run)), (&json!("completed"), vec![]), "{run}");
    assert_eq!(observations(&server).len(), before);
    assert_in_step(&server, &source.url, SOURCE_KEY);
}

#[test]
fn an_absence_needs_an_answer_of_its_own() {
    let (source, data) = (source_with_users(20), tempfile::tempdir().unwrap());
    let faulty = Faulty::before(&source.url);
    let server = imported(data.path(), &faulty.url);
    let before = head(&server);
    source.contents().remove_user(&user_id(5));
    for fault in [
        Fault::Status(403),
        Fault::Status(422),
        Fault::Body(br#"{"object":"directory_user","id":"directory_user_other"}"#.to_vec()),
    ] {
        faulty.fail("/directory_users/directory_user", 1, fault);
        let run = reconcile(&server, &whole());
        assert_eq!(differences(&run), [""; 0], "neither the user nor its membership is absent");
        assert_eq!(run["directories"][0]["state"], "undecided", "{run}");
        faulty.heal();
    }
    assert_eq!(head(&server), before, "not even the membership");
    let run = reconcile(&server, &whole());
    assert_eq!(differences(&run), [format!("user missing_there {} [] recorded", user_id(5))]);
}

#[test]
fn a_directory_that_fails_does_not_stop_the_others() {
    let (source, data) = (source_with_users(3), tempfile::tempdir().unwrap());
    add_directory(&source, "directory_2", 3);
    source.contents().forbidden.insert(D.into());
    let server = start(data.path(), &source.url);
    let run = reconcile(&server, &whole());
    assert_eq!(run["state"], "failed", "{run}");
    assert_eq!(run["directories"][0]["state"], "failed");
    assert!(run["directories"][0]["error"].is_string());
    assert_eq!(run["directories"][1]["state"], "clean");
    assert_eq!(server.get("/directory_users?directory=directory_2").ids().len(), 3);
    assert_eq!(server.get("/directories").ids(), ["directory_2"]);
    let ends = server.get("/events?events=rollcall.reconciliation.completed").json();
    let data = &ends["data"][0]["data"];
    assert_eq!(data["clean_directories"], json!(["directory_2"]));
    assert_eq!(data["failed_directories"][0]["id"], D);
}

#[test]
fn what_an_operator_deleted_here_is_not_compared_until_it_is_activated_again() {
    let (source, data) = (source_with_users(3), tempfile::tempdir().unwrap());
    let server = imported(data.path(), &source.url);
    assert_eq!(server.delete("/directories/directory_1").status, 202);
    for body in [whole(), json!({ "guard": "off" })] {
        let run = reconcile(&server, &body);
        assert_eq!(differences(&run), ["directory missing_here directory_1 [] deleted_here"]);
        assert_eq!(run["differences"]["data"][0]["name"], "Halden");
        assert_eq!(run["directories"][0]["state"], "not_compared");
        // An operator wanted it so: it is shown and counted, and no reason to look.
        assert_eq!((&run["state"], &run["held"]), (&json!("completed"), &json!(1)));
        assert_eq!(run["compared"]["users"], 0);
    }
    let at = now_ms() + 5;
    std::thread::sleep(std::time::Duration::from_millis(10));
    source.contents().list_event(&event(
        "event_again",
        "dsync.activated",
        at,
        &directory(D, "Halden", at),
    ));
    assert_eq!(reconcile(&server, &whole())["state"], "completed");
    assert_in_step(&server, &source.url, SOURCE_KEY);
}

#[test]
fn an_older_object_of_the_source_is_held_unless_the_guard_is_off() {
    let (source, data) = (source_with_users(3), tempfile::tempdir().unwrap());
    let server = imported(data.path(), &source.url);
    let at = now_ms() - MINUTE_MS;
    let mut newer = user(&user_id(1), D, "Ada", at);
    newer["email"] = "newer@foo.example".into();
    newer["previous_attributes"] = json!({});
    source.contents().list_event(&event("event_newer", "dsync.user.updated", at, &newer));
    pull(&server);
    let run = reconcile(&server, &whole());
    assert_eq!(
        differences(&run),
        [format!("user differs {} [created_at email] source_older", user_id(1))]
    );
    assert_eq!(run["state"], "held");
    let off = reconcile(&server, &json!({ "guard": "off" }));
    assert_eq!(off["recorded"], 1, "{off}");
    assert_in_step(&server, &source.url, SOURCE_KEY);
}

#[test]
fn a_directory_that_the_source_lost_ends_only_with_the_guard_off() {
    let (source, data) = (source_with_users(5), tempfile::tempdir().unwrap());
    add_directory(&source, "directory_2", 5);
    let server = imported(data.path(), &source.url);
    source.contents().remove_directory(D);
    let run = reconcile(&server, &whole());
    assert_eq!(differences(&run), ["directory missing_there directory_1 [] guard"]);
    let off = reconcile(&server, &json!({ "directory": D, "guard": "off" }));
    assert_eq!(differences(&off), ["directory missing_there directory_1 [] recorded"]);
    assert_in_step(&server, &source.url, SOURCE_KEY);
    assert_eq!(differences(&reconcile(&server, &whole())), [""; 0]);
}

#[test]
fn a_request_that_cannot_be_done_is_refused() {
    let data = tempfile::tempdir().unwrap();
    let without = Server::start(data.path());
    let path = "/rollcall/v1/reconciliations";
    let refused = without.act("post", path, Some(&whole()));
    assert_eq!((refused.status, refused.code()), (409, "no_source".into()));
    assert_eq!(without.get(path).json()["data"], json!([]));
    assert_eq!(without.get(&format!("{path}/run_1")).status, 404);
    let (source, data) = (source_with_users(3), tempfile::tempdir().unwrap());
    let faulty = Faulty::before(&source.url);
    let server = start(data.path(), &faulty.url);
    for (body, status, code) in [
        (json!({ "directory": "directory_9" }), 404, "entity_not_found"),
        (json!({ "guard": "on" }), 422, "validation_failed"),
        (json!({ "dry_run": 1 }), 422, "validation_failed"),
        (json!({ "directory": "" }), 422, "validation_failed"),
        (json!({ "more": true }), 422, "validation_failed"),
    ] {
        let refused = server.act("post", path, Some(&body));
        assert_eq!((refused.status, refused.code()), (status, code.into()), "{body}");
    }
    faulty.fail("/directories?", 1, Fault::Late(std::time::Duration::from_millis(300)));
    let first = begin(&server, &whole());
    let second = server.act("post", path, Some(&whole()));
    assert_eq!((second.status, second.code()), (409, "reconciliation_running".into()));
    let id = first["id"].as_str().unwrap();
    assert!(id.starts_with("run_"), "{id}");
    assert_eq!(ended(&server, id)["state"], "completed");
    assert_eq!(server.get(path).json()["data"][0]["id"], id);
}

#[test]
fn a_thousand_differences_are_in_a_run_and_the_rest_is_paged() {
    let (source, data) = (source_with_users(700), tempfile::tempdir().unwrap());
    let server = start(data.path(), &source.url);
    let run = reconcile(&server, &whole());
    let shown = &run["differences"];
    assert_eq!(shown["data"].as_array().unwrap().len(), 1000);
    assert_eq!(shown["list_metadata"]["after"], "1000");
    let path = format!("/rollcall/v1/reconciliations/{}", run["id"].as_str().unwrap());
    let rest = server.get(&format!("{path}?after=1000")).json();
    assert_eq!(rest["differences"]["data"].as_array().unwrap().len(), 2 + 700 + 700 - 1000);
    assert_eq!(rest["differences"]["list_metadata"]["after"], Value::Null);
    assert_eq!(server.get(&format!("{path}?after=x")).code(), "cursor_invalid");
}

#[test]
fn a_lost_event_of_each_kind_is_healed() {
    let source = StandIn::start();
    let data = tempfile::tempdir().unwrap();
    let at = now_ms() - 10 * MINUTE_MS;
    let crew = group("directory_group_1", D, "Crew", at);
    let people: Vec<Value> =
        (0..40).map(|number| user(&user_id(number), D, "Ada", at + number as i64)).collect();
    let mut events = vec![
        event("event_d", "dsync.activated", at, &directory(D, "Halden", at)),
        event("event_g", "dsync.group.created", at, &crew),
    ];
    for (number, person) in people.iter().enumerate() {
        let at = at + number as i64;
        events.push(event(&format!("event_u{number}"), "dsync.user.created", at, person));
        let pair = membership(&crew, person);
        events.push(event(&format!("event_m{number}"), "dsync.group.user_added", at + 1, &pair));
    }
    for number in [1, 5, 9] {
        let name = format!("event_x{number}");
        events.push(event(&name, "dsync.user.deleted", at + 1000, &people[number]));
    }
    // Three in ten never arrive.
    for (number, text) in events.iter().enumerate() {
        let mut contents = source.contents();
        if number * 7919 % 10 < 3 { contents.apply(text) } else { contents.happen(text) }
    }
    let server = start(data.path(), &source.url);
    let run = reconcile(&server, &whole());
    assert_eq!(run["state"], "completed", "{run}");
    assert_in_step(&server, &source.url, SOURCE_KEY);
    assert_eq!(differences(&reconcile(&server, &whole())), [""; 0]);
}

#[test]
fn a_kill_in_the_middle_of_an_import_records_nothing_twice() {
    const USERS: usize = 2500;
    let (source, data) = (source_with_users(USERS), tempfile::tempdir().unwrap());
    let server = start(data.path(), &source.url);
    begin(&server, &whole());
    // A list shows few differences, so that it is quick.
    while server.get("/rollcall/v1/reconciliations").json()["data"][0]["recorded"] == 0 {}
    signal(server.pid(), "KILL");
    server.wait();
    let server = start(data.path(), &source.url);
    let before = observations(&server).len();
    assert!(before > 0, "what was told as recorded is there");
    let run = reconcile(&server, &whole());
    assert_eq!(run["state"], "completed");
    assert_eq!(run["recorded"], 2 + 2 * USERS - before, "only what was left");
    let mut things: Vec<String> = observations(&server)
        .iter()
        .map(|event| {
            let data = &event["data"];
            format!("{} {} {} {}", event["event"], data["id"], data["user_id"], data["group_id"])
        })
        .collect();
    let all = things.len();
    things.sort();
    things.dedup();
    assert_eq!((all, things.len()), (2 + 2 * USERS, all), "nothing is observed twice");
    assert_in_step(&server, &source.url, SOURCE_KEY);
}

#[test]
fn a_kill_in_the_middle_of_a_later_run_records_nothing_twice_and_the_next_run_ends_it() {
    const USERS: usize = 1300;
    let (source, data) = (source_with_users(USERS), tempfile::tempdir().unwrap());
    let server = imported(data.path(), &source.url);
    {
        let mut contents = source.contents();
        for user in contents.users.values_mut() {
            user["email"] = "new@foo.example".into();
        }
        // Some go as well, as few as the guard lets through.
        (0..5).for_each(|number| contents.remove_user(&user_id(number)));
    }
    let before = observations(&server).len();
    begin(&server, &whole());
    while server.get("/rollcall/v1/reconciliations").json()["data"][0]["recorded"] == 0 {}
    signal(server.pid(), "KILL");
    server.wait();
    let server = start(data.path(), &source.url);
    let recorded = observations(&server).len() - before;
    assert!(recorded > 0, "what was told as recorded is there");
    let run = reconcile(&server, &whole());
    assert_eq!((&run["state"], &run["recorded"]), (&json!("completed"), &json!(USERS - recorded)));
    assert_eq!(observations(&server).len(), before + USERS, "one for each user");
    assert_in_step(&server, &source.url, SOURCE_KEY);
    assert_eq!(differences(&reconcile(&server, &whole())), [""; 0]);
}

#[test]
fn another_rollcall_is_a_source_also_where_no_event_can_be_pulled() {
    let data = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let source = Server::start(data[0].path());
    let at = now_ms() - 10 * MINUTE_MS;
    let crew = group("directory_group_1", D, "Crew", at);
    source.deliver(&event("event_d", "dsync.activated", at, &directory(D, "Halden", at)));
    source.deliver(&event("event_g", "dsync.group.created", at, &crew));
    for number in 0..30 {
        let person = user(&user_id(number), D, "Ada", at + number as i64);
        let name = format!("event_u{number}");
        source.deliver(&event(&name, "dsync.user.created", at, &person));
        let pair = membership(&crew, &person);
        source.deliver(&event(&format!("event_m{number}"), "dsync.group.user_added", at, &pair));
        if number % 7 == 0 {
            let name = format!("event_x{number}");
            source.deliver(&event(&name, "dsync.user.deleted", at + 1000, &person));
        }
    }
    let faulty = Faulty::before(&source.url);
    faulty.fail("/events?", u32::MAX, Fault::EmptyList);
    let server = Puller { key: API_KEY, ..Puller::of(data[1].path(), &faulty.url) }.start();
    let run = reconcile(&server, &whole());
    assert_eq!(run["state"], "completed", "{run}");
    assert_in_step(&server, &source.url, API_KEY);
    assert_eq!(differences(&reconcile(&server, &whole())), [""; 0]);
}

#[test]
fn a_server_compares_by_itself_and_says_that_it_is_in_step() {
    let (source, data) = (source_with_users(5), tempfile::tempdir().unwrap());
    let options = &["--reconcile-every", "1h"];
    let server = Puller { options, ..Puller::of(data.path(), &source.url) }.start();
    let path = "/rollcall/v1/reconciliations";
    let run = loop {
        let runs = server.get(path).json()["data"].clone();
        if runs[0]["state"] == "completed" {
            break runs[0].clone();
        }
        assert!(runs[0].is_null() || runs[0]["state"] == "running", "{runs}");
        std::thread::sleep(std::time::Duration::from_millis(20));
    };
    assert_eq!(run["recorded"], 2 + 5 + 5);
    assert_in_step(&server, &source.url, SOURCE_KEY);
}

/// Asserts that every user still has its access.
#[track_caller]
fn assert_not_ended(server: &Server, users: usize) {
    let ends = server.get("/rollcall/v1/deprovisionings?limit=100").json();
    assert_eq!(ends["data"], json!([]));
    assert_eq!(server.get("/directories").ids(), [D]);
    let shown = server.get("/directory_users?directory=directory_1&limit=100");
    assert_eq!(shown.ids().len(), users.min(100));
}

#[test]
fn what_the_list_shows_and_its_own_look_denies_is_not_judged() {
    for users in [5, 101] {
        let (source, data) = (source_with_users(users), tempfile::tempdir().unwrap());
        let faulty = Faulty::before(&source.url);
        let server = imported(data.path(), &faulty.url);
        for number in 0..users {
            let mut contents = source.contents();
            contents.users.get_mut(&user_id(number)).unwrap()["email"] = "new@foo.example".into();
        }
        source.contents().groups.get_mut("directory_group_directory_1").unwrap()["name"] =
            "Team".into();
        source.contents().directories.get_mut(D).unwrap()["name"] = "Renamed".into();
        for path in ["/directory_users/", "/directory_groups/", "/directories/"] {
            faulty.fail(path, u32::MAX, Fault::Status(404));
        }
        // Pages of the first list pass; the second is empty.
        let pages = u32::try_from(users.div_ceil(100)).unwrap();
        let list = "/directory_users?directory=";
        faulty.fail_later(list, pages, u32::MAX, Fault::EmptyList);
        let run = reconcile(&server, &whole());
        assert_eq!((&run["state"], &run["recorded"]), (&json!("held"), &json!(0)), "{run}");
        let lines = differences(&run);
        assert_eq!(lines.len(), 1 + 1 + users);
        assert!(lines.iter().all(|line| line.ends_with(" newer_event")), "{lines:?}");
        assert_not_ended(&server, users);
        faulty.heal();
        assert_eq!(reconcile(&server, &whole())["state"], "completed");
        assert_in_step(&server, &source.url, SOURCE_KEY);
    }
}

/// An answer in which everything is inactive.
fn inactive() -> Fault {
    Fault::Rewrite(Box::new(|mut reply: Reply| {
        let text = String::from_utf8_lossy(&reply.body)
            .replace(r#""state":"active""#, r#""state":"inactive""#);
        reply.body = text.replace(r#""state":"linked""#, r#""state":"unlinked""#).into();
        reply
    }))
}

#[test]
fn the_guard_judges_the_ends_that_only_the_second_look_shows() {
    for users in [50, 101] {
        let (source, data) = (source_with_users(users), tempfile::tempdir().unwrap());
        let faulty = Faulty::before(&source.url);
        let server = imported(data.path(), &faulty.url);
        for number in 0..users {
            let mut contents = source.contents();
            contents.users.get_mut(&user_id(number)).unwrap()["email"] = "new@foo.example".into();
        }
        faulty.fail("/directory_users/", u32::MAX, inactive());
        let pages = u32::try_from(users.div_ceil(100)).unwrap();
        faulty.fail_later("/directory_users?directory=", pages, u32::MAX, inactive());
        let run = reconcile(&server, &whole());
        assert_eq!((&run["recorded"], &run["held"]), (&json!(0), &json!(users)), "{run}");
        assert!(differences(&run).iter().all(|line| line.ends_with(" guard")), "{run}");
        assert_not_ended(&server, users);
    }
    let (source, data) = (source_with_users(20), tempfile::tempdir().unwrap());
    let faulty = Faulty::before(&source.url);
    let server = imported(data.path(), &faulty.url);
    source.contents().directories.get_mut(D).unwrap()["name"] = "Renamed".into();
    faulty.fail("/directories/", u32::MAX, inactive());
    let run = reconcile(&server, &whole());
    assert_eq!(differences(&run), ["directory differs directory_1 [name state] guard"]);
    assert_not_ended(&server, 20);
}

#[test]
fn users_who_move_to_another_directory_count_where_they_were() {
    let (source, data) = (source_with_users(20), tempfile::tempdir().unwrap());
    let at = now_ms() - 30 * MINUTE_MS;
    let mut other = directory("directory_2", "Halden", at);
    other["state"] = "unlinked".into();
    source.contents().put_directory(other);
    let server = imported(data.path(), &source.url);
    for number in 0..20 {
        let mut contents = source.contents();
        contents.users.get_mut(&user_id(number)).unwrap()["directory_id"] = "directory_2".into();
    }
    let run = reconcile(&server, &whole());
    assert_eq!((&run["recorded"], &run["held"]), (&json!(0), &json!(20)), "{run}");
    let off = reconcile(&server, &json!({ "guard": "off" }));
    assert_eq!((&off["recorded"], &off["held"]), (&json!(20), &json!(0)), "one each: {off}");
    assert_eq!(differences(&reconcile(&server, &whole())), [""; 0]);
}

#[test]
fn what_an_operator_deletes_while_a_run_is_under_way_is_not_recorded() {
    for path in ["/directory_groups?directory", "/directory_users?directory"] {
        let (source, data) = (source_with_users(3), tempfile::tempdir().unwrap());
        let faulty = Faulty::before(&source.url);
        let server = imported(data.path(), &faulty.url);
        source.contents().users.get_mut(&user_id(1)).unwrap()["email"] = "n@foo.example".into();
        faulty.fail(path, 1, Fault::Late(std::time::Duration::from_millis(300)));
        let begun = begin(&server, &whole());
        std::thread::sleep(std::time::Duration::from_millis(150));
        assert_eq!(server.delete("/directories/directory_1").status, 202);
        let run = ended(&server, begun["id"].as_str().unwrap());
        assert_eq!((&run["state"], &run["recorded"]), (&json!("completed"), &json!(0)), "{run}");
        assert!(differences(&run).iter().all(|line| line.ends_with(" deleted_here")), "{run}");
        assert_eq!(server.get("/directories").ids(), [""; 0]);
    }
}

#[test]
fn a_run_with_an_undecided_answer_is_not_in_step_and_says_why() {
    let (source, data) = (source_with_users(5), tempfile::tempdir().unwrap());
    let faulty = Faulty::before(&source.url);
    let server = imported(data.path(), &faulty.url);
    source.contents().users.get_mut(&user_id(1)).unwrap()["email"] = "new@foo.example".into();
    faulty.fail("/directory_users/", u32::MAX, Fault::Status(422));
    let run = reconcile(&server, &whole());
    assert_eq!(run["state"], "failed", "{run}");
    assert_eq!(run["directories"][0]["state"], "undecided");
    let error = run["directories"][0]["error"].as_str().unwrap();
    assert!(error.contains(&user_id(1)) && error.contains("422"), "{error}");
}

#[test]
fn one_undecided_answer_leaves_every_absence_of_its_directory_open() {
    let (source, data) = (source_with_users(20), tempfile::tempdir().unwrap());
    let faulty = Faulty::before(&source.url);
    let server = imported(data.path(), &faulty.url);
    source.contents().remove_user(&user_id(4));
    source.contents().remove_user(&user_id(5));
    let crew = "directory_group_directory_1".to_owned();
    source.contents().members.remove(&(crew, user_id(6)));
    faulty.fail(&format!("/directory_users/{}", user_id(5)), 1, Fault::Status(403));
    let run = reconcile(&server, &whole());
    assert_eq!((&run["state"], &run["recorded"]), (&json!("failed"), &json!(0)), "{run}");
    assert_eq!((differences(&run), &run["held"]), (vec![], &json!(0)));
    assert_eq!(reconcile(&server, &whole())["recorded"], 3);
    assert_in_step(&server, &source.url, SOURCE_KEY);
}

#[test]
fn an_object_without_a_usable_directory_is_observed_once() {
    for given in [None, Some(Value::Null), Some(json!(7)), Some(json!(""))] {
        let (source, data) = (source_with_users(3), tempfile::tempdir().unwrap());
        let faulty = Faulty::before(&source.url);
        let own = given.clone().map(|id| format!(r#""directory_id":{id},"#)).unwrap_or_default();
        faulty.fail(
            "/directory_users",
            u32::MAX,
            Fault::Rewrite(Box::new(move |mut reply: Reply| {
                let text = String::from_utf8_lossy(&reply.body);
                reply.body = text.replace(r#""directory_id":"directory_1","#, &own).into();
                reply
            })),
        );
        let server = imported(data.path(), &faulty.url);
        let again = reconcile(&server, &whole());
        assert_eq!(differences(&again), [""; 0], "{given:?}");
    }
}

#[test]
fn a_user_who_is_gone_was_last_shown_by_the_comparison_before_and_has_a_successor() {
    let (source, data) = (source_with_users(5), tempfile::tempdir().unwrap());
    let server = imported(data.path(), &source.url);
    let second = reconcile(&server, &whole());
    assert_eq!((&second["state"], &second["recorded"]), (&json!("completed"), &json!(0)));
    // The source deletes a user and provisions the same person anew.
    let (at, successor) = (now_ms(), "directory_user_directory_1_9999");
    let mut again = user(successor, D, "Ada", at);
    again["idp_id"] = format!("idp-{}", user_id(3)).into();
    source.contents().remove_user(&user_id(3));
    source.contents().put_user(again);
    let third = reconcile(&server, &whole());
    assert_eq!(third["state"], "completed", "{third}");
    let losses = server.get("/rollcall/v1/deprovisionings").json();
    let [loss] = losses["data"].as_array().unwrap().as_slice() else { panic!("{losses}") };
    assert_eq!((&loss["user_id"], &loss["reason"]), (&json!(user_id(3)), &json!("user_absent")));
    // It ended between the start of the second comparison and a moment of the third.
    assert_eq!(loss["not_before"], second["started_at"], "{loss}");
    assert!(loss["occurred_at"].as_str() >= third["started_at"].as_str(), "{loss}");
    let expected = json!({ "user_id": successor, "since": rollcall::time::format(at) });
    assert_eq!(loss["succeeded_by"], expected);
    let path = format!("/rollcall/v1/users/{successor}/access");
    let preceded = server.get(&path).json()["data"][0]["preceded_by"].clone();
    assert_eq!(preceded, json!({ "user_id": user_id(3), "until": loss["occurred_at"] }));
}
