//! The names of groups, and the rules of a mapping that each of them fits.

use std::collections::{HashMap, HashSet};

use rustc_hash::FxBuildHasher;
use smallvec::SmallVec;

use crate::ground::mapping::{Mapping, Matches, Rule};
use crate::ground::symbols::Sym;

/// About the nanoseconds that it takes to keep a rule that a name fits. Keeps a budget of work from
/// being spent on memory.
const KEEP_WORK: u64 = 64;

/// Every name that a group ever had, in the order of first appearance.
#[derive(Default)]
pub(crate) struct GroupNames {
    all: Vec<GroupName>,
    places: HashMap<Sym, u32, FxBuildHasher>,
    /// The compared forms of the names that are written in another form.
    rewritten: HashSet<Box<str>, FxBuildHasher>,
}

/// A name that a group had: its symbol, and the text with which it is compared.
#[derive(Clone, Debug)]
pub struct GroupName {
    pub(crate) name: Sym,
    pub(crate) compared: Box<str>,
}

impl GroupNames {
    /// Adds a name; false if it is there already.
    pub(crate) fn add(&mut self, name: Sym, written: &str, compared: &str) -> bool {
        if self.places.contains_key(&name) {
            return false;
        }
        if compared != written {
            self.rewritten.insert(compared.into());
        }
        self.places.insert(name, self.all.len() as u32);
        self.all.push(GroupName { name, compared: compared.into() });
        true
    }

    /// Returns a name as it is compared; empty for one that is unknown.
    pub(crate) fn compared(&self, name: Sym) -> &str {
        let found = self.places.get(&name).and_then(|place| self.all.get(*place as usize));
        found.map_or("", |name| &name.compared)
    }

    /// Tells if some name with this compared form is written in another form.
    pub(crate) fn is_rewritten(&self, compared: &str) -> bool {
        self.rewritten.contains(compared)
    }

    /// Returns the names behind the first `seen`.
    pub(crate) fn behind(&self, seen: usize) -> &[GroupName] {
        self.all.get(seen..).unwrap_or(&[])
    }
}

/// The rules that each name of a group fits, for the first of all names.
#[derive(Clone, Default)]
pub struct NameMatches {
    rules: HashMap<Sym, SmallVec<[u16; 2]>, FxBuildHasher>,
    seen: usize,
}

impl NameMatches {
    /// Returns the number of names that were looked at, in the order of first appearance.
    pub fn seen(&self) -> usize {
        self.seen
    }

    /// Matches the next names with the rules of a mapping, which must be the same each time.
    /// Returns about the nanoseconds that it took.
    pub fn add(&mut self, mapping: &Mapping, names: &[GroupName]) -> u64 {
        let mut work = 0;
        for name in names {
            let fitting: SmallVec<[u16; 2]> = (0..)
                .zip(&mapping.rules)
                .filter(|(_, rule)| fits_group_name(rule, &name.compared, &mut work))
                .map(|(number, _)| number)
                .collect();
            if !fitting.is_empty() {
                work += KEEP_WORK * fitting.len() as u64;
                self.rules.insert(name.name, fitting);
            }
        }
        self.seen += names.len();
        work
    }

    /// Returns the rules that a name fits.
    pub(crate) fn rules(&self, name: Sym) -> &[u16] {
        self.rules.get(&name).map_or(&[], |rules| rules)
    }
}

fn fits_group_name(rule: &Rule, name: &str, work: &mut u64) -> bool {
    match &rule.matches {
        Matches::Group { group, .. } => group.fits_name(name, work),
        Matches::Attribute { .. } => false,
    }
}
