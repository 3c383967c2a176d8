//! Kills in the middle of large changes.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::kit::scale::scale;
use crate::kit::scim::{Directory, Request, patch};
use crate::kit::server::{Server, signal};

/// Creates users, one after the other. Returns their ids.
fn users(directory: &Directory, count: usize) -> Vec<String> {
    (0..count).map(|at| directory.user(&format!("u{at}"))).collect()
}

/// Sends a PATCH, and kills the server once the first records of it are there. Returns true if it
/// was answered as done, and the server that was started again.
fn killed_in(
    server: Server,
    folder: &Path,
    directory: &Directory,
    path: &str,
    body: &Value,
) -> (bool, Server) {
    let (before, text) = (server.head(), body.to_string());
    let answer = thread::scope(|scope| {
        let own = directory.on(&server);
        let push = scope.spawn(move || {
            let headers = vec![("Content-Type", "application/scim+json")];
            own.try_send(&Request { method: "PATCH", path, headers, body: Some(text) })
        });
        let began = Instant::now();
        while server.head() == before && began.elapsed() < Duration::from_secs(60) {
            thread::sleep(Duration::from_millis(1));
        }
        signal(server.pid(), "KILL");
        push.join().unwrap()
    });
    drop(server);
    (answer.is_some_and(|answer| answer.status < 300), Server::start(folder))
}

/// The number of a group's members.
fn members(directory: &Directory, path: &str) -> usize {
    directory.get(path)["members"].as_array().map_or(0, Vec::len)
}

/// The number of events of a type.
fn count(directory: &Directory, name: &str) -> usize {
    directory.event_types(0).iter().filter(|other| *other == name).count()
}

#[test]
fn a_change_that_a_kill_broke_off_is_there_whole_or_not_at_all() {
    // In the long form the group is as large as the contract's largest.
    let all = if scale() > 1 { 100_000 } else { 800 };
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let directory = Directory::create(&server, "org_a", "delete");
    // One in five stays when others are removed, which are still more than one batch of the log.
    let named = |(at, id): (usize, String)| json!({ "value": id, "display": if at % 5 == 0 { "stays" } else { "goes" } });
    let pushed: Vec<Value> = users(&directory, all).into_iter().enumerate().map(named).collect();
    let path = format!("/Groups/{}", directory.group("Everyone", &[]));
    let body = json!({ "Operations": [{ "op": "add", "path": "members", "value": pushed }] });
    let (was_answered, server) = killed_in(server, folder.path(), &directory, &path, &body);
    let directory = directory.on(&server);
    let there = members(&directory, &path);
    assert!(there == all || (there == 0 && !was_answered), "{there} of {all} members");
    assert_eq!(count(&directory, "group.user_added"), there, "an event for each member");
    directory.expect_events_to_tell_all();
    // What is there already is not added twice, and later changes go on.
    let again = directory.call("PATCH", &path, Some(&body));
    assert!([200, 204].contains(&again.status), "{}", again.status);
    assert_eq!(members(&directory, &path), all);
    // The records of the removal leave nothing that its filter would find: it is decided again over
    // what was before them.
    let remove = json!([{ "op": "remove", "path": "members[display eq \"goes\"]" }]);
    let body = patch(remove);
    let (was_answered, server) = killed_in(server, folder.path(), &directory, &path, &body);
    let directory = directory.on(&server);
    let (there, stay) = (members(&directory, &path), all.div_ceil(5));
    assert!(there == stay || (there == all && !was_answered), "{there} of {all} members");
    assert_eq!(count(&directory, "group.user_removed"), all - there, "an event for each who left");
    directory.expect_events_to_tell_all();
    let again = directory.call("PATCH", &path, Some(&body));
    assert!([200, 204].contains(&again.status), "{}", again.status);
    assert_eq!(members(&directory, &path), stay);
    let late = directory.user("late");
    let add = json!([{ "op": "add", "path": "members", "value": [{ "value": late }] }]);
    let patched = directory.call("PATCH", &path, Some(&patch(add)));
    assert!([200, 204].contains(&patched.status));
    directory.expect_events_to_tell_all();
    assert_eq!(server.stop(), 0);
}
