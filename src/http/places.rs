//! Places in lists that are made of two parts, and walks over lists that are found step by step or
//! are at hand whole.

use base64::prelude::*;
use rollcall_projections::Millis;

use super::question::Place;

/// One part of a place as it stands in a cursor.
pub(super) trait Part: Sized {
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
pub(super) fn in_steps<T, P>(
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
pub(super) fn of_all<T: Clone, P: Ord>(
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
