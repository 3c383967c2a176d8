//! Links of directory users to the application's own users, as operators set and removed them.

use std::collections::BTreeSet;

use hashbrown::HashMap;
use rustc_hash::FxBuildHasher;
use smallvec::SmallVec;

use crate::ground::order::{Millis, Seq32};
use crate::ground::pack::pack_fields;
use crate::ground::symbols::{Sym, Symbols};

/// The [`LinkSpan::ended`] of a link that lasts.
const LASTS: Seq32 = Seq32::MAX;

/// A link, from the record that set it to the one that ended it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LinkSpan {
    pub(crate) app_user: Sym,
    pub(crate) user: Sym,
    /// The directory that the record names: that of the user when the link was set.
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

/// A link as a record sets it.
#[derive(Clone, Copy)]
pub(crate) struct NewLink<'a> {
    pub(crate) app_user: &'a str,
    pub(crate) user: &'a str,
    pub(crate) directory: &'a str,
}

/// The numbers of links in order of seq.
type Numbers = SmallVec<[u32; 1]>;

/// Every link that was ever set. Links have one origin, so they are ordered by seq alone, and the
/// end of each is known for good when it is folded.
#[derive(Default)]
pub(crate) struct Links {
    /// The ids of application users, directory users and directories.
    ids: Symbols,
    /// In order of seq.
    spans: Vec<LinkSpan>,
    /// By directory user: links that exclude each other, so that no two last at a time.
    of_user: HashMap<Sym, Numbers, FxBuildHasher>,
    /// Each application user with each directory user that it ever was linked to.
    pairs: BTreeSet<(Sym, Sym)>,
    /// By application user: the links that last now.
    lasting: HashMap<Sym, Numbers, FxBuildHasher>,
    /// The last record that set, ended or removed a link.
    changed: Seq32,
    /// The ids of the users that ever had a link.
    users: BTreeSet<Box<str>>,
    /// The same, by each directory that the user ever was in.
    users_in: HashMap<Sym, BTreeSet<Box<str>>, FxBuildHasher>,
}

impl Links {
    /// Sets a link. Ends the user's own, and those of `contradicting` users.
    pub(crate) fn set(
        &mut self,
        seq: Seq32,
        set_at: Millis,
        link: NewLink<'_>,
        contradicting: &[Sym],
    ) {
        let [app_user, user, directory] =
            [link.app_user, link.user, link.directory].map(|id| self.ids.intern(id));
        for former in contradicting.iter().copied().chain([user]) {
            self.end(seq, former);
        }
        let number = self.spans.len() as u32;
        self.spans.push(LinkSpan { app_user, user, directory, seq, set_at, ended: LASTS });
        self.of_user.entry(user).or_default().push(number);
        self.pairs.insert((app_user, user));
        self.lasting.entry(app_user).or_default().push(number);
        self.users.insert(link.user.into());
        self.changed = seq;
    }

    /// Removes a user's link, if it has one.
    pub(crate) fn remove(&mut self, seq: Seq32, user: &str) {
        if let Some(user) = self.ids.find(user) {
            self.end(seq, user);
        }
    }

    /// Ends the link of a user at a record, if it has one.
    fn end(&mut self, seq: Seq32, user: Sym) {
        let number = self.of_user.get(&user).and_then(|chain| chain.last()).copied();
        let Some(number) = number else { return };
        let Some(span) = self.spans.get_mut(number as usize) else { return };
        span.ended = span.ended.min(seq);
        if let Some(lasting) = self.lasting.get_mut(&span.app_user) {
            lasting.retain(|other| *other != number);
        }
        self.changed = seq;
    }

    /// Notes a directory that a user with a link is or was in. Others are left out.
    pub(crate) fn note_directory(&mut self, user: &str, directory: Sym) {
        if self.ids.find(user).is_some_and(|user| self.of_user.contains_key(&user)) {
            self.users_in.entry(directory).or_default().insert(user.into());
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
        self.of_user_sym(self.ids.find(user)?, known_at)
    }

    fn of_user_sym(&self, user: Sym, known_at: Seq32) -> Option<&LinkSpan> {
        let chain = self.of_user.get(&user)?;
        let span = |number: &u32| self.spans.get(*number as usize);
        let is_known = |number: &u32| span(number).is_some_and(|link| link.seq <= known_at);
        let known = chain.partition_point(is_known);
        let last = chain.get(known.checked_sub(1)?).and_then(span)?;
        last.ended_by(known_at).is_none().then_some(last)
    }

    /// Iterates over the links of an application user that last at a record. If a later record
    /// changed links, this costs a look-up for each directory user that it ever was linked to.
    pub(crate) fn of_app_user<'a>(
        &'a self,
        app_user: &str,
        known_at: Seq32,
    ) -> Box<dyn Iterator<Item = &'a LinkSpan> + 'a> {
        let Some(app_user) = self.ids.find(app_user) else {
            return Box::new(core::iter::empty());
        };
        if known_at >= self.changed {
            let lasting = self.lasting.get(&app_user).into_iter().flatten();
            return Box::new(lasting.filter_map(|number| self.spans.get(*number as usize)));
        }
        let pairs = self.pairs.range((app_user, Sym::MIN)..=(app_user, Sym::MAX));
        let links = pairs.filter_map(move |(_, user)| self.of_user_sym(*user, known_at));
        Box::new(links.filter(move |link| link.app_user == app_user))
    }

    /// Returns the ids of the users that ever had a link.
    pub(crate) fn users(&self) -> &BTreeSet<Box<str>> {
        &self.users
    }

    /// Returns the ids of the users that ever had a link and ever were in a directory.
    pub(crate) fn users_in(&self, directory: Sym) -> Option<&BTreeSet<Box<str>>> {
        self.users_in.get(&directory)
    }
}

pack_fields!(LinkSpan { app_user, user, directory, seq, set_at, ended });
pack_fields!(Links { ids, spans, of_user, pairs, lasting, changed, users, users_in });

#[cfg(test)]
mod tests {
    use super::*;

    /// Sets a link that ends those of the named users.
    fn set(links: &mut Links, seq: Seq32, app_user: &str, user: &str, contradicting: &[&str]) {
        let ended: Vec<Sym> = contradicting.iter().map(|id| links.ids.find(id).unwrap()).collect();
        let link = NewLink { app_user, user, directory: "d" };
        links.set(seq, 10 * Millis::from(seq), link, &ended);
    }

    /// Returns the links that last at a record, as pairs of an application user and a user.
    fn lasting(links: &Links, known_at: Seq32) -> Vec<(String, String)> {
        let users = links.users().iter();
        let spans = users.filter_map(|user| links.of_user(user, known_at));
        spans.map(|link| (links.id(link.app_user).into(), links.id(link.user).into())).collect()
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(app_user, user)| ((*app_user).into(), (*user).into())).collect()
    }

    /// Returns the records of an application user's links, in order.
    fn of(links: &Links, app_user: &str, known_at: Seq32) -> Vec<Seq32> {
        let mut seqs: Vec<Seq32> =
            links.of_app_user(app_user, known_at).map(|link| link.seq).collect();
        seqs.sort_unstable();
        seqs
    }

    #[test]
    fn a_link_ends_those_that_contradict_it() {
        let mut links = Links::default();
        set(&mut links, 1, "ann", "u1", &[]);
        set(&mut links, 2, "ann", "v1", &[]);
        set(&mut links, 3, "bob", "u2", &[]);
        set(&mut links, 4, "ann", "u2", &["u1"]);
        assert_eq!(lasting(&links, 0), pairs(&[]));
        assert_eq!(lasting(&links, 3), pairs(&[("ann", "u1"), ("bob", "u2"), ("ann", "v1")]));
        assert_eq!(lasting(&links, 4), pairs(&[("ann", "u2"), ("ann", "v1")]));
        assert_eq!((of(&links, "ann", 4), of(&links, "bob", 4)), (vec![2, 4], vec![]));
        assert_eq!((of(&links, "ann", 3), of(&links, "bob", 3)), (vec![1, 2], vec![3]));
        assert_eq!(of(&links, "cat", 4), [0; 0]);
    }

    #[test]
    fn a_removed_link_is_there_until_its_removal() {
        let mut links = Links::default();
        set(&mut links, 1, "ann", "u1", &[]);
        links.remove(2, "u1");
        links.remove(3, "u1");
        links.remove(4, "never linked");
        set(&mut links, 5, "ann", "u1", &[]);
        for (known_at, is_there) in [(0, false), (1, true), (2, false), (4, false), (5, true)] {
            assert_eq!(links.of_user("u1", known_at).is_some(), is_there, "at {known_at}");
            assert_eq!(!of(&links, "ann", known_at).is_empty(), is_there, "at {known_at}");
        }
    }

    #[test]
    fn a_user_has_one_link_of_all_application_users() {
        let mut links = Links::default();
        set(&mut links, 1, "ann", "u1", &[]);
        set(&mut links, 2, "bob", "u1", &[]);
        set(&mut links, 3, "ann", "u1", &[]);
        for (known_at, app_user) in [(1, "ann"), (2, "bob"), (3, "ann")] {
            assert_eq!(lasting(&links, known_at), pairs(&[(app_user, "u1")]));
            let other = if app_user == "ann" { "bob" } else { "ann" };
            assert_eq!(of(&links, other, known_at), [0; 0]);
            assert_eq!(of(&links, app_user, known_at), [known_at]);
        }
    }
}
