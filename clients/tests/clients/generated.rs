//! Everything that `rollcall generate` makes, sent, and read back through two libraries.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::kit::{self, Server};
use super::libraries::Library;
use super::{Case, Needs};

pub fn cases() -> Vec<Case> {
    vec![Case::new(
        "everything_generated_is_read_back",
        Needs::NodeAndPython,
        everything_is_read_back,
    )]
}

/// The number of people, unless `ROLLCALL_CLIENTS_PEOPLE` says otherwise.
const PEOPLE: usize = 300;

/// All there is: the ids of the directories, of the users and groups of each, and of the members of
/// each group.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
struct Everything {
    directories: Vec<String>,
    users: BTreeMap<String, Vec<String>>,
    groups: BTreeMap<String, Vec<String>>,
    members: BTreeMap<String, Vec<String>>,
}

fn everything_is_read_back() {
    let people =
        std::env::var("ROLLCALL_CLIENTS_PEOPLE").map_or(PEOPLE, |text| text.parse().unwrap());
    let events = generated(people);
    let server = Server::start();
    server.send_at_once(&events);
    let expected = replayed(&events);
    let count = |lists: &BTreeMap<String, Vec<String>>| lists.values().map(Vec::len).sum::<usize>();
    assert!(
        count(&expected.users) > people / 2,
        "{people} people were asked for, and {} are there",
        count(&expected.users)
    );
    assert!(count(&expected.members) > 0);
    for library in [Library::Node(11), Library::Python(10)] {
        let printed = library.run("everything", &server, &[]);
        let read: Everything =
            serde_json::from_str(&printed).unwrap_or_else(|error| panic!("{error}: {printed}"));
        assert_eq!(read, expected, "{}", library.name());
    }
}

/// One webhook a line, in order of delivery: some late, some twice.
fn generated(people: usize) -> Vec<String> {
    let people = people.to_string();
    let command = kit::rollcall(&[
        "generate",
        "--people",
        &people,
        "--directories",
        "3",
        "--late",
        "0.1",
        "--seed",
        "7",
    ]);
    let printed = kit::finished(command, Duration::from_secs(120))
        .unwrap_or_else(|said| panic!("rollcall generate: {said}"));
    printed.lines().map(str::to_owned).collect()
}

/// Things by id, each with its directory.
type Entities = BTreeMap<String, String>;

/// Everything as it stands after all events: each applied in the order in which it happened, over
/// plain maps.
fn replayed(bodies: &[String]) -> Everything {
    let mut ids = BTreeSet::new();
    let mut events: Vec<Value> =
        bodies.iter().map(|body| serde_json::from_str(body).unwrap()).collect();
    events.retain(|event: &Value| ids.insert(text(&event["id"])));
    events.sort_by_cached_key(|event| {
        let name = text(&event["event"]);
        let closing =
            name.ends_with("deleted") || name.ends_with("removed") || name.ends_with("deactivated");
        (
            text(&event["created_at"]),
            closing,
            text(&event["data"]["updated_at"]),
            text(&event["id"]),
        )
    });
    let (mut directories, mut users, mut groups) =
        (BTreeSet::new(), Entities::new(), Entities::new());
    let mut memberships: BTreeSet<(String, String)> = BTreeSet::new();
    for event in &events {
        let (name, data) = (text(&event["event"]), &event["data"]);
        let (id, directory) = (text(&data["id"]), text(&data["directory_id"]));
        let pair = (text(&data["group"]["id"]), text(&data["user"]["id"]));
        match name.as_str() {
            "dsync.activated" => drop(directories.insert(id)),
            "dsync.deleted" => {
                directories.remove(&id);
                memberships.retain(|(group, user)| {
                    groups.get(group) != Some(&id) && users.get(user) != Some(&id)
                });
                users.retain(|_, of| *of != id);
                groups.retain(|_, of| *of != id);
            }
            "dsync.user.created" | "dsync.user.updated" => drop(users.insert(id, directory)),
            "dsync.group.created" | "dsync.group.updated" => drop(groups.insert(id, directory)),
            "dsync.user.deleted" => {
                users.remove(&id);
                memberships.retain(|(_, user)| *user != id);
            }
            "dsync.group.deleted" => {
                groups.remove(&id);
                memberships.retain(|(group, _)| *group != id);
            }
            "dsync.group.user_added" => drop(memberships.insert(pair)),
            "dsync.group.user_removed" => drop(memberships.remove(&pair)),
            _ => {}
        }
    }
    // Lists come newest first, and ids are in the order of creation.
    let newest = |ids: Vec<&String>| ids.into_iter().rev().cloned().collect::<Vec<_>>();
    let of = |entities: &Entities, directory: &String| {
        newest(entities.iter().filter(|(_, of)| *of == directory).map(|(id, _)| id).collect())
    };
    let members = |group: &String| {
        newest(
            memberships
                .iter()
                .filter(|(of, user)| of == group && users.contains_key(user))
                .map(|(_, user)| user)
                .collect(),
        )
    };
    Everything {
        users: directories
            .iter()
            .map(|directory| (directory.clone(), of(&users, directory)))
            .collect(),
        groups: directories
            .iter()
            .map(|directory| (directory.clone(), of(&groups, directory)))
            .collect(),
        members: groups.keys().map(|group| (group.clone(), members(group))).collect(),
        directories: newest(directories.iter().collect()),
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
