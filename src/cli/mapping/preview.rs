//! `rollcall mapping preview`

use std::path::PathBuf;

use clap::Args;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::super::client::{Answer, Client};
use super::super::read::listing::{Moment, Output, Query, refused};
use super::super::read::print::{coloured, counted, one_line, width};
use super::super::read::source::Source;
use super::super::table::{self, Column, harmless};
use super::super::{Failure, print};
use super::document::{Document, rules};
use super::{PATH, mistakes};

/// So many lines are aligned with each other and printed at once.
const LINES: usize = 1000;

/// So many groups without a rule are named.
const GROUPS_NAMED: usize = 10;

/// What setting a mapping would change, as a diff: who would gain which role, and who would lose
/// which. Nothing is set.
///
/// FILE is the mapping in TOML or JSON, by its name's ending, else by what is in it; `-` reads
/// standard input. A role that somebody would gain stands with the group or attribute that would
/// give it; one that somebody would lose, with what gives it now.
#[derive(Args)]
#[command(after_help = "\
Examples:
  rollcall mapping preview mapping.toml
  rollcall mapping preview mapping.toml --effective-from 2026-02-09T09:00:00Z --as-of 2026-02-10T12:00:00Z
  rollcall mapping show --json | jq '.mapping | .default_roles = []' | rollcall mapping preview -

A mapping in TOML:
  default_roles = [\"member\"]
  [[rules]]
  group.name_glob = \"*Engineering\"
  roles = [\"developer\"]
  [[rules]]
  attribute = \"custom_attributes.role\"
  values.admin = [\"admin\"]")]
pub(super) struct Preview {
    /// The mapping
    file: PathBuf,
    /// As if it was in force from then on, an RFC 3339 time; without it, from now on
    #[arg(long, value_name = "T")]
    effective_from: Option<String>,
    /// At most so many changes
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    #[command(flatten)]
    moment: Moment,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    source: Source,
}

impl Preview {
    pub(super) fn run(self) -> Result<(), Failure> {
        let Preview { file, effective_from, limit, moment, output, source } = self;
        let document = Document::read(&file)?;
        source.ask(move |client| {
            let body = setting(&document.mapping, effective_from.as_deref(), None);
            let whole = ask(client, &body, &moment.query(), &document.name)?;
            let limit = limit.unwrap_or(u64::MAX);
            if output.json {
                print(&format!("{}\n", one_line(whole.json::<&RawValue>()?.get())))?;
                return changes(client, &body, &whole, limit, |change| {
                    print(&format!("{}\n", one_line(change)))
                });
            }
            let (width, coloured) = (width(), coloured(&std::io::stdout()));
            show(client, &body, &whole, limit, width, &mut |lines| {
                print(&if coloured { painted(lines) } else { lines.to_owned() })
            })?;
            print(&summary(&whole.json()?, &document.mapping, width))?;
            if let (Some(as_of), Some(known_at)) = (&whole.as_of, &whole.known_at) {
                let version = whole.json::<Base>()?.base_version;
                eprintln!(
                    "{}",
                    harmless(&format!(
                        "compared with version {version}, as of {as_of}, known at record {known_at}"
                    ))
                );
            }
            Ok(())
        })
    }
}

/// The body that sets a mapping, or previews it.
pub(super) fn setting(mapping: &Value, effective_from: Option<&str>, note: Option<&str>) -> Value {
    let mut body = json!({ "mapping": mapping });
    for (name, value) in [("effective_from", effective_from), ("note", note)] {
        if let (Some(value), Some(body)) = (value, body.as_object_mut()) {
            body.insert(name.into(), value.into());
        }
    }
    body
}

/// With which version a mapping was compared.
#[derive(serde::Deserialize)]
pub(super) struct Base {
    pub(super) base_version: u64,
}

/// Asks for a preview: its totals, and one of its changes.
///
/// # Errors
/// The caller's, with every mistake in the mapping; `document` is what it is called.
pub(super) fn ask(
    client: &Client,
    body: &Value,
    moment: &Query,
    document: &str,
) -> Result<Answer, Failure> {
    let path = moment.clone().with("limit", Some("1")).at(&format!("{PATH}/preview"));
    let answer = client.post(&path, Some(body))?;
    match answer.status {
        200 => Ok(answer),
        _ => Err(mistakes(&answer, document).unwrap_or_else(|| refused(&answer, client, ""))),
    }
}

/// Hands over the changes of a preview whose totals were asked for, at their moment, each as it
/// came, in order of the users' ids.
fn changes(
    client: &Client,
    body: &Value,
    whole: &Answer,
    limit: u64,
    mut each: impl FnMut(&str) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let changed =
        whole.json::<Value>()?.pointer("/totals/changed").and_then(Value::as_u64).unwrap_or(0);
    let wanted = changed.min(limit);
    if wanted == 0 {
        return Ok(());
    }
    let moment = Query::default()
        .with("as_of", whole.as_of.clone())
        .with("known_at", whole.known_at.clone());
    let mut count = 0;
    let refusal = client.post_for_lines(&moment.at(&format!("{PATH}/preview")), body, |line| {
        each(line)?;
        count += 1;
        Ok(count < wanted)
    })?;
    match refusal {
        Some(answer) => Err(refused(&answer, client, "")),
        // A server that breaks off in the middle can say so in no other way.
        None if count < wanted => {
            Err(Failure::Ours(format!("the server broke off after {count} of {changed} changes")))
        }
        None => Ok(()),
    }
}

/// Hands over the changes as lines of a diff, some at a time.
fn show(
    client: &Client,
    body: &Value,
    whole: &Answer,
    limit: u64,
    width: Option<u16>,
    each: &mut dyn FnMut(&str) -> Result<(), Failure>,
) -> Result<(), Failure> {
    // What is printed later stands under what came before: every role is known beforehand, of the
    // emails only how long most are.
    let preview: Value = whole.json()?;
    let roles = preview.get("roles").and_then(Value::as_array).into_iter().flatten();
    let longest = roles
        .filter_map(|role| Some(role.get("role")?.as_str()?.chars().count()))
        .max()
        .unwrap_or(0);
    let changed = preview.pointer("/totals/changed").and_then(Value::as_u64).unwrap_or(0);
    let email_min = if changed > LINES as u64 { 32 } else { 0 };
    let role = Column::whole("role").at_least(u16::try_from(longest + 2).unwrap_or(u16::MAX));
    let columns = [role, Column::whole("user").at_least(email_min), Column::new("because")];
    let mut rows: Vec<Vec<String>> = Vec::new();
    changes(client, body, whole, limit, |change| {
        let change = serde_json::from_str(change)
            .map_err(|_| Failure::Ours("the answer is not one that Rollcall gives".into()))?;
        rows.extend(diff(&change));
        if rows.len() >= LINES {
            each(&table::draw_within(width, &columns, false, &std::mem::take(&mut rows)))?;
        }
        Ok(())
    })?;
    if !rows.is_empty() {
        each(&table::draw_within(width, &columns, false, &rows))?;
    }
    if changed > 0 { each("\n") } else { Ok(()) }
}

/// A whole preview as it is printed, without colours.
///
/// # Errors
/// As of the command.
pub(in super::super) fn told(client: &Client, body: &Value) -> Result<String, Failure> {
    let whole = ask(client, body, &Query::default(), "the mapping")?;
    let mut text = String::new();
    show(client, body, &whole, u64::MAX, None, &mut |lines| {
        text.push_str(lines);
        Ok(())
    })?;
    Ok(text + &summary(&whole.json()?, body.get("mapping").unwrap_or(&Value::Null), None))
}

/// A user's change, one row a role.
fn diff(change: &Value) -> Vec<Vec<String>> {
    let text =
        |name: &str| change.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let user = text("email").or(text("user_id")).unwrap_or("");
    let rows = |sign: &str, name: &str| -> Vec<Vec<String>> {
        let roles = change.get(name).and_then(Value::as_array).into_iter().flatten();
        let row = |role: &Value| {
            let reasons =
                role.get("because").and_then(Value::as_array).into_iter().flatten().map(reason);
            let mut reasons: Vec<String> = reasons.collect();
            reasons.dedup();
            let name = role.get("role").and_then(Value::as_str).unwrap_or("");
            vec![
                format!("{sign} {name}"),
                user.to_owned(),
                format!("because {}", reasons.join(", ")),
            ]
        };
        roles.map(row).collect()
    };
    [rows("+", "gained"), rows("-", "lost")].concat()
}

/// What gives a role: the group, by name where it has one, the attribute, or `default`.
pub(in super::super) fn reason(reason: &Value) -> String {
    let text =
        |name: &str| reason.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    text("group_name").or(text("group_id")).or(text("attribute")).unwrap_or("default").to_owned()
}

/// The lines of a diff in the colours of one.
fn painted(lines: &str) -> String {
    let paint = |line: &str| match line.chars().next() {
        Some('+') => format!("\u{1b}[32m{line}\u{1b}[0m\n"),
        Some('-') => format!("\u{1b}[31m{line}\u{1b}[0m\n"),
        _ => format!("{line}\n"),
    };
    lines.lines().map(paint).collect()
}

/// Totals of a preview, warnings, and groups without a rule.
pub(super) fn summary(preview: &Value, mapping: &Value, width: Option<u16>) -> String {
    let number = |object: &Value, name: &str| object.get(name).and_then(Value::as_u64).unwrap_or(0);
    let text = |object: &Value, name: &str| {
        object.get(name).and_then(Value::as_str).unwrap_or("").to_owned()
    };
    let list =
        |pointer: &str| preview.pointer(pointer).and_then(Value::as_array).into_iter().flatten();
    let row = |role: &Value| {
        let mut row = vec![text(role, "role")];
        row.extend(
            ["gaining", "losing", "before", "after"].map(|name| number(role, name).to_string()),
        );
        row
    };
    let rows: Vec<Vec<String>> = list("/roles").map(row).collect();
    let columns = [
        Column::new("role"),
        Column::whole("gaining"),
        Column::whole("losing"),
        Column::whole("before"),
        Column::whole("after"),
    ];
    let mut out = String::new();
    if !rows.is_empty() {
        out.push_str(&table::draw_within(width, &columns, true, &rows));
        out.push('\n');
    }
    let total = |name: &str| preview.get("totals").map_or(0, |totals| number(totals, name));
    let users = counted(total("users"), "user has access", "users have access");
    let [changed, gaining, losing, default_only] =
        ["changed", "gaining", "losing", "default_only"].map(total);
    out.push_str(&match changed {
        0 => format!("{users}, and nobody's roles would change"),
        _ => format!("{users}: the roles of {changed} would change, {gaining} would gain and {losing} would lose a role"),
    });
    out.push_str(&format!("; {default_only} would be left with default roles only\n"));
    let rules = rules(mapping);
    for warning in list("/warnings") {
        let field = text(warning, "field");
        let rule = field
            .strip_prefix("mapping.rules[")
            .and_then(|rest| rest.strip_suffix(']')?.parse::<usize>().ok());
        let rule = rule
            .and_then(|rule| Some(format!(" ({})", rules.get(rule)?.first()?)))
            .unwrap_or_default();
        out.push_str(&harmless(&format!("warning: {field}{rule}: {}", text(warning, "code"))));
        out.push('\n');
    }
    let without =
        preview.pointer("/groups_without_rule/count").and_then(Value::as_u64).unwrap_or(0);
    if without > 0 {
        let names = list("/groups_without_rule/data").take(GROUPS_NAMED);
        let names = names.map(|group| {
            Some(text(group, "name"))
                .filter(|name| !name.is_empty())
                .unwrap_or_else(|| text(group, "id"))
        });
        let mut names: Vec<String> = names.collect();
        let left = without.saturating_sub(names.len() as u64);
        if left > 0 {
            names.push(format!("and {left} more"));
        }
        out.push_str(&harmless(&format!(
            "{} no rule: {}",
            counted(without, "group has", "groups have"),
            names.join(", ")
        )));
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_a_line_for_each_role() {
        let change = json!({
            "object": "role_change", "user_id": "u1", "email": null,
            "gained": [{"role": "developer", "because": [
                {"rule": 0, "group_id": "g1", "group_name": "Engineering", "attribute": null},
                {"rule": 2, "group_id": "g1", "group_name": "Engineering", "attribute": null},
                {"rule": 3, "group_id": null, "group_name": null, "attribute": "job_title"}]}],
            "lost": [{"role": "member", "because": [{"rule": null, "group_id": null, "group_name": null, "attribute": null}]}],
        });
        assert_eq!(
            diff(&change),
            [
                ["+ developer", "u1", "because Engineering, job_title"],
                ["- member", "u1", "because default"]
            ]
        );
    }

    #[test]
    fn the_lines_of_a_diff_have_its_colours() {
        assert_eq!(painted("+ a\n- b\n\n"), "\u{1b}[32m+ a\u{1b}[0m\n\u{1b}[31m- b\u{1b}[0m\n\n");
    }

    #[test]
    fn a_summary_tells_totals_warnings_and_groups_without_a_rule() {
        let preview = json!({
            "totals": {"users": 5, "changed": 3, "gaining": 3, "losing": 2, "default_only": 1},
            "roles": [{"role": "developer", "gaining": 3, "losing": 0, "before": 0, "after": 3}],
            "warnings": [{"field": "mapping.rules[0]", "code": "no group matches"}],
            "groups_without_rule": {"count": 12, "data": [{"id": "g1", "name": "Sales"}, {"id": "g2", "name": ""}]},
        });
        let mapping = json!({"rules": [{"group": {"name": "Enginering"}, "roles": ["developer"]}]});
        let expected = "\
role       gaining  losing  before  after
developer  3        0       0       3

5 users have access: the roles of 3 would change, 3 would gain and 2 would lose a role; 1 would be left with default roles only
warning: mapping.rules[0] (group Enginering): no group matches
12 groups have no rule: Sales, g2, and 10 more
";
        assert_eq!(summary(&preview, &mapping, None), expected);
        let none = json!({"totals": {"users": 1}});
        assert_eq!(
            summary(&none, &Value::Null, None),
            "1 user has access, and nobody's roles would change; 0 would be left with default roles only\n"
        );
    }
}
