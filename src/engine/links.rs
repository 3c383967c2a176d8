//! Links of directory users to the application's own users: acts of operators, decided by the
//! writer.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use parking_lot::Mutex;
use rollcall_projections::{Cut, Millis, Seen, Seq, Sight};

use super::{ActError, Engine};
use crate::keys::Operator;
use crate::verify::Act;

/// The most links that are set at once: their records are one batch of the log.
pub const LINKS_AT_ONCE: usize = 250;

/// A directory user with an application user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkPair {
    /// The application's id of its user.
    pub app_user: String,
    /// The directory user.
    pub user: String,
}

/// The result of setting one link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkResult {
    /// The link.
    pub pair: LinkPair,
    /// The directory that the user is in; `None` if the user is not known.
    pub directory: Option<String>,
    /// The difference that it made.
    pub outcome: LinkOutcome,
    /// When it was set; `None` if it is not.
    pub set_at: Option<Millis>,
    /// The record that set it; `None` if none did.
    pub seq: Option<Seq>,
    /// The links that it ended. Their users are in the same directory, so that they are seen by
    /// those who see the user.
    pub ended: Vec<LinkPair>,
}

/// The difference that setting a link makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkOutcome {
    /// It was not there, or another one contradicted it.
    Set,
    /// It was there already, and no other one contradicts it.
    Unchanged,
    /// No known event names the user, or says in which directory it is.
    UnknownUser,
}

impl Engine {
    /// Sets links, one after the other, at most [`LINKS_AT_ONCE`] of users who are seen. Answers
    /// with a result for each once they are durable and folded.
    ///
    /// # Errors
    /// [`ActError`]; then none is set.
    pub async fn set_links(
        &self,
        operator: Operator,
        sight: Sight,
        pairs: Vec<LinkPair>,
        note: Option<String>,
    ) -> Result<Vec<LinkResult>, ActError> {
        let decided = Arc::new(Mutex::new(Vec::new()));
        let results = decided.clone();
        let decide = move |engine: &Engine, now: Millis| {
            let decided = engine.decide_links(&sight, pairs, now);
            let acts = decided.iter().filter_map(LinkResult::act).collect();
            *results.lock() = decided;
            Ok(acts)
        };
        let mut seqs = self.acts(operator, note, Box::new(decide)).await?.into_iter();
        let mut results = std::mem::take(&mut *decided.lock());
        for result in results.iter_mut().filter(|result| result.outcome == LinkOutcome::Set) {
            result.seq = seqs.next();
        }
        Ok(results)
    }

    /// Returns what setting links would do now.
    pub fn try_links(&self, sight: &Sight, pairs: Vec<LinkPair>) -> Vec<LinkResult> {
        let mut results = self.decide_links(sight, pairs, 0);
        for result in results.iter_mut().filter(|result| result.outcome == LinkOutcome::Set) {
            result.set_at = None;
        }
        results
    }

    /// Removes a directory user's link. Returns it with the record that removed it; `None` if there
    /// is none.
    ///
    /// # Errors
    /// [`ActError`]; a user that no event named, or that is not seen, is unknown.
    pub async fn remove_link(
        &self,
        operator: Operator,
        sight: Sight,
        user: String,
    ) -> Result<Option<(LinkPair, Seq)>, ActError> {
        let removed = Arc::new(Mutex::new(None));
        let result = removed.clone();
        let decide = move |engine: &Engine, _: Millis| {
            let views = engine.views();
            if !views.seen_by(&sight).knows_user(&user, Cut::LATEST) {
                return Err(ActError::UnknownUser);
            }
            let Some(link) = views.link_of_user(&user, Cut::LATEST) else { return Ok(Vec::new()) };
            let pair = LinkPair { app_user: link.app_user.clone(), user: user.clone() };
            *result.lock() = Some(pair);
            Ok(vec![Act::LinkRemoved { app_user: link.app_user, user, directory: link.directory }])
        };
        let seqs = self.acts(operator, None, Box::new(decide)).await?;
        let removed = removed.lock().take();
        Ok(removed.zip(seqs.first().copied()))
    }

    fn decide_links(&self, sight: &Sight, pairs: Vec<LinkPair>, now: Millis) -> Vec<LinkResult> {
        let views = self.views();
        let mut draft = Draft::over(views.seen_by(sight));
        pairs.into_iter().map(|pair| draft.set(pair, now)).collect()
    }
}

impl LinkResult {
    /// Returns the act that sets the link, if it is not there already.
    fn act(&self) -> Option<Act> {
        let LinkPair { app_user, user } = self.pair.clone();
        let directory = self.directory.clone()?;
        (self.outcome == LinkOutcome::Set).then_some(Act::LinkSet { app_user, user, directory })
    }
}

/// The links as they are after some have been set that are not folded yet.
struct Draft<'v> {
    views: Seen<'v>,
    /// The application user of each user whose link has changed; `None` if it has none.
    of_user: HashMap<String, Option<String>>,
    /// The users of each application user that was asked for.
    of_app_user: HashMap<String, BTreeSet<String>>,
}

impl<'v> Draft<'v> {
    fn over(views: Seen<'v>) -> Draft<'v> {
        Draft { views, of_user: HashMap::new(), of_app_user: HashMap::new() }
    }

    fn app_user_of(&self, user: &str) -> Option<String> {
        let changed = self.of_user.get(user).cloned();
        changed.unwrap_or_else(|| self.views.app_user(user, Cut::LATEST).map(str::to_owned))
    }

    fn users_of(&mut self, app_user: &str) -> &mut BTreeSet<String> {
        let views = &self.views;
        self.of_app_user
            .entry(app_user.to_owned())
            .or_insert_with(|| views.linked_users(app_user).map(str::to_owned).collect())
    }

    /// Returns the users of a directory to whom an application user is linked, by id.
    fn users_in(&mut self, app_user: &str, directory: &str) -> Vec<String> {
        let users = self.users_of(app_user).clone();
        let is_there = |user: &String| self.views.last_directory_of_user(user) == Some(directory);
        users.into_iter().filter(is_there).collect()
    }

    fn end(&mut self, pair: &LinkPair) {
        self.users_of(&pair.app_user).remove(&pair.user);
        self.of_user.insert(pair.user.clone(), None);
    }

    /// Sets one link, as the fold will when it is recorded.
    fn set(&mut self, pair: LinkPair, now: Millis) -> LinkResult {
        let directory = self.views.directory_to_link(&pair.user).map(str::to_owned);
        let mut result = LinkResult {
            pair,
            directory,
            outcome: LinkOutcome::UnknownUser,
            set_at: None,
            seq: None,
            ended: Vec::new(),
        };
        let Some(directory) = result.directory.clone() else { return result };
        let LinkPair { app_user, user } = result.pair.clone();
        let former = self.app_user_of(&user);
        let mut contradicting = self.users_in(&app_user, &directory);
        contradicting.retain(|other| *other != user);
        let is_there = former.as_ref() == Some(&app_user);
        // One that is there is set anew if the link of a user who has moved contradicts it: a
        // record must say that the other link has ended.
        if is_there && contradicting.is_empty() {
            result.outcome = LinkOutcome::Unchanged;
            let is_folded = !self.of_user.contains_key(&user);
            let link = self.views.link_of_user(&user, Cut::LATEST).filter(|_| is_folded);
            result.set_at = link.as_ref().map(|link| link.set_at);
            result.seq = link.map(|link| link.seq);
            return result;
        }
        for user in contradicting {
            let pair = LinkPair { app_user: app_user.clone(), user };
            self.end(&pair);
            result.ended.push(pair);
        }
        if let Some(app_user) = former.filter(|_| !is_there) {
            let pair = LinkPair { app_user, user: user.clone() };
            self.end(&pair);
            result.ended.push(pair);
        }
        self.users_of(&app_user).insert(user.clone());
        self.of_user.insert(user, Some(app_user));
        (result.outcome, result.set_at) = (LinkOutcome::Set, Some(now));
        result
    }
}
