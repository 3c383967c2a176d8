//! Roles, case by case: a history in a small notation, the cut, and the answer with its reasons.
//!
//! Every row is answered by the model and by the server alike.
//!
//! A history is a list of items `what@second`; the first event has the id `a`, the second `b`,
//! and so on. `U` and `V` are users, `G` and `H` groups, `D` and `E` directories, and all live in
//! `D` unless `/E` says otherwise: `U@1` a version of a user, `U:inactive@1` in that state,
//! `U{"level":3}@1` with these fields; `G=Eng@1` a version of a group with this name; `D=o@1` an
//! activation with this organization, `!D@1` a deactivation; `xU@1`, `xG@1`, `xD@1` deletions;
//! `+G,U@1` and `-G,U@1` a membership; `policy=delete@1` a policy from then on; `DELETE:D` an
//! operator's deletion; `map{rules}@1` a mapping from then on, rules separated by `;`:
//! `name:Eng=dev,ops`, `id:G=dev`, `glob:E*=dev`, `custom.level:3=dev` (an attribute), with `/in:D`
//! or `/of:o` for its scope, `default=member`, `priority=ops,dev`, `highest=ops,dev` (only the
//! highest).
//!
//! A role is written `dev@2[0:G@3=c]`: since second 2, now because of rule 0 through G since second
//! 3, by event c.

use serde_json::{Value, json};

use crate::kit::model::{Cut, read_time, rfc3339};
use crate::kit::server::{Server, holds, now_ms};
use crate::kit::stage::Stage;

pub fn moment(second: i64) -> i64 {
    read_time("2026-03-02T00:00:00Z").unwrap() + second * 1000
}

/// Writes a time of an answer as the tables do.
fn short(time: &Value) -> String {
    let Some(time) = time.as_str() else { return String::new() };
    match read_time(time).unwrap() - moment(0) {
        ms @ 0..60_000 if ms % 1000 == 0 => (ms / 1000).to_string(),
        _ => "now".to_owned(),
    }
}

fn short_cause(cause: &Value) -> &str {
    match cause["event"].as_str() {
        Some("rollcall.mapping.set") => "mapping",
        Some("rollcall.policy.set") => "policy",
        Some("rollcall.directory.deleted") => "deletion",
        _ => cause["event_id"].as_str().unwrap_or("none"),
    }
}

fn short_assignment(assignment: &Value) -> String {
    let because = |because: &Value| {
        let through = because["group_id"].as_str().or(because["attribute"].as_str());
        let rule = because["rule"]
            .as_u64()
            .map_or("default".to_owned(), |rule| format!("{rule}:{}", through.unwrap_or("?")));
        format!("{rule}@{}={}", short(&because["since"]), short_cause(&because["cause"]))
    };
    let because: Vec<String> =
        assignment["because"].as_array().unwrap().iter().map(because).collect();
    format!(
        "{}@{}[{}]",
        assignment["role"].as_str().unwrap(),
        short(&assignment["since"]),
        because.join(",")
    )
}

fn short_period(period: &Value) -> String {
    let end = if period["end"].is_null() && period["until"].is_null() {
        String::new()
    } else {
        format!(",{}", short_cause(&period["end"]))
    };
    let (role, from, until) =
        (period["role"].as_str().unwrap(), short(&period["from"]), short(&period["until"]));
    format!("{role}@{from}-{until}({}{end})", short_cause(&period["start"]))
}

// --- The notation ---

fn rule(text: &str) -> Value {
    let (matcher, rest) = text.split_once('=').unwrap();
    let mut parts = rest.split('/');
    let roles: Vec<&str> = parts.next().unwrap().split(',').collect();
    let (kind, pattern) = matcher.split_once(':').unwrap();
    let mut rule = match kind {
        "id" | "name" => json!({ "group": { kind: pattern }, "roles": roles }),
        "glob" => json!({ "group": { "name_glob": pattern }, "roles": roles }),
        path => json!({ "attribute": path, "values": { pattern: roles } }),
    };
    for scope in parts {
        match scope.split_once(':').unwrap() {
            ("in", directory) => rule["directory_id"] = json!(directory),
            (_, organization) => rule["organization_id"] = json!(organization),
        }
    }
    rule
}

fn mapping(text: &str) -> Value {
    let mut mapping = json!({ "mode": "all", "default_roles": [], "priority": [], "rules": [] });
    for part in text.split(';').filter(|part| !part.is_empty()) {
        let roles = || part.split_once('=').unwrap().1.split(',').collect::<Vec<&str>>();
        match part.split_once('=').unwrap().0 {
            "default" => mapping["default_roles"] = json!(roles()),
            "priority" => mapping["priority"] = json!(roles()),
            "highest" => {
                mapping["mode"] = json!("highest_priority");
                mapping["priority"] = json!(roles());
            }
            _ => mapping["rules"].as_array_mut().unwrap().push(rule(part)),
        }
    }
    mapping
}

/// Type and data of an event, the data as text: some rows depend on how it is written.
fn event(what: &str) -> (String, String) {
    let (sign, what) = match what.as_bytes()[0] {
        b'x' | b'!' | b'+' | b'-' => (&what[..1], &what[1..]),
        _ => ("", what),
    };
    let (what, more) = what
        .split_once('{')
        .map_or((what, ""), |(what, more)| (what, more.strip_suffix('}').unwrap()));
    let (what, state) = what.split_once(':').unwrap_or((what, ""));
    let (what, value) = what.split_once('=').unwrap_or((what, ""));
    let (what, directory) = what.split_once('/').unwrap_or((what, "D"));
    let mut data = format!(r#""id":"{what}","directory_id":"{directory}""#);
    if !state.is_empty() {
        data += &format!(r#","state":"{state}""#);
    }
    if !more.is_empty() {
        data += &format!(",{more}");
    }
    let event = match (sign, &what[..1]) {
        ("+" | "-", _) => {
            let (group, user) = what.split_once(',').unwrap();
            data = format!(
                concat!(
                    r#""directory_id":"{directory}","group":{{"id":"{group}"}},"#,
                    r#""user":{{"id":"{user}"}}"#,
                ),
                directory = directory,
                group = group,
                user = user
            );
            if sign == "+" { "dsync.group.user_added" } else { "dsync.group.user_removed" }
        }
        ("x", "U" | "V") => "dsync.user.deleted",
        ("x", "G" | "H") => "dsync.group.deleted",
        ("x", _) => "dsync.deleted",
        ("!", _) => "dsync.deactivated",
        (_, "U" | "V") => "dsync.user.updated",
        (_, "G" | "H") => {
            data += &format!(r#","name":"{value}""#);
            "dsync.group.updated"
        }
        _ => {
            data = format!(r#""id":"{what}","organization_id":"{value}""#);
            "dsync.activated"
        }
    };
    (event.to_owned(), data)
}

fn tell(stage: &mut Stage, history: &str) {
    for (what, id) in history.split_whitespace().zip(told(history)) {
        let (what, at) = what
            .rsplit_once('@')
            .map_or((what, None), |(what, at)| (what, Some(moment(at.parse().unwrap()))));
        if let Some(directory) = what.strip_prefix("DELETE:") {
            stage.delete_directory(directory);
        } else if let Some(inactive_users) = what.strip_prefix("policy=") {
            stage.set_policy(inactive_users, at);
        } else if let Some(rules) = what.strip_prefix("map{") {
            stage.set_mapping(&mapping(rules.strip_suffix('}').unwrap()), at, Value::Null);
        } else {
            let (event, data) = event(what);
            let at = rfc3339(at.unwrap());
            let body = format!(
                r#"{{"id":"{id}","event":"{event}","created_at":"{at}","data":{{{data}}}}}"#
            );
            stage.deliver(body.as_bytes(), now_ms());
        }
    }
}

/// The id of each event; an act has none.
fn told(history: &str) -> impl Iterator<Item = char> {
    let mut letters = 'a'..='z';
    let is_act = |what: &str| {
        what.starts_with("map{") || what.starts_with("policy=") || what.starts_with("DELETE:")
    };
    history
        .split_whitespace()
        .map(move |what| if is_act(what) { '-' } else { letters.next().unwrap() })
}

/// `@4` as of second 4, `k3` known at record 3, `@4k3` both, nothing: all.
fn cut(ask: &str) -> Cut {
    let (at, known_at) =
        ask.split_once('k').map_or((ask, None), |(at, seq)| (at, Some(seq.parse().unwrap())));
    Cut { as_of_ms: at.strip_prefix('@').map(|second| moment(second.parse().unwrap())), known_at }
}

fn query(cut: Cut) -> String {
    let as_of = cut.as_of_ms.map(|ms| format!("&as_of={}", rfc3339(ms))).unwrap_or_default();
    let known_at = cut.known_at.map(|seq| format!("&known_at={seq}")).unwrap_or_default();
    as_of + &known_at
}

fn list(server: &Server, url: &str) -> Vec<Value> {
    let answer = server.get(url);
    assert_eq!(answer.status, 200, "{url}: {}", answer.json());
    assert!(answer.header("rollcall-mapping-version").is_some(), "{url}");
    answer.json()["data"].as_array().unwrap().clone()
}

fn words(items: &[Value], word: fn(&Value) -> String) -> String {
    items.iter().map(word).collect::<Vec<String>>().join(" ")
}

const USER: [(&str, &str); 1] = [("user", "U")];

fn modelled_assignments(stage: &Stage, cut: Cut) -> String {
    let query = USER.map(|(key, value)| (key.to_owned(), value.to_owned()));
    words(&stage.world.role_assignments(&query, cut), short_assignment)
}

fn served_assignments(stage: &Stage, cut: Cut) -> String {
    words(
        &list(stage.server(), &format!("/rollcall/v1/role_assignments?user=U{}", query(cut))),
        short_assignment,
    )
}

/// Plays every row before the model, or before servers, several at a time.
fn play<R: Sync>(
    rows: &[R],
    served: bool,
    check: impl Fn(&mut Stage, &R) -> Option<String> + Sync,
) {
    let next = std::sync::atomic::AtomicUsize::new(0);
    let failures = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some(row) =
                    rows.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed))
                {
                    let folder = tempfile::tempdir().unwrap();
                    let mut stage = Stage::new(served.then(|| Server::start(folder.path())));
                    failures.lock().unwrap().extend(check(&mut stage, row));
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(
        failures.is_empty(),
        "{} of {} rows:\n{}",
        failures.len(),
        rows.len(),
        failures.join("\n")
    );
}

// --- Who has which role, why, and since when ---

/// Case, history, cut, and U's roles.
type Row = (&'static str, &'static str, &'static str, &'static str);

#[rustfmt::skip]
const ROLES: &[Row] = &[
    ("before any mapping there are none", "U@0 G=Eng@0 +G,U@1", "", ""),
    ("the union of all groups' roles",
        "U@0 G=Eng@0 H=Ops@0 +G,U@2 +H,U@3 map{name:Eng=dev;name:Ops=ops,dev}@0", "",
        "dev@2[0:G@2=d,1:H@3=e] ops@3[1:H@3=e]"),
    ("what is not said yet",
        "U@0 G=Eng@0 H=Ops@0 +G,U@2 +H,U@3 map{name:Eng=dev;name:Ops=ops,dev}@0", "@2",
        "dev@2[0:G@2=d]"),
    ("empty: the defaults", "U@1 map{name:Eng=dev;default=member,guest}@0", "",
        "guest@1[default@1=a] member@1[default@1=a]"),
    ("a rule's role ends the defaults", "U@0 G=Eng@1 +G,U@2 map{name:Eng=dev;default=member}@0", "",
        "dev@2[0:G@2=c]"),
    ("the defaults' cause is what ended the last rule",
        "U@0 G=Eng@0 +G,U@2 -G,U@5 map{name:Eng=dev;default=member}@0", "",
        "member@5[default@5=d]"),
    ("a name and a group in two normalization forms, since a mapping of the past",
        "U@0 G=Cafe\u{301}@0 H=Caf\u{e9}@0 +G,U@2 +H,U@3 map{name:Caf\u{e9}=a;glob:Caf?=b}@0", "",
        "a@2[0:G@2=d,0:H@3=e] b@2[1:G@2=d,1:H@3=e]"),
    ("a mapping that writes the name otherwise goes on",
        "U@0 G=Cafe\u{301}@0 +G,U@2 map{name:Caf\u{e9}=a}@0 map{name:Cafe\u{301}=a}@5", "",
        "a@2[0:G@2=c]"),
    ("names compare with their case and white space",
        "U@0 G=Caf\u{c9}@0 +G,U@2 map{name:Caf\u{e9}=a}@0", "", ""),
    ("no defaults, no roles", "U@0 G=Eng@0 +G,U@2 -G,U@5 map{name:Eng=dev}@0", "", ""),
    ("a rule and the defaults give the same role",
        "U@0 G=Eng@0 +G,U@2 map{name:Eng=member;default=member}@0", "", "member@0[0:G@2=c]"),

    ("only the highest of several",
        "U@0 G=Eng@0 H=Ops@0 +G,U@2 +H,U@3 map{highest=ops,dev;name:Eng=dev;name:Ops=ops}@0", "",
        "ops@3[1:H@3=e]"),
    ("only the highest, before there are several",
        "U@0 G=Eng@0 H=Ops@0 +G,U@2 +H,U@3 map{highest=ops,dev;name:Eng=dev;name:Ops=ops}@0", "@2",
        "dev@2[0:G@2=d]"),
    ("only the highest of a rule's own roles",
        "U@0 G=Eng@0 +G,U@2 map{highest=ops,dev;name:Eng=dev,ops}@0", "", "ops@2[0:G@2=c]"),
    ("only the highest of the defaults", "U@1 map{highest=b,a;default=a,b}@0", "",
        "b@1[default@1=a]"),
    ("the next one when the highest ends",
        "U@0 G=Eng@0 H=Ops@0 +G,U@1 +H,U@2 -H,U@5 map{highest=ops,dev;name:Eng=dev;name:Ops=ops}@0",
        "", "dev@5[0:G@5=f]"),

    ("two groups give a role, one is left",
        "U@0 G=Eng@0 H=Ops@0 +G,U@2 +H,U@3 -G,U@5 map{name:Eng=dev;name:Ops=dev}@0", "",
        "dev@2[1:H@3=e]"),
    ("one rule through two groups", "U@0 G=Eng@0 H=Eng@0 +H,U@2 +G,U@3 map{name:Eng=dev}@0", "",
        "dev@2[0:G@3=e,0:H@2=d]"),
    ("a reason ends and comes back",
        "U@0 G=Eng@0 H=Ops@0 +G,U@2 +H,U@3 -G,U@5 +G,U@7 map{name:Eng=dev;name:Ops=dev}@0", "",
        "dev@2[0:G@7=g,1:H@3=e]"),

    ("a group by id", "U@0 G=Eng@0 +G,U@1 map{id:G=dev;id:H=ops}@0", "", "dev@1[0:G@1=c]"),
    ("a group by name, exactly", "U@0 G=Eng@0 +G,U@1 map{name:eng=dev;name:En=ops;name:E*=ops}@0",
        "", ""),
    ("a mapped group is renamed", "U@0 G=Eng@0 +G,U@1 G=Sales@4 map{name:Eng=dev}@0", "", ""),
    ("a mapped group before it is renamed", "U@0 G=Eng@0 +G,U@1 G=Sales@4 map{name:Eng=dev}@0",
        "@3", "dev@1[0:G@1=c]"),
    ("a group is renamed into a rule", "U@0 G=Sales@0 +G,U@1 G=Eng@4 map{name:Eng=dev}@0", "",
        "dev@4[0:G@4=d]"),
    ("a rename within a glob changes nothing",
        "U@0 G=Eng@0 +G,U@1 G=Engineering@4 map{glob:Eng*=dev}@0", "", "dev@1[0:G@1=c]"),
    ("a rename out of a glob",
        "U@0 G=Eng@0 +G,U@1 G=Engineering@4 map{glob:Eng=dev;glob:Eng?=ops}@0", "", ""),
    ("a rename from one glob into another",
        "U@0 G=Eng@0 +G,U@1 G=Engs@4 map{glob:E?g=dev;glob:Eng?=ops}@0", "", "ops@4[1:G@4=d]"),
    ("in a glob all else is literal",
        "U@0 G=E[n]g.@0 +G,U@1 map{glob:E[n]g?=dev;glob:Eng?=ops;glob:E.*=ops}@0", "",
        "dev@1[0:G@1=c]"),
    ("a question mark is one character, however wide",
        "U@0 G=日本@0 +G,U@1 map{glob:日?=dev;glob:日??=ops}@0", "", "dev@1[0:G@1=c]"),

    ("a group is deleted", "U@0 G=Eng@0 +G,U@1 xG@4 map{name:Eng=dev;default=member}@0", "",
        "member@4[default@4=d]"),
    ("a group comes back without its members",
        "U@0 G=Eng@0 +G,U@1 xG@4 G=Eng@6 map{name:Eng=dev}@0", "", ""),
    ("a user is inactive", "U@0 G=Eng@0 +G,U@1 U:inactive@4 map{name:Eng=dev;default=member}@0", "",
        ""),
    ("an inactive user is active again", "U@0 G=Eng@0 +G,U@1 U:inactive@4 U@6 map{name:Eng=dev}@0",
        "", "dev@6[0:G@6=e]"),
    ("a user is deleted", "U@0 G=Eng@0 +G,U@1 xU@4 map{name:Eng=dev;default=member}@0", "", ""),
    ("a user is revived, and its memberships are not",
        "U@0 G=Eng@0 +G,U@1 xU@4 U@6 map{name:Eng=dev;default=member}@0", "",
        "member@6[default@6=e]"),
    ("a revived user is added again",
        "U@0 G=Eng@0 +G,U@1 xU@4 U@6 +G,U@7 map{name:Eng=dev;default=member}@0", "",
        "dev@7[0:G@7=f]"),
    ("a user that nobody announced", "+G,U@2 map{id:G=dev}@0", "", "dev@2[0:G@2=a]"),
    ("a directory is unlinked", "D@0 U@0 G=Eng@0 +G,U@1 !D@4 map{name:Eng=dev}@0", "", ""),
    ("a directory is linked again", "D@0 U@0 G=Eng@0 +G,U@1 !D@4 D@6 map{name:Eng=dev}@0", "",
        "dev@6[0:G@6=f]"),
    ("a directory is deleted", "D@0 U@0 G=Eng@0 +G,U@1 xD@4 map{name:Eng=dev;default=member}@0", "",
        ""),
    ("a deleted directory comes back, its users do not",
        "D@0 U@0 G=Eng@0 +G,U@1 xD@4 D@6 map{name:Eng=dev;default=member}@0", "", ""),
    ("a user of a directory that came back",
        "D@0 U@0 G=Eng@0 +G,U@1 xD@4 D@6 U@7 map{name:Eng=dev;default=member}@0", "",
        "member@7[default@7=g]"),
    ("an operator deletes the directory", "U@0 G=Eng@0 +G,U@1 map{name:Eng=dev}@0 DELETE:D", "",
        ""),
    ("before an operator deleted the directory", "U@0 G=Eng@0 +G,U@1 map{name:Eng=dev}@0 DELETE:D",
        "@9", "dev@1[0:G@1=c]"),
    ("the directory of a group in another one is deleted",
        "U@0 G/E=Eng@0 +G,U/E@1 xE@4 map{name:Eng=dev;default=member}@0", "",
        "member@4[default@4=d]"),

    ("a rule for one directory", "U@0 G=Eng@0 +G,U@1 map{name:Eng=dev/in:D;name:Eng=ops/in:E}@0",
        "", "dev@1[0:G@1=c]"),
    ("it is the user's directory that counts, not the group's",
        "U@0 G/E=Eng@0 +G,U/E@1 map{name:Eng=dev/in:D;name:Eng=ops/in:E}@0", "", "dev@1[0:G@1=c]"),
    ("a user moves to another directory",
        "U@0 G=Eng@0 +G,U@1 U/E@5 map{name:Eng=dev/in:D;name:Eng=ops/in:E}@0", "",
        "ops@5[1:G@5=d]"),
    ("a user moves within an unbroken role", "U@0 G=Eng@0 +G,U@1 U/E@5 map{name:Eng=dev}@0", "",
        "dev@1[0:G@1=c]"),
    ("a rule for one organization",
        "D=o@0 U@0 G=Eng@0 +G,U@1 map{name:Eng=dev/of:o;name:Eng=ops/of:p}@0", "",
        "dev@1[0:G@1=d]"),
    ("a directory gets another organization",
        "D=o@0 U@0 G=Eng@0 +G,U@1 D=p@5 map{name:Eng=dev/of:o;name:Eng=ops/of:p}@0", "",
        "ops@5[1:G@5=e]"),
    ("it is the directory's organization that counts, not the user's own",
        r#"D=o@0 U{"organization_id":"p","t":"x"}@1 map{t:x=dev/of:p;t:x=ops/of:o}@0"#, "",
        "ops@1[1:t@1=b]"),
    ("a stub has the organization of the first event that names it with one",
        r#"U{"t":"x"}@1 V{"organization_id":"o"}@3 map{t:x=dev/of:o}@0"#, "", "dev@3[0:t@3=b]"),
    ("both scopes must fit",
        "D=o@0 U@0 G=Eng@0 +G,U@1 map{name:Eng=dev/in:D/of:o;name:Eng=ops/in:D/of:p}@0", "",
        "dev@1[0:G@1=d]"),

    ("an attribute: a string", r#"U{"t":"Engineer"}@1 map{t:Engineer=dev;t:engineer=ops}@0"#, "",
        "dev@1[0:t@1=a]"),
    ("an attribute: a number by its text",
        r#"U{"n":3,"m":3.0,"l":1e2}@1 map{n:3=a;m:3=b;m:3.0=c;l:100=d;l:1e2=e;n:3.0=f}@0"#, "",
        "a@1[0:n@1=a] c@1[2:m@1=a] e@1[4:l@1=a]"),
    ("an attribute: a great number by its text",
        r#"U{"n":12345678901234567890123}@1 map{n:12345678901234567890123=a}@0"#, "",
        "a@1[0:n@1=a]"),
    ("an attribute: a boolean by its text",
        r#"U{"t":true,"f":false}@1 map{t:true=a;f:false=b;t:1=c;f:true=d}@0"#, "",
        "a@1[0:t@1=a] b@1[1:f@1=a]"),
    ("an attribute: a string that looks like a number", r#"U{"n":"3"}@1 map{n:3=a}@0"#, "",
        "a@1[0:n@1=a]"),
    ("an attribute: null is nothing", r#"U{"n":null}@1 map{n:null=a}@0"#, "", ""),
    ("an attribute: an array with such an element",
        r#"U{"t":["x","admin",7]}@1 map{t:admin=a;t:7=b;t:y=c}@0"#, "",
        "a@1[0:t@1=a] b@1[1:t@1=a]"),
    ("an attribute: an array in an array matches nothing",
        r#"U{"t":[["admin"],{"t":"admin"}]}@1 map{t:admin=a}@0"#, "", ""),
    ("an attribute: an object matches nothing", r#"U{"t":{"t":"admin"}}@1 map{t:admin=a}@0"#, "",
        ""),
    ("an attribute: nested",
        r#"U{"custom_attributes":{"a":{"b":"x"}}}@1 map{custom_attributes.a.b:x=a;a.b:x=b}@0"#, "",
        "a@1[0:custom_attributes.a.b@1=a]"),
    ("an attribute: an array on the way matches nothing", r#"U{"c":[{"r":"x"}]}@1 map{c.r:x=a}@0"#,
        "", ""),
    ("an attribute: of a key given twice the last", r#"U{"t":"x","t":"y"}@1 map{t:x=a;t:y=b}@0"#,
        "", "b@1[1:t@1=a]"),
    ("an attribute: of an object given twice the last",
        r#"U{"c":{"t":"x"},"c":{}}@1 map{c.t:x=a}@0"#, "", ""),
    ("an attribute: escapes", r#"U{"\u0074":"\u0078"}@1 map{t:x=a}@0"#, "", "a@1[0:t@1=a]"),
    ("an attribute: previous_attributes is none",
        r#"U{"previous_attributes":{"t":"x"}}@1 map{previous_attributes.t:x=a;t:x=b}@0"#, "", ""),
    ("an attribute: it ends with the version that has it", r#"U{"t":"x"}@1 U@5 map{t:x=a}@0"#, "",
        ""),
    ("an attribute: it outlasts a version that has it too",
        r#"U{"t":"x"}@1 U{"t":["x"]}@5 map{t:x=a}@0"#, "", "a@1[0:t@1=a]"),
    ("an attribute of a version before the mapping was set", r#"U{"t":"x"}@1 map{}@0 map{t:x=a}@3"#,
        "", "a@3[0:t@3=mapping]"),
    ("an attribute of a version after the mapping was set", r#"map{t:x=a}@0 U{"t":"x"}@1"#, "",
        "a@1[0:t@1=a]"),

    ("a late addition corrects the past", "U@0 G=Eng@0 +G,U@4 map{name:Eng=dev}@0 +G,U@2", "",
        "dev@2[0:G@2=d]"),
    ("a late addition, before it was known", "U@0 G=Eng@0 +G,U@4 map{name:Eng=dev}@0 +G,U@2",
        "@9k4", "dev@4[0:G@4=c]"),
    ("a late removal corrects the past", "U@0 G=Eng@0 +G,U@2 +G,U@4 map{name:Eng=dev}@0 -G,U@3", "",
        "dev@4[0:G@4=d]"),
    ("a late removal, before it was known", "U@0 G=Eng@0 +G,U@2 +G,U@4 map{name:Eng=dev}@0 -G,U@3",
        "k5", "dev@2[0:G@2=c]"),
    ("a group is learnt to have another name", "U@0 +G,U@2 G=Eng@5 map{name:Eng=dev}@0 G=Eng@1", "",
        "dev@2[0:G@2=b]"),
    ("a user is learnt to have been inactive",
        "U@0 G=Eng@0 +G,U@2 map{name:Eng=dev}@0 U@6 U:inactive@4", "", "dev@6[0:G@6=d]"),

    ("two rules of the same meaning are one reason, by the first",
        "U@0 G=Eng@0 +G,U@1 map{name:Eng=dev;name:Eng=dev}@0", "", "dev@1[0:G@1=c]"),
    ("the first of those that give the role",
        "U@0 G=Eng@0 +G,U@1 map{name:Eng=dev;name:Eng=dev,ops}@0", "",
        "dev@1[0:G@1=c] ops@1[1:G@1=c]"),
    ("two matchers that fit one group are two reasons",
        "U@0 G=Eng@0 +G,U@1 map{name:Eng=dev;id:G=dev;glob:E*=dev}@0", "",
        "dev@1[0:G@1=c,1:G@1=c,2:G@1=c]"),

    ("a role is unbroken from one mapping to the next",
        "U@0 G=Eng@0 +G,U@1 map{name:Eng=dev}@0 map{name:Eng=dev,ops}@5", "",
        "dev@1[0:G@1=c] ops@5[0:G@5=mapping]"),
    ("a reason is unbroken though its rule has another number",
        "U@0 G=Eng@0 +G,U@1 map{name:Eng=dev}@0 map{name:Ops=ops;name:Eng=dev}@5", "",
        "dev@1[1:G@1=c]"),
    ("another matcher is another reason in an unbroken role",
        "U@0 G=Eng@0 +G,U@1 map{name:Eng=dev}@0 map{id:G=dev}@5", "", "dev@1[0:G@5=mapping]"),
    ("another scope is another reason in an unbroken role",
        "U@0 G=Eng@0 +G,U@1 map{name:Eng=dev}@0 map{name:Eng=dev/in:D}@5", "",
        "dev@1[0:G@5=mapping]"),
    ("a mapping between two of the same breaks a role",
        "U@0 G=Eng@0 +G,U@1 map{name:Eng=dev}@0 map{}@3 map{name:Eng=dev}@5", "",
        "dev@5[0:G@5=mapping]"),
    ("defaults are unbroken from one mapping to the next",
        "U@1 map{default=member}@0 map{name:Eng=dev;default=guest,member}@5", "",
        "guest@5[default@5=mapping] member@1[default@1=a]"),
    ("an attribute's other value is the same reason",
        r#"U{"t":"x"}@1 U{"t":"y"}@5 map{t:x=dev;t:y=dev}@0"#, "", "dev@1[0:t@1=a]"),

    ("a mapping counts from its moment", "U@0 G=Eng@0 +G,U@1 map{name:Eng=dev}@4", "@3", ""),
    ("a mapping is the cause of what it gives", "U@0 G=Eng@0 +G,U@1 map{name:Eng=dev}@4", "@4",
        "dev@4[0:G@4=mapping]"),
    ("a mapping set later overrides from its moment on",
        "U@0 G=Eng@0 +G,U@1 map{name:Eng=dev}@4 map{name:Eng=ops}@2", "", "ops@2[0:G@2=mapping]"),
    ("a mapping that is overridden at its own moment is no cause",
        "U@0 G=Eng@0 +G,U@4 map{name:Eng=dev}@4 map{name:Eng=dev}@2", "", "dev@4[0:G@4=c]"),
    ("before the overriding mapping was known",
        "U@0 G=Eng@0 +G,U@1 map{name:Eng=dev}@4 map{name:Eng=ops}@2", "k4", "dev@4[0:G@4=mapping]"),
    ("a mapping without a moment counts from now", "U@0 G=Eng@0 +G,U@1 map{name:Eng=dev}", "",
        "dev@now[0:G@now=mapping]"),
    ("of several events in one millisecond the last", "U@2 G=Eng@2 +G,U@2 map{name:Eng=dev}@0", "",
        "dev@2[0:G@2=c]"),
    ("of several events in one millisecond the last in order, not by arrival",
        r#"U@0 G=Eng@0 G=Eng{"updated_at":"2026-03-02T00:00:01Z"}@2 +G,U@2 map{name:Eng=dev}@0"#,
        "", "dev@2[0:G@2=c]"),
    ("what concerns others is no cause",
        "U@0 G=Eng@0 +G,U@2 V@2 +G,V@2 H=Ops@2 map{name:Eng=dev}@0", "", "dev@2[0:G@2=c]"),
    ("a default's cause is no group that the user is only in later",
        "U@2 H=Ops@2 +H,U@5 map{default=member}@0", "", "member@2[default@2=a]"),
    ("a default's cause is no group of which that is only known later",
        "U@2 H=Ops@2 map{default=member}@0 +H,U@1", "k3", "member@2[default@2=a]"),
    ("a default's cause is no group that the user was only ever removed from",
        "U@0 U:inactive@1 -H,U@1 U@3 H=Ops@3 map{default=member}@0", "", "member@3[default@3=d]"),
    ("the first event that names the user's directory with an organization concerns it",
        r#"U@2 V{"organization_id":"p"}@2 map{default=member}@0"#, "", "member@2[default@2=b]"),
    ("not if a directory event did so before",
        r#"D=o@0 U@2 V{"organization_id":"p"}@2 map{default=member}@0"#, "",
        "member@2[default@2=b]"),
    ("the organization of a group's directory concerns nothing",
        r#"U@0 G/E=Eng@0 +G,U/E@2 V/E{"organization_id":"o"}@2 map{name:Eng=dev}@0"#, "",
        "dev@2[0:G@2=c]"),
    ("a policy comes after all events", "U@0 G=Eng@0 +G,U@2 policy=delete@2 map{name:Eng=dev}@0",
        "", "dev@2[0:G@2=policy]"),
    ("a mapping comes after all", "U@0 G=Eng@0 +G,U@2 map{name:Eng=dev}@2 policy=delete@2", "",
        "dev@2[0:G@2=mapping]"),
    ("under the policy delete an inactive user's group ends, and returns with it",
        "policy=delete@0 U@0 G=Eng@0 +G,U@1 U:inactive@3 U@5 map{name:Eng=dev}@0", "",
        "dev@5[0:G@5=e]"),
];

fn check_roles(stage: &mut Stage, (name, history, ask, expected): &Row) -> Option<String> {
    tell(stage, history);
    let cut = cut(ask);
    let found = if stage.server.is_some() {
        served_assignments(stage, cut)
    } else {
        modelled_assignments(stage, cut)
    };
    (found != *expected).then(|| {
        format!("{name}\n   {history} ? {ask}\n   expected {expected}\n   found    {found}")
    })
}

#[test]
fn the_model_gives_every_role_of_the_table() {
    play(ROLES, false, check_roles);
}

#[test]
fn every_role_of_the_table_is_given_for_its_reasons() {
    play(ROLES, true, check_roles);
}

#[test]
fn user_objects_and_the_filter_by_role_show_the_roles_of_the_table() {
    play(ROLES, true, |stage, (name, history, ask, expected)| {
        tell(stage, history);
        let (server, cut) = (stage.server(), query(cut(ask)));
        let expected: Vec<&str> =
            expected.split_whitespace().map(|word| word.split_once('@').unwrap().0).collect();
        let user = server.get(&format!("/directory_users/U?groups=true{cut}"));
        // Before the first mapping roles are the source's, and in this table it has none.
        let shown = if user.status == 404 { json!({}) } else { user.json() };
        let roles: Vec<&str> = shown["roles"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|role| role["slug"].as_str().unwrap())
            .collect();
        let mut sorted = roles.clone();
        sorted.sort_unstable();
        let first = shown.get("role").map(|role| role["slug"].as_str().unwrap());
        let holds = |role: &&str| {
            let directories = ["D", "E"].map(|directory| {
                format!("/directory_users?directory={directory}&role={role}{cut}")
            });
            directories.iter().any(|url| server.get(url).ids().contains(&"U".to_owned()))
        };
        let found: Vec<&str> =
            ["a", "api", "b", "c", "d", "dev", "e", "f", "guest", "member", "ops"]
                .into_iter()
                .filter(holds)
                .collect();
        let same = sorted == expected && first == roles.first().copied() && found == expected;
        (!same).then(|| format!("{name}: {shown}, found by {found:?}, not {expected:?}"))
    });
}

// --- From when until when ---

/// Case, history, cut, and U's periods: `role@from-until(start,end)`.
#[rustfmt::skip]
const PERIODS: &[Row] = &[
    ("no roles, no periods", "U@0 map{}@0", "", ""),
    ("it lasts", "U@0 G=Eng@0 +G,U@2 map{name:Eng=dev}@0", "", "dev@2-(c)"),
    ("it ends and begins again", "U@0 G=Eng@0 +G,U@2 -G,U@5 +G,U@7 map{name:Eng=dev}@0", "",
        "dev@2-5(c,d) dev@7-(e)"),
    ("it lasted then", "U@0 G=Eng@0 +G,U@2 -G,U@5 +G,U@7 map{name:Eng=dev}@0", "@4", "dev@2-(c)"),
    ("its end was not known then", "U@0 G=Eng@0 +G,U@2 map{name:Eng=dev}@0 -G,U@5", "k4",
        "dev@2-(c)"),
    ("the user is deleted", "U@0 G=Eng@0 +G,U@2 xU@5 map{name:Eng=dev}@0", "", "dev@2-5(c,d)"),
    ("the user is inactive", "U@0 G=Eng@0 +G,U@2 U:inactive@5 U@7 map{name:Eng=dev}@0", "",
        "dev@2-5(c,d) dev@7-(e)"),
    ("the directory is unlinked", "D@0 U@0 G=Eng@0 +G,U@2 !D@5 map{name:Eng=dev}@0", "",
        "dev@2-5(d,e)"),
    ("the directory is deleted", "D@0 U@0 G=Eng@0 +G,U@2 xD@5 map{name:Eng=dev}@0", "",
        "dev@2-5(d,e)"),
    ("the directory is deleted by an operator",
        "D@0 U@0 G=Eng@0 +G,U@2 map{name:Eng=dev}@0 DELETE:D", "", "dev@2-now(d,deletion)"),
    ("the group is deleted", "U@0 G=Eng@0 +G,U@2 xG@5 map{name:Eng=dev}@0", "", "dev@2-5(c,d)"),
    ("the group is renamed", "U@0 G=Eng@0 +G,U@2 G=Ops@5 map{name:Eng=dev}@0", "", "dev@2-5(c,d)"),
    ("the user moves out of the scope", "U@0 G=Eng@0 +G,U@2 U/E@5 map{name:Eng=dev/in:D}@0", "",
        "dev@2-5(c,d)"),
    ("the attribute is gone", r#"U{"t":"x"}@2 U@5 map{t:x=dev}@0"#, "", "dev@2-5(a,b)"),
    ("another mapping ends it", "U@0 G=Eng@0 +G,U@2 map{name:Eng=dev}@0 map{}@5", "",
        "dev@2-5(c,mapping)"),
    ("another mapping keeps it", "U@0 G=Eng@0 +G,U@2 map{name:Eng=dev}@0 map{id:G=dev}@5 -G,U@8",
        "", "dev@2-8(c,d)"),
    ("one reason takes over from another",
        "U@0 G=Eng@0 H=Ops@0 +G,U@2 +H,U@3 -G,U@5 -H,U@8 map{name:Eng=dev;name:Ops=dev}@0", "",
        "dev@2-8(d,g)"),
    ("two reasons end together",
        "U@0 G=Eng@0 H=Ops@0 +G,U@2 +H,U@2 -H,U@5 -G,U@5 map{name:Eng=dev;name:Ops=dev}@0", "",
        "dev@2-5(e,g)"),
    ("several events end it in one millisecond",
        "U@0 G=Eng@0 +G,U@2 -G,U@5 xU@5 map{name:Eng=dev}@0", "", "dev@2-5(c,e)"),
    ("what begins and ends in one millisecond never was",
        "U@0 G=Eng@0 +G,U@2 -G,U@2 map{name:Eng=dev}@0", "", ""),
    ("the defaults fill the time between",
        "U@0 G=Eng@1 +G,U@2 -G,U@5 map{name:Eng=dev;default=member}@0", "",
        "member@0-2(mapping,c) dev@2-5(c,d) member@5-(d)"),
    ("the user's directory is that of the last version that has one, perhaps a snapshot",
        r#"+G,U@1 xU{"directory_id":null}@2 !D@2 map{id:G=dev}@0"#, "", "dev@1-2(a,c)"),
    ("in order of beginning and role", "U@0 G=Eng@0 +G,U@2 map{name:Eng=b,a}@0", "",
        "a@2-(c) b@2-(c)"),
    ("a lower role gives way to a higher one, and comes back",
        "U@0 G=Eng@0 H=Ops@0 +G,U@1 +H,U@2 -H,U@5 map{highest=ops,dev;name:Eng=dev;name:Ops=ops}@0",
        "", "dev@1-2(d,e) ops@2-5(e,f) dev@5-(f)"),
    ("before the first mapping the source's roles are no periods",
        r#"U{"role":{"slug":"x"}}@0 map{}@5"#, "", ""),
];

fn check_periods(stage: &mut Stage, (name, history, ask, expected): &Row) -> Option<String> {
    tell(stage, history);
    let cut = cut(ask);
    let periods = match &stage.server {
        None => stage.world.role_periods("U", cut).unwrap(),
        Some(server) => {
            list(server, &format!("/rollcall/v1/users/U/roles?limit=100{}", query(cut)))
        }
    };
    let found = words(&periods, short_period);
    (found != *expected).then(|| {
        format!("{name}\n   {history} ? {ask}\n   expected {expected}\n   found    {found}")
    })
}

#[test]
fn the_model_gives_every_period_of_the_table() {
    play(PERIODS, false, check_periods);
}

#[test]
fn every_period_of_the_table_has_its_beginning_and_its_end() {
    play(PERIODS, true, check_periods);
}

// --- Setting a mapping ---

const MAPPING: &str = "/rollcall/v1/role_mapping";

pub fn stage(history: &str) -> (tempfile::TempDir, Stage) {
    let folder = tempfile::tempdir().unwrap();
    let mut stage = Stage::new(Some(Server::start(folder.path())));
    tell(&mut stage, history);
    (folder, stage)
}

fn head(server: &Server) -> u64 {
    server.get("/directories").header("rollcall-known-at").unwrap().parse().unwrap()
}

#[test]
fn a_mapping_set_in_april_from_february_overrides_march_and_is_not_known_in_march() {
    let (_folder, mut stage) = stage("U@0 G=Eng@0");
    let month = |month: u32| read_time(&format!("2026-{month:02}-01T00:00:00Z")).unwrap();
    let at = |day: &str| read_time(&format!("2026-{day}T12:00:00Z")).unwrap();
    let pair = r#"{"directory_id":"D","group":{"id":"G"},"user":{"id":"U"}}"#;
    // Earlier versions than those of the notation.
    for (id, event, data) in [
        ("s", "dsync.user.created", r#"{"id":"U","directory_id":"D"}"#),
        ("t", "dsync.group.created", r#"{"id":"G","directory_id":"D","name":"Eng"}"#),
        ("u", "dsync.group.user_added", pair),
    ] {
        stage.deliver(
            format!(
                concat!(
                    r#"{{"id":"{id}","event":"{event}","created_at":"2025-12-01T00:00:00Z","#,
                    r#""data":{data}}}"#,
                ),
                data = data,
                event = event,
                id = id
            )
            .as_bytes(),
            now_ms(),
        );
    }
    // Records 6, 7, 8.
    for (role, from) in [("A", 1), ("B", 3), ("C", 2)] {
        stage.set_mapping(&mapping(&format!("name:Eng={role}")), Some(month(from)), json!(role));
    }
    let table = [
        ("03-15", 8, "C"),
        ("03-15", 7, "B"),
        ("03-15", 6, "A"),
        ("03-15", 5, ""),
        ("02-15", 8, "C"),
        ("02-15", 7, "A"),
        ("01-15", 8, "A"),
        ("01-15", 5, ""),
    ];
    for (day, known_at, role) in table {
        let cut = Cut { as_of_ms: Some(at(day)), known_at: Some(known_at) };
        let server = stage.server();
        let assignments =
            list(server, &format!("/rollcall/v1/role_assignments?user=U{}", query(cut)));
        let roles: Vec<&str> =
            assignments.iter().map(|assignment| assignment["role"].as_str().unwrap()).collect();
        assert_eq!(roles.concat(), role, "{day}, known at {known_at}");
        let in_force =
            server.get(&format!("{MAPPING}?{}", query(cut).trim_start_matches('&'))).json();
        assert_eq!(
            in_force["note"],
            if role.is_empty() { Value::Null } else { json!(role) },
            "{day}, known at {known_at}"
        );
        let modelled = stage.world.role_mapping(cut);
        assert!(holds(&modelled, &in_force), "{in_force} {modelled}");
    }
    // B never held in what is believed now.
    let periods = list(stage.server(), "/rollcall/v1/users/U/roles?limit=10");
    let told: Vec<String> = periods
        .iter()
        .map(|period| format!("{} {} {}", period["role"], period["from"], period["until"]))
        .collect();
    let (january, february) = (rfc3339(month(1)), rfc3339(month(2)));
    assert_eq!(
        told,
        [format!(r#""A" "{january}" "{february}""#), format!(r#""C" "{february}" null"#)]
    );
}

#[test]
fn a_mapping_is_shown_with_who_set_it_and_its_version_as_etag() {
    let (_folder, stage) = stage("U@0 G=Eng@0");
    let server = stage.server();
    let none = server.get(MAPPING);
    let nothing = json!({
        "object": "role_mapping", "version": 0, "seq": null, "effective_from": null, "set_at": null,
        "set_by": null, "note": null,
        "mapping": null,
    });
    assert_eq!((none.status, none.json(), none.header("etag")), (200, nothing, Some("\"0\"")));
    let sent =
        mapping("name:Eng=dev/in:D;glob:E*=ops/of:o;id:G=x;t.u:1=y;default=member;priority=dev");
    let before = now_ms();
    let set = server.put(
        MAPPING,
        &json!({ "mapping": sent, "effective_from": rfc3339(moment(3)), "note": "first" }),
    );
    let body = set.json();
    assert_eq!((set.status, set.header("etag")), (200, Some("\"1\"")), "{body}");
    let expected = json!({ "object": "role_mapping", "version": 1, "seq": 3,
        "effective_from": rfc3339(moment(3)), "note": "first", "mapping": sent });
    assert!(holds(&expected, &body), "{body}");
    let set_at = read_time(body["set_at"].as_str().unwrap()).unwrap();
    assert!(
        (before..=now_ms()).contains(&set_at)
            && body["set_by"].as_str().unwrap().starts_with("key_"),
        "{body}"
    );
    // A mapping with nothing said is whole too.
    let set = server.put(MAPPING, &json!({ "mapping": {} }));
    let body = set.json();
    let expected = json!({ "version": 2, "seq": 4, "effective_from": body["set_at"], "note": null,
        "warnings": [] });
    assert!(set.status == 200 && holds(&expected, &body), "{body}");
    let empty = json!({ "mode": "all", "default_roles": [], "priority": [], "rules": [] });
    assert!(holds(&body["mapping"], &empty), "{body}");
    // By time and by knowledge.
    for (cut, version) in [
        ("", 2),
        ("?known_at=3", 1),
        ("?known_at=2", 0),
        ("?as_of=2026-03-02T00:00:03Z", 1),
        ("?as_of=2026-03-02T00:00:02.999Z", 0),
    ] {
        let answer = server.get(&format!("{MAPPING}{cut}"));
        assert_eq!(
            (answer.json()["version"].as_u64(), answer.header("etag")),
            (Some(version), Some(format!("\"{version}\"").as_str())),
            "{cut}"
        );
    }
    let told = server.get("/events?events=rollcall.mapping.set").json();
    let told = told["data"].as_array().unwrap();
    assert!(
        told.len() == 2
            && told[0]["id"].as_str().unwrap().starts_with("op_")
            && told[0]["created_at"] == rfc3339(set_at),
        "{told:?}"
    );
}

#[test]
fn versions_are_listed_and_paged_by_number() {
    let (_folder, mut stage) = stage("U@0 G=Eng@0");
    for from in [5, 3, 4, 9, 1] {
        stage.set_mapping(&mapping("name:Eng=dev"), Some(moment(from)), json!(from.to_string()));
    }
    let versions = |query: &str| -> String {
        let answer = stage.server().get(&format!("{MAPPING}/versions{query}"));
        assert_eq!(answer.status, 200, "{query}: {}", answer.json());
        answer.json()["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|set| set["version"].to_string())
            .collect()
    };
    let table = [
        ("", "12345"),
        ("?limit=2", "12"),
        ("?limit=2&after=2", "34"),
        ("?after=5", ""),
        ("?limit=2&before=5", "34"),
        ("?before=2", "1"),
    ];
    for (query, expected) in table {
        assert_eq!(versions(query), expected, "{query}");
    }
    let page = stage.server().get(&format!("{MAPPING}/versions?limit=2&after=2")).json();
    assert_eq!(page["list_metadata"], json!({ "before": "3", "after": "4" }));
    let all = stage.server().get(&format!("{MAPPING}/versions")).json()["data"].clone();
    for (set, expected) in all.as_array().unwrap().iter().zip(stage.world.role_mappings()) {
        assert!(holds(&expected, set), "{set}");
    }
    assert_eq!(stage.server().get(&format!("{MAPPING}/versions?as_of=latest")).status, 422);
}

#[test]
fn a_mapping_replaces_only_the_version_that_was_meant() {
    let (_folder, stage) = stage("U@0 G=Eng@0");
    let server = stage.server();
    let body = json!({ "mapping": mapping("name:Eng=dev"), "effective_from": rfc3339(moment(9)) });
    // (If-Match, version afterwards; 0: refused)
    let table = [
        ("\"1\"", 0),
        ("*", 0),
        ("\"0\"", 1),
        ("\"0\"", 0),
        ("\"2\"", 0),
        ("\"1\"", 2),
        ("*", 3),
        ("\"2\"", 0),
        ("", 4),
        ("\"4\"", 5),
    ];
    for (number, (matches, version)) in table.into_iter().enumerate() {
        let headers: &[(&str, &str)] =
            if matches.is_empty() { &[] } else { &[("If-Match", matches)] };
        let answer = server.put_with(MAPPING, &body, headers);
        if version == 0 {
            assert_eq!(
                (answer.status, answer.code().as_str()),
                (412, "version_conflict"),
                "{number}: {matches}"
            );
        } else {
            assert_eq!(
                (answer.status, answer.json()["version"].as_u64()),
                (200, Some(version)),
                "{number}: {matches}"
            );
        }
    }
    assert_eq!(head(server), 7, "what was refused was not recorded");
    // The latest version is meant, not the one in force at some moment.
    let early =
        json!({ "mapping": mapping("name:Eng=ops"), "effective_from": rfc3339(moment(20)) });
    assert_eq!(server.put_with(MAPPING, &early, &[("If-Match", "\"5\"")]).json()["version"], 6);
}

#[test]
fn of_several_who_replace_one_version_at_once_one_succeeds() {
    let (_folder, stage) = stage("U@0 G=Eng@0 +G,U@1");
    let server = stage.server();
    for version in 0..4 {
        // Each asks for an attribute of its own, so that each has something to read first.
        let set = |name: usize| {
            let rules = format!("t.v{version}.n{name}:x=dev;name:Eng=r{name}");
            let body = json!({ "mapping": mapping(&rules), "effective_from": rfc3339(moment(2)) });
            server.put_with(MAPPING, &body, &[("If-Match", &format!("\"{version}\""))])
        };
        let answers = std::thread::scope(|scope| {
            let asked: Vec<_> = (0..6).map(|name| scope.spawn(move || set(name))).collect();
            asked.into_iter().map(|answer| answer.join().unwrap()).collect::<Vec<_>>()
        });
        let won: Vec<usize> = (0..6).filter(|name| answers[*name].status == 200).collect();
        let [won] = won[..] else { panic!("{won:?} replaced version {version}") };
        assert!(
            answers
                .iter()
                .all(|answer| answer.status == 200 || answer.code() == "version_conflict")
        );
        assert_eq!(served_assignments(&stage, Cut::default()), format!("r{won}@2[1:G@2=mapping]"));
    }
    assert_eq!(head(server), 7);
}

#[test]
fn without_if_match_all_who_set_a_mapping_at_once_succeed_one_after_the_other() {
    let (_folder, stage) = stage(r#"U{"n0":"x","n1":"x","n2":"x","n3":"x","n4":"x","n5":"x"}@0"#);
    let server = stage.server();
    let set = |name: usize| {
        let body = json!({ "mapping": mapping(&format!("n{name}:x=r{name}")),
            "effective_from": rfc3339(moment(2)), "note": name.to_string() });
        // Whoever was overtaken too often is told to come again.
        loop {
            let answer = server.put(MAPPING, &body);
            if answer.status != 503 {
                return answer;
            }
            assert!(answer.header("retry-after").is_some());
        }
    };
    let mut versions = std::thread::scope(|scope| {
        let asked: Vec<_> = (0..6).map(|name| scope.spawn(move || set(name))).collect();
        let answers = asked.into_iter().map(|answer| answer.join().unwrap().json());
        answers
            .map(|set| set["version"].as_u64().unwrap_or_else(|| panic!("{set}")))
            .collect::<Vec<u64>>()
    });
    versions.sort_unstable();
    assert_eq!(versions, [1, 2, 3, 4, 5, 6]);
    let last = server.get(MAPPING).json()["note"].as_str().unwrap().to_owned();
    assert_eq!(
        served_assignments(&stage, Cut::default()),
        format!("r{last}@2[0:n{last}@2=mapping]")
    );
}

#[test]
fn a_mapping_that_makes_no_sense_is_refused_by_field() {
    let (_folder, stage) = stage("U@0 G=Eng@0");
    let server = stage.server();
    let (good, group) =
        (json!({ "group": { "name": "Eng" }, "roles": ["dev"] }), json!({ "name": "Eng" }));
    let rules = |rule: Value| json!({ "rules": [good, rule] });
    let table = [
        (json!([]), "mapping"),
        (json!(null), "mapping"),
        (json!({ "mode": "some" }), "mapping.mode"),
        (json!({ "modes": "all" }), "mapping.modes"),
        (json!({ "default_roles": "member" }), "mapping.default_roles"),
        (json!({ "default_roles": ["member", ""] }), "mapping.default_roles[1]"),
        (json!({ "default_roles": ["x".repeat(256)] }), "mapping.default_roles[0]"),
        (json!({ "priority": [1] }), "mapping.priority[0]"),
        (json!({ "priority": ["a", "b", "a"] }), "mapping.priority"),
        (json!({ "rules": {} }), "mapping.rules"),
        (rules(json!("Eng")), "mapping.rules[1]"),
        (rules(json!({})), "mapping.rules[1]"),
        (rules(json!({ "roles": ["dev"] })), "mapping.rules[1]"),
        (
            rules(json!({ "group": group, "attribute": "t", "roles": ["dev"],
                    "values": { "x": ["dev"] } })),
            "mapping.rules[1]",
        ),
        (rules(json!({ "group": group })), "mapping.rules[1].roles"),
        (rules(json!({ "group": group, "roles": [] })), "mapping.rules[1].roles"),
        (rules(json!({ "group": group, "roles": "dev" })), "mapping.rules[1].roles"),
        (rules(json!({ "group": group, "roles": ["dev", null] })), "mapping.rules[1].roles[1]"),
        (
            rules(json!({ "group": group, "roles": ["dev"], "role": "dev" })),
            "mapping.rules[1].role",
        ),
        (rules(json!({ "group": "Eng", "roles": ["dev"] })), "mapping.rules[1].group"),
        (rules(json!({ "group": {}, "roles": ["dev"] })), "mapping.rules[1].group"),
        (
            rules(json!({ "group": { "name": "x", "id": "y" }, "roles": ["dev"] })),
            "mapping.rules[1].group",
        ),
        (
            rules(json!({ "group": { "name": "" }, "roles": ["dev"] })),
            "mapping.rules[1].group.name",
        ),
        (rules(json!({ "group": { "id": 5 }, "roles": ["dev"] })), "mapping.rules[1].group.id"),
        (
            rules(json!({ "group": { "name_glob": null }, "roles": ["dev"] })),
            "mapping.rules[1].group.name_glob",
        ),
        (
            rules(json!({ "group": group, "directory_id": "", "roles": ["dev"] })),
            "mapping.rules[1].directory_id",
        ),
        (
            rules(json!({ "group": group, "organization_id": ["o"], "roles": ["dev"] })),
            "mapping.rules[1].organization_id",
        ),
        (
            rules(json!({ "attribute": "", "values": { "x": ["dev"] } })),
            "mapping.rules[1].attribute",
        ),
        (
            rules(json!({ "attribute": ["t"], "values": { "x": ["dev"] } })),
            "mapping.rules[1].attribute",
        ),
        (rules(json!({ "attribute": "t" })), "mapping.rules[1].values"),
        (rules(json!({ "attribute": "t", "values": {} })), "mapping.rules[1].values"),
        (rules(json!({ "attribute": "t", "values": ["x"] })), "mapping.rules[1].values"),
        (rules(json!({ "attribute": "t", "values": { "x": [] } })), "mapping.rules[1].values.x"),
        (
            rules(json!({ "attribute": "t", "values": { "x": [""] } })),
            "mapping.rules[1].values.x[0]",
        ),
        (json!({ "mode": "highest_priority", "rules": [good] }), "mapping.priority"),
        (
            json!({ "mode": "highest_priority", "priority": ["dev"], "default_roles": ["member"],
                "rules": [good] }),
            "mapping.priority",
        ),
        (
            json!({ "mode": "highest_priority", "priority": ["dev"],
                "rules": [{ "attribute": "t", "values": { "x": ["ops"] } }] }),
            "mapping.priority",
        ),
    ];
    for (mapping, field) in &table {
        for path in [MAPPING, "/rollcall/v1/role_mapping/preview"] {
            let body = json!({ "mapping": mapping });
            let answer = if path == MAPPING {
                server.put(path, &body)
            } else {
                server.ask_with(path, &body, &[])
            };
            let problem = answer.json();
            assert_eq!(
                (answer.status, answer.code().as_str()),
                (422, "mapping_invalid"),
                "{path} {mapping}: {problem}"
            );
            let fields: Vec<&str> = problem["errors"]
                .as_array()
                .unwrap()
                .iter()
                .map(|error| error["field"].as_str().unwrap())
                .collect();
            assert!(
                !fields.is_empty() && fields.iter().all(|told| told.starts_with(field)),
                "{path} {mapping}: {fields:?}, not {field}"
            );
        }
    }
    let many = |count: usize| json!({ "mapping": { "rules": vec![good.clone(); count] } });
    assert_eq!(server.put(MAPPING, &many(1001)).code(), "mapping_invalid");
    let around = [
        (json!({}), "mapping"),
        (
            json!({ "mapping": {}, "effective_from": rfc3339(now_ms() + 3_600_000) }),
            "effective_from",
        ),
        (json!({ "mapping": {}, "effective_from": "soon" }), "effective_from"),
        (json!({ "mapping": {}, "note": "x".repeat(1001) }), "note"),
        (json!({ "mapping": {}, "more": 1 }), "more"),
    ];
    for (body, field) in around {
        let answer = server.put(MAPPING, &body);
        assert_eq!(
            (answer.status, &answer.json()["errors"][0]["field"]),
            (422, &json!(field)),
            "{body}: {}",
            answer.json()
        );
    }
    assert_eq!(head(server), 2, "nothing was recorded");
    assert_eq!(server.put(MAPPING, &many(1000)).status, 200);
}

/// The warning about a rule whose attribute gives roles to no user.
fn nobody_has(rule: usize, path: &str) -> Value {
    let message =
        format!("nobody has this attribute: no user with access has one of the values of `{path}`");
    json!({ "field": format!("mapping.rules[{rule}]"), "code": "no_user_matches",
        "message": message })
}

/// The warning about a rule that no group matches.
fn no_group(rule: usize) -> Value {
    json!({ "field": format!("mapping.rules[{rule}]"), "code": "no_group_matches",
        "message": "no group matches" })
}

/// Checks the warnings of a preview and of setting the mapping, by the model and by the server.
fn check_warnings(history: &str, rules: Value, expected: &[Value]) {
    let (_folder, mut stage) = stage(history);
    let mapping = json!({ "rules": rules });
    let body = json!({ "mapping": mapping });
    let preview = stage.server().ask_with(PREVIEW, &body, &[]).json();
    assert_eq!(preview["warnings"], json!(expected), "{preview:#}");
    assert_eq!(stage.world.warnings(&mapping), expected);
    let set = stage.set_mapping(&mapping, None, Value::Null).unwrap();
    assert_eq!(set["warnings"], json!(expected), "{set:#}");
    assert_eq!(set["mapping"]["rules"], mapping["rules"], "it is shown as it was written");
}

#[test]
fn a_rule_whose_attribute_no_user_has_is_warned_of_with_its_path() {
    let history = concat!(
        r#"D=o@0 E=p@0 U{"a":"x","b":["y"]}@0 V/E{"a":"z"}@0 "#,
        r#"V2:inactive{"a":"late"}@0 U3{"a":"gone"}@0 xU3@1 U{"a":"x","b":["y"],"c":1}@2"#,
    );
    let rule = |path: &str, value: &str| json!({ "attribute": path, "values": { value: ["r"] } });
    let scoped = |mut rule: Value, key: &str, id: &str| {
        rule[key] = json!(id);
        rule
    };
    let rules = json!([
        rule("a", "x"),
        rule("no.such", "x"),
        rule("b", "y"),
        rule("a", "late"),
        rule("a", "gone"),
        scoped(rule("a", "z"), "directory_id", "D"),
        scoped(rule("a", "z"), "organization_id", "p"),
        { "attribute": "c", "values": { "2": ["r"], "1": ["s"] } },
        rule("c", "2"),
    ]);
    let expected = [(1, "no.such"), (3, "a"), (4, "a"), (5, "a"), (8, "c")];
    check_warnings(history, rules, &expected.map(|(rule, path)| nobody_has(rule, path)));
}

#[test]
fn an_attribute_whose_key_has_dots_gives_its_roles() {
    let history = concat!(
        r#"D=o@0 U{"raw_attributes":{"urn:x:2.0:User":{"department":"Ops"}},"#,
        r#""custom_attributes":{"cost.center":"7","cost":{"center":"8"}}}@0"#,
    );
    let (_folder, mut stage) = stage(history);
    let rule = |path: &str, value: &str, role: &str| json!({ "attribute": path, "values": { value: [role] } });
    let rules = json!([
        rule("raw_attributes.urn:x:2.0:User.department", "Ops", "a"),
        rule(r#"raw_attributes."urn:x:2.0:User".department"#, "Ops", "b"),
        rule("custom_attributes.cost.center", "7", "c"),
        rule("custom_attributes.cost.center", "8", "not"),
        rule(r#"custom_attributes."cost.center""#, "7", "d"),
        rule(r#"custom_attributes.cost."center""#, "8", "e"),
        rule(r#"custom_attributes."cost"."center""#, "8", "f"),
    ]);
    let set = stage.set_mapping(&json!({ "rules": rules }), None, Value::Null).unwrap();
    assert_eq!(set["warnings"], json!([nobody_has(3, "custom_attributes.cost.center")]));
    let user = stage.server().get("/directory_users/U").json();
    let slugs: Vec<&str> = user["roles"]
        .as_array()
        .unwrap()
        .iter()
        .map(|role| role["slug"].as_str().unwrap())
        .collect();
    assert_eq!(slugs, ["a", "b", "c", "d", "e", "f"]);
}

#[test]
fn names_that_differ_only_in_normalization_are_one_name_and_warned_of() {
    let alike = |rule: usize, name: &str| {
        json!({ "field": format!("mapping.rules[{rule}]"),
            "code": "names_alike",
            "message": format!(
                "names differ only in Unicode normalization: `{name}` is written in two ways, \
                 which this rule takes for one name"
            ) })
    };
    let history = "D=o@0 E=p@0 U@0 G=Caf\u{e9}@0 H=Cafe\u{301}@0 H2/E=\u{c5}rhus@0 G3=Caf\u{e9}@0";
    let group = |key: &str, text: &str| json!({ "group": { key: text }, "roles": ["r"] });
    let mut in_e = group("name_glob", "*");
    in_e["directory_id"] = json!("E");
    let rules = json!([
        group("name", "Caf\u{e9}"),
        group("name", "\u{212b}rhus"),
        group("name", "\u{c5}rhus"),
        group("name_glob", "Caf?"),
        group("name_glob", "A\u{30a}*"),
        in_e,
        group("id", "H"),
        group("name", "caf\u{e9}"),
    ]);
    let expected =
        [alike(0, "Caf\u{e9}"), alike(1, "\u{c5}rhus"), alike(3, "Caf\u{e9}"), no_group(7)];
    check_warnings(history, rules, &expected);
}

#[test]
fn a_rule_that_matches_no_group_is_warned_of_and_set_all_the_same() {
    let (_folder, mut stage) = stage("D=o@0 E=p@0 U@0 G=Eng@0 H/E=Ops@0 xH@3 G=Dev@4");
    let rules =
        "name:Eng=a;name:Dev=b;name:Ops=c;id:G=d/in:E;id:G=e/of:o;glob:X*=f;t:x=g;glob:*=h/of:p";
    let set = stage.set_mapping(&mapping(rules), None, Value::Null).unwrap();
    let mut expected: Vec<Value> = [0, 2, 3, 5, 7].map(no_group).into();
    expected.insert(4, nobody_has(6, "t"));
    assert_eq!(set["warnings"], json!(expected), "{set}");
    assert_eq!(stage.world.warnings(&mapping(rules)), expected);
}

#[test]
fn before_a_mapping_roles_are_the_sources_and_from_it_on_rollcalls() {
    let history = concat!(
        r#"U{"role":{"slug":"x"},"roles":[{"slug":"y"},{"slug":"z"}]}@0 "#,
        r#"V:inactive{"role":{"slug":"x"}}@0 G=Eng@0 +G,U@1 +G,V@1 map{name:Eng=b,c,"#,
        r#"a;priority=c}@5"#,
    );
    let (_folder, stage) = stage(history);
    let server = stage.server();
    let shown = |id: &str, at: i64| {
        let user =
            server.get(&format!("/directory_users/{id}?as_of={}", rfc3339(moment(at)))).json();
        json!([user.get("role"), user.get("roles")])
    };
    assert_eq!(shown("U", 4), json!([{ "slug": "x" }, [{ "slug": "y" }, { "slug": "z" }]]));
    assert_eq!(shown("V", 4), json!([{ "slug": "x" }, null]));
    assert_eq!(
        shown("U", 5),
        json!([{ "slug": "c" }, [{ "slug": "c" }, { "slug": "a" }, { "slug": "b" }]])
    );
    assert_eq!(shown("V", 5), json!([null, []]));
    let users = |role: &str, at: i64| {
        server
            .get(&format!("/directory_users?directory=D&role={role}&as_of={}", rfc3339(moment(at))))
            .ids()
            .concat()
    };
    for (role, then, since) in [
        ("x", "VU", ""),
        ("y", "U", ""),
        ("z", "U", ""),
        ("a", "", "U"),
        ("c", "", "U"),
        ("nobody", "", ""),
    ] {
        assert_eq!((users(role, 4).as_str(), users(role, 5).as_str()), (then, since), "{role}");
    }
    // Members of a group are users like any other; an event stays as it was.
    let group = server.get("/directory_groups/G?members=true");
    assert_eq!(group.header("rollcall-mapping-version"), Some("1"));
    let members = group.json()["members"].as_array().unwrap().clone();
    let roles: Vec<&Value> = members.iter().map(|member| &member["roles"]).collect();
    assert_eq!(roles, [&json!([{ "slug": "c" }, { "slug": "a" }, { "slug": "b" }]), &json!([])]);
    let told = server.get("/events?events=dsync.user.updated").json();
    assert_eq!(told["data"][0]["data"]["role"], json!({ "slug": "x" }));
    for (at, version) in [(4, "0"), (5, "1")] {
        let cut = format!("as_of={}", rfc3339(moment(at)));
        for path in [
            "/directory_users?directory=D&",
            "/directory_users/U?",
            "/rollcall/v1/role_assignments?",
            "/rollcall/v1/users/U/roles?",
        ] {
            assert_eq!(
                server.get(&format!("{path}{cut}")).header("rollcall-mapping-version"),
                Some(version),
                "{path}{cut}"
            );
        }
    }
}

// --- Lists ---

const COMPANY: &str = "D=o@0 E=p@0 U@0 V/E@0 G=Eng@0 H/E=Ops@0 +G,U@1 +H,U/E@2 +H,V/E@3 \
    map{name:Eng=dev,api;name:Ops=ops;id:H=dev;default=member}@0";

#[test]
fn assignments_are_narrowed_by_every_filter_and_paged() {
    let (_folder, stage) = stage(COMPANY);
    let table = [
        ("", "U:api U:dev U:ops V:dev V:ops"),
        ("user=U", "U:api U:dev U:ops"),
        ("role=dev", "U:dev V:dev"),
        ("role=member", ""),
        ("group=G", "U:api U:dev"),
        ("group=H", "U:dev U:ops V:dev V:ops"),
        ("group=H&role=dev", "U:dev V:dev"),
        ("directory=E", "V:dev V:ops"),
        ("directory=D", "U:api U:dev U:ops"),
        ("organization=p", "V:dev V:ops"),
        ("organization=o&role=ops", "U:ops"),
        ("user=V&directory=D", ""),
    ];
    let shown = |items: &[Value]| {
        let words = items.iter().map(|item| {
            format!("{}:{}", item["user_id"].as_str().unwrap(), item["role"].as_str().unwrap())
        });
        words.collect::<Vec<String>>()
    };
    for (filter, expected) in table {
        let expected: Vec<&str> = expected.split_whitespace().collect();
        for order in ["", "&order=asc", "&order=desc"] {
            for limit in [1, 2, 100] {
                let (mut found, mut after, mut pages) = (Vec::new(), String::new(), 0);
                loop {
                    let url = format!(
                        "/rollcall/v1/role_assignments?{filter}{order}&limit={limit}{after}"
                    )
                    .replace("?&", "?");
                    let answer = stage.server().get(&url);
                    assert_eq!(answer.status, 200, "{url}: {}", answer.json());
                    let body = answer.json();
                    found.extend(shown(body["data"].as_array().unwrap()));
                    pages += 1;
                    assert!(pages <= 10, "{url}: it goes on for ever");
                    let Some(cursor) = body["list_metadata"]["after"].as_str() else { break };
                    after = format!("&after={cursor}");
                }
                let mut expected = expected.clone();
                if order == "&order=desc" {
                    expected.reverse();
                }
                assert_eq!(found, expected, "{filter}{order}, {limit} a page");
                assert_eq!(
                    pages,
                    expected.len().div_ceil(limit).max(1),
                    "{filter}{order}, {limit} a page"
                );
            }
        }
    }
    // A group's filter picks assignments; each is shown with all its reasons.
    let through = list(stage.server(), "/rollcall/v1/role_assignments?group=G&role=dev");
    assert_eq!(words(&through, short_assignment), "dev@1[0:G@1=g,2:H@2=h]");
    let whole = json!({
        "object": "role_assignment", "user_id": "U", "directory_id": "D", "organization_id": "o",
        "role": "dev", "since": rfc3339(moment(1)),
        "because": [{ "rule": 0, "group_id": "G", "group_name": "Eng", "attribute": null,
        "since": rfc3339(moment(1)), "cause": {
            "event_id": "g", "event": "dsync.group.user_added", "occurred_at": rfc3339(moment(1)),
            "recorded_at": null, "seq": 7,
        } }, { "rule": 2, "group_id": "H", "group_name": "Ops", "attribute": null,
        "since": rfc3339(moment(2)), "cause": {
            "event_id": "h", "event": "dsync.group.user_added", "occurred_at": rfc3339(moment(2)),
            "recorded_at": null, "seq": 8,
        } }],
    });
    assert_eq!(stage.without_recorded_at(through[0].clone()), whole);
}

#[test]
fn assignments_page_backwards_as_well() {
    let (_folder, stage) = stage(COMPANY);
    let page = |query: &str| {
        let answer = stage.server().get(&format!("/rollcall/v1/role_assignments?limit=2{query}"));
        assert_eq!(answer.status, 200, "{query}: {}", answer.json());
        answer.json()
    };
    let first = page("");
    let second = page(&format!("&after={}", first["list_metadata"]["after"].as_str().unwrap()));
    let back =
        page(&format!("&before={}", second["list_metadata"]["before"].as_str().unwrap_or("none")));
    assert_eq!(back, first);
}

#[test]
fn periods_are_paged_and_a_user_that_ever_was_has_them() {
    let (_folder, stage) =
        stage("U@1 G=Eng@0 +G,U@2 -G,U@5 +G,U@7 xU@9 map{name:Eng=dev;default=member}@0 V@3");
    let server = stage.server();
    let all = list(server, "/rollcall/v1/users/U/roles");
    assert_eq!(
        words(&all, short_period),
        "member@1-2(a,c) dev@2-5(c,d) member@5-7(d,e) dev@7-9(e,f)"
    );
    let (mut found, mut after) = (Vec::new(), String::new());
    loop {
        let body = server.get(&format!("/rollcall/v1/users/U/roles?limit=1{after}")).json();
        found.extend(body["data"].as_array().unwrap().iter().cloned());
        let Some(cursor) = body["list_metadata"]["after"].as_str() else { break };
        after = format!("&after={cursor}");
    }
    assert_eq!(found, all);
    // Deleted, or not there yet at that moment: known all the same. Not known at that record:
    // nobody.
    assert!(
        list(server, &format!("/rollcall/v1/users/U/roles?as_of={}", rfc3339(moment(0))))
            .is_empty()
    );
    for (path, code) in [
        ("X/roles", "entity_not_found"),
        ("V/roles?known_at=7", "entity_not_found"),
        ("G/roles", "entity_not_found"),
    ] {
        let answer = server.get(&format!("/rollcall/v1/users/{path}"));
        assert_eq!((answer.status, answer.code().as_str()), (404, code), "{path}");
    }
    assert_eq!(server.get("/rollcall/v1/users/V/roles?known_at=8").status, 200);
}

#[test]
fn bad_questions_about_roles_are_refused() {
    let (_folder, stage) = stage(COMPANY);
    for (path, code) in [
        ("role_assignments?after=nonsense", "cursor_invalid"),
        ("role_assignments?limit=0", "validation_failed"),
        ("role_assignments?limit=1001", "validation_failed"),
        ("role_assignments?users=U", "validation_failed"),
        ("role_assignments?known_at=99", "known_at_out_of_range"),
        ("role_assignments?as_of=2999-01-01T00:00:00Z", "as_of_in_future"),
        ("users/U/roles?after=nonsense", "cursor_invalid"),
        ("users/U/roles?role=dev", "validation_failed"),
        ("role_mapping/versions?after=nonsense", "cursor_invalid"),
        ("role_mapping?limit=1", "validation_failed"),
    ] {
        let answer = stage.server().get(&format!("/rollcall/v1/{path}"));
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (422, code),
            "{path}: {}",
            answer.json()
        );
    }
    let agent = crate::kit::server::agent();
    for path in ["role_mapping", "role_mapping/versions", "role_assignments", "users/U/roles"] {
        let url = format!("{}/rollcall/v1/{path}", stage.server().url);
        assert_eq!(agent.get(&url).call().unwrap().status(), 401, "{path}");
    }
    for path in ["role_mapping/preview", "projections/rebuild"] {
        let url = format!("{}/rollcall/v1/{path}", stage.server().url);
        assert_eq!(agent.post(&url).send("{}").unwrap().status(), 401, "{path}");
    }
}

// --- Preview ---

const PREVIEW: &str = "/rollcall/v1/role_mapping/preview";

#[test]
fn a_preview_says_who_gains_and_loses_what_and_changes_nothing() {
    // U is in Eng, V in Ops; another one is inactive, and counts nowhere.
    let history = concat!(
        r#"U{"email":"u@x"}@0 U2:inactive@0 V/E@0 G=Eng@0 H/E=Ops@0 +G,U@1 +G,U2@1 +H,V/E@2 "#,
        r#"map{name:Eng=dev;name:Ops=ops}@0"#,
    );
    let (_folder, stage) = stage(history);
    let before = head(stage.server());
    let proposed = mapping("name:Eng=dev,api;name:Sales=x;default=member");
    let answer = stage.server().ask_with(PREVIEW, &json!({ "mapping": proposed }), &[]);
    let expected = json!({
        "object": "role_mapping_preview",
        "base_version": 1,
        "totals": { "users": 2, "changed": 2, "gaining": 2, "losing": 1, "default_only": 1 },
        "warnings": [{ "field": "mapping.rules[1]", "code": "no_group_matches",
            "message": "no group matches" }],
        "groups_without_rule": { "count": 1,
        "data": [{ "id": "H", "name": "Ops", "directory_id": "E" }] },
        "changes": { "object": "list", "list_metadata": { "after": null }, "data": [
            { "object": "role_change", "user_id": "U", "email": "u@x", "directory_id": "D",
                "lost": [], "default_only": false,
              "gained": [{ "role": "api",
              "because": [{ "rule": 0, "group_id": "G", "group_name": "Eng",
              "attribute": null }] }] },
            { "object": "role_change", "user_id": "V", "email": null, "directory_id": "E",
                "default_only": true,
              "gained": [{ "role": "member",
              "because": [{ "rule": null, "group_id": null, "group_name": null,
              "attribute": null }] }],
              "lost": [{ "role": "ops",
              "because": [{ "rule": 1, "group_id": "H", "group_name": "Ops",
              "attribute": null }] }] },
        ] },
    });
    let body = answer.json();
    assert!(answer.status == 200 && holds(&expected, &body), "{body:#}");
    let mut rows: Vec<String> = body["roles"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| {
            format!(
                "{} +{} -{} {}>{}",
                row["role"].as_str().unwrap(),
                row["gaining"],
                row["losing"],
                row["before"],
                row["after"]
            )
        })
        .collect();
    rows.retain(|row| !row.ends_with(" +0 -0 0>0"));
    rows.sort();
    assert_eq!(rows, ["api +1 -0 0>1", "dev +0 -0 1>1", "member +1 -0 0>1", "ops +0 -1 1>0"]);
    // Page by page, and line by line.
    let page = stage
        .server()
        .ask_with(&format!("{PREVIEW}?limit=1"), &json!({ "mapping": proposed }), &[])
        .json();
    assert_eq!(
        (&page["totals"], &page["changes"]["list_metadata"]["after"]),
        (&body["totals"], &json!("U"))
    );
    assert_eq!(page["changes"]["data"], json!([body["changes"]["data"][0]]));
    let rest = stage
        .server()
        .ask_with(&format!("{PREVIEW}?limit=1&after=U"), &json!({ "mapping": proposed }), &[])
        .json();
    assert_eq!(
        (&rest["changes"]["data"], &rest["changes"]["list_metadata"]["after"]),
        (&json!([body["changes"]["data"][1]]), &Value::Null)
    );
    let lines = stage.server().ask_with(
        PREVIEW,
        &json!({ "mapping": proposed }),
        &[("Accept", "application/x-ndjson")],
    );
    assert!(lines.header("content-type").unwrap().starts_with("application/x-ndjson"));
    let told: Vec<Value> = String::from_utf8(lines.body)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(json!(told), body["changes"]["data"]);
    assert_eq!(head(stage.server()), before);
    assert_eq!(stage.server().get(MAPPING).json()["version"], 1);
}

#[test]
fn what_a_preview_says_is_in_order_whatever_came_first() {
    let (_folder, stage) = stage("U@0 H=Eng@0 G=Eng@0 +H,U@1 +G,U@1 map{}@0");
    let body = json!({ "mapping": mapping("glob:E*=dev;name:Eng=dev,api") });
    let preview = stage.server().ask_with(PREVIEW, &body, &[]).json();
    let gained = preview["changes"]["data"][0]["gained"].as_array().unwrap();
    let told: Vec<String> = gained
        .iter()
        .map(|role| {
            let because = role["because"]
                .as_array()
                .unwrap()
                .iter()
                .map(|because| format!(" {}{}", because["rule"], because["group_id"]));
            format!("{}{}", role["role"].as_str().unwrap(), because.collect::<String>())
        })
        .collect();
    assert_eq!(told, [r#"api 1"G" 1"H""#, r#"dev 0"G" 0"H" 1"G" 1"H""#]);
}

#[test]
fn a_preview_is_of_the_moment_asked_about() {
    let (_folder, stage) = stage("U@0 G=Eng@0 +G,U@2 -G,U@5 map{name:Eng=dev}@0");
    let gained = |cut: &str, from: Option<i64>| -> Vec<Value> {
        let body = json!({ "mapping": mapping("name:Eng=ops"),
            "effective_from": from.map(|second| rfc3339(moment(second))) });
        let answer = stage.server().ask_with(&format!("{PREVIEW}?{cut}"), &body, &[]);
        assert_eq!(answer.status, 200, "{cut}: {}", answer.json());
        answer.json()["changes"]["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|change| change["gained"][0]["role"].clone())
            .collect()
    };
    let at = |second: i64| format!("as_of={}", rfc3339(moment(second)));
    assert_eq!(gained(&at(3), Some(0)), ["ops"]);
    assert_eq!(gained(&at(3), Some(3)), ["ops"]);
    assert!(gained(&at(6), Some(0)).is_empty(), "U is in no group by then");
    assert!(gained(&at(3), Some(4)).is_empty(), "it would not be in force yet");
    assert!(gained("known_at=2", Some(0)).is_empty(), "nobody knew of the membership");
}

// --- Law 8 ---

#[test]
fn a_rebuild_and_a_restart_change_no_answer() {
    let more = "policy=delete@2 map{t:x=dev;name:Eng=dev;highest=dev,member;default=member}@4 \
        U{\"t\":\"x\"}@6 V:inactive@7";
    let (folder, mut stage) = stage(&format!("{COMPANY} {more}"));
    let head = stage.world.head();
    let mut urls =
        vec![MAPPING.to_owned(), format!("{MAPPING}/versions"), "/rollcall/v1/policy".to_owned()];
    for known_at in 0..=head {
        for at in 0..9 {
            let cut = format!("known_at={known_at}&as_of={}", rfc3339(moment(at)));
            let paths = [
                "/directory_users?organization_id=o&",
                "/rollcall/v1/role_assignments?",
                "/rollcall/v1/users/U/roles?",
                "/rollcall/v1/users/U/history?",
                "/rollcall/v1/groups/G/history?",
            ];
            urls.extend(paths.map(|path| format!("{path}{cut}")));
            urls.push(format!(
                "/rollcall/v1/diff?from={}&from_known_at={known_at}&to_known_at={head}",
                rfc3339(moment(at))
            ));
        }
    }
    let answers = |server: &Server| -> Vec<(u16, Vec<u8>)> {
        urls.iter().map(|url| server.get(url)).map(|answer| (answer.status, answer.body)).collect()
    };
    let views = |server: &Server| -> Vec<Value> {
        let body = server.get("/rollcall/v1/projections").json();
        body["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|view| {
                json!([view["name"], view["version"], view["seq"], view["items"], view["sha256"]])
            })
            .collect()
    };
    let (before, states) = (answers(stage.server()), views(stage.server()));
    let begun = stage.server().ask_with("/rollcall/v1/projections/rebuild", &json!({}), &[]);
    assert_eq!(
        (begun.status, &begun.json()["object"]),
        (202, &json!("rebuild")),
        "{}",
        begun.json()
    );
    let id = begun.json()["id"].clone();
    let mut state = begun.json()["state"].clone();
    while state == "running" {
        std::thread::sleep(std::time::Duration::from_millis(5));
        let body = stage.server().get("/rollcall/v1/projections").json();
        let rebuild = if body["rebuild"].is_object() {
            &body["rebuild"]
        } else {
            &body["data"][0]["rebuild"]
        };
        assert_eq!(rebuild["id"], id, "{body}");
        state = rebuild["state"].clone();
    }
    assert_eq!(state, "done");
    assert!(
        answers(stage.server()) == before && views(stage.server()) == states,
        "a rebuild changed an answer"
    );
    assert_eq!(stage.server.take().unwrap().stop(), 0);
    let server = Server::start(folder.path());
    assert!(answers(&server) == before && views(&server) == states, "a restart changed an answer");
    stage.server = Some(server);
    // And it goes on from there.
    tell(&mut stage, "");
    let cut = Cut::default();
    assert_eq!(served_assignments(&stage, cut), modelled_assignments(&stage, cut));
}
