//! What a key sees that is bound to one organization, case by case: given events, when asked, then
//! this answer.

use std::sync::Arc;

use actix_web::http::Method;
use rollcall::engine::Engine;
use rollcall::keys::{ApiKey, ApiKeys};
use rollcall::log::{Log, MemoryLog};
use serde_json::{Value, json};

use crate::kit::model::rfc3339;
use crate::kit::road::{Reply, Routes, engine, operate, settings, verified};
use crate::kit::server::API_KEY;

const START_MS: i64 = 1_767_225_600_000;

/// The moment of a second.
fn at(second: i64) -> String {
    rfc3339(START_MS + 1000 * second)
}

/// The moment at which a record is recorded.
fn recorded_ms(seq: i64) -> i64 {
    START_MS + 10_000 * seq
}

fn event(kind: &str, second: i64, data: Value) -> String {
    json!({ "object": "event", "id": format!("e{second}"), "event": format!("dsync.{kind}"),
        "created_at": at(second), "context": {}, "data": data })
    .to_string()
}

/// A directory of an organization, `a` or `b`.
fn directory(id: &str, organization: &str, second: i64) -> String {
    let data = json!({ "object": "directory", "id": id, "name": id, "state": "active",
        "organization_id": organization });
    event("activated", second, data)
}

fn user_in(directory: &str, email: &str) -> Value {
    json!({ "object": "directory_user", "id": "u", "directory_id": directory, "email": email,
        "state": "active" })
}

fn user(directory: &str, email: &str, second: i64) -> String {
    event("user.updated", second, user_in(directory, email))
}

fn group_in(directory: &str) -> Value {
    json!({ "object": "directory_group", "id": "g", "directory_id": directory, "name": "G" })
}

/// A server with a key for each of two organizations, named like them, and one for both.
struct Sights {
    engine: Arc<Engine>,
    routes: Routes,
}

impl Sights {
    async fn given(events: &[String]) -> Sights {
        let bound = [("a", &["a"][..]), ("b", &["b"]), ("ab", &["a", "b"])];
        let bound = bound.map(|(name, organizations)| ApiKey {
            name: Some(name.to_owned()),
            organizations: Some(organizations.iter().map(|id| (*id).to_owned()).collect()),
            ..ApiKey::unrestricted(name)
        });
        let mut settings = settings();
        let keys = bound.into_iter().chain([ApiKey::unrestricted(API_KEY)]);
        settings.api_keys = ApiKeys::new(keys).unwrap();
        let log = MemoryLog::new([7; 16]);
        for (event, seq) in events.iter().zip(1..) {
            log.append(vec![verified(event.as_bytes())], recorded_ms(seq)).unwrap();
        }
        let engine = engine(Arc::new(log));
        Sights { routes: Routes::of(engine.clone(), settings).await, engine }
    }

    async fn get(&self, key: &str, path: &str) -> Reply {
        self.routes.get(path, key).await
    }

    async fn statuses(&self, path: &str) -> [u16; 2] {
        [self.get("a", path).await.status, self.get("b", path).await.status]
    }

    /// Returns some fields of each item of a list.
    async fn items(&self, key: &str, path: &str, fields: &[&str]) -> Value {
        let items = self.routes.list(path, key).await;
        let shown = |item: Value| -> Value {
            fields.iter().map(|field| item.pointer(field).cloned().unwrap_or_default()).collect()
        };
        items.into_iter().map(shown).collect()
    }
}

impl Drop for Sights {
    fn drop(&mut self) {
        self.engine.close();
    }
}

fn asking(events: &[String], questions: impl AsyncFnOnce(&Sights)) {
    actix_web::rt::System::new().block_on(async {
        let sights = Sights::given(events).await;
        questions(&sights).await;
    });
}

#[test]
fn a_directory_that_changes_hands_is_of_its_organization_at_the_cut() {
    let events = [directory("d", "a", 1), user("d", "u@x.example", 2), directory("d", "b", 10)];
    asking(&events, async |sights| {
        for path in ["/directories/d", "/directory_users/u"] {
            assert_eq!(sights.statuses(path).await, [404, 200], "{path}");
            let before = format!("{path}?as_of={}", at(9));
            assert_eq!(sights.statuses(&before).await, [200, 404], "{before}");
            let unlearned = format!("{path}?known_at=2");
            assert_eq!(sights.statuses(&unlearned).await, [200, 404], "{unlearned}");
        }
        let diff = format!("/rollcall/v1/diff?from={}", at(9));
        let fields = ["/kind", "/change", "/user_id"];
        assert_eq!(sights.items("a", &diff, &fields).await, json!([["user", "removed", "u"]]));
        assert_eq!(sights.items("b", &diff, &fields).await, json!([["user", "added", "u"]]));
        // The event was recorded when the directory was of `a`.
        let events = "/events?events=dsync.user.updated";
        assert_eq!(sights.items("a", events, &["/id"]).await, json!([["e2"]]));
        assert_eq!(sights.items("b", events, &["/id"]).await, json!([]));
        assert_eq!(sights.statuses("/rollcall/v1/log/entries/2").await, [200, 404]);
        let history = "/rollcall/v1/users/u/history";
        assert_eq!(sights.items("b", history, &["/change"]).await, json!([]));
        let access =
            sights.items("b", "/rollcall/v1/users/u/access", &["/from", "/start/event_id"]);
        assert_eq!(access.await, json!([[at(2), null]]));
    });
}

#[test]
fn a_user_who_moved_is_seen_where_it_is_and_its_past_elsewhere_is_not() {
    let events = [
        directory("d", "a", 1),
        directory("e", "b", 2),
        user("d", "old@x.example", 3),
        user("e", "new@x.example", 5),
        user("e", "new@x.example", 6),
    ];
    asking(&events, async |sights| {
        assert_eq!(sights.statuses("/directory_users/u").await, [404, 200]);
        // The event of the move tells of both.
        assert_eq!(sights.statuses("/rollcall/v1/log/entries/4").await, [404, 404]);
        let before = format!("/directory_users/u?as_of={}", at(4));
        assert_eq!(sights.statuses(&before).await, [200, 404]);
        let history = "/rollcall/v1/users/u/history";
        assert_eq!(sights.statuses(history).await, [404, 200]);
        let fields = ["/cause/event_id", "/changed/email", "/changed/directory_id"];
        let (email, home) = ("new@x.example", "e");
        let whole = json!([[
            "e6", { "from": null, "to": email }, { "from": null, "to": home }
        ]]);
        assert_eq!(sights.items("b", history, &fields).await, whole);
        for (key, email, holders) in [
            ("a", "old", json!([])),
            ("a", "new", json!([])),
            ("b", "old", json!([])),
            ("b", "new", json!([["u", true]])),
        ] {
            let path = format!("/rollcall/v1/users?email={email}%40x.example");
            let found = sights.items(key, &path, &["/user_id", "/shows"]).await;
            assert_eq!(found, holders, "{key}: {email}");
        }
        // The access never ended. When it began is a fact; by which event is a matter of `a`.
        let access =
            sights.items("b", "/rollcall/v1/users/u/access", &["/from", "/start/event_id"]);
        assert_eq!(access.await, json!([[at(3), null]]));
    });
}

/// Checks who sees the last of some events: of the keys of `a`, of `b` and of both.
fn check_last(about: &str, events: &[String], seen: [bool; 3]) {
    asking(events, async |sights| {
        let last: Value = serde_json::from_str(events.last().unwrap()).unwrap();
        let (kind, id) = (last["event"].as_str().unwrap(), json!([last["id"]]));
        for (key, seen) in ["a", "b", "ab"].into_iter().zip(seen) {
            let path = format!("/rollcall/v1/log/entries/{}", events.len());
            let status = if seen { 200 } else { 404 };
            assert_eq!(sights.get(key, &path).await.status, status, "{about}: {key}");
            let listed = sights.items(key, &format!("/events?events={kind}"), &["/id"]).await;
            assert_eq!(listed.as_array().unwrap().contains(&id), seen, "{about}: {key}");
        }
    });
}

const BY_BOTH: [bool; 3] = [false, false, true];

#[test]
fn an_event_of_a_user_group_or_directory_that_tells_of_two_is_seen_by_a_key_of_both() {
    let with = |mut data: Value, name: &str, value: Value| {
        data[name] = value;
        data
    };
    let in_d = || user_in("d", "u@x.example");
    let directories = [directory("d", "a", 1), directory("e", "b", 2)];
    let after = |first: Option<String>, last: String| {
        [&directories[..], &first.into_iter().collect::<Vec<_>>(), &[last]].concat()
    };
    let updated = |data| event("user.updated", 9, data);
    let own = Some(user("d", "u@x.example", 3));
    let of_b = Some(user("e", "u@x.example", 3));
    let former = |name: &str, id: &str| json!({ name: id, "email": "old@x.example" });
    let previous = |name, id| with(in_d(), "previous_attributes", former(name, id));
    let of_d = json!({ "object": "directory", "id": "d", "name": "d", "organization_id": "a" });
    let of_d = with(of_d, "previous_attributes", former("organization_id", "b"));
    let mut by_context: Value = serde_json::from_str(&updated(in_d())).unwrap();
    by_context["context"] = json!({ "previous_attributes": { "directory_id": "e" } });
    let group = |home, second| event("group.updated", second, group_in(home));
    for (about, events, seen) in [
        ("a plain update", after(own.clone(), updated(in_d())), [true, false, true]),
        ("a move", after(of_b.clone(), updated(in_d())), BY_BOTH),
        ("a group's move", after(Some(group("e", 3)), group("d", 9)), BY_BOTH),
        ("a former directory", after(None, updated(previous("directory_id", "e"))), BY_BOTH),
        ("a former organization", after(None, updated(previous("organization_id", "b"))), BY_BOTH),
        ("former values in the context", after(None, by_context.to_string()), BY_BOTH),
        (
            "the own directory",
            after(None, updated(previous("directory_id", "d"))),
            [true, false, true],
        ),
        ("an unknown directory", after(None, updated(previous("directory_id", "x"))), [false; 3]),
        ("a directory's former owner", after(None, event("activated", 9, of_d)), BY_BOTH),
        ("a new owner", after(None, directory("e", "a", 9)), BY_BOTH),
        (
            "an organization that is not the directory's",
            after(None, updated(with(user_in("e", "u@x.example"), "organization_id", json!("a")))),
            BY_BOTH,
        ),
        (
            "a deletion that names another home",
            after(of_b, event("user.deleted", 9, in_d())),
            BY_BOTH,
        ),
    ] {
        check_last(about, &events, seen);
    }
}

#[test]
fn a_deletion_without_a_directory_is_of_the_home_that_memberships_say() {
    let deleted = || json!({ "object": "directory_user", "id": "u" });
    let membership = json!({ "directory_id": "d", "user": user_in("d", "u@x.example"),
        "group": group_in("d") });
    let events = [
        directory("d", "a", 1),
        event("group.user_added", 5, membership),
        event("user.deleted", 9, deleted()),
    ];
    check_last("a user known from a membership", &events, [true, false, true]);
}

#[test]
fn a_membership_is_of_all_directories_by_what_is_known_at_its_record() {
    let membership = |of_user: &str| {
        let data = json!({ "directory_id": "d", "user": user_in(of_user, "u@x.example"),
            "group": group_in("d") });
        event("group.user_added", 5, data)
    };
    let own = directory("d", "a", 1);
    check_last("one directory", &[own.clone(), membership("d")], [true, false, true]);
    let late = [own.clone(), directory("e", "b", 9), membership("e")];
    check_last("a directory that is activated later", &late, BY_BOTH);
    check_last("a directory of an unknown organization", &[own, membership("x")], [false; 3]);
}

#[test]
fn a_role_by_a_foreign_group_is_held_and_the_group_is_not_named() {
    let membership = json!({ "directory_id": "e", "user": user_in("d", "u@x.example"),
        "group": group_in("e") });
    let events = [
        directory("d", "a", 1),
        directory("e", "b", 2),
        user("d", "u@x.example", 3),
        event("group.created", 4, group_in("e")),
        event("group.user_added", 5, membership),
    ];
    asking(&events, async |sights| {
        let rule = json!({ "group": { "name": "G" }, "roles": ["r"] });
        let body = json!({ "mapping": { "rules": [rule] }, "effective_from": at(1) });
        let set = operate(Method::PUT, "/rollcall/v1/role_mapping", &body);
        assert_eq!(sights.routes.send(set).await.status, 200);
        let user = sights.get("a", "/directory_users/u").await.json();
        assert_eq!((&user["roles"], &user["groups"]), (&json!([{ "slug": "r" }]), &json!([])));
        let path = "/rollcall/v1/role_assignments";
        let assigned = sights.items("a", path, &["/user_id", "/role", "/since", "/because"]).await;
        assert_eq!(assigned, json!([["u", "r", at(5), []]]));
        assert_eq!(sights.items("b", path, &["/user_id"]).await, json!([]));
        // Which roles the mapping has is not for bound keys.
        for (key, role, status) in [("b", "r", 200), ("b", "x", 200), (API_KEY, "x", 404)] {
            let of_role = format!("{path}?role={role}");
            let reply = sights.get(key, &of_role).await;
            assert_eq!(reply.status, status, "{key}: {role}");
            if status == 200 {
                assert_eq!(reply.json()["data"], json!([]), "{key}: {role}");
            }
        }
        let group = sights.get("b", "/directory_groups/g?members=true").await.json();
        assert_eq!(group["members"], json!([]));
        for (key, path) in [
            ("a", "/rollcall/v1/users/u/groups"),
            ("b", "/rollcall/v1/groups/g/members"),
            ("a", "/events?events=dsync.group.user_added"),
            ("b", "/events?events=dsync.group.user_added"),
        ] {
            assert_eq!(sights.items(key, path, &["/object"]).await, json!([]), "{path}");
        }
        assert_eq!(sights.statuses("/rollcall/v1/log/entries/5").await, [404, 404]);
    });
}

#[test]
fn the_loss_of_access_of_a_user_who_is_elsewhere_now_is_shown_to_a_key_of_both() {
    let events = [
        directory("d", "a", 1),
        directory("e", "b", 2),
        user("d", "u@x.example", 3),
        event("deleted", 4, json!({ "id": "d", "organization_id": "a" })),
        user("e", "u@x.example", 6),
    ];
    let (path, email) = ("/rollcall/v1/deprovisionings", "email=u%40x.example");
    asking(&events, async |sights| {
        // For `a` there is no such user any more, and `b` does not see the directory that it left.
        let (none, one) = (json!([]), json!([["u", "d"]]));
        for (key, ended) in [("a", &none), ("b", &none), ("ab", &one), (API_KEY, &one)] {
            for path in [path.to_owned(), format!("{path}?{email}")] {
                let items = sights.items(key, &path, &["/user_id", "/directory_id"]).await;
                assert_eq!(items, *ended, "{key}: {path}");
            }
        }
        assert_eq!(sights.statuses(&format!("{path}?user=u")).await, [404, 200]);
        // Before the move it was still known to `a`.
        let before = format!("{path}?as_of={}", at(5));
        assert_eq!(sights.items("a", &before, &["/user_id", "/directory_id"]).await, one);
    });
}

/// Returns the intake that `stats` show of the directory `d`.
async fn intake(sights: &Sights, key: &str) -> Value {
    let stats = sights.get(key, "/rollcall/v1/stats?directory=d").await.json();
    let directory = &stats["directories"]["data"][0];
    assert_eq!(directory["silent_ms"].is_null(), directory["last_event_at"].is_null());
    json!([directory["last_event_at"], directory["initial_sync"]["memberships"]])
}

#[test]
fn the_intake_of_a_directory_counts_for_a_bound_key_what_tells_of_its_organization_alone() {
    let membership = |second, group: Value| {
        let user = user_in("d", "u@x.example");
        let data = json!({ "directory_id": "d", "user": user, "group": group });
        event("group.user_added", second, data)
    };
    let events = [
        directory("d", "a", 1),
        directory("e", "b", 2),
        event("user.created", 3, user_in("d", "u@x.example")),
        membership(4, group_in("d")),
        membership(5, json!({ "object": "directory_group", "id": "h", "directory_id": "e" })),
    ];
    asking(&events, async |sights| {
        let [own, mixed] = [4, 5].map(|seq| rfc3339(recorded_ms(seq)));
        assert_eq!(intake(sights, "a").await, json!([own, 1]));
        assert_eq!(intake(sights, API_KEY).await, json!([mixed, 2]));
    });
    // Of the events of its former organization the new one is shown nothing.
    let handed_over = [&events[..4], &[directory("d", "b", 6)]].concat();
    asking(&handed_over, async |sights| {
        assert_eq!(intake(sights, "b").await, json!([null, null]));
    });
}

#[test]
fn a_foreign_id_is_no_cursor_and_a_foreign_directory_is_not_deleted() {
    let events = [directory("d", "a", 1), directory("e", "b", 2)];
    asking(&events, async |sights| {
        let list = "/events?events=dsync.activated&after=";
        for cursor in ["e2", "e9"] {
            let reply = sights.get("a", &format!("{list}{cursor}")).await;
            assert_eq!(
                (reply.status, reply.json()["code"].as_str()),
                (422, Some("cursor_invalid"))
            );
        }
        for id in ["e", "nowhere"] {
            let reply = sights.routes.ask("DELETE", &format!("/directories/{id}"), "a").await;
            let expected = json!({ "message": format!("Directory not found: '{id}'."),
                "code": "entity_not_found", "entity_id": id });
            assert_eq!((reply.status, reply.json()), (404, expected));
        }
        assert_eq!(sights.statuses("/directories/e").await, [404, 200]);
        for _ in 0..2 {
            assert_eq!(sights.routes.ask("DELETE", "/directories/d", "a").await.status, 202);
        }
        assert_eq!(sights.statuses("/directories/d").await, [404, 404]);
    });
}
