//! The same person again: a user who ended, and a later user of the same directory with the same id
//! at the identity provider.
//!
//! A source that deletes and provisions a user anew gives it another id. Nothing is inherited from
//! the one to the other: this only says that they belong together.

use std::collections::BTreeSet;

use crate::ask::runs::MergedMoments;
use crate::ground::fact::DirectoryChange;
use crate::ground::order::{Cut, Millis, Place, Seq};
use crate::ground::symbols::{NO_SYM, Sym};
use crate::sight::Seen;
use crate::state::entities::{Entity, EntityKind, EntityVersion};
use crate::views::Views;

/// A user who is the same person under another id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtherUser {
    /// The other id.
    pub user: String,
    /// When the later user was first seen, or when the earlier one ended.
    pub at: Millis,
}

/// The users who are the same person as one user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SamePerson {
    /// The first user after its last end, with the moment from which it is known. If only a
    /// comparison with the source found the end, it may be known from an earlier moment on.
    pub succeeded_by: Option<OtherUser>,
    /// The user whose successor it is, with the last end of that user. Of several it is the one that
    /// ended last; of these the one with the lowest id.
    pub preceded_by: Option<OtherUser>,
}

/// The facts by which two users are the same person.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Person {
    directory: Sym,
    idp_id: Sym,
}

impl Person {
    /// Returns the person of a version; `None` without an id at the identity provider.
    fn of(version: &EntityVersion) -> Option<Person> {
        let EntityVersion { directory, idp_id, .. } = *version;
        (directory != NO_SYM && idp_id != NO_SYM).then_some(Person { directory, idp_id })
    }
}

/// The end of a user.
#[derive(Clone, Copy)]
pub(crate) struct UserEnd {
    /// The moment from which on the user has not been alive.
    pub(crate) at: Millis,
    /// The moment after which it may have ended: `at`, or an earlier one if only a comparison with
    /// the source found the end.
    after: Millis,
}

impl Seen<'_> {
    /// Returns the users who are the same person as a user at the cut, as far as they are seen.
    ///
    /// Costs a few look-ups for each user who ever had the same id at the identity provider, and a
    /// pass over the turns of the user itself if there is another.
    pub fn same_person(&self, user: &str, cut: Cut) -> SamePerson {
        let user = self.entity_sym(EntityKind::User, user, cut);
        user.map_or_else(SamePerson::default, |user| self.same_person_as(user, cut))
    }

    pub(crate) fn same_person_as(&self, user: Sym, cut: Cut) -> SamePerson {
        let shown = |(other, at): (Sym, Millis)| {
            let is_seen = self.sees_entity(EntityKind::User, other, cut);
            is_seen.then(|| OtherUser { user: self.users.id(other).to_owned(), at })
        };
        SamePerson {
            succeeded_by: self.successor(user, cut).and_then(shown),
            preceded_by: self.predecessor(user, cut).and_then(shown),
        }
    }
}

impl Views {
    /// Returns the number of users that may be the same person as a user, itself included: a
    /// measure of the work that [`Seen::same_person_as`] does.
    pub(crate) fn namesakes_by_idp_id(&self, user: Sym) -> usize {
        let entity = self.users.get(user);
        if let Some(idp_id) = entity.and_then(Entity::only_idp_id) {
            return self.idp_ids.holders(idp_id).count();
        }
        let versions = entity.into_iter().flat_map(Entity::turning);
        let idp_ids: BTreeSet<Sym> = versions.map(|version| version.idp_id).collect();
        idp_ids.into_iter().map(|idp_id| self.idp_ids.holders(idp_id).count()).sum()
    }

    /// Returns the user who is the same person as one that has ended, and when it was first seen
    /// after the moment from which on that one may have ended.
    fn successor(&self, user: Sym, cut: Cut) -> Option<(Sym, Millis)> {
        let person = self.person_of(user, cut)?;
        if !self.has_namesakes(user, person.idp_id) {
            return None;
        }
        let end = self.end_of_user(user, cut)?;
        self.first_after(person, user, end.after, cut)
    }

    /// Returns the user whose successor a user is, and the end of that one.
    fn predecessor(&self, user: Sym, cut: Cut) -> Option<(Sym, Millis)> {
        let entity = self.users.get(user)?;
        if entity.only_idp_id().is_some_and(|idp_id| !self.has_namesakes(user, idp_id)) {
            return None;
        }
        // Versions that are alike are one person.
        let persons: BTreeSet<Person> = lived_turns(entity, cut).filter_map(Person::of).collect();
        let persons = persons.into_iter().filter(|person| self.has_namesakes(user, person.idp_id));
        let found = persons.filter_map(|person| self.predecessor_as(person, user, cut));
        found.max_by(|a, b| self.compare_ends(*a, *b))
    }

    fn predecessor_as(&self, person: Person, user: Sym, cut: Cut) -> Option<(Sym, Millis)> {
        let others = self.idp_ids.holders(person.idp_id).filter(|other| *other != user);
        let mut ended: Vec<(Sym, UserEnd)> = others
            .filter(|other| self.person_of(*other, cut) == Some(person))
            .filter_map(|other| Some((other, self.end_of_user(other, cut)?)))
            .collect();
        // Those that ended last come first: each costs a look at all others.
        ended.sort_by(|(a, end), (b, other)| self.compare_ends((*b, other.at), (*a, end.at)));
        let is_successor = |(other, end): &(Sym, UserEnd)| {
            let next = self.first_after(person, *other, end.after, cut);
            next.is_some_and(|(next, _)| next == user)
        };
        ended.into_iter().find(is_successor).map(|(other, end)| (other, end.at))
    }

    /// Orders users by their ends. The later end is greater, and of two at one moment the lower id.
    fn compare_ends(&self, a: (Sym, Millis), b: (Sym, Millis)) -> core::cmp::Ordering {
        let id = |(user, _): (Sym, Millis)| self.users.id(user);
        a.1.cmp(&b.1).then_with(|| id(b).cmp(id(a)))
    }

    /// Tells if another user ever had an id at the identity provider.
    fn has_namesakes(&self, user: Sym, idp_id: Sym) -> bool {
        self.idp_ids.holders(idp_id).any(|other| other != user)
    }

    /// Returns the person that a user is at the cut: by its last version that is not a deletion, or
    /// by its deletion if no other version is known.
    fn person_of(&self, user: Sym, cut: Cut) -> Option<Person> {
        let lived = |version: &EntityVersion| !version.deleted;
        let version = self.last_version(EntityKind::User, user, cut, lived).filter(|v| lived(v));
        let version = version.or_else(|| self.placed_version(EntityKind::User, user, cut));
        version.and_then(Person::of)
    }

    /// Returns the last end of a user, which has not been alive since, up to the cut; `None` if it
    /// is alive, or if nothing is known of it.
    pub(crate) fn end_of_user(&self, user: Sym, cut: Cut) -> Option<UserEnd> {
        let entity = self.users.get(user)?;
        let turns = |from, descending| {
            self.turn_walks(entity, self.presence_of_users(), from, descending, cut)
        };
        let first = MergedMoments::of(turns(Millis::MIN, false), false).next()?;
        let directories = entity.listed_in().iter().copied();
        let events = self.directory_walks(directories, cut.as_of, true, cut);
        let walks = turns(cut.as_of, true).into_iter().chain(events);
        let mut past = MergedMoments::of(walks, true);
        let policies = self.policies.iter().filter(|policy| policy.seq <= cut.known_at);
        past.add(policies.map(|policy| policy.effective_from), cut.as_of, cut);
        let ended = past.take_while(|moment| {
            let then = Cut { as_of: *moment, ..cut };
            *moment >= first && self.alive(EntityKind::User, user, then).is_none()
        });
        let at = ended.last()?;
        Some(UserEnd { at, after: self.may_have_ended_after(user, at, cut) })
    }

    /// Returns the moment after which a user may have ended. Where the source was only asked
    /// whether it is there, that is the last moment at which it was shown, and without one that of
    /// its last version.
    fn may_have_ended_after(&self, user: Sym, end: Millis, cut: Cut) -> Millis {
        if !self.is_end_observed(user, end, cut) {
            return end;
        }
        let last_version = || last_lived_before(self.users.get(user)?, end, cut);
        self.last_shown(user, end, cut).or_else(last_version).unwrap_or(end)
    }

    /// Tells if the last of the events that ended a user at a moment is an observation.
    fn is_end_observed(&self, user: Sym, end: Millis, cut: Cut) -> bool {
        let then = Cut { as_of: end, ..cut };
        let version = self.users.get(user).and_then(|user| user.version(then));
        let Some(version) = version else { return false };
        let directory = self.directory_of(user, version, then);
        let deletion = self.directory_turned(directory, DirectoryChange::Deleted, then);
        let here = [Some(version.place), deletion].into_iter().flatten();
        let here = here.filter(|place| place.occurred_at == end);
        self.last_of(here).is_some_and(|place| self.is_observation(Seq::from(place.seq)))
    }

    /// Returns the first user other than `user` that shows a person after a moment, up to the cut,
    /// and when.
    fn first_after(
        &self,
        person: Person,
        user: Sym,
        moment: Millis,
        cut: Cut,
    ) -> Option<(Sym, Millis)> {
        let others = self.idp_ids.holders(person.idp_id).filter(|other| *other != user);
        let first = |other| Some((self.first_showing(person, other, moment, cut)?, other));
        let firsts = others.filter_map(first);
        let (place, other) = firsts.min_by(|(a, _), (b, _)| self.ids.compare(*a, *b))?;
        Some((other, place.occurred_at))
    }

    /// Returns the place of the first version of a user, after a moment and up to the cut, that
    /// shows a person.
    fn first_showing(&self, person: Person, user: Sym, moment: Millis, cut: Cut) -> Option<Place> {
        let (entity, since) = (self.users.get(user)?, moment.checked_add(1)?);
        let shows =
            |version: &&EntityVersion| !version.deleted && Person::of(version) == Some(person);
        let explicit = entity.explicit().seen_since(since, cut).find(shows);
        let stand_in =
            entity.stand_ins().seen_since(since, entity.before_explicit(cut)).find(shows);
        let firsts = [explicit, stand_in].into_iter().flatten().map(|version| version.place);
        firsts.min_by(|a, b| self.ids.compare(*a, *b))
    }
}

/// Iterates over the turns of a user, up to the cut, that are no deletions. A snapshot counts as
/// [`Entity::before_explicit`] says.
fn lived_turns(entity: &Entity, cut: Cut) -> impl Iterator<Item = &EntityVersion> {
    let before = entity.before_explicit(cut);
    let counts = move |version: &&EntityVersion| {
        let cut = if version.part.is_explicit() { cut } else { before };
        !version.deleted && cut.sees(version.place)
    };
    entity.turning().filter(counts)
}

/// Returns the time of the last version of a user before a moment, deletions left out.
fn last_lived_before(entity: &Entity, moment: Millis, cut: Cut) -> Option<Millis> {
    let until = |cut: Cut| Cut { as_of: cut.as_of.min(moment.saturating_sub(1)), ..cut };
    let mut explicit = entity.explicit().latest_first(until(cut));
    let stand_in = entity.stand_ins().latest(until(entity.before_explicit(cut)));
    let last = [explicit.find(|version| !version.deleted), stand_in].into_iter().flatten();
    last.map(|version| version.place.occurred_at).max()
}
