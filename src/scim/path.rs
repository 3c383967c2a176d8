//! Names and paths of attributes, as filters, PATCH operations and projections write them.

use std::borrow::Cow;

use super::document::extensions;
use super::filter::Filter;
use super::names::{self, Attribute, ENTERPRISE, Form};
use super::value::Object;
use super::{FILTER_BYTES_MAX, Kind, Refusal};

/// The place of an attribute, or of an attribute of one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct AttributePath {
    /// The URN of the extension that has it; `None` for the core schema.
    pub(crate) extension: Option<String>,
    /// Its name; empty for the whole extension, or the whole resource.
    pub(crate) name: String,
    /// The name of the attribute's own attribute.
    pub(crate) sub: Option<String>,
    /// The attribute, if it is known.
    pub(crate) definition: Option<&'static Attribute>,
    /// The attribute's own attribute, if it is known.
    pub(crate) part: Option<&'static Attribute>,
    /// The text as it was written, if it is a URN that the RFC does not know. Its extension and its
    /// name are then a guess, until [`AttributePath::resolved`] knows a resource's extensions.
    pub(crate) unresolved: Option<String>,
}

impl AttributePath {
    /// Reads a name such as `name.givenName`, `department` or `urn:…:User:employeeNumber`, in any
    /// case. `None` if the text is not a name.
    pub(crate) fn parse(kind: Kind, text: &str) -> Option<AttributePath> {
        let text = text.trim();
        if !names::is_urn(text) {
            return AttributePath::of_name(kind, text);
        }
        if !text.chars().all(|c| c.is_alphanumeric() || "_-$:./~%+@=".contains(c)) {
            return None;
        }
        if let Some(rest) = within(text, names::core_urn(kind)) {
            return match rest {
                "" => Some(AttributePath::default()),
                rest => AttributePath::of_core(kind, rest),
            };
        }
        if let Some(rest) = within(text, ENTERPRISE) {
            return AttributePath::of_extension(ENTERPRISE, rest);
        }
        let (urn, rest) = split_urn(text);
        let mut path = AttributePath::of_extension(urn, rest)
            .unwrap_or_else(|| AttributePath::of_whole_extension(text));
        path.unresolved = Some(text.to_owned());
        Some(path)
    }

    /// Returns the path in a resource that has these extensions: the longest that the URN begins
    /// with is meant. Without one the guess stays.
    pub(crate) fn resolved<'e>(
        &self,
        extensions: impl Iterator<Item = &'e str>,
    ) -> Cow<'_, AttributePath> {
        match self.unresolved.as_deref().and_then(|text| longest(text, extensions)) {
            Some(path) => Cow::Owned(path),
            None => Cow::Borrowed(self),
        }
    }

    /// Makes the path of a whole extension.
    pub(crate) fn of_whole_extension(urn: &str) -> AttributePath {
        AttributePath { extension: Some(urn.to_owned()), ..AttributePath::default() }
    }

    /// Makes the path of what follows an extension's URN. `None` if that is not a name.
    fn of_extension(urn: &str, rest: &str) -> Option<AttributePath> {
        if rest.is_empty() {
            return Some(AttributePath::of_whole_extension(urn));
        }
        let mut path = AttributePath::with_parts(rest, |name| extension_attribute(urn, name))?;
        path.extension = Some(urn.to_owned());
        Some(path)
    }

    /// Makes the path of a key of an object without a path: a key that is not a name is the name of
    /// an unknown attribute.
    pub(crate) fn of_key(kind: Kind, key: &str) -> AttributePath {
        let dotted_but_unknown =
            |path: &AttributePath| path.sub.is_some() && path.definition.is_none();
        AttributePath::parse(kind, key)
            .filter(|path| !(dotted_but_unknown(path) && path.extension.is_none()))
            .unwrap_or_else(|| AttributePath { name: key.to_owned(), ..AttributePath::default() })
    }

    /// Makes the path of a key within an extension.
    pub(crate) fn of_extension_key(urn: &str, key: &str) -> AttributePath {
        let parse = |name: &str| extension_attribute(urn, name);
        let mut path = AttributePath::with_parts(key, parse)
            .filter(|path| path.sub.is_none() || path.definition.is_some())
            .unwrap_or_else(|| AttributePath { name: key.to_owned(), ..AttributePath::default() });
        path.extension = Some(urn.to_owned());
        path
    }

    fn of_name(kind: Kind, text: &str) -> Option<AttributePath> {
        let path = AttributePath::of_core(kind, text)?;
        if path.definition.is_some() || kind != Kind::User {
            return Some(path);
        }
        // On a user the bare names of the enterprise extension mean the extension.
        let mut alias = AttributePath::with_parts(text, names::enterprise)?;
        if alias.definition.is_none() {
            return Some(path);
        }
        alias.extension = Some(ENTERPRISE.to_owned());
        Some(alias)
    }

    fn of_core(kind: Kind, text: &str) -> Option<AttributePath> {
        AttributePath::with_parts(text, |name| names::core(kind, name))
    }

    fn with_parts(
        text: &str,
        find: impl Fn(&str) -> Option<&'static Attribute>,
    ) -> Option<AttributePath> {
        let (name, sub) = match text.split_once('.') {
            Some((name, sub)) => (name, Some(sub)),
            None => (text, None),
        };
        if !is_name(name) || sub.is_some_and(|sub| !is_name(sub)) {
            return None;
        }
        let definition = find(name);
        let part = definition.zip(sub).and_then(|(definition, sub)| definition.part(sub));
        Some(AttributePath {
            extension: None,
            name: definition.map_or(name, |definition| definition.name).to_owned(),
            sub: sub.map(|sub| part.map_or(sub, |part| part.name).to_owned()),
            definition,
            part,
            unresolved: None,
        })
    }

    /// Returns the form in which values of the path are compared; of a list that of its `value`s.
    pub(crate) fn compared_form(&self) -> Form {
        let own = self.definition.map_or(Form::Text, |definition| definition.form);
        match (self.sub.is_some(), own) {
            (true, _) => self.part.map_or(Form::Text, |part| part.form),
            (false, Form::Multi { .. } | Form::Complex) => self
                .definition
                .and_then(|definition| definition.part("value"))
                .map_or(Form::Text, |part| part.form),
            (false, form) => form,
        }
    }

    /// Reports if the path is that of a core attribute as a whole.
    pub(crate) fn is_core(&self, name: &str) -> bool {
        self.extension.is_none() && self.name == name
    }
}

/// The name of an attribute, as a user has it and as a group has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Name {
    pub(crate) user: AttributePath,
    pub(crate) group: AttributePath,
}

impl Name {
    /// Reads a name. `None` if the text is not one.
    pub(crate) fn parse(text: &str) -> Option<Name> {
        let read = |kind| AttributePath::parse(kind, text);
        Some(Name { user: read(Kind::User)?, group: read(Kind::Group)? })
    }

    /// Returns the path in a resource of a kind.
    pub(crate) fn of(&self, kind: Kind) -> &AttributePath {
        match kind {
            Kind::User => &self.user,
            Kind::Group => &self.group,
        }
    }

    /// Returns the name in a resource: its extensions decide what a URN names.
    pub(crate) fn resolved(&self, document: &Object) -> Name {
        Name {
            user: self.user.resolved(extensions(document)).into_owned(),
            group: self.group.resolved(extensions(document)).into_owned(),
        }
    }
}

/// What a path of a PATCH operation points to.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Target {
    /// The attribute; its `sub` is what follows the filter, if there is one.
    pub(crate) path: AttributePath,
    /// Which of its values.
    pub(crate) filter: Option<Filter>,
}

impl Target {
    /// Reads a path.
    ///
    /// # Errors
    /// `invalidPath`, or `invalidFilter` for what is in brackets.
    pub(crate) fn parse(kind: Kind, text: &str) -> Result<Target, Refusal> {
        let text = text.trim();
        if text.len() > FILTER_BYTES_MAX {
            return Err(Refusal::path(format!("a path is longer than {FILTER_BYTES_MAX} bytes")));
        }
        let refused = || Refusal::path("a path does not name an attribute");
        let Some((head, rest)) = text.split_once('[') else {
            let path = AttributePath::parse(kind, text).ok_or_else(refused)?;
            return Ok(Target { path, filter: None });
        };
        let end = closing_bracket(rest).ok_or_else(refused)?;
        let (inside, after) = (rest.get(..end), rest.get(end + 1..));
        let inside = inside.ok_or_else(refused)?;
        let after = after.unwrap_or_default().trim();
        let mut path = AttributePath::parse(kind, head).ok_or_else(refused)?;
        // The extension of a resource decides what a URN names.
        if path.sub.is_some() || (path.name.is_empty() && path.unresolved.is_none()) {
            return Err(refused());
        }
        if !after.is_empty() {
            let sub = after.strip_prefix('.').filter(|sub| is_name(sub)).ok_or_else(refused)?;
            path.part = path.definition.and_then(|definition| definition.part(sub));
            path.sub = Some(path.part.map_or(sub, |part| part.name).to_owned());
        }
        Ok(Target { path, filter: Some(Filter::parse(inside)?) })
    }

    /// Returns the target in a resource that has these extensions.
    ///
    /// # Errors
    /// `invalidPath` for a filter behind anything but an attribute.
    pub(crate) fn resolved<'e>(
        &self,
        extensions: impl Iterator<Item = &'e str>,
    ) -> Result<Cow<'_, Target>, Refusal> {
        let mut path = self.path.resolved(extensions);
        if self.filter.is_some() && path.name.is_empty() {
            return Err(Refusal::path("a filter is in a path that does not name an attribute"));
        }
        Ok(match path {
            Cow::Borrowed(_) => Cow::Borrowed(self),
            Cow::Owned(ref mut found) => {
                if self.filter.is_some() {
                    found.sub.clone_from(&self.path.sub);
                }
                Cow::Owned(Target { path: path.into_owned(), filter: self.filter.clone() })
            }
        })
    }
}

/// Returns the offset of the bracket that closes a filter, outside of its texts.
fn closing_bracket(text: &str) -> Option<usize> {
    let (mut in_text, mut escaped) = (false, false);
    text.bytes().position(|byte| match byte {
        _ if escaped => {
            escaped = false;
            false
        }
        b'\\' => {
            escaped = in_text;
            false
        }
        b'"' => {
            in_text = !in_text;
            false
        }
        b']' => !in_text,
        _ => false,
    })
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || "_-$".contains(c))
}

fn extension_attribute(urn: &str, name: &str) -> Option<&'static Attribute> {
    if urn.eq_ignore_ascii_case(ENTERPRISE) { names::enterprise(name) } else { None }
}

/// Returns what follows a URN and its colon; empty for the URN alone.
fn within<'a>(text: &'a str, urn: &str) -> Option<&'a str> {
    let head = text.get(..urn.len())?;
    if !head.eq_ignore_ascii_case(urn) {
        return None;
    }
    match text.get(urn.len()..)? {
        "" => Some(""),
        rest => rest.strip_prefix(':'),
    }
}

/// Reports if a name is the URN of an extension, or below one, that the RFC does not know.
pub(crate) fn is_foreign(kind: Kind, name: &str) -> bool {
    names::is_urn(name)
        && [names::core_urn(kind), ENTERPRISE].iter().all(|urn| within(name, urn).is_none())
}

/// Returns the path below the longest of some extensions that a URN begins with.
fn longest<'a>(text: &str, extensions: impl Iterator<Item = &'a str>) -> Option<AttributePath> {
    extensions
        .filter_map(|urn| AttributePath::of_extension(urn, within(text, urn)?))
        .max_by_key(|path| path.extension.as_ref().map_or(0, String::len))
}

/// Guesses where an unknown extension's URN ends: the last segment is the attribute, unless it is a
/// version such as `2.0`, or the name of a resource type behind one. An object is never guessed
/// about: it is an extension as a whole.
fn split_urn(text: &str) -> (&str, &str) {
    let is_version = |segment: &str| {
        segment.split_once('.').is_some_and(|(major, minor)| {
            let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
            digits(major) && digits(minor)
        })
    };
    let Some((head, last)) = text.rsplit_once(':') else { return (text, "") };
    match head.rsplit_once(':') {
        Some((_, before)) if is_version(before) && Kind::parse(last).is_some() => (text, ""),
        Some(_) if !is_version(last) => (head, last),
        _ => (text, ""),
    }
}
