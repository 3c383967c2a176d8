//! Starts that are refused, whatever the reason: nothing in the data folder is changed.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::faults::archives::{deliver, start_and_listen, text};
use crate::faults::damage::{contents, flip, refused_command, refused_start};
use crate::faults::kills::copy;
use crate::kit::machine::TestMachine;
use crate::kit::scale::check_each;
use crate::kit::server::Server;

/// A log of three records, what its archive and an auditor hold of the log later, and another log.
struct Stage {
    around: tempfile::TempDir,
}

impl Stage {
    fn new() -> Stage {
        let stage = Stage { around: tempfile::tempdir().unwrap() };
        let [data, older, other, archive, published] =
            ["data", "older", "other", "archive", "published"].map(|name| stage.path(name));
        fs::create_dir(&archive).unwrap();
        fs::create_dir(&published).unwrap();
        let server = Server::start(&data);
        deliver(&server, 0..3);
        assert_eq!(server.stop(), 0);
        copy(&data, &older);
        copy(&data, &other);
        let options = ["--archive", text(&archive), "--publish-checkpoints", text(&published)];
        let server = Server::start_with(&data, &options);
        deliver(&server, 3..6);
        assert_eq!(server.stop(), 0);
        // It goes on from the older copy, with other records.
        let server = Server::start(&other);
        deliver(&server, 10..16);
        assert_eq!(server.stop(), 0);
        let server = Server::start(&stage.path("another-log"));
        deliver(&server, 0..1);
        assert_eq!(server.stop(), 0);
        fs::create_dir(stage.path("broken-archive")).unwrap();
        copy(&archive, &stage.path("broken-archive"));
        empty_newest_segments(&stage.path("broken-archive"));
        fs::write(stage.path("not-a-key"), "x").unwrap();
        stage
    }

    fn path(&self, name: &str) -> PathBuf {
        self.around.path().join(name)
    }
}

/// Empties each segment with a record that the older copy lacks.
fn empty_newest_segments(archive: &Path) {
    let part = fs::read_dir(archive).unwrap().next().unwrap().unwrap().path();
    for entry in fs::read_dir(part).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let last = name.get(21..41).and_then(|last| last.parse::<u64>().ok());
        if last.is_some_and(|last| last > 3) {
            fs::write(&path, "").unwrap();
        }
    }
}

/// A reason to refuse a start over a copy of a folder.
struct Refusal {
    of: &'static str,
    /// Changes the copy.
    change: fn(&Stage, &Path),
    /// The options; `@name` is a file or folder of the stage.
    options: &'static [&'static str],
    code: i32,
    says: &'static str,
}

const LIKE_IT_IS: fn(&Stage, &Path) = |_, _| {};

const REFUSALS: [Refusal; 21] = [
    Refusal {
        of: "data",
        change: |_, data| {
            let file = fs::File::options().write(true).open(data.join("store/db")).unwrap();
            file.set_len(900).unwrap();
        },
        options: &[],
        code: 2,
        says: "`rollcall salvage",
    },
    Refusal {
        of: "data",
        change: |_, data| fs::remove_dir_all(data.join("store")).unwrap(),
        options: &[],
        code: 2,
        says: "its store is missing",
    },
    Refusal {
        of: "data",
        change: |stage, data| {
            fs::copy(stage.path("another-log/checkpoint"), data.join("checkpoint")).unwrap();
        },
        options: &[],
        code: 2,
        says: "is of another log",
    },
    Refusal {
        of: "data",
        change: |_, data| {
            fs::remove_file(data.join("checkpoint")).unwrap();
            flip(&data.join("tree/0"), 40);
        },
        options: &[],
        code: 2,
        says: "remove its folder `tree`",
    },
    Refusal {
        of: "data",
        change: |_, data| {
            fs::remove_file(data.join("lock")).unwrap();
            fs::create_dir(data.join("lock")).unwrap();
        },
        options: &[],
        code: 2,
        says: "put back what was there",
    },
    Refusal {
        of: "older",
        change: LIKE_IT_IS,
        options: &["--archive", "@archive"],
        code: 2,
        says: "holds 6 records of this log",
    },
    Refusal {
        of: "older",
        change: LIKE_IT_IS,
        options: &["--archive", "@broken-archive"],
        code: 2,
        says: "by its name it held records of this log up to 6",
    },
    Refusal {
        of: "other",
        change: LIKE_IT_IS,
        options: &["--archive", "@archive"],
        code: 2,
        says: "another record",
    },
    Refusal {
        of: "older",
        change: LIKE_IT_IS,
        options: &["--publish-checkpoints", "@published"],
        code: 2,
        says: "is not of this log's history",
    },
    Refusal {
        of: "other",
        change: LIKE_IT_IS,
        options: &["--publish-checkpoints", "@published"],
        code: 2,
        says: "is not of this log's history",
    },
    Refusal {
        of: "data",
        change: |_, data| fs::remove_file(data.join("checkpoint-key")).unwrap(),
        options: &[],
        code: 1,
        says: "is missing, and this log's checkpoints are signed by",
    },
    Refusal {
        of: "data",
        change: LIKE_IT_IS,
        options: &["--checkpoint-key", "@another-log/checkpoint-key"],
        code: 1,
        says: "put the right file back, or, if it is lost",
    },
    Refusal {
        of: "data",
        change: |_, data| fs::write(data.join("checkpoint-key"), "x").unwrap(),
        options: &[],
        code: 2,
        says: "is not an Ed25519 key",
    },
    Refusal {
        of: "data",
        change: |_, data| {
            fs::remove_file(data.join("checkpoint-key")).unwrap();
            fs::write(data.join("checkpoint-key.pub"), "x").unwrap();
        },
        options: &[],
        code: 2,
        says: "is not a public key of this log",
    },
    Refusal {
        of: "data",
        change: |stage, data| {
            let public = "checkpoint-key.pub";
            fs::copy(stage.path("another-log").join(public), data.join(public)).unwrap();
        },
        options: &[],
        code: 2,
        says: "remove this file: the next start writes it anew",
    },
    Refusal {
        of: "data",
        change: |_, data| fs::write(data.join("checkpoint-key.handovers"), "x").unwrap(),
        options: &[],
        code: 2,
        says: "cannot be used",
    },
    Refusal {
        of: "data",
        change: LIKE_IT_IS,
        options: &["--tolerance", "soon"],
        code: 1,
        says: "tolerance",
    },
    Refusal {
        of: "data",
        change: LIKE_IT_IS,
        options: &["--publish-checkpoints", "@nowhere"],
        code: 1,
        says: "is not a folder",
    },
    // These are about a folder that is not there yet.
    Refusal {
        of: "nowhere",
        change: LIKE_IT_IS,
        options: &["--publish-checkpoints", "@published"],
        code: 2,
        says: "has no log yet, and the checkpoint",
    },
    Refusal {
        of: "nowhere",
        change: LIKE_IT_IS,
        options: &["--checkpoint-key", "@not-a-key"],
        code: 2,
        says: "is not an Ed25519 key",
    },
    Refusal {
        of: "nowhere",
        change: LIKE_IT_IS,
        options: &["--checkpoint-key", "@nowhere-else/key"],
        code: 2,
        says: "cannot be used",
    },
];

impl Refusal {
    fn check(&self, stage: &Stage) {
        let around = tempfile::tempdir().unwrap();
        let data = around.path().join("data");
        let of = stage.path(self.of);
        if of.exists() {
            copy(&of, &data);
            // A start that goes on takes these permissions away.
            fs::set_permissions(&data, fs::Permissions::from_mode(0o755)).unwrap();
        }
        (self.change)(stage, &data);
        let option = |option: &&str| match option.strip_prefix('@') {
            Some(name) => text(&stage.path(name)).to_owned(),
            None => (*option).to_owned(),
        };
        let options: Vec<String> = self.options.iter().map(option).collect();
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        let before = contents(around.path());
        let case = format!("{} {options:?} {}", self.of, self.says);
        let (code, said) = refused_start(&data, &options).unwrap_or_else(|| panic!("{case}"));
        assert!(code == self.code && said.contains(self.says), "{case}: {code} {said}");
        assert!(contents(around.path()) == before, "{case}: {said}");
        if of.exists() {
            let mode = fs::metadata(&data).unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, 0o755, "{case}");
        }
    }
}

#[test]
fn a_refused_start_changes_no_byte_and_no_name_whatever_the_reason() {
    let stage = Stage::new();
    check_each(0..REFUSALS.len() as u64, 2, |number| REFUSALS[number as usize].check(&stage));
    let data = stage.path("data");
    let before = contents(&data);
    // Another process has the folder, or the address.
    let lock = fs::File::open(data.join("lock")).unwrap();
    lock.lock().unwrap();
    let (code, said) = refused_start(&data, &[]).unwrap();
    assert!(code == 1 && said.contains("is in use by another process"), "{code} {said}");
    drop(lock);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (code, said) = refused_start(&data, &["--listen", &address]).unwrap();
    assert!(code == 1 && said.contains("cannot listen on"), "{code} {said}");
    // The clock is far ahead.
    if let Some(machine) = TestMachine::new() {
        machine.set_clock_ahead_by(400 * 86_400_000);
        let (code, said) = refused_command(machine.command(), &data, &[]).unwrap();
        assert!(code == 1 && said.contains("more than 366 days"), "{code} {said}");
    }
    assert!(contents(&data) == before);
}

#[test]
fn a_start_warns_once_of_a_key_that_others_may_read_and_not_of_an_option_that_was_not_given() {
    let stage = Stage::new();
    let key = stage.path("key");
    fs::copy(stage.path("older/checkpoint-key"), &key).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let start = |options: &[&str]| start_and_listen(&stage.path("older"), options);
    let said = start(&["--checkpoint-key", text(&key)]).stop_and_say();
    assert_eq!(said.matches("others may read the checkpoint key").count(), 1, "{said}");
    // The log becomes another one, with a new key in the place of the one before.
    let archive = stage.path("archive");
    let options = ["--checkpoint-key", text(&key), "--archive", text(&archive), "--accept-fork"];
    let said = start(&options).stop_and_say();
    assert!(said.contains("it goes on as another log"), "{said}");
    assert!(!said.contains("--replace-checkpoint-key"), "{said}");
    let names = fs::read_dir(stage.around.path()).unwrap();
    let mut names = names.map(|name| name.unwrap().file_name().into_string().unwrap());
    assert!(names.any(|name| name.starts_with("key.forked-")), "the key before is kept");
}
