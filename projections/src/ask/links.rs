//! Links of directory users to the application's own users.

use core::ops::Bound;
use std::collections::BTreeSet;

use crate::ground::order::{Cut, Millis, Seq, Seq32, seq32};
use crate::sight::Seen;
use crate::state::entities::EntityKind;
use crate::state::links::LinkSpan;
use crate::views::Views;

/// The highest number of candidates that one call looks at.
const CANDIDATES_MAX: usize = 2048;

/// A link of a directory user to an application user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The application's id of its user.
    pub app_user: String,
    /// The directory user.
    pub user: String,
    /// The directory that the user is in at the cut, or was last in.
    pub directory: String,
    /// When it was set.
    pub set_at: Millis,
    /// The record that set it.
    pub seq: Seq,
}

/// A filter of links; all parts that are given must fit.
#[derive(Clone, Copy, Debug, Default)]
pub struct LinkFilter<'a> {
    /// Of this application user.
    pub app_user: Option<&'a str>,
    /// Of this directory user.
    pub user: Option<&'a str>,
    /// Of users who are in this directory at the cut, or were last in it.
    pub directory: Option<&'a str>,
}

impl Views {
    /// Returns the directory user's link at the cut. A link takes effect when it is recorded.
    pub fn link_of_user(&self, user: &str, cut: Cut) -> Option<Link> {
        self.links.of_user(user, self.in_effect(cut)).map(|span| self.link(span, cut))
    }

    /// Returns the directory users whom an application user is linked to now, in no order.
    pub fn linked_users(&self, app_user: &str) -> impl Iterator<Item = &str> {
        self.links.of_app_user(app_user, Seq32::MAX).map(|span| self.links.id(span.user))
    }

    /// Returns the directory that a user is or was last in, as far as anything is known now.
    pub fn last_directory_of_user(&self, user: &str) -> Option<&str> {
        let user = self.users.find(user)?;
        Some(self.directories.id(self.home(EntityKind::User, user, Cut::LATEST)?))
    }

    /// Returns the id of the application user that a directory user is linked to at the cut.
    pub fn app_user(&self, user: &str, cut: Cut) -> Option<&str> {
        let span = self.links.of_user(user, self.in_effect(cut))?;
        Some(self.links.id(span.app_user))
    }

    /// Returns the last record of links that a cut sees. Both clocks order links alike.
    fn in_effect(&self, cut: Cut) -> Seq32 {
        if self.links.len() == 0 {
            return 0;
        }
        seq32(self.known_at(cut.as_of).min(cut.known_at))
    }

    /// Returns the directory that the user of a link is in at a cut, or was last in. A user who is
    /// not there yet is shown in the one in which it will be.
    pub(crate) fn directory_of_link(&self, span: &LinkSpan, cut: Cut) -> &str {
        let user = self.users.find(self.links.id(span.user));
        let home = |cut: Cut| self.home(EntityKind::User, user?, cut);
        let home = home(cut).or_else(|| home(Cut { as_of: Millis::MAX, ..cut }));
        home.map_or_else(|| self.links.id(span.directory), |home| self.directories.id(home))
    }

    fn link(&self, span: &LinkSpan, cut: Cut) -> Link {
        let [app_user, user] = [span.app_user, span.user].map(|id| self.links.id(id).to_owned());
        let directory = self.directory_of_link(span, cut).to_owned();
        Link { app_user, user, directory, set_at: span.set_at, seq: Seq::from(span.seq) }
    }
}

impl Seen<'_> {
    /// Returns the directory that a user is or was last in, if the user is seen: that of a link
    /// that is set now.
    pub fn directory_to_link(&self, user: &str) -> Option<&str> {
        self.known_sym(EntityKind::User, user, Cut::LATEST)?;
        self.last_directory_of_user(user)
    }

    /// Returns some links, by the id of the directory user, behind a place in that order; and the
    /// place behind which to continue, if there may be more. It may find none and still return such
    /// a place. A link is seen by those who see its user.
    pub fn links(
        &self,
        filter: &LinkFilter<'_>,
        cut: Cut,
        after: Option<&str>,
        descending: bool,
        limit: usize,
    ) -> (Vec<Link>, Option<String>) {
        let known_at = self.in_effect(cut);
        let named: BTreeSet<Box<str>>;
        let users = match (filter.user, filter.app_user) {
            (Some(user), _) => {
                named = [user.into()].into();
                &named
            }
            (None, Some(app_user)) => {
                let spans = self.links.of_app_user(app_user, known_at);
                named = spans.map(|span| self.links.id(span.user).into()).collect();
                &named
            }
            (None, None) => match filter.directory {
                None => self.links.users(),
                Some(directory) => {
                    let directory = self.directories.find(directory);
                    match directory.and_then(|directory| self.links.users_in(directory)) {
                        Some(users) => users,
                        None => return (Vec::new(), None),
                    }
                }
            },
        };
        let mut found = Vec::new();
        for (looked_at, user) in walk(users, after, descending).enumerate() {
            let span = self.links.of_user(user, known_at);
            let fits = span.filter(|span| self.fits(span, filter, cut));
            found.extend(fits.map(|span| self.link(span, cut)));
            if found.len() >= limit || looked_at + 1 >= CANDIDATES_MAX {
                return (found, Some(user.to_owned()));
            }
        }
        (found, None)
    }

    fn fits(&self, span: &LinkSpan, filter: &LinkFilter<'_>, cut: Cut) -> bool {
        let is_of = |app_user: &str| self.links.id(span.app_user) == app_user;
        let is_in = |directory: &str| self.directory_of_link(span, cut) == directory;
        filter.app_user.is_none_or(is_of)
            && filter.directory.is_none_or(is_in)
            && self.entity_sym(EntityKind::User, self.links.id(span.user), cut).is_some()
    }
}

/// Walks over ids in order, from behind a place.
fn walk<'a>(
    ids: &'a BTreeSet<Box<str>>,
    after: Option<&str>,
    descending: bool,
) -> Box<dyn Iterator<Item = &'a str> + 'a> {
    let behind = after.map_or(Bound::Unbounded, Bound::Excluded);
    if descending {
        let range = ids.range::<str, (Bound<&str>, Bound<&str>)>((Bound::Unbounded, behind));
        Box::new(range.rev().map(|id| &**id))
    } else {
        let range = ids.range::<str, (Bound<&str>, Bound<&str>)>((behind, Bound::Unbounded));
        Box::new(range.map(|id| &**id))
    }
}
