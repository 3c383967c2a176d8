//! A second implementation of the rules of semantics.md, as plain as possible.
//!
//! Nothing here is indexed or kept up to date: every answer is worked out again from the list of
//! events, so that the server and this model can only agree by both being right. It shares no code
//! with the server.

#![allow(dead_code, unreachable_pub, clippy::expect_used, clippy::indexing_slicing)]

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

pub mod audit;
pub mod links;
pub mod observations;
pub mod roles;
pub mod scim;

/// Everything delivered so far.
#[derive(Default)]
pub struct World {
    /// By seq: the record of seq 1 comes first.
    records: Vec<Record>,
    /// The events that have an effect, in the order of rule 4.
    events: Vec<Event>,
    /// The events that `GET /events` may list, by seq; operators' acts are not among them.
    told: Vec<Told>,
    /// The settings of operators, by seq.
    settings: Vec<roles::Setting>,
    /// What operators did about links, by seq.
    link_acts: Vec<links::LinkAct>,
    /// The comparisons with the source that ended, by seq.
    comparisons: Vec<observations::Comparison>,
}

/// An event that counts and is usable, whether or not it has an effect.
struct Told {
    seq: u64,
    at: i64,
    id: String,
    event: String,
    body: Object,
}

/// The answer to a webhook, or the outcome of an event that was pulled or imported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    pub seq: u64,
    pub event_id: Option<String>,
    pub duplicate: bool,
    pub conflict: bool,
    /// True for a duplicate of another content, of which one was pulled or imported.
    pub differs: bool,
}

/// The part of the past that a question sees; both bounds are included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cut {
    pub as_of_ms: Option<i64>,
    pub known_at: Option<u64>,
}

/// All ids that events mention, from which questions are drawn. Each list is sorted, without
/// repetitions.
#[derive(Debug, Clone, Default)]
pub struct Ids {
    pub users: Vec<String>,
    pub groups: Vec<String>,
    pub directories: Vec<String>,
    pub organizations: Vec<String>,
    pub emails: Vec<String>,
    pub idp_ids: Vec<String>,
    pub domains: Vec<String>,
    pub directory_names: Vec<String>,
    /// The ids of all events in the log, also of those that cannot be listed.
    pub events: Vec<String>,
}

struct Record {
    body: Vec<u8>,
    event_id: Option<String>,
    event: Option<String>,
    standing: Standing,
    /// The reasons for which the quarantine lists it.
    listed: Vec<&'static str>,
    /// True if it was pulled or imported.
    is_copy: bool,
    /// `event`, `data` and `created_at`: what two deliveries of one event share (rule 6).
    content: [Option<Value>; 3],
}

#[derive(PartialEq)]
enum Standing {
    /// The first content under its event id.
    First,
    /// Another content under an event id already taken.
    Conflict,
    /// A body that rule 7 cannot identify.
    Unusable,
}

struct Event {
    seq: u64,
    at: i64,
    closing: bool,
    updated_at: Option<i64>,
    id: String,
    /// Of an observation: when the source was asked.
    asked_ms: Option<i64>,
    fact: Fact,
}

type Object = Map<String, Value>;

enum Fact {
    Directory {
        id: String,
        change: DirectoryChange,
        data: Object,
    },
    Entity {
        kind: Kind,
        id: String,
        directory: Option<String>,
        tombstone: bool,
        data: Object,
    },
    Membership {
        added: bool,
        /// It carries the snapshots of both ends, as all do but observations.
        described: bool,
        directory: String,
        organization: Option<String>,
        group: End,
        user: End,
    },
}

#[derive(Clone, Copy, PartialEq)]
enum DirectoryChange {
    Activated,
    Deactivated,
    Deleted,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    User,
    Group,
}

/// One end of a membership with the snapshot the event carries of it.
struct End {
    id: String,
    directory: Option<String>,
    data: Object,
}

impl Event {
    /// Rule 4.
    fn order(&self) -> (i64, bool, Option<i64>, &[u8]) {
        (self.at, self.closing, self.updated_at, self.id.as_bytes())
    }

    fn is_later_than(&self, other: &Event) -> bool {
        self.order() > other.order()
    }

    /// Directories that this event names (rule 12); a directory event names its own.
    fn named_directories(&self) -> Vec<&str> {
        match &self.fact {
            Fact::Directory { id, .. } => vec![id],
            Fact::Entity { directory, .. } => directory.iter().map(String::as_str).collect(),
            Fact::Membership { directory, group, user, .. } => {
                let mut named = vec![directory.as_str()];
                named.extend(group.directory.as_deref());
                named.extend(user.directory.as_deref());
                named
            }
        }
    }

    /// Every organization that it carries for anything.
    fn named_organizations(&self) -> Vec<&str> {
        let mut said_by = Vec::new();
        let mut named = Vec::new();
        match &self.fact {
            Fact::Directory { data, .. } | Fact::Entity { data, .. } => said_by.push(data),
            Fact::Membership { organization, group, user, .. } => {
                named.extend(organization.as_deref());
                said_by.extend([&group.data, &user.data]);
            }
        }
        named.extend(said_by.into_iter().filter_map(|data| filled(data, "organization_id")));
        named
    }

    fn names(&self, directory: &str) -> bool {
        self.named_directories().contains(&directory)
    }

    /// The organization it carries for a directory it names (decision D7).
    fn organization_carried_for(&self, wanted: &str) -> Option<&str> {
        match &self.fact {
            Fact::Directory { id, data, .. } => {
                (id == wanted).then(|| filled(data, "organization_id"))?
            }
            Fact::Entity { directory, data, .. } => {
                (directory.as_deref() == Some(wanted)).then(|| filled(data, "organization_id"))?
            }
            Fact::Membership { directory, organization, group, user, .. } => {
                let own = if directory == wanted { organization.as_deref() } else { None };
                let of = |end: &'_ End| end.directory.as_ref().unwrap_or(directory) == wanted;
                let of_group =
                    if of(group) { filled(&group.data, "organization_id") } else { None };
                let of_user = if of(user) { filled(&user.data, "organization_id") } else { None };
                own.or(of_group).or(of_user)
            }
        }
    }

    /// Returns whether it says anything of this user or group, itself or by a snapshot.
    fn speaks_of(&self, wanted: Kind, wanted_id: &str) -> bool {
        match &self.fact {
            Fact::Directory { .. } => false,
            Fact::Entity { kind, id, .. } => *kind == wanted && id == wanted_id,
            Fact::Membership { described: false, .. } => false,
            Fact::Membership { group, user, .. } => match wanted {
                Kind::User => user.id == wanted_id,
                Kind::Group => group.id == wanted_id,
            },
        }
    }
}

impl World {
    pub fn new() -> World {
        World::default()
    }

    /// Takes a verified body, signed at `t_ms` and recorded at that moment. Seqs are 1, 2, 3 …
    pub fn deliver(&mut self, body: &[u8], t_ms: i64) -> Receipt {
        self.deliver_recorded(body, t_ms, t_ms)
    }

    /// Takes a verified body, signed at `t_ms` and recorded at `recorded_ms`.
    pub fn deliver_recorded(&mut self, body: &[u8], t_ms: i64, recorded_ms: i64) -> Receipt {
        self.take(body, Some(t_ms), recorded_ms)
    }

    /// Takes a body that was pulled or imported, and recorded at `recorded_ms`.
    pub fn deliver_copy(&mut self, body: &[u8], recorded_ms: i64) -> Receipt {
        self.take(body, None, recorded_ms)
    }

    /// Takes a body; `signed_ms` is the time of a webhook's signature, which a copy does not have.
    fn take(&mut self, body: &[u8], signed_ms: Option<i64>, recorded_ms: i64) -> Receipt {
        let (is_copy, t_ms) = (signed_ms.is_none(), signed_ms.unwrap_or(recorded_ms));
        let (shallow, is_too_deep) = shallow(&readable(body));
        let parsed = match serde_json::from_slice(&shallow) {
            Ok(Value::Object(object)) => object,
            _ => Object::new(),
        };
        let event_id = text(&parsed, "id").filter(|id| is_usable_event_id(id)).map(str::to_owned);
        let event = text(&parsed, "event").filter(|event| !event.is_empty()).map(str::to_owned);
        let content = ["event", "data", "created_at"].map(|key| parsed.get(key).cloned());
        let mut record = Record {
            body: body.to_vec(),
            event_id,
            event,
            standing: Standing::First,
            listed: Vec::new(),
            is_copy,
            content,
        };

        let (Some(event_id), Some(event)) = (record.event_id.clone(), record.event.clone()) else {
            if let Some(seq) =
                self.find(|known| known.standing == Standing::Unusable && known.body == body)
            {
                return Receipt {
                    seq,
                    event_id: None,
                    duplicate: true,
                    conflict: false,
                    differs: false,
                };
            }
            // It does not occupy its id, so it is not shown to have one.
            record.event_id = None;
            record.standing = Standing::Unusable;
            record.listed.push("not_an_event");
            return Receipt {
                seq: self.append(record),
                event_id: None,
                duplicate: false,
                conflict: false,
                differs: false,
            };
        };

        let has_this_id = |known: &Record| known.event_id.as_ref() == Some(&event_id);
        if let Some(first) =
            self.find(|known| known.standing == Standing::First && has_this_id(known))
        {
            let known = &self.records[first as usize - 1];
            let is_same = known.body == body || known.content == record.content;
            if is_same || known.is_copy || is_copy {
                return Receipt {
                    seq: first,
                    event_id: Some(event_id),
                    duplicate: true,
                    conflict: false,
                    differs: !is_same,
                };
            }
            let is_this = |known: &Record| {
                known.standing == Standing::Conflict && has_this_id(known) && known.body == body
            };
            if let Some(seq) = self.find(is_this) {
                return Receipt {
                    seq,
                    event_id: Some(event_id),
                    duplicate: true,
                    conflict: true,
                    differs: false,
                };
            }
            record.standing = Standing::Conflict;
            record.listed.push("conflict");
            return Receipt {
                seq: self.append(record),
                event_id: Some(event_id),
                duplicate: false,
                conflict: true,
                differs: false,
            };
        }

        let seq = self.records.len() as u64 + 1;
        let understood = understand(&event, parsed.get("data"));
        match if is_too_deep { Err("too_deep") } else { understood } {
            Ok(fact) => {
                let (stated, closing, updated_at) =
                    place(&event, &event_id, &parsed, fact.as_ref(), t_ms);
                // Rule 2: a date in the future must not outlive what follows.
                let is_ahead = stated > recorded_ms + 3 * 60_000;
                let at = if is_ahead { recorded_ms } else { stated };
                if is_ahead {
                    record.listed.push("clock_ahead");
                }
                if let Some(fact) = fact {
                    self.events.push(Event {
                        seq,
                        at,
                        closing,
                        updated_at,
                        id: event_id.clone(),
                        asked_ms: None,
                        fact,
                    });
                    self.events.sort_by(|a, b| a.order().cmp(&b.order()));
                    if self.is_overtaken(seq) {
                        record.listed.push("overtaken");
                    }
                }
                self.told.push(Told { seq, at, id: event_id.clone(), event, body: parsed });
            }
            Err(reason) => record.listed.push(reason),
        }
        Receipt {
            seq: self.append(record),
            event_id: Some(event_id),
            duplicate: false,
            conflict: false,
            differs: false,
        }
    }

    /// Rule 2: whether an event that should end access, the newest known, ends none because of what
    /// is dated later.
    fn is_overtaken(&self, seq: u64) -> bool {
        let (now, before) =
            (self.view(Cut::default()), self.view(Cut { as_of_ms: None, known_at: Some(seq - 1) }));
        let newest = self.events.iter().find(|event| event.seq == seq).expect("it was told");
        match &newest.fact {
            Fact::Entity { kind: Kind::User, id, tombstone, data, .. } => {
                let user = now.there(Kind::User, id);
                let is_active = user.as_ref().is_some_and(|user| state_of(user.data) == "active");
                if *tombstone { user.is_some() } else { state_of(data) == "inactive" && is_active }
            }
            Fact::Directory { id, change: DirectoryChange::Deleted, .. } => {
                let lost =
                    |user: &&str| before.access(user).is_some() && now.access(user).is_none();
                !now.is_deleted(id) && !now.known(Kind::User).iter().any(lost)
            }
            _ => false,
        }
    }

    /// Whether an event states a time by which its record is judged (rule 2).
    pub fn is_dated_ahead(body: &[u8], t_ms: i64) -> bool {
        let Ok(Value::Object(parsed)) = serde_json::from_slice(body) else { return false };
        let (id, event) = (text(&parsed, "id"), text(&parsed, "event"));
        let (Some(id), Some(event)) = (id, event) else { return false };
        let Ok(fact) = understand(event, parsed.get("data")) else { return false };
        place(event, id, &parsed, fact.as_ref(), t_ms).0 > t_ms + 2 * 60_000 + 59_000
    }

    fn find(&self, wanted: impl Fn(&Record) -> bool) -> Option<u64> {
        self.records.iter().position(wanted).map(|index| index as u64 + 1)
    }

    fn append(&mut self, record: Record) -> u64 {
        self.records.push(record);
        self.head()
    }

    pub fn head(&self) -> u64 {
        self.records.len() as u64
    }

    /// The whole expected answer to GET `path` with these (decoded) query pairs at this cut: status
    /// and body. The path is decoded too: all that follows the second slash is the id. What the
    /// texts leave open (the body for a bad `limit`, say) comes back as 422 with null.
    pub fn get(&self, path: &str, query: &[(String, String)], cut: Cut) -> (u16, Value) {
        self.get_seen(path, query, cut, None)
    }

    /// The same for a key that is bound to some organizations.
    pub fn get_seen(
        &self,
        path: &str,
        query: &[(String, String)],
        cut: Cut,
        own: Option<&[String]>,
    ) -> (u16, Value) {
        let view = View { own, ..self.view(cut) };
        let path = path.strip_prefix('/').unwrap_or(path);
        match path.split_once('/') {
            None => match path {
                "directories" => view.list_directories(query),
                "directory_users" => view.list_users(query),
                "directory_groups" => view.list_groups(query),
                "events" => self.list_events(query, cut, own),
                _ => (404, Value::Null),
            },
            Some(("directories", id)) => found(view.directory(id), "Directory", id),
            Some(("directory_users", id)) => found(view.user_with_groups(id), "Directory User", id),
            Some(("directory_groups", id)) => {
                found(view.group_as_asked(id, query), "Directory Group", id)
            }
            Some(_) => (404, Value::Null),
        }
    }

    fn view(&self, cut: Cut) -> View<'_> {
        let sees = |event: &&Event| {
            cut.as_of_ms.is_none_or(|as_of| event.at <= as_of)
                && cut.known_at.is_none_or(|known_at| event.seq <= known_at)
        };
        let inactive_users = self.setting_in_force(cut, roles::Setting::policy);
        let mapping = self.setting_in_force(cut, roles::Setting::mapping);
        View {
            world: self,
            known_at: cut.known_at,
            events: self.events.iter().filter(sees).collect(),
            inactive_users_end: inactive_users == Some("delete"),
            mapping,
            own: None,
        }
    }

    /// Returns the items of the quarantine at the head, by seq: (seq, event_id, event, reason).
    pub fn quarantine(&self) -> Vec<(u64, Option<String>, Option<String>, String)> {
        let mut entries = Vec::new();
        for (index, record) in self.records.iter().enumerate() {
            for reason in &record.listed {
                entries.push((
                    index as u64 + 1,
                    record.event_id.clone(),
                    record.event.clone(),
                    (*reason).to_owned(),
                ));
            }
        }
        entries
    }

    pub fn ids(&self) -> Ids {
        let mut sets: [BTreeSet<String>; 8] = Default::default();
        let [users, groups, directories, organizations, emails, idp_ids, domains, directory_names] =
            &mut sets;
        for event in &self.events {
            for named in event.named_directories() {
                directories.insert(named.to_owned());
            }
            let spoken_of: Vec<(Option<Kind>, &str, &Object)> = match &event.fact {
                Fact::Directory { id, data, .. } => vec![(None, id, data)],
                Fact::Entity { kind, id, data, .. } => vec![(Some(*kind), id, data)],
                Fact::Membership { organization, group, user, .. } => {
                    organizations.extend(organization.clone());
                    vec![
                        (Some(Kind::Group), &group.id, &group.data),
                        (Some(Kind::User), &user.id, &user.data),
                    ]
                }
            };
            for (kind, id, data) in spoken_of {
                organizations.extend(filled(data, "organization_id").map(str::to_owned));
                match kind {
                    None => {
                        domains.extend(domain_of(data).map(str::to_owned));
                        directory_names.extend(filled(data, "name").map(str::to_owned));
                    }
                    Some(Kind::Group) => {
                        groups.insert(id.to_owned());
                    }
                    Some(Kind::User) => {
                        users.insert(id.to_owned());
                        emails.extend(email_of(data).as_str().map(str::to_owned));
                        idp_ids.extend(filled(data, "idp_id").map(str::to_owned));
                    }
                }
            }
        }
        let [users, groups, directories, organizations, emails, idp_ids, domains, directory_names] =
            sets.map(|set| set.into_iter().collect());
        let is_first = |record: &&Record| record.standing == Standing::First;
        let events = self
            .records
            .iter()
            .filter(is_first)
            .filter_map(|record| record.event_id.clone())
            .collect();
        Ids {
            users,
            groups,
            directories,
            organizations,
            emails,
            idp_ids,
            domains,
            directory_names,
            events,
        }
    }

    /// The moments at which events with an effect occurred, ascending, each once.
    pub fn moments(&self) -> Vec<i64> {
        let moments: BTreeSet<i64> = self.events.iter().map(|event| event.at).collect();
        moments.into_iter().collect()
    }
}

// --- From a body to an event: rules 3, 6, 7, 8, 9 ---

fn is_usable_event_id(id: &str) -> bool {
    let is_own = ["op_", "obs_", "run_"].iter().any(|prefix| id.starts_with(prefix));
    (1..=255).contains(&id.len()) && !id.chars().any(char::is_control) && !is_own
}

/// Returns what an event says; `None` if it has no effect; the reason if it is quarantined.
fn understand(event: &str, data: Option<&Value>) -> Result<Option<Fact>, &'static str> {
    if event.starts_with("rollcall.") {
        return Err("reserved_type");
    }
    if event.starts_with("dsync.token.") || !event.starts_with("dsync.") {
        return Ok(None);
    }
    let read: fn(&str, &Object) -> Result<Fact, &'static str> = match event {
        "dsync.activated" | "dsync.deactivated" | "dsync.deleted" => read_directory,
        "dsync.user.created" | "dsync.user.updated" | "dsync.user.deleted" => read_entity,
        "dsync.group.created" | "dsync.group.updated" | "dsync.group.deleted" => read_entity,
        "dsync.group.user_added" | "dsync.group.user_removed" => read_membership,
        _ => return Err("unknown_type"),
    };
    let Some(Value::Object(data)) = data else { return Err("missing_field") };
    read(event, data).map(Some)
}

fn read_directory(event: &str, data: &Object) -> Result<Fact, &'static str> {
    let id = entity_id(data, "id").ok_or("missing_field")?;
    if is_another_kind(data, "directory") || !may_be_directory_id(&id) {
        return Err("kind_mismatch");
    }
    let change = match event {
        "dsync.activated" => DirectoryChange::Activated,
        "dsync.deactivated" => DirectoryChange::Deactivated,
        _ => DirectoryChange::Deleted,
    };
    Ok(Fact::Directory { id, change, data: data.clone() })
}

fn read_entity(event: &str, data: &Object) -> Result<Fact, &'static str> {
    let kind = if event.starts_with("dsync.user.") { Kind::User } else { Kind::Group };
    let tombstone = event.ends_with(".deleted");
    let id = entity_id(data, "id").ok_or("missing_field")?;
    let directory = entity_id(data, "directory_id");
    if directory.is_none() && !tombstone {
        return Err("missing_field");
    }
    if !fits(kind, &id, data) || !directory.as_deref().is_none_or(may_be_directory_id) {
        return Err("kind_mismatch");
    }
    Ok(Fact::Entity { kind, id, directory, tombstone, data: data.clone() })
}

fn read_membership(event: &str, data: &Object) -> Result<Fact, &'static str> {
    let end = |key| match data.get(key) {
        Some(Value::Object(snapshot)) => Ok(End {
            id: entity_id(snapshot, "id").ok_or("missing_field")?,
            directory: entity_id(snapshot, "directory_id"),
            data: snapshot.clone(),
        }),
        _ => Err("missing_field"),
    };
    let (group, user) = (end("group")?, end("user")?);
    let named = [entity_id(data, "directory_id"), group.directory.clone(), user.directory.clone()];
    let directory = named.iter().flatten().next().cloned().ok_or("missing_field")?;
    if !fits(Kind::Group, &group.id, &group.data)
        || !fits(Kind::User, &user.id, &user.data)
        || !named.iter().flatten().all(|id| may_be_directory_id(id))
    {
        return Err("kind_mismatch");
    }
    let organization = filled(data, "organization_id").map(str::to_owned);
    Ok(Fact::Membership {
        added: event.ends_with("user_added"),
        described: true,
        directory,
        organization,
        group,
        user,
    })
}

/// Returns an id that is valid by rule 8; anything else counts as absent.
fn entity_id(data: &Object, key: &str) -> Option<String> {
    text(data, key).filter(|id| (1..=255).contains(&id.len())).map(str::to_owned)
}

fn fits(kind: Kind, id: &str, data: &Object) -> bool {
    match kind {
        Kind::User => {
            !is_another_kind(data, "directory_user") && !id.starts_with("directory_group_")
        }
        Kind::Group => {
            !is_another_kind(data, "directory_group") && !id.starts_with("directory_user_")
        }
    }
}

fn is_another_kind(data: &Object, kind: &str) -> bool {
    text(data, "object").is_some_and(|object| object != kind)
}

fn may_be_directory_id(id: &str) -> bool {
    !id.starts_with("directory_user_") && !id.starts_with("directory_group_")
}

/// Returns when an event occurred, and what else its place in the order depends on (rules 3, 4).
fn place(
    event: &str,
    id: &str,
    parsed: &Object,
    fact: Option<&Fact>,
    t_ms: i64,
) -> (i64, bool, Option<i64>) {
    let closing = matches!(
        event,
        "dsync.deleted"
            | "dsync.deactivated"
            | "dsync.user.deleted"
            | "dsync.group.deleted"
            | "dsync.group.user_removed"
    );
    let updated_at = match fact {
        Some(Fact::Membership { .. }) => None,
        _ => parsed
            .get("data")
            .and_then(Value::as_object)
            .and_then(|data| moment(data, "updated_at")),
    };
    let at = moment(parsed, "created_at")
        .or_else(|| ulid_ms(id))
        .or(if closing { None } else { updated_at })
        .unwrap_or(t_ms);
    (at, closing, updated_at)
}

/// Returns the time of the ULID after the last `_`, if there is one and its time is from 2015 to
/// 2099.
pub fn ulid_ms(event_id: &str) -> Option<i64> {
    let ulid = event_id.rsplit('_').next()?.as_bytes();
    if ulid.len() != 26 {
        return None;
    }
    let mut ms: i64 = 0;
    for (index, byte) in ulid.iter().enumerate() {
        let digit = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ"
            .iter()
            .position(|known| *known == byte.to_ascii_uppercase())?;
        if index == 0 && digit > 7 {
            return None;
        }
        if index < 10 {
            ms = ms * 32 + digit as i64;
        }
    }
    let from = read_time("2015-01-01T00:00:00Z")?;
    let until = read_time("2100-01-01T00:00:00Z")?;
    (from..until).contains(&ms).then_some(ms)
}

// --- What is true at a cut: rules 10 to 19 ---

/// The events that a question sees, in the order of rule 4.
struct View<'a> {
    world: &'a World,
    known_at: Option<u64>,
    events: Vec<&'a Event>,
    /// Rule 18: whether the policy in force reads inactive users as deleted.
    inactive_users_end: bool,
    /// The mapping in force (rule 24).
    mapping: Option<&'a Value>,
    /// The organizations whose things the asking key sees; `None` if it sees those of all.
    own: Option<&'a [String]>,
}

enum Directory<'a> {
    Unknown,
    Deleted,
    /// Named by others, with no event of its own.
    Stub,
    /// With its newest event.
    Live(&'a Event),
}

/// The version of a user or group that counts: the newest, explicit or by a snapshot.
struct Version<'a> {
    event: &'a Event,
    directory: &'a str,
    data: &'a Object,
}

impl<'a> View<'a> {
    fn latest(&self, wanted: impl Fn(&Fact) -> bool) -> Option<&'a Event> {
        self.events.iter().rev().find(|event| wanted(&event.fact)).copied()
    }

    fn latest_deletion(&self, directory: &str) -> Option<&'a Event> {
        self.latest(|fact| {
            matches!(fact,
            Fact::Directory { id, change: DirectoryChange::Deleted, .. } if id == directory)
        })
    }

    fn standing(&self, directory: &str) -> Directory<'a> {
        let newest =
            self.latest(|fact| matches!(fact, Fact::Directory { id, .. } if id == directory));
        let Some(newest) = newest else {
            let named = self.events.iter().any(|event| event.names(directory));
            return if named { Directory::Stub } else { Directory::Unknown };
        };
        let Some(deletion) = self.latest_deletion(directory) else {
            return Directory::Live(newest);
        };
        let brings_back = |event: &&&Event| match &event.fact {
            Fact::Directory { id, change, .. } if id == directory => {
                // What the source showed is there, in use or not.
                *change == DirectoryChange::Activated
                    || *change == DirectoryChange::Deactivated && event.asked_ms.is_some()
            }
            _ => false,
        };
        let activation = self.events.iter().rev().find(brings_back);
        match activation {
            Some(activation) if activation.is_later_than(deletion) => Directory::Live(newest),
            _ => Directory::Deleted,
        }
    }

    fn is_deleted(&self, directory: &str) -> bool {
        matches!(self.standing(directory), Directory::Deleted)
    }

    /// Rule 12; empty if nothing carries one.
    fn organization_of(&self, directory: &str) -> &'a str {
        let is_own = |event: &&&Event| matches!(event.fact, Fact::Directory { .. });
        let by_itself = self
            .events
            .iter()
            .rev()
            .filter(is_own)
            .find_map(|event| event.organization_carried_for(directory));
        let by_others =
            || self.events.iter().find_map(|event| event.organization_carried_for(directory));
        by_itself.or_else(by_others).unwrap_or("")
    }

    /// The newest version of a user or group, whether or not its directory still exists; none after
    /// a tombstone.
    fn newest_version(&self, wanted: Kind, wanted_id: &str) -> Option<Version<'a>> {
        let explicit = self.latest(|fact| {
            matches!(fact,
            Fact::Entity { kind, id, .. } if *kind == wanted && id == wanted_id)
        });
        if let Some(event) = explicit {
            let Fact::Entity { directory, tombstone, data, .. } = &event.fact else {
                unreachable!()
            };
            if *tombstone {
                return None;
            }
            return Some(Version { event, directory: directory.as_deref()?, data });
        }
        let event = self.events.iter().rev().find(|event| event.speaks_of(wanted, wanted_id))?;
        let Fact::Membership { directory, group, user, .. } = &event.fact else { unreachable!() };
        let end = if wanted == Kind::User { user } else { group };
        Some(Version {
            event,
            directory: end.directory.as_ref().unwrap_or(directory),
            data: &end.data,
        })
    }

    /// Rules 15 and 18.
    fn alive(&self, kind: Kind, id: &str) -> Option<Version<'a>> {
        let version = self.there(kind, id)?;
        let ends = self.inactive_users_end && state_of(version.data) != "active";
        (kind != Kind::User || !ends).then_some(version)
    }

    /// Rule 15, without the policy of rule 18.
    fn there(&self, kind: Kind, id: &str) -> Option<Version<'a>> {
        let version = self.newest_version(kind, id)?;
        let outlives = |deletion| version.event.is_later_than(deletion);
        let stands = !self.is_deleted(version.directory)
            && self.latest_deletion(version.directory).is_none_or(outlives);
        stands.then_some(version)
    }

    /// Rule 19, but for the two ends.
    fn is_granted(&self, group_id: &str, user_id: &str) -> bool {
        let latest = self.latest(|fact| {
            matches!(fact,
            Fact::Membership { group, user, .. } if group.id == group_id && user.id == user_id)
        });
        let Some(latest) = latest else { return false };
        let Fact::Membership { added: true, directory, .. } = &latest.fact else { return false };
        let ends_it = |event: &&&Event| match &event.fact {
            Fact::Directory { id, change, .. } => {
                *change == DirectoryChange::Deleted && id == directory
            }
            Fact::Entity { kind: Kind::User, id, tombstone, .. } => *tombstone && id == user_id,
            Fact::Entity { kind: Kind::Group, id, tombstone, .. } => *tombstone && id == group_id,
            Fact::Membership { .. } => false,
        };
        self.events.iter().filter(ends_it).all(|end| latest.is_later_than(end))
    }

    /// Rule 19.
    fn holds(&self, group_id: &str, user_id: &str) -> bool {
        self.is_granted(group_id, user_id)
            && self.alive(Kind::Group, group_id).is_some()
            && self.alive(Kind::User, user_id).is_some()
    }

    /// The directory that a user or group is in, or was in when it ended: a deletion moves nothing.
    fn home(&self, wanted: Kind, wanted_id: &str) -> Option<String> {
        let own = |event: &&&Event| {
            matches!(&event.fact,
            Fact::Entity { kind, id, .. } if *kind == wanted && id == wanted_id)
        };
        let explicit: Vec<&&Event> = self.events.iter().filter(own).collect();
        let said = |with_tombstones: bool| {
            explicit.iter().rev().find_map(|event| match &event.fact {
                Fact::Entity { tombstone, directory, .. } if with_tombstones || !tombstone => {
                    directory.clone()
                }
                _ => None,
            })
        };
        let first = explicit.iter().map(|event| event.at).min();
        let snapshot = || {
            self.events.iter().rev().find_map(|event| match &event.fact {
                Fact::Membership { directory, group, user, .. }
                    if event.speaks_of(wanted, wanted_id)
                        && first.is_none_or(|first| event.at < first) =>
                {
                    let end = if wanted == Kind::User { user } else { group };
                    Some(end.directory.clone().unwrap_or_else(|| directory.clone()))
                }
                _ => None,
            })
        };
        said(false).or_else(snapshot).or_else(|| said(true))
    }

    fn known(&self, wanted: Kind) -> BTreeSet<&'a str> {
        let mut ids = BTreeSet::new();
        for event in &self.events {
            match &event.fact {
                Fact::Entity { kind, id, .. } if *kind == wanted => ids.insert(id.as_str()),
                Fact::Membership { described: false, .. } => false,
                Fact::Membership { user, .. } if wanted == Kind::User => ids.insert(&user.id),
                Fact::Membership { group, .. } if wanted == Kind::Group => ids.insert(&group.id),
                _ => false,
            };
        }
        ids
    }

    fn groups_of(&self, user: &str) -> Vec<&'a str> {
        self.known(Kind::Group).into_iter().filter(|group| self.holds(group, user)).collect()
    }

    fn members_of(&self, group: &str) -> Vec<&'a str> {
        self.known(Kind::User).into_iter().filter(|user| self.holds(group, user)).collect()
    }
}

// --- The shapes of answers ---

impl View<'_> {
    /// A thing is seen if its directory's organization is.
    fn sees(&self, directory: &str) -> bool {
        let organization = self.organization_of(directory);
        self.own.is_none_or(|own| own.iter().any(|id| !id.is_empty() && id == organization))
    }

    fn directory(&self, id: &str) -> Option<Value> {
        if !self.sees(id) {
            return None;
        }
        let naming = self.events.iter().filter(|event| event.names(id));
        let first_named = rfc3339(naming.map(|event| event.at).min()?);
        let mut shape = json!({
            "object": "directory", "id": id, "organization_id": self.organization_of(id),
            "external_key": "",
            "type": "generic scim v2.0", "state": "linked", "name": "", "created_at": first_named,
            "updated_at": first_named,
        });
        let newest = match self.standing(id) {
            Directory::Unknown | Directory::Deleted => return None,
            Directory::Stub => return Some(shape),
            Directory::Live(newest) => newest,
        };
        let Fact::Directory { change, data, .. } = &newest.fact else { unreachable!() };
        shape["external_key"] = text_or_empty(data, "external_key");
        shape["name"] = text_or_empty(data, "name");
        if let Some(known) = text(data, "type").filter(|known| DIRECTORY_TYPES.contains(known)) {
            shape["type"] = json!(known);
        }
        if *change == DirectoryChange::Deactivated {
            shape["state"] = json!("unlinked");
        }
        if let Some(domain) = domain_of(data) {
            shape["domain"] = json!(domain);
        }
        if let Some(ms) = moment(data, "created_at") {
            shape["created_at"] = json!(rfc3339(ms));
        }
        shape["updated_at"] = json!(rfc3339(moment(data, "updated_at").unwrap_or(newest.at)));
        Some(shape)
    }

    fn first_seen(&self, kind: Kind, id: &str, otherwise: i64) -> i64 {
        self.events
            .iter()
            .filter(|event| event.speaks_of(kind, id))
            .map(|event| event.at)
            .min()
            .unwrap_or(otherwise)
    }

    /// A snapshot of a user or group in the API's shape (rule 14): in `directory`, said by an event
    /// of `at`.
    fn completed(&self, kind: Kind, id: &str, directory: &str, data: &Object, at: i64) -> Value {
        let created_at =
            moment(data, "created_at").unwrap_or_else(|| self.first_seen(kind, id, at));
        let mut shape = json!({
            "id": id,
            "directory_id": directory,
            "organization_id": filled(data,
            "organization_id").unwrap_or_else(|| self.organization_of(directory)),
            "idp_id": text_or_empty(data, "idp_id"),
            "raw_attributes": object_or_empty(data, "raw_attributes"),
            "created_at": rfc3339(created_at),
            "updated_at": rfc3339(moment(data, "updated_at").unwrap_or(at)),
        });
        if kind == Kind::Group {
            shape["object"] = json!("directory_group");
            shape["name"] = text_or_empty(data, "name");
            return shape;
        }
        shape["object"] = json!("directory_user");
        shape["email"] = email_of(data);
        for key in ["first_name", "last_name", "name", "job_title", "username"] {
            shape[key] = text(data, key).map_or(Value::Null, |text| json!(text));
        }
        shape["emails"] = json!(emails_of(data));
        shape["state"] = json!(state_of(data));
        shape["custom_attributes"] = object_or_empty(data, "custom_attributes");
        if let Some(role) = data.get("role").and_then(slug_only) {
            shape["role"] = role;
        }
        if let Some(Value::Array(roles)) = data.get("roles") {
            shape["roles"] = roles.iter().filter_map(slug_only).collect();
        }
        shape
    }

    fn entity(&self, kind: Kind, id: &str) -> Option<Value> {
        let version = self.alive(kind, id).filter(|version| self.sees(version.directory))?;
        let mut shape = self.completed(kind, id, version.directory, version.data, version.event.at);
        // What the source says of an organization that is not seen is not shown.
        if self.own.is_some_and(|own| own.iter().all(|id| shape["organization_id"] != *id)) {
            shape["organization_id"] = json!(self.organization_of(version.directory));
        }
        Some(shape)
    }

    fn user(&self, id: &str) -> Option<Value> {
        let mut shape = self.entity(Kind::User, id)?;
        self.replace_roles(id, &mut shape);
        Some(shape)
    }

    fn user_with_groups(&self, id: &str) -> Option<Value> {
        let mut shape = self.user(id)?;
        let groups: Vec<Value> =
            self.groups_of(id).into_iter().filter_map(|group| self.group(group)).collect();
        nest(&mut shape, "groups", groups, &format!("/directory_groups?user={}", in_query(id)));
        Some(shape)
    }

    fn group(&self, id: &str) -> Option<Value> {
        self.entity(Kind::Group, id)
    }

    fn group_as_asked(&self, id: &str, query: &[(String, String)]) -> Option<Value> {
        let mut shape = self.group(id)?;
        if asked(query, &["members"]).any(|value| value == "true") {
            let members: Vec<Value> =
                self.members_of(id).into_iter().filter_map(|user| self.user(user)).collect();
            nest(
                &mut shape,
                "members",
                members,
                &format!("/directory_users?group={}", in_query(id)),
            );
        }
        Some(shape)
    }

    // --- Lists ---

    fn list_directories(&self, query: &[(String, String)]) -> (u16, Value) {
        let named: BTreeSet<&str> =
            self.events.iter().flat_map(|event| event.named_directories()).collect();
        let matches = |id: &&str| {
            let Some(directory) = self.directory(id) else { return false };
            let name = directory["name"].as_str().unwrap_or("").to_lowercase();
            asked(query, &["organization_id", "organization"])
                .all(|wanted| directory["organization_id"] == wanted)
                && asked(query, &["search"]).all(|wanted| name.contains(&wanted.to_lowercase()))
                && asked(query, &["domain"]).all(|wanted| directory["domain"] == wanted)
        };
        page(named.into_iter().filter(matches).collect(), query, |id| self.directory(id))
    }

    fn list_users(&self, query: &[(String, String)]) -> (u16, Value) {
        if asked(query, &["directory", "group", "organization_id", "organization"]).next().is_none()
        {
            return without_scope("group");
        }
        let matches = |id: &&str| {
            let Some(user) = self.user(id) else { return false };
            let email = user["email"].as_str().map(compared_email);
            asked(query, &["directory"]).all(|wanted| user["directory_id"] == wanted)
                && asked(query, &["organization_id", "organization"])
                    .all(|wanted| user["organization_id"] == wanted)
                && asked(query, &["idp_id"]).all(|wanted| user["idp_id"] == wanted)
                && asked(query, &["state"]).all(|wanted| user["state"] == wanted)
                && asked(query, &["email"]).all(|wanted| email == Some(compared_email(wanted)))
                && asked(query, &["group"])
                    .all(|group| self.group(group).is_some() && self.holds(group, id))
                && asked(query, &["role"]).all(|role| self.has_role(id, role))
        };
        page(self.known(Kind::User).into_iter().filter(matches).collect(), query, |id| {
            self.user_with_groups(id)
        })
    }

    fn list_groups(&self, query: &[(String, String)]) -> (u16, Value) {
        if asked(query, &["directory", "user", "organization_id", "organization"]).next().is_none()
        {
            return without_scope("user");
        }
        let matches = |id: &&str| {
            let Some(group) = self.group(id) else { return false };
            asked(query, &["directory"]).all(|wanted| group["directory_id"] == wanted)
                && asked(query, &["organization_id", "organization"])
                    .all(|wanted| group["organization_id"] == wanted)
                && asked(query, &["user"])
                    .all(|user| self.user(user).is_some() && self.holds(id, user))
        };
        page(self.known(Kind::Group).into_iter().filter(matches).collect(), query, |id| {
            self.group_as_asked(id, query)
        })
    }
}

/// Shows at most a thousand; what is cut off is counted, and the call that has all is named.
fn nest(shape: &mut Value, name: &str, mut all: Vec<Value>, url: &str) {
    if all.len() > 1000 {
        shape[format!("{name}_truncated")] = json!(true);
        shape[format!("{name}_total")] = json!(all.len());
        shape[format!("{name}_url")] = json!(url);
        all.truncate(1000);
    }
    shape[name] = all.into();
}

/// An id as the value of a query: all but letters, digits and `-_.~` is escaped.
fn in_query(id: &str) -> String {
    let escaped = |byte: u8| match byte {
        b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
        _ if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    id.bytes().map(escaped).collect()
}

/// The values given for any of these parameters.
fn asked<'q>(query: &'q [(String, String)], names: &'q [&str]) -> impl Iterator<Item = &'q str> {
    query.iter().filter(|(name, _)| names.contains(&name.as_str())).map(|(_, value)| value.as_str())
}

fn found(shape: Option<Value>, what: &str, id: &str) -> (u16, Value) {
    match shape {
        Some(shape) => (200, shape),
        None => {
            let message = format!("{what} not found: '{id}'.");
            (404, json!({ "message": message, "code": "entity_not_found", "entity_id": id }))
        }
    }
}

fn without_scope(other: &str) -> (u16, Value) {
    let code = format!("Please provide either \"directory\" or \"{other}\" parameters.");
    let errors = json!([{ "field": "directory", "code": code }, { "field": other, "code": code }]);
    (422, json!({ "message": "Validation failed", "code": "validation_failed", "errors": errors }))
}

/// One page of the ids, given in ascending order (contract 4.1).
fn page(
    ids: Vec<&str>,
    query: &[(String, String)],
    shape: impl Fn(&str) -> Option<Value>,
) -> (u16, Value) {
    let one = |name: &'static str| {
        query.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str()).next_back()
    };
    let limit = one("limit")
        .map_or(Some(10), |limit| limit.parse().ok())
        .filter(|limit| (1..=100).contains(limit));
    let order = one("order").unwrap_or("desc");
    let (Some(limit), true) = (limit, ["asc", "desc", "normal"].contains(&order)) else {
        return (422, Value::Null);
    };
    let (mut after, mut before) = (one("after"), one("before"));
    if after.is_some() && before.is_some() {
        return (422, Value::Null);
    }
    if order == "normal" {
        (after, before) = (before, after);
    }

    let mut list = ids;
    if order != "asc" {
        list.reverse();
    }
    let precedes = |id: &str, cursor: &str| if order == "asc" { id < cursor } else { id > cursor };
    let (start, end) = if let Some(before) = before {
        let end = list.iter().filter(|id| precedes(id, before)).count();
        (end.saturating_sub(limit), end)
    } else {
        let start = after.map_or(0, |after| {
            list.iter().filter(|id| precedes(id, after) || **id == after).count()
        });
        (start, list.len().min(start + limit))
    };

    let page = &list[start..end];
    let mut earlier = if start > 0 { page.first() } else { None };
    let mut later = if end < list.len() { page.last() } else { None };
    if order == "normal" {
        (earlier, later) = (later, earlier);
    }
    let data: Vec<Value> = page.iter().filter_map(|id| shape(id)).collect();
    (
        200,
        json!({ "object": "list", "data": data,
            "list_metadata": { "before": earlier, "after": later } }),
    )
}

const DIRECTORY_TYPES: [&str; 21] = [
    "azure scim v2.0",
    "bamboohr",
    "breathe hr",
    "cezanne hr",
    "cyberark scim v2.0",
    "fourth hr",
    "generic scim v2.0",
    "gsuite directory",
    "hibob",
    "sailpoint scim v2.0",
    "jump cloud scim v2.0",
    "okta scim v2.0",
    "onelogin scim v2.0",
    "people hr",
    "personio",
    "pingfederate scim v2.0",
    "rippling scim v2.0",
    "s3",
    "sftp",
    "sftp workday",
    "workday",
];

// --- GET /events ---

/// The largest number of types in one question.
const TYPES_MAX: usize = 64;

impl World {
    /// Where the texts leave the words open, a refusal comes back with its code alone.
    fn list_events(
        &self,
        query: &[(String, String)],
        cut: Cut,
        own: Option<&[String]>,
    ) -> (u16, Value) {
        let types: Vec<&str> = query
            .iter()
            .filter(|(name, _)| is_events_parameter(name))
            .flat_map(|(_, value)| value.split(','))
            .filter(|name| !name.is_empty())
            .collect();
        if types.is_empty() {
            let message = "One or more event names (e.g. dsync.user.created) must be provided \
                using the events parameter.";
            return (400, json!({ "message": message, "code": "invalid_events_request" }));
        }
        let refused = |code: &str| (422, json!({ "message": "Validation failed", "code": code }));
        let one = |name: &str| {
            query.iter().rfind(|(key, _)| key == name).map(|(_, value)| value.as_str())
        };
        let limit = one("limit")
            .map_or(Some(10), |limit| limit.parse().ok())
            .filter(|limit| (1..=100).contains(limit));
        let ordered = one("order").is_none_or(|order| ["asc", "desc", "normal"].contains(&order));
        let (after, before) = (one("after"), one("before"));
        let range = [one("range_start"), one("range_end")].map(|bound| bound.map(read_time));
        let [start, end] = range.map(|bound| bound.flatten());
        let unreadable = range.contains(&Some(None));
        let backwards = start.zip(end).is_some_and(|(start, end)| end < start);
        let both = after.is_some() && before.is_some();
        let cursor_and_range = (after.is_some() || before.is_some()) && range != [None, None];
        let (Some(limit), true) = (limit, ordered) else { return refused("validation_failed") };
        if unreadable || backwards || both || cursor_and_range || types.len() > TYPES_MAX {
            return refused("validation_failed");
        }
        let place = |id: &str| self.cursor(id).filter(|seq| self.is_seen(*seq, own));
        let Some(cursor) = after.or(before).map_or(Some(0), place) else {
            return refused("cursor_invalid");
        };

        let is_listed = |told: &&Told| {
            let known = cut.as_of_ms.is_none_or(|as_of| told.at <= as_of)
                && cut.known_at.is_none_or(|known_at| told.seq <= known_at);
            known
                && self.is_seen(told.seq, own)
                && types.contains(&told.event.as_str())
                && start.is_none_or(|start| start <= told.at)
                && end.is_none_or(|end| told.at <= end)
                && asked(query, &["organization_id", "organization"])
                    .all(|wanted| self.organization_of_event(told) == wanted)
        };
        let listed: Vec<&Told> = self.told.iter().filter(is_listed).collect();
        let (first, last) = if before.is_some() {
            let last = listed.iter().filter(|told| told.seq < cursor).count();
            (last.saturating_sub(limit), last)
        } else {
            let first = listed.iter().filter(|told| told.seq <= cursor).count();
            (first, listed.len().min(first + limit))
        };
        let page = &listed[first..last];
        let data: Vec<Value> = page.iter().map(|told| self.shown_event(told)).collect();
        let after = page.last().filter(|_| last < listed.len()).map(|told| &told.id);
        (
            200,
            json!({ "object": "list", "data": data,
                "list_metadata": { "before": null, "after": after } }),
        )
    }

    /// The ids and bodies of all events that can be listed.
    pub fn sent(&self) -> Vec<(String, Vec<u8>)> {
        self.told
            .iter()
            .map(|told| (told.id.clone(), self.records[told.seq as usize - 1].body.clone()))
            .collect()
    }

    /// The whole list, without pages.
    pub fn all_events(&self, query: &[(String, String)], cut: Cut) -> Vec<Value> {
        let mut all = Vec::new();
        let mut page: Vec<_> = query.iter().filter(|(key, _)| key != "limit").cloned().collect();
        page.push(("limit".to_owned(), "100".to_owned()));
        loop {
            let (_, mut body) = self.list_events(&page, cut, None);
            let after = body["list_metadata"]["after"].take();
            all.extend(body["data"].as_array().cloned().unwrap_or_default());
            let Some(after) = after.as_str() else { return all };
            page.retain(|(key, _)| key != "after");
            page.push(("after".to_owned(), after.to_owned()));
        }
    }

    /// The seq of the event with this id; any event of the log is a place in the list.
    fn cursor(&self, id: &str) -> Option<u64> {
        self.find(|known| {
            known.standing == Standing::First && known.event_id.as_deref() == Some(id)
        })
    }

    /// A record is seen by the organization of its event, if that tells of no other's things. What
    /// is no event, or one without an organization, is seen by those who see all.
    pub fn is_seen(&self, seq: u64, own: Option<&[String]>) -> bool {
        let Some(own) = own else { return true };
        let Some(told) = self.told.iter().find(|told| told.seq == seq) else { return false };
        let is_own = |id: &str| !id.is_empty() && own.iter().any(|own| own == id);
        is_own(&self.organization_of_event(told))
            && self.organizations_told_of(told).iter().all(|id| is_own(id))
    }

    /// The organizations of which an event tells, empty for one that is not known: those that its
    /// text carries, now or as former values, those of the directories that it names or in which
    /// its user or group was before and after, and that of its directory before.
    fn organizations_told_of(&self, told: &Told) -> Vec<String> {
        let known = self.view(Cut { as_of_ms: None, known_at: Some(told.seq) });
        let then = self.view_of(told);
        let before = self.view(Cut { as_of_ms: Some(told.at), known_at: Some(told.seq - 1) });
        let (mut own, mut directories, mut organizations) = (None, Vec::new(), Vec::new());
        let event = self.events.iter().find(|event| event.seq == told.seq);
        if let Some(event) = event {
            let mut things = Vec::new();
            match &event.fact {
                Fact::Directory { id, .. } => {
                    own = Some(id.clone());
                    organizations.push(before.organization_of(id).to_owned());
                }
                Fact::Entity { kind, id, directory, .. } => {
                    own = directory.clone().or_else(|| then.last_directory_of(*kind, id));
                    things.push((*kind, id));
                }
                Fact::Membership { directory, group, user, .. } => {
                    own = Some(directory.clone());
                    things.extend([(Kind::User, &user.id), (Kind::Group, &group.id)]);
                }
            }
            directories.extend(event.named_directories().into_iter().map(str::to_owned));
            for (kind, id) in things {
                directories
                    .extend([before.home(kind, id), then.home(kind, id)].into_iter().flatten());
            }
            organizations.extend(event.named_organizations().into_iter().map(str::to_owned));
        }
        organizations.retain(|id| !id.is_empty());
        for previous in former_values(&told.body) {
            let directory = filled(&previous, "directory_id").filter(|id| id.len() <= 255);
            directories.extend(directory.map(str::to_owned));
            organizations.extend(filled(&previous, "organization_id").map(str::to_owned));
        }
        for directory in directories {
            let organization = known.organization_of(&directory);
            if !organization.is_empty() || own.as_ref() != Some(&directory) {
                organizations.push(organization.to_owned());
            }
        }
        organizations
    }

    /// The cut at the event's own time and record: what is shown of the event never changes.
    fn view_of(&self, told: &Told) -> View<'_> {
        self.view(Cut { as_of_ms: Some(told.at), known_at: Some(told.seq) })
    }

    fn shown_event(&self, told: &Told) -> Value {
        json!({
            "object": "event",
            "id": told.id,
            "event": told.event,
            "data": self.shown_data(told),
            "created_at": rfc3339(told.at),
            "context": object_or_empty(&told.body, "context"),
        })
    }

    fn shown_data(&self, told: &Told) -> Value {
        let nothing = Object::new();
        let data = told.body.get("data").and_then(Value::as_object).unwrap_or(&nothing);
        if told.event.starts_with("dsync.token.") {
            return with_previous_attributes(
                with_the_rest(shown_token(data, told.at), data, &[]),
                told,
            );
        }
        let Some(event) = self.events.iter().find(|event| event.seq == told.seq) else {
            return json!(data);
        };
        let view = self.view_of(told);
        match &event.fact {
            Fact::Directory { id, change, data } => {
                let shape = view.shown_directory(id, *change, data, told.at);
                with_previous_attributes(
                    with_the_rest(shape, data, &["external_key", "domain", "domains"]),
                    told,
                )
            }
            Fact::Entity { kind, id, directory, data, .. } => {
                let known = || view.last_directory_of(*kind, id).unwrap_or_default();
                let directory = directory.clone().unwrap_or_else(known);
                let shape = view.completed(*kind, id, &directory, data, told.at);
                let roles: &[&str] =
                    if *kind == Kind::User { &["role", "roles"] } else { &["role"] };
                with_previous_attributes(with_the_rest(shape, data, roles), told)
            }
            Fact::Membership { directory, group, user, .. } => {
                let snapshot = |kind, end: &End, named: &[&str]| {
                    let own = end.directory.as_ref().unwrap_or(directory);
                    with_the_rest(
                        view.completed(kind, &end.id, own, &end.data, told.at),
                        &end.data,
                        named,
                    )
                };
                let (user, group) = (
                    snapshot(Kind::User, user, &["role", "roles"]),
                    snapshot(Kind::Group, group, &["role"]),
                );
                let shape = json!({ "directory_id": directory, "user": user, "group": group });
                with_previous_attributes(with_the_rest(shape, data, &[]), told)
            }
        }
    }

    /// The organization of an event, for the filter; empty if it has none.
    fn organization_of_event(&self, told: &Told) -> String {
        let own = |data: Option<&Value>| {
            data.and_then(Value::as_object)
                .and_then(|data| filled(data, "organization_id"))
                .map(str::to_owned)
        };
        let data = told.body.get("data");
        let then = |directory: &str| self.view_of(told).organization_of(directory).to_owned();
        match self.events.iter().find(|event| event.seq == told.seq).map(|event| &event.fact) {
            None => own(data).unwrap_or_default(),
            Some(Fact::Membership { directory, .. }) => own(data)
                .or_else(|| own(data?.get("group")))
                .or_else(|| own(data?.get("user")))
                .unwrap_or_else(|| then(directory)),
            Some(Fact::Directory { id, .. }) => own(data).unwrap_or_else(|| then(id)),
            Some(Fact::Entity { directory: Some(directory), .. }) => {
                own(data).unwrap_or_else(|| then(directory))
            }
            Some(Fact::Entity { kind, id, directory: None, .. }) => own(data)
                .or_else(|| Some(then(&self.view_of(told).last_directory_of(*kind, id)?)))
                .unwrap_or_default(),
        }
    }
}

impl View<'_> {
    fn shown_directory(&self, id: &str, change: DirectoryChange, data: &Object, at: i64) -> Value {
        let organization =
            filled(data, "organization_id").unwrap_or_else(|| self.organization_of(id));
        let first_named = self
            .events
            .iter()
            .filter(|event| event.names(id))
            .map(|event| event.at)
            .min()
            .unwrap_or(at);
        let is_known =
            |kind: &&str| DIRECTORY_TYPES.contains(kind) || ["gusto", "rippling"].contains(kind);
        let deleted = change == DirectoryChange::Deleted;
        let state = match text(data, "state") {
            _ if change == DirectoryChange::Deactivated => "inactive",
            Some("linked") => "active",
            Some("unlinked") => "inactive",
            Some(state)
                if ["active", "validating", "invalid_credentials", "inactive", "deleting"]
                    .contains(&state) =>
            {
                state
            }
            _ if deleted => "deleting",
            _ => "active",
        };
        let mut shape = json!({
            "object": "directory",
            "id": id,
            "organization_id": organization,
            "type": text(data, "type").filter(is_known).unwrap_or("generic scim v2.0"),
            "state": state,
            "name": text_or_empty(data, "name"),
            "created_at": rfc3339(moment(data, "created_at").unwrap_or(first_named)),
            "updated_at": rfc3339(moment(data, "updated_at").unwrap_or(at)),
        });
        if !deleted {
            shape["external_key"] = text_or_empty(data, "external_key");
            shape["domains"] = shown_domains(data, organization);
        }
        shape
    }

    /// Returns the directory of the latest version that names one.
    fn last_directory_of(&self, wanted: Kind, wanted_id: &str) -> Option<String> {
        let said = self.events.iter().rev().find_map(|event| match &event.fact {
            Fact::Entity { kind, id, directory, .. } if *kind == wanted && id == wanted_id => {
                directory.clone()
            }
            _ => None,
        });
        said.or_else(|| self.home(wanted, wanted_id))
    }
}

fn is_events_parameter(name: &str) -> bool {
    let index = name.strip_prefix("events[").and_then(|rest| rest.strip_suffix(']'));
    name == "events" || index.is_some_and(|index| index.bytes().all(|byte| byte.is_ascii_digit()))
}

fn shown_domains(data: &Object, organization: &str) -> Value {
    let shown = |id: &str, organization: &str, domain: &str| {
        json!({ "object": "organization_domain", "id": id,
        "organization_id": organization, "domain": domain })
    };
    let of_element = |element: &Value| {
        let element = element.as_object()?;
        let domain = filled(element, "domain")?;
        Some(shown(
            text(element, "id").unwrap_or(""),
            filled(element, "organization_id").unwrap_or(organization),
            domain,
        ))
    };
    match data.get("domains") {
        Some(Value::Array(domains)) => domains.iter().filter_map(of_element).collect(),
        _ => filled(data, "domain")
            .map(|domain| shown("", organization, domain))
            .into_iter()
            .collect(),
    }
}

fn shown_token(data: &Object, at: i64) -> Value {
    json!({
        "object": "directory_token",
        "id": text_or_empty(data, "id"),
        "directory_id": text_or_empty(data, "directory_id"),
        "organization_id": text_or_empty(data, "organization_id"),
        "token_suffix": text_or_empty(data, "token_suffix"),
        "created_at": rfc3339(moment(data, "created_at").unwrap_or(at)),
    })
}

/// Returns the shape with the source's other fields; `named` are keys that belong to the shape even
/// where it leaves them out.
fn with_the_rest(shape: Value, data: &Object, named: &[&str]) -> Value {
    let mut whole = data.clone();
    whole.retain(|key, _| !named.contains(&key.as_str()));
    if let Value::Object(shape) = shape {
        whole.extend(shape);
    }
    Value::Object(whole)
}

/// Every `previous_attributes` that the text of an event has.
fn former_values(body: &Object) -> Vec<Object> {
    let data = body.get("data");
    let holders = [
        data,
        body.get("context"),
        data.and_then(|data| data.get("user")),
        data.and_then(|data| data.get("group")),
    ];
    let former = holders
        .into_iter()
        .flatten()
        .filter_map(|holder| holder.get("previous_attributes").and_then(Value::as_object).cloned());
    former.collect()
}

fn with_previous_attributes(mut shown: Value, told: &Told) -> Value {
    let of = |key: &str| {
        told.body
            .get(key)?
            .get("previous_attributes")
            .filter(|previous| previous.is_object())
            .cloned()
    };
    let updated = told.event.ends_with(".updated");
    let previous = if updated {
        of("data").or_else(|| of("context")).or_else(|| Some(json!({})))
    } else {
        of("data")
    };
    if let Some(whole) = shown.as_object_mut() {
        whole.remove("previous_attributes");
        whole.extend(previous.map(|previous| ("previous_attributes".to_owned(), previous)));
    }
    shown
}

// --- Reading fields ---

fn text<'d>(data: &'d Object, key: &str) -> Option<&'d str> {
    data.get(key).and_then(Value::as_str)
}

/// A string that is not empty.
fn filled<'d>(data: &'d Object, key: &str) -> Option<&'d str> {
    text(data, key).filter(|text| !text.is_empty())
}

fn text_or_empty(data: &Object, key: &str) -> Value {
    json!(text(data, key).unwrap_or(""))
}

fn object_or_empty(data: &Object, key: &str) -> Value {
    data.get(key).filter(|value| value.is_object()).cloned().unwrap_or_else(|| json!({}))
}

fn state_of(data: &Object) -> &'static str {
    match data.get("state") {
        // Rule 14: what is null was not said.
        None | Some(Value::Null) => "active",
        Some(state) if state == "active" => "active",
        Some(_) => "inactive",
    }
}

/// A body in which U+FFFD takes the place of each half of a surrogate pair that lacks its other
/// half (rule 14).
pub fn readable(body: &[u8]) -> Vec<u8> {
    let half_of = |four: Option<&[u8]>| {
        let digits = std::str::from_utf8(four?).ok()?;
        let unit = u32::from_str_radix(digits.strip_prefix("\\u")?, 16).ok()?;
        (0xd800..0xe000).contains(&unit).then_some(unit < 0xdc00)
    };
    let (mut out, mut rest) = (Vec::new(), body);
    while let Some(first) = rest.first() {
        let next = half_of(rest.get(6..12));
        let (copied, skipped): (&[u8], usize) = match half_of(rest.get(..6)) {
            Some(true) if next == Some(false) => (&rest[..12], 12),
            Some(_) => (b"\\ufffd", 6),
            None if *first == b'\\' && rest.len() > 1 => (&rest[..2], 2),
            None => (&rest[..1], 1),
        };
        out.extend_from_slice(copied);
        rest = &rest[skipped..];
    }
    out
}

/// Returns a body without what is nested over 120 levels deep, which the parser refuses, and whether
/// it has more than 128 levels.
fn shallow(body: &[u8]) -> (Vec<u8>, bool) {
    let (mut out, mut level, mut deepest) = (Vec::new(), 0, 0);
    let (mut in_string, mut after_backslash) = (false, false);
    for byte in body {
        let opens = !in_string && b"{[".contains(byte);
        let closes = !in_string && b"}]".contains(byte);
        level += usize::from(opens);
        deepest = deepest.max(level);
        if level <= 120 {
            out.push(*byte);
        } else if opens && level == 121 {
            out.extend_from_slice(b"null");
        }
        level -= usize::from(closes && level > 0);
        in_string ^= *byte == b'"' && !after_backslash;
        after_backslash = in_string && *byte == b'\\' && !after_backslash;
    }
    (out, deepest > 128)
}

fn emails_of(data: &Object) -> Vec<Value> {
    match data.get("emails") {
        Some(Value::Array(emails)) if emails.iter().all(Value::is_object) => emails.clone(),
        _ => Vec::new(),
    }
}

/// A text with its combining accents joined to their letters, for the letters and accents that the
/// tests use (rule 21).
pub fn composed(text: &str) -> String {
    let joined = [
        ("e\u{301}", "\u{e9}"),
        ("E\u{301}", "\u{c9}"),
        ("A\u{30a}", "\u{c5}"),
        ("a\u{30a}", "\u{e5}"),
        ("\u{212b}", "\u{c5}"),
    ];
    joined.iter().fold(text.to_owned(), |text, (apart, one)| text.replace(apart, one))
}

/// An address without what two spellings of it may differ in: a space within it was a `+`.
pub fn compared_email(text: &str) -> String {
    composed(text.trim()).replace(' ', "+").to_lowercase()
}

/// Derived from `emails` only where no email is said, as null says none (rule 14).
fn email_of(data: &Object) -> Value {
    let emails = emails_of(data);
    let email = match data.get("email") {
        Some(email) if !email.is_null() => email.as_str(),
        _ => {
            let primary = emails.iter().find(|email| email["primary"] == true);
            primary.or(emails.first()).and_then(|email| email["value"].as_str())
        }
    };
    email.map_or(Value::Null, |email| json!(email))
}

fn domain_of(data: &Object) -> Option<&str> {
    let domains = data.get("domains").and_then(Value::as_array);
    let first =
        || domains?.iter().filter_map(Value::as_object).find_map(|domain| filled(domain, "domain"));
    filled(data, "domain").or_else(first)
}

fn slug_only(role: &Value) -> Option<Value> {
    let slug = role.as_object()?.get("slug")?.as_str()?;
    Some(json!({ "slug": slug }))
}

fn moment(data: &Object, key: &str) -> Option<i64> {
    text(data, key).and_then(read_time)
}

// --- Times ---

/// Milliseconds since 1970: `YYYY-MM-DD`, `T`, `t` or a space, `HH:MM:SS`, an optional fraction, an
/// optional zone.
pub fn read_time(text: &str) -> Option<i64> {
    let (date, rest) = (text.get(..10)?, text.get(10..)?);
    let rest = rest.strip_prefix(['T', 't', ' '])?;
    let (clock, rest) = (rest.get(..8)?, rest.get(8..)?);

    let (year, month, day) =
        (digits(date.get(..4)?)?, digits(date.get(5..7)?)?, digits(date.get(8..10)?)?);
    let (hour, minute, second) =
        (digits(clock.get(..2)?)?, digits(clock.get(3..5)?)?, digits(clock.get(6..8)?)?);
    let separators =
        [date.as_bytes()[4], date.as_bytes()[7], clock.as_bytes()[2], clock.as_bytes()[5]];
    if separators != *b"--::" || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    if !(1..=12).contains(&month) || day < 1 || day > days_in_month(year, month) {
        return None;
    }

    let (fraction_ms, zone) = match rest.strip_prefix('.') {
        None => (0, rest),
        Some(rest) => {
            let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
            if end == 0 {
                return None;
            }
            (digits(&format!("{:0<3}", &rest[..end])[..3])?, &rest[end..])
        }
    };
    let seconds = days_from_1970(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second;
    Some((seconds - zone_minutes(zone)? * 60) * 1000 + fraction_ms)
}

fn zone_minutes(zone: &str) -> Option<i64> {
    if zone.is_empty() || zone == "Z" || zone == "z" {
        return Some(0);
    }
    let sign = match zone.as_bytes()[0] {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let numbers = &zone[1..];
    let (hours, minutes) = match numbers.len() {
        4 => (numbers.get(..2)?, numbers.get(2..)?),
        5 if numbers.as_bytes()[2] == b':' => (numbers.get(..2)?, numbers.get(3..)?),
        _ => return None,
    };
    let (hours, minutes) = (digits(hours)?, digits(minutes)?);
    (hours <= 23 && minutes <= 59).then_some(sign * (hours * 60 + minutes))
}

fn digits(text: &str) -> Option<i64> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

fn is_leap(year: i64) -> bool {
    (year % 4 == 0 && year % 100 != 0) || year % 400 == 0
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

fn days_in_year(year: i64) -> i64 {
    if is_leap(year) { 366 } else { 365 }
}

fn days_from_1970(year: i64, month: i64, day: i64) -> i64 {
    let years: i64 = if year >= 1970 {
        (1970..year).map(days_in_year).sum()
    } else {
        -(year..1970).map(days_in_year).sum::<i64>()
    };
    let months: i64 = (1..month).map(|month| days_in_month(year, month)).sum();
    years + months + day - 1
}

/// (year, month, day, hour, minute, second, millisecond) of a moment, in UTC.
pub fn civil(ms: i64) -> (i64, i64, i64, i64, i64, i64, i64) {
    let (mut days, rest) = (ms.div_euclid(86_400_000), ms.rem_euclid(86_400_000));
    let (mut year, mut month) = (1970, 1);
    while days < 0 {
        year -= 1;
        days += days_in_year(year);
    }
    while days >= days_in_year(year) {
        days -= days_in_year(year);
        year += 1;
    }
    while days >= days_in_month(year, month) {
        days -= days_in_month(year, month);
        month += 1;
    }
    (year, month, days + 1, rest / 3_600_000, rest / 60_000 % 60, rest / 1000 % 60, rest % 1000)
}

pub fn rfc3339(ms: i64) -> String {
    let (year, month, day, hour, minute, second, milli) = civil(ms);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
}
