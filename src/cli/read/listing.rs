//! Lists and single objects: asked for page by page at one moment, and printed.

use std::io::{self, BufWriter, Write};

use clap::Args;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::super::client::{Answer, Client};
use super::super::moment::of_date;
use super::super::table::{self, Column};
use super::super::{Failure, table::harmless};
use super::super::{print, unwritten};
use super::print::{counted, one_line, width};

/// As many as a page of the API may have.
pub(in super::super) const PAGE: u64 = 100;

/// Everything but what a query or a segment of a path may hold as it is.
pub(in super::super) const ENCODED: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// At which moment.
#[derive(Args)]
#[command(next_help_heading = "At which moment")]
pub(in super::super) struct Moment {
    /// What was true then: an RFC 3339 time, or a date, which is its first millisecond in UTC;
    /// without it, the latest
    #[arg(long, value_name = "T")]
    pub(in super::super) as_of: Option<String>,
    /// What had been told by then: a record's number, an RFC 3339 time or a date; without it,
    /// everything
    #[arg(long, value_name = "SEQ|T")]
    known_at: Option<String>,
}

/// How to print.
#[derive(Args)]
#[command(next_help_heading = "Output")]
pub(in super::super) struct Output {
    /// One object a line, as the server sent it, for programs
    #[arg(long)]
    pub(in super::super) json: bool,
}

/// The parameters of a question.
#[derive(Clone, Default)]
pub(in super::super) struct Query(Vec<(&'static str, String)>);

impl Query {
    /// The query with a parameter, if it has a value.
    pub(in super::super) fn with(
        mut self,
        name: &'static str,
        value: Option<impl Into<String>>,
    ) -> Query {
        self.0.extend(value.map(|value| (name, value.into())));
        self
    }

    /// The query with the parameters of another.
    pub(in super::super) fn and(mut self, other: &Query) -> Query {
        self.0.extend(other.0.iter().cloned());
        self
    }

    /// A parameter's value.
    pub(super) fn value(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(other, _)| *other == name).map(|(_, value)| value.as_str())
    }

    /// The path with the query behind it.
    pub(in super::super) fn at(&self, path: &str) -> String {
        let mut out = path.to_owned();
        for (at, (name, value)) in self.0.iter().enumerate() {
            out.push(if at == 0 { '?' } else { '&' });
            out.push_str(name);
            out.push('=');
            out.extend(utf8_percent_encode(value, ENCODED));
        }
        out
    }
}

impl Moment {
    /// Its parameters.
    pub(in super::super) fn query(self) -> Query {
        let sent = |moment: Option<String>| moment.map(|moment| of_date(&moment).into_owned());
        Query::default().with("as_of", sent(self.as_of)).with("known_at", sent(self.known_at))
    }
}

/// One kind of thing that can be listed.
pub(in super::super) struct Kind {
    /// Its path in the API.
    pub(in super::super) path: &'static str,
    /// Its name, for one and for many.
    pub(in super::super) nouns: [&'static str; 2],
    /// The flags of which a list needs one, as a sentence names them.
    pub(in super::super) scope: &'static str,
    pub(in super::super) columns: &'static [Column],
    /// An object as the cells of its row.
    pub(in super::super) row: fn(&RawValue) -> Vec<String>,
}

/// A page of a list.
#[derive(Deserialize)]
pub(super) struct Page<'a> {
    /// The objects, as they came.
    #[serde(borrow)]
    pub(super) data: Vec<&'a RawValue>,
    list_metadata: Cursors,
}

#[derive(Deserialize)]
struct Cursors {
    after: Option<String>,
}

impl Page<'_> {
    /// The cursor of the next page; `None` at the end.
    pub(super) fn next(&self) -> Option<&str> {
        self.list_metadata.after.as_deref()
    }
}

/// At which moment an answer holds, and how much of the list it is.
pub(super) struct Listed {
    count: u64,
    more: bool,
    /// Between which bounds it was looked for, as a sentence goes on with them; empty without any.
    bounds: String,
    as_of: Option<String>,
    known_at: Option<String>,
}

impl Listed {
    /// The parameters that ask for the same moment again.
    fn moment(&self) -> Query {
        Query::default().with("as_of", self.as_of.clone()).with("known_at", self.known_at.clone())
    }
}

/// Asks.
///
/// # Errors
/// If the answer is not 200: what was wrong with the question, in the words of the command line.
pub(in super::super) fn ask(client: &Client, path: &str, scope: &str) -> Result<Answer, Failure> {
    let answer = client.get(path)?;
    if answer.status == 200 { Ok(answer) } else { Err(refused(&answer, client, scope)) }
}

/// A list to be walked: `filters` go with each page, `first` with the first one only, which fixes
/// the moment of all.
pub(in super::super) struct List<'a> {
    pub(in super::super) kind: &'a Kind,
    pub(in super::super) filters: Query,
    pub(in super::super) first: Query,
    /// At most so many; `None` for all.
    pub(in super::super) limit: Option<u64>,
}

impl List<'_> {
    /// Walks the list at one moment and hands over each object that is to be `kept`, as it came.
    ///
    /// # Errors
    /// If a page cannot be had, and those of `each`.
    fn walk(
        &self,
        client: &Client,
        path: &str,
        kept: impl Fn(&RawValue) -> bool,
        mut each: impl FnMut(&RawValue) -> Result<(), Failure>,
    ) -> Result<Listed, Failure> {
        let limit = self.limit.unwrap_or(u64::MAX);
        let bound = |name: &&str| self.filters.value(name).map(|value| format!(" {name} {value}"));
        let bounds: String = ["since", "until"].iter().filter_map(bound).collect();
        let mut listed = Listed { count: 0, more: false, bounds, as_of: None, known_at: None };
        let mut place = self.first.clone();
        loop {
            let size = (limit - listed.count).clamp(1, PAGE);
            let question = self.filters.clone().and(&place).with("limit", Some(size.to_string()));
            let answer = ask(client, &question.at(path), self.kind.scope)?;
            if listed.known_at.is_none() {
                (listed.as_of, listed.known_at) = (answer.as_of.clone(), answer.known_at.clone());
            }
            let page: Page = answer.json()?;
            for object in page.data.iter().filter(|object| kept(object)) {
                if listed.count == limit {
                    return Ok(Listed { more: true, ..listed });
                }
                each(object)?;
                listed.count += 1;
            }
            let Some(next) = page.next() else { return Ok(listed) };
            if listed.count == limit {
                return Ok(Listed { more: true, ..listed });
            }
            // The moment of the first page is that of all; a server that does not name it is at
            // least asked for the same again.
            let pinned = |told: &Option<String>, name| {
                told.clone().or_else(|| self.first.value(name).map(str::to_owned))
            };
            let as_of = pinned(&listed.as_of, "as_of").filter(|as_of| as_of != "latest");
            place = Query::default()
                .with("as_of", as_of)
                .with("known_at", pinned(&listed.known_at, "known_at"))
                .with("after", Some(next));
        }
    }

    /// Walks the list and prints it: a line each as they come, or a table at the end.
    ///
    /// # Errors
    /// If a page cannot be had, and those of printing.
    pub(in super::super) fn print(
        &self,
        client: &Client,
        output: &Output,
        kept: impl Fn(&RawValue) -> bool,
    ) -> Result<(), Failure> {
        self.print_at(client, self.kind.path, output, kept)
    }

    /// The same of the list at `path`, which is that of one thing.
    ///
    /// # Errors
    /// As of [`List::print`].
    pub(super) fn print_at(
        &self,
        client: &Client,
        path: &str,
        output: &Output,
        kept: impl Fn(&RawValue) -> bool,
    ) -> Result<(), Failure> {
        if output.json {
            return self.print_lines(client, path, kept);
        }
        let mut rows = Vec::new();
        let listed = self.walk(client, path, kept, |object| {
            rows.push((self.kind.row)(object));
            Ok(())
        })?;
        self.kind.show(&rows, &listed)
    }

    /// Every object of the list at `path`, as it came, and the parameters that ask for the same
    /// moment again.
    ///
    /// # Errors
    /// If a page cannot be had.
    pub(super) fn collect(
        &self,
        client: &Client,
        path: &str,
    ) -> Result<(Vec<Box<RawValue>>, Query), Failure> {
        let mut objects = Vec::new();
        let listed = self.walk(
            client,
            path,
            |_| true,
            |object| {
                objects.push(object.to_owned());
                Ok(())
            },
        )?;
        Ok((objects, listed.moment()))
    }

    fn print_lines(
        &self,
        client: &Client,
        path: &str,
        kept: impl Fn(&RawValue) -> bool,
    ) -> Result<(), Failure> {
        let mut out = BufWriter::new(io::stdout().lock());
        let line = |object: &RawValue| {
            writeln!(out, "{}", one_line(object.get())).map_err(|error| unwritten(&error))
        };
        self.walk(client, path, kept, line)?;
        out.flush().map_err(|error| unwritten(&error))
    }

    /// Walks the list and prints it: a line each as they come, or a table of the rows that `rows`
    /// makes of all, at the moment of which they are.
    ///
    /// # Errors
    /// As of [`List::print`], and those of `rows`.
    pub(super) fn print_with(
        &self,
        client: &Client,
        output: &Output,
        rows: impl FnOnce(&[Box<RawValue>], &Query) -> Result<Vec<Vec<String>>, Failure>,
    ) -> Result<(), Failure> {
        if output.json {
            return self.print_lines(client, self.kind.path, |_| true);
        }
        let mut objects = Vec::new();
        let listed = self.walk(
            client,
            self.kind.path,
            |_| true,
            |object| {
                objects.push(object.to_owned());
                Ok(())
            },
        )?;
        let moment = listed.moment();
        self.kind.show(&rows(&objects, &moment)?, &listed)
    }
}

impl Kind {
    /// Prints one object, read by its id.
    ///
    /// # Errors
    /// The caller's, if there is none.
    pub(super) fn print_one(
        &self,
        client: &Client,
        id: &str,
        query: &Query,
        output: &Output,
    ) -> Result<(), Failure> {
        let path = format!("{}/{}", self.path, utf8_percent_encode(id, ENCODED));
        let answer = ask(client, &query.at(&path), self.scope)?;
        let object: &RawValue = answer.json()?;
        if output.json {
            return print(&format!("{}\n", one_line(object.get())));
        }
        let (as_of, known_at) = (answer.as_of.clone(), answer.known_at.clone());
        self.show(
            &[(self.row)(object)],
            &Listed { count: 1, more: false, bounds: String::new(), as_of, known_at },
        )
    }

    /// Prints a table, and below it, on standard error, what it is a table of.
    fn show(&self, rows: &[Vec<String>], listed: &Listed) -> Result<(), Failure> {
        print(&table::draw_within(width(), self.columns, true, rows))?;
        let [one, many] = self.nouns;
        let counted = counted(listed.count, one, many);
        let mut line = if listed.more { format!("the first {counted}") } else { counted };
        line.push_str(&listed.bounds);
        if let (Some(as_of), Some(known_at)) = (&listed.as_of, &listed.known_at) {
            line.push_str(&format!(", as of {as_of}, known at record {known_at}"));
        }
        eprintln!("{}", harmless(&line));
        Ok(())
    }
}

/// What a server says about a question that it does not answer.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Problem {
    message: String,
    code: String,
    errors: Vec<FieldError>,
}

/// What is wrong with one field of a question, or of a document.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(in super::super) struct FieldError {
    pub(in super::super) field: String,
    pub(in super::super) code: String,
}

/// What is wrong with which field, of a question that was refused.
pub(in super::super) fn field_errors(answer: &Answer) -> Vec<FieldError> {
    serde_json::from_slice::<Problem>(&answer.body).unwrap_or_default().errors
}

/// Why a question was not answered, in the words of the command line. `scope` names the flags of
/// which the list needs one.
pub(in super::super) fn refused(answer: &Answer, client: &Client, scope: &str) -> Failure {
    let problem: Problem = serde_json::from_slice(&answer.body).unwrap_or_default();
    let said =
        if problem.message.is_empty() { "nothing that can be read" } else { &problem.message };
    match answer.status {
        401 => Failure::Caller("the API key was refused: set ROLLCALL_API_KEY, or give --api-key, to one of the server's keys".into()),
        404 if problem.code != "entity_not_found" => {
            Failure::Caller(format!("`{}` does not know this question: it is another program, or another version", harmless(&client.base)))
        }
        422 if problem.errors.iter().any(|error| error.code.starts_with("Please provide either")) => {
            Failure::Caller(format!("the list needs a scope: give {scope}"))
        }
        422 if !problem.errors.is_empty() => {
            let errors: Vec<String> = problem.errors.iter().map(|error| format!("{}: {}", flag(&error.field), error.code)).collect();
            Failure::Caller(harmless(&errors.join("; ")))
        }
        503 if problem.code == "not_ready" => Failure::Ours("the server is still folding its log: ask again in a moment".into()),
        400..=499 => Failure::Caller(harmless(said)),
        status => Failure::Ours(format!("the server answered with {status}: {}", harmless(said))),
    }
}

/// The flag that gives a parameter of the API.
pub(in super::super) fn flag(field: &str) -> String {
    match field {
        "organization_id" => "--organization".into(),
        "events" => "--type".into(),
        "range_start" => "--from".into(),
        "range_end" => "--to".into(),
        // Given by their places.
        "from" | "to" => field.to_uppercase(),
        _ => format!("--{}", field.replace('_', "-")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explained(status: u16, body: &str) -> String {
        let answer = Answer { status, body: body.into(), ..Answer::default() };
        match refused(&answer, &Client::new("http://h/", "k"), "--a or --b") {
            Failure::Caller(message) => format!("1 {message}"),
            Failure::Ours(message) => format!("2 {message}"),
            Failure::Unread => "0".into(),
        }
    }

    #[test]
    fn a_refusal_is_told_in_the_words_of_the_command_line() {
        let scope = r#"{"message":"Validation failed","errors":[{"field":"directory","code":"Please provide either \"directory\" or \"group\" parameters."}]}"#;
        let two = r#"{"errors":[{"field":"range_end","code":"it is before `range_start`"},{"field":"as_of","code":"it is late\u001b"}]}"#;
        for (status, body, told) in [
            (422, scope, "1 the list needs a scope: give --a or --b"),
            (422, two, r"1 --to: it is before `range_start`; --as-of: it is late\u{1b}"),
            (422, r#"{"message":"No"}"#, "1 No"),
            (
                404,
                r#"{"message":"Directory not found: 'x'.","code":"entity_not_found"}"#,
                "1 Directory not found: 'x'.",
            ),
            (
                404,
                "<html>",
                "1 `http://h` does not know this question: it is another program, or another version",
            ),
            (
                503,
                r#"{"message":"m","code":"not_ready"}"#,
                "2 the server is still folding its log: ask again in a moment",
            ),
            (500, r#"{"message":"m","code":"internal"}"#, "2 the server answered with 500: m"),
            (502, "", "2 the server answered with 502: nothing that can be read"),
        ] {
            assert_eq!(explained(status, body), told);
        }
        assert!(explained(401, "").starts_with("1 the API key was refused"));
    }

    #[test]
    fn values_are_encoded_in_a_query() {
        let query = Query::default()
            .with("a", Some("x y&z=ä+"))
            .with("b", None::<String>)
            .with("c", Some("2026-01-01T00:00:00+01:00"));
        assert_eq!(
            query.at("/p"),
            "/p?a=x%20y%26z%3D%C3%A4%2B&c=2026-01-01T00%3A00%3A00%2B01%3A00"
        );
        assert_eq!(Query::default().at("/p"), "/p");
    }
}
