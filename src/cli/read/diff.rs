//! `rollcall diff`

use std::collections::HashMap;
use std::io::{self, BufWriter, Write};

use clap::Args;
use serde_json::value::RawValue;

use super::super::client::{Answer, Client};
use super::super::moment::{moment_or_latest, seq_or_moment};
use super::super::table::{self, Column, harmless};
use super::super::{Failure, print, unwritten};
use super::csv_table::CsvTable;
use super::listing::{ListPage, Output, Query, ask, path_of, refused};
use super::names::Names;
use super::objects::{ChangedField, nested};
use super::print::{counted, one_line, texts, width};
use super::source::SourceArgs;
use crate::json;

/// Compare two moments: print which users, groups, memberships and roles differ.
///
/// FROM and TO are moments, such as 2026-03-01, 2026-03-01T10:00Z or 30d, or `latest`. Each difference is a line, and each changed field of a user or group is a line
/// with its two values in JSON. In the table, the first thousand users and groups have their email
/// or name as well as their id.
#[derive(Args)]
#[command(after_help = "\
Examples:
  rollcall diff 30d
  rollcall diff 2026-02-01 2026-03-01 --directory directory_… --csv
  rollcall diff latest --from-known-at 20 --json")]
pub(in super::super) struct DiffArgs {
    /// The first moment
    #[arg(value_parser = moment_or_latest)]
    from: String,
    /// The second moment [default: latest]
    #[arg(value_parser = moment_or_latest)]
    to: Option<String>,
    /// Only users and groups of this directory, by id or name; checked separately at each of the
    /// two moments
    #[arg(long, value_name = "ID|NAME")]
    directory: Option<String>,
    /// At the first moment, use only what was known by then: a record's number or a moment
    /// [default: everything]
    #[arg(long, value_name = "SEQ|T", value_parser = seq_or_moment)]
    from_known_at: Option<String>,
    /// At the second moment, use only what was known by then [default: everything]
    #[arg(long, value_name = "SEQ|T", value_parser = seq_or_moment)]
    to_known_at: Option<String>,
    /// Print at most N differences
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// Print comma-separated values with a header line, for spreadsheets; values of fields in JSON
    ///
    /// A value that a spreadsheet would calculate, since it begins with =, +, -, @ or a tab, gets
    /// an apostrophe in front, unless it is a number.
    #[arg(long, conflicts_with = "json", help_heading = "Output")]
    csv: bool,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    source: SourceArgs,
}

const PATH: &str = "/rollcall/v1/diff";

/// The largest page that the API gives of differences.
const PAGE: u64 = 1000;

/// The most users and groups whose email or name the table shows, since each is one question.
const LABELS_MAX: usize = 1000;

const COLUMNS: [Column; 7] = [
    Column::new("kind"),
    Column::new("change"),
    Column::key("id"),
    Column::whole("called"),
    Column::whole("what"),
    Column::new("from"),
    Column::new("to"),
];

const NAMES: [&str; 8] = ["kind", "change", "user_id", "group_id", "role", "field", "from", "to"];

impl DiffArgs {
    pub(in super::super) fn run(self) -> Result<(), Failure> {
        let DiffArgs { from, to, directory, limit, csv, output, .. } = self;
        let (from_known_at, to_known_at) = (self.from_known_at, self.to_known_at);
        let known_at = later_known_at(from_known_at.as_deref(), to_known_at.as_deref());
        let moment = Query::moment(to.clone(), known_at);
        let names = Names { directory, ..Names::default() };
        let moments = Query::default().with("from", Some(from)).with("to", to);
        let limit = limit.unwrap_or(u64::MAX);
        self.source.ask(move |client| {
            let question = moments.and(&names.resolve(client, &moment)?.query());
            let diff = Diff { client, question, from_known_at, to_known_at, limit };
            if output.json {
                diff.print_lines(BufWriter::new(io::stdout().lock()))
            } else if csv {
                diff.print_csv()
            } else {
                diff.print_table()
            }
        })
    }
}

/// Returns the later of two ends of what is known, since what was known at either of the two moments
/// was seen; `None` for the newest record.
fn later_known_at(from: Option<&str>, to: Option<&str>) -> Option<String> {
    let (from, to) = (from?, to?);
    match (from.parse::<u64>(), to.parse::<u64>()) {
        (Ok(from), Ok(to)) => Some(from.max(to).to_string()),
        // Moments are written in one form, which sorts by time.
        (Err(_), Err(_)) => Some(from.max(to).to_owned()),
        _ => None,
    }
}

/// The differences between two moments, read page by page. The first page fixes both moments.
struct Diff<'c> {
    client: &'c Client,
    question: Query,
    from_known_at: Option<String>,
    to_known_at: Option<String>,
    limit: u64,
}

/// The number of differences that were read, and the two moments.
struct DiffTotal {
    count: u64,
    /// There are more differences than the limit allowed.
    more: bool,
    /// The last answer, whose headers name the two moments.
    answer: Answer,
}

impl Diff<'_> {
    fn walk(
        &self,
        mut each: impl FnMut(&RawValue) -> Result<(), Failure>,
    ) -> Result<DiffTotal, Failure> {
        let (mut from_known_at, mut to_known_at) =
            (self.from_known_at.clone(), self.to_known_at.clone());
        let (mut count, mut after) = (0, None);
        loop {
            let left = self.limit - count;
            let question = self
                .question
                .clone()
                .with("limit", Some(left.clamp(1, PAGE).to_string()))
                .with("after", after)
                .with("from_known_at", from_known_at)
                .with("to_known_at", to_known_at);
            let answer = ask(self.client, &question.at(PATH), "")?;
            let page: ListPage = answer.json()?;
            for object in page.data.iter().take(usize::try_from(left).unwrap_or(usize::MAX)) {
                each(object)?;
                count += 1;
            }
            after = page.next().map(str::to_owned);
            if after.is_none() || count == self.limit {
                return Ok(DiffTotal { count, more: after.is_some(), answer });
            }
            (from_known_at, to_known_at) = (answer.from_known_at.clone(), answer.known_at.clone());
        }
    }

    fn print_lines(&self, mut out: impl Write) -> Result<(), Failure> {
        self.walk(|object| {
            writeln!(out, "{}", one_line(object.get())).map_err(|error| unwritten(&error))
        })?;
        out.flush().map_err(|error| unwritten(&error))
    }

    fn print_csv(&self) -> Result<(), Failure> {
        let mut table = CsvTable::begin(&NAMES)?;
        self.walk(|object| {
            let subject = texts(object, ["kind", "change", "user_id", "group_id", "role"]);
            fields(object).iter().try_for_each(|field| {
                table.row(subject.iter().chain([&field.name, &field.from, &field.to]))
            })
        })?;
        table.end()
    }

    fn print_table(&self) -> Result<(), Failure> {
        let mut differences = Vec::new();
        let total = self.walk(|object| {
            differences.extend(lines(object));
            Ok(())
        })?;
        let mut labels = Labels::at(self.client, &total.answer);
        let rows: Vec<Vec<String>> = differences
            .into_iter()
            .map(|line| line.cells(&mut labels))
            .collect::<Result<_, _>>()?;
        print(&table::draw_within(width(), &COLUMNS, true, &rows))?;
        eprintln!("{}", harmless(&total.summary()));
        Ok(())
    }
}

impl DiffTotal {
    /// Returns the number of differences and the two moments, as the line below the table.
    fn summary(&self) -> String {
        let counted = counted(self.count, "difference", "differences");
        let mut line = if self.more { format!("the first {counted}") } else { counted };
        let Answer { as_of, known_at, from_as_of, from_known_at, .. } = &self.answer;
        for (word, as_of, known_at) in
            [("from", from_as_of, from_known_at), ("to", as_of, known_at)]
        {
            if let (Some(as_of), Some(known_at)) = (as_of, known_at) {
                line.push_str(&format!(", {word} {as_of}, known at record {known_at}"));
            }
        }
        line
    }
}

/// A line of the table: one field of a difference, or a difference without fields.
struct DiffLine {
    kind: String,
    change: String,
    user: String,
    group: String,
    role: String,
    field: ChangedField,
}

fn lines(object: &RawValue) -> impl Iterator<Item = DiffLine> {
    let [kind, change, user, group, role] =
        texts(object, ["kind", "change", "user_id", "group_id", "role"]);
    fields(object).into_iter().map(move |field| DiffLine {
        kind: kind.clone(),
        change: change.clone(),
        user: user.clone(),
        group: group.clone(),
        role: role.clone(),
        field,
    })
}

impl DiffLine {
    fn cells(self, labels: &mut Labels<'_>) -> Result<Vec<String>, Failure> {
        let DiffLine { kind, change, user, group, role, field } = self;
        let (labelled, id, what) = match kind.as_str() {
            "membership" => {
                let name = labels.find(&GROUPS, &group)?;
                (&USERS, user, if name.is_empty() { group } else { format!("{group}, {name}") })
            }
            "role" => (&USERS, user, role),
            "group" => (&GROUPS, group, field.name),
            _ => (&USERS, user, field.name),
        };
        let label = labels.find(labelled, &id)?;
        Ok(vec![kind, change, id, label, what, field.from, field.to])
    }
}

/// Returns the fields that differ, or one empty field for a difference without any.
fn fields(object: &RawValue) -> Vec<ChangedField> {
    let changed = nested(object, "changed")
        .and_then(|changed| json::entries(changed.get()))
        .unwrap_or_default();
    let fields: Vec<ChangedField> = changed
        .into_iter()
        .map(|(name, sides): (String, &RawValue)| {
            let [from, to] = json::fields(sides.get(), ["from", "to"]).unwrap_or_default();
            ChangedField { name, from: written(from), to: written(to) }
        })
        .collect();
    if fields.is_empty() { vec![ChangedField::default()] } else { fields }
}

fn written(value: Option<&RawValue>) -> String {
    value.map_or(String::new(), |value| one_line(value.get()).into_owned())
}

/// A kind of object that has a label.
struct Labelled {
    path: &'static str,
    /// The field with the label.
    field: &'static str,
}

const USERS: Labelled = Labelled { path: "/directory_users", field: "email" };

const GROUPS: Labelled = Labelled { path: "/directory_groups", field: "name" };

/// The emails of users and the names of groups at the second moment, or else at the first.
struct Labels<'c> {
    client: &'c Client,
    /// The second moment, then the first.
    moments: [Query; 2],
    known: HashMap<(&'static str, String), String>,
}

impl<'c> Labels<'c> {
    /// Returns labels at the two moments of an answer.
    fn at(client: &'c Client, answer: &Answer) -> Labels<'c> {
        let Answer { as_of, known_at, from_as_of, from_known_at, .. } = answer;
        let moments = [
            Query::moment(as_of.clone(), known_at.clone()),
            Query::moment(from_as_of.clone(), from_known_at.clone()),
        ];
        Labels { client, moments, known: HashMap::new() }
    }

    /// Returns an object's label; empty if it has none, or once there are [`LABELS_MAX`].
    ///
    /// # Errors
    /// If the server does not answer.
    fn find(&mut self, labelled: &'static Labelled, id: &str) -> Result<String, Failure> {
        let key = (labelled.path, id.to_owned());
        if let Some(label) = self.known.get(&key) {
            return Ok(label.clone());
        }
        if self.known.len() >= LABELS_MAX {
            return Ok(String::new());
        }
        let label = self.read(labelled, id)?;
        self.known.insert(key, label.clone());
        Ok(label)
    }

    fn read(&self, labelled: &Labelled, id: &str) -> Result<String, Failure> {
        for moment in &self.moments {
            let answer = self.client.get(&moment.at(&path_of(labelled.path, id)))?;
            let label = match answer.status {
                200 => texts(answer.json()?, [labelled.field]).concat(),
                404 => String::new(),
                _ => return Err(refused(&answer, self.client, "")),
            };
            if !label.is_empty() {
                return Ok(label);
            }
        }
        Ok(String::new())
    }
}
