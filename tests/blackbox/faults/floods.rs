//! Floods: far more requests than the server can take, and requests that cost far more than they
//! seem to. Webhooks and cheap questions go on meanwhile, and afterwards all is as before.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde_json::{Value, json};

use crate::kit::server::{API_KEY, Answer, Server, user};

const DIRECTORY: &str = "directory_1";
const TIME: &str = "2026-03-01T09:00:00.000Z";

fn group(id: &str, name: &str) -> String {
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
fn slow_globs() -> Value {
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
    assert_eq!(
        small.json()["warnings"],
        json!([{ "field": "mapping.rules[1]", "code": "no group matches" }])
    );
}

#[test]
fn a_stop_and_an_asker_who_leaves_end_a_preview() {
    use std::io::Write as _;
    let (_folder, server) = with_odd_names();
    let address = server.url.strip_prefix("http://").unwrap().to_owned();
    let body = json!({ "mapping": slow_globs() }).to_string();
    let ask = || {
        let mut asker = std::net::TcpStream::connect(&address).unwrap();
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
