//! The threads of all work that is not short. Those that serve connections only take short steps,
//! so that `/healthz`, `/readyz` and small webhooks wait for no question.

use std::sync::LazyLock;
use std::thread::available_parallelism;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::answer::{Code, Problem};

/// The threads of questions, for each processor: some of them wait for the disk.
const QUESTIONS_PER_CORE: usize = 8;
const QUESTION_THREADS_MAX: usize = 64;

/// The threads that verify large bodies.
const BODY_THREADS: usize = 2;

/// The threads that carry out what identity providers change: each waits for the writer.
const CHANGE_THREADS: usize = 16;

/// The threads that compare events with those of the same id in the log.
const COMPARISON_THREADS: usize = 2;

/// The priority of these threads, as `nice` counts it: those that serve connections, and the one
/// that appends, come first.
const NICENESS: i32 = 5;

static QUESTIONS: LazyLock<Threads> = LazyLock::new(|| {
    let cores = available_parallelism().map_or(2, usize::from);
    Threads::new("question", (cores * QUESTIONS_PER_CORE).min(QUESTION_THREADS_MAX))
});

static CHANGES: LazyLock<Threads> = LazyLock::new(|| Threads::new("change", CHANGE_THREADS));

static BODIES: LazyLock<Threads> = LazyLock::new(|| Threads::new("body", BODY_THREADS));

static COMPARISONS: LazyLock<Threads> =
    LazyLock::new(|| Threads::new("comparison", COMPARISON_THREADS));

/// Threads that only run what blocks.
struct Threads {
    /// `None` if they could not be made.
    runtime: Option<Runtime>,
    /// One for each thread, held until the result is taken: results that nothing counts yet must
    /// not pile up while those that take them are busy.
    results: Semaphore,
}

impl Threads {
    fn new(name: &str, count: usize) -> Threads {
        Threads { runtime: runtime(name, count), results: Semaphore::new(count) }
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Code> {
        let _result = self.results.acquire().await.map_err(|_| Code::Internal)?;
        self.spawn(work).await.map_err(|_| Code::Internal)
    }

    fn spawn<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
        match &self.runtime {
            Some(runtime) => runtime.spawn_blocking(work),
            None => tokio::task::spawn_blocking(work),
        }
    }
}

fn runtime(name: &str, count: usize) -> Option<Runtime> {
    // Without a process the calling thread is meant. A refusal only costs the order.
    let come_second = || {
        let _ = rustix::process::setpriority_process(None, NICENESS);
    };
    Builder::new_current_thread()
        .max_blocking_threads(count)
        .thread_name(name)
        .on_thread_start(come_second)
        .build()
        .inspect_err(|error| tracing::error!(%error, "threads of low priority cannot be made"))
        .ok()
}

/// Runs the work of a question, which may block: it reads the log, or writes a large answer.
///
/// # Errors
/// 500 if it panics.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Problem> {
    Ok(QUESTIONS.run(work).await?)
}

/// Begins the work of a question, which goes on if its result is not awaited.
pub(crate) fn begin(work: impl FnOnce() + Send + 'static) {
    drop(QUESTIONS.spawn(work));
}

/// Carries out a change of an identity provider, which waits for the writer.
///
/// # Errors
/// 500 if it panics.
pub(crate) async fn changing<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Code> {
    CHANGES.run(work).await
}

/// Compares an event with the log, apart from all questions.
///
/// # Errors
/// 500 if it panics.
pub(crate) async fn comparing<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Code> {
    COMPARISONS.run(work).await
}

/// Verifies a large body, apart from all questions.
///
/// # Errors
/// 500 if it panics.
pub(crate) async fn verifying<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Code> {
    BODIES.run(work).await
}
