//! `rollcall users`

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use serde_json::value::RawValue;

use super::super::Failure;
use super::super::table::Column;
use super::listing::{Kind, List, Moment, Output, Query};
use super::print::{items, texts};
use super::source::Source;

/// Users of a directory, a group or an organization, with their groups, now or at any past moment.
///
/// In order of id. The whole list is of one moment, however many pages the server gives it in.
#[derive(Args)]
#[command(after_help = "\
Examples:
  rollcall users --group directory_group_… --as-of 2026-03-02T08:59:59.999Z
  rollcall users --organization org_… --email ana@example.com --json
  rollcall users directory_user_… --data ./rollcall-data")]
pub(in super::super) struct Users {
    /// One user, by id
    #[arg(value_parser = NonEmptyStringValueParser::new(),
          conflicts_with_all = ["directory", "group", "organization", "email", "idp_id", "state", "limit"])]
    id: Option<String>,
    /// Of this directory
    #[arg(long, value_name = "ID")]
    directory: Option<String>,
    /// Members of this group
    #[arg(long, value_name = "ID")]
    group: Option<String>,
    /// Of this organization
    #[arg(long, value_name = "ID")]
    organization: Option<String>,
    /// With this email, in any case of its letters
    #[arg(long)]
    email: Option<String>,
    /// With this id at the identity provider
    #[arg(long, value_name = "ID")]
    idp_id: Option<String>,
    /// In this state: active or inactive
    #[arg(long)]
    state: Option<String>,
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
    path: "/directory_users",
    nouns: ["user", "users"],
    scope: "--directory, --group or --organization",
    columns: &[
        Column::whole("id"),
        Column::new("name"),
        Column::new("email"),
        Column::whole("state"),
        Column::new("groups"),
    ],
    row: |user| {
        let groups: Vec<String> =
            items(user, "groups").into_iter().flat_map(|group| texts(group, ["name"])).collect();
        let [id, email, state] = texts(user, ["id", "email", "state"]);
        vec![id, name(user), email, state, groups.join(", ")]
    },
};

impl Users {
    pub(in super::super) fn run(self) -> Result<(), Failure> {
        let Users {
            id,
            directory,
            group,
            organization,
            email,
            idp_id,
            state,
            limit,
            moment,
            output,
            source,
        } = self;
        let filters = Query::default()
            .with("directory", directory)
            .with("group", group)
            .with("organization_id", organization);
        let filters = filters
            .with("email", email)
            .with("idp_id", idp_id)
            .with("state", state)
            .with("order", Some("asc"));
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

/// A person's name: as it is given, or made of its parts.
pub(super) fn name(user: &RawValue) -> String {
    let [name, first, last] = texts(user, ["name", "first_name", "last_name"]);
    let parts = if name.is_empty() { [first, last] } else { [name, String::new()] };
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
}
