//! The source that is asked: events pulled from its list, and observations of its state.

use bytes::Bytes;
use rollcall_projections::{EventType, Millis};
use serde_json::json;
use serde_json::value::RawValue;

use super::operator::{api_key_id, own_id};
use super::signature::KEY_ID_BYTES;
use super::{Proof, Source, Verified};
use crate::{json, time};

/// The configured source, in the form in which proofs name it. TLS proves that it was the one that
/// answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    url: Box<str>,
    key_id: [u8; KEY_ID_BYTES],
}

impl Origin {
    /// Describes the source at `url`, without user information and query, that is asked with `key`.
    pub fn new(url: &str, key: &str) -> Origin {
        Origin { url: url.into(), key_id: api_key_id(key) }
    }

    /// Returns the fingerprint of the key with which it is asked.
    pub fn key_id(&self) -> [u8; KEY_ID_BYTES] {
        self.key_id
    }

    /// Returns its address.
    pub fn url(&self) -> &str {
        &self.url
    }
}

/// The thing about which the source was asked, and its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Observed {
    /// `rollcall.directory.observed`
    Directory {
        /// The directory.
        id: String,
        /// The source's object in its exact bytes; `None` if there is none.
        object: Option<String>,
    },
    /// `rollcall.user.observed`
    User {
        /// The user.
        id: String,
        /// The directory of the object if it names a usable one, else the listing's.
        directory: String,
        /// The source's object in its exact bytes, without its members `groups`; `None` if there is
        /// none.
        object: Option<String>,
    },
    /// `rollcall.group.observed`
    Group {
        /// The group.
        id: String,
        /// The directory of the object if it names a usable one, else the listing's.
        directory: String,
        /// The source's object in its exact bytes; `None` if there is none.
        object: Option<String>,
    },
    /// `rollcall.membership.observed`
    Membership {
        /// The user.
        user: String,
        /// The group.
        group: String,
        /// The group's directory.
        directory: String,
        /// True if the user is in the group.
        present: bool,
    },
}

/// One answer of the source about one thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    /// The thing and the answer.
    pub observed: Observed,
    /// Just before the request was sent whose answer decided, in milliseconds.
    pub observed_at: Millis,
    /// The id of the reconciliation, `run_` and a UUID.
    pub run: String,
}

impl Observed {
    /// Returns the type of the event that records it.
    pub fn event_type(&self) -> EventType {
        match self {
            Observed::Directory { .. } => EventType::DirectoryObserved,
            Observed::User { .. } => EventType::UserObserved,
            Observed::Group { .. } => EventType::GroupObserved,
            Observed::Membership { .. } => EventType::MembershipObserved,
        }
    }

    /// Returns true if the thing is there.
    pub fn is_present(&self) -> bool {
        match self {
            Observed::Directory { object, .. }
            | Observed::User { object, .. }
            | Observed::Group { object, .. } => object.is_some(),
            Observed::Membership { present, .. } => *present,
        }
    }

    /// Returns the fields of `data` that name the thing.
    fn ids(&self) -> Vec<(&'static str, &str)> {
        match self {
            Observed::Directory { id, .. } => vec![("id", id)],
            Observed::User { id, directory, .. } | Observed::Group { id, directory, .. } => {
                vec![("id", id), ("directory_id", directory)]
            }
            Observed::Membership { user, group, directory, .. } => {
                vec![("user_id", user), ("group_id", group), ("directory_id", directory)]
            }
        }
    }

    fn object(&self) -> Option<&str> {
        match self {
            Observed::Directory { object, .. }
            | Observed::User { object, .. }
            | Observed::Group { object, .. } => object.as_deref(),
            Observed::Membership { .. } => None,
        }
    }
}

impl Verified {
    /// Takes an event from the list of the source, which was asked at `pulled_at`: `body` is the
    /// item in its exact bytes.
    pub fn pulled(origin: &Origin, pulled_at: Millis, body: Bytes) -> Verified {
        let Origin { url, key_id } = origin.clone();
        Verified::proven(Source::Workos, Proof::Pulled { url, key_id, pulled_at }, body)
    }

    /// Writes the body of an observation that occurs at `effective_at` and is recorded at
    /// `recorded_at`.
    ///
    /// # Errors
    /// If the operating system has no random bytes for its id.
    pub fn observed(
        origin: &Origin,
        observation: &Observation,
        effective_at: Millis,
        recorded_at: Millis,
    ) -> Result<Verified, getrandom::Error> {
        let Observation { observed, observed_at, run } = observation;
        let id = own_id("obs_", recorded_at)?;
        let mut body = format!(
            r#"{{"object":"event","id":"{id}","event":"{}","created_at":"{}","data":{{"#,
            observed.event_type().name(),
            time::format(effective_at)
        );
        for (name, value) in observed.ids() {
            body.push_str(&format!(r#""{name}":{},"#, json!(value)));
        }
        body.push_str(&format!(
            r#""present":{},"observed_at":"{}","run":{},"source":{}"#,
            observed.is_present(),
            time::format(*observed_at),
            json!(run),
            json!(&*origin.url)
        ));
        if let Some(object) = observed.object() {
            body.push_str(r#","object":"#);
            body.push_str(object);
        }
        body.push_str("}}");
        let proof = origin.observed(*observed_at, run);
        Ok(Verified::proven(Source::Rollcall, proof, body.into()))
    }

    /// Writes the body of the record that ends the reconciliation `run`, which began at
    /// `started_at`: `data` are the fields of its data, among them `started_at` and
    /// `clean_directories`.
    pub fn reconciled(
        origin: &Origin,
        run: &str,
        started_at: Millis,
        data: &serde_json::Value,
        recorded_at: Millis,
    ) -> Verified {
        let body = json!({
            "object": "event",
            "id": run,
            "event": EventType::ReconciliationCompleted.name(),
            "created_at": time::format(recorded_at),
            "data": data,
        });
        let proof = origin.observed(started_at, run);
        Verified::proven(Source::Rollcall, proof, body.to_string().into())
    }
}

impl Origin {
    fn observed(&self, observed_at: Millis, run: &str) -> Proof {
        let Origin { url, key_id } = self.clone();
        Proof::Observed { url, key_id, observed_at, run: run.into() }
    }
}

/// Returns true if the body of an observation, or of the end of a reconciliation, names the source,
/// the moment and the run of its proof, as every one must.
pub(crate) fn names_origin(url: &str, observed_at: Millis, run: &str, body: &[u8]) -> bool {
    let text = std::str::from_utf8(body).ok();
    let read = text.and_then(|text| json::fields(text, ["id", "event", "data"]));
    let Some([id, event, data]) = read else { return false };
    let names = ["source", "observed_at", "run", "started_at"];
    let [source, own_observed_at, own_run, started_at] =
        json::fields_of(data, names).unwrap_or_default();
    let is = |value: Option<&RawValue>, text: &str| json::string(value).as_deref() == Some(text);
    let at = time::format(observed_at);
    match json::string(event).as_deref().and_then(EventType::parse) {
        Some(EventType::ReconciliationCompleted) => is(id, run) && is(started_at, &at),
        Some(known) if known.is_observation() => {
            let is_named = json::string(id).is_some_and(|id| id.starts_with("obs_"));
            is_named && is(source, url) && is(own_observed_at, &at) && is(own_run, run)
        }
        _ => false,
    }
}
