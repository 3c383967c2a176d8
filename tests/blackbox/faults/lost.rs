//! Logs that were restored without records that are nowhere any more.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use base64::prelude::*;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::faults::archives::{self, archived, deliver, event, part, root, said, text};
use crate::faults::backups::backup;
use crate::faults::damage::{
    contents, damage, filled_with_all_kinds, json_of, run, salvage_into, written_end,
};
use crate::faults::kills::copy;
use crate::kit::server::{Server, user};

/// A folder that was stopped, what is left of it in an archive, and the root before.
struct Cut {
    around: tempfile::TempDir,
    missing: Value,
    root: Value,
}

impl Cut {
    fn path(&self, name: &str) -> PathBuf {
        self.around.path().join(name)
    }

    /// Changes the key of a log, fills it, cuts half of its store off, and salvages the rest.
    fn new() -> Cut {
        let around = tempfile::tempdir().unwrap();
        let [data, whole, left] = ["data", "whole", "left"].map(|name| around.path().join(name));
        let server = Server::start(&data);
        let changed = server.act("POST", "/rollcall/v1/log/key", Some(&json!({})));
        assert_eq!(changed.status, 200);
        assert_eq!(server.stop(), 0);
        filled_with_all_kinds(&data);
        copy(&data, &whole);
        let root = json_of(&run(&["verify", "--json"], &data))["tree"]["root"].clone();
        let db = data.join("store/db");
        // sled writes a page again and again, so only a cut is sure to cost records.
        damage(&db, 3, written_end(&db) / 2, &mut SmallRng::seed_from_u64(3));
        let missing = salvage_into(&data, &[], &left)["missing"].clone();
        Cut { around, missing, root }
    }

    fn lost(&self) -> BTreeSet<u64> {
        let ranges: Vec<(u64, u64)> = serde_json::from_value(self.missing.clone()).unwrap();
        ranges.into_iter().flat_map(|(first, last)| first..=last).collect()
    }
}

fn restore(arguments: &[&str], from: &Path, data: &Path) -> (Option<i32>, Value, String) {
    let all = [&["restore", "--json", "--from", from.to_str().unwrap()], arguments].concat();
    let output = run(&all, data);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), json_of(&output), said)
}

fn quarantined_as_lost(server: &Server) -> BTreeSet<u64> {
    let listed = server.get("/rollcall/v1/quarantine?limit=1000").json();
    let entries = listed["data"].as_array().unwrap().clone();
    let lost = entries.iter().filter(|entry| entry["reason"] == "lost");
    lost.map(|entry| {
        assert_eq!((&entry["event_id"], &entry["recorded_at"]), (&Value::Null, &Value::Null));
        entry["seq"].as_u64().unwrap()
    })
    .collect()
}

#[test]
fn a_log_that_is_restored_without_lost_records_keeps_its_root_and_proofs_and_goes_on() {
    let cut = Cut::new();
    let [data, whole, left, new] = ["data", "whole", "left", "new"].map(|name| cut.path(name));
    let (code, _, said) = restore(&[], &left, &new);
    assert!(code == Some(2) && said.contains("--accept-missing") && !new.exists(), "{said}");
    let (code, printed, said) = restore(&["--accept-missing"], &left, &new);
    let expected = json!({ "seq": 164, "root": cut.root, "lost": cut.missing, "new_log_id": null });
    assert_eq!((code, printed), (Some(0), expected), "{said}");
    let verified = run(&["verify", "--json"], &new);
    let found = json_of(&verified);
    assert_eq!(verified.status.code(), Some(0), "{found}");
    assert_eq!((&found["lost"], &found["tree"]["root"]), (&cut.missing, &cut.root));
    // What is asked of the folder lacks what they said, and that is told.
    let count = format!("was restored without {} records (records ", cut.lost().len());
    for arguments in [&["directories"][..], &["status"], &["users", "--directory", "d"]] {
        let output = run(arguments, &new);
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(0), "{arguments:?} {told}");
        let way = format!("`rollcall salvage --data {} --from COPY", text(&new));
        assert!(told.contains(&count) && told.contains(&way), "{arguments:?} {told}");
        assert!(!told.contains("`answered`"), "{told}");
    }
    // A file of which a restored folder has none may be empty as well.
    fs::write(new.join("answered"), "").unwrap();
    let verified = run(&["verify", "--json"], &new);
    let found = json_of(&verified);
    assert_eq!((verified.status.code(), &found["sound"]), (Some(0), &json!(true)), "{found}");
    assert!(found["remarks"][0].as_str().unwrap().contains("`answered`"), "{found}");
    let output = run(&["directories"], &new);
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && told.contains("`answered` has lost its moment"), "{told}");
    fs::copy(data.join("checkpoint-key"), new.join("checkpoint-key")).unwrap();

    let (server, before) = (Server::start(&new), Server::start(&whole));
    let lost = cut.lost();
    assert!(!lost.is_empty() && lost.len() < 164, "{lost:?}");
    for seq in 1..=164 {
        let path = format!("/rollcall/v1/log/entries/{seq}");
        let (entry, entry_before) = (server.get(&path), before.get(&path).json());
        if lost.contains(&seq) {
            assert_eq!((entry.status, entry.code().as_str()), (410, "record_lost"), "{seq}");
        } else {
            assert_eq!(entry.json(), entry_before, "{seq}");
        }
        let proof = format!("/rollcall/v1/log/proof/inclusion?seq={seq}&size=164");
        assert_eq!(server.get(&proof).json(), before.get(&proof).json(), "{seq}");
    }
    assert_eq!(quarantined_as_lost(&server), lost);
    let stats = server.get("/rollcall/v1/stats").json();
    assert_eq!(stats["quarantine"]["lost"], lost.len());
    // Whoever is left was there before.
    let users = server.get("/directory_users?directory=d&limit=100").ids();
    assert!(!users.is_empty());
    for user in users {
        assert_eq!(before.get(&format!("/directory_users/{user}")).status, 200, "{user}");
    }
    assert_eq!(before.stop(), 0);

    // A lost event that comes again counts, and the log goes on.
    // The first record is the change of the key.
    let again = lost.iter().find(|seq| (2..=161).contains(*seq)).unwrap() - 2;
    let event = user(
        &format!("u{again}"),
        "d",
        &format!("name {again}"),
        "2025-01-01T00:00:00.000Z",
        &format!("event_{again}"),
        "dsync.user.created",
    );
    assert_eq!(server.deliver(&event), 165);
    assert_eq!(server.get(&format!("/directory_users/u{again}")).status, 200);
    assert_eq!(server.stop(), 0);
    let server = Server::start(&new);
    assert_eq!(quarantined_as_lost(&server), lost);
    assert_eq!(server.stop(), 0);

    // A copy still brings them back.
    let [again, complete] = ["again", "complete"].map(|name| cut.path(name));
    let outcome = salvage_into(&new, &[], &again);
    assert_eq!((&outcome["missing"], &outcome["lost"]), (&cut.missing, &cut.missing));
    let outcome = salvage_into(&new, &[&whole], &complete);
    assert_eq!((&outcome["missing"], &outcome["recovered"]), (&json!([]), &json!(165)));
    let (code, printed, said) = restore(&[], &complete, &cut.path("whole-again"));
    let expected = json!({ "seq": 165, "root": outcome["root"] });
    assert_eq!((code, printed), (Some(0), expected), "{said}");
}

/// The leaf of a record, computed as docs/format.md specifies it.
fn leaf(server: &Server, seq: u64) -> String {
    let entry = server.get(&format!("/rollcall/v1/log/entries/{seq}")).json();
    let bytes = |name: &str| BASE64_STANDARD.decode(entry[name].as_str().unwrap()).unwrap();
    let hash = |parts: &[&[u8]]| Sha256::digest(parts.concat());
    let digest = hash(&[&bytes("salt"), &bytes("body")]);
    hex::encode(hash(&[&[0], &bytes("receipt"), &digest]))
}

/// A log of six records that was archived in a segment for each, and that lost the third.
struct WithoutThird {
    around: tempfile::TempDir,
    log_id: Value,
}

impl WithoutThird {
    fn path(&self, name: &str) -> PathBuf {
        self.around.path().join(name)
    }

    fn new() -> WithoutThird {
        let around = tempfile::tempdir().unwrap();
        let [before, archive, left, data] =
            ["before", "archive", "left", "data"].map(|name| around.path().join(name));
        fs::create_dir(&archive).unwrap();
        let options = ["--archive", text(&archive), "--archive-records", "1"];
        let server = Server::start_with(&before, &options);
        for n in 0..6 {
            deliver(&server, n..n + 1);
            archived(&server, n + 1);
        }
        let (third, whole) = (leaf(&server, 3), root(&server, 6));
        assert_eq!(server.stop(), 0);
        copy(&part(&archive), &left);
        fs::remove_file(left.join(archives::segment(3, 3))).unwrap();
        let (code, _, said) = archives::restore(text(&left), &data);
        assert!(code == 2 && said.contains("record 3 is missing"), "{code} {said}");
        let line = format!("{}\n", json!({ "seq": 3, "leaf": third }));
        fs::write(left.join("lost-leaves.ndjson"), line).unwrap();
        // Now it is an archive of a log that was without that record.
        let (code, printed, said) = archives::restore(text(&left), &data);
        assert_eq!((code, printed), (0, without_third(6, &whole)), "{said}");
        let log_id = json_of(&run(&["verify", "--json"], &data))["log_id"].clone();
        fs::copy(before.join("checkpoint-key"), data.join("checkpoint-key")).unwrap();
        WithoutThird { around, log_id }
    }

    /// Restores into a new folder, and checks that it is the log, with what is lost of it.
    fn restores(&self, from: &str, expected: &Value, lost: &Value) -> PathBuf {
        let new = self.path(&format!("{from}-restored"));
        let (code, printed, said) = archives::restore(text(&self.path(from)), &new);
        assert_eq!((code, &printed), (0, expected), "{from}: {said}");
        let verified = run(&["verify", "--json"], &new);
        let found = json_of(&verified);
        assert_eq!(verified.status.code(), Some(0), "{from}: {found}");
        assert_eq!((&found["lost"], &found["log_id"]), (lost, &self.log_id), "{from}");
        fs::copy(self.path("data/checkpoint-key"), new.join("checkpoint-key")).unwrap();
        new
    }
}

/// What a restore without record 3 prints.
fn without_third(seq: u64, root: &str) -> Value {
    json!({ "seq": seq, "root": root, "lost": [[3, 3]], "new_log_id": null })
}

#[test]
fn a_backup_and_a_new_archive_of_a_log_with_lost_records_keep_its_name_and_its_root() {
    let log = WithoutThird::new();
    fs::create_dir(log.path("second")).unwrap();
    let second = log.path("second");
    let options = ["--archive", text(&second), "--archive-records", "1"];
    let server = Server::start_with(&log.path("data"), &options);
    deliver(&server, 6..8);
    archived(&server, 8);
    let whole = root(&server, 8);
    let (code, copied, told) = said(&backup(&server, text(&log.path("backup")), true));
    let expected = json!({ "seq": 8, "root": whole, "lost": [[3, 3]] });
    assert_eq!((code, copied), (0, expected), "{told}");
    let output = backup(&server, "-", false);
    fs::write(log.path("tar"), output.stdout).unwrap();
    assert_eq!(server.stop(), 0);
    let mut restored = PathBuf::new();
    for from in ["backup", "tar", "second"] {
        restored = log.restores(from, &without_third(8, &whole), &json!([[3, 3]]));
    }
    // A folder without its store is salvaged from the backup in one file.
    let lacking = log.path("lacking");
    copy(&log.path("data"), &lacking);
    fs::remove_dir_all(lacking.join("store")).unwrap();
    let salvaged = salvage_into(&lacking, &[&log.path("tar")], &log.path("salvaged"));
    let expected = json!({
        "acknowledged": 8, "recovered": 7, "missing": [[3, 3]], "lost": [], "root": whole,
    });
    assert_eq!(salvaged, expected);
    // The restored log goes on in the same archive.
    let server = Server::start_with(&restored, &options);
    deliver(&server, 8..9);
    archived(&server, 9);
    let whole = root(&server, 9);
    assert_eq!(server.stop(), 0);
    fs::remove_dir_all(&restored).unwrap();
    log.restores("second", &without_third(9, &whole), &json!([[3, 3]]));
}

#[test]
fn an_event_that_came_again_while_its_record_was_lost_is_a_repeat_once_that_is_back() {
    let log = WithoutThird::new();
    let archive = log.path("archive");
    let options = ["--archive", text(&archive), "--archive-records", "1"];
    let server = Server::start_with(&log.path("data"), &options);
    // The third event: its id was free.
    assert_eq!(server.deliver(&event(2, "a name")), 7);
    archived(&server, 7);
    let whole = root(&server, 7);
    assert_eq!(server.get("/rollcall/v1/stats").json()["quarantine"]["repeated"], 0);
    assert_eq!(server.stop(), 0);
    // The archive has both records, and so has what is salvaged with it.
    let expected = json!({ "seq": 7, "root": whole });
    let restored = log.restores("archive", &expected, &json!([]));
    let data = log.path("data");
    let alone = salvage_into(&data, &[], &log.path("alone"));
    assert_eq!((&alone["missing"], &alone["recovered"]), (&json!([[3, 3]]), &json!(6)));
    let salvaged = salvage_into(&data, &[&archive], &log.path("salvaged"));
    let complete = json!({
        "acknowledged": 7, "recovered": 7, "missing": [], "lost": [], "root": whole,
    });
    assert_eq!(salvaged, complete);
    log.restores("salvaged", &expected, &json!([]));

    // Both are there, and the first counts.
    let server = Server::start_with(&restored, &options);
    let listed = server.get("/rollcall/v1/quarantine").json()["data"].clone();
    assert_eq!(listed.as_array().map(Vec::len), Some(1), "{listed}");
    let found = [&listed[0]["seq"], &listed[0]["reason"], &listed[0]["event_id"]];
    assert_eq!(found, [&json!(7), &json!("repeated"), &json!("event_2")]);
    assert!(listed[0]["detail"].as_str().unwrap().contains("record 3"), "{listed}");
    let events = server.get("/events?limit=100&events=dsync.user.created").ids();
    let once: Vec<String> = (0..6).map(|n| format!("event_{n}")).collect();
    assert_eq!(events, once, "in the order in which they were recorded");
    assert_eq!(server.get("/directory_users/u2?known_at=3").status, 200);
    assert_eq!(server.get("/directory_users/u2?known_at=2").status, 404);
    for seq in [3, 7] {
        assert_eq!(server.get(&format!("/rollcall/v1/log/entries/{seq}")).status, 200);
    }
    // Once more it is a duplicate of the first.
    assert_eq!(server.deliver(&event(2, "a name")), 3);
    deliver(&server, 6..7);
    archived(&server, 8);
    assert_eq!(server.stop(), 0);
    let verified = run(&["verify", "--json"], &restored);
    assert_eq!(verified.status.code(), Some(0), "{}", json_of(&verified));
}

#[test]
fn where_the_leaf_of_a_lost_record_is_gone_too_there_is_a_new_log_with_a_new_key() {
    let cut = Cut::new();
    let [left, new] = ["left", "new"].map(|name| cut.path(name));
    fs::remove_file(left.join("lost-leaves.ndjson")).unwrap();
    let output =
        run(&["restore", "--accept-missing", "--from", left.to_str().unwrap()], &cut.path("loud"));
    let page = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && page.contains("THIS IS ANOTHER LOG"), "{page}");
    let (code, printed, said) = restore(&["--accept-missing"], &left, &new);
    assert_eq!((code, &printed["lost"]), (Some(0), &cut.missing), "{said}");
    let log_id = printed["new_log_id"].as_str().unwrap().to_owned();
    assert_ne!(printed["root"], cut.root);
    assert!(!contents(&new).contains_key("checkpoint-key.pub"), "the old key is not its key");
    // It has a key of its own, also where the old log changed its key.
    let server = Server::start(&new);
    let key = server.get("/rollcall/v1/log/key").json();
    assert_eq!(key["origin"], format!("rollcall/{log_id}"));
    assert!(key["key"].as_str().unwrap().starts_with(&format!("rollcall/{log_id}+")), "{key}");
    assert_eq!(quarantined_as_lost(&server), cut.lost());
    assert_eq!(server.get("/rollcall/v1/log/checkpoint").status, 200);
    assert_eq!(server.stop(), 0);
    let verified = run(&["verify", "--json"], &new);
    let found = json_of(&verified);
    assert_eq!((verified.status.code(), &found["log_id"]), (Some(0), &json!(log_id)), "{found}");
}
