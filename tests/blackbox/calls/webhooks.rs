//! Signatures and the errors of HTTP.

use rollcall::verify::{Keyring, Proof, Rejection, Verified};

use base64::Engine as _;

use crate::kit::server::{API_KEY, SECRET, Server, agent, mac, now_ms, post, signature};

const A: &str = concat!(
    r#"{"id":"event_01J44T8116Q5M0RYCFA6KWNXN9","data":{"id":"conn_01EHWNC0FCBHZ3BJ7EGKYXK0E6","#,
    r#""name":"Foo Corp's Connection","state":"active","object":"connection","status":"linked","#,
    r#""domains":[{"id":"conn_domain_01EHWNFTAFCF3CQAE5A9Q0P1YB","domain":"foo-corp.com","#,
    r#""object":"connection_domain"}],"created_at":"2021-06-25T19:07:33.155Z","#,
    r#""updated_at":"2021-06-25T19:07:33.155Z","external_key":"3QMR4u0Tok6SgwY2AWG6u6mkQ","#,
    r#""connection_type":"OktaSAML","organization_id":"org_01EHWNCE74X7JSDV0X3SZ3KJNY"},"#,
    r#""event":"connection.activated","created_at":"2021-06-25T19:07:33.155Z"}"#,
);
const B: &str = concat!(
    r#"{"id":"event_01J44T8116Q5M0RYCFA6KWNXN9","data":{"id":"meow_123","name":"Meow Corp","#,
    r#""object":"kitten","status":"cuteness","created_at":"2021-06-25T19:07:33.155Z","#,
    r#""updated_at":"2021-06-25T19:07:33.155Z"},"event":"kitten.created","#,
    r#""created_at":"2021-06-25T19:07:33.155Z"}"#,
);
const C: &str = concat!(
    r#"{"id":"wh_01FG9JXJ9C9S052FX59JVG4EG1","data":{"id":"conn_01EHWNC0FCBHZ3BJ7EGKYXK0E6","#,
    r#""name":"Foo Corp's Connection","state":"active","object":"connection","#,
    r#""domains":[{"id":"conn_domain_01EHWNFTAFCF3CQAE5A9Q0P1YB","domain":"foo-corp.com","#,
    r#""object":"connection_domain"}],"connection_type":"OktaSAML","#,
    r#""organization_id":"org_01EHWNCE74X7JSDV0X3SZ3KJNY"},"event":"connection.activated"}"#,
);
const D: &str = concat!(
    r#"{"id":"wh_01FJ27WB8SNT7VN72KRMYJYV8P","#,
    r#""data":{"id":"directory_user_01E1X1B89NH8Z3SDFJR4H7RGX7","state":"active","#,
    r#""emails":[{"type":"work","value":"veda@example.com","primary":true}],"#,
    r#""username":"veda@example.com","last_name":"Block","first_name":"Lela","#,
    r#""directory_id":"directory_01E1X194NTJ3PYMAY79DYV0F0P"},"event":"dsync.user.created"}"#,
);
const E: &str = r#"{"hello":"world"}"#;
const F: &str = r#"{"id":"event_01","event":"dsync.user.created","data":{"id":"user_1"}}"#;
const G: &str = concat!(
    r#"{"object":"event","id":"event_01H","event":"dsync.user.updated","#,
    r#""data":{"first_name":"Zoë 😀"},"created_at":"2024-01-01T00:00:00.000Z"}"#,
);

/// Secret, time, signature and body, published by the makers of client libraries or computed from
/// the definition.
const VECTORS: [(&str, &str, &str, &str); 7] = [
    (
        "2sAZJlbjP8Ce3rwkKEv2GfKef",
        "1722443701539",
        "bd54a3768f461461c8439c2f97ab0d646ef3976f84d5d5b132d18f2fa89cdad5",
        A,
    ),
    (
        "2sAZJlbjP8Ce3rwkKEv2GfKef",
        "1722443701539",
        "f82f88dd60d5bc8a803686a27f83ce148b8c37c54490c52b77d00d62da891f1b",
        B,
    ),
    (
        "1lyKDzhJjuCkIscIWqkSe4YsQ",
        "1632409405772",
        "67612f0e74f008b436a13b00266f90ef5c13f9cbcf6262206f5f4a539ff61702",
        C,
    ),
    (
        "nTqlYkHe6GyqYkmUQWksUWYmQ",
        "1634310434103",
        "0de6f84a9c3dd217973c44dffbcb3fd1225a4ab453e08b608491479ebab382e8",
        D,
    ),
    ("secret", "1234567890", "b7c9fa4ea6f1837cb8a8ab0ee9f36e641773f21da4fabcc8da9addf9bce079c8", E),
    (
        "whsec_test",
        "1700000000000",
        "c1b5a1170e44015ffcd5cc0a22f6c8ddb10690f6c810af585ad412fa499ed5e9",
        F,
    ),
    (
        "s3crét",
        "1700000000001",
        "8756fcd813a1b16e375406bdca19cef95b08b193119f598dc476fdc868a4ece5",
        G,
    ),
];

fn verify(secrets: &[&str], header: &str, body: &str, now: i64) -> Result<Verified, Rejection> {
    let keyring = Keyring::new(secrets.iter().copied(), 180_000);
    Verified::webhook(&keyring, Some(header.as_bytes()), body.as_bytes().to_vec().into(), now)
}

#[test]
fn the_published_vectors_verify_and_one_changed_byte_does_not() {
    for (secret, t, v1, body) in VECTORS {
        let (now, header) = (t.parse().unwrap(), format!("t={t}, v1={v1}"));
        let verified = verify(&["another", secret], &header, body, now).unwrap();
        let Proof::Webhook { t: signed_at, v1: kept, .. } = verified.proof() else {
            panic!("a webhook is proven by its signature")
        };
        assert_eq!((*signed_at, hex::encode(kept)), (now, v1.to_owned()));
        assert_eq!(verified.body(), body.as_bytes());
        assert_eq!(
            verify(&[secret], &header, &body.replacen('{', "{ ", 1), now).unwrap_err(),
            Rejection::Mismatch
        );
        assert_eq!(verify(&["another"], &header, body, now).unwrap_err(), Rejection::Mismatch);
        assert_eq!(
            verify(&[secret], &format!("t={t}1, v1={v1}"), body, now).unwrap_err(),
            Rejection::Mismatch
        );
    }
}

#[test]
fn the_tolerance_holds_both_ways_and_includes_its_bound() {
    let (secret, t, v1, body) = VECTORS[5];
    let (t_ms, header): (i64, _) = (t.parse().unwrap(), format!("t={t}, v1={v1}"));
    for (shift, accepted) in
        [(0, true), (180_000, true), (-180_000, true), (180_001, false), (-180_001, false)]
    {
        let result = verify(&[secret], &header, body, t_ms + shift);
        assert_eq!(result.err(), (!accepted).then_some(Rejection::OutsideTolerance), "{shift}");
    }
}

#[test]
fn headers_are_read_liberally_and_malformed_ones_refused() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let body = D.as_bytes();
    let t = now_ms().to_string();
    let good = mac(SECRET, &t, body);
    let bad = mac("another", &t, body);
    let table = [
        (format!("t={t}, v1={good}"), "accepted"),
        (format!("t={t},v1={good}"), "accepted"),
        (format!("v1={good}, t={t}"), "accepted"),
        (format!("  t = {t} ,\tv1 = {good}  "), "accepted"),
        (format!("t={t}, v1={}", good.to_uppercase()), "accepted"),
        (format!("t={t}, v1={bad}, v1={good}"), "accepted"),
        (format!("t={t}, v1={good}, v1={bad}"), "accepted"),
        (format!("t={t}, v1=zz, v1={good}"), "accepted"),
        (format!("t={t}, v0=x, v2={bad}, v1={good}, junk"), "accepted"),
        (format!("t={t}, v1={bad}"), "signature_mismatch"),
        (format!("t={t}, v1={}", &good[..62]), "signature_mismatch"),
        (format!("t={t}, v1={good}00"), "signature_mismatch"),
        (format!("t={t}, v1=nonsense"), "signature_mismatch"),
        (format!("t={t}, v2={good}"), "signature_malformed"),
        (format!("t={t}, v1="), "signature_malformed"),
        (format!("t={t}"), "signature_malformed"),
        (format!("v1={good}"), "signature_malformed"),
        (format!("t=, v1={good}"), "signature_malformed"),
        (format!("t=abc, v1={good}"), "signature_malformed"),
        (format!("t={t}.0, v1={good}"), "signature_malformed"),
        (format!("t=0{t}, v1={}", mac(SECRET, &format!("0{t}"), body)), "signature_malformed"),
        (format!("t=-{t}, v1={good}"), "signature_malformed"),
        (format!("t=99999999999999999999, v1={good}"), "signature_malformed"),
        (format!("t={t}, t={t}, v1={good}"), "signature_malformed"),
        (good.clone(), "signature_malformed"),
        (String::new(), "signature_malformed"),
        (signature(SECRET, &(now_ms() - 200_000).to_string(), body), "timestamp_outside_tolerance"),
        (signature(SECRET, &(now_ms() + 200_000).to_string(), body), "timestamp_outside_tolerance"),
        // The seconds that some senders write are a time in January 1970.
        (signature(SECRET, &(now_ms() / 1000).to_string(), body), "timestamp_outside_tolerance"),
    ];
    for (header, expected) in table {
        let answer = server.post_with(body, &[("WorkOS-Signature", &header)]);
        let got = if answer.status == 200 { "accepted".into() } else { answer.code() };
        assert_eq!(got, expected, "`{header}`");
        assert_eq!(answer.status, if expected == "accepted" { 200 } else { 401 });
        assert!(
            !String::from_utf8_lossy(&answer.body).contains(&good),
            "a signature is never repeated"
        );
    }
    let answer = server.post_with(body, &[]);
    assert_eq!((answer.status, answer.code().as_str()), (401, "signature_missing"));
    assert_eq!(server.get("/readyz").json()["seq"], 1, "nothing unproven entered");
}

#[test]
fn several_secrets_are_active_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = std::process::Command::new("env");
    command
        .arg("ROLLCALL_WEBHOOK_SECRETS=old, new")
        .arg("WORKOS_WEBHOOK_SECRET=third")
        .arg(crate::kit::server::binary());
    let server = Server::start_command(command, folder.path(), &[]);
    for (secret, status) in [("old", 200), ("new", 200), ("third", 200), (SECRET, 401)] {
        let body = format!(r#"{{"id":"{secret}","event":"x"}}"#);
        let header = signature(secret, &now_ms().to_string(), body.as_bytes());
        assert_eq!(
            server.post_with(body.as_bytes(), &[("workos-signature", &header)]).status,
            status,
            "{secret}"
        );
    }
}

#[test]
fn every_other_error_has_its_status_and_code() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let table = [
        ("/nowhere", 404, "not_found"),
        ("/directories/", 404, "not_found"),
        ("/directories/a/b", 404, "not_found"),
        ("/directories/a%2Fb", 404, "entity_not_found"),
        ("/directory_users/x", 404, "entity_not_found"),
        ("/directory_groups/x", 404, "entity_not_found"),
        ("/webhooks/workos", 405, "method_not_allowed"),
        ("/directory_users", 422, "validation_failed"),
        ("/directory_groups?limit=5", 422, "validation_failed"),
        ("/directories?limit=0", 422, "validation_failed"),
        ("/directories?limit=101", 422, "validation_failed"),
        ("/directories?limit=x", 422, "validation_failed"),
        ("/directories?order=up", 422, "validation_failed"),
        ("/directories?after=a&before=b", 422, "validation_failed"),
        ("/directories?directory=x", 422, "validation_failed"),
        ("/directories?organization_id=a&organization=b", 422, "validation_failed"),
        ("/directories?search=", 422, "validation_failed"),
        ("/directories?search=a&search=b", 422, "validation_failed"),
        ("/directory_users?directory=d&state=suspended", 422, "validation_failed"),
        ("/directory_users?directory_id=d", 422, "validation_failed"),
        ("/directories?as_of=yesterday", 422, "validation_failed"),
        ("/directories?as_of=2026-01-01", 422, "validation_failed"),
        ("/directories?known_at=-1", 422, "validation_failed"),
        ("/directories?as_of=2999-01-01T00:00:00Z", 422, "as_of_in_future"),
        ("/directories?known_at=1", 422, "known_at_out_of_range"),
        ("/directories?known_at=99999999999999999999999", 422, "known_at_out_of_range"),
        ("/directories?known_at=2999-01-01T00:00:00Z", 422, "known_at_out_of_range"),
        ("/rollcall/v1/quarantine?after=x", 422, "cursor_invalid"),
        ("/rollcall/v1/quarantine?as_of=latest", 422, "validation_failed"),
        ("/rollcall/v1/projections?known_at=0", 422, "validation_failed"),
    ];
    for (path, status, code) in table {
        let answer = server.get(path);
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{path}");
        let body = answer.json();
        assert!(body["message"].is_string() && body.get("error").is_none(), "{path}: {body}");
        assert_eq!(body.get("errors").is_some(), status == 422, "{path}: {body}");
        assert_eq!(
            answer.header("content-type"),
            Some("application/json; charset=utf-8"),
            "{path}"
        );
        assert!(answer.header("x-request-id").is_some_and(|id| !id.is_empty()), "{path}");
    }
    for path in [
        "/directories?as_of=latest&known_at=0",
        "/directories?as_of=2026-01-01T00:00:00+02:00",
        "/directories?as_of=2026-01-01T00:00:00%2B02:00",
    ] {
        assert_eq!(server.get(path).status, 200, "{path}");
    }
    let plus = server.get("/directories?as_of=2026-01-01T00:00:00+02:00");
    assert_eq!(plus.header("rollcall-as-of"), Some("2025-12-31T22:00:00.000Z"));
}

#[test]
fn only_a_known_key_may_read() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let prefix = API_KEY[..3].to_owned();
    let headers = [
        None,
        Some(""),
        Some("Bearer"),
        Some("Bearer "),
        Some("Bearer x"),
        Some(API_KEY),
        Some("Basic sk_test"),
        Some(prefix.as_str()),
    ];
    for header in headers {
        let headers: Vec<(&str, &str)> =
            header.map(|value| ("Authorization", value)).into_iter().collect();
        for path in [
            "/directories",
            "/directory_users?directory=d",
            "/rollcall/v1/quarantine",
            "/rollcall/v1/projections",
        ] {
            let answer = server.get_with(path, &headers);
            assert_eq!(
                (answer.status, answer.code().as_str()),
                (401, "unauthorized"),
                "{header:?} {path}"
            );
        }
    }
    for header in [format!("Bearer {API_KEY}"), format!("bearer  {API_KEY} ")] {
        assert_eq!(
            server.get_with("/directories", &[("Authorization", &header)]).status,
            200,
            "{header}"
        );
    }
    for open in ["/healthz", "/readyz"] {
        assert_eq!(server.get_with(open, &[]).status, 200);
    }
}

/// An event of exactly `bytes` bytes.
fn filled(id: &str, bytes: usize) -> Vec<u8> {
    let frame = format!(r#"{{"id":"{id}","event":"x","data":""}}"#);
    frame.replace(r#":"""#, &format!(":\"{}\"", "x".repeat(bytes - frame.len()))).into_bytes()
}

#[test]
fn the_limit_of_a_webhooks_body_is_a_setting_and_the_largest_is_kept_and_proven() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start_with(folder.path(), &["--body-bytes-max", "12000000"]);
    let largest = filled("e1", 12_000_000);
    assert_eq!(server.post(&largest).status, 200);
    assert_eq!(server.post(&filled("e2", 12_000_001)).status, 413);
    let entry = server.get("/rollcall/v1/log/entries/1").json();
    let kept = base64::engine::general_purpose::STANDARD.decode(entry["body"].as_str().unwrap());
    assert!(kept.unwrap() == largest);
    assert_eq!(server.stop(), 0);
    let server = Server::start_with(folder.path(), &["--body-bytes-max", "100"]);
    assert_eq!(server.get("/rollcall/v1/log/entries/1").json(), entry, "after a restart");
    assert_eq!(server.post(&filled("e3", 100)).status, 200);
    assert_eq!(server.post(&filled("e4", 101)).status, 413);
}

#[test]
fn a_webhook_is_taken_with_and_without_a_slash_at_the_end_of_its_path() {
    let folder = tempfile::tempdir().unwrap();
    let paths = ["--webhook-path", "/hook", "--webhook-path", "/in/box/"];
    let server = Server::start_with(folder.path(), &paths);
    let body = b"{\"id\":\"e\",\"event\":\"x\"}";
    let header = signature(SECRET, &now_ms().to_string(), body);
    for (path, status) in [
        ("/hook", 200),
        ("/hook/", 200),
        ("/in/box", 200),
        ("/in/box/", 200),
        ("/hook//", 404),
        ("/hoo", 404),
        ("/webhooks/workos", 404),
    ] {
        let url = format!("{}{path}", server.url);
        let answer = post(&agent(), &url, body, &[("WorkOS-Signature", &header)]).unwrap();
        assert_eq!(answer.status, status, "{path}");
    }
    let answer = server.get("/hook/");
    assert_eq!((answer.status, answer.header("allow")), (405, Some("POST")));
}

#[test]
fn bodies_are_bounded_and_taken_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    assert_eq!(server.post(&filled("e", 4 << 20)).status, 200);
    let answer = server.post(&filled("e", (4 << 20) + 1));
    assert_eq!((answer.status, answer.code().as_str()), (413, "body_too_large"));
    let header = signature(SECRET, &now_ms().to_string(), b"x");
    for (encoding, status) in [("gzip", 415), ("br", 415), ("identity", 200), ("Identity", 200)] {
        let answer = server
            .post_with(b"x", &[("WorkOS-Signature", &header), ("Content-Encoding", encoding)]);
        assert_eq!(answer.status, status, "{encoding}");
        if status == 415 {
            assert_eq!(answer.code(), "unsupported_encoding");
        }
    }
}
