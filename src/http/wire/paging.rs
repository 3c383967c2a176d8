//! Cursors and pages: by id, by number, and by place, over lists that are held in memory or
//! computed in steps.

use std::ops::Range;

use base64::prelude::*;
use rollcall_projections::{ListStep, Millis, Page, Step, Window, page_in_steps};

use super::answer::{Cursors, LIST_BEGIN, Problem, list_in_pieces, push_list_end};
use super::api::Order;
use super::pieces::Pieces;
use super::turns::{Asker, Turn};

/// The part of a list that a request wants, in the words of the contract.
pub(crate) struct Paging {
    pub(crate) limit: usize,
    pub(crate) order: Order,
    pub(crate) before: Option<String>,
    pub(crate) after: Option<String>,
}

impl Paging {
    fn is_descending(&self) -> bool {
        self.order != Order::Asc
    }

    /// Returns the window into the list.
    pub(crate) fn window(&self) -> Window<'_> {
        let (before, after) = (self.before.as_deref(), self.after.as_deref());
        let (before, after) =
            if self.order == Order::Normal { (after, before) } else { (before, after) };
        Window { descending: self.is_descending(), after, before, limit: self.limit }
    }

    /// Returns the page of a list that is walked over in steps, as long as the asker waits; `id`
    /// names an item. A lock that a step takes is released after it.
    pub(crate) fn walk<T>(
        &self,
        asker: &Asker,
        mut step: impl FnMut(ListStep<'_>) -> Step<T>,
        id: impl Fn(&T) -> &str,
    ) -> Page<T> {
        let step = |start: Option<&str>, descending, limit| {
            if asker.waits() { step(ListStep { start, descending, limit }) } else { Step::end() }
        };
        page_in_steps(self.window(), step, id)
    }

    /// Returns a page of the numbers 1 to `all`, which are the cursors of a list that never loses
    /// an item. A cursor's item need not exist yet.
    ///
    /// # Errors
    /// 422 for a cursor that is not a number.
    pub(crate) fn numbers(&self, all: usize) -> Result<Page<usize>, Problem> {
        let Window { descending, after, before, limit } = self.window();
        let (after, before) = (read_number("after", after)?, read_number("before", before)?);
        let after = after.map(|number| place_behind(number, all, descending));
        let before = before.map(|number| place_of(number, all, descending));
        let (start, end) = match (after, before) {
            (None, Some(end)) => (end.saturating_sub(limit), end),
            (start, _) => (start.unwrap_or(0), (start.unwrap_or(0) + limit).min(all)),
        };
        let number = |place| if descending { all - place } else { place + 1 };
        Ok(Page {
            items: (start..end).map(number).collect(),
            more_before: start > 0,
            more_after: end < all,
        })
    }

    /// Returns whether the page is the part before a cursor, next to it.
    pub(crate) fn is_backward(&self) -> bool {
        self.window().before.is_some()
    }

    /// Returns what the items of a page have, in the order in which they are written.
    pub(crate) fn in_order_of_writing<'p, T, I: IntoIterator>(
        &self,
        page: &'p Page<T>,
        of: impl Fn(&'p T) -> I,
    ) -> Vec<I::Item> {
        if self.is_backward() {
            page.items.iter().rev().flat_map(of).collect()
        } else {
            page.items.iter().flat_map(of).collect()
        }
    }

    /// Writes a page in one piece, as far as its bytes go; `id` names an item, and `write` appends
    /// one.
    pub(crate) fn write<T>(
        &self,
        mut page: Page<T>,
        id: impl Fn(&T) -> String,
        mut write: impl FnMut(&mut Vec<u8>, &T) -> Result<(), Problem>,
    ) -> Result<Pieces, Problem> {
        let (count, is_backward) = (page.items.len(), self.is_backward());
        let mut page_bytes = PageBytes::default();
        for number in 0..count {
            let place = if is_backward { count - 1 - number } else { number };
            let Some(item) = page.items.get(place) else { break };
            if !page_bytes.push(count, |out| write(out, item))? {
                break;
            }
        }
        let kept = page_bytes.ends.len();
        let kept = if is_backward { count - kept..count } else { 0..kept };
        page.more_before |= kept.start > 0;
        page.more_after |= kept.end < count;
        page.items = page.items.into_iter().take(kept.end).skip(kept.start).collect();
        let mut out = if is_backward { page_bytes.reversed() } else { page_bytes.out };
        push_list_end(&mut out, self.cursors(&page, id));
        // The room that was guessed may be far too large, and is held until the last byte is read.
        if out.capacity() > 2 * out.len() {
            out.shrink_to_fit();
        }
        Ok(out.into())
    }

    /// Returns the cursors of a page; `id` names an item.
    pub(crate) fn cursors<T>(&self, page: &Page<T>, id: impl Fn(&T) -> String) -> Cursors {
        let first = page.items.first().filter(|_| page.more_before);
        let last = page.items.last().filter(|_| page.more_after);
        let (before, after) = (first.map(&id), last.map(&id));
        if self.order == Order::Normal {
            Cursors { before: after, after: before }
        } else {
            Cursors { before, after }
        }
    }
}

/// The most bytes of the items of a page. One item may have more.
pub(crate) const PAGE_BYTES_MAX: usize = 4 << 20;

/// A list's page that is being written, without its end.
struct PageBytes {
    out: Vec<u8>,
    /// Where each item ends.
    ends: Vec<usize>,
}

impl Default for PageBytes {
    fn default() -> PageBytes {
        PageBytes { out: LIST_BEGIN.to_vec(), ends: Vec::new() }
    }
}

impl PageBytes {
    /// Appends an item of a page that has `count` of them, if it fits; the first always does.
    /// Returns whether it did.
    fn push(
        &mut self,
        count: usize,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), Problem>,
    ) -> Result<bool, Problem> {
        let (end, is_first) = (self.out.len(), self.ends.is_empty());
        if !is_first {
            self.out.push(b',');
        }
        write(&mut self.out)?;
        // The separators do not count.
        let bytes = self.out.len() - LIST_BEGIN.len() - self.ends.len();
        if bytes > PAGE_BYTES_MAX && !is_first {
            self.out.truncate(end);
            return Ok(false);
        }
        if is_first {
            // The others are about as large, and all of them fit into a page.
            let others = bytes.saturating_add(bytes / 8).saturating_mul(count - 1);
            self.out.reserve(others.min(PAGE_BYTES_MAX));
        }
        self.ends.push(self.out.len());
        Ok(true)
    }

    /// Returns the page with its items in the opposite order.
    fn reversed(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.out.len() + LIST_END_BYTES);
        out.extend_from_slice(LIST_BEGIN);
        let begins = [LIST_BEGIN.len()].into_iter().chain(self.ends.iter().map(|end| end + 1));
        let items: Vec<Range<usize>> =
            begins.zip(&self.ends).map(|(begin, end)| begin..*end).collect();
        for (number, item) in items.into_iter().rev().enumerate() {
            if number > 0 {
                out.push(b',');
            }
            out.extend_from_slice(self.out.get(item).unwrap_or_default());
        }
        out
    }
}

/// The bytes of the end of a page, about.
const LIST_END_BYTES: usize = 128;

/// The number of items that are written at once where each is small.
pub(crate) const AT_ONCE: usize = 16;

/// The items of a page that fit into its bytes, as they are written.
pub(crate) struct Fitted<W> {
    pub(crate) written: Vec<W>,
    /// The places of these items among those that were to be written.
    pub(crate) kept: Range<usize>,
}

/// Writes items, `at_once` at a time, until the page is full; at least one. A page `before` a cursor
/// keeps those next to the cursor, which are the last.
pub(crate) fn fit<T, W>(
    items: &[T],
    is_backward: bool,
    at_once: usize,
    bytes: impl Fn(&W) -> usize,
    mut write: impl FnMut(&[T]) -> Result<Vec<W>, Problem>,
) -> Result<Fitted<W>, Problem> {
    let (mut written, mut bytes_written) = (Vec::new(), 0);
    let count = items.len();
    'page: for chunk in 0..count.div_ceil(at_once) {
        let (first, last) = (chunk * at_once, ((chunk + 1) * at_once).min(count));
        let range = if is_backward { count - last..count - first } else { first..last };
        let mut chunk = write(items.get(range).unwrap_or(&[]))?;
        if is_backward {
            chunk.reverse();
        }
        for item in chunk {
            bytes_written += bytes(&item);
            if bytes_written > PAGE_BYTES_MAX && !written.is_empty() {
                break 'page;
            }
            written.push(item);
        }
    }
    let kept = written.len();
    if is_backward {
        written.reverse();
        return Ok(Fitted { written, kept: count - kept..count });
    }
    Ok(Fitted { written, kept: 0..kept })
}

fn read_number(field: &str, cursor: Option<&str>) -> Result<Option<usize>, Problem> {
    let read = |cursor: &str| {
        ItemNumber::read(cursor)
            .map(|ItemNumber(number)| number)
            .ok_or_else(|| Problem::cursor_invalid(field))
    };
    cursor.map(read).transpose()
}

/// The number of an item, from 1.
pub(crate) struct ItemNumber(usize);

impl ItemNumber {
    /// Makes the place of an item.
    pub(crate) fn of(number: usize) -> ItemNumber {
        ItemNumber(number)
    }

    /// Returns the number.
    pub(crate) fn number(&self) -> usize {
        self.0
    }
}

impl CursorPlace for ItemNumber {
    const PATTERNS: &'static [&'static str] = &["[1-9][0-9]{0,19}"];

    fn read(cursor: &str) -> Option<ItemNumber> {
        let number = digits(cursor)?.try_into().unwrap_or(usize::MAX);
        (!cursor.starts_with('0')).then_some(ItemNumber(number))
    }

    fn write(&self) -> String {
        self.0.to_string()
    }
}

/// Reads 1 to 20 digits; a larger number becomes the largest.
pub(crate) fn digits(text: &str) -> Option<u64> {
    let plain = text.len() <= 20 && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse::<u128>().ok().filter(|_| plain)?;
    Some(number.try_into().unwrap_or(u64::MAX))
}

/// Returns the place of an item, counted from 0 in the list's order: `number - 1`, or in descending
/// order `all - number`.
fn place_of(number: usize, all: usize, descending: bool) -> usize {
    if descending { all.saturating_sub(number) } else { (number - 1).min(all) }
}

/// Returns the place behind an item.
fn place_behind(number: usize, all: usize, descending: bool) -> usize {
    if descending { (all + 1).saturating_sub(number) } else { number.min(all) }
}

/// The part of a list that a request wants, where cursors are places in the list. No item need be
/// at a place.
pub(crate) struct Places {
    pub(crate) limit: usize,
    pub(crate) descending: bool,
    pub(crate) before: Option<String>,
    pub(crate) after: Option<String>,
}

/// A place in a list. Places compare whether or not an item is at them.
pub(crate) trait CursorPlace: Sized {
    /// The regular expression of each part of a cursor; dots separate the parts.
    const PATTERNS: &'static [&'static str];

    /// Reads a cursor; `None` if it is not one of this list.
    fn read(cursor: &str) -> Option<Self>;
    /// Writes the cursor.
    fn write(&self) -> String;
}

impl Places {
    /// Writes one page, in the list's order, as far as its bytes go. `place` returns an item's
    /// place. `walk` is given a place, or none for the list's end, whether to descend from there,
    /// and a limit; it returns at most that many items, and whether there are more. `write` writes
    /// items, at most `at_once`.
    ///
    /// # Errors
    /// 422 for a cursor that is not one of this list.
    pub(crate) fn write<T, P: CursorPlace>(
        self,
        place: impl Fn(&T) -> P,
        mut walk: impl FnMut(Option<P>, bool, usize) -> (Vec<T>, bool),
        at_once: usize,
        write: impl FnMut(&[T]) -> Result<Vec<Vec<u8>>, Problem>,
    ) -> Result<Pieces, Problem> {
        let Places { limit, descending, before, after } = self;
        let (after, before) = (read_place("after", after)?, read_place("before", before)?);
        let (backward, has_cursor) = (before.is_some(), before.is_some() || after.is_some());
        let (mut items, more) = walk(before.or(after), descending != backward, limit);
        // A walk that started at the list's end has nothing on the side it came from.
        let behind = items.first().filter(|_| has_cursor).map(&place);
        let more_behind =
            behind.is_some_and(|first| !walk(Some(first), descending == backward, 1).0.is_empty());
        let (more_before, more_after) =
            if backward { (more, more_behind) } else { (more_behind, more) };
        if backward {
            items.reverse();
        }
        let Fitted { written, kept } = fit(&items, backward, at_once, Vec::len, write)?;
        let (cut_before, cut_after) = (kept.start > 0, kept.end < items.len());
        let items = items.get(kept).unwrap_or(&[]);
        let first = items.first().filter(|_| more_before || cut_before);
        let last = items.last().filter(|_| more_after || cut_after);
        let cursors = Cursors {
            before: first.map(|item| place(item).write()),
            after: last.map(|item| place(item).write()),
        };
        Ok(list_in_pieces(written, cursors))
    }
}

/// Reads a cursor that is a place, if one is given.
///
/// # Errors
/// 422 for a cursor that is not one of this list.
pub(crate) fn read_place<P: CursorPlace>(
    field: &str,
    cursor: Option<String>,
) -> Result<Option<P>, Problem> {
    let read = |cursor: String| P::read(&cursor).ok_or_else(|| Problem::cursor_invalid(field));
    cursor.map(read).transpose()
}

/// One part of a place in its cursor.
pub(crate) trait CursorPart: Sized {
    /// The regular expression of what is read.
    const PATTERN: &'static str;

    fn write(&self) -> String;
    fn read(text: &str) -> Option<Self>;
}

/// Is in base64 with the alphabet for URLs: it may hold any character, and two ids of 255 bytes
/// must fit into a parameter.
impl CursorPart for String {
    const PATTERN: &'static str = "(?:[A-Za-z0-9_-]{4})*\
        (?:[A-Za-z0-9_-][AQgw]|[A-Za-z0-9_-]{2}[AEIMQUYcgkosw048])?";

    fn write(&self) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(self)
    }

    fn read(text: &str) -> Option<String> {
        // Bytes that are not UTF-8 are in no cursor of ours. They make a place as well.
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }
}

impl CursorPart for Millis {
    const PATTERN: &'static str = "-?[0-9]{1,20}";

    fn write(&self) -> String {
        self.to_string()
    }

    fn read(text: &str) -> Option<Millis> {
        let (sign, distance) = match text.strip_prefix('-') {
            Some(text) => (-1, text),
            None => (1, text),
        };
        let moment = sign * i128::from(digits(distance)?);
        Some(moment.clamp(Millis::MIN.into(), Millis::MAX.into()) as Millis)
    }
}

impl<A: CursorPart, B: CursorPart> CursorPlace for (A, B) {
    const PATTERNS: &'static [&'static str] = &[A::PATTERN, B::PATTERN];

    fn read(cursor: &str) -> Option<(A, B)> {
        let (a, b) = cursor.split_once('.')?;
        Some((A::read(a)?, B::read(b)?))
    }

    fn write(&self) -> String {
        format!("{}.{}", self.0.write(), self.1.write())
    }
}

/// Returns at most `limit` items behind a place, and whether there are more, of a list that is
/// computed in steps. `step` is given the place to continue behind and a limit; it returns items,
/// perhaps none, and the place to continue behind if there may be more. A lock that a step takes is
/// released after it. When the turn ends, the items so far are all.
pub(crate) fn in_steps<T, P>(
    turn: &Turn,
    mut start: Option<P>,
    limit: usize,
    mut step: impl FnMut(Option<&P>, usize) -> (Vec<T>, Option<P>),
) -> (Vec<T>, bool) {
    let mut items: Vec<T> = Vec::new();
    // One more than wanted shows whether there are more.
    while items.len() <= limit {
        let (found, next) = step(start.as_ref(), limit + 1 - items.len());
        items.extend(found);
        start = next;
        if start.is_none() {
            break;
        }
        if !turn.goes_on() {
            if items.is_empty() {
                turn.walked_in_vain();
            }
            items.truncate(limit);
            return (items, true);
        }
    }
    let more = items.len() > limit;
    items.truncate(limit);
    (items, more)
}

/// Returns at most `limit` items behind a place, and whether there are more, of a list in memory
/// that is in ascending order of its places.
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
