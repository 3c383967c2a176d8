//! The commands about roles: mappings, assignments, the policy, a rebuild. The company is that of
//! the story of roles.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Output, Stdio};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use serde_json::{Value, json};

use crate::cli::read::{ask, ask_folder, cells, err, lines, out, rollcall};
use crate::kit::server::{API_KEY, Server};
use crate::laws::stories::{Story, stories};

const ORGANIZATION: &str = "org_01K5REP0MFFBPWQF8MYV4H46JN";
const REORGANISED: &str = "2026-02-09T09:00:00.000Z";
const ACTIVATED: &str = "2025-10-06T08:00:00.000Z";

/// Engineers are developers by the name that their group had at first.
const BY_NAME: &str = r#"
default_roles = ["member"]
priority = ["admin", "developer", "dispatcher", "member"]

[[rules]]
group.name = "Engineering"
roles = ["developer"]

[[rules]]
group.name = "Operations"
roles = ["dispatcher"]

[[rules]]
attribute = "custom_attributes.duty"
values."on-call lead" = ["admin"]
"#;

fn story() -> Story {
    stories().into_iter().find(|story| story.name == "0013-roles-after-a-reorganisation").unwrap()
}

/// The id of a thing in the story, by what it is called.
fn id(story: &Story, called: &str) -> String {
    let named =
        story.events.iter().map(|event| serde_json::from_str::<Value>(event).unwrap()).find(
            |event| {
                let data = &event["data"];
                data["first_name"] == called || data["name"] == called
            },
        );
    named.unwrap()["data"]["id"].as_str().unwrap().to_owned()
}

/// A server that has the company up to its reorganisation, nineteen records, and no mapping.
fn reorganised(folder: &Path) -> Server {
    let server = Server::start(folder);
    for event in &story().events[..19] {
        server.deliver(event);
    }
    server
}

fn written(folder: &Path, name: &str, text: &str) -> String {
    let path: PathBuf = folder.join(name);
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

/// Runs a command with `input`.
fn ask_with(server: &Server, arguments: &[&str], input: &str) -> Output {
    let mut command = rollcall(arguments);
    command.args(["--url", &server.url, "--api-key", API_KEY]);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

pub fn refused(output: &Output) -> String {
    assert_eq!((output.status.code(), out_of(output)), (Some(1), String::new()), "{}", err(output));
    err(output)
}

fn out_of(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn versions(server: &Server) -> usize {
    server.get("/rollcall/v1/role_mapping/versions").json()["data"].as_array().unwrap().len()
}

/// A rule for the new name of the one half, and none for the other half.
fn half() -> String {
    let mut mapping: Value = toml_of_story();
    mapping["rules"]
        .as_array_mut()
        .unwrap()
        .push(json!({"group": {"name": "Platform Engineering"}, "roles": ["developer"]}));
    mapping.to_string()
}

/// The story's first mapping, which says what [`BY_NAME`] says.
fn toml_of_story() -> Value {
    story().acts.iter().find(|act| act.method == "PUT").unwrap().body.as_ref().unwrap()["mapping"]
        .clone()
}

#[test]
fn a_mapping_in_toml_is_set_and_shown() {
    let folder = tempfile::tempdir().unwrap();
    let server = reorganised(&folder.path().join("data"));
    assert!(out(&ask(&server, &["mapping", "show"])).starts_with("no mapping is in force"));
    assert!(cells(&out(&ask(&server, &["mapping", "versions"]))).is_empty());
    let file = written(folder.path(), "mapping.toml", BY_NAME);
    let output = ask(
        &server,
        &["mapping", "set", &file, "--effective-from", ACTIVATED, "--note", "by name", "--yes"],
    );
    let told = out(&output);
    // Under it Amara has her duty, Devan his default, and nobody is in a group named Engineering;
    // what is set is the twentieth record.
    for line in [
        "5 users have access: the roles of 5 would change, 5 would gain and 0 would lose a role; \
         3 would be left with default roles only",
        "warning: mapping.rules[0] (group Engineering): no group matches",
        "2 groups have no rule: Platform Engineering, Product Engineering",
        "version 1 is set, in force from 2025-10-06T08:00:00.000Z, record 20",
    ] {
        assert!(told.lines().any(|told| told == line), "`{line}` is missing from: {told}");
    }
    assert_eq!(err(&output), "");
    assert_eq!(server.get("/rollcall/v1/role_mapping").json()["mapping"], toml_of_story());
    let shown = out(&ask(&server, &["mapping", "show"]));
    let (head, rules) = shown.split_once("\n\n").unwrap();
    assert_eq!(
        rules,
        "\
rule  matches                           roles
0     group Engineering                 developer
1     group Operations                  dispatcher
2     attribute custom_attributes.duty  on-call lead: admin
"
    );
    assert!(
        head.contains("version        1\n") && head.contains("note           by name\n"),
        "{head}"
    );
    let body =
        String::from_utf8(server.get("/rollcall/v1/role_mapping?as_of=2026-01-01T00:00:00Z").body)
            .unwrap();
    assert_eq!(
        out(&ask(&server, &["mapping", "show", "--as-of", "2026-01-01T00:00:00Z", "--json"])),
        body + "\n"
    );
    assert!(
        out(&ask(&server, &["mapping", "show", "--known-at", "19"]))
            .starts_with("no mapping is in force")
    );
    let rows = cells(&out(&ask(&server, &["mapping", "versions"])));
    assert_eq!(rows.len(), 1);
    assert_eq!(
        [&rows[0][0], &rows[0][1], &rows[0][3], &rows[0][5], &rows[0][6]],
        ["1", ACTIVATED, "20", "3", "by name"]
    );
    assert_eq!(
        out(&ask(&server, &["mapping", "versions", "--json"])),
        lines(&server, "/rollcall/v1/role_mapping/versions")
    );
}

#[test]
fn a_preview_reads_like_a_diff_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let server = reorganised(&folder.path().join("data"));
    let file = written(folder.path(), "mapping", BY_NAME);
    out(&ask(&server, &["mapping", "set", &file, "--yes", "--effective-from", ACTIVATED]));
    // Amara leads the on-call duty, so that she has no default role to lose; Carmen is in the half
    // without a rule, Elif in Operations.
    let diff = "\
+ developer   anwosu@larkspur-freight.example     because Platform Engineering
+ developer   blindgren@larkspur-freight.example  because Platform Engineering
- member      blindgren@larkspur-freight.example  because default
+ developer   dpillai@larkspur-freight.example    because Platform Engineering
- member      dpillai@larkspur-freight.example    because default
";
    let totals = "
role        gaining  losing  before  after
admin       0        0       1       1
developer   3        0       0       3
dispatcher  0        0       1       1
member      0        2       3       1

5 users have access: the roles of 3 would change, 3 would gain and 2 would lose a role; 1 would \
be left with default roles only
warning: mapping.rules[0] (group Engineering): no group matches
1 group has no rule: Product Engineering
";
    let output = ask_with(&server, &["mapping", "preview", "-"], &half());
    assert_eq!(out(&output), format!("{diff}{totals}"));
    assert_eq!(err(&output), "compared with version 1, as of latest, known at record 20\n");
    let first_two: String = diff.lines().take(3).map(|line| format!("{line}\n")).collect();
    assert_eq!(
        out(&ask_with(&server, &["mapping", "preview", "-", "--limit", "2"], &half())),
        format!("{first_two}{totals}")
    );
    // Before the reorganisation it would have changed nothing: there the first rule does.
    let output = ask_with(
        &server,
        &[
            "mapping",
            "preview",
            "-",
            "--as-of",
            "2026-02-09T08:59:59.999Z",
            "--effective-from",
            ACTIVATED,
        ],
        &half(),
    );
    assert!(
        out(&output).contains("\n5 users have access, and no roles would change; 0 would"),
        "{}",
        out(&output)
    );
    // For programs: the whole as the server says it, then each change.
    let file = written(folder.path(), "half.json", &half());
    let told = out(&ask(&server, &["mapping", "preview", &file, "--json"]));
    let (whole, changes) = told.split_once('\n').unwrap();
    let body = format!(r#"{{"mapping":{}}}"#, half());
    let path = "/rollcall/v1/role_mapping/preview";
    assert_eq!(
        whole.as_bytes(),
        server
            .act("POST", &format!("{path}?limit=1"), serde_json::from_str(&body).ok().as_ref())
            .body
    );
    let all = server.act("POST", path, serde_json::from_str(&body).ok().as_ref()).json();
    let changes: Vec<Value> =
        changes.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(Value::from(changes), all["changes"]["data"]);
    assert_eq!((versions(&server), server.get("/readyz").json()["seq"].as_u64()), (1, Some(20)));
    // And the same of the folder, once its server has stopped.
    let told = ask(&server, &["mapping", "preview", &file]);
    assert_eq!(server.stop(), 0);
    assert_eq!(ask_folder(&folder.path().join("data"), &["mapping", "preview", &file]), told);
}

#[test]
fn a_mapping_replaces_only_the_version_that_was_meant() {
    let folder = tempfile::tempdir().unwrap();
    let server = reorganised(&folder.path().join("data"));
    let set = |rest: &[&str]| {
        ask_with(&server, &[&["mapping", "set", "-", "--yes"], rest].concat(), BY_NAME)
    };
    let output = set(&["--if-match", "1"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        err(&output).contains("version 1 is not the latest; nothing was set"),
        "{}",
        err(&output)
    );
    assert!(out(&set(&["--if-match", "0"])).ends_with("record 20\n"));
    let output = set(&["--if-match", "0"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(err(&output).contains("a mapping is set already; nothing was set"), "{}", err(&output));
    let output = set(&["--if-match", "1", "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&out(&output)).unwrap()["version"], 2);
    assert!(err(&output).contains("no roles would change"), "{}", err(&output));
    assert_eq!(versions(&server), 2);
}

#[test]
fn a_mistake_in_a_mapping_is_told_where_it_stands() {
    let folder = tempfile::tempdir().unwrap();
    let server = reorganised(&folder.path().join("data"));
    let table = [
        (
            "m.toml",
            "priority = []\nrules = [x]\n",
            ["m.toml`, line 2, column 10: not valid TOML: "].as_slice(),
        ),
        (
            "m.json",
            "{\n \"mode\": \"all\"\n \"rules\": []}",
            &["m.json`, line 3, column 2: not valid JSON: "],
        ),
        ("m", "  {\"mode\": }", &["m`, line 1, column 12: not valid JSON: "]),
        (
            "n",
            "mode = \"any\"\n[[rules]]\ngroup.name = \"\"\nroles = [\"r\"]\n[[rules]]\nattribute \
             = \"a\"\n",
            &[
                "n` cannot be set:\n",
                "\n  mapping.mode: it must be `all` or `highest_priority`\n",
                "\n  mapping.rules[0].group.name: it must be a text of 1 to 1024 bytes\n",
                "\n  mapping.rules[1].values: it must be an object of roles by value\n",
            ],
        ),
        ("o.json", "[]", &["\n  mapping: it must be an object\n"]),
    ];
    for (name, text, wanted) in table {
        let file = written(folder.path(), name, text);
        for command in ["preview", "set"] {
            let told = refused(&ask(&server, &["mapping", command, &file]));
            for part in wanted {
                assert!(told.contains(part), "`{part}` is missing from: {told}");
            }
        }
    }
    let told = ask_with(
        &server,
        &["mapping", "set", "-", "--effective-from", "2999-01-01T00:00:00Z"],
        BY_NAME,
    );
    assert_eq!(told.status.code(), Some(1));
    assert!(
        err(&told).contains("\n  --effective-from: it is later than this server's clock\n"),
        "{}",
        err(&told)
    );
    assert!(
        refused(&ask_with(&server, &["mapping", "preview", "-", "--as-of", "2999-01-01"], BY_NAME))
            .contains("\n  --as-of: ")
    );
    assert!(
        refused(&ask(&server, &["mapping", "set", "/no/such/file"]))
            .contains("cannot read `/no/such/file`")
    );
    assert!(
        refused(&ask_with(&server, &["mapping", "set", "-"], "\u{0}")).contains("not valid TOML")
    );
    let file = written(folder.path(), "m.toml", BY_NAME);
    let data = folder.path().join("data");
    assert!(
        refused(&ask_folder(&data, &["mapping", "set", &file]))
            .contains("unexpected argument '--data'")
    );
    assert!(
        refused(&ask_folder(&data, &["mapping", "preview", &file]))
            .contains("in use by another process")
    );
    assert!(
        refused(
            &rollcall(&["mapping", "set", &file, "--url", &server.url, "--api-key", "wrong"])
                .output()
                .unwrap()
        )
        .contains("refused")
    );
    assert_eq!(versions(&server), 0);
    drop(server);
    let away =
        rollcall(&["mapping", "set", &file, "--url", "http://127.0.0.1:1", "--api-key", "k"])
            .output()
            .unwrap();
    assert_eq!(away.status.code(), Some(2), "{}", err(&away));
}

/// A server that has the whole story of roles.
fn told(folder: &Path) -> Server {
    let (server, story) = (Server::start(folder), story());
    for step in Story::steps(story.events.iter().map(String::as_str), story.deeds()) {
        match step {
            crate::laws::stories::Step::Event(event) => drop(server.deliver(event)),
            crate::laws::stories::Step::Act(act) => {
                assert_eq!(server.act(&act.method, &act.path, act.body.as_ref()).status, act.status)
            }
        }
    }
    server
}

#[test]
fn roles_are_told_with_their_reason_and_cause() {
    let folder = tempfile::tempdir().unwrap();
    let (server, story) = (told(folder.path()), story());
    let (carmen, operations) = (id(&story, "Carmen"), id(&story, "Operations"));
    let first = |rows: Vec<Vec<String>>, count: usize| -> Vec<Vec<String>> {
        rows.into_iter().map(|row| row[..count].to_vec()).collect()
    };
    let rows = first(cells(&out(&ask(&server, &["roles", "--role", "developer"]))), 6);
    let set_at =
        server.get("/rollcall/v1/role_mapping").json()["set_at"].as_str().unwrap().to_owned();
    assert_eq!(
        rows,
        [
            [
                "anwosu@larkspur-freight.example",
                "developer",
                "2025-10-06T08:00:03.000Z",
                "Platform Engineering",
                "rollcall.mapping.set",
                &set_at
            ],
            [
                "cortiz@larkspur-freight.example",
                "developer",
                "2026-02-09T09:00:00.300Z",
                "Product Engineering",
                "dsync.group.user_added",
                "2026-02-09T09:00:00.300Z"
            ],
            [
                "dpillai@larkspur-freight.example",
                "developer",
                "2026-02-09T09:00:00.500Z",
                "Platform Engineering",
                "dsync.group.user_added",
                "2026-02-09T09:00:00.500Z"
            ],
        ]
    );
    // Three users of one organization were left to the default, as believed under the first
    // mapping.
    let then = ["--as-of", "2026-02-10T12:00:00Z", "--known-at", "20"];
    let output = ask(
        &server,
        &[&["roles", "--organization", ORGANIZATION, "--role", "member"], &then[..]].concat(),
    );
    let rows = first(cells(&out(&output)), 5);
    assert_eq!(
        rows.iter().map(|row| &row[0][..6]).collect::<Vec<_>>(),
        ["blindg", "cortiz", "dpilla"]
    );
    assert_eq!(rows[0][2..], [REORGANISED, "default", "dsync.group.updated"]);
    assert_eq!(err(&output), "3 assignments, as of 2026-02-10T12:00:00.000Z, known at record 20\n");
    let rows = first(
        cells(&out(&ask(
            &server,
            &["roles", "--user", "CORTIZ@larkspur-freight.example", "--organization", ORGANIZATION],
        ))),
        4,
    );
    assert_eq!(
        rows,
        [[
            "cortiz@larkspur-freight.example",
            "developer",
            "2026-02-09T09:00:00.300Z",
            "Product Engineering"
        ]]
    );
    let rows = first(cells(&out(&ask(&server, &["roles", "--group", &operations]))), 4);
    assert_eq!(
        rows,
        [[
            "edemir@larkspur-freight.example",
            "dispatcher",
            "2025-10-06T08:00:03.400Z",
            "Operations"
        ]]
    );
    let history = ["roles", "--user", &carmen, "--history"];
    let rows = cells(&out(&ask(&server, &history)));
    let periods: Vec<[&str; 3]> = rows.iter().map(|row| [&row[0][..], &row[1], &row[2]]).collect();
    assert_eq!(
        periods,
        [
            ["member", "2025-10-06T08:00:01.300Z", "2025-10-06T08:00:03.200Z"],
            ["developer", "2025-10-06T08:00:03.200Z", "2026-01-19T15:00:00.000Z"],
            ["member", "2026-01-19T15:00:00.000Z", "2026-02-09T09:00:00.300Z"],
            ["developer", "2026-02-09T09:00:00.300Z", "-"],
        ]
    );
    assert!(rows[1][4].starts_with("dsync.group.user_removed event_"), "{:?}", rows[1]);
    // Two pages, and what programs read.
    assert_eq!(cells(&out(&ask(&server, &["roles", "--limit", "2"]))).len(), 2);
    assert_eq!(
        out(&ask(&server, &["roles", "--json"])),
        lines(&server, "/rollcall/v1/role_assignments")
    );
    let path = format!("/rollcall/v1/users/{carmen}/roles");
    assert_eq!(out(&ask(&server, &[&history[..], &["--json"]].concat())), lines(&server, &path));
    for (arguments, wanted) in [
        (
            &["roles", "--user", "nobody@larkspur-freight.example", "--organization", ORGANIZATION]
                [..],
            "no user `nobody@larkspur-freight.example` was ever seen",
        ),
        (&["roles", "--history"], "--user"),
        (&["roles", "--history", "--user", "nobody"], "no user `nobody` was ever seen"),
        (&["roles", "--known-at", "25"], "--known-at: "),
    ] {
        let told = refused(&ask(&server, arguments));
        assert!(told.contains(wanted), "{told}");
    }
    let questions =
        [&["roles"][..], &history, &["mapping", "show"], &["mapping", "versions"], &["policy"]];
    let told: Vec<Output> = questions.iter().map(|arguments| ask(&server, arguments)).collect();
    assert_eq!(server.stop(), 0);
    for (arguments, told) in questions.iter().zip(told) {
        assert_eq!(ask_folder(folder.path(), arguments), told, "{arguments:?}");
    }
}

#[test]
fn many_users_have_their_emails_beside_their_roles() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    // Ids of which each is the beginning of others, over more than a page, in two directories;
    // every third has no email.
    for n in 0..150 {
        let (directory, time) = (format!("directory_{}", n % 2), "2026-01-01T00:00:00Z");
        let event = crate::kit::server::user(
            &format!("u{n}"),
            &directory,
            &format!("p{n}"),
            time,
            &format!("event_{n}"),
            "dsync.user.created",
        );
        let mut event: Value = serde_json::from_str(&event).unwrap();
        if n % 3 == 0 {
            event["data"].as_object_mut().unwrap().remove("email");
        }
        server.deliver(&event.to_string());
    }
    out(&ask_with(&server, &["mapping", "set", "-", "--yes"], "default_roles = [\"member\"]"));
    let rows = cells(&out(&ask(&server, &["roles"])));
    let mut expected: Vec<String> = (0..150).map(|n| format!("u{n}")).collect();
    expected.sort();
    let called = |id: &String| {
        let n = id[1..].parse::<u32>().unwrap();
        if n % 3 == 0 { id.clone() } else { format!("p{n}@foo.example") }
    };
    assert_eq!(
        rows.iter().map(|row| row[0].clone()).collect::<Vec<_>>(),
        expected.iter().map(called).collect::<Vec<_>>()
    );
}

#[test]
fn the_policy_is_shown_and_set() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    assert_eq!(
        out(&ask(&server, &["policy"])),
        "inactive users  retain\nversion         0, none was set\n"
    );
    let set = [
        "policy",
        "--inactive-users",
        "delete",
        "--yes",
        "--effective-from",
        "2026-01-01T01:00:00+01:00",
        "--note",
        "so",
    ];
    let told = out(&ask(&server, &set));
    let rows: Vec<&str> = told.lines().collect();
    assert_eq!(
        rows[..3],
        ["inactive users  delete", "version         1", "in force from   2026-01-01T00:00:00.000Z"]
    );
    assert_eq!(out(&ask(&server, &["policy"])), told);
    let body = String::from_utf8(server.get("/rollcall/v1/policy").body).unwrap();
    assert_eq!(out(&ask(&server, &["policy", "--json"])), body + "\n");
    assert!(
        out(&ask(&server, &["policy", "--as-of", "2025-12-31T23:59:59.999Z"]))
            .contains("none was set")
    );
    for (arguments, wanted) in [
        (&["policy", "--inactive-users", "keep"][..], "possible values: retain, delete"),
        (&["policy", "--note", "so"], "--inactive-users"),
        (&["policy", "--note", "so", "--known-at", "0"], "cannot be used with"),
        (
            &["policy", "--inactive-users", "retain", "--yes", "--effective-from", "2999-01-01"],
            "--effective-from: it is later than",
        ),
    ] {
        let told = refused(&ask(&server, arguments));
        assert!(told.contains(wanted), "{told}");
    }
    let folder = folder.path().to_str().unwrap();
    let told =
        rollcall(&["policy", "--inactive-users", "retain", "--data", folder]).output().unwrap();
    assert!(refused(&told).contains("cannot be used with"), "{}", err(&told));
    assert_eq!(server.get("/readyz").json()["seq"], 1);
}

#[test]
fn a_rebuild_is_begun_and_watched_to_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let server = told(folder.path());
    let dumps = |server: &Server| -> Vec<Value> {
        let views =
            server.get("/rollcall/v1/projections").json()["data"].as_array().unwrap().clone();
        views.into_iter().map(|view| view["sha256"].clone()).collect()
    };
    let before = dumps(&server);
    let told = out(&ask(&server, &["rebuild"]));
    assert!(
        told.starts_with("rebuild 1 is done: read ") && told.ends_with(" a second\n"),
        "{told}"
    );
    assert_eq!(dumps(&server), before);
    let told: Value = serde_json::from_str(&out(&ask(&server, &["rebuild", "--json"]))).unwrap();
    assert_eq!(
        (&told["id"], &told["state"], &told["head"]),
        (&json!(2), &json!("done"), &json!(24))
    );
    let told = out(&ask(&server, &["rebuild", "--no-wait"]));
    assert!(told.starts_with("rebuild 3 is "), "{told}");
    assert!(
        refused(
            &rollcall(&["rebuild", "--url", &server.url, "--api-key", "wrong"]).output().unwrap()
        )
        .contains("refused")
    );
    assert_eq!(server.stop(), 0);
    let away =
        rollcall(&["rebuild", "--url", "http://127.0.0.1:1", "--api-key", "k"]).output().unwrap();
    assert_eq!(away.status.code(), Some(2), "{}", err(&away));
}

/// A command on a terminal of its own.
pub struct OnTerminal {
    child: Child,
    terminal: File,
}

impl OnTerminal {
    pub fn start(server: &Server, arguments: &[&str], environment: &[(&str, &str)]) -> OnTerminal {
        let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&terminal).unwrap();
        unlockpt(&terminal).unwrap();
        let path = ptsname(&terminal, Vec::new()).unwrap().into_string().unwrap();
        let end = || Stdio::from(OpenOptions::new().read(true).write(true).open(&path).unwrap());
        let mut command = rollcall(arguments);
        command
            .args(["--url", &server.url, "--api-key", API_KEY])
            .env("TERM", "xterm")
            .env_remove("NO_COLOR");
        command.envs(environment.iter().copied()).stdin(end()).stdout(end()).stderr(end());
        let child = command.spawn().unwrap();
        OnTerminal { child, terminal: File::from(terminal) }
    }

    /// Reads up to `end`, or all output.
    fn read_until(&mut self, end: &str) -> String {
        let (mut told, mut part) = (Vec::new(), [0; 1024]);
        while !String::from_utf8_lossy(&told).contains(end) {
            // A terminal that nobody holds any more breaks off.
            match self.terminal.read(&mut part) {
                Ok(read) if read > 0 => told.extend(&part[..read]),
                _ => break,
            }
        }
        String::from_utf8_lossy(&told).into_owned()
    }

    /// Waits for a question, and answers it.
    pub fn answer(&mut self, question: &str, answer: &str) {
        let told = self.read_until(question);
        assert!(told.contains(question), "{told:?}");
        self.terminal.write_all(format!("{answer}\n").as_bytes()).unwrap();
    }

    /// Reads the rest, and returns it with the exit code.
    pub fn end(mut self) -> (String, Option<i32>) {
        // No text holds this.
        let told = self.read_until("\u{0}");
        (told, self.child.wait().unwrap().code())
    }
}

#[test]
fn colours_are_for_terminals_only() {
    let folder = tempfile::tempdir().unwrap();
    let server = reorganised(&folder.path().join("data"));
    let file = written(folder.path(), "m.toml", "default_roles = [\"member\"]");
    let preview = ["mapping", "preview", &file];
    let (told, code) = OnTerminal::start(&server, &preview, &[]).end();
    assert_eq!(code, Some(0));
    assert!(told.contains("\u{1b}[32m+ member  anwosu@larkspur-freight.example"), "{told:?}");
    for environment in [[("NO_COLOR", "1")], [("TERM", "dumb")]] {
        let (told, code) = OnTerminal::start(&server, &preview, &environment).end();
        assert!(
            code == Some(0) && told.contains("+ member") && !told.contains('\u{1b}'),
            "{told:?}"
        );
    }
    assert!(!out(&ask(&server, &preview)).contains('\u{1b}'));
}

#[test]
fn on_a_terminal_it_asks_and_a_race_that_is_lost_meanwhile_sets_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let server = reorganised(&folder.path().join("data"));
    let file = written(folder.path(), "m.toml", BY_NAME);
    let set = ["mapping", "set", &file];
    let answered = |answer: &str, meanwhile: &dyn Fn()| {
        let mut terminal = OnTerminal::start(&server, &set, &[]);
        let told = terminal.read_until("[y/N]");
        assert!(told.contains("5 users have access") && told.contains("[y/N]"), "{told:?}");
        meanwhile();
        terminal.terminal.write_all(format!("{answer}\n").as_bytes()).unwrap();
        terminal.end()
    };
    let (told, code) = answered("n", &|| {});
    assert!(code == Some(1) && told.contains("nothing was set"), "{told:?}");
    assert_eq!(versions(&server), 0);
    let (told, code) = answered("y", &|| {});
    assert!(code == Some(0) && told.contains("version 1 is set"), "{told:?}");
    let other = json!({"mapping": {"default_roles": ["guest"]}});
    let (told, code) = answered("y", &|| {
        assert_eq!(server.act("PUT", "/rollcall/v1/role_mapping", Some(&other)).status, 200)
    });
    assert!(
        code == Some(1) && told.contains("version 1 is not the latest: another one was set since"),
        "{told:?}"
    );
    assert_eq!(
        server.get("/rollcall/v1/role_mapping").json()["mapping"]["default_roles"],
        json!(["guest"])
    );
    let (told, code) = OnTerminal::start(&server, &["mapping", "set", &file, "--yes"], &[]).end();
    assert!(
        code == Some(0) && told.contains("version 3 is set") && !told.contains("[y/N]"),
        "{told:?}"
    );
}
