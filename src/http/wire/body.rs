//! The JSON body that an operator sends. Its fields are taken one by one, and all mistakes are
//! reported at once.

use std::borrow::Cow;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use actix_web::http::header::{CONTENT_ENCODING, HeaderValue};
use actix_web::{HttpRequest, web};
use bytes::{Bytes, BytesMut};
use futures_core::Stream;
use rollcall_projections::{Mapping, Millis, Seq};
use serde_json::{Map, Value};
use tokio::time::timeout;

use super::answer::{ANSWER_WITHIN, Code, FieldError, Problem};
use super::api::TEXT_CHARS_MAX;
use super::threads::blocking;
use crate::time;
use crate::verify::{FieldCode, MappingError, parse_mapping};

/// The largest body of an operator's request, in bytes.
const BODY_BYTES_MAX: usize = 1 << 20;

/// The longest note, in characters.
const NOTE_CHARS_MAX: usize = 1000;

/// The longest id, in bytes.
const ID_BYTES_MAX: usize = 255;

const ID_FORM: &str = "it must be a text of 1 to 255 bytes";
const OWN_ID_FORM: &str = "it must be a text of 1 to 255 bytes without control characters";

/// The most mistakes that are reported about the objects of an array.
const ERRORS_MAX: usize = 50;

/// The most bytes of all webhooks' bodies that are being read, or wait to be verified; and of all
/// operators' bodies.
const IN_FLIGHT_BYTES_MAX: usize = 64 << 20;

/// The part of these bytes that is kept for small bodies: a few large ones must not keep the events
/// of others out.
const SMALL_BYTES_RESERVED: usize = 16 << 20;

/// The most bytes of a small body.
const SMALL_BYTES_MAX: usize = 64 << 10;

/// Tells if a body is parsed in no time.
fn is_small(body: &BodyInFlight) -> bool {
    body.counted <= SMALL_BYTES_MAX
}

/// The bytes of bodies in flight: of those that are being read, or wait to be verified.
#[derive(Default)]
pub(crate) struct BodiesInFlight(Arc<AtomicUsize>);

/// A body, or the beginning of one, whose bytes count as in flight until it is dropped.
pub(crate) struct BodyInFlight {
    bytes: BytesMut,
    counted: usize,
    all: Arc<AtomicUsize>,
}

impl BodyInFlight {
    fn push(&mut self, chunk: &[u8], bytes_max: usize) -> Result<(), Code> {
        let length = self.bytes.len() + chunk.len();
        if length > bytes_max {
            return Err(Code::BodyTooLarge);
        }
        let reserved = if length > SMALL_BYTES_MAX { SMALL_BYTES_RESERVED } else { 0 };
        let before = self.all.fetch_add(chunk.len(), Ordering::Relaxed);
        self.counted += chunk.len();
        self.bytes.extend_from_slice(chunk);
        if before + chunk.len() + reserved > IN_FLIGHT_BYTES_MAX {
            return Err(Code::QueueFull);
        }
        Ok(())
    }

    fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Returns the bytes, which count as long as this lives.
    pub(crate) fn take(&mut self) -> Bytes {
        std::mem::take(&mut self.bytes).freeze()
    }
}

impl Drop for BodyInFlight {
    fn drop(&mut self) {
        self.all.fetch_sub(self.counted, Ordering::Relaxed);
    }
}

/// Refuses a body with a content encoding: bodies are taken as they are.
///
/// # Errors
/// 415.
pub(crate) fn must_be_plain(request: &HttpRequest) -> Result<(), Code> {
    let is_plain = |encoding: &HeaderValue| encoding.as_bytes().eq_ignore_ascii_case(b"identity");
    match request.headers().get_all(CONTENT_ENCODING).all(is_plain) {
        true => Ok(()),
        false => Err(Code::UnsupportedEncoding),
    }
}

impl BodiesInFlight {
    /// Reads a body whole.
    ///
    /// # Errors
    /// 413 over `bytes_max` bytes; 503 while too many bytes of all bodies are in flight.
    pub(crate) async fn read(
        &self,
        mut payload: web::Payload,
        bytes_max: usize,
    ) -> Result<BodyInFlight, Code> {
        let mut body = BodyInFlight { bytes: BytesMut::new(), counted: 0, all: self.0.clone() };
        loop {
            let chunk = poll_fn(|context| Pin::new(&mut payload).poll_next(context)).await;
            match chunk {
                Some(Ok(chunk)) => body.push(&chunk, bytes_max)?,
                // The sender left in the middle and does not see the answer.
                Some(Err(_)) => return Err(Code::LogUnavailable),
                None => return Ok(body),
            }
        }
    }
}

fn is_id(id: &str) -> bool {
    (1..=ID_BYTES_MAX).contains(&id.len())
}

/// Reads the body of an operator.
async fn read_in_time(
    payload: web::Payload,
    all: &BodiesInFlight,
) -> Result<BodyInFlight, Problem> {
    let read = timeout(ANSWER_WITHIN, all.read(payload, BODY_BYTES_MAX)).await;
    Ok(read.map_err(|_| Code::BodyTimeout)??)
}

/// The fields of a body. What is left at the end is unknown and refused.
pub(crate) struct Body {
    fields: Map<String, Value>,
    errors: Vec<FieldError>,
}

impl Body {
    /// Reads a body.
    ///
    /// # Errors
    /// 408 after five seconds; 413 over 1 MiB; 422 if it is not a JSON object.
    pub(crate) async fn of(payload: web::Payload, all: &BodiesInFlight) -> Result<Body, Problem> {
        Body::parse(read_in_time(payload, all).await?).await
    }

    /// Reads a body that may be left out: one without bytes has no fields.
    ///
    /// # Errors
    /// Those of [`Body::of`].
    pub(crate) async fn of_or_empty(
        payload: web::Payload,
        all: &BodiesInFlight,
    ) -> Result<Body, Problem> {
        let body = read_in_time(payload, all).await?;
        if body.is_empty() {
            return Ok(Body { fields: Map::new(), errors: Vec::new() });
        }
        Body::parse(body).await
    }

    async fn parse(mut body: BodyInFlight) -> Result<Body, Problem> {
        let bytes = body.take();
        let parse = move || serde_json::from_slice(&bytes).ok();
        let parsed = if is_small(&body) { parse() } else { blocking(parse).await? };
        match parsed {
            Some(Value::Object(fields)) => Ok(Body { fields, errors: Vec::new() }),
            _ => {
                let message = "it must be a JSON object";
                Err(Problem::validation(vec![FieldError::new("body", FieldCode::Invalid, message)]))
            }
        }
    }

    fn error(&mut self, field: &str, code: FieldCode, message: impl Into<Cow<'static, str>>) {
        self.errors.push(FieldError::new(field, code, message));
    }

    /// Takes a field that must be one of some words.
    pub(crate) fn take_word<T: Copy>(&mut self, name: &str, words: &[(&str, T)]) -> Option<T> {
        let value = self.fields.remove(name);
        let found = words
            .iter()
            .find(|(word, _)| value.as_ref().is_some_and(|value| value == word))
            .map(|(_, meaning)| *meaning);
        if value.is_none() {
            self.error(name, FieldCode::Required, "it is required");
        } else if found.is_none() {
            let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            self.errors.push(FieldError::not_one_of(name, &words));
        }
        found
    }

    /// Takes the mapping.
    ///
    /// # Errors
    /// 422 with every mistake in it.
    pub(crate) fn take_mapping(&mut self) -> Result<Mapping, Problem> {
        let parsed = match self.fields.remove("mapping") {
            Some(value) => parse_mapping(&value),
            None => Err(vec![MappingError {
                field: "mapping".into(),
                code: FieldCode::Required,
                message: "it is required".into(),
            }]),
        };
        parsed.map_err(Problem::mapping_invalid)
    }

    /// Takes a field that may be left out, or null, and otherwise must be one of some words.
    pub(crate) fn take_word_if_given<T: Copy>(
        &mut self,
        name: &str,
        words: &[(&str, T)],
    ) -> Option<T> {
        let is_given = self.fields.get(name).is_some_and(|value| !value.is_null());
        if is_given {
            return self.take_word(name, words);
        }
        self.fields.remove(name);
        None
    }

    /// Takes a text that may be left out, or null, and is not empty.
    pub(crate) fn take_text(&mut self, name: &str) -> Option<String> {
        let value = self.fields.remove(name).filter(|value| !value.is_null())?;
        let is_short = |text: &&str| (1..=TEXT_CHARS_MAX).contains(&text.chars().count());
        let text = value.as_str().filter(is_short).map(str::to_owned);
        if text.is_none() {
            let message = format!("it must be a text of 1 to {TEXT_CHARS_MAX} characters");
            self.error(name, FieldCode::Invalid, message);
        }
        text
    }

    /// Takes a truth value; false if it is left out, or null.
    pub(crate) fn take_flag(&mut self, name: &str) -> bool {
        let value = self.fields.remove(name).filter(|value| !value.is_null());
        let flag = value.as_ref().map_or(Some(false), Value::as_bool);
        if flag.is_none() {
            self.error(name, FieldCode::Invalid, "it must be `true` or `false`");
        }
        flag.unwrap_or_default()
    }

    /// Takes a time that may be left out, or null.
    pub(crate) fn take_moment(&mut self, name: &str) -> Option<Millis> {
        let value = self.fields.remove(name).filter(|value| !value.is_null())?;
        let text = value.as_str().filter(|text| text.len() <= TEXT_CHARS_MAX);
        let moment = text.and_then(time::parse_bound);
        if moment.is_none() {
            self.error(name, FieldCode::Invalid, "it must be an RFC 3339 time");
        }
        moment
    }

    /// Takes the number of a record.
    pub(crate) fn take_seq(&mut self, name: &str) -> Option<Seq> {
        let Some(value) = self.fields.remove(name) else {
            self.error(name, FieldCode::Required, "it is required");
            return None;
        };
        let seq = value.as_u64().filter(|seq| (1..=u64::from(u32::MAX)).contains(seq));
        if seq.is_none() {
            let code = if value.is_number() { FieldCode::OutOfRange } else { FieldCode::Invalid };
            self.error(name, code, "it must be the number of a record, from 1");
        }
        seq
    }

    /// Takes the note, which may be left out, or null.
    pub(crate) fn take_note(&mut self) -> Option<String> {
        let value = self.fields.remove("note").filter(|value| !value.is_null())?;
        let note =
            value.as_str().filter(|note| note.chars().count() <= NOTE_CHARS_MAX).map(str::to_owned);
        if note.is_none() {
            let code = if value.is_string() { FieldCode::TooLong } else { FieldCode::Invalid };
            let message = format!("it must be a text of at most {NOTE_CHARS_MAX} characters");
            self.error("note", code, message);
        }
        note
    }

    /// Returns true if a field is given.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.fields.contains_key(name)
    }

    /// Takes an id of the caller's own: a text of 1 to 255 bytes without control characters.
    pub(crate) fn take_own_id(&mut self, name: &str) -> Option<String> {
        let id = self.take_id(name)?;
        if id.chars().any(char::is_control) {
            self.error(name, FieldCode::Invalid, OWN_ID_FORM);
            return None;
        }
        Some(id)
    }

    /// Takes an id of a source: a text of 1 to 255 bytes.
    pub(crate) fn take_id(&mut self, name: &str) -> Option<String> {
        let Some(value) = self.fields.remove(name) else {
            self.error(name, FieldCode::Required, "it is required");
            return None;
        };
        let id = value.as_str().filter(|id| is_id(id)).map(str::to_owned);
        if id.is_none() {
            let too_long = value.as_str().is_some_and(|id| id.len() > ID_BYTES_MAX);
            let code = if too_long { FieldCode::TooLong } else { FieldCode::Invalid };
            self.error(name, code, ID_FORM);
        }
        id
    }

    /// Takes an array of 1 to `max` objects, each read by `read`, which may take its fields only.
    pub(crate) fn take_objects<T>(
        &mut self,
        name: &str,
        max: usize,
        read: impl Fn(&mut Body) -> T,
    ) -> Vec<T> {
        let items = match self.fields.remove(name) {
            Some(Value::Array(items)) if (1..=max).contains(&items.len()) => items,
            other => {
                let too_long =
                    other.as_ref().and_then(Value::as_array).is_some_and(|a| !a.is_empty());
                let code = if too_long { FieldCode::TooLong } else { FieldCode::Invalid };
                self.error(name, code, format!("it must be an array of 1 to {max} objects"));
                return Vec::new();
            }
        };
        let mut taken = Vec::with_capacity(items.len());
        for (index, item) in items.into_iter().enumerate() {
            let part = format!("{name}[{index}]");
            let Value::Object(fields) = item else {
                self.error(&part, FieldCode::Invalid, "it must be an object");
                continue;
            };
            let mut item = Body { fields, errors: Vec::new() };
            taken.push(read(&mut item));
            item.refuse_what_is_left();
            self.errors.extend(item.errors.into_iter().map(|error| error.within(&part)));
        }
        self.errors.truncate(ERRORS_MAX);
        taken
    }

    fn refuse_what_is_left(&mut self) {
        for name in std::mem::take(&mut self.fields).keys() {
            let name: String = name.chars().take(64).collect();
            self.error(&name, FieldCode::UnknownParameter, "unknown field");
        }
    }

    /// Refuses what is left.
    ///
    /// # Errors
    /// 422 for anything wrong so far.
    pub(crate) fn finish(mut self) -> Result<(), Problem> {
        self.refuse_what_is_left();
        if self.errors.is_empty() { Ok(()) } else { Err(Problem::validation(self.errors)) }
    }
}
