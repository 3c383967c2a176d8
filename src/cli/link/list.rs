//! `rollcall link list`

use clap::Args;
use serde_json::value::RawValue;

use super::super::Failure;
use super::super::read::csv_table::CsvTable;
use super::super::read::listing::{Moment, Output, Query, Resource};
use super::super::read::names::Names;
use super::super::read::print::texts;
use super::super::read::source::SourceArgs;
use super::super::table::Column;
use super::PATH;

/// List links, in order of the id of the directory user.
#[derive(Args)]
#[command(after_help = "\
The API key needs the scope `read`.

Examples:
  rollcall link list --directory \"Halden Robotics\"
  rollcall link list --user ana@example.com --known-at 2026-03-01
  rollcall link list --csv > links.csv")]
pub(super) struct ListArgs {
    /// Only links of this user of the application
    #[arg(long, value_name = "ID")]
    app_user: Option<String>,
    /// Only the link of this directory user, by id or email
    #[arg(long, value_name = "ID|EMAIL")]
    user: Option<String>,
    /// Only links of users who are, or were last, in this directory, by id or name
    #[arg(long, value_name = "ID|NAME")]
    directory: Option<String>,
    /// Print at most N
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// Print comma-separated values with a header line, as `rollcall link set` takes them
    #[arg(long, conflicts_with = "json", help_heading = "Output")]
    csv: bool,
    #[command(flatten)]
    moment: Moment,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    source: SourceArgs,
}

pub(super) const LINKS: Resource = Resource {
    path: PATH,
    nouns: ["link", "links"],
    scope: "",
    columns: &[
        Column::key("application user"),
        Column::key("directory user"),
        Column::whole("directory"),
        Column::whole("set (UTC)"),
        Column::whole("record"),
    ],
    row,
};

/// The columns of the CSV form. The first two are those of a file of links.
const NAMES: [&str; 5] = ["user_id", "directory_user_id", "directory_id", "set_at", "seq"];

fn row(link: &RawValue) -> Vec<String> {
    let names = ["app_user_id", "directory_user_id", "directory_id", "set_at"];
    texts(link, names).into_iter().chain([seq(link)]).collect()
}

fn seq(link: &RawValue) -> String {
    let link: serde_json::Value = serde_json::from_str(link.get()).unwrap_or_default();
    link.get("seq").map(serde_json::Value::to_string).unwrap_or_default()
}

impl ListArgs {
    pub(super) fn run(self) -> Result<(), Failure> {
        let ListArgs { app_user, user, directory, limit, csv, moment, output, source } = self;
        let names = Names { user, directory, ever: true, ..Names::default() };
        source.ask(move |client| {
            let moment = moment.query();
            let names = names.resolve(client, &moment)?;
            let filters = Query::default()
                .with("app_user_id", app_user)
                .with("directory_user_id", names.user)
                .with("directory", names.directory);
            let list = LINKS.list(filters, moment, limit);
            if csv {
                let write = |table: &mut CsvTable, link: &RawValue| table.exact_row(row(link));
                return list.print_csv(client, &NAMES, false, write);
            }
            LINKS.print_list(&list, client, &output)
        })
    }
}
