//! `rollcall diff`

use std::collections::HashMap;
use std::io::{self, BufWriter, Write};

use clap::Args;
use percent_encoding::utf8_percent_encode;
use serde_json::value::RawValue;

use super::super::client::{Answer, Client};
use super::super::moment::{moment_or_latest, of_date};
use super::super::table::{self, Column, harmless};
use super::super::{Failure, print, unwritten};
use super::listing::{ENCODED, Output, Page, Query, ask, refused};
use super::print::{counted, one_line, texts, width};
use super::source::Source;
use super::values::Values;
use crate::json;

/// What differs between two moments: users, groups, memberships and roles.
///
/// FROM and TO are RFC 3339 times, dates, each its first millisecond in UTC, `latest`, or how long
/// ago, such as 30d, 12h or 90m. A line for each difference, and of what was changed for each
/// field, with its two values as they were written. In the table, the emails of users and the names
/// of groups stand beside the ids, of the first thousand.
#[derive(Args)]
#[command(after_help = "\
Examples:
  rollcall diff 30d
  rollcall diff 2026-02-01 2026-03-01 --directory directory_… --csv
  rollcall diff latest --from-known-at 20 --json")]
pub(in super::super) struct Diff {
    /// The first moment
    #[arg(value_parser = moment_or_latest)]
    from: String,
    /// The second moment; without it, the latest
    #[arg(value_parser = moment_or_latest)]
    to: Option<String>,
    /// Only users and groups that are in this directory, at each moment for itself
    #[arg(long, value_name = "ID")]
    directory: Option<String>,
    /// What had been told by then counts at the first moment: a record's number, an RFC 3339 time
    /// or a date; without it, everything
    #[arg(long, value_name = "SEQ|T")]
    from_known_at: Option<String>,
    /// The same at the second moment
    #[arg(long, value_name = "SEQ|T")]
    to_known_at: Option<String>,
    /// At most so many differences
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// Comma-separated values under a line of names, for spreadsheets; values of fields in JSON.
    ///
    /// A value that a spreadsheet would calculate, since it begins with =, +, -, @ or a tab, has an
    /// apostrophe before it; numbers have none.
    #[arg(long, conflicts_with = "json", help_heading = "Output")]
    csv: bool,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    source: Source,
}

const PATH: &str = "/rollcall/v1/diff";

/// As many as a page may have.
const PAGE: u64 = 1000;

/// Of so many users and groups the table shows emails and names, each one being asked for; of more
/// only the ids.
const CALLED_MAX: usize = 1000;

const COLUMNS: [Column; 7] = [
    Column::new("kind"),
    Column::new("change"),
    Column::whole("id"),
    Column::whole("called"),
    Column::whole("what"),
    Column::new("from"),
    Column::new("to"),
];

const NAMES: [&str; 8] = ["kind", "change", "user_id", "group_id", "role", "field", "from", "to"];

impl Diff {
    pub(in super::super) fn run(self) -> Result<(), Failure> {
        let Diff { from, to, directory, from_known_at, to_known_at, limit, csv, output, source } =
            self;
        let question =
            Query::default().with("from", Some(from)).with("to", to).with("directory", directory);
        let sent = |moment: Option<String>| moment.map(|moment| of_date(&moment).into_owned());
        source.ask(move |client| {
            let walk = Walk {
                client,
                question,
                known_at: [from_known_at, to_known_at].map(sent),
                limit: limit.unwrap_or(u64::MAX),
            };
            let out = || BufWriter::new(io::stdout().lock());
            match (output.json, csv) {
                (true, _) => walk.print_lines(out()),
                (_, true) => walk.print_values(),
                _ => walk.print_table(),
            }
        })
    }
}

/// All differences, asked for page by page at two moments that the first page fixes.
struct Walk<'c> {
    client: &'c Client,
    question: Query,
    known_at: [Option<String>; 2],
    limit: u64,
}

/// How much was told, and of which moments.
struct Told {
    count: u64,
    more: bool,
    first: Answer,
}

impl Walk<'_> {
    fn each(
        &self,
        mut each: impl FnMut(&RawValue) -> Result<(), Failure>,
    ) -> Result<Told, Failure> {
        let [mut from_known_at, mut to_known_at] = self.known_at.clone();
        let mut told = Told { count: 0, more: false, first: Answer::default() };
        let mut after: Option<String> = None;
        loop {
            let size = (self.limit - told.count).clamp(1, PAGE);
            let question =
                self.question.clone().with("limit", Some(size.to_string())).with("after", after);
            let question =
                question.with("from_known_at", from_known_at).with("to_known_at", to_known_at);
            let answer = ask(self.client, &question.at(PATH), "")?;
            let page: Page = answer.json()?;
            for object in page.data.iter().take((self.limit - told.count) as usize) {
                each(object)?;
                told.count += 1;
            }
            after = page.next().map(str::to_owned);
            (from_known_at, to_known_at) = (answer.from_known_at.clone(), answer.known_at.clone());
            told.more = after.is_some();
            told.first = answer;
            if after.is_none() || told.count == self.limit {
                return Ok(told);
            }
        }
    }

    fn print_lines(&self, mut out: impl Write) -> Result<(), Failure> {
        self.each(|object| {
            writeln!(out, "{}", one_line(object.get())).map_err(|error| unwritten(&error))
        })?;
        out.flush().map_err(|error| unwritten(&error))
    }

    fn print_values(&self) -> Result<(), Failure> {
        let mut values = Values::begin(&NAMES)?;
        self.each(|object| {
            let whose = texts(object, ["kind", "change", "user_id", "group_id", "role"]);
            fields(object).into_iter().try_for_each(|field| values.row(whose.iter().chain(&field)))
        })?;
        values.end()
    }

    fn print_table(&self) -> Result<(), Failure> {
        let mut differences = Vec::new();
        let told = self.each(|object| {
            let whose = texts(object, ["kind", "change", "user_id", "group_id", "role"]);
            differences.extend(fields(object).into_iter().map(|field| (whose.clone(), field)));
            Ok(())
        })?;
        let mut called = Called::at(self.client, &told.first);
        let mut rows = Vec::with_capacity(differences.len());
        for ([kind, change, user, group, role], [field, from, to]) in differences {
            let (of, id, what) = match kind.as_str() {
                "membership" => {
                    let name = called.find(&GROUPS, &group)?;
                    (&USERS, user, if name.is_empty() { group } else { format!("{group}, {name}") })
                }
                "role" => (&USERS, user, role),
                "group" => (&GROUPS, group, field),
                _ => (&USERS, user, field),
            };
            let called = called.find(of, &id)?;
            rows.push(vec![kind, change, id, called, what, from, to]);
        }
        print(&table::draw_within(width(), &COLUMNS, true, &rows))?;
        let counted = counted(told.count, "difference", "differences");
        let mut line = if told.more { format!("the first {counted}") } else { counted };
        let Answer { as_of, known_at, from_as_of, from_known_at, .. } = told.first;
        for (word, as_of, known_at) in
            [("from", from_as_of, from_known_at), ("to", as_of, known_at)]
        {
            if let (Some(as_of), Some(known_at)) = (as_of, known_at) {
                line.push_str(&format!(", {word} {as_of}, known at record {known_at}"));
            }
        }
        eprintln!("{}", harmless(&line));
        Ok(())
    }
}

/// A kind of thing that is called something.
struct Thing {
    path: &'static str,
    /// The field that says what it is called.
    field: &'static str,
}

const USERS: Thing = Thing { path: "/directory_users", field: "email" };

const GROUPS: Thing = Thing { path: "/directory_groups", field: "name" };

/// What users and groups were called at the second moment, or else at the first.
struct Called<'c> {
    client: &'c Client,
    /// The second moment, and the first.
    moments: [Query; 2],
    known: HashMap<(&'static str, String), String>,
}

impl<'c> Called<'c> {
    /// At the moments of an answer.
    fn at(client: &'c Client, answer: &Answer) -> Called<'c> {
        let moment = |as_of: &Option<String>, known_at: &Option<String>| {
            Query::default().with("as_of", as_of.clone()).with("known_at", known_at.clone())
        };
        let moments = [
            moment(&answer.as_of, &answer.known_at),
            moment(&answer.from_as_of, &answer.from_known_at),
        ];
        Called { client, moments, known: HashMap::new() }
    }

    /// Its email or name; empty where there is none, or where too many were asked for.
    ///
    /// # Errors
    /// If the server does not answer.
    fn find(&mut self, of: &'static Thing, id: &str) -> Result<String, Failure> {
        let key = (of.path, id.to_owned());
        if let Some(called) = self.known.get(&key) {
            return Ok(called.clone());
        }
        if self.known.len() >= CALLED_MAX {
            return Ok(String::new());
        }
        let mut called = String::new();
        for moment in &self.moments {
            let answer = self.client.get(&moment.at(&format!(
                "{}/{}",
                of.path,
                utf8_percent_encode(id, ENCODED)
            )))?;
            called = match answer.status {
                200 => texts(answer.json()?, [of.field]).concat(),
                404 => String::new(),
                _ => return Err(refused(&answer, self.client, "")),
            };
            if !called.is_empty() {
                break;
            }
        }
        self.known.insert(key, called.clone());
        Ok(called)
    }
}

/// The fields that differ, each with its two values in JSON; one of nothing where no field is told.
fn fields(object: &RawValue) -> Vec<[String; 3]> {
    let changed = json::fields(object.get(), ["changed"])
        .and_then(|[changed]| json::entries(changed?.get()))
        .unwrap_or_default();
    let value = |value: Option<&RawValue>| {
        value.map_or(String::new(), |value| one_line(value.get()).into_owned())
    };
    let field = |(name, sides): (String, &RawValue)| {
        let [from, to] = json::fields(sides.get(), ["from", "to"]).unwrap_or_default();
        [name, value(from), value(to)]
    };
    let fields: Vec<[String; 3]> = changed.into_iter().map(field).collect();
    if fields.is_empty() { vec![Default::default()] } else { fields }
}
