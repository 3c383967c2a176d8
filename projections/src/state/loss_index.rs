//! An index of the moments at which access may end.

use std::collections::BTreeSet;

use crate::ground::memory;
use crate::ground::order::Millis;
use crate::ground::pack::{pack_fields, pack_variants};
use crate::ground::symbols::{NO_SYM, Sym};
use crate::state::entities::{Entity, EntityVersion};

/// A user or a directory whose event may end access.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum LossCandidate {
    User(Sym),
    Directory(Sym),
}

/// The least and the greatest, for bounds.
const FIRST: LossCandidate = LossCandidate::User(0);
const LAST: LossCandidate = LossCandidate::Directory(Sym::MAX);

/// Every moment at which an event may end a user's access. It only proposes: each is judged by the
/// timelines.
#[derive(Default)]
pub(crate) struct LossIndex {
    all: BTreeSet<(Millis, LossCandidate)>,
    /// The same by each directory in which the user ever was, or which the event is about. Under
    /// [`NO_SYM`] are the users who were ever in none.
    by_directory: BTreeSet<(Sym, Millis, LossCandidate)>,
    /// The users of whom a version, no deletion, has no directory.
    homeless: BTreeSet<Sym>,
}

/// The moments of all users, or of those who were ever in some directories.
#[derive(Clone, Copy)]
pub(crate) enum LossScope<'d> {
    All,
    Of(&'d [Sym]),
}

impl LossIndex {
    /// Notes a user's new version. A deleted or inactive one may end access; so may any version of
    /// a user of several directories. `entered` says that the user was just listed in another
    /// directory.
    pub(crate) fn note_user(
        &mut self,
        user: Sym,
        entity: &Entity,
        version: &EntityVersion,
        entered: bool,
    ) {
        let moved = entity.listed_in().len() > 1;
        let is_ending = |version: &EntityVersion| moved || version.deleted || !version.active;
        let is_homeless = version.directory == NO_SYM && !version.deleted;
        if is_homeless {
            self.homeless.insert(user);
        }
        if entered || is_homeless {
            // An earlier change within one directory may be a move now.
            for ending in entity.versions().filter(|version| is_ending(version)) {
                self.insert(user, entity, ending.place.occurred_at);
            }
        } else if is_ending(version) {
            self.insert(user, entity, version.place.occurred_at);
        }
    }

    fn insert(&mut self, user: Sym, entity: &Entity, moment: Millis) {
        let candidate = LossCandidate::User(user);
        self.all.insert((moment, candidate));
        for directory in entity.listed_in() {
            self.by_directory.insert((*directory, moment, candidate));
        }
        if self.homeless.contains(&user) {
            self.by_directory.insert((NO_SYM, moment, candidate));
        }
    }

    /// Notes a directory's deactivation or deletion.
    pub(crate) fn note_directory(&mut self, directory: Sym, occurred_at: Millis) {
        let candidate = LossCandidate::Directory(directory);
        self.all.insert((occurred_at, candidate));
        self.by_directory.insert((directory, occurred_at, candidate));
    }

    /// Returns about the bytes of memory that it takes.
    pub(crate) fn heap_bytes(&self) -> usize {
        memory::of_set(&self.all)
            + memory::of_set(&self.by_directory)
            + memory::of_set(&self.homeless)
    }

    /// Iterates over the moments from `first` to `last`, each once, the latest first if descending.
    /// Each costs a look-up in every directory of the scope.
    pub(crate) fn moments<'a>(
        &'a self,
        scope: LossScope<'_>,
        first: Millis,
        last: Millis,
        descending: bool,
    ) -> Box<dyn Iterator<Item = Millis> + 'a> {
        let directories: Option<Vec<Sym>> = match scope {
            LossScope::All => None,
            LossScope::Of(directories) => Some(directories.to_vec()),
        };
        let mut next = Some(if descending { last } else { first });
        Box::new(core::iter::from_fn(move || {
            let from = next.filter(|from| (first..=last).contains(from))?;
            let (low, high) = if descending { (first, from) } else { (from, last) };
            let moment = match &directories {
                None => self.nearest(low, high, descending),
                Some(directories) => {
                    let found = directories.iter();
                    let found =
                        found.filter_map(|sym| self.nearest_in(*sym, low, high, descending));
                    if descending { found.max() } else { found.min() }
                }
            }?;
            next = if descending { moment.checked_sub(1) } else { moment.checked_add(1) };
            Some(moment)
        }))
    }

    fn nearest(&self, low: Millis, high: Millis, descending: bool) -> Option<Millis> {
        let mut range = self.all.range((low, FIRST)..=(high, LAST));
        let found = if descending { range.next_back() } else { range.next() };
        found.map(|(moment, _)| *moment)
    }

    fn nearest_in(
        &self,
        directory: Sym,
        low: Millis,
        high: Millis,
        descending: bool,
    ) -> Option<Millis> {
        let mut range = self.by_directory.range((directory, low, FIRST)..=(directory, high, LAST));
        let found = if descending { range.next_back() } else { range.next() };
        found.map(|(_, moment, _)| *moment)
    }

    /// Returns the candidates of a moment. One of several directories may be there more than once.
    pub(crate) fn at(&self, scope: LossScope<'_>, moment: Millis) -> Vec<LossCandidate> {
        match scope {
            LossScope::All => {
                let range = self.all.range((moment, FIRST)..=(moment, LAST));
                range.map(|(_, candidate)| *candidate).collect()
            }
            LossScope::Of(directories) => {
                let range = |sym: &Sym| {
                    self.by_directory.range((*sym, moment, FIRST)..=(*sym, moment, LAST))
                };
                directories.iter().flat_map(range).map(|(_, _, candidate)| *candidate).collect()
            }
        }
    }
}

pack_fields!(LossIndex { all, by_directory, homeless });

pack_variants!(LossCandidate { Directory(sym) = 0, User(sym) = 1 });
