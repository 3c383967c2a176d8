//! `rollcall deprovisioned`

use clap::Args;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::super::Failure;
use super::super::moment::moment;
use super::super::table::Column;
use super::csv_table::CsvTable;
use super::listing::{Moment, Output, Query, Resource};
use super::names::Names;
use super::objects::{EventCause, NamedGroup, parse};
use super::print::human;
use super::source::SourceArgs;

/// List users who lost access: when, why, and with which roles and groups.
///
/// In order of the moment at which access ended; --since and --until are compared with it, both
/// included. A user who lost access several times is listed as often.
#[derive(Args)]
#[command(after_help = "\
Examples:
  rollcall deprovisioned --since 30d
  rollcall deprovisioned --organization org_… --since 2026-01-01 \
--until 2026-03-31T23:59:59.999Z --csv
  rollcall deprovisioned --email ana@example.com --known-at 29 --json")]
pub(in super::super) struct DeprovisionedArgs {
    /// Only access that ended then or later, such as 2026-03-01, 2026-03-01T10:00Z or 30d
    #[arg(long, value_name = "T", value_parser = moment)]
    since: Option<String>,
    /// Only access that ended then or earlier
    #[arg(long, value_name = "T", value_parser = moment)]
    until: Option<String>,
    /// Only this user, by id or by an email the user ever had; if several users had it, they are
    /// listed, and the id of one is needed
    #[arg(long, value_name = "ID|EMAIL")]
    user: Option<String>,
    /// Only users with this email when access ended, in upper or lower case
    #[arg(long)]
    email: Option<String>,
    /// Only users of this directory, by id or name
    #[arg(long, value_name = "ID|NAME")]
    directory: Option<String>,
    /// Only users of this organization
    #[arg(long, value_name = "ID")]
    organization: Option<String>,
    /// Print at most N
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// Print comma-separated values with a header line, for spreadsheets; roles and groups in JSON
    ///
    /// A value that a spreadsheet would calculate, since it begins with =, +, -, @ or a tab, gets
    /// an apostrophe in front, unless it is a number.
    #[arg(long, conflicts_with = "json", help_heading = "Output")]
    csv: bool,
    /// Begin the comma-separated values with a byte order mark, by which Excel knows UTF-8
    #[arg(long, requires = "csv", help_heading = "Output")]
    bom: bool,
    #[command(flatten)]
    moment: Moment,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    source: SourceArgs,
}

const DEPROVISIONINGS: Resource = Resource {
    path: "/rollcall/v1/deprovisionings",
    nouns: ["deprovisioning", "deprovisionings"],
    scope: "",
    columns: &[
        Column::whole("when (UTC)"),
        Column::key("who"),
        Column::whole("why"),
        Column::whole("learnt after"),
        Column::new("roles"),
        Column::new("groups"),
        Column::whole("restored (UTC)"),
        Column::whole("record"),
    ],
    row,
};

/// The columns of the CSV form. Their order is fixed, so that a new one must come last.
const NAMES: [&str; 16] = [
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
    "observed",
    "not_before",
];

#[derive(Deserialize)]
struct ApiDeprovisioning<'a> {
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
    observed: bool,
    not_before: Option<String>,
    cause: EventCause,
}

fn row(object: &RawValue) -> Vec<String> {
    let Ok(loss) = parse::<ApiDeprovisioning<'_>>(object) else { return Vec::new() };
    let groups: Vec<NamedGroup> = parse(loss.groups).unwrap_or_default();
    let groups: Vec<&str> = groups.iter().map(NamedGroup::label).collect();
    let learnt = if loss.delay_ms < 0 { "at once".into() } else { human(loss.delay_ms) };
    let when = match (loss.observed, loss.not_before) {
        (false, _) => loss.occurred_at,
        (true, None) => format!("by {}", loss.occurred_at),
        (true, Some(seen)) => format!("by {}, last seen {seen}", loss.occurred_at),
    };
    vec![
        when,
        loss.email.unwrap_or(loss.user_id),
        loss.reason,
        learnt,
        loss.roles.join(", "),
        groups.join(", "),
        loss.restored_at.unwrap_or_else(|| "-".into()),
        loss.cause.seq.to_string(),
    ]
}

/// Returns the cells of the CSV form.
fn csv_cells(object: &RawValue) -> Result<[String; 16], Failure> {
    let loss: ApiDeprovisioning<'_> = parse(object)?;
    Ok([
        loss.occurred_at,
        loss.user_id,
        loss.email.unwrap_or_default(),
        loss.directory_id,
        loss.organization_id,
        loss.reason,
        loss.recorded_at,
        loss.delay_ms.to_string(),
        serde_json::to_string(&loss.roles).map_err(Failure::ours)?,
        loss.groups.get().to_owned(),
        loss.restored_at.unwrap_or_default(),
        loss.cause.event_id,
        loss.cause.event,
        loss.cause.seq.to_string(),
        loss.observed.to_string(),
        loss.not_before.unwrap_or_default(),
    ])
}

impl DeprovisionedArgs {
    pub(in super::super) fn run(self) -> Result<(), Failure> {
        let filters = Query::default()
            .with("since", self.since)
            .with("until", self.until)
            .with("email", self.email);
        let DeprovisionedArgs { user, directory, organization, .. } = self;
        let names = Names { user, directory, organization, ever: true, ..Names::default() };
        let (limit, csv, bom) = (self.limit, self.csv, self.bom);
        let (moment, output) = (self.moment, self.output);
        self.source.ask(move |client| {
            let moment = moment.query();
            let filters = names.resolve(client, &moment)?.query().and(&filters);
            let list = DEPROVISIONINGS.list(filters, moment, limit);
            if csv {
                let write = |table: &mut CsvTable, loss: &RawValue| table.row(csv_cells(loss)?);
                return list.print_csv(client, &NAMES, bom, write);
            }
            DEPROVISIONINGS.print_list(&list, client, &output)
        })
    }
}
