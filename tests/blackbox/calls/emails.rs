//! Users found by an email, however it is spelled: each call that takes `email`.

use serde_json::{Value, json};

use crate::kit::server::{Server, now_ms};

/// The addresses of the users `U0`, `U1` and so on, as the source sent them.
const STORED: [&str; 5] = [
    "ana+test@a.example",
    "  Bo@a.example\t",
    "e\u{301}va@a.example",
    "\u{212b}sa@A.example",
    "\"c d\"@a.example",
];

/// An email as it stands in a query, and the user who is found.
const ASKED: [(&str, Option<&str>); 15] = [
    ("ana+test@a.example", Some("U0")),
    ("ana%2Btest@a.example", Some("U0")),
    ("ANA%20Test%40a.example", Some("U0")),
    ("+ana+test@a.example+", Some("U0")),
    ("anatest@a.example", None),
    ("ana%2B%2Btest@a.example", None),
    ("bo@a.example", Some("U1")),
    ("%C2%A0bo@a.example%0A", Some("U1")),
    ("b+o@a.example", None),
    ("%C3%A9va@a.example", Some("U2")),
    ("E%CC%81VA@a.example", Some("U2")),
    ("eva@a.example", None),
    ("%C3%A5sa@a.example", Some("U3")),
    ("%22c%20d%22@a.example", Some("U4")),
    ("%22c%2Bd%22@a.example", None),
];

#[test]
fn an_email_is_found_however_it_is_spelled_and_shown_as_it_was_sent() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    for (number, email) in STORED.iter().enumerate() {
        let user = format!("U{number}");
        let data = json!({ "id": user, "directory_id": "D", "email": email,
            "organization_id": "o" });
        for (second, event) in ["created", "deleted", "updated"].into_iter().enumerate() {
            let event = json!({ "id": format!("{event}-{user}"), "data": data,
                "event": format!("dsync.user.{event}"),
                "created_at": format!("2026-01-01T00:00:0{second}Z") });
            assert_eq!(server.post_at(event.to_string().as_bytes(), now_ms()).status, 200);
        }
    }
    let shown = |item: &Value, key: &str| item[key].as_str().unwrap_or_default().to_owned();
    for (call, key, shows_email) in [
        ("/directory_users?organization_id=o&email=", "id", true),
        ("/directory_users?directory=D&email=", "id", true),
        ("/rollcall/v1/users?email=", "user_id", false),
        ("/rollcall/v1/deprovisionings?email=", "user_id", true),
    ] {
        for (asked, user) in ASKED {
            let answer = server.get(&format!("{call}{asked}")).json();
            let found = answer["data"].as_array().unwrap();
            let ids: Vec<String> = found.iter().map(|item| shown(item, key)).collect();
            assert_eq!(ids, Vec::from_iter(user), "{call}{asked}");
            for (item, user) in found.iter().zip(user).filter(|_| shows_email) {
                let number: usize = user[1..].parse().unwrap();
                assert_eq!(item["email"], STORED[number], "{call}{asked}");
            }
        }
    }
}
