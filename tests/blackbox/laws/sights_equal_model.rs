//! The naive model and the server agree about what a key sees that is bound to organizations:
//! random histories in which everything is mixed, random questions in both clocks.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use rollcall::keys::{ApiKey, ApiKeys};
use rollcall::log::{Log, MemoryLog};
use rollcall_projections::Sight;
use serde_json::json;

use crate::kit::histories::{history, question};
use crate::kit::model::World;
use crate::kit::road::{Routes, engine, settings, verified_at};
use crate::kit::scale::{check_each, histories};
use crate::kit::server::{holds, now_ms};
use crate::laws::directories_equal_model::first_difference;

const HISTORIES: u64 = 30;
const QUESTIONS: usize = 60;

#[derive(Default)]
struct Tally {
    /// By path: the answers that differ from what all see, and those that show something.
    answers: BTreeMap<String, [u64; 2]>,
}

#[test]
fn any_question_of_a_bound_key_is_answered_as_the_model_says() {
    let tally = Mutex::new(Tally::default());
    check_each(histories(HISTORIES), 2, |seed| {
        actix_web::rt::System::new().block_on(check(seed, &tally));
    });
    let Tally { answers } = tally.into_inner().unwrap();
    println!("answers that differ from those of all, and that show something: {answers:?}");
    for path in ["directories", "directory_users", "directory_groups", "events"] {
        let [differ, show] = answers[path];
        assert!(differ >= HISTORIES && show >= HISTORIES, "{answers:?}");
    }
}

/// Every set of the organizations, and one that nothing names.
fn sets(organizations: &[String]) -> Vec<Vec<String>> {
    let mut sets = vec![Vec::new(), vec!["org_nowhere".to_owned()]];
    for organization in organizations {
        for at in 0..sets.len() {
            let more = [&sets[at][..], std::slice::from_ref(organization)].concat();
            sets.push(more);
        }
    }
    sets
}

fn key_of(number: usize) -> String {
    format!("sk_bound_{number}")
}

async fn check(seed: u64, tally: &Mutex<Tally>) {
    let mut rng = StdRng::seed_from_u64(seed ^ 0x516);
    let (mut world, log) = (World::new(), MemoryLog::new([7; 16]));
    let history = history(300_000 + seed);
    for delivery in history.deliveries.iter().take(160) {
        let t_ms = now_ms();
        log.append(vec![verified_at(&delivery.body, t_ms)], t_ms).unwrap();
        world.deliver_recorded(&delivery.body, t_ms, t_ms);
    }
    let organizations = world.ids().organizations;
    let sets = sets(&organizations[..organizations.len().min(4)]);
    let bound = sets.iter().enumerate().map(|(number, own)| ApiKey {
        name: Some(key_of(number)),
        organizations: Some(own.clone()),
        ..ApiKey::unrestricted(&key_of(number))
    });
    let mut settings = settings();
    settings.api_keys = ApiKeys::new(bound).unwrap();
    let engine = engine(Arc::new(log));
    check_quarantine(seed, &engine, &world, &sets);
    let routes = Routes::of(engine.clone(), settings).await;
    for _ in 0..QUESTIONS {
        let number = rng.random_range(0..sets.len());
        let mut question = question(&mut rng, &world);
        if let Some((_, id)) = question.query.iter_mut().find(|(name, _)| name == "organization_id")
            && rng.random_bool(0.5)
        {
            id.clone_from(organizations.choose(&mut rng).unwrap_or(&"org_nowhere".to_owned()));
        }
        let (path, query, cut) = (&question.path, &question.query, question.cut);
        let (status, expected) = world.get_seen(path, query, cut, Some(&sets[number]));
        let reply = routes.get(&question.url(), &key_of(number)).await;
        let found = reply.json();
        let same = if status == 422 { holds(&expected, &found) } else { expected == found };
        assert!(
            reply.status == status && same,
            "history {seed}: {} seen by {:?}\n server {} {found}\n model  {status} {expected}\n {}",
            question.url(),
            sets[number],
            reply.status,
            first_difference(&found, &expected)
        );
        let call = path.trim_start_matches('/').split('/').next().unwrap().to_owned();
        let mut tally = tally.lock().unwrap();
        let [differ, show] = tally.answers.entry(call).or_default();
        *differ += u64::from(world.get(path, query, cut).1 != expected);
        *show += u64::from(status == 200 && expected["data"] != json!([]));
    }
    engine.close();
}

/// A record is listed for those who see its event.
fn check_quarantine(
    seed: u64,
    engine: &rollcall::engine::Engine,
    world: &World,
    sets: &[Vec<String>],
) {
    for own in sets {
        let views = engine.views();
        let views = views.seen_by(&Sight::Of(own.clone()));
        let listed: Vec<u64> = views.quarantine().iter().map(|entry| entry.seq).collect();
        let all = world.quarantine().into_iter().map(|(seq, ..)| seq);
        let expected: Vec<u64> = all.filter(|seq| world.is_seen(*seq, Some(own))).collect();
        assert_eq!(listed, expected, "history {seed}, seen by {own:?}");
    }
}
