//! Role mappings as JSON: reading, with the path of every mistake, and writing.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use rollcall_projections::{GroupPattern, Mapping, Matches, Mode, RoleNames, Rule};
use serde_json::{Map, Value, json};

use super::attributes::is_path;
use super::comparison::name_text;

/// The limits of a mapping: rules, roles in a list and in all, values of a rule; bytes of a role
/// and of any other text.
const RULES_MAX: usize = 1000;
const ROLES_MAX: usize = 1000;
const VALUES_MAX: usize = 1000;
const ROLE_BYTES_MAX: usize = 255;
const TEXT_BYTES_MAX: usize = 1024;

/// The kind of a mistake in one parameter or field, for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldCode {
    /// There is no parameter or field of that name.
    UnknownParameter,
    /// It is missing.
    Required,
    /// It is not of the form that is taken.
    Invalid,
    /// It has the right form, and is too low or too high.
    OutOfRange,
    /// It cannot be combined with another one that is given.
    Exclusive,
    /// It is a text of too many bytes, or a list of too many items.
    TooLong,
}

impl FieldCode {
    /// Every code.
    pub const ALL: [FieldCode; 6] = [
        FieldCode::UnknownParameter,
        FieldCode::Required,
        FieldCode::Invalid,
        FieldCode::OutOfRange,
        FieldCode::Exclusive,
        FieldCode::TooLong,
    ];

    /// Returns the stable code.
    pub fn name(self) -> &'static str {
        match self {
            FieldCode::UnknownParameter => "unknown_parameter",
            FieldCode::Required => "required",
            FieldCode::Invalid => "invalid",
            FieldCode::OutOfRange => "out_of_range",
            FieldCode::Exclusive => "exclusive",
            FieldCode::TooLong => "too_long",
        }
    }
}

/// A mistake in a mapping.
#[derive(Debug, PartialEq, Eq)]
pub struct MappingError {
    /// The field, as a path from `mapping` on.
    pub field: String,
    /// The kind of the mistake.
    pub code: FieldCode,
    /// A sentence that says what is wrong with the field.
    pub message: String,
}

/// Reads a mapping.
///
/// # Errors
/// Every mistake, not only the first.
pub fn parse_mapping(value: &Value) -> Result<Mapping, Vec<MappingError>> {
    let mut errors = Errors(Vec::new());
    let mapping = mapping(&mut errors, value);
    mapping.iter().for_each(|mapping| check_paths(&mut errors, mapping));
    match mapping {
        Some(mapping) if errors.0.is_empty() => Ok(mapping),
        _ => Err(errors.0),
    }
}

/// Reads a mapping that was set. The paths of its attributes are not checked: when it was set,
/// double quotes had no meaning in them.
pub(super) fn parse_recorded_mapping(value: &Value) -> Option<Mapping> {
    let mut errors = Errors(Vec::new());
    mapping(&mut errors, value).filter(|_| errors.0.is_empty())
}

struct Errors(Vec<MappingError>);

impl Errors {
    fn add(&mut self, field: &str, code: FieldCode, message: impl Into<String>) {
        self.0.push(MappingError { field: field.to_owned(), code, message: message.into() });
    }

    /// Returns the fields of an object; any field that is not in `known` is a mistake.
    fn object<'v>(
        &mut self,
        field: &str,
        value: &'v Value,
        known: &[&str],
    ) -> Option<&'v Map<String, Value>> {
        let Some(fields) = value.as_object() else {
            self.add(field, FieldCode::Invalid, "it must be an object");
            return None;
        };
        for name in fields.keys().filter(|name| !known.contains(&name.as_str())) {
            let name: String = name.chars().take(64).collect();
            self.add(&format!("{field}.{name}"), FieldCode::UnknownParameter, "unknown field");
        }
        Some(fields)
    }

    /// Reads a list of roles without duplicates.
    fn roles(&mut self, field: &str, value: Option<&Value>, needed: bool) -> Vec<String> {
        let Some(roles) = value.map_or(Some(&[][..]), |value| value.as_array().map(Vec::as_slice))
        else {
            self.add(field, FieldCode::Invalid, "it must be a list of roles");
            return Vec::new();
        };
        if roles.is_empty() && needed {
            self.add(field, FieldCode::Required, "it must name a role");
        }
        if roles.len() > ROLES_MAX {
            let message = format!("it may name at most {ROLES_MAX} roles");
            self.add(field, FieldCode::TooLong, message);
            return Vec::new();
        }
        let (mut out, mut seen) = (Vec::with_capacity(roles.len()), HashSet::new());
        for (at, role) in roles.iter().enumerate() {
            match self.role(&format!("{field}[{at}]"), role) {
                Some(role) if !seen.insert(role) => {
                    self.add(&format!("{field}[{at}]"), FieldCode::Invalid, "it is listed twice");
                }
                role => out.extend(role.map(str::to_owned)),
            }
        }
        out
    }

    fn role<'v>(&mut self, field: &str, value: &'v Value) -> Option<&'v str> {
        let role = value.as_str().filter(|role| {
            (1..=ROLE_BYTES_MAX).contains(&role.len()) && !role.chars().any(char::is_control)
        });
        if role.is_none() {
            let message = format!("a role is a text of 1 to {ROLE_BYTES_MAX} bytes");
            self.add(field, length_or_form(value, ROLE_BYTES_MAX), message);
        }
        role
    }

    /// Reads a text that is not empty.
    fn text(&mut self, field: &str, value: &Value) -> Option<String> {
        let text = value.as_str().filter(|text| (1..=TEXT_BYTES_MAX).contains(&text.len()));
        if text.is_none() {
            let message = format!("it must be a text of 1 to {TEXT_BYTES_MAX} bytes");
            self.add(field, length_or_form(value, TEXT_BYTES_MAX), message);
        }
        text.map(str::to_owned)
    }

    /// Reads a field that may be absent, as a text that is not empty.
    fn optional_text(
        &mut self,
        field: &str,
        fields: &Map<String, Value>,
        name: &str,
    ) -> Option<String> {
        self.text(&format!("{field}.{name}"), fields.get(name)?)
    }

    /// Refuses the field `name` beside the field `with`.
    fn forbid(&mut self, field: &str, fields: &Map<String, Value>, name: &str, with: &str) {
        if fields.contains_key(name) {
            let message = format!("it cannot be combined with `{with}`");
            self.add(&format!("{field}.{name}"), FieldCode::Exclusive, message);
        }
    }
}

/// Returns the code of a value that is not a text of at most `bytes_max` bytes.
fn length_or_form(value: &Value, bytes_max: usize) -> FieldCode {
    let too_long = value.as_str().is_some_and(|text| text.len() > bytes_max);
    if too_long { FieldCode::TooLong } else { FieldCode::Invalid }
}

fn mapping(errors: &mut Errors, value: &Value) -> Option<Mapping> {
    let fields =
        errors.object("mapping", value, &["mode", "default_roles", "priority", "rules"])?;
    let mode = mode(errors, fields.get("mode"));
    let default_roles = errors.roles("mapping.default_roles", fields.get("default_roles"), false);
    let priority = errors.roles("mapping.priority", fields.get("priority"), false);
    let rules = rules(errors, fields.get("rules"));
    let (default_roles, priority) = (default_roles.into(), priority.into());
    let mapping = Mapping { mode, default_roles, priority, rules };
    check_roles(errors, &mapping);
    Some(mapping)
}

fn mode(errors: &mut Errors, value: Option<&Value>) -> Mode {
    match value.map(Value::as_str) {
        None | Some(Some("all")) => Mode::All,
        Some(Some("highest_priority")) => Mode::HighestPriority,
        Some(_) => {
            let message = "it must be `all` or `highest_priority`";
            errors.add("mapping.mode", FieldCode::Invalid, message);
            Mode::All
        }
    }
}

fn rules(errors: &mut Errors, value: Option<&Value>) -> Vec<Arc<Rule>> {
    let rules = match value.map(Value::as_array) {
        None => &[][..],
        Some(Some(rules)) if rules.len() <= RULES_MAX => rules,
        Some(rules) => {
            let code = if rules.is_some() { FieldCode::TooLong } else { FieldCode::Invalid };
            let message = format!("it must be a list of at most {RULES_MAX} rules");
            errors.add("mapping.rules", code, message);
            &[]
        }
    };
    rules
        .iter()
        .enumerate()
        .filter_map(|(at, value)| rule(errors, &format!("mapping.rules[{at}]"), value))
        .map(Arc::new)
        .collect()
}

/// Checks the paths of attributes.
fn check_paths(errors: &mut Errors, mapping: &Mapping) {
    for (at, rule) in mapping.rules.iter().enumerate() {
        if let Matches::Attribute { path, .. } = &rule.matches
            && !is_path(path)
        {
            errors.add(
                &format!("mapping.rules[{at}].attribute"),
                FieldCode::Invalid,
                "it must be names separated by dots; put a name that has dots or begins with a \
                 quote in double quotes, as in `a.\"b.c\"`",
            );
        }
    }
}

/// Checks the number of roles, and that `priority` has each of them where it decides.
fn check_roles(errors: &mut Errors, mapping: &Mapping) {
    let roles: BTreeSet<&String> = mapping.roles().collect();
    if roles.len() > ROLES_MAX {
        let message = format!("it may name at most {ROLES_MAX} roles in all");
        errors.add("mapping", FieldCode::TooLong, message);
    }
    if mapping.mode == Mode::HighestPriority {
        let priority: HashSet<&String> = mapping.priority.iter().collect();
        for role in roles.into_iter().filter(|role| !priority.contains(role)) {
            errors.add(
                "mapping.priority",
                FieldCode::Required,
                format!("with `highest_priority` it must have every role, and `{role}` is missing"),
            );
        }
    }
}

fn rule(errors: &mut Errors, field: &str, value: &Value) -> Option<Rule> {
    let fields = errors.object(
        field,
        value,
        &["group", "roles", "attribute", "values", "directory_id", "organization_id"],
    )?;
    let directory = errors.optional_text(field, fields, "directory_id");
    let organization = errors.optional_text(field, fields, "organization_id");
    let matches = match (fields.get("group"), fields.get("attribute")) {
        (Some(group), None) => matches_group(errors, field, fields, group)?,
        (None, Some(path)) => matches_attribute(errors, field, fields, path)?,
        (group, _) => {
            let code = if group.is_some() { FieldCode::Exclusive } else { FieldCode::Required };
            errors.add(field, code, "it must have either `group` or `attribute`");
            return None;
        }
    };
    Some(Rule { matches, directory, organization })
}

fn matches_group(
    errors: &mut Errors,
    field: &str,
    fields: &Map<String, Value>,
    group: &Value,
) -> Option<Matches> {
    errors.forbid(field, fields, "values", "group");
    let group = pattern(errors, &format!("{field}.group"), group);
    let roles = errors.roles(&format!("{field}.roles"), fields.get("roles"), true);
    Some(Matches::Group { group: group?, roles })
}

fn matches_attribute(
    errors: &mut Errors,
    field: &str,
    fields: &Map<String, Value>,
    path: &Value,
) -> Option<Matches> {
    errors.forbid(field, fields, "roles", "attribute");
    let path = errors.text(&format!("{field}.attribute"), path);
    let values = values(errors, &format!("{field}.values"), fields.get("values"));
    Some(Matches::Attribute { path: path?, values })
}

fn pattern(errors: &mut Errors, field: &str, value: &Value) -> Option<GroupPattern> {
    let fields = errors.object(field, value, &["id", "name", "name_glob"])?;
    let given: Vec<(&str, &Value)> = ["id", "name", "name_glob"]
        .into_iter()
        .filter_map(|name| Some((name, fields.get(name)?)))
        .collect();
    let [(name, value)] = given[..] else {
        let code = if given.is_empty() { FieldCode::Required } else { FieldCode::Exclusive };
        errors.add(field, code, "it must have exactly one of `id`, `name` and `name_glob`");
        return None;
    };
    let text = errors.text(&format!("{field}.{name}"), value)?;
    Some(match name {
        "id" => GroupPattern::Id(text.into()),
        "name" => GroupPattern::Name(name_text(&text)),
        _ => GroupPattern::Glob(name_text(&text)),
    })
}

fn values(errors: &mut Errors, field: &str, value: Option<&Value>) -> Vec<(String, RoleNames)> {
    let Some(values) = value.and_then(Value::as_object).filter(|values| !values.is_empty()) else {
        let code = if value.is_some() { FieldCode::Invalid } else { FieldCode::Required };
        errors.add(field, code, "it must be an object of roles by value");
        return Vec::new();
    };
    if values.len() > VALUES_MAX {
        errors.add(field, FieldCode::TooLong, format!("it may have at most {VALUES_MAX} values"));
        return Vec::new();
    }
    let mut lists = HashSet::new();
    let read = |(key, roles): (&String, &Value)| {
        let roles = errors.roles(&format!("{field}.{key}"), Some(roles), true).into();
        (key.clone(), shared(&mut lists, roles))
    };
    values.iter().map(read).collect()
}

/// Returns the list that equals `roles`, which is kept if there was none: most values of a rule
/// give one of a few lists.
fn shared(lists: &mut HashSet<RoleNames>, roles: RoleNames) -> RoleNames {
    match lists.get(&roles) {
        Some(known) => known.clone(),
        None => {
            lists.insert(roles.clone());
            roles
        }
    }
}

/// Writes a mapping with all its fields.
pub fn mapping_json(mapping: &Mapping) -> Value {
    let mode = match mapping.mode {
        Mode::All => "all",
        Mode::HighestPriority => "highest_priority",
    };
    let rules: Vec<Value> = mapping.rules.iter().map(|rule| rule_json(rule)).collect();
    let (default_roles, priority) = (&*mapping.default_roles, &*mapping.priority);
    json!({ "mode": mode, "default_roles": default_roles, "priority": priority, "rules": rules })
}

fn rule_json(rule: &Rule) -> Value {
    let mut out = match &rule.matches {
        Matches::Group { group, roles } => {
            let group = match group {
                GroupPattern::Id(id) => json!({ "id": &**id }),
                GroupPattern::Name(name) => json!({ "name": &*name.written }),
                GroupPattern::Glob(glob) => json!({ "name_glob": &*glob.written }),
            };
            json!({ "group": group, "roles": roles })
        }
        Matches::Attribute { path, values } => {
            let values: Map<String, Value> =
                values.iter().map(|(value, roles)| (value.clone(), json!(&**roles))).collect();
            json!({ "attribute": path, "values": values })
        }
    };
    for (name, value) in
        [("directory_id", &rule.directory), ("organization_id", &rule.organization)]
    {
        if let (Some(value), Some(out)) = (value, out.as_object_mut()) {
            out.insert(name.into(), json!(value));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapping_comes_back_as_it_was_written() {
        let written = json!({
            "mode": "highest_priority", "default_roles": ["member"], "priority": ["admin", "developer", "member"],
            "rules": [
                { "group": { "name": "Platform" }, "roles": ["developer", "member"] },
                { "group": { "id": "directory_group_1" }, "directory_id": "directory_1", "roles": ["admin"] },
                { "group": { "name_glob": "Plat*" }, "organization_id": "org_1", "roles": ["developer"] },
                { "attribute": "custom_attributes.role", "values": { "admin": ["admin"], "true": ["member"] } },
            ],
        });
        assert_eq!(mapping_json(&parse_mapping(&written).unwrap()), written);
        let empty = json!({ "mode": "all", "default_roles": [], "priority": [], "rules": [] });
        assert_eq!(mapping_json(&parse_mapping(&json!({})).unwrap()), empty);
    }

    #[test]
    fn a_path_that_is_refused_today_is_read_where_it_was_set_before() {
        let rule = json!({ "attribute": "a.\"b", "values": { "x": ["r"] } });
        let written = json!({ "rules": [rule] });
        let errors = parse_mapping(&written).unwrap_err();
        assert_eq!(errors[0].field, "mapping.rules[0].attribute");
        let mapping = parse_recorded_mapping(&written).unwrap();
        assert_eq!(mapping_json(&mapping)["rules"], json!([rule]));
    }

    #[test]
    fn every_mistake_is_reported_with_its_path() {
        let group = json!({ "name": "g" });
        let table = [
            (json!([]), &["mapping"][..]),
            (json!({ "mode": "any" }), &["mapping.mode"]),
            (json!({ "mode": null }), &["mapping.mode"]),
            (json!({ "modes": "all" }), &["mapping.modes"]),
            (json!({ "default_roles": "member" }), &["mapping.default_roles"]),
            (
                json!({ "default_roles": ["a", "", 1] }),
                &["mapping.default_roles[1]", "mapping.default_roles[2]"],
            ),
            (
                json!({ "priority": ["a", "a", "b\u{0}"] }),
                &["mapping.priority[1]", "mapping.priority[2]"],
            ),
            (json!({ "rules": {} }), &["mapping.rules"]),
            (json!({ "rules": [1] }), &["mapping.rules[0]"]),
            (json!({ "rules": [{}] }), &["mapping.rules[0]"]),
            (json!({ "rules": [{ "group": group, "attribute": "a" }] }), &["mapping.rules[0]"]),
            (json!({ "rules": [{ "group": {}, "roles": ["r"] }] }), &["mapping.rules[0].group"]),
            (
                json!({ "rules": [{ "group": { "id": "x", "name": "y" }, "roles": ["r"] }] }),
                &["mapping.rules[0].group"],
            ),
            (
                json!({ "rules": [{ "group": { "name": "" }, "roles": ["r"] }] }),
                &["mapping.rules[0].group.name"],
            ),
            (
                json!({ "rules": [{ "group": { "nam": "g" }, "roles": ["r"] }] }),
                &["mapping.rules[0].group.nam", "mapping.rules[0].group"],
            ),
            (
                json!({ "rules": [{ "group": group }, { "group": group, "roles": [] }] }),
                &["mapping.rules[0].roles", "mapping.rules[1].roles"],
            ),
            (
                json!({ "rules": [{ "group": group, "roles": ["r"], "values": {} }] }),
                &["mapping.rules[0].values"],
            ),
            (
                json!({ "rules": [{ "group": group, "roles": ["r"], "directory_id": "" }] }),
                &["mapping.rules[0].directory_id"],
            ),
            (
                json!({ "rules": [{ "attribute": "a..b", "values": { "x": ["r"] } }] }),
                &["mapping.rules[0].attribute"],
            ),
            (
                json!({ "rules": [{ "attribute": "a", "values": {} }] }),
                &["mapping.rules[0].values"],
            ),
            (
                json!({ "rules": [{ "attribute": "a", "roles": ["r"], "values": { "x": [] } }] }),
                &["mapping.rules[0].roles", "mapping.rules[0].values.x"],
            ),
            (
                json!({ "mode": "highest_priority", "default_roles": ["z"], "priority": ["a"], "rules": [{ "group": group, "roles": ["a", "b"] }] }),
                &["mapping.priority", "mapping.priority"],
            ),
        ];
        for (value, fields) in table {
            let errors = parse_mapping(&value).unwrap_err();
            assert_eq!(
                errors.iter().map(|error| error.field.as_str()).collect::<Vec<_>>(),
                fields,
                "{value}"
            );
        }
        let many: Vec<Value> =
            (0..1001).map(|_| json!({ "group": group, "roles": ["r"] })).collect();
        assert!(
            parse_mapping(&json!({ "rules": many[1..] })).is_ok()
                && parse_mapping(&json!({ "rules": many })).is_err()
        );
        // The limit of a thousand roles counts over all rules.
        let roles = |from: usize, to: usize| {
            (from..to).map(|number| format!("r{number}")).collect::<Vec<_>>()
        };
        let two = |more: usize| json!({ "rules": [{ "group": group, "roles": roles(0, 600) }, { "group": group, "roles": roles(600, 1000 + more) }] });
        assert!(parse_mapping(&two(0)).is_ok());
        assert_eq!(parse_mapping(&two(1)).unwrap_err()[0].field, "mapping");
        assert_eq!(
            parse_mapping(&json!({ "priority": roles(0, 1001) })).unwrap_err()[0].field,
            "mapping.priority"
        );
        let values: Map<String, Value> =
            (0..1001).map(|number| (number.to_string(), json!(["r"]))).collect();
        assert_eq!(
            parse_mapping(&json!({ "rules": [{ "attribute": "a", "values": values }] }))
                .unwrap_err()[0]
                .field,
            "mapping.rules[0].values"
        );
    }
}
