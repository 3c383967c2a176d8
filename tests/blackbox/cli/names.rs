//! Ids and names on the command line: one that was never seen is an error, and not an empty answer.

use std::process::Output;

use crate::calls::names::named_things;
use crate::cli::read::{ask, ask_folder, err, out};
use crate::kit::server::{Server, user};

/// Each option that takes an id, after its command; and the kind of thing.
const OPTIONS: [(&[&str], &str); 25] = [
    (&["users"], "user"),
    (&["users", "--directory"], "directory"),
    (&["users", "--group"], "group"),
    (&["users", "--organization"], "organization"),
    (&["groups"], "group"),
    (&["groups", "--directory"], "directory"),
    (&["groups", "--user"], "user"),
    (&["groups", "--organization"], "organization"),
    (&["directories"], "directory"),
    (&["directories", "--organization"], "organization"),
    (&["roles", "--user"], "user"),
    (&["roles", "--history", "--user"], "user"),
    (&["roles", "--group"], "group"),
    (&["roles", "--directory"], "directory"),
    (&["roles", "--organization"], "organization"),
    (&["roles", "--role"], "role"),
    (&["deprovisioned", "--user"], "user"),
    (&["deprovisioned", "--directory"], "directory"),
    (&["deprovisioned", "--organization"], "organization"),
    (&["diff", "30d", "--directory"], "directory"),
    (&["audit"], "user"),
    (&["events", "--type"], "event type"),
    (&["events", "--organization"], "organization"),
    (&["status", "--directory"], "directory"),
    (&["status", "--organization"], "organization"),
];

/// Returns what a refused command wrote to standard error.
fn refused(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{}", err(output));
    assert!(output.stdout.is_empty(), "{}", String::from_utf8_lossy(&output.stdout));
    err(output)
}

#[test]
fn what_no_record_ever_named_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let server = named_things(folder.path());
    let expected = |kind: &str, id: &str| format!("rollcall: no {kind} `{id}` was ever seen\n");
    let by_name = |name: &str| {
        let advice = "users are found by id or email, not by name";
        format!("rollcall: no user `{name}` was ever seen: {advice}\n")
    };
    let nowhere =
        |kind| if kind == "user" { by_name("nowhere") } else { expected(kind, "nowhere") };
    for (command, kind) in OPTIONS {
        for form in [&[][..], &["--json"]] {
            let output = ask(&server, &[command, &["nowhere"], form].concat());
            assert_eq!(refused(&output), nowhere(kind), "{command:?}");
        }
    }
    for name in ["Grace Fitzroy", "Grace", "Grace 2_b"] {
        assert_eq!(refused(&ask(&server, &["audit", name])), by_name(name));
    }
    for id in ["u_nowhere", "u9", "0190-ab"] {
        assert_eq!(refused(&ask(&server, &["audit", id])), expected("user", id));
    }
    let follow = ["events", "--follow", "--organization", "nowhere"];
    assert_eq!(refused(&ask(&server, &follow)), expected("organization", "nowhere"));
    for email in [&["users"][..], &["roles", "--user"], &["deprovisioned", "--user"]] {
        let output = ask(&server, &[email, &["eva@foo.example"]].concat());
        assert_eq!(refused(&output), expected("user", "eva@foo.example"), "{email:?}");
    }
    assert_eq!(server.stop(), 0);
    for (command, kind) in OPTIONS.into_iter().step_by(6) {
        let output = ask_folder(folder.path(), &[command, &["nowhere"]].concat());
        assert_eq!(refused(&output), nowhere(kind), "{command:?}");
    }
}

#[test]
fn near_matches_and_things_of_one_name_are_listed() {
    let folder = tempfile::tempdir().unwrap();
    let server = named_things(folder.path());
    let cases: [(&[&str], &str); 8] = [
        (
            &["users", "--group", "Platfrom"],
            "no group `Platfrom` was ever seen; near matches:\n  \
             id     name      directory  organization\n  \
             g_new  Platform  d2         org_labs\n",
        ),
        (
            &["directories", "Halden"],
            "no directory `Halden` was ever seen; near matches:\n  \
             id  name             organization\n  \
             d1  Halden Robotics  org_halden\n  \
             d2  Halden Labs      org_labs\n",
        ),
        (
            &["audit", "u_an"],
            "no user `u_an` was ever seen; near matches:\n  \
             id      name  directory  organization\n  \
             u_ana   ana   d1         org_1\n  \
             u_ana2  ana   d2         org_1\n",
        ),
        (
            &["roles", "--role", "develper"],
            "no role `develper` was ever seen; near matches: `developer`\n",
        ),
        (
            &["events", "--type", "dsync.user.created,user.created"],
            "no event type `user.created` was ever seen; near matches: `dsync.user.created`\n",
        ),
        (
            &["events", "--organization", "org_h"],
            "no organization `org_h` was ever seen; near matches: `org_halden`\n",
        ),
        (
            &["groups", "--user", "ana@foo.example"],
            "2 users have the email `ana@foo.example`: give the id of one\n  \
             id      name  directory  organization\n  \
             u_ana   ana   d1         org_1\n  \
             u_ana2  ana   d2         org_1\n",
        ),
        (
            &["users", "--group", "Sales"],
            "2 groups have the name `Sales`: give the id of one\n  \
             id         name   directory  organization\n  \
             g_sales_1  Sales  d1         org_halden\n  \
             g_sales_2  Sales  d2         org_labs\n",
        ),
    ];
    for (arguments, expected) in cases {
        let told = refused(&ask(&server, arguments));
        assert_eq!(told, format!("rollcall: {expected}"), "{arguments:?}");
    }
}

#[test]
fn a_name_is_as_good_as_the_id() {
    let folder = tempfile::tempdir().unwrap();
    let server = named_things(folder.path());
    let cases: [(&[&str], &[&str], &[&str]); 12] = [
        (&["users", "--group"], &["Infrastructure"], &["g_platform"]),
        (&["users", "--directory", "d2", "--group"], &["Sales"], &["g_sales_2"]),
        (&["users"], &["Bo@foo.example"], &["u_bo"]),
        (&["groups"], &["Caf\u{e9}"], &["g_cafe"]),
        (&["groups", "--directory"], &["Halden Robotics"], &["d1"]),
        (&["groups", "--user"], &["bo@foo.example"], &["u_bo"]),
        (&["directories"], &["Halden Labs"], &["d2"]),
        (&["roles", "--user"], &["bo@foo.example"], &["u_bo"]),
        (&["roles", "--group"], &["Infrastructure"], &["g_platform"]),
        (&["deprovisioned", "--user"], &["bo@foo.example"], &["u_bo"]),
        (&["diff", "2026-01-05", "--directory"], &["Halden Labs"], &["d2"]),
        (
            &["groups"],
            &["Platform", "--as-of", "2026-01-05T00:00:00Z"],
            &["g_platform", "--as-of", "2026-01-05T00:00:00Z"],
        ),
    ];
    for (command, named, known) in cases {
        let named = ask(&server, &[command, named, &["--json"]].concat());
        let known = ask(&server, &[command, known, &["--json"]].concat());
        assert_eq!(out(&named), out(&known), "{command:?}");
        assert!(!out(&named).is_empty(), "{command:?}");
    }
}

#[test]
fn what_was_seen_is_cut_by_what_was_known_and_not_by_the_moment() {
    let folder = tempfile::tempdir().unwrap();
    let server = named_things(folder.path());
    let early = ["users", "--group", "g_new", "--json", "--as-of", "2026-01-02"];
    assert_eq!(out(&ask(&server, &early)), "", "an empty list");
    for (known_at, seen) in [("10", true), ("9", false)] {
        let output = ask(&server, &["users", "--group", "g_new", "--known-at", known_at]);
        if seen {
            out(&output);
        } else {
            let told = refused(&output);
            assert_eq!(told, "rollcall: no group `g_new` was ever seen up to record 9\n");
        }
    }
    for (from, to, code) in [("1", "1", 1), ("2", "1", 0), ("1", "2", 0)] {
        let moments = ["--from-known-at", from, "--to-known-at", to];
        let output = ask(&server, &[&["diff", "30d", "--directory", "d2"], &moments[..]].concat());
        assert_eq!(output.status.code(), Some(code), "{from} {to}: {}", err(&output));
    }
}

#[test]
fn what_is_outside_the_given_scope_is_an_error_that_says_where_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let server = named_things(folder.path());
    let bo = "user `bo@foo.example`; seen in:\n  \
        id    name  directory  organization\n  \
        u_bo  bo    d1         org_1\n";
    let cafe = "group `Caf\u{e9}`; seen in:\n  \
        id      name  directory  organization\n  \
        g_cafe  Cafe\u{301}  d2         org_labs\n";
    let labs = "directory `Halden Labs`; seen in:\n  \
        id  name         organization\n  \
        d2  Halden Labs  org_labs\n";
    let roles = ["roles", "--user", "bo@foo.example", "--organization", "org_labs"];
    for (arguments, expected) in [
        (&roles[..], format!("`org_labs` has no {bo}")),
        (&[&roles[..], &["--history"]].concat(), format!("`org_labs` has no {bo}")),
        (&["roles", "--user", "bo@foo.example", "--directory", "d2"], format!("`d2` has no {bo}")),
        (
            &["users", "--group", "Caf\u{e9}", "--directory", "Halden Robotics"],
            format!("`d1` has no {cafe}"),
        ),
        (
            &["users", "--directory", "Halden Labs", "--organization", "org_halden"],
            format!("`org_halden` has no {labs}"),
        ),
    ] {
        let told = refused(&ask(&server, arguments));
        assert_eq!(told, format!("rollcall: {expected}"), "{arguments:?}");
    }
}

#[test]
fn a_question_about_the_past_counts_all_who_ever_had_the_email() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    for (id, day, change) in [("u1", 1, "created"), ("u1", 2, "deleted"), ("u2", 3, "created")] {
        let (at, event) = (format!("2026-01-0{day}T00:00:00Z"), format!("dsync.user.{change}"));
        server.deliver(&user(id, "d1", "ana", &at, &format!("e{day}"), &event));
    }
    let expected = "rollcall: 2 users have or had the email `ana@foo.example`: \
        give the id of one\n  \
        id  name  directory  organization\n  \
        u1        d1         org_1\n  \
        u2  ana   d1         org_1\n";
    for command in [&["deprovisioned"][..], &["roles", "--history"]] {
        let told = refused(&ask(&server, &[command, &["--user", "ana@foo.example"]].concat()));
        assert_eq!(told, expected, "{command:?}");
    }
    // A question about now is about the one who has it.
    out(&ask(&server, &["roles", "--user", "ana@foo.example"]));
    let lost = out(&ask(&server, &["deprovisioned", "--user", "u1", "--json"]));
    assert!(lost.contains(r#""user_id":"u1""#), "{lost}");
}

#[test]
fn what_does_not_exist_at_the_moment_is_called_by_the_name_that_was_given() {
    let folder = tempfile::tempdir().unwrap();
    let server = named_things(folder.path());
    let told = refused(&ask(&server, &["groups", "Legacy"]));
    let gone = "rollcall: group `Legacy` (g_old) does not exist as of latest, known at record ";
    assert!(told.starts_with(gone), "{told}");
    let told = refused(&ask(&server, &["groups", "Caf\u{e9}", "--as-of", "2026-01-02"]));
    let gone = "group `Caf\u{e9}` (g_cafe) does not exist as of 2026-01-02T00:00:00.000Z, ";
    assert!(told.contains(gone), "{told}");
    // An id was typed as it is.
    assert!(refused(&ask(&server, &["groups", "g_old"])).contains("'g_old'"));
}

#[test]
fn an_id_that_holds_an_at_sign_is_audited_as_an_id() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let at = "2026-01-01T00:00:00Z";
    server.deliver(&user("u@1", "d1", "ana", at, "e1", "dsync.user.created"));
    let page = out(&ask(&server, &["audit", "u@1"]));
    assert!(page.starts_with("ana, ana@foo.example\nhas access since "), "{page}");
    let lines = out(&ask(&server, &["audit", "u@1", "--json"]));
    assert!(!lines.contains(r#""kind":"accounts""#), "{lines}");
    let told = refused(&ask(&server, &["audit", "u@2"]));
    assert!(told.contains("no user has or had the email `u@2`"), "{told}");
}
