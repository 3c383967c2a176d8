//! Rules 18 and 21 to 26: operators' acts, and the roles that follow from them.
//!
//! Nothing is kept: roles over time are found by looking at every moment at which anything
//! happened.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::audit::is_observed;
use super::{
    Cut, Event, Fact, Kind, Object, Record, Standing, View, World, asked, email_of, filled, moment,
    rfc3339, slug_only, state_of, text,
};

/// An operator's event: its id, and when it was recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Act {
    pub event_id: String,
    pub recorded_at_ms: i64,
}

/// A setting of an operator.
pub struct Setting {
    pub(super) seq: u64,
    act: Act,
    /// Among those of its kind, from 1.
    version: u64,
    pub(super) effective_from_ms: i64,
    note: Value,
    what: What,
}

enum What {
    Policy(String),
    /// As it was sent.
    Mapping(Value),
}

/// The effect that deleting a directory would have now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deletion {
    /// Nothing ever named it.
    Unknown,
    /// It is deleted already.
    Done,
    /// It would happen no earlier than this.
    NotBefore(Option<i64>),
}

impl Setting {
    pub(super) fn policy(&self) -> Option<&str> {
        match &self.what {
            What::Policy(inactive_users) => Some(inactive_users),
            What::Mapping(_) => None,
        }
    }

    pub(super) fn mapping(&self) -> Option<&Value> {
        match &self.what {
            What::Policy(_) => None,
            What::Mapping(mapping) => Some(mapping),
        }
    }

    fn event(&self) -> &'static str {
        match self.what {
            What::Policy(_) => "rollcall.policy.set",
            What::Mapping(_) => "rollcall.mapping.set",
        }
    }

    fn seen(&self, cut: Cut) -> bool {
        cut.known_at.is_none_or(|known_at| self.seq <= known_at)
            && cut.as_of_ms.is_none_or(|as_of| self.effective_from_ms <= as_of)
    }
}

impl World {
    /// Rule 24: of those that are effective and known the newest.
    pub(super) fn in_force<'a, T: ?Sized>(
        &'a self,
        cut: Cut,
        kind: fn(&'a Setting) -> Option<&'a T>,
    ) -> Option<&'a Setting> {
        self.settings.iter().rev().find(|setting| kind(setting).is_some() && setting.seen(cut))
    }

    pub(super) fn setting_in_force<'a, T: ?Sized>(
        &'a self,
        cut: Cut,
        kind: fn(&'a Setting) -> Option<&'a T>,
    ) -> Option<&'a T> {
        kind(self.in_force(cut, kind)?)
    }

    pub fn set_policy(
        &mut self,
        act: Act,
        inactive_users: &str,
        effective_from_ms: i64,
        note: Value,
    ) -> u64 {
        self.set(act, What::Policy(inactive_users.to_owned()), effective_from_ms, note)
    }

    pub fn set_mapping(
        &mut self,
        act: Act,
        mapping: Value,
        effective_from_ms: i64,
        note: Value,
    ) -> u64 {
        self.set(act, What::Mapping(mapping), effective_from_ms, note)
    }

    fn set(&mut self, act: Act, what: What, effective_from_ms: i64, note: Value) -> u64 {
        let same_kind =
            |other: &&Setting| std::mem::discriminant(&other.what) == std::mem::discriminant(&what);
        let version = self.settings.iter().filter(same_kind).count() as u64 + 1;
        let setting = Setting { seq: self.head() + 1, act, version, effective_from_ms, note, what };
        let seq = self.append_act(&setting.act.event_id, setting.event());
        self.settings.push(setting);
        seq
    }

    pub(super) fn append_act(&mut self, event_id: &str, event: &str) -> u64 {
        self.append(Record {
            body: Vec::new(),
            event_id: Some(event_id.to_owned()),
            event: Some(event.to_owned()),
            standing: Standing::First,
            listed: Vec::new(),
            is_copy: false,
            content: Default::default(),
        })
    }

    /// Rule 26.
    pub fn deletion_of(&self, directory: &str) -> Deletion {
        let view = self.view(Cut::default());
        match view.standing(directory) {
            super::Directory::Unknown => Deletion::Unknown,
            super::Directory::Deleted => Deletion::Done,
            super::Directory::Stub | super::Directory::Live(_) => {
                let is_own = |event: &&&Event| {
                    matches!(&event.fact,
                    Fact::Directory { id, .. } if id == directory)
                };
                Deletion::NotBefore(
                    view.events.iter().filter(is_own).map(|event| event.at + 1).max(),
                )
            }
        }
    }

    /// A deletion that happened at a moment.
    pub fn delete_directory(&mut self, event_id: &str, directory: &str, at_ms: i64) -> u64 {
        let seq = self.append_act(event_id, "rollcall.directory.deleted");
        let change = super::DirectoryChange::Deleted;
        let fact = Fact::Directory { id: directory.to_owned(), change, data: Object::new() };
        self.events.push(Event {
            seq,
            at: at_ms,
            closing: true,
            updated_at: None,
            id: event_id.to_owned(),
            asked_ms: None,
            fact,
        });
        self.events.sort_by(|a, b| a.order().cmp(&b.order()));
        seq
    }

    /// Every moment at which anything can change, ascending: what happened, and what operators set
    /// from then on.
    pub fn turning_points(&self, cut: Cut) -> Vec<i64> {
        let happened = self.view(cut).events.into_iter().map(|event| event.at);
        let set = self
            .settings
            .iter()
            .filter(|setting| setting.seen(cut))
            .map(|setting| setting.effective_from_ms);
        happened.chain(set).collect::<BTreeSet<i64>>().into_iter().collect()
    }

    /// The records that operators made.
    pub fn acts(&self) -> Vec<u64> {
        let is_act =
            |record: &Record| record.event_id.as_deref().is_some_and(|id| id.starts_with("op_"));
        self.records
            .iter()
            .enumerate()
            .filter(|(_, record)| is_act(record))
            .map(|(index, _)| index as u64 + 1)
            .collect()
    }
}

// --- Roles at a cut: rules 21 and 22 ---

/// A reason for a role.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Reason {
    rule: Option<usize>,
    group: Option<String>,
    attribute: Option<String>,
    role: String,
    /// Its identity over time, independent of the mapping that it comes from.
    identity: Identity,
}

/// Role, matcher without roles and values, directory, organization, group or attribute.
type Identity = (String, String, Option<String>, Option<String>, Option<String>);

fn rules_of(mapping: &Value) -> impl Iterator<Item = &Value> {
    mapping["rules"].as_array().into_iter().flatten()
}

fn texts(value: &Value) -> Vec<String> {
    value
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|text| Some(text.as_str()?.to_owned()))
        .collect()
}

/// Returns true if two rules have the same matcher and scope.
fn means_the_same(rule: &Value, other: &Value) -> bool {
    let scope = |rule: &Value| ["directory_id", "organization_id"].map(|key| rule[key].clone());
    matcher(rule) == matcher(other) && scope(rule) == scope(other)
}

/// Returns true if a rule gives a role, to a group or for any value.
fn may_give(rule: &Value, role: &str) -> bool {
    let by_value = rule["values"].as_object().into_iter().flatten().map(|(_, roles)| roles);
    by_value.chain([&rule["roles"]]).any(|roles| texts(roles).iter().any(|given| given == role))
}

/// Returns the matcher of a rule, without the roles that it gives.
fn matcher(rule: &Value) -> String {
    match rule.get("group") {
        Some(group) => super::composed(&format!("group {group}")),
        None => format!("attribute {}", rule["attribute"]),
    }
}

/// Rule 21: `*` any run of characters, `?` one, all else itself.
fn fits_glob(glob: &[char], text: &[char]) -> bool {
    match glob.split_first() {
        None => text.is_empty(),
        Some(('*', rest)) => (0..=text.len()).any(|skipped| fits_glob(rest, &text[skipped..])),
        Some((char, rest)) => text.split_first().is_some_and(|(first, others)| {
            (*char == '?' || char == first) && fits_glob(rest, others)
        }),
    }
}

fn fits_group(rule: &Value, id: &str, name: &str) -> bool {
    let Some(group) = rule["group"].as_object() else { return false };
    let name = super::composed(name);
    let chars = |text: &str| text.chars().collect::<Vec<char>>();
    group.iter().any(|(key, wanted)| {
        let wanted = wanted.as_str().unwrap_or_default();
        match key.as_str() {
            "id" => wanted == id,
            "name" => super::composed(wanted) == name,
            "name_glob" => fits_glob(&chars(&super::composed(wanted)), &chars(&name)),
            other => panic!("`{other}` picks no group"),
        }
    })
}

pub(super) type RawObject = BTreeMap<String, Box<RawValue>>;

pub(super) fn raw_object(raw: &RawValue) -> Option<RawObject> {
    serde_json::from_str(raw.get()).ok()
}

/// The keys of a path, each with whether it is quoted: between dots, or a JSON string in quotes.
fn keys_of(path: &str) -> Vec<(bool, String)> {
    let mut keys = Vec::new();
    let mut rest = path;
    while !rest.is_empty() {
        let quoted = rest.strip_prefix('"').map(|inside| {
            let mut escaped = false;
            let end = inside.find(|char| {
                let ends = char == '"' && !escaped;
                escaped = char == '\\' && !escaped;
                ends
            });
            &rest[..end.expect("a closing quote") + 2]
        });
        let key = quoted.unwrap_or_else(|| rest.split('.').next().expect("a key"));
        keys.push(match quoted {
            Some(quoted) => (true, serde_json::from_str(quoted).expect("a string")),
            None => (false, key.to_owned()),
        });
        rest = &rest[key.len()..];
        rest = rest.strip_prefix('.').unwrap_or(rest);
    }
    keys
}

/// Returns what is at the end of a path: of the unquoted keys that may be meant by its beginning the
/// longest that is there and not null leads on.
fn at_path(value: Box<RawValue>, keys: &[(bool, String)]) -> Option<Box<RawValue>> {
    if keys.is_empty() {
        return Some(value);
    }
    let mut object = raw_object(&value)?;
    let most = match keys[0].0 {
        true => 1,
        false => keys.iter().take_while(|(quoted, _)| !quoted).count(),
    };
    for count in (1..=most).rev() {
        let names: Vec<&str> = keys[..count].iter().map(|(_, key)| key.as_str()).collect();
        let there = object.remove(&names.join("."));
        if let Some(there) = there.filter(|value| value.get() != "null") {
            return at_path(there, &keys[count..]);
        }
    }
    None
}

/// Returns the values of an attribute, each as a mapping would have it: a string by its content, a
/// number or boolean by its text.
fn attribute_values(snapshot: &RawValue, path: &str) -> Vec<String> {
    let Some(mut attributes) = raw_object(snapshot) else { return Vec::new() };
    attributes.remove("previous_attributes");
    let attributes = serde_json::value::to_raw_value(&attributes).expect("an object");
    let Some(found) = at_path(attributes, &keys_of(path)) else { return Vec::new() };
    let elements =
        serde_json::from_str::<Vec<Box<RawValue>>>(found.get()).unwrap_or_else(|_| vec![found]);
    elements.iter().filter_map(|element| scalar(element.get())).collect()
}

fn scalar(raw: &str) -> Option<String> {
    match raw.as_bytes().first()? {
        b'"' => serde_json::from_str(raw).ok(),
        b'{' | b'[' | b'n' => None,
        _ => Some(raw.to_owned()),
    }
}

impl<'a> View<'a> {
    pub(super) fn is_active_directory(&self, directory: &str) -> bool {
        match self.standing(directory) {
            super::Directory::Unknown | super::Directory::Deleted => false,
            super::Directory::Stub => true,
            super::Directory::Live(newest) => !matches!(
                newest.fact,
                Fact::Directory { change: super::DirectoryChange::Deactivated, .. }
            ),
        }
    }

    /// The user's version, if it has access.
    pub(super) fn access(&self, user: &str) -> Option<super::Version<'a>> {
        let version = self.alive(Kind::User, user)?;
        (state_of(version.data) == "active" && self.is_active_directory(version.directory))
            .then_some(version)
    }

    pub(super) fn group_name(&self, group: &str) -> String {
        self.alive(Kind::Group, group)
            .and_then(|version| text(version.data, "name"))
            .unwrap_or_default()
            .to_owned()
    }

    /// A user's snapshot as it was sent.
    fn raw_snapshot(&self, user: &str, event: &Event) -> Box<RawValue> {
        let body = &self.world.records[event.seq as usize - 1].body;
        let envelope: RawObject =
            serde_json::from_slice(&super::readable(body)).expect("an object");
        let data = &envelope["data"];
        match &event.fact {
            Fact::Membership { user: end, .. } if end.id == user => {
                raw_object(data).expect("an object").remove("user").expect("a snapshot")
            }
            _ if event.asked_ms.is_some() => {
                raw_object(data).expect("an object").remove("object").expect("an object")
            }
            _ => data.clone(),
        }
    }

    /// In the order in which `because` lists them, and each once.
    fn reasons(&self, mapping: &Value, user: &str) -> Vec<Reason> {
        let Some(version) = self.access(user) else { return Vec::new() };
        let organization = self.organization_of(version.directory);
        let groups: Vec<(&str, String)> =
            self.groups_of(user).into_iter().map(|group| (group, self.group_name(group))).collect();
        let mut reasons = Vec::new();
        for rule in rules_of(mapping) {
            let (only_in, only_of) =
                (rule["directory_id"].as_str(), rule["organization_id"].as_str());
            if only_in.is_some_and(|only| only != version.directory)
                || only_of.is_some_and(|only| only != organization)
            {
                continue;
            }
            let mut give = |role: String, group: Option<&str>, attribute: Option<&str>| {
                let owned = |text: Option<&str>| text.map(str::to_owned);
                let identity = (
                    role.clone(),
                    matcher(rule),
                    owned(only_in),
                    owned(only_of),
                    owned(group.or(attribute)),
                );
                let number = rules_of(mapping)
                    .position(|other| means_the_same(other, rule) && may_give(other, &role));
                reasons.push(Reason {
                    rule: number,
                    group: owned(group),
                    attribute: owned(attribute),
                    role,
                    identity,
                });
            };
            for (group, _) in groups.iter().filter(|(group, name)| fits_group(rule, group, name)) {
                texts(&rule["roles"]).into_iter().for_each(|role| give(role, Some(group), None));
            }
            if let Some(path) = rule["attribute"].as_str() {
                for value in attribute_values(&self.raw_snapshot(user, version.event), path) {
                    texts(&rule["values"][&value])
                        .into_iter()
                        .for_each(|role| give(role, None, Some(path)));
                }
            }
        }
        if reasons.is_empty() {
            for role in texts(&mapping["default_roles"]) {
                let identity = (role.clone(), "default".to_owned(), None, None, None);
                reasons.push(Reason { rule: None, group: None, attribute: None, role, identity });
            }
        }
        if mapping["mode"] == "highest_priority" {
            let priority = texts(&mapping["priority"]);
            let highest = priority
                .iter()
                .find(|role| reasons.iter().any(|reason| reason.role == **role))
                .cloned();
            reasons.retain(|reason| Some(&reason.role) == highest.as_ref());
        }
        reasons.sort();
        reasons.dedup();
        reasons
    }

    /// By the mapping in force: those in `priority` in its order, then the others by name. `None`
    /// before the first mapping.
    pub(super) fn roles(&self, user: &str) -> Option<Vec<String>> {
        let mapping = self.mapping?;
        let held: BTreeSet<String> =
            self.reasons(mapping, user).into_iter().map(|reason| reason.role).collect();
        let priority: Vec<&str> = mapping["priority"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let ranked =
            priority.iter().filter(|role| held.contains(**role)).map(|role| role.to_string());
        let others = held.iter().filter(|role| !priority.contains(&role.as_str())).cloned();
        Some(ranked.chain(others).collect())
    }

    /// Rule 24: before the first mapping they are the source's.
    pub(super) fn replace_roles(&self, user: &str, shape: &mut Value) {
        let Some(roles) = self.roles(user) else { return };
        let shape = shape.as_object_mut().expect("a user");
        shape.remove("role");
        shape.extend(roles.first().map(|role| ("role".to_owned(), json!({ "slug": role }))));
        shape
            .insert("roles".to_owned(), roles.iter().map(|role| json!({ "slug": role })).collect());
    }

    pub(super) fn has_role(&self, user: &str, role: &str) -> bool {
        if let Some(roles) = self.roles(user) {
            return roles.iter().any(|held| held == role);
        }
        let Some(version) = self.alive(Kind::User, user) else { return false };
        let (one, many) =
            (version.data.get("role"), version.data.get("roles").and_then(Value::as_array));
        let mut said = one.into_iter().chain(many.into_iter().flatten());
        said.any(|said| slug_only(said).is_some_and(|said| said["slug"] == role))
    }
}

// --- Roles over time: rule 23 ---

/// The reasons for a user's roles from a moment on.
struct Moment {
    at: i64,
    reasons: Vec<Reason>,
}

/// A cause: an event of the source, or an operator's setting.
#[derive(Clone, Copy)]
pub(super) enum Turn<'a> {
    Event(&'a Event),
    Set(&'a Setting),
}

impl Turn<'_> {
    /// Events in their order, then policies, then mappings.
    pub(super) fn compare(&self, other: &Turn<'_>) -> Ordering {
        let kind = |turn: &Turn<'_>| match turn {
            Turn::Event(_) => 0,
            Turn::Set(setting) if setting.policy().is_some() => 1,
            Turn::Set(_) => 2,
        };
        match (self, other) {
            (Turn::Event(this), Turn::Event(that)) => this.order().cmp(&that.order()),
            _ => kind(self).cmp(&kind(other)),
        }
    }
}

/// One user's roles through all time, as known at `known_at`.
struct Past<'a> {
    world: &'a World,
    user: &'a str,
    known_at: Option<u64>,
    moments: Vec<Moment>,
}

impl<'a> Past<'a> {
    fn of(world: &'a World, user: &'a str, cut: Cut) -> Past<'a> {
        let at = |moment: i64| {
            let view = world.view(Cut { as_of_ms: Some(moment), known_at: cut.known_at });
            let reasons = view.mapping.map_or(Vec::new(), |mapping| view.reasons(mapping, user));
            Moment { at: moment, reasons }
        };
        Past {
            world,
            user,
            known_at: cut.known_at,
            moments: world.turning_points(cut).into_iter().map(at).collect(),
        }
    }

    fn now(&self) -> &[Reason] {
        self.moments.last().map_or(&[], |moment| &moment.reasons)
    }

    /// The first moment of the unbroken time in which `holds` up to the end.
    fn since(&self, holds: impl Fn(&Reason) -> bool) -> i64 {
        let unbroken =
            self.moments.iter().rev().take_while(|moment| moment.reasons.iter().any(&holds));
        unbroken.last().expect("it holds at the end").at
    }

    fn then(&self, at: i64) -> View<'a> {
        self.world.view(Cut { as_of_ms: Some(at), known_at: self.known_at })
    }

    /// The last of what concerns a reason at a moment.
    fn turn(&self, reason: &Reason, at: i64) -> Option<Turn<'a>> {
        let cut = Cut { as_of_ms: Some(at), known_at: self.known_at };
        let set =
            [self.world.in_force(cut, Setting::policy), self.world.in_force(cut, Setting::mapping)];
        let set = set
            .into_iter()
            .flatten()
            .filter(|setting| setting.effective_from_ms == at)
            .map(Turn::Set);
        let then = self.then(at);
        let here = || then.events.iter().copied().filter(|event| event.at == at);
        let mut concerned: Vec<&Event> =
            here().filter(|event| self.concerns(&then, event, reason)).collect();
        if concerned.is_empty() {
            // In the mode `highest_priority` a role also begins or ends with what another group
            // gives.
            concerned = here().filter(|event| self.concerns_any_group(&then, event)).collect();
        }
        concerned.into_iter().map(Turn::Event).chain(set).max_by(Turn::compare)
    }

    fn concerns(&self, then: &View<'a>, event: &Event, reason: &Reason) -> bool {
        then.concerns_user(event, self.user)
            || match (&reason.rule, &reason.group) {
                (None, _) => self.concerns_any_group(then, event),
                (Some(_), Some(group)) => then.concerns_group(event, group, self.user),
                (Some(_), None) => false,
            }
    }

    fn concerns_any_group(&self, then: &View<'a>, event: &Event) -> bool {
        then.ever_groups_of(self.user)
            .into_iter()
            .any(|group| then.concerns_group(event, group, self.user))
    }
}

impl<'a> View<'a> {
    /// Explicit versions and tombstones; snapshots as far as no explicit one of their moment or an
    /// earlier one is known. In order.
    pub(super) fn versions_of(&self, kind: Kind, id: &str) -> Vec<&'a Event> {
        let explicit = |event: &&Event| {
            matches!(&event.fact,
            Fact::Entity { kind: of, id: other, .. } if *of == kind && other == id)
        };
        let first = self.events.iter().copied().filter(explicit).map(|event| event.at).min();
        let counts =
            |event: &&&Event| explicit(event) || first.is_none_or(|first| event.at < first);
        self.events
            .iter()
            .filter(|event| event.speaks_of(kind, id))
            .filter(counts)
            .copied()
            .collect()
    }

    /// That of the latest version that has one.
    pub(super) fn directory_then(&self, kind: Kind, id: &str) -> Option<&'a str> {
        self.versions_of(kind, id).into_iter().rev().find_map(|event| match &event.fact {
            Fact::Entity { directory, .. } => directory.as_deref(),
            Fact::Membership { directory, group, user, .. } => {
                let end = if kind == Kind::User { user } else { group };
                Some(end.directory.as_ref().unwrap_or(directory))
            }
            Fact::Directory { .. } => None,
        })
    }

    fn is_event_of_directory(event: &Event, directory: Option<&str>) -> bool {
        matches!(&event.fact, Fact::Directory { id, .. } if Some(id.as_str()) == directory)
    }

    fn is_version_of(&self, kind: Kind, id: &str, event: &Event) -> bool {
        self.versions_of(kind, id).iter().any(|version| version.seq == event.seq)
    }

    fn concerns_user(&self, event: &Event, user: &str) -> bool {
        let directory = self.directory_then(Kind::User, user);
        let first_with_organization = directory.and_then(|directory| {
            self.events.iter().find(|event| event.organization_carried_for(directory).is_some())
        });
        self.is_version_of(Kind::User, user, event)
            || Self::is_event_of_directory(event, directory)
            || first_with_organization.is_some_and(|first| first.seq == event.seq)
    }

    pub(super) fn pair_events(
        &self,
        group_id: &str,
        user_id: &str,
    ) -> impl DoubleEndedIterator<Item = &'a Event> {
        let of_pair = |fact: &Fact| {
            matches!(fact,
            Fact::Membership { group, user, .. } if group.id == group_id && user.id == user_id)
        };
        self.events
            .iter()
            .copied()
            .filter(move |event| of_pair(&event.fact))
            .collect::<Vec<_>>()
            .into_iter()
    }

    /// Without what concerns the user alone.
    fn concerns_group(&self, event: &Event, group: &str, user: &str) -> bool {
        let of_pair =
            self.pair_events(group, user).next_back().and_then(|latest| match &latest.fact {
                Fact::Membership { directory, .. } => Some(directory.as_str()),
                _ => None,
            });
        self.pair_events(group, user).any(|other| other.seq == event.seq)
            || self.is_version_of(Kind::Group, group, event)
            || Self::is_event_of_directory(event, self.directory_then(Kind::Group, group))
            || Self::is_event_of_directory(event, of_pair)
    }

    /// The groups to which the user was ever added.
    fn ever_groups_of(&self, wanted: &str) -> BTreeSet<&'a str> {
        let added = self.events.iter().filter_map(|event| match &event.fact {
            Fact::Membership { added: true, group, user, .. } if user.id == wanted => {
                Some(group.id.as_str())
            }
            _ => None,
        });
        added.collect()
    }
}

// --- Answers ---

impl World {
    pub(super) fn cause(&self, turn: Turn<'_>) -> Value {
        let (seq, at) = match turn {
            Turn::Event(event) => (event.seq, event.at),
            Turn::Set(setting) => (setting.seq, setting.act.recorded_at_ms),
        };
        let record = &self.records[seq as usize - 1];
        // When the log took it is known to the log alone.
        json!({ "event_id": record.event_id, "event": record.event, "occurred_at": rfc3339(at),
            "recorded_at": null, "seq": seq })
    }

    pub(super) fn cause_or_null(&self, turn: Option<Turn<'_>>) -> Value {
        turn.map_or(Value::Null, |turn| self.cause(turn))
    }

    /// A user's assignments by role, each with all its reasons.
    fn assignments_of(&self, user: &str, cut: Cut) -> Vec<Value> {
        let view = self.view(cut);
        let Some(version) = view.access(user) else { return Vec::new() };
        let past = Past::of(self, user, cut);
        let because = |reason: &Reason| {
            let since = past.since(|other| other.identity == reason.identity);
            json!({
                "rule": reason.rule,
                "group_id": reason.group,
                "group_name": reason.group.as_deref().map(|group| view.group_name(group)),
                "attribute": reason.attribute,
                "since": rfc3339(since),
                "cause": self.cause_or_null(past.turn(reason, since)),
            })
        };
        let roles: BTreeSet<&str> = past.now().iter().map(|reason| reason.role.as_str()).collect();
        let assignment = |role: &str| {
            let reasons = past.now();
            let because: Vec<Value> =
                reasons.iter().filter(|reason| reason.role == role).map(because).collect();
            json!({
                "object": "role_assignment",
                "user_id": user,
                "directory_id": version.directory,
                "organization_id": view.organization_of(version.directory),
                "role": role,
                "since": rfc3339(past.since(|reason| reason.role == role)),
                "because": because,
            })
        };
        roles.into_iter().map(assignment).collect()
    }

    /// The roles that any mapping gives, of those whose record is wanted.
    pub(super) fn roles_of_mappings(&self, wanted: impl Fn(u64) -> bool) -> BTreeSet<String> {
        let settings = self.settings.iter().filter(|setting| wanted(setting.seq));
        let mut roles = BTreeSet::new();
        let mut add = |list: &Value| {
            let texts = list.as_array().into_iter().flatten().filter_map(Value::as_str);
            roles.extend(texts.map(str::to_owned));
        };
        for mapping in settings.filter_map(Setting::mapping) {
            add(&mapping["default_roles"]);
            for rule in mapping["rules"].as_array().into_iter().flatten() {
                add(&rule["roles"]);
                rule["values"].as_object().into_iter().flatten().for_each(|(_, list)| add(list));
            }
        }
        roles
    }

    /// The whole list that `GET role_assignments` pages through.
    pub fn role_assignments(&self, query: &[(String, String)], cut: Cut) -> Vec<Value> {
        let view = self.view(cut);
        let users = view
            .known(Kind::User)
            .into_iter()
            .filter(|user| asked(query, &["user"]).all(|wanted| wanted == *user));
        let all = users.flat_map(|user| self.assignments_of(user, cut));
        let through = |assignment: &Value, group: &str| {
            assignment["because"]
                .as_array()
                .is_some_and(|because| because.iter().any(|because| because["group_id"] == group))
        };
        let matches = |assignment: &Value| {
            asked(query, &["role"]).all(|wanted| assignment["role"] == wanted)
                && asked(query, &["directory"]).all(|wanted| assignment["directory_id"] == wanted)
                && asked(query, &["organization"])
                    .all(|wanted| assignment["organization_id"] == wanted)
                && asked(query, &["group"]).all(|wanted| through(assignment, wanted))
        };
        all.filter(matches).collect()
    }

    /// The whole list of periods; `None` for a user never heard of by then.
    pub fn role_periods(&self, user: &str, cut: Cut) -> Option<Vec<Value>> {
        self.view(Cut { as_of_ms: None, ..cut }).known(Kind::User).contains(user).then_some(())?;
        let past = Past::of(self, user, cut);
        let last = |reasons: &mut dyn Iterator<Item = &Reason>, at: i64| {
            reasons.filter_map(|reason| past.turn(reason, at)).max_by(Turn::compare)
        };
        let roles: BTreeSet<&str> = past
            .moments
            .iter()
            .flat_map(|moment| &moment.reasons)
            .map(|reason| reason.role.as_str())
            .collect();
        let mut periods = Vec::new();
        for role in roles {
            let mut began: Option<(i64, Value)> = None;
            let mut before: &[Reason] = &[];
            for moment in &past.moments {
                let holds = moment.reasons.iter().any(|reason| reason.role == role);
                let mut beginning = moment.reasons.iter().filter(|reason| reason.role == role);
                let mut ending = before.iter().filter(|reason| reason.role == role);
                match (&began, holds) {
                    (None, true) => {
                        began =
                            Some((moment.at, self.cause_or_null(last(&mut beginning, moment.at))))
                    }
                    (Some((from, start)), false) => {
                        let end = self.cause_or_null(last(&mut ending, moment.at));
                        periods
                            .push((*from, period(user, role, *from, Some(moment.at), start, end)));
                        began = None;
                    }
                    _ => {}
                }
                before = &moment.reasons;
            }
            periods.extend(
                began.map(|(from, start)| {
                    (from, period(user, role, from, None, &start, Value::Null))
                }),
            );
        }
        // They came by role.
        periods.sort_by_key(|(from, _)| *from);
        Some(periods.into_iter().map(|(_, period)| period).collect())
    }

    /// `GET role_mapping`, but for who set it.
    pub fn role_mapping(&self, cut: Cut) -> Value {
        self.in_force(cut, Setting::mapping).map_or_else(no_mapping, describe)
    }

    /// Every mapping set, in order of version.
    pub fn role_mappings(&self) -> Vec<Value> {
        self.settings.iter().filter(|setting| setting.mapping().is_some()).map(describe).collect()
    }
}

fn period(
    user: &str,
    role: &str,
    from: i64,
    until: Option<i64>,
    start: &Value,
    end: Value,
) -> Value {
    let until = until.map(rfc3339);
    json!({ "object": "role_period", "user_id": user, "role": role, "from": rfc3339(from),
        "until": until, "observed": is_observed(start) || is_observed(&end), "start": start,
        "end": end })
}

fn no_mapping() -> Value {
    json!({ "object": "role_mapping", "version": 0, "seq": null, "effective_from": null,
        "set_at": null, "note": null, "mapping": null })
}

fn describe(setting: &Setting) -> Value {
    json!({
        "object": "role_mapping",
        "version": setting.version,
        "seq": setting.seq,
        "effective_from": rfc3339(setting.effective_from_ms),
        "set_at": rfc3339(setting.act.recorded_at_ms),
        "note": setting.note,
        "mapping": setting.mapping(),
    })
}

// --- Preview ---

impl World {
    /// The whole answer to a preview without pages. A mapping that would take effect after `as_of`
    /// changes nothing.
    pub fn preview(&self, proposed: &Value, effective_from_ms: Option<i64>, cut: Cut) -> Value {
        let view = self.view(cut);
        let late = cut.as_of_ms.zip(effective_from_ms).is_some_and(|(as_of, from)| from > as_of);
        let new = if late { view.mapping } else { Some(proposed) };
        let mut totals: BTreeMap<&str, u64> =
            ["users", "changed", "gaining", "losing", "default_only"]
                .map(|total| (total, 0))
                .into();
        let mut counts: BTreeMap<String, [u64; 4]> = BTreeMap::new();
        let mut changes = Vec::new();
        for user in view.known(Kind::User) {
            let Some(version) = view.access(user) else { continue };
            let by = |mapping: Option<&Value>| {
                mapping.map_or(Vec::new(), |mapping| view.reasons(mapping, user))
            };
            let (before, after) = (by(view.mapping), by(new));
            let roles = |reasons: &[Reason]| {
                reasons.iter().map(|reason| reason.role.clone()).collect::<BTreeSet<String>>()
            };
            let (had, has) = (roles(&before), roles(&after));
            let gained: Vec<&String> = has.difference(&had).collect();
            let lost: Vec<&String> = had.difference(&has).collect();
            let default_only = after.iter().all(|reason| reason.rule.is_none());
            let mut count = |total: &'static str, counts: bool| {
                *totals.entry(total).or_default() += u64::from(counts)
            };
            count("users", true);
            count("changed", had != has);
            count("gaining", !gained.is_empty());
            count("losing", !lost.is_empty());
            count("default_only", default_only);
            for role in had.union(&has) {
                let counts = counts.entry(role.clone()).or_default();
                for (count, counted) in counts.iter_mut().zip([
                    gained.contains(&role),
                    lost.contains(&role),
                    had.contains(role),
                    has.contains(role),
                ]) {
                    *count += u64::from(counted);
                }
            }
            if had == has {
                continue;
            }
            let grounds = |reasons: &[Reason], role: &str| -> Value {
                let of_role = reasons.iter().filter(|reason| reason.role == role);
                of_role
                    .map(|reason| {
                        let name = reason.group.as_deref().map(|group| view.group_name(group));
                        json!({ "rule": reason.rule, "group_id": reason.group, "group_name": name,
                            "attribute": reason.attribute })
                    })
                    .collect()
            };
            let with_grounds = |roles: &[&String], reasons: &[Reason]| -> Value {
                roles
                    .iter()
                    .map(|role| json!({ "role": role, "because": grounds(reasons, role) }))
                    .collect()
            };
            changes.push(json!({
                "object": "role_change",
                "user_id": user,
                "email": email_of(version.data),
                "directory_id": version.directory,
                "gained": with_grounds(&gained, &after),
                "lost": with_grounds(&lost, &before),
                "default_only": default_only,
            }));
        }
        let rows: Vec<Value> = counts
            .into_iter()
            .map(|(role, [gaining, losing, before, after])| {
                json!({ "role": role, "gaining": gaining, "losing": losing, "before": before,
                    "after": after })
            })
            .collect();
        let (warnings, groups_without_rule) = view.unmatched(proposed);
        json!({
            "object": "role_mapping_preview",
            "base_version": self.in_force(cut, Setting::mapping).map_or(0,
            |setting| setting.version),
            "totals": totals,
            "roles": rows,
            "warnings": warnings,
            "groups_without_rule": { "count": groups_without_rule.len(),
            "data": groups_without_rule.iter().take(100).collect::<Vec<_>>() },
            "changes": changes,
        })
    }

    /// The warnings that setting a mapping now brings.
    pub fn warnings(&self, mapping: &Value) -> Vec<Value> {
        self.view(Cut::default()).unmatched(mapping).0
    }
}

impl View<'_> {
    /// The warnings about one rule; `written` are the names of the groups that it fits.
    fn warnings_of(&self, number: usize, rule: &Value, written: Vec<String>) -> Vec<Value> {
        let field = format!("mapping.rules[{number}]");
        let has_value = |user: &str, path: &str| {
            let Some(version) = self.access(user) else { return false };
            let only = |key: &str, of: &str| rule[key].as_str().is_none_or(|only| only == of);
            only("directory_id", version.directory)
                && only("organization_id", self.organization_of(version.directory))
                && attribute_values(&self.raw_snapshot(user, version.event), path)
                    .iter()
                    .any(|value| rule["values"].get(value).is_some())
        };
        if let Some(path) = rule["attribute"].as_str() {
            let users = self.known(Kind::User);
            let nobody = !users.into_iter().any(|user| has_value(user, path));
            let message = format!(
                "nobody has this attribute: no user with access has one of the values of `{path}`"
            );
            let warning = json!({ "field": field, "code": "no_user_matches", "message": message });
            return if nobody { vec![warning] } else { Vec::new() };
        }
        if written.is_empty() {
            return vec![json!({ "field": field, "code": "no_group_matches",
                "message": "no group matches" })];
        }
        let mut spellings: BTreeSet<String> = written.into_iter().collect();
        spellings.extend(rule["group"]["name"].as_str().map(str::to_owned));
        let mut names: BTreeMap<String, usize> = BTreeMap::new();
        for spelling in spellings {
            *names.entry(super::composed(&spelling)).or_default() += 1;
        }
        let alike = names.into_iter().filter(|(_, count)| *count > 1).map(|(name, _)| {
            json!({ "field": field, "code": "names_alike",
                "message": format!(
                    "names differ only in Unicode normalization: `{name}` is written in two ways, \
                     which this rule takes for one name"
                ) })
        });
        alike.collect()
    }

    /// The warnings about rules, and the groups that no rule fits, wherever it counts.
    fn unmatched(&self, mapping: &Value) -> (Vec<Value>, Vec<Value>) {
        let alive: Vec<(&str, &str)> = self
            .known(Kind::Group)
            .into_iter()
            .filter_map(|group| Some((group, self.alive(Kind::Group, group)?.directory)))
            .collect();
        let fits = |rule: &Value, group: &str, directory: &str| {
            fits_group(rule, group, &self.group_name(group))
                && rule["directory_id"].as_str().is_none_or(|only| only == directory)
                && rule["organization_id"]
                    .as_str()
                    .is_none_or(|only| only == self.organization_of(directory))
        };
        let warnings = rules_of(mapping).enumerate().flat_map(|(number, rule)| {
            let fitting = alive.iter().filter(|(group, directory)| fits(rule, group, directory));
            let written = fitting.map(|(group, _)| self.group_name(group)).collect();
            self.warnings_of(number, rule, written)
        });
        let without = alive
            .iter()
            .filter(|(group, _)| {
                !rules_of(mapping).any(|rule| fits_group(rule, group, &self.group_name(group)))
            })
            .map(|(group, directory)| {
                json!({ "id": group, "name": self.group_name(group),
                    "directory_id": directory })
            });
        (warnings.collect(), without.collect())
    }
}

/// A value that some user has at this path, for a rule's `values`.
pub fn values_of(world: &World, path: &str) -> Vec<String> {
    let view = world.view(Cut::default());
    let of_user = |user: &str| {
        let versions = view.versions_of(Kind::User, user);
        versions
            .iter()
            .flat_map(|event| attribute_values(&view.raw_snapshot(user, event), path))
            .collect::<Vec<String>>()
    };
    view.known(Kind::User)
        .into_iter()
        .flat_map(of_user)
        .collect::<BTreeSet<String>>()
        .into_iter()
        .collect()
}

/// Every name that a group ever had.
pub fn group_names(world: &World) -> Vec<String> {
    let view = world.view(Cut::default());
    let mut names = BTreeSet::new();
    for event in &view.events {
        match &event.fact {
            Fact::Entity { kind: Kind::Group, data, .. } => {
                names.extend(filled(data, "name").map(str::to_owned))
            }
            Fact::Membership { group, .. } => {
                names.extend(filled(&group.data, "name").map(str::to_owned))
            }
            _ => {}
        }
    }
    names.into_iter().collect()
}

/// Milliseconds of a field of an answer.
pub fn moment_in(answer: &Value, key: &str) -> i64 {
    moment(answer.as_object().expect("an object"), key).expect("a time")
}
