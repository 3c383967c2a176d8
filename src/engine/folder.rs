//! The folder: the thread that folds a batch while the writer makes the next one durable.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use super::Engine;
use super::writer::Appended;

/// The most batches that wait to be folded: then the writer waits as well.
const WAITING_MAX: usize = 1;

/// The writer's end of the folder.
pub(super) struct Folder {
    steps: SyncSender<Step>,
    state: Arc<State>,
    thread: JoinHandle<()>,
}

/// The state of the folder's thread, as far as the writer knows it.
#[derive(Default)]
struct State {
    /// The number of batches that are not folded.
    unfolded: AtomicUsize,
    /// Latched by a fold that panics: nothing is folded into views that may be half changed.
    has_panicked: AtomicBool,
}

enum Step {
    Fold(Appended),
    /// Replies once all before it are folded.
    Reply(SyncSender<()>),
}

impl Folder {
    /// Starts the thread.
    pub(super) fn start(engine: Arc<Engine>) -> io::Result<Folder> {
        let (steps, taken) = sync_channel(WAITING_MAX);
        let state: Arc<State> = Arc::default();
        let shared = state.clone();
        let work = move || fold_all(&engine, taken, &shared);
        let thread = thread::Builder::new().name("folder".into()).spawn(work)?;
        Ok(Folder { steps, state, thread })
    }

    /// Returns true if all batches are folded.
    pub(super) fn is_idle(&self) -> bool {
        self.state.unfolded.load(Ordering::SeqCst) == 0
    }

    /// Returns true if a fold has panicked.
    pub(super) fn has_panicked(&self) -> bool {
        self.state.has_panicked.load(Ordering::SeqCst)
    }

    /// Folds a batch after those before it. Blocks while another one waits.
    pub(super) fn fold(&self, appended: Appended) {
        self.state.unfolded.fetch_add(1, Ordering::SeqCst);
        // The thread ends only after this.
        let _ = self.steps.send(Step::Fold(appended));
    }

    /// Waits until all batches are folded.
    pub(super) fn wait(&self) {
        if self.is_idle() {
            return;
        }
        let (reply, folded) = sync_channel(1);
        let _ = self.steps.send(Step::Reply(reply));
        let _ = folded.recv();
    }

    /// Ends the thread once all batches are folded.
    pub(super) fn end(self) {
        drop(self.steps);
        let _ = self.thread.join();
    }
}

fn fold_all(engine: &Engine, steps: Receiver<Step>, state: &State) {
    for step in steps {
        match step {
            Step::Fold(appended) if state.has_panicked.load(Ordering::SeqCst) => {
                engine.give_up(appended);
                state.unfolded.fetch_sub(1, Ordering::SeqCst);
            }
            Step::Fold(appended) => {
                // Views that panic must not leave callers without an answer.
                if catch_unwind(AssertUnwindSafe(|| engine.fold_batch(appended))).is_err() {
                    state.has_panicked.store(true, Ordering::SeqCst);
                    engine.fail_after_panic();
                }
                state.unfolded.fetch_sub(1, Ordering::SeqCst);
            }
            Step::Reply(reply) => drop(reply.send(())),
        }
    }
}
