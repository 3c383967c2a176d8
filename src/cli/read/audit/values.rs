//! Timelines as one flat table.

use super::super::super::Failure;
use super::super::values::Values;
use super::Timeline;
use super::timeline::{Field, Group, Step, What};

/// The columns, which stay as they are; new ones would come behind them.
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

/// What differs from row to row of one event.
#[derive(Default)]
struct Row<'a> {
    kind: &'static str,
    change: &'a str,
    field: &'a str,
    values: [&'a str; 2],
    group: Option<&'a Group>,
    role: &'a str,
    reason: &'a str,
}

/// Prints every timeline, one below the other.
///
/// # Errors
/// If standard output cannot be written.
pub(super) fn print_all(timelines: &[Timeline]) -> Result<(), Failure> {
    let mut values = Values::begin(&NAMES)?;
    for timeline in timelines {
        for step in &timeline.steps {
            step.whats
                .iter()
                .flat_map(rows)
                .try_for_each(|row| values.row(cells(&timeline.who.id, step, &row)))?;
        }
    }
    values.end()
}

fn cells(user: &str, step: &Step, row: &Row<'_>) -> Vec<String> {
    let Step { at, cause, overtaken_ms, .. } = step;
    let [from, to] = row.values;
    let (group_id, group_name) = row.group.map_or(("", ""), |group| (&group.id, &group.name));
    let (late, delay_ms, seq) =
        (overtaken_ms.is_some().to_string(), cause.delay_ms().to_string(), cause.seq.to_string());
    let texts = [
        user, at, row.kind, row.change, row.field, from, to, group_id, group_name, row.role,
        row.reason, &late,
    ];
    let of_cause =
        [&cause.event_id, &cause.event, &cause.occurred_at, &cause.recorded_at, &delay_ms, &seq];
    texts.into_iter().map(str::to_owned).chain(of_cause.into_iter().cloned()).collect()
}

/// The rows of one thing: of a version one, and one for each field.
fn rows(what: &What) -> Vec<Row<'_>> {
    match what {
        What::Version { change, changed, missed } => {
            let version = Row { kind: "version", change, ..Row::default() };
            let mut rows = vec![version];
            rows.extend(missed.iter().map(|field| fielded("missed", change, field)));
            rows.extend(changed.iter().map(|field| fielded("field", change, field)));
            rows
        }
        What::AccessBegan => vec![Row { kind: "access", change: "begun", ..Row::default() }],
        What::AccessEnded(reason) => {
            vec![Row { kind: "access", change: "ended", reason, ..Row::default() }]
        }
        What::Joined(group) => {
            vec![Row { kind: "membership", change: "joined", group: Some(group), ..Row::default() }]
        }
        What::Left(group) => {
            vec![Row { kind: "membership", change: "left", group: Some(group), ..Row::default() }]
        }
        What::RoleGained(role) => {
            vec![Row { kind: "role", change: "gained", role, ..Row::default() }]
        }
        What::RoleLost(role) => vec![Row { kind: "role", change: "lost", role, ..Row::default() }],
    }
}

fn fielded<'a>(kind: &'static str, change: &'a str, field: &'a Field) -> Row<'a> {
    let Field { name, values: [from, to] } = field;
    Row { kind, change, field: name, values: [from, to], ..Row::default() }
}
