//! The first comparison of a directory: the candidates for differences, and what would end.

use std::io;
use std::path::Path;

use rollcall_projections::HeldKind;

use super::guard::Ends;
use super::listing::{Listed, Seen, ids_of, key_of};
use super::ours::{OurThing, Ours};
use super::progress::DifferentKind;
use super::shown::Moved;
use super::sort::{Entries, Entry, Sorted, Spool};
use super::trouble::Trouble;

/// The state of a candidate after the first comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Candidate {
    /// The source has it, and no record ever named it.
    New(Seen),
    /// The source has it, the log does not any more.
    MissingHere,
    /// Both have it, with other fields.
    Differs,
    /// The log has it, the source does not.
    MissingThere,
}

const NEW: u8 = 0;
const MISSING_HERE: u8 = 1;
const DIFFERS: u8 = 2;
const MISSING_THERE: u8 = 3;

impl Candidate {
    fn encode(self) -> Vec<u8> {
        match self {
            Candidate::New(seen) => [vec![NEW], seen.encode()].concat(),
            Candidate::MissingHere => vec![MISSING_HERE],
            Candidate::Differs => vec![DIFFERS],
            Candidate::MissingThere => vec![MISSING_THERE],
        }
    }

    /// Reads one that was written here.
    pub(super) fn decode(bytes: &[u8]) -> io::Result<Candidate> {
        let (code, rest) = bytes.split_first().ok_or(io::ErrorKind::InvalidData)?;
        Ok(match *code {
            MISSING_HERE => Candidate::MissingHere,
            DIFFERS => Candidate::Differs,
            MISSING_THERE => Candidate::MissingThere,
            _ => Candidate::New(Seen::decode(rest).ok_or(io::ErrorKind::InvalidData)?),
        })
    }
}

/// The number of candidates of each kind about which the source is asked again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Doubted {
    pub(super) groups: usize,
    pub(super) users: usize,
    pub(super) members: usize,
}

/// What is planned for a directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct DirectoryPlan {
    pub(super) ends: Ends,
    pub(super) doubted: Doubted,
}

/// What the source listed.
pub(super) struct SortedLists {
    pub(super) groups: Sorted,
    pub(super) users: Sorted,
    pub(super) members: Sorted,
}

/// The candidates of all directories, each list in order of directory and id.
pub(super) struct Candidates {
    pub(super) groups: Sorted,
    pub(super) users: Sorted,
    pub(super) members: Sorted,
}

/// The reason why everything in a directory ends with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DirectoryEnd {
    /// It does not end.
    Stays,
    /// It becomes inactive: its users lose their access.
    Inactive,
    /// It is gone, with all that is in it.
    Gone,
}

/// The candidates that are being written, and the lists that are being read along.
pub(super) struct Planner<'a> {
    ours: Ours<'a>,
    moved: &'a Moved,
    lists: [Merge; 3],
    spools: [Spool; 3],
}

/// The directory that is being compared.
struct Planning<'a, 'p> {
    ours: Ours<'a>,
    moved: &'p Moved,
    directory: &'p str,
    listed: &'p Listed,
    end: DirectoryEnd,
    plan: DirectoryPlan,
}

impl<'a> Planner<'a> {
    /// Begins at the first directory.
    ///
    /// # Errors
    /// If a file cannot be read or made.
    pub(super) fn new(
        ours: Ours<'a>,
        lists: &SortedLists,
        moved: &'a Moved,
        folder: &Path,
    ) -> io::Result<Planner<'a>> {
        let SortedLists { groups, users, members } = lists;
        let spool = || Spool::new(folder);
        Ok(Planner {
            ours,
            moved,
            lists: [Merge::new(groups)?, Merge::new(users)?, Merge::new(members)?],
            spools: [spool()?, spool()?, spool()?],
        })
    }

    /// Compares a directory that the source lists. Directories come in order of id.
    pub(super) fn plan(
        &mut self,
        directory: &str,
        listed: &Listed,
        end: DirectoryEnd,
    ) -> Result<DirectoryPlan, Trouble> {
        let plan = DirectoryPlan::default();
        let (ours, moved) = (self.ours, self.moved);
        let mut planning = Planning { ours, moved, directory, listed, end, plan };
        let [groups, users, members] = &mut self.lists;
        let [new_groups, new_users, new_members] = &mut self.spools;
        planning.things(HeldKind::Group, groups, new_groups)?;
        planning.things(HeldKind::User, users, new_users)?;
        planning.members(members, new_members)?;
        Ok(planning.plan)
    }

    /// Ends the lists of candidates.
    pub(super) fn finish(self) -> io::Result<Candidates> {
        let [groups, users, members] = self.spools;
        Ok(Candidates {
            groups: groups.finish()?,
            users: users.finish()?,
            members: members.finish()?,
        })
    }
}

/// Counts what ends with a directory that the source does not have: all but what the source lists
/// in another.
pub(super) fn plan_of_gone(
    ours: Ours<'_>,
    moved: &Moved,
    directory: &str,
) -> Result<DirectoryPlan, Trouble> {
    let mut ends = Ends::default();
    for user in ours.walk_rows(HeldKind::User, directory) {
        let user = user?;
        if user.active {
            ends.users.count(!moved.goes_on(HeldKind::User, &user.row.id));
        }
    }
    for group in ours.walk_rows(HeldKind::Group, directory) {
        let group = group?.row.id;
        let ends_too = !moved.goes_on(HeldKind::Group, &group);
        ends.groups.count(ends_too);
        for member in ours.members(&group) {
            member?;
            ends.memberships.count(ends_too);
        }
    }
    Ok(DirectoryPlan { ends, ..DirectoryPlan::default() })
}

impl Planning<'_, '_> {
    /// Compares the users or the groups of the directory.
    fn things(
        &mut self,
        kind: HeldKind,
        theirs: &mut Merge,
        spool: &mut Spool,
    ) -> Result<(), Trouble> {
        let clean = match kind {
            HeldKind::Group => self.listed.groups_clean,
            HeldKind::User => self.listed.users_clean,
        };
        theirs.before(&key_of(&[self.directory, ""]), &mut |_| Ok(()))?;
        for our in self.ours.walk(kind, self.directory) {
            let our = our?;
            // No list has such an id, and none that lacks it says anything.
            if our.holding.row.id.contains('\0') {
                continue;
            }
            let key = key_of(&[self.directory, &our.holding.row.id]);
            theirs.before(&key, &mut |entry| self.missing_here(kind, entry, spool))?;
            let their = theirs.at(&key)?.map(|entry| seen_of(&entry)).transpose()?;
            let differs = their.is_some_and(|their| their.digest != our.served.digest());
            if their.is_none() && clean {
                self.add(kind.into(), spool, &key, Candidate::MissingThere)?;
            } else if differs {
                self.add(kind.into(), spool, &key, Candidate::Differs)?;
            }
            self.count(kind, &our, their, clean);
        }
        theirs.of(self.directory, &mut |entry| self.missing_here(kind, entry, spool))
    }

    /// Counts a user or group, and if it ends by what the source lists.
    fn count(&mut self, kind: HeldKind, our: &OurThing, their: Option<Seen>, clean: bool) {
        let moves = their.is_none() && self.moved.goes_on(kind, &our.holding.row.id);
        let ends_by_list = their.map_or(clean, |their| !their.goes_on);
        let ends_with_directory = match kind {
            HeldKind::Group => self.end == DirectoryEnd::Gone,
            HeldKind::User => self.end != DirectoryEnd::Stays,
        };
        let ends = !moves && (ends_by_list || ends_with_directory);
        match kind {
            HeldKind::Group => self.plan.ends.groups.count(ends),
            HeldKind::User if our.holding.active => self.plan.ends.users.count(ends),
            HeldKind::User => {}
        }
    }

    fn add(
        &mut self,
        kind: DifferentKind,
        spool: &mut Spool,
        key: &[u8],
        candidate: Candidate,
    ) -> io::Result<()> {
        let doubted = &mut self.plan.doubted;
        let count = match kind {
            DifferentKind::Group => &mut doubted.groups,
            DifferentKind::Membership => &mut doubted.members,
            DifferentKind::User | DifferentKind::Directory => &mut doubted.users,
        };
        *count += usize::from(!matches!(candidate, Candidate::New(_)));
        spool.add(key, &candidate.encode())
    }

    fn missing_here(
        &mut self,
        kind: HeldKind,
        entry: &Entry,
        spool: &mut Spool,
    ) -> Result<(), Trouble> {
        let seen = seen_of(entry)?;
        let [_, id] = ids_of(&entry.key)?;
        let views = self.ours.engine.views();
        // It may have come since it was listed, and then its text is not kept.
        let is_new = seen.text.is_some() && !views.ever_held(kind, id);
        let is_held = views.holding(kind, id, self.ours.cut).is_some();
        drop(views);
        let candidate = match (is_new, is_held) {
            (true, _) => Candidate::New(seen),
            // It is held in another directory.
            (false, true) => Candidate::Differs,
            (false, false) => Candidate::MissingHere,
        };
        Ok(self.add(kind.into(), spool, &entry.key, candidate)?)
    }

    /// Compares the memberships of the directory's groups.
    fn members(&mut self, theirs: &mut Merge, spool: &mut Spool) -> Result<(), Trouble> {
        theirs.before(&key_of(&[self.directory, ""]), &mut |_| Ok(()))?;
        for group in self.ours.walk_rows(HeldKind::Group, self.directory) {
            let group = group?.row.id;
            if group.contains('\0') {
                continue;
            }
            let is_listed = self.listed.groups.contains(&group);
            let moves = !is_listed && self.moved.goes_on(HeldKind::Group, &group);
            let clean = is_listed && !self.listed.undecided_groups.contains(&group);
            // Those of a group that is gone end with it, and those of one that moved do not.
            let gone = !is_listed && self.listed.groups_clean && !moves;
            for user in self.ours.members(&group) {
                let user = user?;
                if user.contains('\0') {
                    continue;
                }
                let key = key_of(&[self.directory, &group, &user]);
                theirs.before(&key, &mut |entry| self.new_member(entry, spool))?;
                let absent = theirs.at(&key)?.is_none();
                if absent && clean {
                    self.add(DifferentKind::Membership, spool, &key, Candidate::MissingThere)?;
                }
                self.plan.ends.memberships.count(gone || (absent && clean));
            }
        }
        theirs.of(self.directory, &mut |entry| self.new_member(entry, spool))
    }

    fn new_member(&mut self, entry: &Entry, spool: &mut Spool) -> Result<(), Trouble> {
        let [_, group, user] = ids_of(&entry.key)?;
        let views = self.ours.engine.views();
        // The group may be held in another directory.
        if views.holds_membership(user, group, self.ours.cut) {
            return Ok(());
        }
        let is_known = views.ever_connected(user, group);
        drop(views);
        let candidate =
            if is_known { Candidate::MissingHere } else { Candidate::New(Seen::of_member(entry)?) };
        Ok(self.add(DifferentKind::Membership, spool, &entry.key, candidate)?)
    }
}

impl From<HeldKind> for DifferentKind {
    fn from(kind: HeldKind) -> DifferentKind {
        match kind {
            HeldKind::Group => DifferentKind::Group,
            HeldKind::User => DifferentKind::User,
        }
    }
}

fn seen_of(entry: &Entry) -> io::Result<Seen> {
    Seen::decode(&entry.value).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// A sorted list that is walked along with another.
pub(super) struct Merge {
    entries: Entries,
    next: Option<Entry>,
}

impl Merge {
    pub(super) fn new(list: &Sorted) -> io::Result<Merge> {
        let mut entries = list.entries()?;
        let next = entries.next().transpose()?;
        Ok(Merge { entries, next })
    }

    /// Returns the directory of the next entry.
    pub(super) fn directory(&self) -> Option<String> {
        let key = self.next.as_ref()?.key.split(|byte| *byte == 0).next()?;
        String::from_utf8(key.to_vec()).ok()
    }

    /// Passes the entries before a key.
    pub(super) fn before(
        &mut self,
        key: &[u8],
        each: &mut dyn FnMut(&Entry) -> Result<(), Trouble>,
    ) -> Result<(), Trouble> {
        while let Some(entry) = self.next.take_if(|entry| entry.key.as_slice() < key) {
            each(&entry)?;
            self.next = self.entries.next().transpose()?;
        }
        Ok(())
    }

    /// Takes the entry of a key, if it is the next.
    pub(super) fn at(&mut self, key: &[u8]) -> io::Result<Option<Entry>> {
        let found = self.next.take_if(|entry| entry.key == key);
        if found.is_some() {
            self.next = self.entries.next().transpose()?;
        }
        Ok(found)
    }

    /// Passes the entries of a directory that are left.
    pub(super) fn of(
        &mut self,
        directory: &str,
        each: &mut dyn FnMut(&Entry) -> Result<(), Trouble>,
    ) -> Result<(), Trouble> {
        let prefix = key_of(&[directory, ""]);
        while let Some(entry) = self.next.take_if(|entry| entry.key.starts_with(&prefix)) {
            each(&entry)?;
            self.next = self.entries.next().transpose()?;
        }
        Ok(())
    }
}
