//! Snapshots of the views: a start from one answers like one that folds the log; one that is
//! missing, damaged or of something else costs time only; and one that was forged is found out.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use xxhash_rust::xxh3::xxh3_64;

use crate::faults::archives::{deliver, start_and_listen, wait_for};
use crate::faults::damage::refusal;
use crate::faults::kills::copy;
use crate::faults::verify::verify;
use crate::kit::exposition::Scrape;
use crate::kit::histories::history;
use crate::kit::server::{Server, now_ms, signal, user};
use crate::kit::tamper::{SnapshotAge, Snapshots, flip_in_block};

/// Returns answers that depend on every view, as far as they do not depend on the moment of the
/// question.
fn answers(server: &Server) -> Vec<Value> {
    let mut projections = Value::Null;
    wait_for("the digests", || {
        projections = server.get("/rollcall/v1/projections").json();
        let views = projections["data"].as_array().unwrap();
        views.iter().all(|view| view["sha256"].is_string()).then_some(())
    });
    // A rebuild changes no view.
    for view in projections["data"].as_array_mut().unwrap() {
        view["rebuild"] = Value::Null;
    }
    let asked = [
        "/rollcall/v1/quarantine?limit=100",
        "/rollcall/v1/deprovisionings?limit=100",
        "/rollcall/v1/changes?after=0&limit=100&wait=0",
        "/events?events=dsync.user.created&limit=100",
        "/directories?limit=100",
        "/rollcall/v1/links",
    ];
    asked.iter().map(|path| server.get(path).json()).chain([projections]).collect()
}

/// Returns the state of the snapshot once it is compared with the log.
fn compared(server: &Server) -> Value {
    wait_for("the comparison", || {
        let state = server.get("/rollcall/v1/stats").json()["snapshot"].clone();
        (state["comparison"] != json!("pending")).then_some(state)
    })
}

/// Fills a folder, and stops its server. Returns the answers from before, and the newest record.
fn filled(folder: &Path, seed: u64) -> (Vec<Value>, u64) {
    let server = Server::start(folder);
    let mapping = json!({
        "mode": "all", "default_roles": ["member"], "priority": [],
        "rules": [
            { "group": { "name_glob": "*" }, "roles": ["admin"] },
            { "attribute": "custom_attributes.role", "values": { "admin": ["ops"] } },
        ],
    });
    for (at, delivery) in history(seed).deliveries.iter().take(120).enumerate() {
        server.post_at(&delivery.body, now_ms() + delivery.shift_ms);
        if at == 60 {
            let set = server.put("/rollcall/v1/role_mapping", &json!({ "mapping": mapping }));
            assert_eq!(set.status, 200, "{}", set.json());
        }
    }
    server.deliver(&user(
        "u1",
        "d1",
        "ana",
        "2026-01-01T00:00:00.000Z",
        "e1",
        "dsync.user.created",
    ));
    let before = answers(&server);
    let seq = server.head();
    assert_eq!(server.stop(), 0);
    (before, seq)
}

#[test]
fn a_start_from_a_snapshot_answers_like_one_that_folds_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let (before, seq) = filled(folder.path(), 5);
    let server = Server::start(folder.path());
    let state = compared(&server);
    assert_eq!((&state["started_from"], &state["comparison"]), (&json!(seq), &json!("equal")));
    let part = server.get("/readyz").json()["parts"]["snapshot"]["state"].clone();
    assert_eq!(part, json!("equal"));
    assert!(answers(&server) == before);
    // What comes after the snapshot is folded on top of it, after a stop without a further one.
    server.deliver(&user(
        "u2",
        "d1",
        "ben",
        "2026-01-02T00:00:00.000Z",
        "e2",
        "dsync.user.created",
    ));
    server.deliver(&user(
        "u1",
        "d1",
        "ana",
        "2026-01-03T00:00:00.000Z",
        "e3",
        "dsync.user.deleted",
    ));
    let grown = answers(&server);
    signal(server.pid(), "KILL");
    server.wait();
    let server = Server::start(folder.path());
    assert_eq!(compared(&server)["started_from"], json!(seq));
    assert!(answers(&server) == grown);
    assert_eq!(server.stop(), 0);
    let found = verify(folder.path(), &[]);
    assert_eq!(found.json["snapshot"], json!({ "state": "equal", "seq": seq + 2 }));
    assert_eq!(found.code, 0, "{}", found.errors);
    fs::remove_file(folder.path().join("snapshot")).unwrap();
    let server = Server::start(folder.path());
    let state = compared(&server);
    assert_eq!((&state["started_from"], &state["comparison"]), (&json!(0), &json!("none")));
    assert!(answers(&server) == grown);
    assert_eq!(server.stop(), 0);
    assert!(folder.path().join("snapshot").exists(), "a clean stop leaves one");
}

#[test]
fn a_snapshot_that_is_damaged_or_of_another_log_costs_time_only() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (before, _) = filled(folder.path(), 6);
    filled(other.path(), 7);
    let whole = fs::read(folder.path().join("snapshot")).unwrap();
    let flipped = |at: usize| {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        bytes
    };
    let longer = [&whole[..], &[0]].concat();
    let cases = [
        fs::read(other.path().join("snapshot")).unwrap(),
        Vec::new(),
        whole[..100].to_vec(),
        whole[..whole.len() - 1].to_vec(),
        longer,
        flipped(9),
        flipped(40),
        flipped(151),
        flipped(191),
        // The lengths of the first block, and its content.
        flipped(195),
        flipped(199),
        flipped(whole.len() / 2),
        // What it keeps of the log besides the views.
        flipped(whole.len() - 1),
    ];
    for (case, bytes) in cases.into_iter().enumerate() {
        fs::write(folder.path().join("snapshot"), bytes).unwrap();
        let found = verify(folder.path(), &[]);
        // That of another log is no damage.
        let state = if case == 0 { "unused" } else { "damaged" };
        let expected = (0, json!({ "state": state, "seq": null }));
        assert_eq!((found.code, found.json["snapshot"].clone()), expected, "case {case}");
        let server = Server::start(folder.path());
        let state = compared(&server);
        assert_eq!(state["started_from"], json!(0), "case {case}");
        assert!(answers(&server) == before, "case {case}");
        assert_eq!(server.stop(), 0, "case {case}");
        assert_eq!(
            verify(folder.path(), &[]).code,
            0,
            "case {case}: a clean stop leaves a new one"
        );
    }
    // Nor is that of another version.
    let mut older = whole.clone();
    older[7] = b'1';
    fs::write(folder.path().join("snapshot"), older).unwrap();
    let found = verify(folder.path(), &[]);
    assert_eq!((found.code, &found.json["snapshot"]["state"]), (0, &json!("unused")));
}

#[test]
fn a_folder_in_the_place_of_the_snapshot_is_removed_if_it_is_empty() {
    let around = tempfile::tempdir().unwrap();
    let data = around.path().join("data");
    let server = Server::start(&data);
    deliver(&server, 0..3);
    assert_eq!(server.stop(), 0);
    let place = data.join("snapshot");
    fs::remove_file(&place).unwrap();
    fs::create_dir(&place).unwrap();
    assert_eq!(verify(&data, &[]).code, 0);
    let server = Server::start(&data);
    assert_eq!(server.head(), 3);
    assert_eq!(server.stop(), 0);
    assert!(place.is_file());
    fs::remove_file(&place).unwrap();
    fs::create_dir(&place).unwrap();
    fs::write(place.join("another's"), "x").unwrap();
    let server = start_and_listen(&data, &[]);
    assert_eq!(server.head(), 3);
    let said = server.stop_and_say();
    assert!(said.contains("is a folder with something in it: remove it"), "{said}");
    assert!(place.join("another's").exists());
}

/// Fills a log whose last three records are not covered by its old snapshot.
fn two_snapshots(around: &Path) -> Snapshots {
    let (data, old) = (around.join("data"), around.join("old"));
    let server = Server::start(&data);
    deliver(&server, 0..3);
    assert_eq!(server.stop(), 0);
    fs::copy(data.join("snapshot"), &old).unwrap();
    let server = Server::start(&data);
    deliver(&server, 3..6);
    assert_eq!(server.stop(), 0);
    Snapshots { data, old }
}

#[test]
fn a_record_that_changed_with_all_checks_of_the_store_is_named_by_a_start_or_behind_it() {
    let around = tempfile::tempdir().unwrap();
    let snapshots = two_snapshots(around.path());
    // Both snapshots cover record 2, and the current one alone covers record 5.
    for (seq, found) in
        [2, 5].into_iter().flat_map(|seq| SnapshotAge::ALL.map(|found| (seq, found)))
    {
        let case = format!("record {seq}, {found:?}");
        let data = around.path().join(format!("{seq}-{found:?}"));
        snapshots.copy(&data, found);
        flip_in_block(&data, seq);
        if found == SnapshotAge::None || (found == SnapshotAge::Old && seq == 5) {
            let (code, said) = refusal(&data).expect(&case);
            assert!(code == 2 && said.contains(&format!("record is {seq}")), "{case}: {said}");
            continue;
        }
        let server = start_and_listen(&data, &["--scrub-mib-per-second", "0"]);
        let state = wait_for("the deferred check", || {
            let state = server.get("/rollcall/v1/stats").json();
            let is_over = state["scrub"]["deferred_check"]["finished_at"].is_string()
                && state["snapshot"]["comparison"] != json!("pending");
            is_over.then(|| state["scrub"].clone())
        });
        let until = if found == SnapshotAge::Old { 3 } else { 6 };
        let late = &state["deferred_check"];
        assert_eq!((&late["position"], &late["until"]), (&json!(until), &json!(until)), "{case}");
        assert!(late["finished_at"].is_string(), "{case}");
        let findings = state["findings"].as_array().unwrap();
        assert_eq!(findings.len(), 1, "{case} {state}");
        assert_eq!((&findings[0]["first"], &findings[0]["last"]), (&json!(seq), &json!(seq)));
        assert_eq!((&findings[0]["in_memory"], &state["damaged"]), (&json!(false), &json!(1)));
        let ready = server.get("/readyz");
        assert_eq!(ready.status, 200, "{case}");
        let part = |name: &str| ready.json()["parts"][name]["state"].clone();
        assert_eq!([part("scrub"), part("snapshot")], ["damaged", "impossible"], "{case}");
        let metrics = String::from_utf8(server.get("/metrics").body).unwrap();
        let metric = |name: &str| Scrape::read(&metrics).value(name, &[]).unwrap();
        assert_eq!(metric("rollcall_scrub_damaged_records"), 1.0, "{case}");
        assert_eq!(metric("rollcall_deferred_check_records"), 0.0, "{case}");
        // It is refused, and no other is.
        for entry in 1..=6 {
            let status = server.get(&format!("/rollcall/v1/log/entries/{entry}")).status;
            assert_eq!(status, if entry == seq { 500 } else { 200 }, "{case}, entry {entry}");
        }
        let said = server.stop_and_say();
        assert!(said.contains(&format!("record {seq} cannot be read any more")), "{case}: {said}");
        // The next start checks every record.
        assert!(!data.join("snapshot").exists(), "{case}");
        let (code, said) = refusal(&data).expect(&case);
        assert!(code == 2 && said.contains(&format!("record is {seq}")), "{case}: {said}");
    }
}

#[test]
fn a_start_from_a_snapshot_reads_the_records_that_it_covers_later() {
    let around = tempfile::tempdir().unwrap();
    let snapshots = two_snapshots(around.path());
    for (found, until) in
        [(SnapshotAge::None, None), (SnapshotAge::Old, Some(3)), (SnapshotAge::Current, Some(6))]
    {
        let data = around.path().join(format!("{found:?}"));
        snapshots.copy(&data, found);
        let server = Server::start_with(&data, &["--scrub-mib-per-second", "0"]);
        compared(&server);
        let stats = server.get("/rollcall/v1/stats").json();
        let late = &stats["scrub"]["deferred_check"];
        assert_eq!(late["until"].as_u64(), until, "{found:?}");
        assert_eq!(late["position"].as_u64(), until, "{found:?}");
        let expected = if found == SnapshotAge::None { "none" } else { "equal" };
        assert_eq!(stats["snapshot"]["comparison"], expected, "{found:?}");
        // What is in the log is known, whether the start has read it or not.
        deliver(&server, 0..7);
        assert_eq!(server.head(), 7, "{found:?}");
        assert_eq!(server.stop(), 0);
        assert_eq!(verify(&data, &[]).code, 0, "{found:?}");
    }
}

/// Writes a snapshot with other content, and every checksum right: docs/format.md says how.
pub fn forge(file: &Path, change: impl Fn(&mut Vec<u8>)) {
    let bytes = fs::read(file).unwrap();
    let (mut header, mut rest, mut content) = (bytes[..192].to_vec(), &bytes[192..], Vec::new());
    let views = u64::from_le_bytes(header[104..112].try_into().unwrap());
    // What follows the views stays.
    while (content.len() as u64) < views {
        let number = |at: usize| u32::from_le_bytes(rest[at..at + 4].try_into().unwrap()) as usize;
        let (length, packed) = (number(0), number(4));
        content.extend(zstd::bulk::decompress(&rest[16..16 + packed], length).unwrap());
        rest = &rest[16 + packed..];
    }
    change(&mut content);
    header[104..112].copy_from_slice(&(content.len() as u64).to_le_bytes());
    header[112..144].copy_from_slice(&Sha256::digest(&content));
    let checksum = xxh3_64(&header[..184]).to_le_bytes();
    header[184..].copy_from_slice(&checksum);
    for block in content.chunks(1 << 20) {
        let packed = zstd::bulk::compress(block, 1).unwrap();
        header.extend((block.len() as u32).to_le_bytes());
        header.extend((packed.len() as u32).to_le_bytes());
        header.extend(xxh3_64(&packed).to_le_bytes());
        header.extend(packed);
    }
    header.extend(rest);
    fs::write(file, header).unwrap();
}

#[test]
fn a_forged_snapshot_is_dropped_and_the_answers_are_those_of_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let (before, _) = filled(folder.path(), 8);
    let file = folder.path().join("snapshot");
    // Without a change the file is the same as before.
    let whole = fs::read(&file).unwrap();
    forge(&file, |_| {});
    assert!(fs::read(&file).unwrap() == whole);
    // The user `u1` becomes another one.
    forge(&file, |content| {
        let id = [&2_u32.to_le_bytes()[..], b"u1"].concat();
        let at = content.windows(id.len()).position(|bytes| bytes == id).unwrap();
        content[at + 5] = b'9';
    });
    let copied = tempfile::tempdir().unwrap();
    copy(folder.path(), copied.path());
    let found = verify(copied.path(), &[]);
    assert_eq!((found.code, &found.json["snapshot"]["state"]), (2, &json!("different")));
    assert_eq!(found.json["findings"][0]["part"], "snapshot");
    let server = Server::start(folder.path());
    wait_for("the comparison", || {
        let ready = server.get("/readyz").json();
        (ready["parts"]["snapshot"]["state"] == json!("different")).then_some(())
    });
    // The rebuild follows at once.
    wait_for("the rebuild", || (server.get("/directory_users/u1").status == 200).then_some(()));
    assert!(answers(&server) == before);
    assert_eq!(server.get("/rollcall/v1/stats").json()["snapshot"]["comparison"], "different");
    let metrics = String::from_utf8(server.get("/metrics").body).unwrap();
    assert_eq!(Scrape::read(&metrics).value("rollcall_snapshot_different", &[]), Some(1.0));
    assert_eq!(server.stop(), 0);
    let server = Server::start(folder.path());
    assert_eq!(compared(&server)["comparison"], "equal");
    assert!(answers(&server) == before);
}
