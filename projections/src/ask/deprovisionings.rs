//! Deprovisionings: the users who lost access, found through an index of the moments that may end
//! it.

use crate::ask::access::AccessEnd;
use crate::ask::runs::MergedMoments;
use crate::ask::same_person::SamePerson;
use crate::ground::fact::Fingerprint;
use crate::ground::order::{Cut, Millis, Seq, around};
use crate::ground::page::resolve;
use crate::ground::symbols::{NO_SYM, Sym};
use crate::ground::timeline::MomentWalk;
use crate::ground::walks::{IdWalk, is_beyond};
use crate::sight::Seen;
use crate::state::entities::{EntityKind, EntityVersion, SnapshotRef};
use crate::state::loss_index::{LossCandidate, LossScope};

/// The highest number of candidates that one call looks at.
const CANDIDATES_MAX: usize = 2048;

/// One user's loss of access.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deprovisioning {
    /// The user.
    pub user: String,
    /// The description of the user in the millisecond before.
    pub snapshot: SnapshotRef,
    /// The directory in the millisecond before.
    pub directory: String,
    /// The organization that the user showed then; empty while unknown.
    pub organization: String,
    /// The moment, the reason and the event.
    pub end: AccessEnd,
    /// The roles held the millisecond before, the highest first.
    pub roles: Vec<String>,
    /// The groups it was in the millisecond before, by id, each with its name.
    pub groups: Vec<(String, String)>,
    /// When access began again.
    pub restored_at: Option<Millis>,
    /// The application user that the user is linked to.
    pub app_user: Option<String>,
    /// The users who are the same person.
    pub same_person: SamePerson,
}

/// Some deprovisionings, and the moment and user after which to continue, if there may be more.
pub type Deprovisionings = (Vec<Deprovisioning>, Option<(Millis, String)>);

/// A filter of deprovisionings; all parts that are given must fit.
#[derive(Clone, Copy, Debug, Default)]
pub struct DeprovisioningFilter<'a> {
    /// For this user.
    pub user: Option<&'a str>,
    /// For users who showed an email with this fingerprint.
    pub email: Option<Fingerprint>,
    /// From this directory.
    pub directory: Option<&'a str>,
    /// From this organization.
    pub organization: Option<&'a str>,
    /// At this moment or later.
    pub since: Option<Millis>,
    /// At this moment or earlier.
    pub until: Option<Millis>,
}

/// A [`DeprovisioningFilter`] with its ids resolved, and the place after which to begin.
struct DeprovisioningQuery<'a> {
    /// The only users to look at, if the filter names any.
    users: Option<Vec<Sym>>,
    email: Option<Sym>,
    directory: Option<Sym>,
    organization: Option<Sym>,
    /// The directories of the wanted users; `None` for those of all.
    within: Option<Vec<Sym>>,
    first: Millis,
    last: Millis,
    /// The moment and the user after which to begin.
    after: Option<(Millis, &'a str)>,
    descending: bool,
}

impl DeprovisioningQuery<'_> {
    fn scope(&self) -> LossScope<'_> {
        self.within.as_deref().map_or(LossScope::All, LossScope::Of)
    }
}

impl Seen<'_> {
    /// Returns some deprovisionings, by moment and user, after a place in that order; and the place
    /// after which to continue, if there may be more. It may find none and still return such a
    /// place.
    ///
    /// Looks at no more than some thousand candidates: users whose access may have ended between
    /// the two bounds, or the whole history of the users that the filter names.
    pub fn deprovisionings(
        &self,
        filter: &DeprovisioningFilter<'_>,
        cut: Cut,
        after: Option<(Millis, &str)>,
        descending: bool,
        limit: usize,
    ) -> Deprovisionings {
        match self.deprovisioning_query(filter, cut, after, descending) {
            Some(query) => self.deprovisionings_found(&query, cut, limit),
            None => Deprovisionings::default(),
        }
    }

    /// Resolves a filter. Returns `None` if it names something unknown: no deprovisioning fits.
    fn deprovisioning_query<'a>(
        &self,
        filter: &DeprovisioningFilter<'_>,
        cut: Cut,
        after: Option<(Millis, &'a str)>,
        descending: bool,
    ) -> Option<DeprovisioningQuery<'a>> {
        let user = resolve(filter.user, |id| self.entity_sym(EntityKind::User, id, cut))?;
        let email = resolve(filter.email, |email| self.emails.find(email))?;
        let mut query = DeprovisioningQuery {
            users: user
                .map(|user| vec![user])
                .or(email.map(|email| self.emails.holders(email).collect())),
            email,
            directory: resolve(filter.directory, |id| self.directory_sym(id, cut))?,
            organization: resolve(filter.organization, |id| self.organization_sym(id))?,
            within: None,
            first: filter.since.unwrap_or(Millis::MIN),
            last: filter.until.unwrap_or(Millis::MAX).min(cut.as_of),
            after,
            descending,
        };
        query.within = self.loss_directories(query.directory, query.organization);
        match after {
            Some((moment, _)) if descending => query.last = query.last.min(moment),
            Some((moment, _)) => query.first = query.first.max(moment),
            None => {}
        }
        Some(query)
    }

    /// Returns the directories in which the users are whose losses may be wanted and seen; `None`
    /// if these may be in any.
    fn loss_directories(
        &self,
        directory: Option<Sym>,
        organization: Option<Sym>,
    ) -> Option<Vec<Sym>> {
        if let Some(directory) = directory {
            return Some(vec![directory]);
        }
        let organizations = match (&organization, self.own()) {
            (Some(one), _) => core::slice::from_ref(one),
            (None, own) => own?,
        };
        let of_one =
            |one: &Sym| self.organizations.range((*one, 0)..=(*one, Sym::MAX)).map(|(_, sym)| *sym);
        let mut directories: Vec<Sym> = organizations.iter().flat_map(of_one).collect();
        // A user without a directory may show an organization all the same.
        directories.push(NO_SYM);
        directories.sort_unstable();
        directories.dedup();
        Some(directories)
    }

    fn deprovisionings_found(
        &self,
        query: &DeprovisioningQuery<'_>,
        cut: Cut,
        limit: usize,
    ) -> Deprovisionings {
        let (mut found, mut looked_at): (Vec<Deprovisioning>, usize) = (Vec::new(), 0);
        for moment in self.moments_of(query, cut) {
            looked_at += 1;
            for user in self.ending_walk(moment, query, cut) {
                looked_at += 1;
                if let Some(item) = self.deprovisioning(user, moment, query, cut) {
                    looked_at += self.namesakes_by_idp_id(user);
                    found.push(item);
                }
                if found.len() >= limit || looked_at >= CANDIDATES_MAX {
                    return (found, Some((moment, self.users.id(user).to_owned())));
                }
            }
            if looked_at >= CANDIDATES_MAX {
                // After all users of this moment.
                let next = if query.descending { moment } else { moment.saturating_add(1) };
                return (found, Some((next, String::new())));
            }
        }
        (found, None)
    }

    /// Iterates over the moments at which a wanted deprovisioning may be, in the query's order.
    fn moments_of<'a>(
        &'a self,
        query: &DeprovisioningQuery<'_>,
        cut: Cut,
    ) -> Box<dyn Iterator<Item = Millis> + 'a> {
        let DeprovisioningQuery { first, last, descending, .. } = *query;
        let Some(users) = &query.users else {
            return self.loss_index.moments(query.scope(), first, last, descending);
        };
        let begin = if descending { last } else { first };
        let walk = |user: &Sym| -> MomentWalk<'a> {
            Box::new(self.access_walk(*user, begin, descending, cut))
        };
        let moments = MergedMoments::of(users.iter().map(walk), descending);
        Box::new(moments.take_while(move |moment| (first..=last).contains(moment)))
    }

    /// Walks over the users whose access may end at a moment, in order of id.
    fn ending_walk<'a>(
        &'a self,
        moment: Millis,
        query: &DeprovisioningQuery<'_>,
        cut: Cut,
    ) -> IdWalk<'a> {
        let DeprovisioningQuery { directory, descending, .. } = *query;
        let start = query.after.filter(|(at, _)| *at == moment).map(|(_, user)| user);
        if let Some(users) = &query.users {
            return self.sorted_walk(users.clone(), start, descending);
        }
        let (_, before) = around(moment, cut);
        let (mut users, mut walks) = (Vec::new(), Vec::new());
        for ending in self.loss_index.at(query.scope(), moment) {
            match ending {
                LossCandidate::User(user)
                    if directory.is_none_or(|directory| self.was_ever_in(user, directory)) =>
                {
                    users.push(user)
                }
                LossCandidate::Directory(ended)
                    if directory.is_none_or(|directory| directory == ended)
                        && self.sees(ended, cut) =>
                {
                    walks.push(self.users_walk(Some(ended), None, before, start, descending));
                }
                _ => {}
            }
        }
        walks.push(self.sorted_walk(users, start, descending));
        self.merged(walks, descending)
    }

    /// Sorts users into a walk.
    fn sorted_walk(
        &self,
        mut users: Vec<Sym>,
        start: Option<&str>,
        descending: bool,
    ) -> IdWalk<'_> {
        let id = |user: Sym| self.users.id(user);
        users.retain(|user| is_beyond(id(*user), start, descending));
        users.sort_by(|a, b| if descending { id(*b).cmp(id(*a)) } else { id(*a).cmp(id(*b)) });
        users.dedup();
        Box::new(users.into_iter())
    }

    fn was_ever_in(&self, user: Sym, directory: Sym) -> bool {
        self.users.get(user).is_some_and(|user| user.listed_in().contains(&directory))
    }

    /// Returns a user's loss of access at a moment, if there is one and it is wanted.
    fn deprovisioning(
        &self,
        user: Sym,
        moment: Millis,
        query: &DeprovisioningQuery<'_>,
        cut: Cut,
    ) -> Option<Deprovisioning> {
        let (then, before) = around(moment, cut);
        let basis = self.access_basis(user, before);
        if !basis.has_access() || self.access_basis(user, then).has_access() {
            return None;
        }
        // One who is elsewhere now is unknown to this caller, also as the user of the question.
        let is_seen = |version: &&EntityVersion| {
            self.sees(version.directory, cut) && self.sees_entity(EntityKind::User, user, cut)
        };
        let version = basis.version.filter(is_seen)?;
        let organization = self.shown_or_own(version, before, cut);
        let fits = query.email.is_none_or(|email| version.email == email)
            && query.directory.is_none_or(|directory| version.directory == directory)
            && query.organization.is_none_or(|wanted| organization == wanted);
        if !fits {
            return None;
        }
        let mut groups = self.groups_of(user, before);
        groups.retain(|(_, version)| self.sees(version.directory, cut));
        let group = |(group, version): &(Sym, &EntityVersion)| {
            (self.groups.id(*group).to_owned(), self.texts.text(version.label).to_owned())
        };
        let mut end = self.access_end(user, moment, cut)?;
        self.conceal(&mut end.cause);
        let restored_at = self.next_access(user, moment, cut);
        Some(Deprovisioning {
            user: self.users.id(user).to_owned(),
            snapshot: SnapshotRef { seq: Seq::from(version.place.seq), part: version.part },
            directory: self.directories.id(version.directory).to_owned(),
            organization: self.texts.text(organization).to_owned(),
            end,
            roles: self.roles_held(user, before),
            groups: groups.iter().map(group).collect(),
            restored_at: restored_at.filter(|at| self.saw(EntityKind::User, user, *at, cut)),
            app_user: self.app_user(self.users.id(user), cut).map(str::to_owned),
            same_person: self.same_person_as(user, cut),
        })
    }
}
