//! A resource as SCIM shows it.

use std::borrow::Cow;

use rollcall_projections::Millis;

use super::document::{Document, extensions, folded};
use super::names::{self, Attribute, ENTERPRISE, Form};
use super::path::{AttributePath, Name};
use super::value::{Object, Value};
use super::{FILTER_BYTES_MAX, Kind, Refusal};
use crate::time;

/// A member of a group as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberOf {
    /// Its SCIM id.
    pub id: String,
    /// What it is.
    pub kind: Kind,
    /// The client's name for it.
    pub display: Option<String>,
}

/// A group of a user as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupOf {
    /// Its SCIM id.
    pub id: String,
    /// Its `displayName`.
    pub display: Option<String>,
}

/// The memberships of one resource, looked up when an answer or a filter needs them.
pub trait Related {
    /// Returns the members of the group.
    fn members(&self) -> Vec<MemberOf>;
    /// Reports if the group has a member with this SCIM id, without listing the others.
    fn is_member(&self, id: &str) -> bool;
    /// Returns the groups of the user.
    fn groups(&self) -> Vec<GroupOf>;
    /// Reports if the user is in the group with this SCIM id, without listing the others.
    fn is_in(&self, id: &str) -> bool;
}

/// A resource with all that an answer needs.
#[derive(Clone, Copy)]
pub struct Shown<'a> {
    /// A user or a group.
    pub kind: Kind,
    /// Its SCIM id.
    pub id: &'a str,
    /// What is stored of it.
    pub document: &'a Document,
    /// When it was made, in milliseconds.
    pub created: Millis,
    /// When it was last changed, in milliseconds.
    pub last_modified: Millis,
    /// The seq of the record of its last change.
    pub version: u64,
    /// The URL of the directory, without a slash at the end.
    pub base: &'a str,
    /// Its memberships.
    pub related: &'a dyn Related,
}

impl MemberOf {
    /// Returns the member as it is shown, with a reference below the directory's URL.
    pub(crate) fn object(&self, base: &str) -> Object {
        let reference = format!("{base}/{}/{}", self.kind.route(), self.id);
        reference_to(&self.id, reference, self.display.as_deref(), self.kind.name())
    }
}

impl GroupOf {
    fn object(&self, base: &str) -> Object {
        let reference = format!("{base}/{}/{}", Kind::Group.route(), self.id);
        reference_to(&self.id, reference, self.display.as_deref(), "direct")
    }
}

fn reference_to(id: &str, reference: String, display: Option<&str>, kind: &str) -> Object {
    let mut object = Object::default();
    object.set("value", id.into());
    object.set("$ref", Value::Text(reference));
    if let Some(display) = display {
        object.set("display", display.into());
    }
    object.set("type", kind.into());
    object
}

impl Shown<'_> {
    /// Returns the ETag, such as `W/"17"`.
    pub fn etag(&self) -> String {
        format!("W/\"{}\"", self.version)
    }

    /// Returns the URL of the resource.
    pub fn location(&self) -> String {
        format!("{}/{}/{}", self.base, self.kind.route(), self.id)
    }

    /// Returns the resource as JSON, with the attributes that are asked for.
    pub fn render(&self, projection: &Projection) -> String {
        self.object(projection).to_json()
    }

    fn object(&self, projection: &Projection) -> Object {
        let projection = &*projection.resolved(&self.document.0);
        let mut shown = Object::default();
        shown.set("schemas", self.schemas());
        shown.set("id", self.id.into());
        for (name, value) in &self.document.0.0 {
            match value.object().filter(|_| names::is_urn(name)) {
                Some(extension) => {
                    let extension = self.extension(projection, name, extension);
                    if !extension.0.is_empty() {
                        shown.0.push((name.clone(), Value::Object(extension)));
                    }
                }
                // What no schema knows is kept, and not shown.
                None => {
                    if let Some(definition) = names::core(self.kind, name) {
                        let choice = projection.choice(self.kind, None, name);
                        push(&mut shown, name, choice.of(known(definition, value.clone())));
                    }
                }
            }
        }
        for name in [self.relation(), "meta"] {
            let choice = projection.choice(self.kind, None, name);
            if choice != Choice::None {
                push(&mut shown, name, self.computed(name).and_then(|value| choice.of(value)));
            }
        }
        shown
    }

    fn extension(&self, projection: &Projection, urn: &str, extension: &Object) -> Object {
        let mut shown = Object::default();
        for (name, value) in &extension.0 {
            let choice = projection.choice(self.kind, Some(urn), name);
            let is_manager = urn == ENTERPRISE && name == "manager";
            let value = if is_manager { self.manager(value) } else { value.clone() };
            push(&mut shown, name, choice.of(value));
        }
        shown
    }

    /// Returns the manager with a reference, if its value can be an id.
    fn manager(&self, manager: &Value) -> Value {
        let mut manager = manager.clone();
        if let Value::Object(object) = &mut manager
            && let Some(id) = object.get("value").and_then(Value::scalar)
            && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte))
        {
            let reference = format!("{}/{}/{id}", self.base, Kind::User.route());
            object.set("$ref", Value::Text(reference));
        }
        manager
    }

    /// Returns the attribute that is made of memberships.
    fn relation(&self) -> &'static str {
        match self.kind {
            Kind::User => "groups",
            Kind::Group => "members",
        }
    }

    /// Returns an attribute that is not stored in the document.
    fn computed(&self, name: &str) -> Option<Value> {
        let list =
            |objects: Vec<Object>| Value::List(objects.into_iter().map(Value::Object).collect());
        Some(match (self.kind, name) {
            (_, "id") => self.id.into(),
            (_, "schemas") => self.schemas(),
            (_, "meta") => Value::Object(self.meta()),
            (Kind::User, "groups") => {
                list(self.related.groups().iter().map(|group| group.object(self.base)).collect())
            }
            (Kind::Group, "members") => {
                let members = self.related.members();
                list(members.iter().map(|member| member.object(self.base)).collect())
            }
            _ => return None,
        })
    }

    fn schemas(&self) -> Value {
        let core = Value::from(names::core_urn(self.kind));
        let extensions = extensions(&self.document.0).map(Value::from);
        Value::List([core].into_iter().chain(extensions).collect())
    }

    fn meta(&self) -> Object {
        let mut meta = Object::default();
        meta.set("resourceType", self.kind.name().into());
        meta.set("created", Value::Text(time::format(self.created)));
        meta.set("lastModified", Value::Text(time::format(self.last_modified)));
        meta.set("location", Value::Text(self.location()));
        meta.set("version", Value::Text(self.etag()));
        meta
    }

    /// Returns the values of a path; none for an attribute that no schema knows.
    pub(crate) fn values(&self, path: &AttributePath) -> Vec<Value> {
        let path = &*path.resolved(extensions(&self.document.0));
        let found = match &path.extension {
            Some(urn) => {
                let extension = self.document.0.get(urn);
                if path.name.is_empty() {
                    extension.cloned()
                } else {
                    extension.and_then(Value::object).and_then(|it| it.get(&path.name)).cloned()
                }
            }
            None if path.definition.is_none() => None,
            None if path.sub.is_some() && path.part.is_none() => None,
            None => self.computed(&path.name).or_else(|| self.document.0.get(&path.name).cloned()),
        };
        let Some(value) = found else { return Vec::new() };
        let Some(sub) = &path.sub else { return vec![value] };
        let part = |value: &Value| value.object()?.get(sub).cloned();
        match &value {
            Value::List(elements) => elements.iter().filter_map(part).collect(),
            value => part(value).into_iter().collect(),
        }
    }

    /// Answers `members eq "…"` of a group and `groups eq "…"` of a user by a look-up. `None` if it
    /// is another question.
    pub(crate) fn is_related(
        &self,
        path: &AttributePath,
        is_equal: bool,
        id: Option<&str>,
    ) -> Option<bool> {
        let is_value = path.sub.as_deref().is_none_or(|sub| sub == "value");
        if !is_equal || !is_value || !path.is_core(self.relation()) {
            return None;
        }
        Some(match self.kind {
            Kind::User => self.related.is_in(id?),
            Kind::Group => self.related.is_member(id?),
        })
    }
}

/// Returns a value without the parts that the schema does not know.
fn known(definition: &'static Attribute, value: Value) -> Value {
    let narrow = |value: Value| match value {
        Value::Object(mut object) => {
            object.0.retain(|(name, _)| definition.part(name).is_some());
            Value::Object(object)
        }
        value => value,
    };
    match value {
        Value::List(elements) => Value::List(elements.into_iter().map(narrow).collect()),
        value => narrow(value),
    }
}

fn push(object: &mut Object, name: &str, value: Option<Value>) {
    if let Some(value) = value.filter(|value| !value.is_unassigned()) {
        object.0.push((name.to_owned(), value));
    }
}

/// The attributes that a client asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Projection {
    /// Only these; `None` for all.
    attributes: Option<Vec<Name>>,
    /// All but these, if `attributes` are not named.
    excluded: Vec<Name>,
}

/// How much of one attribute is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Choice {
    All,
    None,
    Only(Vec<String>),
    AllBut(Vec<String>),
}

impl Projection {
    /// Reads `attributes` and `excludedAttributes`: names with commas between them. Of both the
    /// first counts. What is not a name is passed over.
    ///
    /// # Errors
    /// `invalidValue` for a text of more than 8 KiB.
    pub fn parse(attributes: Option<&str>, excluded: Option<&str>) -> Result<Projection, Refusal> {
        let attributes = attributes.filter(|text| !text.trim().is_empty());
        Ok(Projection {
            attributes: attributes.map(names_in).transpose()?,
            excluded: excluded.map(names_in).transpose()?.unwrap_or_default(),
        })
    }

    /// Reports if everything is asked for.
    pub fn is_whole(&self) -> bool {
        self.attributes.is_none() && self.excluded.is_empty()
    }

    /// Reports if `attributes` names what is asked for.
    pub fn names_attributes(&self) -> bool {
        self.attributes.is_some()
    }

    /// Reports if a core attribute, such as `members`, is shown.
    pub fn shows(&self, kind: Kind, name: &str) -> bool {
        self.choice(kind, None, name) != Choice::None
    }

    /// Returns the projection of a resource: its extensions decide what a URN names.
    fn resolved(&self, document: &Object) -> Cow<'_, Projection> {
        let mut names = self.attributes.iter().flatten().chain(&self.excluded);
        let is_resolved =
            |name: &Name| name.user.unresolved.is_none() && name.group.unresolved.is_none();
        if names.all(is_resolved) {
            return Cow::Borrowed(self);
        }
        let all = |names: &[Name]| names.iter().map(|name| name.resolved(document)).collect();
        Cow::Owned(Projection {
            attributes: self.attributes.as_deref().map(all),
            excluded: all(&self.excluded),
        })
    }

    fn choice(&self, kind: Kind, extension: Option<&str>, name: &str) -> Choice {
        let same_schema = |path: &AttributePath| match (path.extension.as_deref(), extension) {
            (Some(one), Some(other)) => one.eq_ignore_ascii_case(other),
            (None, None) => true,
            _ => false,
        };
        // The subs of the names that are this attribute; `None` if one is the whole of it.
        let named = |names: &[Name]| -> Option<Vec<String>> {
            let paths = names.iter().map(|name| name.of(kind));
            let mut subs = Vec::new();
            for path in paths.filter(|path| same_schema(path)) {
                if path.name.is_empty() {
                    return None;
                }
                if path.name.eq_ignore_ascii_case(name) {
                    subs.push(path.sub.clone()?);
                }
            }
            Some(subs)
        };
        match &self.attributes {
            Some(names) => match named(names) {
                None => Choice::All,
                Some(subs) if subs.is_empty() => Choice::None,
                Some(subs) => Choice::Only(subs),
            },
            None => match named(&self.excluded) {
                None => Choice::None,
                Some(subs) if subs.is_empty() => Choice::All,
                Some(subs) => Choice::AllBut(subs),
            },
        }
    }
}

fn names_in(text: &str) -> Result<Vec<Name>, Refusal> {
    if text.len() > FILTER_BYTES_MAX {
        return Err(Refusal::value(format!(
            "the names of attributes are longer than {FILTER_BYTES_MAX} bytes"
        )));
    }
    // Entra names a value of a list with a filter: the whole list is shown.
    let name = |text: &str| Name::parse(text.split('[').next().unwrap_or(text));
    Ok(text.split(',').filter_map(name).collect())
}

impl Choice {
    /// Returns what is shown of a value.
    fn of(&self, value: Value) -> Option<Value> {
        let shows = |name: &str| match self {
            Choice::Only(subs) => subs.iter().any(|sub| sub.eq_ignore_ascii_case(name)),
            Choice::AllBut(subs) => !subs.iter().any(|sub| sub.eq_ignore_ascii_case(name)),
            Choice::All | Choice::None => true,
        };
        let narrow = |value: Value| match value {
            Value::Object(mut object) => {
                object.0.retain(|(name, _)| shows(name));
                Value::Object(object)
            }
            value => value,
        };
        match (self, value) {
            (Choice::None, _) => None,
            (Choice::All, value) => Some(value),
            (_, Value::List(elements)) => {
                let elements = elements.into_iter().map(narrow);
                Some(Value::List(elements.filter(|value| !value.is_unassigned()).collect()))
            }
            (_, value) => Some(narrow(value)),
        }
    }
}

/// The attribute by which a list is sorted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SortBy(Name);

/// A resource's value of the attribute by which a list is sorted. A missing one is the greatest:
/// a descending list is the reverse of an ascending one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SortKey {
    /// A moment in milliseconds.
    Time(Millis),
    /// A text, folded unless it is compared exactly.
    Text(String),
    /// No value.
    Missing,
}

impl SortBy {
    /// Reads `sortBy`.
    ///
    /// # Errors
    /// `invalidPath` for what is not a name.
    pub fn parse(text: &str) -> Result<SortBy, Refusal> {
        let name = Name::parse(text.split('[').next().unwrap_or(text));
        let refused = || Refusal::path("`sortBy` does not name an attribute");
        name.map(SortBy).ok_or_else(refused)
    }

    /// Returns a resource's value: of several the primary one, else the first.
    pub fn key(&self, resource: &Shown<'_>) -> SortKey {
        let path = self.0.of(resource.kind);
        let path = &*path.resolved(extensions(&resource.document.0));
        // The primary value is chosen before its part is.
        let whole = AttributePath { sub: None, part: None, ..path.clone() };
        let sub = path.sub.as_deref().unwrap_or("value");
        let value = resource.values(&whole).into_iter().next().and_then(|value| match value {
            Value::List(elements) => {
                let primary = elements.iter().find(|element| element.is_primary());
                let chosen = primary.or_else(|| elements.first())?;
                part_of(chosen, sub)
            }
            value => part_of(&value, sub),
        });
        let form = path.compared_form();
        match value {
            Some(Value::Bool(value)) => SortKey::Text(value.to_string()),
            Some(Value::Text(text)) if form == Form::Time => {
                time::parse(&text).map_or(SortKey::Text(text), SortKey::Time)
            }
            Some(Value::Text(text)) if form == Form::Exact => SortKey::Text(text),
            Some(Value::Text(text) | Value::Number(text)) => SortKey::Text(folded(&text)),
            _ => SortKey::Missing,
        }
    }
}

fn part_of(value: &Value, sub: &str) -> Option<Value> {
    match value {
        Value::Object(object) => object.get(sub).cloned(),
        value => Some(value.clone()),
    }
}
