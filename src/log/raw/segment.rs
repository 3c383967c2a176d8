//! Segments and messages of sled's file.
//!
//! The file is a row of segments. A segment begins with a head of 20 bytes, which gives its place
//! in the order of writes, and continues with messages, one behind the other, each with a check.
//! This module finds them in the bytes of one segment, and goes on after damage.

use std::ops::Range;

/// The length of a segment.
pub(in crate::log) const SEGMENT_BYTES: usize = 8 << 20;

/// The length of a segment's head.
const HEAD_BYTES: usize = 20;

/// The length of the head of a message that is kept in a file of its own: a check and a kind.
pub(super) const OUTSIDE_HEAD_BYTES: usize = 5;

/// No message begins in the last bytes of a segment: a message's head may be this long.
const MESSAGE_HEAD_BYTES_MAX: usize = 32;

/// The number of bytes of a segment that may be checked in vain in the search for the next message
/// after damage, so that no content makes the search slow.
const CHECKED_IN_VAIN_MAX: usize = 1 << 30;

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
        let head = segment.get(self.at + 4..self.content.start).unwrap_or_default();
        let mut check = crc32fast::Hasher::new();
        check.update(segment.get(self.content.clone()).unwrap_or_default());
        check.update(head);
        check.finalize() == !self.check
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
    let search = Search { segment, number };
    let (mut at, mut resumed) = (HEAD_BYTES.min(segment.len()), false);
    while at + MESSAGE_HEAD_BYTES_MAX <= SEGMENT_BYTES {
        if let Some(message) = search.whole_at(at) {
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
        let Some((end, message)) = search.damaged_at(at) else {
            return each(search.end_at(at, &later));
        };
        each(Stretch::Damaged { bytes: at..end, message });
        (at, resumed) = (end, true);
    }
}

fn is_zero(segment: &[u8], from: usize) -> bool {
    segment.get(from..).unwrap_or_default().iter().all(|byte| *byte == 0)
}

/// The search for messages in one segment.
struct Search<'a> {
    segment: &'a [u8],
    number: u64,
}

impl Search<'_> {
    /// Returns what looks like the head of a message of this segment.
    fn head_at(&self, at: usize) -> Option<Message> {
        Message::head(self.segment, at)
            .filter(|message| message.segment == self.number && message.is_in_place())
    }

    fn whole_at(&self, at: usize) -> Option<Message> {
        self.head_at(at).filter(|message| message.is_whole(self.segment))
    }

    /// Returns the end of the damage at `at`, where a message continues the segment, and what looks
    /// like the damaged message. A message whose head is right tells where the next one begins; the
    /// next one is searched only without it, since content may look like a message.
    fn damaged_at(&self, at: usize) -> Option<(usize, Option<Message>)> {
        let message = self.head_at(at);
        if let Some(message) = message.clone() {
            let end = message.content.end;
            let continues = end + MESSAGE_HEAD_BYTES_MAX > SEGMENT_BYTES
                || self.whole_at(end).is_some()
                || (is_zero(self.segment, end) && end < self.segment.len());
            if continues {
                return Some((end, Some(message)));
            }
        }
        let end = self.find(at + 1, |message| message.segment == self.number)?.at;
        Some((end, message.filter(|message| message.content.end <= end)))
    }

    /// Returns the end of a segment that has no message from `at` on, but other bytes: perhaps of a
    /// segment that was begun later in this place.
    fn end_at(&self, at: usize, later: &impl Fn(u64) -> bool) -> Stretch {
        match self.find(at, |message| later(message.segment)) {
            Some(message) => Stretch::Overwritten { from: message.at },
            None => Stretch::Tail { bytes: at..self.segment.len(), is_zero: false },
        }
    }

    /// Finds the next whole message from `from` on.
    fn find(&self, from: usize, belongs: impl Fn(&Message) -> bool) -> Option<Message> {
        let mut in_vain = 0;
        let last = self.segment.len().min(SEGMENT_BYTES - MESSAGE_HEAD_BYTES_MAX);
        for at in from..=last {
            let looks_right = |message: &Message| message.is_in_place() && belongs(message);
            let Some(message) = Message::head(self.segment, at).filter(looks_right) else {
                continue;
            };
            if message.is_whole(self.segment) {
                return Some(message);
            }
            in_vain += message.content.len();
            if in_vain > CHECKED_IN_VAIN_MAX {
                return None;
            }
        }
        None
    }
}

/// Returns whether the bytes at `at` look like the head of a message of the segment `number`.
pub(super) fn looks_like_message(segment: &[u8], number: u64, at: usize) -> bool {
    Search { segment, number }.head_at(at).is_some()
}

/// Returns the number of a segment whose head is damaged, by the first message that is whole.
pub(super) fn number_of(segment: &[u8], may_be: impl Fn(u64) -> bool) -> Option<u64> {
    let search = Search { segment, number: 0 };
    let found = search.find(HEAD_BYTES, |message| may_be(message.segment))?;
    Some(found.segment)
}
