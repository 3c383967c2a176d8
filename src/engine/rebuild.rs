//! Rebuilding: the whole log is folded into new views, which replace the serving ones in one step.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::thread;

use rollcall_projections::{Millis, Seq, Views};

use super::Engine;
use super::attributes::{ReadProgress, note_all};
use super::writer::{FOLD_EVENTS, Notes, fold};
use crate::log::ReadError;

/// The most records that new views may lack when the writer is stopped to replace the old ones.
const LAG_MAX: Seq = 64;

/// A rebuild, running or done. Its work is lost with the process; the serving views are not.
#[derive(Debug)]
pub struct Rebuild {
    /// Its number since the start, from 1.
    pub number: u64,
    /// The moment at which it began.
    pub started_at: Millis,
    /// The head when it began.
    pub head: Seq,
    /// Records folded, and snapshots read for rules about attributes.
    progress: ReadProgress,
    /// The moment at which it was done; 0 while it runs.
    finished_at: AtomicI64,
    failed: AtomicBool,
}

impl Rebuild {
    /// Returns the items read so far, and the items to read.
    pub fn progress(&self) -> (u64, u64) {
        (self.progress.read.load(Ordering::Relaxed), self.progress.total.load(Ordering::Relaxed))
    }

    /// Returns the moment at which it was done; `None` while it runs.
    pub fn finished_at(&self) -> Option<Millis> {
        match self.finished_at.load(Ordering::Acquire) {
            0 => None,
            moment => Some(moment),
        }
    }

    /// Returns true if it ended without replacing the views.
    pub fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }
}

impl Engine {
    /// Begins a rebuild, or joins the one that runs.
    pub fn rebuild(self: &Arc<Self>) -> Arc<Rebuild> {
        let mut last = self.rebuild.lock();
        if let Some(running) = last.as_ref().filter(|rebuild| rebuild.finished_at().is_none()) {
            return running.clone();
        }
        let head = self.log.head();
        let rebuild = Arc::new(Rebuild {
            number: last.as_ref().map_or(1, |last| last.number + 1),
            started_at: self.clock.now_ms(),
            head,
            progress: ReadProgress { read: AtomicU64::new(0), total: AtomicU64::new(head) },
            finished_at: AtomicI64::new(0),
            failed: AtomicBool::new(false),
        });
        *last = Some(rebuild.clone());
        let (engine, running) = (self.clone(), rebuild.clone());
        let work = move || {
            // A store that panics must not leave callers waiting for ever.
            let folded = catch_unwind(AssertUnwindSafe(|| {
                engine.fold_anew(&running).map_err(|error| error.to_string())
            }));
            engine.end(&running, folded.unwrap_or_else(|_| Err("the store panicked".into())));
        };
        if let Err(error) = thread::Builder::new().name("rebuild".into()).spawn(work) {
            self.end(&rebuild, Err(error.to_string()));
        }
        rebuild
    }

    /// Returns the last rebuild since the start.
    pub fn last_rebuild(&self) -> Option<Arc<Rebuild>> {
        self.rebuild.lock().clone()
    }

    fn end(&self, rebuild: &Rebuild, result: Result<(), String>) {
        if let Err(error) = result {
            tracing::error!(error, "the views could not be rebuilt; the old ones stay in use");
            rebuild.failed.store(true, Ordering::Release);
        }
        rebuild.finished_at.store(self.clock.now_ms().max(1), Ordering::Release);
    }

    fn fold_anew(&self, rebuild: &Rebuild) -> Result<(), ReadError> {
        let mut views = Views::new();
        loop {
            while views.head() < self.log.head() {
                fold(&*self.log, &mut views, FOLD_EVENTS, Notes::Later)?;
                rebuild.progress.read.fetch_max(views.head(), Ordering::Relaxed);
                rebuild.progress.total.fetch_max(views.head(), Ordering::Relaxed);
            }
            note_all(&*self.log, &mut views, &rebuild.progress)?;
            let mappings = views.mapping_versions();
            // Records that came meanwhile are folded before any lock is taken; a few may be left.
            while views.head() + LAG_MAX < self.log.head() {
                fold(&*self.log, &mut views, FOLD_EVENTS, Notes::Now)?;
            }
            let _acting = self.acting.lock();
            // This lock keeps the writer from folding until the new views have caught up and serve.
            let mut serving = self.views.write();
            let head = serving.head();
            while views.head() < head {
                fold(&*self.log, &mut views, FOLD_EVENTS, Notes::Now)?;
            }
            // A mapping that was set meanwhile may ask for attributes that were not read.
            if views.mapping_versions() == mappings {
                let old = std::mem::replace(&mut *serving, views);
                drop(serving);
                // Kept answers, digests and counts are those of the old views.
                self.answers.forget();
                self.digests.lock().forget();
                self.traffic.clear();
                // Dropping large views takes long, so it happens after the locks are released.
                drop(old);
                return Ok(());
            }
        }
    }
}
