//! Paths, tokens, methods and media types.

use std::process::Command;
use std::sync::Arc;

use actix_web::App;
use actix_web::http::Method;
use actix_web::test::{TestRequest, call_service, init_service, read_body};
use rollcall::http::app;
use serde_json::{Value, json};

use crate::kit::road::settings;
use crate::kit::scim::{Directory, Request, user};
use crate::kit::server::{API_KEY, Answer, Server};

const ERROR: &str = "urn:ietf:params:scim:api:messages:2.0:Error";

/// Expects an error in the shape of SCIM.
fn expect_error(answer: &Answer, status: u16, what: &str) -> Value {
    assert_eq!(answer.status, status, "{what}: {}", String::from_utf8_lossy(&answer.body));
    let body = answer.json();
    assert_eq!(body["schemas"], json!([ERROR]), "{what}");
    assert_eq!(body["status"], status.to_string(), "{what}");
    assert!(body["detail"].is_string(), "{what}");
    assert_eq!(answer.header("content-type"), Some("application/scim+json"), "{what}");
    body
}

fn get(directory: &Directory, path: &str, headers: &[(&str, &str)]) -> Answer {
    directory.call_with("GET", path, headers, None)
}

#[test]
fn only_a_live_token_of_the_directory_opens_it_and_every_refusal_is_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let (own, other) = (
        Directory::create(&server, "org_a", "delete"),
        Directory::create(&server, "org_b", "delete"),
    );
    let bearer = |token: &str| format!("Bearer {token}");
    for good in
        [bearer(&own.token), format!("bearer   {}", own.token), format!("BEARER {}", own.token)]
    {
        assert_eq!(get(&own, "/Users", &[("Authorization", &good)]).status, 200, "{good}");
    }
    let basic = format!("Basic {}", own.token);
    let mut bodies = Vec::new();
    let wrong = [
        bearer("scim_unknown"),
        bearer(&other.token),
        bearer(API_KEY),
        own.token.clone(),
        basic,
        "Bearer".to_owned(),
        "".to_owned(),
    ];
    for wrong in wrong {
        for path in ["/Users", "/Nothing", "/Users/1", "/Bulk"] {
            let answer = get(&own, path, &[("Authorization", &wrong)]);
            expect_error(&answer, 401, &wrong);
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"), "{wrong}");
            bodies.push(answer.body);
        }
    }
    let elsewhere = ["/scim/v2/directory_none/Users", "/scim/v2", "/scim", "/scim/v3/x/Users"];
    for path in elsewhere {
        let answer = server.get_with(path, &[("Authorization", &bearer(&own.token))]);
        expect_error(&answer, 401, path);
        bodies.push(answer.body);
    }
    assert!(bodies.iter().all(|body| *body == bodies[0]), "one body for all");
    for path in ["/directories", "/rollcall/v1/stats", "/metrics"] {
        let answer = server.get_with(path, &[("Authorization", &bearer(&own.token))]);
        assert_eq!(answer.status, 401, "a token of SCIM opens nothing else: {path}");
    }
    let deleted = server.delete(&format!("/directories/{}", own.id));
    assert_eq!(deleted.status, 202);
    let answer = get(&own, "/Users", &[]);
    expect_error(&answer, 401, "a deleted directory");
    assert_eq!(answer.body, bodies[0]);
    assert_eq!(get(&other, "/Users", &[]).status, 200, "the other one stays");
}

#[test]
fn paths_match_in_any_case_and_what_is_not_there_is_refused_as_scim_does() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let directory = Directory::create(&server, "org_a", "delete");
    let token = format!("Bearer {}", directory.token);
    let raw = |path: &str| server.get_with(path, &[("Authorization", &token)]);
    for path in [
        format!("/scim/v2/{}/Users/", directory.id),
        format!("//scim//v2/{}//users", directory.id),
        format!("/SCIM/V2/{}/USERS?aadOptscim062020", directory.id),
    ] {
        assert_eq!(raw(&path).json()["totalResults"], 0, "{path}");
    }
    let unknown = ["/Devices", "", "/Users/a/b", "/Groups/00000000-0000-4000-8000-000000000000"];
    // Percent-encoding that is none, or of no text, names nothing either.
    for path in unknown.into_iter().chain(["/Users/%zz", "/Users/%FF", "/Groups/a%2Fb"]) {
        expect_error(&get(&directory, path, &[]), 404, path);
    }
    for path in ["/Bulk", "/Me", "/me"] {
        for method in ["GET", "POST", "DELETE"] {
            expect_error(&directory.call(method, path, None), 501, path);
        }
    }
    for (method, path, allowed) in [
        ("PUT", "/Users", "GET, HEAD, POST"),
        ("PATCH", "/Groups", "GET, HEAD, POST"),
        ("DELETE", "/Users", "GET, HEAD, POST"),
        ("POST", "/Users/1", "GET, HEAD, PUT, PATCH, DELETE"),
        ("POST", "/ServiceProviderConfig", "GET, HEAD"),
        ("DELETE", "/Schemas", "GET, HEAD"),
        ("PUT", "/ResourceTypes/User", "GET, HEAD"),
        ("GET", "/Users/.search", "POST"),
        ("GET", "/.search", "POST"),
    ] {
        let answer = directory.call(method, path, None);
        expect_error(&answer, 405, path);
        assert_eq!(answer.header("allow"), Some(allowed), "{method} {path}");
    }
    // No webhook may be sent there.
    let mut command = Command::new(crate::kit::server::binary());
    command.args(["config", "check", "--webhook-path", "/scim/v2"]);
    let said = command.output().unwrap();
    let text = [said.stdout, said.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    assert!(text.contains("paths below `/scim` are the server's own"), "{text}");
}

#[test]
fn bodies_are_taken_as_json_of_either_name_and_answered_as_scim() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let directory = Directory::create(&server, "org_a", "delete");
    let create = |name: &str, headers: &[(&str, &str)]| {
        let headers = headers.to_vec();
        let body = Some(user(name).to_string());
        directory.send(&Request { method: "POST", path: "/Users", headers, body })
    };
    for (at, content_type) in [
        "application/scim+json",
        "application/scim+json; charset=utf-8",
        "application/json",
        "Application/JSON;charset=UTF-8",
    ]
    .iter()
    .enumerate()
    {
        let answer = create(&format!("u{at}"), &[("Content-Type", content_type)]);
        assert_eq!(answer.status, 201, "{content_type}");
        assert_eq!(answer.header("content-type"), Some("application/scim+json"));
    }
    let plain =
        create("plain", &[("Content-Type", "application/json"), ("Accept", "application/json")]);
    assert_eq!((plain.status, plain.header("content-type")), (201, Some("application/json")));
    expect_error(&create("x", &[("Content-Type", "text/xml")]), 415, "text/xml");
    let packed =
        create("x", &[("Content-Type", "application/scim+json"), ("Content-Encoding", "gzip")]);
    expect_error(&packed, 415, "gzip");
    for body in ["", "[]", "\"a\"", "{", "null"] {
        let headers = vec![("Content-Type", "application/scim+json")];
        let body = Some(body.to_owned());
        let answer = directory.send(&Request { method: "POST", path: "/Users", headers, body });
        let error = expect_error(&answer, 400, "no JSON object");
        assert_eq!(error["scimType"], "invalidSyntax");
    }
    let large = format!(r#"{{"userName":"large","note":"{}"}}"#, "x".repeat(12_000_000));
    let headers = vec![("Content-Type", "application/scim+json")];
    let request = Request { method: "POST", path: "/Users", headers, body: Some(large) };
    expect_error(&directory.send(&request), 413, "12 MB");
    assert_eq!(directory.get("/Users?count=0")["totalResults"], 5);
}

#[test]
fn while_the_log_is_folded_every_path_answers_503_and_never_401() {
    actix_web::rt::System::new().block_on(async {
        // Without an engine: it is there once the log is folded.
        let service = init_service(App::new().configure(app(settings(), Arc::default()))).await;
        for (method, path) in [
            (Method::GET, "/scim/v2/directory_1/Users"),
            (Method::POST, "/scim/v2/directory_1/Users"),
            (Method::PATCH, "/SCIM/v2/directory_1//Groups/1/"),
            (Method::GET, "/scim/v2/directory_1/ServiceProviderConfig"),
            (Method::DELETE, "/scim/v2/directory_1/Nothing"),
            (Method::GET, "/scim"),
        ] {
            for authorization in ["Bearer scim_a", "Basic YTpi", ""] {
                let asked = format!("{method} {path} {authorization}");
                let request = TestRequest::with_uri(path).method(method.clone());
                let request = request.insert_header(("Authorization", authorization));
                let answer = call_service(&service, request.to_request()).await;
                let header = |name: &str| {
                    answer.headers().get(name).map(|value| value.to_str().unwrap().to_owned())
                };
                assert_eq!(answer.status().as_u16(), 503, "{asked}");
                assert_eq!(header("retry-after").as_deref(), Some("1"), "{asked}");
                assert_eq!(header("www-authenticate"), None, "{asked}");
                let content_type = header("content-type");
                assert_eq!(content_type.as_deref(), Some("application/scim+json"), "{asked}");
                let body: Value = serde_json::from_slice(&read_body(answer).await).unwrap();
                let expected = json!({
                    "schemas": [ERROR], "status": "503", "detail": "the log is still being folded",
                });
                assert_eq!(body, expected, "{asked}");
            }
        }
    });
}
