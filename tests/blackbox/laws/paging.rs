//! Paging while others insert, delete and rename: what was there throughout appears exactly once.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::kit::server::{Server, user};

/// Ids in an order of their own, so that inserts fall everywhere.
fn id(number: u64) -> String {
    format!("u{:04}", number * 7919 % 10_000)
}

fn told(number: u64, kind: &str, second: u64, name: &str) -> String {
    let moment =
        format!("2025-01-01T{:02}:{:02}:{:02}.000Z", second / 3600, second / 60 % 60, second % 60);
    user(
        &id(number),
        "d",
        name,
        &moment,
        &format!("{kind}_{number}_{second}"),
        &format!("dsync.user.{kind}"),
    )
}

#[test]
fn who_is_there_throughout_appears_exactly_once_on_the_pages() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    // Multiples of four stay; the others come and go.
    for number in 0..400 {
        server.deliver(&told(number, "created", 0, "ana"));
    }
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let disturber = scope.spawn(|| {
            let mut second = 1;
            while !stop.load(Ordering::Relaxed) && second < 5000 {
                let number = second * 31 % 600;
                match number % 4 {
                    0 if number < 400 => server.deliver(&told(number, "updated", second, "bo")),
                    1 => server.deliver(&told(number, "deleted", second, "cy")),
                    _ => server.deliver(&told(number, "created", second, "di")),
                };
                second += 1;
            }
            second
        });
        for (order, start) in [("asc", ""), ("desc", ""), ("normal", ""), ("asc", "&state=active")]
        {
            for limit in [1, 7, 100] {
                let mut seen: BTreeMap<String, u32> = BTreeMap::new();
                let mut cursor = String::new();
                for page in 0.. {
                    let answer = server.get(&format!(
                        "/directory_users?directory=d{start}&order={order}&limit={limit}{cursor}"
                    ));
                    for id in answer.ids() {
                        *seen.entry(id).or_default() += 1;
                    }
                    // In `normal` order the cursors are reversed: older entries come by `before`.
                    let key = if order == "normal" { "before" } else { "after" };
                    match answer.json()["list_metadata"][key].as_str() {
                        Some(next) => cursor = format!("&{key}={next}"),
                        None => break,
                    }
                    assert!(page < 2000, "paging ends");
                }
                for number in (0..400).step_by(4) {
                    assert_eq!(seen.get(&id(number)), Some(&1), "{order} {limit}: {}", id(number));
                }
                assert!(seen.values().all(|times| *times == 1), "nobody appears twice");
            }
        }
        stop.store(true, Ordering::Relaxed);
        assert!(disturber.join().unwrap() > 50);
    });
}

#[test]
fn pages_walked_backward_are_those_walked_forward() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    for number in 0..23 {
        server.deliver(&told(number, "created", 0, "ana"));
    }
    let all = server.get("/directory_users?directory=d&order=asc&limit=100").ids();
    assert_eq!(all.len(), 23);
    let page =
        |query: &str| server.get(&format!("/directory_users?directory=d&order=asc&limit=5{query}"));
    let before = page(&format!("&before={}", all[12]));
    assert_eq!(before.ids(), all[7..12]);
    let cursors = before.json()["list_metadata"].clone();
    assert_eq!(cursors, serde_json::json!({"before": all[7], "after": all[11]}));
    // A cursor need not exist: it is a place in the order.
    assert_eq!(page(&format!("&after={}x", all[12])).ids(), all[13..18]);
    assert_eq!(
        page(&format!("&before={}", all[2])).json()["list_metadata"],
        serde_json::json!({"before": null, "after": all[1]})
    );
    assert_eq!(
        page("&after=zzz").json()["list_metadata"],
        serde_json::json!({"before": null, "after": null})
    );
}

#[test]
fn the_quarantine_is_paged_like_every_list() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    for number in 0..9 {
        server.deliver(&format!(r#"{{"id":"e{number}","event":"dsync.unheard_of"}}"#));
    }
    let seqs = |query: &str| {
        let listed = server.get(&format!("/rollcall/v1/quarantine?{query}")).json();
        let seqs: Vec<u64> = listed["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|entry| entry["seq"].as_u64().unwrap())
            .collect();
        (
            seqs,
            listed["list_metadata"]["before"].as_str().map(str::to_owned),
            listed["list_metadata"]["after"].as_str().map(str::to_owned),
        )
    };
    let cursor = |number: &str| Some(number.to_owned());
    assert_eq!(seqs(""), ((1..=9).collect(), None, None));
    assert_eq!(seqs("limit=4"), (vec![1, 2, 3, 4], None, cursor("4")));
    assert_eq!(seqs("limit=4&after=4"), (vec![5, 6, 7, 8], cursor("5"), cursor("8")));
    assert_eq!(seqs("limit=4&after=8"), (vec![9], cursor("9"), None));
    assert_eq!(seqs("limit=4&before=5"), (vec![1, 2, 3, 4], None, cursor("4")));
    assert_eq!(seqs("limit=4&order=desc"), (vec![9, 8, 7, 6], None, cursor("6")));
    assert_eq!(seqs("limit=4&order=desc&after=6"), (vec![5, 4, 3, 2], cursor("5"), cursor("2")));
    assert_eq!(seqs("limit=4&order=desc&before=5"), (vec![9, 8, 7, 6], None, cursor("6")));
    assert_eq!(seqs("after=9"), (vec![], None, None));
    for beyond in ["99", "18446744073709551615"] {
        assert_eq!(seqs(&format!("after={beyond}")), (vec![], None, None));
        assert_eq!(seqs(&format!("limit=2&before={beyond}")), (vec![8, 9], cursor("8"), None));
        assert_eq!(
            seqs(&format!("limit=2&order=desc&after={beyond}")),
            (vec![9, 8], None, cursor("8"))
        );
        assert_eq!(seqs(&format!("order=desc&before={beyond}")), (vec![], None, None));
    }
    assert_eq!(server.get("/rollcall/v1/quarantine?after=0").code(), "cursor_invalid");
}
