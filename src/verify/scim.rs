//! SCIM: what identity providers push into a directory, proven by one of its bearer tokens.

use bytes::Bytes;
use hmac::Mac;
use rollcall_projections::{EventType, ScimId, ScimKind};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use super::extract::{filled, id};
use super::facts::{Statement, StoredKeys, StoredRequest};
use super::signature::{KEY_ID_BYTES, mac_of};
use super::{Proof, Source, Verified};
use crate::hashes::fingerprint;
use crate::json::{self, Value};
use crate::scim::{Document, Keys};

/// The bearer token with which a request was authenticated, in the form in which proofs name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScimCredential {
    key_id: [u8; KEY_ID_BYTES],
    sha256: [u8; 32],
}

impl ScimCredential {
    /// Reads the token that a request presents.
    pub fn of(token: &str) -> ScimCredential {
        ScimCredential { key_id: scim_token_id(token), sha256: token_sha256(token) }
    }

    /// Reads the token that proves a record. Its digest is not known, so that it opens nothing; the
    /// records that are proven with it follow from that one.
    pub(crate) fn of_record(proof: &Proof) -> Option<ScimCredential> {
        let Proof::Scim { key_id } = *proof else { return None };
        Some(ScimCredential { key_id, sha256: [0; 32] })
    }

    /// Returns the SHA-256 of the token, by which the views know it.
    pub fn sha256(&self) -> &[u8; 32] {
        &self.sha256
    }
}

/// Returns the id of a token, which does not reveal it.
pub fn scim_token_id(token: &str) -> [u8; KEY_ID_BYTES] {
    let mut mac = mac_of(token);
    mac.update(b"rollcall: name of this SCIM token");
    let name: [u8; 32] = mac.finalize().into_bytes().into();
    let mut id = [0; KEY_ID_BYTES];
    id.iter_mut().zip(name).for_each(|(to, from)| *to = from);
    id
}

/// Returns the SHA-256 of a token.
pub fn token_sha256(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

impl Verified {
    /// Takes a record of SCIM: the request itself, its members or an event that it became, which a
    /// request with this token caused.
    pub fn scim(credential: &ScimCredential, body: Bytes) -> Verified {
        Verified::proven(Source::Scim, Proof::Scim { key_id: credential.key_id }, body)
    }
}

/// Returns true if a body that a token proves is a request of SCIM, or names the one that caused it,
/// as every one must.
pub(crate) fn names_request(body: &[u8]) -> bool {
    let text = std::str::from_utf8(body).ok();
    let read = text.and_then(|text| json::fields(text, ["id", "event", "data", "context"]));
    let Some([own_id, event, data, context]) = read else { return false };
    let is_own = |value: Option<&RawValue>| {
        json::string(value).is_some_and(|request| request.starts_with("op_"))
    };
    match json::string(event).as_deref().and_then(EventType::parse) {
        Some(EventType::ScimRequested) => is_own(own_id),
        Some(EventType::ScimMembersChanged) => {
            json::fields_of(data, ["request_id"]).is_some_and(|[request]| is_own(request))
        }
        Some(known) if !known.is_own() => json::fields_of(context, ["scim"])
            .and_then(|[scim]| json::fields_of(scim, ["request_id"]))
            .is_some_and(|[request]| is_own(request)),
        _ => false,
    }
}

/// Reads the data of a request: the resource as it is after it.
pub(super) fn request<'a>(data: Option<Value<'_, 'a>>) -> Option<Statement<'a>> {
    let names = ["directory_id", "organization_id", "resource"];
    let [directory, organization, resource] = data?.present_fields(names)?;
    let names = ["type", "id", "directory_user_id", "directory_group_id", "state", "document"];
    let [kind, own_id, user, group, state, document] = resource?.present_fields(names)?;
    let word = kind?.string()?;
    let kind = ScimKind::ALL.iter().position(|kind| kind.name() == word)?;
    Some(Statement::ScimRequest(Box::new(StoredRequest {
        directory: id(directory)?,
        organization: filled(organization),
        kind: kind as u8,
        id: ScimId::parse(&own_id?.string()?)?.0,
        object: id(user).or_else(|| id(group)),
        active: state.and_then(Value::string).is_none_or(|state| state == "active"),
        keys: document.map(keys),
    })))
}

/// Returns the fingerprints of the texts by which a resource is found in its document.
fn keys(document: Value<'_, '_>) -> StoredKeys {
    let keys = Document::parse(document.get()).map(|document| document.keys()).unwrap_or_default();
    let Keys { user_name, external_id, display_name, emails } = keys;
    let of = |text: String| fingerprint(&text).0;
    StoredKeys {
        user_name: user_name.map(of),
        display_name: display_name.map(of),
        external_id: external_id.map(of),
        emails: emails.into_iter().map(of).collect(),
    }
}

/// Reads the data of a change of members.
pub(super) fn members<'a>(data: Option<Value<'_, 'a>>) -> Option<Statement<'a>> {
    let names = ["directory_id", "group", "added", "removed"];
    let [directory, group, added, removed] = data?.present_fields(names)?;
    let uuid = |value: Option<Value<'_, '_>>| Some(ScimId::parse(&value?.string()?)?.0);
    let added = added.and_then(Value::elements).unwrap_or_default().into_iter();
    let removed = removed.and_then(Value::elements).unwrap_or_default().into_iter();
    Some(Statement::ScimMembers {
        directory: id(directory)?,
        group: uuid(group)?,
        added: added.filter_map(|one| uuid(one.present_fields(["value"])?[0])).collect(),
        removed: removed.filter_map(|one| uuid(Some(one))).collect(),
    })
}
