//! Walks over candidates in the order of their ids.

use core::cmp::Ordering;
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
        (false, None) => Box::new(roster.ascending(cut, &|_| Ordering::Greater)),
        (true, Some(start)) => Box::new(roster.descending(cut, &|item| id(item).cmp(start))),
        (true, None) => Box::new(roster.descending(cut, &|_| Ordering::Less)),
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
    let named = |walk: IdWalk<'a>| walk.map(move |item| (id(item), item));
    let named = walks.into_iter().map(named).collect();
    let merged = merge_by(named, descending, |a: &(&str, u32), b: &(&str, u32)| a.0.cmp(b.0));
    let mut last = None;
    let is_new = move |item: &u32| last.replace(*item) != Some(*item);
    Box::new(merged.map(|(_, item)| item).filter(is_new))
}

/// Merges several walks into one. All are in the same order, or all in the opposite one. Takes from
/// each no more than one item ahead, and costs the logarithm of their number for each item.
pub(crate) fn merge_by<T, W: Iterator<Item = T>>(
    mut walks: Vec<W>,
    descending: bool,
    order: impl Fn(&T, &T) -> Ordering + Copy,
) -> impl Iterator<Item = T> {
    let head = move |item: T, walk: usize| Head { item, walk, descending, order };
    let firsts = walks.iter_mut().enumerate();
    let firsts = firsts.filter_map(|(number, walk)| Some(head(walk.next()?, number)));
    let mut heads: BinaryHeap<_> = firsts.collect();
    // The walk of the item that was returned last goes on when the next one is wanted.
    let mut last = None;
    core::iter::from_fn(move || {
        if let Some(number) = last.take()
            && let Some(item) = walks.get_mut(number).and_then(Iterator::next)
        {
            heads.push(head(item, number));
        }
        let Head { item, walk, .. } = heads.pop()?;
        last = Some(walk);
        Some(item)
    })
}

/// The next item of one of several walks. The greatest is the one that comes first.
struct Head<T, F> {
    item: T,
    walk: usize,
    descending: bool,
    order: F,
}

impl<T, F: Fn(&T, &T) -> Ordering> Ord for Head<T, F> {
    fn cmp(&self, other: &Self) -> Ordering {
        let order = (self.order)(&self.item, &other.item);
        if self.descending { order } else { order.reverse() }
    }
}

impl<T, F: Fn(&T, &T) -> Ordering> PartialOrd for Head<T, F> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T, F: Fn(&T, &T) -> Ordering> PartialEq for Head<T, F> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<T, F: Fn(&T, &T) -> Ordering> Eq for Head<T, F> {}
