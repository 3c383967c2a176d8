//! `rollcall mapping versions`

use clap::Args;
use serde_json::Value;
use serde_json::value::RawValue;

use super::super::Failure;
use super::super::client::text_field;
use super::super::read::listing::{Output, Query, Resource};
use super::super::read::source::SourceArgs;
use super::super::table::Column;
use super::document::{number, rules};

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
    source: SourceArgs,
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
    vec![
        number(&set, "version").to_string(),
        text_field(&set, "effective_from").to_owned(),
        text_field(&set, "set_at").to_owned(),
        number(&set, "seq").to_string(),
        text_field(&set, "set_by").to_owned(),
        set.get("mapping").map_or(0, |mapping| rules(mapping).len()).to_string(),
        text_field(&set, "note").to_owned(),
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
