//! Reconciliation: what the source lists, compared with what the log holds. It repairs Rollcall and
//! never the source.
//!
//! A run pulls events, lists everything that the source has, pulls events again, and compares both
//! sides in order of id. What differs is asked for once more. What differs even then is recorded as
//! an observation, unless the guard or another reason holds it. Lists are in files of a temporary
//! folder, so that a run needs little memory.

mod again;
mod compare;
mod details;
mod earlier;
mod ending;
mod guard;
mod listing;
mod ours;
mod plan;
mod progress;
mod record;
mod run;
mod shown;
mod sort;
mod trouble;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

pub use details::{Details, FieldChange, Label, label_of};
pub use guard::{Ended, Ends, Guard, Tally, run_excess};
use parking_lot::Mutex;
pub use progress::{
    Compared, DIFFERENCES_KEPT, DifferentKind, DirectoryState, FoundDifference, HeldPlace,
    HeldReason, HowDifferent, Progress, RunDirectory, RunProgress, RunState, Step,
};
use rollcall_projections::Millis;
use run::Running;
pub use run::Scope;
use tokio::sync::oneshot;
use trouble::Trouble;

use super::bell::Woken;
use super::{Source, SourceError};
use crate::engine::Engine;
use crate::percent::encoded;
use crate::time;

/// The runs that are kept.
const RUNS_KEPT: usize = 100;

/// The folder for lists, in the data folder.
const FOLDER: &str = "temporary";

/// The most lines about differences that a run held.
const HELD_LOGGED_MAX: usize = 20;

/// How often the schedule is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The longest pause after a run that failed as a whole.
const RETRY_AFTER: Duration = Duration::from_secs(300);

/// A reconciliation.
pub struct Run {
    /// Its id, `run_` and a UUID.
    pub id: String,
    /// What it compares.
    pub scope: Scope,
    /// When it began.
    pub started_at: Millis,
    /// How far it is, and what it found.
    pub progress: Progress,
}

/// The reason why no run begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RunRefused {
    /// Another one is under way.
    #[error("a reconciliation is running")]
    Running,
    /// The system gives no thread or no randomness.
    #[error("a reconciliation cannot be begun now")]
    Unavailable,
}

/// The reconciliations of a source, of which one runs at a time.
pub(super) struct Runs {
    folder: PathBuf,
    /// The newest last.
    kept: Mutex<VecDeque<Arc<Run>>>,
}

impl Runs {
    /// Returns none yet, for the log in the folder `data`.
    pub(super) fn in_folder(data: &Path) -> Runs {
        Runs { folder: data.join(FOLDER), kept: Mutex::default() }
    }
}

impl Source {
    /// Begins the schedule, on a thread of its own.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub(super) fn schedule(self: &Arc<Source>, engine: &Arc<Engine>) -> std::io::Result<()> {
        let every = self.reconcile_every;
        if every.is_zero() {
            return Ok(());
        }
        let (source, engine) = (self.clone(), Arc::downgrade(engine));
        let keep = move || source.keep_schedule(&engine, every);
        thread::Builder::new().name("reconcile-schedule".into()).spawn(keep).map(drop)
    }

    /// Runs whenever a run is due, until the server stops.
    fn keep_schedule(self: &Arc<Source>, engine: &Weak<Engine>, every: Duration) {
        let mut due = self.first_due(engine, every);
        while self.bell.sleep(LOOK_EVERY) != Woken::Stopped {
            if Instant::now() < due || self.status().moments().caught_up_at.is_none() {
                continue;
            }
            // One that was asked for meanwhile spares it.
            let spared = last_compared(&self.runs.kept.lock());
            let spared = spared.map(|begun| due_after(begun, every));
            if let Some(later) = spared.filter(|later| *later > Instant::now()) {
                due = later;
                continue;
            }
            let Some(held) = engine.upgrade() else { return };
            let scope = Scope { directory: None, dry: false, guard: self.guard };
            let Ok(run) = self.reconcile(&held, scope) else { continue };
            drop(held);
            while run.progress.state() == RunState::Running {
                if self.bell.sleep(LOOK_EVERY) == Woken::Stopped {
                    return;
                }
            }
            let broke_off = run.progress.now().broke_off;
            due = Instant::now() + if broke_off { every.min(RETRY_AFTER) } else { every };
        }
    }

    /// Returns when the first run is due: at once, unless the last one completed within the interval.
    /// What a run before the start held is found again, so that it is not forgotten.
    fn first_due(&self, engine: &Weak<Engine>, every: Duration) -> Instant {
        let now = time::now_ms();
        let every_ms = Millis::try_from(every.as_millis()).unwrap_or(Millis::MAX);
        let last = engine.upgrade().and_then(|engine| {
            earlier::last_completed_run(&engine, now.saturating_sub(every_ms)).ok().flatten()
        });
        last.map_or_else(Instant::now, |last| due_after(last, every))
    }

    /// Returns the guard that is configured.
    pub fn configured_guard(&self) -> Guard {
        self.guard
    }

    /// Returns the reconciliations that are kept, the newest first.
    pub fn reconciliations(&self) -> Vec<Arc<Run>> {
        self.runs.kept.lock().iter().rev().cloned().collect()
    }

    /// Returns a reconciliation that is kept.
    pub fn reconciliation(&self, id: &str) -> Option<Arc<Run>> {
        self.runs.kept.lock().iter().find(|run| run.id == id).cloned()
    }

    /// Returns true while a reconciliation is under way.
    pub fn is_reconciling(&self) -> bool {
        is_running(&self.runs.kept.lock())
    }

    /// Asks the source for a directory, on a thread of its own, for a caller who waits. The answer
    /// is false if the source has none. It comes within some seconds or never, and there is none
    /// while the source is asked for another caller.
    pub fn look_for_directory(self: &Arc<Source>, id: &str) -> Option<oneshot::Receiver<bool>> {
        if self.is_looking.swap(true, Ordering::AcqRel) {
            return None;
        }
        let (answer, answered) = oneshot::channel();
        let (source, path) = (self.clone(), format!("/directories/{}", encoded(id)));
        let look = move || {
            let looked = source.client.look(&path);
            source.is_looking.store(false, Ordering::Release);
            let _ = answer.send(!matches!(looked, Err(SourceError::NotFound)));
        };
        if thread::Builder::new().name("look".into()).spawn(look).is_err() {
            self.is_looking.store(false, Ordering::Release);
        }
        Some(answered)
    }

    /// Begins a run, on a thread of its own.
    ///
    /// # Errors
    /// [`RunRefused`]
    pub fn reconcile(
        self: &Arc<Source>,
        engine: &Arc<Engine>,
        scope: Scope,
    ) -> Result<Arc<Run>, RunRefused> {
        let mut runs = self.runs.kept.lock();
        if is_running(&runs) {
            return Err(RunRefused::Running);
        }
        let started_at = time::now_ms();
        let id = crate::verify::own_id("run_", started_at);
        let id = id.map_err(|_| RunRefused::Unavailable)?;
        let run = Arc::new(Run { id, scope, started_at, progress: Progress::default() });
        let (source, engine, begun) = (self.clone(), Arc::downgrade(engine), run.clone());
        thread::Builder::new()
            .name("reconcile".into())
            .spawn(move || source.carry_out(&engine, &begun))
            .map_err(|_| RunRefused::Unavailable)?;
        runs.push_back(run.clone());
        while runs.len() > RUNS_KEPT {
            runs.pop_front();
        }
        Ok(run)
    }

    fn carry_out(&self, engine: &Weak<Engine>, run: &Run) {
        tracing::info!(
            run = run.id,
            source = self.url(),
            "a reconciliation with the source begins"
        );
        let done = self.compare(engine, run);
        let now = time::now_ms();
        match done {
            Ok(state) => {
                run.progress.end(state, now, None);
                self.tell(run, state, now);
            }
            Err(trouble) => {
                tracing::error!(run = run.id, "the reconciliation failed: {trouble}");
                run.progress.end(RunState::Failed, now, Some(trouble.to_string()));
            }
        }
    }

    fn compare(&self, engine: &Weak<Engine>, run: &Run) -> Result<RunState, Trouble> {
        std::fs::create_dir_all(&self.runs.folder)?;
        let running = Running {
            source: self,
            engine,
            progress: &run.progress,
            folder: &self.runs.folder,
            id: &run.id,
            scope: &run.scope,
            started_at: run.started_at,
        };
        running.run()
    }

    /// Logs the end of a run, and what an operator must look at.
    fn tell(&self, run: &Run, state: RunState, now: Millis) {
        let progress = run.progress.now();
        let is_whole = run.scope.directory.is_none() && !run.scope.dry;
        let only = run.scope.directory.as_ref().and_then(|only| progress.directories.get(only));
        let is_left_out = only.is_some_and(|only| only.state == DirectoryState::NotCompared);
        let message = match state {
            RunState::Completed if is_left_out => {
                "the directory was not compared: an operator deleted it here"
            }
            RunState::Completed if is_whole => "in step with the source",
            RunState::Held => "compared with the source: some differences are held",
            RunState::Failed => "compared with the source: some directories could not be compared",
            RunState::Completed | RunState::Running => "compared with the source",
        };
        let RunProgress { recorded, held, .. } = progress;
        let duration_ms = now - run.started_at;
        if matches!(state, RunState::Held | RunState::Failed) && !run.scope.dry {
            let source = self.url();
            tracing::warn!(run = run.id, source, recorded, held, duration_ms, "{message}");
            warn_of_held(run, &progress);
            return;
        }
        tracing::info!(
            run = run.id,
            source = self.url(),
            users = progress.compared.users,
            groups = progress.compared.groups,
            memberships = progress.compared.memberships,
            recorded,
            held,
            duration_ms,
            "{message}"
        );
    }
}

/// Names each directory in which a run held differences, with the reason and what to do.
fn warn_of_held(run: &Run, progress: &RunProgress) {
    for (directory, reason, held) in progress.open().take(HELD_LOGGED_MAX) {
        let advice = reason.advice(directory, progress.held_place(directory));
        tracing::warn!(run = run.id, directory, held, "differences are held: {advice}");
    }
    let more = progress.open().count().saturating_sub(HELD_LOGGED_MAX);
    if more > 0 {
        tracing::warn!(run = run.id, more, "differences are held in more directories");
    }
}

/// Returns when the next run is due after one that began at `begun`. One that began in the future,
/// because the clock was set back, spares none.
fn due_after(begun: Millis, every: Duration) -> Instant {
    let age_ms = u64::try_from(time::now_ms().saturating_sub(begun));
    let wait =
        age_ms.map_or(Duration::ZERO, |age| every.saturating_sub(Duration::from_millis(age)));
    Instant::now() + wait
}

/// Returns when the newest of some runs began that was not dry and compared all directories. What it
/// held is shown until the server stops.
fn last_compared(runs: &VecDeque<Arc<Run>>) -> Option<Millis> {
    let is_whole = |run: &Run| run.scope.directory.is_none() && !run.scope.dry;
    let has_compared =
        |run: &Run| matches!(run.progress.state(), RunState::Completed | RunState::Held);
    let mut newest = runs.iter().rev();
    newest.find(|run| is_whole(run) && has_compared(run)).map(|run| run.started_at)
}

/// Returns true if the newest of some runs has not ended.
fn is_running(runs: &VecDeque<Arc<Run>>) -> bool {
    runs.back().is_some_and(|run| run.progress.state() == RunState::Running)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(started_at: Millis, directory: Option<&str>, dry: bool, state: RunState) -> Arc<Run> {
        let scope = Scope { directory: directory.map(str::to_owned), dry, guard: Guard::Off };
        let progress = Progress::default();
        if state != RunState::Running {
            progress.end(state, started_at, None);
        }
        Arc::new(Run { id: format!("run_{started_at}"), scope, started_at, progress })
    }

    #[test]
    fn only_a_whole_run_that_compared_everything_spares_the_scheduled_one() {
        use RunState::{Completed, Failed, Held, Running};
        let none = [
            run(1, Some("d"), false, Completed),
            run(2, None, true, Completed),
            run(3, None, false, Failed),
            run(4, None, false, Running),
        ];
        assert_eq!(last_compared(&none.clone().into()), None);
        for state in [Completed, Held] {
            let whole = |started_at| [run(started_at, None, false, state)];
            assert_eq!(last_compared(&[&whole(0)[..], &none].concat().into()), Some(0));
            assert_eq!(last_compared(&[&none[..], &whole(5)].concat().into()), Some(5));
        }
    }

    #[test]
    fn a_run_is_due_an_interval_after_the_last_and_at_once_if_that_is_over() {
        let (every, now) = (Duration::from_secs(3600), Instant::now());
        assert!(due_after(0, every) <= Instant::now());
        assert!(due_after(time::now_ms() + 3 * 3_600_000, every) <= Instant::now() + every);
        assert!(due_after(time::now_ms() - 1_800_000, every) > now + every / 4);
    }
}
