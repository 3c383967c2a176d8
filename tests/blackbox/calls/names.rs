//! `GET /rollcall/v1/names`: what a text names, and what it nearly names.

use std::path::Path;

use serde_json::{Value, json};

use crate::kit::histories::percent_encoded;
use crate::kit::server::{Server, user};

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

/// A server whose record N is of 1 + N January 2026, up to 13; then a mapping with two roles.
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
    ] {
        server.deliver(&event);
    }
    let rule = |group: &str, role: &str| json!({ "group": { "name": group }, "roles": [role] });
    let rules = [rule("Platform", "developer"), rule("Sales", "seller")];
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
        "organization_id": "org_halden" }]);
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
        ("group", "Sales", "&directory=d3", vec![]),
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
    ] {
        let answer = server.get(&format!("/rollcall/v1/names?{query}"));
        assert_eq!(answer.status, 422, "{query}");
        let error = &answer.json()["errors"][0];
        assert_eq!((&error["field"], &error["code"]), (&json!(field), &json!(code)), "{query}");
    }
}
