//! What people want to see of a difference: whom it is about, and the values that differ.

use std::collections::BTreeMap;

use rollcall_projections::{Cut, HeldKind, Millis};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::compare::Served;
use super::ours::Ours;
use super::progress::{DifferentKind, FoundDifference};
use crate::engine::Engine;
use crate::log::ReadError;

/// The longest value that is kept, in bytes of its JSON text.
const VALUE_BYTES_MAX: usize = 200;

/// The most fields of a difference whose values are kept.
const FIELDS_MAX: usize = 50;

/// The words by which people know a thing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Label {
    /// The email of a user; of a membership that of its user.
    pub email: Option<String>,
    /// The name; of a membership that of its group.
    pub name: Option<String>,
}

/// A field that differs, with `None` on the side that lacks it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldChange {
    /// The value that the log had.
    pub from: Option<Value>,
    /// The value that the source has.
    pub to: Option<Value>,
}

/// The personal part of a difference, which not every key may read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Details {
    /// `None` until it is looked up.
    pub label: Option<Label>,
    /// The fields of both sides whose values are short.
    pub changed: BTreeMap<String, FieldChange>,
}

impl Label {
    fn of(served: &Served) -> Label {
        let name = served.text("name").or_else(|| {
            let names = ["first_name", "last_name"].map(|field| served.text(field));
            let names: Vec<String> = names.into_iter().flatten().collect();
            Some(names.join(" ")).filter(|name| !name.is_empty())
        });
        Label { email: served.text("email"), name }
    }
}

impl Details {
    /// Describes a thing as the source has it, or else the log; `fields` are those that differ.
    pub(super) fn of(our: Option<&Served>, their: Option<&Served>, fields: &[String]) -> Details {
        let label = their.or(our).map(Label::of);
        let values = our.zip(their).into_iter().flat_map(|(our, their)| {
            fields.iter().filter_map(|field| Some((field.clone(), change(our, their, field)?)))
        });
        Details { label, changed: values.take(FIELDS_MAX).collect() }
    }
}

/// Returns a field of both sides; `None` if a value is long.
fn change(our: &Served, their: &Served, field: &str) -> Option<FieldChange> {
    let value = |served: &Served| match served.value(field) {
        None => Some(None),
        Some(json) if json.len() > VALUE_BYTES_MAX => None,
        Some(json) => serde_json::from_str(json).ok().map(Some),
    };
    Some(FieldChange { from: value(our)?, to: value(their)? })
}

/// Returns the words for what a difference is about: as the source had it, or else as the log knew
/// it just before the difference was recorded, or knows it now. Blocks while it reads the log.
///
/// # Errors
/// If the log cannot be read.
pub fn label_of(engine: &Engine, found: &FoundDifference) -> Result<Label, ReadError> {
    if let Some(label) = &found.details.label {
        return Ok(label.clone());
    }
    let known_at = found.recorded.map_or_else(|| engine.views().head(), |seq| seq - 1);
    let ours = Ours { engine, cut: Cut { as_of: Millis::MAX, known_at } };
    let thing = |kind, id: &Option<String>| -> Result<Label, ReadError> {
        let thing = id.as_ref().map(|id| ours.thing(kind, id)).transpose()?.flatten();
        Ok(thing.map(|thing| Label::of(&thing.served)).unwrap_or_default())
    };
    match found.kind {
        DifferentKind::Directory => directory_label(ours, &found.directory_id),
        DifferentKind::Group => thing(HeldKind::Group, &found.id),
        DifferentKind::User => thing(HeldKind::User, &found.id),
        DifferentKind::Membership => {
            let user = thing(HeldKind::User, &found.user_id)?;
            let group = thing(HeldKind::Group, &found.group_id)?;
            Ok(Label { email: user.email, name: group.name })
        }
    }
}

fn directory_label(ours: Ours<'_>, id: &str) -> Result<Label, ReadError> {
    let served = ours.row(id).map(|row| ours.directory(&row)).transpose()?;
    Ok(served.map(|served| Label::of(&served)).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::documents::Shape;
    use crate::sources::reconcile::compare::Home;

    fn user(fields: Value) -> Served {
        let home = Home { directory: "directory_1", organization: "org_1" };
        Served::theirs(Shape::User, &fields.to_string(), home)
    }

    #[test]
    fn a_difference_has_the_words_of_the_source_and_short_values_of_both_sides() {
        let (short, long) = ("x".repeat(VALUE_BYTES_MAX - 2), "x".repeat(VALUE_BYTES_MAX - 1));
        let our = user(json!({ "id": "u", "state": "active", "email": "old@foo.example",
            "job_title": long, "custom_attributes": { "floor": 3 } }));
        let their = user(json!({ "id": "u", "state": "active", "email": "new@foo.example",
            "first_name": "Ada", "last_name": "Roe", "job_title": short }));
        let fields = their.differing(&our);
        let Details { label, changed } = Details::of(Some(&our), Some(&their), &fields);
        let label = label.unwrap();
        assert_eq!(label.email.as_deref(), Some("new@foo.example"));
        assert_eq!(label.name.as_deref(), Some("Ada Roe"));
        assert_eq!(changed["email"].from, Some("old@foo.example".into()));
        assert_eq!(changed["email"].to, Some("new@foo.example".into()));
        assert_eq!(
            (&changed["first_name"].from, &changed["custom_attributes.floor"].to),
            (&None, &None)
        );
        assert_eq!(changed["custom_attributes.floor"].from, Some(json!(3)));
        assert!(fields.contains(&"job_title".to_owned()) && !changed.contains_key("job_title"));
        // One side alone has nothing to compare.
        let alone = Details::of(Some(&our), None, &[]);
        assert_eq!(alone.label.unwrap().email.as_deref(), Some("old@foo.example"));
        assert!(alone.changed.is_empty());
    }

    #[test]
    fn a_thing_with_very_many_differing_fields_keeps_some_values() {
        let attributes: Value =
            (0..FIELDS_MAX + 9).map(|at| (format!("k{at}"), json!(1))).collect();
        let their = user(json!({ "id": "u", "custom_attributes": attributes }));
        let our = user(json!({ "id": "u" }));
        let fields = their.differing(&our);
        assert_eq!(fields.len(), FIELDS_MAX + 9);
        assert_eq!(Details::of(Some(&our), Some(&their), &fields).changed.len(), FIELDS_MAX);
    }
}
