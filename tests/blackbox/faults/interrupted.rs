//! Backups and restores that are killed: another run of the same command goes on.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::faults::archives::{deliver, event, restore, root, run, said, text};
use crate::faults::backups::backup;
use crate::faults::damage::contents;
use crate::kit::scale::scale;
use crate::kit::server::{API_KEY, Server, binary};

/// The records, each too large for a segment of a backup with two others. A restore acknowledges
/// what it has written after each fifth.
const RECORDS: u64 = 30;

/// Only a hang takes so long.
const WITHIN: Duration = Duration::from_secs(60);

/// The runs that may end before they are killed.
const RUNS_MAX: usize = 20;

struct Log {
    around: tempfile::TempDir,
    url: String,
    server: Option<Server>,
    /// Of another log.
    other: Server,
    root: String,
}

impl Log {
    fn new() -> Log {
        let around = tempfile::tempdir().unwrap();
        let server = Server::start(&around.path().join("data"));
        for n in 0..RECORDS {
            server.deliver(&event(n, &"x".repeat(2_000_000)));
        }
        let other = Server::start(&around.path().join("other-data"));
        deliver(&other, 0..5);
        let root = root(&server, RECORDS);
        Log { around, url: server.url.clone(), server: Some(server), other, root }
    }

    fn server(&self) -> &Server {
        self.server.as_ref().unwrap()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.around.path().join(name)
    }

    /// Runs a command that makes `made`, and kills it once `is_begun` says so of the folder that it
    /// fills. A run that ended before is repeated.
    fn kill(&self, arguments: &[&str], made: &str, is_begun: impl Fn(&Path) -> bool) -> PathBuf {
        let (made, unfinished) = (self.path(made), self.path(&format!("{made}.unfinished")));
        for _ in 0..RUNS_MAX {
            let mut command = Command::new(binary());
            command.args(arguments).env("ROLLCALL_URL", &self.url);
            command.env("ROLLCALL_API_KEY", API_KEY).stdout(Stdio::null()).stderr(Stdio::null());
            let (mut child, begun) = (command.spawn().unwrap(), Instant::now());
            while !is_begun(&unfinished) && child.try_wait().unwrap().is_none() {
                assert!(begun.elapsed() < WITHIN, "{arguments:?} does not get on");
                std::thread::yield_now();
            }
            child.kill().unwrap();
            child.wait().unwrap();
            if !made.exists() {
                return unfinished;
            }
            fs::remove_dir_all(&made).unwrap();
        }
        panic!("{arguments:?} always ends before it is killed");
    }

    /// Kills a restore from `copy`, and goes on with it, but not with the records of `other`.
    fn kill_restore(&self, copy: &Path, other: &Path, new: &Path, round: u64) {
        let killed = ["restore", "--from", text(copy), "--data", text(new)];
        let unfinished = self.kill(&killed, "new", |folder| {
            // An acknowledgement is there, or both of them.
            let file = fs::read(folder.join("checkpoint")).unwrap_or_default();
            let slots = file.chunks(4096).filter(|slot| slot.iter().any(|byte| *byte != 0));
            slots.count() as u64 > round % 2
        });
        // The archive of another log is refused.
        let (code, _, told) = restore(text(other), new);
        assert!(code == 1 && told.contains(text(&unfinished)), "{code} {told}");
        assert!(unfinished.exists() && !new.exists());
        let (code, restored, told) = restore(text(copy), new);
        let kept = restored["kept"].as_u64().unwrap_or_default();
        let expected = json!({ "seq": RECORDS, "root": self.root, "kept": kept });
        assert_eq!((code, &restored), (0, &expected), "{told}");
        assert!((4..=RECORDS).contains(&kept), "{kept}");
        assert!(!unfinished.exists());
        let verified = run(&["verify", "--json", "--data", text(new)]);
        let found: Value = serde_json::from_slice(&verified.stdout).unwrap();
        assert_eq!(
            (verified.status.code(), &found["tree"]["root"]),
            (Some(0), &json!(self.root)),
            "{found}"
        );
    }
}

fn segments(folder: &Path) -> Vec<PathBuf> {
    let listed = fs::read_dir(folder).into_iter().flatten();
    let mut paths: Vec<PathBuf> = listed.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| text(path).ends_with(".ndjson.zst"));
    paths.sort();
    paths
}

/// The last record of a segment, by its name.
fn last_of(segment: &Path) -> u64 {
    segment.file_name().unwrap().to_str().unwrap()[21..41].parse().unwrap()
}

fn inodes(segments: &[PathBuf]) -> BTreeMap<String, u64> {
    let inode = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        (name, fs::metadata(path).unwrap().ino())
    };
    segments.iter().map(inode).collect()
}

#[test]
fn a_backup_that_is_killed_is_gone_on_with_and_keeps_the_segments_that_are_whole() {
    let log = Log::new();
    let copy = log.path("copy");
    let unfinished =
        log.kill(&["backup", "--out", text(&copy)], "copy", |folder| segments(folder).len() >= 3);
    // The log of another server does not begin so.
    let before = contents(&unfinished);
    let (code, _, told) = said(&backup(&log.other, text(&copy), true));
    assert!(code == 1 && told.contains(text(&unfinished)), "{code} {told}");
    assert!(contents(&unfinished) == before && !copy.exists(), "it is left as it was");
    // The last one is damaged since.
    let mut kept = segments(&unfinished);
    let damaged = kept.pop().unwrap();
    let mut bytes = fs::read(&damaged).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&damaged, bytes).unwrap();
    let (last, inodes_before) = (last_of(kept.last().unwrap()), inodes(&kept));
    let (code, copied, told) = said(&backup(log.server(), text(&copy), true));
    let expected = json!({ "seq": RECORDS, "root": log.root, "kept": last });
    assert_eq!((code, &copied), (0, &expected), "{told}");
    assert!(!unfinished.exists());
    let inodes_after = inodes(&segments(&copy));
    for (name, inode) in inodes_before {
        assert_eq!(inodes_after[&name], inode, "{name} is the same file");
    }
    // It is the backup that a single run makes.
    let (code, _, told) = said(&backup(log.server(), text(&log.path("at-once")), true));
    assert_eq!(code, 0, "{told}");
    assert_eq!(contents(&copy), contents(&log.path("at-once")));
    let whole = json!({ "seq": RECORDS, "root": log.root });
    assert_eq!(restore(text(&copy), &log.path("new")).1, whole);
}

#[test]
fn a_restore_that_is_killed_is_gone_on_with_behind_the_records_that_are_there() {
    let log = Log::new();
    let [copy, other, new] = ["copy", "other", "new"].map(|name| log.path(name));
    for (server, out) in [(log.server(), &copy), (&log.other, &other)] {
        let (code, _, told) = said(&backup(server, text(out), true));
        assert_eq!(code, 0, "{told}");
    }
    for round in 0..scale() {
        log.kill_restore(&copy, &other, &new, round);
        fs::remove_dir_all(&new).unwrap();
    }
    // What no run can go on with is removed, and that is said.
    let unfinished = log.path("new.unfinished");
    fs::create_dir_all(unfinished.join("store")).unwrap();
    fs::write(unfinished.join("store/db"), [7; 5000]).unwrap();
    let (code, restored, told) = restore(text(&copy), &new);
    let whole = json!({ "seq": RECORDS, "root": log.root });
    assert_eq!((code, &restored), (0, &whole), "{told}");
    assert!(told.contains(text(&unfinished)) && told.contains("was removed"), "{told}");
}

#[test]
fn a_salvage_that_is_killed_keeps_the_segments_that_are_whole() {
    let mut log = Log::new();
    assert_eq!(log.server.take().unwrap().stop(), 0);
    let [data, taken, again] = ["data", "taken", "again"].map(|name| log.path(name));
    let killed = ["salvage", "--data", text(&data), "--out", text(&taken)];
    let unfinished = log.kill(&killed, "taken", |folder| segments(folder).len() >= 2);
    let kept = segments(&unfinished);
    let (records, inodes_before) = (last_of(kept.last().unwrap()), inodes(&kept));
    // One of another run, with other bounds.
    let odd = "00000000000000000001-00000000000000000002.ndjson.zst";
    fs::copy(&kept[0], unfinished.join(odd)).unwrap();
    let salvaged =
        |out: &Path| said(&run(&["salvage", "--json", "--data", text(&data), "--out", text(out)]));
    let (code, mut printed, told) = salvaged(&taken);
    assert_eq!((code, &printed["kept"]), (0, &json!(records)), "{told}");
    let inodes_after = inodes(&segments(&taken));
    for (name, inode) in inodes_before {
        assert_eq!(inodes_after[&name], inode, "{name} is the same file");
    }
    printed.as_object_mut().unwrap().remove("kept");
    let (code, at_once, told) = salvaged(&again);
    assert_eq!((code, &at_once), (0, &printed), "{told}");
    assert_eq!(contents(&taken), contents(&again));
    assert_eq!((&at_once["recovered"], &at_once["root"]), (&json!(RECORDS), &json!(log.root)));
}
