//! `rollcall verify`, as people and programs run it.

use std::path::Path;
use std::process::Command;

use base64::prelude::*;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::faults::damage::{flip, refusal, run};
use crate::faults::kills::copy;
use crate::kit::scale::check_each;
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

/// Damage to a file that is not the store's.
struct DamagedFile {
    name: &'static str,
    change: fn(&Path),
    part: &'static str,
    helps: &'static str,
}

const REPAIRED: &str = "the next start repairs it";

fn append(file: &Path, more: &[u8]) {
    let mut bytes = std::fs::read(file).unwrap();
    bytes.extend(more);
    std::fs::write(file, bytes).unwrap();
}

fn garbage(file: &Path) {
    std::fs::write(file, "x").unwrap();
}

/// A public key of another log. The key is that of RFC 8410, section 10.3.
fn other_key() -> String {
    let name = "rollcall/another";
    let key = "19bf44096984cdfe8541bac167dc3b96c85086aa30b6b6cb0c5c38ad703166e1";
    let key = [&[1][..], &hex::decode(key).unwrap()].concat();
    let hash = Sha256::digest([name.as_bytes(), b"\n", &key].concat());
    format!("{name}+{}+{}", hex::encode(&hash[..4]), BASE64_STANDARD.encode(key))
}

const DAMAGED_FILES: [DamagedFile; 14] = [
    DamagedFile { name: "tree/0", change: |file| flip(file, 40), part: "tiles", helps: REPAIRED },
    DamagedFile {
        name: "tree/0",
        change: |file| std::fs::write(file, []).unwrap(),
        part: "tiles",
        helps: REPAIRED,
    },
    DamagedFile {
        name: "tree/0",
        change: |file| std::fs::remove_dir_all(file.parent().unwrap()).unwrap(),
        part: "tiles",
        helps: REPAIRED,
    },
    DamagedFile {
        name: "tree/0",
        change: |file| append(file, &[0; 32]),
        part: "tiles",
        helps: REPAIRED,
    },
    DamagedFile {
        name: "tree/1",
        change: |file| append(file, &[7; 32]),
        part: "tiles",
        helps: REPAIRED,
    },
    // Leaves of records that are not there: either of the two may be wrong.
    DamagedFile {
        name: "tree/0",
        change: |file| append(file, &[7; 32]),
        part: "tiles",
        helps: "remove its folder `tree`",
    },
    // Both slots: a version of neither is left.
    DamagedFile {
        name: "checkpoint",
        change: |file| {
            flip(file, 20);
            flip(file, 4096 + 20);
        },
        part: "acknowledgement",
        helps: REPAIRED,
    },
    DamagedFile {
        name: "checkpoint",
        change: |file| std::fs::write(file, []).unwrap(),
        part: "acknowledgement",
        helps: REPAIRED,
    },
    DamagedFile { name: "store/conf", change: garbage, part: "derived", helps: REPAIRED },
    DamagedFile { name: "checkpoint-key.pub", change: garbage, part: "derived", helps: REPAIRED },
    DamagedFile {
        name: "checkpoint-key.pub",
        change: |file| std::fs::remove_file(file).unwrap(),
        part: "derived",
        helps: REPAIRED,
    },
    // The log names the key that it had first.
    DamagedFile {
        name: "checkpoint-key.pub",
        change: |file| std::fs::write(file, format!("{}\n", other_key())).unwrap(),
        part: "derived",
        helps: REPAIRED,
    },
    DamagedFile {
        name: "checkpoint-key",
        change: garbage,
        part: "key",
        helps: "put those files back",
    },
    DamagedFile {
        name: "checkpoint-key.handovers/00000000000000000005.checkpoint",
        change: garbage,
        part: "key",
        helps: "put those files back",
    },
];

#[test]
fn each_file_that_is_damaged_is_named_with_what_helps_and_a_start_does_what_was_said() {
    let original = log();
    let server = Server::start(original.path());
    assert_eq!(server.act("post", "/rollcall/v1/log/key", Some(&json!({}))).status, 200);
    assert_eq!(server.stop(), 0);
    assert_eq!(verify(original.path(), &[]).code, 0);
    assert_eq!(run(&["status"], original.path()).status.code(), Some(0));
    check_each(0..DAMAGED_FILES.len() as u64, 2, |number| {
        let DamagedFile { name, change, part, helps } = &DAMAGED_FILES[number as usize];
        let folder = tempfile::tempdir().unwrap();
        copy(original.path(), folder.path());
        change(&folder.path().join(name));
        let found = verify(folder.path(), &[]);
        let case = format!("{number}: {name}: {} {}", found.errors, found.json["findings"]);
        assert_eq!((found.code, &found.json["records"]), (2, &json!(5)), "{case}");
        let parts = found.json["findings"].as_array().unwrap();
        assert!(!parts.is_empty() && parts.iter().all(|found| found["part"] == *part), "{case}");
        assert!(found.errors.contains(helps), "{case}");
        assert!(!found.errors.contains("salvage"), "every record can be read: {case}");
        let status = run(&["status"], folder.path());
        let said = String::from_utf8_lossy(&status.stderr);
        assert_eq!(status.status.code(), Some(2), "{case} {said}");
        assert!(!status.stdout.starts_with(b"all is well"), "{case}");
        assert!(said.contains(helps) || helps.contains("`tree`"), "{case} {said}");
        let refused = refusal(folder.path());
        if *helps == REPAIRED {
            assert_eq!(refused, None, "{case}");
            let found = verify(folder.path(), &[]);
            assert_eq!(found.code, 0, "{case} {}", found.errors);
        } else if *part == "tiles" || *name == "checkpoint-key" {
            // The same code as that of verify.
            assert_eq!(refused.map(|(code, _)| code), Some(2), "{case}");
        }
    });
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
