//! Links of directory users to the application's own users, as operators set and removed them.

use std::collections::{BTreeMap, BTreeSet};

use hashbrown::HashMap;
use rustc_hash::FxBuildHasher;
use smallvec::SmallVec;

use crate::ground::order::{Millis, Seq32};
use crate::ground::symbols::{Sym, Symbols};

/// The [`LinkSpan::ended`] of a link that lasts.
const LASTS: Seq32 = Seq32::MAX;

/// A link, from the record that set it to the one that ended it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LinkSpan {
    pub(crate) app_user: Sym,
    pub(crate) user: Sym,
    /// The directory that the user was in when the link was set.
    pub(crate) directory: Sym,
    pub(crate) seq: Seq32,
    pub(crate) set_at: Millis,
    /// The record that ended it; [`LASTS`] if none has.
    ended: Seq32,
}

impl LinkSpan {
    /// Returns the record that ended it, up to a record.
    pub(crate) fn ended_by(&self, known_at: Seq32) -> Option<Seq32> {
        Some(self.ended).filter(|ended| *ended != LASTS && *ended <= known_at)
    }
}

/// The numbers of links that exclude each other, in order of seq: no two last at a time.
type Chain = SmallVec<[u32; 1]>;

/// Every link that was ever set. Links have one origin, so they are ordered by seq alone, and the
/// end of each is known for good when it is folded.
#[derive(Default)]
pub(crate) struct Links {
    /// The ids of application users, directory users and directories.
    ids: Symbols,
    /// In order of seq.
    spans: Vec<LinkSpan>,
    /// By directory user.
    of_user: HashMap<Sym, Chain, FxBuildHasher>,
    /// By application user and directory.
    of_app_user: BTreeMap<(Sym, Sym), Chain>,
    /// The ids of the users that ever had a link.
    users: BTreeSet<Box<str>>,
    /// The same, by the directory of the link.
    users_in: HashMap<Sym, BTreeSet<Box<str>>, FxBuildHasher>,
}

impl Links {
    /// Sets a link. Ends the user's own, and the application user's other one in the directory.
    pub(crate) fn set(
        &mut self,
        seq: Seq32,
        set_at: Millis,
        app_user: &str,
        user: &str,
        directory: &str,
    ) {
        let [app_user, user_sym, directory] =
            [app_user, user, directory].map(|id| self.ids.intern(id));
        let number = self.spans.len() as u32;
        let of_user = self.of_user.entry(user_sym).or_default();
        let of_app_user = self.of_app_user.entry((app_user, directory)).or_default();
        for former in [of_user.last(), of_app_user.last()].into_iter().flatten() {
            end(&mut self.spans, *former, seq);
        }
        of_user.push(number);
        of_app_user.push(number);
        let span = LinkSpan { app_user, user: user_sym, directory, seq, set_at, ended: LASTS };
        self.spans.push(span);
        self.users.insert(user.into());
        self.users_in.entry(directory).or_default().insert(user.into());
    }

    /// Removes a user's link, if it has one.
    pub(crate) fn remove(&mut self, seq: Seq32, user: &str) {
        let chain = self.ids.find(user).and_then(|user| self.of_user.get(&user));
        if let Some(last) = chain.and_then(|chain| chain.last()) {
            end(&mut self.spans, *last, seq);
        }
    }

    pub(crate) fn id(&self, sym: Sym) -> &str {
        self.ids.text(sym)
    }

    /// Returns the number of links that were ever set.
    pub(crate) fn len(&self) -> usize {
        self.spans.len()
    }

    /// Returns a link by its number, from 0 in order of seq.
    pub(crate) fn get(&self, number: usize) -> Option<&LinkSpan> {
        self.spans.get(number)
    }

    /// Returns the link of a directory user that lasts at a record. O(log n).
    pub(crate) fn of_user(&self, user: &str, known_at: Seq32) -> Option<&LinkSpan> {
        self.lasting(self.of_user.get(&self.ids.find(user)?)?, known_at)
    }

    /// Iterates over the links of an application user that last at a record: at most one for each
    /// directory.
    pub(crate) fn of_app_user(
        &self,
        app_user: &str,
        known_at: Seq32,
    ) -> impl Iterator<Item = &LinkSpan> {
        let chains = self.ids.find(app_user).into_iter().flat_map(|app_user| {
            self.of_app_user.range((app_user, Sym::MIN)..=(app_user, Sym::MAX))
        });
        chains.filter_map(move |(_, chain)| self.lasting(chain, known_at))
    }

    /// Returns the link of an application user in a directory that lasts at a record.
    pub(crate) fn of_app_user_in(
        &self,
        app_user: &str,
        directory: &str,
        known_at: Seq32,
    ) -> Option<&LinkSpan> {
        let key = (self.ids.find(app_user)?, self.ids.find(directory)?);
        self.lasting(self.of_app_user.get(&key)?, known_at)
    }

    /// Returns the ids of the users that ever had a link, or one in a directory.
    pub(crate) fn users(&self, directory: Option<&str>) -> Option<&BTreeSet<Box<str>>> {
        match directory {
            None => Some(&self.users),
            Some(directory) => self.users_in.get(&self.ids.find(directory)?),
        }
    }

    fn lasting(&self, chain: &Chain, known_at: Seq32) -> Option<&LinkSpan> {
        let span = |number: &u32| self.spans.get(*number as usize);
        let is_known = |number: &u32| span(number).is_some_and(|link| link.seq <= known_at);
        let known = chain.partition_point(is_known);
        let last = chain.get(known.checked_sub(1)?).and_then(span)?;
        last.ended_by(known_at).is_none().then_some(last)
    }
}

/// Ends a link at a record, unless it has ended before.
fn end(spans: &mut [LinkSpan], number: u32, seq: Seq32) {
    if let Some(span) = spans.get_mut(number as usize) {
        span.ended = span.ended.min(seq);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the links that last at a record, as pairs of an application user and a user.
    fn lasting(links: &Links, known_at: Seq32) -> Vec<(String, String)> {
        let users = links.users(None).into_iter().flatten();
        let spans = users.filter_map(|user| links.of_user(user, known_at));
        spans.map(|link| (links.id(link.app_user).into(), links.id(link.user).into())).collect()
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(app_user, user)| ((*app_user).into(), (*user).into())).collect()
    }

    #[test]
    fn a_link_ends_those_of_its_directory_that_contradict_it() {
        let mut links = Links::default();
        links.set(1, 10, "ann", "u1", "d");
        links.set(2, 20, "ann", "v1", "e");
        links.set(3, 30, "bob", "u2", "d");
        links.set(4, 40, "ann", "u2", "d");
        assert_eq!(lasting(&links, 0), pairs(&[]));
        assert_eq!(lasting(&links, 3), pairs(&[("ann", "u1"), ("bob", "u2"), ("ann", "v1")]));
        assert_eq!(lasting(&links, 4), pairs(&[("ann", "u2"), ("ann", "v1")]));
        let of_ann: Vec<Seq32> = links.of_app_user("ann", 4).map(|link| link.seq).collect();
        assert_eq!(of_ann, [4, 2]);
    }

    #[test]
    fn a_removed_link_is_there_until_its_removal() {
        let mut links = Links::default();
        links.set(1, 10, "ann", "u1", "d");
        links.remove(2, "u1");
        links.remove(3, "u1");
        links.remove(4, "never linked");
        links.set(5, 50, "ann", "u1", "d");
        for (known_at, is_there) in [(0, false), (1, true), (2, false), (4, false), (5, true)] {
            assert_eq!(links.of_user("u1", known_at).is_some(), is_there, "at {known_at}");
            let of_ann = links.of_app_user_in("ann", "d", known_at);
            assert_eq!(of_ann.is_some(), is_there, "at {known_at}");
        }
    }

    #[test]
    fn a_user_who_moved_has_one_link_of_all_directories() {
        let mut links = Links::default();
        links.set(1, 10, "ann", "u1", "d");
        links.set(2, 20, "bob", "u1", "e");
        assert_eq!(lasting(&links, 2), pairs(&[("bob", "u1")]));
        assert!(links.of_app_user("ann", 2).next().is_none());
    }
}
