//! Rules 35 and 36: the application's own users, and the same person again.
//!
//! Links are found by doing every act again, from the first one on, each over what was known with
//! it. A user's end is found by going back, moment by moment, until the user is alive.

use serde_json::{Value, json};

use super::roles::Act;
use super::{Cut, DirectoryChange, Event, Fact, Kind, Object, View, World, filled, rfc3339};

/// An act about a link.
pub struct LinkAct {
    pub(super) seq: u64,
    act: Act,
    directory: String,
    user: String,
    /// None if the link is removed.
    app_user: Option<String>,
}

/// A link that lasts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    pub app_user: String,
    pub user: String,
    pub directory: String,
    set_at_ms: i64,
    seq: u64,
}

impl Link {
    pub fn shape(&self) -> Value {
        json!({
            "object": "link",
            "app_user_id": self.app_user,
            "directory_user_id": self.user,
            "directory_id": self.directory,
            "set_at": rfc3339(self.set_at_ms),
            "seq": self.seq,
        })
    }
}

// --- Rule 35 ---

impl World {
    /// The links that last at a cut, by user.
    pub fn links(&self, cut: Cut) -> Vec<Link> {
        let mut links: Vec<Link> = Vec::new();
        for LinkAct { seq, act, directory, user, app_user } in &self.link_acts {
            let is_late = cut.as_of_ms.is_some_and(|as_of| act.recorded_at_ms > as_of);
            if is_late || cut.known_at.is_some_and(|known_at| *seq > known_at) {
                continue;
            }
            // A user has one link, and a user of the application has one in each directory.
            links.retain(|link| link.user != *user);
            let Some(app_user) = app_user else { continue };
            let then = self.view(Cut { as_of_ms: None, known_at: Some(*seq) });
            let home = then.home(Kind::User, user);
            links.retain(|link| {
                link.app_user != *app_user || then.home(Kind::User, &link.user) != home
            });
            links.push(Link {
                app_user: app_user.clone(),
                user: user.clone(),
                directory: directory.clone(),
                set_at_ms: act.recorded_at_ms,
                seq: *seq,
            });
        }
        // A user who is not there yet is shown in the directory in which it will be.
        let views = [self.view(cut), self.view(Cut { as_of_ms: None, ..cut })];
        for link in &mut links {
            let home = views.iter().find_map(|view| view.home(Kind::User, &link.user));
            link.directory = home.unwrap_or_else(|| link.directory.clone());
        }
        links.sort_by(|a, b| a.user.cmp(&b.user));
        links
    }

    /// The user of the application, or null.
    pub(super) fn app_user(&self, user: &str, cut: Cut) -> Value {
        self.links(cut).into_iter().find(|link| link.user == user).map(|link| link.app_user).into()
    }

    /// The directory of a link that is set now; none for a user that cannot be linked.
    pub fn directory_to_link(&self, user: &str) -> Option<String> {
        self.view(Cut::default()).home(Kind::User, user)
    }

    /// True if setting a link would change nothing: it is there, and its application user has no
    /// other user in the directory.
    pub fn is_link_set(&self, app_user: &str, user: &str) -> bool {
        let view = self.view(Cut::default());
        let home = view.home(Kind::User, user);
        let links = self.links(Cut::default()).into_iter();
        let in_home =
            |link: &Link| link.app_user == app_user && view.home(Kind::User, &link.user) == home;
        let users: Vec<String> = links.filter(in_home).map(|link| link.user).collect();
        users == [user]
    }

    /// Returns the seq of the record.
    pub fn set_link(&mut self, act: Act, app_user: &str, user: &str) -> u64 {
        let directory = self.directory_to_link(user).expect("a user with a directory");
        self.link(act, "rollcall.link.set", Some(app_user.to_owned()), user, directory)
    }

    /// Returns the seq of the record.
    pub fn remove_link(&mut self, act: Act, user: &str) -> u64 {
        let link = self.links(Cut::default()).into_iter().find(|link| link.user == user);
        let directory = link.expect("a link to remove").directory;
        self.link(act, "rollcall.link.removed", None, user, directory)
    }

    fn link(
        &mut self,
        act: Act,
        event: &str,
        app_user: Option<String>,
        user: &str,
        directory: String,
    ) -> u64 {
        let seq = self.append_act(&act.event_id, event);
        self.link_acts.push(LinkAct { seq, act, directory, user: user.to_owned(), app_user });
        seq
    }
}

// --- Rule 36 ---

/// The directory of a version, and the id at the identity provider.
type Person<'a> = (&'a str, &'a str);

fn is_deletion(event: &Event) -> bool {
    matches!(event.fact, Fact::Entity { tombstone: true, .. })
}

/// The directory and the snapshot of a user's version.
fn said_of(event: &Event) -> Option<(&str, &Object)> {
    match &event.fact {
        Fact::Entity { directory, data, .. } => Some((directory.as_deref()?, data)),
        Fact::Membership { directory, user, .. } => {
            Some((user.directory.as_ref().unwrap_or(directory), &user.data))
        }
        Fact::Directory { .. } => None,
    }
}

fn person_in(event: &Event) -> Option<Person<'_>> {
    let (directory, data) = said_of(event)?;
    Some((directory, filled(data, "idp_id")?))
}

impl<'a> View<'a> {
    /// The person that the last version says, or the deletion where there is nothing else.
    fn person(&self, user: &str) -> Option<Person<'a>> {
        let versions = self.versions_of(Kind::User, user);
        let lived = versions.iter().rfind(|event| !is_deletion(event));
        let said = || versions.iter().rfind(|event| said_of(event).is_some());
        person_in(lived.or_else(said)?)
    }
}

impl World {
    /// The moment from which on a user is not alive up to the cut.
    fn end_of(&self, user: &str, cut: Cut) -> Option<i64> {
        let first = self.view(cut).versions_of(Kind::User, user).first()?.at;
        let mut end = None;
        for moment in self.turning_points(cut).into_iter().rev().filter(|at| *at >= first) {
            let then = self.view(Cut { as_of_ms: Some(moment), ..cut });
            if then.alive(Kind::User, user).is_some() {
                break;
            }
            end = Some(moment);
        }
        end
    }

    /// The moment after which a user may have ended, by what ended it: an event ends at its own
    /// moment. Where the source was asked, the user may have ended at any moment since it was last
    /// shown.
    fn may_have_ended_after(&self, user: &str, end: i64, cut: Cut) -> i64 {
        let then = self.view(Cut { as_of_ms: Some(end), ..cut });
        let home = then.home(Kind::User, user);
        let ends = |event: &&&Event| match &event.fact {
            Fact::Entity { kind: Kind::User, id, .. } => id == user,
            Fact::Directory { id, change: DirectoryChange::Deleted, .. } => {
                Some(id) == home.as_ref()
            }
            _ => false,
        };
        let mut here = then.events.iter().filter(|event| event.at == end);
        let Some(cause) = here.rfind(ends).filter(|event| event.asked_ms.is_some()) else {
            return end;
        };
        let versions = then.versions_of(Kind::User, user).into_iter();
        let lived = versions.filter(|event| !is_deletion(event) && event.at < end);
        let last_version = lived.map(|event| event.at).max();
        self.not_before(user, end, cause, cut).or(last_version).unwrap_or(end)
    }

    /// The end of a user, the user who comes next and when.
    fn succession(&self, user: &str, cut: Cut) -> Option<(i64, &str, i64)> {
        let view = self.view(cut);
        let person = view.person(user)?;
        let end = self.end_of(user, cut)?;
        let after = self.may_have_ended_after(user, end, cut);
        let mut later: Vec<(&Event, &str)> = Vec::new();
        for other in view.known(Kind::User).into_iter().filter(|other| *other != user) {
            let versions = view.versions_of(Kind::User, other).into_iter();
            let is_it = |event: &&Event| {
                event.at > after && !is_deletion(event) && person_in(event) == Some(person)
            };
            later.extend(versions.filter(is_it).map(|event| (event, other)));
        }
        let (event, next) = later.into_iter().min_by(|a, b| a.0.order().cmp(&b.0.order()))?;
        Some((end, next, event.at))
    }

    /// `succeeded_by`, or null.
    pub(super) fn succeeded_by(&self, user: &str, cut: Cut) -> Value {
        let next = self.succession(user, cut);
        next.map(|(_, next, since)| json!({ "user_id": next, "since": rfc3339(since) })).into()
    }

    /// `preceded_by`, or null.
    pub(super) fn preceded_by(&self, user: &str, cut: Cut) -> Value {
        let view = self.view(cut);
        let mut former: Vec<(i64, &str)> = Vec::new();
        // In order of id, so that of several ends at one moment the lowest id stays.
        for other in view.known(Kind::User).into_iter().filter(|other| *other != user) {
            let Some((end, next, _)) = self.succession(other, cut) else { continue };
            if next == user && former.iter().all(|(latest, _)| *latest < end) {
                former.push((end, other));
            }
        }
        let last = former.pop();
        last.map(|(end, former)| json!({ "user_id": former, "until": rfc3339(end) })).into()
    }
}
