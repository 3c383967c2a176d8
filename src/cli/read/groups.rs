//! `rollcall groups`

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use serde_json::value::RawValue;

use super::super::Failure;
use super::super::table::Column;
use super::listing::{Asked, ListArgs, Query, Resource};
use super::names::{Kind, Names};
use super::objects::person_name;
use super::print::{count_of, items, texts};

/// List groups, and with --members their users, now or at any past moment.
///
/// Needs a group's id, or one of --directory, --user and --organization. Groups are in order of id.
/// All pages are read at the same moment.
#[derive(Args)]
#[command(after_help = "\
Examples:
  rollcall groups --directory directory_… --members
  rollcall groups --user directory_user_… --as-of 2026-03-20T17:29:59.999Z --known-at 29
  rollcall groups directory_group_… --members --json")]
pub(in super::super) struct GroupsArgs {
    /// Only the group with this id or name
    #[arg(
        value_parser = NonEmptyStringValueParser::new(),
        conflicts_with_all = ["directory", "user", "organization", "limit"]
    )]
    id: Option<String>,
    /// Only groups of this directory, by id or name
    #[arg(long, value_name = "ID|NAME")]
    directory: Option<String>,
    /// Only groups that this user is a member of, by id or email
    #[arg(long, value_name = "ID|EMAIL")]
    user: Option<String>,
    /// Only groups of this organization
    #[arg(long, value_name = "ID")]
    organization: Option<String>,
    /// Add the members of each group, at most its first thousand; `users --group ID` lists all
    #[arg(long)]
    members: bool,
    #[command(flatten)]
    list: ListArgs,
}

const GROUPS: Resource = Resource {
    path: "/directory_groups",
    nouns: ["group", "groups"],
    scope: "groups: --directory, --user or --organization",
    columns: &[Column::key("id"), Column::new("name"), Column::new("directory")],
    row,
};

const GROUPS_WITH_MEMBERS: Resource = Resource {
    columns: &[
        Column::key("id"),
        Column::new("name"),
        Column::new("directory"),
        Column::whole("members"),
        Column::new("who"),
    ],
    row: row_with_members,
    ..GROUPS
};

fn row(group: &RawValue) -> Vec<String> {
    texts(group, ["id", "name", "directory_id"]).into()
}

fn row_with_members(group: &RawValue) -> Vec<String> {
    let members: Vec<String> = items(group, "members").into_iter().map(member_label).collect();
    let mut row = row(group);
    row.extend([count_of(group, "members", members.len()), members.join(", ")]);
    row
}

/// Returns the member's name, or the id of one without a name.
fn member_label(member: &RawValue) -> String {
    let name = person_name(member);
    if name.is_empty() { texts(member, ["id"]).concat() } else { name }
}

impl GroupsArgs {
    pub(in super::super) fn run(self) -> Result<(), Failure> {
        let resource = if self.members { &GROUPS_WITH_MEMBERS } else { &GROUPS };
        let shape = Query::default().with("members", self.members.then_some("true"));
        let GroupsArgs { directory, user, organization, .. } = self;
        let asked = Asked {
            object: self.id.map(|id| (Kind::Group, id)),
            shape,
            names: Names { directory, user, organization, ..Names::default() },
            ..Asked::default()
        };
        self.list.print(resource, asked)
    }
}
