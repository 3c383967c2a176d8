//! Symbols: texts stored once, each known by a small number.

use core::hash::{BuildHasher, Hash};

use hashbrown::HashTable;
use rustc_hash::FxBuildHasher;

use crate::ground::memory;

/// The number of a text in its [`Symbols`].
pub(crate) type Sym = u32;

/// The absence of a symbol.
pub(crate) const NO_SYM: Sym = Sym::MAX;

/// Texts, numbered from 0 in order of first appearance.
#[derive(Default)]
pub(crate) struct Symbols {
    text: String,
    ends: Vec<usize>,
    table: HashTable<Sym>,
}

impl Symbols {
    /// Returns the symbol of `text`, new if it was never seen.
    pub(crate) fn intern(&mut self, text: &str) -> Sym {
        if let Some(name) = self.find(text) {
            return name;
        }
        let name = self.ends.len() as Sym;
        self.text.push_str(text);
        self.ends.push(self.text.len());
        let Symbols { text: all, ends, table } = self;
        table.insert_unique(hash(text), name, |name| hash(slice(all, ends, *name)));
        name
    }

    /// Returns about the bytes of memory that they take.
    pub(crate) fn heap_bytes(&self) -> usize {
        memory::of_text(&self.text) + memory::of_vec(&self.ends) + self.table.allocation_size()
    }

    /// Returns the number of texts.
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Returns the symbol of `text`, if it was ever seen.
    pub(crate) fn find(&self, text: &str) -> Option<Sym> {
        self.table.find(hash(text), |name| self.text(*name) == text).copied()
    }

    /// Returns the text of `sym`; empty for [`NO_SYM`].
    pub(crate) fn text(&self, sym: Sym) -> &str {
        slice(&self.text, &self.ends, sym)
    }
}

fn slice<'a>(text: &'a str, ends: &[usize], sym: Sym) -> &'a str {
    let index = sym as usize;
    let start = index.checked_sub(1).and_then(|before| ends.get(before)).copied().unwrap_or(0);
    ends.get(index).and_then(|end| text.get(start..*end)).unwrap_or("")
}

pub(crate) fn hash(value: impl Hash) -> u64 {
    FxBuildHasher.hash_one(value)
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
}
