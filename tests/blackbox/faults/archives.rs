//! The archive: nothing that was sealed is lost or overwritten, it never keeps an event from being
//! recorded, and a log that lacks what it holds does not start.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

use crate::calls::metrics::scrape;
use crate::faults::damage::{contents, refused_start};
use crate::faults::full_disk::wait_until;
use crate::faults::kills::copy;
use crate::kit::bucket::{Bucket, Fault};
use crate::kit::scale::scale;
use crate::kit::server::{API_KEY, Server, binary, signal, user};

/// Kills in a run at scale 1.
const KILLS: u64 = 3;

/// Only a hang takes so long.
const WITHIN: Duration = Duration::from_secs(60);

pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < WITHIN, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

pub fn deliver(server: &Server, numbers: std::ops::Range<u64>) {
    for n in numbers {
        server.deliver(&event(n, "a name"));
    }
}

pub fn event(n: u64, name: &str) -> String {
    let at = "2025-01-01T00:00:00.000Z";
    user(&format!("u{n}"), "d", name, at, &format!("event_{n}"), "dsync.user.created")
}

fn archive_of(server: &Server) -> Value {
    server.get("/rollcall/v1/stats").json()["archive"].clone()
}

/// Waits until the archive has every record.
pub fn archived(server: &Server, seq: u64) -> Value {
    wait_for("the archive has every record", || {
        let archive = archive_of(server);
        (archive["seq"] == seq && archive["last_error"].is_null()).then_some(archive)
    })
}

pub fn run(arguments: &[&str]) -> Output {
    let mut command = Command::new(binary());
    command.args(arguments);
    for name in ["ROLLCALL_CHECKPOINT_KEY", "ROLLCALL_ARCHIVE", "AWS_ENDPOINT_URL"] {
        command.env_remove(name);
    }
    command.output().unwrap()
}

pub fn said(output: &Output) -> (i32, Value, String) {
    (
        output.status.code().unwrap(),
        serde_json::from_slice(&output.stdout).unwrap_or_default(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Restores into `data`. Returns the exit code, what it prints and what it says.
pub fn restore(from: &str, data: &Path) -> (i32, Value, String) {
    said(&run(&["restore", "--json", "--from", from, "--data", text(data)]))
}

/// The root of the first `size` records, in hex.
pub fn root(server: &Server, size: u64) -> String {
    use base64::prelude::*;
    let answer = server.get(&format!("/rollcall/v1/log/checkpoint?size={size}"));
    let note = String::from_utf8(answer.body).unwrap();
    hex::encode(BASE64_STANDARD.decode(note.lines().nth(2).unwrap()).unwrap())
}

/// The only log's part of an archive.
pub fn part(archive: &Path) -> PathBuf {
    let parts: Vec<PathBuf> =
        fs::read_dir(archive).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(parts.len(), 1, "{parts:?}");
    parts[0].clone()
}

fn segments(part: &Path) -> Vec<String> {
    let names = fs::read_dir(part).unwrap();
    let mut names: Vec<String> =
        names.map(|name| name.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| name.ends_with(".ndjson.zst"));
    names.sort();
    names
}

#[test]
fn what_is_recorded_is_archived_in_time_and_a_restored_server_goes_on_in_the_same_archive() {
    let around = tempfile::tempdir().unwrap();
    let [data, archive, new] = ["data", "archive", "new"].map(|name| around.path().join(name));
    fs::create_dir(&archive).unwrap();
    let options = ["--archive", text(&archive), "--archive-every", "1h", "--archive-records", "4"];
    let server = Server::start_with(&data, &options);
    let empty = archive_of(&server);
    assert_eq!((&empty["seq"], &empty["lag_records"]), (&json!(0), &json!(0)));
    // Four records are due at once, three are not due for an hour. The first look may come after some
    // of the first ones, so that it takes more until four wait.
    let (mut sent, mut looked_at) = (0, Instant::now());
    let four = wait_for("the archive has every record", || {
        let archive = archive_of(&server);
        if sent > 0 && archive["seq"] == sent {
            return Some(archive);
        }
        // Four that wait are being written, however long that takes.
        let waiting = sent - archive["seq"].as_u64().unwrap_or(0);
        let is_late = looked_at.elapsed() > Duration::from_millis(500);
        if sent < 4 || (waiting < 4 && is_late) {
            deliver(&server, sent..sent + 1);
            (sent, looked_at) = (sent + 1, Instant::now());
        }
        None
    });
    assert_eq!((&four["lag_records"], &four["lag_ms"]), (&json!(0), &json!(0)));
    deliver(&server, sent..sent + 3);
    let lag = |metric: &str| scrape(&server).value(metric, &[]).unwrap();
    assert_eq!(lag("rollcall_archive_lag_records"), 3.0);
    wait_until("a millisecond has passed", || lag("rollcall_archive_lag_seconds") > 0.0);
    let seven = archive_of(&server);
    assert_eq!((&seven["seq"], &seven["lag_records"]), (&json!(sent), &json!(3)));
    let change = server.act("post", "/rollcall/v1/log/key", Some(&json!({})));
    assert_eq!(change.status, 200);
    let changed = sent + 4;
    archived(&server, changed);
    let lags = ["rollcall_archive_lag_records", "rollcall_archive_lag_seconds"];
    assert_eq!(lags.map(lag), [0.0; 2]);
    deliver(&server, changed..changed + 2);
    let head = changed + 2;
    let whole = root(&server, head);
    // A stop leaves nothing out.
    assert_eq!(server.stop(), 0);
    let part = part(&archive);
    assert_eq!(segments(&part).last().unwrap(), &segment(changed + 1, head));
    assert!(part.join("checkpoint-key.pub").exists());
    assert!(part.join(format!("checkpoint-key.handovers/{changed:020}.checkpoint")).exists());
    let (code, restored, told) = restore(text(&archive), &new);
    assert_eq!((code, &restored), (0, &json!({ "seq": head, "root": whole })), "{told}");
    // The private key is not in the archive.
    assert!(!new.join("checkpoint-key").exists());
    let key = data.join("checkpoint-key");
    let options = [&options[..], &["--checkpoint-key", text(&key)]].concat();
    let before = contents(&archive);
    let server = Server::start_with(&new, &options);
    deliver(&server, head..head + 4);
    archived(&server, head + 4);
    let after = contents(&archive);
    assert!(before.iter().all(|(name, hash)| after.get(name) == Some(hash)), "nothing is changed");
    let whole = root(&server, head + 4);
    assert_eq!(server.stop(), 0);
    let again = around.path().join("again");
    assert_eq!(restore(text(&part), &again).1, json!({ "seq": head + 4, "root": whole }));
    // A folder that is there stays as it is.
    let (code, _, told) = restore(text(&part), &again);
    assert_eq!(code, 1, "{told}");
    // The public files are not taken on trust.
    let handover = format!("checkpoint-key.handovers/{changed:020}.checkpoint");
    for name in ["checkpoint-key.pub", &handover] {
        let (path, refused) = (part.join(name), around.path().join("refused"));
        let whole = fs::read(&path).unwrap();
        // A digit of the key, or of the tree hash.
        let mut damaged = whole.clone();
        damaged[60] ^= 1;
        fs::write(&path, damaged).unwrap();
        let (code, _, told) = restore(text(&part), &refused);
        assert!(code == 2 && told.contains(name) && !refused.exists(), "{name}: {code} {told}");
        fs::write(&path, whole).unwrap();
    }
}

#[test]
fn records_that_come_while_a_segment_is_written_wait_together_for_the_next() {
    let around = tempfile::tempdir().unwrap();
    let [data, archive] = ["data", "archive"].map(|name| around.path().join(name));
    fs::create_dir(&archive).unwrap();
    let options = ["--archive", text(&archive), "--archive-every", "1h", "--archive-records", "40"];
    let server = Server::start_with(&data, &options);
    std::thread::scope(|scope| {
        for n in 0..4 {
            let server = &server;
            scope.spawn(move || deliver(server, n * 100..(n + 1) * 100));
        }
    });
    assert_eq!(server.stop(), 0);
    let seqs = segments(&part(&archive)).into_iter().map(|name| {
        let (first, last) = name.trim_end_matches(".ndjson.zst").split_once('-').unwrap();
        (first.parse::<u64>().unwrap(), last.parse::<u64>().unwrap())
    });
    let seqs: Vec<(u64, u64)> = seqs.collect();
    assert_eq!((seqs[0].0, seqs[seqs.len() - 1].1), (1, 400), "{seqs:?}");
    assert!(seqs.windows(2).all(|two| two[0].1 + 1 == two[1].0), "{seqs:?}");
    // The first look may take a few, and the stop takes the rest, which were all recorded before.
    // All others are due once 40 wait.
    let short = seqs.iter().filter(|(first, last)| last - first + 1 < 40).count();
    assert!(short <= 2 && seqs.len() <= 400 / 40 + 2, "{seqs:?}");
}

#[test]
fn short_segments_are_written_once_more_in_a_long_one_which_may_replace_them() {
    let around = tempfile::tempdir().unwrap();
    let [data, archive, new] = ["data", "archive", "new"].map(|name| around.path().join(name));
    fs::create_dir(&archive).unwrap();
    let options = ["--archive", text(&archive), "--archive-records", "512"];
    let server = Server::start_with(&data, &options);
    for batch in 0..8 {
        let lines: Vec<String> = (0..512).map(|n| event(batch * 512 + n, "a name")).collect();
        let url = format!("{}/rollcall/v1/import", server.url);
        assert_eq!(server.send("post", &url, API_KEY, &lines.join("\n")).status, 200);
        archived(&server, (batch + 1) * 512);
    }
    deliver(&server, 4096..4100);
    assert_eq!(root(&server, 4096).len(), 64);
    let whole = root(&server, 4100);
    assert_eq!(server.stop(), 0);
    let part = part(&archive);
    let long = "00000000000000000001-00000000000000004096.ndjson.zst";
    let names = segments(&part);
    assert!(names.len() >= 10 && names.contains(&long.to_owned()), "{names:?}");
    let is_short = |name: &&String| *name != long && name[..20].parse::<u64>().unwrap() <= 4096;
    for name in names.iter().filter(is_short) {
        fs::remove_file(part.join(name)).unwrap();
    }
    assert_eq!(segments(&part).len(), 2);
    let (code, restored, told) = restore(text(&archive), &new);
    assert_eq!((code, restored), (0, json!({ "seq": 4100, "root": whole })), "{told}");
    // The server does not write them again.
    let server = Server::start_with(&data, &options);
    archived(&server, 4100);
    assert_eq!((server.stop(), segments(&part).len()), (0, 2));
}

#[test]
fn kills_lose_nothing_that_was_sealed_and_the_archive_goes_on() {
    let mut numbers = SmallRng::seed_from_u64(16);
    let around = tempfile::tempdir().unwrap();
    let [data, archive] = ["data", "archive"].map(|name| around.path().join(name));
    fs::create_dir(&archive).unwrap();
    let options = ["--archive", text(&archive), "--archive-every", "1s", "--archive-records", "7"];
    let mut sealed: BTreeMap<String, String> = BTreeMap::new();
    let mut next = 0;
    for round in 0..KILLS * scale() {
        let server = Server::start_with(&data, &options);
        let end = next + numbers.random_range(8..60);
        while next < end {
            server.deliver(&event(next, "a name"));
            next += 1;
        }
        signal(server.pid(), "KILL");
        server.wait();
        let found = contents(&archive);
        for (name, hash) in &sealed {
            assert_eq!(found.get(name), Some(hash), "round {round}: {name}");
        }
        sealed = found;
        sealed.retain(|name, _| !name.contains(".unfinished-"));
        if let Some(part) = fs::read_dir(&archive).unwrap().next() {
            let part = part.unwrap().path();
            // As a kill, or a power cut of a careless disk, may leave it.
            fs::write(part.join(".unfinished-x"), "half").unwrap();
            if let Some(newest) = segments(&part).last().filter(|_| round % 2 == 0) {
                let bytes = fs::read(part.join(newest)).unwrap();
                fs::write(part.join(newest), &bytes[..bytes.len() / 2]).unwrap();
                sealed.retain(|name, _| !name.ends_with(newest.as_str()));
            }
        }
    }
    let server = Server::start_with(&data, &options);
    archived(&server, next);
    let whole = root(&server, next);
    assert_eq!(server.stop(), 0);
    let found = contents(&archive);
    assert!(found.keys().all(|name| !name.contains(".unfinished-")));
    assert!(sealed.iter().all(|(name, hash)| found.get(name) == Some(hash)));
    let new = around.path().join("new");
    let (code, restored, told) = restore(text(&archive), &new);
    assert_eq!((code, restored), (0, json!({ "seq": next, "root": whole })), "{told}");
}

/// Starts a server that says warnings.
pub fn start_and_listen(data: &Path, options: &[&str]) -> Server {
    let mut command = Command::new(binary());
    command.env("ROLLCALL_LOG", "warn").stderr(Stdio::piped());
    Server::start_command(command, data, options).keep_stderr()
}

/// The name of a segment.
pub fn segment(first: u64, last: u64) -> String {
    format!("{first:020}-{last:020}.ndjson.zst")
}

#[test]
fn a_damaged_segment_counts_for_nothing_is_named_and_its_records_are_written_in_another() {
    let around = tempfile::tempdir().unwrap();
    let [data, archive, new] = ["data", "archive", "new"].map(|name| around.path().join(name));
    fs::create_dir(&archive).unwrap();
    let options = ["--archive", text(&archive), "--archive-records", "1"];
    let server = Server::start_with(&data, &options);
    for n in 0..4 {
        deliver(&server, n..n + 1);
        archived(&server, n + 1);
    }
    let whole = root(&server, 4);
    assert_eq!(server.stop(), 0);
    let part = part(&archive);
    let each: Vec<String> = (1..=4).map(|seq| segment(seq, seq)).collect();
    assert_eq!(segments(&part), each);
    let check = |damaged: &[&String], written: &[String]| {
        let (names, before) = (segments(&part), contents(&archive));
        let server = start_and_listen(&data, &options);
        let state = archived(&server, 4);
        assert_eq!(state["damaged"], json!(damaged));
        let ready = server.get("/readyz");
        assert_eq!(
            (ready.status, &ready.json()["parts"]["archive"]["state"]),
            (200, &json!("damaged"))
        );
        let said = server.stop_and_say();
        for name in damaged {
            let told = said.lines().any(|line| line.contains("WARN") && line.contains(*name));
            assert!(told, "{name}: {said}");
        }
        let after = contents(&archive);
        assert!(
            before.iter().all(|(name, hash)| after.get(name) == Some(hash)),
            "none is overwritten"
        );
        let new: Vec<String> =
            segments(&part).into_iter().filter(|name| !names.contains(name)).collect();
        assert_eq!(new, written);
    };
    // One record has one name only, so the record before it is repeated.
    fs::write(part.join(&each[1]), "").unwrap();
    check(&[&each[1]], &[segment(1, 2)]);
    // What another segment has is not needed any more.
    let server = Server::start_with(&data, &options);
    assert_eq!(archived(&server, 4)["damaged"], json!([]));
    assert_eq!(server.get("/readyz").json()["parts"]["archive"]["state"], "working");
    assert_eq!(server.stop(), 0);
    // The first is cut off, and what replaced the second; a bit of the newest is flipped.
    for name in [&each[0], &segment(1, 2), &each[2]] {
        let bytes = fs::read(part.join(name)).unwrap();
        fs::write(part.join(name), &bytes[..bytes.len() - 7]).unwrap();
    }
    let mut bytes = fs::read(part.join(&each[3])).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    fs::write(part.join(&each[3]), bytes).unwrap();
    let second = segment(1, 2);
    let damaged = [&each[0], &second, &each[1], &each[2], &each[3]];
    check(&damaged, &[segment(1, 4)]);
    let (code, restored, told) = restore(text(&archive), &new);
    assert_eq!((code, restored), (0, json!({ "seq": 4, "root": whole })), "{told}");
}

#[test]
fn a_log_that_lacks_what_its_archive_holds_does_not_start_unless_that_is_accepted() {
    let around = tempfile::tempdir().unwrap();
    let [data, archive, older, other, empty, restored] =
        ["data", "archive", "older", "other", "empty", "restored"]
            .map(|name| around.path().join(name));
    fs::create_dir(&archive).unwrap();
    let options = ["--archive", text(&archive), "--archive-records", "1"];
    let server = Server::start_with(&data, &options);
    deliver(&server, 0..3);
    archived(&server, 3);
    assert_eq!(server.stop(), 0);
    copy(&data, &older);
    copy(&data, &other);
    let server = Server::start_with(&data, &options);
    deliver(&server, 3..6);
    archived(&server, 6);
    let whole = root(&server, 6);
    assert_eq!(server.stop(), 0);
    let held = contents(&archive);
    // An older copy of the log. A refused start leaves it as it was.
    let before = contents(&older);
    let (code, told) = refused_start(&older, &options).unwrap();
    assert_eq!(code, 2, "{told}");
    assert!(contents(&older) == before, "{told}");
    let advice = format!("`rollcall restore --from {} --data NEW`", text(&archive));
    assert!(told.contains("holds 6 records") && told.contains(&advice), "{told}");
    assert!(told.contains("--accept-fork"), "{told}");
    // Other records with the same numbers.
    let server = Server::start(&other);
    deliver(&server, 10..14);
    assert_eq!(server.stop(), 0);
    let before = contents(&other);
    let (code, told) = refused_start(&other, &options).unwrap();
    assert_eq!(code, 2, "{told}");
    assert!(contents(&other) == before, "{told}");
    assert!(told.contains("another record") && told.contains(&advice), "{told}");
    // An archive in the data folder would be lost with it.
    let inside = older.join("archive");
    fs::create_dir(&inside).unwrap();
    let (code, told) = refused_start(&older, &["--archive", text(&inside)]).unwrap();
    assert!(code == 1 && told.contains("is in the data folder"), "{code} {told}");
    // A new folder, as after the loss of a disk: it is not even made.
    let (code, told) = refused_start(&empty, &options).unwrap();
    assert_eq!((code, empty.exists()), (2, false), "{told}");
    assert!(told.contains("no log") && told.contains(&advice), "{told}");
    assert!(contents(&archive) == held, "nothing was written");
    // What the message names helps.
    let (code, printed, told) = restore(text(&archive), &restored);
    assert_eq!((code, printed), (0, json!({ "seq": 6, "root": whole })), "{told}");
    // A new log next to the old one, under another name.
    let accepting = [&options[..], &["--accept-fork"]].concat();
    let server = Server::start_with(&empty, &accepting);
    deliver(&server, 20..22);
    archived(&server, 2);
    assert_eq!(server.stop(), 0);
    let found = contents(&archive);
    assert!(held.iter().all(|(name, hash)| found.get(name) == Some(hash)));
    // The older copy goes on as another log: its records are there under another id.
    let server = Server::start_with(&older, &accepting);
    deliver(&server, 30..31);
    archived(&server, 4);
    let whole = root(&server, 4);
    let note = server.get("/rollcall/v1/log/checkpoint").body;
    assert_eq!(server.get("/directory_users/u2").status, 200);
    assert_eq!(server.stop(), 0);
    let server = Server::start_with(&older, &options);
    assert_eq!(server.get("/rollcall/v1/log/checkpoint").body, note, "the same log, and key");
    assert_eq!(server.stop(), 0);
    let name = String::from_utf8(note).unwrap().lines().next().unwrap().to_owned();
    let forked = archive.join(name.strip_prefix("rollcall/").unwrap());
    let (code, printed, told) = restore(text(&forked), &around.path().join("forked"));
    assert_eq!((code, printed), (0, json!({ "seq": 4, "root": whole })), "{told}");
    let found = contents(&archive);
    assert!(held.iter().all(|(name, hash)| found.get(name) == Some(hash)));
    // It is accepted once for ever.
    let server = Server::start_with(&empty, &options);
    archived(&server, 2);
    assert_eq!(server.stop(), 0);
    let (code, _, told) = restore(text(&archive), &around.path().join("which"));
    assert!(code == 2 && told.contains("several logs"), "{code} {told}");
}

#[test]
fn an_archive_that_fails_keeps_no_event_from_being_recorded_and_catches_up() {
    let around = tempfile::tempdir().unwrap();
    let [data, archive, away] = ["data", "archive", "away"].map(|name| around.path().join(name));
    fs::create_dir(&archive).unwrap();
    let options = ["--archive", text(&archive), "--archive-records", "1"];
    let server = Server::start_with(&data, &options);
    deliver(&server, 0..2);
    archived(&server, 2);
    fs::rename(&archive, &away).unwrap();
    deliver(&server, 2..9);
    let failing = wait_for("the failure shows", || {
        Some(archive_of(&server)).filter(|archive| archive["last_error"].is_object())
    });
    assert!(failing["last_error"]["message"].as_str().unwrap().contains(text(&archive)));
    let part = |server: &Server| {
        let ready = server.get("/readyz");
        assert_eq!(ready.status, 200, "an archive that fails keeps nothing from being served");
        ready.json()["parts"]["archive"].clone()
    };
    let failing_part = part(&server);
    assert_eq!(failing_part["state"], "failing");
    deliver(&server, 9..10);
    let failing = archive_of(&server);
    assert_eq!((&failing["seq"], &failing["lag_records"]), (&json!(2), &json!(8)), "{failing}");
    assert!(failing["lag_ms"].as_i64().unwrap() > 0 && failing["failures"].as_u64().unwrap() > 0);
    assert_eq!(part(&server), failing_part, "it is as old as the first failure");
    fs::rename(&away, &archive).unwrap();
    archived(&server, 10);
    assert_eq!(part(&server)["state"], "working");
    assert_eq!(server.stop(), 0);
    // A place that is not there, and a bucket without a key, are mistakes of the configuration.
    for (archive, advice) in
        [("/no/such/folder", "is not a folder"), ("s3://b", "AWS_ACCESS_KEY_ID")]
    {
        let (code, told) = refused_start(&data, &["--archive", archive]).unwrap();
        assert!(code == 1 && told.contains(advice), "{code} {told}");
    }
}

#[test]
fn an_archive_in_a_bucket_lives_through_a_server_that_fails() {
    let around = tempfile::tempdir().unwrap();
    let [data, new] = ["data", "new"].map(|name| around.path().join(name));
    let bucket = Bucket::start();
    let secret = around.path().join("secret");
    fs::write(&secret, "a-secret-of-this-test\n").unwrap();
    let environment = [
        ("AWS_ACCESS_KEY_ID", "an-id-of-this-test"),
        ("AWS_SECRET_ACCESS_KEY_FILE", text(&secret)),
        ("AWS_ENDPOINT_URL", bucket.url.as_str()),
        ("AWS_REGION", "eu-north-1"),
        ("ROLLCALL_LOG", "info"),
    ];
    let log = tempfile::NamedTempFile::new().unwrap();
    let options = ["--archive", "s3://backups/rollcall", "--archive-records", "2"];
    let start = || {
        let mut command = Command::new(binary());
        command.envs(environment).stderr(log.reopen().unwrap());
        Server::start_command(command, &data, &options)
    };
    let server = start();
    deliver(&server, 0..4);
    archived(&server, 4);
    for (n, fault) in [Fault::Error, Fault::CutOff, Fault::WrittenButCutOff].into_iter().enumerate()
    {
        let first = 4 + 2 * n as u64;
        bucket.fail(fault);
        deliver(&server, first..first + 2);
        wait_for("the failure shows", || {
            archive_of(&server)["last_error"].is_object().then_some(())
        });
        bucket.mend();
        archived(&server, first + 2);
    }
    let whole = root(&server, 10);
    assert_eq!(server.stop(), 0);
    let held = bucket.objects();
    // Every object was created once: a request that would overwrite was refused.
    assert!(held.keys().all(|name| name.starts_with("backups/rollcall/")), "{:?}", held.keys());
    assert!(bucket.writes().iter().all(|creates_only| *creates_only), "If-None-Match is sent");
    let server = start();
    archived(&server, 10);
    assert_eq!((server.stop(), bucket.objects() == held), (0, true));
    let told = fs::read_to_string(log.path()).unwrap();
    for secret in ["a-secret-of-this-test", "an-id-of-this-test", "X-Amz"] {
        assert!(!told.contains(secret), "{secret} is logged");
    }
    let mut command = Command::new(binary());
    command.envs(environment).args(["restore", "--json", "--from", "s3://backups/rollcall"]);
    let (code, restored, told) = said(&command.arg("--data").arg(&new).output().unwrap());
    assert_eq!((code, restored), (0, json!({ "seq": 10, "root": whole })), "{told}");
    // Salvage takes from it all that a folder lacks.
    let [lacking, out] = ["lacking", "out"].map(|name| around.path().join(name));
    copy(&data, &lacking);
    fs::remove_dir_all(lacking.join("store")).unwrap();
    let mut command = Command::new(binary());
    command.envs(environment).args(["salvage", "--json", "--from", "s3://backups/rollcall"]);
    command.arg("--data").arg(&lacking).arg("--out").arg(&out);
    let (code, salvaged, told) = said(&command.output().unwrap());
    assert_eq!((code, &salvaged["recovered"]), (0, &json!(10)), "{told}");
    // An object that is empty holds nothing: its records are written in another.
    let is_newest = |name: &&String| name.ends_with("10.ndjson.zst");
    let newest = held.keys().find(is_newest).unwrap().clone();
    bucket.put(&newest, b"");
    let server = start();
    let state = archived(&server, 10);
    assert_eq!(state["damaged"], json!([newest.rsplit('/').next().unwrap()]));
    assert_eq!((server.stop(), &bucket.objects()[&newest][..]), (0, &b""[..]));
    // Its two records, one by one.
    assert_eq!(bucket.objects().len(), held.len() + 2);
    // A bucket that does not answer keeps a new log from being begun, and no old one from going on.
    bucket.fail(Fault::Error);
    let mut command = Command::new(binary());
    command.envs(environment);
    let (code, told) =
        crate::faults::damage::refused_command(command, &around.path().join("fresh"), &options)
            .unwrap();
    assert!(code == 2 && told.contains("cannot be told"), "{code} {told}");
    let server = start();
    deliver(&server, 10..11);
    assert_eq!(server.get("/readyz").status, 200);
    bucket.mend();
    archived(&server, 11);
}

/// Writes until it is told to stop. Returns the number of the next event.
pub fn write_until(server: &Server, first: u64, stop: &AtomicBool) -> u64 {
    let mut next = first;
    while !stop.load(Ordering::SeqCst) {
        server.deliver(&event(next, "a name"));
        next += 1;
    }
    next
}
