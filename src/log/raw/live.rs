//! A file that sled is writing to meanwhile: its segments, and which of its messages its pages consist
//! of.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use rollcall_projections::Seq;

use super::super::block;
use super::super::ranges::Ranges;
use super::scan::{Found, Pass, Place, Sighting, values_in, values_of};
use super::segment::{Kind, Message, SEGMENT_BYTES, SegmentHead, Stretch, page_at, walk};

/// A place of a segment at which damage begins. It may be in the middle of being written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::log) struct DamagedPlace {
    /// Its first byte, counted from that of the segment.
    pub(in crate::log) at: usize,
    /// The page whose message is there, if the head of the message still says it.
    pub(in crate::log) page: Option<u64>,
}

/// What a look at a segment of a file in use found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::log) struct LiveSegment {
    /// Its number in the order of writes; `None` if its head is not whole.
    pub(in crate::log) number: Option<u64>,
    /// Its damage.
    pub(in crate::log) damaged: Vec<DamagedPlace>,
}

/// Shows `each` every value in the whole messages of a segment. Segments before the number `newest`
/// are written up to their end.
pub(in crate::log) fn look_at_segment(
    segment: &[u8],
    newest: u64,
    mut each: impl FnMut(&[u8]),
) -> LiveSegment {
    let Some(head) = SegmentHead::read(segment) else {
        let is_unused = segment.iter().all(|byte| *byte == 0);
        let whole = DamagedPlace { at: 0, page: None };
        let damaged = if is_unused { Vec::new() } else { vec![whole] };
        return LiveSegment { number: None, damaged };
    };
    let number = head.number();
    let mut damaged = Vec::new();
    walk(
        segment,
        number,
        |other| other > number,
        |stretch| {
            if let Stretch::Whole { message, .. } = &stretch {
                for range in values_in(segment, message) {
                    each(segment.get(range).unwrap_or_default());
                }
            }
            damaged.extend(damage(segment, number, number < newest, &stretch));
        },
    );
    LiveSegment { number: Some(number), damaged }
}

/// Returns the place of a stretch that is damaged.
fn damage(segment: &[u8], number: u64, is_full: bool, stretch: &Stretch) -> Option<DamagedPlace> {
    match stretch {
        Stretch::Whole { .. } | Stretch::Overwritten { .. } => None,
        Stretch::Damaged { bytes, message } => {
            let page = message.as_ref().map(|message| message.page);
            Some(DamagedPlace { at: bytes.start, page })
        }
        // The end of the segment that is written to may be what remains of what was there before.
        Stretch::Tail { bytes, .. } => {
            let page = page_at(segment, number, bytes.start);
            (is_full || page.is_some()).then_some(DamagedPlace { at: bytes.start, page })
        }
    }
}

/// Follows the pages of a file through its segments in the order of their writes, to say which
/// records sled could not read from the disk.
pub(in crate::log) struct LivePages {
    reader: Pass,
    /// Pages of which a message was seen damaged before.
    watched: BTreeSet<u64>,
    /// Those of them that need a damaged message: nothing newer has the whole page.
    torn: BTreeSet<u64>,
    /// The values whose newest place is in a watched page, by block and part.
    in_watched: BTreeMap<(Seq, u16), u64>,
    /// What was found of blocks with several parts, and of those in watched pages.
    blocks: BTreeMap<Seq, LiveBlock>,
    /// The records all of whose bytes are somewhere in the file.
    there: Ranges,
}

#[derive(Default)]
struct LiveBlock {
    /// The number of its records; 0 before its beginning was seen.
    count: u16,
    parts: u16,
    found: BTreeSet<u16>,
}

/// The records that sled could not read from the disk.
#[derive(Debug, Default)]
pub(in crate::log) struct LiveHarm {
    /// Those in pages that need a damaged message.
    pub(in crate::log) torn: Ranges,
    /// Those whose bytes are nowhere in the file.
    pub(in crate::log) missing: Ranges,
}

impl LivePages {
    /// Follows `watched` pages closely. `blobs` is sled's folder of large messages.
    pub(in crate::log) fn new(watched: BTreeSet<u64>, blobs: PathBuf) -> LivePages {
        LivePages {
            reader: Pass::new(u64::MAX, blobs),
            watched,
            torn: BTreeSet::new(),
            in_watched: BTreeMap::new(),
            blocks: BTreeMap::new(),
            there: Ranges::default(),
        }
    }

    /// Takes in the next segment, whose number is given.
    pub(in crate::log) fn take(&mut self, segment: &[u8], number: u64) {
        let position = number.saturating_mul(SEGMENT_BYTES as u64);
        let place = Place { segment, at: 0, position };
        walk(
            segment,
            number,
            |other| other > number,
            |stretch| match &stretch {
                Stretch::Whole { message, .. } => self.take_whole(&place, message),
                damaged => {
                    let page = damage(segment, number, true, damaged).and_then(|place| place.page);
                    let Some(page) = page.filter(|page| self.watched.contains(page)) else {
                        return;
                    };
                    self.torn.insert(page);
                    if let Stretch::Damaged { message: Some(message), .. } = damaged {
                        self.take_damaged(&place, message);
                    }
                }
            },
        );
    }

    fn take_whole(&mut self, place: &Place<'_>, message: &Message) {
        let page = message.page;
        if matches!(message.kind, Kind::Page | Kind::Free) {
            self.torn.remove(&page);
        }
        self.reader.take_whole(place, message, Found::Whole);
        for value in self.reader.take_sightings() {
            self.take_value(page, &value);
        }
    }

    /// Takes in what a damaged message of a watched page still says of its values: they may have come
    /// from another page, which lacks them since.
    fn take_damaged(&mut self, place: &Place<'_>, message: &Message) {
        for (key, range) in values_of(place, message).unwrap_or_default() {
            let value = place.segment.get(range).unwrap_or_default();
            let extent = block::extent(value).ok();
            let own = extent.as_ref().map(|extent| (extent.first_seq, 0));
            let Some((seq, part)) = own.or(key) else { continue };
            self.in_watched.insert((seq, part as u16), message.page);
            if let Some(extent) = extent {
                let block = self.blocks.entry(seq).or_default();
                block.count = block.count.max(extent.count as u16);
            }
        }
    }

    fn take_value(&mut self, page: u64, value: &Sighting) {
        let Sighting { seq, part, count, parts, .. } = *value;
        let (seq, is_watched) = (Seq::from(seq), self.watched.contains(&page));
        if is_watched {
            self.in_watched.insert((seq, part), page);
        } else {
            self.in_watched.remove(&(seq, part));
        }
        let last = (seq + Seq::from(count)).saturating_sub(1);
        if count > 0 && parts == 1 {
            self.there.add(seq, last);
            if !is_watched {
                return;
            }
        }
        let block = self.blocks.entry(seq).or_default();
        block.found.insert(part);
        if count > 0 {
            (block.count, block.parts) = (count, parts);
        }
        if block.parts > 0 && block.found.len() >= usize::from(block.parts) {
            self.there.add(seq, seq + Seq::from(block.count) - 1);
        }
    }

    /// Returns the harm to the records up to `head`.
    pub(in crate::log) fn harm(&self, head: Seq) -> LiveHarm {
        let missing = self.there.gaps(1, head).into_iter().collect();
        let mut harm = LiveHarm { missing, torn: Ranges::default() };
        for ((seq, _), page) in &self.in_watched {
            if self.torn.contains(page) && *seq <= head {
                let count = self.blocks.get(seq).map_or(1, |block| block.count.max(1));
                harm.torn.add(*seq, seq + Seq::from(count) - 1);
            }
        }
        harm
    }
}
