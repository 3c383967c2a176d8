//! Room in lists that are many: a quarter more than there is, and not twice as much.

use smallvec::{Array, SmallVec};

/// Makes room for one more item in a list.
pub(crate) fn make<T>(list: &mut Vec<T>) {
    if list.len() == list.capacity() {
        list.reserve_exact(more(list.len()));
    }
}

/// Makes room for one more item in a list whose first items are inline.
pub(crate) fn make_in_small<A: Array>(list: &mut SmallVec<A>) {
    if list.len() == list.capacity() {
        list.reserve_exact(more(list.len()));
    }
}

/// Returns the room to add to a full list.
fn more(len: usize) -> usize {
    1 + len / 4
}
