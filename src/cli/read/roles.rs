//! `rollcall roles`

use std::collections::{BTreeMap, HashMap};

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use percent_encoding::utf8_percent_encode;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::super::Failure;
use super::super::client::{Answer, Client};
use super::super::mapping::reason;
use super::super::table::{self, Column};
use super::listing::{ENCODED, Kind, List, Moment, Output, PAGE, Page, Query, ask};
use super::print::texts;
use super::source::Source;

/// Who has which role, since when, and because of what; now or at any past moment.
///
/// A line for each reason: the group, the attribute or the default that gives the role, and the
/// event with which that began.
#[derive(Args)]
#[command(after_help = "\
Examples:
  rollcall roles --role admin --as-of 2026-03-02T08:59:59.999Z
  rollcall roles --user ana@example.com --organization org_…
  rollcall roles --user directory_user_… --history --known-at 20
  rollcall roles --group directory_group_… --data ./rollcall-data --json")]
pub(in super::super) struct Roles {
    /// Of this user, by id; or by email, with --organization
    #[arg(long, value_name = "ID|EMAIL", value_parser = NonEmptyStringValueParser::new())]
    user: Option<String>,
    /// Who has this role
    #[arg(long)]
    role: Option<String>,
    /// Who has a role through this group
    #[arg(long, value_name = "ID")]
    group: Option<String>,
    /// Of this directory
    #[arg(long, value_name = "ID")]
    directory: Option<String>,
    /// Of this organization
    #[arg(long, value_name = "ID")]
    organization: Option<String>,
    /// Every time in which the user had a role, with what began and what ended it
    #[arg(long, requires = "user", conflicts_with_all = ["role", "group", "directory"])]
    history: bool,
    /// At most so many
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    #[command(flatten)]
    moment: Moment,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    source: Source,
}

/// The path of assignments in the API.
pub(in super::super) const ASSIGNMENTS_PATH: &str = "/rollcall/v1/role_assignments";

const ASSIGNMENTS: Kind = Kind {
    path: ASSIGNMENTS_PATH,
    nouns: ["assignment", "assignments"],
    scope: "",
    columns: &[
        Column::whole("user"),
        Column::whole("role"),
        Column::whole("since"),
        Column::new("because"),
        Column::new("event"),
        Column::new("occurred"),
        Column::new("id"),
    ],
    // Rows are made of all at once, since the emails are asked for together.
    row: |_| Vec::new(),
};

const PERIODS: Kind = Kind {
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
    row: |period| {
        let period: Value = serde_json::from_str(period.get()).unwrap_or_default();
        let text = |name: &str| period.get(name).and_then(Value::as_str).map(str::to_owned);
        let cause = |name: &str| {
            let part = |part: &str| {
                period
                    .pointer(&format!("/{name}/{part}"))
                    .and_then(Value::as_str)
                    .map(str::to_owned)
            };
            [part("event"), part("event_id")].into_iter().flatten().collect::<Vec<_>>().join(" ")
        };
        let until = text("until").unwrap_or_else(|| "-".into());
        vec![
            text("role").unwrap_or_default(),
            text("from").unwrap_or_default(),
            until,
            cause("start"),
            cause("end"),
        ]
    },
};

impl Roles {
    pub(in super::super) fn run(self) -> Result<(), Failure> {
        let Roles {
            user,
            role,
            group,
            directory,
            organization,
            history,
            limit,
            moment,
            output,
            source,
        } = self;
        let email = user.clone().filter(|user| user.contains('@'));
        if email.is_some() && organization.is_none() {
            return Err(Failure::Caller(
                "an email names a user only within an organization: give --organization".into(),
            ));
        }
        source.ask(move |client| {
            let moment = moment.query();
            let user = match (email, &organization) {
                (Some(email), Some(organization)) => {
                    Some(find(client, organization, &email, &moment)?)
                }
                _ => user,
            };
            if let (true, Some(user)) = (history, &user) {
                let path = format!("{}/{}/roles", PERIODS.path, utf8_percent_encode(user, ENCODED));
                return List { kind: &PERIODS, filters: Query::default(), first: moment, limit }
                    .print_at(client, &path, &output, |_| true);
            }
            let filters = Query::default()
                .with("user", user)
                .with("role", role)
                .with("group", group)
                .with("directory", directory);
            let filters = filters.with("organization_id", organization);
            let list = List { kind: &ASSIGNMENTS, filters, first: moment, limit };
            list.print_with(client, &output, |assignments, moment| {
                rows(client, assignments, moment)
            })
        })
    }
}

/// The one user of an organization with an email.
fn find(
    client: &Client,
    organization: &str,
    email: &str,
    moment: &Query,
) -> Result<String, Failure> {
    let question = Query::default()
        .with("organization_id", Some(organization))
        .with("email", Some(email))
        .and(moment);
    let answer = ask(
        client,
        &question.with("limit", Some("2")).with("order", Some("asc")).at("/directory_users"),
        "--organization",
    )?;
    let page: Page = answer.json()?;
    let ids: Vec<String> = page.data.iter().map(|user| texts(user, ["id"]).concat()).collect();
    match &ids[..] {
        [id] => Ok(id.clone()),
        [] => {
            Err(Failure::Caller(format!("the organization has no user with the email `{email}`")))
        }
        ids => Err(Failure::Caller(format!(
            "several users have the email `{email}`: give --user one of {}",
            ids.join(", ")
        ))),
    }
}

/// A page of assignments as a narrow table, or that there is none.
///
/// # Errors
/// If the users cannot be asked for.
pub(in super::super) fn told(client: &Client, answer: &Answer) -> Result<String, Failure> {
    let page: Page = answer.json()?;
    let assignments: Vec<Box<RawValue>> =
        page.data.iter().map(|assignment| (*assignment).to_owned()).collect();
    let moment = Query::default()
        .with("as_of", answer.as_of.clone())
        .with("known_at", answer.known_at.clone());
    let mut rows = rows(client, &assignments, &moment)?;
    if rows.is_empty() {
        return Ok("nobody\n".into());
    }
    rows.iter_mut().for_each(|row| row.truncate(5));
    Ok(table::draw(&["user", "role", "since", "because", "event"], &rows))
}

#[derive(Deserialize)]
struct Assignment {
    user_id: String,
    directory_id: String,
    role: String,
    since: String,
    because: Vec<Value>,
}

/// A row for each reason of each assignment.
fn rows(
    client: &Client,
    assignments: &[Box<RawValue>],
    moment: &Query,
) -> Result<Vec<Vec<String>>, Failure> {
    let odd = |_| Failure::Ours("the answer is not one that Rollcall gives".into());
    let assignments: Vec<Assignment> = assignments
        .iter()
        .map(|assignment| serde_json::from_str(assignment.get()))
        .collect::<Result<_, _>>()
        .map_err(odd)?;
    let emails = emails(client, &assignments, moment)?;
    let mut rows = Vec::new();
    for assignment in &assignments {
        let user = emails.get(&assignment.user_id).unwrap_or(&assignment.user_id);
        for because in &assignment.because {
            let cause = |name: &str| {
                because
                    .pointer(&format!("/cause/{name}"))
                    .and_then(Value::as_str)
                    .unwrap_or("")
                    .to_owned()
            };
            let mut row = vec![
                user.clone(),
                assignment.role.clone(),
                assignment.since.clone(),
                reason(because),
            ];
            row.extend(["event", "occurred_at", "event_id"].map(cause));
            rows.push(row);
        }
    }
    Ok(rows)
}

/// The emails of those who have roles, by id. Both lists are in order of id, so that a page of a
/// directory's users serves many of them.
fn emails(
    client: &Client,
    assignments: &[Assignment],
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
        let mut seen = String::new();
        for (at, user) in users.iter().enumerate() {
            // A cursor need not be an id: what is cut off an id stands before it.
            let before = user
                .char_indices()
                .next_back()
                .map_or("", |(end, _)| user.get(..end).unwrap_or(""));
            let mut after = if before > seen.as_str() { before.to_owned() } else { seen.clone() };
            while seen.as_str() < *user {
                let size = (users.len() - at) as u64;
                let question = Query::default()
                    .with("directory", Some(directory))
                    .with("order", Some("asc"))
                    .and(moment);
                let question = question.with("limit", Some(size.min(PAGE).to_string()));
                let question =
                    question.with("after", Some(after.clone()).filter(|after| !after.is_empty()));
                let answer = ask(client, &question.at("/directory_users"), "--directory")?;
                let page: Page = answer.json()?;
                for user in &page.data {
                    let [id, email] = texts(user, ["id", "email"]);
                    seen.clone_from(&id);
                    if !email.is_empty() {
                        emails.insert(id, email);
                    }
                }
                if page.next().is_none() {
                    break;
                }
                after.clone_from(&seen);
            }
        }
    }
    Ok(emails)
}
