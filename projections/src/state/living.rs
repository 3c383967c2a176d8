//! Counts of the users and groups that exist in each directory by all that is known.

use hashbrown::HashMap;
use rustc_hash::FxBuildHasher;

use crate::ground::pack::pack_fields;
use crate::ground::symbols::Sym;
use crate::state::entities::{EntityKind, EntityVersion};

/// The directory in which something exists, and the count to which it belongs there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LivingAs {
    directory: Sym,
    kind: LivingKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LivingKind {
    ActiveUser,
    InactiveUser,
    Group,
}

impl LivingAs {
    /// Returns the count to which an entity belongs that exists with a version.
    pub(crate) fn of(kind: EntityKind, version: &EntityVersion) -> LivingAs {
        let counted = match kind {
            EntityKind::Group => LivingKind::Group,
            EntityKind::User if version.active => LivingKind::ActiveUser,
            EntityKind::User => LivingKind::InactiveUser,
        };
        LivingAs { directory: version.directory, kind: counted }
    }
}

/// The counts of one directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LivingCounts {
    pub(crate) active_users: u64,
    pub(crate) inactive_users: u64,
    pub(crate) groups: u64,
}

/// The counts of all directories. They are kept by the fold, so that a question about a large
/// directory does not count it.
#[derive(Clone, Default)]
pub struct Living(HashMap<Sym, LivingCounts, FxBuildHasher>);

impl Living {
    /// Moves something from one count to another; `None` while it does not exist.
    pub(crate) fn change(&mut self, before: Option<LivingAs>, after: Option<LivingAs>) {
        if before == after {
            return;
        }
        for (counted, change) in [(before, -1), (after, 1)] {
            let Some(LivingAs { directory, kind }) = counted else { continue };
            let counts = self.0.entry(directory).or_default();
            let count = match kind {
                LivingKind::ActiveUser => &mut counts.active_users,
                LivingKind::InactiveUser => &mut counts.inactive_users,
                LivingKind::Group => &mut counts.groups,
            };
            *count = count.saturating_add_signed(change);
        }
    }

    /// Returns the sums over all directories.
    pub(crate) fn total(&self) -> LivingCounts {
        let add = |a: LivingCounts, b: &LivingCounts| LivingCounts {
            active_users: a.active_users + b.active_users,
            inactive_users: a.inactive_users + b.inactive_users,
            groups: a.groups + b.groups,
        };
        self.0.values().fold(LivingCounts::default(), add)
    }

    pub(crate) fn of(&self, directory: Sym) -> LivingCounts {
        self.0.get(&directory).copied().unwrap_or_default()
    }
}

pack_fields!(LivingCounts { active_users, inactive_users, groups });

pack_fields!(Living(counts));
