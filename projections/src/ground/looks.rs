//! A count of the versions that a question looks at. Only tests count: what a page costs must not
//! grow with the history.

#[cfg(test)]
thread_local! {
    static LOOKS: core::cell::Cell<usize> = const { core::cell::Cell::new(0) };
}

/// Counts a look at a version; nothing outside of tests.
#[inline]
pub(crate) fn count() {
    #[cfg(test)]
    LOOKS.set(LOOKS.get() + 1);
}

/// Returns an answer, and the number of versions that this thread looked at for it.
#[cfg(test)]
pub(crate) fn during<T>(ask: impl FnOnce() -> T) -> (T, usize) {
    let before = LOOKS.get();
    let answer = ask();
    (answer, LOOKS.get() - before)
}
