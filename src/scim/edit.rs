//! The changes of one resource: attributes are set and removed on a copy.

use std::borrow::Cow;

use super::document::{Document, extensions};
use super::draft::{Draft, MemberChange, members};
use super::elements::{self, Given};
use super::names::{Attribute, ENTERPRISE, Form};
use super::path::{self, AttributePath, Target};
use super::value::{Object, Value};
use super::{DOCUMENT_BYTES_MAX, Kind, Refusal};

/// What an operation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Add,
    Remove,
    Replace,
}

impl Operation {
    /// Reads a name in any case.
    pub(crate) fn parse(name: &str) -> Option<Operation> {
        let is = |other: &str| name.eq_ignore_ascii_case(other);
        if is("add") {
            Some(Operation::Add)
        } else if is("remove") {
            Some(Operation::Remove)
        } else if is("replace") {
            Some(Operation::Replace)
        } else {
            None
        }
    }
}

/// The most keys of a body, a document or an extension: each is looked up among all.
const KEYS_MAX: usize = 2048;

/// The most comparisons that the filters of one request may make.
const COMPARISONS_MAX: usize = 4_000_000;

/// The members at which a filter of members is taken to look: it is evaluated elsewhere.
const MEMBERS_LOOKED_AT: usize = 100_000;

/// The most bytes of the values of one request, without members. They pass through a document that
/// is much smaller.
const GIVEN_BYTES_MAX: usize = 4 * DOCUMENT_BYTES_MAX;

/// A copy of a resource that is being changed.
pub(crate) struct Edit {
    kind: Kind,
    document: Object,
    active: Option<bool>,
    members: Vec<MemberChange>,
    /// The extensions that the object which is being applied names.
    named: Vec<String>,
    /// The core attributes that were named.
    touched: Vec<&'static str>,
    /// The bytes of all values that were given, without members.
    given_bytes: usize,
    /// The comparisons that filters made, at most.
    comparisons: usize,
}

impl Edit {
    pub(crate) fn new(kind: Kind, document: Document) -> Edit {
        Edit {
            kind,
            document: document.0,
            active: None,
            members: Vec::new(),
            named: Vec::new(),
            touched: Vec::new(),
            given_bytes: 0,
            comparisons: 0,
        }
    }

    /// Reports if a core attribute was named, as a whole.
    pub(crate) fn touched(&self, name: &str) -> bool {
        self.touched.contains(&name)
    }

    /// Reports if a core attribute has a value.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.document.get(name).is_some()
    }

    /// Keeps an attribute as it was stored.
    pub(crate) fn keep(&mut self, name: &str, value: Value) {
        self.document.set(name, value);
    }

    /// Removes all members.
    pub(crate) fn clear_members(&mut self) {
        self.members.push(MemberChange::Clear);
    }

    /// Checks the whole, and returns it.
    ///
    /// # Errors
    /// It has no name, or is too large.
    pub(crate) fn finish(self) -> Result<Draft, Refusal> {
        let name = match self.kind {
            Kind::User => "userName",
            Kind::Group => "displayName",
        };
        if self.document.text(name).is_none_or(str::is_empty) {
            return Err(Refusal::value(format!("`{name}` is missing or is not a text")));
        }
        let document = Document(self.document);
        if document.text().len() > DOCUMENT_BYTES_MAX {
            return Err(too_large());
        }
        Ok(Draft { document, active: self.active, members: self.members })
    }

    /// Sets every key of an object that has no path: names, dotted names, and URNs.
    pub(crate) fn apply_object(
        &mut self,
        operation: Operation,
        object: Object,
    ) -> Result<(), Refusal> {
        check_keys(&object)?;
        let named_before = self.named.len();
        let named = self.named_in(&object);
        self.named.extend(named);
        for (key, value) in object.0 {
            let target = match key.contains('[') {
                true => Target::parse(self.kind, &key).ok(),
                false => None,
            };
            let path = || AttributePath::of_key(self.kind, &key);
            let target = target.unwrap_or_else(|| Target { path: path(), filter: None });
            // The id and the schemas of a body are passed over, also where Okta repeats them.
            if !target.path.is_core("id") {
                self.set(operation, &target, value)?;
            }
        }
        self.named.truncate(named_before);
        Ok(())
    }

    /// Returns the extensions that an object names: in `schemas`, and as keys of objects that are
    /// not attributes of an extension which the resource has.
    fn named_in(&self, object: &Object) -> Vec<String> {
        let schemas = object.get("schemas").map(Value::elements).unwrap_or_default();
        let schemas = schemas.iter().take(KEYS_MAX).filter_map(Value::text);
        let mut named: Vec<String> =
            schemas.filter(|urn| path::is_foreign(self.kind, urn)).map(str::to_owned).collect();
        let own = extensions(object).filter(|key| {
            path::is_foreign(self.kind, key)
                && AttributePath::parse(self.kind, key).is_some_and(|path| {
                    matches!(path.resolved(self.extensions()), Cow::Borrowed(_))
                })
        });
        named.extend(own.map(str::to_owned));
        named
    }

    /// Returns the extensions of the resource, and those that the applied object names.
    fn extensions(&self) -> impl Iterator<Item = &str> {
        extensions(&self.document).chain(self.named.iter().map(String::as_str))
    }

    /// Returns the target in this resource. An object for a URN that no extension has is an
    /// extension.
    fn resolved<'t>(
        &self,
        target: &'t Target,
        value: Option<&Value>,
    ) -> Result<Cow<'t, Target>, Refusal> {
        let is_whole = target.filter.is_none() && value.is_some_and(is_object);
        let found = target.resolved(self.extensions())?;
        Ok(match (found, &target.path.unresolved) {
            (Cow::Borrowed(_), Some(urn)) if is_whole => {
                Cow::Owned(Target { path: AttributePath::of_whole_extension(urn), filter: None })
            }
            (found, _) => found,
        })
    }

    /// Adds or replaces what a path points to. A value that counts as unassigned removes it.
    pub(crate) fn set(
        &mut self,
        operation: Operation,
        target: &Target,
        value: Value,
    ) -> Result<(), Refusal> {
        let target = &*self.resolved(target, Some(&value))?;
        self.touch(&target.path);
        if target.path.is_core("members") && self.kind == Kind::Group {
            return self.set_members(operation, target, value);
        }
        if self.is_passed_over(&target.path)? {
            return Ok(());
        }
        self.measure(&value)?;
        self.charge(target)?;
        if target.path.name.is_empty() {
            return self.set_whole(operation, &target.path, value);
        }
        if target.path.is_core("active") && self.kind == Kind::User {
            return self.set_active(target, &value);
        }
        let given = Given { operation, target, value };
        let container = container(&mut self.document, target.path.extension.as_deref())?;
        let result = set_attribute(container, given);
        self.drop_empty_extension(&target.path);
        result
    }

    /// Removes what a path points to, or only the values that are given.
    pub(crate) fn remove(&mut self, target: &Target, value: Option<Value>) -> Result<(), Refusal> {
        let target = &*self.resolved(target, None)?;
        self.touch(&target.path);
        let path = &target.path;
        self.charge(target)?;
        if path.is_core("members") && self.kind == Kind::Group {
            self.remove_members(target, value);
            return Ok(());
        }
        if self.is_passed_over(path)? {
            return Ok(());
        }
        // An empty text names no value, where an empty list names none of them.
        let value = value.filter(|value| *value != Value::from(""));
        if path.name.is_empty() {
            return match &path.extension {
                Some(urn) => {
                    self.document.take(urn);
                    Ok(())
                }
                None => Err(Refusal::bad("noTarget", "a resource cannot be removed by PATCH")),
            };
        }
        if path.extension.as_deref().is_some_and(|urn| self.document.get(urn).is_none()) {
            return Ok(());
        }
        let container = container(&mut self.document, path.extension.as_deref())?;
        let result = remove_attribute(container, target, value);
        self.drop_empty_extension(path);
        result
    }

    fn touch(&mut self, path: &AttributePath) {
        if let Some(definition) = path.definition.filter(|_| path.extension.is_none())
            && !self.touched.contains(&definition.name)
        {
            self.touched.push(definition.name);
        }
    }

    /// Reports if a path is that of an attribute which no client writes.
    ///
    /// # Errors
    /// `mutability` for `id`.
    fn is_passed_over(&self, path: &AttributePath) -> Result<bool, Refusal> {
        if path.is_core("id") {
            return Err(Refusal::bad("mutability", "`id` cannot be changed"));
        }
        let is = |name: &&str| path.name.eq_ignore_ascii_case(name);
        // No document has a password, of whichever schema it may be.
        let urn = path.extension.as_deref().filter(|_| path.name.is_empty()).unwrap_or_default();
        let last = urn.rsplit(':').next().unwrap_or_default();
        Ok(is(&"password")
            || last.eq_ignore_ascii_case("password")
            || path.extension.is_none() && ["meta", "schemas", "groups", "members"].iter().any(is))
    }

    /// Refuses what would make the document too large before work is spent on it.
    fn measure(&mut self, value: &Value) -> Result<(), Refusal> {
        let bytes = value.to_json().len();
        self.given_bytes += bytes;
        if self.given_bytes > GIVEN_BYTES_MAX { Err(too_large()) } else { Ok(()) }
    }

    /// Counts the comparisons of an operation with a filter.
    fn charge(&mut self, target: &Target) -> Result<(), Refusal> {
        let Some(filter) = &target.filter else { return Ok(()) };
        let path = &target.path;
        let values = match &path.extension {
            _ if path.is_core("members") && self.kind == Kind::Group => match filter.values() {
                Some(_) => 0,
                None => MEMBERS_LOOKED_AT,
            },
            None => self.document.get(&path.name).map_or(0, |value| value.elements().len()),
            Some(urn) => self
                .document
                .get(urn)
                .and_then(Value::object)
                .and_then(|extension| extension.get(&path.name))
                .map_or(0, |value| value.elements().len()),
        };
        self.comparisons = self.comparisons.saturating_add(values * filter.comparisons());
        if self.comparisons > COMPARISONS_MAX {
            return Err(Refusal::too_large(
                "the filters of the operations make too many comparisons",
            ));
        }
        Ok(())
    }

    /// Sets the attributes of an extension, or of the core schema under its URN.
    fn set_whole(
        &mut self,
        operation: Operation,
        path: &AttributePath,
        value: Value,
    ) -> Result<(), Refusal> {
        let object = match value {
            Value::Object(object) => object,
            value if value.is_unassigned() => {
                if let Some(urn) = &path.extension {
                    self.document.take(urn);
                }
                return Ok(());
            }
            value => {
                return match path.extension.as_deref() {
                    // What no schema knows is never refused.
                    Some(urn) if urn != ENTERPRISE => {
                        set_unknown(&mut self.document, urn, operation, value);
                        Ok(())
                    }
                    _ => Err(Refusal::value("the value of a schema's URN is not an object")),
                };
            }
        };
        let Some(urn) = &path.extension else { return self.apply_object(operation, object) };
        check_keys(&object)?;
        for (key, value) in object.0 {
            let path = AttributePath::of_extension_key(urn, &key);
            self.set(operation, &Target { path, filter: None }, value)?;
        }
        Ok(())
    }

    /// Sets `active`. Only a boolean or its text says if the user is active: without it the user
    /// stays as it was, and nothing is shown.
    fn set_active(&mut self, target: &Target, value: &Value) -> Result<(), Refusal> {
        if target.path.sub.is_some() || target.filter.is_some() {
            return Err(Refusal::path("`active` has no parts"));
        }
        let is_unassigned =
            matches!(value, Value::List(_) | Value::Text(_) | Value::Null) && value.is_unassigned();
        if is_unassigned {
            self.document.take("active");
            return Ok(());
        }
        let active = boolean(value)
            .ok_or_else(|| Refusal::value("`active` is neither a boolean nor the text of one"))?;
        self.active = Some(active);
        self.document.set("active", Value::Bool(active));
        Ok(())
    }

    fn set_members(
        &mut self,
        operation: Operation,
        target: &Target,
        value: Value,
    ) -> Result<(), Refusal> {
        match (&target.filter, target.path.sub.as_deref()) {
            (Some(_), _) if operation == Operation::Replace && value.is_unassigned() => {
                self.remove_members(target, None);
            }
            (Some(filter), sub) if operation == Operation::Replace => {
                // The id of a member cannot change: another takes its place.
                let others =
                    if sub.is_none_or(|sub| sub == "value") { members(value) } else { vec![] };
                let others = Some(others).filter(|others| !others.is_empty());
                self.members.push(MemberChange::ReplaceWhere(Box::new(filter.clone()), others));
            }
            (Some(filter), sub) => {
                let mut added = if sub.is_none() { members(value) } else { Vec::new() };
                if added.is_empty() {
                    let named = filter.values().unwrap_or_default().into_iter();
                    added = members(Value::List(named.map(Value::Text).collect()));
                }
                self.members.push(MemberChange::Add(added));
            }
            (None, None | Some("value")) => {
                let is_replaced = operation == Operation::Replace;
                let given = members(value);
                self.members.push(match (is_replaced, given.is_empty()) {
                    (true, true) => MemberChange::Clear,
                    (true, false) => MemberChange::Replace(given),
                    (false, true) => return Ok(()),
                    (false, false) => MemberChange::Add(given),
                });
            }
            (None, Some(_)) => {}
        }
        Ok(())
    }

    fn remove_members(&mut self, target: &Target, value: Option<Value>) {
        if target.path.sub.as_deref().is_some_and(|sub| sub != "value") {
            return;
        }
        let change = match (&target.filter, value) {
            (Some(filter), _) => match filter.values() {
                Some(ids) => MemberChange::Remove(ids),
                None => MemberChange::RemoveWhere(Box::new(filter.clone())),
            },
            (None, None) => MemberChange::Clear,
            (None, Some(value)) => {
                let ids: Vec<String> =
                    members(value).into_iter().map(|member| member.value).collect();
                if ids.is_empty() {
                    return;
                }
                MemberChange::Remove(ids)
            }
        };
        self.members.push(change);
    }

    fn drop_empty_extension(&mut self, path: &AttributePath) {
        if let Some(urn) = &path.extension
            && self.document.get(urn).is_some_and(Value::is_unassigned)
        {
            self.document.take(urn);
        }
    }
}

fn too_large() -> Refusal {
    Refusal::too_large(format!(
        "the resource would be larger than {DOCUMENT_BYTES_MAX} bytes without its members"
    ))
}

fn check_keys(object: &Object) -> Result<(), Refusal> {
    if object.0.len() > KEYS_MAX {
        return Err(Refusal::too_large(format!("an object has more than {KEYS_MAX} keys")));
    }
    Ok(())
}

/// Reads a boolean or its text.
pub(crate) fn boolean(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(value) => Some(*value),
        Value::Text(text) if text.eq_ignore_ascii_case("true") => Some(true),
        Value::Text(text) if text.eq_ignore_ascii_case("false") => Some(false),
        _ => None,
    }
}

/// Returns the object that has an attribute: the document, or an extension in it.
fn container<'a>(
    document: &'a mut Object,
    extension: Option<&str>,
) -> Result<&'a mut Object, Refusal> {
    check_keys(document)?;
    let Some(urn) = extension else { return Ok(document) };
    if !document.get(urn).is_some_and(is_object) {
        document.set(urn, Value::Object(Object::default()));
    }
    match document.get_mut(urn) {
        Some(Value::Object(object)) => {
            check_keys(object)?;
            Ok(object)
        }
        _ => Err(Refusal::path("the path goes through a value that is not an object")),
    }
}

fn set_attribute(container: &mut Object, given: Given<'_>) -> Result<(), Refusal> {
    let (path, definition) = (&given.target.path, given.target.path.definition);
    if path.extension.as_deref() == Some(ENTERPRISE) && path.name == "manager" {
        return set_manager(container, path, given.value);
    }
    let is_list = match definition {
        Some(definition) => definition.is_multi(),
        None => {
            let is_list = matches!(container.get(&path.name), Some(Value::List(_)));
            given.target.filter.is_some() || (path.sub.is_some() && is_list)
        }
    };
    if is_list {
        return elements::set(container, given);
    }
    if given.target.filter.is_some() {
        return Err(Refusal::path("a filter is in the path of an attribute with one value"));
    }
    match (&path.sub, definition) {
        (Some(sub), _) => set_sub(container, path, sub, given.value),
        (None, Some(definition)) if definition.form == Form::Complex => {
            merge_complex(container, definition, given.value)
        }
        (None, Some(definition)) => set_plain(container, definition, given.value),
        (None, None) => {
            set_unknown(container, &path.name, given.operation, given.value);
            Ok(())
        }
    }
}

fn is_object(value: &Value) -> bool {
    matches!(value, Value::Object(_))
}

/// Sets an attribute that has one value of no parts.
fn set_plain(
    container: &mut Object,
    definition: &'static Attribute,
    value: Value,
) -> Result<(), Refusal> {
    let name = definition.name;
    let value = value.unwrapped();
    if value.is_unassigned() {
        container.take(name);
        return Ok(());
    }
    match value {
        Value::Object(_) | Value::List(_) => {
            Err(Refusal::value(format!("`{name}` is neither a text nor another single value")))
        }
        value => {
            container.set(name, value);
            Ok(())
        }
    }
}

/// Sets an attribute of an attribute that has one value.
fn set_sub(
    container: &mut Object,
    path: &AttributePath,
    sub: &str,
    value: Value,
) -> Result<(), Refusal> {
    if path.definition.is_some_and(|definition| definition.form != Form::Complex) {
        return Err(Refusal::path(format!("`{}` has no parts", path.name)));
    }
    let value = if path.part.is_some() { value.unwrapped() } else { value };
    if value.is_unassigned() {
        remove_sub(container, path, sub);
        return Ok(());
    }
    if path.part.is_some() && matches!(value, Value::Object(_) | Value::List(_)) {
        let name = format!("{}.{sub}", path.name);
        return Err(Refusal::value(format!("`{name}` is not a single value")));
    }
    if !container.get(&path.name).is_some_and(is_object) {
        container.set(&path.name, Value::Object(Object::default()));
    }
    if let Some(Value::Object(object)) = container.get_mut(&path.name) {
        object.set(sub, value);
    }
    Ok(())
}

fn remove_sub(container: &mut Object, path: &AttributePath, sub: &str) {
    if let Some(Value::Object(object)) = container.get_mut(&path.name) {
        object.take(sub);
        if object.0.is_empty() {
            container.take(&path.name);
        }
    }
}

/// Merges the parts of a complex attribute that has one value.
fn merge_complex(
    container: &mut Object,
    definition: &'static Attribute,
    value: Value,
) -> Result<(), Refusal> {
    let name = definition.name;
    let value = match value {
        Value::List(mut elements) if elements.len() == 1 => elements.remove(0),
        value => value,
    };
    // An object without keys merges nothing.
    if value.is_unassigned() && !is_object(&value) {
        container.take(name);
        return Ok(());
    }
    let Value::Object(given) = value else {
        return Err(Refusal::value(format!("`{name}` is not an object")));
    };
    check_keys(&given)?;
    for (key, value) in given.0 {
        let part = definition.part(&key);
        let path = AttributePath {
            name: name.to_owned(),
            definition: Some(definition),
            part,
            ..AttributePath::default()
        };
        set_sub(container, &path, part.map_or(key.as_str(), |part| part.name), value)?;
    }
    Ok(())
}

/// Sets the manager: an object, a list of one, or a bare id. Its `$ref` is made at each answer.
fn set_manager(container: &mut Object, path: &AttributePath, value: Value) -> Result<(), Refusal> {
    if let Some(sub) = &path.sub {
        if sub != "$ref" {
            set_sub(container, path, sub, value)?;
        }
    } else {
        let value = match value {
            Value::List(mut elements) if !elements.is_empty() => elements.remove(0),
            value => value,
        };
        let given = match value {
            // An object without keys merges nothing.
            Value::Object(object) if object.0.is_empty() => return Ok(()),
            value if value.is_unassigned() => Object::default(),
            Value::Object(object) => object,
            value @ (Value::Text(_) | Value::Number(_)) => {
                Object(vec![("value".to_owned(), value)])
            }
            _ => return Err(Refusal::value("`manager` is neither an object nor an id")),
        };
        check_keys(&given)?;
        // Another manager has none of the parts of the one before.
        if given.get("value").is_some() || given.0.is_empty() {
            container.take("manager");
        }
        let is_removed = given.get("value").is_some_and(Value::is_unassigned);
        for (key, value) in given.0.into_iter().filter(|_| !is_removed) {
            let part = path.definition.and_then(|definition| definition.part(&key));
            let name = part.map_or(key.as_str(), |part| part.name);
            if name != "$ref" {
                let path = AttributePath { part, ..path.clone() };
                set_sub(container, &path, name, value)?;
            }
        }
    }
    let is_gone = |manager: &Object| manager.get("value").is_none_or(Value::is_unassigned);
    if path.sub.is_some() && container.get("manager").and_then(Value::object).is_some_and(is_gone) {
        container.take("manager");
    }
    Ok(())
}

/// Sets an attribute that no schema knows: it is kept as it was sent.
fn set_unknown(container: &mut Object, name: &str, operation: Operation, value: Value) {
    // An object without keys merges and adds nothing.
    let is_merged = operation == Operation::Add || container.get(name).is_some_and(is_object);
    if is_merged && is_object(&value) && value.is_unassigned() {
        return;
    }
    if value.is_unassigned() {
        container.take(name);
        return;
    }
    match (container.get_mut(name), value) {
        (Some(Value::Object(object)), Value::Object(given)) => {
            for (key, value) in given.0 {
                if value.is_unassigned() {
                    object.take(&key);
                } else {
                    object.set(&key, value);
                }
            }
        }
        (Some(Value::List(elements)), value) if operation == Operation::Add => {
            let given = match value {
                Value::List(given) => given,
                value => vec![value],
            };
            for value in given {
                if !elements.contains(&value) {
                    elements.push(value);
                }
            }
        }
        (_, value) => container.set(name, value),
    }
}

fn remove_attribute(
    container: &mut Object,
    target: &Target,
    value: Option<Value>,
) -> Result<(), Refusal> {
    let path = &target.path;
    let is_list = matches!(container.get(&path.name), Some(Value::List(_)));
    if is_list {
        elements::remove(container, target, value);
        return Ok(());
    }
    if target.filter.is_some() {
        return match path.definition {
            Some(definition) if !definition.is_multi() => {
                Err(Refusal::path("a filter is in the path of an attribute with one value"))
            }
            _ => Ok(()),
        };
    }
    match &path.sub {
        Some(sub) => {
            remove_sub(container, path, sub);
            if path.name == "manager"
                && sub == "value"
                && path.extension.as_deref() == Some(ENTERPRISE)
            {
                container.take("manager");
            }
        }
        None => {
            container.take(&path.name);
        }
    }
    Ok(())
}
