//! The requests of identity providers, as they send them, with the answers and events that each
//! must give. The same rules hold for all of them: none is told by its name.

use serde_json::{Value, json};

use crate::kit::scim::{Directory, Request, patch};
use crate::kit::server::{Answer, Server, holds};

/// A directory with the number of events that were seen.
struct Session {
    directory: Directory,
    seen: usize,
}

impl Session {
    fn new(server: &Server, organization: &str, deactivation: &str) -> Session {
        Session { directory: Directory::create(server, organization, deactivation), seen: 0 }
    }

    /// Sends a request, and expects its status, a part of its answer, and the events that follow.
    fn step(
        &mut self,
        method: &str,
        path: &str,
        body: Option<Value>,
        expected: Expected,
    ) -> Answer {
        let answer = self.directory.call(method, path, body.as_ref());
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        assert_eq!(answer.status, expected.status, "{method} {path} {body:?}: {text}");
        if let Some(part) = &expected.part {
            assert!(holds(part, &answer.json()), "{method} {path}: {part} is not in {text}");
        }
        let types = self.directory.event_types(self.seen);
        assert_eq!(types, expected.events, "{method} {path} {body:?}");
        self.seen += types.len();
        answer
    }

    fn create(&mut self, path: &str, body: Value, events: &[&'static str]) -> String {
        let answer = self.step("POST", path, Some(body), status(201).events(events));
        answer.json()["id"].as_str().unwrap().to_owned()
    }

    /// Sends operations, and returns the resource.
    fn patch(&mut self, path: &str, operations: Value, events: &[&'static str]) -> Value {
        self.step("PATCH", path, Some(patch(operations)), status(200).events(events)).json()
    }

    fn finds(&mut self, path: &str, total: u64) {
        self.step("GET", path, None, status(200).part(json!({ "totalResults": total })));
    }

    /// The data of the last event.
    fn last(&self) -> Value {
        self.directory.events().last().unwrap()["data"].clone()
    }
}

struct Expected {
    status: u16,
    part: Option<Value>,
    events: Vec<&'static str>,
}

fn status(status: u16) -> Expected {
    Expected { status, part: None, events: Vec::new() }
}

impl Expected {
    fn part(self, part: Value) -> Expected {
        Expected { part: Some(part), ..self }
    }

    fn events(self, events: &[&'static str]) -> Expected {
        Expected { events: events.to_vec(), ..self }
    }
}

const CORE: &str = "urn:ietf:params:scim:schemas:core:2.0:User";
const ENTERPRISE: &str = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User";

#[test]
fn entra_finds_creates_patches_and_counts_members() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let mut entra = Session::new(&server, "org_a", "delete");
    entra.finds("/Users?filter=userName+eq+%22b5d3c5e4-0000-4000-8000-000000000000%22", 0);
    let boss = entra.create(
        "/Users",
        json!({
            "schemas": [CORE, ENTERPRISE], "externalId": "0a21f0f2", "userName": "boss@a.test",
            "active": true, "addresses": null, "phoneNumbers": null, "title": null,
            "department": null, "manager": null, "roles": [],
            "emails": [{ "primary": true, "type": "work", "value": "boss@a.test" }],
            "meta": { "resourceType": "User" },
            "name": { "formatted": "Bo Ss", "givenName": "Bo", "familyName": "Ss" },
        }),
        &["user.created"],
    );
    let jo = entra.create(
        "/Users",
        json!({
            "schemas": [CORE, ENTERPRISE], "externalId": "jyoung", "userName": "jo@a.test",
            "active": true, "emails": [{ "primary": true, "type": "work", "value": "jo@a.test" }],
        }),
        &["user.created"],
    );
    entra.finds("/Users?filter=externalId+eq+%22jyoung%22", 1);
    entra.finds("/Users?filter=externalId%20eq%20jyoung", 1);
    entra.finds("/Users?filter=emails%5Btype+eq+%22work%22%5D.value+eq+%22JO@a.test%22", 1);
    let path = format!("/Users/{jo}");
    let shown = entra.patch(
        &path,
        json!([
            { "op": "Replace", "path": "emails[type eq \"work\"].value", "value": "jo2@a.test" },
            { "op": "Add", "path": format!("{ENTERPRISE}:department"), "value": "Sales" },
            { "op": "Add", "path": "manager", "value": [{ "$ref": "http://h/Users/M", "value": boss }] },
            { "op": "Add", "path": "phoneNumbers[type eq \"mobile\"].value", "value": "+1 555" },
        ]),
        &["user.updated"],
    );
    assert_eq!(shown["emails"][0]["value"], "jo2@a.test");
    assert_eq!(shown[ENTERPRISE]["department"], "Sales");
    assert_eq!(shown["phoneNumbers"][0]["value"], "+1 555");
    let part = json!({
        "email": "jo2@a.test",
        "custom_attributes": { "department_name": "Sales", "manager_email": "boss@a.test" },
        "previous_attributes": {
            "email": "jo@a.test", "custom_attributes": { "department_name": null },
        },
    });
    assert!(holds(&part, &entra.last()), "{}", entra.last());
    entra.finds(
        &format!("/Users?filter=id+eq+%22{jo}%22+and+manager+eq+%22{boss}%22&attributes=id"),
        1,
    );
    let group = entra.create(
        "/Groups",
        json!({
            "schemas": ["urn:ietf:params:scim:schemas:core:2.0:Group",
                "http://schemas.microsoft.com/2006/11/ResourceManagement/ADSCIM/2.0/Group"],
            "externalId": "g-1", "displayName": "Group1",
        }),
        &["group.created"],
    );
    entra.finds("/Groups?excludedAttributes=members&filter=displayName+eq+%22group1%22", 1);
    let of = format!("/Groups/{group}");
    let add = |id: &str| json!([{ "op": "Add", "path": "members", "value": [{ "$ref": null, "value": id }] }]);
    entra.patch(&of, add(&jo), &["group.user_added"]);
    entra.patch(&of, add(&jo), &[]);
    entra.patch(&of, add(&boss), &["group.user_added"]);
    let member = |id: &str| {
        format!(
            "/Groups?excludedAttributes=members&filter=id+eq+%22{group}%22+and+members+eq+%22{id}%22"
        )
    };
    entra.finds(&member(&jo), 1);
    let remove =
        json!([{ "op": "Remove", "path": "members", "value": [{ "$ref": null, "value": jo }] }]);
    entra.patch(&of, remove.clone(), &["group.user_removed"]);
    entra.patch(&of, remove, &[]);
    entra.finds(&member(&jo), 0);
    entra.finds(&member(&boss), 1);
    // With the flag: lower case, real booleans, keys that are paths.
    let flagged = format!("{path}?aadOptscim062020");
    let value = json!({ "name.givenName": "Jo", format!("{ENTERPRISE}:employeeNumber"): "7" });
    entra.patch(&flagged, json!([{ "op": "replace", "value": value }]), &["user.updated"]);
    let removed = json!([{ "op": "remove", "path": format!("members[value eq \"{boss}\"]") }]);
    entra.patch(&of, removed, &["group.user_removed"]);
    entra.patch(&of, add(&jo), &["group.user_added"]);
    let off = json!([{ "op": "Replace", "path": "active", "value": "False" }]);
    assert_eq!(entra.patch(&path, off, &["user.deleted"])["active"], false);
    let on = json!([{ "op": "Replace", "path": "active", "value": "True" }]);
    entra.patch(&path, on, &["user.created", "group.user_added"]);
    entra.step("DELETE", &path, None, status(204).events(&["user.deleted"]));
    entra.step("DELETE", &of, None, status(204).events(&["group.deleted"]));
    entra.directory.expect_events_to_tell_all();
}

#[test]
fn okta_never_deletes_and_repeats_names_with_members() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    for deactivation in ["delete", "update"] {
        let mut okta = Session::new(&server, &format!("org_{deactivation}"), deactivation);
        okta.finds("/Users?startIndex=1&count=2", 0);
        okta.finds("/Users?filter=userName%20eq%20%22a%40b%22&startIndex=1&count=100", 0);
        let body = json!({
            "schemas": [CORE], "userName": "a@b.test", "externalId": "00ujl29u0le5T6Aj10h7",
            "name": { "givenName": "A", "familyName": "B" }, "displayName": "A B", "locale": "en-US",
            "emails": [{ "primary": true, "value": "a@b.test", "type": "work" }],
            "groups": [], "password": "1mz050nq", "active": true,
        });
        let one = okta.create("/Users", body.clone(), &["user.created"]);
        okta.step(
            "POST",
            "/Users",
            Some(body.clone()),
            status(409).part(json!({ "scimType": "uniqueness" })),
        );
        assert_eq!(okta.last()["idp_id"], "00ujl29u0le5T6Aj10h7");
        let mut second = body.clone();
        second["userName"] = json!("c@b.test");
        second["externalId"] = json!("00u2");
        let two = okta.create("/Users", second, &["user.created"]);
        let group = okta.create(
            "/Groups",
            json!({ "schemas": ["urn:ietf:params:scim:schemas:core:2.0:Group"], "displayName": "Test", "members": [] }),
            &["group.created"],
        );
        assert_eq!(okta.last()["idp_id"], "Test");
        let of = format!("/Groups/{group}");
        let name = json!({ "op": "replace", "value": { "id": group, "displayName": "Test" } });
        let add = |id: &str| json!({ "op": "add", "path": "members", "value": [{ "value": id, "display": "u" }] });
        okta.patch(&of, json!([name, add(&one)]), &["group.user_added"]);
        let swap = json!([
            { "op": "remove", "path": format!("members[value eq \"{one}\"]") }, add(&two),
        ]);
        okta.patch(&of, swap, &["group.user_removed", "group.user_added"]);
        let all = json!([{ "op": "replace", "path": "members", "value": [{ "value": one }, { "value": two }] }]);
        okta.patch(&of, all, &["group.user_added"]);
        // A replacement of another attribute leaves the members alone.
        okta.patch(
            &of,
            json!([{ "op": "replace", "value": { "id": group, "displayName": "Renamed" } }]),
            &["group.updated"],
        );
        // Inactive: by PATCH, then active again by PUT of the whole.
        let path = format!("/Users/{one}");
        let off = json!([{ "op": "replace", "value": { "active": false } }]);
        let is_delete = deactivation == "delete";
        okta.patch(&path, off, &[if is_delete { "user.deleted" } else { "user.updated" }]);
        let mut whole =
            okta.step("GET", &path, None, status(200).part(json!({ "active": false }))).json();
        whole["active"] = json!(true);
        let events: &[&'static str] =
            if is_delete { &["user.created", "group.user_added"] } else { &["user.updated"] };
        okta.step("PUT", &path, Some(whole.clone()), status(200).events(events));
        okta.step("PUT", &path, Some(whole), status(200));
        // Push now, empty.
        let none = json!({ "Operations": [{ "op": "replace", "value": { "id": group, "displayName": "Renamed", "members": [] } }] });
        okta.step(
            "PATCH",
            &of,
            Some(none),
            status(200).events(&["group.user_removed", "group.user_removed"]),
        );
        okta.directory.expect_events_to_tell_all();
    }
}

#[test]
fn other_providers_send_what_they_send() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let mut one = Session::new(&server, "org_a", "delete");
    // OneLogin: no User-Agent, only plain JSON, one email as an object.
    let headers = vec![
        ("User-Agent", ""),
        ("Accept", "application/json"),
        ("Content-Type", "application/json"),
    ];
    let body =
        json!({ "schemas": [CORE], "userName": "one@l.test", "emails": { "value": "one@l.test" } });
    let request = Request { method: "POST", path: "/Users", headers, body: Some(body.to_string()) };
    let answer = one.directory.send(&request);
    assert_eq!((answer.status, answer.header("content-type")), (201, Some("application/json")));
    assert_eq!(one.directory.event_types(0), ["user.created"]);
    one.seen = 1;
    assert_eq!(one.last()["email"], "one@l.test");
    // JumpCloud: nulls and empty lists, members removed by a list of values.
    let jump = one.create(
        "/Users",
        json!({
            "userName": "jump", "emails": null, "addresses": [], "externalId": "5f0c1d2e3b4a",
            "phoneNumbers": [{ "type": "work", "value": "tel:+1-201-555-0123" }],
        }),
        &["user.created"],
    );
    assert_eq!(one.last()["email"], Value::Null);
    let group = one.create(
        "/Groups",
        json!({ "displayName": "jump", "members": [{ "value": jump }] }),
        &["group.created", "group.user_added"],
    );
    let of = format!("/Groups/{group}");
    let remove = json!([{ "op": "remove", "path": "members", "value": [{ "value": jump }] }]);
    one.patch(&of, remove, &["group.user_removed"]);
    one.step("DELETE", &of, None, status(204).events(&["group.deleted"]));
    one.step("DELETE", &format!("/Users/{jump}"), None, status(204).events(&["user.deleted"]));
    // PingFederate: distinguished names, and lists that are replaced by nothing.
    let dn = "cn=Staff,ou=Groups,dc=a,dc=test";
    let ping = one.create("/Users", json!({ "userName": "ping", "externalId": "uid=ping,dc=a", "emails": [{ "value": "ping@a.test", "type": "work" }] }), &["user.created"]);
    one.finds("/Users?filter=emails%20eq%20%22ping@a.test%22", 1);
    let staff = one.create("/Groups", json!({ "displayName": dn }), &["group.created"]);
    one.patch(
        &format!("/Groups/{staff}"),
        json!([{ "op": "replace", "path": "members", "value": [{ "value": ping }] }]),
        &["group.user_added"],
    );
    one.patch(
        &format!("/Groups/{staff}"),
        json!([{ "op": "replace", "path": "members", "value": [] }]),
        &["group.user_removed"],
    );
    // Rippling: the address of the primary one, and creations that are repeated.
    one.step(
        "GET",
        "/ServiceProviderConfig",
        None,
        status(200).part(json!({ "patch": { "supported": true }, "bulk": { "supported": false } })),
    );
    let rippling =
        json!({ "userName": "rip", "emails": [{ "value": "rip@a.test", "primary": true }] });
    let rip = one.create("/Users", rippling.clone(), &["user.created"]);
    one.step("POST", "/Users", Some(rippling), status(409));
    let email = json!([{ "op": "replace", "path": "emails[primary eq true].value", "value": "rip2@a.test" }]);
    one.patch(&format!("/Users/{rip}"), email, &["user.updated"]);
    // CyberArk: discovery item by item, PUT.
    for path in [
        "/Schemas/urn:ietf:params:scim:schemas:core:2.0:Group",
        "/ResourceTypes/User",
        "/ResourceTypes/Group",
    ] {
        one.step("GET", path, None, status(200));
    }
    let path = format!("/Users/{rip}");
    one.step("PUT", &path, Some(json!({ "userName": "rip", "displayName": "Rip", "emails": [{ "value": "rip2@a.test", "primary": true }] })), status(200).events(&["user.updated"]));
    // Unknown members sink no push; a numeric externalId is not an id.
    let unknown = json!([{ "op": "add", "path": "members", "value": [{ "value": "gone" }, { "value": rip }] }]);
    one.patch(&format!("/Groups/{staff}"), unknown, &["group.user_added"]);
    one.create("/Users", json!({ "userName": "num", "externalId": "12345" }), &["user.created"]);
    one.step("GET", "/Users/12345", None, status(404));
    // A replacement by a filter must find a member; one that is found makes way for another.
    let group = format!("/Groups/{staff}");
    let replace = |at: &str, value: Value| {
        patch(json!([{ "op": "replace", "path": format!("members[{at}"), "value": value }]))
    };
    for (at, value) in [
        ("value eq \"zz\"].display", json!("x")),
        ("value eq \"zz\"]", json!({ "value": rip })),
        ("type eq \"Group\"]", json!([{ "value": rip }])),
    ] {
        let refused = status(400).part(json!({ "status": "400", "scimType": "noTarget" }));
        one.step("PATCH", &group, Some(replace(at, value)), refused);
    }
    let at = format!("value eq \"{rip}\"]");
    let display = replace(&format!("{at}.display"), json!("Rip"));
    one.step("PATCH", &group, Some(display), status(200));
    let next = one.create("/Users", json!({ "userName": "next" }), &["user.created"]);
    let replaced = status(200).events(&["group.user_removed", "group.user_added"]);
    one.step("PATCH", &group, Some(replace(&at, json!([{ "value": next }]))), replaced);
    let by_filter = json!([{ "op": "remove", "path": "members[type eq \"user\"]" }]);
    one.patch(&group, by_filter, &["group.user_removed"]);
    // Members that are groups are kept, shown, and cause no events.
    let nested = one.create(
        "/Groups",
        json!({ "displayName": "nested", "members": [{ "value": staff, "type": "Group" }] }),
        &["group.created"],
    );
    let shown = one.directory.get(&format!("/Groups/{nested}"));
    assert!(holds(&json!([{ "value": staff, "type": "Group" }]), &shown["members"]), "{shown}");
    one.step("DELETE", &path, None, status(204).events(&["user.deleted"]));
    one.directory.expect_events_to_tell_all();
}
