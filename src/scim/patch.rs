//! PATCH: operations that apply to a copy of a resource, all or none (RFC 7644, section 3.5.2).

use super::document::Document;
use super::draft::{Draft, object};
use super::edit::{Edit, Operation};
use super::path::Target;
use super::value::Value;
use super::{Kind, OPERATIONS_MAX, Refusal};

/// Applies the operations of a PATCH to a copy of a resource, all or none.
///
/// It costs as much as the operations and the document; the members of a group do not count.
///
/// # Errors
/// The body is not a list of operations, or one of them cannot be applied.
pub fn patch(kind: Kind, before: &Document, body: &str) -> Result<Draft, Refusal> {
    let mut body = object(body)?;
    let operations = match body.take("Operations") {
        Some(Value::List(operations)) => operations,
        Some(operation @ Value::Object(_)) => vec![operation],
        _ => return Err(Refusal::syntax("the body has no list `Operations`")),
    };
    if operations.len() > OPERATIONS_MAX {
        return Err(Refusal::too_large(format!(
            "a PATCH takes at most {OPERATIONS_MAX} operations"
        )));
    }
    let mut edit = Edit::new(kind, before.clone());
    for operation in operations {
        apply(&mut edit, kind, operation)?;
    }
    Ok(edit.finish()?.or_unchanged(before))
}

fn apply(edit: &mut Edit, kind: Kind, operation: Value) -> Result<(), Refusal> {
    let Value::Object(mut fields) = operation else {
        return Err(Refusal::syntax("an operation is not an object"));
    };
    let operation =
        fields.text("op").map(str::trim).and_then(Operation::parse).ok_or_else(|| {
            Refusal::syntax("the `op` of an operation is not add, remove or replace")
        })?;
    let value = fields.take("value");
    let path = match fields.take("path") {
        None | Some(Value::Null) => String::new(),
        Some(Value::Text(path)) => path,
        Some(_) => return Err(Refusal::path("the `path` of an operation is not a text")),
    };
    if path.trim().is_empty() {
        return without_path(edit, operation, value);
    }
    let target = Target::parse(kind, &path)?;
    match (operation, value) {
        (Operation::Remove, value) => {
            edit.remove(&target, value.filter(|value| *value != Value::Null))
        }
        (_, None) => Err(Refusal::value("an operation that adds or replaces has no `value`")),
        (_, Some(value)) => edit.set(operation, &target, value),
    }
}

fn without_path(
    edit: &mut Edit,
    operation: Operation,
    value: Option<Value>,
) -> Result<(), Refusal> {
    match (operation, value) {
        (Operation::Remove, _) => {
            Err(Refusal::bad("noTarget", "an operation that removes has no `path`"))
        }
        (_, Some(Value::Object(object))) => edit.apply_object(operation, object),
        _ => Err(Refusal::syntax("the `value` of an operation without a `path` is not an object")),
    }
}
