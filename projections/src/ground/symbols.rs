//! Symbols: texts stored once, each known by a small number.

use core::cmp::Ordering;
use core::hash::{BuildHasher, Hash};

use hashbrown::HashTable;
use rustc_hash::FxBuildHasher;

use crate::ground::memory;
use crate::ground::pack::{Pack, Packer, Unpacker};
use crate::ground::table::Table;

/// The number of a text in its [`Symbols`].
pub(crate) type Sym = u32;

/// The absence of a symbol.
pub(crate) const NO_SYM: Sym = Sym::MAX;

/// Texts, numbered from 0 in order of first appearance.
#[derive(Default)]
pub(crate) struct Symbols {
    texts: Texts,
    table: HashTable<Sym>,
    keys: OrderKeys,
}

/// A number for each text, in the order of the texts: of two texts the greater one never has the
/// smaller number. A comparison of two ids mostly reads two of these, which are near each other in
/// memory, and not the texts.
///
/// Ids end in ULIDs and begin alike, so the numbers are of what follows the beginning of the first.
#[derive(Default)]
struct OrderKeys {
    beginning: Box<str>,
    keys: Table<u64>,
}

/// The characters of a ULID that tell ids apart: all but two, which change every 34 years.
const TELLING_CHARS: usize = 24;

impl OrderKeys {
    fn push(&mut self, text: &str) {
        if self.keys.len() == 0 {
            let end = text.len().saturating_sub(TELLING_CHARS);
            self.beginning = text.get(..end).unwrap_or_default().into();
        }
        self.keys.push(self.of(text));
    }

    fn of(&self, text: &str) -> u64 {
        let mut key = [0; 8];
        match text.strip_prefix(&*self.beginning) {
            Some(rest) => key.iter_mut().zip(rest.bytes()).for_each(|(to, from)| *to = from),
            None if text < &*self.beginning => {}
            None => key = [u8::MAX; 8],
        }
        u64::from_be_bytes(key)
    }
}

/// The texts one after the other, in chunks that are never copied.
#[derive(Default)]
struct Texts {
    chunks: Vec<String>,
    starts: Table<Start>,
}

/// The place at which a text begins.
#[derive(Clone, Copy)]
struct Start {
    chunk: u32,
    offset: u32,
}

/// A chunk is full when another text would make it longer than this.
const CHUNK_BYTES: usize = 32 << 10;

impl Texts {
    fn push(&mut self, text: &str) {
        match self.chunks.last_mut() {
            Some(last) if last.len() + text.len() <= CHUNK_BYTES => last.push_str(text),
            None => self.chunks.push(text.to_owned()),
            Some(_) => {
                let mut chunk = String::with_capacity(CHUNK_BYTES.max(text.len()));
                chunk.push_str(text);
                self.chunks.push(chunk);
            }
        }
        let offset = self.chunks.last().map_or(0, |last| last.len() - text.len());
        let chunk = self.chunks.len() as u32 - 1;
        self.starts.push(Start { chunk, offset: offset as u32 });
    }

    fn get(&self, sym: Sym) -> &str {
        let Some(Start { chunk, offset }) = self.starts.get(sym as usize).copied() else {
            return "";
        };
        let next = self.starts.get(sym as usize + 1).filter(|next| next.chunk == chunk);
        let Some(text) = self.chunks.get(chunk as usize) else { return "" };
        let end = next.map_or(text.len(), |next| next.offset as usize);
        text.get(offset as usize..end).unwrap_or("")
    }

    fn len(&self) -> usize {
        self.starts.len()
    }
}

impl Symbols {
    /// Returns the symbol of `text`, new if it was never seen.
    pub(crate) fn intern(&mut self, text: &str) -> Sym {
        if let Some(name) = self.find(text) {
            return name;
        }
        let name = self.texts.len() as Sym;
        self.texts.push(text);
        self.keys.push(text);
        let Symbols { texts, table, .. } = self;
        table.insert_unique(hash(text), name, |name| hash(texts.get(*name)));
        name
    }

    /// Returns about the bytes of memory that they take.
    pub(crate) fn heap_bytes(&self) -> usize {
        let Texts { chunks, starts } = &self.texts;
        memory::of_vec(chunks)
            + chunks.iter().map(memory::of_text).sum::<usize>()
            + starts.heap_bytes()
            + self.table.allocation_size()
            + self.keys.keys.heap_bytes()
    }

    /// Returns the number of texts.
    pub(crate) fn len(&self) -> usize {
        self.texts.len()
    }

    /// Returns the symbol of `text`, if it was ever seen.
    pub(crate) fn find(&self, text: &str) -> Option<Sym> {
        self.table.find(hash(text), |name| self.text(*name) == text).copied()
    }

    /// Compares the texts of two symbols.
    pub(crate) fn compare(&self, a: Sym, b: Sym) -> Ordering {
        let key = |sym: Sym| self.keys.keys.get(sym as usize);
        match key(a).cmp(&key(b)) {
            Ordering::Equal if a != b => self.text(a).cmp(self.text(b)),
            order => order,
        }
    }

    /// Returns the text of `sym`; empty for [`NO_SYM`].
    pub(crate) fn text(&self, sym: Sym) -> &str {
        self.texts.get(sym)
    }
}

pub(crate) fn hash(value: impl Hash) -> u64 {
    FxBuildHasher.hash_one(value)
}

impl Pack for Symbols {
    fn pack(&self, to: &mut Packer<'_>) {
        // The table and the keys are made anew from the texts.
        let Symbols { texts, table: _, keys: _ } = self;
        to.count(texts.len());
        (0..texts.len()).for_each(|sym| to.text(texts.get(sym as Sym)));
    }

    fn unpack(from: &mut Unpacker<'_>) -> Option<Self> {
        let (mut texts, mut keys) = (Texts::default(), OrderKeys::default());
        for _ in 0..from.count()? {
            let text = from.text()?;
            texts.push(text);
            keys.push(text);
        }
        let mut table = HashTable::with_capacity(texts.len());
        for sym in 0..texts.len() as Sym {
            table.insert_unique(hash(texts.get(sym)), sym, |sym| hash(texts.get(*sym)));
        }
        Some(Symbols { texts, table, keys })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_keeps_its_number() {
        let mut names = Symbols::default();
        let numbers: Vec<_> =
            ["a", "", "bé", "a", ""].into_iter().map(|text| names.intern(text)).collect();
        assert_eq!(numbers, [0, 1, 2, 0, 1]);
        assert_eq!(
            [names.text(0), names.text(1), names.text(2), names.text(NO_SYM)],
            ["a", "", "bé", ""]
        );
        assert_eq!((names.find("bé"), names.find("c")), (Some(2), None));
    }

    #[test]
    fn symbols_are_compared_as_their_texts_are() {
        let ids = [
            "directory_user_01JA0000000000000000000005",
            "directory_user_01JA0000010000000000000004",
            "directory_user_01JA0000000000000000000004",
            "directory_user_02JA0000000000000000000004",
            "directory_user_00JA0000000000000000000004",
            "directory_user_01",
            "directory_user_01\0",
            "directory_user_0",
            "directory_user_01é",
            "directory_group_01JA0000000000000000000005",
            "zé",
            "é",
            "",
        ];
        // The first one says what all begin with.
        for first in 0..ids.len() {
            let mut symbols = Symbols::default();
            let order = ids[first..].iter().chain(&ids[..first]);
            let known: Vec<(&str, Sym)> = order.map(|id| (*id, symbols.intern(id))).collect();
            for (a, a_sym) in &known {
                for (b, b_sym) in &known {
                    assert_eq!(symbols.compare(*a_sym, *b_sym), a.cmp(b), "{a} {b} {first}");
                }
            }
        }
    }

    #[test]
    fn texts_of_any_length_come_back_by_their_symbols() {
        let mut symbols = Symbols::default();
        let mut texts: Vec<String> = (0..5000).map(|n| format!("text {n} é")).collect();
        texts.insert(0, String::new());
        texts.insert(700, "x".repeat(CHUNK_BYTES - 1));
        texts.insert(701, "y".repeat(3 * CHUNK_BYTES));
        texts.insert(702, "é".to_owned());
        texts.push("z".repeat(CHUNK_BYTES));
        for (sym, text) in (0..).zip(&texts) {
            assert_eq!(symbols.find(text), None);
            assert_eq!(symbols.intern(text), sym);
        }
        for (sym, text) in (0..).zip(&texts) {
            assert_eq!(symbols.text(sym), text);
            assert_eq!(symbols.intern(text), sym);
        }
        assert_eq!(symbols.len(), texts.len());
        assert_eq!((symbols.text(NO_SYM), symbols.text(texts.len() as Sym)), ("", ""));
    }
}
