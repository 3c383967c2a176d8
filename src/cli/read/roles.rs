//! `rollcall roles`

use std::collections::{BTreeMap, HashMap};

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::super::Failure;
use super::super::client::{Answer, Client};
use super::super::mapping::reason;
use super::super::table::{self, Column};
use super::listing::{
    List, ListPage, Moment, Output, PAGE, Query, Resource, ask, everything, path_of,
};
use super::names::Names;
use super::objects::parse;
use super::print::texts;
use super::source::SourceArgs;

/// List roles: who has which one, since when and why, now or at any past moment.
///
/// Each reason is a line of its own: the group, the attribute or the default that gives the role,
/// and the event with which that began.
#[derive(Args)]
#[command(after_help = "\
Examples:
  rollcall roles --role admin --as-of 2026-03-02T08:59:59.999Z
  rollcall roles --user ana@example.com --organization org_…
  rollcall roles --user directory_user_… --history --known-at 20
  rollcall roles --group directory_group_… --data ./rollcall-data --json")]
pub(in super::super) struct RolesArgs {
    /// Only this user, by id or email; with --history by an email the user ever had, and if several
    /// users had it, they are listed, and the id of one is needed
    #[arg(long, value_name = "ID|EMAIL", value_parser = NonEmptyStringValueParser::new())]
    user: Option<String>,
    /// Only users with this role
    #[arg(long)]
    role: Option<String>,
    /// Only roles that come from this group, by id or name
    #[arg(long, value_name = "ID|NAME")]
    group: Option<String>,
    /// Only users of this directory, by id or name
    #[arg(long, value_name = "ID|NAME")]
    directory: Option<String>,
    /// Only users of this organization
    #[arg(long, value_name = "ID")]
    organization: Option<String>,
    /// List every period in which the user had a role, with the events that began and ended it
    #[arg(long, requires = "user", conflicts_with_all = ["role", "group", "directory"])]
    history: bool,
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

/// The path of assignments in the API.
pub(in super::super) const ASSIGNMENTS_PATH: &str = "/rollcall/v1/role_assignments";

const ASSIGNMENT_COLUMNS: [Column; 7] = [
    Column::key("user"),
    Column::whole("role"),
    Column::whole("since"),
    Column::new("because"),
    Column::new("event"),
    Column::new("occurred"),
    Column::new("id"),
];

const PERIODS: Resource = Resource {
    path: "/rollcall/v1/users",
    nouns: ["period", "periods"],
    scope: "--user",
    columns: &[
        Column::whole("role"),
        Column::whole("from"),
        Column::whole("until"),
        Column::new("begun by"),
        Column::new("ended by"),
    ],
    row: period_row,
};

fn period_row(period: &RawValue) -> Vec<String> {
    let period: Value = serde_json::from_str(period.get()).unwrap_or_default();
    let text = |name: &str| period.get(name).and_then(Value::as_str).map(str::to_owned);
    vec![
        text("role").unwrap_or_default(),
        text("from").unwrap_or_default(),
        text("until").unwrap_or_else(|| "-".into()),
        cause_label(period.get("start")),
        cause_label(period.get("end")),
    ]
}

/// Returns the type and the id of the event; empty for a period that goes on.
fn cause_label(cause: Option<&Value>) -> String {
    let text = |name: &str| cause?.get(name)?.as_str();
    [text("event"), text("event_id")].into_iter().flatten().collect::<Vec<_>>().join(" ")
}

impl RolesArgs {
    pub(in super::super) fn run(self) -> Result<(), Failure> {
        let RolesArgs { user, role, group, directory, organization, history, .. } = self;
        let RolesArgs { limit, moment, output, source, .. } = self;
        let names =
            Names { organization, directory, group, user, role, ever: history, ..Names::default() };
        source.ask(move |client| {
            let moment = moment.query();
            let names = names.resolve(client, &moment)?;
            match &names.user {
                Some(user) if history => {
                    let path = format!("{}/roles", path_of(PERIODS.path, user));
                    let list = List { path, ..PERIODS.list(Query::default(), moment, limit) };
                    PERIODS.print_list(&list, client, &output)
                }
                _ => {
                    let filters = names.query();
                    let list = List { filters, limit, ..List::all(ASSIGNMENTS_PATH, moment) };
                    print_assignments(&list, client, &output)
                }
            }
        })
    }
}

fn print_assignments(list: &List, client: &Client, output: &Output) -> Result<(), Failure> {
    if output.json {
        return list.print_lines(client, everything);
    }
    let assignments = list.collect(client)?;
    let rows = rows(client, &assignments.objects, &assignments.listed.moment())?;
    assignments.listed.print(["assignment", "assignments"], &ASSIGNMENT_COLUMNS, &rows)
}

/// Returns a page of assignments as a narrow table, or `no assignments` for an empty page.
///
/// # Errors
/// If the server does not answer with the users' emails.
pub(in super::super) fn assignments_text(
    client: &Client,
    answer: &Answer,
) -> Result<String, Failure> {
    let page: ListPage = answer.json()?;
    let assignments: Vec<Box<RawValue>> =
        page.data.iter().map(|assignment| (*assignment).to_owned()).collect();
    let moment = Query::moment(answer.as_of.clone(), answer.known_at.clone());
    let mut rows = rows(client, &assignments, &moment)?;
    if rows.is_empty() {
        return Ok("no assignments\n".into());
    }
    rows.iter_mut().for_each(|row| row.truncate(5));
    Ok(table::draw(&["user", "role", "since", "because", "event"], &rows))
}

#[derive(Deserialize)]
struct ApiAssignment {
    user_id: String,
    directory_id: String,
    role: String,
    since: String,
    because: Vec<Value>,
}

/// Returns a row for each reason of each assignment.
fn rows(
    client: &Client,
    assignments: &[Box<RawValue>],
    moment: &Query,
) -> Result<Vec<Vec<String>>, Failure> {
    let assignments: Vec<ApiAssignment> =
        assignments.iter().map(|assignment| parse(assignment)).collect::<Result<_, _>>()?;
    let emails = emails(client, &assignments, moment)?;
    let mut rows = Vec::new();
    for ApiAssignment { user_id, role, since, because, .. } in &assignments {
        let user = emails.get(user_id).unwrap_or(user_id);
        for because in because {
            let mut row = vec![user.clone(), role.clone(), since.clone(), reason(because)];
            row.extend(["event", "occurred_at", "event_id"].map(|name| cause(because, name)));
            rows.push(row);
        }
    }
    Ok(rows)
}

fn cause(because: &Value, name: &str) -> String {
    let text = because.pointer(&format!("/cause/{name}")).and_then(Value::as_str);
    text.unwrap_or_default().to_owned()
}

/// Returns the emails of the users with these roles, by id.
///
/// Assignments and users are both listed in order of id, so that one page of a directory's users
/// has many of the emails.
fn emails(
    client: &Client,
    assignments: &[ApiAssignment],
    moment: &Query,
) -> Result<HashMap<String, String>, Failure> {
    let mut wanted: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for assignment in assignments {
        let users = wanted.entry(&assignment.directory_id).or_default();
        if users.last() != Some(&assignment.user_id.as_str()) {
            users.push(&assignment.user_id);
        }
    }
    let mut emails = HashMap::new();
    for (directory, users) in wanted {
        let filters = Query::default()
            .with("directory", Some(directory))
            .with("order", Some("asc"))
            .and(moment);
        let mut reader = EmailReader { client, filters, seen: String::new(), emails: &mut emails };
        for (at, user) in users.iter().enumerate() {
            reader.read_to(user, users.len() - at)?;
        }
    }
    Ok(emails)
}

/// Reads the emails of one directory's users, in order of id.
struct EmailReader<'a> {
    client: &'a Client,
    filters: Query,
    /// The last id that was read.
    seen: String,
    emails: &'a mut HashMap<String, String>,
}

impl EmailReader<'_> {
    /// Reads on until the user with this id was read, in pages that suit the number of users that
    /// are `wanted` still.
    fn read_to(&mut self, user: &str, wanted: usize) -> Result<(), Failure> {
        // A cursor need not be an existing id: an id without its last character sorts before it.
        let before = user.char_indices().next_back().and_then(|(end, _)| user.get(..end));
        let mut after = before.unwrap_or_default().max(self.seen.as_str()).to_owned();
        while self.seen.as_str() < user && self.read_page(&after, wanted)? {
            after.clone_from(&self.seen);
        }
        Ok(())
    }

    /// Reads a page behind a cursor. Returns false if it was the last one.
    fn read_page(&mut self, after: &str, wanted: usize) -> Result<bool, Failure> {
        let question = self
            .filters
            .clone()
            .with("limit", Some((wanted as u64).min(PAGE).to_string()))
            .with("after", Some(after).filter(|after| !after.is_empty()));
        let answer = ask(self.client, &question.at("/directory_users"), "users: --directory")?;
        let page: ListPage = answer.json()?;
        for user in &page.data {
            let [id, email] = texts(user, ["id", "email"]);
            self.seen.clone_from(&id);
            if !email.is_empty() {
                self.emails.insert(id, email);
            }
        }
        Ok(page.next().is_some())
    }
}
