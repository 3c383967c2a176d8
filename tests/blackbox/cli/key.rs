//! `rollcall key new`: a key that is shown once, and its entry for the configuration.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::kit::model::read_time;
use crate::kit::server::{API_KEY, Server, binary, now_ms, user};

fn new(arguments: &[&str]) -> Output {
    Command::new(binary()).args(["key", "new"]).args(arguments).output().unwrap()
}

/// Makes a key, and returns it and its entry.
fn made(arguments: &[&str]) -> (String, String) {
    let output = new(&[arguments, &["--json"]].concat());
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{arguments:?}");
    assert_eq!(said.lines().count(), 1, "{said}");
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(said.as_object().unwrap().len(), 2, "{said}");
    (said["key"].as_str().unwrap().into(), said["entry"].as_str().unwrap().into())
}

/// The value of a field of an entry, as it is written.
fn field<'a>(entry: &'a str, name: &str) -> Option<&'a str> {
    entry.lines().find_map(|line| line.strip_prefix(&format!("{name} = ")))
}

fn sha256(text: &str) -> String {
    hex::encode(Sha256::digest(text))
}

#[test]
fn the_entry_has_what_was_asked_for_and_the_hash_of_the_key() {
    let (key, entry) = made(&["--name", "login", "--scopes", "read"]);
    let expected =
        format!("[[keys]]\nname = \"login\"\nsha256 = \"{}\"\nscopes = [\"read\"]\n", sha256(&key));
    assert_eq!(entry, expected);
    assert!(!entry.contains(&key));
    let before = now_ms();
    let (_, entry) = made(&[
        "--name",
        "a.b-c_1",
        "--scopes",
        "operate,read,read",
        "--organization",
        "org_1,org_2",
        "--organization",
        "org_3",
        "--expires",
        "90d",
        "--rate-limit",
        "600",
    ]);
    let values = ["name", "scopes", "organizations", "rate_limit"].map(|name| field(&entry, name));
    assert_eq!(
        values,
        [
            Some("\"a.b-c_1\""),
            Some("[\"read\", \"operate\"]"),
            Some("[\"org_1\", \"org_2\", \"org_3\"]"),
            Some("600")
        ]
    );
    let expires_at = field(&entry, "expires_at").unwrap().trim_matches('"').to_owned();
    let lifetime_ms = read_time(&expires_at).unwrap() - before;
    assert!((lifetime_ms - 90 * 86_400_000).abs() < 60_000, "{expires_at}");
}

#[test]
fn a_key_is_random_and_scanners_can_recognise_it() {
    let [one, two] = [(), ()].map(|()| made(&["--name", "x", "--scopes", "read"]).0);
    assert_ne!(one, two);
    for key in [one, two] {
        let (rest, checksum) = key.split_at(key.len() - 8);
        assert_eq!(sha256(rest)[..8], *checksum, "{key}");
        let random = rest.strip_prefix("rollcall_").unwrap();
        assert_eq!(hex::decode(random).unwrap().len(), 32, "{key}");
    }
}

#[test]
fn for_people_the_key_and_the_entry_are_shown_once() {
    let output = new(&["--name", "login", "--scopes", "read,audit"]);
    let said = String::from_utf8(output.stdout).unwrap();
    let key = said.lines().find(|line| line.starts_with("rollcall_")).unwrap();
    assert_eq!(said.matches(key).count(), 1, "{said}");
    let (_, entry) = said.split_once("[[keys]]\n").unwrap();
    assert_eq!(field(entry, "sha256"), Some(format!("\"{}\"", sha256(key)).as_str()));
    assert_eq!(field(entry, "scopes"), Some("[\"read\", \"audit\"]"));
}

#[test]
fn what_cannot_be_an_entry_is_refused_with_its_reason() {
    for (arguments, reason) in [
        (&["--name", "a", "--scopes", "write"][..], "write"),
        (&["--name", "a"], "--scopes"),
        (&["--scopes", "read"], "--name"),
        (&["--name", "a b", "--scopes", "read"], "is not a name"),
        (&["--name", "a", "--scopes", "read", "--organization", "org_1, org_2"], "organization"),
        (&["--name", "sk_1", "--scopes", "read"], "begins as secrets do"),
        (&["--name", "", "--scopes", "read"], "name"),
        (&["--name", "key_12", "--scopes", "read"], "key_"),
        (&["--name", "a", "--scopes", "read", "--expires", "90"], "90d"),
        (&["--name", "a", "--scopes", "read", "--expires", "5ms"], "90d"),
        (&["--name", "a", "--scopes", "read", "--expires", "0d"], "more than nothing"),
        (&["--name", "a", "--scopes", "read", "--organization", ""], "organization"),
        (&["--name", "a", "--scopes", "read", "--rate-limit", "0"], "rate-limit"),
    ] {
        let output = new(arguments);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
        assert!(output.stdout.is_empty() && said.contains(reason), "{arguments:?}: {said}");
    }
}

/// A server whose configuration has these entries, and whose log goes into a file.
fn serving(folder: &Path, entries: &str) -> (Server, PathBuf) {
    let (config, log) = (folder.join("rollcall.toml"), folder.join("log"));
    fs::write(&config, entries).unwrap();
    let mut command = Command::new("sh");
    command
        .args(["-c", r#"exec env ROLLCALL_LOG=info "$0" "$@" 2>"$LOG""#])
        .arg(binary())
        .env("LOG", &log);
    let arguments = ["--log-format", "json", "--config", config.to_str().unwrap()];
    (Server::start_command(command, &folder.join("data"), &arguments), log)
}

/// The lines of a log, as objects, whose message begins with these words.
fn lines(log: &Path, message: &str) -> Vec<Value> {
    let log = fs::read_to_string(log).unwrap();
    let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let said = |line: &Value| {
        let rest = line["message"].as_str().and_then(|said| said.strip_prefix(message));
        rest.is_some_and(|rest| !rest.starts_with(char::is_alphanumeric))
    };
    lines.filter(said).collect()
}

#[test]
fn a_new_key_works_with_its_entry_and_is_named_in_the_access_log() {
    let folder = tempfile::tempdir().unwrap();
    let (login, login_entry) = made(&["--name", "login", "--scopes", "read"]);
    let (auditor, auditor_entry) =
        made(&["--name", "auditor", "--scopes", "read,audit", "--expires", "90d"]);
    let (old, old_entry) = made(&["--name", "old", "--scopes", "audit"]);
    let old_entry = format!("{old_entry}expires_at = 2020-01-01T00:00:00Z\n");
    let entries = format!("{login_entry}\n{auditor_entry}\n{old_entry}");
    let (server, log) = serving(folder.path(), &entries);
    let status = |key: &str, path: &str| {
        server.send("get", &format!("{}{path}", server.url), key, "").status
    };
    let events = "/events?events=dsync.user.created";
    for (key, [present, past]) in
        [(&*login, [200, 403]), (&auditor, [200, 200]), (API_KEY, [200, 200])]
    {
        assert_eq!([status(key, "/directories"), status(key, events)], [present, past]);
    }
    assert_eq!(status(&old, events), 401);
    let digest = sha256(&login);
    assert_eq!(status(&digest, "/directories"), 401, "the digest is not the key");
    assert_eq!(status(&login[..login.len() - 1], "/directories"), 401);
    let told: Vec<[Value; 3]> = lines(&log, "read")
        .iter()
        .map(|line| ["api_key", "fingerprint", "status"].map(|name| line[name].clone()))
        .collect();
    let named = |name: &str, key: &str, status: u16| {
        [json!(name), json!(format!("key_{}", &sha256(key)[..16])), json!(status)]
    };
    assert_eq!(told[..2], [named("login", &login, 403), named("auditor", &auditor, 200)]);
    // A key of the environment is named by its fingerprint alone, as before.
    assert!(told[2][0].as_str().unwrap().starts_with("key_") && told[2][1].is_null());
    assert_eq!(told[3], named("old", &old, 401), "an expired key is a known one");
    let log = fs::read_to_string(log).unwrap();
    assert!(!log.contains(&login) && !log.contains(&auditor), "no key is logged");
}

#[test]
fn a_command_says_when_a_limited_key_may_ask_again_and_one_that_follows_waits() {
    let folder = tempfile::tempdir().unwrap();
    let (key, entry) = made(&["--name", "few", "--scopes", "read", "--rate-limit", "60"]);
    let (server, _) = serving(folder.path(), &entry);
    let asks = || server.send("get", &format!("{}/directories", server.url), &key, "").status;
    while asks() == 200 {}
    let command = |arguments: &[&str]| {
        let mut command = Command::new(binary());
        command.args(arguments).args(["--url", &server.url, "--api-key", &key]);
        command
    };
    let said = command(&["directories"]).output().unwrap();
    let error = String::from_utf8(said.stderr).unwrap();
    assert_eq!(said.status.code(), Some(1), "{error}");
    assert!(error.trim_end().ends_with("ask again in 1 s"), "{error}");
    server.deliver(&user("u", "d", "ana", "2026-01-01T00:00:00Z", "e", "dsync.user.created"));
    while asks() == 200 {}
    let mut follows = command(&["changes", "--follow", "--limit", "1"]);
    let said = follows.output().unwrap();
    assert_eq!(said.status.code(), Some(0), "{}", String::from_utf8_lossy(&said.stderr));
    assert!(String::from_utf8(said.stdout).unwrap().contains("access_granted"));
}

#[test]
fn the_server_warns_of_keys_that_end_soon_or_have_ended() {
    let folder = tempfile::tempdir().unwrap();
    let entries: Vec<String> = [("soon", "6d"), ("later", "8d"), ("ending", "1s")]
        .map(|(name, expires)| made(&["--name", name, "--scopes", "read", "--expires", expires]).1)
        .into();
    let (server, log) = serving(folder.path(), &entries.join("\n"));
    let names = |message: &str| -> Vec<String> {
        let lines = lines(&log, message);
        lines.iter().map(|line| line["name"].as_str().unwrap().to_owned()).collect()
    };
    // The second may be over before the start or after it.
    let (expired, soon) = ("an API key has expired", "an API key expires soon");
    let until = now_ms() + 20_000;
    while names(expired).is_empty() || !names(soon).iter().any(|name| name == "soon") {
        assert!(now_ms() < until, "{:?} {:?}", names(expired), names(soon));
        assert_eq!(server.get("/healthz").status, 200);
    }
    assert_eq!(names(expired), ["ending"]);
    let soon: Vec<String> = names(soon).into_iter().filter(|name| name != "ending").collect();
    assert_eq!(soon, ["soon"], "once, and no other");
}
