//! After each batch the tables equal the answers over HTTP, row by row, and their periods are the
//! model's at random moments.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use serde_json::Value;

use crate::kit::compare::{Tally, check_histories, count, restart_with};
use crate::kit::histories::history_of_roles;
use crate::kit::model::{Cut, rfc3339};
use crate::kit::play::{Act, Step, perform};
use crate::kit::postgres::{Session, TestDatabase, database};
use crate::kit::server::now_ms;
use crate::kit::sink::{compare, server, storable_key, wait_for_head};
use crate::kit::stage::Stage;

/// Histories in a run at scale 1.
const HISTORIES: u64 = 8;

/// The questions about moments, for each history.
const MOMENTS: usize = 12;

#[test]
fn the_tables_equal_the_answers_after_each_batch_whatever_comes_late() {
    let Some(_running) = database() else { return };
    let tally = Tally::default();
    let histories = check_histories(HISTORIES, |seed| check(seed, &tally));
    let tally = tally.into_inner().unwrap();
    println!("comparisons, and those of rows: {tally:?}");
    assert!(tally["batches"][1] >= histories * 4, "{tally:?}");
    assert!(tally["moments"][1] * 4 >= tally["moments"][0], "{tally:?}");
}

fn check(seed: u64, tally: &Tally) {
    let database = database().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut rng = StdRng::seed_from_u64(seed ^ 0x5317);
    let mut stage = Stage::new(Some(server(folder.path(), &database)));
    let session = database.session();
    perform(seed, history_of_roles(seed), &mut stage, |stage, step| {
        match step {
            Step::Deliver(delivery) => stage.deliver(&delivery.body, now_ms() + delivery.shift_ms),
            Step::Act(act) => perform_act(stage, act),
        }
        if rng.random_bool(0.12) {
            check_batch(seed, stage, &session, tally);
        }
        if rng.random_bool(0.01) {
            restart_with(stage, || server(folder.path(), &database));
        }
    });
    check_batch(seed, &stage, &session, tally);
    check_moments(seed, &stage, &session, &mut rng, tally);
    check_rebuild(seed, &stage, &database, tally);
}

fn perform_act(stage: &mut Stage, act: Act) {
    match act {
        Act::Policy(inactive_users, from) => stage.set_policy(inactive_users, from),
        Act::Mapping(mapping, from, note) => drop(stage.set_mapping(&mapping, from, note)),
        Act::Deletion(directory) => stage.delete_directory(&directory),
        Act::Link(app_user, user) => stage.set_link(&app_user, &user),
        Act::Unlink(user) => stage.remove_link(&user),
    }
}

fn check_batch(seed: u64, stage: &Stage, session: &Session, tally: &Tally) {
    let known_at = wait_for_head(stage.server());
    let rows =
        compare(stage.server(), session, &stage.world.ids(), known_at, &format!("history {seed}"));
    count(tally, "batches", rows > 0);
}

/// Compares who is found by a moment in the periods with what the model says of that moment.
fn check_moments(seed: u64, stage: &Stage, session: &Session, rng: &mut StdRng, tally: &Tally) {
    let (world, known_at) = (&stage.world, Some(stage.world.head()));
    let moments = world.turning_points(Cut { as_of_ms: None, known_at });
    for _ in 0..MOMENTS {
        let Some(moment) = moments.choose(rng) else { return };
        let at = (moment + rng.random_range(-1..=1)).min(now_ms());
        let cut = Cut { as_of_ms: Some(at), known_at };
        let mut expected: Vec<String> = Vec::new();
        for user in world.ids().users {
            let (status, found) = world.get(&format!("/directory_users/{user}"), &[], cut);
            let groups = found["groups"].as_array().filter(|_| status == 200);
            expected.extend(
                groups
                    .into_iter()
                    .flatten()
                    .map(|group: &Value| storable_key(group["id"].as_str().unwrap()))
                    .map(|group| format!("{group} {}", storable_key(&user))),
            );
        }
        expected.sort();
        let question = "SELECT group_id || ' ' || user_id FROM rollcall.membership_periods \
            WHERE period @> $1::text::timestamptz";
        let mut stored = session.texts(question, &[&rfc3339(at)]);
        stored.sort();
        assert_eq!(stored, expected, "history {seed} at {}", rfc3339(at));
        count(tally, "moments", !expected.is_empty());
    }
}

/// A rebuild mends rows that were changed, and all is as the answers say again.
fn check_rebuild(seed: u64, stage: &Stage, database: &TestDatabase, tally: &Tally) {
    let session = database.session();
    session.run(
        "DELETE FROM rollcall.directory_users; UPDATE rollcall.directory_groups SET name = 'x'; \
         INSERT INTO rollcall.directory_group_memberships VALUES ('no', 'body'); \
         UPDATE rollcall.access_periods SET end_reason = 'x'",
    );
    let begun = stage.server().act("post", "/rollcall/v1/sink/rebuild", None);
    assert_eq!(begun.status, 202, "{}", begun.json());
    crate::kit::sink::wait_until(stage.server(), "the rebuild", |status| {
        status["rebuild"]["state"] == "done"
    });
    check_batch(seed, stage, &session, tally);
}
