//! An initial sync of 3,000 people, made from a seed: sent by several at once, out of order, with
//! duplicates, and complete.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::process::Command;

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

use crate::kit::model::rfc3339;
use crate::kit::server::{SECRET, Server, binary};

const PEOPLE: usize = 3_000;
const GROUPS: usize = 40;
const START_MS: i64 = 1_767_225_600_000;

/// A ULID whose time is `ms` and whose rest is `number`.
fn ulid(ms: i64, number: usize) -> String {
    let digits = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    let bits = (ms as u128) << 80 | number as u128;
    (0..26).rev().map(|n| digits[(bits >> (5 * n)) as usize & 31] as char).collect()
}

struct Company {
    events: Vec<String>,
    /// Each person's id, true if still there at the end, and the number of the group.
    people: Vec<(String, bool, usize)>,
    groups: Vec<String>,
    directory: String,
}

fn company(seed: u64) -> Company {
    let mut rng = StdRng::seed_from_u64(seed);
    let directory = format!("directory_{}", ulid(START_MS, 0));
    let mut events = Vec::new();
    let mut clock = START_MS;
    let mut tell = |event: &str, data: Value| {
        clock += 3;
        let id = format!("event_{}", ulid(clock, events.len()));
        events.push(
            json!({"object": "event", "id": id, "event": event, "data": data,
                "created_at": rfc3339(clock), "context": {}})
            .to_string(),
        );
    };
    let person = |number: usize, state: &str| {
        json!({
            "object": "directory_user",
            "id": format!("directory_user_{}", ulid(START_MS + number as i64, number)),
            "directory_id": directory,
            "organization_id": "org_large", "idp_id": format!("{number}"),
            "email": format!("p{number}@large.example"),
            "first_name": format!("P{number}"), "last_name": "Large", "emails": [], "state": state,
            "raw_attributes": {},
            "custom_attributes": {"department": format!("D{}", number % GROUPS)},
            "created_at": rfc3339(START_MS), "updated_at": rfc3339(START_MS),
        })
    };
    let group = |number: usize| {
        json!({
            "object": "directory_group",
            "id": format!("directory_group_{}", ulid(START_MS, number)),
            "idp_id": format!("g{number}"),
            "directory_id": directory, "organization_id": "org_large",
            "name": format!("Team {number}"), "raw_attributes": {},
            "created_at": rfc3339(START_MS), "updated_at": rfc3339(START_MS),
        })
    };
    tell(
        "dsync.activated",
        json!({
            "object": "directory", "id": directory, "organization_id": "org_large",
            "external_key": "k", "type": "okta scim v2.0", "state": "active",
            "name": "Large", "domains": [], "created_at": rfc3339(START_MS),
            "updated_at": rfc3339(START_MS),
        }),
    );
    for number in 0..PEOPLE {
        tell("dsync.user.created", person(number, "active"));
    }
    for number in 0..GROUPS {
        tell("dsync.group.created", group(number));
    }
    let mut people = Vec::new();
    for number in 0..PEOPLE {
        let team = rng.random_range(0..GROUPS);
        tell(
            "dsync.group.user_added",
            json!({"directory_id": directory, "user": person(number, "active"),
                "group": group(team)}),
        );
        people.push((person(number, "")["id"].as_str().unwrap().to_owned(), true, team));
    }
    for (number, (_, there, _)) in people.iter_mut().enumerate() {
        if rng.random_bool(0.05) {
            tell("dsync.user.deleted", person(number, "inactive"));
            *there = false;
        }
    }
    let groups =
        (0..GROUPS).map(|number| group(number)["id"].as_str().unwrap().to_owned()).collect();
    // Delivered out of order within windows of 200, one in twenty twice.
    let mut delivered = Vec::new();
    for window in events.chunks_mut(200) {
        window.shuffle(&mut rng);
        for event in window {
            if rng.random_bool(0.05) {
                delivered.push(event.clone());
            }
            delivered.push(event.clone());
        }
    }
    Company { events: delivered, people, groups, directory }
}

fn all_pages(server: &Server, path: &str) -> Vec<String> {
    let (mut found, mut cursor) = (Vec::new(), String::new());
    loop {
        let answer = server.get(&format!("{path}&limit=100{cursor}"));
        found.extend(answer.ids());
        match answer.json()["list_metadata"]["after"].as_str() {
            Some(next) => cursor = format!("&after={next}"),
            None => return found,
        }
    }
}

#[test]
fn an_initial_sync_of_thousands_of_people_is_complete_and_who_left_is_gone() {
    let company = company(2026);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("events.jsonl");
    let lines = company.events.iter().fold(String::new(), |mut text, event| {
        let _ = writeln!(text, "{event}");
        text
    });
    std::fs::write(&file, lines).unwrap();
    let server = Server::start(&folder.path().join("data"));
    let url = format!("{}/webhooks/workos", server.url);
    let output = Command::new(binary())
        .args(["send", "--url", &url, "--secret", SECRET, "--concurrency", "32"])
        .arg(&file)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let distinct: BTreeSet<&String> = company.events.iter().collect();
    assert_eq!(server.get("/readyz").json()["seq"], distinct.len());

    let mut there: Vec<&String> =
        company.people.iter().filter(|person| person.1).map(|person| &person.0).collect();
    there.sort();
    let listed =
        all_pages(&server, &format!("/directory_users?directory={}&order=asc", company.directory));
    assert_eq!(listed.iter().collect::<Vec<_>>(), there);
    for (number, group) in company.groups.iter().enumerate() {
        let mut members: Vec<&String> = company
            .people
            .iter()
            .filter(|(_, there, team)| *there && *team == number)
            .map(|person| &person.0)
            .collect();
        members.sort();
        members.reverse();
        assert_eq!(
            all_pages(&server, &format!("/directory_users?group={group}"))
                .iter()
                .collect::<Vec<_>>(),
            members
        );
    }
    assert_eq!(all_pages(&server, "/directory_groups?organization_id=org_large").len(), GROUPS);
    // Before anybody left everybody was there.
    let before = rfc3339(START_MS + 3 * (1 + PEOPLE + GROUPS + PEOPLE) as i64);
    assert_eq!(
        all_pages(
            &server,
            &format!("/directory_users?directory={}&as_of={before}", company.directory)
        )
        .len(),
        PEOPLE
    );
    let found = server.get("/directory_users?organization_id=org_large&email=P77@LARGE.example");
    assert_eq!(
        found.ids(),
        company.people[77].1.then(|| company.people[77].0.clone()).into_iter().collect::<Vec<_>>()
    );
}
