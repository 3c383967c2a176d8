//! What is stored of a resource.

use super::names;
use super::value::{Object, Value};

/// What is stored of a resource: a JSON object with the attributes as the client sent them, under
/// the names of RFC 7643, without `id`, `meta`, `schemas`, `groups`, `members` and `password`.
///
/// Two documents are equal if they say the same, whatever the order of their keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Document(pub(crate) Object);

/// The texts by which a resource is found, ready to be compared or hashed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keys {
    /// `userName`, folded.
    pub user_name: Option<String>,
    /// `externalId`, as it is.
    pub external_id: Option<String>,
    /// `displayName`, folded.
    pub display_name: Option<String>,
    /// The `value` of each of `emails`, folded.
    pub emails: Vec<String>,
}

/// Returns a text in the form in which texts are compared without case.
pub fn folded(text: &str) -> String {
    text.to_lowercase()
}

/// Returns the URNs of a document's extensions: of all keys that are URNs and have an object.
pub(crate) fn extensions(document: &Object) -> impl Iterator<Item = &str> {
    let is_extension =
        |name: &str, value: &Value| names::is_urn(name) && matches!(value, Value::Object(_));
    let members = document.0.iter().filter(move |(name, value)| is_extension(name, value));
    members.map(|(name, _)| name.as_str())
}

impl Document {
    /// Reads a stored document. `None` if the text is not a JSON object of bounded depth.
    pub fn parse(text: &str) -> Option<Document> {
        match Value::parse(text)? {
            Value::Object(object) => Some(Document(object)),
            _ => None,
        }
    }

    /// Returns the document as JSON.
    pub fn text(&self) -> String {
        self.0.to_json()
    }

    /// Returns the texts by which the resource is found.
    pub fn keys(&self) -> Keys {
        let emails = self.0.get("emails").map(Value::elements).unwrap_or_default();
        let email = |email: &Value| email.object()?.get("value")?.scalar().map(folded);
        Keys {
            user_name: self.scalar("userName").map(folded),
            external_id: self.scalar("externalId").map(str::to_owned),
            display_name: self.scalar("displayName").map(folded),
            emails: emails.iter().filter_map(email).collect(),
        }
    }

    /// Returns `userName` of a user.
    pub fn user_name(&self) -> Option<&str> {
        self.scalar("userName")
    }

    /// Returns `displayName`.
    pub fn display_name(&self) -> Option<&str> {
        self.scalar("displayName")
    }

    /// Returns `externalId`.
    pub fn external_id(&self) -> Option<&str> {
        self.scalar("externalId")
    }

    /// Returns the id that `manager` of the enterprise extension names.
    pub fn manager(&self) -> Option<&str> {
        self.enterprise()?.get("manager")?.object()?.get("value")?.scalar()
    }

    /// Returns the user's email: that of the primary of `emails`, else of the first, else
    /// `userName` if it has an `@`.
    pub fn email(&self) -> Option<&str> {
        let emails = self.0.get("emails").map(Value::elements).unwrap_or_default();
        fn value(email: &Value) -> Option<&str> {
            email.object()?.get("value")?.scalar().filter(|value| !value.is_empty())
        }
        let primary = emails.iter().find(|email| email.is_primary());
        let first = || emails.iter().find(|email| email.object().is_some());
        primary
            .and_then(value)
            .or_else(|| first().and_then(value))
            .or_else(|| self.user_name().filter(|name| name.contains('@')))
    }

    /// Returns the enterprise extension.
    pub(crate) fn enterprise(&self) -> Option<&Object> {
        self.0.get(names::ENTERPRISE)?.object()
    }

    /// Returns the text of an attribute that is a text or a number.
    pub(crate) fn scalar(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.scalar().filter(|text| !text.is_empty())
    }
}
