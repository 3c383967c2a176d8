//! The source: the server whose directories the log keeps. Its events are pulled, and its state is
//! compared with the views.
//!
//! Everything here runs on threads of its own, and never on one that answers requests.

mod bell;
mod bucket;
mod client;
pub mod reconcile;
mod status;

pub use client::{Breakage, SourceAnswer, SourceClient, SourceError, SourcePage, Tries, plain_url};
pub use status::{SourceCounts, SourceFault, SourceMoments, SourceStatus};
