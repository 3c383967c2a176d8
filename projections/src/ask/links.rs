//! Links of directory users to the application's own users.

use core::ops::Bound;
use std::collections::BTreeSet;

use crate::ground::order::{Cut, Millis, Seq, Seq32, seq32};
use crate::ground::symbols::Sym;
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
    /// The directory that the user was in when the link was set.
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
    /// Of this directory.
    pub directory: Option<&'a str>,
}

impl Views {
    /// Returns the directory user's link at the cut. A link takes effect when it is recorded.
    pub fn link_of_user(&self, user: &str, cut: Cut) -> Option<Link> {
        self.links.of_user(user, self.in_effect(cut)).map(|span| self.link(span))
    }

    /// Returns the application user's link in a directory at the cut.
    pub fn link_in_directory(&self, app_user: &str, directory: &str, cut: Cut) -> Option<Link> {
        let span = self.links.of_app_user_in(app_user, directory, self.in_effect(cut));
        span.map(|span| self.link(span))
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

    fn link(&self, span: &LinkSpan) -> Link {
        let [app_user, user, directory] =
            [span.app_user, span.user, span.directory].map(|id| self.links.id(id).to_owned());
        Link { app_user, user, directory, set_at: span.set_at, seq: Seq::from(span.seq) }
    }
}

impl Seen<'_> {
    /// Returns the directory that a user is or was last in, if the user is seen: that of a link
    /// that is set now.
    pub fn directory_to_link(&self, user: &str) -> Option<&str> {
        let sym = self.known_sym(EntityKind::User, user, Cut::LATEST)?;
        Some(self.directories.id(self.home(EntityKind::User, sym, Cut::LATEST)?))
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
            (None, None) => match self.links.users(filter.directory) {
                Some(users) => users,
                None => return (Vec::new(), None),
            },
        };
        let mut found = Vec::new();
        for (looked_at, user) in walk(users, after, descending).enumerate() {
            let span = self.links.of_user(user, known_at);
            let fits = span.filter(|span| self.fits(span, filter, cut));
            found.extend(fits.map(|span| self.link(span)));
            if found.len() >= limit || looked_at + 1 >= CANDIDATES_MAX {
                return (found, Some(user.to_owned()));
            }
        }
        (found, None)
    }

    fn fits(&self, span: &LinkSpan, filter: &LinkFilter<'_>, cut: Cut) -> bool {
        let is = |sym: Sym, wanted: Option<&str>| wanted.is_none_or(|id| self.links.id(sym) == id);
        is(span.app_user, filter.app_user)
            && is(span.directory, filter.directory)
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
