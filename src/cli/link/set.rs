//! `rollcall link set`

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use clap::Args;
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::super::client::{Answer, Client};
use super::super::read::listing::{Output, Query, refused};
use super::super::read::print::{counted, print_object, width};
use super::super::read::source::ServerArgs;
use super::super::send::progress_bar;
use super::super::table::{self, Column};
use super::super::{Failure, print};
use super::PATH;
use super::file::{Form, Header, Line, USER_ID, fault, read};

/// Set the links of a file.
///
/// FILE is comma-separated values with the columns `user_id`, which is the application's id of its
/// user, and `directory_user_id`; other columns are ignored, and `-` reads standard input. Ids are
/// taken as they are; white space around a `user_id` is refused. The file is checked whole before
/// anything is set: a directory user may be in it with one application user only, and an application
/// user with one user of each directory. A link that is there already is not recorded again, so that
/// the same file can be set twice. A link ends the other link of its directory user, and those of
/// its application user with other users of the same directory.
#[derive(Args)]
#[command(after_help = "\
Exit codes: 0 if every link is there, 1 if the file is wrong or names users who are not known, 2 if
the server was unreachable. Links before a failure stay set.

The API key needs the scope `operate`.

Examples:
  rollcall link set links.csv --dry-run
  rollcall link set links.csv --note \"by email\"
  rollcall link match users.csv | rollcall link set -")]
pub(super) struct SetArgs {
    /// The file of links
    file: PathBuf,
    /// Set nothing, and print what would be set
    #[arg(long)]
    dry_run: bool,
    /// The reason, kept with every link
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    server: ServerArgs,
}

const DIRECTORY_USER_ID: Header =
    Header { name: "directory_user_id", alias: "directory_user_id", form: Form::Id };

/// The number of links in one request.
const LINKS_AT_ONCE: usize = 500;

/// The number of tries of one request, while the server answers 429 or 503.
const TRIES_MAX: u32 = 8;

/// The most lines about links that are not set or are ended.
const TOLD_MAX: usize = 1000;

#[derive(Deserialize)]
struct ApiResults<'a> {
    #[serde(borrow)]
    data: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
struct ApiResult {
    outcome: String,
    app_user_id: String,
    directory_user_id: String,
    directory_id: Option<String>,
    ended: Vec<ApiPair>,
}

#[derive(Deserialize, Clone, PartialEq, Eq, Hash)]
struct ApiPair {
    app_user_id: String,
    directory_user_id: String,
}

/// The results so far.
#[derive(Default)]
struct Results {
    set: u64,
    unchanged: u64,
    unknown: u64,
    /// In a dry run, later requests find again what earlier ones would have ended.
    ended: HashSet<ApiPair>,
    /// Links that were ended, and users who are not known: outcome, application user, directory
    /// user.
    told: Vec<Vec<String>>,
}

impl Results {
    fn add(&mut self, result: ApiResult) {
        let ApiResult { outcome, app_user_id, directory_user_id, ended, .. } = result;
        match outcome.as_str() {
            "set" => self.set += 1,
            "unchanged" => self.unchanged += 1,
            _ => {
                self.unknown += 1;
                self.tell("not set: unknown user", app_user_id, directory_user_id);
            }
        }
        for pair in ended {
            if self.ended.insert(pair.clone()) {
                self.tell("ended", pair.app_user_id, pair.directory_user_id);
            }
        }
    }

    fn tell(&mut self, outcome: &str, app_user: String, user: String) {
        if self.told.len() < TOLD_MAX {
            self.told.push(vec![outcome.to_owned(), app_user, user]);
        }
    }

    /// Returns the counts, and below them the links that are worth a look.
    fn page(&self, dry_run: bool) -> String {
        let done = |would: &'static str, did: &'static str| if dry_run { would } else { did };
        let rows = [
            (done("would be set", "set"), self.set),
            ("there already", self.unchanged),
            ("of unknown users", self.unknown),
            (done("would be ended", "ended"), self.ended.len() as u64),
        ];
        let rows: Vec<Vec<String>> = rows
            .into_iter()
            .filter(|(_, count)| *count > 0)
            .map(|(outcome, count)| vec![outcome.to_owned(), count.to_string()])
            .collect();
        let mut page = table::draw(&["outcome", "links"], &rows);
        if !self.told.is_empty() {
            let columns =
                [Column::whole(""), Column::key("application user"), Column::key("directory user")];
            page.push('\n');
            page.push_str(&table::draw_within(width(), &columns, true, &self.told));
        }
        let all = self.unknown + self.ended.len() as u64;
        let left = all.saturating_sub(self.told.len() as u64);
        if left > 0 {
            page.push_str(&format!("and {}\n", counted(left, "other", "others")));
        }
        page
    }
}

impl SetArgs {
    pub(super) fn run(self) -> Result<(), Failure> {
        let SetArgs { file, dry_run, note, output, server } = self;
        let lines = read(&file, [USER_ID, DIRECTORY_USER_ID])?;
        let lines = without_repetitions(lines).map_err(|error| fault(&file, &error))?;
        let client = server.client()?;
        let repeated = with_several_users(&lines);
        let directories = directories_of(&client, &repeated)?;
        if let Some(error) = two_users_of_one_directory(&repeated, &directories) {
            return Err(fault(&file, &error));
        }
        let bar = progress_bar(Some(lines.len() as u64));
        let mut results = Results::default();
        let path = Query::default().with("dry_run", dry_run.then_some("true")).at(PATH);
        for part in lines.chunks(LINKS_AT_ONCE) {
            let set = put(&client, &path, part, note.as_deref()).and_then(|answer| {
                let page: ApiResults<'_> = answer.json()?;
                for result in page.data {
                    if output.json {
                        print_object(result.get())?;
                    }
                    results.add(serde_json::from_str(result.get()).map_err(Failure::ours)?);
                }
                Ok(())
            });
            set.map_err(|failure| after(failure, &results, dry_run))?;
            bar.inc(part.len() as u64);
        }
        bar.finish_and_clear();
        if !output.json {
            print(&results.page(dry_run))?;
        }
        if results.unknown == 0 {
            return Ok(());
        }
        let users = counted(results.unknown, "user is", "users are");
        Err(Failure::Caller(format!("{users} not known or not in a directory that the key sees")))
    }
}

/// Adds to a failure how many links were set before it.
fn after(failure: Failure, results: &Results, dry_run: bool) -> Failure {
    let told = counted(results.set, "link was set", "links were set");
    if dry_run { failure } else { failure.with(&told) }
}

/// Leaves out repeated lines.
///
/// # Errors
/// If two lines link one directory user to different users.
fn without_repetitions(lines: Vec<Line>) -> Result<Vec<Line>, String> {
    let mut seen: HashMap<String, (u64, String)> = HashMap::new();
    let mut kept = Vec::with_capacity(lines.len());
    for line in lines {
        let [app_user, user] = &line.cells;
        match seen.get(user) {
            None => {
                seen.insert(user.clone(), (line.number, app_user.clone()));
                kept.push(line);
            }
            Some((_, other)) if other == app_user => {}
            Some((number, _)) => {
                return Err(format!(
                    "line {}: `{user}` is linked to another user on line {number}; nothing was set",
                    line.number
                ));
            }
        }
    }
    Ok(kept)
}

/// Returns the lines whose application user is on several.
fn with_several_users(lines: &[Line]) -> Vec<Line> {
    let mut counts: HashMap<&str, u64> = HashMap::new();
    for line in lines {
        *counts.entry(&line.cells[0]).or_default() += 1;
    }
    let is_repeated = |line: &&Line| counts.get(&*line.cells[0]).is_some_and(|count| *count > 1);
    lines.iter().filter(is_repeated).cloned().collect()
}

/// Asks for the directories of the directory users of some lines, in their order; `None` for one who
/// is not known. Sets nothing.
fn directories_of(client: &Client, lines: &[Line]) -> Result<Vec<Option<String>>, Failure> {
    let path = Query::default().with("dry_run", Some("true")).at(PATH);
    let mut directories = Vec::with_capacity(lines.len());
    for part in lines.chunks(LINKS_AT_ONCE) {
        let answer = put(client, &path, part, None)?;
        let page: ApiResults<'_> = answer.json()?;
        for result in page.data {
            let result: ApiResult = serde_json::from_str(result.get()).map_err(Failure::ours)?;
            directories.push(result.directory_id);
        }
    }
    Ok(directories)
}

/// Returns what is wrong with lines that link one application user to different users of one
/// directory. One request would end a link that another one has set, and a dry run would not see it.
fn two_users_of_one_directory(lines: &[Line], directories: &[Option<String>]) -> Option<String> {
    let mut seen: HashMap<(&str, &str), u64> = HashMap::new();
    lines.iter().zip(directories).find_map(|(line, directory)| {
        let app_user = &*line.cells[0];
        let other = seen.insert((app_user, directory.as_deref()?), line.number)?;
        Some(format!(
            "line {}: `{app_user}` is linked to another user of the same directory on line {other}; \
             nothing was set",
            line.number
        ))
    })
}

/// Sets some links, again while the server has no room.
fn put(client: &Client, path: &str, lines: &[Line], note: Option<&str>) -> Result<Answer, Failure> {
    let pair = |line: &Line| {
        let [app_user, user] = &line.cells;
        json!({ "app_user_id": app_user, "directory_user_id": user })
    };
    let links: Vec<_> = lines.iter().map(pair).collect();
    let body = json!({ "links": links, "note": note });
    let mut attempt = 1;
    loop {
        let answer = client.put(path, &body, None)?;
        match answer.status {
            200 => return Ok(answer),
            429 | 503 if attempt < TRIES_MAX => {
                let seconds = answer.retry_after_s.unwrap_or(1).clamp(1, 60);
                thread::sleep(Duration::from_secs(seconds));
                attempt += 1;
            }
            _ => return Err(refused(&answer, client, "")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(number: u64, app_user: &str, user: &str) -> Line {
        Line { number, cells: [app_user.into(), user.into()] }
    }

    #[test]
    fn an_application_user_may_have_one_user_of_each_directory() {
        let mut lines = vec![line(2, "7", "d1"), line(3, "7", "e1"), line(4, "7", "?1")];
        lines.extend([line(5, "7", "?2"), line(6, "8", "d2")]);
        let check = |lines: &[Line]| {
            let repeated = with_several_users(lines);
            assert!(repeated.iter().all(|line| line.cells[0] != "8"), "asked in vain");
            // The directory of a user is the first letter of its id; one with `?` is not known.
            let directory = |line: &Line| {
                let directory = line.cells[1].chars().next();
                directory.filter(|letter| *letter != '?').map(String::from)
            };
            let directories: Vec<Option<String>> = repeated.iter().map(directory).collect();
            two_users_of_one_directory(&repeated, &directories)
        };
        assert_eq!(check(&lines), None);
        lines.push(line(900, "7", "e9"));
        let expected = "line 900: `7` is linked to another user of the same directory on line 3; \
            nothing was set";
        assert_eq!(check(&lines).as_deref(), Some(expected));
    }

    #[test]
    fn a_user_may_be_linked_once_in_a_file() {
        let lines = vec![line(2, "7", "u"), line(3, "7", "v"), line(4, "7", "u")];
        assert_eq!(without_repetitions(lines).unwrap().len(), 2);
        let lines = vec![line(2, "7", "u"), line(3, "8", "u")];
        let message = without_repetitions(lines).err().unwrap();
        assert_eq!(message, "line 3: `u` is linked to another user on line 2; nothing was set");
    }
}
