//! Histories of users and groups, case by case: the events, the cut, and every version with all it
//! must say.
//!
//! A story is a list of events `what{fields}@second`, in the order in which they are delivered; the
//! first has the id `a`, the second `b`, unless `#id` says otherwise. `created`, `updated` and
//! `deleted` are of the user `U`, `added` and `removed` of its membership in `G`, with the fields
//! of the user's snapshot; with a `g` before them they are of the group `G`, or carry the fields of
//! the group's snapshot. `^{…}` is the context.
//!
//! A version is written `a:created{…}`: its event, what it is, and `changed` as the server wrote
//! it, in which `D` stands for the directory that was none before; `?{…}` behind it is what was
//! missed, `!` that it came late.

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::kit::model::{read_time, rfc3339};
use crate::kit::server::{Server, now_ms};

fn moment(second: i64) -> String {
    rfc3339(read_time("2026-03-02T00:00:00Z").unwrap() + second * 1000)
}

/// The body of an event.
fn body(told: &str, letter: char) -> String {
    let (told, id) =
        told.split_once('#').map_or((told, letter.to_string()), |(told, id)| (told, id.to_owned()));
    let (told, second) = told.rsplit_once('@').unwrap();
    let (told, context) = told.split_once('^').unwrap_or((told, "{}"));
    let (what, fields) = told.split_once('{').map_or((told, String::new()), |(what, more)| {
        (what, format!(",{}", more.strip_suffix('}').unwrap()))
    });
    let fields = if fields == "," { String::new() } else { fields };
    let (subject, what) = what.strip_prefix('g').map_or(("user", what), |what| ("group", what));
    let id_of = if subject == "user" { "U" } else { "G" };
    let (event, data) = match what {
        "added" | "removed" => {
            let end = |kind: &str, id: &str| {
                if kind == subject {
                    format!(r#"{{"id":"{id}"{fields}}}"#)
                } else {
                    format!(r#"{{"id":"{id}"}}"#)
                }
            };
            let data = format!(
                r#"{{"directory_id":"D","user":{},"group":{}}}"#,
                end("user", "U"),
                end("group", "G")
            );
            (format!("dsync.group.user_{what}"), data)
        }
        _ => (
            format!("dsync.{subject}.{what}"),
            format!(r#"{{"id":"{id_of}","directory_id":"D"{fields}}}"#),
        ),
    };
    let at = moment(second.parse().unwrap());
    format!(
        r#"{{"id":"{id}","event":"{event}","created_at":"{at}","data":{data},"context":{context}}}"#
    )
}

fn tell(server: &Server, story: &str) {
    for (told, letter) in story.split_whitespace().zip('a'..='z') {
        server.deliver(&body(told, letter));
    }
}

#[derive(Deserialize)]
struct Page {
    data: Vec<Item>,
    list_metadata: Value,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Item {
    object: String,
    user_id: Option<String>,
    group_id: Option<String>,
    change: String,
    changed: Box<RawValue>,
    missed: Box<RawValue>,
    late: bool,
    proof: String,
    cause: Value,
}

impl Item {
    fn short(&self) -> String {
        let whose = (self.object.as_str(), self.user_id.as_deref(), self.group_id.as_deref());
        assert!(
            whose == ("user_version", Some("U"), None)
                || whose == ("group_version", None, Some("G")),
            "{whose:?}"
        );
        assert_eq!(self.proof, "webhook");
        let changed = self.changed.get().replace(r#""directory_id":{"from":null,"to":"D"}"#, "D");
        let missed = if self.missed.get() == "null" {
            String::new()
        } else {
            format!("?{}", self.missed.get())
        };
        format!(
            "{}:{}{changed}{missed}{}",
            self.cause["event_id"].as_str().unwrap(),
            self.change,
            if self.late { "!" } else { "" }
        )
    }
}

fn page(server: &Server, path: &str) -> (String, Value) {
    let answer = server.get(path);
    assert_eq!(answer.status, 200, "{path}: {}", answer.json());
    let page: Page = serde_json::from_slice(&answer.body).unwrap();
    (page.data.iter().map(Item::short).collect::<Vec<_>>().join(" "), page.list_metadata)
}

/// `@4` as of second 4, `k3` known at record 3, `@4k3` both.
fn cut(ask: &str) -> String {
    let (at, known_at) = ask.split_once('k').unwrap_or((ask, ""));
    let as_of = at
        .strip_prefix('@')
        .map(|second| format!("as_of={}&", moment(second.parse().unwrap())))
        .unwrap_or_default();
    if known_at.is_empty() { as_of } else { format!("{as_of}known_at={known_at}") }
}

/// Case, events, cut, and the history.
type Row = (&'static str, &'static str, &'static str, &'static str);

#[rustfmt::skip]
const OF_USER: &[Row] = &[
    ("a creation tells every field that is there", r#"created{"email":"u@x","state":"active"}@1"#,
        "",
        r#"a:created{D,"email":{"from":null,"to":"u@x"},"state":{"from":null,"to":"active"}}"#),
    ("an update tells what differs",
        r#"created{"email":"u@x","job_title":"x"}@1 updated{"email":"v@x","job_title":"x"}@2"#,
        "@2",
        concat!(
            r#"a:created{D,"email":{"from":null,"to":"u@x"},"job_title":{"from":null,"to":"x"}} "#,
            r#"b:updated{"email":{"from":"u@x","to":"v@x"}}"#,
        )),
    ("the type of the event decides what it is", "updated@1 created@2", "",
        "a:updated{D} b:created{}"),
    ("absent is null",
        concat!(
            r#"created{"job_title":null}@1 updated@2 updated{"job_title":"x"}@3 "#,
            r#"updated{"job_title":null}@4 updated@5"#,
        ), "",
        concat!(
            r#"a:created{D} b:updated{} c:updated{"job_title":{"from":null,"to":"x"}} "#,
            r#"d:updated{"job_title":{"from":"x","to":null}} e:updated{}"#,
        )),
    ("what is no news of a user is left out",
        concat!(
            r#"created{"object":"directory_user","created_at":"2026-01-01T00:00:00Z","#,
            r#""updated_at":"2026-01-01T00:00:00Z","groups":[{"id":"G"}]}@1 "#,
            r#"updated{"object":"directory_user","created_at":"2026-01-02T00:00:00Z","#,
            r#""updated_at":"2026-01-03T00:00:00Z","groups":[],"previous_attributes":{}}@2"#,
        ), "",
        "a:created{D} b:updated{}"),
    ("fields that nobody knows, of any type",
        r#"created{"new":[1,"x"],"email":7}@1 updated{"new":{"y":null},"email":false}@2"#, "",
        concat!(
            r#"a:created{D,"email":{"from":null,"to":7},"new":{"from":null,"to":[1,"x"]}} "#,
            r#"b:updated{"email":{"from":7,"to":false},"new":{"from":[1,"x"],"to":{"y":null}}}"#,
        )),
    ("numbers by their text, as they were written",
        r#"created{"custom_attributes":{"level":1,"pay":1e3}}@1
           updated{"custom_attributes":{"level":1.0,"pay":1e3}}@2
           updated{"custom_attributes":{"level":1.0,"pay":1000}}@3
           updated{"custom_attributes":{"level":1.0,"pay":123456789012345678901234567890}}@4"#, "",
        concat!(
            r#"a:created{"custom_attributes.level":{"from":null,"to":1},"#,
            r#""custom_attributes.pay":{"from":null,"to":1e3},D} "#,
            r#"b:updated{"custom_attributes.level":{"from":1,"to":1.0}} "#,
            r#"c:updated{"custom_attributes.pay":{"from":1e3,"to":1000}} "#,
            r#"d:updated{"custom_attributes.pay":{"from":1000,"#,
            r#""to":123456789012345678901234567890}}"#,
        )),
    ("the order of keys and escapes are no difference",
        r#"created{"emails":[{"a":1,"b":"é"}]}@1 updated{"emails":[{"b":"\u00e9","a":1}]}@2"#, "",
        r#"a:created{D,"emails":{"from":null,"to":[{"a":1,"b":"é"}]}} b:updated{}"#),
    ("attributes key by key, one that is gone and one that is new",
        concat!(
            r#"created{"custom_attributes":{"a":1,"b":{"c":1}},"raw_attributes":{"x":1}}@1 "#,
            r#"updated{"custom_attributes":{"b":{"c":2},"d":null},"raw_attributes":{"x":1,"#,
            r#""y":"z"}}@2"#,
        ), "",
        concat!(
            r#"a:created{"custom_attributes.a":{"from":null,"to":1},"#,
            r#""custom_attributes.b":{"from":null,"to":{"c":1}},D,"#,
            r#""raw_attributes.x":{"from":null,"to":1}} "#,
            r#"b:updated{"custom_attributes.a":{"from":1,"to":null},"#,
            r#""custom_attributes.b":{"from":{"c":1},"to":{"c":2}},"#,
            r#""raw_attributes.y":{"from":null,"to":"z"}}"#,
        )),
    ("attributes that are none whole",
        concat!(
            r#"created{"custom_attributes":{"a":1}}@1 updated{"custom_attributes":[1]}@2 "#,
            r#"updated{"custom_attributes":null}@3 updated{"custom_attributes":{}}@4"#,
        ), "",
        concat!(
            r#"a:created{"custom_attributes.a":{"from":null,"to":1},D} "#,
            r#"b:updated{"custom_attributes":{"from":{"a":1},"to":[1]}} "#,
            r#"c:updated{"custom_attributes":{"from":[1],"to":null}} d:updated{}"#,
        )),
    ("attributes that are all gone", r#"created{"custom_attributes":{"a":1}}@1 updated@2"#, "",
        concat!(
            r#"a:created{"custom_attributes.a":{"from":null,"to":1},D} "#,
            r#"b:updated{"custom_attributes.a":{"from":1,"to":null}}"#,
        )),
    ("another directory is a field like any other", r#"created@1 updated{"directory_id":"E"}@2"#,
        "", r#"a:created{D} b:updated{"directory_id":{"from":"D","to":"E"}}"#),

    ("a deletion changes nothing, and who comes back is described anew",
        concat!(
            r#"created{"email":"u@x"}@1 deleted{"email":"z@x"}@2 created{"email":"u@x"}@3 "#,
            r#"updated{"email":"u@x"}@4"#,
        ), "",
        concat!(
            r#"a:created{D,"email":{"from":null,"to":"u@x"}} b:deleted{} c:created{D,"#,
            r#""email":{"from":null,"to":"u@x"}} d:updated{}"#,
        )),
    ("an update brings back as well", "deleted@1 updated@2", "", "a:deleted{} b:updated{D}"),
    ("nobody but deleted", "deleted@1", "", "a:deleted{}"),

    ("a late event takes its place",
        r#"created{"email":"a@x"}@1 updated{"email":"c@x"}@5 updated{"email":"b@x"}@3"#, "",
        concat!(
            r#"a:created{D,"email":{"from":null,"to":"a@x"}} c:updated{"email":{"from":"a@x","#,
            r#""to":"b@x"}}! b:updated{"email":{"from":"b@x","to":"c@x"}}"#,
        )),
    ("before the late event was known",
        r#"created{"email":"a@x"}@1 updated{"email":"c@x"}@5 updated{"email":"b@x"}@3"#, "k2",
        concat!(
            r#"a:created{D,"email":{"from":null,"to":"a@x"}} b:updated{"email":{"from":"a@x","#,
            r#""to":"c@x"}}"#,
        )),
    ("up to the late event, which is late for nothing then",
        r#"created{"email":"a@x"}@1 updated{"email":"c@x"}@5 updated{"email":"b@x"}@3"#, "@4",
        concat!(
            r#"a:created{D,"email":{"from":null,"to":"a@x"}} c:updated{"email":{"from":"a@x","#,
            r#""to":"b@x"}}"#,
        )),
    ("both cuts at once",
        r#"created{"email":"a@x"}@1 updated{"email":"c@x"}@5 updated{"email":"b@x"}@3"#, "@4k2",
        r#"a:created{D,"email":{"from":null,"to":"a@x"}}"#),
    ("late by more than one", "updated@5 updated@4 created@1 updated@9 deleted@7", "",
        "c:created{D}! b:updated{}! a:updated{} e:deleted{}! d:updated{D}"),
    ("nothing has happened yet", "created@5", "@4", ""),

    ("within a millisecond the end comes last", "deleted@1#a created@1#z", "",
        "z:created{D}! a:deleted{}"),
    ("within a millisecond by updated_at, a missing one first",
        concat!(
            r#"updated{"updated_at":"2026-03-02T00:00:09Z"}@1#a "#,
            r#"updated{"updated_at":"2026-03-02T00:00:08Z"}@1#b updated@1#c"#,
        ), "",
        "c:updated{D}! b:updated{}! a:updated{}"),
    ("within a millisecond by id", r#"updated{"email":"z@x"}@1#z updated{"email":"y@x"}@1#y"#, "",
        concat!(
            r#"y:updated{D,"email":{"from":null,"to":"y@x"}}! z:updated{"email":{"from":"y@x","#,
            r#""to":"z@x"}}"#,
        )),

    ("snapshots stand in", r#"added{"email":"s@x"}@1 removed{"email":"t@x"}@3"#, "",
        concat!(
            r#"a:snapshot{"email":{"from":null,"to":"s@x"}} b:snapshot{"email":{"from":"s@x","#,
            r#""to":"t@x"}}"#,
        )),
    ("until the first event of its own",
        r#"added{"email":"s@x"}@1 created{"email":"e@x"}@5 removed{"email":"t@x"}@7"#, "",
        concat!(
            r#"a:snapshot{"email":{"from":null,"to":"s@x"}} b:created{D,"email":{"from":"s@x","#,
            r#""to":"e@x"}}"#,
        )),
    ("not at its very moment", r#"created@5 added{"email":"s@x"}@5"#, "", "a:created{D}"),
    ("not at its very moment, told before it", r#"added{"email":"s@x"}@5 created@5"#, "",
        "b:created{D}"),
    ("a snapshot that an earlier event hides", r#"added{"email":"s@x"}@3 created@1"#, "",
        "b:created{D}"),
    ("before that event was known", r#"added{"email":"s@x"}@3 created@1"#, "k1",
        r#"a:snapshot{"email":{"from":null,"to":"s@x"}}"#),
    ("a snapshot that comes late", r#"added{"email":"s@x"}@1 created@5 removed{"email":"t@x"}@3"#,
        "",
        concat!(
            r#"a:snapshot{"email":{"from":null,"to":"s@x"}} c:snapshot{"email":{"from":"s@x","#,
            r#""to":"t@x"}}! b:created{D,"email":{"from":"t@x","to":null}}"#,
        )),
    ("snapshots before a deletion", r#"added{"email":"s@x"}@1 deleted@3 added{"email":"t@x"}@5"#,
        "", r#"a:snapshot{"email":{"from":null,"to":"s@x"}} b:deleted{}"#),

    ("an update that never arrived",
        r#"created{"email":"a@x"}@1
           updated{"email":"c@x","previous_attributes":{"email":"b@x"}}@3"#, "",
        concat!(
            r#"a:created{D,"email":{"from":null,"to":"a@x"}} b:updated{"email":{"from":"a@x","#,
            r#""to":"c@x"}}?{"email":{"known":"a@x","said":"b@x"}}"#,
        )),
    ("an update that arrived after all",
        concat!(
            r#"created{"email":"a@x"}@1 updated{"email":"c@x","#,
            r#""previous_attributes":{"email":"b@x"}}@3 updated{"email":"b@x","#,
            r#""previous_attributes":{"email":"a@x"}}@2"#,
        ), "",
        concat!(
            r#"a:created{D,"email":{"from":null,"to":"a@x"}} c:updated{"email":{"from":"a@x","#,
            r#""to":"b@x"}}! b:updated{"email":{"from":"b@x","to":"c@x"}}"#,
        )),
    ("said in the context",
        concat!(
            r#"created{"email":"a@x"}@1 "#,
            r#"updated{"email":"c@x"}^{"previous_attributes":{"email":"b@x"}}@3"#,
        ), "k2",
        concat!(
            r#"a:created{D,"email":{"from":null,"to":"a@x"}} b:updated{"email":{"from":"a@x","#,
            r#""to":"c@x"}}?{"email":{"known":"a@x","said":"b@x"}}"#,
        )),
    ("what the data say goes before the context",
        concat!(
            r#"created{"email":"a@x"}@1 updated{"email":"c@x","#,
            r#""previous_attributes":{}}^{"previous_attributes":{"email":"b@x"}}@3"#,
        ), "",
        concat!(
            r#"a:created{D,"email":{"from":null,"to":"a@x"}} b:updated{"email":{"from":"a@x","#,
            r#""to":"c@x"}}"#,
        )),
    ("what is no object says nothing",
        concat!(
            r#"created{"email":"a@x"}@1 updated{"email":"a@x","#,
            r#""previous_attributes":["email"]}^{"previous_attributes":{"email":"b@x"}}@3"#,
        ), "",
        concat!(
            r#"a:created{D,"email":{"from":null,"to":"a@x"}} "#,
            r#"b:updated{}?{"email":{"known":"a@x","said":"b@x"}}"#,
        )),
    ("missed without a change, of null, of a number as it is written, of attributes by their keys",
        concat!(
            r#"created{"job_title":"x","n":1,"custom_attributes":{"a":1,"b":2}}@1 "#,
            r#"updated{"job_title":"x","n":1,"custom_attributes":{"a":1,"b":2},"#,
            r#""previous_attributes":{"job_title":null,"n":1.0,"other":null,"updated_at":"z","#,
            r#""custom_attributes":{"a":1,"c":[3]}}}@2"#,
        ), "",
        concat!(
            r#"a:created{"custom_attributes.a":{"from":null,"to":1},"#,
            r#""custom_attributes.b":{"from":null,"to":2},D,"job_title":{"from":null,"to":"x"},"#,
            r#""n":{"from":null,"to":1}} b:updated{}?{"custom_attributes.c":{"known":null,"#,
            r#""said":[3]},"job_title":{"known":"x","said":null},"n":{"known":1,"said":1.0}}"#,
        )),
    ("a creation that says what was",
        r#"updated{"email":"a@x"}@1
           created{"email":"a@x","previous_attributes":{"email":"b@x"}}@2"#, "",
        concat!(
            r#"a:updated{D,"email":{"from":null,"to":"a@x"}} "#,
            r#"b:created{}?{"email":{"known":"a@x","said":"b@x"}}"#,
        )),
    ("of the first, after an end, of an end and after a snapshot nothing can be said",
        concat!(
            r#"added@1 updated{"previous_attributes":{"email":"b@x"}}@2 "#,
            r#"deleted{"previous_attributes":{"email":"b@x"}}@3 "#,
            r#"updated{"previous_attributes":{"email":"b@x"}}@4"#,
        ), "",
        "a:snapshot{} b:updated{D} c:deleted{} d:updated{D}"),
    ("of the first of all nothing can be said",
        r#"updated{"previous_attributes":{"email":"b@x"}}@2"#, "", "a:updated{D}"),
];

#[rustfmt::skip]
const OF_GROUP: &[Row] = &[
    ("a group's name",
        concat!(
            r#"gcreated{"name":"Eng"}@1 gupdated{"name":"Ops","#,
            r#""previous_attributes":{"name":"Dev"}}@2 gdeleted@3"#,
        ), "",
        concat!(
            r#"a:created{D,"name":{"from":null,"to":"Eng"}} b:updated{"name":{"from":"Eng","#,
            r#""to":"Ops"}}?{"name":{"known":"Eng","said":"Dev"}} c:deleted{}"#,
        )),
    ("snapshots of a group stand in",
        r#"gadded{"name":"Eng"}@1 gcreated{"name":"Ops"}@2 gremoved{"name":"Eng"}@3"#, "",
        concat!(
            r#"a:snapshot{"name":{"from":null,"to":"Eng"}} b:created{D,"name":{"from":"Eng","#,
            r#""to":"Ops"}}"#,
        )),
    ("a group in both clocks",
        r#"gcreated{"name":"Eng"}@1 gupdated{"name":"Ops"}@4 gupdated{"name":"Dev"}@2"#, "@3k3",
        concat!(
            r#"a:created{D,"name":{"from":null,"to":"Eng"}} c:updated{"name":{"from":"Eng","#,
            r#""to":"Dev"}}"#,
        )),
];

fn check(path: &str, rows: &[Row]) {
    let mut failures = Vec::new();
    for (case, story, ask, expected) in rows {
        let folder = tempfile::tempdir().unwrap();
        let server = Server::start(folder.path());
        tell(&server, story);
        let (found, cursors) = page(&server, &format!("{path}?{}", cut(ask)));
        assert_eq!(cursors, json!({"before": null, "after": null}), "{case}");
        if found != *expected {
            failures.push(format!("{case}:\n  {found}\n  {expected}"));
        }
    }
    assert!(
        failures.is_empty(),
        "{} of {} rows:\n{}",
        failures.len(),
        rows.len(),
        failures.join("\n")
    );
}

#[test]
fn every_history_of_a_user_is_told_to_the_letter() {
    check("/rollcall/v1/users/U/history", OF_USER);
}

#[test]
fn every_history_of_a_group_is_told_to_the_letter() {
    check("/rollcall/v1/groups/G/history", OF_GROUP);
}

#[test]
fn a_version_names_its_event_and_repeats_for_ever() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let before = now_ms();
    tell(&server, r#"created@1 updated{"email":"u@x"}@3"#);
    let after = now_ms();
    let answer = server.get("/rollcall/v1/users/U/history?order=desc&limit=1");
    let version = answer.json()["data"][0].clone();
    let recorded_at = version["cause"]["recorded_at"].as_str().unwrap().to_owned();
    assert!((before..=after).contains(&read_time(&recorded_at).unwrap()), "{recorded_at}");
    let cause = json!({"event_id": "b", "event": "dsync.user.updated", "occurred_at": moment(3),
        "recorded_at": recorded_at, "seq": 2});
    let changed = json!({"email": {"from": null, "to": "u@x"}});
    assert_eq!(
        version,
        json!({"object": "user_version", "user_id": "U", "change": "updated", "changed": changed,
            "missed": null, "late": false, "proof": "webhook", "cause": cause})
    );
    assert_eq!(
        (answer.header("rollcall-as-of"), answer.header("rollcall-known-at")),
        (Some("latest"), Some("2"))
    );
    server.deliver(&body("updated@2", 'c'));
    assert_eq!(
        server.get("/rollcall/v1/users/U/history?order=desc&limit=1&as_of=latest&known_at=2").body,
        answer.body
    );
}

/// The events of a page, and its two cursors as parameters.
fn paged(server: &Server, path: &str) -> (String, Option<String>, Option<String>) {
    let answer = server.get(path);
    assert_eq!(answer.status, 200, "{path}: {}", answer.json());
    let page = answer.json();
    let ids = page["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["cause"]["event_id"].as_str().unwrap())
        .collect();
    let cursor =
        |name: &str| page["list_metadata"][name].as_str().map(|cursor| format!("&{name}={cursor}"));
    (ids, cursor("before"), cursor("after"))
}

const SEVEN: &str = "created@1 updated@2 updated@3 updated@3 deleted@3 created@6 updated@7";

#[test]
fn a_history_is_paged_in_either_order_and_back() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    tell(&server, SEVEN);
    for (order, pages) in [
        ("", ["abc", "def", "g"]),
        ("&order=asc", ["abc", "def", "g"]),
        ("&order=desc", ["gfe", "dcb", "a"]),
    ] {
        let base = format!("/rollcall/v1/users/U/history?limit=3{order}");
        let [first, second, third] = pages;
        let (ids, before, after) = paged(&server, &base);
        assert_eq!((ids.as_str(), before), (first, None));
        let (ids, back_to_first, after) = paged(&server, &(base.clone() + &after.unwrap()));
        assert_eq!(ids, second);
        let (ids, back_to_second, after) = paged(&server, &(base.clone() + &after.unwrap()));
        assert_eq!((ids.as_str(), after), (third, None));
        let (ids, before, after) = paged(&server, &(base.clone() + &back_to_first.unwrap()));
        assert_eq!((ids.as_str(), before, after.is_some()), (first, None, true));
        let (ids, before, after) = paged(&server, &(base + &back_to_second.unwrap()));
        assert_eq!((ids.as_str(), before.is_some(), after.is_some()), (second, true, true));
    }
    let (ids, before, after) = paged(&server, "/rollcall/v1/users/U/history?limit=7");
    assert_eq!((ids.as_str(), before, after), ("abcdefg", None, None));
}

#[test]
fn what_arrives_between_two_pages_neither_skips_nor_repeats_anything() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    // Before its creation is told the user is known from two snapshots.
    tell(&server, "added@1#p removed@2#q updated@5#r updated@6#s updated@8#t");
    let base = "/rollcall/v1/users/U/history?limit=2";
    let (ids, _, after) = paged(&server, base);
    assert_eq!(ids, "pq");
    // One in the part that was shown, one in the part to come, one that hides all that was shown.
    server.deliver(&body("updated@7#v", 'v'));
    server.deliver(&body("created@2#u", 'u'));
    server.deliver(&body("created@1#o", 'o'));
    let (ids, before, after) = paged(&server, &format!("{base}{}", after.unwrap()));
    assert_eq!(ids, "rs", "the snapshots are hidden, and their place is not");
    let (ids, ..) = paged(&server, &format!("{base}{}", before.unwrap()));
    assert_eq!(ids, "ou");
    let (ids, _, end) = paged(&server, &format!("{base}{}", after.unwrap()));
    assert_eq!((ids.as_str(), end), ("vt", None));
}

#[test]
fn who_was_ever_spoken_of_has_a_history_and_nobody_else() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    tell(&server, "gcreated@1 added@5 deleted@7");
    let status = |path: &str| {
        let answer = server.get(&format!("/rollcall/v1/{path}"));
        let found = if answer.status == 200 {
            answer.json()["data"].as_array().unwrap().len().to_string()
        } else {
            answer.code()
        };
        format!("{} {found}", answer.status)
    };
    for (path, expected) in [
        ("users/U/history", "200 2"),
        ("users/U/history?known_at=2", "200 1"),
        ("users/U/history?known_at=1", "404 entity_not_found"),
        ("groups/G/history?known_at=0", "404 entity_not_found"),
        ("groups/G/history", "200 1"),
        ("users/G/history", "404 entity_not_found"),
        ("groups/U/history", "404 entity_not_found"),
        ("users/u/history", "404 entity_not_found"),
        ("users/%55/history", "200 2"),
        ("users/U/history?after=1", "422 cursor_invalid"),
        ("users/U/history?after=1.2..61", "422 cursor_invalid"),
        ("users/U/history?before=1.0..6", "422 cursor_invalid"),
        ("users/U/history?after=-1.0.5.YQ", "200 2"),
        ("users/U/history?after=1.0..61&before=1.0..61", "422 validation_failed"),
        ("users/U/history?order=normal", "422 validation_failed"),
        ("users/U/history?limit=1001", "422 validation_failed"),
        ("users/U/history?known_at=4", "422 known_at_out_of_range"),
        ("users/U/history?as_of=9999-01-01T00:00:00Z", "422 as_of_in_future"),
    ] {
        assert_eq!(status(path), expected, "{path}");
    }
    // Spoken of, though nothing had happened by then.
    assert_eq!(status(&format!("users/U/history?as_of={}", moment(4))), "200 0");
}
