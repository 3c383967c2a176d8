//! `rollcall directories`

use clap::Args;
use clap::builder::NonEmptyStringValueParser;

use super::super::Failure;
use super::super::table::Column;
use super::listing::{Asked, ListArgs, Query, Resource};
use super::names::{Kind, Names};
use super::print::texts;

/// List directories, now or at any past moment.
///
/// Directories are in order of id. All pages are read at the same moment.
#[derive(Args)]
#[command(after_help = "\
Examples:
  rollcall directories --search robotics
  rollcall directories --organization org_… --as-of 2026-01-01T00:00:00Z --json
  rollcall directories --data ./rollcall-data")]
pub(in super::super) struct DirectoriesArgs {
    /// Only the directory with this id or name
    #[arg(
        value_parser = NonEmptyStringValueParser::new(),
        conflicts_with_all = ["organization", "search", "domain", "limit"]
    )]
    id: Option<String>,
    /// Only directories of this organization
    #[arg(long, value_name = "ID")]
    organization: Option<String>,
    /// Only directories with this text in their name
    #[arg(long, value_name = "TEXT")]
    search: Option<String>,
    /// Only directories with this domain
    #[arg(long)]
    domain: Option<String>,
    #[command(flatten)]
    list: ListArgs,
}

const DIRECTORIES: Resource = Resource {
    path: "/directories",
    nouns: ["directory", "directories"],
    scope: "directories: --organization",
    columns: &[
        Column::key("id"),
        Column::new("name"),
        Column::whole("state"),
        Column::new("type"),
        Column::new("organization"),
    ],
    row: |directory| texts(directory, ["id", "name", "state", "type", "organization_id"]).into(),
};

impl DirectoriesArgs {
    pub(in super::super) fn run(self) -> Result<(), Failure> {
        let asked = Asked {
            object: self.id.map(|id| (Kind::Directory, id)),
            names: Names { organization: self.organization, ..Names::default() },
            filters: Query::default().with("search", self.search).with("domain", self.domain),
            ..Asked::default()
        };
        self.list.print(&DIRECTORIES, asked)
    }
}
