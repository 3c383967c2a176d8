//! Attributes: the values that rules ask of users' snapshots, and the snapshots that have them.

use crate::ground::mapping::{Mapping, Matches};
use crate::ground::order::{Seq, Seq32, seq32};
use crate::ground::pack::{Pack, Packer, Unpacker, pack_fields};
use crate::ground::symbols::Sym;
use crate::state::entities::{Entities, Part};
use rustc_hash::FxBuildHasher;
use smallvec::SmallVec;
use std::collections::{BTreeSet, HashMap};

/// The values that the rules about attributes ask of users' snapshots, each with a key, and the
/// keys that each snapshot has.
///
/// The values are in the bodies of records, which this crate does not read: the caller reads them
/// and notes the keys here.
#[derive(Clone, Debug, Default)]
pub struct Attributes {
    paths: Vec<AttributePath>,
    keys: u32,
    matches: HashMap<(Seq32, Part), SmallVec<[u32; 2]>, FxBuildHasher>,
    /// Each key, with the users who ever had it.
    holders: BTreeSet<(u32, Sym)>,
}

/// A path, and the values of it that rules name.
#[derive(Clone, Debug)]
pub struct AttributePath {
    /// Dotted, from the root of the user's snapshot.
    pub path: String,
    /// The number of each value.
    pub keys: HashMap<String, u32>,
}

impl Attributes {
    /// Returns the values that some mappings ask for, without any snapshot noted.
    pub fn of<'a>(mappings: impl IntoIterator<Item = &'a Mapping>) -> Attributes {
        let mut attributes = Attributes::default();
        for mapping in mappings {
            attributes.want(mapping);
        }
        attributes
    }

    /// Tells if no value is asked for.
    pub fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }

    /// Returns the same values without any snapshot noted.
    pub(crate) fn without_notes(&self) -> Attributes {
        Attributes { paths: self.paths.clone(), keys: self.keys, ..Attributes::default() }
    }

    /// Asks for the values that the rules of a mapping name as well.
    pub fn want(&mut self, mapping: &Mapping) {
        for rule in &mapping.rules {
            let Matches::Attribute { path, values } = &rule.matches else { continue };
            let at = self.paths.iter().position(|known| known.path == *path).unwrap_or_else(|| {
                self.paths.push(AttributePath { path: path.clone(), keys: HashMap::new() });
                self.paths.len() - 1
            });
            let Some(known) = self.paths.get_mut(at) else { continue };
            for (value, _) in values {
                let next = self.keys;
                if *known.keys.entry(value.clone()).or_insert(next) == next {
                    self.keys += 1;
                }
            }
        }
    }

    /// Returns the paths and values to look for in a snapshot.
    pub fn paths(&self) -> &[AttributePath] {
        &self.paths
    }

    /// Tells if all values that `other` asks for are asked for here as well.
    pub fn covers(&self, other: &Attributes) -> bool {
        let has = |path: &str, value: &String| self.key(path, value).is_some();
        other.paths.iter().all(|path| path.keys.keys().all(|value| has(&path.path, value)))
    }

    pub(crate) fn key(&self, path: &str, value: &str) -> Option<u32> {
        self.paths.iter().find(|known| known.path == path)?.keys.get(value).copied()
    }

    /// Notes the keys that a snapshot has.
    pub fn note(&mut self, seq: Seq, part: Part, user: u32, keys: &[u32]) {
        if !keys.is_empty() {
            self.matches.insert((seq32(seq), part), keys.into());
            self.holders.extend(keys.iter().map(|key| (*key, user)));
        }
    }

    pub(crate) fn of_snapshot(&self, seq: Seq32, part: Part) -> &[u32] {
        self.matches.get(&(seq, part)).map_or(&[], |keys| keys)
    }

    /// Iterates over the notes of users' versions, for the keys of `wanted`: as many as a fold of
    /// the same records notes, in the order of the users.
    fn notes<'a>(
        &'a self,
        users: &'a Entities,
        wanted: &Attributes,
    ) -> impl Iterator<Item = Note> + use<'a> {
        let mut numbers: HashMap<u32, u32, FxBuildHasher> = HashMap::default();
        for AttributePath { path, keys } in &self.paths {
            for (value, key) in keys {
                numbers.extend(wanted.key(path, value).map(|number| (*key, number)));
            }
        }
        let all = if self.matches.is_empty() { None } else { Some(users.iter()) };
        let versions = all.into_iter().flatten().flat_map(|(user, entity)| {
            let there = entity.versions().filter(|version| !version.deleted);
            there.map(move |version| (user, version))
        });
        versions.filter_map(move |(user, version)| {
            let (seq, part) = (version.place.seq, version.part);
            let keys = self.of_snapshot(seq, part).iter();
            let mut keys: SmallVec<[u32; 2]> =
                keys.filter_map(|key| numbers.get(key)).copied().collect();
            keys.sort_unstable();
            (!keys.is_empty()).then_some(Note { seq, part, user, keys })
        })
    }

    /// Writes the notes. Those of values that no mapping names, as one that is only proposed may,
    /// are left out, and the keys are numbered as `wanted` does.
    pub(super) fn pack_notes(&self, users: &Entities, wanted: &Attributes, to: &mut Packer<'_>) {
        to.count(self.notes(users, wanted).count());
        self.notes(users, wanted).for_each(|note| note.pack(to));
    }

    /// Reads notes and adds them.
    pub(super) fn unpack_notes(&mut self, from: &mut Unpacker<'_>) -> Option<()> {
        from.each(|Note { seq, part, user, keys }| self.note(Seq::from(seq), part, user, &keys))
    }

    pub(crate) fn holders(&self, key: u32) -> impl Iterator<Item = Sym> {
        self.holders.range((key, 0)..=(key, Sym::MAX)).map(|(_, user)| *user)
    }
}

/// The keys of one version of a user, in order.
struct Note {
    seq: Seq32,
    part: Part,
    user: Sym,
    keys: SmallVec<[u32; 2]>,
}

pack_fields!(Note { seq, part, user, keys });
