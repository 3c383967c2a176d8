//! Answers of the source that decide nothing, and differences that are left to a later run.

use std::process::Command;

use serde_json::{Value, json};

use super::reconciling::{D, add_directory, imported, source_with_users, start, user_id};
use crate::kit::server::{API_KEY, Server, binary, now_ms};
use crate::kit::source::faulty::{Fault, Faulty};
use crate::kit::source::http::Reply;
use crate::kit::source::objects::{event, group};
use crate::kit::source::reconciling::{assert_in_step, differences, reconcile, whole};
use crate::kit::source::stand_in::SOURCE_KEY;

const CREW: &str = "directory_group_directory_1";

/// Runs `rollcall reconcile`; returns its exit code, and what it says on both outputs.
fn command(server: &Server, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(binary());
    command.arg("reconcile").args(arguments).args(["--url", &server.url]);
    let output = command.env("ROLLCALL_API_KEY", API_KEY).output().unwrap();
    let [out, err] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    (output.status.code(), out + &err)
}

/// Takes the id from the first object of a list.
fn without_first_id() -> Fault {
    Fault::Rewrite(Box::new(|mut reply: Reply| {
        let mut page: Value = serde_json::from_slice(&reply.body).unwrap();
        if let Some(Value::Object(first)) = page["data"].get_mut(0) {
            first.remove("id");
        }
        reply.body = page.to_string().into_bytes();
        reply
    }))
}

#[test]
fn an_undecided_directory_names_what_was_undecided_wherever_it_is_told() {
    let user = user_id(1);
    for (path, fault, told) in [
        (
            format!("/directory_users/{user}"),
            Fault::Status(422),
            format!("user {user}: the source refused the request with 422"),
        ),
        (
            format!("/directory_users/{user}"),
            Fault::Status(403),
            format!("user {user}: the key may not ask the source for this (403)"),
        ),
        (
            format!("/directory_groups/{CREW}"),
            Fault::Body(br#"{"object":"directory_group","id":"directory_group_other"}"#.to_vec()),
            format!("group {CREW}: the answer of the source is not what was asked for"),
        ),
        (
            "/directory_users?directory=directory_1".into(),
            without_first_id(),
            "the list of its users has an object without a usable id".into(),
        ),
        (
            "/directory_groups?directory=directory_1".into(),
            without_first_id(),
            "the list of its groups has an object without a usable id".into(),
        ),
        (
            format!("/directory_users?group={CREW}"),
            without_first_id(),
            format!("the list of the users of group {CREW} has an object without a usable id"),
        ),
        (
            format!("/directory_users?group={CREW}"),
            Fault::Status(404),
            format!("the list of the users of group {CREW}: the source knows no such thing (404)"),
        ),
        (
            "/directory_users?directory=directory_1".into(),
            Fault::Body(
                br#"{"data":[7,null],"list_metadata":{"before":null,"after":null}}"#.to_vec(),
            ),
            "the list of its users has an object without a usable id".into(),
        ),
    ] {
        let (source, data) = (source_with_users(5), tempfile::tempdir().unwrap());
        add_directory(&source, "directory_2", 2);
        let faulty = Faulty::before(&source.url);
        let server = imported(data.path(), &faulty.url);
        source.contents().users.get_mut(&user).unwrap()["email"] = "new@foo.example".into();
        source.contents().groups.get_mut(CREW).unwrap()["name"] = "Team".into();
        faulty.fail(&path, u32::MAX, fault);
        let run = reconcile(&server, &whole());
        assert_eq!(run["state"], "failed", "{run}");
        let expected = json!([
            { "id": D, "state": "undecided", "error": told, "exceeds": null },
            { "id": "directory_2", "state": "clean", "error": null, "exceeds": null },
        ]);
        assert_eq!(run["directories"], expected);
        let ends = server.get("/events?events=rollcall.reconciliation.completed").json();
        let record = &ends["data"][1]["data"];
        assert_eq!(record["clean_directories"], json!(["directory_2"]));
        assert_eq!(record["failed_directories"], json!([{ "id": D, "error": told }]));
        let (code, said) = command(&server, &[]);
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains(D) && said.contains(&told), "{said}");
        // A dry run is as undecided.
        assert_eq!(command(&server, &["--dry-run"]).0, Some(2));
        faulty.heal();
        assert_eq!(command(&server, &[]).0, Some(0));
        let log = server.stop_and_say();
        let line = log.lines().find(|line| line.contains("without doubt")).unwrap();
        assert!(line.contains(D) && line.contains(&told), "{line}");
    }
}

#[test]
fn a_directory_that_an_unclean_list_lacks_is_undecided() {
    let (source, data) = (source_with_users(3), tempfile::tempdir().unwrap());
    add_directory(&source, "directory_2", 3);
    let faulty = Faulty::before(&source.url);
    let server = imported(data.path(), &faulty.url);
    faulty.fail("/directories?", 1, without_first_id());
    let run = reconcile(&server, &whole());
    let told = "the list of directories has an object without a usable id";
    // The newest is listed first, and both were created at one moment: the first is either.
    let states: Vec<&Value> =
        run["directories"].as_array().unwrap().iter().map(|one| &one["state"]).collect();
    assert!(states.contains(&&json!("undecided")) && states.contains(&&json!("clean")), "{run}");
    assert_eq!((&run["state"], &run["error"]), (&json!("failed"), &json!(told)));
    assert_eq!(differences(&run), [""; 0]);
    assert_eq!(server.get("/directories").ids().len(), 2);
    assert_eq!(reconcile(&server, &whole())["state"], "completed");
}

#[test]
fn a_failed_directory_names_the_list_that_failed() {
    let (source, data) = (source_with_users(3), tempfile::tempdir().unwrap());
    source.contents().forbidden.insert(D.into());
    let server = start(data.path(), &source.url);
    let run = reconcile(&server, &whole());
    let told = "the list of its groups: the key may not ask the source for this (403)";
    let failed = json!({ "id": D, "state": "failed", "error": told, "exceeds": null });
    assert_eq!(run["directories"], json!([failed]));
    let (code, said) = command(&server, &[]);
    assert!(code == Some(2) && said.contains(told), "{code:?} {said}");
}

#[test]
fn what_became_known_after_the_question_holds_its_answer() {
    let (source, data) = (source_with_users(5), tempfile::tempdir().unwrap());
    let faulty = Faulty::before(&source.url);
    let server = imported(data.path(), &faulty.url);
    let changed = |email: &str| {
        let mut user = source.contents().users[&user_id(1)].clone();
        user["email"] = email.into();
        user
    };
    let (second, third) = (changed("second@foo.example"), changed("third@foo.example"));
    source.contents().put_user(second);
    let shared = source.shared();
    faulty.fail(
        &format!("/directory_users/{}", user_id(1)),
        1,
        Fault::Before(Box::new(move || {
            let text = event("event_third", "dsync.user.updated", now_ms(), &third);
            shared.lock().unwrap().list_event(&text);
        })),
    );
    let run = reconcile(&server, &whole());
    assert_eq!(differences(&run), [format!("user differs {} [email] newer_event", user_id(1))]);
    assert_eq!((&run["state"], &run["recorded"]), (&json!("held"), &json!(0)));
    let (path, email) = (format!("/directory_users/{}", user_id(1)), "third@foo.example");
    assert_eq!(server.get(&path).json()["email"], email);
    // The next one decides.
    let run = reconcile(&server, &whole());
    assert_eq!(differences(&run), [format!("user differs {} [email] recorded", user_id(1))]);
    assert_in_step(&server, &source.url, SOURCE_KEY);
}

#[test]
fn a_membership_of_a_user_who_is_not_known_is_held() {
    let (source, data) = (source_with_users(3), tempfile::tempdir().unwrap());
    add_directory(&source, "directory_2", 1);
    let stranger = "directory_user_directory_2_0000";
    source.contents().members.insert((CREW.into(), stranger.into()));
    source.contents().forbidden.insert("directory_2".into());
    let server = start(data.path(), &source.url);
    let line = format!("membership missing_here {CREW}+{stranger} [] unknown_user");
    // The first time no record connects the two; nothing has changed by the second.
    for recorded in [1 + 1 + 3 + 3, 0] {
        let run = reconcile(&server, &whole());
        assert_eq!((&run["state"], &run["held"]), (&json!("failed"), &json!(1)), "{run}");
        assert_eq!(run["recorded"], recorded);
        assert!(differences(&run).contains(&line), "{run}");
    }
    assert_eq!(server.get(&format!("/directory_users/{stranger}")).status, 404);
    source.contents().forbidden.clear();
    let run = reconcile(&server, &whole());
    assert_eq!(run["state"], "completed", "{run}");
    assert_in_step(&server, &source.url, SOURCE_KEY);
}

/// The unlisted directory or group as the last run tells it, in the run, its record and the command.
#[track_caller]
fn assert_undecided(server: &Server, run: &Value, told: &str, clean: &Value) {
    assert_eq!((&run["state"], &run["recorded"]), (&json!("failed"), &json!(0)), "{run}");
    let undecided = json!({ "id": D, "state": "undecided", "error": told, "exceeds": null });
    assert_eq!(run["directories"][0], undecided);
    assert_eq!(differences(run), [""; 0]);
    let ends = server.get("/events?events=rollcall.reconciliation.completed").json();
    let records = ends["data"].as_array().unwrap();
    let of_run = records.iter().find(|record| record["id"] == run["id"]);
    let shown = of_run.map_or(json!(null), |record| record["data"]["clean_directories"].clone());
    assert_eq!(&shown, clean);
    let (code, said) = command(server, &[]);
    assert!(code == Some(2) && said.contains(told) && !said.contains("in step"), "{code:?} {said}");
}

/// Leaves the objects with these ids out of lists.
fn without(ids: &'static [&str]) -> Fault {
    Fault::Rewrite(Box::new(move |mut reply: Reply| {
        let mut page: Value = serde_json::from_slice(&reply.body).unwrap();
        let items = page["data"].as_array_mut().unwrap();
        items.retain(|item| ids.iter().all(|id| item["id"] != **id));
        reply.body = page.to_string().into_bytes();
        reply
    }))
}

#[test]
fn a_directory_that_is_there_and_not_listed_is_undecided_and_no_sighting() {
    let told = "the list of directories lacks it, and it answers by itself";
    let (source, data) = (source_with_users(5), tempfile::tempdir().unwrap());
    add_directory(&source, "directory_2", 2);
    let faulty = Faulty::before(&source.url);
    let server = imported(data.path(), &faulty.url);
    let import = server.get("/rollcall/v1/reconciliations").json()["data"][0].clone();
    // Its user has gone: a run that did not list the directory has not seen it.
    source.contents().remove_user(&user_id(3));
    faulty.fail("/directories?", u32::MAX, without(&[D]));
    let run = reconcile(&server, &whole());
    assert_undecided(&server, &run, told, &json!(["directory_2"]));
    // Nothing is listed at all: no directory is clean, so that the run has no record.
    faulty.heal();
    faulty.fail("/directories?", u32::MAX, Fault::EmptyList);
    let run = reconcile(&server, &whole());
    assert_undecided(&server, &run, told, &json!(null));
    let states = run["directories"].as_array().unwrap().iter().map(|one| &one["state"]);
    assert_eq!(states.collect::<Vec<_>>(), ["undecided", "undecided"]);
    faulty.heal();
    let run = reconcile(&server, &whole());
    assert_eq!(differences(&run), [format!("user missing_there {} [] recorded", user_id(3))]);
    let losses = server.get("/rollcall/v1/deprovisionings").json();
    let not_before = losses["data"][0]["not_before"].as_str().unwrap();
    // The import saw the user last, and the runs that did not list it say nothing.
    let finished = import["finished_at"].as_str().unwrap();
    assert!(not_before <= finished, "{losses} {import}");
    assert_in_step(&server, &source.url, SOURCE_KEY);
}

#[test]
fn a_group_that_is_there_and_not_listed_leaves_its_directory_undecided() {
    let told = format!("the list of its groups lacks group {CREW}, which answers by itself");
    let (source, data) = (source_with_users(5), tempfile::tempdir().unwrap());
    let faulty = Faulty::before(&source.url);
    let server = imported(data.path(), &faulty.url);
    // Its users are not listed, so that this is not found.
    source.contents().members.remove(&(CREW.into(), user_id(3)));
    faulty.fail("/directory_groups?", u32::MAX, without(&[CREW]));
    let run = reconcile(&server, &whole());
    assert_undecided(&server, &run, &told, &json!(null));
    faulty.heal();
    let run = reconcile(&server, &whole());
    let line = format!("membership missing_there {CREW}+{} [] recorded", user_id(3));
    assert_eq!(differences(&run), [line]);
    assert_in_step(&server, &source.url, SOURCE_KEY);
}

#[test]
fn a_group_that_has_come_since_the_list_is_no_doubt() {
    let (source, data) = (source_with_users(5), tempfile::tempdir().unwrap());
    let faulty = Faulty::before(&source.url);
    let server = imported(data.path(), &faulty.url);
    let shared = source.shared();
    let comes = Fault::Before(Box::new(move || {
        let (at, mut contents) = (now_ms(), shared.lock().unwrap());
        let came = group("directory_group_new", D, "New", at);
        contents.put_group(came.clone());
        contents.list_event(&event("event_new", "dsync.group.created", at, &came));
    }));
    // The groups are listed by then.
    faulty.fail("/directory_users?directory=", 1, comes);
    let run = reconcile(&server, &whole());
    assert_eq!((&run["state"], differences(&run)), (&json!("completed"), vec![]), "{run}");
    assert_in_step(&server, &source.url, SOURCE_KEY);
}

#[test]
fn what_is_listed_twice_counts_once() {
    let (source, data) = (source_with_users(12), tempfile::tempdir().unwrap());
    let faulty = Faulty::before(&source.url);
    for list in ["/directories?", "/directory_groups?", "/directory_users?"] {
        let twice = Fault::Rewrite(Box::new(|mut reply: Reply| {
            let mut page: Value = serde_json::from_slice(&reply.body).unwrap();
            let items = page["data"].as_array_mut().unwrap();
            items.extend(items.first().cloned());
            reply.body = page.to_string().into_bytes();
            reply
        }));
        faulty.fail(list, u32::MAX, twice);
    }
    let server = imported(data.path(), &faulty.url);
    let run = reconcile(&server, &whole());
    let once = json!({ "directories": 1, "groups": 1, "users": 12, "memberships": 12 });
    assert_eq!((&run["compared"], differences(&run)), (&once, vec![]));
}
