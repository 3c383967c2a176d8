//! Since when, and because of which event: roles over time, one user at a time.

use std::collections::{BTreeMap, BTreeSet};

use crate::ground::order::{Cut, IdBuffer, Millis, Place, Seq, Seq32};
use crate::ground::symbols::{NO_SYM, Sym};
use crate::ground::timeline::Placed;
use crate::state::compiled::{GroundKey, RoleGrounds};
use crate::state::entities::Entity;
use crate::state::entities::EntityKind;
use crate::state::memberships::Pair;
use crate::views::Views;

/// The event that made something so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// Its id.
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

/// A time in which somebody had a role without a break.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RolePeriod {
    /// Which role.
    pub role: String,
    /// Its first moment.
    pub from: Millis,
    /// The first moment without it; `None` while it lasts.
    pub until: Option<Millis>,
    /// What began it.
    pub start: Cause,
    /// What ended it.
    pub end: Option<Cause>,
}

/// What gives a user roles at one moment.
type RolesAt = (Millis, BTreeSet<GroundKey>);

/// What can turn a role: an event of the source, a policy, a mapping.
#[derive(Clone, Copy)]
pub(crate) enum Trigger {
    Event(Place),
    Policy(Seq),
    Mapping(Seq),
}

/// Since when each thing that stands at the end has stood; `of` says what a reason counts as.
pub(crate) fn runs<K: Copy + Ord>(
    roles_over_time: &[RolesAt],
    of: impl Fn(GroundKey) -> K,
) -> BTreeMap<K, Millis> {
    let mut runs: BTreeMap<K, Millis> = BTreeMap::new();
    for (moment, keys) in roles_over_time {
        let now: BTreeSet<K> = keys.iter().map(|key| of(*key)).collect();
        runs.retain(|thing, _| now.contains(thing));
        for thing in now {
            runs.entry(thing).or_insert(*moment);
        }
    }
    runs
}

impl Views {
    /// What stands at each moment at which anything about a user's roles may change, up to the cut,
    /// in order.
    pub(crate) fn roles_over_time(&self, user: Sym, cut: Cut) -> Vec<RolesAt> {
        let standing = |moment: Millis| {
            let then = Cut { as_of: moment, ..cut };
            let mapping = self.roles.in_force(then)?;
            let reasons = match self.alive(EntityKind::User, user, then) {
                Some(version) => {
                    self.reasons(mapping, self.roles.attributes(), user, version, then)
                }
                None => RoleGrounds::new(),
            };
            Some((moment, reasons.iter().map(|reason| mapping.key(*reason)).collect()))
        };
        self.moments_since(user, Millis::MIN, cut).into_iter().filter_map(standing).collect()
    }

    /// Those of the moments that a user's access and roles hang on, known and up to the cut, that
    /// are not before `from`.
    pub(crate) fn moments_since(&self, user: Sym, from: Millis, cut: Cut) -> BTreeSet<Millis> {
        let mut moments = BTreeSet::new();
        let mut add = |place: Place| {
            if cut.sees(place) && place.occurred_at >= from {
                moments.insert(place.occurred_at);
            }
        };
        self.places_since(EntityKind::User, user, from).for_each(&mut add);
        for pair in self.pairs_of(user) {
            pair.grants().since(from).map(Placed::place).for_each(&mut add);
            self.places_since(EntityKind::Group, pair.group, from).for_each(&mut add);
        }
        for directory in self.directories_concerning(user) {
            let directory = self.directories.get(directory);
            directory
                .into_iter()
                .flat_map(|directory| directory.events().since(from))
                .map(Placed::place)
                .for_each(&mut add);
            directory
                .and_then(|directory| directory.first_named_with(cut))
                .into_iter()
                .for_each(&mut add);
        }
        moments.extend(self.settings(cut).filter(|effective_from| *effective_from >= from));
        moments
    }

    /// The last of those moments. Costs a look-up for each group that the user was ever in.
    pub(crate) fn last_moment(&self, user: Sym, cut: Cut) -> Millis {
        let of_entity = |kind: EntityKind, sym: Sym| {
            let entity = self.entity(kind, sym);
            let latest = |entity: &Entity| {
                [entity.explicit().latest(cut), entity.stand_ins().latest(cut)]
                    .map(|version| version.map(|version| version.place))
            };
            entity.map(latest).into_iter().flatten().flatten()
        };
        let pairs = self.pairs_of(user).flat_map(|pair| {
            pair.grants()
                .latest(cut)
                .map(|grant| grant.place())
                .into_iter()
                .chain(of_entity(EntityKind::Group, pair.group))
        });
        let directories = self
            .directories_concerning(user)
            .into_iter()
            .filter_map(|directory| self.directories.get(directory));
        let directories = directories.flat_map(|directory| {
            directory
                .events()
                .latest(cut)
                .map(|version| version.place)
                .into_iter()
                .chain(directory.first_named_with(cut))
        });
        let places = of_entity(EntityKind::User, user).chain(pairs).chain(directories);
        places.map(|place| place.occurred_at).chain(self.settings(cut)).max().unwrap_or(Millis::MIN)
    }

    /// From when on each policy and mapping counts, as far as known and up to the cut.
    fn settings(&self, cut: Cut) -> impl Iterator<Item = Millis> {
        let policies = self.policies.iter().map(|policy| (policy.seq, policy.effective_from));
        let mappings = self.roles.iter().map(|mapping| (mapping.seq, mapping.effective_from));
        policies
            .chain(mappings)
            .filter(move |(seq, from)| *seq <= cut.known_at && *from <= cut.as_of)
            .map(|(_, from)| from)
    }

    /// The directories in which a user, or a group that it was ever in, ever was, and those of the
    /// events about its memberships.
    fn directories_concerning(&self, user: Sym) -> BTreeSet<Sym> {
        let mut directories = self.directories_of_entity(EntityKind::User, user);
        for pair in self.pairs_of(user) {
            directories.extend(self.directories_of_entity(EntityKind::Group, pair.group));
            directories.extend(pair.grants().iter().map(|grant| grant.directory()));
        }
        directories
    }

    pub(crate) fn pairs_of(&self, user: Sym) -> impl Iterator<Item = &Pair> {
        self.memberships.of_user(user).iter().filter_map(|number| self.memberships.get(*number))
    }

    pub(crate) fn places_of_entity(
        &self,
        kind: EntityKind,
        sym: Sym,
    ) -> impl Iterator<Item = Place> {
        self.places_since(kind, sym, Millis::MIN)
    }

    fn places_since(
        &self,
        kind: EntityKind,
        sym: Sym,
        from: Millis,
    ) -> impl Iterator<Item = Place> {
        let entity = self.entity(kind, sym);
        entity.into_iter().flat_map(move |entity| {
            entity
                .explicit()
                .since(from)
                .chain(entity.stand_ins().since(from))
                .map(|version| version.place)
        })
    }

    /// The directories in which an entity ever was.
    pub(crate) fn directories_of_entity(&self, kind: EntityKind, sym: Sym) -> BTreeSet<Sym> {
        self.entity(kind, sym)
            .into_iter()
            .flat_map(|entity| entity.listed_in().iter().copied())
            .collect()
    }

    /// The last, in order, of what concerns a reason at a moment: events, then the policy, then the
    /// mapping.
    pub(crate) fn cause(
        &self,
        user: Sym,
        key: GroundKey,
        moment: Millis,
        cut: Cut,
    ) -> Option<Trigger> {
        let then = Cut { as_of: moment, ..cut };
        if let Some(mapping) =
            self.roles.in_force(then).filter(|mapping| mapping.effective_from == moment)
        {
            return Some(Trigger::Mapping(mapping.seq));
        }
        if let Some(policy) = self.policy(then).filter(|policy| policy.effective_from == moment) {
            return Some(Trigger::Policy(policy.seq));
        }
        let was_in = |pair: &&Pair| {
            pair.grants().iter().any(|grant| grant.added() && then.sees(grant.place()))
        };
        let last = |every_group: bool| {
            let mut places: Vec<Place> =
                self.concerning_entity(EntityKind::User, user, then).collect();
            places.extend(
                self.first_with_organization(
                    self.directory_then(EntityKind::User, user, then),
                    then,
                ),
            );
            for pair in self
                .pairs_of(user)
                .filter(|pair| key.group == pair.group || every_group && was_in(pair))
            {
                places.extend(pair.grants().at(moment).map(|grant| grant.place()));
                places.extend(self.concerning_entity(EntityKind::Group, pair.group, then));
                if let Some(grant) = pair.grants().latest(then) {
                    places.extend(self.directory_events_at(grant.directory(), moment));
                }
            }
            let now =
                places.into_iter().filter(|place| place.occurred_at == moment && then.sees(*place));
            now.max_by(|a, b| self.ids.compare(*a, *b)).map(Trigger::Event)
        };
        // Of the highest role alone, what begins and ends it may come through another group.
        last(key.meaning == NO_SYM).or_else(|| last(true))
    }

    /// An entity's versions and the events of its directory, of the cut's own moment.
    fn concerning_entity(
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

    /// The first event that names a directory with an organization, unless it is its own.
    fn first_with_organization(&self, directory: Sym, then: Cut) -> Option<Place> {
        let directory = self.directories.get(directory)?;
        let named = directory.named_with().at(then)?.place;
        let own = directory
            .events()
            .iter()
            .find(|version| then.sees(version.place) && version.organization != NO_SYM);
        own.is_none_or(|own| self.ids.is_later(own.place, named)).then_some(named)
    }

    pub(crate) fn cause_of(&self, turn: Trigger) -> Cause {
        let seq = match turn {
            Trigger::Mapping(seq) | Trigger::Policy(seq) => seq,
            Trigger::Event(place) => Seq::from(place.seq),
        };
        self.cause_of_record(seq)
    }

    /// A record's event.
    pub(crate) fn cause_of_record(&self, seq: Seq) -> Cause {
        let (event, occurred_at) = match self.events.get(seq) {
            Some((line, occurred_at)) => {
                (self.events.event_types.text(line.kind).to_owned(), occurred_at)
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

    /// Of several turns at one moment the last.
    pub(crate) fn last_trigger(&self, turns: impl Iterator<Item = Trigger>) -> Option<Trigger> {
        turns.reduce(|a, b| match (&a, &b) {
            (Trigger::Event(x), Trigger::Event(y)) => {
                if self.ids.is_later(*y, *x) {
                    b
                } else {
                    a
                }
            }
            (Trigger::Mapping(_), _) => a,
            (_, Trigger::Mapping(_)) => b,
            (Trigger::Policy(_), _) => a,
            _ => b,
        })
    }

    /// Every time in which a user had a role, up to the cut, in order of beginning and role. `None`
    /// for a user never heard of by then.
    ///
    /// Costs an evaluation of the user's roles for each moment at which anything about them may
    /// have changed.
    pub fn role_periods(&self, user: &str, cut: Cut) -> Option<Vec<RolePeriod>> {
        let name = self.heard_of(EntityKind::User, user, cut)?;
        let roles_over_time = self.roles_over_time(name, cut);
        let mut periods: Vec<RolePeriod> = Vec::new();
        let mut open: BTreeMap<Sym, usize> = BTreeMap::new();
        let nothing = BTreeSet::new();
        let mut before = &nothing;
        for (moment, keys) in &roles_over_time {
            let has =
                |keys: &BTreeSet<GroundKey>, role: Sym| keys.iter().any(|key| key.role == role);
            let cause = |keys: &BTreeSet<GroundKey>, role: Sym| {
                let turns = keys
                    .iter()
                    .filter(|key| key.role == role)
                    .filter_map(|key| self.cause(name, *key, *moment, cut));
                self.last_trigger(turns).map(|turn| self.cause_of(turn))
            };
            let ended: Vec<Sym> = open.keys().copied().filter(|role| !has(keys, *role)).collect();
            for role in ended {
                if let Some(period) = open.remove(&role).and_then(|at| periods.get_mut(at)) {
                    period.until = Some(*moment);
                    period.end = cause(before, role);
                }
            }
            let begun: BTreeSet<Sym> =
                keys.iter().map(|key| key.role).filter(|role| !open.contains_key(role)).collect();
            for role in begun {
                let Some(start) = cause(keys, role) else { continue };
                open.insert(role, periods.len());
                periods.push(RolePeriod {
                    role: self.roles.word(role).to_owned(),
                    from: *moment,
                    until: None,
                    start,
                    end: None,
                });
            }
            before = keys;
        }
        periods.sort_by(|a, b| (a.from, &a.role).cmp(&(b.from, &b.role)));
        Some(periods)
    }
}
