//! Folding ahead: a start without a snapshot folds the records while they are checked, and keeps what
//! it has folded only if the check finds them right.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use rollcall_projections::Views;

use super::snapshots::Beginning;
use super::writer::{Entries, FOLD_EVENTS, fold_entries};
use crate::log::{Checked, Unchecked};

/// A fold of records that are being checked, on a thread of its own. Ends soon when it is dropped.
pub struct FoldAhead {
    unchecked: Unchecked,
    thread: Option<JoinHandle<Option<Views>>>,
    is_unwanted: Arc<AtomicBool>,
}

impl FoldAhead {
    /// Begins it.
    ///
    /// # Errors
    /// If there can be no further thread.
    pub fn begin(unchecked: Unchecked) -> io::Result<FoldAhead> {
        let is_unwanted: Arc<AtomicBool> = Arc::default();
        let (source, stop) = (unchecked.clone(), is_unwanted.clone());
        let work = move || fold_all(&source, &stop);
        let thread = thread::Builder::new().name("fold-ahead".into()).spawn(work)?;
        Ok(FoldAhead { unchecked, thread: Some(thread), is_unwanted })
    }

    /// Waits for its end, and returns what was folded; `None` if the records that were checked are
    /// others, or it could not read one. They are to be folded once more then.
    pub fn finish(mut self, checked: &Checked) -> Option<Beginning> {
        if !checked.vouches_for(&self.unchecked) {
            return None;
        }
        // Records that are not checked yet may be such that a fold panics.
        let views = self.thread.take()?.join().ok().flatten()?;
        Some(Beginning { views, ..Beginning::default() })
    }
}

impl Drop for FoldAhead {
    fn drop(&mut self) {
        self.is_unwanted.store(true, Ordering::Relaxed);
    }
}

fn fold_all(unchecked: &Unchecked, is_unwanted: &AtomicBool) -> Option<Views> {
    let (mut views, last) = (Views::new(), unchecked.last());
    let entries: Entries<'_> = &|after, max, each| unchecked.entries(after, max, each);
    while views.head() < last && !is_unwanted.load(Ordering::Relaxed) {
        fold_entries(entries, &mut views, FOLD_EVENTS, |_| {}).ok()?;
    }
    (views.head() == last).then_some(views)
}

#[cfg(test)]
mod tests {
    use super::super::fold_log;
    use super::super::snapshot_file::digest_of;
    use super::super::snapshots::tests::{NOW, event};
    use super::*;
    use crate::log::{Log, Unrecovered};

    #[test]
    fn what_was_folded_during_the_check_of_the_same_records_is_what_they_fold_to() {
        let folder = tempfile::tempdir().unwrap();
        let open = || Unrecovered::open(folder.path(), 16 << 20).unwrap();
        assert!(open().unchecked().is_none());
        let log = open().recover(&|_| {}).unwrap();
        for number in 0..30 {
            log.append(vec![event(number)], NOW).unwrap();
        }
        let expected = digest_of(&fold_log(&log).unwrap(), &|| true);
        drop(log);
        let mut unrecovered = open();
        let ahead = FoldAhead::begin(unrecovered.unchecked().unwrap()).unwrap();
        let checked = unrecovered.check(&|_| {}).ok().unwrap();
        let beginning = ahead.finish(&checked).unwrap();
        assert_eq!(beginning.seq(), 30);
        assert_eq!(digest_of(&beginning.views, &|| true), expected);
    }

    #[test]
    fn a_fold_of_records_other_than_those_that_were_checked_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let open = || Unrecovered::open(folder.path(), 16 << 20).unwrap();
        open().recover(&|_| {}).unwrap().append(vec![event(1)], NOW).unwrap();
        let mut before = open();
        let ahead = FoldAhead::begin(before.unchecked().unwrap()).unwrap();
        drop(before);
        let checked = open().check(&|_| {}).ok().unwrap();
        assert!(ahead.finish(&checked).is_none());
    }
}
