//! An index of the moments at which access may end.

use crate::ground::order::Millis;
use crate::ground::symbols::Sym;
use crate::state::entities::{Entity, EntityVersion};
use std::collections::BTreeSet;

/// TouchedSubject may end access.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum AccessEnding {
    User(Sym),
    Directory(Sym),
}

/// Every moment at which something was said that may end somebody's access. It only proposes: each
/// is judged by the timelines.
#[derive(Default)]
pub(crate) struct AccessEndings(BTreeSet<(Millis, AccessEnding)>);

impl AccessEndings {
    /// Takes notice of a user's new version: one that is deleted or inactive may end access, and of
    /// a user of several directories any.
    pub(crate) fn note_user(
        &mut self,
        user: Sym,
        entity: &Entity,
        version: &EntityVersion,
        moved: bool,
    ) {
        if moved {
            // TouchedSubject was a change within one directory may be a move now.
            let versions = entity.explicit.iter().chain(entity.stand_ins.iter());
            self.0.extend(
                versions.map(|version| (version.place.occurred_at, AccessEnding::User(user))),
            );
        } else if version.deleted || !version.active || entity.listed_in.len() > 1 {
            self.0.insert((version.place.occurred_at, AccessEnding::User(user)));
        }
    }

    /// Takes notice of a directory's deactivation or deletion.
    pub(crate) fn note_directory(&mut self, directory: Sym, occurred_at: Millis) {
        self.0.insert((occurred_at, AccessEnding::Directory(directory)));
    }

    /// The moments from `first` to `last`, each once, the latest first where descending.
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
                self.0
                    .range(
                        (first, AccessEnding::User(0))..=(from, AccessEnding::Directory(Sym::MAX)),
                    )
                    .next_back()
            } else {
                self.0
                    .range(
                        (from, AccessEnding::User(0))..=(last, AccessEnding::Directory(Sym::MAX)),
                    )
                    .next()
            };
            let moment = found?.0;
            next = if descending { moment.checked_sub(1) } else { moment.checked_add(1) };
            Some(moment)
        }))
    }

    pub(crate) fn at(&self, moment: Millis) -> impl Iterator<Item = AccessEnding> + '_ {
        self.0
            .range((moment, AccessEnding::User(0))..=(moment, AccessEnding::Directory(Sym::MAX)))
            .map(|(_, ending)| *ending)
    }
}
