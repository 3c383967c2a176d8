//! `rollcall deprovisioned`

use clap::Args;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::super::Failure;
use super::super::moment::moment;
use super::super::table::Column;
use super::listing::{Kind, List, Moment, Output, Query};
use super::print::human;
use super::source::Source;
use super::values::Values;

/// Who lost access: when, why, how long after it was learnt, with which roles and groups.
///
/// In order of when it happened. --since and --until go by that moment, both included. Whoever lost
/// access several times stands there as often.
#[derive(Args)]
#[command(after_help = "\
Examples:
  rollcall deprovisioned --since 30d
  rollcall deprovisioned --organization org_… --since 2026-01-01 --until 2026-03-31T23:59:59.999Z --csv
  rollcall deprovisioned --email ana@example.com --known-at 29 --json")]
pub(in super::super) struct Deprovisioned {
    /// Then or later: an RFC 3339 time, a date, which is its first millisecond in UTC, or how long
    /// ago, such as 30d, 12h or 90m
    #[arg(long, value_name = "T", value_parser = moment)]
    since: Option<String>,
    /// Then or earlier, in the same ways
    #[arg(long, value_name = "T", value_parser = moment)]
    until: Option<String>,
    /// This user, by id
    #[arg(long, value_name = "ID")]
    user: Option<String>,
    /// Who showed this email as access ended, in any case of its letters
    #[arg(long)]
    email: Option<String>,
    /// From this directory
    #[arg(long, value_name = "ID")]
    directory: Option<String>,
    /// Of this organization
    #[arg(long, value_name = "ID")]
    organization: Option<String>,
    /// At most so many
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// Comma-separated values under a line of names, for spreadsheets; roles and groups in JSON.
    ///
    /// A value that a spreadsheet would calculate, since it begins with =, +, -, @ or a tab, has an
    /// apostrophe before it; numbers have none.
    #[arg(long, conflicts_with = "json", help_heading = "Output")]
    csv: bool,
    #[command(flatten)]
    moment: Moment,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    source: Source,
}

const KIND: Kind = Kind {
    path: "/rollcall/v1/deprovisionings",
    nouns: ["deprovisioning", "deprovisionings"],
    scope: "",
    columns: &[
        Column::whole("when (UTC)"),
        Column::whole("who"),
        Column::whole("why"),
        Column::whole("learnt after"),
        Column::new("roles"),
        Column::new("groups"),
        Column::whole("restored (UTC)"),
        Column::whole("record"),
    ],
    row,
};

/// The columns for spreadsheets, which stay as they are; new ones would come behind them.
const NAMES: [&str; 14] = [
    "occurred_at",
    "user_id",
    "email",
    "directory_id",
    "organization_id",
    "reason",
    "recorded_at",
    "delay_ms",
    "roles",
    "groups",
    "restored_at",
    "event_id",
    "event",
    "seq",
];

#[derive(Deserialize)]
struct Item<'a> {
    user_id: String,
    email: Option<String>,
    directory_id: String,
    organization_id: String,
    reason: String,
    occurred_at: String,
    recorded_at: String,
    delay_ms: i64,
    roles: Vec<String>,
    #[serde(borrow)]
    groups: &'a RawValue,
    restored_at: Option<String>,
    cause: Cause,
}

#[derive(Deserialize)]
struct Cause {
    event_id: String,
    event: String,
    seq: u64,
}

#[derive(Deserialize)]
struct Group {
    id: String,
    name: String,
}

fn row(object: &RawValue) -> Vec<String> {
    let Ok(item) = serde_json::from_str::<Item<'_>>(object.get()) else { return Vec::new() };
    let groups: Vec<Group> = serde_json::from_str(item.groups.get()).unwrap_or_default();
    let groups: Vec<String> = groups
        .into_iter()
        .map(|group| if group.name.is_empty() { group.id } else { group.name })
        .collect();
    let learnt = if item.delay_ms < 0 { "at once".into() } else { human(item.delay_ms) };
    let restored = item.restored_at.unwrap_or_else(|| "-".into());
    let who = item.email.unwrap_or(item.user_id);
    vec![
        item.occurred_at,
        who,
        item.reason,
        learnt,
        item.roles.join(", "),
        groups.join(", "),
        restored,
        item.cause.seq.to_string(),
    ]
}

fn cells(object: &RawValue) -> Option<Vec<String>> {
    let item: Item<'_> = serde_json::from_str(object.get()).ok()?;
    let (roles, groups) = (serde_json::to_string(&item.roles).ok()?, item.groups.get().to_owned());
    let (email, restored_at) =
        (item.email.unwrap_or_default(), item.restored_at.unwrap_or_default());
    let Cause { event_id, event, seq } = item.cause;
    let whose = [
        item.occurred_at,
        item.user_id,
        email,
        item.directory_id,
        item.organization_id,
        item.reason,
        item.recorded_at,
    ];
    let rest =
        [item.delay_ms.to_string(), roles, groups, restored_at, event_id, event, seq.to_string()];
    Some(whose.into_iter().chain(rest).collect())
}

impl Deprovisioned {
    pub(in super::super) fn run(self) -> Result<(), Failure> {
        let Deprovisioned {
            since,
            until,
            user,
            email,
            directory,
            organization,
            limit,
            csv,
            moment,
            output,
            source,
        } = self;
        let filters = Query::default()
            .with("since", since)
            .with("until", until)
            .with("user", user)
            .with("email", email);
        let filters = filters.with("directory", directory).with("organization_id", organization);
        source.ask(move |client| {
            let list = List { kind: &KIND, filters, first: moment.query(), limit };
            if csv {
                let odd = || Failure::Ours("the answer is not one that Rollcall gives".into());
                // A question that is refused prints nothing, not even the names.
                let (objects, _) = list.collect(client, KIND.path)?;
                let mut values = Values::begin(&NAMES)?;
                objects.iter().try_for_each(|object| values.row(cells(object).ok_or_else(odd)?))?;
                return values.end();
            }
            list.print(client, &output, |_| true)
        })
    }
}
