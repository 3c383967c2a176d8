//! JSON texts that are walked once: the place of every member and element is kept, so that fields
//! within fields are found without walking the text again.

use std::borrow::Cow;

use serde_json::value::RawValue;

/// The most objects and arrays within each other in a text that is indexed.
pub const INDEXED_LEVELS_MAX: usize = 128;

/// The most values in a text that is indexed: the index of more would take more memory than walking
/// the text again is worth.
const VALUES_MAX: usize = 1024;

/// The values for which there is room from the start: those of most webhooks.
const VALUES_USUAL: usize = 64;

/// A value of an indexed text. Those within it follow, in the order of the text.
struct Node<'a> {
    /// The key as it was written, of a member of an object; an empty text, of an element of an array.
    key: &'a str,
    value: &'a str,
    /// The number of values within it, at all levels.
    within: usize,
    key_is_plain: bool,
    value_is_plain: bool,
}

/// The values of a JSON text.
pub struct Index<'a>(Vec<Node<'a>>);

/// A value in a JSON text. One from an [`Index`] has its fields at hand; the text of any other is
/// walked whenever fields are picked out of it.
#[derive(Clone, Copy)]
pub struct Value<'i, 'a> {
    text: &'a str,
    /// True if it is known to be a string without escapes.
    is_plain: bool,
    within: Option<&'i [Node<'a>]>,
}

impl<'a> Index<'a> {
    /// Walks a text; `None` if it is not a JSON object, or one of over 1024 values or
    /// [`INDEXED_LEVELS_MAX`] levels.
    pub fn of(text: &'a str) -> Option<Index<'a>> {
        let nodes = Vec::with_capacity(VALUES_USUAL);
        let mut walk = Walk { text, at: 0, nodes };
        walk.peek().filter(|first| *first == b'{')?;
        walk.value("", false, INDEXED_LEVELS_MAX)?;
        walk.peek().is_none().then_some(Index(walk.nodes))
    }

    /// Returns the whole object.
    pub fn object(&self) -> Option<Value<'_, 'a>> {
        let (root, within) = self.0.split_first()?;
        Some(root.value(within))
    }
}

impl<'a> Value<'_, 'a> {
    /// Makes a value of a text that may be any.
    pub fn unindexed(text: &'a str) -> Self {
        Value { text, is_plain: false, within: None }
    }
}

impl<'a> From<&'a RawValue> for Value<'_, 'a> {
    fn from(value: &'a RawValue) -> Self {
        Value::unindexed(value.get())
    }
}

impl<'i, 'a> Value<'i, 'a> {
    /// Returns its text.
    pub fn get(self) -> &'a str {
        self.text
    }

    /// Returns it unless it is `null`: see [`present`](super::present).
    pub fn present(self) -> Option<Self> {
        Some(self).filter(|value| value.get() != "null")
    }

    /// Picks the fields `names` out of it, and drops those of `null`. The last of a repeated key
    /// counts. `None` if it is not an object.
    pub fn present_fields<const N: usize>(self, names: [&str; N]) -> Option<[Option<Self>; N]> {
        let Some(mut nodes) = self.within else {
            let found = super::present_fields(self.get(), names)?;
            return Some(found.map(|field| field.map(Value::from)));
        };
        if !self.get().starts_with('{') {
            return None;
        }
        let mut found = [None; N];
        while let Some((node, value)) = next(&mut nodes) {
            if let Some(slot) = node.position(&names).and_then(|at| found.get_mut(at)) {
                *slot = Some(value);
            }
        }
        Some(found.map(|field: Option<Self>| field.and_then(Value::present)))
    }

    /// Returns its elements, if it is an array.
    pub fn elements(self) -> Option<Vec<Self>> {
        let Some(mut nodes) = self.within else {
            let elements = super::array_in(self.get())?;
            return Some(elements.into_iter().map(Value::from).collect());
        };
        let is_array = self.get().starts_with('[');
        is_array.then(|| std::iter::from_fn(|| Some(next(&mut nodes)?.1)).collect())
    }

    /// Returns its text as a string: see [`string`](super::string).
    pub fn string(self) -> Option<Cow<'a, str>> {
        string(self.text, self.is_plain)
    }

    /// Returns it as a string that names something: see [`name`](super::name).
    pub fn name(self) -> Option<Cow<'a, str>> {
        match self.is_plain {
            true => self.string(),
            false => super::name_in(self.get()),
        }
    }
}

/// Takes the first of some values and all within it.
fn next<'i, 'a>(nodes: &mut &'i [Node<'a>]) -> Option<(&'i Node<'a>, Value<'i, 'a>)> {
    let (node, after) = nodes.split_first()?;
    let (within, rest) = after.split_at_checked(node.within)?;
    *nodes = rest;
    Some((node, node.value(within)))
}

/// Reads a string. It is plain if it is known to have no escapes.
fn string(text: &str, is_plain: bool) -> Option<Cow<'_, str>> {
    match is_plain {
        true => super::inner(text).map(Cow::Borrowed),
        false => super::string_in(text),
    }
}

impl<'a> Node<'a> {
    fn value<'i>(&self, within: &'i [Node<'a>]) -> Value<'i, 'a> {
        Value { text: self.value, is_plain: self.value_is_plain, within: Some(within) }
    }

    /// Returns the position of its key among some names.
    fn position(&self, names: &[&str]) -> Option<usize> {
        let key = string(self.key, self.key_is_plain)?;
        // Names of one length mostly differ at once, which is cheaper to see than to compare texts.
        let (first, length) = (key.as_bytes().first(), key.len());
        let may_be = |name: &str| name.len() == length && name.as_bytes().first() == first;
        names.iter().position(|name| may_be(name) && *name == key)
    }
}

/// A walk through a text. Each step returns `None` where the text is not JSON, or has too much in it.
struct Walk<'a> {
    text: &'a str,
    at: usize,
    nodes: Vec<Node<'a>>,
}

impl<'a> Walk<'a> {
    /// Returns the next byte that is not white space, without passing it.
    fn peek(&mut self) -> Option<u8> {
        loop {
            match self.byte()? {
                b' ' | b'\n' | b'\t' | b'\r' => self.at += 1,
                byte => return Some(byte),
            }
        }
    }

    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// Passes one of some bytes, if it is the next.
    fn pass(&mut self, bytes: &[u8]) -> bool {
        let is_next = self.byte().is_some_and(|byte| bytes.contains(&byte));
        self.at += usize::from(is_next);
        is_next
    }

    /// Passes a value that may have some levels, and keeps it.
    fn value(&mut self, key: &'a str, key_is_plain: bool, levels_left: usize) -> Option<()> {
        let first = self.peek()?;
        let (start, place) = (self.at, self.nodes.len());
        if place == VALUES_MAX {
            return None;
        }
        let node = Node { key, value: "", within: 0, key_is_plain, value_is_plain: false };
        match first {
            b'"' => {
                let value_is_plain = self.string()?;
                let value = self.text.get(start..self.at)?;
                self.nodes.push(Node { value, value_is_plain, ..node });
                return Some(());
            }
            // What is within it follows.
            b'{' => {
                self.nodes.push(node);
                self.members(levels_left.checked_sub(1)?)?;
            }
            b'[' => {
                self.nodes.push(node);
                self.elements(levels_left.checked_sub(1)?)?;
            }
            other => {
                self.word(other)?;
                self.nodes.push(node);
            }
        }
        let within = self.nodes.len() - place - 1;
        let node = self.nodes.get_mut(place)?;
        (node.value, node.within) = (self.text.get(start..self.at)?, within);
        Some(())
    }

    fn members(&mut self, levels_left: usize) -> Option<()> {
        self.at += 1;
        if self.peek()? == b'}' {
            self.at += 1;
            return Some(());
        }
        loop {
            self.peek().filter(|byte| *byte == b'"')?;
            let start = self.at;
            let is_plain = self.string()?;
            let key = self.text.get(start..self.at)?;
            self.peek().filter(|byte| *byte == b':')?;
            self.at += 1;
            self.value(key, is_plain, levels_left)?;
            if self.ends(b'}')? {
                return Some(());
            }
        }
    }

    fn elements(&mut self, levels_left: usize) -> Option<()> {
        self.at += 1;
        if self.peek()? == b']' {
            self.at += 1;
            return Some(());
        }
        loop {
            self.value("", false, levels_left)?;
            if self.ends(b']')? {
                return Some(());
            }
        }
    }

    /// Passes what follows a member or an element: a comma, or the end.
    fn ends(&mut self, end: u8) -> Option<bool> {
        let byte = self.peek().filter(|byte| *byte == b',' || *byte == end)?;
        self.at += 1;
        Some(byte == end)
    }

    /// Passes a string, from its first quote on. Returns true if it has no escapes.
    fn string(&mut self) -> Option<bool> {
        self.at += 1;
        let mut is_plain = true;
        loop {
            self.at += plain_bytes(self.text.as_bytes().get(self.at..)?);
            match self.byte()? {
                b'"' => {
                    self.at += 1;
                    return Some(is_plain);
                }
                b'\\' => self.escape()?,
                // A control character.
                _ => return None,
            }
            is_plain = false;
        }
    }

    fn escape(&mut self) -> Option<()> {
        match self.text.as_bytes().get(self.at + 1..)? {
            [b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', ..] => self.at += 2,
            [b'u', a, b, c, d, ..] if [a, b, c, d].iter().all(|byte| byte.is_ascii_hexdigit()) => {
                self.at += super::ESCAPE_BYTES;
            }
            _ => return None,
        }
        Some(())
    }

    /// Passes a value that begins with a byte and is neither a string nor an object or array.
    fn word(&mut self, first: u8) -> Option<()> {
        let word = match first {
            b't' => "true",
            b'f' => "false",
            b'n' => "null",
            _ => return self.number(),
        };
        let is_next = self.text.get(self.at..)?.starts_with(word);
        self.at += word.len();
        is_next.then_some(())
    }

    fn number(&mut self) -> Option<()> {
        self.pass(b"-");
        // What follows a leading zero must not be a digit; then it is no comma or end either.
        if !self.pass(b"0") {
            self.digits()?;
        }
        if self.pass(b".") {
            self.digits()?;
        }
        if self.pass(b"eE") {
            self.pass(b"+-");
            self.digits()?;
        }
        Some(())
    }

    /// Passes at least one digit.
    fn digits(&mut self) -> Option<()> {
        let start = self.at;
        while self.byte().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        (self.at > start).then_some(())
    }
}

/// Returns the number of bytes before the first quote, backslash or control character.
fn plain_bytes(bytes: &[u8]) -> usize {
    let (words, rest) = bytes.as_chunks();
    for (at, word) in words.iter().enumerate() {
        let ends = string_ends(u64::from_le_bytes(*word));
        if ends != 0 {
            return at * size_of::<u64>() + ends.trailing_zeros() as usize / 8;
        }
    }
    let is_end = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..0x20);
    bytes.len() - rest.len() + rest.iter().position(is_end).unwrap_or(rest.len())
}

/// Returns a word whose lowest bit that is set is the highest of the first byte that is a quote, a
/// backslash or a control character; 0 if there is none.
///
/// A byte that borrows from the next is such an end itself, so that only bits after the first are
/// wrong (<https://graphics.stanford.edu/~seander/bithacks.html#HasLessInWord>).
fn string_ends(word: u64) -> u64 {
    const ONES: u64 = u64::MAX / 255;
    let below = |word: u64, bound: u8| word.wrapping_sub(ONES * u64::from(bound)) & !word;
    let equal = |byte: u8| below(word ^ (ONES * u64::from(byte)), 1);
    (below(word, 0x20) | equal(b'"') | equal(b'\\')) & (ONES << 7)
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::super::random::{change, value};
    use super::*;

    const NAMES: [&str; 6] =
        ["id", "data", "emails", "previous_attributes", "\u{fffd}", "created_at"];

    /// Compares a value and all within it with what serde_json reads out of the same text.
    fn compare(value: Value<'_, '_>, raw: &RawValue) {
        assert_eq!(value.get(), raw.get());
        assert_eq!(value.string(), super::super::string(Some(raw)));
        assert_eq!(value.name(), super::super::name(Some(raw)));
        assert_eq!(value.present().is_some(), super::super::present(Some(raw)).is_some());
        match (value.elements(), super::super::array(Some(raw))) {
            (Some(ours), Some(theirs)) => {
                assert_eq!(ours.len(), theirs.len());
                ours.into_iter().zip(theirs).for_each(|(ours, theirs)| compare(ours, theirs));
            }
            (ours, theirs) => assert!(ours.is_none() && theirs.is_none()),
        }
        let theirs = super::super::present_fields(raw.get(), NAMES);
        match (value.present_fields(NAMES), theirs) {
            (Some(ours), Some(theirs)) => {
                for (ours, theirs) in ours.into_iter().zip(theirs) {
                    assert_eq!(ours.is_some(), theirs.is_some());
                    ours.into_iter().zip(theirs).for_each(|(ours, theirs)| compare(ours, theirs));
                }
            }
            (ours, theirs) => assert!(ours.is_none() && theirs.is_none()),
        }
    }

    #[test]
    fn an_indexed_text_has_the_fields_that_serde_json_reads() {
        let mut random = StdRng::seed_from_u64(18);
        let (mut objects, mut others) = (0, 0);
        for case in 0..20_000 {
            let mut text = value(&mut random, 5);
            if case % 3 == 0 {
                change(&mut random, &mut text);
            }
            let theirs: Option<&RawValue> = serde_json::from_str(&text)
                .ok()
                .filter(|raw: &&RawValue| raw.get().starts_with('{'));
            let index = Index::of(&text);
            match (index.as_ref().and_then(Index::object), theirs) {
                (Some(ours), Some(theirs)) => {
                    compare(ours, theirs);
                    objects += 1;
                }
                (ours, theirs) => {
                    assert!(ours.is_none() && theirs.is_none(), "{text}");
                    others += 1;
                }
            }
        }
        assert!(objects > 1000 && others > 1000, "{objects} {others}");
    }

    #[test]
    fn a_text_with_too_much_in_it_is_not_indexed() {
        let wide = |elements: usize| format!("{{\"a\":[{}0]}}", "0,".repeat(elements - 1));
        // The object and the array are values too.
        assert!(Index::of(&wide(VALUES_MAX - 2)).is_some());
        assert!(Index::of(&wide(VALUES_MAX - 1)).is_none());
        let deep = |levels: usize| {
            format!("{{\"a\":{}{}}}", "[".repeat(levels - 1), "]".repeat(levels - 1))
        };
        for (levels, is_indexed) in [(INDEXED_LEVELS_MAX, true), (INDEXED_LEVELS_MAX + 1, false)] {
            let text = deep(levels);
            assert_eq!(super::super::levels(text.as_bytes()), levels);
            assert_eq!(Index::of(&text).is_some(), is_indexed);
        }
    }

    #[test]
    fn a_string_ends_at_its_first_quote_escape_or_control_character() {
        for end in 0..=u8::MAX {
            for at in 0..24 {
                let mut bytes = [b'!'; 24];
                bytes[at] = end;
                // A second end, and bytes that are nearly one.
                bytes[23] = b'"';
                if at + 1 < 23 {
                    bytes[at + 1] = 0x20;
                }
                let is_end = end == b'"' || end == b'\\' || end < 0x20;
                let expected = if is_end { at } else { 23 };
                assert_eq!(plain_bytes(&bytes), expected.min(23), "{end} at {at}");
                assert_eq!(plain_bytes(&bytes[..at]), at);
            }
        }
    }
}
