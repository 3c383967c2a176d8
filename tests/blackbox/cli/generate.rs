//! Generated histories and forged events, and how they are sent: `generate | send`, `send --forge`.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::kit::server::{SECRET, Server, binary};

/// The binary, with only the settings given.
fn rollcall(arguments: &[&str], environment: &[(&str, &str)]) -> Command {
    let mut command = Command::new(binary());
    for name in [
        "ROLLCALL_WEBHOOK_SECRETS",
        "WORKOS_WEBHOOK_SECRET",
        "ROLLCALL_WEBHOOK_SECRET",
        "ROLLCALL_WEBHOOK_URL",
        "ROLLCALL_URL",
    ] {
        command.env_remove(name);
    }
    command.args(arguments).envs(environment.iter().copied());
    command
}

fn run(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    rollcall(arguments, environment).stdin(Stdio::null()).output().unwrap()
}

fn said(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

fn hook(server: &Server) -> String {
    format!("{}/webhooks/workos", server.url)
}

/// Forges and sends one event, and returns its id and seq.
fn forge(server: &Server, arguments: &str) -> (String, u64) {
    let mut line = vec!["send", "--forge"];
    line.extend(arguments.split_whitespace());
    let output =
        run(&line, &[("ROLLCALL_WEBHOOK_URL", &hook(server)), ("ROLLCALL_WEBHOOK_SECRET", SECRET)]);
    assert_eq!(output.status.code(), Some(0), "{arguments}: {}", said(&output));
    let text = said(&output);
    let lines: Vec<Vec<&str>> =
        text.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[..2], [vec!["answer", "events"], vec!["200", "new", "1"]], "{text}");
    let [id, "has", "seq", seq] = lines[2][..] else { panic!("{text}") };
    (id.to_owned(), seq.parse().unwrap())
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text")).to_owned()
}

/// The state after every event has been read in order: users with their state by directory, members
/// by group.
#[derive(Default)]
struct Present {
    users: BTreeMap<String, BTreeMap<String, String>>,
    groups: BTreeMap<String, BTreeSet<String>>,
    group_names: BTreeMap<String, String>,
}

impl Present {
    fn after(lines: &[String]) -> Present {
        let mut events: BTreeMap<(String, String), Value> = BTreeMap::new();
        for line in lines {
            let event: Value = serde_json::from_str(line).unwrap();
            events.insert((text(&event["created_at"]), text(&event["id"])), event);
        }
        let mut present = Present::default();
        for event in events.into_values() {
            let data = &event["data"];
            let directory = || text(&data["directory_id"]);
            match event["event"].as_str().unwrap() {
                "dsync.activated" => drop(present.users.insert(text(&data["id"]), BTreeMap::new())),
                "dsync.user.created" | "dsync.user.updated" => {
                    present
                        .users
                        .get_mut(&directory())
                        .unwrap()
                        .insert(text(&data["id"]), text(&data["state"]));
                }
                "dsync.user.deleted" => {
                    present.users.get_mut(&directory()).unwrap().remove(&text(&data["id"]));
                    present
                        .groups
                        .values_mut()
                        .for_each(|members| members.retain(|user| data["id"] != *user));
                }
                "dsync.group.created" | "dsync.group.updated" => {
                    present.groups.entry(text(&data["id"])).or_default();
                    present.group_names.insert(text(&data["id"]), text(&data["name"]));
                }
                "dsync.group.deleted" => {
                    present.groups.remove(&text(&data["id"]));
                    present.group_names.remove(&text(&data["id"]));
                }
                "dsync.group.user_added" => {
                    present
                        .groups
                        .get_mut(&text(&data["group"]["id"]))
                        .unwrap()
                        .insert(text(&data["user"]["id"]));
                }
                "dsync.group.user_removed" => {
                    present
                        .groups
                        .get_mut(&text(&data["group"]["id"]))
                        .unwrap()
                        .remove(&text(&data["user"]["id"]));
                }
                other => panic!("{other}"),
            }
        }
        present
    }
}

/// Every item of a list, page by page.
fn all(server: &Server, path: &str) -> Vec<Value> {
    let (mut found, mut cursor) = (Vec::new(), String::new());
    loop {
        let answer = server.get(&format!("{path}&limit=100{cursor}"));
        assert_eq!(answer.status, 200, "{path}");
        let answer = answer.json();
        found.extend(answer["data"].as_array().unwrap().iter().cloned());
        match answer["list_metadata"]["after"].as_str() {
            Some(next) => cursor = format!("&after={next}"),
            None => return found,
        }
    }
}

fn quarantined(server: &Server) -> usize {
    server.get("/rollcall/v1/quarantine").json()["data"].as_array().unwrap().len()
}

const HISTORY: [&str; 13] = [
    "generate",
    "--people",
    "400",
    "--directories",
    "3",
    "--days",
    "40",
    "--seed",
    "7",
    "--late",
    "0.2",
    "--duplicates",
    "0.05",
];

#[test]
fn a_made_history_piped_into_a_server_leaves_whom_a_reader_of_its_events_would_expect() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let mut maker = rollcall(&HISTORY, &[]).stdout(Stdio::piped()).spawn().unwrap();
    let pipe = maker.stdout.take().unwrap();
    let settings = [
        ("ROLLCALL_WEBHOOK_URL", hook(&server)),
        ("ROLLCALL_WEBHOOK_SECRETS", format!(" {SECRET} , whsec_other")),
    ];
    let settings = settings.each_ref().map(|(name, value)| (*name, value.as_str()));
    let sent = rollcall(&["send"], &settings).stdin(pipe).output().unwrap();
    assert_eq!(sent.status.code(), Some(0), "{}", said(&sent));
    assert!(maker.wait().unwrap().success());

    let made = run(&HISTORY, &[]);
    assert_eq!(made.status.code(), Some(0));
    let lines: Vec<String> =
        String::from_utf8(made.stdout).unwrap().lines().map(str::to_owned).collect();
    let distinct = lines.iter().collect::<BTreeSet<_>>().len();
    let counted: Vec<String> = said(&sent)
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    assert_eq!(
        counted,
        [
            "answer events",
            &format!("200 duplicate {}", lines.len() - distinct),
            &format!("200 new {distinct}")
        ]
    );
    assert_eq!(quarantined(&server), 0);

    let present = Present::after(&lines);
    assert_eq!(present.users.len(), 3);
    let directories = server.get("/directories?limit=100&order=asc").ids();
    assert!(present.users.keys().eq(&directories));
    let states = |users: &BTreeMap<String, String>| {
        users.values().filter(|state| *state == "inactive").count()
    };
    assert!(
        present.users.values().any(|users| states(users) > 0),
        "no directory keeps its leavers"
    );
    for (directory, users) in &present.users {
        let listed = all(&server, &format!("/directory_users?directory={directory}"));
        let listed: BTreeMap<String, String> =
            listed.iter().map(|user| (text(&user["id"]), text(&user["state"]))).collect();
        assert_eq!(&listed, users);
        let groups = all(&server, &format!("/directory_groups?directory={directory}"));
        assert!(
            groups.iter().all(|group| present.group_names[&text(&group["id"])] == group["name"])
        );
    }
    let groups: usize = directories
        .iter()
        .map(|id| all(&server, &format!("/directory_groups?directory={id}")).len())
        .sum();
    assert_eq!(groups, present.groups.len());
    for (group, members) in &present.groups {
        let listed: BTreeSet<String> = all(&server, &format!("/directory_users?group={group}"))
            .iter()
            .map(|user| text(&user["id"]))
            .collect();
        assert_eq!(&listed, members);
    }
}

#[test]
fn a_history_starts_when_it_is_told_to_and_its_reader_may_stop_reading() {
    let output = run(
        &["generate", "--people", "3", "--days", "0", "--from", "2024-02-29 12:00:00+01:00"],
        &[],
    );
    let first: Value = serde_json::from_str(said(&output).lines().next().unwrap()).unwrap();
    assert_eq!(first["created_at"], "2024-02-29T11:00:00.000Z");
    assert_eq!(first["data"]["type"].as_str().map(str::is_empty), Some(false));
    // Far more than a pipe holds: the writer is still at work when the reader goes.
    let mut maker = rollcall(&["generate", "--people", "1000000"], &[])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(maker.stdout.take().unwrap());
    let mut line = String::new();
    lines.read_line(&mut line).unwrap();
    assert!(line.contains("dsync.activated"), "{line}");
    drop(lines);
    assert_eq!(maker.wait().unwrap().code(), Some(0));
    let mut complaint = String::new();
    maker.stderr.take().unwrap().read_to_string(&mut complaint).unwrap();
    assert_eq!(complaint, "");
}

#[test]
fn each_type_of_event_can_be_forged_and_has_its_effect() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let get = |path: &str| server.get(path).json();
    let status = |path: &str| server.get(path).status;

    let (id, seq) =
        forge(&server, "dsync.activated --directory directory_1 --organization org_1 --name Corp");
    assert!(id.starts_with("event_") && id.len() == 32, "{id}");
    assert_eq!(seq, 1);
    assert_eq!(get("/directories/directory_1")["name"], "Corp");
    forge(
        &server,
        "dsync.user.created --user directory_user_1 --directory directory_1 --name Ada \
         --email ada@corp.example --set idp_id=7 --set idp_id=\"00u7\" \
         --set custom_attributes.department=Sales --at 2026-01-05T08:00:00Z",
    );
    let user = get("/directory_users/directory_user_1");
    assert_eq!(user["email"], "ada@corp.example");
    assert_eq!(user["idp_id"], "00u7");
    assert_eq!(user["organization_id"], "org_1", "its directory's");
    assert_eq!(user["custom_attributes"]["department"], "Sales");
    assert_eq!(user["created_at"], "2026-01-05T08:00:00.000Z");
    assert_eq!(status("/directory_users/directory_user_1?as_of=2026-01-05T07:59:59.999Z"), 404);
    assert_eq!(status("/directory_users/directory_user_1?as_of=2026-01-05T08:00:00.000Z"), 200);
    forge(
        &server,
        "dsync.user.updated --user directory_user_1 --directory directory_1 --name Ada --state \
         inactive",
    );
    assert_eq!(get("/directory_users/directory_user_1")["state"], "inactive");

    forge(
        &server,
        "dsync.group.created --group directory_group_1 --directory directory_1 --name Devs",
    );
    assert_eq!(get("/directory_groups/directory_group_1")["name"], "Devs");
    forge(
        &server,
        "dsync.group.updated --group directory_group_1 --directory directory_1 --name Developers",
    );
    assert_eq!(get("/directory_groups/directory_group_1")["name"], "Developers");
    let members = || server.get("/directory_users?group=directory_group_1").ids();
    forge(
        &server,
        "dsync.group.user_added --user directory_user_1 --group directory_group_1 --directory \
         directory_1",
    );
    assert_eq!(members(), ["directory_user_1"]);
    forge(
        &server,
        "dsync.group.user_removed --user directory_user_1 --group directory_group_1 --directory \
         directory_1",
    );
    assert_eq!(members(), [""; 0]);
    // The membership alone says anything of this user and this group.
    forge(
        &server,
        "dsync.group.user_added --user directory_user_2 --group directory_group_2 \
         --directory directory_1 --email bo@corp.example \
         --set group.name=Writers --set user.last_name=Bo",
    );
    assert_eq!(get("/directory_groups/directory_group_2")["name"], "Writers");
    assert_eq!(get("/directory_users/directory_user_2")["last_name"], "Bo");
    forge(&server, "dsync.group.deleted --group directory_group_1");
    assert_eq!(status("/directory_groups/directory_group_1"), 404);
    forge(&server, "dsync.user.deleted --user directory_user_1");
    assert_eq!(status("/directory_users/directory_user_1"), 404);

    let before = server.get("/readyz").json()["seq"].as_u64().unwrap();
    forge(&server, "dsync.token.created --directory directory_1");
    forge(&server, "dsync.token.revoked --directory directory_1 --organization org_1");
    let (_, seq) = forge(&server, "organization.created --set id=org_2 --set name=Other");
    assert_eq!(seq, before + 3);
    forge(&server, "dsync.deactivated --directory directory_1 --organization org_1 --name Corp");
    assert_eq!(get("/directories/directory_1")["state"], "unlinked");
    forge(&server, "dsync.deleted --directory directory_1");
    assert_eq!(status("/directories/directory_1"), 404);
    assert_eq!(quarantined(&server), 0);
}

#[test]
fn a_forged_body_can_be_printed_and_sent_later() {
    let folder = tempfile::tempdir().unwrap();
    let line = [
        "send",
        "--print",
        "--forge",
        "dsync.user.created",
        "--user",
        "directory_user_1",
        "--directory",
        "directory_1",
    ];
    let printed = run(&line, &[]);
    assert_eq!(printed.status.code(), Some(0), "{}", said(&printed));
    assert_eq!(said(&printed).lines().count(), 1);
    let event: Value = serde_json::from_slice(&printed.stdout).unwrap();
    assert_eq!(event["event"], "dsync.user.created");
    let again: Value = serde_json::from_slice(&run(&line, &[]).stdout).unwrap();
    assert_ne!(event["id"], again["id"], "each has an id of its own");

    let file = folder.path().join("event.jsonl");
    std::fs::write(&file, &printed.stdout).unwrap();
    let server = Server::start(&folder.path().join("data"));
    let sent =
        run(&["send", "--url", &hook(&server), "--secret", SECRET, file.to_str().unwrap()], &[]);
    assert_eq!(sent.status.code(), Some(0), "{}", said(&sent));
    assert_eq!(server.get("/directory_users?directory=directory_1").ids(), ["directory_user_1"]);
}

#[test]
fn the_secret_is_the_flag_else_its_variable_else_the_first_of_the_servers() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let url = hook(&server);
    let forge = ["send", "--forge", "x"];
    let with_flag = ["send", "--forge", "x", "--secret", SECRET];
    type Case<'a> = (&'a [&'a str], &'a [(&'a str, &'a str)], i32);
    let table: [Case<'_>; 7] = [
        (&with_flag, &[("ROLLCALL_WEBHOOK_SECRET", "wrong")], 0),
        (&forge, &[("ROLLCALL_WEBHOOK_SECRET", SECRET), ("ROLLCALL_WEBHOOK_SECRETS", "wrong")], 0),
        (&forge, &[("ROLLCALL_WEBHOOK_SECRET", ""), ("ROLLCALL_WEBHOOK_SECRETS", SECRET)], 0),
        (&forge, &[("ROLLCALL_WEBHOOK_SECRETS", "whsec_test,wrong")], 0),
        (&forge, &[("ROLLCALL_WEBHOOK_SECRETS", "wrong,whsec_test")], 1),
        (&forge, &[("ROLLCALL_WEBHOOK_SECRETS", " , ")], 1),
        (&forge, &[], 1),
    ];
    for (arguments, environment, code) in table {
        let environment: Vec<_> =
            environment.iter().copied().chain([("ROLLCALL_WEBHOOK_URL", url.as_str())]).collect();
        let output = run(arguments, &environment);
        assert_eq!(
            output.status.code(),
            Some(code),
            "{arguments:?} {environment:?}: {}",
            said(&output)
        );
        let nothing_to_sign_with =
            environment.iter().all(|(name, value)| !name.contains("SECRET") || *value == " , ")
                && code == 1;
        assert_eq!(
            said(&output).contains("set ROLLCALL_WEBHOOK_SECRET"),
            nothing_to_sign_with,
            "{}",
            said(&output)
        );
    }
    // A flag wins over the variable of the URL too.
    let output = run(
        &["send", "--forge", "x", "--url", &url],
        &[("ROLLCALL_WEBHOOK_URL", "nowhere"), ("ROLLCALL_WEBHOOK_SECRET", SECRET)],
    );
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(
        said(&run(&["send", "--help"], &[]))
            .contains("without that http://127.0.0.1:8080/webhooks/workos")
    );
}

#[test]
fn send_posts_to_the_server_of_rollcall_url_unless_another_url_is_given() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let (base, url) = (server.url.as_str(), hook(&server));
    let slashed = format!("{base}/");
    let forge = ["send", "--forge", "x"];
    let flagged = [&forge[..], &["--url", &url]].concat();
    type Case<'a> = (&'a [&'a str], &'a [(&'a str, &'a str)], i32);
    let table: [Case<'_>; 8] = [
        (&forge, &[("ROLLCALL_URL", base)], 0),
        (&forge, &[("ROLLCALL_URL", &slashed)], 0),
        (&forge, &[("ROLLCALL_URL", base), ("ROLLCALL_WEBHOOK_URL", "")], 0),
        (&forge, &[("ROLLCALL_URL", "nowhere")], 1),
        (&forge, &[("ROLLCALL_URL", base), ("ROLLCALL_WEBHOOK_URL", "nowhere")], 1),
        (&forge, &[("ROLLCALL_URL", "nowhere"), ("ROLLCALL_WEBHOOK_URL", &url)], 0),
        (&flagged, &[("ROLLCALL_URL", "nowhere")], 0),
        (&["send", "--forge", "x", "--url", ""], &[("ROLLCALL_URL", base)], 1),
    ];
    for (arguments, environment, code) in table {
        let environment = [environment, &[("ROLLCALL_WEBHOOK_SECRET", SECRET)]].concat();
        let output = run(arguments, &environment);
        let said = said(&output);
        assert_eq!(output.status.code(), Some(code), "{arguments:?} {environment:?}: {said}");
    }
}

#[test]
fn a_mistake_exits_with_1_and_says_what_is_wrong() {
    let secret =
        [("ROLLCALL_WEBHOOK_SECRET", "s"), ("ROLLCALL_WEBHOOK_URL", "http://127.0.0.1:1/")];
    let table = [
        ("generate --people 0", "1..=1000000"),
        ("generate --people 1000001", "1..=1000000"),
        ("generate --people 3 --directories 4", "3 people cannot fill 4 directories"),
        ("generate --late 1.1", "it must be a number from 0 to 1"),
        ("generate --duplicates NaN", "it must be a number from 0 to 1"),
        ("generate --late -0.1", "it must be a number from 0 to 1"),
        ("generate --from 1999-01-01T00:00:00Z", "is not in the years 2016 to 2089"),
        ("generate --days 3651", "0..=3650"),
        ("generate more", "unexpected argument 'more'"),
        (
            "send --forge dsync.group.user_removed --user u",
            "needs --user, --group, --directory: --group, --directory is missing",
        ),
        ("send --forge dsync.user.created --user", "--user"),
        ("send --forge dsync.user.vanished --user u", "unknown type `dsync.user.vanished`"),
        ("send --forge x Cargo.toml", "cannot be used with"),
        ("send --user u", "--forge"),
        ("send --print", "--forge"),
        ("send --forge x --set novalue", "it must be a field, `=`, and a value"),
        ("send --forge x --url ftp://127.0.0.1/", "`ftp://127.0.0.1/` is not an http or https URL"),
    ];
    for (line, wanted) in table {
        let output = run(&line.split(' ').collect::<Vec<_>>(), &secret);
        assert_eq!(output.status.code(), Some(1), "{line}: {}", said(&output));
        assert!(said(&output).contains(wanted), "{line}: {}", said(&output));
    }
    // An empty id, as from a variable that is not set, is a mistake too.
    let output = run(&["send", "--forge", "dsync.user.deleted", "--user", ""], &secret);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    // A server that is not there is not the caller's mistake.
    let output = run(&["send", "--forge", "x"], &secret);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
}
