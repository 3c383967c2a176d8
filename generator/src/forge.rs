//! One event, made of what is known about it.

use std::fmt;
use std::str::FromStr;

use rollcall_projections::{EventType, Millis, own_event_type};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::timestamp;
use crate::webhook::{self, Directory, Email, Empty, Group, Membership, User};

const USER_STATES: [&str; 3] = ["active", "inactive", "suspended"];
const DIRECTORY_STATES: [&str; 5] =
    ["active", "inactive", "validating", "invalid_credentials", "deleting"];

/// One event to make. A field that is not given is empty in the body.
#[derive(Clone, Debug, Default)]
pub struct EventPlan {
    /// The event's type: one of dsync's, or any name outside `dsync.`.
    pub event: String,
    /// The user's id.
    pub user: Option<String>,
    /// The group's id.
    pub group: Option<String>,
    /// The directory's id.
    pub directory: Option<String>,
    /// The organization's id.
    pub organization: Option<String>,
    /// The user's address.
    pub email: Option<String>,
    /// The name of the directory, group or user. A user's name is split at its first space.
    pub name: Option<String>,
    /// The state of the user or the directory.
    pub state: Option<String>,
    /// Further fields of `data`. They are set last, so they replace what is there.
    pub extra: Vec<ExtraField>,
    /// When the event happened.
    pub at: Millis,
}

/// A field of `data` and its value.
#[derive(Clone, Debug)]
pub struct ExtraField {
    path: Vec<String>,
    value: Value,
}

impl FromStr for ExtraField {
    type Err = &'static str;

    /// Reads `field=value`. Dots in the field lead into objects. The value is JSON if it parses as
    /// JSON, else text.
    fn from_str(text: &str) -> Result<ExtraField, &'static str> {
        let (path, value) = text.split_once('=').ok_or("it must be a field, `=`, and a value")?;
        let path: Vec<String> = path.split('.').map(str::to_owned).collect();
        if path.iter().any(String::is_empty) {
            return Err("a part of the field's name is empty");
        }
        Ok(ExtraField { path, value: serde_json::from_str(value).unwrap_or_else(|_| value.into()) })
    }
}

/// An event's id and body.
#[derive(Debug)]
pub struct Forged {
    /// The event's id.
    pub id: String,
    /// The body, as it is signed and posted.
    pub body: String,
}

/// An optional field of [`EventPlan`]. Displays as the flag of `rollcall send` that gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventField {
    /// `user`
    User,
    /// `group`
    Group,
    /// `directory`
    Directory,
    /// `organization`
    Organization,
    /// `email`
    Email,
    /// `name`
    Name,
    /// `state`
    State,
}

impl EventField {
    const ALL: [EventField; 7] = [
        EventField::User,
        EventField::Group,
        EventField::Directory,
        EventField::Organization,
        EventField::Email,
        EventField::Name,
        EventField::State,
    ];
}

impl fmt::Display for EventField {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            EventField::User => "--user",
            EventField::Group => "--group",
            EventField::Directory => "--directory",
            EventField::Organization => "--organization",
            EventField::Email => "--email",
            EventField::Name => "--name",
            EventField::State => "--state",
        })
    }
}

/// The reason why an event cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ForgeError {
    /// The type begins with `dsync.`, and dsync does not have it.
    #[error("unknown type `{event}`; dsync has {}", dsync_types())]
    UnknownType {
        /// The type.
        event: String,
    },
    /// Fields that the type needs are missing.
    #[error("`{event}` needs {}: {} is missing", listed(needed), listed(missing))]
    Missing {
        /// The type.
        event: String,
        /// All fields that it needs.
        needed: &'static [EventField],
        /// Those that are missing.
        missing: Vec<EventField>,
    },
    /// The type does not have the field.
    #[error("`{event}` does not take {field}; `--set` gives it any other field")]
    NotTaken {
        /// The type.
        event: String,
        /// The field.
        field: EventField,
    },
    /// A user or directory does not have the state.
    #[error("unknown state `{state}`: the state of a {subject} is one of {}", known.join(", "))]
    UnknownState {
        /// The state.
        state: String,
        /// `user` or `directory`.
        subject: &'static str,
        /// The states that it may have.
        known: &'static [&'static str],
    },
    /// The way to an extra field leads through a value that has no fields.
    #[error("`{field}` cannot be set: `{parent}` is not an object")]
    NotAnObject {
        /// The extra field.
        field: String,
        /// The value on the way to it.
        parent: String,
    },
}

fn listed(fields: &[EventField]) -> String {
    fields.iter().map(EventField::to_string).collect::<Vec<_>>().join(", ")
}

/// Lists the types of dsync without their prefix.
fn dsync_types() -> String {
    let types: Vec<&str> =
        EventType::ALL.iter().filter_map(|event| event.name().strip_prefix("dsync.")).collect();
    match types.split_last() {
        Some((last, rest)) => format!("{} and {last}", rest.join(", ")),
        None => String::new(),
    }
}

/// The fields that a type of event has.
struct EventFields {
    needed: &'static [EventField],
    optional: &'static [EventField],
}

impl EventFields {
    const NONE: EventFields = EventFields { needed: &[], optional: &[] };

    fn of(event: EventType) -> EventFields {
        use EventField::{Directory, Email, Group, Name, Organization, State, User};
        let (needed, optional): (&[EventField], &[EventField]) = match event {
            EventType::DirectoryActivated
            | EventType::DirectoryDeactivated
            | EventType::DirectoryDeleted => (&[Directory], &[Organization, Name, State]),
            EventType::UserCreated | EventType::UserUpdated => {
                (&[User, Directory], &[Organization, Email, Name, State])
            }
            EventType::UserDeleted => (&[User], &[Directory, Organization, Email, Name, State]),
            EventType::GroupCreated | EventType::GroupUpdated => {
                (&[Group, Directory], &[Organization, Name])
            }
            EventType::GroupDeleted => (&[Group], &[Directory, Organization, Name]),
            EventType::MemberAdded | EventType::MemberRemoved => {
                (&[User, Group, Directory], &[Organization, Email, State])
            }
            EventType::TokenCreated | EventType::TokenRevoked => (&[Directory], &[Organization]),
            own_event_type!() => return EventFields::NONE,
        };
        EventFields { needed, optional }
    }

    fn has(&self, field: EventField) -> bool {
        self.needed.contains(&field) || self.optional.contains(&field)
    }
}

impl EventPlan {
    /// Makes the event. Its id is that of `now` and `entropy`.
    ///
    /// # Errors
    /// If the type is unknown, needs a field that is missing, or does not take one that is given.
    pub fn forge(&self, now: Millis, entropy: u128) -> Result<Forged, ForgeError> {
        let event = EventType::parse(&self.event);
        self.check_fields(event)?;
        let mut data = match event {
            Some(event) => self.data(event, now, entropy)?,
            None => json!({}),
        };
        for ExtraField { path, value } in &self.extra {
            set(&mut data, path, value.clone())?;
        }
        let id = webhook::id("event", now, entropy);
        Ok(Forged { body: webhook::body(&id, &self.event, self.at, data), id })
    }

    fn check_fields(&self, event: Option<EventType>) -> Result<(), ForgeError> {
        let name = || self.event.clone();
        let fields = match event {
            Some(event) => EventFields::of(event),
            None if self.event.starts_with("dsync.") => {
                return Err(ForgeError::UnknownType { event: name() });
            }
            None => EventFields::NONE,
        };
        let missing: Vec<EventField> =
            fields.needed.iter().copied().filter(|field| self.field(*field).is_none()).collect();
        if !missing.is_empty() {
            return Err(ForgeError::Missing { event: name(), needed: fields.needed, missing });
        }
        let mut given = EventField::ALL.into_iter().filter(|field| self.field(*field).is_some());
        match given.find(|field| !fields.has(*field)) {
            Some(field) => Err(ForgeError::NotTaken { event: name(), field }),
            None => Ok(()),
        }
    }

    fn field(&self, field: EventField) -> Option<&String> {
        match field {
            EventField::User => self.user.as_ref(),
            EventField::Group => self.group.as_ref(),
            EventField::Directory => self.directory.as_ref(),
            EventField::Organization => self.organization.as_ref(),
            EventField::Email => self.email.as_ref(),
            EventField::Name => self.name.as_ref(),
            EventField::State => self.state.as_ref(),
        }
    }

    fn data(&self, event: EventType, now: Millis, entropy: u128) -> Result<Value, ForgeError> {
        Ok(match event {
            EventType::DirectoryActivated => to_value(self.directory("active")?),
            EventType::DirectoryDeactivated => to_value(self.directory("inactive")?),
            EventType::DirectoryDeleted => to_value(Directory {
                external_key: None,
                domains: None,
                ..self.directory("deleting")?
            }),
            EventType::UserCreated => to_value(self.user("active")?),
            EventType::UserUpdated => {
                to_value(User { previous_attributes: Some(json!({})), ..self.user("active")? })
            }
            EventType::UserDeleted => to_value(self.user("inactive")?),
            EventType::GroupCreated | EventType::GroupDeleted => to_value(self.group()),
            EventType::GroupUpdated => {
                to_value(Group { previous_attributes: Some(json!({})), ..self.group() })
            }
            EventType::MemberAdded | EventType::MemberRemoved => to_value(Membership {
                directory_id: text(&self.directory),
                user: self.user("active")?,
                group: self.group(),
            }),
            EventType::TokenCreated | EventType::TokenRevoked => self.token(now, entropy),
            own_event_type!() => json!({}),
        })
    }

    fn directory(&self, usual_state: &str) -> Result<Directory, ForgeError> {
        Ok(Directory {
            object: "directory",
            id: text(&self.directory),
            organization_id: text(&self.organization),
            external_key: Some(String::new()),
            kind: "generic scim v2.0".into(),
            state: self.state("directory", usual_state, &DIRECTORY_STATES)?,
            name: text(&self.name),
            created_at: timestamp(self.at),
            updated_at: timestamp(self.at),
            domains: Some(Vec::new()),
        })
    }

    fn user(&self, usual_state: &str) -> Result<User, ForgeError> {
        let (first, last) =
            self.name.as_deref().map(|name| name.split_once(' ').unwrap_or((name, ""))).unzip();
        Ok(User {
            object: "directory_user",
            id: text(&self.user),
            directory_id: text(&self.directory),
            organization_id: text(&self.organization),
            idp_id: String::new(),
            email: self.email.clone(),
            first_name: first.map(str::to_owned),
            last_name: last.filter(|last| !last.is_empty()).map(str::to_owned),
            name: self.name.clone(),
            emails: self.email.as_deref().map(Email::work).unwrap_or_default(),
            job_title: None,
            username: None,
            state: self.state("user", usual_state, &USER_STATES)?,
            raw_attributes: Empty {},
            custom_attributes: Map::new(),
            created_at: timestamp(self.at),
            updated_at: timestamp(self.at),
            previous_attributes: None,
        })
    }

    fn group(&self) -> Group {
        Group {
            object: "directory_group",
            id: text(&self.group),
            idp_id: String::new(),
            directory_id: text(&self.directory),
            organization_id: text(&self.organization),
            name: text(&self.name),
            raw_attributes: Empty {},
            created_at: timestamp(self.at),
            updated_at: timestamp(self.at),
            previous_attributes: None,
        }
    }

    fn token(&self, now: Millis, entropy: u128) -> Value {
        json!({
            "object": "directory_token",
            "id": webhook::id("directory_token", now, entropy),
            "directory_id": self.directory,
            "organization_id": text(&self.organization),
            "token_suffix": "",
            "created_at": timestamp(self.at),
        })
    }

    fn state(
        &self,
        subject: &'static str,
        usual: &str,
        known: &'static [&'static str],
    ) -> Result<String, ForgeError> {
        match &self.state {
            None => Ok(usual.into()),
            Some(state) if known.contains(&state.as_str()) => Ok(state.clone()),
            Some(state) => Err(ForgeError::UnknownState { state: state.clone(), subject, known }),
        }
    }
}

fn text(value: &Option<String>) -> String {
    value.clone().unwrap_or_default()
}

fn to_value(data: impl Serialize) -> Value {
    // Text keys and plain values always serialize.
    serde_json::to_value(data).unwrap_or_default()
}

/// Puts `value` at the end of `path`. Objects that are missing on the way are created.
fn set(data: &mut Value, path: &[String], value: Value) -> Result<(), ForgeError> {
    let mut place = data;
    for (depth, key) in path.iter().enumerate() {
        let Value::Object(fields) = place else {
            let parent = path.get(..depth).unwrap_or_default().join(".");
            return Err(ForgeError::NotAnObject { field: path.join("."), parent });
        };
        place = fields.entry(key).or_insert_with(|| json!({}));
    }
    *place = value;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Millis = 1_767_600_000_000;
    const AT: &str = "2026-01-05T08:00:00.000Z";

    /// Makes the event of a line such as `dsync.user.deleted --user u`.
    fn forge(line: &str) -> Result<Value, String> {
        let mut words = line.split(' ').filter(|word| !word.is_empty());
        let mut plan =
            EventPlan { event: words.next().unwrap().into(), at: NOW, ..EventPlan::default() };
        while let Some(flag) = words.next() {
            let value = words.next().unwrap().to_owned();
            match flag {
                "--user" => plan.user = Some(value),
                "--group" => plan.group = Some(value),
                "--directory" => plan.directory = Some(value),
                "--organization" => plan.organization = Some(value),
                "--email" => plan.email = Some(value),
                "--name" => plan.name = Some(value),
                "--state" => plan.state = Some(value),
                "--set" => plan.extra.push(value.parse()?),
                "--at" => plan.at = value.parse().unwrap(),
                _ => panic!("{flag}"),
            }
        }
        let forged = plan.forge(NOW, 7).map_err(|error| error.to_string())?;
        Ok(serde_json::from_str(&forged.body).unwrap())
    }

    fn user(state: &str) -> Value {
        json!({
            "object": "directory_user", "id": "u", "directory_id": "d", "organization_id": "o",
            "idp_id": "", "email": "a@b.example",
            "first_name": "Ada", "last_name": null, "name": "Ada",
            "emails": [{"primary": true, "type": "work", "value": "a@b.example"}],
            "job_title": null, "username": null, "state": state,
            "raw_attributes": {}, "custom_attributes": {}, "created_at": AT, "updated_at": AT,
        })
    }

    #[test]
    fn every_event_has_all_keys_of_its_shape() {
        let everything = "--user u --directory d --organization o --email a@b.example --name Ada";
        let group = json!({
            "object": "directory_group", "id": "g", "idp_id": "", "directory_id": "d",
            "organization_id": "o", "name": "Devs",
            "raw_attributes": {}, "created_at": AT, "updated_at": AT,
        });
        let directory = json!({
            "object": "directory", "id": "d", "organization_id": "o", "external_key": "",
            "type": "generic scim v2.0", "state": "active",
            "name": "Corp", "created_at": AT, "updated_at": AT, "domains": [],
        });
        let with = |mut value: Value, key: &str, other: Value| {
            value[key] = other;
            value
        };
        let deleted = json!({
            "object": "directory", "id": "d", "organization_id": "o", "type": "generic scim v2.0",
            "state": "deleting", "name": "Corp",
            "created_at": AT, "updated_at": AT,
        });
        let token = json!({
            "object": "directory_token", "id": "directory_token_01KE6JQ3000000000000000007",
            "directory_id": "d", "organization_id": "",
            "token_suffix": "", "created_at": AT,
        });
        let member = ["email", "first_name", "name"]
            .iter()
            .fold(user("active"), |user, key| with(user, key, Value::Null));
        let membership = json!({
            "directory_id": "d",
            "user": with(member, "emails", json!([])),
            "group": with(group.clone(), "name", json!("")),
        });
        let table = [
            ("dsync.activated --directory d --organization o --name Corp", directory.clone()),
            (
                "dsync.deactivated --directory d --organization o --name Corp",
                with(directory, "state", json!("inactive")),
            ),
            ("dsync.deleted --directory d --organization o --name Corp", deleted),
            (&format!("dsync.user.created {everything}"), user("active")),
            (
                &format!("dsync.user.updated {everything} --state inactive"),
                with(user("inactive"), "previous_attributes", json!({})),
            ),
            (&format!("dsync.user.deleted {everything}"), user("inactive")),
            (
                "dsync.group.created --group g --directory d --organization o --name Devs",
                group.clone(),
            ),
            (
                "dsync.group.updated --group g --directory d --organization o --name Devs",
                with(group.clone(), "previous_attributes", json!({})),
            ),
            ("dsync.group.deleted --group g --directory d --organization o --name Devs", group),
            (
                "dsync.group.user_added --user u --group g --directory d --organization o",
                membership.clone(),
            ),
            (
                "dsync.group.user_removed --user u --group g --directory d --organization o",
                membership,
            ),
            ("dsync.token.created --directory d", token.clone()),
            ("dsync.token.revoked --directory d", token),
            ("connection.activated --set id=conn_1 --set n=2", json!({"id": "conn_1", "n": 2})),
        ];
        for (line, data) in table {
            let event = line.split(' ').next();
            let expected = json!({
                "object": "event", "id": "event_01KE6JQ3000000000000000007", "event": event,
                "data": data, "created_at": AT, "context": {},
            });
            assert_eq!(forge(line).unwrap(), expected, "{line}");
        }
    }

    #[test]
    fn an_error_names_the_flag_that_is_missing_or_not_taken() {
        let table = [
            (
                "dsync.group.user_added --user u",
                "`dsync.group.user_added` needs --user, --group, --directory: --group, --directory \
                 is missing",
            ),
            (
                "dsync.user.created --user u",
                "`dsync.user.created` needs --user, --directory: --directory is missing",
            ),
            ("dsync.user.deleted", "`dsync.user.deleted` needs --user: --user is missing"),
            (
                "dsync.group.deleted --group g --email e",
                "`dsync.group.deleted` does not take --email; `--set` gives it any other field",
            ),
            (
                "organization.created --name x",
                "`organization.created` does not take --name; `--set` gives it any other field",
            ),
            (
                "dsync.user.created --user u --directory d --state gone",
                "unknown state `gone`: the state of a user is one of active, inactive, suspended",
            ),
            (
                "dsync.user.delete --user u",
                "unknown type `dsync.user.delete`; dsync has activated, deactivated, deleted, \
                 user.created, user.updated, user.deleted, group.created, group.updated, \
                 group.deleted, group.user_added, group.user_removed, token.created and \
                 token.revoked",
            ),
            (
                "dsync.user.deleted --user u --set id.x=1",
                "`id.x` cannot be set: `id` is not an object",
            ),
            ("dsync.user.deleted --user u --set idp_id", "it must be a field, `=`, and a value"),
            ("dsync.user.deleted --user u --set a..b=1", "a part of the field's name is empty"),
        ];
        for (line, expected) in table {
            let message = forge(line).unwrap_err();
            assert!(message.contains(expected), "{line}: {message}");
        }
    }

    #[test]
    fn an_extra_field_is_json_if_it_parses_and_replaces_what_is_there() {
        let line = "dsync.group.user_removed --user u --group g --directory d --at 1767222000000 \
                    --set user.idp_id=x=y --set user.custom_attributes.department.name=Sales \
                    --set user.custom_attributes.level=3 --set group.name=\"7\"";
        let body = forge(line).unwrap();
        assert_eq!(body["created_at"], "2025-12-31T23:00:00.000Z");
        assert_eq!(body["data"]["user"]["idp_id"], "x=y");
        assert_eq!(
            body["data"]["user"]["custom_attributes"],
            json!({"department": {"name": "Sales"}, "level": 3})
        );
        assert_eq!(body["data"]["group"]["name"], "7");
        assert_eq!(body["id"], "event_01KE6JQ3000000000000000007", "the id is of now");
    }
}
