//! Measures the cost of the audit over a million events of a company in which one event in ten is a
//! departure or an arrival, 5 % of them late: periods, deprovisionings, histories, differences, and
//! the feed of changes, each compared with a question about now.
//!
//! Questions are asked of the routes themselves, without a socket. `ROLLCALL_BENCH_EVENTS=100000`
//! measures less.

#![allow(clippy::panic, clippy::indexing_slicing, reason = "a benchmark that cannot go on stops")]

mod kit;

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use actix_web::App;
use actix_web::test::{TestRequest, call_service, init_service, read_body};
use kit::{
    BUSY_GROUP, BUSY_USER, DIRECTORY, Dice, build, group_id, in_turns, line, settings, time,
    user_id,
};
use rollcall::engine::{Engine, FeedCursor, FeedPlace};
use rollcall::http::app;

/// A question and the function that asks it.
type Work<'a> = (&'static str, Box<dyn FnMut() + 'a>);

const ROUNDS: usize = 7;
const CALLS: usize = 64;

fn main() {
    let events: usize = std::env::var("ROLLCALL_BENCH_EVENTS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(1_000_000);
    let Ok(folder) = tempfile::tempdir() else { panic!("no temporary folder") };
    let (log, company, settled) = build(folder.path(), events);
    let began = Instant::now();
    let Ok(engine) = Engine::start(log.clone(), 256 << 20, rollcall::time::now_ms, |_| {}) else {
        panic!("the log does not fold")
    };
    let fold = began.elapsed();
    println!("{} records of {} people, folded in {fold:.2?}", log.head(), company.lives.len());

    let slot: Arc<OnceLock<Arc<Engine>>> = Arc::default();
    let _ = slot.set(engine.clone());
    let settings = settings(1);
    let system = actix_web::rt::System::new();
    let service = system.block_on(init_service(App::new().configure(app(settings, slot))));
    let ask = |path: String| {
        let request =
            TestRequest::get().uri(&path).insert_header(("Authorization", "Bearer k")).to_request();
        let body =
            system.block_on(async { read_body(call_service(&service, request).await).await });
        assert!(body.len() > 60, "{path}: {body:?}");
    };
    let dice = std::cell::RefCell::new(Dice(5));
    let below = |bound: usize| dice.borrow_mut().below(bound as u64);
    let anybody = || user_id(company.lives[below(company.lives.len()) as usize].0);
    let present = || user_id(company.present[below(company.present.len()) as usize]);
    let moment = || time(settled + below((company.at - settled) as usize) as i64);
    let own = |path: String| format!("/rollcall/v1/{path}");
    let mut works: Vec<Work<'_>> = vec![
        ("user by id, now", Box::new(|| ask(format!("/directory_users/{}", present())))),
        (
            "100 users of a directory, now",
            Box::new(|| ask(format!("/directory_users?directory={DIRECTORY}&limit=100"))),
        ),
        ("access of a user", Box::new(|| ask(own(format!("users/{}/access", anybody()))))),
        (
            "groups of a user over time",
            Box::new(|| ask(own(format!("users/{}/groups", anybody())))),
        ),
        ("history of a user", Box::new(|| ask(own(format!("users/{}/history", anybody()))))),
        (
            "100 of a user's 100,000 versions",
            Box::new(|| ask(own(format!("users/{}/history?order=desc", user_id(BUSY_USER))))),
        ),
        (
            "100 periods of a group with 2,000 former members",
            Box::new(|| ask(own(format!("groups/{}/members", group_id(BUSY_GROUP))))),
        ),
        (
            "100 deprovisionings since a moment",
            Box::new(|| ask(own(format!("deprovisionings?since={}", moment())))),
        ),
        (
            "when was this user deprovisioned",
            Box::new(|| ask(own(format!("deprovisionings?user={}", anybody())))),
        ),
        (
            "100 differences between two moments",
            Box::new(|| ask(own(format!("diff?from={}&to=latest", moment())))),
        ),
    ];
    {
        let mut calling: Vec<&mut dyn FnMut()> =
            works.iter_mut().map(|(_, work)| &mut **work as &mut dyn FnMut()).collect();
        let times = in_turns(ROUNDS, CALLS, &mut calling);
        for (at, ((what, _), ns)) in works.iter().zip(&times).enumerate() {
            let (other, than) = if at < 2 {
                (*ns, "itself")
            } else if what.starts_with("100") {
                (times[1], "100 users now")
            } else {
                (times[0], "user by id now")
            };
            line(what, *ns, than, other);
        }
    }

    // The whole feed, as somebody reads it who begins at the first record.
    let began = Instant::now();
    let mut place = FeedCursor::from(FeedPlace::after(0));
    let (mut changes, mut slowest) = (0, 0.0f64);
    loop {
        let page = Instant::now();
        let Ok(feed) = engine.feed(&rollcall_projections::Sight::All, &place, 1000) else {
            panic!("the log cannot be read")
        };
        slowest = slowest.max(page.elapsed().as_secs_f64());
        changes += feed.items.len();
        place = feed.next;
        if feed.at_head && feed.items.is_empty() {
            break;
        }
    }
    let took = began.elapsed();
    println!(
        "the feed of all {} records, {changes} changes: {took:.2?}, {:.2} x the fold; \
         slowest page {:.0} ms",
        log.head(),
        took.as_secs_f64() / fold.as_secs_f64(),
        slowest * 1e3
    );
    engine.close();
}
