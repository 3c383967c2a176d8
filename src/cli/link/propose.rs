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
use super::file::{Form, Header, Line, USER_ID, read};
use super::list::LINKS;
use crate::verify::email_fingerprint;

/// Propose links by email.
///
/// FILE is comma-separated values with the columns `user_id` and `email` of the application's users;
/// other columns are ignored, and `-` reads standard input. Emails match if they are equal without
/// regard to upper and lower case, to white space around them, and to the way in which Unicode
/// writes accents. Proposals are written to standard output, in the form that `rollcall link set`
/// takes. Nothing is set, and nothing is proposed that would end a link.
///
/// What is left to decide is listed on standard error: emails of several users on either side, users
/// of one directory who would have the same application user, users without a match on either side,
/// and links that would end another one: their directory user is linked to another application user,
/// or their application user to another user of the directory. Links that are there already are not
/// proposed again, and a directory user who has one is not without a match.
#[derive(Args)]
#[command(after_help = "\
The API key needs the scope `read`.

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

/// The most rows of users without a match that people are shown.
const UNMATCHED_SHOWN: usize = 20;

const EMAIL: Header = Header { name: "email", alias: "email", form: Form::Text };

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
    /// The directory user is linked to another application user.
    LinkedOtherwise,
    /// The application user is linked to another user of the directory.
    Conflict,
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
            Class::Conflict => "conflict",
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
            Class::LinkedOtherwise => "linked to another application user",
            Class::Conflict => "linked to another user of the directory",
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
    /// The links that it would end.
    ends: Vec<Pair>,
}

impl Match {
    /// Returns a row for an email that only one side has; its users are still empty.
    fn unmatched(class: Class, email: &str) -> Match {
        Match {
            class,
            email: email.to_owned(),
            app_users: Vec::new(),
            users: Vec::new(),
            directory: None,
            ends: Vec::new(),
        }
    }
}

/// An application user and a directory user.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Pair {
    app_user: String,
    user: String,
}

/// The links that are there.
#[derive(Default)]
struct Linked {
    /// The application user of each directory user that has a link.
    app_users: HashMap<String, String>,
    /// The directory users of an application user, by application user and directory.
    users: HashMap<(String, String), Vec<String>>,
}

impl Linked {
    fn add(&mut self, app_user: String, user: String, directory: String) {
        self.app_users.insert(user.clone(), app_user.clone());
        self.users.entry((app_user, directory)).or_default().push(user);
    }

    /// Returns the rows of the users of a directory for whom the file has no match: one for each who
    /// has a link, and one for all others.
    fn without_match(&self, email: &str, directory: &str, users: Vec<String>) -> Vec<Match> {
        let of = |class: Class, app_users: Vec<String>, users: Vec<String>| {
            let directory = Some(directory.to_owned());
            Match { app_users, users, directory, ..Match::unmatched(class, email) }
        };
        let (mut rows, mut others) = (Vec::new(), Vec::new());
        for user in users {
            match self.app_users.get(&user) {
                Some(app_user) => rows.push(of(Class::Linked, vec![app_user.clone()], vec![user])),
                None => others.push(user),
            }
        }
        if !others.is_empty() {
            rows.push(of(Class::UnmatchedInDirectories, Vec::new(), others));
        }
        rows
    }

    /// Returns the class of a link between two users who match, and the links that it would end.
    fn judge(&self, app_user: &str, user: &str, directory: &str) -> (Class, Vec<Pair>) {
        let pair =
            |app_user: &str, user: &str| Pair { app_user: app_user.into(), user: user.into() };
        let former = self.app_users.get(user);
        if former.is_some_and(|former| former == app_user) {
            return (Class::Linked, Vec::new());
        }
        let key = (app_user.to_owned(), directory.to_owned());
        let others = self.users.get(&key).into_iter().flatten();
        let mut ends: Vec<Pair> = others.map(|other| pair(app_user, other)).collect();
        ends.extend(former.map(|former| pair(former, user)));
        let class = match former {
            Some(_) => Class::LinkedOtherwise,
            None if ends.is_empty() => Class::Proposed,
            None => Class::Conflict,
        };
        (class, ends)
    }
}

/// The users on both sides of one email.
#[derive(Default)]
struct Sides {
    email: String,
    app_users: BTreeSet<String>,
    /// By directory.
    users: BTreeMap<String, Vec<String>>,
}

/// Compares the users of a file with those of directories.
fn compare(lines: &[Line], users: &[DirectoryUser], linked: &Linked) -> Vec<Match> {
    let mut sides: HashMap<Fingerprint, Sides> = HashMap::new();
    let mut matches = Vec::new();
    for line in lines {
        let [app_user, email] = &line.cells;
        if email.trim().is_empty() {
            let app_users = vec![app_user.clone()];
            matches.push(Match { app_users, ..Match::unmatched(Class::UnmatchedInFile, "") });
            continue;
        }
        let side = sides.entry(email_fingerprint(email)).or_default();
        side.email.clone_from(email);
        side.app_users.insert(app_user.clone());
    }
    for user in users {
        if user.email.trim().is_empty() {
            matches.extend(linked.without_match("", &user.directory, vec![user.id.clone()]));
            continue;
        }
        let side = sides.entry(email_fingerprint(&user.email)).or_default();
        if side.email.is_empty() {
            side.email.clone_from(&user.email);
        }
        side.users.entry(user.directory.clone()).or_default().push(user.id.clone());
    }
    matches.extend(sides.into_values().flat_map(|side| side.matches(linked)));
    withdraw_contradictions(&mut matches);
    matches.sort_by(|a, b| {
        let key = |one: &Match| (one.class, one.email.clone(), one.directory.clone());
        let users = || a.app_users.cmp(&b.app_users).then_with(|| a.users.cmp(&b.users));
        key(a).cmp(&key(b)).then_with(users)
    });
    matches
}

/// Makes proposals ambiguous that link one application user to several users of one directory: each
/// would end the one before.
fn withdraw_contradictions(matches: &mut [Match]) {
    let of = |one: &Match| (one.app_users.clone(), one.directory.clone());
    let mut counts: HashMap<(Vec<String>, Option<String>), u64> = HashMap::new();
    for one in matches.iter().filter(|one| one.class == Class::Proposed) {
        *counts.entry(of(one)).or_default() += 1;
    }
    for one in matches.iter_mut().filter(|one| one.class == Class::Proposed) {
        if counts.get(&of(one)).is_some_and(|count| *count > 1) {
            one.class = Class::Ambiguous;
        }
    }
}

impl Sides {
    fn matches(self, linked: &Linked) -> Vec<Match> {
        let Sides { email, app_users, users } = self;
        let app_users: Vec<String> = app_users.into_iter().collect();
        if users.is_empty() {
            let class = if app_users.len() > 1 { Class::Ambiguous } else { Class::UnmatchedInFile };
            return vec![Match { app_users, ..Match::unmatched(class, &email) }];
        }
        let of_directory = |(directory, mut users): (String, Vec<String>)| {
            users.sort_unstable();
            let (class, ends) = match (&*app_users, &*users) {
                ([], _) => return linked.without_match(&email, &directory, users),
                ([app_user], [user]) => linked.judge(app_user, user, &directory),
                _ => (Class::Ambiguous, Vec::new()),
            };
            let (email, app_users) = (email.clone(), app_users.clone());
            vec![Match { class, email, app_users, users, directory: Some(directory), ends }]
        };
        users.into_iter().flat_map(of_directory).collect()
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

/// Reads the links that are there.
fn links_of(client: &Client, moment: Query) -> Result<Linked, Failure> {
    let mut linked = Linked::default();
    LINKS.list(Query::default(), moment, None).walk(client, everything, |link| {
        let [app_user, user, directory] =
            texts(link, ["app_user_id", "directory_user_id", "directory_id"]);
        linked.add(app_user, user, directory);
        Ok(())
    })?;
    Ok(linked)
}

fn print_lines(matches: &[Match]) -> Result<(), Failure> {
    let ended = |Pair { app_user, user }: &Pair| json!({ "app_user_id": app_user, "directory_user_id": user });
    let line = |one: &Match| {
        let object = json!({
            "object": "link_match",
            "class": one.class.word(),
            "email": one.email,
            "user_ids": one.app_users,
            "directory_user_ids": one.users,
            "directory_id": one.directory,
            "would_end": one.ends.iter().map(ended).collect::<Vec<_>>(),
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
        Column::whole("would end"),
    ];
    for (class, count) in classes.into_iter().filter(|(class, _)| *class > Class::Linked) {
        let ends_links = matches!(class, Class::LinkedOtherwise | Class::Conflict);
        let width = columns.len() - usize::from(!ends_links);
        let columns = columns.get(..width).unwrap_or(&columns);
        let is_unmatched = matches!(class, Class::UnmatchedInFile | Class::UnmatchedInDirectories);
        let shown = if is_unmatched { UNMATCHED_SHOWN } else { usize::MAX };
        let rows = matches.iter().filter(|one| one.class == class).take(shown).map(row);
        let rows: Vec<Vec<String>> =
            rows.map(|row| row.into_iter().take(width).collect()).collect();
        text.push_str(&format!("\n{}: {count}\n", class.title()));
        text.push_str(&table::draw_within(None, columns, true, &rows));
        if let Some(more @ 1..) = count.checked_sub(rows.len() as u64) {
            text.push_str(&format!("and {more} more, which --json lists\n"));
        }
    }
    text
}

/// Returns the cells of a match, the links that it would end last.
fn row(one: &Match) -> Vec<String> {
    let ends = one.ends.iter().map(|Pair { app_user, user }| format!("{app_user} = {user}"));
    vec![
        one.email.clone(),
        one.app_users.join(", "),
        one.users.join(", "),
        one.directory.clone().unwrap_or_default(),
        ends.collect::<Vec<String>>().join(", "),
    ]
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
        let found = compare(&file, &directories, &Linked::default());
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
        let found = compare(&file, &directories, &Linked::default());
        let expected = ["proposed 3=b3", "ambiguous 1+2=a", "ambiguous 3=b1+b2", "ambiguous 4+5="];
        assert_eq!(shown(&found), expected);
    }

    /// Returns links, each of an application user, a user and its directory.
    fn linked(links: &[[&str; 3]]) -> Linked {
        let mut linked = Linked::default();
        for link in links {
            let [app_user, user, directory] = link.map(str::to_owned);
            linked.add(app_user, user, directory);
        }
        linked
    }

    /// Returns the links that a row would end, as `APP_USER=USER`.
    fn ended(one: &Match) -> Vec<String> {
        one.ends.iter().map(|Pair { app_user, user }| format!("{app_user}={user}")).collect()
    }

    #[test]
    fn what_is_linked_is_not_proposed_again() {
        let file = lines(&[["1", "a@x"], ["2", "b@x"]]);
        let directories = users(&[["a", "d", "a@x"], ["b", "d", "b@x"], ["n", "d", ""]]);
        let found = compare(&file, &directories, &linked(&[["1", "a", "d"], ["9", "b", "d"]]));
        let expected = ["linked 1=a", "linked_otherwise 2=b", "unmatched_in_directories =n"];
        assert_eq!(shown(&found), expected);
        assert_eq!(ended(&found[1]), ["9=b"]);
    }

    #[test]
    fn who_is_linked_is_not_only_in_a_directory() {
        let directories = users(&[
            ["a1", "d", "a@x"],
            ["a2", "d", "a@x"],
            ["b", "e", "b@x"],
            ["n", "d", ""],
            ["m", "d", ""],
        ]);
        let there = linked(&[["1", "a1", "d"], ["2", "b", "e"], ["3", "n", "d"]]);
        let found = compare(&lines(&[]), &directories, &there);
        let expected = [
            "linked 3=n",
            "linked 1=a1",
            "linked 2=b",
            "unmatched_in_directories =m",
            "unmatched_in_directories =a2",
        ];
        assert_eq!(shown(&found), expected);
    }

    #[test]
    fn what_would_end_a_link_is_not_proposed() {
        let file = lines(&[["1", "a@x"], ["2", "b@x"], ["3", "c@x"]]);
        let directories =
            users(&[["a", "d", "a@x"], ["a2", "e", "a@x"], ["b", "d", "b@x"], ["c", "d", "c@x"]]);
        // The first is linked to another user of the directory, who may have left; in another
        // directory that ends nothing. The last two would have changed places.
        let there = linked(&[["1", "gone", "d"], ["2", "c", "d"], ["3", "b", "d"]]);
        let found = compare(&file, &directories, &there);
        let expected =
            ["proposed 1=a2", "linked_otherwise 2=b", "linked_otherwise 3=c", "conflict 1=a"];
        assert_eq!(shown(&found), expected);
        let ends: Vec<Vec<String>> = found.iter().map(ended).collect();
        assert_eq!(ends, [vec![], vec!["2=c", "3=b"], vec!["3=b", "2=c"], vec!["1=gone"]]);
    }

    #[test]
    fn two_users_of_one_directory_are_not_proposed_for_one_application_user() {
        // Two addresses of one person, each of another account in the directory.
        let file = lines(&[["1", "a@x"], ["1", "b@x"], ["2", "c@x"], ["1", "d@x"]]);
        let directories =
            users(&[["a", "d", "a@x"], ["b", "d", "b@x"], ["c", "d", "c@x"], ["e", "e", "d@x"]]);
        let found = compare(&file, &directories, &Linked::default());
        let expected = ["proposed 2=c", "proposed 1=e", "ambiguous 1=a", "ambiguous 1=b"];
        assert_eq!(shown(&found), expected);
        // One of them is linked: then the other one would end that link.
        let found = compare(&file, &directories, &linked(&[["1", "a", "d"]]));
        let expected = ["proposed 2=c", "proposed 1=e", "linked 1=a", "conflict 1=b"];
        assert_eq!(shown(&found), expected);
    }

    #[test]
    fn of_users_without_a_match_20_are_shown_and_the_rest_is_counted() {
        let count = |number: usize| {
            let user = |at: usize| DirectoryUser {
                id: format!("u{at:02}"),
                directory: "d".into(),
                email: format!("u{at:02}@x"),
            };
            report(&compare(&[], &(0..number).map(user).collect::<Vec<_>>(), &Linked::default()))
        };
        let all = count(20);
        assert!(all.contains("only in a directory: 20\n") && all.contains("u19@x"), "{all}");
        assert!(!all.contains("more"), "{all}");
        let cut = count(23);
        assert!(cut.contains("only in a directory: 23\n") && !cut.contains("u20@x"), "{cut}");
        assert!(cut.ends_with("and 3 more, which --json lists\n"), "{cut}");
    }

    #[test]
    fn users_without_an_email_are_unmatched_one_by_one() {
        let file = lines(&[["1", ""], ["2", " \t"], ["3", "a@x"]]);
        let directories = users(&[["a", "d", " A@X"], ["n", "d", ""], ["m", "d", " "]]);
        let found = compare(&file, &directories, &Linked::default());
        let expected = [
            "proposed 3=a",
            "unmatched_in_file 1=",
            "unmatched_in_file 2=",
            "unmatched_in_directories =m",
            "unmatched_in_directories =n",
        ];
        assert_eq!(shown(&found), expected);
    }
}
