//! Texts stored once, known by a small number.

use core::hash::{BuildHasher, Hash};

use hashbrown::HashTable;
use rustc_hash::FxBuildHasher;

/// The number of a text in its [`Names`].
pub(crate) type Name = u32;

/// Stands for "no name".
pub(crate) const NO_NAME: Name = Name::MAX;

/// Texts, numbered from 0 in order of first appearance.
#[derive(Default)]
pub(crate) struct Names {
    text: String,
    ends: Vec<usize>,
    table: HashTable<Name>,
}

impl Names {
    /// The number of `text`, new if it was never seen.
    pub(crate) fn intern(&mut self, text: &str) -> Name {
        if let Some(name) = self.find(text) {
            return name;
        }
        let name = self.ends.len() as Name;
        self.text.push_str(text);
        self.ends.push(self.text.len());
        let Names { text: all, ends, table } = self;
        table.insert_unique(hash(text), name, |name| hash(slice(all, ends, *name)));
        name
    }

    /// The number of `text`, if it was ever seen.
    pub(crate) fn find(&self, text: &str) -> Option<Name> {
        self.table.find(hash(text), |name| self.text(*name) == text).copied()
    }

    /// The text of `name`; empty for [`NO_NAME`].
    pub(crate) fn text(&self, name: Name) -> &str {
        slice(&self.text, &self.ends, name)
    }
}

fn slice<'a>(text: &'a str, ends: &[usize], name: Name) -> &'a str {
    let index = name as usize;
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
        let mut names = Names::default();
        let numbers: Vec<_> =
            ["a", "", "bé", "a", ""].into_iter().map(|text| names.intern(text)).collect();
        assert_eq!(numbers, [0, 1, 2, 0, 1]);
        assert_eq!(
            [names.text(0), names.text(1), names.text(2), names.text(NO_NAME)],
            ["a", "", "bé", ""]
        );
        assert_eq!((names.find("bé"), names.find("c")), (Some(2), None));
    }
}
