//! Segments and messages of sled's file.
//!
//! The file is a row of segments. A segment begins with a head of 20 bytes, which gives its place
//! in the order of writes, and continues with messages, one behind the other, each with a check.
//! This module finds them in the bytes of one segment, and goes on after damage.

use std::cell::OnceCell;
use std::ops::Range;

use crc32fast::Hasher;

/// The length of a segment.
pub(in crate::log) const SEGMENT_BYTES: usize = 8 << 20;

/// The length of a segment's head.
const HEAD_BYTES: usize = 20;

/// The length of the head of a message that is kept in a file of its own: a check and a kind.
pub(super) const OUTSIDE_HEAD_BYTES: usize = 5;

/// No message begins in the last bytes of a segment: a message's head may be this long.
const MESSAGE_HEAD_BYTES_MAX: usize = 32;

/// The check of the segment's beginning is noted every so many bytes.
const NOTED_EVERY: usize = 1 << 10;

/// The largest byte that is a kind. The smallest is 1.
const KIND_MAX: u8 = 11;

/// A position in the order of writes, in bytes.
pub(super) type Position = u64;

/// The head of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentHead {
    /// The position of the segment's first byte.
    pub(super) position: Position,
    /// A position up to which everything was on the disk when the segment was begun.
    pub(super) stable: Position,
}

impl SegmentHead {
    /// Reads the head of a segment; `None` if it is damaged or was never written.
    pub(super) fn read(segment: &[u8]) -> Option<SegmentHead> {
        let head = segment.get(..HEAD_BYTES)?;
        let (check, signed) = head.split_first_chunk::<4>()?;
        let (position, rest) = signed.split_first_chunk::<8>()?;
        let stable: [u8; 8] = rest.try_into().ok()?;
        if !u32::from_le_bytes(*check) != crc32fast::hash(signed) {
            return None;
        }
        let plain = |bytes| i64::from_le_bytes(bytes) ^ i64::MAX;
        let position = u64::try_from(plain(*position)).ok()?;
        let stable = u64::try_from(plain(stable)).unwrap_or(0);
        (position % SEGMENT_BYTES as u64 == 0).then_some(SegmentHead { position, stable })
    }

    /// Returns the number of the segment in the order of writes. Each of its messages repeats it.
    pub(super) fn number(&self) -> u64 {
        self.position / SEGMENT_BYTES as u64
    }
}

/// The kinds of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// It was given up while it was written.
    Canceled,
    /// The rest of the segment is unused.
    Cap,
    /// Names the position of the last message of an atomic batch.
    Batch,
    /// The page is unused from here on.
    Free,
    /// A counter of sled's own.
    Counter,
    /// The names of the trees.
    Names,
    /// A whole page.
    Page,
    /// A change of one key of a page.
    Change,
    /// One of the last three, kept in a file of its own.
    Outside,
}

impl Kind {
    fn of(byte: u8) -> Option<Kind> {
        Some(match byte {
            1 => Kind::Canceled,
            2 => Kind::Cap,
            3 => Kind::Batch,
            4 => Kind::Free,
            5 => Kind::Counter,
            6 => Kind::Names,
            8 => Kind::Page,
            10 => Kind::Change,
            7 | 9 | 11 => Kind::Outside,
            _ => return None,
        })
    }
}

/// A message, or bytes that look like the head of one. Offsets count from the segment's first byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) at: usize,
    pub(super) kind: Kind,
    /// The number of its segment in the order of writes.
    segment: u64,
    /// The number of its page.
    pub(super) page: u64,
    pub(super) content: Range<usize>,
    check: u32,
}

impl Message {
    /// Reads the head of a message. Its check is not compared.
    fn head(segment: &[u8], at: usize) -> Option<Message> {
        if at + MESSAGE_HEAD_BYTES_MAX > SEGMENT_BYTES {
            return None;
        }
        let bytes = segment.get(at..)?;
        let (check, rest) = bytes.split_first_chunk::<4>()?;
        let (kind, mut rest) = rest.split_first()?;
        let kind = Kind::of(*kind)?;
        let length = usize::try_from(take_integer(&mut rest)?).ok()?;
        let (number, page) = (take_integer(&mut rest)?, take_integer(&mut rest)?);
        let start = segment.len() - rest.len();
        let end = start.checked_add(length).filter(|end| *end <= segment.len())?;
        let check = u32::from_le_bytes(*check);
        Some(Message { at, kind, segment: number, page, content: start..end, check })
    }

    /// Returns the message that is kept in a file of its own, whose kind and length are given. Its
    /// content begins behind the check and the kind.
    pub(super) fn outside(&self, kind: u8, length: usize) -> Option<Message> {
        let kind = match kind {
            8 | 9 => Kind::Page,
            10 | 11 => Kind::Change,
            _ => return None,
        };
        Some(Message { kind, content: OUTSIDE_HEAD_BYTES.min(length)..length, ..self.clone() })
    }

    /// Returns whether its bytes are those that were written.
    fn is_whole(&self, segment: &[u8]) -> bool {
        let mut check = Hasher::new();
        check.update(segment.get(self.content.clone()).unwrap_or_default());
        self.fits(segment, check)
    }

    /// Compares the check with that of its content, to which its head is added.
    fn fits(&self, segment: &[u8], mut content: Hasher) -> bool {
        content.update(segment.get(self.at + 4..self.content.start).unwrap_or_default());
        content.finalize() == !self.check
    }

    /// Returns whether a message of this kind ends where sled would let it end.
    fn is_in_place(&self) -> bool {
        self.kind != Kind::Cap || self.content.end + MESSAGE_HEAD_BYTES_MAX >= SEGMENT_BYTES
    }
}

/// Reads one of sled's integers, which take 1 to 9 bytes.
pub(super) fn take_integer(bytes: &mut &[u8]) -> Option<u64> {
    let (first, rest) = bytes.split_first()?;
    let (value, length) = match first {
        0..=240 => (u64::from(*first), 0),
        241..=248 => (240 + 256 * (u64::from(*first) - 241) + u64::from(*rest.first()?), 1),
        249 => (2288 + 256 * u64::from(*rest.first()?) + u64::from(*rest.get(1)?), 2),
        _ => {
            let length = usize::from(*first) - 247;
            let mut value = [0; 8];
            value.get_mut(..length)?.copy_from_slice(rest.get(..length)?);
            (u64::from_le_bytes(value), length)
        }
    };
    *bytes = rest.get(length..)?;
    Some(value)
}

/// A stretch of a segment.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Stretch {
    /// A message whose check fits. `resumed` is true after damage in its segment.
    Whole { message: Message, resumed: bool },
    /// Bytes that are no message any more, and more messages behind them. If the bytes still look
    /// like one message, it is given.
    Damaged { bytes: Range<usize>, message: Option<Message> },
    /// The end of what was written, if there is no mark of the end: from here on there are zeros or
    /// the remains of what was there before, and no message.
    Tail { bytes: Range<usize>, is_zero: bool },
    /// The rest is of a segment that was begun later in the same place: its beginning was never
    /// written.
    Overwritten { from: usize },
}

/// Shows `each` the stretches of a segment in their order. `number` is that of the segment, and
/// `later` says which numbers segments have that were begun later.
pub(super) fn walk(
    segment: &[u8],
    number: u64,
    later: impl Fn(u64) -> bool,
    mut each: impl FnMut(Stretch),
) {
    let search = Search::of(segment);
    let (mut at, mut resumed) = (HEAD_BYTES.min(segment.len()), false);
    while at + MESSAGE_HEAD_BYTES_MAX <= SEGMENT_BYTES {
        if let Some(message) = search.whole_at(at, number) {
            at = message.content.end;
            let is_last = message.kind == Kind::Cap;
            each(Stretch::Whole { message, resumed });
            if is_last {
                return;
            }
            continue;
        }
        if is_zero(segment, at) {
            return each(Stretch::Tail { bytes: at..segment.len(), is_zero: true });
        }
        match search.damaged_at(at, number, &later) {
            Stretch::Damaged { bytes, message } => {
                (at, resumed) = (bytes.end, true);
                each(Stretch::Damaged { bytes, message });
            }
            end => return each(end),
        }
    }
}

fn is_zero(segment: &[u8], from: usize) -> bool {
    segment.get(from..).unwrap_or_default().iter().all(|byte| *byte == 0)
}

/// The search for messages in one segment. It takes time in proportion to the length of the segment,
/// whatever is in it.
struct Search<'a> {
    segment: &'a [u8],
    /// The checks of the first bytes of the segment, up to each multiple of [`NOTED_EVERY`].
    checks: OnceCell<Vec<u32>>,
}

impl Search<'_> {
    fn of(segment: &[u8]) -> Search<'_> {
        Search { segment, checks: OnceCell::new() }
    }

    /// Returns what looks like the head of a message of the segment `number`.
    fn head_at(&self, at: usize, number: u64) -> Option<Message> {
        Message::head(self.segment, at)
            .filter(|message| message.segment == number && message.is_in_place())
    }

    fn whole_at(&self, at: usize, number: u64) -> Option<Message> {
        self.head_at(at, number).filter(|message| message.is_whole(self.segment))
    }

    /// Returns the damage at `at`, if a message continues the segment behind it, and what looks like
    /// the damaged message; or else the end of the segment. A message whose head is right tells where
    /// the next one begins; the next one is searched only without it, since content may look like a
    /// message.
    fn damaged_at(&self, at: usize, number: u64, later: impl Fn(u64) -> bool) -> Stretch {
        let message = self.head_at(at, number);
        if let Some(message) = message.clone() {
            let end = message.content.end;
            let continues = end + MESSAGE_HEAD_BYTES_MAX > SEGMENT_BYTES
                || self.whole_at(end, number).is_some()
                || (is_zero(self.segment, end) && end < self.segment.len());
            if continues {
                return Stretch::Damaged { bytes: at..end, message: Some(message) };
            }
        }
        // Without one, the rest may be of a segment that was begun later in this place.
        let mut overwritten = None;
        let next = self.find(at, |message| {
            if overwritten.is_none() && later(message.segment) && self.is_whole(message) {
                overwritten = Some(message.at);
            }
            message.segment == number
        });
        match (next, overwritten) {
            (Some(next), _) => {
                let message = message.filter(|message| message.content.end <= next.at);
                Stretch::Damaged { bytes: at..next.at, message }
            }
            (None, Some(from)) => Stretch::Overwritten { from },
            (None, None) => Stretch::Tail { bytes: at..self.segment.len(), is_zero: false },
        }
    }

    /// Finds the next whole message from `from` on that `belongs`.
    fn find(&self, from: usize, mut belongs: impl FnMut(&Message) -> bool) -> Option<Message> {
        // Most bytes are no kind, so that few places are looked at.
        let kinds = self.segment.get(from + 4..).unwrap_or_default().iter();
        let places = (from..).zip(kinds).filter(|(_, kind)| matches!(kind, 1..=KIND_MAX));
        places
            .filter_map(|(at, _)| Message::head(self.segment, at))
            .filter(Message::is_in_place)
            .find(|message| belongs(message) && self.is_whole(message))
    }

    /// Returns whether a message is whole. The time does not depend on its length, since what looks
    /// like messages may overlap.
    fn is_whole(&self, message: &Message) -> bool {
        let Range { start, end } = message.content;
        // The check of a row of bytes is that of the bytes before it, moved by its length, combined
        // with that of all up to its end.
        let mut moved = Hasher::new_with_initial(self.check_up_to(start));
        moved.combine(&Hasher::new_with_initial_len(0, (end - start) as u64));
        let content = moved.finalize() ^ self.check_up_to(end);
        message.fits(self.segment, Hasher::new_with_initial(content))
    }

    /// Returns the check of the first `end` bytes of the segment.
    fn check_up_to(&self, end: usize) -> u32 {
        let checks = self.checks.get_or_init(|| {
            let mut check = Hasher::new();
            let each = self.segment.chunks(NOTED_EVERY).map(|chunk| {
                let before = check.clone().finalize();
                check.update(chunk);
                before
            });
            each.collect()
        });
        let noted = end.saturating_sub(1) / NOTED_EVERY;
        let mut check = Hasher::new_with_initial(checks.get(noted).copied().unwrap_or(0));
        check.update(self.segment.get(noted * NOTED_EVERY..end).unwrap_or_default());
        check.finalize()
    }
}

/// Returns the page of what looks like the head of a message of the segment `number` at `at`.
pub(super) fn page_at(segment: &[u8], number: u64, at: usize) -> Option<u64> {
    Search::of(segment).head_at(at, number).map(|message| message.page)
}

/// Returns the number of a segment whose head is damaged, by the first message that is whole.
pub(super) fn number_of(segment: &[u8], may_be: impl Fn(u64) -> bool) -> Option<u64> {
    let found = Search::of(segment).find(HEAD_BYTES, |message| may_be(message.segment))?;
    Some(found.segment)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes a message of a segment at `at`, with a length of three bytes. Returns its end.
    fn put(segment: &mut [u8], at: usize, content: &[u8]) -> usize {
        let mut head = vec![8, 250];
        head.extend(&(content.len() as u32).to_le_bytes()[..3]);
        head.extend([3, 9]);
        let mut check = Hasher::new();
        check.update(content);
        check.update(&head);
        let start = at + 4 + head.len();
        segment[at..at + 4].copy_from_slice(&(!check.finalize()).to_le_bytes());
        segment[at + 4..start].copy_from_slice(&head);
        segment[start..start + content.len()].copy_from_slice(content);
        start + content.len()
    }

    #[test]
    fn a_message_is_found_behind_any_number_of_bytes_that_look_like_heads() {
        let mut segment = vec![0; SEGMENT_BYTES];
        let looks_right = [0, 0, 0, 0, 8, 250, 0, 0, 0x40, 3, 9];
        for at in (HEAD_BYTES..SEGMENT_BYTES / 2).step_by(1024) {
            // Each claims 4 MiB, so that one check after the other would read 16 GiB.
            segment[at..at + looks_right.len()].copy_from_slice(&looks_right);
        }
        let last = SEGMENT_BYTES - 5000;
        let end = put(&mut segment, last, &[7; 3000]);
        let mut stretches = Vec::new();
        walk(&segment, 3, |_| false, |stretch| stretches.push(stretch));
        let [Stretch::Damaged { bytes, .. }, Stretch::Whole { message, resumed: true }, _] =
            &stretches[..]
        else {
            panic!("{stretches:?}");
        };
        assert_eq!((bytes, message.at), (&(HEAD_BYTES..last), last));
        assert_eq!((message.content.end, message.page), (end, 9));
    }

    #[test]
    fn a_check_by_parts_of_the_segment_is_that_of_the_bytes() {
        let mut segment: Vec<u8> = (0..5000_u32).map(|n| (n * n / 7) as u8).collect();
        for (at, length) in [(0, 0), (0, 2000), (1, 1012), (1000, 1013), (1013, 1024), (2037, 40)] {
            let content = segment[at + 11..at + 11 + length].to_vec();
            put(&mut segment, at, &content);
            let search = Search::of(&segment);
            let message = Message::head(&segment, at).unwrap();
            assert!(message.is_whole(&segment) && search.is_whole(&message), "{at} {length}");
            let other = Message { check: message.check ^ 1, ..message };
            assert!(!search.is_whole(&other), "{at} {length}");
        }
    }
}
