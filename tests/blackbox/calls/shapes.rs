//! Every answer has the shape that client libraries need: `tests/schemas` says which, and was
//! written from the API's documentation and the libraries' own parsers, not from what the server
//! says.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use actix_web::App;
use actix_web::test::{call_service, init_service, read_body};
use jsonschema::{Registry, Validator};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::kit::histories::Question;
use crate::kit::model::{Cut, Ids, World};
use crate::kit::road::{get, settings};
use crate::kit::server::{API_KEY, Answer, Server, now_ms, post, signature};
use crate::kit::stage::deliver_recorded;
use crate::laws::stories::{Story, stories};

/// The schemas under which an answer or a part of it may be checked.
const SCHEMAS: [&str; 34] = [
    "directory.json",
    "directory_user.json",
    "directory_user.json#/$defs/with_groups",
    "directory_group.json",
    "directory_group.json#/$defs/with_members",
    "event.json",
    "list.json#/$defs/directories",
    "list.json#/$defs/directory_users",
    "list.json#/$defs/directory_groups",
    "list.json#/$defs/directory_groups_with_members",
    "list.json#/$defs/events",
    "list.json#/$defs/quarantine",
    "list.json#/$defs/projections",
    "rollcall.json#/$defs/receipt",
    "rollcall.json#/$defs/stats",
    "rollcall.json#/$defs/log_entry",
    "rollcall.json#/$defs/inclusion_proof",
    "rollcall.json#/$defs/consistency_proof",
    "rollcall.json#/$defs/checkpoint_key",
    "rollcall.json#/$defs/pull_request",
    "rollcall.json#/$defs/reconciliation",
    "rollcall.json#/$defs/source",
    "rollcall.json#/$defs/alive",
    "rollcall.json#/$defs/ready",
    "error.json#/$defs/400",
    "error.json#/$defs/401",
    "error.json#/$defs/404",
    "error.json#/$defs/405",
    "error.json#/$defs/408",
    "error.json#/$defs/413",
    "error.json#/$defs/415",
    "error.json#/$defs/422",
    "error.json#/$defs/500",
    "error.json#/$defs/503",
];

static VALIDATORS: LazyLock<HashMap<&str, Validator>> = LazyLock::new(|| {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/schemas");
    let files = fs::read_dir(folder)
        .unwrap()
        .map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap());
    let read = files.map(|text| serde_json::from_str::<Value>(&text).unwrap());
    let schemas: Vec<(String, Value)> =
        read.map(|schema| (schema["$id"].as_str().unwrap().to_owned(), schema)).collect();
    let known = schemas
        .iter()
        .fold(Registry::new(), |registry, (id, schema)| registry.add(id, schema).unwrap());
    let known = known.prepare().unwrap();
    let base = "https://rollcall.example/schemas/";
    let build = |name: &str| {
        jsonschema::options()
            .with_registry(&known)
            .build(&json!({ "$ref": format!("{base}{name}") }))
            .unwrap()
    };
    SCHEMAS.into_iter().map(|name| (name, build(name))).collect()
});

/// Returns the errors that a schema finds.
fn faults(schema: &str, value: &Value) -> Vec<String> {
    VALIDATORS[schema]
        .iter_errors(value)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect()
}

/// Checks that a value fits a schema.
pub fn check(schema: &str, value: &Value, about: &str) {
    let faults = faults(schema, value);
    assert!(faults.is_empty(), "{about}: not `{schema}`\n {}\n {value:#}", faults.join("\n "));
}

/// Checks that an error's body fits its status.
pub fn check_error(status: u16, body: &Value) {
    check(&format!("error.json#/$defs/{status}"), body, "an error");
}

// --- Asking ---

/// Asks a server, and checks what all answers have in common.
struct Asker<'a> {
    server: &'a Server,
    about: &'a str,
    request_ids: RefCell<BTreeSet<String>>,
}

impl<'a> Asker<'a> {
    fn new(server: &'a Server, about: &'a str) -> Asker<'a> {
        Asker { server, about, request_ids: RefCell::default() }
    }

    /// Returns an answer, and checks its status and shape.
    fn checked(&self, asked: &str, answer: &Answer, status: u16, schema: &str) -> Value {
        let about = format!("{}, {asked}", self.about);
        assert_eq!(answer.status, status, "{about}: {}", String::from_utf8_lossy(&answer.body));
        assert_eq!(
            answer.header("content-type"),
            Some("application/json; charset=utf-8"),
            "{about}"
        );
        let id = answer.header("x-request-id").unwrap_or_default();
        assert!(
            !id.is_empty() && self.request_ids.borrow_mut().insert(id.to_owned()),
            "{about}: `{id}` was given before"
        );
        let body = answer.json();
        check(schema, &body, &about);
        body
    }

    fn get(&self, path: &str, status: u16, schema: &str) -> Value {
        self.checked(path, &self.server.get(path), status, schema)
    }

    /// Asks a question of state; both clocks are in the headers.
    fn ask(&self, question: &Question, head: u64, status: u16, schema: &str) -> (Value, Answer) {
        let answer = self.server.get(&question.url());
        let body = self.checked(&question.url(), &answer, status, schema);
        let Cut { as_of_ms, known_at } = question.cut;
        let as_of = as_of_ms.map_or("latest".to_owned(), crate::kit::model::rfc3339);
        assert_eq!(answer.header("rollcall-as-of"), Some(as_of.as_str()), "{}", question.url());
        assert_eq!(
            answer.header("rollcall-known-at"),
            Some(known_at.unwrap_or(head).to_string().as_str()),
            "{}",
            question.url()
        );
        (body, answer)
    }

    /// All items of a list, page by page.
    fn walk(&self, question: &Question, head: u64, schema: &str) -> Vec<Value> {
        // In `normal` order the cursors are reversed.
        let normal = question.query.iter().any(|(key, value)| key == "order" && value == "normal");
        let key = if normal && question.path != "/events" { "before" } else { "after" };
        let (mut items, mut page) = (Vec::new(), question.clone());
        loop {
            let (body, _) = self.ask(&page, head, 200, schema);
            let data = body["data"].as_array().unwrap();
            items.extend(data.iter().cloned());
            let Some(cursor) = body["list_metadata"][key].as_str() else { return items };
            assert!(!data.is_empty(), "{}: an empty page ends a list", page.url());
            page = question.clone();
            page.query.push((key.to_owned(), cursor.to_owned()));
        }
    }
}

fn question(path: &str, query: &[(&str, &str)], cut: Cut) -> Question {
    let query = query.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
    Question { path: path.to_owned(), query, cut }
}

/// Now, the corners of the history, and both clocks together.
fn cuts(world: &World) -> Vec<Cut> {
    let past: Vec<i64> = world.moments().into_iter().filter(|moment| *moment < now_ms()).collect();
    let (first, last) = (past[0], past[past.len() - 1]);
    let (middle, head) = (past[past.len() / 2], world.head());
    let cut = |as_of_ms, known_at| Cut { as_of_ms, known_at };
    vec![
        cut(None, None),
        cut(Some(first - 1), None),
        cut(Some(first), None),
        cut(Some(middle), None),
        cut(Some(last), None),
        cut(None, Some(0)),
        cut(None, Some(head / 2)),
        cut(Some(middle), Some(head / 2)),
        cut(Some(middle - 1), Some(head)),
    ]
}

fn id_of(item: &Value) -> &str {
    item["id"].as_str().unwrap()
}

/// A server that has a story, and the model that has the same.
fn told(story: &Story, server: &Server) -> World {
    let (mut world, asker) = (World::new(), Asker::new(server, &story.name));
    for event in &story.events {
        let t_ms = now_ms();
        asker.checked(
            "a webhook",
            &server.post_at(event.as_bytes(), t_ms),
            200,
            "rollcall.json#/$defs/receipt",
        );
        deliver_recorded(&mut world, server, event.as_bytes(), t_ms);
    }
    world
}

/// Plays each story to a server of its own and examines it, several at a time.
fn for_each_story(examine: impl Fn(&Story, &Server, &World) + Sync) {
    let stories = stories();
    assert!(stories.len() >= 8);
    std::thread::scope(|scope| {
        for part in stories.chunks(stories.len().div_ceil(4)) {
            let examine = &examine;
            scope.spawn(move || {
                for story in part {
                    let folder = tempfile::tempdir().unwrap();
                    let server = Server::start(folder.path());
                    let world = told(story, &server);
                    examine(story, &server, &world);
                }
            });
        }
    });
}

// --- The stories ---

#[test]
fn directories_users_and_groups_have_their_shape_in_every_story_at_every_cut() {
    for_each_story(|story, server, world| {
        let (asker, ids) = (Asker::new(server, &story.name), world.ids());
        for (number, cut) in cuts(world).into_iter().enumerate() {
            for (path, query, schema) in lists(&ids) {
                check_list(&asker, world, &question(path, &query, cut), schema, number == 0);
            }
            let item = |path: String, query: &[(&str, &str)], schema: &str| {
                let asked = question(&path, query, cut);
                let (status, _) = world.get(&path, &asked.query, cut);
                let (_, answer) = asker.ask(
                    &asked,
                    world.head(),
                    status,
                    if status == 200 { schema } else { "error.json#/$defs/404" },
                );
                // Sent back, the headers repeat the answer.
                let (as_of, known_at) = (
                    answer.header("rollcall-as-of").unwrap(),
                    answer.header("rollcall-known-at").unwrap(),
                );
                let separator = if query.is_empty() { '?' } else { '&' };
                let pinned = question(&path, query, Cut::default()).url();
                assert_eq!(
                    server
                        .get(&format!("{pinned}{separator}as_of={as_of}&known_at={known_at}"))
                        .body,
                    answer.body,
                    "{path}"
                );
            };
            for id in ids.directories.iter().chain([&"directory_nowhere/ %".to_owned()]) {
                item(format!("/directories/{id}"), &[], "directory.json");
            }
            for id in ids.users.iter().chain([&"directory_user_é'".to_owned()]) {
                item(
                    format!("/directory_users/{id}"),
                    &[],
                    "directory_user.json#/$defs/with_groups",
                );
            }
            for id in ids.groups.iter().chain([&"directory_group_\n".to_owned()]) {
                item(format!("/directory_groups/{id}"), &[], "directory_group.json");
                item(
                    format!("/directory_groups/{id}"),
                    &[("members", "true")],
                    "directory_group.json#/$defs/with_members",
                );
            }
        }
    });
}

/// A list's path, its filters, and the schema of its pages.
type List<'a> = (&'static str, Vec<(&'a str, &'a str)>, &'static str);

fn lists(ids: &Ids) -> Vec<List<'_>> {
    let (directories, users) = ("list.json#/$defs/directories", "list.json#/$defs/directory_users");
    let (groups, with_members) =
        ("list.json#/$defs/directory_groups", "list.json#/$defs/directory_groups_with_members");
    let mut lists: Vec<List<'_>> = vec![
        ("/directories", vec![], directories),
        ("/directories", vec![("search", "a")], directories),
    ];
    for organization in &ids.organizations {
        let scope = ("organization_id", organization.as_str());
        lists.push(("/directories", vec![scope], directories));
        lists.push(("/directory_users", vec![scope], users));
        lists.push(("/directory_groups", vec![scope, ("members", "true")], with_members));
    }
    for directory in &ids.directories {
        let scope = ("directory", directory.as_str());
        lists.push(("/directory_users", vec![scope], users));
        lists.push(("/directory_users", vec![scope, ("state", "inactive")], users));
        lists.push(("/directory_groups", vec![scope], groups));
        lists.push(("/directory_groups", vec![scope, ("members", "true")], with_members));
    }
    for group in &ids.groups {
        lists.push(("/directory_users", vec![("group", group)], users));
    }
    for user in &ids.users {
        lists.push(("/directory_groups", vec![("user", user)], groups));
    }
    for domain in &ids.domains {
        lists.push(("/directories", vec![("domain", domain)], directories));
    }
    lists.push(("/directory_users", vec![("directory", "directory_nowhere")], users));
    lists
}

/// In every order and in pages of any size the list is the same.
fn check_list(asker: &Asker<'_>, world: &World, list: &Question, schema: &str, thoroughly: bool) {
    let walked = |order: &str, limit: &str| {
        let mut list = list.clone();
        list.query.extend([
            ("order".to_owned(), order.to_owned()),
            ("limit".to_owned(), limit.to_owned()),
        ]);
        asker.walk(&list, world.head(), schema)
    };
    let mut whole = walked("asc", "100");
    assert!(whole.is_sorted_by(|a, b| id_of(a) < id_of(b)), "{}", list.url());
    if thoroughly {
        assert_eq!(walked("asc", "1"), whole, "{}", list.url());
    }
    whole.reverse();
    assert_eq!(walked("desc", "2"), whole, "{}", list.url());
    if thoroughly {
        assert_eq!(walked("normal", "3"), whole, "{}", list.url());
        let (unsized_page, _) = asker.ask(list, world.head(), 200, schema);
        assert_eq!(unsized_page["data"].as_array().unwrap()[..], whole[..whole.len().min(10)]);
    }
}

#[test]
fn rollcalls_own_answers_have_their_shape_in_every_story() {
    for_each_story(|story, server, world| {
        let asker = Asker::new(server, &story.name);
        for paging in
            ["limit=1", "limit=2&order=desc", "limit=1000&order=asc", "limit=3&order=normal"]
        {
            let (mut cursor, mut seqs) = (String::new(), Vec::new());
            loop {
                let page = asker.get(
                    &format!("/rollcall/v1/quarantine?{paging}{cursor}"),
                    200,
                    "list.json#/$defs/quarantine",
                );
                seqs.extend(
                    page["data"]
                        .as_array()
                        .unwrap()
                        .iter()
                        .map(|entry| entry["seq"].as_u64().unwrap()),
                );
                let key = if paging.ends_with("normal") { "before" } else { "after" };
                let Some(next) = page["list_metadata"][key].as_str() else { break };
                cursor = format!("&{key}={next}");
            }
            seqs.sort_unstable();
            let expected: Vec<u64> = world.quarantine().into_iter().map(|(seq, ..)| seq).collect();
            assert_eq!(seqs, expected, "{}, {paging}", story.name);
        }
        let projections =
            asker.get("/rollcall/v1/projections", 200, "list.json#/$defs/projections");
        assert!(
            projections["data"]
                .as_array()
                .unwrap()
                .iter()
                .all(|projection| projection["seq"] == world.head())
        );
        for seq in 1..=world.head() {
            asker.get(
                &format!("/rollcall/v1/log/entries/{seq}"),
                200,
                "rollcall.json#/$defs/log_entry",
            );
            asker.get(
                &format!("/rollcall/v1/log/proof/inclusion?seq={seq}"),
                200,
                "rollcall.json#/$defs/inclusion_proof",
            );
            asker.get(
                &format!("/rollcall/v1/log/proof/consistency?from={seq}"),
                200,
                "rollcall.json#/$defs/consistency_proof",
            );
        }
        asker.get("/rollcall/v1/log/key", 200, "rollcall.json#/$defs/checkpoint_key");
        asker.get("/healthz", 200, "rollcall.json#/$defs/alive");
        assert_eq!(asker.get("/readyz", 200, "rollcall.json#/$defs/ready")["seq"], world.head());
    });
}

// --- Errors ---

#[test]
fn every_error_of_a_read_has_its_shape() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    server.deliver(&crate::kit::server::user(
        "u",
        "d",
        "ana",
        "2025-01-01T00:00:00.000Z",
        "e",
        "dsync.user.created",
    ));
    let asker = Asker::new(&server, "errors");
    let reads = [
        "/directories",
        "/directories/d",
        "/directory_users?directory=d",
        "/directory_users/u",
        "/directory_groups?directory=d",
        "/directory_groups/g",
        "/rollcall/v1/quarantine",
        "/rollcall/v1/projections",
        "/rollcall/v1/stats",
        "/events?events=dsync.user.created",
        "/rollcall/v1/log/checkpoint",
        "/rollcall/v1/log/entries/1",
        "/rollcall/v1/log/proof/inclusion?seq=1",
        "/rollcall/v1/log/proof/consistency?from=1",
    ];
    for path in reads {
        for headers in [
            &[][..],
            &[("Authorization", "Bearer wrong")],
            &[("Authorization", API_KEY)],
            &[("Authorization", "Basic eDp5")],
        ] {
            asker.checked(path, &server.get_with(path, headers), 401, "error.json#/$defs/401");
        }
        let posted =
            post(&crate::kit::server::agent(), &format!("{}{path}", server.url), b"{}", &[])
                .unwrap();
        asker.checked(path, &posted, 405, "error.json#/$defs/405");
        let allowed = if path == "/directories/d" { "GET, HEAD, DELETE" } else { "GET, HEAD" };
        assert_eq!(posted.header("allow"), Some(allowed), "{path}");
        let separator = if path.contains('?') { '&' } else { '?' };
        for wrong in ["unknown=1", "%FF=%FF", "=", "state[]=active"] {
            asker.get(&format!("{path}{separator}{wrong}"), 422, "error.json#/$defs/422");
        }
    }
    let of_state = &reads[..6];
    for path in of_state {
        let separator = if path.contains('?') { '&' } else { '?' };
        let wrong = [
            ("as_of=yesterday", "validation_failed"),
            ("as_of=", "validation_failed"),
            ("as_of=latest&as_of=latest", "validation_failed"),
            ("known_at=-1", "validation_failed"),
            ("as_of=2098-01-01T00:00:00Z", "as_of_in_future"),
            ("known_at=2", "known_at_out_of_range"),
            ("known_at=99999999999999999999", "known_at_out_of_range"),
            ("known_at=2098-01-01T00:00:00Z", "known_at_out_of_range"),
        ];
        for (query, code) in wrong {
            let body =
                asker.get(&format!("{path}{separator}{query}"), 422, "error.json#/$defs/422");
            assert_eq!(body["code"], code, "{path} {query}");
        }
    }
    let lists = [
        "/directories?",
        "/directory_users?directory=d&",
        "/directory_groups?directory=d&",
        "/rollcall/v1/quarantine?",
    ];
    for path in lists {
        for wrong in [
            "limit=0",
            "limit=1001",
            "limit=x",
            "limit=1&limit=1",
            "order=newest",
            "after=1&before=2",
            "after=",
            "before=",
        ] {
            asker.get(&format!("{path}{wrong}"), 422, "error.json#/$defs/422");
        }
    }
    let wrong = [
        "/directory_users",
        "/directory_groups?limit=5",
        "/directory_users?email=a%40b",
        "/directory_users?directory=d&state=suspended",
        "/directory_users?directory=d&groups=yes",
        "/directory_groups?directory=d&members=1",
        "/directories?organization=o&organization_id=o",
        "/rollcall/v1/quarantine?as_of=latest",
        "/rollcall/v1/quarantine?after=0",
        "/rollcall/v1/quarantine?after=e",
        "/rollcall/v1/projections?known_at=1",
        "/rollcall/v1/projections?limit=1",
    ];
    for path in wrong {
        asker.get(path, 422, "error.json#/$defs/422");
    }
    // The two that the API's own recordings show, to the letter.
    let code = "Please provide either \"directory\" or \"group\" parameters.";
    let body = asker.get("/directory_users", 422, "error.json#/$defs/422");
    assert_eq!(
        body["errors"],
        json!([{ "field": "directory", "code": code }, { "field": "group", "code": code }])
    );
    let body = asker.get("/directories/invalid", 404, "error.json#/$defs/404");
    assert_eq!(
        body,
        json!({ "message": "Directory not found: 'invalid'.", "code": "entity_not_found",
            "entity_id": "invalid" })
    );
    for path in [
        "/",
        "/nowhere",
        "/directories/a/b",
        "/directory_users/%FF",
        "/rollcall/v1",
        "/rollcall/v2/stats",
        "/webhooks",
        "/healthz/",
    ] {
        assert_eq!(asker.get(path, 404, "error.json#/$defs/404")["code"], "not_found", "{path}");
    }
}

#[test]
fn every_error_of_a_webhook_has_its_shape() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let asker = Asker::new(&server, "webhooks");
    let (body, now) = (b"{}", now_ms());
    let header = |t: i64, secret: &str| signature(secret, &t.to_string(), body);
    let signed = header(now, crate::kit::server::SECRET);
    let refused: [(Option<&str>, &str); 6] = [
        (None, "signature_missing"),
        (Some(""), "signature_malformed"),
        (Some("t=1"), "signature_malformed"),
        (Some("t=x, v1=00"), "signature_malformed"),
        (Some(&header(now, "another")), "signature_mismatch"),
        (Some(&header(now - 600_000, crate::kit::server::SECRET)), "timestamp_outside_tolerance"),
    ];
    for (header, code) in refused {
        let headers: Vec<_> = header.iter().map(|header| ("WorkOS-Signature", *header)).collect();
        let answer = server.post_with(body, &headers);
        assert_eq!(
            asker.checked(code, &answer, 401, "error.json#/$defs/401")["code"],
            code,
            "{header:?}"
        );
    }
    let encoded =
        server.post_with(body, &[("WorkOS-Signature", &signed), ("Content-Encoding", "gzip")]);
    asker.checked("an encoded body", &encoded, 415, "error.json#/$defs/415");
    let large = server.post(&vec![b' '; (4 << 20) + 1]);
    asker.checked("a large body", &large, 413, "error.json#/$defs/413");
    let read = server.get("/webhooks/workos");
    asker.checked("a read of the webhook's path", &read, 405, "error.json#/$defs/405");
    assert_eq!(read.header("allow"), Some("POST"));
    // What is verified but no event is taken, not refused.
    let taken = asker.checked("no event", &server.post(body), 200, "rollcall.json#/$defs/receipt");
    assert_eq!(taken, json!({ "seq": 1, "event_id": null, "duplicate": false, "conflict": false }));
}

#[test]
fn before_the_log_is_folded_the_answer_is_a_503_that_says_when_to_come_back() {
    actix_web::rt::System::new().block_on(async {
        let service =
            init_service(App::new().configure(rollcall::http::app(settings(), Default::default())))
                .await;
        for path in [
            "/directories",
            "/directory_users/u",
            "/rollcall/v1/quarantine",
            "/rollcall/v1/projections",
            "/readyz",
        ] {
            let response = call_service(&service, get(path).to_request()).await;
            let header =
                |name: &str| response.headers().get(name).unwrap().to_str().unwrap().to_owned();
            assert_eq!(response.status().as_u16(), 503, "{path}");
            assert_eq!(
                (header("content-type").as_str(), header("retry-after").as_str()),
                ("application/json; charset=utf-8", "1")
            );
            assert!(!header("x-request-id").is_empty());
            let body: Value = serde_json::from_slice(&read_body(response).await).unwrap();
            check("error.json#/$defs/503", &body, path);
            assert_eq!(body["code"], "not_ready");
        }
    });
}

// --- Events ---

const DSYNC_TYPES: [&str; 13] = [
    "dsync.activated",
    "dsync.deactivated",
    "dsync.deleted",
    "dsync.user.created",
    "dsync.user.updated",
    "dsync.user.deleted",
    "dsync.group.created",
    "dsync.group.updated",
    "dsync.group.deleted",
    "dsync.group.user_added",
    "dsync.group.user_removed",
    "dsync.token.created",
    "dsync.token.revoked",
];

/// Every type of a story's events, whether or not it may be listed, and the rest of dsync.
fn types_of(story: &Story) -> Vec<String> {
    let told = story.events.iter().filter_map(|event| {
        serde_json::from_str::<Value>(event).ok()?["event"].as_str().map(str::to_owned)
    });
    let told: BTreeSet<String> =
        told.chain(DSYNC_TYPES.map(str::to_owned)).filter(|name| !name.is_empty()).collect();
    told.into_iter().collect()
}

#[test]
fn events_have_their_shape_in_every_story_however_they_are_asked_for() {
    let schema = "list.json#/$defs/events";
    for_each_story(|story, server, world| {
        let asker = Asker::new(server, &story.name);
        let types = types_of(story);
        let joined = types.join(",");
        for cut in cuts(world) {
            let all = question("/events", &[("events", &joined), ("limit", "100")], cut);
            let whole = asker.walk(&all, world.head(), schema);
            for limit in ["1", "7"] {
                let paged = question(
                    "/events",
                    &[("events", &joined), ("limit", limit), ("order", "desc")],
                    cut,
                );
                assert_eq!(
                    asker.walk(&paged, world.head(), schema),
                    whole,
                    "{}: {}",
                    story.name,
                    paged.url()
                );
            }
            for name in &types {
                let one = asker.walk(
                    &question("/events", &[("events", name)], cut),
                    world.head(),
                    schema,
                );
                let expected: Vec<Value> =
                    whole.iter().filter(|event| event["event"] == name.as_str()).cloned().collect();
                assert_eq!(one, expected, "{}: {name}", story.name);
            }
            let keys = |key: fn(usize) -> String| -> Vec<(String, String)> {
                types.iter().enumerate().map(|(index, name)| (key(index), name.clone())).collect()
            };
            for mut query in [
                keys(|_| "events".into()),
                keys(|_| "events[]".into()),
                keys(|index| format!("events[{index}]")),
            ] {
                query.push(("limit".to_owned(), "100".to_owned()));
                assert_eq!(
                    asker.walk(&Question { query, ..all.clone() }, world.head(), schema),
                    whole,
                    "{}",
                    story.name
                );
            }
            for organization in world.ids().organizations.iter().chain([&"org_nowhere".to_owned()])
            {
                let query = [
                    ("events", joined.as_str()),
                    ("organization_id", organization),
                    ("limit", "2"),
                ];
                let of_organization =
                    asker.walk(&question("/events", &query, cut), world.head(), schema);
                assert!(
                    of_organization.iter().all(|event| whole.contains(event)),
                    "{}: {organization}",
                    story.name
                );
            }
        }
        let unknown = asker.get("/events?events=dsync.nothing", 200, schema);
        assert_eq!(
            unknown,
            json!({ "object": "list", "data": [],
                "list_metadata": { "before": null, "after": null } })
        );
    });
}

/// Reads an object with its values as text; of a key given twice the last counts.
type RawObject<'a> = BTreeMap<String, &'a RawValue>;

fn raw_object(text: &str) -> RawObject<'_> {
    serde_json::from_str(text).unwrap_or_default()
}

/// The text of a value; that of null if it is not there.
fn raw<'a>(object: &RawObject<'a>, key: &str) -> &'a str {
    object.get(key).map_or("null", |value| value.get())
}

const USER_KEYS: [&str; 20] = [
    "object",
    "id",
    "directory_id",
    "organization_id",
    "idp_id",
    "email",
    "first_name",
    "last_name",
    "name",
    "emails",
    "job_title",
    "username",
    "state",
    "raw_attributes",
    "custom_attributes",
    "role",
    "roles",
    "created_at",
    "updated_at",
    "previous_attributes",
];
const GROUP_KEYS: [&str; 11] = [
    "role",
    "object",
    "id",
    "idp_id",
    "directory_id",
    "organization_id",
    "name",
    "raw_attributes",
    "created_at",
    "updated_at",
    "previous_attributes",
];
const DIRECTORY_KEYS: [&str; 12] = [
    "object",
    "id",
    "organization_id",
    "external_key",
    "type",
    "state",
    "name",
    "domain",
    "domains",
    "created_at",
    "updated_at",
    "previous_attributes",
];
const TOKEN_KEYS: [&str; 6] =
    ["object", "id", "directory_id", "organization_id", "token_suffix", "created_at"];
const MEMBERSHIP_KEYS: [&str; 4] = ["directory_id", "user", "group", "previous_attributes"];

/// Checks that the fields that the source sent beyond `known` are shown byte for byte, that no
/// others are, and that attributes are never touched.
fn check_the_rest(shown: &RawObject<'_>, sent: &RawObject<'_>, known: &[&str], about: &str) {
    let rest = |object: &RawObject<'_>| -> BTreeMap<String, String> {
        object
            .iter()
            .filter(|(key, _)| !known.contains(&key.as_str()))
            .map(|(key, value)| (key.clone(), value.get().to_owned()))
            .collect()
    };
    assert_eq!(rest(shown), rest(sent), "{about}");
    for key in ["raw_attributes", "custom_attributes", "previous_attributes"] {
        if let (Some(shown), Some(sent)) =
            (shown.get(key), sent.get(key).filter(|sent| sent.get().starts_with('{')))
        {
            assert_eq!(shown.get(), sent.get(), "{about}, {key}");
        }
    }
    let is_whole = |emails: &&&RawValue| {
        serde_json::from_str::<Vec<&RawValue>>(emails.get())
            .is_ok_and(|emails| emails.iter().all(|email| email.get().starts_with('{')))
    };
    if let (Some(shown), Some(sent)) = (shown.get("emails"), sent.get("emails").filter(is_whole)) {
        assert_eq!(shown.get(), sent.get(), "{about}, emails");
    }
}

/// Compares each event of a list with the body that brought it, and returns their number.
pub fn check_against_bodies(list: &[u8], sent: &[(String, Vec<u8>)]) -> usize {
    let list = raw_object(std::str::from_utf8(list).unwrap());
    let events: Vec<RawObject<'_>> = serde_json::from_str(raw(&list, "data")).unwrap();
    for event in &events {
        let id: String = serde_json::from_str(raw(event, "id")).unwrap();
        let (_, body) = sent.iter().find(|(sent, _)| *sent == id).unwrap();
        let body = raw_object(std::str::from_utf8(body).unwrap());
        let context =
            Some(raw(&body, "context")).filter(|context| context.starts_with('{')).unwrap_or("{}");
        assert_eq!(raw(event, "context"), context, "{id}");
        let (shown, sent) = (raw_object(raw(event, "data")), raw_object(raw(&body, "data")));
        let name: String = serde_json::from_str(raw(event, "event")).unwrap();
        let known: &[&str] = match name.as_str() {
            "dsync.group.user_added" | "dsync.group.user_removed" => {
                for (end, known) in [("user", &USER_KEYS[..]), ("group", &GROUP_KEYS[..])] {
                    check_the_rest(
                        &raw_object(raw(&shown, end)),
                        &raw_object(raw(&sent, end)),
                        known,
                        &id,
                    );
                }
                &MEMBERSHIP_KEYS
            }
            name if name.starts_with("dsync.user.") => &USER_KEYS,
            name if name.starts_with("dsync.group.") => &GROUP_KEYS,
            name if name.starts_with("dsync.token.") => &TOKEN_KEYS,
            name if name.starts_with("dsync.") => &DIRECTORY_KEYS,
            _ => &[],
        };
        check_the_rest(&shown, &sent, known, &id);
    }
    events.len()
}

#[test]
fn an_event_has_the_keys_of_its_source_byte_for_byte_and_no_others() {
    for_each_story(|story, server, world| {
        let list = server.get(&format!("/events?events={}&limit=100", types_of(story).join(",")));
        let sent = world.sent();
        assert_eq!(check_against_bodies(&list.body, &sent), sent.len(), "{}", story.name);
    });
}

#[test]
fn numbers_escapes_and_white_space_in_what_is_passed_on_stay_as_they_were() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let odd = concat!(
        r#"{ "n" : [1.0, 1e2, 12345678901234567890123, -0, 0.10], "s":"\u00e9\/é", "twice":1,"#,
        r#""twice":2 , "ünï":{} }"#,
    );
    let emails = r#"[ {"value":"a@x", "primary" :true, "n":1.50} ]"#;
    let user = format!(
        concat!(
            r#""object":"directory_user","id":"u","directory_id":"d","raw_attributes":{odd},"#,
            r#""custom_attributes":{odd},"emails":{emails},"more":{odd}"#,
        ),
        emails = emails,
        odd = odd
    );
    let data = [
        ("dsync.user.updated", format!(r#"{{{user},"previous_attributes":{odd}}}"#)),
        ("dsync.user.deleted", format!(r#"{{{user}}}"#)),
        (
            "dsync.group.created",
            format!(r#"{{"id":"g","directory_id":"d","raw_attributes":{odd},"more":1e0}}"#),
        ),
        (
            "dsync.group.user_added",
            format!(
                concat!(
                    r#"{{"directory_id":"d","user":{{{user}}},"group":{{"id":"g","more":{odd}}},"#,
                    r#""more":{odd}}}"#,
                ),
                odd = odd,
                user = user
            ),
        ),
        ("dsync.activated", format!(r#"{{"id":"d","more":{odd},"name":"\u0046oo"}}"#)),
        ("dsync.token.created", format!(r#"{{"more":{odd}}}"#)),
        ("connection.activated", format!(r#"{{"object":"connection","more":{odd},"state":null}}"#)),
    ];
    let bodies: Vec<String> = data
        .iter()
        .enumerate()
        .map(|(at, (name, data))| {
            format!(
                concat!(
                    r#"{{"id":"e{at}","event":"{name}","data":{data},"#,
                    r#""created_at":"2025-01-01T00:00:0{at}Z","context":{odd}}}"#,
                ),
                at = at,
                data = data,
                name = name,
                odd = odd
            )
        })
        .collect();
    for body in &bodies {
        server.deliver(body);
    }
    let sent: Vec<(String, Vec<u8>)> = bodies
        .into_iter()
        .enumerate()
        .map(|(at, body)| (format!("e{at}"), body.into_bytes()))
        .collect();
    let names: Vec<&str> = data.iter().map(|(name, _)| *name).collect();
    let answer = server.get(&format!("/events?events={}", names.join(",")));
    assert_eq!(check_against_bodies(&answer.body, &sent), 7);
    check("list.json#/$defs/events", &answer.json(), "odd values");
}

#[test]
fn every_error_of_events_has_its_shape() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    server.deliver(&crate::kit::server::user(
        "u",
        "d",
        "ana",
        "2025-01-01T00:00:00.000Z",
        "e",
        "dsync.user.created",
    ));
    let asker = Asker::new(&server, "errors of events");
    let (range, events) =
        ("range_start=2025-01-01T00:00:00Z", "/events?events=dsync.user.created&");
    for path in [
        "/events",
        "/events?events=",
        "/events?events=%2C",
        "/events?events[]=",
        "/events?limit=5&events=",
    ] {
        asker.get(path, 400, "error.json#/$defs/400");
    }
    let too_many: Vec<String> = (0..65).map(|number| format!("x{number}")).collect();
    let wrong = [
        ("after=nowhere".to_owned(), "cursor_invalid"),
        ("before=nowhere".to_owned(), "cursor_invalid"),
        ("after=e&before=e".to_owned(), "validation_failed"),
        (format!("{range}&after=e"), "validation_failed"),
        ("range_end=2025-01-01T00:00:00Z&before=e".to_owned(), "validation_failed"),
        (format!("{range}&range_end=2024-12-31T23:59:59.999Z"), "validation_failed"),
        ("range_start=yesterday".to_owned(), "validation_failed"),
        ("limit=101".to_owned(), "validation_failed"),
        ("limit=0".to_owned(), "validation_failed"),
        ("order=newest".to_owned(), "validation_failed"),
        ("organization_id=".to_owned(), "validation_failed"),
        ("organization_id=o&organization=o".to_owned(), "validation_failed"),
        ("directory=d".to_owned(), "validation_failed"),
        (format!("events={}", too_many.join("%2C")), "validation_failed"),
        ("as_of=2098-01-01T00:00:00Z".to_owned(), "as_of_in_future"),
        ("known_at=2".to_owned(), "known_at_out_of_range"),
    ];
    for (query, code) in wrong {
        let body = asker.get(&format!("{events}{query}"), 422, "error.json#/$defs/422");
        assert_eq!(body["code"], code, "{query}");
    }
    asker.checked("no key", &server.get_with(events, &[]), 401, "error.json#/$defs/401");
    asker.checked(
        "posted",
        &post(&crate::kit::server::agent(), &format!("{}/events", server.url), b"{}", &[]).unwrap(),
        405,
        "error.json#/$defs/405",
    );
    asker.get("/events/e", 404, "error.json#/$defs/404");
}

// --- Stats ---

#[test]
fn stats_have_their_shape_in_every_story() {
    let schema = "rollcall.json#/$defs/stats";
    for_each_story(|story, server, world| {
        let (asker, ids) = (Asker::new(server, &story.name), world.ids());
        let stats = asker.get("/rollcall/v1/stats?limit=1000", 200, schema);
        assert_eq!(stats["seq"], world.head());
        let standing: Vec<String> = stats["directories"]["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|item| id_of(item).to_owned())
            .collect();
        assert!(standing.is_sorted(), "{}", story.name);
        for paging in ["limit=1", "limit=1&order=desc"] {
            let (mut cursor, mut walked) = (String::new(), Vec::new());
            loop {
                let page = asker.get(&format!("/rollcall/v1/stats?{paging}{cursor}"), 200, schema);
                walked.extend(
                    page["directories"]["data"]
                        .as_array()
                        .unwrap()
                        .iter()
                        .map(|item| id_of(item).to_owned()),
                );
                let Some(after) = page["directories"]["list_metadata"]["after"].as_str() else {
                    break;
                };
                cursor = format!("&after={after}");
            }
            walked.sort();
            assert_eq!(walked, standing, "{}, {paging}", story.name);
        }
        for filter in ids
            .directories
            .iter()
            .map(|id| ("directory", id))
            .chain(ids.organizations.iter().map(|id| ("organization_id", id)))
        {
            let url = question("/rollcall", &[(filter.0, filter.1)], Cut::default()).url();
            asker.get(&url.replace("/rollcall?", "/rollcall/v1/stats?"), 200, schema);
        }
        let wrong = [
            "as_of=latest",
            "known_at=1",
            "limit=0",
            "limit=1001",
            "order=up",
            "after=1&before=2",
            "state=linked",
        ];
        for query in wrong {
            asker.get(&format!("/rollcall/v1/stats?{query}"), 422, "error.json#/$defs/422");
        }
    });
}

// --- The schemas themselves ---

/// A valid answer, all its keys there, and which of its places are not closed in the usual way.
struct Sample {
    schema: &'static str,
    answer: Value,
    /// May be missing.
    optional: &'static [&'static str],
    /// May be null.
    nullable: &'static [&'static str],
    /// Objects of the customer, which may hold anything.
    open: &'static [&'static str],
    /// Objects that may have the source's keys as well as their own.
    extensible: &'static [&'static str],
}

/// Strings under these keys are of a closed vocabulary, or of a pattern.
const CLOSED: [&str; 11] = [
    "object",
    "type",
    "state",
    "reason",
    "status",
    "created_at",
    "updated_at",
    "recorded_at",
    "started_at",
    "last_at",
    "at",
];

const MOMENT: &str = "2026-01-15T12:00:00.000Z";
const RUN: &str = "run_0198c0de-0000-7000-8000-000000000001";

fn group_sample() -> Value {
    json!({
        "object": "directory_group", "id": "directory_group_1", "idp_id": "02grqrue4294w24",
        "directory_id": "directory_1",
        "organization_id": "org_1", "name": "Developers", "raw_attributes": { "x": 1 },
        "created_at": MOMENT, "updated_at": MOMENT,
    })
}

fn user_sample() -> Value {
    json!({
        "object": "directory_user", "id": "directory_user_1", "directory_id": "directory_1",
        "organization_id": "org_1", "idp_id": "2836",
        "email": "m.davis@example.com", "first_name": "Marcelina", "last_name": "Davis",
        "name": "Marcelina Davis",
        "emails": [{ "primary": true, "type": "work", "value": "m.davis@example.com" }],
        "job_title": "Software Engineer",
        "username": "mdavis", "state": "active", "raw_attributes": { "x": null },
        "custom_attributes": { "department": "Engineering" },
        "role": { "slug": "admin" }, "roles": [{ "slug": "admin" }], "created_at": MOMENT,
        "updated_at": MOMENT,
    })
}

fn directory_sample() -> Value {
    json!({
        "object": "directory", "id": "directory_1", "organization_id": "org_1",
        "external_key": "sPa12dwRQ", "type": "okta scim v2.0",
        "state": "linked", "name": "Foo Corp", "domain": "foo-corp.com", "created_at": MOMENT,
        "updated_at": MOMENT,
    })
}

fn event_sample(name: &str, data: Value) -> Value {
    json!({ "object": "event", "id": "event_1", "event": name, "data": data, "created_at": MOMENT,
        "context": { "actor": null } })
}

fn event_directory_sample() -> Value {
    json!({
        "object": "directory", "id": "directory_1", "organization_id": "org_1",
        "external_key": "sPa12dwRQ", "type": "gusto",
        "state": "inactive", "name": "Foo Corp", "created_at": MOMENT, "updated_at": MOMENT,
        "domains": [
            { "object": "organization_domain", "id": "org_domain_1", "organization_id": "org_1",
                "domain": "foo-corp.com" },
        ],
    })
}

fn with(mut object: Value, key: &str, value: Value) -> Value {
    object[key] = value;
    object
}

fn without(mut object: Value, keys: &[&str]) -> Value {
    object.as_object_mut().unwrap().retain(|key, _| !keys.contains(&key.as_str()));
    object
}

fn list_of(item: Value) -> Value {
    json!({ "object": "list", "data": [item], "list_metadata": { "before": "a", "after": "b" } })
}

fn samples() -> Vec<Sample> {
    let plain = |schema, answer| Sample {
        schema,
        answer,
        optional: &[],
        nullable: &[],
        open: &[],
        extensible: &[],
    };
    let event = |name, data| Sample {
        open: &["/context"],
        extensible: &["/data"],
        ..plain("event.json", event_sample(name, data))
    };
    let (hash, origin) =
        (format!("{}=", "A".repeat(43)), "rollcall/01234567-0123-0123-0123-0123456789ab");
    let key = format!("{origin}+01234567+A{}", "B".repeat(43));
    let with_groups = with(user_sample(), "groups", json!([group_sample()]));
    let with_members = with(group_sample(), "members", json!([user_sample()]));
    let previous = json!({ "name": null });
    let user_event = |name, data| Sample {
        optional: &["/data/role", "/data/roles"],
        nullable: &[
            "/data/email",
            "/data/first_name",
            "/data/last_name",
            "/data/name",
            "/data/job_title",
            "/data/username",
        ],
        open: &[
            "/context",
            "/data/emails/0",
            "/data/raw_attributes",
            "/data/custom_attributes",
            "/data/previous_attributes",
        ],
        ..event(name, data)
    };
    let group_event = |name, data| Sample {
        open: &["/context", "/data/raw_attributes", "/data/previous_attributes"],
        ..event(name, data)
    };
    let membership = |name| Sample {
        optional: &["/data/user/role", "/data/user/roles"],
        nullable: &[
            "/data/user/email",
            "/data/user/first_name",
            "/data/user/last_name",
            "/data/user/name",
            "/data/user/job_title",
            "/data/user/username",
        ],
        open: &[
            "/context",
            "/data/user/emails/0",
            "/data/user/raw_attributes",
            "/data/user/custom_attributes",
            "/data/group/raw_attributes",
        ],
        extensible: &["/data", "/data/user", "/data/group"],
        ..event(
            name,
            json!({ "directory_id": "directory_1", "user": user_sample(),
                "group": group_sample() }),
        )
    };
    let token = json!({
        "object": "directory_token", "id": "directory_token_1", "directory_id": "directory_1",
        "organization_id": "org_1",
        "token_suffix": "k7Qe", "created_at": MOMENT,
    });
    let cursors = &["/list_metadata/before", "/list_metadata/after"];
    let field_errors = json!([{ "field": "limit", "code": "it must be a whole number" }]);
    let error = |message: &str, code: &str| json!({ "message": message, "code": code });
    let directory_stats = json!({
        "object": "directory_stats", "id": "directory_1", "name": "Foo", "organization_id": "org_1",
        "state": "unlinked",
        "users": { "active": 1, "inactive": 0 }, "groups": 2,
        "events": { "last_hour": { "dsync.user.created": 1 }, "last_day": {},
        "last_30_days": { "x.y": 3 } },
        "last_event_at": MOMENT, "silent_ms": 5,
        "initial_sync": { "state": "done", "started_at": MOMENT, "last_at": MOMENT, "users": 1,
        "groups": 2, "memberships": 3 },
        "scim": {
            "reads": 1, "writes": 2, "unchanged": 1, "refused": 3, "failed": 0,
            "last_request": {
                "at": MOMENT, "method": "PATCH", "status": 200, "user_agent": "a client",
            },
            "last_refused": { "at": MOMENT, "method": "GET", "status": 404, "user_agent": null },
        },
    });
    let source = json!({
        "object": "source", "url": "https://api.workos.com", "cursor": "event_1",
        "caught_up_at": MOMENT, "last_success_at": MOMENT,
        "last_error": { "code": "unauthorized", "message": "m", "at": MOMENT },
        "next_try_at": MOMENT,
        "pulled": 3, "new": 1, "duplicates": 2, "differs": 0, "held": 0,
        "left_to_webhooks": 1,
        "reconciliation": { "id": RUN, "state": "held", "step": "ended", "directories": 2,
            "compared": { "directories": 1, "groups": 0, "users": 2, "memberships": 3 },
            "started_at": MOMENT,
            "finished_at": MOMENT, "directory": "directory_1", "dry_run": false,
            "differences": 2, "recorded": 1, "held": 1 },
    });
    let reconciliation = json!({
        "object": "reconciliation", "id": RUN, "state": "held", "step": "ended",
        "started_at": MOMENT, "finished_at": MOMENT, "directory": "directory_1",
        "dry_run": false, "guard": "10%", "error": "it failed",
        "directories": [{ "id": "directory_1", "state": "clean", "error": "it failed",
            "exceeds": "all 3 groups would end" }],
        "compared": { "directories": 1, "groups": 0, "users": 2, "memberships": 3 },
        "recorded": 1, "held": 1,
        "differences": {
            "data": [
                { "kind": "user", "id": "u", "directory_id": "directory_1",
                    "difference": "differs", "fields": ["email"], "recorded": 7, "held": null },
                { "kind": "membership", "user_id": "u", "group_id": "g",
                    "directory_id": "directory_1", "difference": "missing_there", "fields": [],
                    "recorded": null, "held": "guard" },
            ],
            "list_metadata": { "before": null, "after": "1000" },
        },
    });
    let delay = json!({ "p50": 1, "p99": 2, "max": 3 });
    let stats = json!({
        "object": "stats", "at": MOMENT, "seq": 4, "started_at": MOMENT,
        "clock": { "offset_ms": -7, "stamps_ahead_ms": 0, "is_believed": true },
        "events": { "last_minute": 0, "last_hour": 1, "last_day": 2, "last_30_days": 3 },
        "rate_per_s": { "last_minute": 0.07, "last_hour": 33.33 },
        "delay_ms": { "last_hour": delay, "last_day": delay },
        "backfilled": { "last_hour": 0, "last_day": 0 },
        "duplicates": 1,
        "differs": 0,
        "signature_failures": {
            "signature_missing": 0, "signature_malformed": 0, "signature_mismatch": 0,
            "timestamp_outside_tolerance": 0,
        },
        "refused_webhooks": {
            "signature_missing": 0, "signature_malformed": 0, "signature_mismatch": 0,
            "timestamp_outside_tolerance": 0, "body_timeout": 0, "body_too_large": 0,
            "unsupported_encoding": 0, "not_found": 0,
        },
        "refused_questions": 0, "dropped_log_lines": 0,
        "connections": { "open": 1, "places": 2, "closed": 0 },
        "sources": [source], "archive": null,
        "endpoints": [{
            "object": "endpoint", "name": "app", "url": "https://app.example.com/webhooks",
            "state": "paused", "paused_by": "receiver", "position": 29, "lag": 1,
            "parked": 0, "last_error": "status 410", "failing_since": MOMENT, "delivered": 12, "failures": 3,
        }],
        "scrub": {
            "position": 1, "bytes": 2, "passes": 3,
            "last_pass": {
                "started_at": MOMENT, "finished_at": MOMENT, "bytes": 2, "blocks": 1,
            },
            "doubtful": 1, "doubtful_at": [4711], "damaged": 2,
            "findings": [{ "first": 1, "last": 2, "what": "it is damaged", "in_memory": true }],
            "found_at": MOMENT,
            "deferred_check": { "position": 1, "until": 2, "finished_at": MOMENT },
        },
        "snapshot": {
            "seq": 1, "bytes": 2, "written_at": MOMENT, "started_from": 1, "comparison": "equal",
            "compared_at": MOMENT,
        },
        "unauthorized": 0,
        "conflicts": 0,
        "quarantine": {
            "not_an_event": 0, "reserved_type": 0, "unknown_type": 0, "missing_field": 0,
            "kind_mismatch": 0, "too_deep": 0, "conflict": 0,
            "clock_ahead": 0, "overtaken": 0, "lost": 0, "repeated": 0,
            "foreign_directory": 0,
        },
        "condition": {
            "disk": { "free_bytes": 2, "reserve_bytes": 1, "is_low": false },
            "mappings": { "bytes": 0, "bytes_max": 1 },
            "last_refused_at": {
                "signature_missing": MOMENT, "signature_malformed": null,
                "signature_mismatch": null, "timestamp_outside_tolerance": null,
                "body_timeout": null, "body_too_large": null, "unsupported_encoding": null,
                "not_found": null,
            },
            "quarantine_last_day": {
                "not_an_event": 0, "reserved_type": 0, "unknown_type": 0, "missing_field": 0,
                "kind_mismatch": 0, "too_deep": 0, "conflict": 0,
                "clock_ahead": 0, "overtaken": 0, "lost": 0, "repeated": 0,
                "foreign_directory": 0,
            },
            "mass_deprovisionings": [],
        },
        "directories": list_of(directory_stats),
    });
    let quarantined = json!({
        "object": "quarantine_entry", "seq": 1, "event_id": "e", "event": "x.y",
        "reason": "clock_ahead", "detail": "d",
        "recorded_at": MOMENT,
    });
    let projection = json!({ "object": "projection", "name": "users", "version": 1, "seq": 1,
        "items": 2, "sha256": "0a".repeat(32), "rebuild": null });
    vec![
        Sample { optional: &["/domain"], ..plain("directory.json", directory_sample()) },
        Sample {
            optional: &["/data/0/domain"],
            nullable: cursors,
            ..plain("list.json#/$defs/directories", list_of(directory_sample()))
        },
        Sample { open: &["/raw_attributes"], ..plain("directory_group.json", group_sample()) },
        Sample {
            open: &["/data/0/raw_attributes"],
            nullable: cursors,
            ..plain("list.json#/$defs/directory_groups", list_of(group_sample()))
        },
        Sample {
            optional: &["/members/0/role", "/members/0/roles"],
            nullable: &[
                "/members/0/email",
                "/members/0/first_name",
                "/members/0/last_name",
                "/members/0/name",
                "/members/0/job_title",
                "/members/0/username",
            ],
            open: &[
                "/raw_attributes",
                "/members/0/emails/0",
                "/members/0/raw_attributes",
                "/members/0/custom_attributes",
            ],
            ..plain("directory_group.json#/$defs/with_members", with_members.clone())
        },
        Sample {
            optional: &["/role", "/roles"],
            nullable: &["/email", "/first_name", "/last_name", "/name", "/job_title", "/username"],
            open: &[
                "/emails/0",
                "/raw_attributes",
                "/custom_attributes",
                "/groups/0/raw_attributes",
            ],
            ..plain("directory_user.json#/$defs/with_groups", with_groups.clone())
        },
        Sample {
            optional: &["/data/0/role", "/data/0/roles"],
            nullable: &[
                "/data/0/email",
                "/data/0/first_name",
                "/data/0/last_name",
                "/data/0/name",
                "/data/0/job_title",
                "/data/0/username",
                "/list_metadata/before",
                "/list_metadata/after",
            ],
            open: &[
                "/data/0/emails/0",
                "/data/0/raw_attributes",
                "/data/0/custom_attributes",
                "/data/0/groups/0/raw_attributes",
            ],
            ..plain("list.json#/$defs/directory_users", list_of(with_groups))
        },
        event("dsync.activated", event_directory_sample()),
        event("dsync.deactivated", event_directory_sample()),
        event("dsync.deleted", without(event_directory_sample(), &["external_key", "domains"])),
        user_event("dsync.user.created", user_sample()),
        user_event(
            "dsync.user.updated",
            with(user_sample(), "previous_attributes", previous.clone()),
        ),
        user_event("dsync.user.deleted", user_sample()),
        group_event("dsync.group.created", group_sample()),
        group_event("dsync.group.updated", with(group_sample(), "previous_attributes", previous)),
        group_event("dsync.group.deleted", group_sample()),
        membership("dsync.group.user_added"),
        membership("dsync.group.user_removed"),
        event("dsync.token.created", token.clone()),
        event("dsync.token.revoked", token),
        Sample {
            open: &["/context", "/data"],
            ..event("connection.activated", json!({ "object": "connection", "x": null }))
        },
        plain("error.json#/$defs/401", error("Unauthorized", "unauthorized")),
        plain("error.json#/$defs/401", error("the signature does not match", "signature_mismatch")),
        plain("error.json#/$defs/404", error("Not Found", "not_found")),
        plain(
            "error.json#/$defs/404",
            with(error("Directory not found: 'x'.", "entity_not_found"), "entity_id", json!("x")),
        ),
        plain("error.json#/$defs/405", error("m", "method_not_allowed")),
        plain("error.json#/$defs/408", error("m", "body_timeout")),
        plain("error.json#/$defs/413", error("m", "body_too_large")),
        plain("error.json#/$defs/415", error("m", "unsupported_encoding")),
        plain(
            "error.json#/$defs/422",
            with(error("Validation failed", "cursor_invalid"), "errors", field_errors),
        ),
        plain("error.json#/$defs/500", error("m", "internal")),
        plain("error.json#/$defs/503", error("m", "not_ready")),
        plain(
            "error.json#/$defs/400",
            error(
                "One or more event names (e.g. dsync.user.created) must be provided using the \
                 events parameter.",
                "invalid_events_request",
            ),
        ),
        Sample {
            nullable: &["/event_id"],
            ..plain(
                "rollcall.json#/$defs/receipt",
                json!({ "seq": 1, "event_id": "e", "duplicate": false, "conflict": true }),
            )
        },
        plain(
            "rollcall.json#/$defs/log_entry",
            json!({ "object": "log_entry", "seq": 1, "proof": "webhook", "receipt": "AQID",
                "salt": "AQIDBAUGBwgJCgsMDQ4PEA==", "body": "e30=", "leaf": hash }),
        ),
        plain(
            "rollcall.json#/$defs/inclusion_proof",
            json!({ "object": "inclusion_proof", "seq": 1, "size": 2, "hashes": [hash] }),
        ),
        plain(
            "rollcall.json#/$defs/consistency_proof",
            json!({ "object": "consistency_proof", "from": 1, "to": 2, "hashes": [hash] }),
        ),
        Sample {
            nullable: &["/seq", "/handover", "/former/0/changed_by", "/former/0/note"],
            ..plain(
                "rollcall.json#/$defs/checkpoint_key",
                json!({
                    "object": "checkpoint_key", "origin": origin, "key": key, "seq": 3,
                    "former": [{
                        "key": key, "seq": 3, "changed_at": "2026-01-01T00:00:00.000Z",
                        "changed_by": "key_0123456789abcdef", "note": "n",
                    }],
                    "handover":
                        format!("{origin}\n3\n{hash}\n\n— {origin} AAAA\n— {origin} BBBB\n"),
                }),
            )
        },
        Sample {
            nullable: &[
                "/data/0/event_id",
                "/data/0/event",
                "/data/0/recorded_at",
                "/list_metadata/before",
                "/list_metadata/after",
            ],
            ..plain("list.json#/$defs/quarantine", list_of(quarantined))
        },
        Sample {
            nullable: &[
                "/source/cursor",
                "/source/caught_up_at",
                "/source/last_success_at",
                "/source/last_error",
                "/source/next_try_at",
                "/source/reconciliation",
                "/source/reconciliation/finished_at",
                "/source/reconciliation/directory",
            ],
            ..plain(
                "rollcall.json#/$defs/pull_request",
                json!({ "object": "pull_request", "requested_at": MOMENT, "source": source }),
            )
        },
        Sample {
            nullable: &[
                "/finished_at",
                "/directory",
                "/error",
                "/directories/0/error",
                "/directories/0/exceeds",
                "/differences/data/0/recorded",
                "/differences/data/1/held",
                "/differences/list_metadata/after",
            ],
            ..plain("rollcall.json#/$defs/reconciliation", reconciliation)
        },
        plain("rollcall.json#/$defs/alive", json!({ "status": "ok" })),
        Sample {
            optional: &[
                "/parts/clock",
                "/parts/access_log",
                "/parts/archive",
                "/parts/source",
                "/parts/scrub",
                "/parts/snapshot",
            ],
            ..plain(
                "rollcall.json#/$defs/ready",
                json!({ "status": "ready", "seq": 0, "parts": {
                    "log": { "state": "open", "since": MOMENT },
                    "fold": { "state": "current", "since": MOMENT },
                    "scrub": { "state": "sound", "since": MOMENT },
                    "snapshot": { "state": "equal", "since": MOMENT },
                    "clock": { "state": "believed", "since": MOMENT },
                    "access_log": { "state": "open", "since": MOMENT },
                    "archive": { "state": "working", "since": MOMENT },
                    "source": { "state": "failing", "since": MOMENT },
                } }),
            )
        },
        Sample {
            nullable: &[
                "/delay_ms/last_hour",
                "/delay_ms/last_day",
                "/sources/0/cursor",
                "/sources/0/caught_up_at",
                "/sources/0/last_success_at",
                "/sources/0/last_error",
                "/sources/0/next_try_at",
                "/sources/0/reconciliation",
                "/sources/0/reconciliation/finished_at",
                "/sources/0/reconciliation/directory",
                "/endpoints/0/paused_by",
                "/endpoints/0/last_error",
                "/endpoints/0/failing_since",
                "/condition",
                "/condition/disk",
                "/condition/last_refused_at/signature_missing",
                "/scrub",
                "/scrub/last_pass",
                "/scrub/found_at",
                "/scrub/deferred_check",
                "/scrub/deferred_check/finished_at",
                "/snapshot",
                "/snapshot/bytes",
                "/snapshot/written_at",
                "/snapshot/compared_at",
                "/directories/data/0/last_event_at",
                "/directories/data/0/silent_ms",
                "/directories/data/0/initial_sync",
                "/directories/data/0/scim",
                "/directories/data/0/scim/last_request",
                "/directories/data/0/scim/last_request/user_agent",
                "/directories/data/0/scim/last_refused",
                "/directories/data/0/scim/last_refused/user_agent",
                "/directories/list_metadata/before",
                "/directories/list_metadata/after",
            ],
            open: &[
                "/directories/data/0/events/last_hour",
                "/directories/data/0/events/last_day",
                "/directories/data/0/events/last_30_days",
            ],
            ..plain("rollcall.json#/$defs/stats", stats)
        },
        Sample {
            nullable: &["/list_metadata/before", "/list_metadata/after", "/data/0/sha256"],
            ..plain(
                "list.json#/$defs/projections",
                json!({ "object": "list", "data": [projection],
                    "list_metadata": { "before": null, "after": null } }),
            )
        },
    ]
}

/// The paths of all values within the sample that are not the customer's own, objects of the
/// customer's included.
fn places(sample: &Sample) -> Vec<String> {
    let mut places = vec![String::new()];
    let mut next = 0;
    while let Some(path) = places.get(next).cloned() {
        next += 1;
        if sample.open.contains(&path.as_str()) {
            continue;
        }
        match sample.answer.pointer(&path).unwrap() {
            Value::Object(object) => {
                places.extend(object.keys().map(|key| format!("{path}/{key}")))
            }
            Value::Array(items) => {
                places.extend((0..items.len()).map(|index| format!("{path}/{index}")))
            }
            _ => {}
        }
    }
    places
}

#[test]
fn the_schemas_accept_what_they_should_and_refuse_every_single_fault() {
    let mut refused = 0;
    let mut tried = BTreeSet::new();
    for sample in samples() {
        let Sample { schema, answer, optional, nullable, open, extensible } = &sample;
        check(schema, answer, "a sample");
        tried.insert(*schema);
        let mut expect = |accepted: bool, answer: &Value, what: &str| {
            let faults = faults(schema, answer);
            assert_eq!(faults.is_empty(), accepted, "{schema}, {what}: {faults:?}\n {answer:#}");
            refused += usize::from(!accepted);
        };
        let changed = |path: &str, value: Value| {
            let mut changed = answer.clone();
            *changed.pointer_mut(path).unwrap() = value;
            changed
        };
        for path in places(&sample) {
            let (parent, key) = path.rsplit_once('/').unwrap_or_default();
            let name = path.as_str();
            let value = answer.pointer(name).unwrap();
            expect(false, &changed(name, json!(7.505)), &format!("a number at {name}"));
            expect(
                nullable.contains(&name) || value.is_null(),
                &changed(name, Value::Null),
                &format!("null at {name}"),
            );
            if answer.pointer(parent).unwrap().is_object() && !name.is_empty() {
                let mut dropped = answer.clone();
                dropped.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(key);
                expect(optional.contains(&name), &dropped, &format!("no {name}"));
            }
            if value.is_object() && !open.contains(&name) {
                let mut more = answer.clone();
                more.pointer_mut(name).unwrap()["unheard_of"] = json!("x");
                expect(extensible.contains(&name), &more, &format!("a key more in `{name}`"));
            }
            if CLOSED.contains(&key) || ["/code", "/sha256"].contains(&name) {
                for word in ["no such word", "", "ACTIVE", "suspended"] {
                    expect(false, &changed(name, json!(word)), &format!("`{word}` at {name}"));
                }
            }
        }
        for wrong in [json!("text"), Value::Null, json!([]), json!({})] {
            expect(false, &wrong, "no answer at all");
        }
    }
    // These are made of others.
    tried.extend([
        "directory_user.json",
        "list.json#/$defs/events",
        "list.json#/$defs/directory_groups_with_members",
        "rollcall.json#/$defs/source",
    ]);
    assert!(SCHEMAS.iter().all(|name| tried.contains(name)), "{tried:?}");
    assert!(refused > 1000, "{refused}");
}

#[test]
fn the_schemas_know_the_words_times_and_cursors_of_the_api() {
    let directory = |key: &str, value: &str| {
        faults("directory.json", &with(directory_sample(), key, json!(value))).is_empty()
    };
    let types = "azure scim v2.0,bamboohr,breathe hr,cezanne hr,cyberark scim v2.0,fourth hr,\
                 generic scim v2.0,gsuite directory,hibob,sailpoint scim v2.0,\
                 jump cloud scim v2.0,okta scim v2.0,onelogin scim v2.0,people hr,personio,\
                 pingfederate scim v2.0,rippling scim v2.0,s3,sftp,sftp workday,workday";
    assert!(types.split(',').all(|kind| directory("type", kind)));
    assert_eq!(types.split(',').count(), 21);
    for state in ["linked", "unlinked", "validating", "invalid_credentials", "deleting"] {
        assert!(directory("state", state));
    }
    assert!(
        !directory("state", "active") && !directory("state", "inactive"),
        "the words of events"
    );
    let event = |name: &str, key: &str, value: &str| {
        let sample = event_sample(name, with(event_directory_sample(), key, json!(value)));
        faults("event.json", &sample).is_empty()
    };
    assert!(!directory("type", "gusto") && !directory("type", "rippling"), "only events say these");
    assert!(
        event("dsync.activated", "type", "gusto") && event("dsync.activated", "type", "rippling")
    );
    assert!(types.split(',').all(|kind| event("dsync.activated", "type", kind)));
    for state in ["active", "validating", "invalid_credentials", "inactive", "deleting"] {
        assert!(event("dsync.activated", "state", state));
        assert_eq!(event("dsync.deactivated", "state", state), state == "inactive");
    }
    assert!(!event("dsync.activated", "state", "linked"), "a word of the read API");
    assert!(
        !event("dsync.deleted", "name", "x"),
        "a deletion has neither external key nor domains"
    );
    for name in ["dsync.user.promoted", "dsync.nothing", "rollcall.directory.deleted"] {
        assert!(!event(name, "name", "x"), "{name} is no event of the list");
    }
    assert!(
        !faults("directory_user.json", &with(user_sample(), "groups", json!([]))).is_empty(),
        "members stand without their groups"
    );
    let bad = [
        "2026-01-15T12:00:00Z",
        "2026-01-15T12:00:00.000",
        "2026-01-15 12:00:00.000Z",
        "2026-01-15T12:00:00.000+00:00",
        "2026-01-15T12:00:00.000000Z",
        "2026-13-15T12:00:00.000Z",
        "2026-01-15T24:00:00.000Z",
        "2026-01-15T12:00:00.000Z\n",
    ];
    for time in bad {
        assert!(!directory("created_at", time), "{time}");
    }
    let cursor = |value: Value| {
        let mut list = list_of(directory_sample());
        list["list_metadata"]["after"] = value;
        faults("list.json#/$defs/directories", &list).is_empty()
    };
    assert!(
        cursor(Value::Null)
            && cursor(json!("directory_1"))
            && !cursor(json!(""))
            && !cursor(json!(1))
    );
}
