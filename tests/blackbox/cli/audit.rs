//! `rollcall audit` and `rollcall deprovisioned`, on the stories.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Output, Stdio};

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use crate::cli::read::{ask, ask_folder, cells, err, lines, out, rollcall};
use crate::cli::roles::{OnTerminal, refused};
use crate::kit::server::{API_KEY, Server, now_ms, user};
use crate::laws::stories::stories;

const LUDO: &str = "directory_user_01JR7GS1MMD6GD9R738CM0TQQ5";
const SORAYA: &str = "directory_user_01JQR6Z5W0X08WAZ8W81VT2TCV";

/// A server that has the story of this number, each record at a millisecond of its own: pages are
/// compared by the times of records.
fn told(folder: &Path, number: &str) -> Server {
    let server = Server::start(folder);
    for event in &stories().iter().find(|story| story.name.starts_with(number)).unwrap().events {
        server.deliver(event);
        let taken = now_ms();
        while now_ms() == taken {}
    }
    server
}

/// When each record about a user was made, by the API, and how long after its event.
fn recorded(server: &Server, id: &str) -> BTreeMap<u64, (String, String)> {
    fn gather(value: &Value, found: &mut BTreeMap<u64, (String, String)>) {
        if let (Some(seq), Some(recorded), Some(occurred)) =
            (value["seq"].as_u64(), value["recorded_at"].as_str(), value["occurred_at"].as_str())
        {
            let at = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
            let hours = (at(recorded) - at(occurred)).num_hours();
            found.insert(seq, (recorded.to_owned(), format!("{} d {} h", hours / 24, hours % 24)));
        }
        value.as_array().into_iter().flatten().for_each(|value| gather(value, found));
        value
            .as_object()
            .into_iter()
            .flat_map(|object| object.values())
            .for_each(|value| gather(value, found));
    }
    let mut found = BTreeMap::new();
    for list in ["history", "access", "groups", "last_heard"] {
        gather(&server.get(&format!("/rollcall/v1/users/{id}/{list}")).json(), &mut found);
    }
    found
}

/// Writes `@N` for the time of record N and `+N` for its delay, and two spaces for more of them.
fn without_this_day(page: &str, recorded: &BTreeMap<u64, (String, String)>) -> String {
    let mut out = String::new();
    for line in page.lines() {
        let indented = line.starts_with(' ');
        let mut line = line
            .split("  ")
            .map(str::trim)
            .filter(|part| !part.is_empty())
            .collect::<Vec<_>>()
            .join("  ");
        for (seq, (at, delay)) in recorded {
            line = line.replace(&format!("record  {seq}  "), &format!("record {seq}  "));
            let utc = at.replace('T', " ").replace('Z', " UTC");
            if line.contains(&format!("record {seq}")) || line.contains(&utc) {
                line = line
                    .replace(&utc, &format!("@{seq}"))
                    .replace(&format!("learnt {delay} later"), &format!("learnt +{seq}"));
            }
        }
        out.push_str(&format!("{}{line}\n", if indented { "  " } else { "" }));
    }
    out
}

#[test]
fn a_user_who_was_deleted_twice_is_shown_as_it_was_before_the_first_time() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    for (kind, second) in [("created", 1), ("deleted", 2), ("deleted", 3), ("deleted", 4)] {
        let at = format!("2026-01-01T00:00:0{second}.000Z");
        let body = user("u", "d", "Ana", &at, &format!("e{second}"), &format!("dsync.user.{kind}"));
        let mut body: Value = serde_json::from_str(&body).unwrap();
        body["data"]["email"] = json!("ana@x.example");
        body["data"]["organization_id"] = json!("org_1");
        server.deliver(&body.to_string());
    }
    let shown = |arguments: &[&str]| -> Value {
        let output = ask(&server, &[&["audit", "u", "--json"], arguments].concat());
        let head: Value = serde_json::from_str(out(&output).lines().next().unwrap()).unwrap();
        json!([head["email"], head["directory_id"], head["organization_id"]])
    };
    let expected = json!(["ana@x.example", "d", "org_1"]);
    assert_eq!(shown(&[]), expected);
    assert_eq!(shown(&["--as-of", "2026-01-01T00:00:03.500Z"]), expected);
    let page = out(&ask(&server, &["audit", "u"]));
    assert!(page.starts_with("Ana, ana@x.example\n"), "{page}");
}

#[test]
fn who_left_and_when_that_was_learnt_is_one_page() {
    let folder = tempfile::tempdir().unwrap();
    let server = told(folder.path(), "0010");
    let page = out(&ask(&server, &["audit", "LFerreira@fennimore-textiles.example"]));
    // His deletion of 1 June came as record 18, after a membership of 10 June, record 15, which it
    // therefore never let begin: that group was over besides. The group of his first day, Weaving,
    // ends with him.
    let expected = "\
Ludo Ferreira, lferreira@fennimore-textiles.example
lost access on 2025-06-01 12:00:00.000 UTC: the user was deleted (user_deleted), by \
event_01JWNNSVG3N0QV1VC2ST3QS2G6, learnt +18 on @18 (record 18)
with it: no role; group Weaving
last heard of the user by record 18, dsync.user.deleted, of 2025-06-01 12:00:00.000 UTC, learnt on \
@18
last heard of the directory by record 19, dsync.group.deleted, of 2025-05-10 08:00:00.000 UTC, \
learnt on @19
in the quarantine: nothing about the user or the directory itself

user  directory_user_01JR7GS1MMD6GD9R738CM0TQQ5
email  lferreira@fennimore-textiles.example
directory  directory_01JR7GS0C0MFWENKDX8VSMFEK1, Fennimore Mill
organization  org_01JQP4K540H7R33X2DAMM5XZQM
asked  as of latest, known at record 20

2025-04-07T07:00:01.300Z  dsync.user.created  record 3  learnt +3  event_01JR7GS1MQJ1KZVH5RF4XFM601
  ~ created: state active, email lferreira@fennimore-textiles.example, first_name Ludo, last_name \
Ferreira, job_title Loom Mechanic, \
username lferreira, custom_attributes.department_name Mill, custom_attributes.job_title Loom \
Mechanic
  + access begins
2025-04-07T07:00:03.300Z  dsync.group.user_added  record 8  learnt +8  \
event_01JR7GS3K7TNX7PZ8Q449V02E1
  + joins Weaving
2025-06-01T12:00:00.000Z  dsync.user.deleted  record 18  learnt +18  \
event_01JWNNSVG3N0QV1VC2ST3QS2G6
  - deleted
  - access ends: user_deleted
  - leaves Weaving

proof of record 18, by which access ended: rollcall prove 18
";
    assert_eq!(without_this_day(&page, &recorded(&server, LUDO)), expected);
    // Before the record came he had access, and had joined another group.
    let page = out(&ask(&server, &["audit", LUDO, "--known-at", "17"]));
    assert!(
        page.contains(
            "\nhas access since 2025-04-07 07:00:01.300 UTC, by \
        event_01JR7GS1MQJ1KZVH5RF4XFM601, learnt "
        ),
        "{page}"
    );
    assert!(
        page.contains("\nasked         as of latest, known at record 17\n")
            && page.contains("+ joins Dyeing & Finishing\n"),
        "{page}"
    );
    // His last millisecond, and the one before his first.
    let page = out(&ask(&server, &["audit", LUDO, "--as-of", "2025-06-01T11:59:59.999Z"]));
    assert!(page.contains("\nhad access then, since ") && !page.contains("- deleted"), "{page}");
    assert!(page.contains("\nhad it then, since no record had ended it\n"), "{page}");
    let page = out(&ask(&server, &["audit", LUDO, "--as-of", "2025-04-07T07:00:01.299Z"]));
    assert!(
        page.starts_with(&format!("{LUDO}\nhad never had access by then\n"))
            && !page.contains("rollcall prove"),
        "{page}"
    );
}

#[test]
fn an_end_that_a_directory_brought_names_all_records_on_which_it_rests() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let directory = |id: &str, event: &str, at: &str, of: &str| {
        json!({"id": id, "event": format!("dsync.{event}"), "created_at": at,
            "data": {"object": "directory", "id": of, "name": "Tamarack Labs",
            "type": "okta scim v2.0", "state": "active", "organization_id": "org_1",
            "created_at": at, "updated_at": at}})
        .to_string()
    };
    let deactivated = directory("off", "deactivated", "2026-01-20T00:00:00Z", "d2");
    let other = directory("other", "deactivated", "2026-01-21T00:00:00Z", "d3");
    let added = json!({"id": "joined", "event": "dsync.group.user_added",
        "created_at": "2026-01-02T00:00:00Z", "data": {"directory_id": "d1",
        "user": {"id": "u1", "email": "ana@foo.example", "state": "active"},
        "group": {"id": "g1", "name": "Finance"}}});
    for event in [
        user("u1", "d1", "ana", "2026-01-01T00:00:00Z", "e1", "dsync.user.created"),
        added.to_string(),
        directory("on", "activated", "2026-01-01T00:00:00Z", "d2"),
        user("u2", "d2", "bo", "2026-01-03T00:00:00Z", "e4", "dsync.user.created"),
        deactivated,
        other,
        user("u1", "d2", "ana", "2026-02-01T00:00:00Z", "moved", "dsync.user.updated"),
    ] {
        server.deliver(&event);
    }
    let end = |page: &str| -> Vec<String> {
        let (head, proofs) = (
            page.lines().skip(1).take(2),
            page.lines().filter(|line| line.starts_with("proof of ")),
        );
        head.chain(proofs).map(|line| line.split(", learnt ").next().unwrap().to_owned()).collect()
    };
    // The move is record 7, and that the directory had been off since January is record 5.
    let moved = [
        "lost access on 2026-02-01 00:00:00.000 UTC: moved into Tamarack Labs, which was \
         deactivated by record 5 (directory_deactivated), by moved",
        "with it: no role; group Finance",
        "proof of record 7, by which access ended: rollcall prove 7",
        "proof of record 5, by which that directory had been deactivated: rollcall prove 5",
    ];
    assert_eq!(end(&out(&ask(&server, &["audit", "u1"]))), moved);
    // Record 5 names nobody; record 4 says who was there.
    let stayed = [
        "lost access on 2026-01-20 00:00:00.000 UTC: its directory was deactivated \
         (directory_deactivated), by off",
        "with it: no role; no group",
        "proof of record 5, by which access ended: rollcall prove 5",
        "proof of record 4, the last one before to say that the user is in that directory: \
         rollcall prove 4",
    ];
    assert_eq!(end(&out(&ask(&server, &["audit", "u2"]))), stayed);
    let head: Value = serde_json::from_str(
        out(&ask(&server, &["audit", "u1", "--json"])).lines().next().unwrap(),
    )
    .unwrap();
    let told = ["records", "roles", "groups", "seq"].map(|name| head[name].clone());
    assert_eq!(
        told,
        [json!([7, 5]), json!([]), json!([{"id": "g1", "name": "Finance"}]), json!(7)]
    );
}

#[test]
fn nothing_known_yet_is_not_nothing_ever() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    server.deliver(&user("u0", "d1", "bo", "2026-01-01T00:00:00Z", "e1", "dsync.user.created"));
    server.deliver(&user("u1", "d1", "ana", "2026-01-02T00:00:00Z", "e2", "dsync.user.created"));
    let first = "the first record about it is 2, of what happened on 2026-01-02T00:00:00.000Z";
    for (arguments, wanted) in [
        (
            &["ana@foo.example", "--known-at", "1"][..],
            format!(
                "nothing was known of `ana@foo.example` as of latest, known at record 1: {first}"
            ),
        ),
        (
            &["u1", "--known-at", "1"],
            format!("nothing was known of `u1` as of latest, known at record 1: {first}"),
        ),
        (
            &["cy@foo.example", "--known-at", "1"],
            "no user has or had the email `cy@foo.example`".to_owned(),
        ),
        (&["u2", "--known-at", "1"], "no user `u2` was ever seen up to record 1".to_owned()),
        (&["u1", "--known-at", "3"], "--known-at: ".to_owned()),
    ] {
        let told = refused(&ask(&server, &[&["audit"], arguments].concat()));
        assert!(told.contains(&wanted), "{arguments:?}: {told}");
    }
    // What was known of her then is known now: she had no access yet.
    let then = ["--as-of", "2026-01-01"];
    let by_id = out(&ask(&server, &[&["audit", "u1"], &then[..]].concat()));
    let by_email = out(&ask(&server, &[&["audit", "ana@foo.example"], &then[..]].concat()));
    assert_eq!(by_email, by_id);
    let begins = "u1\nhad never had access by then\n\
        the first record about it is 2, of what happened on 2026-01-02 00:00:00.000 UTC\n";
    assert!(by_id.starts_with(begins), "{by_id}");
    // At an earlier head, the same id and email are not known yet.
    for of in ["u1", "ana@foo.example"] {
        let told = refused(&ask(&server, &[&["audit", of, "--known-at", "1"], &then[..]].concat()));
        assert!(told.contains("nothing was known of "), "{told}");
    }
}

#[test]
fn whoever_came_back_has_access_and_the_loss_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let server = told(folder.path(), "0008");
    let page = out(&ask(&server, &["audit", SORAYA]));
    let expected = "\
Soraya Maddox, smaddox@corvid-analytics.example
has access since 2025-10-01 08:00:00.000 UTC, by event_01K6FCJ303EZBWJZMDDYY6RNJG, learnt +16 on \
@16 (record 16)
had lost it on 2025-07-04 16:00:00.000 UTC: user_inactive
still has it, since no record has ended it
last heard of the user by record 16, dsync.user.updated, of 2025-10-01 08:00:00.000 UTC, learnt on \
@16
last heard of the directory by record 16, dsync.user.updated, of 2025-10-01 08:00:00.000 UTC, \
learnt on @16
in the quarantine: nothing about the user or the directory itself

user  directory_user_01JQR6Z5W0X08WAZ8W81VT2TCV
email  smaddox@corvid-analytics.example
directory  directory_01JQR5TJ00ESTTESN4TQ7VVG9C, Corvid HQ
organization  org_01JPSCFT9WR9DAX2VJTT7ASSWM
asked  as of latest, known at record 18

2025-04-01T08:20:00.000Z  dsync.user.created  record 3  learnt +3  event_01JQR6Z5W3CXF29WDEX5ZPX33N
  ~ created: state active, email smaddox@corvid-analytics.example, first_name Soraya, last_name \
Maddox, job_title Research Lead, \
username smaddox, custom_attributes.department_name Research, custom_attributes.job_title \
Research Lead
  + access begins
2025-04-01T08:20:03.000Z  dsync.group.user_added  record 9  learnt +9  \
event_01JQR6Z8SVHJS5MNNG7Z8N68AK
  + joins Research
2025-07-04T16:00:00.000Z  dsync.user.updated  record 13  learnt +13  \
event_01JZB2N103CJ25GPA4A8PT3PTR
  ~ state: active -> inactive
  - access ends: user_inactive
2025-08-01T09:00:00.000Z  dsync.group.user_added  record 15  learnt +15  \
event_01K1JDR3M3JZP5NFY3968BRZPJ
  + joins Night Shift
2025-10-01T08:00:00.000Z  dsync.user.updated  record 16  learnt +16  \
event_01K6FCJ303EZBWJZMDDYY6RNJG
  ~ state: inactive -> active
  + access begins

proof of record 16, by which access began: rollcall prove 16
";
    assert_eq!(without_this_day(&page, &recorded(&server, SORAYA)), expected);
    // Theo's email was that of two users, who are told in the order in which they came.
    let pages = out(&ask(&server, &["audit", "tmarchetti@corvid-analytics.example"]));
    let answers: Vec<&str> = pages
        .lines()
        .filter(|line| line.contains(" access on ") || line.contains(" access since "))
        .collect();
    assert!(
        answers.len() == 2
            && answers[0].starts_with("lost access on 2025-07-04")
            && answers[1].starts_with("has access since 2025-10-01")
    );
}

#[test]
fn what_came_late_and_what_never_came_is_marked() {
    let folder = tempfile::tempdir().unwrap();
    let server = told(folder.path(), "0001");
    // What was overtaken by less than a second is no surprise, and by how much it was here no test
    // can say: the table names it all the same.
    let table = out(&ask(&server, &["audit", "mcastellanos@halden-robotics.example", "--csv"]));
    let mut reader = csv::Reader::from_reader(table.as_bytes());
    let late: Vec<csv::StringRecord> =
        reader.records().map(Result::unwrap).filter(|row| &row[11] == "true").collect();
    let late: Vec<[&str; 5]> =
        late.iter().map(|row| [&row[1], &row[2], &row[3], &row[8], &row[17]]).collect();
    assert_eq!(late, [["2026-02-16T11:05:00.000Z", "membership", "left", "Platform", "30"]]);
    let event = |id: &str, title: &str, more: Value, at: &str| {
        let mut data = json!({"id": "u1", "directory_id": "d1", "state": "active",
            "email": "ana@foo.example", "job_title": title});
        data.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let event = if id == "m1" { "created" } else { "updated" };
        json!({"id": id, "event": format!("dsync.user.{event}"), "created_at": at, "data": data})
            .to_string()
    };
    server.deliver(&event("m1", "Clerk", json!({}), "2026-01-01T00:00:00Z"));
    let missed = json!({"previous_attributes": {"job_title": "Senior Clerk"}});
    server.deliver(&event("m2", "Head\u{1b}[2J 山田", missed, "2026-01-02T00:00:00Z"));
    let page = out(&ask(&server, &["audit", "u1"]));
    let wanted = "
  ! an update was missed before it: job_title was Clerk here, and Senior Clerk at the source
  ~ job_title: Clerk -> Head\\u{1b}[2J 山田
";
    assert!(page.contains(wanted), "{page}");
    // A membership is all that was heard of somebody.
    let added = json!({"id": "m3", "event": "dsync.group.user_added",
        "created_at": "2026-01-03T00:00:00Z", "data": {"directory_id": "d1",
        "user": {"id": "u2", "email": "bo@foo.example", "state": "active"},
        "group": {"id": "g1", "name": "Sales"}}});
    server.deliver(&added.to_string());
    let page = out(&ask(&server, &["audit", "u2"]));
    assert!(page.contains(
        "  ~ known from this event only, as long as none of the user's own had \
            come: state active, email bo@foo.example\n"
    ));
    assert!(page.contains("\n  + access begins\n  + joins Sales\n"), "{page}");
}

#[test]
fn programs_read_the_objects_as_they_came_and_spreadsheets_one_table() {
    let folder = tempfile::tempdir().unwrap();
    let server = told(folder.path(), "0008");
    let told = out(&ask(&server, &["audit", SORAYA, "--json"]));
    let objects: Vec<Value> =
        told.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(
        ["kind", "user_id", "has_access", "since", "seq", "as_of", "known_at"]
            .map(|name| objects[0][name].clone()),
        [
            json!("user"),
            json!(SORAYA),
            json!(true),
            json!("2025-10-01T08:00:00.000Z"),
            json!(16),
            json!("latest"),
            json!(18)
        ]
    );
    for (kind, list) in
        [("version", "history"), ("access", "access"), ("membership", "groups"), ("role", "roles")]
    {
        let path = format!("/rollcall/v1/users/{SORAYA}/{list}");
        let expected: String = lines(&server, &path)
            .lines()
            .map(|line| format!("{{\"kind\":\"{kind}\",{}\n", &line[1..]))
            .collect();
        let of_kind: String = told
            .lines()
            .filter(|line| line.starts_with(&format!("{{\"kind\":\"{kind}\"")))
            .map(|line| format!("{line}\n"))
            .collect();
        assert_eq!(of_kind, expected, "{kind}");
    }
    let table = out(&ask(&server, &["audit", SORAYA, "--csv"]));
    let mut reader = csv::Reader::from_reader(table.as_bytes());
    let names = "user_id,at,kind,change,field,from,to,group_id,group_name,role,reason,late,\
        event_id,event,occurred_at,recorded_at,delay_ms,seq";
    assert_eq!(reader.headers().unwrap().iter().collect::<Vec<_>>().join(","), names);
    let rows: Vec<Vec<String>> =
        reader.records().map(|row| row.unwrap().iter().map(str::to_owned).collect()).collect();
    let of = |seq: &str| -> Vec<[&str; 6]> {
        let rows = rows.iter().filter(|row| row[17] == seq);
        rows.map(|row| [&row[1], &row[2], &row[3], &row[4], &row[5], &row[6]].map(String::as_str))
            .collect()
    };
    let at = "2025-07-04T16:00:00.000Z";
    assert_eq!(
        of("13"),
        [
            [at, "version", "updated", "", "", ""],
            [at, "field", "updated", "state", "\"active\"", "\"inactive\""],
            [at, "access", "ended", "", "", ""]
        ]
    );
    assert_eq!(
        rows.iter()
            .filter(|row| row[2] == "access")
            .map(|row| row[10].as_str())
            .collect::<Vec<_>>(),
        ["", "user_inactive", ""]
    );
    assert!(
        rows.iter()
            .all(|row| row[0] == SORAYA && row[11] == "false" && row[13].starts_with("dsync."))
    );
    // A value with quotes, commas and line breaks stays one value.
    let name = "Li, \"Bo\"\n\u{1b}=1+1";
    let mut event: Value = serde_json::from_str(&user(
        "u1",
        "d1",
        "bo",
        "2026-01-01T00:00:00Z",
        "e1",
        "dsync.user.created",
    ))
    .unwrap();
    event["data"]["job_title"] = json!(name);
    server.deliver(&event.to_string());
    let table = out(&ask(&server, &["audit", "u1", "--csv"]));
    let title = csv::Reader::from_reader(table.as_bytes())
        .records()
        .map(Result::unwrap)
        .find(|row| &row[4] == "job_title")
        .unwrap();
    assert_eq!(serde_json::from_str::<Value>(&title[6]).unwrap(), json!(name));
}

#[test]
fn losses_of_access_are_a_list() {
    let folder = tempfile::tempdir().unwrap();
    let server = told(folder.path(), "0008");
    let output = ask(&server, &["deprovisioned"]);
    let rows: Vec<Vec<String>> =
        cells(&out(&output)).into_iter().map(|row| [&row[..3], &row[4..]].concat()).collect();
    let who = |name: &str| format!("{name}@corvid-analytics.example");
    // Ilya was suspended, Soraya came back, Theo only as another user.
    let expected = [
        ["2025-05-15T12:00:00.000Z", &who("ipetrenko"), "user_inactive", "Research", "-", "12"],
        [
            "2025-07-04T16:00:00.000Z",
            &who("smaddox"),
            "user_inactive",
            "Research",
            "2025-10-01T08:00:00.000Z",
            "13",
        ],
        ["2025-07-04T16:00:00.000Z", &who("tmarchetti"), "user_deleted", "Lab Access", "-", "14"],
    ];
    assert_eq!(rows, expected);
    assert_eq!(err(&output), "3 deprovisionings, as of latest, known at record 18\n");
    let path = "/rollcall/v1/deprovisionings";
    let unknown = ask(&server, &["deprovisioned", "--json", "--organization", "org_nobody"]);
    assert_eq!((unknown.status.code(), &unknown.stdout[..]), (Some(1), &b""[..]));
    assert!(
        err(&unknown).contains("no organization `org_nobody` was ever seen"),
        "{}",
        err(&unknown)
    );
    for (arguments, query) in [
        (&[][..], ""),
        (&["--since", "2025-07-04T18:00:00+02:00"], "?since=2025-07-04T16:00:00Z"),
        (&["--until", "2025-07-04T15:59:59.999Z"], "?until=2025-07-04T15:59:59.999Z"),
        (
            &["--since", "2025-05-16", "--until", "2025-07-05"],
            "?since=2025-05-16T00:00:00Z&until=2025-07-05T00:00:00Z",
        ),
        (&["--as-of", "2025-07-01"], "?as_of=2025-07-01T00:00:00Z"),
        (&["--since", "30d"], "?since=2026-10-01T00:00:00Z"),
        (&["--user", SORAYA], "?user=directory_user_01JQR6Z5W0X08WAZ8W81VT2TCV"),
        (
            &["--email", "TMARCHETTI@corvid-analytics.example"],
            "?email=tmarchetti@corvid-analytics.example",
        ),
        (
            &["--directory", "directory_01JQR5TJ00ESTTESN4TQ7VVG9C"],
            "?directory=directory_01JQR5TJ00ESTTESN4TQ7VVG9C",
        ),
        (&["--known-at", "13"], "?known_at=13"),
        (&["--limit", "1"], "?limit=1"),
    ] {
        assert_eq!(
            out(&ask(&server, &[&["deprovisioned", "--json"], arguments].concat())),
            lines(&server, &format!("{path}{query}")),
            "{query}"
        );
    }
    // Who finds nothing is told where it was looked for.
    let none =
        err(&ask(&server, &["deprovisioned", "--since", "2025-07-05", "--until", "2026-01-01"]));
    let bounds = "0 deprovisionings since 2025-07-05T00:00:00.000Z until \
        2026-01-01T00:00:00.000Z, as of latest, known at record 18\n";
    assert_eq!(none, bounds);
    let table = out(&ask(&server, &["deprovisioned", "--csv", "--user", SORAYA]));
    let marked = out(&ask(&server, &["deprovisioned", "--csv", "--bom", "--user", SORAYA]));
    assert_eq!(marked, format!("\u{feff}{table}"));
    let (names, row) = table.trim_end().split_once('\n').unwrap();
    let expected = "occurred_at,user_id,email,directory_id,organization_id,reason,recorded_at,\
        delay_ms,roles,groups,restored_at,event_id,event,seq,observed,not_before";
    assert_eq!(names, expected);
    let row = csv::ReaderBuilder::new()
        .has_headers(false)
        .from_reader(row.as_bytes())
        .records()
        .next()
        .unwrap()
        .unwrap();
    assert_eq!(
        (&row[0], &row[1], &row[5], &row[13]),
        ("2025-07-04T16:00:00.000Z", SORAYA, "user_inactive", "13")
    );
    assert_eq!(serde_json::from_str::<Value>(&row[9]).unwrap()[0]["name"], "Research");
}

#[test]
fn no_cell_for_a_spreadsheet_begins_like_a_formula() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let event = |id: &str, at: &str, change: &str| {
        let mut event: Value =
            serde_json::from_str(&user("-1+1", "@d", "x", at, id, &format!("dsync.user.{change}")))
                .unwrap();
        event["data"]["email"] = json!("=cmd|calc@x.example");
        event.to_string()
    };
    let group = json!({"id": "e2", "event": "dsync.group.user_added",
        "created_at": "2026-01-02T00:00:00Z", "data": {"directory_id": "@d",
        "user": {"id": "-1+1", "email": "=cmd|calc@x.example", "state": "active"},
        "group": {"id": "+g", "name": "\t=1+1"}}});
    for event in [
        event("e1", "2026-01-01T00:00:00Z", "created"),
        group.to_string(),
        event("e3", "2026-01-03T00:00:00Z", "deleted"),
    ] {
        server.deliver(&event);
    }
    for (arguments, cell) in [
        (&["deprovisioned", "--csv"][..], "'=cmd|calc@x.example"),
        (&["deprovisioned", "--csv"], "'-1+1"),
        (&["deprovisioned", "--csv"], "'@d"),
        (&["audit", "--csv", "=CMD|calc@x.example"], r"'\t=1+1"),
        (&["diff", "--csv", "2026-01-01T23:00:00Z", "2026-01-02T23:00:00Z"], "'+g"),
    ] {
        let table = out(&ask(&server, arguments));
        let mut reader = csv::Reader::from_reader(table.as_bytes());
        let cells: Vec<String> = reader
            .records()
            .flat_map(|row| row.unwrap().iter().map(str::to_owned).collect::<Vec<_>>())
            .collect();
        assert!(cells.iter().any(|found| found == cell), "{arguments:?}: {table}");
        assert!(
            cells
                .iter()
                .all(|cell| !cell.starts_with(['=', '+', '@', '\t']) && !cell.starts_with("-1+")),
            "{arguments:?}: {table}"
        );
    }
}

#[test]
fn the_feed_of_changes_is_lines_for_programs_also_of_what_comes() {
    let folder = tempfile::tempdir().unwrap();
    let server = told(folder.path(), "0008");
    let all = lines(&server, "/rollcall/v1/changes?limit=1000&wait=0");
    let ended: Vec<Value> = all.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let ended: Vec<u64> = ended
        .iter()
        .filter(|change| change["change"] == "access_ended")
        .map(|change| change["seq"].as_u64().unwrap())
        .collect();
    assert_eq!((out(&ask(&server, &["changes"])), ended), (all.clone(), vec![12, 13, 14]));
    let after: String = all
        .lines()
        .filter(|line| !line.contains("\"seq\":12,"))
        .skip_while(|line| !line.contains("\"seq\":13,"))
        .map(|line| format!("{line}\n"))
        .collect();
    assert_eq!(out(&ask(&server, &["changes", "--after", "12"])), after);
    assert_eq!(
        out(&ask(&server, &["changes", "--limit", "2"])),
        all.lines().take(2).map(|line| format!("{line}\n")).collect::<String>()
    );
    assert_eq!(out(&ask(&server, &["changes", "--after", "latest"])), "");
    assert!(refused(&ask(&server, &["changes", "--after", "x"])).contains("--after: "));
    // Whoever follows from here on gets what comes, and ends with its reader.
    let mut command = rollcall(&[
        "changes",
        "--follow",
        "--after",
        "18",
        "--url",
        &server.url,
        "--api-key",
        API_KEY,
    ]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut told = BufReader::new(child.stdout.take().unwrap());
    for (event, change) in [("created", "access_granted"), ("deleted", "access_ended")] {
        let at = if event == "created" { "2026-01-01T00:00:00Z" } else { "2026-01-02T00:00:00Z" };
        server.deliver(&user("u1", "d1", "ana", at, event, &format!("dsync.user.{event}")));
        let mut line = String::new();
        told.read_line(&mut line).unwrap();
        let line: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(
            (&line["change"], &line["user_id"], &line["cause"]["event_id"]),
            (&json!(change), &json!("u1"), &json!(event))
        );
    }
    drop(told);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let all = out(&ask(&server, &["changes"]));
    assert_eq!(server.stop(), 0);
    assert_eq!(out(&ask_folder(folder.path(), &["changes"])), all);
    assert!(
        refused(&ask_folder(folder.path(), &["changes", "--follow"]))
            .contains("ask a server with --url")
    );
}

#[test]
fn a_stopped_server_is_audited_from_its_folder() {
    let folder = tempfile::tempdir().unwrap();
    let server = told(folder.path(), "0008");
    let questions = [
        &["audit", "tmarchetti@corvid-analytics.example"][..],
        &["audit", SORAYA, "--json"],
        &["audit", SORAYA, "--csv"],
        &["audit", SORAYA, "--known-at", "13"],
        &["audit", "nobody"],
        &["deprovisioned"],
        &["deprovisioned", "--csv"],
    ];
    let told: Vec<Output> = questions.iter().map(|arguments| ask(&server, arguments)).collect();
    assert_eq!(server.stop(), 0);
    for (arguments, told) in questions.iter().zip(told) {
        assert_eq!(ask_folder(folder.path(), arguments), told, "{arguments:?}");
    }
}

#[test]
fn a_mistake_about_whom_to_audit_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let server = told(folder.path(), "0008");
    for (arguments, wanted) in [
        (&["audit", "nobody"][..], "no user `nobody` was ever seen"),
        (
            &["audit", "nobody@corvid-analytics.example"],
            "no user has or had the email `nobody@corvid-analytics.example`",
        ),
        (&["audit", ""], "a value is required"),
        (&["audit"], "<USER|EMAIL>"),
        (&["audit", SORAYA, "--known-at", "19"], "--known-at: "),
        (&["audit", SORAYA, "--csv", "--json"], "cannot be used with"),
        (&["audit", "\u{1b}[2J"], r"`\u{1b}[2J`"),
        (&["deprovisioned", "--csv", "--json"], "cannot be used with"),
        (&["deprovisioned", "--csv", "--known-at", "19"], "--known-at: "),
    ] {
        let told = refused(&ask(&server, arguments));
        assert!(told.contains(wanted), "{arguments:?}: {told}");
    }
}

#[test]
fn a_timeline_has_colours_on_a_terminal_only_and_is_cut_to_it() {
    let folder = tempfile::tempdir().unwrap();
    let server = told(folder.path(), "0008");
    let audit = ["audit", SORAYA];
    let (told, code) = OnTerminal::start(&server, &audit, &[("COLUMNS", "80")]).end();
    assert_eq!(code, Some(0));
    for painted in [
        "\u{1b}[1m\u{1b}[32mhas access since 2025-10-01",
        "\u{1b}[1m\u{1b}[31m  - access ends: user_inactive\u{1b}[0m",
    ] {
        assert!(told.contains(painted), "{painted:?} is missing from {told:?}");
    }
    for environment in [[("NO_COLOR", "1")], [("TERM", "dumb")]] {
        let (told, code) = OnTerminal::start(&server, &audit, &environment).end();
        assert!(
            code == Some(0) && told.contains("access ends") && !told.contains('\u{1b}'),
            "{told:?}"
        );
    }
    assert!(!out(&ask(&server, &audit)).contains('\u{1b}'));
    let narrow = rollcall(&["audit", SORAYA, "--url", &server.url, "--api-key", API_KEY])
        .env("COLUMNS", "80")
        .output();
    let page = out(&narrow.unwrap());
    let (_, steps) = page.split_once("\n\n").unwrap();
    assert!(
        steps.lines().all(|line| line.chars().count() <= 80)
            && steps.contains("email smaddox@")
            && steps.contains('…'),
        "{page}"
    );
    assert!(
        steps.lines().any(|line| line.starts_with("  event_01K6FCJ303EZBWJZMDDYY6RNJG  learnt ")
            && line.ends_with(" later")),
        "{page}"
    );
}

#[test]
fn users_of_any_directory_are_found_by_an_email_that_they_ever_showed() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    for (id, directory, name) in [("u1", "d1", "ana"), ("u2", "d2", "Ana"), ("u3", "d3", "bo")] {
        server.deliver(&user(
            id,
            directory,
            name,
            "2026-01-01T00:00:00Z",
            &format!("e{id}"),
            "dsync.user.created",
        ));
    }
    let holders = |query: &str| -> Vec<(String, bool)> {
        let answer =
            server.get(&format!("/rollcall/v1/users?email=ANA%40foo.example{query}")).json();
        let holder = |item: &Value| {
            (item["user_id"].as_str().unwrap().to_owned(), item["shows"].as_bool().unwrap())
        };
        answer["data"].as_array().unwrap().iter().map(holder).collect()
    };
    let [u1, u2] = ["u1", "u2"].map(|id| (id.to_owned(), true));
    assert_eq!(holders(""), [u1.clone(), u2.clone()]);
    assert_eq!(holders("&order=desc"), [u2.clone(), u1.clone()]);
    assert_eq!(holders("&known_at=1"), std::slice::from_ref(&u1));
    assert_eq!(holders("&as_of=2025-12-31T23:59:59.999Z"), []);
    let page = server.get("/rollcall/v1/users?email=ana%40foo.example&limit=1").json();
    assert_eq!(
        holders(&format!("&after={}", page["list_metadata"]["after"].as_str().unwrap())),
        std::slice::from_ref(&u2)
    );
    // One changes it, another is deleted: both had it.
    server.deliver(&user("u1", "d1", "anna", "2026-01-01T00:00:05Z", "e4", "dsync.user.updated"));
    server.deliver(&user("u2", "d2", "Ana", "2026-01-01T00:00:05Z", "e5", "dsync.user.deleted"));
    assert_eq!(holders(""), [("u1".to_owned(), false), ("u2".to_owned(), false)]);
    assert_eq!(holders("&as_of=2026-01-01T00:00:04.999Z"), [u1, u2]);
    for query in ["", "?email=", "?email=a&email=b", "?email=a&directory=d1"] {
        let answer = server.get(&format!("/rollcall/v1/users{query}"));
        assert_eq!((answer.status, answer.code().as_str()), (422, "validation_failed"), "{query}");
    }
}

#[test]
fn an_end_ahead_of_the_servers_clock_is_told_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    server.deliver(&user("u1", "d1", "ana", "2026-01-01T00:00:00Z", "e1", "dsync.user.created"));
    let ahead = crate::kit::model::rfc3339(crate::kit::server::now_ms() + 3_600_000);
    server.deliver(&user("u1", "d1", "ana", &ahead, "e2", "dsync.user.deleted"));
    let page = out(&ask(&server, &["audit", "u1"]));
    assert!(page.contains("lost access on ") && page.contains("by e2"), "{page}");
}
