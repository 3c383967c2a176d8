//! Attributes that have several values.

use std::collections::HashMap;

use super::Refusal;
use super::document::folded;
use super::edit::{Operation, boolean};
use super::filter::Filter;
use super::names::{Attribute, Form};
use super::path::Target;
use super::redact::is_password;
use super::value::{Object, Value};

/// The most values of one attribute, members aside.
const ELEMENTS_MAX: usize = 4096;

/// What an operation gives to a target.
pub(crate) struct Given<'a> {
    pub(crate) operation: Operation,
    pub(crate) target: &'a Target,
    pub(crate) value: Value,
}

/// Adds or replaces values of an attribute, or parts of them.
///
/// # Errors
/// `noTarget` if nothing fits the filter of a replacement, and it says too little to make a value of
/// it; `invalidValue` for a value that the RFC does not allow.
pub(crate) fn set(container: &mut Object, given: Given<'_>) -> Result<(), Refusal> {
    let name = &given.target.path.name;
    // The list keeps its place among the keys. After a refusal the whole copy is dropped.
    let mut list = match container.get_mut(name) {
        Some(Value::List(elements)) => std::mem::take(elements),
        Some(value) => vec![std::mem::replace(value, Value::Null)],
        None => Vec::new(),
    };
    match &given.target.filter {
        Some(filter) => set_found(&mut list, filter, &given)?,
        None => set_all(&mut list, given)?,
    }
    if list.len() > ELEMENTS_MAX {
        return Err(Refusal::too_large(format!(
            "`{name}` would have more than {ELEMENTS_MAX} values"
        )));
    }
    // A changed part may have made two values one.
    store(container, name, distinct(list));
    Ok(())
}

/// Removes values of an attribute, or parts of them: those that the filter finds, those that are
/// given, or all.
pub(crate) fn remove(container: &mut Object, target: &Target, value: Option<Value>) {
    let (name, attribute) = (&target.path.name, target.path.definition);
    let Some(Value::List(list)) = container.get_mut(name) else { return };
    let mut list = std::mem::take(list);
    let finds = |element: &Value| match (&target.filter, element) {
        (Some(filter), Value::Object(element)) => filter.finds(attribute, element),
        (Some(_), _) => false,
        (None, _) => true,
    };
    match (&target.path.sub, value) {
        (Some(sub), _) => {
            for element in &mut list {
                if finds(element) {
                    remove_part(element, sub);
                }
            }
            list.retain(|element| has_content(element, target.filter.as_ref()));
        }
        (None, Some(value)) if target.filter.is_none() => {
            let given = match value {
                Value::List(given) => given,
                value => vec![value],
            };
            list.retain(|element| !given.iter().any(|given| is_meant(element, given)));
        }
        (None, _) => list.retain(|element| !finds(element)),
    }
    store(container, name, list);
}

fn store(container: &mut Object, name: &str, list: Vec<Value>) {
    if list.is_empty() {
        container.take(name);
    } else {
        container.set(name, Value::List(list));
    }
}

/// Sets all values, or a part of each.
fn set_all(list: &mut Vec<Value>, given: Given<'_>) -> Result<(), Refusal> {
    let attribute = given.target.path.definition;
    if let Some(sub) = &given.target.path.sub {
        if given.value.is_unassigned() {
            list.iter_mut().for_each(|element| remove_part(element, sub));
            list.retain(|element| has_content(element, None));
            return Ok(());
        }
        let value = part_value(given.target, given.value)?;
        if list.is_empty() {
            list.push(Value::Object(Object::default()));
        }
        for element in list.iter_mut() {
            set_part(element, sub, value.clone());
        }
        return one_primary(list, None);
    }
    // Nothing at all removes the attribute; an empty list or object adds no value.
    let is_nothing = given.value.is_unassigned() && !adds_nothing(&given.value);
    let elements = normal_list(attribute, given.value)?;
    if given.operation == Operation::Replace || is_nothing {
        *list = elements;
        return Ok(());
    }
    add_elements(list, elements);
    Ok(())
}

/// Reports if an unassigned value is a list or object, which adds nothing; others remove.
fn adds_nothing(value: &Value) -> bool {
    matches!(value, Value::List(_) | Value::Object(_)) && value.is_unassigned()
}

/// Sets the values that a filter finds, or a part of each; makes one if there is none.
fn set_found(list: &mut Vec<Value>, filter: &Filter, given: &Given<'_>) -> Result<(), Refusal> {
    let attribute = given.target.path.definition;
    let finds =
        |element: &Value| element.object().is_some_and(|element| filter.finds(attribute, element));
    let found: Vec<usize> =
        list.iter().enumerate().filter(|(_, element)| finds(element)).map(|(at, _)| at).collect();
    if given.value.is_unassigned() {
        match &given.target.path.sub {
            Some(sub) => {
                for element in list.iter_mut().filter(|element| finds(element)) {
                    remove_part(element, sub);
                }
                list.retain(|element| has_content(element, Some(filter)));
            }
            None if given.operation == Operation::Add && adds_nothing(&given.value) => {}
            None => list.retain(|element| !finds(element)),
        }
        return Ok(());
    }
    let change = parts(given)?;
    if found.is_empty() {
        let element = made_of(filter, given, change)?;
        if has_content(&element, Some(filter)) {
            add_elements(list, vec![element]);
        }
        return Ok(());
    }
    let is_whole = given.operation == Operation::Replace && given.target.path.sub.is_none();
    for at in &found {
        let Some(element) = list.get_mut(*at) else { continue };
        if is_whole && !change.0.is_empty() {
            keep_named(element, filter);
        }
        for (name, value) in &change.0 {
            set_part(element, name, value.clone());
        }
    }
    let sets_primary = change.get("primary") == Some(&Value::Bool(true));
    one_primary(list, found.first().copied().filter(|_| sets_primary))
}

/// Removes all of a value that is replaced, but a `type` and a `primary` that the filter names.
fn keep_named(element: &mut Value, filter: &Filter) {
    if let Value::Object(object) = element {
        let is_kept = |name: &str| ["type", "primary"].contains(&name) && filter.names(name);
        object.0.retain(|(name, _)| is_kept(name));
    }
}

/// Returns the parts that an operation with a filter gives to a value.
fn parts(given: &Given<'_>) -> Result<Object, Refusal> {
    if let Some(sub) = &given.target.path.sub {
        let value = part_value(given.target, given.value.clone())?;
        return Ok(Object(vec![(sub.clone(), value)]));
    }
    let elements = normal_list(given.target.path.definition, given.value.clone())?;
    match elements.into_iter().next() {
        Some(Value::Object(object)) => Ok(object),
        _ => Ok(Object::default()),
    }
}

/// Makes the value that a filter describes.
///
/// # Errors
/// `noTarget` for a replacement, unless the filter is only `eq` joined by `and`, the path ends in a
/// part, and the filter names a type of the RFC or the primary value.
fn made_of(filter: &Filter, given: &Given<'_>, change: Object) -> Result<Value, Refusal> {
    let attribute = given.target.path.definition;
    let equalities = filter.equalities();
    let is_described = equalities.as_ref().is_some_and(|equalities| {
        equalities.iter().any(|(name, value)| {
            name.eq_ignore_ascii_case("primary")
                || (name.eq_ignore_ascii_case("type") && is_canonical(attribute, value))
        })
    });
    let may_be_made = is_described && given.target.path.sub.is_some();
    if given.operation == Operation::Replace && !may_be_made {
        return Err(Refusal::bad("noTarget", "the filter of a path finds no value to replace"));
    }
    let mut element = Object::default();
    for (name, value) in equalities.unwrap_or_default() {
        let part = attribute.and_then(|attribute| attribute.part(name));
        let name = part.map_or(name, |part| part.name);
        let value = match part {
            Some(part) if part.form == Form::Boolean => boolean(&value).map_or(value, Value::Bool),
            _ => value,
        };
        // No document has a password, not even one that a filter makes.
        if !value.is_unassigned() && !is_password(name) {
            element.set(name, value);
        }
    }
    for (name, value) in change.0 {
        element.set(&name, value);
    }
    Ok(Value::Object(element))
}

fn is_canonical(attribute: Option<&'static Attribute>, value: &Value) -> bool {
    match attribute.map(|attribute| attribute.form) {
        Some(Form::Multi { types }) => value
            .text()
            .is_some_and(|value| types.iter().any(|name| name.eq_ignore_ascii_case(value))),
        _ => false,
    }
}

/// Adds values, or merges them into those of the same type and value. The last primary one stays it.
fn add_elements(list: &mut Vec<Value>, given: Vec<Value>) {
    let mut places: HashMap<String, usize> =
        list.iter().enumerate().rev().map(|(at, element)| (identity(element), at)).collect();
    for element in given {
        let is_primary = element.is_primary();
        let place = *places.entry(identity(&element)).or_insert(list.len());
        match (list.get_mut(place), element) {
            (Some(Value::Object(object)), Value::Object(given)) => {
                for (name, value) in given.0 {
                    object.set(&name, value);
                }
            }
            (Some(_), _) => {}
            (None, element) => list.push(element),
        }
        if is_primary {
            clear_primary(list, place);
        }
    }
}

fn clear_primary(list: &mut [Value], but: usize) {
    for (at, element) in list.iter_mut().enumerate() {
        if at != but && element.is_primary() {
            set_part(element, "primary", Value::Bool(false));
        }
    }
}

/// Makes the value at a place the only primary one.
///
/// # Errors
/// `invalidValue` if no place is given, and several are primary.
fn one_primary(list: &mut [Value], place: Option<usize>) -> Result<(), Refusal> {
    match place {
        Some(place) => clear_primary(list, place),
        None if list.iter().filter(|element| element.is_primary()).count() > 1 => {
            return Err(several_primary());
        }
        None => {}
    }
    Ok(())
}

fn several_primary() -> Refusal {
    Refusal::value("an attribute has more than one primary value")
}

fn kind_of(element: &Object) -> Option<String> {
    element.text("type").map(folded)
}

/// Reports if a value is one that an operation names to be removed: by its `value`, and by its
/// `type` if that is named too.
fn is_meant(element: &Value, given: &Value) -> bool {
    let value_of = |value: &Value| match value {
        Value::Object(object) => object.get("value").and_then(Value::scalar).map(str::to_owned),
        value => value.scalar().map(str::to_owned),
    };
    match (value_of(element), value_of(given)) {
        (Some(mine), Some(named)) => {
            let named_type = given.object().and_then(kind_of);
            mine == named
                && named_type.is_none_or(|named| element.object().and_then(kind_of) == Some(named))
        }
        _ => match (element, given) {
            (Value::Object(element), Value::Object(given)) => {
                !given.0.is_empty()
                    && given.0.iter().all(|(name, value)| element.get(name) == Some(value))
            }
            _ => element == given,
        },
    }
}

/// Reports if a value says more than which one it is.
fn has_content(element: &Value, filter: Option<&Filter>) -> bool {
    let Value::Object(object) = element else { return true };
    let named = filter.and_then(Filter::equalities).unwrap_or_default();
    let says_which = |name: &str| {
        ["type", "primary"].iter().any(|other| name.eq_ignore_ascii_case(other))
            || named.iter().any(|(other, value)| {
                name.eq_ignore_ascii_case(other) && object.get(name) == Some(value)
            })
    };
    object.0.iter().any(|(name, value)| !says_which(name) && !value.is_unassigned())
}

fn set_part(element: &mut Value, name: &str, value: Value) {
    if !matches!(element, Value::Object(_)) {
        *element = Value::Object(Object::default());
    }
    if let Value::Object(object) = element {
        object.set(name, value);
    }
}

fn remove_part(element: &mut Value, name: &str) {
    if let Value::Object(object) = element {
        object.take(name);
    }
}

/// Returns the value of one part.
fn part_value(target: &Target, value: Value) -> Result<Value, Refusal> {
    normal_part(target.path.part, value.unwrapped())
}

fn normal_part(part: Option<&'static Attribute>, value: Value) -> Result<Value, Refusal> {
    let Some(part) = part else { return Ok(value) };
    match (part.form, value) {
        (Form::Boolean, value) => boolean(&value)
            .map(Value::Bool)
            .ok_or_else(|| Refusal::value(format!("`{}` is not a boolean", part.name))),
        (_, Value::Object(_) | Value::List(_)) => {
            Err(Refusal::value(format!("`{}` is not a single value", part.name)))
        }
        (_, value) => Ok(value),
    }
}

/// Returns the values that are given: a list, one object, or bare texts; under the names of the RFC,
/// each type and value once.
///
/// # Errors
/// `invalidValue` if more than one is primary.
fn normal_list(attribute: Option<&'static Attribute>, value: Value) -> Result<Vec<Value>, Refusal> {
    let given = match value {
        Value::List(elements) => elements,
        value if value.is_unassigned() => Vec::new(),
        value => vec![value],
    };
    let mut elements = Vec::with_capacity(given.len());
    for element in given {
        elements.extend(normal_element(attribute, element)?);
    }
    let mut elements = distinct(elements);
    one_primary(&mut elements, None)?;
    Ok(elements)
}

/// Returns each type and value once: the first, which is primary if one of its doubles is.
fn distinct(list: Vec<Value>) -> Vec<Value> {
    let mut places: HashMap<String, usize> = HashMap::new();
    let mut kept: Vec<Value> = Vec::with_capacity(list.len());
    for element in list {
        let place = *places.entry(identity(&element)).or_insert(kept.len());
        match kept.get_mut(place) {
            Some(first) if element.is_primary() => set_part(first, "primary", Value::Bool(true)),
            Some(_) => {}
            None => kept.push(element),
        }
    }
    kept
}

/// Returns a text that is the same for values of the same type and value, and for values without one
/// that are equal.
fn identity(element: &Value) -> String {
    match element.object().and_then(|object| Some((object, object.get("value")?))) {
        Some((object, value)) => {
            format!("{:?}:{}", kind_of(object).unwrap_or_default(), value.to_json())
        }
        None => element.to_json(),
    }
}

fn normal_element(
    attribute: Option<&'static Attribute>,
    element: Value,
) -> Result<Option<Value>, Refusal> {
    let given = match element {
        Value::Object(object) => object,
        element if element.is_unassigned() => return Ok(None),
        Value::List(_) => return Err(Refusal::value("a list is within a list of values")),
        element => {
            let has_value = attribute.is_none_or(|attribute| attribute.part("value").is_some());
            let name = if has_value { "value" } else { "formatted" };
            Object(vec![(name.to_owned(), element)])
        }
    };
    let mut object = Object::default();
    for (key, value) in given.0 {
        if value.is_unassigned() {
            object.take(&key);
            continue;
        }
        let part = attribute.and_then(|attribute| attribute.part(&key));
        let value = normal_part(part, value)?;
        object.set(part.map_or(key.as_str(), |part| part.name), value);
    }
    let element = Value::Object(object);
    Ok(has_content(&element, None).then_some(element))
}
