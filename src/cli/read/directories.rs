//! `rollcall directories`

use clap::Args;
use clap::builder::NonEmptyStringValueParser;

use super::super::Failure;
use super::super::table::Column;
use super::listing::{Kind, List, Moment, Output, Query};
use super::print::texts;
use super::source::Source;

/// Directories, now or at any past moment.
///
/// In order of id. The whole list is of one moment, however many pages the server gives it in.
#[derive(Args)]
#[command(after_help = "\
Examples:
  rollcall directories --search robotics
  rollcall directories --organization org_… --as-of 2026-01-01T00:00:00Z --json
  rollcall directories --data ./rollcall-data")]
pub(in super::super) struct Directories {
    /// One directory, by id
    #[arg(value_parser = NonEmptyStringValueParser::new(), conflicts_with_all = ["organization", "search", "domain", "limit"])]
    id: Option<String>,
    /// Of this organization
    #[arg(long, value_name = "ID")]
    organization: Option<String>,
    /// With this in their name
    #[arg(long, value_name = "TEXT")]
    search: Option<String>,
    /// With this domain
    #[arg(long)]
    domain: Option<String>,
    /// At most so many
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    #[command(flatten)]
    moment: Moment,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    source: Source,
}

const KIND: Kind = Kind {
    path: "/directories",
    nouns: ["directory", "directories"],
    scope: "--organization",
    columns: &[
        Column::whole("id"),
        Column::new("name"),
        Column::whole("state"),
        Column::new("type"),
        Column::new("organization"),
    ],
    row: |directory| texts(directory, ["id", "name", "state", "type", "organization_id"]).into(),
};

impl Directories {
    pub(in super::super) fn run(self) -> Result<(), Failure> {
        let Directories { id, organization, search, domain, limit, moment, output, source } = self;
        let filters = Query::default()
            .with("organization_id", organization)
            .with("search", search)
            .with("domain", domain);
        let filters = filters.with("order", Some("asc"));
        source.ask(move |client| match id {
            Some(id) => KIND.print_one(client, &id, &moment.query(), &output),
            None => List { kind: &KIND, filters, first: moment.query(), limit }.print(
                client,
                &output,
                |_| true,
            ),
        })
    }
}
