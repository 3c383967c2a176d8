//! Measures the cost of the past: each question about now, as of a random moment, known at a random
//! record, and both.
//!
//! The same company with the same present state after 10,000, 100,000 and 1,000,000 events, 5 % of
//! which came late. A question is asked of the routes themselves, without a socket: parameters,
//! cut, views, documents, JSON. `ROLLCALL_BENCH_EVENTS=10000,100000` measures less.

#![allow(clippy::panic, clippy::indexing_slicing, reason = "a benchmark that cannot go on stops")]

mod kit;

use std::sync::{Arc, OnceLock};

use actix_web::App;
use actix_web::test::{TestRequest, call_service, init_service, read_body};
use kit::{
    BUSY_GROUP, BUSY_USER, Company, DIRECTORY, Dice, REVOLVING_GROUP, START, STEP_MS, build,
    group_id, in_turns, settings, time, user_id,
};
use rollcall::engine::Engine;
use rollcall::http::app;
use rollcall::log::Log;

/// A path that may be asked at some moment, its query open.
type Path<'a> = Box<dyn Fn(&mut Dice, i64) -> String + 'a>;

const QUESTIONS: usize = 256;
const ROUNDS: usize = 9;
const DOCUMENTS_MAX: u64 = 256 << 20;
/// The busy user gets at least so many versions in the largest log.
const BUSY_VERSIONS: usize = 100_000;

fn main() {
    let sizes =
        std::env::var("ROLLCALL_BENCH_EVENTS").unwrap_or_else(|_| "10000,100000,1000000".into());
    let mut now_at_first: Vec<f64> = Vec::new();
    for events in sizes.split(',').filter_map(|size| size.trim().parse::<usize>().ok()) {
        let Ok(folder) = tempfile::tempdir() else { panic!("no temporary folder") };
        let (log, company, settled) = build(folder.path(), events);
        measure(log, company, settled, events, &mut now_at_first);
    }
}

fn measure(
    log: Arc<dyn Log>,
    company: Company,
    settled: i64,
    events: usize,
    now_at_first: &mut Vec<f64>,
) {
    let head = log.head();
    let started = std::time::Instant::now();
    let engine = match Engine::start(log, DOCUMENTS_MAX, rollcall::time::now_ms, |_| {}) {
        Ok(engine) => engine,
        Err(error) => panic!("{error}"),
    };
    println!(
        "\n{head} records, folded from the disk at {:.0} events/s",
        head as f64 / started.elapsed().as_secs_f64()
    );
    let slot: Arc<OnceLock<Arc<Engine>>> = Arc::default();
    let _ = slot.set(engine.clone());
    let settings = settings(1);
    let system = actix_web::rt::System::new();
    let service = system.block_on(init_service(App::new().configure(app(settings, slot))));
    let ask = |path: &str| {
        let request =
            TestRequest::get().uri(path).insert_header(("Authorization", "Bearer k")).to_request();
        let body =
            system.block_on(async { read_body(call_service(&service, request).await).await });
        assert!(body.len() > 40, "{path}: {body:?}");
        body.len()
    };
    let mut dice = Dice(5);
    // Somebody who was there at a moment.
    let anybody = |dice: &mut Dice, at: i64| loop {
        let (person, from, until) = company.lives[dice.below(company.lives.len() as u64) as usize];
        if (from..until).contains(&at) {
            return user_id(person);
        }
    };
    let members = |group: u64| {
        move |_: &mut Dice, _: i64| format!("/directory_users?group={}&limit=100", group_id(group))
    };
    let mut questions: Vec<(&str, Path<'_>)> = vec![
        ("user by id", Box::new(|dice, at| format!("/directory_users/{}?", anybody(dice, at)))),
        (
            "100 users of a directory",
            Box::new(|_, _| format!("/directory_users?directory={DIRECTORY}&limit=100")),
        ),
        ("100 members of a group", Box::new(|dice, at| members(dice.below(kit::GROUPS))(dice, at))),
        ("same, ten times more former members", Box::new(members(BUSY_GROUP))),
        ("same, who come and go again and again", Box::new(members(REVOLVING_GROUP))),
    ];
    if events >= BUSY_VERSIONS * 10 {
        questions.push((
            "user with 100,000 versions",
            Box::new(|_, _| format!("/directory_users/{}?", user_id(BUSY_USER))),
        ));
    }
    for cold in [false, true] {
        println!(
            "{:<40} {:>10} {:>21} {:>21} {:>21}",
            if cold { "document cache emptied" } else { "" },
            "now",
            "as_of",
            "known_at",
            "both"
        );
        for (at, (what, path)) in questions.iter().enumerate() {
            let mut made: Vec<Vec<String>> = vec![Vec::new(); 4];
            for _ in 0..QUESTIONS {
                let span = (company.at - settled).max(1) as u64;
                let moment = settled + dice.below(span) as i64;
                let (as_of, known_at) = (
                    format!("&as_of={}", time(moment)),
                    format!("&known_at={}", ((moment - START) / STEP_MS).min(head as i64)),
                );
                let another = format!(
                    "&known_at={}",
                    ((settled - START) / STEP_MS) as u64
                        + dice.below(
                            head.saturating_sub(((settled - START) / STEP_MS) as u64).max(1)
                        )
                );
                made[0].push(path(&mut dice, company.at));
                made[1].push(format!("{}{as_of}", path(&mut dice, moment)));
                made[2].push(format!("{}{known_at}", path(&mut dice, moment)));
                made[3].push(format!("{}{as_of}{another}", path(&mut dice, moment)));
            }
            // A user who was not known yet at a random record is missing: such an answer is short,
            // and is not compared.
            for kind in &mut made {
                kind.retain(|path| ask(path) > 300);
                assert!(
                    kind.len() > QUESTIONS / 8,
                    "{what}: only {} questions are left",
                    kind.len()
                );
            }
            let mut next = [0usize; 4];
            let mut work = |kind: usize| {
                if cold {
                    engine.clear_documents();
                }
                next[kind] = (next[kind] + 1) % made[kind].len();
                ask(&made[kind][next[kind]]);
            };
            let work = std::cell::RefCell::new(&mut work);
            let mut works: Vec<Box<dyn FnMut()>> = (0..4)
                .map(|kind| {
                    Box::new({
                        let work = &work;
                        move || (work.borrow_mut())(kind)
                    }) as Box<dyn FnMut()>
                })
                .collect();
            let mut works: Vec<&mut dyn FnMut()> =
                works.iter_mut().map(|work| work.as_mut() as &mut dyn FnMut()).collect();
            let times = in_turns(ROUNDS, QUESTIONS, &mut works);
            let row: Vec<String> = times
                .iter()
                .skip(1)
                .map(|ns| format!("{:>10} {:>4.2} x now", kit::cost(*ns), ns / times[0]))
                .collect();
            let key = at + if cold { 100 } else { 0 };
            while now_at_first.len() <= key {
                now_at_first.push(f64::NAN);
            }
            let growth = if now_at_first[key].is_nan() {
                String::new()
            } else {
                format!("   now is {:.2} x now at first", times[0] / now_at_first[key])
            };
            if now_at_first[key].is_nan() {
                now_at_first[key] = times[0];
            }
            println!("{what:<40} {:>10} {}{growth}", kit::cost(times[0]), row.join(" "));
        }
    }
    engine.close();
}
