//! What is kept of answers never shows: each answer is byte for byte what is worked out anew.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use actix_web::http::Method;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use rollcall::engine::Engine;
use rollcall::http::Settings;
use rollcall::keys::{ApiKey, ApiKeys};
use rollcall::log::MemoryLog;
use rollcall_projections::{Cut, Millis, Sight};
use serde_json::json;

use crate::kit::histories::{history_of_roles, question};
use crate::kit::model::{World, read_time, rfc3339};
use crate::kit::play::{draw_mapping, effective_from};
use crate::kit::road::{Reply, Routes, engine, memory_log, operate, post, settings};
use crate::kit::scale::{check_each, histories};
use crate::kit::server::{API_KEY, now_ms};

const HISTORIES: u64 = 12;

/// One look at the answers in so many deliveries.
const LOOK_EVERY: usize = 6;

/// At each look: the questions that are new, and those that were asked before.
const NEW: usize = 3;
const OLD: usize = 3;

const BOUND_KEYS: [&str; 2] = ["sk_bound_to_one", "sk_bound_to_all"];

/// Counts answers that were kept when they were asked for the last time.
#[derive(Default)]
struct Tally {
    about_now: AtomicU64,
    about_the_past: AtomicU64,
}

#[test]
fn an_answer_that_is_kept_is_the_one_that_is_worked_out_anew() {
    let tally = Tally::default();
    check_each(histories(HISTORIES), 2, |seed| {
        actix_web::rt::System::new().block_on(check(seed, &tally));
    });
    let [now, past] = [tally.about_now, tally.about_the_past].map(AtomicU64::into_inner);
    assert!(now > HISTORIES && past > HISTORIES, "kept: {now} about now, {past} not");
}

fn settings_with_keys(organizations: &[String]) -> Settings {
    let bound_to = |key: &str, own: &[String]| ApiKey {
        name: Some(key.to_owned()),
        organizations: Some(own.to_vec()),
        ..ApiKey::unrestricted(key)
    };
    let one = &organizations[..organizations.len().min(1)];
    let keys = [bound_to(BOUND_KEYS[0], one), bound_to(BOUND_KEYS[1], organizations)];
    let keys = keys.into_iter().chain([ApiKey::unrestricted(API_KEY)]);
    Settings { api_keys: ApiKeys::new(keys).unwrap(), ..settings() }
}

/// A server that keeps answers, and all that was asked of it.
struct Asked<'a> {
    engine: Arc<Engine>,
    log: Arc<MemoryLog>,
    routes: Routes,
    organizations: Vec<String>,
    urls: Vec<String>,
    tally: &'a Tally,
}

async fn check(seed: u64, tally: &Tally) {
    let mut rng = StdRng::seed_from_u64(seed ^ 0x4e97);
    let history = history_of_roles(700_000 + seed);
    let mut world = World::new();
    for delivery in &history.deliveries {
        world.deliver_recorded(&delivery.body, now_ms(), now_ms());
    }
    let organizations = world.ids().organizations;
    let log = memory_log([]);
    let engine = engine(log.clone());
    let routes = Routes::of(engine.clone(), settings_with_keys(&organizations)).await;
    let mut asked = Asked { engine, log, routes, organizations, urls: Vec::new(), tally };
    for (number, delivery) in history.deliveries.iter().enumerate() {
        asked.routes.send(post(&delivery.body)).await;
        if number % LOOK_EVERY == LOOK_EVERY - 1 {
            asked.act(&mut rng, &world).await;
            asked.look(&mut rng, &world, seed).await;
        }
    }
    asked.engine.close();
}

impl Asked<'_> {
    /// Changes what is in force, has the views rebuilt, or does nothing.
    async fn act(&self, rng: &mut StdRng, world: &World) {
        let from = effective_from(rng, world).map(rfc3339);
        let (method, path, body) = match rng.random_range(0..4) {
            0 => {
                let body = json!({ "mapping": draw_mapping(rng, world), "effective_from": from });
                (Method::PUT, "/rollcall/v1/role_mapping", body)
            }
            1 => {
                let word = *["delete", "retain"].choose(rng).unwrap();
                let body = json!({ "inactive_users": word, "effective_from": from });
                (Method::PUT, "/rollcall/v1/policy", body)
            }
            2 => (Method::POST, "/rollcall/v1/projections/rebuild", json!({})),
            _ => return,
        };
        let reply = self.routes.send(operate(method, path, &body)).await;
        assert!([200, 202, 409].contains(&reply.status), "{path}: {}", reply.body);
    }

    /// Asks questions until their answers are kept, and compares each answer with that of a server
    /// that has just been started over the same log, and keeps nothing.
    async fn look(&mut self, rng: &mut StdRng, world: &World, seed: u64) {
        let head = self.engine.views().head();
        for _ in 0..NEW {
            let mut drawn = question(rng, world);
            drawn.cut.known_at = drawn.cut.known_at.map(|known_at| known_at.min(head));
            self.urls.push(drawn.url());
        }
        let old = (0..OLD).filter_map(|_| self.urls.choose(rng).cloned());
        let new = self.urls.iter().rev().take(NEW).cloned();
        let urls: Vec<String> = old.chain(new).collect();
        let fresh = Engine::start(self.log.clone(), 1, now_ms, |_| {}).unwrap();
        let settings = settings_with_keys(&self.organizations);
        let fresh_routes = Routes::of(fresh.clone(), settings).await;
        for url in &urls {
            for key in [API_KEY].into_iter().chain(BOUND_KEYS) {
                let expected = fresh_routes.get(url, key).await;
                for _ in 0..3 {
                    let reply = self.routes.get(url, key).await;
                    assert_eq!(reply, expected, "history {seed}, record {head}: {url}, {key}");
                }
                if key == API_KEY {
                    self.count(url, &expected);
                }
            }
        }
        fresh.close();
    }

    /// Counts the answer to a question if it is kept.
    fn count(&self, url: &str, reply: &Reply) {
        let header = |name: &str| {
            reply.headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
        };
        let (Some(as_of), Some(known_at)) = (header("rollcall-as-of"), header("rollcall-known-at"))
        else {
            return;
        };
        let moment = (as_of != "latest").then(|| read_time(as_of).unwrap());
        let cut = Cut { as_of: moment.unwrap_or(Millis::MAX), known_at: known_at.parse().unwrap() };
        let Some(kept) = self.engine.kept_answer(&self.engine.answer_key(url, &Sight::All, cut))
        else {
            return;
        };
        assert_eq!(kept.body, reply.body.as_bytes(), "{url}");
        let counter =
            if moment.is_some() { &self.tally.about_the_past } else { &self.tally.about_now };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}
