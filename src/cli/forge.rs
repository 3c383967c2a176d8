//! `rollcall send --forge`: one event, made of what the command line says about it.

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use rollcall_projections::Millis;
use serde_json::{Map, Value, json};

use super::Failure;
use super::webhook::{self, Directory, Domain, Email, Empty, Group, Membership, User};
use crate::time;

const USER_STATES: [&str; 3] = ["active", "inactive", "suspended"];
const DIRECTORY_STATES: [&str; 5] =
    ["active", "inactive", "validating", "invalid_credentials", "deleting"];

/// The event to make.
#[derive(Args)]
#[command(next_help_heading = "One made event")]
pub(super) struct Forge {
    /// Send one event of this type instead of reading any: `dsync.user.deleted`, or a type outside
    /// dsync. An event carries all there is to know of its subject: what is not given is empty
    #[arg(long = "forge", value_name = "TYPE", value_parser = NonEmptyStringValueParser::new())]
    event: Option<String>,
    /// The user's id
    #[arg(long, value_name = "ID", requires = "event", value_parser = NonEmptyStringValueParser::new())]
    user: Option<String>,
    /// The group's id
    #[arg(long, value_name = "ID", requires = "event", value_parser = NonEmptyStringValueParser::new())]
    group: Option<String>,
    /// The directory's id
    #[arg(long, value_name = "ID", requires = "event", value_parser = NonEmptyStringValueParser::new())]
    directory: Option<String>,
    /// The organization's id
    #[arg(long, value_name = "ID", requires = "event", value_parser = NonEmptyStringValueParser::new())]
    organization: Option<String>,
    /// The user's address
    #[arg(long, requires = "event")]
    email: Option<String>,
    /// The name of the directory, group or user; a user's is split at its first space
    #[arg(long, requires = "event")]
    name: Option<String>,
    /// The state of the user (active, inactive, suspended) or of the directory
    #[arg(long, requires = "event")]
    state: Option<String>,
    /// One more field of the event's `data`: JSON if it can be read as such, else text; dots lead
    /// inwards, as in custom_attributes.department=Sales or, of a membership, user.idp_id=1. May be
    /// given several times
    #[arg(long = "set", value_name = "FIELD=VALUE", requires = "event", value_parser = setting)]
    settings: Vec<Setting>,
    /// When it happened: RFC 3339; now without it
    #[arg(long, value_name = "TIME", requires = "event", value_parser = moment)]
    at: Option<Millis>,
    /// Print the event's body instead of posting it
    #[arg(long, requires = "event")]
    pub(super) print: bool,
}

/// A field of `data`, as the way to it, and its value.
#[derive(Clone)]
struct Setting {
    path: Vec<String>,
    value: Value,
}

fn setting(text: &str) -> Result<Setting, String> {
    let (path, value) = text.split_once('=').ok_or("it must be a field, `=`, and a value")?;
    let path: Vec<String> = path.split('.').map(str::to_owned).collect();
    if path.iter().any(String::is_empty) {
        return Err("a part of the field's name is empty".into());
    }
    Ok(Setting { path, value: serde_json::from_str(value).unwrap_or_else(|_| value.into()) })
}

fn moment(text: &str) -> Result<Millis, String> {
    time::parse(text).ok_or_else(|| "it must be a time like 2026-01-15T12:00:00.000Z".into())
}

/// An event's id and body.
pub(super) struct Forged {
    pub(super) id: String,
    pub(super) body: String,
}

/// Which flags a type cannot do without, and which others it takes.
fn flags(event: &str) -> Result<(&'static [&'static str], &'static [&'static str]), Failure> {
    Ok(match event {
        "dsync.activated" | "dsync.deactivated" | "dsync.deleted" => {
            (&["--directory"], &["--organization", "--name", "--state"])
        }
        "dsync.user.created" | "dsync.user.updated" => {
            (&["--user", "--directory"], &["--organization", "--email", "--name", "--state"])
        }
        "dsync.user.deleted" => {
            (&["--user"], &["--directory", "--organization", "--email", "--name", "--state"])
        }
        "dsync.group.created" | "dsync.group.updated" => {
            (&["--group", "--directory"], &["--organization", "--name"])
        }
        "dsync.group.deleted" => (&["--group"], &["--directory", "--organization", "--name"]),
        "dsync.group.user_added" | "dsync.group.user_removed" => {
            (&["--user", "--group", "--directory"], &["--organization", "--email", "--state"])
        }
        "dsync.token.created" | "dsync.token.revoked" => (&["--directory"], &["--organization"]),
        other if !other.starts_with("dsync.") => (&[], &[]),
        unknown => {
            return Err(Failure::Caller(format!(
                "there is no type `{unknown}`: dsync has activated, deactivated, deleted, user.created, user.updated, user.deleted, group.created, \
                 group.updated, group.deleted, group.user_added, group.user_removed, token.created and token.revoked"
            )));
        }
    })
}

impl Forge {
    /// The event asked for; `None` if none is. `now` and `entropy` make its id.
    pub(super) fn forged(&self, now: Millis, entropy: u128) -> Result<Option<Forged>, Failure> {
        let Some(event) = &self.event else { return Ok(None) };
        self.check_flags(event)?;
        let at = self.at.unwrap_or(now);
        let mut data = self.data(event, at, now, entropy)?;
        for Setting { path, value } in &self.settings {
            set(&mut data, path, value.clone())?;
        }
        let id = webhook::id("event", now, entropy);
        Ok(Some(Forged { body: webhook::body(&id, event, at, data), id }))
    }

    fn check_flags(&self, event: &str) -> Result<(), Failure> {
        let (needed, taken) = flags(event)?;
        let given = [
            ("--user", &self.user),
            ("--group", &self.group),
            ("--directory", &self.directory),
            ("--organization", &self.organization),
            ("--email", &self.email),
            ("--name", &self.name),
            ("--state", &self.state),
        ];
        let given: Vec<&str> =
            given.into_iter().filter(|(_, value)| value.is_some()).map(|(flag, _)| flag).collect();
        let missing: Vec<&str> =
            needed.iter().copied().filter(|flag| !given.contains(flag)).collect();
        if !missing.is_empty() {
            let (needed, missing) = (needed.join(", "), missing.join(", "));
            return Err(Failure::Caller(format!("`{event}` needs {needed}: {missing} is missing")));
        }
        match given.into_iter().find(|flag| !needed.contains(flag) && !taken.contains(flag)) {
            Some(flag) => Err(Failure::Caller(format!(
                "`{event}` takes no {flag}; `--set` gives it any other field"
            ))),
            None => Ok(()),
        }
    }

    fn data(&self, event: &str, at: Millis, now: Millis, entropy: u128) -> Result<Value, Failure> {
        let data = match event {
            "dsync.activated" => serde_json::to_value(self.directory("active", at)?),
            "dsync.deactivated" => serde_json::to_value(self.directory("inactive", at)?),
            "dsync.deleted" => serde_json::to_value(Directory {
                external_key: None,
                domains: None,
                ..self.directory("deleting", at)?
            }),
            "dsync.user.created" => serde_json::to_value(self.user("active", at)?),
            "dsync.user.updated" => serde_json::to_value(User {
                previous_attributes: Some(json!({})),
                ..self.user("active", at)?
            }),
            "dsync.user.deleted" => serde_json::to_value(self.user("inactive", at)?),
            "dsync.group.created" | "dsync.group.deleted" => serde_json::to_value(self.group(at)),
            "dsync.group.updated" => serde_json::to_value(Group {
                previous_attributes: Some(json!({})),
                ..self.group(at)
            }),
            "dsync.group.user_added" | "dsync.group.user_removed" => {
                let (user, group) = (self.user("active", at)?, self.group(at));
                serde_json::to_value(Membership {
                    directory_id: text(&self.directory),
                    user,
                    group,
                })
            }
            "dsync.token.created" | "dsync.token.revoked" => Ok(json!({
                "object": "directory_token", "id": webhook::id("directory_token", now, entropy), "directory_id": self.directory,
                "organization_id": text(&self.organization), "token_suffix": "", "created_at": time::format(at),
            })),
            _ => Ok(json!({})),
        };
        data.map_err(Failure::ours)
    }

    fn directory(&self, state: &str, at: Millis) -> Result<Directory, Failure> {
        Ok(Directory {
            object: "directory",
            id: text(&self.directory),
            organization_id: text(&self.organization),
            external_key: Some(String::new()),
            kind: "generic scim v2.0".into(),
            state: self.state("directory", state, &DIRECTORY_STATES)?,
            name: text(&self.name),
            created_at: time::format(at),
            updated_at: time::format(at),
            domains: Some(Vec::<Domain>::new()),
        })
    }

    fn user(&self, state: &str, at: Millis) -> Result<User, Failure> {
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
            state: self.state("user", state, &USER_STATES)?,
            raw_attributes: Empty {},
            custom_attributes: Map::new(),
            created_at: time::format(at),
            updated_at: time::format(at),
            previous_attributes: None,
        })
    }

    fn group(&self, at: Millis) -> Group {
        // Of a membership, `--name` is nobody's.
        Group {
            object: "directory_group",
            id: text(&self.group),
            idp_id: String::new(),
            directory_id: text(&self.directory),
            organization_id: text(&self.organization),
            name: text(&self.name),
            raw_attributes: Empty {},
            created_at: time::format(at),
            updated_at: time::format(at),
            previous_attributes: None,
        }
    }

    fn state(&self, whose: &str, usual: &str, known: &[&str]) -> Result<String, Failure> {
        match self.state.as_deref() {
            None => Ok(usual.into()),
            Some(state) if known.contains(&state) => Ok(state.into()),
            Some(state) => Err(Failure::Caller(format!(
                "the state of a {whose} is one of {}, not `{state}`",
                known.join(", ")
            ))),
        }
    }
}

fn text(value: &Option<String>) -> String {
    value.clone().unwrap_or_default()
}

/// Puts `value` at the end of `path`; objects on the way are made if they are missing.
fn set(data: &mut Value, path: &[String], value: Value) -> Result<(), Failure> {
    let mut place = data;
    for (depth, key) in path.iter().enumerate() {
        let Value::Object(fields) = place else {
            let parent = path.get(..depth).unwrap_or_default().join(".");
            return Err(Failure::Caller(format!(
                "`{}` cannot be set: `{parent}` is no object",
                path.join(".")
            )));
        };
        place = fields.entry(key).or_insert_with(|| json!({}));
    }
    *place = value;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        forge: Forge,
    }

    const NOW: Millis = 1_767_600_000_000;
    const AT: &str = "2026-01-05T08:00:00.000Z";

    fn forge(line: &str) -> Result<Value, String> {
        let arguments = ["rollcall", "--forge"].into_iter().chain(line.split_whitespace());
        let forge = Line::try_parse_from(arguments).map_err(|error| error.to_string())?.forge;
        match forge.forged(NOW, 7) {
            Ok(forged) => Ok(serde_json::from_str(&forged.unwrap().body).unwrap()),
            Err(Failure::Caller(message)) => Err(message),
            Err(failure) => panic!("{failure:?}"),
        }
    }

    fn user(state: &str) -> Value {
        json!({
            "object": "directory_user", "id": "u", "directory_id": "d", "organization_id": "o", "idp_id": "", "email": "a@b.example",
            "first_name": "Ada", "last_name": null, "name": "Ada",
            "emails": [{"primary": true, "type": "work", "value": "a@b.example"}], "job_title": null, "username": null, "state": state,
            "raw_attributes": {}, "custom_attributes": {}, "created_at": AT, "updated_at": AT,
        })
    }

    #[test]
    fn an_event_has_every_key_of_its_shape() {
        let everything = "--user u --directory d --organization o --email a@b.example --name Ada";
        let group = json!({
            "object": "directory_group", "id": "g", "idp_id": "", "directory_id": "d", "organization_id": "o", "name": "Devs",
            "raw_attributes": {}, "created_at": AT, "updated_at": AT,
        });
        let directory = json!({
            "object": "directory", "id": "d", "organization_id": "o", "external_key": "", "type": "generic scim v2.0", "state": "active",
            "name": "Corp", "created_at": AT, "updated_at": AT, "domains": [],
        });
        let with = |mut value: Value, key: &str, other: Value| {
            value[key] = other;
            value
        };
        let deleted = json!({
            "object": "directory", "id": "d", "organization_id": "o", "type": "generic scim v2.0", "state": "deleting", "name": "Corp",
            "created_at": AT, "updated_at": AT,
        });
        let token = json!({
            "object": "directory_token", "id": "directory_token_01KE6JQ3000000000000000007", "directory_id": "d", "organization_id": "",
            "token_suffix": "", "created_at": AT,
        });
        let member = ["email", "first_name", "name"]
            .iter()
            .fold(user("active"), |user, key| with(user, key, Value::Null));
        let membership = json!({"directory_id": "d", "user": with(member, "emails", json!([])), "group": with(group.clone(), "name", json!(""))});
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
                "object": "event", "id": "event_01KE6JQ3000000000000000007", "event": event, "data": data, "created_at": AT, "context": {},
            });
            assert_eq!(forge(line).unwrap(), expected, "{line}");
        }
    }

    #[test]
    fn a_type_says_which_flag_is_missing_and_which_it_does_not_take() {
        let table = [
            (
                "dsync.group.user_added --user u",
                "`dsync.group.user_added` needs --user, --group, --directory: --group, --directory is missing",
            ),
            (
                "dsync.user.created --user u",
                "`dsync.user.created` needs --user, --directory: --directory is missing",
            ),
            ("dsync.user.deleted", "`dsync.user.deleted` needs --user: --user is missing"),
            (
                "dsync.group.deleted --group g --email e",
                "`dsync.group.deleted` takes no --email; `--set` gives it any other field",
            ),
            (
                "organization.created --name x",
                "`organization.created` takes no --name; `--set` gives it any other field",
            ),
            (
                "dsync.user.created --user u --directory d --state gone",
                "the state of a user is one of active, inactive, suspended, not `gone`",
            ),
            ("dsync.user.delete --user u", "there is no type `dsync.user.delete`"),
            ("dsync.user.deleted --user u --set id.x=1", "`id.x` cannot be set: `id` is no object"),
            ("dsync.user.deleted --user u --set idp_id", "it must be a field, `=`, and a value"),
            ("dsync.user.deleted --user u --set a..b=1", "a part of the field's name is empty"),
            ("dsync.user.deleted --user u --at yesterday", "it must be a time like"),
        ];
        for (line, expected) in table {
            let message = forge(line).unwrap_err();
            assert!(message.contains(expected), "{line}: {message}");
        }
    }

    #[test]
    fn a_setting_is_json_if_it_can_be_and_finds_its_place() {
        let line = "dsync.group.user_removed --user u --group g --directory d --at 2026-01-01T00:00:00+01:00 --set user.idp_id=x=y \
                    --set user.custom_attributes.department.name=Sales --set user.custom_attributes.level=3 --set group.name=\"7\"";
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
