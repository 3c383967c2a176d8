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
use crate::faults::damage::{contents, flip};
use crate::kit::scale::scale;
use crate::kit::server::{API_KEY, Server, binary};

/// The records, with bodies of a megabyte: a backup has four segments, and a restore acknowledges
/// what it has written after each third record.
const RECORDS: u64 = 16;

/// Only a hang takes so long.
const WITHIN: Duration = Duration::from_secs(60);

/// The runs that may end before they are killed.
const RUNS_MAX: usize = 20;

struct Log {
    around: tempfile::TempDir,
    server: Server,
    /// Of another log.
    other: Server,
    root: String,
}

impl Log {
    fn new() -> Log {
        let around = tempfile::tempdir().unwrap();
        let server = Server::start(&around.path().join("data"));
        for n in 0..RECORDS {
            server.deliver(&event(n, &"x".repeat(500_000)));
        }
        let other = Server::start(&around.path().join("other-data"));
        deliver(&other, 0..5);
        let root = root(&server, RECORDS);
        Log { around, server, other, root }
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
            command.args(arguments).env("ROLLCALL_URL", &self.server.url);
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
        assert!((1..=RECORDS).contains(&kept), "{kept}");
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

fn size(file: &Path) -> usize {
    fs::metadata(file).unwrap().len() as usize
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
    flip(&damaged, size(&damaged) / 2);
    let (last, inodes_before) = (last_of(kept.last().unwrap()), inodes(&kept));
    let (code, copied, told) = said(&backup(&log.server, text(&copy), true));
    let expected = json!({ "seq": RECORDS, "root": log.root, "kept": last });
    assert_eq!((code, &copied), (0, &expected), "{told}");
    assert!(!unfinished.exists());
    let inodes_after = inodes(&segments(&copy));
    for (name, inode) in inodes_before {
        assert_eq!(inodes_after[&name], inode, "{name} is the same file");
    }
    // It is the backup that a single run makes.
    let (code, _, told) = said(&backup(&log.server, text(&log.path("at-once")), true));
    assert_eq!(code, 0, "{told}");
    assert_eq!(contents(&copy), contents(&log.path("at-once")));
    let whole = json!({ "seq": RECORDS, "root": log.root });
    assert_eq!(restore(text(&copy), &log.path("new")).1, whole);
}

#[test]
fn a_restore_that_is_killed_is_gone_on_with_behind_the_records_that_are_there() {
    let log = Log::new();
    let [copy, other, new] = ["copy", "other", "new"].map(|name| log.path(name));
    for (server, out) in [(&log.server, &copy), (&log.other, &other)] {
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
fn a_salvage_goes_on_with_the_whole_segments_that_a_kill_left() {
    let around = tempfile::tempdir().unwrap();
    let [data, once, again, unfinished] =
        ["data", "once", "again", "again.unfinished"].map(|name| around.path().join(name));
    let server = Server::start(&data);
    deliver(&server, 0..5);
    assert_eq!(server.stop(), 0);
    let salvaged =
        |out: &Path| said(&run(&["salvage", "--json", "--data", text(&data), "--out", text(out)]));
    let (code, mut expected, told) = salvaged(&once);
    assert_eq!((code, &expected["recovered"]), (0, &json!(5)), "{told}");
    // As a kill leaves it, with a segment of other bounds, and files that are not whole.
    let segment = segments(&once).pop().unwrap();
    fs::create_dir(&unfinished).unwrap();
    fs::copy(&segment, unfinished.join(segment.file_name().unwrap())).unwrap();
    let inode = inodes(&segments(&unfinished));
    fs::copy(&segment, unfinished.join("00000000000000000001-00000000000000000002.ndjson.zst"))
        .unwrap();
    fs::write(unfinished.join("salvage.json"), "{").unwrap();
    fs::write(unfinished.join(".unfinished-x"), "x").unwrap();
    let (code, printed, told) = salvaged(&again);
    expected["kept"] = json!(5);
    assert_eq!((code, &printed), (0, &expected), "{told}");
    assert_eq!(contents(&again), contents(&once));
    assert_eq!(inodes(&segments(&again)), inode, "it is the same file");
    // A damaged one is written anew.
    fs::rename(&again, &unfinished).unwrap();
    let path = unfinished.join(segment.file_name().unwrap());
    flip(&path, size(&path) - 1);
    let (code, printed, told) = salvaged(&again);
    expected.as_object_mut().unwrap().remove("kept");
    assert_eq!((code, &printed), (0, &expected), "{told}");
    assert_eq!(contents(&again), contents(&once));
}
