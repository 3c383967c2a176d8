//! A mapping as people write it, in TOML or JSON, and its rules as people read them.

use std::fs;
use std::io::{self, Read};
use std::path::Path;

use serde_json::Value;

use super::super::Failure;

/// A mapping that was read from a file.
pub(super) struct Document {
    pub(super) mapping: Value,
    /// What it is called where something is wrong with it.
    pub(super) name: String,
}

impl Document {
    /// Reads a file, or standard input for `-`. Its name ends in `.toml` or `.json`; else what
    /// begins with `{` is JSON.
    ///
    /// # Errors
    /// The caller's: it cannot be read, or is neither TOML nor JSON.
    pub(super) fn read(path: &Path) -> Result<Document, Failure> {
        let is_input = path == Path::new("-");
        let name =
            if is_input { "standard input".to_owned() } else { format!("`{}`", path.display()) };
        let unread = |error: io::Error| Failure::Caller(format!("cannot read {name}: {error}"));
        let mut bytes = Vec::new();
        if is_input {
            io::stdin().lock().read_to_end(&mut bytes).map_err(unread)?;
        } else {
            bytes = fs::read(path).map_err(unread)?;
        }
        let text = String::from_utf8(bytes)
            .map_err(|_| Failure::Caller(format!("{name} is no text in UTF-8")))?;
        let extension =
            path.extension().and_then(|extension| extension.to_str()).map(str::to_ascii_lowercase);
        let is_json = match extension.as_deref() {
            Some("json") => true,
            Some("toml") => false,
            _ => text.trim_start().starts_with('{'),
        };
        let mapping = if is_json { json(&text) } else { toml(&text) };
        let mapping = mapping.map_err(|(line, column, what)| {
            Failure::Caller(format!("{name}, line {line}, column {column}: {what}"))
        })?;
        Ok(Document { mapping, name })
    }
}

/// Where a text goes wrong, line and column counted from 1, and how.
type Mistake = (usize, usize, String);

fn json(text: &str) -> Result<Value, Mistake> {
    serde_json::from_str(text).map_err(|error| {
        let what = error.to_string();
        let what = what.rsplit_once(" at line ").map_or(what.as_str(), |(what, _)| what);
        (error.line(), error.column(), format!("this is no JSON: {what}"))
    })
}

fn toml(text: &str) -> Result<Value, Mistake> {
    ::toml::from_str(text).map_err(|error| {
        let before = text.get(..error.span().map_or(0, |span| span.start)).unwrap_or(text);
        let line = before.rsplit('\n').next().unwrap_or(before);
        // What a library says may go over several lines.
        let what = error.message().lines().collect::<Vec<_>>().join(", ");
        (
            before.matches('\n').count() + 1,
            line.chars().count() + 1,
            format!("this is no TOML: {what}"),
        )
    })
}

/// The rules of a mapping, each as what it matches and which roles it gives.
pub(super) fn rules(mapping: &Value) -> Vec<[String; 2]> {
    let rules = mapping.get("rules").and_then(Value::as_array).into_iter().flatten();
    rules.map(|rule| [matches(rule), roles(rule)]).collect()
}

fn matches(rule: &Value) -> String {
    let text =
        |object: &Value, name: &str| object.get(name).and_then(Value::as_str).map(str::to_owned);
    let group = rule.get("group").and_then(|group| {
        let by = |name: &str, what: &str| text(group, name).map(|text| format!("{what} {text}"));
        by("name", "group")
            .or_else(|| by("name_glob", "groups like"))
            .or_else(|| by("id", "group with id"))
    });
    let what = group
        .or_else(|| text(rule, "attribute").map(|path| format!("attribute {path}")))
        .unwrap_or_default();
    let scope = |name: &str, what: &str| {
        text(rule, name).map(|id| format!(", in {what} {id}")).unwrap_or_default()
    };
    what + &scope("directory_id", "directory") + &scope("organization_id", "organization")
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

/// The texts of a list, with commas between.
pub(super) fn listed(list: Option<&Value>) -> String {
    let texts = list.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    texts.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_mistake_is_told_with_its_line_and_column() {
        let place = |mistake: Mistake| (mistake.0, mistake.1);
        assert_eq!(place(super::json("{\n  \"mode\": \"all\",\n}").unwrap_err()), (3, 1));
        assert_eq!(place(super::toml("mode = \"all\"\nrules = [ä]\n").unwrap_err()), (2, 10));
        assert_eq!(place(super::toml("mode = \"all\"\nmode = \"all\"").unwrap_err()), (2, 1));
        assert_eq!(place(super::toml("a = 1\nb = \"ä").unwrap_err()).0, 2);
        let (_, _, what) = super::json("{,}").unwrap_err();
        assert!(what.starts_with("this is no JSON: ") && !what.contains("line"), "{what}");
    }

    #[test]
    fn both_notations_say_the_same() {
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
    fn a_rule_is_told_on_one_line() {
        let mapping = json!({"rules": [
            {"group": {"name": "Engineering"}, "roles": ["developer", "api"]},
            {"group": {"name_glob": "Eng*"}, "organization_id": "org_1", "roles": ["developer"]},
            {"group": {"id": "g1"}, "directory_id": "d1", "roles": ["admin"]},
            {"attribute": "job_title", "values": {"CTO": ["admin", "developer"], "Lead": ["admin"]}},
        ]});
        let told: Vec<String> = rules(&mapping).into_iter().map(|rule| rule.join(" -> ")).collect();
        assert_eq!(
            told,
            [
                "group Engineering -> developer, api",
                "groups like Eng*, in organization org_1 -> developer",
                "group with id g1, in directory d1 -> admin",
                "attribute job_title -> CTO: admin, developer; Lead: admin",
            ]
        );
    }
}
