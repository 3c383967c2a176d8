//! The sink: the answers at the head, and their past, in tables of a PostgreSQL database. Each
//! batch of records is one transaction together with the position, so that it is exactly once in
//! effect.
//!
//! Everything here runs on a thread of its own, and never on one that answers requests.

mod database;
mod follow;
mod rebuild;
mod rows;
mod run;
mod schema;
mod shape;
mod status;
mod tables;
mod tls;
mod url;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rollcall_projections::Seq;
use run::Keeper;
use status::SinkStatus;
pub use status::{SinkError, SinkRebuild, SinkReport, SinkState};
use tokio::sync::Notify;
pub use url::PostgresUrl;

use crate::engine::Engine;

/// The longest that a stop waits for the thread. A transaction that is not committed by then is
/// done again at the next start.
const FINISH_WITHIN: Duration = Duration::from_secs(2);
const FINISH_PAUSE: Duration = Duration::from_millis(5);

/// The longest name of a schema.
const SCHEMA_BYTES_MAX: usize = 41;

/// A sink as it is configured, and its state.
pub struct Sink {
    url: PostgresUrl,
    schema: String,
    status: SinkStatus,
    /// Ends a wait, because a rebuild was asked for.
    wakes: Notify,
    stops: Notify,
    is_stopped: AtomicBool,
}

/// The thread that keeps the tables.
pub struct Sinking {
    sink: Arc<Sink>,
    thread: JoinHandle<()>,
}

/// Returns what is wrong with the name of a schema.
pub fn schema_fault(name: &str) -> Option<&'static str> {
    let is_letter = |c: char| c.is_ascii_lowercase() || c == '_';
    let is_good = name.starts_with(is_letter)
        && name.len() <= SCHEMA_BYTES_MAX
        && name.chars().all(|c| is_letter(c) || c.is_ascii_digit())
        && !name.starts_with("pg_")
        && name != "information_schema";
    (!is_good).then_some(
        "it must be 1 to 41 small letters, digits and _, not begin with a digit, and be no schema \
         of PostgreSQL itself",
    )
}

impl Sink {
    /// Makes a sink, and connects to nothing yet.
    pub fn new(url: PostgresUrl, schema: String) -> Sink {
        Sink {
            url,
            schema,
            status: SinkStatus::default(),
            wakes: Notify::new(),
            stops: Notify::new(),
            is_stopped: AtomicBool::new(false),
        }
    }

    /// Returns the host, the port and the database, without user and password.
    pub fn place(&self) -> String {
        self.url.place()
    }

    /// Returns the schema.
    pub fn schema(&self) -> &str {
        &self.schema
    }

    /// Returns true if the database is on another machine whose certificate is not verified.
    pub fn is_unverified(&self) -> bool {
        self.url.is_unverified()
    }

    /// Returns the state; `head` is that of the log. Asks no server.
    pub fn report(&self, head: Seq) -> SinkReport {
        self.status.report(head)
    }

    /// Asks for a rebuild, or joins the one that waits or runs.
    pub fn request_rebuild(&self) -> SinkRebuild {
        let rebuild = self.status.request_rebuild();
        self.wakes.notify_one();
        rebuild
    }

    /// Connects once, and changes nothing.
    ///
    /// # Errors
    /// A sentence without secrets.
    pub fn probe(&self) -> Result<(), String> {
        let runtime = runtime().map_err(|error| error.to_string())?;
        let connected = runtime.block_on(database::Database::connect(&self.url));
        connected.map(drop).map_err(database::SinkFault::message)
    }

    /// Keeps the tables on a thread of its own, which does not keep the engine from being closed.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn start(self: &Arc<Sink>, engine: &Arc<Engine>) -> std::io::Result<Sinking> {
        let (sink, engine) = (self.clone(), Arc::downgrade(engine));
        let runtime = runtime()?;
        let keep = move || {
            let keeper = Keeper::new(sink.clone(), engine);
            runtime.block_on(async {
                tokio::select! {
                    () = keeper.run() => {}
                    () = sink.stopped() => {}
                }
            });
            // A look-up of a host's address may take long, and is left behind.
            runtime.shutdown_background();
        };
        let thread = thread::Builder::new().name("sink".into()).spawn(keep)?;
        Ok(Sinking { sink: self.clone(), thread })
    }

    async fn stopped(&self) {
        while !self.is_stopped.load(Ordering::SeqCst) {
            self.stops.notified().await;
        }
    }
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

impl Sinking {
    /// Ends the thread. A transaction that is not committed is not done.
    pub fn finish(self) {
        self.sink.is_stopped.store(true, Ordering::SeqCst);
        self.sink.stops.notify_one();
        let begun = Instant::now();
        while !self.thread.is_finished() && begun.elapsed() < FINISH_WITHIN {
            thread::sleep(FINISH_PAUSE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_has_a_name_that_needs_no_quotes() {
        for good in ["rollcall", "_", "a1_b", &"x".repeat(41)] {
            assert_eq!(schema_fault(good), None, "{good}");
        }
        let long = "x".repeat(42);
        for bad in ["", "1a", "Rollcall", "a-b", "a b", "a\"", "é", "pg_x", &long] {
            assert!(schema_fault(bad).is_some(), "{bad}");
        }
    }
}
