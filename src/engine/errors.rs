//! Why the engine refuses an event, an act or a cut.

/// Why an event was not acknowledged. Sending it again is always right.
#[derive(Clone, Debug, thiserror::Error)]
pub enum IngestError {
    /// Too many events wait.
    #[error("too many events are waiting to be written")]
    QueueFull,
    /// It could not be made durable, or nobody knows.
    #[error("the event could not be made durable")]
    Unavailable,
}

/// Why a cut is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CutError {
    /// `as_of` is later than our clock.
    AsOfInFuture,
    /// `known_at` is above the head, or a time in the future.
    KnownAtOutOfRange,
    /// By the time of `known_at` a batch was stamped of which nobody knows whether it was appended.
    Unsettled,
}

/// Why an operator's act was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActError {
    /// Nothing known names the directory.
    UnknownDirectory,
    /// It would take effect later than it is recorded.
    EffectiveFromInFuture,
    /// The mapping is not the one that was to be replaced.
    VersionConflict,
    /// Meanwhile another mapping was set, which asks for more than was prepared: prepare again.
    Overtaken,
    /// Too many events wait; nothing was done.
    QueueFull,
    /// It could not be made durable, or nobody knows.
    Unavailable,
}

impl From<IngestError> for ActError {
    fn from(error: IngestError) -> ActError {
        match error {
            IngestError::QueueFull => ActError::QueueFull,
            IngestError::Unavailable => ActError::Unavailable,
        }
    }
}
