//! Differences between two moments, case by case: a history in the notation of `roles.rs`, the two
//! moments, and every difference.
//!
//! A question is `@1>@4` for two moments in seconds. A missing moment is the latest, `k3` behind a
//! moment is what was known at record 3, and `D ` at the front narrows the question to a directory.
//! An answer is `+user:U` for what was added, `-` for what was
//! removed, `~user:U{…}` with the fields of what was changed, as the server wrote them;
//! `member:U,G` and `role:U,dev`.

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::calls::roles::{moment, stage};
use crate::cli::read::{ask, ask_folder, err, lines, out};
use crate::kit::model::{read_time, rfc3339};
use crate::kit::server::{Answer, Server, now_ms};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Item {
    object: String,
    kind: String,
    change: String,
    user_id: Option<String>,
    group_id: Option<String>,
    role: Option<String>,
    changed: Box<RawValue>,
}

impl Item {
    fn short(&self) -> String {
        assert_eq!(self.object, "difference");
        let whose = match (self.kind.as_str(), &self.user_id, &self.group_id, &self.role) {
            ("user", Some(user), None, None) => format!("user:{user}"),
            ("group", None, Some(group), None) => format!("group:{group}"),
            ("membership", Some(user), Some(group), None) => format!("member:{user},{group}"),
            ("role", Some(user), None, Some(role)) => format!("role:{user},{role}"),
            other => panic!("{other:?}"),
        };
        match (self.change.as_str(), self.changed.get()) {
            ("added", "{}") => format!("+{whose}"),
            ("removed", "{}") => format!("-{whose}"),
            ("changed", changed) if changed != "{}" => format!("~{whose}{changed}"),
            other => panic!("{other:?}"),
        }
    }
}

#[derive(Deserialize)]
struct Page {
    data: Vec<Item>,
    list_metadata: Value,
}

/// The differences of an answer, and the cursor of the next page.
fn read(path: &str, answer: &Answer) -> (Vec<String>, Option<String>) {
    assert_eq!(answer.status, 200, "{path}: {}", answer.json());
    let page: Page = serde_json::from_slice(&answer.body).unwrap();
    assert!(page.list_metadata["before"].is_null(), "{path}");
    (
        page.data.iter().map(Item::short).collect(),
        page.list_metadata["after"].as_str().map(str::to_owned),
    )
}

/// The path of a question in the notation.
fn path(ask: &str) -> String {
    let (directory, moments) =
        ask.split_once(' ').map_or((None, ask), |(directory, moments)| (Some(directory), moments));
    let (from, to) = moments.split_once('>').unwrap();
    let mut path = "/rollcall/v1/diff?".to_owned();
    for (name, side) in [("from", from), ("to", to)] {
        let (at, known_at) = side.split_once('k').map_or((side, None), |(at, seq)| (at, Some(seq)));
        let at = at
            .strip_prefix('@')
            .map_or("latest".to_owned(), |second| rfc3339(moment(second.parse().unwrap())));
        path += &format!("{name}={at}&");
        path += &known_at.map_or(String::new(), |seq| format!("{name}_known_at={seq}&"));
    }
    path + &directory.map_or(String::new(), |directory| format!("directory={directory}&"))
}

/// All differences, page by page.
fn walk(server: &Server, path: &str, limit: usize) -> Vec<String> {
    let (mut found, mut after) = (Vec::new(), String::new());
    loop {
        let path = format!("{path}limit={limit}{after}");
        let (items, next) = read(&path, &server.get(&path));
        assert!(items.len() <= limit && (next.is_none() || items.len() == limit), "{path}");
        found.extend(items);
        match next {
            Some(next) => after = format!("&after={next}"),
            None => return found,
        }
    }
}

/// Case, history, moments, and differences.
type Row = (&'static str, &'static str, &'static str, &'static str);

#[rustfmt::skip]
const DIFFERENCES: &[Row] = &[
    ("nothing before, all of it after", "U@1 G=Eng@1 +G,U@2", "@0>@2",
        "+user:U +group:G +member:U,G"),
    ("the other way round", "U@1 G=Eng@1 +G,U@2", "@2>@0", "-user:U -group:G -member:U,G"),
    ("the second moment is the latest where it is not told", "U@1 V@5", "@1>", "+user:V"),
    ("the first moment may be the latest", "U@1 V@5", ">@1", "-user:V"),
    ("the same moment", "U@1 G=Eng@1 +G,U@2", "@2>@2", ""),
    ("by kind, then by id", "V@1 U@1 H=Ops@1 G=Eng@1 +H,U@2 +G,V@2 +G,U@2 +H,V@2", "@0>",
        "+user:U +user:V +group:G +group:H +member:U,G +member:U,H +member:V,G +member:V,H"),

    ("what a user became", r#"U{"email":"a@x","level":1}@1 U{"email":"b@x","level":1.0}@3"#,
        "@2>@3",
        r#"~user:U{"email":{"from":"a@x","to":"b@x"},"level":{"from":1,"to":1.0}}"#),
    ("what lies between is not told", r#"U{"email":"a@x"}@1 U{"email":"b@x"}@2 U{"email":"c@x"}@3"#,
        "@1>@3", r#"~user:U{"email":{"from":"a@x","to":"c@x"}}"#),
    ("another record that says the same",
        r#"U{"email":"a@x"}@1 U{"email":"b@x"}@2 U{"email":"a@x"}@3"#, "@1>@3", ""),
    ("attributes key by key",
        r#"U{"custom_attributes":{"a":1,"b":2}}@1 U{"custom_attributes":{"b":3,"a":1}}@2"#, "@1>@2",
        r#"~user:U{"custom_attributes.b":{"from":2,"to":3}}"#),
    ("an inactive user is there, and changed", r#"U{"state":"active"}@1 U:inactive@2"#, "@1>@2",
        r#"~user:U{"state":{"from":"active","to":"inactive"}}"#),
    ("a group that is renamed", "G=Eng@1 G=Ops@2", "@1>@2",
        r#"~group:G{"name":{"from":"Eng","to":"Ops"}}"#),
    ("deleted and created again", r#"U{"email":"a@x"}@1 +G,U@1 xU@2 U{"email":"b@x"}@3"#, "@1>@3",
        r#"~user:U{"email":{"from":"a@x","to":"b@x"}} -member:U,G"#),
    ("deleted and created again, the same", "U@1 xU@2 U@3", "@1>@3", ""),
    ("gone for a while", "U@1 xU@2 U@3", "@1>@2", "-user:U"),
    ("a snapshot that stands in, then the first event of its own", r#"+G,U@1 U{"email":"a@x"}@2"#,
        "@1>@2",
        r#"~user:U{"directory_id":{"from":null,"to":"D"},"email":{"from":null,"to":"a@x"}}"#),
    ("a membership that ends and begins again", "U@0 G=Eng@0 +G,U@1 -G,U@2 +G,U@3", "@1>@3", ""),
    ("a membership ends", "U@0 G=Eng@0 +G,U@1 -G,U@2", "@1>@2", "-member:U,G"),
    ("a group's end ends its memberships", "U@0 G=Eng@0 +G,U@1 xG@2", "@1>@2",
        "-group:G -member:U,G"),
    ("a directory's end ends all in it", "U@0 V/E@0 G=Eng@0 +G,U@1 xD@2", "@1>@2",
        "-user:U -group:G -member:U,G"),
    ("an operator's deletion", "U@0 V/E@0 DELETE:D", "@1>", "-user:U"),

    ("the same moment as it was known at two records", "U@1 V@1 xU@2", "@3k2>@3k3", "-user:U"),
    ("the same moment, before a late event was known",
        r#"U{"email":"a@x"}@1 U{"email":"c@x"}@5 U{"email":"b@x"}@3"#, "@4k2>@4",
        r#"~user:U{"email":{"from":"a@x","to":"b@x"}}"#),
    ("nothing known", "U@1 G=Eng@1 +G,U@2", ">k0", "-user:U -group:G -member:U,G"),
    ("from nothing known", "U@1", "k0>", "+user:U"),

    ("roles of the source, before any mapping",
        concat!(
            r#"U{"role":{"slug":"admin"},"roles":[{"slug":"admin"},{"slug":"dev"}]}@1 "#,
            r#"U{"roles":[{"slug":"dev"},{"slug":"ops"}]}@2"#,
        ), "@1>@2",
        concat!(
            r#"~user:U{"role":{"from":{"slug":"admin"},"to":null},"#,
            r#""roles":{"from":[{"slug":"admin"},{"slug":"dev"}],"to":[{"slug":"dev"},"#,
            r#"{"slug":"ops"}]}} -role:U,admin +role:U,ops"#,
        )),
    ("without access there are none", r#"U{"roles":[{"slug":"dev"}]}@1 !D@2"#, "@1>@2",
        "-role:U,dev"),
    ("an inactive user holds none",
        concat!(
            r#"U{"roles":[{"slug":"dev"}],"state":"active"}@1 U{"roles":[{"slug":"dev"}],"#,
            r#""state":"off"}@2"#,
        ), "@1>@2",
        r#"~user:U{"state":{"from":"active","to":"off"}} -role:U,dev"#),
    ("a mapping set between puts Rollcall's roles in the place of the source's",
        r#"U{"roles":[{"slug":"dev"}]}@1 G=Eng@1 +G,U@1 map{name:Eng=ops}@3"#, "@2>@3",
        "-role:U,dev +role:U,ops"),
    ("a role through a membership", "U@0 G=Eng@0 map{name:Eng=dev,ops;default=member}@0 +G,U@2",
        "@1>@2", "+member:U,G +role:U,dev -role:U,member +role:U,ops"),
    ("a role that is held for another reason is no difference",
        "U@0 G=Eng@0 H=Eng@0 map{name:Eng=dev}@0 +G,U@1 -G,U@2 +H,U@2", "@1>@2",
        "-member:U,G +member:U,H"),
    ("by the name of the role, whatever its priority", "U@0 map{default=b,a,c;priority=c,b,a}@2",
        "@1>@2", "+role:U,a +role:U,b +role:U,c"),
    ("a mapping known later", "U@0 map{default=a}@0 map{default=b}@0", "@1k2>@1",
        "-role:U,a +role:U,b"),
    ("a policy ends an inactive user", "U@0 G=Eng@0 +G,U@0 U:inactive@1 policy=delete@3", "@2>@3",
        "-user:U -member:U,G"),
    ("a policy known later", "U:inactive@1 policy=delete@0", "k1>", "-user:U"),

    ("narrowed to a directory", "U@1 V/E@1 G=Eng@1 H/E=Ops@1 +G,U@1 +H,V/E@1", "D @0>",
        "+user:U +group:G +member:U,G"),
    ("a member from there in a group from elsewhere", "U@1 H/E=Ops@1 +H,U/E@1", "D @0>",
        "+user:U +member:U,H"),
    ("a member from elsewhere in a group from there", "V/E@1 G=Eng@1 +G,V@1", "D @0>", "+group:G"),
    ("who moves out is removed there",
        r#"U{"roles":[{"slug":"dev"}]}@1 G=Eng@1 +G,U@1 U/E{"roles":[{"slug":"dev"}]}@2"#,
        "D @1>@2", "-user:U -member:U,G -role:U,dev"),
    ("who moves in is added there", "U@1 G=Eng@1 +G,U@1 U/E@2", "E @1>@2", "+user:U +member:U,G"),
    ("who moves is changed in the whole", "U@1 G=Eng@1 +G,U@1 U/E@2", "@1>@2",
        r#"~user:U{"directory_id":{"from":"D","to":"E"}}"#),
];

#[test]
fn every_difference_of_the_table_is_found_whole_and_page_by_page() {
    let mut failures = Vec::new();
    for (case, history, ask, expected) in DIFFERENCES {
        let (_folder, stage) = stage(history);
        for limit in [1000, 1, 2] {
            let found = walk(stage.server(), &path(ask), limit).join(" ");
            if found != *expected {
                failures.push(format!("{case}, {limit} a page:\n  {found}\n  {expected}"));
            }
        }
    }
    assert!(
        failures.is_empty(),
        "{} of {} rows:\n{}",
        failures.len(),
        DIFFERENCES.len(),
        failures.join("\n")
    );
}

/// Delivers one more event, under an id that no history gives.
fn deliver(server: &Server, id: &str, event: &str, data: &Value, second: i64) {
    let body =
        json!({ "id": id, "event": event, "created_at": rfc3339(moment(second)), "data": data });
    server.deliver(&body.to_string());
}

fn membership(user: &str) -> Value {
    json!({ "directory_id": "D", "user": { "id": user }, "group": { "id": "G" } })
}

#[test]
fn a_difference_has_every_field_and_the_headers_repeat_the_answer() {
    let (_folder, stage) = stage("U@1 G=Eng@1 +G,U@2 map{default=dev}@0");
    let asked = path("@1k4>@2");
    let answer = stage.server().get(&asked);
    let item = json!({
        "object": "difference", "kind": "membership", "change": "added", "user_id": "U",
        "group_id": "G", "role": null, "changed": {},
    });
    assert_eq!(
        answer.json(),
        json!({"object": "list", "data": [item], "list_metadata": {"before": null, "after": null}})
    );
    let header = |name: &str| answer.header(name).unwrap().to_owned();
    let [from, to] = [1, 2].map(|second| rfc3339(moment(second)));
    assert_eq!(
        [header("rollcall-from-as-of"), header("rollcall-from-known-at")],
        [from, "4".to_owned()]
    );
    assert_eq!([header("rollcall-as-of"), header("rollcall-known-at")], [to, "4".to_owned()]);
    deliver(stage.server(), "y", "dsync.group.user_removed", &membership("U"), 2);
    deliver(
        stage.server(),
        "z",
        "dsync.user.created",
        &json!({ "id": "V", "directory_id": "D" }),
        2,
    );
    let [from, from_known_at, to, to_known_at] =
        ["rollcall-from-as-of", "rollcall-from-known-at", "rollcall-as-of", "rollcall-known-at"]
            .map(header);
    let repeated = format!(
        "/rollcall/v1/diff?from={from}&from_known_at={from_known_at}&to={to}\
         &to_known_at={to_known_at}"
    );
    assert_eq!(stage.server().get(&repeated).body, answer.body);
    assert_ne!(stage.server().get(&asked).body, answer.body);
}

#[test]
fn a_known_at_in_time_is_taken_on_both_sides() {
    let (_folder, stage) = stage("U@1");
    // Whatever comes later is stamped later than a moment that was asked about.
    let first = rfc3339(now_ms());
    assert_eq!(stage.server().get(&format!("/directories?known_at={first}")).status, 200);
    deliver(
        stage.server(),
        "z",
        "dsync.user.created",
        &json!({ "id": "V", "directory_id": "D" }),
        1,
    );
    let asked = format!("/rollcall/v1/diff?from=latest&from_known_at={first}");
    let answer = stage.server().get(&asked);
    assert_eq!(read(&asked, &answer).0, ["+user:V"]);
    assert_eq!(
        (answer.header("rollcall-from-known-at"), answer.header("rollcall-known-at")),
        (Some("1"), Some("2"))
    );
}

#[test]
fn pages_go_on_from_their_place_whatever_arrives_between_them() {
    let (_folder, stage) = stage("U@1 V@1 G=Eng@1 +G,U@2 +G,V@2");
    let asked = path("@0>");
    let (mut found, next) = read(&asked, &stage.server().get(&format!("{asked}limit=2")));
    // Before the place, behind it, and what stands at the place itself is gone.
    for (id, user) in [("w", "A"), ("x", "W")] {
        deliver(
            stage.server(),
            id,
            "dsync.user.created",
            &json!({ "id": user, "directory_id": "D" }),
            1,
        );
    }
    deliver(stage.server(), "y", "dsync.group.user_added", &membership("W"), 2);
    deliver(stage.server(), "z", "dsync.user.deleted", &json!({ "id": "V" }), 3);
    let (more, next) =
        read(&asked, &stage.server().get(&format!("{asked}limit=3&after={}", next.unwrap())));
    assert_eq!(more, ["+user:W", "+group:G", "+member:U,G"]);
    found.extend(more);
    let (more, next) =
        read(&asked, &stage.server().get(&format!("{asked}limit=3&after={}", next.unwrap())));
    found.extend(more);
    assert_eq!(next, None);
    assert_eq!(found, ["+user:U", "+user:V", "+user:W", "+group:G", "+member:U,G", "+member:W,G"]);
}

#[test]
fn a_page_may_look_at_thousands_in_vain_before_it_finds_anything() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let told = |number: u32, name: &str, second: i64, id: &str| {
        let (user, at) = (format!("u{number:04}"), rfc3339(moment(second)));
        server.deliver(&crate::kit::server::user(&user, "d", name, &at, id, "dsync.user.updated"));
    };
    for number in 0..2600 {
        told(number, "ana", 0, &format!("e{number}"));
    }
    told(1023, "bo", 5, "first");
    told(1024, "bo", 5, "second");
    told(2599, "bo", 5, "last");
    let name = concat!(
        r#""email":{"from":"ana@foo.example","to":"bo@foo.example"},"first_name":{"from":"ana","#,
        r#""to":"bo"}"#,
    );
    let expected = ["1023", "1024", "2599"].map(|number| format!("~user:u{number}{{{name}}}"));
    assert_eq!(walk(&server, &path("@1>"), 1), expected);
    assert_eq!(walk(&server, &path("@1>"), 1000), expected);
    assert_eq!(walk(&server, &path("d @1>"), 2), expected);
    // All are added, some hundred at a time.
    assert_eq!(walk(&server, &path("@-1>@1"), 999).len(), 2600);
}

#[test]
fn bad_questions_about_differences_are_refused() {
    let (_folder, stage) = stage("U@1");
    let diff = "/rollcall/v1/diff";
    for (query, code, field) in [
        ("", "validation_failed", "from"),
        ("?from=", "validation_failed", "from"),
        ("?from=yesterday", "validation_failed", "from"),
        ("?from=latest&from=latest", "validation_failed", "from"),
        ("?from=latest&to=2026-03-02", "validation_failed", "to"),
        ("?from=9999-01-01T00:00:00Z", "as_of_in_future", "from"),
        ("?from=latest&to=9999-01-01T00:00:00Z", "as_of_in_future", "to"),
        ("?from=latest&from_known_at=2", "known_at_out_of_range", "from_known_at"),
        ("?from=latest&to_known_at=2", "known_at_out_of_range", "to_known_at"),
        ("?from=latest&to_known_at=9999-01-01T00:00:00Z", "known_at_out_of_range", "to_known_at"),
        ("?from=latest&from_known_at=x", "validation_failed", "from_known_at"),
        ("?from=latest&as_of=latest", "validation_failed", "as_of"),
        ("?from=latest&known_at=1", "validation_failed", "known_at"),
        ("?from=latest&order=asc", "validation_failed", "order"),
        ("?from=latest&before=user.55.", "validation_failed", "before"),
        ("?from=latest&limit=1001", "validation_failed", "limit"),
        ("?from=latest&after=user", "cursor_invalid", "after"),
        ("?from=latest&after=person.55.", "cursor_invalid", "after"),
        ("?from=latest&after=user.5.", "cursor_invalid", "after"),
    ] {
        let answer = stage.server().get(&format!("{diff}{query}"));
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (422, code),
            "{query}: {}",
            answer.json()
        );
        assert_eq!(answer.json()["errors"][0]["field"], field, "{query}");
    }
    assert!(
        read_time(
            stage
                .server()
                .get(&format!("{diff}?from=2026-03-02T00:00:00Z"))
                .header("rollcall-from-as-of")
                .unwrap()
        )
        .is_some()
    );
}

// --- The command ---

/// One difference of each kind and change, of values that a table and a line of values must take as
/// they are.
const COMPANY: &str = concat!(
    r#"U{"email":"a@x","job_title":"Lead,Ops"}@1 V{"email":"v@x"}@1 G=Eng@1 H=Ops@1 +H,V@1 "#,
    r#"U{"email":"b@x","job_title":"\"=x\""}@3 +G,U@3 G=Dev@3 xV@3 map{default=member}@3"#,
);

#[test]
fn the_command_draws_a_table_and_says_of_which_moments() {
    let (_folder, stage) = stage(COMPANY);
    let [from, to] = [2, 3].map(|second| rfc3339(moment(second)));
    let output = ask(stage.server(), &["diff", &from, &to]);
    let table = r#"
kind        change   id  called  what       from        to
user        changed  U   b@x     email      "a@x"       "b@x"
user        changed  U   b@x     job_title  "Lead,Ops"  "\"=x\""
user        removed  V   v@x
group       changed  G   Dev     name       "Eng"       "Dev"
membership  added    U   b@x     G, Dev
membership  removed  V   v@x     H, Ops
role        added    U   b@x     member
"#;
    assert_eq!(out(&output), table.trim_start());
    assert_eq!(
        err(&output),
        format!("6 differences, from {from}, known at record 10, to {to}, known at record 10\n")
    );
    let first = ask(stage.server(), &["diff", &from, &to, "--limit", "1"]);
    assert_eq!(
        (out(&first).lines().count(), err(&first).split(',').next()),
        (3, Some("the first 1 difference"))
    );
    let none = ask(stage.server(), &["diff", "latest", "--directory", "D"]);
    assert_eq!(
        (out(&none).lines().count(), err(&none).as_str()),
        (1, "0 differences, from latest, known at record 10, to latest, known at record 10\n")
    );
}

#[test]
fn the_command_writes_what_the_api_sends_and_values_for_spreadsheets() {
    let (folder, mut stage) = stage(COMPANY);
    let [from, to] = [2, 3].map(|second| rfc3339(moment(second)));
    let api = lines(stage.server(), &path("@2>@3"));
    assert_eq!(out(&ask(stage.server(), &["diff", &from, &to, "--json"])), api);
    let csv = out(&ask(stage.server(), &["diff", &from, &to, "--csv"]));
    let expected = r#"
kind,change,user_id,group_id,role,field,from,to
user,changed,U,,,email,"""a@x""","""b@x"""
user,changed,U,,,job_title,"""Lead,Ops""","""\""=x\"""""
user,removed,V,,,,,
group,changed,,G,,name,"""Eng""","""Dev"""
membership,added,U,G,,,,
membership,removed,V,H,,,,
role,added,U,,member,,,
"#;
    assert_eq!(csv, expected.trim_start());
    // What was known at the first moment, a page of one each, a moment of long ago.
    let known = lines(stage.server(), &path("k3>"));
    assert_eq!(
        out(&ask(stage.server(), &["diff", "latest", "--from-known-at", "3", "--json"])),
        known
    );
    assert_eq!(
        out(&ask(stage.server(), &["diff", "30000d", "--to-known-at", "1", "--json"])),
        lines(stage.server(), &path("@0>k1"))
    );
    assert_eq!(stage.server.take().unwrap().stop(), 0);
    assert_eq!(out(&ask_folder(folder.path(), &["diff", &from, &to, "--json"])), api);
}

#[test]
fn a_diff_over_many_pages_is_of_two_moments() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let at = rfc3339(moment(0));
    for number in 0..2050 {
        server.deliver(&crate::kit::server::user(
            &format!("u{number:04}"),
            "d",
            "ana",
            &at,
            &format!("e{number}"),
            "dsync.user.created",
        ));
    }
    let before = rfc3339(moment(-1));
    let told = out(&ask(&server, &["diff", &before, "--json"]));
    let users = told.lines().map(|line| {
        serde_json::from_str::<Value>(line).unwrap()["user_id"].as_str().unwrap().to_owned()
    });
    assert!(users.eq((0..2050).map(|number| format!("u{number:04}"))));
    assert_eq!(
        out(&ask(&server, &["diff", &before, "--csv", "--limit", "2001"])).lines().count(),
        2002
    );
}

#[test]
fn what_the_command_cannot_ask_is_told_in_its_words() {
    let (_folder, stage) = stage("U@1");
    for (arguments, told) in [
        (&["diff"][..], "<FROM>"),
        (&["diff", "9999-01-01T00:00:00Z"], "FROM: `from` is later than this server's clock"),
        (&["diff", "latest", "9999-01-01T00:00:00Z"], "TO: `to` is later than this server's clock"),
        (
            &["diff", "latest", "--from-known-at", "2"],
            "--from-known-at: `from_known_at` is above the last record",
        ),
        (&["diff", "latest", "--json", "--csv"], "cannot be used with"),
    ] {
        let output = ask(stage.server(), arguments);
        assert!(
            output.status.code() == Some(1) && err(&output).contains(told),
            "{arguments:?}: {}",
            err(&output)
        );
    }
}
