//! Many clients at once.

use std::sync::Barrier;
use std::thread;

use serde_json::json;

use crate::kit::scim::{Directory, patch, user};
use crate::kit::server::Server;

const MEMBERS: usize = 32;
const RIVALS: usize = 8;

#[test]
fn changes_of_a_directory_are_one_after_the_other() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let directory = Directory::create(&server, "org_a", "delete");
    let users: Vec<String> = (0..MEMBERS).map(|at| directory.user(&format!("u{at}"))).collect();
    let group = directory.group("Staff", &[]);
    let begin = Barrier::new(MEMBERS + RIVALS);
    let statuses: Vec<u16> = thread::scope(|scope| {
        let (begin, server, directory, group) = (&begin, &server, &directory, &group);
        let adding = users.iter().map(|user| {
            scope.spawn(move || {
                let own = directory.on(server);
                let add = json!([{ "op": "add", "path": "members", "value": [{ "value": user }] }]);
                begin.wait();
                own.call("PATCH", &format!("/Groups/{group}"), Some(&patch(add))).status
            })
        });
        let adding: Vec<_> = adding.collect();
        let rivals: Vec<_> = (0..RIVALS)
            .map(|_| {
                scope.spawn(move || {
                    let own = directory.on(server);
                    begin.wait();
                    own.call("POST", "/Users", Some(&user("rival"))).status
                })
            })
            .collect();
        adding.into_iter().chain(rivals).map(|thread| thread.join().unwrap()).collect()
    });
    let (added, rivals) = statuses.split_at(MEMBERS);
    assert!(added.iter().all(|status| *status == 200), "{added:?}");
    let count = |wanted: u16| rivals.iter().filter(|status| **status == wanted).count();
    assert_eq!((count(201), count(409)), (1, RIVALS - 1), "{rivals:?}");
    let shown = directory.get(&format!("/Groups/{group}"));
    assert_eq!(shown["members"].as_array().unwrap().len(), MEMBERS);
    directory.expect_events_to_tell_all();
}

#[test]
fn a_huge_change_is_rolled_forward_while_other_directories_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let directory = Directory::create(&server, "org_a", "update");
    let other = Directory::create(&server, "org_b", "update");
    // More memberships than fit into one batch of the log.
    let users: Vec<String> = (0..600).map(|at| directory.user(&format!("u{at}"))).collect();
    let all: Vec<&str> = users.iter().map(String::as_str).collect();
    let group = thread::scope(|scope| {
        let (server, other) = (&server, &other);
        let busy = scope.spawn(move || {
            let own = other.on(server);
            (0..20).for_each(|at| _ = own.user(&format!("o{at}")));
        });
        let group = directory.group("Everyone", &all);
        busy.join().unwrap();
        group
    });
    let path = format!("/Groups/{group}");
    assert_eq!(directory.get(&path)["members"].as_array().unwrap().len(), 600);
    let half: Vec<_> = users.iter().step_by(2).map(|id| json!({ "value": id })).collect();
    directory.patch(&path, json!([{ "op": "replace", "path": "members", "value": half }]));
    let left = directory.get(&path)["members"].as_array().unwrap().len();
    assert_eq!(left, 300);
    directory.expect_events_to_tell_all();
    other.expect_events_to_tell_all();
}
