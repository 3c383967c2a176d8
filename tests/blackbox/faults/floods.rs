//! Floods: far more requests than the server can take, and requests that cost far more than they
//! seem to. Webhooks and cheap questions go on meanwhile, and afterwards all is as before.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value, json};

use crate::kit::server::{
    API_KEY, Answer, SECRET, Server, agent, binary, now_ms, post, signature, user,
};

pub const DIRECTORY: &str = "directory_1";
pub const TIME: &str = "2026-03-01T09:00:00.000Z";

pub fn group(id: &str, name: &str) -> String {
    json!({
        "object": "event", "id": format!("event_{id}"), "event": "dsync.group.created",
        "created_at": TIME, "context": {},
        "data": {
            "object": "directory_group", "id": id, "directory_id": DIRECTORY,
            "organization_id": "org_1", "idp_id": id, "name": name, "raw_attributes": {},
            "created_at": TIME, "updated_at": TIME,
        },
    })
    .to_string()
}

/// Rules that a naive matcher compares with `aaaa…` in time that grows with its square.
pub fn slow_globs() -> Value {
    let rules = (0..1000).map(|number| {
        let tail = format!("{}b{number}", "a".repeat(200));
        let glob = if number % 2 == 0 { format!("*{tail}*") } else { format!("*a?{tail}") };
        json!({ "group": { "name_glob": glob }, "roles": ["developer"] })
    });
    json!({ "mode": "all", "default_roles": [], "priority": [],
        "rules": rules.collect::<Vec<_>>() })
}

fn preview(server: &Server, mapping: &Value) -> Answer {
    let path = "/rollcall/v1/role_mapping/preview";
    server.ask_with(path, &json!({ "mapping": mapping }), &[])
}

fn with_odd_names() -> (tempfile::TempDir, Server) {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    for number in 0..100 {
        server.deliver(&group(&format!("group_{number}"), &"a".repeat(2000 + number)));
    }
    (folder, server)
}

#[test]
fn previews_of_a_thousand_globs_over_odd_names_stop_no_webhook() {
    let (_folder, server) = with_odd_names();
    let globs = slow_globs();
    let done = AtomicBool::new(false);
    let answers = thread::scope(|scope| {
        let others = scope.spawn(|| {
            let mut sent = 0;
            while !done.load(Ordering::Relaxed) {
                let id = format!("user_{sent}");
                let body = user(&id, DIRECTORY, &id, TIME, &id, "dsync.user.created");
                // A webhook that waits longer than five seconds is answered 503.
                server.deliver(&body);
                assert_eq!(server.get("/healthz").status, 200);
                assert_eq!(server.get("/readyz").status, 200);
                assert_eq!(server.get(&format!("/directory_users/{id}")).status, 200);
                sent += 1;
            }
            sent
        });
        let previews: Vec<_> = (0..16).map(|_| scope.spawn(|| preview(&server, &globs))).collect();
        let answers: Vec<Answer> =
            previews.into_iter().map(|preview| preview.join().unwrap()).collect();
        done.store(true, Ordering::Relaxed);
        assert!(others.join().unwrap() > 0);
        answers
    });
    let of = |status: u16| answers.iter().filter(move |answer| answer.status == status);
    assert_eq!(of(200).count() + of(422).count() + of(429).count(), answers.len());
    assert!(of(429).count() < answers.len(), "some of them are worked out");
    for refused in of(429) {
        assert_eq!(refused.code(), "too_many_requests");
        assert_eq!(refused.header("Retry-After"), Some("1"));
    }
    for refused in of(422) {
        assert_eq!(refused.code(), "too_much_work");
    }
    assert_eq!(server.get("/rollcall/v1/stats").json()["refused_questions"], of(429).count());
    // Afterwards a small preview is worked out, and its answer is right.
    let mapping = json!({ "mode": "all", "default_roles": [], "priority": [], "rules": [
        { "group": { "name_glob": "aa*a" }, "roles": ["developer"] },
        { "group": { "name_glob": "*b*" }, "roles": ["developer"] },
    ] });
    let small = preview(&server, &mapping);
    assert_eq!(small.status, 200);
    assert_eq!(small.json()["groups_without_rule"]["count"], 0);
    let warnings = small.json()["warnings"].as_array().unwrap().clone();
    let warned: Vec<&Value> = warnings.iter().map(|warning| &warning["field"]).collect();
    assert_eq!(warned, [&json!("mapping.rules[1]")], "no group has a `b` in its name");
}

#[test]
fn a_stop_and_an_asker_who_leaves_end_a_preview() {
    let (_folder, server) = with_odd_names();
    let address = server.url.strip_prefix("http://").unwrap().to_owned();
    let body = json!({ "mapping": slow_globs() }).to_string();
    let ask = || {
        let mut asker = TcpStream::connect(&address).unwrap();
        write!(
            asker,
            "POST /rollcall/v1/role_mapping/preview HTTP/1.1\r\nHost: x\r\n\
             Authorization: Bearer {API_KEY}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        asker
    };
    for _ in 0..32 {
        drop(ask());
    }
    let small = json!({ "mode": "all", "default_roles": ["member"], "priority": [], "rules": [] });
    assert_eq!(preview(&server, &small).status, 200, "those who have left take no turn");
    let _askers: Vec<_> = (0..16).map(|_| ask()).collect();
    assert_eq!(server.get("/healthz").status, 200);
    assert_eq!(server.stop(), 0);
}

/// A membership whose event describes the user with some bytes of attributes.
pub fn membership(group: &str, member: usize, bytes: usize) -> String {
    let id = format!("{group}_user_{member:03}");
    json!({
        "object": "event", "id": format!("event_{id}"), "event": "dsync.group.user_added",
        "created_at": TIME, "context": {},
        "data": {
            "directory_id": DIRECTORY,
            "user": {
                "object": "directory_user", "id": id, "directory_id": DIRECTORY,
                "organization_id": "org_1", "idp_id": id, "email": format!("{id}@foo.example"),
                "state": "active", "raw_attributes": {}, "custom_attributes": { "x": "y".repeat(bytes) },
                "created_at": TIME, "updated_at": TIME,
            },
            "group": {
                "object": "directory_group", "id": group, "directory_id": DIRECTORY,
                "organization_id": "org_1", "idp_id": group, "name": group, "raw_attributes": {},
                "created_at": TIME, "updated_at": TIME,
            },
        },
    })
    .to_string()
}

/// The bytes that the items of a page may have, and the rest of an answer.
const ANSWER_BYTES_MAX: usize = (4 << 20) + (64 << 10);

/// Follows a list's cursors from its end in one direction, and returns the ids of each page.
fn pages(server: &Server, list: &str, cursor: &str, start: &str) -> Vec<Vec<String>> {
    let (mut pages, mut from) = (Vec::new(), start.to_owned());
    loop {
        let answer = server.get(&format!("{list}{from}"));
        assert_eq!(answer.status, 200, "{list}{from}");
        assert!(answer.body.len() <= ANSWER_BYTES_MAX, "{list}{from}: {}", answer.body.len());
        pages.push(answer.ids());
        let next = &answer.json()["list_metadata"][cursor];
        let Some(next) = next.as_str() else { return pages };
        from = format!("&{cursor}={next}");
    }
}

#[test]
fn a_page_ends_at_four_mebibytes_and_its_cursors_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    for (group, members) in [("g1", 15), ("g2", 15), ("g3", 30), ("g4", 15)] {
        for member in 0..members {
            server.deliver(&membership(group, member, 200_000));
        }
    }
    let list = format!("/directory_groups?directory={DIRECTORY}&members=true&limit=100&order=asc");
    let expected: Vec<String> = ["g1", "g2", "g3", "g4"].map(str::to_owned).into();
    let forward = pages(&server, &list, "after", "");
    assert_eq!(forward, [["g1"], ["g2"], ["g3"], ["g4"]]);
    let backward = pages(&server, &list, "before", "&before=h");
    assert_eq!(backward, [["g4"], ["g3"], ["g2"], ["g1"]]);
    // A group that is too large alone says so, as one with too many members does.
    let large = server.get("/directory_groups/g3?members=true");
    assert!(large.body.len() <= ANSWER_BYTES_MAX);
    let large = large.json();
    let shown = large["members"].as_array().unwrap().len();
    assert!((15..30).contains(&shown), "{shown}");
    assert_eq!(large["members_truncated"], true);
    assert_eq!(large["members_total"], 30);
    assert_eq!(large["members_url"], "/directory_users?group=g3");
    let without = server.get(&list.replace("members=true", "members=false"));
    assert_eq!(without.ids(), expected);
    // Users, events and histories are lists as well.
    for (list, count) in [
        (format!("/directory_users?directory={DIRECTORY}&limit=100&order=asc"), 75),
        ("/events?events=dsync.group.user_added&limit=100".to_owned(), 75),
    ] {
        let pages = pages(&server, &list, "after", "");
        assert!(pages.len() > 3, "{list}");
        let mut ids = pages.concat();
        assert_eq!(ids.len(), count, "{list}");
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), count, "{list}");
    }
    let users = "/directory_users?group=g3&limit=100&order=desc";
    let mut upward = pages(&server, users, "before", "&before=g1");
    upward.reverse();
    let downward = pages(&server, users, "after", "");
    assert_eq!(upward.concat(), downward.concat());
    assert_eq!(upward.concat().len(), 30);
}

/// Connects, and sends the beginning of a request.
fn begin(server: &Server, text: &str) -> TcpStream {
    let mut connection = TcpStream::connect(server.url.strip_prefix("http://").unwrap()).unwrap();
    connection.write_all(text.as_bytes()).unwrap();
    connection
}

/// Returns what the server answers, until it closes the connection.
fn rest(connection: &mut TcpStream) -> String {
    connection.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let mut text = Vec::new();
    // A reset after the answer is an end as well.
    let _ = connection.read_to_end(&mut text);
    String::from_utf8_lossy(&text).into_owned()
}

/// Lets this process open as many connections as the system allows.
pub fn raise_own_limit() {
    let limits = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limits.maximum, ..limits }).unwrap();
}

#[test]
fn more_connections_than_descriptors_stop_no_webhook() {
    raise_own_limit();
    // The second is the limit that a service of systemd has.
    thread::scope(|scope| {
        for (descriptors, idle, dribbling) in [(256, 200, 40), (1024, 1000, 124)] {
            scope.spawn(move || connect_beyond(descriptors, idle, dribbling));
        }
    });
}

fn connect_beyond(descriptors: usize, idle: usize, dribbling: usize) {
    let folder = tempfile::tempdir().unwrap();
    let mut limited = Command::new("bash");
    let script = format!("ulimit -n {descriptors}; exec \"$0\" \"$@\"");
    limited.args(["-c", &script]).arg(binary());
    let server = Server::start_command(limited, folder.path(), &[]);
    let webhook = |id: &str| user(id, DIRECTORY, id, TIME, id, "dsync.user.created");
    // A connection that is kept is closed when it is idle for five seconds.
    let deliver_anew = |id: &str| {
        let (body, url) = (webhook(id), format!("{}/webhooks/workos", server.url));
        let header = signature(SECRET, &now_ms().to_string(), body.as_bytes());
        let headers = [("WorkOS-Signature", header.as_str())];
        assert_eq!(post(&agent(), &url, body.as_bytes(), &headers).unwrap().status, 200);
    };
    server.deliver(&webhook("before"));
    let idle: Vec<TcpStream> = (0..idle).map(|_| begin(&server, "")).collect();
    let dribbling: Vec<TcpStream> =
        (0..dribbling).map(|_| begin(&server, "GET /healthz HTTP/1.1\r\nHost: ")).collect();
    // The kept connection of the agent is served at once; a new one gets its turn.
    server.deliver(&webhook("kept"));
    let begun = Instant::now();
    let mut other = begin(&server, "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert!(rest(&mut other).contains("200 OK"));
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    deliver_anew("after");
    drop((idle, dribbling));
    deliver_anew("last");
    assert_eq!(server.stop(), 0);
}

#[test]
fn a_webhook_is_judged_by_its_header_before_its_body_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let head = |header: &str, length: usize| {
        format!(
            "POST /webhooks/workos HTTP/1.1\r\nHost: x\r\n{header}Content-Length: {length}\r\n\r\n{{"
        )
    };
    let stale = (now_ms() - 600_000).to_string();
    for (header, code) in [
        (String::new(), "signature_missing"),
        ("WorkOS-Signature: v1=00\r\n".to_owned(), "signature_malformed"),
        (
            format!("WorkOS-Signature: {}\r\n", signature(SECRET, &stale, b"{")),
            "timestamp_outside_tolerance",
        ),
    ] {
        // The body never comes, and still the answer does.
        for length in [100, 1_000_000] {
            let mut connection = begin(&server, &head(&header, length));
            let answer = rest(&mut connection);
            assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
            assert!(answer.contains(code), "{answer}");
        }
    }
}

#[test]
fn bodies_in_flight_are_bounded_and_small_ones_find_room() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let header = format!("t={}, v1={}", now_ms(), "00".repeat(32));
    let large = "x".repeat(1_000_000);
    // Each lacks its last byte. The server takes 48 MiB of large bodies, and refuses the others.
    let mut unproven: Vec<TcpStream> = (0..64)
        .map(|_| {
            let head = format!(
                "POST /webhooks/workos HTTP/1.1\r\nHost: x\r\nWorkOS-Signature: {header}\r\n\
                 Content-Length: 1000001\r\n\r\n"
            );
            let mut connection = begin(&server, &head);
            // A refusal may come in the middle.
            let _ = connection.write_all(large.as_bytes());
            connection
        })
        .collect();
    server.deliver(&user("u", DIRECTORY, "u", TIME, "e", "dsync.user.created"));
    let answers: Vec<String> = unproven.iter_mut().map(rest).collect();
    let with = |code: &str| answers.iter().filter(|answer| answer.contains(code)).count();
    assert!(with("queue_full") >= 10, "{}", with("queue_full"));
    assert!(with("body_timeout") >= 30, "{}", with("body_timeout"));
    // Their room is free again.
    let body = user("v", DIRECTORY, "v", TIME, "f", "dsync.user.created");
    let padded = format!("{body}{}", " ".repeat(3_000_000));
    server.deliver(&padded);
}

#[test]
fn the_body_of_an_operator_has_five_seconds() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let mut connection = begin(
        &server,
        &format!(
            "PUT /rollcall/v1/policy HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {API_KEY}\r\n\
             Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{{"
        ),
    );
    let answer = rest(&mut connection);
    assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("body_timeout"), "{answer}");
}

#[test]
fn a_reader_of_the_log_who_stalls_stops_only_what_must_be_logged() {
    let folder = tempfile::tempdir().unwrap();
    let mut logging = Command::new("env");
    logging.arg("ROLLCALL_LOG=error,rollcall::access=info").arg(binary()).stderr(Stdio::piped());
    let mut server = Server::start_command(logging, folder.path(), &[]);
    let sensitive = "/rollcall/v1/quarantine";
    let mut kept = 0;
    let refused = loop {
        let answer = server.get(sensitive);
        if answer.status != 200 {
            break answer;
        }
        kept += 1;
        assert!(kept < 50_000, "the queue is bounded");
    };
    assert_eq!((refused.status, refused.code().as_str()), (503, "access_log_unavailable"));
    assert_eq!(refused.header("Retry-After"), Some("1"));
    let access_log = || server.get("/readyz").json()["parts"]["access_log"]["state"].clone();
    assert_eq!(access_log(), "blocked");
    // What leaves no line goes on.
    server.deliver(&user("u", DIRECTORY, "u", TIME, "e", "dsync.user.created"));
    assert_eq!(server.get("/directory_users/u").status, 200);
    assert!(server.get("/rollcall/v1/stats").json()["dropped_log_lines"].as_u64().unwrap() >= 1);
    // Every answer that left has its line.
    let mut lines = BufReader::new(server.take_stderr());
    let mut line = String::new();
    for _ in 0..kept {
        line.clear();
        lines.read_line(&mut line).unwrap();
        assert!(line.contains("status=200") && line.contains(sensitive), "{line}");
    }
    assert_eq!(server.get(sensitive).status, 200);
    assert_eq!(server.stop(), 0);
    line.clear();
    lines.read_to_string(&mut line).unwrap();
    assert_eq!(line.lines().count(), 1, "the lines of a server that stops come out: {line}");
}

#[test]
fn a_stop_does_not_wait_for_a_reader_of_the_log_who_stalls() {
    let folder = tempfile::tempdir().unwrap();
    let mut logging = Command::new("env");
    logging.arg("ROLLCALL_LOG=info").arg(binary()).stderr(Stdio::piped());
    let server = Server::start_command(logging, folder.path(), &[]);
    while server.get("/rollcall/v1/quarantine").status == 200 {}
    assert_eq!(server.stop(), 0);
}

#[test]
fn a_body_nested_too_deep_is_kept_and_has_no_effect() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let nested = |id: &str, levels: usize| {
        // The body itself, its data and the attributes are three more levels.
        let deep = format!("{}{}", "[".repeat(levels - 3), "]".repeat(levels - 3));
        user(id, DIRECTORY, id, TIME, &format!("event_{id}"), "dsync.user.created")
            .replace(r#""raw_attributes":{}"#, &format!(r#""raw_attributes":{{"x":{deep}}}"#))
    };
    let seq = server.deliver(&nested("deeper", 129));
    server.deliver(&nested("deepest", 100_000));
    server.deliver(&nested("deep", 128));
    let listed = server.get("/rollcall/v1/quarantine").json();
    let reasons: Vec<(&Value, &Value)> = listed["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| (&entry["event_id"], &entry["reason"]))
        .collect();
    let too_deep = json!("too_deep");
    let (deeper, deepest) = (json!("event_deeper"), json!("event_deepest"));
    assert_eq!(reasons, [(&deeper, &too_deep), (&deepest, &too_deep)]);
    assert_eq!(server.get("/directory_users/deeper").status, 404);
    let users = server.get(&format!("/directory_users?directory={DIRECTORY}"));
    assert!(String::from_utf8_lossy(&users.body).contains("\"deep\""));
    assert!(!String::from_utf8_lossy(&users.body).contains("deeper"));
    let events = server.get("/events?events=dsync.user.created");
    assert!(!String::from_utf8_lossy(&events.body).contains("event_deeper"));
    // It is kept as it came, and its id is taken.
    assert_eq!(server.get(&format!("/rollcall/v1/log/entries/{seq}")).status, 200);
    let again = server.post(nested("deeper", 129).as_bytes()).json();
    assert_eq!((&again["duplicate"], &again["seq"]), (&json!(true), &json!(seq)));
}

/// A mapping of almost 1 MiB with 1,000 rules. In two with different numbers the first `differing`
/// rules are different.
pub fn large_mapping(number: usize, differing: usize) -> Value {
    let rule = |at: usize| {
        let number = if at < differing { number } else { 0 };
        json!({ "group": { "name": format!("{at:04}-{number:04}-{}", "n".repeat(915)) },
            "roles": [format!("role-{at}")] })
    };
    json!({ "mode": "all", "default_roles": [], "priority": [],
        "rules": (0..1000).map(rule).collect::<Vec<_>>() })
}

#[test]
fn a_mapping_that_would_need_more_memory_than_all_may_take_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let serve = |mib: &str| Server::start_with(folder.path(), &["--mapping-memory-mib", mib]);
    let set = |server: &Server, number: usize, differing: usize| {
        let body = json!({ "mapping": large_mapping(number, differing) });
        server.put("/rollcall/v1/role_mapping", &body)
    };
    // Each has almost 1 MiB of names, and two with other names do not fit.
    let server = serve("2");
    assert_eq!(set(&server, 1, 0).status, 200);
    let refused = set(&server, 2, 1000);
    assert_eq!((refused.status, refused.code().as_str()), (422, "mapping_invalid"));
    let error = &refused.json()["errors"][0];
    assert_eq!((&error["field"], &error["code"]), (&json!("mapping"), &json!("too_long")));
    assert!(error["message"].as_str().unwrap().contains("more than 2 MiB"), "{error}");
    // Rules that are there already are kept once.
    assert_eq!(set(&server, 3, 1).status, 200);
    assert_eq!(server.get("/rollcall/v1/role_mapping").json()["version"], 2);
    assert_eq!(server.stop(), 0);
    // What was set stays in force under any limit.
    let server = serve("1");
    assert_eq!(server.get("/rollcall/v1/role_mapping").json()["version"], 2);
    assert_eq!(set(&server, 4, 1).status, 422);
    assert_eq!(server.stop(), 0);
    let server = serve("3");
    assert_eq!(set(&server, 2, 1000).json()["version"], 3);
    assert_eq!(server.stop(), 0);
    // A start with a limit that is used up already says so.
    for (mib, warns) in [("1", true), ("3", false)] {
        let mut command = Command::new("env");
        command.arg("ROLLCALL_LOG=warn").arg(binary()).stderr(Stdio::piped());
        let arguments = ["--mapping-memory-mib", mib];
        let mut server = Server::start_command(command, folder.path(), &arguments);
        let mut lines = server.take_stderr();
        assert_eq!(server.stop(), 0);
        let mut text = String::new();
        lines.read_to_string(&mut text).unwrap();
        assert_eq!(text.contains("mapping_memory_mib"), warns, "{text}");
    }
}
