//! `rollcall verify`, as people and programs run it.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::faults::kills::copy;
use crate::kit::server::{SECRET, Server, binary, user};

/// The answer of `rollcall verify --json`.
pub struct Found {
    pub code: i32,
    pub json: Value,
    pub errors: String,
}

fn command(folder: &Path, environment: &[(&str, &str)]) -> Command {
    let mut command = Command::new(binary());
    for name in ["ROLLCALL_WEBHOOK_SECRETS", "WORKOS_WEBHOOK_SECRET"] {
        command.env_remove(name);
    }
    command.args(["verify", "--data"]).arg(folder).envs(environment.iter().copied());
    command
}

pub fn verify(folder: &Path, environment: &[(&str, &str)]) -> Found {
    let output = command(folder, environment).arg("--json").output().unwrap();
    Found {
        code: output.status.code().unwrap(),
        json: serde_json::from_slice(&output.stdout).unwrap_or_default(),
        errors: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// A log of three deliveries and an act, its server stopped.
fn log() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    for id in ["a", "b", "c"] {
        server.deliver(&user(
            &format!("u{id}"),
            "d",
            "ana",
            "2025-01-01T00:00:00.000Z",
            id,
            "dsync.user.created",
        ));
    }
    assert_eq!(
        server.put("/rollcall/v1/policy", &json!({ "inactive_users": "delete" })).status,
        200
    );
    assert_eq!(server.stop(), 0);
    folder
}

#[test]
fn a_file_of_secrets_that_cannot_be_read_is_a_warning_since_secrets_are_optional() {
    let folder = log();
    let missing = ("ROLLCALL_WEBHOOK_SECRETS_FILE", "/no/such/file");
    let found = verify(folder.path(), &[missing, ("WORKOS_WEBHOOK_SECRET", SECRET)]);
    assert_eq!(found.code, 0, "{}", found.errors);
    assert_eq!(found.json["signatures"]["verified"], 3);
    assert!(found.errors.contains("/no/such/file"), "{}", found.errors);
    // Two forms of one variable are a mistake, and not a lack.
    let found = verify(folder.path(), &[missing, ("ROLLCALL_WEBHOOK_SECRETS", SECRET)]);
    assert_eq!(found.code, 1, "{}", found.errors);
}

#[test]
fn a_sound_log_is_told_to_people_and_to_programs() {
    let folder = log();
    let found = verify(folder.path(), &[("WORKOS_WEBHOOK_SECRET", SECRET)]);
    assert_eq!((found.code, found.errors.as_str()), (0, ""));
    let wanted = json!({
        "object": "verification", "records": 4, "sound": true, "first_bad": null,
        "findings_count": 0, "findings": [], "operator_acts": 1,
        "signatures": { "verified": 3, "key_not_at_hand": 0, "wrong": 0 },
        "acknowledged": { "state": "same", "size": 4 },
    });
    assert!(crate::kit::server::holds(&wanted, &found.json), "{}", found.json);
    assert_eq!(
        (&found.json["tree"]["size"], &found.json["tree"]["tiles_complete"]),
        (&json!(4), &json!(true))
    );
    let output =
        command(folder.path(), &[("ROLLCALL_WEBHOOK_SECRETS", "retired")]).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(
        (output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()),
        (Some(0), "")
    );
    let root = found.json["tree"]["root"].as_str().unwrap();
    let lines = [
        ": 4 records\n",
        "3 signatures: 0 verified, 3 whose secret is not at hand, 0 wrong; 1 act of an operator\n",
        &format!("the tree over the first 4 records has the root {root}\n"),
        "the log begins with the 4 records that were acknowledged last\n",
        "nothing is wrong\n",
    ];
    for line in lines {
        assert!(said.contains(line), "`{line}` is missing from: {said}");
    }
}

#[test]
fn whoever_asks_for_what_cannot_be_verified_is_told_so() {
    let folder = tempfile::tempdir().unwrap();
    let none = verify(folder.path(), &[]);
    assert_eq!((none.code, none.json), (1, Value::Null));
    assert!(none.errors.contains("is not a Rollcall data folder"), "{}", none.errors);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing was made of it");
    let server = Server::start(folder.path());
    let in_use = verify(folder.path(), &[]);
    assert!(
        in_use.code == 1 && in_use.errors.contains("is in use by another process: stop the server"),
        "{}",
        in_use.errors
    );
    drop(server);
}

#[test]
fn a_log_that_a_server_refuses_is_verified_and_its_damage_told() {
    let folder = log();
    let old = tempfile::tempdir().unwrap();
    copy(folder.path(), old.path());
    let server = Server::start(folder.path());
    server.deliver(r#"{"id":"later","event":"x"}"#);
    assert_eq!(server.stop(), 0);
    // The store of yesterday beside the checkpoint and the tiles of today.
    std::fs::remove_dir_all(folder.path().join("store")).unwrap();
    copy(&old.path().join("store"), &folder.path().join("store"));
    let found = verify(folder.path(), &[]);
    assert_eq!(
        (found.code, &found.json["first_bad"], &found.json["records"]),
        (2, &json!(5), &json!(4))
    );
    let finding = json!([{ "first": 5, "last": 5, "part": "acknowledgement",
        "what": "5 records were acknowledged and 4 are left" }]);
    assert_eq!((&found.json["findings"], &found.json["sound"]), (&finding, &json!(false)));
    assert!(
        found.errors.contains("is damaged: 1 finding, the first at record 5; `rollcall salvage"),
        "{}",
        found.errors
    );
}

#[test]
fn a_damaged_file_is_told_in_a_sentence() {
    let original = log();
    let store = std::fs::read(original.path().join("store/db")).unwrap();
    let written = store.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    let mut named = 0;
    for eighth in 0..8 {
        let folder = tempfile::tempdir().unwrap();
        copy(original.path(), folder.path());
        let mut damaged = store.clone();
        damaged[written * eighth / 8..][..64].iter_mut().for_each(|byte| *byte ^= 0x5a);
        std::fs::write(folder.path().join("store/db"), damaged).unwrap();
        let found = verify(folder.path(), &[]);
        assert!(!found.errors.contains("panicked at"), "{}", found.errors);
        match found.code {
            // The store made it good, or nothing lay there.
            0 => assert_eq!(
                (&found.json["records"], &found.json["acknowledged"]["state"]),
                (&json!(4), &json!("same"))
            ),
            code => assert!(
                code == 2 && found.errors.starts_with("rollcall: the "),
                "{code}: {}",
                found.errors
            ),
        }
        // A damaged store names its bytes.
        for finding in found.json["findings"].as_array().into_iter().flatten() {
            let what = finding["what"].as_str().unwrap();
            let Some((_, bytes)) = what.split_once("`store/db` is damaged at bytes ") else {
                continue;
            };
            let (first, last) = bytes.split_once(" to ").unwrap();
            let (first, last): (usize, usize) = (first.parse().unwrap(), last.parse().unwrap());
            assert!(first <= last && first <= written * eighth / 8 + 64, "{what}");
            assert!(last >= written * eighth / 8, "{what}");
            named += 1;
        }
    }
    assert!(named > 0);
}
