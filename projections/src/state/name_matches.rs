//! The names of groups, and the rules of a mapping that each of them fits.

use alloc::sync::Arc;
use std::collections::{HashMap, HashSet};

use rustc_hash::FxBuildHasher;
use smallvec::SmallVec;

use crate::ground::glob::glob_fits;
use crate::ground::mapping::{GroupPattern, Mapping, Matches, Rule};
use crate::ground::pack::{Pack, Packer, Unpacker, pack_fields};
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

/// The names and globs in the rules of all mappings set, and those that each name of a group fits.
/// That is kept once and not for each mapping, of which there may be many.
#[derive(Default)]
pub(crate) struct NamePatterns {
    /// The number of each name that a rule writes, by its compared form.
    names: HashMap<Arc<str>, u32>,
    /// The number of each glob.
    globs: HashMap<Arc<str>, u32>,
    /// The same globs in order of number.
    all_globs: Vec<(u32, Arc<str>)>,
    /// The patterns that each name of a group fits, in ascending order.
    fits: HashMap<Sym, SmallVec<[u32; 2]>, FxBuildHasher>,
}

/// A rule of a mapping, under the number of its pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PatternRule {
    pub(crate) pattern: u32,
    pub(crate) rule: u16,
}

impl NamePatterns {
    /// Returns the patterns that a name fits, in ascending order.
    pub(crate) fn fitting(&self, name: Sym) -> &[u32] {
        self.fits.get(&name).map_or(&[], |patterns| patterns)
    }

    /// Adds the patterns from number `first` on that a name fits to some, in ascending order and
    /// each once.
    pub(crate) fn add_fitting(&self, name: Sym, first: u32, to: &mut SmallVec<[u32; 2]>) {
        let fitting = self.fitting(name);
        let known = fitting.partition_point(|pattern| *pattern < first);
        for pattern in fitting.get(known..).unwrap_or(&[]) {
            if let Err(at) = to.binary_search(pattern) {
                to.insert(at, *pattern);
            }
        }
    }

    /// Notes what a new name fits.
    pub(crate) fn add_name(&mut self, name: Sym, compared: &str) {
        self.match_name(name, compared, 0);
    }

    /// Takes in the rules of a mapping, and returns those about names in order of their patterns.
    /// `matches` spares the work for the names that it covers. Adds the names that fit a pattern
    /// that was not known before to `newly_fitting`.
    pub(crate) fn add_mapping(
        &mut self,
        mapping: &Mapping,
        matches: &NameMatches,
        names: &GroupNames,
        newly_fitting: &mut Vec<Sym>,
    ) -> Arc<[PatternRule]> {
        let first_new = self.count();
        let patterns: Vec<Option<u32>> =
            mapping.rules.iter().map(|rule| self.number(rule)).collect();
        if self.count() > first_new {
            for (name, rules) in &matches.rules {
                let fitting = rules.iter().filter_map(|rule| *patterns.get(usize::from(*rule))?);
                let fitting = fitting.filter(|pattern| *pattern >= first_new).collect();
                if self.add_fits(*name, fitting) {
                    newly_fitting.push(*name);
                }
            }
            for name in names.behind(matches.seen) {
                if self.match_name(name.name, &name.compared, first_new) {
                    newly_fitting.push(name.name);
                }
            }
        }
        let numbered = (0..).zip(patterns);
        let mut rules: Vec<PatternRule> = numbered
            .filter_map(|(rule, pattern)| Some(PatternRule { pattern: pattern?, rule }))
            .collect();
        rules.sort_unstable();
        rules.into()
    }

    /// Returns the number of patterns.
    pub(crate) fn count(&self) -> u32 {
        (self.names.len() + self.globs.len()) as u32
    }

    /// Returns the number of a rule's pattern; none if it is about no name.
    fn number(&mut self, rule: &Rule) -> Option<u32> {
        let next = self.count();
        let Matches::Group { group, .. } = &rule.matches else { return None };
        match group {
            GroupPattern::Id(_) => None,
            GroupPattern::Name(name) => {
                Some(*self.names.entry(name.compared.clone()).or_insert(next))
            }
            GroupPattern::Glob(glob) => {
                let number = *self.globs.entry(glob.compared.clone()).or_insert(next);
                if number == next {
                    self.all_globs.push((number, glob.compared.clone()));
                }
                Some(number)
            }
        }
    }

    /// Notes which patterns from number `first` on a name fits. Returns false if there are none.
    fn match_name(&mut self, name: Sym, compared: &str, first: u32) -> bool {
        let known = self.all_globs.partition_point(|(number, _)| *number < first);
        let globs = self.all_globs.get(known..).unwrap_or(&[]).iter();
        let fitting = globs.filter(|(_, glob)| glob_fits(glob, compared, &mut 0));
        let mut fitting: SmallVec<[u32; 2]> = fitting.map(|(number, _)| *number).collect();
        fitting.extend(self.names.get(compared).copied().filter(|number| *number >= first));
        self.add_fits(name, fitting)
    }

    /// Adds patterns, all newer than those that the name was known to fit. Returns false if there
    /// are none.
    fn add_fits(&mut self, name: Sym, mut patterns: SmallVec<[u32; 2]>) -> bool {
        if patterns.is_empty() {
            return false;
        }
        patterns.sort_unstable();
        patterns.dedup();
        let fits = self.fits.entry(name).or_default();
        fits.extend_from_slice(&patterns);
        fits.shrink_to_fit();
        true
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

pack_fields!(NamePatterns { names, globs, all_globs, fits });
pack_fields!(GroupName { name, compared });

impl Pack for GroupNames {
    fn pack(&self, to: &mut Packer<'_>) {
        // The places are made anew from the names.
        let GroupNames { all, places: _, rewritten } = self;
        all.pack(to);
        rewritten.pack(to);
    }

    fn unpack(from: &mut Unpacker<'_>) -> Option<Self> {
        let all: Vec<GroupName> = Pack::unpack(from)?;
        let places = all.iter().map(|name| name.name).zip(0..).collect();
        Some(GroupNames { all, places, rewritten: Pack::unpack(from)? })
    }
}
