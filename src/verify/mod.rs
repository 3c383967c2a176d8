//! From bytes to proof: what enters the log has passed through here.
//!
//! [`Verified`] is the only thing that a log appends, and each variant of [`Proof`] is made by
//! exactly one function of this module.

mod attributes;
mod extract;
mod mapping;
mod operator;
mod signature;

pub use attributes::AttributeReader;
use bytes::Bytes;
pub use extract::{
    Extracted, FACTS_VERSION, Facts, Statement, email_fingerprint, extract, extract_from, identical,
};
pub(crate) use extract::{first_domain, shown_email};
pub use mapping::{MappingError, mapping_json, parse_mapping};
pub(crate) use operator::names_author;
pub use operator::{Act, ApiKeys, KEY_CHANGED, Operator, key_name};
use rollcall_projections::Millis;
pub use signature::{KEY_ID_BYTES, Keyring, Rejection, SECRETS_MAX};

/// Where events come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// WorkOS Directory Sync.
    Workos,
    /// This server's own operators.
    Rollcall,
}

impl Source {
    /// The name that receipts carry.
    pub fn name(self) -> &'static str {
        match self {
            Source::Workos => "workos",
            Source::Rollcall => "rollcall",
        }
    }
}

/// Why a body is believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// A webhook's signature. Never the secret, only which one.
    Webhook {
        /// The signature's time, in milliseconds, as sent.
        t: Millis,
        /// HMAC-SHA256 over `t.body`.
        v1: [u8; 32],
        /// Which secret verified it.
        key_id: [u8; KEY_ID_BYTES],
    },
    /// An API key, held by whoever did it.
    Operator {
        /// Which key.
        key_id: [u8; KEY_ID_BYTES],
    },
}

/// A body whose authenticity is proven, with what it states.
#[derive(Clone, Debug)]
pub struct Verified {
    source: Source,
    proof: Proof,
    event_id: Option<String>,
    event_type: Option<String>,
    facts: Vec<u8>,
    body: Bytes,
}

impl Verified {
    /// Verifies a webhook: `header` is the value of `WorkOS-Signature`, `body` the raw bytes
    /// received, `now_ms` our clock.
    ///
    /// # Errors
    /// The first thing that is wrong: no header, a malformed one, no signature that fits, a time
    /// too far from ours.
    pub fn webhook(
        keyring: &Keyring,
        header: Option<&[u8]>,
        body: Bytes,
        now_ms: Millis,
    ) -> Result<Verified, Rejection> {
        let proof = keyring.verify(header, &body, now_ms)?;
        let extracted = extract_from(&proof, &body);
        let facts = extracted.facts.encode();
        let (event_id, event_type) =
            (extracted.event_id.map(Into::into), extracted.event_type.map(Into::into));
        Ok(Verified { source: Source::Workos, proof, event_id, event_type, facts, body })
    }

    /// Where it came from.
    pub fn source(&self) -> Source {
        self.source
    }

    /// Why it is believed.
    pub fn proof(&self) -> &Proof {
        &self.proof
    }

    /// The source's id, if the body has a usable one.
    pub fn event_id(&self) -> Option<&str> {
        self.event_id.as_deref()
    }

    /// The event's type, if the body has one.
    pub fn event_type(&self) -> Option<&str> {
        self.event_type.as_deref()
    }

    /// What the body states, encoded: see [`Facts`].
    pub fn facts(&self) -> &[u8] {
        &self.facts
    }

    /// The raw bytes that were signed.
    pub fn body(&self) -> &Bytes {
        &self.body
    }
}
