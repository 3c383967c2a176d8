//! The JSON body that an operator sends. Its fields are taken one by one, and all mistakes are
//! reported at once.

use std::borrow::Cow;

use actix_web::web;
use bytes::Bytes;
use rollcall_projections::{Mapping, Millis};
use serde_json::{Map, Value};

use super::answer::{Code, FieldError, Problem};
use super::api::TEXT_CHARS_MAX;
use crate::time;
use crate::verify::{FieldCode, MappingError, parse_mapping};

/// The largest body of an operator's request, in bytes.
const BODY_BYTES_MAX: usize = 1 << 20;

/// The longest note, in characters.
const NOTE_CHARS_MAX: usize = 1000;

/// Reads a body whole.
///
/// # Errors
/// 413 over `bytes_max` bytes.
pub(crate) async fn read(payload: web::Payload, bytes_max: usize) -> Result<Bytes, Code> {
    match payload.to_bytes_limited(bytes_max).await {
        Ok(Ok(bytes)) => Ok(bytes),
        // The sender left in the middle and does not see the answer.
        Ok(Err(_)) => Err(Code::LogUnavailable),
        Err(_) => Err(Code::BodyTooLarge),
    }
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
    /// 413 over 1 MiB; 422 if it is not a JSON object.
    pub(crate) async fn of(payload: web::Payload) -> Result<Body, Problem> {
        match serde_json::from_slice(&read(payload, BODY_BYTES_MAX).await?) {
            Ok(Value::Object(fields)) => Ok(Body { fields, errors: Vec::new() }),
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

    /// Refuses what is left.
    ///
    /// # Errors
    /// 422 for anything wrong so far.
    pub(crate) fn finish(mut self) -> Result<(), Problem> {
        for name in std::mem::take(&mut self.fields).keys() {
            let name: String = name.chars().take(64).collect();
            self.error(&name, FieldCode::UnknownParameter, "unknown field");
        }
        if self.errors.is_empty() { Ok(()) } else { Err(Problem::validation(self.errors)) }
    }
}
