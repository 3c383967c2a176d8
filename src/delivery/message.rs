//! Webhooks as they are sent: the body, and the headers with a signature for each attempt.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD as BASE64};
use hmac::{Hmac, KeyInit, Mac};
use rollcall_projections::Millis;
use serde_json::value::RawValue;
use sha2::Sha256;
use ureq::http::{HeaderName, HeaderValue};

use super::canonical::as_javascript;
use crate::engine::FeedPlace;
use crate::json::{fields, fields_of, push_string, string};
use crate::percent;
use crate::time;

/// Reads secrets: their padding may be left out.
const SECRETS: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The prefix of a secret of Standard Webhooks.
const SECRET_PREFIX: &str = "whsec_";

/// The form of webhooks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The events of WorkOS, with its signature.
    Workos,
    /// Standard Webhooks.
    Standard,
}

impl Format {
    /// Every format.
    pub const ALL: [Format; 2] = [Format::Workos, Format::Standard];

    /// Returns its word.
    pub fn word(self) -> &'static str {
        match self {
            Format::Workos => "workos",
            Format::Standard => "standard",
        }
    }
}

/// What signs the webhooks of an endpoint.
#[derive(Clone, PartialEq, Eq)]
pub struct Signer {
    format: Format,
    key: zeroize::Zeroizing<Vec<u8>>,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Signer of {:?}", self.format)
    }
}

impl Signer {
    /// Makes a signer of a secret.
    ///
    /// # Errors
    /// The end of a sentence, if the format has no such secrets.
    pub fn new(format: Format, secret: &str) -> Result<Signer, &'static str> {
        let key = match format {
            Format::Workos => secret.as_bytes().to_vec(),
            Format::Standard => {
                let encoded = secret.strip_prefix(SECRET_PREFIX);
                let key = encoded.and_then(|encoded| SECRETS.decode(encoded).ok());
                key.filter(|key| !key.is_empty()).ok_or(
                    "must be `whsec_` and Base64 for the format `standard`, such as what `echo \
                     whsec_$(openssl rand -base64 32)` prints",
                )?
            }
        };
        Ok(Signer { format, key: key.into() })
    }

    /// Returns the format.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Returns a name of the secret that does not reveal it.
    pub fn fingerprint(&self) -> String {
        let digest = self.mac(&[b"rollcall fingerprint of a secret"]);
        hex::encode(digest.get(..8).unwrap_or_default())
    }

    /// Returns the HMAC-SHA256 of some parts with dots between them.
    fn mac(&self, parts: &[&[u8]]) -> Vec<u8> {
        // A key of any length is taken.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.key) else { return Vec::new() };
        for (at, part) in parts.iter().enumerate() {
            if at > 0 {
                mac.update(b".");
            }
            mac.update(part);
        }
        mac.finalize().into_bytes().to_vec()
    }
}

/// A webhook that can be sent again and again.
#[derive(Debug)]
pub(super) struct Message {
    id: String,
    /// `seq`, or `seq.n` for a consequence; empty for a webhook that is not of the log.
    place: String,
    body: Vec<u8>,
    /// The things that it is about, as fingerprints: at least one.
    pub(super) subjects: Vec<u64>,
}

impl Message {
    /// Makes the webhook of an event in the shape of the Events API; `None` if it has another one.
    /// It is about the subjects `about`, or else about those that the event names.
    pub(super) fn new(
        signer: &Signer,
        place: Option<FeedPlace>,
        json: &[u8],
        about: Option<Vec<u64>>,
    ) -> Option<Message> {
        let text = std::str::from_utf8(json).ok()?;
        let [id, event, data, created_at] = fields(text, ["id", "event", "data", "created_at"])?;
        let (id, event) = (string(id)?, string(event)?);
        let body = match signer.format {
            Format::Workos => as_javascript(text)?,
            Format::Standard => {
                let mut body = br#"{"type":"#.to_vec();
                push_string(&mut body, &event);
                body.extend(br#","timestamp":"#);
                push_string(&mut body, &string(created_at)?);
                body.extend(br#","data":"#);
                body.extend(data?.get().bytes());
                body.push(b'}');
                body
            }
        };
        let place = match place {
            None => String::new(),
            Some(FeedPlace { seq, item: 0 }) => seq.to_string(),
            Some(place) => place.to_string(),
        };
        let subjects = about.unwrap_or_else(|| {
            let mut subjects = subjects(&event, data);
            if subjects.is_empty() {
                // It is about nothing that is known, so it waits for no other.
                subjects.push(fingerprint("event", &id));
            }
            subjects
        });
        Some(Message { subjects, id: header_text(&id), place, body })
    }

    /// Returns its body.
    pub(super) fn body(&self) -> &[u8] {
        &self.body
    }

    /// Returns its headers, signed for a moment.
    pub(super) fn headers(&self, signer: &Signer, now: Millis) -> Vec<(HeaderName, HeaderValue)> {
        let mut headers = vec![("content-type", "application/json".to_owned())];
        if !self.place.is_empty() {
            headers.push(("rollcall-seq", self.place.clone()));
        }
        match signer.format {
            Format::Workos => {
                let v1 = signer.mac(&[now.to_string().as_bytes(), &self.body]);
                headers.push(("workos-signature", format!("t={now}, v1={}", hex::encode(v1))));
            }
            Format::Standard => {
                let seconds = now.div_euclid(1000).to_string();
                let v1 = signer.mac(&[self.id.as_bytes(), seconds.as_bytes(), &self.body]);
                headers.push(("webhook-id", self.id.clone()));
                headers.push(("webhook-timestamp", seconds));
                headers.push(("webhook-signature", format!("v1,{}", BASE64.encode(v1))));
            }
        }
        let valid = headers.into_iter().filter_map(|(name, value)| {
            Some((HeaderName::from_static(name), HeaderValue::from_str(&value).ok()?))
        });
        valid.collect()
    }
}

/// Returns an id as a header can carry it.
fn header_text(id: &str) -> String {
    if id.bytes().all(|byte| byte.is_ascii_graphic()) {
        id.to_owned()
    } else {
        percent::encoded(id).to_string()
    }
}

/// Returns the users, groups and directories that an event is about. Webhooks about the same are sent
/// in order.
fn subjects(event: &str, data: Option<&RawValue>) -> Vec<u64> {
    let id_in = |value: Option<&RawValue>, name| {
        let [id] = fields_of(value, [name]).unwrap_or_default();
        string(id).map(std::borrow::Cow::into_owned)
    };
    let about = match event {
        "dsync.group.user_added" | "dsync.group.user_removed" => {
            let [user, group] = fields_of(data, ["user", "group"]).unwrap_or_default();
            vec![("user", id_in(user, "id")), ("group", id_in(group, "id"))]
        }
        _ if event.starts_with("dsync.user.") => vec![("user", id_in(data, "id"))],
        _ if event.starts_with("dsync.group.") => vec![("group", id_in(data, "id"))],
        _ if event.starts_with("rollcall.") => vec![("user", id_in(data, "user_id"))],
        _ => {
            let directory = id_in(data, "directory_id").or_else(|| id_in(data, "id"));
            vec![("directory", directory)]
        }
    };
    about.into_iter().filter_map(|(kind, id)| Some(fingerprint(kind, &id?))).collect()
}

fn fingerprint(kind: &str, id: &str) -> u64 {
    xxhash_rust::xxh3::xxh3_64(format!("{kind}\0{id}").as_bytes())
}

/// Returns the event of a test, which is in no log.
pub(super) fn test_event(name: &str, now: Millis) -> Vec<u8> {
    let mut json = br#"{"object":"event","id":"#.to_vec();
    push_string(&mut json, &format!("test_{}", uuid::Uuid::new_v4()));
    json.extend(br#","event":"rollcall.test","data":{"endpoint":"#);
    push_string(&mut json, name);
    json.extend(br#"},"created_at":"#);
    push_string(&mut json, &time::format(now));
    json.extend(br#","context":{}}"#);
    json
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENT: &[u8] = br#"{"object":"event","id":"event_1","event":"dsync.user.created","data":{"id":"u1", "n":1.0},"created_at":"2026-01-15T12:00:00.000Z","context":{}}"#;

    fn header(headers: &[(HeaderName, HeaderValue)], name: &str) -> String {
        let found = headers.iter().find(|(header, _)| header == name);
        found.map(|(_, value)| value.to_str().unwrap().to_owned()).unwrap_or_default()
    }

    #[test]
    fn the_vector_of_standard_webhooks_is_signed_as_its_authors_do() {
        // From the test vectors of the reference libraries.
        let signer =
            Signer::new(Format::Standard, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let message = Message {
            id: "msg_p5jXN8AQM9LWM0D4loKWxJek".into(),
            place: String::new(),
            body: br#"{"test": 2432232314}"#.to_vec(),
            subjects: Vec::new(),
        };
        let headers = message.headers(&signer, 1_614_265_330_999);
        let signature = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        assert_eq!(header(&headers, "webhook-signature"), signature);
        assert_eq!(header(&headers, "webhook-timestamp"), "1614265330");
        assert_eq!(header(&headers, "rollcall-seq"), "");
    }

    #[test]
    fn each_format_has_its_body_and_headers() {
        let place = FeedPlace { seq: 12, item: 0 };
        let workos = Signer::new(Format::Workos, "secret").unwrap();
        let message = Message::new(&workos, Some(place), EVENT, None).unwrap();
        let body = std::str::from_utf8(message.body()).unwrap();
        assert!(body.contains(r#""data":{"id":"u1","n":1}"#), "{body}");
        let headers = message.headers(&workos, 1000);
        let signed = rollcall_generator::sign("secret", 1000, message.body());
        assert_eq!(header(&headers, "workos-signature"), signed);
        assert_eq!(header(&headers, "rollcall-seq"), "12");

        let standard = Signer::new(Format::Standard, "whsec_c2VjcmV0").unwrap();
        let place = FeedPlace { seq: 12, item: 3 };
        let message = Message::new(&standard, Some(place), EVENT, None).unwrap();
        let body = r#"{"type":"dsync.user.created","timestamp":"2026-01-15T12:00:00.000Z","data":{"id":"u1", "n":1.0}}"#;
        assert_eq!(std::str::from_utf8(message.body()).unwrap(), body);
        let headers = message.headers(&standard, 1000);
        assert_eq!(header(&headers, "rollcall-seq"), "12.3");
        assert_eq!(header(&headers, "webhook-id"), "event_1");
    }

    #[test]
    fn an_id_that_no_header_can_carry_is_percent_encoded() {
        assert_eq!(header_text("event_1"), "event_1");
        assert_eq!(header_text("a b\né"), "a%20b%0A%C3%A9");
    }

    #[test]
    fn only_secrets_in_base64_are_of_standard_webhooks() {
        for secret in ["secret", "whsec_", "whsec_%%", "c2VjcmV0"] {
            assert!(Signer::new(Format::Standard, secret).is_err(), "{secret}");
        }
        for secret in ["whsec_c2VjcmV0", "whsec_c2VjcmV0cw==", "whsec_c2VjcmV0cw"] {
            assert!(Signer::new(Format::Standard, secret).is_ok(), "{secret}");
        }
    }

    #[test]
    fn events_about_the_same_user_have_a_subject_in_common() {
        let subjects = |event: &str, data: &str| {
            let data: Box<RawValue> = serde_json::from_str(data).unwrap();
            subjects(event, Some(&data))
        };
        let user = subjects("dsync.user.updated", r#"{"id":"u1"}"#);
        let member = r#"{"directory_id":"d","user":{"id":"u1"},"group":{"id":"g1"}}"#;
        let member = subjects("dsync.group.user_added", member);
        let group = subjects("dsync.group.deleted", r#"{"id":"g1"}"#);
        let ended = subjects("rollcall.access.ended", r#"{"user_id":"u1","id":"4.1"}"#);
        let directory = subjects("dsync.deleted", r#"{"id":"u1"}"#);
        assert_eq!(member, [user.clone(), group.clone()].concat());
        assert_eq!(ended, user);
        assert!(directory.len() == 1 && directory != user && group != user);
    }
}
