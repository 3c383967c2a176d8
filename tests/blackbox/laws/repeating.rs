//! A rebuild equals the live views, and any answer can be repeated.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rollcall_projections::{Cut, Sight};
use serde_json::{Value, json};

use crate::kit::histories::{history, question};
use crate::kit::model::{World, rfc3339};
use crate::kit::road::{engine, verified};
use crate::kit::server::{Server, now_ms};
use crate::kit::stage::deliver_recorded;

fn dumps(server: &Server) -> BTreeMap<String, (u64, String)> {
    let listed = server.get("/rollcall/v1/projections").json();
    let text = |view: &Value, key: &str| view[key].as_str().unwrap().to_owned();
    let views = listed["data"].as_array().unwrap();
    views
        .iter()
        .map(|view| (text(view, "name"), (view["seq"].as_u64().unwrap(), text(view, "sha256"))))
        .collect()
}

#[test]
fn views_that_grew_live_under_several_clients_and_restarts_equal_a_fold_from_zero() {
    let folder = tempfile::tempdir().unwrap();
    let deliveries: Vec<Vec<u8>> = (0..6)
        .flat_map(|seed| history(500 + seed).deliveries)
        .map(|delivery| delivery.body)
        .collect();
    let mut last = None;
    for part in deliveries.chunks(deliveries.len() / 3 + 1) {
        let server = Server::start(folder.path());
        if let Some(before) = &last {
            assert_eq!(
                &dumps(&server),
                before,
                "what was folded from zero equals what had grown live"
            );
        }
        let next = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..6 {
                scope.spawn(|| {
                    while let Some(body) = part.get(next.fetch_add(1, Ordering::Relaxed)) {
                        assert_eq!(server.post_at(body, now_ms()).status, 200);
                        if body.len() % 16 == 0 {
                            assert_eq!(dumps(&server).len(), 10);
                        }
                    }
                });
            }
        });
        last = Some(dumps(&server));
        assert_eq!(server.stop(), 0);
    }
    let server = Server::start(folder.path());
    let folded = dumps(&server);
    assert_eq!(Some(&folded), last.as_ref());
    let head = server.get("/readyz").json()["seq"].as_u64().unwrap();
    assert!(head > 300 && folded.values().all(|(seq, _)| *seq == head));
    let different: std::collections::BTreeSet<&String> =
        folded.values().map(|(_, sha256)| sha256).collect();
    // Nothing was set, so that two views are empty.
    assert_eq!(different.len(), 7, "six views and two empty ones");
}

#[test]
fn a_dump_tells_two_histories_apart_by_a_single_event() {
    let bodies: Vec<Vec<u8>> =
        history(7).deliveries.into_iter().map(|delivery| delivery.body).collect();
    let digests = |bodies: &[Vec<u8>]| {
        let log = crate::kit::road::memory_log([]);
        for body in bodies {
            rollcall::log::Log::append(&*log, vec![verified(body)], 1_790_000_000_000).unwrap();
        }
        let engine = engine(log);
        let states = engine.view_states();
        engine.close();
        states
    };
    let whole = digests(&bodies);
    assert_eq!(whole, digests(&bodies));
    assert_ne!(whole, digests(&bodies[..bodies.len() / 2]));
}

#[test]
fn any_answer_is_repeated_byte_for_byte_by_its_own_headers() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server::start(folder.path());
    let (mut world, mut rng) = (World::new(), StdRng::seed_from_u64(11));
    let deliveries: Vec<Vec<u8>> = (0..4)
        .flat_map(|seed| history(900 + seed).deliveries)
        .map(|delivery| delivery.body)
        .collect();
    let answers: Mutex<Vec<(String, Vec<u8>)>> = Mutex::default();
    for (index, body) in deliveries.iter().enumerate() {
        let now = now_ms();
        server.post_at(body, now);
        deliver_recorded(&mut world, &server, body, now);
        if index % 3 == 0 {
            let mut asked = question(&mut rng, &world);
            // Asked about now, or about the past as it is known now, or by a time that has just
            // begun.
            asked.cut.known_at = None;
            let unpinned = asked.cut.as_of_ms.is_none();
            let by_time = if rng.random_bool(0.2) {
                format!("known_at={}", crate::kit::model::rfc3339(now_ms()))
            } else {
                String::new()
            };
            let url = with(&asked.url(), &by_time);
            let answer = server.get(&url);
            if [400, 422].contains(&answer.status) {
                continue;
            }
            let (as_of, known_at) = (
                answer.header("rollcall-as-of").unwrap(),
                answer.header("rollcall-known-at").unwrap(),
            );
            asked.cut = crate::kit::model::Cut { as_of_ms: None, known_at: None };
            assert_eq!(as_of == "latest", unpinned);
            let pinned = with(&asked.url(), &format!("as_of={as_of}&known_at={known_at}"));
            answers.lock().unwrap().push((pinned, answer.body));
        }
        if index == deliveries.len() / 2 {
            assert_eq!(server.stop(), 0);
            server = Server::start_with(folder.path(), &["--document-cache-mib", "1"]);
        }
    }
    let answers = answers.into_inner().unwrap();
    assert!(answers.len() > 100);
    for (pinned, body) in answers {
        assert_eq!(
            String::from_utf8_lossy(&server.get(&pinned).body),
            String::from_utf8_lossy(&body),
            "{pinned}"
        );
    }
}

fn with(url: &str, query: &str) -> String {
    if query.is_empty() {
        return url.to_owned();
    }
    format!("{url}{}{query}", if url.contains('?') { '&' } else { '?' })
}

#[test]
fn a_time_just_past_is_known_for_ever_however_fast_events_come() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let (server, stop) = (&server, &stop);
            scope.spawn(move || {
                for n in 0..2000 {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let id = format!("{writer}_{n}");
                    server.deliver(&crate::kit::server::user(
                        &id,
                        "d",
                        "ana",
                        "2025-01-01T00:00:00.000Z",
                        &format!("e{id}"),
                        "dsync.user.created",
                    ));
                }
            });
        }
        let mut seen = Vec::new();
        for _ in 0..150 {
            let moment = crate::kit::model::rfc3339(now_ms());
            let path = format!("/directory_users?directory=d&limit=3&known_at={moment}");
            let answer = server.get(&path);
            assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
            seen.push((path, answer.header("rollcall-known-at").unwrap().to_owned(), answer.body));
        }
        for (path, known_at, body) in seen {
            let again = server.get(&path);
            assert_eq!(
                (again.header("rollcall-known-at"), &again.body),
                (Some(known_at.as_str()), &body),
                "{path}"
            );
        }
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_user_dated_ahead_is_gone_from_the_deletion_on() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let now = now_ms();
    let tell = |id: &str, change: &str, at_ms: i64| {
        let (at, event) = (rfc3339(at_ms), format!("dsync.user.{change}"));
        server.deliver(&crate::kit::server::user("u", "d", "ana", &at, id, &event))
    };
    tell("e1", "created", now - 60_000);
    tell("e2", "updated", now + 600_000);
    tell("e3", "deleted", now + 1000);
    assert_eq!(server.get("/directory_users/u").status, 404);
    let listed = server.get("/rollcall/v1/quarantine").json()["data"].clone();
    assert_eq!((listed.as_array().unwrap().len(), &listed[0]["seq"]), (1, &json!(2)));
    assert_eq!(listed[0]["reason"], "clock_ahead");
    assert!(listed[0]["detail"].as_str().unwrap().contains(&rfc3339(now + 600_000)));
    let changes = server.get("/rollcall/v1/changes?wait=0").json()["data"].clone();
    let told: Vec<&Value> =
        changes.as_array().unwrap().iter().map(|change| &change["change"]).collect();
    assert_eq!(told, ["access_granted", "access_ended"]);
    let periods = server.get("/rollcall/v1/users/u/access").json()["data"].clone();
    assert_eq!(periods.as_array().unwrap().len(), 1);
    assert_eq!(periods[0]["end"]["seq"], 3, "{periods}");
}

#[test]
fn three_minutes_ahead_are_still_no_remark_and_a_millisecond_more_is() {
    let recorded_at = 1_790_000_000_000;
    let event = |id: &str, ahead_ms: i64| {
        crate::kit::server::user(
            id,
            "d",
            "ana",
            &rfc3339(recorded_at + ahead_ms),
            &format!("event_{id}"),
            "dsync.user.created",
        )
    };
    let bodies = [event("near", 180_000), event("far", 180_001)];
    let views = crate::kit::road::fold(&[bodies[0].as_bytes(), bodies[1].as_bytes()], recorded_at);
    let listed: Vec<(u64, &str)> =
        views.quarantine().iter().map(|entry| (entry.seq, entry.reason.code())).collect();
    assert_eq!(listed, [(2, "clock_ahead")]);
    let then = Cut { as_of: recorded_at, known_at: 2 };
    let views = views.seen_by(&Sight::All);
    assert!(views.user("near", then).is_none() && views.user("far", then).is_some());
}

#[test]
fn a_list_by_organization_finds_who_carries_it_though_the_directory_carries_another() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    server.deliver(
        r#"{"id":"e","event":"dsync.group.user_added","created_at":"2025-01-01T00:00:00Z",
            "data":{"directory_id":"d","user":{"id":"u","organization_id":"o2"},
            "group":{"id":"g","organization_id":"o1"}}}"#,
    );
    assert_eq!(server.get("/directory_users?organization_id=o2").ids(), ["u"]);
    assert_eq!(server.get("/directory_groups?organization_id=o1").ids(), ["g"]);
    assert_eq!(server.get("/directories?organization_id=o1").ids(), ["d"]);
    assert_eq!(server.get("/directory_users?organization_id=o1").ids(), [""; 0]);
}

#[test]
fn attributes_pass_through_as_they_were_sent() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let attributes =
        r#"{"b":12345678901234567890123,"a":1.10,"z":[1e400,-0.0,"\u00e9\/"],"a2":{"k":null}}"#;
    let body = format!(
        concat!(
            r#"{{"id":"e","event":"dsync.user.created","data":{{"id":"u","directory_id":"d","#,
            r#""custom_attributes":{attributes}}},"created_at":"2025-01-01T00:00:00Z"}}"#,
        ),
        attributes = attributes
    );
    server.deliver(&body);
    let answer = String::from_utf8(server.get("/directory_users/u").body).unwrap();
    assert!(answer.contains(&format!(r#""custom_attributes":{attributes}"#)), "{answer}");
}
