//! About how many bytes of memory containers take outside of themselves, as an allocator rounds them.

use std::collections::BTreeSet;

use smallvec::{Array, SmallVec};

/// From this size on the part of an allocation that was never written takes no memory.
const MAPPED_BYTES: usize = 128 << 10;

/// Returns about the bytes that an allocation takes.
pub(crate) fn of_allocation(bytes: usize) -> usize {
    if bytes == 0 { 0 } else { (bytes + 8).next_multiple_of(16).max(32) }
}

/// Returns about the bytes that a boxed value takes, without what it owns itself.
pub(crate) fn of_box<T>() -> usize {
    of_allocation(size_of::<T>())
}

/// Returns about the bytes that a list takes, without what its items own.
pub(crate) fn of_vec<T>(list: &Vec<T>) -> usize {
    of_list::<T>(list.len(), list.capacity())
}

/// Returns about the bytes that a list takes whose first items are inline.
pub(crate) fn of_small_vec<A: Array>(list: &SmallVec<A>) -> usize {
    if list.spilled() { of_list::<A::Item>(list.len(), list.capacity()) } else { 0 }
}

/// Returns about the bytes that a text takes.
pub(crate) fn of_text(text: &String) -> usize {
    of_list::<u8>(text.len(), text.capacity())
}

/// Returns about the bytes that an ordered set takes: its leaves of eleven keys are about two
/// thirds full.
pub(crate) fn of_set<T>(set: &BTreeSet<T>) -> usize {
    set.len().div_ceil(7) * of_allocation(11 * size_of::<T>() + 12)
}

fn of_list<T>(len: usize, capacity: usize) -> usize {
    let whole = capacity * size_of::<T>();
    if whole >= MAPPED_BYTES { len * size_of::<T>() } else { of_allocation(whole) }
}
