//! The bodies of the records of a change: the request itself, and the members that it changed.

use rollcall_projections::Millis;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::members::{Came, Left};
use crate::json::push_string;
use crate::scim::{Document, Kind, Redacted};
use crate::time;

/// The most entries of a kind in one record of members.
const ENTRIES_MAX: usize = 4096;

/// A change as its record names it.
pub(super) struct RequestRecord<'a> {
    pub(super) id: &'a str,
    pub(super) occurred_at: Millis,
    pub(super) directory: &'a str,
    pub(super) organization: &'a str,
    pub(super) token: &'a str,
    pub(super) method: &'a str,
    pub(super) path: &'a str,
    pub(super) user_agent: &'a str,
    pub(super) status: u16,
    pub(super) body: Option<&'a Redacted>,
    pub(super) kind: Kind,
    pub(super) resource: &'a str,
    /// The living directory user or group that the resource is then.
    pub(super) object: Option<&'a str>,
    pub(super) active: bool,
    pub(super) created_at: Millis,
    /// `None` after a deletion.
    pub(super) document: Option<&'a Document>,
}

/// Writes JSON objects.
struct Writer(Vec<u8>);

impl Writer {
    fn raw(&mut self, text: &str) {
        self.0.extend_from_slice(text.as_bytes());
    }

    fn text(&mut self, text: &str) {
        push_string(&mut self.0, text);
    }

    /// Writes the key and the value of a field, after a comma.
    fn field(&mut self, key: &str, value: &str) {
        self.raw(",\"");
        self.raw(key);
        self.raw("\":");
        self.text(value);
    }

    fn raw_field(&mut self, key: &str, value: &str) {
        self.raw(",\"");
        self.raw(key);
        self.raw("\":");
        self.raw(value);
    }

    fn finish(self) -> String {
        String::from_utf8(self.0).unwrap_or_default()
    }

    /// Begins an event, up to the fields of its data.
    fn begin(
        id: &str,
        event: &str,
        occurred_at: Millis,
        directory: &str,
        organization: &str,
    ) -> Writer {
        let mut out = Writer(Vec::new());
        out.raw(r#"{"object":"event""#);
        out.field("id", id);
        out.field("event", event);
        out.field("created_at", &time::format(occurred_at));
        out.raw(r#","context":{},"data":{"directory_id":"#);
        out.text(directory);
        out.field("organization_id", organization);
        out
    }
}

impl RequestRecord<'_> {
    /// Writes the body of the record. The request's body is in it byte for byte, but for passwords
    /// and the white space around it.
    pub(super) fn body(&self) -> String {
        let event = "rollcall.scim.request";
        let mut out =
            Writer::begin(self.id, event, self.occurred_at, self.directory, self.organization);
        out.field("token_id", self.token);
        out.field("method", self.method);
        out.field("path", self.path);
        out.field("user_agent", self.user_agent);
        out.raw_field("status", &self.status.to_string());
        out.raw_field("body", self.body.map_or("null", |body| body.body.as_str()));
        let places = self.body.map_or(&[][..], |body| &body.places);
        out.raw_field("redacted", &json!(places).to_string());
        out.raw(r#","resource":{"type":"#);
        out.text(self.kind.name());
        out.field("id", self.resource);
        let object = match self.kind {
            Kind::User => "directory_user_id",
            Kind::Group => "directory_group_id",
        };
        out.raw_field(object, &json!(self.object).to_string());
        out.field("state", if self.active { "active" } else { "inactive" });
        out.field("created_at", &time::format(self.created_at));
        let document = self.document.map(Document::text);
        out.raw_field("document", document.as_deref().unwrap_or("null"));
        out.raw("}}}");
        out.finish()
    }
}

/// The records of members of one request.
pub(super) struct MembersRecords<'a> {
    pub(super) request_id: &'a str,
    pub(super) occurred_at: Millis,
    pub(super) directory: &'a str,
    pub(super) organization: &'a str,
    pub(super) group: &'a str,
}

impl MembersRecords<'_> {
    /// Writes the bodies of the records. Their ids are a pure function of the request.
    pub(super) fn bodies(&self, added: &[Came], removed: &[Left]) -> Vec<String> {
        let count = added.len().max(removed.len()).div_ceil(ENTRIES_MAX);
        let part = |number: usize| {
            let (from, to) = (number * ENTRIES_MAX, (number + 1) * ENTRIES_MAX);
            let added = added.get(from.min(added.len())..to.min(added.len()));
            let removed = removed.get(from.min(removed.len())..to.min(removed.len()));
            self.body(number, added.unwrap_or_default(), removed.unwrap_or_default())
        };
        (0..count).map(part).collect()
    }

    fn body(&self, number: usize, added: &[Came], removed: &[Left]) -> String {
        let id = derived_id(self.request_id, self.occurred_at, number);
        let event = "rollcall.scim.members";
        let mut out =
            Writer::begin(&id, event, self.occurred_at, self.directory, self.organization);
        out.field("request_id", self.request_id);
        out.field("group", self.group);
        out.raw(r#","added":["#);
        for (at, came) in added.iter().enumerate() {
            out.raw(if at == 0 { r#"{"value":"# } else { r#",{"value":"# });
            out.text(&came.member.value);
            if let Some(kind) = came.member.kind {
                out.field("type", kind.name());
            }
            if let Some(display) = &came.member.display {
                out.field("display", display);
            }
            out.raw("}");
        }
        out.raw(r#"],"removed":["#);
        for (at, left) in removed.iter().enumerate() {
            out.raw(if at == 0 { "" } else { "," });
            out.text(&left.id.to_string());
        }
        out.raw("]}}");
        out.finish()
    }
}

/// Returns the id of a record that follows from a request.
fn derived_id(request_id: &str, occurred_at: Millis, number: usize) -> String {
    let mut digest = Sha256::new();
    digest.update(request_id);
    digest.update(b"rollcall.scim.members");
    digest.update((number as u64).to_be_bytes());
    let digest: [u8; 32] = digest.finalize().into();
    let random = digest.first_chunk::<10>().copied().unwrap_or_default();
    let millis = u64::try_from(occurred_at).unwrap_or(0);
    let id = uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid();
    format!("op_{id}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scim::Member;
    use serde_json::Value;

    #[test]
    fn a_request_has_its_body_byte_for_byte() {
        let body = Redacted {
            body: r#"{ "b":1.0,"a" :"é","password":"redacted"}"#.into(),
            places: vec!["/password".into()],
        };
        let document = Document::parse(r#"{"userName":"a"}"#).unwrap();
        let record = RequestRecord {
            id: "op_1",
            occurred_at: 0,
            directory: "directory_1",
            organization: "org_1",
            token: "directory_token_1",
            method: "PUT",
            path: "/Users/u",
            user_agent: "a \"client\"",
            status: 200,
            body: Some(&body),
            kind: Kind::User,
            resource: "u",
            object: None,
            active: false,
            created_at: 0,
            document: Some(&document),
        };
        assert_eq!(
            record.body(),
            r#"{"object":"event","id":"op_1","event":"rollcall.scim.request","created_at":"#
                .to_owned()
                + r#""1970-01-01T00:00:00.000Z","context":{},"data":{"directory_id":"directory_1","#
                + r#""organization_id":"org_1","token_id":"directory_token_1","method":"PUT","#
                + r#""path":"/Users/u","user_agent":"a \"client\"","status":200,"#
                + r#""body":{ "b":1.0,"a" :"é","password":"redacted"},"redacted":["/password"],"#
                + r#""resource":{"type":"User","id":"u","directory_user_id":null,"#
                + r#""state":"inactive","created_at":"1970-01-01T00:00:00.000Z","#
                + r#""document":{"userName":"a"}}}}"#
        );
        let deleted = RequestRecord { body: None, document: None, object: Some("d"), ..record };
        let deleted: Value = serde_json::from_str(&deleted.body()).unwrap();
        assert_eq!(deleted["data"]["body"], Value::Null);
        assert_eq!(deleted["data"]["resource"]["document"], Value::Null);
        assert_eq!(deleted["data"]["resource"]["directory_user_id"], "d");
    }

    #[test]
    fn members_are_in_as_many_records_as_they_need() {
        let records = MembersRecords {
            request_id: "op_1",
            occurred_at: 1_700_000_000_000,
            directory: "d",
            organization: "o",
            group: "g",
        };
        let came = |number: usize| Came {
            member: Member { value: number.to_string(), kind: None, display: None },
            object: None,
        };
        let added: Vec<Came> = (0..4097).map(came).collect();
        let removed = [Left { id: rollcall_projections::ScimId(1), object: None }];
        let bodies: Vec<Value> = records
            .bodies(&added, &removed)
            .iter()
            .map(|body| serde_json::from_str(body).unwrap())
            .collect();
        let counts = |key: &str| -> Vec<usize> {
            bodies.iter().map(|body| body["data"][key].as_array().unwrap().len()).collect()
        };
        assert_eq!((counts("added"), counts("removed")), (vec![4096, 1], vec![1, 0]));
        assert_eq!(bodies[1]["data"]["added"][0], json!({ "value": "4096" }));
        assert_ne!(bodies[0]["id"], bodies[1]["id"]);
        let again = records.bodies(&added, &removed);
        assert_eq!(again.len(), 2);
        assert!(records.bodies(&[], &[]).is_empty());
    }
}
