//! Pages of sled's trees: what a message holds.

use std::ops::Range;

use super::segment::take_integer;

/// The most values that a page is read for. sled splits a page long before.
const VALUES_MAX: u64 = 1 << 12;

/// A value with its key, which lacks the page's prefix.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Pair<'a> {
    pub(super) key: &'a [u8],
    /// The place of the value, counted from the first byte of the content.
    pub(super) value: Range<usize>,
}

/// A whole page.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Page<'a> {
    /// The beginning of every key in it.
    pub(super) prefix: &'a [u8],
    /// Its keys and values; none if it is a page of the index.
    pub(super) pairs: Vec<Pair<'a>>,
}

impl<'a> Page<'a> {
    /// Reads a page; `None` unless it takes up all of `content`.
    pub(super) fn read(content: &'a [u8]) -> Option<Page<'a>> {
        let mut rest = content;
        let (_next, _merging_child) = (take_integer(&mut rest)?, take_integer(&mut rest)?);
        let (_is_merging, prefix_bytes) = (take_byte(&mut rest)?, take_byte(&mut rest)?);
        let (low, _high) = (take_bytes(&mut rest)?, take_bytes(&mut rest)?);
        let prefix = low.get(..usize::from(prefix_bytes))?;
        let is_leaf = match take_byte(&mut rest)? {
            0 => true,
            1 => false,
            _ => return None,
        };
        let count = Some(take_integer(&mut rest)?).filter(|count| *count <= VALUES_MAX)?;
        let keys = (0..count).map(|_| take_bytes(&mut rest)).collect::<Option<Vec<_>>>()?;
        let mut pairs = Vec::new();
        for key in keys {
            if is_leaf {
                pairs.push(Pair { key, value: take_place(content, &mut rest)? });
            } else {
                take_integer(&mut rest)?;
            }
        }
        rest.is_empty().then_some(Page { prefix, pairs })
    }
}

/// A change of one key of a page.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Change<'a> {
    /// The key has this value from here on.
    Set(Pair<'a>),
    /// The key is gone.
    Removed(&'a [u8]),
    /// The page is merged with another.
    Merge,
}

impl<'a> Change<'a> {
    /// Reads a change; `None` unless it takes up all of `content`.
    pub(super) fn read(content: &'a [u8]) -> Option<Change<'a>> {
        let mut rest = content;
        let change = match take_byte(&mut rest)? {
            0 => {
                let key = take_bytes(&mut rest)?;
                Change::Set(Pair { key, value: take_place(content, &mut rest)? })
            }
            1 => Change::Removed(take_bytes(&mut rest)?),
            2 => {
                take_integer(&mut rest)?;
                Change::Merge
            }
            3 | 4 => Change::Merge,
            _ => return None,
        };
        rest.is_empty().then_some(change)
    }
}

fn take_byte(rest: &mut &[u8]) -> Option<u8> {
    let (byte, after) = rest.split_first()?;
    *rest = after;
    Some(*byte)
}

fn take_bytes<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(take_integer(rest)?).ok()?;
    let (bytes, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(bytes)
}

/// Takes bytes and returns their place in `content`, at whose end `rest` ends.
fn take_place(content: &[u8], rest: &mut &[u8]) -> Option<Range<usize>> {
    let length = take_bytes(rest)?.len();
    let end = content.len() - rest.len();
    Some(end - length..end)
}
