//! The same person again: a user who ended, and a later user of the same directory with the same id
//! at the identity provider. Each case is a history, a question and its answer.

use serde_json::{Value, json};

use crate::kit::keyed::{Keyed, entry};
use crate::kit::model::rfc3339;
use crate::kit::server::API_KEY;

const START_MS: i64 = 1_767_225_600_000;

fn at(second: i64) -> String {
    rfc3339(START_MS + 1000 * second)
}

fn event(kind: &str, id: String, second: i64, data: Value) -> String {
    json!({ "object": "event", "id": id, "context": {}, "event": format!("dsync.{kind}"),
        "created_at": at(second), "data": data })
    .to_string()
}

/// A step of a history. A user is `ID@DIRECTORY:IDP_ID`; without an id at the provider `ID@DIRECTORY`.
enum Step {
    Has(&'static str, i64),
    Inactive(&'static str, i64),
    Deleted(&'static str, i64),
    /// The user is added to a group: its snapshot stands in for it.
    Joins(&'static str, i64),
    DirectoryOn(&'static str, i64),
    DirectoryGone(&'static str, i64),
}
use Step::{Deleted, DirectoryGone, DirectoryOn, Has, Inactive, Joins};

fn data(user: &str, state: &str) -> Value {
    let (user, idp_id) = user.split_once(':').map_or((user, None), |(a, b)| (a, Some(b)));
    let (id, directory) = user.split_once('@').unwrap();
    json!({ "id": id, "directory_id": directory, "idp_id": idp_id, "state": state,
        "email": format!("{id}@x.example") })
}

impl Step {
    fn body(&self, number: usize) -> String {
        let id = format!("e{number}");
        match self {
            Has(user, at) => event("user.updated", id, *at, data(user, "active")),
            Inactive(user, at) => event("user.updated", id, *at, data(user, "inactive")),
            Deleted(user, at) => event("user.deleted", id, *at, data(user, "active")),
            Joins(user, at) => {
                let user = data(user, "active");
                let group = json!({ "id": "g", "directory_id": user["directory_id"] });
                let data = json!({ "directory_id": user["directory_id"], "user": user,
                    "group": group });
                event("group.user_added", id, *at, data)
            }
            DirectoryOn(id_of, at) => event("activated", id, *at, directory(id_of)),
            DirectoryGone(id_of, at) => event("deleted", id, *at, directory(id_of)),
        }
    }
}

fn directory(id: &str) -> Value {
    json!({ "id": id, "name": id, "organization_id": format!("org_{id}") })
}

/// Records a history; record n is recorded 100 + n seconds after the start.
fn serve(steps: &[Step]) -> Keyed {
    let bodies = steps.iter().enumerate().map(|(number, step)| step.body(number));
    let records: Vec<(i64, String)> =
        bodies.zip(1..).map(|(body, seq)| (START_MS + 1000 * (100 + seq), body)).collect();
    let own = |organization: &str| rollcall::keys::KeyEntry {
        organizations: Some(vec![organization.into()]),
        ..entry(organization, &["read", "audit"])
    };
    Keyed::start(&[own("org_d"), own("org_e")], &records)
}

/// Returns `succeeded_by` and `preceded_by` of a user as `V 6` and `U 5`: an id and a second.
fn others(server: &Keyed, key: &str, user: &str, cut: &str) -> [Option<String>; 2] {
    let path = format!("/rollcall/v1/users/{user}/access?{cut}");
    let answer = server.ask_as(key, "get", &path, None).json();
    let periods = answer["data"].as_array().unwrap_or_else(|| panic!("{path}: {answer}"));
    let period = periods.last().unwrap_or_else(|| panic!("{path}: no access"));
    [("succeeded_by", "since"), ("preceded_by", "until")].map(|(field, moment)| {
        let other = &period[field];
        let user = other["user_id"].as_str()?;
        let text = other[moment].as_str().unwrap();
        let second = (0..100).find(|second| at(*second) == text).unwrap();
        assert_eq!(other.as_object().unwrap().len(), 2, "{other}");
        Some(format!("{user} {second}"))
    })
}

/// Checks both sides for each user and cut, whatever the order of arrival: `U -> V 6 <- T 2` says
/// that U is succeeded by V from 6 on, and preceded by T until 2.
fn check(steps: &[Step], expected: &[(&str, &str, Option<&str>, Option<&str>)]) {
    let server = serve(steps);
    for (user, cut, succeeded, preceded) in expected {
        let found = others(&server, API_KEY, user, cut);
        let wanted = [succeeded, preceded].map(|other| other.map(str::to_owned));
        assert_eq!(found, wanted, "{user} {cut}");
    }
}

#[test]
fn a_user_provisioned_anew_succeeds_the_one_who_was_deleted() {
    let steps =
        [Has("u@d:x", 1), Deleted("u@d:x", 5), Has("v@d:x", 6), Has("v@d:x", 7), Has("w@d:x", 8)];
    let six = format!("as_of={}", at(6));
    let before = format!("as_of={}", at(5));
    check(
        &steps,
        &[
            ("u", "", Some("v 6"), None),
            ("v", "", None, Some("u 5")),
            // A third one was never the first after an end.
            ("w", "", None, None),
            ("u", &six, Some("v 6"), None),
            ("v", &six, None, Some("u 5")),
            ("u", &before, None, None),
            ("u", "known_at=2", None, None),
            ("u", "known_at=3", Some("v 6"), None),
            ("v", "known_at=3", None, Some("u 5")),
        ],
    );
}

#[test]
fn an_arrival_in_another_order_changes_nothing() {
    let steps = [Has("v@d:x", 6), Deleted("u@d:x", 5), Has("u@d:x", 1)];
    check(
        &steps,
        &[
            ("u", "", Some("v 6"), None),
            ("v", "", None, Some("u 5")),
            ("v", "known_at=1", None, None),
        ],
    );
}

#[test]
fn a_chain_of_users_is_told_link_by_link() {
    let steps = [
        Has("u@d:x", 1),
        Deleted("u@d:x", 2),
        Has("v@d:x", 3),
        Deleted("v@d:x", 4),
        Has("w@d:x", 5),
    ];
    check(
        &steps,
        &[
            ("u", "", Some("v 3"), None),
            ("v", "", Some("w 5"), Some("u 2")),
            ("w", "", None, Some("v 4")),
        ],
    );
}

#[test]
fn only_the_same_directory_and_the_same_id_of_the_provider_count() {
    for other in ["v@e:x", "v@d:X", "v@d", "v@d:xx"] {
        let steps = [Has("u@d:x", 1), Deleted("u@d:x", 2), Has(other, 3)];
        check(&steps, &[("u", "", None, None), ("v", "", None, None)]);
    }
    let without = [Has("u@d", 1), Deleted("u@d", 2), Has("v@d", 3)];
    check(&without, &[("u", "", None, None), ("v", "", None, None)]);
    let empty = [Has("u@d:", 1), Deleted("u@d:", 2), Has("v@d:", 3)];
    check(&empty, &[("u", "", None, None), ("v", "", None, None)]);
}

#[test]
fn a_user_who_is_alive_has_no_successor() {
    // Both at once, and one who came back.
    check(&[Has("u@d:x", 1), Has("v@d:x", 2)], &[("u", "", None, None), ("v", "", None, None)]);
    let back = [Has("u@d:x", 1), Deleted("u@d:x", 2), Has("v@d:x", 3), Has("u@d:x", 4)];
    let three = format!("as_of={}", at(3));
    check(
        &back,
        &[
            ("u", &three, Some("v 3"), None),
            ("u", "", None, None),
            ("v", "", None, None),
            ("v", &three, None, Some("u 2")),
        ],
    );
    // An inactive user is alive, unless the policy says otherwise.
    let inactive = [Has("u@d:x", 1), Inactive("u@d:x", 2), Has("v@d:x", 3)];
    check(&inactive, &[("u", "", None, None), ("v", "", None, None)]);
}

#[test]
fn a_policy_that_deletes_inactive_users_ends_them() {
    let steps = [Has("u@d:x", 1), Inactive("u@d:x", 2), Has("v@d:x", 3), Deleted("u@d:x", 4)];
    let server = serve(&steps);
    let of = |user: &str, cut: &str| others(&server, API_KEY, user, cut);
    let told = |text: &str| Some(text.to_owned());
    let three = format!("as_of={}", at(3));
    assert_eq!(of("u", &three), [None, None]);
    // It ended with its deletion, and nothing came after.
    assert_eq!(of("u", ""), [None, None]);
    let policy = json!({ "inactive_users": "delete", "effective_from": at(0) });
    assert_eq!(server.ask_as(API_KEY, "put", "/rollcall/v1/policy", Some(&policy)).status, 200);
    assert_eq!(of("u", &three), [told("v 3"), None]);
    assert_eq!(of("u", ""), [told("v 3"), None]);
    assert_eq!(of("v", ""), [None, told("u 2")]);
    assert_eq!(of("v", "known_at=4"), [None, None]);
}

#[test]
fn the_end_of_a_directory_ends_its_users() {
    let steps = [
        DirectoryOn("d", 0),
        Has("u@d:x", 1),
        DirectoryGone("d", 2),
        DirectoryOn("d", 3),
        Has("v@d:x", 4),
    ];
    check(&steps, &[("u", "", Some("v 4"), None), ("v", "", None, Some("u 2"))]);
}

#[test]
fn a_version_after_the_end_counts_of_one_who_was_there_before() {
    let steps = [Has("u@d:x", 1), Has("v@d:x", 2), Deleted("u@d:x", 3)];
    check(&steps, &[("u", "", None, None), ("v", "", None, None)]);
    let steps = [Has("u@d:x", 1), Has("v@d:x", 2), Deleted("u@d:x", 3), Has("v@d:x", 4)];
    check(&steps, &[("u", "", Some("v 4"), None), ("v", "", None, Some("u 3"))]);
    // The deletion of another one is no version.
    let steps = [Has("u@d:x", 1), Has("v@d:x", 2), Deleted("u@d:x", 3), Deleted("v@d:x", 4)];
    check(&steps, &[("u", "", None, None), ("v", "", None, None)]);
    // In one millisecond a deletion is last.
    let steps = [Has("u@d:x", 1), Deleted("u@d:x", 3), Has("v@d:x", 3)];
    check(&steps, &[("u", "", None, None), ("v", "", None, None)]);
}

#[test]
fn of_several_predecessors_the_last_to_end_is_named() {
    let steps = [
        Has("s@d:x", 1),
        Has("t@d:x", 1),
        Has("u@d:x", 1),
        Deleted("u@d:x", 2),
        Deleted("t@d:x", 3),
        Deleted("s@d:x", 3),
        Has("v@d:x", 4),
    ];
    check(
        &steps,
        &[
            ("u", "", Some("v 4"), None),
            ("t", "", Some("v 4"), None),
            ("s", "", Some("v 4"), None),
            ("v", "", None, Some("s 3")),
        ],
    );
}

#[test]
fn a_snapshot_in_a_membership_counts_until_the_user_is_announced() {
    let steps = [Has("u@d:x", 1), Deleted("u@d:x", 2), Joins("v@d:x", 3), Has("v@d:x", 5)];
    check(&steps, &[("u", "", Some("v 3"), None), ("v", "", None, Some("u 2"))]);
    let steps = [Has("u@d:x", 1), Has("v@d:y", 1), Deleted("u@d:x", 2), Joins("v@d:x", 3)];
    check(&steps, &[("u", "", None, None), ("v", "", None, None)]);
}

#[test]
fn a_person_is_told_by_the_last_version_before_the_end() {
    // The id of the provider changed before the end, and the deletion says another one again.
    let steps =
        [Has("u@d:x", 1), Has("u@d:y", 2), Deleted("u@d:x", 3), Has("v@d:x", 4), Has("w@d:y", 5)];
    check(
        &steps,
        &[("u", "", Some("w 5"), None), ("v", "", None, None), ("w", "", None, Some("u 3"))],
    );
}

#[test]
fn losses_of_access_name_the_other_user_too() {
    let steps = [Has("u@d:x", 1), Deleted("u@d:x", 2), Has("v@d:x", 3), Inactive("v@d:x", 4)];
    let server = serve(&steps);
    let list = |cut: &str| {
        let path = format!("/rollcall/v1/deprovisionings?{cut}");
        server.ask_as(API_KEY, "get", &path, None).json()["data"].clone()
    };
    let losses = list("");
    let of = |item: &Value| json!([item["user_id"], item["succeeded_by"], item["preceded_by"]]);
    let shown: Value = losses.as_array().unwrap().iter().map(of).collect();
    let expected = json!([
        ["u", { "user_id": "v", "since": at(3) }, null],
        ["v", null, { "user_id": "u", "until": at(2) }],
    ]);
    assert_eq!(shown, expected);
    assert_eq!(list("known_at=2")[0]["succeeded_by"], Value::Null);
    assert_eq!(list(&format!("as_of={}", at(2)))[0]["succeeded_by"], Value::Null);
}

#[test]
fn one_who_is_not_seen_is_not_named() {
    let steps = [
        DirectoryOn("d", 0),
        DirectoryOn("e", 0),
        Has("u@d:x", 1),
        Deleted("u@d:x", 2),
        Has("v@d:x", 3),
        Has("v@e:x", 4),
    ];
    let server = serve(&steps);
    let told = |text: &str| Some(text.to_owned());
    assert_eq!(others(&server, API_KEY, "u", ""), [told("v 3"), None]);
    assert_eq!(others(&server, API_KEY, "v", ""), [None, told("u 2")]);
    assert_eq!(others(&server, "sk_org_d", "u", ""), [None, None]);
    assert_eq!(others(&server, "sk_org_e", "v", ""), [None, None]);
    let three = format!("as_of={}", at(3));
    assert_eq!(others(&server, "sk_org_d", "u", &three), [told("v 3"), None]);
}
