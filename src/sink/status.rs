//! The state of the sink, for operators.

use parking_lot::Mutex;
use rollcall_projections::{Millis, Seq};

use crate::time;

/// What the sink does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SinkState {
    /// There is none.
    Off,
    /// It connects for the first time.
    Starting,
    /// It fills empty tables.
    Filling,
    /// It keeps the tables at the head.
    Following,
    /// It computes all rows again.
    Rebuilding,
    /// The database cannot be reached, or refused something: it is tried again.
    Retrying,
    /// The tables are those of another log, or were changed: only an operator goes on.
    Refused,
}

impl SinkState {
    /// Every state.
    pub const ALL: [SinkState; 7] = [
        SinkState::Off,
        SinkState::Starting,
        SinkState::Filling,
        SinkState::Following,
        SinkState::Rebuilding,
        SinkState::Retrying,
        SinkState::Refused,
    ];

    /// Returns its word in answers.
    pub fn word(self) -> &'static str {
        match self {
            SinkState::Off => "off",
            SinkState::Starting => "starting",
            SinkState::Filling => "filling",
            SinkState::Following => "following",
            SinkState::Rebuilding => "rebuilding",
            SinkState::Retrying => "retrying",
            SinkState::Refused => "refused",
        }
    }
}

/// The reason why the tables are behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkError {
    /// The moment of the last try.
    pub at: Millis,
    /// A description without secrets and without values of rows.
    pub message: String,
}

/// The state of a rebuild.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkRebuild {
    /// Its number since the start, from 1.
    pub number: u64,
    /// The moment at which it was asked for.
    pub requested_at: Millis,
    /// The moment at which it ended; `None` while it runs or waits.
    pub finished_at: Option<Millis>,
    /// Why it failed; `None` if it did not.
    pub error: Option<String>,
}

/// The state of the sink at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkReport {
    /// What it does.
    pub state: SinkState,
    /// The record up to which the tables hold the answers; `None` before that is known.
    pub position: Option<Seq>,
    /// The number of records that they do not hold.
    pub lag_records: u64,
    /// For how long the tables have been behind, in milliseconds; 0 at the head.
    pub lag_ms: Millis,
    /// The records applied since the start.
    pub applied: u64,
    /// The tries since the start that failed.
    pub failures: u64,
    /// Why the last try failed; `None` after one that did not.
    pub last_error: Option<SinkError>,
    /// The last rebuild since the start.
    pub rebuild: Option<SinkRebuild>,
}

struct Changing {
    state: SinkState,
    position: Option<Seq>,
    /// The last moment at which the tables were at the head.
    current_at: Millis,
    applied: u64,
    failures: u64,
    last_error: Option<SinkError>,
    rebuild: Option<SinkRebuild>,
}

impl SinkReport {
    /// Returns the state of a server without a sink.
    pub fn off() -> SinkReport {
        SinkReport {
            state: SinkState::Off,
            position: None,
            lag_records: 0,
            lag_ms: 0,
            applied: 0,
            failures: 0,
            last_error: None,
            rebuild: None,
        }
    }
}

/// The state of the sink while the server runs.
pub(super) struct SinkStatus(Mutex<Changing>);

impl Default for SinkStatus {
    fn default() -> SinkStatus {
        SinkStatus(Mutex::new(Changing {
            state: SinkState::Starting,
            position: None,
            current_at: time::now_ms(),
            applied: 0,
            failures: 0,
            last_error: None,
            rebuild: None,
        }))
    }
}

impl SinkStatus {
    /// Returns the state. Asks no server.
    pub(super) fn report(&self, head: Seq) -> SinkReport {
        let changing = self.0.lock();
        let lag_records = head.saturating_sub(changing.position.unwrap_or(0));
        let behind_ms = time::now_ms().saturating_sub(changing.current_at).max(0);
        SinkReport {
            state: changing.state,
            position: changing.position,
            lag_records,
            lag_ms: if lag_records == 0 { 0 } else { behind_ms },
            applied: changing.applied,
            failures: changing.failures,
            last_error: changing.last_error.clone(),
            rebuild: changing.rebuild.clone(),
        }
    }

    pub(super) fn enter(&self, state: SinkState) {
        self.0.lock().state = state;
    }

    /// Returns the record up to which the tables hold the answers; `None` before that is known.
    pub(super) fn position(&self) -> Option<Seq> {
        self.0.lock().position
    }

    /// Returns the number of records applied since the start.
    pub(super) fn applied(&self) -> u64 {
        self.0.lock().applied
    }

    /// Notes where the tables are, as the database says.
    pub(super) fn found(&self, position: Seq) {
        self.0.lock().position = Some(position);
    }

    /// Notes that the tables have reached a record. Clears the error.
    pub(super) fn reached(&self, position: Seq, head: Seq) {
        let mut changing = self.0.lock();
        let before = changing.position.replace(position).unwrap_or(0);
        changing.applied += position.saturating_sub(before);
        changing.last_error = None;
        if position >= head {
            changing.current_at = time::now_ms();
        }
    }

    pub(super) fn failed(&self, state: SinkState, message: String) {
        let mut changing = self.0.lock();
        changing.state = state;
        changing.failures += 1;
        changing.last_error = Some(SinkError { at: time::now_ms(), message });
    }

    /// Asks for a rebuild, or joins the one that waits or runs.
    pub(super) fn request_rebuild(&self) -> SinkRebuild {
        let mut changing = self.0.lock();
        let number = match &changing.rebuild {
            Some(rebuild) if rebuild.finished_at.is_none() => return rebuild.clone(),
            last => last.as_ref().map_or(1, |last| last.number + 1),
        };
        let requested_at = time::now_ms();
        let rebuild = SinkRebuild { number, requested_at, finished_at: None, error: None };
        changing.rebuild.insert(rebuild).clone()
    }

    /// Returns true if a rebuild was asked for and has not ended.
    pub(super) fn wants_rebuild(&self) -> bool {
        let changing = self.0.lock();
        changing.rebuild.as_ref().is_some_and(|rebuild| rebuild.finished_at.is_none())
    }

    /// Ends the rebuild that was asked for, if one was.
    pub(super) fn end_rebuild(&self, error: Option<String>) {
        let mut changing = self.0.lock();
        let running = changing.rebuild.as_mut().filter(|rebuild| rebuild.finished_at.is_none());
        if let Some(rebuild) = running {
            rebuild.finished_at = Some(time::now_ms());
            rebuild.error = error;
        }
    }
}
