//! The commands that read: the same answers as the API gives, from a server and from its folder.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::kit::server::{API_KEY, Server, binary, user};
use crate::laws::stories::stories;

const DIRECTORY: &str = "directory_01K424MH00XFE6WM17PR9ASN2Y";
const ORGANIZATION: &str = "org_01K33SRHPWWZ1Q313AXTSCGDJ0";
const FIELD_SERVICE: &str = "directory_group_01K424MK02KYZ8WD8RSS04A077";
const PLATFORM: &str = "directory_group_01K424MK3GKPZXHV3GKC42YPT6";
const JONAH: &str = "directory_user_01K424MJ3048WHJA7G74J4MK1K";
const INGRID: &str = "directory_user_01K424MHZW4ARSCHD1SQVX7DNM";

/// The command, without the environment variables that it reads.
pub fn rollcall(arguments: &[&str]) -> Command {
    let mut command = Command::new(binary());
    for name in ["ROLLCALL_URL", "ROLLCALL_API_KEY", "COLUMNS"] {
        command.env_remove(name);
    }
    command.args(arguments);
    command
}

/// Runs a command against a server.
pub fn ask(server: &Server, arguments: &[&str]) -> Output {
    rollcall(arguments).args(["--url", &server.url, "--api-key", API_KEY]).output().unwrap()
}

/// Runs a command over a folder.
pub fn ask_folder(folder: &Path, arguments: &[&str]) -> Output {
    rollcall(arguments).arg("--data").arg(folder).output().unwrap()
}

pub fn out(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{}", err(output));
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// The cells of a table, its head left out. No cell of these tests has two spaces in it, and none
/// but the last is empty.
pub fn cells(table: &str) -> Vec<Vec<String>> {
    let row = |line: &str| {
        line.split("  ")
            .map(|cell| cell.trim().to_owned())
            .filter(|cell| !cell.is_empty())
            .collect()
    };
    table.lines().skip(1).map(row).collect()
}

/// A server that has the first story.
pub fn reorganised(folder: &Path) -> Server {
    let server = Server::start(folder);
    for event in &stories()[0].events {
        server.deliver(event);
    }
    server
}

/// The objects of a list of the API, each followed by a line break, byte for byte.
pub fn lines(server: &Server, path: &str) -> String {
    #[derive(Deserialize)]
    struct List<'a> {
        #[serde(borrow)]
        data: Vec<&'a RawValue>,
    }
    let answer = server.get(path);
    assert_eq!(answer.status, 200, "{path}");
    let list: List = serde_json::from_slice(&answer.body).unwrap();
    list.data.iter().map(|object| format!("{}\n", object.get())).collect()
}

/// Each question on the command line, and the same question to the API.
fn questions() -> Vec<(Vec<&'static str>, String)> {
    let scope = format!("directory={DIRECTORY}");
    let of = |rest: &[&'static str]| [&["users", "--directory", DIRECTORY], rest].concat();
    let users = |rest: &str| format!("/directory_users?{scope}&{rest}order=asc&limit=100");
    let groups = |rest: &str| format!("/directory_groups?{rest}&order=asc&limit=100");
    vec![
        (of(&[]), users("")),
        (of(&["--state", "active"]), users("state=active&")),
        (
            of(&["--email", "ISOLHEIM@halden-robotics.example"]),
            users("email=isolheim@halden-robotics.example&"),
        ),
        (of(&["--idp-id", "nobody"]), users("idp_id=nobody&")),
        (of(&["--group", PLATFORM]), users(&format!("group={PLATFORM}&"))),
        (
            of(&["--as-of", "2026-03-20T18:29:59.999+01:00"]),
            users("as_of=2026-03-20T17:29:59.999Z&"),
        ),
        (of(&["--known-at", "5"]), users("known_at=5&")),
        (
            vec!["users", "--organization", ORGANIZATION],
            format!("/directory_users?organization_id={ORGANIZATION}&order=asc&limit=100"),
        ),
        (vec!["groups", "--directory", DIRECTORY], groups(&scope)),
        (
            vec!["groups", "--directory", DIRECTORY, "--members"],
            groups(&format!("{scope}&members=true")),
        ),
        (
            vec!["groups", "--user", INGRID, "--known-at", "29"],
            groups(&format!("user={INGRID}&known_at=29")),
        ),
        (
            vec!["groups", "--organization", ORGANIZATION],
            groups(&format!("organization_id={ORGANIZATION}")),
        ),
        (vec!["directories"], "/directories".into()),
        (
            vec!["directories", "--organization", ORGANIZATION, "--search", "halden"],
            "/directories?search=halden".into(),
        ),
        (
            vec!["directories", "--domain", "nowhere.example"],
            "/directories?domain=nowhere.example".into(),
        ),
    ]
}

#[test]
fn json_is_what_the_api_sends_one_object_a_line() {
    let folder = tempfile::tempdir().unwrap();
    let server = reorganised(folder.path());
    for (arguments, path) in questions() {
        let output = ask(&server, &[&arguments[..], &["--json"]].concat());
        assert_eq!(out(&output), lines(&server, &path), "{arguments:?}");
        assert_eq!(err(&output), "", "{arguments:?}");
    }
    for (kind, id, path) in [
        ("users", INGRID, "directory_users"),
        ("groups", PLATFORM, "directory_groups"),
        ("directories", DIRECTORY, "directories"),
    ] {
        let body = String::from_utf8(server.get(&format!("/{path}/{id}")).body).unwrap();
        assert_eq!(out(&ask(&server, &[kind, id, "--json"])), body + "\n");
    }
    let body = String::from_utf8(
        server
            .get(&format!("/directory_groups/{PLATFORM}?members=true&as_of=2026-02-20T12:00:00Z"))
            .body,
    )
    .unwrap();
    assert_eq!(
        out(&ask(
            &server,
            &["groups", PLATFORM, "--members", "--as-of", "2026-02-20T12:00:00Z", "--json"]
        )),
        body + "\n"
    );
}

#[test]
fn a_folder_gives_byte_for_byte_what_its_server_gave() {
    let folder = tempfile::tempdir().unwrap();
    let server = reorganised(folder.path());
    let questions: Vec<Vec<&str>> = questions()
        .into_iter()
        .flat_map(|(arguments, _)| [arguments.clone(), [&arguments[..], &["--json"]].concat()])
        .chain([
            vec!["users", INGRID],
            vec!["users", JONAH],
            vec!["users"],
            vec!["groups", PLATFORM, "--members", "--known-at", "31"],
        ])
        .collect();
    let told: Vec<Output> = questions.iter().map(|arguments| ask(&server, arguments)).collect();
    assert_eq!(server.stop(), 0);
    for (arguments, told) in questions.iter().zip(told) {
        assert_eq!(ask_folder(folder.path(), arguments), told, "{arguments:?}");
        assert!(!folder.path().join("unclean").exists(), "the folder is closed in order");
    }
    // Nobody else is let in meanwhile, nor is anything left that would hinder the server.
    let server = Server::start(folder.path());
    assert_eq!(server.get("/readyz").json()["seq"], 30);
}

#[test]
fn a_table_shows_who_was_there_and_says_at_which_moment() {
    let folder = tempfile::tempdir().unwrap();
    let server = reorganised(folder.path());
    let output =
        ask(&server, &["users", "--group", FIELD_SERVICE, "--as-of", "2026-03-02T08:59:59.999Z"]);
    let jonah =
        [JONAH, "Jonah Abernathy", "jabernathy@halden-robotics.example", "active", "Field Service"];
    let table = out(&output);
    assert_eq!(
        table.lines().next().unwrap().split_whitespace().collect::<Vec<_>>(),
        ["id", "name", "email", "state", "groups"]
    );
    assert_eq!(cells(&table).len(), 3, "{table}");
    assert_eq!(cells(&table)[1], jonah);
    assert_eq!(err(&output), "3 users, as of 2026-03-02T08:59:59.999Z, known at record 30\n");
    // One object is a table of one row; a millisecond after his end there is none.
    let output = ask(&server, &["users", JONAH, "--as-of", "2026-03-20T17:29:59.999Z"]);
    assert_eq!(cells(&out(&output)), [jonah]);
    assert_eq!(err(&output), "1 user, as of 2026-03-20T17:29:59.999Z, known at record 30\n");
    let output = ask(&server, &["users", JONAH, "--as-of", "2026-03-20T17:30:00Z"]);
    assert_eq!(
        (output.status.code(), err(&output)),
        (Some(1), format!("rollcall: Directory User not found: '{JONAH}'.\n"))
    );
    // Before the removal was known Mei-Lin counted as a member.
    let february =
        ["groups", "--directory", DIRECTORY, "--members", "--as-of", "2026-02-20T12:00:00Z"];
    let platform =
        |output: &Output| cells(&out(output)).into_iter().find(|row| row[0] == PLATFORM).unwrap();
    assert_eq!(
        platform(&ask(&server, &february)),
        [PLATFORM, "Platform", DIRECTORY, "1", "Tomas Okafor"]
    );
    let output = ask(&server, &[&february[..], &["--known-at", "29"]].concat());
    assert_eq!(
        platform(&output),
        [PLATFORM, "Platform", DIRECTORY, "2", "Tomas Okafor, Mei-Lin Castellanos"]
    );
    assert_eq!(err(&output), "3 groups, as of 2026-02-20T12:00:00.000Z, known at record 29\n");
    let output = ask(&server, &["groups", "--user", INGRID]);
    assert_eq!(cells(&out(&output))[0], [FIELD_SERVICE, "Field Service", DIRECTORY]);
    let output = ask(&server, &["directories"]);
    assert_eq!(
        cells(&out(&output)),
        [[DIRECTORY, "Halden Robotics", "linked", "okta scim v2.0", ORGANIZATION]]
    );
    assert_eq!(err(&output), "1 directory, as of latest, known at record 30\n");
    // Before anything was known there is nothing but the head.
    let output = ask(&server, &["directories", "--known-at", "0"]);
    assert_eq!(out(&output), "id  name  state  type  organization\n");
    assert_eq!(err(&output), "0 directories, as of latest, known at record 0\n");
}

fn told(number: u32, kind: &str, event: u32) -> String {
    let moment = format!("2025-01-01T00:{:02}:{:02}.000Z", event / 60 % 60, event % 60);
    user(
        &format!("u{number:03}"),
        "d",
        &format!("ana{number}"),
        &moment,
        &format!("{kind}_{number}_{event}"),
        &format!("dsync.user.{kind}"),
    )
}

#[test]
fn a_list_of_many_pages_is_whole_and_of_one_moment() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    for number in 0..235 {
        server.deliver(&told(number, "created", 0));
    }
    let ids = |output: &Output| {
        cells(&out(output)).into_iter().map(|row| row[0].clone()).collect::<Vec<_>>()
    };
    let all: Vec<String> = (0..235).map(|number| format!("u{number:03}")).collect();
    let output = ask(&server, &["users", "--directory", "d"]);
    assert_eq!(
        (ids(&output), err(&output)),
        (all.clone(), "235 users, as of latest, known at record 235\n".into())
    );
    assert_eq!(out(&ask(&server, &["users", "--directory", "d", "--json"])).lines().count(), 235);
    for (limit, line) in [
        ("0", "the first 0 users"),
        ("1", "the first 1 user"),
        ("100", "the first 100 users"),
        ("201", "the first 201 users"),
        ("235", "235 users"),
        ("999", "235 users"),
    ] {
        let output = ask(&server, &["users", "--directory", "d", "--limit", limit]);
        assert_eq!(ids(&output), all[..limit.parse::<usize>().unwrap().min(235)]);
        assert_eq!(err(&output), format!("{line}, as of latest, known at record 235\n"));
    }
    // While people come and go, each list is one that was true when its first page was read.
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let disturber = scope.spawn(|| {
            let mut event = 1;
            while !stop.load(Ordering::Relaxed) {
                server.deliver(&told(
                    event * 31 % 300,
                    if event % 2 == 0 { "deleted" } else { "created" },
                    event,
                ));
                event += 1;
            }
            event
        });
        let mut heads = std::collections::BTreeSet::new();
        for _ in 0..10 {
            let output = ask(&server, &["users", "--directory", "d"]);
            let head = err(&output).trim().rsplit_once(' ').unwrap().1.to_owned();
            let mut expected = Vec::new();
            let mut after = String::new();
            loop {
                let answer = server.get(&format!(
                    "/directory_users?directory=d&order=asc&limit=100&known_at={head}{after}"
                ));
                expected.extend(answer.ids());
                let Some(next) =
                    answer.json()["list_metadata"]["after"].as_str().map(str::to_owned)
                else {
                    break;
                };
                after = format!("&after={next}");
            }
            assert_eq!(ids(&output), expected, "known at {head}");
            heads.insert(head);
        }
        stop.store(true, Ordering::Relaxed);
        assert!(
            disturber.join().unwrap() > 10 && heads.len() > 1,
            "somebody came or went meanwhile"
        );
    });
}

#[test]
fn a_name_does_nothing_to_the_terminal_and_a_line_break_breaks_no_line() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let body = r#"{"id":"e1","event":"dsync.user.created","created_at":"2025-01-01T00:00:00Z",
        "data":{"id":"u1","directory_id":"d","first_name":"Eve\u001b]0;owned\u0007\u009b2J",
        "last_name":"\u202eLi\nna","email":"e@x","raw_attributes":{"a": 1e400}}}"#;
    server.deliver(body);
    let table = out(&ask(&server, &["users", "--directory", "d"]));
    assert_eq!(
        cells(&table),
        [["u1", r"Eve\u{1b}]0;owned\u{7}\u{9b}2J \u{202e}Li\nna", "e@x", "active"]]
    );
    let json = out(&ask(&server, &["users", "--directory", "d", "--json"]));
    assert_eq!(json.lines().count(), 1, "{json}");
    assert!(json.contains("1e400"), "numbers pass as they are: {json}");
    // What is not found is named harmlessly as well.
    let output = ask(&server, &["users", "nobody\u{1b}[2J"]);
    assert_eq!(
        (output.status.code(), err(&output)),
        (Some(1), "rollcall: no user `nobody\\u{1b}[2J` was ever seen\n".into())
    );
}

#[test]
fn a_table_is_cut_to_the_width_and_whole_without_one() {
    let folder = tempfile::tempdir().unwrap();
    let server = reorganised(folder.path());
    let question = ["users", "--directory", DIRECTORY, "--url", &server.url, "--api-key", API_KEY];
    let whole = out(&rollcall(&question).output().unwrap());
    assert!(whole.lines().any(|line| line.chars().count() > 120), "{whole}");
    for width in [40, 80, 100] {
        let cut = out(&rollcall(&question).env("COLUMNS", width.to_string()).output().unwrap());
        assert_eq!(cut.lines().count(), whole.lines().count(), "one line a row");
        assert!(width < 80 || cut.lines().all(|line| line.chars().count() <= width), "{cut}");
        // An id is of use only as a whole.
        assert!(cut.contains(INGRID), "{cut}");
    }
    for nonsense in ["", "0", "wide"] {
        assert_eq!(out(&rollcall(&question).env("COLUMNS", nonsense).output().unwrap()), whole);
    }
}

#[test]
fn a_reader_that_leaves_early_is_no_failure() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    for number in 0..235 {
        server.deliver(&told(number, "created", 0));
    }
    // More than a pipe holds.
    for arguments in [&["users", "--directory", "d", "--json"][..], &["users", "--directory", "d"]]
    {
        let mut command = rollcall(arguments);
        command
            .env("ROLLCALL_URL", &server.url)
            .env("ROLLCALL_API_KEY", API_KEY)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!((output.status.code(), err(&output)), (Some(0), String::new()), "{arguments:?}");
    }
}

#[test]
fn a_mistake_is_named_in_the_words_of_the_command_line() {
    let folder = tempfile::tempdir().unwrap();
    let server = reorganised(folder.path());
    for (arguments, told) in [
        (&["users"][..], "say which users: --directory, --group or --organization"),
        (&["users", "--email", "a@x"], "say which users: --directory, --group or --organization"),
        (&["groups"], "say which groups: --directory, --user or --organization"),
        (
            &["users", "--directory", DIRECTORY, "--state", "asleep"],
            "--state: it must be `active` or `inactive`",
        ),
        (
            &["users", "--directory", DIRECTORY, "--known-at", "31"],
            "--known-at: `known_at` is above the last record, or in the future",
        ),
        (&["directories", "--organization", ""], "--organization: it is empty"),
        (&["directories", "nowhere"], "no directory `nowhere` was ever seen"),
    ] {
        let output = ask(&server, arguments);
        assert_eq!(
            (output.status.code(), err(&output)),
            (Some(1), format!("rollcall: {told}\n")),
            "{arguments:?}"
        );
        assert_eq!(String::from_utf8_lossy(&output.stdout), "");
    }
    for arguments in [
        &["users", "u", "--group", "g"][..],
        &["groups", ""],
        &["users", "--directory", "d", "--limit", "-1"],
    ] {
        assert_eq!(ask(&server, arguments).status.code(), Some(1), "{arguments:?}");
    }
    let key_refused =
        rollcall(&["directories", "--url", &server.url, "--api-key", "sk_other"]).output().unwrap();
    assert_eq!(key_refused.status.code(), Some(1));
    assert!(
        err(&key_refused).contains("the API key was refused")
            && !err(&key_refused).contains("sk_other"),
        "{}",
        err(&key_refused)
    );
    let keyless = rollcall(&["directories", "--url", &server.url]).output().unwrap();
    assert!(
        keyless.status.code() == Some(1) && err(&keyless).contains("set ROLLCALL_API_KEY"),
        "{}",
        err(&keyless)
    );
    for (url, code, told) in [
        ("ftp://h", 1, "must be an http or https URL"),
        ("http://127.0.0.1:1", 2, "cannot ask `http://127.0.0.1:1`"),
    ] {
        let output =
            rollcall(&["directories", "--api-key", "k"]).env("ROLLCALL_URL", url).output().unwrap();
        assert!(
            output.status.code() == Some(code) && err(&output).contains(told),
            "{}",
            err(&output)
        );
    }
    for command in ["users", "groups", "directories", "events", "status"] {
        let help = out(&rollcall(&[command, "--help"])
            .env("ROLLCALL_API_KEY", "sk_hidden")
            .output()
            .unwrap());
        assert!(
            help.contains(&format!("Examples:\n  rollcall {command}"))
                && !help.contains("sk_hidden"),
            "{help}"
        );
    }
}

#[test]
fn a_folder_in_use_or_that_is_none_is_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let nowhere = folder.path().join("nowhere");
    let output = ask_folder(&nowhere, &["directories"]);
    assert_eq!(
        (output.status.code(), err(&output)),
        (Some(1), format!("rollcall: `{}` is not a Rollcall data folder\n", nowhere.display()))
    );
    assert!(!nowhere.exists());
    let other = tempfile::tempdir().unwrap();
    std::fs::write(other.path().join("notes"), "mine").unwrap();
    assert_eq!(ask_folder(other.path(), &["directories"]).status.code(), Some(1));
    assert_eq!(std::fs::read_dir(other.path()).unwrap().count(), 1);
    let server = reorganised(folder.path());
    let output = ask_folder(folder.path(), &["directories"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        err(&output)
            .ends_with("is in use by another process: stop the server, or ask it with --url\n"),
        "{}",
        err(&output)
    );
    let output = ask(&server, &["directories", "--data", "x"]);
    assert!(
        output.status.code() == Some(1) && err(&output).contains("cannot be used with"),
        "{}",
        err(&output)
    );
    // A URL in the environment does not stand in the way of a folder.
    assert_eq!(server.stop(), 0);
    let output = rollcall(&["directories", "--data"])
        .arg(folder.path())
        .env("ROLLCALL_URL", "http://127.0.0.1:1")
        .output()
        .unwrap();
    assert_eq!(cells(&out(&output)).len(), 1);
}
