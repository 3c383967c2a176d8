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

/// Cuts a page out of a list.
///
/// `walk(start, descending)` gives candidates beyond the id `start` (from the end without one);
/// `accept` judges a candidate; `id` names an accepted item. Costs the candidates that are walked
/// over, no more.
pub(crate) fn page<'a, T, I: Iterator<Item = u32>>(
    window: Window<'a>,
    walk: impl Fn(Option<&str>, bool) -> I,
    accept: impl Fn(u32) -> Option<T>,
    id: impl Fn(&T) -> &str,
) -> Page<T> {
    let backward = window.before.is_some();
    let start = window.before.or(window.after);
    let mut found = walk(start, window.descending != backward).filter_map(&accept);
    let mut items: Vec<T> = found.by_ref().take(window.limit).collect();
    let more_beyond = !items.is_empty() && found.next().is_some();
    // On the side that the walk came from there can only be something if it did not start at the
    // list's end.
    let more_behind = start.is_some()
        && items.first().is_some_and(|first| {
            let mut behind = walk(Some(id(first)), window.descending == backward);
            behind.any(|candidate| accept(candidate).is_some())
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
