//! Kills in the middle of large changes.

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

#[test]
fn a_change_that_a_kill_broke_off_is_there_whole_or_not_at_all() {
    // In the long form the group is as large as the contract's largest.
    let count = if scale() > 1 { 100_000 } else { 800 };
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let directory = Directory::create(&server, "org_a", "delete");
    let members: Vec<Value> =
        users(&directory, count).iter().map(|id| json!({ "value": id })).collect();
    let group = directory.group("Everyone", &[]);
    let (path, before) = (format!("/Groups/{group}"), server.head());
    let body = json!({ "Operations": [{ "op": "add", "path": "members", "value": members }] });
    let text = body.to_string();
    // The server is killed once the first records of the change are there.
    let answer = thread::scope(|scope| {
        let (path, own) = (&path, directory.on(&server));
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
    let was_answered = answer.is_some_and(|answer| answer.status < 300);
    drop(server);
    let server = Server::start(folder.path());
    let directory = directory.on(&server);
    let shown = directory.get(&path);
    let there = shown["members"].as_array().map_or(0, Vec::len);
    assert!(there == count || (there == 0 && !was_answered), "{there} of {count} members");
    let added = directory.event_types(0).iter().filter(|name| *name == "group.user_added").count();
    assert_eq!(added, there, "an event for each member");
    directory.expect_events_to_tell_all();
    // What is there already is not added twice, and later changes go on.
    let again = directory.call("PATCH", &path, Some(&body));
    assert!([200, 204].contains(&again.status), "{}", again.status);
    let late = directory.user("late");
    let add = json!([{ "op": "add", "path": "members", "value": [{ "value": late }] }]);
    let patched = directory.call("PATCH", &path, Some(&patch(add)));
    assert!([200, 204].contains(&patched.status));
    directory.expect_events_to_tell_all();
    assert_eq!(server.stop(), 0);
}
