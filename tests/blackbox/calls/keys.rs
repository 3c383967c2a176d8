//! API keys: each call needs its scope, the past needs `audit`, and keys end, are counted and are
//! limited.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use rollcall::keys::KeyEntry;
use serde_json::{Value, json};

use crate::calls::openapi::{CALLS, path_of};
use crate::kit::keyed::{Keyed, entry};
use crate::kit::model::rfc3339;
use crate::kit::road::keyring;
use crate::kit::server::{
    API_KEY, Answer, SECRET, Server, agent, binary, now_ms, post, signature, user,
};

const SCOPES: [&str; 4] = ["ingest", "read", "audit", "operate"];

const HOUR_MS: i64 = 3_600_000;

/// The scope of each call that needs a key, but a backup, which needs two.
const NEEDS: [(&str, &str, &str); 61] = [
    ("get", "/directories", "read"),
    ("get", "/directories/{id}", "read"),
    ("delete", "/directories/{id}", "operate"),
    ("get", "/directory_groups", "read"),
    ("get", "/directory_groups/{id}", "read"),
    ("get", "/directory_users", "read"),
    ("get", "/directory_users/{id}", "read"),
    ("get", "/events", "audit"),
    ("get", "/metrics", "operate"),
    ("get", "/rollcall/v1/changes", "read"),
    ("get", "/rollcall/v1/deprovisionings", "audit"),
    ("get", "/rollcall/v1/diff", "audit"),
    ("post", "/rollcall/v1/directories", "operate"),
    ("get", "/rollcall/v1/directories/{id}/tokens", "operate"),
    ("post", "/rollcall/v1/directories/{id}/tokens", "operate"),
    ("delete", "/rollcall/v1/directories/{id}/tokens/{token_id}", "operate"),
    ("get", "/rollcall/v1/endpoints", "operate"),
    ("post", "/rollcall/v1/endpoints/{id}/replay", "operate"),
    ("post", "/rollcall/v1/endpoints/{id}/retry", "operate"),
    ("post", "/rollcall/v1/endpoints/{id}/skip", "operate"),
    ("post", "/rollcall/v1/endpoints/{id}/test", "operate"),
    ("get", "/rollcall/v1/groups/{id}/history", "audit"),
    ("get", "/rollcall/v1/groups/{id}/members", "audit"),
    ("post", "/rollcall/v1/import", "ingest"),
    ("get", "/rollcall/v1/links", "read"),
    ("put", "/rollcall/v1/links", "operate"),
    ("delete", "/rollcall/v1/links", "operate"),
    ("get", "/rollcall/v1/log/checkpoint", "audit"),
    ("get", "/rollcall/v1/log/entries/{seq}", "audit"),
    ("get", "/rollcall/v1/log/key", "audit"),
    ("post", "/rollcall/v1/log/key", "operate"),
    ("get", "/rollcall/v1/log/proof/consistency", "audit"),
    ("get", "/rollcall/v1/log/proof/inclusion", "audit"),
    ("get", "/rollcall/v1/names", "read"),
    ("get", "/rollcall/v1/policy", "read"),
    ("put", "/rollcall/v1/policy", "operate"),
    ("get", "/rollcall/v1/projections", "operate"),
    ("get", "/rollcall/v1/projections/rebuild", "operate"),
    ("post", "/rollcall/v1/projections/rebuild", "operate"),
    ("post", "/rollcall/v1/pull", "operate"),
    ("get", "/rollcall/v1/quarantine", "audit"),
    ("get", "/rollcall/v1/reconciliations", "operate"),
    ("post", "/rollcall/v1/reconciliations", "operate"),
    ("get", "/rollcall/v1/reconciliations/{id}", "operate"),
    ("get", "/rollcall/v1/role_assignments", "read"),
    ("get", "/rollcall/v1/role_mapping", "read"),
    ("put", "/rollcall/v1/role_mapping", "operate"),
    ("post", "/rollcall/v1/role_mapping/preview", "operate"),
    ("get", "/rollcall/v1/role_mapping/versions", "audit"),
    ("get", "/rollcall/v1/scim_requests", "audit"),
    ("get", "/rollcall/v1/scim_requests/{id}", "audit"),
    ("get", "/rollcall/v1/sink", "operate"),
    ("post", "/rollcall/v1/sink/rebuild", "operate"),
    ("get", "/rollcall/v1/sources", "operate"),
    ("get", "/rollcall/v1/stats", "read"),
    ("get", "/rollcall/v1/users", "read"),
    ("get", "/rollcall/v1/users/{id}/access", "audit"),
    ("get", "/rollcall/v1/users/{id}/groups", "audit"),
    ("get", "/rollcall/v1/users/{id}/history", "audit"),
    ("get", "/rollcall/v1/users/{id}/last_heard", "audit"),
    ("get", "/rollcall/v1/users/{id}/roles", "audit"),
];

/// The calls that are refused to a key that is bound to organizations, and those that answer it as
/// they answer any key.
const REFUSED_TO_BOUND: [(&str, &str); 25] = [
    ("get", "/metrics"),
    ("post", "/rollcall/v1/backup"),
    ("get", "/rollcall/v1/endpoints"),
    ("post", "/rollcall/v1/endpoints/{id}/replay"),
    ("post", "/rollcall/v1/endpoints/{id}/retry"),
    ("post", "/rollcall/v1/endpoints/{id}/skip"),
    ("post", "/rollcall/v1/endpoints/{id}/test"),
    ("get", "/rollcall/v1/policy"),
    ("put", "/rollcall/v1/policy"),
    ("get", "/rollcall/v1/role_mapping"),
    ("put", "/rollcall/v1/role_mapping"),
    ("get", "/rollcall/v1/role_mapping/versions"),
    ("post", "/rollcall/v1/role_mapping/preview"),
    ("get", "/rollcall/v1/projections"),
    ("get", "/rollcall/v1/projections/rebuild"),
    ("post", "/rollcall/v1/projections/rebuild"),
    ("post", "/rollcall/v1/pull"),
    ("get", "/rollcall/v1/reconciliations"),
    ("post", "/rollcall/v1/reconciliations"),
    ("get", "/rollcall/v1/reconciliations/{id}"),
    ("get", "/rollcall/v1/sink"),
    ("post", "/rollcall/v1/sink/rebuild"),
    ("get", "/rollcall/v1/sources"),
    ("post", "/rollcall/v1/log/key"),
    ("post", "/rollcall/v1/import"),
];
const OPEN_TO_BOUND: [&str; 4] = [
    "/rollcall/v1/log/checkpoint",
    "/rollcall/v1/log/key",
    "/rollcall/v1/log/proof/consistency",
    "/rollcall/v1/log/proof/inclusion",
];

/// Returns the path of a call with what it needs, perhaps of things that do not exist.
fn asked(path: &str) -> String {
    if path == "/rollcall/v1/changes" {
        return format!("{path}?wait=0");
    }
    let needs = CALLS.iter().find(|(other, _)| *other == path).map_or("x", |(_, needs)| needs);
    path_of(path, if path.contains('{') && needs.is_empty() { "x" } else { needs }).0
}

/// Calls of `/openapi.json` that need a key, each with the scopes it names.
fn described(server: &Keyed) -> BTreeMap<(String, String), Vec<String>> {
    let document = server.get("none", "/openapi.json").json();
    let mut calls = BTreeMap::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        // No API key opens those of SCIM.
        if path.starts_with("/scim/") {
            continue;
        }
        let methods = methods.as_object().unwrap().iter();
        for (method, call) in methods.filter(|(name, _)| *name != "parameters") {
            let scopes = call["x-required-scopes"].as_array().cloned().unwrap_or_default();
            let scopes: Vec<String> =
                scopes.iter().map(|scope| scope.as_str().unwrap().to_owned()).collect();
            assert_eq!(call["security"].is_array(), scopes.is_empty(), "{method} {path}");
            assert_eq!(call["responses"]["403"].is_null(), scopes.is_empty(), "{method} {path}");
            let about = call["description"].as_str().unwrap_or_default();
            for scope in &scopes {
                assert!(about.contains(&format!("`{scope}`")), "{method} {path}: {about}");
            }
            if !scopes.is_empty() {
                calls.insert((method.clone(), path.clone()), scopes);
            }
        }
    }
    calls
}

/// Checks that a key was refused for want of a scope.
fn refused(answer: &Answer, scope: &str, call: &str) {
    assert_eq!((answer.status, answer.code().as_str()), (403, "forbidden"), "{call}");
    let body = answer.json();
    let message = body["message"].as_str().unwrap();
    assert!(message.contains(&format!("`{scope}`")), "{call}: {message}");
    let fields: BTreeSet<&String> = body.as_object().unwrap().keys().collect();
    assert_eq!(fields, BTreeSet::from([&"message".to_owned(), &"code".to_owned()]), "{call}");
    assert!(answer.header("x-request-id").is_some(), "{call}");
}

#[test]
fn each_call_needs_its_scope_and_no_other() {
    let only = SCOPES.map(|scope| entry(scope, &[scope]));
    let but = SCOPES.map(|scope| {
        let others: Vec<&str> = SCOPES.into_iter().filter(|other| *other != scope).collect();
        entry(&format!("but-{scope}"), &others)
    });
    let server = Keyed::start(&[only, but].concat(), &[]);
    let mut calls = described(&server);
    // Its own tests are in `faults/backups.rs`.
    let backup = calls.remove(&("post".into(), "/rollcall/v1/backup".into()));
    assert_eq!(backup, Some(vec!["operate".to_owned(), "audit".to_owned()]));
    let expected =
        NEEDS.map(|(method, path, scope)| ((method.into(), path.into()), vec![scope.to_owned()]));
    assert_eq!(calls, BTreeMap::from(expected), "the scopes that the document names");
    for ((method, path), scopes) in &calls {
        let asked = asked(path);
        let body = (method != "get" && method != "delete").then(|| json!({ "no such field": 1 }));
        for scope in SCOPES {
            let needed = scopes.iter().any(|needed| needed == scope);
            for (name, permitted) in [(scope.to_owned(), needed), (format!("but-{scope}"), !needed)]
            {
                let call = format!("{method} {asked} with {name}");
                let answer = server.ask(&name, method, &asked, body.as_ref());
                if permitted {
                    assert!(![401, 403].contains(&answer.status), "{call}: {}", answer.status);
                } else {
                    refused(&answer, &scopes[0], &call);
                }
                if method == "get" {
                    let head = server.ask(&name, "head", &asked, None);
                    assert_eq!((head.status, head.body.len()), (answer.status, 0), "HEAD {call}");
                }
            }
        }
    }
    // The calls that need no key take any.
    for path in ["/healthz", "/readyz", "/openapi.json"] {
        assert_eq!(server.get("ingest", path).status, 200, "{path}");
        assert_eq!(server.get("unknown", path).status, 200, "{path}");
    }
}

/// Three users, recorded three hours ago, two hours ago and half an hour ago.
fn three_users() -> [(i64, String); 3] {
    let now = now_ms();
    [180, 120, 30].map(|minutes| {
        let (id, moment) = (format!("u{minutes}"), now - minutes * 60_000);
        let event =
            user(&id, "d1", "ana", &rfc3339(moment), &format!("e{id}"), "dsync.user.created");
        (moment, event)
    })
}

#[test]
fn the_past_needs_the_scope_audit_as_well() {
    let entries = [
        entry("reader", &["read"]),
        entry("both", &["read", "audit"]),
        entry("auditor", &["audit"]),
        entry("operator", &["operate"]),
    ];
    let server = Keyed::start(&entries, &three_users());
    let list = "/directory_users?directory=d1";
    let ago = |hours: i64| rfc3339(now_ms() - hours * HOUR_MS);
    for (query, is_past) in [
        (String::new(), false),
        ("&as_of=latest".into(), false),
        (format!("&as_of={}", ago(0)), true),
        (format!("&as_of={}", ago(5)), true),
        (format!("&known_at={}", ago(0)), false),
        (format!("&known_at={}", rfc3339(now_ms() - HOUR_MS + 60_000)), false),
        (format!("&known_at={}", rfc3339(now_ms() - HOUR_MS - 60_000)), true),
        (format!("&known_at={}", ago(20)), true),
        // Record 2 was the last one until half an hour ago, and record 1 until two hours ago.
        ("&known_at=3".into(), false),
        ("&as_of=latest&known_at=2".into(), false),
        ("&known_at=1".into(), true),
        ("&known_at=0".into(), true),
    ] {
        for path in [
            format!("{list}{query}"),
            format!("/directory_users/u180?x{query}").replace("x&", "").replace("?x", ""),
            format!("/rollcall/v1/role_assignments?limit=1{query}"),
        ] {
            let answer = server.get("reader", &path);
            if is_past {
                refused(&answer, "audit", &path);
            } else {
                assert_eq!(answer.status, 200, "{path}");
            }
            let both = server.get("both", &path);
            assert!([200, 404].contains(&both.status), "{path}: {}", both.status);
            refused(&server.get("auditor", &path), "read", &path);
        }
    }
    // A mistake in a parameter is still a mistake.
    assert_eq!(server.get("reader", &format!("{list}&as_of=yesterday")).status, 422);
    assert_eq!(server.get("reader", &format!("{list}&known_at=4")).status, 422);
    // A preview about the past is one as well.
    let preview = "/rollcall/v1/role_mapping/preview";
    let body = json!({ "mapping": {} });
    assert_eq!(server.ask("operator", "post", preview, Some(&body)).status, 200);
    let past = format!("{preview}?as_of={}", ago(1));
    refused(&server.ask("operator", "post", &past, Some(&body)), "audit", &past);
}

#[test]
fn a_list_is_paged_with_the_scope_read_at_the_cut_of_its_first_page() {
    let server = Keyed::start(&[entry("reader", &["read"])], &three_users());
    for list in ["/directory_users?directory=d1&limit=1", "/directories?limit=1"] {
        let first = server.get("reader", list);
        let pins: Vec<String> = [("rollcall-as-of", "as_of"), ("rollcall-known-at", "known_at")]
            .map(|(header, name)| format!("{name}={}", first.header(header).unwrap()))
            .into();
        let pins = pins.join("&");
        let (mut ids, mut page) = (Vec::new(), first);
        loop {
            assert_eq!(page.status, 200, "{list}");
            ids.extend(page.ids());
            let body = page.json();
            let Some(after) = body["list_metadata"]["after"].as_str() else { break };
            page = server.get("reader", &format!("{list}&{pins}&after={after}"));
        }
        assert_eq!(ids.len(), if list.starts_with("/directories") { 1 } else { 3 }, "{list}");
    }
}

#[test]
fn what_is_about_all_organizations_is_refused_to_a_key_bound_to_some() {
    let organizations = Some(vec!["org_1".to_owned()]);
    let bound = KeyEntry { organizations, ..entry("bound", &SCOPES) };
    let server = Keyed::start(&[bound, entry("free", &SCOPES)], &three_users());
    for (method, path) in REFUSED_TO_BOUND {
        let body = (method != "get").then(|| json!({ "no such field": 1 }));
        let answer = server.ask("bound", method, path, body.as_ref());
        assert_eq!((answer.status, answer.code().as_str()), (403, "forbidden"), "{method} {path}");
        let message = answer.json()["message"].as_str().unwrap().to_owned();
        assert!(message.contains("bound to organizations"), "{method} {path}: {message}");
    }
    for path in OPEN_TO_BOUND {
        let asked = asked(path).replace("=7", "=1");
        let [bound, free] = ["bound", "free"].map(|name| server.get(name, &asked));
        assert_eq!((bound.status, bound.body), (free.status, free.body), "{asked}");
        assert_ne!(bound.status, 403, "{asked}");
    }
}

#[test]
fn a_key_is_refused_from_its_end_on() {
    let until = |name: &str, moment: i64| KeyEntry {
        expires_at: Some(rfc3339(moment)),
        ..entry(name, &["read"])
    };
    let soon = now_ms() + 1_500;
    let entries =
        [until("over", now_ms() - 1), until("good", now_ms() + HOUR_MS), until("soon", soon)];
    let server = Keyed::start(&entries, &[]);
    let over = |name: &str| {
        let answer = server.get(name, "/directories");
        assert_eq!((answer.status, answer.code().as_str()), (401, "unauthorized"), "{name}");
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
        let message = answer.json()["message"].as_str().unwrap().to_owned();
        assert!(message.contains(&format!("`{name}` expired at 20")), "{message}");
    };
    over("over");
    assert_eq!(server.get("good", "/directories").status, 200);
    loop {
        let (before, answer) = (now_ms(), server.get("soon", "/directories"));
        if answer.status != 200 {
            assert!(now_ms() >= soon);
            break over("soon");
        }
        assert!(before < soon, "it is answered {} ms after its end", before - soon);
        thread::yield_now();
    }
}

#[test]
fn a_question_that_waits_ends_with_its_key() {
    let end = now_ms() + 2_500;
    let soon = KeyEntry { expires_at: Some(rfc3339(end)), ..entry("soon", &["read"]) };
    let server = Keyed::start(&[soon], &[]);
    let answer = server.get("soon", "/rollcall/v1/changes?wait=20");
    assert_eq!((answer.status, answer.code().as_str()), (401, "unauthorized"));
    assert!((end..end + 2_000).contains(&now_ms()), "{} ms after", now_ms() - end);
    assert!(answer.json()["message"].as_str().unwrap().contains("`soon` expired at 20"));
}

/// The headers of a key's limit, as numbers.
fn allowance(answer: &Answer) -> [Option<i64>; 3] {
    ["x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"]
        .map(|name| answer.header(name).map(|value| value.parse().unwrap()))
}

#[test]
fn a_key_with_a_limit_is_told_how_many_requests_are_left_and_refused_beyond_it() {
    let limited = KeyEntry { rate_limit: Some(4), ..entry("limited", &["read"]) };
    let server = Keyed::start(&[limited, entry("free", &["read"])], &three_users());
    // Logged and not logged, found and not found, permitted and not: each counts.
    let paths =
        ["/directories", "/directory_users/none", "/rollcall/v1/role_assignments", "/events"];
    for (path, (status, left)) in paths.into_iter().zip([(200, 3), (404, 2), (200, 1), (403, 0)]) {
        let (before_s, answer) = (now_ms() / 1000, server.get("limited", path));
        let [limit, remaining, reset] = allowance(&answer);
        assert_eq!((answer.status, limit, remaining), (status, Some(4), Some(left)), "{path}");
        // One request is refilled in 15 seconds.
        let until_full = reset.unwrap() - before_s;
        let expected = (4 - left) * 15;
        assert!((expected - 15..=expected + 2).contains(&until_full), "{path}: {until_full}");
    }
    for path in ["/directories", "/rollcall/v1/role_assignments", "/events"] {
        let answer = server.get("limited", path);
        assert_eq!((answer.status, answer.code().as_str()), (429, "rate_limited"), "{path}");
        assert_eq!(allowance(&answer)[..2], [Some(4), Some(0)], "{path}");
        let wait: i64 = answer.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=15).contains(&wait), "{path}: {wait}");
        let head = server.ask("limited", "head", path, None);
        assert_eq!((head.status, allowance(&head)[1]), (429, Some(0)), "{path}");
    }
    let free = server.get("free", "/directories");
    assert_eq!((free.status, allowance(&free)), (200, [None; 3]));
    // Keys that are read again do not begin anew.
    let limited = |limit| KeyEntry { rate_limit: limit, ..entry("limited", &["read"]) };
    server.replace(keyring(), &[limited(Some(4))]);
    assert_eq!(server.get("limited", "/directories").status, 429);
    server.replace(keyring(), &[limited(None)]);
    let answer = server.get("limited", "/directories");
    assert_eq!((answer.status, allowance(&answer)), (200, [None; 3]));
}

#[test]
fn requests_without_a_valid_key_are_counted() {
    let over = KeyEntry { expires_at: Some(rfc3339(1)), ..entry("over", &["read"]) };
    let server = Keyed::start(&[over, entry("auditor", &["audit"])], &[]);
    let count = || {
        let stats = server.ask_as(API_KEY, "get", "/rollcall/v1/stats", None).json();
        stats["unauthorized"].as_u64().unwrap()
    };
    assert_eq!(count(), 0);
    for (name, status) in [("nobody", 401), ("over", 401), ("auditor", 403), ("", 401)] {
        assert_eq!(server.get(name, "/directories").status, status, "{name}");
    }
    // A path that does not exist, and one that needs no key, say nothing of keys.
    assert_eq!(server.get("nobody", "/no/such").status, 404);
    assert_eq!(server.get("nobody", "/healthz").status, 200);
    assert_eq!(count(), 3);
}

/// The lines of a server's log that have a text.
fn lines_with(log: &Path, text: &str) -> Vec<String> {
    let log = fs::read_to_string(log).unwrap();
    log.lines().filter(|line| line.contains(text)).map(str::to_owned).collect()
}

/// A command that runs the binary with its log in a file.
fn logging_into(log: &Path) -> Command {
    let mut command = Command::new("sh");
    command
        .args(["-c", r#"exec env ROLLCALL_LOG=info "$0" "$@" 2>"$LOG""#])
        .arg(binary())
        .env("LOG", log);
    command
}

#[test]
fn wrong_keys_leave_one_line_a_minute_and_short_keys_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let server = Server::start_command(logging_into(&log), &folder.path().join("data"), &[]);
    for n in 0..20 {
        let path = format!("{}/directory_users/u{n}", server.url);
        assert_eq!(server.send("get", &path, &format!("sk_wrong_{n}"), "").status, 401);
    }
    let lines = lines_with(&log, "without a valid API key");
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("WARN") && lines[0].contains("route=\"/directory_users/{id}\""));
    assert_eq!(lines_with(&log, "wrong_"), [""; 0], "the keys are not logged");
    let short = lines_with(&log, "shorter than 16 characters");
    assert!(short.len() == 1 && short[0].contains("key_"), "{short:?}");
    assert_eq!(lines_with(&log, API_KEY), [""; 0]);
}

#[test]
fn a_record_of_an_act_holds_the_name_and_the_fingerprint_of_the_key() {
    let server = Keyed::start(&[entry("console", &["operate", "read", "audit"])], &[]);
    let fingerprint = format!("key_{}", &entry("console", &[]).sha256[..16]);
    let author = format!("console ({fingerprint})");
    let body = json!({ "inactive_users": "delete" });
    let policy = server.ask("console", "put", "/rollcall/v1/policy", Some(&body)).json();
    assert_eq!(policy["set_by"], json!(author), "{policy}");
    let mapping = json!({ "mapping": {} });
    let set = server.ask("console", "put", "/rollcall/v1/role_mapping", Some(&mapping)).json();
    assert_eq!(set["set_by"], json!(author), "{set}");
    let events = server.get("console", "/events?events=rollcall.policy.set").json();
    let actor = &events["data"][0]["context"]["actor"];
    assert_eq!(*actor, json!({ "id": fingerprint, "source": "api", "name": "console" }));
    // A key of the environment is known by its fingerprint, as before.
    let set = server.ask_as(API_KEY, "put", "/rollcall/v1/policy", Some(&body)).json();
    assert!(set["set_by"].as_str().unwrap().len() == 20, "{set}");
    let events = server.get("console", "/events?events=rollcall.policy.set").json();
    assert_eq!(events["data"][1]["context"]["actor"]["name"], Value::Null);
    assert_eq!(events["data"][1]["context"]["actor"]["id"], set["set_by"]);
}

#[test]
fn no_request_is_refused_while_keys_and_secrets_are_replaced() {
    const ROUNDS: usize = 40;
    let server = Keyed::start(&[entry("old", &["read"])], &three_users());
    let (over, asked) = (AtomicBool::new(false), AtomicU64::new(0));
    // Callers go over to the next key between its coming and the going of the one before.
    let names: Vec<String> =
        (0..=ROUNDS).map(|n| if n == 0 { "old".into() } else { format!("key{n}") }).collect();
    let (current, going) = (AtomicU64::new(0), AtomicU64::new(0));
    // A request may be refused only if its key began to go before the answer came.
    let gone = |n: usize| going.load(Ordering::SeqCst) as usize > n + 1;
    let secret = |n: usize| if n == 0 { SECRET.to_owned() } else { format!("whsec_{n}") };
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !over.load(Ordering::SeqCst) {
                    let n = current.load(Ordering::SeqCst) as usize;
                    let answer = server.get(&names[n], "/directory_users/u30");
                    assert!(answer.status == 200 || gone(n), "{}: key {n}", answer.status);
                    asked.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        scope.spawn(|| {
            let agent = agent();
            let url = format!("{}/webhooks/workos", server.url);
            while !over.load(Ordering::SeqCst) {
                let n = current.load(Ordering::SeqCst) as usize;
                let body = three_users()[0].1.clone().into_bytes();
                let header = signature(&secret(n), &now_ms().to_string(), &body);
                let answer = post(&agent, &url, &body, &[("WorkOS-Signature", &header)]).unwrap();
                assert!(answer.status == 200 || gone(n), "{}: secret {n}", answer.status);
                asked.fetch_add(1, Ordering::SeqCst);
            }
        });
        for n in 1..=ROUNDS {
            let both = [&names[n - 1], &names[n]].map(|name| entry(name, &["read"]));
            let secrets = [secret(n - 1), secret(n)];
            let keyring =
                rollcall::verify::Keyring::new(secrets.iter().map(String::as_str), 180_000);
            going.store(n as u64, Ordering::SeqCst);
            server.replace(keyring, &both);
            current.store(n as u64, Ordering::SeqCst);
            let seen = asked.load(Ordering::SeqCst);
            while asked.load(Ordering::SeqCst) < seen + 6 {
                thread::yield_now();
            }
        }
        over.store(true, Ordering::SeqCst);
    });
    assert_eq!(server.get(&names[0], "/directories").status, 401, "the first key is gone");
}
