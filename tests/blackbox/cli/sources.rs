//! `rollcall pull`, `reconcile` and `status` with a source that is well, down, wrong, or refuses:
//! what they say, and their exit codes.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

use super::config::entry;
use super::read::{ask, err, out, rollcall};
use crate::faults::archives::wait_for;
use crate::faults::reconciling::{add_directory, source_with_users, user_id};
use crate::kit::server::{API_KEY, Server, agent, get, now_ms};
use crate::kit::source::faulty::{Fault, Faulty};
use crate::kit::source::objects::{directory, event};
use crate::kit::source::pulling::{Puller, until};
use crate::kit::source::reconciling::{reconcile, whole};
use crate::kit::source::stand_in::StandIn;

const CREW: &str = "directory_group_directory_1";

fn start(data: &Path, url: &str) -> Server {
    Puller::of(data, url).start()
}

/// A server that has imported a source.
fn imported(data: &Path, url: &str) -> Server {
    let server = start(data, url);
    out(&ask(&server, &["reconcile"]));
    server
}

/// What a command printed, whatever its exit code.
fn printed(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[track_caller]
fn assert_says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "`{part}` is not in:\n{text}");
    }
}

/// Returns the row of a table that begins so, without its repeated spaces, and the lines below it
/// that are indented.
fn row(table: &str, begin: &str) -> Vec<String> {
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut lines = table.lines().skip_while(|line| !words(line).starts_with(begin));
    let first = lines.next().map(words).unwrap_or_default();
    let below = lines.take_while(|line| line.starts_with("     ")).map(words);
    [first].into_iter().chain(below).collect()
}

/// The state of the source in `rollcall status`, on one line.
fn status(server: &Server) -> String {
    let status = out(&ask(server, &["status"]));
    let lines = status.lines().skip_while(|line| !line.starts_with("source"));
    lines.take(3).map(str::trim).collect::<Vec<_>>().join(" | ")
}

#[test]
fn a_reconciliation_reads_like_a_diff_and_a_dry_run_records_nothing() {
    let (source, data) = (source_with_users(30), tempfile::tempdir().unwrap());
    let server = start(data.path(), &source.url);
    let first = out(&ask(&server, &["reconcile"]));
    let end = "in step with the source: compared 1 directory, 1 group, 30 users and 30 memberships; \
               62 differences, 62 recorded";
    assert_eq!(first.lines().last(), Some(end));
    assert_eq!(row(&first, "+ directory")[0], "+ directory Halden directory_1 record 1");
    {
        let mut contents = source.contents();
        let changed = contents.users.get_mut(&user_id(3)).unwrap();
        changed["email"] = "new@foo.example".into();
        changed["job_title"] = "Pilot".into();
        contents.remove_user(&user_id(6));
        contents.members.remove(&(CREW.into(), user_id(7)));
        contents.groups.get_mut(CREW).unwrap()["name"] = "Team".into();
    }
    let gone = format!("- user {0}@foo.example {0}", user_id(6));
    let seq = |server: &Server| server.get("/rollcall/v1/stats").json()["seq"].clone();
    let before = seq(&server);
    let dry = out(&ask(&server, &["reconcile", "--dry-run"]));
    assert_eq!(seq(&server), before);
    let left = format!("- membership {0}@foo.example in Crew {0}", user_id(7));
    assert_eq!(row(&dry, "- membership"), [format!("{left} would be recorded")]);
    assert_eq!(row(&dry, "- user"), [format!("{gone} would be recorded")]);
    let end = "compared 1 directory, 1 group, 29 users and 28 memberships; 4 differences, 4 would \
               be recorded";
    assert_eq!(dry.lines().last(), Some(end));
    let run = out(&ask(&server, &["reconcile"]));
    // One record for each, in order: group, users by id, membership.
    let seq = |at: u64| before.as_u64().unwrap() + at;
    let expected = [format!("~ group Team {CREW} record {}", seq(1)), "name: Crew -> Team".into()];
    assert_eq!(row(&run, "~ group"), expected);
    let expected = [
        format!("~ user new@foo.example {} record {}", user_id(3), seq(2)),
        format!("email: {}@foo.example -> new@foo.example", user_id(3)),
        "job_title: nothing -> Pilot".into(),
    ];
    assert_eq!(row(&run, "~ user"), expected);
    assert_eq!(row(&run, "- user"), [format!("{gone} record {}", seq(3))]);
    // The group has its new name by then.
    let left = left.replace("in Crew", "in Team");
    assert_eq!(row(&run, "- membership"), [format!("{left} record {}", seq(4))]);
    let again = out(&ask(&server, &["reconcile", "--directory", "directory_1"]));
    let end = "in step with the source in `directory_1`: compared 1 directory, 1 group, 29 users and \
               28 memberships; no difference\n";
    assert_eq!(again, end);
    assert_says(
        &status(&server),
        &["ok: its events are pulled", "of directory_1 ", "no difference"],
    );
    out(&ask(&server, &["reconcile"]));
    assert_says(&status(&server), &[&format!("{}: ok: in step", source.url), "ago: no difference"]);
}

#[test]
fn what_is_held_is_told_with_its_directory_and_the_command_that_helps() {
    let (source, data) = (source_with_users(12), tempfile::tempdir().unwrap());
    add_directory(&source, "directory_2", 2);
    source.contents().directories.get_mut("directory_2").unwrap()["name"] = "Other".into();
    let server = imported(data.path(), &source.url);
    (0..12).for_each(|number| source.contents().remove_user(&user_id(number)));
    let advice = "`rollcall reconcile --directory directory_1 --guard off`";
    let mut json = Value::Null;
    for arguments in [&["reconcile"][..], &["reconcile", "--dry-run"], &["reconcile", "--json"]] {
        let held = ask(&server, arguments);
        assert_eq!(held.status.code(), Some(1), "{arguments:?}");
        let told = err(&held);
        assert_says(&told, &["24 differences are held and not recorded:\n", advice]);
        let excess = "(12 of 12 active users would end, 10 may)";
        assert_says(&told, &["\n  directory_1: 24 guard: more would end", excess]);
        assert!(!told.contains("directory_2"), "{told}");
        if arguments.contains(&"--json") {
            json = serde_json::from_slice(&held.stdout).unwrap();
        } else {
            assert_says(&printed(&held), &["held: guard", "24 held"]);
        }
    }
    assert_eq!((&json["state"], &json["held"]), (&"held".into(), &24.into()));
    assert_says(&status(&server), &["wrong: 24 differences are held", "--dry-run"]);
    // A name will do for the directory.
    let off = ask(&server, &["reconcile", "--directory", "Halden", "--guard", "off"]);
    assert_says(&out(&off), &["in step with the source in `directory_1`", "12 recorded"]);
    let log = server.stop_and_say();
    let warnings: Vec<&str> = log.lines().filter(|line| line.contains("WARN")).collect();
    let of_directory: Vec<&&str> =
        warnings.iter().filter(|line| line.contains("directory=\"directory_1\"")).collect();
    // Two runs that were not dry.
    assert_eq!(of_directory.len(), 2, "{log}");
    assert_says(of_directory[0], &["held=24", advice, "12 of 12 active users would end, 10 may"]);
    assert_says(&warnings.join("\n"), &["compared with the source: some differences are held"]);
}

#[test]
fn what_was_held_before_a_restart_is_not_forgotten() {
    let (source, data) = (source_with_users(12), tempfile::tempdir().unwrap());
    let server = imported(data.path(), &source.url);
    (0..12).for_each(|number| source.contents().remove_user(&user_id(number)));
    assert_eq!(ask(&server, &["reconcile"]).status.code(), Some(1));
    assert_eq!(server.stop(), 0);
    // A server that compares only when it is asked knows it by the record.
    let server = start(data.path(), &source.url);
    out(&ask(&server, &["pull"]));
    let expected = ["wrong: 24 differences are held", "none since the start; the last one began"];
    assert_says(&status(&server), &expected);
    let concern = format!("  ! source {}: 24 differences are held: ", source.url);
    assert_says(&out(&ask(&server, &["status"])), &[&concern]);
    assert_eq!(server.stop(), 0);
    // Any other compares at once, although the last run is not an hour old.
    let options = &["--reconcile-every", "1h"];
    let server = Puller { options, ..Puller::of(data.path(), &source.url) }.start();
    let run = wait_for("the first reconciliation has ended", || {
        let run = server.get("/rollcall/v1/reconciliations").json()["data"][0].clone();
        (!run.is_null() && run["state"] != "running").then_some(run)
    });
    assert_eq!((&run["state"], &run["held"]), (&"held".into(), &24.into()), "{run}");
}

#[test]
fn what_a_run_of_one_directory_held_is_not_forgotten_until_a_newer_run_of_it() {
    let (source, data) = (source_with_users(12), tempfile::tempdir().unwrap());
    add_directory(&source, "directory_2", 2);
    let server = imported(data.path(), &source.url);
    (0..12).for_each(|number| source.contents().remove_user(&user_id(number)));
    let of = |directory| ["reconcile", "--directory", directory];
    assert_eq!(ask(&server, &of("directory_1")).status.code(), Some(1));
    assert_eq!(server.stop(), 0);
    let server = start(data.path(), &source.url);
    out(&ask(&server, &["pull"]));
    assert_says(&status(&server), &["wrong: 24 differences are held"]);
    // A run of another directory does not settle it.
    out(&ask(&server, &of("directory_2")));
    assert_says(&status(&server), &["wrong: 24 differences are held"]);
    out(&ask(&server, &[&of("directory_1")[..], &["--guard", "off"]].concat()));
    assert_says(&status(&server), &["ok: its events are pulled"]);
}

#[test]
fn a_directory_that_is_not_compared_is_not_said_to_be_in_step() {
    let (source, data) = (source_with_users(2), tempfile::tempdir().unwrap());
    add_directory(&source, "directory_2", 2);
    let server = imported(data.path(), &source.url);
    assert_eq!(server.delete("/directories/directory_1").status, 202);
    let of = ["reconcile", "--directory", "directory_1"];
    let told = out(&ask(&server, &of));
    let expected = "`directory_1` was not compared: an operator deleted it here";
    assert_eq!(told.lines().last(), Some(expected));
    // Then the source has no such directory either, and others.
    source.contents().remove_directory("directory_1");
    let told = out(&ask(&server, &of));
    let expected = "nothing was compared: `directory_1` is neither here nor at the source\n";
    assert_eq!(told, expected);
    let log = server.stop_and_say();
    assert_says(&log, &["the directory was not compared: an operator deleted it here"]);
}

#[test]
fn a_directory_that_fails_or_stays_undecided_is_named_with_the_reason() {
    let (source, data) = (source_with_users(4), tempfile::tempdir().unwrap());
    add_directory(&source, "directory_2", 2);
    let faulty = Faulty::before(&source.url);
    let server = imported(data.path(), &faulty.url);
    source.contents().forbidden.insert("directory_2".into());
    source.contents().users.get_mut(&user_id(1)).unwrap()["email"] = "new@foo.example".into();
    faulty.fail("/directory_users/", u32::MAX, Fault::Status(422));
    let failed = ask(&server, &["reconcile"]);
    assert_eq!(failed.status.code(), Some(2));
    let told = err(&failed);
    assert_says(&told, &["2 directories could not be compared without doubt"]);
    assert_says(&told, &["\n  directory_1: undecided: ", &user_id(1), "422"]);
    assert_says(
        &told,
        &[
            "\n  directory_2: failed: the list of its groups: the key may not ask the source for this (403)",
        ],
    );
    assert_says(&status(&server), &["wrong: not all of it could be compared", "failed "]);
    faulty.heal();
    source.contents().forbidden.clear();
    out(&ask(&server, &["reconcile"]));
}

/// A command whose standard error is read while it runs.
struct Waiting {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStderr>>,
}

impl Waiting {
    fn start(server: &Server, arguments: &[&str]) -> Waiting {
        let mut command: Command = rollcall(arguments);
        command.args(["--url", &server.url, "--api-key", API_KEY]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        Waiting { child, lines }
    }

    fn line(&mut self) -> String {
        self.lines.next().unwrap().unwrap()
    }
}

#[test]
fn a_source_that_is_down_is_told_at_once_and_the_command_ends_when_it_is_back() {
    for (arguments, end) in
        [(&["pull"][..], "pulled every event that "), (&["reconcile"], "in step with the source")]
    {
        let (source, data) = (source_with_users(3), tempfile::tempdir().unwrap());
        let faulty = Faulty::before(&source.url);
        faulty.fail("", u32::MAX, Fault::Status(503));
        let server = start(data.path(), &faulty.url);
        let mut waiting = Waiting::start(&server, arguments);
        let told = waiting.line();
        assert_says(&told, &[&faulty.url, "the source answered with 503", "asks again", "Ctrl-C"]);
        assert_says(&status(&server), &["wrong: unavailable: the source answered with 503"]);
        faulty.heal();
        let output = waiting.child.wait_with_output().unwrap();
        assert_says(&out(&output), &[end]);
    }
}

#[test]
fn a_source_that_does_not_list_says_how_long_it_is_tried() {
    let (source, data) = (source_with_users(3), tempfile::tempdir().unwrap());
    let faulty = Faulty::before(&source.url);
    let server = start(data.path(), &faulty.url);
    faulty.fail("/directory_groups", u32::MAX, Fault::Status(500));
    let mut waiting = Waiting::start(&server, &["reconcile"]);
    assert_says(&waiting.line(), &["answered with 500", "8 times", "its directory has failed"]);
    faulty.heal();
    assert_eq!(waiting.child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_source_that_refuses_ends_the_command_with_what_to_do() {
    let (source, data) = (source_with_users(3), tempfile::tempdir().unwrap());
    let server = Puller { key: "sk_wrong", ..Puller::of(data.path(), &source.url) }.start();
    for (command, expected) in
        [("pull", "nothing is pulled from"), ("reconcile", "the reconciliation failed")]
    {
        let refused = ask(&server, &[command]);
        assert_eq!(refused.status.code(), Some(2), "{command}");
        assert_says(&err(&refused), &[expected, "the source does not take the key"]);
    }
    assert_says(&err(&ask(&server, &["pull"])), &["WORKOS_API_KEY"]);
    assert_says(&status(&server), &["wrong: unauthorized", "WORKOS_API_KEY"]);
}

#[test]
fn a_key_of_another_server_reads_events_and_is_bound_to_no_organization() {
    let [folder, other, data] = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let config = folder.path().join("rollcall.toml");
    let both = "\"read\", \"audit\"";
    let entries = [
        entry("reads", "sk_key_that_reads", "\"read\""),
        entry("all", "sk_key_of_all_of_it", both),
        entry("bound", "sk_key_that_is_bound", both) + "organizations = [\"org_1\"]\n",
    ];
    std::fs::write(&config, entries.concat()).unwrap();
    let upstream = Server::start_with(other.path(), &["--config", config.to_str().unwrap()]);
    let at = now_ms() - 60_000;
    let activated = directory("directory_1", "Halden", at);
    upstream.deliver(&event("event_0", "dsync.activated", at, &activated));
    for (key, code, found) in [
        ("sk_key_that_reads", 1, "the key may not read its events (403)"),
        ("sk_key_that_is_bound", 1, "the key is bound to organizations"),
        ("sk_key_of_all_of_it", 0, "it answers and takes the key"),
    ] {
        let mut command = rollcall(&["config", "check", "--probe", "--listen", "127.0.0.1:0"]);
        command.args(["--pull", &upstream.url]).arg("--data").arg(folder.path().join("data"));
        command.env("ROLLCALL_API_KEYS", API_KEY).env("WORKOS_API_KEY", key);
        let output = command.env_remove("ROLLCALL_WEBHOOK_SECRETS").output().unwrap();
        assert_says(&printed(&output), &[&format!("pull {}: {found}", upstream.url)]);
        assert_eq!(output.status.code(), Some(code), "{key}");
    }
    let key = "sk_key_that_is_bound";
    let server = Puller { key, ..Puller::of(data.path(), &upstream.url) }.start();
    let told = until(&server, |source| !source["last_error"].is_null());
    assert_eq!(told["last_error"]["code"], "forbidden");
    assert_says(&status(&server), &["wrong: forbidden", "what concerns all organizations"]);
    let run = reconcile(&server, &whole());
    assert_eq!((&run["state"], &run["recorded"]), (&"failed".into(), &0.into()), "{run}");
    assert_says(run["error"].as_str().unwrap(), &["what concerns all organizations"]);
}

#[test]
fn a_directory_is_named_by_its_id_or_by_a_name_that_only_one_has() {
    let (source, data) = (source_with_users(2), tempfile::tempdir().unwrap());
    add_directory(&source, "directory_2", 2);
    let server = start(data.path(), &source.url);
    // Nothing is known here yet: the source knows the id.
    out(&ask(&server, &["reconcile", "--directory", "directory_2"]));
    out(&ask(&server, &["reconcile", "--directory", "Halden"]));
    let unknown = ask(&server, &["reconcile", "--directory", "Haldn"]);
    assert_eq!(unknown.status.code(), Some(1));
    assert_says(
        &err(&unknown),
        &["no directory `Haldn` was ever seen", "near matches", "directory_2"],
    );
    out(&ask(&server, &["reconcile"]));
    let ambiguous = ask(&server, &["reconcile", "--directory", "Halden"]);
    assert_eq!(ambiguous.status.code(), Some(1));
    assert_says(&err(&ambiguous), &["2 directories have the name `Halden`", "directory_1"]);
}

#[test]
fn emails_names_and_values_are_for_keys_that_may_read() {
    let (source, data) = (source_with_users(3), tempfile::tempdir().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("rollcall.toml");
    let keys = [
        ("operates", "\"operate\""),
        ("reads", "\"operate\", \"read\""),
        ("audits", "\"operate\", \"audit\""),
    ];
    let entries = keys.map(|(name, scopes)| entry(name, &format!("sk_key_that_{name}"), scopes));
    std::fs::write(&config, entries.concat()).unwrap();
    let options = ["--config", config.to_str().unwrap()];
    let server = Puller { options: &options, ..Puller::of(data.path(), &source.url) }.start();
    out(&ask(&server, &["reconcile"]));
    source.contents().users.get_mut(&user_id(1)).unwrap()["email"] = "new@foo.example".into();
    out(&ask(&server, &["reconcile"]));
    for (name, shows) in [("operates", false), ("reads", true), ("audits", true)] {
        let key = format!("sk_key_that_{name}");
        let authorization = format!("Bearer {key}");
        let path = "/rollcall/v1/reconciliations";
        let runs = get(&agent(), &server.url, path, &[("Authorization", &authorization)]);
        let text = String::from_utf8(runs.body.clone()).unwrap();
        assert_eq!(text.contains("new@foo.example"), shows, "{name}: {text}");
        assert_eq!(text.contains("Crew") || text.contains("Ada"), shows, "{name}: {text}");
        let mut command = rollcall(&["reconcile", "--dry-run"]);
        source.contents().users.get_mut(&user_id(2)).unwrap()["email"] = "n2@foo.example".into();
        let table = out(&command.args(["--url", &server.url, "--api-key", &key]).output().unwrap());
        assert_eq!(table.contains("n2@foo.example"), shows, "{name}: {table}");
        let row = row(&table, "~ user");
        assert!(row[0].contains(&user_id(2)) && row[1].starts_with("email"), "{table}");
    }
}

#[test]
fn only_one_reconciliation_runs_and_a_server_without_a_source_says_so() {
    let (source, data): (StandIn, _) = (source_with_users(3), tempfile::tempdir().unwrap());
    let faulty = Faulty::before(&source.url);
    let server = start(data.path(), &faulty.url);
    faulty.fail("/directories?", u32::MAX, Fault::Status(500));
    let begun = out(&ask(&server, &["reconcile", "--no-wait"]));
    assert_says(&begun, &["reconciliation run_", " is running", "`rollcall status`"]);
    let second = ask(&server, &["reconcile"]);
    assert_eq!(second.status.code(), Some(1));
    assert_says(&err(&second), &["a reconciliation is running"]);
    assert_eq!(server.stop(), 0);
    let without = Server::start(data.path());
    for command in ["pull", "reconcile"] {
        let refused = ask(&without, &[command]);
        assert_eq!(refused.status.code(), Some(1), "{command}");
        assert_says(&err(&refused), &["start it with --pull"]);
    }
}
