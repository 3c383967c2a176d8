//! The judgement of one observation: what it would change, and when it occurs. The writer decides
//! each when it records it, over all that is folded.

use crate::ground::order::{Cut, Millis, Place, Seq};
use crate::ground::symbols::Sym;
use crate::ground::timeline::Placed;
use crate::state::directories::{Directory, DirectoryState};
use crate::state::entities::{Entity, EntityKind};
use crate::views::Views;

/// The thing about which the source was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObservedThing<'a> {
    /// A directory.
    Directory(&'a str),
    /// A user, and the directory in which it was found or sought.
    User(&'a str, &'a str),
    /// A group, and the directory in which it was found or sought.
    Group(&'a str, &'a str),
    /// A user, a group that it may be in, and the group's directory.
    Membership(&'a str, &'a str, &'a str),
}

/// What the source said about a thing, and what that was compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finding<'a> {
    /// The thing.
    pub thing: ObservedThing<'a>,
    /// True if the source knows it.
    pub present: bool,
    /// When the source says that it was last changed.
    pub updated_at: Option<Millis>,
    /// The moment just before the source was asked.
    pub observed_at: Millis,
    /// The record that described the thing when it was compared, if it was there. Of a membership
    /// it is not looked at.
    pub compared_with: Option<Seq>,
}

/// The judgement of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is recorded, and occurs at this moment.
    Occurs(Millis),
    /// It would change nothing.
    Unchanged,
    /// Something about the thing, at or after the moment of the question, is known, or it was
    /// described anew since it was compared.
    Newer,
    /// It is a membership of a user who is not there.
    UnknownUser,
    /// An operator deleted its directory, and no later activation is known.
    DeletedHere,
}

impl Views {
    /// Judges what the source said about one thing, over all that is folded. Inactive users count
    /// as there, whatever the policy is.
    ///
    /// Costs a look at each event of the thing.
    pub fn judge_finding(&self, finding: &Finding<'_>) -> Verdict {
        if self.was_deleted_here(finding.thing) {
            return Verdict::DeletedHere;
        }
        match finding.thing {
            ObservedThing::Directory(id) => self.judge_directory(id, finding),
            ObservedThing::User(id, directory) => {
                self.judge_entity(EntityKind::User, id, directory, finding)
            }
            ObservedThing::Group(id, directory) => {
                self.judge_entity(EntityKind::Group, id, directory, finding)
            }
            ObservedThing::Membership(user, group, directory) => {
                self.judge_membership(user, group, directory, finding)
            }
        }
    }

    /// Tells if the directory of a thing was deleted by an operator, and not activated since.
    fn was_deleted_here(&self, thing: ObservedThing<'_>) -> bool {
        let (ObservedThing::Directory(directory)
        | ObservedThing::User(_, directory)
        | ObservedThing::Group(_, directory)
        | ObservedThing::Membership(_, _, directory)) = thing;
        let known = self.directories.find(directory);
        known.is_some_and(|directory| self.was_deleted_by_operator(directory, Cut::LATEST))
    }

    /// Returns the record that describes a thing at the latest moment, if it is there: a stub of a
    /// directory has none, nor has a membership.
    pub fn described_by(&self, thing: ObservedThing<'_>) -> Option<Seq> {
        let entity = |kind, id| {
            let version = self.exists(kind, self.find(kind, id)?, Cut::LATEST)?;
            Some(Seq::from(version.place.seq))
        };
        match thing {
            ObservedThing::Directory(id) => {
                let directory = self.directories.get(self.directories.find(id)?)?;
                described_by(directory.state(Cut::LATEST))
            }
            ObservedThing::User(id, _) => entity(EntityKind::User, id),
            ObservedThing::Group(id, _) => entity(EntityKind::Group, id),
            ObservedThing::Membership(..) => None,
        }
    }

    fn judge_directory(&self, id: &str, finding: &Finding<'_>) -> Verdict {
        let sym = self.directories.find(id);
        let directory = sym.and_then(|sym| self.directories.get(sym));
        let state = directory.map_or(DirectoryState::Absent, |known| known.state(Cut::LATEST));
        let places = directory.into_iter().flat_map(|known| known.events().iter());
        if self.has_newer(places.map(Placed::place), finding) {
            return Verdict::Newer;
        }
        match (finding.present, state) {
            (false, DirectoryState::Absent) => Verdict::Unchanged,
            (true, _) if described_by(state) != finding.compared_with => Verdict::Newer,
            _ => Verdict::Occurs(finding.observed_at),
        }
    }

    fn judge_entity(
        &self,
        kind: EntityKind,
        id: &str,
        directory: &str,
        finding: &Finding<'_>,
    ) -> Verdict {
        let sym = self.find(kind, id);
        let entity = sym.and_then(|sym| self.entity(kind, sym));
        let there = sym.and_then(|sym| self.exists(kind, sym, Cut::LATEST));
        let places = entity.into_iter().flat_map(|known| known.explicit().iter());
        if self.has_newer(places.map(Placed::place), finding) {
            return Verdict::Newer;
        }
        if !finding.present {
            return match (there, sym) {
                (None, _) => Verdict::Unchanged,
                (Some(_), Some(user)) if self.was_found_in_group(kind, user, finding) => {
                    Verdict::Newer
                }
                _ => Verdict::Occurs(finding.observed_at),
            };
        }
        if there.map(|version| Seq::from(version.place.seq)) != finding.compared_with {
            return Verdict::Newer;
        }
        let directory = self.directories.find(directory).and_then(|sym| self.directories.get(sym));
        self.place_of_version(entity, directory, finding)
    }

    /// Tells if an addition to a group, at or after the moment of the question, shows a user whom
    /// the source did not know.
    fn was_found_in_group(&self, kind: EntityKind, user: Sym, finding: &Finding<'_>) -> bool {
        if !matches!(kind, EntityKind::User) {
            return false;
        }
        let grants = self.pairs_of(user).flat_map(|pair| pair.grants().iter());
        let added = grants.filter(|grant| grant.added()).map(Placed::place);
        self.has_newer(added, finding)
    }

    /// Decides when a user or group, which is present, was as the source describes it: when that
    /// was last changed, if the source says so, and if nothing later is known of it and no later
    /// deletion of its directory; otherwise when the source was asked.
    fn place_of_version(
        &self,
        entity: Option<&Entity>,
        directory: Option<&Directory>,
        finding: &Finding<'_>,
    ) -> Verdict {
        let Finding { updated_at, observed_at, .. } = *finding;
        let occurred = |place: &Place| place.occurred_at;
        let last = entity.and_then(|known| known.explicit().newest()).map(Placed::place);
        let ended = directory.and_then(|known| known.deletions().newest());
        let ended_at = ended.map(occurred);
        if directory.is_some_and(|known| known.is_deleted(Cut::LATEST))
            || ended_at >= Some(observed_at)
        {
            return Verdict::Newer;
        }
        let is_active = directory.is_none_or(|known| {
            known.is_active(Cut::LATEST)
                || matches!(known.state(Cut::LATEST), DirectoryState::Absent)
        });
        let is_latest = |moment: &Millis| {
            *moment <= observed_at
                && last.as_ref().map(occurred) < Some(*moment)
                && ended_at < Some(*moment)
        };
        Verdict::Occurs(updated_at.filter(|_| is_active).filter(is_latest).unwrap_or(observed_at))
    }

    fn judge_membership(
        &self,
        user: &str,
        group: &str,
        directory: &str,
        finding: &Finding<'_>,
    ) -> Verdict {
        let user = self.find(EntityKind::User, user);
        let group = self.find(EntityKind::Group, group);
        let pair = user.zip(group).and_then(|(user, group)| self.memberships.find(user, group));
        let places = pair.into_iter().flat_map(|pair| pair.grants().iter());
        if self.has_newer(places.map(Placed::place), finding) {
            return Verdict::Newer;
        }
        let is_there = |kind, sym: Option<Sym>| {
            sym.filter(|sym| self.exists(kind, *sym, Cut::LATEST).is_some())
        };
        let (user, group) = (is_there(EntityKind::User, user), is_there(EntityKind::Group, group));
        let holds = user.is_some()
            && group.is_some()
            && pair.is_some_and(|pair| self.holds_between_living(pair, Cut::LATEST));
        if holds == finding.present {
            return Verdict::Unchanged;
        }
        match (user, group) {
            _ if holds => Verdict::Occurs(finding.observed_at),
            (None, _) => Verdict::UnknownUser,
            (Some(user), Some(group)) if self.outlives_ends(user, group, directory, finding) => {
                Verdict::Occurs(finding.observed_at)
            }
            _ => Verdict::Newer,
        }
    }

    /// Tells if a membership that begins when the source was asked is later than every end of its
    /// user, of its group and of its directory.
    fn outlives_ends(&self, user: Sym, group: Sym, directory: &str, finding: &Finding<'_>) -> bool {
        let directory = self.directories.find(directory).and_then(|sym| self.directories.get(sym));
        let ends = [
            self.users.get(user).and_then(|user| user.tombstones().newest()),
            self.groups.get(group).and_then(|group| group.tombstones().newest()),
            directory.and_then(|directory| directory.deletions().newest()),
        ];
        ends.into_iter().flatten().all(|end| end.occurred_at < finding.observed_at)
    }

    /// Tells if one of some events occurred at or after the moment of the question, or if the
    /// source was asked again for one of them then.
    fn has_newer(&self, places: impl Iterator<Item = Place>, finding: &Finding<'_>) -> bool {
        let mut seen = places.map(|place| self.observations.seen_at(place).max(place.occurred_at));
        seen.any(|moment| moment >= finding.observed_at)
    }
}

/// Returns the record that describes a directory in a state.
fn described_by(state: DirectoryState) -> Option<Seq> {
    match state {
        DirectoryState::Live(version) => Some(Seq::from(version.place.seq)),
        DirectoryState::Stub | DirectoryState::Absent => None,
    }
}
