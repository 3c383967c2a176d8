//! Lists and single objects: read page by page at one moment, and printed.

use std::io::{self, BufWriter, Write};

use clap::Args;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::super::client::{Answer, Client};
use super::super::moment::{moment_or_latest, seq_or_moment};
use super::super::table::{self, Column, harmless};
use super::super::{Failure, print, unwritten};
use super::csv_table::CsvTable;
use super::names::{Kind, Names, find_id};
use super::print::{counted, one_line, print_object, width};
use super::source::SourceArgs;
use crate::percent::encoded;

/// The largest page that the API gives of most lists.
pub(in super::super) const PAGE: u64 = 100;

/// The arguments that choose the moment of an answer.
#[derive(Args)]
#[command(next_help_heading = "Moment")]
pub(in super::super) struct Moment {
    /// Answer as of this moment, such as 2026-03-01, 2026-03-01T10:00Z, 30d or yesterday
    /// [default: latest]
    #[arg(long, value_name = "T", value_parser = moment_or_latest)]
    pub(in super::super) as_of: Option<String>,
    /// Use only what was known by then: a record's number or a moment [default: everything]
    #[arg(long, value_name = "SEQ|T", value_parser = seq_or_moment)]
    known_at: Option<String>,
}

impl Moment {
    /// Returns the parameters that ask for this moment.
    pub(in super::super) fn query(self) -> Query {
        Query::moment(self.as_of, self.known_at)
    }
}

/// The arguments that choose the form of the output.
#[derive(Args)]
#[command(next_help_heading = "Output")]
pub(in super::super) struct Output {
    /// Print one object a line, as the server sent it, for programs
    #[arg(long)]
    pub(in super::super) json: bool,
}

/// The parameters of a question.
#[derive(Clone, Default)]
pub(in super::super) struct Query(Vec<(&'static str, String)>);

impl Query {
    /// Returns the parameters that ask for a moment.
    pub(in super::super) fn moment(as_of: Option<String>, known_at: Option<String>) -> Query {
        Query::default().with("as_of", as_of).with("known_at", known_at)
    }

    /// Returns the query with one more parameter, if it has a value.
    pub(in super::super) fn with(
        mut self,
        name: &'static str,
        value: Option<impl Into<String>>,
    ) -> Query {
        self.0.extend(value.map(|value| (name, value.into())));
        self
    }

    /// Returns the query with the parameters of another one behind its own.
    pub(in super::super) fn and(mut self, other: &Query) -> Query {
        self.0.extend(other.0.iter().cloned());
        self
    }

    /// Returns a parameter's value.
    pub(super) fn value(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(other, _)| *other == name).map(|(_, value)| value.as_str())
    }

    /// Returns the path with this query.
    pub(in super::super) fn at(&self, path: &str) -> String {
        let mut out = path.to_owned();
        for (at, (name, value)) in self.0.iter().enumerate() {
            out.push(if at == 0 { '?' } else { '&' });
            out.push_str(name);
            out.push('=');
            out.extend(encoded(value));
        }
        out
    }
}

/// Returns the path of the object with this id below another path.
pub(in super::super) fn path_of(path: &str, id: &str) -> String {
    format!("{path}/{}", encoded(id))
}

/// Asks one question.
///
/// # Errors
/// If the answer is not 200: see [`refused`], which also says what `scope` is.
pub(in super::super) fn ask(client: &Client, path: &str, scope: &str) -> Result<Answer, Failure> {
    let answer = client.get(path)?;
    if answer.status == 200 { Ok(answer) } else { Err(refused(&answer, client, scope)) }
}

/// A page of a list.
#[derive(Deserialize)]
pub(super) struct ListPage<'a> {
    /// The objects, as they came.
    #[serde(borrow)]
    pub(super) data: Vec<&'a RawValue>,
    list_metadata: Cursors,
}

#[derive(Deserialize)]
struct Cursors {
    after: Option<String>,
}

impl ListPage<'_> {
    /// Returns the cursor of the next page; `None` at the end.
    pub(super) fn next(&self) -> Option<&str> {
        self.list_metadata.after.as_deref()
    }
}

/// A list of the API that is read page by page at one moment.
#[derive(Default)]
pub(in super::super) struct List {
    pub(super) path: String,
    /// The flags, one of which the list needs, as an error names them.
    pub(super) scope: &'static str,
    /// The parameters of every page.
    pub(super) filters: Query,
    /// The parameters of the first page only, which fixes the moment of all pages.
    pub(super) first: Query,
    /// The most objects that are read; `None` for all.
    pub(super) limit: Option<u64>,
}

/// The count, the bounds and the moment of a list that was read.
#[derive(Default)]
pub(in super::super) struct Listed {
    count: u64,
    /// The list has more objects than the limit allowed.
    more: bool,
    /// The bounds in time, as words that follow the count; empty without any.
    bounds: String,
    as_of: Option<String>,
    known_at: Option<String>,
}

/// All objects of a list, as they came.
pub(in super::super) struct Collected {
    pub(in super::super) objects: Vec<Box<RawValue>>,
    pub(in super::super) listed: Listed,
}

impl List {
    /// Returns a list without filters and without a limit.
    pub(in super::super) fn all(path: impl Into<String>, moment: Query) -> List {
        List { path: path.into(), first: moment, ..List::default() }
    }

    /// Returns the list narrowed by further parameters of every page.
    pub(in super::super) fn narrowed(self, filters: Query) -> List {
        List { filters: self.filters.and(&filters), ..self }
    }

    /// Reads the list and passes each object that is `kept` to `each`, as it came.
    ///
    /// # Errors
    /// If a page cannot be read, and those of `each`.
    pub(in super::super) fn walk(
        &self,
        client: &Client,
        kept: impl Fn(&RawValue) -> bool,
        mut each: impl FnMut(&RawValue) -> Result<(), Failure>,
    ) -> Result<Listed, Failure> {
        let limit = self.limit.unwrap_or(u64::MAX);
        let mut listed = Listed { bounds: self.bounds(), ..Listed::default() };
        let mut place = self.first.clone();
        loop {
            let size = (limit - listed.count).clamp(1, PAGE);
            let question = self.filters.clone().and(&place).with("limit", Some(size.to_string()));
            let answer = ask(client, &question.at(&self.path), self.scope)?;
            if listed.known_at.is_none() {
                (listed.as_of, listed.known_at) = (answer.as_of.clone(), answer.known_at.clone());
            }
            let page: ListPage = answer.json()?;
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
            place = self.moment_of(&listed).with("after", Some(next));
        }
    }

    fn bounds(&self) -> String {
        let bound = |name| Some(format!(" {name} {}", self.filters.value(name)?));
        ["since", "until"].into_iter().filter_map(bound).collect()
    }

    /// Returns the moment of the pages after the first: that of the first page, or, if the server
    /// did not name it, the one that was asked for.
    fn moment_of(&self, listed: &Listed) -> Query {
        let asked = |name| self.first.value(name).map(str::to_owned);
        let as_of = listed.as_of.clone().or_else(|| asked("as_of"));
        let known_at = listed.known_at.clone().or_else(|| asked("known_at"));
        Query::moment(as_of.filter(|as_of| as_of != "latest"), known_at)
    }

    /// Reads all objects of the list.
    ///
    /// # Errors
    /// If a page cannot be read.
    pub(in super::super) fn collect(&self, client: &Client) -> Result<Collected, Failure> {
        let mut objects = Vec::new();
        let listed = self.walk(client, everything, |object| {
            objects.push(object.to_owned());
            Ok(())
        })?;
        Ok(Collected { objects, listed })
    }

    /// Prints the list as comma-separated values with these names of columns, behind a byte order
    /// mark if one is wanted; `write` adds the row of an object. Everything is read first, so that a
    /// question that is refused prints no header.
    ///
    /// # Errors
    /// If a page cannot be read, or standard output cannot be written.
    pub(in super::super) fn print_csv(
        &self,
        client: &Client,
        names: &[&str],
        mark: bool,
        write: impl Fn(&mut CsvTable, &RawValue) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let objects = self.collect(client)?.objects;
        if mark {
            print("\u{feff}")?;
        }
        let mut table = CsvTable::begin(names)?;
        objects.iter().try_for_each(|object| write(&mut table, object))?;
        table.end()
    }

    /// Prints each object that is `kept` on a line of its own, as it comes.
    ///
    /// # Errors
    /// If a page cannot be read, or standard output cannot be written.
    pub(super) fn print_lines(
        &self,
        client: &Client,
        kept: impl Fn(&RawValue) -> bool,
    ) -> Result<(), Failure> {
        let mut out = BufWriter::new(io::stdout().lock());
        self.walk(client, kept, |object| {
            writeln!(out, "{}", one_line(object.get())).map_err(|error| unwritten(&error))
        })?;
        out.flush().map_err(|error| unwritten(&error))
    }
}

/// Keeps every object of a list.
pub(in super::super) fn everything(_: &RawValue) -> bool {
    true
}

impl Listed {
    /// Returns the parameters that ask for the same moment again.
    pub(in super::super) fn moment(&self) -> Query {
        Query::moment(self.as_of.clone(), self.known_at.clone())
    }

    /// Prints the list as a table, and a line about it on standard error. `nouns` are the words
    /// for one object and for several.
    ///
    /// # Errors
    /// If standard output cannot be written.
    pub(super) fn print(
        &self,
        nouns: [&str; 2],
        columns: &[Column],
        rows: &[Vec<String>],
    ) -> Result<(), Failure> {
        print(&table::draw_within(width(), columns, true, rows))?;
        let [one, many] = nouns;
        let counted = counted(self.count, one, many);
        let mut line = if self.more { format!("the first {counted}") } else { counted };
        line.push_str(&self.bounds);
        if let (Some(as_of), Some(known_at)) = (&self.as_of, &self.known_at) {
            line.push_str(&format!(", as of {as_of}, known at record {known_at}"));
        }
        eprintln!("{}", harmless(&line));
        Ok(())
    }
}

/// A kind of object that the API lists, and its table.
pub(in super::super) struct Resource {
    pub(in super::super) path: &'static str,
    /// The words for one object and for several.
    pub(in super::super) nouns: [&'static str; 2],
    /// The flags, one of which the list needs, as an error names them.
    pub(in super::super) scope: &'static str,
    pub(in super::super) columns: &'static [Column],
    /// Returns the cells of an object's row.
    pub(in super::super) row: fn(&RawValue) -> Vec<String>,
}

impl Resource {
    /// Returns the list of these objects.
    pub(in super::super) fn list(&self, filters: Query, moment: Query, limit: Option<u64>) -> List {
        List { path: self.path.into(), scope: self.scope, filters, first: moment, limit }
    }

    /// Prints a list, as lines while they come, or as a table at the end.
    ///
    /// # Errors
    /// If a page cannot be read, or standard output cannot be written.
    pub(in super::super) fn print_list(
        &self,
        list: &List,
        client: &Client,
        output: &Output,
    ) -> Result<(), Failure> {
        self.print_kept(list, client, output, everything)
    }

    /// Prints those objects of a list that are `kept`, as [`Resource::print_list`] does.
    ///
    /// # Errors
    /// As of [`Resource::print_list`].
    pub(super) fn print_kept(
        &self,
        list: &List,
        client: &Client,
        output: &Output,
        kept: impl Fn(&RawValue) -> bool,
    ) -> Result<(), Failure> {
        if output.json {
            return list.print_lines(client, kept);
        }
        let mut rows = Vec::new();
        let listed = list.walk(client, kept, |object| {
            rows.push((self.row)(object));
            Ok(())
        })?;
        listed.print(self.nouns, self.columns, &rows)
    }

    /// Prints the object with this id, which `text` named.
    ///
    /// # Errors
    /// The caller's, if there is none.
    fn print_one(
        &self,
        client: &Client,
        [id, text]: [&str; 2],
        query: &Query,
        output: &Output,
    ) -> Result<(), Failure> {
        let answer = client.get(&query.at(&path_of(self.path, id)))?;
        if answer.status == 404 && id != text {
            return Err(self.gone(&answer, id, text));
        }
        if answer.status != 200 {
            return Err(refused(&answer, client, self.scope));
        }
        let object: &RawValue = answer.json()?;
        if output.json {
            return print_object(object.get());
        }
        let (as_of, known_at) = (answer.as_of.clone(), answer.known_at.clone());
        let listed = Listed { count: 1, as_of, known_at, ..Listed::default() };
        listed.print(self.nouns, self.columns, &[(self.row)(object)])
    }

    /// Says that what has this name at another time does not exist at the moment of the answer.
    fn gone(&self, answer: &Answer, id: &str, text: &str) -> Failure {
        let [one, _] = self.nouns;
        let value = |header: &Option<String>| header.clone().unwrap_or_else(|| "latest".into());
        let (as_of, known_at) = (value(&answer.as_of), value(&answer.known_at));
        Failure::Caller(harmless(&format!(
            "{one} `{text}` ({id}) does not exist as of {as_of}, known at record {known_at}"
        )))
    }
}

/// The object or the list that one of these commands asks for.
#[derive(Default)]
pub(super) struct Asked {
    /// The kind of the object, and its id or name; `None` for a list.
    pub(super) object: Option<(Kind, String)>,
    /// The parameters of both.
    pub(super) shape: Query,
    /// The filters of the list that take ids.
    pub(super) names: Names,
    /// The other filters of the list.
    pub(super) filters: Query,
}

/// The arguments that the commands for users, groups and directories share.
#[derive(Args)]
pub(super) struct ListArgs {
    /// Print at most N
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    #[command(flatten)]
    moment: Moment,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    source: SourceArgs,
}

impl ListArgs {
    /// Prints the object that is asked for, or the list without one.
    ///
    /// # Errors
    /// If the server does not answer, those of [`Names::resolve`], and those of printing.
    pub(super) fn print(self, resource: &'static Resource, asked: Asked) -> Result<(), Failure> {
        let ListArgs { limit, moment, output, source } = self;
        let moment = moment.query();
        source.ask(move |client| {
            let Asked { object, shape, names, filters } = asked;
            if let Some((kind, text)) = object {
                let id = find_id(client, kind, &text, &Names::default(), &moment)?;
                let named = [id.as_str(), text.as_str()];
                return resource.print_one(client, named, &shape.and(&moment), &output);
            }
            let names = names.resolve(client, &moment)?.query();
            let filters = shape.and(&names).and(&filters).with("order", Some("asc"));
            resource.print_list(&resource.list(filters, moment, limit), client, &output)
        })
    }
}

/// An error as the API reports it.
#[derive(Default, Deserialize)]
#[serde(default)]
struct ApiError {
    message: String,
    code: String,
    errors: Vec<ApiFieldError>,
}

/// An error of one parameter, or of one field of a body.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(in super::super) struct ApiFieldError {
    pub(in super::super) field: String,
    code: String,
    message: String,
}

impl ApiFieldError {
    /// Returns the sentence for people. On the paths of WorkOS it is in the field `code`.
    pub(in super::super) fn sentence(&self) -> &str {
        if self.message.is_empty() { &self.code } else { &self.message }
    }
}

/// Returns the errors of single fields in an answer.
pub(in super::super) fn field_errors(answer: &Answer) -> Vec<ApiFieldError> {
    serde_json::from_slice::<ApiError>(&answer.body).unwrap_or_default().errors
}

/// Says why a question was refused, in the words of the command line. `scope` names the flags,
/// one of which the list needs.
pub(in super::super) fn refused(answer: &Answer, client: &Client, scope: &str) -> Failure {
    let error: ApiError = serde_json::from_slice(&answer.body).unwrap_or_default();
    match answer.status {
        401 => Failure::Caller(
            "the API key was refused: set ROLLCALL_API_KEY, or give --api-key, \
             to one of the server's keys"
                .into(),
        ),
        404 if error.code != "entity_not_found" => Failure::Caller(format!(
            "`{}` does not know this question: it is another program, or another version",
            harmless(&client.base)
        )),
        422 if !error.errors.is_empty() => Failure::Caller(fields_refused(&error.errors, scope)),
        429 => {
            let seconds = answer.retry_after_s.unwrap_or(1);
            Failure::Caller(format!("{}: ask again in {seconds} s", said(&error)))
        }
        503 if error.code == "not_ready" => {
            Failure::Ours("the server is still folding its log: ask again in a moment".into())
        }
        400..=499 => Failure::Caller(said(&error)),
        status => Failure::Ours(format!("the server answered with {status}: {}", said(&error))),
    }
}

fn said(error: &ApiError) -> String {
    if error.message.is_empty() {
        "nothing that can be read".into()
    } else {
        harmless(&error.message)
    }
}

fn fields_refused(errors: &[ApiFieldError], scope: &str) -> String {
    if errors.iter().any(|error| error.sentence().starts_with("Please provide either")) {
        return format!("say which {scope}");
    }
    let errors: Vec<String> = errors
        .iter()
        .map(|error| format!("{}: {}", flag(&error.field), error.sentence()))
        .collect();
    harmless(&errors.join("; "))
}

/// Returns the flag that sets a parameter of the API.
pub(in super::super) fn flag(field: &str) -> String {
    match field {
        "organization_id" => "--organization".into(),
        "events" => "--type".into(),
        "range_start" => "--from".into(),
        "range_end" => "--to".into(),
        // These are positional arguments.
        "from" | "to" => field.to_uppercase(),
        _ => format!("--{}", field.replace('_', "-")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explained(status: u16, body: &str) -> String {
        let answer = Answer { status, body: body.into(), ..Answer::default() };
        match refused(&answer, &Client::loopback("http://h/", "k"), "things: --a or --b") {
            Failure::Caller(message) => format!("1 {message}"),
            Failure::Ours(message) => format!("2 {message}"),
            Failure::Interrupted(message) => format!("130 {message}"),
            Failure::Unread => "0".into(),
        }
    }

    #[test]
    fn a_refusal_names_flags_and_not_parameters() {
        let scope = r#"{"message": "Validation failed", "errors": [{
            "field": "directory",
            "code": "Please provide either \"directory\" or \"group\" parameters."
        }]}"#;
        let two = r#"{"errors": [
            {"field": "range_end", "code": "it is before `range_start`"},
            {"field": "as_of", "code": "out_of_range", "message": "it is late\u001b"}
        ]}"#;
        for (status, body, expected) in [
            (422, scope, "1 say which things: --a or --b"),
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
                "1 `http://h` does not know this question: \
                 it is another program, or another version",
            ),
            (
                503,
                r#"{"message":"m","code":"not_ready"}"#,
                "2 the server is still folding its log: ask again in a moment",
            ),
            (500, r#"{"message":"m","code":"internal"}"#, "2 the server answered with 500: m"),
            (502, "", "2 the server answered with 502: nothing that can be read"),
        ] {
            assert_eq!(explained(status, body), expected);
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
