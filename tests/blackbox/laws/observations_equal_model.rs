//! The naive model and the server agree where a part of the events never arrives and the source is
//! asked instead: random histories, in which comparisons with the source come at random moments. A
//! last comparison brings the source and the server together, and one more changes nothing.

use std::collections::BTreeSet;

use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

use crate::kit::case::{Case, LATEST};
use crate::kit::compare::{Tally, check_histories, count, draw_cut};
use crate::kit::histories::{history, history_of_audit, question};
use crate::kit::model::observations::{Expected, Thing};
use crate::kit::model::{Ids, World};
use crate::kit::server::now_ms;

/// Histories in a run at scale 1.
const HISTORIES: u64 = 24;

/// Of a hundred events, those that never arrive.
const LOST: u32 = 30;

#[test]
fn what_is_observed_where_events_are_lost_is_answered_as_the_model_says() {
    let tally = Tally::default();
    let histories = check_histories(HISTORIES, |seed| check(seed, &tally));
    let tally = tally.into_inner().unwrap();
    println!("observations, and those that were recorded: {tally:?}");
    for kind in ["directories", "users", "groups", "memberships", "ends by observation"] {
        let [asked, recorded] = tally.get(kind).copied().unwrap_or_default();
        assert!(recorded * 8 >= histories && recorded < asked, "{kind}: {tally:?}");
    }
}

fn check(seed: u64, tally: &Tally) {
    let mut rng = StdRng::seed_from_u64(seed ^ 0x0b5e);
    let told = if seed.is_multiple_of(2) { history_of_audit(seed) } else { history(seed) };
    let (mut source, mut case) = (World::new(), Case::default());
    let mut deliveries = told.deliveries;
    deliveries.truncate(120);
    for delivery in deliveries {
        let now = now_ms();
        source.deliver_recorded(&delivery.body, now + delivery.shift_ms, now);
        if !rng.random_ratio(LOST, 100) {
            case.deliver_recorded(&delivery.body, now + delivery.shift_ms, now);
        }
        if rng.random_bool(0.04) {
            let asked = draw_moment(&mut rng, &source);
            compare(&mut rng, &source, &mut case, asked, Some(tally));
        }
    }
    // What is dated ahead must be over before it is all compared.
    let moments = source.moments().into_iter().chain(case.moments());
    let last = moments.max().unwrap_or_default().max(now_ms()) + 1;
    compare(&mut rng, &source, &mut case, last, Some(tally));
    let head = case.head();
    compare(&mut rng, &source, &mut case, last + 1, None);
    assert_eq!(case.head(), head, "history {seed}: one more comparison changes something");
    check_equal(seed, &source, case.world());
    check_answers(seed, &mut rng, &case, tally);
}

/// Draws a moment of the past at which the source may have been asked.
fn draw_moment(rng: &mut StdRng, source: &World) -> i64 {
    let moments: Vec<i64> = source.moments().into_iter().filter(|at| *at < now_ms()).collect();
    match rng.random_bool(0.7) {
        true => moments.last().map_or_else(now_ms, |last| last + 1),
        false => moments.choose(rng).map_or_else(now_ms, |at| at + rng.random_range(0..=1)),
    }
}

/// Compares everything with the source, tells of what differs, and ends the comparison.
fn compare(rng: &mut StdRng, source: &World, case: &mut Case, asked: i64, tally: Option<&Tally>) {
    let named = [source.ids(), case.ids()];
    let all = |ids: fn(&Ids) -> &Vec<String>| -> Vec<String> {
        let all: BTreeSet<&String> = named.iter().flat_map(ids).collect();
        all.into_iter().cloned().collect()
    };
    let directories = all(|ids| &ids.directories);
    for id in &directories {
        let said = served(source, "directories", id);
        let thing = Thing::Directory(id.clone());
        let known = served(case.world(), "directories", id);
        if said.is_none() || comparable(&said) != comparable(&known) {
            tell(case, &thing, said, asked, tally, "directories");
        }
    }
    for (path, ids) in
        [("directory_groups", all(|ids| &ids.groups)), ("directory_users", all(|ids| &ids.users))]
    {
        for id in ids {
            let (said, known) = (served(source, path, &id), served(case.world(), path, &id));
            if said.is_some() && comparable(&said) == comparable(&known) {
                continue;
            }
            let object = said.as_ref().or(known.as_ref());
            let directory = object.map_or("D", |object| object["directory_id"].as_str().unwrap());
            let thing = match path {
                "directory_users" => Thing::User(id.clone(), directory.to_owned()),
                _ => Thing::Group(id.clone(), directory.to_owned()),
            };
            let kind = if path == "directory_users" { "users" } else { "groups" };
            tell(case, &thing, said, asked, tally, kind);
        }
    }
    let mut pairs: Vec<_> = members(source).union(&members(case.world())).cloned().collect();
    pairs.shuffle(rng);
    for (user, group) in pairs {
        let present = members(source).contains(&(user.clone(), group.clone()));
        let directory = served(source, "directory_groups", &group)
            .or_else(|| served(case.world(), "directory_groups", &group))
            .map_or("D".to_owned(), |object| object["directory_id"].as_str().unwrap().to_owned());
        let thing = Thing::Membership(user, group, directory);
        tell(case, &thing, present.then_some(json!(true)), asked, tally, "memberships");
    }
    if tally.is_some() {
        let clean: Vec<&str> = directories.iter().map(String::as_str).collect();
        case.compare_at(asked, &clean);
    }
}

fn tell(
    case: &mut Case,
    thing: &Thing,
    said: Option<Value>,
    asked: i64,
    tally: Option<&Tally>,
    kind: &'static str,
) {
    let outcome = case.observe_at(thing, said.clone(), asked);
    let recorded = matches!(outcome, Expected::Recorded(_));
    match tally {
        Some(tally) => count(tally, kind, recorded),
        None => assert!(!recorded, "one more comparison changes {thing:?}: {said:?}"),
    }
}

/// Checks that the source and the server serve the same things in the same groups.
fn check_equal(seed: u64, source: &World, world: &World) {
    let ids = source.ids();
    let paths = [
        ("directories", &ids.directories),
        ("directory_users", &ids.users),
        ("directory_groups", &ids.groups),
    ];
    for (path, ids) in paths {
        for id in ids {
            let [theirs, ours] = [source, world].map(|world| comparable(&served(world, path, id)));
            assert_eq!(ours, theirs, "history {seed}: {path} {id}");
        }
    }
    assert_eq!(members(world), members(source), "history {seed}");
}

/// Returns a thing as it is served now, without its groups.
fn served(world: &World, path: &str, id: &str) -> Option<Value> {
    let (status, mut body) = world.get(&format!("/{path}/{id}"), &[], LATEST);
    body.as_object_mut().map(|body| body.remove("groups"));
    (status == 200).then_some(body)
}

/// Returns what is compared of a thing: its times are not.
fn comparable(served: &Option<Value>) -> Option<Value> {
    let mut object = served.clone()?;
    for time in ["created_at", "updated_at"] {
        object.as_object_mut()?.remove(time);
    }
    Some(object)
}

/// Returns all memberships: pairs of a user and a group.
fn members(world: &World) -> BTreeSet<(String, String)> {
    let groups = |user: &String| {
        let (_, body) = world.get(&format!("/directory_users/{user}"), &[], LATEST);
        let groups = body["groups"].as_array().cloned().unwrap_or_default();
        groups.into_iter().map(|group| group["id"].as_str().unwrap().to_owned())
    };
    let users = world.ids().users;
    users.iter().flat_map(|user| groups(user).map(|group| (user.clone(), group))).collect()
}

fn check_answers(seed: u64, rng: &mut StdRng, case: &Case, tally: &Tally) {
    for _ in 0..25 {
        let question = question(rng, case.world());
        if question.path != "/events" {
            let query = question.query.iter().map(|(key, value)| (&key[..], &value[..]));
            case.ask(&question.path, &query.collect::<Vec<_>>(), question.cut);
        }
    }
    let ids = case.ids();
    for user in ids.users.sample(rng, 12) {
        let cut = draw_cut(rng, case.world());
        let periods = case.access_periods(user, cut).unwrap_or_default();
        for end in periods.iter().filter(|period| !period["until"].is_null()) {
            count(tally, "ends by observation", !end["not_before"].is_null());
        }
        case.groups_over_time(user, cut);
        case.history("user", user, cut);
    }
    for group in ids.groups.sample(rng, 4) {
        let cut = draw_cut(rng, case.world());
        case.members_over_time(group, cut);
        case.history("group", group, cut);
    }
    case.deprovisionings(&[], draw_cut(rng, case.world()));
    case.deprovisionings(&[], LATEST);
    let cuts = [draw_cut(rng, case.world()), draw_cut(rng, case.world())];
    case.diff(cuts[0], cuts[1], None);
    if seed.is_multiple_of(4) {
        case.all_changes();
    }
}
