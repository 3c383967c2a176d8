//! Mappings as files in TOML or JSON, and their rules in words.

use std::fs;
use std::io::{self, Read};
use std::path::Path;

use serde_json::Value;

use super::super::Failure;

/// A mapping that was read from a file.
pub(super) struct MappingFile {
    pub(super) mapping: Value,
    /// The name of the file in error messages.
    pub(super) name: String,
}

impl MappingFile {
    /// Reads a file, or standard input for `-`. The name ends in `.toml` or `.json`; otherwise a
    /// text that begins with `{` is JSON, and any other is TOML.
    ///
    /// # Errors
    /// The caller's, if it cannot be read, or is neither TOML nor JSON.
    pub(super) fn read(path: &Path) -> Result<MappingFile, Failure> {
        let is_input = path == Path::new("-");
        let name =
            if is_input { "standard input".to_owned() } else { format!("`{}`", path.display()) };
        let bytes = if is_input { read_input() } else { fs::read(path) }
            .map_err(|error| Failure::Caller(format!("cannot read {name}: {error}")))?;
        let text = String::from_utf8(bytes)
            .map_err(|_| Failure::Caller(format!("{name} is not UTF-8 text")))?;
        let mapping = if is_json(path, &text) { json(&text) } else { toml(&text) };
        let mapping = mapping.map_err(|SyntaxError { line, column, message }| {
            Failure::Caller(format!("{name}, line {line}, column {column}: {message}"))
        })?;
        Ok(MappingFile { mapping, name })
    }
}

fn read_input() -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    io::stdin().lock().read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn is_json(path: &Path, text: &str) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    match extension.map(str::to_ascii_lowercase).as_deref() {
        Some("json") => true,
        Some("toml") => false,
        _ => text.trim_start().starts_with('{'),
    }
}

/// The place of a syntax error, counted from 1, and its message.
#[derive(Debug)]
struct SyntaxError {
    line: usize,
    column: usize,
    message: String,
}

fn json(text: &str) -> Result<Value, SyntaxError> {
    serde_json::from_str(text).map_err(|error| {
        let message = error.to_string();
        let message = message.rsplit_once(" at line ").map_or(&*message, |(message, _)| message);
        SyntaxError {
            line: error.line(),
            column: error.column(),
            message: format!("not valid JSON: {message}"),
        }
    })
}

fn toml(text: &str) -> Result<Value, SyntaxError> {
    ::toml::from_str(text).map_err(|error| {
        let before = text.get(..error.span().map_or(0, |span| span.start)).unwrap_or(text);
        let line = before.rsplit('\n').next().unwrap_or(before);
        // The library's message may have several lines.
        let message = error.message().lines().collect::<Vec<_>>().join(", ");
        SyntaxError {
            line: before.matches('\n').count() + 1,
            column: line.chars().count() + 1,
            message: format!("not valid TOML: {message}"),
        }
    })
}

/// A rule in words.
pub(super) struct RuleText {
    pub(super) matches: String,
    pub(super) roles: String,
}

/// Returns the rules of a mapping in words.
pub(super) fn rules(mapping: &Value) -> Vec<RuleText> {
    let rules = mapping.get("rules").and_then(Value::as_array).into_iter().flatten();
    rules.map(|rule| RuleText { matches: matches(rule), roles: roles(rule) }).collect()
}

fn matches(rule: &Value) -> String {
    let subject = rule.get("group").and_then(group_matches);
    let subject = subject.or_else(|| labelled("attribute", rule, "attribute"));
    let mut out = subject.unwrap_or_default();
    for (name, label) in [("directory_id", "directory"), ("organization_id", "organization")] {
        if let Some(scope) = labelled(label, rule, name) {
            out.push_str(&format!(", in {scope}"));
        }
    }
    out
}

fn group_matches(group: &Value) -> Option<String> {
    labelled("group", group, "name")
        .or_else(|| labelled("groups like", group, "name_glob"))
        .or_else(|| labelled("group with id", group, "id"))
}

/// Returns the text under `name` with a label before it.
fn labelled(label: &str, object: &Value, name: &str) -> Option<String> {
    Some(format!("{label} {}", object.get(name)?.as_str()?))
}

fn roles(rule: &Value) -> String {
    match rule.get("values").and_then(Value::as_object) {
        Some(values) => values
            .iter()
            .map(|(value, roles)| format!("{value}: {}", listed(Some(roles))))
            .collect::<Vec<_>>()
            .join("; "),
        None => listed(rule.get("roles")),
    }
}

/// Joins the texts of a list with commas.
pub(super) fn listed(list: Option<&Value>) -> String {
    let texts = list.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    texts.collect::<Vec<_>>().join(", ")
}

/// Returns the number under `name`; 0 if there is none.
pub(super) fn number(object: &Value, name: &str) -> u64 {
    object.get(name).and_then(Value::as_u64).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_syntax_error_has_its_line_and_column() {
        let place = |error: SyntaxError| (error.line, error.column);
        assert_eq!(place(super::json("{\n  \"mode\": \"all\",\n}").unwrap_err()), (3, 1));
        assert_eq!(place(super::toml("mode = \"all\"\nrules = [ä]\n").unwrap_err()), (2, 10));
        assert_eq!(place(super::toml("mode = \"all\"\nmode = \"all\"").unwrap_err()), (2, 1));
        assert_eq!(place(super::toml("a = 1\nb = \"ä").unwrap_err()).0, 2);
        let SyntaxError { message, .. } = super::json("{,}").unwrap_err();
        assert!(message.starts_with("not valid JSON: ") && !message.contains("line"), "{message}");
    }

    #[test]
    fn toml_and_json_give_the_same_mapping() {
        let text = "\
default_roles = [\"member\"]
[[rules]]
group.name = \"Engineering\"
roles = [\"developer\"]
[[rules]]
attribute = \"custom_attributes.role\"
values.admin = [\"admin\"]
";
        let same = json!({
            "default_roles": ["member"],
            "rules": [
                {"group": {"name": "Engineering"}, "roles": ["developer"]},
                {"attribute": "custom_attributes.role", "values": {"admin": ["admin"]}},
            ],
        });
        assert_eq!(super::toml(text).unwrap(), same);
        assert_eq!(super::json(&same.to_string()).unwrap(), same);
    }

    #[test]
    fn a_rule_is_one_line() {
        let mapping = json!({"rules": [
            {"group": {"name": "Engineering"}, "roles": ["developer", "api"]},
            {"group": {"name_glob": "Eng*"}, "organization_id": "org_1", "roles": ["developer"]},
            {"group": {"id": "g1"}, "directory_id": "d1", "roles": ["admin"]},
            {
                "attribute": "job_title",
                "values": {"CTO": ["admin", "developer"], "Lead": ["admin"]},
            },
        ]});
        let lines: Vec<String> = rules(&mapping)
            .into_iter()
            .map(|RuleText { matches, roles }| format!("{matches} -> {roles}"))
            .collect();
        assert_eq!(
            lines,
            [
                "group Engineering -> developer, api",
                "groups like Eng*, in organization org_1 -> developer",
                "group with id g1, in directory d1 -> admin",
                "attribute job_title -> CTO: admin, developer; Lead: admin",
            ]
        );
    }
}
