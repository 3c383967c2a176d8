//! Places in lists that are made of two parts, and walks over lists that are found step by step or
//! are at hand whole.

use base64::prelude::*;
use rollcall_projections::{Millis, Page, Window};

use super::answer::Problem;

/// Which part of a list is wanted, in the words of the contract.
pub(crate) struct Paging {
    pub(crate) limit: usize,
    pub(crate) descending: bool,
    pub(crate) before: Option<String>,
    pub(crate) after: Option<String>,
    /// `order=normal`: descending, with the meaning of the cursors reversed.
    pub(crate) reversed: bool,
}

/// Which part of a list is wanted whose cursors are places in it: what stands at a place need not
/// be there (any more).
pub(crate) struct Places {
    pub(crate) limit: usize,
    pub(crate) descending: bool,
    pub(crate) after: Option<String>,
    pub(crate) before: Option<String>,
}

/// A place in a list, by which its cursors can be compared whatever is in it.
pub(crate) trait Place: Sized {
    /// The place that a cursor names; `None` if it is no cursor of this list.
    fn read(cursor: &str) -> Option<Self>;
    /// Its cursor.
    fn write(&self) -> String;
}

impl Places {
    /// One page, in the list's order, and its cursors. `walk` gives at most so many items behind a
    /// place, or without one from the list's end on, in ascending order or in descending, and
    /// whether there are more; `place` tells an item's.
    ///
    /// # Errors
    /// 422 for a cursor that is none of this list.
    pub(crate) fn page<T, P: Place>(
        self,
        place: impl Fn(&T) -> P,
        mut walk: impl FnMut(Option<P>, bool, usize) -> (Vec<T>, bool),
    ) -> Result<(Vec<T>, [Option<String>; 2]), Problem> {
        let Places { limit, descending, after, before } = self;
        let read = |field: &str, cursor: Option<String>| {
            cursor
                .map(|cursor| P::read(&cursor).ok_or_else(|| Problem::cursor_invalid(field)))
                .transpose()
        };
        let (after, before) = (read("after", after)?, read("before", before)?);
        let (backward, has_cursor) = (before.is_some(), before.is_some() || after.is_some());
        let (mut items, more) = walk(before.or(after), descending != backward, limit);
        // On the side that the walk came from there can only be something if it did not start at
        // the list's end.
        let behind = items.first().filter(|_| has_cursor).map(&place);
        let more_behind =
            behind.is_some_and(|first| !walk(Some(first), descending == backward, 1).0.is_empty());
        let (more_before, more_after) =
            if backward { (more, more_behind) } else { (more_behind, more) };
        if backward {
            items.reverse();
        }
        let cursor =
            |item: Option<&T>, more: bool| item.filter(|_| more).map(|item| place(item).write());
        let cursors = [cursor(items.first(), more_before), cursor(items.last(), more_after)];
        Ok((items, cursors))
    }
}

impl Paging {
    /// The window into the list.
    pub(crate) fn window(&self) -> Window<'_> {
        let (before, after) = (self.before.as_deref(), self.after.as_deref());
        let (before, after) = if self.reversed { (after, before) } else { (before, after) };
        Window { descending: self.descending, after, before, limit: self.limit }
    }

    /// Of a list in which nothing is ever taken out, and whose cursors are its items' numbers from
    /// 1: which of `all` are wanted, in the list's order, and whether there are more before and
    /// after. A cursor's item need not exist yet.
    ///
    /// # Errors
    /// 422 for a cursor that is no number.
    pub(crate) fn numbers(
        &self,
        all: usize,
    ) -> Result<(impl Iterator<Item = usize>, bool, bool), Problem> {
        let window = self.window();
        let number = |field: &str, cursor: Option<&str>| match cursor
            .map(|cursor| cursor.parse::<usize>())
        {
            None => Ok(None),
            Some(Ok(number @ 1..)) => Ok(Some(number)),
            Some(_) => Err(Problem::cursor_invalid(field)),
        };
        let (after, before) = (number("after", window.after)?, number("before", window.before)?);
        // Places count from 0 in the list's own order: item n stands at n - 1, or in descending
        // order at the length less n.
        let descending = window.descending;
        let at = |number: usize| {
            if descending { all.saturating_sub(number) } else { (number - 1).min(all) }
        };
        let behind = |number: usize| {
            if descending { (all + 1).saturating_sub(number) } else { number.min(all) }
        };
        let (start, end) = match (after.map(behind), before.map(at)) {
            (None, Some(end)) => (end.saturating_sub(window.limit), end),
            (start, _) => (start.unwrap_or(0), (start.unwrap_or(0) + window.limit).min(all)),
        };
        Ok((
            (start..end).map(move |place| if descending { all - place } else { place + 1 }),
            start > 0,
            end < all,
        ))
    }

    /// The cursors of a page, `before` and `after`; `id` names an item.
    pub(crate) fn cursors<T>(
        &self,
        page: &Page<T>,
        id: impl Fn(&T) -> &str,
    ) -> [Option<String>; 2] {
        let cursor =
            |item: Option<&T>, more: bool| item.filter(|_| more).map(|item| id(item).to_owned());
        let (before, after) = (
            cursor(page.items.first(), page.more_before),
            cursor(page.items.last(), page.more_after),
        );
        if self.reversed { [after, before] } else { [before, after] }
    }
}

/// One part of a place as it stands in a cursor.
pub(crate) trait Part: Sized {
    fn write(&self) -> String;
    fn read(text: &str) -> Option<Self>;
}

/// In base64 of the alphabet for URLs, since it may hold any character: two ids of 255 bytes must
/// fit into a parameter.
impl Part for String {
    fn write(&self) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(self)
    }

    fn read(text: &str) -> Option<String> {
        String::from_utf8(BASE64_URL_SAFE_NO_PAD.decode(text).ok()?).ok()
    }
}

impl Part for Millis {
    fn write(&self) -> String {
        self.to_string()
    }

    fn read(text: &str) -> Option<Millis> {
        text.parse().ok()
    }
}

impl<A: Part, B: Part> Place for (A, B) {
    fn read(cursor: &str) -> Option<(A, B)> {
        let (a, b) = cursor.split_once('.')?;
        Some((A::read(a)?, B::read(b)?))
    }

    fn write(&self) -> String {
        format!("{}.{}", self.0.write(), self.1.write())
    }
}

/// At most `limit` items behind a place, and whether there are more, of a list that is found in
/// steps. `step` is given a place to go on behind and how many items are wanted at most; it gives
/// some, perhaps none, and where to go on if there may be more. A lock that a step takes is let go
/// after it.
pub(crate) fn in_steps<T, P>(
    mut start: Option<P>,
    limit: usize,
    mut step: impl FnMut(Option<&P>, usize) -> (Vec<T>, Option<P>),
) -> (Vec<T>, bool) {
    let mut items: Vec<T> = Vec::new();
    // One more than wanted, to know whether there are more.
    while items.len() <= limit {
        let (found, next) = step(start.as_ref(), limit + 1 - items.len());
        items.extend(found);
        start = next;
        if start.is_none() {
            break;
        }
    }
    let more = items.len() > limit;
    items.truncate(limit);
    (items, more)
}

/// At most `limit` items behind a place, and whether there are more, of a list in ascending order
/// of its places.
pub(crate) fn of_all<T: Clone, P: Ord>(
    all: &[T],
    place: impl Fn(&T) -> P,
    start: Option<P>,
    descending: bool,
    limit: usize,
) -> (Vec<T>, bool) {
    if descending {
        let end = start.map_or(all.len(), |start| all.partition_point(|item| place(item) < start));
        (all.iter().take(end).rev().take(limit).cloned().collect(), end > limit)
    } else {
        let first = start.map_or(0, |start| all.partition_point(|item| place(item) <= start));
        (
            all.iter().skip(first).take(limit).cloned().collect(),
            all.len().saturating_sub(first) > limit,
        )
    }
}
