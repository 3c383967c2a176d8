//! Filters by what no record ever named: refused on Rollcall's own calls, and an empty list on the
//! paths of WorkOS.

use serde_json::json;

use crate::kit::server::{Server, user};

/// A log of two records, a user of directory `d` and organization `org_1`, the second dated an hour
/// ago; then a mapping that gives the role `developer`.
fn server() -> (tempfile::TempDir, Server) {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let created = |id: &str, directory: &str, event: &str| {
        user(id, directory, "ana", "2026-01-02T00:00:00.000Z", event, "dsync.user.created")
    };
    server.deliver(&created("u", "d", "e1"));
    server.deliver(&created("v", "d2", "e2"));
    let group = json!({
        "object": "event", "id": "e3", "event": "dsync.group.created",
        "created_at": "2026-01-02T00:00:00.000Z",
        "data": { "object": "directory_group", "id": "g", "directory_id": "d", "name": "G",
            "organization_id": "org_g" },
    });
    server.deliver(&group.to_string());
    let rule = json!({ "group": { "name": "G" }, "roles": ["developer"] });
    let mapping = json!({ "mapping": { "rules": [rule] } });
    assert_eq!(server.put("/rollcall/v1/role_mapping", &mapping).status, 200);
    (folder, server)
}

#[test]
fn a_filter_by_what_no_record_named_is_refused_on_own_calls() {
    let (_folder, server) = server();
    for (call, filter, kind) in [
        ("role_assignments?", "user", "Directory User"),
        ("role_assignments?", "group", "Directory Group"),
        ("role_assignments?", "role", "Role"),
        ("role_assignments?", "directory", "Directory"),
        ("role_assignments?", "organization_id", "Organization"),
        ("role_assignments?", "organization", "Organization"),
        ("deprovisionings?", "user", "Directory User"),
        ("deprovisionings?", "directory", "Directory"),
        ("deprovisionings?", "organization_id", "Organization"),
        ("diff?from=latest&", "directory", "Directory"),
    ] {
        // `G` is a name, and only a group's.
        for unknown in ["nowhere", "G"] {
            let answer = server.get(&format!("/rollcall/v1/{call}{filter}={unknown}"));
            let expected = json!({ "message": format!("{kind} not found: '{unknown}'."),
                "code": "entity_not_found", "entity_id": unknown });
            assert_eq!((answer.status, answer.json()), (404, expected), "{call}{filter}");
            assert!(answer.header("rollcall-known-at").is_some(), "{call}{filter}");
        }
    }
    for path in [
        "role_assignments?user=u&group=g&role=developer&directory=d&organization_id=org_g",
        "deprovisionings?user=u&directory=d&organization=org_1&email=nobody%40x.example",
        "diff?from=latest&directory=d2",
    ] {
        assert_eq!(server.get(&format!("/rollcall/v1/{path}")).status, 200, "{path}");
    }
}

#[test]
fn ever_is_cut_by_what_was_known_and_not_by_the_moment_asked_about() {
    let (_folder, server) = server();
    let long_ago = "2000-01-01T00:00:00Z";
    for (call, filter, named_by) in [
        ("role_assignments?", "user=v", 2),
        ("role_assignments?", "directory=d2", 2),
        ("role_assignments?", "group=g", 3),
        ("role_assignments?", "organization=org_g", 3),
        ("role_assignments?", "role=developer", 4),
        ("deprovisionings?", "user=v", 2),
        ("deprovisionings?", "organization=org_g", 3),
    ] {
        for (known_at, status) in [(named_by, 200), (named_by - 1, 404)] {
            let path = format!("/rollcall/v1/{call}{filter}&known_at={known_at}&as_of={long_ago}");
            assert_eq!(server.get(&path).status, status, "{path}");
        }
    }
    // A comparison knows what either side knows.
    let diff = "/rollcall/v1/diff?from=latest&directory=d2";
    for (from, to, status) in [(1, 1, 404), (1, 2, 200), (2, 1, 200)] {
        let path = format!("{diff}&from_known_at={from}&to_known_at={to}");
        assert_eq!(server.get(&path).status, status, "{path}");
    }
}

#[test]
fn the_paths_of_workos_keep_their_empty_lists() {
    let (_folder, server) = server();
    for path in [
        "/directory_users?directory=nowhere",
        "/directory_users?group=nowhere",
        "/directory_users?directory=d&role=nothing",
        "/directory_groups?user=nowhere",
        "/directories?organization_id=nowhere",
        "/events?events=no.such.type",
        "/events?events=dsync.user.created&organization_id=nowhere",
    ] {
        let answer = server.get(path);
        assert_eq!((answer.status, answer.ids().len()), (200, 0), "{path}");
    }
}
