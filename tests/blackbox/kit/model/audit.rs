//! Rules 15 to 20 over time: access and memberships, their beginnings, their ends and the causes.
//!
//! Nothing is kept here either: every period is found by looking at every moment at which anything
//! happened, and at the millisecond before it. When the log took an event is known to the log
//! alone: `recorded_at` and `delay_ms` are null.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::roles::{RawObject, Setting, Turn, raw_object};
use super::{
    Cut, DirectoryChange, Event, Fact, Kind, Object, View, World, asked, filled, read_time,
    rfc3339, slug_only, state_of,
};

/// A period of access.
struct Access<'a> {
    from: i64,
    until: Option<i64>,
    start: &'a Event,
    /// With the reason.
    end: Option<(&'a Event, &'static str)>,
}

/// A time in which a membership held.
struct Membership<'a> {
    user: &'a str,
    group: &'a str,
    /// The group's name the last time.
    name: String,
    from: i64,
    until: Option<i64>,
    start: Turn<'a>,
    end: Option<Turn<'a>>,
}

/// The two sides of a moment: the millisecond before it, and itself.
struct Change<'a> {
    at: i64,
    before: View<'a>,
    now: View<'a>,
}

impl World {
    fn sides(&self, at: i64, known_at: Option<u64>) -> Change<'_> {
        let view = |as_of_ms| self.view(Cut { as_of_ms: Some(as_of_ms), known_at });
        Change { at, before: view(at - 1), now: view(at) }
    }

    /// Every moment at which anything can change, each with the millisecond before it.
    fn sides_of_all(&self, cut: Cut) -> impl Iterator<Item = Change<'_>> {
        self.turning_points(cut).into_iter().map(move |at| self.sides(at, cut.known_at))
    }

    /// Returns true if all ids and roles that a list is narrowed to were named in what is known at
    /// the cut, whenever it occurred. An email may be any.
    pub fn has_heard_of_all(&self, query: &[(String, String)], cut: Cut) -> bool {
        let known = |seq: u64| cut.known_at.is_none_or(|known_at| seq <= known_at);
        let events = || self.events.iter().filter(|event| known(event.seq));
        query.iter().all(|(name, value)| match name.as_str() {
            "user" => self.has_heard_of(Kind::User, value, cut),
            "group" => self.has_heard_of(Kind::Group, value, cut),
            "directory" => events().any(|event| event.named_directories().contains(&&value[..])),
            "organization" | "organization_id" => {
                let mut told = self.told.iter().filter(|told| known(told.seq));
                let is_told = |data: Option<&Value>| {
                    data.and_then(Value::as_object)
                        .is_some_and(|data| filled(data, "organization_id") == Some(value))
                };
                events().any(|event| event.named_organizations().contains(&&value[..]))
                    || told.any(|told| is_told(told.body.get("data")))
            }
            "role" => self.roles_of_mappings(known).contains(value),
            _ => true,
        })
    }

    /// Returns true if the directory that a comparison is narrowed to was named in what is known
    /// on either side.
    pub fn has_heard_of_directory(&self, directory: Option<&str>, cuts: [Cut; 2]) -> bool {
        let query: Vec<_> =
            directory.into_iter().map(|id| ("directory".to_owned(), id.to_owned())).collect();
        cuts.into_iter().any(|cut| self.has_heard_of_all(&query, cut))
    }

    /// Returns true if any event known at the cut names it, whenever it occurred.
    fn has_heard_of(&self, kind: Kind, id: &str, cut: Cut) -> bool {
        self.view(Cut { as_of_ms: None, ..cut }).known(kind).contains(id)
    }
}

impl<'a> Change<'a> {
    /// Returns true if something begins (or ends) at this moment.
    fn turns(&self, begins: bool, holds: impl Fn(&View<'a>) -> bool) -> bool {
        holds(&self.before) != begins && holds(&self.now) == begins
    }

    fn is_here(&self, event: &Event) -> bool {
        event.at == self.at
    }

    fn latest_here(&self, directory: &str, wanted: DirectoryChange) -> Option<&'a Event> {
        let is_it = |fact: &Fact| {
            matches!(fact,
            Fact::Directory { id, change, .. } if id == directory && *change == wanted)
        };
        self.now.latest(is_it).filter(|event| self.is_here(event))
    }
}

// --- Access: rule 20 ---

impl<'a> View<'a> {
    /// The latest version or tombstone, else the snapshot that stands in.
    fn latest_version(&self, kind: Kind, id: &str) -> Option<&'a Event> {
        self.versions_of(kind, id).pop()
    }

    /// The latest version that is no tombstone, with its directory: whatever a deletion says, it
    /// moves nobody. Of whom nothing else is known, the deletion.
    fn placed_version(&self, kind: Kind, id: &str) -> Option<(&'a Event, &'a str)> {
        let versions = self.versions_of(kind, id);
        let version =
            versions.iter().rfind(|event| !is_tombstone(event)).or(versions.last()).copied()?;
        match &version.fact {
            Fact::Entity { directory, .. } => Some((version, directory.as_deref()?)),
            Fact::Membership { directory, group, user, .. } => {
                let end = if kind == Kind::User { user } else { group };
                Some((version, end.directory.as_ref().unwrap_or(directory)))
            }
            Fact::Directory { .. } => None,
        }
    }

    fn said_of_user(event: &'a Event) -> &'a Object {
        match &event.fact {
            Fact::Entity { data, .. } | Fact::Directory { data, .. } => data,
            Fact::Membership { user, .. } => &user.data,
        }
    }

    fn is_inactive_version(event: &'a Event) -> bool {
        !is_tombstone(event) && state_of(Self::said_of_user(event)) != "active"
    }

    /// The latest version is one of an active user.
    fn is_active_by_itself(&self, user: &str) -> bool {
        self.latest_version(Kind::User, user)
            .is_some_and(|version| !is_tombstone(version) && !Self::is_inactive_version(version))
    }

    /// The directory lets the user in.
    fn is_active_by_directory(&self, user: &str) -> bool {
        let Some((_, directory)) = self.placed_version(Kind::User, user) else { return false };
        // Whoever was deleted since waits for a version of its own, and no longer for the
        // directory.
        let latest = self.latest_version(Kind::User, user).expect("a version");
        self.is_active_directory(directory) && self.outlives_deletion(latest, directory)
    }

    fn outlives_deletion(&self, version: &Event, directory: &str) -> bool {
        self.latest_deletion(directory).is_none_or(|deletion| version.is_later_than(deletion))
    }

    /// The reason for which a user with this latest version has no access.
    fn reason_against(&self, version: &Event, user: &str) -> &'static str {
        if is_tombstone(version) {
            return if version.asked_ms.is_some() { "user_absent" } else { "user_deleted" };
        }
        match self.placed_version(Kind::User, user).map(|(_, directory)| directory) {
            Some(directory)
                if self.is_deleted(directory) || !self.outlives_deletion(version, directory) =>
            {
                let deletion = self.latest_deletion(directory).expect("what is deleted");
                directory_end(deletion)
            }
            Some(directory) if !self.is_active_directory(directory) => "directory_deactivated",
            _ => "user_inactive",
        }
    }
}

/// The reason for which the deletion of a directory ends access.
fn directory_end(deletion: &Event) -> &'static str {
    if deletion.asked_ms.is_some() { "directory_absent" } else { "directory_deleted" }
}

/// Tells if a cause, as it is shown, is what the source said when it was asked.
pub fn is_observed(cause: &Value) -> bool {
    cause["event"].as_str().is_some_and(|event| event.ends_with(".observed"))
}

fn is_tombstone(event: &Event) -> bool {
    matches!(event.fact, Fact::Entity { tombstone: true, .. })
}

impl<'a> Change<'a> {
    /// The event that gives or takes access at this moment.
    fn access_cause(&self, user: &str, begins: bool) -> &'a Event {
        let version = self.now.latest_version(Kind::User, user).expect("a version");
        let mut causes = Vec::new();
        if self.turns(begins, |view| view.is_active_by_itself(user)) {
            causes.push(version);
        }
        if self.turns(begins, |view| view.is_active_by_directory(user)) {
            let (_, directory) = self.now.placed_version(Kind::User, user).expect("a directory");
            causes.extend(match begins {
                true => self.latest_here(directory, DirectoryChange::Activated),
                false if self.now.is_deleted(directory) => {
                    self.latest_here(directory, DirectoryChange::Deleted)
                }
                false if !self.now.is_active_directory(directory) => {
                    self.latest_here(directory, DirectoryChange::Deactivated)
                }
                false => None,
            });
            let left = self
                .before
                .placed_version(Kind::User, user)
                .zip(self.before.latest_version(Kind::User, user));
            let stood = left.is_some_and(|((_, left), last)| {
                left == directory && self.before.outlives_deletion(last, left)
            });
            if self.is_here(version) && !stood {
                causes.push(version);
            }
        }
        causes
            .into_iter()
            .max_by(|a, b| a.order().cmp(&b.order()))
            .expect("nothing turns by itself")
    }

    fn reason(&self, user: &str, cause: &Event) -> &'static str {
        match &cause.fact {
            Fact::Directory { change: DirectoryChange::Deleted, .. } => directory_end(cause),
            Fact::Directory { .. } => "directory_deactivated",
            Fact::Entity { .. } | Fact::Membership { .. } => self.now.reason_against(cause, user),
        }
    }
}

impl World {
    fn accesses(&self, user: &str, cut: Cut) -> Vec<Access<'_>> {
        let mut periods: Vec<Access<'_>> = Vec::new();
        for change in self.sides_of_all(cut) {
            if change.turns(true, |view| view.access(user).is_some()) {
                let start = change.access_cause(user, true);
                periods.push(Access { from: change.at, until: None, start, end: None });
            }
            if change.turns(false, |view| view.access(user).is_some()) {
                let cause = change.access_cause(user, false);
                let period = periods.last_mut().expect("what ends began");
                period.until = Some(change.at);
                period.end = Some((cause, change.reason(user, cause)));
            }
        }
        periods
    }

    /// The whole list that `GET users/{id}/access` pages through; `None` for a user never heard of
    /// by then.
    pub fn access_periods(&self, user: &str, cut: Cut) -> Option<Vec<Value>> {
        let shape = |period: Access<'_>| {
            let start = self.cause(Turn::Event(period.start));
            let end = self.cause_or_null(period.end.map(|(event, _)| Turn::Event(event)));
            let not_before = period
                .until
                .zip(period.end)
                .and_then(|(at, (cause, _))| self.not_before(user, at, cause, cut));
            json!({
                "object": "access_period",
                "user_id": user,
                "app_user_id": self.app_user(user, cut),
            "succeeded_by": self.succeeded_by(user, cut),
            "preceded_by": self.preceded_by(user, cut),
            "from": rfc3339(period.from),
                "until": period.until.map(rfc3339),
                "reason": period.end.map(|(_, reason)| reason),
                "observed": is_observed(&start) || is_observed(&end),
                "not_before": not_before.map(rfc3339),
                "start": start,
                "end": end,
            })
        };
        self.has_heard_of(Kind::User, user, cut)
            .then(|| self.accesses(user, cut).into_iter().map(shape).collect())
    }
}

// --- Memberships: rule 19 ---

impl<'a> Change<'a> {
    /// Returns the event that gives or takes a membership at this moment.
    fn membership_cause(&self, user: &str, group: &str, begins: bool) -> Turn<'a> {
        let mut causes: Vec<Turn<'a>> = Vec::new();
        if self.turns(begins, |view| view.is_granted(group, user)) {
            causes.extend(self.grant_causes(user, group, begins).into_iter().map(Turn::Event));
        }
        if self.turns(begins, |view| view.alive(Kind::User, user).is_some()) {
            causes.extend(self.life_causes(Kind::User, user, begins).into_iter().map(Turn::Event));
            let cut = Cut { as_of_ms: Some(self.at), known_at: self.now.known_at };
            let policy = self
                .now
                .world
                .in_force(cut, Setting::policy)
                .filter(|policy| policy.effective_from_ms == self.at);
            let is_inactive =
                self.now.latest_version(Kind::User, user).is_some_and(View::is_inactive_version);
            causes.extend(policy.filter(|_| is_inactive).map(Turn::Set));
        }
        if self.turns(begins, |view| view.alive(Kind::Group, group).is_some()) {
            causes
                .extend(self.life_causes(Kind::Group, group, begins).into_iter().map(Turn::Event));
        }
        causes.into_iter().max_by(Turn::compare).expect("nothing turns by itself")
    }

    fn grant_causes(&self, user: &str, group: &str, begins: bool) -> Vec<&'a Event> {
        let latest = self.now.pair_events(group, user).next_back().expect("an event of the pair");
        if begins {
            return vec![latest];
        }
        let is_added = |event: &&Event| matches!(event.fact, Fact::Membership { added: true, .. });
        let grant =
            self.now.pair_events(group, user).rfind(is_added).expect("what ends was granted");
        let Fact::Membership { directory, .. } = &grant.fact else { unreachable!() };
        let tombstone_of = |wanted: Kind, wanted_id: &str| {
            let is_it = |fact: &Fact| {
                matches!(fact,
                Fact::Entity { kind, id, tombstone: true,
                    .. } if *kind == wanted && id == wanted_id)
            };
            self.now.latest(is_it)
        };
        let ends = [
            Some(latest).filter(|latest| !is_added(latest)),
            tombstone_of(Kind::User, user),
            tombstone_of(Kind::Group, group),
            self.now.latest_deletion(directory),
        ];
        ends.into_iter()
            .flatten()
            .filter(|end| self.is_here(end) && end.is_later_than(grant))
            .collect()
    }

    fn life_causes(&self, kind: Kind, id: &str, begins: bool) -> Vec<&'a Event> {
        let version = self.now.latest_version(kind, id).filter(|version| self.is_here(version));
        let changes = |directory: &str| match begins {
            true => [DirectoryChange::Activated, DirectoryChange::Deactivated]
                .into_iter()
                .filter_map(|change| self.latest_here(directory, change))
                .filter(|event| {
                    event.asked_ms.is_some()
                        || !matches!(
                            event.fact,
                            Fact::Directory { change: DirectoryChange::Deactivated, .. }
                        )
                })
                .max_by(|a, b| a.order().cmp(&b.order())),
            false => self.latest_here(directory, DirectoryChange::Deleted),
        };
        let of_directory =
            self.now.placed_version(kind, id).and_then(|(_, directory)| changes(directory));
        version.into_iter().chain(of_directory).collect()
    }
}

impl World {
    /// The times in which `user` was in `group`, ascending.
    fn memberships<'a>(&'a self, user: &'a str, group: &'a str, cut: Cut) -> Vec<Membership<'a>> {
        let mut periods: Vec<Membership<'a>> = Vec::new();
        for change in self.sides_of_all(cut) {
            if change.turns(true, |view| view.holds(group, user)) {
                let start = change.membership_cause(user, group, true);
                let name = self.view(cut).group_name(group);
                periods.push(Membership {
                    user,
                    group,
                    name,
                    from: change.at,
                    until: None,
                    start,
                    end: None,
                });
            }
            if change.turns(false, |view| view.holds(group, user)) {
                let period = periods.last_mut().expect("what ends began");
                period.until = Some(change.at);
                period.name = change.before.group_name(group);
                period.end = Some(change.membership_cause(user, group, false));
            }
        }
        periods
    }

    fn membership_period(&self, period: &Membership<'_>) -> Value {
        let (start, end) = (self.cause(period.start), self.cause_or_null(period.end));
        json!({
            "object": "membership_period",
            "user_id": period.user,
            "group_id": period.group,
            "group_name": period.name,
            "from": rfc3339(period.from),
            "until": period.until.map(rfc3339),
            "observed": is_observed(&start) || is_observed(&end),
            "start": start,
            "end": end,
        })
    }

    /// The whole list that `GET users/{id}/groups` pages through; `None` for a user never heard of
    /// by then.
    pub fn groups_over_time(&self, user: &str, cut: Cut) -> Option<Vec<Value>> {
        let groups = self.view(cut).known(Kind::Group);
        let mut periods: Vec<Membership<'_>> =
            groups.into_iter().flat_map(|group| self.memberships(user, group, cut)).collect();
        periods.sort_by_key(|period| (period.from, period.group));
        self.has_heard_of(Kind::User, user, cut)
            .then(|| periods.iter().map(|period| self.membership_period(period)).collect())
    }

    /// The whole list that `GET groups/{id}/members` pages through; `None` for a group never heard
    /// of by then.
    pub fn members_over_time(&self, group: &str, cut: Cut) -> Option<Vec<Value>> {
        let users = self.view(cut).known(Kind::User);
        let periods = users.into_iter().flat_map(|user| self.memberships(user, group, cut));
        self.has_heard_of(Kind::Group, group, cut)
            .then(|| periods.map(|period| self.membership_period(&period)).collect())
    }
}

// --- Roles held, and what is lost with access ---

impl View<'_> {
    /// The roles by the mapping in force; before the first mapping, the source's. None without
    /// access.
    fn held(&self, user: &str) -> Vec<String> {
        let Some(version) = self.access(user) else { return Vec::new() };
        if let Some(roles) = self.roles(user) {
            return roles;
        }
        let (one, many) =
            (version.data.get("role"), version.data.get("roles").and_then(Value::as_array));
        let mut slugs: Vec<String> = Vec::new();
        for role in one.into_iter().chain(many.into_iter().flatten()) {
            let slug = slug_only(role).and_then(|role| Some(role["slug"].as_str()?.to_owned()));
            slugs.extend(slug.filter(|slug| !slugs.contains(slug)));
        }
        slugs
    }
}

impl World {
    /// The whole list that `GET deprovisionings` pages through, ascending.
    pub fn deprovisionings(&self, query: &[(String, String)], cut: Cut) -> Vec<Value> {
        let view = self.view(cut);
        let mut ends = Vec::new();
        for user in view.known(Kind::User) {
            let periods = self.accesses(user, cut);
            let next = periods.iter().skip(1).map(|period| Some(period.from)).chain([None]);
            for (period, restored_at) in periods.iter().zip(next) {
                if let (Some(at), Some((cause, reason))) = (period.until, period.end) {
                    ends.push((
                        at,
                        user,
                        self.deprovisioning(user, at, cause, reason, restored_at, cut),
                    ));
                }
            }
        }
        ends.sort_by_key(|(at, user, _)| (*at, *user));
        let ends = ends.into_iter().filter(|(at, _, item)| is_asked_for(query, *at, item));
        ends.map(|(_, _, item)| item).collect()
    }

    fn deprovisioning(
        &self,
        user: &str,
        at: i64,
        cause: &Event,
        reason: &str,
        restored_at: Option<i64>,
        cut: Cut,
    ) -> Value {
        let before = self.sides(at, cut.known_at).before;
        let shape = before.user(user).expect("who has access is there");
        let groups = before
            .groups_of(user)
            .into_iter()
            .map(|group| json!({ "id": group, "name": before.group_name(group) }));
        json!({
            "object": "deprovisioning",
            "user_id": user,
            "email": shape["email"],
            "directory_id": shape["directory_id"],
            "organization_id": shape["organization_id"],
            "reason": reason,
            "occurred_at": rfc3339(at),
            "recorded_at": null,
            "delay_ms": null,
            "cause": self.cause(Turn::Event(cause)),
            "roles": before.held(user),
            "groups": groups.collect::<Vec<Value>>(),
            "restored_at": restored_at.map(rfc3339),
            "observed": cause.asked_ms.is_some(),
            "not_before": self.not_before(user, at, cause, cut).map(rfc3339),
            "app_user_id": self.app_user(user, cut),
            "succeeded_by": self.succeeded_by(user, cut),
            "preceded_by": self.preceded_by(user, cut),
            "proof": format!("/rollcall/v1/log/proof/inclusion?seq={}", cause.seq),
        })
    }
}

fn is_asked_for(query: &[(String, String)], at: i64, item: &Value) -> bool {
    let email = item["email"].as_str().map(super::compared_email);
    let time = |text: &str| read_time(text).expect("a time");
    asked(query, &["user"]).all(|wanted| item["user_id"] == wanted)
        && asked(query, &["email"]).all(|wanted| email == Some(super::compared_email(wanted)))
        && asked(query, &["directory"]).all(|wanted| item["directory_id"] == wanted)
        && asked(query, &["organization", "organization_id"])
            .all(|wanted| item["organization_id"] == wanted)
        && asked(query, &["since"]).all(|since| time(since) <= at)
        && asked(query, &["until"]).all(|until| at <= time(until))
}

// --- Changes: what each record taught ---

/// A user's access and roles.
type Holding = (bool, BTreeSet<String>);

/// The access and roles of every user from each moment on, as known at one record.
#[derive(Default)]
pub struct Lives {
    by_user: BTreeMap<String, Vec<(i64, Holding)>>,
}

impl Lives {
    fn of(&self, user: &str) -> &[(i64, Holding)] {
        self.by_user.get(user).map_or(&[], Vec::as_slice)
    }

    /// Returns the access and roles of a user at a moment, or without one at the end.
    fn at(&self, user: &str, moment: Option<i64>) -> Holding {
        let by_then =
            self.of(user).iter().rev().find(|(at, _)| moment.is_none_or(|moment| *at <= moment));
        by_then.map_or_else(Holding::default, |(_, holding)| holding.clone())
    }

    /// The first moment of the unbroken time up to the end in which `is_so`, if there was a time
    /// before it in which it was not.
    fn unbroken(&self, user: &str, is_so: impl Fn(&Holding) -> bool) -> Option<i64> {
        let life = self.of(user);
        let broken = life.iter().rposition(|(_, holding)| !is_so(holding))?;
        life.get(broken + 1).map(|(at, _)| *at)
    }

    /// The first moment at which the two differ.
    fn first_difference(&self, other: &Lives, user: &str) -> Option<i64> {
        let moments: BTreeSet<i64> =
            self.of(user).iter().chain(other.of(user)).map(|(at, _)| *at).collect();
        moments
            .into_iter()
            .find(|moment| self.at(user, Some(*moment)) != other.at(user, Some(*moment)))
    }
}

impl World {
    pub fn lives(&self, known_at: u64) -> Lives {
        let cut = Cut { as_of_ms: None, known_at: Some(known_at) };
        let mut lives = Lives::default();
        for change in self.sides_of_all(cut) {
            for user in self.view(cut).known(Kind::User) {
                let holding = (
                    change.now.access(user).is_some(),
                    change.now.held(user).into_iter().collect(),
                );
                lives.by_user.entry(user.to_owned()).or_default().push((change.at, holding));
            }
        }
        lives
    }

    /// Returns the changes of record `seq`, without the items' ids; by user, kind of change and
    /// role.
    pub fn changes(&self, seq: u64) -> Vec<Value> {
        self.changes_between(&self.lives(seq - 1), &self.lives(seq), seq)
    }

    /// The same for every record, in order.
    pub fn all_changes(&self) -> Vec<Value> {
        let (mut before, mut all) = (Lives::default(), Vec::new());
        for seq in 1..=self.head() {
            let now = self.lives(seq);
            all.extend(self.changes_between(&before, &now, seq));
            before = now;
        }
        all
    }

    fn changes_between(&self, before: &Lives, now: &Lives, seq: u64) -> Vec<Value> {
        let mut changes: Vec<Value> =
            now.by_user.keys().flat_map(|user| self.changes_of(user, before, now, seq)).collect();
        changes.sort_by_key(change_key);
        changes
    }

    fn changes_of(&self, user: &str, before: &Lives, now: &Lives, seq: u64) -> Vec<Value> {
        let cut = Cut { as_of_ms: None, known_at: Some(seq) };
        let ((had, roles_before), (has, roles)) = (before.at(user, None), now.at(user, None));
        let differs = now.first_difference(before, user);
        let (periods, view) = (self.accesses(user, cut), self.view(cut));
        let mut changes = Vec::new();
        let mut tell =
            |change: &str, role: Option<&String>, reason: Option<&str>, at: Option<i64>| {
                changes.push(self.change(
                    seq,
                    &view,
                    user,
                    change,
                    role,
                    reason,
                    at.or(differs).expect("something differs"),
                ));
            };
        if has && !had {
            let change = if periods.len() > 1 { "access_restored" } else { "access_granted" };
            tell(change, None, None, periods.last().map(|period| period.from));
        }
        if had && !has {
            let end = periods.last().and_then(|period| period.end).map(|(_, reason)| reason);
            // An access that, as is known now, there never was.
            let version = view.latest_version(Kind::User, user);
            let reason = end.or_else(|| Some(view.reason_against(version?, user)));
            tell("access_ended", None, reason, periods.last().and_then(|period| period.until));
        }
        for role in roles.difference(&roles_before) {
            tell(
                "role_gained",
                Some(role),
                None,
                now.of(user)
                    .first()
                    .map(|(first, _)| now.unbroken(user, holds(role)).unwrap_or(*first)),
            );
        }
        for role in roles_before.difference(&roles) {
            tell(
                "role_lost",
                Some(role),
                None,
                now.unbroken(user, |holding| !holds(role)(holding)),
            );
        }
        if let (true, Some(at)) = (had == has && roles == roles_before, differs) {
            tell("history_changed", None, None, Some(at));
        }
        changes
    }

    #[allow(clippy::too_many_arguments, reason = "one for each field that differs")]
    fn change(
        &self,
        seq: u64,
        view: &View<'_>,
        user: &str,
        change: &str,
        role: Option<&String>,
        reason: Option<&str>,
        at: i64,
    ) -> Value {
        let (directory, organization) = view.belongs_to(user);
        json!({
            "object": "change",
            "seq": seq,
            "change": change,
            "user_id": user,
            "app_user_id": self.app_user(user, Cut { as_of_ms: None, known_at: Some(seq) }),
            "directory_id": directory,
            "organization_id": organization,
            "role": role,
            "reason": reason,
            "occurred_at": rfc3339(at),
            "recorded_at": null,
            "observed": is_observed(&self.cause(self.turn_of(seq))),
            "cause": self.cause(self.turn_of(seq)),
        })
    }

    fn turn_of(&self, seq: u64) -> Turn<'_> {
        let event = self.events.iter().find(|event| event.seq == seq).map(Turn::Event);
        let set = || self.settings.iter().find(|setting| setting.seq == seq).map(Turn::Set);
        event.or_else(set).expect("what changes something has an effect")
    }
}

fn holds(role: &str) -> impl Fn(&Holding) -> bool {
    move |(_, roles)| roles.contains(role)
}

/// Returns the key by which changes are sorted for a comparison.
pub fn change_key(change: &Value) -> [String; 4] {
    let number = format!("{:012}", change["seq"].as_u64().unwrap_or_default());
    let text = |key: &str| change[key].as_str().unwrap_or_default().to_owned();
    [number, text("user_id"), text("change"), text("role")]
}

impl<'a> View<'a> {
    /// Directory and organization of the latest version, or tombstone, that has a directory; empty
    /// where none has.
    fn belongs_to(&self, user: &str) -> (String, String) {
        let directory_of = |event: &'a Event| match &event.fact {
            Fact::Entity { directory, .. } => directory.as_deref(),
            Fact::Membership { directory, user, .. } => {
                user.directory.as_deref().or(Some(directory))
            }
            Fact::Directory { .. } => None,
        };
        let placed = self
            .versions_of(Kind::User, user)
            .into_iter()
            .rev()
            .find_map(|event| Some((directory_of(event)?, event)));
        placed.map_or_else(Default::default, |(directory, event)| {
            let said = filled(Self::said_of_user(event), "organization_id");
            (
                directory.to_owned(),
                said.unwrap_or_else(|| self.organization_of(directory)).to_owned(),
            )
        })
    }
}

// --- History: what each event said anew ---

/// Fields that do not describe the user or group.
const NOT_COMPARED: [&str; 6] =
    ["object", "id", "created_at", "updated_at", "previous_attributes", "groups"];

/// Fields whose keys are compared one by one.
const OPEN: [&str; 2] = ["custom_attributes", "raw_attributes"];

/// Returns a JSON value in which each number is its text after `#`: a `Value` would take `1.0` for
/// `1.00`.
pub fn exact(raw: &RawValue) -> Value {
    match raw.get().trim_start().as_bytes().first() {
        Some(b'{') => raw_object(raw)
            .expect("an object")
            .iter()
            .map(|(key, value)| (key.clone(), exact(value)))
            .collect(),
        Some(b'[') => {
            let items: Vec<Box<RawValue>> = serde_json::from_str(raw.get()).expect("an array");
            items.iter().map(|item| exact(item)).collect()
        }
        Some(b'-' | b'0'..=b'9') => json!(format!("#{}", raw.get().trim())),
        _ => serde_json::from_str(raw.get()).expect("a value"),
    }
}

/// Returns the snapshot of a user or group in one event, with numbers as text.
fn snapshot(world: &World, event: &Event, kind: Kind) -> Object {
    let body = &world.records[event.seq as usize - 1].body;
    let mut data =
        serde_json::from_slice::<RawObject>(body).expect("an object").remove("data").expect("data");
    if let Fact::Membership { .. } = event.fact {
        let end = if kind == Kind::User { "user" } else { "group" };
        data = raw_object(&data).expect("an object").remove(end).expect("a snapshot");
    } else if event.asked_ms.is_some() {
        let object = raw_object(&data).expect("an object").remove("object");
        let Some(object) = object else { return Object::new() };
        data = object;
    }
    match exact(&data) {
        Value::Object(said) => said,
        other => panic!("no snapshot: {other}"),
    }
}

/// The name of a field and its values on two sides; null where a side has none.
type Pair = (String, Value, Value);

/// Every field that either side names, with the keys of open fields one by one where both are
/// objects or nothing.
fn pairs(left: &Object, right: &Object) -> Vec<Pair> {
    let names: BTreeSet<&String> = left
        .keys()
        .chain(right.keys())
        .filter(|name| !NOT_COMPARED.contains(&name.as_str()))
        .collect();
    let of = |side: &Object, name: &str| side.get(name).cloned().unwrap_or_default();
    let mut pairs = Vec::new();
    for name in names {
        match (of(left, name), of(right, name)) {
            (left @ (Value::Object(_) | Value::Null), right @ (Value::Object(_) | Value::Null))
                if OPEN.contains(&name.as_str()) =>
            {
                let [left, right] =
                    [left, right].map(|side| side.as_object().cloned().unwrap_or_default());
                let keys: BTreeSet<&String> = left.keys().chain(right.keys()).collect();
                pairs.extend(
                    keys.into_iter()
                        .map(|key| (format!("{name}.{key}"), of(&left, key), of(&right, key))),
                );
            }
            (left, right) => pairs.push((name.clone(), left, right)),
        }
    }
    pairs
}

fn differing(pairs: Vec<Pair>, left_name: &str, right_name: &str) -> Map<String, Value> {
    let differing = pairs.into_iter().filter(|(_, left, right)| left != right);
    differing
        .map(|(name, left, right)| (name, json!({ left_name: left, right_name: right })))
        .collect()
}

fn changed(from: &Object, to: &Object) -> Value {
    Value::Object(differing(pairs(from, to), "from", "to"))
}

/// Returns the fields whose previous value, by the source, differs from the one known.
fn missed(known: &Object, said: &Object) -> Value {
    let is_said = |name: &str| {
        let open = name.split_once('.').filter(|(field, _)| OPEN.contains(field));
        said.contains_key(name)
            || open.is_some_and(|(field, key)| {
                said.get(field).is_some_and(|said| said.get(key).is_some())
            })
    };
    let pairs = pairs(known, said).into_iter().filter(|(name, _, _)| is_said(name)).collect();
    let missed = differing(pairs, "known", "said");
    if missed.is_empty() { Value::Null } else { Value::Object(missed) }
}

impl World {
    fn previous_attributes(&self, event: &Event) -> Option<Object> {
        let mut body: RawObject =
            serde_json::from_slice(&self.records[event.seq as usize - 1].body).expect("an object");
        let mut of = |key: &str| {
            raw_object(&body.remove(key)?)?
                .remove("previous_attributes")
                .map(|previous| exact(&previous))
        };
        let mut object_of = |key: &str| of(key).and_then(|previous| previous.as_object().cloned());
        object_of("data").or_else(|| object_of("context"))
    }

    /// The whole list that `GET users/{id}/history`, or that of a group, pages through, with
    /// numbers by their text; `None` for one never heard of by then.
    pub fn history(&self, what: &str, id: &str, cut: Cut) -> Option<Vec<Value>> {
        let kind = if what == "user" { Kind::User } else { Kind::Group };
        let versions = self.view(cut).versions_of(kind, id);
        let item = |place: usize| {
            let event = versions[place];
            let before = place.checked_sub(1).map(|before| versions[before]);
            let told = before
                .filter(|before| !is_tombstone(before))
                .map(|before| snapshot(self, before, kind))
                .unwrap_or_default();
            let said = self.records[event.seq as usize - 1].event.clone().unwrap_or_default();
            let is_version = matches!(event.fact, Fact::Entity { tombstone: false, .. });
            let knew = before
                .is_some_and(|before| matches!(before.fact, Fact::Entity { tombstone: false, .. }));
            let previous = if is_version && knew { self.previous_attributes(event) } else { None };
            let change = match event.fact {
                Fact::Membership { .. } => "snapshot",
                _ if event.asked_ms.is_some() && is_version => "updated",
                _ if event.asked_ms.is_some() => "deleted",
                _ => said.rsplit('.').next().unwrap_or_default(),
            };
            let changes = match is_tombstone(event) {
                true => json!({}),
                false => json!(changed(&told, &snapshot(self, event, kind))),
            };
            json!({
                "object": format!("{what}_version"),
                format!("{what}_id"): id,
                "change": change,
                "changed": changes,
                "missed": previous.map(|previous| missed(&told, &previous)),
                "late": versions[place + 1..].iter().any(|later| later.seq < event.seq),
                "proof": if event.asked_ms.is_some() { "observed" } else { "webhook" },
                "cause": self.cause(Turn::Event(event)),
            })
        };
        self.has_heard_of(kind, id, cut).then(|| (0..versions.len()).map(item).collect())
    }
}

// --- Diff ---

/// Kind, user and group or role, as the list is ordered.
type Place = (usize, String, String);

const KINDS: [&str; 4] = ["user", "group", "membership", "role"];

impl World {
    /// Everything that exists at a cut; users and groups with their events.
    fn state(&self, cut: Cut, directory: Option<&str>) -> BTreeMap<Place, Option<&Event>> {
        let view = self.view(cut);
        let mut state = BTreeMap::new();
        for (number, kind) in [Kind::User, Kind::Group].into_iter().enumerate() {
            for id in view.known(kind) {
                let Some(version) = view.alive(kind, id) else { continue };
                if directory.is_some_and(|directory| directory != version.directory) {
                    continue;
                }
                state.insert((number, id.to_owned(), String::new()), Some(version.event));
                if kind == Kind::User {
                    state.extend(
                        view.groups_of(id)
                            .into_iter()
                            .map(|group| ((2, id.to_owned(), group.to_owned()), None)),
                    );
                    state.extend(
                        view.held(id).into_iter().map(|role| ((3, id.to_owned(), role), None)),
                    );
                }
            }
        }
        state
    }

    /// The whole list that `GET diff` pages through, with numbers by their text.
    pub fn diff(&self, from: Cut, to: Cut, directory: Option<&str>) -> Vec<Value> {
        let [from, to] = [from, to].map(|cut| self.state(cut, directory));
        let places: BTreeSet<&Place> = from.keys().chain(to.keys()).collect();
        places
            .into_iter()
            .filter_map(|place| self.difference(place, from.get(place), to.get(place)))
            .collect()
    }

    fn difference(
        &self,
        place: &Place,
        from: Option<&Option<&Event>>,
        to: Option<&Option<&Event>>,
    ) -> Option<Value> {
        let (number, first, second) = place;
        let kind = if *number == 0 { Kind::User } else { Kind::Group };
        let changed = match (from, to) {
            (Some(Some(from)), Some(Some(to))) => {
                changed(&snapshot(self, from, kind), &snapshot(self, to, kind))
            }
            _ => json!({}),
        };
        let change = match (from, to) {
            (Some(_), Some(_)) if changed == json!({}) => return None,
            (Some(_), Some(_)) => "changed",
            (Some(_), None) => "removed",
            _ => "added",
        };
        let group = if *number == 1 { first } else { second };
        Some(json!({
            "object": "difference",
            "kind": KINDS[*number],
            "change": change,
            "user_id": if *number == 1 { Value::Null } else { json!(first) },
            "group_id": if [1, 2].contains(number) { json!(group) } else { Value::Null },
            "role": if *number == 3 { json!(second) } else { Value::Null },
            "changed": changed,
        }))
    }
}
