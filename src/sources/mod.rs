//! The source: the server whose directories the log keeps, and the comparison with it.

pub mod reconcile;
