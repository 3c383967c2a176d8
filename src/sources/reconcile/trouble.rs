//! The reasons why a reconciliation does not go on.

use std::io;

use crate::engine::IngestError;
use crate::log::ReadError;
use crate::sources::SourceError;

/// The reason why a directory, or the whole run, is not compared.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    /// The directory has failed; the others go on.
    #[error("{0}")]
    Directory(String),
    /// The run has failed.
    #[error("{0}")]
    Run(String),
}

impl Trouble {
    /// Says what it is about, if it is only about a directory.
    pub(super) fn about(self, what: &str) -> Trouble {
        match self {
            Trouble::Directory(cause) => Trouble::Directory(format!("{what}: {cause}")),
            run @ Trouble::Run(_) => run,
        }
    }
}

impl From<SourceError> for Trouble {
    fn from(error: SourceError) -> Trouble {
        match error {
            SourceError::Unauthorized | SourceError::Stopped => Trouble::Run(error.to_string()),
            SourceError::Forbidden
            | SourceError::NotFound
            | SourceError::Refused(_)
            | SourceError::Unavailable(_) => Trouble::Directory(error.to_string()),
        }
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Trouble {
        Trouble::Run(format!("a temporary file in the data folder failed: {error}"))
    }
}

impl From<ReadError> for Trouble {
    fn from(error: ReadError) -> Trouble {
        Trouble::Run(format!("the log could not be read: {error}"))
    }
}

impl From<IngestError> for Trouble {
    fn from(error: IngestError) -> Trouble {
        Trouble::Run(error.to_string())
    }
}
