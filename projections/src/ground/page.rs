//! Pages of a list that is ordered by id.

/// The part of a list that is wanted.
#[derive(Clone, Copy, Debug)]
pub struct Window<'a> {
    /// From the highest id down.
    pub descending: bool,
    /// Only what follows this id in the list. It need not exist.
    pub after: Option<&'a str>,
    /// Only what precedes this id in the list: the `limit` items next to it.
    pub before: Option<&'a str>,
    /// The highest number of items.
    pub limit: usize,
}

/// A part of a list, in the list's order.
#[derive(Debug)]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// True if anything precedes the first.
    pub more_before: bool,
    /// True if anything follows the last.
    pub more_after: bool,
}

impl<T> Page<T> {
    /// Returns a page without items.
    pub fn empty() -> Page<T> {
        Page { items: Vec::new(), more_before: false, more_after: false }
    }
}

/// A part of a walk over a list, for which the views are locked once.
#[derive(Debug)]
pub struct Step<T> {
    /// The items found, in the order of the walk.
    pub items: Vec<T>,
    /// The id behind which to continue, if there may be more.
    pub next: Option<String>,
}

impl<T> Step<T> {
    /// Returns a step that finds nothing and ends the walk.
    pub fn end() -> Step<T> {
        Step { items: Vec::new(), next: None }
    }
}

/// The most candidates that one step of a walk looks at.
pub(crate) const CANDIDATES_MAX: usize = 2048;

/// The most items that one step finds: a user with its groups costs as much as many candidates.
const ITEMS_MAX: usize = 32;

/// Takes one step of a walk: judges candidates until `limit` of them are accepted, or enough were
/// looked at. `id` names a candidate.
pub(crate) fn step<'a, T>(
    candidates: impl Iterator<Item = u32>,
    limit: usize,
    accept: impl Fn(u32) -> Option<T>,
    id: impl Fn(u32) -> &'a str,
) -> Step<T> {
    let (mut items, limit) = (Vec::new(), limit.min(ITEMS_MAX));
    for (looked_at, candidate) in (1..).zip(candidates) {
        items.extend(accept(candidate));
        if items.len() >= limit || looked_at >= CANDIDATES_MAX {
            return Step { items, next: Some(id(candidate).to_owned()) };
        }
    }
    Step { items, next: None }
}

/// Cuts a page out of a list that is walked over in steps.
///
/// `step` is given the id to continue behind (none for the end of the list), whether to descend
/// from there, and the number of items wanted; `id` names an item. Costs the candidates that are
/// walked over, no more. A lock that a step takes is released after it.
pub fn page_in_steps<T>(
    window: Window<'_>,
    mut step: impl FnMut(Option<&str>, bool, usize) -> Step<T>,
    id: impl Fn(&T) -> &str,
) -> Page<T> {
    let mut find = |start: Option<&str>, descending: bool, limit: usize| {
        let (mut items, mut start) = (Vec::new(), start.map(str::to_owned));
        loop {
            let found = step(start.as_deref(), descending, limit - items.len());
            items.extend(found.items);
            start = found.next;
            if start.is_none() || items.len() >= limit {
                return items;
            }
        }
    };
    let backward = window.before.is_some();
    let start = window.before.or(window.after);
    // One more than wanted shows if there are more.
    let limit = window.limit.saturating_add(1);
    let mut items = find(start, window.descending != backward, limit);
    let more_beyond = items.len() > window.limit;
    items.truncate(window.limit);
    // On the side that the walk came from there can only be something if it did not start at the
    // list's end.
    let more_behind = start.is_some()
        && items.first().is_some_and(|first| {
            !find(Some(id(first)), window.descending == backward, 1).is_empty()
        });
    if backward {
        items.reverse();
        Page { items, more_before: more_beyond, more_after: more_behind }
    } else {
        Page { items, more_before: more_behind, more_after: more_beyond }
    }
}

/// Resolves one part of a filter. Returns `None` if it names something unknown, so that nothing
/// fits; `Some(None)` if the part is not given.
pub(crate) fn resolve<T, N>(
    given: Option<T>,
    lookup: impl FnOnce(T) -> Option<N>,
) -> Option<Option<N>> {
    match given {
        None => Some(None),
        Some(given) => lookup(given).map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ground::walks::{first_beyond, walk_sorted};

    const COUNT: u32 = 3 * CANDIDATES_MAX as u32;

    /// Returns ids in the order of their numbers.
    fn ids() -> Vec<String> {
        (0..COUNT).map(|number| format!("id_{number:06}")).collect()
    }

    /// Returns the accepted numbers of a page, and whether there are more on both sides.
    fn numbers(
        ids: &[String],
        window: Window<'_>,
        accept: impl Fn(u32) -> bool,
        by_holders: bool,
    ) -> (Vec<u32>, bool, bool) {
        let all: Vec<u32> = (0..COUNT).collect();
        let id = |number: u32| ids[number as usize].as_str();
        let page = page_in_steps(
            window,
            |start, descending, limit| {
                let accept =
                    |number| accept(number).then(|| (number, ids[number as usize].clone()));
                if by_holders {
                    // Each twice, and in another order.
                    let holders = all.iter().rev().chain(&all).copied();
                    let first = first_beyond(holders, start, descending, id);
                    step(first.into_iter(), limit, accept, id)
                } else {
                    step(walk_sorted(&all, start, descending, id), limit, accept, id)
                }
            },
            |(_, id)| id,
        );
        let items = page.items.iter().map(|(number, _)| *number).collect();
        (items, page.more_before, page.more_after)
    }

    #[test]
    fn a_page_of_many_steps_equals_a_scan() {
        let ids = ids();
        let rare = |number: u32| number % 1000 == 7 || number >= COUNT - 20;
        let all: Vec<u32> = (0..COUNT).filter(|number| rare(*number)).collect();
        for by_holders in [false, true] {
            for descending in [false, true] {
                let mut ordered = all.clone();
                if descending {
                    ordered.reverse();
                }
                for limit in [1, 5, 40] {
                    let first = numbers(
                        &ids,
                        Window { descending, after: None, before: None, limit },
                        rare,
                        by_holders,
                    );
                    let wanted: Vec<u32> = ordered.iter().copied().take(limit).collect();
                    assert_eq!(first, (wanted, false, ordered.len() > limit));
                    for at in [0, 3, ordered.len() - 1] {
                        let cursor = Some(ids[ordered[at] as usize].as_str());
                        let after = numbers(
                            &ids,
                            Window { descending, after: cursor, before: None, limit },
                            rare,
                            by_holders,
                        );
                        let behind = &ordered[at + 1..];
                        let wanted: Vec<u32> = behind.iter().copied().take(limit).collect();
                        assert_eq!(after, (wanted, !behind.is_empty(), behind.len() > limit));
                        let before = numbers(
                            &ids,
                            Window { descending, after: None, before: cursor, limit },
                            rare,
                            by_holders,
                        );
                        let ahead = &ordered[..at];
                        let wanted = ahead[at.saturating_sub(limit)..].to_vec();
                        assert_eq!(before, (wanted, at > limit, !ahead.is_empty()));
                    }
                }
            }
        }
    }

    #[test]
    fn a_step_ends_after_some_candidates_without_an_item() {
        let ids = ids();
        let id = |number: u32| ids[number as usize].as_str();
        let Step { items, next } = step(0..COUNT, 10, |_| None::<u32>, id);
        assert_eq!((items.len(), next.as_deref()), (0, Some(id(CANDIDATES_MAX as u32 - 1))));
    }
}
