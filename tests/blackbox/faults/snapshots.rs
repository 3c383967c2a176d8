//! Snapshots of the views: a start from one answers like one that folds the log; one that is
//! missing, damaged or of something else costs time only; and one that was forged is found out.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use xxhash_rust::xxh3::xxh3_64;

use crate::faults::archives::wait_for;
use crate::faults::kills::copy;
use crate::faults::verify::verify;
use crate::kit::exposition::Scrape;
use crate::kit::histories::history;
use crate::kit::server::{Server, now_ms, signal, user};

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
        // The lengths of the first block, and its content.
        flipped(155),
        flipped(159),
        flipped(whole.len() / 2),
    ];
    for (case, bytes) in cases.into_iter().enumerate() {
        fs::write(folder.path().join("snapshot"), bytes).unwrap();
        let found = verify(folder.path(), &[]);
        // That of another log is no damage.
        assert_eq!(found.code, if case == 0 { 0 } else { 2 }, "case {case}: {}", found.errors);
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
    // In its place something else may be.
    fs::remove_file(folder.path().join("snapshot")).unwrap();
    fs::create_dir(folder.path().join("snapshot")).unwrap();
    let server = Server::start(folder.path());
    assert!(answers(&server) == before);
    assert_eq!(server.stop(), 0);
}

/// Writes a snapshot with other content, and every checksum right: docs/format.md says how.
pub fn forge(file: &Path, change: impl Fn(&mut Vec<u8>)) {
    let bytes = fs::read(file).unwrap();
    let (mut header, mut rest, mut content) = (bytes[..152].to_vec(), &bytes[152..], Vec::new());
    while !rest.is_empty() {
        let number = |at: usize| u32::from_le_bytes(rest[at..at + 4].try_into().unwrap()) as usize;
        let (length, packed) = (number(0), number(4));
        content.extend(zstd::bulk::decompress(&rest[16..16 + packed], length).unwrap());
        rest = &rest[16 + packed..];
    }
    change(&mut content);
    header[104..112].copy_from_slice(&(content.len() as u64).to_le_bytes());
    header[112..144].copy_from_slice(&Sha256::digest(&content));
    let checksum = xxh3_64(&header[..144]).to_le_bytes();
    header[144..].copy_from_slice(&checksum);
    for block in content.chunks(1 << 20) {
        let packed = zstd::bulk::compress(block, 1).unwrap();
        header.extend((block.len() as u32).to_le_bytes());
        header.extend((packed.len() as u32).to_le_bytes());
        header.extend(xxh3_64(&packed).to_le_bytes());
        header.extend(packed);
    }
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
