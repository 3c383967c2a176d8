//! An index of the moments at which access may end.

use std::collections::BTreeSet;

use crate::ground::order::Millis;
use crate::ground::symbols::Sym;
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
pub(crate) struct LossIndex(BTreeSet<(Millis, LossCandidate)>);

impl LossIndex {
    /// Notes a user's new version. A deleted or inactive one may end access; so may any version of
    /// a user of several directories. `moved` says that the user just entered another directory.
    pub(crate) fn note_user(
        &mut self,
        user: Sym,
        entity: &Entity,
        version: &EntityVersion,
        moved: bool,
    ) {
        let ending =
            |version: &EntityVersion| (version.place.occurred_at, LossCandidate::User(user));
        if moved {
            // An earlier change within one directory may be a move now.
            self.0.extend(entity.versions().map(ending));
        } else if version.deleted || !version.active || entity.listed_in().len() > 1 {
            self.0.insert(ending(version));
        }
    }

    /// Notes a directory's deactivation or deletion.
    pub(crate) fn note_directory(&mut self, directory: Sym, occurred_at: Millis) {
        self.0.insert((occurred_at, LossCandidate::Directory(directory)));
    }

    /// Iterates over the moments from `first` to `last`, each once, the latest first if descending.
    pub(crate) fn moments(
        &self,
        first: Millis,
        last: Millis,
        descending: bool,
    ) -> Box<dyn Iterator<Item = Millis> + '_> {
        let mut next = Some(if descending { last } else { first });
        Box::new(core::iter::from_fn(move || {
            let from = next.filter(|from| (first..=last).contains(from))?;
            let found = if descending {
                self.0.range((first, FIRST)..=(from, LAST)).next_back()
            } else {
                self.0.range((from, FIRST)..=(last, LAST)).next()
            };
            let moment = found?.0;
            next = if descending { moment.checked_sub(1) } else { moment.checked_add(1) };
            Some(moment)
        }))
    }

    pub(crate) fn at(&self, moment: Millis) -> impl Iterator<Item = LossCandidate> + '_ {
        self.0.range((moment, FIRST)..=(moment, LAST)).map(|(_, ending)| *ending)
    }
}
