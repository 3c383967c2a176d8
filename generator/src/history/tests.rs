//! Checks generated events by a replay that knows only what the events say.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use serde_json::{Value, json};
use ulid::Ulid;

use super::*;
use crate::timestamp;

/// A history of one directory with the usual delays.
fn plan() -> HistoryPlan {
    HistoryPlan {
        people: 100,
        directories: 1,
        seed: 1,
        days: 90,
        start: 1_767_600_000_000,
        late: 0.05,
        duplicates: 0.02,
    }
}

/// A history without delays and duplicates.
fn punctual() -> HistoryPlan {
    HistoryPlan { late: 0.0, duplicates: 0.0, ..plan() }
}

fn generated(plan: HistoryPlan) -> Vec<String> {
    plan.bodies().collect()
}

/// Returns the distinct events in the order in which they happened.
fn in_order(bodies: &[String]) -> Vec<Value> {
    let distinct: BTreeSet<&String> = bodies.iter().collect();
    let mut events: Vec<Value> =
        distinct.into_iter().map(|body| serde_json::from_str(body).unwrap()).collect();
    events.sort_by_key(|event| (text(&event["created_at"]), text(&event["id"])));
    events
}

fn moment(value: &Value) -> Millis {
    chrono::DateTime::parse_from_rfc3339(&text(value)).unwrap().timestamp_millis()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is not a text")).to_owned()
}

/// The state of a receiver that reads every event in order.
#[derive(Default)]
struct Replay {
    directories: BTreeSet<String>,
    users: BTreeMap<String, Value>,
    groups: BTreeMap<String, Value>,
    members: BTreeSet<(String, String)>,
    gone: HashSet<String>,
    happened: BTreeMap<String, usize>,
}

impl Replay {
    fn of(bodies: &[String]) -> Replay {
        let mut replay = Replay::default();
        for event in in_order(bodies) {
            replay.take(&event);
        }
        replay
    }

    fn take(&mut self, event: &Value) {
        let (name, data) = (text(&event["event"]), &event["data"]);
        *self.happened.entry(name.clone()).or_default() += 1;
        let happened = moment(&event["created_at"]);
        assert_eq!(ulid(&event["id"], "event").timestamp_ms() as i64, happened, "{event}");
        match name.as_str() {
            "dsync.activated" => {
                ulid(&data["id"], "directory");
                assert!(self.directories.insert(text(&data["id"])), "{event}");
            }
            "dsync.user.created" | "dsync.group.created" => {
                assert!(self.directories.contains(&text(&data["directory_id"])), "{event}");
                assert_eq!(data["created_at"], data["updated_at"]);
                let id = text(&data["id"]);
                let made = ulid(&data["id"], id.rsplit_once('_').unwrap().0).timestamp_ms();
                assert_eq!(timestamp(made as i64), text(&data["created_at"]), "{event}");
                assert!(!self.gone.contains(&id), "{event}");
                let before = self.known(&name).insert(id, data.clone());
                assert!(before.is_none(), "{event}");
            }
            "dsync.user.updated" | "dsync.group.updated" => {
                let mut after = data.clone();
                let previous =
                    after.as_object_mut().unwrap().remove("previous_attributes").unwrap();
                let before = self
                    .known(&name)
                    .insert(text(&data["id"]), after.clone())
                    .unwrap_or_else(|| panic!("{event}"));
                assert_eq!(
                    undone(after.clone(), &previous),
                    without_update(before.clone()),
                    "{event}"
                );
                assert!(!previous.as_object().unwrap().is_empty(), "{event}");
                assert!(text(&after["updated_at"]) > text(&before["updated_at"]), "{event}");
            }
            "dsync.user.deleted" | "dsync.group.deleted" => {
                let id = text(&data["id"]);
                let before = self.known(&name).remove(&id).unwrap_or_else(|| panic!("{event}"));
                // A leaver's last snapshot differs from the known one only in the state: inactive.
                let last = without_update(data.clone());
                assert!(last.get("state").is_none_or(|state| state == "inactive"), "{event}");
                let stateless = |mut snapshot: Value| {
                    snapshot.as_object_mut().unwrap().remove("state");
                    snapshot
                };
                assert_eq!(stateless(last), stateless(without_update(before)), "{event}");
                self.members.retain(|(group, user)| *group != id && *user != id);
                self.gone.insert(id);
            }
            "dsync.group.user_added" | "dsync.group.user_removed" => {
                let (user, group) = (text(&data["user"]["id"]), text(&data["group"]["id"]));
                assert_eq!(self.users.get(&user), Some(&data["user"]), "{event}");
                assert_eq!(self.groups.get(&group), Some(&data["group"]), "{event}");
                assert_eq!(data["directory_id"], data["user"]["directory_id"]);
                assert_eq!(data["directory_id"], data["group"]["directory_id"]);
                let changed = match name.ends_with("added") {
                    true => data["user"]["state"] == "active" && self.members.insert((group, user)),
                    false => self.members.remove(&(group, user)),
                };
                assert!(changed, "{event}");
            }
            other => panic!("{other}"),
        }
    }

    fn known(&mut self, event: &str) -> &mut BTreeMap<String, Value> {
        if event.contains(".user.") { &mut self.users } else { &mut self.groups }
    }
}

fn ulid(id: &Value, kind: &str) -> Ulid {
    let id = text(id);
    Ulid::from_string(
        id.strip_prefix(&format!("{kind}_")).unwrap_or_else(|| panic!("{id} is not a {kind}")),
    )
    .unwrap()
}

/// Returns the snapshot before an update: changed fields get their old values, new fields go.
fn undone(mut after: Value, previous: &Value) -> Value {
    for (key, old) in previous.as_object().unwrap() {
        match (key.as_str(), old) {
            ("custom_attributes", old) => after[key] = undone(after[key].clone(), old),
            (_, Value::Null) => drop(after.as_object_mut().unwrap().remove(key)),
            (_, old) => after[key] = old.clone(),
        }
    }
    without_update(after)
}

fn without_update(mut snapshot: Value) -> Value {
    snapshot.as_object_mut().unwrap().remove("updated_at");
    snapshot
}

#[test]
fn the_same_arguments_give_the_same_bytes_and_another_seed_others() {
    let once = generated(HistoryPlan { people: 30, days: 20, seed: 5, directories: 2, ..plan() });
    assert_eq!(
        once,
        generated(HistoryPlan { people: 30, days: 20, seed: 5, directories: 2, ..plan() })
    );
    let other: HashSet<String> =
        generated(HistoryPlan { people: 30, days: 20, seed: 6, directories: 2, ..plan() })
            .into_iter()
            .collect();
    assert!(once.iter().all(|body| !other.contains(body)));
    // Delays and duplicates change nothing else.
    let plain =
        generated(HistoryPlan { people: 30, days: 20, seed: 5, directories: 2, ..punctual() });
    assert_eq!(in_order(&once), in_order(&plain));
}

#[test]
fn in_order_every_event_fits_the_state_before_it() {
    for seed in 1..6 {
        let replay = Replay::of(&generated(HistoryPlan {
            people: 120,
            directories: 4,
            days: 120,
            seed,
            ..plan()
        }));
        assert_eq!(replay.directories.len(), 4);
        let kinds = [
            "dsync.activated",
            "dsync.group.created",
            "dsync.group.deleted",
            "dsync.group.updated",
            "dsync.group.user_added",
            "dsync.group.user_removed",
            "dsync.user.created",
            "dsync.user.deleted",
            "dsync.user.updated",
        ];
        assert!(replay.happened.keys().eq(kinds), "{:?}", replay.happened);
        // Every user is in a handful of groups, one of them `Everyone`.
        for id in replay.users.keys() {
            let names = replay
                .members
                .iter()
                .filter(|(_, user)| user == id)
                .map(|(group, _)| text(&replay.groups[group]["name"]));
            let names: Vec<String> = names.collect();
            assert!((4..=12).contains(&names.len()), "{names:?}");
            assert!(names.iter().any(|name| name == "Everyone"), "{names:?}");
        }
    }
}

#[test]
fn the_smallest_companies_and_the_shortest_lives_are_consistent_too() {
    for (plan, users) in [
        (HistoryPlan { people: 1, days: 0, ..punctual() }, 1),
        (HistoryPlan { people: 1, days: 3650, seed: 3, ..plan() }, 0),
        (HistoryPlan { people: 9, directories: 9, days: 0, ..plan() }, 9),
        (HistoryPlan { people: 9, directories: 3, days: 400, ..plan() }, 0),
    ] {
        let replay = Replay::of(&generated(plan));
        assert!(users == 0 || replay.users.len() == users);
    }
}

#[test]
fn an_initial_sync_is_complete_and_in_the_order_of_workos() {
    let bodies = generated(HistoryPlan { people: 300, days: 0, ..punctual() });
    let events: Vec<Value> =
        bodies.iter().map(|body| serde_json::from_str(body).unwrap()).collect();
    assert_eq!(events, in_order(&bodies));
    assert_eq!(events[0]["created_at"], "2026-01-05T08:00:00.000Z");
    let mut names: Vec<String> = events.iter().map(|event| text(&event["event"])).collect();
    let counts = names.chunk_by(|a, b| a == b).map(<[String]>::len).collect::<Vec<_>>();
    names.dedup();
    assert_eq!(
        names,
        ["dsync.activated", "dsync.user.created", "dsync.group.created", "dsync.group.user_added"]
    );
    assert_eq!(counts[..2], [1, 300]);
    let replay = Replay::of(&bodies);
    assert_eq!(
        (replay.users.len(), replay.groups.len(), replay.members.len()),
        (300, counts[2], counts[3])
    );
    // Departments are of different sizes, and the largest is no larger than the company.
    let size = |name: &str| {
        let (id, _) = replay.groups.iter().find(|(_, group)| group["name"] == name).unwrap();
        replay.members.iter().filter(|(group, _)| group == id).count()
    };
    assert_eq!(size("Everyone"), 300);
    assert!(size("Engineering") > 2 * size("Operations") && size("Operations") > size("Legal"));
}

#[test]
fn a_returning_user_has_a_new_id_only_if_leavers_are_deleted() {
    let replay =
        Replay::of(&generated(HistoryPlan { people: 200, directories: 2, days: 200, ..plan() }));
    let events =
        in_order(&generated(HistoryPlan { people: 200, directories: 2, days: 200, ..plan() }));
    let directories: Vec<String> = events
        .iter()
        .filter(|event| event["event"] == "dsync.activated")
        .map(|event| text(&event["data"]["id"]))
        .collect();
    let of = |directory: usize, name: &str, previous: Value| {
        let data = events.iter().filter(|event| event["event"] == name).map(|event| &event["data"]);
        let data = data.filter(|data| {
            data["directory_id"] == directories[directory]
                && data["previous_attributes"] == previous
        });
        data.map(|data| (text(&data["idp_id"]), text(&data["id"]))).collect::<Vec<_>>()
    };
    // The first directory deletes.
    let deleted = of(0, "dsync.user.deleted", Value::Null);
    let returned = of(0, "dsync.user.created", Value::Null).into_iter().filter(|(idp_id, id)| {
        deleted.iter().any(|(idp, old)| idp == idp_id && old != id && replay.users.contains_key(id))
    });
    assert!(!deleted.is_empty() && returned.count() > 0);
    assert_eq!(of(0, "dsync.user.updated", json!({"state": "active"})), []);
    // The second does not.
    assert_eq!(of(1, "dsync.user.deleted", Value::Null), []);
    let left = of(1, "dsync.user.updated", json!({"state": "active"}));
    let back = of(1, "dsync.user.updated", json!({"state": "inactive"}));
    assert!(!back.is_empty() && back.iter().all(|who| left.contains(who)), "{left:?} {back:?}");
}

#[test]
fn a_department_is_regrouped_within_a_second() {
    let bodies = generated(HistoryPlan { people: 4000, days: 1, ..plan() });
    // With more people than milliseconds, several events share one; their order does not matter.
    Replay::of(&bodies);
    let moves = in_order(&bodies)
        .into_iter()
        .filter(|event| text(&event["event"]).starts_with("dsync.group.user_"));
    // Memberships of the initial sync are not moves.
    let moves: Vec<Value> =
        moves.skip_while(|event| event["event"] == "dsync.group.user_added").collect();
    let times: Vec<i64> = moves.iter().map(|event| moment(&event["created_at"])).collect();
    let seconds = times.iter().map(|start| {
        times.partition_point(|at| at < start)..times.partition_point(|at| *at < start + 1000)
    });
    let busiest = &moves[seconds.max_by_key(ExactSizeIterator::len).unwrap()];
    let department =
        |event: &Value| event["data"]["user"]["custom_attributes"]["department_name"].clone();
    assert!(busiest.iter().all(|event| department(event) == department(&busiest[0])));
    let count = |name: &str| busiest.iter().filter(|event| event["event"] == name).count();
    assert_eq!(count("dsync.group.user_added"), count("dsync.group.user_removed"));
    // With this seed the department is one of the larger ones. Some people stay in their team by
    // chance.
    assert!(count("dsync.group.user_added") > 100, "{}", busiest.len());
}

#[test]
fn the_given_fractions_are_late_and_duplicated() {
    let bodies =
        generated(HistoryPlan { people: 1000, days: 30, late: 0.1, duplicates: 0.03, ..plan() });
    let (mut latest, mut late, mut seen) = (String::new(), 0, HashSet::new());
    for body in &bodies {
        let event: Value = serde_json::from_str(body).unwrap();
        let at = text(&event["created_at"]);
        late += usize::from(seen.insert(body) && at < latest);
        latest = latest.max(at);
    }
    let (distinct, twice) = (seen.len(), bodies.len() - seen.len());
    assert!((distinct * 85 / 1000..distinct * 105 / 1000).contains(&late), "{late} of {distinct}");
    assert!((distinct * 25 / 1000..distinct * 35 / 1000).contains(&twice), "{twice} of {distinct}");
}

#[test]
fn a_body_is_written_as_json_stringify_would() {
    /// Writes keys in their order, as `JSON.parse` keeps them unless they look like array indexes.
    fn stringified(value: &serde_json::value::RawValue) -> String {
        let text = value.get();
        match text.as_bytes()[0] {
            b'{' => {
                let fields: Vec<String> = ordered(text)
                    .into_iter()
                    .map(|(key, value)| {
                        assert!(key.parse::<u32>().is_err(), "{key} would move to the front");
                        format!("{}:{}", json!(key), stringified(&value))
                    })
                    .collect();
                format!("{{{}}}", fields.join(","))
            }
            b'[' => {
                let items: Vec<Box<serde_json::value::RawValue>> =
                    serde_json::from_str(text).unwrap();
                format!(
                    "[{}]",
                    items.iter().map(|item| stringified(item)).collect::<Vec<_>>().join(",")
                )
            }
            b'"' => serde_json::from_str::<Value>(text).unwrap().to_string(),
            b't' | b'f' | b'n' => text.to_owned(),
            _ => text.parse::<u32>().unwrap().to_string(),
        }
    }
    fn ordered(text: &str) -> Vec<(String, Box<serde_json::value::RawValue>)> {
        struct Fields;
        impl<'de> serde::de::Visitor<'de> for Fields {
            type Value = Vec<(String, Box<serde_json::value::RawValue>)>;
            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("an object")
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(
                self,
                mut map: A,
            ) -> Result<Self::Value, A::Error> {
                let (mut fields, mut keys) = (Vec::new(), HashSet::new());
                while let Some((key, value)) = map.next_entry::<String, _>()? {
                    assert!(keys.insert(key.clone()), "{key} occurs twice");
                    fields.push((key, value));
                }
                Ok(fields)
            }
        }
        serde::Deserializer::deserialize_map(&mut serde_json::Deserializer::from_str(text), Fields)
            .unwrap()
    }
    for body in generated(HistoryPlan { people: 60, directories: 2, days: 60, ..plan() }) {
        let raw: Box<serde_json::value::RawValue> = serde_json::from_str(&body).unwrap();
        assert_eq!(stringified(&raw), body);
        assert!(!body.contains("\\u") && !body.contains('\n'), "{body}");
    }
}

#[test]
fn all_people_are_spread_over_the_directories() {
    for (people, directories) in [(1, 1), (10, 10), (100, 3), (1_000_000, 1), (1_000_000, 7000)] {
        let sizes = sizes(people, directories);
        assert_eq!((sizes.len() as u64, sizes.iter().sum::<u64>()), (directories, people));
        assert!(sizes.is_sorted_by(|a, b| a >= b) && !sizes.contains(&0));
    }
}

#[test]
fn company_names_are_distinct() {
    let names: HashSet<String> =
        (0..2000).map(|number| company_name(11 + 7 * number, number)).collect();
    assert_eq!(names.len(), 2000);
}
