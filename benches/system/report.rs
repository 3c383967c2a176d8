//! Rows of the table, for people and as JSON.

use serde::Serialize;

use crate::load::Outcome;

/// One line of the table.
#[derive(Default, Serialize)]
pub(crate) struct Row {
    pub(crate) work: String,
    pub(crate) value: f64,
    pub(crate) unit: &'static str,
    /// The limit that was measured in the same run, and what it is.
    pub(crate) limit: Option<f64>,
    pub(crate) limited_by: &'static str,
    /// The value in parts of the limit.
    pub(crate) ratio: Option<f64>,
    pub(crate) p50_us: Option<f64>,
    pub(crate) p99_us: Option<f64>,
    /// The CPU time that the server took for each request.
    pub(crate) cpu_us: Option<f64>,
    pub(crate) goal: String,
}

impl Row {
    pub(crate) fn of_value(work: &str, value: f64, unit: &'static str, goal: &str) -> Row {
        Row { work: work.into(), value, unit, goal: goal.into(), ..Row::default() }
    }

    /// Returns the row of a load, next to its limit.
    pub(crate) fn of_load(
        work: String,
        outcome: &Outcome,
        (limited_by, limit): (&'static str, f64),
        goal: f64,
    ) -> Row {
        Row {
            work,
            value: outcome.per_s,
            unit: "/s",
            limit: Some(limit),
            limited_by,
            ratio: Some(outcome.per_s / limit),
            p50_us: Some(outcome.p50_us),
            p99_us: Some(outcome.p99_us),
            cpu_us: Some(outcome.cpu_us).filter(|us| *us > 0.0),
            goal: format!("{goal}"),
        }
    }
}

/// Prints the rows.
pub(crate) fn print(rows: &[Row], as_json: bool) {
    if as_json {
        println!("{}", serde_json::to_string_pretty(rows).unwrap());
        return;
    }
    println!(
        "{:<44} {:>14} {:>12} {:>6} {:>9} {:>9} {:>9}  {:<8} limited by",
        "work", "measured", "limit", "ratio", "p50", "p99", "CPU", "goal"
    );
    for row in rows {
        let text = |value: Option<f64>, digits: usize| {
            value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
        };
        let us =
            |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |us| format!("{us:.0} µs"));
        let digits = if row.value < 100.0 { 2 } else { 0 };
        println!(
            "{:<44} {:>14} {:>12} {:>6} {:>9} {:>9} {:>9}  {:<8} {}",
            row.work,
            format!("{:.digits$} {}", row.value, row.unit),
            text(row.limit, 0),
            text(row.ratio, 2),
            us(row.p50_us),
            us(row.p99_us),
            us(row.cpu_us),
            row.goal,
            row.limited_by,
        );
    }
}
