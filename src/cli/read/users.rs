//! `rollcall users`

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use serde_json::value::RawValue;

use super::super::Failure;
use super::super::table::Column;
use super::listing::{Asked, ListArgs, Query, Resource};
use super::names::{Kind, Names};
use super::objects::person_name;
use super::print::{count_of, is_truncated, items, texts};

/// List users and their groups, now or at any past moment.
///
/// Needs a user's id, or one of --directory, --group and --organization; the other filters narrow
/// that list. Users are in order of id. All pages are read at the same moment.
#[derive(Args)]
#[command(after_help = "\
Examples:
  rollcall users --group Platform --as-of 2026-03-02T08:59:59.999Z
  rollcall users --organization org_… --email ana@example.com --json
  rollcall users directory_user_… --data ./rollcall-data")]
pub(in super::super) struct UsersArgs {
    /// Only the user with this id or email
    #[arg(
        value_parser = NonEmptyStringValueParser::new(),
        conflicts_with_all = [
            "directory", "group", "organization", "email", "idp_id", "state", "limit"
        ]
    )]
    id: Option<String>,
    /// Only users of this directory, by id or name
    #[arg(long, value_name = "ID|NAME")]
    directory: Option<String>,
    /// Only members of this group, by id or name
    #[arg(long, value_name = "ID|NAME")]
    group: Option<String>,
    /// Only users of this organization
    #[arg(long, value_name = "ID")]
    organization: Option<String>,
    /// Only users with this email, in upper or lower case
    #[arg(long)]
    email: Option<String>,
    /// Only users with this id at the identity provider
    #[arg(long, value_name = "ID")]
    idp_id: Option<String>,
    /// Only users in this state: active or inactive
    #[arg(long)]
    state: Option<String>,
    #[command(flatten)]
    list: ListArgs,
}

const USERS: Resource = Resource {
    path: "/directory_users",
    nouns: ["user", "users"],
    scope: "users: --directory, --group or --organization",
    columns: &[
        Column::key("id"),
        Column::new("name"),
        Column::new("email"),
        Column::whole("state"),
        Column::new("groups"),
    ],
    row,
};

fn row(user: &RawValue) -> Vec<String> {
    let groups: Vec<String> =
        items(user, "groups").into_iter().flat_map(|group| texts(group, ["name"])).collect();
    let [id, email, state] = texts(user, ["id", "email", "state"]);
    let mut shown = groups.join(", ");
    if is_truncated(user, "groups") {
        shown.insert_str(0, &format!("{}: ", count_of(user, "groups", groups.len())));
    }
    vec![id, person_name(user), email, state, shown]
}

impl UsersArgs {
    pub(in super::super) fn run(self) -> Result<(), Failure> {
        let UsersArgs { directory, group, organization, .. } = self;
        let filters = Query::default()
            .with("email", self.email)
            .with("idp_id", self.idp_id)
            .with("state", self.state);
        let asked = Asked {
            object: self.id.map(|id| (Kind::User, id)),
            names: Names { directory, group, organization, ..Names::default() },
            filters,
            ..Asked::default()
        };
        self.list.print(&USERS, asked)
    }
}
