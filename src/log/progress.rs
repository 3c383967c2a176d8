//! The progress of a restore, a check of an archive, or a salvage.

use rollcall_projections::Seq;

/// The number of records between two reports of progress.
const PROGRESS_EVERY: Seq = 1024;

/// A step of a long work on a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// What is there already from a run that was interrupted is checked.
    Kept,
    /// The records of the source are read and checked.
    Check,
    /// They are written.
    Write,
    /// What was written is read back.
    ReadBack,
}

/// A report of a long work on a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress<'a> {
    /// Record `seq` of `of` was reached in a step.
    At {
        /// The step.
        stage: Stage,
        /// The last record seen.
        seq: Seq,
        /// The last record that there is.
        of: Seq,
    },
    /// What a run before left unfinished is of no use and was removed.
    Removed {
        /// The reason, as the end of a sentence that begins with what is removed.
        why: &'a str,
    },
}

/// Receives [`Progress`].
pub type Report<'a> = &'a dyn Fn(Progress<'_>);

/// Reports record `seq` of `of`, if it is one of those that are reported, or the last.
pub(super) fn report_at(report: Report<'_>, stage: Stage, seq: Seq, of: Seq) {
    if seq.is_multiple_of(PROGRESS_EVERY) || seq == of {
        report(Progress::At { stage, seq, of });
    }
}
