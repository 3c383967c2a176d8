//! `rollcall mapping versions`

use clap::Args;
use serde_json::Value;
use serde_json::value::RawValue;

use super::super::Failure;
use super::super::read::listing::{Output, Query, Resource};
use super::super::read::source::Source;
use super::super::table::Column;
use super::document::rules;

/// List every mapping that was set, in order.
#[derive(Args)]
#[command(after_help = "\
Example:
  rollcall mapping versions")]
pub(super) struct VersionsArgs {
    /// Print at most N
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    source: Source,
}

const VERSIONS: Resource = Resource {
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
    row,
};

fn row(set: &RawValue) -> Vec<String> {
    let set: Value = serde_json::from_str(set.get()).unwrap_or_default();
    let text = |name: &str| set.get(name).and_then(Value::as_str).unwrap_or("").to_owned();
    let number = |name: &str| set.get(name).and_then(Value::as_u64).unwrap_or(0).to_string();
    vec![
        number("version"),
        text("effective_from"),
        text("set_at"),
        number("seq"),
        text("set_by"),
        set.get("mapping").map_or(0, |mapping| rules(mapping).len()).to_string(),
        text("note"),
    ]
}

impl VersionsArgs {
    pub(super) fn run(self) -> Result<(), Failure> {
        let VersionsArgs { limit, output, source } = self;
        source.ask(move |client| {
            let filters = Query::default().with("order", Some("asc"));
            VERSIONS.print_list(&VERSIONS.list(filters, Query::default(), limit), client, &output)
        })
    }
}
