//! An index of the moments at which access may end.

use crate::ground::names::Name;
use crate::ground::order::Millis;
use crate::state::entities::{Entity, Version};
use std::collections::BTreeSet;

/// What may end access.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Ending {
    User(Name),
    Directory(Name),
}

/// Every moment at which something was said that may end somebody's access. It only proposes: each
/// is judged by the timelines.
#[derive(Default)]
pub(crate) struct Endings(BTreeSet<(Millis, Ending)>);

impl Endings {
    /// Takes notice of a user's new version: one that is deleted or inactive may end access, and of
    /// a user of several directories any.
    pub(crate) fn note_user(
        &mut self,
        user: Name,
        entity: &Entity,
        version: &Version,
        moved: bool,
    ) {
        if moved {
            // What was a change within one directory may be a move now.
            let versions = entity.explicit.iter().chain(entity.stand_ins.iter());
            self.0.extend(versions.map(|version| (version.place.occurred_at, Ending::User(user))));
        } else if version.deleted || !version.active || entity.listed_in.len() > 1 {
            self.0.insert((version.place.occurred_at, Ending::User(user)));
        }
    }

    /// Takes notice of a directory's deactivation or deletion.
    pub(crate) fn note_directory(&mut self, directory: Name, occurred_at: Millis) {
        self.0.insert((occurred_at, Ending::Directory(directory)));
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
                    .range((first, Ending::User(0))..=(from, Ending::Directory(Name::MAX)))
                    .next_back()
            } else {
                self.0.range((from, Ending::User(0))..=(last, Ending::Directory(Name::MAX))).next()
            };
            let moment = found?.0;
            next = if descending { moment.checked_sub(1) } else { moment.checked_add(1) };
            Some(moment)
        }))
    }

    pub(crate) fn at(&self, moment: Millis) -> impl Iterator<Item = Ending> + '_ {
        self.0
            .range((moment, Ending::User(0))..=(moment, Ending::Directory(Name::MAX)))
            .map(|(_, ending)| *ending)
    }
}
