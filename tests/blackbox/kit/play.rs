//! Random histories in which operators act between the deliveries.

use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

use crate::kit::histories::{ATTRIBUTES, Delivery, GROUP_NAMES, HORIZON, History};
use crate::kit::model::roles::{group_names, values_of};
use crate::kit::model::{Cut, Ids, World, read_time};
use crate::kit::stage::Stage;

pub const ROLES: [&str; 7] = ["admin", "dev", "ops", "member", "B", "é", "a role"];

/// An operator's act. The moment is when it takes effect; without one it takes effect now.
pub enum Act {
    Policy(&'static str, Option<i64>),
    Mapping(Value, Option<i64>, Value),
    Deletion(String),
    /// A user of the application and one of a directory.
    Link(String, String),
    Unlink(String),
}

/// Users of the application: few, so that their links contradict each other.
pub const APP_USERS: [&str; 3] = ["1842", "1843", "ann"];

/// One step of a history.
pub enum Step {
    Deliver(Delivery),
    Act(Act),
}

/// Performs a history with acts between its deliveries. A seed always gives the same acts, each
/// drawn from what is known by then.
pub fn perform(
    seed: u64,
    history: History,
    stage: &mut Stage,
    mut each: impl FnMut(&mut Stage, Step),
) {
    let mut rng = StdRng::seed_from_u64(seed ^ 0xac7);
    let deliveries = history.deliveries;
    let mut places: Vec<usize> =
        (0..rng.random_range(2..=9)).map(|_| rng.random_range(0..=deliveries.len())).collect();
    places.sort_unstable();
    for (index, delivery) in deliveries.into_iter().map(Some).chain([None]).enumerate() {
        for _ in places.iter().filter(|place| **place == index) {
            let act = draw_act(&mut rng, &stage.world);
            each(stage, Step::Act(act));
        }
        if let Some(delivery) = delivery {
            each(stage, Step::Deliver(delivery));
        }
    }
}

fn draw_act(rng: &mut StdRng, world: &World) -> Act {
    match rng.random_range(0..130) {
        0..60 => {
            let note = if rng.random_bool(0.5) {
                json!(format!("mapping {}", rng.random_range(0..100)))
            } else {
                Value::Null
            };
            Act::Mapping(draw_mapping(rng, world), effective_from(rng, world), note)
        }
        60..85 => Act::Policy(
            ["delete", "delete", "retain"].choose(rng).unwrap(),
            effective_from(rng, world),
        ),
        100..125 => Act::Link(
            (*APP_USERS.choose(rng).unwrap()).to_owned(),
            pick(rng, &world.ids().users, "user_nowhere"),
        ),
        125.. => Act::Unlink(pick(rng, &world.ids().users, "user_nowhere")),
        _ => Act::Deletion(pick(rng, &world.ids().directories, "directory_nowhere")),
    }
}

/// Draws now, or a moment of the past at which something may have happened.
pub fn effective_from(rng: &mut StdRng, world: &World) -> Option<i64> {
    // What is later happened as the test ran.
    let horizon = read_time(HORIZON).unwrap();
    let past: Vec<i64> = world
        .turning_points(Cut::default())
        .into_iter()
        .filter(|moment| *moment < horizon)
        .collect();
    match rng.random_range(0..10) {
        0..4 => None,
        4 => past.first().map(|first| first - 86_400_000),
        _ => past.choose(rng).map(|moment| moment + rng.random_range(-1..=1)),
    }
}

pub fn draw_mapping(rng: &mut StdRng, world: &World) -> Value {
    let (ids, names) = (world.ids(), group_names(world));
    let rules: Vec<Value> =
        (0..rng.random_range(0..=6)).map(|_| draw_rule(rng, world, &ids, &names)).collect();
    let default_roles = if rng.random_bool(0.5) { draw_roles(rng) } else { Vec::new() };
    let highest = rng.random_bool(0.35);
    let mut priority: Vec<&str> = ROLES.to_vec();
    priority.shuffle(rng);
    if !highest {
        priority.truncate(rng.random_range(0..=ROLES.len()));
    }
    let mode = if highest { "highest_priority" } else { "all" };
    json!({ "mode": mode, "default_roles": default_roles, "priority": priority, "rules": rules })
}

fn draw_roles(rng: &mut StdRng) -> Vec<&'static str> {
    let count = *[1, 1, 2, 3].choose(rng).unwrap();
    // Mostly the first few, so that several rules give the same.
    let from = if rng.random_bool(0.7) { &ROLES[..3] } else { &ROLES[..] };
    from.sample(rng, count).copied().collect()
}

fn draw_rule(rng: &mut StdRng, world: &World, ids: &Ids, names: &[String]) -> Value {
    let mut rule = match rng.random_range(0..10) {
        0..2 => {
            json!({ "group": { "id": pick(rng, &ids.groups, "group_nowhere") },
                "roles": draw_roles(rng) })
        }
        2..5 => {
            let known = pick(rng, names, "Nobodies");
            let name = if rng.random_bool(0.8) {
                known
            } else {
                GROUP_NAMES.choose(rng).unwrap().to_string()
            };
            json!({ "group": { "name": name }, "roles": draw_roles(rng) })
        }
        5..7 => {
            let glob =
                *["*", "E*", "Eng*", "?ng", "*ng", "E\\*", "日?", "E*g", "??", "[E]*", "*n*"]
                    .choose(rng)
                    .unwrap();
            json!({ "group": { "name_glob": glob }, "roles": draw_roles(rng) })
        }
        _ => {
            let path = *ATTRIBUTES.choose(rng).unwrap();
            let known = values_of(world, path);
            let mut values = serde_json::Map::new();
            for _ in 0..rng.random_range(1..=3) {
                let other = *["admin", "7", "true", "null", "x"].choose(rng).unwrap();
                let value = pick(rng, &known, other);
                values.insert(value, json!(draw_roles(rng)));
            }
            json!({ "attribute": path, "values": values })
        }
    };
    if rng.random_bool(0.2) {
        rule["directory_id"] = json!(pick(rng, &ids.directories, "directory_nowhere"));
    }
    if rng.random_bool(0.2) {
        rule["organization_id"] = json!(pick(rng, &ids.organizations, "org_nowhere"));
    }
    rule
}

pub fn pick(rng: &mut StdRng, known: &[String], otherwise: &str) -> String {
    match known.choose(rng) {
        Some(known) if rng.random_bool(0.92) => known.clone(),
        _ => otherwise.to_owned(),
    }
}
