//! `rollcall key new`: a key that is shown once, and its entry for the configuration.

use std::process::{Command, Output};

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::kit::model::read_time;
use crate::kit::server::{binary, now_ms};

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
        "org_1",
        "--organization",
        "org_2",
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
            Some("[\"org_1\", \"org_2\"]"),
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
        (&["--name", "a b", "--scopes", "read"], "`a b`"),
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
