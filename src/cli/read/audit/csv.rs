//! Timelines as one flat CSV table.

use super::super::super::Failure;
use super::super::csv_table::CsvTable;
use super::super::objects::{ChangedField, NamedGroup};
use super::UserTimeline;
use super::timeline::{MissedField, Step, UserChange};

/// The columns. Their order is fixed, so that a new one must come last.
const NAMES: [&str; 18] = [
    "user_id",
    "at",
    "kind",
    "change",
    "field",
    "from",
    "to",
    "group_id",
    "group_name",
    "role",
    "reason",
    "late",
    "event_id",
    "event",
    "occurred_at",
    "recorded_at",
    "delay_ms",
    "seq",
];

/// The cells in which the rows of one step differ.
#[derive(Default)]
struct CsvRow<'a> {
    kind: &'static str,
    change: &'a str,
    field: &'a str,
    from: &'a str,
    to: &'a str,
    group: Option<&'a NamedGroup>,
    role: &'a str,
    reason: &'a str,
}

/// Prints the timelines one after the other.
///
/// # Errors
/// If standard output cannot be written.
pub(super) fn print_all(timelines: &[UserTimeline]) -> Result<(), Failure> {
    let mut table = CsvTable::begin(&NAMES)?;
    for timeline in timelines {
        for step in &timeline.steps {
            for row in step.changes.iter().flat_map(rows) {
                table.row(cells(&timeline.profile.id, step, &row))?;
            }
        }
    }
    table.end()
}

fn cells(user: &str, step: &Step, row: &CsvRow<'_>) -> [String; 18] {
    let Step { at, cause, overtaken_ms, .. } = step;
    let (group_id, group_name) = row.group.map_or(("", ""), |group| (&group.id, &group.name));
    [
        user.to_owned(),
        at.clone(),
        row.kind.to_owned(),
        row.change.to_owned(),
        row.field.to_owned(),
        row.from.to_owned(),
        row.to.to_owned(),
        group_id.to_owned(),
        group_name.to_owned(),
        row.role.to_owned(),
        row.reason.to_owned(),
        overtaken_ms.is_some().to_string(),
        cause.event_id.clone(),
        cause.event.clone(),
        cause.occurred_at.clone(),
        cause.recorded_at.clone(),
        cause.delay_ms().to_string(),
        cause.seq.to_string(),
    ]
}

/// Returns the rows of a change: one, and for a version also one for each field.
fn rows(change: &UserChange) -> Vec<CsvRow<'_>> {
    let row = match change {
        UserChange::Version { change, changed, missed } => {
            return version_rows(change, changed, missed);
        }
        UserChange::AccessBegan => CsvRow { kind: "access", change: "begun", ..CsvRow::default() },
        UserChange::AccessEnded { reason, .. } => {
            CsvRow { kind: "access", change: "ended", reason, ..CsvRow::default() }
        }
        UserChange::Joined(group) => membership_row("joined", group),
        UserChange::Left(group) => membership_row("left", group),
        UserChange::RoleGained(role) => {
            CsvRow { kind: "role", change: "gained", role, ..CsvRow::default() }
        }
        UserChange::RoleLost(role) => {
            CsvRow { kind: "role", change: "lost", role, ..CsvRow::default() }
        }
    };
    vec![row]
}

fn membership_row<'a>(change: &'a str, group: &'a NamedGroup) -> CsvRow<'a> {
    CsvRow { kind: "membership", change, group: Some(group), ..CsvRow::default() }
}

fn version_rows<'a>(
    change: &'a str,
    changed: &'a [ChangedField],
    missed: &'a [MissedField],
) -> Vec<CsvRow<'a>> {
    let row = |kind| CsvRow { kind, change, ..CsvRow::default() };
    let mut rows = vec![row("version")];
    rows.extend(missed.iter().map(|field| CsvRow {
        field: &field.name,
        from: &field.known,
        to: &field.said,
        ..row("missed")
    }));
    rows.extend(changed.iter().map(|field| CsvRow {
        field: &field.name,
        from: &field.from,
        to: &field.to,
        ..row("field")
    }));
    rows
}
