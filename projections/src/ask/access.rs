//! Access: the times in which a user had it, and the events that gave and ended it.
//!
//! A user has access while two things hold: its own latest version is active and not a tombstone,
//! and the directory of that version is active. The one that changed at a moment names the cause of
//! a beginning or an end.

use std::collections::BTreeSet;

use crate::ask::causes::{Cause, Trigger, last_moment};
use crate::ask::runs::{Concern, MergedMoments, PeriodsWindow, Run, RunsWindow, runs};
use crate::ground::fact::{DirectoryChange, Fingerprint};
use crate::ground::order::{Cut, Millis, Place, Seq, around};
use crate::ground::symbols::Sym;
use crate::sight::Seen;
use crate::state::directories::{Directory, DirectoryVersion};
use crate::state::entities::{Entity, EntityKind, EntityVersion, Part};
use crate::views::Views;

/// The reason for an end of access.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AccessLoss {
    /// The user was deleted.
    UserDeleted,
    /// The user became inactive.
    UserInactive,
    /// The user's directory was deactivated, or the user moved into one that was.
    DirectoryDeactivated,
    /// The user's directory was deleted, or the user moved into one that was.
    DirectoryDeleted,
    /// The source, when it was asked, did not know the user.
    UserAbsent,
    /// The source, when it was asked, did not know the user's directory, or the one into which the
    /// user moved.
    DirectoryAbsent,
}

impl AccessLoss {
    /// Every reason.
    pub const ALL: [AccessLoss; 6] = [
        AccessLoss::UserDeleted,
        AccessLoss::UserInactive,
        AccessLoss::DirectoryDeactivated,
        AccessLoss::DirectoryDeleted,
        AccessLoss::UserAbsent,
        AccessLoss::DirectoryAbsent,
    ];

    /// Returns its word in answers.
    pub fn word(self) -> &'static str {
        match self {
            AccessLoss::UserDeleted => "user_deleted",
            AccessLoss::UserInactive => "user_inactive",
            AccessLoss::DirectoryDeactivated => "directory_deactivated",
            AccessLoss::DirectoryDeleted => "directory_deleted",
            AccessLoss::UserAbsent => "user_absent",
            AccessLoss::DirectoryAbsent => "directory_absent",
        }
    }
}

/// A time in which a user had access without a break.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessPeriod {
    /// Its first moment.
    pub from: Millis,
    /// The event that began it.
    pub start: Cause,
    /// Its end; `None` while it lasts.
    pub end: Option<AccessEnd>,
}

/// The end of a time of access.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessEnd {
    /// The first moment without access.
    pub at: Millis,
    /// The reason.
    pub reason: AccessLoss,
    /// The event that ended it.
    pub cause: Cause,
    /// The last moment before at which the source showed the user, if the cause is an observation:
    /// it ended between the two.
    pub not_before: Option<Millis>,
}

/// The two things that a user's access depends on, at one moment.
#[derive(Clone, Copy)]
pub(crate) struct AccessBasis<'a> {
    /// The latest version, tombstones included.
    pub(crate) version: Option<&'a EntityVersion>,
    /// True if that version is active and not a tombstone.
    own: bool,
    /// True if its directory is active and did not end it.
    directory: bool,
}

impl AccessBasis<'_> {
    pub(crate) fn has_access(self) -> bool {
        self.own && self.directory
    }
}

impl Views {
    pub(crate) fn access_basis(&self, user: Sym, cut: Cut) -> AccessBasis<'_> {
        let version = self.users.get(user).and_then(|user| user.version(cut));
        let own = version.is_some_and(|version| !version.deleted && version.active);
        let directory = version.is_some_and(|version| {
            self.lets_in(version, self.directory_of(user, version, cut), cut)
        });
        AccessBasis { version, own, directory }
    }

    /// Returns the directory of a version. A deletion does not move a user: its directory is that
    /// of the latest version before it, if there is one.
    pub(crate) fn directory_of(&self, user: Sym, version: &EntityVersion, cut: Cut) -> Sym {
        let lived = if version.deleted {
            self.last_version(EntityKind::User, user, cut, |version| !version.deleted)
        } else {
            None
        };
        lived.unwrap_or(version).directory
    }

    /// Tells if a directory is active and did not end a version.
    fn lets_in(&self, version: &EntityVersion, directory: Sym, cut: Cut) -> bool {
        let Some(directory) = self.directories.get(directory) else { return true };
        self.shuts_out(directory, version, cut).is_none()
    }

    /// Returns the reason for which a directory keeps a version from access, if it does.
    fn shuts_out(
        &self,
        directory: &Directory,
        version: &EntityVersion,
        cut: Cut,
    ) -> Option<AccessLoss> {
        if self.ended_by(directory, version, cut) {
            return Some(AccessLoss::DirectoryDeleted);
        }
        (!directory.is_active(cut)).then_some(AccessLoss::DirectoryDeactivated)
    }

    /// Returns the first moment after another, up to the cut, at which a user has access. The user
    /// must have none at `after`. Costs a look-up for each moment in between.
    pub(crate) fn next_access(&self, user: Sym, after: Millis, cut: Cut) -> Option<Millis> {
        let mut moments = self.access_walk(user, after.checked_add(1)?, false, cut);
        moments.find(|moment| self.access_basis(user, Cut { as_of: *moment, ..cut }).has_access())
    }

    /// Returns the place of the event that began access at a moment.
    fn start_of_access(&self, user: Sym, moment: Millis, cut: Cut) -> Option<Place> {
        let (then, before) = around(moment, cut);
        let (now, was) = (self.access_basis(user, then), self.access_basis(user, before));
        let version = now.version?;
        let mut places = Vec::new();
        if !was.own && version.place.occurred_at == moment {
            places.push(version.place);
        }
        if !was.directory {
            places.extend(self.directory_turned(
                version.directory,
                DirectoryChange::Activated,
                then,
            ));
            // A user who was in the directory, by a version that its deletion did not end, waited
            // for the directory alone.
            let deletion = self
                .directories
                .get(version.directory)
                .and_then(|directory| directory.deletions().latest(before));
            let outlived = |old: &EntityVersion| {
                deletion.is_none_or(|deletion| self.ids.is_later(old.place, *deletion))
            };
            let stayed = was.version.is_some_and(|old| {
                self.directory_of(user, old, before) == version.directory && outlived(old)
            });
            if !stayed && version.place.occurred_at == moment {
                places.push(version.place);
            }
        }
        self.last_of(places)
    }

    /// Returns the place of the event that ended access at a moment, and the reason.
    fn end_of_access(&self, user: Sym, moment: Millis, cut: Cut) -> Option<(Place, AccessLoss)> {
        let (then, before) = around(moment, cut);
        let (version, old) =
            (self.access_basis(user, then).version?, self.access_basis(user, before).version?);
        let mut places = Vec::new();
        if version.deleted || !version.active {
            places.push(version.place);
        }
        let directory = self.directory_of(user, version, then);
        let loss =
            self.directories.get(directory).and_then(|item| self.shuts_out(item, version, then));
        if let Some(loss) = loss {
            let change = if loss == AccessLoss::DirectoryDeleted {
                DirectoryChange::Deleted
            } else {
                DirectoryChange::Deactivated
            };
            places.extend(self.directory_turned(directory, change, then));
            if version.directory != old.directory {
                places.push(version.place);
            }
        }
        let last = self.last_of(places.into_iter().filter(|place| place.occurred_at == moment))?;
        let of_user = last.seq == version.place.seq;
        let reason = match loss {
            _ if of_user && version.deleted => self.loss_by_deletion(version),
            Some(loss) => self.loss_by_directory(loss, directory, then),
            None => AccessLoss::UserInactive,
        };
        Some((last, reason))
    }

    /// Returns the reason for which a user's deletion ended its access.
    fn loss_by_deletion(&self, tombstone: &EntityVersion) -> AccessLoss {
        match tombstone.part {
            Part::Object => AccessLoss::UserAbsent,
            Part::Data | Part::User | Part::Group => AccessLoss::UserDeleted,
        }
    }

    /// Returns the reason for which a directory keeps a user from access: `loss`, in the words of
    /// the record that deleted the directory.
    fn loss_by_directory(&self, loss: AccessLoss, directory: Sym, cut: Cut) -> AccessLoss {
        let deletion = self
            .directories
            .get(directory)
            .filter(|_| loss == AccessLoss::DirectoryDeleted)
            .and_then(|directory| directory.deletions().latest(cut));
        if deletion.is_some_and(|deletion| self.is_observation(Seq::from(deletion.seq))) {
            AccessLoss::DirectoryAbsent
        } else {
            loss
        }
    }

    /// Returns the reason for which a user has no access at the cut; `None` for a user without any
    /// version by then.
    pub(crate) fn lack_of_access(&self, user: Sym, cut: Cut) -> Option<AccessLoss> {
        let version = self.access_basis(user, cut).version?;
        if version.deleted {
            return Some(self.loss_by_deletion(version));
        }
        let directory = self.directories.get(version.directory);
        let loss = directory.and_then(|directory| self.shuts_out(directory, version, cut));
        let loss = loss.map(|loss| self.loss_by_directory(loss, version.directory, cut));
        Some(loss.unwrap_or(AccessLoss::UserInactive))
    }

    /// Returns the last of a directory's events, at the cut's own moment, that made it active,
    /// inactive or deleted.
    pub(crate) fn directory_turned(
        &self,
        directory: Sym,
        change: DirectoryChange,
        then: Cut,
    ) -> Option<Place> {
        self.last_of_directory(directory, then, |event| event.change == change)
    }

    /// Returns the last of a directory's events, at the cut's own moment, from which on it exists.
    pub(crate) fn directory_brought_back(&self, directory: Sym, then: Cut) -> Option<Place> {
        self.last_of_directory(directory, then, DirectoryVersion::brings_back)
    }

    fn last_of_directory(
        &self,
        directory: Sym,
        then: Cut,
        wanted: impl Fn(&DirectoryVersion) -> bool,
    ) -> Option<Place> {
        let events = self.directories.get(directory)?.events().at(then.as_of);
        let wanted = events.filter(|event| wanted(event) && then.sees(event.place));
        self.last_of(wanted.map(|event| event.place))
    }

    /// Iterates over the periods of a user's access that begin in a window.
    pub(crate) fn periods_of_access(
        &self,
        user: Sym,
        cut: Cut,
        window: RunsWindow,
    ) -> impl Iterator<Item = AccessPeriod> {
        let moments = move |from, descending| self.access_walk(user, from, descending, cut);
        let holds = move |as_of| self.access_basis(user, Cut { as_of, ..cut }).has_access();
        runs(window, moments, holds).filter_map(move |Run { from, until }| {
            let start = self.start_of_access(user, from, cut)?;
            Some(AccessPeriod {
                from,
                start: self.cause_of(Trigger::Event(start)),
                end: until.and_then(|until| self.access_end(user, until, cut)),
            })
        })
    }

    /// Walks over the moments, known and up to the cut, that a user's access depends on: from one
    /// on, or back from one.
    pub(crate) fn access_walk(
        &self,
        user: Sym,
        from: Millis,
        descending: bool,
        cut: Cut,
    ) -> MergedMoments<'_> {
        let Some(entity) = self.users.get(user) else {
            return MergedMoments::of([], descending);
        };
        let own = self.turn_walks(entity, Concern::Access, from, descending, cut);
        let directories = entity.listed_in().iter().copied();
        let events = self.directory_walks(directories, from, descending, cut);
        MergedMoments::of(own.into_iter().chain(events), descending)
    }

    /// Returns the end of access at a moment. The caller has checked that there is one.
    pub(crate) fn access_end(&self, user: Sym, moment: Millis, cut: Cut) -> Option<AccessEnd> {
        let (place, reason) = self.end_of_access(user, moment, cut)?;
        let cause = self.cause_of(Trigger::Event(place));
        let observed = cause.is_observation();
        let not_before = observed.then(|| self.last_shown(user, moment, cut)).flatten();
        Some(AccessEnd { at: moment, reason, cause, not_before })
    }
}

impl Seen<'_> {
    /// Returns every time in which a user had access, up to the cut, in order. `None` for a user
    /// that no known event names.
    ///
    /// Costs a look-up for each change of the user and each event of its directories.
    pub fn access_periods(&self, user: &str, cut: Cut) -> Option<Vec<AccessPeriod>> {
        self.access_periods_in(user, cut, PeriodsWindow::ALL)
    }

    /// Returns the same for a part of the list, in which periods have no names. Costs only what
    /// lies between the beginning of the first of them and the end of the last.
    pub fn access_periods_in(
        &self,
        user: &str,
        cut: Cut,
        window: PeriodsWindow<'_>,
    ) -> Option<Vec<AccessPeriod>> {
        let user = self.known_sym(EntityKind::User, user, cut)?;
        let periods = self.periods_of_access(user, cut, window.beginnings(""));
        let is_seen = |period: &AccessPeriod| {
            let until = period.end.as_ref().map(|end| end.at);
            self.saw(EntityKind::User, user, last_moment(until, cut), cut)
        };
        let mut periods: Vec<AccessPeriod> = periods.filter(is_seen).take(window.limit).collect();
        for period in &mut periods {
            self.conceal(&mut period.start);
            period.end.iter_mut().for_each(|end| self.conceal(&mut end.cause));
        }
        Some(periods)
    }

    /// Returns the emails that a user ever showed, as far as they are known.
    pub fn emails_of_user(&self, id: &str, known_at: Seq) -> BTreeSet<Fingerprint> {
        let known = Cut { as_of: Millis::MAX, known_at };
        let user = self.known_sym(EntityKind::User, id, known);
        let versions = user.and_then(|user| self.users.get(user)).into_iter();
        versions
            .flat_map(Entity::versions)
            .filter(|version| known.sees(version.place) && self.sees(version.directory, known))
            .filter_map(|version| self.emails.get(version.email).copied())
            .collect()
    }

    /// Returns the users who show an email with a fingerprint at the cut, or showed one at a moment
    /// up to it, by id; true for those who still do.
    ///
    /// Costs a look-up for each version of each user who ever had it.
    pub fn email_holders(&self, email: Fingerprint, cut: Cut) -> Vec<(String, bool)> {
        let Some(email) = self.emails.find(email) else { return Vec::new() };
        let holder = |user: Sym| {
            let now = self.alive(EntityKind::User, user, cut);
            let shows = now.is_some_and(|version| self.shows(version, email, cut));
            self.ever_showed(user, email, cut).then(|| (self.users.id(user).to_owned(), shows))
        };
        let mut holders: Vec<(String, bool)> =
            self.emails.holders(email).filter_map(holder).collect();
        holders.sort();
        holders
    }

    /// Tells if a user showed an email at a moment up to the cut.
    pub(crate) fn ever_showed(&self, user: Sym, email: Sym, cut: Cut) -> bool {
        let Some(entity) = self.users.get(user) else { return false };
        if !self.saw(EntityKind::User, user, cut.as_of, cut) {
            return false;
        }
        let shows = |version: &EntityVersion| self.shows(version, email, cut);
        // Most still show it.
        if entity.version(cut).is_some_and(shows) {
            return true;
        }
        let mut versions =
            entity.versions().filter(|version| shows(version) && cut.sees(version.place));
        versions.any(|version| {
            let then = Cut { as_of: version.place.occurred_at, ..cut };
            entity.version(then).is_some_and(shows)
        })
    }

    fn shows(&self, version: &EntityVersion, email: Sym, cut: Cut) -> bool {
        !version.deleted && version.email == email && self.sees(version.directory, cut)
    }
}
