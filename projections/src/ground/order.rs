//! The two clocks, the cut that a question makes in both, and the one order of events.

use core::cmp::Ordering;

use crate::ground::memory;
use crate::ground::pack::{pack_fields, pack_variants};
use crate::ground::table::Table;

/// Milliseconds since 1970-01-01T00:00:00Z; negative before.
pub type Millis = i64;

/// A record's position in the log, from 1, without gaps. The views keep it in 32 bits: a log ends
/// at 2^32 - 2 records.
pub type Seq = u64;

/// The width in which the views store a [`Seq`].
pub(crate) type Seq32 = u32;

/// An event that its source dates further ahead of its recording than this occurs when it is
/// recorded: a date in the future must not outlive the deletion that follows.
pub const CLOCK_AHEAD_MS: Millis = 3 * 60 * 1000;

/// The bounds of a question: it sees events with `occurred_at <= as_of` and `seq <= known_at`. Both
/// bounds are included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Latest `occurred_at` that counts.
    pub as_of: Millis,
    /// Highest seq that counts.
    pub known_at: Seq,
}

impl Cut {
    /// Everything known counts, also events that are dated ahead of our clock.
    pub const LATEST: Cut = Cut { as_of: Millis::MAX, known_at: Seq::MAX };

    pub(crate) fn known_at32(self) -> Seq32 {
        seq32(self.known_at)
    }

    pub(crate) fn sees(self, place: Place) -> bool {
        place.occurred_at <= self.as_of && place.seq <= self.known_at32()
    }
}

/// Returns the cuts at a moment and at the millisecond before.
pub(crate) fn around(moment: Millis, cut: Cut) -> (Cut, Cut) {
    (Cut { as_of: moment, ..cut }, Cut { as_of: moment.saturating_sub(1), ..cut })
}

/// Narrows a seq to its stored width. A log refuses to grow past it, so nothing is ever cut off.
pub(crate) fn seq32(seq: Seq) -> Seq32 {
    Seq32::try_from(seq).unwrap_or(Seq32::MAX)
}

/// An event's place in the order of events: `(occurred_at, closing, updated_at, event id)`.
///
/// The id is looked up by seq in [`EventIds`], and only when everything else is equal.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) occurred_at: Millis,
    /// `NO_UPDATED_AT` where the event carries none, which therefore sorts first.
    pub(crate) updated_at: Millis,
    pub(crate) seq: Seq32,
    /// True for an event that ends access, so that within one millisecond the end wins.
    pub(crate) closing: bool,
}

/// Smaller than any time that parses.
pub(crate) const NO_UPDATED_AT: Millis = Millis::MIN;

impl Place {
    /// Returns the `updated_at` of the event, if it carries one.
    pub(crate) fn known_updated_at(self) -> Option<Millis> {
        (self.updated_at != NO_UPDATED_AT).then_some(self.updated_at)
    }
}

/// The event ids of all events that count, by seq, to break ties.
///
/// An id of today's form (`event_` or `wh_` and a canonical ULID, or `obs_` or `op_` and a UUID)
/// takes 17 bytes; any other is kept as text.
#[derive(Default)]
pub(crate) struct EventIds {
    forms: Table<Form>,
    payloads: Table<[u8; 16]>,
    others: Vec<Box<str>>,
}

#[derive(Clone, Copy)]
enum Form {
    None,
    Event,
    Wh,
    Obs,
    Op,
    Other,
}

impl EventIds {
    /// Adds the id of record `seq`. Seqs come in ascending order; those skipped have no id.
    pub(crate) fn push(&mut self, seq: Seq32, id: &str) {
        let index = seq as usize;
        while self.forms.len() < index {
            self.forms.push(Form::None);
            self.payloads.push([0; 16]);
        }
        let compact = [("event_", Form::Event), ("wh_", Form::Wh)]
            .into_iter()
            .find_map(|(prefix, form)| Some((form, canonical_ulid(id.strip_prefix(prefix)?)?)))
            .or_else(|| Some((Form::Obs, canonical_uuid(id.strip_prefix("obs_")?)?)))
            .or_else(|| Some((Form::Op, canonical_uuid(id.strip_prefix("op_")?)?)));
        let (form, payload) = compact.unwrap_or_else(|| {
            let mut payload = [0; 16];
            payload[..8].copy_from_slice(&(self.others.len() as u64).to_be_bytes());
            self.others.push(id.into());
            (Form::Other, payload)
        });
        self.forms.push(form);
        self.payloads.push(payload);
    }

    /// Returns about the bytes of memory that they take.
    pub(crate) fn heap_bytes(&self) -> usize {
        let others = self.others.iter().map(|id| memory::of_allocation(id.len()));
        self.forms.heap_bytes()
            + self.payloads.heap_bytes()
            + memory::of_vec(&self.others)
            + others.sum::<usize>()
    }

    /// Writes the id of record `seq` into `buffer` and returns it; empty when there is none.
    pub(crate) fn text<'a>(&'a self, seq: Seq32, buffer: &'a mut IdBuffer) -> &'a str {
        let index = seq as usize;
        let (Some(form), Some(payload)) = (self.forms.get(index), self.payloads.get(index)) else {
            return "";
        };
        match form {
            Form::None => "",
            Form::Event => buffer.write("event_", ulid_digits(*payload)),
            Form::Wh => buffer.write("wh_", ulid_digits(*payload)),
            Form::Obs => buffer.write("obs_", uuid_digits(*payload)),
            Form::Op => buffer.write("op_", uuid_digits(*payload)),
            Form::Other => {
                let at =
                    payload.first_chunk().map_or(usize::MAX, |at| u64::from_be_bytes(*at) as usize);
                self.others.get(at).map_or("", |id| id)
            }
        }
    }

    /// Compares two places in the order of events. Two places of one record are equal.
    pub(crate) fn compare(&self, a: Place, b: Place) -> Ordering {
        (a.occurred_at, a.closing, a.updated_at)
            .cmp(&(b.occurred_at, b.closing, b.updated_at))
            .then_with(|| {
                if a.seq == b.seq {
                    return Ordering::Equal;
                }
                let (mut left, mut right) = (IdBuffer::default(), IdBuffer::default());
                self.text(a.seq, &mut left).as_bytes().cmp(self.text(b.seq, &mut right).as_bytes())
            })
    }

    pub(crate) fn is_later(&self, a: Place, b: Place) -> bool {
        self.compare(a, b) == Ordering::Greater
    }
}

/// A buffer for a compact id as text.
pub(crate) struct IdBuffer {
    bytes: [u8; 40],
    len: usize,
}

impl Default for IdBuffer {
    fn default() -> Self {
        IdBuffer { bytes: [0; 40], len: 0 }
    }
}

const CROCKFORD: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

impl IdBuffer {
    fn write(&mut self, prefix: &str, digits: impl Iterator<Item = u8>) -> &str {
        self.len = 0;
        for (slot, byte) in self.bytes.iter_mut().zip(prefix.bytes().chain(digits)) {
            *slot = byte;
            self.len += 1;
        }
        self.bytes.get(..self.len).and_then(|bytes| core::str::from_utf8(bytes).ok()).unwrap_or("")
    }
}

fn ulid_digits(payload: [u8; 16]) -> impl Iterator<Item = u8> {
    let bits = u128::from_be_bytes(payload);
    let digit = move |n: u32| CROCKFORD.get((bits >> (5 * n)) as usize & 31).copied();
    (0..26).rev().map(move |n| digit(n).unwrap_or(b'0'))
}

/// The digits of a UUID, and the places of its text before which a hyphen comes.
const HEXADECIMAL: &[u8; 16] = b"0123456789abcdef";
const HYPHENS: [u32; 4] = [8, 12, 16, 20];

pub(crate) fn uuid_digits(payload: [u8; 16]) -> impl Iterator<Item = u8> {
    let bits = u128::from_be_bytes(payload);
    (0..32).flat_map(move |n| {
        let digit = HEXADECIMAL.get((bits >> (4 * (31 - n))) as usize & 15).copied();
        HYPHENS.contains(&n).then_some(b'-').into_iter().chain(digit)
    })
}

/// Returns the bits of a UUID in lower case with its hyphens, from which its text can be restored.
pub(crate) fn canonical_uuid(text: &str) -> Option<[u8; 16]> {
    let mut bits = 0u128;
    for byte in text.bytes().filter(|byte| *byte != b'-') {
        bits = bits << 4 | HEXADECIMAL.iter().position(|digit| *digit == byte)? as u128;
    }
    let payload = bits.to_be_bytes();
    uuid_digits(payload).eq(text.bytes()).then_some(payload)
}

/// Returns the bits of a ULID in upper case, from which its text can be restored.
fn canonical_ulid(text: &str) -> Option<[u8; 16]> {
    let bytes = text.as_bytes();
    if bytes.len() != 26 || *bytes.first()? > b'7' {
        return None;
    }
    let mut bits = 0u128;
    for byte in bytes {
        bits = bits << 5 | CROCKFORD.iter().position(|digit| digit == byte)? as u128;
    }
    Some(bits.to_be_bytes())
}

pack_fields!(Place { occurred_at, updated_at, seq, closing });
pack_fields!(EventIds { forms, payloads, others });
pack_variants!(Form { None = 0, Event = 1, Wh = 2, Obs = 3, Other = 4, Op = 5 });

#[cfg(test)]
mod tests {
    use super::*;

    fn place(seq: Seq32) -> Place {
        Place { occurred_at: 5, updated_at: NO_UPDATED_AT, seq, closing: false }
    }

    #[test]
    fn ids_of_every_form_are_restored_exactly() {
        let ids = [
            "event_01J44T8116Q5M0RYCFA6KWNXN9",
            "wh_01FG9JXJ9C9S052FX59JVG4EG1",
            "event_7ZZZZZZZZZZZZZZZZZZZZZZZZZ",
            "event_01j44t8116q5m0rycfa6kwnxn9",
            "event_81J44T8116Q5M0RYCFA6KWNXN9",
            "event_01J44T8116Q5M0RYCFA6KWNXNU",
            "event_",
            "obs_019adc5e-7a00-7123-89ab-cdef01234567",
            "obs_019adc5e-7a00-7123-89AB-cdef01234567",
            "obs_019adc5e7a00712389abcdef01234567",
            "obs_019adc5e-7a00-7123-89ab-cdef012345678",
            "obs_019adc5e-7a00-7123-89ab-cdef0123456",
            "x",
            "événement",
        ];
        let mut table = EventIds::default();
        for (index, id) in ids.iter().enumerate() {
            table.push(2 * index as u32 + 1, id);
        }
        for (index, id) in ids.iter().enumerate() {
            assert_eq!(table.text(2 * index as u32 + 1, &mut IdBuffer::default()), *id);
            assert_eq!(table.text(2 * index as u32, &mut IdBuffer::default()), "");
        }
    }

    #[test]
    fn full_ties_are_broken_by_the_bytes_of_the_id() {
        let mut table = EventIds::default();
        let ids = [
            "event_01J44T8116Q5M0RYCFA6KWNXN9",
            "event_01j",
            "a",
            "wh_01FG9JXJ9C9S052FX59JVG4EG1",
            "event_01J44T8116Q5M0RYCFA6KWNXNA",
        ];
        for (index, id) in ids.iter().enumerate() {
            table.push(index as u32 + 1, id);
        }
        for (i, a) in ids.iter().enumerate() {
            for (j, b) in ids.iter().enumerate() {
                assert_eq!(
                    table.compare(place(i as u32 + 1), place(j as u32 + 1)),
                    a.as_bytes().cmp(b.as_bytes()),
                    "{a} {b}"
                );
            }
        }
    }
}
