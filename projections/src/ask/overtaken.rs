//! Overtaken endings: deletions that end no access, because something dated later is known.

use crate::ground::fact::{Change, DirectoryChange, Entry, Fact};
use crate::ground::order::{Cut, Seq};
use crate::ground::symbols::Sym;
use crate::state::entities::EntityKind;
use crate::views::Views;

impl Views {
    /// Returns the record that is dated later than an entry, was known before it, and keeps it from
    /// ending any access. `None` for an entry that is not a deletion of a user or a directory, nor
    /// a version that makes a user inactive. The entry must be the newest that is folded.
    ///
    /// Costs a look-up; for a directory that outlives its deletion two for each of its users, up to
    /// the first whose access ended.
    pub(crate) fn overtaken_by(&self, entry: &Entry<'_>) -> Option<Seq> {
        match &entry.fact {
            Fact::User(Change::Deleted, data) => self.later_version(data.id, false),
            Fact::User(Change::Set, data) if !data.active => self.later_version(data.id, true),
            Fact::Directory { change: DirectoryChange::Deleted, id, .. } => {
                self.keeps_directory(id, entry.seq)
            }
            _ => None,
        }
    }

    /// Returns the record of a user's latest version, if the user is there by it under any policy,
    /// and if asked for only if it is active: a deletion is void where the user is there at all, an
    /// inactive version where the user is active.
    fn later_version(&self, id: &str, only_active: bool) -> Option<Seq> {
        let user = self.users.find(id)?;
        let version = self.exists(EntityKind::User, user, Cut::LATEST)?;
        (version.active || !only_active).then_some(Seq::from(version.place.seq))
    }

    /// Returns the record of the latest event that brought a directory back, if it came later than
    /// the deletion that record `seq` states and that deletion ended no user's access.
    fn keeps_directory(&self, id: &str, seq: Seq) -> Option<Seq> {
        let directory = self.directories.find(id)?;
        let known = self.directories.get(directory)?;
        if known.is_deleted(Cut::LATEST) {
            return None;
        }
        let mut events = known.events().latest_first(Cut::LATEST);
        let later = events.find(|event| event.brings_back())?;
        let before = Cut { known_at: seq.saturating_sub(1), ..Cut::LATEST };
        let has_access = |user: Sym, cut| self.access_basis(user, cut).has_access();
        let mut users = self.users.roster(directory).into_iter().flat_map(|roster| roster.items());
        let ended = users.any(|user| has_access(user, before) && !has_access(user, Cut::LATEST));
        (!ended).then_some(Seq::from(later.place.seq))
    }
}
