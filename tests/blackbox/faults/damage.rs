//! Damage to the store's file: nothing that opens the folder changes it, and no record whose bytes
//! are whole is lost.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::faults::archives::{self, deliver, said, start_and_listen, text, wait_for};
use crate::faults::backups::backup;
use crate::faults::kills::copy;
use crate::kit::exposition::Scrape;
use crate::kit::scale::{check_each, scale};
use crate::kit::server::{SECRET, Server, binary, signal, user};
use crate::kit::small_disk::SmallDisk;

/// Damages in a run at scale 1.
const DAMAGES: u64 = 10;

/// A server that does not refuse to start is ready within this time.
const READY_WITHIN: Duration = Duration::from_secs(20);

/// The names of all files of a folder, with their hashes, and of all else, with its kind.
pub fn contents(folder: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![folder.to_owned()];
    while let Some(next) = waiting.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(folder).unwrap().display().to_string();
            let kind = fs::symlink_metadata(&path).unwrap().file_type();
            if kind.is_dir() {
                found.insert(name, "a folder".into());
                waiting.push(path);
            } else if kind.is_file() {
                found.insert(name, hex::encode(Sha256::digest(fs::read(path).unwrap())));
            } else {
                found.insert(name, format!("{kind:?} {:?}", fs::read_link(path).ok()));
            }
        }
    }
    found
}

pub fn run(arguments: &[&str], folder: &Path) -> Output {
    let mut command = Command::new(binary());
    command.args(arguments).arg("--data").arg(folder);
    for name in ["ROLLCALL_WEBHOOK_SECRETS", "WORKOS_WEBHOOK_SECRET", "ROLLCALL_CHECKPOINT_KEY"] {
        command.env_remove(name);
    }
    command.output().unwrap()
}

pub fn json_of(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_default()
}

/// Starts a server. Returns its exit code, and what it says, if it refuses to start.
pub fn refusal(folder: &Path) -> Option<(i32, String)> {
    refused_start(folder, &[])
}

/// As [`refusal`], with more options.
pub fn refused_start(folder: &Path, options: &[&str]) -> Option<(i32, String)> {
    let mut command = Command::new(binary());
    command.env_remove("AWS_ACCESS_KEY_ID");
    refused_command(command, folder, options)
}

/// As [`refusal`], by a command with an environment of its own.
pub fn refused_command(
    mut command: Command,
    folder: &Path,
    options: &[&str],
) -> Option<(i32, String)> {
    let mut server = command
        .args(["serve", "--listen", "127.0.0.1:0", "--data"])
        .arg(folder)
        .args(options)
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

/// Makes a backup in the new folder `out`. Returns what it has.
fn back_up(server: &Server, out: &Path) -> Value {
    let (code, printed, told) = said(&backup(server, text(out), true));
    assert_eq!(code, 0, "{told}");
    printed
}

/// Fills a log with some hundred records, some of them larger than a value of the store.
pub fn fill(folder: &Path) -> Server {
    fill_with(folder, &[])
}

/// As [`fill`], by a server with more options.
fn fill_with(folder: &Path, options: &[&str]) -> Server {
    let server = Server::start_with(folder, options);
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

/// Stops a server, which leaves a snapshot, and fills its log with some more records by another one:
/// a copy of the running server's folder has an old snapshot then, and the stopped folder a current
/// one.
fn after_snapshot(server: Server, folder: &Path, options: &[&str]) -> Server {
    assert_eq!(server.stop(), 0);
    let server = Server::start_with(folder, options);
    deliver(&server, 1000..1005);
    server
}

pub fn written_end(db: &Path) -> u64 {
    let bytes = fs::read(db).unwrap();
    bytes.iter().rposition(|byte| *byte != 0).map_or(1, |at| at as u64 + 1)
}

/// Damages the store's file at `at`, in one of four ways.
pub fn damage(db: &Path, way: u64, at: u64, numbers: &mut SmallRng) {
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
    let killed = tempfile::tempdir().unwrap();
    let server = after_snapshot(fill(folder.path()), folder.path(), &[]);
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
        if round % 3 == 2 {
            fs::remove_file(damaged.path().join("snapshot")).unwrap();
        }
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
            json!({
                "acknowledged": head, "recovered": head, "missing": [], "lost": [], "root": root,
            }),
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

/// Checks what commands answer from a damaged folder in which these records cannot be read: all the
/// others, and an exit code and a message that say what is missing.
fn check_commands(damaged: &Path, missing: &Value, case: &str) {
    let gaps: Vec<(u64, u64)> = serde_json::from_value(missing.clone()).unwrap();
    let before = contents(damaged);
    let told = match gaps.first() {
        Some((first, last)) if last > first => format!("records {first} to {last}"),
        Some((first, _)) => format!("record {first}"),
        None => "no record is missing".to_owned(),
    };
    let answer = |arguments: &[&str]| {
        let output = run(arguments, damaged);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{case} {arguments:?} {said}");
        let helps = ["is damaged", &told, "`rollcall verify", "`rollcall salvage"];
        assert!(helps.iter().all(|part| said.contains(part)), "{case} {arguments:?} {said}");
        String::from_utf8(output.stdout).unwrap()
    };
    let is_missing = |seq| gaps.iter().any(|(first, last)| (*first..=*last).contains(&seq));
    // The record n + 1 is of the user n.
    let expected: Vec<String> =
        (0..160).filter(|n| !is_missing(n + 1)).map(|n| format!("u{n}")).collect();
    let users = answer(&["users", "--directory", "d", "--json"]);
    let users = users.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let mut users: Vec<String> =
        users.map(|user| user["id"].as_str().unwrap().to_owned()).collect();
    users.sort_by_key(|id| id[1..].parse::<u64>().unwrap());
    assert_eq!(users, expected, "{case}");
    let status = answer(&["status"]);
    let verdict = status.lines().next().unwrap();
    assert!(verdict.ends_with("attention") && status.contains(&told), "{case} {status}");
    answer(&["quarantine"]);
    answer(&["users", "nobody"]);
    assert!(contents(damaged) == before, "{case}");
}

#[test]
fn commands_over_a_damaged_folder_answer_from_what_is_left_and_say_what_is_missing() {
    let around = tempfile::tempdir().unwrap();
    let whole = around.path().join("whole");
    assert_eq!(fill(&whole).stop(), 0);
    let end = written_end(&whole.join("store/db"));
    // A cut costs records. Of what sled has written again since a flipped bit costs none.
    let (mut costly, mut free) = (0, 0);
    for (number, (way, part)) in [(3, 50), (3, 80), (0, 20), (0, 40), (0, 60)].iter().enumerate() {
        let [damaged, out] =
            ["damaged", "out"].map(|name| around.path().join(format!("{name}-{number}")));
        copy(&whole, &damaged);
        let mut numbers = SmallRng::seed_from_u64(number as u64);
        damage(&damaged.join("store/db"), *way, end * part / 100, &mut numbers);
        if run(&["verify"], &damaged).status.success() {
            continue;
        }
        let missing = salvage_into(&damaged, &[], &out)["missing"].clone();
        check_commands(&damaged, &missing, &format!("way {way}, at {part} %"));
        *(if missing == json!([]) { &mut free } else { &mut costly }) += 1;
    }
    assert!(costly > 0 && free > 0, "{costly} {free}");
}

/// Restores into `data`. Returns the exit code, what it prints and what it says.
fn restore(from: &Path, data: &Path) -> (i32, Value, String) {
    archives::restore(text(from), data)
}

/// Salvages `folder` into the new folder `out`.
pub fn salvage_into(folder: &Path, from: &[&Path], out: &Path) -> Value {
    salvage_said(folder, from, out).1
}

/// Fills a log in which one event of an id contradicts another and a body has no id, with acts of
/// operators. Returns its stopped folder, and what it answers.
pub fn filled_with_all_kinds(folder: &Path) -> Vec<String> {
    let server = fill(folder);
    let at = "2025-02-01T00:00:00.000Z";
    server.deliver(&user("u1", "d", "another", at, "event_1", "dsync.user.created"));
    server.deliver("[1, 2]");
    server.deliver(&user("u2", "d", "later", at, "event_later", "dsync.user.updated"));
    let answers = answers(&server);
    assert_eq!(server.stop(), 0);
    answers
}

/// Asks for lists, for a part of the past, for one record and its proof.
fn answers(server: &Server) -> Vec<String> {
    let paths = [
        "/directory_users?limit=100",
        "/events?limit=100&events=dsync.user.created",
        "/rollcall/v1/users/u1/history",
        "/rollcall/v1/quarantine",
        "/directory_users?limit=100&known_at=100",
        "/rollcall/v1/log/entries/161",
        "/rollcall/v1/log/entries/8",
        "/rollcall/v1/log/proof/inclusion?seq=8&size=163",
        "/rollcall/v1/log/checkpoint",
    ];
    let text = |path: &&str| {
        let answer = server.get(path);
        format!("{path} {} {}", answer.status, String::from_utf8_lossy(&answer.body))
    };
    paths.iter().map(text).collect()
}

#[test]
fn what_is_salvaged_with_a_copy_is_restored_to_a_log_with_the_same_root_and_answers() {
    let around = tempfile::tempdir().unwrap();
    let [data, copied, alone, complete, restored] =
        ["data", "copied", "alone", "complete", "restored"].map(|name| around.path().join(name));
    let before = filled_with_all_kinds(&data);
    copy(&data, &copied);
    let root = json_of(&run(&["verify", "--json"], &data))["tree"]["root"].clone();
    let db = data.join("store/db");
    // sled writes a page again and again, so only a cut is sure to cost records.
    damage(&db, 3, written_end(&db) / 2, &mut SmallRng::seed_from_u64(3));
    let outcome = salvage_into(&data, &[], &alone);
    assert!(!outcome["missing"].as_array().unwrap().is_empty(), "{outcome}");
    // Without a copy the missing records are named, and there is no folder.
    let (code, printed, said) = restore(&alone, &restored);
    let first = outcome["missing"][0][0].to_string();
    assert_eq!((code, printed, restored.exists()), (2, Value::Null, false), "{said}");
    assert!(said.contains(&first) && said.contains("missing in"), "{said}");
    // The leaves of lost records are kept.
    let leaves = fs::read_to_string(alone.join("lost-leaves.ndjson")).unwrap();
    assert!(leaves.contains(&format!("\"seq\":{first}")), "{leaves}");
    // What was salvaged and the copy together are complete.
    assert_eq!(salvage_into(&data, &[&alone, &copied], &complete)["missing"], json!([]));
    let (code, printed, said) = restore(&complete, &restored);
    assert_eq!((code, &printed), (0, &json!({ "seq": 163, "root": root })), "{said}");
    assert_eq!(restore(&complete, &restored).0, 1, "a folder that is there is left alone");
    let found = run(&["verify", "--json"], &restored);
    assert_eq!((found.status.code(), &json_of(&found)["tree"]["root"]), (Some(0), &root));
    // The private key is not in the archive. A start without it is refused, and changes nothing.
    assert!(!restored.join("checkpoint-key").exists());
    let before_refusal = contents(&restored);
    let (code, said) = refusal(&restored).unwrap();
    assert!(code == 1 && said.contains("checkpoint-key"), "{said}");
    assert!(contents(&restored) == before_refusal, "{said}");
    fs::copy(data.join("checkpoint-key"), restored.join("checkpoint-key")).unwrap();
    let server = Server::start(&restored);
    assert_eq!(answers(&server), before);
    // It goes on, and knows every event.
    server.deliver(&user("n", "d", "n", "2025-03-01T00:00:00.000Z", "new", "dsync.user.created"));
    server.deliver(&user(
        "u3",
        "d",
        "name 3",
        "2025-01-01T00:00:00.000Z",
        "event_3",
        "dsync.user.created",
    ));
    assert_eq!(server.stop(), 0);
    let found = run(&["verify", "--json"], &restored);
    let records = json_of(&found)["records"].clone();
    assert_eq!((found.status.code(), records), (Some(0), json!(164)));
}

/// Salvages `data` into the new folder `out`. Returns the exit code, what it prints and what it says.
fn salvage_said(data: &Path, from: &[&Path], out: &Path) -> (i32, Value, String) {
    let mut arguments = vec!["salvage", "--json", "--out", text(out)];
    from.iter().for_each(|from| arguments.extend(["--from", text(from)]));
    said(&run(&arguments, data))
}

fn remove(path: &Path) {
    match path.is_dir() {
        true => fs::remove_dir_all(path).unwrap(),
        false => fs::remove_file(path).unwrap(),
    }
}

#[test]
fn whatever_is_missing_of_a_folder_is_filled_from_copies_of_the_same_log() {
    let around = tempfile::tempdir().unwrap();
    let at = |name: &str| around.path().join(name);
    let server = Server::start(&at("data"));
    deliver(&server, 0..5);
    assert_eq!(server.stop(), 0);
    copy(&at("data"), &at("copy"));
    let verified = json_of(&run(&["verify", "--json"], &at("copy")));
    let (root, log_id) = (verified["tree"]["root"].clone(), verified["log_id"].clone());
    let tree = ["tree", "checkpoint-key.pub"];
    for (removed, acknowledged, root_alone) in [
        (&["store/db"][..], json!(5), root.clone()),
        (&["store"], json!(5), root.clone()),
        // Nothing vouches for a leaf any more.
        (&["store", tree[0], tree[1]], json!(5), Value::Null),
        (&["store/db", "checkpoint", tree[0], tree[1]], Value::Null, Value::Null),
    ] {
        copy(&at("copy"), &at("lacking"));
        removed.iter().for_each(|name| remove(&at("lacking").join(name)));
        let before = contents(&at("lacking"));
        let (code, printed, said) = salvage_said(&at("lacking"), &[], &at("alone"));
        if acknowledged.is_null() {
            assert!(code == 2 && said.contains("not even its name"), "{removed:?}: {code} {said}");
            assert!(!at("alone").exists());
        } else {
            let expected = json!({
                "acknowledged": 5, "recovered": 0, "missing": [[1, 5]], "lost": [],
                "root": root_alone,
            });
            assert_eq!((code, &printed), (2, &expected), "{removed:?}: {said}");
            remove(&at("alone"));
        }
        let (code, printed, said) = salvage_said(&at("lacking"), &[&at("copy")], &at("out"));
        let expected = json!({
            "acknowledged": acknowledged, "recovered": 5, "missing": [], "lost": [], "root": root,
        });
        assert_eq!((code, &printed), (0, &expected), "{removed:?}: {said}");
        assert!(contents(&at("lacking")) == before, "{removed:?}");
        let (code, printed, said) = restore(&at("out"), &at("new"));
        assert_eq!((code, &printed), (0, &json!({ "seq": 5, "root": root })), "{said}");
        assert!(at("new").join("checkpoint-key.pub").exists(), "{removed:?}");
        for name in ["lacking", "out", "new"] {
            remove(&at(name));
        }
    }
    // A wrong path, and a folder that never held a log, are mistakes of the caller.
    fs::create_dir(at("empty")).unwrap();
    for name in ["nowhere", "empty"] {
        let (code, _, said) = salvage_said(&at(name), &[&at("copy")], &at("out"));
        assert!(code == 1 && said.contains("is not a Rollcall data folder"), "{code} {said}");
    }
    // So is a copy of another log, in each of its forms. Both are named.
    let server = Server::start(&at("other"));
    deliver(&server, 0..2);
    assert_eq!(server.stop(), 0);
    let other_id = json_of(&run(&["verify", "--json"], &at("other")))["log_id"].clone();
    let (code, _, said) = salvage_said(&at("other"), &[], &at("other-salvaged"));
    assert_eq!(code, 0, "{said}");
    for other in ["other", "other-salvaged"] {
        let (code, _, said) = salvage_said(&at("data"), &[&at("copy"), &at(other)], &at("out"));
        let names = |id: &Value| said.contains(id.as_str().unwrap());
        assert!(code == 1 && names(&log_id) && names(&other_id), "{other}: {code} {said}");
        assert!(!at("out").exists(), "{other}");
    }
}

#[test]
fn where_no_file_says_how_many_records_there_were_none_claims_that_all_are_there() {
    let around = tempfile::tempdir().unwrap();
    let at = |name: &str| around.path().join(name);
    for (copied, numbers) in [("older", 0..3), ("copy", 3..5)] {
        let server = Server::start(&at("data"));
        deliver(&server, numbers);
        assert_eq!(server.stop(), 0);
        copy(&at("data"), &at(copied));
    }
    let salvaged = |from: &[&Path]| {
        let (code, printed, said) = salvage_said(&at("data"), from, &at("out"));
        remove(&at("out"));
        (code, (printed["recovered"].clone(), printed["acknowledged"].clone()), said)
    };
    // The tiles alone still say it.
    remove(&at("data/checkpoint"));
    let whole = (json!(5), Value::Null);
    let (code, printed, said) = salvaged(&[]);
    assert_eq!((code, &printed), (0, &whole), "{said}");
    remove(&at("data/tree"));
    let (code, printed, said) = salvaged(&[]);
    assert_eq!((code, &printed), (2, &whole), "{said}");
    assert!(said.contains("cannot be noticed") && said.contains("--from"), "{said}");
    // A copy says it if it goes as far.
    let (older, copied) = (at("older"), at("copy"));
    assert_eq!(salvaged(&[&older]).0, 2);
    assert_eq!(salvaged(&[&copied]).0, 0);
    for command in ["verify", "status"] {
        let output = run(&[command], &at("data"));
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{command}: {said}");
        assert!(!said.contains("every record can be read"), "{command}: {said}");
        let helps = ["cannot be noticed", "--archive", "`rollcall salvage"];
        assert!(helps.iter().all(|part| said.contains(part)), "{command}: {said}");
    }
}

#[test]
fn a_salvaged_folder_that_was_copied_only_in_part_is_refused_and_the_file_named() {
    let around = tempfile::tempdir().unwrap();
    let at = |name: &str| around.path().join(name);
    let server = Server::start(&at("data"));
    deliver(&server, 0..3);
    assert_eq!(server.stop(), 0);
    assert_eq!(salvage_into(&at("data"), &[], &at("out"))["missing"], json!([]));
    for name in ["salvage.json", "checkpoint-key.pub"] {
        let kept = fs::read(at("out").join(name)).unwrap();
        fs::remove_file(at("out").join(name)).unwrap();
        let (code, _, said) = restore(&at("out"), &at("new"));
        assert!(code == 2 && said.contains(name) && !at("new").exists(), "{code} {said}");
        fs::write(at("out").join(name), kept).unwrap();
    }
    let (code, printed, said) = restore(&at("out"), &at("new"));
    assert_eq!((code, &printed["seq"]), (0, &json!(3)), "{said}");
}

#[test]
fn a_refused_start_names_the_archive_if_there_is_one_and_no_copy_that_it_knows_nothing_of() {
    let around = tempfile::tempdir().unwrap();
    let [data, archive] = ["data", "archive"].map(|name| around.path().join(name));
    let server = Server::start(&data);
    deliver(&server, 0..3);
    assert_eq!(server.stop(), 0);
    fs::remove_dir_all(data.join("store")).unwrap();
    fs::create_dir(&archive).unwrap();
    let place = archive.to_str().unwrap();
    let (code, said) = refusal(&data).unwrap();
    assert!(code == 2 && said.contains("`rollcall salvage --data"), "{code} {said}");
    assert!(!said.contains("restore") && !said.contains("backup"), "{said}");
    let (code, said) = refused_start(&data, &["--archive", place]).unwrap();
    let advice = format!("`rollcall restore --from {place} --data NEW`");
    assert!(code == 2 && said.contains("`rollcall salvage --data"), "{code} {said}");
    assert!(said.contains(&advice) && !said.contains("backup"), "{said}");
}

#[test]
fn an_archive_that_is_damaged_or_lacks_its_end_is_refused_and_no_folder_is_made() {
    let around = tempfile::tempdir().unwrap();
    let [data, archive, restored] =
        ["data", "archive", "restored"].map(|name| around.path().join(name));
    assert_eq!(fill(&data).stop(), 0);
    assert_eq!(salvage_into(&data, &[], &archive)["recovered"], 160);
    let name = |name: &str| archive.join(name);
    let segment = fs::read_dir(&archive).unwrap().map(|entry| entry.unwrap().path());
    let segment =
        segment.into_iter().find(|path| path.extension() == Some("zst".as_ref())).unwrap();
    let list = fs::read_to_string(name("salvage.json")).unwrap();
    let refused = |expected: &str| {
        let (code, _, said) = restore(&archive, &restored);
        assert!(said.contains(expected), "{expected}: {said}");
        let left: Vec<_> = fs::read_dir(around.path()).unwrap().collect();
        assert_eq!(left.len(), 2, "nothing is left of it: {said}");
        code
    };
    // Records that were acknowledged are missing at the end.
    let more = list.replace("\"acknowledged\":160", "\"acknowledged\":162");
    fs::write(name("salvage.json"), more).unwrap();
    assert_eq!(refused("records 161 to 162 are missing"), 2);
    // The root of fewer is another.
    let fewer = list.replace("\"acknowledged\":160", "\"acknowledged\":159");
    fs::write(name("salvage.json"), fewer).unwrap();
    assert_eq!(refused("another root"), 2);
    fs::write(name("salvage.json"), "{").unwrap();
    assert_eq!(refused("salvage.json"), 2);
    fs::write(name("salvage.json"), &list).unwrap();
    let whole = fs::read(&segment).unwrap();
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    for damaged in [&flipped[..], &whole[..whole.len() / 2], &[]] {
        fs::write(&segment, damaged).unwrap();
        assert_eq!(refused("ndjson.zst` is damaged"), 2);
    }
    fs::remove_file(&segment).unwrap();
    assert_eq!(refused("it is missing, and there is no other segment"), 2);
    fs::write(&segment, whole).unwrap();
    assert_eq!(restore(&archive, &restored).1["seq"], 160);
}

/// The files of a folder that have bytes, but for the log's lock.
fn files(folder: &Path) -> Vec<String> {
    let is_full = |name: &String| {
        let path = folder.join(name);
        path.is_file() && fs::metadata(&path).unwrap().len() > 0 && name != "lock"
    };
    contents(folder).into_keys().filter(is_full).collect()
}

/// A stopped folder and one that a kill left, an archive and a backup of them, all with `head`
/// records and this root.
struct Originals {
    whole: tempfile::TempDir,
    killed: tempfile::TempDir,
    archive: tempfile::TempDir,
    around: tempfile::TempDir,
    head: u64,
    root: Value,
}

impl Originals {
    fn new() -> Originals {
        let [whole, killed, archive, around] = [(); 4].map(|()| tempfile::tempdir().unwrap());
        let options = ["--archive", archive.path().to_str().unwrap()];
        let server = fill_with(whole.path(), &options);
        let server = after_snapshot(server, whole.path(), &options);
        copy(whole.path(), killed.path());
        back_up(&server, &around.path().join("backup"));
        assert_eq!(server.stop(), 0);
        let found = json_of(&run(&["verify", "--json"], whole.path()));
        let (head, root) = (found["records"].as_u64().unwrap(), found["tree"]["root"].clone());
        Originals { whole, killed, archive, around, head, root }
    }

    /// Returns a folder, an archive or a backup with all records.
    fn copy_for(&self, round: u64) -> PathBuf {
        match round % 3 {
            0 => self.whole.path().to_owned(),
            1 => self.archive.path().to_owned(),
            _ => self.around.path().join("backup"),
        }
    }

    /// Damages one file of a folder, and checks that no record is lost in silence and that a copy, an
    /// archive or a backup brings all back.
    fn survive(&self, round: u64) {
        let mut numbers = SmallRng::seed_from_u64(round);
        let around = tempfile::tempdir().unwrap();
        let [data, new, restored] =
            ["data", "new", "restored"].map(|name| around.path().join(name));
        copy(if round.is_multiple_of(2) { self.whole.path() } else { self.killed.path() }, &data);
        if round % 3 == 2 {
            fs::remove_file(data.join("snapshot")).unwrap();
        }
        let files = files(&data);
        let file = &files[round as usize / 8 % files.len()];
        let path = data.join(file);
        let (way, at) = (round / 2 % 4, numbers.random_range(0..written_end(&path)));
        damage(&path, way, at, &mut numbers);
        let case = format!("round {round}: {file}, way {way}, at {at}");
        let before = contents(&data);
        let verified = run(&["verify", "--json"], &data);
        assert!(matches!(verified.status.code(), Some(0 | 2)), "{case}");
        run(&["directories"], &data);
        let found = salvage_into(&data, &[&self.copy_for(round)], &new);
        assert_eq!(found["missing"], json!([]), "{case} {found}");
        assert_eq!(
            (&found["recovered"], &found["root"]),
            (&json!(self.head), &self.root),
            "{case}"
        );
        let (_, printed, said) = restore(&new, &restored);
        assert_eq!(printed, json!({ "seq": self.head, "root": self.root }), "{case} {said}");
        assert!(contents(&data) == before, "{case}");
        let is_key = file.starts_with("checkpoint-key");
        match refusal(&data) {
            Some(_) if is_key => {}
            Some((code, said)) => {
                assert_eq!(code, 2, "{case} {said}");
                assert!(contents(&data) == before, "{case} {said}");
                assert_eq!(verified.status.code(), Some(2), "{case} {said}");
                return;
            }
            None => {}
        }
        let found = json_of(&run(&["verify", "--json"], &data));
        assert_eq!(
            (&found["records"], &found["tree"]["root"]),
            (&json!(self.head), &self.root),
            "{case}"
        );
    }
}

#[test]
fn damage_to_any_file_costs_no_record_in_silence_and_a_copy_brings_all_back() {
    let originals = Originals::new();
    check_each(0..DAMAGES * scale(), 2, |round| originals.survive(round * 7));
}

/// The entries that a start makes again, or does without.
const REPLACED: [&str; 9] = [
    "store/conf",
    "tree/0",
    "tree/1",
    "tree/2",
    "tree/3",
    "checkpoint-key.pub",
    "pull-cursor",
    "store/snap.0000000000000000",
    "store/x.generating",
];

/// Puts a pipe, or a link to a file elsewhere, in the place of an entry.
fn replace(entry: &Path, elsewhere: &Path, is_link: bool) {
    if entry.exists() {
        fs::remove_file(entry).unwrap();
    }
    if is_link {
        std::os::unix::fs::symlink(elsewhere, entry).unwrap();
    } else {
        let made = Command::new("mkfifo").arg(entry).status().unwrap();
        assert!(made.success());
    }
}

#[test]
fn a_pipe_or_a_link_in_the_place_of_a_file_is_never_waited_for_nor_written_through() {
    let originals = Originals::new();
    let fixed =
        ["lock", "unclean", "checkpoint", "answered", "store/db", "checkpoint-key", "tree/0"];
    let all: Vec<&str> = fixed.into_iter().chain(REPLACED).collect();
    check_each(0..2 * all.len() as u64, 2, |round| {
        let (name, is_link) = (all[round as usize / 2], round % 2 == 1);
        let around = tempfile::tempdir().unwrap();
        let [data, elsewhere] = ["data", "elsewhere"].map(|name| around.path().join(name));
        copy(originals.whole.path(), &data);
        fs::write(&elsewhere, "not Rollcall's").unwrap();
        replace(&data.join(name), &elsewhere, is_link);
        let before = contents(around.path());
        let verified = run(&["verify", "--json"], &data);
        run(&["directories"], &data);
        assert!(contents(around.path()) == before, "{name} {is_link}");
        let refused = refusal(&data);
        assert_eq!(fs::read(&elsewhere).unwrap(), b"not Rollcall's", "{name}");
        if name == "unclean" {
            let (code, said) = refused.clone().unwrap();
            assert!(code == 2 && said.contains("and not a file: remove it"), "{code} {said}");
            let told = run(&["verify"], &data).stderr;
            let told = String::from_utf8_lossy(&told);
            assert!(told.contains("remove `unclean`") && !told.contains("a copy"), "{told}");
        }
        match refused {
            Some((code, said)) => {
                assert!(!REPLACED.contains(&name), "{name} {is_link}: {said}");
                assert!(contents(around.path()) == before, "{name} {is_link}: {said}");
                let is_key = name == "checkpoint-key";
                assert_eq!(code, 2, "{name}: {said}");
                // A link to the key is followed, and what it leads to is not one.
                assert!(said.contains(name) || (is_key && is_link), "{name}: {said}");
                assert!(verified.status.code() == Some(2), "{name} {is_link}");
            }
            None => {
                let found = run(&["verify", "--json"], &data);
                let found = (found.status.code(), json_of(&found)["tree"]["root"].clone());
                assert_eq!(found, (Some(0), originals.root.clone()), "{name} {is_link}");
            }
        }
    });
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

/// Waits until the state of the scrub fits, and returns it.
fn scrub_when(server: &Server, fits: impl Fn(&Value) -> bool) -> Value {
    wait_for("the scrub", || {
        let state = server.get("/rollcall/v1/stats").json()["scrub"].clone();
        fits(&state).then_some(state)
    })
}

fn metric(server: &Server, name: &str) -> f64 {
    let text = server.get("/metrics").body;
    Scrape::read(std::str::from_utf8(&text).unwrap()).value(name, &[]).unwrap()
}

/// The distance of the bits that are flipped: less than a value of the store can have.
const FLIPPED_EVERY: usize = 50_000;

/// Flips a bit of a file.
pub fn flip(file: &Path, at: usize) {
    let mut bytes = fs::read(file).unwrap();
    bytes[at] ^= 1;
    fs::write(file, bytes).unwrap();
}

/// Flips bits all over a file, but for the first bytes.
fn flip_everywhere(db: &Path) {
    let file = fs::File::options().read(true).write(true).open(db).unwrap();
    for at in (100..written_end(db)).step_by(FLIPPED_EVERY) {
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ 4], at).unwrap();
    }
}

#[test]
fn a_byte_that_flips_in_the_file_of_a_running_server_is_found_and_a_backup_still_has_every_record()
{
    let mut numbers = SmallRng::seed_from_u64(8);
    let around = tempfile::tempdir().unwrap();
    let [data, saved, restored] =
        ["data", "saved", "restored"].map(|name| around.path().join(name));
    let pace = ["--scrub-mib-per-second", "1000", "--scrub-every", "1ms"];
    let server = start_and_listen(&data, &pace);
    for n in 0..4 {
        let mut name = vec![0; 100_000];
        numbers.fill(&mut name[..]);
        let (id, event) = (format!("u{n}"), format!("event_{n}"));
        let at = "2025-01-01T00:00:00.000Z";
        server.deliver(&user(&id, "d", &hex::encode(name), at, &event, "dsync.user.created"));
    }
    for n in 0..10 {
        let (id, event) = (format!("small{n}"), format!("small_event_{n}"));
        let at = "2025-01-01T00:00:00.000Z";
        server.deliver(&user(&id, "d", "small", at, &event, "dsync.user.created"));
    }
    let passes = scrub_when(&server, |state| state["passes"] != json!(0));
    let passes = passes["passes"].as_u64().unwrap();
    // The pass that runs now may have begun before.
    let state = scrub_when(&server, |state| state["passes"].as_u64() >= Some(passes + 2));
    assert!(state["last_pass"]["blocks"].as_u64().unwrap() > 0, "{state}");
    assert_eq!((&state["doubtful"], &state["findings"]), (&json!(0), &json!([])), "{state}");
    // A block has a record at least.
    let blocks = state["last_pass"]["blocks"].as_u64().unwrap() as f64;
    assert!(metric(&server, "rollcall_scrub_records_total") >= blocks, "{state}");
    assert_eq!(metric(&server, "rollcall_scrub_damaged_records"), 0.0);

    flip_everywhere(&data.join("store/db"));
    let state = scrub_when(&server, |state| state["findings"] != json!([]));
    // Every value of the large records is hit, wherever it is. What the store has in its cache can
    // be read.
    let findings = state["findings"].as_array().unwrap();
    let is_named = |seq: u64| {
        findings.iter().any(|finding| {
            let [first, last] = ["first", "last"].map(|end| finding[end].as_u64().unwrap());
            (first..=last).contains(&seq)
        })
    };
    assert!((1..=4).all(is_named), "{state}");
    assert!(findings.iter().all(|finding| finding["in_memory"] == true), "{state}");
    let doubtful = state["doubtful"].as_u64().unwrap();
    assert!(doubtful > 0, "{state}");
    let places: Vec<u64> = serde_json::from_value(state["doubtful_at"].clone()).unwrap();
    let length = fs::metadata(data.join("store/db")).unwrap().len();
    assert!((1..=20).contains(&places.len()) && places.len() as u64 <= doubtful, "{state}");
    assert!(places.is_sorted() && places.iter().all(|place| *place < length), "{state}");
    for (name, field) in [("records", "damaged"), ("places", "doubtful")] {
        let value = metric(&server, &format!("rollcall_scrub_damaged_{name}"));
        assert!(value > 0.0, "{name} {state} {}", state[field]);
    }
    // It serves everything, and a backup has it.
    let ready = server.get("/readyz");
    assert_eq!((ready.status, &ready.json()["parts"]["scrub"]["state"]), (200, &json!("damaged")));
    assert_eq!(server.get("/directories").status, 200);
    let backup = back_up(&server, &saved);
    assert_eq!(backup["seq"], 14);
    let (code, printed, said) = restore(&saved, &restored);
    assert_eq!((code, printed), (0, backup), "{said}");
    let said = server.stop_and_say();
    let named = |line: &str| line.contains("ERROR") && line.contains("`rollcall backup --out");
    assert!(said.lines().any(named), "{said}");
    // Once the server has stopped, what was in its memory is gone.
    let (code, said) = refusal(&data).unwrap();
    assert!(code == 2 && said.contains("`rollcall salvage"), "{code} {said}");
}
