//! An index only proposes: at every cut and for every caller a list holds exactly what asking for
//! each thing by its id finds.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rollcall_projections::{
    Cut, DirectoryFilter, GroupFilter, Page, Seen, Sight, UserFilter, UserRow, Window,
};

use crate::kit::histories::history;
use crate::kit::model::{Ids, World};
use crate::kit::road::fold;
use crate::kit::scale::{check_each, histories};

/// Histories in a run at scale 1.
const HISTORIES: u64 = 150;
const CUTS: usize = 12;

#[test]
fn a_list_holds_exactly_what_is_found_one_by_one() {
    let (histories, listed) = (histories(HISTORIES), AtomicU64::new(0));
    check_each(histories.clone(), 2, |seed| {
        listed.fetch_add(check(seed), Ordering::Relaxed);
    });
    let (listed, histories) = (listed.into_inner(), histories.end - histories.start);
    assert!(listed > histories * 30, "{listed}");
}

/// Checks one history, and returns the number of listed things that were compared.
fn check(seed: u64) -> u64 {
    let recorded_at = 1_790_000_000_000;
    let (mut world, mut bodies) = (World::new(), Vec::new());
    let history = history(100_000 + seed);
    for delivery in &history.deliveries {
        // Folded alone, without the log that keeps duplicates and conflicts out.
        let receipt = world.deliver(&delivery.body, recorded_at);
        if !receipt.duplicate && !receipt.conflict {
            bodies.push(delivery.body.as_slice());
        }
    }
    let (views, ids, moments) = (fold(&bodies, recorded_at), world.ids(), world.moments());
    let sights: Vec<Sight> = (0..=ids.organizations.len())
        .map(|count| match count {
            0 => Sight::All,
            _ => Sight::Of(ids.organizations[..count].into()),
        })
        .collect();
    let mut rng = StdRng::seed_from_u64(seed);
    let cuts = (0..CUTS).map(|_| Cut {
        as_of: if rng.random_bool(0.3) {
            i64::MAX
        } else {
            moments[rng.random_range(0..moments.len())]
        },
        known_at: if rng.random_bool(0.4) { u64::MAX } else { rng.random_range(0..=views.head()) },
    });
    let (mut listed, cuts) = (0, cuts.collect::<Vec<_>>());
    for (cut, sight) in cuts.into_iter().zip(sights.iter().cycle()) {
        listed += check_cut(seed, &views.seen_by(sight), &ids, cut);
    }
    listed
}

fn whole<'a>() -> Window<'a> {
    Window { descending: false, after: None, before: None, limit: usize::MAX }
}

fn ids_of(page: Page<UserRow>) -> Vec<String> {
    page.items.into_iter().map(|row| row.user.id).collect()
}

fn check_cut(seed: u64, views: &Seen<'_>, ids: &Ids, cut: Cut) -> u64 {
    let users: BTreeMap<&str, UserRow> =
        ids.users.iter().filter_map(|id| Some((id.as_str(), views.user(id, cut)?))).collect();
    let mut listed = 0;
    let mut same = |what: &str, found: Vec<String>, expected: Vec<String>| {
        assert_eq!(found, expected, "history {seed}, {what} at {cut:?}");
        listed += found.len() as u64;
    };
    for group in &ids.groups {
        let members =
            users.iter().filter(|(_, row)| row.groups.rows.iter().any(|other| other.id == *group));
        let expected: Vec<String> = members.map(|(id, _)| (*id).to_owned()).collect();
        let filter = UserFilter { group: Some(group), ..UserFilter::default() };
        same("members", ids_of(views.users(&filter, cut, whole())), expected.clone());
        let descending = Window { descending: true, ..whole() };
        same(
            "members from the end",
            ids_of(views.users(&filter, cut, descending)),
            expected.iter().rev().cloned().collect(),
        );
        // In steps of three candidates, which are described or only counted.
        let (mut nested, mut count, mut after) = (Vec::new(), 0, None::<String>);
        while views.group(group, cut).is_some() {
            let step = views.members_step(group, cut, after.as_deref(), 3, 3);
            count += step.count;
            nested.extend(step.rows.into_iter().map(|row| row.id));
            let counted = views.members_step(group, cut, after.as_deref(), 0, 3);
            assert_eq!((counted.count, &counted.next), (step.count, &step.next));
            after = step.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(count, expected.len());
        same("nested members", nested, expected);
    }
    let in_directories: Vec<String> = ids
        .directories
        .iter()
        .flat_map(|directory| {
            ids_of(views.users(
                &UserFilter { directory: Some(directory), ..UserFilter::default() },
                cut,
                whole(),
            ))
        })
        .collect();
    let mut sorted = in_directories.clone();
    sorted.sort();
    same("users of all directories", sorted, users.keys().map(|id| (*id).to_owned()).collect());
    let groups: Vec<String> =
        ids.groups.iter().filter(|id| views.group(id, cut).is_some()).cloned().collect();
    let mut in_directories: Vec<String> = ids
        .directories
        .iter()
        .flat_map(|directory| {
            views
                .groups(
                    &GroupFilter { directory: Some(directory), ..GroupFilter::default() },
                    cut,
                    whole(),
                )
                .items
        })
        .map(|row| row.id)
        .collect();
    in_directories.sort();
    let mut expected = groups;
    expected.sort();
    same("groups of all directories", in_directories, expected);
    let directories: Vec<String> =
        ids.directories.iter().filter(|id| views.directory(id, cut).is_some()).cloned().collect();
    let mut expected = directories;
    expected.sort();
    let found = views
        .directories(&DirectoryFilter::default(), cut, whole())
        .items
        .into_iter()
        .map(|row| row.id)
        .collect();
    same("directories", found, expected);
    listed
}
