//! `rollcall mapping preview`

use std::path::PathBuf;

use clap::Args;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::super::client::{Answer, Client, text_field};
use super::super::moment::moment;
use super::super::read::listing::{Moment, Output, Query, refused};
use super::super::read::print::{coloured, counted, print_object, width};
use super::super::read::source::SourceArgs;
use super::super::table::{self, Column, harmless};
use super::super::{Failure, print};
use super::document::{MappingFile, number, rules};
use super::{PATH, mapping_refused};

/// The most lines that are aligned with each other and printed at once.
const LINES: usize = 1000;

/// The most groups without a rule whose names are printed.
const GROUPS_NAMED: usize = 10;

/// Print which roles users would gain and lose if a mapping were set, as a diff. Nothing is set.
///
/// FILE is the mapping in TOML or JSON, by the ending of its name, otherwise by its content; `-`
/// reads standard input. Each role is printed with its reason: for one that a user would gain, the
/// group or attribute that would give it; for one that a user would lose, what gives it now.
#[derive(Args)]
#[command(after_help = "\
Examples:
  rollcall mapping preview mapping.toml
  rollcall mapping preview mapping.toml --effective-from 2026-02-09T09:00:00Z \
--as-of 2026-02-10T12:00:00Z
  rollcall mapping show --json | jq '.mapping | .default_roles = []' | rollcall mapping preview -

A mapping in TOML:
  default_roles = [\"member\"]
  [[rules]]
  group.name_glob = \"*Engineering\"
  roles = [\"developer\"]
  [[rules]]
  attribute = \"custom_attributes.role\"
  values.admin = [\"admin\"]")]
pub(super) struct PreviewArgs {
    /// The mapping
    file: PathBuf,
    /// Compare as if the mapping were in force from this moment on, such as 2026-03-01 or 30d
    /// [default: now]
    #[arg(long, value_name = "T", value_parser = moment)]
    effective_from: Option<String>,
    /// Print at most N changes
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    #[command(flatten)]
    moment: Moment,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    source: SourceArgs,
}

impl PreviewArgs {
    pub(super) fn run(self) -> Result<(), Failure> {
        let PreviewArgs { file, effective_from, limit, moment, output, source } = self;
        let document = MappingFile::read(&file)?;
        source.ask(move |client| {
            let body = setting(&document.mapping, effective_from.as_deref(), None);
            let totals = ask(client, &body, &moment.query(), &document.name)?;
            let preview = Preview { client, body, totals, limit: limit.unwrap_or(u64::MAX) };
            if output.json { preview.print_json() } else { preview.print(&document.mapping) }
        })
    }
}

/// Returns the body that sets a mapping, or previews it.
pub(super) fn setting(mapping: &Value, effective_from: Option<&str>, note: Option<&str>) -> Value {
    let mut body = json!({ "mapping": mapping });
    for (name, value) in [("effective_from", effective_from), ("note", note)] {
        if let (Some(value), Some(body)) = (value, body.as_object_mut()) {
            body.insert(name.into(), value.into());
        }
    }
    body
}

/// The version that a mapping was compared with.
#[derive(Deserialize)]
pub(super) struct BaseVersion {
    pub(super) base_version: u64,
}

/// Asks for a preview's totals, with at most one of its changes.
///
/// # Errors
/// The caller's, with every error in the mapping, whose name is `document`.
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
        _ => {
            Err(mapping_refused(&answer, document).unwrap_or_else(|| refused(&answer, client, "")))
        }
    }
}

/// Returns a whole preview as it is printed without colours.
///
/// # Errors
/// If the server does not answer, or refuses the mapping.
pub(in super::super) fn preview_text(client: &Client, body: &Value) -> Result<String, Failure> {
    let totals = ask(client, body, &Query::default(), "the mapping")?;
    let preview = Preview { client, body: body.clone(), totals, limit: u64::MAX };
    let mut text = String::new();
    preview.each_chunk(None, |lines| {
        text.push_str(lines);
        Ok(())
    })?;
    let mapping = body.get("mapping").unwrap_or(&Value::Null);
    Ok(text + &summary(&preview.totals.json()?, mapping, None))
}

/// A preview whose totals were read and whose changes follow.
struct Preview<'c> {
    client: &'c Client,
    body: Value,
    /// The answer with the totals, which fixes the moment of the changes.
    totals: Answer,
    /// The most changes that are read.
    limit: u64,
}

impl Preview<'_> {
    fn print_json(&self) -> Result<(), Failure> {
        print_object(self.totals.json::<&RawValue>()?.get())?;
        self.each_change(print_object)
    }

    fn print(&self, mapping: &Value) -> Result<(), Failure> {
        let (width, coloured) = (width(), coloured(&std::io::stdout()));
        self.each_chunk(width, |lines| {
            print(&if coloured { painted(lines) } else { lines.to_owned() })
        })?;
        print(&summary(&self.totals.json()?, mapping, width))?;
        if let (Some(as_of), Some(known_at)) = (&self.totals.as_of, &self.totals.known_at) {
            let version = self.totals.json::<BaseVersion>()?.base_version;
            let line = format!(
                "compared with version {version}, as of {as_of}, known at record {known_at}"
            );
            eprintln!("{}", harmless(&line));
        }
        Ok(())
    }

    /// Passes each change to `each`, as it came, in order of the users' ids.
    fn each_change(
        &self,
        mut each: impl FnMut(&str) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let changed = changed_users(&self.totals.json()?);
        let wanted = changed.min(self.limit);
        if wanted == 0 {
            return Ok(());
        }
        let moment = Query::moment(self.totals.as_of.clone(), self.totals.known_at.clone());
        let path = moment.at(&format!("{PATH}/preview"));
        let mut count = 0;
        let refusal = self.client.post_for_lines(&path, &self.body, |line| {
            each(line)?;
            count += 1;
            Ok(count < wanted)
        })?;
        match refusal {
            Some(answer) => Err(refused(&answer, self.client, "")),
            // After the first line a server cannot report an error in another way.
            None if count < wanted => Err(Failure::Ours(format!(
                "the server broke off after {count} of {changed} changes"
            ))),
            None => Ok(()),
        }
    }

    /// Passes the changes to `each` as lines of a diff, [`LINES`] or a few more at a time.
    fn each_chunk(
        &self,
        width: Option<u16>,
        mut each: impl FnMut(&str) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let preview: Value = self.totals.json()?;
        let columns = diff_columns(&preview);
        let mut rows: Vec<Vec<String>> = Vec::new();
        self.each_change(|change| {
            let change = serde_json::from_str(change).map_err(|_| Failure::unexpected_answer())?;
            rows.extend(diff(&change));
            if rows.len() >= LINES {
                each(&table::draw_within(width, &columns, false, &std::mem::take(&mut rows)))?;
            }
            Ok(())
        })?;
        if !rows.is_empty() {
            each(&table::draw_within(width, &columns, false, &rows))?;
        }
        if changed_users(&preview) > 0 { each("\n") } else { Ok(()) }
    }
}

fn changed_users(preview: &Value) -> u64 {
    preview.pointer("/totals/changed").and_then(Value::as_u64).unwrap_or(0)
}

/// Returns columns that align all chunks. Every role is known before the first chunk; of the emails
/// only a usual length is.
fn diff_columns(preview: &Value) -> [Column; 3] {
    let longest =
        list(preview, "/roles").map(|role| text_field(role, "role").chars().count()).max();
    let role_min = u16::try_from(longest.unwrap_or(0) + 2).unwrap_or(u16::MAX);
    let email_min = if changed_users(preview) > LINES as u64 { 32 } else { 0 };
    [
        Column::whole("role").at_least(role_min),
        Column::key("user").at_least(email_min),
        Column::new("because"),
    ]
}

/// Returns a row for each role that a user would gain or lose.
fn diff(change: &Value) -> Vec<Vec<String>> {
    let user = match text_field(change, "email") {
        "" => text_field(change, "user_id"),
        email => email,
    };
    let gained = list(change, "/gained").map(|role| diff_row('+', role, user));
    let lost = list(change, "/lost").map(|role| diff_row('-', role, user));
    gained.chain(lost).collect()
}

fn diff_row(sign: char, role: &Value, user: &str) -> Vec<String> {
    let mut reasons: Vec<String> = list(role, "/because").map(reason).collect();
    reasons.dedup();
    vec![
        format!("{sign} {}", text_field(role, "role")),
        user.to_owned(),
        format!("because {}", reasons.join(", ")),
    ]
}

/// Returns the name of what gives a role: the group's name or id, the attribute, or `default`.
pub(in super::super) fn reason(reason: &Value) -> String {
    let names = ["group_name", "group_id", "attribute"].map(|name| text_field(reason, name));
    names.into_iter().find(|name| !name.is_empty()).unwrap_or("default").to_owned()
}

/// Returns the lines of a diff in green and red.
fn painted(lines: &str) -> String {
    lines.lines().map(painted_line).collect()
}

fn painted_line(line: &str) -> String {
    match line.chars().next() {
        Some('+') => format!("\u{1b}[32m{line}\u{1b}[0m\n"),
        Some('-') => format!("\u{1b}[31m{line}\u{1b}[0m\n"),
        _ => format!("{line}\n"),
    }
}

/// Returns a preview's totals, warnings, and groups without a rule.
pub(super) fn summary(preview: &Value, mapping: &Value, width: Option<u16>) -> String {
    let mut out = role_table(preview, width);
    out.push_str(&totals_line(preview));
    let rules: Vec<String> = rules(mapping).into_iter().map(|rule| rule.matches).collect();
    for warning in list(preview, "/warnings") {
        out.push_str(&harmless(&warning_line(warning, &rules)));
        out.push('\n');
    }
    if let Some(line) = groups_without_rule(preview) {
        out.push_str(&harmless(&line));
        out.push('\n');
    }
    out
}

/// Returns a table of the roles and an empty line; nothing if there are no roles.
fn role_table(preview: &Value, width: Option<u16>) -> String {
    let rows: Vec<Vec<String>> = list(preview, "/roles").map(role_row).collect();
    if rows.is_empty() {
        return String::new();
    }
    let columns = [
        Column::new("role"),
        Column::whole("gaining"),
        Column::whole("losing"),
        Column::whole("before"),
        Column::whole("after"),
    ];
    format!("{}\n", table::draw_within(width, &columns, true, &rows))
}

fn role_row(role: &Value) -> Vec<String> {
    let counts = ["gaining", "losing", "before", "after"].map(|name| number(role, name));
    let counts = counts.into_iter().map(|count| count.to_string());
    [text_field(role, "role").to_owned()].into_iter().chain(counts).collect()
}

fn totals_line(preview: &Value) -> String {
    let [users, changed, gaining, losing, default_only] =
        ["users", "changed", "gaining", "losing", "default_only"]
            .map(|name| preview.get("totals").map_or(0, |totals| number(totals, name)));
    let users = counted(users, "user has access", "users have access");
    let changes = match changed {
        0 => format!("{users}, and no roles would change"),
        _ => format!(
            "{users}: the roles of {changed} would change, {gaining} would gain \
             and {losing} would lose a role"
        ),
    };
    format!("{changes}; {default_only} would be left with default roles only\n")
}

/// Returns a warning, with what its rule matches if it is about a rule.
fn warning_line(warning: &Value, rules: &[String]) -> String {
    let field = text_field(warning, "field");
    let number = field.strip_prefix("mapping.rules[").and_then(|rest| rest.strip_suffix(']'));
    let rule = number.and_then(|number| rules.get(number.parse::<usize>().ok()?));
    let rule = rule.map(|rule| format!(" ({rule})")).unwrap_or_default();
    format!("warning: {field}{rule}: {}", text_field(warning, "message"))
}

/// Returns the line about groups without a rule, with the names of the first of them.
fn groups_without_rule(preview: &Value) -> Option<String> {
    let count = number(preview.get("groups_without_rule")?, "count");
    if count == 0 {
        return None;
    }
    let mut names: Vec<String> = list(preview, "/groups_without_rule/data")
        .take(GROUPS_NAMED)
        .map(|group| match text_field(group, "name") {
            "" => text_field(group, "id").to_owned(),
            name => name.to_owned(),
        })
        .collect();
    let left = count.saturating_sub(names.len() as u64);
    if left > 0 {
        names.push(format!("and {left} more"));
    }
    let counted = counted(count, "group has", "groups have");
    Some(format!("{counted} no rule: {}", names.join(", ")))
}

fn list<'a>(object: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> {
    object.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
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
            "lost": [{"role": "member", "because": [
                {"rule": null, "group_id": null, "group_name": null, "attribute": null}]}],
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
    fn added_lines_are_green_and_removed_lines_red() {
        assert_eq!(painted("+ a\n- b\n\n"), "\u{1b}[32m+ a\u{1b}[0m\n\u{1b}[31m- b\u{1b}[0m\n\n");
    }

    #[test]
    fn a_summary_has_totals_warnings_and_groups_without_a_rule() {
        let preview = json!({
            "totals": {"users": 5, "changed": 3, "gaining": 3, "losing": 2, "default_only": 1},
            "roles": [{"role": "developer", "gaining": 3, "losing": 0, "before": 0, "after": 3}],
            "warnings": [{"field": "mapping.rules[0]", "code": "no_group_matches",
                          "message": "no group matches"}],
            "groups_without_rule": {
                "count": 12,
                "data": [{"id": "g1", "name": "Sales"}, {"id": "g2", "name": ""}],
            },
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
            "1 user has access, and no roles would change; \
             0 would be left with default roles only\n"
        );
    }
}
