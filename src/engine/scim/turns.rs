//! The order of changes: those of one directory are one after another. And what is counted of each
//! directory's requests since the start.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use rollcall_projections::Millis;
use tokio::sync::OwnedMutexGuard;

use super::ScimError;
use super::unfinished::Rest;
use crate::engine::Engine;

/// The most changes of one directory that wait for their turn.
const WAITING_MAX: usize = 256;

/// The bytes of a client's name that are kept.
pub(super) const USER_AGENT_BYTES_MAX: usize = 255;

/// The state that this process keeps of the directories that identity providers push into.
#[derive(Default)]
pub(in crate::engine) struct ScimDirectories {
    directories: Mutex<HashMap<String, Arc<Lane>>>,
    /// When each token was last used.
    used: Mutex<HashMap<String, Millis>>,
}

/// The changes of one directory.
#[derive(Default)]
struct Lane {
    /// Held while a change is carried out. What is left of one that could not be finished is in it.
    turn: Arc<tokio::sync::Mutex<Option<Rest>>>,
    waiting: AtomicUsize,
    counts: Mutex<ScimCounts>,
}

/// The requests of one directory since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScimCounts {
    /// Questions that were answered.
    pub reads: u64,
    /// Changes that were accepted, also those that changed nothing.
    pub writes: u64,
    /// The accepted changes that changed nothing, and so are not recorded.
    pub unchanged: u64,
    /// Requests that were refused with 4xx.
    pub refused: u64,
    /// Requests that failed with 5xx.
    pub failed: u64,
    /// The last request.
    pub last: Option<LastScimRequest>,
    /// The last request that was refused or failed.
    pub last_refused: Option<LastScimRequest>,
}

/// A request that was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastScimRequest {
    /// When it was answered.
    pub at: Millis,
    /// The method; `OTHER` for one that SCIM does not have.
    pub method: &'static str,
    /// The status of the answer.
    pub status: u16,
    /// The name that the client gives itself, if it gives one.
    pub user_agent: Option<String>,
}

/// Counts a change that waits.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The turn of one change in its directory. Ends when it is dropped.
pub struct ScimTurn {
    pub(super) engine: Arc<Engine>,
    pub(super) directory: String,
    /// What an earlier change left to be appended.
    pub(super) rest: OwnedMutexGuard<Option<Rest>>,
}

impl ScimDirectories {
    /// Returns the lane of a directory. Only directories with a live token are asked for, so that
    /// there are no more lanes than directories.
    fn lane(&self, directory: &str) -> Arc<Lane> {
        let mut directories = self.directories.lock();
        if let Some(lane) = directories.get(directory) {
            return lane.clone();
        }
        directories.entry(directory.to_owned()).or_default().clone()
    }

    pub(super) fn note_use(&self, token: &str, now: Millis) {
        let mut used = self.used.lock();
        match used.get_mut(token) {
            Some(at) => *at = now,
            None => drop(used.insert(token.to_owned(), now)),
        }
    }
}

impl Engine {
    /// Takes the turn in a directory in which nothing else is being changed.
    ///
    /// # Errors
    /// [`ScimError::TooManyWait`] if something is.
    pub(super) fn scim_turn_now(self: &Arc<Self>, directory: &str) -> Result<ScimTurn, ScimError> {
        let turn = self.scim.lane(directory).turn.clone();
        let rest = turn.try_lock_owned().map_err(|_| ScimError::TooManyWait)?;
        Ok(ScimTurn { engine: self.clone(), directory: directory.to_owned(), rest })
    }

    /// Waits for the turn of a change in its directory, behind those that came before.
    ///
    /// # Errors
    /// [`ScimError::TooManyWait`] if 256 wait already.
    pub async fn scim_turn(self: &Arc<Self>, directory: &str) -> Result<ScimTurn, ScimError> {
        let lane = self.scim.lane(directory);
        let waiting = Waiting(&lane.waiting);
        if lane.waiting.fetch_add(1, Ordering::Relaxed) >= WAITING_MAX {
            return Err(ScimError::TooManyWait);
        }
        let rest = lane.turn.clone().lock_owned().await;
        drop(waiting);
        Ok(ScimTurn { engine: self.clone(), directory: directory.to_owned(), rest })
    }

    /// Returns the moment at which this process last saw a token; `None` if it did not.
    pub fn token_used_at(&self, token: &str) -> Option<Millis> {
        self.scim.used.lock().get(token).copied()
    }

    /// Returns what was counted of a directory's requests since the start.
    pub fn scim_counts(&self, directory: &str) -> ScimCounts {
        let lane = self.scim.directories.lock().get(directory).cloned();
        lane.map(|lane| lane.counts.lock().clone()).unwrap_or_default()
    }

    /// Counts an answered request of a directory whose token was known. `is_question` tells if it
    /// would change nothing: a search is a POST as well.
    pub fn count_scim(&self, directory: &str, mut request: LastScimRequest, is_question: bool) {
        let user_agent = request.user_agent.filter(|name| !name.is_empty());
        request.user_agent = user_agent.map(|name| kept_user_agent(&name).to_owned());
        let kind = match (request.status, is_question) {
            (500.., _) => "failed",
            (400.., _) => "refused",
            (_, true) => "read",
            (_, false) => "written",
        };
        self.metrics.count_scim(kind);
        let lane = self.scim.lane(directory);
        let mut counts = lane.counts.lock();
        match kind {
            "failed" => counts.failed += 1,
            "refused" => counts.refused += 1,
            "read" => counts.reads += 1,
            _ => counts.writes += 1,
        }
        if request.status >= 400 {
            counts.last_refused = Some(request.clone());
        }
        counts.last = Some(request);
    }

    /// Counts an accepted change that changed nothing.
    pub(super) fn count_scim_unchanged(&self, directory: &str) {
        self.scim.lane(directory).counts.lock().unchanged += 1;
    }
}

/// Returns as much of a client's name as is kept.
pub(super) fn kept_user_agent(user_agent: &str) -> &str {
    let mut end = user_agent.len().min(USER_AGENT_BYTES_MAX);
    while !user_agent.is_char_boundary(end) {
        end -= 1;
    }
    user_agent.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_name_is_cut_between_characters() {
        assert_eq!(kept_user_agent("Okta SCIM Client 1.0.0"), "Okta SCIM Client 1.0.0");
        // Of 128 letters of two bytes each, 127 fit into 255 bytes.
        assert_eq!(kept_user_agent(&"ä".repeat(128)), "ä".repeat(127));
        assert_eq!(kept_user_agent(""), "");
    }
}
