//! The threads of all work that is not short. Those that serve connections only take short steps,
//! so that `/healthz`, `/readyz` and small webhooks wait for no question.

use std::sync::LazyLock;
use std::thread::available_parallelism;

use tokio::runtime::{Builder, Runtime};

use super::answer::{Code, Problem};

/// The threads of questions, for each processor: some of them wait for the disk.
const QUESTIONS_PER_CORE: usize = 8;
const QUESTION_THREADS_MAX: usize = 64;

/// The threads that verify large bodies.
const BODY_THREADS: usize = 2;

/// The priority of these threads, as `nice` counts it: those that serve connections, and the one
/// that appends, come first.
const NICENESS: i32 = 5;

static QUESTIONS: LazyLock<Option<Runtime>> = LazyLock::new(|| {
    let cores = available_parallelism().map_or(2, usize::from);
    threads("question", (cores * QUESTIONS_PER_CORE).min(QUESTION_THREADS_MAX))
});

static BODIES: LazyLock<Option<Runtime>> = LazyLock::new(|| threads("body", BODY_THREADS));

/// Makes threads that only run what blocks.
fn threads(name: &str, count: usize) -> Option<Runtime> {
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

async fn run<T: Send + 'static>(
    threads: &Option<Runtime>,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Code> {
    let running = match threads {
        Some(threads) => threads.spawn_blocking(work),
        None => tokio::task::spawn_blocking(work),
    };
    running.await.map_err(|_| Code::Internal)
}

/// Runs the work of a question, which may block: it reads the log, or writes a large answer.
///
/// # Errors
/// 500 if it panics.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Problem> {
    Ok(run(&QUESTIONS, work).await?)
}

/// Begins the work of a question, which goes on if its result is not awaited.
pub(crate) fn begin(work: impl FnOnce() + Send + 'static) {
    match &*QUESTIONS {
        Some(threads) => drop(threads.spawn_blocking(work)),
        None => drop(tokio::task::spawn_blocking(work)),
    }
}

/// Verifies a large body, apart from all questions.
///
/// # Errors
/// 500 if it panics.
pub(crate) async fn verifying<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Code> {
    run(&BODIES, work).await
}
