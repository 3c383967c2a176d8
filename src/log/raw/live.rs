//! Segments of a file that sled is writing to meanwhile.

use super::scan::values_in;
use super::segment::{SegmentHead, Stretch, looks_like_message, walk};

/// What a look at a segment of a file in use found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::log) struct LiveSegment {
    /// Its number in the order of writes; `None` if its head is not whole.
    pub(in crate::log) number: Option<u64>,
    /// Where damage begins: bytes that are no message but have messages behind them, or a tail that
    /// begins like a message. They may be in the middle of being written.
    pub(in crate::log) damaged: Vec<usize>,
}

/// Shows `each` every value in the whole messages of a segment.
pub(in crate::log) fn look_at_segment(segment: &[u8], mut each: impl FnMut(&[u8])) -> LiveSegment {
    let Some(head) = SegmentHead::read(segment) else {
        let is_unused = segment.iter().all(|byte| *byte == 0);
        let damaged = if is_unused { Vec::new() } else { vec![0] };
        return LiveSegment { number: None, damaged };
    };
    let number = head.number();
    let mut damaged = Vec::new();
    walk(
        segment,
        number,
        |other| other > number,
        |stretch| match stretch {
            Stretch::Whole { message, .. } => {
                for range in values_in(segment, &message) {
                    each(segment.get(range).unwrap_or_default());
                }
            }
            Stretch::Damaged { bytes, .. } => damaged.push(bytes.start),
            Stretch::Tail { bytes, .. } if looks_like_message(segment, number, bytes.start) => {
                damaged.push(bytes.start);
            }
            // The rest may be remains of what was there before.
            Stretch::Tail { .. } | Stretch::Overwritten { .. } => {}
        },
    );
    LiveSegment { number: Some(number), damaged }
}
