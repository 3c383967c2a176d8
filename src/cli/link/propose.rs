//! `rollcall link match`

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;

use clap::Args;
use rollcall_projections::Fingerprint;
use serde_json::json;

use super::super::client::Client;
use super::super::read::csv_table::CsvTable;
use super::super::read::listing::{List, Moment, Output, Query, everything};
use super::super::read::names::Names;
use super::super::read::print::{counted, texts};
use super::super::read::source::SourceArgs;
use super::super::table::{self, Column};
use super::super::{Failure, print};
use super::file::{Header, Line, USER_ID, read};
use super::list::LINKS;
use crate::verify::email_fingerprint;

/// Propose links by email.
///
/// FILE is comma-separated values with the columns `user_id` and `email` of the application's users;
/// other columns are ignored, and `-` reads standard input. Emails match if they are equal without
/// regard to case. Proposals are written to standard output, in the form that `rollcall link set`
/// takes. Nothing is set.
///
/// What is left to decide is listed on standard error: emails of several users on either side, users
/// without a match on either side, and directory users who are linked to another user already.
/// Links that are there already are not proposed again.
#[derive(Args)]
#[command(after_help = "\
Examples:
  rollcall link match users.csv > links.csv
  rollcall link match users.csv --directory \"Halden Robotics\" --json")]
pub(super) struct MatchArgs {
    /// The file of the application's users
    file: PathBuf,
    /// Only users of this directory, by id or name
    #[arg(long, value_name = "ID|NAME")]
    directory: Option<String>,
    /// Only users of directories of this organization
    #[arg(long, value_name = "ID")]
    organization: Option<String>,
    #[command(flatten)]
    moment: Moment,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    source: SourceArgs,
}

const EMAIL: Header = Header { name: "email", alias: "email" };

/// A user of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
struct DirectoryUser {
    id: String,
    directory: String,
    email: String,
}

/// The class of a row of the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    Proposed,
    Linked,
    LinkedOtherwise,
    Ambiguous,
    UnmatchedInFile,
    UnmatchedInDirectories,
}

impl Class {
    /// Returns the word for programs.
    fn word(self) -> &'static str {
        match self {
            Class::Proposed => "proposed",
            Class::Linked => "linked",
            Class::LinkedOtherwise => "linked_otherwise",
            Class::Ambiguous => "ambiguous",
            Class::UnmatchedInFile => "unmatched_in_file",
            Class::UnmatchedInDirectories => "unmatched_in_directories",
        }
    }

    /// Returns the words for people.
    fn title(self) -> &'static str {
        match self {
            Class::Proposed => "proposed",
            Class::Linked => "linked already",
            Class::LinkedOtherwise => "linked to another user",
            Class::Ambiguous => "ambiguous",
            Class::UnmatchedInFile => "only in the file",
            Class::UnmatchedInDirectories => "only in a directory",
        }
    }
}

/// A row of the result: one email with users of one or both sides.
#[derive(Debug, PartialEq, Eq)]
struct Match {
    class: Class,
    email: String,
    /// Empty if there is none.
    app_users: Vec<String>,
    /// Those of one directory, or of none.
    users: Vec<String>,
    directory: Option<String>,
}

/// The users on both sides of one email.
#[derive(Default)]
struct Sides {
    email: String,
    app_users: BTreeSet<String>,
    /// By directory.
    users: BTreeMap<String, Vec<String>>,
}

/// Compares the users of a file with those of directories. `linked` has the application user of
/// each directory user that has a link.
fn compare(
    lines: &[Line],
    users: &[DirectoryUser],
    linked: &HashMap<String, String>,
) -> Vec<Match> {
    let mut sides: HashMap<Fingerprint, Sides> = HashMap::new();
    for line in lines {
        let [app_user, email] = &line.cells;
        let side = sides.entry(email_fingerprint(email)).or_default();
        side.email.clone_from(email);
        side.app_users.insert(app_user.clone());
    }
    let mut matches = Vec::new();
    for user in users {
        if user.email.is_empty() {
            matches.push(Match {
                class: Class::UnmatchedInDirectories,
                email: String::new(),
                app_users: Vec::new(),
                users: vec![user.id.clone()],
                directory: Some(user.directory.clone()),
            });
            continue;
        }
        let side = sides.entry(email_fingerprint(&user.email)).or_default();
        if side.email.is_empty() {
            side.email.clone_from(&user.email);
        }
        side.users.entry(user.directory.clone()).or_default().push(user.id.clone());
    }
    matches.extend(sides.into_values().flat_map(|side| side.matches(linked)));
    matches.sort_by(|a, b| {
        let key = |one: &Match| (one.class, one.email.clone(), one.directory.clone());
        key(a).cmp(&key(b)).then_with(|| a.users.cmp(&b.users))
    });
    matches
}

impl Sides {
    fn matches(self, linked: &HashMap<String, String>) -> Vec<Match> {
        let Sides { email, app_users, users } = self;
        let app_users: Vec<String> = app_users.into_iter().collect();
        if users.is_empty() {
            let class = if app_users.len() > 1 { Class::Ambiguous } else { Class::UnmatchedInFile };
            return vec![Match { class, email, app_users, users: Vec::new(), directory: None }];
        }
        let of_directory = |(directory, mut users): (String, Vec<String>)| {
            users.sort_unstable();
            Match {
                class: classify(&app_users, &users, linked),
                email: email.clone(),
                app_users: app_users.clone(),
                users,
                directory: Some(directory),
            }
        };
        users.into_iter().map(of_directory).collect()
    }
}

/// Returns the class of the users of one email in one directory.
fn classify(app_users: &[String], users: &[String], linked: &HashMap<String, String>) -> Class {
    match (app_users, users) {
        ([], _) => Class::UnmatchedInDirectories,
        ([app_user], [user]) => match linked.get(user) {
            None => Class::Proposed,
            Some(other) if other == app_user => Class::Linked,
            Some(_) => Class::LinkedOtherwise,
        },
        _ => Class::Ambiguous,
    }
}

impl MatchArgs {
    pub(super) fn run(self) -> Result<(), Failure> {
        let MatchArgs { file, directory, organization, moment, output, source } = self;
        let lines = read(&file, [USER_ID, EMAIL])?;
        let names = Names { directory, organization, ..Names::default() };
        source.ask(move |client| {
            let moment = moment.query();
            let names = names.resolve(client, &moment)?;
            let (users, moment) = users_of(client, &names, moment)?;
            let linked = links_of(client, moment)?;
            let matches = compare(&lines, &users, &linked);
            if output.json { print_lines(&matches) } else { print_proposals(&matches) }
        })
    }
}

/// Reads the users of every directory that is asked for, all at one moment.
fn users_of(
    client: &Client,
    names: &Names,
    mut moment: Query,
) -> Result<(Vec<DirectoryUser>, Query), Failure> {
    let directories = match &names.directory {
        Some(directory) => vec![directory.clone()],
        None => {
            let of = Query::default().with("organization_id", names.organization.clone());
            let list = List::all("/directories", moment).narrowed(of);
            let read = list.collect(client)?;
            moment = read.listed.moment();
            read.objects.iter().map(|directory| texts(directory, ["id"]).concat()).collect()
        }
    };
    let mut users = Vec::new();
    for directory in directories {
        let of = Query::default().with("directory", Some(directory.as_str()));
        let list = List::all("/directory_users", moment).narrowed(of);
        let listed = list.walk(client, everything, |user| {
            let [id, email] = texts(user, ["id", "email"]);
            users.push(DirectoryUser { id, directory: directory.clone(), email });
            Ok(())
        })?;
        moment = listed.moment();
    }
    Ok((users, moment))
}

/// Reads the application user of each directory user that has a link.
fn links_of(client: &Client, moment: Query) -> Result<HashMap<String, String>, Failure> {
    let mut linked = HashMap::new();
    LINKS.list(Query::default(), moment, None).walk(client, everything, |link| {
        let [app_user, user] = texts(link, ["app_user_id", "directory_user_id"]);
        linked.insert(user, app_user);
        Ok(())
    })?;
    Ok(linked)
}

fn print_lines(matches: &[Match]) -> Result<(), Failure> {
    let line = |one: &Match| {
        let object = json!({
            "object": "link_match",
            "class": one.class.word(),
            "email": one.email,
            "user_ids": one.app_users,
            "directory_user_ids": one.users,
            "directory_id": one.directory,
        });
        format!("{object}\n")
    };
    print(&matches.iter().map(line).collect::<String>())
}

/// Prints the proposals on standard output, and all else on standard error.
fn print_proposals(matches: &[Match]) -> Result<(), Failure> {
    let mut table = CsvTable::begin(&["user_id", "directory_user_id"])?;
    for one in matches.iter().filter(|one| one.class == Class::Proposed) {
        table.exact_row(one.app_users.iter().chain(&one.users))?;
    }
    table.end()?;
    eprint!("{}", report(matches));
    Ok(())
}

/// Returns the counts of all classes, and the rows of those that leave something to decide.
fn report(matches: &[Match]) -> String {
    let mut classes: BTreeMap<Class, u64> = BTreeMap::new();
    for one in matches {
        *classes.entry(one.class).or_default() += 1;
    }
    let proposed = classes.get(&Class::Proposed).copied().unwrap_or(0);
    let mut text = format!("{}\n", counted(proposed, "link is proposed", "links are proposed"));
    if let Some(linked) = classes.get(&Class::Linked) {
        text.push_str(&format!("{}\n", counted(*linked, "link is there", "links are there")));
    }
    let columns = [
        Column::new("email"),
        Column::whole("application users"),
        Column::key("directory users"),
        Column::whole("directory"),
    ];
    for class in classes.into_keys().filter(|class| *class > Class::Linked) {
        let rows: Vec<Vec<String>> = matches
            .iter()
            .filter(|one| one.class == class)
            .map(|one| {
                vec![
                    one.email.clone(),
                    one.app_users.join(", "),
                    one.users.join(", "),
                    one.directory.clone().unwrap_or_default(),
                ]
            })
            .collect();
        text.push_str(&format!("\n{}: {}\n", class.title(), rows.len()));
        text.push_str(&table::draw_within(None, &columns, true, &rows));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(rows: &[[&str; 2]]) -> Vec<Line> {
        let line = |row: &[&str; 2]| Line { number: 0, cells: row.map(str::to_owned) };
        rows.iter().map(line).collect()
    }

    fn users(rows: &[[&str; 3]]) -> Vec<DirectoryUser> {
        let user = |row: &[&str; 3]| {
            let [id, directory, email] = row.map(str::to_owned);
            DirectoryUser { id, directory, email }
        };
        rows.iter().map(user).collect()
    }

    /// Returns each row as `CLASS APP_USERS=USERS`.
    fn shown(matches: &[Match]) -> Vec<String> {
        let one = |one: &Match| {
            let (app_users, users) = (one.app_users.join("+"), one.users.join("+"));
            format!("{} {app_users}={users}", one.class.word())
        };
        matches.iter().map(one).collect()
    }

    #[test]
    fn users_match_by_email_without_regard_to_case_in_each_directory() {
        let file = lines(&[["1", "Ana@X.example"], ["2", "bo@x.example"]]);
        let directories = users(&[
            ["a1", "d", "ana@x.example"],
            ["a2", "e", " ANA@x.example "],
            ["b1", "d", "bob@x.example"],
        ]);
        let found = compare(&file, &directories, &HashMap::new());
        let expected = [
            "proposed 1=a1",
            "proposed 1=a2",
            "unmatched_in_file 2=",
            "unmatched_in_directories =b1",
        ];
        assert_eq!(shown(&found), expected);
    }

    #[test]
    fn what_is_ambiguous_on_either_side_is_not_proposed() {
        let file = lines(&[["1", "a@x"], ["2", "A@x"], ["3", "b@x"], ["4", "c@x"], ["5", "c@x"]]);
        let directories =
            users(&[["a", "d", "a@x"], ["b1", "d", "b@x"], ["b2", "d", "b@x"], ["b3", "e", "b@x"]]);
        let found = compare(&file, &directories, &HashMap::new());
        let expected = ["proposed 3=b3", "ambiguous 1+2=a", "ambiguous 3=b1+b2", "ambiguous 4+5="];
        assert_eq!(shown(&found), expected);
    }

    #[test]
    fn what_is_linked_is_not_proposed_again() {
        let file = lines(&[["1", "a@x"], ["2", "b@x"]]);
        let directories = users(&[["a", "d", "a@x"], ["b", "d", "b@x"], ["n", "d", ""]]);
        let linked = [("a".to_owned(), "1".to_owned()), ("b".to_owned(), "9".to_owned())];
        let found = compare(&file, &directories, &linked.into());
        let expected = ["linked 1=a", "linked_otherwise 2=b", "unmatched_in_directories =n"];
        assert_eq!(shown(&found), expected);
    }
}
