//! The source as a reconciliation sees it.

use bytes::Bytes;
use rollcall_projections::Millis;

use crate::verify::Origin;

/// An answer of the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Its status: 200, or one of 400 to 499 except 401 and 429.
    pub status: u16,
    /// Its body.
    pub body: Bytes,
    /// Just before the request was sent.
    pub asked_at: Millis,
}

/// A source that does not answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoAnswer {
    /// It failed as often as it may for one request.
    #[error("{0}")]
    Failed(String),
    /// It refuses the key.
    #[error("the source refuses the key")]
    Refused,
    /// The server stops.
    #[error("the server was stopped")]
    Stopped,
}

/// The source that is asked.
pub trait Source: Send + Sync {
    /// Returns its address and the fingerprint of the key, as proofs name them.
    fn origin(&self) -> &Origin;

    /// Asks for a path with its query. Waits for its turn, and retries what may succeed later, at
    /// most 8 times. Blocks.
    ///
    /// # Errors
    /// [`NoAnswer`].
    fn get(&self, path: &str) -> Result<Answer, NoAnswer>;

    /// Pulls events to the end: to a page without a next one, or to an event dated at or after
    /// `since`. Blocks.
    ///
    /// # Errors
    /// [`NoAnswer`].
    fn pull_to_end(&self, since: Millis) -> Result<(), NoAnswer>;

    /// Returns true once a pull has reached the end since the start.
    fn has_caught_up(&self) -> bool;
}
