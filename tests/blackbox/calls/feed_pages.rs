//! The bounds of one page of the feed of changes, counted in work: no clock decides these tests.

use std::sync::Arc;
use std::time::Duration;

use rollcall::engine::{Engine, Feed, FeedCursor, FeedPlace, PageBounds};
use rollcall::log::{History, MemoryLog};
use rollcall_projections::Sight;
use serde_json::{Value, json};

use crate::kit::model::rfc3339;
use crate::kit::road::{engine, memory_log, verified};

const START_MS: i64 = 1_767_225_600_000;

/// Bounds of an answer whose time is over as soon as it has begun.
const NO_TIME: PageBounds = PageBounds { time: Duration::ZERO, work_min: 0, step_work: 1 };

/// An event of a millisecond after the start; the number is that of its id.
fn event(number: usize, ms: usize, event: &str, data: Value) -> Vec<u8> {
    json!({
        "object": "event",
        "id": format!("event_{number:06}"),
        "event": event,
        "created_at": rfc3339(START_MS + ms as i64),
        "data": data,
    })
    .to_string()
    .into_bytes()
}

fn user(number: usize, state: &str) -> Value {
    json!({ "id": format!("u{number:04}"), "directory_id": "d", "state": state })
}

/// A log in memory of 300 users, of whom one in 50 is active, and of the end of their directory.
fn ended_directory() -> Arc<Engine> {
    let state = |number: usize| if number % 50 == 7 { "active" } else { "inactive" };
    let mut bodies: Vec<Vec<u8>> = (0..300)
        .map(|number| event(number, number, "dsync.user.created", user(number, state(number))))
        .collect();
    bodies.push(event(300, 300, "dsync.deleted", json!({ "id": "d" })));
    engine(memory_log(bodies.iter().map(Vec::as_slice)))
}

/// Reads the feed from a cursor on. Returns its pages.
fn pages(engine: &Engine, from: FeedPlace, limit: usize, bounds: &PageBounds) -> Vec<Feed> {
    pages_seen(engine, &Sight::All, from, limit, bounds)
}

/// Does the same for a caller who may see less.
fn pages_seen(
    engine: &Engine,
    sight: &Sight,
    from: FeedPlace,
    limit: usize,
    bounds: &PageBounds,
) -> Vec<Feed> {
    let (mut pages, mut next) = (Vec::new(), FeedCursor::from(from));
    loop {
        let page = engine.feed_within(sight, &next, limit, bounds).unwrap();
        assert!(page.at_head || page.next != next, "no page leaves its reader where it was");
        next = page.next.clone();
        let is_end = page.at_head && page.items.is_empty();
        pages.push(page);
        if is_end {
            return pages;
        }
    }
}

fn items(pages: &[Feed]) -> Vec<(FeedPlace, String)> {
    let items = pages.iter().flat_map(|page| &page.items);
    items.map(|(place, change)| (*place, change.user.clone())).collect()
}

#[test]
fn a_page_whose_time_is_over_goes_on_inside_the_record() {
    let engine = ended_directory();
    let before = FeedPlace::after(300);
    let expected: Vec<(FeedPlace, String)> = (0..6)
        .map(|n| (FeedPlace { seq: 301, item: n + 1 }, format!("u{:04}", 50 * n + 7)))
        .collect();
    for limit in [1, 2, 1000] {
        let whole = pages(&engine, before, limit, &PageBounds::HTTP);
        assert_eq!(items(&whole), expected, "{limit} at a time");
        let cut = pages(&engine, before, limit, &NO_TIME);
        assert_eq!(items(&cut), expected, "{limit} at a time, without time");
        // One user, of no group, costs some states.
        assert!(cut.iter().all(|page| page.work <= 20), "{:?}", cut.iter().map(|page| page.work));
        assert!(cut.len() > 100, "{} pages", cut.len());
    }
    // A reader who comes without the place inside the record counts its changes again.
    for (at, (place, _)) in expected.iter().enumerate() {
        let rest = pages(&engine, *place, 1000, &NO_TIME);
        assert_eq!(items(&rest), expected[at + 1..]);
    }
    let stale = FeedPlace { seq: 301, item: 29_360_129 };
    assert_eq!(items(&pages(&engine, stale, 1000, &NO_TIME)), expected);
    engine.close();
}

#[test]
fn a_page_is_over_in_time_also_among_users_who_are_not_seen() {
    let directory = |number: usize, id: &str, organization: &str| {
        event(number, 0, "dsync.activated", json!({ "id": id, "organization_id": organization }))
    };
    let mut bodies = vec![directory(0, "d", "a"), directory(1, "e", "b")];
    bodies.extend((2..302).map(|n| event(n, n, "dsync.user.created", user(n, "active"))));
    // Three of the users of `d` are in `e` when `d` ends, and lose nothing.
    let moved = [90, 91, 200].map(|n| {
        let mut data = user(n, "active");
        data["directory_id"] = json!("e");
        (n, data)
    });
    let in_e: Vec<Value> = moved.iter().map(|(_, data)| data["id"].clone()).collect();
    bodies.extend(moved.map(|(n, data)| event(300 + n, 300 + n, "dsync.user.updated", data)));
    bodies.push(event(900, 900, "dsync.deleted", json!({ "id": "d" })));
    let end = bodies.len() as u64;
    let engine = engine(memory_log(bodies.iter().map(Vec::as_slice)));
    let before = FeedPlace::after(end - 1);
    let all = items(&pages(&engine, before, 1000, &PageBounds::HTTP));
    assert_eq!(all.len(), 297);
    for limit in [1, 1000] {
        for (own, expected) in [("a", all.as_slice()), ("b", &[])] {
            let sight = Sight::Of(vec![own.to_owned()]);
            let pages = pages_seen(&engine, &sight, before, limit, &NO_TIME);
            assert_eq!(items(&pages), expected, "{own}, {limit} at a time");
            assert!(pages.iter().all(|page| page.work <= 20), "{own}, {limit} at a time");
            let counted = pages.iter().filter_map(|page| page.next.counted.as_ref());
            let mut named = counted.filter_map(|counted| counted.user.as_deref());
            let is_own = |id: &str| in_e.contains(&json!(id)) == (own == "b");
            assert!(named.all(is_own), "{own}, {limit} at a time");
        }
    }
    engine.close();
}

/// The events of an initial sync whose groups are known from memberships long before their own
/// events come, each group with everyone in it.
fn initial_sync(people: usize, groups: usize) -> Vec<Vec<u8>> {
    let group = |number: usize| json!({ "id": format!("g{number}"), "directory_id": "d", "name": format!("G{number}") });
    let mut events = Vec::new();
    let mut tell = |ms: Option<usize>, name: &str, data: Value| {
        let number = events.len();
        events.push(event(number, ms.unwrap_or(number), name, data));
    };
    for number in 0..people {
        tell(None, "dsync.user.created", user(number, "active"));
        for of in 0..groups {
            let (user, group) = (user(number, "active"), group(of));
            let data = json!({ "directory_id": "d", "user": user, "group": group });
            tell(None, "dsync.group.user_added", data);
        }
    }
    for of in 0..groups {
        tell(Some(0), "dsync.group.created", group(of));
    }
    events
}

#[test]
fn a_follower_of_an_initial_sync_does_little_work_for_each_record() {
    let log = Arc::new(MemoryLog::new([7; 16]));
    let engine = engine(log.clone());
    let (mut next, mut found) = (FeedCursor::from(FeedPlace::after(0)), 0);
    for body in initial_sync(200, 4) {
        let outcome = engine.submit(verified(&body)).unwrap();
        outcome.blocking_recv().unwrap().unwrap();
        let page = engine.feed(&rollcall_projections::Sight::All, &next, 1000).unwrap();
        // It is up to date after one page, and the page has cost no more than a record does.
        assert!(page.at_head);
        assert_eq!(page.next.place, FeedPlace::after(log.head()));
        assert!(page.work <= 60, "record {} cost {}", log.head(), page.work);
        found += page.items.len();
        next = page.next;
    }
    assert_eq!(found, 200);
    engine.close();
}

#[test]
fn the_whole_feed_of_an_initial_sync_costs_some_work_for_each_record() {
    let bodies = initial_sync(500, 4);
    let log = memory_log(bodies.iter().map(Vec::as_slice));
    let records = log.head() as usize;
    let engine = engine(log);
    let pages = pages(&engine, FeedPlace::after(0), 1000, &PageBounds::HTTP);
    assert_eq!(items(&pages).len(), 500);
    let work: usize = pages.iter().map(|page| page.work).sum();
    assert!(work <= 20 * records, "{work} for {records} records");
    engine.close();
}
