//! `rollcall mapping show`

use clap::Args;
use serde_json::Value;
use serde_json::value::RawValue;

use super::super::client::text_field;
use super::super::read::listing::{Moment, Output, ask};
use super::super::read::print::{print_object, width};
use super::super::read::source::SourceArgs;
use super::super::table::{self, Column};
use super::super::{Failure, print};
use super::PATH;
use super::document::{RuleText, listed, number, rules};

/// Print the mapping in force, now or at any past moment.
#[derive(Args)]
#[command(after_help = "\
Examples:
  rollcall mapping show
  rollcall mapping show --as-of 2026-02-10T12:00:00Z --known-at 20
  rollcall mapping show --data ./rollcall-data --json")]
pub(super) struct ShowArgs {
    #[command(flatten)]
    moment: Moment,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    source: SourceArgs,
}

impl ShowArgs {
    pub(super) fn run(self) -> Result<(), Failure> {
        let ShowArgs { moment, output, source } = self;
        source.ask(move |client| {
            let answer = ask(client, &moment.query().at(PATH), "")?;
            if output.json {
                return print_object(answer.json::<&RawValue>()?.get());
            }
            print(&page(&answer.json()?, width()))
        })
    }
}

/// Returns a mapping as a page: how it was set, then one line for each rule.
fn page(set: &Value, width: Option<u16>) -> String {
    let Some(mapping) = set.get("mapping").filter(|mapping| !mapping.is_null()) else {
        return "no mapping is in force: the roles of users are those that their directory gives \
                them\n"
            .into();
    };
    let rows: Vec<Vec<String>> = properties(set, mapping)
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| vec![name.to_owned(), value])
        .collect();
    let rules: Vec<Vec<String>> = rules(mapping)
        .into_iter()
        .enumerate()
        .map(|(number, RuleText { matches, roles })| vec![number.to_string(), matches, roles])
        .collect();
    let head = table::draw_within(width, &[Column::whole(""), Column::new("")], false, &rows);
    let columns = [Column::whole("rule"), Column::new("matches"), Column::new("roles")];
    format!("{head}\n{}", table::draw_within(width, &columns, true, &rules))
}

fn properties(set: &Value, mapping: &Value) -> [(&'static str, String); 7] {
    let (set_at, set_by) = (text_field(set, "set_at"), text_field(set, "set_by"));
    [
        ("version", number(set, "version").to_string()),
        ("in force from", text_field(set, "effective_from").to_owned()),
        ("set", format!("{set_at} by {set_by}, record {}", number(set, "seq"))),
        ("note", text_field(set, "note").to_owned()),
        ("mode", mode(mapping)),
        ("default roles", listed(mapping.get("default_roles"))),
        ("priority", listed(mapping.get("priority"))),
    ]
}

fn mode(mapping: &Value) -> String {
    match text_field(mapping, "mode") {
        "highest_priority" => "highest_priority: only the first in priority".to_owned(),
        "all" => "all: every role of every rule that matches".to_owned(),
        other => other.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_page_has_how_it_was_set_and_each_rule() {
        let set = json!({
            "object": "role_mapping", "version": 2, "seq": 41,
            "effective_from": "2026-02-09T09:00:00.000Z",
            "set_at": "2026-02-11T10:00:00.000Z", "set_by": "key_d106596dd66439f8", "note": null,
            "mapping": {
                "mode": "all", "default_roles": ["member"], "priority": ["admin", "developer"],
                "rules": [{"group": {"name_glob": "*Engineering"}, "roles": ["developer"]},
                          {"attribute": "job_title", "values": {"CTO": ["admin"]}}],
            },
        });
        let expected = "\
version        2
in force from  2026-02-09T09:00:00.000Z
set            2026-02-11T10:00:00.000Z by key_d106596dd66439f8, record 41
mode           all: every role of every rule that matches
default roles  member
priority       admin, developer

rule  matches                   roles
0     groups like *Engineering  developer
1     attribute job_title       CTO: admin
";
        assert_eq!(page(&set, None), expected);
        assert!(
            page(&json!({"version": 0, "mapping": null}), None)
                .starts_with("no mapping is in force")
        );
    }
}
