//! Who lost access, and when: found through an index of what may end it.

use std::collections::BTreeSet;

use crate::ask::access::AccessEnd;
use crate::ground::fact::Fingerprint;
use crate::ground::order::around;
use crate::ground::order::{Cut, Millis, Seq};
use crate::ground::page::resolve;
use crate::ground::symbols::Sym;
use crate::ground::walks::IdWalk;
use crate::state::endings::AccessEnding;
use crate::state::entities::{EntityVersion, Part};
use crate::views::Views;

/// How many candidates are looked at in one go.
const CANDIDATES_MAX: usize = 2048;

/// Somebody's loss of access.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deprovisioning {
    /// Who.
    pub user: String,
    /// The record that describes the user in the millisecond before, and where in it.
    pub snapshot: (Seq, Part),
    /// The directory in the millisecond before.
    pub directory: String,
    /// The organization that the user showed then; empty while unknown.
    pub organization: String,
    /// When, why, and by which event.
    pub end: AccessEnd,
    /// The roles held the millisecond before, the highest first.
    pub roles: Vec<String>,
    /// The groups it was in the millisecond before, by id, each with its name.
    pub groups: Vec<(String, String)>,
    /// When access began again.
    pub restored_at: Option<Millis>,
}

/// Some deprovisionings, and the moment and user to go on behind, if there may be more.
pub type Deprovisionings = (Vec<Deprovisioning>, Option<(Millis, String)>);

/// Which deprovisionings a list is narrowed to; all that are given must fit.
#[derive(Clone, Copy, Debug, Default)]
pub struct DeprovisioningFilter<'a> {
    /// Of this user.
    pub user: Option<&'a str>,
    /// Of users who showed an email with this fingerprint.
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

impl Views {
    /// Returns some deprovisionings, by moment and user, behind a place in that order; and the
    /// place to go on behind, if there may be more. It may find none and still say where to go on.
    ///
    /// Looks at no more than some thousand candidates: what may have ended access between the two
    /// bounds, or of the users named the whole history.
    pub fn deprovisionings(
        &self,
        filter: &DeprovisioningFilter<'_>,
        cut: Cut,
        after: Option<(Millis, &str)>,
        descending: bool,
        limit: usize,
    ) -> Deprovisionings {
        self.deprovisionings_found(filter, cut, after, descending, limit).unwrap_or_default()
    }

    fn deprovisionings_found(
        &self,
        filter: &DeprovisioningFilter<'_>,
        cut: Cut,
        after: Option<(Millis, &str)>,
        descending: bool,
        limit: usize,
    ) -> Option<Deprovisionings> {
        let user = resolve(filter.user, |id| self.users.find(id))?;
        let email = resolve(filter.email, |print| self.emails.find(print))?;
        let directory = resolve(filter.directory, |id| self.directories.find(id))?;
        let organization = resolve(filter.organization, |id| self.texts.find(id))?;
        let fits = |version: &EntityVersion, before: Cut| {
            email.is_none_or(|email| version.email == email)
                && directory.is_none_or(|directory| version.directory == directory)
                && organization.is_none_or(|organization| {
                    self.shown_organization(version, before) == organization
                })
        };
        let (mut first, mut last) = (
            filter.since.unwrap_or(Millis::MIN),
            filter.until.unwrap_or(Millis::MAX).min(cut.as_of),
        );
        match after {
            Some((moment, _)) if descending => last = last.min(moment),
            Some((moment, _)) => first = first.max(moment),
            None => {}
        }
        let named: Option<Vec<Sym>> =
            user.map(|user| vec![user]).or(email.map(|email| self.emails.holders(email).collect()));
        let moments: Box<dyn Iterator<Item = Millis> + '_> = match &named {
            Some(users) => {
                let all = users.iter().flat_map(|user| self.access_moments(*user, cut));
                let within: BTreeSet<Millis> =
                    all.filter(|moment| (first..=last).contains(moment)).collect();
                if descending {
                    Box::new(within.into_iter().rev())
                } else {
                    Box::new(within.into_iter())
                }
            }
            None => self.endings.moments(first, last, descending),
        };
        let (mut found, mut looked_at): (Vec<Deprovisioning>, usize) = (Vec::new(), 0);
        for moment in moments {
            let start = after.filter(|(at, _)| *at == moment).map(|(_, user)| user);
            let (then, before) = around(moment, cut);
            looked_at += 1;
            for name in
                self.ending_walk(moment, named.as_deref(), directory, before, start, descending)
            {
                looked_at += 1;
                let was = self.access_basis(name, before);
                let lost = was.has_access() && !self.access_basis(name, then).has_access();
                let version = was.version.filter(|version| lost && fits(version, before));
                found.extend(
                    version.and_then(|version| self.deprovisioning(name, version, moment, cut)),
                );
                if found.len() >= limit || looked_at >= CANDIDATES_MAX {
                    return Some((found, Some((moment, self.users.id(name).to_owned()))));
                }
            }
            if looked_at >= CANDIDATES_MAX {
                // Behind everybody of this moment.
                let moment = if descending { moment } else { moment.saturating_add(1) };
                return Some((found, Some((moment, String::new()))));
            }
        }
        Some((found, None))
    }

    /// Returns users whose access may end at a moment, in order of id.
    fn ending_walk<'a>(
        &'a self,
        moment: Millis,
        named: Option<&[Sym]>,
        directory: Option<Sym>,
        before: Cut,
        start: Option<&'a str>,
        descending: bool,
    ) -> IdWalk<'a> {
        let id = |sym: Sym| self.users.id(sym);
        let sorted = |mut users: Vec<Sym>| -> IdWalk<'a> {
            users.retain(|sym| {
                start.is_none_or(
                    |start| if descending { id(*sym) < start } else { id(*sym) > start },
                )
            });
            users.sort_by(|a, b| if descending { id(*b).cmp(id(*a)) } else { id(*a).cmp(id(*b)) });
            Box::new(users.into_iter())
        };
        if let Some(users) = named {
            return sorted(users.to_vec());
        }
        let (mut users, mut walks) = (Vec::new(), Vec::new());
        for ending in self.endings.at(moment) {
            match ending {
                AccessEnding::User(user)
                    if directory.is_none_or(|directory| self.was_ever_in(user, directory)) =>
                {
                    users.push(user)
                }
                AccessEnding::Directory(ended)
                    if directory.is_none_or(|directory| directory == ended) =>
                {
                    walks.push(self.users_walk(Some(ended), None, before, start, descending));
                }
                _ => {}
            }
        }
        walks.push(sorted(users));
        self.merged(walks, descending)
    }

    fn was_ever_in(&self, user: Sym, directory: Sym) -> bool {
        self.users.get(user).is_some_and(|user| user.listed_in().contains(&directory))
    }

    fn deprovisioning(
        &self,
        user: Sym,
        version: &EntityVersion,
        moment: Millis,
        cut: Cut,
    ) -> Option<Deprovisioning> {
        let (_, before) = around(moment, cut);
        let groups = self.groups_of(user, before);
        let group = |(group, version): &(Sym, &EntityVersion)| {
            (self.groups.id(*group), self.texts.text(version.label))
        };
        Some(Deprovisioning {
            user: self.users.id(user).to_owned(),
            snapshot: (Seq::from(version.place.seq), version.part),
            directory: self.directories.id(version.directory).to_owned(),
            organization: self.texts.text(self.shown_organization(version, before)).to_owned(),
            end: self.access_end(user, moment, cut)?,
            roles: self.roles_held(user, before),
            groups: groups
                .iter()
                .map(group)
                .map(|(id, name)| (id.to_owned(), name.to_owned()))
                .collect(),
            restored_at: self.next_access(user, moment, cut),
        })
    }
}
