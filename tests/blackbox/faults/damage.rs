//! Damage to the store's file: nothing that opens the folder changes it, and no record whose bytes
//! are whole is lost.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::faults::kills::copy;
use crate::kit::scale::scale;
use crate::kit::server::{SECRET, Server, binary, signal, user};
use crate::kit::small_disk::SmallDisk;

/// Damages in a run at scale 1.
const DAMAGES: u64 = 10;

/// A server that does not refuse to start is ready within this time.
const READY_WITHIN: Duration = Duration::from_secs(20);

/// The names of all files of a folder, with their hashes.
fn contents(folder: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![folder.to_owned()];
    while let Some(next) = waiting.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(folder).unwrap().display().to_string();
            if path.is_dir() {
                found.insert(name, "a folder".into());
                waiting.push(path);
            } else {
                found.insert(name, hex::encode(Sha256::digest(fs::read(path).unwrap())));
            }
        }
    }
    found
}

fn run(arguments: &[&str], folder: &Path) -> Output {
    let mut command = Command::new(binary());
    command.args(arguments).arg("--data").arg(folder);
    for name in ["ROLLCALL_WEBHOOK_SECRETS", "WORKOS_WEBHOOK_SECRET", "ROLLCALL_CHECKPOINT_KEY"] {
        command.env_remove(name);
    }
    command.output().unwrap()
}

fn json_of(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_default()
}

/// Starts a server. Returns its exit code, and what it says, if it refuses to start.
fn refusal(folder: &Path) -> Option<(i32, String)> {
    let mut server = Command::new(binary())
        .args(["serve", "--listen", "127.0.0.1:0", "--data"])
        .arg(folder)
        .env("ROLLCALL_WEBHOOK_SECRETS", SECRET)
        .env("ROLLCALL_API_KEYS", "a-key-of-this-test-long-enough")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let stderr = std::io::BufReader::new(server.stderr.take().unwrap());
    let (mut said, begun) = (String::new(), Instant::now());
    for line in std::io::BufRead::lines(stderr).map_while(Result::ok) {
        said += &line;
        said.push('\n');
        if line.contains("ready") || begun.elapsed() > READY_WITHIN {
            signal(server.id(), "TERM");
        }
    }
    let code = server.wait().unwrap().code().unwrap();
    (code != 0).then_some((code, said))
}

/// Fills a log with some hundred records, some of them larger than a value of the store.
fn fill(folder: &Path) -> Server {
    let server = Server::start(folder);
    for n in 0..160 {
        let name = match n % 40 {
            7 => "x".repeat(90_000),
            _ => format!("name {n}"),
        };
        server.deliver(&user(
            &format!("u{n}"),
            "d",
            &name,
            "2025-01-01T00:00:00.000Z",
            &format!("event_{n}"),
            "dsync.user.created",
        ));
    }
    server
}

fn written_end(db: &Path) -> u64 {
    let bytes = fs::read(db).unwrap();
    bytes.iter().rposition(|byte| *byte != 0).unwrap() as u64 + 1
}

/// Damages the store's file at `at`, in one of four ways.
fn damage(db: &Path, way: u64, at: u64, numbers: &mut SmallRng) {
    let file = fs::File::options().read(true).write(true).open(db).unwrap();
    let mut bytes = [0; 4096];
    match way {
        0 => {
            file.read_exact_at(&mut bytes[..1], at).unwrap();
            bytes[0] ^= 1 << numbers.random_range(0..8);
            file.write_all_at(&bytes[..1], at).unwrap();
        }
        1 => file.write_all_at(&bytes, at).unwrap(),
        2 => {
            numbers.fill(&mut bytes);
            file.write_all_at(&bytes, at).unwrap();
        }
        _ => file.set_len(at).unwrap(),
    }
}

/// Salvages and checks that every record is accounted for. Returns the outcome.
fn salvage(folder: &Path, from: &[&Path], acknowledged: u64) -> Value {
    let around = tempfile::tempdir().unwrap();
    let new = around.path().join("new");
    let mut arguments = vec!["salvage", "--json", "--out", new.to_str().unwrap()];
    from.iter().for_each(|from| arguments.extend(["--from", from.to_str().unwrap()]));
    let output = run(&arguments, folder);
    let outcome = json_of(&output);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let gaps: Vec<(u64, u64)> = serde_json::from_value(outcome["missing"].clone()).expect(&said);
    let missing: u64 = gaps.iter().map(|(first, last)| last - first + 1).sum();
    assert_eq!(outcome["recovered"].as_u64().unwrap() + missing, acknowledged, "{outcome}");
    assert_eq!(output.status.code(), Some(if missing == 0 { 0 } else { 2 }), "{outcome} {said}");
    assert!(new.is_dir());
    outcome
}

#[test]
fn nothing_that_opens_a_damaged_folder_changes_it_and_a_copy_brings_back_every_record() {
    let mut numbers = SmallRng::seed_from_u64(11);
    let folder = tempfile::tempdir().unwrap();
    let server = fill(folder.path());
    let killed = tempfile::tempdir().unwrap();
    copy(folder.path(), killed.path());
    assert_eq!(server.stop(), 0);
    let whole = contents(folder.path());
    let found = run(&["verify", "--json"], folder.path());
    assert_eq!((found.status.code(), contents(folder.path()) == whole), (Some(0), true));
    let found = json_of(&found);
    let (head, root) = (found["records"].as_u64().unwrap(), found["tree"]["root"].clone());
    let (mut refused, mut started) = (0, 0);
    for round in 0..DAMAGES * scale() {
        let damaged = tempfile::tempdir().unwrap();
        let original = if round % 2 == 0 { folder.path() } else { killed.path() };
        copy(original, damaged.path());
        let db = damaged.path().join("store/db");
        let at = numbers.random_range(0..written_end(&db));
        damage(&db, round % 4, at, &mut numbers);
        let case = format!("round {round}, way {}, at {at}", round % 4);
        let before = contents(damaged.path());
        let verified = run(&["verify", "--json"], damaged.path());
        assert!(matches!(verified.status.code(), Some(0 | 2)), "{case}");
        run(&["directories"], damaged.path());
        let outcome = salvage(damaged.path(), &[], head);
        let outcome_with_copy = salvage(damaged.path(), &[folder.path()], head);
        assert!(contents(damaged.path()) == before, "{case}");
        assert_eq!(outcome["acknowledged"], head, "{case}");
        assert_eq!(
            outcome_with_copy,
            json!({ "acknowledged": head, "recovered": head, "missing": [], "root": root }),
            "{case}"
        );
        match refusal(damaged.path()) {
            Some((code, said)) => {
                assert_eq!((code, verified.status.code()), (2, Some(2)), "{case}: {said}");
                assert!(said.contains("`rollcall salvage"), "{case}: {said}");
                assert!(contents(damaged.path()) == before, "{case}: {said}");
                refused += 1;
            }
            None => {
                let found = json_of(&run(&["verify", "--json"], damaged.path()));
                assert_eq!(found["tree"]["root"], root, "{case}");
                started += 1;
            }
        }
    }
    assert!(refused > 0 && refused + started == DAMAGES * scale(), "{refused} {started}");
}

#[test]
fn a_folder_on_a_read_only_disk_is_verified_read_and_salvaged() {
    let Some(disk) = SmallDisk::mount(64) else { return };
    let server = fill(&disk.data());
    assert_eq!(server.stop(), 0);
    disk.remount("ro");
    assert_eq!(run(&["verify"], &disk.data()).status.code(), Some(0));
    let listed = run(&["directories"], &disk.data());
    assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
    assert_eq!(salvage(&disk.data(), &[], 160)["missing"], json!([]));
    disk.remount("rw");
}
