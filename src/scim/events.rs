//! The `dsync.*` events that follow an accepted change: a pure function of the request's record
//! and of what was before.

use rollcall_projections::{Deactivation, Millis};
use sha2::{Digest, Sha256};

use super::document::Document;
use super::value::{Object, Value};
use crate::{json, time, ulid};

/// An event of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consequence {
    /// Its type, such as `dsync.user.created`.
    pub event_type: &'static str,
    /// Its id.
    pub id: String,
    /// Its body as JSON.
    pub body: String,
}

/// A directory user or group as an event shows it: a JSON object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot(String);

impl Snapshot {
    /// Returns the snapshot in the `data` of a created or updated event of its own. `None` if the
    /// text is not a JSON object.
    pub fn of_data(data: &str) -> Option<Snapshot> {
        json::without(data, "previous_attributes").map(Snapshot)
    }

    /// Returns the JSON.
    pub fn text(&self) -> &str {
        &self.0
    }

    /// Returns the id of the directory user or group.
    pub fn id(&self) -> Option<String> {
        self.field("id")
    }

    fn field(&self, name: &str) -> Option<String> {
        let [field] = json::fields(&self.0, [name])?;
        json::string(field).map(Into::into)
    }
}

/// A SCIM user after a request.
#[derive(Clone, Copy, Debug)]
pub struct UserAfter<'a> {
    /// Its SCIM id.
    pub scim_id: &'a str,
    /// What is stored of it.
    pub document: &'a Document,
    /// If it is active.
    pub active: bool,
    /// The document of the user whose SCIM id is the value of `manager`, if there is one.
    pub manager: Option<&'a Document>,
}

/// A SCIM group after a request.
#[derive(Clone, Copy, Debug)]
pub struct GroupAfter<'a> {
    /// What is stored of it.
    pub document: &'a Document,
}

/// What a change makes of a directory user or group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Its last snapshot; `None` if there is no living directory user.
    pub snapshot: Option<Snapshot>,
    /// The events, in order.
    pub events: Vec<Consequence>,
}

/// Makes the events of one request, in order. Their ids are a pure function of the request.
#[derive(Clone, Debug)]
pub struct EventMaker<'a> {
    /// The id of the request's record, `op_…`.
    pub request_id: &'a str,
    /// When the request occurred, in milliseconds.
    pub occurred_at: Millis,
    /// The directory.
    pub directory_id: &'a str,
    /// The directory's organization.
    pub organization_id: &'a str,
    /// What becomes of inactive users.
    pub deactivation: Deactivation,
    /// The number of events made so far.
    pub made: u32,
}

impl EventMaker<'_> {
    /// Makes the events of a user that was created or changed.
    ///
    /// `before` is the last snapshot of its living directory user, if it has one; `groups` are the
    /// snapshots of the groups that it is in, which count only if a directory user is made.
    pub fn user_written(
        &mut self,
        before: Option<&Snapshot>,
        after: UserAfter<'_>,
        groups: &[Snapshot],
    ) -> Written {
        let lives = after.active || self.deactivation == Deactivation::Update;
        let Some(before) = before else {
            if !lives {
                return Written::default();
            }
            let user = self.user(None, after);
            let mut events = vec![self.own("dsync.user.created", &user, None)];
            events.extend(groups.iter().map(|group| self.member_came(&user, group)));
            return Written { snapshot: Some(user), events };
        };
        let user = self.user(Some(before), after);
        if !lives {
            return Written {
                snapshot: None,
                events: vec![self.own("dsync.user.deleted", &user, None)],
            };
        }
        self.updated("dsync.user.updated", before, user)
    }

    /// Makes the event of a user that was deleted, if it has a living directory user.
    pub fn user_deleted(&mut self, before: Option<&Snapshot>) -> Option<Consequence> {
        before.map(|before| self.own("dsync.user.deleted", before, None))
    }

    /// Makes the event of a group that was created or changed, without its members.
    pub fn group_written(&mut self, before: Option<&Snapshot>, after: GroupAfter<'_>) -> Written {
        let group = self.group(before, after);
        match before {
            None => Written {
                events: vec![self.own("dsync.group.created", &group, None)],
                snapshot: Some(group),
            },
            Some(before) => self.updated("dsync.group.updated", before, group),
        }
    }

    /// Makes the event of a group that was deleted.
    pub fn group_deleted(&mut self, before: &Snapshot) -> Consequence {
        self.own("dsync.group.deleted", before, None)
    }

    /// Makes the event of a directory user who left a group.
    pub fn member_left(&mut self, user: &Snapshot, group: &Snapshot) -> Consequence {
        self.membership("dsync.group.user_removed", user, group)
    }

    /// Makes the event of a directory user who came into a group.
    pub fn member_came(&mut self, user: &Snapshot, group: &Snapshot) -> Consequence {
        self.membership("dsync.group.user_added", user, group)
    }

    /// Makes the event of a snapshot that differs from the one before; none if it does not differ.
    fn updated(&mut self, event_type: &'static str, before: &Snapshot, after: Snapshot) -> Written {
        match previous_attributes(before, &after) {
            None => Written { snapshot: Some(before.clone()), events: Vec::new() },
            Some(previous) => Written {
                events: vec![self.own(event_type, &after, Some(&previous))],
                snapshot: Some(after),
            },
        }
    }

    fn membership(
        &mut self,
        event_type: &'static str,
        user: &Snapshot,
        group: &Snapshot,
    ) -> Consequence {
        let mut data = b"{\"directory_id\":".to_vec();
        json::push_string(&mut data, self.directory_id);
        for (key, snapshot) in [("user", user), ("group", group)] {
            data.extend_from_slice(format!(",\"{key}\":{}", snapshot.text()).as_bytes());
        }
        data.push(b'}');
        self.event(event_type, &data)
    }

    /// Makes an event whose data is a snapshot.
    fn own(
        &mut self,
        event_type: &'static str,
        snapshot: &Snapshot,
        previous: Option<&Object>,
    ) -> Consequence {
        let mut data = snapshot.text().as_bytes().to_vec();
        if let Some(previous) = previous
            && data.pop() == Some(b'}')
        {
            data.extend_from_slice(b",\"previous_attributes\":");
            previous.write(&mut data);
            data.push(b'}');
        }
        self.event(event_type, &data)
    }

    fn event(&mut self, event_type: &'static str, data: &[u8]) -> Consequence {
        let id = format!("event_{}", self.next_ulid());
        let mut body = b"{\"object\":\"event\",\"id\":".to_vec();
        let field = |body: &mut Vec<u8>, key: &str, value: &str| {
            body.extend_from_slice(key.as_bytes());
            json::push_string(body, value);
        };
        json::push_string(&mut body, &id);
        field(&mut body, ",\"event\":", event_type);
        field(&mut body, ",\"created_at\":", &time::format(self.occurred_at));
        field(&mut body, ",\"context\":{\"scim\":{\"request_id\":", self.request_id);
        body.extend_from_slice(b"}},\"data\":");
        body.extend_from_slice(data);
        body.push(b'}');
        Consequence { event_type, id, body: String::from_utf8(body).unwrap_or_default() }
    }

    /// Returns the ULID of the next event: the time, the event's number, and 56 bits of
    /// SHA-256(request id ‖ number). The number goes first, so that the ids of one request rise.
    fn next_ulid(&mut self) -> String {
        self.made += 1;
        let number = self.made.to_be_bytes();
        let hash = Sha256::new().chain_update(self.request_id).chain_update(number).finalize();
        let mut chance = [0; 10];
        for (to, from) in chance.iter_mut().zip(number.iter().skip(1).chain(&hash[..])) {
            *to = *from;
        }
        ulid::of(self.occurred_at, chance)
    }

    /// Returns the id of a directory user or group that the request makes.
    fn new_id(&self, kind: &str) -> String {
        let hash = Sha256::new().chain_update(self.request_id).chain_update(kind).finalize();
        let mut chance = [0; 10];
        for (to, from) in chance.iter_mut().zip(&hash[..]) {
            *to = *from;
        }
        format!("{kind}_{}", ulid::of(self.occurred_at, chance))
    }

    fn user(&self, before: Option<&Snapshot>, after: UserAfter<'_>) -> Snapshot {
        let document = after.document;
        let name = |part: &str| document.0.get("name")?.object()?.get(part)?.scalar();
        let (first, last) = (name("givenName"), name("familyName"));
        let joined: Vec<&str> = [first, last].into_iter().flatten().collect();
        let joined = joined.join(" ");
        let full = document.display_name().or_else(|| name("formatted"));
        let full = full.or(Some(joined.as_str()).filter(|joined| !joined.is_empty()));
        let mut user = self.opened("directory_user", before);
        user.set("idp_id", document.external_id().unwrap_or(after.scim_id).into());
        for (key, value) in [
            ("email", document.email()),
            ("first_name", first),
            ("last_name", last),
            ("name", full),
        ] {
            user.set(key, value.map_or(Value::Null, Value::from));
        }
        user.set("emails", Value::List(Vec::new()));
        user.set("job_title", Value::Null);
        user.set("username", Value::Null);
        user.set("state", if after.active { "active" } else { "inactive" }.into());
        user.set("raw_attributes", Value::Object(Object::default()));
        user.set("custom_attributes", Value::Object(custom_attributes(after)));
        self.closed(user, before)
    }

    fn group(&self, before: Option<&Snapshot>, after: GroupAfter<'_>) -> Snapshot {
        let name = after.document.display_name().unwrap_or_default();
        let mut group = self.opened("directory_group", before);
        group.set("idp_id", after.document.external_id().unwrap_or(name).into());
        group.set("name", name.into());
        group.set("raw_attributes", Value::Object(Object::default()));
        self.closed(group, before)
    }

    fn opened(&self, kind: &str, before: Option<&Snapshot>) -> Object {
        let mut object = Object::default();
        let id = before.and_then(Snapshot::id).unwrap_or_else(|| self.new_id(kind));
        object.set("object", kind.into());
        object.set("id", Value::Text(id));
        object.set("directory_id", self.directory_id.into());
        object.set("organization_id", self.organization_id.into());
        object
    }

    fn closed(&self, mut object: Object, before: Option<&Snapshot>) -> Snapshot {
        let now = time::format(self.occurred_at);
        let created = before.and_then(|before| before.field("created_at"));
        object.set("created_at", Value::Text(created.unwrap_or_else(|| now.clone())));
        object.set("updated_at", Value::Text(now));
        Snapshot(object.to_json())
    }
}

/// Attributes of a directory user that have another name in SCIM: ours, and that of SCIM.
const OWN: [(&str, &str); 3] =
    [("username", "userName"), ("job_title", "title"), ("employee_type", "userType")];

/// The same for attributes of the enterprise extension.
const OF_ENTERPRISE: [(&str, &str); 5] = [
    ("employee_number", "employeeNumber"),
    ("department_name", "department"),
    ("division_name", "division"),
    ("cost_center_name", "costCenter"),
    ("organization", "organization"),
];

/// The same for the parts of an address.
const OF_ADDRESS: [(&str, &str); 7] = [
    ("type", "type"),
    ("street_address", "streetAddress"),
    ("locality", "locality"),
    ("region", "region"),
    ("postal_code", "postalCode"),
    ("country", "country"),
    ("primary", "primary"),
];

fn custom_attributes(after: UserAfter<'_>) -> Object {
    let document = &after.document.0;
    let mut custom = renamed(document, &OWN);
    let list = |name: &str, element: fn(&Object) -> Object| {
        let elements = document.get(name).map(Value::elements).unwrap_or_default();
        let elements = elements.iter().filter_map(Value::object).map(element);
        let elements = elements.filter(|element| !element.0.is_empty()).map(Value::Object);
        Some(elements.collect::<Vec<_>>()).filter(|elements| !elements.is_empty()).map(Value::List)
    };
    let email = |email: &Object| {
        renamed(email, &[("type", "type"), ("value", "value"), ("primary", "primary")])
    };
    if let Some(emails) = list("emails", email) {
        custom.set("emails", emails);
    }
    if let Some(enterprise) = after.document.enterprise() {
        custom.0.extend(renamed(enterprise, &OF_ENTERPRISE).0);
    }
    if let Some(email) = manager_email(after) {
        custom.set("manager_email", email.into());
    }
    if let Some(addresses) = list("addresses", address) {
        custom.set("addresses", addresses);
    }
    custom
}

fn manager_email(after: UserAfter<'_>) -> Option<&str> {
    let value = after.document.manager()?;
    let document = if value == after.scim_id { Some(after.document) } else { after.manager };
    match document {
        Some(manager) => manager.email(),
        None => Some(value).filter(|value| value.contains('@')),
    }
}

/// Returns an address with its raw form: the formatted one, else its parts.
fn address(address: &Object) -> Object {
    let mut shown = renamed(address, &OF_ADDRESS);
    let parts = ["streetAddress", "locality", "region", "postalCode", "country"];
    let parts: Vec<&str> = parts
        .iter()
        .filter_map(|part| address.get(part)?.scalar())
        .filter(|it| !it.is_empty())
        .collect();
    let raw = address.text("formatted").filter(|text| !text.is_empty()).map(str::to_owned);
    let raw = raw.unwrap_or_else(|| parts.join(", "));
    if !raw.is_empty() {
        shown.set("raw_address", Value::Text(raw));
    }
    shown
}

/// Takes the attributes that have a value, under other names.
fn renamed(from: &Object, names: &[(&str, &str)]) -> Object {
    let pair = |(ours, theirs): &(&str, &str)| {
        let value = from.get(theirs).filter(|value| !value.is_unassigned())?;
        Some(((*ours).to_owned(), value.clone()))
    };
    Object(names.iter().filter_map(pair).collect())
}

/// Returns the old values of what differs between two snapshots: of the root, and of
/// `custom_attributes` key by key; null where there was none. `None` if nothing differs but times.
fn previous_attributes(before: &Snapshot, after: &Snapshot) -> Option<Object> {
    let (before, after) = (root(before)?, root(after)?);
    let custom = |root: &Object| match root.get("custom_attributes") {
        Some(Value::Object(custom)) => custom.clone(),
        _ => Object::default(),
    };
    let not_compared = ["created_at", "updated_at", "custom_attributes"];
    let mut previous = differences(&before, &after, &not_compared);
    let of_custom = differences(&custom(&before), &custom(&after), &[]);
    if !of_custom.0.is_empty() {
        previous.set("custom_attributes", Value::Object(of_custom));
    }
    Some(previous).filter(|previous| !previous.0.is_empty())
}

fn root(snapshot: &Snapshot) -> Option<Object> {
    match Value::parse(snapshot.text())? {
        Value::Object(root) => Some(root),
        _ => None,
    }
}

fn differences(before: &Object, after: &Object, not_compared: &[&str]) -> Object {
    let mut previous = Object::default();
    for (name, value) in &before.0 {
        if !not_compared.contains(&name.as_str()) && after.exactly(name) != Some(value) {
            previous.0.push((name.clone(), value.clone()));
        }
    }
    for (name, _) in &after.0 {
        if !not_compared.contains(&name.as_str()) && before.exactly(name).is_none() {
            previous.0.push((name.clone(), Value::Null));
        }
    }
    previous
}
