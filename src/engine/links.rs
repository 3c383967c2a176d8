//! Links of directory users to the application's own users: acts of operators, decided by the
//! writer.

use std::collections::HashMap;
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
    /// The links that it ended, of users who are seen: a link stays with a user who moves to another
    /// organization.
    pub ended: Vec<LinkPair>,
}

/// The difference that setting a link makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkOutcome {
    /// It was not there.
    Set,
    /// It was there already.
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

/// The application user and the directory of a link.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Holder {
    app_user: String,
    directory: String,
}

/// The links as they are after some have been set that are not folded yet.
struct Draft<'v> {
    views: Seen<'v>,
    of_user: HashMap<String, Option<Holder>>,
    of_holder: HashMap<Holder, Option<String>>,
}

impl<'v> Draft<'v> {
    fn over(views: Seen<'v>) -> Draft<'v> {
        Draft { views, of_user: HashMap::new(), of_holder: HashMap::new() }
    }

    fn holder_of(&self, user: &str) -> Option<Holder> {
        self.of_user.get(user).cloned().unwrap_or_else(|| {
            let link = self.views.link_of_user(user, Cut::LATEST)?;
            Some(Holder { app_user: link.app_user, directory: link.directory })
        })
    }

    fn user_of(&self, holder: &Holder) -> Option<String> {
        self.of_holder.get(holder).cloned().unwrap_or_else(|| {
            let Holder { app_user, directory } = holder;
            Some(self.views.link_in_directory(app_user, directory, Cut::LATEST)?.user)
        })
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
        let wanted = Holder { app_user, directory };
        let held = self.holder_of(&user);
        // A user who moved keeps the link, so that the directory of its setting says nothing.
        if held.as_ref().is_some_and(|held| held.app_user == wanted.app_user) {
            result.outcome = LinkOutcome::Unchanged;
            let is_folded = !self.of_user.contains_key(&user);
            let link = self.views.link_of_user(&user, Cut::LATEST).filter(|_| is_folded);
            result.set_at = link.as_ref().map(|link| link.set_at);
            result.seq = link.map(|link| link.seq);
            return result;
        }
        if let Some(other) = self.user_of(&wanted) {
            if self.views.knows_user(&other, Cut::LATEST) {
                let app_user = wanted.app_user.clone();
                result.ended.push(LinkPair { app_user, user: other.clone() });
            }
            self.of_user.insert(other, None);
        }
        if let Some(held) = held {
            self.of_holder.insert(held.clone(), None);
            result.ended.push(LinkPair { app_user: held.app_user, user: user.clone() });
        }
        self.of_user.insert(user.clone(), Some(wanted.clone()));
        self.of_holder.insert(wanted, Some(user));
        (result.outcome, result.set_at) = (LinkOutcome::Set, Some(now));
        result
    }
}
