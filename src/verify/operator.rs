//! The acts of operators, who hold API keys. An act is recorded as an event; the fingerprint of the
//! API key is its author, with the key's name if it has one.

use bytes::Bytes;
use hmac::Mac;
use rollcall_projections::{Deactivation, EventType, InactiveUsers, Mapping, Millis};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::signature::{KEY_ID_BYTES, mac_of};
use super::{Proof, Source, Verified, mapping_json};
use crate::keys::Operator;
use crate::{json, time};

/// An act of an operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// `rollcall.policy.set`
    PolicySet {
        /// The treatment of users whose state is not active.
        inactive_users: InactiveUsers,
        /// The moment of effect, in `occurred_at`; by default the moment of the act.
        effective_from: Option<Millis>,
    },
    /// `rollcall.mapping.set`
    MappingSet {
        /// The rules.
        mapping: Mapping,
        /// The moment of effect, in `occurred_at`; by default the moment of the act.
        effective_from: Option<Millis>,
    },
    /// `rollcall.directory.deleted`
    DirectoryDeleted {
        /// The directory.
        id: String,
        /// The earliest moment at which it occurs.
        not_before: Millis,
    },
    /// `rollcall.directory.created`
    DirectoryCreated(HostedDirectory),
    /// `rollcall.directory_token.created`
    TokenCreated(HostedToken),
    /// `rollcall.directory_token.revoked`
    TokenRevoked(HostedToken),
    /// The event of directory sync that tells consumers of the act before it.
    Told(Told),
    /// `rollcall.link.set`
    LinkSet {
        /// The application's id of its user.
        app_user: String,
        /// The directory user.
        user: String,
        /// The directory that the user is in.
        directory: String,
    },
    /// `rollcall.link.removed`
    LinkRemoved {
        /// The application's id of its user.
        app_user: String,
        /// The directory user.
        user: String,
        /// The directory of the link.
        directory: String,
    },
    /// `rollcall.checkpoint_key.changed`
    CheckpointKeyChanged {
        /// The public key that signed checkpoints until then.
        from: String,
        /// The public key that signs them from then on.
        to: String,
    },
}

/// A directory that identity providers push into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostedDirectory {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its organization.
    pub organization: String,
    /// Its type, such as `okta scim v2.0`.
    pub directory_type: String,
    /// The treatment of users whom the identity provider makes inactive.
    pub deactivation: Deactivation,
    /// When it was created; `None` if that is now.
    pub created_at: Option<Millis>,
}

/// A token of such a directory, without its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostedToken {
    /// Its id.
    pub id: String,
    /// Its directory.
    pub directory: String,
    /// The organization of the directory.
    pub organization: String,
    /// Its last characters.
    pub suffix: String,
    /// SHA-256 of the whole token.
    pub sha256: [u8; 32],
    /// The moment from which on it is no longer taken.
    pub expires_at: Option<Millis>,
    /// When it was created; `None` if that is now.
    pub created_at: Option<Millis>,
}

/// An event of directory sync about a directory that Rollcall hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// `dsync.activated`
    Activated(HostedDirectory),
    /// `dsync.deleted`
    Deleted {
        /// The directory.
        directory: HostedDirectory,
        /// The earliest moment at which it occurs: that of the act.
        not_before: Millis,
    },
    /// `dsync.token.created`
    TokenCreated(HostedToken),
    /// `dsync.token.revoked`
    TokenRevoked(HostedToken),
}

impl Told {
    fn event_type(&self) -> EventType {
        match self {
            Told::Activated(_) => EventType::DirectoryActivated,
            Told::Deleted { .. } => EventType::DirectoryDeleted,
            Told::TokenCreated(_) => EventType::TokenCreated,
            Told::TokenRevoked(_) => EventType::TokenRevoked,
        }
    }

    /// Writes the event's `data`, in the shape of WorkOS. That of a deletion has no `updated_at`,
    /// by which it would come after the operator's act, which is the cause of what it ends.
    fn data(&self, recorded_at: Millis) -> Value {
        let moment = |at: Option<Millis>| time::format(at.unwrap_or(recorded_at));
        match self {
            Told::Activated(directory) => json!({
                "object": "directory",
                "id": directory.id,
                "organization_id": directory.organization,
                "external_key": "",
                "type": directory.directory_type,
                "state": "active",
                "name": directory.name,
                "domains": [],
                "created_at": moment(directory.created_at),
                "updated_at": time::format(recorded_at),
            }),
            Told::Deleted { directory, .. } => json!({
                "object": "directory",
                "id": directory.id,
                "organization_id": directory.organization,
                "type": directory.directory_type,
                "state": "active",
                "name": directory.name,
                "created_at": moment(directory.created_at),
            }),
            Told::TokenCreated(token) | Told::TokenRevoked(token) => json!({
                "object": "directory_token",
                "id": token.id,
                "directory_id": token.directory,
                "organization_id": token.organization,
                "token_suffix": token.suffix,
                "created_at": moment(token.created_at),
            }),
        }
    }
}

impl Act {
    /// Returns the type of the event that records the act.
    fn event_type(&self) -> EventType {
        match self {
            Act::PolicySet { .. } => EventType::PolicySet,
            Act::MappingSet { .. } => EventType::MappingSet,
            Act::DirectoryDeleted { .. } => EventType::OperatorDirectoryDeleted,
            Act::DirectoryCreated(_) => EventType::OperatorDirectoryCreated,
            Act::TokenCreated(_) => EventType::OperatorTokenCreated,
            Act::TokenRevoked(_) => EventType::OperatorTokenRevoked,
            Act::Told(told) => told.event_type(),
            Act::LinkSet { .. } => EventType::LinkSet,
            Act::LinkRemoved { .. } => EventType::LinkRemoved,
            Act::CheckpointKeyChanged { .. } => EventType::CheckpointKeyChanged,
        }
    }

    /// Makes the id of the event that records the act.
    fn new_id(&self, recorded_at: Millis) -> Result<String, getrandom::Error> {
        match self {
            Act::Told(_) => new_ulid("event_", recorded_at),
            _ => own_id("op_", recorded_at),
        }
    }

    /// Returns the moment at which the act occurs: `recorded_at`, or the earliest one that it
    /// allows.
    fn occurs_at(&self, recorded_at: Millis) -> Millis {
        match self {
            Act::DirectoryDeleted { not_before, .. }
            | Act::Told(Told::Deleted { not_before, .. }) => recorded_at.max(*not_before),
            Act::PolicySet { .. }
            | Act::MappingSet { .. }
            | Act::DirectoryCreated(_)
            | Act::TokenCreated(_)
            | Act::TokenRevoked(_)
            | Act::Told(_)
            | Act::LinkSet { .. }
            | Act::LinkRemoved { .. }
            | Act::CheckpointKeyChanged { .. } => recorded_at,
        }
    }

    /// Writes the event's `data`.
    fn data(&self, recorded_at: Millis, note: Option<&str>) -> Value {
        let effective = |from: Option<Millis>| time::format(from.unwrap_or(recorded_at));
        match self {
            Act::PolicySet { inactive_users, effective_from } => json!({
                "object": "policy",
                "inactive_users": inactive_users.word(),
                "effective_from": effective(*effective_from),
                "note": note,
            }),
            Act::MappingSet { mapping, effective_from } => json!({
                "object": "role_mapping",
                "mapping": mapping_json(mapping),
                "effective_from": effective(*effective_from),
                "note": note,
            }),
            Act::DirectoryDeleted { id, .. } => {
                json!({ "object": "directory", "id": id, "note": note })
            }
            Act::DirectoryCreated(directory) => json!({
                "object": "directory",
                "directory_id": directory.id,
                "organization_id": directory.organization,
                "deactivation": directory.deactivation.word(),
                "note": note,
            }),
            Act::TokenCreated(token) => json!({
                "object": "directory_token",
                "id": token.id,
                "directory_id": token.directory,
                "token_suffix": token.suffix,
                "expires_at": token.expires_at.map(time::format),
                "sha256": hex::encode(token.sha256),
                "note": note,
            }),
            Act::TokenRevoked(token) => json!({
                "object": "directory_token",
                "id": token.id,
                "directory_id": token.directory,
                "token_suffix": token.suffix,
                "note": note,
            }),
            Act::Told(told) => told.data(recorded_at),
            Act::LinkSet { app_user, user, directory }
            | Act::LinkRemoved { app_user, user, directory } => json!({
                "object": "link",
                "app_user_id": app_user,
                "directory_user_id": user,
                "directory_id": directory,
                "note": note,
            }),
            Act::CheckpointKeyChanged { from, to } => {
                json!({ "object": "checkpoint_key", "from": from, "to": to, "note": note })
            }
        }
    }
}

/// Returns the id of a key of `ROLLCALL_API_KEYS`, which does not reveal the key.
pub fn api_key_id(key: &str) -> [u8; KEY_ID_BYTES] {
    let mut mac = mac_of(key);
    mac.update(b"rollcall: name of this API key");
    let name: [u8; 32] = mac.finalize().into_bytes().into();
    let mut id = [0; KEY_ID_BYTES];
    id.iter_mut().zip(name).for_each(|(to, from)| *to = from);
    id
}

/// Returns the fingerprint of a key as it is shown.
pub fn key_name(key_id: [u8; KEY_ID_BYTES]) -> String {
    format!("key_{}", hex::encode(key_id))
}

/// Returns the author of an act as it is shown: the fingerprint of the key, after the key's name if
/// it has one.
pub fn author_name(key_id: [u8; KEY_ID_BYTES], body: &[u8]) -> String {
    let [_, name] = actor(body);
    let fingerprint = key_name(key_id);
    match json::string(name) {
        Some(name) => format!("{name} ({fingerprint})"),
        None => fingerprint,
    }
}

/// Reads the id and the name of the actor in the body of an act.
fn actor(body: &[u8]) -> [Option<&RawValue>; 2] {
    let context = std::str::from_utf8(body).ok().and_then(|text| json::fields(text, ["context"]));
    let [actor] =
        json::fields_of(context.and_then(|[context]| context), ["actor"]).unwrap_or_default();
    json::fields_of(actor, ["id", "name"]).unwrap_or_default()
}

/// Returns true if the body of an act names this key as its author, as every act must.
pub(crate) fn names_author(key_id: [u8; KEY_ID_BYTES], body: &[u8]) -> bool {
    let [id, _] = actor(body);
    json::string(id).is_some_and(|id| id == key_name(key_id))
}

/// Returns a new id of a record that Rollcall writes: `prefix` and a UUID of version 7.
///
/// # Errors
/// If the operating system has no random bytes.
pub(crate) fn own_id(prefix: &str, recorded_at: Millis) -> Result<String, getrandom::Error> {
    let mut random = [0; 10];
    getrandom::fill(&mut random)?;
    let millis = u64::try_from(recorded_at).unwrap_or(0);
    let id = uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid();
    Ok(format!("{prefix}{id}"))
}

/// Returns a new id in the form of WorkOS: `prefix` and a ULID of a moment.
///
/// # Errors
/// If the operating system has no random bytes.
pub(crate) fn new_ulid(prefix: &str, at: Millis) -> Result<String, getrandom::Error> {
    let mut random = [0; 10];
    getrandom::fill(&mut random)?;
    Ok(format!("{prefix}{}", crate::ulid::of(at, random)))
}

impl Verified {
    /// Writes the body of an operator's act that is recorded at `recorded_at`.
    ///
    /// # Errors
    /// If the operating system has no random bytes for its id.
    pub fn operator(
        operator: &Operator,
        act: &Act,
        note: Option<&str>,
        recorded_at: Millis,
    ) -> Result<Verified, getrandom::Error> {
        let id = act.new_id(recorded_at)?;
        let occurred_at = act.occurs_at(recorded_at);
        let key = operator.key();
        let body = json!({
            "object": "event",
            "id": id,
            "event": act.event_type().name(),
            "data": act.data(recorded_at, note),
            "created_at": time::format(occurred_at),
            "context": {
                "actor": { "id": key.fingerprint(), "source": "api", "name": key.name },
            },
        });
        let body = Bytes::from(body.to_string());
        let proof = Proof::Operator { key_id: key.key_id };
        Ok(Verified::proven(Source::Rollcall, proof, body))
    }

    /// Takes an event from a file that an operator imports: `body` is one event in the exact bytes
    /// of the file. The operator's key vouches for it, and no signature.
    pub fn imported(operator: &Operator, body: Bytes) -> Verified {
        let proof = Proof::Imported { key_id: operator.key().key_id };
        Verified::proven(Source::Workos, proof, body)
    }
}
