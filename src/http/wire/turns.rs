//! Turns of expensive calls: a few work at once, some wait for a moment, and the others are refused
//! with 429, so that cheap calls and webhooks always find a processor and short locks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::answer::{Code, Problem};
use super::api::{Cost, Operation};
use super::threads::blocking;
use crate::engine::{Engine, WorkError};
use crate::verify::{FieldCode, MappingError};

/// The longest wait for a turn.
const WAIT_MAX: Duration = Duration::from_secs(2);

/// The most requests that wait for a turn.
const WAITING_MAX: usize = 32;

/// The longest that a turn takes, about.
const TURN_MAX: Duration = Duration::from_secs(8);

/// The turns of expensive calls.
pub(crate) struct Turns {
    free: Arc<Semaphore>,
    waiting: AtomicUsize,
    refused: AtomicU64,
}

/// The turn of one request. Ends when it is dropped.
pub(crate) struct Turn {
    _taken: OwnedSemaphorePermit,
    asker: Asker,
    ends_at: Option<Instant>,
    /// Set when a walk found nothing in time.
    in_vain: AtomicBool,
}

/// The one who waits for the answer of a walk.
pub(crate) struct Asker {
    engine: Arc<Engine>,
    /// Set when the asker leaves.
    left: Arc<AtomicBool>,
}

/// Notes that the asker has left: the server drops the future of the answer then.
struct Leaving(Arc<AtomicBool>);

impl Drop for Leaving {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Counts a request that waits.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Default for Turns {
    fn default() -> Turns {
        let at_once = available_parallelism().map_or(2, |cores| cores.get().clamp(2, 8));
        Turns {
            free: Arc::new(Semaphore::new(at_once)),
            waiting: AtomicUsize::new(0),
            refused: AtomicU64::new(0),
        }
    }
}

impl Turns {
    /// Returns the number of requests refused since the start.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Counts a request that is refused.
    pub(crate) fn count_refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    async fn take(&self) -> Result<OwnedSemaphorePermit, Code> {
        let waiting = Waiting(&self.waiting);
        let others = self.waiting.fetch_add(1, Ordering::Relaxed);
        let wait = if others < WAITING_MAX { WAIT_MAX } else { Duration::ZERO };
        let taken = tokio::time::timeout(wait, self.free.clone().acquire_owned()).await;
        drop(waiting);
        taken.ok().and_then(Result::ok).ok_or_else(|| {
            self.count_refused();
            Code::TooManyRequests
        })
    }
}

impl Asker {
    /// Tells if the asker waits and the server runs.
    pub(crate) fn waits(&self) -> bool {
        !self.left.load(Ordering::Relaxed) && !self.engine.is_shutting_down()
    }
}

impl Turn {
    /// Tells if the work should go on: the asker waits, the server runs, and there is time left.
    pub(crate) fn goes_on(&self) -> bool {
        self.is_wanted() && self.ends_at.is_none_or(|ends_at| Instant::now() < ends_at)
    }

    /// Tells if the asker waits and the server runs.
    pub(crate) fn is_wanted(&self) -> bool {
        self.asker.waits()
    }

    /// Returns the one who asks.
    pub(crate) fn asker(&self) -> &Asker {
        &self.asker
    }

    /// Notes that a walk ended for lack of time and has found nothing.
    pub(crate) fn walked_in_vain(&self) {
        self.in_vain.store(true, Ordering::Relaxed);
    }

    /// Refuses an answer that could not be worked out.
    ///
    /// # Errors
    /// 422 if a walk ended in vain; 503 if the server stops.
    fn check(&self) -> Result<(), Problem> {
        if !self.is_wanted() || self.in_vain.load(Ordering::Relaxed) {
            return Err(self.problem(WorkError::Halted));
        }
        Ok(())
    }

    /// Returns the problem of work that ended without a result.
    pub(crate) fn problem(&self, error: WorkError) -> Problem {
        Problem::of_work(error, &self.asker.engine)
    }
}

impl Problem {
    /// Returns the problem of work that ended without a result.
    pub(crate) fn of_work(error: WorkError, engine: &Engine) -> Problem {
        match error {
            WorkError::Read(error) => error.into(),
            WorkError::Halted if engine.is_shutting_down() => Code::Stopping.into(),
            WorkError::Halted => Code::TooMuchWork.into(),
            error @ WorkError::TooManyMappings { .. } => {
                let (field, code) = ("mapping".to_owned(), FieldCode::TooLong);
                let message = error.to_string();
                Problem::mapping_invalid(vec![MappingError { field, code, message }])
            }
            error @ (WorkError::TooManyNames | WorkError::TooManyGrounds) => {
                Problem::too_much_work(&error)
            }
        }
    }
}

/// Runs a walk over a list, which costs its page and the candidates that its filters refuse. It
/// takes no turn, but must end when the asker does not wait.
///
/// # Errors
/// 503 if the server stops; 500 if the walk panics.
pub(crate) async fn walk_for<T: Send + 'static>(
    engine: &Arc<Engine>,
    operation: &Operation,
    walk: impl FnOnce(&Asker) -> T + Send + 'static,
) -> Result<T, Problem> {
    debug_assert!(operation.cost == Cost::Walk, "{} is not declared a walk", operation.name);
    walk_while_asked(engine, walk).await
}

/// Runs a walk of a call that is not in the table, as [`walk_for`] does.
///
/// # Errors
/// 503 if the server stops; 500 if the walk panics.
pub(crate) async fn walk_while_asked<T: Send + 'static>(
    engine: &Arc<Engine>,
    walk: impl FnOnce(&Asker) -> T + Send + 'static,
) -> Result<T, Problem> {
    let leaving = Leaving(Arc::default());
    let asker = Asker { engine: engine.clone(), left: leaving.0.clone() };
    let found = blocking(move || {
        let found = walk(&asker);
        asker.waits().then_some(found)
    });
    found.await?.ok_or(Code::Stopping.into())
}

/// Runs the work of an expensive call on a thread of its own, once it is its turn.
///
/// # Errors
/// 429 if too many others work and wait; 500 if the work panics.
pub(crate) async fn in_turn<T: Send + 'static>(
    turns: &Turns,
    engine: &Arc<Engine>,
    operation: &Operation,
    work: impl FnOnce(&Turn) -> T + Send + 'static,
) -> Result<T, Problem> {
    let leaving = Leaving(Arc::default());
    let turn = begin(turns, engine, operation, Some(TURN_MAX), leaving.0.clone()).await?;
    blocking(move || work(&turn)).await
}

/// Runs a walk as [`in_turn`] does, and refuses what it found if it ended in vain: callers cannot
/// forget to look.
///
/// # Errors
/// Outside as [`in_turn`]; inside those of the walk, 422 if it ended in vain, 503 if the server
/// stops.
pub(crate) async fn walk_in_turn<T: Send + 'static>(
    turns: &Turns,
    engine: &Arc<Engine>,
    operation: &Operation,
    walk: impl FnOnce(&Turn) -> Result<T, Problem> + Send + 'static,
) -> Result<Result<T, Problem>, Problem> {
    let work = |turn: &Turn| {
        let found = walk(turn)?;
        turn.check()?;
        Ok(found)
    };
    in_turn(turns, engine, operation, work).await
}

/// Takes the turn of a call whose answer is written while it is worked out, for as long as it is
/// read.
///
/// # Errors
/// 429 if too many others work and wait.
pub(crate) async fn long_turn(
    turns: &Turns,
    engine: &Arc<Engine>,
    operation: &Operation,
) -> Result<Turn, Problem> {
    // The one that writes sees for itself that the reader has left.
    begin(turns, engine, operation, None, Arc::default()).await
}

async fn begin(
    turns: &Turns,
    engine: &Arc<Engine>,
    operation: &Operation,
    longest: Option<Duration>,
    left: Arc<AtomicBool>,
) -> Result<Turn, Problem> {
    debug_assert!(operation.cost == Cost::High, "{} is not declared expensive", operation.name);
    Ok(Turn {
        _taken: turns.take().await?,
        asker: Asker { engine: engine.clone(), left },
        ends_at: longest.map(|longest| Instant::now() + longest),
        in_vain: AtomicBool::new(false),
    })
}
