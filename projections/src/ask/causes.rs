//! Roles over time, one user at a time: since when each is held, and the events that began and
//! ended it.

use core::ops::RangeInclusive;
use std::collections::{BTreeMap, BTreeSet};

use smallvec::SmallVec;

use crate::ask::runs::{Concern, MergedMoments, PeriodsWindow, changes, changes_back};
use crate::ground::event_type::EventType;
use crate::ground::order::{Cut, IdBuffer, Millis, Place, Seq, Seq32};
use crate::ground::symbols::{NO_SYM, Sym};
use crate::ground::timeline::{MomentWalk, Placed};
use crate::sight::Seen;
use crate::state::compiled_mapping::{Compiled, GroundKey, RoleGrounds};
use crate::state::entities::{Entity, EntityKind, EntityVersion};
use crate::state::memberships::Pair;
use crate::views::Views;

/// The event that brought something about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// Its id; empty if it is an event of an organization that is not seen.
    pub event_id: String,
    /// Its type.
    pub event: String,
    /// When it happened at the source; for what an operator set, when it was set.
    pub occurred_at: Millis,
    /// When the log took it.
    pub recorded_at: Millis,
    /// Its record.
    pub seq: Seq,
}

impl Cause {
    /// Tells if it is an observation: what the source said when it was asked.
    pub fn is_observation(&self) -> bool {
        EventType::parse(&self.event).is_some_and(EventType::is_observation)
    }
}

/// A time in which a user had a role without a break.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RolePeriod {
    /// The role.
    pub role: String,
    /// Its first moment.
    pub from: Millis,
    /// The first moment without it; `None` while it lasts.
    pub until: Option<Millis>,
    /// The event that began it.
    pub start: Cause,
    /// The event that ended it.
    pub end: Option<Cause>,
}

impl RolePeriod {
    fn begun(role: &str, from: Millis, start: Cause) -> RolePeriod {
        RolePeriod { role: role.to_owned(), from, until: None, start, end: None }
    }
}

/// The grounds of a user's roles from one moment on.
pub(crate) struct RolesAt {
    pub(crate) moment: Millis,
    pub(crate) grounds: BTreeSet<GroundKey>,
}

impl RolesAt {
    fn has(&self, role: Sym) -> bool {
        self.grounds.iter().any(|ground| ground.role == role)
    }

    /// Tells if a role is held through the same group as on some ground, or if that is a default or
    /// of an attribute, also as one. A mapping may give it by another rule than the one before.
    fn has_like(&self, ground: GroundKey) -> bool {
        let is_default = |ground: &GroundKey| ground.meaning == NO_SYM;
        self.grounds.iter().any(|other| {
            other.role == ground.role
                && other.group == ground.group
                && is_default(other) == is_default(&ground)
        })
    }

    /// Returns the grounds of a role.
    fn grounds_of(&self, role: Sym) -> SmallVec<[GroundKey; 4]> {
        self.grounds.iter().filter(|ground| ground.role == role).copied().collect()
    }

    fn roles(&self) -> BTreeSet<Sym> {
        self.grounds.iter().map(|ground| ground.role).collect()
    }
}

/// The cause of a change: an event of the source, a policy, or a mapping.
#[derive(Clone, Copy)]
pub(crate) enum Trigger {
    Event(Place),
    Policy(Seq),
    Mapping(Seq),
}

/// The moments since when the grounds and the roles that a user has hold without a break.
#[derive(Default)]
pub(crate) struct HeldSince {
    pub(crate) grounds: BTreeMap<GroundKey, Millis>,
    pub(crate) roles: BTreeMap<Sym, Millis>,
}

impl HeldSince {
    /// Moves what still holds at an earlier moment there. Returns false if nothing does.
    fn go_back(&mut self, earlier: &RolesAt, later: Millis) -> bool {
        let mut goes_on = false;
        for (ground, since) in self.grounds.iter_mut().filter(|(_, since)| **since == later) {
            if earlier.grounds.contains(ground) {
                (*since, goes_on) = (earlier.moment, true);
            }
        }
        for (role, since) in self.roles.iter_mut().filter(|(_, since)| **since == later) {
            if earlier.has(*role) {
                (*since, goes_on) = (earlier.moment, true);
            }
        }
        goes_on
    }
}

/// The part of a user's history to which a walk over the moments of its roles is narrowed.
#[derive(Clone, Copy)]
pub(crate) struct RolesConcern<'a> {
    /// True if the roles that the source gives matter.
    pub(crate) of_source: bool,
    /// The only groups that matter, in order of symbol; `None` if all do.
    pub(crate) groups: Option<&'a [Sym]>,
}

impl RolesConcern<'_> {
    /// Everything.
    pub(crate) const ALL: RolesConcern<'static> = RolesConcern { of_source: true, groups: None };
    /// The roles that mappings give.
    const MAPPED: RolesConcern<'static> = RolesConcern { of_source: false, groups: None };

    /// Tells if a group matters.
    fn has(&self, group: Sym) -> bool {
        self.groups.is_none_or(|groups| groups.binary_search(&group).is_ok())
    }
}

/// The moments that are looked at for all roles of a user at once, before each role is followed
/// by itself; few in debug builds, so that the short histories of tests reach the latter.
const MOMENTS_TOGETHER: usize = if cfg!(debug_assertions) { 2 } else { 16 };

/// The times that a role was held by default which are followed each by itself; few in debug
/// builds, so that the short histories of tests have more.
const FEW_DEFAULTS: usize = if cfg!(debug_assertions) { 2 } else { 4 };

/// Decides how a role is followed to where it begins or ends: through one group after another, or
/// as a whole, by every moment that concerns the user.
struct RoleTrail<'a> {
    mappings: &'a [&'a Compiled],
    /// The times that it was found to be held by default.
    defaults: usize,
}

impl<'a> RoleTrail<'a> {
    fn new(mappings: &'a [&'a Compiled]) -> RoleTrail<'a> {
        RoleTrail { mappings, defaults: 0 }
    }

    /// Tells if the role is to be followed as a whole from where it is held on some grounds:
    /// because each of them depends on every group, as only the highest role counts, or because it
    /// was held by default again and again. Each default depends on every group, too.
    fn is_whole(&mut self, grounds: &[GroundKey]) -> bool {
        self.defaults += usize::from(grounds.iter().any(|ground| ground.meaning == NO_SYM));
        self.defaults > FEW_DEFAULTS || !only_own_groups_matter(self.mappings)
    }
}

/// Tells if a ground by a rule depends on no groups but its own: if no mapping counts only the
/// highest role.
fn only_own_groups_matter(mappings: &[&Compiled]) -> bool {
    mappings.iter().all(|mapping| mapping.gives_all())
}

impl Views {
    /// Returns since when the grounds and roles that a user has at the cut hold without a break.
    ///
    /// Costs an evaluation of the user's roles for a few moments, and for each ground that goes on
    /// before them one for each moment that concerns this ground alone, back to its beginning.
    pub(crate) fn held_since(&self, user: Sym, cut: Cut) -> HeldSince {
        let moments = self.role_moments(user, RolesConcern::MAPPED, cut.as_of, true, cut);
        let mut earlier = moments.map_while(|moment| self.roles_at(user, moment, cut));
        let Some(now) = earlier.next() else { return HeldSince::default() };
        let mut later = now.moment;
        let mut held = HeldSince {
            grounds: now.grounds.iter().map(|ground| (*ground, later)).collect(),
            roles: now.roles().into_iter().map(|role| (role, later)).collect(),
        };
        for (looked_at, earlier) in earlier.enumerate() {
            if !held.go_back(&earlier, later) {
                break;
            }
            later = earlier.moment;
            if looked_at == MOMENTS_TOGETHER {
                self.follow_back(user, &mut held, later, cut);
                break;
            }
        }
        held
    }

    /// Follows each ground and role that holds since `later` back to its beginning.
    fn follow_back(&self, user: Sym, held: &mut HeldSince, later: Millis, cut: Cut) {
        let mappings = self.roles.in_force_since(Millis::MIN, cut.known_at);
        let HeldSince { grounds, roles } = held;
        for (ground, since) in grounds.iter_mut().filter(|(_, since)| **since == later) {
            let groups = self.groups_concerning_ground(*ground, &mappings);
            let holds = |then: &RolesAt| then.grounds.contains(ground);
            *since = self.beginning(user, groups.as_deref(), later, cut, holds);
        }
        for (role, since) in roles.iter_mut().filter(|(_, since)| **since == later) {
            let of_role = grounds.iter().filter(|(ground, _)| ground.role == *role);
            let known = of_role.map(|(_, since)| *since).min().unwrap_or(later);
            *since = self.beginning_of_role(user, *role, known, &mappings, cut);
        }
    }

    /// Returns the first moment of the unbroken time in which a role is held that is held at
    /// `later`: through one group after another, each followed back as long as it gives the role,
    /// or else in one walk.
    fn beginning_of_role(
        &self,
        user: Sym,
        role: Sym,
        later: Millis,
        mappings: &[&Compiled],
        cut: Cut,
    ) -> Millis {
        let (mut since, mut trail) = (later, RoleTrail::new(mappings));
        while let Some(before) = since.checked_sub(1) {
            let grounds = self.roles_or_none(user, before, cut).grounds_of(role);
            if trail.is_whole(&grounds) {
                return self.beginning(user, None, since, cut, |then| then.has(role));
            }
            let sooner = grounds.into_iter().map(|ground| {
                let groups = self.groups_concerning_ground(ground, mappings);
                self.beginning(user, groups.as_deref(), since, cut, |then| then.has_like(ground))
            });
            let Some(sooner) = sooner.min().filter(|sooner| *sooner < since) else { break };
            since = sooner;
        }
        since
    }

    /// Returns the first moment of the unbroken time in which something holds that holds at
    /// `later`, and that depends on no other groups than those given.
    fn beginning(
        &self,
        user: Sym,
        groups: Option<&[Sym]>,
        later: Millis,
        cut: Cut,
        holds: impl Fn(&RolesAt) -> bool,
    ) -> Millis {
        let Some(before) = later.checked_sub(1) else { return later };
        let concern = RolesConcern { groups, ..RolesConcern::MAPPED };
        let moments = self.role_moments(user, concern, before, true, cut);
        let states = moments.map_while(|moment| self.roles_at(user, moment, cut));
        states.take_while(holds).last().map_or(later, |first| first.moment)
    }

    /// Returns the first moment after another at which a user does not have a role that it has
    /// there, and the event that ended it; `None` if it has the role to the end.
    fn end_of_role(
        &self,
        user: Sym,
        role: Sym,
        moment: Millis,
        cut: Cut,
    ) -> Option<(Millis, Option<Cause>)> {
        let mappings = self.roles.in_force_since(Millis::MIN, cut.known_at);
        let (mut last, mut trail) = (moment, RoleTrail::new(&mappings));
        let mut grounds = self.roles_or_none(user, moment, cut).grounds_of(role);
        // Through one group after another, each followed as long as it gives the role.
        while !grounds.is_empty() {
            if trail.is_whole(&grounds) {
                last = self.ending(user, None, last, cut, |then| then.has(role))?;
                break;
            }
            let mut ends = Vec::new();
            for ground in grounds {
                let groups = self.groups_concerning_ground(ground, &mappings);
                let holds = |then: &RolesAt| then.has_like(ground);
                ends.push(self.ending(user, groups.as_deref(), last, cut, holds)?);
            }
            last = ends.into_iter().max()?;
            grounds = self.roles_or_none(user, last, cut).grounds_of(role);
        }
        let before = self.roles_or_none(user, last.saturating_sub(1), cut);
        Some((last, self.cause_of_role(user, role, &before, last, cut)))
    }

    /// Returns the first moment after another at which something does not hold that holds there,
    /// and that depends on no other groups than those given; `None` if it holds to the end.
    fn ending(
        &self,
        user: Sym,
        groups: Option<&[Sym]>,
        moment: Millis,
        cut: Cut,
        holds: impl Fn(&RolesAt) -> bool,
    ) -> Option<Millis> {
        let after = moment.checked_add(1).filter(|after| *after <= cut.as_of)?;
        let concern = RolesConcern { groups, ..RolesConcern::MAPPED };
        let mut moments = self.role_moments(user, concern, after, false, cut);
        moments.find(|moment| !holds(&self.roles_or_none(user, *moment, cut)))
    }

    /// Returns the groups on which a ground depends: its own; `None` if it may depend on every
    /// group of the user, because it is a default, or because only the highest role counts.
    fn groups_concerning_ground(
        &self,
        ground: GroundKey,
        mappings: &[&Compiled],
    ) -> Option<Vec<Sym>> {
        let is_default = ground.meaning == NO_SYM;
        let is_own = !is_default && only_own_groups_matter(mappings);
        is_own.then(|| Some(ground.group).filter(|group| *group != NO_SYM).into_iter().collect())
    }

    pub(crate) fn roles_at(&self, user: Sym, moment: Millis, cut: Cut) -> Option<RolesAt> {
        let then = Cut { as_of: moment, ..cut };
        let mapping = self.roles.in_force(then)?;
        let grounds = match self.alive(EntityKind::User, user, then) {
            Some(version) => self.grounds(mapping, self.roles.attributes(), user, version, then),
            None => RoleGrounds::new(),
        };
        let grounds = grounds.iter().map(|ground| mapping.key(*ground)).collect();
        Some(RolesAt { moment, grounds })
    }

    /// Returns the moments of a stretch that a user's access and roles depend on, known and up to
    /// the cut, in order.
    pub(crate) fn moments_in(
        &self,
        user: Sym,
        stretch: RangeInclusive<Millis>,
        cut: Cut,
    ) -> Vec<Millis> {
        let cut = Cut { as_of: cut.as_of.min(*stretch.end()), ..cut };
        self.role_moments(user, RolesConcern::ALL, *stretch.start(), false, cut).collect()
    }

    /// Walks over the moments that a user's access and roles depend on, as far as they concern the
    /// caller, known and up to the cut: from one on, or back from one.
    fn role_moments(
        &self,
        user: Sym,
        concern: RolesConcern<'_>,
        from: Millis,
        descending: bool,
        cut: Cut,
    ) -> MergedMoments<'_> {
        let cut = if descending { Cut { as_of: cut.as_of.min(from), ..cut } } else { cut };
        let first = if descending { Millis::MIN } else { from };
        let mappings = self.roles.in_force_since(first, cut.known_at);
        let mut walks: Vec<MomentWalk<'_>> = Vec::new();
        let turns = |entity, of: Concern| self.turn_walks(entity, of, from, descending, cut);
        if let Some(entity) = self.users.get(user) {
            walks.extend(turns(
                entity,
                if concern.of_source { Concern::Label } else { Concern::Access },
            ));
            if mappings.iter().any(|mapping| mapping.keys().next().is_some()) {
                walks.extend(self.attribute_walks(entity, from, descending, cut));
            }
        }
        let pairs = self.pairs_of(user).filter(|pair| concern.has(pair.group));
        let giving = pairs.filter(|pair| self.gives_roles(pair.group, &mappings));
        let pairs: SmallVec<[&Pair; 8]> = giving.collect();
        for pair in &pairs {
            walks.push(pair.grants().moments(from, descending, cut));
            let group = self.groups.get(pair.group).into_iter();
            walks.extend(group.flat_map(|group| turns(group, Concern::Label)));
        }
        let directories = self.directories_concerning(user, pairs.iter().copied());
        let named: Vec<Millis> = directories
            .iter()
            .filter_map(|sym| self.directories.get(*sym)?.first_named_with(cut))
            .map(|place| place.occurred_at)
            .collect();
        walks.extend(self.directory_walks(directories, from, descending, cut));
        let mut moments = MergedMoments::of(walks, descending);
        moments.add(self.settings(cut).chain(named), from, cut);
        moments
    }

    /// Returns walks over the moments of those of a user's versions that have other values of
    /// attributes than the one before them.
    fn attribute_walks<'a>(
        &'a self,
        entity: &'a Entity,
        from: Millis,
        descending: bool,
        cut: Cut,
    ) -> [MomentWalk<'a>; 2] {
        let attributes = self.roles.attributes();
        let keys = |version: &EntityVersion| -> &'a [u32] {
            attributes.of_snapshot(version.place.seq, version.part)
        };
        let repeats =
            move |before: &EntityVersion, version: &EntityVersion| keys(before) == keys(version);
        if descending {
            let explicit = entity.explicit().latest_first(cut);
            let stand_ins = entity.stand_ins().latest_first(cut);
            return [changes_back(explicit, repeats), changes_back(stand_ins, repeats)];
        }
        let explicit = entity.explicit().seen_since(from, cut);
        let stand_ins = entity.stand_ins().seen_since(from, cut);
        [changes(explicit, repeats), changes(stand_ins, repeats)]
    }

    /// Tells if a user's access or roles may depend on anything at `from` or later that is known at
    /// `known_at`. Costs a look-up for each group that the user was ever in.
    pub(crate) fn may_turn_since(&self, user: Sym, from: Millis, known_at: Seq) -> bool {
        let cut = Cut { as_of: Millis::MAX, known_at };
        let is_late = |place: Place| place.occurred_at >= from;
        let directory_turns = |sym: &Sym| {
            self.directories.get(*sym).is_some_and(|directory| {
                directory.events().latest(cut).map(Placed::place).is_some_and(is_late)
                    || directory.first_named_with(cut).is_some_and(is_late)
            })
        };
        if self.settings(cut).any(|moment| moment >= from)
            || self.latest_places(EntityKind::User, user, cut).any(is_late)
        {
            return true;
        }
        let mappings = self.roles.in_force_since(from, known_at);
        self.giving_pairs(user, &mappings).any(|pair| {
            pair.grants().latest(cut).map(Placed::place).is_some_and(is_late)
                || self.latest_places(EntityKind::Group, pair.group, cut).any(is_late)
        }) || self
            .directories_concerning(user, self.giving_pairs(user, &mappings))
            .iter()
            .any(directory_turns)
    }

    /// Tells if a version of a group may bring it back although it says the same as the one before.
    fn may_revive(&self, group: &Entity) -> bool {
        let mut directories = group.listed_in().iter().filter_map(|sym| self.directories.get(*sym));
        directories.any(|directory| directory.deletions().newest().is_some())
    }

    /// Iterates over the pairs of a user with groups from which any of some mappings gives a role.
    fn giving_pairs<'a, 'm>(
        &'a self,
        user: Sym,
        mappings: &'m [&'m Compiled],
    ) -> impl Iterator<Item = &'a Pair> + use<'a, 'm> {
        let pairs = (!mappings.is_empty()).then(|| self.pairs_of(user));
        pairs.into_iter().flatten().filter(|pair| self.gives_roles(pair.group, mappings))
    }

    /// Tells if a rule of any of some mappings, which must be set, ever fitted a group.
    pub(crate) fn gives_roles(&self, group: Sym, mappings: &[&Compiled]) -> bool {
        let Some(entity) = self.groups.get(group) else { return false };
        let id = self.groups.id(group);
        mappings.iter().any(|mapping| self.roles.ever_fits(mapping, group, id, entity))
    }

    /// Returns the places of an entity's latest explicit version and its latest stand-in, or of a
    /// group's latest turn.
    fn latest_places(&self, kind: EntityKind, sym: Sym, cut: Cut) -> impl Iterator<Item = Place> {
        let latest = self.entity(kind, sym).map(|entity| match kind {
            EntityKind::Group if !self.may_revive(entity) => [entity.turns().latest(cut), None],
            _ => [entity.explicit().latest(cut), entity.stand_ins().latest(cut)],
        });
        latest.into_iter().flatten().flatten().map(|version| version.place)
    }

    /// Returns the moments at which known policies and mappings take effect, up to the cut.
    fn settings(&self, cut: Cut) -> impl Iterator<Item = Millis> {
        let policies = self.policies.iter().map(|policy| (policy.seq, policy.effective_from));
        let mappings = self.roles.iter().map(|mapping| (mapping.seq, mapping.effective_from));
        policies
            .chain(mappings)
            .filter(move |(seq, from)| *seq <= cut.known_at && *from <= cut.as_of)
            .map(|(_, from)| from)
    }

    /// Returns the directories in which a user, or one of the groups of its pairs, ever was, and
    /// those of the events about these memberships.
    fn directories_concerning<'a>(
        &self,
        user: Sym,
        pairs: impl Iterator<Item = &'a Pair>,
    ) -> SmallVec<[Sym; 4]> {
        let mut directories = SmallVec::<[Sym; 4]>::new();
        let mut add = |sym: Sym| {
            if !directories.contains(&sym) {
                directories.push(sym);
            }
        };
        let add_listed = |entity: Option<&Entity>, add: &mut dyn FnMut(Sym)| {
            entity.into_iter().flat_map(Entity::listed_in).for_each(|sym| add(*sym));
        };
        add_listed(self.users.get(user), &mut add);
        for pair in pairs {
            add_listed(self.groups.get(pair.group), &mut add);
            self.memberships.foreign_directories(pair).for_each(&mut add);
        }
        directories
    }

    pub(crate) fn pairs_of(&self, user: Sym) -> impl Iterator<Item = &Pair> {
        self.memberships.of_user(user).iter().filter_map(|number| self.memberships.get(*number))
    }

    /// Returns the trigger of a ground's beginning or end at a moment: the mapping or the policy
    /// that takes effect then, else the last event that concerns the ground.
    pub(crate) fn trigger(
        &self,
        user: Sym,
        key: GroundKey,
        moment: Millis,
        cut: Cut,
    ) -> Option<Trigger> {
        let then = Cut { as_of: moment, ..cut };
        if let Some(mapping) = self.roles.in_force(then)
            && mapping.effective_from == moment
        {
            return Some(Trigger::Mapping(mapping.seq));
        }
        if let Some(policy) = self.policies.in_force(then)
            && policy.effective_from == moment
        {
            return Some(Trigger::Policy(policy.seq));
        }
        // If only the highest role is held, its beginning or end may come through another group.
        self.last_event_of(user, key, then, key.meaning == NO_SYM)
            .or_else(|| self.last_event_of(user, key, then, true))
            .map(Trigger::Event)
    }

    /// Returns the last event of the cut's own moment that concerns the user, or the ground's
    /// group; with `every_group` also any group that the user was ever added to.
    fn last_event_of(
        &self,
        user: Sym,
        key: GroundKey,
        then: Cut,
        every_group: bool,
    ) -> Option<Place> {
        let moment = then.as_of;
        let was_in = |pair: &Pair| pair.grants().latest_first(then).any(|grant| grant.added());
        let mut places: Vec<Place> = self.places_concerning(EntityKind::User, user, then).collect();
        let directory = self.directory_then(EntityKind::User, user, then);
        places.extend(self.first_with_organization(directory, then));
        for pair in self.pairs_of(user) {
            if key.group != pair.group && !(every_group && was_in(pair)) {
                continue;
            }
            places.extend(pair.grants().at(moment).map(Placed::place));
            places.extend(self.places_concerning(EntityKind::Group, pair.group, then));
            if let Some(grant) = pair.grants().latest(then) {
                places.extend(self.directory_events_at(grant.directory(), moment));
            }
        }
        places.retain(|place| place.occurred_at == moment && then.sees(*place));
        self.last_of(places)
    }

    /// Returns the last of some places in the order of events.
    pub(crate) fn last_of(&self, places: impl IntoIterator<Item = Place>) -> Option<Place> {
        places.into_iter().max_by(|a, b| self.ids.compare(*a, *b))
    }

    /// Returns the places, at the cut's own moment, of an entity's versions and of its directory's
    /// events.
    fn places_concerning(
        &self,
        kind: EntityKind,
        sym: Sym,
        then: Cut,
    ) -> impl Iterator<Item = Place> {
        let entity = self.entity(kind, sym);
        let stand_ins = entity.filter(|entity| entity.explicit().latest(then).is_none());
        let versions = entity
            .into_iter()
            .flat_map(move |entity| entity.explicit().at(then.as_of))
            .chain(stand_ins.into_iter().flat_map(move |entity| entity.stand_ins().at(then.as_of)));
        versions
            .map(|version| version.place)
            .chain(self.directory_events_at(self.directory_then(kind, sym, then), then.as_of))
    }

    fn directory_events_at(&self, directory: Sym, moment: Millis) -> impl Iterator<Item = Place> {
        self.directories
            .get(directory)
            .into_iter()
            .flat_map(move |directory| directory.events().at(moment).map(|version| version.place))
    }

    /// Returns the first event that names a directory with an organization, unless it is its own.
    fn first_with_organization(&self, directory: Sym, then: Cut) -> Option<Place> {
        let directory = self.directories.get(directory)?;
        let named = directory.named_with().at(then)?.place;
        let own = directory
            .events()
            .iter()
            .find(|version| then.sees(version.place) && version.organization != NO_SYM);
        own.is_none_or(|own| self.ids.is_later(own.place, named)).then_some(named)
    }

    pub(crate) fn cause_of(&self, trigger: Trigger) -> Cause {
        let seq = match trigger {
            Trigger::Mapping(seq) | Trigger::Policy(seq) => seq,
            Trigger::Event(place) => Seq::from(place.seq),
        };
        self.cause_of_record(seq)
    }

    /// Returns a record's event.
    pub fn cause_of_record(&self, seq: Seq) -> Cause {
        let (event, occurred_at) = match self.events.get(seq) {
            Some((line, occurred_at)) => {
                (self.events.event_types.text(line.event_type).to_owned(), occurred_at)
            }
            None => (String::new(), Millis::MIN),
        };
        let recorded_at =
            self.recorded_from(seq).next().map_or(Millis::MIN, |(recorded_at, _)| recorded_at);
        Cause {
            event_id: self.ids.text(seq as Seq32, &mut IdBuffer::default()).to_owned(),
            event,
            occurred_at,
            recorded_at,
            seq,
        }
    }

    /// Returns the last of several triggers of one moment: mappings come after policies, and both
    /// after events.
    pub(crate) fn last_trigger(&self, triggers: impl Iterator<Item = Trigger>) -> Option<Trigger> {
        triggers.reduce(|a, b| match (&a, &b) {
            (Trigger::Event(first), Trigger::Event(second)) => {
                if self.ids.is_later(*second, *first) { b } else { a }
            }
            (Trigger::Mapping(_), _) => a,
            (_, Trigger::Mapping(_)) => b,
            (Trigger::Policy(_), _) => a,
            _ => b,
        })
    }

    /// Returns the event that began or ended a role at a moment, held on the grounds of `roles`.
    fn cause_of_role(
        &self,
        user: Sym,
        role: Sym,
        roles: &RolesAt,
        moment: Millis,
        cut: Cut,
    ) -> Option<Cause> {
        let grounds = roles.grounds.iter().filter(|ground| ground.role == role);
        let triggers = grounds.filter_map(|ground| self.trigger(user, *ground, moment, cut));
        self.last_trigger(triggers).map(|trigger| self.cause_of(trigger))
    }
}

/// Returns the last moment of a time that ends before `until`, or else with the cut.
pub(crate) fn last_moment(until: Option<Millis>, cut: Cut) -> Millis {
    until.map_or(cut.as_of, |until| until.saturating_sub(1))
}

impl Seen<'_> {
    /// Empties the id of a cause that is an event of another organization.
    pub(crate) fn conceal(&self, cause: &mut Cause) {
        if !self.may_name(cause.seq) {
            cause.event_id = String::new();
        }
    }

    /// Returns every time in which a user had a role, up to the cut, in order of beginning and
    /// role. `None` for a user that no known event names.
    ///
    /// Costs an evaluation of the user's roles for each moment at which anything about them may
    /// have changed.
    pub fn role_periods(&self, user: &str, cut: Cut) -> Option<Vec<RolePeriod>> {
        self.role_periods_in(user, cut, PeriodsWindow::ALL)
    }

    /// Returns the same for a part of the list, in which a period has the name of its role. Costs
    /// only what lies between the beginnings of the first and the last of them, and for each that
    /// goes on the moments that concern its role, up to its end.
    pub fn role_periods_in(
        &self,
        user: &str,
        cut: Cut,
        window: PeriodsWindow<'_>,
    ) -> Option<Vec<RolePeriod>> {
        let user = self.known_sym(EntityKind::User, user, cut)?;
        let mut seen: Vec<RolePeriod> = Vec::new();
        let mut start = window.start.map(|(from, role)| (from, role.to_owned()));
        while seen.len() < window.limit {
            let wanted = PeriodsWindow {
                start: start.as_ref().map(|(from, role)| (*from, role.as_str())),
                limit: window.limit - seen.len(),
                ..window
            };
            let periods = if window.descending {
                self.role_periods_back(user, cut, wanted)
            } else {
                self.role_periods_on(user, cut, wanted)
            };
            let is_last = periods.len() < wanted.limit;
            start = periods.last().map(|last| (last.from, last.role.clone()));
            // What is not seen does not count, and that is known when a period is whole.
            seen.extend(periods.into_iter().filter(|period| {
                self.saw(EntityKind::User, user, last_moment(period.until, cut), cut)
            }));
            if is_last {
                break;
            }
        }
        for period in &mut seen {
            self.conceal(&mut period.start);
            period.end.iter_mut().for_each(|end| self.conceal(end));
        }
        Some(seen)
    }
}

impl Views {
    /// Returns a user's roles at a moment, none before the first mapping.
    fn roles_or_none(&self, user: Sym, moment: Millis, cut: Cut) -> RolesAt {
        let none = RolesAt { moment, grounds: BTreeSet::new() };
        self.roles_at(user, moment, cut).unwrap_or(none)
    }

    pub(crate) fn role_periods_on(
        &self,
        user: Sym,
        cut: Cut,
        window: PeriodsWindow<'_>,
    ) -> Vec<RolePeriod> {
        let first = window.start.map_or(Millis::MIN, |(moment, _)| moment);
        let earlier = first.checked_sub(1).map(|moment| self.roles_or_none(user, moment, cut));
        let mut before =
            earlier.unwrap_or(RolesAt { moment: Millis::MIN, grounds: BTreeSet::new() });
        let mut periods: Vec<RolePeriod> = Vec::new();
        // The number of the period of each role that is held, if it is wanted.
        let mut open: BTreeMap<Sym, Option<usize>> =
            before.roles().into_iter().map(|role| (role, None)).collect();
        for moment in self.role_moments(user, RolesConcern::MAPPED, first, false, cut) {
            if periods.len() >= window.limit {
                self.end_periods(user, &mut periods, open, before.moment, cut);
                break;
            }
            let Some(now) = self.roles_at(user, moment, cut) else { continue };
            let ended: Vec<Sym> = open.keys().copied().filter(|role| !now.has(*role)).collect();
            for role in ended {
                let at = open.remove(&role).flatten();
                if let Some(period) = at.and_then(|at| periods.get_mut(at)) {
                    period.until = Some(moment);
                    period.end = self.cause_of_role(user, role, &before, moment, cut);
                }
            }
            let mut begun: Vec<Sym> =
                now.roles().into_iter().filter(|role| !open.contains_key(role)).collect();
            begun.sort_by_key(|role| self.roles.role(*role));
            for role in begun {
                let Some(start) = self.cause_of_role(user, role, &now, moment, cut) else {
                    continue;
                };
                let name = self.roles.role(role);
                let wanted = window.has(moment, name) && periods.len() < window.limit;
                open.insert(role, wanted.then_some(periods.len()));
                if wanted {
                    periods.push(RolePeriod::begun(name, moment, start));
                }
            }
            before = now;
        }
        periods
    }

    /// Ends the periods of the roles that are held at a moment, where they end later. `open` has
    /// the number of each role's period, if that is wanted.
    fn end_periods(
        &self,
        user: Sym,
        periods: &mut [RolePeriod],
        open: BTreeMap<Sym, Option<usize>>,
        moment: Millis,
        cut: Cut,
    ) {
        for (role, at) in open {
            let Some(period) = at.and_then(|at| periods.get_mut(at)) else { continue };
            let Some((until, end)) = self.end_of_role(user, role, moment, cut) else { continue };
            (period.until, period.end) = (Some(until), end);
        }
    }

    fn role_periods_back(&self, user: Sym, cut: Cut, window: PeriodsWindow<'_>) -> Vec<RolePeriod> {
        let last = window.start.map_or(cut.as_of, |(moment, _)| moment).min(cut.as_of);
        let mut ends: BTreeMap<Sym, (Millis, Option<Cause>)> = BTreeMap::new();
        let mut periods = Vec::new();
        let mut moments = self.role_moments(user, RolesConcern::MAPPED, last, true, cut);
        let mut now = moments.next().map(|moment| self.roles_or_none(user, moment, cut));
        while let Some(held) = now {
            let before = moments.next().map(|moment| self.roles_or_none(user, moment, cut));
            let mut begun: Vec<Sym> = held.roles().into_iter().collect();
            begun.retain(|role| before.as_ref().is_none_or(|before| !before.has(*role)));
            begun.sort_by_key(|role| core::cmp::Reverse(self.roles.role(*role)));
            for role in begun {
                let name = self.roles.role(role);
                let start = self.cause_of_role(user, role, &held, held.moment, cut);
                let known = ends.remove(&role);
                let Some(start) = start.filter(|_| window.has(held.moment, name)) else { continue };
                // One whose end was not passed is held at the last moment of the walk.
                let (until, end) =
                    known.or_else(|| self.end_of_role(user, role, last, cut)).unzip();
                let begun = RolePeriod::begun(name, held.moment, start);
                periods.push(RolePeriod { until, end: end.flatten(), ..begun });
            }
            if periods.len() >= window.limit {
                break;
            }
            if let Some(before) = &before {
                for role in before.roles().into_iter().filter(|role| !held.has(*role)) {
                    let end = self.cause_of_role(user, role, before, held.moment, cut);
                    ends.insert(role, (held.moment, end));
                }
            }
            now = before;
        }
        periods.truncate(window.limit);
        periods
    }
}
