//! What is in an archive, judged by the sizes of its files and what the head of each says, and by the
//! whole of the newest. A file that is damaged holds none of the records that its name promises.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use rollcall_projections::Seq;

use super::judge::Newest;
use crate::log::{ArchivePlace, ListedSegment, PlaceError, Ranges};

/// The segments of a log's part of an archive.
#[derive(Default)]
pub(super) struct Survey {
    /// The records that are in it.
    pub(super) coverage: Ranges,
    /// The damaged segments.
    pub(super) damaged: Vec<DamagedSegment>,
}

/// A segment that is not whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DamagedSegment {
    /// The records that its name promises.
    pub(super) seqs: RangeInclusive<Seq>,
    /// The name of its file.
    pub(super) name: String,
    pub(super) what: String,
}

impl Survey {
    /// Looks at the segments, the longest first; one whose records a longer one has is not needed,
    /// and not looked at. The newest were read before.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub(super) fn of(
        part: &ArchivePlace,
        mut segments: Vec<ListedSegment>,
        newest: Newest,
    ) -> Result<Survey, PlaceError> {
        let Newest { whole, damaged } = newest;
        let read: BTreeSet<String> = damaged.iter().map(|found| found.name.clone()).collect();
        let mut survey = Survey { coverage: Ranges::default(), damaged };
        segments.sort_by_key(|segment| std::cmp::Reverse(segment.length()));
        for segment in segments {
            let (first, last) = segment.seqs.clone().into_inner();
            if read.contains(&segment.name) || survey.coverage.has(first, last) {
                continue;
            }
            let was_read = whole.as_ref() == Some(&segment.name);
            match if was_read { None } else { segment.fault(part)? } {
                None => survey.coverage.add(first, last),
                Some(what) => {
                    let ListedSegment { seqs, name, .. } = segment;
                    survey.damaged.push(DamagedSegment { seqs, name, what: what.to_owned() });
                }
            }
        }
        Ok(survey)
    }

    /// Notes a segment that turns out to be damaged.
    pub(super) fn note(&mut self, seqs: RangeInclusive<Seq>, name: String, what: String) {
        self.damaged.push(DamagedSegment { seqs, name, what });
    }

    /// Returns whether the name for these records is that of a damaged segment. No file is ever
    /// overwritten, so they need another name, and with it other bounds.
    pub(super) fn is_taken(&self, seqs: &RangeInclusive<Seq>) -> bool {
        self.damaged.iter().any(|damaged| damaged.seqs == *seqs)
    }
}
