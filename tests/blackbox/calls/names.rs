//! `GET /rollcall/v1/names`: what a text names, and what it nearly names.

use std::path::Path;

use rollcall::verify::{compared_name, email_fingerprint};
use rollcall_projections::{Cut, NameQuestion, NameSearch, NamedKind, Sight};
use serde_json::{Value, json};

use crate::kit::histories::percent_encoded;
use crate::kit::road::fold;
use crate::kit::server::{Server, now_ms, user};

fn at(day: u32) -> String {
    format!("2026-01-{day:02}T00:00:00.000Z")
}

fn directory(id: &str, name: &str, organization: &str, day: u32) -> String {
    json!({
        "object": "event", "id": format!("event_{day}"), "event": "dsync.activated",
        "created_at": at(day),
        "data": { "object": "directory", "id": id, "name": name, "state": "active",
            "organization_id": organization },
    })
    .to_string()
}

fn group(id: &str, directory: &str, name: &str, day: u32, what: &str) -> String {
    json!({
        "object": "event", "id": format!("event_{day}"), "event": format!("dsync.group.{what}"),
        "created_at": at(day),
        "data": { "object": "directory_group", "id": id, "directory_id": directory, "name": name },
    })
    .to_string()
}

fn created(id: &str, directory: &str, name: &str, day: u32) -> String {
    user(id, directory, name, &at(day), &format!("event_{day}"), "dsync.user.created")
}

fn joined(user: &str, group: &str, directory: &str, day: u32) -> String {
    let user = json!({ "object": "directory_user", "id": user, "directory_id": directory });
    let group = json!({ "object": "directory_group", "id": group, "directory_id": directory });
    json!({
        "object": "event", "id": format!("event_{day}"), "event": "dsync.group.user_added",
        "created_at": at(day),
        "data": { "directory_id": directory, "user": user, "group": group },
    })
    .to_string()
}

/// A server whose record N is of N January 2026, up to 18; then a mapping with three roles. Bo was
/// deleted once and came back.
pub fn named_things(folder: &Path) -> Server {
    let server = Server::start(folder);
    for event in [
        directory("d1", "Halden Robotics", "org_halden", 1),
        directory("d2", "Halden Labs", "org_labs", 2),
        group("g_platform", "d1", "Platform", 3, "created"),
        group("g_sales_1", "d1", "Sales", 4, "created"),
        group("g_sales_2", "d2", "Sales", 5, "created"),
        created("u_ana", "d1", "ana", 6),
        created("u_ana2", "d2", "ana", 7),
        created("u_bo", "d1", "bo", 8),
        group("g_platform", "d1", "Infrastructure", 9, "updated"),
        group("g_new", "d2", "Platform", 10, "created"),
        group("g_cafe", "d2", "Cafe\u{301}", 11, "created"),
        group("g_old", "d1", "Legacy", 12, "created"),
        group("g_old", "d1", "Legacy", 13, "deleted"),
        user("u_bo", "d1", "bo", &at(14), "event_14", "dsync.user.deleted"),
        created("u_bo", "d1", "bo", 15),
        joined("u_bo", "g_platform", "d1", 16),
        joined("u_ana2", "g_sales_2", "d2", 17),
        joined("u_bo", "g_cafe", "d1", 18),
    ] {
        server.deliver(&event);
    }
    let rule = |group: &str, role: &str| json!({ "group": { "name": group }, "roles": [role] });
    let rules = [
        rule("Platform", "developer"),
        rule("Sales", "seller"),
        rule("Infrastructure", "operator"),
    ];
    let mapping = json!({ "mapping": { "rules": rules } });
    assert_eq!(server.put("/rollcall/v1/role_mapping", &mapping).status, 200);
    server
}

fn ids(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap()).collect()
}

/// Kind, text, further parameters; the way in which the text names things, them, and near ones.
type Case = (&'static str, &'static str, &'static str, Option<&'static str>, Vec<&'static str>);

fn named() -> Vec<Case> {
    vec![
        ("group", "g_platform", "", Some("id"), vec!["g_platform"]),
        // The renamed group had the name, and another one has it.
        ("group", "Platform", "", Some("name"), vec!["g_new"]),
        ("group", "Platform", "&as_of=2026-01-05T00:00:00Z", Some("name"), vec!["g_platform"]),
        ("group", "Platform", "&known_at=8", Some("name"), vec!["g_platform"]),
        ("group", "Platform", "&known_at=9", Some("name"), vec!["g_platform"]),
        (
            "group",
            "Platform",
            "&as_of=2026-01-01T00:00:00Z",
            Some("name"),
            vec!["g_new", "g_platform"],
        ),
        ("group", "Sales", "", Some("name"), vec!["g_sales_1", "g_sales_2"]),
        ("group", "Sales", "&directory=d2", Some("name"), vec!["g_sales_2"]),
        ("group", "Sales", "&organization_id=org_halden", Some("name"), vec!["g_sales_1"]),
        ("group", "Legacy", "", Some("name"), vec!["g_old"]),
        ("group", "Caf\u{e9}", "", Some("name"), vec!["g_cafe"]),
        ("user", "u_ana", "", Some("id"), vec!["u_ana"]),
        ("user", "ANA@foo.example", "", Some("email"), vec!["u_ana", "u_ana2"]),
        ("user", "ana@foo.example", "&directory=d2", Some("email"), vec!["u_ana2"]),
        ("group", "Platform", "&ever=true", Some("name"), vec!["g_new", "g_platform"]),
        ("group", "Platform", "&ever=false", Some("name"), vec!["g_new"]),
        ("group", "Platform", "&ever=true&directory=d1", Some("name"), vec!["g_platform"]),
        ("directory", "d1", "", Some("id"), vec!["d1"]),
        ("directory", "Halden Robotics", "", Some("name"), vec!["d1"]),
        ("organization", "org_labs", "", Some("id"), vec!["org_labs"]),
        ("role", "developer", "", Some("id"), vec!["developer"]),
        ("event_type", "dsync.deleted", "", Some("id"), vec!["dsync.deleted"]),
    ]
}

#[test]
fn an_id_an_email_or_a_name_finds_what_it_names() {
    let folder = tempfile::tempdir().unwrap();
    let server = named_things(folder.path());
    for (kind, text, more, by, expected) in named() {
        let text = percent_encoded(text);
        let path = format!("/rollcall/v1/names?kind={kind}&text={text}{more}");
        let answer = server.get(&path);
        assert_eq!(answer.status, 200, "{path}: {}", answer.json());
        let found = answer.json();
        assert_eq!((found["named_by"].as_str(), ids(&found["data"])), (by, expected), "{path}");
        assert_eq!(found["total"].as_u64(), Some(ids(&found["data"]).len() as u64), "{path}");
        assert_eq!(found["near"], json!([]), "{path}");
    }
    let found = server.get("/rollcall/v1/names?kind=group&text=g_platform").json();
    let expected = json!([{ "id": "g_platform", "name": "Infrastructure", "directory_id": "d1",
        "organization_id": "org_halden", "app_user_id": null }]);
    assert_eq!(found["data"], expected);
}

#[test]
fn what_was_never_named_has_near_matches() {
    let folder = tempfile::tempdir().unwrap();
    let server = named_things(folder.path());
    for (kind, text, more, near) in [
        ("group", "Platfrom", "", vec!["g_new"]),
        ("group", "sales", "", vec!["g_sales_1", "g_sales_2"]),
        ("group", "g_pl", "", vec!["g_platform"]),
        ("group", "Infrastructure", "&known_at=8", vec![]),
        ("group", "u_ana", "", vec![]),
        ("user", "u_an", "", vec!["u_ana", "u_ana2"]),
        ("user", "u_bo", "&known_at=7", vec![]),
        ("user", "eva@foo.example", "", vec![]),
        ("directory", "Halden", "", vec!["d1", "d2"]),
        ("directory", "Halden Robotic", "", vec!["d1"]),
        ("organization", "org_hal", "", vec!["org_halden"]),
        ("organization", "org_hal", "&known_at=1", vec!["org_halden"]),
        ("organization", "org_lab", "&known_at=1", vec![]),
        ("role", "develper", "", vec!["developer"]),
        ("role", "develper", "&known_at=13", vec![]),
        ("event_type", "user.created", "", vec!["dsync.user.created"]),
    ] {
        let path = format!("/rollcall/v1/names?kind={kind}&text={}{more}", percent_encoded(text));
        let found = server.get(&path).json();
        assert_eq!((&found["named_by"], &found["data"]), (&Value::Null, &json!([])), "{path}");
        assert_eq!(ids(&found["near"]), near, "{path}");
    }
}

#[test]
fn a_question_without_a_kind_or_a_text_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    for (query, field, code) in [
        ("text=x", "kind", "required"),
        ("kind=group", "text", "required"),
        ("kind=team&text=x", "kind", "invalid"),
        ("kind=group&text=x&ever=yes", "ever", "invalid"),
        ("kind=directory&text=x&directory=d1", "directory", "exclusive"),
        ("kind=role&text=x&directory=d1", "directory", "exclusive"),
        ("kind=organization&text=x&organization_id=o", "organization_id", "exclusive"),
        ("kind=event_type&text=x&organization_id=o", "organization_id", "exclusive"),
    ] {
        let answer = server.get(&format!("/rollcall/v1/names?{query}"));
        assert_eq!(answer.status, 422, "{query}");
        let error = &answer.json()["errors"][0];
        assert_eq!((&error["field"], &error["code"]), (&json!(field), &json!(code)), "{query}");
    }
}

#[test]
fn a_scope_that_was_never_seen_is_not_found() {
    let folder = tempfile::tempdir().unwrap();
    let server = named_things(folder.path());
    for (path, status) in [
        ("names?kind=group&text=Sales&directory=d3", 404),
        ("names?kind=group&text=Sales&organization_id=org_3", 404),
        ("names?kind=group&text=Sales&directory=d2&known_at=1", 404),
        ("names?kind=directory&text=Sales&organization_id=org_3", 404),
        ("names?kind=group&text=Nothing&directory=d2", 200),
        ("stats?directory=nope", 404),
        ("stats?organization_id=nope", 404),
        ("stats?organization=nope", 404),
        ("stats?directory=d1&organization_id=org_labs", 200),
    ] {
        let answer = server.get(&format!("/rollcall/v1/{path}"));
        assert_eq!(answer.status, status, "{path}: {}", answer.json());
        if status == 404 {
            assert_eq!(answer.json()["code"], "entity_not_found", "{path}");
        }
    }
}

#[test]
fn a_user_who_moved_is_found_in_both_directories_and_of_many_the_lowest_ids_are_listed() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    server.deliver(&created("u_moved", "d1", "eva", 1));
    server.deliver(&user("u_moved", "d2", "eva", &at(2), "event_2", "dsync.user.updated"));
    server.deliver(&created("u_other", "d3", "bo", 3));
    for (directory, expected) in [("d1", 1), ("d2", 1), ("d3", 0)] {
        for text in ["u_moved", "eva%40foo.example"] {
            let query = format!("kind=user&text={text}&directory={directory}");
            let found = server.get(&format!("/rollcall/v1/names?{query}")).json();
            assert_eq!(found["total"], expected, "{query}");
        }
    }
    // 30 users of one email, delivered from the highest id down.
    for number in (0..30).rev() {
        let id = format!("u_many_{number:02}");
        server.deliver(&user(&id, "d1", "many", &at(4), &id, "dsync.user.created"));
    }
    let found = server.get("/rollcall/v1/names?kind=user&text=many%40foo.example").json();
    let lowest: Vec<String> = (0..20).map(|number| format!("u_many_{number:02}")).collect();
    assert_eq!(
        (ids(&found["data"]), &found["total"]),
        (lowest.iter().map(|id| id.as_str()).collect(), &json!(30))
    );
}

#[test]
fn a_search_goes_in_steps_and_finds_the_same_whatever_their_size() {
    let many: Vec<String> = (0..40)
        .map(|number| {
            let (id, at) = (format!("u_{number:02}"), at(1));
            user(&id, "d1", "ana", &at, &format!("event_{number}"), "dsync.user.created")
        })
        .collect();
    let bodies: Vec<&[u8]> = many.iter().map(|body| body.as_bytes()).collect();
    let views = fold(&bodies, now_ms());
    let seen = views.seen_by(&Sight::All);
    let search = |kind: NamedKind, text: &str, step: usize| {
        let compared = compared_name(text);
        let question = NameQuestion {
            kind,
            text,
            compared: &compared,
            compare: compared_name,
            email: text.contains('@').then(|| email_fingerprint(text)),
            directory: None,
            organization: None,
            cut: Cut::LATEST,
            ever: false,
        };
        assert_eq!(seen.named_at_once(&question), None, "{text} is not an id");
        let (mut search, mut steps) = (NameSearch::default(), 1);
        while seen.search_names(&question, &mut search, step) {
            steps += 1;
        }
        (seen.names_found(&question, &search), steps)
    };
    for (kind, text, total, near, steps_min) in [
        (NamedKind::User, "Ana@foo.example", 40, 0, 40),
        (NamedKind::User, "u_0", 0, 5, 40),
        (NamedKind::Organization, "org_11", 0, 1, 2),
    ] {
        let (found, steps) = search(kind, text, 1);
        assert_eq!(found, search(kind, text, 1 << 20).0, "{text}");
        assert_eq!((found.total, found.matches.len()), (total, total.min(20)), "{text}");
        assert_eq!(found.near.len(), near, "{text}");
        assert!(steps >= steps_min, "{text}: {steps}");
    }
}
