//! One pass over sled's file, segment after segment in the order of their writes, that notes where
//! each value is.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{channel, sync_channel};
use std::thread;

use rollcall_projections::Seq;

use super::super::LogId;
use super::super::block::{self, Block, Extent, VALUE_BYTES_MAX};
use super::super::store::{self, IDENTITY_KEY, split_key};
use super::page::{Change, Page, Pair};
use super::segment::{
    Kind, Message, OUTSIDE_HEAD_BYTES, Position, SEGMENT_BYTES, SegmentHead, Stretch, number_of,
    take_integer, walk,
};
use crate::files;

/// The number of segments that are read before they are taken in.
const SEGMENTS_AHEAD: usize = 2;

/// The number of values noted before those that later ones replace are dropped.
const NOTED_AT_FIRST: usize = 1 << 20;

/// Marks the place of a value in a file of its own: the number of the file is in the next bits, and the
/// lower 32 bits are the place in it.
pub(super) const OUTSIDE: u64 = 1 << 63;

/// The most bytes of such a file that are read.
const OUTSIDE_BYTES_MAX: u64 = 1 << 30;

/// The length of a key.
const KEY_BYTES: usize = 10;

/// The number of places that are kept of one value, if none of them is certain.
const PLACES_MAX: usize = 4;

/// How a value was found, the least certain way first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Found {
    /// Its block is damaged, but for its head.
    InPart,
    /// By its own checks, among bytes that are damaged.
    ByItself,
    /// In a message that is damaged, at a place that the rest of the message gives.
    InDamaged,
    /// In a whole message behind damage in its segment, or in a segment whose head is damaged.
    AfterDamage,
    /// In a whole message that sled reads as well.
    Whole,
}

/// A place of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sighting {
    pub(super) seq: u32,
    pub(super) part: u16,
    /// The number of records of the block; 0 in its further parts, and if its head is damaged.
    pub(super) count: u16,
    /// The number of parts of the block, where `count` is known.
    pub(super) parts: u16,
    pub(super) found: Found,
    /// True if the message says that the key is gone.
    pub(super) is_removal: bool,
    /// The length of the value.
    pub(super) bytes: u32,
    /// The place of the value in the file.
    pub(super) at: u64,
    /// The position of its message in the order of writes.
    pub(super) position: Position,
}

/// Damaged bytes of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DamagedBytes {
    /// Their place in the file.
    pub bytes: Range<u64>,
    /// The records that were written just before and just after them: 0 if there are none.
    pub between: (Seq, Seq),
    pub(super) position: Position,
}

/// The end of an atomic batch.
struct Batch {
    begins: Position,
    ends: Position,
}

/// The segments of a file in the order of their writes.
pub(in crate::log) struct Segments {
    pub(in crate::log) in_order: Vec<Placed>,
    /// From this position on, what was written last may not have reached the disk.
    unstable: Position,
    /// The places of the segments that are neither empty nor have a head or a whole message.
    pub(in crate::log) lost: Vec<u64>,
}

/// A segment of a file.
#[derive(Clone, Copy)]
pub(in crate::log) struct Placed {
    /// Its number in the order of writes.
    pub(in crate::log) number: u64,
    /// Its place in the file.
    pub(in crate::log) at: u64,
    /// True if its head is whole.
    has_head: bool,
    /// True if the bytes of the head are zeros.
    is_emptied: bool,
}

/// All that the pass found.
pub(super) struct Scan {
    pub(super) sightings: Vec<Sighting>,
    /// The newest value under the key of the log's identity.
    pub(super) identity: Option<Vec<u8>>,
    /// The position from which on sled ignores everything and cuts it off.
    pub(super) cut: Position,
    pub(super) damaged: Vec<DamagedBytes>,
    /// The place of bytes behind the last message that are not zero.
    pub(super) torn: Option<Range<u64>>,
    /// The files into which sled has put large messages.
    pub(super) outside: Vec<PathBuf>,
    /// The position before which damage costs what was on the disk for certain.
    pub(super) unstable: Position,
}

impl Scan {
    /// Reads the whole file once.
    pub(super) fn of(file: &File, blobs: &Path) -> io::Result<Scan> {
        let segments = Segments::of(file)?;
        let mut pass = Pass::new(segments.unstable, blobs.to_owned());
        segments.each_walked(file, |walked| pass.take_segment(walked, &segments))?;
        let mut buffer = vec![0; if segments.lost.is_empty() { 0 } else { SEGMENT_BYTES }];
        for at in &segments.lost {
            let length = read_at_most(file, &mut buffer, *at)?;
            let bytes = buffer.get(..length).unwrap_or_default();
            pass.take_lost(*at, bytes);
        }
        Ok(pass.finish(&segments))
    }
}

/// Fills the buffer from `at` on, up to the end of the file. Returns the number of bytes read.
fn read_at_most(file: &File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    let mut length = 0;
    while let Some(rest) = buffer.get_mut(length..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, at + length as u64) {
            Ok(0) => break,
            Ok(read) => length += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

/// A segment that was read, with the stretches of it in order.
struct Walked {
    placed: Placed,
    buffer: Vec<u8>,
    /// The number of bytes in the buffer.
    length: usize,
    stretches: Vec<Stretch>,
}

impl Segments {
    /// Shows the segments in order. Reads them and checks their messages on a thread of its own, a few
    /// ahead.
    fn each_walked(&self, file: &File, mut each: impl FnMut(&mut Walked)) -> io::Result<()> {
        thread::scope(|scope| {
            let (walked, next) = sync_channel(SEGMENTS_AHEAD);
            let (used, free) = channel();
            scope.spawn(move || {
                for placed in &self.in_order {
                    // A new buffer costs as much as reading into it.
                    let buffer = free.try_recv().unwrap_or_default();
                    if walked.send(self.walked(file, placed, buffer)).is_err() {
                        return;
                    }
                }
            });
            for walked in next {
                let mut walked = walked?;
                each(&mut walked);
                let _ = used.send(walked.buffer);
            }
            Ok(())
        })
    }

    fn walked(&self, file: &File, placed: &Placed, mut buffer: Vec<u8>) -> io::Result<Walked> {
        buffer.resize(SEGMENT_BYTES, 0);
        let length = read_at_most(file, &mut buffer, placed.at)?;
        let (newest, number) = (self.newest(), placed.number);
        let later = |other| other > number && other <= newest + 2;
        let mut stretches = Vec::new();
        let segment = buffer.get(..length).unwrap_or_default();
        walk(segment, number, later, |stretch| stretches.push(stretch));
        Ok(Walked { placed: *placed, buffer, length, stretches })
    }

    fn of(file: &File) -> io::Result<Segments> {
        let (mut segments, headless) = Segments::heads(file)?;
        segments.place_headless(file, headless)?;
        segments.sort();
        Ok(segments)
    }

    /// Reads nothing but the head of each segment. Those that are empty are among the lost as well.
    pub(in crate::log) fn by_heads(file: &File) -> io::Result<Segments> {
        let (mut segments, headless) = Segments::heads(file)?;
        segments.lost = headless.into_iter().map(|(at, _)| at).collect();
        segments.sort();
        Ok(segments)
    }

    /// Returns the segments whose heads are whole, and the place of each other one with true if the
    /// bytes of its head are zeros.
    fn heads(file: &File) -> io::Result<(Segments, Vec<(u64, bool)>)> {
        let places = (0..file.metadata()?.len()).step_by(SEGMENT_BYTES);
        let (mut in_order, mut headless, mut stable) = (Vec::new(), Vec::new(), 0);
        for at in places {
            let mut head = [0; 32];
            let length = read_at_most(file, &mut head, at)?;
            match SegmentHead::read(head.get(..length).unwrap_or_default()) {
                Some(head) => {
                    stable = stable.max(head.stable);
                    let number = head.number();
                    in_order.push(Placed { number, at, has_head: true, is_emptied: false });
                }
                None => headless.push((at, head.get(..20) == Some(&[0; 20]))),
            }
        }
        let unstable = stable - stable % SEGMENT_BYTES as u64;
        Ok((Segments { in_order, unstable, lost: Vec::new() }, headless))
    }

    fn sort(&mut self) {
        self.in_order.sort_by_key(|placed| (placed.number, placed.has_head));
    }

    /// Finds the place in the order of writes of the segments whose heads are damaged.
    fn place_headless(&mut self, file: &File, headless: Vec<(u64, bool)>) -> io::Result<()> {
        let mut buffer = vec![0; if headless.is_empty() { 0 } else { SEGMENT_BYTES }];
        for (at, is_emptied) in headless {
            let length = read_at_most(file, &mut buffer, at)?;
            let segment = buffer.get(..length).unwrap_or_default();
            if segment.iter().all(|byte| *byte == 0) {
                continue;
            }
            match self.number_of(segment) {
                Some(number) => {
                    self.in_order.push(Placed { number, at, has_head: false, is_emptied });
                }
                None => self.lost.push(at),
            }
        }
        Ok(())
    }

    /// Returns the number of a segment whose head is damaged, if a message in it is whole.
    pub(in crate::log) fn number_of(&self, segment: &[u8]) -> Option<u64> {
        let newest = self.newest() + 2;
        number_of(segment, |number| {
            number <= newest && self.in_order.iter().all(|placed| placed.number != number)
        })
    }

    /// Returns the number of the segment that was begun last.
    pub(in crate::log) fn newest(&self) -> u64 {
        self.in_order.iter().map(|placed| placed.number).max().unwrap_or(0)
    }
}

/// The beginning of the keys of a page: at most a whole key.
#[derive(Clone, Copy, Default)]
struct Prefix {
    bytes: [u8; 10],
    length: u8,
}

impl Prefix {
    fn of(bytes: &[u8]) -> Option<Prefix> {
        let mut prefix = Prefix { length: bytes.len() as u8, ..Prefix::default() };
        prefix.bytes.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(prefix)
    }

    fn key(&self, rest: &[u8]) -> Vec<u8> {
        let prefix = self.bytes.get(..usize::from(self.length)).unwrap_or_default();
        [prefix, rest].concat()
    }
}

/// The end of the messages of the segments that may not have reached the disk.
struct Tail {
    /// The segment that must come next.
    expected: u64,
    /// The position behind the last message; `None` before the first segment.
    end: Option<Position>,
    /// The position of the segment that is missing.
    missing: Option<Position>,
    is_over: bool,
}

/// The state of the pass.
pub(super) struct Pass {
    sightings: Vec<Sighting>,
    noted_max: usize,
    prefixes: HashMap<u64, Prefix>,
    identity: Option<Vec<u8>>,
    log_id: Option<LogId>,
    batches: Vec<Batch>,
    damaged: Vec<DamagedBytes>,
    torn: Option<Range<u64>>,
    blobs: PathBuf,
    outside: Vec<PathBuf>,
    /// The first record of the newest block so far.
    newest: Seq,
    unstable: Position,
    tail: Tail,
}

/// The place of a stretch of bytes.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    /// The bytes of the segment.
    pub(super) segment: &'a [u8],
    /// The place of the segment in the file.
    pub(super) at: u64,
    /// The position of the segment in the order of writes.
    pub(super) position: Position,
}

impl Place<'_> {
    fn bytes(&self, range: &Range<usize>) -> &[u8] {
        self.segment.get(range.clone()).unwrap_or_default()
    }

    fn in_file(&self, range: &Range<usize>) -> Range<u64> {
        self.at + range.start as u64..self.at + range.end as u64
    }
}

impl Pass {
    pub(super) fn new(unstable: Position, blobs: PathBuf) -> Pass {
        let expected = unstable / SEGMENT_BYTES as u64;
        Pass {
            sightings: Vec::new(),
            noted_max: NOTED_AT_FIRST,
            prefixes: HashMap::new(),
            identity: None,
            log_id: None,
            batches: Vec::new(),
            damaged: Vec::new(),
            torn: None,
            blobs,
            outside: Vec::new(),
            newest: 0,
            unstable,
            tail: Tail { expected, end: None, missing: None, is_over: false },
        }
    }

    fn take_segment(&mut self, walked: &mut Walked, segments: &Segments) {
        let Walked { placed, buffer, length, stretches } = walked;
        let segment = buffer.get(..*length).unwrap_or_default();
        let position = placed.number * SEGMENT_BYTES as u64;
        let place = Place { segment, at: placed.at, position };
        if placed.has_head {
            self.tail.enter(placed.number);
        } else if !placed.is_emptied {
            self.note_damage(&place, &(0..20));
        }
        let number = placed.number;
        let follows_tail = placed.has_head && self.tail.is_in(number);
        let is_newest = number == segments.newest();
        let mut is_unbroken = true;
        for stretch in stretches.drain(..) {
            if follows_tail {
                is_unbroken &= !matches!(stretch, Stretch::Damaged { .. });
                if is_unbroken {
                    self.tail.take(position, &stretch);
                } else {
                    self.tail.is_over = true;
                }
            }
            self.take(&place, stretch, placed.has_head, is_newest);
        }
        if self.sightings.len() > self.noted_max {
            self.drop_replaced();
        }
    }

    /// Takes in the next stretch of a segment.
    fn take(&mut self, place: &Place<'_>, stretch: Stretch, has_head: bool, is_newest: bool) {
        match stretch {
            Stretch::Whole { message, resumed } => {
                let found = if resumed || !has_head { Found::AfterDamage } else { Found::Whole };
                self.take_whole(place, &message, found);
            }
            Stretch::Damaged { bytes, message } => {
                self.note_damage(place, &bytes);
                self.search(place, &bytes, message.as_ref());
            }
            Stretch::Overwritten { .. } => {}
            Stretch::Tail { is_zero: true, .. } if is_newest => {}
            // A segment that others follow is written up to its end.
            Stretch::Tail { bytes, is_zero: true } => {
                self.note_damage(place, &(bytes.start..SEGMENT_BYTES));
            }
            Stretch::Tail { bytes, .. } => {
                if is_newest {
                    self.torn = Some(place.in_file(&bytes));
                } else {
                    self.note_damage(place, &bytes);
                }
                self.search(place, &bytes, None);
            }
        }
    }

    /// Takes in a segment that has no whole message.
    fn take_lost(&mut self, at: u64, segment: &[u8]) {
        let place = Place { segment, at, position: 0 };
        self.note_damage(&place, &(0..segment.len()));
        self.search(&place, &(0..segment.len()), None);
    }

    fn note_damage(&mut self, place: &Place<'_>, bytes: &Range<usize>) {
        let position = place.position + bytes.start as u64;
        let bytes = place.in_file(bytes);
        self.damaged.push(DamagedBytes { bytes, between: (self.newest, 0), position });
    }

    /// Takes out what was found so far.
    pub(super) fn take_sightings(&mut self) -> Vec<Sighting> {
        std::mem::take(&mut self.sightings)
    }

    pub(super) fn take_whole(&mut self, place: &Place<'_>, message: &Message, found: Found) {
        let position = place.position + message.at as u64;
        let content = place.bytes(&message.content);
        match message.kind {
            Kind::Batch => {
                let ends = content.try_into().map_or(0, u64::from_le_bytes);
                if ends >= self.unstable {
                    self.batches.push(Batch { begins: position, ends });
                }
            }
            Kind::Free => drop(self.prefixes.remove(&message.page)),
            Kind::Outside => self.take_outside(place, message, found),
            Kind::Page => self.take_page(place, message, found),
            Kind::Change => self.take_change(place, message, found),
            Kind::Canceled | Kind::Cap | Kind::Counter | Kind::Names => {}
        }
    }

    /// Takes in a message that is kept in a file of its own. One that is missing was replaced.
    fn take_outside(&mut self, place: &Place<'_>, message: &Message, found: Found) {
        let Ok(number) = place.bytes(&message.content).try_into().map(i64::from_le_bytes) else {
            return;
        };
        let path = self.blobs.join(number.to_string());
        let Some(bytes) = read_outside(&path) else { return };
        let kind = bytes.get(OUTSIDE_HEAD_BYTES - 1).copied().unwrap_or(0);
        let Some(message) = message.outside(kind, bytes.len()) else { return };
        let at = OUTSIDE | (self.outside.len() as u64) << 32;
        self.outside.push(path);
        let place = Place { segment: &bytes, at, position: place.position };
        match message.kind {
            Kind::Page => self.take_page(&place, &message, found),
            _ => self.take_change(&place, &message, found),
        }
    }

    fn take_page(&mut self, place: &Place<'_>, message: &Message, found: Found) {
        let Some(page) = Page::read(place.bytes(&message.content)) else { return };
        match Prefix::of(page.prefix) {
            Some(prefix) => drop(self.prefixes.insert(message.page, prefix)),
            None => drop(self.prefixes.remove(&message.page)),
        }
        for Pair { key, value } in page.pairs {
            let key = [page.prefix, key].concat();
            self.take_value(place, message, &key, value, found);
        }
    }

    fn take_change(&mut self, place: &Place<'_>, message: &Message, found: Found) {
        let prefix = self.prefixes.get(&message.page).copied();
        match Change::read(place.bytes(&message.content)) {
            Some(Change::Set(Pair { key, value })) => match prefix {
                Some(prefix) => {
                    self.take_value(place, message, &prefix.key(key), value, found);
                }
                None => self.take_orphan(place, message, key, value, found),
            },
            Some(Change::Removed(key)) => {
                let key = prefix.unwrap_or_default().key(key);
                if let Some((seq, part)) = split_key(&key) {
                    let at = place.at + message.at as u64;
                    let position = place.position + message.at as u64;
                    let removal = Sighting { is_removal: true, found, ..sighting(at, 0, position) };
                    self.note(Sighting { seq: seq as u32, part: part as u16, ..removal });
                }
            }
            Some(Change::Merge) | None => {}
        }
    }

    /// Takes in a value whose page is lost, and with it the beginning of its key. The block itself
    /// says which it is; a further part is most likely of the newest block.
    fn take_orphan(
        &mut self,
        place: &Place<'_>,
        message: &Message,
        key: &[u8],
        value: Range<usize>,
        found: Found,
    ) {
        let range = message.content.start + value.start..message.content.start + value.end;
        let extent = block::extent(place.bytes(&range)).ok();
        let is_guess = extent.is_none() && key.len() < KEY_BYTES;
        let key = match extent {
            Some(extent) => part_key(extent.first_seq, 0),
            None => {
                let newest = part_key(self.newest, 0);
                let missing = KEY_BYTES.saturating_sub(key.len());
                [newest.get(..missing).unwrap_or_default(), key].concat()
            }
        };
        let found = if is_guess { Found::InDamaged } else { found.min(Found::AfterDamage) };
        self.take_value(place, message, &key, value, found);
    }

    /// Takes in a value of a whole message. `value` is its place in the message's content.
    fn take_value(
        &mut self,
        place: &Place<'_>,
        message: &Message,
        key: &[u8],
        value: Range<usize>,
        found: Found,
    ) {
        let range = message.content.start + value.start..message.content.start + value.end;
        let bytes = place.bytes(&range);
        if key == IDENTITY_KEY {
            self.identity = Some(bytes.to_vec());
            return;
        }
        let Some((seq, part)) = split_key(key).filter(|(seq, _)| *seq <= u64::from(u32::MAX))
        else {
            return;
        };
        let position = place.position + message.at as u64;
        let plain = sighting(place.at + range.start as u64, bytes.len(), position);
        let noted = Sighting { seq: seq as u32, part: part as u16, found, ..plain };
        let noted = match block::extent(bytes).ok().filter(|_| part == 0) {
            Some(extent) => {
                self.log_id.get_or_insert(extent.log_id);
                Sighting { count: extent.count as u16, parts: parts(&extent), ..noted }
            }
            None => noted,
        };
        self.note(noted);
    }

    fn note(&mut self, sighting: Sighting) {
        let seq = Seq::from(sighting.seq);
        if sighting.found >= Found::AfterDamage && seq > self.newest {
            self.newest = seq;
            for damaged in self.damaged.iter_mut().rev().take_while(|one| one.between.1 == 0) {
                damaged.between.1 = seq;
            }
        }
        self.sightings.push(sighting);
    }

    /// Searches damaged bytes for values: where the rest of the message says, or else everywhere.
    fn search(&mut self, place: &Place<'_>, bytes: &Range<usize>, message: Option<&Message>) {
        let values = message.and_then(|message| values_of(place, message));
        let mut expected = None;
        match values {
            Some(values) => {
                for (key, range) in values {
                    expected = self.take_unsure(place, &range, expected, key, Found::InDamaged);
                }
            }
            None => self.search_everywhere(place, bytes),
        }
    }

    /// Takes in a value whose message is damaged, if it is a block by its own checks, or the part
    /// that is expected next. Returns the part that is expected after it.
    fn take_unsure(
        &mut self,
        place: &Place<'_>,
        range: &Range<usize>,
        expected: Option<Expected>,
        key: Option<(Seq, usize)>,
        found: Found,
    ) -> Option<Expected> {
        let bytes = place.bytes(range);
        let position = place.position + range.start as u64;
        let plain = sighting(place.at + range.start as u64, bytes.len(), position);
        if let Some(extent) = self.own_extent(bytes) {
            let is_beginning = extent.bytes > VALUE_BYTES_MAX && bytes.len() == VALUE_BYTES_MAX;
            let whole = is_beginning || is_sound(bytes);
            let found = if whole { found } else { Found::InPart };
            let (seq, count) = (extent.first_seq as u32, extent.count as u16);
            self.note(Sighting { seq, count, parts: parts(&extent), found, ..plain });
            return Expected::after(&extent, bytes.len());
        }
        let (seq, part) = match &expected {
            Some(expected) if expected.bytes() == bytes.len() => (expected.seq, expected.part),
            _ => key.filter(|(seq, part)| *part > 0 && *seq <= u64::from(u32::MAX))?,
        };
        self.note(Sighting { seq: seq as u32, part: part as u16, found, ..plain });
        expected.and_then(|expected| expected.next(bytes.len()))
    }

    /// Returns the extent of the block that begins with `bytes`, if it is of this log.
    fn own_extent(&self, bytes: &[u8]) -> Option<Extent> {
        let extent = block::extent(bytes).ok()?;
        self.log_id.is_none_or(|log_id| log_id == extent.log_id).then_some(extent)
    }

    /// Searches bytes for the heads of blocks.
    fn search_everywhere(&mut self, place: &Place<'_>, bytes: &Range<usize>) {
        let mut at = bytes.start;
        while at < bytes.end {
            let rest = place.bytes(&(at..bytes.end));
            let Some(next) = block::find_head(rest) else { return };
            at += next;
            let rest = place.bytes(&(at..bytes.end));
            let Some(extent) = self.own_extent(rest) else {
                at += 1;
                continue;
            };
            let end = bytes.end.min(at + extent.bytes.min(VALUE_BYTES_MAX));
            let mut expected = self.take_unsure(place, &(at..end), None, None, Found::ByItself);
            // A block in part may end anywhere: its frames may be of another.
            at = if end - at == extent.bytes.min(VALUE_BYTES_MAX) { end } else { at + 1 };
            while let Some(part) = expected {
                let Some(range) = part.find(place.bytes(&(at..bytes.end)), at) else { break };
                at = range.end;
                expected = self.take_unsure(place, &range, Some(part), None, Found::ByItself);
            }
        }
    }

    /// Drops the places of values that later ones replace. It is not yet known which of the last
    /// ones sled cuts off: they replace nothing.
    fn drop_replaced(&mut self) {
        let unstable = self.unstable;
        keep_best(&mut self.sightings, |one| (one.position + 1).saturating_sub(unstable));
        self.noted_max = (2 * self.sightings.len()).max(NOTED_AT_FIRST);
    }

    fn finish(mut self, segments: &Segments) -> Scan {
        let end = self.tail.end.unwrap_or(0);
        // A batch that was not written whole is cut off at its beginning.
        let torn = self.batches.iter().filter(|batch| batch.begins < end && batch.ends >= end);
        let cut = torn.map(|batch| batch.begins).min().unwrap_or(end);
        keep_best(&mut self.sightings, |one| u64::from(one.position >= cut));
        let unstable = segments.unstable;
        let Pass { sightings, identity, mut damaged, torn, outside, .. } = self;
        damaged.sort_by_key(|damaged| damaged.bytes.start);
        Scan { sightings, identity, cut, damaged, torn, outside, unstable }
    }
}

/// Reads a file with a message; `None` if it is missing or its check does not fit.
fn read_outside(path: &Path) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = files::open(path).ok()?;
    file.take(OUTSIDE_BYTES_MAX).read_to_end(&mut bytes).ok()?;
    let (check, signed) = bytes.split_first_chunk::<4>()?;
    if crc32fast::hash(signed) != u32::from_le_bytes(*check) {
        tracing::warn!(path = %path.display(), "a file of the store's `blobs` is damaged");
        return None;
    }
    Some(bytes)
}

/// Makes the key of a part.
fn part_key(seq: Seq, part: usize) -> Vec<u8> {
    store::part_key(seq, part).to_vec()
}

fn sighting(at: u64, bytes: usize, position: Position) -> Sighting {
    Sighting {
        seq: 0,
        part: 0,
        count: 0,
        parts: 0,
        found: Found::Whole,
        is_removal: false,
        bytes: bytes as u32,
        at,
        position,
    }
}

/// Returns the number of parts of a block.
fn parts(extent: &Extent) -> u16 {
    extent.bytes.div_ceil(VALUE_BYTES_MAX) as u16
}

/// Returns whether every section of a block is as it was written.
pub(super) fn is_sound(bytes: &[u8]) -> bool {
    Block::parse(bytes).is_ok_and(|block| block.damage().is_empty())
}

/// The values of a damaged message, if its parts fit together: each with its key, if that has the
/// length of one.
pub(super) type Values = Vec<(Option<(Seq, usize)>, Range<usize>)>;

pub(super) fn values_of(place: &Place<'_>, message: &Message) -> Option<Values> {
    let content = place.bytes(&message.content);
    let in_segment = |value: Range<usize>| {
        message.content.start + value.start..message.content.start + value.end
    };
    match message.kind {
        Kind::Page => {
            let page = Page::read(content)?;
            let values = page.pairs.into_iter().map(|Pair { key, value }| {
                (split_key(&[page.prefix, key].concat()), in_segment(value))
            });
            Some(values.collect())
        }
        Kind::Change => match Change::read(content)? {
            Change::Set(Pair { value, .. }) => Some(vec![(None, in_segment(value))]),
            Change::Removed(_) | Change::Merge => Some(Vec::new()),
        },
        _ => None,
    }
}

/// Returns the places of the values in a whole message, in its segment.
pub(super) fn values_in(segment: &[u8], message: &Message) -> Vec<Range<usize>> {
    let place = Place { segment, at: 0, position: 0 };
    let values = values_of(&place, message).unwrap_or_default();
    values.into_iter().map(|(_, range)| range).collect()
}

/// A part of a block that must come next.
#[derive(Clone, Copy)]
struct Expected {
    seq: Seq,
    part: usize,
    /// The length of the rest of the block.
    rest: usize,
}

impl Expected {
    fn after(extent: &Extent, bytes: usize) -> Option<Expected> {
        let rest = extent.bytes.checked_sub(bytes).filter(|rest| *rest > 0)?;
        Some(Expected { seq: extent.first_seq, part: 1, rest })
    }

    fn bytes(&self) -> usize {
        self.rest.min(VALUE_BYTES_MAX)
    }

    fn next(self, bytes: usize) -> Option<Expected> {
        let rest = self.rest.checked_sub(bytes).filter(|rest| *rest > 0)?;
        Some(Expected { part: self.part + 1, rest, ..self })
    }

    /// Finds the part at the beginning of `bytes`, which are at `at`, behind its length.
    fn find(&self, bytes: &[u8], at: usize) -> Option<Range<usize>> {
        let mut rest = bytes;
        let length = take_integer(&mut rest).filter(|length| *length == self.bytes() as u64)?;
        let start = at + bytes.len() - rest.len();
        (rest.len() as u64 >= length).then_some(start..start + self.bytes())
    }
}

/// Sorts by key and keeps the best place of each value, or a few if it is uncertain which is. A
/// place of one `class` does not replace one of the other.
pub(super) fn keep_best(sightings: &mut Vec<Sighting>, class: impl Fn(&Sighting) -> u64) {
    sightings.sort_unstable_by_key(|one| {
        (one.seq, one.part, class(one), std::cmp::Reverse((one.found, one.position)))
    });
    let (mut last, mut kept) = (None, 0);
    sightings.retain(|one| {
        let key = (one.seq, one.part, class(one));
        if last.is_none_or(|(last, _)| last != key) {
            (last, kept) = (Some((key, one.found)), 1);
            return true;
        }
        let is_certain = last.is_some_and(|(_, found)| found >= Found::AfterDamage);
        kept += 1;
        !is_certain && kept <= PLACES_MAX
    });
}

impl Tail {
    /// Begins the next segment whose head is whole.
    fn enter(&mut self, number: u64) {
        if number < self.expected || self.is_over {
            return;
        }
        if number > self.expected {
            self.missing = Some(self.expected * SEGMENT_BYTES as u64);
            self.is_over = true;
        }
    }

    /// Returns whether the messages of the segment are followed, and goes on to it.
    fn is_in(&mut self, number: u64) -> bool {
        let is_in = !self.is_over && number == self.expected;
        if is_in {
            self.expected += 1;
            self.end = Some(number * SEGMENT_BYTES as u64 + 20);
        }
        is_in
    }

    fn take(&mut self, position: Position, stretch: &Stretch) {
        match stretch {
            Stretch::Whole { message, .. } if message.kind == Kind::Cap => {
                self.end = Some(position + message.at as u64);
            }
            Stretch::Whole { message, .. } => {
                self.end = Some(position + message.content.end as u64);
            }
            Stretch::Damaged { .. } | Stretch::Tail { .. } | Stretch::Overwritten { .. } => {
                self.is_over = true;
            }
        }
    }
}
