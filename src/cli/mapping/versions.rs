//! `rollcall mapping versions`

use clap::Args;
use serde_json::Value;

use super::super::Failure;
use super::super::read::listing::{Kind, List, Output, Query};
use super::super::read::source::Source;
use super::super::table::Column;
use super::document::rules;

/// Every mapping that was set, in order.
#[derive(Args)]
#[command(after_help = "\
Example:
  rollcall mapping versions")]
pub(super) struct Versions {
    /// At most so many
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    source: Source,
}

const KIND: Kind = Kind {
    path: "/rollcall/v1/role_mapping/versions",
    nouns: ["version", "versions"],
    scope: "",
    columns: &[
        Column::whole("version"),
        Column::whole("in force from"),
        Column::whole("set at"),
        Column::whole("record"),
        Column::new("set by"),
        Column::whole("rules"),
        Column::new("note"),
    ],
    row: |set| {
        let set: Value = serde_json::from_str(set.get()).unwrap_or_default();
        let text = |name: &str| set.get(name).and_then(Value::as_str).unwrap_or("").to_owned();
        let number = |name: &str| set.get(name).and_then(Value::as_u64).unwrap_or(0).to_string();
        let rules = set.get("mapping").map(|mapping| rules(mapping).len()).unwrap_or(0).to_string();
        vec![
            number("version"),
            text("effective_from"),
            text("set_at"),
            number("seq"),
            text("set_by"),
            rules,
            text("note"),
        ]
    },
};

impl Versions {
    pub(super) fn run(self) -> Result<(), Failure> {
        let Versions { limit, output, source } = self;
        let list = move || List {
            kind: &KIND,
            filters: Query::default().with("order", Some("asc")),
            first: Query::default(),
            limit,
        };
        source.ask(move |client| list().print(client, &output, |_| true))
    }
}
