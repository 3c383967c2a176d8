//! An auditor's material: checkpoints, proofs, the key and its changes, published checkpoints, and
//! bundles. All of it is verified here by a naive verifier that has all leaves and recomputes
//! everything from them, by RFC 6962 as it is written.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::mpsc;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use ed25519_dalek::{Signature, VerifyingKey};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::kit::server::{API_KEY, SECRET, Server, binary, now_ms, user};

type Hash = [u8; 32];

// --- The naive verifier ---

fn sha256(parts: &[&[u8]]) -> Hash {
    parts.iter().fold(Sha256::new(), |digest, part| digest.chain_update(part)).finalize().into()
}

/// The largest power of two below a number above one.
fn half(count: usize) -> usize {
    (1..).map(|power| 1 << power).take_while(|power| *power < count).last().unwrap_or(1)
}

/// MTH of RFC 6962, section 2.1.
fn root(leaves: &[Hash]) -> Hash {
    match leaves.len() {
        0 => sha256(&[]),
        1 => leaves[0],
        count => sha256(&[&[1], &root(&leaves[..half(count)]), &root(&leaves[half(count)..])]),
    }
}

/// PATH of section 2.1.1.
fn path(at: usize, leaves: &[Hash]) -> Vec<Hash> {
    let count = leaves.len();
    if count == 1 {
        return Vec::new();
    }
    let (left, right) = leaves.split_at(half(count));
    if at < left.len() {
        [path(at, left), vec![root(right)]].concat()
    } else {
        [path(at - left.len(), right), vec![root(left)]].concat()
    }
}

/// SUBPROOF of section 2.1.2.
fn subproof(from: usize, leaves: &[Hash], whole: bool) -> Vec<Hash> {
    if from == leaves.len() {
        return if whole { Vec::new() } else { vec![root(leaves)] };
    }
    let (left, right) = leaves.split_at(half(leaves.len()));
    if from <= left.len() {
        [subproof(from, left, whole), vec![root(right)]].concat()
    } else {
        [subproof(from - left.len(), right, false), vec![root(left)]].concat()
    }
}

fn decoded(value: &Value) -> Vec<u8> {
    BASE64_STANDARD.decode(value.as_str().unwrap()).unwrap()
}

fn hashes(value: &Value) -> Vec<Hash> {
    value["hashes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|hash| decoded(hash).try_into().unwrap())
        .collect()
}

/// A line of a note: name, key hash and signature.
type Signed = (String, Vec<u8>, Vec<u8>);

/// A signed note taken apart: text and signature lines.
fn note(text: &str) -> (String, Vec<Signed>) {
    let (text, lines) = text.split_once("\n\n").unwrap();
    let lines = lines.lines().map(|line| {
        let (name, signature) = line.strip_prefix("— ").unwrap().split_once(' ').unwrap();
        let bytes = BASE64_STANDARD.decode(signature).unwrap();
        (name.to_owned(), bytes[..4].to_vec(), bytes[4..].to_vec())
    });
    (format!("{text}\n"), lines.collect())
}

/// Returns true if `key`, in the form `name+hash+key`, has signed the note.
fn is_signed(note_text: &str, key: &str) -> bool {
    let (text, lines) = note(note_text);
    let (name, rest) = key.split_once('+').unwrap();
    let (hash, key) = rest.split_once('+').unwrap();
    let key = BASE64_STANDARD.decode(key).unwrap();
    assert_eq!((key.len(), key[0]), (33, 1));
    assert_eq!(hex::encode(&sha256(&[name.as_bytes(), b"\n", &key])[..4]), hash);
    let key = VerifyingKey::from_bytes(key[1..].try_into().unwrap()).unwrap();
    lines.iter().any(|(signer, key_hash, signature)| {
        let signature = Signature::from_slice(signature).unwrap();
        signer == name
            && hex::encode(key_hash) == hash
            && key.verify_strict(text.as_bytes(), &signature).is_ok()
    })
}

/// Size and root of a checkpoint.
fn claims(note_text: &str) -> (usize, Hash) {
    let (text, _) = note(note_text);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 3, "{text}");
    (lines[1].parse().unwrap(), BASE64_STANDARD.decode(lines[2]).unwrap().try_into().unwrap())
}

// --- Asking ---

fn checkpoint(server: &Server) -> String {
    let answer = server.get("/rollcall/v1/log/checkpoint");
    assert_eq!(answer.status, 200);
    String::from_utf8(answer.body).unwrap()
}

fn checkpoint_of(server: &Server, size: usize) -> String {
    let answer = server.get(&format!("/rollcall/v1/log/checkpoint?size={size}"));
    assert_eq!(answer.status, 200);
    String::from_utf8(answer.body).unwrap()
}

fn key(server: &Server) -> String {
    server.get("/rollcall/v1/log/key").json()["key"].as_str().unwrap().to_owned()
}

fn rotate(server: &Server, note: &str) -> Value {
    let answer = server.act("post", "/rollcall/v1/log/key", Some(&json!({ "note": note })));
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    answer.json()
}

/// The leaf of a record, from what the server gives of it.
fn leaf(server: &Server, seq: usize) -> Hash {
    let entry = server.get(&format!("/rollcall/v1/log/entries/{seq}")).json();
    let body = sha256(&[&decoded(&entry["salt"]), &decoded(&entry["body"])]);
    let leaf = sha256(&[&[0], &decoded(&entry["receipt"]), &body]);
    assert_eq!(decoded(&entry["leaf"]), leaf, "record {seq}");
    leaf
}

fn deliver(server: &Server, numbers: std::ops::Range<usize>) {
    for number in numbers {
        server.deliver(&event(number));
    }
}

fn event(number: usize) -> String {
    let name = format!("person{number}");
    user(
        &format!("directory_user_{number}"),
        "directory_1",
        &name,
        "2026-01-01T00:00:00.000Z",
        &format!("event_{number}"),
        "dsync.user.created",
    )
}

// --- Running commands ---

fn run(server: Option<&Server>, arguments: &[&str]) -> Output {
    let mut command = Command::new(binary());
    for (name, _) in
        std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("ROLLCALL_"))
    {
        command.env_remove(name);
    }
    command.env_remove("WORKOS_WEBHOOK_SECRET").env("ROLLCALL_API_KEY", API_KEY);
    // Where there is no server to ask, nobody listens at the address either.
    command.env("ROLLCALL_URL", server.map_or("http://127.0.0.1:9", |server| &server.url));
    command.args(arguments).output().unwrap()
}

fn said(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

fn succeed(server: Option<&Server>, arguments: &[&str]) -> String {
    let output = run(server, arguments);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", said(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// Sees that a command fails with this exit code, and says these words.
fn fail(server: Option<&Server>, arguments: &[&str], code: i32, words: &str) {
    let output = run(server, arguments);
    let said = said(&output);
    assert!(
        output.status.code() == Some(code) && said.contains(words),
        "{arguments:?}: {:?} {said}",
        output.status.code()
    );
}

/// Starts a server that must refuse to, and says what it said.
fn refused(data: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(binary());
    command.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(data).args(arguments);
    command
        .env("ROLLCALL_WEBHOOK_SECRETS", SECRET)
        .env("ROLLCALL_API_KEYS", API_KEY)
        .env("ROLLCALL_LOG", "error");
    let output = command.env_remove("WORKOS_WEBHOOK_SECRET").output().unwrap();
    (output.status.code(), said(&output))
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

// --- Proofs ---

#[test]
fn every_record_is_proven_to_be_in_the_tree_that_is_signed() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let empty = checkpoint(&server);
    assert!(is_signed(&empty, &key(&server)));
    assert_eq!(claims(&empty), (0, sha256(&[])));
    deliver(&server, 1..301);
    let leaves: Vec<Hash> = (1..=300).map(|seq| leaf(&server, seq)).collect();
    let signed = checkpoint(&server);
    assert!(is_signed(&signed, &key(&server)));
    assert_eq!(claims(&signed), (300, root(&leaves)));
    assert_eq!(checkpoint(&server), signed, "the same bytes as long as the log stands still");
    let sizes = [1, 2, 3, 7, 8, 9, 100, 255, 256, 257, 299, 300];
    for size in sizes {
        let older = server.get(&format!("/rollcall/v1/log/checkpoint?size={size}"));
        assert_eq!(older.header("Rollcall-Checkpoint-Size"), Some(size.to_string().as_str()));
        let older = String::from_utf8(older.body).unwrap();
        assert!(is_signed(&older, &key(&server)));
        assert_eq!(claims(&older), (size, root(&leaves[..size])));
        for seq in 1..=size {
            let proof = server
                .get(&format!("/rollcall/v1/log/proof/inclusion?seq={seq}&size={size}"))
                .json();
            assert_eq!((&proof["seq"], &proof["size"]), (&json!(seq), &json!(size)));
            assert_eq!(hashes(&proof), path(seq - 1, &leaves[..size]), "{seq} of {size}");
        }
        for from in sizes.into_iter().filter(|from| *from <= size) {
            let proof = server
                .get(&format!("/rollcall/v1/log/proof/consistency?from={from}&to={size}"))
                .json();
            assert_eq!((&proof["from"], &proof["to"]), (&json!(from), &json!(size)));
            assert_eq!(hashes(&proof), subproof(from, &leaves[..size], true), "{from} to {size}");
        }
    }
    // Without a size: everything.
    let proof = server.get("/rollcall/v1/log/proof/inclusion?seq=300").json();
    assert_eq!((&proof["size"], hashes(&proof)), (&json!(300), path(299, &leaves)));
    let proof = server.get("/rollcall/v1/log/proof/consistency?from=7").json();
    assert_eq!((&proof["to"], hashes(&proof)), (&json!(300), subproof(7, &leaves, true)));
}

#[test]
fn an_entry_is_had_by_its_number_or_its_events_id_in_the_bytes_that_were_signed() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    deliver(&server, 1..4);
    let by_number = server.get("/rollcall/v1/log/entries/2").json();
    assert_eq!(server.get("/rollcall/v1/log/entries/event_2").json(), by_number);
    assert_eq!(decoded(&by_number["body"]), event(2).as_bytes());
    // A body that is no event has no id, and its bytes all the same.
    let seq = server.deliver("no event");
    assert_eq!(
        decoded(&server.get(&format!("/rollcall/v1/log/entries/{seq}")).json()["body"]),
        b"no event"
    );
}

#[test]
fn an_event_is_found_by_its_id_whatever_the_id_looks_like() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    for id in ["event_1", "2", "1", "id:x", "x", "99"] {
        server.deliver(&event(1).replace("\"event_1\"", &format!("\"{id}\"")));
    }
    let seq_of = |name: &str| match server.get(&format!("/rollcall/v1/log/entries/{name}")) {
        answer if answer.status == 200 => answer.json()["seq"].as_u64(),
        answer => {
            assert_eq!(
                (answer.status, answer.code().as_str()),
                (404, "entity_not_found"),
                "{name}"
            );
            None
        }
    };
    for (name, seq) in [
        ("1", Some(1)),
        ("2", Some(2)),
        ("99", None),
        ("id:1", Some(3)),
        ("id:2", Some(2)),
        ("id:99", Some(6)),
        ("id:3", None),
        ("event_1", Some(1)),
        ("id:event_1", Some(1)),
        ("x", Some(5)),
        ("id:x", Some(5)),
        ("id:id:x", Some(4)),
        ("id:", None),
        ("id%3A99", Some(6)),
    ] {
        assert_eq!(seq_of(name), seq, "{name}");
        match seq {
            None => fail(Some(&server), &["prove", name], 1, "Record not found"),
            Some(seq) if !name.contains('%') => {
                let bundle: Value =
                    serde_json::from_str(&succeed(Some(&server), &["prove", name])).unwrap();
                assert_eq!(bundle["seq"].as_u64(), Some(seq), "{name}");
            }
            Some(_) => {}
        }
    }
}

#[test]
fn a_question_about_what_is_not_there_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    deliver(&server, 1..4);
    for (path, status, code, field) in [
        ("entries/4", 404, "entity_not_found", ""),
        ("entries/0", 404, "entity_not_found", ""),
        ("entries/99999999999999999999", 404, "entity_not_found", ""),
        ("entries/event_4", 404, "entity_not_found", ""),
        ("entries/%FF", 404, "not_found", ""),
        ("proof/inclusion?seq=4", 404, "entity_not_found", ""),
        ("proof/inclusion?seq=4&size=2", 404, "entity_not_found", ""),
        ("proof/inclusion", 422, "validation_failed", "seq"),
        ("proof/inclusion?seq=", 422, "validation_failed", "seq"),
        ("proof/inclusion?seq=0", 422, "validation_failed", "seq"),
        ("proof/inclusion?seq=+1", 422, "validation_failed", "seq"),
        ("proof/inclusion?seq=4294967296", 422, "validation_failed", "seq"),
        ("proof/inclusion?seq=3&size=2", 422, "validation_failed", "seq"),
        ("proof/inclusion?seq=1&size=4", 422, "validation_failed", "size"),
        ("proof/consistency", 422, "validation_failed", "from"),
        ("proof/consistency?from=4", 422, "validation_failed", "from"),
        ("proof/consistency?from=3&to=2", 422, "validation_failed", "from"),
        ("proof/consistency?from=1&to=4", 422, "validation_failed", "to"),
        ("checkpoint?size=4", 422, "validation_failed", "size"),
        ("checkpoint?size=0", 422, "validation_failed", "size"),
        ("checkpoint?known_at=1", 422, "validation_failed", "known_at"),
    ] {
        let answer = server.get(&format!("/rollcall/v1/log/{path}"));
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{path}");
        crate::calls::shapes::check_error(status, &answer.json());
        let fields: Vec<Value> = answer.json()["errors"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|error| error["field"].clone())
            .collect();
        assert_eq!(fields, if field.is_empty() { vec![] } else { vec![json!(field)] }, "{path}");
    }
}

// --- The key ---

#[test]
fn the_key_is_its_owners_alone_and_an_old_folder_gets_one_at_its_next_start() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    deliver(&server, 1..3);
    let first = key(&server);
    let private = folder.path().join("checkpoint-key");
    assert_eq!(fs::metadata(&private).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(
        fs::read_to_string(folder.path().join("checkpoint-key.pub")).unwrap(),
        format!("{first}\n")
    );
    assert_eq!(server.stop(), 0);
    // As the version before left it.
    fs::remove_file(&private).unwrap();
    fs::remove_file(folder.path().join("checkpoint-key.pub")).unwrap();
    let server = Server::start(folder.path());
    assert_eq!(server.get("/readyz").json()["seq"], 2, "the first key is no event");
    assert!(key(&server) != first && is_signed(&checkpoint(&server), &key(&server)));
    let known = server.get("/rollcall/v1/log/key").json();
    assert_eq!(
        (&known["seq"], &known["former"], &known["handover"]),
        (&json!(null), &json!([]), &json!(null))
    );
}

#[test]
fn a_start_tells_whose_names_stand_in_the_log_and_never_a_key() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let changed = rotate(&server, "every year");
    let name = changed["former"][0]["changed_by"].as_str().unwrap();
    assert_eq!(server.stop(), 0);
    let mut command = Command::new(binary());
    // It tells before it finds that it cannot start.
    command.args(["serve", "--listen", "256.0.0.1:1", "--data"]).arg(folder.path());
    command
        .env("ROLLCALL_WEBHOOK_SECRETS", SECRET)
        .env("ROLLCALL_API_KEYS", format!("sk_another,{API_KEY}"))
        .env("ROLLCALL_LOG", "info");
    let said = said(&command.output().unwrap());
    assert!(said.contains(&format!("{name} is number 2 of ROLLCALL_API_KEYS")), "{said}");
    assert!(
        said.contains("is number 1 of") && !said.contains("sk_another") && !said.contains(API_KEY),
        "{said}"
    );
}

#[test]
fn the_key_may_be_kept_elsewhere() {
    let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let file = elsewhere.path().join("key.pem");
    let arguments = ["--checkpoint-key", text(&file)];
    let server = Server::start_with(folder.path(), &arguments);
    let first = key(&server);
    assert!(file.exists() && !folder.path().join("checkpoint-key").exists());
    assert_eq!(server.stop(), 0);
    let (code, said) = refused(folder.path(), &[]);
    assert!(
        code == Some(1) && said.contains("--checkpoint-key") && said.contains(&first),
        "{code:?} {said}"
    );
    assert_eq!(key(&Server::start_with(folder.path(), &arguments)), first);
}

#[test]
fn a_changed_key_is_an_event_and_the_checkpoint_of_the_change_is_signed_by_both() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    deliver(&server, 1..4);
    let (before, first) = (checkpoint(&server), key(&server));
    let views = || {
        let mut views =
            server.get("/rollcall/v1/projections").json()["data"].as_array().unwrap().clone();
        views.iter_mut().for_each(|view| drop(view.as_object_mut().unwrap().remove("seq")));
        views
    };
    let views_before = views();
    let changed = rotate(&server, "every year");
    let second = changed["key"].as_str().unwrap().to_owned();
    assert_eq!(
        (&changed["seq"], &changed["former"][0]["key"], &changed["former"][0]["note"]),
        (&json!(4), &json!(first), &json!("every year"))
    );
    let handover = changed["handover"].as_str().unwrap();
    assert!(is_signed(handover, &first) && is_signed(handover, &second));
    let leaves: Vec<Hash> = (1..=4).map(|seq| leaf(&server, seq)).collect();
    assert_eq!(claims(handover), (4, root(&leaves)));
    // The event says so itself, to who asks for it by name, and no view but the list of events
    // knows of it.
    let listed = server.get("/events?events=rollcall.checkpoint_key.changed").json();
    let data = &listed["data"][0]["data"];
    assert_eq!(
        (&data["from"], &data["to"], &data["note"]),
        (&json!(first), &json!(second), &json!("every year"))
    );
    assert_eq!(listed["data"].as_array().unwrap().len(), 1);
    let body: Value =
        serde_json::from_slice(&decoded(&server.get("/rollcall/v1/log/entries/4").json()["body"]))
            .unwrap();
    assert_eq!(
        (&body["event"], &body["data"]["to"]),
        (&json!("rollcall.checkpoint_key.changed"), &json!(second))
    );
    assert_eq!(server.get("/rollcall/v1/quarantine").json()["data"], json!([]));
    for (was, is) in views_before.iter().zip(views()) {
        assert!(was == &is || is["name"] == "events" || is["name"] == "ids", "{was} {is}");
    }
    deliver(&server, 4..5);
    let after = checkpoint(&server);
    assert!(is_signed(&before, &first) && is_signed(&after, &second) && !is_signed(&after, &first));
    // Once more, and over a start.
    let third = rotate(&server, "again")["key"].as_str().unwrap().to_owned();
    assert_eq!(server.stop(), 0);
    let server = Server::start(folder.path());
    let known = server.get("/rollcall/v1/log/key").json();
    let former: Vec<(&Value, &Value)> = known["former"]
        .as_array()
        .unwrap()
        .iter()
        .map(|former| (&former["key"], &former["seq"]))
        .collect();
    assert_eq!((known["key"].as_str(), &known["seq"]), (Some(third.as_str()), &json!(6)));
    assert_eq!(former, [(&json!(first), &json!(4)), (&json!(second), &json!(6))]);
    assert!(is_signed(&checkpoint(&server), &third));
    assert!(succeed(Some(&server), &["log-key", "show"]).contains(&third));
}

#[test]
fn a_change_of_key_survives_a_crash_at_each_of_its_steps() {
    let folder = tempfile::tempdir().unwrap();
    let (private, next) =
        (folder.path().join("checkpoint-key"), folder.path().join("checkpoint-key.next"));
    let server = Server::start(folder.path());
    deliver(&server, 1..3);
    let first = key(&server);
    let old = fs::read(&private).unwrap();
    let second = rotate(&server, "every year")["key"].as_str().unwrap().to_owned();
    drop(server);
    let new = fs::read(&private).unwrap();
    assert_ne!(old, new);
    // Killed after the log took the event and before anything of it was written: the second
    // signature is made up for.
    fs::write(&next, &new).unwrap();
    fs::write(&private, &old).unwrap();
    fs::remove_dir_all(folder.path().join("checkpoint-key.handovers")).unwrap();
    let server = Server::start(folder.path());
    assert_eq!(key(&server), second);
    assert!(is_signed(&checkpoint(&server), &second) && !next.exists());
    let handover = checkpoint_of(&server, 3);
    assert!(is_signed(&handover, &first) && is_signed(&handover, &second));
    assert_eq!(
        claims(&handover),
        (3, root(&(1..=3).map(|seq| leaf(&server, seq)).collect::<Vec<_>>()))
    );
    drop(server);
    // Killed after the next file was written and before the log took the event: the key that signed
    // goes on.
    fs::write(&next, &old).unwrap();
    let server = Server::start(folder.path());
    assert_eq!((key(&server), next.exists()), (second.clone(), false));
    assert_eq!(server.get("/rollcall/v1/log/key").json()["former"][0]["key"], json!(first));
    drop(server);
    // Killed in the middle of writing it.
    fs::write(folder.path().join("checkpoint-key.next.part"), &old[..50]).unwrap();
    let server = Server::start(folder.path());
    assert_eq!(key(&server), second);
    assert!(!folder.path().join("checkpoint-key.next.part").exists());
}

#[test]
fn a_lost_or_exchanged_key_keeps_the_server_from_starting_until_somebody_decides() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    drop(Server::start(other.path()));
    let private = folder.path().join("checkpoint-key");
    let server = Server::start(folder.path());
    deliver(&server, 1..3);
    let first = key(&server);
    assert_eq!(server.stop(), 0);
    fs::copy(other.path().join("checkpoint-key"), &private).unwrap();
    for arguments in [&[][..], &["--replace-checkpoint-key"]] {
        let (code, said) = refused(folder.path(), arguments);
        assert!(
            code == Some(1) && said.contains(&first) && said.contains("move this one away"),
            "{code:?} {said}"
        );
    }
    fs::remove_file(&private).unwrap();
    let (code, said) = refused(folder.path(), &[]);
    assert!(
        code == Some(1) && said.contains(&first) && said.contains("--replace-checkpoint-key"),
        "{code:?} {said}"
    );
    assert!(!private.exists());
    // A command that only reads does not mind, but cannot sign.
    succeed(None, &["directories", "--data", text(folder.path())]);
    fail(None, &["prove", "1", "--data", text(folder.path())], 1, "no checkpoint key");
    let server = Server::start_with(folder.path(), &["--replace-checkpoint-key"]);
    let known = server.get("/rollcall/v1/log/key").json();
    assert_eq!((&known["former"][0]["key"], &known["seq"]), (&json!(first), &json!(3)));
    assert!(known["former"][0]["changed_by"].as_str().unwrap().starts_with("key_"));
    let second = key(&server);
    assert!(second != first && is_signed(&checkpoint(&server), &second));
    assert_eq!(server.stop(), 0);
    // Left in by mistake it replaces nothing.
    let server = Server::start_with(folder.path(), &["--replace-checkpoint-key"]);
    assert_eq!((key(&server), server.get("/readyz").json()["seq"].clone()), (second, json!(3)));
}

// --- Publishing ---

fn published(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn name_of(size: usize) -> String {
    format!("{size:020}.checkpoint")
}

#[test]
fn checkpoints_are_published_at_the_start_each_period_and_at_a_stop_if_the_log_has_grown() {
    let (folder, audit) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let hourly = ["--publish-checkpoints", text(audit.path())];
    let server = Server::start_with(folder.path(), &hourly);
    deliver(&server, 1..4);
    let first = key(&server);
    assert_eq!(server.stop(), 0);
    // Of the empty log nothing; at the stop all of it, whatever the thread that publishes at the
    // start met.
    let names = published(audit.path());
    assert!(names.ends_with(&[name_of(3)]) && !names.contains(&name_of(0)), "{names:?}");
    let kept = fs::read(audit.path().join(name_of(3))).unwrap();
    assert_eq!(Server::start_with(folder.path(), &hourly).stop(), 0);
    assert_eq!(published(audit.path()), names);
    let server =
        Server::start_with(folder.path(), &[&hourly[..], &["--publish-every", "1ms"]].concat());
    deliver(&server, 4..6);
    // Every delivery and question takes longer than the period.
    let newest = name_of(5);
    assert!(
        (0..100_000)
            .any(|_| server.get("/healthz").status == 200
                && published(audit.path()).contains(&newest))
    );
    assert_eq!(server.stop(), 0);
    let server = Server::start_with(folder.path(), &hourly);
    let second = rotate(&server, "every year")["key"].as_str().unwrap().to_owned();
    deliver(&server, 6..7);
    assert_eq!(server.stop(), 0);
    // The checkpoint of the change as well, although nothing was published while it was the newest.
    assert!(published(audit.path()).ends_with(&[name_of(6), name_of(7)]));
    assert_eq!(fs::read(audit.path().join(name_of(3))).unwrap(), kept, "what is published stays");
    let server = Server::start(folder.path());
    deliver(&server, 7..8);
    assert_eq!(server.stop(), 0);
    assert_eq!(Server::start_with(folder.path(), &hourly).stop(), 0);
    assert!(
        published(audit.path()).contains(&name_of(8)),
        "what grew without is published at the next start"
    );
    let server = Server::start(folder.path());
    let leaves: Vec<Hash> = (1..=8).map(|seq| leaf(&server, seq)).collect();
    for name in published(audit.path()) {
        let note = fs::read_to_string(audit.path().join(&name)).unwrap();
        let (size, hash) = claims(&note);
        assert_eq!((&name, hash), (&name_of(size), root(&leaves[..size])));
        // The checkpoint that ends with the change is signed by both.
        assert_eq!(
            (is_signed(&note, &first), is_signed(&note, &second)),
            (size <= 6, size >= 6),
            "{name}"
        );
    }
}

#[test]
fn every_change_of_key_is_published_signed_by_both_whatever_happened_before_the_next_publication() {
    let (folder, audit) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let hourly = ["--publish-checkpoints", text(audit.path())];
    let server = Server::start(folder.path());
    deliver(&server, 1..4);
    assert_eq!(server.stop(), 0);
    assert_eq!(Server::start_with(folder.path(), &hourly).stop(), 0);
    // Two changes with nothing published between them, then a kill, a third, and one more record.
    let server = Server::start(folder.path());
    let mut keys = vec![key(&server)];
    for note in ["one", "two"] {
        keys.push(rotate(&server, note)["key"].as_str().unwrap().to_owned());
    }
    drop(server);
    let server = Server::start(folder.path());
    keys.push(rotate(&server, "three")["key"].as_str().unwrap().to_owned());
    deliver(&server, 4..5);
    drop(server);
    assert_eq!(Server::start_with(folder.path(), &hourly).stop(), 0);
    assert_eq!(published(audit.path()), [3, 4, 5, 6, 7].map(name_of));
    let server = Server::start(folder.path());
    let leaves: Vec<Hash> = (1..=7).map(|seq| leaf(&server, seq)).collect();
    for (size, signers) in
        [(3, &keys[..1]), (4, &keys[..2]), (5, &keys[1..3]), (6, &keys[2..4]), (7, &keys[3..])]
    {
        let note = fs::read_to_string(audit.path().join(name_of(size))).unwrap();
        assert_eq!(claims(&note), (size, root(&leaves[..size])));
        let signed: Vec<&String> = keys.iter().filter(|key| is_signed(&note, key)).collect();
        assert_eq!(signed, signers.iter().collect::<Vec<_>>(), "{size}");
        if signers.len() == 2 {
            assert_eq!(checkpoint_of(&server, size), note, "and so it is given to who asks later");
        }
    }
    assert_eq!(fs::read_dir(folder.path().join("checkpoint-key.handovers")).unwrap().count(), 3);
}

/// Starts and stops a server that publishes into `audit`; what it said on standard error.
fn errors_of_a_start(data: &Path, audit: &Path) -> String {
    let log = tempfile::NamedTempFile::new().unwrap();
    let mut command = Command::new(binary());
    command.stderr(log.reopen().unwrap());
    let server = Server::start_command(command, data, &["--publish-checkpoints", text(audit)]);
    assert_eq!(server.stop(), 0);
    fs::read_to_string(log.path()).unwrap()
}

#[test]
fn nothing_is_published_beside_a_checkpoint_that_contradicts_the_log() {
    let (folder, audit, elsewhere) =
        (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let server = Server::start(folder.path());
    deliver(&server, 1..6);
    assert_eq!(server.stop(), 0);
    assert_eq!(errors_of_a_start(folder.path(), audit.path()), "");
    assert_eq!(published(audit.path()), [name_of(5)]);
    assert_eq!(errors_of_a_start(folder.path(), audit.path()), "");
    // What is there is of another log.
    let longer = Server::start(folder.path());
    deliver(&longer, 6..9);
    let ahead = checkpoint(&longer);
    assert_eq!(longer.stop(), 0);
    let back = tempfile::tempdir().unwrap();
    let server = Server::start(back.path());
    assert_eq!(server.stop(), 0);
    fs::write(elsewhere.path().join(name_of(8)), &ahead).unwrap();
    let errors = errors_of_a_start(back.path(), elsewhere.path());
    assert!(
        errors.contains("not believed") && errors.contains("no checkpoint is published"),
        "of another log: {errors}"
    );
    assert_eq!(published(elsewhere.path()), [name_of(8)]);
    // One that was changed.
    fs::write(audit.path().join(name_of(6)), ahead.replace("\n8\n", "\n6\n")).unwrap();
    let errors = errors_of_a_start(folder.path(), audit.path());
    assert!(errors.contains("not believed"), "{errors}");
    assert_eq!(published(audit.path()), [name_of(5), name_of(6)]);
    fs::write(audit.path().join(name_of(6)), "x").unwrap();
    let errors = errors_of_a_start(folder.path(), audit.path());
    assert!(errors.contains("is not a checkpoint of this log"), "{errors}");
    assert_eq!(published(audit.path()), [name_of(5), name_of(6)]);
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            fs::create_dir_all(&to).unwrap();
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

#[test]
fn a_log_set_back_to_an_older_copy_is_found_out_by_what_was_published() {
    let (folder, older, audit) =
        (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let server = Server::start(folder.path());
    deliver(&server, 1..4);
    assert_eq!(server.stop(), 0);
    assert_eq!(errors_of_a_start(folder.path(), audit.path()), "");
    copy(folder.path(), older.path());
    let server = Server::start(folder.path());
    deliver(&server, 4..7);
    assert_eq!(server.stop(), 0);
    assert_eq!(errors_of_a_start(folder.path(), audit.path()), "");
    assert_eq!(published(audit.path()), [name_of(3), name_of(6)]);
    // Shorter than what is published: it does not start.
    let publishing = ["--publish-checkpoints", text(audit.path())];
    let (code, said) = refused(older.path(), &publishing);
    assert!(code == Some(2) && said.contains("has 3 records") && said.contains("of 6"), "{said}");
    assert!(said.contains("`rollcall restore --from`") && said.contains("--accept-fork"), "{said}");
    // As long, and longer, with other records.
    for number in 10..14 {
        let server = Server::start(older.path());
        deliver(&server, number..number + 1);
        assert_eq!(server.stop(), 0);
        let (code, said) = refused(older.path(), &publishing);
        assert!(code == Some(2) && said.contains("not of this log's history"), "{number}: {said}");
    }
    // A new folder, as after the loss of a disk.
    let (code, said) = refused(&older.path().join("new"), &publishing);
    assert!(code == Some(2) && said.contains("has no log yet"), "{said}");
    assert!(!older.path().join("new").exists());
    assert_eq!(
        published(audit.path()),
        [name_of(3), name_of(6)],
        "nothing was published beside it"
    );
}

#[test]
fn checkpoints_are_posted_to_a_url_and_tried_again() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/checkpoints", listener.local_addr().unwrap());
    let (posted, received) = mpsc::channel();
    let receiver = std::thread::spawn(move || {
        // The first answer is a refusal.
        for status in ["503 Service Unavailable", "200 OK"] {
            let (stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(&stream);
            let (mut head, mut length) = (String::new(), 0);
            while !head.ends_with("\r\n\r\n") {
                let before = head.len();
                reader.read_line(&mut head).unwrap();
                if let Some(value) = head[before..].to_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            write!(&stream, "HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                .unwrap();
            posted.send((head, String::from_utf8(body).unwrap())).unwrap();
        }
    });
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    deliver(&server, 1..4);
    let (signed, key) = (checkpoint(&server), key(&server));
    assert_eq!(server.stop(), 0);
    let mut command = Command::new(binary());
    command.stderr(tempfile::tempfile().unwrap());
    let server = Server::start_command(command, folder.path(), &["--publish-checkpoints", &url]);
    for _ in 0..2 {
        let (head, body) = received.recv().unwrap();
        assert!(head.starts_with("POST /checkpoints HTTP/1.1\r\n"), "{head}");
        assert!(head.to_lowercase().contains("content-type: text/plain"), "{head}");
        assert_eq!(body, signed);
        assert!(is_signed(&body, &key));
    }
    // Ingest never waits for a receiver; nobody answers there any more.
    deliver(&server, 4..5);
    receiver.join().unwrap();
    assert_eq!(server.stop(), 0);
}

#[test]
fn a_place_that_is_none_is_told_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let (code, said) = refused(folder.path(), &["--publish-checkpoints", "/no/such/folder"]);
    assert!(
        code == Some(1) && said.contains("`/no/such/folder` is not a folder"),
        "{code:?} {said}"
    );
    let (code, said) = refused(folder.path(), &["--publish-every", "0s"]);
    assert!(code == Some(1) && said.contains("more than nothing"), "{code:?} {said}");
}

// --- Bundles ---

struct Audited {
    folder: tempfile::TempDir,
    server: Server,
    key: String,
    /// The checkpoint of 4 records.
    older: PathBuf,
}

/// A server with 10 records, and files of an auditor.
fn audited() -> Audited {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("data"));
    deliver(&server, 1..5);
    let older = folder.path().join("older.checkpoint");
    fs::write(&older, checkpoint(&server)).unwrap();
    deliver(&server, 5..11);
    let key = key(&server);
    Audited { folder, server, key, older }
}

impl Audited {
    fn file(&self, name: &str, contents: &str) -> String {
        let path = self.folder.path().join(name);
        fs::write(&path, contents).unwrap();
        text(&path).to_owned()
    }
}

#[test]
fn a_record_that_rollcall_wrote_has_no_other_sender() {
    let audited = audited();
    let link = json!({ "app_user_id": "1842", "directory_user_id": "directory_user_3" });
    assert_eq!(audited.server.put("/rollcall/v1/links", &link).status, 200);
    let removal = "/rollcall/v1/links?directory_user_id=directory_user_3";
    assert_eq!(audited.server.delete(removal).status, 200);
    for (record, change) in [("11", "was linked to"), ("12", "was unlinked from")] {
        let bundle = succeed(Some(&audited.server), &["prove", record]);
        let file = audited.file("proof.json", &bundle);
        let told = succeed(None, &["check", &file, "--key", &audited.key]);
        for words in [
            &*format!("user directory_user_3 {change} user 1842 of the application"),
            "Z, by Rollcall, which wrote the record",
            "That the event's claim is true: it is what Rollcall wrote.",
            "both are claims of the log.",
            "an operator of Rollcall,",
        ] {
            assert!(told.contains(words), "`{words}` is missing from: {told}");
        }
        assert!(!told.contains("sender"), "{told}");
    }
}

#[test]
fn a_bundle_is_proven_where_there_is_no_server_and_no_store() {
    let audited = audited();
    let older = text(&audited.older).to_owned();
    for record in ["event_3", "3"] {
        let bundle = succeed(Some(&audited.server), &["prove", record, "--checkpoint", &older]);
        let file = audited.file("proof.json", &bundle);
        let told = succeed(None, &["check", &file, "--key", &audited.key, "--checkpoint", &older]);
        assert!(
            told.starts_with("Proven against the checkpoint of 4 records that you hold:\n"),
            "{told}"
        );
        for words in [
            "event_3",
            "workos, according to the log; by a webhook that claims to be signed at",
            "That no other record of the log contradicts it",
            "All that is certain is that it existed when you received the checkpoint of 4 records.",
            "dsync.user.created",
            "user directory_user_3 (person3@foo.example) was created, active",
            "2026-01-01T00:00:00.000Z, by its sender",
            "3 of the log",
            "when its key signed the checkpoint of 10 records",
            "the checkpoint of 4 records that you hold was signed, and none of those 4 records \
             has changed since",
            "Not proven:\n- That the event's claim is true",
            "own signature was not checked",
        ] {
            assert!(told.contains(words), "`{words}` is missing from: {told}");
        }
    }
    let bundle = succeed(Some(&audited.server), &["prove", "7", "--checkpoint", &older]);
    let file = audited.file("proof.json", &bundle);
    let told = succeed(None, &["check", &file, "--key", &audited.key, "--checkpoint", &older]);
    assert!(told.contains("This record came after them"), "{told}");
    // So that nothing but the key vouches for it.
    assert!(told.starts_with("Proven, assuming the key of rollcall/"), "{told}");
    assert!(told.contains("when you received this proof."), "{told}");
    let told: Value =
        serde_json::from_str(&succeed(None, &["check", &file, "--key", &audited.key, "--json"]))
            .unwrap();
    let expected = json!({
        "proven": true, "event_id": "event_7", "event": "dsync.user.created",
        "occurred_at": "2026-01-01T00:00:00.000Z", "seq": 7,
        "source": "workos", "continues": [], "webhook_signature": "unchecked",
    });
    assert!(crate::kit::server::holds(&expected, &told), "{told}");
    let recorded_at =
        audited.server.get("/rollcall/v1/stats").json()["at"].as_str().unwrap().to_owned();
    assert!(
        told["recorded_at"].as_str().unwrap() <= recorded_at.as_str()
            && told["recorded_at"].as_str().unwrap() > "2026"
    );
    // From a folder whose server is stopped, from a file with the key, from standard input.
    let Audited { folder, server, key, older } = audited;
    let data = folder.path().join("data");
    assert_eq!(server.stop(), 0);
    let bundle =
        succeed(None, &["prove", "event_10", "--data", text(&data), "--checkpoint", text(&older)]);
    let file = folder.path().join("proof.json");
    fs::write(&file, bundle).unwrap();
    succeed(
        None,
        &[
            "check",
            text(&file),
            "--key",
            text(&data.join("checkpoint-key.pub")),
            "--checkpoint",
            text(&older),
        ],
    );
    let mut child = Command::new(binary())
        .args(["check", "-", "--key", &key])
        // Secrets are optional, so a file of them that is missing is only a warning.
        .env("ROLLCALL_WEBHOOK_SECRET_FILE", "/no/such/file")
        .stdin(fs::File::open(&file).unwrap())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    assert!(child.wait().unwrap().success());
}

#[test]
fn nothing_is_proven_without_a_key_that_came_another_way() {
    let audited = audited();
    let bundle = succeed(Some(&audited.server), &["prove", "3"]);
    let file = audited.file("proof.json", &bundle);
    fail(None, &["check", &file], 1, "no key is given");
    fail(None, &["check", &file, "--key", "no such file"], 1, "is neither a public key");
    fail(None, &["check", &file, "--key", &file], 1, "is not a file of public keys");
    // The table is for people, and says so to a program that wants keys; the bare keys are what it
    // wants.
    let table = audited.file("table", &succeed(Some(&audited.server), &["log-key", "show"]));
    fail(None, &["check", &file, "--key", &table], 1, "`rollcall log-key show --vkey > log.pub`");
    fail(None, &["check", &file, "--key", &audited.file("empty", "\n")], 1, "it is empty");
    let other = tempfile::tempdir().unwrap();
    let foreign = key(&Server::start(other.path()));
    fail(None, &["check", &file, "--key", &foreign], 1, "none of the keys given has signed it");
    succeed(None, &["check", &file, "--key", &foreign, "--key", &audited.key]);
    let both = audited.file("keys", &format!("{foreign}\n{}\n", audited.key));
    succeed(None, &["check", &file, "--key", &both]);
    let output = run(None, &["check", &file, "--key", &foreign, "--json"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(serde_json::from_slice::<Value>(&output.stdout).unwrap()["proven"], false);
    fail(None, &["check", "/no/such/file", "--key", &audited.key], 1, "cannot read");
    fail(
        None,
        &["check", &audited.file("x", "{}"), "--key", &audited.key],
        1,
        "it is not a Rollcall proof",
    );
    fail(
        None,
        &[
            "check",
            &audited.file("x", &bundle.replace("\"format\": 1", "\"format\": 2")),
            "--key",
            &audited.key,
        ],
        1,
        "version 2",
    );
}

#[test]
fn every_field_of_a_bundle_that_is_changed_takes_its_proof_away() {
    let audited = audited();
    let older = text(&audited.older).to_owned();
    let bundle = succeed(Some(&audited.server), &["prove", "6", "--checkpoint", &older]);
    let whole: Value = serde_json::from_str(&bundle).unwrap();
    let is_proven = |bundle: &Value| {
        let file = audited.file("changed.json", &bundle.to_string());
        let output = run(None, &["check", &file, "--key", &audited.key]);
        assert!(matches!(output.status.code(), Some(0 | 1)), "{}", said(&output));
        output.status.code() == Some(0)
    };
    assert!(is_proven(&whole));
    let mut places = vec![String::new()];
    let (mut at, mut refused) = (0, 0);
    while let Some(place) = places.get(at).cloned() {
        at += 1;
        let mut changes = Vec::new();
        match whole.pointer(&place).unwrap() {
            Value::Object(fields) => {
                places.extend(fields.keys().map(|key| format!("{place}/{key}")));
                for key in fields.keys().filter(|key| *key != "older") {
                    let mut changed = whole.clone();
                    changed.pointer_mut(&place).unwrap().as_object_mut().unwrap().remove(key);
                    changes.push(changed);
                }
                let mut more = whole.clone();
                more.pointer_mut(&place).unwrap()["unheard_of"] = json!("x");
                changes.push(more);
            }
            Value::Array(items) => {
                places.extend((0..items.len()).map(|item| format!("{place}/{item}")));
                for item in (0..items.len()).filter(|_| place != "/older") {
                    let mut changed = whole.clone();
                    changed.pointer_mut(&place).unwrap().as_array_mut().unwrap().remove(item);
                    changes.push(changed);
                }
                let mut more = whole.clone();
                more.pointer_mut(&place).unwrap().as_array_mut().unwrap().push(items[0].clone());
                // The same older checkpoint twice proves what it proves once.
                changes.extend((place != "/older").then_some(more));
            }
            Value::Number(number) => {
                for other in [number.as_u64().unwrap() + 1, number.as_u64().unwrap() - 1, 0] {
                    changes.push(with(&whole, &place, json!(other)));
                }
            }
            Value::String(text) => {
                // Some bytes of each kind: the first, the last, one in the middle, one more, one
                // less.
                for at in [0, text.len() / 2, text.len() - 3] {
                    let mut bytes = text.clone().into_bytes();
                    bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
                    let changed = String::from_utf8_lossy(&bytes).into_owned();
                    changes.push(with(&whole, &place, json!(changed)));
                }
                changes.push(with(&whole, &place, json!(format!("{text}A"))));
                changes.push(with(&whole, &place, json!(text[..text.len() - 1])));
                changes.push(with(&whole, &place, json!("")));
            }
            _ => panic!("{place}"),
        }
        for changed in changes {
            assert!(!is_proven(&changed), "{place}: {changed:#}");
            refused += 1;
        }
    }
    assert!(refused > 80, "{refused}");
    // Whole values of another record, in each combination.
    let other: Value = serde_json::from_str(&succeed(
        Some(&audited.server),
        &["prove", "5", "--checkpoint", &older],
    ))
    .unwrap();
    let fields = ["/seq", "/receipt", "/salt", "/body", "/inclusion"];
    for mask in 1..(1 << fields.len()) - 1 {
        let mixed = fields.iter().enumerate().filter(|(bit, _)| mask >> bit & 1 == 1);
        let mixed = mixed.fold(whole.clone(), |mixed, (_, field)| {
            with(&mixed, field, other.pointer(field).unwrap().clone())
        });
        assert!(!is_proven(&mixed), "{mask:b}");
    }
}

fn with(whole: &Value, place: &str, value: Value) -> Value {
    let mut changed = whole.clone();
    *changed.pointer_mut(place).unwrap() = value;
    changed
}

#[test]
fn a_checkpoint_in_hand_is_tied_to_the_proof_or_the_proof_is_refused() {
    let audited = audited();
    let older = text(&audited.older).to_owned();
    let without = audited.file("without.json", &succeed(Some(&audited.server), &["prove", "3"]));
    fail(
        None,
        &["check", &without, "--key", &audited.key, "--checkpoint", &older],
        1,
        "nothing in it ties it to the checkpoint of 4 records",
    );
    // The bundle's own checkpoint needs no tie.
    let bundle: Value = serde_json::from_str(&fs::read_to_string(&without).unwrap()).unwrap();
    let own = audited.file("own", bundle["checkpoint"].as_str().unwrap());
    succeed(None, &["check", &without, "--key", &audited.key, "--checkpoint", &own]);
    let altered =
        audited.file("altered", &fs::read_to_string(&older).unwrap().replace("\n4\n", "\n5\n"));
    fail(
        None,
        &["check", &without, "--key", &audited.key, "--checkpoint", &altered],
        1,
        "that you hold is not believed",
    );
    // Nor does the log prove anything beside a checkpoint that is not its own.
    fail(Some(&audited.server), &["prove", "3", "--checkpoint", &altered], 1, "not believed");
    let other = tempfile::tempdir().unwrap();
    let server = Server::start(other.path());
    deliver(&server, 1..20);
    let foreign = audited.file("foreign", &checkpoint(&server));
    fail(Some(&audited.server), &["prove", "3", "--checkpoint", &foreign], 1, "but this log is");
    fail(
        None,
        &[
            "check",
            &without,
            "--key",
            &audited.key,
            "--key",
            &key(&server),
            "--checkpoint",
            &foreign,
        ],
        1,
        "it is of the log",
    );
    fail(
        Some(&audited.server),
        &["prove", "3", "--checkpoint", &without],
        1,
        "it is not a signed checkpoint",
    );
    for absent in ["11", "event_11", "0"] {
        fail(Some(&audited.server), &["prove", absent], 1, "Record not found");
    }
}

#[test]
fn two_signed_checkpoints_of_one_size_are_called_what_they_are() {
    // Two copies of one folder that go on apart: the same log, the same key, two histories.
    let audited = audited();
    let fork = audited.folder.path().join("fork");
    fs::create_dir(&fork).unwrap();
    let Audited { folder, server, key, .. } = audited;
    assert_eq!(server.stop(), 0);
    copy(&folder.path().join("data"), &fork);
    let (one, two) = (Server::start(&folder.path().join("data")), Server::start(&fork));
    deliver(&one, 11..12);
    deliver(&two, 12..13);
    let (proof, held) = (folder.path().join("proof.json"), folder.path().join("held"));
    fs::write(&proof, succeed(Some(&one), &["prove", "3"])).unwrap();
    fs::write(&held, checkpoint(&two)).unwrap();
    fail(
        None,
        &["check", text(&proof), "--key", &key, "--checkpoint", text(&held)],
        1,
        "the log has shown two histories",
    );
    // Also where the bundle carries both of them, as one has it that was asked to be tied to the
    // other's.
    let mut both: Value = serde_json::from_str(&fs::read_to_string(&proof).unwrap()).unwrap();
    both["older"] = json!([{ "checkpoint": checkpoint(&two), "consistency": [] }]);
    let carries = folder.path().join("both.json");
    fs::write(&carries, both.to_string()).unwrap();
    fail(
        None,
        &["check", text(&carries), "--key", &key, "--checkpoint", text(&held)],
        1,
        "the log has shown two histories",
    );
    fail(None, &["check", text(&carries), "--key", &key], 1, "does not continue");
    // The consistency of one history says nothing about the other.
    deliver(&one, 13..14);
    fail(
        Some(&one),
        &["prove", "3", "--checkpoint", text(&held)],
        1,
        "does not continue the one of 11",
    );
}

#[test]
fn a_proof_outlives_a_change_of_key() {
    let audited = audited();
    let older = text(&audited.older).to_owned();
    let changed = rotate(&audited.server, "every year");
    let second = changed["key"].as_str().unwrap();
    deliver(&audited.server, 11..12);
    let file = audited.file(
        "proof.json",
        &succeed(Some(&audited.server), &["prove", "3", "--checkpoint", &older]),
    );
    // Made by the new key, tied to what the old one signed.
    fail(None, &["check", &file, "--key", &audited.key], 1, "none of the keys given has signed it");
    fail(
        None,
        &["check", &file, "--key", second],
        1,
        "its older checkpoint of 4 records is not believed",
    );
    succeed(
        None,
        &["check", &file, "--key", second, "--key", &audited.key, "--checkpoint", &older],
    );
    // Who trusts the old key only learns the new one from the checkpoint that both have signed.
    let handover = audited.file("handover", changed["handover"].as_str().unwrap());
    let file = audited.file(
        "change.json",
        &succeed(Some(&audited.server), &["prove", "11", "--checkpoint", &handover]),
    );
    let told = succeed(
        None,
        &["check", &file, "--key", &audited.key, "--key", second, "--checkpoint", &handover],
    );
    assert!(
        told.contains(&format!("the log's key is now {second}"))
            && told.contains("an operator of Rollcall, key_"),
        "{told}"
    );
    let vkeys = succeed(Some(&audited.server), &["log-key", "show", "--vkey"]);
    assert_eq!(vkeys, format!("{second}\n{}\n", audited.key));
    succeed(
        None,
        &["check", &file, "--key", &audited.file("log.pub", &vkeys), "--checkpoint", &handover],
    );
    let output = run(Some(&audited.server), &["log-key", "rotate", "--yes", "--note", "once more"]);
    let handover = String::from_utf8(output.stdout).unwrap();
    assert!(is_signed(&handover, second) && is_signed(&handover, &key(&audited.server)));
}

#[test]
fn the_webhooks_own_signature_is_checked_where_its_secret_is_at_hand() {
    let audited = audited();
    let file = audited.file("proof.json", &succeed(Some(&audited.server), &["prove", "3"]));
    let check = |variable: &str, secret: &str| {
        let mut command = Command::new(binary());
        for name in ["ROLLCALL_WEBHOOK_SECRETS", "ROLLCALL_WEBHOOK_SECRET", "WORKOS_WEBHOOK_SECRET"]
        {
            command.env_remove(name);
        }
        let output = command
            .args(["check", &file, "--key", &audited.key, "--json"])
            .env(variable, secret)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", said(&output));
        serde_json::from_slice::<Value>(&output.stdout).unwrap()["webhook_signature"].clone()
    };
    for variable in ["ROLLCALL_WEBHOOK_SECRETS", "ROLLCALL_WEBHOOK_SECRET", "WORKOS_WEBHOOK_SECRET"]
    {
        assert_eq!(check(variable, SECRET), "fits");
        assert_eq!(check(variable, "whsec_other"), "other_secret");
    }
    assert_eq!(check("ROLLCALL_WEBHOOK_SECRETS", &format!("whsec_other,{SECRET}")), "fits");
    // An operator's act has none.
    rotate(&audited.server, "every year");
    let file = audited.file("act.json", &succeed(Some(&audited.server), &["prove", "11"]));
    let told: Value = serde_json::from_str(&succeed(
        None,
        &["check", &file, "--key", &key(&audited.server), "--json"],
    ))
    .unwrap();
    assert_eq!((&told["webhook_signature"], &told["source"]), (&json!("none"), &json!("rollcall")));
    assert!(told["occurred_at"] == told["recorded_at"] && now_ms() > 0);
}

// --- A whole log ---

#[test]
fn a_whole_log_is_compared_with_checkpoints_that_somebody_else_kept() {
    let audited = audited();
    let older = text(&audited.older).to_owned();
    let newer = audited.file("newer", &checkpoint(&audited.server));
    let key = audited.key.clone();
    let Audited { folder, server, .. } = audited;
    assert_eq!(server.stop(), 0);
    let (data, fork) = (folder.path().join("data"), folder.path().join("fork"));
    let verify = |data: &Path, more: &[&str]| {
        let output = run(None, &[&["verify", "--data", text(data), "--json"], more].concat());
        let told: Value = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
        (output.status.code(), told, said(&output))
    };
    let both = ["--key", &key, "--checkpoint", &newer, "--checkpoint", &older];
    let (code, told, _) = verify(&data, &both);
    assert_eq!(
        (code, &told["sound"], &told["checkpoints"]),
        (Some(0), &json!(true), &json!([4, 10])),
        "{told}"
    );
    assert!(
        succeed(None, &[&["verify", "--data", text(&data)], &both[..]].concat())
            .contains("the first 10 records fit the given checkpoint")
    );
    // The log with another past from record 5 on, whole in itself: nothing but a checkpoint kept
    // elsewhere tells.
    let again = tempfile::tempdir().unwrap();
    let server = Server::start(again.path());
    deliver(&server, 1..5);
    assert_eq!(server.stop(), 0);
    fs::create_dir(&fork).unwrap();
    copy(again.path(), &fork);
    let kept = folder.path().join("kept");
    let server = Server::start(again.path());
    let (key, four) = (self::key(&server), checkpoint(&server));
    deliver(&server, 5..11);
    fs::write(&kept, checkpoint(&server)).unwrap();
    assert_eq!(server.stop(), 0);
    let server = Server::start(&fork);
    deliver(&server, 20..23);
    assert_eq!(server.stop(), 0);
    let four = {
        fs::write(folder.path().join("four"), four).unwrap();
        folder.path().join("four")
    };
    assert_eq!(verify(&fork, &[]).0, Some(0));
    let held = ["--key", &key, "--checkpoint", text(&four), "--checkpoint", text(&kept)];
    let (code, told, _) = verify(&fork, &held);
    assert_eq!(
        (code, &told["checkpoints"], &told["findings"][0]["part"]),
        (Some(2), &json!([4]), &json!("checkpoint"))
    );
    assert_eq!(
        (&told["findings"][0]["first"], &told["findings"][0]["last"]),
        (&json!(8), &json!(10)),
        "three records are missing: {told}"
    );
    let server = Server::start(&fork);
    deliver(&server, 23..30);
    assert_eq!(server.stop(), 0);
    let (code, told, said) = verify(&fork, &held);
    assert_eq!(
        (code, &told["first_bad"], &told["findings"][0]["last"]),
        (Some(2), &json!(5), &json!(10)),
        "{told}"
    );
    assert!(said.contains("signed over other records than these"), "{said}");
    // Of another log, by another key, without a key.
    let (code, told, _) = verify(&data, &held);
    assert_eq!((code, told["findings_count"].as_u64()), (Some(2), Some(2)), "{told}");
    let (code, _, said) = verify(&data, &["--key", &key, "--checkpoint", &older]);
    assert!(code == Some(1) && said.contains("is not believed"), "{said}");
    assert_eq!(verify(&data, &["--checkpoint", &older]).0, Some(1));
}
