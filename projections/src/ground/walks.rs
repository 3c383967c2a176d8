//! Walks over candidates in the order of their ids.

use std::collections::BinaryHeap;

use crate::ground::order::Cut;
use crate::ground::page::CANDIDATES_MAX;
use crate::ground::roster::Roster;

/// Candidates in the order of their ids.
pub(crate) type IdWalk<'a> = Box<dyn Iterator<Item = u32> + 'a>;

/// Walks over the candidates of a roster beyond the id `start`.
pub(crate) fn walk<'a>(
    roster: &'a Roster,
    cut: Cut,
    start: Option<&str>,
    descending: bool,
    id: impl Fn(u32) -> &'a str,
) -> IdWalk<'a> {
    match (descending, start) {
        (false, Some(start)) => Box::new(roster.ascending(cut, &|item| id(item).cmp(start))),
        (false, None) => Box::new(roster.ascending(cut, &|_| core::cmp::Ordering::Greater)),
        (true, Some(start)) => Box::new(roster.descending(cut, &|item| id(item).cmp(start))),
        (true, None) => Box::new(roster.descending(cut, &|_| core::cmp::Ordering::Less)),
    }
}

/// Tells if `id` follows `start` in a walk's direction.
pub(crate) fn is_beyond(id: &str, start: Option<&str>, descending: bool) -> bool {
    start.is_none_or(|start| if descending { id < start } else { id > start })
}

/// Walks over items that are sorted by id, beyond the id `start`.
pub(crate) fn walk_sorted<'a>(
    items: &'a [u32],
    start: Option<&str>,
    descending: bool,
    id: impl Fn(u32) -> &'a str,
) -> IdWalk<'a> {
    if descending {
        let end =
            start.map_or(items.len(), |start| items.partition_point(|item| id(*item) < start));
        Box::new(items.iter().take(end).rev().copied())
    } else {
        let first = start.map_or(0, |start| items.partition_point(|item| id(*item) <= start));
        Box::new(items.iter().skip(first).copied())
    }
}

/// Returns the items beyond the id `start` that come first, in order and each once: as many as one
/// step of a walk looks at, and one more. Costs a look at each item.
pub(crate) fn first_beyond<'a>(
    items: impl Iterator<Item = u32>,
    start: Option<&str>,
    descending: bool,
    id: impl Fn(u32) -> &'a str,
) -> Vec<u32> {
    let mut beyond: Vec<u32> =
        items.filter(|item| is_beyond(id(*item), start, descending)).collect();
    beyond.sort_unstable();
    beyond.dedup();
    let order = |a: &u32, b: &u32| {
        let order = id(*a).cmp(id(*b));
        if descending { order.reverse() } else { order }
    };
    if beyond.len() > CANDIDATES_MAX + 1 {
        beyond.select_nth_unstable_by(CANDIDATES_MAX, order);
        beyond.truncate(CANDIDATES_MAX + 1);
    }
    beyond.sort_unstable_by(order);
    beyond
}

/// Walks over the candidates of several rosters in one order, each once.
pub(crate) fn walk_merged<'a>(
    rosters: &[&'a Roster],
    cut: Cut,
    start: Option<&str>,
    descending: bool,
    id: impl Fn(u32) -> &'a str + Copy + 'a,
) -> IdWalk<'a> {
    merge(
        rosters.iter().map(|roster| walk(roster, cut, start, descending, id)).collect(),
        descending,
        id,
    )
}

/// Merges several walks in the same order into one, with each item once. Costs the logarithm of
/// their number for each item.
pub(crate) fn merge<'a>(
    mut walks: Vec<IdWalk<'a>>,
    descending: bool,
    id: impl Fn(u32) -> &'a str + Copy + 'a,
) -> IdWalk<'a> {
    if walks.len() < 2 {
        return walks.pop().unwrap_or_else(|| Box::new(core::iter::empty()));
    }
    let head = move |item: u32, walk: usize| NextItem { id: id(item), descending, item, walk };
    let mut heads: BinaryHeap<NextItem<'a>> = walks
        .iter_mut()
        .enumerate()
        .filter_map(|(number, walk)| Some(head(walk.next()?, number)))
        .collect();
    let mut last = None;
    Box::new(core::iter::from_fn(move || {
        loop {
            let NextItem { item, walk, .. } = heads.pop()?;
            if let Some(next) = walks.get_mut(walk).and_then(Iterator::next) {
                heads.push(head(next, walk));
            }
            if last.replace(item) != Some(item) {
                return Some(item);
            }
        }
    }))
}

/// The next item of one of several walks. The greatest is the one that comes first.
#[derive(PartialEq, Eq)]
struct NextItem<'a> {
    id: &'a str,
    descending: bool,
    item: u32,
    walk: usize,
}

impl Ord for NextItem<'_> {
    fn cmp(&self, other: &Self) -> core::cmp::Ordering {
        let order = self.id.cmp(other.id);
        if self.descending { order } else { order.reverse() }
    }
}

impl PartialOrd for NextItem<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<core::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
