//! The differences that a reconciliation found, as people read them: like a diff.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::super::read::print::value;
use super::super::table::{self, Column, harmless};
use crate::sources::reconcile::{HeldPlace, HeldReason};

const COLUMNS: [Column; 5] = [
    Column::whole(""),
    Column::whole("kind"),
    Column::new("name"),
    Column::key("id"),
    Column::whole("outcome"),
];

/// The last column, if there are differences in several directories.
const DIRECTORY: Column = Column::whole("directory");

/// The most lines about what is held.
const ADVICE_LINES_MAX: usize = 20;

/// A difference, as the server reports it. The last three members are there for keys that may read
/// them.
#[derive(Deserialize)]
pub(super) struct DifferenceReport {
    kind: String,
    id: Option<String>,
    user_id: Option<String>,
    group_id: Option<String>,
    directory_id: String,
    difference: String,
    fields: Vec<String>,
    recorded: Option<u64>,
    held: Option<String>,
    email: Option<String>,
    name: Option<String>,
    changed: Option<BTreeMap<String, ChangeReport>>,
}

#[derive(Deserialize)]
struct ChangeReport {
    from: Box<RawValue>,
    to: Box<RawValue>,
}

/// A row of the table, and the lines below it.
struct Row {
    cells: Vec<String>,
    directory: String,
    changes: Vec<String>,
}

/// The differences of a run, in its order.
#[derive(Default)]
pub(super) struct Differences {
    rows: Vec<Row>,
    /// The number of those that are held, by directory and reason.
    held: BTreeMap<(String, String), u64>,
}

impl Differences {
    /// Adds one.
    pub(super) fn add(&mut self, found: &DifferenceReport, dry_run: bool) {
        if let Some(reason) = &found.held {
            let place = (found.directory_id.clone(), reason.clone());
            *self.held.entry(place).or_default() += 1;
        }
        let (cells, directory) = (found.cells(dry_run), found.directory_id.clone());
        self.rows.push(Row { cells, directory, changes: found.changes() });
    }

    /// Returns their number.
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Draws a table with the fields that differ below each row; empty without any.
    pub(super) fn draw(&self, width: Option<u16>) -> String {
        let Some(first) = self.rows.first() else { return String::new() };
        let mut columns = COLUMNS.to_vec();
        let mut cells: Vec<Vec<String>> = self.rows.iter().map(|row| row.cells.clone()).collect();
        if self.rows.iter().any(|row| row.directory != first.directory) {
            columns.push(DIRECTORY);
            cells.iter_mut().zip(&self.rows).for_each(|(to, row)| to.push(row.directory.clone()));
        }
        let table = table::draw_within(width, &columns, true, &cells);
        let mut lines = table.lines();
        let mut out = lines.next().unwrap_or_default().to_owned() + "\n";
        for (line, row) in lines.zip(&self.rows) {
            out.push_str(line);
            out.push('\n');
            for change in &row.changes {
                out.push_str(&format!("     {}\n", harmless(change)));
            }
        }
        out
    }

    /// Says for each directory why differences are held, and what to do; a line each. `place` says
    /// what was found of a directory.
    pub(super) fn advice<'a>(&self, place: impl Fn(&str) -> HeldPlace<'a>) -> String {
        let lines = self.held.iter().map(|((directory, reason), count)| {
            let known: Option<HeldReason> = serde_json::from_value(reason.as_str().into()).ok();
            let advice =
                known.map(|reason| format!(": {}", reason.advice(directory, place(directory))));
            let line = format!("{directory}: {count} {reason}{}", advice.unwrap_or_default());
            format!("\n  {}", harmless(&line))
        });
        let mut advice: String = lines.take(ADVICE_LINES_MAX).collect();
        if let Some(more @ 1..) = self.held.len().checked_sub(ADVICE_LINES_MAX) {
            advice.push_str(&format!("\n  and {more} more lines: the table has all of them"));
        }
        advice
    }
}

impl DifferenceReport {
    fn cells(&self, dry_run: bool) -> Vec<String> {
        let sign = match self.difference.as_str() {
            "missing_here" => "+",
            "missing_there" => "-",
            _ => "~",
        };
        let id = match (&self.id, &self.user_id, &self.group_id) {
            (Some(id), _, _) => id.clone(),
            // A group whose name is shown needs no id.
            (None, Some(user), _) if self.name.is_some() => user.clone(),
            (None, Some(user), Some(group)) => format!("{user} in {group}"),
            _ => String::new(),
        };
        let outcome = match (&self.held, self.recorded) {
            (Some(reason), _) => format!("held: {reason}"),
            (None, Some(seq)) => format!("record {seq}"),
            (None, None) if dry_run => "would be recorded".to_owned(),
            (None, None) => String::new(),
        };
        vec![sign.into(), self.kind.clone(), self.label(), id, outcome]
    }

    /// Returns the words by which people know what it is about.
    fn label(&self) -> String {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let (email, name) = (text(&self.email), text(&self.name));
        match self.kind.as_str() {
            "membership" if !email.is_empty() && !name.is_empty() => format!("{email} in {name}"),
            "membership" if !name.is_empty() => format!("in {name}"),
            _ if email.is_empty() => name,
            _ => email,
        }
    }

    /// Describes each field that differs.
    fn changes(&self) -> Vec<String> {
        let Some(changed) = &self.changed else {
            let fields = self.fields.join(", ");
            return Some(fields).filter(|fields| !fields.is_empty()).into_iter().collect();
        };
        let lines = self.fields.iter().map(|field| match changed.get(field) {
            Some(ChangeReport { from, to }) => {
                format!("{field}: {} -> {}", value(from.get()), value(to.get()))
            }
            None => format!("{field}: too long to show"),
        });
        lines.collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn drawn(found: serde_json::Value, dry_run: bool) -> Differences {
        let mut differences = Differences::default();
        for found in found.as_array().unwrap() {
            differences.add(&serde_json::from_value(found.clone()).unwrap(), dry_run);
        }
        differences
    }

    #[test]
    fn the_table_reads_like_a_diff_with_names_and_values() {
        let found = json!([
            {"kind": "user", "id": "u1", "directory_id": "d", "difference": "differs",
             "fields": ["email", "job_title", "raw_attributes.bio"], "recorded": 7, "held": null,
             "email": "new@x.example", "name": "Ada Roe", "changed": {
                "email": {"from": "old@x.example", "to": "new@x.example"},
                "job_title": {"from": null, "to": "Pilot\u{1b}[2J"}}},
            {"kind": "group", "id": "g1", "directory_id": "d", "difference": "missing_here",
             "fields": [], "recorded": 8, "held": null, "email": null, "name": "Crew",
             "changed": {}},
            {"kind": "membership", "user_id": "u1", "group_id": "g1", "directory_id": "d2",
             "difference": "missing_there", "fields": [], "recorded": null, "held": "guard",
             "email": "new@x.example", "name": "Crew", "changed": {}},
        ]);
        let expected = "   kind        name                   id  outcome      directory
~  user        new@x.example          u1  record 7     d
     email: old@x.example -> new@x.example
     job_title: nothing -> Pilot\\u{1b}[2J
     raw_attributes.bio: too long to show
+  group       Crew                   g1  record 8     d
-  membership  new@x.example in Crew  u1  held: guard  d2
";
        assert_eq!(drawn(found, false).draw(None), expected);
        assert_eq!(Differences::default().draw(None), "");
    }

    #[test]
    fn a_key_that_may_not_read_sees_ids_and_the_names_of_fields() {
        let found = json!([
            {"kind": "user", "id": "u1", "directory_id": "d", "recorded": null, "held": null,
             "difference": "differs", "fields": ["email", "state"]},
            {"kind": "membership", "user_id": "u1", "group_id": "g1", "directory_id": "d",
             "difference": "missing_here", "fields": [], "recorded": null, "held": null},
        ]);
        let expected = "   kind        name  id        outcome
~  user              u1        would be recorded
     email, state
+  membership        u1 in g1  would be recorded
";
        assert_eq!(drawn(found, true).draw(None), expected);
    }

    #[test]
    fn what_is_held_is_counted_by_directory_and_reason_with_what_to_do() {
        let held = |id: &str, directory: &str, reason: &str| {
            json!({"kind": "user", "id": id, "directory_id": directory, "recorded": null,
                "difference": "missing_there", "fields": [], "held": reason})
        };
        let found = json!([
            held("u1", "d2", "guard"),
            held("u2", "d1", "newer_event"),
            held("u3", "d2", "guard"),
            held("u4", "d2", "a_later_reason"),
            held("u5", "d3", "guard"),
        ]);
        let place = |directory: &str| HeldPlace {
            excess: (directory == "d2").then_some("2 of 2 would end"),
            undecided: directory == "d3",
        };
        let advice = drawn(found, false).advice(place);
        let lines: Vec<&str> = advice.lines().collect();
        assert_eq!(lines.len(), 5, "{advice}");
        assert!(lines[1].starts_with("  d1: 1 newer_event: something newer is known"), "{advice}");
        assert_eq!(lines[2], "  d2: 1 a_later_reason");
        let guard = "  d2: 2 guard: more would end than the guard allows (2 of 2 would end): look";
        assert!(lines[3].starts_with(guard), "{advice}");
        assert!(lines[3].contains("`rollcall reconcile --directory d2 --guard off`"), "{advice}");
        assert!(lines[3].contains("counts for 7 days, in which further ends may"), "{advice}");
        // It would record nothing there.
        let undecided = "  d3: 1 guard: more would end than the guard allows: the directory is \
                         undecided, and nothing that the source lacks ends until the doubt is gone";
        assert_eq!(lines[4], undecided);
    }
}
