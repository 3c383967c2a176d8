//! `rollcall groups`

use clap::Args;
use clap::builder::NonEmptyStringValueParser;

use super::super::Failure;
use super::super::table::Column;
use super::listing::{Kind, List, Moment, Output, Query};
use super::print::{items, texts};
use super::source::Source;
use super::users::name;

/// Groups of a directory, a user or an organization, now or at any past moment.
///
/// In order of id. The whole list is of one moment, however many pages the server gives it in.
#[derive(Args)]
#[command(after_help = "\
Examples:
  rollcall groups --directory directory_… --members
  rollcall groups --user directory_user_… --as-of 2026-03-20T17:29:59.999Z --known-at 29
  rollcall groups directory_group_… --members --json")]
pub(in super::super) struct Groups {
    /// One group, by id
    #[arg(value_parser = NonEmptyStringValueParser::new(), conflicts_with_all = ["directory", "user", "organization", "limit"])]
    id: Option<String>,
    /// Of this directory
    #[arg(long, value_name = "ID")]
    directory: Option<String>,
    /// Those that this user is a member of
    #[arg(long, value_name = "ID")]
    user: Option<String>,
    /// Of this organization
    #[arg(long, value_name = "ID")]
    organization: Option<String>,
    /// With the members of each, the first thousand
    #[arg(long)]
    members: bool,
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
    path: "/directory_groups",
    nouns: ["group", "groups"],
    scope: "--directory, --user or --organization",
    columns: &[Column::whole("id"), Column::new("name"), Column::new("directory")],
    row: |group| texts(group, ["id", "name", "directory_id"]).into(),
};

const WITH_MEMBERS: Kind = Kind {
    columns: &[
        Column::whole("id"),
        Column::new("name"),
        Column::new("directory"),
        Column::whole("members"),
        Column::new("who"),
    ],
    row: |group| {
        let called = |member| {
            Some(name(member))
                .filter(|name| !name.is_empty())
                .unwrap_or_else(|| texts(member, ["id"]).concat())
        };
        let members: Vec<String> = items(group, "members").into_iter().map(called).collect();
        let mut row = (KIND.row)(group);
        row.extend([members.len().to_string(), members.join(", ")]);
        row
    },
    ..KIND
};

impl Groups {
    pub(in super::super) fn run(self) -> Result<(), Failure> {
        let Groups { id, directory, user, organization, members, limit, moment, output, source } =
            self;
        let kind = if members { &WITH_MEMBERS } else { &KIND };
        let members = Query::default().with("members", members.then_some("true"));
        let filters = members
            .clone()
            .with("directory", directory)
            .with("user", user)
            .with("organization_id", organization);
        let filters = filters.with("order", Some("asc"));
        source.ask(move |client| match id {
            Some(id) => kind.print_one(client, &id, &members.and(&moment.query()), &output),
            None => {
                List { kind, filters, first: moment.query(), limit }
                    .print(client, &output, |_| true)
            }
        })
    }
}
