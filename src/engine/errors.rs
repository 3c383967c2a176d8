//! The errors of events, acts and cuts.

/// An event that was not acknowledged. Sending it again is always right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IngestError {
    /// The queue of events is full.
    #[error("too many events are waiting to be written")]
    QueueFull,
    /// It was not made durable, or the outcome is unknown.
    #[error("the event could not be made durable")]
    Unavailable,
}

/// A cut that is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CutError {
    /// `as_of` is later than our clock.
    AsOfInFuture,
    /// `known_at` is above the head, or a time in the future.
    KnownAtOutOfRange,
    /// A batch was stamped by `known_at` whose outcome is unknown: it may or may not be in the log.
    Unsettled,
}

/// An operator's act that was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ActError {
    /// No known event names the directory.
    #[error("no known event names the directory")]
    UnknownDirectory,
    /// No known event names the user.
    #[error("no known event names the user")]
    UnknownUser,
    /// The directory never had the token.
    #[error("the directory never had the token")]
    UnknownToken,
    /// The operator's key does not see the organization.
    #[error("the key is bound to other organizations")]
    ForeignOrganization,
    /// As many tokens of the directory are live as may be.
    #[error("two tokens of the directory are live")]
    TooManyTokens,
    /// It would take effect later than it is recorded.
    #[error("`effective_from` is in the future")]
    EffectiveFromInFuture,
    /// The mapping set now is not the one that the act expects.
    #[error("another version of the mapping is set than the act expects")]
    VersionConflict,
    /// Another mapping was set meanwhile, and the prepared index does not cover it: prepare again.
    #[error("another mapping was set meanwhile; try again")]
    Overtaken,
    /// The queue of events is full; nothing was done.
    #[error("too many events are waiting to be written; try again")]
    QueueFull,
    /// It was not made durable, or the outcome is unknown.
    #[error("the act could not be made durable")]
    Unavailable,
}

impl From<getrandom::Error> for ActError {
    fn from(_: getrandom::Error) -> ActError {
        ActError::Unavailable
    }
}

impl From<IngestError> for ActError {
    fn from(error: IngestError) -> ActError {
        match error {
            IngestError::QueueFull => ActError::QueueFull,
            IngestError::Unavailable => ActError::Unavailable,
        }
    }
}
