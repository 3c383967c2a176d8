//! Verification: every body in the log has passed through here.
//!
//! A log appends only [`Verified`] events, and exactly one function of this module makes each
//! variant of [`Proof`].

mod attributes;
mod comparison;
mod extract;
mod facts;
mod lines;
mod mapping;
mod operator;
mod origin;
mod salts;
mod scim;
mod signature;

use crate::hashes::{Hash, salted_digest};
#[cfg(test)]
pub(crate) use attributes::is_path;
pub use attributes::{ATTRIBUTE_PATH_PATTERN, AttributeReader};
use bytes::Bytes;
pub use comparison::{compared_name, email_fingerprint};
pub use extract::{Extracted, FACTS_SINCE, FACTS_VERSION, extract, extract_from, identical};
pub(crate) use extract::{filled, first_domain, id, is_active, is_of_another_kind, shown_email};
pub use facts::{Facts, Statement, Unusable};
pub use lines::{fault_of_line, not_an_event};
pub use mapping::{FieldCode, MappingError, mapping_json, parse_mapping};
pub use operator::{Act, HostedDirectory, HostedToken, Told, api_key_id, author_name, key_name};
pub(crate) use operator::{names_author, new_ulid, own_id};
pub(crate) use origin::names_origin;
pub use origin::{Observation, Observed, Origin};
use rollcall_projections::{Millis, Reason};
pub(crate) use scim::names_request;
pub use scim::{ScimCredential, scim_token_id, token_sha256};
pub use signature::{KEY_ID_BYTES, Keyring, PROBE_TIME, Rejection, SECRETS_MAX, SignatureHeader};

/// The origin of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// WorkOS Directory Sync.
    Workos,
    /// This server's own operators, and the source when it is asked.
    Rollcall,
    /// An identity provider that pushes into a directory of this server.
    Scim,
}

impl Source {
    /// Returns the source with this name in receipts.
    pub fn parse(name: &str) -> Option<Source> {
        let all = [Source::Workos, Source::Rollcall, Source::Scim];
        all.into_iter().find(|source| source.name() == name)
    }

    /// Returns the name in receipts.
    pub fn name(self) -> &'static str {
        match self {
            Source::Workos => "workos",
            Source::Rollcall => "rollcall",
            Source::Scim => "scim",
        }
    }
}

/// The proof that a body is authentic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// A webhook's signature. It names the secret and does not contain it.
    Webhook {
        /// The signature's time, in milliseconds, as sent.
        t: Millis,
        /// HMAC-SHA256 over `t.body`.
        v1: [u8; 32],
        /// The id of the secret that verified it.
        key_id: [u8; KEY_ID_BYTES],
    },
    /// The operator's API key.
    Operator {
        /// The id of the key.
        key_id: [u8; KEY_ID_BYTES],
    },
    /// The TLS connection to the configured source, whose list of events has these bytes.
    Pulled {
        /// The source, without user information and query.
        url: Box<str>,
        /// The id of the key with which it was asked.
        key_id: [u8; KEY_ID_BYTES],
        /// When the list was asked for, in milliseconds.
        pulled_at: Millis,
    },
    /// The TLS connection to the configured source, which answered so about one thing.
    Observed {
        /// The source, without user information and query.
        url: Box<str>,
        /// The id of the key with which it was asked.
        key_id: [u8; KEY_ID_BYTES],
        /// Just before the request was sent whose answer decided, in milliseconds.
        observed_at: Millis,
        /// The id of the reconciliation.
        run: Box<str>,
    },
    /// The API key of the operator who imported the event from a file.
    Imported {
        /// The id of the key.
        key_id: [u8; KEY_ID_BYTES],
    },
    /// The bearer token of the directory, with which an identity provider sent a request.
    Scim {
        /// The id of the token.
        key_id: [u8; KEY_ID_BYTES],
    },
}

impl Proof {
    /// Returns the word for the way in which the record came, in answers and output.
    pub fn word(&self) -> &'static str {
        match self {
            Proof::Webhook { .. } => "webhook",
            Proof::Operator { .. } => "operator",
            Proof::Pulled { .. } => "pulled",
            Proof::Observed { .. } => "observed",
            Proof::Imported { .. } => "imported",
            Proof::Scim { .. } => "scim",
        }
    }

    /// Returns true for an event that was pulled or imported. It is another rendering of what a
    /// webhook of the same id says, and so does not conflict with it.
    pub fn is_copy(&self) -> bool {
        match self {
            Proof::Pulled { .. } | Proof::Imported { .. } => true,
            Proof::Webhook { .. }
            | Proof::Operator { .. }
            | Proof::Observed { .. }
            | Proof::Scim { .. } => false,
        }
    }
}

/// A body whose authenticity is proven, with the facts that it states.
#[derive(Clone, Debug)]
pub struct Verified {
    source: Source,
    proof: Proof,
    event_id: Option<String>,
    event_type: Option<String>,
    facts: Vec<u8>,
    unusable_at_first: Option<Unusable>,
    salted: Option<Salted>,
    body: Bytes,
}

/// A salt for a body, and the digest of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Salted {
    pub(crate) salt: [u8; 16],
    pub(crate) digest: Hash,
}

impl Verified {
    /// Verifies a webhook: `header` is the value of `WorkOS-Signature`, `body` the raw bytes
    /// received, `now_ms` our clock.
    ///
    /// # Errors
    /// The first mistake: no header, a malformed one, no signature that fits, or a time too far
    /// from ours.
    pub fn webhook(
        keyring: &Keyring,
        header: Option<&[u8]>,
        body: Bytes,
        now_ms: Millis,
    ) -> Result<Verified, Rejection> {
        Verified::signed(keyring, &SignatureHeader::read(header)?, body, now_ms)
    }

    /// Verifies a webhook whose header was read before its body came.
    ///
    /// # Errors
    /// The first mistake: no signature that fits, or a time too far from ours.
    pub fn signed(
        keyring: &Keyring,
        header: &SignatureHeader,
        body: Bytes,
        now_ms: Millis,
    ) -> Result<Verified, Rejection> {
        let proof = keyring.verify(header, &body, now_ms)?;
        Ok(Verified::proven(Source::Workos, proof, body))
    }

    /// Reads the facts of a body whose proof holds.
    fn proven(source: Source, proof: Proof, body: Bytes) -> Verified {
        let extracted = extract_from(&proof, &body);
        let (facts, unusable_at_first) = (extracted.facts.encode(), extracted.facts.unusable());
        let (event_id, event_type) =
            (extracted.event_id.map(Into::into), extracted.event_type.map(Into::into));
        let salted = None;
        Verified { source, proof, event_id, event_type, facts, unusable_at_first, salted, body }
    }

    /// Makes the event of a record that a log has taken before, with the ids that it got then; empty
    /// ones are none. The caller vouches for the record by its leaf. `unusable_at_first` is why it
    /// could not be used then, if that is known.
    pub(crate) fn recorded(
        source: Source,
        proof: Proof,
        event_id: String,
        event_type: String,
        unusable_at_first: Option<Unusable>,
        body: Bytes,
    ) -> Verified {
        let mut extracted = extract_from(&proof, &body);
        // A body that was recorded without an id stays without effect.
        if event_id.is_empty() {
            extracted.facts.statement = Reason::NotAnEvent.into();
        }
        let facts = extracted.facts.encode();
        let unusable_at_first = unusable_at_first.or_else(|| extracted.facts.unusable());
        let has_empty_type = extracted.event_type.is_some_and(|own| own.is_empty());
        let event_type = Some(event_type).filter(|text| !text.is_empty() || has_empty_type);
        let event_id = Some(event_id).filter(|text| !text.is_empty());
        let salted = None;
        Verified { source, proof, event_id, event_type, facts, unusable_at_first, salted, body }
    }

    /// Draws the salt of its record and hashes the body with it, so that the thread that appends
    /// need not.
    ///
    /// # Errors
    /// If the operating system gives no random bytes.
    pub(crate) fn salt(&mut self) -> Result<(), getrandom::Error> {
        let salt = salts::draw()?;
        self.salted = Some(Salted { salt, digest: salted_digest(&salt, &self.body) });
        Ok(())
    }

    /// Returns the salt of its record, if it is drawn.
    pub(crate) fn salted(&self) -> Option<Salted> {
        self.salted
    }

    /// Returns its origin.
    pub fn source(&self) -> Source {
        self.source
    }

    /// Returns its proof.
    pub fn proof(&self) -> &Proof {
        &self.proof
    }

    /// Returns the source's id, if the body has a usable one.
    pub fn event_id(&self) -> Option<&str> {
        self.event_id.as_deref()
    }

    /// Returns the event's type, if the body has one.
    pub fn event_type(&self) -> Option<&str> {
        self.event_type.as_deref()
    }

    /// Returns the encoded facts that the body states: see [`Facts`].
    pub fn facts(&self) -> &[u8] {
        &self.facts
    }

    /// Returns why the body could not be used when it was recorded, if it could not.
    pub fn unusable_at_first(&self) -> Option<Unusable> {
        self.unusable_at_first
    }

    /// Returns the raw bytes that were signed.
    pub fn body(&self) -> &Bytes {
        &self.body
    }
}
