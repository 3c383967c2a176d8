//! `/openapi.json` describes every call, and each as the server answers it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::kit::histories::percent_encoded;
use crate::kit::receiver::{config_with, endpoint, sending_command};
use crate::kit::server::Server;
use crate::laws::stories::{Step, Story, stories};

/// Every call, and the parameters with which it answers 200.
pub const CALLS: [(&str, &str); 42] = [
    ("/directories", ""),
    ("/directories/{id}", "directory_01K424MH00XFE6WM17PR9ASN2Y"),
    ("/directory_groups", "directory=directory_01K424MH00XFE6WM17PR9ASN2Y"),
    ("/directory_groups/{id}", "directory_group_01K424MK3GKPZXHV3GKC42YPT6"),
    ("/directory_users", "directory=directory_01K424MH00XFE6WM17PR9ASN2Y"),
    ("/directory_users/{id}", "directory_user_01K424MHZW4ARSCHD1SQVX7DNM"),
    ("/events", "events=dsync.user.created"),
    ("/healthz", ""),
    ("/metrics", ""),
    ("/openapi.json", ""),
    ("/readyz", ""),
    ("/rollcall/v1/changes", ""),
    ("/rollcall/v1/deprovisionings", ""),
    ("/rollcall/v1/diff", "from=latest"),
    ("/rollcall/v1/directories/{id}/tokens", "directory_01K424MH00XFE6WM17PR9ASN2Y"),
    ("/rollcall/v1/endpoints", ""),
    ("/rollcall/v1/groups/{id}/history", "directory_group_01K424MK3GKPZXHV3GKC42YPT6"),
    ("/rollcall/v1/groups/{id}/members", "directory_group_01K424MK3GKPZXHV3GKC42YPT6"),
    ("/rollcall/v1/links", ""),
    ("/rollcall/v1/log/checkpoint", ""),
    ("/rollcall/v1/log/entries/{seq}", "7"),
    ("/rollcall/v1/log/key", ""),
    ("/rollcall/v1/log/proof/consistency", "from=7"),
    ("/rollcall/v1/log/proof/inclusion", "seq=7"),
    ("/rollcall/v1/names", "kind=group&text=Platform"),
    ("/rollcall/v1/policy", ""),
    ("/rollcall/v1/projections", ""),
    ("/rollcall/v1/quarantine", ""),
    ("/rollcall/v1/reconciliations", ""),
    ("/rollcall/v1/role_assignments", ""),
    ("/rollcall/v1/role_mapping", ""),
    ("/rollcall/v1/role_mapping/versions", ""),
    ("/rollcall/v1/scim_requests", ""),
    ("/rollcall/v1/sink", ""),
    ("/rollcall/v1/sources", ""),
    ("/rollcall/v1/stats", ""),
    ("/rollcall/v1/users", "email=isolheim%40halden-robotics.example"),
    ("/rollcall/v1/users/{id}/access", "directory_user_01K424MHZW4ARSCHD1SQVX7DNM"),
    ("/rollcall/v1/users/{id}/groups", "directory_user_01K424MHZW4ARSCHD1SQVX7DNM"),
    ("/rollcall/v1/users/{id}/history", "directory_user_01K424MHZW4ARSCHD1SQVX7DNM"),
    ("/rollcall/v1/users/{id}/last_heard", "directory_user_01K424MHZW4ARSCHD1SQVX7DNM"),
    ("/rollcall/v1/users/{id}/roles", "directory_user_01K424MHZW4ARSCHD1SQVX7DNM"),
];

/// Every call that changes something, and its answer to its example.
const ACTS: [(&str, &str, &str); 21] = [
    ("/directories/{id}", "delete", "202"),
    ("/rollcall/v1/backup", "post", "200"),
    ("/rollcall/v1/directories", "post", "201"),
    // The directory of the example is not one of an identity provider.
    ("/rollcall/v1/directories/{id}/tokens", "post", "404"),
    ("/rollcall/v1/directories/{id}/tokens/{token_id}", "delete", "404"),
    ("/rollcall/v1/endpoints/{id}/replay", "post", "200"),
    ("/rollcall/v1/endpoints/{id}/retry", "post", "200"),
    ("/rollcall/v1/endpoints/{id}/skip", "post", "200"),
    ("/rollcall/v1/endpoints/{id}/test", "post", "200"),
    ("/rollcall/v1/import", "post", "200"),
    ("/rollcall/v1/links", "put", "200"),
    ("/rollcall/v1/links", "delete", "200"),
    ("/rollcall/v1/log/key", "post", "200"),
    ("/rollcall/v1/policy", "put", "200"),
    ("/rollcall/v1/projections/rebuild", "post", "202"),
    ("/rollcall/v1/pull", "post", "202"),
    ("/rollcall/v1/reconciliations", "post", "202"),
    ("/rollcall/v1/role_mapping", "put", "200"),
    ("/rollcall/v1/role_mapping/preview", "post", "200"),
    ("/rollcall/v1/sink/rebuild", "post", "202"),
    ("/webhooks/workos", "post", "200"),
];

fn with_story() -> (tempfile::TempDir, Server, Value) {
    let folder = tempfile::tempdir().unwrap();
    // No source, no receiver and no database is there; what is asked of them is taken nevertheless.
    let config = config_with(folder.path(), &[endpoint("app", "127.0.0.1:9", "")]);
    let arguments = ["--pull", "http://127.0.0.1:9", "--config", config.to_str().unwrap()];
    let data = folder.path().join("data");
    let mut command = sending_command();
    command.env("ROLLCALL_POSTGRES_URL", "postgresql://rollcall@127.0.0.1:9/app");
    let server = Server::start_command(command, &data, &arguments);
    for event in &stories()[0].events {
        server.deliver(event);
    }
    let answer = server.get_with("/openapi.json", &[]);
    assert_eq!(answer.status, 200);
    let document = answer.json();
    (folder, server, document)
}

/// The paths of the document but those of SCIM, whose errors have other shapes: `scim::routes` has
/// their tests.
fn own_paths(document: &Value) -> impl Iterator<Item = (&String, &Value)> {
    let paths = document["paths"].as_object().unwrap().iter();
    paths.filter(|(path, _)| !path.starts_with("/scim/"))
}

/// The path of a call that answers 200, and the character before a further parameter.
pub fn path_of(path: &str, needs: &str) -> (String, char) {
    match path.replace("{id}", needs).replace("{seq}", needs).replace("{token_id}", "x") {
        item if item != path => (item, '?'),
        list if needs.is_empty() => (list, '?'),
        list => (format!("{list}?{needs}"), '&'),
    }
}

/// The question without one of its parameters.
fn without(asked: &str, name: &str) -> String {
    let Some((path, parameters)) = asked.split_once('?') else { return asked.to_owned() };
    let is_it = |parameter: &&str| parameter.split('=').next() == Some(name);
    let others: Vec<&str> = parameters.split('&').filter(|part| !is_it(part)).collect();
    format!("{path}?{}", others.join("&"))
}

fn text_of(example: &Value) -> String {
    match example {
        Value::String(text) => text.replace('+', "%2B"),
        Value::Array(texts) => texts.iter().map(text_of).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

#[test]
fn the_calls_described_are_those_that_exist() {
    let (_folder, server, document) = with_story();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1."));
    let calls = |path: &str| -> Vec<String> {
        let names = document["paths"][path].as_object().unwrap().keys();
        names.filter(|name| *name != "parameters").map(|name| format!("{name} {path}")).collect()
    };
    let described: BTreeSet<String> =
        own_paths(&document).flat_map(|(path, _)| calls(path)).collect();
    // These calls to read are there only once something was begun or sent.
    let reads = CALLS.iter().map(|(path, _)| format!("get {path}")).chain([
        "get /rollcall/v1/projections/rebuild".to_owned(),
        "get /rollcall/v1/reconciliations/{id}".to_owned(),
        "get /rollcall/v1/scim_requests/{id}".to_owned(),
    ]);
    assert_eq!(
        described,
        reads.chain(ACTS.iter().map(|(path, method, _)| format!("{method} {path}"))).collect()
    );
    for (path, needs) in CALLS {
        let (asked, _) = path_of(path, needs);
        let answer = server.get(&asked);
        assert_eq!(answer.status, 200, "{asked}");
        let call = &document["paths"][path]["get"];
        let keyed = call["security"].is_null();
        assert_eq!(server.get_with(&asked, &[]).status == 401, keyed, "{asked}");
        let described = call["responses"]["200"]["headers"].as_object().unwrap();
        for header in ["X-Request-ID", "Rollcall-As-Of", "Rollcall-Known-At"] {
            assert_eq!(
                described.contains_key(header),
                answer.header(header).is_some(),
                "{header} of {asked}"
            );
        }
        // No other method, and no path below.
        let refused = server.send("patch", &format!("{}{asked}", server.url), "nobody", "");
        let allowed = refused.header("Allow").map(str::to_owned);
        let methods: BTreeSet<String> = calls(path)
            .iter()
            .map(|call| call.split(' ').next().unwrap().to_uppercase())
            .chain(["HEAD".to_owned()])
            .collect();
        let allowed: BTreeSet<String> = allowed.unwrap().split(", ").map(str::to_owned).collect();
        assert_eq!(
            (refused.status, refused.code().as_str(), allowed),
            (405, "method_not_allowed", methods),
            "{asked}"
        );
        let below = format!("{}/no/such", asked.split('?').next().unwrap());
        assert_eq!(
            (server.get(&below).status, server.get(&below).code()),
            (404, "not_found".to_owned()),
            "{below}"
        );
    }
}

#[test]
fn the_parameters_described_are_those_that_are_taken() {
    let (_folder, server, document) = with_story();
    // The example of a role is one of the example of a mapping.
    let set = &document["paths"]["/rollcall/v1/role_mapping"]["put"]["requestBody"];
    let mapping = &set["content"]["application/json"]["example"];
    assert_eq!(server.put("/rollcall/v1/role_mapping", mapping).status, 200);
    for (path, needs) in CALLS {
        let (asked, and) = path_of(path, needs);
        let call = &document["paths"][path]["get"];
        for parameter in call["parameters"].as_array().unwrap() {
            let (name, example) =
                (parameter["name"].as_str().unwrap(), text_of(&parameter["example"]));
            let already = ['?', '&'].iter().any(|and| asked.contains(&format!("{and}{name}=")));
            let question =
                if already { asked.clone() } else { format!("{asked}{and}{name}={example}") };
            let answer = server.get(&question);
            assert_eq!(answer.status, 200, "{question}: {}", String::from_utf8_lossy(&answer.body));
            assert!(!parameter["description"].as_str().unwrap().is_empty());
            let schema = &parameter["schema"];
            let wrong = wrong_values(schema);
            for value in wrong {
                let question = match already {
                    true => format!("{}?{name}={value}", asked.split('?').next().unwrap()),
                    false => format!("{asked}{and}{name}={value}"),
                };
                let answer = server.get(&question);
                let blamed = |error: &Value| error["field"] == name;
                assert!(
                    answer.status == 422
                        && answer.json()["errors"].as_array().unwrap().iter().any(blamed),
                    "{question}: {}",
                    String::from_utf8_lossy(&answer.body)
                );
            }
            for word in schema["enum"].as_array().into_iter().flatten() {
                let others = without(&asked, name);
                let question = format!("{others}{and}{name}={}", text_of(word));
                assert_eq!(server.get(&question).status, 200, "{question}");
            }
        }
        if call["security"].is_null() {
            let taken: Vec<&Value> = call["parameters"]
                .as_array()
                .unwrap()
                .iter()
                .map(|parameter| &parameter["name"])
                .collect();
            for name in ["directory", "user", "email", "role", "as_of", "limit", "metadata"] {
                if !taken.contains(&&json!(name)) {
                    let answer = server.get(&format!("{asked}{and}{name}=1"));
                    assert_eq!(answer.status, 422, "{asked} with {name}");
                    let unknown = if path.starts_with("/rollcall/") {
                        json!({"field": name, "code": "unknown_parameter",
                            "message": "unknown parameter"})
                    } else {
                        json!({"field": name, "code": "unknown parameter"})
                    };
                    assert!(answer.json()["errors"].as_array().unwrap().contains(&unknown));
                }
            }
        }
    }
}

/// Values that a parameter with such a schema does not take.
fn wrong_values(schema: &Value) -> Vec<String> {
    if schema["pattern"].is_string() || schema["enum"].is_array() || schema["type"].is_null() {
        return vec!["no+such+word".to_owned(), "x".repeat(1025)];
    }
    match schema["type"].as_str().unwrap() {
        "integer" => vec![
            (schema["minimum"].as_i64().unwrap() - 1).to_string(),
            (schema["maximum"].as_u64().unwrap() + 1).to_string(),
            "x".to_owned(),
        ],
        "string" => vec![String::new(), "x".repeat(1025)],
        _ => vec![],
    }
}

/// Adds the examples of the parameters that a call requires.
fn with_required(path: &str, call: &Value) -> String {
    let parameters = call["parameters"].as_array().into_iter().flatten();
    let is_required =
        |parameter: &&Value| parameter["in"] == "query" && parameter["required"] == true;
    let given: Vec<String> = parameters
        .filter(is_required)
        .map(|one| format!("{}={}", one["name"].as_str().unwrap(), text_of(&one["example"])))
        .collect();
    if given.is_empty() { path.to_owned() } else { format!("{path}?{}", given.join("&")) }
}

#[test]
fn what_acts_answers_to_its_own_example() {
    let (_folder, server, document) = with_story();
    for (path, method, status) in ACTS {
        let call = &document["paths"][path][method];
        if path == "/webhooks/workos" {
            let body = call["requestBody"]["content"]["application/json"]["example"].to_string();
            assert_eq!(server.post(body.as_bytes()).status.to_string(), status);
            continue;
        }
        let id = match path.contains("endpoints") {
            true => "app",
            false => "directory_01K424MH00XFE6WM17PR9ASN2Y",
        };
        let (named, _) = path_of(path, id);
        let named = if path.contains('{') { named } else { path.to_owned() };
        let asked = format!("{}{}", server.url, with_required(&named, call));
        let lines = &call["requestBody"]["content"]["application/x-ndjson"]["example"];
        let json = call["requestBody"]["content"]["application/json"]["example"].to_string();
        let body = lines.as_str().map_or(json, str::to_owned);
        let taken = call["requestBody"].is_object();
        let send =
            |key: &str, body: &str| server.send(method, &asked, key, body).status.to_string();
        assert_eq!(send("nobody", &body), "401", "{method} {path}");
        if taken {
            // One that may be left out is not wrong without bytes.
            let may_be_empty = call["requestBody"]["required"] == false;
            for wrong in ["", "[]", r#"{"no such field":1}"#].into_iter().skip(may_be_empty.into())
            {
                assert_eq!(
                    send(crate::kit::server::API_KEY, wrong),
                    "422",
                    "{method} {path} {wrong}"
                );
            }
        }
        let before = server.get(path);
        assert_eq!(send(crate::kit::server::API_KEY, &body), status, "{method} {path}");
        if path == "/rollcall/v1/projections/rebuild" {
            assert_eq!(
                (before.status, before.code().as_str(), server.get(path).status),
                (404, "not_found", 200)
            );
        }
        assert!(
            call["responses"][status].is_object() && call["security"].is_null(),
            "{method} {path}"
        );
    }
}

#[test]
fn the_errors_described_have_their_status_and_their_shape() {
    let (_folder, server, document) = with_story();
    let statuses = BTreeMap::from([
        ("invalid_events_request", "400"),
        ("signature_missing", "401"),
        ("signature_malformed", "401"),
        ("signature_mismatch", "401"),
        ("timestamp_outside_tolerance", "401"),
        ("unauthorized", "401"),
        ("forbidden", "403"),
        ("entity_not_found", "404"),
        ("not_found", "404"),
        ("method_not_allowed", "405"),
        ("body_timeout", "408"),
        ("no_source", "409"),
        ("conflict", "409"),
        ("no_sink", "409"),
        ("log_empty", "409"),
        ("position_mismatch", "409"),
        ("reconciliation_running", "409"),
        ("record_lost", "410"),
        ("version_conflict", "412"),
        ("body_too_large", "413"),
        ("unsupported_encoding", "415"),
        ("validation_failed", "422"),
        ("as_of_in_future", "422"),
        ("known_at_out_of_range", "422"),
        ("cursor_invalid", "422"),
        ("mapping_invalid", "422"),
        ("too_much_work", "422"),
        ("too_many_requests", "429"),
        ("rate_limited", "429"),
        ("queue_full", "503"),
        ("stopping", "503"),
        ("access_log_unavailable", "503"),
        ("log_unavailable", "503"),
        ("not_ready", "503"),
        ("internal", "500"),
    ]);
    let mut described: BTreeMap<&str, &str> = BTreeMap::new();
    for (_, path) in own_paths(&document) {
        let calls = path
            .as_object()
            .unwrap()
            .iter()
            .filter(|(name, _)| *name != "parameters")
            .map(|(_, call)| call);
        let responses = calls.flat_map(|call| call["responses"].as_object().unwrap());
        for (status, response) in responses.filter(|(status, _)| !status.starts_with('2')) {
            let content = &response["content"]["application/json"];
            assert_eq!(content["schema"]["allOf"][0]["$ref"], "#/components/schemas/Problem");
            let codes: Vec<&str> =
                content["examples"].as_object().unwrap().keys().map(String::as_str).collect();
            let mut named: Vec<&str> = content["schema"]["allOf"][1]["properties"]["code"]["enum"]
                .as_array()
                .unwrap()
                .iter()
                .map(|code| code.as_str().unwrap())
                .collect();
            named.sort_unstable();
            assert_eq!(named, codes, "the codes of a status are listed");
            for (code, example) in content["examples"].as_object().unwrap() {
                described.insert(code, status);
                assert_eq!(example["value"]["code"], json!(code));
            }
        }
    }
    assert_eq!(described, statuses);
    // Some that are easily had, as they are described.
    let example = |path: &str, status: &str, code: &str| {
        let response = &document["paths"][path]["get"]["responses"][status];
        response["content"]["application/json"]["examples"][code]["value"].clone()
    };
    let limit = |list: &str| format!("{list}?limit=0");
    for (path, asked, status, code) in [
        ("/events", "/events".to_owned(), "400", "invalid_events_request"),
        ("/directories", limit("/directories"), "422", "validation_failed"),
        (
            "/directories",
            "/directories?as_of=9999-01-01T00:00:00Z".to_owned(),
            "422",
            "as_of_in_future",
        ),
        ("/directories", "/directories?known_at=31".to_owned(), "422", "known_at_out_of_range"),
        ("/events", "/events?events=a&after=x".to_owned(), "422", "cursor_invalid"),
        ("/directories/{id}", "/directories/directory_1".to_owned(), "404", "entity_not_found"),
    ] {
        let answer = server.get(&asked);
        assert_eq!(
            (answer.status.to_string().as_str(), answer.json()),
            (status, example(path, status, code)),
            "{asked}"
        );
    }
    let unauthorized = server.get_with("/directories", &[]);
    assert_eq!(unauthorized.json(), example("/directories", "401", "unauthorized"));
}

#[test]
fn every_reference_leads_somewhere_and_every_schema_is_used() {
    let (_folder, _server, document) = with_story();
    let mut references = Vec::new();
    collect(&document, &mut references);
    let schemas = document["components"]["schemas"].as_object().unwrap();
    for reference in &references {
        assert!(document.pointer(reference.strip_prefix('#').unwrap()).is_some(), "{reference}");
    }
    for name in schemas.keys() {
        assert!(references.contains(&format!("#/components/schemas/{name}")), "{name}");
    }
}

/// Returns what checks the answers of a call; `None` for one that does not answer with JSON.
fn validator(document: &Value, path: &str) -> Option<jsonschema::Validator> {
    let response = &document["paths"][path]["get"]["responses"]["200"];
    let schema = &response["content"]["application/json"]["schema"];
    let whole = json!({ "components": document["components"], "allOf": [schema] });
    (!schema.is_null()).then(|| jsonschema::validator_for(&whole).unwrap())
}

fn faults_by(validator: &jsonschema::Validator, answer: &Value) -> Vec<String> {
    let faults = validator.iter_errors(answer);
    faults.map(|fault| format!("{fault} at {}", fault.instance_path())).collect()
}

/// Returns what in an answer of a call is not as the document describes it.
pub fn faults(document: &Value, path: &str, answer: &Value) -> Vec<String> {
    faults_by(&validator(document, path).unwrap(), answer)
}

#[test]
fn the_answers_have_the_shapes_described() {
    for story in stories() {
        let folder = tempfile::tempdir().unwrap();
        let server = Server::start(folder.path());
        for step in Story::steps(story.events.iter().map(String::as_str), story.deeds()) {
            match step {
                Step::Event(event) => drop(server.deliver(event)),
                Step::Act(act) => assert_eq!(
                    server.act(&act.method, &act.path, act.body.as_ref()).status,
                    act.status
                ),
            }
        }
        let document = server.get_with("/openapi.json", &[]).json();
        let of_kind = |kind: &str| -> Vec<String> {
            let directories = server.get("/directories?limit=100").ids();
            let lists = directories.iter().map(|directory| {
                format!("/directory_{kind}?limit=100&directory={}", percent_encoded(directory))
            });
            lists.flat_map(|list| server.get(&list).ids()).collect()
        };
        let (users, groups) = (of_kind("users"), of_kind("groups"));
        for (path, needs) in CALLS {
            let Some(validator) = validator(&document, path) else { continue };
            let ids = match path {
                _ if path.contains("users/{id}") => users.iter().collect(),
                _ if path.contains("groups/{id}") => groups.iter().collect(),
                _ => Vec::new(),
            };
            let asked: Vec<String> = match path.contains("{id}") {
                true => {
                    ids.into_iter().map(|id| path.replace("{id}", &percent_encoded(id))).collect()
                }
                false => vec![path_of(path, needs).0],
            };
            for asked in asked {
                let answer = server.get(&asked);
                assert_eq!(answer.status, 200, "{}: {asked}", story.name);
                let faults = faults_by(&validator, &answer.json());
                assert!(faults.is_empty(), "{}: {asked}: {faults:?}", story.name);
            }
        }
    }
}

fn collect(value: &Value, references: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            if let Some(Value::String(reference)) = fields.get("$ref") {
                references.push(reference.clone());
            }
            fields.values().for_each(|value| collect(value, references));
        }
        Value::Array(elements) => elements.iter().for_each(|value| collect(value, references)),
        _ => {}
    }
}

/// The parameters of a call by name.
fn parameters(document: &Value, path: &str, method: &str) -> BTreeMap<String, Value> {
    let parameters = document["paths"][path][method]["parameters"].as_array().unwrap();
    parameters
        .iter()
        .map(|parameter| (parameter["name"].as_str().unwrap().to_owned(), parameter.clone()))
        .collect()
}

#[test]
fn what_cannot_be_combined_is_described_and_refused() {
    let (_folder, server, document) = with_story();
    let mut pairs = BTreeSet::new();
    for (path, needs) in CALLS {
        let (asked, and) = path_of(path, needs);
        let parameters = parameters(&document, path, "get");
        let value = |name: &str| text_of(&parameters[name]["example"]);
        for (name, parameter) in &parameters {
            for other in parameter["x-not-with"].as_array().into_iter().flatten() {
                let other = other.as_str().unwrap();
                pairs.insert(format!("{name} {other}"));
                let question =
                    format!("{asked}{and}{name}={}&{other}={}", value(name), value(other));
                let answer = server.get(&question);
                let blamed = |error: &Value| {
                    error["field"] == *name
                        && (error["code"] == "exclusive" || !path.starts_with("/rollcall/"))
                };
                assert!(
                    answer.status == 422
                        && answer.json()["errors"].as_array().unwrap().iter().any(blamed),
                    "{question}: {}",
                    answer.json()
                );
            }
        }
        for (name, parameter) in &parameters {
            assert_eq!(parameter["deprecated"] == true, name == "organization", "{path} {name}");
        }
        // Without any of those of which one is needed the call is refused.
        let needed: Vec<&str> = document["paths"][path]["get"]["x-needs-one-of"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|name| name.as_str().unwrap())
            .collect();
        let bare = server.get(asked.split('?').next().unwrap());
        assert_eq!(needed.is_empty(), !["/directory_users", "/directory_groups"].contains(&path));
        for name in &needed {
            assert_eq!(server.get(&format!("{path}?{name}=x")).status, 200, "{path} {name}");
            assert_eq!(bare.status, 422, "{path}");
        }
    }
    let expected = [
        "before after",
        "organization organization_id",
        "range_end after",
        "range_end before",
        "range_start after",
        "range_start before",
    ];
    assert_eq!(pairs, expected.map(str::to_owned).into());
}

#[test]
fn the_headers_described_come_with_values_of_their_form() {
    let (_folder, server, document) = with_story();
    for (path, needs) in CALLS {
        let (asked, _) = path_of(path, needs);
        let responses = &document["paths"][path]["get"]["responses"];
        let base = asked.split('?').next().unwrap();
        let method_refused = server.send("patch", &format!("{}{base}", server.url), "nobody", "");
        let unauthorized = server.get_with(&asked, &[]);
        for answer in [server.get(&asked), method_refused, unauthorized] {
            let described = &responses[answer.status.to_string()];
            let headers = described["headers"].as_object().unwrap();
            assert!(headers.contains_key("X-Request-ID"), "{asked} {}", answer.status);
            for (name, header) in headers {
                assert_eq!(header["required"], true, "{asked} {name}");
                let value = answer.header(name).unwrap_or_else(|| panic!("{asked}: no {name}"));
                let validator = jsonschema::validator_for(&header["schema"]).unwrap();
                assert!(validator.is_valid(&json!(value)), "{asked} {name}: {value}");
            }
            // The headers that say something about the answer, and not about its transport.
            let transport = ["content-length", "content-type", "date"];
            for (name, _) in answer.headers.iter().filter(|(name, _)| !transport.contains(&&**name))
            {
                let is_name = |described: &String| described.eq_ignore_ascii_case(name);
                assert!(headers.keys().any(is_name), "{asked} {}: {name}", answer.status);
            }
        }
    }
    let put = parameters(&document, "/rollcall/v1/role_mapping", "put");
    assert_eq!((&put["If-Match"]["in"], put.len()), (&json!("header"), 1));
}

#[test]
fn a_setting_is_refused_if_its_schema_refuses_it() {
    let (_folder, server, document) = with_story();
    let schema = json!({
        "components": document["components"],
        "$ref": "#/components/schemas/RoleMappingSetting",
    });
    let validator = jsonschema::validator_for(&schema).unwrap();
    let rule = |rule: Value| json!({ "mapping": { "rules": [rule] } });
    let group = json!({ "name": "Platform" });
    let table = [
        (json!({ "mapping": {} }), true),
        (json!({ "mapping": {}, "note": null, "effective_from": null }), true),
        (json!({ "mapping": {}, "effective_from": "2026-01-01 00:00:00" }), true),
        (json!({ "mapping": {}, "effective_from": "2026-02-30T00:00:00Z" }), false),
        (json!({ "mapping": {}, "notes": "x" }), false),
        (json!({}), false),
        (json!({ "mapping": { "modes": "all" } }), false),
        (json!({ "mapping": { "mode": null } }), false),
        (json!({ "mapping": { "default_roles": ["a", "a"] } }), false),
        (json!({ "mapping": { "default_roles": ["a\u{0}"] } }), false),
        (json!({ "mapping": { "priority": ["a".repeat(256)] } }), false),
        (rule(json!({ "group": group, "roles": ["r"] })), true),
        (rule(json!({ "group": group, "roles": ["r"], "directory_id": "d" })), true),
        (rule(json!({ "group": group, "roles": [] })), false),
        (rule(json!({ "group": group, "roles": ["r"], "values": {} })), false),
        (rule(json!({ "group": { "id": "a", "name": "b" }, "roles": ["r"] })), false),
        (rule(json!({ "group": { "names": "b" }, "roles": ["r"] })), false),
        (rule(json!({ "group": {}, "roles": ["r"] })), false),
        (rule(json!({ "group": { "name": "" }, "roles": ["r"] })), false),
        (rule(json!({ "attribute": "a.\"b.c\"", "values": { "x": ["r"] } })), true),
        (rule(json!({ "attribute": "a..b", "values": { "x": ["r"] } })), false),
        (rule(json!({ "attribute": "a.\"b", "values": { "x": ["r"] } })), false),
        (rule(json!({ "attribute": "a", "values": {} })), false),
        (rule(json!({ "attribute": "a", "values": { "x": [] } })), false),
        (rule(json!({ "attribute": "a", "values": { "x": ["r"] }, "group": group })), false),
        (rule(json!({ "roles": ["r"] })), false),
        (rule(json!({ "group": group, "roles": ["r"], "organization_id": null })), false),
    ];
    for (setting, taken) in table {
        assert_eq!(validator.is_valid(&setting), taken, "described: {setting}");
        let answer = server.put("/rollcall/v1/role_mapping", &setting);
        assert_eq!(answer.status, if taken { 200 } else { 422 }, "{setting}");
    }
}
