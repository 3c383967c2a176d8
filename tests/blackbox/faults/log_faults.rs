//! A log that fails, hangs, or is not there yet: a clear error in time, and nothing lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use actix_web::http::{Method, StatusCode};
use bytes::Bytes;
use rollcall::engine::{Engine, IngestError};
use rollcall::log::{AppendError, History, Identity, Log, MemoryLog, Outcome, ReadError, Record};
use rollcall::verify::Verified;
use rollcall_projections::{Entry, Millis, Seq};
use serde_json::Value;

use super::full_disk::wait_until;
use crate::kit::model::read_time;
use crate::kit::road::{asking, engine, get, memory_log, operate, post, scraped, verified};
use crate::kit::server::{delegate_history, delegate_log, now_ms, user};

/// A log whose appends and bodies can be made to fail or to hang.
struct Faulty {
    log: MemoryLog,
    refuses: AtomicBool,
    fails: AtomicBool,
    /// Makes every append but the first fail.
    fails_after_one: AtomicBool,
    panics: AtomicBool,
    hangs: AtomicBool,
    /// Set by an append that hangs.
    is_hanging: AtomicBool,
    reads_nothing: AtomicBool,
    /// Keeps what is read for the fold back.
    holds: AtomicBool,
}

fn faulty() -> Arc<Faulty> {
    Arc::new(Faulty {
        log: MemoryLog::new([9; 16]),
        refuses: AtomicBool::new(false),
        fails: AtomicBool::new(false),
        fails_after_one: AtomicBool::new(false),
        panics: AtomicBool::new(false),
        hangs: AtomicBool::new(false),
        is_hanging: AtomicBool::new(false),
        reads_nothing: AtomicBool::new(false),
        holds: AtomicBool::new(false),
    })
}

delegate_history!(Faulty);

impl Log for Faulty {
    fn append(
        &self,
        batch: Vec<Verified>,
        recorded_at: Millis,
    ) -> Result<Vec<Outcome>, AppendError> {
        while self.hangs.load(Ordering::SeqCst) {
            self.is_hanging.store(true, Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(1));
        }
        if self.refuses.load(Ordering::SeqCst) && !batch.is_empty() {
            return Err(AppendError::Rejected("the disk is full".into()));
        }
        let fails_now = self.fails_after_one.load(Ordering::SeqCst) && self.log.head() > 0;
        if self.fails.load(Ordering::SeqCst) || fails_now {
            return Err(AppendError::Unknown("the disk is gone".into()));
        }
        assert!(!self.panics.load(Ordering::SeqCst), "a panic that is part of the test");
        self.log.append(batch, recorded_at)
    }

    fn entries(
        &self,
        after: Seq,
        events_max: usize,
        each: &mut dyn FnMut(&Entry<'_>),
    ) -> Result<Seq, ReadError> {
        while self.holds.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.log.entries(after, events_max, each)
    }

    fn bodies(&self, seqs: &[Seq]) -> Result<Vec<Bytes>, ReadError> {
        match self.reads_nothing.load(Ordering::SeqCst) {
            true => Err(ReadError::Damaged { seq: 1, what: "secret detail".into() }),
            false => self.log.bodies(seqs),
        }
    }

    delegate_log!();
}

fn body(id: &str) -> String {
    user(&format!("u{id}"), "d", "ana", "2025-01-01T00:00:00.000Z", id, "dsync.user.created")
}

#[test]
fn before_the_log_is_folded_everything_but_health_says_not_ready() {
    asking(None, async |server| {
        for request in [
            get("/readyz"),
            get("/directories"),
            get("/rollcall/v1/projections"),
            post(body("e").as_bytes()),
        ] {
            let (status, answer) = server.call(request).await;
            assert_eq!(
                (status, &answer["code"]),
                (StatusCode::SERVICE_UNAVAILABLE, &"not_ready".into())
            );
        }
        assert_eq!(server.call(get("/healthz")).await.0, StatusCode::OK);
        let (_, answer) = server.call(get("/readyz")).await;
        assert_eq!(
            states(&answer),
            [("access_log", "open"), ("fold", "folding"), ("log", "opening")]
        );
    });
}

/// The state of each part, in order of name.
fn states(answer: &Value) -> Vec<(&str, &str)> {
    let parts = answer["parts"].as_object().unwrap().iter();
    parts.map(|(name, part)| (name.as_str(), part["state"].as_str().unwrap())).collect()
}

/// The moment since when a part is as it is.
fn since_ms(answer: &Value, part: &str) -> i64 {
    read_time(answer["parts"][part]["since"].as_str().unwrap()).unwrap()
}

#[test]
fn an_append_that_is_refused_is_answered_with_503_and_the_event_may_come_again() {
    let log = faulty();
    let engine = engine(log.clone());
    asking(Some(engine), async |server| {
        log.refuses.store(true, Ordering::SeqCst);
        let (status, answer) = server.call(post(body("e").as_bytes())).await;
        assert_eq!(
            (status, &answer["code"]),
            (StatusCode::SERVICE_UNAVAILABLE, &"log_unavailable".into())
        );
        assert!(!answer.to_string().contains("disk"), "the cause stays in the log");
        assert_eq!(server.call(get("/directory_users/ue")).await.0, StatusCode::NOT_FOUND);
        log.refuses.store(false, Ordering::SeqCst);
        let (status, answer) = server.call(post(body("e").as_bytes())).await;
        assert_eq!((status, &answer["seq"]), (StatusCode::OK, &1.into()));
        assert_eq!(server.call(get("/readyz")).await.0, StatusCode::OK);
    });
}

#[test]
fn after_an_append_in_doubt_nothing_is_taken_and_nothing_said_that_could_change() {
    for panics in [false, true] {
        let log = faulty();
        let told = Arc::new(AtomicBool::new(false));
        let tell = told.clone();
        let on_failure = move |_: &str| tell.store(true, Ordering::SeqCst);
        let engine = Engine::start(log.clone(), 1 << 20, now_ms, on_failure).unwrap();
        asking(Some(engine), async |server| {
            assert_eq!(server.call(post(body("a").as_bytes())).await.0, StatusCode::OK);
            // A stamp of its own for what comes next.
            let before = now_ms();
            while now_ms() == before {}
            let flag = if panics { &log.panics } else { &log.fails };
            flag.store(true, Ordering::SeqCst);
            for id in ["b", "c"] {
                let (status, answer) = server.call(post(body(id).as_bytes())).await;
                assert_eq!(
                    (status, &answer["code"]),
                    (StatusCode::SERVICE_UNAVAILABLE, &"log_unavailable".into())
                );
            }
            // Events are refused from a moment before.
            wait_until("whoever runs the engine is told", || told.load(Ordering::SeqCst));
            let (_, answer) = server.call(get("/readyz")).await;
            assert_eq!(answer["code"], "log_unavailable");
            let parts = [
                ("access_log", "open"),
                ("clock", "believed"),
                ("fold", "current"),
                ("log", "failed"),
            ];
            assert_eq!(states(&answer), parts);
            assert!((before..=now_ms()).contains(&since_ms(&answer, "log")), "{answer}");
            // The fold is as it was before the failure.
            assert!(since_ms(&answer, "fold") <= before, "{answer}");
            // What is folded can still be asked about, but by the time of the batch in doubt nobody
            // can say for ever what was known.
            assert_eq!(server.call(get("/directory_users/ua")).await.0, StatusCode::OK);
            let by = |ms: i64| format!("/directories?known_at={}", crate::kit::model::rfc3339(ms));
            assert_eq!(server.call(get(&by(now_ms()))).await.1["code"], "log_unavailable");
            assert_eq!(server.call(get(&by(before))).await.0, StatusCode::OK);
        });
    }
}

#[test]
fn an_operators_act_that_the_log_refuses_changes_nothing_and_may_come_again() {
    let log = faulty();
    let engine = engine(log.clone());
    asking(Some(engine), async |server| {
        assert_eq!(server.call(post(body("e").as_bytes())).await.0, StatusCode::OK);
        let setting = serde_json::json!({ "inactive_users": "delete" });
        let acts = [
            (Method::PUT, "/rollcall/v1/policy", &setting),
            (Method::DELETE, "/directories/d", &Value::Null),
        ];
        log.refuses.store(true, Ordering::SeqCst);
        for (method, path, body) in &acts {
            let (status, answer) = server.call(operate(method.clone(), path, body)).await;
            assert_eq!(
                (status, &answer["code"]),
                (StatusCode::SERVICE_UNAVAILABLE, &"log_unavailable".into()),
                "{path}"
            );
            assert!(!answer.to_string().contains("disk"), "the cause stays in the log");
        }
        assert_eq!(server.call(get("/rollcall/v1/policy")).await.1["version"], 0);
        assert_eq!(server.call(get("/directories/d")).await.0, StatusCode::OK);
        log.refuses.store(false, Ordering::SeqCst);
        let (status, answer) =
            server.call(operate(Method::PUT, "/rollcall/v1/policy", &setting)).await;
        assert_eq!((status, &answer["seq"]), (StatusCode::OK, &2.into()));
    });
}

#[test]
fn when_the_log_is_closed_operators_are_told_so_and_readers_still_served() {
    let engine = engine(memory_log([body("e").as_bytes()]));
    engine.close();
    asking(Some(engine), async |server| {
        let setting = serde_json::json!({ "inactive_users": "delete" });
        for (method, path) in
            [(Method::PUT, "/rollcall/v1/policy"), (Method::DELETE, "/directories/d")]
        {
            let (status, answer) = server.call(operate(method, path, &setting)).await;
            assert_eq!(
                (status, &answer["code"]),
                (StatusCode::SERVICE_UNAVAILABLE, &"log_unavailable".into()),
                "{path}"
            );
        }
        assert_eq!(server.call(get("/rollcall/v1/policy")).await.1["inactive_users"], "retain");
    });
}

/// What the metrics say of the queue.
fn queued(engine: &Engine) -> Option<f64> {
    scraped(engine).value("rollcall_queue_events", &[])
}

#[test]
fn an_append_that_hangs_is_answered_within_five_seconds_and_a_full_queue_at_once() {
    let log = faulty();
    let engine = engine(log.clone());
    let filler = engine.clone();
    asking(Some(engine), async |server| {
        log.hangs.store(true, Ordering::SeqCst);
        let started = std::time::Instant::now();
        let mut waiting = Vec::new();
        let fill = async {
            while !log.is_hanging.load(Ordering::SeqCst) {
                tokio::task::yield_now().await;
            }
            let full = loop {
                match filler.submit(verified(body(&waiting.len().to_string()).as_bytes())) {
                    Ok(answer) => waiting.push(answer),
                    Err(error) => break error,
                }
                assert!(waiting.len() < 100_000, "the queue is bounded");
            };
            assert!(matches!(full, IngestError::QueueFull));
            assert_eq!(queued(&filler), Some(waiting.len() as f64));
            server.call(post(body("last").as_bytes())).await
        };
        let (first, last) = tokio::join!(server.call(post(body("first").as_bytes())), fill);
        for ((status, answer), code) in [(first, "log_unavailable"), (last, "queue_full")] {
            assert_eq!((status, &answer["code"]), (StatusCode::SERVICE_UNAVAILABLE, &code.into()));
        }
        assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
        // From then on events are refused whether the queue has room or not. The append may have
        // begun a moment after its event came.
        while !matches!(filler.submit(verified(b"{}")), Err(IngestError::Unavailable)) {
            assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
            tokio::task::yield_now().await;
        }
        log.hangs.store(false, Ordering::SeqCst);
        // Who gave up cancelled nothing: the first is there, and all that waited are written.
        for answer in waiting {
            assert!(answer.await.unwrap().is_ok());
        }
        assert_eq!(queued(&filler), Some(0.0));
        assert_eq!(server.call(get("/directory_users/ufirst")).await.0, StatusCode::OK);
    });
}

#[test]
fn a_body_that_cannot_be_read_is_an_internal_error_without_details() {
    let log = faulty();
    log.append(vec![verified(body("e").as_bytes())], now_ms()).unwrap();
    let engine = engine(log.clone());
    asking(Some(engine), async |server| {
        log.reads_nothing.store(true, Ordering::SeqCst);
        let (status, answer) = server.call(get("/directory_users/ue")).await;
        assert_eq!(
            (status, &answer["code"]),
            (StatusCode::INTERNAL_SERVER_ERROR, &"internal".into())
        );
        assert!(!answer.to_string().contains("secret"));
    });
}

#[test]
fn a_200_leaves_only_after_the_append_has_returned_and_the_event_is_folded() {
    let log = faulty();
    let engine: Arc<Engine> = engine(log.clone());
    log.hangs.store(true, Ordering::SeqCst);
    let mut answer = engine.submit(verified(body("e").as_bytes())).unwrap();
    while !log.is_hanging.load(Ordering::SeqCst) {
        std::thread::yield_now();
    }
    assert!(answer.try_recv().is_err(), "nothing is durable yet");
    log.hangs.store(false, Ordering::SeqCst);
    assert_eq!(answer.blocking_recv().unwrap().unwrap(), Outcome::New(1));
    assert_eq!(engine.views().head(), 1);
    engine.close();
    assert!(matches!(engine.submit(verified(b"{}")), Err(IngestError::Unavailable)));
}

/// Receives the outcome of an event.
type Awaited = tokio::sync::oneshot::Receiver<Result<Outcome, IngestError>>;

/// Submits an event, and two others while its append hangs; then lets that return, and holds the
/// fold.
fn submit_and_hold(log: &Faulty, engine: &Engine) -> Vec<Awaited> {
    log.hangs.store(true, Ordering::SeqCst);
    log.holds.store(true, Ordering::SeqCst);
    let submit = |id: &str| engine.submit(verified(body(id).as_bytes())).unwrap();
    let mut answers = vec![submit("a")];
    while !log.is_hanging.load(Ordering::SeqCst) {
        std::thread::yield_now();
    }
    answers.extend([submit("b"), submit("c")]);
    answers
}

fn let_go(log: &Faulty, answers: Vec<Awaited>) -> Vec<Result<Outcome, IngestError>> {
    log.holds.store(false, Ordering::SeqCst);
    answers.into_iter().map(|answer| answer.blocking_recv().unwrap()).collect()
}

#[test]
fn a_batch_is_appended_while_the_one_before_is_folded_and_each_is_answered_once_folded() {
    let log = faulty();
    let engine: Arc<Engine> = engine(log.clone());
    let mut answers = submit_and_hold(&log, &engine);
    log.hangs.store(false, Ordering::SeqCst);
    assert_eq!(log.wait(2, Duration::from_secs(30)), 3, "the fold holds up no append");
    assert_eq!(engine.folded_head(), 0);
    assert!(answers.iter_mut().all(|answer| answer.try_recv().is_err()), "nothing is folded yet");
    let answers = let_go(&log, answers);
    assert_eq!(answers, [1, 2, 3].map(|seq| Ok(Outcome::New(seq))));
    assert_eq!(engine.folded_head(), 3);
}

#[test]
fn an_append_in_doubt_does_not_take_back_the_batch_that_is_being_folded() {
    let log = faulty();
    let engine: Arc<Engine> = engine(log.clone());
    let answers = submit_and_hold(&log, &engine);
    // The append that hangs looks at this only after the others are queued.
    log.fails_after_one.store(true, Ordering::SeqCst);
    log.hangs.store(false, Ordering::SeqCst);
    let started = std::time::Instant::now();
    while engine.now().is_ok() {
        assert!(started.elapsed() < Duration::from_secs(30), "the append in doubt is noticed");
        std::thread::yield_now();
    }
    let answers = let_go(&log, answers);
    let unavailable = || Err(IngestError::Unavailable);
    assert_eq!(answers, [Ok(Outcome::New(1)), unavailable(), unavailable()]);
    assert_eq!(engine.folded_head(), 1);
}

#[test]
fn an_emptied_document_cache_changes_no_answer() {
    let log = memory_log([body("a").as_bytes(), body("b").as_bytes()]);
    let engine = engine(log);
    let forgetful = engine.clone();
    asking(Some(engine), async |server| {
        let first = server.call(get("/directory_users?directory=d")).await;
        for _ in 0..3 {
            forgetful.clear_documents();
            assert_eq!(server.call(get("/directory_users?directory=d")).await, first);
        }
    });
}
