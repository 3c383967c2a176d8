//! JSON values that keep the order of keys and the text of numbers.

use crate::json;
use serde_json::value::RawValue;

use super::DEPTH_MAX;

/// A JSON value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    /// A number as it was written.
    Number(String),
    Text(String),
    List(Vec<Value>),
    Object(Object),
}

/// The members of a JSON object, in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Object(pub(crate) Vec<(String, Value)>);

/// Objects are equal if they have the same members, in any order.
impl PartialEq for Object {
    fn eq(&self, other: &Object) -> bool {
        self.0.len() == other.0.len()
            && self.0.iter().zip(&other.0).all(|(mine, others)| {
                mine == others || other.exactly(&mine.0).is_some_and(|value| *value == mine.1)
            })
    }
}

impl Eq for Object {}

impl Object {
    /// Returns the value of a key that is spelled exactly so.
    pub(crate) fn exactly(&self, key: &str) -> Option<&Value> {
        self.0.iter().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    /// Returns the value of a key in any case.
    pub(crate) fn get(&self, key: &str) -> Option<&Value> {
        self.0.iter().find(|(name, _)| name.eq_ignore_ascii_case(key)).map(|(_, value)| value)
    }

    /// Returns the value of a key in any case, to change it.
    pub(crate) fn get_mut(&mut self, key: &str) -> Option<&mut Value> {
        self.0.iter_mut().find(|(name, _)| name.eq_ignore_ascii_case(key)).map(|(_, value)| value)
    }

    /// Returns the text of a key in any case, if its value is one.
    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        self.get(key).and_then(Value::text)
    }

    /// Sets a key, in its place if it is there in any case.
    pub(crate) fn set(&mut self, key: &str, value: Value) {
        match self.get_mut(key) {
            Some(place) => *place = value,
            None => self.0.push((key.to_owned(), value)),
        }
    }

    /// Appends the object as JSON.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.push(b'{');
        for (at, (key, value)) in self.0.iter().enumerate() {
            if at > 0 {
                out.push(b',');
            }
            json::push_string(out, key);
            out.push(b':');
            value.write(out);
        }
        out.push(b'}');
    }

    /// Returns the object as JSON.
    pub(crate) fn to_json(&self) -> String {
        let mut out = Vec::new();
        self.write(&mut out);
        String::from_utf8(out).unwrap_or_default()
    }

    /// Removes a key in any case, and returns its value.
    pub(crate) fn take(&mut self, key: &str) -> Option<Value> {
        let at = self.0.iter().position(|(name, _)| name.eq_ignore_ascii_case(key))?;
        Some(self.0.remove(at).1)
    }
}

impl Value {
    /// Reads a JSON text. `None` if it is no JSON, or is nested deeper than [`DEPTH_MAX`].
    ///
    /// Of a repeated key the last counts. The cost is the size of the text by its depth.
    pub(crate) fn parse(text: &str) -> Option<Value> {
        if json::levels(text.as_bytes()) > DEPTH_MAX {
            return None;
        }
        let raw: &RawValue = serde_json::from_str(text).ok()?;
        Some(Value::of(raw))
    }

    /// Reads a value whose depth was judged.
    fn of(raw: &RawValue) -> Value {
        let text = raw.get();
        match text.as_bytes().first() {
            Some(b'{') => {
                let members = json::others(text, &[]).into_iter();
                let members = members.map(|(key, value)| (key.into_owned(), Value::of(value)));
                Value::Object(Object(members.collect()))
            }
            Some(b'[') => {
                let elements = json::array(Some(raw)).unwrap_or_default();
                Value::List(elements.into_iter().map(Value::of).collect())
            }
            Some(b'"') => Value::Text(json::string(Some(raw)).unwrap_or_default().into_owned()),
            Some(b't') => Value::Bool(true),
            Some(b'f') => Value::Bool(false),
            Some(b'n') | None => Value::Null,
            Some(_) => Value::Number(text.to_owned()),
        }
    }

    /// Appends the value as JSON.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        match self {
            Value::Null => out.extend_from_slice(b"null"),
            Value::Bool(true) => out.extend_from_slice(b"true"),
            Value::Bool(false) => out.extend_from_slice(b"false"),
            Value::Number(text) => out.extend_from_slice(text.as_bytes()),
            Value::Text(text) => json::push_string(out, text),
            Value::List(elements) => {
                out.push(b'[');
                for (at, element) in elements.iter().enumerate() {
                    if at > 0 {
                        out.push(b',');
                    }
                    element.write(out);
                }
                out.push(b']');
            }
            Value::Object(object) => object.write(out),
        }
    }

    /// Returns the value as JSON.
    pub(crate) fn to_json(&self) -> String {
        let mut out = Vec::new();
        self.write(&mut out);
        String::from_utf8(out).unwrap_or_default()
    }

    /// Returns the text, if the value is one.
    pub(crate) fn text(&self) -> Option<&str> {
        match self {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Returns the text of a text or a number.
    pub(crate) fn scalar(&self) -> Option<&str> {
        match self {
            Value::Text(text) | Value::Number(text) => Some(text),
            _ => None,
        }
    }

    /// Returns the object, if the value is one.
    pub(crate) fn object(&self) -> Option<&Object> {
        match self {
            Value::Object(object) => Some(object),
            _ => None,
        }
    }

    /// Reports if the value is the primary one of a list.
    pub(crate) fn is_primary(&self) -> bool {
        self.object().and_then(|object| object.get("primary")) == Some(&Value::Bool(true))
    }

    /// Returns the elements of a list; none for another value.
    pub(crate) fn elements(&self) -> &[Value] {
        match self {
            Value::List(elements) => elements,
            _ => &[],
        }
    }

    /// Returns what an attribute with one value takes: of a list of one its element, and of an object
    /// with a `value` that value, as older versions of Entra wrap them.
    pub(crate) fn unwrapped(self) -> Value {
        let value = match self {
            Value::List(mut elements) if elements.len() == 1 => elements.remove(0),
            value => value,
        };
        match value {
            Value::Object(mut object) if object.get("value").is_some() => {
                object.take("value").unwrap_or(Value::Null)
            }
            value => value,
        }
    }

    /// Reports if the value counts as unassigned: null, an empty text, list or object.
    pub(crate) fn is_unassigned(&self) -> bool {
        match self {
            Value::Null => true,
            Value::Text(text) => text.is_empty(),
            Value::List(elements) => elements.is_empty(),
            Value::Object(Object(members)) => members.is_empty(),
            Value::Bool(_) | Value::Number(_) => false,
        }
    }
}

/// Texts and objects that are written in code.
impl From<&str> for Value {
    fn from(text: &str) -> Value {
        Value::Text(text.to_owned())
    }
}
